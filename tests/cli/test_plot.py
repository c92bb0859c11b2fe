# SPDX-License-Identifier: Apache-2.0
"""`dp-spin plot`: what is read, what is drawn, what is refused."""

from __future__ import annotations

import re
import time
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deepspin.data.files import DataError
from deepspin.entrypoints import plot
from deepspin.main import main
from deepspin.pictures import lines, plots, results

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


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


@pytest.fixture
def figure(monkeypatch):
    """Call `dp-spin plot` and return the figure that it saved."""
    saved, save = [], plots.save

    def keep(picture, path):
        saved.append((picture, Path(path)))
        save(picture, path)

    monkeypatch.setattr(plots, "save", keep)

    def call(*args):
        assert main(["plot", *map(str, args)]) == 0
        picture, path = saved[-1]
        assert path.is_file()
        return picture

    return call


def panels(picture):
    return {a.get_title(loc="left"): a for a in picture.axes}


def drawn(axis):
    """Points of the lines of a panel, the strongest last."""
    lines = sorted(axis.lines, key=lambda line: line.get_zorder())
    return [line.get_xydata() for line in lines]


def legend(picture):
    return [text.get_text() for text in picture.legends[0].get_texts()]


# --- Learning curves ------------------------------------------------------------------


def test_curve_is_the_file(figure):
    columns = curve()
    axes = panels(figure("lcurve.out"))
    assert Path("lcurve.png").read_bytes().startswith(b"\x89PNG")
    assert {title: axis.get_ylabel() for title, axis in axes.items()} == AXES
    terms = zip(axes, ("rmse_e", "rmse_fr", "rmse_fm", "rmse_v"), strict=False)
    for title, term in terms:
        train, valid = drawn(axes[title])
        for points, name in ((train, f"{term}_trn"), (valid, f"{term}_val")):
            np.testing.assert_array_equal(points[:, 0], columns["step"])
            np.testing.assert_array_equal(points[:, 1], columns[name])
        strengths = sorted(line.get_linewidth() for line in axes[title].lines)
        assert strengths[0] < strengths[1]
    (rate,) = drawn(axes["learning rate"])
    np.testing.assert_array_equal(rate[:, 1], columns["lr"])
    for axis in axes.values():
        assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")
        assert axis.get_xlabel() == "step"


def test_axes_asked_for(figure):
    columns = curve()
    axis = panels(figure("lcurve.out", "--log-x", "--linear-y"))["force"]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    _, valid = drawn(axis)
    assert np.isnan(valid[0, 1])  # step 0 has no place on it
    np.testing.assert_array_equal(valid[1:, 1], columns["rmse_fr_val"][1:])


@pytest.mark.parametrize(
    ("terms", "ends", "titles"),
    [
        (("rmse", "rmse_e", "rmse_f"), ("trn",), ["energy", "force"]),
        (
            ("mae_e", "mae_fr", "rmse", "rmse_e", "rmse_fm", "rmse_fr"),
            ("val", "trn"),
            ["energy", "force", "magnetic force"],
        ),
        (("rmse", "rmse_fr"), ("val", "trn"), ["force"]),
    ],
    ids=["no spins, no validation", "PyTorch backend", "one term"],
)
def test_other_columns(figure, terms, ends, titles):
    """DeePMD-kit's columns, in its backends' orders."""
    columns = curve(terms=terms, ends=ends)
    picture = figure("lcurve.out")
    axes = panels(picture)
    assert list(axes) == [*titles, "learning rate"]
    assert len(axes["force"].lines) == len(ends)
    force = "rmse_f" if "rmse_f" in terms else "rmse_fr"
    strongest = drawn(axes["force"])[-1]
    np.testing.assert_array_equal(strongest[:, 1], columns[f"{force}_{ends[0]}"])
    assert legend(picture) == (["validation", "training"][-len(ends) :])


