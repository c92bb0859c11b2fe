# SPDX-License-Identifier: Apache-2.0
"""The scheme `invariant`: a model sees scalar products of the spins themselves.

The arithmetic that needs no tensors; `deepspin.model.invariant` is its Keras layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepspin.spins.codec import VirtualAtomCodec
from deepspin.spins.types import SMALL_MOMENT, SpinTypes


@dataclass(frozen=True)
class Invariant:
    """The spin scheme that knows what spins cannot do.

    The energy is even in the spins and, without spin-orbit coupling, does not change
    when all spins turn and the atoms stay. Neighbours are atoms; there is nothing else
    to see.

    See `deepspin.spins.schemes.Scheme` for what all schemes answer.

    Parameters
    ----------
    types : SpinTypes
        Which types carry a spin.
    soc : bool
        Whether there is spin-orbit coupling: only the rotation of lattice and spins
        together leaves the energy.
    """

    types: SpinTypes
    soc: bool = False

    name: ClassVar[str] = "invariant"
    layer: ClassVar[str] = "deepspin>InvariantSpin"
    point_names: ClassVar[tuple[str, ...]] = ("atom",)
    zero_spin: ClassVar[str] = ""
    reads_virtual_atoms: ClassVar[bool] = False

    @classmethod
    def from_options(
        cls,
        use_spin: Sequence[bool],
        soc: bool = False,
        ignore_below: float = SMALL_MOMENT,
        **_: Any,
    ) -> Invariant:
        """Build the scheme from the options of ``model/spin``."""
        return cls(SpinTypes.of(use_spin, ignore_below), bool(soc))

    @classmethod
    def from_layer(cls, config: Mapping[str, Any]) -> Invariant:
        """Build the scheme from the configuration of its Keras layer."""
        names = ("use_spin", "soc", "ignore_below")
        return cls.from_options(**{n: config[n] for n in names if n in config})

    @property
    def symmetries(self) -> frozenset[str]:
        """What leaves the energy, besides what always does."""
        return frozenset(["time_reversal", *(() if self.soc else ("spin_rotation",))])

    @property
    def lacks(self) -> Mapping[str, str]:
        """What cannot be done with it, and what to do instead."""
        return {
            "compress": "A model of the scheme `invariant` has nothing to compress: "
            "its radial functions are polynomials, no nets. Use it as it is.",
            "deepmd": "DeePMD-kit has no scheme `invariant`. Freeze the model for "
            "TensorFlow (`dp-spin freeze -o NAME`), run it on many processes by "
            "`dp-spin md --engine lammps`, or train with `ener_spin` for DeePMD-kit "
            "and LAMMPS' `pair_style deepspin`.",
        }

    @property
    def codec(self) -> VirtualAtomCodec:
        """Of spins that are written as they are: a virtual atom at 1 Å per μ_B."""
        scale = tuple(float(flag) for flag in self.types.use_spin)
        return VirtualAtomCodec(self.types, scale, (0.0,) * self.ntypes)

    @property
    def ntypes(self) -> int:
        """Number of types of atoms."""
        return self.types.ntypes

    @property
    def nblocks(self) -> int:
        """Number of types of neighbours: those of atoms."""
        return self.ntypes

    @property
    def list_blocks(self) -> tuple[int, ...]:
        """Block of each list of neighbours: one for each."""
        return tuple(range(self.nblocks))

    @property
    def energy_types(self) -> tuple[int, ...]:
        """Type of each kind of atom whose count enters the fit of the energy bias."""
        return tuple(range(self.ntypes))

    def extend_sel(self, sel: Sequence[int]) -> tuple[int, ...]:
        """Take the `sel` of the types of atoms as it is."""
        return tuple(sel)

    def reordered(self, types: Sequence[int]) -> list[int]:
        """Numbers of all types of neighbours, as they come if types do so."""
        return list(types)

    def largest_of_types(self, found: Sequence[int] | np.ndarray) -> list[int]:
        """Numbers of each type's neighbours, as they are."""
        return [int(n) for n in found]

    def neighbor_names(self, type_map: Sequence[str]) -> list[str]:
        """Names of the types."""
        return list(type_map)

    def points(
        self, coord: np.ndarray, spin: np.ndarray, atype: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """All that an atom may see: the atoms, and their types."""
        del spin
        return coord, atype

    def reach(self, atype: np.ndarray, modulus: np.ndarray) -> np.ndarray:
        """How far (Å) beyond the atoms there is something to see: 0."""
        return np.zeros(np.broadcast(atype, modulus).shape)
