# SPDX-License-Identifier: Apache-2.0
"""Learning curves and relaxations as they are drawn."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from drawings import (
    AXES,
    boxes,
    curve,
    drawn,
    legend,
    panels,
)

from deepspin.pictures import lines, plots


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
