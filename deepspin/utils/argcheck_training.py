# SPDX-License-Identifier: Apache-2.0
"""The arguments of `input.json` that say how a model is trained, and what relates them.

Those of the model and of the loss are in `deepspin.utils.argcheck`.
"""

from __future__ import annotations

from pathlib import Path

from dargs import Argument

from deepspin.utils.arguments import (
    AT_LEAST_ONE,
    AUGMENTATION,
    AUTO_PROB,
    BATCH_SIZE,
    BETA,
    BETWEEN,
    COUNT,
    DECAY,
    DECAY_TYPE,
    FACTOR,
    FILE,
    FOLDER,
    METRIC,
    NO_DECAY,
    NOT_NEGATIVE,
    PATHS,
    POSITIVE,
    RATIO,
    SEED,
    STAT_FILE_MODE,
    SYS_PROBS,
    WARMUP_RATIO,
    optional,
    required,
    section,
)
from deepspin.utils.refused import InputError, bad, show

DEFAULT_STOP_LR = 5e-8


# --- Trees ----------------------------------------------------------------------------


def learning_rate_exp_args() -> list[Argument]:
    """Make the arguments of the learning rate `exp`."""
    return [
        optional("decay_steps", int, 5000, AT_LEAST_ONE)(
            "Number of training steps between two decays. Shortened when the training"
            " is not longer than that, unless ``decay_rate`` is given."
        ),
        optional("decay_rate", float, None, RATIO)(
            "Factor of one decay. By default it follows from ``start_lr`` and"
            " ``stop_lr``; if given, ``stop_lr`` is the lower bound."
        ),
        optional("smooth", bool, False)("Decay at every step instead of in stairs."),
    ]


def learning_rate_wsd_args() -> list[Argument]:
    """Make the arguments of the learning rate `wsd`."""
    return [
        optional("decay_phase_ratio", float, 0.1, RATIO)(
            "Part of ``numb_steps``, the last, in which the learning rate falls."
        ),
        optional("decay_type", str, "inverse_linear", DECAY_TYPE)(
            "How it falls: its inverse linearly, by half a cosine, or itself linearly."
        ),
    ]


def learning_rate_args() -> Argument:
    """Make the section `learning_rate`."""
    exp, wsd = learning_rate_exp_args(), learning_rate_wsd_args()
    return section(
        "learning_rate",
        "The learning rate.",
        [
            required("start_lr", float, POSITIVE)(
                "Learning rate at the first step after the warm-up."
            ),
            optional("stop_lr", float, None, NOT_NEGATIVE)(
                "Learning rate at the last step; 5e-8 if neither this nor"
                " ``stop_lr_ratio`` is given."
            ),
            optional("stop_lr_ratio", float, None, RATIO)(
                "``stop_lr`` divided by ``start_lr``; give one of the two."
            ),
            optional("warmup_steps", int, 0, NOT_NEGATIVE)(
                "Number of steps in which the learning rate rises to ``start_lr``."
            ),
            optional("warmup_ratio", float, None, WARMUP_RATIO)(
                "``warmup_steps`` divided by ``numb_steps``; give one of the two."
            ),
            optional("warmup_start_factor", float, 0.0, NOT_NEGATIVE)(
                "The warm-up starts from this factor times ``start_lr``."
            ),
        ],
        [
            Argument("exp", dict, exp, doc="Exponential decay."),
            Argument("cosine", dict, [], doc="Half a cosine."),
            Argument(
                "wsd", dict, wsd, doc="Warm-up, ``start_lr``, and a fall at the end."
            ),
        ],
        "exp",
        "How the learning rate falls.",
    )


def _adam_args() -> list[Argument]:
    return [
        optional("adam_beta1", float, 0.9, BETA)(
            "Decay of the mean of the gradients, per step."
        ),
        optional("adam_beta2", float, 0.999, BETA)(
            "Decay of the mean of their squares, per step."
        ),
    ]


def optimizer_adam_args() -> list[Argument]:
    """Make the arguments of the optimizer `Adam`."""
    return [
        *_adam_args(),
        optional("weight_decay", float, 0.0, NO_DECAY)(
            "Nothing but 0: ``AdamW`` is the type whose parameters decay."
        ),
    ]


def optimizer_adamw_args() -> list[Argument]:
    """Make the arguments of the optimizer `AdamW`."""
    return [
        *_adam_args(),
        optional("weight_decay", float, 1e-3, NOT_NEGATIVE)(
            "What every parameter loses at each step beside its update, times the"
            " learning rate and the parameter."
        ),
    ]


