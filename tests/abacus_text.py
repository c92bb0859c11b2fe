# SPDX-License-Identifier: Apache-2.0
"""Small outputs in the forms that ABACUS writes, with numbers chosen by hand."""

from __future__ import annotations

from pathlib import Path

RULE = "-" * 91

INPUT = """INPUT_PARAMETERS
calculation  {calculation}  # what is done
suffix       NiO
nspin        {nspin}
sc_mag_switch 1
sc_thr       1e-6
"""

# a is 4.2 Å, written in bohr; Ni at 0 and O in the middle
STRU = """ATOMIC_SPECIES
Ni 58.693 Ni.upf // a comment
O  15.999 O.upf

LATTICE_CONSTANT
1.8897261246257702
LATTICE_VECTORS
  4.2  0.0  0.0 #latvec1
  0.0  4.2  0.0
  0.5  0.0  4.0

ATOMIC_POSITIONS
Direct

Ni #label
0.0 #magnetism
1 #number of atoms
  0.10  0.20  0.30 mag 0.0 0.6 0.8 sc 1 1 1
O
0.0
1
  0.5000000000  0.5000000000  0.5000000000 m 1 1 1
"""

HEAD = """
                              ABACUS v3.7.1

 READING UNITCELL INFORMATION
                                    ntype = 2
                  lattice constant (Bohr) = 1.88973
              lattice constant (Angstrom) = 1
 READING ATOM TYPE 1
                               atom label = Ni
                      L=0, number of zeta = 2
             number of atom for this type = 1
               magnetization of element 1 = [ 0, 0.6, 0.8 ]
 READING ATOM TYPE 2
                               atom label = O
             number of atom for this type = 1
               magnetization of element 2 = [ 0, 0, 0 ]

                        TOTAL ATOM NUMBER = 2
DIRECT COORDINATES
    atom                   x                   y                   z     mag
taud_Ni1        0.1000000000        0.2000000000        0.3000000000  1.0000
 taud_O1        0.5000000000        0.5000000000        0.5000000000  0.0000

 Lattice vectors: (Cartesian coordinate: in unit of a_0)
                 +4.2                  +0                  +0
                   +0                +4.2                  +0
                 +0.5                  +0                  +4
K-POINTS DIRECT COORDINATES
 KPOINTS    DIRECT_X    DIRECT_Y    DIRECT_Z  WEIGHT
       1  0.00000000  0.00000000  0.00000000  1.0000
"""

NEW_HEAD = (
    HEAD.replace("atom label", "Atom label")
    .replace("number of atom for", "Number of atoms for")
    .replace("magnetization of element 1", "Magnetization for this type")
    .replace("magnetization of element 2", "Magnetization for this type")
    .replace("taud_", "")
)

END = "\n Start  Time  : today\n Total  Time  : 0 h 9 mins 2 secs \n"

SPIN = ([0.0, 0.6000000001, 0.8], [0.001, 0.0, -0.002])
FORCE_MAG = ([0.01, -0.02, 0.03], [0.0, 0.0, 0.0])
FORCE = ([0.1, -0.2, 0.3], [-0.1, 0.2, -0.3])
STRESS = ([1.0, 0.2, 0.3], [0.2, 2.0, 0.4], [0.3, 0.4, 3.0])
ENERGY = -6818.7194094666


def rows(labels, values) -> str:
    return "".join(
        f"{label:>26}" + "".join(f"{v:20.10f}" for v in row) + "\n"
        for label, row in zip(labels, values, strict=True)
    )


def table(title: str, labels, values, heading: str = "") -> str:
    top = f"{RULE}\n {title:<90}\n"
    middle = f"{RULE}\n{heading}" if heading else ""
    return f"{top}{middle}{RULE}\n{rows(labels, values)}{RULE}\n\n"


