# SPDX-License-Identifier: Apache-2.0
"""The spin schemes that there are, and what each must answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from deepspin.spins.codec import VirtualAtomCodec
from deepspin.spins.invariant import Invariant
from deepspin.spins.types import SpinTypes
from deepspin.spins.virtual import VirtualAtoms


class Scheme(Protocol):
    """How a model sees spins, as far as data, lists and files must know.

    An atom sees *points*: itself and others as ``point_names[0]``, and as many more
    kinds of points as there are names, one of each kind for every atom, in this order.
    The neighbours of an atom are of *blocks*, one for each type of neighbours; the
    first `ntypes` of them are the types of atoms. They come in *lists*, one for each
    block and, where a block is seen in more than one way, more.

    What evaluates it is a Keras layer, `deepspin.model.ener.SPIN_LAYERS`.
    """

    name: ClassVar[str]  # `model/spin/type`
    layer: ClassVar[str]  # Keras' name of the layer that evaluates it
    point_names: ClassVar[tuple[str, ...]]  # of what an atom may be seen as
    zero_spin: ClassVar[str]  # why a spin type needs a spin, empty if it does not
    reads_virtual_atoms: ClassVar[bool]  # whether its options tell where they are

    @property
    def lacks(self) -> Mapping[str, str]:
        """What cannot be done with it, and what to do instead."""

    @property
    def symmetries(self) -> frozenset[str]:
        """Of "time_reversal" and "spin_rotation", those that are exact."""

    @property
    def types(self) -> SpinTypes:
        """Which types carry a spin."""

    @property
    def codec(self) -> VirtualAtomCodec:
        """How files hold spins as virtual atoms, if they do."""

    @property
    def ntypes(self) -> int:
        """Number of types of atoms."""

    @property
    def nblocks(self) -> int:
        """Number of types of neighbours."""

    @property
    def list_blocks(self) -> tuple[int, ...]:
        """Block of each list of neighbours; the first `nblocks` are 0, 1, 2, ..."""

    @property
    def energy_types(self) -> tuple[int, ...]:
        """Type of each kind of atom whose count enters the fit of the energy bias."""

    def extend_sel(self, sel: Sequence[int]) -> tuple[int, ...]:
        """`sel` of all blocks from that of the types of atoms."""

    def reordered(self, types: Sequence[int]) -> list[int]:
        """Numbers of all blocks, as they come if types come in this order."""

    def largest_of_types(self, found: Sequence[int] | np.ndarray) -> list[int]:
        """Largest of the numbers of each type's blocks."""

    def neighbor_names(self, type_map: Sequence[str]) -> list[str]:
        """Names of all blocks from those of the types of atoms."""

    def points(
        self, coord: np.ndarray, spin: np.ndarray, atype: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions (Å) of all points, and the list of each, -1 for none."""

    def reach(self, atype: np.ndarray, modulus: np.ndarray) -> np.ndarray:
        """How far (Å) from atoms of these types the points of such spins (μ_B) are."""


SCHEMES: dict[str, type[VirtualAtoms] | type[Invariant]] = {
    "ener_spin": VirtualAtoms,
    "invariant": Invariant,
}
DEFAULT = "ener_spin"  # what `model/spin` means without `type`


def build_scheme(options: Mapping[str, Any]) -> Scheme:
    """Build the scheme that a section ``model/spin`` describes.

    Parameters
    ----------
    options : mapping
        The section, normalised; `type` may be missing.
    """
    options = dict(options)
    return SCHEMES[options.pop("type", DEFAULT)].from_options(**options)


def scheme_of_layer(layer: Mapping[str, Any]) -> Scheme:
    """Scheme of a layer as Keras writes it: ``registered_name`` and ``config``."""
    name = layer["registered_name"]
    schemes = {scheme.layer: scheme for scheme in SCHEMES.values()}
    if name not in schemes:
        raise ValueError(f"Unknown layer of spins: '{name}'. Known: {list(schemes)}")
    return schemes[name].from_layer(layer["config"])


def demand(scheme: Scheme, ability: str) -> None:
    """Refuse what a scheme lacks.

    Parameters
    ----------
    scheme : Scheme
        The scheme.
    ability : {"compress", "deepmd"}
        Tables in place of nets; files that DeePMD-kit and LAMMPS read.

    Raises
    ------
    NotImplementedError
        It has none, with what to do instead.
    """
    if ability in scheme.lacks:
        raise NotImplementedError(scheme.lacks[ability])
