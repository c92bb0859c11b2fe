# SPDX-License-Identifier: Apache-2.0
"""Every array of the package: its name, shape, unit and file on disk.

Letters of the shapes: ``nf`` frames, ``nloc`` real atoms, ``nnei`` neighbour slots,
``numb_fparam`` frame parameters (of models that take some).
"""

from __future__ import annotations

from dataclasses import dataclass

MU_B = 5.7883818060e-5
"""Bohr magneton in eV/T, from CODATA 2018. 1 μ_B gains as much in 1 T."""


@dataclass(frozen=True)
class Key:
    """One array.

    Parameters
    ----------
    name : str
        Name inside the package and, with ``.npy`` or ``.raw``, on disk.
    shape : tuple of (int or str)
        Shape with symbolic dimensions.
    unit : str
        Physical unit, empty for integers and pure numbers.
    meaning : str
        One line: what it is and its sign.
    """

    name: str
    shape: tuple[int | str, ...]
    unit: str
    meaning: str


ATYPE = Key("atype", ("nf", "nloc"), "", "type index of each atom, -1 for no atom")
COORD = Key("coord", ("nf", "nloc", 3), "Å", "positions")
BOX = Key("box", ("nf", 3, 3), "Å", "rows are lattice vectors")
SPIN = Key("spin", ("nf", "nloc", 3), "μ_B", "spin vectors, 0 on non-spin types")
FPARAM = Key(
    "fparam",
    ("nf", "numb_fparam"),
    "",
    "frame parameters, such as an electron temperature; units are the user's",
)
ENERGY = Key("energy", ("nf",), "eV", "total energy")
FORCE = Key("force", ("nf", "nloc", 3), "eV/Å", "-dE/dcoord at fixed spin")
FORCE_MAG = Key("force_mag", ("nf", "nloc", 3), "eV/μ_B", "-dE/dspin at fixed coord")
VIRIAL = Key(
    "virial", ("nf", 3, 3), "eV", "V_ab = -dE/deps_ab, x_a -> x_a + eps_ab x_b"
)
ATOM_ENER = Key("atom_ener", ("nf", "nloc"), "eV", "energy of each real atom")
ATOM_VIRIAL = Key("atom_virial", ("nf", "nloc", 3, 3), "eV", "virial of each real atom")
ATOM_ENER_COEFF = Key(
    "atom_ener_coeff", ("nf", "nloc"), "", "weight of each atom's energy in the sum"
)

INPUTS = (COORD, BOX, SPIN, ATYPE, FPARAM)
LABELS = (ENERGY, FORCE, FORCE_MAG, VIRIAL, ATOM_ENER)
OUTPUTS = (*LABELS, ATOM_VIRIAL)
