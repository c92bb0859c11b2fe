# SPDX-License-Identifier: Apache-2.0
"""Damaged models of DeePMD-kit and statistics: something whole, or one error."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import damaged, fuzz, outcome
from hypothesis import given
from hypothesis import strategies as st
from places import REFERENCE

from deepspin.data.files import DataError
from deepspin.interop import stat_file
from deepspin.interop.tree import read_tree, write_tree
from deepspin.modelfiles.archive import load_deepmd

pytestmark = pytest.mark.any_version
MODELS = {
    "a.dp": REFERENCE / "dpmodel" / "float32.dp",
    "a.yaml": REFERENCE / "dpmodel" / "fparam.yaml",
    "a.pb": REFERENCE / "base.pb",
}


def damaged_copy(source, folder, data):
    """A file like `source`, damaged."""
    path = Path(folder) / f"harmed{source.suffix}"
    path.write_bytes(data.draw(damaged(source.read_bytes())))
    return path


@pytest.mark.parametrize("name", MODELS)
@fuzz(12)
@given(data=st.data())
def test_models(name, data):
    with tempfile.TemporaryDirectory() as folder:
        path = damaged_copy(MODELS[name], folder, data)
        found = outcome(lambda: load_deepmd(path), path)
        if found is not None:
            model, metadata = found
            assert all(np.isfinite(w.numpy()).all() for w in model.weights)
            assert metadata["input"]["model"]["type_map"]


TREE = {"a": {"@variables": {"w": np.arange(6.0), "v": np.eye(2)}, "b": [1, "x"]}}


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
@fuzz(40)
@given(data=st.data())
def test_trees(suffix, data):
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"whole{suffix}"
        write_tree(whole, TREE)
        path = damaged_copy(whole, folder, data)
        found = outcome(lambda: read_tree(path), path)
        assert found is None or isinstance(found, dict)


NAMES = {"bias": "Ni O/bias", "r_0": "Ni O/x/r_0"}


@pytest.mark.parametrize("suffix", [".h5", ""])
@fuzz(40)
@given(data=st.data())
def test_statistics(suffix, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stat{suffix}"
        items = {place: np.arange(3.0) for place in NAMES.values()}
        stat_file._save(str(path), items)
        file = path if suffix else path / NAMES["r_0"]
        file.write_bytes(data.draw(damaged(file.read_bytes())))
        found = outcome(lambda: stat_file._load(str(path), NAMES), path)
        assert found is None or found.keys() <= NAMES.keys()


def test_statistics_of_other_files(tmp_path):
    """What lies elsewhere is not read."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(3.0).tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(NAMES["bias"], (3,), float, external=[(str(secret), 0, 24)])
    with pytest.raises(DataError, match=r"bias is in another file, '.*secret"):
        stat_file._load(str(tmp_path / "a.h5"), NAMES)
