# SPDX-License-Identifier: Apache-2.0
"""Training from an input file: data, model, statistics, `fit`."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from deepspin import __version__, env
from deepspin.data.dataset import DataSystem
from deepspin.interop import stat_file
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.invariant import InvariantSpin
from deepspin.model.magnetism import magnetism
from deepspin.modelfiles.find import read_metadata
from deepspin.op.library import KernelError, errors_in_one_line
from deepspin.training.bias import demand_energies
from deepspin.training.callbacks import (
    AveragedModel,
    BatchErrors,
    Checkpoint,
    LearningCurve,
    LearnsNothing,
    LossGuard,
    Summaries,
    step_of,
)
from deepspin.training.finetune import adjust, matched, with_script
from deepspin.training.report import (
    report,
    report_augmentation,
    report_baseline,
    report_neighbors,
)
from deepspin.training.runs import (
    describe,
    fingerprint,
    set_aside_earlier,
    warn_of_differences,
)
from deepspin.training.setup import (
    Origin,
    compile_model,
    inherit,
    initial_model,
    load_data,
    load_origin,
    restore_optimizer,
    with_factor,
    with_length,
    with_prefactors,
    with_seed,
    with_sel,
)
from deepspin.training.timeline import Timeline
from deepspin.training.validation import (
    FullValidation,
    best_prefix,
    check_metric,
    first_step,
    log_path,
)
from deepspin.training.workers import LOST, Workers, join
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.outputs import (
    OutputError,
    claim,
    is_stream,
    locked,
    replacing,
)
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import ProgressLine

log = logging.getLogger(__name__)

# steps between two looks at signals, at most
MOST_STEPS = 20
# behind names of files of averaged models
EMA = "_ema"


def train(
    input: str | Path | dict,
    *,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    finetune: str | None = None,
    use_pretrain_script: bool = False,
    output: str | None = "out.json",
    skip_neighbor_stat: bool = False,
) -> SpinEnergyModel:
    """Train a model as an input file says; what ``dp-spin train`` does.

    Parameters
    ----------
    input : str or dict
        Path of the input (JSON or YAML), or its content.
    init_model : str, optional
        Begin with the weights of this checkpoint, at step 0.
    restart : str, optional
        Go on from this checkpoint: weights, optimizer, step and learning curve; ends
        bit for bit as if never interrupted, on the same machine and versions.
    init_frz_model : str, optional
        Begin with the weights of this frozen DeePMD-kit model (``.pb``), at step 0.
    finetune : str, optional
        Begin with the weights of this model of any kind, at step 0, its energy bias
        changed so that it fits the training data best.
    use_pretrain_script : bool
        Take the section ``model`` of the model that is begun with, not the input's.
    output : str, optional
        Where to write the input with all defaults filled in.
    skip_neighbor_stat : bool
        Do not report neighbours and the shortest distance before training.

    Returns
    -------
    SpinEnergyModel
        The trained model, compiled. The current folder holds ``lcurve.out`` and the
        checkpoints; those of an earlier run are moved to ``previous-N``.

    Raises
    ------
    InputError
        A mistake in the input.
    DataError
        A mistake in the data.
    OutputError
        Results cannot be written, or another training is writing them.
    TrainingError
        The loss is not finite any more, or the weights have grown too large.
    Stopped
        SIGINT or SIGTERM came; the model is saved.
    WorkerError
        Another worker of a training over several was lost; the chief saves the model.
    """
    env.claim_process()
    begun = (init_model, restart, init_frz_model, finetune)
    if sum(x is not None for x in begun) > 1:
        raise InputError(
            "Give at most one of -i (init_model), -r (restart), -f (init_frz_model), "
            "-t (finetune)."
        )
    content = input if isinstance(input, dict) else load_input(input)
    if use_pretrain_script:
        content = with_script(content, init_model or init_frz_model or finetune)
    options = normalize(content)
    workers = join()
    with workers.heard(), _outputs(options, output, workers) as outputs:
        start = time.perf_counter()
        given = (options, *begun, use_pretrain_script)
        workers.agree(input=given, version=(__version__, tf.__version__))
        origin = load_origin(restart or init_model or finetune, init_frz_model)
        if origin is None and workers.chief and options["training"]["stat_file"]:
            training = options["training"]
            stat_file.check(training["stat_file"], training["stat_file_mode"])
        restarted = origin if restart else None
        if restarted is None:
            options, origin = matched(options, origin)
        run = _set_up(
            options,
            origin,
            restarted,
            skip_neighbor_stat,
            finetune is not None,
            workers,
        )
        report(run.model, run.train_data, run.valid_data, time.perf_counter() - start)
        done, total = step_of(run.model), run.options["training"]["numb_steps"]
        if done >= total and done > 0:
            log.info("nothing to do: %d of %d steps are done", done, total)
            return run.model
        if workers.chief:
            further = _further_prefixes(run.options)
            set_aside_earlier(*outputs, restarted and restarted[0], done, further)
        if workers.chief and output is not None:
            with replacing(output) as partial:
                text = json.dumps(run.options, indent=2)
                partial.write_text(text, encoding="utf-8")
        _fit(run, restarted is not None)
    return run.model


@contextmanager
def _outputs(
    options: dict, output: str | None, workers: Workers
) -> Iterator[tuple[Path, list[Path]]]:
    """Prefix of the checkpoints, and the other files, kept from other programs."""
    if not workers.chief:
        yield Path(options["training"]["save_ckpt"]), []
        return
    prefix, others = _claim_outputs(options, output)
    with ExitStack() as stack:
        for path in dict.fromkeys([prefix, *others]):
            what = f"{path}-*.keras" if path == prefix else path
            message = (
                f"Another training is writing '{what}' now. Wait for it, or train in "
                "another folder, or with other `save_ckpt` and `disp_file`."
            )
            stack.enter_context(locked(path, message=message))
        yield prefix, others


def _claim_outputs(options: dict, output: str | None) -> tuple[Path, list[Path]]:
    """Prefix of the checkpoints, and the other files, made sure of."""
    training = options["training"]
    prefix = Path(training["save_ckpt"])
    others = {} if output is None else {"-o": Path(output)}
    if training["disp_training"]:
        others["`disp_file`"] = Path(training["disp_file"])
    for suffix in _validated(options):
        others[f"`full_val_file`{suffix}"] = log_path(options, suffix)
    if training["profiling"]:
        others["`profiling_file`"] = Path(training["profiling_file"])
    for start in (prefix, *_further_prefixes(options)):
        claim(start.with_name(f"{start.name}-STEP.keras"))
    if prefix.resolve() in map(Path.resolve, _further_prefixes(options)):
        raise OutputError(
            f"`save_ckpt` is '{prefix}', and so are the names of the best models. Give "
            "it another name, or those a folder, `validating/save_best_dir`."
        )
    names: dict[Path, str] = {}
    for name, path in others.items():
        claim(path)
        other = names.setdefault(path.resolve(), name)
        if other != name and not is_stream(path):
            raise OutputError(
                f"{name} and {other} are both '{path}'. Give one another name."
            )
    if training["tensorboard"] or training["enable_profiler"]:
        claim(Path(training["tensorboard_log_dir"]) / "events")
    return prefix, list(others.values())


def _validated(options: dict) -> list[str]:
    """Suffixes of the files of full validations: none, and that of averaged models."""
    given = options["validating"]
    asked = {
        "": given["full_validation"],
        EMA: given["ema_full_validation"],
    }
    on = given["full_val_start"] != 1
    return [suffix for suffix, wanted in asked.items() if wanted and on]


def _further_prefixes(options: dict) -> list[Path]:
    """Prefixes of the files of averaged models and of the best ones."""
    training, found = options["training"], []
    if training["enable_ema"]:
        found.append(Path(training["save_ckpt"] + EMA))
    if options["validating"]["save_best"]:
        found += [best_prefix(options, suffix) for suffix in _validated(options)]
    return found


@dataclass(frozen=True)
class _Run:
    """A training that is ready to begin."""

    options: dict
    model: SpinEnergyModel
    train_data: DataSystem
    valid_data: DataSystem | None
    metadata: dict
    workers: Workers


def _set_up(
    options: dict,
    origin: Origin | None,
    restarted: Origin | None,
    skip_neighbor_stat: bool,
    finetune: bool,
    workers: Workers,
) -> _Run:
    """Read data, settle `sel` and seed, make model and optimizer."""
    options = workers.settled(with_seed(options, restarted))
    options = with_sel(options, None if origin is None else origin[1])
    options = with_factor(options, origin)
    train_data, valid_data = load_data(inherit(options, origin))
    workers.agree(training_data=fingerprint(train_data))
    if _validated(options):
        check_metric(options, valid_data)
    if finetune:
        demand_energies(train_data, "-t (finetune)")
    if options["training"]["change_bias_after_training"]:
        demand_energies(train_data, "`training/change_bias_after_training`")
    options = with_length(with_sel(options, train_data), train_data)
    for data in (train_data, valid_data):
        if data is not None:
            data.truncate(data.spin.extend_sel(options["model"]["descriptor"]["sel"]))
    if not skip_neighbor_stat:
        report_neighbors(train_data)
    report_augmentation(train_data)
    model, options = initial_model(
        options, origin, train_data, valid_data, chief=workers.chief
    )
    if finetune:
        adjust(model, options, train_data)
    report_baseline(model, train_data, valid_data)
    options = with_prefactors(options, model, train_data, restarted)
    options = workers.settled(options)
    compile_model(model, options)
    metadata = describe(options, train_data)
    metadata["engine"]["workers"] = workers.count
    if restarted is not None:
        restore_optimizer(model, *restarted)
        stored = read_metadata(restarted[0])
        warn_of_differences(stored, metadata, str(restarted[0]))
    workers.share(model)
    return _Run(options, model, train_data, valid_data, metadata, workers)


def _steps_at_once(model: SpinEnergyModel, options: dict, done: int) -> int:
    """Steps that Keras makes without coming back to Python, in between of reports."""
    training = options["training"]
    if model.jit_compile or not hasattr(model, "unrolled_steps_per_execution"):
        return 1  # XLA compiles for shapes known; an older Keras copies the step
    if training["profiling"]:
        return 1  # a timeline tells steps apart
    common = math.gcd(training["save_freq"], done)
    if training["disp_training"]:
        common = math.gcd(common, training["disp_freq"])
    if training["tensorboard"]:
        common = math.gcd(common, training["tensorboard_freq"])
    if _validated(options):
        start = first_step(options) or 0
        common = math.gcd(common, options["validating"]["validation_freq"], start)
    return max(n for n in range(1, MOST_STEPS + 1) if common % n == 0)


def _fit(run: _Run, restart: bool) -> None:
    """Make the steps that are left, and write the last checkpoint."""
    model, training = run.model, run.options["training"]
    done, total = step_of(model), training["numb_steps"]
    checkpoint = Checkpoint(
        training["save_ckpt"],
        training["save_freq"],
        training["max_ckpt_keep"],
        run.metadata,
    )
    checkpoint.set_model(model)
    workers = run.workers
    if total == 0:
        return _only_begin(run, checkpoint) if workers.chief else None
    guard, line = LossGuard(run.train_data), ProgressLine(total, done)
    told, judge = _Magnetism(run), LearnsNothing(run.train_data, total)
    reports, averaged = _reports(run, line, restart), AveragedModel()
    validations = _validations(run, averaged, restart)
    saving = [checkpoint, *_averages(run, averaged)]
    own = [*reports, judge, _LastBias(run), told, *validations, *saving]
    timeline = Timeline(training["profiling_file"], total)
    if training["profiling"]:
        own.insert(0, timeline)
    start = time.perf_counter()
    if workers.count == 1:
        model.steps_per_execution = _steps_at_once(model, run.options, done)
    try:
        with (
            StopOnSignal() as stop,
            line,
            errors_in_one_line(),
            _profiled(training, workers),
            closing(timeline),
        ):
            model.fit(
                workers.dataset(run.train_data, done, total - done),
                steps_per_epoch=total - done,
                verbose=0,
                shuffle=False,
                callbacks=[
                    *(guard, *(own if workers.chief else [])),
                    workers.stop_by(stop),
                ],
            )
            path = checkpoint.path
            if workers.chief:
                told.tell()  # of a training that was stopped
                path, *_ = [writer.save() for writer in saving]
            workers.finish()
    except LOST as error:
        raise workers.lost(error, checkpoint) from error
    except OutputError as error:
        raise OutputError(f"{error} {checkpoint.way_on}") from error
    except KernelError as error:
        guard.blame(step_of(model), str(error).partition(". ")[0].capitalize())
    seconds = time.perf_counter() - start
    log.info("%d steps in %.1f s, model in %s", step_of(model) - done, seconds, path)
    received = workers.stopped_by(stop)
    if received is not None and step_of(model) < total:
        raise Stopped(
            f"stopped by {received.name} after step {step_of(model)}; go on with "
            f"-r {path}",
            received,
        )


@contextmanager
def _profiled(training: dict, workers: Workers) -> Iterator[None]:
    """Within, note what TensorFlow does, if that is asked for."""
    if not (training["enable_profiler"] and workers.chief):
        yield
        return
    tf.profiler.experimental.start(training["tensorboard_log_dir"])
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


def _only_begin(run: _Run, checkpoint: Checkpoint) -> None:
    """Write the model as it is before the first step, and its line of the curve."""
    for writer in _reports(run, ProgressLine(0, 0), restart=False):
        writer.set_model(run.model)
        writer.on_train_begin()
        writer.on_train_end()
    _Magnetism(run).tell()
    log.info("no steps, model in %s", checkpoint.save())


class _LastBias(keras.callbacks.Callback):
    """Change the energy bias after the last step, if the input wants it."""

    def __init__(self, run: _Run):
        super().__init__()
        self.run = run

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Change it."""
        run, training = self.run, self.run.options["training"]
        last = step_of(run.model) == training["numb_steps"]
        if last and training["change_bias_after_training"]:
            adjust(run.model, run.options, run.train_data)


