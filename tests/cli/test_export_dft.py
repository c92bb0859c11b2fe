# SPDX-License-Identifier: Apache-2.0
"""Frames on their way to a code and back, from the command line."""

from __future__ import annotations

import numpy as np
import pytest
from abacus_text import END, head, step
from small_data import frames, write

from deepspin.data.formats.stru import read_structure
from deepspin.main import main

STRU = "ATOMIC_SPECIES\nO 15.999 O.upf\nNi 58.693 Ni.upf\n"


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Two frames of a system, for ABACUS."""
    monkeypatch.chdir(tmp_path)
    arrays, types = frames(2)
    write("data", arrays, types)
    (tmp_path / "template").mkdir()
    (tmp_path / "template/INPUT").write_text("INPUT_PARAMETERS\nnspin 4\n")
    (tmp_path / "template/STRU").write_text(STRU)
    command = ["export-dft", "data", "--code", "abacus", "--template", "template"]
    assert main([*command, "-o", "dft"]) == 0
    return [*command, "-o"]


def calculate(folder):
    """Write an output in which every moment is what it has to be."""
    found = read_structure(folder / "STRU")
    words = [line.split() for line in (folder / "STRU").read_text().splitlines()]
    spin = [w[w.index("mag") + 1 :][:3] for w in words if "mag" in w]
    spin = np.array(spin, dtype=float)
    (folder / "OUT.ABACUS").mkdir()
    text = head(found.symbols, found.coord @ np.linalg.inv(found.cell))
    text += step(1, -40.0, spin, -spin, spin / 2, labels=found.symbols) + END
    (folder / "OUT.ABACUS/running_scf.log").write_text(text)


def test_there_and_back(exported, tmp_path, capsys):
    assert main(["import-dft", "dft", "-o", "new"]) == 1
    assert "none of the 2 calculations in 'dft' can be read" in capsys.readouterr().err
    for k in (0, 1):
        calculate(tmp_path / f"dft/frame.000{k}")
    assert main(["import-dft", "dft", "-o", "new.hdf5"]) == 0
    assert main(["import-dft", "dft", "-o", "new"]) == 0
    assert "wrote 2 frames to new" in capsys.readouterr().err
    for name in ("coord", "spin", "box"):
        back = np.load(f"new/Ni4O4/set.000/{name}.npy")
        assert back == pytest.approx(np.load(f"data/set.000/{name}.npy"), abs=1e-8)
    force_mag = np.load("new/Ni4O4/set.000/force_mag.npy")
    assert force_mag == pytest.approx(-np.load("data/set.000/spin.npy"), abs=1e-9)
    assert main(["import-dft", "dft", "-o", "new"]) == 1
    assert "'new' exists" in capsys.readouterr().err
    assert main(["import-dft", "dft", "-o", "new", "--force"]) == 0
    assert main(["import-dft", "dft", "-o", "dft/data"]) == 1
    assert "is, holds or lies in the data" in capsys.readouterr().err


def test_outputs_are_not_overwritten(exported, tmp_path, capsys):
    calculate(tmp_path / "dft/frame.0000")
    assert main([*exported, "dft"]) == 1
    assert "'dft' exists" in capsys.readouterr().err
    assert main([*exported, "data", "--force"]) == 1
    assert "is a folder without calculations" in capsys.readouterr().err
    assert main([*exported, "dft", "--force"]) == 0
    assert not (tmp_path / "dft/frame.0000/OUT.ABACUS").exists()
