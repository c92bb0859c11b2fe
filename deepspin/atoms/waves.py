# SPDX-License-Identifier: Apache-2.0
"""Repeated cells, and waves of spins that fit into them.

Wave vectors are given in the reciprocal vectors of the cell that is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepspin.atoms.structures import Structure
from deepspin.utils.refused import InputError, bad

# overlap above which a wave is that of given signs; a square wave has 0.64 with its own
ALIKE = 0.5
# search for waves up to so many reciprocal vectors of the cell that is repeated
ZONES = 2
# a site belongs to a sublattice if |cos| of its phase is at least this
CLEAR = 0.1
# spins are collinear if at least this part of their squares lies along one axis
COLLINEAR = 0.9


def repeated(cell: Structure, repeat: Sequence[int]) -> tuple[Structure, np.ndarray]:
    """Repeat a cell along its lattice vectors.

    Parameters
    ----------
    cell : Structure
        The cell.
    repeat : sequence of 3 int
        Copies along each lattice vector.

    Returns
    -------
    structure : Structure
        All copies.
    origin : np.ndarray of int, shape (nloc,)
        Atom of the cell that each atom is a copy of.

    Raises
    ------
    InputError
        The cell is not periodic where it should be repeated.
    """
    ncopies = int(np.prod(repeat))
    origin = np.tile(np.arange(cell.nloc), ncopies)
    if ncopies == 1:
        return cell, origin
    if cell.box is None or not cell.pbc[np.array(repeat) > 1].all():
        raise bad(
            "structure/repeat", repeat, "1 along directions that are not periodic"
        )
    steps = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), axis=-1)
    shift = steps.reshape(-1, 1, 3) @ cell.box
    return replace(
        cell,
        atype=cell.atype[origin],
        coord=(cell.coord + shift).reshape(-1, 3),
        box=cell.box * np.array(repeat)[:, None],
        spin=None if cell.spin is None else cell.spin[origin],
        mass=cell.mass[origin],
        fixed=cell.fixed[origin],
    ), origin


# --- Sublattices ----------------------------------------------------------------------


def phases(
    wave_vector: Sequence[float] | np.ndarray, coord: np.ndarray, box: np.ndarray | None
) -> np.ndarray:
    """Phases q·R of atoms, shape (nloc,).

    Parameters
    ----------
    wave_vector : sequence of 3 float
        q in the reciprocal vectors of `box`.
    coord : np.ndarray, shape (nloc, 3)
        Positions in Å.
    box : np.ndarray, shape (3, 3); or None
        Lattice vectors in Å.

    Raises
    ------
    InputError
        There are no lattice vectors.
    """
    if box is None:
        raise InputError(
            "A wave vector needs a periodic cell, and the structure has none. Use "
            "`atoms` of the rules of `spins`."
        )
    return 2 * np.pi * (coord @ np.linalg.inv(box)) @ np.array(wave_vector)


def sublattices(phase: np.ndarray) -> np.ndarray:
    """Signs of the cosines of phases: +1 and -1 on the two sublattices.

    Raises
    ------
    InputError
        Atoms at nodes of the wave belong to neither.
    """
    wave = np.cos(phase)
    if len(wave) and np.abs(wave).min() < CLEAR:
        raise InputError(
            "Some spins are at the nodes of the wave of a wave vector, cos(q·R) = 0, "
            "and so on neither sublattice. Move the origin of the structure, or give "
            "an `axis`, for a spiral."
        )
    return np.sign(wave)


def collinear_signs(spin: np.ndarray) -> np.ndarray | None:
    """Signs of spins along their common axis, or None if they have none.

    Parameters
    ----------
    spin : np.ndarray, shape (n, 3)
        Spins, at least one.

    Returns
    -------
    np.ndarray, shape (n,)
        +1 or -1; +1 for the first.
    """
    modulus = np.linalg.norm(spin, axis=1, keepdims=True)
    unit = spin / np.where(modulus > 0, modulus, 1.0)
    values, axes = np.linalg.eigh(unit.T @ unit / len(unit))
    along = unit @ axes[:, -1]
    if values[-1] < COLLINEAR or not along.all():
        return None
    signs = np.sign(along)
    return signs * signs[0]


def order_parameter(spin: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Staggered order: mean of signed directions, without dimension.

    Parameters
    ----------
    spin : np.ndarray, shape (nrep, nloc, 3)
        Spins.
    signs : np.ndarray, shape (nloc,)
        +1 and -1 on the two sublattices, 0 on atoms that do not count. All +1: the
        ferromagnet's order.

    Returns
    -------
    np.ndarray
        Shape (nrep, 3), of modulus 1 in full order.

    Raises
    ------
    ValueError
        An atom that counts has no spin, or none counts.
    """
    signs = np.asarray(signs, dtype=float)
    counted = signs != 0
    modulus = np.linalg.norm(spin, axis=2)
    if not counted.any() or not modulus[:, counted].all():
        raise ValueError(
            "`signs` must be 0 on atoms without spin and +1 or -1 on some others. "
            f"Received: {np.array2string(signs, threshold=8)}"
        )
    directions = spin[:, counted] / modulus[:, counted, None]
    return (directions * signs[counted, None]).mean(axis=1)


