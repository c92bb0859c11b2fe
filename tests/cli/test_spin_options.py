# SPDX-License-Identifier: Apache-2.0
"""What `ener_spin` can be told of spins beyond DeePMD-kit, from input to files."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import optimizer_state, weights, write

import deepspin
from deepspin.main import main
from deepspin.training import callbacks

VALID = tiny.DATA / "valid" / "virtual-atom-16"


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def with_all() -> dict:
    """The tiny input with all of them."""
    given = copy.deepcopy(tiny.INPUT)
    given["model"]["spin"]["time_reversal"] = True
    given["training"]["augmentation"] = ["spin_rotation"]
    given["loss"]["fm_component"] = "transverse"
    return given


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a training with them."""
    folder = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", write(with_all())]) == 0
    return folder


@pytest.fixture
def trained(folder, run, tmp_path):
    """That training in the current folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)


def test_training(trained, run, capsys):
    """It restarts bit for bit, is even in the spins, and freezes as it is."""
    whole = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    curve = Path("lcurve.out").read_bytes()
    Path("model.ckpt-6.keras").unlink()
    run("train", "input.json", "-r", "model.ckpt")
    again = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    for a, b in zip(whole[0] + whole[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert Path("lcurve.out").read_bytes() == curve
    assert "bit for bit" not in said(capsys)

    run("freeze", "-c", "model.ckpt", "-o", "frozen")
    run("compress", "-i", "model.ckpt-6.keras", "-o", "tables", "-t", "input.json")
    potential, frame = deepspin.DeepSpin("model.ckpt"), frame_of_data()
    one = potential.eval(*frame)
    two = potential.eval(*frame[:3], -frame[3])
    np.testing.assert_array_equal(one["energy"], two["energy"])
    np.testing.assert_array_equal(one["force_mag"], -two["force_mag"])
    for name, tolerance in (("frozen", 1e-12), ("tables", 1e-6)):
        other = deepspin.DeepSpin(name).eval(*frame)
        for key in ("energy", "force", "force_mag", "virial"):
            scale = np.abs(one[key]).max()
            np.testing.assert_allclose(other[key], one[key], 0, tolerance * scale)


def frame_of_data() -> tuple[np.ndarray, ...]:
    """A frame of the validation data: coord, box, atype, spin."""
    system = deepspin.DataSystem(
        str(VALID), **{**deepspin.load_model("model.ckpt-6.keras").data_spec}
    ).systems[0]
    return system.coord[:1], system.box[:1], system.atype[0], system.spin[:1]


def test_lcurve_and_test_agree(trained, capsys):
    """`rmse_fm` of the curve is what `test` calls across."""
    last = np.loadtxt("lcurve.out")[-1]
    names = Path("lcurve.out").read_text().splitlines()[0].split()[1:]
    errors = dict(zip(names, last, strict=True))
    capsys.readouterr()
    assert main(["test", "-m", "model.ckpt", "-s", str(VALID)]) == 0
    across = next(x for x in capsys.readouterr().err.splitlines() if "across RMSE" in x)
    value = float(across.split(":")[-1].split()[0])
    assert 0.5 * value < errors["rmse_fm_val"] < 2 * value


def test_no_file_for_others(trained, capsys):
    """DeePMD-kit and LAMMPS have no such model; nothing is written."""
    assert main(["freeze", "-c", "model.ckpt", "-o", "model.pb"]) == 1
    assert "DeePMD-kit and LAMMPS have no `time_reversal`" in said(capsys)
    assert not Path("model.pb").exists()


def test_data_with_torques(run, tmp_path, capsys):
    """Turned frames of data whose torques do not add up to 0 are warned of."""
    options = with_all()
    folder = tmp_path / "system"
    shutil.copytree(tiny.DATA / "train" / "spin-files-16", folder)
    for path in folder.glob("set.*/force_mag.npy"):
        np.save(path, np.load(path) + 0.1)
    options["training"]["training_data"]["systems"] = [str(folder)]
    run("train", write(options))
    text = said(capsys)
    assert "add up to" in text
    assert "spin_rotation teaches" in text
    assert "frames of each batch: spin_rotation at random" in text


@pytest.mark.parametrize("rate", [1e-12, 1e-2])
def test_a_training_that_learns_nothing(data, run, capsys, monkeypatch, rate):
    """It is told of after a tenth of the steps; one that learns is not."""
    monkeypatch.setattr(callbacks, "FEWEST_STEPS", 2)
    steps = 600 if rate > 1e-6 else 60
    data["training"] |= {"numb_steps": steps, "save_freq": steps, "disp_freq": steps}
    data["learning_rate"] = {"start_lr": rate, "stop_lr": rate}
    run("train", write(data))
    text = said(capsys)
    if rate > 1e-6:
        assert " force (" not in text
        return
    text = text[text.index("these errors are not 1 % less than before the first") :]
    for name in ("energy per atom", "force", "force_mag across", "virial per atom"):
        assert f"{name} (" in text
    assert '"model/spin/type": "invariant"' in text
