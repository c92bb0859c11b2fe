# SPDX-License-Identifier: Apache-2.0
"""Frames as one system, and a system as frames."""

import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.data.formats.stack import stack, unstack

BOX = 4 * np.eye(3)


def frame(symbols="NiO", cell=BOX, seed=0, **arrays):
    names = {"NiO": ("Ni", "O"), "ONi": ("O", "Ni"), "O": ("O",), "12": ("2", "1")}
    coord = np.random.default_rng(seed).normal(size=(len(names[symbols]), 3))
    return Frame(f"frame {seed}", names[symbols], coord, cell, arrays)


def test_the_same_atoms():
    spin = np.arange(6.0).reshape(2, 3)
    given = [frame(seed=k, spin=spin + k, energy=np.array(k)) for k in range(3)]
    found = stack("a", given)
    assert found.head["type_map.raw"] == ["Ni", "O"]
    assert found.head["type.raw"].tolist() == [0, 1]
    (part,) = found.sets
    assert part.arrays["coord"].shape == (3, 6)
    np.testing.assert_array_equal(part.arrays["spin"][2], spin.ravel() + 2)
    np.testing.assert_array_equal(part.arrays["energy"], [0, 1, 2])
    assert "real_atom_types" not in part.arrays


def test_other_atoms_are_mixed_types():
    given = [frame("NiO"), frame("ONi", seed=1), frame("O", seed=2)]
    found = stack("a", given)
    arrays = found.sets[0].arrays
    assert arrays["real_atom_types"].tolist() == [[0, 1], [1, 0], [1, -1]]
    np.testing.assert_array_equal(arrays["coord"][2, :3], given[2].coord[0])


def test_a_label_of_some_frames():
    """NaN where it is not, also in frames of fewer atoms."""
    force = np.ones((2, 3))
    given = [frame(force=force, energy=np.array(1.0)), frame("O", seed=1)]
    arrays = stack("a", given).sets[0].arrays
    np.testing.assert_array_equal(arrays["force"][0], np.ones(6))
    assert np.isnan(arrays["force"][1]).all()
    assert np.isnan(arrays["energy"]).tolist() == [False, True]


def test_types_without_names():
    found = stack("a", [frame("12")])
    assert "type_map.raw" not in found.head
    assert found.head["type.raw"].tolist() == [1, 0]


def test_open_boundaries_and_frame_parameters():
    given = [frame(cell=None, seed=k, fparam=np.array([1.0, k])) for k in range(2)]
    found = stack("a", given)
    assert "nopbc" in found.head
    assert "box" not in found.sets[0].arrays
    assert found.sets[0].fparam.tolist() == [[1, 0], [1, 1]]


def test_what_is_left_out_is_told(caplog):
    bad = frame(seed=1, energy=np.array(np.nan))
    given = [frame(), Dropped("frame 9", "it is odd"), bad, Dropped("x", "it is odd")]
    assert stack("a", given).sets[0].nframes == 1
    (said,) = caplog.messages
    assert said == (
        "3 of 4 frames of 'a' are left out (those that are read count on from 0): "
        "2: it is odd; 1: energy is not finite"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "'a' has no frame to read. Leave it out"),
        ([Dropped("x", "odd")] * 2, "no frame to read. All 2 are left out: 2: odd"),
        ([frame(), frame(cell=None, seed=1)], "frame 0 has cell, frame 1 has not"),
        ([frame(spin=np.ones((2, 3))), frame(seed=1)], "frame 0 has spins, frame 1"),
        (
            [frame(fparam=np.ones(1)), frame(fparam=np.ones(2))],
            r"frames have \[1, 2\] frame parameters",
        ),
    ],
)
def test_frames_that_do_not_fit(given, message):
    with pytest.raises(DataError, match=message):
        stack("a", given)


def test_there_and_back():
    arrays = {"spin": np.ones((2, 3)), "energy": np.array(2.0), "fparam": np.ones(2)}
    given = [
        frame(**arrays),
        frame("O", seed=1, spin=np.ones((1, 3)), fparam=-np.ones(2)),
    ]
    found = stack("a", given)
    rows = [found.sets[0].arrays | {"fparam": found.sets[0].fparam}]
    head = found.head
    back = unstack("a", head["type.raw"], head["type_map.raw"], rows, True)
    for one, other in zip(back, given, strict=True):
        assert one.symbols == other.symbols
        np.testing.assert_array_equal(one.coord, other.coord)
        np.testing.assert_array_equal(one.cell, other.cell)
        assert one.arrays.keys() == other.arrays.keys()
        for name, array in other.arrays.items():
            np.testing.assert_array_equal(one.arrays[name], array)
