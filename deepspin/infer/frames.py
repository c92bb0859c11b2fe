# SPDX-License-Identifier: Apache-2.0
"""Frames that a model is asked about: what users give, checked and in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.files import LARGEST
from deepspin.spins.schemes import Scheme
from deepspin.spins.types import ZERO_SPIN

if TYPE_CHECKING:
    from deepspin.model.ener import SpinEnergyModel

# cells of so large a volume, by the cube of their largest number, have three dimensions
SURELY = 1e-6


@dataclass(frozen=True)
class Frames:
    """Frames of the same atoms, float64 in the shapes and units of `deepspin.keys`.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nf, nloc, 3)
        Positions (Å) and spins (μ_B), as they were given.
    box : np.ndarray, shape (nf, 3, 3)
        Lattice vectors in Å, zeros for open boundaries.
    atype : np.ndarray of int, shape (nloc,)
        Type of each atom.
    pbc : np.ndarray of bool, shape (3,)
        Periodic directions.
    fparam : np.ndarray, shape (nf, numb_fparam); or None
        Frame parameters, of a model that takes some.
    """

    coord: np.ndarray
    spin: np.ndarray
    box: np.ndarray
    atype: np.ndarray
    pbc: np.ndarray
    fparam: np.ndarray | None

    @classmethod
    def of(
        cls,
        model: SpinEnergyModel,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        pbc: bool | Sequence[bool] | np.ndarray | None,
        fparam: Sequence[float] | np.ndarray | None,
    ) -> Frames:
        """Frames for a `SpinEnergyModel`, see `DeepSpin.eval`."""
        atype = _types(atom_types, model.type_map)
        coord = as_floats("coords", coords, (atype.size, 3))
        spin = as_floats("spins", spins, (atype.size, 3))
        nf = len(coord)
        parameters = _parameters(fparam, nf, model.fitting.numb_fparam)
        periodic = _directions(cells is not None if pbc is None else pbc)
        if cells is None:
            if periodic.any():
                raise ValueError(
                    "Periodic boundaries need `cells`. Received: None. Give lattice "
                    "vectors, or pbc=False."
                )
            cells = np.zeros((nf, 3, 3))
        box = as_floats("cells", cells, (3, 3))
        frames = cls(
            coord=coord,
            spin=spin,
            box=box,
            atype=atype,
            pbc=periodic,
            fparam=parameters,
        )
        frames._check_cells()
        if not model.allows_zero_spin:
            frames._check_spins(model.type_map, model.spin.scheme)
        return frames

    @property
    def nf(self) -> int:
        """Number of frames."""
        return len(self.coord)

    @property
    def nloc(self) -> int:
        """Number of atoms."""
        return self.atype.size

    def _check_cells(self) -> None:
        coord, spin, box = self.coord, self.spin, self.box
        if not len(coord) == len(spin) == len(box):
            raise ValueError(
                f"Numbers of frames differ. Received: {len(coord)} of `coords`, "
                f"{len(spin)} of `spins`, {len(box)} of `cells`. Give one of each for "
                "every frame."
            )
        nperiodic = np.count_nonzero(self.pbc)
        if nperiodic == 0 or (nperiodic == 3 and _surely_cells(box)):
            return
        rank = np.linalg.matrix_rank(box[:, self.pbc])
        for frame in np.flatnonzero(rank < nperiodic)[:1]:
            raise ValueError(
                f"`cells` of frame {frame} is singular: {box[frame].tolist()}. Rows "
                "must be lattice vectors in Å; without periodicity pass None."
            )

    def _check_spins(self, type_map: Sequence[str], scheme: Scheme) -> None:
        modulus = np.linalg.norm(self.spin, axis=2)
        bare = (modulus < ZERO_SPIN) & scheme.types.is_magnetic(self.atype)
        if bare.any():
            frame, atom = np.argwhere(bare)[0]
            raise ValueError(
                f"Atom {atom} of frame {frame} has |spin| = "
                f"{modulus[frame, atom]:.3g}, but type "
                f"'{type_map[self.atype[atom]]}' is a spin type; {scheme.zero_spin}. "
                "Give it a spin (1e-6 μ_B will do) or use a model with "
                "`env_protection`."
            )


def _types(
    atom_types: Sequence[int] | Sequence[str] | np.ndarray, type_map: list
) -> np.ndarray:
    """Indices of types that are given as such, or by name."""
    atype = np.asarray(atom_types)
    if atype.ndim == 1 and atype.dtype.kind == "U" and np.isin(atype, type_map).all():
        atype = np.array([type_map.index(name) for name in atype])
    known = atype.ndim == 1 and atype.size > 0 and atype.dtype.kind in "iu"
    if not known or atype.min() < 0 or atype.max() >= len(type_map):
        names = ", ".join(f"{t} for {name}" for t, name in enumerate(type_map))
        raise ValueError(
            f"`atom_types` must be indices or names, one for each atom: {names}. "
            "Received: "
            f"{np.array2string(atype, threshold=8, edgeitems=3, separator=', ')}"
        )
    return atype.astype(int)


def _directions(pbc: bool | Sequence[bool] | np.ndarray) -> np.ndarray:
    """Periodic directions, (3,) of bool."""
    given = np.asarray(pbc)
    known = given.dtype == bool or np.isin(given, (0, 1)).all()
    if given.shape not in ((), (3,)) or not known:
        raise ValueError(f"`pbc` must be a bool or 3 of them. Received: {pbc}")
    return np.full(3, given != 0)


def _surely_cells(box: np.ndarray) -> bool:
    """Whether no cell is near to singular; a look that is cheaper than their rank.

    The largest singular value is at most 3 times the largest number, and the product of
    the three is the volume: the least one is far above rounding then.
    """
    largest = np.abs(box).max(axis=(1, 2))
    return bool((np.abs(np.linalg.det(box)) > SURELY * largest**3).all())


def _parameters(
    fparam: Sequence[float] | np.ndarray | None, nf: int, number: int
) -> np.ndarray | None:
    """Frame parameters (nf, number), checked; None for a model without."""
    if number == 0:
        if fparam is not None:
            raise ValueError(
                "The model takes no frame parameters. Received: `fparam` of shape "
                f"{np.shape(fparam)}. Leave it out."
            )
        return None
    array = _real("fparam", [] if fparam is None else fparam)
    fits = array.ndim < 2 or array.shape[1:] == (number,)
    if not fits or array.size not in (number, nf * number):
        raise ValueError(
            f"The model takes {number} frame parameters: `fparam` must have the "
            f"shape ({nf}, {number}), or ({number},) for all frames, or be flat. "
            f"Received: {'none' if fparam is None else array.shape}"
        )
    rows = array.reshape(-1, number)
    _refuse_huge("fparam", rows)
    return np.broadcast_to(rows, (nf, number))


def _real(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Take real numbers as float64."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise TypeError("no real numbers")
        if np.ma.is_masked(values):
            raise TypeError("some are masked")
    except (TypeError, ValueError) as error:  # ragged, words, complex, ...
        raise ValueError(
            f"`{name}` must hold real numbers. Received: {type(values).__name__} "
            f"({' '.join(str(error).split())})"
        ) from error
    return array.astype(np.float64)


def _refuse_huge(name: str, rows: np.ndarray) -> None:
    """Refuse rows, one for each frame, with numbers that are none of physics."""
    known = np.abs(rows) < LARGEST
    if not known.all():
        raise ValueError(
            f"`{name}` of frame {known.all(axis=1).argmin()} has values that are NaN, "
            f"infinite or beyond {LARGEST:g}."
        )


def as_floats(name: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Check numbers of so many rows and columns for each frame.

    Parameters
    ----------
    name : str
        What errors call them.
    values : np.ndarray
        Numbers of shape (nf, *shape), or that of one frame, or flat.
    shape : tuple of int
        Their shape in one frame.

    Returns
    -------
    np.ndarray, shape (nf, *shape)
        The same as float64.

    Raises
    ------
    ValueError
        They are no finite numbers, or of another shape.
    """
    array = _real(name, values)
    size = shape[0] * shape[1]
    fits = {
        1: array.size % size == 0,
        2: array.shape in (shape, (len(array) if array.ndim else 0, size)),
        3: array.shape[1:] == shape,
    }
    if not fits.get(array.ndim, False) or array.size == 0:
        raise ValueError(
            f"`{name}` must have the shape (frames, {shape[0]}, {shape[1]}), or that "
            f"of one frame, or be flat. Received: {array.shape}"
        )
    _refuse_huge(name, array.reshape(-1, size))
    return array.reshape(-1, *shape)
