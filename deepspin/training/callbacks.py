# SPDX-License-Identifier: Apache-2.0
"""What happens between training steps: learning curve, checkpoints, stopping."""

from __future__ import annotations

import datetime
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from deepspin.data.collate import Shape
from deepspin.data.dataset import DataSystem
from deepspin.interop.files import POINTER
from deepspin.model.closed_form import WORDS, label_errors
from deepspin.model.ener import SpinEnergyModel
from deepspin.modelfiles.archive import save_model
from deepspin.modelfiles.find import POINTER_LINE, find_checkpoints
from deepspin.op.adam import steps_made
from deepspin.utils.outputs import append, replacing
from deepspin.utils.stopping import StopOnSignal
from deepspin.utils.terminal import PROGRESS, ProgressLine

log = logging.getLogger(__name__)

NAN_NOTE = (
    "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
)
# a training of fewer steps than ten times these is not judged, others on so many frames
FEWEST_STEPS, JUDGED_FRAMES = 100, 20
# nothing is learnt of a label if more than this of its error is left
LEARNT = 0.99
# what each term of the loss teaches, as `deepspin.model.closed_form.ROWS` names it
JUDGED = {
    "e": ("energy",),
    "fr": ("force",),
    "fm": ("along", "across"),
    "v": ("virial",),
}
ADVICE = '; what spins do, `"model/spin/type": "invariant"` knows before the first step'


class TrainingError(RuntimeError):
    """Training cannot go on."""


def step_of(model: keras.Model) -> int:
    """Number of steps made so far."""
    return steps_made(model.optimizer)


def rows_until(path: Path, header: str, step: int) -> list[str]:
    """Lines of a file up to a step, its header with them; none if that is another.

    Lines that are not whole are left out: those without an end, with words that are no
    numbers, more or fewer of these than the header has names, or steps that go back.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(header):  # other columns: begin anew
        return []
    width = len(header.partition("\n")[0].split()) - 1  # without the #
    kept, last = [header], -1
    for row in text[len(header) :].split("\n")[:-1]:
        words = row.split()
        if len(words) == width and all(map(_is_number, words)) and words[0].isdigit():
            if last < int(words[0]) <= step:
                kept.append(f"{row}\n")
                last = int(words[0])
    return kept


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class LossGuard(keras.callbacks.Callback):
    """Stop at the first step whose loss is not finite, and say whose it was.

    Parameters
    ----------
    data : DataSystem
        The training data.
    """

    def __init__(self, data: DataSystem):
        super().__init__()
        self.data = data

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raise `TrainingError` on a loss of NaN or infinity."""
        if logs is not None and not math.isfinite(logs["loss"]):
            self.blame(int(self.model.failed_step.numpy()), "The loss is not finite")

    def blame(self, step: int, what: str) -> NoReturn:
        """Raise `TrainingError`: what went wrong, at which step, on which frames."""
        system, frames = self.data.plan(step)
        raise TrainingError(
            f"{what} at step {step}, on frames {frames.tolist()} "
            f"of '{self.data.systems[system].path}'. Look at these frames, or lower "
            "`start_lr`: the update of the step before may have been too large. No "
            "checkpoint was written with such weights."
        )


class LearnsNothing(keras.callbacks.Callback):
    """Tell of labels whose errors a tenth of the training has not changed.

    Parameters
    ----------
    data : DataSystem
        What the errors are measured on, a few frames.
    numb_steps : int
        Steps of the whole training; short ones are not judged.
    """

    def __init__(self, data: DataSystem, numb_steps: int):
        super().__init__()
        self.data, self.tenth = data, numb_steps // 10
        self.start: dict[str, float] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Measure the errors before the first step."""
        if self.tenth >= FEWEST_STEPS and step_of(self.model) == 0:
            self.start = self._measure()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Compare after a tenth of the steps."""
        if not self.start or step_of(self.model) < self.tenth:
            return
        now = self._measure()
        same = [n for n, e in self.start.items() if e > 0 and now[n] > LEARNT * e]
        if same:
            log.warning(
                "after a tenth of the steps these errors are not 1 %% less than before "
                "the first: %s. Raise their prefactors, or train longer%s",
                ", ".join(
                    f"{title} ({self.start[name]:.2e}, now {now[name]:.2e} {unit})"
                    for name, (title, unit) in WORDS.items()
                    if name in same
                ),
                "" if self.model.spin.scheme.name == "invariant" else ADVICE,
            )
        self.start = {}

    def _measure(self) -> dict[str, float]:
        """Errors of the labels that the loss weighs."""
        loss = self.model.loss_function
        weighed = {name for term in loss.active for name in JUDGED.get(term, ())}
        if loss.fm_component != "full":
            weighed -= {"along" if loss.fm_component == "transverse" else "across"}
        found = label_errors(self.model, self.data.spread(JUDGED_FRAMES))
        return {name: value for name, value in found.items() if name in weighed}


