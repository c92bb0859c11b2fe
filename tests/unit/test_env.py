# SPDX-License-Identifier: Apache-2.0
"""Variables are read as documented; what users have chosen stays."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest

from deepspin import env


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Let each test change the environment as it likes."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize("text", ["", "0"])
def test_threads_left_to_tensorflow(text):
    os.environ["DP_INTRA_OP_PARALLELISM_THREADS"] = text
    os.environ.pop("DP_INTER_OP_PARALLELISM_THREADS", None)
    assert env.thread_counts() == (0, 0)


def test_threads_in_their_order():
    os.environ["DP_INTRA_OP_PARALLELISM_THREADS"] = "3"
    os.environ["DP_INTER_OP_PARALLELISM_THREADS"] = "2"
    assert env.thread_counts() == (3, 2)


@pytest.mark.parametrize(("text", "wanted"), [("", True), ("1", True), ("0", False)])
def test_kernels_wanted(text, wanted):
    os.environ["DEEPSPIN_KERNELS"] = text
    assert env.kernels_wanted() is wanted


def test_choices_of_users_stay():
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "0", "OMP_NUM_THREADS": "7"}
    env.set_defaults()
    env.share_threads(2)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_another_backend_is_named(monkeypatch):
    """By the variable, or by what Keras runs on already."""
    for loaded in (None, SimpleNamespace(config=keras.config)):
        monkeypatch.setitem(sys.modules, "keras", loaded)
        monkeypatch.setattr(keras.config, "backend", lambda: "torch")
        os.environ["KERAS_BACKEND"] = "torch"
        with pytest.raises(ValueError, match=r"'tensorflow'. Received: 'torch'"):
            env.set_defaults()


@pytest.mark.parametrize("processes", [1, 2])
def test_threads_are_shared(processes):
    """Several processes have one thread each, a single one all cores."""
    for name in ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS"):
        os.environ.pop(name, None)
    env.share_threads(processes)
    count = len(os.sched_getaffinity(0)) if processes == 1 else 1
    assert os.environ["OMP_NUM_THREADS"] == str(count)
    assert os.environ["DP_INTRA_OP_PARALLELISM_THREADS"] == str(count)


def test_programs_are_kept_in_the_cache(tmp_path):
    os.environ |= {"XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": "--other=1"}
    env.keep_compiled_programs()
    (folder,) = (tmp_path / "deepspin").iterdir()
    for private in (folder, folder.parent):
        assert private.stat().st_mode & 0o777 == 0o700
    option = f"--tf_xla_persistent_cache_directory={folder}"
    assert os.environ["TF_XLA_FLAGS"] == f"--other=1 {option}"
    env.keep_compiled_programs()  # named already
    assert os.environ["TF_XLA_FLAGS"].count("directory") == 1


def test_open_caches_are_closed(tmp_path, monkeypatch):
    """What is in there is run: of others it is not used."""
    os.environ |= {"XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": ""}
    env.keep_compiled_programs()
    (folder,) = (tmp_path / "deepspin").iterdir()
    folder.chmod(0o755)
    os.environ["TF_XLA_FLAGS"] = ""
    env.keep_compiled_programs()
    assert folder.stat().st_mode & 0o777 == 0o700
    os.environ["TF_XLA_FLAGS"] = ""
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    env.keep_compiled_programs()
    assert os.environ["TF_XLA_FLAGS"] == ""


@pytest.mark.parametrize(("intra", "told"), [("", 0), ("1", 0), ("3", 1)])
def test_tensorflow_has_started(monkeypatch, caplog, intra, told):
    """Its threads are what they are, which is said where others are asked for."""

    def refuse(count):
        raise RuntimeError("Intra op parallelism cannot be modified")

    threading = SimpleNamespace(
        get_intra_op_parallelism_threads=lambda: 1,
        get_inter_op_parallelism_threads=lambda: 0,
        set_intra_op_parallelism_threads=refuse,
        set_inter_op_parallelism_threads=refuse,
    )
    config = SimpleNamespace(threading=threading)
    started = SimpleNamespace(config=config, zeros=lambda shape: None)
    monkeypatch.setitem(sys.modules, "tensorflow", started)
    os.environ["DP_INTRA_OP_PARALLELISM_THREADS"] = intra
    os.environ.pop("DP_INTER_OP_PARALLELISM_THREADS", None)
    env.start_tensorflow()
    assert len(caplog.messages) == told
    for text in caplog.messages:
        assert "are without effect: this process has used TensorFlow with 1 and" in text


STARTED = """
import gc, sys
from deepspin import env
asked = []
class Finder:
    def find_spec(name, path=None, target=None):
        asked.append(name)
sys.meta_path.insert(0, Finder)
env.start_tensorflow()
assert not [m for m in sys.modules if m.split(".")[0] in ("matplotlib", "scipy")]
assert not {"matplotlib", "scipy", "pandas"} & set(asked), "asked for"
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import keras, matplotlib.pyplot, scipy.sparse
assert keras.backend.backend() == "tensorflow"
frozen = gc.get_freeze_count()
env.start_tensorflow()
assert gc.get_freeze_count() <= frozen, "of another program"
"""


def test_what_is_not_imported():
    """With TensorFlow, where nobody else has imported it; later it can be."""
    command = [sys.executable, "-W", "ignore", "-c", STARTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_forks_do_not_compute(monkeypatch):
    """Nor do forks of forks; the process itself may at any time."""
    monkeypatch.setattr(env, "_computes", [])
    env.claim_process()
    env.claim_process()
    monkeypatch.setattr(os, "getpid", lambda: 12345)
    with pytest.raises(RuntimeError, match=r"^Process 12345 is a fork of .*spawn"):
        env.claim_process()


@pytest.mark.parametrize("name", ["a file", "with space"])
def test_caches_that_cannot_be(tmp_path, name):
    """Programs are then compiled anew, and nothing is said."""
    base = tmp_path / name
    if name == "a file":
        base.write_text("")
    os.environ |= {"XDG_CACHE_HOME": str(base), "TF_XLA_FLAGS": ""}
    env.keep_compiled_programs()
    assert os.environ["TF_XLA_FLAGS"] == ""


def test_held_back(capfd):
    """What libraries say is shown if the block fails."""
    with env.held_back(1, 2):
        os.write(1, b"quiet\n")
        os.write(2, b"quiet\n")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RuntimeError), env.held_back(2):
        os.write(2, b"reason\n")
        raise RuntimeError
    print("after", file=sys.stderr)  # noqa: T201
    assert capfd.readouterr() == ("", "reason\nafter\n")
