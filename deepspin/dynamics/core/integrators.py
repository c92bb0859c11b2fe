# SPDX-License-Identifier: Apache-2.0
r"""Spin-lattice dynamics with spins of fixed modulus.

.. math::

    \dot R = P/m, \quad \dot P = F, \quad
    \dot S = -\frac{2}{\hbar} S \times F_\mathrm{mag}

with :math:`F = -\partial E/\partial R`, :math:`F_\mathrm{mag} = -\partial E/\partial S`
(S in μ_B, g = 2), and baths for the lattice and for the spins.
"""

from __future__ import annotations

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.barostat import (
    CellRescaling,
    check_barostat,
    fields_of,
    virial_of,
)
from deepspin.dynamics.core.baths import Gilbert, LatticeBath, kick
from deepspin.dynamics.core.fields import Fields
from deepspin.dynamics.core.ramps import held, now
from deepspin.dynamics.core.sphere import cross, dot, midpoint, modulus_of, rotate_by
from deepspin.dynamics.core.state import DynamicsError, State, thermal_energy

# keep the fields of so many steps, to guess those of the next
KEPT = 8
# most iterations for the spins of one step
MAX_ITERATIONS = 30
# largest error of the spins of one step, relative to their moduli: without baths (it
# adds some 1e-8 eV/atom/ps to the drift of NiO's energy) and with them (averages show
# no difference even at 1e-2)
TOLERANCE = 1e-8
TOLERANCE_IN_BATH = 1e-4
# rounding errors: changes below this that half of the iterations have not made smaller
# by this factor
ROUNDING = 1e-5
STALLED = 0.1
# largest rotation of a spin in a step, in radians
MAX_TURN = 1.0
# the rate of convergence is measured where a step takes two iterations or more; else it
# is taken to worsen by this in each step, until it is measured anew
FORGET = 1.05
# the stiffness of spins on their own is an average over so many steps; it changes the
# rotation of a step by no more radians than this
STIFF_STEPS = 10
MAX_STIFF = 0.5


