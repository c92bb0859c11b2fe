# SPDX-License-Identifier: Apache-2.0
"""One mistake: what was done, what is answered, how the test makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# what varies from run to run or between versions of libraries
VARIES = "{...}"
TRAIN = "train input.json"

Step = Callable[[], None]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Parameters
    ----------
    section : str
        One of `SECTIONS`.
    did : str
        What was done, for the document.
    how : str
        What was typed after ``dp-spin``, or for the section Python the code.
    says : str
        The answer in full; `VARIES` stands for what varies.
    steps : sequence of callable
        What turns a folder with a valid training into the mistake.
    ends : int or str
        Exit status, or the exception's name.
    shows : str
        What was written, for the document.
    """

    section: str
    did: str
    how: str
    says: str
    steps: Sequence[Step] = ()
    ends: int | str = 1
    shows: str = ""
