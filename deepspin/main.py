# SPDX-License-Identifier: Apache-2.0
"""Command line of ``dp-spin``; imports no TensorFlow."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from deepspin import __version__

log = logging.getLogger("deepspin")


def build_parser() -> argparse.ArgumentParser:
    """Declare all sub-commands and their options."""
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
    parser = argparse.ArgumentParser(
        prog="dp-spin",
        description="Deep potentials with atomic spins: train, test, convert.",
        epilog="`dp-spin VERB -h` explains a verb.",
    )
    parser.add_argument(
        "--version", action="version", version=f"deepspin {__version__}"
    )
    verbs = parser.add_subparsers(title="verbs", dest="verb", required=True)
    _add_train(verbs, common)
    _add_test(verbs, common)
    _add_convert_from(verbs, common)
    _add_doc(verbs, common)
    return parser


def _add(verbs, common, name: str, entrypoint: str, text: str):
    parser = verbs.add_parser(name, parents=[common], help=text, description=text)
    parser.set_defaults(entrypoint=entrypoint)
    return parser


def _add_train(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "train",
        "deepspin.entrypoints.train:train",
        "Train a model as an input file says.",
    )
    parser.add_argument("input", metavar="INPUT", help="input file, JSON or YAML")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "-i",
        "--init-model",
        metavar="MODEL",
        help="begin with the weights of this checkpoint, at step 0",
    )
    begin.add_argument(
        "-r",
        "--restart",
        metavar="CKPT",
        help="go on from this checkpoint (file, or prefix such as model.ckpt)",
    )
    begin.add_argument(
        "-f",
        "--init-frz-model",
        metavar="FROZEN",
        help="begin with the weights of this frozen DeePMD-kit spin model (.pb)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        help="where to write the input with all defaults filled in (default: out.json)",
    )
    parser.add_argument(
        "--skip-neighbor-stat",
        action="store_true",
        help="do not report neighbours before training",
    )


def _add_test(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "test",
        "deepspin.entrypoints.test:test",
        "Compare a model with labelled data; errors per atom are per real atom.",
    )
    parser.add_argument(
        "-m",
        "--model",
        default="model.ckpt",
        help="model file (.keras, or DeePMD-kit's .pb) or prefix of checkpoints "
        "(default: model.ckpt)",
    )
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "-s", "--system", help="a system, or a folder searched for systems (default: .)"
    )
    data.add_argument(
        "-f", "--datafile", help="file with the path of one system on each line"
    )
    data.add_argument(
        "--train-data", metavar="INPUT", help="training systems of an input file"
    )
    data.add_argument(
        "--valid-data", metavar="INPUT", help="validation systems of an input file"
    )
    parser.add_argument(
        "-n",
        "--numb-test",
        type=int,
        default=0,
        help="frames of each system, 0 for all (default: 0)",
    )
    parser.add_argument(
        "--shuffle-test", action="store_true", help="choose the frames at random"
    )
    parser.add_argument("-r", "--rand-seed", type=int, help="seed of that choice")
    parser.add_argument(
        "-d",
        "--detail-file",
        metavar="PREFIX",
        help="write labels and predictions to PREFIX.e.out, .fr.out, .fm.out, .v.out",
    )
    parser.add_argument(
        "-a", "--atomic", action="store_true", help="compare atom energies too"
    )


def _add_convert_from(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "convert-from",
        "deepspin.entrypoints.convert:convert_from",
        "Take over a spin model that DeePMD-kit's TensorFlow backend froze.",
    )
    parser.add_argument("frozen", metavar="FROZEN", help="frozen model (.pb)")
    parser.add_argument(
        "-o",
        "--output",
        default="model.keras",
        help="model file to write (default: model.keras)",
    )


def _add_doc(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "doc-train-input",
        "deepspin.entrypoints.doc:doc_train_input",
        "Print the documentation of the input file.",
    )
    parser.add_argument(
        "--out-type",
        default="rst",
        choices=("rst", "json", "json_schema"),
        help="format (default: rst)",
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run ``dp-spin``; returns the exit status."""
    options = vars(build_parser().parse_args(args))
    verbose, log_path = options.pop("verbose"), options.pop("log_path")
    module, _, name = options.pop("entrypoint").partition(":")
    options.pop("verb")
    try:
        _set_up_log(verbose, log_path)
        getattr(importlib.import_module(module), name)(**options)
    except KeyboardInterrupt as stop:
        log.warning("%s", str(stop) or "interrupted")
        return getattr(stop, "status", 130)
    except BrokenPipeError:
        return 0
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        log.error("%s", text, exc_info=error)
        return 1
    finally:
        _close_log()
    return 0


def _set_up_log(verbose: bool, log_path: str | None) -> None:
    """Show messages on the terminal and write them, with tracebacks, to a file."""
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(_Plain(verbose))
    log.addHandler(screen)
    if log_path:
        file = logging.FileHandler(log_path, encoding="utf-8")
        file.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s")
        )
        log.addHandler(file)
        screen.setFormatter(_Plain(verbose, log_path))


def _close_log() -> None:
    """Leave the log as it was, for those who call `main` from Python."""
    log.setLevel(logging.NOTSET)
    log.propagate = True
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()


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
        return text
