# SPDX-License-Identifier: Apache-2.0
"""Systems in other kinds of files than their own: of frames, of mixed types."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepspin.data.files import FIELDS, DataError
from deepspin.data.formats import atoms, extxyz
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.data.formats.stack import unstack
from deepspin.data.layouts import Content
from deepspin.spins.types import split_names

# files beside the frames that only hold what a conversion back needs
AUXILIARY = ("spin_exact", "force_mag_exact", "coord_virtual")


def frames_of(path: str, content: Content, type_map: Sequence[str]) -> Iterator[Frame]:
    """Frames of a system with spin files; `type_map` counts where it has none."""
    words = " ".join(content.words.get("type_map.raw", type_map)).split()
    periodic = any("box" in arrays for arrays in content.sets.values())
    return unstack(path, content.types, words, content.sets.values(), periodic)


def lost(content: Content, kind: str) -> list[str]:
    """Arrays of a system that a kind of file has no place for."""
    names = {name for own in content.sets.values() for name in own}
    if kind == "mixed":
        return sorted(names & set(AUXILIARY))
    known = {*FIELDS, "fparam"} if kind in ("raw", "extxyz", "traj") else names
    return sorted(names - known)


def without(content: Content, names: Sequence[str]) -> Content:
    """A system without some of its arrays."""
    sets = {
        part: {name: a for name, a in own.items() if name not in names}
        for part, own in content.sets.items()
    }
    return replace(content, sets=sets)


# --- Files of frames ------------------------------------------------------------------


def write_frames(path: Path, kind: str, frames: Iterator[Frame]) -> None:
    """Write a file of frames, see `deepspin.data.writing.OF_FRAMES`."""
    if kind == "traj":
        atoms.write_trajectory(path, frames)
        return
    with open(path, "w", encoding="utf-8") as file:
        for frame in frames:
            file.write(extxyz.text_of(frame))


def read_frames(path: Path, kind: str) -> Iterator[Frame | Dropped]:
    """Read what `write_frames` wrote."""
    return (atoms.read_trajectory if kind == "traj" else extxyz.read)(path, {})


def fingerprint(frame: Frame | Dropped) -> str:
    """What all bits of a frame come to, whatever its types of numbers."""
    if isinstance(frame, Dropped):
        return frame.reason
    found = hashlib.sha256(" ".join(frame.symbols).encode())
    arrays = {"coord": frame.coord, "cell": frame.cell, **frame.arrays}
    for name in sorted(arrays):
        if arrays[name] is not None:
            numbers = np.ravel(np.asarray(arrays[name], dtype=np.float64))
            found.update(name.encode() + numbers.tobytes())
    return found.hexdigest()


# --- Mixed types ----------------------------------------------------------------------


def mix(contents: dict[str, Content]) -> dict[str, Content]:
    """Systems of the same number of atoms as one, with types of each frame.

    Parameters
    ----------
    contents : dict of str to Content
        Systems with spin files, by their paths.

    Returns
    -------
    dict of str to Content
        By what they are called: the number of atoms, with ``-2`` and so on if there is
        a cell or a label that the others have not; ``.`` if there is one only.

    Raises
    ------
    DataError
        A system has virtual atoms, or types without names.
    """
    groups: dict[tuple, list[tuple[str, Content]]] = {}
    for path, content in contents.items():
        _check_named(path, content)
        arrays = next(iter(content.sets.values()))
        own = frozenset(arrays) - {"real_atom_types"}
        groups.setdefault((len(content.types), content.nopbc, own), []).append(
            (path, content)
        )
    mixed: dict[str, Content] = {}
    for (natoms, *_), members in groups.items():
        twins = sum(name.partition("-")[0] == str(natoms) for name in mixed)
        name = f"{natoms}-{twins + 1}" if twins else str(natoms)
        mixed["." if len(groups) == 1 else name] = _merged([c for _, c in members])
    return mixed


def _check_named(path: str, content: Content) -> None:
    """Refuse what mixed types cannot be made of."""
    names = " ".join(content.words.get("type_map.raw", [])).split()
    if not names or content.types.max(initial=0) >= len(split_names(names)[0]):
        what = "virtual atoms" if names else "no type_map.raw"
        raise DataError(
            f"'{path}' has {what}; mixed types are written of spin files with names of "
            "types. Say --layout spin-files, and -t TYPES if they have no names."
        )


def _merged(members: list[Content]) -> Content:
    """Systems of the same number of atoms as one of mixed types."""
    maps = [" ".join(each.words["type_map.raw"]).split() for each in members]
    names = list(dict.fromkeys(name for own in maps for name in own))
    sets: dict[str, dict[str, np.ndarray]] = {}
    for content, own in zip(members, maps, strict=True):
        table = np.array([*(names.index(name) for name in own), -1])
        natoms = len(content.types)
        for arrays in content.sets.values():
            nframes = len(np.reshape(arrays["coord"], (-1, 3 * natoms)))
            given = arrays.get("real_atom_types")
            rows = np.broadcast_to(
                content.types if given is None else np.reshape(given, (nframes, -1)),
                (nframes, natoms),
            ).astype(int)
            types = {"real_atom_types": table[rows].astype(np.int32)}
            sets[f"set.{len(sets):03d}"] = arrays | types
    first = members[0]
    zeros = np.zeros(len(first.types), dtype=first.types.dtype)
    return Content(zeros, {"type_map.raw": names}, sets, first.nopbc)
