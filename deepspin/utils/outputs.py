# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are written whole or not at all, and never over others."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


class OutputError(OSError):
    """Something cannot be written: what, why, and what to do, in one line."""


def claim(path: str | Path, *, force: bool = True, folder: bool = False) -> Path:
    """Make sure, before the work, that an output can be written at its end.

    Makes the folder that it goes to.

    Parameters
    ----------
    path : str
        File or folder to be written.
    force : bool
        Whether it may replace what is there.
    folder : bool
        Whether it is a folder: a file is never replaced by one, nor the reverse.

    Raises
    ------
    OutputError
        There is something already, or its folder takes no files.
    """
    path = Path(path)
    if path.exists() and not force:
        raise OutputError(
            f"'{path}' exists. Choose another output, or replace it with --force."
        )
    if path.exists() and path.is_dir() != folder:
        kind, other = ("folder", "file")[:: -1 if folder else 1]
        raise OutputError(
            f"'{path}' is a {kind}, and a {other} is to be written. Choose another "
            "output."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"\0" * 512)
            probe.flush()
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path`; what the block writes there takes its place.

    Either all of it, on the disk for good, or, if the block fails, nothing: what was
    there stays. Both may be files or folders.

    Raises
    ------
    OutputError
        The disk is full, or the like.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    _remove(partial)  # of a program that was killed
    try:
        yield partial
        if path.exists() and path.is_dir() != partial.is_dir():
            raise OutputError(f"'{path}' is in the way: no file or folder replaces it.")
        for file in partial.rglob("*") if partial.is_dir() else [partial]:
            sync(file)
        if path.is_dir() and not path.is_symlink():  # cannot be replaced in one step
            old = path.with_name(f".{path.name}.old")
            _remove(old)
            path.rename(old)
            partial.rename(path)
            _remove(old)
        else:
            partial.replace(path)
        sync(path.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(_reason(path, error)) from error
    finally:
        _remove(partial)


def append(path: str | Path, text: str) -> None:
    """Append to a file, on the disk for good.

    Raises
    ------
    OutputError
        The disk is full, or the like.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(_reason(Path(path), error)) from error


@contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Keep other programs from writing `path` meanwhile, by a file beside it.

    Raises
    ------
    OutputError
        One is doing so: the `message`.
    """
    beside = path.with_name(f".{path.name}.lock")
    with open(beside, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(message) from error
        except OSError:  # a file system without locks
            log.debug("no locks on this file system")
        try:
            yield
        finally:
            beside.unlink(missing_ok=True)


def set_aside(files: Sequence[Path], copies: Sequence[Path] = ()) -> None:
    """Move results of an earlier run to folders ``previous-N`` beside them.

    Parameters
    ----------
    files : sequence of Path
        Files to move; those that are not there are left out.
    copies : sequence of Path
        Files to copy instead.
    """
    files = [path for path in dict.fromkeys(files) if path.is_file()]
    if not files:
        return
    copies = [path for path in copies if path.is_file()]
    number, folders = 1, {path.parent for path in (*files, *copies)}
    while any((folder / f"previous-{number}").exists() for folder in folders):
        number += 1
    for path in (*copies, *files):
        target = path.parent / f"previous-{number}" / path.name
        target.parent.mkdir(exist_ok=True)
        if path in copies:
            target.write_bytes(path.read_bytes())
        else:
            path.rename(target)
    names = [path.name for path in (*files, *copies)]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" * (len(names) > 4))
    log.warning("results of an earlier run are now in 'previous-%d': %s", number, shown)


def sync(path: Path) -> None:
    """Have the system put a file or folder on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reason(path: Path, error: OSError) -> str:
    text = error.strerror or str(error)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # HDF5 tells it in words
        if os.strerror(code) in text or error.errno == code:
            return f"'{path}' cannot be written: {os.strerror(code)}. {_ADVICE[code]}"
    return f"'{path}' cannot be written: {text}. Write elsewhere, or mend that."


_ADVICE = {
    errno.ENOSPC: "Free some space, or write elsewhere.",
    errno.EDQUOT: "Free some of your quota, or write elsewhere.",
    errno.EFBIG: "Raise the limit of file sizes, or write elsewhere.",
}