def test_quantity_without_labels_has_no_panel(figure):
    curve()
    text = Path("lcurve.out").read_text().splitlines()
    rows = [line.split() for line in text[2:]]
    for row in rows:
        row[9:11] = "nan", "nan"
    rows[2][5] = "nan"  # a gap
    lines = text[:2] + [" ".join(row) for row in rows]
    Path("lcurve.out").write_text("\n".join(lines) + "\n")
    axes = panels(figure("lcurve.out"))
    assert "virial" not in axes
    _, valid = drawn(axes["force"])
    assert np.flatnonzero(np.isnan(valid[:, 1])).tolist() == [2]


def test_half_written_line(figure, capsys):
    columns = curve()
    with open("lcurve.out", "a") as file:
        file.write("   500   1.23e-01   1.2")
    _, valid = drawn(panels(figure("lcurve.out"))["energy"])
    np.testing.assert_array_equal(valid[:, 0], columns["step"])
    assert "'lcurve.out': the last line is not complete; left out" in (
        capsys.readouterr().err
    )


def test_restarted_run(figure):
    """What was written last counts, be the header repeated or not."""
    first = curve("first.out", 5)
    second = curve("second.out", 4, seed=1)
    text = Path("second.out").read_text().replace("\n0 ", "\n200 ", 1)
    Path("lcurve.out").write_text(Path("first.out").read_text() + text)
    # steps 0 to 400, then 200 (once 0), 100, 200, 300
    _, valid = drawn(panels(figure("lcurve.out"))["energy"])
    np.testing.assert_array_equal(valid[:, 0], [0, 100, 200, 300])
    np.testing.assert_array_equal(valid[0, 1], first["rmse_e_val"][0])
    np.testing.assert_array_equal(valid[1:, 1], second["rmse_e_val"][1:])


def test_runs_side_by_side(figure):
    columns = [curve(f"runs/{name}/lcurve.out", seed=k) for k, name in enumerate("ab")]
    picture = figure("runs/a/lcurve.out", "runs/b/lcurve.out", "-o", "both.svg")
    assert legend(picture) == ["a", "b", "validation", "training"]
    lines = panels(picture)["force"].lines
    colors = {line.get_color() for line in lines}
    assert len(lines) == 4
    assert colors == set(plots.COLORS[:2])
    for one, color in zip(columns, plots.COLORS, strict=False):
        (valid,) = (
            line.get_ydata()
            for line in lines
            if line.get_color() == color and line.get_alpha() == 1
        )
        np.testing.assert_array_equal(valid, one["rmse_fr_val"])
    assert not Path("runs/a/lcurve.png").exists()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/lcurve.out", "b/lcurve.out"], ["a", "b"]),
        (["x/a/1/l.out", "x/b/1/l.out"], ["a", "b"]),
        (["l.out", "old/l.out"], ["l.out", "old/l.out"]),
        (["a/../a/l.out", "a/m.out"], ["l.out", "m.out"]),
        (["a/l.out", "a/l.out"], ["l.out", "l.out"]),
        (["a/l.out", "b/m.out"], ["a/l.out", "b/m.out"]),
    ],
)
def test_short_names(paths, names):
    assert lines.short_names(paths) == names


def test_labels_as_they_are(figure):
    """Names that Matplotlib would leave out, or take for formulas."""
    for name in "abcd":
        curve(f"{name}/lcurve.out")
    long = "a name that is much longer than what one would like to see in a legend"
    names = ["_old", "$x_1$ or $", long, "d"]
    files = [f"{name}/lcurve.out" for name in "abcd"]
    picture = figure(*files, "-o", "p.pdf", "--labels", *names)
    shown = legend(picture)
    assert shown[:2] == names[:2]
    assert len(shown[2]) < len(long)
    assert shown[2].startswith("a name that")
    assert shown[2].endswith("in a legend")
    assert Path("p.pdf").read_bytes().startswith(b"%PDF")


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


