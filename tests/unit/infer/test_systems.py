# SPDX-License-Identifier: Apache-2.0
"""Systems as models read them, and what a model is asked about their frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from small_data import frames, write

from deepspin.data.files import DataError
from deepspin.data.frames import System
from deepspin.infer.systems import (
    alike,
    atoms_of,
    evaluate,
    listed_systems,
    systems_of_input,
)

EXAMPLE = ROOT / "examples" / "NiO" / "se_e2_a" / "input.json"


def system(atype, *, pbc=True, numb_fparam=0):
    """Frames of numbers that tell where they stand."""
    atype = np.array(atype)
    nf, nloc = atype.shape
    places = np.arange(nf * nloc * 3, dtype=float).reshape(nf, nloc, 3)
    return System(
        path="s",
        atype=atype,
        coord=places,
        spin=-places,
        box=np.arange(nf)[:, None, None] * np.eye(3),
        pbc=pbc,
        fparam=np.arange(nf * numb_fparam, dtype=float).reshape(nf, numb_fparam),
        labels={},
        layout="spin-files",
        natoms_loss=np.full(nf, nloc),
        index=np.tile(np.arange(nloc), (nf, 1)),
        sets=(("s/set.000", nf),),
        named=True,
    )


class Echo:
    """Says what it was asked."""

    def eval(self, coords, cells, atom_types, spins, *, fparam):
        names = ("coords", "cells", "atom_types", "spins", "fparam")
        values = (coords, cells, atom_types, spins, fparam)
        return dict(zip(names, values, strict=True))


def test_alike():
    """Same atoms in a group, none too large, every frame once, in order."""
    data = system([[0, 1], [1, 0], [0, 1], [0, 1], [0, -1]])
    frames = np.array([4, 3, 2, 1, 0])
    groups = list(alike(data, frames, 2))
    assert sorted(np.concatenate(groups)) == [0, 1, 2, 3, 4]
    assert max(map(len, groups)) == 2
    for places in groups:
        assert (np.diff(places) > 0).all()
        assert (data.atype[frames[places]] == data.atype[frames[places[0]]]).all()
    assert [1, 2] in [places.tolist() for places in groups]  # 3 and 2, then 0
    assert [places.tolist() for places in alike(data, frames[1:3], 9)] == [[0, 1]]


def test_places_without_an_atom_are_left_out():
    data = system([[1, 0, -1], [1, 0, -1]])
    np.testing.assert_array_equal(atoms_of(data, 1), [0, 1])
    asked = evaluate(Echo(), data, [1, 0])
    np.testing.assert_array_equal(asked["coords"], data.coord[[1, 0], :2])
    np.testing.assert_array_equal(asked["spins"], data.spin[[1, 0], :2])
    np.testing.assert_array_equal(asked["cells"], data.box[[1, 0]])
    np.testing.assert_array_equal(asked["atom_types"], [1, 0])
    assert asked["fparam"] is None


def test_open_boundaries_and_frame_parameters():
    data = system([[0, 0]] * 3, pbc=False, numb_fparam=2)
    asked = evaluate(Echo(), data, [2, 1])
    assert asked["cells"] is None
    np.testing.assert_array_equal(asked["fparam"], [[4, 5], [2, 3]])


def test_other_spins():
    """One frame with several sets of spins."""
    data = system([[0, 0]] * 2)
    spin = np.ones((3, 2, 3))
    asked = evaluate(Echo(), data, [1] * 3, spin)
    assert asked["spins"] is spin
    np.testing.assert_array_equal(asked["coords"], np.tile(data.coord[1], (3, 1, 1)))


def test_systems_of_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = json.loads(EXAMPLE.read_text())
    for name in ("a", "b"):
        write(tmp_path / name, *frames(1))
    options["training"]["training_data"]["systems"] = ["b", "a"]
    options["training"].pop("validation_data")
    Path("input.json").write_text(json.dumps(options))
    assert systems_of_input("input.json", "training_data") == ["b", "a"]
    with pytest.raises(DataError, match="has no `training/validation_data`"):
        systems_of_input("input.json", "validation_data")


def test_listed_systems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("d/a", "d/b", "c"):
        write(tmp_path / name, *frames(1))
    text = "\ufeffc\n# a comment\n\n  d \n  # another\n"
    Path("list").write_text(text, encoding="utf-8")
    assert listed_systems(Path("list")) == ["c", "d/a", "d/b"]
    Path("list").write_text("# nothing else\n", encoding="utf-8")
    with pytest.raises(DataError, match="'list' names no system"):
        listed_systems(Path("list"))
    Path("list").write_text("c # not a path\n", encoding="utf-8")
    with pytest.raises(DataError, match="'c # not a path' does not exist"):
        listed_systems(Path("list"))
