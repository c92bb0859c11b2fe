# SPDX-License-Identifier: Apache-2.0
"""Systems of other programs, found beside ours."""

import os
import shutil

import numpy as np
import pytest
from small_data import frames, write

from deepspin.data.files import DataError, Foreign, read_system
from deepspin.data.find import file_of, find_systems, format_of
from deepspin.data.formats import extxyz
from deepspin.data.formats.stack import unstack
from deepspin.data.formats.table import FORMATS, Reading, named
from deepspin.data.systems import load_systems
from deepspin.spins.virtual import VirtualAtoms

NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])


@pytest.fixture
def file(tmp_path):
    """Extended XYZ of the frames of `small_data`."""
    arrays, types = frames(4)
    rows = unstack("a", types, ["Ni", "O"], [arrays], True)
    (tmp_path / "a.extxyz").write_text("".join(map(extxyz.text_of, rows)))
    return tmp_path / "a.extxyz"


def test_the_same_as_npy_files(tmp_path, file):
    write(tmp_path / "npy", *frames(4))
    paths = find_systems([str(tmp_path / "npy"), str(file), str(file)])
    assert len(paths) == 2
    one, other = load_systems(paths, ["Ni", "O"], NIO)
    for name in ("atype", "coord", "spin", "box"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.labels.keys() == other.labels.keys()
    for name, label in one.labels.items():
        np.testing.assert_array_equal(label, other.labels[name])


def test_a_path_is_read_once_and_given_up(file, monkeypatch):
    (path,) = find_systems(str(file))
    assert isinstance(path, Foreign)
    assert path == str(file)
    assert path.kind == FORMATS["extxyz"].description
    head, _ = read_system(path)
    assert read_system(path)[0] is head
    load_systems([path], ["Ni", "O"], NIO)
    file.write_text("1\n\nNi 0 0 0\n")
    assert read_system(path)[1][0].nframes == 1
    assert find_systems([path]) == [path]


def test_a_format_that_is_said(tmp_path, file):
    other = file.rename(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"of no format that is recognised.*extxyz:b"):
        find_systems(str(other))
    assert find_systems(f"extxyz:{other}") == [str(other)]
    assert find_systems(str(other), reading=Reading(format="extxyz")) == [str(other)]
    with pytest.raises(DataError, match=r"'xyz' is no format that is read: extxyz"):
        find_systems(str(other), reading=Reading(format="xyz"))
    with pytest.raises(DataError, match=r"'nowhere' does not exist"):
        find_systems("extxyz:nowhere")
    # a file of that name is no format
    (tmp_path / "extxyz:c.xyz").write_text("1\n\nNi 0 0 0\n")
    assert find_systems(f"{tmp_path}/extxyz:c.xyz") == [f"{tmp_path}/extxyz:c.xyz"]
    assert named("dpdata/vasp/outcar").description == "vasp/outcar, through dpdata"
    assert not named("dpdata/vasp/outcar").matches(other)


def test_columns_are_named_where_there_are_any(tmp_path, file):
    (path,) = find_systems(str(file), reading=Reading(spin_key="nothing"))
    with pytest.raises(DataError, match=r"has no 'nothing' to take as spin. There are"):
        read_system(path)
    (path,) = find_systems(f"lammps-data:{file}", reading=Reading(force_mag_key="c_fm"))
    with pytest.raises(DataError, match=r"has no columns to name. Leave out c_fm"):
        read_system(path)


def test_folders_are_searched(tmp_path, file, caplog):
    """If there is no system of ours in them."""
    caplog.set_level("INFO")
    deep = tmp_path / "runs" / "2"
    deep.mkdir(parents=True)
    (deep / "notes.txt").write_text("")
    moved = file.rename(deep / "a.xyz")
    assert find_systems(str(tmp_path)) == [str(moved)]
    assert f"'{tmp_path}' has 1 systems in extended XYZ" in caplog.messages
    assert find_systems(str(tmp_path), ["*.xyz"]) == [str(moved)]
    with pytest.raises(DataError, match=r"no system that matches \['\*.traj'\]"):
        find_systems(str(tmp_path), ["*.traj"])
    write(tmp_path / "npy", *frames(2))
    assert find_systems(str(tmp_path)) == [str(tmp_path / "npy")]


def test_other_units_are_noticed(file, caplog):
    """Spins that are not in μ_B: 10 times too long."""
    lines = file.read_text().splitlines()
    for k, line in enumerate(lines):
        words = line.split()
        if words[0] == "Ni":
            words[4:7] = [repr(10 * float(word)) for word in words[4:7]]
            lines[k] = " ".join(words)
    file.write_text("\n".join(lines) + "\n")
    load_systems(find_systems(str(file)), ["Ni", "O"], NIO)
    assert "are the spins in μ_B?" in caplog.text


def test_without_spins(file):
    file.write_text(file.read_text().replace("initial_magmoms", "moments"))
    with pytest.raises(DataError, match=r"read as extended XYZ, has no spins: no col"):
        load_systems(find_systems(str(file)), ["Ni", "O"], NIO)


def test_parts_of_a_path(tmp_path, file):
    assert file_of(f"extxyz:{file}") == file
    assert file_of(f"{tmp_path}/a.h5#/b").name == "a.h5"
    assert format_of(str(file), Reading()) == "extxyz"
    assert format_of(str(tmp_path), Reading()) is None


def test_what_a_kill_has_left_is_no_system(tmp_path, file):
    """Hidden and perhaps half: not ours, of another program, or LMDB."""
    write(tmp_path / "whole", *frames(4))
    for name in (".out.partial", ".out.partial.v2", ".out.old"):
        write(tmp_path / "deep" / name / "train", *frames(4))
    file.with_name(".b.partial.extxyz").write_text(file.read_text())
    (tmp_path / ".c.partial.lmdb").write_bytes(b"half")
    (tmp_path / ".d.partial.h5").write_bytes(b"half")
    write(tmp_path / ".mine" / ".partly", *frames(4))
    for patterns in (None, ["*", "**/*"]):
        assert find_systems(str(tmp_path), patterns) == [
            str(tmp_path / ".mine" / ".partly"),
            str(tmp_path / "whole"),
        ]
    for place in ("whole", ".mine"):
        shutil.rmtree(tmp_path / place)
    assert find_systems(str(tmp_path)) == [str(file)]


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    for number in range(3):
        write(tmp_path / f"s{number}", *frames(4))
    listed, scandir = [], os.scandir

    def count(path):
        listed.append(os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", count)
    assert len(find_systems(str(tmp_path))) == 3
    assert len(listed) == len(set(listed)) == 7
