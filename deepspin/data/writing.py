# SPDX-License-Identifier: Apache-2.0
"""Where systems are written: a folder or an HDF5 file, and their names in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from deepspin.data.files import HDF5_SUFFIXES, Foreign
from deepspin.data.layouts import Content
from deepspin.utils import hdf5
from deepspin.utils.outputs import OutputError, claim


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


def _spread(path: str) -> Path:
    """Absolute path of a system, a group of an HDF5 file as if that were a folder."""
    if isinstance(path, Foreign):  # a file without its suffix
        return Path(path).resolve().with_suffix("")
    if Path(path).is_dir():
        return Path(path).resolve()
    file, _, group = path.rpartition("#")
    return Path(file).resolve().with_suffix("") / group.strip("/")


def claim_systems(paths: Sequence[str], target: Path, force: bool) -> None:
    """Make sure that systems can be written, see `deepspin.utils.outputs.claim`.

    Raises
    ------
    OutputError
        The output is one of the systems that are read, holds or lies in one, or is a
        folder of other things.
    """
    goal = target.resolve()
    for path in paths:
        whole = Path(path).is_dir() or isinstance(path, Foreign)
        file = Path(path if whole else path.rpartition("#")[0]).resolve()
        if file == goal or goal in file.parents or file in goal.parents:
            raise OutputError(
                f"'{target}' is, holds or lies in the data '{path}'. Choose another "
                "output."
            )
    claim(target, force=force, folder=target.suffix not in HDF5_SUFFIXES)
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


def write_system(content: Content, target: Path, name: str) -> str:
    """Write a system below `target`; returns how to read it."""
    if target.suffix in HDF5_SUFFIXES:
        with hdf5.writing(target, "r+" if target.exists() else "w") as file:
            content.write_group(file.require_group(name))
    else:
        content.write_folder(target / name)
    return place_of(target, name)
