# SPDX-License-Identifier: Apache-2.0
"""Neighbour lists: who is within the cutoff of whom, in integers.

A list holds neighbour indices and lattice shifts only; distances are computed from them
inside the model. Lists are made in two steps: a search through space for sites that are
not far apart, which serves as long as nothing moves far, and the choice of those points
at the sites that are within the cutoff now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vesin

from deepspin.op import neighbors as native

# most cells of vesin's grid
MAX_CELLS = 1e5
# most pairs that fit into memory, and how many of them an image of the cell counts for
MAX_PAIRS, IMAGE = 1e9, 64
# farthest that a point may be from the cell, in lattice vectors; int32 must hold it
MAX_TURNS = 1e8
# farthest that points may be from their owners, in cutoffs, to be sought by way of them
MAX_APART = 0.3
# least volume of a cell, its edges being 1
FLAT = 1e-9
# candidates are sought so much farther than they are relied on (Å), for rounding
ROUNDING = 1e-6


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
    coordination, closest : np.ndarray, shape (ncentres, nblocks)
        How many neighbours of each type a centre has, near ones counting most: the sum
        of (1 - r²/rcut²)⁴; and how near the nearest one is in Å, infinite without one.
        Both before truncation.
    """

    count: np.ndarray
    index: np.ndarray
    shift: np.ndarray
    found: np.ndarray
    dropped: int
    nearest: float
    nearest_centres: float
    coordination: np.ndarray
    closest: np.ndarray

    @property
    def slot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre, type and position within its block of each pair, shape (npairs,)."""
        ncentres, nblocks = self.count.shape
        flat = self.count.ravel()
        block = np.repeat(np.arange(ncentres * nblocks), flat)
        start = np.cumsum(flat) - flat
        return block // nblocks, block % nblocks, np.arange(block.size) - start[block]


@dataclass(frozen=True)
class Candidates:
    """Pairs of sites that may see each other, now and after small moves.

    Parameters
    ----------
    sites : np.ndarray, shape (nsites, 3)
        Positions in Å when they were sought.
    exists : np.ndarray of bool, shape (nsites,)
        Which sites there are.
    box, periodic : np.ndarray
        Lattice vectors then, and periodic directions.
    cutoff : float
        All pairs closer than this (Å) are there, and maybe more.
    start : np.ndarray of int64, shape (nsites + 1,)
        Where the partners of each site begin in `table`.
    table : np.ndarray of int32, shape (2 npairs + nsites, 4)
        Partner and lattice shift, each site's sorted; a site is its own partner too.
    shift_dtype : np.dtype
        Integers that hold the shifts.
    """

    sites: np.ndarray
    exists: np.ndarray
    box: np.ndarray
    periodic: np.ndarray
    cutoff: float
    start: np.ndarray
    table: np.ndarray
    shift_dtype: np.dtype

    def hold(
        self,
        sites: np.ndarray,
        exists: np.ndarray,
        box: np.ndarray,
        periodic: np.ndarray,
        cutoff: float,
    ) -> bool:
        """Whether all pairs within `cutoff` are there, sites being where they are now.

        A separation d that was turns into d F + u, with the strain F of the cell and
        moves u of both ends: it was at most (cutoff + |u|) / (least stretch by F).
        """
        if not (
            np.array_equal(exists, self.exists)
            and np.array_equal(periodic, self.periodic)
        ):
            return False
        before, stretch = self.sites, 1.0
        if not np.array_equal(box[periodic], self.box[periodic]):
            if not periodic.all():
                return False
            strain = np.linalg.solve(self.box, box)
            stretch = np.linalg.svd(strain, compute_uv=False)[-1]
            before = self.sites @ strain
        moves = (sites - before)[exists]
        farthest = np.sqrt((moves**2).sum(axis=1).max(initial=0.0))
        return cutoff + 2 * farthest + ROUNDING <= self.cutoff * stretch


class Search:
    """Seeks candidates, and keeps the last ones for as long as they hold.

    Parameters
    ----------
    skin : float
        How much farther to seek than asked, in Å. Larger: fewer searches, each slower.
    """

    def __init__(self, skin: float):
        self.skin = skin
        self._last: Candidates | None = None

    def within(
        self,
        cutoff: float,
        sites: np.ndarray,
        exists: np.ndarray,
        box: np.ndarray,
        periodic: np.ndarray,
    ) -> Candidates:
        """Candidates for pairs of sites within `cutoff`."""
        last = self._last  # another thread may set it
        if last is None or not last.hold(sites, exists, box, periodic, cutoff):
            last = _seek(sites, exists, box, periodic, cutoff + self.skin + ROUNDING)
            self._last = last
        return last


def build(
    points: np.ndarray,
    types: np.ndarray,
    ncentres: int,
    box: np.ndarray,
    pbc: bool | Sequence[bool] | np.ndarray,
    rcut: float,
    nblocks: int,
    sel: Sequence[int] | None = None,
    *,
    owners: np.ndarray | None = None,
    search: Search | None = None,
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
    owners : np.ndarray of int, shape (npoints,), optional
        For each point a centre close by, itself for a centre; ascending within each
        type. The search is among these only. It changes nothing else.
    search : Search, optional
        Keeps candidates from call to call. It changes nothing else.

    Raises
    ------
    ValueError
        Points or lattice vectors that span far more than any real system, or lattice
        vectors that span no volume.
    MemoryError
        The neighbours do not fit into memory.
    """
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    exists = np.flatnonzero(types >= 0)
    reach = 0.0
    if owners is not None:
        apart = (points - points[owners])[exists]
        reach = np.sqrt((apart**2).sum(axis=1).max(initial=0.0))
    if owners is None or not reach <= MAX_APART * rcut:
        owners, reach = np.arange(len(points)), 0.0
    nsites = max(ncentres, int(owners.max(initial=-1)) + 1)
    candidates = (Search(skin=0.0) if search is None else search).within(
        rcut + reach, points[:nsites], types[:nsites] >= 0, box, periodic
    )
    own = owners[exists]
    members = (
        np.concatenate([[0], np.cumsum(np.bincount(own, minlength=nsites))]),
        exists[np.argsort(own, kind="stable")],
    )
    choose = _select if native.library() is None else native.select
    count, j, shift, coordination, closest, nearest, nearest_centres = choose(
        (candidates.start, candidates.table),
        members,
        types,
        points,
        np.where(periodic[:, None], box, 0.0),
        rcut,
        (ncentres, nblocks),
        candidates.shift_dtype,
    )
    total, found = len(j), count.max(axis=0, initial=0)
    if sel is not None and (found > np.asarray(sel)).any():
        i = np.repeat(np.arange(ncentres), count.sum(axis=1))
        block = i * nblocks + types[j]
        kept = _nearest(points, box, periodic, i, j, shift, block, rcut, sel)
        j, shift, count = j[kept], shift[kept], np.minimum(count, sel)
    return Neighbors(
        count=count.astype(np.int32, copy=False),
        index=j,
        shift=shift,
        found=found.astype(np.int32),
        dropped=total - len(j),
        nearest=nearest,
        nearest_centres=nearest_centres,
        coordination=coordination,
        closest=closest,
    )


