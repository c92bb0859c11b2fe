# SPDX-License-Identifier: Apache-2.0
"""A run of dynamics: step after step, with its files, until it ends or must stop."""

from __future__ import annotations

import copy
import json
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from deepspin.atoms.structures import HDF5
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.fields import Fields
from deepspin.dynamics.core.integrators import DynamicsError, Integrator
from deepspin.dynamics.core.state import State
from deepspin.dynamics.core.tspin import InertialIntegrator
from deepspin.dynamics.md.build import (
    build_fields,
    build_integrator,
    build_state,
    order_signs,
)
from deepspin.dynamics.md.options import replicas
from deepspin.dynamics.md.output import Checkpoint, Frame, Log, Observer, Writer
from deepspin.dynamics.md.trajectory import numbered, text_of, trajectory_of
from deepspin.infer.deep_spin import DeepSpin
from deepspin.utils.outputs import (
    OutputError,
    append,
    claim,
    locked,
    replacing,
    set_aside,
)
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import PROGRESS, ProgressLine

if TYPE_CHECKING:
    from deepspin.dynamics.md.lammps import Crew

log = logging.getLogger(__name__)

# an atom never moves so far (Å) in a step that can be followed
MAX_MOVE = 0.2
# energy (eV/atom) that a run without baths may gain or lose, all in all
MAX_CHANGE = 0.02
# temperatures may rise to so many times the highest asked for, or this (K)
HOT, LEAST = 10, 300
# seconds between two messages about progress, at least
PAUSE = 10.0
# what the writers are called in `output`
_NAMES = ("log", "trajectory")
# what a restart file holds: other values in the input have no effect
_KEPT = ("structure", "spins", "masses", "fixed_atoms", "initial_temperature")
_KEPT = (*_KEPT, "seed", "order_vector")
# what does not matter to numbers; the model's weights do, not the file's name
_FREE = ("output", "steps", "model")


def run(
    options: dict,
    *,
    restart: str | None = None,
    output: str = "out.json",
    crew: Crew | None = None,
) -> State:
    """Run dynamics as an input says.

    Parameters
    ----------
    options : dict
        The complete input, see `options.normalize`.
    restart : str, optional
        Restart file to go on from.
    output : str
        Where to write the input with all defaults.
    crew : Crew, optional
        Processes whose LAMMPS evaluates the model; else this process does.

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
    potential = DeepSpin(options["model"])
    start = _begin(options, potential, restart, crew)
    fields = build_fields(options, potential, start.state, start.structure.pbc, crew)
    integrator = build_integrator(options, fields, start.state, potential)
    integrator.evaluations = start.evaluations
    guard = Guard(options, integrator, potential)
    writers = _writers(options, start, integrator, fields)
    simulation = Simulation(start, fields, integrator, guard, writers, options)
    frame = simulation.look()  # what no step can be made from is refused now
    with ExitStack() as stack:
        _lock(stack, simulation.restart)
        simulation.begin(frame, restart, Path(output))
        with replacing(claim(output)) as partial:
            partial.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
        _report(options, start)
        simulation.run()
    return start.state


def _begin(
    options: dict, potential: DeepSpin, restart: str | None, crew: Crew | None
) -> Checkpoint:
    """Where the run starts; a seed that is drawn is put into `options`."""
    if restart is None:
        if options["seed"] is None:
            options["seed"] = secrets.randbelow(2**31)
        state, structure = build_state(options, potential)
        magnetic = potential.is_magnetic(state.atype)
        return Checkpoint(
            state=state,
            structure=structure,
            signs=order_signs(
                options["order_vector"],
                options["structure"]["repeat"],
                structure,
                magnetic,
            ),
            evaluations=0,
            made_by=_describe(options, potential, crew),
        )
    start = Checkpoint.load(restart)
    before, now = start.made_by, _describe(options, potential, crew)
    if options["seed"] is None:
        options["seed"] = before["options"]["seed"]
    _check_restart(options, start, potential)
    _warn_of_differences(before, now, restart)
    return replace(start, made_by=now)


def _check_restart(options: dict, start: Checkpoint, potential: DeepSpin) -> None:
    """Refuse a restart file of another system or kind of dynamics."""
    if list(start.structure.names) != potential.type_map:
        raise InputError(
            f"The restart file is of types {', '.join(start.structure.names)}; the "
            f"model's are {', '.join(potential.type_map)}. Use that model."
        )
    if start.state.nrep != max(replicas(options), 1):
        raise InputError(
            f"The restart file has {start.state.nrep} replicas, the input "
            f"{replicas(options)}. Give as many temperatures, or seeds."
        )
    inertial = options["ensemble"]["type"] == "tspin"
    if inertial != (start.state.spin_velocity is not None):
        kinds = ("another ensemble", '"tspin"')[:: -1 if not inertial else 1]
        raise InputError(
            f"The restart file is of {kinds[0]}, the input asks for {kinds[1]}. Begin "
            "anew, with the last frame as `structure`."
        )


def _describe(options: dict, potential: DeepSpin, crew: Crew | None) -> dict:
    """What decides about the run's numbers."""
    return {
        **potential.describe(),
        "options": options,
        **({"engine": f"LAMMPS on {crew.size}"} if crew else {}),
    }


