# SPDX-License-Identifier: Apache-2.0
"""``dp-spin plot``: learning curves, and predictions against labels, as pictures."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.utils.files import DataError
from deepspin.utils.plots import (
    COLORS,
    GREY,
    MAGNETIC,
    QUANTITIES,
    Parity,
    claim_picture,
    draw_parity,
    new_figure,
    save,
)
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# columns of a learning curve without _val and _trn; N is that of the loss
TERMS = {
    "rmse_e": ("energy", "rmse / N (eV/atom)"),
    "rmse_f": ("force", "rmse (eV/Å)"),
    "rmse_fr": ("force", "rmse (eV/Å)"),
    "rmse_fm": ("magnetic force", f"rmse ({MAGNETIC})"),
    "rmse_v": ("virial", "rmse / N (eV/atom)"),
    "rmse_ae": ("atomic energy", "rmse (eV)"),
}
# lines of a file that are drawn one by one; more are gathered in bins
MANY_LINES = 2000
BINS = 500
LONGEST_LABEL = 36


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        "learning curve", or the quantity of a detail file (see `plots.QUANTITIES`).
    columns : list of str
        Their names.
    values : np.ndarray
        Numbers, shape (lines, columns).
    """

    path: Path
    kind: str
    columns: list[str]
    values: np.ndarray


def plot(
    files: Sequence[str],
    *,
    output: str | None = None,
    labels: Sequence[str] | None = None,
    log_x: bool = False,
    linear_y: bool = False,
) -> None:
    """Draw learning curves of one run or more, or detail files of ``dp-spin test``.

    Parameters
    ----------
    files : sequence of str
        Learning curves (``lcurve.out``, of deepspin or DeePMD-kit), or detail files.
    output : str, optional
        Picture; by default beside the first file, with its name and ``.png``.
    labels : sequence of str, optional
        Names of the runs; by default the parts of the paths that differ.
    log_x, linear_y : bool
        Axes of learning curves: steps on a logarithmic one, errors on a linear one.

    Raises
    ------
    DataError
        A file is not there, is neither, or has no numbers; or both kinds are given.
    InputError
        As many `labels` as files are needed.
    """
    paths = [Path(name) for name in files]
    if labels is not None and len(labels) != len(paths):
        raise InputError(
            f"--labels needs a label for each of the {len(paths)} files. Received: "
            f"{len(labels)}"
        )
    for path in paths:
        _check_file(path)
    target = claim_picture(output or paths[0].with_suffix(".png"))
    tables = [read_table(path) for path in paths]
    names = list(labels) if labels else _short_names(paths)
    if all(table.kind == "learning curve" for table in tables):
        figure = draw_curves(tables, names, log_x=log_x, linear_y=linear_y)
    else:
        if labels or log_x or linear_y:
            raise InputError(
                "--labels, --log-x and --linear-y are for learning curves, not for "
                "detail files."
            )
        figure = draw_parity(_parities(tables, names))
    save(figure, target)
    log.info("drew %s", target)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(
            f"'{path}' is a folder. Give the file, such as '{path / 'lcurve.out'}'."
        )
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.")


# --- Reading --------------------------------------------------------------------------


