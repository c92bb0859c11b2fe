# SPDX-License-Identifier: Apache-2.0
"""`dp-spin train`, `test` and `convert-from` as a user runs them, on tiny inputs."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from places import REFERENCE
from tiny import DATA, ROOT, SYSTEM, weights, write

import deepspin
from deepspin.data.dataset import DataSystem
from deepspin.loss.ener_spin import EnerSpinLoss
from deepspin.loss.learning_rate import SCHEDULES
from deepspin.spins.virtual import VirtualAtoms


def test_files_of_a_run(trained_here, run):
    for name in ("lcurve.out", "out.json", "checkpoint", "model.ckpt-6.keras"):
        assert Path(name).is_file()
    assert not list(Path().glob(".*partial*"))
    lines = Path("lcurve.out").read_text().splitlines()
    assert (
        lines[0].split()
        == (
            "# step rmse_val rmse_trn rmse_e_val rmse_e_trn rmse_fr_val rmse_fr_trn "
            "rmse_fm_val rmse_fm_trn rmse_v_val rmse_v_trn lr"
        ).split()
    )
    assert [int(line.split()[0]) for line in lines[2:]] == [0, 2, 4, 6]
    assert np.isfinite(np.loadtxt("lcurve.out")).all()
    # the input with its defaults can be fed again, to the same end
    first = weights("model.ckpt-6.keras")
    Path("again").mkdir()
    os.chdir("again")
    run("train", "../out.json")
    for a, b in zip(first, weights("model.ckpt-6.keras"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lcurve_is_what_the_model_says(trained_here):
    """Line k: weights after k updates, lr(k), the batch of update k."""
    model = deepspin.load_model("model.ckpt-6.keras")
    train = DataSystem(SYSTEM, **model.data_spec, batch_size=1, seed=3)
    inputs, labels = tf.nest.map_structure(tf.constant, train.batch(5))
    expected = {k: float(v) for k, v in model.errors(inputs, labels).items()}
    header, _, *lines = Path("lcurve.out").read_text().splitlines()
    shown = dict(zip(header.split()[1:], lines[-1].split(), strict=True))
    for name, value in expected.items():
        assert shown[f"{name}_trn"] == f"{value:.2e}"
    assert shown["lr"] == f"{float(model.optimizer.learning_rate):.1e}"


def test_init_model_begins_at_step_0(trained_here, run, data):
    old = deepspin.load_model("model.ckpt-6.keras")
    Path("new").mkdir()
    os.chdir("new")
    data["training"] |= {"numb_steps": 1, "disp_freq": 1, "save_freq": 1}
    data["learning_rate"] = {"start_lr": 1e-12, "stop_lr": 1e-12}
    run("train", write(data), "-i", "../model.ckpt-6.keras")
    new = deepspin.load_model("model.ckpt-1.keras")
    assert int(new.optimizer.iterations.numpy()) == 1
    for a, b in zip(old.weights, new.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-11)


def test_begin_with_a_frozen_model(run, data, capsys):
    """-f takes weights and statistics; options must fit, typos do not pass."""
    with np.load(REFERENCE / "base.npz") as case:
        script = json.loads(str(case["input"]))
    data["model"] = script["model"]
    data["training"] |= {"numb_steps": 1, "disp_freq": 1}
    data["learning_rate"] = {"start_lr": 1e-12, "stop_lr": 1e-12}
    run("train", write(data), "-f", REFERENCE / "base.pb")
    ours = deepspin.load_model("model.ckpt-1.keras")
    theirs = deepspin.load_model(REFERENCE / "base.pb")
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-11)
    data["model"]["descriptor"]["axis_neuron"] = 3
    run("train", write(data), "-f", REFERENCE / "base.pb", status=1)
    assert "axis_neuron: 4 there, 3 here" in capsys.readouterr().err


def test_oldest_checkpoints_go(run, data):
    data["training"] |= {"save_freq": 1, "max_ckpt_keep": 2}
    run("train", write(data))
    assert sorted(p.name for p in Path().glob("*.keras")) == [
        "model.ckpt-5.keras",
        "model.ckpt-6.keras",
    ]


def test_checkpoints_in_a_new_folder(run, data):
    data["training"] |= {"save_ckpt": "out/model.ckpt", "disp_file": "out/lcurve.out"}
    run("train", write(data))
    assert Path("out/model.ckpt-6.keras").is_file()
    assert Path("out/lcurve.out").is_file()


def test_without_validation_data(run, data):
    del data["training"]["validation_data"]
    run("train", write(data))
    header = Path("lcurve.out").read_text().splitlines()[0]
    assert "rmse_trn" in header
    assert "val" not in header


def test_yaml_and_auto_sel(run, data, capsys):
    data["model"]["descriptor"]["sel"] = "auto"
    Path("input.yaml").write_text(yaml.safe_dump(data))
    run("train", "input.yaml")
    sel = json.loads(Path("out.json").read_text())["model"]["descriptor"]["sel"]
    assert all(isinstance(n, int) and n % 4 == 0 for n in sel)
    assert "sel auto" in capsys.readouterr().err


def test_truncation_is_reported(run, data, capsys):
    data["model"]["descriptor"]["sel"] = [10, 60]
    run("train", write(data))
    message = capsys.readouterr().err
    assert message.count("more neighbours than `sel`") == 2  # training, validation
    assert "Ni: up to 20 for 10" in message
    assert "would hold all" in message


def test_spins_second_in_the_type_map(run, data):
    """DeePMD-kit's TensorFlow backend demands that spin types come first."""
    data["model"]["type_map"] = ["O", "Ni"]
    systems = str(DATA / "train" / "spin-files-16")
    data["training"]["training_data"]["systems"] = [systems]
    del data["training"]["validation_data"]
    run("train", write(data))
    assert deepspin.load_model("model.ckpt-6.keras").type_map == ["O", "Ni"]


