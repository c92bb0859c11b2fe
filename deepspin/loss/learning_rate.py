# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules and optimizers."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

# Adam of TensorFlow 1, which DeePMD-kit uses; Keras' own default is 1e-7
ADAM_EPSILON = 1e-8
# DeePMD-kit computes the decay to no lower rate than this
LOWEST_STOP_LR = 1e-10


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises during a warm-up and then falls, in float64.

    Classes derived from it say in `decayed` how it falls.

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
    warmup_steps : int
        Steps of the warm-up, in which the rate goes linearly from
        ``warmup_start_factor * start_lr`` to `start_lr`.
    warmup_ratio : float, optional
        The same as a fraction of `numb_steps`.
    warmup_start_factor : float
        Where the warm-up begins, in units of `start_lr`.
    acc_freq : int
        Steps whose gradients make one update: all of them have the rate, and so the
        loss has the prefactors, of the first.
    """

    def __init__(
        self,
        start_lr: float,
        numb_steps: int,
        *,
        stop_lr: float | None = None,
        stop_lr_ratio: float | None = None,
        warmup_steps: int = 0,
        warmup_ratio: float | None = None,
        warmup_start_factor: float = 0.0,
        acc_freq: int = 1,
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
        self._config: dict[str, Any] = {
            "start_lr": start_lr,
            "numb_steps": numb_steps,
            "stop_lr": stop_lr,
            "stop_lr_ratio": stop_lr_ratio,
            "warmup_steps": warmup_steps,
            "warmup_ratio": warmup_ratio,
            "warmup_start_factor": warmup_start_factor,
            "acc_freq": acc_freq,
        }
        if acc_freq < 1:
            raise ValueError(f"`acc_freq` must be 1 or more. Received: {acc_freq}")
        self.acc_freq = acc_freq
        if warmup_ratio is not None:
            warmup_steps = int(warmup_ratio * numb_steps)
        if not 0 <= warmup_steps < numb_steps:
            raise ValueError(
                "The warm-up must end before the training. "
                f"Received: {warmup_steps} of {numb_steps} steps"
            )
        self.start_lr, self.stop_lr = float(start_lr), float(stop)
        self.warmup_steps = warmup_steps
        self.warmup_start_lr = warmup_start_factor * start_lr
        self.total = numb_steps - warmup_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Learning rate of the step that follows `step` others, float64."""
        step = tf.cast(step, tf.float64)
        if self.acc_freq > 1:
            every = tf.constant(self.acc_freq, tf.float64)
            step = every * tf.floor(step / every)
        rate = self.decayed(tf.maximum(step - self.warmup_steps, 0.0))
        if self.warmup_steps == 0:
            return rate
        climb = (self.start_lr - self.warmup_start_lr) * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, self.warmup_start_lr + climb, rate)

    def decayed(self, since: tf.Tensor) -> tf.Tensor:
        """Learning rate so many steps after the warm-up."""
        raise NotImplementedError

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return dict(self._config)


@keras.saving.register_keras_serializable(package="deepspin")
class ExpDecay(Decay):
    r"""Exponential decay from `start_lr` to `stop_lr`, in steps or smooth.

    .. math:: lr(t) = \max(lr_\mathrm{stop}, lr_0\, r^{\lfloor t/s \rfloor}), \quad
              r = (lr_\mathrm{stop}/lr_0)^{s/T}

    with :math:`s` the `decay_steps`, :math:`T` the steps after the warm-up, and
    :math:`t` counted from its end.

    Parameters
    ----------
    start_lr, numb_steps, **options
        See `Decay`.
    decay_steps : int
        The rate drops every so many steps. Where it is not below the number of decaying
        steps (and `decay_rate` is not given), DeePMD-kit's shorter value replaces it.
    decay_rate : float, optional
        The factor r itself; `stop_lr` is then a lower limit only.
    smooth : bool
        Decay at every step: no floor in the exponent.
    """

    def __init__(
        self,
        start_lr: float,
        numb_steps: int,
        *,
        decay_steps: int = 5000,
        decay_rate: float | None = None,
        smooth: bool = False,
        **options: Any,
    ):
        super().__init__(start_lr, numb_steps, **options)
        self._config |= {
            "decay_steps": decay_steps,
            "decay_rate": decay_rate,
            "smooth": smooth,
        }
        self.smooth = smooth
        if decay_rate is None and decay_steps >= self.total:
            decay_steps = 100 if self.total // 10 > 100 else self.total // 100 + 1
        self.decay_steps = decay_steps
        if decay_rate is None:
            ratio = max(self.stop_lr, LOWEST_STOP_LR) / self.start_lr
            decay_rate = math.exp(math.log(ratio) * decay_steps / self.total)
        self.decay_rate = float(decay_rate)

    def decayed(self, since: tf.Tensor) -> tf.Tensor:
        """Learning rate so many steps after the warm-up."""
        exponent = since / self.decay_steps
        if not self.smooth:
            exponent = tf.floor(exponent)
        # tf.cast would take a Python number through float32
        base = tf.constant(self.decay_rate, dtype=tf.float64)
        rate = self.start_lr * tf.pow(base, exponent)
        return tf.maximum(rate, self.stop_lr)


