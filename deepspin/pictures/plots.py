# SPDX-License-Identifier: Apache-2.0
"""Pictures, drawn without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.utils.outputs import OutputError, claim, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
# told apart by all eyes: Okabe and Ito's, in the order of Wong, Nat. Methods 8, 441
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "0.45"
# around panels in inches, between them in parts of them
PADS = {"w_pad": 0.06, "h_pad": 0.06, "wspace": 0.04, "hspace": 0.04}
MAGNETIC = r"eV/$\mu_\mathrm{B}$"


@dataclass(frozen=True)
class Quantity:
    """What is compared with its label.

    Parameters
    ----------
    components : tuple of str
        What stands in a row of its detail file.
    name, unit : str
        As on the axes of a picture.
    """

    components: tuple[str, ...]
    name: str
    unit: str


_VIRIAL = tuple(f"v{a}{b}" for a in "xyz" for b in "xyz")
# by the suffix of the detail files of `dp-spin test`
QUANTITIES = {
    "e": Quantity(("e",), "energy", "eV"),
    "e_peratom": Quantity(("e",), "energy", "eV/atom"),
    "fr": Quantity(("fx", "fy", "fz"), "force", "eV/Å"),
    "fm": Quantity(("fmx", "fmy", "fmz"), "magnetic force", MAGNETIC),
    "v": Quantity(_VIRIAL, "virial", "eV"),
    "v_peratom": Quantity(_VIRIAL, "virial", "eV/atom"),
    "ae": Quantity(("ae",), "atomic energy", "eV"),
}
# more points than this are counted in cells instead of drawn one by one
MANY_POINTS = 20_000
CELLS = 120
# fewer errors than this have no histogram
FEWEST_ERRORS = 30


@dataclass(frozen=True)
class Parity:
    """Predictions and what they should be.

    Parameters
    ----------
    quantity : str
        One of `QUANTITIES`.
    label, pred : np.ndarray
        Components, of the same shape.
    title : str
        Whose they are, if that is not plain.
    """

    quantity: str
    label: np.ndarray
    pred: np.ndarray
    title: str = ""


def claim_picture(path: str | Path) -> Path:
    """Make sure, before the work, that a picture can be written; see `outputs.claim`.

    Raises
    ------
    OutputError
        It cannot, or its name does not end in .png, .pdf or .svg.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise OutputError(f"A picture must end in {', '.join(FORMATS)}. Got '{path}'.")
    if Path(path).is_dir():
        raise OutputError(f"'{path}' is a folder. Give a file for the picture.")
    return claim(path)


