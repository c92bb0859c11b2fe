# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the data."""

from __future__ import annotations

import os

import numpy as np

from .row import TRAIN, Mistake, Step
from .steps import (
    NO_LABELS,
    array,
    change,
    cut,
    hdf5,
    model,
    option,
    remove,
    second_set,
    second_system,
    swap_virtual,
    text,
    virtual,
)
from .valid import TYPES

TITLE = "Data"
ABOUT = (
    "Mistakes in the files that `systems` names, noticed by the same command where "
    "none is given. Frames and atoms count from 0."
)
TRAINING = "training/training_data"
FPARAM = "model/fitting_net/numb_fparam"
CURVE = "#  step      rmse_val\n"
PLACED = text(
    "data/spin_scheme.json",
    '{"type_map": ["Ni", "O"], "use_spin": [true, false], "virtual_len": [0.4], '
    '"spin_norm": [1.2]}',
)
NAMED = text("data/type_map.raw", "Ni O")


def data(did: str, says: str, *steps: Step, how: str = TRAIN) -> Mistake:
    """A mistake in the data."""
    return Mistake(TITLE, did, how, says, steps)


ROWS = {
    "absent system": data(
        "Mistype the path of the data.",
        "'dta' does not exist, seen from the current folder. Correct `systems`.",
        option(f"{TRAINING}/systems", "dta"),
    ),
    "no system there": data(
        "Name a folder without systems.",
        "no system in 'empty': a system is a folder or HDF5 group with "
        "type.raw in it. Correct `systems` or `rglob_patterns`.",
        text("empty/notes", ""),
        option(f"{TRAINING}/systems", "empty"),
    ),
    "system is a file": data(
        "Name a file that is no data.",
        "'input.json' is neither a folder nor an HDF5 file that is whole, and of no "
        "format that is recognised. Correct `systems`, write the file again, or put "
        "the name of its format before it, as in extxyz:input.json; there are {...}.",
        option(f"{TRAINING}/systems", "input.json"),
    ),
    "pattern of an absolute path": data(
        "Search systems by an absolute path.",
        "`rglob_patterns` must be relative paths with *, or ** between two /. "
        "Received: '/NiO'",
        option(f"{TRAINING}/rglob_patterns", ["/NiO"]),
    ),
    "no group": data(
        "Name a group that the HDF5 file has not.",
        "'data.hdf5' has no group '/Ni'; it has ['NiO']. Correct `systems`.",
        hdf5("data.hdf5"),
        option(f"{TRAINING}/systems", "data.hdf5#/Ni"),
    ),
    "a folder with a group": data(
        "Write # and more behind the name of a folder.",
        "'data#NiO': what is behind # names a group of an HDF5 file, but 'data' is a "
        "folder. Leave it out.",
        option(f"{TRAINING}/systems", "data#NiO"),
    ),
    "system is a FIFO": data(
        "Name something that is neither file nor folder.",
        "'data.h5' is a FIFO, neither a folder nor an HDF5 file. Correct `systems`.",
        lambda: os.mkfifo("data.h5"),
        option(f"{TRAINING}/systems", "data.h5"),
    ),
    "energies are a folder": data(
        "Make a folder where a file of numbers must be.",
        "'data/set.000/energy.npy' is a folder, not a file of numbers. Replace or "
        "remove it.",
        remove("data/set.000/energy.npy"),
        text("data/set.000/energy.npy/notes", ""),
    ),
    "HDF5 cut off": data(
        "Copy an HDF5 file, and lose half of it.",
        "'data.hdf5' cannot be read: {...}. Write the file again.",
        hdf5("data.hdf5", cut=1500),
        option(f"{TRAINING}/systems", "data.hdf5"),
    ),
    "types are words": data(
        "Write elements into `type.raw`.",
        "'data/type.raw' does not hold numbers: could not convert string "
        "to float: 'Ni'. Write it again. Names of types go into "
        "type_map.raw.",
        text("data/type.raw", "Ni Ni O O"),
    ),
    "types are not whole": data(
        "Write a type that is not whole.",
        "'data/type.raw': types must be integers from 0 on. Received: 1.5",
        text("data/type.raw", "0 0 1 1.5"),
    ),
    "type too large": data(
        "Count types from 1.",
        "'data/type.raw': type 4, but with no type_map.raw and the "
        "model's `type_map` ['Ni', 'O'] only 0 to 2 mean anything "
        "(virtual types come last). Correct the types or type_map.raw.",
        text("data/type.raw", "1 2 3 4"),
    ),
    "element not in type_map": data(
        "Use data of an element that the model does not know.",
        "'data/type.raw': atoms of ['S'], which are not in the model's "
        "`type_map` ['Ni', 'O']. Add them there or leave this system out.",
        text("data/type_map.raw", "Ni S"),
    ),
    "no atoms": data(
        "Leave a frame of mixed types without atoms.",
        "frame 1 of 'data/set.000' has no atoms. Remove it.",
        array("real_atom_types", np.array([TYPES, [-1] * 4])),
    ),
    "no coord": data(
        "Lose `coord.npy`.",
        "'data/set.000/coord.npy' is missing: every set needs it. Add it "
        "or remove this set.",
        remove("data/set.000/coord.npy"),
    ),
    "file cut off": data(
        "Copy a file, and lose half of it.",
        "'data/set.000/force.npy' cannot be read: {...}. Write the file again.",
        cut("data/set.000/force.npy", 150),
    ),
    "no numbers": data(
        "Save words.",
        "'data/set.000/energy.npy' does not hold numbers: could not "
        "convert string to float: 'low'. Write it again.",
        array("energy", np.array([["low"], ["high"]])),
    ),
    "complex numbers": data(
        "Save complex numbers.",
        "'data/set.000/energy.npy' holds complex numbers. Write real ones.",
        array("energy", np.array([[1 + 1j], [2]])),
    ),
    "empty set": data(
        "Leave a set without frames.",
        "'data/set.000/coord.npy' holds no frames. Remove this set.",
        array("coord", np.zeros((0, 12))),
    ),
    "rows missing": data(
        "Lose the energy of a frame.",
        "'data/set.000/energy.npy' must have 2 rows (frames of coord) of "
        "1 numbers (4 atoms in type.raw). Received: shape (1, 1). "
        "Correct this file, coord or type.raw.",
        array("energy", np.zeros((1, 1))),
    ),
    "NaN": data(
        "Keep a frame whose forces did not come out.",
        "'data/set.000/force.npy': nan in frame 1, atom 2 but not in all of it. Remove "
        "the frame, or this label of it: NaN in all of its row.",
        change("force", (1, 7), np.nan),
    ),
    "atom_ener of other length in sets": data(
        "Give atom energies with and without virtual atoms.",
        "'data/set.000/atom_ener.npy' counts virtual atoms, or does not, "
        "unlike other sets. Make them the same.",
        *virtual(0, 0, 1, 1, 2, 2),
        second_set,
    ),
    "spins in both ways": data(
        "Give virtual atoms and `spin.npy`.",
        "'data' has virtual atoms in its types and also spin. Only one "
        "of the two can hold the spins: remove the other.",
        *virtual(0, 0, 1, 1, 2, 2),
        array("spin", np.ones((1, 18))),
    ),
    "no spins": data(
        "Use data without spins.",
        "'data' has no spins: no spin.npy, and no virtual atoms of type "
        "2 or higher in type.raw. Add one of the two, or leave this "
        "system out.",
        remove("data/set.000/spin.npy"),
    ),
    "virtual atom missing": data(
        "Leave a virtual atom out.",
        "frame 0 of 'data/set.000': 2 atoms of spin type 0 but 1 virtual "
        "atoms of type 2 (types of the model). Each atom of a spin type "
        "needs one virtual atom.",
        *virtual(0, 0, 1, 1, 2, 1),
    ),
    "virtual atoms in another order": data(
        "Sort virtual atoms otherwise than their owners.",
        "atom 0, frame 0 of 'data/set.000': its virtual atom is 3 Å "
        "away, but `virtual_len` is 0.4. Virtual atoms must come in the "
        "order of their owners: correct that order, box or "
        "`virtual_len`. Without type_map.raw, type 0 is Ni, 1 is O, in "
        "the order of the model's `type_map`: if the data have another "
        "order, write type_map.raw.",
        *virtual(0, 0, 1, 1, 2, 2),
        swap_virtual,
    ),
    "scheme and names": data(
        "Name types otherwise than `spin_scheme.json` does.",
        "type_map.raw of 'data' names its types O Ni Ni_spin, but its spin_scheme.json "
        "numbers Ni O Ni_spin. Correct one of the two.",
        *virtual(0, 0, 1, 1, 2, 2),
        PLACED,
        text("data/type_map.raw", "O Ni Ni_spin"),
    ),
    "scheme and virtual_len": data(
        "Train with another `virtual_len` than virtual atoms were placed with.",
        "spin_scheme.json of 'data' places virtual atoms of Ni at 0.333333 Å/μ_B, but "
        "`virtual_len` / `spin_norm` or `virtual_scale` of the model is 0.5 Å/μ_B. "
        "Correct the wrong one, or write the data with spins by `dp-spin convert-data "
        "--layout spin-files`, which every model reads.",
        *virtual(0, 0, 1, 1, 2, 2),
        PLACED,
        option("model/spin/virtual_len", [0.6]),
    ),
    "scheme and use_spin": data(
        "Give no spin to a type that has virtual atoms.",
        "'data/type.raw': virtual atoms Ni_spin, which hold the spins of Ni, but the "
        "model's `use_spin` gives it none. Correct that, or leave this system out.",
        *virtual(0, 0, 1, 1, 2, 2),
        PLACED,
        option("model/spin/use_spin", ["O"]),
    ),
    "scheme of other types": data(
        "Give a spin to a type that has no virtual atoms.",
        "spin_scheme.json of 'data' has no spins of O, which `use_spin` gives some. "
        "Correct one of the two.",
        *virtual(0, 0, 1, 1, 2, 2),
        PLACED,
        option("model/spin/use_spin", [True, True]),
        option("model/spin/virtual_len", 0.4),
        option("model/spin/spin_norm", 1.2),
    ),
    "scheme and other names": data(
        "Convert data with other names than virtual atoms were placed for.",
        "spin_scheme.json names the types Ni O, but `type_map` has no Ni. Received: Fe "
        "O.",
        *virtual(0, 0, 1, 1, 2, 2),
        PLACED,
        how="convert-data data -o new --layout spin-files -t Fe O",
    ),
    "set is a FIFO": data(
        "Put something else among the sets.",
        "'data/set.001' is a FIFO, not a set. Remove it.",
        lambda: os.mkfifo("data/set.001"),
    ),
    "one of the forces missing": data(
        "Write virtual atoms of a frame without magnetic forces.",
        "frame 1 of 'data/set.000' has no force_mag: with virtual atoms one file holds "
        "forces and magnetic forces. Add it, or keep the layout.",
        change("force_mag", 1, np.nan),
        how="convert-data data -o new --layout virtual-atom -t Ni O",
    ),
    "threshold below 0": data(
        "Leave out moments below a negative number.",
        "--ignore-below must be 0 or more μ_B. Received: -0.1",
        how="init data -o new.json -t Ni O --ignore-below=-0.1",
    ),
    "singular box": data(
        "Write a cell with a lattice vector of zeros.",
        "frame 1 of 'data/set.000': singular box [4.2, 0.0, 0.0, 0.0, "
        "4.2, 0.0, 0.0, 0.0, 0.0], opposite faces are 0 Å apart. Rows "
        "must be lattice vectors in Å; without periodicity add an empty "
        "file `nopbc`.",
        change("box", (1, slice(6, 9)), 0.0),
    ),
    "zero spin": data(
        "Keep a magnetic atom whose spin vanished.",
        "atom 0, frame 1 of 'data/set.000': |spin| = 0 but type 'Ni' is "
        "a spin type; its virtual atom would coincide with it. Remove "
        "the frame, set `use_spin` to false for 'Ni', or set a non-zero "
        "`env_protection`.",
        change("spin", (1, slice(0, 3)), 0.0),
    ),
    "type order": data(
        "Give `type_map` in another order than the data's.",
        "atom 0, frame 0 of 'data/set.000': |spin| = 1.2 but type 'O' is no spin type, "
        "and 0.05 μ_B (`model/spin/ignore_below`) is not above that. Set `use_spin` to "
        "true for 'O', the spins of its atoms to 0, or `ignore_below` to 1.3 to leave "
        "out what its neighbours polarise. Without type_map.raw, type 0 is O, 1 is Ni, "
        "in the order of the model's `type_map`: if the data have another order, write "
        "type_map.raw.",
        option("model/type_map", ["O", "Ni"]),
        option("model/spin/use_spin", ["Ni"]),
    ),
    "overlap": data(
        "Keep a frame with two atoms in one place.",
        "frame 0 of 'data/set.000': atom 0 and atom 1 (or an image of "
        "it) are 0 Å apart. Remove the frame or correct coord and box.",
        change("coord", (0, slice(0, 6)), 4.2),
    ),
    "cell too wide": data(
        "Write a periodic cell of a millimetre.",
        "frame 0 of 'data/set.000': the frame is 1e+07 x 4.2 x 4.2 Å "
        "wide, too much for neighbours within 3.4 Å. Check that lengths "
        "are in Å; a direction without periodicity needs none.",
        change("box", (0, 0), 1e7),
    ),
    "labels without use": data(
        "Train on data with no label that the loss weighs.",
        "The training data has the labels [], none of which the loss weighs. Add "
        "['energy', 'force', 'force_mag'], or change `loss`.",
        *NO_LABELS,
    ),
    "nothing to test": data(
        "Test on data without labels.",
        "'data' has no label to test: no energy, force, force_mag or virial.",
        model("model.keras"),
        *NO_LABELS,
        how="test -m model.keras -s data",
    ),
    "list of systems is empty": data(
        "Give an empty list of systems.",
        "'systems.txt' names no system; one path on each line.",
        text("systems.txt", "\n"),
        how="test -f systems.txt",
    ),
    "no validation data": data(
        "Test on the validation data of an input without any.",
        "'input.json' has no `training/validation_data`.",
        how="test --valid-data input.json",
    ),
    "types without names": data(
        "Look over data whose types have no names.",
        "'data' has no type_map.raw, so its types have no names. Give "
        "the names of types 0, 1, ... with -t, without virtual atoms, "
        "such as -t Ni O.",
        how="check-data data",
    ),
    "type_map.raw names more": data(
        "Name fewer types than the data.",
        "type_map.raw of 'data' also has O. Give all types with -t. Received: Ni",
        NAMED,
        how="check-data data -t Ni",
    ),
    "no spins to see": data(
        "Begin with data without spins.",
        "no spins in this data: no spin.npy that is not 0, and no "
        "virtual atoms (types beyond type_map). Add them, or correct -t.",
        NAMED,
        remove("data/set.000/spin.npy"),
        how="init data -o new.json",
    ),
    "two layouts": data(
        "Look over data of both layouts, one of unknown lengths.",
        "'other' has spin.npy but 'data' has virtual atoms, which say "
        "where they are, not how long the spins were. Give --virtual-len "
        "and --spin-norm that they were placed with, such as "
        "--virtual-len 0.4 --spin-norm 1.2737, or -i with the input, or "
        "one layout at a time.",
        *virtual(0, 0, 1, 1, 2, 2),
        second_system,
        how="check-data data other -t Ni O",
    ),
    "learning curve empty": data(
        "Draw a learning curve of nothing.",
        "'lcurve.out' is empty.",
        text("lcurve.out", ""),
        how="plot lcurve.out",
    ),
    "learning curve begun": data(
        "Draw a learning curve before its first line.",
        "'lcurve.out' has no numbers yet, only a header.",
        text("lcurve.out", CURVE),
        how="plot lcurve.out",
    ),
    "learning curve of other columns": data(
        "Draw a learning curve that lost a column.",
        "'lcurve.out' has 2 numbers in a line, but its header names 3.",
        text("lcurve.out", "# step rmse_val rmse_trn\n0 1.0\n"),
        how="plot lcurve.out",
    ),
    "learning curve of nan": data(
        "Draw a learning curve that is nan throughout.",
        "'lcurve.out' has no numbers but nan.",
        text("lcurve.out", CURVE + "nan nan\n"),
        how="plot lcurve.out",
    ),
    "learning curve with words": data(
        "Draw a learning curve with a word in it.",
        "'lcurve.out' is not a table of numbers: {...}.",
        text("lcurve.out", CURVE + "0 big\n"),
        how="plot lcurve.out",
    ),
    "no learning curve": data(
        "Draw a file that is no learning curve.",
        "'notes' is no result file: a learning curve (its first line begins with "
        "'# step rmse'), a log of dp-spin md ('# step replica time') or relax ('# step "
        "replica energy'), a table of thermo ('natoms,temperature'), a file of "
        "model-devi ('# step max_devi_v'), or a detail file of test -d ('# system: "
        "data_fx ...').",
        text("notes", "to do\n"),
        how="plot notes",
    ),
    "learning curves of two losses": data(
        "Draw a learning curve whose columns change.",
        "'lcurve.out' changes its columns: runs of different losses are "
        "in it. Split it.",
        text("lcurve.out", CURVE + "0 1.0\n# step rmse_val rmse_e_val\n1 1.0 1.0\n"),
        how="plot lcurve.out",
    ),
    "no fparam.npy": data(
        "Set `numb_fparam` to 2 and give no fparam.npy.",
        "'data/set.000/fparam.npy' is missing: the model takes 2 frame parameters "
        "(`numb_fparam`). Add it or remove this set.",
        option(FPARAM, 2),
    ),
    "fparam.npy of one number": data(
        "Set `numb_fparam` to 2 and give one number for each frame.",
        "'data/set.000/fparam.npy' must have 2 rows (frames of coord) of 2 numbers "
        "(`numb_fparam`). Received: shape (2, 1). Correct this file, or `numb_fparam`.",
        option(FPARAM, 2),
        array("fparam", np.zeros((2, 1))),
    ),
    "frame parameter is NaN": data(
        "Give a frame parameter of NaN.",
        "'data/set.000/fparam.npy': nan in frame 1. Remove the frame.",
        option(FPARAM, 1),
        array("fparam", np.array([[300.0], [np.nan]])),
    ),
    "learning curve without errors": data(
        "Draw a learning curve without errors.",
        "'lcurve.out' has no errors of energy, force, magnetic force or "
        "virial, or all are nan. Its columns: step, rmse_val.",
        how="plot lcurve.out",
    ),
}
