# SPDX-License-Identifier: Apache-2.0
"""One line on the terminal that tells how far a long job is."""

from __future__ import annotations

import sys
from typing import Any

# attribute of log records that such a line replaces
PROGRESS = {"progress": True}
# narrower terminals get no bar
WIDE = 110


def is_live() -> bool:
    """Whether stderr is a terminal on which a line can be written over."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class ProgressLine:
    """A line with a bar, the time still needed and a text, which adapts to its width.

    Nothing is shown where `is_live` is false. Colours are left out if the environment
    has NO_COLOR.

    Parameters
    ----------
    total : int
        Steps of the whole job.
    done : int
        Steps that are done already.
    name : str
        What the steps are called.
    """

    def __init__(self, total: int, done: int = 0, name: str = "step"):
        self._total, self._done, self._name = total, done, name
        self._progress: Any = None

    def __enter__(self) -> ProgressLine:
        if is_live():
            from rich import progress
            from rich.console import Console
            from rich.table import Column

            console = Console(stderr=True)
            text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            bar = [progress.BarColumn(bar_width=16)] * (console.width >= WIDE)
            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.MofNCompleteColumn(),
                *bar,
                progress.TimeRemainingColumn(compact=True),
                progress.TextColumn("{task.fields[text]}", table_column=text),
                console=console,
                expand=True,
                speed_estimate_period=60.0,
            )
            taken = len(self._name) + 2 * len(str(self._total)) + len(" / 00:00:00 ")
            self._space = console.width - taken - 17 * len(bar)
            self._task = self._progress.add_task(
                self._name, total=self._total, completed=self._done, text=""
            )
            self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, done: int) -> None:
        """Tell how many steps are done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def tell(self, *words: str) -> None:
        """Show words behind the bar, as many as there is space for."""
        if self._progress is None:
            return
        text = ""
        for word in words:
            if len(text) + len(word) < self._space:
                text += f" {word}" if text else word
        self._progress.update(self._task, text=text)
