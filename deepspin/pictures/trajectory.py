# SPDX-License-Identifier: Apache-2.0
"""Trajectories of dynamics: how far atoms and spins have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.files import HDF5_SUFFIXES, DataError
from deepspin.data.formats.motion import moments
from deepspin.pictures.lines import (
    MANY_NAMES,
    draw_legend,
    draw_line,
    fill_place,
    line_style,
    shortened,
)
from deepspin.pictures.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".extxyz", ".xyz", ".traj", *HDF5_SUFFIXES)
# bars of the histogram of moduli
BARS = 80
# moduli (μ_B) that differ by no more are fixed
FIXED = 1e-6
MEMORY = r"$\langle S(0) \cdot S(t) \rangle \,/\, \langle S(0)^2 \rangle$"


@dataclass(frozen=True)
class Motion:
    """What a trajectory tells, means over atoms of a type and over replicas.

    Parameters
    ----------
    path : Path
        The file.
    time : np.ndarray, shape (frames,)
        In ps.
    away : dict of str to np.ndarray, shape (frames,)
        Mean square displacement of each type since the first frame, in Å².
    memory : dict of str to np.ndarray, shape (frames,)
        <S(0)·S(t)>/<S(0)²> of each type with spins, from the first frame on.
    moduli : dict of str to np.ndarray
        Moduli in μ_B of all spins of each type, unless they do not change.
    """

    path: Path
    time: np.ndarray
    away: dict[str, np.ndarray]
    memory: dict[str, np.ndarray]
    moduli: dict[str, np.ndarray]

    kind = "trajectory"


def read_motion(path: Path) -> Motion:
    """Read a trajectory of ``dp-spin md``.

    Raises
    ------
    DataError
        It is none, or has only one frame.
    ImportError
        It needs ASE, which is not installed.
    """
    frames = list(moments(path))
    if len(frames) < 2:
        raise DataError(f"'{path}' has {len(frames)} frames; 2 are needed to see more.")
    types = frames[0].symbols
    time = np.array([frame.time for frame in frames])
    coord, spin = (np.stack([getattr(f, k) for f in frames]) for k in ("coord", "spin"))
    away, memory, moduli = {}, {}, {}
    for name in dict.fromkeys(types):
        own = types == name
        places, vectors = coord[:, :, own], spin[:, :, own]
        away[name] = ((places - places[0]) ** 2).sum(axis=3).mean(axis=(1, 2))
        if vectors[0].any():
            kept = (vectors * vectors[0]).sum(axis=3).mean(axis=(1, 2))
            memory[name] = kept / kept[0]
            modulus = np.linalg.norm(vectors, axis=3)
            if np.ptp(modulus, axis=0).max() > FIXED:
                moduli[name] = modulus.ravel()
    return Motion(path, time, away, memory, moduli)


def draw_motion(motions: Sequence[Motion], names: Sequence[str]) -> Figure:
    """Draw displacements, autocorrelation of spins, and moduli if they change.

    Parameters
    ----------
    motions : sequence of Motion
        One for each file; each type of atoms has a line of its own.
    names : sequence of str
        Names of the files.

    Returns
    -------
    Figure
        The picture.
    """
    lines = [
        (", ".join([shortened(name)] * (len(motions) > 1) + [kind]), motion, kind)
        for motion, name in zip(motions, names, strict=True)
        for kind in motion.away
    ]
    panels = {
        "away": ("mean square displacement", "Å²"),
        "memory": ("autocorrelation of the spins", MEMORY),
        "moduli": ("moduli of the spins", "part of all"),
    }
    moves = any(each.any() for motion in motions for each in motion.away.values())
    shown = [
        part
        for part in panels
        if (moves if part == "away" else any(getattr(m, part) for m in motions))
    ]
    if not shown:
        raise DataError(f"'{motions[0].path}' has neither atoms nor spins that move.")
    ncols = min(len(shown), 2)
    figure, axes = new_figure(-(-len(shown) // ncols), ncols, size=(4.2, 2.7))
    for axis, part in zip(axes, shown, strict=False):
        for number, (_, motion, kind) in enumerate(lines):
            values, style = getattr(motion, part).get(kind), line_style(number)
            if values is None:
                continue
            if part == "moduli":
                weights = np.full(len(values), 1 / len(values))
                look = {"color": style["color"], "linestyle": style["linestyle"]}
                axis.hist(values, BARS, weights=weights, histtype="step", **look)
            else:
                draw_line(axis, motion.time, values, style | {"linewidth": 1.2})
        title, unit = panels[part]
        axis.set_title(title, fontsize=10, loc="left")
        spins = r"|S| ($\mu_\mathrm{B}$)"
        axis.set(xlabel=spins if part == "moduli" else "time (ps)", ylabel=unit)
    fill_place(axes, len(shown))
    if len(lines) <= MANY_NAMES:
        draw_legend(figure, [(n, line_style(k)) for k, (n, *_) in enumerate(lines)])
    return figure
