# SPDX-License-Identifier: Apache-2.0
"""Temperature curves: samples of one size after the other, averages, a picture."""

from __future__ import annotations

import copy
import json
import logging
import secrets
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from deepspin.dynamics.core.integrators import DynamicsError
from deepspin.dynamics.md import options as md_options
from deepspin.dynamics.md.build import (
    build_fields,
    build_integrator,
    build_state,
    order_signs,
)
from deepspin.dynamics.thermo.averages import Curve
from deepspin.dynamics.thermo.data import SizeRun, load, save
from deepspin.dynamics.thermo.results import analyse, outputs
from deepspin.dynamics.thermo.sampling import HybridMonteCarlo, LangevinSampler, Sampler
from deepspin.infer.deep_spin import DeepSpin
from deepspin.utils.outputs import claim, locked, replacing, set_aside
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import PROGRESS, ProgressLine

log = logging.getLogger(__name__)

# seconds between two messages about progress, at least
PAUSE = 60.0
# less acceptance or exchange than this is told of
RARE = 0.05
# what a restart may change: all else must be as it was
_FREE = ("output", "samples", "model")


def run(
    options: dict,
    potential: DeepSpin | None = None,
    *,
    restart: str | None = None,
    output: str = "out.json",
) -> list[Curve]:
    """Sample as an input says.

    Parameters
    ----------
    options : dict
        The complete input, see `thermo_options.normalize`.
    potential : DeepSpin, optional
        The model, if it is not to be loaded from its file.
    restart : str, optional
        File of samples to go on from.
    output : str
        Where to write the input with all defaults.

    Returns
    -------
    list of Curve
        Averages for each size.

    Raises
    ------
    InputError, DataError, OSError
        The input, or a file that it names, is of no use.
    DynamicsError
        Atoms or spins cannot be followed any more.
    Stopped
        A signal stopped it.
    """
    potential = DeepSpin(options["model"]) if potential is None else potential
    known = _known(options, restart)
    ladder = Ladder(options, potential, known)
    path = Path(options["output"]["data"])
    with ExitStack() as stack:
        stack.enter_context(
            locked(
                claim(path),
                f"Another run is writing '{path}' now. Wait for it, or run in another "
                "folder, or with another name in `output`.",
            )
        )
        files = [path, *outputs(path), Path(output)]
        for file in files:
            claim(file)
        if restart is None or Path(restart).resolve() != path.resolve():
            set_aside(files)
            ladder.save()
        with replacing(claim(output)) as partial:
            partial.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
        ladder.run()
    return analyse(path)[0]


def _known(options: dict, restart: str | None) -> tuple[dict, list[SizeRun]]:
    """What a restart file tells; a seed that is drawn is put into `options`."""
    if restart is None:
        if options["seed"] is None:
            options["seed"] = secrets.randbelow(2**31)
        return {}, []
    made_by, runs = load(restart)
    before = made_by["options"]
    if options["seed"] is None:
        options["seed"] = before["seed"]
    changed = [
        name
        for name, value in options.items()
        if name not in _FREE and before.get(name) != value
    ]
    if changed:
        raise InputError(
            f"'{restart}' was sampled with other values of "
            f"{', '.join(f'`{name}`' for name in changed)}. Go on with those that it "
            "has, or begin anew."
        )
    return made_by, runs


# --- The loop -------------------------------------------------------------------------


