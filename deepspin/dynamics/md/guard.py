# SPDX-License-Identifier: Apache-2.0
"""Checks that stop a run of dynamics once its numbers mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepspin.dynamics.core import observables
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.ramps import Ramp, all_of
from deepspin.dynamics.core.state import DynamicsError, State
from deepspin.dynamics.core.tspin import InertialIntegrator
from deepspin.dynamics.md.output import Frame
from deepspin.dynamics.md.settings import Setup

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# largest move (Å) of an atom in a step that can be followed
MAX_MOVE = 0.2
# largest change (eV/atom) of the energy in a run without baths
MAX_CHANGE = 0.02
# temperatures may rise to HOT times the highest requested, or LEAST (K)
HOT, LEAST = 10, 300


class Guard:
    """Stops a run once its numbers mean nothing.

    Parameters
    ----------
    setup : Setup
        What moves, and what acts on it.
    integrator : Integrator or InertialIntegrator
        Its integrator.
    potential : DeepSpin
        The model.
    """

    def __init__(
        self,
        setup: Setup,
        integrator: Integrator | InertialIntegrator,
        potential: DeepSpin,
    ):
        self.potential = potential
        self.timestep = setup.timestep
        self.ensemble = setup.ensemble.type
        self.isolated = not (integrator.lattice_bath or integrator.spin_bath)
        driven = setup.field_frequency or isinstance(setup.tesla, Ramp)
        self.conservative = self.isolated and not driven
        self.spin_mass = getattr(integrator, "spin_mass", None)
        asked = (setup.lattice_kelvin, setup.first_kelvin, setup.spin_kelvin)
        self.hot = HOT * max([LEAST, *(float(all_of(k).max()) for k in asked)])
        self._energy: np.ndarray | None = None

    def follow(self, before: State, state: State) -> None:
        """Check a step.

        Raises
        ------
        DynamicsError
            An atom moved too far, or neighbours were dropped where energy is conserved.
        """
        start = before.coord
        if state.box is not before.box:  # where the cell has taken it
            start = start @ np.linalg.solve(before.box, state.box)
        move = np.linalg.norm(state.coord - start, axis=2)
        replica, atom = np.unravel_index(np.argmax(move), move.shape)
        longest = move[replica, atom]
        if longest > MAX_MOVE:
            raise DynamicsError(
                f"Step {before.step}: atom {atom} of replica {replica} moves by "
                f"{longest:.2g} Å in a step. Received: a timestep of "
                f"{self.timestep:g} fs. Use "
                f"{0.1 * MAX_MOVE / longest * self.timestep:.1g} fs, or a better start."
            )
        self._check_neighbors(f"Step {before.step}: the")

    def look(self, frame: Frame) -> None:
        """Check an instant.

        Raises
        ------
        DynamicsError
            Atoms, or spins with inertia, are too hot; the energy is not conserved where
            it should be; or numbers are not finite.
        """
        state, energy = frame.state, frame.response.energy
        place = f"Step {state.step}: "
        heat = {"atoms": observables.lattice_temperature(state)}
        total = energy + observables.kinetic_energy(state)
        if self.spin_mass is not None:
            mass = self.spin_mass
            heat["spins"] = observables.spin_kinetic_temperature(state, mass)
            total = total + observables.spin_kinetic_energy(state, mass)
        if not np.isfinite(total).all():
            raise DynamicsError(f"{place}energies are no longer finite.{self._advice}")
        self._check_neighbors("The" if self._energy is None else f"{place}the")
        for what, kelvin in heat.items():
            if kelvin.max() > self.hot:
                raise DynamicsError(
                    f"{place}the {what} of replica {np.argmax(kelvin)} have "
                    f"{kelvin.max():.4g} K, {self.hot:g} K is the most that can be "
                    f"meant.{self._advice}"
                )
        if self._energy is None:
            self._energy = total
        change = (total - self._energy) / state.nloc
        worst = int(np.argmax(np.abs(change)))
        if self.conservative and abs(change[worst]) > MAX_CHANGE:
            raise DynamicsError(
                f"{place}the energy of replica {worst} has changed by "
                f"{change[worst]:.2g} eV/atom, but should be conserved.{self._advice}"
            )

    @property
    def _advice(self) -> str:
        half = self.timestep / 2
        return (
            f" Received: a timestep of {self.timestep:g} fs. Use a smaller one, such as"
            f" {half:g} fs, or a better start: look at the last good frame."
        )

    def _check_neighbors(self, head: str) -> None:
        """Refuse jumps of the energy where it should be conserved."""
        if self.isolated and self.potential.dropped:
            raise DynamicsError(
                f"{head} model's `sel` leaves {self.potential.dropped} neighbours out: "
                "its energy jumps as atoms cross, and cannot be conserved. Use a model "
                "with a larger `sel`, or a bath (`ensemble`). Received: "
                f'"{self.ensemble}" without a bath'
            )
