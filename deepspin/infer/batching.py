# SPDX-License-Identifier: Apache-2.0
"""From frames to a model's inputs: neighbours, batches that fit, and what is odd."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from deepspin import env
from deepspin.data.collate import Shape, neighbors_of_frame, points_in_rows
from deepspin.data.environments import Environments
from deepspin.data.nlist import Neighbors, Search, pad
from deepspin.data.sampling import check_batch_size
from deepspin.infer.frames import Frames
from deepspin.model.ener import SpinEnergyModel

log = logging.getLogger(__name__)

# how far beyond the cutoff neighbours are sought (Å); not again while no atom has moved
# half of it
SKIN = 0.5
# candidates are kept from call to call for frames of so many atoms together
KEPT_ATOMS = 2**15
# what an evaluation may take, in bytes, and what a neighbour slot then does: measured
# with the kernels, and without them for each channel of the embedding net too
MEMORY = 2**29
NATIVE, PLAIN, CHANNEL = 128, 1024, 24
# the memory of frames of many atoms is overrated by no more than this
AT_MOST = 1.6
# so many times that for second derivatives
SECOND_NATIVE, SECOND_PLAIN = 8, 3
# spins so much longer, or atoms so much nearer, than in training are told of
MARGIN = 1.01
# atoms with other things around them as well, one line for each kind
_AROUND = (
    " %s around it than any in training: coordination %.3f (in training %.3f to %.3f), "
    "the nearest %s (%.4f to %.4f); this, or the like, holds for %d of %d atoms: what "
    "the model says of them is a guess"
)
LESS, MORE = ("atom %d (%s) of frame %d has " + w + _AROUND for w in ("less", "more"))


class Order:
    """The order in which a model takes atoms: by type, as they come in each.

    Parameters
    ----------
    atype : np.ndarray of int, shape (nloc,)
        Types.
    ntypes : int
        Number of types.

    Attributes
    ----------
    natoms : tuple of int, length ntypes
        Number of atoms of each type.
    rows : np.ndarray of int, shape (nloc,)
        Where each atom is then.
    """

    def __init__(self, atype: np.ndarray, ntypes: int):
        self.atype = atype
        self.natoms = tuple(np.bincount(atype, minlength=ntypes).tolist())
        self._atoms = np.argsort(atype, kind="stable")
        self.rows = np.argsort(self._atoms)
        self._as_is = bool((np.diff(atype) >= 0).all())

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Values of atoms as they come, (nf, nloc, ...), in this order."""
        return values if self._as_is else values[:, self._atoms]

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Values in this order, (nf, nloc, ...), as the atoms come."""
        return values if self._as_is else values[:, self.rows]


class Batching:
    """What a model is given of frames, and what a user is told of them, once.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    metadata : dict
        What its file tells of its training.

    Attributes
    ----------
    dropped : int
        Neighbours beyond `sel` that were left out since `begin`.
    searches : list of Search
        Candidates that are kept from call to call.
    """

    def __init__(self, model: SpinEnergyModel, metadata: dict):
        self.model = model
        self.dropped = 0
        self.searches: list[Search] = []
        self._warned: set[str] = set()
        self._order: Order | None = None
        self.metadata = metadata

    @property
    def metadata(self) -> dict:
        """What the model's file tells of its training."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: dict) -> None:
        self._metadata, model = metadata, self.model
        self._environments = Environments(
            metadata.get("environments") or {}, model.type_map, model.descriptor.rcut
        )

    def batches(
        self,
        frames: Frames,
        which: Sequence[int],
        batch_size: int | None,
        *,
        second: bool = False,
        plain: bool = False,
    ) -> Iterator[tuple[dict, Order]]:
        """Inputs of the model for some of the frames, as many at once as there may be.

        And the order of the atoms in them.
        """
        check_batch_size(batch_size)
        spin, order = self.begin(frames), self._order_of(frames.atype)
        room = MEMORY / bytes_per_slot(self.model, second=second, plain=plain)
        for batch in self._grouped(frames, spin, which, order, batch_size, room):
            index, neighbors = map(list, zip(*batch, strict=True))
            given = {"coord": frames.coord[index], "spin": spin[index]}
            inputs = {name: order.sorted(values) for name, values in given.items()}
            inputs["box"] = frames.box[index]
            if frames.fparam is not None:
                inputs["fparam"] = frames.fparam[index]
            yield inputs | _lists(neighbors, order), order

    def _order_of(self, atype: np.ndarray) -> Order:
        """The order of atoms, which is that of the last call as a rule."""
        order = self._order  # another thread may set it
        if order is None or not np.array_equal(atype, order.atype):
            order = self._order = Order(atype, self.model.spin.scheme.ntypes)
        return order

    def begin(self, frames: Frames) -> np.ndarray:
        """Spins that count, (nf, nloc, 3), checked."""
        env.claim_process()
        self.dropped = 0
        self._check_spins(frames)
        magnetic = self.model.spin.scheme.types.is_magnetic(frames.atype)
        return np.where(magnetic[:, None], frames.spin, 0.0)

    def _grouped(
        self,
        frames: Frames,
        spin: np.ndarray,
        which: Sequence[int],
        order: Order,
        batch_size: int | None,
        room: float,
    ) -> Iterator[list[tuple[int, Neighbors]]]:
        """Frames and their neighbours, in batches of so many slots together."""
        batch: list[tuple[int, Neighbors]] = []
        last: int | None = None
        widths: tuple[int, ...] = ()
        for frame in which:
            if frame != last:
                neighbors = self.neighbors(frames, spin, frame)
                last, own = frame, widths_of([neighbors])
                alone = MEMORY * Shape(1, order.natoms, own).cost / room
                _check_memory(frames.nloc, alone / AT_MOST)
            wider = tuple(map(max, widths, own)) if batch else own
            full = Shape(len(batch) + 1, order.natoms, wider).cost > room
            if batch and (full or len(batch) == batch_size):
                yield batch
                batch, wider = [], own
            batch.append((frame, neighbors))
            widths = wider
        yield batch

    def neighbors(self, frames: Frames, spin: np.ndarray, frame: int) -> Neighbors:
        """Neighbours in one frame, checked."""
        number = frame % max(1, KEPT_ATOMS // frames.nloc)
        while len(self.searches) <= number:
            self.searches.append(Search(SKIN))
        found = neighbors_of_frame(
            frames.coord[frame],
            spin[frame],
            frames.atype,
            frames.box[frame],
            frames.pbc,
            self.model.spin.scheme,
            self.model.descriptor.rcut,
            self.model.descriptor.sel,
            self.searches[number],
        )
        self._check_neighbors(frame, found)
        self._check_environments(frame, found, frames.atype)
        return found

    def warn(self, text: str, *args: object) -> None:
        """Say something once."""
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text, *args)

    def _check_spins(self, frames: Frames) -> None:
        """Warn of spins that the model ignores or has not seen."""
        idle = frames.spin.any(axis=(0, 2))
        idle &= ~self.model.spin.scheme.types.is_magnetic(frames.atype)
        if idle.any():
            names = sorted({self.model.type_map[t] for t in frames.atype[idle]})
            self.warn(
                "spins on atoms of %s are ignored: no spin types", ", ".join(names)
            )
        numbers = {name: t for t, name in enumerate(self.model.type_map)}
        for name, (low, high) in (self.metadata.get("spin_range") or {}).items():
            here = frames.atype == numbers.get(name, -1)
            modulus = np.linalg.norm(frames.spin[:, here], axis=2)
            odd = (modulus < low / MARGIN) | (modulus > high * MARGIN)
            if odd.any():
                self.warn(
                    "|spin| of %s is %.4f μ_B, in training it was %.4f to %.4f: what "
                    "the model says of such spins is a guess",
                    name,
                    modulus[odd][0],
                    low,
                    high,
                )

    def _check_neighbors(self, frame: int, found: Neighbors) -> None:
        """Refuse or warn of atoms too near each other, and too many neighbours."""
        if found.nearest == 0 and not self.model.descriptor.env_protection:
            raise ValueError(
                f"Two atoms of frame {frame}, or an atom and a virtual atom, are "
                "at the same place. Separate them."
            )
        if found.nearest_centres < self._nearest / MARGIN:
            self.warn(
                "two atoms of frame %d are %.4f Å apart, nearer than any in training "
                "(%.4f Å): what the model says of them is a guess",
                frame,
                found.nearest_centres,
                self._nearest,
            )
        self.dropped += found.dropped
        if found.dropped:
            self.warn(
                "%d neighbours of frame %d exceed `sel` %s (found: %s) and are "
                "left out, as in training; energies jump as atoms cross",
                found.dropped,
                frame,
                list(self.model.descriptor.sel),
                found.found.tolist(),
            )

    def _check_environments(
        self, frame: int, found: Neighbors, atype: np.ndarray
    ) -> None:
        """Warn of atoms unlike those of the training, or with other things around."""
        names, rcut = self.model.type_map, self.model.descriptor.rcut
        unseen = self._environments.unseen(atype)
        if unseen:
            self.warn(
                "no atom of %s was in the training: %s",
                ", ".join(names[t] for t in unseen),
                "what the model says of such atoms is a guess",
            )
        for odd in self._environments.odd(found, atype):
            n, *seen = odd.coordination
            r, *at = odd.nearest
            self.warn(
                MORE if odd.more else LESS,
                odd.atom,
                names[atype[odd.atom]],
                frame,
                names[odd.neighbour],
                n,
                *seen,
                f"at {r:.4f} Å" if r < rcut else f"beyond {rcut:g} Å",
                *at,
                odd.number,
                len(atype),
            )

    @property
    def _nearest(self) -> float:
        """Nearest distance in Å of two atoms in training, 0 if that is not known."""
        pairs = (self.metadata.get("nearest") or {}).values()
        known = [r for row in pairs for n, r in row.items() if n in self.model.type_map]
        return min(known, default=0.0)


