# SPDX-License-Identifier: Apache-2.0
"""Mistakes in files of other programs."""

from __future__ import annotations

from .row import Mistake, Step
from .steps import option, text

TITLE = "Files of other programs"
ABOUT = (
    "Mistakes in files that other programs wrote. `a.extxyz` holds one frame of NiO "
    "with spins, `a.dump` one of LAMMPS, unless the row says otherwise."
)
XYZ = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:spin:R:3:mforce:R:3 energy=-1
Ni 0 0 0 1 0 0 0.1 0.2 0.3
O 2 2 2 0 0 0 0 0 0
"""
DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp pp
0 4
0 4
0 4
ITEM: ATOMS id type x y z sp spx spy spz
1 1 0 0 0 1 0 0 1
"""
LAMMPS = """title

1 atoms
0 4 xlo xhi
0 4 ylo yhi
0 4 zlo zhi

Atoms # spin

1 1 0 0 0 0 0 1 1.2
"""


def xyz(did: str, says: str, old: str, new: str, more: str = "") -> Mistake:
    """A mistake in extended XYZ, where `new` stands for `old`."""
    how = f"check-data a.extxyz{more}"
    return Mistake(TITLE, did, how, says, (text("a.extxyz", XYZ.replace(old, new)),))


def dump(did: str, says: str, old: str, new: str, more: str = "") -> Mistake:
    """A mistake in a dump of LAMMPS."""
    how = f"check-data a.dump{more}"
    return Mistake(TITLE, did, how, says, (text("a.dump", DUMP.replace(old, new)),))


