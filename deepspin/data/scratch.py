# SPDX-License-Identifier: Apache-2.0
"""Systems that are too large for memory: converted in pieces, kept in a scratch file.

The file has no name, is gone with the program, and is mapped into memory: of what is
mapped the operating system keeps what there is room for. Arrays are the same, bit for
bit, as in memory.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from deepspin import env
from deepspin.data.files import DataError, Set
from deepspin.data.frames import Places, System

log = logging.getLogger(__name__)

# frames of a piece hold so many bytes, at most
PIECE = 2**22
ALIGNED = 64
# fields of `System` with a row for each frame, and what stands where there is no atom
FIELDS = {
    "atype": -1,
    "coord": 0,
    "spin": 0,
    "box": 0,
    "fparam": 0,
    "natoms_loss": 0,
    "index": -1,
}
OF_ATOMS = ("atype", "coord", "spin", "index")
OF_FRAMES = ("energy", "virial")  # labels; the others are of atoms


def nbytes(sets: Sequence[Set]) -> int:
    """Size of sets in memory: their numbers in float64."""
    return sum(8 * _size(array) for part in sets for array in part.arrays.values())


def _size(array: Any) -> int:
    return int(np.prod(np.shape(array)))


def pieces(sets: Sequence[Set], limit: int = PIECE) -> Iterator[tuple[int, Set]]:
    """Few frames at a time of each set, and the number of the first in the system."""
    begin = 0
    for part in sets:
        total = part.nframes
        each = max(nbytes([part]) // max(total, 1), 1)
        step = max(limit // each, 1)
        for first in range(0, total, step):
            last = min(first + step, total)
            yield begin + first, part.frames(first, last)
        begin += total


@dataclass(frozen=True)
class _Region:
    """Where an array is in the file, with room for `width` atoms in each frame."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Scratch:
    """A file that systems are put into, piece by piece, and then read from."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; what is mapped stays."""
        if self._file is not None:
            self._file.close()

    def put(self, parts: Iterator[System], nframes: int, width: int) -> Callable:
        """Write a system.

        Parameters
        ----------
        parts : iterator of System
            Its frames, in order.
        nframes, width : int
            How many there are, and their largest number of atoms, or more.

        Returns
        -------
        callable
            Makes the `System` of what `map` returns.
        """
        regions: dict[str, _Region] = {}
        first, done, nloc = None, 0, 0
        for part in parts:
            first = first or part
            nloc = max(nloc, part.nloc)
            arrays = _arrays(part)
            if not regions:
                regions = {
                    name: self._reserve(name, array, nframes, width)
                    for name, array in arrays.items()
                }
            for name, array in arrays.items():
                self._write(regions[name], done, _padded(name, array, width), part.path)
            done += part.nframes
        if first is None or done != nframes:
            raise RuntimeError(f"{done} of {nframes} frames: a mistake of deepspin")
        return lambda mapped: _system(first, regions, nloc, mapped)

    def map(self) -> mmap.mmap | None:
        """What was written, for reading; None if nothing was."""
        if self._file is None:
            return None
        self._file.flush()
        log.info(
            "%.3g GiB of data are beyond what memory is used for (%.3g GiB, "
            "DEEPSPIN_DATA_MEMORY): they are in a scratch file in '%s'",
            self._end / 2**30,
            env.data_memory() / 2**30,
            env.scratch_folder(),
        )
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def _reserve(
        self, name: str, array: np.ndarray, nframes: int, width: int
    ) -> _Region:
        shape = (nframes, *_padded(name, array, width).shape[1:])
        offset = -(-self._end // ALIGNED) * ALIGNED
        self._end = offset + int(np.prod(shape)) * array.dtype.itemsize
        return _Region(offset, shape, array.dtype)

    def _write(self, region: _Region, first: int, rows: np.ndarray, path: str) -> None:
        if rows.shape[1:] != region.shape[1:] or rows.dtype != region.dtype:
            raise DataError(
                f"'{path}': sets do not hold the same arrays, with or without virtual "
                "atoms. Make them the same."
            )
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=env.scratch_folder())
            row = int(np.prod(region.shape[1:])) * region.dtype.itemsize
            self._file.seek(region.offset + first * row)
            self._file.write(np.ascontiguousarray(rows).data)
        except OSError as error:
            raise DataError(
                f"Data that is too large for memory cannot be kept in "
                f"'{env.scratch_folder()}': {error.strerror}. Name a folder with room "
                f"for {self._end / 2**30:.3g} GiB and more in TMPDIR, or raise "
                "DEEPSPIN_DATA_MEMORY."
            ) from error


def _arrays(system: System) -> dict[str, np.ndarray]:
    own = {name: getattr(system, name) for name in FIELDS}
    return own | {f"labels/{name}": a for name, a in system.labels.items()}


def _of_atoms(name: str) -> bool:
    label = name.removeprefix("labels/")
    return name in OF_ATOMS or (label != name and label not in OF_FRAMES)


def _padded(name: str, array: np.ndarray, width: int) -> np.ndarray:
    """Rows of atoms, made `width` of them."""
    if not _of_atoms(name) or array.shape[1] == width:
        return array
    more = [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, more, constant_values=FIELDS.get(name, 0))


def _system(
    first: System, regions: dict[str, _Region], nloc: int, mapped: mmap.mmap
) -> System:
    found: dict[str, Any] = {}
    labels = {}
    for name, region in regions.items():
        count = int(np.prod(region.shape))
        array = np.zeros(region.shape, region.dtype)
        if count:
            flat = np.frombuffer(mapped, region.dtype, count, region.offset)
            array = flat.reshape(region.shape)
        array = array[:, :nloc] if _of_atoms(name) else array
        if name in FIELDS:
            found[name] = array
        else:
            labels[name.removeprefix("labels/")] = array
    return replace(first, **found, labels=labels, sets=Places(first.sets))


def scaled(array: np.ndarray, factor: float) -> np.ndarray:
    """An array times a number; in a scratch file where the array is in one."""
    if array.flags.writeable or not array.size:
        return factor * array
    step = max(PIECE // max(array[:1].nbytes, 1), 1)
    with tempfile.TemporaryFile(dir=env.scratch_folder()) as file:
        for first in range(0, len(array), step):
            file.write(np.ascontiguousarray(factor * array[first : first + step]).data)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, array.dtype).reshape(array.shape)
