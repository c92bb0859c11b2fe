# SPDX-License-Identifier: Apache-2.0
"""Keras' Adam and AdamW with TensorFlow's fused update, its Muon in float64."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf


def steps_made(optimizer: keras.optimizers.Optimizer) -> int:
    """Number of batches an optimizer has had gradients of, applied or not yet."""
    counter = getattr(optimizer, "_iterations", optimizer.iterations)
    return int(counter.numpy())


def fuse(optimizer: keras.optimizers.Optimizer) -> None:
    """Have Adam update each weight in one pass over memory; leave others alone.

    Keras' own makes a dozen passes, with temporaries, and a step's time is memory's.
    The numbers are the same to rounding. Schedules, clipping, decay of weights and
    averages are Keras' as before: they happen around `update_step`.
    """
    known = (keras.optimizers.Adam, keras.optimizers.AdamW)
    if type(optimizer) in known and not optimizer.amsgrad:
        optimizer.update_step = partial(_update_step, optimizer, WeakKeyDictionary())


def widen(optimizer: keras.optimizers.Optimizer) -> None:
    """Have Keras' Muon update weights in their own precision; leave others alone.

    Its own multiplies by numbers in float32, which is an error with weights in float64.
    """
    if type(optimizer) is not getattr(keras.optimizers, "Muon", None):
        return
    update_step = optimizer.update_step

    def in_own_precision(
        gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        update_step(gradient, variable, tf.cast(learning_rate, variable.dtype))

    def lr_adjust(update: tf.Tensor) -> tf.Tensor:
        rate = optimizer.rms_rate
        return update if rate is None else update * (rate * max(update.shape) ** 0.5)

    optimizer.update_step, optimizer.lr_adjust = in_own_precision, lr_adjust


def _update_step(
    optimizer: keras.optimizers.Adam,
    known: WeakKeyDictionary,
    gradient: tf.Tensor,
    variable: keras.Variable | tf.Variable,
    learning_rate: tf.Tensor,
) -> None:
    """What Keras' `Adam.update_step` does, term by term.

    `known` holds what all weights of a step share, for each graph that is traced.
    """
    dtype = variable.dtype
    betas = (optimizer.beta_1, optimizer.beta_2)

    def powers() -> list:
        step = keras.ops.cast(optimizer.iterations + 1, dtype)
        return [keras.ops.power(keras.ops.cast(b, dtype), step) for b in betas]

    if tf.executing_eagerly():
        power = powers()
    else:
        shared = known.setdefault(tf.compat.v1.get_default_graph(), {})
        power = shared.setdefault(str(dtype), None) or powers()
        shared[str(dtype)] = power
    index = optimizer._get_variable_index(variable)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(optimizer._momentums[index]),
        v=_handle(optimizer._velocities[index]),
        beta1_power=power[0],
        beta2_power=power[1],
        lr=keras.ops.cast(learning_rate, dtype),
        beta1=tf.constant(betas[0], dtype),
        beta2=tf.constant(betas[1], dtype),
        epsilon=tf.constant(optimizer.epsilon, dtype),
        grad=keras.ops.cast(gradient, dtype),
    )


def _handle(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    """Resource of Keras' variable or of the TensorFlow variable in it."""
    inner = variable.value if isinstance(variable, keras.Variable) else variable
    return inner.handle
