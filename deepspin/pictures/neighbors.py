# SPDX-License-Identifier: Apache-2.0
"""Picture of numbers and distances of neighbours."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from deepspin.pictures.plots import COLORS, new_figure
from deepspin.survey.statistics import BIN, NeighborStat

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_neighbors(stat: NeighborStat) -> Figure:
    """Draw how many neighbours atoms of each type have, and how far these are."""
    centres = np.flatnonzero(stat.around.any(axis=(1, 2)))
    figure, axes = new_figure(len(centres), 2, size=(4.6, 2.9))
    radius = (np.arange(stat.distances.shape[2]) + 0.5) * BIN
    fewest = int(np.flatnonzero(stat.counts.any(axis=0))[0])
    for centre, numbers, distances in zip(centres, axes[::2], axes[1::2], strict=True):
        for k, (name, color) in enumerate(zip(stat.names, cycle(COLORS), strict=False)):
            count = stat.around[centre, k]
            style = {"color": color, "label": name, "lw": 1.2}
            style["ls"] = "-" if k < stat.spin.ntypes else "--"
            shares = count / count.sum()
            numbers.step(np.arange(len(count)), shares, where="mid", **style)
            density = stat.distances[centre, k] / (count.sum() * BIN)
            distances.plot(radius, density, **style)
        numbers.set(xlim=(fewest - 1, max(stat.largest) + 1), ylim=(0, None))
        numbers.set_ylabel(f"share of {stat.names[centre]} atoms")
        distances.set(xlim=(0, stat.rcut), ylim=(0, None))
        distances.set_ylabel(f"around {stat.names[centre]} (1/Å)")
    axes[-2].set_xlabel(f"neighbours within {stat.rcut:g} Å")
    axes[-1].set_xlabel("distance (Å)")
    axes[1].legend(frameon=False, loc="upper left")
    return figure
