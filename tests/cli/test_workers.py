# SPDX-License-Identifier: Apache-2.0
"""Training over several processes, on the loopback."""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
import time

import keras
import numpy as np
import pytest
import tiny
import worker
from places import TESTS

import deepspin
from deepspin.main import main
from deepspin.op.adam import steps_made

SCRIPT = str(TESTS / "worker.py")
ENDLESS = 10**6
# steps of an update, where Keras accumulates as `acc_freq` is defined
ACC_FREQ = 2 if hasattr(keras.optimizers.SGD(0.1), "_iterations") else 1


def content(numb_steps=6, **training):
    """Two systems, whose batches of three frames divide neither by two nor by four."""
    data = copy.deepcopy(tiny.INPUT)
    training = {"acc_freq": ACC_FREQ, **training}
    data["training"] |= {"numb_steps": numb_steps, **training}
    systems = [tiny.SYSTEM, str(tiny.DATA / "train" / "spin-files-32")]
    data["training"]["training_data"] = {"systems": systems, "batch_size": 3}
    return data


def folder_of(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp(name)
    (folder / "input.json").write_text(json.dumps(data))
    return folder


def last(folder, index):
    """What a worker said at last."""
    return (folder / f"log-{index}").read_text().strip().rpartition("\n")[2]


def train(folder, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "input.json", *args]) == 0


def close(one, two):
    """Whether two checkpoints hold the same weights and moments to rounding."""
    for read in (tiny.weights, tiny.optimizer_state):
        for a, b in zip(read(one), read(two), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process does."""
    folder = folder_of(tmp_path_factory, "one", content())
    train(folder)
    (folder / "history.json").write_text(
        json.dumps(worker.fitted(str(folder / "input.json")))
    )
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two do."""
    folder = folder_of(tmp_path_factory, "two", content())
    assert worker.ends(worker.start(folder, 2, SCRIPT, "input.json")) == [0, 0]
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory, alone):
    """What four do that go on from the third step of one process."""
    folder = folder_of(tmp_path_factory, "four", content())
    shutil.copy(alone / "model.ckpt-3.keras", folder)
    command = ("-m", "deepspin", "train", "input.json", "-r", "model.ckpt-3.keras")
    assert worker.ends(worker.start(folder, 4, *command)) == [0, 0, 0, 0]
    return folder


def test_two_are_as_one(alone, two):
    for step in (3, 6):
        name = f"model.ckpt-{step}.keras"
        close(alone / name, two / name)
    for name in ("lcurve.out", "out.json", "checkpoint"):
        assert (two / name).read_text() == (alone / name).read_text()


def test_four_go_on_where_one_was(alone, four):
    close(alone / "model.ckpt-6.keras", four / "model.ckpt-6.keras")
    for index in range(4):
        said = (four / f"log-{index}").read_text()
        assert re.search(r"not equal .* have changed: .*\bworkers: 1 -> 4\b", said)


def test_losses_of_fit(alone, two):
    expected = json.loads((alone / "history.json").read_text())
    assert len(set(expected["loss"])) == 4
    for index in range(2):
        found = json.loads((two / f"history-{index}.json").read_text())
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-10, err_msg=name)


def test_one_goes_on_where_two_were(alone, two, tmp_path):
    shutil.copy(two / "model.ckpt-3.keras", tmp_path)
    shutil.copy(two / "input.json", tmp_path)
    train(tmp_path, "-r", "model.ckpt-3.keras")
    close(alone / "model.ckpt-6.keras", tmp_path / "model.ckpt-6.keras")


def test_only_the_chief_writes(alone, two):
    there = {path.name for path in alone.iterdir()} - {"history.json"}
    logs = {
        f"{what}-{k}{end}"
        for what, end in (("log", ""), ("history", ".json"))
        for k in range(2)
    }
    assert {path.name for path in two.iterdir()} == there | logs
    said = (two / "log-1").read_text()
    assert "batch" not in said and "saved" not in said
    assert "saved checkpoint model.ckpt-6.keras" in (two / "log-0").read_text()


# --- The end --------------------------------------------------------------------------


def stopped(tmp_path_factory, name, number):
    """Two workers, one of which is sent a signal in the midst of a training."""
    data = content(ENDLESS, save_freq=ENDLESS)
    folder = folder_of(tmp_path_factory, name, data)
    started = worker.start(folder, 2, "-m", "deepspin", "train", "input.json")
    curve = folder / "lcurve.out"
    until = time.monotonic() + 200.0
    while not curve.is_file() or len(curve.read_text().splitlines()) < 5:
        assert time.monotonic() < until and started[0].poll() is None, last(folder, 0)
        time.sleep(0.05)
    started[1].send_signal(number)
    return folder, worker.ends(started)


def saved(folder):
    (path,) = folder.glob("model.ckpt-*.keras")
    return path, int(path.stem.rpartition("-")[2])


def test_killed(tmp_path_factory):
    """The other saves, and one process goes on."""
    folder, status = stopped(tmp_path_factory, "killed", signal.SIGKILL)
    path, step = saved(folder)
    assert status == [1, -signal.SIGKILL]
    assert last(folder, 0) == (
        "dp-spin: error: Worker 1 of 2 does not answer any more: see what it said. The "
        f"model is saved after step {step}: go on with -r {path.name}. The number of "
        "workers may be another one."
    )
    assert step > 0 and steps_made(deepspin.load_model(path).optimizer) == step
    (folder / "input.json").write_text(json.dumps(content(step + 2)))
    train(folder, "-r", path.name)
    assert (folder / f"model.ckpt-{step + 2}.keras").is_file()


def test_signal_stops_all(tmp_path_factory):
    folder, status = stopped(tmp_path_factory, "stopped", signal.SIGTERM)
    path, step = saved(folder)
    assert status == [128 + signal.SIGTERM] * 2
    for index in range(2):
        assert last(folder, index) == (
            f"dp-spin: warning: stopped by SIGTERM after step {step}; go on with -r "
            f"{path.name}"
        )
