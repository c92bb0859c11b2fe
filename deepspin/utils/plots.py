# SPDX-License-Identifier: Apache-2.0
"""Pictures, drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepspin.utils.outputs import OutputError, claim, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def claim_picture(path: str | Path) -> Path:
    """Make sure, before the work, that a picture can be written; see `outputs.claim`.

    Raises
    ------
    OutputError
        It cannot, or its name does not end in .png, .pdf or .svg.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise OutputError(f"A picture must end in {', '.join(FORMATS)}. Got '{path}'.")
    return claim(path)


def new_figure(nrows: int = 1, ncols: int = 1, size=(4.0, 3.5)) -> tuple[Figure, list]:
    """Make a figure and the list of its axes.

    Parameters
    ----------
    nrows, ncols : int
        Panels.
    size : (float, float)
        Width and height of a panel in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ncols * size[0], nrows * size[1]), layout="constrained")
    axes = figure.subplots(nrows, ncols, squeeze=False)
    return figure, list(axes.flat)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure, in the format that its file's name ends in."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150)