class _Magnetism(keras.callbacks.Callback):
    """Add what an invariant model says of magnetism to what its last file tells."""

    def __init__(self, run: _Run):
        super().__init__()
        self.run = run

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the model after its last step."""
        if step_of(self.run.model) == self.run.options["training"]["numb_steps"]:
            self.tell()

    def tell(self) -> None:
        """Look at the model, unless that is done."""
        model, metadata = self.run.model, self.run.metadata
        if isinstance(model.spin, InvariantSpin) and "magnetism" not in metadata:
            metadata["magnetism"] = magnetism(model, self.run.train_data)


def _reports(
    run: _Run, line: ProgressLine, restart: bool
) -> list[keras.callbacks.Callback]:
    """What writes the learning curve, to its file and for TensorBoard."""
    training, found = run.options["training"], []
    errors = BatchErrors(
        run.train_data,
        run.valid_data,
        training["disp_freq"],
        (training["validation_data"] or {}).get("numb_btch", 1),
    )
    if training["disp_training"]:
        found.append(
            LearningCurve(
                training["disp_file"],
                errors,
                disp_freq=training["disp_freq"],
                numb_steps=training["numb_steps"],
                restart=restart,
                timing=training["time_training"],
                averages=training["disp_avg"],
                line=line,
            )
        )
    if training["tensorboard"]:
        folder, freq = training["tensorboard_log_dir"], training["tensorboard_freq"]
        found.append(Summaries(folder, errors, freq))
    return found


def _validations(
    run: _Run, averaged: AveragedModel, restart: bool
) -> list[FullValidation]:
    """What evaluates all validation data."""
    if run.valid_data is None:
        return []
    return [
        FullValidation(
            run.valid_data,
            run.options,
            run.metadata,
            averaged=averaged if suffix else None,
            suffix=suffix,
            restart=restart,
        )
        for suffix in _validated(run.options)
    ]


def _averages(run: _Run, averaged: AveragedModel) -> list[Checkpoint]:
    """What writes the averaged model beside each checkpoint."""
    training = run.options["training"]
    if not training["enable_ema"]:
        return []
    found = Checkpoint(
        training["save_ckpt"] + EMA,
        training["save_freq"],
        training["ema_ckpt_keep"] or training["max_ckpt_keep"],
        run.metadata,
        averaged=averaged,
    )
    found.set_model(run.model)
    return [found]
