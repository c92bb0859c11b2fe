# SPDX-License-Identifier: Apache-2.0
"""Searching folders and HDF5 files for systems of ours, and for LMDB data sets.

What a program that was killed has left of an output is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import h5py

from deepspin.data.files import HDF5_SUFFIXES, is_file, opened
from deepspin.data.lmdb_files import SUFFIX
from deepspin.utils.outputs import is_left_over


def search(
    root: str, patterns: Sequence[str] | None = None
) -> tuple[list[str], list[Path]]:
    """Search a folder or an HDF5 file for systems.

    Parameters
    ----------
    root : str
        Folder, or ``file.hdf5#/group``.
    patterns : sequence of str, optional
        Take only what has a path below `root` that matches one of these.

    Returns
    -------
    systems : list of str
        Paths of those in and below it, sorted, those in HDF5 files last.
    bases : list of Path
        Data sets of LMDB below it, sorted.

    Raises
    ------
    DataError
        It is neither, or cannot be read.
    """
    with opened(root) as (node, _):
        if isinstance(node, Path):
            tree = _walk(node)
            folders, bases = sorted(tree.folders), sorted(tree.bases)
            if patterns is not None:  # which do not look behind links by themselves
                roots = (node, *tree.links)
                chosen = {d for p in patterns for r in roots for d in r.rglob(p)}
                folders = [d for d in folders if d in chosen]
                bases = [d for d in bases if d in chosen]
            found = [str(d) for d in folders if _is_system(d)]
            for file in sorted(tree.files):
                if h5py.is_hdf5(file):
                    found += _search_file(file, node, patterns)
            return found, bases
        return [
            f"{node.file.filename}#{PurePosixPath(node.name) / group}"
            for group in _groups(node)
            if patterns is None or any(group.match(p) for p in patterns)
        ], []


def _is_system(folder: Path) -> bool:
    """Whether it has types; a folder of that name can only be a system itself."""
    types = folder / "type.raw"
    return not (types / "type.raw").exists() and is_file(types)


@dataclass(frozen=True)
class _Tree:
    """Folders, files that may be HDF5, data sets of LMDB, and links to folders."""

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    bases: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def _walk(top: Path) -> _Tree:
    """What there is from a folder down.

    Links to folders are followed, but for those to where the search is already or has
    been: it ends, and finds nothing twice.
    """
    found = _Tree()
    entered, waiting = set(), [top]
    while waiting:  # what is no link comes first, and is found by its own name
        for place, inside, names in os.walk(waiting.pop(0)):
            here = Path(place)
            if (own := _identity(place)) in entered:
                inside.clear()
                continue
            entered.add(own)
            inside[:] = [name for name in inside if not is_left_over(name)]
            found.folders.append(here)
            behind = [here / d for d in sorted(inside) if os.path.islink(here / d)]
            found.links.extend(behind)
            waiting += behind
            for name in (*inside, *names):
                suffix = os.path.splitext(name)[1]
                if suffix == SUFFIX and not is_left_over(name):
                    found.bases.append(here / name)
                elif suffix in HDF5_SUFFIXES and not is_left_over(name):
                    found.files.extend([here / name] * os.path.isfile(here / name))
    return found


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _search_file(
    file: Path, root: Path, patterns: Sequence[str] | None
) -> Iterator[str]:
    """Systems of an HDF5 file in the searched folder `root`."""
    with opened(file) as (node, _):
        for group in _groups(node):
            below = PurePosixPath(file.relative_to(root)) / group
            if patterns is None or any(below.match(p) for p in patterns):
                yield f"{file}#{PurePosixPath(node.name) / group}"


def _groups(node: h5py.Group) -> list[PurePosixPath]:
    """Groups with types in them, sorted, by their paths below `node`."""
    found: list[PurePosixPath] = []

    def look(name: str, member: h5py.Group | h5py.Dataset) -> None:
        file = PurePosixPath(name)
        if file.name == "type.raw" and isinstance(member, h5py.Dataset):
            found.append(file.parent)

    node.visititems(look)
    return sorted(found, key=str)
