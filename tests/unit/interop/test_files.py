# SPDX-License-Identifier: Apache-2.0
"""Which files are models of DeePMD-kit, and which checkpoint a name means."""

from __future__ import annotations

import pytest

from deepspin.interop.files import IncompleteError, find_deepmd_checkpoint, is_deepmd


def checkpoint(folder, *steps):
    """Write the files of checkpoints, empty."""
    for step in steps:
        for suffix in (".index", ".meta", ".data-00000-of-00001"):
            (folder / f"model.ckpt-{step}{suffix}").write_bytes(b"")


@pytest.mark.parametrize("name", ["m.pb", "m.dp", "m.yaml", "m.yml"])
def test_suffixes(tmp_path, name):
    """A folder of such a name is none."""
    assert is_deepmd(tmp_path / name)
    (tmp_path / name).mkdir()
    assert not is_deepmd(tmp_path / name)
    assert not is_deepmd(tmp_path / "m.keras")


def test_newest_of_several_checkpoints(tmp_path):
    checkpoint(tmp_path, 9, 10, 100)
    found = find_deepmd_checkpoint(tmp_path / "model.ckpt")
    assert found == tmp_path / "model.ckpt-100"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    assert find_deepmd_checkpoint(tmp_path) == tmp_path / "model.ckpt-9"


@pytest.mark.parametrize("suffix", ["", ".index", ".meta"])
def test_names_of_one_checkpoint(tmp_path, suffix):
    checkpoint(tmp_path, 9, 10)
    found = find_deepmd_checkpoint(tmp_path / f"model.ckpt-9{suffix}")
    assert found == tmp_path / "model.ckpt-9"


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint of DeePMD-kit"):
        find_deepmd_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.parametrize("suffix", [".meta", ".index", ".data-00000-of-00001"])
def test_a_file_is_missing(tmp_path, suffix):
    checkpoint(tmp_path, 9)
    (tmp_path / f"model.ckpt-9{suffix}").unlink()
    with pytest.raises(IncompleteError, match="is not whole: there is no"):
        find_deepmd_checkpoint(tmp_path / "model.ckpt-9")
