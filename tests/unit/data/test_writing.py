# SPDX-License-Identifier: Apache-2.0
"""Where systems are written, and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import ATYPE, load, make, write_hdf5, write_npy

from deepspin.data.layouts import copy
from deepspin.data.writing import claim_systems, names_below, place_of, write_system
from deepspin.utils.outputs import OutputError


def folders(root, *names):
    """Make folders below a root; returns their paths."""
    for name in names:
        (root / name).mkdir(parents=True)
    return [str(root / name) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/x", "a/y"], ["x", "y"]),
        (["a/x", "b/x"], ["a/x", "b/x"]),
        (["a/x", "b/c/x"], ["a/x", "b/c/x"]),
    ],
)
def test_names_are_what_paths_have_of_their_own(tmp_path, names, expected):
    paths = folders(tmp_path, *names)
    assert names_below(paths, Path("out")) == dict(zip(paths, expected, strict=True))


def test_name_of_one_system(tmp_path):
    """A folder is the system; a file needs a group."""
    (path,) = folders(tmp_path, "NiO")
    assert names_below([path], Path("out")) == {path: "."}
    assert names_below([path], Path("out.hdf5")) == {path: "NiO"}


def test_groups_are_like_folders(tmp_path):
    path = write_hdf5(tmp_path / "x.hdf5", ATYPE, make(1), group="a/sys")
    (folder,) = folders(tmp_path, "y")
    assert names_below([path, folder], Path("out")) == {path: "x/a/sys", folder: "y"}


def test_names_that_would_be_the_same(tmp_path):
    path = write_hdf5(tmp_path / "x.hdf5", ATYPE, make(1), group="sys")
    paths = [path, *folders(tmp_path, "x/sys")]
    with pytest.raises(OutputError, match="would both be written as"):
        names_below([*paths, *folders(tmp_path, "y")], Path("out"))


@pytest.mark.parametrize("target", ["data", "data/new", "."])
def test_data_that_is_read_is_not_written_over(tmp_path, target):
    (path,) = folders(tmp_path, "data")
    with pytest.raises(OutputError, match="is, holds or lies in the data"):
        claim_systems([path], tmp_path / target, force=True)


def test_other_folders_are_not_replaced(tmp_path):
    path, target = folders(tmp_path, "data", "thesis")
    claim_systems([path], Path(target), force=True)  # empty
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    with pytest.raises(OutputError, match="a folder without systems"):
        claim_systems([path], Path(target), force=True)
    (tmp_path / "thesis" / "type.raw").write_text("0")
    claim_systems([path], Path(target), force=True)


@pytest.mark.parametrize("target", ["out", "out.hdf5"])
def test_what_is_written_is_read_again(tmp_path, target):
    data = make(3)
    path = write_npy(tmp_path / "in", ATYPE, data)
    place = write_system(copy(path), tmp_path / target, "a/b")
    assert place == place_of(tmp_path / target, "a/b")
    system = load(place)
    np.testing.assert_array_equal(system.coord, load(path).coord)
    np.testing.assert_array_equal(system.labels["energy"], data["energy"])
