# SPDX-License-Identifier: Apache-2.0
"""``dp-spin relax``: what it reads, writes, tells and refuses."""

import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.filters import UnitCellFilter
from ase.optimize import BFGS

import deepspin
from deepspin.atoms.structures import load_structure, save_structure
from deepspin.dynamics.relax import manifold
from deepspin.entrypoints.relax import relax
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.pictures.tables import read_table


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, make_structure):
    """Folder with a model and a structure of 8 atoms for it."""
    folder = tmp_path_factory.mktemp("relax")
    model = make_model("NiO", type_one_side=True)
    save_model(model, folder / "m.keras")
    save_model(make_model("NiO", precision="float32"), folder / "single.keras")
    atoms = make_structure(model)
    save_structure(folder / "s.extxyz", [atoms])
    cluster = replace(atoms, box=None, pbc=np.zeros(3, bool))
    save_structure(folder / "open.extxyz", [cluster])
    save_structure(folder / "bare.extxyz", [replace(atoms, spin=None)])
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)


def options(**changes):
    return {"structure": "s.extxyz", "model": "m.keras", **changes}


def read(file="relaxed.extxyz", frame=-1):
    return load_structure(file, deepspin.DeepSpin("m.keras"), frame)


def test_spins(here, caplog):
    """Only spins, of some: what is written is where nothing turns them."""
    caplog.set_level(logging.INFO)
    end = relax(**options(fix_atoms=["all"], fix_spins=["2"], tmax=1e-6))
    found, begun = read(), read("s.extxyz")
    np.testing.assert_array_equal(found.coord, begun.coord)
    np.testing.assert_array_equal(found.spin[2], begun.spin[2])
    potential = deepspin.DeepSpin("m.keras")
    result = potential.eval(found.coord, found.box, found.atype, found.spin)
    torque = np.cross(found.spin, result["force_mag"][0])[[0, 1, 3]]
    assert np.abs(torque).max() < 2e-6
    atoms = ase.io.read("relaxed.extxyz")
    assert atoms.get_potential_energy() == result["energy"][0] == end.energy[0]
    np.testing.assert_array_equal(atoms.get_forces(), result["force"][0])
    np.testing.assert_array_equal(atoms.arrays["force_mag"], result["force_mag"][0])
    assert atoms.info["converged"] and atoms.info["steps"] == end.steps[0]
    lines = [line for line in caplog.messages if line.split()[0].isdigit()]
    assert len(lines) == 1 + end.steps[0] + 1  # steps from 0, and "1 of 1 converged"
    assert "1 of 1 converged" in caplog.text
    assert "atoms: moved up to 0.0000 Å" in caplog.text
    assert "spins of Ni: |S|" in caplog.text
    assert caplog.messages[-1] == "wrote 'relaxed.extxyz' and 'relaxed.log'"


def test_again(here):
    """What is relaxed stays where it is."""
    first = relax(**options(fix_atoms=["all"]))
    again = relax(**options(structure="relaxed.extxyz", fix_atoms=["all"], force=True))
    assert first.steps[0] > 0 and again.steps[0] == 0
    np.testing.assert_array_equal(first.spin, again.spin)


def test_collinear(here):
    """Moduli of some, on an axis; .traj holds it all."""
    relax(
        **options(
            output="a.traj",
            fix_atoms=["0-3", "O"],
            spins="collinear",
            axis=[1, 2, 2],
            fix_spins=["1"],
            tmax=1e-5,
        )
    )
    found, begun = read("a.traj").spin[:4], read("s.extxyz").spin[:4]
    np.testing.assert_allclose(np.cross(found, [1, 2, 2]), 0, atol=1e-12)
    size, before = np.linalg.norm([found, begun], axis=2)
    assert abs(size[1] - before[1]) < 1e-14
    assert np.abs(size - before)[[0, 2, 3]].min() > 1e-6
    assert ase.io.read("a.traj").info["force_mag"].shape == (8, 3)


def test_cell(here, caplog):
    caplog.set_level(logging.INFO)
    relax(**options(cell=True, fix_atoms=["all"], smax=0.1))
    found, begun = read(), read("s.extxyz")
    potential = deepspin.DeepSpin("m.keras")
    virial = potential.eval(found.coord, found.box, found.atype, found.spin)["virial"]
    stress = -(virial[0] + virial[0].T) / 2 / np.linalg.det(found.box) * 160.2176634
    assert np.abs(stress).max() < 0.1
    place = [s.coord @ np.linalg.inv(s.box) for s in (found, begun)]
    np.testing.assert_allclose(*place, atol=1e-12)
    assert "cell: volume" in caplog.text
    assert "atoms: moved up to 0.0000 Å" in caplog.text


def test_pressure(here, caplog):
    """The same cell as under ASE's filter; energy and stress are without pressure."""
    caplog.set_level(logging.INFO)
    words = {"cell": True, "spins": "fixed", "fix_atoms": ["all"], "smax": 1e-6}
    end = relax(**options(**words, pressure=2.0))
    assert end.converged.all()
    found = ase.io.read("relaxed.extxyz")
    np.testing.assert_allclose(
        found.get_stress(voigt=False) * 160.2176634, -2.0 * np.eye(3), atol=1e-6
    )
    load, again = 2.0 / 160.2176634, found.copy()
    again.set_cell(again.cell.array @ (np.eye(3) + 0.01), scale_atoms=True)
    again.calc = deepspin.DeepSpinCalculator("m.keras")
    cell = UnitCellFilter(again, scalar_pressure=load)
    forces = cell.get_forces  # atoms stay where they are in the cell
    cell.get_forces = lambda: np.vstack([np.zeros((8, 3)), forces()[8:]])
    assert BFGS(cell, logfile=None).run(fmax=1e-8, steps=300)
    # the two turn the cell against the spins by a little, which costs energy
    np.testing.assert_allclose(found.cell.lengths(), again.cell.lengths(), rtol=1e-4)
    np.testing.assert_allclose(found.cell.angles(), again.cell.angles(), rtol=1e-4)
    enthalpy = again.get_potential_energy() + load * again.get_volume()
    assert found.info["enthalpy"] == pytest.approx(enthalpy, abs=2e-6)
    enthalpy = found.get_potential_energy() + load * found.get_volume()
    assert found.info["enthalpy"] == pytest.approx(enthalpy, rel=1e-12)
    assert "step, enthalpy (eV)" in caplog.text and "pressure 2.000" in caplog.text


