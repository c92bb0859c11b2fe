# SPDX-License-Identifier: Apache-2.0
"""Spin Hamiltonians: derivatives, parts, shells, cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spin_models import CUBE, FCC, FCC_NEAREST, dmi, lattice, random_crystal
from spin_models import random_units as units

from deepspin.analysis.cells import crystal
from deepspin.analysis.hamiltonian import across

pytestmark = pytest.mark.any_version


def test_energy_is_that_of_the_sum():
    h = random_crystal()
    e = units((3,))
    by_hand = 0.0
    for i, j, tensor in zip(h.pairs.first, h.pairs.second, h.tensor, strict=True):
        by_hand -= e[i] @ tensor @ e[j] / 2
    by_hand += sum(e[i] @ h.anisotropy[i] @ e[i] for i in range(3))
    assert h.energy(e) == pytest.approx(by_hand, rel=1e-13)


def test_field_is_the_derivative():
    h, step = random_crystal(), 1e-6
    e = units((3,))
    for i in range(3):
        for a in range(3):
            up, down = e.copy(), e.copy()
            up[i, a] += step
            down[i, a] -= step
            slope = (h.energy(up) - h.energy(down)) / (2 * step)
            assert h.field(e)[i, a] == pytest.approx(-slope, abs=1e-10)


def test_curvature_is_the_second_derivative_on_the_sphere():
    h, step = random_crystal(), 1e-4
    e, frame = h.sites.direction, across(h.sites.direction)
    matrix = h.curvature().fourier(np.zeros((1, 3)))[0].real.reshape(6, 6)

    def energy(x):
        moved = e + (x.reshape(3, 2, 1) * frame).sum(axis=1)
        return h.energy(moved / np.linalg.norm(moved, axis=1, keepdims=True))

    found = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            one, two = step * np.eye(6)[i], step * np.eye(6)[j]
            found[i, j] = energy(one + two) - energy(one - two)
            found[i, j] -= energy(two - one) - energy(-one - two)
    np.testing.assert_allclose(matrix, found / (4 * step**2), atol=1e-7)
    slope = [energy(step * x) - energy(-step * x) for x in np.eye(6)]
    torque = np.einsum("ixa,ia->ix", frame, h.curvature().torque).ravel()
    np.testing.assert_allclose(torque, -np.array(slope) / (2 * step), atol=1e-9)


def test_parts_of_the_tensor():
    j, d = 0.02, np.array([0.001, -0.002, 0.003])
    gamma = np.array([[1, 2, 3], [2, 5, 4], [3, 4, -6.0]]) * 1e-3
    h = lattice(CUBE[:1], (j * np.eye(3) + dmi(d) + gamma)[None])
    np.testing.assert_allclose(h.exchange, [j], rtol=1e-14)
    np.testing.assert_allclose(h.dmi, [d], rtol=1e-14)
    np.testing.assert_allclose(h.symmetric, [gamma], atol=1e-17)
    one, two = units((2,))
    assert one @ h.tensor[0] @ two == pytest.approx(
        j * one @ two + d @ np.cross(one, two) + one @ gamma @ two, rel=1e-13
    )


def test_a_repeated_cell_has_the_same_energy_and_field():
    h = random_crystal()
    large = h.repeated((2, 1, 3))
    e = units((3,))
    every = np.tile(e, (6, 1))
    assert large.energy(every) == pytest.approx(6 * h.energy(e), rel=1e-13)
    np.testing.assert_allclose(large.field(every)[:3], h.field(e), rtol=1e-12)
    lengths = (np.linalg.norm(x.pairs.vectors(x.sites), axis=1) for x in (h, large))
    one, many = map(np.sort, lengths)
    np.testing.assert_allclose(many, np.repeat(one, 6), rtol=1e-12)
    assert len(large.pairs.reverse()) == len(large.pairs)


def test_the_crystal_of_a_repeated_cell_is_the_first():
    h = lattice(FCC_NEAREST, 0.01, box=FCC)
    large = h.repeated((2, 2, 3))
    signs = np.random.default_rng(0).choice([-1, 1], large.sites.n)
    e = signs[:, None] * large.sites.direction
    small = crystal(replace(large, sites=replace(large.sites, direction=e)))
    assert small.sites.n == 1
    assert abs(np.linalg.det(small.sites.box)) == pytest.approx(
        abs(np.linalg.det(FCC)), rel=1e-12
    )
    (shell,) = small.shells()
    assert (shell.number, shell.exchange) == (12, pytest.approx(0.01, rel=1e-13))
    assert shell.distance == pytest.approx(8**0.5, rel=1e-12)


def test_a_crystal_of_two_types_keeps_its_couplings():
    h = random_crystal()
    small = crystal(h.repeated((2, 2, 2)))
    e = units((3,))
    names = list(small.sites.names)
    assert sorted(names) == sorted(h.sites.names)
    order = [
        int(np.abs(h.sites.moment - m).argmin()) for m in small.sites.moment
    ]  # the same sites, maybe in another order and cell
    assert small.energy(e[order]) == pytest.approx(h.energy(e), rel=1e-12)


def test_shells_count_neighbours_of_each_type():
    shells = random_crystal().shells()
    assert {s.names for s in shells} == {("Fe", "Fe"), ("Fe", "Ni"), ("Ni", "Ni")}
    h = lattice(CUBE, [0.01] * 4 + [0.03] * 2)
    (shell,) = h.shells()
    assert (shell.number, shell.distance) == (6, 3.0)
    assert shell.exchange == pytest.approx(1 / 60, rel=1e-13)
    assert shell.spread == pytest.approx(np.std([0.01] * 4 + [0.03] * 2), rel=1e-12)


def test_a_pair_without_its_other_direction_is_refused():
    with pytest.raises(ValueError, match="both directions"):
        lattice(CUBE[:1], 0.01).pairs.reverse()
