# SPDX-License-Identifier: Apache-2.0
"""Training from an input file: data, model, statistics, `fit`."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.interop.deepmd import load_frozen
from deepspin.loss.ener_spin import LABELS, EnerSpinLoss
from deepspin.loss.learning_rate import ExpDecay, adam
from deepspin.model.ener import SpinEnergyModel, build_model
from deepspin.modelfiles.archive import load_model
from deepspin.modelfiles.find import (
    find_checkpoints,
    read_metadata,
    resolve_checkpoint,
)
from deepspin.op.library import KernelError, errors_in_one_line
from deepspin.spins.virtual import VirtualAtoms
from deepspin.training.callbacks import (
    Checkpoint,
    LearningCurve,
    LossGuard,
    StopTraining,
    step_of,
)
from deepspin.training.runs import describe, set_aside_earlier, warn_of_differences
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.outputs import OutputError, claim, locked, replacing
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped
from deepspin.utils.terminal import ProgressLine

log = logging.getLogger(__name__)

# steps between two looks at signals, at most
MOST_STEPS = 20


def train(
    input: str | Path | dict,
    *,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
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
    """
    if sum(x is not None for x in (init_model, restart, init_frz_model)) > 1:
        raise InputError(
            "Give at most one of -i (init_model), -r (restart), -f (init_frz_model)."
        )
    options = normalize(input if isinstance(input, dict) else load_input(input))
    prefix = Path(options["training"]["save_ckpt"])
    others = [Path(output)] if output is not None else []
    if options["training"]["disp_training"]:
        others.append(Path(options["training"]["disp_file"]))
    claim(prefix.with_name(f"{prefix.name}-STEP.keras"))
    for path in others:
        claim(path)
    if len({path.resolve() for path in others}) < len(others):
        raise OutputError(
            f"`disp_file` and -o are both '{others[0]}'. Give one another name."
        )
    with locked(
        prefix,
        f"Another training is writing '{prefix}-*.keras' now. Wait for it, or train in "
        "another folder, or with other `save_ckpt` and `disp_file`.",
    ):
        start = time.perf_counter()
        origin = _load_origin(restart or init_model, init_frz_model)
        restarted = origin if restart else None
        options = _with_seed(options, restarted)
        options = _with_sel(options, None if origin is None else origin[1])
        train_data, valid_data = _load_data(_inherit(options, origin))
        options = _with_sel(options, train_data)
        for data in (train_data, valid_data):
            if data is not None:
                data.truncate(
                    data.spin.extend_sel(options["model"]["descriptor"]["sel"])
                )
        if not skip_neighbor_stat:
            _report_neighbors(train_data)
        model = _initial_model(options, origin, train_data)
        _compile(model, options)
        metadata = describe(options, train_data)
        if restarted is not None:
            _restore_optimizer(model, *restarted)
            path = restarted[0]
            warn_of_differences(read_metadata(path), metadata, str(path))
        _report(model, options, train_data, valid_data, time.perf_counter() - start)
        done, total = step_of(model), options["training"]["numb_steps"]
        if done >= total:
            log.info("nothing to do: %d of %d steps are done", done, total)
            return model
        set_aside_earlier(prefix, others, restarted and restarted[0], done)
        if output is not None:
            with replacing(output) as partial:
                partial.write_text(json.dumps(options, indent=2), encoding="utf-8")
        _fit(model, options, metadata, train_data, valid_data, restarted is not None)
    return model


def _load_origin(
    checkpoint: str | None, frozen: str | None
) -> tuple[Path, SpinEnergyModel] | None:
    """Model to begin with and where it came from."""
    if checkpoint is not None:
        path = resolve_checkpoint(checkpoint)
        model = load_model(path)
        if model.compressed:
            raise InputError(
                f"'{path}' is compressed, and tables cannot be trained. Train before "
                "compressing: begin with the model that it was made of."
            )
        return path, model
    if frozen is not None:
        if not str(frozen).endswith(".pb"):
            raise InputError(
                f"-f takes models frozen by DeePMD-kit (.pb). Received: '{frozen}'. "
                "-i takes every kind of model."
            )
        return Path(frozen), load_frozen(frozen)[0]
    return None


