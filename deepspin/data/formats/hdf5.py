# SPDX-License-Identifier: Apache-2.0
"""Trajectories of ``dp-spin md`` in HDF5: arrays over frames and replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data.files import HDF5_SUFFIXES, DataError
from deepspin.data.formats.columns import periodic
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.utils.hdf5 import reading

# what every such file has
KEYS = ("type_map", "atype", "step", "time", "coord", "spin")
# frames that are read at once
BLOCK = 64
LABELS = ("energy", "force", "force_mag")


@dataclass(frozen=True)
class Row:
    """One frame of all replicas, in the units of the dynamics.

    Parameters
    ----------
    number : int
        Which, from 0.
    time : float
        In fs.
    symbols : np.ndarray of str, shape (nloc,)
        Names of the atoms' types.
    box : np.ndarray, shape (3, 3) or (replicas, 3, 3), or None
        Lattice vectors in Å, of each replica if cells change.
    arrays : dict of str to np.ndarray, shape (replicas, ...)
        ``coord``, ``spin``, and those of energy, force and force_mag that there are.
    """

    number: int
    time: float
    symbols: np.ndarray
    box: np.ndarray | None
    arrays: dict[str, np.ndarray]


def matches(path: Path) -> bool:
    """Whether a file is such a trajectory, as what it holds says."""
    if path.suffix not in HDF5_SUFFIXES or not path.is_file():
        return False
    try:
        with reading(path) as file:
            return set(KEYS) <= set(file)
    except OSError:
        return False


def rows(path: Path) -> Iterator[Row]:
    """Read the frames that were written; the places of others are passed over.

    Raises
    ------
    DataError
        It is no such trajectory.
    """
    try:
        with reading(path) as file:
            names = np.array([name.decode() for name in file["type_map"][:]])
            symbols = names[file["atype"][:]]
            box = file["box"][:] if "box" in file else None
            pbc = file["pbc"][:] if "pbc" in file else [box is not None]
            if not periodic(f"'{path}'", np.ravel(pbc)):
                box = None
            there = ["coord", "spin", *(key for key in LABELS if key in file)]
            written, time = file["step"][:] >= 0, file["time"][:]
            for first in range(0, len(written), BLOCK):
                block = {key: file[key][first : first + BLOCK] for key in there}
                for k in np.flatnonzero(written[first : first + BLOCK]):
                    arrays = {key: values[k] for key, values in block.items()}
                    number = int(first + k)
                    cell = _cell(box, 4, number)
                    yield Row(number, float(time[number]), symbols, cell, arrays)
    except (OSError, KeyError, IndexError) as error:
        raise DataError(
            f"'{path}' is no trajectory of dp-spin md: it must have times, positions "
            "and spins of its frames."
        ) from error


def read(path: Path) -> Iterator[Frame | Dropped]:
    """Read all frames, replica by replica."""
    for row in rows(path):
        symbols = tuple(row.symbols.tolist())
        for replica, coord in enumerate(row.arrays["coord"]):
            which = f", replica {replica}" if len(row.arrays["coord"]) > 1 else ""
            arrays = {
                key: values[replica]
                for key, values in row.arrays.items()
                if key != "coord"
            }
            place = f"frame {row.number}{which} of '{path}'"
            cell = _cell(row.box, 3, replica)
            yield Frame(place, symbols, coord, cell, arrays)


def _cell(box: np.ndarray | None, ndim: int, number: int) -> np.ndarray | None:
    """One of some cells in an array of so many dimensions; else the only one."""
    return box[number] if box is not None and box.ndim == ndim else box
