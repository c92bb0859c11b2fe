# SPDX-License-Identifier: Apache-2.0
"""Hamiltonians with known answers, in place of a model."""

import numpy as np

from deepspin.dynamics.core.fields import Response, Zeeman
from deepspin.dynamics.core.state import State


def free(coord, spin, time=0.0):
    """Nothing acts on anything."""
    return Response(np.zeros(len(coord)), np.zeros_like(coord), np.zeros_like(spin))


def wells(k):
    """Each atom is bound to its place: E = k/2 sum R^2, k in eV/Å^2."""

    def fields(coord, spin, time=0.0):
        energy = k / 2 * (coord**2).sum(axis=(1, 2))
        return Response(energy, -k * coord, np.zeros_like(spin))

    return fields


def exchange(matrix):
    """E = -1/2 sum J_ij S_i.S_j, J symmetric, in eV/μ_B^2."""

    def fields(coord, spin, time=0.0):
        push = (matrix[None, :, :, None] * spin[:, None]).sum(axis=2)
        energy = -(spin * push).sum(axis=(1, 2)) / 2
        return Response(energy, np.zeros_like(coord), push)

    return fields


class Cluster:
    """Eight atoms on a cube, springs (not harmonic) and exchange that depends on R.

    E = sum_bonds k d^2/2 - 0.8 k d^3 + k d^4 - J exp(-a d) S_i.S_j - K sum S_z^2, with
    d = |R_i - R_j| - r_ij. Couplings and masses are like those of NiO. Without
    anisotropy K the total angular momentum is conserved.
    """

    nloc = 8
    a = 2.5  # 1/Å
    mass = np.array([58.7, 16.0] * 4)

    def __init__(self, anisotropy=0.0):
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1)
        self.sites = 2.1 * grid.reshape(-1, 3)
        length = np.linalg.norm(self.sites[:, None] - self.sites, axis=2)
        near, bond = length < 2.2, (length > 0) & (length < 3.1)
        self.length = np.where(bond, length, 1.0)
        self.j_ij = bond * np.where(near, -0.012, 0.004)  # eV/μ_B^2
        self.k = bond * np.where(near, 6.0, 2.0)  # eV/Å^2
        self.anisotropy = anisotropy  # eV/μ_B^2
        self.calls = 0

    def __call__(self, coord, spin, time=0.0):
        self.calls += 1
        k = self.k
        apart = coord[:, :, None] - coord[:, None]  # (nrep, i, j, 3)
        r = np.sqrt((apart**2).sum(axis=3) + np.eye(self.nloc))
        d = r - self.length
        j_ij = self.j_ij * np.exp(-self.a * d)
        product = (spin[:, :, None] * spin[:, None]).sum(axis=3)
        pairs = k * (d**2 / 2 - 0.8 * d**3 + d**4) - j_ij * product
        slope = k * (d - 2.4 * d**2 + 4 * d**3) + self.a * j_ij * product
        force_mag = (j_ij[..., None] * spin[:, None]).sum(axis=2)
        force_mag[..., 2] += 2 * self.anisotropy * spin[..., 2]
        return Response(
            pairs.sum(axis=(1, 2)) / 2
            - self.anisotropy * (spin[..., 2] ** 2).sum(axis=1),
            -((slope / r)[..., None] * apart).sum(axis=2),
            force_mag,
        )

    def state(self, nrep=1, seed=0, temperature=300.0, **options):
        """Displaced atoms, thermal velocities, spins (1.3 μ_B) in any direction."""
        rng = np.random.default_rng(seed)
        shape = (nrep, self.nloc, 3)
        spin = rng.normal(size=shape)
        spin *= 1.3 / np.linalg.norm(spin, axis=2, keepdims=True)
        width = np.sqrt(8.617e-5 * temperature / (103.64 * self.mass[:, None]))
        velocity = width * rng.normal(size=shape)
        velocity -= (velocity * self.mass[:, None]).sum(axis=1, keepdims=True) / (
            self.mass.sum()
        )
        return State(
            coord=self.sites + 0.03 * rng.normal(size=shape),
            velocity=velocity,
            spin=spin,
            mass=self.mass,
            atype=np.array([0, 1] * 4),
            **options,
        )


class Landau:
    """A cluster whose moduli have a minimum at 1.3 μ_B: + sum b (S^2 - 1.69)^2."""

    nloc = Cluster.nloc

    def __init__(self, b=0.1):
        self.cluster = Cluster()
        self.b = b

    def __call__(self, coord, spin, time=0.0):
        found = self.cluster(coord, spin)
        excess = (spin**2).sum(axis=2) - 1.69
        return Response(
            found.energy + self.b * (excess**2).sum(axis=1),
            found.force,
            found.force_mag - 4 * self.b * excess[..., None] * spin,
        )


def spins(vectors, **options):
    """Atoms at the origin with given spins, (nloc, 3) or (nrep, nloc, 3)."""
    spin = np.array(vectors, dtype=float)
    spin = spin[None] if spin.ndim == 2 else spin
    nloc = spin.shape[1]
    return State(
        coord=np.zeros_like(spin),
        spin=spin,
        mass=np.full(nloc, 58.7),
        atype=np.zeros(nloc, int),
        **options,
    )


def in_field(field, frequency=0.0):
    """Free spins in a field (T)."""
    return Zeeman(free, field, frequency)
