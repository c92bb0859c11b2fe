# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, over nothing that is not ours; disks fill."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import tree

from deepspin.utils import hdf5, outputs
from deepspin.utils.outputs import (
    Marks,
    OutputError,
    append,
    claim,
    locked,
    replacing,
    set_aside,
    telling,
)


def write(path, text="new", **options):
    """Write an output as verbs do."""
    with replacing(claim(path, **options)) as partial:
        if options.get("folder"):
            partial.mkdir()
            partial = partial / "a"
        partial.write_text(text)


def test_replacing(tmp_path):
    """Whole or not at all; files and folders."""
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), replacing(file) as partial:
        partial.write_text("new")
        raise RuntimeError
    assert tree(tmp_path) == {str(file): b"old"}
    with replacing(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert tree(tmp_path) == {str(file): b"new"}
    folder = tmp_path / "b"
    for content in ("1", "2"):
        with replacing(folder) as partial:
            partial.mkdir()
            (partial / content).write_text(content)
        assert [p.name for p in folder.iterdir()] == [content]
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b"]


def test_disk_errors_are_told(tmp_path):
    with pytest.raises(OutputError, match="cannot be written: No space left on dev"):
        with replacing(tmp_path / "a") as partial:
            raise OSError(
                0, f"h5: errno = 28, '{os.strerror(errno.ENOSPC)}', {partial}"
            )
    with pytest.raises(OutputError, match="'x' cannot be written: No space left"):
        with telling("x"):  # as TensorFlow has it
            raise RuntimeError(f"{tmp_path}; {os.strerror(errno.ENOSPC)}")
    with pytest.raises(ValueError, match=r"^other$"), telling("x"):
        raise ValueError("other")
    with pytest.raises(OutputError, match=r"'/dev/full' cannot .*Free some space"):
        append("/dev/full", "x")
    with pytest.raises(OutputError, match=r"exists\. Choose another output"):
        claim(tmp_path, force=False)


# --- Devices and links ----------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what is read from it when a thread has ended."""
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    thread = threading.Thread(target=lambda: read.append(path.read_bytes()))
    thread.start()
    yield path, thread, read
    if thread.is_alive():
        os.close(os.open(path, os.O_WRONLY))
    thread.join()


@pytest.mark.parametrize("how", [write, append])
@pytest.mark.parametrize("linked", [False, True])
def test_pipes_are_written_to(pipe, how, linked, tmp_path):
    path, thread, read = pipe
    given = path
    if linked:
        given = tmp_path / "link"
        given.symlink_to("pipe")
    how(given, "new")
    thread.join()
    assert read == [b"new"]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert given.is_symlink() == linked
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"][1 - linked :]


def test_nothing_for_a_pipe_if_it_fails(pipe, tmp_path):
    path, thread, _ = pipe
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert thread.is_alive()
    assert os.listdir(tmp_path) == ["pipe"]
    with pytest.raises(OutputError, match="is a device or a pipe, and a folder is to"):
        claim(path, folder=True)
    set_aside([path])
    with locked(path, message="never"), locked(path, message="never"):
        pass
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_stay(kind, tmp_path):
    """Nodes of the test's own: one takes all, a disk is refused."""
    path = tmp_path / "node"
    try:  # the numbers of the device that takes all, and of no disk at all
        os.mknod(
            path, kind | 0o600, os.makedev(*((1, 3), (240, 0))[stat.S_ISBLK(kind)])
        )
        if stat.S_ISCHR(kind):
            path.write_text("x")
    except PermissionError:
        pytest.skip("this system lets users make no devices")
    if stat.S_ISBLK(kind):
        with pytest.raises(OutputError, match=r"node' is a disk\. It would be overw"):
            write(path)
    else:
        write(path)
        append(path, "more")
    assert stat.S_IFMT(path.stat().st_mode) == kind
    assert os.listdir(tmp_path) == ["node"]


def test_the_standard_output_is_one():
    """Also where it is a file: what is there already stays."""
    code = (
        "from deepspin.utils.outputs import append, claim, replacing\n"
        "print('before')\n"
        "with replacing(claim('/dev/stdout')) as partial:\n"
        "    partial.write_text('new\\n')\n"
        "append('/dev/stdout', 'more\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", "before\nnew\nmore\n")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_links_are_written_through(tmp_path, folder, there):
    end, link = tmp_path / "far" / "end", tmp_path / "here" / "link"
    end.parent.mkdir(), link.parent.mkdir()
    link.symlink_to("../far/middle")
    (end.parent / "middle").symlink_to("end")
    if there:
        write(end, "old", folder=folder)
        with pytest.raises(OutputError, match="link' exists"):
            claim(link, force=False)
    write(link, folder=folder)
    assert os.readlink(link) == "../far/middle"
    assert os.listdir(link.parent) == ["link"]
    assert sorted(os.listdir(end.parent)) == ["end", "middle"]
    assert not end.is_symlink()
    assert (end / "a" if folder else end).read_text() == "new"


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match=r"a' is a link that leads to itself"):
        claim(tmp_path / "a")


