# SPDX-License-Identifier: Apache-2.0
"""A complete input as typed values."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from deepspin.dynamics.md.options import normalize_md
from deepspin.dynamics.md.settings import MdSettings

GIVEN = {
    "model": "m.keras",
    "structure": {"file": "s.extxyz", "repeat": [2, 1, 1]},
    "spins": [{"type": "Ni", "direction": "random"}],
    "ensemble": {"type": "langevin", "spin_temperature": 20.0},
    "temperature": [300.0, 200.0],
    "timestep": 0.25,
    "steps": 8,
    "seed": 3,
}


def settings(**changes):
    return MdSettings.of(normalize_md(GIVEN | changes))


def test_all_of_an_input():
    """Values are those of the input, defaults included."""
    full = normalize_md(GIVEN)
    found = MdSettings.of(full)
    assert (found.model, found.steps, found.order_vector) == ("m.keras", 8, None)
    setup = found.setup
    for part, name in (
        (setup.structure, "structure"),
        (setup.ensemble, "ensemble"),
        (found.output, "output"),
    ):
        for key, value in full[name].items():
            assert getattr(part, key) == value, key
    (rule,) = setup.spins
    assert vars(rule) == full["spins"][0]
    for key in ("timestep", "field", "field_frequency", "masses", "fixed_atoms"):
        assert getattr(setup, key) == full[key]
    with pytest.raises(FrozenInstanceError):
        found.steps = 9


def test_seeds():
    """Replica k has the seed plus k, or its own."""
    assert settings().setup.seeds.tolist() == [3, 4]
    assert settings(seed=[7, 5]).setup.seeds.tolist() == [7, 5]
    assert settings(seed=[7]).setup.seeds.tolist() == [7, 7]


def test_temperatures():
    """Those of the first velocities and of spins, if others are given."""
    setup = settings().setup
    assert setup.first_kelvin.tolist() == [300.0, 200.0]
    assert setup.spin_kelvin == 20.0
    changes = {"initial_temperature": 0.0, "ensemble": {"type": "langevin"}}
    setup = settings(**changes).setup
    assert setup.first_kelvin == 0.0
    assert setup.spin_kelvin.tolist() == [300.0, 200.0]
    assert setup.tesla is None and setup.ramps == {}


def test_ramps():
    """Rows of times and values; spins follow the atoms unless they have their own."""
    changes = {"temperature": [[0, 600], [100, 0]], "ensemble": {"type": "langevin"}}
    changes["field"] = [[10, 0, 0, 1], [20, 0, 0, -1]]
    setup = settings(**changes).setup
    assert setup.nrep == 1 and set(setup.ramps) == {"temperature", "field"}
    assert setup.first_kelvin == 600.0
    assert setup.lattice_kelvin.at(25.0) == setup.spin_kelvin.at(25.0) == 450.0
    assert setup.tesla.at(15.0).tolist() == [0, 0, 0]
    changes["ensemble"]["spin_temperature"] = [[0, 1], [2, 3]]
    setup = settings(**changes).setup
    assert setup.spin_kelvin.at(1.0) == 2.0 and "spin_temperature" in setup.ramps


@pytest.mark.parametrize(
    ("ensemble", "moves"),
    [
        ({"type": "nve"}, (True, True, False)),
        ({"type": "spin"}, (False, True, False)),
        ({"type": "lattice"}, (True, False, False)),
        ({"type": "tspin", "spin_mass": 1.0}, (True, True, True)),
    ],
)
def test_what_moves(ensemble, moves):
    found = settings(ensemble=ensemble).setup.ensemble
    assert (found.lattice, found.spins, found.inertial) == moves
    assert np.isfinite(found.damping)
