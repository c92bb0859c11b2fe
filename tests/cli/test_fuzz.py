# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a file: the outcome is a result, or one of our errors in one line.

The same examples in every run. ``FUZZ=5000 pytest tests/cli/test_fuzz.py`` makes
so many of each kind, and other ones each time.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistakes import valid
from mistakes.steps import model_bytes

from deepspin.data.files import DataError
from deepspin.data.find import find_systems
from deepspin.data.frames import System
from deepspin.data.systems import load_system
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

pytestmark = pytest.mark.any_version

NUMBER = int(os.environ.get("FUZZ", "0"))
SCHEME = VirtualAtoms.from_options([True, False], [0.4], [1.2])


def fuzz(number):
    """Settings of a test of so many examples."""
    return settings(
        max_examples=NUMBER or number,
        derandomize=not NUMBER,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def in_one_line(error):
    message = str(error)
    assert message.strip() and "\n" not in message, message
    return True


# --- Inputs ---------------------------------------------------------------------------

# what dp-spin train accepts, with every section and as many kinds of values
VALID = copy.deepcopy(valid.INPUT)
VALID["model"]["fitting_net"] |= {"atom_ener": [None, -1.0], "trainable": True}
VALID["model"]["descriptor"]["exclude_types"] = [[0, 1]]
VALID["training"]["validation_data"] = {"systems": "data", "auto_prob": "prob_uniform"}
VALID["optimizer"] = {"type": "Adam"}
VALID["_comment"] = "Example"

KEYS = sorted(
    {
        *("type", "sel", "rcut", "neuron", "spin", "model", "loss", "batch_size"),
        *("virtual_scale", "stop_lr_ratio", "warmup_ratio", "start_pref_ae", "_x", ""),
        *("model_dict", "compress", "sys_probs", "rglob_patterns", "optimizer", "μ"),
    }
)
NUMBERS = [0, 1, -1, 2, 0.5, 1e-300, 1e300, 10**30, -(2**63), math.inf, math.nan]
WORDS = ["", "auto", "auto:2", "auto:nan", "none", "Ni", "é\n☃", "\0", "max:8"]
WORDS += ["prob_sys_size;0:1:1", "silut:1", "se_e2_a", "float32", "mae"]
LISTS = [[], [[]], [0], [1, 2], [True, 1], ["Ni", "O"], [None], [[0, 1]], [1e400]]
ODD = st.sampled_from(
    [*NUMBERS, *WORDS, *LISTS, True, False, None, {}, {"type": "exp"}]
).map(copy.deepcopy)
TEXT = st.text(max_size=8) | st.sampled_from(KEYS)
LEAF = ODD | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)