def optimizer_args() -> Argument:
    """Make the section `optimizer`."""
    adam, adamw = optimizer_adam_args(), optimizer_adamw_args()
    return section(
        "optimizer",
        "How gradients become updates.",
        choices=[
            Argument("Adam", dict, adam, doc="Adam, doi:10.48550/arXiv.1412.6980."),
            Argument(
                "AdamW",
                dict,
                adamw,
                doc="Adam with decay of the parameters, doi:10.48550/arXiv.1711.05101.",
            ),
        ],
        default="Adam",
        choice_doc="Type of the optimizer.",
        may_lack=True,
    )


def _data_args(purpose: str) -> list[Argument]:
    return [
        required("systems", [list[str], str], PATHS)(
            f"Folders with the systems for {purpose}: a list or one path. A folder"
            " and all below it are searched for ``type.raw``, which makes a system,"
            " ``*.hdf5`` and ``*.h5`` files too."
        ),
        optional("rglob_patterns", [list[str]], None)(
            "Patterns, such as ``*/water``, that systems below the given folders have"
            " to match."
        ),
        optional("batch_size", [list[int], int, str], "auto", BATCH_SIZE)(
            "Number of frames per batch: one for all systems, or a list with one per"
            " system, or ``auto:N``: so many that a batch has at least N atoms;"
            " ``auto`` is ``auto:32``."
        ),
        optional(
            "auto_prob", str, "prob_sys_size", AUTO_PROB, alias=["auto_prob_style"]
        )(
            "How likely a system is drawn. ``prob_uniform``: all alike;"
            " ``prob_sys_size``: in proportion to its number of batches;"
            " ``prob_sys_size;A:B:W;...``: systems A to B - 1 together with weight W."
        ),
        optional("sys_probs", list[float], None, SYS_PROBS, alias=["sys_weights"])(
            "Probability of each system, instead of ``auto_prob``. Systems with a"
            " negative one share what is left."
        ),
    ]


def training_data_args() -> Argument:
    """Make the section `training/training_data`."""
    doc = "Data to train on."
    factor = optional("force_mag_factor", [float, str], 1.0, FACTOR, own=True)(
        "What the magnetic forces of training and validation data are taken times, for"
        " data whose energies change by so much more than they say. ``fit`` finds it"
        " with the baseline of ``model/spin[invariant]``."
    )
    return Argument("training_data", dict, [*_data_args("training"), factor], doc=doc)


def validation_data_args() -> Argument:
    """Make the section `training/validation_data`."""
    numb_btch = optional("numb_btch", int, 1, AT_LEAST_ONE, alias=["numb_batch"])(
        "Number of batches in each validation."
    )
    return Argument(
        "validation_data",
        dict,
        [*_data_args("validation"), numb_btch],
        optional=True,
        default=None,
        doc="Data to validate with; without it only training errors are shown.",
    )


