# SPDX-License-Identifier: Apache-2.0
"""A complete input of ``dp-spin thermo`` as typed values, for all that runs it.

Names, units and meanings are those of the input, see `options.thermo_args`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deepspin.dynamics.md.settings import (
    Ensemble,
    Setup,
    SpinRule,
    StructureSettings,
    rules_of,
)


@dataclass(frozen=True, kw_only=True)
class HybridSettings:
    """Hybrid Monte Carlo: the method `hmc`."""

    lattice: bool
    leaps: int
    exchange: bool
    acceptance: float
    moduli: str = "fixed"


@dataclass(frozen=True, kw_only=True)
class LangevinSettings:
    """Dynamics in heat baths: the method `langevin`."""

    lattice: bool
    timestep: float
    steps: int
    relaxation_time: float
    damping: float


METHODS = {"hmc": HybridSettings, "langevin": LangevinSettings}


@dataclass(frozen=True, kw_only=True)
class ThermoOutput:
    """Files that are written: the section `output`."""

    data: str
    save_freq: int


@dataclass(frozen=True, kw_only=True)
class ThermoSettings:
    """Everything that the sampling of temperature curves is told."""

    model: str
    structure: StructureSettings
    sizes: Sequence[Sequence[int]]
    spins: Sequence[SpinRule]
    temperature: Sequence[float]
    method: HybridSettings | LangevinSettings
    equilibration: int
    samples: int
    order_vectors: Sequence[Sequence[float]]
    seed: int
    field: Sequence[float] | None
    fixed_atoms: Sequence[int]
    masses: Mapping[str, float]
    fparam: Sequence[float] | None
    output: ThermoOutput

    @classmethod
    def of(cls, given: dict) -> ThermoSettings:
        """Take a complete input with a seed, see `options.normalize_thermo`."""
        method = dict(given["method"])
        sections = {
            "structure": StructureSettings(**given["structure"]),
            "spins": rules_of(given),
            "method": METHODS[method.pop("type")](**method),
            "output": ThermoOutput(**given["output"]),
        }
        return cls(**given | sections)

    @property
    def moves(self) -> int:
        """Moves of each size."""
        return self.equilibration + self.samples

    def setup(self, number: int) -> Setup:
        """Give atoms, spins and baths of one size, as ``dp-spin md`` has them."""
        nrep = len(self.temperature)
        return Setup(
            structure=replace(self.structure, repeat=self.sizes[number]),
            spins=self.spins,
            ensemble=self._ensemble(),
            temperature=self.temperature,
            timestep=getattr(self.method, "timestep", 1.0),
            seed=self.seed + number * nrep,
            nrep=nrep,
            fixed_atoms=self.fixed_atoms,
            masses=self.masses,
            fparam=self.fparam,
            field=self.field,
        )

    def _ensemble(self) -> Ensemble:
        kind = "langevin" if self.method.lattice else "spin"
        if isinstance(self.method, HybridSettings):
            return Ensemble(type=kind)
        time = self.method.relaxation_time if self.method.lattice else None
        return Ensemble(type=kind, relaxation_time=time, damping=self.method.damping)
