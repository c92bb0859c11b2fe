# SPDX-License-Identifier: Apache-2.0
"""ABACUS' logs: numbers by hand, and all that must not be read."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from abacus_text import (
    DUMP,
    END,
    ENERGY,
    FORCE,
    FORCE_MAG,
    HEAD,
    NEW_HEAD,
    SPIN,
    STRESS,
    STRU,
    new_step,
    old_step,
    step,
    write,
)

from deepspin.data.files import DataError
from deepspin.data.formats import abacus
from deepspin.data.formats.frame import Dropped, Frame

CELL = np.array([[4.2, 0.0, 0.0], [0.0, 4.2, 0.0], [0.5, 0.0, 4.0]])
# 0.1 a + 0.2 b + 0.3 c, and half of their sum
COORD = np.array([[0.57, 0.84, 1.2], [2.35, 2.1, 2.0]])
# 4.2 * 4.2 * 4 Å³ of 1 kbar, which is 1e8 Pa: 6.241509074e-4 eV/Å³
VIRIAL = 70.56 * 6.241509074e-4 * np.array(STRESS)


def read(path):
    return list(abacus.read(path))


def reasons(path):
    return [item.reason if isinstance(item, Dropped) else None for item in read(path)]


def check_whole(frame, coord=COORD):
    assert frame.symbols == ("Ni", "O")
    assert frame.cell == pytest.approx(CELL, abs=1e-12)
    assert frame.coord == pytest.approx(coord, abs=1e-9)
    arrays = dict(frame.arrays)
    assert float(arrays.pop("energy")) == ENERGY
    assert arrays.pop("virial") == pytest.approx(VIRIAL, rel=1e-9)
    for name, values in (("spin", SPIN), ("force_mag", FORCE_MAG), ("force", FORCE)):
        assert np.array_equal(arrays.pop(name), values), name
    assert not arrays


@pytest.mark.parametrize(
    "log", [HEAD + step() + END, NEW_HEAD + new_step() + END], ids=["2024", "now"]
)
def test_numbers_by_hand(tmp_path, log):
    folder = write(tmp_path / "run", log)
    (frame,) = read(folder)
    assert frame.place == f"step 1 of '{folder}/OUT.NiO/running_scf.log'"
    check_whole(frame)
    file = folder / "OUT.NiO/running_scf.log"
    check_whole(*read(file))
    assert abacus.matches(folder) and abacus.matches(file)
    assert abacus.matches(folder / "OUT.NiO")
    assert not abacus.matches(folder / "INPUT")
    assert not abacus.matches(tmp_path)


@pytest.mark.parametrize(("unit", "factor"), [("Ry", 13.605698), ("eV", 1.0)])
def test_headings_of_early_2024(tmp_path, unit, factor):
    (frame,) = read(write(tmp_path / "run", HEAD + old_step(unit) + END))
    assert np.array_equal(frame.arrays["spin"], SPIN)
    expected = factor * np.array(FORCE_MAG)
    assert frame.arrays["force_mag"] == pytest.approx(expected, rel=1e-12)


def test_collinear_moments_are_along_z(tmp_path):
    head = HEAD.replace("[ 0, 0.6, 0.8 ]", "0.8").replace("[ 0, 0, 0 ]", "0")
    log = head + step(spin=([0.8], [0.1]), force_mag=([-0.3], [0.0])) + END
    (frame,) = read(write(tmp_path / "run", log, nspin=2))
    assert frame.arrays["spin"].tolist() == [[0, 0, 0.8], [0, 0, 0.1]]
    assert frame.arrays["force_mag"].tolist() == [[0, 0, -0.3], [0, 0, 0]]


def test_without_forces_moments_or_stress(tmp_path):
    log = HEAD + step(force=None, force_mag=None, stress=None) + END
    (frame,) = read(write(tmp_path / "run", log))
    assert set(frame.arrays) == {"energy", "spin"}


def test_cartesian_positions_and_units(tmp_path):
    rows = "\n".join(f"tauc_X1 {x} {y} {z} 0.0" for x, y, z in COORD)
    log = re.sub(
        r"DIRECT COORDINATES\n(.*\n)(.*\n)(.*\n)",
        f"CARTESIAN COORDINATES ( UNIT = 1.88973 Bohr ).\n\\1{rows}\n",
        HEAD,
        count=1,
    )
    folder = write(tmp_path / "run", log + step() + END)
    for kind, scale in (("Cartesian", 1.0), ("Cartesian_au", 1 / 0.529177210903)):
        x, y = (" ".join(map(repr, (scale * row).tolist())) for row in COORD)
        stru = STRU.replace("Direct", kind).replace("0.10  0.20  0.30", x)
        stru = stru.replace("0.5000000000  0.5000000000  0.5000000000", y)
        (folder / "STRU").write_text(stru)
        check_whole(*read(folder))


def test_without_stru_the_log_has_six_digits(tmp_path, caplog):
    folder = write(tmp_path / "run", HEAD + step() + END)
    (folder / "STRU").unlink()
    check_whole(*read(folder))
    assert "there is no STRU beside it, so cells have the six digits" in caplog.text


MOVED = """
DIRECT COORDINATES
    atom                   x                   y                   z     mag
