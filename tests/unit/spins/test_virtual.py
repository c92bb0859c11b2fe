# SPDX-License-Identifier: Apache-2.0
"""The scheme `ener_spin` without tensors."""

import numpy as np

from deepspin.spins.virtual import VirtualAtoms

OPTIONS = {"use_spin": [False, True, False, True], "virtual_scale": [0.5, 0.25]}
SCHEME = VirtualAtoms.from_options(**OPTIONS)
PADDED = VirtualAtoms.from_options(**OPTIONS, placeholders=True)


def test_blocks():
    names = ["A", "B", "C", "D"]
    assert SCHEME.nblocks == 6
    assert SCHEME.neighbor_names(names) == [*names, "B(spin)", "D(spin)"]
    assert SCHEME.extend_sel([1, 2, 3, 4]) == (1, 2, 3, 4, 2, 4)
    assert SCHEME.energy_types == (0, 1, 2, 3, 1, 3)
    assert PADDED.nblocks == 8
    assert PADDED.extend_sel([1, 2, 3, 4]) == (1, 2, 3, 4, 2, 4, 1, 3)
    assert PADDED.energy_types == SCHEME.energy_types


def test_largest_numbers_of_types():
    assert SCHEME.largest_of_types([5, 6, 7, 8, 9, 1]) == [5, 9, 7, 8]


def test_points():
    rng = np.random.default_rng(1)
    atype = np.array([[3, 0, 1], [1, 3, -1]])
    coord, spin = rng.normal(size=(2, 2, 3, 3))
    points, blocks = SCHEME.points(coord, spin, atype)
    np.testing.assert_array_equal(points[:, :3], coord)
    scale = np.array([[0.25, 0.0, 0.5], [0.5, 0.25, 0.0]])[..., None]
    np.testing.assert_allclose(points[:, 3:], coord + scale * spin, rtol=1e-15)
    np.testing.assert_array_equal(blocks, [[3, 0, 1, 5, -1, 4], [1, 3, -1, 4, 5, -1]])
    alone = SCHEME.points(coord[0], spin[0], atype[0])
    np.testing.assert_array_equal(alone[0], points[0])
    np.testing.assert_array_equal(alone[1], blocks[0])
    assert SCHEME.list_blocks == tuple(range(6))


def test_points_of_reversed_spins():
    """After all others, in lists of their own, of the same types of neighbours."""
    even = VirtualAtoms.from_options(**OPTIONS, time_reversal=True)
    rng = np.random.default_rng(1)
    atype = np.array([3, 0, 1])
    coord, spin = rng.normal(size=(2, 3, 3))
    points, lists = even.points(coord, spin, atype)
    plain, blocks = SCHEME.points(coord, spin, atype)
    np.testing.assert_array_equal(points[:6], plain)
    np.testing.assert_array_equal(lists[:6], blocks)
    np.testing.assert_array_equal(points[6:], SCHEME.points(coord, -spin, atype)[0][3:])
    np.testing.assert_array_equal(lists[6:], [7, -1, 6])
    assert even.list_blocks == (*range(6), 4, 5)
    assert len(even.point_names) == 3
    assert even.symmetries == {"time_reversal"} and "deepmd" in even.lacks
    assert (SCHEME.symmetries, SCHEME.lacks) == (frozenset(), {})


def test_reach():
    reach = SCHEME.reach(np.array([1, 0, 3, -1]), np.array([2.0, 2.0, 2.0, 2.0]))
    np.testing.assert_array_equal(reach, [1.0, 0.0, 0.5, 0.0])
