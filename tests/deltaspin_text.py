# SPDX-License-Identifier: Apache-2.0
"""Small outputs in the form that DeltaSpin writes, with numbers chosen by hand."""

from __future__ import annotations

import numpy as np

HEAD = """ vasp.6.4.3
   VRHFIN =Fe:  d7 s1
   VRHFIN =O: s2p4
   ions per type =               2   1
   NELM   =      3;   NELMIN=  2; NELMDL= -5     # of ELM steps

      direct lattice vectors                 reciprocal lattice vectors
     3.000000000  0.000000000  0.000000000     0.333333333  0.000000000  0.000000000
     0.000000000  4.000000000 -0.500000000     0.000000000  0.250000000  0.031250000
     0.000000000  0.000000000  5.000000000     0.000000000  0.000000000  0.200000000
"""
CELL = np.array([[3.0, 0, 0], [0, 4.0, -0.5], [0, 0, 5.0]])
COORD = np.array([[0.0, 0.1, 0.2], [1.5, 2.0, 2.5], [0.75, 1.0, 1.25]])
FORCE = np.array([[0.011, -0.022, 0.033], [-0.011, 0.022, -0.033], [0.0, 0.0, 0.0]])
ENERGY = -17.12345678
# xx, yy, zz, xy, yz, zx in kB
STRESS = (
    "  in kB      10.00000    20.00000    30.00000     1.00000     2.00000     3.00000"
)
# 1 kbar is 1e8 Pa, 1 Å³ is 1e-30 m³, 1 eV is 1.602176634e-19 J
VIRIAL = 60 * 1e-22 / 1.602176634e-19 * np.array([[10, 1, 3], [1, 20, 2], [3, 2, 30]])
SPIN = np.array([[0.35, 0.0, 2.677], [-0.35, 0.0, 2.6769999642], [0, 0, 0]])
FORCE_MAG = np.array(
    [[0.0072313466, 3.27e-7, 0.05], [-0.00723, 4.429e-7, 0.06], [0] * 3]
)

REACHED = " aborting loop because EDIFF is reached \n"
POSITIONS = " POSITION                                TOTAL-FORCE (eV/Angst)\n"
RULE = " " + "-" * 80 + "\n"
END = "\n General timing and accounting\n"


def iterations(ionic=1, last=2):
    text = ""
    for k in range(1, last + 1):
        text += f"----------- Iteration {ionic:4}({k:4})  -----------\n"
        text += "  free energy    TOTEN  =      -16.99999999 eV\n"
    return text


def results(energy=ENERGY, coord=COORD, force=FORCE):
    text = f"{STRESS}\n  external pressure =       20.00 kB  Pullay stress = 0.00 kB\n"
    text += POSITIONS + RULE
    for row in np.hstack([coord, force]):
        text += "".join(f"{value:13.5f}" for value in row) + "\n"
    text += f"{RULE}  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
    return f"{text}  free  energy   TOTEN  =      {energy:.8f} eV\n\n"


def rows(values, atoms=(1, 2), elements=("Fe", "Fe", "O")):
    text = RULE
    for atom in atoms:
        x, y, z = values[atom - 1]
        text += f"     {atom}   {elements[atom - 1]}  1  1  1 {x:18.10f}"
        text += f"{y:18.10f}{z:18.10f}\n"
    return text


FINAL = f""" DeltaSpin final status
 SCF convergence        : reached
 Moment constraint      : reached
 Maximum moment error   :   8.0856E-08 uB
 Requested tolerance    :   1.0000E-06 uB

 DeltaSpin final constrained observables
 DELTASPIN_MOMENT_DEF = 0
 VASP PROCAR LORBIT=11 Projector Spin Moment (uB)
 cx/cy/cz: 1 = constrained, 0 = unconstrained
   ion elem cx cy cz                Mx                My                Mz      |M|
{rows(SPIN)}
 Magnetic force (eV/uB)
 Unconstrained components have lambda = 0.
   ion elem cx cy cz               MFx               MFy               MFz
{rows(FORCE_MAG)} magnetic force = spin_lambda for L=E+lambda.(M-M_target)
"""
ONE = HEAD + iterations() + REACHED + results() + FINAL + END
