# SPDX-License-Identifier: Apache-2.0
"""Side by side with a live DeePMD-kit; see `peer.py` for how to run these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from peer import needs_peer, one_frame, run_dp, run_peer
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


LAYOUTS = ("virtual-atom", "spin-files")


def training_of(system: Path, name: str, steps: int) -> dict:
    """Input of a training on one system, whose files have this name.

    If its `type_map.raw` names virtual atoms, DeePMD-kit wants to read that here, too.
    """
    names = system / "type_map.raw"
    return {
        "model": {
            "type_map": names.read_text().split() if names.exists() else ["Ni", "O"],
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
            "training_data": {"systems": [str(system)], "batch_size": 1},
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": 5,
            "save_freq": 60,
            "disp_file": f"{name}.out",
            "save_ckpt": f"{name}.ckpt",
        },
    }


@pytest.fixture(scope="module")
def trained_there(tmp_path_factory):
    """Folder of frozen models, and of DeePMD-kit's trainings from them, by layout.

    Spin files are converted first: DeePMD-kit reads what `convert-data` writes.
    """
    folder = tmp_path_factory.mktemp("there")
    one_frame(DATA / "train" / "virtual-atom-16", folder / "virtual-atom")
    one_frame(DATA / "train" / "spin-files-16", folder / "files")
    scheme = ["--virtual-len", "0.4", "--spin-norm", "1.2737"]
    converted = ["--layout", "virtual-atom", "-o", str(folder / "spin-files")]
    given = [str(folder / "files"), "--force", "-t", "Ni", "O"]
    assert main(["convert-data", *given, *converted, *scheme]) == 0
    names = (folder / "spin-files" / "type_map.raw").read_text().split()
    assert names == ["Ni", "O", "Ni_spin"]
    skip, commands = "--skip-neighbor-stat", []
    for layout in LAYOUTS:
        for name, steps in ((f"start-{layout}", 1), (layout, 60)):
            content = training_of(folder / layout, name, steps)
            (folder / f"{name}.json").write_text(json.dumps(content))
        commands += [["train", f"start-{layout}.json", skip]]
        commands += [["freeze", "-o", f"{layout}.pb"]]
        commands += [["train", f"{layout}.json", "-f", f"{layout}.pb", skip]]
    run_dp(commands, folder)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_takes_the_same_steps(trained_there, run, layout):
    """From equal weights, on one frame, the learning curves agree digit for digit."""
    content = training_of(trained_there / layout, "ours", 60)
    run("train", tiny.write(content), "-f", trained_there / f"{layout}.pb")
    ours = Path("ours.out").read_text().splitlines()
    theirs = (trained_there / f"{layout}.out").read_text().splitlines()
    assert ours[0].split() == theirs[0].split()
    a, b = (np.loadtxt(rows) for rows in (ours, theirs))
    # three digits are printed; DeePMD-kit's learning rate is in float32
    np.testing.assert_allclose(a, b, rtol=2e-2)
    np.testing.assert_array_equal(a[:5], b[:5])
