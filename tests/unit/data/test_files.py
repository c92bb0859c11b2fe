# SPDX-License-Identifier: Apache-2.0
"""Where systems are found, and files that cannot be read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from layouts import (
    ATYPE,
    assert_same,
    load,
    make,
    write_hdf5,
    write_npy,
    write_raw,
)

from deepspin.data.files import DataError
from deepspin.data.find import find_systems


def test_raw_errors(tmp_path):
    path = write_raw(tmp_path / "s", ATYPE, make())
    (tmp_path / "s/energy.raw").write_text("1 2\n3\n")
    with pytest.raises(DataError, match=r"energy\.raw' cannot be read"):
        load(path)
    (tmp_path / "s/coord.raw").unlink()
    (tmp_path / "s/energy.raw").unlink()
    with pytest.raises(DataError, match=r"coord\.raw' is missing: there is no set"):
        load(path)


def test_find_systems(tmp_path, monkeypatch):
    data = make()
    for name in ("b/x", "a", "b/y/deep"):
        write_npy(tmp_path / "all" / name, ATYPE, data)
    (tmp_path / "empty").mkdir()
    top = str(tmp_path / "all")
    every = [f"{top}/a", f"{top}/b/x", f"{top}/b/y/deep"]
    assert find_systems(top) == every
    assert find_systems(f"{top}/b/x") == [f"{top}/b/x"]
    assert find_systems([f"{top}/b/x", f"{top}/a", f"{top}/a"]) == [every[1], every[0]]
    assert find_systems([f"{top}/b", f"{top}/a"]) == [*every[1:], every[0]]
    assert find_systems(top, ["deep", "a"]) == [every[0], every[2]]
    assert find_systems([top], ["b/*"]) == [every[1]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_systems("all/a") == ["all/a"]
    assert find_systems("~/all/a") == [f"{top}/a"]
    assert load("all/a").nframes == 4
    with pytest.raises(DataError, match=r"no system in '.*empty'.*type\.raw"):
        find_systems([f"{top}/a", str(tmp_path / "empty")])
    with pytest.raises(DataError, match=r"no system that matches \['z\*'\]"):
        find_systems(top, ["z*"])
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        find_systems("nowhere")
    with pytest.raises(
        DataError, match="'~no-such-user/all' does not exist, seen from"
    ):
        find_systems("~no-such-user/all")
    for pattern in ("", "/a", "b/**x"):
        with pytest.raises(DataError, match="`rglob_patterns` must be relative"):
            find_systems(top, ["a", pattern])
    assert find_systems(top, []) == every
    assert find_systems(top, ["b/**/deep"]) == every[2:]
    with pytest.raises(DataError, match="is empty"):
        find_systems([])


def test_find_systems_in_hdf5(tmp_path):
    data = make()
    file = tmp_path / "d.hdf5"
    for group in ("b/x", "a", "b/y"):
        write_hdf5(file, ATYPE, data, group=group)
    assert find_systems(str(file)) == [f"{file}#/{g}" for g in ("a", "b/x", "b/y")]
    assert find_systems([f"{file}#/b"]) == [f"{file}#/b/x", f"{file}#/b/y"]
    assert find_systems(f"{file}#b/y") == [f"{file}#/b/y"]
    assert find_systems(str(file), ["b/*"]) == [f"{file}#/b/x", f"{file}#/b/y"]
    assert_same(load(f"{file}#b/y"), data)
    with pytest.raises(DataError, match="no group '/c'"):
        find_systems(f"{file}#/c")
    with pytest.raises(DataError, match=r"'.*d\.hdf5' has no type\.raw"):
        load(str(file))
    root = tmp_path / "root.hdf5"
    write_hdf5(root, ATYPE, data, group="/")
    assert find_systems(str(root)) == [f"{root}#/"]
    assert_same(load(f"{root}#/"), data)
    assert_same(load(str(root)), data)
    (tmp_path / "text").write_text("no")
    with pytest.raises(DataError, match="neither a folder nor an HDF5 file"):
        find_systems(str(tmp_path / "text"))


def test_find_hdf5_in_folders(tmp_path):
    """Beside folders; other HDF5 files there are left alone."""
    data, top = make(), tmp_path / "all"
    write_npy(top / "z", ATYPE, data)
    write_hdf5(top / "b.hdf5", ATYPE, data, group="x/y")
    write_hdf5(top / "z" / "c.h5", ATYPE, data, group="/")
    with h5py.File(top / "weights.h5", "w") as file:
        file["kernel"] = np.ones(3)
    (top / "notes.hdf5").write_text("no HDF5")
    inside = [f"{top}/b.hdf5#/x/y", f"{top}/z/c.h5#/"]
    assert find_systems(str(top)) == [f"{top}/z", *inside]
    assert find_systems(str(top), ["*.h5"]) == inside[1:]
    assert find_systems(str(top), ["x/*"]) == inside[:1]
    for path in inside:
        assert_same(load(path), data)


def test_lmdb(tmp_path):
    write_npy(tmp_path / "a", ATYPE, make())
    (tmp_path / "b.lmdb").mkdir()
    for path in (tmp_path, tmp_path / "b.lmdb", "absent.lmdb"):
        with pytest.raises(DataError, match=r"\.lmdb' is an LMDB data set, which DeeP"):
            find_systems(str(path))


def test_damaged_hdf5(tmp_path):
    file = tmp_path / "d.hdf5"
    write_hdf5(file, ATYPE, make(), group="/")
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"'.*d\.hdf5' cannot be read: .*truncated"):
        find_systems(str(file))


def test_no_pickles(tmp_path):
    """Nor archives of several arrays."""
    write_npy(tmp_path / "s", ATYPE, make())
    file = tmp_path / "s/set.000/force.npy"
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"force\.npy' cannot be read: Object arrays"):
        load(tmp_path / "s")
    with open(file, "wb") as stream:
        np.savez(stream, force=make()["force"])
    with pytest.raises(DataError, match=r"force\.npy' cannot be read: .*magic"):
        load(tmp_path / "s")
