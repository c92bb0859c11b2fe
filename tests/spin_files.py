# SPDX-License-Identifier: Apache-2.0
"""Read files of spin Hamiltonians as their programs do, and take the energy of a state.

Each reader is written from the documentation (or, where that is silent, the source) of
its program, which it names, and shares nothing with what writes the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

JOULE = 1.602176634e-19  # one eV in J
MRY = 1e3 / 13.605693122994  # one eV in mRy
BOHR = 0.529177210903  # in Å


@dataclass
class Terms:
    """What a file says, in its own units and order.

    The energy of vectors s = length * turn e is, cell by cell, the sum of s_i M s_j
    over rows (i, j, cell of j, M), and of s_i A_i s_i; times `unit` it is in eV.
    """

    box: np.ndarray
    place: np.ndarray  # fractional
    moment: np.ndarray  # μ_B
    unit: float
    rows: list[tuple[int, int, tuple[int, ...], np.ndarray]] = field(
        default_factory=list
    )
    onsite: np.ndarray | None = None
    length: np.ndarray | None = None
    turn: np.ndarray | None = None
    comment: str = ""

    def energy(self, directions):
        """Energy in eV of unit vectors (n1, n2, n3, n, 3) on a repeated cell."""
        s = directions if self.turn is None else directions @ self.turn.T
        s = s if self.length is None else s * self.length[:, None]
        total = 0.0
        for i, j, cell, matrix in self.rows:
            other = np.roll(s[..., j, :], np.negative(cell), axis=(0, 1, 2))
            total += np.einsum("xyza,ab,xyzb->", s[..., i, :], matrix, other)
        if self.onsite is not None:
            total += np.einsum("xyzia,iab,xyzib->", s, self.onsite, s)
        return total * self.unit

    def distances(self):
        """Of the pairs of all rows, in Å, sorted."""
        apart = [self.place[j] + cell - self.place[i] for i, j, cell, _ in self.rows]
        return np.sort(np.linalg.norm(np.array(apart) @ self.box, axis=1))


def cross(d):
    """The matrix M with a M b = d . (a x b)."""
    return np.array([[0, d[2], -d[1]], [-d[2], 0, d[0]], [d[1], -d[0], 0]])


def floats(text):
    return np.array(text.replace(",", " ").split(), dtype=float)


def lines(path, mark="#"):
    """Lines that are not comments."""
    return [x for x in path.read_text("utf-8").splitlines() if x[: len(mark)] != mark]


def comment(path, mark):
    return "\n".join(
        x for x in path.read_text("utf-8").splitlines() if x.startswith(mark)
    )


# --- TB2J -----------------------------------------------------------------------------


def tb2j_xml(folder):
    """``exchange.xml``: E = -sum [J e.e + D.(e x e) + e J_ani e] - sum e A e.

    Pairs count twice. https://tb2j.readthedocs.io/en/latest/ ("Conventions of
    Heisenberg Model"); tags as TB2J's ``spinham/spin_xml.py`` reads them.
    """
    root = ElementTree.parse(folder / "exchange.xml").getroot()
    atoms = root.findall("atom")
    assert [int(a.get("index_spin")) for a in atoms] == [*range(1, len(atoms) + 1)]
    box = floats(root.find("unit_cell").text).reshape(3, 3) * BOHR
    coord = np.array([floats(a.find("position").text) for a in atoms]) * BOHR
    spin = np.array([floats(a.find("spinat").text) for a in atoms])
    shapes = {
        "spin_exchange": lambda x: x[0] * np.eye(3),
        "spin_DMI": cross,
        "spin_bilinear": lambda x: x.reshape(3, 3),
    }
    matrices: dict[tuple[int, ...], np.ndarray] = {}
    for name, shape in shapes.items():
        for term in _terms(root, name):
            key = tuple(int(x) for x in term.find("ijR").text.split())
            value = shape(floats(term.find("data").text))
            matrices[key] = matrices.get(key, 0) - value
    onsite = np.zeros((len(atoms), 3, 3))
    for term in _terms(root, "spin_sia_tensor"):
        data = floats(term.find("data").text).reshape(3, 3)
        onsite[int(term.find("i").text) - 1] = -data
    return Terms(
        box=box,
        place=coord @ np.linalg.inv(box),
        moment=np.linalg.norm(spin, axis=1),
        unit=1.0,
        rows=[(i - 1, j - 1, cell, m) for (i, j, *cell), m in matrices.items()],
        onsite=onsite,
    )


def _terms(root, name):
    group = root.find(f"{name}_list")
    if group is None:
        return []
    assert group.get("units") == "eV"
    terms = group.findall(f"{name}_term")
    assert len(terms) == int(group.find("nterms").text)
    return terms


def tb2j_out(folder):
    """``exchange.out``, in meV; https://tb2j.readthedocs.io ("The output of TB2J")."""
    text = (folder / "exchange.out").read_text("utf-8")
    assert "e-" not in text.partition("Cell (Angstrom):")[2], "exponents are not read"
    head, _, body = text.partition("Exchange: \n")
    box = floats(" ".join(head.partition("Cell (Angstrom):\n")[2].splitlines()[:3]))
    box = box.reshape(3, 3)
    atoms = head.partition("Atoms:")[2].partition("\nTotal")[0].splitlines()[3:]
    names = [a.split()[0] for a in atoms]
    numbers = np.array([a.split()[1:] for a in atoms], dtype=float)
    rows = []
    for block in body.split("-" * 88)[1:]:
        i, j, *cell = re.match(
            r"\s*([A-Za-z0-9]+)\s+([A-Za-z0-9]+)\s+\((.+?),(.+?),(.+?)\)", block
        ).groups()
        (exchange,) = re.findall(r"^J_iso: (\S+)$", block, re.MULTILINE)
        (dmi,) = re.findall(r"DMI: \((.+)\)$", block, re.MULTILINE)
        anisotropic = block.partition("J_ani:\n")[2].replace("[", "").replace("]", "")
        matrix = float(exchange) * np.eye(3) + cross(floats(dmi))
        matrix = matrix + floats(anisotropic).reshape(3, 3)
        place = tuple(int(x) for x in cell)
        rows.append((names.index(i), names.index(j), place, -matrix))
    onsite = np.zeros((len(names), 3, 3))
    single = head.partition("Single Ion Anisotropy: \n")[2].partition("=" * 90)[0]
    for k, block in enumerate(single.split("-" * 88)[:-1]):
        values = "\n".join(block.splitlines()[-3:])
        name, *matrix = values.split()
        assert name == names[k]
        onsite[k] = -np.array(matrix, dtype=float).reshape(3, 3)
    return Terms(
        box=box,
        place=numbers[:, :3] @ np.linalg.inv(box),
        moment=np.linalg.norm(numbers[:, 4:], axis=1),
        unit=1e-3,
        rows=rows,
        onsite=onsite,
    )


