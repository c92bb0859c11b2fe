# SPDX-License-Identifier: Apache-2.0
"""Pictures of result files, by what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.data.files import DataError
from deepspin.pictures.curves import draw_curves
from deepspin.pictures.deviations import draw_deviations
from deepspin.pictures.lines import short_names, shortened
from deepspin.pictures.motion import draw_dynamics, draw_relaxation
from deepspin.pictures.plots import QUANTITIES, Parity, draw_parity
from deepspin.pictures.tables import ResultTable, read_table
from deepspin.pictures.temperatures import draw_temperatures
from deepspin.pictures.trajectory import SUFFIXES, Motion, draw_motion, read_motion
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# files of which several are drawn into one picture, and what they are called
DRAW: dict[str, Callable] = {
    "dynamics": draw_dynamics,
    "relaxation": draw_relaxation,
    "temperatures": draw_temperatures,
    "deviations": draw_deviations,
    "trajectory": draw_motion,
}
CALLED = {
    "dynamics": "log of dynamics",
    "relaxation": "log of a relaxation",
    "temperatures": "table of temperatures",
    "deviations": "file of deviations",
}


def draw_results(
    paths: Sequence[Path],
    labels: Sequence[str] | None = None,
    *,
    log_x: bool = False,
    linear_y: bool = False,
) -> Figure:
    """Draw result files of one kind.

    Parameters
    ----------
    paths : sequence of Path
        Files that `dp-spin plot` takes.
    labels : sequence of str, optional
        Names of the runs; by default the parts of the paths that differ.
    log_x, linear_y : bool
        Axes of learning curves: steps on a logarithmic one, errors on a linear one.

    Raises
    ------
    DataError
        A file is none of these, has no numbers, or is of another kind than the first.
    InputError
        Labels or axes that this kind does not have.
    """
    tables: list[Any] = [
        read_motion(path) if path.suffix in SUFFIXES else read_table(path)
        for path in paths
    ]
    names = list(labels) if labels else short_names(paths)
    kind = _kind(tables)
    if kind != "learning curve" and (log_x or linear_y):
        raise InputError("--log-x and --linear-y are for learning curves.")
    if kind in QUANTITIES and labels:
        raise InputError("--labels are for runs, not for detail files.")
    if kind in QUANTITIES:
        return draw_parity(_parities(tables, names))
    if kind == "learning curve":
        return draw_curves(tables, names, log_x=log_x, linear_y=linear_y)
    return DRAW[kind](tables, names)


def default_picture(path: Path) -> Path:
    """Where a picture goes whose first file is this."""
    if path.suffix in SUFFIXES:
        return path.with_name(f"{path.name}.png")
    return path.with_suffix(".png")


def _kind(tables: Sequence[ResultTable | Motion]) -> str:
    """Kind of all files; of detail files that of the first."""

    def called(table: ResultTable | Motion) -> str:
        known = table.kind not in QUANTITIES
        return CALLED.get(table.kind, table.kind) if known else "detail file"

    for table in tables:
        if called(table) != called(tables[0]):
            raise DataError(
                f"'{table.path}' is a {called(table)}, '{tables[0].path}' a "
                f"{called(tables[0])}. Draw them in two pictures."
            )
    return tables[0].kind


def _parities(tables: Sequence[ResultTable], names: Sequence[str]) -> list[Parity]:
    """Panels of detail files, named where a quantity comes twice."""
    kinds = [table.kind for table in tables]
    panels = []
    for table, name in zip(tables, names, strict=True):
        label, pred = np.hsplit(table.values, 2)
        title = shortened(name) if len(set(kinds)) < len(kinds) else ""
        panels.append(Parity(table.kind, label, pred, title))
    return panels
