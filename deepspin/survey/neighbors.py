# SPDX-License-Identifier: Apache-2.0
"""Words on numbers of neighbours: what `sel` they ask for, and what others cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepspin.survey.statistics import NeighborStat
from deepspin.survey.tables import table

# share of atoms that is called nearly all
MOST = 0.999
# smaller `sel` whose price is told, as shares of the largest number found
SMALLER = (0.9, 0.75)


def report(stat: NeighborStat, sel: list[int] | None) -> str:
    """Lay out how many neighbours there are, and which `sel` would hold them.

    Parameters
    ----------
    stat : NeighborStat
        The neighbours.
    sel : list of int, optional
        That of an input, to compare with.
    """
    suggested = stat.suggest()
    names = stat.names
    rows = zip(
        names,
        stat.largest,
        [f"{mean:.1f}" for mean in stat.mean],
        stat.percentile(MOST),
        [f"{r:.3f}" if np.isfinite(r) else None for r in stat.nearest],
        stat.spin.extend_sel(suggested),
        strict=True,
    )
    header = ["type", "max", "mean", f"{MOST:.1%}", "nearest Å", "sel"]
    title = f"Neighbours within {stat.rcut:g} Å of {stat.ncentres} atoms"
    nearest = min(stat.nearest.min(), stat.nearest_own)
    text = table(title, list(header), [list(row) for row in rows])
    text += _prices(stat)
    if sel is not None:
        text += _compare(stat, sel)
    return text + "\n".join(
        [
            f"min_nbor_dist: {nearest:f}",
            f"max_nbor_size: {stat.largest}",
            f"suggested sel: {suggested}",
            "",
        ]
    )


def _prices(stat: NeighborStat) -> str:
    """What smaller `sel` leave out."""
    rows = []
    for share in SMALLER:
        rows += _lost(stat, [int(share * n) for n in stat.largest])
    title = "What a smaller sel leaves out, the farthest neighbours first"
    return table(title, _LOST, rows)


_LOST = ["type", "sel", "neighbours left out", "atoms that miss some"]


def _lost(stat: NeighborStat, sel: Sequence[int]) -> list[list]:
    return [
        [name, keep, f"{lost:.2%}", f"{atoms:.1%}"]
        for name, keep, (lost, atoms) in zip(
            stat.names, sel, stat.lost(sel), strict=True
        )
    ]


def _compare(stat: NeighborStat, sel: Sequence[int]) -> str:
    """What the `sel` of an input leaves out, and whether it is right."""
    extended = stat.spin.extend_sel(sel)
    text = table("The sel of the input", _LOST, _lost(stat, extended))
    pairs = list(zip(stat.names, stat.largest, extended, strict=True))
    short = [name for name, most, keep in pairs if keep < most]
    ample = [name for name, most, keep in pairs if keep > 1.5 * most + 4]
    if short:
        return (
            f"{text}sel is too small for {', '.join(short)}: energies jump where a "
            f"neighbour drops out. Set `sel` to {stat.suggest()}.\n"
        )
    if ample:
        return (
            f"{text}sel holds all neighbours, and much more than there are of "
            f"{', '.join(ample)}: {stat.suggest()} will do.\n"
        )
    return f"{text}sel holds all neighbours.\n"