def test_set_aside_behind_a_link(tmp_path):
    """The result is whole in `previous-1`, and the next goes where the link leads."""
    end, link = tmp_path / "far", tmp_path / "here" / "a"
    link.parent.mkdir()
    end.write_text("old")
    link.symlink_to("../far")
    set_aside([link])
    assert (tmp_path / "here" / "previous-1" / "a").read_text() == "old"
    assert not (tmp_path / "here" / "previous-1" / "a").is_symlink()
    write(link)
    assert link.is_symlink()
    assert end.read_text() == "new"


# --- Several programs -----------------------------------------------------------------


def told_by_another(call):
    """Call in another thread, which stands for another program; returns its error."""
    errors = []

    def run():
        try:
            call()
        except OutputError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


@pytest.mark.parametrize("folder", [False, True])
def test_one_writes_at_a_time(tmp_path, folder):
    path = tmp_path / "a"
    with replacing(path) as partial:
        (error,) = told_by_another(lambda: write(path, "theirs", folder=folder))
        assert f"Another program is writing '{path}' now. Wait for it" in error
        partial.write_text("ours")
    assert tree(tmp_path) == {str(path): b"ours"}
    assert not told_by_another(lambda: write(path, "theirs"))
    assert tree(tmp_path) == {str(path): b"theirs"}


@pytest.mark.parametrize("folder", [False, True])
def test_without_locks(tmp_path, folder, monkeypatch):
    """On some network drives: each writes its own, whole, and the last one stays."""

    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(outputs.fcntl, "flock", no_locks)
    path = tmp_path / "a.x"
    with replacing(path) as partial:
        file = partial / "a" if folder else partial
        file.parent.mkdir(exist_ok=True)
        file.write_text("ours")
        # another program holds nothing of what this one does
        monkeypatch.setattr(outputs, "_held", {})
        write(path, "theirs", folder=folder)
        assert (path / "a" if folder else path).read_text() == "theirs"
        assert file.read_text() == "ours"
        monkeypatch.undo()
    assert tree(tmp_path) == {str(path / "a" if folder else path): b"ours"}


def test_outputs_that_belong_together(tmp_path):
    """All of them or none, from before the work to its end."""
    one, two, three = (tmp_path / name for name in "abc")
    with locked(one, two, one):
        write(two, "ours")
        (error,) = told_by_another(lambda: write(two, "theirs"))
        assert f"Another program is writing '{two}' now." in error

        def both():
            with locked(three, two):
                pass

        assert told_by_another(both) == [error]
        assert not told_by_another(lambda: write(three, "theirs"))
    assert tree(tmp_path) == {str(two): b"ours", str(three): b"theirs"}


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("folder", [False, True])
def test_what_came_meanwhile_stays(tmp_path, folder, able, monkeypatch):
    """Without --force, of two that began from nothing; and both results are kept."""
    if not able:
        monkeypatch.setattr(outputs, "_renameat2", lambda *args: False)
    path = tmp_path / "a.x"
    claim(path, force=False, folder=folder)
    other = (
        "import sys; from pathlib import Path\n"
        f"path = Path({str(path)!r})\n"
        f"path.mkdir() if {folder} else path.write_text('theirs')\n"
    )
    subprocess.run([sys.executable, "-c", other], check=True)
    with pytest.raises(OutputError, match=r"was made by another program meanwhile"):
        with replacing(path) as partial:
            partial.mkdir() if folder else partial.write_text("ours")
    assert sorted(os.listdir(tmp_path)) == ["a-2.x", "a.x"]
    if not folder:
        assert path.read_text() == "theirs"
        assert (tmp_path / "a-2.x").read_text() == "ours"
    claim(path, folder=folder)  # with --force
    with replacing(path) as partial:
        partial.mkdir() if folder else partial.write_text("ours")
    assert sorted(os.listdir(tmp_path)) == ["a-2.x", "a.x"]


def test_what_is_ours_is_written_again(tmp_path):
    path = tmp_path / "a"
    write(path, "first", force=False)
    with replacing(path) as partial:
        partial.write_text("second")
    assert path.read_text() == "second"


