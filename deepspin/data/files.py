# SPDX-License-Identifier: Apache-2.0
"""Systems on disk: finding them and reading their files, whatever these mean.

A system is a folder, or a group of an HDF5 file, with the types in ``type.raw`` and the
frames in ``set.*/NAME.npy`` or in ``NAME.raw``; the names are those of `deepspin.keys`.
Frames and atoms are counted from 0 in every message.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from deepspin import keys
from deepspin.utils import hdf5

LABELS = (*keys.LABELS, keys.ATOM_ENER_COEFF)
LABEL_NAMES = tuple(key.name for key in LABELS)
# what is read
FIELDS = {key.name: key for key in (keys.COORD, keys.BOX, keys.SPIN, *LABELS)}
FIELDS["real_atom_types"] = keys.ATYPE  # (nf, natoms), of mixed-type systems


# file beside virtual atoms that says what they were placed with
SCHEME = "spin_scheme.json"
# what else has a name of these is a mistake
_STEMS = (*FIELDS, *(name.replace("atom_", "atomic_") for name in FIELDS), "fparam")
_NAMES = {f"{stem}{suffix}" for stem in _STEMS for suffix in (".npy", ".raw")}
_NAMES |= {"type.raw", "type_map.raw", "nopbc", SCHEME}
# what HDF5 files are called when folders are searched
HDF5_SUFFIXES = (".hdf5", ".h5")
# numbers beyond this are none of physics, and overflow in what is done with them
LARGEST = 1e15


class DataError(ValueError):
    """A mistake in the data: where it is and how to mend it, in one line."""

    def __init__(self, message: str):
        super().__init__(r"\n".join(message.splitlines()))


def split_group(path: str | Path) -> tuple[Path, str]:
    """File or folder of a system, and the group of an HDF5 file, ``/`` without one.

    Both may have any sign in their names; the file is the first that there is.
    """
    text = os.path.expanduser(path)
    file, _, group = text.rpartition("#")
    places = [k for k, sign in enumerate(text) if sign == "#"]
    for k in [] if os.path.exists(text) else places:
        if os.path.isfile(text[:k]):
            file, group = text[:k], text[k + 1 :]
            break
    if os.path.exists(text) or not file:
        return Path(text), "/"
    return Path(file), f"/{group.strip('/')}"


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Path | h5py.Group, str]]:
    """Folder or HDF5 group, and its spelling in messages."""
    root, group = split_group(path)
    if root.is_dir() and root != Path(os.path.expanduser(path)):
        raise DataError(
            f"'{path}': what is behind # names a group of an HDF5 file, but '{root}' "
            "is a folder. Leave it out."
        )
    if root.is_dir():
        yield root, str(root)
        return
    if root.exists() and not root.is_file():
        raise DataError(
            f"'{root}' is {kind_of(root)}, neither a folder nor an HDF5 file. Correct "
            "`systems`."
        )
    if not root.is_file():
        here = "" if root.is_absolute() else ", seen from the current folder"
        raise DataError(f"'{path}' does not exist{here}. Correct `systems`.")
    if not h5py.is_hdf5(root):
        raise DataError(
            f"'{root}' is neither a folder nor an HDF5 file that is whole. Correct "
            "`systems`, or write the file again."
        )
    try:
        with hdf5.reading(root) as file:
            if not isinstance(file.get(group), h5py.Group):
                raise DataError(
                    f"'{root}' has no group '{group}'; it has {sorted(file)}. Correct "
                    "`systems`."
                )
            yield file[group], f"{root}#{group}".rstrip("/")
    except (OSError, RuntimeError, KeyError) as error:  # as h5py has it
        raise DataError(
            f"'{root}' cannot be read: {_line(error)}. Write the file again."
        ) from error


def _line(error: Exception) -> str:
    """Say what an error says, in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@dataclass(frozen=True)
