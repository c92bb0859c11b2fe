# SPDX-License-Identifier: Apache-2.0
"""Spins with inertia, moduli included."""

import copy
import logging

import numpy as np
import pytest
from averages import assert_mean, sample
from hamiltonians import Landau, free, spins

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.baths import Langevin
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import DynamicsError, State
from deepspin.dynamics.core.tspin import InertialIntegrator, thermal_spin_velocity

MASS = 80.0  # eV fs²/μ_B²


def total_energy(fields, state):
    return (
        fields(state.coord, state.spin).energy
        + observables.kinetic_energy(state)
        + observables.spin_kinetic_energy(state, np.full(state.nloc, MASS))
    )


def test_energy():
    """Conserved to second order; moduli move."""
    fields = Landau()
    spread = []
    for dt in (1.0, 0.5):
        state = fields.cluster.state()
        integrator = InertialIntegrator(fields, dt, np.full(8, MASS))
        energies = []
        for _ in range(round(1000 / dt)):
            integrator.step(state)
            energies.append(total_energy(fields, state)[0])
        spread.append(np.std(energies))
        assert integrator.evaluations == state.step
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.2)
    assert np.ptp(np.linalg.norm(state.spin, axis=2)) > 0.02


def test_reversal_and_angular_momentum():
    """Sum R x P + S x Π is kept, and time runs back."""
    fields = Landau()
    state = fields.cluster.state()
    start = copy.deepcopy(state)

    def turning(now):
        orbital = now.mass[:, None] * units.AMU * np.cross(now.coord, now.velocity)
        return (orbital + MASS * np.cross(now.spin, now.spin_velocity)).sum(axis=1)

    integrator = InertialIntegrator(fields, 1.0, np.full(8, MASS))
    integrator.step(state)
    before = turning(state)
    sample(integrator, state, turning, 300, 0, 1)
    np.testing.assert_allclose(turning(state), before, atol=1e-10)
    back = InertialIntegrator(fields, -1.0, np.full(8, MASS))
    sample(back, state, turning, 301, 0, 1)
    for name in ("coord", "velocity", "spin"):
        np.testing.assert_allclose(
            getattr(state, name), getattr(start, name), atol=1e-10, err_msg=name
        )


def test_canonical_moduli():
    """E = b (S^2 - c)^2: <S^2> with the measure S^2 dS, by quadrature."""
    b, c, kelvin = 0.05, 1.69, 300.0

    def fields(coord, spin, time=0.0):
        excess = (spin**2).sum(axis=2) - c
        return Response(
            b * (excess**2).sum(axis=1),
            np.zeros_like(coord),
            -4 * b * excess[..., None] * spin,
        )

    state = spins(np.tile([0, 0, 1.3], (3, 300, 1)))
    mass = np.full(300, MASS)
    state.spin_velocity = thermal_spin_velocity(state, kelvin, mass)
    integrator = InertialIntegrator(
        fields, 1.5, mass, lattice=False, spin_bath=Langevin(kelvin, 0.05)
    )
    found = sample(
        integrator,
        state,
        lambda now: (
            (now.spin**2).sum(axis=2).mean(),
            observables.spin_kinetic_temperature(now, mass).mean(),
        ),
        200,
        1000,
        10,
    )
    s = np.linspace(0, 4, 4001)
    boltzmann = s**2 * np.exp(-b * (s**2 - c) ** 2 / (units.K_B * kelvin))
    assert_mean(found[:, 0], (s**2 * boltzmann).sum() / boltzmann.sum(), at_most=0.01)
    assert_mean(found[:, 1], kelvin, at_most=0.01)


def test_atoms_without_spin():
    mass = np.array([MASS, 0.0])
    state = spins([[0, 0, 1.0], [0, 0, 0]])
    state.spin_velocity = thermal_spin_velocity(state, 300.0, mass)
    bath = Langevin(300.0, 0.1)
    sample(InertialIntegrator(free, 1.0, mass, spin_bath=bath), state, id, 5, 0, 1)
    assert not state.spin[:, 1].any() and not state.spin_velocity[:, 1].any()
    assert state.spin[0, 0, 2] != 1.0


def test_restart():
    fields = Landau()
    whole = fields.cluster.state(nrep=2)
    parts = copy.deepcopy(whole)
    integrator = InertialIntegrator(
        fields,
        1.0,
        np.full(8, MASS),
        lattice_bath=Langevin(300.0, 0.01),
        spin_bath=Langevin(300.0, 0.01),
    )
    sample(integrator, whole, id, 20, 0, 1)
    sample(integrator, parts, id, 9, 0, 1)
    again = State.from_arrays(parts.arrays())
    sample(integrator, again, id, 11, 0, 1)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)


def test_moduli_beyond_the_training(caplog):
    state = spins([[0, 0, 1.0], [0, 0, 1.2]])
    state.spin_velocity = np.array([[[0, 0, 0.0], [0, 0, 0.06]]])
    options = {"spin_mass": [MASS] * 2, "spin_range": [[0.9, 1.3]] * 2}
    integrator = InertialIntegrator(free, 1.0, **options)
    integrator.step(state)
    kept = copy.deepcopy(state)
    message = r"Step 1: the spin of atom 1 .* 1\.32 μ_B; .* trained on 0\.9 to 1\.3"
    with pytest.raises(DynamicsError, match=message):
        integrator.step(state)
    np.testing.assert_array_equal(kept.spin, state.spin)
    integrator = InertialIntegrator(free, 1.0, **options, refuse=False)
    with caplog.at_level(logging.WARNING):
        sample(integrator, state, id, 3, 0, 1)
    assert len(caplog.records) == 1 and "1.32 μ_B" in caplog.text


@pytest.mark.parametrize(
    ("mass", "options", "message"),
    [
        ([0.0, 0.0], {}, "`spin_mass` must be positive"),
        ([1.0, -1.0], {}, "`spin_mass` must be positive"),
        (1.0, {}, "`spin_mass` must be positive"),
        ([1.0], {"lattice": False, "lattice_bath": Langevin(1, 1)}, "lattice=True"),
        ([1.0], {"timestep": 0.0}, "`timestep`"),
    ],
)
def test_mistakes(mass, options, message):
    arguments = {"timestep": 1.0, **options}
    with pytest.raises(ValueError, match=message):
        InertialIntegrator(free, arguments.pop("timestep"), mass, **arguments)