# --- UppASD ---------------------------------------------------------------------------


def uppasd(folder):
    """E = -sum e J e + sum K (e.u)^2 in mRy, pairs twice.

    https://github.com/UppASD/UppASD-manual ("Core input files", "Hamiltonian
    parameters"); order of tensors, axes and units as ``Input/inputhandler_ext.f90`` and
    ``Hamiltonian/hamiltonianinit.f90`` of https://github.com/UppASD/UppASD have them.
    """
    rows = [x.split() for x in lines(folder / "inpsd.dat") if x.strip()]
    words = {row[0]: row[1:] for row in rows}
    at = next(k for k, row in enumerate(rows) if row[0] == "cell")
    box = np.array([rows[at][1:], *rows[at + 1 : at + 3]], dtype=float)
    assert words["maptype"] == ["2"] and words["posfiletype"] == ["D"]
    assert words["Sym"] == ["0"] and len(words["simid"][0]) <= 8
    places = np.loadtxt(folder / words["posfile"][0], ndmin=2)
    moments = np.loadtxt(folder / words["momfile"][0], ndmin=2)
    n = len(places)
    # each site is a type of its own, as couplings belong to types
    assert places[:, :2].tolist() == [[k, k] for k in range(1, n + 1)]
    assert moments[:, :2].tolist() == [[k, 1] for k in range(1, n + 1)]
    terms = []
    # both keywords: else UppASD makes tensors of the first number of each row
    tensors = words.get("do_jtensor") == ["1"]
    assert words.get("calc_jtensor") == (["F"] if tensors else None)
    for i, j, x, y, z, *value in np.loadtxt(folder / words["exchange"][0], ndmin=2):
        matrix = np.reshape(value, (3, 3)) if tensors else value[0] * np.eye(3)
        terms.append((int(i) - 1, int(j) - 1, (int(x), int(y), int(z)), -matrix))
    onsite = np.zeros((n, 3, 3))
    if "anisotropy" in words:
        kfile = np.loadtxt(folder / words["anisotropy"][0], ndmin=2)
        assert len(kfile) == n * (2 if words.get("mult_axis") == ["Y"] else 1)
        for site, kind, k1, k2, *axis, _ in kfile:
            assert kind == 1 and k2 == 0
            unit = np.array(axis) / np.linalg.norm(axis)
            onsite[int(site) - 1] += k1 * np.outer(unit, unit)
    return Terms(
        box=box,
        place=places[:, 2:],
        moment=moments[:, 2],
        unit=1 / MRY,
        rows=terms,
        onsite=onsite,
        comment=comment(folder / "inpsd.dat", "#"),
    )


