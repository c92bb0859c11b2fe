# SPDX-License-Identifier: Apache-2.0
"""The input of ``dp-spin md``: defaults, documentation, examples, mistakes."""

from __future__ import annotations

import copy
import json
import re

import pytest
from places import ROOT

from deepspin.dynamics.md.options import gen_doc, normalize_md, replicas
from deepspin.utils.refused import InputError

ENSEMBLES = {
    "nve": {"type": "nve"},
    "langevin": {"type": "langevin", "relaxation_time": 50.0, "damping": 0.2},
    "nose-hoover": {"type": "nose-hoover"},
    "spin": {"type": "spin"},
    "lattice": {"type": "lattice"},
    "tspin": {"type": "tspin", "spin_mass": {"Ni": 100.0}},
}


@pytest.fixture
def given():
    return {
        "_comment": "small",
        "model": "m.keras",
        "structure": {"file": "s.extxyz"},
        "ensemble": {"type": "langevin"},
        "temperature": 300,
        "timestep": 0.25,
        "steps": 8,
    }


def test_complete_input_stays_the_same(given):
    given["spins"] = [{"type": "Ni", "modulus": 1.2, "direction": "random"}]
    before = copy.deepcopy(given)
    once = normalize_md(given)
    assert given == before
    assert normalize_md(once) == once
    assert json.loads(json.dumps(once)) == once


def test_defaults_are_documented(given):
    """Every key of the complete input has its paragraph."""

    def keys(value):
        for key, inner in value.items() if isinstance(value, dict) else []:
            yield key
            yield from keys(inner)

    documented = set(re.findall(r"^ *(\w+): *$", gen_doc(), re.MULTILINE))
    for ensemble in ENSEMBLES.values():
        full = normalize_md(given | {"ensemble": ensemble})
        assert set(keys(full)) - {"Ni"} <= documented


@pytest.mark.parametrize("name", ["langevin", "nve", "pressure"])
def test_example(name):
    """Complete inputs, whose files are there, and that the page shows."""
    folder = ROOT / "examples" / "NiO" / "md"
    options = normalize_md(json.loads((folder / f"{name}.json").read_text("utf-8")))
    assert (folder / options["structure"]["file"]).is_file()
    kind = "langevin" if name == "pressure" else name
    assert options["ensemble"]["type"] == kind
    page = (folder.parents[2] / "doc" / "md.md").read_text("utf-8")
    shown = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    full = normalize_md(shown)
    for key in ("structure", "spins", "ensemble", "temperature", "timestep", "steps"):
        assert name != "langevin" or full[key] == options[key], key


def test_replicas(given):
    """As many as the longest list of temperatures or seeds has."""
    for change, number in (
        ({}, 1),
        ({"temperature": [1, 2, 3], "seed": 4}, 3),
        ({"temperature": [1], "seed": [4, 5]}, 2),
    ):
        assert replicas(normalize_md(given | change)) == number


def test_frequency_needs_a_field(given):
    with pytest.raises(InputError, match="`field_frequency` needs a `field`"):
        normalize_md(given | {"field_frequency": 1.0})


@pytest.mark.parametrize(
    ("key", "ramp"),
    [
        ("temperature", [[0, 300], [0, 10]]),
        ("temperature", [[0, 300], [9, -1]]),
        ("temperature", [[0, 300], [9]]),
        ("field", [[0, 0, 0, 1], [-9, 0, 0, 5]]),
        ("field", [[0, 0, 0, 1], [9, 0, 0]]),
    ],
)
def test_ramps_that_are_none(given, key, ramp):
    with pytest.raises(InputError, match=f"`{key}` is .* the times increasing"):
        normalize_md(given | {key: ramp})
