# SPDX-License-Identifier: Apache-2.0
"""Sampling of all sizes, one after the other, at all temperatures at once."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.dynamics.core.fields import Fields
from deepspin.dynamics.core.state import DynamicsError
from deepspin.dynamics.md.build import (
    build_fields,
    build_integrator,
    build_state,
    order_signs,
    spin_range_of,
)
from deepspin.dynamics.md.settings import Setup
from deepspin.dynamics.thermo.data import SizeRun, save
from deepspin.dynamics.thermo.hybrid import HybridMonteCarlo
from deepspin.dynamics.thermo.sampling import LangevinSampler, Sampler
from deepspin.dynamics.thermo.settings import (
    HybridSettings,
    LangevinSettings,
    ThermoSettings,
)
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import PROGRESS, ProgressLine

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# least time (s) between two messages about progress
PAUSE = 60.0
# warn of less acceptance or exchange than this
RARE = 0.05


class Ladder:
    """Samples all sizes.

    Parameters
    ----------
    settings : ThermoSettings
        What is sampled, and how.
    potential : DeepSpin
        The model.
    made_by : dict
        What decides about the samples, for their file.
    known : sequence of SizeRun
        What there is already, the first sizes first.
    """

    def __init__(
        self,
        settings: ThermoSettings,
        potential: DeepSpin,
        made_by: dict,
        known: Sequence[SizeRun],
    ):
        self.settings, self.made_by = settings, made_by
        self.path = Path(settings.output.data)
        self.total = settings.moves
        self.runs: list[SizeRun] = []
        self.samplers: list[Sampler] = []
        for number in range(len(settings.sizes)):
            before = known[number] if number < len(known) else None
            size, sampler = _begin(settings, number, potential, before)
            self.runs.append(size)
            self.samplers.append(sampler)
        _check_energy(self.samplers[0], self.runs[0])
        if potential.dropped:
            log.warning(
                "the model's `sel` leaves %d neighbours out: its energy jumps as atoms "
                "cross, and trajectories are rejected more often",
                potential.dropped,
            )

    def run(self) -> None:
        """Sample all sizes.

        Raises
        ------
        DynamicsError, Stopped
            After what there is was saved.
        """
        total = self.total * len(self.runs)
        done = sum(min(size.done, self.total) for size in self.runs)
        with StopOnSignal() as stop, ProgressLine(total, done, "move") as line:
            for size, sampler in zip(self.runs, self.samplers, strict=True):
                self._sample(size, sampler, stop, line)
        if stop.received is not None and any(r.done < self.total for r in self.runs):
            raise Stopped(
                f"stopped by {stop.received.name}; go on with -r {self.path}",
                stop.received,
            )

    def save(self) -> None:
        """Write states and samples of all sizes."""
        for size, sampler in zip(self.runs, self.samplers, strict=True):
            size.sampler = sampler.arrays()
        save(self.path, self.made_by, self.runs)

    def _sample(
        self, size: SizeRun, sampler: Sampler, stop: StopOnSignal, line: ProgressLine
    ) -> None:
        """Make all moves of a size."""
        clock, saved = time.perf_counter(), size.done
        equilibration = self.settings.equilibration
        every = self.settings.output.save_freq
        while size.done < self.total and stop.received is None:
            self._move(size, sampler, tune=size.done < equilibration)
            line.advance(sum(min(r.done, self.total) for r in self.runs))
            if size.done % every == 0:
                self.save()
                saved = size.done
            words = f"{size.state.nloc} atoms, move {size.done} of {self.total}"
            line.tell(words)
            if time.perf_counter() - clock > PAUSE:
                log.info(words, extra=PROGRESS)
                clock = time.perf_counter()
        if saved < size.done:
            self.save()
        if size.nsamples and stop.received is None:
            _report(size, sampler)

    def _move(self, size: SizeRun, sampler: Sampler, *, tune: bool) -> None:
        """Make a move, and keep its end as a sample if it counts."""
        before = copy.copy(size.state)
        try:
            outcome = sampler.advance(size.state, tune=tune)
            if not tune:
                size.record(sampler.response(size.state), outcome)
        except (RuntimeError, ValueError) as error:
            size.state = before
            self.save()
            raise DynamicsError(
                f"{error} Go on with -r {self.path}, from move {size.done} of "
                f"{size.state.nloc} atoms."
            ) from error
        size.done += 1


def _begin(
    settings: ThermoSettings, number: int, potential: DeepSpin, before: SizeRun | None
) -> tuple[SizeRun, Sampler]:
    """Begin a size, or go on with its samples so far."""
    setup = settings.setup(number)
    state, structure = build_state(setup, potential)
    magnetic = potential.is_magnetic(structure.atype)
    if not magnetic.any():
        raise InputError("The structure has no atoms with spin, which the order is of.")
    signs = [
        order_signs(vector, setup.structure.repeat, structure, magnetic)
        for vector in settings.order_vectors
    ]
    size = SizeRun(
        temperature=np.array(settings.temperature, dtype=float),
        signs=np.stack(signs),
        lattice=settings.method.lattice,
        state=state,
    )
    if before is not None:
        if not np.array_equal(before.state.atype, state.atype):
            raise InputError("The restart file is of another structure. Use that.")
        size = before
    fields = build_fields(setup, potential, size.state, structure.pbc)
    sampler = _sampler(settings.method, setup, fields, size, potential)
    if before is not None and before.sampler:
        sampler.restore(before.sampler)
    return size, sampler


def _sampler(
    method: HybridSettings | LangevinSettings,
    setup: Setup,
    fields: Fields,
    size: SizeRun,
    potential: DeepSpin,
) -> Sampler:
    """Build what makes the samples of a size."""
    if isinstance(method, LangevinSettings):
        integrator = build_integrator(setup, fields, size.state, potential)
        return LangevinSampler(integrator, size.temperature, method.steps)
    return HybridMonteCarlo(
        fields,
        size.temperature,
        lattice=method.lattice,
        leaps=method.leaps,
        exchange=method.exchange,
        acceptance=method.acceptance,
        moduli=method.moduli,
        spin_range=None
        if method.moduli == "fixed"
        else spin_range_of(size.state, potential),
    )


def _check_energy(sampler: Sampler, size: SizeRun) -> None:
    """Refuse a start that has no finite energy."""
    energy = sampler.response(size.state).energy
    if not np.isfinite(energy).all():
        raise DynamicsError(
            "The energy of the first structure is not finite. Use a better start."
        )


def _report(size: SizeRun, sampler: Sampler) -> None:
    """Say how a size was sampled."""
    samples = size.samples()
    words = [f"{samples.natoms} atoms: {samples.nsamples} samples"]
    if isinstance(sampler, HybridMonteCarlo):
        acceptance = samples.acceptance.mean(axis=0)
        low, high = sampler.timestep.min(), sampler.timestep.max()
        words.append(f"timesteps of {low:.3g} to {high:.3g} fs")
        words.append(f"acceptance {acceptance.min():.2f} to {acceptance.max():.2f}")
        if acceptance.min() < RARE:
            log.warning("almost no trajectory is accepted: equilibrate longer")
        if sampler.exchange and np.isfinite(samples.exchange).any():
            exchange = np.nanmean(samples.exchange, axis=0)
            words.append(f"exchange {np.nanmin(exchange):.2f} or more")
            if np.nanmin(exchange) < RARE:
                log.warning(
                    "%d atoms: temperatures are too far apart for exchange; give more "
                    "of them",
                    samples.natoms,
                )
        beyond = sampler.left.max() / max(samples.nsamples, 1)
        if beyond > 0:
            log.warning(
                "%d atoms: up to %.2g of the trajectories left the moduli that the "
                "model was trained on and were rejected: train on more, or take less "
                "high temperatures",
                samples.natoms,
                beyond,
            )
    log.info(", ".join(words))
