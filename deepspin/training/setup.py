# SPDX-License-Identifier: Apache-2.0
"""Data and model of a training, from a normalised input and what it begins with."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.stat_file import compute_stats
from deepspin.loss.ener_spin import LABELS, LOSSES, EnerSpinLoss
from deepspin.loss.learning_rate import SCHEDULES, build_optimizer
from deepspin.model.closed_form import label_errors
from deepspin.model.ener import SpinEnergyModel, build_model
from deepspin.modelfiles.archive import load_model
from deepspin.modelfiles.find import read_metadata, resolve_checkpoint
from deepspin.spins.schemes import build_scheme
from deepspin.training.runs import fingerprint
from deepspin.utils.inputs import normalize
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# frames that say what a model leaves before the training
VALIDATED_FRAMES = 100

Origin = tuple[Path, SpinEnergyModel]  # what a training begins with


def load_origin(checkpoint: str | None, frozen: str | None) -> Origin | None:
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


def with_seed(options: dict, origin: Origin | None) -> dict:
    """Settle the seed of the order of data: given, the checkpoint's, or fresh."""
    training = dict(options["training"])
    if training["seed"] is None and origin is not None:
        stored = read_metadata(origin[0]).get("input", {})
        training["seed"] = stored.get("training", {}).get("seed")
    if training["seed"] is None:
        training["seed"] = int(np.random.default_rng().integers(2**31))
    return {**options, "training": training}


def inherit(options: dict, origin: Origin | None) -> dict:
    """Add what a model from DeePMD-kit's other backends has and no input can say."""
    if origin is None:
        return options
    source, model = origin[1], dict(options["model"])
    for part in ("spin", "descriptor"):
        model[part] = {**model[part], **getattr(source, part).hidden}
    return {**options, "model": model}


def with_sel(options: dict, source: SpinEnergyModel | DataSystem | None) -> dict:
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


def load_data(options: dict) -> tuple[DataSystem, DataSystem | None]:
    """Training and validation data of a normalised input, `sel` "auto" or given."""
    model, training = options["model"], options["training"]
    scheme, descriptor = build_scheme(model["spin"]), model["descriptor"]
    sel = descriptor["sel"]
    common = {
        "type_map": model["type_map"],
        "spin": scheme,
        "rcut": descriptor["rcut"],
        "sel": None if isinstance(sel, str) else scheme.extend_sel(sel),
        "allow_zero_spin": not scheme.zero_spin or descriptor["env_protection"] > 0,
        "numb_fparam": model["fitting_net"]["numb_fparam"],
    }
    names = ("systems", "batch_size", "auto_prob", "sys_probs", "rglob_patterns")
    seed = training["seed"]

    def load(section: dict, seed: int, **more: Any) -> DataSystem:
        chosen = {name: section[name] for name in names if name in section}
        return DataSystem(**common, **chosen, seed=seed, **more)

    turns = training["augmentation"]
    train_data = load(training["training_data"], seed, augmentation=turns)
    valid_data = None
    if training.get("validation_data"):
        valid_data = load(training["validation_data"], seed + 1)
    factor = training["training_data"]["force_mag_factor"]
    for data in (train_data, valid_data):
        if data is not None and factor != "fit":
            data.scale_force_mag(factor)
    _check_labels(build_loss(options), train_data.labels)
    return train_data, valid_data


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


def with_length(options: dict, data: DataSystem) -> dict:
    """Put numbers of steps and of checkpoints to what an input gives relative to data.

    An epoch is so many steps that each system's batches are all drawn, on average.
    """
    training = dict(options["training"])
    if training["numb_epoch"] is not None:
        drawn = [
            number / share
            for number, share in zip(data.nbatches, data.probabilities, strict=True)
            if share > 0
        ]
        steps = math.ceil(training["numb_epoch"] * math.ceil(max(drawn)))
        log.info("numb_epoch %g: %d steps", training["numb_epoch"], steps)
        training |= {"numb_steps": steps, "numb_epoch": None}
    if training["ckpt_keep_ratio"] is not None:
        written = math.ceil(training["numb_steps"] / training["save_freq"])
        kept = max(1, math.ceil(training["ckpt_keep_ratio"] * written))
        training |= {
            "max_ckpt_keep": kept,
            "ema_ckpt_keep": kept,
            "ckpt_keep_ratio": None,
        }
    return normalize({**options, "training": training})