def _seek(
    sites: np.ndarray,
    exists: np.ndarray,
    box: np.ndarray,
    periodic: np.ndarray,
    cutoff: float,
) -> Candidates:
    """Search through space for all pairs within `cutoff`."""
    cell, closed = _complete(box, periodic), sites.copy()
    closed[exists] = _close_gaps(sites[exists], cell, periodic, cutoff)
    _check_extent(closed[exists], cell, periodic, cutoff)
    find = _find if native.library() is None else native.seek
    start, table, largest = find(closed, exists, cell, periodic, cutoff)
    return Candidates(
        sites=sites.copy(),
        exists=exists,
        box=box.copy(),
        periodic=periodic,
        cutoff=cutoff,
        start=start,
        table=table,
        shift_dtype=np.dtype(np.int8 if largest < 128 else np.int32),
    )


def _find(
    sites: np.ndarray,
    exists: np.ndarray,
    cell: np.ndarray,
    periodic: np.ndarray,
    cutoff: float,
) -> tuple[np.ndarray, np.ndarray, int]:
    """`start` and `table` of `Candidates`, and the largest number in a shift."""
    there = sites[exists]
    if len(there) == 0:
        none = np.zeros((0, 3), dtype=int)
        return *_partners(len(sites), none[:, 0], none[:, 0], none), 0
    # a cluster has no pairs beyond its size, and vesin would look for their cells
    size = np.linalg.norm(np.ptp(there, axis=0)) + 1.0
    search = vesin.NeighborList(
        cutoff=cutoff if periodic.any() else min(cutoff, size), full_list=False
    )
    i, j, shift = search.compute(
        points=there,
        box=np.where(periodic[:, None], cell, 0.0),
        periodic=periodic,
        quantities="ijS",
        copy=False,
    )
    if not exists.all():
        i, j = (np.flatnonzero(exists)[k] for k in (i, j))
    return *_partners(len(sites), i, j, shift), int(np.abs(shift).max(initial=0))


