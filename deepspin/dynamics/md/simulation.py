# SPDX-License-Identifier: Apache-2.0
"""The loop of a run of dynamics: steps, checks and files."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from deepspin.atoms.structures import HDF5
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.barostat import fields_of
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import DynamicsError, State
from deepspin.dynamics.core.tspin import InertialIntegrator
from deepspin.dynamics.md.guard import Guard
from deepspin.dynamics.md.output import Frame, Writer
from deepspin.dynamics.md.restart import RestartFile
from deepspin.dynamics.md.settings import MdSettings
from deepspin.dynamics.md.trajectory import numbered, text_of
from deepspin.utils.outputs import (
    Marks,
    OutputError,
    append,
    replacing,
    set_aside,
)
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import PROGRESS, ProgressLine

log = logging.getLogger(__name__)

# least time (s) between two messages about progress
PAUSE = 10.0
# keys of the writers in `output`
_NAMES = ("log", "trajectory")


class Simulation:
    """Makes the steps and writes what is due.

    Parameters
    ----------
    start : RestartFile
        Where it begins.
    integrator : Integrator or InertialIntegrator
        Makes the steps.
    guard : Guard
        Checks them.
    writers : list of (int, Writer)
        What is written, and each how many steps.
    settings : MdSettings
        Number of steps, and files.
    """

    def __init__(
        self,
        start: RestartFile,
        integrator: Integrator | InertialIntegrator,
        guard: Guard,
        writers: Sequence[tuple[int, Writer]],
        settings: MdSettings,
    ):
        self.start, self.state = start, start.state
        self.integrator, self.guard, self.writers = integrator, guard, writers
        self.steps, self.output = settings.steps, settings.output
        self.restart = Path(self.output.restart)
        self._saved: int | None = None
        self._marks: list[Marks] = []
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
        state, integrator = self.state, self.integrator
        fields = fields_of(integrator.fields, integrator.barostat, state)
        found = fields(state.coord, state.spin, state.time)
        frame = Frame(state, found, integrator.evaluations)
        self.guard.look(frame)
        self._good = copy.copy(state)
        return frame

    def begin(self, frame: Frame, restart: str | None, output: Path) -> None:
        """Make way for the files, or go on with the existing ones.

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
        step, made_by = self.state.step, self.start.made_by
        if restart is not None and Path(restart).resolve() == self.restart.resolve():
            self._saved = step
            known = RestartFile.load(restart).made_by["options"]["output"]
            for name, (_, writer) in zip(_NAMES, self.writers, strict=False):
                same = known[name] == getattr(self.output, name)
                set_aside([] if same else writer.files)
                last = writer.begin(step if same else None)
                if same:
                    self._tell_missing(writer, known[f"{name}_freq"], last, step)
        else:
            made_by["begun"] = step
            set_aside(
                [*files, self.restart, *self.failed, *self._of_replicas(), output]
            )
            for _, writer in self.writers:
                writer.begin(None)
            self._write(frame)
            self.save()
        self._marks = [Marks(writer.files) for _, writer in self.writers]

    def _tell_missing(
        self, writer: Writer, every: int, last: int | None, step: int
    ) -> None:
        """Say which frames a file lacks that should hold all up to a step."""
        begun = self.start.made_by["begun"]
        first = -(-begun // every) * every if last is None else last + every
        due = step - step % every
        if first <= due:
            steps = f"step {due}" if first == due else f"steps {first} to {due}"
            log.warning("'%s' lacks the frames of %s", writer.files[0], steps)

    def _of_replicas(self) -> list[Path]:
        """Files of all replicas of an earlier run that left its restart file here."""
        try:
            before = RestartFile.load(self.restart)
        except (FileNotFoundError, ValueError):
            return []
        nrep, name = before.state.nrep, self.output.trajectory
        known = before.made_by["options"]["output"]["trajectory"]
        if name is None or name != known or Path(name).suffix in HDF5:
            return self._failed(nrep)
        return [*self._failed(nrep), *numbered(Path(name), nrep)]

    def _write(self, frame: Frame) -> None:
        """Write what is due."""
        for number, (every, writer) in enumerate(self.writers):
            if self.state.step % every == 0:
                self._check(number, self.state.step - 1)
                writer.write(frame)
                if self._marks:
                    self._marks[number].note()

    def _check(self, number: int, step: int) -> None:
        """See whether somebody else has changed files that hold all up to a step."""
        every, writer = self.writers[number]
        changed = self._marks[number].changed() if self._marks else []
        if changed:
            what = "was changed" if changed[0].exists() else "was removed"
            log.warning("'%s' %s by another program", changed[0], what)
            self._tell_missing(writer, every, writer.begin(step), step)

    def save(self) -> None:
        """Write the restart file, unless it is of this step already."""
        if self._saved != self.state.step:
            evaluations = self.integrator.evaluations
            replace(self.start, evaluations=evaluations).save(self.restart)
            self._saved = self.state.step

    def run(self, stop: StopOnSignal) -> None:
        """Make all steps.

        Parameters
        ----------
        stop : StopOnSignal
            Notes signals, since before the first file was written.

        Raises
        ------
        DynamicsError, OutputError, Stopped
            After what there is was saved.
        """
        first, begun = self.state.step, time.perf_counter()
        if first >= self.steps:
            log.info("nothing to do: %d of %d steps are done", first, self.steps)
            return
        try:
            with ProgressLine(self.steps, first) as line:
                self._loop(stop, line)
            for number, (_, writer) in enumerate(self.writers):
                self._check(number, self.state.step)
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
            freqs = (*(every for every, _ in self.writers), self.output.restart_freq)
            ends = self.state.step == self.steps or stop.received is not None
            if not ends and all(self.state.step % every for every in freqs):
                continue
            try:
                frame = self.look()
            except (RuntimeError, ValueError) as error:
                self._fail(self._good, error)
            self._write(frame)
            if ends or self.state.step % self.output.restart_freq == 0:
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
        """Make a step; if it fails, keep the state before it."""
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
