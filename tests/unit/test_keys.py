# SPDX-License-Identifier: Apache-2.0
"""Names, shapes and units of arrays are consistent."""

from __future__ import annotations

import pytest

from deepspin import keys

ALL = [key for key in vars(keys).values() if isinstance(key, keys.Key)]


def test_names_are_those_of_the_variables():
    for key in ALL:
        assert getattr(keys, key.name.upper()) is key
    assert len({key.name for key in ALL}) == len(ALL)


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.name)
def test_shapes(key):
    """Frames first, vectors of three last."""
    assert key.shape[0] == "nf"
    assert {n for n in key.shape if isinstance(n, int)} <= {3}
    assert set(key.shape) - {3} <= {"nf", "nloc", "numb_fparam"}


def test_forces_are_energies_by_what_they_change():
    for force, variable in ((keys.FORCE, keys.COORD), (keys.FORCE_MAG, keys.SPIN)):
        assert force.unit == f"{keys.ENERGY.unit}/{variable.unit}"
        assert force.shape == variable.shape
    assert keys.VIRIAL.unit == keys.ENERGY.unit
    assert keys.VIRIAL.shape == keys.BOX.shape