@keras.saving.register_keras_serializable(package="deepspin")
class CosineAnnealing(Decay):
    r"""Half a cosine from `start_lr` to `stop_lr`.

    .. math:: lr(t) = lr_\mathrm{stop} + \frac{lr_0 - lr_\mathrm{stop}}{2}
              \left(1 + \cos \pi t/T\right)

    with :math:`T` the steps after the warm-up and :math:`t` counted from its end.
    Arguments: see `Decay`.
    """

    def decayed(self, since: tf.Tensor) -> tf.Tensor:
        """Learning rate so many steps after the warm-up."""
        return _cosine(self, tf.minimum(since / self.total, 1.0))


@keras.saving.register_keras_serializable(package="deepspin")
class WarmupStableDecay(Decay):
    r"""`start_lr` until the last part of the training, in which the rate falls.

    With :math:`\tau` from 0 to 1 in that part, ``inverse_linear`` is

    .. math:: lr = \left(\frac{1 - \tau}{lr_0} + \frac{\tau}{lr_\mathrm{stop}}
              \right)^{-1},

    ``linear`` goes straight to `stop_lr`, and ``cosine`` as `CosineAnnealing` does.

    Parameters
    ----------
    start_lr, numb_steps, **options
        See `Decay`.
    decay_phase_ratio : float
        The last part, as a fraction of `numb_steps`.
    decay_type : {"inverse_linear", "cosine", "linear"}
        How it falls.
    """

    def __init__(
        self,
        start_lr: float,
        numb_steps: int,
        *,
        decay_phase_ratio: float = 0.1,
        decay_type: str = "inverse_linear",
        **options: Any,
    ):
        super().__init__(start_lr, numb_steps, **options)
        self._config |= {
            "decay_phase_ratio": decay_phase_ratio,
            "decay_type": decay_type,
        }
        if not 0 < decay_phase_ratio <= 1:
            raise ValueError(
                "`decay_phase_ratio` must be above 0 and at most 1. Received: "
                f"{decay_phase_ratio}"
            )
        if decay_type not in _FALLS:
            raise ValueError(
                f"`decay_type` must be one of {list(_FALLS)}. Received: {decay_type!r}"
            )
        if decay_type == "inverse_linear" and self.stop_lr <= 0:
            raise ValueError(
                "`stop_lr` must be above 0 with `decay_type` 'inverse_linear', which "
                f"divides by it. Received: {self.stop_lr}"
            )
        self.fall = _FALLS[decay_type]
        self.falling = max(1, min(int(decay_phase_ratio * numb_steps), self.total))

    def decayed(self, since: tf.Tensor) -> tf.Tensor:
        """Learning rate so many steps after the warm-up."""
        done = (since - (self.total - self.falling)) / self.falling
        return self.fall(self, tf.clip_by_value(done, 0.0, 1.0))


def _linear(rate: Decay, done: tf.Tensor) -> tf.Tensor:
    return rate.start_lr + (rate.stop_lr - rate.start_lr) * done


def _cosine(rate: Decay, done: tf.Tensor) -> tf.Tensor:
    half = 0.5 * (rate.start_lr - rate.stop_lr)
    return rate.stop_lr + half * (1.0 + tf.cos(math.pi * done))


def _inverse_linear(rate: Decay, done: tf.Tensor) -> tf.Tensor:
    return 1.0 / ((1.0 - done) / rate.start_lr + done / rate.stop_lr)


# `learning_rate[wsd]/decay_type`
_FALLS = {"inverse_linear": _inverse_linear, "cosine": _cosine, "linear": _linear}


# `optimizer/type`
OPTIMIZERS = {"Adam": keras.optimizers.Adam, "AdamW": keras.optimizers.AdamW}


def build_optimizer(
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
    type: str = "Adam",
    *,
    adam_beta1: float = 0.9,
    adam_beta2: float = 0.999,
    weight_decay: float = 0.0,
    gradient_max_norm: float | None = None,
    ema_decay: float | None = None,
    acc_freq: int = 1,
) -> keras.optimizers.Optimizer:
    """Keras' optimizer with DeePMD-kit's epsilon, 1e-8, by the input's names.

    Parameters
    ----------
    schedule : LearningRateSchedule or float
        The learning rate.
    type : str
        ``Adam`` or ``AdamW``.
    adam_beta1, adam_beta2 : float
        Decay per step of the means of gradients and of their squares.
    weight_decay : float
        Of ``AdamW``: part of a weight taken off at each step, per learning rate.
    gradient_max_norm : float, optional
        Largest norm of all gradients together; 0 or None for any.
    ema_decay : float, optional
        Average the weights over steps, with this left of the average at each.
    acc_freq : int
        Update the weights once in so many steps, by the mean of their gradients.

    Raises
    ------
    ValueError
        `weight_decay` with ``Adam``.
    """
    options: dict[str, Any] = {
        "beta_1": adam_beta1,
        "beta_2": adam_beta2,
        "epsilon": ADAM_EPSILON,
        "global_clipnorm": gradient_max_norm or None,
    }
    if acc_freq > 1:
        options["gradient_accumulation_steps"] = acc_freq
    if ema_decay is not None:
        options |= {"use_ema": True, "ema_momentum": ema_decay}
    if type == "AdamW":
        options["weight_decay"] = weight_decay
    elif weight_decay:
        raise ValueError(
            f"`weight_decay` is of AdamW. Received: {weight_decay} with {type}"
        )
    return OPTIMIZERS[type](schedule, **options)


# `learning_rate/type`
SCHEDULES = {"exp": ExpDecay, "cosine": CosineAnnealing, "wsd": WarmupStableDecay}
