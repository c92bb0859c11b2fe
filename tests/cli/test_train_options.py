# SPDX-License-Identifier: Apache-2.0
"""Optimizer, averages, clipping, epochs, full validation, summaries of a training."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from tiny import optimizer_state, weights, write

import deepspin
from deepspin.data.dataset import DataSystem
from deepspin.main import main
from deepspin.modelfiles.find import read_metadata

VALID = tiny.DATA / "valid" / "virtual-atom-16"
STEPS, DECAY = 6, 0.8


def given() -> dict:
    """An input with all of them; 40 frames make 40 batches, so 0.15 epochs 6 steps."""
    data = copy.deepcopy(tiny.INPUT)
    training = data["training"]
    del training["numb_steps"]
    training |= {"num_epochs": 0.15, "save_freq": 1, "max_ckpt_keep": 9}
    training |= {"enable_ema": True, "ema_decay": DECAY, "ema_ckpt_keep": 4}
    training |= {"gradient_max_norm": 2.0, "time_training": False}
    training |= {"disp_avg": True, "disp_freq": 3, "save_dir": "files"}
    training |= {"tensorboard": True, "tensorboard_freq": 2}
    training |= {"tensorboard_log_dir": "points"}
    data["optimizer"] = {"type": "AdamW", "adam_beta1": 0.8, "weight_decay": 0.1}
    data["optimizer"]["adam_beta2"] = 0.99
    data["validating"] = {
        "full_validation": True,
        "ema_full_validation": True,
        "validation_freq": 2,
        "full_val_start": 2,
        "validation_metric": "fr:rmse",
        "max_best_ckpt": 2,
        "save_best_dir": "best",
        "full_val_file": "all.log",
    }
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a training with them."""
    folder = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", write(given()), "-l", "said.txt"]) == 0
    return folder


