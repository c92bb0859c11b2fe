# SPDX-License-Identifier: Apache-2.0
"""Atoms with spins, from files and to files."""

import sys
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import small_data
from ase import Atoms
from ase.constraints import FixAtoms, FixedLine

import deepspin
from deepspin.atoms.structures import (
    Structure,
    extended_xyz,
    load_structure,
    save_structure,
)
from deepspin.data.files import DataError
from deepspin.utils.outputs import OutputError


@pytest.fixture(scope="module")
def potential(make_model):
    return deepspin.DeepSpin(make_model("NiO", type_one_side=True))


@pytest.fixture
def structure(potential, make_nio):
    frame = make_nio(potential.model)
    spin = frame.spin * frame.magnetic[:, None]
    return Structure(
        names=("Ni", "O"),
        atype=frame.atype,
        coord=frame.coord,
        box=frame.box,
        pbc=np.ones(3, bool),
        spin=spin,
        mass=np.where(frame.atype == 0, 58.693, 15.999),
        fixed=np.arange(8) == 5,
    )


def atoms_of(structure):
    return Atoms(
        structure.symbols,
        positions=structure.coord,
        cell=structure.box,
        pbc=structure.pbc,
        magmoms=structure.spin,
    )


def assert_same(found, wanted):
    for name in ("atype", "coord", "box", "pbc", "spin", "mass", "fixed"):
        np.testing.assert_array_equal(
            getattr(found, name), getattr(wanted, name), err_msg=name
        )
    assert found.names == wanted.names


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz", ".traj"])
def test_round_trip(tmp_path, potential, structure, suffix):
    """Every bit comes back, through ASE, and so do results."""
    file = tmp_path / f"a{suffix}"
    rng = np.random.default_rng(0)
    result = potential.eval(
        structure.coord, structure.box, structure.atype, structure.spin
    )
    results = {
        "energy": result["energy"][0],
        "force": result["force"][0],
        "force_mag": result["force_mag"][0],
        "virial": result["virial"][0],
        "velocity": rng.normal(size=(8, 3)),
        "step": 7,
    }
    other = replace(structure, coord=structure.coord + 0.1)
    save_structure(file, [other, structure], [{}, results])
    assert_same(load_structure(file, potential), structure)
    assert_same(load_structure(file, potential, 0), other)
    atoms = ase.io.read(file)
    np.testing.assert_array_equal(
        atoms.get_forces(apply_constraint=False), result["force"][0]
    )
    others = atoms.info if suffix == ".traj" else atoms.arrays
    np.testing.assert_array_equal(others["force_mag"], result["force_mag"][0])
    np.testing.assert_array_equal(others["velocity"], results["velocity"])
    assert atoms.get_potential_energy() == result["energy"][0]
    assert atoms.info["step"] == 7
    virial = result["virial"][0]
    np.testing.assert_allclose(
        atoms.get_stress(voigt=False) * atoms.get_volume(),
        -(virial + virial.T) / 2,
        rtol=1e-12,
        atol=1e-14,
    )


def test_open_boundaries(tmp_path, potential, structure):
    open_ = replace(structure, box=None, pbc=np.zeros(3, bool), fixed=np.zeros(8, bool))
    save_structure(tmp_path / "a.xyz", [open_])
    found = load_structure(tmp_path / "a.xyz", potential)
    assert found.box is None
    assert_same(found, open_)
    assert "Lattice" not in extended_xyz(open_, {"virial": np.eye(3)})


@pytest.mark.parametrize("shape", ["N x 3", "N"])
@pytest.mark.parametrize("name", ["initial_magmoms", "spin"])
def test_moments(tmp_path, potential, structure, caplog, name, shape):
    """Of types without spin they do not count."""
    atoms = atoms_of(structure)
    spin = atoms.arrays.pop("initial_magmoms") + (structure.atype == 1)[:, None]
    atoms.arrays[name] = spin if shape == "N x 3" else spin[:, 2]
    ase.io.write(tmp_path / "a.extxyz", atoms)
    found = load_structure(tmp_path / "a.extxyz", potential)
    wanted = structure.spin if shape == "N x 3" else structure.spin * [0, 0, 1]
    np.testing.assert_allclose(found.spin, wanted, atol=1e-8)
    assert ("along z" in caplog.text) == (shape == "N")


