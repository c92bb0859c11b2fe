# SPDX-License-Identifier: Apache-2.0
"""Heat baths of atoms and spins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.chains import NoseHoover
from deepspin.dynamics.core.quantum import QuantumBath
from deepspin.dynamics.core.ramps import Ramp, all_of, held
from deepspin.dynamics.core.state import State, thermal_width, without_drift


@dataclass(frozen=True)
class Langevin:
    """Heat bath of positions, or of spins of free moduli.

    Parameters
    ----------
    temperature : float, Ramp or np.ndarray, shape (nrep,)
        In K.
    friction : float
        In 1/fs: 1/friction is the time in which velocities are forgotten.
    """

    temperature: float | np.ndarray | Ramp
    friction: float

    def __post_init__(self) -> None:
        _check_bath(self.temperature, "friction", self.friction)

    def forget(
        self,
        velocity: np.ndarray,
        inertia: np.ndarray,
        normals: np.ndarray,
        time: float,
    ) -> np.ndarray:
        """Velocities after `time` (fs) in the bath alone, which is solved exactly."""
        kept = np.exp(-self.friction * time)
        width = thermal_width(held(self.temperature), len(velocity), inertia)
        return kept * velocity + np.sqrt(1 - kept**2) * width * normals


@dataclass(frozen=True)
class Gilbert:
    """Heat bath of directions of spins.

    Parameters
    ----------
    temperature : float, Ramp or np.ndarray, shape (nrep,)
        In K; 0 damps only.
    damping : float
        Gilbert's α, without dimension.
    """

    temperature: float | np.ndarray | Ramp
    damping: float

    def __post_init__(self) -> None:
        _check_bath(self.temperature, "damping", self.damping)

    @property
    def noisy(self) -> bool:
        """There are random forces."""
        return self.damping > 0 and bool(np.any(all_of(self.temperature) > 0))


LatticeBath = Langevin | NoseHoover | QuantumBath


def check_temperature(temperature: float | np.ndarray | Ramp) -> None:
    """Refuse temperatures that are negative or not finite."""
    kelvin = all_of(temperature)
    if not (np.isfinite(kelvin).all() and (kelvin >= 0).all()):
        raise ValueError(
            f"`temperature` must be at least 0 K. Received: {kelvin.tolist()}"
        )


def _check_bath(
    temperature: float | np.ndarray | Ramp, name: str, value: float
) -> None:
    check_temperature(temperature)
    if not 0 <= value < np.inf:
        raise ValueError(f"`{name}` must be at least 0. Received: {value}")


def kick(
    state: State,
    velocity: np.ndarray,
    force: np.ndarray,
    time: float,
    bath: LatticeBath | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Velocities after `time` (fs) under these forces, with a bath acting halfway.

    Returns them and the chain of that bath, if it has one.
    """
    inertia = state.mass * units.AMU
    gain = np.where(state.fixed[:, None], 0.0, time / 2 * force / inertia[:, None])
    velocity = velocity + gain
    chain = state.lattice_chain
    if isinstance(bath, NoseHoover):
        velocity, chain = bath.drive(velocity, inertia, chain, state.dof, time)
    elif bath is not None:
        if isinstance(bath, QuantumBath):
            velocity = bath.push(state, velocity, time)
        else:
            velocity = bath.forget(velocity, inertia, state.normals("lattice"), time)
        velocity = np.where(state.fixed[:, None], 0.0, velocity)
        if state.still:
            velocity = without_drift(velocity, state.mass)
    return velocity + gain, chain
