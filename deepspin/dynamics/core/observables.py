# SPDX-License-Identifier: Apache-2.0
"""What a run measures at one instant, for each replica: energies, temperatures, spins.

`deepspin.atoms.waves` has the order of the spins.
"""

from __future__ import annotations

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.fields import Fields
from deepspin.dynamics.core.sphere import cross, modulus_of
from deepspin.dynamics.core.state import State

# shift of spins, relative to their moduli, that shows how magnetic forces change
SHIFT = 1e-3


def kinetic_energy(state: State) -> np.ndarray:
    """Kinetic energy of the atoms in eV, shape (nrep,)."""
    square = (state.velocity**2).sum(axis=2)
    return units.AMU / 2 * (square * state.mass).sum(axis=1)


def lattice_temperature(state: State) -> np.ndarray:
    """Temperature in K, shape (nrep,), from the kinetic energy of what may move.

    0 where nothing may.
    """
    return 2 * kinetic_energy(state) / (units.K_B * max(state.dof, 1))


def volume(state: State) -> np.ndarray:
    """Volume of the cell in Å³, shape (nrep,)."""
    return np.abs(np.linalg.det(state.box))


def pressure(state: State, virial: np.ndarray) -> np.ndarray:
    r"""Pressure in GPa, shape (nrep,), at this instant and at fixed spins.

    .. math:: p = (N k_B T + \mathrm{tr}\, W/3)/V

    with the temperature T of what may move: a centre of mass at rest counts as if it
    had its share.

    Parameters
    ----------
    state : State
        Atoms in a cell.
    virial : np.ndarray, shape (nrep, 3, 3)
        In eV, as `deepspin.keys.VIRIAL`: the derivative leaves spins as they are.
    """
    kinetic = state.nloc * units.K_B * lattice_temperature(state)
    trace = np.trace(virial, axis1=1, axis2=2)
    return units.GPA * (kinetic + trace / 3) / volume(state)


def spin_kinetic_energy(state: State, spin_mass: np.ndarray) -> np.ndarray:
    """Kinetic energy in eV, shape (nrep,), of spins whose moduli move.

    `spin_mass`, shape (nloc,), is in eV fs²/μ_B².
    """
    square = (state.spin_velocity**2).sum(axis=2)
    return (square * spin_mass).sum(axis=1) / 2


def spin_kinetic_temperature(state: State, spin_mass: np.ndarray) -> np.ndarray:
    """Temperature in K, shape (nrep,), from the kinetic energy of the spins."""
    dof = 3 * max(np.count_nonzero(spin_mass), 1)
    return 2 * spin_kinetic_energy(state, spin_mass) / (units.K_B * dof)


def spin_temperature(
    spin: np.ndarray, force_mag: np.ndarray, curvature: float | np.ndarray = 0.0
) -> np.ndarray:
    r"""Temperature of the spins from their directions and magnetic forces.

    .. math::

        k_B T = \frac{\sum |S \times F_\mathrm{mag}|^2}{\sum
        (2 S \cdot F_\mathrm{mag} + |S|^2 \mathrm{tr}_\perp \partial^2 E/\partial S^2)}

    The canonical averages of both sums give the temperature exactly: the lower one is
    the Laplacian of the energy on the spheres. Energies linear in each spin (exchange,
    fields) have no second term; all others have, such as models, which know what a
    modulus costs. One instant of a small system scatters widely: average numerator and
    denominator.

    Parameters
    ----------
    spin, force_mag : np.ndarray, shape (nrep, nloc, 3)
        In μ_B and eV/μ_B, both of the same instant.
    curvature : np.ndarray, shape (nrep,); or 0
        The second term of the lower sum in eV, see `spin_curvature`.

    Returns
    -------
    np.ndarray
        In K, shape (nrep,); infinite or negative for spins against their fields, NaN
        without any.

    References
    ----------
    .. [1] W. B. Nurdin, K.-D. Schotte, Phys. Rev. E 61, 3579 (2000).
    """
    torque = np.cross(spin, force_mag)
    above = (torque**2).sum(axis=(1, 2))
    below = 2 * (spin * force_mag).sum(axis=(1, 2)) + curvature
    with np.errstate(divide="ignore", invalid="ignore"):
        return above / below / units.K_B


def spin_curvature(fields: Fields, state: State, force_mag: np.ndarray) -> np.ndarray:
    r"""Curvature of the energy in the directions of the spins, at one evaluation.

    :math:`\sum |S|^2 \mathrm{tr}_\perp \partial^2 E/\partial S^2` without bias, from
    magnetic forces at spins shifted a little, each in a direction drawn from
    those across it (Hutchinson's estimate of a trace). What depends on moduli alone is
    exact; the coupling of spins scatters around 0.

    Parameters
    ----------
    fields : Fields
        The Hamiltonian.
    state : State
        Positions, spins, and what the draws depend on: streams and step.
    force_mag : np.ndarray, shape (nrep, nloc, 3)
        Magnetic forces of the state, in eV/μ_B.

    Returns
    -------
    np.ndarray
        In eV, shape (nrep,).
    """
    spin = state.spin
    across = cross(state.normals("spin temperature"), spin)
    across *= np.sqrt(2) * modulus_of(spin) / modulus_of(across)
    found = fields(state.coord, spin + SHIFT * across, state.time)
    return (across * (force_mag - found.force_mag)).sum(axis=(1, 2)) / SHIFT


def magnetisation(state: State, ntypes: int) -> np.ndarray:
    """Mean spin of the atoms of each type in μ_B, shape (nrep, ntypes, 3).

    Its modulus is the type's magnetisation; 0 for types without atoms.
    """
    members = np.eye(ntypes)[state.atype]
    number = np.maximum(members.sum(axis=0), 1.0)
    return np.einsum("rix,it->rtx", state.spin, members) / number[:, None]


def mean_modulus(state: State, ntypes: int) -> np.ndarray:
    """Mean modulus of the spins of each type in μ_B, shape (nrep, ntypes)."""
    members = np.eye(ntypes)[state.atype]
    modulus = np.linalg.norm(state.spin, axis=2)
    return modulus @ members / np.maximum(members.sum(axis=0), 1.0)


def momentum(state: State) -> np.ndarray:
    """Momentum in eV fs/Å, shape (nrep, 3)."""
    return units.AMU * (state.velocity * state.mass[:, None]).sum(axis=1)


def angular_momentum(state: State) -> np.ndarray:
    r"""Angular momentum of atoms and spins in eV fs, shape (nrep, 3).

    :math:`\sum R \times P - (\hbar/2) S`: an electron's spin is opposite to its moment.
    Kept by a cluster without field and anisotropy.
    """
    orbital = np.cross(state.coord, state.velocity) * state.mass[:, None]
    return (units.AMU * orbital - state.spin / units.PRECESSION).sum(axis=1)