@pytest.mark.parametrize("case", ["long names", "one line", "constant", "zero"])
def test_labels_do_not_overlap(figure, case):
    files = ["lcurve.out"]
    if case == "long names":
        files = [f"{k}{'-and-so-on' * 8}/lcurve.out" for k in range(4)]
        for name in files:
            curve(name, freq=250_000)
    elif case == "one line":
        curve(lines=1)
    else:
        value = "0.0312" if case == "constant" else "0.0"
        curve()
        text = Path("lcurve.out").read_text().splitlines()
        text[2:] = [
            " ".join([line.split()[0], *[value] * 10, "0.001"]) for line in text[2:]
        ]
        Path("lcurve.out").write_text("\n".join(text) + "\n")
    picture = figure(*files, "-o", "p.png")
    for group in boxes(picture):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])
    scale = panels(picture)["energy"].get_yscale()
    assert scale == ("linear" if case == "zero" else "log")


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0, 1e5])
@pytest.mark.parametrize("width", [1.1, 3.0, 30.0, 1e4])
def test_log_axis_has_numbers(scale, width):
    """Whatever its range, some ticks have labels, all different."""
    picture, (axis,) = plots.new_figure()
    axis.plot([0, 1], [scale, scale * width])
    lines.set_log_y(axis)
    picture.draw_without_rendering()
    low, high = axis.get_ylim()
    labels = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    shown = [t.get_text() for y, t in labels if t.get_text() and low <= y <= high]
    assert 2 <= len(shown) == len(set(shown)) < 15
    assert not any(t.get_text() for t in axis.get_yticklabels(minor=True))


@pytest.mark.parametrize("log_x", [False, True])
def test_many_lines(figure, log_x):
    """Median and range of equal parts of the axis; nothing is left out."""
    columns = curve(lines=20_000)
    picture = figure("lcurve.out", *["--log-x"] * log_x)
    axis = panels(picture)["force"]
    first = int(log_x)
    steps, errors = columns["step"][first:], columns["rmse_fr_val"][first:]
    _, valid = drawn(axis)
    assert 100 < len(valid) <= lines.BINS
    place = np.log(steps) if log_x else steps
    part = (place - place[0]) / (place[-1] - place[0]) * lines.BINS
    last = np.minimum(part.astype(int), lines.BINS - 1) == lines.BINS - 1
    assert valid[-1, 1] == pytest.approx(np.median(errors[last]), rel=1e-2)
    bands = [path.vertices[:, 1] for c in axis.collections for path in c.get_paths()]
    assert len(bands) == 2
    ends = {(band.min(), band.max()) for band in bands}
    assert (errors.min(), errors.max()) in ends
    assert "median and range of each 1/500" in picture.get_supxlabel()


def test_a_million_lines_take_seconds(figure):
    """Measured 4 s on two busy cores; the bound is for slow ones."""
    curve(lines=1, terms=("rmse_fr",))
    row = " 1.00e-01 2.00e-01 1.0e-03\n"
    with open("lcurve.out", "a") as file:
        file.writelines(f"{step:7d}{row}" for step in range(100, 100_000_000, 100))
    start = time.perf_counter()
    _, valid = drawn(panels(figure("lcurve.out"))["force"])
    assert time.perf_counter() - start < 60
    assert np.median(valid[:, 1]) == 0.1


# --- Relaxations ----------------------------------------------------------------------


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


def test_relaxation_is_the_file(figure):
    (rows,) = relaxation()
    axes = panels(figure("relaxed.log"))
    assert {title: axis.get_ylabel() for title, axis in axes.items()} == {
        "energy above the lowest": "eV",
        "longest force": "eV/Å",
        "longest magnetic force": MAGNETIC,
        "largest stress": "GPa",
    }
    expected = [rows[:, 2] - rows[-1, 2], *rows[:, 4:].T]
    for axis, values in zip(axes.values(), expected, strict=True):
        (points,) = drawn(axis)
        np.testing.assert_array_equal(points[:, 0], rows[:, 0])
        np.testing.assert_allclose(points[:, 1], values, rtol=1e-12)
        assert (axis.get_xlabel(), axis.get_yscale()) == ("step", "log")


