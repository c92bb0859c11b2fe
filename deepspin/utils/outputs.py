# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are written whole or not at all, and never over others.

Every output goes through `claim`, before the work, and `replacing`, at its end; files
that grow, through `append`. What holds for all:

- An output that is a link is written where the link leads.
- A device, a pipe or a stream of the process (``/dev/null``, ``/dev/stdout``) is
  written to, never replaced.
- One program at a time writes an output; another one is told so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

# of renameat2, which Linux has: only if there is nothing yet; one for the other
_NO_REPLACE, _EXCHANGE = 1, 2
_AT_FDCWD = -100
_DEEPEST = 40  # links that lead to links
# in hidden names: what is not whole yet, and the end of what was there before
_PARTIAL, _OLD = ".partial", ".old"

_new: set[Path] = set()  # outputs that were not there, and must not be when written
_held: dict[Path, int] = {}  # outputs that this process has locked, by which thread
_unsure: set[Path] = set()  # of these, those on file systems without locks


class OutputError(OSError):
    """Something cannot be written: what, why, and what to do, in one line."""


# --- Whole or not at all --------------------------------------------------------------


def claim(path: str | Path, *, force: bool = True, folder: bool = False) -> Path:
    """Make sure, before the work, that an output can be written at its end.

    Makes the folder that it goes to.

    Parameters
    ----------
    path : str
        File or folder to be written.
    force : bool
        Whether it may replace what is there. If not, it also must not replace what
        another program has written there by the end.
    folder : bool
        Whether it is a folder: a file is never replaced by one, nor the reverse.

    Raises
    ------
    OutputError
        There is something already, another program is writing there, or its folder
        takes no files.
    """
    path = Path(path)
    end = _end(path)
    if _is_stream(path, end):
        if folder:
            raise OutputError(
                f"'{path}' is a device or a pipe, and a folder is to be written. "
                "Choose another output."
            )
        return path
    _recover(end)
    if end.exists() and not force:
        raise OutputError(
            f"'{path}' exists. Choose another output, or replace it with --force."
        )
    if end.exists() and end.is_dir() != folder:
        kind, other = ("folder", "file")[:: -1 if folder else 1]
        raise OutputError(
            f"'{path}' is a {kind}, and a {other} is to be written. Choose another "
            "output."
        )
    with telling(path):
        end.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=end.parent) as probe:
            probe.write(b"\0" * 512)
            probe.flush()
        with _alone(path, end):
            (_new.discard if force else _new.add)(_key(end))
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path`; what the block writes there takes its place.

    Either all of it, on the disk for good, or, if the block fails, nothing: what was
    there stays, and at any instant there is the old or the new. Both may be files or
    folders. What the block writes for a device or a pipe is sent there at its end.

    Raises
    ------
    OutputError
        The disk is full, or the like; another program writes there.
    """
    path = Path(path)
    end = _end(path)
    with telling(path):
        if _is_stream(path, end):
            with tempfile.TemporaryDirectory() as folder:
                partial = Path(folder) / path.name
                yield partial
                _send(partial, end)
            return
        end.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, end):
            # where there are no locks another program may be writing one, too
            own = f"-{secrets.token_hex(4)}" if _key(end) in _unsure else ""
            partial = end.with_name(f".{end.stem}{_PARTIAL}{own}{end.suffix}")
            _recover(end)
            _remove(partial)  # of a program that was killed
            try:
                yield partial
                if end.exists() and end.is_dir() != partial.is_dir():
                    raise OutputError(
                        f"'{path}' is in the way: no file or folder replaces it."
                    )
                for file in partial.rglob("*") if partial.is_dir() else [partial]:
                    sync(file)
                _put(partial, end, path)
                sync(end.parent)
            finally:
                _remove(partial)


def is_left_over(name: str) -> bool:
    """Whether a file or folder of this name is what a program that was killed left."""
    return name[:1] == "." and (_PARTIAL in name or name.endswith(_OLD))


def append(path: str | Path, text: str) -> None:
    """Append to a file, on the disk for good.

    Raises
    ------
    OutputError
        The disk is full, or the like.
    """
    with telling(path), open(path, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fsync(file.fileno())


class Marks:
    """What files were like when this program wrote them last.

    Parameters
    ----------
    files : sequence of Path
        Files that nobody else writes.
    """

    def __init__(self, files: Sequence[Path]):
        self._files = files
        self.note()

    def note(self) -> None:
        """Keep what they are like now."""
        self._known = {path: _mark(path) for path in self._files}

    def changed(self) -> list[Path]:
        """Files that somebody else has removed, replaced, or changed in size."""
        return [path for path, mark in self._known.items() if mark != _mark(path)]


def _mark(path: Path) -> tuple[int, ...] | None:
    """Device, number and size of a file; None for none, or for a stream."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    regular = stat.S_ISREG(found.st_mode)
    return (found.st_dev, found.st_ino, found.st_size) if regular else None


def set_aside(files: Sequence[Path], copies: Sequence[Path] = ()) -> None:
    """Move results of an earlier run to folders ``previous-N`` beside them.

    A link stays, and leads to nothing until it is written again: what it led to is
    moved.

    Parameters
    ----------
    files : sequence of Path
        Files to move; those that are not there are left out.
    copies : sequence of Path
        Files to copy instead.
    """
    files = [path for path in dict.fromkeys(files) if _is_kept(path)]
    if not files:
        return
    copies = [path for path in copies if _is_kept(path)]
    number, folders = 1, {path.parent for path in (*files, *copies)}
    while any((folder / f"previous-{number}").exists() for folder in folders):
        number += 1
    for path in (*copies, *files):
        target = path.parent / f"previous-{number}" / path.name
        target.parent.mkdir(exist_ok=True)
        if path in copies:
            target.write_bytes(path.read_bytes())
        else:
            shutil.move(_end(path), target)
    names = [path.name for path in (*files, *copies)]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" * (len(names) > 4))
    log.warning("results of an earlier run are now in 'previous-%d': %s", number, shown)


def _is_kept(path: Path) -> bool:
    return path.is_file() and not is_stream(path)


def sync(path: Path) -> None:
    """Have the system put a file or folder on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# --- Links, devices -------------------------------------------------------------------


def is_stream(path: str | Path) -> bool:
    """Whether an output is a device, a pipe, or what ``/dev/stdout`` leads to."""
    return _is_stream(Path(path), _end(Path(path)))


def _end(path: Path) -> Path:
    """Where links lead; a stream of a process is an end, whatever stands behind it."""
    end = path
    for _ in range(_DEEPEST):
        if not end.is_symlink() or _of_process(end):
            return end
        end = end.parent / os.readlink(end)
    raise OutputError(f"'{path}' is a link that leads to itself. Remove it.")


def _of_process(path: Path) -> bool:
    """Whether it is what ``/dev/stdout`` and the like lead to."""
    return os.path.realpath(path.parent).startswith("/proc/")


def _is_stream(path: Path, end: Path) -> bool:
    """Whether an output is written to, not replaced."""
    try:
        mode = end.stat().st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode):
        raise OutputError(
            f"'{path}' is a disk. It would be overwritten: choose another output."
        )
    return end.is_symlink() or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _send(partial: Path, end: Path) -> None:
    """Write a file to a device or pipe."""
    sys.stdout.flush()
    with open(partial, "rb") as source:
        number = os.open(end, os.O_WRONLY | os.O_APPEND)
        with open(number, "wb") as target:
            shutil.copyfileobj(source, target)


# --- One after the other --------------------------------------------------------------


@contextmanager
def locked(*paths: str | Path, message: str | None = None) -> Iterator[None]:
    """Keep other programs from writing `paths` meanwhile, by files beside them.

    Outputs that belong together are locked from before the work to its end: else two
    programs could write some of them each.

    Raises
    ------
    OutputError
        One is doing so: the `message`, if there is one.
    """
    with ExitStack() as stack:
        for path in dict.fromkeys(map(Path, paths)):
            stack.enter_context(_locked(path, message))
        yield


@contextmanager
def _locked(path: Path, message: str | None) -> Iterator[None]:
    end = _end(path)
    message = message or (
        f"Another program is writing '{path}' now. Wait for it, or choose another "
        "output."
    )
    if _is_stream(path, end):
        yield
        return
    key = _key(end)
    if key in _held:
        raise OutputError(message)
    beside = end.with_name(f".{end.name}.lock")
    number, sure = _lock(beside, message)
    _held[key] = threading.get_ident()
    (_unsure.discard if sure else _unsure.add)(key)
    try:
        yield
    finally:
        del _held[key]
        beside.unlink(missing_ok=True)  # while it is locked
        os.close(number)


@contextmanager
def _alone(path: Path, end: Path) -> Iterator[None]:
    """Lock an output, unless this thread has done so."""
    if _held.get(_key(end)) == threading.get_ident():
        yield
        return
    with locked(path):
        yield


def _lock(beside: Path, message: str) -> tuple[int, bool]:
    """Open and lock a file, if it can be; another may have removed it, then again."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(beside, flags, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(number)
            raise OutputError(message) from error
        except OSError:
            log.debug("no locks on this file system")
            return number, False
        try:
            if os.path.samestat(os.fstat(number), os.stat(beside)):
                return number, True
        except FileNotFoundError:
            pass
        os.close(number)


def _key(end: Path) -> Path:
    return Path(os.path.realpath(end.parent)) / end.name


# --- The last step --------------------------------------------------------------------


def _put(partial: Path, end: Path, path: Path) -> None:
    """Give what was written its name, in one step."""
    if _key(end) in _new:
        if not _rename_new(partial, end):
            kept = _aside(partial, end)
            raise OutputError(
                f"'{path}' was made by another program meanwhile. It stays; what was "
                f"to be written is '{kept}'."
            )
        _new.discard(_key(end))
    elif not end.is_dir():
        partial.replace(end)
    elif not _renameat2(partial, end, _EXCHANGE):
        old = _old(end)
        end.rename(old)
        partial.rename(end)
        _remove(old)


def _rename_new(partial: Path, end: Path) -> bool:
    """Rename if nothing has the name; False if something has."""
    try:
        if _renameat2(partial, end, _NO_REPLACE):
            return True
    except FileExistsError:
        return False
    if os.path.lexists(end):
        return False
    partial.rename(end)
    return True


def _aside(partial: Path, end: Path) -> Path:
    """Rename to a free name beside `end`, which is returned."""
    number = 2
    while not _rename_new(
        partial, kept := end.with_name(f"{end.stem}-{number}{end.suffix}")
    ):
        number += 1
    return kept


def _renameat2(one: Path, two: Path, flags: int) -> bool:
    """Rename as Linux can; False if this system or file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    names = os.fsencode(one), os.fsencode(two)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(two))


def _recover(end: Path) -> None:
    """Bring back what was moved away by a program that was killed before it was done.

    Only where there is no `_EXCHANGE`.
    """
    old = _old(end)
    if old.is_dir():
        if end.exists():
            _remove(old)
        else:
            old.rename(end)


def _old(end: Path) -> Path:
    return end.with_name(f".{end.name}{_OLD}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- What to say ----------------------------------------------------------------------


@contextmanager
def telling(path: str | Path) -> Iterator[None]:
    """Say of errors of the disk which output, why, and what to do.

    Raises
    ------
    OutputError
        For what the system says, also in the words of a library.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        code = _disk_code(error)
        if code is None and not isinstance(error, OSError):
            raise
        why = getattr(error, "strerror", None) or str(error)
        advice = "Write elsewhere, or mend that."
        if code is not None:
            why, advice = os.strerror(code), _ADVICE[code]
        raise OutputError(f"'{path}' cannot be written: {why}. {advice}") from error


def _disk_code(error: Exception) -> int | None:
    """Number of an error of the disk, which libraries tell in words."""
    text = getattr(error, "strerror", None) or str(error)
    for code in _ADVICE:
        if os.strerror(code) in text or getattr(error, "errno", None) == code:
            return code
    return None


_ADVICE = {
    errno.ENOSPC: "Free some space, or write elsewhere.",
    errno.EDQUOT: "Free some of your quota, or write elsewhere.",
    errno.EFBIG: "Raise the limit of file sizes, or write elsewhere.",
}
