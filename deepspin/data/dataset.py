# SPDX-License-Identifier: Apache-2.0
"""Training data: systems, their neighbour lists, and batches of fixed shapes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin import env, keys
from deepspin.data import memory, nlist
from deepspin.data.augmentation import random_turns, turned
from deepspin.data.checks import check_arguments
from deepspin.data.collate import (
    Shape,
    collate,
    merge_shapes,
    neighbors_of_frame,
    pad_frames,
    scatter,
)
from deepspin.data.files import DataError, InMemory
from deepspin.data.find import find_systems
from deepspin.data.frames import System, present
from deepspin.data.lists import Lists
from deepspin.data.sampling import Order, batch_sizes, probabilities
from deepspin.data.scratch import scaled
from deepspin.data.systems import load_systems
from deepspin.spins.schemes import Scheme

if TYPE_CHECKING:
    import tensorflow as tf
    from ase import Atoms

log = logging.getLogger(__name__)

# no atoms come closer than this (Å), not even hydrogen
MIN_BOND = 0.5
# a data set is padded to at most so many shapes, each of which is compiled once
MAX_SHAPES = 8
# frames are kept as batches need them if that takes at most so many bytes
MAX_TABLES = 2**30
# so many steps are planned at once, and no more than these are ever made
PLAN_AHEAD, ENDLESS = 256, 2**60
WHOLE = (0, 1)  # part of a batch
ATOM_LABELS = (keys.FORCE, keys.FORCE_MAG, keys.ATOM_ENER, keys.ATOM_ENER_COEFF)
FRAME_LABELS = (keys.ENERGY, keys.VIRIAL)


def _join(parts: Sequence[dict]) -> dict:
    """Frames of several dicts of arrays, one after another."""

    def join(*arrays: Any) -> Any:
        if isinstance(arrays[0], tuple):
            return tuple(map(join, *arrays))
        return np.concatenate(arrays)

    return {key: join(*(part[key] for part in parts)) for key in parts[0]}


def suggest_sel(need: Sequence[int], ratio: float = 1.0) -> list[int]:
    """Numbers for the option `sel` from what each type needs, multiples of 4."""
    return [max(4, 4 * math.ceil(n * ratio / 4)) for n in need]


class Begin:
    """The step that a data set begins at, asked for each time it is begun.

    Attributes
    ----------
    ask : callable
        Tells the step; training sets it where no step was given.
    """

    def __init__(self, start: int | Callable[[], int] | None):
        self.ask = start if callable(start) else lambda: start or 0

    def __call__(self) -> int:
        """The step."""
        return int(self.ask())


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
    spin : Scheme
        Which types carry a spin, and how the model sees it.
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
    augmentation : sequence of str
        What is done to the frames of each batch at random, see
        `deepspin.data.augmentation`; that, too, is a pure function of the seed and the
        step. `frames`, `sample` and `spread` give them as they are.

    Raises
    ------
    DataError
        Anything wrong with the data, with file, frame, atom and the fix.
    TypeError, ValueError
        Anything wrong with the other arguments.
    """

    def __init__(
        self,
        systems: str | Sequence[str | InMemory],
        type_map: Sequence[str],
        spin: Scheme,
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
        augmentation: Sequence[str] = (),
    ):
        check_arguments(spin, rcut, sel, seed, augmentation)
        self.type_map, self.spin = list(type_map), spin
        self.rcut, self.sel = rcut, None if sel is None else tuple(sel)
        self.seed = 0 if seed is None else int(seed)
        self.augmentation = tuple(augmentation)
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
        self._lists = Lists(self.systems, self._build_lists)
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
        self._left_out = False  # a neighbour of turned spins
        self.shapes = self._merge_shapes()
        numbers = [system.nframes for system in self.systems]
        self._order = Order(self.seed, self.probabilities, numbers, self.batch_sizes)

    # -- from memory ----------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls, systems: Mapping | Iterable[Mapping], **options: Any
    ) -> DataSystem:
        """Make it of dicts of arrays, see `deepspin.data.memory.from_arrays`.

        `options` are the other arguments, such as ``**model.data_spec``.
        """
        return cls(memory.from_arrays(systems), **options)

    @classmethod
    def from_ase(
        cls,
        frames: Atoms | Iterable[Atoms],
        *,
        names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> DataSystem:
        """Make it of ASE's atoms, see `deepspin.data.memory.from_ase`.

        `options` are the other arguments, such as ``**model.data_spec``.
        """
        return cls(memory.from_ase(frames, names), **options)

    @classmethod
    def from_dataset(cls, data: tf.data.Dataset, **options: Any) -> DataSystem:
        """Make it of a data set of frames, see `deepspin.data.memory.from_dataset`.

        `options` are the other arguments, such as ``**model.data_spec``.
        """
        return cls(memory.from_dataset(data), **options)

    # -- what there is -------------------------------------------------------------

    @property
    def nbatches(self) -> list[int]:
        """Batches in one pass over each system."""
        return [
            s.nframes // b for s, b in zip(self.systems, self.batch_sizes, strict=True)
        ]

    def neighbors(self, system: int) -> Iterator[nlist.Neighbors]:
        """Neighbours of each frame of a system, in the scheme's lists."""
        return self._lists.all_of(system)

    @property
    def found(self) -> np.ndarray:
        """Largest number of neighbours of each type, virtual ones last."""
        return self._lists.found

    @property
    def nearest(self) -> float:
        """Smallest distance in Å of an atom or virtual atom from an atom."""
        return self._lists.nearest

    @property
    def nearest_real(self) -> float:
        """Smallest distance in Å between atoms, infinite if all exceed the cutoff."""
        return self._lists.nearest_centres

    @property
    def dropped(self) -> int:
        """Number of neighbours left out beyond `sel`, in all frames."""
        return self._lists.dropped

    @property
    def names_extended(self) -> list[str]:
        """Names of the types of neighbours, those of virtual atoms last."""
        return self.spin.neighbor_names(self.type_map)

    def suggest_sel(self, ratio: float = 1.0) -> list[int]:
        """Numbers for the option `sel` that hold all neighbours, times `ratio`.

        Rounded up to a multiple of 4, for each real type and its virtual atoms.
        """
        need = self.spin.largest_of_types(self.found)
        return suggest_sel(need, ratio)

    def scale_force_mag(self, factor: float) -> None:
        """Multiply the labels of all magnetic forces."""
        name = keys.FORCE_MAG.name
        for k, system in enumerate(self.systems):
            if name in system.labels and factor != 1.0:
                labels = {**system.labels, name: scaled(system.labels[name], factor)}
                self.systems[k] = replace(system, labels=labels)

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
            self._lists = Lists(self.systems, self._build_lists)
            self.shapes = self._merge_shapes()

    # -- construction ----------------------------------------------------------------

    def _build_lists(
        self,
        system: System,
        frames: Sequence[int] | np.ndarray,
        rcut: float | None = None,
        *,
        keep: bool = False,
    ) -> Iterator[nlist.Neighbors]:
        """Neighbours of frames, within `rcut`; `keep` those beyond `sel` too."""

        def of_frame(f: int) -> nlist.Neighbors:
            try:
                return neighbors_of_frame(
                    system.coord[f],
                    system.spin[f],
                    system.atype[f],
                    system.box[f],
                    system.pbc,
                    self.spin,
                    self.rcut if rcut is None else rcut,
                    None if keep else self.sel,
                )
            except ValueError as error:
                raise DataError(f"{system.where(f)}: {error}") from error

        return map(of_frame, frames)

    def _merge_shapes(self) -> list[Shape]:
        """Shape of each system's batches, at most `max_shapes` different ones."""
        own = []
        for system, widths, nf in zip(
            self.systems, self._lists.widths, self.batch_sizes, strict=True
        ):
            natoms = [
                (system.atype == t).sum(axis=1).max() for t in range(self.spin.ntypes)
            ]
            if self.augmentation:
                widths = np.maximum(widths, self._widest(system))
            own.append(Shape(nf, tuple(map(int, natoms)), tuple(map(int, widths))))
        return merge_shapes(own, self.probabilities, self.max_shapes)

    def _widest(self, system: System) -> np.ndarray:
        """Slots for each list of neighbours however all spins turn."""
        modulus = np.linalg.norm(system.spin, axis=2)
        reach = float(self.spin.reach(system.atype, modulus).max(initial=0.0))
        if not reach:
            return np.ones(len(self.spin.list_blocks), dtype=int)
        still = np.zeros_like(system.spin)
        wider = replace(system, spin=still)
        everything = range(system.nframes)
        lists = self._build_lists(wider, everything, self.rcut + reach, keep=True)
        most = np.max([n.count.max(axis=0, initial=1) for n in lists], axis=0)
        if self.sel is not None:
            most = np.minimum(most, [self.sel[b] for b in self.spin.list_blocks])
        return np.maximum(most, 1)

    # -- batches -----------------------------------------------------------------------

    def plan(self, step: int) -> tuple[int, np.ndarray]:
        """System and frames of the batch of a step."""
        return self._order.plan(step)

    def frames(self, system: int, frames: np.ndarray) -> tuple[dict, dict]:
        """Inputs and labels of given frames of a system, as numpy arrays."""
        return self._stored(system, frames, self.shapes[system].nframes)

    def _stored(self, system: int, frames: np.ndarray, size: int) -> tuple[dict, dict]:
        """The same, with empty frames to make up `size`."""
        lists = self._lists.of(system, frames)
        shape = replace(self.shapes[system], nframes=size)
        return self._arrays(self.systems[system], frames, lists, shape)

    def _arrays(
        self,
        data: System,
        frames: np.ndarray,
        lists: Sequence[nlist.Neighbors],
        shape: Shape,
    ) -> tuple[dict, dict]:
        """Frames of a system and their neighbours, with empty ones to fill `shape`."""
        fparam = data.fparam[frames] if data.fparam.size else None
        inputs, slots = collate(
            data.coord[frames],
            data.spin[frames],
            data.box[frames],
            data.atype[frames],
            lists,
            shape,
            fparam,
        )
        nslots, nf = sum(shape.natoms), len(frames)
        labels = {"natoms": data.natoms_loss[frames]}
        for key in (*FRAME_LABELS, *ATOM_LABELS):
            if key.name not in self.labels:
                continue
            tail = [n for n in key.shape[1:] if isinstance(n, int)]
            atomic = key in ATOM_LABELS
            found = np.zeros(nf, dtype=bool)
            if key.name not in data.labels:
                value = np.zeros([nf, *([nslots] if atomic else []), *tail])
            else:
                value = data.labels[key.name][frames]
                found = present(value)
                value[~found] = 0.0
                value = scatter(value, slots, nslots) if atomic else value
            if key is keys.ATOM_ENER_COEFF:
                value[~found] = 1.0
            labels[key.name] = value
            labels[f"find_{key.name}"] = found.astype(np.float64)
        return inputs, pad_frames(labels, shape.nframes - nf)

    def batch(self, step: int, part: tuple[int, int] = WHOLE) -> tuple[dict, dict]:
        """Inputs and labels of the batch of a step, as numpy arrays.

        A `part` (k, n) is every n-th of its frames, from the k-th on.
        """
        system, frames = self.plan(step)
        first, count = part
        own = frames[first::count]
        size = math.ceil(self.shapes[system].nframes / count)
        if not self.augmentation:
            return self._stored(system, own, size)
        random = np.random.default_rng([self.seed, 3, step])
        turns = random_turns(self.augmentation, len(frames), random)[first::count]
        frames = own
        data = turned(self.systems[system], frames, turns)
        lists = list(self._build_lists(data, range(len(frames))))
        dropped = sum(own.dropped for own in lists)
        if dropped and not self._left_out:
            self._left_out = True
            log.warning(
                "turned spins have more neighbours than `sel` holds: %d are left out "
                "at step %d, and maybe later. Raise `sel` by a few",
                dropped,
                step,
            )
        everything = np.arange(len(frames))
        shape = replace(self.shapes[system], nframes=size)
        return self._arrays(data, everything, lists, shape)

    def sample(self, nbatches: int) -> Iterator[tuple[dict, dict]]:
        """First `nbatches` batches of every system, for statistics.

        Of a system that has fewer those that come again are the same object.
        """
        for system, different in enumerate(self.nbatches):
            made: dict[bytes, tuple[dict, dict]] = {}
            for k in range(nbatches):
                frames = self._order.frames(system, k)
                batch = made.get(frames.tobytes()) or self.frames(system, frames)
                if different < nbatches:
                    made[frames.tobytes()] = batch
                yield batch

    def spread(self, nframes: int) -> Iterator[tuple[dict, dict]]:
        """Batches of `nframes` frames in all, or of all, evenly from every system.

        If there are more systems than that, from as many of them, evenly.
        """
        for s, chosen in self._chosen(nframes):
            size = self.shapes[s].nframes
            for first in range(0, len(chosen), size):
                yield self.frames(s, chosen[first : first + size])

    def _chosen(self, nframes: int) -> Iterator[tuple[int, np.ndarray]]:
        """Systems, and frames of each."""
        sizes = np.array([system.nframes for system in self.systems])
        ends = np.cumsum(sizes)
        if nframes < len(sizes):
            chosen = np.unique(np.linspace(0, ends[-1] - 1, nframes).astype(int))
            owner = np.searchsorted(ends, chosen, side="right")
            for s in np.unique(owner):
                yield int(s), chosen[owner == s] - (ends[s] - sizes[s])
            return
        for s, size in enumerate(sizes.tolist()):
            share = min(math.ceil(size * nframes / int(ends[-1])), size)
            yield s, np.unique(np.linspace(0, size - 1, share).astype(int))

    def dataset(
        self,
        start: int | Callable[[], int] | None = None,
        steps: int | None = None,
        part: tuple[int, int] = WHOLE,
    ) -> Any:
        """Batches as a `tf.data.Dataset` of (inputs, labels).

        Parameters
        ----------
        start : int or callable, optional
            First step, or what tells it when the first batch is drawn. Without it, an
            endless data set given to `SpinEnergyModel.fit` goes on at the step of the
            model's optimizer, and any other begins at 0.
        steps : int, optional
            How many; without it the data set never ends.
        part : (int, int)
            What of each batch: (k, n) is every n-th of its frames, from the k-th on,
            and frames without atoms to make all parts as large.
        """
        import tensorflow as tf

        from deepspin.data import pipeline

        begin = Begin(start)

        def every() -> range:
            first = begin()
            return range(first, ENDLESS if steps is None else first + steps)

        shapes = list(dict.fromkeys(self.shapes))
        if not self.augmentation and self._table_bytes() <= min(
            MAX_TABLES, env.data_memory()
        ):
            tables = [self._table(shape) for shape in shapes]
            sizes = [math.ceil(shape.nframes / part[1]) for shape in shapes]
            data = pipeline.looked_up(lambda: self._rows(every(), part), tables, sizes)
        else:
            examples = [
                self._stored(s, np.arange(1), math.ceil(shape.nframes / part[1]))
                for s, shape in enumerate(self.shapes)
            ]
            data = pipeline.drawn(
                lambda: (self.batch(step, part) for step in every()), examples
            )
        number = tf.data.INFINITE_CARDINALITY if steps is None else steps
        data = pipeline.finished(data, number)
        if steps is None and start is None:
            data.begin = begin
        return data

    def once(self) -> Any:
        """Every frame once, system by system, as a `tf.data.Dataset`."""
        from deepspin.data import pipeline

        total = sum(system.nframes for system in self.systems)
        sizes = [shape.nframes for shape in self.shapes]
        number = sum(
            math.ceil(system.nframes / size)
            for system, size in zip(self.systems, sizes, strict=True)
        )
        examples = [self.frames(s, np.arange(1)) for s in range(len(self.systems))]
        data = pipeline.drawn(lambda: self.spread(total), examples)
        return pipeline.finished(data, number)

    def _table_bytes(self) -> int:
        """Size of all tables: lists, and at most twenty numbers for an atom."""
        frames = dict.fromkeys(self.shapes, 1)
        for system, shape in zip(self.systems, self.shapes, strict=True):
            frames[shape] += system.nframes
        return sum(
            number * sum(shape.natoms) * (16 * sum(shape.widths) + 160)
            for shape, number in frames.items()
        )

    def _table(self, shape: Shape) -> tuple[dict, dict]:
        """All frames of the systems of a shape, and an empty one."""
        own = [s for s, other in enumerate(self.shapes) if other == shape]
        parts = []
        for s in own:
            nframes = self.systems[s].nframes
            size = nframes + (s == own[-1])
            parts.append(self._stored(s, np.arange(nframes), size))
        return _join([p[0] for p in parts]), _join([p[1] for p in parts])

    def _rows(
        self, every: range, part: tuple[int, int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Table, and rows in it, of each part; those of many batches at once."""
        shapes = list(dict.fromkeys(self.shapes))
        table = np.array([shapes.index(shape) for shape in self.shapes])
        size = np.array([system.nframes for system in self.systems])
        first, empty = np.zeros_like(size), np.zeros(len(shapes), dtype=int)
        for t in range(len(shapes)):
            ends = np.cumsum(size[table == t])
            first[table == t], empty[t] = ends - size[table == t], ends[-1]
        width = max(shape.nframes for shape in shapes)
        width = part[1] * math.ceil(width / part[1])
        for begin in every[::PLAN_AHEAD]:
            last = min(begin + PLAN_AHEAD, every.stop)
            plan = [self.plan(step) for step in range(begin, last)]
            systems = np.array([system for system, _ in plan])
            rows = np.repeat(empty[table[systems]][:, None], width, axis=1)
            for k, (system, frames) in enumerate(plan):
                rows[k, : len(frames)] = first[system] + frames
            own = rows[:, part[0] :: part[1]]
            yield table[systems].astype(np.int32), own.astype(np.int32)