def _partners(
    nsites: int, i: np.ndarray, j: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Partners of each site, both ways round and itself: `start` and `table`."""
    own, i, j = np.arange(nsites), i.astype(np.int64), j.astype(np.int64)
    here = np.concatenate([own, i, j])
    there = np.concatenate([own, j, i])
    image = np.concatenate([np.zeros((nsites, 3), dtype=shift.dtype), shift, -shift])
    order = np.lexsort((*image.T[::-1], there, here))
    start = np.concatenate([[0], np.cumsum(np.bincount(here, minlength=nsites))])
    table = np.concatenate([there[:, None], image], axis=1)[order]
    return start.astype(np.int64), table.astype(np.int32)


def _select(
    partners: tuple[np.ndarray, np.ndarray],
    members: tuple[np.ndarray, np.ndarray],
    types: np.ndarray,
    points: np.ndarray,
    box: np.ndarray,
    rcut: float,
    shape: tuple[int, int],
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Points of the centres' partners within the cutoff.

    Counts, points and shifts sorted by (centre, type, point, shift); `coordination` and
    `closest` of `Neighbors`; the least distance of all pairs and of pairs of centres.
    """
    (start, table), (first, member), (ncentres, nblocks) = partners, members, shape
    table = table[: start[ncentres]]
    each = np.diff(first)[table[:, 0]]  # points at each partner
    i = np.repeat(np.repeat(np.arange(ncentres), np.diff(start[: ncentres + 1])), each)
    table = np.repeat(table, each, axis=0)
    place = np.arange(len(table)) - np.repeat(np.cumsum(each) - each, each)
    j, shift = member[first[table[:, 0]] + place], table[:, 1:]
    image = sum(shift[:, k : k + 1] * box[k] for k in range(3))
    away = points[j] + image - points[i]
    square = away[:, 0] ** 2 + away[:, 1] ** 2 + away[:, 2] ** 2
    near = (square < rcut**2) & ((i != j) | shift.any(axis=1))
    i, j, shift, square = i[near], j[near], shift[near], square[near]
    distance, block = np.sqrt(square), i * nblocks + types[j]
    order = np.argsort(block, kind="stable")
    size = ncentres * nblocks
    weight = (1.0 - square / (rcut * rcut)) ** 2
    closest = np.full(size, np.inf)
    np.minimum.at(closest, block, distance)
    return (
        np.bincount(block, minlength=size).reshape(shape).astype(np.int32),
        j[order].astype(np.int32),
        shift[order].astype(dtype),
        np.bincount(block, weight * weight, minlength=size).reshape(shape),
        closest.reshape(shape),
        float(distance.min(initial=np.inf)),
        float(distance[j < ncentres].min(initial=np.inf)),
    )


def _complete(box: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Lattice vectors, and in open directions unit vectors at right angles to all."""
    cell = np.where(periodic[:, None], box, 0.0)
    rank = np.count_nonzero(periodic)
    if rank < 3:
        cell[~periodic] = np.linalg.svd(cell)[2][rank:]
    lengths = np.linalg.norm(cell, axis=1)
    if not abs(np.linalg.det(cell)) > FLAT * lengths.prod():
        raise ValueError(
            f"the lattice vectors {box[periodic].tolist()} span no volume. Give "
            "independent ones; a direction without periodicity needs none."
        )
    return cell


def _check_extent(
    points: np.ndarray, cell: np.ndarray, periodic: np.ndarray, rcut: float
) -> None:
    """Refuse what takes for ever or all memory, and what vesin cannot do.

    Its grid has at most `MAX_CELLS` cells; if a cell of the width `rcut` makes more, it
    takes wider ones, of the same ratios, and fails if that leaves none on a thin side.
    """
    if len(points) == 0:
        return
    inverse, rank = np.linalg.inv(cell), np.count_nonzero(periodic)
    turns = np.abs(points @ np.where(periodic, inverse, 0.0)).max()
    if not turns < MAX_TURNS:
        raise ValueError(
            f"a point is {turns:.3g} lattice vectors away from the cell. Wrap "
            "coordinates into it, and check that they are in Å."
        )
    width = 1.0 / np.linalg.norm(inverse[:, periodic], axis=0)
    open_width = np.ptp(points @ inverse[:, ~periodic], axis=0)
    width = np.concatenate([width, open_width])  # (3,)
    reach = 2 * rcut / np.maximum(width, 1e-9)  # part of all points, or how many images
    reach[rank:] = np.minimum(reach[rank:], 1.0)
    if (pairs := max(len(points) ** 2, IMAGE) * reach.prod()) > MAX_PAIRS:
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
    points: np.ndarray, cell: np.ndarray, periodic: np.ndarray, rcut: float
) -> np.ndarray:
    """Move points together along open directions, leaving their neighbours the same.

    Only gaps wider than twice the cutoff shrink, to that width. vesin's grid of cells
    fails, or is slow, on points spread very wide.
    """
    for direction in cell[~periodic]:  # at right angles to the others
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
    size = len(frames), nslots
    nlist = tuple(np.empty((*size, width), dtype=np.int32) for width in widths)
    shift = tuple(np.empty((*size, width, 3), dtype=np.int32) for width in widths)
    fill = _fill if native.library() is None else native.fill
    for frame, neighbors in enumerate(frames):
        centres = np.full(nslots, -1)
        there = np.flatnonzero(slots[frame] >= 0)
        centres[slots[frame, there]] = there
        fill(
            (neighbors.count, neighbors.index, neighbors.shift),
            centres,
            points[frame],
            [block[frame] for block in nlist],
            [block[frame] for block in shift],
        )
    return nlist, shift


def _fill(
    ragged: tuple[np.ndarray, np.ndarray, np.ndarray],
    centres: np.ndarray,
    names: np.ndarray,
    nlist: Sequence[np.ndarray],
    shift: Sequence[np.ndarray],
) -> None:
    """Write one frame's count, index and shift into the rows of `nlist` and `shift`.

    `centres` are those of the rows, -1 for none; `names` the new numbers of points.
    """
    count, index, image = ragged
    start = (np.cumsum(count) - count.ravel()).reshape(count.shape)
    count = np.where(centres[:, None] >= 0, count[centres], 0)
    for e, (names_of, image_of) in enumerate(zip(nlist, shift, strict=True)):
        row, column = np.nonzero(np.arange(names_of.shape[1]) < count[:, e : e + 1])
        pair = start[centres[row], e] + column
        names_of[:], image_of[:] = -1, 0
        names_of[row, column] = names[index[pair]]
        image_of[row, column] = image[pair]
