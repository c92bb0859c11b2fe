# SPDX-License-Identifier: Apache-2.0
"""Spins in files as virtual atoms: how they are placed, numbered and read back.

This is a layout of data, whatever the model makes of the spins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepspin.spins.types import SMALL_MOMENT, SpinTypes, spin_name

# how far a virtual atom may sit from its owner, in units of `virtual_len`
MAX_STRETCH = 3.0
# distances within this of `virtual_len` (in Å) are the same modulus
LENGTH_TOLERANCE = 1e-5


@dataclass(frozen=True)
class VirtualAtomCodec:
    r"""One virtual atom beside each magnetic atom stands for its spin.

    .. math:: R_i^p = R_i + \frac{\mathrm{virtual\_len}}{\mathrm{spin\_norm}} S_i

    Virtual atoms of the k-th spin type have the type ``ntypes + k``.

    Parameters
    ----------
    types : SpinTypes
        Which types carry a spin.
    scale : tuple of float, length ntypes
        ``virtual_len / spin_norm`` in Å/μ_B, 0 on types without spin.
    virtual_len : tuple of float, length ntypes
        Nominal distance in Å between a magnetic atom and its virtual atom; 0 if it is
        unknown (only `scale` given) or the type has no spin.
    """

    types: SpinTypes
    scale: tuple[float, ...]
    virtual_len: tuple[float, ...]

    def __post_init__(self) -> None:
        flags = self.types.use_spin
        if len({len(flags), len(self.scale), len(self.virtual_len)}) != 1:
            raise ValueError(
                "`use_spin`, `scale` and `virtual_len` must have one entry per type. "
                f"Received: {self}"
            )
        for magnetic, scale in zip(flags, self.scale, strict=True):
            if magnetic != (scale > 0):
                raise ValueError(
                    "`scale` must be positive on spin types and 0 on the others. "
                    f"Received: use_spin={flags}, scale={self.scale}"
                )

    @classmethod
    def from_options(
        cls,
        use_spin: Sequence[bool],
        virtual_len: Sequence[float] | None = None,
        spin_norm: Sequence[float] | None = None,
        virtual_scale: Sequence[float] | None = None,
        ignore_below: float = SMALL_MOMENT,
    ) -> VirtualAtomCodec:
        """Build the codec from the options of ``model/spin``.

        Parameters
        ----------
        use_spin : sequence of bool, length ntypes
            Which types carry a spin.
        virtual_len, spin_norm : sequence of float, one per spin type, optional
            Distance in Å of the virtual atom of a spin of modulus `spin_norm` (μ_B).
        virtual_scale : sequence of float, one per spin type, optional
            Their ratio in Å/μ_B, instead of the two.
        ignore_below : float
            See `SpinTypes`.
        """
        types = SpinTypes.of(use_spin, ignore_below)
        for value in (*(virtual_len or ()), *(spin_norm or ()), *(virtual_scale or ())):
            if not 0 < value < np.inf:
                raise ValueError(
                    "`virtual_len`, `spin_norm` and `virtual_scale` must be positive. "
                    f"Received: {value}"
                )
        if virtual_scale is None:
            if virtual_len is None or spin_norm is None:
                raise ValueError(
                    "Give either `virtual_len` and `spin_norm`, or `virtual_scale`."
                )
            lengths = list(virtual_len)
            scales = [v / s for v, s in zip(virtual_len, spin_norm, strict=True)]
        else:
            lengths = [0.0] * len(virtual_scale)
            scales = list(virtual_scale)
        if len(scales) != len(types.spin_types):
            raise ValueError(
                f"{len(types.spin_types)} types have a spin, but {len(scales)} values "
                "were given for `virtual_len`, `spin_norm` or `virtual_scale`."
            )
        spread = iter(zip(scales, lengths, strict=True))
        rows = [next(spread) if magnetic else (0.0, 0.0) for magnetic in types.use_spin]
        return cls(
            types=types,
            scale=tuple(float(row[0]) for row in rows),
            virtual_len=tuple(float(row[1]) for row in rows),
        )

    @property
    def ntypes(self) -> int:
        """Number of real types; those of virtual atoms come after them."""
        return self.types.ntypes

    @property
    def ntypes_file(self) -> int:
        """Number of types of a file: real ones, then one per spin type."""
        return self.ntypes + len(self.types.spin_types)

    def virtual_type(self, atype: np.ndarray) -> np.ndarray:
        """Type of each atom's virtual atom, -1 where it has none.

        Parameters
        ----------
        atype : np.ndarray of int
            Real types, -1 for no atom.
        """
        table = np.full(self.ntypes + 1, -1)
        owners = list(self.types.spin_types)
        table[owners] = self.ntypes + np.arange(len(owners))
        return table[atype]

    def file_types(
        self, names: Sequence[str] | None, type_map: Sequence[str], unknown: int
    ) -> list[int]:
        """Type of the model, virtual ones included, of each number in a ``type.raw``.

        Parameters
        ----------
        names : sequence of str or None
            Names in ``type_map.raw``, of which ``Ni_spin`` is the virtual atom of Ni.
            Virtual atoms without a name come after all that have one. None: the numbers
            of a file are those of the model.
        type_map : sequence of str, length ntypes
            Names of the model's types.
        unknown : int
            What to answer for a name that the model does not have.
        """
        if names is None:
            return list(range(self.ntypes_file))
        virtual = self.virtual_type(np.arange(self.ntypes)).tolist()
        known = {spin_name(type_map[t]): virtual[t] for t in self.types.spin_types}
        known |= {name: t for t, name in enumerate(type_map)}
        table = [known.get(name, unknown) for name in names]
        if max(table, default=-1) < self.ntypes:
            table += [virtual[t] for t in table if t in self.types.spin_types]
        return table

    def scale_of(self, atype: np.ndarray) -> np.ndarray:
        """``virtual_len / spin_norm`` in Å/μ_B of each atom, 0 where it has no spin."""
        return np.array([*self.scale, 0.0])[atype]

    def nominal_of(self, atype: np.ndarray) -> np.ndarray:
        """`virtual_len` in Å of each atom, 0 where it is unknown."""
        return np.array([*self.virtual_len, 0.0])[atype]

    def place(
        self, coord: np.ndarray, spin: np.ndarray, atype: np.ndarray
    ) -> np.ndarray:
        """Positions in Å of every atom's virtual atom (its own where it has none).

        Parameters
        ----------
        coord, spin : np.ndarray
            Positions (Å) and spins (μ_B), shape (..., nloc, 3).
        atype : np.ndarray
            Types, shape (..., nloc) or (nloc,).
        """
        return coord + self.scale_of(atype)[..., None] * spin

    def pair(self, atype: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Match virtual atoms with their owners: in order of appearance in each type.

        Parameters
        ----------
        atype : np.ndarray of int, shape (natoms,)
            Real and virtual types of one frame in any order, -1 for no atom.

        Returns
        -------
        real, virtual : np.ndarray of int, shape (nloc,)
            Indices into `atype` of the real atoms and of their virtual atoms, -1 where
            they have none.

        Raises
        ------
        ValueError
            If a spin type has more or fewer atoms than virtual atoms.
        """
        real = np.flatnonzero((atype >= 0) & (atype < self.ntypes))
        virtual = np.full(len(real), -1)
        for owner_type in self.types.spin_types:
            virtual_type = int(self.virtual_type(np.array(owner_type)))
            owners = np.flatnonzero(atype[real] == owner_type)
            own = np.flatnonzero(atype == virtual_type)
            if len(owners) != len(own):
                raise ValueError(
                    f"{len(owners)} atoms of spin type {owner_type} but {len(own)} "
                    f"virtual atoms of type {virtual_type}"
                )
            virtual[owners] = own
        return real, virtual

    def spins_from(
        self, coord: np.ndarray, virtual_coord: np.ndarray, atype: np.ndarray
    ) -> np.ndarray:
        """Spins in μ_B of magnetic atoms from the positions of their virtual atoms.

        Parameters
        ----------
        coord, virtual_coord : np.ndarray
            Positions in Å of owners and of their virtual atoms, shape (..., n, 3).
        atype : np.ndarray
            Types of the owners, all with spin, shape (n,) or (..., n).
        """
        return (virtual_coord - coord) / self.scale_of(atype)[..., None]
