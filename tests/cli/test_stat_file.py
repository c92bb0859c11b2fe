# SPDX-License-Identifier: Apache-2.0
"""`training/stat_file` from the command line."""

from __future__ import annotations

import copy

import numpy as np
import tiny

from deepspin.main import main


def run(stat_file, **training):
    content = copy.deepcopy(tiny.INPUT)
    content["training"] |= {"numb_steps": 1, "save_freq": 1, "disp_freq": 1}
    content["training"] |= {"stat_file": stat_file, **training}
    return main(["train", tiny.write(content)])


def test_second_start_equals_the_first(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("stat.hdf5") == 0
    first = tiny.weights("model.ckpt-1.keras")
    assert "statistics written to 'stat.hdf5'" in capfd.readouterr().err
    assert run("stat.hdf5", stat_file_mode="read") == 0
    assert "statistics are those of 'stat.hdf5'" in capfd.readouterr().err
    for a, b in zip(first, tiny.weights("model.ckpt-1.keras"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mistakes(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("none.hdf5", stat_file_mode="read") == 1
    assert "'none.hdf5', which does not exist" in capfd.readouterr().err
    assert run(None, stat_file_mode="read") == 1
    assert 'stat_file_mode` is "read"; expected "update"' in capfd.readouterr().err
