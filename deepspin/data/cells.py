# SPDX-License-Identifier: Apache-2.0
"""Cells: how thick they are, and which image of a point is near."""

from __future__ import annotations

from itertools import product

import numpy as np

_NEXT = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.float64)


def heights(box: np.ndarray) -> np.ndarray:
    """Distances in Å of opposite faces of cells, shape (nf, 3); 0 if singular."""
    normal = np.cross(np.roll(box, -1, axis=1), np.roll(box, -2, axis=1))
    area = np.linalg.norm(normal, axis=-1)
    volume = np.abs(np.einsum("fk,fk->f", box[:, 0], normal[:, 0]))
    return volume[:, None] / np.where(area > 0, area, np.inf)


def wrapped(way: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Ways with components along the lattice vectors of at most half of each.

    They are the shortest of all images unless a cell is skewed, see `shortest`.

    Parameters
    ----------
    way : np.ndarray, shape (..., n, 3)
        Ways from one point to another, in Å.
    box : np.ndarray, shape (..., 3, 3)
        Lattice vectors in rows, in Å; in directions where they vanish nothing changes.
    """
    return way - np.round(way @ np.linalg.pinv(box)) @ box


def shortest(way: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Shortest images of ways, also in skewed cells; see `wrapped`."""
    images = wrapped(way, box)[..., None, :] - (_NEXT @ box)[..., None, :, :]
    nearest = np.linalg.norm(images, axis=-1).argmin(axis=-1)
    return np.take_along_axis(images, nearest[..., None, None], axis=-2)[..., 0, :]
