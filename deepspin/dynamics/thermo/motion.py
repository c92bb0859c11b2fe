# SPDX-License-Identifier: Apache-2.0
r"""How spins move along a trajectory of hybrid Monte Carlo: on spheres, or in space.

Spins of fixed moduli have directions alone, with the measure of the sphere. With moduli
that move, a spin is a vector, and there is a choice of the measure [1]_, which an
energy does not settle:

- ``vector``: :math:`d^3S = |S|^2\, d|S|\, d\Omega`, that of all components, which
  `deepspin.dynamics.InertialIntegrator` samples, too [2]_;
- ``linear``: :math:`|S|\, d|S|\, d\Omega`, as many states as a quantum spin has;
- ``scalar``: :math:`d|S|\, d\Omega`, the modulus as a coordinate of its own.

Measures :math:`|S|^n d|S|` are that of vectors with :math:`(2 - n) k_B T \ln |S|` added
to the energy.

References
----------
.. [1] S. Khmelevskyi, arXiv:1709.03868 (2017).
.. [2] P.-W. Ma, S. L. Dudarev, Phys. Rev. B 86, 054416 (2012),
   doi:10.1103/PhysRevB.86.054416.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepspin.dynamics.core.sphere import cross, dot, modulus_of

# powers of the modulus in the measure
POWERS = {"vector": 2, "linear": 1, "scalar": 0}
MODULI = ("fixed", *POWERS)


class Motion(Protocol):
    """Spins in motion; all arrays begin with the replicas, and energies are in eV."""

    def start(self, spin: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Make velocities of unit width from normal numbers, (nrep, nloc, 3)."""

    def drifted(
        self, spin: np.ndarray, velocity: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Spins and velocities after a free motion of so long (fs), (nrep, 1, 1)."""

    def push(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """Force on what moves, at k_B T (nrep, 1, 1)."""

    def potential(self, spin: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """What the measure adds to the energy, (nrep,)."""

    def stiffness(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """Curvature of the energy, as the square of the force tells it, (..., 1)."""

    def outside(self, spin: np.ndarray) -> np.ndarray:
        """Replicas with a modulus that may not be, (nrep,)."""


class Directions:
    """Spins of fixed moduli go along great circles.

    Velocities are those of directions, across them, in 1/fs; inertia in eV fs².
    """

    def start(self, spin: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Leave out what is along the spins."""
        along = spin / modulus_of(spin)
        return drawn - dot(drawn, along) * along

    def drifted(
        self, spin: np.ndarray, velocity: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Go along great circles."""
        speed = np.sqrt(dot(velocity, velocity))
        ahead = velocity / np.where(speed > 0, speed, 1.0)
        cosine, sine = np.cos(speed * time), np.sin(speed * time)
        modulus = modulus_of(spin)
        moved = cosine * spin + sine * modulus * ahead
        return moved, speed * (cosine * ahead - sine / modulus * spin)

    def push(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """Take what turns the spins."""
        torque = cross(cross(spin, force_mag), spin)
        return torque / modulus_of(spin)

    def potential(self, spin: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Add nothing."""
        return np.zeros(len(spin))

    def stiffness(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """In eV: <|torque|²> = 2 k_B T x stiffness in equilibrium."""
        torque = cross(spin, force_mag)
        return (torque**2).sum(axis=2, keepdims=True) / (2 * thermal)

    def outside(self, spin: np.ndarray) -> np.ndarray:
        """Find none."""
        return np.zeros(len(spin), dtype=bool)


@dataclass(frozen=True)
class Vectors:
    """Spins whose moduli move go straight on.

    Velocities are in μ_B/fs, inertia in eV fs²/μ_B².

    Parameters
    ----------
    power : int
        Power n of the modulus in the measure, see the module.
    spin_range : np.ndarray, shape (nloc, 2), optional
        Moduli in μ_B, smallest and largest, that there may be: walls.
    """

    power: int
    spin_range: np.ndarray | None = None

    def start(self, spin: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Take all components."""
        return drawn

    def drifted(
        self, spin: np.ndarray, velocity: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Go straight on."""
        return spin + time * velocity, velocity

    def push(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """Take the magnetic force, and that of the measure."""
        return force_mag - (2 - self.power) * thermal * spin / modulus_of(spin) ** 2

    def potential(self, spin: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Add (2 - n) k_B T ln |S| for each spin."""
        logarithm = np.log(modulus_of(spin)).sum(axis=(1, 2))  # 0 without spin
        return (2 - self.power) * np.ravel(thermal) * logarithm

    def stiffness(
        self, spin: np.ndarray, force_mag: np.ndarray, thermal: np.ndarray
    ) -> np.ndarray:
        """In eV/μ_B²: <F²> = 3 k_B T x stiffness in equilibrium."""
        push = self.push(spin, force_mag, thermal)
        return (push**2).sum(axis=2, keepdims=True) / (3 * thermal)

    def outside(self, spin: np.ndarray) -> np.ndarray:
        """Find moduli beyond the range."""
        if self.spin_range is None:
            return np.zeros(len(spin), dtype=bool)
        modulus, (low, high) = np.linalg.norm(spin, axis=2), self.spin_range.T
        beyond = (modulus < low) | (modulus > high)
        return (beyond & spin.any(axis=2)).any(axis=1)


def motion_of(moduli: str, spin_range: np.ndarray | None) -> Motion:
    """Make the motion for one of `MODULI`.

    Raises
    ------
    ValueError
        It is another word.
    """
    if moduli not in MODULI:
        raise ValueError(
            f"`moduli` must be one of {', '.join(MODULI)}. Received: {moduli!r}"
        )
    if moduli == "fixed":
        return Directions()
    return Vectors(POWERS[moduli], spin_range)
