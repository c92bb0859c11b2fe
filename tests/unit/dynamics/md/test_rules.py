# SPDX-License-Identifier: Apache-2.0
"""Spins to begin with: those of the file, changed by rules."""

from dataclasses import replace

import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.atoms.waves import repeated
from deepspin.data.files import DataError
from deepspin.dynamics.md.rules import Placing, copies_of
from deepspin.dynamics.md.settings import SpinRule
from deepspin.utils.refused import InputError

CELL = Structure(
    names=("Ni", "Fe", "O"),
    atype=np.array([0, 1, 2]),
    coord=np.array([[0, 0, 0], [0.5, 0, 0], [0.2, 0, 0]]),
    box=np.eye(3),
    pbc=np.ones(3, bool),
    spin=np.array([[0, 0, 1.0], [0, 2.0, 0], [0, 0, 0]]),
    mass=np.ones(3),
    fixed=np.zeros(3, bool),
)


def rule(**given):
    names = ("type", "atoms", "modulus", "direction", "wave_vector", "axis")
    return SpinRule(**dict.fromkeys(names) | given)


def placed(*rules, cell=CELL, seeds=(1,)):
    structure, origin = repeated(cell, [2, 1, 1])
    sites = Placing(structure, cell, origin, structure.atype < 2, np.array(seeds))
    return sites.placed(rules)


def test_those_of_the_file():
    np.testing.assert_array_equal(
        placed(seeds=(1, 2)), [np.tile(CELL.spin, (2, 1))] * 2
    )


def test_moduli_and_directions():
    """One rule after the other, of types and of numbers in the file."""
    found = placed(
        rule(type="Ni", direction=[3, 0, 0]),
        rule(atoms=[0, 2], modulus=1.5),
    )[0]
    np.testing.assert_allclose(found[[0, 3]], [[1.5, 0, 0]] * 2)
    np.testing.assert_array_equal(found[[1, 4]], CELL.spin[[1, 1]])
    assert not found[[2, 5]].any(), "no spin on other types"


def test_waves():
    """Spins are reversed from cell to cell, or turned."""
    wave = {"type": "Ni", "wave_vector": [0.5, 0, 0]}
    found = placed(rule(**wave))[0]
    np.testing.assert_allclose(found[[0, 3]], [[0, 0, 1], [0, 0, -1]])
    wave["wave_vector"] = [0.25, 0, 0]
    found = placed(rule(**wave, axis=[0, 5, 0]))[0]
    np.testing.assert_allclose(found[[0, 3]], [[0, 0, 1], [1, 0, 0]], atol=1e-15)


def test_random_directions():
    """By seed and rule; moduli stay."""
    anywhere = rule(direction="random")
    found = placed(anywhere, seeds=(1, 2))
    np.testing.assert_array_equal(found, placed(anywhere, seeds=(1, 2)))
    assert np.abs(found[0] - found[1])[[0, 1, 3, 4]].min(axis=0).max() > 0
    np.testing.assert_array_equal(placed(anywhere, seeds=(2,))[0], found[1])
    assert not np.array_equal(placed(rule(), anywhere), placed(anywhere))
    modulus = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(modulus, [[1, 2, 0] * 2] * 2, atol=1e-15)


def test_missing_spins():
    bare = replace(CELL, spin=None)
    with pytest.raises(DataError, match="or give rules in `spins` of the input"):
        placed(cell=bare)
    with pytest.raises(InputError, match=r"gives atom 1 of the file \(Fe\) both"):
        placed(rule(type="Ni", modulus=1.0, direction=[0, 0, 1]), cell=bare)
    found = placed(rule(modulus=1.0, direction=[0, 0, 1]), cell=bare)
    np.testing.assert_array_equal(found[0, :3], [[0, 0, 1], [0, 0, 1], [0, 0, 0]])


def test_mistakes():
    with pytest.raises(InputError, match='`spins/1/type` is "Co"; expected one of Ni'):
        placed(rule(), rule(type="Co"))
    with pytest.raises(InputError, match="There is no atom 3: the file has 3"):
        placed(rule(atoms=[0, 3]))
    assert not copies_of(np.array([0, 1, 0, 1]), [], 2).any()
