# SPDX-License-Identifier: Apache-2.0
"""Frames are taken bit for bit, from the sets they are in."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import ATYPE, load, make, write_npy

from deepspin.data.selection import extract


@pytest.mark.parametrize("frames", [[0], [3, 4], [1, 2, 6], range(7)])
def test_frames(tmp_path, frames):
    """Counted through sets of 3 and 4 frames."""
    frames, data = list(frames), make(7)
    path = write_npy(tmp_path / "all", ATYPE, data, cuts=(0, 3, 7))
    content = extract(path, frames, load(path).sets)
    content.write_folder(tmp_path / "some")
    stored = {
        name: [np.load(p) for p in sorted((tmp_path / "some").glob(f"*/{name}.npy"))]
        for name in data
    }
    for name, arrays in stored.items():
        whole = data[name].reshape(7, -1)[frames]
        found = np.concatenate(arrays).reshape(len(frames), -1)
        np.testing.assert_array_equal(found, whole, err_msg=name)
    sets = {frame >= 3 for frame in frames}
    assert len(stored["coord"]) == len(sets), "a set without frames is left out"


def test_arrays_that_are_not_of_frames_are_left_out(tmp_path):
    path = write_npy(tmp_path / "all", ATYPE, make(4))
    np.save(tmp_path / "all" / "set.000" / "notes.npy", np.zeros(3))
    content = extract(path, [1], load(path).sets)
    (arrays,) = content.sets.values()
    assert "coord" in arrays and "notes" not in arrays