def new_figure(
    nrows: int = 1, ncols: int = 1, size: tuple[float, float] = (4.0, 3.5)
) -> tuple[Figure, list]:
    """Make a figure and the list of its axes.

    Parameters
    ----------
    nrows, ncols : int
        Panels.
    size : (float, float)
        Width and height of a panel in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ncols * size[0], nrows * size[1]))
    figure.set_layout_engine("constrained", **PADS)
    axes = list(figure.subplots(nrows, ncols, squeeze=False).flat)
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(color="0.9", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("0.4")
        axis.tick_params(which="both", color="0.4", labelsize=9)
        axis.xaxis.label.set_size(10)
        axis.yaxis.label.set_size(10)
    return figure, axes


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure, in the format that its file's name ends in."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150)


def draw_parity(panels: Sequence[Parity]) -> Figure:
    """Draw predictions against labels, a square for each quantity.

    Up to `MANY_POINTS` components are drawn as points, more as the number of them in
    hexagonal cells. Energies are relative to the mean of their labels. A histogram of
    the errors stands in a corner where no point is.

    Parameters
    ----------
    panels : sequence of Parity
        What to draw; values that are not finite are left out, and counted in the panel.

    Returns
    -------
    Figure
        The picture.
    """
    ncols = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    nrows = -(-len(panels) // ncols)
    many = any(panel.label.size > MANY_POINTS for panel in panels)  # a bar beside them
    figure, axes = new_figure(nrows, ncols, size=(4.4 if many else 3.7, 4.0))
    figure.set_layout_engine("compressed", **PADS)  # for panels of fixed aspect
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel)
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


def _draw_panel(axis: Axes, panel: Parity) -> None:
    name, unit = QUANTITIES[panel.quantity].name, QUANTITIES[panel.quantity].unit
    label = np.ravel(panel.label).astype(float)
    pred = np.ravel(panel.pred).astype(float)
    finite = np.isfinite(label) & np.isfinite(pred)
    label, pred = label[finite], pred[finite]
    if name == "energy" and label.size:
        name, mean = "energy − mean", label.mean()
        label, pred = label - mean, pred - mean
    axis.set(xlabel=f"reference {name} ({unit})", ylabel=f"predicted {name} ({unit})")
    lines = [panel.title.replace("$", r"\$")] if panel.title else []
    if label.size:
        lines.append(_summary(label, pred, unit))
    if not finite.all():
        lines.append(f"{np.count_nonzero(~finite):,} of {finite.size:,} not finite")
    axis.set_title("\n".join(lines), fontsize=9, linespacing=1.4)
    if label.size:
        _draw_points(axis, label, pred)
        if label.size >= FEWEST_ERRORS:
            _draw_histogram(axis, label, pred, unit)


def _summary(label: np.ndarray, pred: np.ndarray, unit: str) -> str:
    """Errors in two lines; R² only where the labels differ."""
    diff = pred - label
    rmse, mae = np.sqrt(np.mean(diff**2)), np.mean(np.abs(diff))
    text = f"rmse {rmse:.3g}, mae {mae:.3g} {unit}\n"
    spread = np.sum((label - label.mean()) ** 2)
    if np.ptp(label) > 1e-12 * np.max(np.abs(label)):
        r2 = 1 - np.sum(diff**2) / spread
        text += f"R² {r2:.4f}, " if r2 > 0 else f"R² {r2:.1f}, "
    text += f"{label.size:,} value" + "s" * (label.size != 1)
    return text.replace("-", "−")


def _draw_points(axis: Axes, label: np.ndarray, pred: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    ends = np.array([min(label.min(), pred.min()), max(label.max(), pred.max())])
    ends += np.array([-1, 1]) * (0.04 * np.ptp(ends) or 0.05 * abs(ends[0]) or 1.0)
    if label.size > MANY_POINTS:
        _draw_cells(axis, label, pred, ends)
    else:
        few = label.size <= 300
        axis.plot(
            label,
            pred,
            "o",
            markersize=4.5 if few else 2.5,
            alpha=0.8 if few else 0.5 if label.size < 3000 else 0.25,
            markeredgewidth=0,
            color=COLORS[0],
            rasterized=label.size > 3000,
        )
    axis.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1.5)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    short = 1e-3 <= np.max(np.abs(ends)) < 1e4  # as numbers at the ticks
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(MaxNLocator(5 if short else 3, steps=[1, 2, 5, 10]))
        one.set_major_formatter("{x:g}")


def _draw_cells(
    axis: Axes, label: np.ndarray, pred: np.ndarray, ends: np.ndarray
) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("", ("#B5D5EA", COLORS[0], "#00243D"))
    cells = axis.hexbin(
        label,
        pred,
        gridsize=CELLS,
        extent=(*ends, *ends),
        bins="log",
        mincnt=1,
        cmap=shades,
        linewidths=0.1,
        zorder=2,
    )
    bar = axis.figure.colorbar(cells, ax=axis, shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("values in a cell", size=9)
    bar.outline.set_visible(False)  # type: ignore[operator]  # matplotlib's stub
    bar.ax.tick_params(labelsize=8, color="0.4")


def _draw_histogram(axis: Axes, label: np.ndarray, pred: np.ndarray, unit: str) -> None:
    """Draw the errors' distribution into the lower right corner, if it is empty.

    What is beyond three times the rmse counts in the outermost bars.
    """
    low, high = axis.get_xlim()
    x, y = (label - low) / (high - low), (pred - low) / (high - low)
    if np.any((x > 0.58) & (y < 0.42)):
        return
    diff = pred - label
    widest = 3 * np.sqrt(np.mean(diff**2))
    if not widest > 0:
        return
    inset = axis.inset_axes((0.62, 0.13, 0.35, 0.23))
    inset.hist(
        np.clip(diff, -widest, widest),
        bins=25,
        range=(-widest, widest),
        color=COLORS[0],
        alpha=0.55,
    )
    inset.patch.set_visible(False)
    inset.set_yticks([])
    mark = float(f"{widest * 2 / 3:.1g}")
    inset.set_xticks([-mark, 0, mark], [f"−{mark:g}", "", f"{mark:g}"])
    inset.tick_params(labelsize=7, length=2, pad=1.5, color="0.4")
    inset.spines[["top", "left", "right"]].set_visible(False)
    inset.spines["bottom"].set_color("0.4")
    inset.set_title(f"error ({unit})", fontsize=7, pad=2)
