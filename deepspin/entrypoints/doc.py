# SPDX-License-Identifier: Apache-2.0
"""``dp-spin doc-train-input``: print the documentation of the input file."""

from __future__ import annotations

from argparse import ArgumentParser

from deepspin.entrypoints.common import Verbs, add_verb
from deepspin.utils.terminal import say


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "doc-train-input",
        doc_train_input,
        "Print the documentation of the input file.",
    )
    parser.add_argument(
        "--out-type",
        default="rst",
        choices=("rst", "json", "json_schema"),
        help="format (default: rst)",
    )


def doc_train_input(out_type: str = "rst") -> None:
    """Print the documentation of the training input.

    Parameters
    ----------
    out_type : str
        `rst`, `json` or `json_schema`.

    Raises
    ------
    ValueError
        If `out_type` is another one.
    """
    from deepspin.utils.argcheck import gen_doc

    say(gen_doc(out_type) + "\n")