# --- Vampire --------------------------------------------------------------------------


def vampire(folder):
    """E = -1/2 sum e J e - sum K (e.u)^2 in J, pairs listed in both directions.

    https://github.com/richard-evans/vampire, ``manual``: "Unit Cell Files", "Material
    File Command Reference"; comments as ``src/unitcell/read.cpp`` finds them.
    """
    words = dict(
        (x.strip() for x in line.split("=", 1))
        for line in lines(folder / "input")
        if "=" in line
    )
    ucf = folder / words["material:unit-cell-file"]
    kept = [x for x in ucf.read_text("utf-8").splitlines() if x and "#" not in x]
    length = floats(kept[0])
    shape = np.array([floats(x) for x in kept[1:4]])
    natoms, nmaterials = map(int, kept[4].split())
    atoms = np.array([x.split() for x in kept[5 : 5 + natoms]], dtype=float)
    assert ((atoms[:, 1:4] >= 0) & (atoms[:, 1:4] <= 1)).all()
    count, kind = kept[5 + natoms].split()
    assert kind == "tensorial"
    table = np.array([x.split() for x in kept[6 + natoms :]], dtype=float)
    assert len(table) == int(count)
    known = {(*row[1:3], *row[3:6]) for row in table[:, :6].astype(int).tolist()}
    assert {(j, i, -x, -y, -z) for i, j, x, y, z in known} == known
    material = _materials(folder / words["material:file"])
    assert len(material) == nmaterials <= 100
    of = [material[int(m)] for m in atoms[:, 4]]
    axes = [floats(m["uniaxial-anisotropy-direction"]) for m in of]
    strength = [
        float(m["second-order-uniaxial-anisotropy-constant"].split()[0]) for m in of
    ]
    return Terms(
        box=length[:, None] * shape,
        place=atoms[:, 1:4],
        moment=np.array([float(m["atomic-spin-moment"].split("!")[0]) for m in of]),
        unit=1 / JOULE,
        rows=[
            (int(i), int(j), (int(x), int(y), int(z)), -np.reshape(value, (3, 3)) / 2)
            for _, i, j, x, y, z, *value in table
        ],
        onsite=np.array(
            [-k * np.outer(u, u) / (u @ u) for k, u in zip(strength, axes, strict=True)]
        ),
        comment=comment(ucf, "#"),
    )


