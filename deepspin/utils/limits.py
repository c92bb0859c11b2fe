# SPDX-License-Identifier: Apache-2.0
"""Files that are read: what they may cost, and whether they may be read at all."""

from __future__ import annotations

import os
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

# a file may grow in memory to this many bytes, or to this many times its size
FREE, GROWTH = 256 * 2**20, 100
# inputs and the like: bytes, levels, and values that names of others stand for
TEXT, DEPTH, REPEATED = 16 * 2**20, 100, 100_000


def check_readable(path: str | Path) -> None:
    """Refuse a file that this user may not read; it need not be damaged.

    Raises
    ------
    PermissionError
        It may not be read.
    """
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise PermissionError(
            f"'{path}' may not be read: its owner must allow that (chmod), or copy it."
        )


def check_size(
    what: str,
    size: int,
    declared: int,
    advice: str = "If that is right, write it without compression",
) -> None:
    """Refuse a file that would be far larger in memory than it is on the disk.

    Parameters
    ----------
    what : str
        What messages call it.
    size, declared : int
        Bytes that it has, and that it would become.
    advice : str
        What to do, without a full stop.

    Raises
    ------
    OSError
        It would.
    """
    if declared > FREE and declared > GROWTH * size:
        raise OSError(
            f"{what} has {_bytes(size)} and says that it holds {_bytes(declared)}, "
            f"more than {GROWTH} times as much. {advice}"
        )


def check_archive(path: str | Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would be far larger in memory; see `check_size`."""
    declared = sum(member.file_size for member in archive.infolist())
    check_size(f"'{path}'", os.path.getsize(path), declared)


def check_nets(what: str, size: int, config: Any) -> None:
    """Refuse a model whose nets would be far larger than the file of their weights.

    Parameters
    ----------
    what : str
        What messages call it.
    size : int
        Bytes of the file.
    config : dict
        Options of the model; those of a net have its widths as ``neuron``.

    Raises
    ------
    OSError
        They would.
    """
    advice = "Use the file as it was written"
    check_size(what, size, 8 * _weights(config), advice)


def _weights(config: Any) -> int:
    """Number of weights of all nets in some options, at least."""
    if isinstance(config, list):
        return sum(map(_weights, config))
    if not isinstance(config, dict):
        return 0

    def number(name: str) -> int:
        value = config.get(name)
        return value if isinstance(value, int) else 0

    found = sum(map(_weights, config.values()))
    widths = config.get("neuron")
    if isinstance(widths, list) and all(isinstance(n, int) for n in widths):
        widths = [number("dim_descrpt") + number("numb_fparam"), *widths]
        found += sum(a * b for a, b in pairwise(widths))
        found += widths[-1] * number("axis_neuron")
    return found


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a text that people write.

    Raises
    ------
    OSError
        It is too long for that.
    UnicodeDecodeError
        It is no text.
    """
    size = path.stat().st_size
    if size > TEXT:
        raise OSError(
            f"'{path}' has {_bytes(size)}, and a text of this kind at most "
            f"{_bytes(TEXT)}"
        )
    return path.read_text(encoding=encoding)


def check_tree(data: Any) -> None:
    """Refuse nested data that are too deep, circular, or mostly repeat themselves.

    Raises
    ------
    ValueError
        They are.
    """
    sizes: dict[int, int] = {}
    _measure(data, sizes, set(), 0)


def _measure(node: Any, sizes: dict[int, int], above: set[int], depth: int) -> int:
    """Number of values in a node, counted as often as they appear."""
    if not isinstance(node, dict | list):
        return 1
    key = id(node)
    if key in above:
        raise ValueError("it contains itself")
    if depth > DEPTH:
        raise ValueError(f"it is nested more than {DEPTH} levels deep")
    if key in sizes:
        if sizes[key] > REPEATED:
            raise ValueError(
                f"it repeats a part of {sizes[key]} values by an alias; at most "
                f"{REPEATED} may be repeated"
            )
        return sizes[key]
    above.add(key)
    children = node.values() if isinstance(node, dict) else node
    sizes[key] = 1 + sum(_measure(n, sizes, above, depth + 1) for n in children)
    above.discard(key)
    return sizes[key]


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
