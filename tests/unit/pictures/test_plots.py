# SPDX-License-Identifier: Apache-2.0
"""Parities of detail files as they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawings import (
    FORCE,
    MAGNETIC,
    boxes,
    detail,
)

from deepspin.pictures import lines, plots


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