@pytest.fixture
def trained(folder, run, tmp_path):
    """That training in the current folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)


def train_data(model) -> DataSystem:
    return DataSystem(tiny.SYSTEM, **model.data_spec, batch_size=1, seed=3)


def trainable(path) -> list:
    return [v.numpy() for v in deepspin.load_model(path).trainable_variables]


def table(path) -> dict[int, dict[str, float]]:
    """Rows of a file by their first column."""
    lines = Path(path).read_text().splitlines()
    names = lines[0].split()[2:]
    rows = [line.split() for line in lines if not line.startswith("#")]
    return {
        int(step): dict(zip(names, map(float, values), strict=True))
        for step, *values in rows
    }


def test_length_and_files(trained):
    data = train_data(deepspin.load_model("files/model.ckpt-6.keras"))
    assert data.nbatches == [40]
    names = {p.name for p in Path("files").iterdir()}
    assert {n for n in names if n.startswith("model.ckpt-")} == {
        f"model.ckpt-{k}.keras" for k in range(1, STEPS + 1)
    }
    assert {n for n in names if "_ema-" in n and n.startswith("model")} == {
        f"model.ckpt_ema-{k}.keras" for k in range(STEPS - 3, STEPS + 1)
    }
    assert Path("files/checkpoint").read_text().count("model.ckpt-6.keras")
    best = {p.name for p in Path("best").iterdir()}
    assert len([n for n in best if n.startswith("best.ckpt-")]) == 2
    assert len([n for n in best if n.startswith("best_ema.ckpt-")]) == 2
    assert (len(names), len(best)) == (STEPS + 5, 4)
    assert "ms/step" not in Path("said.txt").read_text()


def test_averages_of_weights(trained):
    """They are those of the weights after each step, and the first are the first."""
    average = trainable("files/model.ckpt-1.keras")
    for step in range(1, STEPS + 1):
        now = trainable(f"files/model.ckpt-{step}.keras")
        average = [
            DECAY * a + (1 - DECAY) * w for a, w in zip(average, now, strict=True)
        ]
        if step <= STEPS - 4:
            continue  # not kept any more
        found = trainable(f"files/model.ckpt_ema-{step}.keras")
        for a, b in zip(average, found, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-13, atol=1e-15)
    assert any((a != b).any() for a, b in zip(found, now, strict=True))
    model = deepspin.load_model("files/model.ckpt_ema-6.keras")
    assert not model.compiled


def test_steps_are_those_of_the_formula(trained):
    """AdamW with a clipped gradient, by hand, from the state of the step before."""
    model = deepspin.load_model("files/model.ckpt-3.keras")
    inputs, labels = tf.nest.map_structure(tf.constant, train_data(model).batch(3))
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        for v in variables:
            tape.watch(v.value)
        loss = model.compute_loss(inputs, labels, model(inputs, training=True))
    gradients = [g.numpy() for g in tape.gradient(loss, [v.value for v in variables])]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert norm > 2.0
    rate = float(model.optimizer.learning_rate)
    state = {v.path.split("/", 1)[1]: v.numpy() for v in model.optimizer.variables}
    kinds = {
        kind: [a for name, a in state.items() if name.endswith(kind)]
        for kind in ("momentum", "velocity")
    }
    after = trainable("files/model.ckpt-4.keras")
    b1, b2 = 0.8, 0.99
    p1, p2 = (float(np.float32(b)) ** 4 for b in (b1, b2))  # as Keras holds them
    parts = (variables, gradients, kinds["momentum"], kinds["velocity"], after)
    for v, g, m, s, found in zip(*parts, strict=True):
        g = g * 2.0 / norm
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
        step = np.sqrt(1 - p2) / (1 - p1) * m / (np.sqrt(s) + 1e-8)
        w = v.numpy() * (1 - 0.1 * rate)
        np.testing.assert_allclose(found, w - rate * step, rtol=1e-10, atol=1e-13)


def test_full_validation_is_what_test_says(trained, run, capsys):
    """Of the model and of the averaged one, and the best are kept."""
    names = {"E:RMSE": "rmse_ea", "FR:MAE": "mae_fr", "FM:RMSE": "rmse_fm"}
    names["V:RMSE"] = "rmse_va"
    for log, name in (("all.log", "model.ckpt"), ("all_ema.log", "model.ckpt_ema")):
        rows = table(log)
        assert list(rows) == [2, 4, 6]
        run("test", "-m", f"files/{name}-6.keras", "-s", str(VALID), "-n", "0")
        said = capsys.readouterr()
        text = said.out + said.err
        for column, key in names.items():
            kind, line = key.split("_")
            title = {
                "ea": f"Energy {kind.upper()}/Natoms",
                "fr": f"Force atom {kind.upper()}",
                "fm": f"Force spin {kind.upper()}",
                "va": f"Virial {kind.upper()}/Natoms",
            }[line]
            value = float(text.rpartition(title)[2].split()[1])
            assert rows[6][column] == pytest.approx(value, rel=2e-4), column
        prefix = "best.ckpt" if log == "all.log" else "best_ema.ckpt"
        best = {}
        for path in Path("best").glob(f"{prefix}-*"):
            step = read_metadata(path)["step"]
            best[step] = read_metadata(path)["validation"]["FR:RMSE"]
            assert best[step] == pytest.approx(rows[step]["FR:RMSE"], rel=1e-5)
            if step > 2:
                same = weights(f"files/{name}-{step}.keras")
                for a, b in zip(weights(path), same, strict=True):
                    np.testing.assert_array_equal(a, b)
        (left,) = set(rows) - set(best)
        assert max(best.values()) <= rows[left]["FR:RMSE"] * (1 + 1e-5)


def test_means_over_batches_are_those_of_all(trained):
    """Of Keras' `evaluate` in batches of any size, and of the file's rows."""
    model = deepspin.load_model("files/model.ckpt-6.keras")
    row = table("all.log")[6]
    pairs = {"E": "rmse_e", "FR": "rmse_fr", "FM": "rmse_fm", "V": "rmse_v"}
    # what is per atom counts virtual ones in the loss, where the data have them
    per_atom = 24 / 16
    for size in (3, 10):
        data = DataSystem(str(VALID), **model.data_spec, batch_size=size)
        found = model.evaluate(data, verbose=0, return_dict=True)
        for name, error in pairs.items():
            value = found[error] * (per_atom if name in "EV" else 1.0)
            assert value == pytest.approx(row[f"{name}:RMSE"], rel=1e-6), name
    assert found["rmse"] == pytest.approx(np.sqrt(found["loss"]), rel=1e-12)


def test_stresses_are_virials_per_volume(trained):
    model = deepspin.load_model("files/model.ckpt-6.keras")
    errors = []
    for inputs, labels in DataSystem(str(VALID), **model.data_spec).once():
        wrong = model(inputs)["virial"].numpy().reshape(-1, 9)
        wrong -= labels["virial"].numpy().reshape(-1, 9)
        volume = np.abs(np.linalg.det(inputs["box"].numpy()))
        errors.append(np.abs(wrong / volume[:, None]))
    shown = table("all.log")[6]["S:MAE"]
    assert shown == pytest.approx(np.mean(np.concatenate(errors)), rel=1e-6)


def test_averages_of_errors(trained):
    """A line has the means over the steps since the line before."""
    curve = np.loadtxt("lcurve.out")
    names = Path("lcurve.out").read_text().split("\n")[0].split()[1:]
    for line, steps in ((1, (1, 2)), (2, (3, 4, 5))):
        errors = []
        for step in steps:  # the weights before, the batch of the step
            model = deepspin.load_model(f"files/model.ckpt-{step}.keras")
            batch = tf.nest.map_structure(tf.constant, train_data(model).batch(step))
            errors.append({k: float(v) for k, v in model.errors(*batch).items()})
        if line == 1:
            continue  # the model before the first step is not saved
        for name in ("rmse", "rmse_e", "rmse_fr", "rmse_fm", "rmse_v"):
            mean = np.sqrt(np.mean([e[name] ** 2 for e in errors]))
            shown = curve[line, names.index(f"{name}_trn")]
            assert shown == pytest.approx(mean, rel=6e-3), name


def test_points_for_tensorboard(trained):
    (path,) = Path("points").iterdir()
    points: dict[str, dict[int, float]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            number = float(tf.make_ndarray(value.tensor))
            points.setdefault(value.tag, {})[event.step] = number
    assert set(points["trn/rmse_fm"]) == set(points["learning_rate"]) == {0, 2, 4, 6}
    curve = np.loadtxt("lcurve.out")
    names = Path("lcurve.out").read_text().split("\n")[0].split()[1:]
    for name in ("rmse", "rmse_e", "rmse_fr", "rmse_fm", "rmse_v"):
        for line, step in ((0, 0), (2, 6)):
            shown = curve[line, names.index(f"{name}_val")]
            assert points[f"val/{name}"][step] == pytest.approx(shown, rel=6e-3)


def test_restart_is_exact(trained, run):
    """Weights, averages, optimizer and the files of the validation."""
    last = [f"files/model.ckpt{end}-6.keras" for end in ("", "_ema")]
    best = sorted(p.name for p in Path("best").glob("*.keras"))
    whole = [*weights(last[0]), *weights(last[1]), *optimizer_state(last[0])]
    files = {name: Path(name).read_bytes() for name in ("all.log", "all_ema.log")}
    run("train", "input.json", "-r", "files/model.ckpt-3.keras")
    again = [*weights(last[0]), *weights(last[1]), *optimizer_state(last[0])]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {name: Path(name).read_bytes() for name in files} == files
    assert {p.name for p in Path("best").glob("*.keras")} <= {*best} | {
        f"best{end}.ckpt-2.keras" for end in ("", "_ema")
    }


def test_what_is_not_wanted_is_not_written(run):
    data = copy.deepcopy(tiny.INPUT)
    data["training"] |= {"numb_steps": 2, "disp_training": False}
    data["training"] |= {"enable_profiler": True, "tensorboard_log_dir": "seen"}
    data["validating"] = {
        "full_validation": True,
        "full_val_start": 0.5,
        "validation_freq": 1,
        "save_best": False,
    }
    run("train", write(data))
    names = {p.name for p in Path().iterdir()}
    written = {"input.json", "out.json", "checkpoint", "val.log", "model.ckpt-2.keras"}
    assert names == written | {"seen"}
    (profile,) = Path("seen").rglob("*.xplane.pb")
    assert b"ResourceApplyAdam" in profile.read_bytes()
    del data["training"]["enable_profiler"]
    assert list(table("val.log")) == [1, 2]
    data["validating"] |= {"full_val_start": 1, "validation_metric": "FM:MAE"}
    run("train", write(data), "-r", "model.ckpt-2.keras")


def test_timeline(run, capsys):
    """Three steps after the sixteenth, each with what TensorFlow did in it."""
    data = copy.deepcopy(tiny.INPUT)
    data["training"] |= {"numb_steps": 20, "disp_freq": 20, "save_freq": 20}
    data["training"] |= {"profiling": True, "profiling_file": "seen/steps.json"}
    run("train", write(data))
    assert "steps 16 to 19 traced in 'seen/steps.json'" in capsys.readouterr().err
    events = json.loads(Path("seen/steps.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in spans} <= threads
    steps = [event for event in spans if event["name"] == "training step"]
    assert [event["args"]["step_num"] for event in steps] == [16, 17, 18]
    updates = [e["ts"] for e in spans if e["name"].startswith("ResourceApplyAdam")]
    for step in steps:
        inside = [t for t in updates if step["ts"] < t < step["ts"] + step["dur"]]
        assert len(inside) == len(updates) / 3 > 0
    data["training"]["enable_profiler"] = True
    assert main(["train", write(data)]) == 1
    assert "TensorFlow makes one profile at a time" in capsys.readouterr().err


def test_timeline_of_few_steps(run, capsys):
    data = copy.deepcopy(tiny.INPUT)
    data["training"] |= {"numb_steps": 2, "profiling": True}
    run("train", write(data))
    assert "steps 0 to 2 traced in 'timeline.json'" in capsys.readouterr().err


def test_refusals_before_any_work(run, capsys):
    def said(changes, section="training"):
        data = given()
        data[section] |= changes
        assert main(["train", write(data)]) != 0
        return " ".join(capsys.readouterr().err.split())

    assert "has `numb_steps` and also `numb_epoch`" in said({"numb_steps": 3})
    assert '`save_dir`, "files", cannot stand before' in said({"save_ckpt": "/a/b"})
    text = said({"validation_data": None})
    assert "evaluates all of `training/validation_data`, which is missing" in text
    assert "false without `training/enable_ema`" in said({"enable_ema": False})
    text = said({"validation_metric": "FQ:MAE"}, "validating")
    assert "one of E:MAE, E:RMSE, FR:MAE" in text
    text = said({"full_val_file": "lcurve.out"}, "validating")
    assert "`full_val_file` and `disp_file` are both 'lcurve.out'" in text
    taken = {"save_ckpt": "best.ckpt", "save_dir": "best"}
    assert "and so are the names of the best models" in said(taken)
    text = said({"start_pref_fr": 0.0, "limit_pref_fr": 0.0}, "loss")
    assert "expected an error that the loss weighs" in text
    assert 'use "Adam" or "AdamW"' in said({"type": "LKF"}, "optimizer")
    text = said({"type": "Adam", "weight_decay": 0.1}, "optimizer")
    assert '"AdamW" is the type whose parameters decay' in text


def test_labels_that_validation_lacks(run, capsys, tmp_path):
    data = given()
    system = tmp_path / "without"
    shutil.copytree(VALID, system)
    (system / "set.000/force.npy").unlink()
    data["training"]["validation_data"]["systems"] = [str(system)]
    assert main(["train", write(data)]) != 0
    text = " ".join(capsys.readouterr().err.split())
    assert "no system of `training/validation_data` has 'force'" in text
    assert not Path("files/model.ckpt-1.keras").exists()
