# SPDX-License-Identifier: Apache-2.0
"""What those who write models for DeePMD-kit and LAMMPS are told."""

import logging
from pathlib import Path

import pytest

from deepspin.interop import export as module
from deepspin.interop.script import SpinTypesFirst


@pytest.fixture
def told(make_model, monkeypatch, caplog):
    """Export a model without the work; returns what was written, and said."""
    caplog.set_level(logging.INFO)
    calls = []
    monkeypatch.setattr(
        module, "write_dpmodel", lambda *args: calls.append(("dpmodel", *args))
    )

    def write_graph(model, *args, **options):
        calls.append(("graph", model, *args, options))
        return SpinTypesFirst(model)

    monkeypatch.setattr(module, "write_graph", write_graph)

    def call(output, system="NiO", metadata=None, *, fold=False, pad=False):
        options = {"fold_atom_virial": fold, "pad_lammps_cutoff": pad}
        model = make_model(system)
        module.export(model, metadata or {}, Path("m.keras"), output, **options)
        (written,) = calls
        assert written[:3] == (written[0], model, output)
        if written[0] == "graph":
            assert written[-1] == options
        return written[0], caplog.text

    return call


@pytest.mark.parametrize("output", ["m.dp", "m.yaml"])
def test_own_form(told, output):
    kind, text = told(output)
    assert kind == "dpmodel"
    assert f"m.keras: Ni O written into {output}" in text and "LAMMPS" not in text


def test_graph(told):
    kind, text = told("m.pb")
    assert kind == "graph"
    assert "with a skin of 0.50 Å or more for spins up to Ni 1.59 μ_B (assumed)" in text
    assert "`dp compress` will need -t" in text
    assert "numbers of types" not in text and "undo the options" not in text


def test_other_numbers_of_types(told):
    assert "numbers of types: Ni 1 -> 0, O 0 -> 1" in told("m.pb", "ONi")[1]


def test_options(told):
    metadata = {"min_nbor_dist": 0.3, "spin_range": {"Ni": [0.9, 1.0]}}
    _, text = told("m.pb", metadata=metadata, pad=True)
    assert "3.69 Å instead of 3.30, for spins up to Ni 1.25 μ_B\n" in text
    assert "`dp compress` would undo the options" in text
    assert "will need -t" not in text