def _materials(path):
    first, *rest = [x for x in lines(path) if x.strip()]
    found: list[dict[str, str]] = [{} for _ in range(int(first.split("=")[1]))]
    for line in rest:
        number, key, value = re.match(r"material\[(\d+)\]:(\S+) = (.+)", line).groups()
        found[int(number) - 1][key] = value
    return found


# --- Spirit ---------------------------------------------------------------------------


def spirit(folder):
    """E = -sum [J e.e + D.(e x e)] - sum K (u.e)^2 in meV, pairs once.

    https://github.com/spirit-code/spirit/blob/master/core/docs/Input.md
    """
    text = lines(folder / "input.cfg")
    words = {x.split()[0]: x.split()[1:] for x in text if x.strip()}
    at = text.index("bravais_vectors")
    box = np.array([floats(x) for x in text[at + 1 : at + 4]])
    at = text.index("basis")
    n = int(text[at + 1])
    assert words["hamiltonian"] == ["heisenberg_pairs"]
    assert words["lattice_constant"] == ["1.0"]
    rows = []
    for row in _columns(folder / words["interaction_pairs_file"][0]):
        i, j, *cell = (int(row[key]) for key in ("i", "j", "da", "db", "dc"))
        dmi = [float(row[f"Dij{x}"]) for x in "xyz"]
        matrix = float(row["Jij"]) * np.eye(3) + cross(dmi)
        rows.append((i, j, tuple(cell), -matrix))
    onsite = np.zeros((n, 3, 3))
    if "anisotropy_file" in words:
        for row in _columns(folder / words["anisotropy_file"][0]):
            axis = np.array([float(row[f"K{x}"]) for x in "xyz"])
            axis /= np.linalg.norm(axis)
            onsite[int(row["i"])] -= float(row["K"]) * np.outer(axis, axis)
    return Terms(
        box=box,
        place=np.array([floats(x) for x in text[at + 2 : at + 2 + n]]),
        moment=np.array(words["mu_s"], dtype=float),
        unit=1e-3,
        rows=rows,
        onsite=onsite,
        comment=comment(folder / "input.cfg", "#"),
    )


def _columns(path):
    head, *rest = lines(path)
    return [dict(zip(head.split(), x.split(), strict=True)) for x in rest]


# --- SpinW ----------------------------------------------------------------------------


