# SPDX-License-Identifier: Apache-2.0
"""What a model file says of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import REFERENCE

import deepspin
from deepspin.main import main


@pytest.mark.parametrize("name", ["model.keras", "frozen", "model"])
def test_show(models, capsys, name):
    assert main(["show", f"{models}/{name}"]) == 0
    lines = dict(
        line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if line
    )
    lines = {k: v.strip() for k, v in lines.items()}
    assert lines["types"] == "Ni O"
    assert "1.1000 to 1.4000 μ_B" in lines["spin of Ni"]
    assert lines["nearest in training"] == "0.3300 Å"
    model = deepspin.load_model(models / "model.keras")
    count = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert lines["weights"] == f"{count:,} to train"
    assert main(["show", f"{models}/{name}", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["step"] == 7
    assert content["model"]["config"]["type_map"] == ["Ni", "O"]


@pytest.mark.parametrize(
    "case", ["base", "two_side", "resnet_dt", "neuron_8_8_16", "two_spin_types"]
)
def test_show_counts_the_weights(case, capsys):
    """As many as there are, for any net."""
    file = REFERENCE / f"{case}.pb"
    if not file.is_file():
        pytest.fail(f"no {file}")
    assert main(["show", str(file)]) == 0
    model = deepspin.load_model(file)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert f"{count:,} to train" in capsys.readouterr().out