class Set:
    """The arrays of one set, as they are in its files.

    Parameters
    ----------
    place : str
        Path of the set.
    suffix : {".npy", ".raw", ""}
        How its files end; it has none in memory.
    arrays : dict
        Contents by name, see `FIELDS`.
    fparam : optional
        Frame parameters, if in memory; see `read_fparam`.
    first : int
        Number of the first frame, of a part of a set.
    """

    place: str
    suffix: str
    arrays: dict[str, Any]
    fparam: Any = None
    first: int = 0

    def file(self, name: str) -> str:
        """Spell a file in messages."""
        return f"'{self.place}/{name}{self.suffix}'"

    @property
    def nframes(self) -> int:
        """Number of frames."""
        shape = np.shape(self.arrays["coord"])
        return 1 if len(shape) <= 1 else shape[0]

    def loaded(self) -> Set:
        """The same with arrays of a data base in memory."""
        arrays = {
            name: np.asarray(array) if hasattr(array, "__array__") else array
            for name, array in self.arrays.items()
            if not isinstance(array, np.ndarray)
        }
        return replace(self, arrays=self.arrays | arrays)

    def frames(self, first: int, last: int) -> Set:
        """Some of its frames."""
        arrays = {}
        for name, array in self.arrays.items():
            if (first, last) == (0, self.nframes):
                arrays[name] = np.asarray(array)
            elif np.shape(array)[:1] == (self.nframes,):
                arrays[name] = np.asarray(array[first:last])
            else:  # without rows
                size, width = np.size(array), np.size(array) // self.nframes
                if size != self.nframes * width:
                    raise DataError(
                        f"{self.file(name)} must have {self.nframes} rows (frames of "
                        f"coord). Received: shape {np.shape(array)}. Correct this file "
                        "or coord."
                    )
                rows = np.asarray(array).reshape(self.nframes, width)
                arrays[name] = rows[first:last]
        return replace(self, arrays=arrays, first=self.first + first)


@dataclass(frozen=True, eq=False)
class InMemory:
    """A system that is in no file, see `deepspin.data.memory`.

    Parameters
    ----------
    name : str
        What it is called in messages.
    head : dict
        What `read_system` answers.
    sets : tuple of Set
        Its frames.
    """

    name: str
    head: dict[str, Any]
    sets: tuple[Set, ...]

    def __str__(self) -> str:
        return self.name


class Foreign(str):
    """Path of a system that another program wrote, and how it is read.

    Parameters
    ----------
    path : str
        File or folder.
    read : callable
        Gives what it holds.
    kind : str
        Its format, in words.
    spelling : str, optional
        How an input names it; otherwise its path.
    """

    kind: str
    spelling: str
    _read: Callable[[], InMemory]
    _held: InMemory | None

    def __new__(
        cls,
        path: str,
        read: Callable[[], InMemory],
        kind: str,
        spelling: str | None = None,
    ) -> Foreign:
        """Make a path of it."""
        self = super().__new__(cls, path)
        self._read, self.kind, self.spelling = read, kind, spelling or path
        self._held = None
        return self

    def content(self) -> InMemory:
        """What is there, which is kept until `release`."""
        if self._held is None:
            self._held = self._read()
        return self._held

    def release(self) -> None:
        """Keep it no longer; it can be read again."""
        self._held = None


def spelled(paths: Sequence[str]) -> list[str]:
    """How an input names systems."""
    names = [p.spelling if isinstance(p, Foreign) else p for p in paths]
    return list(dict.fromkeys(names))


def read_system(
    path: str | InMemory, limit: float = math.inf
) -> tuple[dict[str, Any], list[Set]]:
    """Read all files of a system.

    Parameters
    ----------
    path : str or InMemory
        Folder with ``type.raw``, or ``file.hdf5#/group``; `Foreign`; or what is read
        already.
    limit : float
        Arrays of npy files and HDF5 with more bytes than this stay there: they have a
        shape, and give rows when asked for some.

    Returns
    -------
    head : dict
        Contents of ``type.raw`` and, if there, of ``type_map.raw``, ``nopbc`` and
        ``spin_scheme.json``.
    sets : list of Set
        Its sets, sorted; one without ``set.*``.

    Raises
    ------
    DataError
        If there is no such system or a file cannot be read.
    """
    if isinstance(path, Foreign):
        path = path.content()
    if isinstance(path, InMemory):
        whole = limit == math.inf
        return path.head, [part.loaded() if whole else part for part in path.sets]
    with opened(path) as (node, place):
        top = _files(node)
        if "type.raw" not in top:
            raise DataError(
                f"'{path}' has no type.raw, so it is no system. Give the folder or "
                "group that has it."
            )
        names = ("type.raw", "type_map.raw", "nopbc", SCHEME)
        head = {name: _read(top[name]) for name in names if name in top}
        folders = {
            f"{place}/{name}": _files(folder)
            for name, folder in sorted(_members(node).items())
            if name.startswith("set.") and _is_folder(folder)
        }
        suffix = ".npy" if folders else ".raw"  # .raw beside sets is their source
        sets = []
        for folder, files in (folders or {place: top}).items():
            arrays = {}
            for name, file in files.items():
                # DeePMD-kit reads the older spelling, too
                field = name.removesuffix(suffix).replace("atomic_", "atom_")
                if name.endswith(suffix) and field in FIELDS:
                    arrays[field] = _read(file, limit)
            sets.append(Set(folder, suffix, arrays))
    return head, sets


