# SPDX-License-Identifier: Apache-2.0
"""Prefactors that make each term of a loss 1."""

from __future__ import annotations

import numpy as np
import pytest

from deepspin.training.setup import balanced, longitudinal

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