def with_factor(options: dict, origin: Origin | None) -> dict:
    """Settle what is to be fitted of the labels, if a checkpoint did that before."""
    section = options["training"]["training_data"]
    if section["force_mag_factor"] != "fit" or origin is None:
        return options
    stored = read_metadata(origin[0]).get("input", {}).get("training", {})
    factor = stored.get("training_data", {}).get("force_mag_factor")
    if factor is None:
        raise InputError(
            f"'{origin[0]}' does not say what its `force_mag` was taken times, and "
            '"fit" finds it only when a training begins anew. Give '
            "`training/training_data/force_mag_factor` as a number."
        )
    log.info("force_mag_factor %.4f, as of '%s'", factor, origin[0])
    return _told_factor(options, factor)


def _told_factor(options: dict, factor: float) -> dict:
    training = options["training"]
    section = {**training["training_data"], "force_mag_factor": factor}
    return {**options, "training": {**training, "training_data": section}}


def initial_model(
    options: dict,
    origin: Origin | None,
    data: DataSystem,
    others: DataSystem | None,
    *,
    chief: bool = True,
) -> tuple[SpinEnergyModel, dict]:
    """Model with its initial weights and statistics, and the options as found.

    With ``"force_mag_factor": "fit"`` the labels of both data sets are scaled. With a
    `stat_file` only the chief has statistics, before the workers share its weights.
    """
    model = build_model(inherit(options, origin)["model"])
    if origin is not None:
        _copy_weights(origin[1], model, str(origin[0]))
    else:
        section = options["model"]
        baseline = section["spin"].get("baseline")
        sample = data.sample(section["data_stat_nbatch"])
        more: dict = {}
        fits = options["training"]["training_data"]["force_mag_factor"] == "fit"
        if baseline:
            sample = data.spread(max(baseline["nframes"], len(data.systems)))
            more = {"factor": None if fits else 1.0}
        more |= {
            "atom_ener": section["fitting_net"]["atom_ener"] or None,
            "rcond": section["fitting_net"]["rcond"],
            "protection": section["data_stat_protect"],
        }
        stat_file = options["training"]["stat_file"]
        if stat_file is None:
            model.compute_stats(sample, **more)
        elif chief:
            mode, digest = options["training"]["stat_file_mode"], fingerprint(data)
            more |= {"data": data, "digest": digest}
            compute_stats(model, sample, stat_file, mode, **more)
        if fits:
            report: Any = model.spin.report
            factor = report.solution.factor
            log.info("force_mag_factor %.4f", factor)
            options = _told_factor(options, factor)
            for scaled in (data, others):
                if scaled is not None:
                    scaled.scale_force_mag(factor)
    return model, options


def with_prefactors(
    options: dict, model: SpinEnergyModel, data: DataSystem, restarted: Origin | None
) -> dict:
    """Put numbers to the prefactors of a loss that are ``auto``.

    Each term is about 1 when the training begins; a restart goes on with the numbers
    that it began with.
    """
    loss = options["loss"]
    if loss["prefactors"] != "auto":
        return options
    if restarted is not None:
        stored = read_metadata(restarted[0]).get("input", {}).get("loss", {})
        found = {k: v for k, v in stored.items() if "_pref_" in k}
        found["fm_longitudinal"] = stored.get("fm_longitudinal", 1.0)
        loss = {**loss, **found}
        return {**options, "loss": loss}
    errors = label_errors(model, data.spread(VALIDATED_FRAMES))
    if loss["fm_longitudinal"] is None:
        loss = {**loss, "fm_longitudinal": longitudinal(errors, loss)}
    found = balanced(
        errors,
        float(np.mean(np.concatenate([s.natoms_loss for s in data.systems]))),
        loss,
    )
    for term, value in found.items():
        loss = {**loss, f"start_pref_{term}": value, f"limit_pref_{term}": value}
    log.info(
        "loss: prefactors %s, so that each term is 1 now; of magnetic forces what is "
        "along the spins times %.4g",
        ", ".join(f"{term} {value:.4g}" for term, value in found.items() if value),
        loss["fm_longitudinal"],
    )
    return {**options, "loss": loss}


def longitudinal(errors: dict[str, float], loss: dict) -> float:
    """Weight of the part along the spins that makes it as large as the part across."""
    along, across = errors.get("along", 0.0), errors.get("across", 0.0)
    if loss["fm_component"] != "full" or not along * across:
        return 1.0
    if loss["loss_func"] == "mae":
        return 3.0 * across / along
    return 3.0 * across**2 / along**2


