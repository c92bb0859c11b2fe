# SPDX-License-Identifier: Apache-2.0
"""Files with every label beside its prediction."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deepspin.infer.accuracy import LINES, Accuracy
from deepspin.pictures.plots import QUANTITIES
from deepspin.utils.outputs import OutputError, claim, replacing

log = logging.getLogger(__name__)


def claim_details(prefix: str) -> list[Path]:
    """Make sure that detail files can be written, see `write_details`; their paths."""
    if not Path(prefix).name or prefix.endswith("/"):
        raise OutputError(
            f"-d takes the beginning of file names, such as 'results/detail'. Got "
            f"'{prefix}'."
        )
    for suffix in LINES:
        path = _detail(prefix, suffix)
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder. Give another prefix to -d.")
    claim(_detail(prefix, "e"))
    return [_detail(prefix, suffix) for suffix in LINES]


def _detail(prefix: str, suffix: str) -> Path:
    return Path(f"{prefix}.{suffix}.out")


def write_details(accuracy: Accuracy, prefix: str) -> None:
    """Write PREFIX.e.out, .fr.out, .fm.out, .v.out ...: labels, then predictions.

    None of them if one fails; those of an earlier test that have no successor go.
    """
    written = [suffix for suffix in LINES if suffix in accuracy.pairs]
    with ExitStack() as stack:
        for suffix in written:
            partial = stack.enter_context(replacing(_detail(prefix, suffix)))
            with open(partial, "wb") as file:
                for path, pairs in zip(accuracy.paths, accuracy.of_each, strict=True):
                    if suffix in pairs:
                        _write_table(file, path, suffix, pairs[suffix])
    for suffix in LINES:
        stale = _detail(prefix, suffix)
        if suffix not in written and stale.exists():
            stale.unlink()
            log.info("removed %s of an earlier test: no such label here", stale)


def _write_table(
    file: BinaryIO, path: str, suffix: str, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    components = QUANTITIES[suffix].components
    columns = [f"{kind}_{c}" for kind in ("data", "pred") for c in components]
    note = " (per real atom)" if LINES[suffix][1] else ""
    header = f"{path}{note}: {' '.join(columns)}"
    np.savetxt(file, np.hstack(pair), header=header, encoding="utf-8")
