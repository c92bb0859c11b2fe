# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all; disks are full."""

from __future__ import annotations

import errno
import os

import pytest
from tiny import tree

from deepspin.utils.outputs import OutputError, append, claim, replacing


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
    with pytest.raises(OutputError, match=r"'/dev/full' cannot .*Free some space"):
        append("/dev/full", "x")
    with pytest.raises(OutputError, match=r"exists\. Choose another output"):
        claim(tmp_path, force=False)
