# SPDX-License-Identifier: Apache-2.0
"""Second derivatives of a model about one atom, without a supercell.

The energy of an atom knows spins within the cutoff. So all that turns with the spin of
an atom lies within twice the cutoff of it (and twice what virtual atoms add), and a
cluster of that radius has the exact derivatives of the infinite crystal, each periodic
image of its neighbours by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import Structure

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# Å, beyond twice the cutoff, so that rounding leaves out nothing
MARGIN = 1e-3


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Atoms around one, which is the first.

    Parameters
    ----------
    atom : np.ndarray of int, shape (nloc,)
        Atom of the structure that each is an image of.
    shift : np.ndarray of int, shape (nloc, 3)
        Its cell.
    coord : np.ndarray, shape (nloc, 3)
        Position in Å.
    """

    atom: np.ndarray
    shift: np.ndarray
    coord: np.ndarray


def cluster(structure: Structure, center: int, radius: float) -> Cluster:
    """Gather all images of atoms within a radius (Å) of one."""
    shift = _cells(structure, radius)
    move = np.zeros(shift.shape) if structure.box is None else shift @ structure.box
    coord = structure.coord + move[:, None]  # (ncells, nloc, 3)
    length = np.linalg.norm(coord - structure.coord[center], axis=2)
    cell, atom = np.nonzero(length <= radius)
    order = np.argsort(length[cell, atom], kind="stable")
    cell, atom = cell[order], atom[order]
    return Cluster(atom=atom, shift=shift[cell], coord=coord[cell, atom])


def _cells(structure: Structure, radius: float) -> np.ndarray:
    """Cells of which atoms may lie within a radius of any atom of the first, (n, 3)."""
    if structure.box is None:
        return np.zeros((1, 3), dtype=int)
    inverse = np.linalg.inv(structure.box)
    extent = np.ptp(structure.coord @ inverse, axis=0)
    reach = radius * np.linalg.norm(inverse, axis=0) + extent
    most = np.where(structure.pbc, np.ceil(reach), 0).astype(int)
    return np.array(list(product(*(range(-n, n + 1) for n in most))))


class Derivatives:
    """Second derivatives of a model's energy in the spins of a structure.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    structure : Structure
        Atoms, of which the cell may be as small as it likes.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.
    """

    def __init__(
        self,
        potential: DeepSpin,
        structure: Structure,
        fparam: Sequence[float] | None = None,
    ):
        self._potential = potential
        self._structure, self._fparam = structure, fparam
        self._magnetic = potential.is_magnetic(structure.atype)

    def of(self, atom: int, spin: np.ndarray) -> tuple[Cluster, np.ndarray]:
        """Second derivatives in the spin of an atom, and in all others.

        Parameters
        ----------
        atom : int
            The atom.
        spin : np.ndarray, shape (nloc, 3)
            Spins of the structure in μ_B.

        Returns
        -------
        near : Cluster
            Magnetic atoms that the derivatives reach, the atom itself first.
        second : np.ndarray, shape (nnear, 3, 3)
            ∂²E/(∂S_atom ∂S_near) in eV/μ_B², rows for the components of the first.
        """
        radius = reach_of(self._potential, self._structure, spin)
        around = cluster(self._structure, atom, radius)
        direction = np.zeros((3, len(around.atom), 3))
        direction[:, 0] = np.eye(3)
        with silent(self._potential):
            _, second = self._potential.hvp(
                around.coord - around.coord[0],
                None,
                self._structure.atype[around.atom],
                spin[around.atom],
                np.zeros_like(direction),
                direction,
                fparam=self._fparam,
            )
        here = self._magnetic[around.atom]
        near = Cluster(
            atom=around.atom[here], shift=around.shift[here], coord=around.coord[here]
        )
        return near, second[:, here].transpose(1, 0, 2)


def reach_of(potential: DeepSpin, structure: Structure, spin: np.ndarray) -> float:
    """Where in Å the last atoms are that a second derivative about one may reach.

    What stands for a spin may lie beside its atom, which is then seen from further away
    than the cutoff.
    """
    modulus = np.linalg.norm(spin, axis=1)
    scheme = potential.model.spin.scheme
    beside = scheme.reach(structure.atype, modulus).max(initial=0.0)
    return 2 * (potential.rcut + float(beside)) + MARGIN


@contextmanager
def silent(potential: DeepSpin) -> Iterator[None]:
    """Say nothing of the edge of a cluster: it is no crystal, and plays no part."""
    metadata = potential.metadata
    potential.metadata = {}
    try:
        yield
    finally:
        potential.metadata = metadata
