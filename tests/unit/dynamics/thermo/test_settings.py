# SPDX-License-Identifier: Apache-2.0
"""A complete input of ``dp-spin thermo`` as typed values."""

import pytest

from deepspin.dynamics.md.settings import Ensemble
from deepspin.dynamics.thermo.options import normalize_thermo
from deepspin.dynamics.thermo.settings import (
    HybridSettings,
    LangevinSettings,
    ThermoSettings,
)

GIVEN = {
    "model": "m.keras",
    "structure": {"file": "s.extxyz"},
    "sizes": [[1, 1, 1], [2, 1, 1]],
    "temperature": [200, 300, 450],
    "samples": 8,
    "seed": 3,
    "field": [0, 0, 1.0],
}
BATHS = {"type": "langevin", "timestep": 0.2, "damping": 0.3}


def settings(**changes):
    return ThermoSettings.of(normalize_thermo(GIVEN | changes))


def test_all_of_an_input():
    found = settings()
    full = normalize_thermo(GIVEN)
    for key in ("model", "sizes", "temperature", "equilibration", "field", "fparam"):
        assert getattr(found, key) == full[key]
    assert vars(found.output) == full["output"]
    assert {"type": "hmc", **vars(found.method)} == full["method"]
    assert found.moves == 208


def test_methods():
    assert type(settings().method) is HybridSettings
    found = settings(method=BATHS).method
    assert type(found) is LangevinSettings
    assert (found.timestep, found.damping, found.steps) == (0.2, 0.3, 20)


def test_each_size_has_seeds_of_its_own():
    setups = [settings().setup(number) for number in range(2)]
    assert [list(s.structure.repeat) for s in setups] == GIVEN["sizes"]
    assert [s.seeds.tolist() for s in setups] == [[3, 4, 5], [6, 7, 8]]
    assert setups[0].field == [0, 0, 1.0] and setups[0].field_frequency == 0


@pytest.mark.parametrize(
    ("method", "ensemble"),
    [
        ({"type": "hmc"}, Ensemble(type="langevin")),
        ({"type": "hmc", "lattice": False}, Ensemble(type="spin")),
        (BATHS, Ensemble(type="langevin", relaxation_time=100.0, damping=0.3)),
        ({**BATHS, "lattice": False}, Ensemble(type="spin", damping=0.3)),
    ],
)
def test_baths(method, ensemble):
    assert settings(method=method).setup(0).ensemble == ensemble
