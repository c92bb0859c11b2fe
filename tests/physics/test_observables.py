# SPDX-License-Identifier: Apache-2.0
"""Observables of spin-lattice dynamics."""

import numpy as np
import pytest
from hamiltonians import Cluster, in_field, spins

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State, thermal_velocity


def test_spin_temperature_in_a_field():
    """Directions at the quantiles of Langevin's distribution."""
    kelvin, tesla, modulus, n = 50.0, 40.0, 1.7, 20000
    x = units.MU_B * modulus * tesla / (units.K_B * kelvin)
    u = (np.arange(n) + 0.5) / n
    z = 1 + np.log(u + (1 - u) * np.exp(-2 * x)) / x
    phi = 2.4 * np.arange(n)
    across = np.sqrt(1 - z**2)
    spin = modulus * np.stack([across * np.cos(phi), across * np.sin(phi), z], -1)
    state = spins(spin)
    found = in_field([0, 0, tesla])(state.coord, state.spin)
    temperature = observables.spin_temperature(state.spin, found.force_mag)
    assert temperature == pytest.approx(kelvin, rel=1e-6)


@pytest.mark.parametrize("stiffness", [0.0, 0.3])
def test_spin_temperature_with_anisotropy(stiffness):
    """Exact with the curvature only; what moduli cost has no effect at all."""
    kelvin, axis, modulus, n = 60.0, 0.004, 1.7, 40000
    x = axis * modulus**2 / (units.K_B * kelvin)  # weight exp(x z^2)
    grid = np.linspace(-1, 1, 200001)
    weight = np.exp(x * grid**2)
    summed = np.append(0, np.cumsum((weight[1:] + weight[:-1]) / 2))
    z = np.interp((np.arange(n) + 0.5) / n, summed / summed[-1], grid)
    phi, across = 2.4 * np.arange(n), np.sqrt(1 - z**2)
    spin = modulus * np.stack([across * np.cos(phi), across * np.sin(phi), z], -1)
    state = spins(spin)

    def fields(coord, spin, time=0.0):
        push = 2 * axis * spin * [0, 0, 1]
        push -= stiffness * ((spin**2).sum(axis=2, keepdims=True) - 1) * spin
        return Response(np.zeros(1), np.zeros_like(coord), push)

    push = fields(state.coord, state.spin).force_mag
    curvature = observables.spin_curvature(fields, state, push)
    temperature = observables.spin_temperature(state.spin, push, curvature)
    assert temperature == pytest.approx(kelvin, rel=0.02)
    assert abs(observables.spin_temperature(state.spin, push) / kelvin - 1) > 0.1


def test_spin_curvature_of_moduli():
    """Without scatter, whatever the draw."""
    state = spins(np.random.default_rng(1).normal(size=(3, 5, 3)))
    push = -0.2 * state.spin * (state.spin**2).sum(axis=2, keepdims=True)

    def fields(coord, spin, time=0.0):
        push = -0.2 * spin * (spin**2).sum(axis=2, keepdims=True)
        return Response(np.zeros(3), np.zeros_like(coord), push)

    found = observables.spin_curvature(fields, state, push)
    wanted = -2 * (push * state.spin).sum(axis=(1, 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_spin_temperature_of_extremes():
    spin = np.array([[[0, 0, 1.0]], [[0, 0, 1.0]], [[1.0, 0, 0]], [[0, 0, 1.0]]])
    push = np.array([[[0, 0, 1.0]], [[1.0, 0, -1.0]], [[0, 0, 1.0]], [[0, 0, 0.0]]])
    found = observables.spin_temperature(spin, push)
    assert found[0] == 0 and found[1] < 0 and found[2] == np.inf and np.isnan(found[3])


def test_kinetic_energy_and_temperature():
    state = spins(np.ones((2, 3)))
    state.mass = np.array([1.0, 4.0])
    state.velocity = np.array([[[0.02, 0, 0], [0, 0.01, 0]]])
    joule = 1.66053906660e-27 / 2 * (0.02**2 + 4 * 0.01**2) * 1e10
    energy = joule / 1.602176634e-19
    assert observables.kinetic_energy(state) == pytest.approx(energy, rel=1e-12)
    kelvin = 2 * joule / 1.380649e-23
    for options, dof in (({}, 6), ({"still": True}, 3), ({"fixed": [True, False]}, 3)):
        other = State(coord=state.coord, spin=state.spin, mass=[1, 4], atype=[0, 0])
        other = State(**{**other.arrays(), **options})
        other.velocity = state.velocity
        found = observables.lattice_temperature(other)
        assert found == pytest.approx(kelvin / dof, rel=1e-9), options


def test_thermal_velocity():
    """The right temperature, with and without a drift."""
    many = spins(np.ones((5000, 3)))
    many.velocity = thermal_velocity(many, 300.0)
    found = observables.lattice_temperature(many)
    assert found == pytest.approx(300, rel=4 * np.sqrt(2 / 15000))
    small = Cluster().state(nrep=400, still=True)
    small.velocity = thermal_velocity(small, 300.0)
    np.testing.assert_allclose(observables.momentum(small), 0, atol=1e-12)
    mean = observables.lattice_temperature(small).mean()
    assert mean == pytest.approx(300, rel=4 * np.sqrt(2 / 21 / 400))


def test_magnetisation_of_types():
    state = spins([[0, 0, 1.0], [0, 0, -0.5], [2.0, 0, 0]])
    state.atype = np.array([0, 0, 2])
    want = [[[0, 0, 0.25], [0, 0, 0], [2, 0, 0]]]
    np.testing.assert_allclose(observables.magnetisation(state, 3), want)
    np.testing.assert_allclose(observables.mean_modulus(state, 3), [[0.75, 0, 2]])


def test_angular_momentum():
    state = spins([[0, 0, 2.0]])
    state.coord = np.array([[[1.0, 0, 0]]])
    state.velocity = np.array([[[0, 0.01, 0]]])
    want = [[0, 0, 58.7 * units.AMU * 0.01 - units.HBAR]]
    np.testing.assert_allclose(observables.angular_momentum(state), want)
