# SPDX-License-Identifier: Apache-2.0
"""Going on with a run, exactly; results that are never lost or overwritten."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import kills
import numpy as np
import pytest
from places import REFERENCE
from tiny import DATA, SYSTEM, optimizer_state, tree, weights, write

import deepspin
from deepspin.modelfiles.find import read_metadata, resolve_checkpoint
from deepspin.utils.outputs import OutputError, append


def said(capsys) -> str:
    """What was said on the terminal since last asked, in one line."""
    return " ".join(capsys.readouterr().err.split())


# --- Going on -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jit_compile", "acc_freq"), [(False, 1), (True, 1), (False, 2)]
)
def test_restart_is_exact(run, data, capsys, jit_compile, acc_freq):
    """Also where an update of several batches is half made, after three of them."""
    if acc_freq > 1 and not hasattr(keras.optimizers.SGD(0.1), "_iterations"):
        pytest.skip("Keras before 3.5 accumulates otherwise, and is refused")
    data["training"] |= {"jit_compile": jit_compile, "acc_freq": acc_freq}
    run("train", write(data))
    whole = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    files = {name: Path(name).read_bytes() for name in ("lcurve.out", "out.json")}
    Path("model.ckpt-6.keras").unlink()
    capsys.readouterr()
    run("train", "input.json", "-r", "model.ckpt")  # finds step 3
    again = weights("model.ckpt-6.keras"), optimizer_state("model.ckpt-6.keras")
    for a, b in zip(whole[0] + whole[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert files == {name: Path(name).read_bytes() for name in files}
    message = said(capsys)
    assert "bit for bit" not in message
    assert "earlier run" not in message


@pytest.mark.any_version
def test_kills():
    """Killed at random moments, restarted, equal to the run never killed."""
    assert kills.main(["--kills", "3", "--jobs", "1", "--seed", "7"]) == 0


@pytest.mark.any_version
def test_kills_would_be_noticed(tmp_path):
    """The check behind that fails on wrong numbers and on what is missing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "input.json").write_text("{}")
    reference = tmp_path / "one"
    deepspin.load_model(REFERENCE / "base.pb").save(tmp_path / "m.keras")
    from deepspin.modelfiles.archive import save_model

    model = deepspin.load_model(REFERENCE / "base.pb")
    save_model(model, reference / "model.ckpt-3.keras", {"step": 3})
    curve = "# a\n# b\n" + "".join(f"{k} 1.0\n" for k in (0, 2, 4))
    (reference / "lcurve.out").write_text(curve)
    chain = kills.Chain(tmp_path / "chain", reference)
    shutil.copy(reference / "model.ckpt-3.keras", chain.folder)
    (chain.folder / "lcurve.out").write_text(curve)
    chain.check()
    assert chain.problems == []
    (chain.folder / "lcurve.out").write_text(curve.replace("2 1.0", "2 1.1"))
    chain.check()
    assert chain.problems == ["lcurve.out differs"]
    (chain.folder / "lcurve.out").write_text("# a\n# b\n0 1.0\n2 1")
    chain.check()
    assert "lost lines" in chain.problems[-1]
    (chain.folder / "lcurve.out").write_text(curve)
    weight = model.weights[0]
    weight.assign(np.nextafter(weight.numpy(), 9.0))
    save_model(model, chain.folder / "model.ckpt-3.keras", {"step": 3})
    chain.check()
    assert chain.problems[-1] == "model.ckpt-3.keras differs"
    (chain.folder / "model.ckpt-3.keras").unlink()
    chain.check()
    assert "checkpoint 3 is lost" in chain.problems[-1]


def test_restart_keeps_a_random_seed(run, data):
    del data["training"]["seed"]
    run("train", write(data))
    seed = json.loads(Path("out.json").read_text())["training"]["seed"]
    assert seed is not None
    run("train", "input.json", "-r", "model.ckpt-3")
    assert json.loads(Path("out.json").read_text())["training"]["seed"] == seed


