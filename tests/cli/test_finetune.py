# SPDX-License-Identifier: Apache-2.0
"""Beginning with a model of other types or another input; its energy bias changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_data
from places import REFERENCE
from tiny import DATA, SYSTEM, optimizer_state, weights, write

import deepspin
from deepspin.modelfiles.find import read_metadata

PB = REFERENCE / "two_spin_types.pb"  # of Ni, Fe and O
STEP_0 = "model.ckpt-0.keras"


def said(capsys) -> str:
    """What was said on the terminal since last asked, in one line."""
    return " ".join(capsys.readouterr().err.split())


def bias_of(path) -> np.ndarray:
    return deepspin.load_model(path).fitting.bias_atom_e.numpy()


def is_best(run, capsys, path, *systems) -> bool:
    """Whether no other energy bias fits energies better: it stays as it is."""
    capsys.readouterr()
    run("change-bias", path, "-s", *systems, "-o", "again.keras", "--force")
    assert "energy bias in eV: " in said(capsys)
    return np.allclose(bias_of("again.keras"), bias_of(path), rtol=0, atol=1e-9)


@pytest.fixture
def oxide(tmp_path):
    """Input for O and Ni in this order, of the options of the reference, and data."""
    arrays, types = small_data.frames(4, names=("O", "Ni"))
    small_data.write(tmp_path / "a", arrays, types, names=None)
    small_data.write(tmp_path / "named", arrays, types, names=("O", "Ni"))
    return {
        "model": {
            "type_map": ["O", "Ni"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [15, 13],
                "rcut": 3.6,
                "rcut_smth": 3.4,
                "neuron": [3, 6, 12],
                "axis_neuron": 4,
                "type_one_side": True,
            },
            "fitting_net": {"neuron": [12, 12], "resnet_dt": False},
            "spin": {"use_spin": ["Ni"], "virtual_len": [0.4], "spin_norm": [1.2737]},
        },
        "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 2},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": ["a"], "batch_size": 4},
            "numb_steps": 0,
            "disp_training": False,
            "jit_compile": False,
        },
    }


def energies(path, names=("O", "Ni")):
    """What a model says of the frames of the data, by the names of their atoms."""
    potential = deepspin.DeepSpin(path)
    arrays, types = small_data.frames(4, names=("O", "Ni"))
    atype = [potential.type_map.index(names[t]) for t in types]
    return potential.eval(
        arrays["coord"], arrays["box"].reshape(-1, 3, 3), atype, arrays["spin"]
    )["energy"]


# --- Types by name --------------------------------------------------------------------


def test_types_are_matched_by_name(run, oxide, capsys):
    """Those that the input does not name come last, with their slots."""
    run("train", write(oxide), "-i", PB)
    assert "matched by name, and Fe stays in the model" in said(capsys)
    model = deepspin.load_model(STEP_0)
    assert model.type_map == ["O", "Ni", "Fe"]
    assert model.spin.options["virtual_len"] == [0.4, 0.3]
    assert list(model.descriptor.sel) == [15, 13, 13, 13, 13]
    np.testing.assert_allclose(energies(STEP_0), energies(PB), rtol=1e-12)
    told = json.loads(Path("out.json").read_text())["model"]
    assert told == read_metadata(STEP_0)["input"]["model"]
    assert told["type_map"] == ["O", "Ni", "Fe"]
    run("train", "out.json", "-i", STEP_0)  # which is an input of its own


def test_unknown_types(run, oxide, capsys):
    oxide["model"]["type_map"][0] = "S"
    run("train", write(oxide), "-f", PB, status=1)
    assert "knows no S: its types are Ni Fe O." in said(capsys)
    oxide["model"]["type_map"] = ["Fe", "Ni", "O"]
    oxide["model"]["descriptor"]["sel"] = [13, 13, 15]
    oxide["model"]["spin"] = {"type": "invariant", "use_spin": ["Ni", "Fe"]}
    run("train", write(oxide), "-t", PB, status=1)
    assert "is a model of the scheme `ener_spin`, and `model/spin/type` is" in (
        said(capsys)
    )


# --- Finetuning -----------------------------------------------------------------------


def test_finetune(run, oxide, capsys):
    """The same model, but for the energy bias of the types that the data has."""
    run("train", write(oxide), "-t", PB)
    text = said(capsys)
    assert "energy bias in eV: O " in text
    assert "rmse of the energy per atom of 4 frames" in text
    assert "the compositions of the data do not tell O and Ni apart" in text
    assert "no frame with an energy has an atom of Fe" in text
    old, new = energies(PB), energies(STEP_0)
    label = small_data.frames(4, names=("O", "Ni"))[0]["energy"]
    np.testing.assert_allclose(new - old, (label - old).mean(), rtol=1e-10)
    assert is_best(run, capsys, STEP_0, "a")


def test_pretrain_script(run, oxide, capsys):
    """As little as names of types; their order and what is trained are the input's."""
    full = oxide["model"]
    oxide["model"] = {
        "type_map": ["O", "Ni"],
        "descriptor": {"trainable": False, "rcut": 3.3},
        "fitting_net": {},
    }
    run("train", write(oxide), "--use-pretrain-script", "-i", PB)
    assert (
        "does not count: model/type_map: ['O', 'Ni'], model/descriptor/rcut: 3.3"
        in (said(capsys))
    )
    model = deepspin.load_model(STEP_0)
    assert model.type_map == ["O", "Ni", "Fe"]
    assert model.descriptor.sel == (15, 13, 13, 13, 13)
    assert not model.descriptor.trainable
    np.testing.assert_allclose(energies(STEP_0), energies(PB), rtol=1e-12)
    # of a model of ours, types again in another order
    oxide["training"]["training_data"]["systems"] = ["named"]
    oxide["model"] = {**full, "type_map": ["Ni", "O"], "descriptor": {}}
    shutil.copy(STEP_0, "ours.keras")
    run("train", write(oxide), "--use-pretrain-script", "-t", "ours.keras")
    model = deepspin.load_model(STEP_0)
    assert model.type_map == ["Ni", "O", "Fe"]
    assert model.descriptor.trainable is False
    run("train", write(oxide), "--use-pretrain-script", "-r", STEP_0, status=1)
    assert "Give one with -t, -i or -f." in said(capsys)
    deepspin.load_model(STEP_0).save("keras.keras")
    run("train", write(oxide), "--use-pretrain-script", "-i", "keras.keras", status=1)
    assert "does not tell the section `model`" in said(capsys)


