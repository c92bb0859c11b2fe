# SPDX-License-Identifier: Apache-2.0
"""Residual rules and activation functions."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepspin.utils.network import (
    ACTIVATIONS,
    ResidualDense,
    activation,
    embedding_layers,
    fitting_layers,
    run,
    silut,
)


def dense(layer, x):
    """One layer in numpy."""
    y = np.tanh(x @ np.asarray(layer.matrix) + np.asarray(layer.bias))
    if layer.idt is not None:
        y = y * np.asarray(layer.idt)
    return y


@pytest.mark.parametrize("resnet_dt", [False, True])
@pytest.mark.parametrize("neuron", [(4, 8, 16), (1, 1, 2), (2, 4, 5, 5, 3)])
def test_embedding_rules(neuron, resnet_dt):
    layers = embedding_layers(neuron, "tanh", resnet_dt, (3,), dtype="float64")
    x = np.random.default_rng(0).normal(size=(5, 1))
    want, width = x, 1
    for layer, n in zip(layers, neuron, strict=True):
        y = dense(layer, want)
        joined = n in (width, 2 * width)  # the first layer included
        assert (layer.idt is not None) == (resnet_dt and joined)
        if n == width:
            y = y + want
        elif n == 2 * width:
            y = y + np.concatenate([want, want], axis=1)
        want, width = y, n
    np.testing.assert_allclose(run(layers, tf.constant(x)), want, rtol=1e-13)


@pytest.mark.parametrize("resnet_dt", [False, True])
@pytest.mark.parametrize("neuron", [(6, 6, 6), (3, 6, 6, 4), (12, 12)])
def test_fitting_rules(neuron, resnet_dt):
    trainable = [True] * (len(neuron) + 1)
    layers = fitting_layers(
        6, neuron, "tanh", resnet_dt, trainable, (4,), dtype="float64"
    )
    x = np.random.default_rng(0).normal(size=(5, 6))
    want, width = x, 6
    for k, (layer, n) in enumerate(zip(layers[:-1], neuron, strict=True)):
        y = dense(layer, want)
        joined = k > 0 and n == width  # never the first, never doubling
        assert (layer.idt is not None) == (resnet_dt and joined)
        want, width = (y + want if joined else y), n
    last = layers[-1]
    assert last.idt is None
    want = want @ np.asarray(last.matrix) + np.asarray(last.bias)
    np.testing.assert_allclose(run(layers, tf.constant(x)), want, rtol=1e-13)


REFERENCE = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "gelu": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "linear": lambda x: x,
}
REFERENCE["none"] = REFERENCE["linear"]
# TensorFlow's own holds this constant in float32
GELU_TF = float(np.float32(0.044715))
REFERENCE["gelu_tf"] = lambda x: (
    0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + GELU_TF * x**3)))
)


def silut_reference(x, threshold=3.0):
    def silu(z):
        return z / (1 + math.exp(-z))

    if x < threshold:
        return silu(x)
    s = 1 / (1 + math.exp(-threshold))
    slope = s * (1 + threshold * (1 - s))
    return math.tanh(slope * (x - threshold)) + silu(threshold)


REFERENCE["silut"] = silut_reference
REFERENCE["silut:1.5"] = lambda x: silut_reference(x, 1.5)


def derivatives(function, x):
    """Value, first and second derivative by automatic differentiation."""
    x = tf.constant(x, tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = function(x)
        slope = inner.gradient(y, x)
    bend = outer.gradient(slope, x, unconnected_gradients="zero")
    return y.numpy(), slope.numpy(), bend.numpy()


def test_every_activation_has_a_reference():
    assert set(ACTIVATIONS) <= set(REFERENCE)


@pytest.mark.parametrize("name", REFERENCE)
def test_activation(name):
    x = np.array([-7.3, -2.1, -0.4, 0.3, 1.1, 1.9, 2.7, 3.4, 5.2, 8.1])
    value, slope, bend = derivatives(activation(name), x)
    np.testing.assert_allclose(
        value, [REFERENCE[name](z) for z in x], rtol=1e-13, atol=1e-15
    )
    h = 1e-3

    def stencil(weights):
        terms = [
            w * np.array([REFERENCE[name](z + k * h) for z in x])
            for k, w in zip(range(-2, 3), weights, strict=True)
        ]
        return np.sum(terms, axis=0)

    first = stencil([1, -8, 0, 8, -1]) / (12 * h)
    second = stencil([-1, 16, -30, 16, -1]) / (12 * h * h)
    np.testing.assert_allclose(slope, first, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bend, second, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("threshold", [0.5, 3.0, 10.0])
def test_silut_joins(threshold):
    x = threshold + np.array([-1e-9, 0.0, 1e-9])
    value, slope, _ = derivatives(silut(threshold), x)
    assert np.ptp(value) < 1e-8
    assert np.ptp(slope) < 1e-8


def test_silut_far_out_is_finite():
    for part in derivatives(silut(3.0), np.array([-1e4, 1e4])):
        assert np.isfinite(part).all()


def test_unknown_activation():
    with pytest.raises(ValueError, match=r"Unknown activation function.*'swish'"):
        activation("swish")


@pytest.mark.parametrize("seed", [None, [1, 2, 3]])
def test_config_round_trip(seed):
    layer = ResidualDense(
        3, 6, activation_function="silut:2.0", residual=True, use_timestep=True,
        seed=seed, dtype="float64", trainable=False,
    )  # fmt: skip
    copy = ResidualDense.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]
    if seed is not None:
        for a, b in zip(copy.weights, layer.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own
def test_save_load(tmp_path):
    layers = fitting_layers(4, (4, 4), "tanh", True, [True] * 3, (1,), dtype="float64")
    model = keras.Sequential([keras.Input((4,), dtype="float64"), *layers])
    model.save(tmp_path / "net.keras")
    copy = keras.saving.load_model(tmp_path / "net.keras")
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 4)))
    np.testing.assert_array_equal(run(copy.layers, x), run(layers, x))


def test_initial_weights():
    """Spread of the initial weights, and seeds that differ."""
    a = ResidualDense(200, 300, use_timestep=True, seed=[1], dtype="float64")
    b = ResidualDense(200, 300, use_timestep=True, seed=[2], dtype="float64")
    assert np.std(a.matrix) == pytest.approx(1 / math.sqrt(500), rel=0.05)
    assert np.std(a.bias) == pytest.approx(1.0, rel=0.15)
    assert np.mean(a.idt) == pytest.approx(0.1, abs=1e-3)
    assert np.std(a.idt) == pytest.approx(1e-3, rel=0.15)
    assert (np.asarray(a.matrix) != np.asarray(b.matrix)).all()
