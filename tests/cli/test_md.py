# SPDX-License-Identifier: Apache-2.0
"""``dp-spin md``: inputs, runs and what they write, restarts, stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.constraints
import ase.io
import h5py
import numpy as np
import pytest
from hamiltonians import exchange

from deepspin.atoms import units
from deepspin.atoms.structures import save_structure
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import DynamicsError
from deepspin.dynamics.md.guard import Guard
from deepspin.dynamics.md.options import normalize_md
from deepspin.dynamics.md.run import run as run_dynamics
from deepspin.dynamics.md.simulation import Simulation
from deepspin.infer.deep_spin import DeepSpin
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.utils.refused import InputError

METADATA = {
    "spin_range": {"Ni": [0.9, 1.5]},
    "nearest": {"Ni": {"Ni": 2.4, "O": 1.5}, "O": {"Ni": 1.5, "O": 2.4}},
}
ENSEMBLES = {
    "nve": {"type": "nve"},
    "langevin": {"type": "langevin", "relaxation_time": 50.0, "damping": 0.2},
    "spin": {"type": "spin"},
    "lattice": {"type": "lattice"},
    "tspin": {"type": "tspin", "spin_mass": {"Ni": 100.0}},
    "quantum": {
        **{"type": "langevin", "relaxation_time": 50.0, "damping": 0.2},
        **{"spectrum": "zero-point", "spectrum_cutoff": 500.0},
    },
    "chains": {"type": "tspin", "spin_mass": 100.0, "thermostat": "nose-hoover"},
    "pressure": {
        **{"type": "langevin", "relaxation_time": 50.0, "damping": 0.2},
        **{"pressure": [1.0, -2.0], "pressure_coupling": "flexible"},
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, make_structure):
    """Folder with a model, and a structure of 8 atoms for it."""
    folder = tmp_path_factory.mktemp("md")
    model = make_model("NiO")
    save_model(model, folder / "m.keras", METADATA)
    save_structure(folder / "s.extxyz", [make_structure(model)])
    return folder


@pytest.fixture
def given(files):
    """Input of a small run, to be changed."""
    return {
        "_comment": "small",
        "model": str(files / "m.keras"),
        "structure": {"file": str(files / "s.extxyz")},
        "ensemble": dict(ENSEMBLES["langevin"]),
        "temperature": 300,
        "timestep": 0.25,
        "steps": 8,
        "seed": 3,
        "output": {"log_freq": 1, "trajectory_freq": 2, "restart_freq": 3},
    }


def write(content: dict, name: str = "input.json") -> str:
    Path(name).write_text(json.dumps(content))
    return name


def lines(path: str = "md.log") -> np.ndarray:
    return np.loadtxt(path, ndmin=2)


def column(name: str, path: str = "md.log") -> np.ndarray:
    names = Path(path).read_text().split("\n")[0][1:].split()
    return lines(path)[:, names.index(name)]


def arrays(path: str) -> dict:
    """All of a restart file."""
    with np.load(path) as file:
        return {k: v for k, v in file.items() if k != "about"}


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


# --- The input ------------------------------------------------------------------------


def test_documentation_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["md", "--doc"])
    assert stop.value.code == 0
    assert "``md/ensemble[langevin]/damping``" in capsys.readouterr().out


MISTAKES = {
    "typo": ({"temprature": 1}, "`temprature` is not a key .* `temperature`"),
    "no time": ({"timestep": 0}, "`timestep` is 0; expected a finite number > 0"),
    "boolean": ({"timestep": True}, "`timestep` is true"),
    "ensemble": ({"ensemble": {"type": "nvt"}}, '"nvt"; expected one of "nve"'),
    "other ensemble": ({"ensemble": {"type": "nve", "damping": 1}}, "ensemble/damping"),
    "spin mass": ({"ensemble": {"type": "tspin"}}, "`ensemble/spin_mass` is missing"),
    "direction": ({"spins": [{"direction": [0, 0, 0]}]}, "rule 0: `direction` is"),
    "rule": ({"spins": [{}, {"typ": "Ni"}]}, "rule 1: `typ` is not .* `type`"),
    "no list": ({"spins": {"type": "Ni"}}, "expected a list of objects"),
    "axis": ({"spins": [{"axis": [0, 0, 1]}]}, "rule 0 has an `axis` without"),
    "wave": ({"spins": [{"wave_vector": [0.5, 0, 0]}]}, "fits into 1 x 1 x 1 cells"),
    "orders": (
        {"order_vector": [[1, 0, 0], [0, 0.5, 0]]},
        "`order_vector/1` .* 1 x 1 x 1 cells",
    ),
    "orders of two": ({"order_vector": [[1, 0, 0], [0, 1]]}, "or a list of such"),
    "order": ({"order_vector": [0.5, 0, 0]}, "`order_vector` .* 1 x 1 x 1 cells"),
    "replicas": ({"seed": [1, 2], "temperature": [1, 2, 3]}, "each of 3 replicas"),
    "trajectory": ({"output": {"trajectory": "a.pdb"}}, "ends in .extxyz"),
    "restart": ({"output": {"restart": "a"}}, "ends in .npz"),
    "same file": ({"output": {"log": "md.extxyz"}}, "three different files"),
    "pressure": (
        {"ensemble": {"type": "langevin", "pressure": "high"}},
        "`ensemble/pressure` is .*list",
    ),
    "pressures": (
        {"ensemble": {"type": "langevin", "pressure": [1, 2]}, "temperature": [1] * 3},
        "`ensemble/pressure` is .*each of 3 replicas",
    ),
    "pressure without a bath": (
        {"ensemble": {"type": "lattice", "relaxation_time": None, "pressure": 0}},
        "`ensemble/relaxation_time` is null; expected a time in fs",
    ),
    "pressure on fixed atoms": (
        {"ensemble": {"type": "langevin", "pressure": 0}, "fixed_atoms": [0]},
        "`fixed_atoms` is .* all move with the cell",
    ),
    "cold chain": (
        {"ensemble": {"type": "nose-hoover"}, "temperature": [1, 0]},
        "`temperature` is .* above 0 K in a chain",
    ),
    "no links": (
        {"ensemble": {"type": "nose-hoover", "chain_length": 0}},
        "`ensemble/chain_length` is 0",
    ),
    "other bath": (
        {"ensemble": {"type": "lattice", "thermostat": "berendsen"}},
        "one of langevin, nose-hoover",
    ),
    "spectrum": (
        {"ensemble": {"type": "lattice", "spectrum": "pink"}},
        "one of classical, quantum, zero-point",
    ),
    "colour under pressure": (
        {"ensemble": {"type": "langevin", "spectrum": "quantum", "pressure": 0}},
        "in a fixed cell. Change that, or `ensemble/pressure`",
    ),
    "colour on its way": (
        {
            "ensemble": {"type": "langevin", "spectrum": "quantum"},
            "temperature": [[0, 1], [1, 2]],
        },
        "at a constant temperature .* or `temperature`",
    ),
    "high colour": (
        {
            **{"ensemble": {"type": "lattice", "spectrum": "quantum"}},
            **{"timestep": 20.0},
        },
        "`ensemble/spectrum_cutoff` is 50.0; expected at most 25 THz",
    ),
    "ramp back": ({"temperature": [[0, 1], [0, 2]]}, "the times increasing"),
    "cold ramp": ({"temperature": [[0, 1], [5, -2]]}, "temperature >= 0 in K"),
    "ramp of three": ({"temperature": [[0, 1, 2], [5, 1, 2]]}, "rows of a time in fs"),
    "half a ramp": ({"temperature": [[0, 1], 5]}, "list of lists of numbers"),
    "ramp of no vector": ({"field": [[0, 0, 1], [5, 0, 1]]}, "`field` is .* 3 numbers"),
    "ramp that alternates": (
        {"field": [[0, 0, 0, 1], [5, 0, 0, 2]], "field_frequency": 1.0},
        "needs a constant `field`",
    ),
    "pressure of spins": (
        {"ensemble": {"type": "spin", "pressure": 0}},
        "ensemble/pressure",
    ),
    "masses": ({"masses": {"Ni": "heavy"}}, "finite numbers > 0 by names"),
    "no model": ({"model": "no.keras"}, "there is no file 'no.keras'"),
    "no structure": ({"structure": {"file": "no.xyz"}}, "'no.xyz' does not exist"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_the_input(case, run, given, capsys):
    change, message = MISTAKES[case]
    run("md", write(given | change), status=1)
    assert re.fullmatch(rf"dp-spin: error: .*{message}.*", said(capsys))
    assert [p.name for p in Path().iterdir()] == ["input.json"]


LATE = {
    "frame": ({"structure": {"frame": 7}}, "cannot read frame 7"),
    "type of a rule": ({"spins": [{"type": "Fe"}]}, '"Fe"; expected one of Ni, O'),
    "mass of a type": ({"masses": {"Fe": 1.0}}, "`masses` names Fe"),
    "atom": ({"fixed_atoms": [8]}, "no atom 8: the file has 8"),
    "spin masses": (
        {"ensemble": {"type": "tspin", "spin_mass": {"O": 1.0}}},
        "expected masses of Ni",
    ),
    "fparam": ({"fparam": [1.0]}, "takes no frame parameters"),
    "temperature": (
        {"temperature": 1.0, "initial_temperature": 1e5},
        None,  # hot, but asked for
    ),
}


@pytest.mark.parametrize("case", LATE)
def test_mistakes_that_the_model_tells(case, run, given, capsys):
    change, message = LATE[case]
    for key, value in change.items():
        given[key] = {**given[key], **value} if key == "structure" else value
    if message is None:
        given["steps"] = 1
        given["timestep"] = 1e-3
    run("md", write(given), status=0 if message is None else 1)
    text = said(capsys)
    if message is not None:
        assert re.search(message, text), text
        assert [p.name for p in Path().iterdir()] == ["input.json"]


def atoms_of(files):
    return ase.io.read(files / "s.extxyz")


def test_unknown_type(run, given, files, capsys):
    atoms = atoms_of(files)
    atoms.symbols[0] = "Fe"
    atoms.write("fe.extxyz")
    given["structure"]["file"] = "fe.extxyz"
    run("md", write(given), status=1)
    assert "has atoms of Fe; the model knows Ni, O" in said(capsys)


def test_missing_moments(run, given, files, capsys):
    """Refused; rules for the spins can give them."""
    atoms = atoms_of(files)
    del atoms.arrays["initial_magmoms"]
    atoms.calc = None
    atoms.write("bare.extxyz")
    given["structure"]["file"] = "bare.extxyz"
    run("md", write(given), status=1)
    assert "The structure has no spins, but atoms of Ni need them" in said(capsys)
    given["spins"] = [{"type": "Ni", "direction": [0, 0, 1]}]
    run("md", write(given), status=1)
    assert "no rule of `spins` gives atom 0 of the file (Ni) both" in said(capsys)
    given["spins"][0]["modulus"] = 1.1
    run("md", write(given))
    spin = arrays("md.restart.npz")["state.spin"][0]
    np.testing.assert_allclose(
        np.linalg.norm(spin, axis=1), [1.1] * 4 + [0] * 4, rtol=1e-12
    )


def test_zero_spin(run, given, files, capsys):
    atoms = atoms_of(files)
    atoms.arrays["initial_magmoms"][2] = 0.0
    atoms.write("zero.extxyz")
    given["structure"]["file"] = "zero.extxyz"
    run("md", write(given), status=1)
    assert re.search(r"Atom 2 of frame 0 has \|spin\| = 0", said(capsys))
    assert not Path("md.log").exists()


def test_near_atoms_are_told_of_once(run, given, files, capsys):
    atoms = atoms_of(files)
    atoms.positions[4] = atoms.positions[0] + [1.3, 0, 0]
    atoms.write("near.extxyz")
    given["structure"]["file"] = "near.extxyz"
    given |= {"timestep": 0.01, "steps": 3}
    run("md", write(given))
    assert said(capsys).count("nearer than any in training (1.5000 Å)") == 1


# --- What is built --------------------------------------------------------------------


def test_supercell_and_spiral(run, given, files):
    """A wave along a: reversed without an axis, turned with one."""
    given |= {"steps": 1, "temperature": 0.0, "ensemble": {"type": "spin"}}
    given["structure"]["repeat"] = [2, 1, 1]
    given["field"] = [0, 0, 1.0]
    rule = {"modulus": 1.2, "direction": [1, 0, 0], "wave_vector": [0.5, 0, 0]}
    atoms = atoms_of(files)
    metal = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.1, 0, 0.5], [0, 0.5, 0]])
    atoms.set_scaled_positions(np.concatenate([metal, metal + 0.3]))
    atoms.write("grid.extxyz")
    given["structure"]["file"] = "grid.extxyz"
    found = {}
    for name, more in {"line": {}, "spiral": {"axis": [0, 0, 2]}}.items():
        given["spins"] = [rule | more]
        run("md", write(given))
        found[name] = ase.io.read("md.extxyz", 0).arrays["initial_magmoms"]
    sign = np.repeat([1, 0, -1, 0], 4)
    np.testing.assert_allclose(found["line"][:, 0], 1.2 * sign, rtol=1e-14)
    angle = np.pi * np.array([0, 0, 0.1, 0, *[0] * 4, 1, 1, 1.1, 1, *[0] * 4])
    expected = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    expected *= 1.2 * np.abs(sign)[:, None]
    np.testing.assert_allclose(found["spiral"], expected, atol=1e-7)  # as ASE writes
    order = abs(3 + np.exp(0.1j * np.pi)) / 4  # of the cell, reversed in its copy
    np.testing.assert_allclose(column("order")[0], order, atol=1e-6)
    names = ase.io.read("md.extxyz", 0).get_chemical_symbols()
    assert names == (["Ni"] * 4 + ["O"] * 4) * 2
    cell = ase.io.read("md.extxyz", 0).cell.array
    np.testing.assert_allclose(cell, atoms.cell.array * [[2], [1], [1]], rtol=1e-15)


def test_a_site_at_a_node(run, given, capsys):
    given["structure"]["repeat"] = [2, 1, 1]
    given["spins"] = [{"wave_vector": [0.5, 0, 0]}]
    run("md", write(given), status=1)
    assert "at the nodes of the wave" in said(capsys)


def test_masses_and_fixed_atoms(run, given):
    given |= {"masses": {"O": 18.0}, "fixed_atoms": [1, 5], "steps": 5}
    given["structure"]["repeat"] = [1, 2, 1]
    run("md", write(given))
    end = arrays("md.restart.npz")
    np.testing.assert_array_equal(end["state.mass"][:8], [58.693] * 4 + [18.0] * 4)
    first, last = ase.io.read("md.extxyz", ":")[0::2][:2]
    moved = np.abs(last.positions - first.positions).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(~moved), [1, 5, 9, 13])
    assert not end["state.still"]


def test_random_directions_differ(run, given):
    given |= {"spins": [{"direction": "random"}], "seed": [5, 6], "steps": 1}
    run("md", write(given))
    spin = arrays("md.restart.npz")["state.spin"]
    assert np.abs(spin[0, :4] - spin[1, :4]).max() > 0.1
    before = np.linalg.norm(ase.io.read("md-0.extxyz", 0).arrays["initial_magmoms"], 2)
    assert before > 0


# --- Restarts -------------------------------------------------------------------------


def assert_same_run(folder: Path, names: tuple[str, ...]) -> None:
    """Files here are those of another folder, to the last bit."""
    ours, theirs = arrays("md.restart.npz"), arrays(folder / "md.restart.npz")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name, strict=True)
    for name in names:
        assert Path(name).read_bytes() == (folder / name).read_bytes(), name


@pytest.fixture
def whole(run, tmp_path, monkeypatch):
    """Make an uninterrupted run in a folder of its own; gives the folder."""

    def make(content: dict) -> Path:
        folder = tmp_path / "whole"
        folder.mkdir()
        monkeypatch.chdir(folder)
        run_here("md", write(content))
        monkeypatch.chdir(tmp_path)
        return folder

    return make


def run_here(*args, status: int = 0) -> None:
    assert main([str(a) for a in args]) == status


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_restart_is_exact(ensemble, whole, given, capsys):
    """In two parts, of any length, as in one."""
    given["ensemble"] = ENSEMBLES[ensemble]
    given["temperature"] = [300.0, 20.0]
    folder = whole(given)
    run_here("md", write(given | {"steps": 5}))
    run_here("md", write(given), "-r", "md.restart.npz")
    assert_same_run(folder, ("md.log", "md-0.extxyz", "md-1.extxyz", "out.json"))
    assert lines().shape[0] == 18
    text = said(capsys)
    assert "not equal" not in text
    assert "earlier run" not in text


def test_restart_cuts_off(whole, given):
    """What a killed run wrote after its restart file, the last line torn."""
    folder = whole(given)
    run_here("md", write(given | {"steps": 6}))
    kept = Path("md.restart.npz").read_bytes()
    run_here("md", write(given), "-r", "md.restart.npz")
    Path("md.restart.npz").write_bytes(kept)
    for name, missing in (("md.log", 7), ("md.extxyz", 133)):
        path = Path(name)
        path.write_bytes(path.read_bytes()[:-missing])
    run_here("md", write(given), "-r", "md.restart.npz")
    assert_same_run(folder, ("md.log", "md.extxyz"))


def test_restart_in_another_folder(run, given, capsys, tmp_path, monkeypatch):
    """Begins new files; what is there makes way."""
    run("md", write(given | {"steps": 4}))
    (tmp_path / "next").mkdir()
    monkeypatch.chdir(tmp_path / "next")
    Path("md.log").write_text("of mine\n")
    run_here("md", write(given), "-r", "../md.restart.npz")
    assert Path("previous-1/md.log").read_text() == "of mine\n"
    np.testing.assert_array_equal(lines()[:, 0], [4, 5, 6, 7, 8])
    assert "md.log" in said(capsys)


def test_restart_beside_other_files(run, given):
    """A trajectory of another run makes way, that of the run is gone on with."""
    run("md", write(given | {"steps": 4}))
    Path("other.extxyz").write_text("of mine\n")
    given["output"]["trajectory"] = "other.extxyz"
    run("md", write(given), "-r", "md.restart.npz")
    assert Path("previous-1/other.extxyz").read_text() == "of mine\n"
    steps = [atoms.info["step"] for atoms in ase.io.read("other.extxyz", ":")]
    assert steps == [6, 8]
    np.testing.assert_array_equal(lines()[:, 0], np.arange(9))
    assert len(ase.io.read("md.extxyz", ":")) == 3


def test_seed_that_was_drawn_is_kept(run, given):
    del given["seed"]
    run("md", write(given | {"steps": 4}))
    seed = json.loads(Path("out.json").read_text())["seed"]
    assert isinstance(seed, int)
    run("md", write(given), "-r", "md.restart.npz")
    assert json.loads(Path("out.json").read_text())["seed"] == seed


def test_changes_are_told(run, given, capsys):
    run("md", write(given | {"steps": 4}))
    capsys.readouterr()
    given |= {"temperature": 200, "masses": {"O": 17.0}}
    run("md", write(given), "-r", "md.restart.npz")
    text = said(capsys)
    assert "will not equal an uninterrupted one" in text
    assert text.count("`temperature`") == 1
    assert "has no effect: `masses`" in text


def test_nothing_to_do(run, given, capsys):
    run("md", write(given))
    before = Path("md.log").read_bytes()
    run("md", "input.json", "-r", "md.restart.npz")
    assert "nothing to do: 8 of 8 steps are done" in said(capsys)
    assert Path("md.log").read_bytes() == before


def test_restart_files_that_do_not_fit(run, given, capsys, make_model):
    run("md", write(given | {"steps": 2}))
    capsys.readouterr()
    two = given | {"temperature": [1, 2]}
    run("md", write(two), "-r", "md.restart.npz", status=1)
    assert "has 1 replicas, the input 2" in said(capsys)
    other = given | {"ensemble": ENSEMBLES["tspin"]}
    run("md", write(other), "-r", "md.restart.npz", status=1)
    assert 'of another ensemble, the input asks for "tspin"' in said(capsys)
    save_model(make_model("ONi"), Path("oni.keras"), METADATA)
    run("md", write(given | {"model": "oni.keras"}), "-r", "md.restart.npz", status=1)
    assert "is of types Ni, O; the model's are O, Ni" in said(capsys)
    Path("bad.npz").write_bytes(Path("md.restart.npz").read_bytes()[:-40])
    run("md", write(given), "-r", "bad.npz", status=1)
    assert "'bad.npz' is damaged" in said(capsys)
    run("md", "input.json", "-r", "no.npz", status=1)
    assert "No restart file: 'no.npz' does not exist" in said(capsys)


@pytest.mark.any_version
@pytest.mark.parametrize("name", ["md.extxyz", "md.h5"])
def test_killed(name, whole, given):
    """SIGKILL at some moment, then on as if nothing had happened."""
    given["steps"] = 60
    given["output"] |= {"trajectory": name, "restart_freq": 7, "trajectory_freq": 1}
    folder = whole(given)
    write(given | {"steps": 100_000, "output": given["output"]}, "long.json")
    with open("killed.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deepspin", "md", "long.json"],
            stdout=log,
            stderr=log,
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
        )
        while process.poll() is None and not _has_steps(20):
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, Path("killed.log").read_text()
    assert int(arrays("md.restart.npz")["state.step"]) >= 14
    assert int(arrays("md.restart.npz")["state.step"]) < 60
    run_here("md", write(given), "-r", "md.restart.npz")
    if name.endswith(".h5"):
        with h5py.File(name) as ours, h5py.File(folder / name) as theirs:
            for key in theirs:
                array = ours[key][:61] if "unit" in ours[key].attrs else ours[key][()]
                np.testing.assert_array_equal(array, theirs[key][()], err_msg=key)
        assert_same_run(folder, ("md.log",))
    else:
        assert_same_run(folder, ("md.log", name))


def _has_steps(count: int) -> bool:
    """Whether the log has that many lines."""
    path = Path("md.log")
    return path.is_file() and path.read_bytes().count(b"\n") > count


def test_two_runs_at_once(run, given, capsys):
    import fcntl

    with open(".md.restart.npz.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run("md", write(given), status=1)
    assert "Another program is writing 'md.restart.npz' now" in said(capsys)
    assert not Path("md.log").exists()


# --- Replicas and numbers -------------------------------------------------------------


@pytest.mark.parametrize("ensemble", ["langevin", "tspin", "pressure"])
def test_replicas_are_single_runs(ensemble, run, given):
    """To the last bit, but for the count of evaluations, which they share."""
    given["ensemble"] = ENSEMBLES[ensemble]
    given |= {"temperature": [300.0, 50.0], "initial_temperature": 100.0}
    run("md", write(given))
    both = arrays("md.restart.npz")
    texts = [Path(f"md-{k}.extxyz").read_bytes() for k in range(2)]
    table = lines()
    for k in range(2):
        single = given | {"temperature": given["temperature"][k], "seed": 3 + k}
        if ensemble == "pressure":
            pressure = ENSEMBLES[ensemble]["pressure"][k]
            single["ensemble"] = ENSEMBLES[ensemble] | {"pressure": pressure}
        run("md", write(single))
        alone = arrays("md.restart.npz")
        for name in ("coord", "velocity", "spin", "box", "stream"):
            name = f"state.{name}"
            np.testing.assert_array_equal(both[name][k], alone[name][0])
        assert Path("md.extxyz").read_bytes() == texts[k]
        np.testing.assert_array_equal(table[k::2, 2:-1], lines()[:, 2:-1])


def test_energy_is_conserved(run, given):
    given |= {"ensemble": {"type": "nve"}, "steps": 100, "temperature": 600.0}
    given["field"] = [0.0, 30.0, 0.0]
    run("md", write(given))
    energy = column("e_total")
    assert np.ptp(column("e_pot")) > 1e-3
    assert np.abs(energy - energy[0]).max() < 3e-5
    spin = arrays("md.restart.npz")["state.spin"][0]
    first = ase.io.read("md.extxyz", 0).arrays["initial_magmoms"]
    np.testing.assert_allclose(
        np.linalg.norm(spin, axis=1), np.linalg.norm(first, axis=1), rtol=1e-12
    )


def test_field(run, given, files):
    """The energy in the field is that of the model less S·B."""
    given |= {"steps": 1, "ensemble": {"type": "spin"}}
    run("md", write(given))
    without = column("e_pot")[0]
    run("md", write(given | {"field": [10.0, -20.0, 40.0]}))
    moment = atoms_of(files).arrays["initial_magmoms"].sum(axis=0)
    work = units.MU_B * moment @ [10.0, -20.0, 40.0]
    np.testing.assert_allclose(column("e_pot")[0], without - work, atol=2e-8)


@pytest.mark.parametrize("frequency", [0.0, 20.0])
def test_alternating_field(run, given, frequency):
    """The log's energies are of the field at their time, and change by its work.

    dE/dt = -M dB/dt, whose integral by the trapezoidal rule is of second order.
    """
    tesla, ps = np.array([100.0, -200.0, 400.0]), 0.25e-3 / 4
    given |= {"timestep": 0.25 / 4, "steps": 160, "ensemble": {"type": "spin"}}
    given["ensemble"]["damping"] = 0.0
    given["output"]["trajectory_freq"] = 1
    given |= {"field": tesla.tolist(), "field_frequency": frequency}
    run("md", write(given))
    potential = DeepSpin(given["model"])
    frames = ase.io.read("md.extxyz", ":")
    moment = np.array([f.arrays["initial_magmoms"].sum(axis=0) for f in frames])
    phase = 2 * np.pi * frequency * ps * np.arange(len(frames))
    inner = [
        potential.eval(
            f.positions[None],
            f.cell.array[None],
            f.get_chemical_symbols(),
            f.arrays["initial_magmoms"][None],
        )["energy"][0]
        for f in frames
    ]
    push = units.MU_B * np.cos(phase)[:, None] * tesla
    energy = column("e_total")
    np.testing.assert_allclose(energy, inner - (push * moment).sum(axis=1), atol=2e-8)
    power = ((moment[1:] + moment[:-1]) / 2 * np.diff(push, axis=0)).sum(axis=1)
    work = -np.append(0.0, np.cumsum(power))
    assert (np.ptp(work) > 0.01) == (frequency > 0)
    np.testing.assert_allclose(energy - energy[0], work, atol=2e-6)


def test_alternating_field_goes_on(run, given):
    """The field's time is that of the restart file."""
    given |= {"field": [0, 0, 500.0], "field_frequency": 30.0}
    run("md", write(given))
    want = arrays("md.restart.npz")
    run("md", write(given | {"steps": 4}))
    run("md", write(given), "-r", "md.restart.npz")
    for name, array in arrays("md.restart.npz").items():
        np.testing.assert_array_equal(array, want[name], err_msg=name)


