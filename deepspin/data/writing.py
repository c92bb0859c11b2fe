# SPDX-License-Identifier: Apache-2.0
"""Where systems are written: a folder or an HDF5 file, and their names in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from deepspin.data import lmdb_files
from deepspin.data.files import HDF5_SUFFIXES, Foreign, split_group
from deepspin.data.layouts import Content
from deepspin.utils import hdf5
from deepspin.utils.outputs import OutputError, claim

# what is written, and the endings of a file that say so; others are folders
KINDS: dict[str, tuple[str, ...]] = {
    "npy": (),
    "raw": (),
    "mixed": (),
    "hdf5": HDF5_SUFFIXES,
    "extxyz": (".extxyz", ".xyz"),
    "traj": (".traj",),
}
# one file with the frames of all systems
OF_FRAMES = ("extxyz", "traj")


def kind_of(target: Path, to: str | None = None) -> str:
    """What is to be written, one of `KINDS`.

    Parameters
    ----------
    target : Path
        The output.
    to : str, optional
        What the user says; otherwise the ending of `target` does, or a folder of npy
        files is meant.

    Raises
    ------
    OutputError
        The two contradict each other.
    """
    ending = target.suffix.lower()
    said = next((kind for kind, own in KINDS.items() if ending in own), None)
    kind = to or said or "npy"
    if said not in (None, kind) or (KINDS[kind] and said is None):
        what = f"a file that ends in {', '.join(KINDS[kind])}" if KINDS[kind] else ""
        raise OutputError(
            f"--to {kind} writes {what or 'a folder'}. Received: '{target}'. Choose "
            "another output, or leave out --to."
        )
    return kind


def names_below(paths: Sequence[str], target: Path) -> dict[str, str]:
    """Name each system below an output, by what its path has of its own.

    Parameters
    ----------
    paths : sequence of str
        Systems.
    target : Path
        Folder, or HDF5 file.

    Returns
    -------
    dict of str to str
        Path of each below `target`.

    Raises
    ------
    OutputError
        Two would have the same.
    """
    places = {path: _spread(path) for path in paths}
    if target.suffix in HDF5_SUFFIXES:
        for path, place in places.items():
            _check_utf8(path, place)
    common = Path(os.path.commonpath(places.values()))
    if len(paths) == 1:
        alone = common.name if target.suffix in HDF5_SUFFIXES else "."
        return {paths[0]: alone}
    names = {path: str(place.relative_to(common)) for path, place in places.items()}
    for path, name in names.items():
        twin = next(p for p, n in names.items() if n == name)
        if twin != path:
            raise OutputError(
                f"'{twin}' and '{path}' would both be written as '{name}'. Convert "
                "them one by one."
            )
    return names


def _check_utf8(path: str, place: Path) -> None:
    """Refuse names that no group of an HDF5 file can have."""
    try:
        str(place).encode("utf-8")
    except UnicodeEncodeError as error:
        raise OutputError(
            f"{path!r} has bytes in its name that are not UTF-8, which names in HDF5 "
            "files must be. Rename it, or write to a folder."
        ) from error


def _spread(path: str) -> Path:
    """Absolute path of a system, a group of an HDF5 file as if that were a folder."""
    if isinstance(path, Foreign) and path.kind == lmdb_files.KIND:  # file#number
        place, _, number = path.rpartition("#")
        return Path(place).resolve().with_suffix("") / number
    if isinstance(path, Foreign):  # a file without its suffix
        return Path(path).resolve().with_suffix("")
    if Path(path).is_dir():
        return Path(path).resolve()
    file, group = split_group(path)
    return file.resolve().with_suffix("") / group.strip("/")


def claim_systems(
    paths: Sequence[str], target: Path, force: bool, kind: str | None = None
) -> None:
    """Make sure that systems can be written, see `deepspin.utils.outputs.claim`.

    Raises
    ------
    OutputError
        The output is one of the systems that are read, holds or lies in one, or is a
        folder of other things.
    """
    goal, kind = target.resolve(), kind or kind_of(target)
    for path in paths:
        file = split_group(path)[0].resolve()
        if file == goal or goal in file.parents or file in goal.parents:
            raise OutputError(
                f"'{target}' is, holds or lies in the data '{path}'. Choose another "
                "output."
            )
    claim(target, force=force, folder=not KINDS[kind])
    strange = target.is_dir() and any(target.iterdir())
    if strange and next(target.rglob("type.raw"), None) is None:
        raise OutputError(
            f"'{target}' is a folder without systems, so it is not replaced. Choose "
            "another output, or remove it."
        )


def place_of(target: Path, name: str) -> str:
    """How to read a system that was written below `target`."""
    if target.suffix in HDF5_SUFFIXES:
        return f"{target}#{PurePosixPath('/') / name}"
    return str(target / name)


def write_system(
    content: Content, target: Path, name: str, kind: str | None = None
) -> str:
    """Write a system below `target`; returns how to read it."""
    if target.suffix in HDF5_SUFFIXES:
        with hdf5.writing(target, "r+" if target.exists() else "w") as file:
            content.write_group(file.require_group(name))
    elif kind == "raw":
        content.write_text(target / name)
    else:
        content.write_folder(target / name)
    return place_of(target, name)
