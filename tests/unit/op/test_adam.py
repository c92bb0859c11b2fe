# SPDX-License-Identifier: Apache-2.0
"""The fused update of Adam gives Keras' numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepspin.op.adam import fuse, widen


def steps(optimizer, traced):
    """Weights after five steps of random gradients."""
    rng = np.random.default_rng(0)
    weights = [
        keras.Variable(rng.normal(size=shape), dtype="float64")
        for shape in ((3, 4), (5,))
    ]
    optimizer.build(weights)

    def apply(*gradients):
        optimizer.apply(list(gradients))

    update = tf.function(apply, jit_compile=False) if traced else apply
    for _ in range(5):
        update(*(tf.constant(rng.normal(size=w.shape)) for w in weights))
    return [np.asarray(w) for w in weights]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"beta_1": 0.5, "epsilon": 1e-3}, {"clipnorm": 0.1}, {"weight_decay": 0.1}],
    ids=["default", "betas", "clipped", "decay"],
)
def test_numbers_are_those_of_keras(options, traced):
    ours, theirs = (keras.optimizers.Adam(0.01, **options) for _ in range(2))
    fuse(ours)
    assert "update_step" in vars(ours)
    for a, b in zip(steps(ours, traced), steps(theirs, traced), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert np.abs(a).max() > 0.01


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(), keras.optimizers.Adam(amsgrad=True)]
)
def test_others_are_left_alone(optimizer):
    fuse(optimizer)
    assert "update_step" not in vars(optimizer)


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="Keras has no Muon")
@pytest.mark.parametrize("traced", [False, True])
def test_muon_in_double_precision(traced):
    """Five steps of matrices by its formula, rates in float32 and in float64."""
    rng = np.random.default_rng(0)
    want, momentum = rng.normal(size=(3, 4)), np.zeros((3, 4))
    rng.normal(size=5)  # the other weight
    for _ in range(5):
        gradient, _ = rng.normal(size=(3, 4)), rng.normal(size=5)
        momentum = 0.95 * momentum + gradient
        update = gradient + 0.95 * momentum
        update /= np.linalg.norm(update) + 1e-7
        for _ in range(5):
            square = update @ update.T
            inner = -4.7750 * square + 2.0315 * square @ square
            update = 3.4445 * update + inner @ update
        want -= 2.0**-7 * 0.2 * 2.0 * update  # sqrt(4) of the longer side
    for rate in (2.0**-7, keras.optimizers.schedules.ExponentialDecay(2.0**-7, 9, 1)):
        optimizer = keras.optimizers.Muon(rate, weight_decay=0.0, adam_weight_decay=0.0)
        widen(optimizer)
        found = steps(optimizer, traced)[0]
        np.testing.assert_allclose(found, want, rtol=1e-9)
