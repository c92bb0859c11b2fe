# SPDX-License-Identifier: Apache-2.0
"""Trajectories: what a restart keeps of them."""

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.data.files import read_system
from deepspin.data.find import find_systems
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.output import Frame
from deepspin.dynamics.md.trajectory import (
    AseTrajectory,
    HDF5Trajectory,
    TextTrajectory,
    numbered,
    trajectory_of,
)

STEPS = (0, 2, 4, 6)


def frame(step, nrep=1):
    vectors = np.full((nrep, 2, 3), float(step))
    state = State(
        coord=vectors,
        spin=vectors + 1,
        mass=[58.693, 15.999],
        atype=[0, 1],
        step=step,
        time=step / 2,
    )
    return Frame(state, Response(np.arange(nrep) * 1.0, vectors, vectors), step)


STRUCTURE = Structure(
    names=("Ni", "O"),
    atype=np.array([0, 1]),
    coord=np.zeros((2, 3)),
    box=None,
    pbc=np.zeros(3, bool),
    spin=np.ones((2, 3)),
    mass=np.ones(2),
    fixed=np.zeros(2, bool),
)


def steps_in(path):
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file["step"][:].tolist()
    return [atoms.info["step"] for atoms in ase.io.read(path, ":")]


def test_one_for_each_suffix():
    for name, kind in {
        "a.extxyz": TextTrajectory,
        "a.xyz": TextTrajectory,
        "a.traj": AseTrajectory,
        "a.h5": HDF5Trajectory,
        "a.hdf5": HDF5Trajectory,
    }.items():
        assert type(trajectory_of(name, STRUCTURE, 1, STEPS)) is kind


def test_files_of_replicas():
    assert numbered(Path("b/a.xyz"), 1) == [Path("b/a.xyz")]
    assert numbered(Path("b/a.xyz"), 2) == [Path("b/a-0.xyz"), Path("b/a-1.xyz")]


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "h5"])
def test_cut_off_after_a_step(tmp_path, suffix):
    """Frames after the restart file's step go; new ones take their places."""
    path = tmp_path / f"a.{suffix}"
    writer = trajectory_of(str(path), STRUCTURE, 1, STEPS)
    writer.begin(None)
    for step in STEPS:
        writer.write(frame(step))
    writer.end()
    assert steps_in(path) == list(STEPS)
    again = trajectory_of(str(path), STRUCTURE, 1, (4, 6, 8))
    again.begin(3)
    for step in (4, 6, 8):
        again.write(frame(step))
    again.end()
    assert steps_in(path) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "h5"])
def test_read_as_a_system(tmp_path, suffix):
    """Bit for bit what was written, without periodicity."""
    path = tmp_path / f"a.{suffix}"
    writer = trajectory_of(str(path), STRUCTURE, 1, STEPS)
    writer.begin(None)
    for step in STEPS:
        writer.write(frame(step))
    writer.end()
    (found,) = find_systems(str(path))
    head, (part,) = read_system(found)
    assert head["type_map.raw"] == ["Ni", "O"]
    assert "nopbc" in head
    wanted = np.repeat(np.array(STEPS, float)[:, None], 6, axis=1)
    for name, values in {
        **{"coord": wanted, "force": wanted, "force_mag": wanted},
        **{"spin": wanted + 1, "energy": np.zeros(4)},
    }.items():
        np.testing.assert_array_equal(part.arrays[name], values, err_msg=name)


def test_torn_frames_go(tmp_path):
    """A text file that was cut anywhere keeps whole frames only."""
    path = tmp_path / "a.extxyz"
    writer = TextTrajectory(str(path), STRUCTURE, 1)
    writer.begin(None)
    writer.write(frame(0))
    whole = path.read_bytes()
    writer.write(frame(2))
    both = path.read_bytes()
    for end in range(len(whole), len(both)):
        path.write_bytes(both[:end])
        writer.begin(2)
        assert path.read_bytes() == whole
    path.write_bytes(both)
    writer.begin(2)
    assert path.read_bytes() == both


def test_hdf5_ends_with_its_frames(tmp_path):
    """Places of frames that never came are given up."""
    path = tmp_path / "a.h5"
    writer = HDF5Trajectory(str(path), STRUCTURE, STEPS)
    writer.begin(None)
    writer.write(frame(0, nrep=3))
    assert steps_in(path) == [0, -1, -1, -1]
    writer.end()
    assert steps_in(path) == [0]
    with h5py.File(path) as file:
        assert file["coord"].shape == (1, 3, 2, 3)
        assert file["force_mag"].attrs["unit"] == "eV/μ_B"
