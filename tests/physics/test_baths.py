# SPDX-License-Identifier: Apache-2.0
"""Spin-lattice dynamics in heat baths: what they sample, and that they repeat."""

import copy

import numpy as np
import pytest
from averages import assert_mean, sample
from hamiltonians import Cluster, free, in_field, spins, wells

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.baths import Gilbert, Langevin
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State, thermal_velocity

pytestmark = pytest.mark.any_version


def langevin(x):
    """Langevin's function."""
    return 1 / np.tanh(x) - 1 / x


def crowd(modulus, count, nrep=4, **options):
    """Many spins along z."""
    vectors = np.zeros((nrep, count, 3))
    vectors[..., 2] = modulus
    return spins(vectors, **options)


# --- Spins ----------------------------------------------------------------------------


@pytest.mark.parametrize(("dt", "damping"), [(2.0, 0.5), (10.0, 0.5), (4.0, 2.0)])
def test_langevin_function(dt, damping):
    """Free spins in a field, at short and at long steps."""
    modulus, kelvin, tesla = 2.0, 60.0, 100.0
    bath = Gilbert(kelvin, damping)
    integrator = Integrator(in_field([0, 0, tesla]), dt, lattice=False, spin_bath=bath)
    state = crowd(modulus, 250, seed=3)
    warm, steps, every = (round(fs / dt) for fs in (300, 3000, 20))
    cosines = sample(
        integrator,
        state,
        lambda now: now.spin[..., 2].mean() / modulus,
        warm,
        steps,
        every,
    )
    x = units.MU_B * modulus * tesla / (units.K_B * kelvin)
    assert_mean(cosines, langevin(x), at_most=0.01)
    np.testing.assert_allclose(np.linalg.norm(state.spin, axis=2), modulus, rtol=1e-12)


def dimers(j, k):
    """Pairs of atoms (2n, 2n + 1): E = -J S_1.S_2 - K (S_1z^2 + S_2z^2)."""

    def fields(coord, spin, time=0.0):
        partner = spin.reshape(len(spin), -1, 2, 3)[:, :, ::-1].reshape(spin.shape)
        push = j * partner
        energy = -(push * spin).sum(axis=(1, 2)) / 2
        energy -= k * (spin[..., 2] ** 2).sum(axis=1)
        push[..., 2] += 2 * k * spin[..., 2]
        return Response(energy, np.zeros_like(coord), push)

    return fields


def dimer_energy(j, k, one, other, kelvin):
    """Its canonical average, by quadrature over both directions."""
    z, weight = np.polynomial.legendre.leggauss(60)
    phi = 2 * np.pi * np.arange(60) / 60
    z1, z2, turn = np.meshgrid(z, z, phi, indexing="ij")
    across = np.sqrt((1 - z1**2) * (1 - z2**2)) * np.cos(turn)
    energy = -j * one * other * (z1 * z2 + across)
    energy -= k * ((one * z1) ** 2 + (other * z2) ** 2)
    boltzmann = np.exp(-energy / (units.K_B * kelvin))
    boltzmann *= weight[:, None, None] * weight[None, :, None]
    return (energy * boltzmann).sum() / boltzmann.sum()


@pytest.mark.parametrize(("dt", "most"), [(2.0, 5), (4.0, 7)])
def test_dimer(dt, most):
    """Exchange and anisotropy, spins of two moduli: the energy at a temperature."""
    j, k, kelvin = 0.015, 0.006, 120.0
    fields = dimers(j, k)
    state = crowd(1.0, 300, nrep=3)
    state.spin = state.spin * np.array([1.3, 0.7] * 150)[:, None]
    integrator = Integrator(fields, dt, lattice=False, spin_bath=Gilbert(kelvin, 0.4))
    warm, steps, every = (round(fs / dt) for fs in (300, 1800, 20))
    energies = sample(
        integrator,
        state,
        lambda now: fields(now.coord, now.spin).energy.mean() / 150,
        warm,
        steps,
        every,
    )
    assert_mean(energies, dimer_energy(j, k, 1.3, 0.7, kelvin), at_most=0.01)
    assert integrator.evaluations < most * state.step


