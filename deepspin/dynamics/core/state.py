# SPDX-License-Identifier: Apache-2.0
"""Atoms and spins at one instant, and everything a restart needs.

Letters of the shapes: ``nrep`` replicas of the same atoms, ``nloc`` atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from deepspin.atoms import units

# purposes of random numbers, each with its own; restarts depend on the order
PURPOSES = (
    *("velocity", "spin velocity", "lattice", "spin", "spin again"),
    *("spin temperature", "cell", "bath"),
)


class DynamicsError(RuntimeError):
    """A step that cannot be made. The state stays as it was before."""


@dataclass(kw_only=True)
class State:
    """Replicas of one system.

    Integrators put new arrays in the place of old ones and never write into them.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nrep, nloc, 3)
        Positions in Å, wrapped or not, and spins in μ_B (0 on types without spin).
    mass : np.ndarray, shape (nloc,)
        Masses in amu.
    atype : np.ndarray of int, shape (nloc,)
        Types.
    velocity : np.ndarray, shape (nrep, nloc, 3), optional
        Velocities in Å/fs; 0 if not given.
    spin_velocity : np.ndarray, shape (nrep, nloc, 3), optional
        Velocities of the spins in μ_B/fs, for the dynamics of their moduli only.
    box : np.ndarray, shape (nrep, 3, 3), optional
        Lattice vectors in rows, in Å; None for open boundaries.
    fixed : np.ndarray of bool, shape (nloc,), optional
        Atoms that stay where they are (their spins may turn); none if not given.
    still : bool
        The centre of mass rests and baths keep it at rest: 3 degrees of freedom less.
    seed : int
        Seed of all random numbers, at least 0.
    stream : np.ndarray of int, shape (nrep,), optional
        Number of each replica's stream of random numbers; 0, 1, ... if not given.
    step : int
        Steps made.
    time : float
        Time in fs.
    history : np.ndarray, shape (k, nrep, nloc, 3), optional
        Magnetic forces (eV/μ_B) in the middle of the last k steps, the newest first.
    middles : np.ndarray, shape (k, nrep, nloc, 3), optional
        Spins (μ_B) that these belong to.
    lattice_chain, spin_chain : np.ndarray, shape (nrep, 2, k), optional
        Positions and velocities (1/fs) of the links of the baths' chains.
    rate : np.ndarray, shape (nrep,), optional
        How much of the error an iteration for the spins leaves.
    stiffness : np.ndarray, shape (nrep,), optional
        How much a spin's turn reduces its own magnetic force, in eV/μ_B².

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, masses that are not
        positive, moving atoms that are fixed, a negative seed.
    """

    coord: np.ndarray
    spin: np.ndarray
    mass: np.ndarray
    atype: np.ndarray
    velocity: np.ndarray | None = None
    spin_velocity: np.ndarray | None = None
    box: np.ndarray | None = None
    fixed: np.ndarray | None = None
    still: bool = False
    seed: int = 0
    stream: np.ndarray | None = None
    step: int = 0
    time: float = 0.0
    history: np.ndarray | None = field(default=None, repr=False)
    middles: np.ndarray | None = field(default=None, repr=False)
    lattice_chain: np.ndarray | None = field(default=None, repr=False)
    spin_chain: np.ndarray | None = field(default=None, repr=False)
    rate: np.ndarray | None = field(default=None, repr=False)
    stiffness: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if np.ndim(self.coord) != 3 or np.shape(self.coord)[2] != 3:
            raise ValueError(
                "`coord` must have the shape (replicas, atoms, 3). Received: "
                f"{np.shape(self.coord)}"
            )
        nrep, nloc = np.shape(self.coord)[:2]
        if self.velocity is None:
            self.velocity = np.zeros((nrep, nloc, 3))
        if self.fixed is None:
            self.fixed = np.zeros(nloc, dtype=bool)
        if self.stream is None:
            self.stream = np.arange(nrep)
        if self.history is None:
            self.history = self.middles = np.zeros((0, nrep, nloc, 3))
        if self.rate is None:
            self.rate = np.ones(nrep)
        if self.stiffness is None:
            self.stiffness = np.zeros(nrep)
        vectors, atoms = (nrep, nloc, 3), (nloc,)
        self._take("coord", vectors, float)
        self._take("spin", vectors, float)
        self._take("velocity", vectors, float)
        self._take("spin_velocity", vectors, float)
        self._take("box", (nrep, 3, 3), float)
        self._take("mass", atoms, float)
        self._take("atype", atoms, int)
        self._take("fixed", atoms, bool)
        self._take("stream", (nrep,), int)
        for name in ("lattice_chain", "spin_chain"):
            links = np.shape(getattr(self, name))[2:]
            self._take(name, (nrep, 2, *links), float)
        self._take("rate", (nrep,), float)
        self._take("stiffness", (nrep,), float)
        self._take("history", (len(self.history), *vectors), float)
        self._take("middles", (len(self.history), *vectors), float)
        self._check()

    def _take(self, name: str, shape: tuple[int, ...], dtype: type) -> None:
        """Take a copy of an array, checked."""
        if getattr(self, name) is None:
            return
        array: np.ndarray = np.array(getattr(self, name), dtype=dtype)
        if array.shape != shape:
            raise ValueError(
                f"`{name}` must have the shape {shape}. Received: {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` has values that are NaN or infinite.")
        setattr(self, name, array)

    def _check(self) -> None:
        if not (self.mass > 0).all():
            atom = int(np.argmin(self.mass))
            raise ValueError(
                f"Masses must be positive, in amu. Received: {self.mass[atom]} for "
                f"atom {atom}"
            )
        if self.velocity[:, self.fixed].any():
            raise ValueError("Atoms that are fixed must have the velocity 0.")
        if self.still and self.fixed.any():
            raise ValueError(
                "With fixed atoms the centre of mass cannot be held. Received: "
                f"still=True and {np.count_nonzero(self.fixed)} fixed atoms. Use one "
                "of the two."
            )
        if self.seed < 0 or (self.stream < 0).any():
            raise ValueError(
                "`seed` and `stream` must not be negative. Received: "
                f"seed={self.seed}, stream={self.stream.tolist()}"
            )

    @property
    def nrep(self) -> int:
        """Number of replicas."""
        return len(self.coord)

    @property
    def nloc(self) -> int:
        """Number of atoms."""
        return self.coord.shape[1]

    @property
    def dof(self) -> int:
        """Degrees of freedom of the lattice, of one replica."""
        return 3 * int(np.count_nonzero(~self.fixed)) - 3 * self.still

    def forget(self) -> None:
        """Forget what earlier steps taught.

        Call this after changing velocities, spins or positions by hand: what comes next
        no longer follows from those steps.
        """
        self.history, self.middles = self.history[:0], self.middles[:0]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays; `from_arrays` makes the same state of them."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: np.asarray(v) for k, v in named.items() if v is not None}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> State:
        """Build a state from what `arrays` returned, perhaps by way of a file."""
        scalars: dict[str, type] = {
            "still": bool,
            "seed": int,
            "step": int,
            "time": float,
        }
        given: dict[str, Any] = {
            name: scalars[name](array) if name in scalars else array
            for name, array in arrays.items()
        }
        return cls(**given)

    def normals(
        self,
        purpose: str,
        shape: tuple[int, ...] | None = None,
        index: int | None = None,
    ) -> np.ndarray:
        """Random normal numbers of the present step, shape (nrep, ...).

        They depend on the seed, the replica's stream, the step and the purpose, not
        on what was drawn before, nor on the other replicas.

        Parameters
        ----------
        purpose : str
            One of `PURPOSES`: tells apart what is drawn within one step.
        shape : tuple of int, optional
            How many for each replica; a vector for each atom, (nloc, 3), if not given.
        index : int, optional
            Which draw, in the place of the step.
        """
        draws, shape = [], shape or (self.nloc, 3)
        index = self.step if index is None else index
        for stream in self.stream:
            key = [self.seed, stream]
            counter = [0, 0, PURPOSES.index(purpose), index]
            bits = np.random.Philox(
                key=np.array(key, np.uint64), counter=np.array(counter, np.uint64)
            )
            draws.append(
                np.random.Generator(bits).standard_normal(shape or (self.nloc, 3))
            )
        return np.stack(draws)


def without_drift(velocity: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Velocities (nrep, nloc, 3) with the centre of mass at rest."""
    drift = (mass[:, None] * velocity).sum(axis=1, keepdims=True) / mass.sum()
    return velocity - drift