class Ladder:
    """Samples all sizes.

    Parameters
    ----------
    options : dict
        The complete input.
    potential : DeepSpin
        The model.
    known : dict, list of SizeRun
        What there is already, see `thermo_data.load`.
    """

    def __init__(
        self, options: dict, potential: DeepSpin, known: tuple[dict, list[SizeRun]]
    ):
        made_by, runs = known
        self.options, self.potential = options, potential
        self.path = Path(options["output"]["data"])
        self.made_by = {**potential.describe(), "options": options}
        changed = [
            name
            for name, value in self.made_by.items()
            if made_by and name != "options" and made_by.get(name) != value
        ]
        if changed:
            log.warning(
                "this run will not equal an uninterrupted one; since the samples "
                "so far were made, these have changed: %s",
                ", ".join(changed),
            )
        self.runs: list[SizeRun] = []
        self.samplers: list[Sampler] = []
        for number in range(len(options["sizes"])):
            before = runs[number] if number < len(runs) else None
            size, sampler = _begin(options, number, potential, before)
            self.runs.append(size)
            self.samplers.append(sampler)
        _check_energy(self.samplers[0], self.runs[0])
        if potential.dropped:
            log.warning(
                "the model's `sel` leaves %d neighbours out: its energy jumps as atoms "
                "cross, and trajectories are rejected more often",
                potential.dropped,
            )

    @property
    def total(self) -> int:
        """Moves of each size."""
        return self.options["equilibration"] + self.options["samples"]

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
        """Write what there is."""
        for size, sampler in zip(self.runs, self.samplers, strict=True):
            size.sampler = sampler.arrays()
        save(self.path, self.made_by, self.runs)

    def _sample(
        self, size: SizeRun, sampler: Sampler, stop: StopOnSignal, line: ProgressLine
    ) -> None:
        """Make all moves of a size."""
        clock, saved = time.perf_counter(), size.done
        equilibration, every = (
            self.options["equilibration"],
            self.options["output"]["save_freq"],
        )
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
    options: dict, number: int, potential: DeepSpin, before: SizeRun | None
) -> tuple[SizeRun, Sampler]:
    """Begin a size, or go on with what there is of it."""
    method = options["method"]
    inner = _dynamics(options, number)
    state, structure = build_state(inner, potential)
    magnetic = potential.is_magnetic(structure.atype)
    if not magnetic.any():
        raise InputError("The structure has no atoms with spin, which the order is of.")
    signs = [
        order_signs(vector, options["sizes"][number], structure, magnetic)
        for vector in options["order_vectors"]
    ]
    size = SizeRun(
        temperature=np.array(options["temperature"], dtype=float),
        signs=np.stack(signs),
        lattice=method["lattice"],
        state=state,
    )
    if before is not None:
        if not np.array_equal(before.state.atype, state.atype):
            raise InputError("The restart file is of another structure. Use that.")
        size = before
    fields = build_fields(inner, potential, size.state, structure.pbc)
    kelvin = size.temperature
    if method["type"] == "langevin":
        integrator = build_integrator(inner, fields, size.state, potential)
        sampler = LangevinSampler(integrator, kelvin, method["steps"])
    else:
        sampler = HybridMonteCarlo(
            fields,
            kelvin,
            lattice=method["lattice"],
            leaps=method["leaps"],
            exchange=method["exchange"],
            acceptance=method["acceptance"],
        )
    if before is not None and before.sampler:
        sampler.restore(before.sampler)
    return size, sampler


def _dynamics(options: dict, number: int) -> dict:
    """Input of ``dp-spin md`` that has the same atoms, spins and baths."""
    method = options["method"]
    ensemble = {"type": "langevin" if method["lattice"] else "spin"}
    if method["type"] == "langevin":
        ensemble["damping"] = method["damping"]
        if method["lattice"]:
            ensemble["relaxation_time"] = method["relaxation_time"]
    shared = ("model", "spins", "temperature", "field", "fixed_atoms", "masses")
    nrep = len(options["temperature"])
    return md_options.normalize(
        {name: options[name] for name in (*shared, "fparam")}
        | {
            "structure": {**options["structure"], "repeat": options["sizes"][number]},
            "ensemble": ensemble,
            "timestep": method.get("timestep", 1.0),
            "steps": 1,
            "seed": options["seed"] + number * nrep,
        }
    )


def _check_energy(sampler: Sampler, size: SizeRun) -> None:
    """Refuse, before the work, a start that has no energy."""
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
    log.info(", ".join(words))
