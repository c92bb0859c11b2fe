# SPDX-License-Identifier: Apache-2.0
"""The bath with the spectrum of quantum oscillators."""

import copy

import numpy as np
import pytest
from averages import assert_mean, sample
from hamiltonians import Cluster, wells

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.quantum import QuantumBath, mean_energy
from deepspin.dynamics.core.state import State

pytestmark = pytest.mark.any_version


def oscillators(frequencies, number, spring, **options):
    """Atoms in wells that swing at these angular frequencies (1/fs), `number` each."""
    mass = np.repeat(spring / np.square(frequencies) / units.AMU, number)
    nothing = np.zeros((1, len(mass), 3))
    return State(
        coord=nothing,
        spin=nothing,
        mass=mass,
        atype=np.zeros(len(mass), int),
        **options,
    )


def exact(frequency, kelvin, spectrum, friction):
    """Twice the mean potential energy of a damped oscillator in that noise, in eV."""
    grid = np.linspace(0, 1.0, 400001)[1:]
    below = (frequency**2 - grid**2) ** 2 + (friction * grid) ** 2
    answer = 2 * friction * mean_energy(grid, kelvin, spectrum) / below
    return frequency**2 * answer.sum() * (grid[1] - grid[0]) / np.pi


def test_mean_energy():
    """k_B T of soft modes, the limits of stiff ones; <n> = 1 at ħω = k_B T ln 2."""
    kelvin, stiff = 300.0, 3.0
    thermal = units.K_B * kelvin
    assert mean_energy(np.array(1e-9), kelvin, "quantum") == pytest.approx(thermal)
    assert mean_energy(np.array(0.0), kelvin, "zero-point") == thermal
    zero = mean_energy(np.array(stiff), kelvin, "zero-point")
    assert zero == pytest.approx(units.HBAR * stiff / 2, rel=1e-12)
    one = thermal * np.log(2) / units.HBAR
    assert mean_energy(np.array(one), kelvin, "quantum") == pytest.approx(
        units.HBAR * one, rel=1e-12
    )
    for spectrum, energy in (("quantum", 0.0), ("zero-point", units.HBAR * 0.1 / 2)):
        assert mean_energy(np.array(0.1), 0.0, spectrum) == energy


@pytest.mark.parametrize("spectrum", ["quantum", "zero-point"])
def test_oscillators(spectrum):
    """Modes from 3 to 24 THz at 200 K: each has what Planck and its width give it."""
    kelvin, friction, number = 200.0, 0.01, 60
    frequencies = 2 * np.pi * 1e-3 * np.array([3.0, 10.0, 24.0])
    state = oscillators(frequencies, number, 5.0)
    bath = QuantumBath(kelvin, friction, spectrum)
    integrator = Integrator(wells(5.0), 1.0, spins=False, lattice_bath=bath)
    found = sample(
        integrator,
        state,
        lambda now: 5.0 * (now.coord**2).sum(axis=2).reshape(3, number) / 3,
        500,
        3000,
        10,
    )
    for mode, frequency in enumerate(frequencies):
        want = exact(frequency, kelvin, spectrum, friction)
        planck = mean_energy(np.array(frequency), kelvin, spectrum)
        if frequency < 0.1:  # a stiffer one is warmed by its own width
            assert want == pytest.approx(planck, rel=0.2)
        mean = found[:, mode].mean(axis=1)
        assert_mean(mean / want, 1.0, at_most=0.04)
    # the stiffest one is far from classical
    assert abs(want / (units.K_B * kelvin) - 1) > 0.8


def test_centre_of_mass_rests():
    fields = Cluster()
    state = fields.state(still=True, temperature=0.0)
    bath = QuantumBath(300.0, 0.05)
    integrator = Integrator(fields, 0.5, spins=False, lattice_bath=bath)
    sample(integrator, state, id, 5, 0, 1)
    assert observables.lattice_temperature(state) > 1
    np.testing.assert_allclose(observables.momentum(state), 0, atol=1e-12)


def test_restart_and_replicas():
    """In two parts as in one, and alone as with others, to the last bit."""
    fields = Cluster()
    start = fields.state(nrep=2, fixed=[True] + [False] * 7, temperature=0.0)

    def integrator(kelvin):
        bath = QuantumBath(kelvin, 0.02, "zero-point", cutoff=100.0)
        return Integrator(fields, 1.0, lattice_bath=bath)

    both = np.array([100.0, 300.0])
    whole, parts = copy.deepcopy(start), copy.deepcopy(start)
    one = integrator(both)
    sample(one, whole, id, 23, 0, 1)
    sample(one, parts, id, 12, 0, 1)  # the same bath, for another state
    again = State.from_arrays(parts.arrays())
    sample(integrator(both), again, id, 11, 0, 1)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
    rows = {n: getattr(start, n)[1:] for n in ("coord", "spin", "velocity", "stream")}
    fixed = {"mass": start.mass, "atype": start.atype, "fixed": start.fixed}
    alone = State(**fixed, **rows)
    sample(integrator(300.0), alone, id, 23, 0, 1)
    for name in ("coord", "spin", "velocity"):
        got = getattr(alone, name)[0]
        np.testing.assert_array_equal(got, getattr(whole, name)[1], err_msg=name)
    np.testing.assert_array_equal(whole.coord[:, 0], start.coord[:, 0])
    assert integrator(300.0).lattice_bath.block(1.0) == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((-1.0, 0.1), "`temperature` must be at least 0"),
        ((1.0, 0.0), "`friction` must be a positive"),
        ((1.0, 0.1, "white"), "`spectrum` must be one of quantum, zero-point"),
        ((1.0, 0.1, "quantum", 0.0), "`cutoff` must be a positive"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        QuantumBath(*given)
