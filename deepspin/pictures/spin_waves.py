# SPDX-License-Identifier: Apache-2.0
"""Exchange over distance, bands of magnons, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.pictures.lines import line_style
from deepspin.pictures.plots import COLORS, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_couplings(
    distance: np.ndarray,
    exchange: np.ndarray,
    kinds: Sequence[str],
    means: Sequence[tuple[str, float, float, float]],
) -> Figure:
    """Draw J of pairs over their distance.

    Parameters
    ----------
    distance, exchange : np.ndarray, shape (n,)
        Of each pair, in Å and eV.
    kinds : sequence of str
        Its types, such as ``Ni-Ni``.
    means : sequence of (str, float, float, float)
        Of each shell: types, distance in Å, mean J and its error in eV.
    """
    figure, (axis,) = new_figure(size=(5.6, 3.6))
    names = sorted(set(kinds))
    label = np.asarray(kinds)
    for number, name in enumerate(names):
        here, color = label == name, COLORS[number % len(COLORS)]
        axis.plot(
            distance[here], 1e3 * exchange[here], ".", color=color, alpha=0.25, ms=3
        )
        rows = np.array([row[1:] for row in means if row[0] == name]).reshape(-1, 3)
        axis.errorbar(
            rows[:, 0],
            1e3 * rows[:, 1],
            yerr=1e3 * rows[:, 2],
            color=color,
            linestyle="",
            marker="o",
            markersize=4,
            capsize=2,
            label=name,
        )
    if names:
        axis.legend(fontsize=8)
    axis.axhline(0, color=GREY, linewidth=0.6, zorder=1)
    axis.set(xlabel="distance (Å)", ylabel="J (meV), each pair once, unit vectors")
    return figure


def draw_magnons(
    place: np.ndarray,
    energy: np.ndarray,
    ticks: Sequence[tuple[float, str]],
    density: tuple[np.ndarray, np.ndarray],
) -> Figure:
    """Draw bands along a path, and their density of states.

    Parameters
    ----------
    place : np.ndarray, shape (nq,)
        Length along the path in 1/Å.
    energy : np.ndarray, shape (nq, nbands)
        In eV; negative where a mode is unstable.
    ticks : sequence of (float, str)
        Places with a name.
    density : (np.ndarray, np.ndarray), shapes (n,)
        Energies in eV, and states per eV and cell.
    """
    figure, (bands, states) = new_figure(1, 2, size=(3.6, 3.4))
    bands.plot(place, 1e3 * energy, color=COLORS[0], linewidth=1.3)
    for where, _ in ticks:
        bands.axvline(where, color=GREY, linewidth=0.5, zorder=1)
    bands.set_xticks([where for where, _ in ticks], [name for _, name in ticks])
    bands.set(ylabel="energy (meV)", xlim=(place[0], place[-1]))
    states.plot(density[1] / 1e3, 1e3 * density[0], color=COLORS[1], linewidth=1.3)
    states.set(xlabel="states per meV and cell")
    states.set_xlim(left=0)
    low = min(0.0, 1.05e3 * energy.min())
    top = 1.05e3 * max(energy.max(), density[0].max())
    for axis in (bands, states):
        axis.set_ylim(low, top)
        if low < 0:
            axis.axhspan(low, 0, color=GREY, alpha=0.2, linewidth=0)
    if low < 0:
        bands.set_title("shaded: unstable", fontsize=9, loc="left")
    return figure


def draw_spectrum(
    names: Sequence[str],
    energy: np.ndarray,
    strength: np.ndarray,
    peaks: np.ndarray,
) -> Figure:
    """Draw spectra of spins at some wave vectors, one above the other.

    Parameters
    ----------
    names : sequence of str
        Of the wave vectors.
    energy : np.ndarray, shape (n,)
        In eV.
    strength : np.ndarray, shape (nq, n)
        Spectra.
    peaks : np.ndarray, shape (nq,)
        Where each is largest, in eV; NaN where it has no peak.
    """
    figure, (axis,) = new_figure(size=(5.6, 3.8))
    scale = np.maximum(strength.max(axis=1, keepdims=True), 1e-300)
    for number, (row, peak) in enumerate(zip(strength / scale, peaks, strict=True)):
        style = line_style(number)
        axis.plot(1e3 * energy, number + 0.9 * row, **style)
        if np.isfinite(peak):
            axis.plot([1e3 * peak], [number + 0.94], "v", color=style["color"], ms=4)
    axis.set_yticks(np.arange(len(names)), names)
    used = np.flatnonzero((strength > 1e-3 * scale).any(axis=0))
    top = energy[min(2 * used.max(initial=1), len(energy) - 1)]
    axis.set(xlabel="energy (meV)", ylabel="wave vector", xlim=(0, 1e3 * top))
    return figure