def test_damping():
    """At 0 K: tan(θ/2) falls as exp(-α/(1 + α^2) ω t) while the spin precesses."""
    tesla, damping, dt, steps = 1000.0, 0.1, 0.1, 500
    fields = in_field([0, 0, tesla])
    state = spins([[1.3 * np.sin(2.0), 0.0, 1.3 * np.cos(2.0)]])
    integrator = Integrator(fields, dt, spin_bath=Gilbert(0.0, damping))
    energies = []
    for _ in range(steps):
        integrator.step(state)
        energies.append(fields(state.coord, state.spin).energy[0])
    assert (np.diff(energies) < 0).all()
    turn = units.PRECESSION * units.MU_B * tesla / (1 + damping**2) * dt * steps
    half = np.tan(np.arccos(state.spin[0, 0, 2] / 1.3) / 2)
    assert half == pytest.approx(np.tan(1.0) * np.exp(-damping * turn), rel=1e-5)
    angle = np.arctan2(state.spin[0, 0, 1], state.spin[0, 0, 0])
    assert np.cos(angle - turn) == pytest.approx(1, abs=1e-8)


def test_diffusion_of_directions():
    """Without fields <S(t).S(0)> falls as exp(-2 D t), at steps as long as you like."""
    kelvin, damping, modulus, dt = 300.0, 1.0, 1.0, 10.0
    state = crowd(modulus, 50000, nrep=1)
    integrator = Integrator(free, dt, spin_bath=Gilbert(kelvin, damping))
    strength = damping / (1 + damping**2) * units.PRECESSION * units.K_B * kelvin
    found = []
    for _ in range(3):
        integrator.step(state)
        found.append(state.spin[..., 2].mean())
    decay = np.exp(-2 * strength * dt * np.arange(1, 4))
    assert 0.3 < decay[0] < 0.6
    np.testing.assert_allclose(found, decay, atol=4 * np.sqrt(1 / 3 / 50000))


# --- Lattice --------------------------------------------------------------------------


def test_equipartition():
    """Atoms in wells: k <x^2> = m <v^2> = k_B T, another temperature each replica."""
    k, kelvin = 5.0, np.array([100.0, 400.0])
    state = spins(np.zeros((2, 400, 3)))
    bath = Langevin(kelvin, 0.05)
    state.velocity = thermal_velocity(state, kelvin)
    integrator = Integrator(wells(k), 2.0, spins=False, lattice_bath=bath)

    def measure(now):
        return np.stack(
            [
                k * (now.coord**2).mean(axis=(1, 2)) / units.K_B,
                observables.lattice_temperature(now),
            ]
        )

    found = sample(integrator, state, measure, 150, 1200, 10)
    for r in range(2):
        for part in range(2):
            assert_mean(found[:, part, r], kelvin[r], at_most=0.01)


def test_friction():
    """At 0 K velocities fall as exp(-friction t)."""
    state = spins(np.zeros((1, 3)))
    state.velocity = np.full((1, 1, 3), 0.01)
    integrator = Integrator(free, 2.0, lattice_bath=Langevin(0.0, 0.03))
    sample(integrator, state, lambda now: 0, 10, 0, 1)
    np.testing.assert_allclose(state.velocity, 0.01 * np.exp(-0.6), rtol=1e-12)


def test_spin_lattice():
    """Both in baths of one temperature: both thermometers show it.

    The centre of mass is held, so that there are 21 degrees of freedom.
    """
    kelvin = 200.0
    cluster = Cluster()
    state = cluster.state(nrep=12, temperature=kelvin, still=True, seed=5)
    integrator = Integrator(
        cluster,
        1.0,
        lattice_bath=Langevin(kelvin, 0.02),
        spin_bath=Gilbert(kelvin, 0.2),
    )

    def measure(now):
        found = cluster(now.coord, now.spin)
        torque = np.cross(now.spin, found.force_mag)
        return (
            observables.lattice_temperature(now).mean(),
            (torque**2).sum(),
            2 * units.K_B * (now.spin * found.force_mag).sum(),
        )

    lattice, above, below = sample(integrator, state, measure, 300, 1000, 10).T
    assert_mean(lattice, kelvin)
    assert_mean(above / below.mean(), kelvin)
    np.testing.assert_allclose(observables.momentum(state), 0, atol=1e-11)
    assert state.dof == 21


