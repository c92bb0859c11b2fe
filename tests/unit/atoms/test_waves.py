# SPDX-License-Identifier: Apache-2.0
"""Repeated cells, sublattices, and waves of spins."""

import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.atoms.waves import (
    COLLINEAR,
    collinear_signs,
    order_parameter,
    phases,
    repeated,
    strongest_wave,
    sublattices,
)
from deepspin.dynamics.core.state import State
from deepspin.utils.refused import InputError


def cell_of(pbc, box=None):
    return Structure(
        names=("Ni",),
        atype=np.zeros(2, int),
        coord=np.array([[0, 0, 0], [0.5, 0, 0]]),
        box=np.eye(3) if box is None else box,
        pbc=np.array(pbc),
        spin=np.array([[0, 0, 1.0], [0, 0.1, -1.0]]),
        mass=np.array([1.0, 2.0]),
        fixed=np.array([True, False]),
    )


def test_repeated():
    """Copies in the order of their places, each with all that its atom has."""
    cell = cell_of([True] * 3, np.array([[2.0, 0, 0], [0, 3, 0], [0.5, 0, 4]]))
    found, origin = repeated(cell, [1, 2, 2])
    assert origin.tolist() == [0, 1] * 4
    np.testing.assert_array_equal(found.box, cell.box * [[1], [2], [2]])
    shift = [[0, 0, 0], [0.5, 0, 4], [0, 3, 0], [0.5, 3, 4]]
    np.testing.assert_allclose(found.coord[::2], shift)
    np.testing.assert_allclose(found.coord[1::2], np.add(shift, [0.5, 0, 0]))
    for name in ("atype", "spin", "mass", "fixed"):
        ours, given = getattr(found, name), getattr(cell, name)
        np.testing.assert_array_equal(ours, np.concatenate([given] * 4))


def test_copies_along_an_open_direction():
    with pytest.raises(InputError, match="not periodic"):
        repeated(cell_of([True, False, True]), [1, 2, 1])
    assert repeated(cell_of([True, False, True]), [2, 1, 1])[0].nloc == 4
    assert repeated(cell_of([False] * 3), [1, 1, 1])[0].nloc == 2


def test_phases_and_sublattices():
    """Of a wave in reciprocal vectors; nodes belong to neither sublattice."""
    box = np.array([[2.0, 0, 0], [1, 3, 0], [0, 0, 4]])
    coord = np.array([[0, 0, 0], [1, 0, 0], [1, 3, 0], [0, 0, 1]])
    found = phases([1, 0.5, 0], coord, box)
    np.testing.assert_allclose(found, np.pi * np.array([0, 1, 1, 0]), atol=1e-14)
    np.testing.assert_array_equal(sublattices(found), [1, -1, -1, 1])
    with pytest.raises(InputError, match="at the nodes of the wave"):
        sublattices(phases([0, 0, 1], coord, box))
    with pytest.raises(InputError, match="needs a periodic cell"):
        phases([0, 0, 1], coord, None)


def test_collinear_signs():
    """Along any axis, the first up; none of spins in all directions."""
    spin = np.array([[0, 0, -1.0], [0, 0.1, 1.0], [0, 0, -0.2]])
    np.testing.assert_array_equal(collinear_signs(spin), [1, -1, 1])
    assert collinear_signs(np.eye(3)) is None
    assert COLLINEAR > 0.5
    spin[2] = 0
    assert collinear_signs(spin) is None


def test_order_parameter():
    spin = np.array([[[0, 0, 1.3], [0, 0, -0.7], [0, 0, 0], [0, 0, 1.0]]])
    found = order_parameter(spin, [1, -1, 0, 1])
    np.testing.assert_allclose(found, [[0, 0, 1]])
    found = order_parameter(spin, [1, 1, 0, 0])
    np.testing.assert_allclose(found, [[0, 0, 0]], atol=1e-16)
    for signs in ([1, -1, 1, 1], [0, 0, 0, 0]):
        with pytest.raises(ValueError, match="`signs` must be 0 on atoms without spin"):
            order_parameter(spin, signs)


def crystal(repeat, turn, *, noise=0.0, seed=0):
    """Replica of an fcc crystal, two primitive cells a side repeated.

    `turn` makes the phase of each spin from positions in units of the repeated cell.
    """
    rng = np.random.default_rng(seed)
    cell = 4.2 * (1 - np.eye(3))
    number = 2 * np.array(repeat)
    place = np.stack(np.meshgrid(*map(np.arange, number), indexing="ij"), -1) / 2
    place = place.reshape(-1, 3)
    phase = 2 * np.pi * turn(place)
    spin = np.stack([np.cos(phase), np.sin(phase), 0 * phase], axis=1)
    spin += noise * rng.normal(size=spin.shape)
    coord = place @ cell + 0.05 * rng.normal(size=spin.shape)
    # an atom without spin, and one that has left the cell
    coord = np.concatenate([coord, [[1.0, 0, 0]]])
    coord[0] -= cell[2] * repeat[2]
    return State(
        coord=coord[None],
        spin=np.concatenate([1.3 * spin, np.zeros((1, 3))])[None],
        mass=np.ones(len(coord)),
        atype=np.arange(len(coord)) // len(spin),
        box=(cell * np.array(repeat)[:, None])[None],
    )


def signs_of(state, repeat, wave):
    """Signs of the order with a wave vector, as an input would give them."""
    phase = state.coord[0] @ np.linalg.inv(state.box[0]) * repeat @ np.array(wave)
    return np.where(state.atype == 0, np.sign(np.cos(2 * np.pi * phase)), 0)


def strongest(state, repeat, signs):
    return strongest_wave(state.coord, state.spin, state.box, repeat, signs)


def test_strongest_wave():
    """A spiral has its wave vector and weight 1, whatever is looked for beside it."""
    repeat, wave = (3, 2, 2), (1 / 3, 0, 1 / 2)
    state = crystal(repeat, lambda place: place @ wave)
    ferro = signs_of(state, repeat, (0, 0, 0))
    for known in ([ferro], [ferro, signs_of(state, repeat, (1, 0, 0))]):
        found, weight = strongest(state, repeat, np.stack(known))
        np.testing.assert_allclose(found, [wave], atol=1e-12)
        assert weight == pytest.approx([1], abs=0.03)  # the atoms are not quite there


def test_collinear_wave():
    """It is found; known by another of its names, or as a square wave, it is not."""
    repeat = (2, 2, 4)
    state = crystal(repeat, lambda place: place @ (1, 1, 1))
    ferro = signs_of(state, repeat, (0, 0, 0))
    found, weight = strongest(state, repeat, ferro[None])
    np.testing.assert_allclose(abs(found), [[1, 1, 1]])
    assert weight == pytest.approx([1], abs=0.03)
    for wave in ((1, 1, 1), (1, -1, 1), (3, 1, -1)):
        known = np.stack([ferro, signs_of(state, repeat, wave)])
        assert strongest(state, repeat, known)[1] < 0.03
    state = crystal(repeat, lambda place: 0.5 * np.floor(place @ (0, 0, 0.5) + 0.25))
    known = np.where(state.atype == 0, np.sign(state.spin[0, :, 0]), 0)
    assert strongest(state, repeat, known[None])[1] < 0.2


def test_wave_of_disorder():
    """Its strongest wave is well below what `dp-spin thermo` tells of."""
    for seed in range(20):
        state = crystal((2, 2, 2), lambda place: 0 * place[:, 0], noise=50.0, seed=seed)
        known = signs_of(state, (2, 2, 2), (0, 0, 0))
        assert strongest(state, (2, 2, 2), known[None])[1] < 10 / 64
