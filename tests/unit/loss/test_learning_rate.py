# SPDX-License-Identifier: Apache-2.0
"""The schedule against its formulas, in float64."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepspin import CosineAnnealing, ExpDecay, WarmupStableDecay
from deepspin.loss.learning_rate import SCHEDULES, build_optimizer


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def formula(steps, start, stop, numb_steps, decay_steps):
    rate = (max(stop, 1e-10) / start) ** (decay_steps / numb_steps)
    return start * rate ** (np.asarray(steps) // decay_steps)


@pytest.mark.parametrize(
    ("numb_steps", "given", "used"),
    [
        (2000, 5000, 100),  # shortened
        (2000, 2000, 100),  # not larger: shortened too
        (2000, 500, 500),
        (1000, 5000, 11),
        (50, 5000, 1),
        (1_000_000, 5000, 5000),
    ],
)
def test_steps(numb_steps, given, used):
    schedule = ExpDecay(1e-3, numb_steps, stop_lr=3.51e-8, decay_steps=given)
    assert schedule.decay_steps == used
    steps = np.unique(
        np.clip([0, 1, used - 1, used, used + 1, 7 * used, numb_steps], 0, numb_steps)
    )
    want = np.maximum(formula(steps, 1e-3, 3.51e-8, numb_steps, used), 3.51e-8)
    np.testing.assert_allclose(rates(schedule, steps), want, rtol=1e-13)


def test_starts_exactly():
    assert float(ExpDecay(1e-3, 2000, stop_lr=1e-8)(0)) == 1e-3


def test_ends_at_stop_lr():
    schedule = ExpDecay(1e-3, 2000, stop_lr=1e-8, decay_steps=100)
    np.testing.assert_allclose(rates(schedule, [2000]), 1e-8, rtol=1e-12)
    np.testing.assert_array_equal(rates(schedule, [2500, 10**6]), 1e-8)


def test_lowest_stop_lr():
    schedule = ExpDecay(1e-3, 1000, stop_lr=0.0, decay_steps=10)
    want = formula([0, 10, 500, 1000], 1e-3, 1e-10, 1000, 10)
    np.testing.assert_allclose(rates(schedule, [0, 10, 500, 1000]), want, rtol=1e-13)


def test_smooth():
    schedule = ExpDecay(1e-3, 1000, stop_lr=1e-6, decay_steps=100, smooth=True)
    steps = np.array([0, 1, 50, 99, 731, 1000])
    want = 1e-3 * (1e-6 / 1e-3) ** (steps / 1000)
    np.testing.assert_allclose(rates(schedule, steps), want, rtol=1e-13)


def test_ratio():
    given = ExpDecay(2e-3, 1000, stop_lr=2e-7, decay_steps=10)
    ratio = ExpDecay(2e-3, 1000, stop_lr_ratio=1e-4, decay_steps=10)
    steps = [0, 5, 10, 512, 1000]
    np.testing.assert_allclose(rates(given, steps), rates(ratio, steps), rtol=1e-14)


def test_decay_rate():
    schedule = ExpDecay(
        1e-3, 1000, stop_lr=2e-4, decay_rate=0.7, decay_steps=5000, smooth=True
    )
    assert schedule.decay_steps == 5000  # not shortened where the rate is given
    want = np.maximum(1e-3 * 0.7 ** (np.array([0, 999, 10**6]) / 5000), 2e-4)
    np.testing.assert_allclose(rates(schedule, [0, 999, 10**6]), want, rtol=1e-13)


@pytest.mark.parametrize("options", [{"warmup_steps": 200}, {"warmup_ratio": 0.1}])
def test_warmup(options):
    schedule = ExpDecay(
        1e-3, 2000, stop_lr=1e-6, warmup_start_factor=0.1, decay_steps=100, **options
    )
    climb = 1e-4 + (1e-3 - 1e-4) * np.array([0, 1, 100, 199]) / 200
    np.testing.assert_allclose(rates(schedule, [0, 1, 100, 199]), climb, rtol=1e-13)
    want = formula(np.array([200, 300, 1000]) - 200, 1e-3, 1e-6, 1800, 100)
    np.testing.assert_allclose(rates(schedule, [200, 300, 1000]), want, rtol=1e-13)


def test_cosine():
    schedule = CosineAnnealing(1e-3, 1000, stop_lr=1e-5)
    steps = np.array([0, 1, 250, 500, 1000])
    want = 1e-5 + 0.495e-3 * (1 + np.cos(np.pi * steps / 1000))
    np.testing.assert_allclose(rates(schedule, steps), want, rtol=1e-13)
    np.testing.assert_array_equal(rates(schedule, [1001, 10**6]), 1e-5)


@pytest.mark.parametrize("decay_type", ["inverse_linear", "cosine", "linear"])
def test_warmup_stable_decay(decay_type):
    """Up, along, and down in the last fifth; it stays there afterwards."""
    schedule = WarmupStableDecay(
        1e-3,
        1000,
        stop_lr=1e-5,
        decay_phase_ratio=0.2,
        decay_type=decay_type,
        warmup_steps=100,
    )
    np.testing.assert_allclose(rates(schedule, [0, 50]), [0.0, 5e-4], rtol=1e-13)
    np.testing.assert_array_equal(rates(schedule, [100, 500, 800]), 1e-3)
    half = {"inverse_linear": 2 / (1e3 + 1e5), "cosine": 5.05e-4, "linear": 5.05e-4}
    np.testing.assert_allclose(rates(schedule, [900]), half[decay_type], rtol=1e-13)
    np.testing.assert_allclose(rates(schedule, [1000, 2000]), 1e-5, rtol=1e-13)


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_unknown_arguments(kind):
    with pytest.raises(TypeError, match="unexpected keyword argument 'stop_rate'"):
        kind(1e-3, 100, stop_lr=1e-5, stop_rate=1e-6)


def test_wrong_arguments():
    for options, message in (
        ({"decay_phase_ratio": 0.0}, "above 0 and at most 1. Received: 0.0"),
        ({"decay_type": "exp"}, r"one of \['inverse_linear'.*Received: 'exp'"),
        ({"stop_lr": 0.0}, "above 0 with `decay_type` 'inverse_linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            WarmupStableDecay(1e-3, 100, **{"stop_lr": 1e-5, **options})


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_float64_in_graph_and_out(kind):
    schedule = kind(1e-3, 1000, stop_lr=1e-6, warmup_steps=10)
    step = tf.constant(123, tf.int64)
    assert schedule(step).dtype == tf.float64
    assert float(tf.function(schedule)(step)) == float(schedule(123))
    graph = tf.function(schedule).get_concrete_function(step).graph
    low = [t for op in graph.get_operations() for t in op.outputs if t.dtype.size == 4]
    assert [t for t in low if t.dtype.is_floating] == []


@pytest.mark.parametrize(
    "options",
    [
        {"stop_lr": 1e-8},
        {"stop_lr": 1e-8, "kind": CosineAnnealing, "warmup_steps": 7},
        {
            "stop_lr": 1e-8,
            "kind": WarmupStableDecay,
            "decay_phase_ratio": 0.3,
            "decay_type": "linear",
        },
        {
            "stop_lr_ratio": 1e-3,
            "decay_steps": 7,
            "decay_rate": 0.9,
            "smooth": True,
            "warmup_ratio": 0.2,
            "warmup_start_factor": 0.5,
        },
    ],
)
def test_serialisation(options):
    options = dict(options)
    schedule = options.pop("kind", ExpDecay)(1e-3, 2000, **options)
    config = keras.saving.serialize_keras_object(schedule)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == schedule.get_config()
    steps = [0, 1, 399, 400, 1234, 2000]
    np.testing.assert_array_equal(rates(copy, steps), rates(schedule, steps))


def test_adam():
    optimizer = build_optimizer(ExpDecay(1e-3, 100, stop_lr=1e-5))
    assert optimizer.epsilon == 1e-8
    assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.epsilon == 1e-8


def test_adam_updates():
    """Three updates against the formulas of TensorFlow 1's Adam.

    Keras rounds the betas to float32 in the bias correction (as TensorFlow 1 did).
    """
    beta_1, beta_2 = float(np.float32(0.9)), float(np.float32(0.999))
    schedule = ExpDecay(1e-2, 100, stop_lr=1e-5, decay_steps=1)
    optimizer = build_optimizer(schedule)
    weight = keras.Variable(np.array([1.0, -2.0]), dtype="float64")
    optimizer.build([weight])
    x, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 4):
        gradient = np.array([0.3, 1e-7]) * t
        optimizer.apply([tf.constant(gradient)])
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 1e-2 * (1e-5 / 1e-2) ** ((t - 1) / 100)
        rate *= math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        x = x - rate * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(np.asarray(weight), x, rtol=1e-13)


@pytest.mark.parametrize("options", [{}, {"stop_lr": 1e-8, "stop_lr_ratio": 1e-3}])
def test_one_of_stop_lr_and_ratio(options):
    with pytest.raises(ValueError, match="one of `stop_lr` and `stop_lr_ratio`"):
        ExpDecay(1e-3, 100, **options)


def test_warmup_must_end():
    with pytest.raises(ValueError, match="warm-up must end before"):
        ExpDecay(1e-3, 100, stop_lr=1e-8, warmup_steps=100)
