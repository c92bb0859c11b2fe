# SPDX-License-Identifier: Apache-2.0
"""Temperatures and fields that change with time."""

import copy

import numpy as np
import pytest
from averages import assert_mean
from hamiltonians import free, spins

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.baths import Gilbert, Langevin
from deepspin.dynamics.core.fields import Response, Zeeman
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.ramps import Ramp, all_of, at, now
from deepspin.dynamics.core.state import State, thermal_velocity
from deepspin.dynamics.core.tspin import InertialIntegrator, thermal_spin_velocity

pytestmark = pytest.mark.any_version


def test_straight_lines():
    """The first value before, the last one after, numpy's interpolation between."""
    times, values = [0.0, 10.0, 30.0], np.array([5.0, 1.0, 7.0])
    ramp, two = Ramp(times, values), Ramp(times, values[:, None] * [1, -2])
    for time in (-1.0, 0.0, 4.0, 10.0, 10.1, 29.0, 30.0, 99.0):
        want = np.interp(time, times, values)
        assert at(ramp, time) == pytest.approx(want, rel=1e-14)
        np.testing.assert_allclose(two.at(time), [want, -2 * want], rtol=1e-14)
    assert at(3.0, 5.0) == 3.0 and all_of(ramp).tolist() == [5, 1, 7]
    assert now(Langevin(ramp, 0.1), 4.0) == Langevin(ramp.at(4.0), 0.1)
    assert now(None, 4.0) is None


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([0, 1], [1], "a value for each time"),
        ([0, 0], [1, 2], "must increase"),
        ([], [], "must increase"),
        ([0, 1], [1, np.nan], "all numbers be finite"),
    ],
)
def test_mistakes(times, values, message):
    with pytest.raises(ValueError, match=message):
        Ramp(times, values)


def test_baths_and_fields_check_ramps():
    with pytest.raises(ValueError, match="`temperature` must be at least 0"):
        Gilbert(Ramp([0, 1], [1, -1]), 0.1)
    with pytest.raises(ValueError, match="`field` must be a vector"):
        Zeeman(free, Ramp([0, 1], [1, -1]))


def heated(nloc, kelvin):
    """Free atoms and spins of free moduli at a temperature."""
    vectors = np.zeros((1, nloc, 3))
    state = State(
        coord=vectors,
        spin=vectors + 1,
        mass=np.full(nloc, 50.0),
        atype=np.zeros(nloc, int),
    )
    state.velocity = thermal_velocity(state, kelvin)
    mass = np.full(nloc, 80.0)
    state.spin_velocity = thermal_spin_velocity(state, kelvin, mass)
    return state, mass


def test_atoms_and_spins_lag_behind():
    """dT/dt = 2 γ (T_bath - T): after a while they are late by 1/(2 γ)."""
    ramp = Ramp([0.0, 500.0], [200.0, 700.0])
    state, mass = heated(4000, 200.0)
    integrator = InertialIntegrator(
        free,
        1.0,
        mass,
        lattice_bath=Langevin(ramp, 0.05),
        spin_bath=Langevin(ramp, 0.02),
    )
    late = []
    for _ in range(480):
        integrator.step(state)
        if state.time > 200:
            late.append(
                [
                    ramp.at(state.time) - observables.lattice_temperature(state)[0],
                    ramp.at(state.time)
                    - observables.spin_kinetic_temperature(state, mass)[0],
                ]
            )
    for found, friction in zip(np.array(late).T, (0.05, 0.02), strict=True):
        assert_mean(found, 1 / (2 * friction), at_most=0.3)


def uniaxial(stiffness):
    """E = -k sum S_z^2, k in eV/μ_B^2."""

    def fields(coord, spin, time=0.0):
        push = np.zeros_like(spin)
        push[..., 2] = 2 * stiffness * spin[..., 2]
        energy = -stiffness * (spin[..., 2] ** 2).sum(axis=1)
        return Response(energy, np.zeros_like(coord), push)

    return fields


@pytest.mark.parametrize("degrees", [1.0, 20.0, 45.0])
def test_stoner_wohlfarth(degrees):
    """At 0 K a spin turns over at (cos^(2/3) + sin^(2/3))^(-3/2) of H_c = 2 K/mu."""
    stiffness, modulus = 0.01, 2.0
    coercive = 2 * stiffness * modulus / units.MU_B  # K = k S², in T
    angle = np.radians(degrees)
    axis = np.array([np.sin(angle), 0, np.cos(angle)])
    part = (np.cos(angle) ** (2 / 3) + np.sin(angle) ** (2 / 3)) ** -1.5
    # fast to where it must still hold, then slowly past where it must not
    levels = coercive * np.array([1.0, -(part - 0.02), -(part + 0.02)])
    ramp = Ramp([0.0, 400.0, 4000.0], levels[:, None] * axis)
    integrator = Integrator(
        Zeeman(uniaxial(stiffness), ramp),
        2.0,
        lattice=False,
        spin_bath=Gilbert(0.0, 1.0),
    )
    state = spins([modulus * axis])
    while state.spin[0, 0] @ axis > 0:
        integrator.step(state)
        assert state.time < 4000
    turned = -ramp.at(state.time) @ axis
    assert state.time > 400
    assert turned == pytest.approx(part * coercive, abs=0.012 * coercive)


def test_restart():
    ramp = Ramp([0.0, 10.0], [300.0, 100.0])
    whole = spins(np.ones((2, 3, 3)))
    field = Ramp([2.0, 8.0], [[0, 0, 50.0], [0, 30.0, 0]])
    integrator = Integrator(
        Zeeman(free, field),
        1.0,
        lattice_bath=Langevin(ramp, 0.1),
        spin_bath=Gilbert(ramp, 0.2),
    )
    parts = copy.deepcopy(whole)
    for _ in range(12):
        integrator.step(whole)
    for _ in range(5):
        integrator.step(parts)
    again = State.from_arrays(parts.arrays())
    for _ in range(7):
        integrator.step(again)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