def other(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """Another mistake."""
    return Mistake(TITLE, did, how, says, steps)


ROWS = {
    "unknown format": other(
        "Name a format that is none.",
        "check-data a.txt --format xyz",
        "'xyz' is no format that is read: {...}, or dpdata/ and what dpdata calls it, "
        "as in dpdata/vasp/outcar. Correct it.",
        text("a.txt", XYZ),
    ),
    "format of an absent file": other(
        "Name the format of a file that is not there.",
        "check-data extxyz:b.txt",
        "'b.txt' does not exist. Correct `systems`.",
    ),
    "no number of atoms": xyz(
        "Have a frame of extended XYZ begin with a word.",
        "frame 0 of 'a.extxyz' begins with 'two' where its number of atoms must be. "
        "Write the file again as extended XYZ.",
        "2\nL",
        "two\nL",
    ),
    "cut off": xyz(
        "Cut extended XYZ off.",
        "frame 0 of 'a.extxyz' is cut off: 1 of 2 atoms are there. Remove the frame, "
        "or write the file again.",
        "O 2 2 2 0 0 0 0 0 0\n",
        "",
    ),
    "no lattice": xyz(
        "Say that a frame without lattice is periodic.",
        "frame 0 of 'a.extxyz' is periodic and its Lattice is not 9 numbers, those of "
        "its vectors one after another in Å. Correct Lattice or pbc.",
        'Lattice="4 0 0 0 4 0 0 0 4"',
        'pbc="T T T"',
    ),
    "periodic in two directions": xyz(
        "Read a slab.",
        "frame 0 of 'a.extxyz' is periodic in some directions only, pbc [True, True, "
        "False]; a system is in all or in none. Set pbc to True, with a cell that "
        "leaves more than the cutoff empty where it is not.",
        "energy=-1",
        'pbc="T T F"',
    ),
    "no positions": xyz(
        "Give positions another name.",
        "frame 0 of 'a.extxyz' needs the columns species:S:1 and pos:R:3. It has "
        "species, xyz, spin, mforce.",
        "pos:R:3",
        "xyz:R:3",
    ),
    "properties without widths": xyz(
        "Leave out the width of a column.",
        "frame 0 of 'a.extxyz': Properties must be NAME:KIND:WIDTH of each column, "
        "KIND one of R, I, S, L, and each name once. Received: "
        "species:S:1:pos:R:3:spin:R:mforce:R:3",
        "spin:R:3",
        "spin:R",
    ),
    "a column too many": xyz(
        "Have a column that Properties does not name.",
        "frame 0 of 'a.extxyz': atom 0 has 11 columns and Properties names 10: "
        "species:S:1:pos:R:3:spin:R:3:mforce:R:3. Correct one of the two.",
        "0.3\n",
        "0.3 7\n",
    ),
    "columns in another order": xyz(
        "Mix up the columns.",
        "frame 0 of 'a.extxyz': column pos does not hold numbers: could not convert "
        "string to float: 'Ni'. Properties may name the columns in another order than "
        "they stand: pos:R:3:species:S:1:spin:R:3:mforce:R:3",
        "species:S:1:pos:R:3",
        "pos:R:3:species:S:1",
    ),
    "two kinds of spins": xyz(
        "Have two columns of spins that differ.",
        "frame 0 of 'a.extxyz': two kinds of spins, which differ: spin and "
        "initial_magmoms. Remove one, or say which: --spin-key, or `names={'spin': "
        "NAME}` in Python.",
        "mforce:R:3",
        "initial_magmoms:R:3",
    ),
    "two kinds of magnetic forces": xyz(
        "Have two columns of magnetic forces that differ.",
        "frame 0 of 'a.extxyz' has two kinds of force_mag, which differ: "
        "magnetic_forces and mforce. Remove one, or say which: --force-mag-key, or "
        "`names={'force_mag': NAME}` in Python.",
        "spin:R:3",
        "magnetic_forces:R:3",
    ),
    "an absent column": xyz(
        "Name a column that is not there.",
        "frame 0 of 'a.extxyz' has no 'moment' to take as spin. There are: energy, "
        "mforce, spin.",
        "",
        "",
        " --spin-key moment",
    ),
    "two numbers of each magnetic force": xyz(
        "Give magnetic forces two numbers for each atom.",
        "frame 0 of 'a.extxyz': mforce, taken as force_mag, must be of shape (2, 3). "
        "Received: shape (2, 2)",
        "mforce:R:3",
        "mforce:R:2:tag:R:1",
    ),
    "a virial that is no stress": xyz(
        "Give a virial and a stress that differ.",
        "frame 0 of 'a.extxyz': its virial is not minus its stress times the volume, "
        "{...} eV. Remove the one that is wrong.",
        "energy=-1",
        'virial="1 0 0 0 1 0 0 0 1" stress="1 0 0 0 1 0 0 0 1"',
    ),
    "only NaN": xyz(
        "Have no frame that is whole.",
        "'a.extxyz' has no frame to read. All 1 are left out: 1: energy is not finite. "
        "Leave it out.",
        "energy=-1",
        "energy=nan",
    ),
    "spins of some frames": other(
        "Give spins in some frames only.",
        "check-data a.extxyz",
        "'a.extxyz': frame 0 of 'a.extxyz' has spins, frame 1 of 'a.extxyz' has not. "
        "Put the two kinds into files of their own, or give all frames the same.",
        text("a.extxyz", XYZ + XYZ.replace("spin:", "s:")),
    ),
    "no spins in a file": other(
        "Test on a file without spins.",
        "train input.json",
        "'a.extxyz', read as extended XYZ, has no spins: no column of a usual name, "
        "such as spin, spins, magnetic_moments, magmoms, initial_magmoms. Add one, or "
        "name it with --spin-key.",
        text("a.extxyz", XYZ.replace("spin:", "s:")),
        option("training/training_data/systems", "a.extxyz"),
    ),
    "no dump": dump(
        "Begin a dump with something else.",
        "frame 0 of 'a.dump' begins with 'ITEM: UNITS' instead of ITEM: TIMESTEP. Give "
        "a text dump of LAMMPS.",
        "ITEM: TIMESTEP",
        "ITEM: UNITS",
    ),
    "dump cut off": dump(
        "Cut a dump off.",
        "frame 0 of 'a.dump' is cut off: 7 numbers for 1 atoms of 9 columns. Remove "
        "the frame, or write the dump again.",
        " 0 1\n",
        "\n",
    ),
    "direction that is none": dump(
        "Name the wrong column of spins.",
        "frame 0 of 'a.dump': z sp spx spy of atom 0 in the file are 0 and [2.0, 0.0, "
        "0.0], and the last three are no unit vector. They must be a modulus in μ_B "
        "and a direction: name the first of the right columns with --spin-key.",
        "0 0 0 1 0 0 1",
        "0 0 0 2 0 0 1",
        " --spin-key z",
    ),
    "other columns of a dump": dump(
        "Name a column that a dump has not.",
        "frame 0 of 'a.dump' has no column c_mag[1]. It has id, type, x, y, z, sp, "
        "spx, spy, spz.",
        "",
        "",
        " --spin-key c_mag[1]",
    ),
    "columns in an input": other(
        "Name a column of the data that an input is written for.",
        "init a.extxyz -o mine.json --spin-key spin",
        "An input does not name columns of other programs' files, such as spin. Write "
        "the data with `dp-spin convert-data` and these options first.",
        text("a.extxyz", XYZ),
    ),
    "column named where there is none": other(
        "Name a column of a file that has none.",
        "check-data a.lmp --spin-key sp",
        "'a.lmp' is read as a data file of LAMMPS, which has no columns to name. Leave "
        "out sp.",
        text("a.lmp", LAMMPS),
    ),
    "atoms of another style": other(
        "Read a data file of LAMMPS without spins.",
        "check-data a.lmp",
        "'a.lmp' has 5 columns of atoms, and `atom_style spin` has 9: id, type, x y z, "
        "spx spy spz, sp. Write it with that style.",
        text("a.lmp", LAMMPS.replace(" 0 0 1 1.2", "")),
    ),
    "output of another kind": other(
        "Write extended XYZ to a folder.",
        "convert-data data -o frames --to extxyz",
        "--to extxyz writes a file that ends in .extxyz, .xyz. Received: 'frames'. "
        "Choose another output, or leave out --to.",
    ),
    "virtual atoms in a trajectory": other(
        "Write virtual atoms to a file of frames.",
        "convert-data data -o frames.extxyz --layout virtual-atom",
        "--to extxyz is written with spins as they are. Leave out --layout "
        "virtual-atom.",
    ),
}
