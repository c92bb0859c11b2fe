# SPDX-License-Identifier: Apache-2.0
"""Numbers of neighbours of a crystal where they can be counted by hand."""

import json

import numpy as np
import pytest
from places import ROOT
from small_data import LATTICE, frames, write

from deepspin.main import main
from deepspin.spins.virtual import VirtualAtoms

NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
EXAMPLE = ROOT / "examples/NiO/data/valid/spin-files-16"


@pytest.fixture
def crystal(tmp_path):
    """Perfect rock salt with parallel spins along z."""
    arrays, types = frames(2, step=0.0)
    arrays["spin"] = np.where(types[:, None] == 0, [0.0, 0.0, 1.2737], 0.0)[None]
    arrays["spin"] = np.repeat(arrays["spin"], 2, axis=0)
    return str(write(tmp_path / "s", arrays, types))


def run(capsys, *args):
    assert main(["neighbor-stat", *args]) == 0
    return capsys.readouterr().out


def test_rock_salt(crystal, capsys):
    """Within 3.2 Å: 6 of the other type at a/2, 12 of the same at a/√2, own spin."""
    out = run(capsys, "-s", crystal, "-r", "3.2")
    lines = [line.split() for line in out.partition("\n\n")[0].splitlines()]
    rows = {name: row for name, *row in lines}
    assert rows["Ni"][:5] == ["12", "9.0", "12", "2.085", "16"]
    assert rows["O"][:5] == ["12", "9.0", "12", "2.085", "16"]
    # around Ni: its own, 4 beside it 2.98 Å away, 4 below it that come to 2.68 Å
    # around O: 1 below it that comes to 1.69 Å, 1 above 2.49 Å away, 4 beside 2.12 Å
    half = LATTICE / 2
    beside, above = np.hypot(np.sqrt(2) * half, 0.4), np.hypot(half, half + 0.4)
    assert beside < 3.2 < above
    assert rows["Ni(spin)"][:5] == ["9", "7.5", "9", "1.685", "16"]
    assert "min_nbor_dist: 0.400000" in out
    assert "max_nbor_size: [12, 12, 9]" in out
    assert "suggested sel: [16, 16]" in out


@pytest.mark.parametrize(
    ("sel", "said"),
    [
        ([12, 12], "sel holds all neighbours."),
        ([12, 8], "sel is too small for O: energies jump"),
        ([8, 12], "sel is too small for Ni, Ni(spin): energies jump"),
        ([40, 12], "much more than there are of Ni, Ni(spin): [16, 16] will do."),
    ],
)
def test_sel_of_an_input(crystal, tmp_path, capsys, sel, said):
    example = ROOT / "examples/NiO/se_e2_a/input.json"
    options = json.loads(example.read_text())
    options["model"]["descriptor"] |= {"sel": sel, "rcut": 3.2, "rcut_smth": 3.0}
    (tmp_path / "input.json").write_text(json.dumps(options))
    out = run(capsys, "-s", crystal, "-i", str(tmp_path / "input.json"))
    assert "Neighbours within 3.2 Å" in out
    assert said in out


def test_picture(crystal, tmp_path, capsys):
    picture = tmp_path / "n.png"
    run(capsys, "-s", crystal, "-r", "3.2", "-o", str(picture))
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-r", "-1"], "-r must be a cutoff in Å above 0. Received: -1"),
        (["-o", "n.bmp"], "A picture must end in"),
        (["-i", "absent.json"], "There is no input file"),
        (["-t", "Fe"], "also has Ni O"),
    ],
)
def test_mistakes(crystal, tmp_path, monkeypatch, capfd, args, message):
    monkeypatch.chdir(tmp_path)
    assert main(["neighbor-stat", "-s", crystal, *args]) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
