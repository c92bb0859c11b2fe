# SPDX-License-Identifier: Apache-2.0
"""Frames between bounds."""

import logging

import numpy as np
import pytest

from deepspin.infer.candidates import Bounds, listing_of, select
from deepspin.infer.deviation import FORCE, FORCE_MAG, Deviations
from deepspin.utils.refused import InputError

FORCES = [0.1, 0.2, 0.3, 0.1, 0.1, 0.4]
FORCES_MAG = [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]


def deviations(path="s"):
    table = np.zeros((6, 11))
    table[:, FORCE], table[:, FORCE_MAG] = FORCES, FORCES_MAG
    return Deviations(path, table, np.zeros((6, 1)), np.zeros((6, 1)))


@pytest.mark.parametrize(
    ("bounds", "chosen"),
    [
        (Bounds(select=(0.2, 0.4)), [1, 2]),
        (Bounds(select_fm=(2.0, 3.0)), [3]),
        (Bounds((0.2, 0.4), (2.0, 3.0)), [1, 2, 3]),
        (Bounds((0.2, 9.0), (2.0, 9.0)), [1, 2, 3, 4, 5]),
        (Bounds(select=(0.0, 0.1)), []),
    ],
)
def test_select(tmp_path, bounds, chosen):
    """One reaches its lower bound, none its upper one."""
    listing = tmp_path / "x.candidates"
    found = select(listing, [deviations()], bounds)
    assert {k: v.tolist() for k, v in found.items()} == (
        {"s": chosen} if chosen else {}
    )
    head, *lines = listing.read_text().splitlines()
    assert head == "# system frame max_devi_f max_devi_fm"
    assert [line.split()[:2] for line in lines] == [["s", str(k)] for k in chosen]
    for line, k in zip(lines, chosen, strict=True):
        assert [float(x) for x in line.split()[2:]] == [FORCES[k], FORCES_MAG[k]]


def test_nothing_to_judge_by(tmp_path, caplog):
    """A frame without the label is neither accurate nor a candidate."""
    found = deviations()
    found.table[:2, FORCE] = np.nan
    found.table[1, FORCE_MAG] = np.nan
    with caplog.at_level(logging.INFO):
        chosen = select(tmp_path / "l", [found], Bounds((0.2, 0.35)))
    assert chosen["s"].tolist() == [2]
    assert "2 frames are accurate, 1 candidates" in caplog.text
    assert "2 frames have nothing to judge them by" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        found.tell()
    assert "largest deviation of forces 0.4, of magnetic forces 3" in caplog.text


def test_systems_apart(tmp_path):
    found = select(
        tmp_path / "l", [deviations("a"), deviations("b")], Bounds((0.4, 1.0))
    )
    assert {k: v.tolist() for k, v in found.items()} == {"a": [5], "b": [5]}


@pytest.mark.parametrize("pair", [(0.3, 0.1), (0.1, 0.1), (-1.0, 0.1), (np.nan, 1.0)])
@pytest.mark.parametrize("name", ["select", "select_fm"])
def test_order_of_bounds(name, pair):
    with pytest.raises(InputError, match="take a lower and a higher bound"):
        Bounds(**{name: pair})


def test_no_bounds():
    assert not Bounds() and Bounds(select_fm=(0.0, 1.0))


def test_listing():
    assert str(listing_of("d/model_devi.out")) == "d/model_devi.candidates"