def test_many_starts(figure):
    """Each has its line; their ends are sorted, in a panel of their own."""
    rows = relaxation(nrep=3, pressure=0.5, cell=False)
    rows[0][:, 2:4] += 5.0  # the first ends highest
    np.savetxt(
        "relaxed.log",
        np.concatenate(rows),
        header="step replica energy enthalpy fmax tmax smax",
    )
    picture = figure("relaxed.log")
    axes = panels(picture)
    assert legend(picture) == ["start 0", "start 1", "start 2"]
    assert list(axes) == [
        "enthalpy above the lowest",
        "longest force",
        "longest magnetic force",
        "enthalpy of the ends above the lowest",
    ]
    assert len(axes["longest force"].lines) == 3
    ends = sorted(part[-1, 3] for part in rows)
    (points,) = drawn(axes["enthalpy of the ends above the lowest"])
    np.testing.assert_allclose(
        points[:, 1], 1e3 * (np.array(ends) - ends[0]), rtol=1e-12
    )


# --- Trajectories ---------------------------------------------------------------------


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


@pytest.mark.parametrize("path", ["md.h5", "md.extxyz", "md.traj"])
@pytest.mark.parametrize("moduli", [False, True])
def test_motion(figure, path, moduli):
    """Displacements and autocorrelation from the first frame on, by types."""
    nrep = 2 if path == "md.h5" else 1
    time, coord, spin = trajectory(path, nrep=nrep, moduli=moduli)
    picture = figure(path)
    assert Path(f"{path}.png").is_file()
    assert legend(picture) == ["Ni", "O"]
    axes = panels(picture)
    titles = ["mean square displacement", "autocorrelation of the spins"]
    assert list(axes) == titles + ["moduli of the spins"] * moduli
    nickel, oxygen = (line.get_xydata() for line in axes[titles[0]].lines)
    np.testing.assert_allclose(nickel[:, 0], 1e-3 * time, rtol=1e-12)
    for points, own in ((nickel, [0, 1]), (oxygen, [2])):
        shift = [((c - coord[0])[:, own] ** 2).sum(-1).mean() for c in coord]
        np.testing.assert_allclose(points[:, 1], shift, rtol=1e-6)
    (points,) = drawn(axes[titles[1]])
    first = (spin[0] ** 2).sum()
    kept = [(s * spin[0]).sum() / first for s in spin]
    np.testing.assert_allclose(points[:, 1], kept, rtol=1e-6, atol=1e-9)
    if moduli:
        axis = axes["moduli of the spins"]
        (bars,) = axis.patches
        low, high = bars.get_xy()[:, 0].min(), bars.get_xy()[:, 0].max()
        sizes = np.linalg.norm(spin[:, :, :2], axis=-1)
        np.testing.assert_allclose([low, high], [sizes.min(), sizes.max()], rtol=1e-6)
        assert axis.get_xlabel() == r"|S| ($\mu_\mathrm{B}$)"


def test_motions_side_by_side(figure):
    for name in "ab":
        trajectory(f"{name}.h5", moduli=True)
    picture = figure("a.h5", "b.h5", "-o", "both.png", "--labels", "cold", "hot")
    assert legend(picture) == ["cold, Ni", "cold, O", "hot, Ni", "hot, O"]
    for group in boxes(picture):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])


# --- Deviations of models -------------------------------------------------------------

DEVIATIONS = ["max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f"]
DEVIATIONS += ["avg_devi_f", "devi_e"]
OURS = ["max_devi_fm", "min_devi_fm", "avg_devi_fm"]


