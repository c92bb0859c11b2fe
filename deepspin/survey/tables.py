# SPDX-License-Identifier: Apache-2.0
"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay rows out under a title; numbers to the right, words to the left.

    Parameters
    ----------
    title : str
        Line above the table.
    header : sequence of str
        Names of the columns.
    rows : sequence of sequences
        Cells; None is shown as a dash, a float with four digits.

    Returns
    -------
    str
        Lines, with an empty one at the end.
    """
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    columns = []
    for column in zip(*cells, strict=True):
        width = max(map(len, column))
        number = all(_is_number(cell) for cell in column[1:])
        columns.append([c.rjust(width) if number else c.ljust(width) for c in column])
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return "\n".join([title, *(f"  {line}" for line in lines), "", ""])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _is_number(text: str) -> bool:
    return text == "-" or text[:1].isdigit() or text[:2].lstrip("+-")[:1].isdigit()
