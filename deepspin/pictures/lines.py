# SPDX-License-Identifier: Apache-2.0
"""Lines of pictures: runs told apart, long ones gathered, names that fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.pictures.plots import COLORS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# points of a line that are drawn one by one; more are gathered in bins
MANY_LINES = 2000
BINS = 500
LONGEST_LABEL = 36
# more lines than this are not named
MANY_NAMES = 14


def line_style(number: int, *, faint: bool = False) -> dict:
    """Colour and line of a run."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": ("-", "--", ":")[number // len(COLORS) % 3],
        "linewidth": 0.9 if faint else 1.7,
        "alpha": 0.4 if faint else 1.0,
        "zorder": 2.0 if faint else 3.0,
    }


def draw_line(
    axis: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    style: dict,
    *,
    log_x: bool = False,
) -> None:
    """Draw a line; of many points, the median in a band from smallest to largest."""
    shown = np.isfinite(values) & (steps > 0 if log_x else True)
    if np.count_nonzero(shown) > MANY_LINES:
        steps, values, low, high = binned(steps[shown], values[shown], log_x)
        axis.fill_between(
            steps,
            low,
            high,
            color=style["color"],
            alpha=0.15,
            linewidth=0,
            zorder=style["zorder"] - 0.5,
        )
    else:  # gaps stay gaps
        values = np.where(shown, values, np.nan)
    few = len(steps) <= 30
    axis.plot(steps, values, marker="o" if few else None, markersize=3.5, **style)


def binned(
    steps: np.ndarray, values: np.ndarray, log_x: bool
) -> tuple[np.ndarray, ...]:
    """Middle, median, smallest and largest value of equal parts of the axis."""
    place = np.log(steps) if log_x else steps
    edges = np.linspace(place[0], place[-1], BINS + 1)[1:-1]
    starts = np.unique(np.append(0, np.searchsorted(place, edges)))
    starts = starts[starts < len(place)]
    parts = np.split(values, starts[1:])
    middle = np.array([np.median(part) for part in np.split(steps, starts[1:])])
    median = np.array([np.median(part) for part in parts])
    return (
        middle,
        median,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
    )


def set_steps(axis: Axes) -> None:
    """Whole steps along an axis, in thousands where they are many."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    points = _points(axis)
    if len(points) and np.ptp(points[:, 0]) == 0:
        axis.set_xlim(points[0, 0] - 1, points[0, 0] + 1)


def _points(axis: Axes) -> np.ndarray:
    """Finite points of the lines of a panel, (n, 2)."""
    drawn = [np.asarray(line.get_xydata()) for line in axis.lines]
    return np.concatenate([xy[np.isfinite(xy).all(axis=1)] for xy in drawn])


def set_log_y(axis: Axes) -> None:
    """Logarithmic axis, with plain numbers where they are short.

    Without a line that is positive anywhere it stays linear.
    """
    from matplotlib.ticker import (
        AutoLocator,
        LogFormatterSciNotation,
        LogLocator,
        NullFormatter,
    )

    if not (_points(axis)[:, 1] > 0).any():
        return
    axis.set_yscale("log", nonpositive="mask")
    low, high = axis.get_ylim()
    if high < 4 * low:
        axis.yaxis.set_major_locator(AutoLocator())
    else:
        subs = (1, 2, 5) if high < 100 * low else (1,)
        axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_minor_formatter(NullFormatter())
    every = LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf))
    plain = low > 5e-4 and high < 2e4
    axis.yaxis.set_major_formatter("{x:g}" if plain else every)


def fill_place(axes: list[Axes], count: int) -> None:
    """Have the last panel take an empty place beside it."""
    grid = axes[-2].get_gridspec() if count < len(axes) else None
    if grid is not None:
        axes[-1].remove()
        axes[-2].set_subplotspec(grid[-1, :])


def draw_legend(figure: Figure, entries: Sequence[tuple[str, dict]]) -> None:
    """Draw a legend of texts and styles above the panels.

    It tells, below them, if points were gathered.
    """
    from matplotlib.lines import Line2D

    widest = max(len(text) for text, _ in entries)
    legend = figure.legend(
        [Line2D([], [], **style) for _, style in entries],
        [str(k) for k in range(len(entries))],
        loc="outside upper center",
        ncols=max(1, min(len(entries), 112 // (widest + 9))),
        frameon=False,
        fontsize=9,
    )
    for artist, (text, _) in zip(legend.get_texts(), entries, strict=True):
        artist.set_text(text)  # a name may begin with _ and have $ in it
        artist.set_parse_math(False)
    if any(axis.collections for axis in figure.axes):
        figure.supxlabel(
            f"more than {MANY_LINES:,} lines: drawn are median and range of each "
            f"1/{BINS} of the axis",
            fontsize=8,
            color=GREY,
        )


def shortened(name: str) -> str:
    """Leave out the middle of a long name."""
    if len(name) <= LONGEST_LABEL:
        return name
    half = LONGEST_LABEL // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """What tells the paths apart: without the folders and names that all share."""
    parts = [list(Path(os.path.abspath(path)).parts) for path in paths]
    if len({tuple(p) for p in parts}) < 2:
        return [Path(path).name for path in paths]
    while len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while len({p[-1] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]
