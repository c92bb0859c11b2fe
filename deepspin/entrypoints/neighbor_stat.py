# SPDX-License-Identifier: Apache-2.0
"""``dp-spin neighbor-stat``: numbers of neighbours, and what `sel` they ask for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import cycle

import numpy as np

from deepspin.data.systems import load_system
from deepspin.pictures.plots import COLORS, claim_picture, new_figure, save
from deepspin.survey.scheme import survey
from deepspin.survey.statistics import BIN, NeighborStat
from deepspin.survey.tables import table
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

DEFAULT_RCUT = 6.0
# share of atoms that is called nearly all
MOST = 0.999
# smaller `sel` whose price is told, as shares of the largest number found
SMALLER = (0.9, 0.75)


def neighbor_stat(
    *,
    system: Sequence[str],
    rcut: float | None = None,
    output: str | None = None,
    **spin,
) -> NeighborStat:
    """Print how many neighbours atoms have within a cutoff, and a `sel` for them.

    Around real atoms only, as the model does; DeePMD-kit counts around virtual atoms,
    too, and may find a few more.

    Parameters
    ----------
    system : sequence of str
        Systems, or folders to search.
    rcut : float, optional
        Cutoff in Å; otherwise that of the input, or 6.
    output : str, optional
        Picture to draw.
    **spin
        How to read the systems, see `deepspin.survey.scheme.survey`; with ``input``,
        its `sel` is compared, too.

    Raises
    ------
    DataError, InputError, OutputError
        See `survey`; the picture cannot be written.
    """
    if output is not None:
        claim_picture(output)
    descriptor = {}
    if spin.get("input") is not None:
        descriptor = normalize(load_input(spin["input"]))["model"]["descriptor"]
    rcut = descriptor.get("rcut", DEFAULT_RCUT) if rcut is None else rcut
    if not 0 < rcut < np.inf:
        raise InputError(f"-r must be a cutoff in Å above 0. Received: {rcut:g}")
    data = survey(system, **spin)
    data.report()
    stat = NeighborStat(data.type_map, data.spin, rcut)
    for path in data.paths:
        stat.add(load_system(path, data.type_map, data.spin, allow_zero_spin=True))
    sel = descriptor.get("sel")
    sys.stdout.write(_report(stat, sel if isinstance(sel, list) else None))
    if output is not None:
        _draw(stat, output)
        log.info("wrote '%s'", output)
    return stat


# --- Words ----------------------------------------------------------------------------


def _report(stat: NeighborStat, sel: list[int] | None) -> str:
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


# --- Picture --------------------------------------------------------------------------


def _draw(stat: NeighborStat, path: str) -> None:
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
    save(figure, path)
