# SPDX-License-Identifier: Apache-2.0
"""Logs of dynamics and of relaxations."""

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
    shortened,
)
from deepspin.pictures.plots import MAGNETIC, new_figure
from deepspin.pictures.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# columns of a log of dynamics
DYNAMICS = {
    "e_total": ("change of the total energy", "eV"),
    "e_pot": ("change of the potential energy", "eV"),
    "e_conserved": ("change of the energy with that of the baths", "eV"),
    "t_lattice": ("temperature of the atoms", "K"),
    "t_spin": ("temperature of the spins", "K"),
    "m": ("magnetisation", r"$\mu_\mathrm{B}$ per spin"),
    "order": ("staggered order", ""),
    "modulus": ("mean |spin|", r"$\mu_\mathrm{B}$"),
    "volume": ("volume", "Å³"),
    "pressure": ("pressure", "GPa"),
}
# part of the values at either end that need not be in a panel: a spin temperature of
# one instant may be anything
BEYOND = 0.01
# columns of a log of a relaxation, beside its energies
LEFT = {
    "fmax": ("longest force", "eV/Å"),
    "tmax": ("longest magnetic force", MAGNETIC),
    "smax": ("largest stress", "GPa"),
}


def draw_dynamics(tables: Sequence[ResultTable], names: Sequence[str]) -> Figure:
    """Draw logs of dynamics against time, a panel for each quantity that changes.

    Parameters
    ----------
    tables : sequence of ResultTable
        One for each run; each replica has a line of its own.
    names : sequence of str
        Names of the runs.

    Returns
    -------
    Figure
        The picture.

    Raises
    ------
    DataError
        A table lacks a column.
    """
    from matplotlib.ticker import EngFormatter

    runs = _runs(tables, names, ("time", "e_total", "e_pot", "e_kin"))
    panels = [c for c in DYNAMICS if any(_tells(run, c) for _, run in runs)]
    ncols = min(len(panels), 2)
    figure, axes = new_figure(-(-len(panels) // ncols), ncols, size=(4.2, 2.5))
    for axis, column in zip(axes, panels, strict=False):
        title, unit = DYNAMICS[column]
        for number, (_, run) in enumerate(runs):
            if column in run:
                first = run[column][0] if column.startswith("e_") else 0.0
                style = line_style(number) | {"linewidth": 1.2}
                draw_line(axis, run["time"], run[column] - first, style)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(xlabel="time (ps)", ylabel=unit)
        _limit(axis)
        if column.startswith("e_"):  # from μeV to keV
            axis.set_ylabel("")
            axis.yaxis.set_major_formatter(EngFormatter(unit=unit, usetex=False))
    fill_place(axes, len(panels))
    _name(figure, runs)
    return figure


def _name(figure: Figure, runs: Sequence[tuple[str, dict]]) -> None:
    """Name the lines, if there are several but not too many."""
    if 1 < len(runs) <= MANY_NAMES:
        draw_legend(figure, [(name, line_style(k)) for k, (name, _) in enumerate(runs)])


def _runs(
    tables: Sequence[ResultTable],
    names: Sequence[str],
    needed: Sequence[str],
    what: str = "replica",
) -> list[tuple[str, dict]]:
    """Name and columns of each replica of each run; some columns must be there."""
    found = []
    for table, name in zip(tables, names, strict=True):
        table.require(needed)
        replicas = table.replicas()
        for number, run in enumerate(replicas):
            words = [shortened(name)] * (len(tables) > 1)
            words += [f"{what} {number}"] * (len(replicas) > 1)
            found.append((", ".join(words), run))
    return found


def _tells(run: dict[str, np.ndarray], column: str) -> bool:
    """Whether a column of a run has something that others have not."""
    if column not in run or not np.isfinite(run[column]).any():
        return False
    if column == "e_pot":
        return bool(run["e_kin"].any())
    return column != "t_lattice" or bool(run[column].any())


def _limit(axis: Axes) -> None:
    """Leave out what is far from all but a few points."""
    values = np.concatenate([np.asarray(line.get_ydata()) for line in axis.lines])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [BEYOND, 1 - BEYOND])
    margin = 0.5 * (high - low)
    inside = values[(values >= low - margin) & (values <= high + margin)]
    if len(inside) < len(values):
        axis.set_ylim(inside.min() - 0.05 * margin, inside.max() + 0.05 * margin)


# --- Relaxations ----------------------------------------------------------------------


def draw_relaxation(tables: Sequence[ResultTable], names: Sequence[str]) -> Figure:
    """Draw logs of relaxations: what is left of energy and forces in each step.

    Energies are above the lowest one of all, enthalpies under an outer pressure. Of
    several starts a panel has the energies of their ends, from low to high.

    Parameters
    ----------
    tables : sequence of ResultTable
        One for each run; each start has a line of its own.
    names : sequence of str
        Names of the runs.

    Returns
    -------
    Figure
        The picture.

    Raises
    ------
    DataError
        A table lacks a column.
    """
    needed = ("step", "energy", "enthalpy", *LEFT)
    runs = _runs(tables, names, needed, "start")
    pressed = any((run["energy"] != run["enthalpy"]).any() for _, run in runs)
    what = "enthalpy" if pressed else "energy"
    lowest = np.nanmin([run["enthalpy"].min() for _, run in runs])
    left = [c for c in LEFT if any(run[c].any() for _, run in runs)]
    many = any(len(table.replicas()) > 1 for table in tables)
    count = 1 + len(left) + many
    ncols = min(count, 2)
    figure, axes = new_figure(-(-count // ncols), ncols, size=(4.2, 2.7))
    for number, (_, run) in enumerate(runs):
        style = line_style(number) | {"linewidth": 1.2}
        draw_line(axes[0], run["step"], run["enthalpy"] - lowest, style)
        for axis, column in zip(axes[1:], left, strict=False):
            draw_line(axis, run["step"], run[column], style)
    titles = [(f"{what} above the lowest", "eV"), *(LEFT[c] for c in left)]
    for axis, (title, unit) in zip(axes, titles, strict=False):
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(xlabel="step", ylabel=unit)
        set_steps(axis)
        set_log_y(axis)
    if many:
        _draw_ends(axes[count - 1], tables, lowest, what)
    fill_place(axes, count)
    _name(figure, runs)
    return figure


def _draw_ends(
    axis: Axes, tables: Sequence[ResultTable], lowest: float, what: str
) -> None:
    """Draw the last energies of the replicas of each run, sorted."""
    for number, table in enumerate(tables):
        ends = np.sort([run["enthalpy"][-1] for run in table.replicas()])
        color = "0.3" if len(tables) == 1 else line_style(number)["color"]
        axis.plot(np.arange(len(ends)), 1e3 * (ends - lowest), "o", ms=4, color=color)
    axis.set_title(f"{what} of the ends above the lowest", fontsize=10, loc="left")
    axis.set(xlabel="start, by its end", ylabel="meV")
    set_steps(axis)