def deviations(path, names, systems, seed=0):
    """Write a block for each system (name, frames, atoms); returns columns by name."""
    rng = np.random.default_rng(seed)
    blocks = []
    with open(path, "w") as file:
        for system, frames, atoms in systems:
            wide = [atoms if name.startswith("atm") else 1 for name in names]
            values = np.round(rng.uniform(1e-4, 0.1, (frames, sum(wide))), 8)
            values = np.column_stack([10.0 * np.arange(frames), values])
            if system:
                file.write(f"# {system}\n")
            file.write(f"#{'step':>11s} " + " ".join(names) + "\n")
            np.savetxt(file, values, fmt="%.8g")
            first = np.cumsum([1, *wide[:-1]])
            found = dict(zip(names, values[:, first].T, strict=True))
            blocks.append({"step": values[:, 0], **found})
    return blocks


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        ([*DEVIATIONS, *OURS], ["force", "magnetic force", "energy", "virial"]),
        (DEVIATIONS, ["force", "energy", "virial"]),
        ([*DEVIATIONS[:-1], "atm_devi_f(N)"], ["force", "virial"]),
        (
            [n.replace("devi_f", "devi_fr") for n in DEVIATIONS[:-1]] + OURS,
            ["force", "magnetic force", "virial"],
        ),
    ],
    ids=["ours", "DeePMD-kit's", "of atoms", "of LAMMPS"],
)
def test_deviations_are_the_file(figure, names, titles):
    (block,) = deviations("md.out", names, [("data/a", 7, 4)])
    block = {name.replace("devi_fr", "devi_f"): v for name, v in block.items()}
    picture = figure("md.out")
    axes = panels(picture)
    assert list(axes) == titles
    units = {"force": "eV/Å", "magnetic force": MAGNETIC}
    for title, axis in axes.items():
        assert axis.get_ylabel() == f"deviation ({units.get(title, 'eV/atom')})"
        assert (axis.get_xlabel(), axis.get_yscale()) == ("step", "log")
        name = {"force": "f", "magnetic force": "fm", "virial": "v"}.get(title)
        strong, weak = (f"max_devi_{name}", f"avg_devi_{name}")
        found = {line.get_alpha(): line.get_xydata() for line in axis.lines}
        np.testing.assert_array_equal(found[1.0][:, 0], block["step"])
        if title == "energy":
            np.testing.assert_array_equal(found[1.0][:, 1], block["devi_e"])
            assert len(found) == 1
        else:
            np.testing.assert_array_equal(found[1.0][:, 1], block[strong])
            np.testing.assert_array_equal(found[0.4][:, 1], block[weak])
    assert legend(picture) == ["largest", "mean"]


def test_deviations_of_atoms_without_names(figure):
    """As LAMMPS' option `atomic` appends them."""
    names = [n.replace("devi_f", "devi_fr") for n in DEVIATIONS[:-1]] + OURS
    (block,) = deviations("md.out", names, [("", 3, 0)])
    lines = Path("md.out").read_text().splitlines()
    more = [f"{line} 0.1 0.2" for line in lines[1:]]
    Path("md.out").write_text("\n".join([lines[0], *more, ""]))
    axis = panels(figure("md.out"))["magnetic force"]
    found = {line.get_alpha(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(found[1.0], block["max_devi_fm"])
    np.testing.assert_array_equal(found[0.4], block["avg_devi_fm"])


def test_deviations_of_systems(figure):
    """One after the other, whatever their numbers of atoms; files side by side."""
    names = [*DEVIATIONS, "atm_devi_f(N)", *OURS, "atm_devi_fm(N)"]
    systems = [("data/a", 3, 4), ("data/b#/c", 2, 6)]
    blocks = deviations("md.out", names, systems)
    picture = figure("md.out")
    assert legend(picture) == ["a", "b#/c", "largest", "mean"]
    axis = panels(picture)["magnetic force"]
    strong = [line.get_xydata() for line in axis.lines if line.get_alpha() == 1]
    assert axis.get_xlabel() == "frame"
    for points, block, place in zip(strong, blocks, ([0, 1, 2], [3, 4]), strict=True):
        np.testing.assert_array_equal(points[:, 0], place)
        np.testing.assert_array_equal(points[:, 1], block["max_devi_fm"])
    deviations("other.out", DEVIATIONS, [("", 4, 0)])
    both = figure("md.out", "other.out", "--labels", "old", "new")
    assert legend(both) == ["old", "new", "largest", "mean"]
    assert {line.get_color() for line in panels(both)["force"].lines} == set(
        plots.COLORS[:2]
    )


@pytest.mark.parametrize("kind", ["relaxation", "deviations"])
def test_other_labels_do_not_overlap(figure, kind):
    if kind == "relaxation":
        relaxation("a.log", nrep=12)
    else:
        systems = [(f"data/{'long' * 9}-{k}", 3, 2) for k in range(5)]
        deviations("a.log", [*DEVIATIONS, *OURS], systems)
    for group in boxes(figure("a.log")):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])


