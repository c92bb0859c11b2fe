# SPDX-License-Identifier: Apache-2.0
"""Which picture a file asks for."""

from pathlib import Path

import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.pictures.results import default_picture, draw_results
from deepspin.utils.refused import InputError

TERMS = ("e", "fr", "fm", "v")


@pytest.fixture
def curve(tmp_path):
    path = tmp_path / "lcurve.out"
    names = ["step", *(f"rmse_{t}_trn" for t in TERMS), "lr"]
    rows = np.column_stack([np.arange(4), np.full((4, 4), 0.5), np.full(4, 1e-3)])
    np.savetxt(path, rows, header=" ".join(names))
    return path


@pytest.fixture
def detail(tmp_path):
    path = tmp_path / "d.fr.out"
    columns = " ".join(f"{k}_f{x}" for k in ("data", "pred") for x in "xyz")
    np.savetxt(
        path, np.random.default_rng(0).normal(size=(5, 6)), header=f"s: {columns}"
    )
    return path


def test_axes_of_curves(curve):
    axis = draw_results([curve], log_x=True, linear_y=True).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")


def test_panels_of_detail_files(detail):
    (one,) = draw_results([detail]).axes
    assert "force" in one.get_xlabel()
    assert len(draw_results([detail, detail]).axes) == 2


def test_options_that_a_kind_does_not_have(curve, detail):
    with pytest.raises(InputError, match="--log-x and --linear-y are for learning"):
        draw_results([detail], log_x=True)
    with pytest.raises(InputError, match="--labels are for runs, not for detail"):
        draw_results([detail], ["a"])


def test_kinds_are_not_mixed(curve, detail):
    with pytest.raises(DataError, match=r"is a detail file, .* a learning curve"):
        draw_results([curve, detail])


@pytest.mark.parametrize(
    ("file", "picture"),
    [("a/lcurve.out", "a/lcurve.png"), ("t.extxyz", "t.extxyz.png")],
)
def test_default_picture(file, picture):
    assert default_picture(Path(file)) == Path(picture)
