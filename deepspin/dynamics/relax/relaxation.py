# SPDX-License-Identifier: Apache-2.0
"""Relaxation of positions, spins and cell, together or some of them.

Many replicas at once: each has directions, line searches and convergence of its own;
one call of the Hamiltonian serves all that are not there yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.fields import Fields, Response
from deepspin.dynamics.core.sphere import dot, modulus_of
from deepspin.dynamics.relax.descent import METHODS, LineSearch, inner
from deepspin.dynamics.relax.manifold import Freedom, Point, Space, join, put, take

log = logging.getLogger(__name__)

# a direction leads down if its slope is more than this times both lengths
DOWN = 1e-6
# rounding errors of energies relative to them, of models in double and single precision
NOISE = {"float64": 1e-14, "float32": 1e-8}


@dataclass(frozen=True)
class Limits:
    """When a relaxation is over.

    Parameters
    ----------
    force : float
        Longest force, in eV/Å, on atoms that may move.
    force_mag : float
        Longest magnetic force, in eV/μ_B, that may still turn spins or change their
        moduli.
    stress : float
        Largest component of the stress, in GPa, that no outer pressure holds, if the
        cell may change.
    """

    force: float = 1e-3
    force_mag: float = 1e-4
    stress: float = 0.01

    def __post_init__(self) -> None:
        for name in (each.name for each in fields_of(self)):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(
                    f"`{name}` must be above 0. Received: {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Relaxation:
    """Where a relaxation of ``nrep`` replicas is, after whole steps.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nrep, nloc, 3)
        Positions in Å and spins in μ_B.
    box : np.ndarray, shape (nrep, 3, 3); or None
        Lattice vectors in Å.
    energy, enthalpy : np.ndarray, shape (nrep,)
        In eV; the enthalpy, which is the energy and the outer pressure times the
        volume, is what goes down.
    force, force_mag : np.ndarray, shape (nrep, nloc, 3)
        In eV/Å and eV/μ_B.
    virial : np.ndarray, shape (nrep, 3, 3); or None
        In eV.
    fmax, tmax, smax : np.ndarray, shape (nrep,)
        What `Limits` limits: forces, magnetic forces and stresses that are left.
    steps : np.ndarray of int, shape (nrep,)
        Steps made.
    converged, stalled : np.ndarray of bool, shape (nrep,)
        Replicas that are within the limits, and those that find no way further down
        although they are not: the energy is not exact, or not smooth enough.
    evaluations : int
        Calls of the Hamiltonian.
    """

    coord: np.ndarray
    spin: np.ndarray
    box: np.ndarray | None
    energy: np.ndarray
    enthalpy: np.ndarray
    force: np.ndarray
    force_mag: np.ndarray
    virial: np.ndarray | None
    fmax: np.ndarray
    tmax: np.ndarray
    smax: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    stalled: np.ndarray
    evaluations: int

    @property
    def nrep(self) -> int:
        """Number of replicas."""
        return len(self.energy)


FREE, LIMITS = Freedom(), Limits()


def relax(
    fields: Fields,
    coord: np.ndarray,
    spin: np.ndarray,
    box: np.ndarray | None = None,
    *,
    free: Freedom = FREE,
    pressure: float = 0.0,
    limits: Limits = LIMITS,
    steps: int = 1000,
    method: str = "lbfgs",
    noise: float = NOISE["float64"],
    observe: Callable[[Relaxation], None] | None = None,
) -> Relaxation:
    """Go down to a minimum of the energy or enthalpy, from one start or many.

    Parameters
    ----------
    fields : Fields
        The Hamiltonian, the same for all replicas. With `box` it must have ``in_box``,
        as `ModelFields` has.
    coord, spin : np.ndarray, shape (nrep, nloc, 3) or (nloc, 3)
        Positions in Å and spins in μ_B to start from.
    box : np.ndarray, shape (nrep, 3, 3) or (3, 3), optional
        Lattice vectors in Å, all periodic if the cell may change.
    free : Freedom
        What may change.
    pressure : float
        Outer pressure in GPa on a cell that may change; negative pulls.
    limits : Limits
        When to stop.
    steps : int
        Most steps of a replica.
    method : {"lbfgs", "cg"}
        L-BFGS, or conjugate gradients.
    noise : float
        Rounding errors of energies, relative to them.
    observe : callable, optional
        Is given a `Relaxation` at the start and whenever replicas have moved.

    Returns
    -------
    Relaxation
        The end.

    Raises
    ------
    ValueError
        Shapes that do not fit, nothing that may change, or no cell that could.
    """
    coord = np.array(coord, dtype=float, ndmin=3)
    spin = np.array(spin, dtype=float, ndmin=3)
    if coord.shape != spin.shape or coord.shape[2:] != (3,):
        raise ValueError(
            "`coord` and `spin` must have the shape (nrep, nloc, 3). Received: "
            f"{coord.shape} and {spin.shape}"
        )
    if box is not None:
        box = np.array(np.broadcast_to(box, (len(coord), 3, 3)), dtype=float)
    elif free.cell:
        raise ValueError("A cell that changes needs `box`. Received: None")
    if method not in METHODS or steps < 0:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}, and `steps` not negative. "
            f"Received: {method!r} and {steps}"
        )
    if not np.isfinite(pressure) or (pressure and not free.cell):
        raise ValueError(
            "`pressure` must be a finite number of GPa, and not 0 only on a cell that "
            f"may change. Received: {pressure}, cell={free.cell}"
        )
    axis = spin / modulus_of(spin)
    point = Point(coord, spin, axis, np.sqrt(dot(spin, spin)), box)
    space, load = Space(free, spin), pressure / units.GPA
    descent = _Descent(fields, load, point, space, limits, METHODS[method], noise)
    return descent.run(steps, observe or (lambda now: None))


def under(load: float, found: Response, box: np.ndarray | None) -> Response:
    r"""Add what an outer pressure does to energy and virial.

    The enthalpy :math:`E + pV` has the virial :math:`W - pV I`.

    Parameters
    ----------
    load : float
        Pressure p in eV/Å³.
    found : Response
        Of the Hamiltonian.
    box : np.ndarray, shape (nrep, 3, 3); or None
        Lattice vectors in Å; without them there is no volume, and `load` must be 0.
    """
    if not load:
        return found
    work = load * np.abs(np.linalg.det(box))
    virial = found.virial - work[:, None, None] * np.eye(3)
    return replace(found, energy=found.energy + work, virial=virial)


def along(spin: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Lay spins along axes, with their moduli, to the side on which they are.

    Collinear relaxations begin like this and go on with ``Freedom(directions=False,
    moduli=True)``: moduli and signs may change.

    Parameters
    ----------
    spin : np.ndarray, shape (nloc, 3)
        Spins.
    axis : np.ndarray, shape (3,) or (nloc, 3)
        Axes, of any length.

    Raises
    ------
    ValueError
        An axis has no direction, or a spin is perpendicular to its own.
    """
    axis = np.asarray(axis, dtype=float)
    if axis.shape not in ((3,), spin.shape) or not axis.any(axis=-1).all():
        raise ValueError(
            f"`axis` must be a vector other than 0, or one for each atom. Received: "
            f"{np.array2string(axis, threshold=9)}"
        )
    axis = axis / modulus_of(axis)
    side, size = dot(spin, axis), np.sqrt(dot(spin, spin))
    for atom in np.flatnonzero((np.abs(side) <= 1e-6 * size) & (size > 0))[:1]:
        raise ValueError(
            f"The spin of atom {atom} is perpendicular to its axis, so it has no sign. "
            "Turn it a little, or choose another axis."
        )
    return np.sign(side) * size * axis


