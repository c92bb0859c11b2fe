# SPDX-License-Identifier: Apache-2.0
"""Spin-lattice dynamics without baths: equations of motion and conservation laws."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
from hamiltonians import Cluster, exchange, free, in_field, spins, wells

import deepspin
from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.fields import ModelFields, Zeeman
from deepspin.dynamics.core.integrators import Integrator, extrapolate
from deepspin.dynamics.core.state import DynamicsError, State


def total_energy(fields, state):
    found = fields(state.coord, state.spin, state.time)
    return found.energy + observables.kinetic_energy(state)


def run(integrator, state, steps):
    for _ in range(steps):
        integrator.step(state)
    return state


def assert_same_state(one, other):
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, getattr(other, name), err_msg=name)


# --- Equations of motion --------------------------------------------------------------


@pytest.mark.parametrize("tilt", [0.1, 1.0, 1.5])
def test_larmor_precession(tilt):
    """About +z, in the mathematical sense: dm/dt = -γ m x B with γ = 2 μ_B/ħ > 0."""
    tesla, steps = 10.0, 2000
    state = spins([[1.3 * np.sin(tilt), 0, 1.3 * np.cos(tilt)]])
    integrator = Integrator(in_field([0, 0, tesla]), 1.0)
    angles = []
    for _ in range(steps):
        integrator.step(state)
        angles.append(np.arctan2(state.spin[0, 0, 1], state.spin[0, 0, 0]))
    found = np.unwrap(angles)[-1] / state.time
    assert found == pytest.approx(1.75882001e-4 * tesla, rel=1e-6)  # e/m_e
    assert state.spin[0, 0, 2] == pytest.approx(1.3 * np.cos(tilt), abs=1e-12)
    assert integrator.evaluations == steps + 1


def test_two_coupled_spins():
    """They turn about their sum at (2/ħ) J |S_1 + S_2|."""
    j, dt, steps = 0.004, 0.1, 3000
    start = np.array([[1.3, 0, 0.2], [0.1, 0.7, -0.4]])
    state = spins(start)
    run(Integrator(exchange(j * (1 - np.eye(2))), dt), state, steps)
    total = start.sum(axis=0)
    axis = total / np.linalg.norm(total)
    angle = units.PRECESSION * j * np.linalg.norm(total) * dt * steps
    assert angle > 5
    across = np.cross(axis, start)
    along = (start @ axis)[:, None] * axis
    want = along + np.cos(angle) * (start - along) + np.sin(angle) * across
    np.testing.assert_allclose(state.spin[0], want, atol=2e-6)
    np.testing.assert_allclose(state.spin[0].sum(axis=0), total, atol=1e-9)


def test_oscillator():
    """Verlet's frequency: sin(ω' dt/2) = ω dt/2."""
    k, mass, dt, steps = 5.0, 58.7, 0.5, 1000
    state = spins([[1.0, 0, 0]])
    state.coord = np.array([[[0.1, 0.0, 0.0]]])
    run(Integrator(wells(k), dt), state, steps)
    slow = 2 / dt * np.arcsin(np.sqrt(k / (mass * units.AMU)) * dt / 2)
    want = 0.1 * np.cos(slow * dt * steps)
    assert state.coord[0, 0, 0] == pytest.approx(want, abs=1e-10)


def test_resonance():
    """A field that turns with the spin flips it: Rabi's oscillation.

    B_x cos(wt) is two turning fields of half its size; the other one hardly acts.
    """
    strong, weak, dt = 1000.0, 20.0, 0.5
    larmor = units.PRECESSION * units.MU_B * strong
    static = in_field([0, 0, strong])
    fields = Zeeman(static, [weak, 0, 0], larmor / (2 * np.pi) * 1e3)
    state = spins([[0, 0, 1.0]])
    half = np.pi / (units.PRECESSION * units.MU_B * weak / 2)
    run(Integrator(fields, dt), state, round(half / dt))
    assert state.spin[0, 0, 2] < -0.98


def test_alternating_field():
    """Along z: the angle is the integral of the frequency, to second order."""
    tesla, terahertz, fs = 500.0, 5.0, 40.0
    circular = 2 * np.pi * 1e-3 * terahertz
    want = units.PRECESSION * units.MU_B * tesla * np.sin(circular * fs) / circular
    errors = []
    for dt in (1.0, 0.5):
        state = spins([[1.0, 0, 0]])
        integrator = Integrator(in_field([0, 0, tesla], terahertz), dt)
        run(integrator, state, round(fs / dt))
        errors.append(np.arctan2(state.spin[0, 0, 1], state.spin[0, 0, 0]) - want)
    assert abs(want) > 2
    assert abs(errors[1]) < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_second_order():
    """Halving the step divides errors by 4, of all parts."""
    cluster = Cluster(anisotropy=1e-3)
    ends = []
    for steps in (50, 100, 200, 1000):
        state = cluster.state()
        integrator = Integrator(cluster, 40 / steps, tolerance=1e-12)
        ends.append(run(integrator, state, steps))
    for name in ("coord", "velocity", "spin"):
        values = [getattr(end, name) for end in ends]
        errors = [np.abs(value - values[-1]).max() for value in values[:-1]]
        ratios = np.divide(errors[:-1], errors[1:])
        np.testing.assert_allclose(ratios, 4, rtol=0.1, err_msg=name)


# --- Conservation ---------------------------------------------------------------------


def test_energy():
    """It wavers, by less at second order with the step, and does not drift."""
    cluster = Cluster(anisotropy=1e-3)
    spread = []
    for dt in (1.0, 0.5):
        state = cluster.state()
        integrator = Integrator(cluster, dt)
        start = total_energy(cluster, state)
        energies = []
        for _ in range(round(1500 / dt)):
            integrator.step(state)
            energies.append((total_energy(cluster, state) - start)[0])
        spread.append(np.std(energies))
        first, last = np.array_split(energies, 2)
        assert abs(np.mean(last) - np.mean(first)) < spread[-1] / 2
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.2)
    assert spread[1] / cluster.nloc < 5e-6


def test_invariants():
    """Moduli of spins, momentum and angular momentum."""
    cluster = Cluster()
    state = cluster.state()
    turning = observables.angular_momentum(state)
    run(Integrator(cluster, 0.5, tolerance=1e-13), state, 2000)
    modulus = np.linalg.norm(state.spin, axis=2)
    np.testing.assert_allclose(modulus, 1.3, rtol=1e-12)
    np.testing.assert_allclose(observables.momentum(state), 0, atol=1e-11)
    np.testing.assert_allclose(observables.angular_momentum(state), turning, atol=1e-10)


def test_reversal_by_negative_step():
    cluster = Cluster(anisotropy=1e-3)
    state, start = cluster.state(), cluster.state()
    run(Integrator(cluster, 0.5, tolerance=1e-14), state, 300)
    assert np.abs(state.spin - start.spin).max() > 1
    state.forget()
    run(Integrator(cluster, -0.5, tolerance=1e-14), state, 300)
    for name in ("coord", "velocity", "spin"):
        np.testing.assert_allclose(
            getattr(state, name), getattr(start, name), atol=1e-9, err_msg=name
        )


def test_reversal_of_momenta_and_spins():
    """Without fields, time runs back when velocities and spins are reversed."""
    cluster = Cluster(anisotropy=1e-3)
    state, start = cluster.state(), cluster.state()
    integrator = Integrator(cluster, 0.5, tolerance=1e-14)
    for _ in range(2):
        run(integrator, state, 300)
        state.velocity, state.spin = -state.velocity, -state.spin
        state.forget()
    for name in ("coord", "velocity", "spin"):
        np.testing.assert_allclose(
            getattr(state, name), getattr(start, name), atol=1e-9, err_msg=name
        )


def test_symplectic():
    """The Jacobian M of a step keeps the Poisson tensor: M B M^T = B'."""
    cluster = Cluster(anisotropy=1e-3)
    start = cluster.state()
    inertia = start.mass * units.AMU

    def flat(state):
        parts = (state.coord, state.velocity * inertia[:, None], state.spin)
        return np.concatenate([part.ravel() for part in parts])

    def bracket(state):
        n = 3 * cluster.nloc
        tensor = np.zeros((3 * n, 3 * n))
        tensor[:n, n : 2 * n], tensor[n : 2 * n, :n] = np.eye(n), -np.eye(n)
        levi = np.zeros((3, 3, 3))
        for a, b, c in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
            levi[a, b, c], levi[b, a, c] = 1, -1
        for i, spin in enumerate(state.spin[0]):
            rows = slice(2 * n + 3 * i, 2 * n + 3 * i + 3)
            tensor[rows, rows] = -units.PRECESSION * levi @ spin
        return tensor

    def moved(vector):
        state = copy.deepcopy(start)
        parts = vector.reshape(3, 1, cluster.nloc, 3)
        state.coord, state.spin = parts[0], parts[2]
        state.velocity = parts[1] / inertia[:, None]
        run(Integrator(cluster, 2.0, tolerance=1e-15), state, 1)
        return state

    x, h = flat(start), 1e-4
    columns = [
        (flat(moved(x + h * unit)) - flat(moved(x - h * unit))) / (2 * h)
        for unit in np.eye(len(x))
    ]
    jacobian = np.stack(columns, axis=1)
    want = bracket(moved(x))
    found = jacobian @ bracket(start) @ jacobian.T
    np.testing.assert_allclose(found, want, atol=2e-6 * np.abs(want).max())


