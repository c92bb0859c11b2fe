# SPDX-License-Identifier: Apache-2.0
"""Frames written for codes, and read back as what they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from abacus_text import END, STRU, head, step

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Frame
from deepspin.data.formats.stru import read_structure
from deepspin.data.labelling.manifest import collect, export
from deepspin.data.labelling.vasp_input import Vasp

# O between two Ni, so that codes have another order
SYMBOLS = ("Ni", "O", "Ni")
CELL = np.array([[4.2, 0.0, 0.0], [0.0, 4.2, 0.0], [0.5, 0.0, 4.0]])
COORD = np.array([[0.1, 0.2, 0.3], [2.1, 2.2, 2.3], [1.1, 1.2, 1.3]])
SPIN = np.array([[0.0, 0.6, 0.8], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0 / 3.0]])

INCAR = {
    "VASP 6": "LDELTASPIN = .TRUE.\nLNONCOLLINEAR = .TRUE.\nENCUT = 500 # eV\n",
    "VASP 5": "I_CONSTRAINED_M = 2 ; SCTYPE = 1\n LNONCOLLINEAR = .TRUE.\n",
    "penalty": "I_CONSTRAINED_M = 1\nLAMBDA = 10\nLNONCOLLINEAR = T\n",
}
OLD = "MAGMOM = 1 2 3 \\\n  4 5 6\nM_CONSTR = 7 8 9; ENCUT = 400\n! MAGMOM = 1\n"


def frame(number=0, spin=SPIN, cell=CELL, symbols=SYMBOLS):
    arrays = {} if spin is None else {"spin": np.array(spin)}
    place = f"frame {number} of 'md.extxyz'"
    return Frame(place, symbols, COORD + 0.01 * number, cell, arrays)


def vasp(tmp_path, incar=INCAR["VASP 6"], elements=("O", "Ni")):
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "INCAR").write_text(incar)
    (folder / "KPOINTS").write_text("Gamma")
    potcar = "".join(f"   VRHFIN ={name}: s2p4\n ENMAX = 1\n" for name in elements)
    (folder / "POTCAR").write_text(potcar)
    return folder


def abacus(tmp_path, nspin="4"):
    folder = tmp_path / "template"
    folder.mkdir()
    head = f"INPUT_PARAMETERS\ncalculation md\nnspin {nspin}\nsuffix NiO\nsc_thr 1e-6\n"
    (folder / "INPUT").write_text(head)
    orbitals = "NUMERICAL_ORBITAL\nNi.orb\nO.orb\n\nLATTICE_CONSTANT"
    (folder / "STRU").write_text(STRU.replace("LATTICE_CONSTANT", orbitals))
    (folder / "KPT").write_text("K_POINTS")
    return folder


def tags(file):
    """Values of the tags of an INCAR, which may go on in further lines."""
    text = Path(file).read_text().replace("\\\n", " ")
    pairs = (line.split("=") for line in text.splitlines() if "=" in line)
    return {tag.strip(): value.split() for tag, value in pairs}


# --- VASP -----------------------------------------------------------------------------


def numbers(words):
    return [float(word) for word in words]


def test_poscar_and_incar(tmp_path):
    """Atoms are those of POTCAR in order, and so is every number of INCAR."""
    export([frame(), frame(1)], "vasp", vasp(tmp_path), tmp_path / "out")
    folder = tmp_path / "out/frame.0000"
    lines = (folder / "POSCAR").read_text().splitlines()
    assert lines[0] == "frame 0 of 'md.extxyz'"
    assert [numbers(line.split()) for line in lines[2:5]] == CELL.tolist()
    assert lines[5:8] == ["O Ni", "1 2", "Cartesian"]
    order = [1, 0, 2]
    assert [numbers(line.split()) for line in lines[8:]] == COORD[order].tolist()
    found = tags(folder / "INCAR")
    assert numbers(found["MAGMOM"]) == SPIN[order].ravel().tolist()
    assert found["M_DELTASPIN"] == found["MAGMOM"]
    assert found["DELTASPIN_ATOMS"] == ["0", "1", "1"]
    assert found["DELTASPIN_COMPONENTS"] == ["1", "1", "1"]
    assert found["ENCUT"][0] == "500"
    assert (folder / "KPOINTS").read_text() == "Gamma"
    assert (folder / "POTCAR").is_file()
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [row["folder"] for row in manifest["frames"]] == ["frame.0000", "frame.0001"]
    assert manifest["frames"][1]["from"] == "frame 1 of 'md.extxyz'"


def test_ase_reads_what_was_written(tmp_path):
    ase_io = pytest.importorskip("ase.io")
    export([frame()], "vasp", vasp(tmp_path), tmp_path / "out")
    atoms = ase_io.read(tmp_path / "out/frame.0000/POSCAR")
    assert atoms.get_chemical_symbols() == ["O", "Ni", "Ni"]
    assert atoms.positions == pytest.approx(COORD[[1, 0, 2]], abs=1e-12)
    assert atoms.cell.array == pytest.approx(CELL, abs=1e-12)


@pytest.mark.parametrize("kind", ["VASP 5", "penalty"])
def test_tags_of_other_programs(tmp_path, kind):
    export([frame()], "vasp", vasp(tmp_path, INCAR[kind]), tmp_path / "out")
    found = tags(tmp_path / "out/frame.0000/INCAR")
    assert numbers(found["M_CONSTR"]) == SPIN[[1, 0, 2]].ravel().tolist()
    assert "M_DELTASPIN" not in found
    if kind == "VASP 5":
        assert found["CONSTRL"] == ["3*0", "3*1", "3*1"]
        assert found["LAMBDA"] == ["9*0"]
    else:
        assert found["LAMBDA"] == ["10"]
        assert "CONSTRL" not in found


def test_what_the_template_says_of_a_frame_is_replaced(tmp_path):
    template = vasp(tmp_path, OLD + INCAR["penalty"])
    assert Vasp(template).kind == "penalty"
    export([frame()], "vasp", template, tmp_path / "out")
    text = (tmp_path / "out/frame.0000/INCAR").read_text()
    assert text.count("MAGMOM =") == 2  # one of them is a comment
    assert text.count("M_CONSTR =") == 1
    assert "4 5 6" not in text
    assert " ENCUT = 400" in text
    assert tags(tmp_path / "out/frame.0000/INCAR")["ENCUT"] == ["400"]


@pytest.mark.parametrize(
    ("incar", "what"),
    [
        ("ENCUT = 500\n# LDELTASPIN = .TRUE.\n", "constrains no moments"),
        ("LDELTASPIN = .FALSE.\n", "constrains no moments"),
        ("LDELTASPIN = .TRUE.\n", "must say LNONCOLLINEAR"),
    ],
)
def test_an_incar_without_constraint(tmp_path, incar, what):
    with pytest.raises(DataError, match=what):
        export([frame()], "vasp", vasp(tmp_path, incar), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_potcar_of_other_elements(tmp_path):
    template = vasp(tmp_path, elements=("Ni", "O", "La"))
    with pytest.raises(DataError, match=r"the POTCAR of '.*' is that of Ni O La"):
        export([frame()], "vasp", template, tmp_path / "out")


@pytest.mark.parametrize("code", ["vasp", "abacus"])
def test_templates_that_lack_files(tmp_path, code):
    with pytest.raises(DataError, match=r"the template '.*' has no IN"):
        export([frame()], code, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"spin": None}, "has no spins, so there is nothing to constrain"),
        ({"spin": np.zeros((3, 3))}, "has no spins"),
        ({"cell": None}, "is not periodic, and a calculation needs a cell"),
        ({"cell": CELL[::-1]}, "left-handed cell"),
    ],
)
def test_frames_that_cannot_be_calculated(tmp_path, bad, what):
    with pytest.raises(DataError, match=what):
        export([frame(), frame(1, **bad)], "vasp", vasp(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- ABACUS ---------------------------------------------------------------------------


def test_stru_and_input(tmp_path):
    export([frame()], "abacus", abacus(tmp_path), tmp_path / "out")
    folder = tmp_path / "out/frame.0000"
    found = read_structure(folder / "STRU")
    assert found.symbols == ("Ni", "Ni", "O")
    order = [0, 2, 1]
    assert found.cell == pytest.approx(CELL, abs=1e-12)
    assert found.coord == pytest.approx(COORD[order], abs=1e-12)
    text = (folder / "STRU").read_text()
    assert "mag 0.0 0.6 0.8 sc 1 1 1\n" in text
    assert f"mag 1.0 0.0 {-1 / 3!r} sc 1 1 1\n" in text
    assert text.rstrip().endswith("2.1 2.2 2.3 mag 0.0 0.0 0.0")
    assert text.index("Ni.orb") < text.index("O.orb") < text.index("LATTICE_CONSTANT")
    words = [line.split()[:2] for line in (folder / "INPUT").read_text().splitlines()]
    assert words[0] == ["INPUT_PARAMETERS"]
    for pair in (
        *(["calculation", "scf"], ["sc_mag_switch", "1"], ["noncolin", "1"]),
        *(["nspin", "4"], ["cal_force", "1"], ["sc_thr", "1e-6"]),
    ):
        assert words.count(pair) == 1
    assert ["calculation", "md"] not in words
    assert (folder / "KPT").is_file()


def test_elements_that_a_frame_has_not(tmp_path):
    nickel = frame(symbols=("Ni", "Ni", "Ni"))
    export([nickel], "abacus", abacus(tmp_path), tmp_path / "out")
    text = (tmp_path / "out/frame.0000/STRU").read_text()
    assert "Ni.upf" in text and "Ni.orb" in text
    assert "O.upf" not in text and "O.orb" not in text


def test_collinear_spins(tmp_path):
    template = abacus(tmp_path, "2")
    with pytest.raises(DataError, match="spins that are not along z"):
        export([frame()], "abacus", template, tmp_path / "out")
    spin = [[0, 0, 0.5], [0, 0, 0], [0, 0, -1.5]]
    export([frame(spin=spin)], "abacus", template, tmp_path / "out")
    text = (tmp_path / "out/frame.0000/STRU").read_text()
    assert "mag 0.5 sc 1\n" in text and "mag -1.5 sc 1\n" in text
    assert "noncolin" not in (tmp_path / "out/frame.0000/INPUT").read_text()


def test_templates_of_abacus(tmp_path):
    template = abacus(tmp_path, "1")
    with pytest.raises(DataError, match="must say nspin 4, or nspin 2"):
        export([frame()], "abacus", template, tmp_path / "out")
    (tmp_path / "two").mkdir()
    template = abacus(tmp_path / "two")
    with pytest.raises(DataError, match="has atoms of Fe, which"):
        fe = frame(symbols=("Fe", "O", "Fe"))
        export([fe], "abacus", template, tmp_path / "out")
    (template / "STRU").write_text("LATTICE_CONSTANT\n1\n")
    with pytest.raises(DataError, match="has no ATOMIC_SPECIES"):
        export([frame()], "abacus", template, tmp_path / "out")


# --- Read back ------------------------------------------------------------------------


def calculate(folder, energy, converged=" charge density convergence is achieved\n"):
    """Write an output of ABACUS for what is in a folder."""
    found = read_structure(folder / "STRU")
    out = folder / "OUT.NiO"
    out.mkdir()
    values = np.arange(3)[:, None] + [1.0, 2.0, 3.0]
    text = step(
        *(1, energy, values, values, -values), converged=converged, labels=found.symbols
    )
    text = head(found.symbols, found.coord @ np.linalg.inv(found.cell)) + text + END
    (out / "running_scf.log").write_text(text)


def test_outputs_are_read_back(tmp_path, caplog):
    """Atoms are in the order of the frames, and what is missing is told."""
    caplog.set_level("INFO")
    out = tmp_path / "out"
    export([frame(k) for k in range(4)], "abacus", abacus(tmp_path), out)
    calculate(out / "frame.0000", -10.0)
    calculate(out / "frame.0003", -13.0)
    calculate(out / "frame.0002", -12.0, " convergence has NOT been achieved!\n")
    told = collect(out, tmp_path / "data")
    assert told == {"read": [0, 3], "missing": [1], "left out": [2]}
    assert "no output yet of 1 frames: frame.0001" in caplog.text
    assert "1 frames are left out: its electrons have not converged" in caplog.text
    system = tmp_path / "data/Ni2O1"
    assert np.loadtxt(system / "type.raw").tolist() == [0, 1, 0]
    assert (system / "type_map.raw").read_text().split() == ["Ni", "O"]
    arrays = {f.stem: np.load(f) for f in (system / "set.000").iterdir()}
    assert set(arrays) == {
        *("coord", "box", "energy", "force", "spin", "force_mag", "virial")
    }
    assert arrays["energy"].tolist() == [-10.0, -13.0]
    expected = np.stack([COORD, COORD + 0.03]).reshape(2, 9)
    assert arrays["coord"] == pytest.approx(expected, abs=1e-8)
    own = np.array([[1.0, 2, 3], [3, 4, 5], [2, 3, 4]])  # Ni, O, Ni
    for name, sign in (("spin", 1), ("force_mag", 1), ("force", -1)):
        rows = arrays[name].reshape(2, 3, 3)
        assert (rows == sign * own).all()


def test_outputs_in_the_wrong_folders(tmp_path):
    out = tmp_path / "out"
    export([frame(), frame(1)], "abacus", abacus(tmp_path), out)
    calculate(out / "frame.0000", -10.0)
    one, two = (out / f"frame.000{k}" for k in (0, 1))
    (two / "STRU").unlink()
    for name in ("OUT.NiO", "STRU"):
        (one / name).rename(two / name)
    with pytest.raises(DataError, match=r"is not of frame 1 of 'md.extxyz'"):
        collect(out, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_nothing_to_read(tmp_path):
    out = tmp_path / "out"
    export([frame()], "abacus", abacus(tmp_path), out)
    with pytest.raises(DataError, match="none of the 1 calculations in"):
        collect(out, tmp_path / "data")
    (out / "manifest.json").write_text('{"version": 2}')
    with pytest.raises(DataError, match="is no list of calculations of this version"):
        collect(out, tmp_path / "data")
    with pytest.raises(DataError, match="is no list of calculations"):
        collect(tmp_path, tmp_path / "data")
