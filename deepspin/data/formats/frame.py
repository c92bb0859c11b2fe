# SPDX-License-Identifier: Apache-2.0
"""What every reader of a format gives: frames, and those that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One frame of a file, in the units and signs of `deepspin.keys`.

    Parameters
    ----------
    place : str
        What messages call it, such as ``frame 3 of 'md.extxyz'``.
    symbols : sequence of str, length nloc
        Names of the atoms' types, such as those of elements.
    coord : np.ndarray, shape (nloc, 3)
        Positions in Å.
    cell : np.ndarray, shape (3, 3), or None
        Rows are lattice vectors in Å; None if not periodic.
    arrays : dict of str to np.ndarray
        What there is of spin (nloc, 3), energy (), force (nloc, 3), force_mag
        (nloc, 3), virial (3, 3), atom_ener (nloc,) and fparam.
    """

    place: str
    symbols: tuple[str, ...]
    coord: np.ndarray
    cell: np.ndarray | None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """A frame that must not be learnt from.

    Parameters
    ----------
    place : str
        What messages call it.
    reason : str
        Why, in words that are the same for all frames of a kind, which are counted:
        ``its electrons have not converged``.
    """

    place: str
    reason: str