def test_evaluations():
    """One to three a step, for all spins at once."""
    for dt, most in ((0.2, 1.2), (0.5, 2.0), (1.0, 3.5)):
        cluster = Cluster()
        state = cluster.state()
        integrator = Integrator(cluster, dt)
        run(integrator, state, 500)
        assert integrator.evaluations == cluster.calls <= 500 * most


# --- Parts ----------------------------------------------------------------------------


def test_fixed_lattice_and_fixed_spins():
    cluster = Cluster()
    start, state = cluster.state(), cluster.state()
    run(Integrator(cluster, 0.5, lattice=False), state, 10)
    np.testing.assert_array_equal(state.coord, start.coord)
    assert np.abs(state.spin - start.spin).max() > 0.1
    state = cluster.state()
    integrator = Integrator(cluster, 0.5, spins=False)
    run(integrator, state, 10)
    np.testing.assert_array_equal(state.spin, start.spin)
    assert np.abs(state.coord - start.coord).max() > 0.01
    assert integrator.evaluations == 10


def test_fixed_atoms():
    cluster = Cluster()
    state = cluster.state(fixed=[True] + [False] * 7, temperature=0.0)
    start = copy.deepcopy(state)
    run(Integrator(cluster, 0.5), state, 20)
    moved = np.abs(state.coord - start.coord).max(axis=(0, 2))
    assert moved[0] == 0 and (moved[1:] > 0).all()
    assert (state.spin[:, 0] != start.spin[:, 0]).any()
    assert state.dof == 21