def training_args() -> Argument:
    """Make the section `training`."""
    numb_steps_alias = ["stop_batch", "num_step", "num_steps", "numb_step"]
    numb_epoch_alias = ["num_epochs", "num_epoch", "numb_epochs"]
    fields = [
        training_data_args(),
        validation_data_args(),
        optional("stat_file", str, None, FOLDER)(
            "File of the data's statistics: read if it has those of the model's types,"
            " cutoff and ``sel``, else written. HDF5 if it ends in ``.h5`` or"
            " ``.hdf5``, a folder otherwise; DeePMD-kit's TensorFlow backend has the"
            " same form."
        ),
        optional("stat_file_mode", str, "update", STAT_FILE_MODE)(
            "``read``: the file is not written, and what it lacks is a mistake."
        ),
        optional("numb_steps", int, None, COUNT, alias=numb_steps_alias)(
            "Number of training steps, of one batch each; 0 for the model as it is"
            " before the first. Give this or ``numb_epoch``."
        ),
        optional("numb_epoch", float, None, POSITIVE, alias=numb_epoch_alias)(
            "Length of the training in times that the batches of all systems are drawn"
            " on average, a fraction too: ``numb_steps`` is this times the largest"
            " number of batches of a system divided by its probability, rounded up."
        ),
        optional("seed", [int, None], None, SEED)(
            "Random seed of the order of the frames; null draws one."
        ),
        optional("augmentation", list[str], [], AUGMENTATION, own=True)(
            "What is done to the frames of each batch at random, for ``ener_spin``."
            " ``spin_rotation``: all spins of a frame turn together, and their magnetic"
            " forces with them, as the energy allows without spin-orbit coupling;"
            " ``time_reversal``: all are reversed, or not."
        ),
        optional("disp_file", str, "lcurve.out", FILE)("File of the learning curve."),
        optional("disp_freq", int, 1000, AT_LEAST_ONE)(
            "Number of steps between two lines of the learning curve."
        ),
        optional("save_freq", int, 1000, AT_LEAST_ONE)(
            "Number of steps between two checkpoints."
        ),
        optional("save_dir", str, None, FOLDER)(
            "Folder of the checkpoints, the same as given in ``save_ckpt``."
        ),
        optional("save_ckpt", str, "model.ckpt", FILE)(
            "Path prefix of the checkpoints."
        ),
        optional("max_ckpt_keep", int, 5, AT_LEAST_ONE)(
            "Number of checkpoints to keep; older ones are removed."
        ),
        optional("ckpt_keep_ratio", float, None, BETWEEN)(
            "``max_ckpt_keep`` and ``ema_ckpt_keep`` as a fraction of all checkpoints"
            " that the training writes, rounded up."
        ),
        optional("gradient_max_norm", float, None, NOT_NEGATIVE)(
            "Largest norm of the gradient of all parameters together: a longer one is"
            " scaled down to it. 0 for none."
        ),
        optional("acc_freq", int, 1, AT_LEAST_ONE)(
            "Number of steps whose gradients are accumulated: the weights change once"
            " in so many, by the mean of their gradients."
        ),
        optional("enable_ema", bool, False)(
            "Average the parameters over the steps, and write the averaged model"
            " beside each checkpoint, to ``save_ckpt`` with ``_ema`` behind it."
        ),
        optional("ema_decay", float, 0.999, DECAY)(
            "What is left of that average at each step."
        ),
        optional("ema_ckpt_keep", int, None, AT_LEAST_ONE)(
            "Number of averaged models to keep, by default ``max_ckpt_keep``."
        ),
        optional("change_bias_after_training", bool, False)(
            "Change the energy bias after the last step, so that it fits the energies "
            "of all training data best."
        ),
        optional("disp_training", bool, True)("Show errors during the training."),
        optional("time_training", bool, True)("Show the time that steps take."),
        optional("disp_avg", bool, False)(
            "Write to the learning curve the mean of the training errors of all steps"
            " since the line before, not those of the last batch."
        ),
        optional("tensorboard", bool, False)(
            "Write what the learning curve holds for TensorBoard, too."
        ),
        optional("tensorboard_log_dir", str, "log", FOLDER)("Folder of these files."),
        optional("profiling", bool, False)(
            "Write a timeline of a few steps, as Chrome and Perfetto show it."
        ),
        optional("profiling_file", str, "timeline.json", FILE)("File of this."),
        optional("enable_profiler", bool, False)(
            "Write a profile of the steps there too: what TensorFlow did and when, as"
            " TensorBoard's plugin for profiles shows it. It slows the training."
        ),
        optional("tensorboard_freq", int, 1, AT_LEAST_ONE)(
            "Number of steps between two points of them. Each costs an evaluation of"
            " the batch, as a line of the learning curve does."
        ),
        optional("jit_compile", bool, True, own=True)(
            "Compile the training step with XLA where the compiled kernels are not used"
            " (see kernels in the documentation)."
        ),
    ]
    doc = "Data, length and output of the training."
    return Argument("training", dict, fields, doc=doc)


def validating_args() -> Argument:
    """Make the section `validating`."""
    fields = [
        optional("full_validation", bool, False)(
            "Evaluate all validation data now and then during the training."
        ),
        optional("ema_full_validation", bool, False)(
            "The same of the averaged model, with ``enable_ema``. Its files have"
            " ``_ema`` in their names."
        ),
        optional("validation_freq", int, 5000, AT_LEAST_ONE)(
            "Number of steps between two evaluations."
        ),
        optional("full_val_start", float, 0.5, NOT_NEGATIVE)(
            "First step of them: below 1 a fraction of ``numb_steps``, above 1 a number"
            " of steps; 1 for none at all."
        ),
        optional("validation_metric", str, "E:MAE", METRIC)(
            "What makes a model the best: ``MAE`` or ``RMSE`` of the energies ``E`` and"
            " virials ``V`` per atom, of the forces ``FR``, of the magnetic forces"
            " ``FM``, or of the stresses ``S``. The loss has to weigh it."
        ),
        optional("save_best", bool, True)("Save the best models, as ``best.ckpt``."),
        optional("save_best_dir", str, None, FOLDER)(
            "Folder of the best models, by default that of ``save_ckpt``."
        ),
        optional("max_best_ckpt", int, 1, AT_LEAST_ONE)(
            "Number of best models to keep."
        ),
        optional("full_val_file", str, "val.log", FILE)(
            "File of the errors on all validation data."
        ),
    ]
    return Argument(
        "validating",
        dict,
        fields,
        optional=True,
        default={},
        doc="Errors on all validation data during the training, and the best models.",
    )


# --- What relates them ----------------------------------------------------------------


