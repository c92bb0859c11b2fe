# SPDX-License-Identifier: Apache-2.0
"""Files damaged in all ways, and what may come of reading them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

NUMBER = int(os.environ.get("FUZZ", "0"))
TEXT = b"0123456789.-+eE: \n\"'=#NiOnaf\t\0\xff"


def fuzz(number: int) -> settings:
    """Settings of a test of so many examples, or of ``FUZZ`` and other ones."""
    return settings(
        max_examples=NUMBER or number,
        derandomize=not NUMBER,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: Callable, content: bytes) -> bytes:
    """Bytes flipped, cut off or out, put in or doubled; lines dropped or doubled."""
    kind = draw(
        st.sampled_from(["flip", "flip", "end", "cut", "put in", "double", "lines"])
    )
    data = bytearray(content)
    place = draw(st.integers(0, len(data) - 1))
    size = draw(st.integers(1, draw(st.sampled_from([1, 8, 64, len(data)]))))
    if kind == "flip":
        for _ in range(draw(st.integers(1, 3))):
            # half of them where the headers are
            end = len(data) - 1 if draw(st.booleans()) else min(200, len(data) - 1)
            other = st.sampled_from(TEXT) | st.integers(0, 255)
            data[draw(st.integers(0, end))] = draw(other)
    elif kind == "end":
        del data[place:]
    elif kind == "cut":
        del data[place : place + size]
    elif kind == "put in":
        data[place:place] = draw(st.binary(min_size=1, max_size=20))
    elif kind == "double":
        data[place:place] = data[place : place + size]
    else:
        rows = content.splitlines(keepends=True)
        first = draw(st.integers(0, len(rows) - 1))
        last = first + draw(st.integers(1, 4))
        times = draw(st.sampled_from([0, 0, 2]))
        data = bytearray(
            b"".join(rows[:first] + times * rows[first:last] + rows[last:])
        )
    return bytes(data)


def outcome(read: Callable[[], Any], path: str | Path) -> Any:
    """What is read; None if it is refused in one line that names the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        message = str(error)
        assert Path(path).name in message, repr(error)
        assert "\n" not in message, message
        return None