def test_nan_stops_and_names_the_frames(run, data, capsys):
    data["learning_rate"] = {"start_lr": 1e200, "stop_lr": 1e200}
    run("train", write(data), status=1)
    message = capsys.readouterr().err
    assert "at step" in message
    assert "virtual-atom-16" in message
    assert "Traceback" not in message


def test_nothing_to_train(run, data, capsys):
    data["model"]["descriptor"]["trainable"] = False
    data["model"]["fitting_net"]["trainable"] = False
    run("train", write(data), status=1)
    assert "Nothing to train" in capsys.readouterr().err
    assert [p.name for p in Path().iterdir()] == ["input.json"]


def test_terms_without_labels_are_named(run, data, capsys):
    data["loss"] |= {"start_pref_ae": 1.0, "enable_atom_ener_coeff": True}
    run("train", write(data))
    message = capsys.readouterr().err
    assert "'atom_ener': start_pref_ae and limit_pref_ae do nothing" in message
    assert "enable_atom_ener_coeff does nothing" in message


def test_labels_that_no_term_weighs(run, data, capsys):
    data["loss"] = {"type": "ener_spin"} | {
        f"{kind}_pref_{term}": float(term == "ae")
        for kind in ("start", "limit")
        for term in ("e", "fr", "fm", "v", "ae")
    }
    run("train", write(data), status=1)
    assert "none of which the loss weighs" in capsys.readouterr().err