def test_single_precision(run, given, make_model, capsys):
    """A tolerance that such a model can meet is set."""
    save_model(make_model("NiO", precision="float32"), Path("s.keras"), METADATA)
    given |= {"model": "s.keras", "ensemble": {"type": "nve"}}
    run("md", write(given))
    assert lines()[-1, 0] == 8


def heisenberg(nloc=16):
    """Neighbours on a ring, antiferromagnetic, with an easy axis; atoms do not move."""
    matrix = np.zeros((nloc, nloc))
    for i in range(nloc):
        matrix[i, (i + 1) % nloc] = matrix[(i + 1) % nloc, i] = -0.02
    inner = exchange(matrix)

    def fields(coord, spin, time=0.0):
        found = inner(coord, spin)
        push = np.zeros_like(spin)
        push[..., 2] = 0.02 * spin[..., 2]
        energy = found.energy - 0.01 * (spin[..., 2] ** 2).sum(axis=1)
        return Response(energy, found.force, found.force_mag + push)

    return fields


def test_neel_order(run, given, files, monkeypatch):
    """It stays where it is cold, and goes where it is hot."""
    build = "deepspin.dynamics.md.run.build_fields"
    monkeypatch.setattr(build, lambda *args: heisenberg())
    metal = ase.Atoms("Ni", cell=[2.5, 9, 9], pbc=True)
    metal.set_initial_magnetic_moments([[0, 0, 1.2]])
    metal.write("chain.extxyz")
    given |= {
        "structure": {"file": "chain.extxyz", "repeat": [16, 1, 1]},
        "spins": [{"wave_vector": [0.5, 0, 0]}],
        "ensemble": {"type": "spin", "damping": 0.5},
        "temperature": [2.0, 2000.0],
        "timestep": 2.0,
        "steps": 400,
        "order_vector": [[0.5, 0, 0], [0, 0, 0]],
    }
    run("md", write(given))
    order = column("order").reshape(-1, 2)
    assert order[0] == pytest.approx([1.0, 1.0])
    assert order[:, 0].min() > 0.97
    assert order[200:, 1].mean() < 0.5
    assert np.abs(column("m").reshape(-1, 2)[:, 0]).max() < 0.1


