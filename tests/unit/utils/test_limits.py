# SPDX-License-Identifier: Apache-2.0
"""Files of people who mean no good: nothing of other files, no more than they are."""

from __future__ import annotations

import io
import json
import os
import re
import time
import zipfile

import h5py
import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspin.atoms.structures import Structure
from deepspin.data.files import DataError, read_system
from deepspin.data.find import find_systems
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.restart import RestartFile
from deepspin.interop.tree import read_tree, write_tree
from deepspin.modelfiles.find import read_config, read_metadata
from deepspin.utils import hdf5, limits
from deepspin.utils.inputs import load_input

# what a file is not to be asked for
SECRET = np.arange(12.0)


@pytest.fixture
def secret(tmp_path):
    """Another file, as raw bytes and as HDF5."""
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = SECRET
    return tmp_path


def external_storage(file, folder, name):
    place = [(str(folder / "secret"), 0, SECRET.nbytes)]
    file.create_dataset(name, (12,), float, external=place)


def external_link(file, folder, name):
    file[name] = h5py.ExternalLink(str(folder / "secret.h5"), "/a")


def virtual_data(file, folder, name):
    layout = h5py.VirtualLayout((12,), float)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "a", (12,))
    file.create_virtual_dataset(name, layout)


TRICKS = [external_storage, external_link, virtual_data]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", ["variable_0000", "group/deep/x"])
def test_what_lies_in_other_files(secret, trick, name):
    path = secret / "model.dp"
    write_tree(path, {"model": {"@variables": {"w": np.zeros(12)}}})
    assert read_tree(path)["model"]["@variables"]["w"].tolist() == [0.0] * 12
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.require_group("group/deep")
        trick(file, secret, name)
    with pytest.raises(ValueError, match=rf"/{name} is in another file, '.*secret"):
        read_tree(path)


@pytest.mark.parametrize("trick", TRICKS)
def test_systems_in_other_files(secret, trick):
    path = secret / "data.h5"
    with h5py.File(path, "w") as file:
        file["sys/type.raw"] = [0, 0, 0, 0]
        file.create_group("sys/set.000")
        trick(file, secret, "sys/set.000/coord.npy")
    with pytest.raises(DataError, match=r"coord\.npy is in another file, '.*secret"):
        find_systems(str(path))
    with pytest.raises(DataError, match=r"coord\.npy is in another file, '.*secret"):
        read_system(f"{path}#/sys")


def test_links_within_a_file(secret):
    """They are what they were; those that lead back end."""
    path = secret / "data.h5"
    with h5py.File(path, "w") as file:
        file["sys/type.raw"] = [0]
        file["sys/box.npy"] = h5py.SoftLink("/a")
        file["a"] = np.eye(3).reshape(1, 9)
        file["sys/up"] = file["/"]
        layout = h5py.VirtualLayout((1, 9), float)
        layout[:] = h5py.VirtualSource(file["a"])
        file.create_virtual_dataset("b", layout)
    with hdf5.reading(path) as file:
        np.testing.assert_array_equal(file["sys/box.npy"], np.eye(3).reshape(1, 9))
        np.testing.assert_array_equal(file["b"], file["a"])


def test_a_file_is_looked_at_again_when_it_has_changed(secret):
    path = secret / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    for _ in range(2):
        with hdf5.reading(path) as file:
            assert file["x"][()] == 1
    with h5py.File(path, "r+") as file:
        external_link(file, secret, "y")
    os.utime(path, (1, 1))
    for _ in range(2):
        with pytest.raises(OSError, match="/y is in another file"):
            with hdf5.reading(path):
                pass


# --- Much from little -----------------------------------------------------------------

