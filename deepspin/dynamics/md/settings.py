# SPDX-License-Identifier: Apache-2.0
"""A complete input of ``dp-spin md`` as typed values, for all that runs it.

Names, units and meanings are those of the input, see `options.md_args`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from deepspin.dynamics.core.ramps import Ramp, at
from deepspin.dynamics.md.options import replicas
from deepspin.dynamics.md.sections import is_ramp

# a number, one for each replica, or rows of a ramp
Temperature = float | Sequence[float] | Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class StructureSettings:
    """Atoms to begin with: the section `structure`."""

    file: str
    frame: int = -1
    repeat: Sequence[int] = (1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class SpinRule:
    """Spins to begin with: an entry of the list `spins`."""

    type: str | None
    atoms: Sequence[int] | None
    modulus: float | None
    direction: Sequence[float] | str | None
    wave_vector: Sequence[float] | None
    axis: Sequence[float] | None


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Equations of motion: the section `ensemble`.

    What a type has no key for is None, or 0: no such bath.
    """

    type: str
    relaxation_time: float | None = None
    damping: float = 0.0
    spin_temperature: Temperature | None = None
    spin_mass: float | Mapping[str, float] | None = None
    spin_relaxation_time: float | None = None
    beyond_range: str = "refuse"
    spectrum: str = "classical"
    spectrum_cutoff: float = 50.0
    thermostat: str = "langevin"
    chain_length: int = 3
    pressure: float | Sequence[float] | None = None
    pressure_relaxation_time: float = 1000.0
    compressibility: float = 0.005
    pressure_coupling: str = "isotropic"

    @property
    def lattice(self) -> bool:
        """Whether atoms move."""
        return self.type != "spin"

    @property
    def spins(self) -> bool:
        """Whether spins turn."""
        return self.type != "lattice"

    @property
    def chained(self) -> bool:
        """Whether baths of what has inertia are chains of Nosé and Hoover."""
        return "nose-hoover" in (self.type, self.thermostat)

    @property
    def inertial(self) -> bool:
        """Whether spins have inertia, so that their moduli move."""
        return self.type == "tspin"


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Files that are written: the section `output`."""

    log: str
    log_freq: int
    trajectory: str | None
    trajectory_freq: int
    restart: str
    restart_freq: int


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What moves, from where, and what acts on it; ``dp-spin thermo`` uses it, too.

    `nrep` is the number of replicas.
    """

    structure: StructureSettings
    spins: Sequence[SpinRule]
    ensemble: Ensemble
    temperature: Temperature
    timestep: float
    seed: int | Sequence[int]
    nrep: int
    fixed_atoms: Sequence[int]
    masses: Mapping[str, float]
    fparam: Sequence[float] | None
    field: Sequence[float] | Sequence[Sequence[float]] | None
    field_frequency: float = 0.0
    initial_temperature: float | Sequence[float] | None = None

    @property
    def seeds(self) -> np.ndarray:
        """Seed of each replica, shape (nrep,)."""
        if isinstance(self.seed, int):
            return self.seed + np.arange(self.nrep)
        return np.broadcast_to(self.seed, self.nrep)

    @property
    def lattice_kelvin(self) -> np.ndarray | Ramp:
        """Temperature of the bath of the atoms."""
        return quantity(self.temperature)

    @property
    def spin_kelvin(self) -> np.ndarray | Ramp:
        """Temperature of the bath of the spins."""
        own = self.ensemble.spin_temperature
        return quantity(self.temperature if own is None else own)

    @property
    def first_kelvin(self) -> np.ndarray:
        """Temperature of the first velocities."""
        own = self.initial_temperature
        return np.asarray(at(quantity(self.temperature if own is None else own), 0.0))

    @property
    def ramps(self) -> dict[str, Ramp]:
        """What changes with time: `temperature`, `spin_temperature`, `field`."""
        given = {
            "temperature": self.temperature,
            "spin_temperature": self.ensemble.spin_temperature,
            "field": self.field,
        }
        found = {name: quantity(value) for name, value in given.items() if value}
        return {name: q for name, q in found.items() if isinstance(q, Ramp)}

    @property
    def tesla(self) -> np.ndarray | Ramp | None:
        """External field."""
        return None if self.field is None else quantity(self.field)


@dataclass(frozen=True, kw_only=True)
class MdSettings:
    """Everything that a run of dynamics is told."""

    model: str
    setup: Setup
    steps: int
    order_vector: Sequence[float] | Sequence[Sequence[float]] | None
    output: OutputSettings

    @classmethod
    def of(cls, given: dict) -> MdSettings:
        """Take a complete input with a seed, see `options.normalize_md`."""
        values = given | {
            "structure": StructureSettings(**given["structure"]),
            "spins": rules_of(given),
            "ensemble": Ensemble(**given["ensemble"]),
            "nrep": replicas(given),
        }
        return cls(
            model=given["model"],
            setup=Setup(**{each.name: values[each.name] for each in fields(Setup)}),
            steps=given["steps"],
            order_vector=given["order_vector"],
            output=OutputSettings(**given["output"]),
        )


def quantity(given: object) -> np.ndarray | Ramp:
    """Take a number, some, or rows of a ramp that an input gives."""
    if not is_ramp(given):
        return np.array(given, dtype=float)
    rows = np.array(given, dtype=float)
    values = rows[:, 1] if rows.shape[1] == 2 else rows[:, 1:]
    return Ramp(rows[:, 0], values)


def rules_of(given: dict) -> tuple[SpinRule, ...]:
    """Rules `spins` of a complete input."""
    return tuple(SpinRule(**rule) for rule in given["spins"])
