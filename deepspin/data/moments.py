# SPDX-License-Identifier: Apache-2.0
"""Spins of ASE's atoms: the arrays that may hold them, and their form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

INITIAL = "initial_magmoms"
"""ASE's array of initial magnetic moments."""

ARRAYS = (INITIAL, "spin", "spins")
"""Arrays of atoms that may hold spins for a calculator; all that are there agree."""

RESULTS = ("spin", "spins", "magmoms", "magnetic_moments")
"""Names of moments that a calculation ended with, in files; they must agree. Without
any, `INITIAL` counts, from which it began."""


@dataclass(frozen=True)
class Moments:
    """Magnetic moments of atoms.

    Parameters
    ----------
    name : str
        Array they come from.
    vectors : np.ndarray, shape (N, 3)
        Moments in μ_B.
    along_z : bool
        Whether the array holds N numbers, which stand for moments along z.
    """

    name: str
    vectors: np.ndarray
    along_z: bool


def read_moments(atoms: Atoms, names: Sequence[str] = ARRAYS) -> Moments | None:
    """Read the moments of some atoms, or None if no array holds any.

    Parameters
    ----------
    atoms : Atoms
        N atoms.
    names : sequence of str
        Arrays to look at. If there are several, they must agree.

    Raises
    ------
    ValueError
        Two arrays differ, or one is neither N numbers nor N x 3.
    """
    found = {name: atoms.arrays[name] for name in names if name in atoms.arrays}
    if not found:
        return None
    (name, values), *others = found.items()
    for other, its in others:
        if not np.array_equal(its, values):
            raise ValueError(
                f"two kinds of spins, which differ: {name} and {other}. Remove one."
            )
    vectors = as_vectors(values, len(atoms), name)
    return Moments(name, vectors, is_along_z(values, len(atoms)))


def as_vectors(values: np.ndarray, natoms: int, name: str) -> np.ndarray:
    """Moments (N, 3) of N atoms from N x 3 numbers, or from N along z.

    Parameters
    ----------
    values : np.ndarray
        N x 3, the same in one row as data bases keep it, N, or N x 1.
    natoms : int
        N.
    name : str
        What messages call them.

    Raises
    ------
    ValueError
        They are none of these.
    """
    values = np.asarray(values)
    if is_along_z(values, natoms):
        values = values.reshape(natoms, 1) * np.array([0.0, 0.0, 1.0])
    elif values.shape not in ((natoms, 3), (3 * natoms,)):
        raise ValueError(
            f"{name} must be N or N x 3 numbers for N = {natoms} atoms. Received: "
            f"shape {values.shape}"
        )
    return values.reshape(natoms, 3).astype(float)


def is_along_z(values: np.ndarray, natoms: int) -> bool:
    """Whether moments are N numbers, which stand for moments along z."""
    return np.shape(values) in ((natoms,), (natoms, 1))
