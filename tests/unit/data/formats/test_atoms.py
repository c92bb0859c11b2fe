# SPDX-License-Identifier: Apache-2.0
"""ASE's trajectories and data bases, with spins of every shape."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io.trajectory import Trajectory

from deepspin.data.files import DataError
from deepspin.data.formats import atoms
from deepspin.data.formats.frame import Dropped, Frame

SPIN = np.array([[0.5, -1, 2], [0, 0.25, 0]])
FORCE = np.array([[1.0, 2, 3], [-1, -2, -3]])


def make(spin=SPIN, **results):
    found = Atoms("NiO", [[0, 0, 0], [0, 0, 2.0]], cell=[4, 5, 6], pbc=True)
    if spin is not None:
        found.set_initial_magnetic_moments(spin)
    found.calc = SinglePointCalculator(found, energy=-2.0, forces=FORCE, **results)
    return found


def read(path):
    reader = atoms.read_trajectory if path.suffix == ".traj" else atoms.read_database
    return list(reader(path, {}))


def save(path, found, **more):
    if path.suffix == ".traj":
        with Trajectory(path, "w") as file:
            file.write(found)
    else:
        connect(path).write(found, **more)


@pytest.fixture(params=["a.traj", "a.db"])
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (SPIN, SPIN),
        (SPIN[:, 2], SPIN * [0, 0, 1]),
        (SPIN[:, 2:], SPIN * [0, 0, 1]),
        (None, None),
    ],
)
def test_spins_of_every_shape(path, given, wanted):
    """A data base flattens them to (6,)."""
    save(path, make(given))
    (frame,) = read(path)
    assert frame.symbols == ("Ni", "O")
    np.testing.assert_array_equal(frame.cell, np.diag([4.0, 5, 6]))
    assert frame.arrays["energy"] == -2.0
    np.testing.assert_array_equal(frame.arrays["force"], FORCE)
    if wanted is None:
        assert "spin" not in frame.arrays
    else:
        np.testing.assert_array_equal(frame.arrays["spin"], wanted)


def test_moments_that_a_calculation_ended_with(path):
    save(path, make(-SPIN, magmoms=SPIN))
    (frame,) = read(path)
    np.testing.assert_array_equal(frame.arrays["spin"], SPIN)


def test_what_users_gave_with_a_row(tmp_path):
    path = tmp_path / "a.db"
    save(path, make(), data={"force_mag": 2 * SPIN})
    save(path, make(), key_value_pairs={"scf_converged": False})
    one, two = read(path)
    np.testing.assert_array_equal(one.arrays["force_mag"], 2 * SPIN)
    assert isinstance(two, Dropped)
    assert two.place == f"row 2 of '{path}'"
    assert "not converged" in two.reason


def test_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "spin": rng.normal(size=(2, 3)),
        "energy": np.array(-1 / 3),
        "force": rng.normal(size=(2, 3)),
        "force_mag": rng.normal(size=(2, 3)),
        "virial": rng.normal(size=(3, 3)),
        "atom_ener": rng.normal(size=2),
        "fparam": rng.normal(size=3),
    }
    cell = 5 * np.eye(3) + rng.normal(size=(3, 3))
    given = [
        Frame("", ("Ni", "O"), rng.normal(size=(2, 3)), cell, arrays),
        Frame("", ("Ni",), rng.normal(size=(1, 3)), None, {}),
    ]
    atoms.write_trajectory(tmp_path / "a.traj", given)
    for found, frame in zip(read(tmp_path / "a.traj"), given, strict=True):
        assert found.symbols == frame.symbols
        np.testing.assert_array_equal(found.coord, frame.coord)
        assert (found.cell is None) == (frame.cell is None)
        assert found.arrays.keys() == frame.arrays.keys()
        for name, array in frame.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


def test_types_that_are_no_elements(tmp_path):
    frame = Frame("frame 3", ("Ni_up",), np.zeros((1, 3)), None, {})
    with pytest.raises(DataError, match=r"frame 3 has atoms of Ni_up.*elements only"):
        atoms.write_trajectory(tmp_path / "a.traj", [frame])


def test_damaged_files(path):
    save(path, make())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"ASE cannot read .*'{path}': .*it again"):
        read(path)


def test_without_ase(path, monkeypatch):
    path.touch()
    for name in ("ase.io", "ase.db"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"'{path}' needs ASE, which is not inst"):
        read(path)


def test_formats_by_name_and_head(tmp_path):
    (tmp_path / "Thumbs.db").write_text("no data base")
    assert not atoms.is_database(tmp_path / "Thumbs.db")
    save(tmp_path / "a.db", make())
    assert atoms.is_database(tmp_path / "a.db")
    assert not atoms.is_trajectory(tmp_path)
