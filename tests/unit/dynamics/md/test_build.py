# SPDX-License-Identifier: Apache-2.0
"""What a run of dynamics begins with."""

import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.dynamics.md.build import order_signs, star_signs


@pytest.fixture
def structure():
    """Two antiparallel spins in two copies of a cell, and an atom without spin."""
    return Structure(
        names=("Ni", "O"),
        atype=np.array([0, 0, 1]),
        coord=np.array([[0, 0, 0], [1, 0, 0], [0.5, 0, 0]]),
        box=np.diag([2.0, 1, 1]),
        pbc=np.ones(3, bool),
        spin=np.array([[0, 0, -1.0], [0, 0.1, 1.0], [0, 0, 0]]),
        mass=np.ones(3),
        fixed=np.zeros(3, bool),
    )


def test_signs_of_the_order(structure):
    """Those of a wave of the repeated cell, or of collinear spins; none from others."""
    magnetic = structure.atype == 0
    repeat = [2, 1, 1]
    found = order_signs([0.5, 0, 0], repeat, structure, magnetic)
    np.testing.assert_array_equal(found, [1, -1, 0])
    both = star_signs([[0.5, 0, 0], [1, 0, 0]], repeat, structure, magnetic)
    np.testing.assert_array_equal(both[0], found)
    found = order_signs([1, 0, 0], repeat, structure, magnetic)
    np.testing.assert_array_equal(both[1], found)
    one = star_signs([1, 0, 0], repeat, structure, magnetic)
    np.testing.assert_array_equal(one, [found])
    np.testing.assert_array_equal(found, [1, 1, 0])
    found = order_signs(None, repeat, structure, magnetic)
    np.testing.assert_array_equal(found, [1, -1, 0])
    structure.spin[1] = [0, 2, 0]
    assert order_signs(None, repeat, structure, magnetic) is None
    assert star_signs(None, repeat, structure, magnetic) is None
    assert order_signs(None, repeat, structure, magnetic & False) is None
