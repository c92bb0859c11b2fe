# SPDX-License-Identifier: Apache-2.0
r"""Chains of Nosé and Hoover: heat baths without random numbers.

.. math::

    \dot v = F/m - v_1 v, \quad
    Q_1 \dot v_1 = \sum m v^2 - n k_B T - Q_1 v_1 v_2, \quad
    Q_k \dot v_k = Q_{k-1} v_{k-1}^2 - k_B T - Q_k v_k v_{k+1}, \quad
    \dot\eta_k = v_k

for n degrees of freedom, with :math:`Q_1 = n k_B T \tau^2`, the others :math:`k_B T
\tau^2` [1]_. The energy with that of the chain is conserved:

.. math:: H' = H + \sum_k Q_k v_k^2/2 + n k_B T \eta_1 + k_B T \sum_{k>1} \eta_k

References
----------
.. [1] G. J. Martyna, M. L. Klein, M. Tuckerman, J. Chem. Phys. 97, 2635 (1992),
   doi:10.1063/1.463940; integrated as in G. J. Martyna, M. E. Tuckerman, D. J. Tobias,
   M. L. Klein, Mol. Phys. 87, 1117 (1996), doi:10.1080/00268979600100761.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.ramps import Ramp, all_of, held

# parts of a step, by Suzuki and Yoshida: of fourth order
_OUTER = 1 / (2 - 2 ** (1 / 3))
PARTS = (_OUTER, 1 - 2 * _OUTER, _OUTER)


@dataclass(frozen=True)
class NoseHoover:
    """Heat bath of positions, or of spins of free moduli: a chain of Nosé and Hoover.

    Small or stiff systems may keep to a part of what they could do, all the more with a
    short chain: compare with `Langevin`.

    Parameters
    ----------
    temperature : float, Ramp or np.ndarray, shape (nrep,)
        In K, above 0.
    relaxation_time : float
        τ in fs: temperatures swing around theirs with periods of about 2 π τ.
    length : int
        Links of the chain; 1 is Nosé's and Hoover's bath.
    """

    temperature: float | np.ndarray | Ramp
    relaxation_time: float
    length: int = 3

    def __post_init__(self) -> None:
        kelvin = all_of(self.temperature)
        if not (np.isfinite(kelvin).all() and (kelvin > 0).all()):
            raise ValueError(
                "`temperature` must be above 0 K for a chain. Received: "
                f"{kelvin.tolist()}"
            )
        if not 0 < self.relaxation_time < np.inf:
            raise ValueError(
                "`relaxation_time` must be a positive number of fs. Received: "
                f"{self.relaxation_time}"
            )
        if self.length < 1:
            raise ValueError(f"`length` must be at least 1. Received: {self.length}")

    def start(self, nrep: int) -> np.ndarray:
        """Take a chain at rest: η and its velocities (1/fs), (nrep, 2, length)."""
        return np.zeros((nrep, 2, self.length))

    def drive(
        self,
        velocity: np.ndarray,
        inertia: np.ndarray,
        chain: np.ndarray | None,
        dof: int,
        time: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Velocities and chains after `time` (fs) of the bath alone.

        Parameters
        ----------
        velocity : np.ndarray, shape (nrep, nloc, 3)
            In Å/fs or μ_B/fs.
        inertia : np.ndarray, shape (nloc,)
            In eV over the square of that, 0 for what has none.
        chain : np.ndarray, shape (nrep, 2, length), optional
            See `start`, which it begins with if there is none of this length.
        dof : int
            Degrees of freedom n of one replica.
        time : float
            In fs.
        """
        if chain is None or chain.shape[2] != self.length:
            chain = self.start(len(velocity))
        eta, speed = chain[:, 0].copy(), chain[:, 1].copy()
        twice = ((velocity**2).sum(axis=2) * inertia).sum(axis=1)
        factor = np.ones(len(velocity))
        for part in PARTS:
            shrink = self._part(eta, speed, twice, dof, part * time)
            factor, twice = factor * shrink, twice * shrink**2
        return velocity * factor[:, None, None], np.stack([eta, speed], axis=1)

    def energy(self, chain: np.ndarray | None, dof: int, nrep: int) -> np.ndarray:
        """Energy in eV of the chain of each replica, shape (nrep,), see the module."""
        if chain is None or chain.shape[2] != self.length:
            chain = self.start(nrep)
        thermal, mass = self._masses(nrep, dof)
        number = np.ones(self.length)
        number[0] = dof
        eta, speed = chain[:, 0], chain[:, 1]
        return (mass * speed**2 / 2 + number * thermal[:, None] * eta).sum(axis=1)

    def _masses(self, nrep: int, dof: int) -> tuple[np.ndarray, np.ndarray]:
        """k_B T in eV (nrep,), and masses Q in eV fs² (nrep, length)."""
        kelvin = np.broadcast_to(held(self.temperature), nrep)
        thermal = units.K_B * kelvin
        mass = np.repeat(thermal[:, None] * self.relaxation_time**2, self.length, 1)
        mass[:, 0] *= dof
        return thermal, mass

    def _part(
        self,
        eta: np.ndarray,
        speed: np.ndarray,
        twice: np.ndarray,
        dof: int,
        time: float,
    ) -> np.ndarray:
        """Move chains, in place, for a time; return what velocities shrink by.

        `twice` is twice the kinetic energy.
        """
        thermal, mass = self._masses(len(eta), dof)
        last = self.length - 1

        def push(link: int, twice: np.ndarray) -> None:
            """Half of the time of a link, in its force and the drag of the next one."""
            if link:
                above = mass[:, link - 1] * speed[:, link - 1] ** 2 - thermal
            else:
                above = twice - dof * thermal
            drag = 1.0 if link == last else np.exp(-time / 4 * speed[:, link + 1])
            gain = time / 2 * above / mass[:, link]
            speed[:, link] = (speed[:, link] * drag + gain) * drag

        for link in range(last, -1, -1):
            push(link, twice)
        shrink = np.exp(-time * speed[:, 0])
        eta += time * speed
        for link in range(last + 1):
            push(link, twice * shrink**2)
        return shrink
