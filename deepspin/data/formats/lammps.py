# SPDX-License-Identifier: Apache-2.0
"""LAMMPS' data files and dumps with spins, in its units `metal`.

Spins are ``sp``, a modulus in μ_B, times the direction ``spx spy spz``. Magnetic forces
``fm`` are |S|/ħ times ours, in rad THz. Atoms are sorted by their ``id``; without names
of types, type 1 is the first of ``type_map``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.columns import periodic
from deepspin.data.formats.frame import Dropped, Frame

# eV ps
HBAR = 6.5821191e-4
DUMPS = (".dump", ".lammpstrj")
DATA = (".lmp", ".data", ".lammps")
# columns of sp spx spy spz, if they have no names of their own
SPINS = "c_spin[1]"
HEADS = tuple(f"ITEM: {w}".split() for w in ("NUMBER OF ATOMS", "BOX BOUNDS", "ATOMS"))
# a direction's length may differ from 1 by rounding in a text
UNIT = 1e-3
_HEADER = re.compile(r"^([-+.\dEe\s]+?)\s+([a-z][a-z\s]*)$")


def is_dump(path: Path) -> bool:
    """Whether a file is a dump, as its name or its head says."""
    return path.is_file() and (path.suffix in DUMPS or _head(path, b"ITEM: TIMESTEP"))


def is_data(path: Path) -> bool:
    """Whether a file is a data file, as its name and its head say."""
    if path.suffix not in DATA or not path.is_file():
        return False
    with open(path, "rb") as file:
        return b" atoms" in file.read(400)


def _head(path: Path, words: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(words)) == words


# --- Dumps ----------------------------------------------------------------------------


def read_dump(path: Path, names: Mapping[str, str]) -> Iterator[Frame | Dropped]:
    """Read all frames of a text dump.

    Parameters
    ----------
    path : Path
        The file.
    names : mapping of str to str
        ``spin`` and ``force_mag``: the first of the columns that hold
        ``sp spx spy spz`` and ``fmx fmy fmz``, such as ``c_mag[1]``, if they are not
        called that. ``c_spin[1]`` is taken without; a direction that is no unit vector
        is refused.

    Raises
    ------
    DataError
        It is cut off or has columns that cannot be right.
    """
    number = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        while head := next((line for line in file if line.strip()), ""):
            place = f"frame {number} of '{path}'"
            if not head.startswith("ITEM: TIMESTEP"):
                raise DataError(
                    f"{place} begins with {head.strip()[:40]!r} instead of ITEM: "
                    "TIMESTEP. Give a text dump of LAMMPS."
                )
            yield _of_dump(place, file, names)
            number += 1


def _of_dump(place: str, file: Iterator[str], names: Mapping[str, str]) -> Frame:
    lines = list(islice(file, 8))  # after the first: step, number, box, columns
    try:
        natoms, (box, columns) = int(lines[2]), (lines[k].split() for k in (3, 7))
        heads = (lines[1].split(), box[:3], columns[:2])
        if heads != HEADS:
            raise ValueError
        bounds = np.array([[float(w) for w in line.split()] for line in lines[4:7]])
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{place} is cut off or has no heading of number of atoms, box and columns "
            "as LAMMPS writes them. Remove the frame, or write the dump again."
        ) from error
    rows = list(islice(file, natoms))
    columns = columns[2:]
    words = " ".join(rows).split()
    if len(rows) < natoms or len(words) != natoms * len(columns):
        raise DataError(
            f"{place} is cut off: {len(words)} numbers for {natoms} atoms of "
            f"{len(columns)} columns. Remove the frame, or write the dump again."
        )
    table = {name: words[k :: len(columns)] for k, name in enumerate(columns)}
    cell, origin = _cell(place, box[3:], bounds)
    pbc = [flag == "pp" for flag in box if re.fullmatch("[pfsm]{2}", flag)]
    ids = _column(place, table, "id") if "id" in table else np.arange(natoms)
    order = np.argsort(ids, kind="stable")
    coord = _places(place, table, cell, origin)
    arrays = _arrays(place, table, names)
    if "element" in table:
        symbols = np.array(table["element"])
    elif "type" in table:
        symbols = np.array(table["type"])
    else:
        raise DataError(f"{place} has neither types nor elements. Dump `type`, too.")
    return Frame(
        place,
        tuple(symbols[order].tolist()),
        coord[order],
        cell if periodic(place, pbc or [True]) else None,  # old ones have no flags
        {name: values[order] for name, values in arrays.items()},
    )


def _cell(
    place: str, words: list[str], bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors in rows and the corner that they begin at."""
    if words[:2] == ["abc", "origin"]:
        if bounds.shape == (3, 4):
            return bounds[:, :3], bounds[:, 3]
    elif words[:3] == ["xy", "xz", "yz"]:
        if bounds.shape == (3, 3):
            xy, xz, yz = bounds[:, 2]
            low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
            high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
            cell = np.diag(high - low)
            cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
            return cell, low
    elif bounds.shape == (3, 2):
        return np.diag(bounds[:, 1] - bounds[:, 0]), bounds[:, 0]
    raise DataError(
        f"{place}: BOX BOUNDS {' '.join(words)} and numbers of shape {bounds.shape} do "
        "not fit together. Write the dump again."
    )


