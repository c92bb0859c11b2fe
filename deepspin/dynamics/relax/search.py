# SPDX-License-Identifier: Apache-2.0
"""Relaxations as they are asked for: what may change, from which starts, how far."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import Structure
from deepspin.dynamics.core.fields import ModelFields
from deepspin.dynamics.relax.manifold import Freedom
from deepspin.dynamics.relax.relaxation import NOISE, Limits, Relaxation, along, relax
from deepspin.dynamics.relax.starts import starting_spins
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# what `spins` lets change: directions and moduli
SPINS = {
    "directions": (True, False),
    "moduli": (True, True),
    "collinear": (False, True),
    "fixed": (False, False),
}


@dataclass(frozen=True)
class Changes:
    """What may change.

    Parameters
    ----------
    cell : bool
        The cell, too.
    pressure : float
        Outer pressure on it, in GPa.
    spins : {"directions", "moduli", "collinear", "fixed"}
        Of the spins: directions; and moduli, too; moduli and signs only; nothing.
    axis : sequence of 3 float, optional
        Lay collinear spins along this axis first; otherwise they stay on their own.
    fix_atoms, fix_spins : sequence of str
        Atoms whose positions, or spins, stay: numbers from 0, ranges such as 4-7, types
        or all.
    """

    cell: bool = False
    pressure: float = 0.0
    spins: str = "directions"
    axis: Sequence[float] | None = None
    fix_atoms: Sequence[str] = ()
    fix_spins: Sequence[str] = ()

    def __post_init__(self) -> None:
        axis, pressure = self.axis, self.pressure
        if axis is not None and (self.spins != "collinear" or not np.any(axis)):
            raise InputError(
                "--axis takes 3 numbers, not all 0, and goes with --spins collinear. "
                f"Received: {' '.join(f'{x:g}' for x in axis)} with --spins "
                f"{self.spins}"
            )
        if not np.isfinite(pressure) or (pressure and not self.cell):
            raise InputError(
                "--pressure takes a finite number of GPa, and goes with --cell. "
                f"Received: {pressure:g} {'with' if self.cell else 'without'} --cell"
            )

    def freedom(self, atoms: Structure) -> Freedom:
        """What that is of a structure."""
        if self.cell and not atoms.pbc.all():
            raise InputError(
                "--cell takes structures that are periodic in three directions. "
                f"Received: {' '.join('FT'[int(p)] for p in atoms.pbc)}"
            )
        fixed = atoms.fixed | _chosen("--fix-atoms", self.fix_atoms, atoms)
        turning = ~_chosen("--fix-spins", self.fix_spins, atoms)
        directions, moduli = (turning & kind for kind in SPINS[self.spins])
        return Freedom(~fixed, directions, moduli, self.cell)


@dataclass(frozen=True)
class Plan:
    """How to go down, from where, and how far.

    Parameters
    ----------
    fmax, tmax, smax : float
        See `deepspin.dynamics.relax.relaxation.Limits`.
    steps, method
        See `deepspin.dynamics.relax.relaxation.relax`.
    starts, seed : int
        Number of starts, and the seed of all but the first.
    """

    fmax: float = 1e-3
    tmax: float = 1e-4
    smax: float = 0.01
    steps: int = 1000
    method: str = "lbfgs"
    starts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.starts < 1 or self.steps < 0 or self.seed < 0:
            raise InputError(
                "--starts must be 1 or more, --steps and --seed not negative. "
                f"Received: {self.starts}, {self.steps}, {self.seed}"
            )
        try:
            _ = self.limits
        except ValueError as error:
            raise InputError(
                "--fmax, --tmax and --smax must be above 0. Received: "
                f"{self.fmax:g} {self.tmax:g} {self.smax:g}"
            ) from error

    @property
    def limits(self) -> Limits:
        """When a relaxation is over."""
        return Limits(self.fmax, self.tmax, self.smax)


def search(
    potential: DeepSpin,
    atoms: Structure,
    changes: Changes,
    plan: Plan,
    *,
    fparam: Sequence[float] | None = None,
    observe: Callable[[Relaxation], None] | None = None,
) -> Relaxation:
    """Relax a structure with spins, from one start or many.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    atoms : Structure
        The structure; its spins are the first start.
    changes : Changes
        What may change.
    plan : Plan
        How to go down.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.
    observe : callable, optional
        Is given a `Relaxation` at the start and whenever replicas have moved.

    Returns
    -------
    Relaxation
        The ends of all starts.
    """
    free = changes.freedom(atoms)
    if changes.axis is not None:
        atoms = replace(atoms, spin=along(atoms.spin, np.array(changes.axis)))
    spin = _starts(atoms, plan, changes.spins == "collinear", free)
    return relax(
        ModelFields(potential, atoms.atype, atoms.box, pbc=atoms.pbc, fparam=fparam),
        np.broadcast_to(atoms.coord, spin.shape),
        spin,
        atoms.box,
        free=free,
        pressure=changes.pressure,
        limits=plan.limits,
        steps=plan.steps,
        method=plan.method,
        noise=NOISE[potential.precision],
        observe=observe,
    )


def _chosen(option: str, words: Sequence[str], atoms: Structure) -> np.ndarray:
    """Atoms that words name, (nloc,)."""
    chosen = np.zeros(atoms.nloc, dtype=bool)
    for word in words:
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if word == "all":
            chosen[:] = True
        elif word in atoms.names:
            chosen |= atoms.atype == atoms.names.index(word)
        elif span and int(span[2] or span[1]) < atoms.nloc:
            chosen[int(span[1]) : int(span[2] or span[1]) + 1] = True
        else:
            raise InputError(
                f"{option} takes numbers from 0 to {atoms.nloc - 1}, ranges such as "
                f"0-3, types ({', '.join(atoms.names)}) or all. Received: {word}"
            )
    return chosen


def _starts(atoms: Structure, plan: Plan, collinear: bool, free: Freedom) -> np.ndarray:
    """Spins to start from, (starts, nloc, 3); those that are fixed are the same."""
    changes = free.directions | free.moduli
    if plan.starts > 1 and not (changes & atoms.spin.any(axis=1)).any():
        raise InputError("--starts needs spins that may change. Received: none")
    axis = None
    if collinear:
        size = np.linalg.norm(atoms.spin, axis=1, keepdims=True)
        axis = atoms.spin / np.where(size > 0, size, 1.0)
    found = starting_spins(
        atoms.coord, atoms.spin, atoms.box, plan.starts, plan.seed, axis
    )
    return np.where(np.asarray(changes)[:, None], found, atoms.spin)
