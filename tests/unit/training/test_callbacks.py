# SPDX-License-Identifier: Apache-2.0
"""Learning curve and checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from damage import damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st
from places import REFERENCE

import deepspin
from deepspin.loss.ener_spin import EnerSpinLoss
from deepspin.training.callbacks import (
    BatchErrors,
    Checkpoint,
    TrainingError,
    rows_until,
)
from deepspin.training.validation import _rest


def test_lines_of_a_curve_with_other_columns(tmp_path):
    """A curve that does not fit is not gone on with, nor half a line."""
    path, header = tmp_path / "lcurve.out", "# step e\n# b\n"
    assert rows_until(path, header, 5) == []
    path.write_text("# another header\n# b\n      0 1.0\n")
    assert rows_until(path, header, 5) == []
    path.write_text(header + "      0 1.0\n      4 2.0\n      8 3.0\n     10 4.")
    assert rows_until(path, header, 5) == [header, "      0 1.0\n", "      4 2.0\n"]
    assert len(rows_until(path, header, 10)) == 4


ROWS = [f"{k:7d}   {1 / (k + 1):11.2e}\n" for k in range(0, 40, 4)]


@pytest.mark.any_version
@fuzz(60)
@given(data=st.data())
def test_lines_of_a_damaged_curve(data):
    """Lines that are whole, in order: a number may be another, nothing else."""
    header = "# step        rmse\n# a note\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lcurve.out"
        content = (header + "".join(ROWS)).encode()
        path.write_bytes(data.draw(damaged(content)))
        kept = rows_until(path, header, 20)
    if kept:
        assert kept[0] == header
        table = np.loadtxt(kept[1:], ndmin=2) if kept[1:] else np.zeros((0, 2))
        assert table.shape == (len(kept) - 1, 2)
        assert (np.diff(table[:, 0]) > 0).all() and (table[:, 0] <= 20).all()
        assert len(set(kept[1:]) - set(ROWS)) <= 5


def test_weights_that_are_not_finite_are_not_saved(run):
    model = deepspin.load_model(REFERENCE / "base.pb")
    model.compile(loss=EnerSpinLoss())
    model.descriptor.nets[0].matrix.assign(np.nan * model.descriptor.nets[0].matrix)
    checkpoint = Checkpoint("model.ckpt", 1, 1, {})
    checkpoint.set_model(model)
    with pytest.raises(TrainingError, match="not finite after step 0: not saved"):
        checkpoint.save()
    assert not list(Path().iterdir())


def test_averages_leave_out_what_a_batch_has_not():
    """Errors of what is missing in a batch do not count; those that are NaN do."""

    class Data:
        def batch(self, step):
            return {"step": step}, {}

    errors = BatchErrors(Data(), None, 1, 1)
    rows = [
        {"score": (9.0, 1.0), "rmse": (1.0, 1.0), "rmse_fm": (3.0, 12.0)},
        {"score": (9.0, 1.0), "rmse": (4.0, 1.0), "rmse_fm": (np.nan, 0.0)},
        {"score": (9.0, 1.0), "rmse": (1.0, 1.0), "rmse_fm": (5.0, 6.0)},
    ]
    errors._report = lambda inputs, labels: rows[int(inputs["step"])]
    found = errors._mean(Data(), [0, 1, 2])
    assert found == {
        "rmse": pytest.approx(np.sqrt((1 + 16 + 1) / 3)),
        "rmse_fm": pytest.approx(np.sqrt((12 * 9 + 6 * 25) / 18)),
    }
    assert np.isnan(errors._mean(Data(), [1])["rmse_fm"])
    rows[1] = {"rmse": (np.nan, 1.0), "rmse_fm": (np.nan, 4.0)}
    assert np.isnan(errors._mean(Data(), [0, 1])["rmse_fm"])


def test_stresses_of_cells_alone():
    """A cluster has a virial, and no stress."""
    labels = {"virial": np.zeros((2, 3, 3)), "find_virial": np.ones(2)}
    outputs = {"virial": np.full((2, 3, 3), 6.0), "mask": np.ones((2, 4))}
    inputs = {"box": np.stack([2.0 * np.eye(3), np.zeros((3, 3))])}
    stresses = _rest("S", inputs, labels, outputs)
    np.testing.assert_allclose(stresses, np.full((1, 9), 6.0 / 8.0), rtol=1e-14)
    assert _rest("V", inputs, labels, outputs).shape == (2, 9)