def spinw(folder):
    """E = sum S J S + sum S A S in meV, bonds once, in axes with a along x, b in x, y.

    https://spinw.org/spinw/properties.html (`coupling`, `matrix`, `single_ion`), and
    ``swfiles/@spinw/energy.m`` of https://github.com/SpinW/spinw: M1' J M2 for each row
    of the list of bonds. The turn to these axes is not in the file: the caller's.
    """
    text = (folder / "spin_hamiltonian.m").read_text("utf-8")
    (a, b, c), (alpha, beta, gamma) = (
        floats(re.search(rf"'{key}', \[(.+?)\]", text)[1])
        for key in ("lat_const", "angle")
    )
    x = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    z = np.sqrt(np.sin(beta) ** 2 - x**2)
    box = np.array(
        [
            [a, 0, 0],
            [b * np.cos(gamma), b * np.sin(gamma), 0],
            [c * np.cos(beta), c * x, c * z],
        ]
    )
    atoms = re.findall(
        r"addatom\('r', \[(.+?)\], 'S', (\S+), \.\.\.\s+'label', '(\w+)'", text
    )
    assert int(re.search(r"natoms = (\d+);", text)[1]) == len(atoms)
    length = np.array([float(s) for _, s, _ in atoms])
    names = [label for _, _, label in atoms]
    bonds = floats(re.search(r"bonds = \[\n(.+?)\];", text, re.DOTALL)[1])
    bonds = bonds.reshape(-1, 15)
    assert "value = reshape(bonds(k, 7:15), 3, 3).';" in text  # rows first
    assert "'dl', int32(bonds(:, 1:3).')" in text
    assert "'atom1', int32(bonds(:, 4).'), 'atom2', int32(bonds(:, 5).')" in text
    matrices = {
        label: floats(value.replace(";", " ")).reshape(3, 3)
        for label, value in re.findall(
            r"addmatrix\('label', '(\w+)', 'value', \[(.+?)\]\);", text
        )
    }
    onsite = np.zeros((len(atoms), 3, 3))
    for label, atom in re.findall(r"addaniso\('(\w+)', '(\w+)'\)", text):
        onsite[names.index(atom)] += matrices[label]
    return Terms(
        box=box,
        place=np.array([floats(r) for r, _, _ in atoms]),
        moment=2 * length,
        unit=1e-3,
        rows=[
            (int(i) - 1, int(j) - 1, tuple(map(int, row[:3])), row[6:].reshape(3, 3))
            for row, i, j in zip(bonds, bonds[:, 3], bonds[:, 4], strict=True)
        ],
        onsite=onsite,
        length=length,
    )


# --- Sunny ----------------------------------------------------------------------------


def sunny(folder):
    """E = sum S J S + sum S A S in meV, each bond set once.

    https://github.com/SunnySuite/Sunny.jl: the docstrings of `Crystal`, `Moment`,
    `set_exchange!` ("a pairwise interaction energy S_i . J S_j") and
    `set_onsite_coupling!`; Julia's `reshape` goes down columns.
    """
    text = (folder / "spin_hamiltonian.jl").read_text("utf-8")
    latvecs = _julia(text, "latvecs")
    place = re.search(r"positions = \[(.+)\]", text)[1]
    place = np.array([floats(x) for x in re.findall(r"\[(.+?)\]", place)])
    length = floats(re.search(r"spins = \[(.+)\]", text)[1])
    assert (length * 2 == np.round(length * 2)).all() and (length > 0).all()
    assert "Crystal(latvecs, positions, 1; types)" in text
    assert ":dipole_uncorrected" in text
    bonds = _julia(text, "bonds")
    assert "i, j, n1, n2, n3 = Int.(row[1:5])" in text
    assert "permutedims(reshape(row[6:14], 3, 3)), Bond(i, j, [n1, n2, n3])" in text
    onsite = None
    if "onsite = [" in text:
        assert "A = permutedims(reshape(row, 3, 3))" in text
        onsite = _julia(text, "onsite").reshape(-1, 3, 3)
    return Terms(
        box=latvecs.T,
        place=place,
        moment=length * floats(re.search(r"gfactors = \[(.+)\]", text)[1]),
        unit=1e-3,
        rows=[
            (int(i) - 1, int(j) - 1, tuple(map(int, row[2:5])), row[5:].reshape(3, 3))
            for row, i, j in zip(bonds, bonds[:, 0], bonds[:, 1], strict=True)
        ],
        onsite=onsite,
        length=length,
    )


def _julia(text, name):
    """A matrix: rows end at line ends or semicolons."""
    inside = re.search(rf"{name} = \[(.+?)\]", text, re.DOTALL)[1]
    return np.array([floats(x) for x in re.split(r"[;\n]", inside) if x.strip()])


READERS = {
    "tb2j": tb2j_xml,
    "tb2j-out": tb2j_out,
    "uppasd": uppasd,
    "vampire": vampire,
    "spirit": spirit,
    "spinw": spinw,
    "sunny": sunny,
}


def read(name: str, folder: Path) -> Terms:
    """Read what was written for a program below a folder."""
    return READERS[name](folder / name.partition("-")[0])
