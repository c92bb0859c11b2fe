# SPDX-License-Identifier: Apache-2.0
r"""How exchange changes as one atom moves: dJ/du, what couples spins and phonons.

.. math::

    \frac{\partial J_{ij}}{\partial u_{k\mu}}

of one atom k of the crystal, all its periodic images staying where they are, at fixed
spins. J is that of `deepspin.analysis.exchange`: energies are
:math:`-\sum_{i<j} e_i^T J_{ij} e_j` of unit vectors, each pair once. In spin-lattice
dynamics [1]_ the atom feels :math:`F_{k\mu} = \sum_{i<j} e_i^T (\partial J_{ij} /
\partial u_{k\mu})\, e_j`.

The second derivatives are exact, the third are their central differences of two steps
h and 2h, taken together to fourth order. What the two differ by is the error of the
one with h, and so no less than that of both.

The energies that change with the atom are those within the cutoff of it, and these know
spins within twice the cutoff: a cluster of that radius about the atom is enough, and a
cell may be as small as it likes.

References
----------
.. [1] J. Hellsvik et al., Physical Review B 99, 104302 (2019),
   https://doi.org/10.1103/PhysRevB.99.104302
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.analysis.clusters import MARGIN, cluster, reach_of, silent
from deepspin.analysis.exchange import tensors, turns_freely, turns_of
from deepspin.analysis.hamiltonian import Curvature, Pairs, Sites, across
from deepspin.atoms.structures import Structure
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# Å; second derivatives are exact, so that rounding is no matter
STEP = 0.002
# eV/Å; derivatives that are all smaller are left out: they are rounding
SMALLEST = 1e-10


@dataclass(frozen=True, kw_only=True)
class ExchangeDerivatives:
    """Derivatives of couplings with the position of one atom, the strongest first.

    Parameters
    ----------
    atom : int
        The atom that moves, in the cell 0; number in the structure.
    name : str
        Its type.
    within : float
        In Å; of each pair that is listed, one site at least is no further from it. Of
        these pairs, all are listed that change.
    step : float
        Displacement of the differences in Å.
    first, second : np.ndarray of int, shape (npairs,)
        Sites of each pair, which is listed once: numbers among the magnetic atoms of
        the structure. The first is nearer to the atom.
    first_shift, second_shift : np.ndarray of int, shape (npairs, 3)
        Their cells.
    vector : np.ndarray, shape (npairs, 3)
        From the first to the second site in Å.
    tensor : np.ndarray, shape (npairs, 3, 3, 3)
        dJ_ij/du in eV/Å, direction of u first.
    error : np.ndarray, shape (npairs, 3)
        What differences may be wrong by, of the isotropic part, in eV/Å.
    """

    atom: int
    name: str
    within: float
    step: float
    first: np.ndarray
    second: np.ndarray
    first_shift: np.ndarray
    second_shift: np.ndarray
    vector: np.ndarray
    tensor: np.ndarray
    error: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def exchange(self) -> np.ndarray:
        """Derivative of the isotropic J in eV/Å, shape (npairs, 3)."""
        return np.trace(self.tensor, axis1=2, axis2=3) / 3


def exchange_derivatives(
    potential: DeepSpin,
    structure: Structure,
    atom: int,
    *,
    within: float | None = None,
    orientations: int | None = None,
    step: float = STEP,
    fparam: Sequence[float] | None = None,
) -> ExchangeDerivatives:
    """Take the derivatives of exchange with the position of an atom.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    structure : Structure
        Atoms with spins, a magnetic cell of any size.
    atom : int
        Number of the atom that moves; it needs no spin.
    within : float, optional
        Distance from it in Å, within which one site of a pair has to be; the model's
        cutoff if not given. Beyond twice the cutoff nothing changes.
    orientations : int, optional
        See `deepspin.analysis.exchange.exchange`.
    step : float
        Displacement in Å.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.

    Raises
    ------
    InputError
        There is no such atom, none with spin within the distance, or `step`, `within`
        or `orientations` make no sense.
    """
    if not 0 <= atom < structure.nloc:
        raise InputError(
            "An atom to move must have a number from 0 to "
            f"{structure.nloc - 1}. Received: {atom}"
        )
    if not 1e-4 <= step <= 0.1:
        raise InputError(f"`step` must be from 0.0001 to 0.1 Å. Received: {step:g}")
    structure = structure.with_spins(potential.is_magnetic(structure.atype))
    here = _Surroundings.of(potential, structure, atom, step)
    most = potential.rcut if within is None else within
    apart = np.linalg.norm(here.coord[here.magnetic], axis=1)
    count = int((apart <= most + MARGIN).sum())
    if not count:
        raise InputError(
            f"There are no atoms with spin within {most:g} Å of atom {atom}, so there "
            "is no exchange to change. Give a larger distance."
        )
    best: list[tuple[Sites, np.ndarray]] = []
    rough: list[tuple[Sites, np.ndarray]] = []
    for turn in turns_of(potential, here.spin[here.magnetic], orientations):
        sites = here.sites(turn)
        values = here.differences(potential, sites, count, fparam)
        for states, value in zip((best, rough), values, strict=True):
            states.append((sites, value))
    pairs = _changing([value for _, value in best])
    isotropic = turns_freely(potential)
    tensor, coarse = (_tensors(states, pairs, isotropic) for states in (best, rough))
    strength = np.linalg.norm(np.trace(tensor, axis1=2, axis2=3), axis=1)
    order = np.argsort(-strength, kind="stable")
    pairs, tensor, coarse = pairs.take(order), tensor[order], coarse[order]
    first, second = here.magnetic[pairs.first], here.magnetic[pairs.second]
    return ExchangeDerivatives(
        atom=atom,
        name=structure.names[structure.atype[atom]],
        within=most,
        step=step,
        first=here.site[first],
        second=here.site[second],
        first_shift=here.shift[first],
        second_shift=here.shift[second],
        vector=here.coord[second] - here.coord[first],
        tensor=tensor,
        error=np.abs(np.trace(tensor - coarse, axis1=2, axis2=3)) / 3,
    )


@dataclass(frozen=True, kw_only=True)
class _Surroundings:
    """All that knows of an atom, from near to far, itself first.

    `magnetic` are the places (n,) of those with spin; `site` their numbers among the
    structure's magnetic atoms, of no meaning for others.
    """

    names: np.ndarray
    atype: np.ndarray
    coord: np.ndarray
    spin: np.ndarray
    shift: np.ndarray
    site: np.ndarray
    magnetic: np.ndarray
    step: float

    @classmethod
    def of(
        cls, potential: DeepSpin, structure: Structure, atom: int, step: float
    ) -> _Surroundings:
        """Look around an atom, which moves by up to twice the step."""
        spin = np.array(structure.spin, dtype=float)
        is_magnetic = potential.is_magnetic(structure.atype)
        reach = reach_of(potential, structure, spin) + 4 * step
        around = cluster(structure, atom, reach)
        return cls(
            names=np.array(structure.symbols)[around.atom],
            atype=structure.atype[around.atom],
            coord=around.coord - around.coord[0],
            spin=spin[around.atom],
            shift=around.shift,
            site=(np.cumsum(is_magnetic) - 1)[around.atom],
            magnetic=np.flatnonzero(is_magnetic[around.atom]),
            step=step,
        )

    def sites(self, turn: np.ndarray) -> Sites:
        """Those with spin, the spins turned by a rotation."""
        spin = self.spin[self.magnetic] @ turn.T
        moment = np.linalg.norm(spin, axis=1)
        return Sites(
            box=None,
            pbc=np.zeros(3, dtype=bool),
            coord=self.coord[self.magnetic],
            names=tuple(self.names[self.magnetic].tolist()),
            moment=moment,
            direction=spin / moment[:, None],
        )

    def differences(
        self,
        potential: DeepSpin,
        sites: Sites,
        count: int,
        fparam: Sequence[float] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blocks (3, count, n, 3, 3) in eV/Å, to fourth and to second order.

        They are d3E/du de_i de_j of the first `count` sites across e_i and of all
        others.
        """
        frame = across(sites.direction)[:count]
        spin = np.zeros_like(self.spin)
        spin[self.magnetic] = sites.direction * sites.moment[:, None]
        direction = np.zeros((count, 2, *spin.shape))
        direction[np.arange(count), :, self.magnetic[:count]] = frame
        direction = direction.reshape(2 * count, *spin.shape)
        scale = np.outer(sites.moment[:count], sites.moment)[..., None, None]

        def blocks(axis: int, move: float) -> np.ndarray:
            coord = self.coord.copy()
            coord[0, axis] += move
            still = np.zeros_like(direction)
            with silent(potential):
                _, second = potential.hvp(
                    coord, None, self.atype, spin, still, direction, fparam=fparam
                )
            second = second.reshape(count, 2, -1, 3)[:, :, self.magnetic]
            return np.einsum("ixa,ixjb->ijab", frame, second) * scale

        one, two = (
            np.array([blocks(axis, h) - blocks(axis, -h) for axis in range(3)])
            / (2 * h)
            for h in (self.step, 2 * self.step)
        )
        return (4 * one - two) / 3, one


def _changing(values: Sequence[np.ndarray]) -> Pairs:
    """Pairs with derivatives, each once, in the order of the cluster."""
    largest = np.max([np.abs(value).max(axis=(0, 3, 4)) for value in values], axis=0)
    first, second = np.nonzero(largest > SMALLEST)
    once = second > first  # all before have been the first of a pair
    first, second = first[once], second[once]
    return Pairs(first=first, second=second, shift=np.zeros((len(first), 3), dtype=int))


def _tensors(
    states: Sequence[tuple[Sites, np.ndarray]], pairs: Pairs, isotropic: bool
) -> np.ndarray:
    """dJ_ij/du (npairs, 3, 3, 3) of several states."""
    result = np.zeros((len(pairs), 3, 3, 3))
    for axis in range(3):
        curvatures = [
            Curvature(
                sites=sites,
                pairs=pairs,
                block=value[axis, pairs.first, pairs.second],
                onsite=np.zeros((sites.n, 3, 3)),
                torque=np.zeros((sites.n, 3)),
            )
            for sites, value in states
        ]
        result[:, axis] = tensors(curvatures, isotropic)
    return result
