# SPDX-License-Identifier: Apache-2.0
"""Hybrid Monte Carlo of spins whose moduli move: all measures, walls, restarts."""

import copy

import numpy as np
import pytest
from averages import LADDER, assert_mean
from hamiltonians import Landau, spins

from deepspin.atoms import units
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State
from deepspin.dynamics.thermo.hybrid import HybridMonteCarlo

pytestmark = pytest.mark.any_version

# E = B (S^2 - C)^2 of each spin, in eV
B, C = 0.05, 1.69


def landau(coord, spin, time=0.0):
    """Spins on their own, those of modulus 0 without energy."""
    magnetic = spin.any(axis=2)
    excess = ((spin**2).sum(axis=2) - C) * magnetic
    push = -4 * B * excess[..., None] * spin
    return Response(B * (excess**2).sum(axis=1), np.zeros_like(coord), push)


def moments(measure, kelvin, low=0.0, high=4.0):
    """<S^2> and <E> of a spin by quadrature, moduli from `low` to `high`."""
    s = np.linspace(low, high, 40001)
    energy = B * (s**2 - C) ** 2
    weight = np.exp(-energy / (units.K_B * kelvin))
    weight *= s ** {"vector": 2, "linear": 1, "scalar": 0}[measure]
    weight[[0, -1]] /= 2
    return (s**2 * weight).sum() / weight.sum(), (energy * weight).sum() / weight.sum()


def moved(sampler, state, moves, tune=100):
    """Squared moduli and energies of a spin, (moves, nrep) each."""
    found = []
    for move in range(tune + moves):
        sampler.advance(state, tune=move < tune)
        if move >= tune:
            magnetic = state.spin.any(axis=2)
            square = (state.spin**2).sum(axis=2).sum(axis=1) / magnetic.sum(axis=1)
            found.append(
                [square, sampler.response(state).energy / magnetic.sum(axis=1)]
            )
    return np.moveaxis(np.array(found), 1, 0)


@pytest.mark.parametrize(
    ("measure", "wall"),
    [("vector", False), ("linear", True), ("scalar", False)],
)
def test_landau(measure, wall):
    """Moduli and energies at three temperatures that are exchanged."""
    number, low, high = (4, 1.0, 1.6) if wall else (60, 0.0, 4.0)
    vectors = np.zeros((3, number + 1, 3))
    vectors[:, :-1, 2] = 1.3
    state = spins(vectors)  # the last atom has no spin
    ranges = np.array([[low, high]] * number + [[0.0, 0.0]]) if wall else None
    sampler = HybridMonteCarlo(
        landau,
        LADDER,
        lattice=False,
        leaps=4,
        moduli=measure,
        spin_range=ranges,
    )
    squares, energies = moved(sampler, state, 600)
    for replica, kelvin in enumerate(LADDER):
        square, energy = moments(measure, kelvin, low, high)
        assert_mean(squares[:, replica], square, at_most=0.015)
        assert_mean(energies[:, replica], energy, at_most=0.06)
    assert not state.spin[:, -1].any()
    moduli = np.linalg.norm(state.spin[:, :-1], axis=2)
    assert (low <= moduli).all() and (moduli <= high).all()
    assert bool(sampler.left.any()) == wall


def test_restart():
    """In two parts as in one, to the last bit."""
    fields = Landau()
    ranges = np.tile([1.0, 1.6], (8, 1))

    def sampler():
        return HybridMonteCarlo(fields, LADDER, moduli="scalar", spin_range=ranges)

    whole = fields.cluster.state(nrep=3)
    parts, one = copy.deepcopy(whole), sampler()
    for move in range(10):
        one.advance(whole, tune=move < 4)
    first = sampler()
    for move in range(6):
        first.advance(parts, tune=move < 4)
    again, second = State.from_arrays(parts.arrays()), sampler()
    second.restore(first.arrays())
    for _ in range(4):
        second.advance(again)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
    np.testing.assert_array_equal(one.left, second.left)
    assert np.ptp(np.linalg.norm(whole.spin, axis=2)) > 0.01


def test_leapfrog_of_vectors():
    """Of second order and its own inverse, with the measure's force."""
    fields = Landau()
    state = fields.cluster.state(nrep=3)
    sampler = HybridMonteCarlo(fields, LADDER, moduli="scalar", leaps=8)
    sampler.advance(state, tune=True)
    start, before = sampler.start(state), sampler.response(state)
    errors = []
    for time in (0.5, 0.25):
        sampler.leaps = round(4 / time)
        end, after, lost = sampler.follow(state, start, before, np.full(3, time))
        assert not lost.any()
        change = sampler.energy(state, end, after) - sampler.energy(
            state, start, before
        )
        errors.append(np.abs(change).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    turned = type(end)(end.coord, end.spin, -end.velocity, -end.turning)
    back, _, _ = sampler.follow(state, turned, after, np.full(3, 0.25))
    np.testing.assert_allclose(back.spin, start.spin, atol=1e-12)
    np.testing.assert_allclose(back.coord, start.coord, atol=1e-12)


def test_mistakes():
    with pytest.raises(ValueError, match="`moduli` must be one of fixed, vector"):
        HybridMonteCarlo(landau, LADDER, moduli="free")
