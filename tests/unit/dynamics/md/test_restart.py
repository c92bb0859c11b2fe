# SPDX-License-Identifier: Apache-2.0
"""The file that a run of dynamics goes on from."""

import json
import logging
import re

import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.restart import (
    FORMAT,
    RestartFile,
    warn_of_differences,
)

OPTIONS = {"seed": 3, "temperature": 300.0, "steps": 5, "output": {}}
MADE_BY = {"weights": "abc", "options": OPTIONS}


@pytest.fixture
def start():
    rng = np.random.default_rng(0)
    coord, spin = rng.normal(size=(2, 2, 3, 3))
    state = State(
        coord=coord,
        spin=spin,
        mass=[58.7, 16.0, 16.0],
        atype=[0, 1, 1],
        box=np.stack([5 * np.eye(3)] * 2),
        step=7,
        time=3.5,
    )
    structure = Structure(
        names=("Ni", "O"),
        atype=state.atype,
        coord=coord[0],
        box=state.box[0],
        pbc=np.array([True, False, True]),
        spin=spin[0],
        mass=state.mass,
        fixed=state.fixed,
    )
    signs = np.array([[1.0, 0, 0], [1.0, 0, 0]])
    return RestartFile(
        state=state,
        structure=structure,
        signs=signs,
        evaluations=9,
        made_by=MADE_BY,
    )


def test_round_trip(start, tmp_path):
    start.save(tmp_path / "a.npz")
    found = RestartFile.load(tmp_path / "a.npz")
    assert (found.evaluations, found.made_by) == (9, MADE_BY)
    np.testing.assert_array_equal(found.signs, start.signs)
    for name, array in start.state.arrays().items():
        np.testing.assert_array_equal(getattr(found.state, name), array, err_msg=name)
    for name, value in vars(start.structure).items():
        np.testing.assert_array_equal(getattr(found.structure, name), value)


def test_newer_files_are_refused(start, tmp_path):
    start.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about"))) | {"format": FORMAT + 1}
    np.savez(tmp_path / "b.npz", about=json.dumps(about), **arrays)
    with pytest.raises(ValueError, match=f"has format {FORMAT + 1}; this deepspin"):
        RestartFile.load(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 9}, ""),
        (
            {"temperature": 200.0},
            "not equal an uninterrupted one; .*`temperature`",
        ),
        ({"seed": 4}, "what the input says of them has no effect: `seed`"),
        ({"ensemble": {}}, "goes on from 'a.npz' in other ways; .*: `ensemble`"),
    ],
)
def test_differences(change, message, caplog):
    caplog.set_level(logging.INFO)
    now = {**MADE_BY, "options": MADE_BY["options"] | change}
    warn_of_differences(MADE_BY, now, "a.npz")
    if message:
        assert len(caplog.records) == 1
        assert re.search(message, caplog.text)
    else:
        assert not caplog.records


def test_another_model(caplog):
    warn_of_differences(MADE_BY, MADE_BY | {"weights": "x", "engine": "y"}, "a.npz")
    assert caplog.text.rstrip().endswith("these have changed: weights, engine")