def test_restart_from_the_folder(run, data):
    """A folder means the prefix that its file `checkpoint` speaks of."""
    data["training"]["save_ckpt"] = "ckpt/nio"
    run("train", write(data))
    data["training"]["numb_steps"] = 7
    run("train", write(data), "-r", "ckpt")
    assert (Path("ckpt") / "nio-7.keras").is_file()
    assert resolve_checkpoint("ckpt") == Path("ckpt/nio-7.keras")


def test_nothing_to_do(trained_here, run, capsys):
    before = tree()
    run("train", "input.json", "-r", "model.ckpt")
    assert "nothing to do: 6 of 6 steps are done" in said(capsys)
    assert tree() == before


def test_partial_files_of_a_killed_run_go(trained_here, run):
    Path("model.ckpt-6.keras").unlink()
    Path(".model.ckpt-6.partial.keras").write_bytes(b"torn")
    Path(".lcurve.partial.out").write_text("torn")
    run("train", "input.json", "-r", "model.ckpt")
    assert not list(Path().glob(".*"))


def test_torn_lines_go(trained_here, run):
    """The line that a killed run was writing, and what came after the checkpoint."""
    whole = Path("lcurve.out").read_text()
    Path("model.ckpt-6.keras").unlink()
    Path("lcurve.out").write_text(whole[:-30])
    run("train", "input.json", "-r", "model.ckpt")
    assert Path("lcurve.out").read_text() == whole


# --- Not exact: said ------------------------------------------------------------------


@pytest.mark.any_version
def test_other_options_are_named(trained_here, run, data, capsys):
    data["training"] |= {"numb_steps": 7, "disp_freq": 1}
    data["loss"]["start_pref_e"] = 0.5
    capsys.readouterr()
    run("train", write(data), "-r", "model.ckpt")
    message = said(capsys)
    assert "will not equal an uninterrupted one bit for bit" in message
    assert "loss/start_pref_e: 0.02 -> 0.5; training/numb_steps: 6 -> 7" in message
    assert "disp_freq" not in message


@pytest.mark.any_version
def test_other_data_is_named(run, data, capsys, tmp_path):
    shutil.copytree(SYSTEM, tmp_path / "moved")
    data["training"]["training_data"]["systems"] = ["moved"]
    run("train", write(data))
    data["training"]["numb_steps"] = 7
    shutil.copytree("moved", "elsewhere")
    data["training"]["training_data"]["systems"] = ["elsewhere"]
    capsys.readouterr()
    run("train", write(data), "-r", "model.ckpt")
    assert "the training data" not in said(capsys)  # the same, elsewhere
    energy = np.load("elsewhere/set.000/energy.npy")
    energy[0] += 1e-9
    np.save("elsewhere/set.000/energy.npy", energy)
    data["training"]["numb_steps"] = 8
    run("train", write(data), "-r", "model.ckpt")
    assert "7 -> 8; the training data" in said(capsys)


@pytest.mark.any_version
def test_another_engine_is_named(trained_here, run, data, capsys):
    data["training"] |= {"numb_steps": 7, "jit_compile": True}
    capsys.readouterr()
    run("train", write(data), "-r", "model.ckpt")
    message = said(capsys)
    assert "xla: False -> True" in message
    assert "intra_threads" not in message
    stored = read_metadata("model.ckpt-6.keras")
    assert stored["engine"]["intra_threads"] >= 1
    stored["engine"]["cpu"] = "another"
    stored["tensorflow"] = "2.0"
    model = deepspin.load_model("model.ckpt-6.keras")
    deepspin.save_model(model, "theirs.keras", stored)
    run("train", write(data), "-r", "theirs.keras")
    message = said(capsys)
    assert "tensorflow: 2.0 -> " in message
    assert "cpu: another -> " in message


@pytest.mark.any_version
def test_checkpoint_of_another_input(trained_here, run, data, capsys):
    before = tree()
    data["model"]["fitting_net"]["neuron"] = [7, 7]
    run("train", write(data, "other.json"), "-r", "model.ckpt", status=1)
    message = said(capsys)
    assert "neuron: [5, 5] there, [7, 7] here" in message
    assert "Traceback" not in message
    Path("other.json").unlink()
    assert tree() == before


