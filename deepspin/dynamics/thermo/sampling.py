# SPDX-License-Identifier: Apache-2.0
"""Samplers of Boltzmann's distribution at several temperatures, a replica for each.

`LangevinSampler` follows the dynamics in heat baths; `hybrid.HybridMonteCarlo` accepts
or rejects trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import (
    State,
)
from deepspin.dynamics.core.tspin import InertialIntegrator


@dataclass(frozen=True)
class Outcome:
    """Outcome of one move of all replicas.

    Parameters
    ----------
    acceptance : np.ndarray, shape (nrep,)
        Probability with which the trajectory was accepted; 1 without such a choice.
    exchange : np.ndarray, shape (nrep - 1,)
        That of the exchange between a temperature and the next; NaN if not tried.
    """

    acceptance: np.ndarray
    exchange: np.ndarray


class Sampler(Protocol):
    """Moves replicas of several temperatures from one sample to the next."""

    temperature: np.ndarray
    lattice: bool

    def advance(self, state: State, *, tune: bool = False) -> Outcome:
        """Go on to the next sample; `tune` adapts the sampler, for samples to drop."""

    def response(self, state: State) -> Response:
        """Energies and forces of the present state."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a restart needs beside the state."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` of another sampler gave."""


class LangevinSampler:
    """Dynamics in heat baths as a sampler.

    Parameters
    ----------
    integrator : Integrator
        Makes the steps; its baths have the temperatures.
    temperature : sequence of float, shape (nrep,)
        In K.
    steps : int
        Steps from one sample to the next.
    """

    def __init__(
        self,
        integrator: Integrator | InertialIntegrator,
        temperature: Sequence[float] | np.ndarray,
        steps: int,
    ):
        self.integrator = integrator
        self.temperature = np.array(temperature, dtype=float)
        self.lattice = integrator.lattice
        self.steps = steps

    def response(self, state: State) -> Response:
        """Energies and forces of the present state."""
        return self.integrator.fields(state.coord, state.spin, state.time)

    def advance(self, state: State, *, tune: bool = False) -> Outcome:
        """Make the steps; there is nothing to tune."""
        for _ in range(self.steps):
            self.integrator.step(state)
        return Outcome(np.ones(state.nrep), np.full(state.nrep - 1, np.nan))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a restart needs beside the state."""
        return {"evaluations": np.array(self.integrator.evaluations)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` of another sampler gave."""
        self.integrator.evaluations = int(arrays["evaluations"])