def _column(place: str, table: Mapping[str, list[str]], name: str) -> np.ndarray:
    try:
        return np.array([float(word) for word in table[name]])
    except ValueError as error:
        raise DataError(
            f"{place}: column {name} does not hold numbers: {error}. Write the dump "
            "again."
        ) from error


def _places(
    place: str, table: Mapping[str, list[str]], cell: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Positions (nloc, 3) in Å."""
    for names in (("x", "y", "z"), ("xu", "yu", "zu")):
        if set(names) <= set(table):
            return np.stack([_column(place, table, name) for name in names], axis=1)
    for names in (("xs", "ys", "zs"), ("xsu", "ysu", "zsu")):
        if set(names) <= set(table):
            scaled = [_column(place, table, name) for name in names]
            return np.stack(scaled, axis=1) @ cell + origin
    raise DataError(
        f"{place} has no positions: columns x y z, xu yu zu or xs ys zs. It has "
        f"{', '.join(table)}."
    )


def _arrays(
    place: str, table: Mapping[str, list[str]], names: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Spins, forces and magnetic forces that there are."""
    arrays: dict[str, np.ndarray] = {}
    spin = _named(place, table, names.get("spin"), 4)
    if spin is None and {"sp", "spx", "spy", "spz"} <= set(table):
        spin = ("sp", "spx", "spy", "spz")
    if spin is None and SPINS in table:
        spin = _named(place, table, SPINS, 4)
    if spin is not None:
        modulus, *direction = (_column(place, table, name) for name in spin)
        arrays["spin"] = _spins(place, modulus, np.stack(direction, axis=1), spin)
    if {"fx", "fy", "fz"} <= set(table):
        parts = [_column(place, table, name) for name in ("fx", "fy", "fz")]
        arrays["force"] = np.stack(parts, axis=1)
    magnetic = _named(place, table, names.get("force_mag"), 3)
    if magnetic is None and {"fmx", "fmy", "fmz"} <= set(table):
        magnetic = ("fmx", "fmy", "fmz")
    if magnetic is not None:
        if "spin" not in arrays:
            raise DataError(
                f"{place} has magnetic forces {magnetic[0]}, which are |S|/ħ times "
                "those in eV/μ_B, but no spins. Dump sp spx spy spz, too, or name them "
                "with --spin-key."
            )
        fm = np.stack([_column(place, table, name) for name in magnetic], axis=1)
        length = np.linalg.norm(arrays["spin"], axis=1)[:, None]
        there = np.broadcast_to(length > 0, fm.shape)
        arrays["force_mag"] = np.divide(
            HBAR * fm, length, out=np.zeros_like(fm), where=there
        )
    return arrays


def _named(
    place: str, table: Mapping[str, list[str]], first: str | None, number: int
) -> tuple[str, ...] | None:
    """Columns from one on that are named, None if none is."""
    if first is None:
        return None
    columns = list(table)
    if first not in table:
        raise DataError(f"{place} has no column {first}. It has {', '.join(columns)}.")
    found = columns[columns.index(first) :][:number]
    if len(found) < number:
        raise DataError(
            f"{place}: {number} columns are needed from {first} on, and there are "
            f"{len(found)}."
        )
    return tuple(found)


def _spins(
    place: str, modulus: np.ndarray, direction: np.ndarray, columns: Any
) -> np.ndarray:
    """Spins in μ_B from moduli and directions."""
    length = np.linalg.norm(direction, axis=1)
    none = (modulus == 0) & (length == 0)
    for atom in np.flatnonzero(~none & (np.abs(length - 1) > UNIT))[:1]:
        raise DataError(
            f"{place}: {' '.join(columns)} of atom {atom} in the file are "
            f"{modulus[atom]:g} and {direction[atom].tolist()}, and the last three are "
            "no unit vector. They must be a modulus in μ_B and a direction: name the "
            "first of the right columns with --spin-key."
        )
    return modulus[:, None] * direction


# --- Data files -----------------------------------------------------------------------


def read_data(path: Path) -> Iterator[Frame | Dropped]:
    """Read the one frame of a data file of ``atom_style spin``.

    Raises
    ------
    DataError
        It is cut off, or its atoms are of another style.
    """
    place = f"'{path}'"
    with open(path, encoding="utf-8", errors="replace") as file:
        next(file, None)  # a title
        head, sections = _sections(file)
    if "Atoms" not in sections or "atoms" not in head:
        raise DataError(f"{place} has no atoms. Give a data file of LAMMPS.")
    rows = [row for row, _ in sections["Atoms"]]
    natoms = int(head["atoms"][0])
    if len(rows) != natoms or len({len(row) for row in rows}) != 1:
        raise DataError(
            f"{place} is cut off: {len(rows)} whole rows of {natoms} atoms are there. "
            "Write the file again."
        )
    if len(rows[0]) not in (9, 12):  # 12: with images
        raise DataError(
            f"{place} has {len(rows[0])} columns of atoms, and `atom_style spin` has "
            "9: id, type, x y z, spx spy spz, sp. Write it with that style."
        )
    ids = [int(row[0]) for row in rows]
    rows = [rows[k] for k in np.argsort(ids, kind="stable")]
    try:
        table = np.array([[float(word) for word in row[2:9]] for row in rows])
        cell = _box(head)
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{place} has a box or atoms that are no numbers: {error}. Write the file "
            "again."
        ) from error
    spins = _spins(place, table[:, 6], table[:, 3:6], ("sp", "spx", "spy", "spz"))
    labels = _labels(sections)
    symbols = tuple(labels.get(row[1], row[1]) for row in rows)
    yield Frame(place, symbols, table[:, :3], cell, {"spin": spins})