def test_starts(here, caplog):
    """All states that were found, the lowest last."""
    caplog.set_level(logging.INFO)
    wanted = options(fix_atoms=["all"], starts=5, seed=2, output="g.xyz", tmax=1e-6)
    end = relax(**wanted)
    assert end.nrep == 5 and end.converged.all()
    images = ase.io.read("g.xyz", ":")
    energies = [atoms.get_potential_energy() for atoms in images]
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] == end.energy.min()
    assert sum(atoms.info["found"] for atoms in images) == 5
    assert "5 of 5 converged" in caplog.text
    np.testing.assert_array_equal(read("g.xyz").spin, end.spin[np.argmin(end.energy)])
    single = relax(**options(fix_atoms=["all"], tmax=1e-6))
    np.testing.assert_allclose(single.energy[0], end.energy[0], rtol=1e-12)


def test_log(here):
    """A line for each step of each start; dp-spin plot reads it."""
    seen = relax(**options(fix_atoms=["all"], starts=3, steps=4, output="g.xyz"))
    table = read_table(Path("g.log"))
    assert table.kind == "relaxation"
    replicas = table.replicas()
    for k, columns in enumerate(replicas):
        np.testing.assert_array_equal(columns["step"], np.arange(seen.steps[k] + 1))
        assert columns["energy"][-1] == pytest.approx(seen.energy[k], abs=1e-8)
        assert columns["tmax"][-1] == pytest.approx(seen.tmax[k], rel=1e-3)
        assert (np.diff(columns["enthalpy"]) <= 1e-8).all()
    assert len(replicas) == 3
    assert main(["plot", "g.log"]) == 0
    assert Path("g.png").stat().st_size > 10_000


def test_not_converged(here, caplog):
    end = relax(**options(fix_atoms=["all"], steps=1))
    assert not end.converged[0]
    assert "1 of 1 did not converge in 1 steps" in caplog.text
    assert not ase.io.read("relaxed.extxyz").info["converged"]


def test_single_precision(here, caplog):
    """Limits within reach are met; others are said to be out of it."""
    wanted = options(model="single.keras", fix_atoms=["all"])
    assert relax(**wanted, tmax=1e-4, output="1.xyz").converged.all()
    end = relax(**wanted, tmax=1e-10, output="2.xyz")
    assert end.stalled.all() and end.tmax[0] < 1e-5
    assert "find no way further down" in caplog.text and "(float32)" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_loses_nothing(here, monkeypatch, capsys, number):
    """The step is finished, and what there is then written."""
    moves, move = [], manifold.Space.move

    def signalled(*args):
        moves.append(1)
        if len(moves) == 6:
            os.kill(os.getpid(), number)
        return move(*args)

    monkeypatch.setattr(manifold.Space, "move", signalled)
    words = ["relax", "s.extxyz", "-m", "m.keras", "--fix-atoms", "all"]
    assert main(words) == 128 + number
    assert "stopped; wrote 'relaxed.extxyz', which is not" in capsys.readouterr().err
    atoms = ase.io.read("relaxed.extxyz")
    assert not atoms.info["converged"] and atoms.info["steps"] > 0
    assert signal.getsignal(number) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("s.extxyz -o a.vasp", "'a.vasp' must end in .extxyz, .xyz, .traj"),
        ("s.extxyz -o s.extxyz", "'s.extxyz' exists. Choose another output"),
        ("s.extxyz --axis 0 0 1", "goes with --spins collinear. Received: 0 0 1 with"),
        ("s.extxyz --spins collinear --axis 0 0 0", "takes 3 numbers, not all 0"),
        (
            "s.extxyz --fmax 0",
            "--fmax, --tmax and --smax must be above 0. Received: 0 ",
        ),
        ("s.extxyz --pressure 2", "goes with --cell. Received: 2 without --cell"),
        (
            "s.extxyz --cell --pressure nan",
            "finite number of GPa, and goes with --cell. Received: nan with",
        ),
        ("s.extxyz --steps -1", "not negative. Received: 1, -1, 0"),
        ("s.extxyz --starts 0", "--starts must be 1 or more"),
        ("s.extxyz --starts 2 --spins fixed", "--starts needs spins that may change"),
        ("s.extxyz --fix-atoms all --spins fixed", "Nothing may change"),
        ("s.extxyz --fix-atoms 8", "numbers from 0 to 7, ranges such as 0-3, types"),
        ("s.extxyz --fix-spins Fe", "types (Ni, O) or all. Received: Fe"),
        ("open.extxyz --cell", "periodic in three directions. Received: F F F"),
        ("bare.extxyz", "no spins, but atoms of Ni need them"),
        ("absent.xyz", "No structure: 'absent.xyz' does not exist"),
        ("s.extxyz --fparam 1", "The model takes no frame parameters"),
    ],
)
def test_mistakes(here, words, message, capsys):
    assert main(["relax", *words.split(), "-m", "m.keras"]) == 1
    assert message in capsys.readouterr().err