# --- Formats --------------------------------------------------------------------------


@pytest.fixture
def expected(run, given):
    """The run's frames as extended XYZ, and its input."""
    run("md", write(given))
    return ase.io.read("md.extxyz", ":")


def test_extended_xyz(expected, given, files):
    from deepspin.calculator import DeepSpinCalculator

    assert [atoms.info["step"] for atoms in expected] == [0, 2, 4, 6, 8]
    assert expected[3].info["time"] == pytest.approx(1.5)
    end = arrays("md.restart.npz")
    atoms = expected[-1]
    np.testing.assert_array_equal(atoms.positions, end["state.coord"][0])
    np.testing.assert_array_equal(
        atoms.get_initial_magnetic_moments(), end["state.spin"][0]
    )
    from ase import units as ase_units

    np.testing.assert_allclose(
        atoms.get_velocities() * ase_units.fs, end["state.velocity"][0], rtol=1e-7
    )
    kelvin = atoms.get_kinetic_energy() / (1.5 * ase_units.kB * 7)
    assert kelvin == pytest.approx(column("t_lattice")[-1], rel=1e-5)
    results = atoms.calc.results
    assert results["energy"] == pytest.approx(column("e_pot")[-1], abs=1e-8)
    again = atoms.copy()
    again.calc = DeepSpinCalculator(given["model"])
    np.testing.assert_allclose(results["forces"], again.get_forces(), atol=1e-12)
    np.testing.assert_allclose(
        atoms.arrays["force_mag"], again.calc.get_magnetic_forces(again), atol=1e-12
    )


