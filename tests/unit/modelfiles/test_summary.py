# SPDX-License-Identifier: Apache-2.0
"""What is told of a model file."""

from pathlib import Path

import numpy as np
import pytest
from places import REFERENCE

import deepspin
from deepspin.modelfiles.summary import summary


@pytest.mark.parametrize(
    "case", ["base", "two_side", "resnet_dt", "neuron_8_8_16", "two_spin_types"]
)
def test_weights_are_counted(case):
    """As many as there are, for any net."""
    file = REFERENCE / f"{case}.pb"
    model = deepspin.load_model(file)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    lines = dict(summary(file, model.get_config(), {}))
    assert lines["weights"] == f"{count:,} to train"
    assert lines["file"] == f"{file} (DeePMD-kit's frozen form)"


def test_lines(make_model):
    """What metadata do not tell is left out."""
    config = make_model("NiO").get_config()
    bare = dict(summary(Path("m.keras"), config, {}))
    assert bare["file"] == "m.keras (Keras archive)"
    assert bare["types"] == "Ni O"
    assert bare["cutoff"] == "3.3 Å, smooth from 2"
    assert bare["sel"] == "Ni 26, O 26, Ni(spin) 26"
    assert bare["spin of Ni"] == "virtual_len 0.4, spin_norm 1.2737"
    assert {"spin of O", "written by", "step", "compressed"}.isdisjoint(bare)
    metadata = {
        "deepspin": "0.1.0",
        "step": 7,
        "input": {"training": {"numb_steps": 100}},
        "spin_range": {"Ni": [1.1, 1.4]},
        "environments": {"O": {"Ni": {"coordination": [1, 2.5], "nearest": [1, 2]}}},
        "compressed": {"pieces": [3, 4], "bytes": 2000, "table_error": 1e-11},
    }
    told = dict(summary(Path("m.keras"), config, metadata))
    assert told["written by"] == "deepspin 0.1.0"
    assert told["step"] == "7 of 100"
    assert told["spin of Ni"].endswith("; |S| in training 1.1000 to 1.4000 μ_B")
    assert told["coordination of O"] == "in training: Ni 1.000 to 2.500"
    assert "coordination of O" not in bare
    assert told["compressed"].startswith("7 pieces in 2 tables, 2 kB, within 1.0e-11")