def read_fparam(part: Set) -> Any | None:
    """Content of the file of frame parameters of a set, None without one.

    It is read apart from the rest, for models that take frame parameters.
    """
    if not part.suffix:
        return part.fparam
    with opened(part.place) as (node, _):
        file = _files(node).get(f"fparam{part.suffix}")
        return None if file is None else _read(file)


def _members(node: Path | h5py.Group) -> dict[str, Any]:
    return {p.name: p for p in node.iterdir()} if isinstance(node, Path) else dict(node)


def _files(node: Path | h5py.Group) -> dict[str, Any]:
    return {n: member for n, member in _members(node).items() if is_file(member)}


def _is_folder(node: Any) -> bool:
    """Whether a set is one, and no file that is called like a set.

    Raises
    ------
    DataError
        It is neither.
    """
    if isinstance(node, h5py.HLObject):
        return isinstance(node, h5py.Group)
    if not (node.is_dir() or node.is_file()):
        raise DataError(f"'{node}' is {kind_of(node)}, not a set. Remove it.")
    return node.is_dir()


def is_file(node: Any) -> bool:
    """Whether there is such a file or dataset to read; no opening of anything.

    Raises
    ------
    DataError
        It has the name of a file of a system but is something else.
    """
    if isinstance(node, h5py.Dataset) or (isinstance(node, Path) and node.is_file()):
        return True
    name = PurePosixPath(node.name).name
    if name in _NAMES and not (isinstance(node, Path) and not os.path.lexists(node)):
        place = node if isinstance(node, Path) else f"{node.file.filename}#{node.name}"
        raise DataError(
            f"'{place}' is {kind_of(node)}, not a file of numbers. Replace or remove "
            "it."
        )
    return False


def kind_of(node: Path | h5py.Group) -> str:
    """Say what something is that is no file, without opening it."""
    if not isinstance(node, Path):
        return "a group"
    try:
        mode = node.stat().st_mode
    except OSError:
        return "a link to nothing"
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a FIFO",
        stat.S_ISSOCK: "a socket",
    }
    words = [word for test, word in kinds.items() if test(mode)]
    return words[0] if words else "a device"