# --- Detail files ---------------------------------------------------------------------


def test_parity_is_the_files(figure):
    force = detail("d.fr.out", FORCE, systems=("one", "two: data_set/x"))
    energy = detail("d.e_peratom.out", ("e",), note=" (per real atom)", seed=1)
    magnetic = detail("d.fm.out", ("fmx", "fmy", "fmz"), seed=2)
    picture = figure("d.fr.out", "d.e_peratom.out", "d.fm.out")
    assert Path("d.fr.png").is_file()
    names = ("force (eV/Å)", "energy − mean (eV/atom)", f"magnetic force ({MAGNETIC})")
    shift = energy[0].mean()
    pairs = (force, [x - shift for x in energy], magnetic)
    for axis, (label, pred), name in zip(picture.axes, pairs, names, strict=False):
        points, diagonal = (line.get_xydata() for line in axis.lines)
        np.testing.assert_array_equal(points[:, 0], label.ravel())
        np.testing.assert_array_equal(points[:, 1], pred.ravel())
        np.testing.assert_array_equal(diagonal[:, 0], diagonal[:, 1])
        assert axis.get_xlabel() == f"reference {name}"
        assert axis.get_ylabel() == f"predicted {name}"
        assert axis.get_xlim() == axis.get_ylim()
        assert axis.get_aspect() == 1
        diff = pred - label
        rmse, mae = np.sqrt(np.mean(diff**2)), np.mean(np.abs(diff))
        r2 = 1 - np.sum(diff**2) / np.sum((label - label.mean()) ** 2)
        title = axis.get_title()
        assert title.startswith(f"rmse {rmse:.3g}, mae {mae:.3g} eV/")
        assert title.endswith(f"R² {r2:.1f}, {label.size} values".replace("-", "−"))


def test_total_energy_is_told_from_that_per_atom(figure):
    for name in ("d.e.out", "d.e_peratom.out"):
        detail(name, ("e",))
    picture = figure("d.e.out", "d.e_peratom.out")
    assert [a.get_xlabel()[-9:] for a in picture.axes] == ["mean (eV)", "(eV/atom)"]


def test_same_quantity_twice_is_named(figure):
    for name in ("a", "$b$"):
        detail(f"{name}.fr.out", FORCE)
    picture = figure("a.fr.out", "$b$.fr.out")
    titles = [axis.get_title().split("\n")[0] for axis in picture.axes[:2]]
    assert titles == ["a.fr.out", r"\$b\$.fr.out"]


def test_many_points_are_counted(figure, monkeypatch):
    monkeypatch.setattr(plots, "MANY_POINTS", 2000)
    label, _ = detail("d.fr.out", FORCE, rows=1000)
    axis = figure("d.fr.out").axes[0]
    (cells,) = axis.collections
    assert cells.get_array().sum() == label.size
    assert len(axis.lines) == 1  # the diagonal


@pytest.mark.parametrize(
    ("rows", "scale"), [(1, 1e-7), (1, 1.0), (40, 3.2e-3), (40, 4e3), (9000, 1.0)]
)
def test_labels_of_parities_do_not_overlap(rows, scale):
    rng = np.random.default_rng(0)
    panels = []
    for quantity in ("e_peratom", "fr", "fm"):
        label = scale * rng.normal(size=(rows, 3))
        pred = label + 0.02 * scale * rng.normal(size=label.shape)
        panels.append(plots.Parity(quantity, label, pred, "x" * lines.LONGEST_LABEL))
    for group in boxes(plots.draw_parity(panels)):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])


