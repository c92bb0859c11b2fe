# SPDX-License-Identifier: Apache-2.0
"""Neighbour lists: who is within the cutoff of whom, in integers.

A list holds neighbour indices and lattice shifts only; distances are computed from them
inside the model, so that a list stays valid while atoms move within a skin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vesin

# most cells of vesin's grid
MAX_CELLS = 1e5
# most pairs that fit into memory
MAX_PAIRS = 1e9
# farthest that a point may be from the cell, in lattice vectors; int32 must hold it
MAX_TURNS = 1e8


@dataclass(frozen=True)
class Neighbors:
    """The neighbours of one frame, sorted by (centre, type of neighbour), ragged.

    Parameters
    ----------
    count : np.ndarray of int32, shape (ncentres, nblocks)
        Number of neighbours of each type, after truncation at `sel`.
    index : np.ndarray of int32, shape (npairs,)
        Neighbouring point of each pair.
    shift : np.ndarray of int8 or int32, shape (npairs, 3)
        Lattice vectors to add to the neighbour: the separation of a pair (i, j) is
        ``points[j] + shift @ box - points[i]``.
    found : np.ndarray of int32, shape (nblocks,)
        Largest number of neighbours of each type before truncation.
    dropped : int
        Number of pairs left out beyond `sel`.
    nearest : float
        Smallest distance of a pair in Å, infinite without pairs.
    nearest_centres : float
        The same of pairs of centres: of atoms, where the other points are no atoms.
    """

    count: np.ndarray
    index: np.ndarray
    shift: np.ndarray
    found: np.ndarray
    dropped: int
    nearest: float
    nearest_centres: float

    @property
    def slot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre, type and position within its block of each pair, shape (npairs,)."""
        ncentres, nblocks = self.count.shape
        flat = self.count.ravel()
        block = np.repeat(np.arange(ncentres * nblocks), flat)
        start = np.cumsum(flat) - flat
        return block // nblocks, block % nblocks, np.arange(block.size) - start[block]


def build(
    points: np.ndarray,
    types: np.ndarray,
    ncentres: int,
    box: np.ndarray,
    pbc: bool | Sequence[bool],
    rcut: float,
    nblocks: int,
    sel: Sequence[int] | None = None,
) -> Neighbors:
    """Find all neighbours within `rcut` of the first `ncentres` points.

    Any cell will do: skewed, left-handed, smaller than the cutoff, open in some or all
    directions.

    Parameters
    ----------
    points : np.ndarray, shape (npoints, 3)
        Positions in Å, wrapped into the cell or not.
    types : np.ndarray of int, shape (npoints,)
        Type of each point in [0, nblocks), -1 where there is none.
    ncentres : int
        The first so many points are centres, all are neighbours.
    box : np.ndarray, shape (3, 3)
        Lattice vectors in rows, in Å; ignored in directions that are not periodic.
    pbc : bool or sequence of 3 bool
        Periodic directions.
    rcut : float
        Cutoff in Å.
    nblocks : int
        Number of types of neighbours.
    sel : sequence of int, optional
        Keep at most so many neighbours of each type, the nearest ones, chosen as
        DeePMD-kit chooses them. Without it nothing is dropped.

    Raises
    ------
    ValueError
        Points or lattice vectors that span far more than any real system.
    """
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    exists = np.flatnonzero(types >= 0)
    closed = _close_gaps(points[exists], box, periodic, rcut)
    _check_extent(closed, box, periodic, rcut)
    # a cluster has no pairs beyond its size, and vesin would look for their cells
    size = np.linalg.norm(np.ptp(closed, axis=0)) + 1.0 if len(closed) else 1.0
    search = vesin.NeighborList(
        cutoff=rcut if periodic.any() else min(rcut, size),
        full_list=True,
    )
    i, j, shift, distance = search.compute(
        points=closed,
        box=box if periodic.any() else np.zeros((3, 3)),
        periodic=periodic,
        quantities="ijSd",
    )
    i, j = exists[i], exists[j]
    keep = i < ncentres
    i, j, shift, distance = i[keep], j[keep], shift[keep], distance[keep]
    near_centre = j < ncentres
    block = i * nblocks + types[j]
    order = np.lexsort((*shift.T[::-1], j, block))
    i, j, shift, block = i[order], j[order], shift[order], block[order]
    count = np.bincount(block, minlength=ncentres * nblocks)
    found = count.reshape(ncentres, nblocks).max(axis=0, initial=0)
    if sel is not None and (found > np.asarray(sel)).any():
        kept = _nearest(points, box, periodic, i, j, shift, block, rcut, sel)
        j, shift, block = j[kept], shift[kept], block[kept]
        count = np.bincount(block, minlength=ncentres * nblocks)
    return Neighbors(
        count=count.reshape(ncentres, nblocks).astype(np.int32),
        index=j.astype(np.int32),
        shift=shift.astype(np.int8 if np.abs(shift).max(initial=0) < 128 else np.int32),
        found=found.astype(np.int32),
        dropped=len(i) - len(j),
        nearest=float(distance.min(initial=np.inf)),
        nearest_centres=float(distance[near_centre].min(initial=np.inf)),
    )


