# SPDX-License-Identifier: Apache-2.0
r"""What atoms have around them, and whether it is like anything in a training.

Of each pair of types there are two measures: the coordination of an atom, a sum over
its neighbours of the other type in which near ones count most and which is smooth in
their positions,

.. math:: n = \sum_j (1 - r_j^2 / r_\mathrm{cut}^2)^4,

and the distance of the nearest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.nlist import Neighbors

if TYPE_CHECKING:
    from deepspin.data.dataset import DataSystem

MEASURES = ("coordination", "nearest")
# what was seen is widened by this part of its width, or of its larger end, or of 1, if
# that is more: dynamics goes beyond what a training holds of the same temperature
WIDTH, LEAST = 0.25, 0.02


def measured(found: Neighbors, ntypes: int, rcut: float) -> np.ndarray:
    """Both measures of all atoms of a frame, by type of neighbour: (nloc, ntypes, 2).

    The distance is `rcut` (Å) where there is no neighbour.
    """
    nearest = np.minimum(found.closest[:, :ntypes], rcut)
    return np.stack([found.coordination[:, :ntypes], nearest], axis=2)


def environments(data: DataSystem) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Smallest and largest measures of training data, by type and type of neighbour.

    As in ``{"Ni": {"O": {"coordination": [3.3, 3.9], "nearest": [1.75, 2.13]}}}``, with
    distances in Å. Types without atoms are left out.
    """
    ntypes = data.spin.ntypes
    low = np.full((ntypes, ntypes, len(MEASURES)), np.inf)
    high = -low
    for k, system in enumerate(data.systems):
        for atype, found in zip(system.atype, data.neighbors(k), strict=True):
            there = atype >= 0
            values = measured(found, ntypes, data.rcut)[there]
            np.minimum.at(low, atype[there], values)
            np.maximum.at(high, atype[there], values)
    return {
        centre: {
            name: {
                measure: [float(low[a, b, m]), float(high[a, b, m])]
                for m, measure in enumerate(MEASURES)
            }
            for b, name in enumerate(data.type_map)
        }
        for a, centre in enumerate(data.type_map)
        if low[a, 0, 0] < np.inf
    }


@dataclass(frozen=True)
class Odd:
    """An atom that has around it what no training held.

    Parameters
    ----------
    atom, neighbour : int
        The atom, and the type of its neighbours.
    more : bool
        Whether they are more, or nearer, than in training; else fewer, or farther.
    coordination, nearest : sequence of float
        The measure, and the smallest and largest in training.
    number : int
        Of so many atoms that can be said.
    """

    atom: int
    neighbour: int
    more: bool
    coordination: Sequence[float]
    nearest: Sequence[float]
    number: int


class Environments:
    """What atoms of a training had around them.

    Parameters
    ----------
    stored : mapping
        Answer of `environments`; types of which it tells nothing are never odd.
    type_map : sequence of str
        Names of the types.
    rcut : float
        Cutoff in Å.
    """

    def __init__(self, stored: Mapping, type_map: Sequence[str], rcut: float):
        self.rcut, ntypes = rcut, len(type_map)
        self._unseen = np.array([bool(stored) and t not in stored for t in type_map])
        self.low = np.full((ntypes, ntypes, len(MEASURES)), -np.inf)
        self.high = -self.low
        for a, centre in enumerate(type_map):
            for b, name in enumerate(type_map):
                for m, measure in enumerate(MEASURES):
                    ends = stored.get(centre, {}).get(name, {}).get(measure)
                    if ends is not None:
                        self.low[a, b, m], self.high[a, b, m] = ends
        with np.errstate(invalid="ignore"):
            width = np.where(np.isfinite(self.low), self.high - self.low, 0.0)
            larger = np.where(np.isfinite(self.high), self.high, 0.0)
        self.margin = np.maximum(WIDTH * width, LEAST * np.maximum(larger, 1.0))
        self._least, self._most = self.low - self.margin, self.high + self.margin

    def unseen(self, atype: np.ndarray) -> list[int]:
        """Types of atoms that no training held, where something is known of others."""
        odd = self._unseen[atype]
        return np.unique(atype[odd]).tolist() if odd.any() else []

    def odd(self, found: Neighbors, atype: np.ndarray) -> Iterator[Odd]:
        """Atoms beyond what was seen: the worst with less around it, and with more.

        Parameters
        ----------
        found : Neighbors
            Neighbours of the atoms of a frame, within `rcut`.
        atype : np.ndarray of int, shape (nloc,)
            Their types.
        """
        values = measured(found, len(self.low), self.rcut)
        under, over = values < self._least[atype], values > self._most[atype]
        if not (under.any() or over.any()):
            return
        low, high = self.low[atype], self.high[atype]
        beyond = np.maximum(low - values, values - high) / self.margin[atype]
        less, more = under[..., 0] | over[..., 1], over[..., 0] | under[..., 1]
        for is_more, which in ((False, less), (True, more)):
            if which.any():
                worst = np.where(which, beyond.max(axis=2), -np.inf).argmax()
                i, b = np.unravel_index(worst, which.shape)
                ends = np.stack([values[i, b], low[i, b], high[i, b]]).T.tolist()
                number = int(which.any(axis=1).sum())
                yield Odd(int(i), int(b), is_more, ends[0], ends[1], number)