def _with_seed(options: dict, origin: tuple[Path, SpinEnergyModel] | None) -> dict:
    """Settle the seed of the order of data: given, the checkpoint's, or fresh."""
    training = dict(options["training"])
    if training["seed"] is None and origin is not None:
        stored = read_metadata(origin[0]).get("input", {})
        training["seed"] = stored.get("training", {}).get("seed")
    if training["seed"] is None:
        training["seed"] = int(np.random.default_rng().integers(2**31))
    return {**options, "training": training}


def _inherit(options: dict, origin: tuple[Path, SpinEnergyModel] | None) -> dict:
    """Add what a model from DeePMD-kit's other backends has and no input can say."""
    if origin is None:
        return options
    source, model = origin[1], dict(options["model"])
    for part, more in (
        ("spin", {"placeholders": source.spin.scheme.placeholders}),
        ("descriptor", {"float32_cutoff": source.descriptor.float32_cutoff}),
    ):
        model[part] = {**model[part], **more}
    return {**options, "model": model}


def _with_sel(options: dict, source: SpinEnergyModel | DataSystem | None) -> dict:
    """Replace `sel` "auto" or "auto:RATIO" by a model's, or by what data needs."""
    sel = options["model"]["descriptor"]["sel"]
    if not isinstance(sel, str) or source is None:
        return options
    if isinstance(source, DataSystem):
        numbers = source.suggest_sel(float(sel.partition(":")[2] or 1.1))
    else:
        numbers = list(source.descriptor.sel[: source.descriptor.ntypes])
    log.info("sel %s: %s", sel, numbers)
    descriptor = {**options["model"]["descriptor"], "sel": numbers}
    return {**options, "model": {**options["model"], "descriptor": descriptor}}


def _load_data(options: dict) -> tuple[DataSystem, DataSystem | None]:
    model, training = options["model"], options["training"]
    spin = {k: v for k, v in model["spin"].items() if k != "type"}
    scheme = VirtualAtoms.from_options(**spin)
    descriptor = model["descriptor"]
    sel = descriptor["sel"]
    common = {
        "type_map": model["type_map"],
        "spin": scheme,
        "rcut": descriptor["rcut"],
        "sel": None if isinstance(sel, str) else scheme.extend_sel(sel),
        "allow_zero_spin": descriptor["env_protection"] > 0,
        "numb_fparam": model["fitting_net"]["numb_fparam"],
    }
    names = ("systems", "batch_size", "auto_prob", "sys_probs", "rglob_patterns")
    seed = training["seed"]

    def load(section: dict, seed: int) -> DataSystem:
        chosen = {name: section[name] for name in names if name in section}
        return DataSystem(**common, **chosen, seed=seed)

    train_data, valid = load(training["training_data"], seed), None
    if training.get("validation_data"):
        valid = load(training["validation_data"], seed + 1)
    _check_labels(EnerSpinLoss(**_loss_options(options)), train_data.labels)
    return train_data, valid


def _check_labels(loss: EnerSpinLoss, labels: list[str]) -> None:
    """Refuse data that no term of the loss has use for; warn of terms without."""
    missing = [term for term in loss.active if LABELS[term] not in labels]
    if missing == loss.active:
        raise DataError(
            f"The training data has the labels {labels}, none of which the loss "
            f"weighs. Add {[LABELS[term] for term in loss.active]}, or change `loss`."
        )
    for term in missing:
        log.warning(
            "no training system has '%s': start_pref_%s and limit_pref_%s do nothing",
            LABELS[term],
            term,
            term,
        )
    if loss.enable_atom_ener_coeff and "atom_ener_coeff" not in labels:
        log.warning(
            "no training system has 'atom_ener_coeff': enable_atom_ener_coeff does "
            "nothing"
        )


def _initial_model(
    options: dict, origin: tuple[Path, SpinEnergyModel] | None, data: DataSystem
) -> SpinEnergyModel:
    """Model with its initial weights and statistics."""
    model = build_model(_inherit(options, origin)["model"])
    if origin is not None:
        _copy_weights(origin[1], model, str(origin[0]))
    else:
        section = options["model"]
        model.compute_stats(
            data.sample(section["data_stat_nbatch"]),
            atom_ener=section["fitting_net"]["atom_ener"] or None,
            rcond=section["fitting_net"]["rcond"],
            protection=section["data_stat_protect"],
        )
    return model