def test_no_such_checkpoint(run, data, capsys):
    run("train", write(data), "-r", "nothing", status=1)
    assert "No checkpoint" in said(capsys)
    run("train", write(data), "-r", ".", status=1)
    assert "has no file 'checkpoint' that names a checkpoint" in said(capsys)


@pytest.mark.any_version
def test_restart_needs_a_training(run, data, capsys):
    with np.load(REFERENCE / "base.npz") as case:
        data["model"] = json.loads(str(case["input"]))["model"]
    del data["training"]["seed"]
    run("convert-from", REFERENCE / "base.pb", "-o", "base.keras")
    run("train", write(data), "-r", "base.keras", status=1)
    assert "no training to go on with" in said(capsys)


# --- Results of earlier runs ----------------------------------------------------------


@pytest.mark.any_version
def test_oldest_checkpoints_go_after_a_restart_too(run, data):
    data["training"] |= {"save_freq": 1, "max_ckpt_keep": 2}
    run("train", write(data))
    data["training"]["numb_steps"] = 7
    run("train", write(data), "-r", "model.ckpt")
    assert sorted(p.name for p in Path().glob("*.keras")) == [
        "model.ckpt-6.keras",
        "model.ckpt-7.keras",
    ]


@pytest.mark.any_version
def test_a_new_run_sets_the_old_one_aside(trained_here, run, data, capsys):
    old = {name: text for name, text in tree().items() if name != "input.json"}
    data["training"] |= {"numb_steps": 2, "save_freq": 1}
    capsys.readouterr()
    run("train", write(data), "-i", "model.ckpt-6.keras")
    assert "results of an earlier run are now in 'previous-1'" in said(capsys)
    assert {p.name: p.read_bytes() for p in Path("previous-1").iterdir()} == old
    assert sorted(p.name for p in Path().glob("*.keras")) == [
        "model.ckpt-1.keras",
        "model.ckpt-2.keras",
    ]
    assert resolve_checkpoint("model.ckpt") == Path("model.ckpt-2.keras")
    run("train", write(data))
    assert "model.ckpt-2.keras" in os.listdir("previous-2")
    assert {p.name: p.read_bytes() for p in Path("previous-1").iterdir()} == old


@pytest.mark.any_version
def test_a_restart_from_afar_sets_aside_too(trained_here, run, data):
    os.makedirs("here")
    os.chdir("here")
    run("train", write(data))
    old = Path("lcurve.out").read_bytes()
    run("train", "input.json", "-r", "../model.ckpt-3.keras")
    assert Path("previous-1/lcurve.out").read_bytes() == old
    steps = [line.split()[0] for line in Path("lcurve.out").read_text().splitlines()]
    assert steps == ["#", "#", "3", "4", "6"]


@pytest.mark.any_version
def test_going_back_keeps_what_came_later(trained_here, run, data, capsys):
    """Restarted from an older checkpoint, the newer one and its curve are kept."""
    curve, newest = (Path(n).read_bytes() for n in ("lcurve.out", "model.ckpt-6.keras"))
    data["learning_rate"]["start_lr"] = 2e-3
    capsys.readouterr()
    run("train", write(data), "-r", "model.ckpt-3.keras")
    assert "now in 'previous-1'" in said(capsys)
    assert Path("previous-1/lcurve.out").read_bytes() == curve
    assert Path("previous-1/model.ckpt-6.keras").read_bytes() == newest
    assert Path("lcurve.out").read_bytes() != curve
    assert not Path("previous-1/model.ckpt-3.keras").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data["training"]["training_data"].update(systems=["absent"]),
        lambda data: data["training"].update(numb_steps=-1),
        lambda data: data["model"]["descriptor"].update(axis_neuron=7),
    ],
)
@pytest.mark.any_version
def test_a_mistake_moves_nothing(trained_here, run, data, spoil):
    before = tree()
    spoil(data)
    run("train", write(data, "spoilt.json"), status=1)
    Path("spoilt.json").unlink()
    assert tree() == before


