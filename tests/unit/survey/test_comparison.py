# SPDX-License-Identifier: Apache-2.0
"""Systems measured, and compared with those that an input names."""

import json

import numpy as np
import pytest
from places import ROOT
from small_data import frames, write

from deepspin.survey.comparison import measure
from deepspin.survey.scheme import survey


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Frames 4 and 5 of ``a`` are the first of ``b``."""
    monkeypatch.chdir(tmp_path)
    arrays, types = frames(6)
    write(tmp_path / "a", arrays, types)
    write(tmp_path / "b", {n: array[4:] for n, array in arrays.items()}, types)
    return tmp_path


def test_frames_twice(here):
    facts, same, failed = measure(survey(["a", "b"]), None)
    assert [(own["path"], own["frames"]) for own in facts] == [("a", 6), ("b", 2)]
    assert failed == [] and len(same) == 2
    assert [own["role"] for own in facts] == [None, None]
    assert same[0]["roles"] == [None, None]
    energies = np.load("b/set.000/energy.npy").ravel()
    assert same[0]["energies"] == [energies[0]] * 2
    assert same[1]["frames"][0].startswith("frame 5 of 'a")


def test_systems_of_the_input(here, caplog):
    """They are compared, too, and have roles; more is not said of them."""
    options = json.loads((ROOT / "examples/NiO/se_e2_a/input.json").read_text())
    options["training"]["training_data"]["systems"] = "a"
    options["training"]["validation_data"]["systems"] = "b"
    (here / "input.json").write_text(json.dumps(options))
    facts, same, _ = measure(survey(["b"]), "input.json")
    assert [(own["path"], own["role"]) for own in facts] == [("b", "validation")]
    assert len(same) == 2
    assert sorted(same[0]["roles"]) == ["training", "validation"]
    options["training"]["validation_data"]["systems"] = "absent"
    (here / "input.json").write_text(json.dumps(options))
    measure(survey(["b"]), "input.json")
    assert "validation data of 'input.json' is not compared" in caplog.text


def test_what_cannot_be_read(here):
    """Atoms on top of each other; the others are measured all the same."""
    data = survey(["a", "b"])
    file = here / "a/set.000/coord.npy"
    np.save(file, np.zeros_like(np.load(file)))
    facts, same, failed = measure(data, None)
    assert [own["path"] for own in facts] == ["b"] and same == []
    assert len(failed) == 1 and failed[0].startswith("frame 0 of 'a")