def _copy_weights(source: SpinEnergyModel, target: SpinEnergyModel, name: str) -> None:
    """Copy all weights between models of the same architecture."""
    theirs, ours = source.get_config(), target.get_config()
    for model in (theirs, ours):  # however its options were given
        scale = (target if model is ours else source).spin.scheme.scale
        model["spin"] = {"config": {"virtual_scale": scale}}
    for part in ("type_map", "descriptor", "fitting", "spin"):
        a, b = _comparable(theirs[part]), _comparable(ours[part])
        if a != b:
            what = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
            detail = ", ".join(f"{k}: {a.get(k)} there, {b.get(k)} here" for k in what)
            raise InputError(
                f"'{name}' is another model than `model` of the input: {part} differs "
                f"({detail}). Use the input it was trained with, or train from scratch."
            )
    for a, b in zip(source.weights, target.weights, strict=True):
        b.assign(a)


def _comparable(part: object) -> dict:
    """Options of a layer that decide the meaning of its weights."""
    if not isinstance(part, dict):
        return {"type_map": part}
    config = {k: v for k, v in part["config"].items() if k not in _MEANINGLESS}
    for name in ("rcut", "rcut_smth"):  # a frozen graph has them in float32
        if name in config:
            config[name] = float(f"{np.float32(config[name]):.7g}")
    return config


_MEANINGLESS = {"name", "seed", "trainable", "trainable_layers", "set_davg_zero"}


def _loss_options(options: dict) -> dict:
    loss = {k: v for k, v in options["loss"].items() if k != "type"}
    return {**loss, "start_lr": options["learning_rate"]["start_lr"]}


def _compile(model: SpinEnergyModel, options: dict) -> None:
    rate = {k: v for k, v in options["learning_rate"].items() if k != "type"}
    if not model.trainable_variables:
        raise InputError(
            "Nothing to train: `model/descriptor/trainable` and "
            "`model/fitting_net/trainable` are false. Set one of them to true."
        )
    schedule = ExpDecay(numb_steps=options["training"]["numb_steps"], **rate)
    model.compile(
        optimizer=adam(schedule),
        loss=EnerSpinLoss(**_loss_options(options)),
        jit_compile=options["training"]["jit_compile"],
    )


def _restore_optimizer(
    model: SpinEnergyModel, path: Path, saved: SpinEnergyModel
) -> None:
    if not saved.compiled:
        raise InputError(
            f"'{path}' holds no training to go on with: no optimizer's state. Begin "
            "with it by -i."
        )
    theirs, ours = saved.optimizer.variables, model.optimizer.variables
    if [v.shape for v in theirs] != [v.shape for v in ours]:
        raise InputError(
            f"'{path}' was trained with other weights held fixed (`trainable`). Use "
            "the input it was trained with, or begin anew from it with -i."
        )
    for a, b in zip(theirs, ours, strict=True):
        b.assign(a)


def _report_neighbors(data: DataSystem) -> None:
    found = zip(data.names_extended, data.found, strict=True)
    log.info(
        "neighbours within %g Å, at most: %s; nearest atoms: %.4f Å, virtual ones "
        "included: %.4f Å",
        data.rcut,
        ", ".join(f"{name} {count}" for name, count in found),
        data.nearest_real,
        data.nearest,
    )


