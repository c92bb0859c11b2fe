# SPDX-License-Identifier: Apache-2.0
"""Systems on disk: finding them and reading their files, whatever these mean.

A system is a folder, or a group of an HDF5 file, with the types in ``type.raw`` and the
frames in ``set.*/NAME.npy`` or in ``NAME.raw``; the names are those of `deepspin.keys`.
Frames and atoms are counted from 0 in every message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from deepspin import keys

LABELS = (*keys.LABELS, keys.ATOM_ENER_COEFF)
# what is read
FIELDS = {key.name: key for key in (keys.COORD, keys.BOX, keys.SPIN, *LABELS)}
FIELDS["real_atom_types"] = keys.ATYPE  # (nf, natoms), of mixed-type systems


class DataError(ValueError):
    """A mistake in the data: where it is and how to mend it, in one line."""


def find_systems(
    systems: str | Sequence[str], rglob_patterns: Sequence[str] | None = None
) -> list[str]:
    """Expand the option ``systems`` to the paths of all systems, each once.

    Parameters
    ----------
    systems : str or sequence of str
        Systems, folders or HDF5 files; each is searched through all its levels.
    rglob_patterns : sequence of str, optional
        Take only systems whose path below the searched one matches one of these.

    Returns
    -------
    list of str
        Folders and ``file.hdf5#/group``, in the order given, then sorted.

    Raises
    ------
    DataError
        If one of `systems` does not exist or has no system in it.
    """
    roots = [systems] if isinstance(systems, str | Path) else list(systems)
    if not roots:
        raise DataError("`systems` is empty. Give at least one path.")
    found = [path for root in roots for path in _search(root, rglob_patterns)]
    return list(dict.fromkeys(found))


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Path | h5py.Group, str]]:
    """Folder or HDF5 group, and its spelling in messages."""
    root, group = Path(path).expanduser(), "/"
    if "#" in str(path) and not root.exists():
        file, _, group = str(path).rpartition("#")
        root, group = Path(file).expanduser(), f"/{group.strip('/')}"
    if root.is_dir():
        yield root, str(root)
        return
    if not root.is_file():
        raise DataError(f"'{path}' does not exist. Correct `systems`.")
    if not h5py.is_hdf5(root):
        raise DataError(f"'{root}' is neither a folder nor HDF5. Correct `systems`.")
    with h5py.File(root, "r") as file:
        if not isinstance(file.get(group), h5py.Group):
            raise DataError(f"'{root}' has no group '{group}'. Correct `systems`.")
        yield file[group], f"{root}#{group}".rstrip("/")


def _search(root: str, patterns: Sequence[str] | None) -> list[str]:
    """Paths of the systems in and below `root`, sorted."""
    with _opened(root) as (node, place):
        if isinstance(node, Path):
            below = {d for p in patterns or ["*"] for d in node.rglob(p)}
            below |= {node} if patterns is None else set()
            found = [str(d) for d in sorted(below) if (d / "type.raw").is_file()]
        else:
            names: list[str] = []
            node.visit(names.append)
            files = [PurePosixPath(n) for n in sorted(names)]
            groups = [f.parent for f in files if f.name == "type.raw"]
            if patterns is not None:
                groups = [g for g in groups if any(g.match(p) for p in patterns)]
            found = [
                f"{node.file.filename}#{PurePosixPath(node.name) / g}" for g in groups
            ]
    if not found:
        matching = "" if patterns is None else f" that matches {list(patterns)}"
        raise DataError(
            f"no system{matching} in '{place}': a system is a folder or HDF5 group "
            "with type.raw in it. Correct `systems` or `rglob_patterns`."
        )
    return found


@dataclass(frozen=True)
class Set:
    """The arrays of one set, as they are in its files.

    Parameters
    ----------
    place : str
        Path of the set.
    suffix : {".npy", ".raw"}
        How its files end.
    arrays : dict
        Contents by name, see `FIELDS`.
    """

    place: str
    suffix: str
    arrays: dict[str, Any]

    def file(self, name: str) -> str:
        """Spell a file in messages."""
        return f"'{self.place}/{name}{self.suffix}'"

    @property
    def nframes(self) -> int:
        """Number of frames."""
        coord = self.arrays["coord"]
        return 1 if np.ndim(coord) <= 1 else len(coord)


def read_system(path: str) -> tuple[dict[str, Any], list[Set]]:
    """Read all files of a system.

    Parameters
    ----------
    path : str
        Folder with ``type.raw``, or ``file.hdf5#/group``.

    Returns
    -------
    head : dict
        Contents of ``type.raw`` and, if there, of ``type_map.raw`` and ``nopbc``.
    sets : list of Set
        Its sets, sorted; one without ``set.*``.

    Raises
    ------
    DataError
        If there is no such system or a file cannot be read.
    """
    with _opened(path) as (node, place):
        top = _members(node)
        if "type.raw" not in top:
            raise DataError(f"'{path}' has no type.raw, so it is no system.")
        names = ("type.raw", "type_map.raw", "nopbc")
        head = {name: _read(top[name]) for name in names if name in top}
        folders = {
            f"{place}/{name}": _members(top[name])
            for name in sorted(top)
            if name.startswith("set.") and not _is_file(top[name])
        }
        suffix = ".npy" if folders else ".raw"  # .raw beside sets is their source
        sets = []
        for folder, files in (folders or {place: top}).items():
            arrays = {}
            for name, file in files.items():
                # DeePMD-kit reads the older spelling, too
                field = name.removesuffix(suffix).replace("atomic_", "atom_")
                if name.endswith(suffix) and field in FIELDS:
                    arrays[field] = _read(file)
            sets.append(Set(folder, suffix, arrays))
    return head, sets


def _members(node: Path | h5py.Group) -> dict[str, Any]:
    return {p.name: p for p in node.iterdir()} if isinstance(node, Path) else dict(node)


def _is_file(node: Any) -> bool:
    return node.is_file() if isinstance(node, Path) else isinstance(node, h5py.Dataset)


def _read(file: Path | h5py.Dataset) -> Any:
    """Content of a file or dataset: an array, or words as a list of str."""
    if isinstance(file, h5py.Dataset):
        values = np.atleast_1d(file[()])
        if values.dtype.kind not in "SO":
            return values
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    try:
        if file.suffix == ".npy":
            return np.load(file)
        if file.name in ("type.raw", "type_map.raw", "nopbc"):
            return file.read_text().split()
        return np.loadtxt(file, ndmin=2)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"'{file}' cannot be read: {reason}. Write the file again."
        ) from error


def numbers(values: Any, file: str) -> np.ndarray:
    """Take contents of `file` as float64."""
    if np.iscomplexobj(values):
        raise DataError(f"{file} holds complex numbers. Write real ones.")
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} does not hold numbers. Write it again.") from error


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
            f"Received: shape {rows.shape}"
        )
    rows = rows.reshape(nframes, -1)
    for frame, column in np.argwhere(~np.isfinite(rows))[:1]:
        atom = f", atom {column // size}" if "nloc" in shape else ""
        raise DataError(
            f"{file}: {rows[frame, column]} in frame {frame}{atom}. Remove the frame."
        )
    return rows


def concatenate(sets: list[Set], natoms: int, nreal: int) -> dict[str, np.ndarray]:
    """Join the arrays of all sets, which must hold the same ones.

    Parameters
    ----------
    sets : list of Set
        Sets of one system.
    natoms, nreal : int
        Number of atoms in ``type.raw``, and of those that are real.

    Returns
    -------
    dict of str to np.ndarray, shape (nf, columns)
        Finite numbers, by name.

    Raises
    ------
    DataError
        If one is missing, has another shape or a number that is not finite.
    """
    frames = {}
    for name in ["coord", *sorted(set().union(*(part.arrays for part in sets)))]:
        for part in sets:
            if name not in part.arrays:
                why = "other sets have it" if name != "coord" else "every set needs it"
                why = "there is no set.* either" if part.suffix == ".raw" else why
                raise DataError(
                    f"{part.file(name)} is missing: {why}. Add it or remove this set."
                )
        rows = [_rows(part, name, natoms, nreal) for part in sets]
        if len({own.shape[1] for own in rows}) > 1:
            raise DataError(
                f"{sets[0].file(name)} counts virtual atoms, or does not, unlike other "
                "sets. Make them the same."
            )
        frames[name] = np.concatenate(rows)
    return frames
