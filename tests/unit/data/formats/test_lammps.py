# SPDX-License-Identifier: Apache-2.0
"""LAMMPS' data files and dumps: numbers as they stand in the text."""

import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.formats import lammps

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
1.0 5.0
0.0 3.0
-1.0 6.0
ITEM: ATOMS id type x y z fx fy fz sp spx spy spz fmx fmy fmz
2 2 1.5 2.0 2.5 0.1 0.2 0.3 0.0 0.0 0.0 1.0 7.0 7.0 7.0
1 1 1.0 0.0 -1.0 -0.1 -0.2 -0.3 2.0 0.6 0.0 0.8 10.0 -20.0 0.0
"""
TILTED = """ITEM: BOX BOUNDS xy xz yz pp pp pp
-0.5 4.75 -0.5
0.0 3.5 0.25
0.0 5.0 0.5
"""
DATA = """LAMMPS data file

2 atoms
2 atom types
-1.0 3.0 xlo xhi
0.0 5.0 ylo yhi
0.0 6.0 zlo zhi
0.5 1.0 -0.25 xy xz yz

Masses

1 58.69 # Ni
2 16.0 # O

Atoms # spin

2 2 1.0 2.0 3.0 0.0 0.0 1.0 0.0
1 1 0.5 0.0 0.0 0.6 0.8 0.0 5.0 1 0 0
"""


def dumped(text, tmp_path, **names):
    (tmp_path / "a.dump").write_text(text)
    return list(lammps.read_dump(tmp_path / "a.dump", names))


def test_a_dump_by_hand(tmp_path):
    (frame,) = dumped(DUMP, tmp_path)
    assert frame.symbols == ("1", "2")
    np.testing.assert_array_equal(frame.coord, [[1, 0, -1], [1.5, 2, 2.5]])
    np.testing.assert_array_equal(frame.cell, np.diag([4.0, 3, 7]))
    np.testing.assert_array_equal(frame.arrays["force"][0], [-0.1, -0.2, -0.3])
    np.testing.assert_allclose(frame.arrays["spin"], [[1.2, 0, 1.6], [0, 0, 0]])
    # fm in rad THz times ħ in eV ps over |S| in μ_B; 0 where there is no spin
    fm = 6.5821191e-4 * np.array([[10.0, -20, 0], [0, 0, 0]]) / 2
    np.testing.assert_allclose(frame.arrays["force_mag"], fm, rtol=1e-14)


def test_boxes_and_positions(tmp_path):
    orthogonal = DUMP[DUMP.index("ITEM: BOX") : DUMP.index("ITEM: ATOMS")]
    text = DUMP.replace(orthogonal, TILTED).replace("x y z", "xs ys zs")
    (frame,) = dumped(text, tmp_path)
    # bounds hold the corners of the tilted cell: x from -0.5 - (-0.5), to 4.75 - 0.25
    cell = [[4.5, 0, 0], [-0.5, 3.0, 0], [0.25, 0.5, 5]]
    np.testing.assert_allclose(frame.cell, cell)
    np.testing.assert_allclose(frame.coord[0], [1.0 * 4.5 - 0.25, -0.5, -5])
    free = DUMP.replace("pp pp pp", "ff ff ff")
    assert dumped(free, tmp_path)[0].cell is None
    with pytest.raises(DataError, match="periodic in some directions"):
        dumped(DUMP.replace("pp pp pp", "pp pp ff"), tmp_path)
    general = "ITEM: BOX BOUNDS abc origin pp pp pp\n4 0 0 1\n0 5 0 0\n1 0 6 0\n"
    (frame,) = dumped(DUMP.replace(orthogonal, general), tmp_path)
    np.testing.assert_array_equal(frame.cell, [[4, 0, 0], [0, 5, 0], [1, 0, 6]])


def test_columns_of_computes(tmp_path):
    names = "sp spx spy spz fmx fmy fmz"
    text = DUMP.replace(names, " ".join(f"c_spin[{k}]" for k in range(1, 8)))
    (frame,) = dumped(text, tmp_path)
    np.testing.assert_allclose(frame.arrays["spin"][0], [1.2, 0, 1.6])
    assert "force_mag" not in frame.arrays  # no name tells which they are
    (frame,) = dumped(text, tmp_path, force_mag="c_spin[5]")
    assert frame.arrays["force_mag"][0, 1] == pytest.approx(-20 * 6.5821191e-4 / 2)
    other = text.replace("c_spin", "c_m")
    assert "spin" not in dumped(other, tmp_path)[0].arrays
    (frame,) = dumped(other, tmp_path, spin="c_m[1]")
    np.testing.assert_allclose(frame.arrays["spin"][0], [1.2, 0, 1.6])
    for first, message in (
        ("c_m[2]", "the last three are no unit vector"),
        ("c_m[6]", "4 columns are needed from .* on, and there are 2"),
        ("c_m", "has no column c_m. It has id, type"),
    ):
        with pytest.raises(DataError, match=message):
            dumped(other, tmp_path, spin=first)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ITEM: TIMESTEP", "ITEM: UNITS", "begins with 'ITEM: UNITS' instead of"),
        ("ITEM: NUMBER OF ATOMS", "2", "no heading of number of atoms, box and"),
        (" -20.0 0.0\n", "\n", "is cut off: 28 numbers for 2 atoms of 15 columns"),
        ("1.0 5.0\n", "1.0 5.0 2.0\n", "no heading of number"),
        ("BOUNDS pp", "BOUNDS xy xz yz pp", "do not fit together"),
        ("1.5 2.0 2.5", "1.5 2.0 q", "column z does not hold numbers"),
        ("x y z", "vx vy vz", "has no positions"),
        ("id type", "id q", "has neither types nor elements"),
        ("sp spx", "q spx", "has magnetic forces fmx, .* but no spins"),
    ],
)
def test_dumps_that_are_wrong(tmp_path, old, new, message):
    assert old in DUMP
    with pytest.raises(DataError, match=message):
        dumped(DUMP.replace(old, new, 1), tmp_path)


def test_a_data_file_by_hand(tmp_path):
    text = DATA.replace(" 1 0 0\n", "\n")
    (tmp_path / "a.lmp").write_text(text)
    (frame,) = lammps.read_data(tmp_path / "a.lmp")
    assert frame.symbols == ("Ni", "O")
    np.testing.assert_array_equal(frame.coord, [[0.5, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(frame.cell, [[4, 0, 0], [0.5, 5, 0], [1, -0.25, 6]])
    np.testing.assert_allclose(frame.arrays["spin"], [[3, 4, 0], [0, 0, 0]])
    named = text.replace("Masses", "Atom Type Labels\n\n1 A\n2 B\n\nMasses")
    (tmp_path / "a.lmp").write_text(named)
    assert next(lammps.read_data(tmp_path / "a.lmp")).symbols == ("A", "B")
    (tmp_path / "a.lmp").write_text(text.replace(" # Ni", ""))
    assert next(lammps.read_data(tmp_path / "a.lmp")).symbols == ("1", "2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "is cut off: "),
        (lambda text: text, "is cut off: "),  # one of its rows has images
        (lambda text: text.replace(" 1 0 0\n", "\n").replace("xlo", "xx"), "has a box"),
        (lambda text: text[: text.index("Atoms")], "has no atoms"),
        (
            lambda text: text.replace(" 1 0 0\n", "\n").replace("0.6 0.8", "6 8"),
            "no unit vector",
        ),
        (
            lambda text: text.replace(" 0.6 0.8 0.0 5.0 1 0 0", "").replace(
                " 0.0 0.0 1.0 0.0", ""
            ),
            "has 5 columns of atoms",
        ),
    ],
)
def test_data_files_that_are_wrong(tmp_path, change, message):
    (tmp_path / "a.lmp").write_text(change(DATA))
    with pytest.raises(DataError, match=message):
        list(lammps.read_data(tmp_path / "a.lmp"))


def test_formats_by_name_and_head(tmp_path):
    for name, text in (("a.lmp", DATA), ("b.txt", DUMP), ("c.data", "x")):
        (tmp_path / name).write_text(text)
    assert lammps.is_data(tmp_path / "a.lmp")
    assert not lammps.is_data(tmp_path / "c.data")
    assert lammps.is_dump(tmp_path / "b.txt")
    assert not lammps.is_dump(tmp_path / "a.lmp")
    assert not lammps.is_dump(tmp_path)
