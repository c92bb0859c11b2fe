# SPDX-License-Identifier: Apache-2.0
"""How many neighbours atoms have, and how far, over whole data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepspin.data.collate import neighbors_of_frame
from deepspin.data.dataset import suggest_sel
from deepspin.data.frames import System
from deepspin.spins.schemes import Scheme

# width of the bins of distances in Å
BIN = 0.02


class NeighborStat:
    """Numbers and distances of neighbours, by type, virtual atoms included.

    Systems are added one after another and not kept.

    Parameters
    ----------
    type_map : sequence of str
        Names of the types.
    spin : Scheme
        The spin scheme.
    rcut : float
        Cutoff in Å.

    Attributes
    ----------
    names : list of str
        Types of neighbours, ``Ni(spin)`` for virtual atoms of Ni.
    around : np.ndarray of int, shape (ntypes, ntypes extended, most + 1)
        How many atoms of each type have 0, 1, 2, ... neighbours of each type.
    distances : np.ndarray of int, shape (ntypes, ntypes extended, nbins)
        How many of these neighbours are in each bin of `BIN` Å; owners do not count
        their own virtual atoms here.
    nearest : np.ndarray, shape (ntypes extended,)
        Smallest of these distances in Å, infinite without any.
    nearest_own : float
        Smallest distance in Å of a virtual atom from its owner.
    """

    def __init__(self, type_map: Sequence[str], spin: Scheme, rcut: float):
        self.spin, self.rcut = spin, rcut
        self.names = spin.neighbor_names(type_map)
        ntypes, nbins = (spin.ntypes, len(self.names)), math.ceil(rcut / BIN)
        self.around: np.ndarray = np.zeros((*ntypes, 1), dtype=int)
        self.distances = np.zeros((*ntypes, nbins), dtype=int)
        self.nearest = np.full(len(self.names), np.inf)
        self.nearest_own = np.inf

    def add(self, system: System) -> None:
        """Count the neighbours in all frames of a system."""
        for frame in range(system.nframes):
            self._add_frame(
                system.coord[frame],
                system.spin[frame],
                system.atype[frame],
                system.box[frame],
                system.pbc,
            )

    def _add_frame(
        self,
        coord: np.ndarray,
        spins: np.ndarray,
        atype: np.ndarray,
        box: np.ndarray,
        pbc: bool,
    ) -> None:
        found = neighbors_of_frame(
            coord, spins, atype, box, pbc, self.spin, self.rcut, None
        )
        centre, lists, _ = found.slot
        block = np.array(self.spin.list_blocks)[lists]
        points = self.spin.points(coord, spins, atype)[0]
        way = points[found.index] + found.shift @ box - points[centre]
        distance = np.linalg.norm(way, axis=-1)
        own = (found.index % len(coord) == centre) & ~found.shift.any(axis=1)
        self.nearest_own = min(self.nearest_own, distance[own].min(initial=np.inf))
        apart = np.flatnonzero(~own)
        distance, block, types = distance[apart], block[apart], atype[centre[apart]]
        np.minimum.at(self.nearest, block, distance)
        place = np.minimum((distance / BIN).astype(int), self.distances.shape[2] - 1)
        _count(self.distances, types, block, place)
        more = int(found.count.max(initial=0)) + 1 - self.around.shape[2]
        if more > 0:
            self.around = np.pad(self.around, [(0, 0), (0, 0), (0, more)])
        here = np.flatnonzero(atype >= 0)
        for k, number in enumerate(found.count[here, : len(self.names)].T):
            _count(self.around, atype[here], np.full(len(here), k), number)

    @property
    def counts(self) -> np.ndarray:
        """How many atoms have 0, 1, 2, ... neighbours, shape (ntypes extended, ...)."""
        return self.around.sum(axis=0)

    @property
    def ncentres(self) -> int:
        """Number of atoms in all frames."""
        return int(self.counts[0].sum())

    @property
    def largest(self) -> list[int]:
        """Largest number of neighbours of each type."""
        return [int(np.flatnonzero(c).max(initial=0)) for c in self.counts]

    @property
    def mean(self) -> list[float]:
        """Mean number of neighbours of each type."""
        return [float(np.arange(len(c)) @ c / max(c.sum(), 1)) for c in self.counts]

    def percentile(self, share: float) -> list[int]:
        """Number of neighbours of each type that this share of atoms does not exceed.

        Parameters
        ----------
        share : float
            Between 0 and 1.
        """
        sums = [np.cumsum(count) for count in self.counts]
        return [int(np.searchsorted(s, share * s[-1])) for s in sums]

    def lost(self, sel: Sequence[int]) -> list[tuple[float, float]]:
        """What a `sel` leaves out: share of neighbours, and of atoms that miss some.

        Parameters
        ----------
        sel : sequence of int
            One number for each type of neighbour.
        """
        shares = []
        for count, keep in zip(self.counts, sel, strict=True):
            number = np.arange(len(count))
            beyond = np.maximum(number - keep, 0)
            total = max(number @ count, 1)
            atoms = count[number > keep].sum() / max(count.sum(), 1)
            shares.append((float(beyond @ count / total), float(atoms)))
        return shares

    def suggest(self, ratio: float = 1.1) -> list[int]:
        """Suggest `sel`: the largest numbers times `ratio`, up to a multiple of 4.

        One number for each real type, which its virtual atoms share.
        """
        return suggest_sel(self.spin.largest_of_types(self.largest), ratio)


def _count(table: np.ndarray, *index: np.ndarray) -> None:
    """Add 1 at each of many places, of which some are the same."""
    flat = np.ravel_multi_index(index, table.shape)
    table += np.bincount(flat, minlength=table.size).reshape(table.shape)