# what is said of the files of `hostile` that need no TensorFlow
SAID = {
    "aliases.yaml": "aliases.yaml' .* repeats a part of 299593 values by an alias",
    "deep.yaml": "deep.yaml' .* more than 100 levels deep",
    "circle.yaml": "circle.yaml' .* contains itself",
    "digits.yaml": r"digits.yaml' .*\(4300 digits",
    "deep.json": "deep.json' .* more than 100 levels deep",
    "deeper.json": "deeper.json' is nested too deeply",
    "digits.json": r"digits.json' .*\(4300 digits",
    "keys.json": "`k0` is not a key of the input",
    "blanks.json": r"blanks.json' has 17\.8 MB, and a text of this kind at most 16\.8",
    "atoms.extxyz": "atoms.extxyz' is cut off: 1 of 1000000000000000 atoms",
    "digits.extxyz": "digits.extxyz' begins with '99.* where its number of atoms must",
    "columns.extxyz": "columns.extxyz': atom 0 has 4 columns and Properties names 1000",
    "quotes.extxyz": "quotes.extxyz', read as extended XYZ, has no spins",
    "long.log": "long.log' ",
    "names.log": "names.log' ",
    "gzip.h5": r"gzip.h5' has .* holds 2\.15 GB, more than 100 times",
    "never.h5": r"never.h5' has .* holds 2\.4e\+04 GB, more than 100 times",
    "types.h5": "types.h5#/sys/type.raw': types must be integers",
    "groups.h5": "no system in '.*groups.h5'",
    "frames.h5": r"frames.h5' has .* holds 10\.7 GB, more than 100 times",
    "shape": "shape/set.000/coord.npy' cannot be read: ",
    "large": "large/set.000/coord.npy' cannot be read: ",
    "letters": "letters/set.000/coord.npy' cannot be read: Failed to read all data",
    "nested": "nested/set.000/coord.npy' cannot be read: ",
    "types": "types/type.raw': types must be integers",
    "shape.npz": "shape.npz' is damaged, or no restart file",
    "blanks.npz": "blanks.npz' is damaged, or no restart file",
    "shape.traj": "ASE cannot read frame 0 of '.*shape.traj'",
    "items.traj": "ASE cannot read frame 0 of '.*items.traj'",
    "frames.lmdb": "frames.lmdb' has nothing under the key '000000000000'",
    "shape.lmdb": "shape.lmdb': an array of frame 0+ is damaged",
}
NEEDS_TENSORFLOW = (".keras", ".dp", ".pb", "SavedModel")
CASES = [
    (form, name)
    for form, files in hostile.FILES.items()
    for name in files
    if form not in NEEDS_TENSORFLOW
]


@pytest.mark.parametrize(("form", "name"), CASES)
def test_hostile_files(form, name, tmp_path):
    """One line; no time that grows with what they declare."""
    hostile.FILES[form][name](tmp_path / name)
    begin = time.process_time()
    assert re.search(SAID[name], hostile.attempt(form, tmp_path / name))
    assert time.process_time() - begin < 5


def test_what_is_well_compressed_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 10_000)
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros(10_000), compression="gzip")
        file["b"] = np.random.default_rng(1).normal(size=2_000)
    with hdf5.reading(path) as file:
        assert file["a"].size == 10_000
    monkeypatch.setattr(limits, "GROWTH", 2)
    hdf5._checked.clear()
    with pytest.raises(OSError, match=r"data.h5' has 2.*more than 2 times as much"):
        with hdf5.reading(path):
            pass


