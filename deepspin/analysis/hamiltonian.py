# SPDX-License-Identifier: Apache-2.0
r"""Spin Hamiltonians of unit vectors, and how energies curve about a state.

.. math::

    E = -\tfrac{1}{2} \sum_{i \ne j} e_i^T J_{ij} e_j + \sum_i e_i^T A_i e_i

with :math:`e_i = S_i/|S_i|`: each pair of atoms counts once, couplings are positive
where they are ferromagnetic, and easy axes have negative :math:`A`. The tensor is

.. math::

    e_i^T J_{ij} e_j = J\, e_i \cdot e_j + D \cdot (e_i \times e_j)
        + e_i^T \Gamma\, e_j

with the exchange J, the vector D of Dzyaloshinskii and Moriya, and the symmetric
traceless :math:`\Gamma`. Energies are in eV, lengths in Å, moments in μ_B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# distances in Å within which pairs belong to one shell
SAME_SHELL = 0.01


@dataclass(frozen=True, kw_only=True)
class Sites:
    """The magnetic atoms of a cell, in the state that is looked at.

    Parameters
    ----------
    box : np.ndarray, shape (3, 3); or None
        Lattice vectors in Å; None for a molecule.
    pbc : np.ndarray of bool, shape (3,)
        Periodic directions.
    coord : np.ndarray, shape (n, 3)
        Positions in Å.
    names : tuple of str
        Type of each.
    moment : np.ndarray, shape (n,)
        Moduli of the spins in μ_B.
    direction : np.ndarray, shape (n, 3)
        Unit vectors along the spins.
    """

    box: np.ndarray | None
    pbc: np.ndarray
    coord: np.ndarray
    names: tuple[str, ...]
    moment: np.ndarray
    direction: np.ndarray

    @property
    def n(self) -> int:
        """Number of sites."""
        return len(self.names)

    def translation(self, shift: np.ndarray) -> np.ndarray:
        """Translations in Å of cells (..., 3)."""
        return np.zeros(shift.shape) if self.box is None else shift @ self.box


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of sites, each in both directions.

    Parameters
    ----------
    first, second : np.ndarray of int, shape (npairs,)
        Sites.
    shift : np.ndarray of int, shape (npairs, 3)
        Cell of the second, seen from that of the first.
    """

    first: np.ndarray
    second: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def vectors(self, sites: Sites) -> np.ndarray:
        """From the first to the second site in Å, shape (npairs, 3)."""
        apart = sites.coord[self.second] - sites.coord[self.first]
        return apart + sites.translation(self.shift)

    def reverse(self) -> np.ndarray:
        """Place of each pair's other direction, shape (npairs,).

        Raises
        ------
        ValueError
            A pair has none.
        """
        keys = np.column_stack([self.first, self.second, self.shift])
        back = np.column_stack([self.second, self.first, -self.shift])
        where = {tuple(key): k for k, key in enumerate(keys.tolist())}
        try:
            return np.array([where[tuple(key)] for key in back.tolist()], dtype=int)
        except KeyError as error:
            raise ValueError(
                f"The pair {error} of first site, second site and cell is missing: "
                "each pair must be given in both directions."
            ) from error

    def take(self, which: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return Pairs(
            first=self.first[which],
            second=self.second[which],
            shift=self.shift[which],
        )


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Pairs of the same types and distance.

    Parameters
    ----------
    names : tuple of 2 str
        Types.
    distance : float
        Mean distance in Å.
    number : float
        Neighbours that an atom of the first type has in it.
    exchange : float
        Mean J in eV.
    spread : float
        Standard deviation of J over the shell, in eV.
    dmi, anisotropy : float
        Root mean squares of the length of D and of the largest eigenvalue of Γ by
        modulus, in eV.
    relation : float
        Mean of e_i·e_j: 1 between parallel spins, -1 between antiparallel ones.
    members : np.ndarray of int
        The pairs.
    """

    names: tuple[str, str]
    distance: float
    number: float
    exchange: float
    spread: float
    dmi: float
    anisotropy: float
    relation: float
    members: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SpinHamiltonian:
    """Couplings of pairs, and anisotropy of sites; see the module for signs.

    Parameters
    ----------
    sites : Sites
        Magnetic atoms.
    pairs : Pairs
        Their pairs.
    tensor : np.ndarray, shape (npairs, 3, 3)
        J_ij in eV.
    anisotropy : np.ndarray, shape (n, 3, 3)
        Symmetric A_i in eV.
    """

    sites: Sites
    pairs: Pairs
    tensor: np.ndarray
    anisotropy: np.ndarray

    @property
    def exchange(self) -> np.ndarray:
        """Isotropic J of each pair in eV, shape (npairs,)."""
        return np.trace(self.tensor, axis1=1, axis2=2) / 3

    @property
    def dmi(self) -> np.ndarray:
        """D of each pair in eV, shape (npairs, 3): D_a = ε_abc J_bc / 2."""
        t = self.tensor
        parts = [t[:, 1, 2] - t[:, 2, 1], t[:, 2, 0] - t[:, 0, 2]]
        return np.stack([*parts, t[:, 0, 1] - t[:, 1, 0]], axis=1) / 2

    @property
    def symmetric(self) -> np.ndarray:
        """Γ of each pair in eV, symmetric and traceless, shape (npairs, 3, 3)."""
        even = (self.tensor + self.tensor.transpose(0, 2, 1)) / 2
        return even - self.exchange[:, None, None] * np.eye(3)

    def energy(self, direction: np.ndarray) -> float:
        """Energy in eV of unit vectors (n, 3) that each cell repeats."""
        return float(-(self.field(direction) * direction).sum() / 2)

    def field(self, direction: np.ndarray) -> np.ndarray:
        """-dE/de in eV of unit vectors (n, 3) that each cell repeats."""
        pairs = self.pairs
        push = np.einsum("pab,pb->pa", self.tensor, direction[pairs.second])
        result = np.zeros_like(direction)
        np.add.at(result, pairs.first, push)
        return result - 2 * np.einsum("iab,ib->ia", self.anisotropy, direction)

    def fourier(self, q: np.ndarray) -> np.ndarray:
        """J(q) = sum_R J_0R exp(i q.R) of the isotropic parts.

        Parameters
        ----------
        q : np.ndarray, shape (nq, 3)
            Wave vectors in the reciprocal vectors of the cell.

        Returns
        -------
        np.ndarray, shape (nq, n, n)
            Hermitian matrices in eV; the phase is that of the cells.
        """
        return _fourier(self.pairs, self.exchange, q, self.sites.n)

    def shells(self, tolerance: float = SAME_SHELL) -> list[Shell]:
        """Gather pairs of the same types and distance, from near to far.

        Parameters
        ----------
        tolerance : float
            Pairs whose distances follow one another nearer than this, in Å, are one
            shell.
        """
        names = np.array(self.sites.names)
        length = np.linalg.norm(self.pairs.vectors(self.sites), axis=1)
        kinds = sorted(set(self.sites.names))
        return sorted(
            (
                self._shell((a, b), members, length)
                for k, a in enumerate(kinds)
                for b in kinds[k:]
                for members in _gathered(
                    np.flatnonzero(
                        (names[self.pairs.first] == a) & (names[self.pairs.second] == b)
                    ),
                    length,
                    tolerance,
                )
            ),
            key=lambda shell: shell.distance,
        )

    def _shell(
        self, names: tuple[str, str], members: np.ndarray, length: np.ndarray
    ) -> Shell:
        pairs, e = self.pairs.take(members), self.sites.direction
        exchange = self.exchange[members]
        strongest = np.abs(np.linalg.eigvalsh(self.symmetric[members])).max(axis=1)
        dmi = np.linalg.norm(self.dmi[members], axis=1)
        return Shell(
            names=names,
            distance=length[members].mean(),
            number=len(members) / self.sites.names.count(names[0]),
            exchange=exchange.mean(),
            spread=exchange.std(),
            dmi=np.sqrt((dmi**2).mean()),
            anisotropy=np.sqrt((strongest**2).mean()),
            relation=(e[pairs.first] * e[pairs.second]).sum(axis=1).mean(),
            members=members,
        )

    def repeated(self, repeat: Sequence[int]) -> SpinHamiltonian:
        """The same Hamiltonian on a cell repeated along its vectors."""
        steps = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), axis=-1)
        steps, count = steps.reshape(-1, 3), self.sites.n
        sites, pairs = self.sites, self.pairs
        origin = np.tile(np.arange(count), len(steps))
        place = steps[:, None] + pairs.shift  # (ncells, npairs, 3)
        outside = np.floor_divide(place, repeat)
        inside = place - outside * np.array(repeat)
        cell = np.ravel_multi_index(tuple(np.moveaxis(inside, 2, 0)), tuple(repeat))
        each = np.arange(len(steps))[:, None]
        return SpinHamiltonian(
            sites=replace(
                sites,
                box=None
                if sites.box is None
                else sites.box * np.array(repeat)[:, None],
                coord=(sites.translation(steps)[:, None] + sites.coord).reshape(-1, 3),
                names=sites.names * len(steps),
                moment=sites.moment[origin],
                direction=sites.direction[origin],
            ),
            pairs=Pairs(
                first=(each * count + pairs.first).ravel(),
                second=(cell * count + pairs.second).ravel(),
                shift=outside.reshape(-1, 3),
            ),
            tensor=np.tile(self.tensor, (len(steps), 1, 1)),
            anisotropy=self.anisotropy[origin],
        )

    def curvature(self) -> Curvature:
        """How its energy curves about the state of its sites."""
        e = self.sites.direction
        field = self.field(e)
        along = (field * e).sum(axis=1)
        onsite = 2 * self.anisotropy + along[:, None, None] * np.eye(3)
        return Curvature(
            sites=self.sites,
            pairs=self.pairs,
            block=-self.tensor,
            onsite=onsite,
            torque=field - along[:, None] * e,
        )


@dataclass(frozen=True, kw_only=True)
class Curvature:
    r"""Second derivatives of an energy as directions turn about a state.

    For :math:`e_i \to e_i + x_i - \tfrac12 |x_i|^2 e_i`, x across e, the energy is
    :math:`E - \sum_i \tau_i x_i + \tfrac12 \sum_{ij} x_i^T K_{ij} x_j`. What K has
    along e is of no meaning.

    Parameters
    ----------
    sites : Sites
        Magnetic atoms and the state.
    pairs : Pairs
        Their pairs.
    block : np.ndarray, shape (npairs, 3, 3)
        K_ij in eV.
    onsite : np.ndarray, shape (n, 3, 3)
        K_ii in eV.
    torque : np.ndarray, shape (n, 3)
        τ_i in eV; 0 in a stationary state.
    """

    sites: Sites
    pairs: Pairs
    block: np.ndarray
    onsite: np.ndarray
    torque: np.ndarray

    def fourier(self, q: np.ndarray) -> np.ndarray:
        """K(q) in the plane across each spin.

        Parameters
        ----------
        q : np.ndarray, shape (nq, 3)
            Wave vectors in the reciprocal vectors of the cell.

        Returns
        -------
        np.ndarray, shape (nq, n, 2, n, 2)
            Hermitian, in eV, in the axes of `across`.
        """
        frame = across(self.sites.direction)
        own = np.einsum("ixa,iab,iyb->ixy", frame, self.onsite, frame)
        return fourier_of(self, frame, own, q)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What second derivatives say of a state.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        Couplings and anisotropy; 0 in what the states do not tell.
    curvature : Curvature
        The model's own second derivatives in the first state.
    modulus_force : np.ndarray, shape (n,)
        Magnetic force along each spin in eV/μ_B: 0 where moduli are in equilibrium.
    """

    hamiltonian: SpinHamiltonian
    curvature: Curvature
    modulus_force: np.ndarray

    @property
    def largest_torque(self) -> float:
        """Largest magnetic force across a spin in eV/μ_B; 0 in a stationary state."""
        torque = np.linalg.norm(self.curvature.torque, axis=1)
        return float((torque / self.curvature.sites.moment).max())


def fourier_of(
    curvature: Curvature, frame: np.ndarray, own: np.ndarray, q: np.ndarray
) -> np.ndarray:
    """K(q) in given axes of each site.

    Parameters
    ----------
    curvature : Curvature
        The blocks of pairs.
    frame : np.ndarray, shape (n, k, 3)
        Axes of the sites.
    own : np.ndarray, shape (n, k, k)
        K_ii in these.
    q : np.ndarray, shape (nq, 3)
        Wave vectors in the reciprocal vectors of the cell.

    Returns
    -------
    np.ndarray, shape (nq, n, k, n, k)
        Hermitian, in eV.
    """
    pairs, n, k = curvature.pairs, curvature.sites.n, frame.shape[1]
    block = np.einsum(
        "pxa,pab,pyb->pxy", frame[pairs.first], curvature.block, frame[pairs.second]
    )
    result = np.zeros((len(q), n, k, n, k), dtype=complex)
    for x in range(k):
        for y in range(k):
            result[:, :, x, :, y] = _fourier(pairs, block[:, x, y], q, n)
    each = np.arange(n)
    result[:, each, :, each] += own[:, None]
    return result


def across(direction: np.ndarray) -> np.ndarray:
    """Two axes across each unit vector (n, 3), right-handed with it: (n, 2, 3)."""
    helper = np.eye(3)[np.abs(direction).argmin(axis=1)]
    one = np.cross(direction, helper)
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    return np.stack([one, np.cross(direction, one)], axis=1)


def _fourier(pairs: Pairs, values: np.ndarray, q: np.ndarray, n: int) -> np.ndarray:
    """Sum of values exp(i q.R) of pairs, (nq, n, n)."""
    phase = np.exp(2j * np.pi * np.asarray(q, dtype=float) @ pairs.shift.T)
    place = pairs.first * n + pairs.second
    result = np.zeros((n * n, len(phase)), dtype=complex)
    np.add.at(result, place, (phase * values).T)
    return result.T.reshape(-1, n, n)


def _gathered(
    members: np.ndarray, length: np.ndarray, tolerance: float
) -> list[np.ndarray]:
    """Members in groups of nearly the same length."""
    if not len(members):
        return []
    members = members[np.argsort(length[members], kind="stable")]
    gaps = np.flatnonzero(np.diff(length[members]) > tolerance) + 1
    return np.split(members, gaps)
