# SPDX-License-Identifier: Apache-2.0
"""Tables of text."""

from __future__ import annotations

from deepspin.survey.tables import table


def test_table():
    text = table("Title", ["name", "n"], [["a", 1.23456], ["long", None], ["b", -12]])
    assert (
        text == "Title\n  name      n\n  a     1.235\n  long      -\n  b       -12\n\n"
    )