def test_finetune_needs_energies(run, oxide, capsys):
    Path("a/set.000/energy.npy").unlink()
    run("train", write(oxide), "-t", PB, status=1)
    assert "-t (finetune) changes the energy bias, and no system has energies" in (
        said(capsys)
    )


# --- After the training ---------------------------------------------------------------


def test_change_bias_after_training(run, data, capsys):
    """Once, after the last step; a restart ends with the same weights."""
    data["training"]["change_bias_after_training"] = True
    run("train", write(data))
    assert said(capsys).count("energy bias in eV") == 1
    whole = weights("model.ckpt-6.keras")
    assert is_best(run, capsys, "model.ckpt-6.keras", SYSTEM)
    assert not is_best(run, capsys, "model.ckpt-3.keras", SYSTEM)
    Path("model.ckpt-6.keras").unlink()
    run("train", "input.json", "-r", "model.ckpt")
    for a, b in zip(whole, weights("model.ckpt-6.keras"), strict=True):
        np.testing.assert_array_equal(a, b)
    before = Path("model.ckpt-6.keras").read_bytes()
    run("train", "input.json", "-r", "model.ckpt")  # nothing is left to do
    assert Path("model.ckpt-6.keras").read_bytes() == before


# --- change-bias ----------------------------------------------------------------------


def test_change_bias(run, trained_here, capsys):
    """Another bias, and nothing else: the optimizer stays, too."""
    systems = [SYSTEM, str(DATA / "train" / "virtual-atom-32")]
    capsys.readouterr()
    run("change-bias", "model.ckpt", "-s", *systems, "-n", "5")
    text = said(capsys)
    assert "rmse of the energy per atom of 10 frames" in text
    new = "model.ckpt-6_updated.keras"
    assert "do not tell Ni and O apart" in text
    assert not np.array_equal(bias_of(new), bias_of("model.ckpt-6.keras"))
    old, found = (deepspin.load_model(p) for p in ("model.ckpt-6.keras", new))
    for a, b in zip(old.trainable_variables, found.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        optimizer_state("model.ckpt-6.keras"), optimizer_state(new), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert read_metadata(new)["step"] == 6
    # a list of systems, and statistics alone
    Path("list.txt").write_text("\n".join(systems))
    run("change-bias", new, "-f", "list.txt", "-m", "set", "-o", "set")
    assert bias_of("set.keras")[0] != bias_of(new)[0]
    run("change-bias", "set", "-b", "-1.5", "2", "-o", "given.keras")
    np.testing.assert_array_equal(bias_of("given.keras"), [-1.5, 2.0])
    capsys.readouterr()
    for words, message in (
        (["set.keras", "-b", "1"], "needs 2 finite numbers, one for each of"),
        (["set.keras", "-n", "-1"], "or more frames of each system. Received: -1"),
        (["set.keras", "-o", "a.pb"], "change-bias writes .keras files"),
        (["set.keras", "-b", "1", "2", "-o", "given.keras"], "exists"),
    ):
        run("change-bias", *words, status=1)
        assert message in said(capsys)


def test_change_bias_of_other_files(run, oxide):
    """A `.pb` of DeePMD-kit, and a frozen model: written as .keras."""
    run("freeze", "-c", PB, "-o", "frozen")
    run("change-bias", PB, "-s", "named", "-o", "one.keras")
    run("change-bias", "frozen", "-s", "named")
    np.testing.assert_array_equal(bias_of("one.keras"), bias_of("frozen_updated.keras"))
    np.testing.assert_allclose(
        energies("one.keras").mean(),
        small_data.frames(4, names=("O", "Ni"))[0]["energy"].mean(),
        rtol=1e-12,
    )