class Stored:
    """An array that stays in an HDF5 file.

    Parameters
    ----------
    dataset : h5py.Dataset
        The array, in a file that is open now.
    """

    def __init__(self, dataset: h5py.Dataset):
        self._place = dataset.file.filename, dataset.name
        self.shape = dataset.shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        file, name = self._place
        with h5py.File(file, "r") as opened:
            return opened[name][rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def _read(file: Path | h5py.Dataset, limit: float = math.inf) -> Any:
    """Content of a file or dataset: an array, or words as a list of str."""
    try:
        if isinstance(file, h5py.Dataset):
            if file.ndim > 0 and file.dtype.kind in "fiu" and file.nbytes > limit:
                return Stored(file)
            values = np.atleast_1d(file[()])
            if values.dtype.kind not in "SO":
                return values
            return [v.decode() if isinstance(v, bytes) else str(v) for v in values.flat]
        if file.suffix == ".npy" and file.stat().st_size > limit:
            return np.load(file, mmap_mode="r", allow_pickle=False)
        if file.suffix == ".npy":
            return _load(file)
        text = file.read_text(encoding="utf-8")
        if file.name == SCHEME:
            return text.splitlines()
        if file.name in ("type.raw", "type_map.raw", "nopbc"):
            return text.split()
        rows = [row for line in text.splitlines() if (row := line.partition("#")[0])]
        return np.loadtxt(rows, ndmin=2) if "".join(rows).strip() else []
    except Exception as error:  # numpy and h5py raise what they like on damaged files
        name = file if isinstance(file, Path) else file.file.filename + "#" + file.name
        raise DataError(
            f"'{name}' cannot be read: {_line(error)}. Write the file again."
        ) from error


def _load(file: Path) -> np.ndarray:
    """Array of a npy file; runs no code of the file's."""
    with open(file, "rb") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def numbers(values: Any, file: str) -> np.ndarray:
    """Take contents of `file` as float64."""
    if np.iscomplexobj(values):
        raise DataError(f"{file} holds complex numbers. Write real ones.")
    try:
        given = np.asanyarray(values)
        if given.dtype.kind == "b":
            raise TypeError("true and false")
        result = given.astype(np.float64, copy=False)
        # what is masked is not there
        masked = isinstance(result, np.ma.MaskedArray)
        return np.ma.filled(result, np.nan) if masked else np.asarray(result)
    except (ValueError, TypeError) as error:
        reason = re.sub(r"np\.str_\((.*)\)", r"\1", _line(error))  # as numpy 2 says it
        raise DataError(
            f"{file} does not hold numbers: {reason}. Write it again."
        ) from error


def _rows(part: Set, name: str, natoms: int, nreal: int) -> np.ndarray:
    """One array of a set as (nf, columns) of finite numbers."""
    nframes, file, shape = part.nframes, part.file(name), FIELDS[name].shape
    if nframes == 0:
        raise DataError(f"{file} holds no frames. Remove this set.")
    size = int(np.prod([n for n in shape if isinstance(n, int)]))  # per atom or frame
    widths = [size * natoms if "nloc" in shape else size]
    if name.startswith("atom_") and nreal != natoms:
        widths.append(nreal)
    rows = numbers(part.arrays[name], file)
    fits = rows.ndim <= 1 or len(rows) == nframes
    if not (fits and rows.size in [nframes * width for width in widths]):
        raise DataError(
            f"{file} must have {nframes} rows (frames of coord) of "
            f"{' or '.join(map(str, widths))} numbers ({natoms} atoms in type.raw). "
            f"Received: shape {rows.shape}. Correct this file, coord or type.raw."
        )
    rows = rows.reshape(nframes, -1)
    bad = ~(np.abs(rows) < LARGEST)
    label = name in LABEL_NAMES
    if label:  # NaN in all of a row is a label that this frame has not
        bad &= ~np.isnan(rows).all(axis=1, keepdims=True)
    for frame, column in np.argwhere(bad)[:1]:
        atom = f", atom {column // size}" if "nloc" in shape else ""
        one = rows.shape[1] == 1 or not np.isnan(rows[frame, column])
        some = "" if one or not label else " but not in all of it"
        raise DataError(
            f"{file}: {rows[frame, column]} in frame {frame + part.first}{atom}{some}. "
            f"Remove the "
            f"frame{', or this label of it: NaN in all of its row' * bool(some)}."
        )
    return rows


def names_of(sets: Sequence[Set]) -> list[str]:
    """Names of the arrays of sets, which must hold the same ones but for labels.

    Raises
    ------
    DataError
        One that is no label is missing in some of them.
    """
    names = ["coord", *sorted(set().union(*(part.arrays for part in sets)) - {"coord"})]
    for name in names:
        for part in sets:
            if name not in part.arrays and name not in LABEL_NAMES:
                why = "other sets have it" if name != "coord" else "every set needs it"
                why = "there is no set.* either" if part.suffix == ".raw" else why
                raise DataError(
                    f"{part.file(name)} is missing: {why}. Add it or remove this set."
                )
    return names


def _width(name: str, natoms: int) -> int:
    """Numbers of an array in a frame."""
    shape = [natoms if n == "nloc" else n for n in FIELDS[name].shape[1:]]
    return math.prod(int(n) for n in shape)


def concatenate(
    sets: list[Set], natoms: int, nreal: int, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Join the arrays of all sets, which must hold the same ones but for labels.

    Parameters
    ----------
    sets : list of Set
        Sets of one system.
    natoms, nreal : int
        Number of atoms in ``type.raw``, and of those that are real.
    names : sequence of str
        Arrays that there shall be, see `names_of`; labels are NaN where missing.

    Returns
    -------
    dict of str to np.ndarray, shape (nf, columns)
        Finite numbers, by name; NaN in all of the row where a frame lacks a label.

    Raises
    ------
    DataError
        If what is no label is missing, one has another shape or a number that is not
        finite.
    """
    frames = {}
    for name in names:
        rows = {
            k: _rows(part, name, natoms, nreal)
            for k, part in enumerate(sets)
            if name in part.arrays
        }
        widths = {own.shape[1] for own in rows.values()} or {_width(name, natoms)}
        if len(widths) > 1:
            raise DataError(
                f"{sets[min(rows)].file(name)} counts virtual atoms, or does not, "
                "unlike other sets. Make them the same."
            )
        width = widths.pop()
        frames[name] = np.concatenate(
            [
                rows[k] if k in rows else np.full((part.nframes, width), np.nan)
                for k, part in enumerate(sets)
            ]
        )
    return frames