def test_traj(expected, run, given):
    """The same frames in ASE's format; restarts leave later ones out."""
    given["output"]["trajectory"] = "md.traj"
    run("md", write(given | {"steps": 6}))
    kept = Path("md.restart.npz").read_bytes()
    run("md", write(given), "-r", "md.restart.npz")
    Path("md.restart.npz").write_bytes(kept)
    run("md", write(given), "-r", "md.restart.npz")
    found = ase.io.read("md.traj", ":")
    assert [atoms.info["step"] for atoms in found] == [0, 2, 4, 6, 8]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(ours.get_momenta(), theirs.get_momenta())
        np.testing.assert_array_equal(ours.get_forces(), theirs.get_forces())
        np.testing.assert_array_equal(
            ours.get_initial_magnetic_moments(), theirs.get_initial_magnetic_moments()
        )
        np.testing.assert_array_equal(
            ours.info["force_mag"], theirs.arrays["force_mag"]
        )


@pytest.mark.parametrize("ensemble", ["langevin", "tspin", "pressure"])
def test_hdf5(ensemble, run, given):
    """The same frames; restarts find, drop and add places."""
    given["ensemble"] = ENSEMBLES[ensemble]
    given |= {"temperature": [300.0, 100.0]}
    run("md", write(given))
    frames = [ase.io.read(f"md-{k}.extxyz", ":") for k in range(2)]
    given["output"]["trajectory"] = "md.hdf5"
    run("md", write(given | {"steps": 5}))
    run("md", write(given), "-r", "md.restart.npz")
    with h5py.File("md.hdf5") as file:
        assert file["step"][:].tolist() == [0, 2, 4, 6, 8]
        assert file["coord"].shape == (5, 2, 8, 3)
        assert file["coord"].attrs["unit"] == "Å"
        assert [name.decode() for name in file["type_map"]] == ["Ni", "O"]
        assert ("spin_velocity" in file) == (ensemble == "tspin")
        for k in range(2):
            for row, atoms in enumerate(frames[k]):
                box = file["box"][row, k] if ensemble == "pressure" else file["box"]
                np.testing.assert_array_equal(box, atoms.cell)
                for name, theirs in (
                    ("coord", atoms.positions),
                    ("spin", atoms.arrays["initial_magmoms"]),
                    ("force", atoms.calc.results["forces"]),
                    ("force_mag", atoms.arrays["force_mag"]),
                    ("energy", atoms.calc.results["energy"]),
                ):
                    np.testing.assert_array_equal(file[name][row, k], theirs)
    end = arrays("md.restart.npz")
    with h5py.File("md.hdf5") as file:
        np.testing.assert_array_equal(file["velocity"][-1], end["state.velocity"])


