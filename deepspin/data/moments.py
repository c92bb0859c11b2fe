# SPDX-License-Identifier: Apache-2.0
"""Spins of ASE's atoms: the arrays that may hold them, and their form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

INITIAL = "initial_magmoms"
"""ASE's array of initial magnetic moments."""

ARRAYS = (INITIAL, "spin", "spins")
"""Arrays of atoms that may hold spins for a calculator."""

RESULT = "magmoms"
"""ASE's name of the moments that a calculation ended with. They count before `INITIAL`,
from which it began, and which differ without fault."""

NAMES = ("spin", "spins", "magnetic_moments", RESULT, INITIAL)
"""Usual names of spins in files; all that are there must agree."""


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
    """Read the moments of some atoms from their arrays, see `find_moments`."""
    return find_moments((atoms.arrays,), len(atoms), names)


def find_moments(
    held: Iterable[Mapping[str, Any]],
    natoms: int,
    names: Sequence[str] = NAMES,
    advice: str = "Remove one",
) -> Moments | None:
    """Find the moments of some atoms, or None if nothing holds any.

    Parameters
    ----------
    held : iterable of mapping
        What there is, by name.
    natoms : int
        Number of atoms.
    names : sequence of str
        Names to look for. If there are several, they must agree.
    advice : str
        What to do if they do not.

    Raises
    ------
    ValueError
        Two differ, or one has another shape than `as_vectors` takes.
    """
    found = [
        (name, np.asarray(each[name]))
        for name in names
        for each in held
        if each.get(name) is not None
    ]
    if any(name == RESULT for name, _ in found):
        found = [pair for pair in found if pair[0] != INITIAL]
    if not found:
        return None
    (name, values), *others = found
    vectors = as_vectors(values, natoms, name)
    for other, its in others:
        if not np.array_equal(as_vectors(its, natoms, other), vectors):
            raise ValueError(
                f"two kinds of spins, which differ: {name} and {other}. {advice}."
            )
    return Moments(name, vectors, is_along_z(values, natoms))


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
            f"{values.shape}"
        )
    return values.reshape(natoms, 3).astype(float)


def is_along_z(values: np.ndarray, natoms: int) -> bool:
    """Whether moments are N numbers, which stand for moments along z."""
    return np.shape(values) in ((natoms,), (natoms, 1))