taud_Ni1        0.2000000000        0.2000000000        0.3000000000  1.0000
 taud_O1        0.5000000000        0.5000000000        0.5000000000  0.0000
"""


def test_relaxation(tmp_path):
    log = HEAD + step() + MOVED + step(ion=2) + END
    one, two = read(write(tmp_path / "run", log, "relax"))
    check_whole(one)
    check_whole(two, COORD + np.array([[0.42, 0, 0], [0, 0, 0]]))


def test_relaxation_of_the_cell(tmp_path, caplog):
    cell = """
 Lattice vectors: (Cartesian coordinate: in unit of a_0)
                 +4.4                  +0                  +0
                   +0                +4.2                  +0
                 +0.5                  +0                  +4
"""
    log = HEAD + step() + cell + MOVED + step(ion=2) + END
    one, two = read(write(tmp_path / "run", log, "cell-relax"))
    check_whole(one)
    assert two.cell[0].tolist() == [4.4, 0, 0]
    assert two.coord[0] == pytest.approx([0.2 * 4.4 + 0.15, 0.84, 1.2])
    assert two.arrays["virial"] == pytest.approx(VIRIAL * 4.4 / 4.2)
    assert "cells change, so cells have the six digits" in caplog.text


def test_positions_that_are_not_written(tmp_path):
    log = HEAD + step() + step(ion=2) + END
    found = reasons(write(tmp_path / "run", log, "relax"))
    assert found == [None, "its positions are not written"]


def md(tmp_path, steps=(0, 1), dump=(0, 1)):
    log = HEAD
    for number in steps:
        log += f" STEP OF MOLECULAR DYNAMICS : {number}\n" + step(ion=number + 1)
    folder = write(tmp_path / "md", log + END, "md")
    text = "".join(DUMP.format(step=n, x=0.57 + 0.1 * n) for n in dump)
    (folder / "OUT.NiO/MD_dump").write_text(text)
    return folder


def test_molecular_dynamics(tmp_path):
    one, two = read(md(tmp_path))
    check_whole(one)
    check_whole(two, COORD + np.array([[0.1, 0, 0], [0, 0, 0]]))
    assert two.place.startswith("step 1 of ")


def test_dynamics_with_positions_of_some_steps(tmp_path):
    found = reasons(md(tmp_path, steps=(0, 1, 2, 3), dump=(0, 2)))
    absent = "its positions are not written"
    assert found == [None, absent, None, absent]


def test_a_dump_that_is_cut_off(tmp_path):
    folder = md(tmp_path)
    file = folder / "OUT.NiO/MD_dump"
    text = file.read_text().rstrip()
    for end in (-1, -30, -90):
        file.write_text(text[:end])
        assert reasons(folder) == [None, "its positions are not written"]


# --- What must not be read ------------------------------------------------------------

FAILED = (
    " convergence has NOT been achieved!\n",
    " !! convergence has not been achieved @_@\n",
    " !!SCF IS NOT CONVERGED!!\n",
    "",
)


@pytest.mark.parametrize("words", FAILED)
def test_unconverged_steps(tmp_path, words):
    log = HEAD + step(converged=words) + MOVED + step(ion=2) + END
    found = reasons(write(tmp_path / "run", log, "relax"))
    assert found == ["its electrons have not converged", None]


@pytest.mark.parametrize("wrong", ["nan", "-nan", "******", "inf", "1e30"])
def test_what_is_no_number(tmp_path, wrong):
    log = (HEAD + step() + END).replace("        0.6000000001", f" {wrong:>15}")
    assert "0.6000000001" not in log
    found = reasons(write(tmp_path / "run", log))
    assert found == ["it has values that are no numbers"]


def test_placeholders(tmp_path):
    log = HEAD + step(force=([99.0, 99.0, 99.0], [0.1, 0.2, 0.3])) + END
    found = reasons(write(tmp_path / "run", log))
    assert found == ["it has placeholders (99.0) instead of numbers"]


def test_constraints_that_are_not_met(tmp_path):
    """A component that a constraint acts on has to be where it is wanted."""
    unmet = ["its moments are not where the constraints want them"]
    for shift, expected in ((5e-6, [None]), (5e-5, unmet), (0.1, unmet)):
        spin = ([0.0, 0.6 + shift, 0.8], SPIN[1])
        log = HEAD + step(spin=spin) + END
        assert reasons(write(tmp_path / f"{shift}", log)) == expected
        # without a force, nothing constrains it
        log = HEAD + step(spin=spin, force_mag=([0.01, 0.0, 0.0], [0, 0, 0])) + END
        assert reasons(write(tmp_path / f"{shift} free", log)) == [None]


def test_constraints_on_directions(tmp_path):
    spin = ([0.0, 1.2, 1.6], SPIN[1])
    folder = write(tmp_path / "run", HEAD + step(spin=spin) + END)
    assert reasons(folder) != [None]
    with open(folder / "INPUT", "a") as file:
        file.write("sc_direction_only 1\n")
    assert reasons(folder) == [None]


def test_targets_of_a_file(tmp_path):
    folder = write(tmp_path / "run", HEAD + step() + END)
    with open(folder / "INPUT", "a") as file:
        file.write("sc_file sc.json\n")
    for y, met in ((0.6, True), (0.5, False)):
        types = [
            {"element": t, "itype": k, "ScAtomData": [{"index": 0, "target_mag": m}]}
            for k, t, m in ((1, "O", [0, 0, 0]), (0, "Ni", [0, y, 0.8]))
        ]
        (folder / "sc.json").write_text(json.dumps(types))
        assert (reasons(folder) == [None]) == met


def test_logs_that_are_cut_off(tmp_path):
    """Wherever the log ends, no frame has a number that it should not have."""
    whole = HEAD + step() + MOVED + step(ion=2)
    start = len(HEAD + step() + MOVED)
    folder = write(tmp_path / "run", whole, "relax")
    file = folder / "OUT.NiO/running_relax.log"
    first, last = read(folder)
    assert isinstance(first, Frame) and isinstance(last, Frame)
    seen = set()
    for end in range(start, len(whole), 3):
        file.write_text(whole[:end])
        _, *more = read(folder)
        for item in more:
            if isinstance(item, Dropped):
                seen.add(item.reason)
                continue
            assert end > whole.rindex(" 3.0000000000")
            check_whole(item, last.coord)
    assert seen == {"the file ends before it does"}


# --- Refused --------------------------------------------------------------------------


def test_several_logs(tmp_path):
    folder = write(tmp_path / "run", HEAD + step() + END)
    (folder / "OUT.NiO/running_md.log").write_text("")
    check_whole(*read(folder))  # INPUT says which
    (folder / "INPUT").unlink()
    with pytest.raises(DataError, match="several logs of ABACUS and no INPUT"):
        read(folder)


def test_a_stru_of_another_calculation(tmp_path):
    folder = write(tmp_path / "run", HEAD + step() + END)
    for old, new in (("0.10  0.20", "0.11  0.20"), ("4.2  0.0", "4.3  0.0")):
        (folder / "STRU").write_text(STRU.replace(old, new, 1))
        with pytest.raises(DataError, match="is not the structure that"):
            read(folder)
    (folder / "STRU").write_text(STRU.replace("O\n0.0", "S\n0.0"))
    with pytest.raises(DataError, match="names, cells or positions differ"):
        read(folder)
    # atoms that were moved by lattice vectors are the same
    (folder / "STRU").write_text(STRU.replace("0.10  0.20", "1.10  -0.80"))
    check_whole(*read(folder))


@pytest.mark.parametrize(
    ("old", "new"), [("Direct", "Sideways"), ("LATTICE_VECTORS", ""), ("1 #num", "9 #")]
)
def test_a_stru_that_cannot_be_read(tmp_path, old, new):
    folder = write(tmp_path / "run", HEAD + step() + END)
    (folder / "STRU").write_text(STRU.replace(old, new))
    with pytest.raises(DataError, match="cannot be read as a STRU of ABACUS"):
        read(folder)


def test_atoms_without_names(tmp_path):
    folder = write(tmp_path / "run", HEAD.replace("label", "") + step() + END)
    check_whole(*read(folder))  # STRU has them
    (folder / "STRU").unlink()
    with pytest.raises(DataError, match="does not name its atoms"):
        read(folder)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("eV/Angstrom", "Ry/Bohr", "forces in another unit"),
        ("(KBAR)", "(GPa)", "stresses in another unit"),
    ],
)
def test_other_units(tmp_path, old, new, what):
    folder = write(tmp_path / "run", HEAD + step().replace(old, new) + END)
    with pytest.raises(DataError, match=what):
        read(folder)


def test_dumps_that_cannot_be_read(tmp_path):
    folder = md(tmp_path)
    file = folder / "OUT.NiO/MD_dump"
    text = file.read_text()
    file.write_text(text.replace(" Angstrom\n", "\n"))
    with pytest.raises(DataError, match="does not say that its positions are in Ang"):
        read(folder)
    file.write_text(text.replace("POSITION (Angstrom)", "POSITIONS"))
    with pytest.raises(DataError, match="does not say that its positions are in Ang"):
        read(folder)
    file.write_text(text.replace("  1  O ", "  1  S "))
    with pytest.raises(DataError, match="step 0 of MD_dump has other atoms"):
        read(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"MD_dump' is missing"):
        read(folder)