def read_table(path: Path) -> Table:
    """Read a learning curve or a detail file.

    A last line without its end is left out: it may be half written. Where a run was
    restarted from an earlier step, the lines written last count.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Table
        Its columns and numbers.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        log.warning("'%s': the last line is not complete; left out", path)
    if not text.strip():
        raise DataError(f"'{path}' is empty.")
    kind, columns = _columns(path, text)
    values = _numbers(path, text)
    if values.size == 0:
        raise DataError(f"'{path}' has no numbers yet, only a header.")
    if values.shape[1] != len(columns):
        raise DataError(
            f"'{path}' has {values.shape[1]} numbers in a line, but its header names "
            f"{len(columns)}."
        )
    if not np.isfinite(values).any():
        raise DataError(f"'{path}' has no numbers but nan.")
    if kind == "learning curve":
        if not np.isfinite(values[:, 0]).all():
            raise DataError(f"'{path}' has a step that is no number.")
        values = _last_written(values)
    return Table(path, kind, columns, values)


def _columns(path: Path, text: str) -> tuple[str, list[str]]:
    """Kind of a file and the names of its columns, from its comments."""
    comments = re.findall("^#.*$", text, re.MULTILINE)
    head = comments[0][1:] if text.lstrip().startswith("#") else ""
    first = head.split()
    if first[:1] == ["step"] and any(n.startswith("rmse") for n in first):
        for line in comments:
            if line[1:].split()[:1] == ["step"] and line[1:].split() != first:
                raise DataError(
                    f"'{path}' changes its columns: runs of different losses are in "
                    "it. Split it."
                )
        return "learning curve", first
    columns = head.rpartition(": ")[2].split()
    for suffix, quantity in QUANTITIES.items():
        expected = [f"{k}_{c}" for k in ("data", "pred") for c in quantity.components]
        if columns == expected and suffix.endswith("peratom") == (
            "_peratom." in path.name
        ):
            return suffix, columns
    raise DataError(
        f"'{path}' is neither a learning curve (its first line begins with '# step "
        "rmse') nor a detail file of dp-spin test -d (with '# system: data_fx ...')."
    )


def _numbers(path: Path, text: str) -> np.ndarray:
    rows = io.StringIO(text)
    try:
        if all(line.startswith("#") or not line.strip() for line in rows):
            return np.empty((0, 0))
        rows.seek(0)
        return np.loadtxt(rows, ndmin=2)
    except ValueError as error:
        message = str(error).partition(";")[0].rstrip(".")
        raise DataError(f"'{path}' is not a table of numbers: {message}.") from error


def _last_written(values: np.ndarray) -> np.ndarray:
    """Lines whose step no later line repeats or precedes."""
    later = np.minimum.accumulate(values[::-1, 0])[::-1]
    return values[np.append(values[:-1, 0] < later[1:], True)]


def _short_names(paths: Sequence[Path]) -> list[str]:
    """What tells the paths apart: without the folders and names that all share."""
    parts = [list(Path(os.path.abspath(path)).parts) for path in paths]
    if len({tuple(p) for p in parts}) < 2:
        return [path.name for path in paths]
    while len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while len({p[-1] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]


def _parities(tables: Sequence[Table], names: Sequence[str]) -> list[Parity]:
    """Panels of detail files, named where a quantity comes twice."""
    for table in tables:
        if table.kind == "learning curve":
            raise DataError(
                f"'{table.path}' is a learning curve, others are detail files. Draw "
                "them in two pictures."
            )
    kinds = [table.kind for table in tables]
    panels = []
    for table, name in zip(tables, names, strict=True):
        label, pred = np.hsplit(table.values, 2)
        title = _shortened(name) if len(set(kinds)) < len(kinds) else ""
        panels.append(Parity(table.kind, label, pred, title))
    return panels


# --- Drawing --------------------------------------------------------------------------


def draw_curves(
    tables: Sequence[Table],
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
    tables : sequence of Table
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
            _draw_line(axis, table.values[:, 0], rate, _style(k), log_x=log_x)
        axis.set_title("learning rate", fontsize=10, loc="left")
        _finish(axis, "", log_x=log_x, log_y=True)
    if count < len(axes):  # the last panel takes the empty place beside it
        axes[-1].remove()
        axes[-2].set_subplotspec(axes[-2].get_gridspec()[-1, :])
    _draw_legend(figure, tables, names, list(terms))
    return figure


def _terms(tables: Sequence[Table]) -> dict[str, str]:
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


def _column(table: Table, title: str, end: str) -> np.ndarray | None:
    """Errors of validation ("val") or training ("trn"), None if there are none."""
    for name, values in zip(table.columns, table.values.T, strict=True):
        term, _, last = name.rpartition("_")
        if last == end and TERMS.get(term, ("",))[0] == title:
            return values if np.isfinite(values).any() else None
    return None


def _draw_run(axis: Axes, table: Table, title: str, number: int, log_x: bool) -> None:
    steps = table.values[:, 0]
    valid, train = (_column(table, title, end) for end in ("val", "trn"))
    if train is not None:
        style = _style(number, faint=valid is not None)
        _draw_line(axis, steps, train, style, log_x=log_x)
    if valid is not None:
        _draw_line(axis, steps, valid, _style(number), log_x=log_x)


def _style(number: int, *, faint: bool = False) -> dict:
    """Colour and line of a run."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": ("-", "--", ":")[number // len(COLORS) % 3],
        "linewidth": 0.9 if faint else 1.7,
        "alpha": 0.4 if faint else 1.0,
        "zorder": 2.0 if faint else 3.0,
    }


def _draw_line(
    axis: Axes, steps: np.ndarray, values: np.ndarray, style: dict, *, log_x: bool
) -> None:
    shown = np.isfinite(values) & (steps > 0 if log_x else True)
    if np.count_nonzero(shown) > MANY_LINES:
        steps, values, low, high = _binned(steps[shown], values[shown], log_x)
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


def _binned(
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


def _finish(axis: Axes, unit: str, *, log_x: bool, log_y: bool) -> None:
    """Scales and labels, once the lines are drawn."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    drawn = [line.get_xydata() for line in axis.lines]
    points = np.concatenate([xy[np.isfinite(xy).all(axis=1)] for xy in drawn])
    if log_x:
        axis.set_xscale("log", nonpositive="mask")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        if len(points) and np.ptp(points[:, 0]) == 0:
            axis.set_xlim(points[0, 0] - 1, points[0, 0] + 1)
    if log_y and (points[:, 1] > 0).any():
        _set_log_y(axis)
    axis.set(xlabel="step", ylabel=unit)


def _set_log_y(axis: Axes) -> None:
    """Logarithmic axis, with plain numbers where they are short."""
    from matplotlib.ticker import (
        AutoLocator,
        LogFormatterSciNotation,
        LogLocator,
        NullFormatter,
    )

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


def _draw_legend(
    figure: Figure, tables: Sequence[Table], names: Sequence[str], terms: Sequence[str]
) -> None:
    from matplotlib.lines import Line2D

    ends = {
        end
        for end in ("val", "trn")
        if any(_column(t, title, end) is not None for t in tables for title in terms)
    }
    entries = []
    key = {}
    if len(tables) > 1:
        entries = [(_shortened(name), _style(k)) for k, name in enumerate(names)]
        key = {"color": "0.2"}
    if "val" in ends:
        entries.append(("validation", _style(0) | key))
    if "trn" in ends:
        entries.append(("training", _style(0, faint="val" in ends) | key))
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


def _shortened(name: str) -> str:
    """Leave out the middle of a long name."""
    if len(name) <= LONGEST_LABEL:
        return name
    half = LONGEST_LABEL // 2
    return f"{name[: half - 1]}…{name[-half:]}"
