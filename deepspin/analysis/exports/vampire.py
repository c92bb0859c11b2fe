# SPDX-License-Identifier: Apache-2.0
"""Files of Vampire: a unit cell file, its materials and an input.

References
----------
.. [1] R. F. L. Evans et al., J. Phys.: Condens. Matter 26, 103202 (2014),
   https://doi.org/10.1088/0953-8984/26/10/103202
.. [2] https://github.com/richard-evans/vampire, ``manual``: "Unit Cell Files" and
   "Material File Command Reference"
"""

from __future__ import annotations

import numpy as np

from deepspin.analysis.exports.bonds import (
    JOULE,
    MEV,
    Program,
    axes,
    cell,
    cells,
    comments,
    constant_line,
    element,
    fractional,
    integers,
    matters,
    numbers,
)
from deepspin.analysis.hamiltonian import SpinHamiltonian
from deepspin.utils.refused import InputError

MOST_MATERIALS = 100
# cosines of the angles between lattice vectors and x, y and z, within which they agree
ALONG = 1e-6


def vampire_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write all files.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.

    Raises
    ------
    InputError
        There are more kinds of sites than Vampire has materials.
    """
    sites = hamiltonian.sites
    strength, axis, constant = axes(hamiltonian.anisotropy)
    # sites with the same type, moment, direction and anisotropy are one material
    rows = [
        (name, *np.round([m, *e, k, *u], 12).tolist())
        for name, m, e, k, u in zip(
            sites.names,
            sites.moment,
            sites.direction,
            strength[:, 0] * MEV,
            axis[:, 0],
            strict=True,
        )
    ]
    kinds = {row: rows.index(row) for row in dict.fromkeys(rows)}
    if len(kinds) > MOST_MATERIALS:
        raise InputError(
            f"Vampire has at most {MOST_MATERIALS} materials, and there are "
            f"{len(kinds)} kinds of sites by type, moment, direction and anisotropy. "
            "Export a smaller cell."
        )
    number = {row: k for k, row in enumerate(kinds)}
    heading = heading + constant_line(constant)
    return {
        "vampire.ucf": _ucf(hamiltonian, heading, [number[row] for row in rows]),
        "vampire.mat": _mat(hamiltonian, heading, list(kinds.values())),
        "input": _input(hamiltonian, heading),
    }


def vampire_limits(hamiltonian: SpinHamiltonian) -> list[str]:
    """Name what Vampire cannot have."""
    found = []
    second = axes(hamiltonian.anisotropy)[0][:, 1]
    if matters(hamiltonian, second):
        found.append(
            "Vampire's anisotropy has one axis a site: the weaker one of biaxial "
            f"sites, up to {np.abs(second).max() * MEV:.4g} meV, is left out."
        )
    shape = _shape(hamiltonian)[1]
    if np.abs(shape - np.eye(3)).max() > ALONG:
        found.append(
            "Vampire draws cells with right angles along x, y and z: energies hold, "
            "positions and dipole fields do not."
        )
    return found


def _shape(hamiltonian: SpinHamiltonian) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the lattice vectors in Å, (3,), and their directions, (3, 3)."""
    box = cell(hamiltonian.sites)
    length = np.linalg.norm(box, axis=1)
    return length, box / length[:, None]


def _ucf(hamiltonian: SpinHamiltonian, heading: list[str], material: list[int]) -> str:
    pairs = hamiltonian.pairs
    length, shape = _shape(hamiltonian)
    text = comments("#", heading)
    text += f"# Unit cell size (Angstrom):\n{numbers(length)}\n"
    text += "# Unit cell lattice vectors:\n"
    text += "".join(f"{numbers(vector)}\n" for vector in shape)
    # versions differ in which of the last numbers chooses the material: both are it
    text += "# Atoms: number, materials; id, place, material, category, height\n"
    text += f"{integers(len(material), max(material) + 1)}\n"
    for k, place in enumerate(fractional(hamiltonian.sites)):
        text += f"{k} {numbers(place)} {material[k]} {material[k]} 0\n"
    text += "# Interactions: number, kind; id, i, j, cell of j, Jxx Jxy ... Jzz (J)\n"
    text += f"{len(pairs)} tensorial\n"
    rows = zip(pairs.first, pairs.second, pairs.shift, hamiltonian.tensor, strict=True)
    return text + "".join(
        f"{integers(k, i, j, *shift)} {numbers(tensor * JOULE)}\n"
        for k, (i, j, shift, tensor) in enumerate(rows)
    )


def _mat(hamiltonian: SpinHamiltonian, heading: list[str], sites: list[int]) -> str:
    """Materials, each as the site of a number."""
    known = hamiltonian.sites
    strength, axis, _ = axes(hamiltonian.anisotropy)
    text = f"material:num-materials = {len(sites)}\n" + comments("#", heading)
    for k, site in enumerate(sites, start=1):
        values = {
            "material-name": f"{known.names[site]}-{k}",
            "material-element": element(known.names[site]),
            "atomic-spin-moment": f"{known.moment[site]:.16e} !muB",
            "damping-constant": "1.0",
            "second-order-uniaxial-anisotropy-constant": numbers(
                -strength[site, 0] * JOULE
            ),
            "uniaxial-anisotropy-direction": numbers(axis[site, 0], ","),
            "initial-spin-direction": numbers(known.direction[site], ","),
            "unit-cell-category": str(k),
        }
        text += f"# Material {k}\n"
        text += "".join(f"material[{k}]:{key} = {v}\n" for key, v in values.items())
    return text


def _input(hamiltonian: SpinHamiltonian, heading: list[str]) -> str:
    length, _ = _shape(hamiltonian)
    text = comments("#", heading) + "create:full\n"
    for axis, periodic in zip("xyz", hamiltonian.sites.pbc, strict=True):
        if periodic:
            text += f"create:periodic-boundaries-{axis}\n"
    text += "material:file = vampire.mat\nmaterial:unit-cell-file = vampire.ucf\n"
    # Vampire rounds up to whole cells
    for axis, size in zip("xyz", (cells(hamiltonian) - 0.01) * length, strict=True):
        text += f"dimensions:system-size-{axis} = {size:.6f} !A\n"
    text += "# from here on: an example\n"
    text += "sim:temperature = 0\nsim:time-step = 0.1 !fs\n"
    text += "sim:time-steps-increment = 100\nsim:total-time-steps = 1000\n"
    text += "sim:program = time-series\nsim:integrator = llg-heun\n"
    return text + "output:time-steps\noutput:magnetisation-length\n"


VAMPIRE = Program(
    title="Vampire",
    sentence="`vampire.ucf` with tensors, `vampire.mat` and `input`",
    files=("vampire.ucf", "vampire.mat", "input"),
    convention=(
        "E = - 1/2 sum_{i != j} e_i.J.e_j - sum_i K (e_i.u)^2, in J",
        "Pairs are listed as i,j and as j,i, and with the 1/2 each counts once. J > 0 "
        "is ferromagnetic, K > 0 an easy axis. e are unit vectors.",
    ),
    write=vampire_files,
    limits=vampire_limits,
)
