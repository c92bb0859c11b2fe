# SPDX-License-Identifier: Apache-2.0
"""Mistakes on the way to a DFT code and back."""

from __future__ import annotations

import numpy as np

from .row import Mistake, Step
from .steps import change, model, text
from .valid import BOX

TITLE = "DFT codes"
ABOUT = (
    "Mistakes with `select`, `export-dft`, `import-dft` and outputs of DFT codes. The "
    "frames are those of a system `data` of Ni and O."
)
EXPORT = "export-dft data -t Ni O --template template -o dft --code"
IMPORT = "import-dft dft -o new"
INCAR = "LDELTASPIN = .TRUE.\nLNONCOLLINEAR = .TRUE.\n"
SPECIES = "ATOMIC_SPECIES\nNi 58.7 Ni.upf\nO 16.0 O.upf\n"
STRU = (
    f"{SPECIES}LATTICE_CONSTANT\n1.0\nLATTICE_VECTORS\n5 0 0\n0 5 0\n0 0 5\n"
    "ATOMIC_POSITIONS\nDirect\nNi\n0.0\n1\n0.1 0.2 0.3\n"
)
HEAD = (
    " atom label = Ni\n number of atom for this type = 1\nDIRECT COORDINATES\n atom\n"
    "taud_Ni1 0.1 0.2 0.3 1.0\n"
)
ITERATION = " PW ALGORITHM ------ ION=   1  ELEC=   1------\n"
FRAME = '{"folder": "frame.%04d", "from": "frame %d of \'md.extxyz\'", "order": [0], '
FRAME += '"symbols": ["Ni"], "cell": [[5, 0, 0], [0, 5, 0], [0, 0, 5]], '
FRAME += '"coord": [[0, 0, 0]], "spin": [[0, 0, 1]]}'
OUTCAR = (
    "   VRHFIN =Ni: d8\n   ions per type =  1\n--- Iteration    1(   1) ---\n"
    " DELTASPIN_MOMENT_DEF = %d\n"
)


def done(did: str, how: str, says: str, *steps: Step, shows: str = "") -> Mistake:
    """A mistake with DFT codes."""
    return Mistake(TITLE, did, how, says, steps, shows=shows)


def incar(content: str) -> Step:
    """A template for VASP."""
    return text("template/INCAR", content)


def abacus(parameters: str, stru: str = SPECIES) -> tuple[Step, Step]:
    """A template for ABACUS."""
    given = text("template/INPUT", f"INPUT_PARAMETERS\n{parameters}")
    return given, text("template/STRU", stru)


def exported(code: str, nframes: int = 1) -> Step:
    """What ``export-dft`` wrote."""
    rows = ", ".join(FRAME % (k, k) for k in range(nframes))
    content = f'{{"version": 1, "code": "{code}", "frames": [{rows}]}}'
    return text("dft/manifest.json", content)


def output(name: str, content: str, frame: int = 0) -> Step:
    """A file of a calculation."""
    return text(f"dft/frame.{frame:04d}/{name}", content)


def log(content: str) -> Step:
    """A log of ABACUS."""
    return output("OUT.ABACUS/running_scf.log", content)


def dynamics(dump: str) -> tuple[Step, ...]:
    """A molecular dynamics of ABACUS."""
    return (
        output("INPUT", "calculation md\n"),
        output("OUT.ABACUS/running_md.log", HEAD + ITERATION),
        *([output("OUT.ABACUS/MD_dump", dump)] if dump else []),
    )