_Sections = dict[str, list[tuple[list[str], str]]]


def _sections(file: Iterator[str]) -> tuple[dict[str, list[str]], _Sections]:
    """Numbers of the head by their words; rows of words and remarks by section."""
    head: dict[str, list[str]] = {}
    sections: _Sections = {}
    rows = None
    for line in file:
        text, _, remark = line.partition("#")
        text = text.strip()
        if not text:
            continue
        if text[0].isalpha():
            rows = sections.setdefault(text, [])
        elif rows is not None:
            rows.append((text.split(), remark.strip()))
        elif found := _HEADER.match(text):
            head[found[2]] = found[1].split()
    return head, sections


def _box(head: Mapping[str, list[str]]) -> np.ndarray:
    """Lattice vectors in rows."""
    if "avec" in head:
        rows = [head[name] for name in ("avec", "bvec", "cvec")]
        return np.array([[float(w) for w in row] for row in rows])
    sides = ("xlo xhi", "ylo yhi", "zlo zhi")
    low, high = np.array([[float(w) for w in head[side]] for side in sides]).T
    cell = np.diag(high - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = map(float, head.get("xy xz yz", "000"))
    return cell


def _labels(sections: _Sections) -> dict[str, str]:
    """Names of types: labels, or else the remarks behind masses, if all have one."""
    if "Atom Type Labels" in sections:
        return {row[0]: row[1] for row, _ in sections["Atom Type Labels"]}
    names = {row[0]: remark for row, remark in sections.get("Masses", [])}
    good = all(re.fullmatch(r"[A-Za-z]\w*", name) for name in names.values())
    return names if good else {}
