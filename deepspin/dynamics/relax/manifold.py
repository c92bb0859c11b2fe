# SPDX-License-Identifier: Apache-2.0
r"""What a relaxation moves on: positions, strains, spheres of spins and their moduli.

A tangent vector has displacements u (Å), rotation vectors θ perpendicular to the spins
(radians), changes μ of the moduli (μ_B) and a symmetric strain η. It leads to

.. math::

    R \to e^\eta (R + u), \quad h \to h e^\eta, \quad
    S \to e^{\theta\times} (|S| + \mu) \hat S

and derivatives of the energy are :math:`-F`, :math:`-S \times F_\mathrm{mag}`,
:math:`-\hat S \cdot F_\mathrm{mag}` and minus the symmetric virial. Vectors are carried
along by the same rotations and strain [1]_ [2]_.

References
----------
.. [1] P. F. Bessarab, V. M. Uzdin, H. Jónsson, Comput. Phys. Commun. 196, 335 (2015).
.. [2] A. V. Ivanov, V. M. Uzdin, H. Jónsson, Comput. Phys. Commun. 260, 107749 (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.sphere import cross, dot, modulus_of, rotate_by
from deepspin.dynamics.relax.descent import Carry

# a dataclass of arrays of replicas, or None
Bundle = TypeVar("Bundle", "Point", Response)

# usual stiffness of positions (eV/Å²), rotations (eV), moduli (eV/μ_B²), and of the
# cell (eV for each atom)
STIFFNESS = (10.0, 0.1, 1.0, 20.0)
# longest step of an atom (Å), a spin (radians), a modulus (μ_B) and of the strain
LONGEST = (0.2, 0.5, 0.2, 0.05)


@dataclass(frozen=True)
class Freedom:
    """What may change.

    Parameters
    ----------
    positions, directions, moduli : bool or np.ndarray of bool, shape (nloc,)
        Positions of atoms, and directions and moduli of their spins: of all, or of
        each. Spins of 0 stay 0.
    cell : bool
        The cell, but for rotations; fixed atoms keep their place relative to it.
    """

    positions: bool | np.ndarray = True
    directions: bool | np.ndarray = True
    moduli: bool | np.ndarray = False
    cell: bool = False


@dataclass(frozen=True)
class Point:
    """Replicas.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nrep, nloc, 3)
        Positions in Å and spins in μ_B.
    axis : np.ndarray, shape (nrep, nloc, 3)
        Unit vectors along the spins, or opposite; 0 for spins of 0.
    modulus : np.ndarray, shape (nrep, nloc, 1)
        Moduli of the spins in μ_B, negative where they are opposite to `axis`.
    box : np.ndarray, shape (nrep, 3, 3); or None
        Lattice vectors in Å.
    """

    coord: np.ndarray
    spin: np.ndarray
    axis: np.ndarray
    modulus: np.ndarray
    box: np.ndarray | None = None


class Space:
    """Tangent vectors as rows (nrep, ndof): u, θ, μ and η of all atoms, one by one.

    Their units are such that `STIFFNESS` is 1, which is a preconditioner.

    Parameters
    ----------
    free : Freedom
        What may change.
    spin : np.ndarray, shape (nrep, nloc, 3)
        Spins, for those that are 0.

    Raises
    ------
    ValueError
        Nothing may change, or it is not said of every atom.
    """

    def __init__(self, free: Freedom, spin: np.ndarray):
        nloc = spin.shape[1]
        for name in ("positions", "directions", "moduli"):
            given = np.asarray(getattr(free, name))
            if given.dtype != bool or given.shape not in ((), (nloc,)):
                raise ValueError(
                    f"`{name}` must be True, False, or one of them for each of {nloc} "
                    f"atoms. Received: {given.dtype} of shape {given.shape}"
                )
        magnetic = spin.any(axis=(0, 2))
        self.nloc, self.cell = nloc, free.cell
        self.moves = np.broadcast_to(free.positions, nloc)
        self.turns = np.broadcast_to(free.directions, nloc) & magnetic
        self.stretches = np.broadcast_to(free.moduli, nloc) & magnetic
        some = self.moves | self.turns | self.stretches
        if not (some.any() or free.cell):
            raise ValueError(
                "Nothing may change: positions, spins and cell are fixed. Free some."
            )
        self._sizes = sizes = (3 * nloc, 3 * nloc, nloc, 9)
        stiffness = np.array(STIFFNESS) * [1, 1, 1, nloc]
        self._ends = np.cumsum(sizes)[:-1]
        self._scale = np.sqrt(np.repeat(stiffness, sizes))
        self.ndof = sum(sizes)

    def _split(self, vectors: np.ndarray) -> tuple[np.ndarray, ...]:
        """Vectors u and θ (..., nloc, 3), μ (..., nloc, 1) and η (..., 3, 3)."""
        parts = np.split(vectors / self._scale, self._ends, axis=-1)
        shapes = ((self.nloc, 3), (self.nloc, 3), (self.nloc, 1), (3, 3))
        return tuple(
            part.reshape(*vectors.shape[:-1], *shape)
            for part, shape in zip(parts, shapes, strict=True)
        )

    def _join(self, *parts: np.ndarray) -> np.ndarray:
        """Reverse of `_split`, but for the units."""
        lead = parts[3].shape[:-2]
        flat = map(np.reshape, parts, [(*lead, size) for size in self._sizes])
        return np.concatenate(list(flat), axis=-1)

    def gradient(self, point: Point, found: Response) -> np.ndarray:
        """Derivatives of the energy by what may change, (nrep, ndof)."""
        strain = np.zeros((len(point.coord), 3, 3))
        if self.cell:
            strain = symmetric(found.virial)
        torque = cross(point.spin, found.force_mag)
        pull = dot(point.axis, found.force_mag)
        parts = (
            np.where(self.moves[:, None], found.force, 0.0),
            np.where(self.turns[:, None], torque, 0.0),
            np.where(self.stretches[:, None], pull, 0.0),
            strain,
        )
        return -self._join(*parts) / self._scale

    def left(self, point: Point, found: Response) -> tuple[np.ndarray, ...]:
        """What is left of forces on what may change, each (nrep,).

        Longest force (eV/Å) and magnetic force (eV/μ_B), largest stress (eV/Å³).
        """
        stress = np.zeros(len(point.coord))
        if self.cell:
            volume = np.abs(np.linalg.det(point.box))
            stress = np.abs(symmetric(found.virial)).max(axis=(1, 2)) / volume
        along = dot(point.axis, found.force_mag) * point.axis
        across = np.where(self.turns[:, None], found.force_mag - along, 0.0)
        along = np.where(self.stretches[:, None], along, 0.0)
        force = np.where(self.moves[:, None], found.force, 0.0)
        longest = [np.sqrt(dot(v, v)).max(axis=(1, 2)) for v in (force, along + across)]
        return *longest, stress

    def move(self, point: Point, vectors: np.ndarray) -> tuple[Point, Carry]:
        """Go along tangent vectors.

        Returns the new point and what carries tangent vectors (k, nrep, ndof) there.
        A vector is carried along itself without change, but for u.
        """
        u, turn, longer, strain = self._split(vectors)
        coord, box = point.coord + u, point.box
        axis, modulus = rotate_by(point.axis, turn), point.modulus + longer
        # what may not change stays the same to the last bit
        axis = np.where(self.turns[:, None], axis / modulus_of(axis), point.axis)
        changed = (self.turns | self.stretches)[:, None]
        spin = np.where(changed, modulus * axis, point.spin)
        if self.cell:
            values, vector = np.linalg.eigh(strain)
            factor = (vector * np.exp(values)[:, None]) @ np.swapaxes(vector, 1, 2)
            coord, box = coord @ factor, box @ factor

        def carry(others: np.ndarray) -> np.ndarray:
            u, turned, longer, strain = self._split(others)
            u = u @ factor if self.cell else u
            turned = rotate_by(turned, turn)
            return self._join(u, turned, longer, strain) * self._scale

        return Point(coord, spin, axis, modulus, box), carry

    def longest(self, vectors: np.ndarray) -> np.ndarray:
        """How often vectors may be taken before a step is too long, (nrep,)."""
        result = np.full(len(vectors), np.inf)
        for part, limit in zip(self._split(vectors), LONGEST, strict=True):
            size = np.sqrt(dot(part, part)).max(axis=(1, 2))
            result = np.fmin(result, limit / np.where(size > 0, size, np.nan))
        return result


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Symmetric part of matrices (..., 3, 3)."""
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2


# --- Arrays of some of the replicas, in bundles ---------------------------------------


def take(bundle: Bundle, rows: np.ndarray | Sequence[int]) -> Bundle:
    """Those of some replicas."""
    return _each(lambda mine: mine[rows], bundle)


def put(bundle: Bundle, rows: np.ndarray, other: Bundle) -> Bundle:
    """All of them, some of them new; nothing is written into."""

    def mixed(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        result = mine.copy()
        result[rows] = theirs
        return result

    return _each(mixed, bundle, other)


def join(bundles: Sequence[Bundle]) -> Bundle:
    """Those of one after the other."""
    return _each(lambda *parts: np.concatenate(parts), *bundles)


def _each(function: Callable, first: Bundle, *others: Bundle) -> Bundle:
    names = [
        field.name for field in fields(first) if getattr(first, field.name) is not None
    ]
    return type(first)(
        **{
            name: function(*(getattr(b, name) for b in (first, *others)))
            for name in names
        }
    )
