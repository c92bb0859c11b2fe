# SPDX-License-Identifier: Apache-2.0
"""``dp-spin plot``: learning curves, dynamics, predictions against labels."""

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
from deepspin.utils.lines import draw_legend, draw_line, line_style, shortened
from deepspin.utils.plots import (
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
# columns of a log of dynamics
DYNAMICS = {
    "e_total": ("change of the total energy", "eV"),
    "e_pot": ("change of the potential energy", "eV"),
    "t_lattice": ("temperature of the atoms", "K"),
    "t_spin": ("temperature of the spins", "K"),
    "m": ("magnetisation", r"$\mu_\mathrm{B}$ per spin"),
    "order": ("staggered order", ""),
    "modulus": ("mean |spin|", r"$\mu_\mathrm{B}$"),
}
# part of the values at either end that need not be in a panel: a spin temperature of
# one instant may be anything
BEYOND = 0.01
# more lines than this are not named
MANY_NAMES = 14


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        "learning curve", "dynamics", or the quantity of a detail file (see
        `plots.QUANTITIES`).
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
    """Draw learning curves or dynamics of one run or more, or detail files.

    Parameters
    ----------
    files : sequence of str
        Learning curves (``lcurve.out``, of deepspin or DeePMD-kit), logs of ``dp-spin
        md``, or detail files of ``dp-spin test``.
    output : str, optional
        Picture; by default beside the first file, with its name and ``.png``.
    labels : sequence of str, optional
        Names of the runs; by default the parts of the paths that differ.
    log_x, linear_y : bool
        Axes of learning curves: steps on a logarithmic one, errors on a linear one.

    Raises
    ------
    DataError
        A file is not there, is none of these, or has no numbers; or several kinds are
        given.
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
    kinds = {table.kind for table in tables}
    if kinds == {"learning curve"}:
        figure = draw_curves(tables, names, log_x=log_x, linear_y=linear_y)
    elif kinds == {"dynamics"}:
        if log_x or linear_y:
            raise InputError("--log-x and --linear-y are for learning curves.")
        figure = draw_dynamics(tables, names)
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
    """Read a learning curve, a log of dynamics or a detail file.

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
    if first[:3] == ["step", "replica", "time"]:
        return "dynamics", first
    columns = head.rpartition(": ")[2].split()
    for suffix, quantity in QUANTITIES.items():
        expected = [f"{k}_{c}" for k in ("data", "pred") for c in quantity.components]
        if columns == expected and suffix.endswith("peratom") == (
            "_peratom." in path.name
        ):
            return suffix, columns
    raise DataError(
        f"'{path}' is neither a learning curve (its first line begins with '# step "
        "rmse') nor a log of dynamics ('# step replica time') nor a detail file of "
        "dp-spin test -d ('# system: data_fx ...')."
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
        if table.kind not in QUANTITIES:
            what = {"dynamics": "log of dynamics"}.get(table.kind, table.kind)
            details = any(other.kind in QUANTITIES for other in tables)
            raise DataError(
                f"'{table.path}' is a {what}, others are "
                f"{'detail files' if details else 'not'}. Draw them in two pictures."
            )
    kinds = [table.kind for table in tables]
    panels = []
    for table, name in zip(tables, names, strict=True):
        label, pred = np.hsplit(table.values, 2)
        title = shortened(name) if len(set(kinds)) < len(kinds) else ""
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
            draw_line(axis, table.values[:, 0], rate, line_style(k), log_x=log_x)
        axis.set_title("learning rate", fontsize=10, loc="left")
        _finish(axis, "", log_x=log_x, log_y=True)
    _fill_place(axes, count)
    _draw_legend(figure, tables, names, list(terms))
    return figure


def _fill_place(axes: list[Axes], count: int) -> None:
    """Have the last panel take an empty place beside it."""
    if count < len(axes):
        axes[-1].remove()
        axes[-2].set_subplotspec(axes[-2].get_gridspec()[-1, :])


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
        style = line_style(number, faint=valid is not None)
        draw_line(axis, steps, train, style, log_x=log_x)
    if valid is not None:
        draw_line(axis, steps, valid, line_style(number), log_x=log_x)


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


# --- Dynamics -------------------------------------------------------------------------


def draw_dynamics(tables: Sequence[Table], names: Sequence[str]) -> Figure:
    """Draw logs of dynamics against time, a panel for each quantity that changes.

    Parameters
    ----------
    tables : sequence of Table
        One for each run; each replica has a line of its own.
    names : sequence of str
        Names of the runs.

    Returns
    -------
    Figure
        The picture.
    """
    from matplotlib.ticker import EngFormatter

    runs = [
        run
        for table, name in zip(tables, names, strict=True)
        for run in _replicas(table, name if len(tables) > 1 else "")
    ]
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
    _fill_place(axes, len(panels))
    if 1 < len(runs) <= MANY_NAMES:
        draw_legend(figure, [(name, line_style(k)) for k, (name, _) in enumerate(runs)])
    return figure


def _replicas(table: Table, name: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Names and columns of the replicas of a run."""
    columns = dict(zip(table.columns, table.values.T, strict=True))
    numbers = np.unique(columns["replica"])
    found = []
    for number in numbers:
        rows = columns["replica"] == number
        words = [shortened(name)] if name else []
        if len(numbers) > 1:
            words.append(f"replica {number:.0f}")
        part = {column: values[rows] for column, values in columns.items()}
        found.append((", ".join(words), part))
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
