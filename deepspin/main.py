# SPDX-License-Identifier: Apache-2.0
"""Command line of ``dp-spin``; imports no TensorFlow."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from deepspin import __version__
from deepspin.entrypoints import (
    change_bias,
    check_data,
    check_symmetry,
    compress,
    convert_data,
    convert_from,
    convert_to,
    doc,
    elsewhere,
    exchange,
    export_dft,
    freeze,
    import_dft,
    init,
    magnons,
    md,
    model_devi,
    neighbor_stat,
    plot,
    relax,
    select,
    show,
    spectrum,
    test,
    thermo,
    train,
)
from deepspin.utils.terminal import REPLACED, any_encoding, is_live, shown

log = logging.getLogger("deepspin")

# what a user can mend; other errors are ours
MISTAKES = (ValueError, OSError, RuntimeError, MemoryError)
# in the order of their help
VERBS = (
    *(init, check_data, check_symmetry, neighbor_stat, convert_data, train, plot, test),
    *(
        model_devi,
        select,
        export_dft,
        import_dft,
        relax,
        md,
        thermo,
        exchange,
        magnons,
        spectrum,
        change_bias,
        freeze,
        compress,
        show,
        convert_from,
        convert_to,
        doc,
    ),
)


def main(args: Sequence[str] | None = None) -> int:
    """Run ``dp-spin``; returns the exit status."""
    with any_encoding():
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    options = vars(build_parser().parse_args(args))
    verbose, log_path = options.pop("verbose"), options.pop("log_path")
    call = options.pop("call")
    options.pop("verb")
    try:
        _set_up_log(verbose, log_path)
        call(**options)
    except KeyboardInterrupt as stop:
        log.warning("%s", str(stop) or "interrupted")
        return getattr(stop, "status", 130)
    except BrokenPipeError:
        return 0
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, MISTAKES):
            text = (
                f"unexpected {type(error).__name__}: {text}. Please report this with "
                "the traceback, which -v shows."
            )
        log.error("%s", text, exc_info=error)
        return 1
    finally:
        _close_log()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Declare all verbs and their options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show debug messages and the traceback of an error",
    )
    common.add_argument(
        "-l", "--log-path", metavar="LOG", help="also write messages to this file"
    )
    parser = _Parser(
        prog="dp-spin",
        description="Deep potentials with atomic spins.",
        epilog="`dp-spin VERB -h` explains a verb.",
    )
    parser.add_argument(
        "--version", action="version", version=f"deepspin {__version__}"
    )
    verbs = parser.add_subparsers(title="verbs", dest="verb", required=True)
    for verb in VERBS:
        verb.add_parser(verbs, common)
    return parser


class _Parser(argparse.ArgumentParser):
    """Knows what users of DeePMD-kit type."""

    def error(self, message: str) -> NoReturn:
        """End with status 2, and what to do where that is known."""
        super().error(shown(elsewhere.answer(message) or message))


def _set_up_log(verbose: bool, log_path: str | None) -> None:
    """Show messages on the terminal and write them, with tracebacks, to a file."""
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    screen = _Screen()
    screen.setFormatter(_Plain(verbose))
    log.addHandler(screen)
    if log_path:
        try:
            file = logging.FileHandler(log_path, encoding="utf-8", errors=REPLACED)
        except OSError as error:
            raise OSError(
                f"The log '{log_path}' cannot be written: {error.strerror}. Make its "
                "folder, or choose another."
            ) from error
        file.setFormatter(_Full())
        log.addHandler(file)
        screen.setFormatter(_Plain(verbose, log_path))


def _close_log() -> None:
    """Leave the log as it was, for those who call `main` from Python."""
    log.setLevel(logging.NOTSET)
    log.propagate = True
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()


class _Screen(logging.StreamHandler):
    """Writes to what `sys.stderr` is by then: a line of progress stands in for it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = is_live()

    @property
    def stream(self) -> TextIO:
        """Where to write."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Do nothing: it is always the same."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what a line of progress shows."""
        if getattr(record, "progress", False) and self.live:
            return False
        return super().filter(record)


class _Full(logging.Formatter):
    """Messages of the log file, with time and place."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Write a message and its traceback."""
        return shown(super().format(record))


class _Plain(logging.Formatter):
    """Messages as they are, warnings and errors marked.

    Parameters
    ----------
    tracebacks : bool
        Show that of an error.
    log_path : str, optional
        Where else it can be found.
    """

    def __init__(self, tracebacks: bool, log_path: str | None = None):
        super().__init__()
        self.tracebacks, self.log_path = tracebacks, log_path

    def format(self, record: logging.LogRecord) -> str:
        """Write a message in one line, but for the traceback."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"dp-spin: {record.levelname.lower()}: {text}"
        if record.exc_info and self.log_path:
            text += f" (traceback in '{self.log_path}')"
        if record.exc_info and self.tracebacks:
            text += "\n" + self.formatException(record.exc_info)
        return shown(text)
