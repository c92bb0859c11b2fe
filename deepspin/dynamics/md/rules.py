# SPDX-License-Identifier: Apache-2.0
"""Spins to begin with: those of the file, changed by the rules of an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepspin.atoms.structures import Structure
from deepspin.atoms.waves import phases, sublattices
from deepspin.dynamics.core.sphere import rotate_by
from deepspin.dynamics.md.settings import SpinRule
from deepspin.utils.refused import InputError, bad

# first word of the seeds of random directions
_DIRECTIONS = 7


def copies_of(origin: np.ndarray, numbers: Sequence[int], nloc: int) -> np.ndarray:
    """Tell which atoms are copies of some of the file's atoms, shape (nloc,).

    Parameters
    ----------
    origin : np.ndarray of int, shape (nloc,)
        Atom of the file that each atom is a copy of.
    numbers : sequence of int
        Atoms of the file.
    nloc : int
        How many the file has.
    """
    if numbers and max(numbers) >= nloc:
        raise InputError(
            f"There is no atom {max(numbers)}: the file has {nloc}, counted from 0."
        )
    return np.isin(origin, numbers)


@dataclass(frozen=True)
class Placing:
    """Atoms whose spins are placed.

    Parameters
    ----------
    structure, cell : Structure
        All atoms, and those of the cell that is repeated, which wave vectors and
        numbers of atoms refer to.
    origin : np.ndarray of int, shape (nloc,)
        Atom of the cell that each atom is a copy of.
    magnetic : np.ndarray of bool, shape (nloc,)
        Atoms of types with spin.
    seeds : np.ndarray of int, shape (nrep,)
        Seeds of the replicas.
    """

    structure: Structure
    cell: Structure
    origin: np.ndarray
    magnetic: np.ndarray
    seeds: np.ndarray

    def placed(self, rules: Sequence[SpinRule]) -> np.ndarray:
        """Spins of all replicas, (nrep, nloc, 3): those of the file, after the rules.

        Raises
        ------
        InputError, DataError
            A rule names what is not there, or spins are missing.
        """
        known = self.structure.spin
        spin = np.zeros_like(self.structure.coord) if known is None else known
        modulus = np.linalg.norm(spin, axis=1)
        direction = spin / np.where(modulus > 0, modulus, 1.0)[:, None]
        direction = np.broadcast_to(direction, (len(self.seeds), *spin.shape)).copy()
        for number, rule in enumerate(rules):
            chosen = self._chosen(rule, number)
            if rule.modulus is not None:
                modulus[chosen] = rule.modulus
            if rule.direction is not None:
                given = self._directions(rule.direction, number)
                direction[:, chosen] = given[:, chosen]
            if rule.wave_vector is not None:
                direction[:, chosen] = self._waved(rule, direction, chosen)
        spin = modulus[:, None] * direction
        if known is None:
            self._check_all(spin[0], bool(rules))
        return spin

    def _chosen(self, rule: SpinRule, number: int) -> np.ndarray:
        """Atoms with spin that a rule is for."""
        structure, chosen = self.structure, self.magnetic
        if rule.type is not None:
            if rule.type not in structure.names:
                names = ", ".join(structure.names)
                raise bad(f"spins/{number}/type", rule.type, f"one of {names}")
            chosen = chosen & (structure.atype == structure.names.index(rule.type))
        if rule.atoms is not None:
            chosen = chosen & copies_of(self.origin, rule.atoms, self.cell.nloc)
        return chosen

    def _directions(self, given: Sequence[float] | str, number: int) -> np.ndarray:
        """Unit vectors, (nrep, nloc, 3): those given, or random ones of a rule."""
        shape = (self.structure.nloc, 3)
        if given == "random":
            drawn = [
                np.random.default_rng([_DIRECTIONS, number, seed]).normal(size=shape)
                for seed in self.seeds
            ]
            vectors = np.stack(drawn)
            return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
        vector = np.array(given, dtype=float)
        unit = vector / np.linalg.norm(vector)
        return np.broadcast_to(unit, (len(self.seeds), *shape))

    def _waved(
        self, rule: SpinRule, direction: np.ndarray, chosen: np.ndarray
    ) -> np.ndarray:
        """Directions (nrep, chosen, 3), reversed or turned by a wave."""
        phase = phases(rule.wave_vector, self.structure.coord, self.cell.box)[chosen]
        here = direction[:, chosen]
        if rule.axis is None:
            return here * sublattices(phase)[:, None]
        axis = np.array(rule.axis, dtype=float)
        turn = phase[:, None] * axis / np.linalg.norm(axis)
        return rotate_by(here, np.broadcast_to(turn, here.shape))

    def _check_all(self, spin: np.ndarray, ruled: bool) -> None:
        """Refuse atoms that neither a file nor a rule gave a spin."""
        bare = self.magnetic & ~spin.any(axis=1)
        if not bare.any():
            return
        if not ruled:
            or_else = ", or give rules in `spins` of the input"
            self.structure.with_spins(self.magnetic, or_else)
        atom = int(np.flatnonzero(bare)[0])
        raise InputError(
            "The structure has no spins, and no rule of `spins` gives atom "
            f"{self.origin[atom]} of the file ({self.structure.symbols[atom]}) both a "
            "modulus and a direction."
        )
