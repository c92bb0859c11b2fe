# SPDX-License-Identifier: Apache-2.0
"""Neighbours of all frames of training data, kept in memory as far as it reaches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deepspin import env
from deepspin.data.frames import System
from deepspin.data.nlist import Neighbors

log = logging.getLogger(__name__)

# lists take some ten times the memory of the frames that they are of; beyond so many
# bytes they are made anew for each batch
MAX_LISTS = 2**31


class Lists:
    """Neighbours of every frame, made once or each time they are asked for.

    The numbers are the same: a list is a function of its frame.

    Parameters
    ----------
    systems : sequence of System
        The frames.
    build : callable
        Makes the neighbours of given frames of a system.

    Attributes
    ----------
    found : np.ndarray of int, shape (nblocks,)
        Largest number of neighbours of each type before truncation.
    nearest, nearest_centres : float
        Smallest distance in Å of a pair, and of two atoms; infinite without any.
    dropped : int
        Number of neighbours left out beyond `sel`.
    widths : list of np.ndarray of int, each (nlists,)
        Of each system the largest number of neighbours in each list, at least 1.
    """

    def __init__(
        self,
        systems: Sequence[System],
        build: Callable[[System, Sequence[int] | np.ndarray], Iterator[Neighbors]],
    ):
        self._systems, self._build = systems, build
        self._kept: list[list[Neighbors]] | None = []
        self.nearest = self.nearest_centres = np.inf
        self.dropped, self.widths = 0, []
        found, total = [], 0
        limit = min(MAX_LISTS, env.data_memory())
        for system in systems:
            own: list[Neighbors] = []
            width = np.ones(1, dtype=int)
            for one in build(system, range(system.nframes)):
                width = np.maximum(width, one.count.max(axis=0, initial=1))
                found.append(one.found)
                self.nearest = min(self.nearest, one.nearest)
                self.nearest_centres = min(self.nearest_centres, one.nearest_centres)
                self.dropped += one.dropped
                total += one.count.nbytes + one.index.nbytes + one.shift.nbytes
                if self._kept is not None and total > limit:
                    self._forget(limit)
                if self._kept is not None:
                    own.append(one)
            self.widths.append(width)
            if self._kept is not None:
                self._kept.append(own)
        self.found = np.max(found, axis=0)

    def _forget(self, limit: float) -> None:
        self._kept = None
        log.info(
            "neighbour lists take more than %.3g GiB: each batch has its own made as "
            "it is drawn",
            limit / 2**30,
        )

    def of(self, system: int, frames: Sequence[int] | np.ndarray) -> list[Neighbors]:
        """Neighbours of given frames of a system."""
        if self._kept is not None:
            return [self._kept[system][f] for f in frames]
        return list(self._build(self._systems[system], frames))

    def all_of(self, system: int) -> Iterator[Neighbors]:
        """Those of each frame of a system, one by one."""
        for f in range(self._systems[system].nframes):
            yield from self.of(system, [f])
