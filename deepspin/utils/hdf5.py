# SPDX-License-Identifier: Apache-2.0
"""HDF5 files: written on disks that fill, read from people who mean no good."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, FileIO
from pathlib import Path

import h5py

from deepspin.utils.limits import check_size

# --- Writing --------------------------------------------------------------------------


@contextmanager
def writing(path: str | Path, mode: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to write it; errors of the disk are raised at the end.

    HDF5 itself cannot close a file that cannot be written, and ends the program later.

    Parameters
    ----------
    path : str
        File to write.
    mode : {"w", "r+"}
        A new one, or one that is there.

    Raises
    ------
    OSError
        The disk is full, or the like.
    """
    with open(path, "w+b" if mode == "w" else "r+b", buffering=0) as raw:
        disk = _Disk(raw)
        try:
            with h5py.File(disk, mode) as file:
                yield file
        except Exception:
            if disk.error is None:
                raise
        if disk.error is not None:
            raise disk.error


class _Disk:
    """A file that takes all that is written and keeps the first error for later.

    Parameters
    ----------
    raw : file
        File without a buffer.
    """

    def __init__(self, raw: FileIO):
        self._raw = raw
        self.error: OSError | None = None
        self.read, self.seek, self.tell = raw.read, raw.seek, raw.tell

    def readinto(self, buffer: memoryview) -> int:
        """Read as much as there is."""
        done, view = 0, memoryview(buffer)
        while done < len(view) and (size := self._raw.readinto(view[done:])):
            done += size
        return done

    def write(self, values: bytes) -> int:
        """Write all, or nothing after an error."""
        view = memoryview(values)
        self._try(lambda: self._all(view))
        return len(view)

    def _all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += self._raw.write(view[done:])

    def truncate(self, size: int) -> int:
        """Change the size of the file."""
        self._try(lambda: self._raw.truncate(size))
        return size

    def flush(self) -> None:
        """There is nothing to flush."""

    def _try(self, change: Callable[[], object]) -> None:
        if self.error is None:
            try:
                change()
            except OSError as error:
                self.error = error


# --- Reading --------------------------------------------------------------------------


@contextmanager
def reading(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read it; all that it holds lies in the file itself.

    Raises
    ------
    OSError
        It is no HDF5 file, takes something from other files (external storage, links,
        virtual data sets), or would be far larger in memory than it is.
    """
    with h5py.File(path, "r") as file:
        found = os.stat(path)
        key = (os.path.realpath(path), found.st_ino, found.st_size, found.st_mtime_ns)
        if (fault := _fault(file, key)) is not None:
            raise OSError(fault)
        yield file


def check_content(content: bytes, name: str) -> None:
    """Refuse what `reading` refuses, in a file that lies within another.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What messages call it.

    Raises
    ------
    OSError
        See `reading`.
    """
    with h5py.File(BytesIO(content), "r") as file:
        _check(file, name, len(content))


_checked: dict[tuple, str | None] = {}


def _fault(file: h5py.File, key: tuple) -> str | None:
    """What is wrong with a file; looked for once while it stays the same."""
    if key not in _checked:
        if len(_checked) >= _MOST:
            _checked.clear()
        try:
            _check(file, f"'{key[0]}'", key[2])
            _checked[key] = None
        except OSError as error:
            _checked[key] = str(error)
    return _checked[key]


_MOST = 10_000  # files that are remembered


def _check(file: h5py.File, name: str, size: int) -> None:
    try:
        declared = sum(_sizes(file))
    except OSError:
        raise
    except Exception as error:  # h5py raises what it likes on damaged files
        raise OSError(f"{name} is damaged: {error}") from error
    check_size(name, size, declared)


def _sizes(file: h5py.File) -> Iterator[int]:
    """Declared bytes behind each link to a data set; none may lie elsewhere."""
    known: dict[int, int] = {}  # by address; links can lead back
    groups = [file["/"]]
    while groups:
        group = groups.pop()
        for name in group.id:
            link = group.id.links.get_info(name)
            if link.type == h5py.h5l.TYPE_EXTERNAL:
                place = f"{group.name.rstrip('/')}/{name.decode(errors='replace')}"
                elsewhere = group.id.links.get_val(name)[0].decode(errors="replace")
                raise OSError(f"{place} is {_ELSEWHERE.format(elsewhere)}")
            address = link.u if link.type == h5py.h5l.TYPE_HARD else None
            if address not in known:  # opening takes ten times as long
                node = group.get(name)
                if node is None:  # a link to nothing
                    continue
                address = h5py.h5o.get_info(node.id).addr
            if address not in known:
                known[address] = _size(node) if isinstance(node, h5py.Dataset) else 0
                groups += [node] * isinstance(node, h5py.Group)
            yield known[address]


def _size(data: h5py.Dataset) -> int:
    """Declared bytes of a data set, which may not lie elsewhere."""
    other = [part[0] for part in data.external or ()]
    if data.is_virtual:
        other += [source.file_name for source in data.virtual_sources()]
    for elsewhere in other:
        if elsewhere != ".":
            raise OSError(f"{data.name} is {_ELSEWHERE.format(elsewhere)}")
    return data.nbytes


_ELSEWHERE = (
    "in another file, '{}', which is not read. Write all into one file, as `h5repack` "
    "or `h5py` do"
)
