# SPDX-License-Identifier: Apache-2.0
"""Systems in the internal form, and where their frames stand on disk."""

from __future__ import annotations

from layouts import ATYPE, load, make, write_npy

from deepspin.data.frames import Places, frame_of, order_hint

PLACES = Places((("a/set.000", 2), ("a/set.001", 3)))


def test_frame_of_a_set():
    assert frame_of(PLACES, 0) == "frame 0 of 'a/set.000'"
    assert frame_of(PLACES, 2) == "frame 0 of 'a/set.001'"
    assert frame_of(PLACES, 4) == "frame 2 of 'a/set.001'"


def test_where(tmp_path):
    system = load(write_npy(tmp_path / "sys", ATYPE, make()))
    inside = f"frame 1 of '{tmp_path}/sys/set.000'"
    assert system.where(1) == inside
    number = system.index[1, 2]
    assert system.where(1, 2) == f"atom {number}, {inside}"
    assert (system.nframes, system.nloc) == system.coord.shape[:2]


def test_order():
    assert "type 0 is Ni, 1 is O, in the order of" in order_hint(["Ni", "O"])
