# SPDX-License-Identifier: Apache-2.0
"""What of systems cannot be right, or is odd."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import ATYPE, load, make, write_npy

from deepspin.data.checks import MIN_DISTANCE, _close_pairs
from deepspin.data.files import DataError


@pytest.mark.parametrize("pbc", [True, False])
def test_overlap_search_is_complete(pbc):
    """Against all pairs of dense, skewed cells in all images."""
    rng = np.random.default_rng(1)
    box = np.array([[1.1, 0, 0], [0.9, 0.8, 0], [-0.7, 0.5, 0.9]])
    box = np.stack([box, 0.7 * box, -box[::-1]])
    images = np.stack(np.meshgrid(*[range(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    points = rng.uniform(-2, 2, size=(3, 60, 3)) @ box * (1.0 if pbc else 0.2)
    there = rng.random((3, 60)) < 0.9
    expected = {}
    for frame, i, j in np.ndindex(3, 60, 60):
        if i < j and there[frame, i] and there[frame, j]:
            way = points[frame, i] - points[frame, j]
            if pbc:
                way -= np.round(way @ np.linalg.inv(box[frame])) @ box[frame]
                way = way + images @ box[frame]
            distance = np.linalg.norm(way, axis=-1).min()
            if distance < MIN_DISTANCE:
                expected[frame, i, j] = distance
    assert len(expected) > 10
    frame, i, j, distance = _close_pairs(points, there, box, pbc)
    pairs = zip(frame, np.minimum(i, j), np.maximum(i, j), strict=True)
    assert dict(zip(pairs, distance, strict=True)) == pytest.approx(expected)
    assert (np.diff(frame) >= 0).all()


def test_overlap_without_box(tmp_path):
    coord = np.array([[[0, 0, 0], [1e6, 0, 0], [3, 3, 3], [1e6, 0, 0.04], [9, 0, 0]]])
    path = write_npy(tmp_path / "s", [0] * 5, {"coord": coord})
    (tmp_path / "s/nopbc").touch()
    with pytest.raises(DataError, match=r"atom 1 and atom 3 .* 0\.04 Å"):
        load(path)


def test_spins_in_another_unit(tmp_path, caplog):
    data = make()
    data["spin"] *= 100
    load(write_npy(tmp_path / "sys", ATYPE, data))
    assert "are the spins in μ_B?" in caplog.text
    assert caplog.text.count("times `spin_norm`") == 1
