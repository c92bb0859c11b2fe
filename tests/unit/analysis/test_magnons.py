# SPDX-License-Identifier: Apache-2.0
"""Spin waves and ordering against closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from spin_models import CHAIN, CUBE, FCC, FCC_NEAREST, SQUARE, dmi, lattice

from deepspin.analysis.hamiltonian import SpinHamiltonian
from deepspin.analysis.magnons import check_stationary, density, magnons, mesh
from deepspin.analysis.ordering import ordering, wave_vector
from deepspin.atoms.units import K_B
from deepspin.utils.refused import InputError

pytestmark = pytest.mark.any_version

J, M = 0.01, 2.4  # eV, μ_B
Q = np.array([[0.1, 0.0, 0.0], [0.3, 0.2, 0.0], [0.5, 0.5, 0.5], [0.11, 0.23, 0.37]])


def turned(h: SpinHamiltonian, repeat, direction) -> SpinHamiltonian:
    """The Hamiltonian in a repeated cell, each cell with a direction of its own."""
    large = h.repeated(repeat)
    cells = list(product(*map(range, repeat)))
    e = np.array([direction(np.array(cell)) for cell in cells], dtype=float)
    return replace(large, sites=replace(large.sites, direction=e))


def cosines(shift, q):
    return np.cos(2 * np.pi * q @ np.array(shift).T).sum(axis=1)


def test_ferromagnet():
    h = lattice(CUBE, J, moment=M, direction=(1, 2, 3))
    found = magnons(h.curvature(), Q)
    expected = 2 / M * J * (6 - cosines(CUBE, Q))
    np.testing.assert_allclose(found.energy[:, 0], expected, rtol=1e-9)
    assert found.stable.all()


def test_antiferromagnetic_chain():
    h = turned(lattice(CHAIN, -J, moment=M), (2, 1, 1), lambda c: [0, 0, 1 - 2 * c[0]])
    q = np.array([[x, 0, 0] for x in (0.05, 0.2, 0.4)])
    found = magnons(h.curvature(), 2 * q)
    expected = 4 / M * J * np.abs(np.sin(2 * np.pi * q[:, 0]))
    np.testing.assert_allclose(found.energy, np.stack([expected] * 2, 1), rtol=1e-7)


def test_two_couplings_of_nickel_oxide():
    """Type II order: as M. T. Hutchings and E. J. Samuelsen, eqs. (5) to (9)."""
    one, two = 1.37e-3, -19.01e-3
    second = [(1, 1, -1), (1, -1, 1), (-1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)]
    shift = [*FCC_NEAREST, *second]
    h = lattice(shift, [one] * 12 + [two] * 6, box=FCC, moment=M)
    afm = turned(h, (2, 2, 2), lambda c: [0, 0, 1 - 2 * (c.sum() % 2)])
    found = magnons(afm.curvature(), 2 * Q)
    # parallel neighbours within the planes, antiparallel ones between them
    same = np.array(FCC_NEAREST).sum(axis=1) % 2 == 0
    within = one * cosines(np.array(FCC_NEAREST)[same], Q)
    between = one * cosines(np.array(FCC_NEAREST)[~same], Q) + two * cosines(second, Q)
    a = 6 * one - within - (6 * one + 6 * two)
    expected = 2 / M * np.sqrt(a**2 - between**2)
    # eight sites: the wave is one of the four that fold onto it, twice each
    for k, energy in enumerate(expected):
        near = np.sort(np.abs(found.energy[k] - energy))
        assert near[1] < 1e-7 * expected.max()


def test_easy_axis_gap_and_field_free_plane():
    axis = -1e-3 * np.diag([0, 0, 1.0])
    easy = lattice(CUBE, J, moment=M, anisotropy=axis)
    gap = magnons(easy.curvature(), np.zeros((1, 3))).energy
    np.testing.assert_allclose(gap, [[4e-3 / M]], rtol=1e-9)
    hard = lattice(CUBE, J, moment=M, anisotropy=-axis)
    found = magnons(hard.curvature(), np.zeros((1, 3)))
    assert not found.stable[0]
    plane = lattice(CUBE, J, moment=M, direction=(1, 0, 0), anisotropy=-axis)
    q = np.array([[0.0, 0.2, 0.0]])
    k = J * (6 - cosines(CUBE, q))
    np.testing.assert_allclose(
        magnons(plane.curvature(), q).energy[:, 0],
        2 / M * np.sqrt(k * (k + 2e-3)),
        rtol=1e-9,
    )


def test_spiral_of_dzyaloshinskii_and_moriya():
    """tan of the angle of a step is D/J, and waves in the rotating frame are known."""
    steps = 8
    d = J * np.tan(2 * np.pi / steps)
    shift = np.array(CHAIN)
    tensor = np.stack([J * np.eye(3) + dmi((0, 0, s * d)) for s in (1, -1)])
    h = lattice(shift, tensor, moment=M)

    def direction(cell):
        angle = 2 * np.pi * cell[0] / steps
        return [np.cos(angle), np.sin(angle), 0]

    spiral = turned(h, (steps, 1, 1), direction)
    assert np.abs(spiral.curvature().torque).max() < 1e-15
    found = magnons(spiral.curvature(), np.array([[0.0, 0, 0]]))
    assert found.stable.all()
    # in the rotating frame: an easy-plane chain of strength sqrt(J² + D²)
    strength = np.hypot(J, d)
    k = 2 * np.pi * np.arange(steps) / steps
    plane = 2 * strength * (1 - np.cos(k))
    out = 2 * (strength - J * np.cos(k))
    expected = np.sort(2 / M * np.sqrt(plane * out))
    np.testing.assert_allclose(found.energy[0], expected, atol=1e-9)
    line = replace(spiral, sites=replace(spiral.sites, direction=np.eye(3)[[0] * 8]))
    assert line.energy(line.sites.direction) > spiral.energy(spiral.sites.direction)


def test_waves_of_an_unstable_state_are_told():
    found = magnons(lattice(CUBE, -J).curvature(), Q)
    assert not found.stable.any()
    # energies rise along x and fall along y: imaginary
    saddle = lattice(CUBE, J, moment=M, anisotropy=1e-3 * np.diag([1.0, -1, 0]))
    found = magnons(saddle.curvature(), np.zeros((1, 3)))
    np.testing.assert_allclose(found.energy, [[-4e-3 / M]], rtol=1e-9)


def test_density_counts_all_modes():
    h = lattice(CUBE, J, moment=M)
    energy = magnons(h.curvature(), mesh([12] * 3, h.sites.pbc)).energy
    grid, states = density(energy)
    assert states.sum() * (grid[1] - grid[0]) == pytest.approx(1, rel=2e-3)


def test_a_state_that_turns_is_refused():
    h = lattice(CUBE, J, anisotropy=1e-2 * np.ones((3, 3)), direction=(0, 0, 1))
    curvature = h.curvature()
    with pytest.raises(InputError, match="not stationary"):
        check_stationary(curvature.sites, curvature.torque, 1e-3)
    check_stationary(curvature.sites, curvature.torque, 1.0)


# --- Order ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "box", "watson"),
    [(CUBE, 3.0, 1.5163860591), (FCC_NEAREST, FCC, 1.3446610732)],
    ids=["simple cubic", "face-centred"],
)
def test_temperatures_are_those_of_watson(shift, box, watson):
    number = len(shift)
    found = ordering(lattice(shift, J, box=box))
    assert found.mean_field == pytest.approx(number * J / (3 * K_B), rel=1e-10)
    expected = number * J / (3 * K_B) / watson
    assert found.rpa == pytest.approx(expected, rel=3e-4)
    np.testing.assert_allclose(found.wave_vector, 0, atol=1e-6)


def test_an_antiferromagnet_orders_as_hot_and_at_the_corner():
    ferro, anti = (ordering(lattice(CUBE, j)) for j in (J, -J))
    assert anti.rpa == pytest.approx(ferro.rpa, rel=1e-9)
    np.testing.assert_allclose(np.abs(anti.wave_vector), 0.5, atol=1e-6)
    whole = turned(lattice(CUBE, -J), (2, 2, 2), lambda c: [0, 0, 1 - 2 * (sum(c) % 2)])
    assert ordering(whole).rpa == pytest.approx(ferro.rpa, rel=1e-9)


@pytest.mark.parametrize("shift", [CHAIN, SQUARE], ids=["chain", "plane"])
def test_planes_and_chains_do_not_order(shift):
    found = ordering(lattice(shift, J))
    assert found.rpa == 0
    assert found.mean_field > 0


def test_sublattices_that_differ():
    """Two sublattices of one coupling: the spherical model gives 3kT = J/W_bcc.

    A body-centred lattice of types A and B is one of equal sites; couplings within A
    make them differ, and each must still have spins of length 1.
    """
    from deepspin.analysis.hamiltonian import Pairs, Sites

    eight = [(i, j, k) for i, j, k in product((-1, 0), repeat=3)]
    first = np.array([0] * 8 + [1] * 8)
    shift = np.array(eight + [(-i, -j, -k) for i, j, k in eight])
    sites = Sites(
        box=3.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        coord=np.array([[0, 0, 0], [1.5] * 3]),
        names=("Fe", "Co"),
        moment=np.array([2.0, 1.0]),
        direction=np.array([[0, 0, 1.0]] * 2),
    )
    pairs = Pairs(first=first, second=1 - first, shift=shift)
    h = SpinHamiltonian(
        sites=sites,
        pairs=pairs,
        tensor=J * np.tile(np.eye(3), (16, 1, 1)),
        anisotropy=np.zeros((2, 3, 3)),
    )
    assert ordering(h).rpa == pytest.approx(8 * J / (3 * K_B) / 1.3932039297, rel=3e-4)
    more = np.array(CUBE)
    none = np.zeros(6, dtype=int)
    both = SpinHamiltonian(
        sites=sites,
        pairs=Pairs(
            first=np.append(first, none),
            second=np.append(1 - first, none),
            shift=np.concatenate([shift, more]),
        ),
        tensor=np.concatenate([h.tensor, 0.5 * J * np.tile(np.eye(3), (6, 1, 1))]),
        anisotropy=h.anisotropy,
    )
    found = ordering(both)
    assert ordering(h).rpa < found.rpa < found.mean_field


def test_stiffness_is_the_small_wave():
    h = lattice(CUBE, J, moment=M)
    found, q = ordering(h), np.array([[1e-3, 0, 0]])
    wave = q[0] * 2 * np.pi / 3.0
    small = magnons(h.curvature(), q).energy[0, 0]
    assert wave @ found.dispersion @ wave == pytest.approx(small, rel=1e-4)
    np.testing.assert_allclose(found.stiffness, J / (2 * 3.0) * np.eye(3), rtol=1e-12)


def test_wave_vector_of_competing_couplings():
    """J1 and J2 along a chain: cos(2 pi q) = -J1 / (4 J2)."""
    shift = [*CHAIN, (2, 0, 0), (-2, 0, 0)]
    q, value = wave_vector(lattice(shift, [J, J, -J / 2, -J / 2]))
    assert np.cos(2 * np.pi * q[0]) == pytest.approx(0.5, abs=1e-5)
    assert value == pytest.approx(2 * J * 0.5 - J * np.cos(4 * np.pi / 6), rel=1e-8)
