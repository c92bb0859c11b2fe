# SPDX-License-Identifier: Apache-2.0
"""Spins in the arrays of ASE's atoms."""

import numpy as np
import pytest
from ase import Atoms

from deepspin.data.moments import INITIAL, read_moments

SPIN = np.array([[0, 0, 1.0], [1, 0, 0]])


def atoms_with(**arrays):
    atoms = Atoms("NiO", positions=[[0, 0, 0], [0, 0, 2.0]])
    for name, values in arrays.items():
        atoms.arrays[name] = np.array(values)
    return atoms


@pytest.mark.parametrize("name", [INITIAL, "spin", "spins"])
def test_vectors(name):
    found = read_moments(atoms_with(**{name: SPIN}))
    assert (found.name, found.along_z) == (name, False)
    np.testing.assert_array_equal(found.vectors, SPIN)


def test_numbers_are_along_z():
    found = read_moments(atoms_with(spin=[2, -1]))
    assert found.along_z
    np.testing.assert_array_equal(found.vectors, [[0, 0, 2.0], [0, 0, -1.0]])
    assert found.vectors.dtype == float


def test_several_arrays():
    """The first one counts; those that are looked at must agree."""
    assert read_moments(atoms_with(spins=SPIN, spin=SPIN)).name == "spin"
    other = atoms_with(spin=SPIN, initial_magmoms=-SPIN)
    with pytest.raises(ValueError, match="differ: initial_magmoms and spin"):
        read_moments(other)
    found = read_moments(other, (INITIAL,))
    np.testing.assert_array_equal(found.vectors, -SPIN)


def test_none_and_wrong_shapes():
    assert read_moments(atoms_with(magmoms=SPIN)) is None
    assert read_moments(atoms_with(spin=SPIN), (INITIAL,)) is None
    with pytest.raises(ValueError, match=r"spin must be N or N x 3.*\(2, 2\)"):
        read_moments(atoms_with(spin=SPIN[:, :2]))
