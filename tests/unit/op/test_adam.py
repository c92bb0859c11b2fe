# SPDX-License-Identifier: Apache-2.0
"""The fused update of Adam gives Keras' numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepspin.op.adam import fuse


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