@pytest.mark.any_version
def test_one_training_at_a_time(run, data, capsys):
    with open(".model.ckpt.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run("train", write(data), status=1)
    assert "Another training is writing 'model.ckpt-*.keras' now" in said(capsys)
    assert set(os.listdir()) == {".model.ckpt.lock", "input.json"}
    run("train", "input.json")  # the lock of a program that is gone does not matter
    assert not Path(".model.ckpt.lock").exists()


# --- Disks ----------------------------------------------------------------------------


SMALL_DISK = """
import sys
from deepspin.main import main
sys.exit(main(["train", "input.json", *sys.argv[1:]]))
"""


@pytest.fixture
def small_disk(tmp_path):
    """Run dp-spin with a file system of 200 kB in `disk`; what is left is copied."""
    shell = (
        "mount -t tmpfs -o size=200k none disk && cp saved/* disk/ 2>/dev/null; "
        'cd disk && "$0" -c "$@"; status=$?; rm -rf ../left; cp -r . ../left; '
        "exit $status"
    )
    for folder in ("disk", "saved"):
        (tmp_path / folder).mkdir()
    unshare = ["unshare", "-rm", "sh", "-c"]
    probe = subprocess.run([*unshare, "mount -t tmpfs none disk"], cwd=tmp_path)
    if probe.returncode:
        pytest.skip("this system lets users mount no file system of their own")

    def call(content, *args):
        (tmp_path / "saved" / "input.json").write_text(json.dumps(content))
        command = [*unshare, shell, sys.executable, SMALL_DISK, *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stderr, tmp_path / "left"

    return call


@pytest.mark.any_version
def test_full_disk(small_disk, data, run, tmp_path):
    """One line, the last good checkpoint stays, and the run goes on from it exactly."""
    data["training"] |= {"save_freq": 1, "max_ckpt_keep": 9, "numb_steps": 9}
    run("train", write(data))
    whole = weights("model.ckpt-9.keras")
    status, err, left = small_disk(data)
    assert status == 1
    last = err.strip().splitlines()[-1]
    saved = sorted(p.name for p in left.glob("*.keras"))
    assert 1 <= len(saved) < 9
    assert "No space left on device. Free some space" in last
    assert f"go on from the last checkpoint, with -r {saved[-1]}" in last
    assert "Traceback" not in err
    assert not list(left.glob(".*"))
    for name in saved:
        for a, b in zip(weights(name), weights(left / name), strict=True):
            np.testing.assert_array_equal(a, b)
    os.chdir(left)
    run("train", "input.json", "-r", "model.ckpt")
    for a, b in zip(whole, weights("model.ckpt-9.keras"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert Path("lcurve.out").read_bytes() == (tmp_path / "lcurve.out").read_bytes()


@pytest.mark.any_version
def test_full_disk_at_the_curve(run, data, capsys):
    """The learning curve meets the full disk first: nothing else is harmed."""

    def full(path, text):
        if " 4 " in text[:9]:
            raise OutputError(
                f"'{path}' cannot be written: {os.strerror(errno.ENOSPC)}."
            )
        append(path, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepspin.training.callbacks.append", full)
        run("train", write(data), status=1)
    message = said(capsys)
    assert "'lcurve.out' cannot be written: No space left" in message
    assert "go on from the last checkpoint, with -r model.ckpt-3.keras" in message
    run("train", "input.json", "-r", "model.ckpt-3.keras")


@pytest.mark.parametrize("place", ["/proc/none/model.ckpt", "/sys/model.ckpt"])
def test_a_folder_that_takes_no_files(run, data, capsys, place):
    """Seen before the data is read."""
    data["training"]["save_ckpt"] = place
    data["training"]["training_data"]["systems"] = [str(DATA)]
    run("train", write(data), status=1)
    message = said(capsys)
    assert f"'{place}-STEP.keras' cannot be written" in message
    assert "neighbours" not in message
    assert os.listdir() == ["input.json"]
