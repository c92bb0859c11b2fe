# SPDX-License-Identifier: Apache-2.0
"""A script of Sunny, in Julia.

References
----------
.. [1] D. Dahlbom et al., J. Open Source Softw. 10, 8138 (2025),
   https://doi.org/10.21105/joss.08138
.. [2] https://sunnysuite.github.io/Sunny.jl/stable/library.html (`Crystal`, `Moment`,
   `System`, `set_exchange!`, `set_onsite_coupling!`)
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
    matters,
    numbers,
    one_way,
)
from deepspin.analysis.hamiltonian import SpinHamiltonian

SYSTEM = """\
# space group 1: symmetry is in the numbers already
cryst = Crystal(latvecs, positions, 1; types)
moments = [i => Moment(s=spins[i], g=gfactors[i]) for i in eachindex(spins)]
sys = System(cryst, moments, :dipole_uncorrected; dims=(1, 1, 1))
"""

# bonds: columns 1-2 sites, 3-5 cell of the second, 6-14 matrix by rows
BONDS = """\
for row in eachrow(bonds)
    i, j, n1, n2, n3 = Int.(row[1:5])
    set_exchange!(sys, permutedims(reshape(row[6:14], 3, 3)), Bond(i, j, [n1, n2, n3]))
end
"""

# onsite: columns 1-9 matrix by rows
ONSITE = """\
for (i, row) in enumerate(eachrow(onsite))
    A = permutedims(reshape(row, 3, 3))
    set_onsite_coupling!(sys, S -> sum(A[a, b] * S[a] * S[b] for a in 1:3, b in 1:3), i)
end
"""

DIRECTIONS = """\
for (i, row) in enumerate(eachrow(directions))
    set_dipole!(sys, row, (1, 1, 1, i))
end
"""


def sunny_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write the script, which leaves its object in the variable ``sys``.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.
    """
    sites = hamiltonian.sites
    spin = _spins(sites.moment)
    places = ", ".join(f"[{numbers(place, ', ')}]" for place in fractional(sites))
    types = ", ".join(f'"{name}"' for name in sites.names)
    text = comments("#", heading) + "using Sunny\n\n"
    text += _matrix("latvecs", cell(sites).T)
    text += f"positions = [{places}]\ntypes = [{types}]\n"
    text += f"spins = [{', '.join(f'{s:.1f}' for s in spin)}]\n"
    text += f"gfactors = [{numbers(sites.moment / spin, ', ')}]\n{SYSTEM}\n"
    once = one_way(hamiltonian.pairs)
    pairs = hamiltonian.pairs.take(once)
    scale = -MEV / (spin[pairs.first] * spin[pairs.second])
    text += "bonds = [\n"
    for i, j, shift, value in zip(
        pairs.first,
        pairs.second,
        pairs.shift,
        hamiltonian.tensor[once] * scale[:, None, None],
        strict=True,
    ):
        text += f"{integers(i + 1, j + 1, *shift)} {numbers(value)}\n"
    text += f"]\n{BONDS}\n"
    if matters(hamiltonian, hamiltonian.anisotropy):
        onsite = hamiltonian.anisotropy * MEV / spin[:, None, None] ** 2
        text += _matrix("onsite", onsite.reshape(-1, 9)) + ONSITE + "\n"
    text += _matrix("directions", sites.direction) + DIRECTIONS
    return {"spin_hamiltonian.jl": text}


def _spins(moment: np.ndarray) -> np.ndarray:
    """The multiple of 1/2 that is nearest to half the moment; Sunny takes no others."""
    return np.maximum(np.round(moment), 1) / 2


def _matrix(name: str, values: np.ndarray) -> str:
    """A matrix of Julia, with several columns."""
    return f"{name} = [{'; '.join(numbers(row) for row in values)}]\n"


SUNNY = Program(
    title="Sunny",
    sentence="`spin_hamiltonian.jl`, a script in Julia",
    files=("spin_hamiltonian.jl",),
    convention=(
        "E = sum_{<ij>} S_i.J.S_j + sum_i S_i.A.S_i, in meV",
        "Each pair counts, and is listed, once. J > 0 is antiferromagnetic, A < 0 an "
        "easy axis.",
        "S is the multiple of 1/2 nearest to moment / 2, as Sunny has no others, and g "
        "= moment / S: energies and moments are exact, while magnon energies are those "
        "of this S and not of moment / 2.",
        "Mode :dipole_uncorrected has classical vectors, so A is not scaled.",
    ),
    write=sunny_files,
    limits=has_all,
)
