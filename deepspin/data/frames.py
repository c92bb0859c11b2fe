# SPDX-License-Identifier: Apache-2.0
"""Systems in one internal form, however their spins were stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


class Places(tuple[tuple[str, int], ...]):
    """Path and number of frames of each set of a system.

    Attributes
    ----------
    first : int
        Number in the system of the first frame that is looked at: not 0 for a piece.
    """

    first: int = 0

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int]], first: int = 0) -> Places:
        """Make it of paths and numbers."""
        places = cls(rows)
        places.first = first
        return places


@dataclass(frozen=True)
class System:
    """Frames of one system, float64 in the shapes and units of `deepspin.keys`.

    Parameters
    ----------
    path : str
        Folder, or ``file.hdf5#/group``.
    atype : np.ndarray of int32, shape (nf, nloc)
        Types of the real atoms in file order, -1 (at the end of a frame) for no atom.
    coord, spin : np.ndarray, shape (nf, nloc, 3)
        Positions and spins; spins are exactly 0 on types without spin.
    box : np.ndarray, shape (nf, 3, 3)
        Cells, zeros if not periodic.
    pbc : bool
        Whether the system is periodic.
    fparam : np.ndarray, shape (nf, numb_fparam)
        Frame parameters; numb_fparam is 0 where none are read.
    labels : dict of str to np.ndarray
        Those of energy, force, force_mag, virial, atom_ener and atom_ener_coeff that
        some frame has, NaN in frames without; force_mag is exactly 0 on types without
        spin.
    layout : {"virtual-atom", "spin-files"}
        How the spins were stored.
    natoms_loss : np.ndarray, shape (nf,)
        Atoms that the loss divides by: those of the file, virtual ones included.
    index : np.ndarray of int, shape (nf, nloc)
        Place of each atom among those of the file, -1 for no atom.
    sets : tuple of (str, int)
        Path and number of frames of each set.
    named : bool
        Whether the data name their types (``type_map.raw``). Otherwise their numbers
        are taken as those of the model.
    """

    path: str
    atype: np.ndarray
    coord: np.ndarray
    spin: np.ndarray
    box: np.ndarray
    pbc: bool
    fparam: np.ndarray
    labels: dict[str, np.ndarray]
    layout: str
    natoms_loss: np.ndarray
    index: np.ndarray
    sets: Places
    named: bool

    @property
    def nframes(self) -> int:
        """Number of frames."""
        return self.atype.shape[0]

    @property
    def nloc(self) -> int:
        """Number of real atoms of the largest frame."""
        return self.atype.shape[1]

    def has(self, label: str) -> np.ndarray:
        """Which frames have a label: bool (nf,)."""
        if label not in self.labels:
            return np.zeros(self.nframes, dtype=bool)
        return present(self.labels[label])

    def where(self, frame: int, atom: int | None = None) -> str:
        """Name a frame, or an atom of it, by its place on disk."""
        inside = frame_of(self.sets, frame)
        return inside if atom is None else f"atom {self.index[frame, atom]}, {inside}"


def present(label: np.ndarray) -> np.ndarray:
    """Which frames (nf,) of a label (nf, ...) are not missing, which is NaN."""
    return ~np.isnan(label).any(axis=tuple(range(1, label.ndim)))


def frame_of(places: Places, frame: int) -> str:
    """Name a frame by its set and its number there."""
    frame += places.first
    ends = np.cumsum([nframes for _, nframes in places])
    number = int(np.searchsorted(ends, frame, side="right"))
    return f"frame {frame - ends[number] + places[number][1]} of '{places[number][0]}'"


def order_hint(type_map: Sequence[str]) -> str:
    """Tell what the numbers in type.raw mean where nothing names them."""
    meant = ", ".join(f"{t} is {name}" for t, name in enumerate(type_map))
    return (
        f" Without type_map.raw, type {meant}, in the order of the model's `type_map`: "
        "if the data have another order, write type_map.raw."
    )
