# SPDX-License-Identifier: Apache-2.0
"""Shapes of batches, atoms by type, and points that move with their atoms."""

from __future__ import annotations

import numpy as np

from deepspin.data.collate import (
    Shape,
    collate,
    merge_shapes,
    neighbors_of_frame,
    scatter,
    sort_by_type,
)
from deepspin.spins.virtual import VirtualAtoms


def test_shape():
    one, two = Shape(2, (3, 1), (5, 6, 7)), Shape(1, (2, 4), (9, 1, 8))
    both = one.union(two)
    assert both == two.union(one) == Shape(2, (3, 4), (9, 6, 8))
    assert both.cost > max(one.cost, two.cost)


def test_sort_by_type_and_scatter():
    atype = np.array([[1, 0, 1, 0], [0, -1, 1, -1]])
    slots = sort_by_type(atype, (2, 3))
    np.testing.assert_array_equal(slots, [[2, 0, 3, 1], [0, -1, 2, -1]])
    values = scatter(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), slots, 5)
    np.testing.assert_array_equal(values, [[2, 4, 1, 3, 0], [5, 0, 7, 0, 0]])


def test_merge_shapes():
    """Those that cost little to merge, and the cheapest ones if there are too many."""
    small, alike, large = (
        Shape(1, (n, n), (w, w, w)) for n, w in ((4, 20), (4, 21), (16, 40))
    )
    merged = merge_shapes([small, large, alike], [1, 1, 1], 8)
    assert merged == [alike, large, alike]
    assert merge_shapes([small, large, alike], [1, 1, 1], 1) == [large] * 3
    assert merge_shapes([small], [1], 1) == [small]


def test_merge_many_shapes():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 60, size=(300, 6)).tolist()
    shapes = [Shape(row[0], tuple(row[1:3]), tuple(row[3:])) for row in rows]
    merged = merge_shapes(shapes, rng.random(300), 8)
    assert len(merged) == 300 and len(set(merged)) <= 8
    assert all(m.union(s) == m for m, s in zip(merged, shapes, strict=True))


def test_points_move_with_their_atoms():
    """Separations are the same from the lists of a frame and from the padded ones."""
    scheme = VirtualAtoms.from_options([True, False], virtual_scale=[0.3])
    rng = np.random.default_rng(3)
    coord, spin = 3.0 * rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    atype, box = np.array([1, 0, 0, 1, 0, 1]), 7.0 * np.eye(3)
    found = neighbors_of_frame(coord, spin, atype, box, True, scheme, 3.0, None)
    shape = Shape(2, (4, 5), tuple(found.count.max(axis=0) + 1))
    frame = coord[None], spin[None], box[None], atype[None]
    inputs, slots = collate(*frame, [found], shape)
    assert inputs["coord"].shape == (2, 9, 3) and not inputs["mask"][0][1].any()
    points, _ = scheme.points(coord, spin, atype)
    apart = points[found.index] + found.shift @ box - coord[found.slot[0]]
    sorted_types = np.repeat([0, 1], shape.natoms)
    padded, _ = scheme.points(inputs["coord"][0], inputs["spin"][0], sorted_types)
    lengths = []
    for nlist, shift in zip(inputs["nlist"], inputs["shift"], strict=True):
        i, j = np.nonzero(nlist[0] >= 0)
        assert set(i) <= set(slots[0])
        way = padded[nlist[0][i, j]] + shift[0][i, j] @ box - inputs["coord"][0][i]
        lengths += np.linalg.norm(way, axis=1).tolist()
        assert (nlist[1] == -1).all()  # an empty frame
    wanted = np.sort(np.linalg.norm(apart, axis=1))
    np.testing.assert_allclose(np.sort(lengths), wanted, rtol=1e-14)
    assert len(lengths) > 20
