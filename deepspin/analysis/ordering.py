# SPDX-License-Identifier: Apache-2.0
r"""Ordering temperatures and stiffness of a Heisenberg model of unit vectors.

Mean field, classical spins: :math:`k_B T = \tfrac13 \max_q \lambda(q)` with the
largest eigenvalue of :math:`J_{ij}(q)`. The random-phase approximation (Tyablikov's,
in its classical limit the spherical model [1]_) takes away the spin waves:

.. math::

    1 = 3 k_B T\, \frac{1}{N_q} \sum_q \left[(\Lambda - J(q))^{-1}\right]_{ii}
    \quad \text{for each sublattice } i

with multipliers Λ_i for which the softest wave has no stiffness. Quantum spins of
length S order at (S + 1)/S times these temperatures (of energies J S² = J of unit
vectors), in both approximations.

References
----------
.. [1] T. H. Berlin and M. Kac, Phys. Rev. 86, 821 (1952),
   https://doi.org/10.1103/PhysRev.86.821
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepspin.analysis.cells import crystal
from deepspin.analysis.hamiltonian import SpinHamiltonian
from deepspin.analysis.magnons import mesh
from deepspin.atoms.units import K_B

# points along the longest reciprocal vector, of meshes that are extrapolated
POINTS = (8, 16, 32)
# the mean of a finer mesh changes by half as much as before in three dimensions, and
# by as much in two
SLOW = 0.8
# couplings below this part of the largest do not hold a crystal together
SMALL = 1e-6
# steps in search of the wave vector, each with a mesh of half the width
REFINEMENTS = 12
# two wave vectors order equally well if their λ differ by less than this part
EQUAL = 1e-6


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """How a Heisenberg model orders.

    Parameters
    ----------
    cell : np.ndarray, shape (3, 3); or None
        Lattice vectors of the crystal without its spins, in Å.
    wave_vector : np.ndarray, shape (3,)
        Of the order, in the reciprocal vectors of that cell; one of its star.
    mean_field, rpa : float
        Ordering temperatures of classical spins in K; `rpa` is 0 where fluctuations
        forbid order (chains and planes), and NaN where a mesh does not tell (planes
        that hardly know of each other, lines of soft waves).
    stiffness : np.ndarray, shape (3, 3)
        A in eV/Å: energy density A (∇e)² of a slow turn that all sites follow alike.
    dispersion : np.ndarray, shape (3, 3)
        D in eV Å², ħω = q D q of a ferromagnet; NaN for other states.
    """

    cell: np.ndarray | None
    wave_vector: np.ndarray
    mean_field: float
    rpa: float
    stiffness: np.ndarray
    dispersion: np.ndarray


def ordering(hamiltonian: SpinHamiltonian) -> Ordering:
    """Take ordering wave vector, temperatures and stiffness of isotropic couplings."""
    small = crystal(hamiltonian)
    wave, strength = wave_vector(small)
    stiffness, dispersion = _stiffness(hamiltonian)
    return Ordering(
        cell=small.sites.box,
        wave_vector=wave,
        mean_field=max(strength, 0.0) / (3 * K_B),
        rpa=_rpa(small, wave) if strength > 0 else 0.0,
        stiffness=stiffness,
        dispersion=dispersion,
    )


def _strength(hamiltonian: SpinHamiltonian, q: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(hamiltonian.fourier(q))[:, -1]


def wave_vector(hamiltonian: SpinHamiltonian) -> tuple[np.ndarray, float]:
    """Where the largest eigenvalue of J(q) is, and its value in eV.

    Returns
    -------
    np.ndarray, shape (3,)
        Wave vector in the reciprocal vectors of the cell, of those of a star one.
    float
        The eigenvalue.
    """
    pbc = hamiltonian.sites.pbc
    # even: has the points at the zone's border
    axes = [np.arange(-6, 6) / 12 if p else np.zeros(1) for p in pbc]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    values = _strength(hamiltonian, grid)
    width = 1 / 24
    # prefer the shortest of equals
    best = grid[np.lexsort((np.abs(grid).sum(axis=1), -np.round(values, 12)))[0]]
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1)
    steps = steps.reshape(-1, 3) * pbc
    for _ in range(REFINEMENTS):
        near = best + width * steps
        values = _strength(hamiltonian, near)
        middle = _strength(hamiltonian, best[None])[0]
        if values.max() > middle * (1 + 1e-12):
            best = near[values.argmax()]
        else:
            width /= 2
    return best, float(_strength(hamiltonian, best[None])[0])


# --- Random phases --------------------------------------------------------------------


def _rpa(hamiltonian: SpinHamiltonian, wave: np.ndarray) -> float:
    """Ordering temperature of classical spins in K, from two meshes to infinity."""
    if not hamiltonian.sites.pbc.all() or _flat(hamiltonian):
        return 0.0
    means = [_mean_inverse(hamiltonian, wave, _mesh_of(hamiltonian, n)) for n in POINTS]
    steps = np.diff(means)
    if steps[-1] > SLOW * steps[-2]:
        return np.nan
    # the error of a mesh that leaves out 1/q² goes with its width
    return float(1 / (3 * K_B * (2 * means[-1] - means[-2])))


def _flat(hamiltonian: SpinHamiltonian) -> bool:
    """Whether couplings do not hold the crystal together in three directions."""
    j = np.abs(hamiltonian.exchange)
    apart = hamiltonian.pairs.vectors(hamiltonian.sites)
    apart = apart[j > SMALL * j.max(initial=0.0)]
    spread = np.linalg.svd(apart, compute_uv=False) if len(apart) else np.zeros(3)
    return len(spread) < 3 or bool(spread[2] < SMALL * spread[0])


def _mesh_of(hamiltonian: SpinHamiltonian, points: int) -> np.ndarray:
    """Numbers of points that are about as dense in all directions."""
    cells = hamiltonian.sites.translation(np.eye(3))
    length = np.linalg.norm(np.linalg.inv(cells), axis=0)
    # of both meshes in the same proportion
    ratio = np.maximum(np.rint(POINTS[0] * length / length.max()), 2)
    return (ratio * (points // POINTS[0])).astype(int)


def _mean_inverse(
    hamiltonian: SpinHamiltonian, wave: np.ndarray, number: np.ndarray
) -> float:
    """Mean of [(Λ - J(q))^-1]_ii, the same on each sublattice, in 1/eV."""
    q = mesh(number.tolist(), hamiltonian.sites.pbc) + wave
    j, soft = hamiltonian.fourier(q), hamiltonian.fourier(wave[None])[0]
    weight = np.abs(np.linalg.eigh(soft)[1][:, -1])
    weight = np.maximum(weight, 1e-3 * weight.max())
    means = np.zeros(len(weight))
    for _ in range(200):
        shift = _multipliers(soft, weight)
        inverse = np.linalg.inv(shift * np.eye(len(weight)) - j)
        means = np.diagonal(inverse, axis1=1, axis2=2).real.mean(axis=0)
        if means.max() - means.min() < 1e-8 * means.max():
            break
        weight = weight * (means.mean() / means) ** 0.5
    return float(means.mean())


def _multipliers(soft: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Λ for which the softest wave, of these amplitudes, costs nothing."""
    phases = np.linalg.eigh(soft)[1][:, -1]
    phases = phases / np.where(np.abs(phases) > 0, np.abs(phases), 1.0)
    amplitude = weight * np.where(phases == 0, 1.0, phases)
    return ((soft @ amplitude) / amplitude).real


# --- Stiffness ------------------------------------------------------------------------


def _stiffness(hamiltonian: SpinHamiltonian) -> tuple[np.ndarray, np.ndarray]:
    """A and D, see `Ordering`."""
    sites, pairs = hamiltonian.sites, hamiltonian.pairs
    if sites.box is None:
        return np.full((3, 3), np.nan), np.full((3, 3), np.nan)
    apart = pairs.vectors(sites)
    e = sites.direction
    relation = (e[pairs.first] * e[pairs.second]).sum(axis=1)
    weight = hamiltonian.exchange * relation
    moments = np.einsum("p,pa,pb->ab", weight, apart, apart)
    stiffness = moments / (4 * abs(np.linalg.det(sites.box)))
    parallel = np.allclose(relation, 1.0, atol=1e-6)
    dispersion = moments / sites.moment.sum()
    return stiffness, dispersion if parallel else np.full((3, 3), np.nan)