def _check_extent(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, rcut: float
) -> None:
    """Refuse what vesin cannot do: it loses points, ends the program, or never ends.

    Its grid has at most `MAX_CELLS` cells; if a cell of the width `rcut` makes more, it
    takes wider ones, of the same ratios, and fails if that leaves none on a thin side.
    """
    if len(points) == 0:
        return
    cell, rank = np.where(periodic[:, None], box, 0.0), np.count_nonzero(periodic)
    inverse = np.linalg.pinv(cell)
    turns = np.abs(points @ inverse).max()
    if not turns < MAX_TURNS:
        raise ValueError(
            f"a point is {turns:.3g} lattice vectors away from the cell. Wrap "
            "coordinates into it, and check that they are in Å."
        )
    directions = np.linalg.svd(cell)[2][rank:]  # open ones
    width = 1.0 / np.linalg.norm(inverse[:, periodic], axis=0)
    width = np.concatenate([width, np.ptp(points @ directions.T, axis=0)])  # (3,)
    reach = 2 * rcut / np.maximum(width, 1e-9)  # part of all points, or how many images
    reach[rank:] = np.minimum(reach[rank:], 1.0)
    if (pairs := len(points) ** 2 * reach.prod()) > MAX_PAIRS:
        raise ValueError(
            f"a cutoff of {rcut:g} Å makes about {pairs:.1g} pairs of neighbours, too "
            "many. Check that cutoff and lengths are in Å."
        )
    cells = np.maximum(width / rcut, 1.0)
    if cells.prod() > MAX_CELLS and cells.min() * np.cbrt(MAX_CELLS / cells.prod()) < 2:
        sides = " x ".join(f"{w:.3g}" for w in width)
        raise ValueError(
            f"the frame is {sides} Å wide, too much for neighbours within {rcut:g} Å. "
            "Check that lengths are in Å; a direction without periodicity needs none."
        )


def _close_gaps(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, rcut: float
) -> np.ndarray:
    """Move points together along open directions, leaving their neighbours the same.

    Only gaps wider than twice the cutoff shrink, to that width. vesin's grid of cells
    fails, or is slow, on points spread very wide.
    """
    directions = np.linalg.svd(np.where(periodic[:, None], box, 0.0))[2]
    for direction in directions[np.count_nonzero(periodic) :]:  # at right angles
        height = points @ direction
        order = np.argsort(height)
        gap = np.diff(height[order], prepend=height[order[:1]])
        back = np.zeros(len(points))
        back[order] = np.cumsum(np.maximum(gap - 2 * rcut, 0.0))
        points = points - back[:, None] * direction
    return points


def _nearest(
    points: np.ndarray,
    box: np.ndarray,
    periodic: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    shift: np.ndarray,
    block: np.ndarray,
    rcut: float,
    sel: Sequence[int],
) -> np.ndarray:
    """Pairs that DeePMD-kit keeps: the nearest `sel` of each block, ascending.

    It sorts by squared distances in float32 of coordinates rounded to float32; ties go
    to the home cell by index, then to images by (sub-cell, index).
    """
    wrapped, home, subcell = _wrap(points, box, periodic, rcut)
    image = shift + home[j] - home[i]  # shift between the wrapped positions
    here = wrapped[i].astype(np.float32)
    there = (wrapped[j] + image @ box).astype(np.float32)
    diff = there - here
    square = diff[:, 0] ** 2 + diff[:, 1] ** 2 + diff[:, 2] ** 2  # float32
    ghost = image.any(axis=1)
    ncell = _ncells(box, periodic, rcut)
    cell = np.where(ghost[:, None], subcell[j] + image * ncell, 0)
    order = np.lexsort((j, *cell.T[::-1], ghost, square, block))
    count = np.bincount(block)
    rank = np.arange(block.size) - np.repeat(np.cumsum(count) - count, count)
    limit = np.asarray(sel)[block[order] % len(sel)]
    return np.sort(order[rank < limit])


def _ncells(box: np.ndarray, periodic: np.ndarray, rcut: float) -> np.ndarray:
    """Number of sub-cells not narrower than the cutoff in each direction."""
    if not periodic.all():
        return np.ones(3, dtype=int)
    faces = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    return np.maximum(1, np.floor(faces / rcut).astype(int))


def _wrap(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, rcut: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in the cell, the lattice vectors taken off, and their sub-cells."""
    if not periodic.any():
        zero = np.zeros(points.shape, dtype=int)
        return points, zero, zero
    cell = np.where(periodic[:, None], box, 0.0)
    fraction = points @ np.linalg.pinv(cell)
    home = np.where(periodic, np.floor(fraction), 0).astype(int)
    inside = fraction - home
    subcell = np.floor(inside * _ncells(box, periodic, rcut)).astype(int)
    return points - home @ cell, home, subcell


def pad(
    frames: Sequence[Neighbors],
    slots: np.ndarray,
    points: np.ndarray,
    nslots: int,
    widths: Sequence[int],
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Lay ragged lists of several frames out in rectangular arrays.

    Parameters
    ----------
    frames : sequence of Neighbors, length nf
        The lists.
    slots : np.ndarray of int, shape (nf, ncentres)
        Row of each centre in the padded arrays, -1 to leave it out.
    points : np.ndarray of int, shape (nf, npoints)
        New number of each point.
    nslots : int
        Number of rows.
    widths : sequence of int, length nblocks
        Number of columns for each type of neighbour.

    Returns
    -------
    nlist : tuple of np.ndarray of int32, each of shape (nf, nslots, width)
        Neighbours by type, -1 in empty slots.
    shift : tuple of np.ndarray of int32, each of shape (nf, nslots, width, 3)
        Their lattice shifts.
    """
    nf = len(frames)
    start = np.concatenate([[0], np.cumsum(widths)])
    nlist = np.full((nf, nslots, start[-1]), -1, dtype=np.int32)
    shift = np.zeros((nf, nslots, start[-1], 3), dtype=np.int32)
    for frame, neighbors in enumerate(frames):
        centre, block, position = neighbors.slot
        row, column = slots[frame, centre], start[block] + position
        nlist[frame, row, column] = points[frame, neighbors.index]
        shift[frame, row, column] = neighbors.shift
    return (
        tuple(np.split(nlist, start[1:-1], axis=2)),
        tuple(np.split(shift, start[1:-1], axis=2)),
    )
