# SPDX-License-Identifier: Apache-2.0
"""Vectors and rotations on spheres."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepspin.dynamics.core.sphere import cross, dot, midpoint, modulus_of, rotate_by


def test_products():
    one, other = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    np.testing.assert_allclose(cross(one, other), np.cross(one, other), atol=1e-15)
    np.testing.assert_allclose(dot(one, other)[..., 0], (one * other).sum(axis=-1))


def test_moduli():
    found = modulus_of(np.array([[3.0, 4, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(found, [[5], [1]])


def test_rotations():
    """As others do them, by any angle; none without one."""
    spin, turn = np.random.default_rng(1).normal(size=(2, 20, 3))
    want = Rotation.from_rotvec(turn).apply(spin)
    np.testing.assert_allclose(rotate_by(spin, turn), want, atol=1e-14)
    np.testing.assert_array_equal(rotate_by(spin, 0 * turn), spin)


@pytest.mark.parametrize("angle", [1e-8, 0.3])
def test_midpoint_turns_back(angle):
    """The rule is its own inverse."""
    spin, turn = np.random.default_rng(2).normal(size=(2, 20, 3))
    turned, middle = midpoint(spin, angle * turn)
    back, again = midpoint(turned, -angle * turn)
    np.testing.assert_allclose(back, spin, atol=1e-14)
    np.testing.assert_allclose(again, middle, atol=1e-14)


def test_spherical_midpoint():
    """S' - S = u x w, with w midway on the sphere; exact rotations for small u."""
    rng = np.random.default_rng(0)
    spin, turn = rng.normal(size=(2, 50, 3))
    turn *= rng.uniform(0, 1, (50, 1)) / np.linalg.norm(turn, axis=1, keepdims=True)
    spin[0] = turn[1] = 0.0
    turned, middle = midpoint(spin, turn)
    np.testing.assert_allclose(turned - spin, np.cross(turn, middle), atol=1e-14)
    for array in (turned, middle):
        np.testing.assert_allclose((array**2).sum(1), (spin**2).sum(1), rtol=1e-14)
    np.testing.assert_allclose(np.cross(spin + turned, middle), 0, atol=1e-13)
    np.testing.assert_allclose(
        midpoint(spin, 1e-3 * turn)[0], rotate_by(spin, 1e-3 * turn), atol=1e-9
    )
