# SPDX-License-Identifier: Apache-2.0
"""Dynamics of ASE's atoms that moves their moments, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepspin.dynamics.core.baths import Gilbert, Langevin
from deepspin.dynamics.core.fields import Fields, ModelFields, Zeeman
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State

try:
    from ase import Atoms, units
    from ase.constraints import FixAtoms
    from ase.md.md import MolecularDynamics
except ImportError as error:
    raise ImportError(
        "deepspin.dynamics.atoms needs ASE, which is not installed (or too old): "
        "pip install -U ase"
    ) from error


class SpinLatticeDynamics(MolecularDynamics):
    """Moves atoms and their magnetic moments together, as `Integrator` does.

    It is used like ASE's own dynamics: ``run``, ``irun``, ``attach``, log files and
    trajectories. Moments turn about the magnetic forces and keep their moduli. Without
    baths energy and momentum are kept; there are baths if a temperature is given.

    Parameters
    ----------
    atoms : ase.Atoms
        Atoms with a `deepspin.calculator.DeepSpinCalculator` and initial magnetic
        moments (N, 3) in μ_B. Their constraints may be `FixAtoms` only: these atoms
        stay, their moments may turn.
    timestep : float
        In ASE's units, such as ``0.2 * units.fs``.
    temperature_K : float, optional
        Temperature of the baths of atoms and moments in K.
    friction : float, optional
        Friction of the atoms in the inverse of ASE's unit of time, such as ``0.02 /
        units.fs``; 0 for atoms without a bath. Default 0.02/fs.
    damping : float, optional
        Gilbert's damping of the moments; 0 for moments without a bath. Default 0.1.
    field : np.ndarray, shape (3,), optional
        External magnetic field in T.
    seed : int
        Seed of the baths' random numbers.
    **options
        ASE's: ``trajectory``, ``logfile``, ``loginterval``, ...

    Raises
    ------
    ValueError
        Other calculators or constraints, atoms without moments, or numbers that mean
        nothing.
    DynamicsError
        From ``run``: a step that cannot be made. The atoms are as they were before.

    Examples
    --------
    >>> dynamics = SpinLatticeDynamics(atoms, 0.2 * units.fs)  # doctest: +SKIP
    >>> dynamics.run(100)  # doctest: +SKIP
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        *,
        temperature_K: float | None = None,
        friction: float | None = None,
        damping: float | None = None,
        field: np.ndarray | None = None,
        seed: int = 0,
        **options: Any,
    ):
        baths = _baths(temperature_K, friction, damping)
        self._check(atoms)
        self._field = field
        self._integrator = Integrator(self._fields(atoms), timestep / units.fs, **baths)
        super().__init__(atoms, timestep, **options)
        self._state = self._read(seed)

    @property
    def evaluations(self) -> int:
        """Evaluations of the model so far, for the steps."""
        return self._integrator.evaluations

    def step(self) -> None:
        """Make one step from the atoms as they are now, even if changed by hand."""
        now, state = self._read(self._state.seed), self._state
        same = all(
            np.allclose(getattr(now, name), getattr(state, name), rtol=0, atol=1e-12)
            for name in ("coord", "velocity", "spin")
        )
        if not same or not np.array_equal(now.box, state.box):
            now.step, now.time = state.step, state.time
            self._integrator.fields = self._fields(self.atoms)
            self._state = now
        self._integrator.step(self._state)
        self._write()

    def _refresh_properties(self) -> None:
        """Ask for nothing after a step: loggers and writers ask for what they need."""

    def _check(self, atoms: Atoms) -> None:
        if not hasattr(atoms.calc, "types_and_spins"):
            raise ValueError(
                "SpinLatticeDynamics needs atoms with a DeepSpinCalculator. Received: "
                f"{type(atoms.calc).__name__}"
            )
        others = [c for c in atoms.constraints if not isinstance(c, FixAtoms)]
        if others:
            raise ValueError(
                "SpinLatticeDynamics knows the constraint FixAtoms only. Received: "
                f"{type(others[0]).__name__}"
            )

    def _fields(self, atoms: Atoms) -> Fields:
        calc = atoms.calc
        atype, _ = calc.types_and_spins(atoms)
        box = atoms.cell.array if atoms.pbc.any() else None
        fields = ModelFields(
            calc.potential,
            atype,
            box,
            pbc=atoms.pbc,
            fparam=calc.parameters.get("fparam"),
        )
        return fields if self._field is None else Zeeman(fields, self._field)

    def _read(self, seed: int) -> State:
        """State of the atoms as they are."""
        atoms = self.atoms
        atype, spin = atoms.calc.types_and_spins(atoms)
        fixed = np.zeros(len(atoms), dtype=bool)
        for constraint in atoms.constraints:
            fixed[constraint.index] = True
        velocity = np.where(fixed[:, None], 0.0, atoms.get_velocities() * units.fs)
        box = atoms.cell.array[None] if atoms.pbc.any() else None
        return State(
            coord=atoms.positions[None],
            velocity=velocity[None],
            spin=spin[None],
            mass=atoms.get_masses(),
            atype=atype,
            box=box,
            fixed=fixed,
            seed=seed,
        )

    def _write(self) -> None:
        """Move the atoms to where the state is."""
        state = self._state
        self.atoms.positions = state.coord[0]
        self.atoms.set_velocities(state.velocity[0] / units.fs)
        self.atoms.set_initial_magnetic_moments(state.spin[0])


def _baths(
    temperature: float | None, friction: float | None, damping: float | None
) -> dict[str, Any]:
    """Baths of the integrator."""
    if temperature is None:
        if friction is not None or damping is not None:
            raise ValueError(
                "`friction` and `damping` belong to baths, which need `temperature_K`. "
                f"Received: {friction} and {damping}"
            )
        return {}
    friction = 0.02 if friction is None else friction * units.fs
    baths: dict[str, Langevin | Gilbert] = {}
    if friction:
        baths["lattice_bath"] = Langevin(temperature, friction)
    if damping is None or damping:
        baths["spin_bath"] = Gilbert(temperature, 0.1 if damping is None else damping)
    return baths
