# SPDX-License-Identifier: Apache-2.0
"""Heights of cells and nearest images."""

import numpy as np
import pytest

from deepspin.data.cells import heights, shortest, wrapped

CELLS = np.array(
    [
        [[4.0, 0, 0], [0, 5.0, 0], [0, 0, 6.0]],
        [[1.1, 0, 0], [0.9, 0.8, 0], [-0.7, 0.5, 0.9]],
        [[0, 3.0, 0], [3.0, 0, 0], [1.0, 1.0, 2.0]],  # left-handed
    ]
)


def test_heights():
    np.testing.assert_allclose(heights(CELLS)[0], [4, 5, 6])
    volume = abs(np.linalg.det(CELLS[1]))
    area = np.linalg.norm(np.cross(CELLS[1, 0], CELLS[1, 1]))
    assert heights(CELLS)[1, 2] == pytest.approx(volume / area)
    flat = np.array([[[1.0, 0, 0], [2.0, 0, 0], [0, 0, 3.0]]])
    np.testing.assert_array_equal(heights(flat), [[0, 0, 0]])


@pytest.mark.parametrize("cell", CELLS)
def test_shortest_of_all_images(cell):
    way = np.random.default_rng(0).uniform(-4, 4, size=(50, 3))
    turns = np.stack(np.meshgrid(*[range(-15, 16)] * 3), axis=-1).reshape(-1, 3)
    images = np.linalg.norm(way[:, None] - turns @ cell, axis=-1)
    found = shortest(way, cell)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), images.min(axis=1))
    turned = (way - found) @ np.linalg.inv(cell)
    np.testing.assert_allclose(turned, np.round(turned), atol=1e-12)


def test_each_frame_has_its_cell():
    way = np.random.default_rng(1).uniform(-4, 4, size=(3, 20, 3))
    for function in (wrapped, shortest):
        each = [function(own, cell) for own, cell in zip(way, CELLS, strict=True)]
        np.testing.assert_allclose(function(way, CELLS), each, atol=1e-13)


def test_wrapped():
    found = wrapped(np.array([[7.0, -2.6, 3.1]]), CELLS[0])
    np.testing.assert_allclose(found, [[-1.0, 2.4, -2.9]])


def test_directions_without_a_cell_stay():
    slab = np.diag([4.0, 5.0, 0.0])
    found = wrapped(np.array([[3.0, 3.0, 90.0]]), slab)
    np.testing.assert_allclose(found, [[-1.0, -2.0, 90.0]], atol=1e-12)