ROWS = {
    "no frames to select": done(
        "Choose no frame.",
        "select data -t Ni O -n 0 -o few",
        "--number must be 1 or more. Received: 0",
    ),
    "too many frames to select": done(
        "Choose more frames than there are.",
        "select data -t Ni O -n 9 -o few",
        "9 frames are to be chosen, and there are 2. Give a smaller --number.",
    ),
    "fingerprints without a model": done(
        "Select by fingerprints without a model.",
        "select data -n 1 --by fingerprint -o few",
        "--by fingerprint takes one models (-m). Received: 0",
    ),
    "a model and spins": done(
        "Say how to read data that a model reads.",
        "select data -t Ni O -n 1 --by fingerprint -m model.keras -o few",
        "Models say how to read the data. Leave out --type-map.",
        model("model.keras"),
    ),
    "template without INCAR": done(
        "Forget INCAR in the template.",
        f"{EXPORT} vasp",
        "the template 'template' has no INCAR. Put there what all calculations share.",
        text("template/KPOINTS", ""),
    ),
    "INCAR without constraint": done(
        "Constrain no moments.",
        f"{EXPORT} vasp",
        "'template/INCAR' constrains no moments: it must say LDELTASPIN = .TRUE. (VASP "
        "6 with DeltaSpin), or I_CONSTRAINED_M and SCTYPE (VASP 5 with DeltaSpin), or "
        "I_CONSTRAINED_M and LAMBDA (VASP alone).",
        incar("ENCUT = 500\n"),
    ),
    "collinear INCAR": done(
        "Leave VASP's moments collinear.",
        f"{EXPORT} vasp",
        "'template/INCAR' must say LNONCOLLINEAR = .TRUE.: spins of frames are "
        "vectors.",
        incar("LDELTASPIN = .TRUE.\n"),
    ),
    "POTCAR of other elements": done(
        "Take the POTCAR of other elements.",
        f"{EXPORT} vasp",
        "frame 0 of 'data/set.000' has atoms of Ni O, but the POTCAR of 'template' is "
        "that of Ni Fe. Take a template for these elements.",
        incar(INCAR),
        text("template/POTCAR", "   VRHFIN =Ni: d8\n   VRHFIN =Fe: d7\n"),
    ),
    "left-handed cell for VASP": done(
        "Export a left-handed cell.",
        f"{EXPORT} vasp",
        "frame 0 of 'data/set.000' has a left-handed cell, which codes refuse. "
        "Exchange two of its lattice vectors.",
        incar(INCAR),
        lambda: np.save("data/set.000/box.npy", np.stack([BOX[[1, 0, 2]]] * 2)),
    ),
    "no cell to calculate": done(
        "Export frames that are not periodic.",
        f"{EXPORT} vasp",
        "frame 0 of 'data/set.000' is not periodic, and a calculation needs a cell. "
        "Give it one, with empty space around the atoms.",
        incar(INCAR),
        text("data/nopbc", ""),
    ),
    "INPUT without nspin": done(
        "Leave nspin out of ABACUS' INPUT.",
        f"{EXPORT} abacus",
        "'template/INPUT' must say nspin 4, or nspin 2 for spins along z. Received: "
        "None",
        *abacus("ecutwfc 100\n"),
    ),
    "spins across z": done(
        "Export vectors with nspin 2.",
        f"{EXPORT} abacus",
        "frame 1 of 'data/set.000' has spins that are not along z, and 'template/INPUT'"
        " says nspin 2. Say nspin 4.",
        *abacus("nspin 2\n"),
        change("spin", (1, 0), 0.5),
    ),
    "STRU without elements": done(
        "Leave the elements out of the template's STRU.",
        f"{EXPORT} abacus",
        "'template/STRU' has no ATOMIC_SPECIES. List there the elements with their "
        "pseudopotentials.",
        *abacus("nspin 4\n", "LATTICE_CONSTANT\n1\n"),
    ),
    "STRU without an element": done(
        "Leave one element out of the template's STRU.",
        f"{EXPORT} abacus",
        "frame 0 of 'data/set.000' has atoms of O, which 'template/STRU' does not "
        "list: Ni. Add them.",
        *abacus("nspin 4\n", "ATOMIC_SPECIES\nNi 58.7 Ni.upf\n"),
    ),
    "calculations over data": done(
        "Export to a folder of other things.",
        "export-dft data -t Ni O --template template -o data --force --code vasp",
        "'data' is a folder without calculations, so it is not replaced. Choose "
        "another output.",
        incar(INCAR),
    ),
    "no manifest": done(
        "Mistype the folder that was exported.",
        "import-dft dtf -o new",
        "'dtf/manifest.json' is no list of calculations of this version. Give the "
        "folder that dp-spin export-dft wrote.",
    ),
    "nothing calculated": done(
        "Read back before anything is calculated.",
        IMPORT,
        "none of the 2 calculations in 'dft' can be read: 2 have no output yet, 0 are "
        "left out. Calculate them in their folders.",
        exported("abacus", 2),
    ),
    "output of another frame": done(
        "Put an output into the folder of another frame.",
        IMPORT,
        "step 1 of 'dft/frame.0000/OUT.ABACUS/running_scf.log' is not of frame 0 of "
        "'md.extxyz', whose calculation 'dft/frame.0000' is: atoms, positions or cell "
        "differ. Put outputs into the folders of their frames.",
        exported("abacus"),
        output("STRU", STRU),
        log(
            f"{HEAD}{ITERATION} E_KohnSham -1.0 -13.6\n charge density convergence is "
            "achieved\n TOTAL-FORCE (eV/Angstrom)\n Ni1 0.0 0.0 0.0\n---\n"
        ),
    ),
    "two logs": done(
        "Leave two logs and no INPUT in a folder of ABACUS.",
        IMPORT,
        "'dft/frame.0000' has several logs of ABACUS and no INPUT that says which is "
        "meant: OUT.ABACUS/running_md.log, OUT.ABACUS/running_scf.log. Name one of "
        "them.",
        exported("abacus"),
        log(""),
        output("OUT.ABACUS/running_md.log", ""),
    ),
    "STRU that cannot be read": done(
        "Give ABACUS' STRU positions of a kind that is not read.",
        IMPORT,
        "'dft/frame.0000/STRU' cannot be read as a STRU of ABACUS (KeyError({...})). "
        "It must have LATTICE_CONSTANT, LATTICE_VECTORS and ATOMIC_POSITIONS, Direct "
        "or Cartesian.",
        exported("abacus"),
        output("STRU", STRU.replace("Direct", "Cartesian_center_xy")),
        log(HEAD),
    ),
    "STRU of another calculation": done(
        "Change STRU after the calculation.",
        IMPORT,
        "'dft/frame.0000/STRU' is not the structure that "
        "'dft/frame.0000/OUT.ABACUS/running_scf.log' began with: names, cells or "
        "positions differ. Put back the STRU of this calculation, or take it away: "
        "cells are then read from the log, with six digits.",
        exported("abacus"),
        output("STRU", STRU.replace("0.1 0.2 0.3", "0.2 0.2 0.3")),
        log(HEAD + ITERATION),
    ),
    "log without names": done(
        "Take the log of ABACUS away from its STRU.",
        IMPORT,
        "'dft/frame.0000/OUT.ABACUS/running_scf.log' does not name its atoms, and "
        "there is no STRU beside it. Keep the log in the folder OUT.* of its "
        "calculation.",
        exported("abacus"),
        log(ITERATION),
    ),
    "forces in another unit": done(
        "Read forces of ABACUS that are not in eV/Å.",
        IMPORT,
        "'dft/frame.0000/OUT.ABACUS/running_scf.log' has forces in another unit than "
        "eV/Angstrom: TOTAL-FORCE (Ry/Bohr). Calculate without changing it.",
        exported("abacus"),
        output("STRU", STRU),
        log(f"{HEAD}{ITERATION} TOTAL-FORCE (Ry/Bohr)\n"),
    ),
    "stress in another unit": done(
        "Read stresses of ABACUS that are not in kbar.",
        IMPORT,
        "'dft/frame.0000/OUT.ABACUS/running_scf.log' has stresses in another unit than "
        "kbar: TOTAL-STRESS (GPa). Calculate without changing it.",
        exported("abacus"),
        output("STRU", STRU),
        log(f"{HEAD}{ITERATION} TOTAL-STRESS (GPa)\n"),
    ),
    "no MD_dump": done(
        "Read a molecular dynamics of ABACUS without its positions.",
        IMPORT,
        "'dft/frame.0000/OUT.ABACUS/MD_dump' is missing: it has the positions of a "
        "molecular dynamics. Keep it beside the log, and calculate with dump_force 1 "
        "and md_dumpfreq 1.",
        exported("abacus"),
        *dynamics(""),
    ),
    "old MD_dump": done(
        "Read an MD_dump that does not tell its units.",
        IMPORT,
        "'dft/frame.0000/OUT.ABACUS/MD_dump' does not say that its positions are in "
        "Angstrom: it is from a version of ABACUS before 3.2, which is not read. "
        "Calculate again with a newer one.",
        exported("abacus"),
        *dynamics("MDSTEP:  0\nLATTICE_CONSTANT: 1.88\n"),
    ),
    "MD_dump of another run": done(
        "Keep the MD_dump of another molecular dynamics.",
        IMPORT,
        "step 0 of MD_dump has other atoms than "
        "'dft/frame.0000/OUT.ABACUS/running_md.log'. Keep the files of one calculation "
        "together.",
        exported("abacus"),
        *dynamics(
            "MDSTEP:  0\nLATTICE_CONSTANT: 1.0 Angstrom\nLATTICE_VECTORS\n5 0 0\n"
            "0 5 0\n0 0 5\nINDEX LABEL POSITION (Angstrom)\n 0 Fe 0.0 0.0 0.0\n"
        ),
    ),
    "definitions of moments": done(
        "Mix moments that VASP defines in two ways.",
        IMPORT,
        "'dft/frame.0000' has moments of DELTASPIN_MOMENT_DEF = 0, 'dft/frame.0001' of "
        "1: these are different quantities and must not be in one data set. Keep those "
        "of one definition.",
        exported("vasp", 2),
        output("OUTCAR", OUTCAR % 0),
        output("OUTCAR", OUTCAR % 1, frame=1),
    ),
    "atoms of another OUTCAR": done(
        "Join outputs of two calculations of VASP.",
        IMPORT,
        "'dft/frame.0000/OUTCAR' has '1 Fe 1 1 1 0.0 0.0 2.0' among its moments, but "
        "its atoms are Ni. Keep the output of one calculation.",
        exported("vasp"),
        output(
            "OUTCAR",
            f"{OUTCAR % 0} ion elem cx cy cz Mx My Mz |M|\n----\n"
            " 1 Fe 1 1 1 0.0 0.0 2.0\n\n",
        ),
    ),
}