@pytest.mark.parametrize("good", [True, False])
def test_histogram_only_where_no_point_is(good):
    rng = np.random.default_rng(0)
    label = rng.normal(size=300)
    pred = label + 0.05 * rng.normal(size=300) if good else -label
    picture = plots.draw_parity([plots.Parity("fr", label, pred)])
    insets = picture.axes[0].child_axes
    assert len(insets) == good
    if good:
        assert sum(bar.get_height() for bar in insets[0].patches) == 300


@pytest.mark.parametrize(
    ("label", "pred", "title"),
    [
        ([1.0], [1.5], "rmse 0.5, mae 0.5 eV/Å\n1 value"),
        ([2.0, 2.0], [2.0, 2.0], "rmse 0, mae 0 eV/Å\n2 values"),
        (
            [0.0, 1.0, 2.0],
            [0.0, np.nan, 2.0],
            "rmse 0, mae 0 eV/Å\nR² 1.0000, 2 values\n1 of 3 not finite",
        ),
        ([0.0, 1.0], [np.inf, np.nan], "2 of 2 not finite"),
    ],
    ids=["one point", "constant", "a nan", "none finite"],
)
def test_few_points(label, pred, title, folder):
    picture = plots.draw_parity([plots.Parity("fr", np.array(label), np.array(pred))])
    assert picture.axes[0].get_title() == title
    plots.save(picture, "p.png")


# --- Mistakes -------------------------------------------------------------------------


def write(name, text):
    Path(name).write_text(text)
    return name


HEAD = "# step rmse_val rmse_trn rmse_e_val rmse_e_trn lr\n"
ROW = "0 1 1 1 1 1\n"
DEVI = "# a\n# step max_devi_f avg_devi_f\n"
CASES = {
    "absent": (["no/l.out"], "There is no file 'no/l.out'."),
    "folder": (["."], "'.' is a folder. Give the file, such as 'lcurve.out'."),
    "empty": (["empty.out"], "'empty.out' is empty."),
    "header": (["header.out"], "'header.out' has no numbers yet, only a header."),
    "torn": (["torn.out"], "'torn.out' has no numbers yet, only a header."),
    "neither": (["text.txt"], "'text.txt' is no result file: a learning curve .*"),
    "binary": (["binary.out"], "'binary.out' is no result file: a learning curve .*"),
    "other detail": (["d.s.out"], "'d.s.out' is no result file: a learning curve .*"),
    "word": (["word.out"], "'word.out' is not a table of numbers: .*'oops'.*"),
    "ragged": (["ragged.out"], "'ragged.out' is not a table of numbers: .*from 6 to 5"),
    "columns": (["less.out"], "'less.out' has 5 numbers in a line, .* names 6."),
    "two losses": (["two.out"], "'two.out' changes its columns: .*Split it."),
    "nan": (["nan.out"], "'nan.out' has no numbers but nan."),
    "nan errors": (["nane.out"], "'nane.out' has no errors of energy.*all are nan.*"),
    "nan step": (["nans.out"], "'nans.out' has a step that is no number."),
    "no term": (
        ["total.out"],
        "'total.out' has no errors of energy.*: step, rmse_val.*",
    ),
    "deviations": (["devi.out"], "'devi.out' has 2 numbers in a line, .* names 3."),
    "atoms": (["atoms.out"], "'atoms.out' has 4 numbers in a line, .* names 5."),
    "no deviations": (["devi0.out"], "'devi0.out' has no numbers yet, only a header."),
    "nan deviations": (["devin.out"], "'devin.out' has no numbers but nan."),
    "cut log": (["cut.log"], "'cut.log' has no column 'e_total', only step, .*cut?"),
    "cut relaxation": (["cut2.log"], "'cut2.log' has no column 'enthalpy', only .*"),
    "cut table": (["cut.csv"], "'cut.csv' has no column 'order', only natoms, .*"),
    "no trajectory": (["log.h5"], "'log.h5' is no trajectory of dp-spin md: .*"),
    "no times": (["still.extxyz"], "'still.extxyz' is no trajectory of dp-spin md"),
    "one frame": (["one.h5"], "'one.h5' has 1 frames; 2 are needed to see more."),
    "no motion": (["rest.h5"], "'rest.h5' has neither atoms nor spins that move."),
    "trajectory and log": (["log.h5", "ok.out"], "'log.h5' is no trajectory .*"),
    "kinds": (["move.h5", "ok.out"], "'ok.out' is a learning curve, .* a trajectory"),
    "mixture": (
        ["ok.out", "d.fr.out"],
        "'d.fr.out' is a detail file, 'ok.out' a learning curve.*two.*",
    ),
    "labels": (["ok.out", "--labels", "a", "b"], "--labels needs .* 1 files.*: 2"),
    "no runs": (
        ["d.fr.out", "--log-x"],
        "--log-x and --linear-y are for learning curves.",
    ),
    "suffix": (["ok.out", "-o", "p.jpg"], "A picture must end in .png.* Got 'p.jpg'."),
    "target": (["ok.out", "-o", "d.png"], "'d.png' is a folder. Give a file .*"),
}