def _report(
    model: SpinEnergyModel,
    options: dict,
    train_data: DataSystem,
    valid_data: DataSystem | None,
    seconds: float,
) -> None:
    for title, data in (("training", train_data), ("validation", valid_data)):
        if data is None:
            continue
        log.info("%s data: %d systems", title, len(data.systems))
        paths = [_shortened(system.path) for system in data.systems]
        width = max(map(len, (*paths, "system")))
        row = f"  %-{width}s %6s %6s %5s %6s  %s"
        log.info(row, *_COLUMNS)
        for k, system in enumerate(data.systems):
            log.info(
                row,
                paths[k],
                system.nloc,
                system.nframes,
                data.batch_sizes[k],
                f"{data.probabilities[k]:.3f}",
                " ".join(sorted(system.labels)),
            )
        if data.overflow():
            log.warning(
                "more neighbours than `sel` (%s): %d are left out, and energies jump "
                "as atoms cross; sel %s would hold all",
                ", ".join(
                    f"{data.names_extended[t]}: up to {found} for {sel}"
                    for t, found, sel in data.overflow()
                ),
                data.dropped,
                data.suggest_sel(),
            )
    fitting = model.fitting
    if fitting.numb_fparam:
        log.info(
            "%d frame parameters: less %s, divided by %s",
            fitting.numb_fparam,
            ", ".join(f"{x:.6g}" for x in fitting.fparam_avg.numpy()),
            ", ".join(f"{1 / x:.6g}" for x in fitting.fparam_inv_std.numpy()),
        )
    if model.jit_compile:
        shapes = len(set(train_data.shapes))
        log.info("shapes to compile: %d of at most %d", shapes, train_data.max_shapes)
    number = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    log.info(
        "%d weights to train, %s, %s, threads: %s, set up in %.1f s",
        number,
        model.descriptor.compute_dtype,
        "kernels" if model.native else "XLA" if model.jit_compile else "no XLA",
        threads,
        seconds,
    )


def _steps_at_once(model: SpinEnergyModel, training: dict, done: int) -> int:
    """Steps that Keras makes without coming back to Python, in between of reports."""
    if model.jit_compile or not hasattr(model, "unrolled_steps_per_execution"):
        return 1  # XLA compiles for shapes known; an older Keras copies the step
    common = math.gcd(training["save_freq"], done)
    if training["disp_training"]:
        common = math.gcd(common, training["disp_freq"])
    return max(n for n in range(1, MOST_STEPS + 1) if common % n == 0)


def _shortened(path: str, width: int = 44) -> str:
    """End of a path."""
    return path if len(path) <= width else f"…{path[1 - width :]}"


_COLUMNS = ("system", "atoms", "frames", "batch", "prob", "labels")


def _fit(
    model: SpinEnergyModel,
    options: dict,
    metadata: dict,
    train_data: DataSystem,
    valid_data: DataSystem | None,
    restart: bool,
) -> None:
    training = options["training"]
    done, total = step_of(model), training["numb_steps"]
    checkpoint = Checkpoint(
        training["save_ckpt"],
        training["save_freq"],
        training["max_ckpt_keep"],
        metadata,
        written=list(find_checkpoints(training["save_ckpt"]).values()),
    )
    guard = LossGuard(train_data)
    callbacks = [guard]
    line = ProgressLine(total, done)
    if training["disp_training"]:
        numb_btch = (training.get("validation_data") or {}).get("numb_btch", 1)
        callbacks.append(
            LearningCurve(
                training["disp_file"],
                train_data,
                valid_data,
                disp_freq=training["disp_freq"],
                numb_btch=numb_btch,
                numb_steps=total,
                restart=restart,
                timing=training["time_training"],
                line=line,
            )
        )
    callbacks.append(checkpoint)
    start = time.perf_counter()
    checkpoint.set_model(model)
    model.steps_per_execution = _steps_at_once(model, training, done)
    try:
        with StopOnSignal() as stop, line, errors_in_one_line():
            model.fit(
                train_data.dataset(done, total - done),
                steps_per_epoch=total - done,
                verbose=0,
                shuffle=False,
                callbacks=[*callbacks, StopTraining(stop)],
            )
            path = checkpoint.save()
    except OutputError as error:
        raise OutputError(f"{error} {checkpoint.way_on}") from error
    except KernelError as error:
        guard.blame(step_of(model), str(error).partition(". ")[0].capitalize())
    seconds = time.perf_counter() - start
    log.info("%d steps in %.1f s, model in %s", step_of(model) - done, seconds, path)
    if stop.received is not None and step_of(model) < total:
        raise Stopped(
            f"stopped by {stop.received.name} after step {step_of(model)}; go on with "
            f"-r {path}",
            stop.received,
        )
