# SPDX-License-Identifier: Apache-2.0
"""The environment matrix against its equation, and where nobody is."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from by_hand import row

from deepspin.descriptor.env_mat import (
    environment_matrix,
    float32_range,
    smooth_weight,
)


@pytest.mark.parametrize(("rcut", "rcut_smth"), [(5.6, 5.4), (3.3, 0.5), (6.0, 0.0)])
@pytest.mark.parametrize("protection", [0.0, 0.01])
def test_environment_matrix(rcut, rcut_smth, protection):
    rng = np.random.default_rng(0)
    radius = rng.uniform(0.3, 1.1 * rcut, 400)
    radius[:50] = rng.uniform(rcut_smth, rcut, 50)
    diff = rng.normal(size=(400, 3))
    diff *= (radius / np.linalg.norm(diff, axis=1))[:, None]
    filled = rng.random(400) < 0.8
    radial, angular = environment_matrix(
        tf.constant(diff), tf.constant(filled), rcut, rcut_smth, protection
    )
    want = np.array([row(d, rcut, rcut_smth, protection) for d in diff])
    want[~filled] = 0
    np.testing.assert_allclose(radial, want[:, 0], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(angular, want[:, 1:], rtol=1e-13, atol=1e-15)


def test_cutoffs_are_those_of_float32():
    end, begin, length = float32_range(5.6, 5.4)
    assert (end, begin) == (float(np.float32(5.6)), float(np.float32(5.4)))
    assert length == float(np.float32(5.6) - np.float32(5.4))
    assert abs(length - 0.2) > 1e-8  # what it would be in float64
    r = tf.constant([5.5], tf.float64)
    u = (5.5 - begin) / length
    want = u**3 * (-6 * u**2 + 15 * u - 10) + 1
    assert float(smooth_weight(r, 5.6, 5.4)[0]) == pytest.approx(want, rel=1e-14)


def test_smooth_weight_is_c2():
    """Value, slope and curvature meet at both ends of the switch."""
    end, begin, _ = float32_range(3.3, 2.0)
    for radius, value in ((begin, 1.0), (end, 0.0)):
        r = tf.constant([radius - 1e-9, radius, radius + 1e-9], tf.float64)
        with tf.GradientTape() as outer:
            outer.watch(r)
            with tf.GradientTape() as inner:
                inner.watch(r)
                w = smooth_weight(r, 3.3, 2.0)
            slope = inner.gradient(w, r)
        bend = outer.gradient(slope, r)
        np.testing.assert_allclose(w, value, atol=1e-15)
        np.testing.assert_allclose(slope, 0.0, atol=1e-13)
        np.testing.assert_allclose(bend, 0.0, atol=1e-6)


def test_gradients_are_finite_in_empty_slots():
    diff = tf.constant(np.zeros((3, 3)))
    filled = tf.constant([False, True, True])
    for protection, slots in ((0.0, ~filled), (0.1, filled)):
        with tf.GradientTape() as tape:
            tape.watch(diff)
            radial, angular = environment_matrix(
                diff, filled & (slots | (protection > 0)), 3.0, 1.0, protection
            )
            total = tf.reduce_sum(radial) + tf.reduce_sum(angular)
        assert np.isfinite(tape.gradient(total, diff)).all()
    np.testing.assert_allclose(radial, [0.0, 10.0, 10.0])  # 1/protection
    np.testing.assert_array_equal(angular, 0.0)


def test_points_that_coincide_have_no_energy():
    """NaN, not the number of some other distance."""
    diff, filled = tf.zeros((2, 3), tf.float64), tf.constant([False, True])
    radial, _ = environment_matrix(diff, filled, 3.0, 1.0)
    np.testing.assert_array_equal(radial, [0.0, np.nan])
