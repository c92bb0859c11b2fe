# SPDX-License-Identifier: Apache-2.0
"""Training data: systems, their neighbour lists, and batches of fixed shapes."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial, reduce
from itertools import combinations
from typing import Any

import numpy as np

from deepspin import keys
from deepspin.data import nlist
from deepspin.data.files import DataError, find_systems
from deepspin.data.sampling import batch_sizes, probabilities
from deepspin.data.systems import System, load_systems
from deepspin.spins.virtual import VirtualAtoms

log = logging.getLogger(__name__)

# no atoms come closer than this (Å), not even hydrogen
MIN_BOND = 0.5
# a data set is padded to at most so many shapes, each of which is compiled once
MAX_SHAPES = 8
# shapes are merged, to compile less, as long as that adds less than this to the work
MERGE_FREELY = 0.1
# more shapes than this are thinned out before all pairs are looked at
MANY_SHAPES = 64
# systems are drawn in chunks of so many steps
CHUNK = 4096
# frames are kept as batches need them if that takes at most so many bytes
MAX_TABLES = 2**30
# so many steps are planned at once, and no more than these are ever made
PLAN_AHEAD, ENDLESS = 256, 2**60
ATOM_LABELS = (keys.FORCE, keys.FORCE_MAG, keys.ATOM_ENER, keys.ATOM_ENER_COEFF)
FRAME_LABELS = (keys.ENERGY, keys.VIRIAL)


@dataclass(frozen=True)
class Shape:
    """Sizes of the arrays of a batch; batches of equal shape share a compiled step."""

    nframes: int
    natoms: tuple[int, ...]  # slots for each type of atom
    widths: tuple[int, ...]  # slots for each type of neighbour

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
    scheme: VirtualAtoms,
    rcut: float,
    sel: Sequence[int] | None,
    search: nlist.Search | None = None,
) -> nlist.Neighbors:
    """Neighbours of the atoms of one frame among atoms and virtual atoms."""
    return nlist.build(
        *scheme.extend(coord, spin, atype),
        len(coord),
        box,
        pbc,
        rcut,
        scheme.ntypes_extended,
        sel,
        owners=np.tile(np.arange(len(coord)), 2),
        search=search,
    )


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
    points = np.concatenate([slots, slots + nslots], axis=1)
    lists, shifts = nlist.pad(neighbors, slots, points, nslots, shape.widths)
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
    return _pad_frames(inputs, extra), slots


def scatter(values: np.ndarray, slots: np.ndarray, nslots: int) -> np.ndarray:
    """Move per-atom values (nf, nloc, ...) to their slots, zeros elsewhere."""
    result = np.zeros((len(values), nslots, *values.shape[2:]), dtype=values.dtype)
    frame, atom = np.nonzero(slots >= 0)
    result[frame, slots[frame, atom]] = values[frame, atom]
    return result


def _pad_frames(arrays: dict, extra: int) -> dict:
    """Append frames without atoms."""
    if extra == 0:
        return arrays

    def pad(key: str, array: np.ndarray) -> np.ndarray:
        fill = -1 if key == "nlist" else 0
        width = [(0, extra)] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, width, constant_values=fill)

    return {
        key: tuple(pad(key, a) for a in value)
        if isinstance(value, tuple)
        else pad(key, value)
        for key, value in arrays.items()
    }


def _join(parts: Sequence[dict]) -> dict:
    """Frames of several dicts of arrays, one after another."""

    def join(*arrays: Any) -> Any:
        if isinstance(arrays[0], tuple):
            return tuple(map(join, *arrays))
        return np.concatenate(arrays)

    return {key: join(*(part[key] for part in parts)) for key in parts[0]}


def _check_arguments(
    spin: VirtualAtoms, rcut: float, sel: Sequence[int] | None, seed: int | None
) -> None:
    """Check what the constructor of `DataSystem` was given for the model's sake."""
    if not isinstance(spin, VirtualAtoms):
        raise TypeError(
            "`spin` must be a spin scheme, such as `model.spin.scheme`. Received: "
            f"{type(spin).__name__}"
        )
    if not 0 < rcut < math.inf:
        raise ValueError(f"`rcut` must be a length in Å above 0. Received: {rcut}")
    if sel is not None and (len(sel) != spin.ntypes_extended or min(sel) < 0):
        raise ValueError(
            f"`sel` must have {spin.ntypes_extended} numbers from 0 on: one for each "
            "type, and one for each spin type's virtual atoms, which "
            f"`spin.extend_sel(sel)` appends. Received: {list(sel)}"
        )
    if seed is not None and seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Received: {seed}")