def places(data, path=()):
    """Paths of all values in nested objects and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def mutate(data, draw):
    """Change one place of `data`: another value, no value, another name, one more."""
    path = draw(st.sampled_from(list(places(data))))
    section, key = data, path[-1]
    for name in path[:-1]:
        section = section[name]
    action = draw(st.sampled_from(["set", "set", "delete", "rename", "nest", "add"]))
    if action == "set":
        section[key] = draw(JSON)
    elif action == "nest":
        section[key] = draw(st.sampled_from([[section[key]], {"type": section[key]}]))
    elif isinstance(section, list):
        section[key : key + 1] = [] if action == "delete" else draw(st.lists(JSON))[:5]
    elif action == "add":
        section[draw(TEXT)] = draw(JSON)
    else:
        value = section.pop(key)
        if action == "rename":
            section[draw(TEXT)] = value


@st.composite
def inputs(draw):
    """Inputs with a few mistakes."""
    data = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(0, 4))):
        mutate(data, draw)
    return data


def check_normalize(data):
    before = repr(data)
    try:
        full = normalize(data)
    except InputError as error:
        assert in_one_line(error)
        return
    finally:
        assert repr(data) == before
    names = "model learning_rate optimizer loss training validating"
    assert set(full) == set(names.split())
    assert normalize(full) == full
    assert normalize(json.loads(json.dumps(full))) == full


def test_the_input_to_begin_with():
    assert normalize(VALID)["training"]["numb_steps"] == 3


@fuzz(400)
@given(inputs())
def test_normalize(data):
    check_normalize(data)


@fuzz(200)
@given(JSON)
def test_normalize_anything(data):
    check_normalize(data)


YAML = ["a: 1", "? [", "&a [*a]", "*b", "- x", "a: {b: 1, b: 2}", "!!python/none", "%"]
YAML += ["!!int x", "!!float", "2001-99-99", "<<: 3", "{? [1] : 2}", "a: !!binary x"]


@fuzz(200)
@given(
    st.sampled_from(["json", "yaml", "yml", "txt"]),
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | JSON.map(json.dumps).map(str.encode)
    | st.lists(st.sampled_from(YAML), max_size=4).map("\n".join).map(str.encode)
    | st.sampled_from([b"[" * 100000, b'{"a":' * 100000, b"\xff\xfe{}", b""]),
)
def test_load_input(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input.{suffix}"
        path.write_bytes(content)
        try:
            data = load_input(path)
        except InputError as error:
            assert in_one_line(error)
        else:
            assert isinstance(data, dict)
            check_normalize(data)


# --- Data -----------------------------------------------------------------------------

NAMES = ("coord", "box", "spin", "energy", "force", "force_mag")
FRAMES = {
    "coord": np.stack([valid.COORD, valid.COORD + 0.05]),
    "box": np.stack([valid.BOX] * 2),
    "spin": np.stack([valid.SPIN] * 2),
    "energy": np.array([[-1.0], [-1.1]]),
    "force": np.zeros((2, 4, 3)),
    "force_mag": np.zeros((2, 4, 3)),
}
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 1e300, -1e15, 1e14, 1e9, 1e-300, 0.0, -1.0)
DTYPES = ("f4", "f2", "i8", "u1", "?", "c16", "O", "U3", "S4", "M8[s]", "f8,f8", "g")
TYPES = ("", "0", "0 0 1", "0 1 x 1", "0 0 1 1e999", "-1 0 1 1", "0 0 1 2", "nan")
TYPES += ("0 0 2 2", "1 1 1 1", "0 0 1 1 2 2", "0 0 0 0 2 2 2 2", "1e10 0 0 1", "\0")


def damaged(content, draw):
    """Bytes, cut off or with some of them changed."""
    content = bytearray(content)
    if not content or draw(st.booleans()):
        return bytes(content[: draw(st.integers(0, len(content)))])
    for _ in range(draw(st.integers(1, 4))):
        # half of them where the headers are
        end = len(content) if draw(st.booleans()) else min(128, len(content))
        content[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def an_array(draw, name):
    """One of the arrays, or something like it."""
    value = FRAMES[name].reshape(2, -1).copy()
    kind = draw(st.sampled_from(["shape", "dtype", "value", "values"]))
    if kind == "shape":
        shape = draw(st.lists(st.integers(0, 13), max_size=4))
        return np.resize(value, shape)
    if kind == "dtype":
        dtype = draw(st.sampled_from(DTYPES))
        return (
            value.astype("i8").astype(dtype)
            if dtype == "M8[s]"
            else (np.zeros(2, dtype) if "," in dtype else value.astype(dtype))
        )
    odd = draw(st.sampled_from(ODD_NUMBERS))
    if kind == "value":
        value[:, draw(st.integers(0, value.shape[1] - 1))] = odd
        return value
    return value * odd if np.isfinite(odd) else np.full(value.shape, odd)


def change_folder(path, draw):
    """One mistake in a system of npy files."""
    name = draw(st.sampled_from([*NAMES, "virial", "real_atom_types", "atom_ener"]))
    file = path / "set.000" / f"{name}.npy"
    action = draw(
        st.sampled_from(["remove", "bytes", "array", "array", "text", "type"])
    )
    if action == "remove":
        file.unlink(missing_ok=True)
    elif action == "bytes" and file.is_file():
        file.write_bytes(damaged(file.read_bytes(), draw))
    elif action == "array":
        values = an_array(draw, name if name in FRAMES else "energy")
        np.save(file, values, allow_pickle=True)
    elif action == "text":
        names = ["type.raw", "type_map.raw", "nopbc", "coord.raw", "set.000/x.npy"]
        names += [f"set.000/{n}.npy" for n in NAMES]
        content = draw(st.binary(max_size=30) | st.text(max_size=20).map(str.encode))
        (path / draw(st.sampled_from(names))).write_bytes(content)
    else:
        text = draw(st.sampled_from(TYPES) | st.text("0123 .-e\n", max_size=12))
        (path / "type.raw").write_text(text)
    if draw(st.integers(0, 9)) == 0:
        shutil.copytree(path / "set.000", path / "set.001", dirs_exist_ok=True)


def check_load(path):
    try:
        system = load_system(str(path), ["Ni", "O"], SCHEME)
    except DataError as error:
        assert in_one_line(error)
        return
    assert isinstance(system, System)
    arrays = [system.coord, system.spin, system.box]
    assert all(np.isfinite(a).all() for a in arrays)
    for name, label in system.labels.items():  # all of a frame's, or nothing of it
        has = system.has(name)
        assert np.isfinite(label[has]).all()
        assert np.isnan(label[~has]).all()
    arrays += system.labels.values()
    assert all(a.dtype == np.float64 for a in arrays)
    assert all(len(a) == system.nframes > 0 for a in arrays)
    assert system.nloc > 0


@fuzz(400)
@given(st.data())
def test_load_system(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        valid.write_system(str(path), valid.TYPES, FRAMES)
        for _ in range(data.draw(st.integers(1, 3))):
            if (path / "set.000").is_dir():
                change_folder(path, data.draw)
        check_load(path)


def test_the_system_to_begin_with(tmp_path):
    valid.write_system(str(tmp_path / "data"), valid.TYPES, FRAMES)
    assert load_system(str(tmp_path / "data"), ["Ni", "O"], SCHEME).nframes == 2


@fuzz(200)
@given(st.data())
def test_load_raw(data):
    """Text files instead of sets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "type.raw").write_text("0 0 1 1")
        for name in NAMES:
            np.savetxt(path / f"{name}.raw", FRAMES[name].reshape(2, -1))
        name = data.draw(st.sampled_from(NAMES))
        file = path / f"{name}.raw"
        text = st.text("01 .-enaif\n#,\0", max_size=40).map(str.encode)
        file.write_bytes(
            damaged(file.read_bytes(), data.draw)
            if data.draw(st.booleans())
            else data.draw(text | st.binary(max_size=40))
        )
        check_load(path)


