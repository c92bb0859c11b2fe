# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedule and optimizer."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

# Adam of TensorFlow 1, which DeePMD-kit uses; Keras' own default is 1e-7
ADAM_EPSILON = 1e-8
# DeePMD-kit computes the decay to no lower rate than this
LOWEST_STOP_LR = 1e-10


@keras.saving.register_keras_serializable(package="deepspin")
class ExpDecay(keras.optimizers.schedules.LearningRateSchedule):
    r"""Exponential decay from `start_lr` to `stop_lr`, in steps or smooth.

    .. math:: lr(t) = \max(lr_\mathrm{stop}, lr_0\, r^{\lfloor t/s \rfloor}), \quad
              r = (lr_\mathrm{stop}/lr_0)^{s/T}

    with :math:`s` the `decay_steps`, :math:`T` the steps after the warm-up, and
    :math:`t` counted from its end. During the warm-up the rate goes linearly from
    ``warmup_start_factor * start_lr`` to `start_lr`. All in float64.

    Parameters
    ----------
    start_lr : float
        Learning rate after the warm-up.
    numb_steps : int
        Number of training steps, warm-up included.
    stop_lr : float, optional
        Learning rate at the end.
    stop_lr_ratio : float, optional
        The same as a fraction of `start_lr`; one of the two is needed.
    decay_steps : int
        The rate drops every so many steps. Where it is not below the number of decaying
        steps (and `decay_rate` is not given), DeePMD-kit's shorter value replaces it.
    decay_rate : float, optional
        The factor r itself; `stop_lr` is then a lower limit only.
    smooth : bool
        Decay at every step: no floor in the exponent.
    warmup_steps : int
        Steps of the warm-up.
    warmup_ratio : float, optional
        The same as a fraction of `numb_steps`.
    warmup_start_factor : float
        Where the warm-up begins, in units of `start_lr`.
    """

    def __init__(
        self,
        start_lr: float,
        numb_steps: int,
        *,
        stop_lr: float | None = None,
        stop_lr_ratio: float | None = None,
        decay_steps: int = 5000,
        decay_rate: float | None = None,
        smooth: bool = False,
        warmup_steps: int = 0,
        warmup_ratio: float | None = None,
        warmup_start_factor: float = 0.0,
    ):
        if stop_lr is None and stop_lr_ratio is not None:
            stop = start_lr * stop_lr_ratio
        elif stop_lr is not None and stop_lr_ratio is None:
            stop = stop_lr
        else:
            raise ValueError(
                "Give one of `stop_lr` and `stop_lr_ratio`. "
                f"Received: stop_lr={stop_lr}, stop_lr_ratio={stop_lr_ratio}"
            )
        for name, value in (("start_lr", start_lr), ("numb_steps", numb_steps)):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {value}")
        self._config = {
            "start_lr": start_lr,
            "numb_steps": numb_steps,
            "stop_lr": stop_lr,
            "stop_lr_ratio": stop_lr_ratio,
            "decay_steps": decay_steps,
            "decay_rate": decay_rate,
            "smooth": smooth,
            "warmup_steps": warmup_steps,
            "warmup_ratio": warmup_ratio,
            "warmup_start_factor": warmup_start_factor,
        }
        if warmup_ratio is not None:
            warmup_steps = int(warmup_ratio * numb_steps)
        if not 0 <= warmup_steps < numb_steps:
            raise ValueError(
                "The warm-up must end before the training. "
                f"Received: {warmup_steps} of {numb_steps} steps"
            )
        self.start_lr, self.stop_lr = float(start_lr), float(stop)
        self.warmup_steps, self.smooth = warmup_steps, smooth
        self.warmup_start_lr = warmup_start_factor * start_lr
        total = numb_steps - warmup_steps
        if decay_rate is None and decay_steps >= total:
            decay_steps = 100 if total // 10 > 100 else total // 100 + 1
        self.decay_steps = decay_steps
        if decay_rate is None:
            ratio = max(self.stop_lr, LOWEST_STOP_LR) / self.start_lr
            decay_rate = math.exp(math.log(ratio) * decay_steps / total)
        self.decay_rate = float(decay_rate)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Learning rate of the update that follows `step` updates, float64."""
        step = tf.cast(step, tf.float64)
        since = tf.maximum(step - self.warmup_steps, 0.0)
        exponent = since / self.decay_steps
        if not self.smooth:
            exponent = tf.floor(exponent)
        # tf.cast would take a Python number through float32
        base = tf.constant(self.decay_rate, dtype=tf.float64)
        rate = self.start_lr * tf.pow(base, exponent)
        rate = tf.maximum(rate, self.stop_lr)
        if self.warmup_steps == 0:
            return rate
        climb = (self.start_lr - self.warmup_start_lr) * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, self.warmup_start_lr + climb, rate)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return dict(self._config)


def adam(
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
) -> keras.optimizers.Adam:
    """Adam with DeePMD-kit's epsilon, 1e-8."""
    return keras.optimizers.Adam(schedule, epsilon=ADAM_EPSILON)


SCHEDULES = {"exp": ExpDecay}  # `learning_rate/type`