@pytest.fixture
def files(folder):
    write("empty.out", " \n")
    write("header.out", HEAD + NOTE)
    write("torn.out", HEAD + "0 1.0")
    write("text.txt", "hello\n1 2\n")
    Path("binary.out").write_bytes(bytes(range(256)) + b"\n")
    detail("d.s.out", ("sxx", "syy"))
    detail("d.fr.out", FORCE)
    write("word.out", HEAD + ROW + "1 oops 1 1 1 1\n")
    write("ragged.out", HEAD + ROW + "1 1 1 1 1\n" + ROW)
    write("less.out", HEAD + "1 1 1 1 1\n")
    write("two.out", HEAD + ROW + HEAD.replace("_e_", "_fr_") + ROW)
    write("nan.out", HEAD + "nan nan nan nan nan nan\n")
    write("nane.out", HEAD + "0 1 1 nan nan 0.001\n")
    write("nans.out", HEAD + "nan 1 1 1 1 0.001\n")
    write("total.out", "# step rmse_val lr\n0 1 1\n")
    write("cut.log", "# step replica time\n0 0 1\n")
    write("cut2.log", "# step replica energy\n0 0 1\n")
    write("cut.csv", "natoms,temperature (K),order error\n16,300,0.1\n")
    write("log.h5", "to do\n")
    ase.Atoms("O", magmoms=[[0, 0, 1]]).write("still.extxyz")
    trajectory("one.h5", frames=1)
    trajectory("move.h5")
    trajectory("rest.h5", frames=2)
    with h5py.File("rest.h5", "a") as file:
        file["coord"][:], file["spin"][:] = 1.0, 0.0
    write("devi.out", DEVI + "0 1\n")
    write("atoms.out", DEVI.replace("\n", " atm_devi_f(N) atm_devi_fm(N)\n") + ROW[4:])
    write("devi0.out", DEVI)
    write("devin.out", DEVI + "0 nan nan\n")
    write("ok.out", HEAD + ROW)
    Path("d.png").mkdir()


@pytest.mark.parametrize("case", CASES)
def test_mistakes(case, files, folder, capsys):
    """One line, and nothing is written."""
    before = sorted(folder.rglob("*"))
    args, message = CASES[case]
    assert main(["plot", *args]) == 1
    *notes, line = capsys.readouterr().err.splitlines()
    assert line.startswith("dp-spin: error: ")
    assert re.search(rf"^dp-spin: error: {message}", line)
    assert len(notes) == (case == "torn")
    assert sorted(folder.rglob("*")) == before


def test_picture_is_claimed_before_reading(folder, monkeypatch):
    """A million lines are not read for a picture that cannot be written."""
    curve()

    def fail(path):
        raise AssertionError("read")

    monkeypatch.setattr(results, "read_table", fail)
    write("file", "")
    assert main(["plot", "lcurve.out", "-o", "file/p.png"]) == 1


def test_unreadable_panel_does_not_replace_a_picture(files):
    write("ok.png", "mine")
    with pytest.raises(DataError):
        plot.plot(["ok.out", "word.out"])
    assert Path("ok.png").read_text() == "mine"
