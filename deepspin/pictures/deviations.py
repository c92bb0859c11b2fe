# SPDX-License-Identifier: Apache-2.0
"""How much models disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.pictures.lines import (
    MANY_NAMES,
    draw_legend,
    draw_line,
    fill_place,
    line_style,
    set_log_y,
    set_steps,
    short_names,
    shortened,
)
from deepspin.pictures.plots import MAGNETIC, new_figure
from deepspin.pictures.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# what is drawn: unit, and columns drawn strongly and faintly; forces of all atoms,
# components of the virial
PANELS = {
    "force": ("eV/Å", "max_devi_f", "avg_devi_f"),
    "magnetic force": (MAGNETIC, "max_devi_fm", "avg_devi_fm"),
    "energy": ("eV/atom", "devi_e", None),
    "virial": ("eV/atom", "max_devi_v", "avg_devi_v"),
}


def draw_deviations(tables: Sequence[ResultTable], names: Sequence[str]) -> Figure:
    """Draw deviations of models over frames, a panel for each quantity.

    Systems of one file follow each other, frame by frame; of several files, each has a
    colour.

    Parameters
    ----------
    tables : sequence of ResultTable
        One for each file.
    names : sequence of str
        Names of the files.

    Returns
    -------
    Figure
        The picture.
    """
    several = any(len(table.systems) > 1 for table in tables)
    parts = [part for table in tables for part in _parts(table, several)]
    lines = [line_style(k) for k in range(len(parts))]
    entries = [(shortened(table), line_style(k)) for k, table in enumerate(names)]
    if len(tables) == 1:
        entries = [
            (shortened(name), line_style(k))
            for k, name in enumerate(short_names(tables[0].systems))
        ]
    else:
        numbers = [k for k, table in enumerate(tables) for _ in table.systems]
        lines = [line_style(k) for k in numbers]
    panels = {
        title: panel
        for title, panel in PANELS.items()
        if any(np.isfinite(part.get(panel[1], np.nan)).any() for part in parts)
    }
    ncols = min(len(panels), 2)
    figure, axes = new_figure(-(-len(panels) // ncols), ncols, size=(4.2, 2.7))
    for axis, (title, (unit, strong, faint)) in zip(axes, panels.items(), strict=False):
        for part, style in zip(parts, lines, strict=True):
            if faint in part:
                weak = {"linewidth": 0.9, "alpha": 0.4}
                draw_line(axis, part["x"], part[faint], style | weak)
            if strong in part:
                draw_line(axis, part["x"], part[strong], style)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(xlabel="frame" if several else "step", ylabel=f"deviation ({unit})")
        set_steps(axis)
        set_log_y(axis)
    fill_place(axes, len(panels))
    entries = entries if 1 < len(entries) <= MANY_NAMES else []
    key = line_style(0) | ({"color": "0.2"} if entries else {})
    weak = {"linewidth": 0.9, "alpha": 0.4}
    entries += [("largest", key), ("mean", key | weak)]
    draw_legend(figure, entries)
    return figure


def _parts(table: ResultTable, several: bool) -> list[dict[str, np.ndarray]]:
    """Columns of each system by name, and where they stand as ``x``."""
    columns = dict(zip(table.columns, table.values.T, strict=True))
    columns["x"] = np.arange(len(table.values)) if several else columns["step"]
    rows = [columns["system"] == k for k in range(len(table.systems))]
    return [{name: v[chosen] for name, v in columns.items()} for chosen in rows]
