# SPDX-License-Identifier: Apache-2.0
"""LMDB data sets as DeePMD-kit has them: the numbers of the same data in npy files."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import small_data
from damage import damaged, fuzz, outcome
from hypothesis import given
from hypothesis import strategies as st

from deepspin.data import lmdb_files, scratch
from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError, spelled
from deepspin.data.find import find_systems
from deepspin.data.systems import load_systems
from deepspin.main import main
from deepspin.spins.schemes import build_scheme

TYPES = ["Ni", "O"]
SPIN = build_scheme(
    {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2737]}
)
NAMES = {"coord": "coords", "box": "cells", "energy": "energies", "force": "forces"}
needs_lmdb = pytest.mark.skipif(
    importlib.util.find_spec("lmdb") is None, reason="needs the packages lmdb, msgpack"
)


def encoded(array):
    array = np.ascontiguousarray(array)
    return {"type": array.dtype.str, "shape": array.shape, "data": array.tobytes()}


def write(path, systems, **meta):
    """Write systems, (arrays, types) each, as one data set."""
    import lmdb
    import msgpack

    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as txn:
        owners, number = [], 0
        for owner, (arrays, types) in enumerate(systems):
            for f in range(len(arrays["coord"])):
                frame = {NAMES.get(n, n): encoded(a[f]) for n, a in arrays.items()}
                frame["energies"] = float(arrays["energy"][f])
                frame["atom_types"] = encoded(types.astype(np.int32))
                txn.put(format(number, "012d").encode(), msgpack.packb(frame))
                owners.append(owner)
                number += 1
        head = {"nframes": number, "type_map": TYPES, "frame_idx_fmt": "012d"}
        head |= {"frame_system_ids": owners, "system_info": {"natoms": [4, 4]}} | meta
        txn.put(b"__metadata__", msgpack.packb(head))
    return str(path)


@pytest.fixture
def both(tmp_path):
    """The same frames in folders and in a data set."""
    systems = [small_data.frames(n, seed=n) for n in (5, 4)]
    folders = [
        str(small_data.write(tmp_path / f"s{k}", *system))
        for k, system in enumerate(systems)
    ]
    return folders, write(tmp_path / "data.lmdb", systems)


def same(one, other):
    assert one.labels.keys() == other.labels.keys() and one.pbc == other.pbc
    rows = [(getattr(one, n), getattr(other, n)) for n in scratch.FIELDS]
    rows += [(one.labels[n], other.labels[n]) for n in one.labels]
    for a, b in rows:
        np.testing.assert_array_equal(a, b)


@needs_lmdb
@pytest.mark.parametrize("limit", ["", "1e-6"])
def test_same_numbers(both, monkeypatch, limit):
    """Also streamed in pieces."""
    folders, path = both
    plain = load_systems(folders, TYPES, SPIN)
    monkeypatch.setenv("DEEPSPIN_DATA_MEMORY", limit)
    found = load_systems(find_systems(path), TYPES, SPIN)
    assert [s.path for s in found] == [f"{path}#0", f"{path}#1"]
    for one, other in zip(plain, found, strict=True):
        same(one, other)
        assert other.coord.flags.writeable == (not limit)
        assert other.named and other.where(2) == f"frame 2 of '{other.path}'"
    data = DataSystem(path, TYPES, SPIN, 4.0, batch_size=2)
    assert [s.nframes for s in data.systems] == [5, 4]


@needs_lmdb
def test_what_takes_systems_takes_them(both, tmp_path, capsys):
    """Surveys and conversions, too; an input names the data set once."""
    folders, path = both
    assert main(["convert-data", path, "-o", str(tmp_path / "out")]) == 0
    written = load_systems(find_systems(str(tmp_path / "out")), TYPES, SPIN)
    for one, other in zip(load_systems(folders, TYPES, SPIN), written, strict=True):
        same(one, other)
    assert main(["check-data", path]) == 0
    assert "2 systems" in " ".join(capsys.readouterr().out.split())
    assert spelled(find_systems(path)) == [path]


@needs_lmdb
def test_frames_of_other_types_and_without_cells(tmp_path):
    """Frames whose types differ are one system of mixed types, if all else agrees."""
    arrays, types = small_data.frames(2)
    swapped = types[::-1].copy()
    turned = {n: a[:, ::-1] if a.ndim == 3 else a for n, a in arrays.items()}
    open_ = {name: array for name, array in arrays.items() if name != "box"}
    systems = [(arrays, types), (turned, swapped), (open_, types)]
    path = write(tmp_path / "d.lmdb", systems, frame_system_ids=None)
    mixed, cluster = load_systems(find_systems(str(tmp_path)), TYPES, SPIN)
    assert mixed.nframes == 4 and mixed.pbc and not cluster.pbc
    np.testing.assert_array_equal(mixed.atype[2], swapped)
    np.testing.assert_array_equal(mixed.coord[2], turned["coord"][0])
    np.testing.assert_array_equal(mixed.labels["energy"][:2], arrays["energy"])
    assert lmdb_files.is_lmdb(tmp_path / "d.lmdb") and path.endswith("d.lmdb")


@needs_lmdb
def test_what_is_damaged(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path / "a.lmdb")) as env, env.begin(write=True) as txn:
        txn.put(b"other", b"1")
    with pytest.raises(DataError, match="nothing under the key '__metadata__'"):
        find_systems(str(tmp_path / "a.lmdb"))
    (tmp_path / "b.lmdb").write_text("no database")
    with pytest.raises(DataError, match="cannot be read as an LMDB data set"):
        find_systems(str(tmp_path / "b.lmdb"))
    two = [small_data.frames(2)]
    path = write(tmp_path / "c.lmdb", two, nframes=3, frame_system_ids=None)
    with pytest.raises(DataError, match="nothing under the key '000000000002'"):
        find_systems(path)
    path = write(tmp_path / "e.lmdb", two, nframes=3)
    with pytest.raises(DataError, match="2 frame_system_ids of 3 frames"):
        find_systems(path)
    path = write(tmp_path / "d.lmdb", two, frame_idx_fmt="z")
    with pytest.raises(DataError, match="`__metadata__` is not as DeePMD-kit writes"):
        find_systems(path)


@needs_lmdb
def test_what_is_cut_off(tmp_path):
    """Anywhere: reading beyond the end would end the program."""
    path = Path(write(tmp_path / "a.lmdb", [small_data.frames(5)])) / "data.mdb"
    content = path.read_bytes()
    for number, size in enumerate(range(0, len(content), 999)):
        cut = tmp_path / f"cut{number}.lmdb"
        cut.mkdir()
        (cut / "data.mdb").write_bytes(content[:size])
        with pytest.raises(DataError, match=f"cut{number}.lmdb.*(cut off|cannot be )"):
            find_systems(str(cut))


@needs_lmdb
@fuzz(40)
@given(data=st.data())
def test_damaged_frames(data):
    """What is packed, flipped and cut: arrays of the right shapes, or one error."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.lmdb", [small_data.frames(2)])
        key = data.draw(st.sampled_from([b"__metadata__", b"000000000001"]))
        with lmdb.open(path) as env, env.begin(write=True) as txn:
            txn.put(key, data.draw(damaged(txn.get(key))))
        found = outcome(lambda: load_systems(find_systems(path), TYPES, SPIN), path)
        for system in found or ():
            assert system.coord.shape == system.spin.shape
            assert np.isfinite(system.coord).all()


def test_without_the_packages(tmp_path, monkeypatch):
    (tmp_path / "data.lmdb").mkdir()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"pip install 'deepspin\[lmdb\]'"):
        find_systems(str(tmp_path / "data.lmdb"))
