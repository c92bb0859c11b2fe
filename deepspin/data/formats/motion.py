# SPDX-License-Identifier: Apache-2.0
"""Trajectories of ``dp-spin md`` frame by frame, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data.files import HDF5_SUFFIXES, DataError
from deepspin.data.formats import hdf5


@dataclass(frozen=True)
class Moment:
    """One moment of all replicas.

    Parameters
    ----------
    time : float
        In ps.
    symbols : np.ndarray of str, shape (nloc,)
        Names of the atoms' types.
    box : np.ndarray, shape (3, 3), or None
        Lattice vectors in Å, of the first replica.
    coord, spin : np.ndarray, shape (replicas, nloc, 3)
        In Å and μ_B.
    """

    time: float
    symbols: np.ndarray
    box: np.ndarray | None
    coord: np.ndarray
    spin: np.ndarray


def moments(path: Path) -> Iterator[Moment]:
    """Read a trajectory of ``dp-spin md``, HDF5 or what ASE reads.

    Raises
    ------
    DataError
        It is none.
    ImportError
        It needs ASE, which is not installed.
    """
    if path.suffix in HDF5_SUFFIXES:
        for row in hdf5.rows(path):
            coord, spin = row.arrays["coord"], row.arrays["spin"]
            yield Moment(1e-3 * row.time, row.symbols, row.box, coord, spin)
        return
    try:
        import ase.io
    except ImportError as error:
        raise ImportError(
            f"'{path}' needs ASE, which is not installed: pip install ase."
        ) from error
    try:
        for atoms in ase.io.iread(path, index=":"):
            yield Moment(
                1e-3 * atoms.info["time"],
                np.array(atoms.get_chemical_symbols()),
                atoms.cell.array.copy() if atoms.pbc.any() else None,
                atoms.positions[None],
                atoms.arrays["initial_magmoms"][None],
            )
    except Exception as error:  # each format has its own
        raise DataError(
            f"'{path}' is no trajectory of dp-spin md: it must have times, positions "
            "and spins of its frames."
        ) from error
