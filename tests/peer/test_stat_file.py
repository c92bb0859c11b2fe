# SPDX-License-Identifier: Apache-2.0
"""Statistics that DeePMD-kit takes from a file that deepspin wrote."""

from __future__ import annotations

import json
import sys

import h5py
import numpy as np
from peer import needs_peer, run_peer
from places import REFERENCE

sys.path.insert(0, str(REFERENCE))
import make_stat_file

from deepspin.main import main

pytestmark = needs_peer

CODE = """
import tensorflow as tf
from deepmd.tf.utils.graph import load_graph_def, get_tensor_by_name_from_graph
graph, _ = load_graph_def("frozen.pb")
tensor = get_tensor_by_name_from_graph(graph, "descrpt_attr/t_avg")
print("t_avg", *tensor[:, 0].tolist())
"""


def test_it_takes_ours(tmp_path, monkeypatch):
    make_stat_file.write_system(tmp_path / "system")
    content = make_stat_file.given(tmp_path / "system", "stat.hdf5")
    (tmp_path / "input.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "input.json"]) == 0
    group = "Ni O/c893dc23c6c9bf70d74007e690e49799740cf4ec"
    with h5py.File("stat.hdf5", "a") as file:  # so that it shows whose they are
        file[f"{group}/r_0"][:] = [100.0, 200.0, 800.0]
        names: list[str] = []
        file.visit(names.append)
    said = run_peer("dp", "--tf", "train", "input.json", folder=tmp_path)
    assert "RMSE of energy" not in said  # its fit of the energy bias
    run_peer("dp", "--tf", "freeze", "-o", "frozen.pb", folder=tmp_path)
    said = run_peer("python", "-c", CODE, folder=tmp_path)
    (line,) = (line for line in said.splitlines() if line.startswith("t_avg"))
    assert float(line.split()[1]) == 2.0
    with h5py.File("stat.hdf5") as file:
        after: list[str] = []
        file.visit(after.append)
        np.testing.assert_array_equal(file[f"{group}/r_0"], [100.0, 200.0, 800.0])
    assert after == names