def check_training(training: dict, learning_rate: dict) -> None:
    """Check and complete the length, the files and the learning rate of a training.

    Parameters
    ----------
    training, learning_rate : dict
        Sections of an input, changed in place: `save_dir` goes into `save_ckpt`.

    Raises
    ------
    InputError
        Options that contradict one another.
    """
    path = "training"
    numb_steps, numb_epoch = training["numb_steps"], training["numb_epoch"]
    if numb_steps is None and numb_epoch is None:
        raise InputError(
            f"`{path}/numb_steps` is missing, and has no default. Add it: Number of"
            " training steps, of one batch each; or `numb_epoch`, the number of times"
            " that the data are drawn."
        )
    if numb_steps is not None and numb_epoch is not None:
        raise InputError(
            f"`{path}` has `numb_steps` and also `numb_epoch`; give one of them."
        )
    folder, prefix = training["save_dir"], training["save_ckpt"]
    if folder is not None and Path(prefix).is_absolute():
        raise InputError(
            f"`{path}/save_ckpt` is {show(prefix)}, a path from the root, which"
            f" `save_dir`, {show(folder)}, cannot stand before. Give one of them."
        )
    if folder is not None:
        training["save_ckpt"] = str(Path(folder) / prefix)
        training["save_dir"] = None
    _check_learning_rate(learning_rate, numb_steps)
    if training["stat_file_mode"] == "read" and training["stat_file"] is None:
        raise bad(f"{path}/stat_file_mode", "read", '"update" without `stat_file`')
    if training["profiling"] and training["enable_profiler"]:
        raise InputError(
            f"`{path}` has `profiling` and also `enable_profiler`, and TensorFlow makes"
            " one profile at a time; give one of them."
        )
    if training["enable_ema"] and numb_steps == 0:
        raise bad(f"{path}/enable_ema", True, "false with `numb_steps` 0")


def check_validating(validating: dict, training: dict, loss: dict) -> None:
    """Refuse what a full validation has no data, no model or no errors for.

    Parameters
    ----------
    validating, training, loss : dict
        Sections of an input.

    Raises
    ------
    InputError
        There is nothing to validate, or nothing to validate it with.
    """
    path = "validating"
    if validating["ema_full_validation"] and not training["enable_ema"]:
        raise bad(
            f"{path}/ema_full_validation",
            True,
            "false without `training/enable_ema`, which makes the averaged model",
        )
    metric = validating["validation_metric"] = validating["validation_metric"].upper()
    asked = validating["full_validation"] or validating["ema_full_validation"]
    if not asked or validating["full_val_start"] == 1:
        return
    if not training["validation_data"]:
        raise InputError(
            f"`{path}/full_validation` evaluates all of `training/validation_data`,"
            " which is missing. Add it."
        )
    quantity = metric.partition(":")[0]
    term = {"S": "v"}.get(quantity, quantity.lower())
    pair = [f"start_pref_{term}", f"limit_pref_{term}"]
    if loss["prefactors"] == "given" and not all(loss[name] for name in pair):
        raise bad(
            f"{path}/validation_metric",
            metric,
            f"an error that the loss weighs, with `loss/{pair[0]}` and"
            f" `loss/{pair[1]}` above 0",
        )


def _check_learning_rate(learning_rate: dict, numb_steps: int | None) -> None:
    path = "learning_rate"
    start_lr, stop_lr = learning_rate["start_lr"], learning_rate["stop_lr"]
    if stop_lr is not None and learning_rate["stop_lr_ratio"] is not None:
        raise InputError(
            f"`{path}` has `stop_lr` and also `stop_lr_ratio`; give one of them."
        )
    if stop_lr is None and learning_rate["stop_lr_ratio"] is None:
        stop_lr = learning_rate["stop_lr"] = DEFAULT_STOP_LR
    if stop_lr is not None and stop_lr > start_lr:
        expected = f"at most `start_lr` = {show(start_lr)}"
        raise bad(f"{path}/stop_lr", stop_lr, expected)
    if stop_lr == 0 and learning_rate.get("decay_type") == "inverse_linear":
        expected = 'above 0 with `decay_type` "inverse_linear", which divides by it'
        raise bad(f"{path}/stop_lr", stop_lr, expected)
    warmup_steps = learning_rate["warmup_steps"]
    if warmup_steps != 0 and learning_rate["warmup_ratio"] is not None:
        raise InputError(
            f"`{path}` has `warmup_steps` and also `warmup_ratio`; give one of them."
        )
    if numb_steps is not None and warmup_steps >= max(numb_steps, 1):
        expected = f"less than `training/numb_steps` = {numb_steps}"
        raise bad(f"{path}/warmup_steps", warmup_steps, expected)
