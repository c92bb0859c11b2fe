# SPDX-License-Identifier: Apache-2.0
"""Whether a compiled library is whole, and made of the sources beside it."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

FOLDER = Path(__file__).with_name("src")
MARK = "deepspin sources: "


def fingerprint(folder: Path = FOLDER) -> str:
    """Fingerprint of all sources in a folder; `setup.py` compiles it into libraries."""
    files = sorted([*folder.glob("*.cc"), *folder.glob("*.h")])
    content = b"".join(f.name.encode() + b"\n" + f.read_bytes() for f in files)
    return hashlib.sha256(content).hexdigest()[:16]


def trouble(library: Path) -> str | None:
    """Why a library must not be loaded; None where nothing speaks against it.

    The sources are compared where they are there; a package without them brought the
    library along.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    content = library.read_bytes()
    if _ends_early(content):  # loading it would end the process
        return "the file is damaged"
    if FOLDER.is_dir() and (MARK + fingerprint()).encode() not in content:
        return "built from other sources than these; `pip install -e .` builds it again"
    return None


def _ends_early(content: bytes) -> bool:
    """Whether a library is shorter than its header says (64-bit ELF files)."""
    if content[:5] != b"\x7fELF\x02":
        return False
    if len(content) < 64:
        return True
    order = "<" if content[5] == 1 else ">"
    (sections,) = struct.unpack_from(order + "Q", content, 40)
    size, number = struct.unpack_from(order + "HH", content, 58)
    return sections + size * number > len(content)
