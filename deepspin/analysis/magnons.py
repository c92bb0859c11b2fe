# SPDX-License-Identifier: Apache-2.0
r"""Linear spin waves about any state of a cell that repeats.

A site of moment m (μ_B, g = 2) has the angular momentum :math:`\hbar m/2`. With its
deviations x, y across the spin, and K of `deepspin.analysis.hamiltonian.Curvature`,

.. math::

    \tfrac{\hbar m_i}{2}\, \dot x_i = (K z)_{y_i}, \qquad
    \tfrac{\hbar m_i}{2}\, \dot y_i = -(K z)_{x_i}

so that :math:`\hbar\omega` are the eigenvalues of :math:`i \Omega K(q)` with
:math:`\Omega = \begin{pmatrix} 0 & 2/m \\ -2/m & 0 \end{pmatrix}`. This is linear
spin-wave theory with S = m/2 (T. Holstein and H. Primakoff, Phys. Rev. 58, 1098
(1940), https://doi.org/10.1103/PhysRev.58.1098), collinear or not, without zero-point
corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepspin.analysis.hamiltonian import Curvature, Sites
from deepspin.utils.refused import InputError

# of the largest energy, below which an imaginary or negative one is rounding
ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Magnons:
    """Energies of spin waves.

    Parameters
    ----------
    q : np.ndarray, shape (nq, 3)
        Wave vectors in the reciprocal vectors of the cell.
    energy : np.ndarray, shape (nq, n)
        ħω in eV, rising; of an unstable mode minus the modulus of the imaginary part.
    stable : np.ndarray of bool, shape (nq,)
        Whether the energy rises whatever the wave.
    """

    q: np.ndarray
    energy: np.ndarray
    stable: np.ndarray


def magnons(
    curvature: Curvature, q: np.ndarray, moment: np.ndarray | None = None
) -> Magnons:
    """Take energies of spin waves.

    Parameters
    ----------
    curvature : Curvature
        Second derivatives about a stationary state.
    q : np.ndarray, shape (nq, 3)
        Wave vectors in the reciprocal vectors of the cell.
    moment : np.ndarray, shape (n,), optional
        Moments in μ_B whose angular momentum precesses; those of the sites otherwise.

    Returns
    -------
    Magnons
        As many modes as sites at each wave vector.
    """
    q = np.atleast_2d(np.asarray(q, dtype=float))
    n = curvature.sites.n
    spin = (curvature.sites.moment if moment is None else moment) / 2
    matrix = curvature.fourier(q).reshape(len(q), 2 * n, 2 * n)
    lowest = np.linalg.eigvalsh(matrix)[:, 0]
    scale = np.abs(matrix).max()
    omega = np.zeros((n, 2, n, 2))
    each = np.arange(n)
    omega[each, 0, each, 1], omega[each, 1, each, 0] = 1 / spin, -1 / spin
    values = np.linalg.eigvals(1j * omega.reshape(2 * n, 2 * n) @ matrix)
    return Magnons(
        q=q, energy=_modes(values), stable=lowest > -ROUNDING * max(scale, 1e-300)
    )


def _modes(values: np.ndarray) -> np.ndarray:
    """Half of the eigenvalues: those of positive norm; unstable ones as negative."""
    half = values.shape[1] // 2
    size = np.abs(values).max(initial=1e-300)
    unstable = np.abs(values.imag) > ROUNDING**0.5 * size
    shown = np.where(unstable, -np.abs(values), values.real)
    # unstable ones come in pairs, ±i, of which one is kept; of others the upper half
    order = np.argsort(np.where(unstable, -np.inf, shown), axis=1, kind="stable")
    kept = np.take_along_axis(shown, order, axis=1)[:, half:]
    count = unstable.sum(axis=1) // 2
    for k in np.flatnonzero(count):
        grown = np.sort(shown[k, unstable[k]])[::2]
        rest = np.sort(shown[k, ~unstable[k]])
        kept[k] = np.concatenate([grown, rest[len(rest) - (half - count[k]) :]])
    return np.sort(kept, axis=1)


# --- Where ---------------------------------------------------------------------------


def mesh(number: Sequence[int], pbc: np.ndarray) -> np.ndarray:
    """Wave vectors of a regular mesh that keeps away from 0, (nq, 3)."""
    axes = [
        (np.arange(k) + 0.5) / k if periodic else np.zeros(1)
        for k, periodic in zip(number, pbc, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def check_stationary(sites: Sites, torque: np.ndarray, most: float) -> None:
    """Refuse a state that turns by itself.

    Parameters
    ----------
    sites : Sites
        Magnetic atoms.
    torque : np.ndarray, shape (n, 3)
        See `Curvature`.
    most : float
        Largest magnetic force across a spin that is taken for 0, in eV/μ_B.

    Raises
    ------
    InputError
        It does.
    """
    push = np.linalg.norm(torque, axis=1) / sites.moment
    if push.max() > most:
        raise InputError(
            f"The state is not stationary: magnetic forces across the spins up to "
            f"{push.max():.3g} eV/μ_B (site {push.argmax()}, {most:g} allowed), and "
            "spin waves are those about a state at rest. Relax it with `dp-spin "
            "relax`, or allow for more with --tmax."
        )


def density(energy: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Density of states of a mesh, smoothed over 1.5 % of the width of the bands.

    Parameters
    ----------
    energy : np.ndarray, shape (nq, n)
        In eV.
    points : int
        Number of energies.

    Returns
    -------
    np.ndarray, shape (points,)
        Energies in eV, from 0 on.
    np.ndarray, shape (points,)
        States per eV and cell.
    """
    top = max(energy.max(), 1e-300)
    width = 0.015 * top
    grid = np.linspace(0, top + 3 * width, points)
    # a fine histogram first: there may be many wave vectors
    count, edges = np.histogram(energy, bins=20 * points, range=(0, grid[-1]))
    middle = (edges[1:] + edges[:-1]) / 2
    used = count > 0
    shape = np.exp(-(((grid[:, None] - middle[used]) / width) ** 2) / 2)
    return grid, shape @ count[used] / (len(energy) * width * np.sqrt(2 * np.pi))
