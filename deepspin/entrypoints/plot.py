# SPDX-License-Identifier: Apache-2.0
"""``dp-spin plot``: pictures of result files."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from deepspin.entrypoints.common import Verbs, add_verb

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "plot",
        plot,
        "Draw learning curves (lcurve.out), logs of md and relax, trajectories, tables "
        "of thermo, deviations of models, detail files of test, or what a model of the "
        "scheme `invariant` says of exchange.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="one file, or several of a kind to compare runs: learning curves, logs of "
        "md or relax, trajectories of md, tables of thermo, files of model-devi, "
        "detail files of test; or one model (.keras)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="file to write, .png, .pdf or .svg (default: beside the first file)",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="names of the runs"
    )
    parser.add_argument(
        "--log-x", action="store_true", help="logarithmic axis of steps"
    )
    parser.add_argument("--linear-y", action="store_true", help="linear axis of errors")


def plot(
    files: Sequence[str],
    *,
    output: str | None = None,
    labels: Sequence[str] | None = None,
    **axes: bool,
) -> None:
    """Draw results of one run or more.

    Parameters
    ----------
    files : sequence of str
        Learning curves (``lcurve.out``, of deepspin or DeePMD-kit), logs of ``dp-spin
        md`` or ``relax``, trajectories of ``md``, tables of ``thermo``, deviations of
        models (of ``model-devi``, DeePMD-kit's too, or LAMMPS), or detail files of
        ``dp-spin test``; all of one kind. Or one model, see
        `deepspin.pictures.magnetism`.
    output : str, optional
        Picture; by default beside the first file, with its name and ``.png`` (after
        the ending of a trajectory, whose log has the same name).
    labels : sequence of str, optional
        Names of the runs; by default the parts of the paths that differ.
    **axes
        Of learning curves, see `deepspin.pictures.results.draw_results`.

    Raises
    ------
    DataError
        A file is not there, is none of these, or has no numbers; or several kinds are
        given.
    InputError
        As many `labels` as files are needed.
    """
    from deepspin.pictures.plots import claim_picture, save
    from deepspin.pictures.results import default_picture, draw_results
    from deepspin.utils.refused import InputError

    paths = [Path(name) for name in files]
    if labels is not None and len(labels) != len(paths):
        raise InputError(
            f"--labels needs a label for each of the {len(paths)} files. Received: "
            f"{len(labels)}"
        )
    if paths[0].suffix == ".keras":
        _plot_model(paths, output, labels, any(axes.values()))
        return
    for path in paths:
        _check_file(path)
    target = claim_picture(output or default_picture(paths[0]))
    save(draw_results(paths, labels, **axes), target)
    log.info("drew %s", target)


def _plot_model(
    paths: Sequence[Path],
    output: str | None,
    labels: Sequence[str] | None,
    axes: bool,
) -> None:
    """Draw what a model tells of its magnetism."""
    from deepspin.data.files import DataError
    from deepspin.modelfiles.find import read_metadata
    from deepspin.pictures.magnetism import draw_magnetism
    from deepspin.pictures.plots import claim_picture, save
    from deepspin.utils.refused import InputError

    if len(paths) > 1 or labels or axes:
        raise InputError("plot draws one model at a time, without labels or axes.")
    _check_file(paths[0])
    found = read_metadata(paths[0]).get("magnetism")
    if not found:
        raise DataError(
            f"'{paths[0]}' tells nothing to draw: only the last checkpoint of a "
            "training with `model/spin[invariant]` and a baseline does. `dp-spin show` "
            "tells what a model is."
        )
    target = claim_picture(output or paths[0].with_suffix(".png"))
    save(draw_magnetism(found), target)
    log.info("drew %s", target)


def _check_file(path: Path) -> None:
    from deepspin.data.files import DataError

    if path.is_dir():
        raise DataError(
            f"'{path}' is a folder. Give the file, such as '{path / 'lcurve.out'}'."
        )
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.")
