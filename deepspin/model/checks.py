# SPDX-License-Identifier: Apache-2.0
"""What a model refuses, or tells, of what it is given in Keras' ways."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

log = logging.getLogger(__name__)

# of any model
INPUTS = ("coord", "spin", "box", "mask", "nlist", "shift")


def unpacked(data: Any) -> tuple[dict, dict]:
    """Inputs and labels of a batch."""
    inputs, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    refuse_weights(sample_weight)
    if not isinstance(labels, dict):
        raise TypeError(
            "Labels must be a dict of arrays, such as `energy` and `force`. Received: "
            f"{type(labels).__name__}"
        )
    return inputs, labels


def refuse_weights(sample_weight: Any) -> None:
    """Refuse weights of frames, which the loss does not look at."""
    if sample_weight is not None:
        raise ValueError(
            "`sample_weight` and `class_weight` have no use here: a label counts with "
            "its `find_NAME` (nf,), 0 or 1; DataSystem draws systems by `sys_probs`."
        )


def refuse_scope() -> None:
    """Refuse the scope of a strategy that would distribute the training."""
    if tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise ValueError(
            f"Models are not made in the scope of a tf.distribute strategy. Received: "
            f"{name}. Keras would take each replica's loss for a mean over as many "
            "frames. Make the model outside; for several processes there are "
            "`dp-spin train` with TF_CONFIG and deepspin.training.workers.join(), one "
            "device for each."
        )


def check_inputs(inputs: Any) -> None:
    """Refuse what are not a model's inputs."""
    missing = (
        [k for k in INPUTS if k not in inputs] if isinstance(inputs, dict) else None
    )
    if missing != []:
        found = type(inputs).__name__ if missing is None else f"no {missing}"
        raise ValueError(
            f"A model's inputs are a dict of {list(INPUTS)}, which DataSystem makes: "
            "`data.batch(0)[0]`. Received: "
            f"{found}. For frames as they are there is deepspin.DeepSpin(model).eval"
        )


def check_numbers(inputs: dict) -> None:
    """Refuse positions, spins and cells in float32, and lists that became floats."""
    for name in ("coord", "spin", "box"):
        found = keras.backend.standardize_dtype(inputs[name].dtype)
        if found != "float64":
            raise TypeError(
                f"`{name}` must be float64. Received: {found}. A keras.Model rounds "
                "its inputs to its own precision: of yours say "
                '`super().__init__(dtype="float64")`, of keras.Input dtype="float64".'
            )
    for name in ("nlist", "shift"):
        for values in inputs[name]:
            found = keras.backend.standardize_dtype(values.dtype)
            if not found.startswith("int"):
                raise TypeError(
                    f"`{name}` must hold integers. Received: {found}. Old versions of "
                    "Keras make floats of all numpy arrays that a model is called "
                    "with: give it tensors, or a tf.data.Dataset to fit."
                )


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Refuse what Keras would do otherwise than a reader of its pages expects."""
    if not hasattr(optimizer, "learning_rate"):
        raise ValueError(
            f"{type(optimizer).__name__} has no learning rate of its own, which the "
            "loss's prefactors follow. Take one optimizer for all weights; descriptor "
            "and fitting net have `trainable`."
        )
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if scaled or getattr(optimizer, "loss_scale_factor", None) is not None:
        raise ValueError(
            "Losses are not scaled here: forces and the loss are float64, and updates "
            "would be too small by the scale. Leave LossScaleOptimizer and "
            f"`loss_scale_factor` out. Received: {type(optimizer).__name__}"
        )
    if getattr(optimizer, "gradient_accumulation_steps", None) and not hasattr(
        optimizer, "_iterations"
    ):
        raise ValueError(
            f"Keras {keras.__version__} clips each gradient by itself, and counts "
            "batches as updates, where several make one update (`acc_freq`, "
            "`gradient_accumulation_steps`). Use Keras 3.5 or later, or larger batches."
        )
    policy = keras.config.dtype_policy().name
    if policy.startswith("mixed"):
        raise ValueError(
            f"The global policy '{policy}' is not followed: `dtype` of descriptor and "
            "fitting net ('float64' or 'float32') says in what precision they work. "
            "Set the policy to 'float32'."
        )


def check_callbacks(
    callbacks: Iterable[keras.callbacks.Callback],
    optimizer: keras.optimizers.Optimizer,
) -> None:
    """Refuse, before the first step, callbacks that would fail after an epoch."""
    scheduled = isinstance(optimizer.get_config()["learning_rate"], dict)
    setters = (
        keras.callbacks.ReduceLROnPlateau,
        keras.callbacks.LearningRateScheduler,
    )
    for callback in callbacks:
        if scheduled and isinstance(callback, setters):
            raise ValueError(
                f"{type(callback).__name__} sets the learning rate, which a schedule "
                "of the optimizer sets already. Compile with a number instead, "
                "keras.optimizers.Adam(1e-3), or leave the callback out."
            )
        board = isinstance(callback, keras.callbacks.TensorBoard)
        if board and importlib.util.find_spec("tensorboard") is None:
            raise ImportError(
                "The callback TensorBoard needs the package of that name, which is not "
                "installed: `pip install tensorboard`, or take CSVLogger."
            )


def tell_of_rate(
    optimizer: keras.optimizers.Optimizer, loss: keras.losses.Loss | None
) -> None:
    """Warn of a learning rate above the one that the loss's prefactors refer to."""
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    start = getattr(loss, "start_lr", math.inf)
    if rate > start * (1.0 + 1e-6):
        log.warning(
            "the learning rate %g is above the loss's `start_lr` %g: prefactors stay "
            "those of the start until it has fallen so far. Give "
            "EnerSpinLoss(start_lr=%g)",
            rate,
            start,
            rate,
        )


def check_loss(loss: Any, options: dict) -> None:
    """Refuse a loss, or options of `compile`, that see no dicts of outputs."""
    unused = {"loss_weights", "weighted_metrics"} & {
        k for k, v in options.items() if v is not None
    }
    if unused:
        raise ValueError(
            f"{sorted(unused)} have no use here: the loss sees the whole dict of "
            "outputs and has prefactors of its own; `metrics` are weighted already."
        )
    if loss is not None and not isinstance(loss, keras.losses.Loss):
        raise TypeError(
            "`loss` sees dicts of labels and outputs: deepspin.EnerSpinLoss(...), "
            f"or a keras.losses.Loss of your own. Received: {loss!r}"
        )
