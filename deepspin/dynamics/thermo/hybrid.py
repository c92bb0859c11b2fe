# SPDX-License-Identifier: Apache-2.0
"""Hybrid Monte Carlo: trajectories of all atoms and spins, accepted or rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.fields import Fields, Response
from deepspin.dynamics.core.state import (
    State,
    thermal_energy,
    thermal_velocity,
    thermal_width,
    without_drift,
)
from deepspin.dynamics.thermo.motion import Motion, motion_of
from deepspin.dynamics.thermo.sampling import Outcome

# if an atom moves further (Å) in a leap, the trajectory is lost
FARTHEST = 0.3
# timestep to begin with, in fs, and how much it varies from trajectory to trajectory
FIRST_TIMESTEP, JITTER = 1.0, 0.15
# angular frequencies in 1/fs: least one of atoms, and that of spins among still atoms
LEAST_FREQUENCY, SPIN_FREQUENCY = 0.02, 0.1
# the correction of the timestep after n trajectories goes with 1/n to this power
SLOWING = 0.6
# second word of the counters of uniform random numbers; that of a state's normals is 0
_UNIFORM = 1


@dataclass(frozen=True)
class Phase:
    """Where atoms and spins are, and how they move.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nrep, nloc, 3)
        In Å and μ_B.
    velocity : np.ndarray, shape (nrep, nloc, 3)
        Of the atoms, in Å/fs.
    turning : np.ndarray, shape (nrep, nloc, 3)
        Velocity of the spins, see `motion.Motion`.
    """

    coord: np.ndarray
    spin: np.ndarray
    velocity: np.ndarray
    turning: np.ndarray

    def drifted(self, time: np.ndarray, motion: Motion) -> Phase:
        """Move freely for a time (fs), (nrep, 1, 1)."""
        spin, turning = motion.drifted(self.spin, self.turning, time)
        coord = self.coord + time * self.velocity
        return Phase(coord, spin, self.velocity, turning)


class HybridMonteCarlo:
    r"""Hybrid Monte Carlo of positions and of spins.

    Each move draws velocities of the atoms and of the directions :math:`e` of the spins
    (across these) from Maxwell's distribution and follows the equations of motion of

    .. math::

        H = V(R, S) + \sum \tfrac12 m |\dot R|^2 + \sum \tfrac12 I |\dot e|^2

    by leapfrog, spins going along great circles between two kicks [1]_. That map keeps
    volume and is its own inverse after the velocities are reversed, so that accepting
    its end with the probability :math:`\min(1, e^{-\Delta H/k_B T})` keeps Boltzmann's
    distribution exactly, whatever the timestep. A move takes `leaps` evaluations of the
    Hamiltonian for all replicas. Replicas of neighbouring temperatures then try to
    exchange all they are [2]_.

    With `moduli` that move, spins are vectors that go straight on; of the measures
    see `deepspin.dynamics.thermo.motion`. Trajectories that leave `spin_range` are
    rejected, so that moduli keep to it.

    Timesteps (one for each replica) and the inertia I of the spins are adapted while
    `advance` is told to tune: I such that spins swing as fast as the atoms do, the
    timesteps for the wanted acceptance. What is sampled then counts as equilibration.

    Parameters
    ----------
    fields : Fields
        The Hamiltonian; its time is always 0.
    temperature : sequence of float, shape (nrep,)
        In K, one for each replica, rising for `exchange`.
    lattice : bool
        Whether the atoms move.
    leaps : int
        Leaps of a trajectory.
    exchange : bool
        Whether replicas of neighbouring temperatures are exchanged.
    acceptance : float
        Part of the trajectories that shall be accepted.
    moduli : str
        ``fixed``; or, for moduli that move, the measure: ``vector`` (S² dS dΩ),
        ``linear`` (S dS dΩ) or ``scalar`` (dS dΩ).
    spin_range : np.ndarray, shape (nloc, 2), optional
        Moduli in μ_B, smallest and largest, that the model knows.

    Attributes
    ----------
    timestep : np.ndarray, shape (nrep,)
        In fs; single trajectories are up to 15 % faster or slower.
    evaluations : int
        Calls of `fields` so far.
    left : np.ndarray, shape (nrep,)
        Trajectories that left `spin_range` since timesteps were last adapted.

    References
    ----------
    .. [1] S. Byrne, M. Girolami, Scand. J. Stat. 40, 825 (2013).
    .. [2] K. Hukushima, K. Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).
    """

    def __init__(
        self,
        fields: Fields,
        temperature: Sequence[float] | np.ndarray,
        *,
        lattice: bool = True,
        leaps: int = 10,
        exchange: bool = True,
        acceptance: float = 0.7,
        moduli: str = "fixed",
        spin_range: np.ndarray | None = None,
    ):
        kelvin = np.array(temperature, dtype=float)
        if kelvin.ndim != 1 or not (np.isfinite(kelvin) & (kelvin > 0)).all():
            raise ValueError(
                "`temperature` must be a list of numbers > 0 in K. Received: "
                f"{kelvin.tolist()}"
            )
        if exchange and not (np.diff(kelvin) > 0).all():
            raise ValueError(
                "`temperature` must rise from replica to replica if these are to be "
                f"exchanged. Received: {kelvin.tolist()}"
            )
        if leaps < 1 or not 0 < acceptance < 1:
            raise ValueError(
                "`leaps` must be at least 1, and `acceptance` between 0 and 1. "
                f"Received: {leaps} and {acceptance}"
            )
        self.fields = fields
        self.temperature = kelvin
        self.lattice = lattice
        self.leaps = leaps
        self.exchange = exchange
        self.acceptance = acceptance
        self.motion = motion_of(moduli, spin_range)
        self.left = np.zeros(len(kelvin), dtype=int)
        self.timestep = np.full(len(kelvin), FIRST_TIMESTEP)
        self.evaluations = 0
        self._tuned = 0
        self._frequency = 0.0
        self._inertia: np.ndarray | None = None
        self._response: Response | None = None

    def response(self, state: State) -> Response:
        """Energies and forces of the present state; evaluated once."""
        if self._response is None:
            self._response = self._evaluate(state.coord, state.spin)
        return self._response

    def advance(self, state: State, *, tune: bool = False) -> Outcome:
        """Make one trajectory of all replicas, and try exchanges.

        Parameters
        ----------
        state : State
            As many replicas as temperatures; changed, but for its velocities.
        tune : bool
            Adapt timesteps and inertia.
        """
        self._check(state)
        before = self.response(state)
        if tune:
            self.left = np.zeros_like(self.left)
        if tune or self._inertia is None:
            self._learn_inertia(state, before)
        draws = _uniforms(state, 3)
        start = self.start(state)
        pace = self.timestep * (1 + JITTER * (2 * draws[:, 1] - 1))
        end, after, lost = self.follow(state, start, before, pace)
        change = self.energy(state, end, after) - self.energy(state, start, before)
        energy = units.K_B * self.temperature
        with np.errstate(invalid="ignore"):
            change = np.where(np.isfinite(change) & ~lost, change, np.inf)
        acceptance = np.exp(-np.maximum(change, 0.0) / energy)
        chosen = draws[:, 0] < acceptance
        state.coord = _choose(chosen, end.coord, start.coord)
        state.spin = _choose(chosen, end.spin, start.spin)
        self._response = _each(partial(_choose, chosen), after, before)
        if tune:
            self._learn_timestep(acceptance)
        exchange = self._exchange(state, draws[:, 2])
        state.step += 1
        return Outcome(acceptance, exchange)

    # --- Trajectories -----------------------------------------------------------------

    def start(self, state: State) -> Phase:
        """Draw velocities for the present state."""
        magnetic = state.spin.any(axis=2, keepdims=True)
        drawn = self.motion.start(state.spin, state.normals("spin velocity"))
        width = thermal_width(self.temperature, state.nrep, self._inertia)
        velocity = np.zeros_like(state.coord)
        if self.lattice:
            velocity = thermal_velocity(state, self.temperature)
        turning = np.where(magnetic, width * drawn, 0.0)
        return Phase(state.coord, state.spin, velocity, turning)

    def energy(self, state: State, phase: Phase, response: Response) -> np.ndarray:
        """Potential, of the measure, too, and kinetic energy in eV, shape (nrep,)."""
        atoms = units.AMU * state.mass * (phase.velocity**2).sum(axis=2)
        spins = self._inertia * (phase.turning**2).sum(axis=2)
        measure = self.motion.potential(phase.spin, self._thermal)
        return response.energy + measure + (atoms + spins).sum(axis=1) / 2

    @property
    def _thermal(self) -> np.ndarray:
        return thermal_energy(self.temperature, len(self.temperature))

    def follow(
        self, state: State, start: Phase, response: Response, timestep: np.ndarray
    ) -> tuple[Phase, Response, np.ndarray]:
        """Follow a trajectory of all replicas.

        Parameters
        ----------
        state : State
            Gives masses and what is fixed.
        start, response : Phase, Response
            Where it begins.
        timestep : np.ndarray, shape (nrep,)
            In fs.

        Returns
        -------
        Phase, Response
            Its end.
        np.ndarray of bool, shape (nrep,)
            Replicas in which an atom went too far in a leap, or a modulus beyond its
            range. They are at their start.
        """
        time = np.reshape(timestep, (-1, 1, 1))
        lost = np.zeros(state.nrep, dtype=bool)
        phase = self._kicked(state, start, response, time / 2)
        for leap in range(self.leaps):
            moved = phase.drifted(time, self.motion)
            move = np.abs(moved.coord - phase.coord).max(axis=(1, 2))
            outside = self.motion.outside(moved.spin)
            self.left = self.left + (outside & ~lost)
            lost |= ~(move < FARTHEST) | outside
            phase = _each(partial(_choose, ~lost), moved, start)
            response = self._evaluate(phase.coord, phase.spin)
            last = leap == self.leaps - 1
            phase = self._kicked(state, phase, response, time / 2 if last else time)
        return phase, response, lost

    def _kicked(
        self, state: State, phase: Phase, response: Response, time: np.ndarray
    ) -> Phase:
        """Change velocities by the forces that act for a time."""
        push = self.motion.push(phase.spin, response.force_mag, self._thermal)
        turning = phase.turning + time * push / self._inertia[:, None]
        turning = np.where(state.spin.any(axis=2, keepdims=True), turning, 0.0)
        phase = replace(phase, turning=turning)
        if not self.lattice:
            return phase
        gain = time * response.force / (units.AMU * state.mass[:, None])
        gain = np.where(state.fixed[:, None], 0.0, gain)
        gain = without_drift(gain, state.mass) if state.still else gain
        return replace(phase, velocity=phase.velocity + gain)

    def _evaluate(self, coord: np.ndarray, spin: np.ndarray) -> Response:
        self.evaluations += 1
        return replace(self.fields(coord, spin, 0.0), virial=None)

    # --- Exchange ---------------------------------------------------------------------

    def _exchange(self, state: State, draws: np.ndarray) -> np.ndarray:
        """Try exchanges of neighbours, of even and of odd pairs in turn."""
        tried = np.full(state.nrep - 1, np.nan)
        if not self.exchange:
            return tried
        beta = 1 / (units.K_B * self.temperature)
        gain = np.diff(beta) * np.diff(self._response.energy)
        order = np.arange(state.nrep)
        for low in range(state.step % 2, state.nrep - 1, 2):
            tried[low] = np.exp(min(0.0, gain[low]))
            if draws[low] < tried[low]:
                order[[low, low + 1]] = low + 1, low
        state.coord, state.spin = state.coord[order], state.spin[order]
        self._response = _each(lambda values: values[order], self._response)
        return tried

    # --- Tuning -----------------------------------------------------------------------

    def _learn_inertia(self, state: State, response: Response) -> None:
        """Learn how stiff the spins of each type are, and how fast the atoms swing.

        In equilibrium, <F^2/m> = k_B T x (frequency)^2 for each degree of freedom; the
        spins' stiffness is that of their motion. Later moves count more.
        """
        energy = self._thermal
        stiffness = self.motion.stiffness(state.spin, response.force_mag, energy)
        members = np.eye(state.atype.max() + 1)[state.atype]
        members = members * state.spin[0].any(axis=1)[:, None]
        number = np.maximum(members.sum(axis=0), 1.0)
        found = stiffness[..., 0].mean(axis=0) @ members / number
        found = np.maximum(found, energy.mean())
        square = SPIN_FREQUENCY**2
        if self.lattice and state.dof:
            free = response.force[:, ~state.fixed] ** 2
            rates = free / (units.AMU * state.mass[~state.fixed, None]) / energy
            square = rates.sum(axis=(1, 2)).mean() / state.dof
            square = max(square, LEAST_FREQUENCY**2)
        share = 2 / (self._tuned + 2)
        self._frequency += share * (np.sqrt(square) - self._frequency)
        inertia = found[state.atype] / self._frequency**2
        before = 0.0 if self._inertia is None else self._inertia
        self._inertia = before + share * (inertia - before)

    def _learn_timestep(self, acceptance: np.ndarray) -> None:
        """Correct the timesteps after a move, by less each time."""
        self._tuned += 1
        error = (acceptance - self.acceptance) / self._tuned**SLOWING
        longest = 1 / self._frequency
        self.timestep = np.minimum(self.timestep * np.exp(error), longest)

    # --- Restart ----------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a restart needs beside the state."""
        kept = {
            "timestep": self.timestep,
            "evaluations": np.array(self.evaluations),
            "tuned": np.array(self._tuned),
            "frequency": np.array(self._frequency),
            "left": self.left,
        }
        if self._inertia is not None:
            kept["inertia"] = self._inertia
        if self._response is not None:
            for name in ("energy", "force", "force_mag"):
                kept[name] = getattr(self._response, name)
        return kept

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` of another sampler gave."""
        self.timestep = arrays["timestep"]
        self.evaluations = int(arrays["evaluations"])
        self._tuned = int(arrays["tuned"])
        self._frequency = float(arrays["frequency"])
        self._inertia = arrays.get("inertia")
        self.left = arrays.get("left", self.left)
        if "energy" in arrays:
            self._response = Response(
                arrays["energy"], arrays["force"], arrays["force_mag"]
            )

    def _check(self, state: State) -> None:
        if state.nrep != len(self.temperature):
            raise ValueError(
                "The state must have a replica for each temperature. Received: "
                f"{state.nrep} replicas, {len(self.temperature)} temperatures"
            )
        if self.exchange and state.box is not None and np.ptp(state.box, axis=0).any():
            raise ValueError(
                "Replicas of different cells cannot be exchanged. Use one cell, or "
                "exchange=False."
            )


def _uniforms(state: State, number: int) -> np.ndarray:
    """Random numbers from 0 to 1, (nrep, number), of the present step and each stream.

    Others than those behind `State.normals`.
    """
    draws = []
    for stream in state.stream:
        key = np.array([state.seed, stream], np.uint64)
        counter = np.array([0, _UNIFORM, 0, state.step], np.uint64)
        bits = np.random.Philox(key=key, counter=counter)
        draws.append(np.random.Generator(bits).random(number))
    return np.stack(draws)


def _choose(chosen: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Values of some replicas from one array, of the others from another."""
    return np.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _each(rule: Callable[..., np.ndarray], *objects: Any) -> Any:
    """Apply a rule to each array of objects of one class."""
    values = {
        name: None if value is None else rule(*(getattr(o, name) for o in objects))
        for name, value in vars(objects[0]).items()
    }
    return type(objects[0])(**values)
