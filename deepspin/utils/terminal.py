# SPDX-License-Identifier: Apache-2.0
"""What the terminal is told: signs that it has, and a line on how far a long job is."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# attribute of log records that such a line replaces
PROGRESS = {"progress": True}
# narrower terminals get no bar
WIDE = 110
# instead of signs that a terminal's encoding lacks
SIGNS = {"Å": "A", "μ": "u", "−": "-", "·": "*", "×": "x", "±": "+-", "Σ": "sum"}
SIGNS |= {
    "²": "^2",
    "³": "^3",
    "⁴": "^4",
    "ᵀ": "^T",
    "°": " deg",
    "…": "...",
    "→": "->",
}
REPLACED = (
    "deepspin.signs"  # name of what does that, as an `errors` of Python's streams
)
# what terminals act on rather than show, apart from ends of lines and tabs: control
# characters, other ends of lines, and changes of the direction of writing
_CONTROLS = {
    *range(32),
    *range(127, 160),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}
_CONTROLS |= {0x200E, 0x200F, 0x2028, 0x2029}
_ESCAPES = {n: chr(n).encode("unicode_escape").decode() for n in _CONTROLS - {9, 10}}


def shown(text: str) -> str:
    r"""Text with an escape, such as ``\x1b``, for each sign that a terminal acts on."""
    return text.translate(_ESCAPES)


def say(text: str) -> None:
    """Write text to the standard output, see `shown`."""
    sys.stdout.write(shown(text))


@contextmanager
def any_encoding() -> Iterator[None]:
    """Have both outputs take any sign: what their encoding lacks is spelt in ASCII."""
    before = []
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                before.append((stream, stream.errors))
                stream.reconfigure(errors=REPLACED)
        yield
    finally:
        for stream, errors in before:
            with suppress(OSError, ValueError):  # a broken pipe, or closed
                stream.reconfigure(errors=errors)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Spell signs, letters without their accents, others and odd bytes as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell, error.object[error.start : error.end])), error.end


def _spell(sign: str) -> str:
    plain = unicodedata.normalize("NFKD", SIGNS.get(sign, sign))
    plain = "".join(c for c in plain if c.isascii())
    return plain or sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(REPLACED, _replace)


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
