# SPDX-License-Identifier: Apache-2.0
"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.files import DataError
from deepspin.pictures.lines import (
    draw_legend,
    draw_line,
    fill_place,
    line_style,
    set_log_y,
    set_steps,
    shortened,
)
from deepspin.pictures.plots import MAGNETIC, new_figure
from deepspin.pictures.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# columns of a learning curve without _val and _trn; N is that of the loss
TERMS = {
    "rmse_e": ("energy", "rmse / N (eV/atom)"),
    "rmse_f": ("force", "rmse (eV/Å)"),
    "rmse_fr": ("force", "rmse (eV/Å)"),
    "rmse_fm": ("magnetic force", f"rmse ({MAGNETIC})"),
    "rmse_v": ("virial", "rmse / N (eV/atom)"),
    "rmse_ae": ("atomic energy", "rmse (eV)"),
}


def draw_curves(
    tables: Sequence[ResultTable],
    names: Sequence[str],
    *,
    log_x: bool = False,
    linear_y: bool = False,
) -> Figure:
    """Draw learning curves, a panel for each error and one for the learning rate.

    Validation is drawn strongly, training faintly. Of more than `MANY_LINES` lines,
    those of `BINS` equal parts of the axis are drawn as their median, in a band from
    the smallest to the largest.

    Parameters
    ----------
    tables : sequence of ResultTable
        One for each run.
    names : sequence of str
        Names of the runs.
    log_x, linear_y : bool
        As of `plot`; a logarithmic axis has no step 0.

    Returns
    -------
    Figure
        The picture.
    """
    terms = _terms(tables)
    log_x = log_x and any((table.values[:, 0] > 0).any() for table in tables)
    rates = [(k, table) for k, table in enumerate(tables) if "lr" in table.columns]
    count = len(terms) + bool(rates)
    ncols = min(count, 2)
    figure, axes = new_figure(-(-count // ncols), ncols, size=(4.2, 2.7))
    for axis, (title, unit) in zip(axes, terms.items(), strict=False):
        for k, table in enumerate(tables):
            _draw_run(axis, table, title, k, log_x)
        axis.set_title(title, fontsize=10, loc="left")
        _finish(axis, unit, log_x=log_x, log_y=not linear_y)
    if rates:
        axis = axes[len(terms)]
        for k, table in rates:
            rate = table.values[:, table.columns.index("lr")]
            draw_line(axis, table.values[:, 0], rate, line_style(k), log_x=log_x)
        axis.set_title("learning rate", fontsize=10, loc="left")
        _finish(axis, "", log_x=log_x, log_y=True)
    fill_place(axes, count)
    _draw_legend(figure, tables, names, list(terms))
    return figure


def _terms(tables: Sequence[ResultTable]) -> dict[str, str]:
    """Errors that any file has numbers of, with their units."""
    found = {
        title: unit
        for title, unit in TERMS.values()
        for table in tables
        if any(_column(table, title, end) is not None for end in ("val", "trn"))
    }
    if not found:
        raise DataError(
            f"'{tables[0].path}' has no errors of energy, force, magnetic force or "
            f"virial, or all are nan. Its columns: {', '.join(tables[0].columns)}."
        )
    return found


def _column(table: ResultTable, title: str, end: str) -> np.ndarray | None:
    """Errors of validation ("val") or training ("trn"), None if there are none."""
    for name, values in zip(table.columns, table.values.T, strict=True):
        term, _, last = name.rpartition("_")
        if last == end and TERMS.get(term, ("",))[0] == title:
            return values if np.isfinite(values).any() else None
    return None


def _draw_run(
    axis: Axes, table: ResultTable, title: str, number: int, log_x: bool
) -> None:
    steps = table.values[:, 0]
    valid, train = (_column(table, title, end) for end in ("val", "trn"))
    if train is not None:
        style = line_style(number, faint=valid is not None)
        draw_line(axis, steps, train, style, log_x=log_x)
    if valid is not None:
        draw_line(axis, steps, valid, line_style(number), log_x=log_x)


def _finish(axis: Axes, unit: str, *, log_x: bool, log_y: bool) -> None:
    """Scales and labels, once the lines are drawn."""
    if log_x:
        axis.set_xscale("log", nonpositive="mask")
    else:
        set_steps(axis)
    if log_y:
        set_log_y(axis)
    axis.set(xlabel="step", ylabel=unit)


def _draw_legend(
    figure: Figure,
    tables: Sequence[ResultTable],
    names: Sequence[str],
    terms: Sequence[str],
) -> None:
    ends = {
        end
        for end in ("val", "trn")
        if any(_column(t, title, end) is not None for t in tables for title in terms)
    }
    entries = []
    key = {}
    if len(tables) > 1:
        entries = [(shortened(name), line_style(k)) for k, name in enumerate(names)]
        key = {"color": "0.2"}
    if "val" in ends:
        entries.append(("validation", line_style(0) | key))
    if "trn" in ends:
        entries.append(("training", line_style(0, faint="val" in ends) | key))
    draw_legend(figure, entries)
