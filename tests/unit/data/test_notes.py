# SPDX-License-Identifier: Apache-2.0
"""Remarks on systems: the worst of each kind, once."""

import logging

import pytest

from deepspin.data.notes import Notes


def test_worst_of_each_kind(caplog):
    with caplog.at_level(logging.WARNING), Notes() as notes:
        notes.nsystems = 5
        notes.add("a", "first of a", 0.1)
        notes.add("b", "only b")
        notes.add("a", "worst of a", 0.3)
        notes.add("a", "third of a", 0.3)
    assert [record.message for record in caplog.records] == [
        "worst of a The same in 2 more of 5 systems.",
        "only b",
    ]


def test_an_error_says_more(caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="wrong"):
        with Notes() as notes:
            notes.add("a", "odd")
            raise ValueError("wrong")
    assert not caplog.records
