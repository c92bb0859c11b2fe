# SPDX-License-Identifier: Apache-2.0
"""Monte Carlo and Langevin samples against exact results.

Seeds are fixed. Bounds are five standard errors, from exact variances where these are
known and times that samples remember (which are measured).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from averages import LADDER, as_samples
from hamiltonians import Cluster, exchange, free, in_field, spins, wells

from deepspin.atoms import units
from deepspin.dynamics.core.baths import Gilbert
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State
from deepspin.dynamics.thermo.averages import (
    Curve,
    autocorrelation_time,
    transition,
)
from deepspin.dynamics.thermo.hybrid import HybridMonteCarlo, Phase
from deepspin.dynamics.thermo.sampling import LangevinSampler

pytestmark = pytest.mark.any_version


def equilibrated(sampler, state, moves=60):
    for _ in range(moves):
        sampler.advance(state, tune=True)
    return sampler


def sampled(sampler, state, measure, number):
    """Values of a measure, (number, nrep), and outcomes."""
    values, outcomes = [], []
    for _ in range(number):
        outcomes.append(sampler.advance(state))
        values.append(measure(state, sampler.response(state)))
    return np.array(values), outcomes


def agrees(values, exact, sigmas=5.0):
    """Whether means over samples, (nsamples, ...), are exact within their errors."""
    flat = values.reshape(len(values), -1)
    times = np.array([autocorrelation_time(column) for column in flat.T])
    error = flat.std(axis=0) * np.sqrt(times / len(flat))
    apart = np.abs(flat.mean(axis=0) - np.ravel(exact))
    assert (apart < sigmas * error).all(), (apart / error).round(1)
    assert (error > 0).all()


# --- Trajectories ---------------------------------------------------------------------


@pytest.fixture
def moving():
    """A sampler of the cluster whose inertia is known, its state and a start."""
    cluster = Cluster(anisotropy=0.002)
    state = cluster.state(nrep=3, still=True)
    sampler = HybridMonteCarlo(cluster, LADDER)
    equilibrated(sampler, state, 5)
    return sampler, state, sampler.start(state), sampler.response(state)


def test_trajectories_are_reversible(moving):
    sampler, state, start, response = moving
    pace = np.array([0.5, 1.0, 2.0])
    end, after, lost = sampler.follow(state, start, response, pace)
    back = replace(end, velocity=-end.velocity, turning=-end.turning)
    home, _, _ = sampler.follow(state, back, after, pace)
    assert not lost.any()
    assert np.abs(end.spin - start.spin).max() > 0.1
    for name, sign in (("coord", 1), ("spin", 1), ("velocity", -1), ("turning", -1)):
        size = np.abs(getattr(start, name)).max()
        apart = sign * getattr(home, name) - getattr(start, name)
        assert np.abs(apart).max() < 1e-12 * size, name


def test_trajectories_keep_moduli_and_tangents(moving):
    sampler, state, start, response = moving
    end, _, _ = sampler.follow(state, start, response, np.full(3, 2.0))
    modulus = np.linalg.norm(end.spin, axis=2)
    np.testing.assert_allclose(modulus, 1.3, rtol=1e-14)
    along = (end.spin * end.turning).sum(axis=2)
    assert np.abs(along).max() < 1e-14 * np.abs(end.turning).max()
    drift = (end.velocity * state.mass[:, None]).sum(axis=1)
    assert np.abs(drift).max() < 1e-12


def test_trajectories_keep_volume():
    """Jacobian of a trajectory in coordinates on spheres and their tangents is 1."""
    rng = np.random.default_rng(2)
    matrix = 0.02 * (np.ones((2, 2)) - np.eye(2))
    state = spins(rng.normal(size=(2, 3)))
    sampler = HybridMonteCarlo(exchange(matrix), [300.0], lattice=False, leaps=3)
    equilibrated(sampler, state, 2)
    axes = np.linalg.norm(state.spin, axis=2, keepdims=True)

    def phase_of(x):
        """Spherical angles and their canonical momenta, 4 of each spin, to vectors."""
        theta, phi, p_theta, p_phi = x.reshape(4, 1, 2, 1)
        sine, cosine = np.sin(theta), np.cos(theta)
        unit = np.concatenate([sine * np.cos(phi), sine * np.sin(phi), cosine], -1)
        south = np.concatenate([cosine * np.cos(phi), cosine * np.sin(phi), -sine], -1)
        east = np.concatenate([-np.sin(phi), np.cos(phi), 0 * phi], -1)
        turning = p_theta * south + p_phi / sine * east
        zero = np.zeros_like(unit)
        return Phase(zero, axes * unit, zero, turning)

    def canonical(phase):
        unit = phase.spin / axes
        theta, phi = np.arccos(unit[..., 2]), np.arctan2(unit[..., 1], unit[..., 0])
        sine = np.sin(theta)[..., None]
        south = np.stack(
            [
                np.cos(theta) * np.cos(phi),
                np.cos(theta) * np.sin(phi),
                -np.sin(theta),
            ],
            -1,
        )
        east = np.stack([-np.sin(phi), np.cos(phi), 0 * phi], -1)
        p_theta = (phase.turning * south).sum(axis=2)
        p_phi = (phase.turning * east).sum(axis=2) * sine[..., 0]
        return np.stack([theta, phi, p_theta, p_phi]).ravel()

    def mapped(x):
        start = phase_of(x)
        response = sampler.fields(start.coord, start.spin)
        return canonical(sampler.follow(state, start, response, np.array([8.0]))[0])

    x = np.array([1.1, 1.8, 0.4, -0.9, 0.03, -0.02, 0.01, 0.04])
    np.testing.assert_allclose(canonical(phase_of(x)), x, rtol=1e-12)
    scale = np.array([1e-4] * 4 + [1e-5] * 4)

    def central(d):
        return mapped(x + d) - mapped(x - d)

    jacobian = np.stack(
        [(8 * central(d) - central(2 * d)) / (12 * d.max()) for d in np.diag(scale)]
    )
    assert abs(np.linalg.det(jacobian) - 1) < 1e-9
    assert np.abs(jacobian - np.eye(8)).max() > 0.1


def test_energy_error_is_of_second_order(moving):
    sampler, state, start, response = moving
    errors = []
    for halvings in (0, 1, 2):
        sampler.leaps = 8 * 2**halvings
        pace = np.full(3, 1.0 / 2**halvings)
        end, after, _ = sampler.follow(state, start, response, pace)
        change = sampler.energy(state, end, after)
        errors.append(np.abs(change - sampler.energy(state, start, response)).max())
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.1)


def test_lost_trajectories_are_rejected():
    """What flies apart, or is no number, is not followed, and changes nothing."""

    def fields(coord, spin, time=0.0):
        force = np.zeros_like(coord)
        force[1] = 1e6
        energy = np.zeros(len(coord))
        energy[2] = np.nan if spin[2, 0, 2] < 1 else 0.0
        return Response(energy, force, np.zeros_like(spin))

    state = spins([[[0.0, 0.0, 1.0]]] * 3)
    sampler = HybridMonteCarlo(fields, LADDER, exchange=False)
    outcome = sampler.advance(state)
    assert outcome.acceptance.tolist() == [1.0, 0.0, 0.0]
    assert (state.spin[1:] == [0, 0, 1]).all()
    assert not state.coord[1:].any()
    assert (state.spin[0] != [0, 0, 1]).any()


# --- Distributions --------------------------------------------------------------------


def test_spins_in_a_field():
    """L(x), its heat capacity and its susceptibility, at all temperatures."""
    field = 250.0
    state = spins(np.tile([0.0, 0.0, 1.2], (3, 40, 1)))
    sampler = HybridMonteCarlo(in_field([0, 0, field]), LADDER, lattice=False, leaps=3)
    equilibrated(sampler, state)
    values, _ = sampled(
        sampler,
        state,
        lambda s, r: np.stack([s.spin[..., 2].mean(axis=1) / 1.2, r.energy]),
        1500,
    )
    x = 1.2 * units.MU_B * field / (units.K_B * LADDER)
    langevin = 1 / np.tanh(x) - 1 / x
    slope = 1 / x**2 - 1 / np.sinh(x) ** 2
    agrees(values[:, 0], langevin)
    energy = values[:, 1]
    agrees(energy, -40 * x * langevin * units.K_B * LADDER)
    apart = (energy - energy.mean(axis=0)) ** 2 / (units.K_B * LADDER) ** 2
    agrees(apart, 40 * x**2 * slope)  # C/k_B
    assert 0.5 < slope[0] * 3 < 0.9  # far from both limits


@pytest.mark.parametrize("exchanged", [True, False], ids=["exchange", "alone"])
def test_two_coupled_spins(exchanged):
    """<cos> is L(J S^2/kT), with and without exchange of replicas."""
    coupling = 0.02
    state = spins([[[0.0, 0.0, 1.3], [0.0, 1.3, 0.0]]] * 3)
    fields = exchange(coupling * (np.ones((2, 2)) - np.eye(2)))
    sampler = HybridMonteCarlo(
        fields, LADDER, lattice=False, leaps=5, exchange=exchanged
    )
    equilibrated(sampler, state)
    cosine, outcomes = sampled(
        sampler,
        state,
        lambda s, r: (s.spin[:, 0] * s.spin[:, 1]).sum(axis=1) / 1.3**2,
        3000,
    )
    x = coupling * 1.3**2 / (units.K_B * LADDER)
    agrees(cosine, 1 / np.tanh(x) - 1 / x)
    tried = np.isfinite([o.exchange for o in outcomes])
    assert tried.mean() == (0.5 if exchanged else 0.0)
    acceptance = np.mean([o.acceptance for o in outcomes], axis=0)
    assert (acceptance > 0.5).all()


def test_atoms_in_wells():
    """3/2 k_B of potential heat capacity per atom, and so 3 k_B in all."""
    state = State(
        coord=np.zeros((3, 10, 3)),
        spin=np.zeros((3, 10, 3)),
        mass=np.linspace(10.0, 60.0, 10),
        atype=np.zeros(10, int),
    )
    sampler = equilibrated(HybridMonteCarlo(wells(2.0), LADDER), state)
    energy, _ = sampled(sampler, state, lambda s, r: r.energy, 1500)
    thermal = units.K_B * LADDER
    agrees(energy, 15 * thermal)
    agrees((energy - energy.mean(axis=0)) ** 2, 15 * thermal**2)
    curve = Curve.of(as_samples(energy, dof=state.dof))
    capacity, error = curve.value["heat_capacity"], curve.error["heat_capacity"]
    assert (np.abs(capacity - 3) < 5 * error).all()
    assert (error < 0.25).all()


def test_langevin_agrees():
    """Hybrid Monte Carlo of a cluster of spins samples what heat baths do."""
    cluster = Cluster(anisotropy=0.01)
    kelvin = np.array([150.0, 300.0])
    monte = cluster.state(nrep=2)
    sampler = equilibrated(HybridMonteCarlo(cluster, kelvin, lattice=False), monte)
    bath = replace(monte)  # atoms stay where both have them
    integrator = Integrator(
        cluster, 1.0, lattice=False, spin_bath=Gilbert(kelvin, damping=0.5)
    )
    langevin = equilibrated(LangevinSampler(integrator, kelvin, 10), bath, 40)
    langevin_energy, _ = sampled(langevin, bath, lambda s, r: r.energy, 400)
    energy, _ = sampled(sampler, monte, lambda s, r: r.energy, 800)
    found = []
    for values in (energy, langevin_energy):
        times = [autocorrelation_time(column) for column in values.T]
        error = values.std(axis=0) * np.sqrt(np.array(times) / len(values))
        found.append((values.mean(axis=0), error))
    (a, da), (b, db) = found
    assert (np.abs(a - b) < 5 * np.hypot(da, db)).all()
    spread = 8 * units.K_B * kelvin  # each spin has about k_B of heat capacity
    assert (np.hypot(da, db) < 0.1 * spread).all()


# --- Tuning, seeds, restarts ----------------------------------------------------------


def test_timesteps_are_tuned_and_then_stay():
    cluster = Cluster()
    state = cluster.state(nrep=3, still=True)
    sampler = equilibrated(HybridMonteCarlo(cluster, LADDER), state, 150)
    frozen = sampler.timestep.copy()
    _, outcomes = sampled(sampler, state, lambda s, r: r.energy, 150)
    assert (sampler.timestep == frozen).all()
    acceptance = np.mean([o.acceptance for o in outcomes], axis=0)
    np.testing.assert_allclose(acceptance, 0.7, atol=0.15)


def test_a_move_is_so_many_evaluations():
    cluster = Cluster()
    state = cluster.state(nrep=3)
    sampler = HybridMonteCarlo(cluster, LADDER, leaps=7)
    equilibrated(sampler, state, 4)
    assert cluster.calls == sampler.evaluations == 1 + 4 * 7


def test_seeds_decide():
    def end(seed):
        cluster = Cluster()
        state = cluster.state(nrep=3)
        state.seed = seed
        equilibrated(HybridMonteCarlo(cluster, LADDER), state, 5)
        return state.spin

    assert np.array_equal(end(1), end(1))
    assert not np.array_equal(end(1), end(2))


@pytest.mark.parametrize("tune", [True, False], ids=["tuning", "frozen"])
def test_restart_is_exact(tune):
    cluster = Cluster()

    def begin():
        state = cluster.state(nrep=3)
        return equilibrated(HybridMonteCarlo(cluster, LADDER), state, 6), state

    sampler, state = begin()
    first, again = begin()
    other = HybridMonteCarlo(cluster, LADDER)
    other.restore(first.arrays())
    again = State.from_arrays(again.arrays())
    for _ in range(6):
        sampler.advance(state, tune=tune)
        other.advance(again, tune=tune)
    assert np.array_equal(state.spin, again.spin)
    assert np.array_equal(state.coord, again.coord)
    assert np.array_equal(sampler.timestep, other.timestep)
    assert sampler.evaluations == other.evaluations


MISTAKES = {
    "zero": ({"temperature": [0.0, 1.0]}, "numbers > 0 in K"),
    "falling": ({"temperature": [2.0, 1.0]}, "must rise"),
    "leaps": ({"leaps": 0}, "`leaps` must be at least 1"),
    "acceptance": ({"acceptance": 1.0}, "between 0 and 1"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case):
    change, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        HybridMonteCarlo(free, **({"temperature": [1.0, 2.0]} | change))


def test_mistakes_of_states():
    state = spins([[[0, 0, 1.0]]] * 2, box=[np.eye(3), 2 * np.eye(3)])
    with pytest.raises(ValueError, match="a replica for each temperature"):
        HybridMonteCarlo(free, [1.0]).advance(state)
    with pytest.raises(ValueError, match="different cells"):
        HybridMonteCarlo(free, [1.0, 2.0]).advance(state)


# --- A ferromagnet --------------------------------------------------------------------


def cubic(length, coupling):
    """Spins on a simple cubic lattice, neighbours coupled: E = -J sum S_i.S_j."""

    def fields(coord, spin, time=0.0):
        grid = spin.reshape(-1, length, length, length, 3)
        near = sum(np.roll(grid, s, axis=a) for a in (1, 2, 3) for s in (1, -1))
        push = coupling * near.reshape(spin.shape)
        return Response(-(spin * push).sum(axis=(1, 2)) / 2, np.zeros_like(coord), push)

    return fields


def test_curie_temperature():
    """The Heisenberg ferromagnet on a simple cubic lattice: k_B T_C = 1.4429 J.

    Cumulants of so small sizes cross within a few percent of it: K. Chen, A. M.
    Ferrenberg, D. P. Landau, Phys. Rev. B 48, 3249 (1993).
    """
    kelvin = np.linspace(300.0, 372.0, 7)
    curves = []
    for length in (4, 6):
        nloc = length**3
        state = spins(np.tile([0.0, 0.0, 1.0], (7, nloc, 1)))
        fields = cubic(length, 0.02)
        sampler = HybridMonteCarlo(fields, kelvin, lattice=False, leaps=5)
        equilibrated(sampler, state, 200)
        order, energy = [], []
        for _ in range(2000):
            sampler.advance(state)
            order.append(state.spin.mean(axis=1)[:, None])
            energy.append(sampler.response(state).energy)
        samples = as_samples(np.array(energy), np.array(order), natoms=nloc)
        curves.append(Curve.of(replace(samples, nspins=nloc, temperature=kelvin)))
    found = transition(curves)
    exact = 1.4429 * 0.02 / units.K_B
    assert not any(curve.drifting.any() for curve in curves)
    assert abs(found.temperature - exact) < 5 * found.error + 0.02 * exact
    assert 0.1 < found.error < 8
