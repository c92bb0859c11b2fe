# SPDX-License-Identifier: Apache-2.0
"""Searching folders and HDF5 files for systems of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import h5py

from deepspin.data.files import HDF5_SUFFIXES, is_file, opened


def search(root: str, patterns: Sequence[str] | None = None) -> list[str]:
    """Search a folder or an HDF5 file for systems.

    Parameters
    ----------
    root : str
        Folder, or ``file.hdf5#/group``.
    patterns : sequence of str, optional
        Take only systems whose path below `root` matches one of these.

    Returns
    -------
    list of str
        Paths of those in and below it, sorted, those in HDF5 files last.

    Raises
    ------
    DataError
        It is neither, or cannot be read.
    """
    with opened(root) as (node, _):
        if isinstance(node, Path):
            folders, files, links = _walk(node)
            if patterns is not None:  # which do not look behind links by themselves
                roots = (node, *links)
                chosen = {d for p in patterns for r in roots for d in r.rglob(p)}
                folders = [d for d in folders if d in chosen]
            found = [str(d) for d in folders if _is_system(d)]
            for file in files:
                if h5py.is_hdf5(file):
                    found += _search_file(file, node, patterns)
        else:
            found = [
                f"{node.file.filename}#{PurePosixPath(node.name) / group}"
                for group in _groups(node)
                if patterns is None or any(group.match(p) for p in patterns)
            ]
    return found


def _is_system(folder: Path) -> bool:
    """Whether it has types; a folder of that name can only be a system itself."""
    types = folder / "type.raw"
    return not (types / "type.raw").exists() and is_file(types)


def _walk(top: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Folders from `top` down, files with the suffixes of HDF5, and links, sorted.

    Links to folders are followed, but for those to where the search is already or has
    been: it ends, and finds nothing twice.
    """
    folders, files, links = [], [], []
    entered, waiting = set(), [top]
    while waiting:  # what is no link comes first, and is found by its own name
        for place, inside, names in os.walk(waiting.pop(0)):
            here = Path(place)
            if (own := _identity(place)) in entered:
                inside.clear()
                continue
            entered.add(own)
            folders.append(here)
            behind = [here / d for d in sorted(inside) if os.path.islink(here / d)]
            links += behind
            waiting += behind
            for name in (*inside, *names):
                suffix = os.path.splitext(name)[1]
                if suffix in HDF5_SUFFIXES and os.path.isfile(here / name):
                    files.append(here / name)
    return sorted(folders), sorted(files), links


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
