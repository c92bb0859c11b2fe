# SPDX-License-Identifier: Apache-2.0
"""LMDB data sets of DeePMD-kit's: frames in a database, read as they are needed.

The key ``__metadata__`` has a map with ``nframes``, ``frame_idx_fmt`` (of the keys of
frames, "012d") and ``type_map``, and if known ``frame_system_ids``. A frame is a map of
``atom_types``, ``coords``, ``cells``, ``energies``, ``forces``, ``virials``, ``spin``,
``force_mag`` and others; arrays are maps of ``type``, ``shape`` and ``data``. All is
packed by msgpack. Frames with the same system, number of atoms and arrays are one
system here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.files import FIELDS, DataError, InMemory, Set

KIND, SUFFIX = "an LMDB data set of DeePMD-kit", ".lmdb"
NAMES = {
    "coords": "coord",
    "cells": "box",
    "energies": "energy",
    "forces": "force",
    "virials": "virial",
    "atom_types": "real_atom_types",
    "atype": "real_atom_types",
}


def is_lmdb(path: Path) -> bool:
    """Whether a path is a data set of that kind."""
    return path.suffix == SUFFIX or (path / "data.mdb").is_file()


def read(path: Path) -> list[InMemory]:
    """Systems of a data set; their arrays stay there until rows of them are asked for.

    Parameters
    ----------
    path : Path
        The folder or file of the database.

    Raises
    ------
    DataError
        It is no such data set, or the packages that read it are missing.
    """
    meta = _unpacked(path, b"__metadata__")
    try:
        nframes, form = int(meta["nframes"]), str(meta.get("frame_idx_fmt", "012d"))
        # of more frames than there are entries, one is missed below
        held = min(nframes, _opened(path).stat()["entries"])
        keys = [format(k, form).encode() for k in range(held)]
        owners = meta.get("frame_system_ids") or [0] * held
        names = meta.get("type_map")
        if len(owners) != held:
            raise ValueError(f"{len(owners)} frame_system_ids of {nframes} frames")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"'{path}': its `__metadata__` is not as DeePMD-kit writes it: "
            f"{type(error).__name__} {error}. Write it again."
        ) from error
    groups: dict[tuple, list[bytes]] = {}
    types: dict[tuple, list[np.ndarray]] = {}
    for key, owner in zip(keys, owners, strict=True):
        frame = _frame(path, key)
        if not {"coord", "real_atom_types"} <= frame.keys():
            raise DataError(
                f"'{path}': frame {key.decode()} has no coords or no atom_types. Write "
                "it again."
            )
        own = np.ravel(frame["real_atom_types"])
        periodic = bool(np.any(frame.get("box", 0.0)))
        shapes = tuple(sorted((name, np.size(frame[name])) for name in frame))
        kind = (owner, periodic, shapes)
        groups.setdefault(kind, []).append(key)
        types.setdefault(kind, []).append(own)
    rows = zip(groups.items(), types.values(), strict=True)
    return [
        _system(path, kind, members, own, names, f"{path}#{number}")
        for number, ((kind, members), own) in enumerate(rows)
    ]


def _system(
    path: Path,
    kind: tuple,
    keys: list[bytes],
    types: list[np.ndarray],
    names: list[str] | None,
    name: str,
) -> InMemory:
    """Frames of one kind as a system."""
    _, periodic, shapes = kind
    arrays: dict[str, Any] = {
        field: Frames(path, keys, field, size)
        for field, size in shapes
        if field in FIELDS and (periodic or field != "box")
    }
    alike = all(np.array_equal(own, types[0]) for own in types)
    head: dict[str, Any] = {"type.raw": types[0] if alike else 0 * types[0]}
    if alike:
        del arrays["real_atom_types"]
    if names:
        head["type_map.raw"] = list(names)
    if not periodic:
        head["nopbc"] = []
    sizes = dict(shapes)
    fparam = None
    if "fparam" in sizes:
        fparam = Frames(path, keys, "fparam", sizes["fparam"])
    return InMemory(name, head, (Set(name, "", arrays, fparam),))


class Frames:
    """An array with a row for each of some frames of a database.

    Parameters
    ----------
    path : Path
        The database.
    keys : sequence of bytes
        Keys of the frames.
    name : str
        Which array, see `deepspin.data.files.FIELDS`.
    size : int
        Numbers in a row.
    """

    def __init__(self, path: Path, keys: Sequence[bytes], name: str, size: int):
        self._path, self._keys, self._name = path, keys, name
        self.shape = (len(keys), size)

    def __getitem__(self, rows: slice) -> np.ndarray:
        keys = self._keys[rows]
        found = [np.ravel(_frame(self._path, key)[self._name]) for key in keys]
        return np.stack(found) if found else np.zeros((0, self.shape[1]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@functools.cache
def _opened(path: Path) -> Any:
    """The database; a program opens each once, and keeps it."""
    try:
        import lmdb
        import msgpack  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"'{path}' is an LMDB data set, which the packages lmdb and msgpack read: "
            "`pip install 'deepspin[lmdb]'`, or write it as npy files or HDF5."
        ) from error
    try:
        folder = path.is_dir()
        opened = lmdb.open(str(path), subdir=folder, readonly=True, lock=False)
        _check_whole(path / "data.mdb" if folder else path, opened)
    except lmdb.Error as error:
        raise _unread(path, error) from error
    return opened


def _check_whole(file: Path, opened: Any) -> None:
    """Refuse a file that is cut off: reading what is missing would end the program."""
    size, page = file.stat().st_size, opened.stat()["psize"]
    needed = (opened.info()["last_pgno"] + 1) * page
    if size < needed:
        raise DataError(
            f"'{file}' is cut off: it has {size} of at least {needed} bytes. Copy or "
            "write it again."
        )


def _unread(path: Path, error: Exception) -> DataError:
    return DataError(
        f"'{path}' cannot be read as an LMDB data set: {error}. Write it again."
    )


def _unpacked(path: Path, key: bytes) -> dict[str, Any]:
    """What stands under a key."""
    opened = _opened(path)
    import lmdb
    import msgpack

    try:
        with opened.begin(buffers=True) as transaction:
            packed = transaction.get(key)
            content = None if packed is None else bytes(packed)
    except lmdb.Error as error:
        raise _unread(path, error) from error
    if content is None:
        raise DataError(
            f"'{path}' has nothing under the key '{key.decode()}', so it is no "
            "data set of DeePMD-kit, or not whole. Write it again."
        )
    try:
        content = msgpack.unpackb(content, raw=False, strict_map_key=False)
    except Exception as error:  # whatever msgpack makes of damaged bytes
        raise DataError(
            f"'{path}': the key '{key.decode()}' cannot be read: {error}. Write it "
            "again."
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"'{path}': the key '{key.decode()}' holds no map. Write it again."
        )
    return content


def _frame(path: Path, key: bytes) -> dict[str, Any]:
    """Arrays and numbers of a frame, by our names."""
    found = {}
    for name, value in _unpacked(path, key).items():
        field = NAMES.get(name, name).replace("atomic_", "atom_")
        if field in FIELDS or field == "fparam":
            found[field] = _array(path, key, value)
    return found


def _array(path: Path, key: bytes, value: Any) -> np.ndarray:
    if not isinstance(value, dict):
        return np.asarray(value)
    parts = {k.decode() if isinstance(k, bytes) else k: v for k, v in value.items()}
    try:
        flat = np.frombuffer(parts["data"], dtype=np.dtype(parts["type"]))
        return flat.reshape(parts.get("shape", flat.shape))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"'{path}': an array of frame {key.decode()} is damaged: {error}. Write it "
            "again."
        ) from error
