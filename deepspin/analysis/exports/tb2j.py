# SPDX-License-Identifier: Apache-2.0
"""Files of TB2J: ``exchange.xml``, and ``exchange.out``, which others read, too.

References
----------
.. [1] X. He, N. Helbig, M. J. Verstraete and E. Bousquet, Comput. Phys. Commun. 264,
   107938 (2021), https://doi.org/10.1016/j.cpc.2021.107938
.. [2] https://tb2j.readthedocs.io/en/latest/, "Conventions of Heisenberg Model" and
   "The output of TB2J"
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from deepspin.analysis.exports.bonds import (
    MEV,
    Program,
    cell,
    element,
    has_all,
    integers,
    matters,
    numbers,
)
from deepspin.analysis.hamiltonian import Sites, SpinHamiltonian
from deepspin.atoms import units

BOHR = 0.529177210903
"""Bohr radius in Å (CODATA 2018)."""

LINE = "=" * 90 + "\n"


def tb2j_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write both files.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.
    """
    return {
        "exchange.xml": _xml(hamiltonian, heading),
        "exchange.out": _out(hamiltonian, heading),
    }


# --- exchange.xml ---------------------------------------------------------------------


def _xml(hamiltonian: SpinHamiltonian, heading: list[str]) -> str:
    sites, pairs = hamiltonian.sites, hamiltonian.pairs
    root = ElementTree.Element("System_definition")
    root.append(ElementTree.Comment("\n".join(["", *heading, ""])))
    _child(root, "unit_cell", numbers(cell(sites) / BOHR), units="bohrradius")
    spin = sites.moment[:, None] * sites.direction
    for k, name in enumerate(sites.names):
        atom = ElementTree.SubElement(
            root,
            "atom",
            mass=f"{units.MASSES.get(element(name), 1.0):.5e}",
            massunits="atomicmassunit",
            damping_factor="1.0",
            gyroratio="1.0",
            index_spin=str(k + 1),
        )
        _child(atom, "position", numbers(sites.coord[k] / BOHR), units="bohrradius")
        _child(atom, "spinat", numbers(spin[k]))
    where = [
        integers(i + 1, j + 1, *shift)
        for i, j, shift in zip(pairs.first, pairs.second, pairs.shift, strict=True)
    ]
    # each direction of a pair is a term of its own, so it has half of the coupling
    exchange = hamiltonian.exchange / 2
    _terms(root, "spin_exchange", where, np.repeat(exchange[:, None], 3, axis=1))
    if matters(hamiltonian, hamiltonian.dmi):
        _terms(root, "spin_DMI", where, hamiltonian.dmi / 2)
    if matters(hamiltonian, hamiltonian.symmetric):
        _terms(root, "spin_bilinear", where, hamiltonian.symmetric / 2)
    if matters(hamiltonian, hamiltonian.anisotropy):
        number = [str(k + 1) for k in range(sites.n)]
        _terms(root, "spin_sia_tensor", number, -hamiltonian.anisotropy, tag="i")
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _child(parent: ElementTree.Element, tag: str, text: str, **names: str) -> None:
    ElementTree.SubElement(parent, tag, names).text = text


def _terms(
    root: ElementTree.Element,
    name: str,
    where: list[str],
    values: np.ndarray,
    tag: str = "ijR",
) -> None:
    """Append a list of terms, each with its place and its numbers."""
    terms = ElementTree.SubElement(root, f"{name}_list", units="eV")
    _child(terms, "nterms", str(len(where)))
    for place, value in zip(where, values, strict=True):
        term = ElementTree.SubElement(terms, f"{name}_term")
        _child(term, tag, place)
        _child(term, "data", numbers(value))


# --- exchange.out ---------------------------------------------------------------------


def _fixed(values: np.ndarray, sep: str = " ") -> str:
    """Numbers without exponents, which not every reader of this file knows."""
    return sep.join(f"{x:.16f}" for x in np.ravel(values).tolist())


def _labels(sites: Sites) -> list[str]:
    """Letters and digits only: an element and the number of the site, from 1."""
    return [f"{element(name)}{k}" for k, name in enumerate(sites.names, start=1)]


def _out(hamiltonian: SpinHamiltonian, heading: list[str]) -> str:
    sites = hamiltonian.sites
    text = LINE + "Information: \n" + "".join(f"{line}\n" for line in heading)
    text += "\n" + LINE + "Cell (Angstrom):\n"
    text += "".join(f"{_fixed(vector)}\n" for vector in cell(sites))
    text += "\n" + LINE + "Atoms:  \n(Note: charges are not known and written as 0.)\n"
    text += "Atom_number x y z w_charge M(x) M(y) M(z)\n"
    spin = sites.moment[:, None] * sites.direction
    for label, coord, vector in zip(_labels(sites), sites.coord, spin, strict=True):
        text += f"{label} {_fixed(coord)} 0.0 {_fixed(vector)}\n"
    text += f"Total 0.0 {_fixed(spin.sum(axis=0))}\n\n"
    if matters(hamiltonian, hamiltonian.anisotropy):
        text += _single_ion(hamiltonian)
    return text + LINE + "Exchange: \n" + _exchange(hamiltonian)


def _single_ion(hamiltonian: SpinHamiltonian) -> str:
    text = LINE + "Single Ion Anisotropy: \nAtom_number A_xx A_xy A_xz\n"
    text += "            A_yx A_yy A_yz\n            A_zx A_zy A_zz\n"
    values = -MEV * hamiltonian.anisotropy
    for label, matrix in zip(_labels(hamiltonian.sites), values, strict=True):
        rows = "\n            ".join(_fixed(row) for row in matrix)
        text += f"{label} {rows}\n" + "-" * 88 + "\n"
    return text + "\n"


def _exchange(hamiltonian: SpinHamiltonian) -> str:
    """One block a pair and direction, in meV, with all parts, as of vector moments."""
    sites, pairs = hamiltonian.sites, hamiltonian.pairs
    name, vectors = _labels(sites), pairs.vectors(sites)
    length = np.linalg.norm(vectors, axis=1)
    half = MEV / 2
    exchange, dmi = half * hamiltonian.exchange, half * hamiltonian.dmi
    symmetric = half * hamiltonian.symmetric
    blocks = ["    i     j          R    J_iso(meV)         vector    distance(A)"]
    for k, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        shift = ", ".join(f"{x:3d}" for x in pairs.shift[k].tolist())
        rows = "\n ".join(f"[{_fixed(row)}]" for row in symmetric[k])
        blocks.append(
            f"   {name[i]:5s} {name[j]:5s} ({shift}) {_fixed(exchange[k])}   "
            f"({_fixed(vectors[k], ', ')}) {_fixed(length[k])}\n"
            f"J_iso: {_fixed(exchange[k])}\n[Testing!] DMI: ({_fixed(dmi[k])})\n"
            f"[Testing!]J_ani:\n[{rows}]"
        )
    return ("\n" + "-" * 88 + "\n").join(blocks) + "\n"


TB2J = Program(
    title="TB2J",
    sentence="`exchange.xml` and `exchange.out`, as TB2J and readers of its files want",
    files=("exchange.xml", "exchange.out"),
    convention=(
        "E = - sum_{i != j} [J e_i.e_j + D.(e_i x e_j) + e_i.J_ani.e_j]"
        " - sum_i e_i.A.e_i",
        "Each pair counts twice, as i,j and as j,i. J > 0 is ferromagnetic, A > 0 an "
        "easy axis. e are unit vectors.",
        "exchange.xml is in eV and bohr, exchange.out in meV and Angstrom.",
    ),
    write=tb2j_files,
    limits=has_all,
)
