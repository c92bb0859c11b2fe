# SPDX-License-Identifier: Apache-2.0
r"""A spin Hamiltonian as the files of other programs want it.

They count cells from the place where a site is within the cell, have a cell always,
know no part that is not determined, and many know anisotropy by axes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from deepspin.analysis.hamiltonian import Pairs, Sites, SpinHamiltonian
from deepspin.atoms import units
from deepspin.utils.refused import InputError

JOULE = 1.602176634e-19
"""One eV in J (SI)."""

MEV = 1e3
"""One eV in meV."""

MRY = 1e3 / 13.605693122994
"""One eV in mRy (CODATA 2018)."""

# of the strongest coupling, below which a part of the Hamiltonian is 0
NOTHING = 1e-12
# of a cell, within which a site at its end is at its beginning
SAME_PLACE = 1e-9
# in Å, around what has no cell
VACUUM = 10.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is written for a program.

    Parameters
    ----------
    title : str
        Its name as it writes it.
    sentence : str
        What is written, in one line.
    files : tuple of str
        Names of all files.
    convention : tuple of str
        Lines that say what the numbers mean: the energy, how often pairs count, signs,
        units, and whether vectors are of unit length.
    write : callable
        From a prepared Hamiltonian and the lines of a heading to the text of each file.
    limits : callable
        Sentences that name what the program cannot have of a Hamiltonian.
    """

    title: str
    sentence: str
    files: tuple[str, ...]
    convention: tuple[str, ...]
    write: Callable[[SpinHamiltonian, list[str]], dict[str, str]]
    limits: Callable[[SpinHamiltonian], list[str]]


def has_all(hamiltonian: SpinHamiltonian) -> list[str]:
    """Limits of a program that has none."""
    return []


def prepared(hamiltonian: SpinHamiltonian) -> SpinHamiltonian:
    """Bring sites into the cell and pairs into order, both directions the same.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As it comes.

    Returns
    -------
    SpinHamiltonian
        The same energies. Sites are within a cell, in the order they had; directions
        that are not periodic have a cell that holds all sites. Pairs go from near to
        far.

    Raises
    ------
    InputError
        A part is not determined, there are no pairs, or a site has no moment.
    ValueError
        A pair is given in one direction only.
    """
    _check(hamiltonian)
    pairs = hamiltonian.pairs
    back = pairs.reverse()
    tensor = (hamiltonian.tensor + hamiltonian.tensor[back].transpose(0, 2, 1)) / 2
    sites, fold = _in_cell(hamiltonian.sites)
    pairs = replace(pairs, shift=pairs.shift + fold[pairs.second] - fold[pairs.first])
    length = np.linalg.norm(pairs.vectors(sites), axis=1).round(6)
    order = np.lexsort((*pairs.shift.T[::-1], pairs.second, pairs.first, length))
    anisotropy = hamiltonian.anisotropy
    return SpinHamiltonian(
        sites=sites,
        pairs=pairs.take(order),
        tensor=tensor[order],
        anisotropy=(anisotropy + anisotropy.transpose(0, 2, 1)) / 2,
    )


def _check(hamiltonian: SpinHamiltonian) -> None:
    """Refuse what no file can say."""
    unknown = ~np.isfinite(hamiltonian.tensor).all(axis=(1, 2))
    sites = ~np.isfinite(hamiltonian.anisotropy).all(axis=(1, 2))
    if unknown.any() or sites.any():
        raise InputError(
            f"Parts of the couplings of {unknown.sum()} of {len(unknown)} pairs and of "
            f"the anisotropy of {sites.sum()} of {len(sites)} sites are not determined "
            "(NaN), and files for other programs cannot say so. Take three "
            "orientations, or a model without spin-orbit coupling."
        )
    if not len(unknown):
        raise InputError(
            "The spin Hamiltonian has no couplings, so there is nothing to write for "
            "other programs."
        )
    moment = hamiltonian.sites.moment
    if moment.min() <= 0:
        raise InputError(
            f"Site {moment.argmin()} has a moment of {moment.min():.3g} μ_B. Files for "
            "other programs need a moment above 0: leave such sites out."
        )


def _in_cell(sites: Sites) -> tuple[Sites, np.ndarray]:
    """Sites within their cell, and the cells (n, 3) by which they were outside."""
    box = np.eye(3) if sites.box is None else sites.box.copy()
    place = sites.coord @ np.linalg.inv(box)
    fold = np.where(sites.pbc, np.floor(place + SAME_PLACE), 0).astype(int)
    place = place - fold
    for k in np.flatnonzero(~np.asarray(sites.pbc)):
        place[:, k] -= place[:, k].min()
        end = place[:, k].max()
        if sites.box is None or end >= 1 - SAME_PLACE:
            size = end + VACUUM / np.linalg.norm(box[k])
            box[k] *= size
            place[:, k] /= size
    place[np.abs(place) < SAME_PLACE] = 0
    return replace(sites, box=box, coord=place @ box), fold


