# SPDX-License-Identifier: Apache-2.0
"""Side by side with a live DeePMD-kit; see `peer.py` for how to run these."""

from __future__ import annotations

import json

import numpy as np
import pytest
from peer import needs_peer, one_frame, run_peer
from places import REFERENCE, ROOT

import deepspin
from deepspin.main import main

DATA = ROOT / "examples" / "NiO" / "data"

pytestmark = needs_peer


def test_stored_reference_is_what_it_says_now(tmp_path):
    """The script that made the stored numbers makes the same today."""
    script = REFERENCE / "make_reference.py"
    run_peer("python", script, "--out", tmp_path, "--only", "base", folder=tmp_path)
    with (
        np.load(tmp_path / "base.npz") as now,
        np.load(REFERENCE / "base.npz") as stored,
    ):
        for key in ("energy", "force", "force_mag", "virial", "davg", "dstd"):
            np.testing.assert_allclose(now[key], stored[key], rtol=1e-8, atol=1e-10)
        frozen = deepspin.DeepSpin(str(tmp_path / "base.pb"))
        result = frozen.eval(now["coord"], now["box"], now["atype"], now["spin"])
        for key in ("energy", "force", "force_mag", "virial", "atom_virial"):
            scale = np.abs(now[key]).max()
            np.testing.assert_allclose(result[key], now[key], atol=1e-10 * scale)


@pytest.mark.parametrize("layout", ["virtual-atom", "spin-files"])
def test_training_takes_the_same_steps(tmp_path, monkeypatch, layout):
    """From equal weights, on one frame, the learning curves agree digit for digit.

    Spin files are converted first: DeePMD-kit reads what `convert-data` writes. Then
    there is a `type_map.raw`, and the input names virtual atoms, too.
    """
    source = DATA / "train" / f"{layout}-16"
    one_frame(source, tmp_path / "system")
    converts = layout == "spin-files"
    if converts:
        one_frame(source, tmp_path / "files")
        scheme = ["--virtual-len", "0.4", "--spin-norm", "1.2737"]
        converted = ["--layout", "virtual-atom", "-o", str(tmp_path / "system")]
        given = [str(tmp_path / "files"), "--force", "-t", "Ni", "O"]
        assert main(["convert-data", *given, *converted, *scheme]) == 0
    names = (tmp_path / "system/type_map.raw").read_text().split() if converts else []
    assert names == (["Ni", "O", "Ni_spin"] if converts else [])
    content = {
        "model": {
            "type_map": names or ["Ni", "O"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [60, 60],
                "rcut_smth": 4.0,
                "rcut": 4.5,
                "neuron": [6, 12],
                "axis_neuron": 4,
                "type_one_side": True,
                "precision": "float64",
                "seed": 1,
            },
            "fitting_net": {"neuron": [12, 12], "precision": "float64", "seed": 1},
            "spin": {
                "use_spin": [True, False],
                "virtual_len": [0.4],
                "spin_norm": [1.2737],
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"type": "ener_spin", "start_pref_v": 0.1, "limit_pref_v": 1.0},
        "training": {
            "training_data": {"systems": [str(tmp_path / "system")], "batch_size": 1},
            "numb_steps": 60,
            "seed": 1,
            "disp_freq": 5,
            "save_freq": 60,
        },
    }
    for name, steps in (("start", 1), ("peer", 60), ("ours", 60)):
        folder = tmp_path / name
        folder.mkdir()
        content["training"]["numb_steps"] = steps
        (folder / "input.json").write_text(json.dumps(content))
    start = tmp_path / "start"
    run_peer("dp", "--tf", "train", "input.json", folder=start)
    run_peer("dp", "--tf", "freeze", "-o", "frozen.pb", folder=start)
    frozen = start / "frozen.pb"
    run_peer(
        "dp", "--tf", "train", "input.json", "-f", frozen, folder=tmp_path / "peer"
    )
    monkeypatch.chdir(tmp_path / "ours")
    assert main(["train", "input.json", "-f", str(frozen)]) == 0
    theirs = (tmp_path / "peer" / "lcurve.out").read_text().splitlines()
    ours = (tmp_path / "ours" / "lcurve.out").read_text().splitlines()
    assert ours[0].split() == theirs[0].split()
    a, b = (np.loadtxt(rows) for rows in (ours, theirs))
    # three digits are printed; DeePMD-kit's learning rate is in float32
    np.testing.assert_allclose(a, b, rtol=2e-2)
    np.testing.assert_array_equal(a[:5], b[:5])
