# SPDX-License-Identifier: Apache-2.0
"""Frames of files and systems, one by one, with names of their atoms' types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepspin.data.files import HDF5_SUFFIXES, DataError
from deepspin.data.find import file_of, format_of
from deepspin.data.formats.frame import Frame
from deepspin.data.formats.table import Reading
from deepspin.data.moments import read_moments
from deepspin.data.systems import load_system
from deepspin.survey.scheme import survey

# what the user may say of files, and formats that ASE reads, also without spins
_READING = ("format", "spin_key", "force_mag_key")
_OF_ASE = (None, "extxyz", "traj", "db")


def read_frames(paths: Sequence[str], **spin: Any) -> list[Frame]:
    """Read the frames of files that ASE reads, and of systems.

    Parameters
    ----------
    paths : sequence of str
        Systems, what other programs wrote, or folders to search; other files that ASE
        reads, with spins as initial magnetic moments or in an array ``spin``.
    **spin
        How to read the spins of systems, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    list of Frame
        In order; their arrays hold ``spin`` if there are any.

    Raises
    ------
    DataError, ImportError
        They cannot be read, or need ASE.
    """
    found: list[Frame] = []
    for path in paths:
        said = Reading(*(spin.get(name) for name in _READING))
        form, file = format_of(path, said), file_of(path)
        asked = any(spin.get(name) for name in _READING) or form not in _OF_ASE
        if asked or not file.is_file() or file.suffix in HDF5_SUFFIXES:
            found += _of_systems(path, spin)
        else:
            found += _of_file(str(file))
    return found


def _of_file(path: str) -> Iterator[Frame]:
    try:
        import ase.io
    except ImportError as error:
        raise ImportError(
            f"'{path}' needs ASE, which is not installed: pip install ase. Systems of "
            "training data are read without."
        ) from error
    try:
        images = ase.io.read(path, index=":")
    except Exception as error:  # each format has its own
        raise DataError(
            f"ASE cannot read '{path}': {type(error).__name__}: "
            f"{' '.join(str(error).split())}. Write the file again."
        ) from error
    for number, atoms in enumerate(images):
        place = f"frame {number} of '{path}'"
        try:
            moments = read_moments(atoms)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error
        arrays = {} if moments is None else {"spin": moments.vectors}
        cell = atoms.cell.array.copy() if atoms.pbc.all() else None
        symbols = tuple(atoms.get_chemical_symbols())
        yield Frame(place, symbols, atoms.positions.copy(), cell, arrays)


def _of_systems(path: str, spin: dict[str, Any]) -> Iterator[Frame]:
    data = survey([path], **spin)
    for name in data.paths:
        system = load_system(name, data.type_map, data.spin, allow_zero_spin=True)
        for k in range(system.nframes):
            here = system.atype[k] >= 0
            yield Frame(
                system.where(k),
                tuple(np.array(data.type_map)[system.atype[k][here]].tolist()),
                system.coord[k][here],
                system.box[k] if system.pbc else None,
                {"spin": system.spin[k][here]},
            )
