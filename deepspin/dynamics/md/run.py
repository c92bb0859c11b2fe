# SPDX-License-Identifier: Apache-2.0
"""A run of dynamics, from a complete input to its files."""

from __future__ import annotations

import json
import logging
import secrets
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State
from deepspin.dynamics.core.tspin import InertialIntegrator
from deepspin.dynamics.md.build import (
    build_fields,
    build_integrator,
    build_reservoir,
    build_state,
    check_cell,
    star_signs,
)
from deepspin.dynamics.md.guard import Guard
from deepspin.dynamics.md.output import Log, Observer, Writer
from deepspin.dynamics.md.restart import (
    RestartFile,
    check_restart,
    warn_of_differences,
)
from deepspin.dynamics.md.settings import MdSettings
from deepspin.dynamics.md.simulation import Simulation
from deepspin.dynamics.md.trajectory import trajectory_of
from deepspin.infer.deep_spin import DeepSpin
from deepspin.utils.outputs import claim, locked, replacing
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal

if TYPE_CHECKING:
    from deepspin.dynamics.md.crew import Crew

log = logging.getLogger(__name__)


def run(
    given: dict,
    *,
    restart: str | None = None,
    output: str = "out.json",
    crew: Crew | None = None,
) -> State:
    """Run dynamics as an input says.

    Parameters
    ----------
    given : dict
        The complete input, see `options.normalize_md`.
    restart : str, optional
        Restart file to go on from.
    output : str
        Where to write the input with all defaults.
    crew : Crew, optional
        Processes that evaluate the model; else this one does.

    Returns
    -------
    State
        The end.

    Raises
    ------
    InputError, DataError, OSError
        The input, or a file that it names, is of no use.
    EngineError
        LAMMPS cannot be used.
    DynamicsError
        Atoms or spins cannot be followed any more.
    Stopped
        A signal stopped it.
    """
    if crew is not None and given["ensemble"].get("pressure") is not None:
        raise InputError(
            "`ensemble/pressure` needs virials at fixed spins, which LAMMPS does not "
            "tell. Run without --engine lammps."
        )
    potential = DeepSpin(given["model"])
    known = None if restart is None else RestartFile.load(restart)
    given = _with_seed(given, known)
    settings = MdSettings.of(given)
    begun = 0 if known is None else known.made_by.get("begun", 0)
    made_by = {**potential.describe(), "options": given, "begun": begun}
    if crew is not None:
        made_by["engine"] = f"LAMMPS on {crew.size}"
    if known is None:
        start = _first(settings, potential, made_by)
    else:
        check_restart(known, settings.setup, potential)
        warn_of_differences(known.made_by, made_by, restart)
        start = replace(known, made_by=made_by)
    simulation = _simulation(settings, start, potential, crew)
    frame = simulation.look()  # refuse a bad start now, before any file is touched
    with ExitStack() as stack:
        _lock(stack, simulation, Path(output))
        stop = stack.enter_context(StopOnSignal())
        simulation.begin(frame, restart, Path(output))
        with replacing(claim(output)) as partial:
            partial.write_text(json.dumps(given, indent=2) + "\n", encoding="utf-8")
        _report(settings, start)
        simulation.run(stop)
    return start.state


def _with_seed(given: dict, known: RestartFile | None) -> dict:
    """Give the input a seed if it has none: that of the restart file, or a new one."""
    if given["seed"] is not None:
        return given
    seed = known.made_by["options"]["seed"] if known else secrets.randbelow(2**31)
    return {**given, "seed": seed}


def _first(settings: MdSettings, potential: DeepSpin, made_by: dict) -> RestartFile:
    """Return where a new run starts."""
    state, structure = build_state(settings.setup, potential)
    magnetic = potential.is_magnetic(state.atype)
    repeat = settings.setup.structure.repeat
    return RestartFile(
        state=state,
        structure=structure,
        signs=star_signs(settings.order_vector, repeat, structure, magnetic),
        evaluations=0,
        made_by=made_by,
    )


def _simulation(
    settings: MdSettings, start: RestartFile, potential: DeepSpin, crew: Crew | None
) -> Simulation:
    """Assemble what makes the steps, checks and writes them."""
    setup, state = settings.setup, start.state
    check_cell(setup, state, start.structure.pbc)
    fields = build_fields(setup, potential, state, start.structure.pbc, crew)
    integrator = build_integrator(setup, fields, state, potential)
    integrator.evaluations = start.evaluations
    guard = Guard(setup, integrator, potential)
    writers = _writers(settings, start, integrator)
    return Simulation(start, integrator, guard, writers, settings)


def _writers(
    settings: MdSettings,
    start: RestartFile,
    integrator: Integrator | InertialIntegrator,
) -> list[tuple[int, Writer]]:
    """Log and trajectory, each with the number of steps between two frames."""
    files, steps = settings.output, settings.steps
    spin_mass = getattr(integrator, "spin_mass", None)
    barostat = integrator.barostat
    observer = Observer(
        start.signs,
        spin_mass,
        integrator.fields,
        barostat=barostat,
        ramps=settings.setup.ramps,
        reservoir=build_reservoir(settings.setup, integrator),
    )
    writers: list[tuple[int, Writer]] = [(files.log_freq, Log(files.log, observer))]
    if files.trajectory is not None:
        every, first = files.trajectory_freq, start.state.step
        due = range(-(-first // every) * every, steps + 1, every)
        trajectory = trajectory_of(
            files.trajectory,
            start.structure,
            start.state.nrep,
            due,
            moving=barostat is not None,
        )
        writers.append((every, trajectory))
    return writers


def _lock(stack: ExitStack, simulation: Simulation, output: Path) -> None:
    """Keep other runs from writing the same files."""
    files = [path for _, writer in simulation.writers for path in writer.files]
    paths = [claim(path) for path in (simulation.restart, *files, output)]
    stack.enter_context(locked(*paths))


def _report(settings: MdSettings, start: RestartFile) -> None:
    """Say what is about to run."""
    state, names = start.state, start.structure.names
    counts = np.bincount(state.atype, minlength=len(names))
    log.info(
        "%s, %d replica%s, %d of %d steps of %g fs, ensemble %s",
        " ".join(f"{n}{c}" for n, c in zip(names, counts, strict=True) if c),
        state.nrep,
        "s" * (state.nrep > 1),
        max(settings.steps - state.step, 0),
        settings.steps,
        settings.setup.timestep,
        settings.setup.ensemble.type,
    )