RACE = """
import sys, time
from pathlib import Path
from deepspin.utils.outputs import OutputError, claim, replacing
me, begin = sys.argv[1], float(sys.argv[2])
time.sleep(max(0.0, begin - time.time()))
try:
    with replacing(claim("out", force=True, folder=True)) as partial:
        partial.mkdir()
        for name in "abcdefgh":
            (partial / name).write_text(me)
    print("done")
except OutputError as error:
    print(error)
"""


def test_races(tmp_path):
    """Two processes replace a folder again and again: it is all of one of them."""
    told = 0
    for _ in range(10):
        begin = str(time.time() + 0.6)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, me, begin],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                text=True,
            )
            for me in "12"
        ]
        said = [process.communicate()[0] for process in both]
        won = [me for me, text in zip("12", said, strict=True) if text == "done\n"]
        told += sum("Another program is writing 'out'" in text for text in said)
        assert all(text == "done\n" or "Another program" in text for text in said)
        content = {p.read_text() for p in (tmp_path / "out").iterdir()}
        assert len(content) == 1
        assert content <= set(won)
        assert os.listdir(tmp_path) == ["out"]
    assert told <= 10


def test_locks_that_are_left(tmp_path):
    """Of programs that were killed: they do not matter."""
    (tmp_path / ".a.lock").touch()
    (tmp_path / ".a.partial").write_text("half")
    write(tmp_path / "a")
    assert tree(tmp_path) == {str(tmp_path / "a"): b"new"}


def test_marks(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    marks = Marks([path, tmp_path / "b"])
    assert marks.changed() == []
    append(path, "2")
    assert marks.changed() == [path]
    marks.note()
    path.unlink()
    assert marks.changed() == [path]


# --- Folders, in one step -------------------------------------------------------------


def test_folders_change_in_one_step(tmp_path, monkeypatch):
    """There is no instant without the one or the other."""
    folder = tmp_path / "a"
    write(folder, "old", folder=True)
    renames = []
    monkeypatch.setattr(Path, "rename", lambda *args: renames.append(args))
    write(folder, "new", folder=True)
    assert renames == []
    assert tree(folder) == {str(folder / "a"): b"new"}


def test_a_kill_between_two_renames(tmp_path, monkeypatch):
    """Where the system has no such step, the next run brings back the old one."""
    monkeypatch.setattr(outputs, "_renameat2", lambda *args: False)
    folder, rename = tmp_path / "a", Path.rename
    write(folder, "old", folder=True)
    write(folder, "new", folder=True)
    assert os.listdir(tmp_path) == ["a"]

    def killed(self, target):
        if target == folder:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write(folder, "newer", folder=True)
    assert not folder.exists()
    with pytest.raises(OutputError, match="exists"):
        claim(folder, force=False, folder=True)
    assert tree(tmp_path) == {str(folder / "a"): b"new"}


# --- HDF5 -----------------------------------------------------------------------------


FULL = """
import resource, signal, sys
import h5py, numpy as np
from deepspin.utils import hdf5
from deepspin.utils.outputs import OutputError, replacing, telling
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with replacing("whole.h5") as partial, hdf5.writing(partial, "w") as file:
    file["a"] = np.zeros(1000)
    file["b"] = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
for size in (800, 5_000, 100_000):
    try:
        with replacing("out.h5") as partial, hdf5.writing(partial, "w") as file:
            file["a"] = np.ones(size)
            file["a"][::2]
    except OutputError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    with telling("whole.h5"), hdf5.writing("whole.h5", "r+") as file:
        file["a"][:] = 1.0
        file.flush()
        file["b"][()] = 1
except OutputError as error:
    print(error)
"""


def test_hdf5_on_a_full_disk(tmp_path):
    """One error, no end by the system; what is there stays whole."""
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    expected = "cannot be written: File too large. Raise the limit of file sizes"
    assert [line.split(" ", 1)[0] for line in lines] == ["'out.h5'"] * 2 + [
        "'whole.h5'"
    ]
    assert all(expected in line for line in lines)
    assert sorted(os.listdir(tmp_path)) == ["out.h5", "whole.h5"]
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["a"], np.ones(800))
    with h5py.File(tmp_path / "whole.h5") as file:
        assert file["b"][()] == 0


def test_hdf5_passes_other_errors(tmp_path):
    with (
        pytest.raises(RuntimeError, match="mine"),
        hdf5.writing(tmp_path / "a.h5", "w"),
    ):
        raise RuntimeError("mine")