class BatchErrors:
    """Errors on the training batch of the last step, and on validation batches.

    Parameters
    ----------
    train, valid : DataSystem
        Data; `valid` may be None.
    freq : int
        Steps from which on other validation batches are taken.
    numb_btch : int
        Validation batches that are averaged over.
    """

    def __init__(
        self, train: DataSystem, valid: DataSystem | None, freq: int, numb_btch: int
    ):
        self.train, self.valid = train, valid
        self.freq, self.numb_btch = freq, numb_btch
        self._report: Any = None  # until there is a model
        self._last: tuple[int, list[dict[str, float]]] = (-1, [])

    @property
    def columns(self) -> list[str]:
        """Names of what `at` returns."""
        return ["trn"] if self.valid is None else ["val", "trn"]

    def begin(self, model: keras.Model) -> None:
        """Prepare the evaluation of a model."""
        # without XLA: an evaluation now and then does not repay compiling
        self._report = tf.function(model.report, autograph=False, reduce_retracing=True)

    def at(self, step: int) -> list[dict[str, float]]:
        """Errors by name after so many steps, in the order of `columns`."""
        if self._last[0] != step:
            rows = [self._mean(self.train, [max(step - 1, 0)])]
            if self.valid is not None:
                first = step // self.freq * self.numb_btch
                steps = range(first, first + self.numb_btch)
                rows.insert(0, self._mean(self.valid, steps))
            self._last = (step, rows)
        return [dict(row) for row in self._last[1]]

    def _mean(self, data: DataSystem, steps: Sequence[int]) -> dict[str, float]:
        """Errors over batches: what counts in one of them counts alike in all.

        A batch counts for what it has labels and atoms of.
        """
        total: dict[str, float] = {}
        weights: dict[str, float] = {}
        for step in steps:
            batch = tf.nest.map_structure(tf.convert_to_tensor, data.batch(step))
            found = {
                name: (float(value), float(weight))
                for name, (value, weight) in self._report(*batch).items()
                if name != "score"
            }
            finite = math.isfinite(found["rmse"][0])
            for name, (value, weight) in found.items():
                counts = weight if value == value or not finite else 0.0
                power = 2 if name.startswith("rmse") else 1
                weights[name] = weights.get(name, 0.0) + counts
                more = counts and counts * value**power
                total[name] = total.get(name, 0.0) + more
        return {name: _root(name, total[name], weights[name]) for name in total}


def _root(name: str, total: float, weight: float) -> float:
    """Mean of so many, or its root where squares were added up."""
    if not weight:
        return math.nan
    mean = total / weight
    return math.sqrt(mean) if name.startswith("rmse") else mean