def test_constraints(tmp_path, potential, structure, caplog):
    atoms = atoms_of(structure)
    atoms.set_masses(np.arange(1.0, 9.0))
    atoms.set_constraint([FixAtoms([1, 3]), FixedLine([2], [1, 0, 0])])
    ase.io.write(tmp_path / "a.traj", atoms)
    found = load_structure(tmp_path / "a.traj", potential)
    np.testing.assert_array_equal(np.flatnonzero(found.fixed), [1, 3])
    assert found.mass.tolist() == list(range(1, 9))
    assert "FixedLine is ignored" in caplog.text


@pytest.mark.parametrize("layout", ["spin files", "virtual atoms"])
def test_systems(tmp_path, potential, layout):
    arrays, types = small_data.frames(nframes=3)
    wanted = {name: arrays[name][1] for name in ("coord", "spin")}
    if layout == "virtual atoms":
        arrays, types = small_data.with_virtual_atoms(arrays, types)
    path = small_data.write(tmp_path / "system", arrays, types)
    found = load_structure(path, potential, 1)
    np.testing.assert_array_equal(found.coord, wanted["coord"])
    np.testing.assert_allclose(found.spin, wanted["spin"], atol=1e-12)
    np.testing.assert_array_equal(found.box, small_data.LATTICE * np.eye(3))
    assert found.symbols == ["Ni"] * 4 + ["O"] * 4
    assert found.mass.tolist() == [58.693] * 4 + [15.999] * 4
    with pytest.raises(DataError, match=r"has 3 frames. Received: 3"):
        load_structure(path, potential, 3)
    small_data.write(tmp_path / "other", arrays, types)
    with pytest.raises(DataError, match=r"has 2 systems.*Name one of them"):
        load_structure(tmp_path, potential)


def test_mistakes(tmp_path, potential, structure, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"'.*absent' does not exist"):
        load_structure(tmp_path / "absent", potential)
    file = tmp_path / "a.xyz"
    save_structure(file, [structure])
    with pytest.raises(DataError, match=r"cannot read frame 2 of"):
        load_structure(file, potential, 2)
    file.write_text("nothing")
    with pytest.raises(DataError, match=r"ASE cannot read frame -1 of"):
        load_structure(file, potential)
    atoms = atoms_of(structure)
    ase.io.write(tmp_path / "b.xyz", Atoms("FeNi", magmoms=[1, 2]))
    with pytest.raises(DataError, match=r"has atoms of Fe; the model knows Ni, O"):
        load_structure(tmp_path / "b.xyz", potential)
    atoms.arrays["spin"] = 2 * structure.spin
    ase.io.write(file, atoms)
    with pytest.raises(DataError, match=r"two kinds of spins, which differ"):
        load_structure(file, potential)
    with pytest.raises(OutputError, match=r"'a.vasp' must end in .extxyz, .xyz, .traj"):
        save_structure("a.vasp", [structure])
    monkeypatch.setitem(sys.modules, "ase.io", None)
    with pytest.raises(ImportError, match=r"a.xyz' needs ASE, which is not installed"):
        load_structure(file, potential)


def test_no_spins(tmp_path, potential, structure):
    ase.io.write(tmp_path / "a.cif", Atoms("Ni", cell=[3, 3, 3], pbc=True))
    found = load_structure(tmp_path / "a.cif", potential)
    assert found.spin is None
    with pytest.raises(DataError, match=r"no spins, but atoms of Ni need them"):
        found.with_spins(np.ones(1, bool))
    assert not found.with_spins(np.zeros(1, bool)).spin.any()
    assert structure.with_spins(structure.atype == 0) is structure