def step(
    ion: int = 1,
    energy: float = ENERGY,
    spin=SPIN,
    force_mag=FORCE_MAG,
    force=FORCE,
    stress=STRESS,
    converged: str = " charge density convergence is achieved\n",
    labels=("Ni", "O"),
) -> str:
    """One ionic step of two electronic ones, as versions of 2024 and 2025 write it."""
    text = f" PW ALGORITHM --------------- ION=   {ion}  ELEC=   1-------------\n"
    text += "total magnetism (Bohr mag/cell)\t2.3\t2.3\t2.3\n"
    text += " E_KohnSham     -501.1      -6818.1     \n E_Fermi  1.4  19.3\n"
    text += f" LCAO ALGORITHM --------------- ION={ion}    ELEC=2   -------------\n"
    text += f" E_KohnSham     -501.1664531630      {energy:.10f}     \n"
    text += " E_KS(sigma->0) -501.1658847659      -6818.7116760274     \n"
    text += table("Total Magnetism (uB)", labels, spin)
    if force_mag is not None:
        text += table("Magnetic force (eV/uB)", labels, force_mag)
    text += f"\n{converged} final etot is {energy:.7f} eV\n"
    if force is not None:
        text += table(
            "TOTAL-FORCE (eV/Angstrom)", [f"{label}1" for label in labels], force
        )
    if stress is not None:
        text += table("TOTAL-STRESS (KBAR)", ("", "", ""), stress)
        mean = sum(stress[k][k] for k in range(3)) / 3
        text += f" TOTAL-PRESSURE: {mean:.6f} KBAR\n"
    return text


def new_step(ion: int = 1, converged: str = " #SCF IS CONVERGED#\n") -> str:
    """The same as newer versions write it."""
    text = f" --> #ION MOVE#{ion:10}  #ELEC ITER#         1\n"
    text += f" E_KohnSham     -501.1664531630      {ENERGY:.10f}\n{converged}"
    text += table("Total Magnetism (uB)      x     y     z", ("Ni", "O"), SPIN)
    text += table("Magnetic force (eV/uB)", ("Ni", "O"), FORCE_MAG)
    heading = "     Atoms              Force_x     Force_y     Force_z \n"
    text += table("#TOTAL-FORCE (eV/Angstrom)#", ("Ni1", "O1"), FORCE, heading)
    heading = "              Stress_x             Stress_y             Stress_z\n"
    return text + table("#TOTAL-STRESS (kbar)#", ("", "", ""), STRESS, heading)


def old_step(unit: str = "Ry", spin=SPIN, force_mag=FORCE_MAG) -> str:
    """The same with the headings of early 2024."""
    text = step()
    for title, values in (
        ("Total Magnetism (uB)", SPIN),
        ("Magnetic force (eV/uB)", FORCE_MAG),
    ):
        text = text.replace(table(title, ("Ni", "O"), values), "")
    own = "Total Magnetism (uB):\n"
    own += rows(("ATOM      1", "ATOM      2"), spin)
    own += f"Magnetic force ({unit}/uB):\n"
    own += rows(("ATOM      1", "ATOM      2"), force_mag)
    return text.replace("\n charge density", f"{own}\n charge density")


def head(labels, fractions) -> str:
    """What stands before the steps, without a cell."""
    text = ""
    for name in dict.fromkeys(labels):
        text += f" atom label = {name}\n"
        text += f" number of atom for this type = {list(labels).count(name)}\n"
    text += "DIRECT COORDINATES\n    atom   x   y   z   mag\n"
    for name, row in zip(labels, fractions, strict=True):
        text += f"taud_{name}1 " + " ".join(f"{x:.10f}" for x in row) + " 0.0\n"
    return f"{text}\n"


DUMP = """MDSTEP:  {step}
LATTICE_CONSTANT: 0.500000000000 Angstrom
LATTICE_VECTORS
  8.400000000000  0.000000000000  0.000000000000
  0.000000000000  8.400000000000  0.000000000000
  1.000000000000  0.000000000000  8.000000000000
INDEX    LABEL    POSITION (Angstrom)    FORCE (eV/Angstrom)    VELOCITY (Angstrom/fs)
  0  Ni  {x:.12f}  0.840000000000  1.200000000000  0.1 -0.2 0.3 0.0 0.0 0.0
  1  O  2.350000000000  2.100000000000  2.000000000000  -0.1 0.2 -0.3 0.0 0.0 0.0


"""


def write(folder: Path, log: str, kind: str = "scf", nspin: int = 4) -> Path:
    """Write a calculation; returns its folder."""
    out = folder / "OUT.NiO"
    out.mkdir(parents=True)
    (folder / "INPUT").write_text(INPUT.format(calculation=kind, nspin=nspin))
    (folder / "STRU").write_text(STRU)
    (out / f"running_{kind}.log").write_text(log)
    return folder