@pytest.mark.parametrize("coupling", ["isotropic", "flexible"])
def test_cells_under_pressure(coupling, run, given, files, capsys):
    """Log and frames tell the same cells; the log's pressure is the model's."""
    given["ensemble"] = ENSEMBLES["langevin"] | {
        **{"pressure": 5.0, "pressure_coupling": coupling},
        **{"pressure_relaxation_time": 200.0, "compressibility": 0.002},
    }
    given["output"]["trajectory_freq"] = 1
    run("md", write(given))
    frames = ase.io.read("md.extxyz", ":")
    volumes = [atoms.get_volume() for atoms in frames]
    np.testing.assert_allclose(column("volume"), volumes, atol=1e-6)
    assert np.ptp(volumes) > 1e-2
    change = np.linalg.solve(frames[0].cell.array, frames[-1].cell.array)
    kinds = {
        "isotropic": change[0, 0] * np.eye(3),
        "flexible": np.tril(change),
    }
    np.testing.assert_allclose(change, kinds[coupling], atol=1e-12)
    assert (abs(change - kinds["isotropic"]).max() > 1e-6) == (coupling != "isotropic")
    potential = DeepSpin(files / "m.keras")
    for row in (0, -1):
        atoms = frames[row]
        types = [potential.type_map.index(name) for name in atoms.symbols]
        spin = atoms.arrays["initial_magmoms"]
        found = potential.eval(atoms.positions, atoms.cell.array, types, spin)
        # 8 atoms with the degrees of freedom of 7: the centre of mass rests
        kinetic = 8 / 7 * 2 / 3 * atoms.get_kinetic_energy()
        pressure = (kinetic + np.trace(found["virial"][0]) / 3) / volumes[row]
        want = units.GPA * pressure
        assert column("pressure")[row] == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_chains(run, given):
    """The energy with that of the chains is conserved, and told where it is."""
    given["ensemble"] = {"type": "nose-hoover", "relaxation_time": 5.0, "damping": 0}
    given |= {"steps": 40, "timestep": 0.1, "temperature": [300.0, 900.0]}
    run("md", write(given))
    change = column("e_conserved") - column("e_total")
    assert np.ptp(change[::2]) > 1e-2 and np.ptp(change[1::2]) > 1e-2
    for k in range(2):
        assert np.ptp(column("e_conserved")[k::2]) < 0.03 * np.ptp(change[k::2])
    given["ensemble"]["damping"] = 0.1
    run("md", write(given | {"steps": 1}))
    assert "e_conserved" not in Path("md.log").read_text()


