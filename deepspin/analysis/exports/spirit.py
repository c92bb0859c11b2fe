# SPDX-License-Identifier: Apache-2.0
"""Files of Spirit: an input, pairs and anisotropy.

References
----------
.. [1] G. P. Müller et al., Phys. Rev. B 99, 224414 (2019),
   https://doi.org/10.1103/PhysRevB.99.224414
.. [2] https://github.com/spirit-code/spirit/blob/master/core/docs/Input.md
"""

from __future__ import annotations

import numpy as np

from deepspin.analysis.exports.bonds import (
    MEV,
    Program,
    axes,
    cell,
    cells,
    comments,
    constant_line,
    fractional,
    integers,
    matters,
    numbers,
    one_way,
)
from deepspin.analysis.hamiltonian import SpinHamiltonian


def spirit_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write all files.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.
    """
    strength, axis, constant = axes(hamiltonian.anisotropy)
    heading = heading + constant_line(constant)
    once = one_way(hamiltonian.pairs)
    pairs = hamiltonian.pairs.take(once)
    exchange, dmi = hamiltonian.exchange[once] * MEV, hamiltonian.dmi[once] * MEV
    lines = comments("#", heading) + "i j da db dc Jij Dijx Dijy Dijz\n"
    for i, j, shift, value, vector in zip(
        pairs.first, pairs.second, pairs.shift, exchange, dmi, strict=True
    ):
        lines += f"{integers(i, j, *shift)} {value:.16e} {numbers(vector)}\n"
    uniaxial = comments("#", heading) + "i K Kx Ky Kz\n"
    for i, k in zip(*np.nonzero(strength), strict=True):
        uniaxial += f"{i} {-strength[i, k] * MEV:.16e} {numbers(axis[i, k])}\n"
    return {
        "input.cfg": _cfg(hamiltonian, heading, bool(np.any(strength))),
        "pairs.txt": lines,
        "anisotropy.txt": uniaxial,
    }


def spirit_limits(hamiltonian: SpinHamiltonian) -> list[str]:
    """Name what Spirit cannot have."""
    if not matters(hamiltonian, hamiltonian.symmetric):
        return []
    largest = np.abs(hamiltonian.symmetric).max() * MEV
    return [
        "Spirit's pairs have J and D only: the symmetric anisotropic exchange, up to "
        f"{largest:.4g} meV, is left out."
    ]


def _cfg(hamiltonian: SpinHamiltonian, heading: list[str], anisotropy: bool) -> str:
    sites = hamiltonian.sites
    text = comments("#", heading) + "bravais_vectors\n"
    text += "".join(f"{numbers(vector)}\n" for vector in cell(sites))
    text += f"lattice_constant 1.0\nbasis\n{sites.n}\n"
    text += "".join(f"{numbers(place)}\n" for place in fractional(sites))
    text += f"mu_s {numbers(sites.moment)}\n"
    text += f"n_basis_cells {integers(*cells(hamiltonian))}\n\n"
    text += f"hamiltonian heisenberg_pairs\nboundary_conditions {integers(*sites.pbc)}"
    text += "\nexternal_field_magnitude 0.0\nexternal_field_normal 0.0 0.0 1.0\n"
    text += "ddi_method none\ninteraction_pairs_file pairs.txt\n"
    return text + "anisotropy_file anisotropy.txt\n" * anisotropy


SPIRIT = Program(
    title="Spirit",
    sentence="`input.cfg`, `pairs.txt` and `anisotropy.txt`: run it in their folder",
    files=("input.cfg", "pairs.txt", "anisotropy.txt"),
    convention=(
        "E = - sum_{<ij>} [J e_i.e_j + D.(e_i x e_j)] - sum_i K (u.e_i)^2, in meV",
        "Each pair counts, and is listed, once. J > 0 is ferromagnetic, K > 0 an easy "
        "axis. e are unit vectors.",
    ),
    write=spirit_files,
    limits=spirit_limits,
)
