# SPDX-License-Identifier: Apache-2.0
"""`dp-spin doc-train-input`: print the documentation of `input.json`."""

from __future__ import annotations

import sys

from deepspin.utils.argcheck import gen_doc

__all__ = ["doc_train_input"]


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
    sys.stdout.write(gen_doc(out_type) + "\n")