@pytest.mark.any_version
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_leaves(tmp_path, data, number):
    data["training"] |= {"numb_steps": 100000, "disp_freq": 10, "save_freq": 100000}
    (tmp_path / "input.json").write_text(json.dumps(data))
    process = subprocess.Popen(
        [sys.executable, "-m", "deepspin", "train", "input.json"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    curve = tmp_path / "lcurve.out"
    deadline = time.monotonic() + 120
    while not (curve.is_file() and len(curve.read_text().splitlines()) > 4):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in message
    (saved,) = tmp_path.glob("model.ckpt-*.keras")
    assert f"-r {saved.name}" in message
    assert deepspin.load_model(saved).optimizer is not None


def test_errors_against_labels(trained_here, run, capsys):
    """`dp-spin test`: lines, files and numbers."""
    capsys.readouterr()
    run("test", "-m", "model.ckpt", "-s", DATA / "valid", "-n", 3, "-d", "detail")
    text = capsys.readouterr().err
    for line in ("Energy RMSE/Natoms", "Force spin RMSE", "Virial RMSE/Natoms"):
        assert line in text
    assert "per real atom" in text
    energy = np.loadtxt("detail.e.out")
    force_mag = np.loadtxt("detail.fm.out")
    assert energy.shape == (12, 2)  # four systems, three frames each
    assert force_mag.shape == (3 * (8 + 8 + 16 + 16), 6)
    assert np.loadtxt("detail.v.out").shape == (12, 18)
    whole = text[text.index("weighted average") :]
    rmse = np.sqrt(np.mean((energy[:, 0] - energy[:, 1]) ** 2))
    assert f"Energy RMSE         : {rmse:e} eV" in whole
    rmse = np.sqrt(np.mean((force_mag[:, :3] - force_mag[:, 3:]) ** 2))
    assert f"Force spin RMSE     : {rmse:e} eV/uB" in whole


def test_test_takes_lists_and_inputs(trained_here, run, capsys):
    Path("systems.txt").write_text(f"{SYSTEM}\n")
    for source in (
        ("-f", "systems.txt"),
        ("--train-data", "input.json"),
        ("--valid-data", "input.json"),
    ):
        capsys.readouterr()
        run("test", *source, "-n", 1, "--shuffle-test", "-r", 5)
        assert "number of systems : 1" in capsys.readouterr().err


def test_convert_from(run, capsys):
    run("convert-from", REFERENCE / "base.pb", "-o", "base.keras")
    frozen = deepspin.load_model(REFERENCE / "base.pb")
    ours = deepspin.load_model("base.keras")
    for a, b in zip(frozen.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    run("convert-from", REFERENCE / "base.pb", "-o", "base", status=1)
    assert "'base.keras' exists" in capsys.readouterr().err
    run("convert-from", REFERENCE / "base.pb", "-o", "base", "--force")
    Path("junk.pb").write_bytes(b"junk")
    run("convert-from", "junk.pb", status=1)
    assert "not a frozen" in capsys.readouterr().err
    run("convert-from", "nothing.pb", status=1)
    assert "No frozen model" in capsys.readouterr().err


def test_files_that_are_no_models(run, data, capsys):
    Path("junk.keras").write_bytes(b"junk")
    run("test", "-m", "junk.keras", "-s", SYSTEM, status=1)
    assert "no model file" in capsys.readouterr().err
    keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)]).save("k.keras")
    run("test", "-m", "k.keras", "-s", SYSTEM, status=1)
    assert (
        "'keras.Sequential', which no model of deepspin holds"
        in capsys.readouterr().err
    )


def as_virtual_atoms(source: Path, target: Path, scheme: VirtualAtoms) -> None:
    """Rewrite a spin-files system in the virtual-atom layout."""
    read = {p.stem: np.load(p) for p in (source / "set.000").glob("*.npy")}
    atype = np.loadtxt(source / "type.raw", dtype=int)
    magnetic = np.flatnonzero(scheme.types.is_magnetic(atype))
    (target / "set.000").mkdir(parents=True)
    nf = len(read["box"])
    coord, spin, force, force_mag = (
        read[k].reshape(nf, -1, 3) for k in ("coord", "spin", "force", "force_mag")
    )
    virtual = scheme.codec.place(coord, spin, atype)[:, magnetic]
    arrays = {
        "coord": np.concatenate([coord, virtual], axis=1),
        "force": np.concatenate([force, force_mag[:, magnetic]], axis=1),
        "box": read["box"],
        "energy": read["energy"],
        "virial": read["virial"],
    }
    for name, array in arrays.items():
        np.save(target / "set.000" / f"{name}.npy", array.reshape(nf, -1))
    types = np.concatenate([atype, scheme.codec.virtual_type(atype[magnetic])])
    np.savetxt(target / "type.raw", types, fmt="%d")


