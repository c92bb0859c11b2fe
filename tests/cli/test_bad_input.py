# SPDX-License-Identifier: Apache-2.0
"""The same five mistakes, however a model is used: each way has an answer to each."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import ase
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from deepspin import DeepSpin, DeepSpinCalculator
from deepspin.dynamics import DynamicsError
from deepspin.dynamics.atoms import SpinLatticeDynamics
from deepspin.main import main
from deepspin.modelfiles.archive import save_model

WAYS = ("eval", "ase", "relax", "md", "dynamics")
METADATA = {
    "spin_range": {"Ni": [0.9, 1.5]},
    "nearest": {"Ni": {"Ni": 2.4, "O": 1.5}, "O": {"Ni": 1.5, "O": 2.4}},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory, make_model):
    path = tmp_path_factory.mktemp("models") / "m.keras"
    save_model(make_model("NiO"), path, METADATA)
    return str(path)


@pytest.fixture
def atoms(make_model, make_nio, tmp_path, monkeypatch):
    """Eight atoms in an empty folder."""
    monkeypatch.chdir(tmp_path)
    frame = make_nio(make_model("NiO"))
    symbols = np.where(frame.atype == 0, "Ni", "O")
    found = ase.Atoms(symbols, frame.coord, cell=frame.box, pbc=True)
    found.set_initial_magnetic_moments(frame.spin * frame.magnetic[:, None])
    return found


@pytest.fixture
def use(file, capsys, caplog):
    """Use a model in one of the `WAYS`; returns what it says."""

    def call(way: str, atoms: ase.Atoms, timestep: float = 0.2) -> str:
        caplog.clear()
        caplog.set_level(logging.WARNING, logger="deepspin")
        try:
            WAY[way](atoms, timestep)
        except (ValueError, DynamicsError) as error:
            return str(error)
        return " ".join([caplog.text, capsys.readouterr().err])

    def ask(atoms, timestep):
        moments = atoms.arrays.get("initial_magmoms", np.zeros((len(atoms), 0)))
        symbols = atoms.get_chemical_symbols()
        DeepSpin(file).eval(atoms.positions, atoms.cell.array, symbols, moments)

    def move(kind):
        def run(atoms, timestep):
            atoms.calc = DeepSpinCalculator(file)
            kind(atoms, timestep * units.fs).run(20)

        return run

    def relax(atoms, timestep):
        atoms.write("s.extxyz")
        main(["relax", "s.extxyz", "-m", file, "--fmax", "9", "--tmax", "9"])

    def md(atoms, timestep):
        atoms.write("s.extxyz")
        options = {
            "model": file,
            "structure": {"file": "s.extxyz"},
            "ensemble": {"type": "nve"},
            "temperature": 300,
            "timestep": timestep,
            "steps": 2,
            "seed": 1,
        }
        Path("md.json").write_text(json.dumps(options))
        main(["md", "md.json"])

    WAY = {
        "eval": ask,
        "ase": move(VelocityVerlet),
        "dynamics": move(SpinLatticeDynamics),
        "relax": relax,
        "md": md,
    }
    return call


@pytest.mark.parametrize("way", WAYS)
def test_without_mistake(way, use, atoms):
    said = use(way, atoms)
    assert "error" not in said and "warning" not in said.lower(), said


@pytest.mark.parametrize("way", WAYS)
def test_spin_of_zero(way, use, atoms):
    atoms.arrays["initial_magmoms"][2] = 0.0
    said = use(way, atoms)
    assert "Atom 2 of frame 0 has |spin| = 0, but type 'Ni' is a spin type" in said


@pytest.mark.parametrize("way", WAYS)
def test_no_moments(way, use, atoms):
    del atoms.arrays["initial_magmoms"]
    said = use(way, atoms)
    if way == "eval":
        assert "`spins` must have the shape (frames, 8, 3)" in said
    else:
        assert "Ni" in said and "no " in said
        assert "atoms.set_initial_magnetic_moments(" in said


@pytest.mark.parametrize("way", WAYS)
def test_unknown_type(way, use, atoms):
    atoms.symbols[0] = "Fe"
    said = use(way, atoms)
    assert "Fe" in said
    assert "0 for Ni, 1 for O" in said if way == "eval" else "knows Ni, O" in said


@pytest.mark.parametrize("way", WAYS)
def test_near_atoms(way, use, atoms):
    """Told of, not refused: who compresses a crystal wants to see what comes."""
    first, second = np.flatnonzero(atoms.numbers == 28)[:2]
    apart = atoms.get_distance(first, second, mic=True, vector=True)
    atoms.positions[second] = atoms.positions[first] + 1.3 * apart / np.linalg.norm(
        apart
    )
    said = use(way, atoms, timestep=1e-6)
    assert "nearer than any in training (1.5000 Å)" in said
    assert "is a guess" in said


@pytest.mark.parametrize("way", ["md", "dynamics"])
def test_too_large_a_step(way, use, atoms):
    """The step is refused, atoms and spins stay as they were before."""
    said = use(way, atoms, timestep=300.0)
    assert "Step 0: " in said and "Received: a timestep of 300 fs. Use" in said


def test_too_large_a_step_of_others(use, atoms):
    """ASE's own dynamics makes it; what comes of it is refused."""
    atoms.set_momenta(np.full((8, 3), 1e6))
    said = use("ase", atoms, timestep=1e4)
    assert "lattice vectors away from the cell" in said


@pytest.mark.parametrize("way", WAYS)
def test_moments_of_another_shape(way, use, atoms):
    atoms.arrays["initial_magmoms"] = np.ones((8, 2))
    said = use(way, atoms)
    assert re.search(
        r"must (be|have the shape) .*3.* Received: \((1, )?8, 2\)", said
    ), said


@pytest.mark.parametrize("way", WAYS)
def test_moments_that_are_no_numbers(way, use, atoms):
    atoms.arrays["initial_magmoms"][3, 1] = np.nan
    assert re.search("`spins?` .*has values that are NaN", use(way, atoms))