def test_atoms_without_spin():
    cluster = Cluster()
    state = cluster.state()
    state.spin[:, 1] = 0.0
    fields = Zeeman(cluster, [0, 0, 100.0])
    plain, pushed = (f(state.coord, state.spin).force_mag for f in (cluster, fields))
    np.testing.assert_array_equal(plain[:, 1], pushed[:, 1])
    run(Integrator(fields, 0.5), state, 20)
    assert not state.spin[:, 1].any()
    np.testing.assert_allclose(np.linalg.norm(state.spin[:, 0], axis=-1), 1.3)


# --- Replicas and restarts ------------------------------------------------------------


def test_any_number_of_replicas():
    cluster = Cluster(anisotropy=1e-3)
    many = cluster.state(nrep=3)
    alone = [
        State(
            coord=many.coord[[r]],
            spin=many.spin[[r]],
            velocity=many.velocity[[r]],
            mass=many.mass,
            atype=many.atype,
            stream=[r],
        )
        for r in range(3)
    ]
    run(Integrator(cluster, 0.7), many, 50)
    for r, state in enumerate(alone):
        run(Integrator(cluster, 0.7), state, 50)
        for name in ("coord", "velocity", "spin", "rate"):
            np.testing.assert_array_equal(
                getattr(many, name)[r], getattr(state, name)[0], err_msg=name
            )


def test_restart(tmp_path):
    cluster = Cluster(anisotropy=1e-3)
    whole, parts = cluster.state(nrep=2), cluster.state(nrep=2)
    run(Integrator(cluster, 0.5), whole, 60)
    run(Integrator(cluster, 0.5), parts, 25)
    np.savez(tmp_path / "state.npz", **parts.arrays())
    with np.load(tmp_path / "state.npz") as arrays:
        again = State.from_arrays(dict(arrays))
    run(Integrator(cluster, 0.5), again, 35)
    assert_same_state(whole, again)
    assert again.step == 60 and again.time == pytest.approx(30)


def test_arrays_are_not_written_into():
    cluster = Cluster()
    state = cluster.state()
    coord, spin = state.coord, state.spin
    before = coord.copy(), spin.copy()
    run(Integrator(cluster, 0.5), state, 3)
    np.testing.assert_array_equal((coord, spin), before)


def test_extrapolation():
    """Exact for polynomials; of low order for noise."""
    t = np.arange(8)
    cubic = (0.1 * t**3 - t)[::-1, None, None, None]
    np.testing.assert_allclose(extrapolate(cubic), 0.1 * 8**3 - 8, atol=1e-12)
    noise = np.random.default_rng(0).normal(size=(8, 1, 1, 1))
    assert np.abs(extrapolate(noise)).max() < 20
    np.testing.assert_array_equal(extrapolate(cubic[:1]), cubic[0])


