# SPDX-License-Identifier: Apache-2.0
"""The scheme `invariant` on the command line, from data to results."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import optimizer_state, weights, write

import deepspin
from deepspin.main import main
from deepspin.op import library

SPINS = str(tiny.DATA / "train" / "spin-files-16")
VIRTUAL = tiny.DATA / "train" / "virtual-atom-16"
BASELINE = {"nradial": 6, "ncross": 2}


def input_of(**spin) -> dict:
    """The tiny input in the other scheme."""
    given = copy.deepcopy(tiny.INPUT)
    model = given["model"]
    model["spin"] = {
        "type": "invariant",
        "use_spin": ["Ni"],
        "baseline": dict(BASELINE),
        **spin,
    }
    model["descriptor"] |= {"rcut_smth": 2.0}
    given["loss"] = {"type": "ener_spin"}
    training = given["training"]
    training["training_data"]["systems"] = [SPINS]
    training["validation_data"]["systems"] = [str(tiny.DATA / "valid/spin-files-16")]
    return given


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a training of six steps."""
    folder = tmp_path_factory.mktemp("invariant")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", write(input_of())]) == 0
    return folder


@pytest.fixture
def here(trained, run, tmp_path):
    """That training in the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_training_begins_where_the_baseline_ends(here):
    """The curve's first line, and that prefactors make each term 1."""
    rows = np.loadtxt("lcurve.out")
    names = Path("lcurve.out").read_text().splitlines()[0].split()[1:]
    first = dict(zip(names, rows[0], strict=True))
    assert first["rmse_e_val"] < 5e-3
    assert first["rmse_fr_val"] < 0.2
    assert first["rmse_fm_val"] < 5e-3
    assert 0.3 < first["rmse_val"] < 6.0
    loss = json.loads(Path("out.json").read_text())["loss"]
    assert loss["prefactors"] == "auto"
    assert loss["start_pref_fm"] == loss["limit_pref_fm"] > 1e4


def test_restart_is_exact(here, run, capsys):
    whole = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    files = {name: Path(name).read_bytes() for name in ("lcurve.out", "out.json")}
    Path("model.ckpt-6.keras").unlink()
    run("train", "input.json", "-r", "model.ckpt")
    again = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    for a, b in zip(whole[0] + whole[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert files == {name: Path(name).read_bytes() for name in files}
    assert "bit for bit" not in said(capsys)


def test_init_model(here, run, capsys):
    """With its weights, by the kernels where there are some."""
    given = input_of()
    given["training"]["numb_steps"] = 0
    before = weights("model.ckpt-6.keras")
    run("train", write(given, "more.json"), "-i", "model.ckpt-6.keras")
    for now, then in zip(weights("model.ckpt-0.keras"), before, strict=False):
        np.testing.assert_array_equal(now, then)
    kernels = library.operations() is not None
    assert (", kernels, threads:" in said(capsys)) == kernels


def test_frozen_equals_the_model(here, run):
    import tensorflow as tf

    run("freeze", "-c", "model.ckpt", "-o", "frozen")
    potential = deepspin.DeepSpin("model.ckpt")
    frozen = deepspin.DeepSpin("frozen")
    data = np.load(f"{tiny.DATA}/valid/spin-files-16/set.000/coord.npy")[:2]
    spin = np.load(f"{tiny.DATA}/valid/spin-files-16/set.000/spin.npy")[:2]
    box = np.load(f"{tiny.DATA}/valid/spin-files-16/set.000/box.npy")[:2]
    atype = np.loadtxt(f"{tiny.DATA}/valid/spin-files-16/type.raw", dtype=int)
    names = Path(f"{tiny.DATA}/valid/spin-files-16/type_map.raw").read_text().split()
    atype = np.array([potential.type_map.index(names[t]) for t in atype])
    shape = (2, len(atype), 3)
    given = data.reshape(shape), box.reshape(2, 3, 3), atype, spin.reshape(shape)
    want, found = potential.eval(*given), frozen.eval(*given)
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12)
    assert tf.saved_model.contains_saved_model("frozen")


def test_what_a_model_is_said_to_be(here, run, capsys):
    run("show", "model.ckpt")
    text = said(capsys)
    assert "invariant" in text
    assert "6 Chebyshev polynomials in 6 mixtures" in text


def test_what_has_no_meaning_is_refused(here, run, capsys):
    run("compress", "-i", "model.ckpt", "-o", "small", status=1)
    assert "nothing to compress" in said(capsys)
    run("convert-to", "deepmd", "-c", "model.ckpt", "-o", "model.pb", status=1)
    assert "DeePMD-kit has no scheme `invariant`" in said(capsys)


def test_virtual_atoms_need_their_scheme(here, run, tmp_path, capsys):
    """Data with virtual atoms are read where they say how far these stand."""
    shutil.copytree(VIRTUAL, tmp_path / "data")
    scheme = tmp_path / "data" / "spin_scheme.json"
    written = scheme.read_text()
    scheme.unlink()
    run("test", "-m", "model.ckpt", "-s", "data", status=1)
    assert "spin_scheme.json" in said(capsys)
    scheme.write_text(written)
    run("test", "-m", "model.ckpt", "-s", "data")
    first = said(capsys)
    run("convert-data", "data", "--layout", "spin-files", "-o", "spins")
    capsys.readouterr()
    run("test", "-m", "model.ckpt", "-s", "spins")
    second = said(capsys)
    line = "Force spin RMSE"
    assert first.split(line)[1].split()[1] == second.split(line)[1].split()[1]


def test_symmetry_of_model_and_data(here, run, capsys):
    run("check-symmetry", str(tiny.DATA / "valid/spin-files-16"), "-m", "model.ckpt",
        "-r", "4.5", "--json", "found.json")  # fmt: skip
    found = json.loads(Path("found.json").read_text())
    assert all(row["largest"] < 1e-8 for row in found["model"].values())
    assert found["torque"] < 1e-8
    assert abs(found["factors"]["across"] - 1.0) < 0.02
    assert "for spins that turn at fixed modulus" in said(capsys)


def test_no_steps_and_the_factor_of_magnetic_forces(run, tmp_path):
    """The model is the baseline; the factor is in out.json and in force everywhere."""
    for part in ("train", "valid"):
        path = tmp_path / part
        shutil.copytree(tiny.DATA / part / "spin-files-16", path)
        file = path / "set.000" / "force_mag.npy"
        np.save(file, np.load(file) / 1.25)
    given = input_of(baseline={"nradial": 8, "ncross": 0})
    given["model"]["descriptor"] |= {"rcut": 5.2}
    training = given["training"]
    training["training_data"] |= {"systems": ["train"], "force_mag_factor": "fit"}
    training["validation_data"]["systems"] = ["valid"]
    training["numb_steps"] = 0
    run("train", write(given))
    section = json.loads(Path("out.json").read_text())["training"]["training_data"]
    assert abs(section["force_mag_factor"] - 1.25) < 0.02
    row = np.loadtxt("lcurve.out")
    assert row[0] == 0
    assert row[5] < 5e-3  # rmse_fm of validation, as scaled
    assert Path("model.ckpt-0.keras").is_file()