def balanced(errors: dict[str, float], natoms: float, loss: dict) -> dict[str, float]:
    """Prefactors that make each term of a loss 1; 0 where there is no label.

    Parameters
    ----------
    errors : dict
        What is left of each label, see `deepspin.model.closed_form.label_errors`.
    natoms : float
        Mean number of atoms of a frame, as the loss counts them.
    loss : dict
        ``loss_func``, ``intensive_ener_virial``, ``fm_component`` and
        ``fm_longitudinal`` of an input.
    """
    along, across = errors.get("along", 0.0), errors.get("across", 0.0)
    moments = {  # mean squares of what the loss averages over
        "full": across**2 + loss["fm_longitudinal"] * along**2 / 3.0,
        "transverse": across**2,
        "longitudinal": along**2,
    }
    left = {
        "e": errors.get("energy", 0.0),
        "fr": errors.get("force", 0.0),
        "fm": math.sqrt(moments[loss["fm_component"]]),
        "v": errors.get("virial", 0.0),
    }
    power = 2 if loss["loss_func"] == "mse" else 1
    # energies and virials of a frame are divided by fewer powers of the number of atoms
    extensive = power == 2 and not loss["intensive_ener_virial"]
    return {
        term: 1.0 / (value**power * (natoms if extensive and term in "ev" else 1.0))
        if value > 0
        else 0.0
        for term, value in left.items()
    } | {"ae": 0.0}


def _copy_weights(source: SpinEnergyModel, target: SpinEnergyModel, name: str) -> None:
    """Copy all weights between models of the same architecture."""
    theirs, ours = source.get_config(), target.get_config()
    for model, config in ((source, theirs), (target, ours)):
        config["spin"] = {"config": model.spin.meaning}  # however that was given
    for part in ("type_map", "descriptor", "fitting", "spin"):
        a, b = _comparable(theirs[part]), _comparable(ours[part])
        if a != b:
            what = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
            detail = ", ".join(f"{k}: {a.get(k)} there, {b.get(k)} here" for k in what)
            raise InputError(
                f"'{name}' is another model than `model` of the input: {part} differs "
                f"({detail}). Use the input it was trained with, or its `model` by "
                "--use-pretrain-script, or train from scratch."
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
    if "exclude_types" in config:  # in whatever order they were given
        config["exclude_types"] = sorted(map(sorted, config["exclude_types"]))
    return config


_MEANINGLESS = {"name", "seed", "trainable", "trainable_layers", "set_davg_zero"}


def build_loss(options: dict) -> EnerSpinLoss:
    """Loss of a normalised input."""
    loss = {
        name: value
        for name, value in options["loss"].items()
        if name != "prefactors" and value is not None  # not settled yet
    }
    start_lr = options["learning_rate"]["start_lr"]
    return LOSSES[loss.pop("type")](**loss, start_lr=start_lr)


def compile_model(model: SpinEnergyModel, options: dict) -> None:
    """Give a model optimizer, schedule and loss of a normalised input."""
    if not model.trainable_variables:
        raise InputError(
            "Nothing to train: `model/descriptor/trainable` and "
            "`model/fitting_net/trainable` are false. Set one of them to true."
        )
    rate, training = dict(options["learning_rate"]), options["training"]
    schedule = SCHEDULES[rate.pop("type")](
        numb_steps=max(training["numb_steps"], 1),
        acc_freq=training["acc_freq"],
        **rate,
    )
    left = training["numb_steps"] % training["acc_freq"]
    if left:
        log.warning(
            "the last %d steps change no weights: `acc_freq` is %d, and `numb_steps`, "
            "%d, is no multiple of it",
            left,
            training["acc_freq"],
            training["numb_steps"],
        )
    model.compile(
        optimizer=build_optimizer(
            schedule,
            **options["optimizer"],
            gradient_max_norm=training["gradient_max_norm"],
            ema_decay=training["ema_decay"] if training["enable_ema"] else None,
            acc_freq=training["acc_freq"],
        ),
        loss=build_loss(options),
        jit_compile=training["jit_compile"],
    )


def restore_optimizer(
    model: SpinEnergyModel, path: Path, saved: SpinEnergyModel
) -> None:
    """Take over the optimizer's state of a checkpoint."""
    if not saved.compiled:
        raise InputError(
            f"'{path}' holds no training to go on with: no optimizer's state. Begin "
            "with it by -i."
        )
    theirs, ours = saved.optimizer.variables, model.optimizer.variables
    if [v.shape for v in theirs] != [v.shape for v in ours]:
        raise InputError(
            f"'{path}' was trained with other weights held fixed (`trainable`), or "
            "with another `enable_ema` or `acc_freq`. Use the input it was trained "
            "with, or begin anew from it with -i."
        )
    for a, b in zip(theirs, ours, strict=True):
        b.assign(a)