def test_ramps(run, given):
    """In the log; in two parts as in one; what is on its way depends on the time."""
    given |= {
        "temperature": [[0, 300], [1, 300], [2, 100]],
        "field": [[0.5, 0, 0, 10], [1.5, 0, 20, -10]],
        "ensemble": ENSEMBLES["langevin"] | {"spin_temperature": [[1, 50], [3, 90]]},
        "seed": [3, 4],
    }
    run("md", write(given))
    whole, frames = lines(), [ase.io.read(f"md-{k}.extxyz") for k in range(2)]
    time = 1e3 * column("time")
    kelvin, spins = column("t_bath"), column("t_spin_bath")
    np.testing.assert_allclose(kelvin, np.interp(time, [1, 2], [300, 100]))
    np.testing.assert_allclose(spins, np.interp(time, [1, 3], [50, 90]))
    for axis, ends in (("x", [0, 0]), ("y", [0, 20]), ("z", [10, -10])):
        field = np.interp(time, [0.5, 1.5], ends)
        np.testing.assert_allclose(column(f"b_{axis}"), field, atol=1e-4)
        means = [column(f"m_{axis}")[-2 + k] for k in range(2)]
        want = [atoms.arrays["initial_magmoms"][:4].mean(axis=0) for atoms in frames]
        np.testing.assert_allclose(
            means, np.array(want)[:, "xyz".index(axis)], atol=1e-6
        )
    run("md", write(given | {"steps": 5}))
    run("md", write(given), "-r", "md.restart.npz")
    np.testing.assert_array_equal(lines(), whole)


def test_pressure_after_a_fixed_cell(run, given, capsys):
    """Files of other columns make way, trajectories of text go on."""
    given["output"]["trajectory"] = "md.h5"
    run("md", write(given | {"steps": 4}))
    first = Path("md.log").read_text()
    given["ensemble"] = ENSEMBLES["langevin"] | {"pressure": 0.0}
    run("md", write(given), "-r", "md.restart.npz")
    assert Path("previous-1/md.log").read_text() == first
    assert lines()[:, 0].tolist() == [5, 6, 7, 8]
    with h5py.File("md.h5") as file, h5py.File("previous-2/md.h5") as before:
        assert file["box"].shape == (2, 1, 3, 3)
        assert before["box"].shape == (3, 3) and before["step"][:].tolist() == [0, 2, 4]
    assert "lacks the frames of" in said(capsys)


def test_pressure_needs_a_crystal(run, given, files, capsys):
    given["ensemble"] = ENSEMBLES["langevin"] | {"pressure": 0.0}
    atoms = atoms_of(files)
    atoms.pbc = [True, True, False]
    atoms.write("slab.extxyz")
    given["structure"]["file"] = "slab.extxyz"
    run("md", write(given), status=1)
    assert "needs a structure that is periodic in three directions" in said(capsys)
    atoms.pbc = True
    atoms.set_constraint(ase.constraints.FixAtoms([2]))
    atoms.write("slab.extxyz")
    run("md", write(given), status=1)
    assert "fixes 1 of them, such as atom 2" in said(capsys)
    with pytest.raises(InputError, match="Run without --engine lammps"):
        run_dynamics(normalize_md(given), crew=object())


def test_hdf5_of_a_stopped_run(run, given, monkeypatch):
    """It has the frames that there are; the rest finds its place after a restart."""
    given["output"]["trajectory"] = "md.h5"
    run("md", write(given))
    with h5py.File("md.h5") as file:
        whole = {name: array[:] for name, array in file.items()}
    follow = Guard.follow

    def stop(self, before, state):
        follow(self, before, state)
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "follow", stop)
        run("md", write(given), status=128 + signal.SIGTERM)
    with h5py.File("md.h5") as file:
        assert file["step"][:].tolist() == [0, 2]
        assert {len(v) for v in file.values() if "unit" in v.attrs} == {2}
    run("md", write(given), "-r", "md.restart.npz")
    with h5py.File("md.h5") as file:
        assert set(file) == set(whole)
        for name, array in whole.items():
            np.testing.assert_array_equal(file[name][:], array, err_msg=name)


def test_no_trajectory(run, given):
    given["output"]["trajectory"] = None
    run("md", write(given))
    names = {p.name for p in Path().iterdir()}
    assert names == {"input.json", "out.json", "md.log", "md.restart.npz"}


def test_earlier_results_make_way(run, given, capsys):
    run("md", write(given))
    before = Path("md.log").read_bytes()
    run("md", write(given | {"seed": 9}))
    assert Path("previous-1/md.log").read_bytes() == before
    assert Path("previous-1/md.restart.npz").is_file()
    assert Path("md.log").read_bytes() != before
    assert "are now in 'previous-1'" in said(capsys)


def test_files_of_more_replicas_make_way(run, given):
    """Those of the run before, and no other's."""
    run("md", write(given | {"temperature": [300.0, 200.0, 100.0]}))
    Path("md-7.extxyz").write_text("of mine\n")
    frames = Path("md-2.extxyz").read_bytes()
    run("md", write(given | {"temperature": [300.0, 200.0]}))
    assert not Path("md-2.extxyz").exists()
    assert Path("previous-1/md-2.extxyz").read_bytes() == frames
    run("md", write(given))
    assert sorted(p.name for p in Path().glob("md*.extxyz")) == [
        "md-7.extxyz",
        "md.extxyz",
    ]
    assert {p.name for p in Path("previous-2").glob("*.extxyz")} == {
        "md-0.extxyz",
        "md-1.extxyz",
    }


