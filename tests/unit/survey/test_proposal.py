# SPDX-License-Identifier: Apache-2.0
"""An input to start from, and the reasons in it."""

import json

import pytest
import yaml
from small_data import frames, write

from deepspin.survey.proposal import comments, propose, written
from deepspin.survey.scheme import survey
from deepspin.utils.inputs import normalize

OPTIONS = {
    "_comment": "all",
    "model": {"_comment_sel": "why: 'so'", "sel": [1, 2], "name": "Å"},
    "empty": [],
}


def test_json():
    assert json.loads(written(OPTIONS, ".json")) == OPTIONS


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_yaml(suffix):
    """Reasons are comments, above what they are for."""
    text = written(OPTIONS, suffix)
    assert yaml.safe_load(text) == {
        "model": {"sel": [1, 2], "name": "Å"},
        "empty": [],
    }
    assert "  # why: 'so'\n  sel: [1, 2]\n" in text


def test_comments():
    """With the value if it is short to write; none for the section."""
    assert list(comments(OPTIONS)) == ["model/sel [1, 2]: why: 'so'"]


def test_proposal(tmp_path):
    folder = str(write(tmp_path / "s", *frames(3)))
    options = propose(survey([folder]), 3.0)
    descriptor = options["model"]["descriptor"]
    assert (descriptor["rcut"], descriptor["rcut_smth"]) == (3.0, 2.5)
    assert normalize(options)["model"]["type_map"] == ["Ni", "O"]
    assert options["loss"]["start_pref_v"] == options["loss"]["limit_pref_v"] == 0
