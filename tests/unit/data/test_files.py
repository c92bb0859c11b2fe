# SPDX-License-Identifier: Apache-2.0
"""Where systems are found, and files that cannot be read."""

from __future__ import annotations

import os

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


# -- what is no file, no folder, or somewhere else -------------------------------------


def test_fragments_belong_to_hdf5(tmp_path, monkeypatch):
    write_npy(tmp_path / "s", ATYPE, make())
    write_npy(tmp_path / "t#1", ATYPE, make())
    monkeypatch.chdir(tmp_path)
    for path in ("s#", "s#anything", "s#/set.000"):
        with pytest.raises(DataError, match=r"a group of an HDF5.*'s' is a folder"):
            find_systems(path)
        with pytest.raises(DataError, match="Leave it out"):
            load(path)
    assert find_systems("t#1") == ["t#1"]
    assert load("t#1").nframes == 4
    for path in ("# a comment", "#s", "s # a comment"):
        with pytest.raises(DataError, match="does not exist, seen from the current"):
            find_systems(path)


def test_links_are_followed(tmp_path):
    """Once each; loops end."""
    write_npy(tmp_path / "far/b/sys", ATYPE, make())
    write_hdf5(tmp_path / "far/d.hdf5", ATYPE, make(), group="g")
    write_npy(tmp_path / "top/own", ATYPE, make())
    top = tmp_path / "top"
    (top / "link").symlink_to("../far", target_is_directory=True)
    (top / "twice").symlink_to("../far/b", target_is_directory=True)
    (top / "own/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "far/b/back").symlink_to(top, target_is_directory=True)
    (top / "nothing").symlink_to("absent")
    found = [f"{top}/link/b/sys", f"{top}/own", f"{top}/link/d.hdf5#/g"]
    assert find_systems(str(top)) == found
    assert find_systems(str(top), ["b/*"]) == found[:1]
    assert find_systems(str(top), ["link/*/sys"]) == found[:1]
    assert find_systems(str(top), ["**/sys"]) == found[:1]
    assert find_systems(str(top / "twice")) == [
        f"{top}/twice/back/own",
        f"{top}/twice/sys",
        f"{top}/twice/back/link/d.hdf5#/g",
    ]
    for path in found:
        assert load(path).nframes == 4


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/null")


def nowhere(path):
    path.symlink_to(path.parent / "no such file")


SPECIAL = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": fifo,
    "a device": device,
    "a link to nothing": nowhere,
}


@pytest.mark.parametrize("name", ["energy", "spin", "atomic_ener", "fparam"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_no_files(tmp_path, kind, name):
    """What has the name of a file is never passed over, and never opened."""
    path = write_npy(tmp_path / "s", ATYPE, make())
    place = tmp_path / f"s/set.000/{name}.npy"
    place.unlink(missing_ok=True)
    SPECIAL[kind](place)
    with pytest.raises(DataError, match=rf"{name}\.npy' is {kind}, not a file of num"):
        load(path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_no_types_or_systems(tmp_path, kind):
    write_npy(tmp_path / "s", ATYPE, make())
    (tmp_path / "s/type.raw").unlink()
    SPECIAL[kind](tmp_path / "s/type.raw")
    with pytest.raises(DataError, match=rf"type\.raw' is {kind}, not a file"):
        find_systems(str(tmp_path))
    write_npy(tmp_path / "top/t", ATYPE, make())
    SPECIAL[kind](tmp_path / "top/other.h5")  # of anything; not looked into
    assert find_systems(str(tmp_path / "top")) == [str(tmp_path / "top/t")]
    if kind in ("a FIFO", "a device"):
        with pytest.raises(DataError, match=rf"other\.h5' is {kind}, neither a folder"):
            find_systems(str(tmp_path / "top/other.h5"))


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a link to nothing"])
def test_no_sets(tmp_path, kind):
    path = write_npy(tmp_path / "s", ATYPE, make())
    (tmp_path / "s/set.tar").write_text("an archive")
    assert load(path).nframes == 4
    SPECIAL[kind](tmp_path / "s/set.001")
    with pytest.raises(DataError, match=rf"set\.001' is {kind}, not a set\. Remove"):
        load(path)


def test_group_with_the_name_of_a_file(tmp_path):
    path = write_hdf5(tmp_path / "d.hdf5", ATYPE, make())
    with h5py.File(tmp_path / "d.hdf5", "a") as file:
        del file["a/sys/set.000/energy.npy"]
        file.create_group("a/sys/set.000/energy.npy")
    with pytest.raises(DataError, match=r"set.000/energy\.npy' is a group, not a file"):
        load(path)


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_true_and_false(tmp_path, kind):
    data = make()
    data["energy"] = data["energy"] > 0
    path = {"npy": write_npy, "hdf5": write_hdf5}[kind](tmp_path / "s", ATYPE, data)
    with pytest.raises(DataError, match="does not hold numbers: true and false"):
        load(path)
