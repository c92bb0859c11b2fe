# SPDX-License-Identifier: Apache-2.0
"""Folders that are filled once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def shared(
    factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]
) -> Path:
    """Folder of a name that `fill` fills, by whichever process needs it first.

    Others wait for it. Nothing may be changed there: tests that write copy it.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder in that of the run
        root = root.parent
    folder, partial = root / f"shared-{name}", root / f"partial-{name}"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(partial, ignore_errors=True)  # of one that has failed
            partial.mkdir()
            fill(partial)
            partial.rename(folder)
    return folder