def hdf5_file():
    """A file with one system, as bytes."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file["a/type.raw"] = valid.TYPES
        for name in NAMES:
            file[f"a/set.000/{name}.npy"] = FRAMES[name].reshape(2, -1)
    return memory.getvalue()


HDF5 = hdf5_file()


@fuzz(300)
@given(st.data())
def test_hdf5(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.hdf5"
        path.write_bytes(damaged(HDF5, data.draw))
        try:
            systems = find_systems(str(path))
        except DataError as error:
            assert in_one_line(error)
        else:
            for system in systems:
                check_load(system)


@fuzz(200)
@given(st.data())
def test_hdf5_of_other_arrays(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.hdf5"
        path.write_bytes(HDF5)
        with h5py.File(path, "a") as file:
            name = data.draw(st.sampled_from(NAMES))
            place = f"a/set.000/{name}.npy"
            del file[place]
            values = an_array(data.draw, name)
            if values.dtype.kind in "fiucbS" and values.dtype.names is None:
                file[place] = values
            elif data.draw(st.booleans()):
                file.create_group(place)
            else:
                file["a/set.000"].attrs["note"] = "nothing"
        check_load(f"{path}#/a")


# --- Model files ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # Keras' own, of weights that are not there
@fuzz(60)
@given(st.data())
def test_load_model(data):
    """An archive has sums of all that it holds: the same weights, or an error."""
    import deepspin

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(damaged(model_bytes(), data.draw))
        try:
            model = deepspin.load_model(path)
        except (ValueError, OSError) as error:
            assert in_one_line(error)
            assert "model.keras" in str(error)
        else:
            assert isinstance(model, deepspin.SpinEnergyModel)
            path.write_bytes(model_bytes())
            right = deepspin.load_model(path)
            for found, wanted in zip(model.weights, right.weights, strict=True):
                assert np.array_equal(found.numpy(), wanted.numpy())
