# SPDX-License-Identifier: Apache-2.0
"""Exchange and pair energies that an invariant model tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.pictures.lines import line_style
from deepspin.pictures.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_magnetism(found: dict[str, Any]) -> Figure:
    """Draw exchange constants over distance, and pair energies.

    Parameters
    ----------
    found : dict
        See `deepspin.model.magnetism.magnetism`.
    """
    figure, axes = new_figure(1, 2, size=(4.2, 3.2))
    exchange, pairs = axes
    names = list(dict.fromkeys("-".join(s["pair"]) for s in found["exchange"]))
    for k, name in enumerate(names):
        shells = [s for s in found["exchange"] if "-".join(s["pair"]) == name]
        r, j, spread = (
            np.array([s[key] for s in shells]) for key in ("distance", "J", "spread")
        )
        color = line_style(k)["color"]
        exchange.vlines(r, 0.0, j, color=color, linewidth=1.5)
        exchange.errorbar(r, j, spread, fmt="o", color=color, capsize=3, label=name)
        for x, y, shell in zip(r, j, shells, strict=True):
            exchange.annotate(
                f" {shell['number']}", (x, y), fontsize=8, color="0.4", va="center"
            )
    exchange.axhline(0.0, color="0.4", linewidth=0.8)
    exchange.set(xlabel="distance (Å)", ylabel=r"$J$ (meV)")
    exchange.set_title("exchange, positive: ferromagnetic", fontsize=10, loc="left")
    for k, curve in enumerate(found["pairs"]):
        r, energy = np.array(curve["r"]), np.array(curve["energy"])
        name = "-".join(curve["pair"])
        pairs.plot(r, energy - energy[-1], label=name, **line_style(k))
    pairs.axhline(0.0, color="0.4", linewidth=0.8)
    pairs.set(xlabel="distance (Å)", ylabel="energy (eV)")
    pairs.set_title("pair energies of the baseline", fontsize=10, loc="left")
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=9)
    return figure
