# SPDX-License-Identifier: Apache-2.0
"""`dp-spin plot`: what is read, what is drawn, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import h5py
import pytest
from drawings import (
    FORCE,
    NOTE,
    curve,
    detail,
    trajectory,
    write,
)

from deepspin.main import main
from deepspin.pictures import results


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


HEAD = "# step rmse_val rmse_trn rmse_e_val rmse_e_trn lr\n"
ROW = "0 1 1 1 1 1\n"
DEVI = "# a\n# step max_devi_f avg_devi_f\n"
CASES = {
    "absent": (["no/l.out"], "There is no file 'no/l.out'."),
    "folder": (["."], "'.' is a folder. Give the file, such as 'lcurve.out'."),
    "empty": (["empty.out"], "'empty.out' is empty."),
    "header": (["header.out"], "'header.out' has no numbers yet, only a header."),
    "torn": (["torn.out"], "'torn.out' has no numbers yet, only a header."),
    "neither": (["text.txt"], "'text.txt' is no result file: a learning curve .*"),
    "binary": (["binary.out"], "'binary.out' is no result file: a learning curve .*"),
    "other detail": (["d.s.out"], "'d.s.out' is no result file: a learning curve .*"),
    "word": (["word.out"], "'word.out' is not a table of numbers: .*'oops'.*"),
    "ragged": (["ragged.out"], "'ragged.out' is not a table of numbers: .*from 6 to 5"),
    "columns": (["less.out"], "'less.out' has 5 numbers in a line, .* names 6."),
    "two losses": (["two.out"], "'two.out' changes its columns: .*Split it."),
    "nan": (["nan.out"], "'nan.out' has no numbers but nan."),
    "nan errors": (["nane.out"], "'nane.out' has no errors of energy.*all are nan.*"),
    "nan step": (["nans.out"], "'nans.out' has a step that is no number."),
    "no term": (
        ["total.out"],
        "'total.out' has no errors of energy.*: step, rmse_val.*",
    ),
    "deviations": (["devi.out"], "'devi.out' has 2 numbers in a line, .* names 3."),
    "atoms": (["atoms.out"], "'atoms.out' has 4 numbers in a line, .* names 5."),
    "no deviations": (["devi0.out"], "'devi0.out' has no numbers yet, only a header."),
    "nan deviations": (["devin.out"], "'devin.out' has no numbers but nan."),
    "cut log": (["cut.log"], "'cut.log' has no column 'e_total', only step, .*cut?"),
    "cut relaxation": (["cut2.log"], "'cut2.log' has no column 'enthalpy', only .*"),
    "cut table": (["cut.csv"], "'cut.csv' has no column 'order', only natoms, .*"),
    "no trajectory": (["log.h5"], "'log.h5' is no trajectory of dp-spin md: .*"),
    "no times": (["still.extxyz"], "'still.extxyz' is no trajectory of dp-spin md"),
    "one frame": (["one.h5"], "'one.h5' has 1 frames; 2 are needed to see more."),
    "no motion": (["rest.h5"], "'rest.h5' has neither atoms nor spins that move."),
    "trajectory and log": (["log.h5", "ok.out"], "'log.h5' is no trajectory .*"),
    "kinds": (["move.h5", "ok.out"], "'ok.out' is a learning curve, .* a trajectory"),
    "mixture": (
        ["ok.out", "d.fr.out"],
        "'d.fr.out' is a detail file, 'ok.out' a learning curve.*two.*",
    ),
    "labels": (["ok.out", "--labels", "a", "b"], "--labels needs .* 1 files.*: 2"),
    "no runs": (
        ["d.fr.out", "--log-x"],
        "--log-x and --linear-y are for learning curves.",
    ),
    "suffix": (["ok.out", "-o", "p.jpg"], "A picture must end in .png.* Got 'p.jpg'."),
    "target": (["ok.out", "-o", "d.png"], "'d.png' is a folder. Give a file .*"),
}


@pytest.fixture
def files(folder):
    write("empty.out", " \n")
    write("header.out", HEAD + NOTE)
    write("torn.out", HEAD + "0 1.0")
    write("text.txt", "hello\n1 2\n")
    Path("binary.out").write_bytes(bytes(range(256)) + b"\n")
    detail("d.s.out", ("sxx", "syy"))
    detail("d.fr.out", FORCE)
    write("word.out", HEAD + ROW + "1 oops 1 1 1 1\n")
    write("ragged.out", HEAD + ROW + "1 1 1 1 1\n" + ROW)
    write("less.out", HEAD + "1 1 1 1 1\n")
    write("two.out", HEAD + ROW + HEAD.replace("_e_", "_fr_") + ROW)
    write("nan.out", HEAD + "nan nan nan nan nan nan\n")
    write("nane.out", HEAD + "0 1 1 nan nan 0.001\n")
    write("nans.out", HEAD + "nan 1 1 1 1 0.001\n")
    write("total.out", "# step rmse_val lr\n0 1 1\n")
    write("cut.log", "# step replica time\n0 0 1\n")
    write("cut2.log", "# step replica energy\n0 0 1\n")
    write("cut.csv", "natoms,temperature (K),order error\n16,300,0.1\n")
    write("log.h5", "to do\n")
    ase.Atoms("O", magmoms=[[0, 0, 1]]).write("still.extxyz")
    trajectory("one.h5", frames=1)
    trajectory("move.h5")
    trajectory("rest.h5", frames=2)
    with h5py.File("rest.h5", "a") as file:
        file["coord"][:], file["spin"][:] = 1.0, 0.0
    write("devi.out", DEVI + "0 1\n")
    write("atoms.out", DEVI.replace("\n", " atm_devi_f(N) atm_devi_fm(N)\n") + ROW[4:])
    write("devi0.out", DEVI)
    write("devin.out", DEVI + "0 nan nan\n")
    write("ok.out", HEAD + ROW)
    Path("d.png").mkdir()


@pytest.mark.parametrize("case", CASES)
def test_mistakes(case, files, folder, capsys):
    """One line, and nothing is written."""
    before = sorted(folder.rglob("*"))
    args, message = CASES[case]
    assert main(["plot", *args]) == 1
    *notes, line = capsys.readouterr().err.splitlines()
    assert line.startswith("dp-spin: error: ")
    assert re.search(rf"^dp-spin: error: {message}", line)
    assert len(notes) == (case == "torn")
    assert sorted(folder.rglob("*")) == before


def test_picture_is_claimed_before_reading(folder, monkeypatch):
    """A million lines are not read for a picture that cannot be written."""
    curve()

    def fail(path):
        raise AssertionError("read")

    monkeypatch.setattr(results, "read_table", fail)
    write("file", "")
    assert main(["plot", "lcurve.out", "-o", "file/p.png"]) == 1


def test_unreadable_panel_does_not_replace_a_picture(files, capsys):
    write("ok.png", "mine")
    assert main(["plot", "ok.out", "word.out"]) == 1
    assert "word.out" in capsys.readouterr().err
    assert Path("ok.png").read_text() == "mine"