def test_both_layouts_mean_the_same(run, tmp_path):
    """Equal numbers; L_e and L_v differ by N_real / (N_real + N_virtual)."""
    scheme = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    source = DATA / "train" / "spin-files-16"
    as_virtual_atoms(source, tmp_path / "virtual", scheme)
    model = deepspin.load_model(REFERENCE / "base.pb")
    systems = [
        DataSystem(str(path), **model.data_spec, batch_size=10)
        for path in (source, tmp_path / "virtual")
    ]
    loss = EnerSpinLoss(start_pref_v=1.0, limit_pref_v=1.0)
    terms, outputs = [], []
    for data in systems:
        inputs, labels = data.frames(0, np.arange(10))
        pred = model(tf.nest.map_structure(tf.constant, inputs))
        outputs.append(pred)
        terms.append({k: float(v[0]) for k, v in loss.terms(labels, pred).items()})
    for name in ("energy", "force", "force_mag", "virial"):
        a, b = (np.asarray(o[name]) for o in outputs)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(a).max())
    files, virtual = terms
    for term in ("fr", "fm"):
        assert virtual[term] == pytest.approx(files[term], rel=1e-12)
    for term in ("e", "v"):
        assert virtual[term] == pytest.approx(files[term] * 16 / 24, rel=1e-12)


def test_both_layouts_train(run, data):
    """spin_norm and virtual_len, or virtual_scale, on the spin-files layout."""
    systems = [str(DATA / "train" / "spin-files-16")]
    data["training"]["training_data"]["systems"] = systems
    del data["training"]["validation_data"]
    run("train", write(data))
    first = weights("model.ckpt-6.keras")
    data["model"]["spin"] = {
        "use_spin": [True, False],
        "virtual_scale": [0.4 / 1.2737],
    }
    run("train", write(data))
    for a, b in zip(first, weights("model.ckpt-6.keras"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_learning_rates(run, data, kind):
    """What the curve tells is the schedule's."""
    rate = {"start_lr": 2e-3, "stop_lr_ratio": 0.01, "warmup_steps": 2}
    data["learning_rate"] = {"type": kind, **rate}
    data["training"]["disp_freq"] = 1
    run("train", write(data))
    told = np.loadtxt("lcurve.out")
    schedule = SCHEDULES[kind](numb_steps=6, **rate)
    want = [float(schedule(int(step))) for step in told[:, 0]]
    np.testing.assert_allclose(told[:, -1], want, rtol=0.05)  # two digits are told
    assert 0.0 == told[0, -1] < told[-2, -1] <= 2e-3


def test_fit_learns(run, data):
    """A few hundred steps lower every error that the loss weighs."""
    data["model"]["descriptor"] |= {"neuron": [6, 12], "axis_neuron": 4}
    data["model"]["fitting_net"]["neuron"] = [24, 24]
    data["training"] |= {"numb_steps": 500, "disp_freq": 500, "save_freq": 500}
    data["training"]["validation_data"] |= {"batch_size": 10, "numb_btch": 1}
    data["training"]["jit_compile"] = True
    data["learning_rate"] = {"start_lr": 5e-3, "stop_lr": 1e-4}
    run("train", write(data))
    first, last = np.loadtxt("lcurve.out")
    assert last[1] < 0.5 * first[1]
    for column, part in ((3, 0.5), (5, 0.9), (7, 1.0)):  # energy, forces, magnetic ones
        assert last[column] < part * first[column]


def test_keras_example(tmp_path, monkeypatch):
    """`train.py` of the example, shortened."""
    path = ROOT / "examples" / "NiO" / "se_e2_a" / "train.py"
    spec = importlib.util.spec_from_file_location("nio_train", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(
        sys,
        "argv",
        ["train.py", "--steps=4", "--epochs=2", f"--output={tmp_path}/nio.keras"],
    )
    module.main()
    assert (tmp_path / "nio.keras").is_file()
