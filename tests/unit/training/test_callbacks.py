# SPDX-License-Identifier: Apache-2.0
"""Learning curve and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from places import REFERENCE

import deepspin
from deepspin.loss.ener_spin import EnerSpinLoss
from deepspin.training.callbacks import (
    Checkpoint,
    LearningCurve,
    TrainingError,
)


def test_lines_of_a_curve_with_other_columns(tmp_path, monkeypatch):
    """A curve that does not fit is not gone on with."""
    path = tmp_path / "lcurve.out"
    path.write_text("# another header\n# b\n      0 1.0\n")
    curve = LearningCurve.__new__(LearningCurve)
    curve.path = path
    monkeypatch.setattr(LearningCurve, "_header", lambda self: "# step\n# b\n")
    assert curve._kept_lines(5) == []
    path.write_text("# step\n# b\n      0 1.0\n      4 2.0\n      8 3.0\n     10 4.")
    assert curve._kept_lines(5)[2:] == ["      0 1.0\n", "      4 2.0\n"]


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
            return {"step": step}, {"natoms": np.array([2.0 * (step + 1)])}

    curve = LearningCurve.__new__(LearningCurve)
    rows = [
        {"rmse": 1.0, "rmse_fm": 3.0},
        {"rmse": 4.0, "rmse_fm": np.nan},
    ]
    curve._errors = lambda inputs, labels: {
        k: tf.constant(v) for k, v in rows[int(inputs["step"])].items()
    }
    found = curve._evaluate(Data(), [0, 1])
    assert found == {"rmse": pytest.approx(3.0), "rmse_fm": pytest.approx(3.0)}
    assert np.isnan(curve._evaluate(Data(), [1])["rmse_fm"])
    rows[1] = {"rmse": np.nan, "rmse_fm": np.nan}
    assert np.isnan(curve._evaluate(Data(), [0, 1])["rmse_fm"])