def test_from_training_data_without_ase(run, given, monkeypatch):
    """A system of training data, into extended XYZ and HDF5."""
    from tiny import DATA

    given["structure"] = {"file": str(DATA / "valid/spin-files-16"), "frame": 2}
    given["steps"] = 2
    for name in [n for n in sys.modules if n.split(".")[0] == "ase"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ase", None)
    for trajectory in ("a.extxyz", "a.h5"):
        given["output"]["trajectory"] = trajectory
        run("md", write(given))
        assert Path(trajectory).stat().st_size > 0
    coord = np.load(DATA / "valid/spin-files-16/set.000/coord.npy")[2].reshape(-1, 3)
    with h5py.File("a.h5") as file:
        np.testing.assert_allclose(file["coord"][0, 0], coord, rtol=1e-6)
    given["output"]["trajectory"] = "a.traj"
    run("md", write(given), status=1)


# --- Stops ----------------------------------------------------------------------------


def test_neighbors_beyond_sel(run, given, capsys, make_model):
    """Without a bath refused, at once; with one told of."""
    model = make_model("NiO", sel=[4, 4])
    save_model(model, Path("few.keras"), METADATA)
    given["model"] = "few.keras"
    for ensemble in (
        {"type": "nve"},
        {"type": "spin", "damping": 0},
        {"type": "lattice", "relaxation_time": None},
    ):
        run("md", write(given | {"ensemble": ensemble}), status=1)
        text = said(capsys)
        assert re.search(r"`sel` leaves \d+ neighbours out", text)
        assert f'Received: "{ensemble["type"]}" without a bath' in text
        assert not Path("md.log").exists()
    run("md", write(given | {"timestep": 0.01}))
    assert "left out" in said(capsys)


def test_spins_beyond_training(run, given, capsys, files):
    narrow = METADATA | {"spin_range": {"Ni": [1.15, 1.2]}}
    import deepspin

    save_model(deepspin.load_model(files / "m.keras"), Path("n.keras"), narrow)
    given |= {"model": "n.keras", "steps": 300}
    given["ensemble"] = {"type": "tspin", "spin_mass": 1.0}
    run("md", write(given), status=1)
    text = said(capsys)
    assert re.search(r"Step \d+: the spin of atom \d of replica 0 has a modulus", text)
    assert "1.15 to 1.2" in text
    given["ensemble"]["beyond_range"] = "warn"
    given["steps"] = 3
    run("md", write(given))


def test_too_large_a_step(run, given, capsys):
    """Told with step, atom and a better step; the last good frame is there."""
    given |= {"timestep": 60.0, "ensemble": {"type": "lattice"}}
    run("md", write(given), status=1)
    text = said(capsys)
    assert re.search(
        r"Step 0: atom \d of replica 0 moves by [\d.]+ Å in a step. Received: a "
        r"timestep of 60 fs. Use [\d.]+ fs",
        text,
    )
    assert "The last good frame, of step 0, is in 'md.failed.extxyz'" in text
    assert "Go on from step 0 with -r md.restart.npz" in text
    good = ase.io.read("md.failed.extxyz")
    end = arrays("md.restart.npz")
    np.testing.assert_array_equal(good.positions, end["state.coord"][0])
    smaller = given | {"timestep": 0.2}
    run("md", write(smaller), "-r", "md.restart.npz")
    assert lines()[-1, 0] == 8


def test_spins_that_turn_too_far(run, given, capsys):
    given |= {"timestep": 5.0, "ensemble": {"type": "spin", "damping": 0}}
    given["field"] = [0, 0, 3000.0]
    run("md", write(given), status=1)
    text = said(capsys)
    assert re.search(r"turns by [\d.]+ radians in a step|did not converge", text)
    assert "md.failed.extxyz" in text


def test_failure_in_the_middle(run, given, capsys, monkeypatch):
    """The frame before it is kept, and the restart file before that works."""
    follow = Guard.follow

    def fail(self, before, state):
        follow(self, before, state)
        if state.step == 6:
            raise DynamicsError("Step 5: no.")

    monkeypatch.setattr(Guard, "follow", fail)
    given |= {"temperature": [300.0, 100.0]}
    run("md", write(given), status=1)
    assert "The last good frame, of step 5, is in 'md.failed-0.extxyz'" in said(capsys)
    assert int(arrays("md.restart.npz")["state.step"]) == 3
    assert lines()[-1, 0] == 5
    good = [ase.io.read(f"md.failed-{k}.extxyz") for k in range(2)]
    assert [atoms.info["step"] for atoms in good] == [5, 5]
    monkeypatch.setattr(Guard, "follow", follow)
    run("md", write(given), "-r", "md.restart.npz")
    assert lines()[-1, 0] == 8


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MAX_CHANGE", 1e-12, r"Step \d: the energy of replica 0 has changed by"),
        ("HOT", 0.1, r"Step 0: the atoms of replica 0 have"),
    ],
)
def test_numbers_that_cannot_be(name, value, message, run, given, capsys, monkeypatch):
    monkeypatch.setattr(f"deepspin.dynamics.md.guard.{name}", value)
    given |= {"ensemble": {"type": "nve"}, "initial_temperature": 400.0}
    run("md", write(given), status=1)
    text = said(capsys)
    assert re.search(message, text), text
    assert "such as 0.125 fs" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal(number, run, given, capsys, monkeypatch, whole):
    """The step is finished and saved; going on gives the whole run."""
    folder = whole(given)
    follow = Guard.follow

    def interrupt(self, before, state):
        follow(self, before, state)
        if state.step == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Guard, "follow", interrupt)
    run("md", write(given), status=128 + number)
    message = f"stopped by {number.name} after step 4; go on with -r md.restart.npz"
    assert message in said(capsys)
    monkeypatch.setattr(Guard, "follow", follow)
    run("md", write(given), "-r", "md.restart.npz")
    assert_same_run(folder, ("md.log", "md.extxyz"))


def test_signal_before_the_first_step(run, given, capsys, monkeypatch, whole):
    """It is noted as soon as there is a file to go on from."""
    folder = whole(given)
    begin = Simulation.begin

    def interrupt(self, *args):
        begin(self, *args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "begin", interrupt)
        run("md", write(given), status=128 + signal.SIGTERM)
    assert "stopped by SIGTERM after step 0; go on with -r" in said(capsys)
    run("md", write(given), "-r", "md.restart.npz")
    assert_same_run(folder, ("md.log", "md.extxyz"))


