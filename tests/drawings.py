# SPDX-License-Identifier: Apache-2.0
"""Files to draw, and what is seen of the pictures."""

from __future__ import annotations

from pathlib import Path

import ase.io
import h5py
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

NOTE = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
SPIN = ("rmse", "rmse_e", "rmse_fr", "rmse_fm", "rmse_v")
FORCE = ("fx", "fy", "fz")
MAGNETIC = r"eV/$\mu_\mathrm{B}$"
AXES = {
    "energy": "rmse / N (eV/atom)",
    "force": "rmse (eV/Å)",
    "magnetic force": f"rmse ({MAGNETIC})",
    "virial": "rmse / N (eV/atom)",
    "learning rate": "",
}


def curve(
    path="lcurve.out", lines=5, *, terms=SPIN, ends=("val", "trn"), freq=100, seed=0
):
    """Write a learning curve; returns its columns by name."""
    names = [f"{term}_{end}" for term in terms for end in ends]
    rng = np.random.default_rng(seed)
    columns = {"step": np.arange(lines) * float(freq)}
    columns |= {name: np.round(rng.uniform(0.01, 1, lines), 4) for name in names}
    columns["lr"] = np.round(0.001 * 0.9 ** np.arange(lines), 7)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        file.write("# step " + "   ".join(names) + "   lr\n" + NOTE)
        np.savetxt(file, np.column_stack(list(columns.values())), fmt="%.8g")
    return columns


def detail(path, components, rows=20, *, systems=("data/a b: c",), note="", seed=0):
    """Write a detail file; returns labels and predictions."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(rows, 2 * len(components))), 6)
    columns = " ".join(f"{k}_{c}" for k in ("data", "pred") for c in components)
    with open(path, "w") as file:
        for system, part in zip(
            systems, np.array_split(values, len(systems)), strict=True
        ):
            np.savetxt(file, part, header=f"{system}{note}: {columns}")
    return np.hsplit(values, 2)


def panels(picture):
    return {a.get_title(loc="left"): a for a in picture.axes}


def drawn(axis):
    """Points of the lines of a panel, the strongest last."""
    lines = sorted(axis.lines, key=lambda line: line.get_zorder())
    return [line.get_xydata() for line in lines]


def legend(picture):
    return [text.get_text() for text in picture.legends[0].get_texts()]


def boxes(picture):
    """Where text is, in pixels, panel by panel and the legend."""
    renderer = FigureCanvasAgg(picture).get_renderer()
    picture.draw(renderer)
    for axis in picture.axes:
        for one in (axis.xaxis, axis.yaxis):
            ticks = [t for t in one.get_ticklabels() if t.get_text()]
            low, high = sorted(one.get_view_interval())
            at = one.get_majorticklocs()
            inside = [t for t, x in zip(ticks, at, strict=False) if low <= x <= high]
            yield [t.get_window_extent(renderer) for t in inside]
        for one in (axis.xaxis, axis.yaxis):
            texts = [one.label, one.get_offset_text()]
            yield [t.get_window_extent(renderer) for t in texts if t.get_text()]
    panels = [a.get_tightbbox(renderer) for a in picture.axes if a.get_xlabel()]
    for panel in panels:  # whole
        assert min(panel.x0, panel.y0) > -1
        assert panel.x1 < picture.bbox.x1 + 1
        assert panel.y1 < picture.bbox.y1 + 1
    legends = [legend.get_window_extent(renderer) for legend in picture.legends]
    yield [*legends, *panels]


def relaxation(path="relaxed.log", nrep=1, *, pressure=0.0, cell=True, seed=0):
    """Write a log of a relaxation; returns rows by replica."""
    rng = np.random.default_rng(seed)
    lines, rows = [], []
    for replica in range(nrep):
        steps = np.arange(6 + replica)
        energy = -10 + replica + np.exp(-steps) / (1 + replica)
        columns = [steps, np.full(len(steps), replica), energy]
        columns.append(energy + pressure * (1 + np.exp(-steps)))
        columns += [rng.uniform(0.1, 1, len(steps)) * np.exp(-steps) for _ in "fts"]
        columns[-1] *= cell
        rows.append(np.round(np.column_stack(columns), 8))
        lines.append(rows[-1])
    head = "step replica energy enthalpy fmax tmax smax\n- - eV eV eV/A eV/mu_B GPa"
    np.savetxt(path, np.concatenate(lines), header=head)
    return rows


DEVIATIONS = ["max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f"]
DEVIATIONS += ["avg_devi_f", "devi_e"]


def trajectory(path, frames=5, nrep=2, *, moduli=False, seed=0):
    """Write a trajectory of two Ni and an O; returns times, positions and spins."""
    rng = np.random.default_rng(seed)
    time = 0.5 * np.arange(frames) + 3.0
    coord = rng.normal(size=(frames, nrep, 3, 3))
    spin = rng.normal(size=(frames, nrep, 3, 3))
    spin /= np.linalg.norm(spin, axis=-1, keepdims=True)
    spin *= 1 + moduli * rng.uniform(0, 0.2, (frames, nrep, 3, 1))
    spin[:, :, 2] = 0.0
    if path.endswith(".h5"):
        with h5py.File(path, "w") as file:
            file["type_map"], file["atype"] = [b"Ni", b"O"], [0, 0, 1]
            file["step"] = [*range(frames), -1]  # a place without a frame
            for name, values in (("time", time), ("coord", coord), ("spin", spin)):
                file[name] = np.concatenate([values, np.full_like(values[:1], 1e9)])
    else:
        images = [
            ase.Atoms("Ni2O", c[0], info={"time": t})
            for c, t in zip(coord, time, strict=True)
        ]
        for atoms, moments in zip(images, spin, strict=True):
            atoms.set_initial_magnetic_moments(moments[0])
        ase.io.write(path, images)
    return time, coord, spin


def write(name, text):
    Path(name).write_text(text)
    return name
