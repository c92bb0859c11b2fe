# SPDX-License-Identifier: Apache-2.0
"""Chains of Nosé and Hoover: what they keep, what they sample, that they repeat."""

import copy

import numpy as np
import pytest
from averages import assert_mean, sample
from hamiltonians import Cluster, Landau

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.chains import NoseHoover
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State, thermal_velocity
from deepspin.dynamics.core.tspin import (
    InertialIntegrator,
    spin_dof,
    thermal_spin_velocity,
)

pytestmark = pytest.mark.any_version

KELVIN = 300.0
SPIN_MASS = np.full(8, 80.0)  # eV fs²/μ_B²


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("inertial", [False, True])
def test_conserved_quantity(inertial, length):
    """To second order, while the energy without the chains is not."""
    fields, bath = Landau(), NoseHoover(KELVIN, 15.0, length)
    spread = []
    for dt in (1.0, 0.5):
        state = fields.cluster.state(still=True)
        if inertial:
            baths = {"lattice_bath": bath, "spin_bath": bath}
            state.spin_velocity = thermal_spin_velocity(state, 100.0, SPIN_MASS)
            integrator = InertialIntegrator(fields, dt, SPIN_MASS, **baths)
        else:
            integrator = Integrator(fields, dt, lattice_bath=bath)
        plain, whole = [], []
        for _ in range(round(200 / dt)):
            integrator.step(state)
            if inertial:
                energy = fields(state.coord, state.spin).energy[0]
                energy += observables.kinetic_energy(state)[0]
                energy += observables.spin_kinetic_energy(state, SPIN_MASS)[0]
                chain = (state.spin_chain, spin_dof(SPIN_MASS), 1)
            else:
                energy = fields(state.coord, state.spin).energy[0]
                energy += observables.kinetic_energy(state)[0]
                chain = (np.zeros((1, 2, length)), 1, 1)
            plain.append(energy)
            energy += bath.energy(state.lattice_chain, state.dof, 1)[0]
            whole.append(energy + bath.energy(*chain)[0])
        spread.append(np.std(whole))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.35)
    assert spread[1] < 0.01 * np.std(plain)


def test_reversible():
    """A bath that runs back undoes itself; velocities keep their directions."""
    rng = np.random.default_rng(1)
    velocity = 0.05 * rng.normal(size=(2, 5, 3))
    mass = np.array([1.0, 2.0, 0.0, 3.0, 1.0])
    chain = rng.normal(size=(2, 2, 3)) * [[[1.0], [0.05]]]
    bath = NoseHoover(KELVIN, 10.0)
    faster, moved = bath.drive(velocity, mass, chain, 12, 3.0)
    back, again = bath.drive(faster, mass, moved, 12, -3.0)
    np.testing.assert_allclose(back, velocity, rtol=1e-12)
    np.testing.assert_allclose(again, chain, rtol=1e-10, atol=1e-14)
    ratio = faster / velocity
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * np.ones((5, 3)), rtol=1e-13)
    assert abs(ratio - 1).min() > 1e-3


def test_canonical():
    """Mean and fluctuation of the kinetic energy, at two temperatures."""
    kelvin = np.repeat([150.0, 300.0], 12)
    fields = Cluster()
    state = fields.state(nrep=24, still=True)
    bath = NoseHoover(kelvin, 15.0, 4)
    integrator = Integrator(fields, 2.0, spins=False, lattice_bath=bath)
    found = sample(integrator, state, observables.kinetic_energy, 150, 800, 4)
    assert state.dof == 21
    thermal = units.K_B * kelvin
    ratio = found / thermal
    assert_mean(ratio, 10.5, at_most=0.02)
    assert_mean((ratio - 10.5) ** 2, 10.5, at_most=0.1)
    for part in (ratio[:, :12], ratio[:, 12:]):
        assert_mean(part, 10.5, at_most=0.03)


def test_length_of_the_chain():
    """One oscillator: a chain samples the normal distribution, one link does not."""
    spring, mass, nrep, ratios = 1.0, 50.0 * units.AMU, 60, []
    variance = units.K_B * KELVIN / spring
    pace = np.sqrt(mass / spring)
    first = np.random.default_rng(3).uniform(0.9, 1.1, size=(nrep, 1, 1))
    for length in (1, 4):
        bath, chain = NoseHoover(KELVIN, pace, length), None
        place, speed = np.sqrt(variance) * first, np.sqrt(variance) / pace * first
        time, found = pace / 10, []
        for step in range(4000):
            place = place + time / 2 * speed
            speed = speed - time / 2 * spring / mass * place
            speed, chain = bath.drive(speed, np.array([mass]), chain, 1, time)
            speed = speed - time / 2 * spring / mass * place
            place = place + time / 2 * speed
            if step >= 400:
                found.append(place[:, 0, 0] ** 2 / variance)
        ratios.append([np.mean(found), np.mean(np.square(found))])
    assert abs(ratios[0][1] / 3 - 1) > 0.25
    np.testing.assert_allclose(ratios[1], [1, 3], rtol=0.08)


def test_restart_and_replicas():
    """In two parts as in one, and alone as with others, to the last bit."""
    fields = Landau()
    start = fields.cluster.state(nrep=2)
    start.spin_velocity = thermal_spin_velocity(start, KELVIN, SPIN_MASS)
    bath = NoseHoover(KELVIN, 15.0)
    integrator = InertialIntegrator(
        fields, 1.0, SPIN_MASS, lattice_bath=bath, spin_bath=bath
    )
    whole, parts = copy.deepcopy(start), copy.deepcopy(start)
    sample(integrator, whole, id, 20, 0, 1)
    sample(integrator, parts, id, 9, 0, 1)
    again = State.from_arrays(parts.arrays())
    sample(integrator, again, id, 11, 0, 1)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
    rows = ("coord", "spin", "velocity", "spin_velocity", "stream")
    alone = State(
        mass=start.mass,
        atype=start.atype,
        **{name: getattr(start, name)[1:] for name in rows},
    )
    sample(integrator, alone, id, 20, 0, 1)
    for name in (*rows, "lattice_chain", "spin_chain"):
        got = getattr(alone, name)[0]
        np.testing.assert_array_equal(got, getattr(whole, name)[1], err_msg=name)


def test_fixed_atoms_and_other_lengths():
    """Fixed atoms stay; a chain of another length begins anew."""
    fields = Cluster()
    state = fields.state(fixed=[True] + [False] * 7, temperature=0.0)
    state.velocity = thermal_velocity(state, KELVIN)
    place = state.coord[0, 0].copy()
    for length in (3, 2):
        bath = NoseHoover(KELVIN, 15.0, length)
        sample(Integrator(fields, 1.0, lattice_bath=bath), state, id, 5, 0, 1)
        assert state.lattice_chain.shape == (1, 2, length)
    np.testing.assert_array_equal(state.coord[0, 0], place)
    fresh = bath.start(1)
    assert not fresh.any() and bath.energy(None, 21, 1) == bath.energy(fresh, 21, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0.0, 10.0), "must be above 0 K"),
        ((300.0, 0.0), "`relaxation_time` must be a positive"),
        ((300.0, 10.0, 0), "`length` must be at least 1"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        NoseHoover(*given)
