# SPDX-License-Identifier: Apache-2.0
"""From frames to a model's inputs: neighbours, atoms by type, arrays of few shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations

import numpy as np

from deepspin.data import nlist
from deepspin.spins.schemes import Scheme

# shapes are merged, to compile less, as long as that adds less than this to the work
MERGE_FREELY = 0.1
# more shapes than this are thinned out before all pairs are looked at
MANY_SHAPES = 64


@dataclass(frozen=True)
class Shape:
    """Sizes of the arrays of a batch; batches of equal shape share a compiled step."""

    nframes: int
    natoms: tuple[int, ...]  # slots for each type of atom
    widths: tuple[int, ...]  # slots of each list of neighbours

    def union(self, other: Shape) -> Shape:
        """Smallest shape that holds both."""
        return Shape(
            max(self.nframes, other.nframes),
            tuple(map(max, self.natoms, other.natoms)),
            tuple(map(max, self.widths, other.widths)),
        )

    @property
    def cost(self) -> float:
        """Work of a step: neighbour slots, and 40 for the fitting net of an atom."""
        return self.nframes * sum(self.natoms) * (sum(self.widths) + 40.0)


def merge_shapes(
    shapes: Sequence[Shape], weights: Sequence[float] | np.ndarray, max_shapes: int
) -> list[Shape]:
    """Replace shapes by few that hold them.

    The two whose union costs least are merged as long as there are more than
    `max_shapes`, or as all merging adds less than `MERGE_FREELY` to the work.

    Parameters
    ----------
    shapes : sequence of Shape
        Shapes wanted.
    weights : sequence of float
        How often each is used.
    max_shapes : int
        Most shapes in the result.
    """
    weight: dict[Shape, float] = {}
    for shape, w in zip(shapes, weights, strict=True):
        weight[shape] = weight.get(shape, 0.0) + float(w)
    target = {shape: shape for shape in weight}
    least = sum(w * shape.cost for shape, w in weight.items())

    def merge(group: Sequence[Shape]) -> None:
        both = reduce(Shape.union, group)
        total = sum(weight.pop(s) for s in group)
        weight[both] = weight.get(both, 0.0) + total
        for s, t in target.items():
            target[s] = both if t in group else t

    def extra(pair: tuple[Shape, Shape]) -> float:
        both = pair[0].union(pair[1])
        return sum(weight[s] * (both.cost - s.cost) for s in pair)

    if len(weight) > MANY_SHAPES:  # too many for all pairs: neighbours in size first
        by_cost = sorted(weight, key=lambda s: s.cost)
        size = math.ceil(len(by_cost) / MANY_SHAPES)
        for k in range(0, len(by_cost), size):
            merge(by_cost[k : k + size])
    while len(weight) > 1:
        pair = min(combinations(weight, 2), key=extra)
        work = sum(w * s.cost for s, w in weight.items()) + extra(pair)
        if len(weight) <= max_shapes and work > (1.0 + MERGE_FREELY) * least:
            break
        merge(pair)
    return [target[shape] for shape in shapes]


def neighbors_of_frame(
    coord: np.ndarray,
    spin: np.ndarray,
    atype: np.ndarray,
    box: np.ndarray,
    pbc: bool | Sequence[bool] | np.ndarray,
    scheme: Scheme,
    rcut: float,
    sel: Sequence[int] | None,
    search: nlist.Search | None = None,
) -> nlist.Neighbors:
    """Neighbours of the atoms of one frame among all that the scheme lets them see.

    In the scheme's lists; `sel` and the answer's `found` are of its blocks.
    """
    points, lists = scheme.points(coord, spin, atype)
    blocks = list(scheme.list_blocks)
    result = nlist.build(
        points,
        lists,
        len(coord),
        box,
        pbc,
        rcut,
        len(blocks),
        None if sel is None else [sel[block] for block in blocks],
        owners=np.arange(len(points)) % len(coord),
        search=search,
    )
    found = np.zeros(scheme.nblocks, dtype=result.found.dtype)
    np.maximum.at(found, blocks, result.found)
    return replace(result, found=found)


def sort_by_type(atype: np.ndarray, natoms: Sequence[int]) -> np.ndarray:
    """Slot of each atom when atoms are sorted by type into blocks of given sizes.

    Parameters
    ----------
    atype : np.ndarray of int, shape (nf, nloc)
        Types, -1 for no atom.
    natoms : sequence of int, length ntypes
        Size of each type's block.

    Returns
    -------
    np.ndarray of int, shape (nf, nloc)
        Slots, -1 for no atom.
    """
    slots = np.full(atype.shape, -1)
    begin = 0
    for t, size in enumerate(natoms):
        here = atype == t
        slots[here] = (begin + np.cumsum(here, axis=1) - 1)[here]
        begin += size
    return slots


def collate(
    coord: np.ndarray,
    spin: np.ndarray,
    box: np.ndarray,
    atype: np.ndarray,
    neighbors: Sequence[nlist.Neighbors],
    shape: Shape,
    fparam: np.ndarray | None = None,
) -> tuple[dict, np.ndarray]:
    """Inputs of `SpinEnergyModel` for frames of one system, padded to `shape`.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nf, nloc, 3)
        Positions (Å) and spins (μ_B).
    box : np.ndarray, shape (nf, 3, 3)
        Lattice vectors in Å.
    atype : np.ndarray of int, shape (nf, nloc)
        Types, -1 for no atom.
    neighbors : sequence of Neighbors, length nf
        Neighbour lists.
    shape : Shape
        Sizes of the result; at least those of the frames.
    fparam : np.ndarray, shape (nf, numb_fparam), optional
        Frame parameters, for a model that takes some.

    Returns
    -------
    inputs : dict
        See `SpinEnergyModel`.
    slots : np.ndarray of int, shape (nf, nloc)
        Row of each atom in the result, -1 for no atom.
    """
    nslots, nloc = sum(shape.natoms), coord.shape[1]
    slots = sort_by_type(atype, shape.natoms)
    lists, shifts = nlist.pad(
        neighbors,
        slots,
        points_in_rows(neighbors, slots, nslots),
        nslots,
        shape.widths,
    )
    filled = scatter(np.ones((len(coord), nloc), dtype=bool), slots, nslots)
    inputs = {
        "coord": scatter(coord, slots, nslots),
        "spin": scatter(spin, slots, nslots),
        "box": box,
        "mask": tuple(np.split(filled, np.cumsum(shape.natoms)[:-1], axis=1)),
        "nlist": lists,
        "shift": shifts,
        **({} if fparam is None else {"fparam": fparam}),
    }
    extra = shape.nframes - len(coord)
    return pad_frames(inputs, extra), slots


def points_in_rows(
    neighbors: Sequence[nlist.Neighbors], slots: np.ndarray, nslots: int
) -> np.ndarray:
    """New number of each point: one of any kind moves with its atom, (nf, npoints)."""
    last = max((int(own.index.max(initial=0)) for own in neighbors), default=0)
    kinds = range(1 + last // slots.shape[1])
    return np.concatenate([slots + kind * nslots for kind in kinds], axis=1)


def scatter(values: np.ndarray, slots: np.ndarray, nslots: int) -> np.ndarray:
    """Move per-atom values (nf, nloc, ...) to their slots, zeros elsewhere."""
    result = np.zeros((len(values), nslots, *values.shape[2:]), dtype=values.dtype)
    frame, atom = np.nonzero(slots >= 0)
    result[frame, slots[frame, atom]] = values[frame, atom]
    return result


def pad_frames(arrays: dict, extra: int) -> dict:
    """Append frames without atoms."""
    if extra == 0:
        return arrays

    def pad(key: str, array: np.ndarray) -> np.ndarray:
        fill = -1 if key == "nlist" else 0
        more = np.full((extra, *array.shape[1:]), fill, dtype=array.dtype)
        return np.concatenate([array, more])

    return {
        key: tuple(pad(key, a) for a in value)
        if isinstance(value, tuple)
        else pad(key, value)
        for key, value in arrays.items()
    }
