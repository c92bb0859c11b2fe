# SPDX-License-Identifier: Apache-2.0
"""Starts of a search for the ground state, and what they have in common."""

import numpy as np
import pytest
from hamiltonians import exchange

from deepspin.dynamics.core.sphere import rotate_by
from deepspin.dynamics.relax import starts as module
from deepspin.dynamics.relax.manifold import Freedom
from deepspin.dynamics.relax.relaxation import Limits, along, relax
from deepspin.dynamics.relax.starts import KINDS, TILT, distinct, orders, starting_spins

GRID = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
BOX = 10.0 * np.eye(3)
COORD = 2.5 * GRID + 0.0


@pytest.fixture
def spin():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=COORD.shape)
    vectors *= rng.uniform(1, 2, (64, 1)) / np.linalg.norm(vectors, axis=1)[:, None]
    vectors[5] = 0.0
    return vectors


@pytest.mark.parametrize("box", [BOX, None, BOX * [[1], [1], [0]]])
def test_starts(spin, box):
    """The first is what was given; kinds in turn; moduli stay; more add to them."""
    found = starting_spins(COORD, spin, box, 10, seed=3)
    np.testing.assert_array_equal(found[0], spin)
    sizes = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(sizes, 10 * [np.linalg.norm(spin, axis=1)], rtol=1e-14)
    np.testing.assert_array_equal(found[:4], starting_spins(COORD, spin, box, 4, 3))
    assert (
        (found[1:] != starting_spins(COORD, spin, box, 10, 4)[1:])
        .any(axis=(1, 2))
        .all()
    )
    axes = orders(found, np.zeros(64, int))[:, 1:]
    scale = np.sqrt((spin**2).sum(axis=1).mean())
    for k in range(1, 10):
        kind = KINDS[(k - 1) % 3]
        assert (axes[k, 0] > 0.4 * scale) == (kind == "random")
        if kind == "collinear":
            assert axes[k, 1] < 2 * TILT * scale
        assert axes[k, 0] > 1e-3  # tilted out of line and plane


def test_spirals_are_commensurate(spin, monkeypatch):
    """Before the tilt, a spiral turns by the same angle from site to site."""
    monkeypatch.setattr(module, "TILT", 0.0)
    found = starting_spins(COORD, np.ones_like(spin), BOX, 10, seed=0)[[3, 6, 9]]
    field = found.reshape(3, 4, 4, 4, 3)
    turning = 0
    for direction in (1, 2, 3):
        product = (field * np.roll(field, -1, axis=direction)).sum(axis=-1) / 3
        product = product.reshape(3, -1)
        np.testing.assert_allclose(product, product[:, :1] + 0 * product, atol=1e-12)
        # up to two waves over four sites
        assert np.abs(product[:, 0, None] - [-1, 0, 1]).min(axis=1).max() < 1e-12
        turning += np.count_nonzero(product[:, 0] < 0.5)
    assert turning > 3


def test_collinear_starts(spin):
    axis = np.broadcast_to([0, 0, 1.0], spin.shape)
    spin = along(spin, axis)
    found = starting_spins(COORD, spin, BOX, 7, 0, axis)
    assert not found[..., :2].any()
    np.testing.assert_allclose(np.abs(found[..., 2]), 7 * [np.abs(spin[:, 2])])
    assert len(np.unique(np.sign(found[..., 2]), axis=0)) > 4


def test_ground_state():
    """Neighbours that are opposite, found from some starts; rotations are the same."""
    n = 6
    coupling = -0.01 * np.roll(np.eye(n), 1, axis=1)
    coupling[0, 3] = coupling[2, 5] = -0.02  # frustrated: several minima are likely
    fields = exchange(coupling + coupling.T)
    coord = 2.0 * np.arange(n)[:, None] * [1.0, 0, 0]
    spin = starting_spins(coord, np.tile([0, 0, 1.2], (n, 1)), None, 12, seed=5)
    end = relax(
        fields,
        np.zeros_like(spin),
        spin,
        free=Freedom(positions=False),
        limits=Limits(force_mag=1e-9),
    )
    states = distinct(end, np.zeros(n, int))
    # the first start, all parallel, is stationary: a maximum, and a state of its own
    assert [0] in states and states[-1] == [0]
    members = sorted(k for state in states for k in state)
    assert members == list(range(12))
    lowest = end.energy[states[0]]
    np.testing.assert_allclose(lowest, end.energy.min(), rtol=1e-9)
    heads = [end.energy[state[0]] for state in states]
    assert heads == sorted(heads)
    assert len(states[0]) > 3


def test_states_that_differ():
    """Energy alone is not enough, nor are directions in space."""
    one = np.tile([0, 0, 1.0], (4, 1))
    two = one * [[1], [-1], [1], [-1]]
    turned = rotate_by(two, np.tile([0.3, 1.0, 0.2], (4, 1)))
    spin = np.stack([two, one, turned, one, two])
    end = relax(exchange(np.zeros((4, 4))), np.zeros_like(spin), spin)
    assert distinct(end, np.zeros(4, int)) == [[0, 2, 4], [1, 3]]
    # types are told apart; those without spin do not matter
    assert orders(spin, np.array([0, 1, 0, 1])).shape == (5, 8)
    assert orders(0 * spin, np.zeros(4, int)).shape == (5, 0)
    end = relax(exchange(np.eye(4)), np.zeros_like(spin), spin, steps=0)
    assert len(distinct(end, np.zeros(4, int))) == 2
    tilted = exchange(np.ones((4, 4)))
    aside = np.array([0.3, 0, 0])
    end = relax(tilted, np.zeros_like(spin), spin + aside, steps=0)
    assert distinct(end, np.zeros(4, int)) == [[1, 3]], "the others did not converge"