class DataSystem:
    """Systems to train on or to test on, served as batches.

    Each batch holds frames of one system. Which ones is a pure function of the seed and
    the step: systems are drawn by their probabilities, and the frames of a system come
    in a new random order each time all have been seen.

    Neighbour lists are built once, at construction. Batches are padded to few shapes,
    see `shapes`.

    Parameters
    ----------
    systems : str or sequence of str
        A system, a folder that is searched for systems, or a list of them; folders or
        ``file.hdf5#/group``.
    type_map : sequence of str
        Names of the types.
    spin : VirtualAtoms
        Which types carry a spin.
    rcut : float
        Cutoff in Å.
    sel : sequence of int, optional
        Largest number of neighbours of each type, virtual ones included; the farther
        ones are left out and counted. None keeps all.
    batch_size : int, sequence of int, or str
        Frames in a batch, for all systems or for each; ``"auto"`` or ``"auto:N"``: as
        many as hold at least 32 or N atoms.
    auto_prob : str
        Probability of a system: ``"prob_uniform"``, ``"prob_sys_size"`` (its number of
        batches) or ``"prob_sys_size;0:2:0.3;2:8:0.7"`` (systems 0 and 1 share 0.3;
        one that is in no block is never drawn).
    sys_probs : sequence of float, optional
        Weights of the systems, instead of `auto_prob`.
    rglob_patterns : sequence of str, optional
        Patterns that systems below the folders `systems` must match.
    seed : int, optional
        Seed of the order.
    max_shapes : int
        Most shapes that batches are padded to.
    allow_zero_spin : bool
        Accept a spin of modulus 0 (needs `env_protection`).
    numb_fparam : int
        Number of frame parameters, which each set then needs in ``fparam``.

    Raises
    ------
    DataError
        Anything wrong with the data, with file, frame, atom and the fix.
    TypeError, ValueError
        Anything wrong with the other arguments.
    """

    def __init__(
        self,
        systems: str | Sequence[str],
        type_map: Sequence[str],
        spin: VirtualAtoms,
        rcut: float,
        sel: Sequence[int] | None = None,
        *,
        batch_size: int | str | Sequence[int] = "auto",
        auto_prob: str = "prob_sys_size",
        sys_probs: Sequence[float] | None = None,
        rglob_patterns: Sequence[str] | None = None,
        seed: int | None = None,
        max_shapes: int = MAX_SHAPES,
        allow_zero_spin: bool = False,
        numb_fparam: int = 0,
    ):
        _check_arguments(spin, rcut, sel, seed)
        self.type_map, self.spin = list(type_map), spin
        self.rcut, self.sel = rcut, None if sel is None else tuple(sel)
        self.seed = 0 if seed is None else int(seed)
        paths = find_systems(systems, rglob_patterns)
        self.systems = load_systems(
            paths, self.type_map, spin, allow_zero_spin, numb_fparam
        )
        # labels that some system has
        self.labels = [
            key.name
            for key in (*FRAME_LABELS, *ATOM_LABELS)
            if any(key.name in system.labels for system in self.systems)
        ]
        self._neighbors = [self._build_lists(system) for system in self.systems]
        if self.nearest_real < MIN_BOND:
            log.warning(
                "the nearest atoms are %.3g Å apart: are all lengths in Å?",
                self.nearest_real,
            )
        self.batch_sizes = batch_sizes(batch_size, self.systems)
        self.probabilities = probabilities(
            auto_prob, sys_probs, self.systems, self.nbatches
        )
        self.max_shapes = max_shapes
        self.shapes = self._merge_shapes()
        self._lock = threading.Lock()  # several threads may draw batches
        self._draws: list[np.ndarray] = []  # systems of each chunk of steps
        self._drawn = [np.array([0] * len(self.systems))]  # before each chunk
        self._order = lru_cache(maxsize=256)(self._permutation)

    # -- what there is -------------------------------------------------------------

    @property
    def nbatches(self) -> list[int]:
        """Batches in one pass over each system."""
        return [
            s.nframes // b for s, b in zip(self.systems, self.batch_sizes, strict=True)
        ]

    @property
    def found(self) -> np.ndarray:
        """Largest number of neighbours of each type, virtual ones last."""
        lists = [n.found for frames in self._neighbors for n in frames]
        return np.max(lists, axis=0)

    @property
    def nearest(self) -> float:
        """Smallest distance in Å of an atom or virtual atom from an atom."""
        return min(n.nearest for frames in self._neighbors for n in frames)

    @property
    def nearest_real(self) -> float:
        """Smallest distance in Å between atoms, infinite if all exceed the cutoff."""
        return min(n.nearest_centres for frames in self._neighbors for n in frames)

    @property
    def dropped(self) -> int:
        """Number of neighbours left out beyond `sel`, in all frames."""
        return sum(n.dropped for frames in self._neighbors for n in frames)

    @property
    def names_extended(self) -> list[str]:
        """Names of the types of neighbours, those of virtual atoms last."""
        return self.spin.neighbor_names(self.type_map)

    def suggest_sel(self, ratio: float = 1.0) -> list[int]:
        """Numbers for the option `sel` that hold all neighbours, times `ratio`.

        Rounded up to a multiple of 4, for each real type and its virtual atoms.
        """
        need = self.found[: self.spin.ntypes].copy()
        for k, t in enumerate(self.spin.spin_types):
            need[t] = max(need[t], self.found[self.spin.ntypes + k])
        return [max(4, 4 * math.ceil(n * ratio / 4)) for n in need]

    def overflow(self) -> list[tuple[int, int, int]]:
        """Types whose neighbours exceed `sel`: (extended type, found, sel)."""
        if self.sel is None:
            return []
        rows = zip(range(len(self.sel)), map(int, self.found), self.sel, strict=True)
        return [row for row in rows if row[1] > row[2]]

    def truncate(self, sel: Sequence[int]) -> None:
        """Set `sel`, virtual types included, and leave out the neighbours beyond it."""
        before = self.overflow()
        self.sel = tuple(sel)
        if before or self.overflow():
            self._neighbors = [self._build_lists(system) for system in self.systems]
            self.shapes = self._merge_shapes()

    # -- construction ----------------------------------------------------------------

    def _build_lists(self, system: System) -> list[nlist.Neighbors]:
        def of_frame(f: int) -> nlist.Neighbors:
            try:
                return neighbors_of_frame(
                    system.coord[f],
                    system.spin[f],
                    system.atype[f],
                    system.box[f],
                    system.pbc,
                    self.spin,
                    self.rcut,
                    self.sel,
                )
            except ValueError as error:
                raise DataError(f"{system.where(f)}: {error}") from error

        return [of_frame(f) for f in range(system.nframes)]

    def _merge_shapes(self) -> list[Shape]:
        """Shape of each system's batches, at most `max_shapes` different ones."""
        own = []
        for system, lists, nf in zip(
            self.systems, self._neighbors, self.batch_sizes, strict=True
        ):
            natoms = [
                (system.atype == t).sum(axis=1).max() for t in range(self.spin.ntypes)
            ]
            widths = np.max([n.count.max(axis=0, initial=1) for n in lists], axis=0)
            own.append(Shape(nf, tuple(map(int, natoms)), tuple(map(int, widths))))
        return merge_shapes(own, self.probabilities, self.max_shapes)

    # -- batches -----------------------------------------------------------------------

    def plan(self, step: int) -> tuple[int, np.ndarray]:
        """System and frames of the batch of a step."""
        chunk, rest = divmod(step, CHUNK)
        nsys = len(self.systems)
        with self._lock:
            while len(self._draws) <= chunk:
                random = np.random.default_rng([self.seed, 1, len(self._draws)])
                draw = random.choice(nsys, size=CHUNK, p=self.probabilities)
                self._draws.append(draw.astype(np.int32))
                self._drawn.append(self._drawn[-1] + np.bincount(draw, minlength=nsys))
        draws = self._draws[chunk]
        system = int(draws[rest])
        before = self._drawn[chunk][system] + np.count_nonzero(draws[:rest] == system)
        return system, self._frames(system, int(before))

    def _frames(self, system: int, draw: int) -> np.ndarray:
        epoch, k = divmod(draw, self.nbatches[system])
        size = self.batch_sizes[system]
        return self._order(system, epoch)[k * size : (k + 1) * size]

    def _permutation(self, system: int, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, 2, system, epoch])
        return random.permutation(self.systems[system].nframes)

    def frames(self, system: int, frames: np.ndarray) -> tuple[dict, dict]:
        """Inputs and labels of given frames of a system, as numpy arrays."""
        return self._arrays(system, frames, self.shapes[system].nframes)

    def _arrays(self, system: int, frames: np.ndarray, size: int) -> tuple[dict, dict]:
        """The same, with empty frames to make up `size`."""
        data, shape = self.systems[system], replace(self.shapes[system], nframes=size)
        fparam = data.fparam[frames] if data.fparam.size else None
        inputs, slots = collate(
            data.coord[frames],
            data.spin[frames],
            data.box[frames],
            data.atype[frames],
            [self._neighbors[system][f] for f in frames],
            shape,
            fparam,
        )
        nslots, nf = sum(shape.natoms), len(frames)
        labels = {"natoms": data.natoms_loss[frames]}
        for key in (*FRAME_LABELS, *ATOM_LABELS):
            if key.name not in self.labels:
                continue
            found = key.name in data.labels
            tail = [n for n in key.shape[1:] if isinstance(n, int)]
            atomic = key in ATOM_LABELS
            if not found:
                value = np.zeros([nf, *([nslots] if atomic else []), *tail])
            else:
                value = data.labels[key.name][frames]
                value = scatter(value, slots, nslots) if atomic else value
            if key is keys.ATOM_ENER_COEFF and not found:
                value += 1.0
            labels[key.name] = value
            labels[f"find_{key.name}"] = np.full(nf, float(found))
        return inputs, _pad_frames(labels, size - nf)

    def batch(self, step: int) -> tuple[dict, dict]:
        """Inputs and labels of the batch of a step, as numpy arrays."""
        return self.frames(*self.plan(step))

    def sample(self, nbatches: int) -> Iterator[tuple[dict, dict]]:
        """First `nbatches` batches of every system, for statistics."""
        for system in range(len(self.systems)):
            for k in range(nbatches):
                yield self.frames(system, self._frames(system, k))

    def dataset(self, start: int = 0, steps: int | None = None) -> Any:
        """Batches from step `start` on as a `tf.data.Dataset` of (inputs, labels).

        Parameters
        ----------
        start : int
            First step.
        steps : int, optional
            How many; without it the data set never ends.
        """
        import tensorflow as tf

        from deepspin.data import pipeline

        end = ENDLESS if steps is None else start + steps
        shapes = list(dict.fromkeys(self.shapes))
        if self._table_bytes() <= MAX_TABLES:
            tables = [self._table(shape) for shape in shapes]
            plan = partial(self._rows, start, end)
            data = pipeline.looked_up(plan, tables, [s.nframes for s in shapes])
        else:
            examples = [self.frames(s, np.arange(1)) for s in range(len(self.systems))]
            data = pipeline.drawn(lambda: map(self.batch, range(start, end)), examples)
        if steps is not None:
            data = data.apply(tf.data.experimental.assert_cardinality(steps))
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread may take a minute to end
        return data.prefetch(4).with_options(options)

    def _table_bytes(self) -> int:
        """Size of all tables: lists, and at most twenty numbers for an atom."""
        return sum(
            (system.nframes + 1) * sum(shape.natoms) * (16 * sum(shape.widths) + 160)
            for system, shape in zip(self.systems, self.shapes, strict=True)
        )

    def _table(self, shape: Shape) -> tuple[dict, dict]:
        """All frames of the systems of a shape, an empty one after each system."""
        parts = []
        for s, system in enumerate(self.systems):
            if self.shapes[s] == shape:
                everything = np.arange(system.nframes)
                parts.append(self._arrays(s, everything, system.nframes + 1))
        return _join([p[0] for p in parts]), _join([p[1] for p in parts])

    def _rows(self, start: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Table, and rows in it, of each batch; those of many batches at once."""
        shapes = list(dict.fromkeys(self.shapes))
        table = np.array([shapes.index(shape) for shape in self.shapes])
        size = np.array([system.nframes + 1 for system in self.systems])
        first = np.zeros_like(size)
        for t in range(len(shapes)):
            first[table == t] = np.cumsum(size[table == t]) - size[table == t]
        width = max(shape.nframes for shape in shapes)
        for begin in range(start, end, PLAN_AHEAD):
            steps = range(begin, min(begin + PLAN_AHEAD, end))
            plan = [self.plan(step) for step in steps]
            systems = np.array([system for system, _ in plan])
            empty = first[systems] + size[systems] - 1
            rows = np.repeat(empty[:, None], width, axis=1)
            for k, (system, frames) in enumerate(plan):
                rows[k, : len(frames)] = first[system] + frames
            yield table[systems].astype(np.int32), rows.astype(np.int32)