# --- What the formats ask of it -------------------------------------------------------


def cell(sites: Sites) -> np.ndarray:
    """Lattice vectors of prepared sites in Å, shape (3, 3)."""
    if sites.box is None:
        raise ValueError("Sites have no cell: prepare the Hamiltonian first.")
    return sites.box


def fractional(sites: Sites) -> np.ndarray:
    """Positions of prepared sites in lattice vectors, 0 to 1, shape (n, 3)."""
    place = sites.coord @ np.linalg.inv(cell(sites))
    return np.where(np.abs(place) < SAME_PLACE, 0.0, place)


def labels(sites: Sites) -> list[str]:
    """A name for each site: its type and its number, from 1."""
    return [
        f"{name}{'_' if name[-1].isdigit() else ''}{k}"
        for k, name in enumerate(sites.names, start=1)
    ]


def element(name: str) -> str:
    """Element of a type: the longest symbol that it begins with, else X."""
    return next((s for s in (name[:2], name[:1]) if s in units.MASSES), "X")


def one_way(pairs: Pairs) -> np.ndarray:
    """Which pairs to take so that each counts once, in the order of the pairs."""
    ahead = [tuple(shift) > (0, 0, 0) for shift in pairs.shift.tolist()]
    same = pairs.first == pairs.second
    return np.flatnonzero((pairs.first < pairs.second) | (same & np.array(ahead)))


def cells(hamiltonian: SpinHamiltonian) -> np.ndarray:
    """Cells along each vector, (3,), in which no two couplings join the same sites."""
    reach = np.abs(hamiltonian.pairs.shift).max(axis=0)
    return np.where(hamiltonian.sites.pbc, 2 * reach + 1, 1)


def strongest(hamiltonian: SpinHamiltonian) -> float:
    """Largest number of the Hamiltonian by modulus, in eV."""
    parts = hamiltonian.tensor, hamiltonian.anisotropy
    return max(float(np.abs(part).max(initial=0.0)) for part in parts)


def matters(hamiltonian: SpinHamiltonian, part: np.ndarray) -> bool:
    """Whether a part of the Hamiltonian, in eV, is more than rounding."""
    largest = float(np.abs(part).max(initial=0.0))
    return largest > NOTHING * strongest(hamiltonian)


def axes(anisotropy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write anisotropy by axes, as few as do.

    Parameters
    ----------
    anisotropy : np.ndarray, shape (n, 3, 3)
        Symmetric matrices A_i in eV.

    Returns
    -------
    strength : np.ndarray, shape (n, 2)
        K in eV, the stronger first; the second is 0 for uniaxial sites.
    axis : np.ndarray, shape (n, 2, 3)
        Unit vectors u.
    constant : np.ndarray, shape (n,)
        c in eV: A = c 1 + K_1 u_1 u_1^T + K_2 u_2 u_2^T.
    """
    value, vector = np.linalg.eigh(anisotropy)
    constant = value[:, 1]  # the middle one
    strength = value[:, [0, 2]] - constant[:, None]
    axis = _upwards(vector.transpose(0, 2, 1)[:, [0, 2]])
    rounding = NOTHING * np.abs(value).max(axis=1, keepdims=True, initial=0.0)
    strength = np.where(np.abs(strength) > rounding, strength, 0.0)
    order = np.argsort(-np.abs(strength), axis=1, kind="stable")
    each = np.arange(len(order))[:, None]
    return strength[each, order], axis[each, order], constant


def _upwards(axis: np.ndarray) -> np.ndarray:
    """Of the two vectors along an axis, the one whose largest number is positive."""
    largest = np.abs(axis).argmax(axis=-1)[..., None]
    return axis * np.sign(np.take_along_axis(axis, largest, axis=-1))


def constant_line(constant: np.ndarray) -> list[str]:
    """What to say of energies that do not depend on the spins."""
    total = constant.sum()
    if not total:
        return []
    return [f"Left out, as no spin feels it: {total:.16e} eV per cell."]


def comments(mark: str, lines: list[str]) -> str:
    """Lines behind the mark of a comment."""
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in lines)


def numbers(values: np.ndarray, sep: str = " ") -> str:
    """Numbers in one row that are read back exactly."""
    return sep.join(f"{x:.16e}" for x in np.ravel(values).tolist())


def integers(*values: int) -> str:
    """Integers in one row."""
    return " ".join(str(int(v)) for v in values)