def _lists(neighbors: Sequence[Neighbors], order: Order) -> dict[str, tuple]:
    """Neighbours of frames as a model takes them; and all their atoms are there."""
    nf, nloc = len(neighbors), len(order.rows)
    rows = np.broadcast_to(order.rows, (nf, nloc))
    points = points_in_rows(neighbors, rows, nloc)
    lists, shifts = pad(neighbors, rows, points, nloc, widths_of(neighbors))
    mask = tuple(np.ones((nf, number), dtype=bool) for number in order.natoms)
    return {"nlist": lists, "shift": shifts, "mask": mask}


def _check_memory(nloc: int, least: float) -> None:
    """Refuse a frame that the machine cannot hold, which would end the program."""
    if least > (machine := env.machine_memory()):
        raise MemoryError(
            f"A frame of {nloc} atoms takes {least / 2**30:.3g} GiB at least, and "
            f"there are {machine / 2**30:.3g}. Evaluate fewer atoms, or divide them "
            "among machines (`dp-spin md --engine lammps`)."
        )


def widths_of(neighbors: Sequence[Neighbors]) -> tuple[int, ...]:
    """Slots that hold the neighbours of each type, at least one."""
    return tuple(
        max(max(own), 1)
        for own in zip(*(n.count.max(axis=0).tolist() for n in neighbors), strict=True)
    )


def bytes_per_slot(
    model: SpinEnergyModel, *, second: bool = False, plain: bool = False
) -> int:
    """Memory that a neighbour slot takes in an evaluation, roughly."""
    if model.native and not plain:
        return NATIVE * (SECOND_NATIVE if second else 1)
    descriptor = model.descriptor
    channels = sum(descriptor.neuron)
    if descriptor.tables:
        channels = max(table.leaves * table.order for table in descriptor.tables)
    return (PLAIN + CHANNEL * channels) * (SECOND_PLAIN if second else 1)
