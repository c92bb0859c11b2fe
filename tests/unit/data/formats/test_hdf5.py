# SPDX-License-Identifier: Apache-2.0
"""Trajectories of dynamics in HDF5."""

import h5py
import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.formats import hdf5


@pytest.fixture
def path(tmp_path):
    """Two frames of two replicas, and a place that was never written."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["type_map"] = [b"O", b"Ni"]
        file["atype"] = [1, 0]
        file["pbc"] = [True] * 3
        file["box"] = 4 * np.eye(3)
        file["step"] = [0, 10, -1]
        file["time"] = [0.0, 20.0, 0.0]
        for name in ("coord", "spin", "force", "force_mag"):
            file[name] = rng.normal(size=(3, 2, 2, 3))
        file["energy"] = rng.normal(size=(3, 2))
    return tmp_path / "a.h5"


def test_frames_and_replicas(path):
    found = list(hdf5.read(path))
    assert [frame.place for frame in found] == [
        f"frame {k}, replica {r} of '{path}'" for k in (0, 1) for r in (0, 1)
    ]
    with h5py.File(path) as file:
        for frame, (k, r) in zip(found, np.ndindex(2, 2), strict=True):
            assert frame.symbols == ("Ni", "O")
            np.testing.assert_array_equal(frame.coord, file["coord"][k, r])
            for name in ("spin", "energy", "force", "force_mag"):
                np.testing.assert_array_equal(frame.arrays[name], file[name][k, r])
    assert hdf5.matches(path)
    assert [row.time for row in hdf5.rows(path)] == [0.0, 20.0]


def test_open_boundaries(path):
    with h5py.File(path, "r+") as file:
        file["pbc"][:] = False
    assert next(hdf5.read(path)).cell is None
    with h5py.File(path, "r+") as file:
        file["pbc"][:] = [True, False, True]
    with pytest.raises(DataError, match="periodic in some directions only"):
        next(hdf5.read(path))


def test_other_files(tmp_path, path):
    with h5py.File(path, "r+") as file:
        del file["spin"]
    assert not hdf5.matches(path)
    with pytest.raises(DataError, match="is no trajectory of dp-spin md"):
        list(hdf5.read(path))
    (tmp_path / "b.h5").write_text("text")
    assert not hdf5.matches(tmp_path / "b.h5")