# --- Structure factors ----------------------------------------------------------------


def strongest_wave(
    coord: np.ndarray,
    spin: np.ndarray,
    box: np.ndarray,
    repeat: Sequence[int],
    signs: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Find the strongest wave in the directions of the spins, beside known ones.

    The weight of a wave is :math:`|m_k|^2 + |m_{-k}|^2`, or :math:`|m_k|^2` where both
    are the same wave, with :math:`m_k = \frac{1}{N} \sum_i e^{-i k \cdot R_i}
    S_i/|S_i|`: 1 for a spiral, or for full collinear order at a zone boundary. The
    search covers waves that fit into the replicas' cell, up to two reciprocal vectors
    of the repeated one along each axis.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nrep, nloc, 3)
        Positions in Å and spins of replicas.
    box : np.ndarray, shape (nrep, 3, 3)
        Their lattice vectors in Å.
    repeat : sequence of 3 int
        How often the cell of the wave vectors is repeated in that of the replicas.
    signs : np.ndarray, shape (nknown, nloc)
        The known waves, see `order_parameter`; each is 0 on the same atoms.

    Returns
    -------
    np.ndarray, shape (nrep, 3)
        Wave vectors, in reciprocal vectors of the cell that is repeated.
    np.ndarray, shape (nrep,)
        Their weights.
    """
    counted = signs[0] != 0
    numbers = [np.arange(-ZONES * n, ZONES * n + 1) for n in repeat]
    grid = np.stack(np.meshgrid(*numbers, indexing="ij"), axis=-1).reshape(-1, 3)
    waves, weights = [], []
    for place, its, cell in zip(coord, spin, box, strict=True):
        reciprocal = np.linalg.inv(cell)
        unit = its[counted] / np.linalg.norm(its[counted], axis=1, keepdims=True)
        factors = [
            np.exp(-2j * np.pi * np.outer(number, along))
            for number, along in zip(
                numbers, (place[counted] @ reciprocal).T, strict=True
            )
        ]
        weight = (abs(_structure_factors(factors, unit.T)) ** 2).sum(axis=0)
        weight *= _multiplicity(factors)
        known = abs(_structure_factors(factors, signs[:, counted])) > ALIKE
        weight[known.any(axis=0)] = 0.0
        # equivalent vectors name the same wave: take the shortest
        length = np.linalg.norm(grid @ reciprocal.T, axis=1)
        best = np.where(weight >= 0.9 * weight.max(), length, np.inf).argmin()
        forward = grid[best] if tuple(grid[best]) > (0, 0, 0) else -grid[best]
        waves.append(forward / np.array(repeat))
        weights.append(weight[best])
    return np.array(waves), np.array(weights)


def _multiplicity(factors: list[np.ndarray]) -> np.ndarray:
    """1 where k and -k are the same wave, else 2, shape (nwaves,)."""
    ones = np.ones((1, factors[0].shape[1]))
    twice = _structure_factors([factor**2 for factor in factors], ones)[0]
    return np.where(abs(twice) > ALIKE, 1, 2)


def _structure_factors(factors: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Mean of values (nvalues, n) times the phase factors of waves: (nvalues, nwaves).

    `factors` are those along each axis, (number, n).
    """
    one, two, three = factors
    nvalues, n = values.shape
    plane = (one[:, None] * two).reshape(-1, n)
    line = (values[:, None] * three).reshape(-1, n)
    found = (plane @ line.T).reshape(len(plane), nvalues, len(three))
    return found.transpose(1, 0, 2).reshape(nvalues, -1) / n
