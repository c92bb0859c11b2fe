# SPDX-License-Identifier: Apache-2.0
"""Whether a compiled library was made of the sources beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("src")
MARK = "deepspin sources: "


def fingerprint(folder: Path = FOLDER) -> str:
    """Fingerprint of all sources in a folder; `setup.py` compiles it into libraries."""
    files = sorted([*folder.glob("*.cc"), *folder.glob("*.h")])
    content = b"".join(f.name.encode() + b"\n" + f.read_bytes() for f in files)
    return hashlib.sha256(content).hexdigest()[:16]


def is_stale(library: Path) -> bool:
    """Whether a library was compiled of other sources than those of this package.

    Never where a package came without its sources: the library came with it.
    """
    if not FOLDER.is_dir():
        return False
    return (MARK + fingerprint()).encode() not in library.read_bytes()