def test_lattice_heats_spins():
    """A bath of the lattice alone brings spins to its temperature, and back."""
    cluster = Cluster()
    cold = cluster.state(nrep=2, temperature=0.0)
    bath = Langevin(300.0, 0.1)
    sample(Integrator(cluster, 1.0, lattice_bath=bath), cold, lambda now: 0, 100, 0, 1)
    assert (observables.lattice_temperature(cold) > 30).all()


def test_fixed_atoms_stay():
    cluster = Cluster()
    fixed = [True] + [False] * 7
    state = cluster.state(fixed=fixed, temperature=0.0)
    state.velocity = thermal_velocity(state, 300.0)
    start = state.coord
    integrator = Integrator(cluster, 1.0, lattice_bath=Langevin(300.0, 0.1))
    sample(integrator, state, lambda now: 0, 10, 0, 1)
    moved = np.abs(state.coord - start).max(axis=(0, 2))
    assert moved[0] == 0 and (moved[1:] > 0).all()


# --- Random numbers -------------------------------------------------------------------


def both_baths(cluster, kelvin=300.0):
    return Integrator(
        cluster,
        0.5,
        lattice_bath=Langevin(kelvin, 0.02),
        spin_bath=Gilbert(kelvin, 0.1),
    )


def test_restart():
    cluster = Cluster()
    whole = cluster.state(nrep=2, seed=1)
    parts = copy.deepcopy(whole)
    sample(both_baths(cluster), whole, lambda now: 0, 30, 0, 1)
    sample(both_baths(cluster), parts, lambda now: 0, 13, 0, 1)
    again = State.from_arrays(parts.arrays())
    sample(both_baths(cluster), again, lambda now: 0, 17, 0, 1)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)


def test_any_number_of_replicas():
    cluster = Cluster()
    many = cluster.state(nrep=3)
    arrays = many.arrays()
    per_replica = ("coord", "velocity", "spin", "stream", "rate", "stiffness")
    alone = State.from_arrays(
        {
            **arrays,
            **{name: arrays[name][[2]] for name in per_replica},
            **{name: arrays[name][:, [2]] for name in ("history", "middles")},
        }
    )
    kelvin = np.array([100.0, 200.0, 300.0])
    sample(both_baths(cluster, kelvin), many, lambda now: 0, 30, 0, 1)
    sample(both_baths(cluster, 300.0), alone, lambda now: 0, 30, 0, 1)
    for name in ("coord", "velocity", "spin"):
        np.testing.assert_array_equal(
            getattr(many, name)[2], getattr(alone, name)[0], err_msg=name
        )


# --- Mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Langevin(-1.0, 0.1), r"at least 0 K\. Received: -1\.0"),
        (lambda: Langevin([300.0, np.nan], 0.1), "at least 0 K"),
        (lambda: Langevin(300.0, -0.1), r"`friction` must be at least 0\. Rec.*-0\.1"),
        (lambda: Gilbert(300.0, np.inf), "`damping` must be at least 0"),
        (lambda: Integrator(free, 1.0, tolerance=0.0), "`tolerance` must be from"),
        (
            lambda: Integrator(free, -1.0, spin_bath=Gilbert(1.0, 0.1)),
            "`timestep` must be a positive number",
        ),
        (
            lambda: Integrator(free, 1.0, lattice=False, lattice_bath=Langevin(1, 1)),
            "A bath needs something that moves",
        ),
        (
            lambda: Integrator(free, 1.0, spin_bath=Gilbert([1.0, 2.0], 0.1)).step(
                spins(np.ones((3, 1, 3)))
            ),
            r"one for each of 3 replicas\. Received: 2",
        ),
    ],
)
def test_bad_bath(make, message):
    with pytest.raises(ValueError, match=message):
        make()
