# SPDX-License-Identifier: Apache-2.0
"""Prefactors that make each term of a loss 1."""

from __future__ import annotations

import numpy as np
import pytest
from inputs import MISSING, changed

from deepspin.training.setup import balanced, longitudinal, with_length
from deepspin.utils.inputs import normalize
from deepspin.utils.refused import InputError

ERRORS = {"energy": 2e-4, "force": 3e-2, "along": 5e-3, "across": 1e-3, "virial": 0.1}
LOSS = {"loss_func": "mse", "intensive_ener_virial": False, "fm_component": "full"}


@pytest.mark.parametrize("loss_func", ["mse", "mae"])
@pytest.mark.parametrize("intensive", [False, True])
def test_each_term_is_one(loss_func, intensive):
    loss = {**LOSS, "loss_func": loss_func, "intensive_ener_virial": intensive}
    loss["fm_longitudinal"] = longitudinal(ERRORS, loss)
    found = balanced(ERRORS, 32.0, loss)
    power = 2 if loss_func == "mse" else 1
    natoms = 32.0 if power == 2 and not intensive else 1.0
    for term, name in (("e", "energy"), ("v", "virial")):
        assert found[term] * natoms * ERRORS[name] ** power == pytest.approx(1.0)
    assert found["fr"] * ERRORS["force"] ** power == pytest.approx(1.0)
    assert found["ae"] == 0.0


def test_along_and_across_count_alike():
    """Across is an error over three components, along one of one number."""
    weight = longitudinal(ERRORS, LOSS)
    found = balanced(ERRORS, 32.0, {**LOSS, "fm_longitudinal": weight})["fm"]
    across, along = ERRORS["across"] ** 2, ERRORS["along"] ** 2 / 3
    np.testing.assert_allclose(found * across, 0.5)
    np.testing.assert_allclose(found * weight * along, 0.5)


@pytest.mark.parametrize("missing", ["along", "across"])
def test_one_part_alone(missing):
    errors = {name: value for name, value in ERRORS.items() if name != missing}
    assert longitudinal(errors, LOSS) == 1.0
    transverse = {**LOSS, "fm_component": "transverse"}
    assert longitudinal(ERRORS, transverse) == 1.0
    found = balanced(ERRORS, 32.0, {**transverse, "fm_longitudinal": 1.0})
    np.testing.assert_allclose(found["fm"] * ERRORS["across"] ** 2, 1.0)


class Drawn:
    """So many batches of systems, and how likely each is drawn."""

    nbatches = (10, 4, 7)
    probabilities = np.array([0.8, 0.2, 0.0])


def test_epochs_as_steps():
    """The largest number of batches over its probability: 4 / 0.2, times epochs."""
    given = {"numb_steps": MISSING, "numb_epoch": 2.52, "ckpt_keep_ratio": 0.3}
    given = {f"training/{name}": value for name, value in given.items()}
    options = normalize(changed({**given, "training/save_freq": 10}))
    training = with_length(options, Drawn())["training"]
    assert training["numb_steps"] == 51  # ceil(2.52 x 20)
    assert training["numb_epoch"] is training["ckpt_keep_ratio"] is None
    # of six checkpoints, at 10, 20, ..., 51
    assert training["max_ckpt_keep"] == training["ema_ckpt_keep"] == 2
    again = normalize({**options, "training": training})
    assert with_length(again, Drawn()) == again


def test_a_warm_up_longer_than_the_epochs():
    given = {"training/numb_steps": MISSING, "training/numb_epoch": 1}
    options = normalize(changed({**given, "learning_rate/warmup_steps": 20}))
    with pytest.raises(InputError, match="less than `training/numb_steps` = 20"):
        with_length(options, Drawn())
