# SPDX-License-Identifier: Apache-2.0
"""Detail files: labels beside predictions."""

from pathlib import Path

import numpy as np
import pytest

from deepspin.infer.accuracy import Accuracy
from deepspin.infer.details import claim_details, write_details
from deepspin.utils.outputs import OutputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accuracy(rows):
    rng = np.random.default_rng(0)
    widths = {"e": 1, "fr": 3}
    of_each = [
        {s: (rng.normal(size=(n, widths[s])),) * 2 for s, n in own.items()}
        for own in rows
    ]
    every = {s: [own[s] for own in of_each if s in own] for s in ("e", "fr")}
    pairs = {
        s: tuple(np.concatenate(arrays) for arrays in zip(*own, strict=True))
        for s, own in every.items()
        if own
    }
    return Accuracy([f"system {k}" for k in range(len(rows))], of_each, pairs, {})


def test_a_header_for_each_system():
    write_details(accuracy([{"fr": 2}, {"fr": 1, "e": 1}]), "d")
    assert sorted(path.name for path in Path().iterdir()) == ["d.e.out", "d.fr.out"]
    lines = Path("d.fr.out").read_text().splitlines()
    columns = "data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    assert [k for k, line in enumerate(lines) if line.startswith("#")] == [0, 3]
    assert [lines[0], lines[3]] == [f"# system {k}: {columns}" for k in (0, 1)]
    assert np.loadtxt("d.e.out", ndmin=2).shape == (1, 2)


def test_what_has_no_successor_goes():
    Path("d.v.out").write_text("old")
    Path("d.txt").write_text("mine")
    write_details(accuracy([{"e": 2}]), "d")
    assert sorted(path.name for path in Path().iterdir()) == ["d.e.out", "d.txt"]


@pytest.mark.parametrize("prefix", ["", "x/", "."])
def test_prefixes_that_name_no_file(prefix):
    with pytest.raises(OutputError, match="-d takes the beginning of file names"):
        claim_details(prefix)


def test_folder_in_the_way():
    Path("d.fm.out").mkdir()
    with pytest.raises(OutputError, match=r"'d.fm.out' is a folder. Give another"):
        claim_details("d")