# --- Mistakes -------------------------------------------------------------------------


def test_too_large_a_step():
    cluster = Cluster()
    state = cluster.state()
    kept = copy.deepcopy(state)
    with pytest.raises(DynamicsError, match=r"Step 0: .*timestep of 50 fs"):
        Integrator(cluster, 50.0).step(state)
    assert_same_state(kept, state)
    state = spins([[1.0, 0, 0]])
    with pytest.raises(DynamicsError, match=r"turns by 1\.8 radians in a step"):
        Integrator(in_field([0, 0, 1e4]), 1.0).step(state)


def test_numbers_that_cease_to_be_finite():
    def broken(coord, spin, time=0.0):
        found = free(coord, spin)
        found.force[0, 1] = np.nan
        return found

    state = spins([[1.0, 0, 0], [0, 1.0, 0]])
    with pytest.raises(DynamicsError, match="`velocity` of atom 1 of replica 0"):
        Integrator(broken, 1.0).step(state)
    assert state.step == 0 and np.isfinite(state.velocity).all()


@pytest.mark.parametrize("timestep", [0.0, np.nan, np.inf])
def test_bad_timestep(timestep):
    with pytest.raises(ValueError, match="`timestep` must be a positive number"):
        Integrator(free, timestep)


def test_what_moduli_cost():
    """Energies of moduli alone neither move spins nor take evaluations."""
    cluster = Cluster()

    def stiff(coord, spin, time=0.0):
        found = cluster(coord, spin)
        return replace(found, force_mag=found.force_mag + 0.15 * spin)

    ends = []
    for fields in (cluster, stiff):
        state = cluster.state()
        integrator = Integrator(fields, 1.0)
        run(integrator, state, 100)
        ends.append((state, integrator.evaluations))
    (plain, few), (state, evaluations) = ends
    assert evaluations < 1.1 * few
    np.testing.assert_allclose(state.spin, plain.spin, rtol=0, atol=1e-6)
    assert state.stiffness < -0.1


def test_single_precision():
    """Magnetic forces with errors: the message names the way out, which works."""
    cluster = Cluster()

    def rough(coord, spin, time=0.0):
        found = cluster(coord, spin)
        error = 1e-7 * np.sin(1e9 * spin) * np.abs(found.force_mag).max()
        return replace(found, force_mag=found.force_mag + error)

    with pytest.raises(DynamicsError, match="1e-7 suits models of single precision"):
        run(Integrator(rough, 2.0, tolerance=1e-10), cluster.state(), 50)
    run(Integrator(rough, 2.0, tolerance=1e-7), cluster.state(), 50)


def test_slow_convergence():
    """Small changes that still shrink are no rounding errors."""
    cluster = Cluster()
    with pytest.raises(DynamicsError, match=r"smaller one, such as 3\.5 fs") as hit:
        run(Integrator(cluster, 17.5, tolerance=1e-12), cluster.state(), 1)
    assert float(re.search(r"last change: (\S+)", str(hit.value))[1]) < 1e-7


# --- A model --------------------------------------------------------------------------


def test_model(make_model, make_nio):
    """Energy is conserved to second order; replicas share one call."""
    model = make_model("NiO")
    frame = make_nio(model)
    potential = deepspin.DeepSpin(model)
    fields = ModelFields(potential, frame.atype, frame.box)
    magnetic = model.spin.scheme.types.is_magnetic(frame.atype)
    spin = np.where(magnetic[:, None], frame.spin, 0.0)
    spread = []
    for dt in (0.4, 0.2):
        state = State(
            coord=np.stack([frame.coord, frame.coord + 0.02]),
            spin=np.stack([spin, -spin]),
            mass=np.where(magnetic, 58.7, 16.0),
            atype=frame.atype,
        )
        integrator = Integrator(fields, dt)
        energies = []
        for _ in range(round(12 / dt)):
            integrator.step(state)
            energies.append(total_energy(fields, state))
        spread.append(np.ptp(energies, axis=0))
        assert integrator.evaluations < 3 * state.step
    np.testing.assert_allclose(spread[0] / spread[1], 4, rtol=0.15)
    modulus = np.linalg.norm(state.spin, axis=2)
    want = np.linalg.norm(spin, axis=1)
    np.testing.assert_allclose(modulus, [want, want], rtol=1e-12)