def thermal_velocity(state: State, temperature: float | np.ndarray) -> np.ndarray:
    """Draw velocities of the atoms from the Maxwell distribution.

    Parameters
    ----------
    state : State
        Gives masses, random numbers, what is fixed and whether the centre of mass
        rests.
    temperature : float or np.ndarray, shape (nrep,)
        Temperature in K.

    Returns
    -------
    np.ndarray
        Velocities in Å/fs, shape (nrep, nloc, 3).
    """
    width = thermal_width(temperature, state.nrep, state.mass * units.AMU)
    velocity = width * state.normals("velocity")
    velocity[:, state.fixed] = 0.0
    return without_drift(velocity, state.mass) if state.still else velocity


def thermal_width(
    temperature: float | np.ndarray, nrep: int, inertia: np.ndarray
) -> np.ndarray:
    """Width sqrt(k_B T/m) of a component of velocities, shape (nrep or 1, nloc, 1).

    Parameters
    ----------
    temperature : float or np.ndarray, shape (nrep,)
        Temperature in K.
    nrep : int
        Number of replicas.
    inertia : np.ndarray, shape (nloc,)
        Masses, in eV over the square of the velocities' unit; infinite ones do not
        move.
    """
    return np.sqrt(thermal_energy(temperature, nrep) / inertia[:, None])


def thermal_energy(temperature: float | np.ndarray, nrep: int) -> np.ndarray:
    """k_B T in eV, shape (nrep or 1, 1, 1)."""
    kelvin = np.reshape(temperature, (-1, 1, 1))
    if len(kelvin) not in (1, nrep):
        raise ValueError(
            f"`temperature` must be one number, or one for each of {nrep} replicas. "
            f"Received: {len(kelvin)}"
        )
    return units.K_B * kelvin
