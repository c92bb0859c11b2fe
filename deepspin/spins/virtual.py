# SPDX-License-Identifier: Apache-2.0
"""The scheme `ener_spin`: a model sees each spin as a virtual atom.

The arithmetic that needs no tensors; `deepspin.model.virtual` is its Keras layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from deepspin.spins.codec import VirtualAtomCodec
from deepspin.spins.types import SMALL_MOMENT, SpinTypes


@dataclass(frozen=True)
class VirtualAtoms:
    """The spin scheme of DeepSPIN: one virtual atom beside each magnetic atom.

    Virtual atoms are neighbours, never centres. With `placeholders` the types without
    spin have a type of neighbours each, too, after those of the virtual atoms: there is
    never such a neighbour, but empty slots count. Models of DeePMD-kit's PyTorch
    backend are of that kind.

    With `time_reversal` the energy is the mean of that of the spins as they are and of
    all spins reversed, (E(S) + E(-S)) / 2. Then an atom also sees the virtual atoms of
    the reversed spins, in lists of their own; they are types of neighbours as before.

    See `deepspin.spins.schemes.Scheme` for what all schemes answer.

    Parameters
    ----------
    codec : VirtualAtomCodec
        Where the virtual atoms are; files may hold them as they are.
    placeholders : bool
        Whether types without spin have types of neighbours that never come.
    time_reversal : bool
        Whether the energy is exactly even in the spins.

    References
    ----------
    .. [1] T. Yang et al., Phys. Rev. B 110, 064427 (2024),
       doi:10.1103/PhysRevB.110.064427.
    """

    codec: VirtualAtomCodec
    placeholders: bool = False
    time_reversal: bool = False

    name: ClassVar[str] = "ener_spin"
    layer: ClassVar[str] = "deepspin>Spin"
    point_names: ClassVar[tuple[str, ...]] = (
        "atom",
        "the virtual atom of atom",
        "the virtual atom, spins reversed, of atom",
    )
    zero_spin: ClassVar[str] = "its virtual atom would coincide with it"
    reads_virtual_atoms: ClassVar[bool] = True

    @classmethod
    def from_options(
        cls,
        use_spin: Sequence[bool],
        virtual_len: Sequence[float] | None = None,
        spin_norm: Sequence[float] | None = None,
        virtual_scale: Sequence[float] | None = None,
        time_reversal: bool = False,
        placeholders: bool = False,
        ignore_below: float = SMALL_MOMENT,
    ) -> VirtualAtoms:
        """Build the scheme from the options of ``model/spin``.

        Parameters
        ----------
        use_spin, virtual_len, spin_norm, virtual_scale, ignore_below
            See `VirtualAtomCodec.from_options`.
        time_reversal : bool
            See the class.
        placeholders : bool
            See the class; no option of an input.
        """
        codec = VirtualAtomCodec.from_options(
            use_spin, virtual_len, spin_norm, virtual_scale, ignore_below
        )
        return cls(codec, bool(placeholders), bool(time_reversal))

    @classmethod
    def from_layer(cls, config: Mapping[str, Any]) -> VirtualAtoms:
        """Build the scheme from the configuration of its Keras layer."""
        names = (
            *("virtual_len", "spin_norm", "virtual_scale"),
            *("time_reversal", "placeholders", "ignore_below"),
        )
        options = {name: config[name] for name in names if name in config}
        return cls.from_options(config["use_spin"], **options)

    @property
    def symmetries(self) -> frozenset[str]:
        """What leaves the energy, besides what always does."""
        return frozenset(["time_reversal"] if self.time_reversal else [])

    @property
    def lacks(self) -> Mapping[str, str]:
        """What cannot be done with it, and what to do instead."""
        if not self.time_reversal:
            return {}
        return {
            "deepmd": "DeePMD-kit and LAMMPS have no `time_reversal`. Freeze the model "
            "for TensorFlow (`dp-spin freeze -o NAME`), or train without "
            "`model/spin/time_reversal`, and with `training/augmentation` instead."
        }

    @property
    def types(self) -> SpinTypes:
        """Which types carry a spin."""
        return self.codec.types

    @property
    def ntypes(self) -> int:
        """Number of types of atoms."""
        return self.types.ntypes

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """Type of atom that each further type of neighbours belongs to.

        The spin types, for their virtual atoms; then those that only hold a place.
        """
        magnetic = self.types.spin_types
        others = (t for t in range(self.ntypes) if t not in magnetic)
        return (*magnetic, *(others if self.placeholders else ()))

    @cached_property
    def nblocks(self) -> int:
        """Number of types of neighbours: those of atoms, then `owners`."""
        return self.ntypes + len(self.owners)

    @cached_property
    def list_blocks(self) -> tuple[int, ...]:
        """Type of neighbours in each list of an atom: all, then those reversed."""
        further = range(self.ntypes, self.nblocks)
        return (*range(self.nblocks), *(further if self.time_reversal else ()))

    @property
    def energy_types(self) -> tuple[int, ...]:
        """Type of each kind of atom whose count enters the fit of the energy bias.

        Virtual atoms count as atoms of their own, as in DeePMD-kit.
        """
        return (*range(self.ntypes), *self.types.spin_types)

    def extend_sel(self, sel: Sequence[int]) -> tuple[int, ...]:
        """Append to the `sel` of the types of atoms that of the further types."""
        return (*sel, *(sel[t] for t in self.owners))

    def reordered(self, types: Sequence[int]) -> list[int]:
        """Numbers of all types of neighbours, as they come if types do so."""
        magnetic = [t for t in types if self.types.use_spin[t]]
        others = [t for t in types if not self.types.use_spin[t]]
        owners = [*magnetic, *(others if self.placeholders else ())]
        return [*types, *(self.ntypes + self.owners.index(t) for t in owners)]

    def largest_of_types(self, found: Sequence[int] | np.ndarray) -> list[int]:
        """Largest of the numbers of each type's neighbours, atoms or virtual atoms.

        Parameters
        ----------
        found : sequence of int, length nblocks
            A number for each type of neighbours.
        """
        largest = [int(n) for n in found[: self.ntypes]]
        for block, t in enumerate(self.owners, start=self.ntypes):
            largest[t] = max(largest[t], int(found[block]))
        return largest

    def neighbor_names(self, type_map: Sequence[str]) -> list[str]:
        """Names of all types of neighbours, from those of the types."""
        return [*type_map, *(f"{type_map[t]}(spin)" for t in self.owners)]

    def points(
        self, coord: np.ndarray, spin: np.ndarray, atype: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """All that an atom may see: the atoms, then the virtual atom of each.

        With `time_reversal` then the virtual atom of each as its spin is reversed.

        Parameters
        ----------
        coord, spin : np.ndarray, shape (..., nloc, 3)
            Positions (Å) and spins (μ_B).
        atype : np.ndarray of int, shape (..., nloc)
            Types, -1 for no atom.

        Returns
        -------
        points : np.ndarray, shape (..., 2 nloc or 3 nloc, 3)
            Positions in Å; an atom without spin stands for its own virtual atom.
        blocks : np.ndarray of int, shape (..., 2 nloc or 3 nloc)
            The list that each goes into, see `list_blocks`; -1 where there is none.
        """
        virtual = self.codec.virtual_type(atype)
        points = [coord, self.codec.place(coord, spin, atype)]
        blocks = [atype, virtual]
        if self.time_reversal:
            points.append(self.codec.place(coord, -spin, atype))
            blocks.append(np.where(virtual < 0, -1, virtual + len(self.owners)))
        return np.concatenate(points, axis=-2), np.concatenate(blocks, axis=-1)

    def reach(self, atype: np.ndarray, modulus: np.ndarray) -> np.ndarray:
        """How far (Å) from atoms of these types the points of such spins (μ_B) are."""
        return self.codec.scale_of(atype) * modulus
