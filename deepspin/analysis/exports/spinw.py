# SPDX-License-Identifier: Apache-2.0
"""A script of SpinW, in MATLAB.

References
----------
.. [1] S. Tóth and B. Lake, J. Phys.: Condens. Matter 27, 166002 (2015),
   https://doi.org/10.1088/0953-8984/27/16/166002
.. [2] https://spinw.org/spinw/properties.html (`coupling`, `matrix`), and the methods
   `genlattice`, `addatom`, `addmatrix`, `addaniso` and `genmagstr`
"""

from __future__ import annotations

import numpy as np

from deepspin.analysis.exports.bonds import (
    MEV,
    Program,
    cell,
    comments,
    fractional,
    has_all,
    integers,
    labels,
    matters,
    numbers,
    one_way,
)
from deepspin.analysis.hamiltonian import SAME_SHELL, SpinHamiltonian

# bonds: columns 1-3 cell of the second, 4-5 sites, 6 shell, 7-15 matrix by rows
BONDS = """\
n = size(bonds, 1);
for k = 1:n
    value = reshape(bonds(k, 7:15), 3, 3).';
    model.addmatrix('label', sprintf('J%d', k), 'value', value);
end
model.coupling = struct('dl', int32(bonds(:, 1:3).'), ...
    'atom1', int32(bonds(:, 4).'), 'atom2', int32(bonds(:, 5).'), ...
    'mat_idx', int32([1:n; zeros(2, n)]), 'idx', int32(bonds(:, 6).'), ...
    'type', int32(zeros(3, n)), 'sym', int32(zeros(3, n)), 'rdip', 0, ...
    'nsym', int32(0));
model.single_ion.aniso = int32(zeros(1, natoms));
model.single_ion.g = int32(zeros(1, natoms));
"""


def spinw_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write the script, which leaves its object in the variable ``model``.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.
    """
    sites = hamiltonian.sites
    turn, length, angle = spinw_axes(cell(sites))
    spin = sites.moment / 2
    text = comments("%", heading) + "model = spinw;\n"
    text += f"model.genlattice('lat_const', [{numbers(length)}], ...\n"
    text += f"    'angle', [{numbers(angle)}]);\n"
    name = labels(sites)
    for label, place, s in zip(name, fractional(sites), spin.tolist(), strict=True):
        text += f"model.addatom('r', [{numbers(place)}], 'S', {s:.16e}, ...\n"
        text += f"    'label', '{label}', 'color', 'gold');\n"
    text += f"natoms = {sites.n};\n{_bonds(hamiltonian, turn)}{BONDS}"
    if matters(hamiltonian, hamiltonian.anisotropy):
        matrix = turn @ hamiltonian.anisotropy @ turn.T * MEV / spin[:, None, None] ** 2
        for label, value in zip(name, matrix, strict=True):
            rows = "; ".join(numbers(row) for row in value)
            text += f"model.addmatrix('label', 'A_{label}', 'value', [{rows}]);\n"
            text += f"model.addaniso('A_{label}', '{label}');\n"
    directions = "; ".join(numbers(row) for row in turn @ sites.direction.T)
    text += f"model.genmagstr('mode', 'direct', 'k', [0 0 0], 'S', [{directions}]);\n"
    return {"spin_hamiltonian.m": text + "spinw.validate(model);\n"}


def spinw_axes(box: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SpinW's x, y and z: a is along x, b in the plane of x and y.

    Parameters
    ----------
    box : np.ndarray, shape (3, 3)
        Lattice vectors in Å.

    Returns
    -------
    turn : np.ndarray, shape (3, 3)
        Orthogonal matrix R that takes vectors to these axes, R v; of determinant -1
        where the lattice vectors are left-handed.
    length : np.ndarray, shape (3,)
        Of the lattice vectors, in Å.
    angle : np.ndarray, shape (3,)
        Between b and c, a and c, a and b, in radian.
    """
    orthogonal, upper = np.linalg.qr(box.T)
    turn = (orthogonal * np.sign(np.diag(upper))).T
    length = np.linalg.norm(box, axis=1)
    unit = box / length[:, None]
    pairs = [(1, 2), (0, 2), (0, 1)]
    return turn, length, np.array([np.arccos(unit[i] @ unit[j]) for i, j in pairs])


def _bonds(hamiltonian: SpinHamiltonian, turn: np.ndarray) -> str:
    """Table of the bonds, in meV of vectors S."""
    once = one_way(hamiltonian.pairs)
    pairs = hamiltonian.pairs.take(once)
    spin = hamiltonian.sites.moment / 2
    scale = -MEV / (spin[pairs.first] * spin[pairs.second])
    matrix = turn @ hamiltonian.tensor[once] @ turn.T * scale[:, None, None]
    length = np.linalg.norm(pairs.vectors(hamiltonian.sites), axis=1)
    shell = 1 + np.cumsum(np.diff(length, prepend=length[0]) > SAME_SHELL)
    text = "bonds = [\n"
    for shift, i, j, k, value in zip(
        pairs.shift, pairs.first, pairs.second, shell, matrix, strict=True
    ):
        text += f"{integers(*shift, i + 1, j + 1, k)} {numbers(value)}\n"
    return text + "];\n"


SPINW = Program(
    title="SpinW",
    sentence="`spin_hamiltonian.m`, a script in MATLAB",
    files=("spin_hamiltonian.m",),
    convention=(
        "E = sum_{<ij>} S_i.J.S_j + sum_i S_i.A.S_i, in meV",
        "Each pair counts, and is listed, once. J > 0 is antiferromagnetic, A < 0 an "
        "easy axis. S = moment / 2 is the length of the vectors (g = 2).",
        "Matrices are in SpinW's axes: a is along x, b in the plane of x and y.",
    ),
    write=spinw_files,
    limits=has_all,
)