class Integrator:
    r"""Moves positions, velocities and spins together.

    One step, for a Hamiltonian :math:`\sum P^2/2m + V(R, S)`: half a drift of R; then,
    with R fixed, P and S move in V alone by the midpoint rule, then the other half
    of the drift. For S that is the spherical midpoint rule [1]_

    .. math::

        S' - S = \Delta t\, \Omega(w) \times w, \quad
        w = |S| \frac{S + S'}{|S + S'|}, \quad
        \Omega = \frac{2}{\hbar} F_\mathrm{mag}(R, w)

    and P takes its force from the same (R, w). The map is symplectic, its own inverse
    when time runs backwards, of second order, and keeps moduli of spins, momentum and
    angular momentum :math:`\sum R \times P - (\hbar/2) S`. The rule is implicit in the
    spins alone; it is iterated from magnetic forces extrapolated from the last steps:
    one to three evaluations a step, whatever the number of spins. Any multiple of w may
    be added to :math:`F_\mathrm{mag}`, for :math:`w \times w = 0`: adding what a spin's
    own stiffness takes away as the spin turns halves the rate of convergence. None of
    the evaluations is at the end of a step: ask `fields` there only for what is written
    out.

    A lattice bath acts in the middle of the kick [2]_. A spin bath adds Gilbert's
    damping to Ω, :math:`\Omega \to (\Omega + \alpha\, \hat w \times \Omega)/(1 +
    \alpha^2)`, and random rotations before and after, whose strength follows from
    fluctuation and dissipation [3]_: :math:`D = \alpha k_B T (2/\hbar) / ((1 +
    \alpha^2) |S|)`.

    Parameters
    ----------
    fields : Fields
        The Hamiltonian.
    timestep : float
        In fs; negative runs back in time, without baths.
    lattice, spins : bool
        Whether positions and spins move.
    lattice_bath : Langevin, NoseHoover or QuantumBath, optional
        Heat bath of the positions.
    spin_bath : Gilbert, optional
        Heat bath of the spins.
    barostat : CellRescaling, optional
        Moves the cells, too. The Hamiltonian must tell virials and have ``in_box``, as
        `ModelFields` does.
    tolerance : float, optional
        Largest error of the spins of a step relative to their moduli, from 1e-15 to
        0.1; by default 1e-8, and 1e-4 in baths. Models of single precision cannot do
        better than 1e-7.

    Attributes
    ----------
    evaluations : int
        Calls of `fields` so far.

    References
    ----------
    .. [1] R. I. McLachlan, K. Modin, O. Verdier, Phys. Rev. E 89, 061301 (2014).
    .. [2] B. Leimkuhler, C. Matthews, Appl. Math. Res. eXpress 2013, 34 (2013).
    .. [3] J. L. García-Palacios, F. J. Lázaro, Phys. Rev. B 58, 14937 (1998).
    """

    def __init__(
        self,
        fields: Fields,
        timestep: float,
        *,
        lattice: bool = True,
        spins: bool = True,
        lattice_bath: LatticeBath | None = None,
        spin_bath: Gilbert | None = None,
        barostat: CellRescaling | None = None,
        tolerance: float | None = None,
    ):
        check_timestep(timestep, lattice_bath or spin_bath or barostat)
        if (lattice_bath and not lattice) or (spin_bath and not spins):
            raise ValueError(
                "A bath needs something that moves. Received: "
                f"lattice={lattice}, lattice_bath={lattice_bath}, spins={spins}, "
                f"spin_bath={spin_bath}"
            )
        if tolerance is None:
            tolerance = TOLERANCE_IN_BATH if lattice_bath or spin_bath else TOLERANCE
        if not 1e-15 <= tolerance <= 0.1:
            raise ValueError(
                f"`tolerance` must be from 1e-15 to 0.1. Received: {tolerance}"
            )
        self.fields = fields
        self.timestep = timestep
        self.lattice = lattice
        self.spins = spins
        self.lattice_bath = lattice_bath
        self.spin_bath = spin_bath
        self.barostat = barostat
        self.tolerance = tolerance
        self.evaluations = 0

    def step(self, state: State) -> None:
        """Make one step.

        Raises
        ------
        DynamicsError
            The spins did not converge or numbers ceased to be finite. The state is as
            it was before.
        """
        check_barostat(self.barostat, self.lattice, state)
        half = self.timestep / 2
        coord, velocity, spin = state.coord, state.velocity, state.spin
        box, virial, chain = state.box, None, state.lattice_chain
        if self.lattice:
            coord = coord + half * velocity
        if self.spins:
            spin = self._shake(state, spin, "spin")
            spin, force, virial, learnt = self._turn(state, coord, spin)
            spin = self._shake(state, spin, "spin again")
        else:
            force, _, virial = self._respond(state, coord, spin)
            learnt = {}
        if self.lattice:
            bath = now(self.lattice_bath, state.time + half)
            velocity, chain = kick(state, velocity, force, self.timestep, bath)
            if self.barostat is not None:
                barostat = now(self.barostat, state.time + half)
                box, coord, velocity = barostat.rescale(
                    state, coord, velocity, virial, self.timestep
                )
            coord = coord + half * velocity
        check_finite(state, self.timestep, velocity=velocity, spin=spin, coord=coord)
        state.coord, state.velocity, state.spin = coord, velocity, spin
        state.box, state.lattice_chain = box, chain
        for name, array in learnt.items():
            setattr(state, name, array)
        state.step += 1
        state.time += self.timestep

    def _respond(
        self, state: State, coord: np.ndarray, spin: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Force, magnetic force and virial in the middle of the step."""
        self.evaluations += 1
        fields = fields_of(self.fields, self.barostat, state)
        found = fields(coord, spin, state.time + self.timestep / 2)
        return found.force, found.force_mag, virial_of(found, self.barostat)

    def _turn(
        self, state: State, coord: np.ndarray, spin: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Turn spins by the midpoint rule.

        Returns new spins, forces, virials and what was learnt for the next steps. A
        replica that has converged does not change any more, so that it does not matter
        which others there are.
        """
        guess, modulus = self._guess(state, coord, spin), modulus_of(spin)
        turned, middle = midpoint(spin, self._rotation(guess, spin, modulus))
        best: tuple[np.ndarray, ...] = (
            np.zeros_like(spin),
            *(guess, np.zeros((state.nrep, 3, 3)), middle, turned, middle),
        )
        rate = np.minimum(1.0, FORGET * state.rate)
        stiffness = state.stiffness
        change: np.ndarray = np.zeros(state.nrep)
        halfway = change
        active = np.ones(state.nrep, dtype=bool)
        for iteration in range(MAX_ITERATIONS):
            before, middle = best[3], best[5]
            found = self._respond(state, coord, middle)
            more = self._stiff(stiffness) * middle
            new = midpoint(spin, self._rotation(found[1] + more, middle, modulus))
            moved = (np.abs(new[1] - middle) / modulus).max(axis=(1, 2))
            if iteration:
                np.divide(moved, change, out=rate, where=active)
                rate = np.minimum(1.0, rate)
            if iteration == 1:
                seen = _stiffness(middle, middle - before, found[1] - best[1])
                stiffness = np.where(active, _learn(stiffness, seen), stiffness)
            change = np.where(active, moved, change)
            if iteration == MAX_ITERATIONS // 2:
                halfway = change
            best = tuple(
                np.where(active[:, None, None], ours, old)
                for ours, old in zip((*found, middle, *new), best, strict=True)
            )
            active &= ~(change * rate <= self.tolerance)
            if not (active.any() and np.isfinite(change).all()):
                break
        if active.any():
            raise self._diverged(state, active, change, halfway)
        force, force_mag, virial, middle, turned, _ = best
        self._check_turn(state, force_mag)
        learnt = {
            "history": _newest(force_mag, state.history),
            "middles": _newest(middle, state.middles),
            "rate": rate,
            "stiffness": stiffness,
        }
        return turned, force, virial, learnt

    def _stiff(self, stiffness: np.ndarray) -> np.ndarray:
        """Stiffness (eV/μ_B²) as far as it may act, shape (nrep, 1, 1)."""
        most = MAX_STIFF / (abs(self.timestep) * units.PRECESSION)
        return np.clip(stiffness, -most, most)[:, None, None]

    def _guess(self, state: State, coord: np.ndarray, spin: np.ndarray) -> np.ndarray:
        """Guess the magnetic force in the middle of the step.

        What goes along the spin there is left out, as far as stiffness tells it.
        """
        if len(state.history):
            stiff = self._stiff(state.stiffness)
            return extrapolate(state.history + stiff * state.middles)
        return self._respond(state, coord, spin)[1]

    def _rotation(
        self, force_mag: np.ndarray, middle: np.ndarray, modulus: np.ndarray
    ) -> np.ndarray:
        """Angular velocity of the spins times the timestep."""
        turn = self.timestep * units.PRECESSION * force_mag
        if self.spin_bath is None:
            return turn
        damping = self.spin_bath.damping
        drag = damping / modulus * cross(middle, turn)
        return (turn + drag) / (1 + damping**2)

    def _shake(self, state: State, spin: np.ndarray, purpose: str) -> np.ndarray:
        r"""Turn spins at random for half a timestep.

        The variance s of a component of the rotation is that of Brownian motion on the
        sphere to second order: a Gaussian rotation of variance s diffuses like one of
        :math:`s + s^2/12` in time.
        """
        bath = now(self.spin_bath, state.time + self.timestep / 2)
        if bath is None or not bath.noisy:
            return spin
        damping = bath.damping
        energy = thermal_energy(held(bath.temperature), state.nrep)
        strength = damping * units.PRECESSION / (1 + damping**2) * energy
        strength = strength / modulus_of(spin)
        variance = 6 * (np.sqrt(1 + strength * self.timestep / 3) - 1)
        return rotate_by(spin, np.sqrt(variance) * state.normals(purpose))

    def _check_turn(self, state: State, force_mag: np.ndarray) -> None:
        """Refuse steps in which a spin turns too far to follow."""
        rate = units.PRECESSION * np.sqrt(dot(force_mag, force_mag))[..., 0]
        rate = np.where(state.spin.any(axis=2), rate, 0.0)
        replica, atom = np.unravel_index(np.argmax(rate), rate.shape)
        turn = abs(self.timestep) * rate[replica, atom]
        if turn > MAX_TURN:
            raise DynamicsError(
                f"Step {state.step}: the spin of atom {atom} of replica {replica} "
                f"turns by {turn:.2g} radians in a step. Received: a timestep of "
                f"{self.timestep:g} fs. Use {0.2 / rate[replica, atom]:.1g} fs."
            )

    def _diverged(
        self,
        state: State,
        active: np.ndarray,
        change: np.ndarray,
        halfway: np.ndarray,
    ) -> DynamicsError:
        """Make the error for spins with these changes, last and halfway."""
        replica = int(np.flatnonzero(active)[0])
        last = change[replica]
        text = (
            f"Step {state.step}: the spins of replica {replica} did not converge in "
            f"{MAX_ITERATIONS} iterations (last change: {last:.1e} of their moduli). "
            f"Received: a timestep of {self.timestep:g} fs. "
        )
        if STALLED * halfway[replica] < last < ROUNDING:
            return DynamicsError(
                f"{text}Magnetic forces are not exact enough for a `tolerance` of "
                f"{self.tolerance:g}: 1e-7 suits models of single precision."
            )
        return DynamicsError(
            f"{text}Use a smaller one, such as {self.timestep / 5:g} fs. If that does "
            "not help, look at the start: atoms too near, or spins of moduli that the "
            "model does not know, have magnetic forces that are too large."
        )


def _newest(array: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Put an array before earlier ones and drop the oldest."""
    return np.concatenate([array[None], history[: KEPT - 1]])


def _stiffness(
    spin: np.ndarray, change: np.ndarray, change_of_force: np.ndarray
) -> np.ndarray:
    """How much a spin's turn reduces its own magnetic force, in eV/μ_B².

    Shape (nrep,), the mean over spins; NaN if none has turned.
    """
    across = change - dot(change, spin) / modulus_of(spin) ** 2 * spin
    square = (across**2).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return -(across * change_of_force).sum(axis=(1, 2)) / square


def _learn(stiffness: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Average of the last steps, with what was seen in this one."""
    seen = np.where(np.isfinite(seen), seen, stiffness)
    weight = np.where(stiffness == 0, 1.0, 1 / STIFF_STEPS)
    return stiffness + weight * (seen - stiffness)


def check_timestep(timestep: float, bath: object) -> None:
    """Refuse timesteps of 0, NaN or infinity, and backward ones in a bath."""
    if not np.isfinite(timestep) or timestep == 0 or (bath and timestep < 0):
        raise ValueError(
            "`timestep` must be a positive number of fs (negative, to run back in "
            f"time, only without baths). Received: {timestep}"
        )


def check_finite(state: State, timestep: float, **arrays: np.ndarray) -> None:
    """Refuse results of a step, (nrep, nloc, 3) each, that are NaN or infinite."""
    for name, array in arrays.items():
        bad = ~np.isfinite(array).all(axis=2)
        if bad.any():
            replica, atom = np.argwhere(bad)[0]
            raise DynamicsError(
                f"Step {state.step}: `{name}` of atom {atom} of replica {replica} is "
                f"no longer finite. Received: a timestep of {timestep:g} fs. Use a "
                "smaller one, or a better start: look at the last frame."
            )


def extrapolate(history: np.ndarray) -> np.ndarray:
    r"""Guess the next of some arrays that change smoothly.

    The polynomial through the last k is :math:`\sum_{j<k} \nabla^j h`, with backward
    differences; it would have missed the newest one by :math:`\nabla^k h`. The order k
    for which this is smallest is taken, for each replica.

    Parameters
    ----------
    history : np.ndarray, shape (n, nrep, nloc, 3)
        The newest first.

    Returns
    -------
    np.ndarray
        Shape (nrep, nloc, 3).
    """
    best = guess = history[0]
    smallest = np.full(len(guess), np.inf)
    differences = history[:-1] - history[1:]
    while len(differences):
        missed = np.abs(differences[0]).max(axis=(1, 2))
        best = np.where((missed < smallest)[:, None, None], guess, best)
        smallest = np.minimum(smallest, missed)
        guess = guess + differences[0]
        differences = differences[:-1] - differences[1:]
    return best
