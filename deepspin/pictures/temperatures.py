# SPDX-License-Identifier: Apache-2.0
"""Temperature curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.pictures.lines import draw_legend, line_style, shortened
from deepspin.pictures.plots import GREY, new_figure
from deepspin.pictures.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# panels: column and its error, title, unit
PANELS = (
    ("order", "order error", "order parameter", ""),
    (
        "susceptibility (1/eV)",
        "susceptibility error (1/eV)",
        "susceptibility of the order",
        "1/eV",
    ),
    ("binder", "binder error", "Binder cumulant", ""),
    (
        "heat capacity (k_B/atom)",
        "heat capacity error (k_B/atom)",
        "heat capacity",
        r"$k_\mathrm{B}$ per atom",
    ),
    (
        "energy (eV/atom)",
        "energy error (eV/atom)",
        "potential energy, from its first value",
        "eV/atom",
    ),
    (
        "magnetisation (mu_B)",
        "magnetisation error (mu_B)",
        "magnetisation",
        r"$\mu_\mathrm{B}$ per spin",
    ),
)
# points whose errors may be larger than drawn
_DOUBTFUL = {
    "linestyle": "",
    "marker": "o",
    "markersize": 4.5,
    "markerfacecolor": "white",
    "zorder": 4,
}


def draw_temperatures(
    tables: Sequence[ResultTable],
    names: Sequence[str],
    band: tuple[float, float] | None = None,
) -> Figure:
    """Draw tables of ``dp-spin thermo``, each size of each file as a line.

    Parameters
    ----------
    tables : sequence of ResultTable
        One for each file.
    names : sequence of str
        Names of the files.
    band : (float, float), optional
        Where order ends, from and to, in K.

    Returns
    -------
    Figure
        The picture.

    Raises
    ------
    DataError
        A table lacks a column.
    """
    lines = []
    for table, name in zip(tables, names, strict=True):
        table.require([*(name for panel in PANELS for name in panel[:2]), "trusted"])
        columns = dict(zip(table.columns, table.values.T, strict=True))
        for natoms in np.unique(columns["natoms"]):
            rows = columns["natoms"] == natoms
            words = [shortened(name)] if len(tables) > 1 else []
            text = ", ".join([*words, f"{natoms:.0f} atoms"])
            lines.append((text, {k: v[rows] for k, v in columns.items()}))
    figure, axes = new_figure(3, 2, size=(4.2, 2.5))
    entries = [(text, line_style(k)) for k, (text, _) in enumerate(lines)]
    if any((line["trusted"] == 0).any() for _, line in lines):
        entries.append(("too few samples, or drifting", _DOUBTFUL | {"color": GREY}))
    draw_legend(figure, entries)
    for axis, (column, error, title, unit) in zip(axes, PANELS, strict=True):
        for number, (_, line) in enumerate(lines):
            kelvin, style = line["temperature (K)"], line_style(number)
            first = line[column][0] if column.startswith("energy") else 0.0
            axis.errorbar(
                kelvin,
                line[column] - first,
                yerr=line[error],
                marker="o",
                markersize=3.5,
                capsize=2,
                **style | {"linewidth": 1.2},
            )
            doubtful = np.where(line["trusted"] == 0, line[column] - first, np.nan)
            axis.plot(kelvin, doubtful, **_DOUBTFUL | {"color": style["color"]})
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(xlabel="temperature (K)", ylabel=unit)
        if band is not None:
            axis.axvspan(*band, color=GREY, alpha=0.25, linewidth=0, zorder=1)
    return figure