def _warn_of_differences(before: dict, now: dict, restart: str) -> None:
    """Say what keeps a restarted run from equalling an uninterrupted one."""
    names = [name for name in {**before, **now} if name != "options"]
    parts = [name for name in names if before.get(name) != now.get(name)]
    changed = [
        name
        for name, value in now["options"].items()
        if name not in _FREE and before["options"].get(name) != value
    ]
    parts += [f"`{name}`" for name in changed if name not in _KEPT]
    if "ensemble" in changed:
        log.info(
            "goes on from '%s' in other ways; since it was written, these have "
            "changed: %s",
            restart,
            ", ".join(parts),
        )
    elif parts:
        log.warning(
            "this run will not equal an uninterrupted one; since '%s' was written, "
            "these have changed: %s",
            restart,
            ", ".join(parts),
        )
    given = now["options"]
    kept = [f"`{name}`" for name in changed if name in _KEPT and given[name]]
    if kept:
        log.warning(
            "'%s' tells these itself; what the input says of them has no effect: %s",
            restart,
            ", ".join(kept),
        )


def _writers(
    options: dict,
    start: Checkpoint,
    integrator: Integrator | InertialIntegrator,
    fields: Fields,
) -> list[tuple[int, Writer]]:
    """Log and trajectory, each with the number of steps between two frames."""
    part, steps = options["output"], options["steps"]
    spin_mass = getattr(integrator, "spin_mass", None)
    observer = Observer(start.signs, spin_mass, fields)
    writers: list[tuple[int, Writer]] = [(part["log_freq"], Log(part["log"], observer))]
    if part["trajectory"] is not None:
        every, first = part["trajectory_freq"], start.state.step
        due = range(-(-first // every) * every, steps + 1, every)
        trajectory = trajectory_of(
            part["trajectory"], start.structure, start.state.nrep, due
        )
        writers.append((every, trajectory))
    return writers


def _lock(stack: ExitStack, restart: Path) -> None:
    """Keep other runs from writing the same files meanwhile."""
    claim(restart)
    stack.enter_context(
        locked(
            restart,
            f"Another run is writing '{restart}' now. Wait for it, or run in another "
            "folder, or with other names in `output`.",
        )
    )


def _report(options: dict, start: Checkpoint) -> None:
    """Say what is about to run."""
    state, part = start.state, options["ensemble"]
    names = start.structure.names
    counts = np.bincount(state.atype, minlength=len(names))
    log.info(
        "%s, %d replica%s, %d of %d steps of %g fs, ensemble %s",
        " ".join(f"{n}{c}" for n, c in zip(names, counts, strict=True) if c),
        state.nrep,
        "s" * (state.nrep > 1),
        max(options["steps"] - state.step, 0),
        options["steps"],
        options["timestep"],
        part["type"],
    )


# --- What must not go on --------------------------------------------------------------


class Guard:
    """Stops a run whose numbers mean nothing any more.

    Parameters
    ----------
    options : dict
        The complete input.
    integrator : Integrator or InertialIntegrator
        Its integrator.
    potential : DeepSpin
        The model.
    """

    def __init__(
        self,
        options: dict,
        integrator: Integrator | InertialIntegrator,
        potential: DeepSpin,
    ):
        self.potential = potential
        self.timestep = options["timestep"]
        self.ensemble = options["ensemble"]["type"]
        self.isolated = not (integrator.lattice_bath or integrator.spin_bath)
        self.conservative = self.isolated and not options["field_frequency"]
        self.spin_mass = getattr(integrator, "spin_mass", None)
        given = (options["temperature"], options["initial_temperature"] or 0.0)
        given += (options["ensemble"].get("spin_temperature") or 0.0,)
        self.hot = HOT * max([LEAST, *(float(np.max(t)) for t in given)])
        self._energy: np.ndarray | None = None

    def follow(self, before: State, state: State) -> None:
        """Check a step.

        Raises
        ------
        DynamicsError
            An atom moved too far, or neighbours were dropped where energy is conserved.
        """
        move = np.linalg.norm(state.coord - before.coord, axis=2)
        replica, atom = np.unravel_index(np.argmax(move), move.shape)
        longest = move[replica, atom]
        if longest > MAX_MOVE:
            raise DynamicsError(
                f"Step {before.step}: atom {atom} of replica {replica} moves by "
                f"{longest:.2g} Å in a step. Received: a timestep of "
                f"{self.timestep:g} fs. Use "
                f"{0.1 * MAX_MOVE / longest * self.timestep:.1g} fs, or a better start."
            )
        self._check_neighbors(f"Step {before.step}: the")

    def look(self, frame: Frame) -> None:
        """Check an instant.

        Raises
        ------
        DynamicsError
            Atoms, or spins with inertia, are too hot; the energy is not conserved where
            it should be; or numbers are not finite.
        """
        state, energy = frame.state, frame.response.energy
        place = f"Step {state.step}: "
        heat = {"atoms": observables.lattice_temperature(state)}
        total = energy + observables.kinetic_energy(state)
        if self.spin_mass is not None:
            mass = self.spin_mass
            heat["spins"] = observables.spin_kinetic_temperature(state, mass)
            total = total + observables.spin_kinetic_energy(state, mass)
        if not np.isfinite(total).all():
            raise DynamicsError(f"{place}energies are no longer finite.{self._advice}")
        self._check_neighbors("The" if self._energy is None else f"{place}the")
        for what, kelvin in heat.items():
            if kelvin.max() > self.hot:
                raise DynamicsError(
                    f"{place}the {what} of replica {np.argmax(kelvin)} have "
                    f"{kelvin.max():.4g} K, {self.hot:g} K is the most that can be "
                    f"meant.{self._advice}"
                )
        if self._energy is None:
            self._energy = total
        change = (total - self._energy) / state.nloc
        worst = int(np.argmax(np.abs(change)))
        if self.conservative and abs(change[worst]) > MAX_CHANGE:
            raise DynamicsError(
                f"{place}the energy of replica {worst} has changed by "
                f"{change[worst]:.2g} eV/atom, but should be conserved.{self._advice}"
            )

    @property
    def _advice(self) -> str:
        half = self.timestep / 2
        return (
            f" Received: a timestep of {self.timestep:g} fs. Use a smaller one, such as"
            f" {half:g} fs, or a better start: look at the last good frame."
        )

    def _check_neighbors(self, head: str) -> None:
        """Refuse what makes energies jump where they should be conserved."""
        if self.isolated and self.potential.dropped:
            raise DynamicsError(
                f"{head} model's `sel` leaves {self.potential.dropped} neighbours out: "
                "its energy jumps as atoms cross, and cannot be conserved. Use a model "
                "with a larger `sel`, or a bath (`ensemble`). Received: "
                f'"{self.ensemble}" without a bath'
            )


# --- The loop -------------------------------------------------------------------------


class Simulation:
    """Makes steps, and writes what is due.

    Parameters
    ----------
    start : Checkpoint
        Where it begins.
    fields : Fields
        The Hamiltonian.
    integrator : Integrator or InertialIntegrator
        Makes the steps.
    guard : Guard
        Checks them.
    writers : list of (int, Writer)
        What is written, and each how many steps.
    options : dict
        The complete input.
    """

    def __init__(
        self,
        start: Checkpoint,
        fields: Fields,
        integrator: Integrator | InertialIntegrator,
        guard: Guard,
        writers: Sequence[tuple[int, Writer]],
        options: dict,
    ):
        self.start, self.state = start, start.state
        self.fields, self.integrator, self.guard = fields, integrator, guard
        self.writers, self.steps = writers, options["steps"]
        self.output = options["output"]
        self.restart = Path(self.output["restart"])
        self.restart_freq = self.output["restart_freq"]
        self._saved: int | None = None
        self._good: State = copy.copy(start.state)

    @property
    def failed(self) -> list[Path]:
        """Files for the last good frame of each replica, after a failure."""
        return self._failed(self.state.nrep)

    def _failed(self, nrep: int) -> list[Path]:
        name = self.restart.name.removesuffix(".npz").removesuffix(".restart")
        path = self.restart.with_name(f"{name}.failed.extxyz")
        return numbered(path, nrep)

    def look(self) -> Frame:
        """Evaluate and check the present instant."""
        found = self.fields(self.state.coord, self.state.spin, self.state.time)
        frame = Frame(self.state, found, self.integrator.evaluations)
        self.guard.look(frame)
        self._good = copy.copy(self.state)
        return frame

    def begin(self, frame: Frame, restart: str | None, output: Path) -> None:
        """Make way for the files, or go on with those that are there.

        Parameters
        ----------
        frame : Frame
            The first one.
        restart : str, optional
            Restart file that the run goes on from. If it is the run's own, so are the
            other files that it names.
        output : Path
            Another file that makes way.
        """
        files = [path for _, writer in self.writers for path in writer.files]
        for path in files:
            claim(path)
        if restart is not None and Path(restart).resolve() == self.restart.resolve():
            self._saved = self.state.step
            known = Checkpoint.load(restart).made_by["options"]["output"]
            for name, (_, writer) in zip(_NAMES, self.writers, strict=False):
                same = known[name] == self.output[name]
                set_aside([] if same else writer.files)
                writer.begin(self.state.step if same else None)
            return
        set_aside([*files, self.restart, *self.failed, *self._of_replicas(), output])
        for _, writer in self.writers:
            writer.begin(None)
        self._write(frame)
        self.save()

    def _of_replicas(self) -> list[Path]:
        """Files of the run whose restart file is there, of all of its replicas."""
        try:
            before = Checkpoint.load(self.restart)
        except (FileNotFoundError, ValueError):
            return []
        nrep, name = before.state.nrep, self.output["trajectory"]
        known = before.made_by["options"]["output"]["trajectory"]
        if name is None or name != known or Path(name).suffix in HDF5:
            return self._failed(nrep)
        return [*self._failed(nrep), *numbered(Path(name), nrep)]

    def _write(self, frame: Frame) -> None:
        """Write what is due."""
        for every, writer in self.writers:
            if self.state.step % every == 0:
                writer.write(frame)

    def save(self) -> None:
        """Write the restart file, unless it is of this step."""
        if self._saved != self.state.step:
            evaluations = self.integrator.evaluations
            replace(self.start, evaluations=evaluations).save(self.restart)
            self._saved = self.state.step

    def run(self) -> None:
        """Make all steps."""
        first, begun = self.state.step, time.perf_counter()
        if first >= self.steps:
            log.info("nothing to do: %d of %d steps are done", first, self.steps)
            return
        try:
            with StopOnSignal() as stop, ProgressLine(self.steps, first) as line:
                self._loop(stop, line)
            for _, writer in self.writers:
                writer.end()
        except OutputError as error:
            raise OutputError(f"{error} {self._way_on}") from error
        seconds, done = time.perf_counter() - begun, self.state.step - first
        log.info(
            "%d steps in %.1f s; atoms and spins of step %d are in %s",
            done,
            seconds,
            self.state.step,
            self.restart,
        )
        if stop.received is not None and self.state.step < self.steps:
            raise Stopped(
                f"stopped by {stop.received.name} after step {self.state.step}; go on "
                f"with -r {self.restart}",
                stop.received,
            )

    def _loop(self, stop: StopOnSignal, line: ProgressLine) -> None:
        clock = time.perf_counter()
        while self.state.step < self.steps and stop.received is None:
            self._step()
            line.advance(self.state.step)
            freqs = (*(every for every, _ in self.writers), self.restart_freq)
            ends = self.state.step == self.steps or stop.received is not None
            if not ends and all(self.state.step % every for every in freqs):
                continue
            try:
                frame = self.look()
            except (RuntimeError, ValueError) as error:
                self._fail(self._good, error)
            self._write(frame)
            if ends or self.state.step % self.restart_freq == 0:
                self.save()
            pause = time.perf_counter() - clock
            words = _summary(frame)
            line.tell(*words)
            if pause > PAUSE or ends:
                log.info(
                    "step %d: %s", self.state.step, ", ".join(words), extra=PROGRESS
                )
                clock += pause

    def _step(self) -> None:
        """Make a step; if it fails, keep what there was before."""
        before = copy.copy(self.state)
        try:
            self.integrator.step(self.state)
            self.guard.follow(before, self.state)
        except (RuntimeError, ValueError) as error:
            self._fail(before, error)

    def _fail(self, good: State, error: Exception) -> NoReturn:
        """Keep the last good frame, and say where it is."""
        for replica, path in enumerate(self.failed):
            with replacing(path) as partial:
                append(partial, text_of(good, self.start.structure, replica))
        raise DynamicsError(
            f"{error} The last good frame, of step {good.step}, is in "
            f"'{self.failed[0]}'. {self._way_on}"
        ) from error

    @property
    def _way_on(self) -> str:
        """How to go on after a failure."""
        return f"Go on from step {self._saved} with -r {self.restart}."


def _summary(frame: Frame) -> list[str]:
    """Time, temperatures and energies of the replicas, in words."""
    state = frame.state
    energy = frame.response.energy + observables.kinetic_energy(state)
    kelvin = observables.lattice_temperature(state)
    return [
        f"{1e-3 * state.time:.3f} ps",
        f"{_range(kelvin, '.1f')} K",
        f"{_range(energy / state.nloc, '.6f')} eV/atom",
    ]


def _range(values: np.ndarray, form: str) -> str:
    """Smallest and largest value, or the only one."""
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"