@pytest.mark.parametrize("name", ["config.json", "deepspin.json", "model.weights.h5"])
def test_archives_of_blanks(tmp_path, name, monkeypatch):
    """Seen in the table of the archive, before anything is read."""
    monkeypatch.setattr(limits, "FREE", 2**20)
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b" " * 2**22)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(ValueError, match=r"keras' has .* holds 4\.19 MB, more th"):
        read_metadata(path)
    with pytest.raises(ValueError, match="is damaged") as caught:
        RestartFile.load(path)
    assert "more than 100 times" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"neuron": [20_000, 40_000]}, r"6\.4 GB"),
        ({"neuron": [25, 50], "axis_neuron": 10**9}, "400 GB"),
        ({"neuron": [240], "dim_descrpt": 10**9, "numb_fparam": 1}, "GB"),
        ({"neuron": [25, 50, 100], "axis_neuron": 16, "numb_fparam": None}, None),
    ],
)
def test_nets_larger_than_their_file(options, shown, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": [{"net": options}]}))
    if shown is None:
        assert read_config(path)["config"][0]["net"] == options
    else:
        with pytest.raises(ValueError, match=rf"keras' has .* says that it .*{shown}"):
            read_config(path)


def test_aliases_in_models(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(hostile.ALIASES)
    with pytest.raises(ValueError, match="repeats a part of 299593 values"):
        read_tree(path)


def test_long_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "TEXT", 1000)
    path = tmp_path / "input.json"
    path.write_text(json.dumps({"a": "b" * 1000}))
    with pytest.raises(OSError, match=r"input.json' has 1\.01 kB, and a text of "):
        load_input(path)


# --- Restart files --------------------------------------------------------------------


@pytest.fixture(scope="module")
def restart(tmp_path_factory):
    """A restart file of two atoms."""
    state = State(
        coord=np.zeros((1, 2, 3)),
        spin=np.ones((1, 2, 3)),
        mass=np.ones(2),
        atype=np.array([0, 1]),
    )
    structure = Structure(
        names=("Ni", "O"),
        atype=state.atype,
        coord=state.coord[0],
        box=None,
        pbc=np.zeros(3, dtype=bool),
        spin=state.spin[0],
        mass=state.mass,
        fixed=state.fixed,
    )
    made_by = {"options": {"output": {}, "seed": 1}}
    path = tmp_path_factory.mktemp("restart") / "r.npz"
    RestartFile(
        state=state, structure=structure, signs=None, evaluations=3, made_by=made_by
    ).save(path)
    assert RestartFile.load(path).evaluations == 3
    return path


def rewritten(path, about=None, **arrays):
    """Contents of a restart file, changed: of `about`, or arrays; None takes away."""
    with np.load(path) as file:
        content = dict(file)
    head = json.loads(str(content.pop("about")))
    head |= about or {}
    content |= {name.replace("_", ".", 1): array for name, array in arrays.items()}
    content = {k: v for k, v in content.items() if v is not None}
    stream = io.BytesIO()
    np.savez(stream, about=json.dumps(head), **content)
    return stream.getvalue()


CHANGES = {
    "no format": {"about": {"format": "two"}},
    "no input": {"about": {"made_by": {}}},
    "half an input": {"about": {"made_by": {"options": {}}}},
    "names": {"about": {"names": ["Ni"]}},
    "names of nothing": {"about": {"names": 3}},
    "directions": {"about": {"pbc": [True]}},
    "evaluations": {"about": {"evaluations": None}},
    "fewer evaluations": {"about": {"evaluations": -1}},
    "types": {"state_atype": np.array([0, -1])},
    "one type": {"state_atype": np.array([0])},
    "no positions": {"state_coord": None},
    "no numbers": {"state_coord": np.full((1, 2, 3), "a")},
    "not a number": {"state_spin": np.full((1, 2, 3), np.nan)},
    "a step before the first": {"state_step": np.array(-1)},
    "an array too many": {"state_other": np.zeros(3)},
    "signs": {"signs": np.zeros(3)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_restart_files(restart, tmp_path, change):
    path = tmp_path / "r.npz"
    path.write_bytes(rewritten(restart, **CHANGES[change]))
    with pytest.raises(ValueError, match=r"r.npz' is damaged, or no restart file of"):
        RestartFile.load(path)


def test_restart_files_of_a_newer_version(restart, tmp_path):
    path = tmp_path / "r.npz"
    path.write_bytes(rewritten(restart, about={"format": 99}))
    with pytest.raises(ValueError, match="has format 99; this deepspin reads up to 1"):
        RestartFile.load(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_restart_files_with_any_fault(restart, data):
    """Bytes changed, cut or put in: what is read is what was written, or refused."""
    content = bytearray(restart.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "put in"]))
    if kind == "change":
        content[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[place : place + data.draw(st.integers(1, 2000))]
    else:
        content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
    path = restart.with_name("harmed.npz")
    path.write_bytes(bytes(content))
    try:
        found = RestartFile.load(path)
    except ValueError as error:
        assert "harmed.npz' is damaged" in str(error)
    else:
        right = RestartFile.load(restart)
        for name, array in right.state.arrays().items():
            np.testing.assert_array_equal(found.state.arrays()[name], array)
        assert found.made_by == right.made_by
