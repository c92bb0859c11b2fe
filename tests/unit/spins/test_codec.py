# SPDX-License-Identifier: Apache-2.0
"""Virtual atoms in files."""

import numpy as np
import pytest

from deepspin.spins.codec import VirtualAtomCodec

CODEC = VirtualAtomCodec.from_options([False, True, True], [0.4, 0.3], [1.6, 2.0])


def test_options():
    assert CODEC.scale == (0.0, 0.25, 0.15)
    assert CODEC.virtual_len == (0.0, 0.4, 0.3)
    assert (CODEC.ntypes, CODEC.ntypes_file) == (3, 5)
    scaled = VirtualAtomCodec.from_options([True], virtual_scale=[0.3])
    assert scaled.scale == (0.3,) and scaled.virtual_len == (0.0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"virtual_len": [0.4]}, "Give either `virtual_len` and `spin_norm`, or"),
        ({"virtual_len": [0.4], "spin_norm": [0.0]}, "must be positive. Received: 0.0"),
        ({"virtual_scale": [0.3, 0.2]}, "1 types have a spin, but 2 values were given"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        VirtualAtomCodec.from_options([True, False], **options)


def test_fields_that_do_not_fit():
    with pytest.raises(ValueError, match="must be positive on spin types and 0 on"):
        VirtualAtomCodec(CODEC.types, (0.1, 0.25, 0.15), CODEC.virtual_len)
    with pytest.raises(ValueError, match="must have one entry per type"):
        VirtualAtomCodec(CODEC.types, (0.0, 0.25), CODEC.virtual_len)


def test_spins_come_back():
    rng = np.random.default_rng(0)
    atype = np.array([1, 2, 0, 1])
    coord, spin = rng.normal(size=(2, 5, 4, 3))
    placed = CODEC.place(coord, spin, atype)
    np.testing.assert_array_equal(placed[:, 2], coord[:, 2])  # has no spin
    here = atype > 0
    found = CODEC.spins_from(coord[:, here], placed[:, here], atype[here])
    np.testing.assert_allclose(found, spin[:, here], rtol=1e-12, atol=1e-13)


def test_pairs_in_order_of_each_type():
    types = np.array([3, 1, 0, 2, 1, -1, 4, 3])
    real, virtual = CODEC.pair(types)
    np.testing.assert_array_equal(real, [1, 2, 3, 4])
    np.testing.assert_array_equal(virtual, [0, -1, 6, 7])
    with pytest.raises(ValueError, match="2 atoms of spin type 1 but 1 virtual atoms"):
        CODEC.pair(types[1:])


def test_numbers_in_files():
    names = ["A", "B", "C"]
    assert CODEC.file_types(None, names, unknown=-2) == [0, 1, 2, 3, 4]
    # virtual atoms without names follow, in the order of the file
    assert CODEC.file_types(["C", "A", "B"], names, -2) == [2, 0, 1, 4, 3]
    assert CODEC.file_types(["B", "B_spin", "X"], names, -2) == [1, 3, -2]
