# SPDX-License-Identifier: Apache-2.0
"""Spins as virtual atoms: the arithmetic, free of any tensor library's types.

Everything the package knows about virtual atoms stands here (types, positions, forces)
and in the Keras layer around it, `deepspin.model.virtual.Spin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# how far a virtual atom may sit from its owner, in units of `virtual_len`
MAX_STRETCH = 3.0
# distances within this of `virtual_len` (in Å) are the same modulus
LENGTH_TOLERANCE = 1e-5


@dataclass(frozen=True)
class VirtualAtoms:
    r"""The spin scheme of DeepSPIN: one virtual atom beside each magnetic atom.

    .. math:: R_i^p = R_i + \frac{\mathrm{virtual\_len}}{\mathrm{spin\_norm}} S_i

    Virtual atoms of the k-th spin type have the type ``ntypes + k``. They are
    neighbours, never centres. With `placeholders` the types without spin have a type of
    neighbours each, too, after those: there is never such a neighbour, but empty slots
    count. Models of DeePMD-kit's PyTorch backend are of that kind.

    Parameters
    ----------
    use_spin : tuple of bool, length ntypes
        Which types carry a spin.
    scale : tuple of float, length ntypes
        ``virtual_len / spin_norm`` in Å/μ_B, 0 on types without spin.
    virtual_len : tuple of float, length ntypes
        Nominal distance in Å between a magnetic atom and its virtual atom, 0 where it
        is not known (only `scale` given) or the type has no spin.
    placeholders : bool
        Whether types without spin have types of neighbours that never come.

    References
    ----------
    .. [1] T. Yang et al., Phys. Rev. B 110, 064427 (2024),
       doi:10.1103/PhysRevB.110.064427.
    """

    use_spin: tuple[bool, ...]
    scale: tuple[float, ...]
    virtual_len: tuple[float, ...]
    placeholders: bool = False

    def __post_init__(self) -> None:
        lengths = {len(self.use_spin), len(self.scale), len(self.virtual_len)}
        if len(lengths) != 1:
            raise ValueError(
                "`use_spin`, `scale` and `virtual_len` must have one entry per type. "
                f"Received: {self}"
            )
        for magnetic, scale in zip(self.use_spin, self.scale, strict=True):
            if magnetic != (scale > 0):
                raise ValueError(
                    "`scale` must be positive on spin types and 0 on the others. "
                    f"Received: use_spin={self.use_spin}, scale={self.scale}"
                )

    @classmethod
    def from_options(
        cls,
        use_spin: Sequence[bool],
        virtual_len: Sequence[float] | None = None,
        spin_norm: Sequence[float] | None = None,
        virtual_scale: Sequence[float] | None = None,
        placeholders: bool = False,
    ) -> VirtualAtoms:
        """Build the scheme from the options of ``model/spin``.

        Parameters
        ----------
        use_spin : sequence of bool, length ntypes
            Which types carry a spin.
        virtual_len, spin_norm : sequence of float, one per spin type, optional
            Distance in Å of the virtual atom of a spin of modulus `spin_norm` (μ_B).
        virtual_scale : sequence of float, one per spin type, optional
            Their ratio in Å/μ_B, instead of the two.
        placeholders : bool
            See the class; no option of an input.
        """
        nspin = sum(map(bool, use_spin))
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
        if len(scales) != nspin:
            raise ValueError(
                f"{nspin} types have a spin, but {len(scales)} values were given for "
                "`virtual_len`, `spin_norm` or `virtual_scale`."
            )
        spread = iter(zip(scales, lengths, strict=True))
        rows = [next(spread) if magnetic else (0.0, 0.0) for magnetic in use_spin]
        return cls(
            use_spin=tuple(map(bool, use_spin)),
            scale=tuple(float(row[0]) for row in rows),
            virtual_len=tuple(float(row[1]) for row in rows),
            placeholders=bool(placeholders),
        )

    @property
    def ntypes(self) -> int:
        """Number of real types."""
        return len(self.use_spin)

    @property
    def spin_types(self) -> tuple[int, ...]:
        """Indices of the types with spin; the k-th one's virtual type is ntypes + k."""
        return tuple(t for t, magnetic in enumerate(self.use_spin) if magnetic)

    @property
    def owners(self) -> tuple[int, ...]:
        """Real type that each further type of neighbours belongs to.

        The spin types, for their virtual atoms; then those that only hold a place.
        """
        others = (t for t, magnetic in enumerate(self.use_spin) if not magnetic)
        return (*self.spin_types, *(others if self.placeholders else ()))

    @property
    def ntypes_extended(self) -> int:
        """Number of neighbour types: real ones, then one per spin type (`owners`)."""
        return self.ntypes + len(self.owners)

    def extend_sel(self, sel: Sequence[int]) -> tuple[int, ...]:
        """Append to the `sel` of the real types that of the further types."""
        return (*sel, *(sel[t] for t in self.owners))

    def neighbor_names(self, type_map: Sequence[str]) -> list[str]:
        """Names of all types of neighbours, from those of the types."""
        return [*type_map, *(f"{type_map[t]}(spin)" for t in self.owners)]

    def virtual_type(self, atype: np.ndarray) -> np.ndarray:
        """Type of each atom's virtual atom, -1 where it has none.

        Parameters
        ----------
        atype : np.ndarray of int
            Real types, -1 for no atom.
        """
        table = np.full(self.ntypes + 1, -1)
        table[list(self.spin_types)] = self.ntypes + np.arange(len(self.spin_types))
        return table[atype]

    def is_magnetic(self, atype: np.ndarray) -> np.ndarray:
        """Whether each atom's type carries a spin (False for atype -1)."""
        return np.array([*self.use_spin, False])[atype]

    def scale_of(self, atype: np.ndarray) -> np.ndarray:
        """``virtual_len / spin_norm`` in Å/μ_B of each atom, 0 where it has no spin."""
        return np.array([*self.scale, 0.0])[atype]

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

    def extend(
        self, coord: np.ndarray, spin: np.ndarray, atype: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append to the atoms of one frame their virtual atoms.

        Parameters
        ----------
        coord, spin : np.ndarray, shape (nloc, 3)
            Positions (Å) and spins (μ_B).
        atype : np.ndarray of int, shape (nloc,)
            Types, -1 for no atom.

        Returns
        -------
        points : np.ndarray, shape (2 nloc, 3)
            Positions in Å of all atoms, then of all virtual atoms.
        types : np.ndarray of int, shape (2 nloc,)
            Their types, -1 where there is none.
        """
        points = np.concatenate([coord, self.place(coord, spin, atype)])
        return points, np.concatenate([atype, self.virtual_type(atype)])

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
        for owner_type in self.spin_types:
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
