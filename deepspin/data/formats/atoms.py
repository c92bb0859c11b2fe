# SPDX-License-Identifier: Apache-2.0
"""ASE's atoms as frames, and the files that only ASE reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.columns import (
    UNCONVERGED,
    arrays_of,
    periodic,
    tell,
    unconverged,
)
from deepspin.data.formats.frame import Dropped, Frame

if TYPE_CHECKING:
    from ase import Atoms


def frame_of_atoms(
    place: str,
    atoms: Atoms,
    names: Mapping[str, str],
    notes: dict[str, Any],
) -> Frame:
    """A frame of ASE's atoms: results of their calculator, arrays and info.

    Parameters
    ----------
    place : str
        What messages call it.
    atoms : ase.Atoms
        Periodic in all directions or in none.
    names, notes
        See `deepspin.data.formats.columns.arrays_of`.

    Raises
    ------
    DataError
        See `arrays_of`; results are those of other atoms.
    """
    cell = atoms.cell.array.copy() if periodic(place, atoms.pbc) else None
    held = (_results(place, atoms), atoms.arrays, atoms.info)
    arrays = arrays_of(place, held, len(atoms), cell, names, notes)
    symbols = tuple(atoms.get_chemical_symbols())
    return Frame(place, symbols, np.array(atoms.positions), cell, arrays)


def _results(place: str, atoms: Atoms) -> Mapping[str, Any]:
    """Results of the calculator, which must be those of the atoms."""
    results = getattr(atoms.calc, "results", None) or {}
    check = getattr(atoms.calc, "check_state", None)
    if results and check is not None:
        moved = {"positions", "numbers", "cell", "pbc"} & set(check(atoms))
        if moved:
            raise DataError(
                f"{place}: the results of its calculator are those of other atoms: "
                f"{sorted(moved)} differ. Frames that share a calculator keep their "
                "results in an ase.calculators.singlepoint.SinglePointCalculator each."
            )
    return results


def is_trajectory(path: Path) -> bool:
    """Whether a file is one of ASE's trajectories, as its name says."""
    return path.suffix == ".traj" and path.is_file()


def is_database(path: Path) -> bool:
    """Whether a file is one of ASE's data bases, as its name and its head say."""
    if path.suffix != ".db" or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(16).startswith(b"SQLite format 3")


def read_trajectory(path: Path, names: Mapping[str, str]) -> Iterator[Frame | Dropped]:
    """Read all frames of a file that ASE reads.

    Raises
    ------
    DataError, ImportError
        ASE cannot read it, or there is no ASE.
    """
    try:
        import ase.io
    except ImportError as error:
        raise _needs_ase(path) from error
    number = 0
    notes: dict[str, Any] = {}
    images = ase.io.iread(path, index=":", format="traj")
    while True:
        place = f"frame {number} of '{path}'"
        try:
            atoms = next(images, None)
        except Exception as error:  # each format has its own
            raise _unread(place, error) from error
        if atoms is None:
            break
        if unconverged(atoms.info):
            yield Dropped(place, UNCONVERGED)
        else:
            yield frame_of_atoms(place, atoms, names, notes)
        number += 1
    tell(path, notes)


def read_database(path: Path, names: Mapping[str, str]) -> Iterator[Frame | Dropped]:
    """Read all rows of a data base of ASE's.

    Numbers and arrays that users gave with a row (``key_value_pairs``, ``data``) count
    beside what ASE knows.

    Raises
    ------
    DataError, ImportError
        ASE cannot read it, or there is no ASE.
    """
    try:
        from ase.db import connect
    except ImportError as error:
        raise _needs_ase(path) from error
    notes: dict[str, Any] = {}
    for row in _rows(path, connect):
        place = f"row {row.id} of '{path}'"
        own = {**row.key_value_pairs, **row.data}
        if unconverged(own):
            yield Dropped(place, UNCONVERGED)
            continue
        results = {name: row[name] for name in RESULTS if name in row}
        cell = np.array(row.cell) if periodic(place, row.pbc) else None
        held = (results, own)
        arrays = arrays_of(place, held, row.natoms, cell, names, notes)
        coord = np.array(row.positions)
        yield Frame(place, tuple(row.symbols), coord, cell, arrays)
    tell(path, notes)


def _rows(path: Path, connect: Callable[[Path], Any]) -> Iterator[Any]:
    """Rows of a data base, one by one."""
    try:
        yield from connect(path).select()
    except GeneratorExit:
        raise
    except Exception as error:  # each version has its own
        raise _unread(f"'{path}'", error) from error


RESULTS = ("energy", "forces", "stress", "magmoms", "initial_magmoms", "energies")


def _needs_ase(path: Path) -> ImportError:
    return ImportError(f"'{path}' needs ASE, which is not installed: pip install ase.")


def _unread(place: str, error: Exception) -> DataError:
    text = " ".join(str(error).split()).rstrip(".") or "no reason given"
    return DataError(
        f"ASE cannot read {place}: {type(error).__name__}: {text}. Write it again."
    )


# --- Writing --------------------------------------------------------------------------


def write_trajectory(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames as a trajectory of ASE, bit for bit.

    Spins are initial magnetic moments; what ASE has no place for is in ``info``.

    Raises
    ------
    DataError, ImportError
        A type is not named like an element, or there is no ASE.
    """
    try:
        from ase.io.trajectory import Trajectory
    except ImportError as error:
        raise _needs_ase(path) from error
    with Trajectory(path, "w") as file:
        for frame in frames:
            file.write(atoms_of(frame))


def atoms_of(frame: Frame) -> Atoms:
    """ASE's atoms of a frame.

    Raises
    ------
    DataError
        A type is not named like an element.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import atomic_numbers

    unknown = sorted(set(frame.symbols) - set(atomic_numbers))
    if unknown:
        raise DataError(
            f"{frame.place} has atoms of {', '.join(unknown)}; files of ASE hold "
            "elements only. Write extended XYZ, or npy files."
        )
    given = dict(frame.arrays)
    atoms = Atoms(
        list(frame.symbols),
        positions=frame.coord,
        cell=frame.cell,
        pbc=frame.cell is not None,
        magmoms=given.pop("spin", None),
    )
    names = {"energy": "energy", "force": "forces", "atom_ener": "energies"}
    results: dict[str, Any] = {
        name: given.pop(key) for key, name in names.items() if key in given
    }
    if "energy" in results:
        results["energy"] = float(results["energy"])
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(given)
    return atoms
