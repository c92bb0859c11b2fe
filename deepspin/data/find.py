# SPDX-License-Identifier: Apache-2.0
"""Finding systems: ours, and what other programs wrote.

A path may begin with the name of its format, as in ``extxyz:run/frames.txt``.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import h5py

from deepspin.data import lmdb_files
from deepspin.data.files import DataError, Foreign, InMemory, split_group
from deepspin.data.formats import deltaspin
from deepspin.data.formats.stack import stack
from deepspin.data.formats.table import (
    FORMATS,
    Format,
    Reading,
    frames_of,
    is_named,
    named,
    recognise,
)
from deepspin.data.search import search
from deepspin.utils.outputs import is_left_over

log = logging.getLogger(__name__)


def find_systems(
    systems: str | Sequence[str | InMemory],
    rglob_patterns: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> list:
    """Expand the option ``systems`` to the paths of all systems, each once.

    Parameters
    ----------
    systems : str or sequence of str
        Systems, folders or HDF5 files; each is searched through all its levels, HDF5
        files in folders too. What other programs wrote, see
        `deepspin.data.formats.table`; a folder that has no system of ours in it is
        searched for that. Those in memory stay as they are.
    rglob_patterns : sequence of str, optional
        Take only systems whose path below the searched one matches one of these.
    reading : Reading, optional
        How to read what other programs wrote.

    Returns
    -------
    list
        Folders and ``file.hdf5#/group``, in the order given, then sorted, those in HDF5
        last. What other programs wrote is `deepspin.data.files.Foreign`, which is read
        when it is needed.

    Raises
    ------
    DataError
        If one of `systems` does not exist or has no system in it.
    """
    roots = [systems] if isinstance(systems, str | Path) else list(systems)
    if not roots:
        raise DataError("`systems` is empty. Give at least one path.")
    for pattern in rglob_patterns or []:
        parts = pattern.split("/")
        if any(part == "" or ("**" in part and part != "**") for part in parts):
            raise DataError(
                f"`rglob_patterns` must be relative paths with *, or ** between two /. "
                f"Received: {pattern!r}"
            )
    found: list[str | InMemory] = []
    for root in roots:
        if isinstance(root, InMemory | Foreign):
            found.append(root)
        else:
            found += _below(str(root), rglob_patterns or None, reading or Reading())
    foreign = [p for p in found if isinstance(p, Foreign)]
    of_deltaspin = [Path(p) for p in foreign if p.kind == deltaspin.DESCRIPTION]
    deltaspin.check_alike(of_deltaspin)
    return list(dict.fromkeys(found))


def _below(root: str, patterns: Sequence[str] | None, reading: Reading) -> list[str]:
    """Systems in and below a path."""
    path, name = _split(root, reading.format)
    here = Path(os.path.expanduser(path))
    if name is not None:
        said = named(name)
        if not here.exists():
            raise DataError(f"'{path}' does not exist. Correct `systems`.")
        return [_foreign(here, said, reading, f"{name}:{here}")]
    if lmdb_files.is_lmdb(here):
        return _of_lmdb(here)
    if here.is_file() and (form := recognise(here)):
        return [_foreign(here, form, reading)]
    if here.is_file() and not h5py.is_hdf5(here):
        raise DataError(
            f"'{here}' is neither a folder nor an HDF5 file that is whole, and of no "
            "format that is recognised. Correct `systems`, write the file again, or "
            f"put the name of its format before it, as in {next(iter(FORMATS))}:"
            f"{here.name}; there are {', '.join(FORMATS)}."
        )
    found, bases = search(path, patterns)
    found += [system for base in bases for system in _of_lmdb(base)]
    if not found and here.is_dir():
        others = [_foreign(*pair, reading) for pair in _others(here, patterns)]
        kinds = Counter(each.kind for each in others)
        for kind, number in kinds.items():
            log.info("'%s' has %d systems in %s", here, number, kind)
        found = [*others]
    if not found:
        matching = "" if patterns is None else f" that matches {list(patterns)}"
        raise DataError(
            f"no system{matching} in '{path}': a system is a folder or HDF5 group "
            "with type.raw in it. Correct `systems` or `rglob_patterns`."
        )
    return found


def _of_lmdb(path: Path) -> list[str]:
    """Systems of an LMDB data set."""
    return [
        Foreign(system.name, partial(_same, system), lmdb_files.KIND, str(path))
        for system in lmdb_files.read(path)
    ]


def _same(system: InMemory) -> InMemory:
    return system


def format_of(root: str, reading: Reading) -> str | None:
    """Name of the format of what another program wrote, None for a system of ours."""
    path, name = _split(root, reading.format)
    if name is not None:
        return name
    here = Path(os.path.expanduser(path))
    form = recognise(here) if here.is_file() else None
    return None if form is None else form.name


def file_of(root: str) -> Path:
    """File or folder that a path of a system names, without format and group."""
    return split_group(_split(root, None)[0])[0]


def _split(root: str, given: str | None) -> tuple[str, str | None]:
    """Path, and the name of the format if it is said."""
    name, colon, path = root.partition(":")
    if colon and not Path(os.path.expanduser(root)).exists() and is_named(name):
        return path, name
    return root, given


def _foreign(
    path: Path, form: Format, reading: Reading, spelling: str | None = None
) -> Foreign:
    name = str(path)

    def read() -> InMemory:
        return stack(name, frames_of(path, form, reading))

    return Foreign(name, read, form.description, spelling)


def _others(top: Path, patterns: Sequence[str] | None) -> Iterator[tuple[Path, Format]]:
    """Files and folders of other formats, sorted; none within another."""
    chosen = None if patterns is None else {d for p in patterns for d in top.rglob(p)}
    for place, inside, names in os.walk(top):
        here = Path(place)
        inside[:] = [name for name in inside if not is_left_over(name)]
        form = recognise(here)
        if form is not None:
            inside.clear()
            names = []
            if chosen is None or here in chosen:
                yield here, form
        inside.sort()
        for name in sorted(names):
            if is_left_over(name):
                continue
            file = here / name
            if (chosen is None or file in chosen) and (form := recognise(file)):
                yield file, form