class _Descent:
    """Replicas on their way down, and what is known there."""

    def __init__(
        self,
        fields: Fields,
        load: float,
        point: Point,
        space: Space,
        limits: Limits,
        method: type,
        noise: float,
    ):
        self.fields, self.load, self.limits = fields, load, limits
        self.space, self.point = space, point
        nrep = len(point.coord)
        self.method = method(nrep, space.ndof)
        self.search = LineSearch(nrep, self.method, noise)
        self.found = self._respond(point)
        self.gradient = space.gradient(point, self.found)
        self.direction = np.zeros_like(self.gradient)
        self.steps = np.zeros(nrep, dtype=int)
        self.steepest, self.stalled = np.zeros((2, nrep), dtype=bool)
        self.evaluations = 1

    def run(self, steps: int, observe: Callable[[Relaxation], None]) -> Relaxation:
        """Go on until each replica has converged, stalled, or made all its steps."""
        now = self._now()
        observe(now)
        rows = ready = np.flatnonzero(~now.converged & (steps > 0))
        while rows.size:
            self._set_out(ready)
            vectors = self.search.length[rows, None] * self.direction[rows]
            trial, carry = self.space.move(take(self.point, rows), vectors)
            found = self._try(trial)
            gradient = self.space.gradient(trial, found)
            slope = inner(gradient, carry(self.direction[None, rows])[0])
            slope[~np.isfinite(found.energy)] = np.nan
            good, failed = self.search.judge(rows, found.energy, slope)
            self._arrive(rows[good], vectors[good], take(found, good), gradient[good])
            self._start_anew(rows[failed])
            if good.any():
                now = self._now()
                observe(now)
            going = ~now.converged & ~self.stalled & (self.steps < steps)
            ready = rows[(good | failed) & going[rows]]
            rows = np.flatnonzero(going)
        return self._now()

    def _set_out(self, rows: np.ndarray) -> None:
        """Choose directions, and begin to search along them."""
        gradient = self.gradient[rows]
        direction = self.method.direction(rows, gradient)
        slope = inner(gradient, direction)
        square = inner(gradient, gradient)
        up = ~(slope < -DOWN * np.sqrt(square * inner(direction, direction)))
        self.method.forget(rows[up])
        direction[up], slope[up] = -gradient[up], -square[up]
        self.steepest[rows] = up | (direction == -gradient).all(axis=1)
        self.direction[rows] = direction
        longest, scaled = self.space.longest(direction), self.method.knows(rows)
        self.search.begin(rows, self.found.energy[rows], slope, longest, scaled)

    def _arrive(
        self, rows: np.ndarray, vectors: np.ndarray, found: Response, new: np.ndarray
    ) -> None:
        """Make steps, to points with these energies and gradients."""
        here, carry = self.space.move(take(self.point, rows), vectors)
        step, old = carry(np.stack([vectors, self.gradient[rows]]))
        self.method.learn(rows, step, new, old, carry)
        self.point = put(self.point, rows, here)
        self.found = put(self.found, rows, found)
        self.gradient[rows] = new
        self.steps[rows] += 1

    def _start_anew(self, rows: np.ndarray) -> None:
        """After searches that failed: forget all, or give up what had nothing to."""
        self.stalled[rows] = self.steepest[rows]
        self.method.forget(rows)

    def _respond(self, point: Point) -> Response:
        fields = self.fields
        if point.box is not None:
            fields = fields.in_box(point.box)  # type: ignore[attr-defined]  # of a cell
        return under(self.load, fields(point.coord, point.spin), point.box)

    def _try(self, point: Point) -> Response:
        """Ask about trial points; the energy is NaN where there is no answer."""
        self.evaluations += 1
        try:
            return self._respond(point)
        except (ValueError, RuntimeError) as error:  # atoms too near, say
            log.debug("trial step refused: %s", error)
        number = len(point.coord)
        if number == 1:
            energy, zero = np.full(1, np.nan), np.zeros_like(point.coord)
            known = self.found.virial is not None
            return Response(energy, zero, zero, np.zeros((1, 3, 3)) if known else None)
        return join([self._try(take(point, [k])) for k in range(number)])

    def _now(self) -> Relaxation:
        point, found, limits = self.point, self.found, self.limits
        fmax, tmax, smax = self.space.left(point, found)
        # what is not a number is not within limits
        within = (fmax <= limits.force) & (tmax <= limits.force_mag)
        within &= (smax * units.GPA <= limits.stress) & np.isfinite(found.energy)
        bare = under(-self.load, found, point.box)
        return Relaxation(
            coord=point.coord,
            spin=point.spin,
            box=point.box,
            energy=bare.energy,
            enthalpy=found.energy,
            force=found.force,
            force_mag=found.force_mag,
            virial=bare.virial,
            fmax=fmax,
            tmax=tmax,
            smax=smax * units.GPA,
            steps=self.steps.copy(),
            converged=within,
            stalled=self.stalled & ~within,
            evaluations=self.evaluations,
        )
