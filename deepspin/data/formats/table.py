# SPDX-License-Identifier: Apache-2.0
"""The formats of other programs that are read: one row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deepspin.data.files import DataError
from deepspin.data.formats import (
    abacus,
    atoms,
    deltaspin,
    extxyz,
    hdf5,
    lammps,
    through_dpdata,
)
from deepspin.data.formats.frame import Dropped, Frame

_Frames = Iterator[Frame | Dropped]


@dataclass(frozen=True)
class Format:
    """A format that another program writes.

    Parameters
    ----------
    name : str
        What users call it, as in ``NAME:PATH``.
    description : str
        What it is, in a few words.
    matches : callable
        Whether a file or a folder is of this format, as its name or its head tells.
    read : callable
        Gives what a file or a folder holds, frame by frame, and which frames must be
        left out. With `columns` it also takes the names of `Reading.names`.
    columns : bool
        Whether spins and magnetic forces stand in columns that have names.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    read: Callable[..., _Frames]
    columns: bool = False


@dataclass(frozen=True)
class Reading:
    """What the user says of the files of other programs.

    Parameters
    ----------
    format : str, optional
        Their format, instead of what their names and heads tell.
    spin_key, force_mag_key : str, optional
        Columns of spins and magnetic forces, instead of those with usual names.
    """

    format: str | None = None
    spin_key: str | None = None
    force_mag_key: str | None = None

    @property
    def names(self) -> Mapping[str, str]:
        """Columns that are named, by what they hold."""
        given = {"spin": self.spin_key, "force_mag": self.force_mag_key}
        return {what: name for what, name in given.items() if name is not None}


_ROWS = (
    Format("extxyz", "extended XYZ", extxyz.matches, extxyz.read, columns=True),
    Format(
        "traj",
        "a trajectory of ASE",
        atoms.is_trajectory,
        atoms.read_trajectory,
        columns=True,
    ),
    Format(
        "db",
        "a data base of ASE",
        atoms.is_database,
        atoms.read_database,
        columns=True,
    ),
    Format(
        "md",
        "a trajectory of dp-spin md in HDF5",
        hdf5.matches,
        hdf5.read,
    ),
    Format(
        "lammps-dump",
        "a dump of LAMMPS",
        lammps.is_dump,
        lammps.read_dump,
        columns=True,
    ),
    Format("lammps-data", "a data file of LAMMPS", lammps.is_data, lammps.read_data),
    Format("abacus", abacus.DESCRIPTION, abacus.matches, abacus.read),
    Format("deltaspin", deltaspin.DESCRIPTION, deltaspin.matches, deltaspin.read),
)
FORMATS = {form.name: form for form in _ROWS}


def _never(path: Path) -> bool:
    """Whether a path is of a format that is read only if it is named."""
    return False


def is_named(name: str) -> bool:
    """Whether a word before a path is the name of a format."""
    return name in FORMATS or name.startswith(through_dpdata.PREFIX)


def recognise(path: Path) -> Format | None:
    """The format of a file or a folder, None if it is none of those known."""
    return next((form for form in FORMATS.values() if form.matches(path)), None)


def named(name: str) -> Format:
    """The format of a name.

    Raises
    ------
    DataError
        There is none.
    """
    if name.startswith(through_dpdata.PREFIX):
        form = name.removeprefix(through_dpdata.PREFIX)
        how = partial(through_dpdata.read, form=form)
        return Format(name, f"{form}, through dpdata", _never, how)
    if name not in FORMATS:
        raise DataError(
            f"'{name}' is no format that is read: {', '.join(FORMATS)}, or dpdata/ and "
            "what dpdata calls it, as in dpdata/vasp/outcar. Correct it."
        )
    return FORMATS[name]


def frames_of(path: Path, form: Format, reading: Reading) -> _Frames:
    """Read a file or a folder.

    Raises
    ------
    DataError
        It cannot be read, or columns are named in a format that has none. Whatever a
        reader stumbles over in a damaged file is such an error, which names the file.
    """
    options: dict[str, Any] = {}
    if form.columns:
        options["names"] = reading.names
    elif reading.names:
        raise DataError(
            f"'{path}' is read as {form.description}, which has no columns to name. "
            f"Leave out {' and '.join(reading.names.values())}."
        )
    return _read(path, form, options)


def _read(path: Path, form: Format, options: Mapping[str, Any]) -> _Frames:
    try:
        yield from form.read(path, **options)
    except (DataError, ImportError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # what damaged files hold, nobody has listed
        text = " ".join(str(error).split()).rstrip(".") or "no reason given"
        raise DataError(
            f"'{path}' cannot be read as {form.description}: {type(error).__name__}: "
            f"{text}. It may be damaged: write it again."
        ) from error