def test_hang_up_is_ignored_where_it_shall_be(run, given, monkeypatch):
    """As below `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    follow = Guard.follow

    def hang_up(self, *args):
        os.kill(os.getpid(), signal.SIGHUP)
        follow(self, *args)

    monkeypatch.setattr(Guard, "follow", hang_up)
    try:
        run("md", write(given))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert lines()[-1, 0] == 8


# --- Files that somebody else changes -------------------------------------------------


def frames_of(name: str) -> list[int]:
    """Steps of the frames in a trajectory or log."""
    path = Path(name)
    if path.suffix == ".log":
        return lines(name)[:, 0].astype(int).tolist()
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return [n for n in file["step"][:].tolist() if n >= 0]
    return [atoms.info["step"] for atoms in ase.io.read(path, ":")]


def shortened(path: Path) -> None:
    """Cut a file within its last part."""
    os.truncate(path, path.stat().st_size - 9)


HARMED = [
    (name, harm)
    for name in ("md.extxyz", "md.traj", "md.h5", "md.log")
    for harm in (Path.unlink, shortened)
]


def lost_frames(name: str, harm: Callable, text: str) -> list[int]:
    """Which frames of 0 to 4 a harmed file lacks, after what was said of it."""
    damaged = f"'{name}' is damaged and cannot be read: Unable to" in text
    assert damaged == ((name, harm) == ("md.h5", shortened))
    assert not damaged or Path("previous-1", name).exists()
    every = 1 if name == "md.log" else 2
    # a file of HDF5 that is cut off cannot be read at all
    lost = list(range(0, 5, every)) if harm is Path.unlink or damaged else [4]
    shown = "step 4" if len(lost) == 1 else "steps 0 to 4"
    assert f"'{name}' lacks the frames of {shown}" in text
    return lost


@pytest.mark.parametrize(("name", "harm"), HARMED)
def test_files_changed_under_a_run(name, harm, run, given, capsys, monkeypatch, whole):
    """The run goes on, says which frames are lost, and writes the others as before."""
    every = 1 if name == "md.log" else 2
    if every == 2:
        given["output"]["trajectory"] = name
    folder, follow = whole(given), Guard.follow
    said(capsys)

    def follow_and_harm(self, before, state):
        follow(self, before, state)
        if state.step == 5:  # after the frame of step 4
            harm(Path(name))

    monkeypatch.setattr(Guard, "follow", follow_and_harm)
    run("md", write(given))
    text = said(capsys)
    lost = lost_frames(name, harm, text)
    what = "was removed" if harm is Path.unlink else "was changed"
    assert f"'{name}' {what} by another program" in text
    assert frames_of(name) == [n for n in range(0, 9, every) if n not in lost]
    for other in {"md.log", "md.restart.npz"} - {name}:
        if other.endswith(".log"):
            assert_same_run(folder, (other,))
    end, theirs = arrays("md.restart.npz"), arrays(folder / "md.restart.npz")
    np.testing.assert_array_equal(end["state.coord"], theirs["state.coord"])


@pytest.mark.parametrize(("name", "harm"), HARMED)
def test_files_changed_before_a_restart(name, harm, run, given, capsys):
    every = 1 if name == "md.log" else 2
    if every == 2:
        given["output"]["trajectory"] = name
    run("md", write(given | {"steps": 4}))
    harm(Path(name))
    run("md", write(given), "-r", "md.restart.npz")
    lost = lost_frames(name, harm, said(capsys))
    assert frames_of(name) == [n for n in range(0, 9, every) if n not in lost]


@pytest.mark.parametrize("name", ["md.extxyz", "md.log"])
def test_damage_amid_the_frames(name, run, given, capsys):
    """What comes after it is cut off, but kept beside."""
    given["output"]["trajectory_freq"] = 1
    run("md", write(given | {"steps": 4}))
    path = Path(name)
    content = path.read_bytes()
    torn = content[: len(content) // 2] + b"?\n" + content[len(content) // 2 :]
    path.write_bytes(torn)
    run("md", write(given), "-r", "md.restart.npz")
    text = said(capsys)
    assert f"'{name}' is damaged after step" in text
    assert Path("previous-1", name).read_bytes() == torn
    kept = frames_of(name)
    first = re.search(rf"'{name}' lacks the frames of steps (\d) to 4", text)
    assert kept == [*range(int(first[1])), 5, 6, 7, 8]


def test_restart_of_a_run_that_began_later(run, given, capsys, tmp_path, monkeypatch):
    """Its files never had the frames of before."""
    run("md", write(given | {"steps": 5}))
    (tmp_path / "next").mkdir()
    monkeypatch.chdir(tmp_path / "next")
    given["output"]["trajectory_freq"] = 4
    run_here("md", write(given | {"steps": 6}), "-r", "../md.restart.npz")
    run_here("md", write(given), "-r", "md.restart.npz")
    assert "lacks" not in said(capsys)
    assert frames_of("md.extxyz") == [8]


def test_outputs_that_are_pipes_or_devices(run, given, tmp_path):
    """They get what a file would get; `out.json` is written at once."""
    import threading

    os.mkfifo("log")
    read = []

    def take():
        with open("log", "rb") as file:  # until the last writer has gone
            read.append(file.read())

    def keep_open():
        number = os.open("log", os.O_WRONLY)
        run("md", write(given))
        os.close(number)

    given["output"]["log"] = "log"
    thread = threading.Thread(target=take)
    thread.start()
    keep_open()
    thread.join()
    header, *rows = read[0].decode().splitlines()
    assert header.startswith("#")
    assert len(rows) == 10
    assert Path("log").is_fifo()


def test_full_disk(run, given, capsys, monkeypatch):
    from deepspin.dynamics.md import output
    from deepspin.utils.outputs import OutputError, append

    def full(path, text):
        if len(text.split()) and text.split()[0] == "5":
            raise OutputError("'md.log' cannot be written: No space left on device.")
        append(path, text)

    monkeypatch.setattr(output, "append", full)
    run("md", write(given), status=1)
    text = said(capsys)
    assert "No space left" in text
    assert "Go on from step 3 with -r md.restart.npz" in text


# --- Pictures -------------------------------------------------------------------------


@pytest.fixture
def figure(monkeypatch):
    """Run dp-spin plot and give the figure."""
    from deepspin.pictures import plots

    kept = []
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.append(figure))

    def draw(*args):
        run_here("plot", *args)
        return kept[-1]

    return draw


def titles(figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes]


def test_picture(run, given, figure):
    """Panels of what changes, a line for each replica, numbers of the log."""
    given |= {"temperature": [300.0, 100.0, 10.0]}
    given["spins"] = [{"direction": [0, 0, 1]}]
    run("md", write(given))
    picture = figure("md.log")
    assert titles(picture) == [
        "change of the total energy",
        "change of the potential energy",
        "temperature of the atoms",
        "temperature of the spins",
        "magnetisation",
        "staggered order",
    ]
    assert {axis.get_xlabel() for axis in picture.axes} == {"time (ps)"}
    assert [axis.get_ylabel() for axis in picture.axes[2:4]] == ["K", "K"]
    for axis, name in zip(
        (picture.axes[0], picture.axes[2]), ("e_total", "t_lattice"), strict=True
    ):
        values = column(name).reshape(-1, 3)
        values = values - values[0] * (name == "e_total")
        for line, expected in zip(axis.lines, values.T, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), column("time")[::3])
            np.testing.assert_array_equal(line.get_ydata(), expected)
    (legend,) = picture.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["replica 0", "replica 1", "replica 2"]


def test_picture_of_two_runs(run, given, figure):
    """Without panels of what they have not."""
    given |= {"ensemble": {"type": "spin"}}
    run("md", write(given))
    Path("md.log").rename("one.log")
    run("md", write(given | {"ensemble": ENSEMBLES["tspin"]}))
    picture = figure("one.log", "md.log", "--labels", "cold", "hot")
    assert titles(picture)[-1] == "mean |spin|"
    counts = [len(axis.lines) for axis in picture.axes]
    assert counts == [2, 2, 2, 2, 2, 1]
    assert [t.get_text() for t in picture.legends[0].get_texts()] == ["cold", "hot"]
    assert titles(figure("one.log")) == [
        "change of the total energy",
        "temperature of the spins",
        "magnetisation",
    ]


def test_picture_of_outliers(run, given, figure):
    """A wild temperature of one instant does not hide the others."""
    given["steps"] = 200
    given["output"]["trajectory"] = None
    given["ensemble"] = {"type": "spin"}
    run("md", write(given))
    path = Path("md.log")
    rows = path.read_text().split("\n")
    words = rows[50].split()
    wild = rows[50].replace(words[7], "-987654.3")
    path.write_text("\n".join([*rows[:50], wild, *rows[51:]]))
    axis = figure("md.log").axes[1]
    low, high = axis.get_ylim()
    assert low > -1e5
    assert high > np.median(column("t_spin"))


def test_options_of_pictures(run, given, capsys):
    run("md", write(given))
    run("plot", "md.log", "--log-x", status=1)
    assert "--log-x and --linear-y are for learning curves" in said(capsys)
    Path("d.fr.out").write_text(
        "# a: data_fx data_fy data_fz pred_fx pred_fy pred_fz\n"
    )
    with open("d.fr.out", "a") as file:
        file.write("1 2 3 1 2 3\n")
    run("plot", "md.log", "d.fr.out", status=1)
    assert "'d.fr.out' is a detail file, 'md.log' a log of dynamics" in said(capsys)
