# SPDX-License-Identifier: Apache-2.0
"""``dp-spin plot``: pictures of result files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.pictures.curves import draw_curves
from deepspin.pictures.deviations import draw_deviations
from deepspin.pictures.lines import short_names, shortened
from deepspin.pictures.motion import draw_dynamics, draw_relaxation
from deepspin.pictures.plots import QUANTITIES, Parity, claim_picture, draw_parity, save
from deepspin.pictures.tables import ResultTable, read_table
from deepspin.pictures.temperatures import draw_temperatures
from deepspin.pictures.trajectory import SUFFIXES, Motion, draw_motion, read_motion
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# files of which several are drawn into one picture, and what they are called
DRAW = {
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


def plot(
    files: Sequence[str],
    *,
    output: str | None = None,
    labels: Sequence[str] | None = None,
    log_x: bool = False,
    linear_y: bool = False,
) -> None:
    """Draw results of one run or more.

    Parameters
    ----------
    files : sequence of str
        Learning curves (``lcurve.out``, of deepspin or DeePMD-kit), logs of ``dp-spin
        md`` or ``relax``, trajectories of ``md``, tables of ``thermo``, deviations of
        models (of ``model-devi``, DeePMD-kit's too, or LAMMPS), or detail files of
        ``dp-spin test``; all of one kind.
    output : str, optional
        Picture; by default beside the first file, with its name and ``.png`` (after
        the ending of a trajectory, whose log has the same name).
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
    target = claim_picture(output or _picture_of(paths[0]))
    tables = [
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
        figure = draw_parity(_parities(tables, names))
    elif kind == "learning curve":
        figure = draw_curves(tables, names, log_x=log_x, linear_y=linear_y)
    else:
        figure = DRAW[kind](tables, names)
    save(figure, target)
    log.info("drew %s", target)


def _picture_of(path: Path) -> Path:
    if path.suffix in SUFFIXES:
        return path.with_name(f"{path.name}.png")
    return path.with_suffix(".png")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(
            f"'{path}' is a folder. Give the file, such as '{path / 'lcurve.out'}'."
        )
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.")


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