class LearningCurve(keras.callbacks.Callback):
    """Write ``lcurve.out`` in DeePMD-kit's columns and report progress.

    Line k holds the errors with the weights after k updates, on the training batch of
    the last update and averaged over `numb_btch` validation batches.

    Parameters
    ----------
    path : str
        File to write.
    errors : BatchErrors
        What it writes.
    disp_freq : int
        Steps between lines.
    numb_steps : int
        Steps of the whole training.
    restart : bool
        Keep the lines of `path` up to the present step.
    timing : bool
        Report wall time and the time still needed.
    averages : bool
        Write the means of the training errors of all steps since the line before
        instead of those of the last batch. After a restart, since that.
    line : ProgressLine
        Shows progress on a terminal, instead of lines.
    """

    def __init__(
        self,
        path: str | Path,
        errors: BatchErrors,
        *,
        disp_freq: int,
        numb_steps: int,
        restart: bool = False,
        timing: bool = True,
        averages: bool = False,
        line: ProgressLine,
    ):
        super().__init__()
        self.path, self.errors, self.line = Path(path), errors, line
        self.train, self.averages = errors.train, averages
        self.disp_freq = disp_freq
        self.numb_steps, self.restart, self.timing = numb_steps, restart, timing
        self._clock, self._speed = (0, 0.0), ""
        # seconds of the first step of each
        self._compiled: dict[Shape | None, float] = {}
        self._waited = 0.0  # for these, since the last line
        self._begun = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin the file, or go on with it, and write the present step's line."""
        self.errors.begin(self.model)
        step = step_of(self.model)
        kept = rows_until(self.path, self._header(), step) if self.restart else []
        with replacing(self.path) as partial:
            partial.write_text("".join(kept) or self._header(), encoding="utf-8")
        if not kept:
            self._write(step)
        self._clock = (step, time.perf_counter())

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Say so if the step has to be compiled first."""
        self._begun = time.perf_counter()
        if self._shape(step_of(self.model)) not in self._compiled:
            self.line.tell(f"{self._compiling()}compiling")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Write a line every `disp_freq` steps."""
        step = step_of(self.model)
        self.line.advance(step)
        shape = self._shape(step - 1)
        if shape not in self._compiled:
            what = self._compiling()
            self._compiled[shape] = time.perf_counter() - self._begun
            self._waited += self._compiled[shape]
            log.info("%scompiled in %.1f s", what, self._compiled[shape])
            self.line.tell("")
        if step % self.disp_freq == 0:
            self._report_time(step)
            self._write(step, logs if self.averages else None)
            self._clock, self._waited = (step, time.perf_counter()), 0.0

    def _shape(self, step: int) -> Shape | None:
        """Shape of the batch of a step, if XLA compiles a step for each."""
        if self.model.jit_compile:
            return self.train.shapes[self.train.plan(step)[0]]
        return None

    def _compiling(self) -> str:
        """What is about to be compiled."""
        if not self.model.jit_compile:
            return "training step: "
        return f"shape {len(self._compiled) + 1} of {len(set(self.train.shapes))}: "

    def _header(self) -> str:
        columns = self.errors.columns
        names = [
            f"{name}_{column}"
            for name in self.model.loss_function.names
            for column in columns
        ]
        text = "# {:5s}".format("step")
        width = len(columns)
        for k in range(0, len(names), width):
            text += "   " + " ".join(f"{name:>11s}" for name in names[k : k + width])
        return text + f"   {'lr':8s}\n" + NAN_NOTE

    def _write(self, step: int, means: dict | None = None) -> None:
        rows = self.errors.at(step)
        if means is not None:
            rows[-1] = {n: float(means[n]) for n in self.model.loss_function.names}
            for metric in self.model.metrics:
                metric.reset_state()
        rate = float(self.model.optimizer.learning_rate)
        text = f"{step:7d}"
        for name in self.model.loss_function.names:
            text += "   " + " ".join(f"{row[name]:11.2e}" for row in rows)
        append(self.path, text + f"   {rate:8.1e}\n")
        for label, row in zip(("trn", "val"), reversed(rows), strict=False):
            errors = ", ".join(f"{k} = {v:8.2e}" for k, v in row.items())
            tail = f", lr = {rate:8.2e}" if label == "trn" else ""
            log.info("batch %7d: %s: %s%s", step, label, errors, tail, extra=PROGRESS)
        best = {k.removeprefix("rmse_"): v for k, v in rows[0].items() if k != "rmse"}
        words = [f"{k} {v:.2e}" for k, v in best.items() if v == v]
        self.line.tell(
            f"{self.errors.columns[0]}:", *words, self._speed, f"lr {rate:.1e}"
        )

    def _report_time(self, step: int) -> None:
        if not self.timing:
            return
        since, start = self._clock
        wall = time.perf_counter() - start
        each = max(wall - self._waited, 0.0) / max(step - since, 1)
        eta = datetime.timedelta(seconds=round(each * (self.numb_steps - step)))
        self._speed = f"{1e3 * each:.1f} ms/step"
        log.info(
            "batch %7d: total wall time = %.2f s, %.1f ms/step, eta = %s",
            step,
            wall,
            1e3 * each,
            eta,
            extra=PROGRESS,
        )


