# SPDX-License-Identifier: Apache-2.0
r"""Dynamics of spins with inertia, moduli included.

Spins are given a kinetic energy, as in TSPIN [1]_; then they move as atoms do:

.. math::

    L = \sum \frac{m_i}{2} \dot R_i^2 + \sum \frac{\mu_i}{2} \dot S_i^2 - E(R, S)

It samples the canonical ensemble of free spin vectors (with measure d³S, not that of
directions alone) and finds minima, at one evaluation a step. Its times are not physical
for the spins: they do not precess.

References
----------
.. [1] Z. Huang, H. Wang, B. Xu, arXiv:2506.12877 (2025).
"""

from __future__ import annotations

import logging

import numpy as np

from deepspin.dynamics.core.barostat import (
    CellRescaling,
    check_barostat,
    fields_of,
    virial_of,
)
from deepspin.dynamics.core.baths import Langevin, LatticeBath, kick
from deepspin.dynamics.core.chains import NoseHoover
from deepspin.dynamics.core.fields import Fields
from deepspin.dynamics.core.integrators import check_finite, check_timestep
from deepspin.dynamics.core.ramps import now
from deepspin.dynamics.core.state import DynamicsError, State, thermal_width

log = logging.getLogger(__name__)


class InertialIntegrator:
    """Moves positions and spin vectors as coordinates with masses.

    Verlet's method (half a drift, kick, half a drift) of both: symplectic, reversible,
    of second order. Baths act in the middle of the kick: chains of Nosé and Hoover, as
    in the reference, or Langevin's.

    Parameters
    ----------
    fields : Fields
        The Hamiltonian.
    timestep : float
        In fs; negative runs back in time, without baths.
    spin_mass : np.ndarray, shape (nloc,)
        Inertia μ of each spin in eV fs²/μ_B², 0 on atoms without spin. With c the
        curvature of the energy in the modulus (eV/μ_B²), moduli swing at the angular
        frequency sqrt(c/μ).
    spin_range : np.ndarray, shape (nloc, 2), optional
        Moduli (μ_B), smallest and largest, that the model knows from its training.
    refuse : bool
        Stop at moduli beyond `spin_range`; else warn, once.
    lattice : bool
        Whether positions move.
    lattice_bath, spin_bath : Langevin or NoseHoover, optional
        Heat baths; that of the positions may be a QuantumBath, too.
    barostat : CellRescaling, optional
        Moves the cells, too; see `Integrator`.

    Attributes
    ----------
    evaluations : int
        Calls of `fields` so far.
    """

    def __init__(
        self,
        fields: Fields,
        timestep: float,
        spin_mass: np.ndarray,
        *,
        spin_range: np.ndarray | None = None,
        refuse: bool = True,
        lattice: bool = True,
        lattice_bath: LatticeBath | None = None,
        spin_bath: Langevin | NoseHoover | None = None,
        barostat: CellRescaling | None = None,
    ):
        check_timestep(timestep, lattice_bath or spin_bath or barostat)
        spin_mass = np.asarray(spin_mass, dtype=float)
        if spin_mass.ndim != 1 or not (
            np.isfinite(spin_mass).all() and (spin_mass >= 0).all() and spin_mass.any()
        ):
            raise ValueError(
                "`spin_mass` must be positive, in eV fs²/μ_B², and 0 on atoms without "
                f"spin. Received: {np.array2string(spin_mass, threshold=8)}"
            )
        if lattice_bath and not lattice:
            raise ValueError("A bath of the lattice needs lattice=True.")
        self.fields = fields
        self.timestep = timestep
        self.spin_mass = spin_mass
        self.spin_range = None if spin_range is None else np.asarray(spin_range)
        self.refuse = refuse
        self.lattice = lattice
        self.lattice_bath = lattice_bath
        self.spin_bath = spin_bath
        self.barostat = barostat
        self.evaluations = 0
        self._warned = False

    def step(self, state: State) -> None:
        """Make one step.

        Raises
        ------
        DynamicsError
            Numbers ceased to be finite, or a modulus left `spin_range`. The state is
            as it was before.
        """
        check_barostat(self.barostat, self.lattice, state)
        time, half = self.timestep, self.timestep / 2
        box, chain = state.box, state.lattice_chain
        coord, velocity, spin = state.coord, state.velocity, state.spin
        spin_velocity = state.spin_velocity
        if spin_velocity is None:
            spin_velocity = np.zeros_like(spin)
        spin = spin + half * spin_velocity
        if self.lattice:
            coord = coord + half * velocity
        fields = fields_of(self.fields, self.barostat, state)
        found = fields(coord, spin, state.time + half)
        self.evaluations += 1
        spin_velocity, spin_chain = self._kick(state, spin_velocity, found.force_mag)
        spin = spin + half * spin_velocity
        if self.lattice:
            bath = now(self.lattice_bath, state.time + half)
            velocity, chain = kick(state, velocity, found.force, time, bath)
            if self.barostat is not None:
                virial = virial_of(found, self.barostat)
                box, coord, velocity = now(self.barostat, state.time + half).rescale(
                    state, coord, velocity, virial, time
                )
            coord = coord + half * velocity
        check_finite(state, time, velocity=velocity, spin=spin, coord=coord)
        self._check_range(state, spin)
        state.coord, state.velocity, state.box = coord, velocity, box
        state.spin, state.spin_velocity = spin, spin_velocity
        state.lattice_chain, state.spin_chain = chain, spin_chain
        state.step += 1
        state.time += time

    def _kick(
        self, state: State, velocity: np.ndarray, force: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Velocities of the spins after a step in these forces, and their chain."""
        inertia, chain = _inertia(self.spin_mass), state.spin_chain
        gain = self.timestep / 2 * force / inertia[:, None]
        velocity = velocity + gain
        bath = now(self.spin_bath, state.time + self.timestep / 2)
        if isinstance(bath, NoseHoover):
            given = (self.spin_mass, chain, spin_dof(self.spin_mass), self.timestep)
            velocity, chain = bath.drive(velocity, *given)
        elif bath is not None:
            normals = state.normals("spin")
            velocity = bath.forget(velocity, inertia, normals, self.timestep)
        return velocity + gain, chain

    def _check_range(self, state: State, spin: np.ndarray) -> None:
        if self.spin_range is None:
            return
        modulus = np.linalg.norm(spin, axis=2)
        low, high = self.spin_range.T
        outside = ((modulus < low) | (modulus > high)) & (self.spin_mass > 0)
        if not outside.any() or (self._warned and not self.refuse):
            return
        replica, atom = np.argwhere(outside)[0]
        message = (
            f"Step {state.step}: the spin of atom {atom} of replica {replica} has a "
            f"modulus of {modulus[replica, atom]:.3g} μ_B; the model was trained on "
            f"{low[atom]:.3g} to {high[atom]:.3g}"
        )
        if self.refuse:
            raise DynamicsError(
                f"{message}. Train on more moduli, cool down, or go on at your own "
                "risk with refuse=False."
            )
        self._warned = True
        log.warning("%s; what it says there means little", message)


def thermal_spin_velocity(
    state: State, temperature: float | np.ndarray, spin_mass: np.ndarray
) -> np.ndarray:
    """Draw velocities of the spins from the Maxwell distribution.

    Parameters
    ----------
    state : State
        Gives random numbers.
    temperature : float or np.ndarray, shape (nrep,)
        Temperature in K.
    spin_mass : np.ndarray, shape (nloc,)
        In eV fs²/μ_B², 0 on atoms without spin.

    Returns
    -------
    np.ndarray
        In μ_B/fs, shape (nrep, nloc, 3).
    """
    inertia = _inertia(np.asarray(spin_mass, dtype=float))
    width = thermal_width(temperature, state.nrep, inertia)
    return width * state.normals("spin velocity")


def spin_dof(spin_mass: np.ndarray) -> int:
    """Degrees of freedom of the spins that have an inertia, of one replica."""
    return 3 * int(np.count_nonzero(spin_mass))


def _inertia(spin_mass: np.ndarray) -> np.ndarray:
    """Masses, infinite where there is no spin."""
    return np.where(spin_mass > 0, spin_mass, np.inf)
