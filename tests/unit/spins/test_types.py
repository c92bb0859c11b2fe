# SPDX-License-Identifier: Apache-2.0
"""Which types are magnetic."""

import numpy as np

from deepspin.spins.types import SpinTypes


def test_types():
    types = SpinTypes.of([0, True, False, 1])
    assert types.use_spin == (False, True, False, True)
    assert (types.ntypes, types.spin_types) == (4, (1, 3))
    atype = np.array([[1, 0, -1], [3, 2, -1]])
    want = [[True, False, False], [True, False, False]]
    np.testing.assert_array_equal(types.is_magnetic(atype), want)