class AveragedModel:
    """Makes the model whose weights are the averages that the optimizer keeps."""

    def __init__(self) -> None:
        self._copy: SpinEnergyModel | None = None

    def __call__(self, model: SpinEnergyModel) -> SpinEnergyModel:
        """The same object each time, with the averages of the present step."""
        if self._copy is None:
            self._copy = SpinEnergyModel.from_config(model.get_config())
        own = model.trainable_variables
        kept = [weight.numpy() for weight in own]
        if step_of(model) > 0:
            model.optimizer.finalize_variable_values(own)
        for ours, theirs in zip(self._copy.weights, model.weights, strict=True):
            ours.assign(theirs)
        for weight, value in zip(own, kept, strict=True):
            weight.assign(value)
        return self._copy


class Checkpoint(keras.callbacks.Callback):
    """Save model, optimizer and step every `save_freq` steps and at the end.

    Writes ``PREFIX-STEP.keras``, keeps the last `max_keep` of them and names the newest
    in the file ``checkpoint``.

    Parameters
    ----------
    prefix : str
        Beginning of the file names.
    save_freq : int
        Steps between saves.
    max_keep : int
        Number of files kept.
    metadata : dict
        Stored in every file, with the step.
    averaged : AveragedModel, optional
        Save what this makes of the model, and do not name it in ``checkpoint``.
    """

    def __init__(
        self,
        prefix: str,
        save_freq: int,
        max_keep: int,
        metadata: dict,
        averaged: AveragedModel | None = None,
    ):
        super().__init__()
        self.prefix, self.save_freq, self.max_keep = Path(prefix), save_freq, max_keep
        self.metadata, self.averaged = metadata, averaged
        # those of the same run, before it was restarted, too
        self.written = list(find_checkpoints(prefix).values())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Save every `save_freq` steps."""
        if step_of(self.model) % self.save_freq == 0:
            self.save()

    def save(self) -> Path:
        """Save now, unless this step is saved already."""
        step, path = step_of(self.model), self.path
        if self.written and path == self.written[-1]:
            return path
        if not all(np.isfinite(w.numpy()).all() for w in self.model.weights):
            raise TrainingError(
                f"Weights are not finite after step {step}: not saved. Lower "
                "`start_lr`."
            )
        model = self.model if self.averaged is None else self.averaged(self.model)
        save_model(model, path, {**self.metadata, "step": step})
        if self.averaged is None:
            with replacing(path.parent / POINTER) as partial:
                partial.write_text(POINTER_LINE.format(path.name), encoding="utf-8")
        log.info("saved checkpoint %s", path)
        self.written = [old for old in self.written if old != path] + [path]
        for old in self.written[: -self.max_keep]:
            old.unlink(missing_ok=True)
        self.written = self.written[-self.max_keep :]
        return path

    @property
    def path(self) -> Path:
        """Where the model is saved as it is now."""
        step = step_of(self.model)
        return self.prefix.with_name(f"{self.prefix.name}-{step}.keras")

    @property
    def way_on(self) -> str:
        """How to go on after a failure."""
        if not self.written:
            return "No checkpoint was written yet."
        return f"Then go on from the last checkpoint, with -r {self.written[-1]}."


class StopTraining(keras.callbacks.Callback):
    """Have Keras stop after the step in which a signal came.

    Parameters
    ----------
    stop : StopOnSignal
        Notes signals.
    """

    def __init__(self, stop: StopOnSignal):
        super().__init__()
        self.stop = stop

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Tell Keras to stop."""
        if self.stop.received is not None:
            self.model.stop_training = True


class Summaries(keras.callbacks.Callback):
    """Write errors and learning rate for TensorBoard.

    Parameters
    ----------
    folder : str
        Folder of the files.
    errors : BatchErrors
        What it writes, under ``trn/`` and ``val/``.
    freq : int
        Steps between two points.
    """

    def __init__(self, folder: str, errors: BatchErrors, freq: int):
        super().__init__()
        self.folder, self.errors, self.freq = folder, errors, freq
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._kind = tf.compat.v1.SummaryMetadata(plugin_data=plugin, data_class=1)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Open a file, and write the present step's point."""
        self.errors.begin(self.model)
        self._writer = tf.summary.create_file_writer(self.folder)
        self._write(step_of(self.model))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Write a point every `freq` steps."""
        step = step_of(self.model)
        if step % self.freq == 0:
            self._write(step)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int) -> None:
        values = {"learning_rate": float(self.model.optimizer.learning_rate)}
        rows = zip(self.errors.columns, self.errors.at(step), strict=True)
        for column, row in rows:
            values |= {f"{column}/{k}": v for k, v in row.items() if v == v}
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, value, step=step, metadata=self._kind)
        self._writer.flush()
