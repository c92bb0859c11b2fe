# SPDX-License-Identifier: Apache-2.0
"""Extended XYZ, with columns of any names.

The second line of a frame has ``KEY=VALUE`` pairs; ``Properties`` names its columns.
Nine numbers of a lattice are its vectors, those of a virial or stress stand column by
column, as ASE and libAtoms have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

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
from deepspin.data.moments import INITIAL

SUFFIXES = (".extxyz", ".xyz")
_PAIR = re.compile(
    r"""([^\s="']+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|\{([^}]*)\}|(\S+)))?"""
)
_SPLIT = re.compile(r"[\s,]+")
MATRICES = ("virial", "stress")
DEFAULT = "species:S:1:pos:R:3"


# names of the arrays of a frame that ASE understands, too
COLUMNS = {
    "spin": INITIAL,
    "force": "forces",
    "force_mag": "force_mag",
    "atom_ener": "energies",
    "atom_ener_coeff": "atom_ener_coeff",
}


class _Column(NamedTuple):
    name: str
    kind: str  # R, I, S or L
    begin: int
    width: int


def matches(path: Path) -> bool:
    """Whether a file is extended XYZ, as its name says."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path, names: Mapping[str, str]) -> Iterator[Frame | Dropped]:
    """Read all frames.

    Parameters
    ----------
    path : Path
        The file.
    names : mapping of str to str
        Columns that count alone, see `deepspin.data.formats.columns.NAMES`.

    Raises
    ------
    DataError
        It is cut off, not of this format, or its columns contradict each other.
    """
    notes: dict[str, Any] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number in count():
                place = f"frame {number} of '{path}'"
                if not (first := _next_line(file)):
                    break
                try:
                    natoms = int(first)
                except ValueError:
                    natoms = 0
                if natoms < 1:
                    raise DataError(
                        f"{place} begins with {first.strip()[:40]!r} where its number "
                        "of atoms must be. Write the file again as extended XYZ."
                    )
                line, rows = file.readline(), list(islice(file, natoms))
                if len(rows) < natoms or not rows[-1].strip():
                    raise DataError(
                        f"{place} is cut off: {sum(bool(r.strip()) for r in rows)} of "
                        f"{natoms} atoms are there. Remove the frame, or write the "
                        "file again."
                    )
                yield _frame(place, line, rows, names, notes)
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not text, so no extended XYZ.") from error
    tell(path, notes)


def _next_line(file: Iterator[str]) -> str:
    """The next line that is not empty; empty at the end."""
    return next((line for line in file if line.strip()), "")


def _frame(
    place: str,
    line: str,
    rows: list[str],
    names: Mapping[str, str],
    notes: dict[str, Any],
) -> Frame | Dropped:
    info = _pairs(line)
    if unconverged(info):
        return Dropped(place, UNCONVERGED)
    lattice, pbc = info.pop("Lattice", None), info.pop("pbc", None)
    cell = None
    if periodic(place, np.ravel([lattice is not None] if pbc is None else pbc)):
        if not isinstance(lattice, np.ndarray) or lattice.size != 9:
            raise DataError(
                f"{place} is periodic and its Lattice is not 9 numbers, those of its "
                "vectors one after another in Å. Correct Lattice or pbc."
            )
        cell = lattice.reshape(3, 3)
    columns = _table(place, str(info.pop("Properties", DEFAULT)), rows)
    symbols = columns.pop("species", None)
    coord = columns.pop("pos", None)
    if symbols is None or coord is None or coord.shape != (len(rows), 3):
        raise DataError(
            f"{place} needs the columns species:S:1 and pos:R:3. It has "
            f"{', '.join(['species'] * (symbols is not None) + list(columns))}."
        )
    for name in MATRICES:
        if isinstance(own := info.get(name), np.ndarray) and own.size == 9:
            info[name] = own.reshape(3, 3).T
    arrays = arrays_of(place, (columns, info), len(rows), cell, names, notes)
    return Frame(place, tuple(symbols.tolist()), coord, cell, arrays)


def _pairs(line: str) -> dict[str, Any]:
    """Keys and values of the second line."""
    found: dict[str, Any] = {}
    for key, *values in _PAIR.findall(line):
        text = next((value for value in values if value), "")
        found[key] = text if key == "Properties" else _value(text)
    return found


LOGICAL = {"T": True, "F": False, "true": True, "false": False} | {
    "True": True,
    "False": False,
}


def _value(text: str) -> Any:
    words = _SPLIT.split(text.strip())
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        if not all(word in LOGICAL for word in words):
            return text
        logical = [LOGICAL[word] for word in words]
        return logical[0] if len(logical) == 1 else logical
    return numbers[0] if len(numbers) == 1 else np.array(numbers)


@lru_cache(maxsize=64)
def _columns(text: str) -> tuple[_Column, ...]:
    """Columns that ``Properties`` names.

    Raises
    ------
    ValueError
        It is not ``NAME:KIND:WIDTH:...``.
    """
    parts, begin = text.split(":"), 0
    found = []
    if len(parts) % 3:
        raise ValueError
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind not in "RISL" or int(width) < 1:
            raise ValueError
        found.append(_Column(name, kind, begin, int(width)))
        begin += int(width)
    if len({column.name for column in found}) < len(found):
        raise ValueError
    return tuple(found)


def _table(place: str, properties: str, rows: list[str]) -> dict[str, np.ndarray]:
    """Columns by name; what is no number is left as words."""
    try:
        columns = _columns(properties)
    except ValueError as error:
        raise DataError(
            f"{place}: Properties must be NAME:KIND:WIDTH of each column, KIND one of "
            f"R, I, S, L, and each name once. Received: {properties}"
        ) from error
    width = columns[-1].begin + columns[-1].width
    words = " ".join(rows).split()
    if len(words) != width * len(rows):
        bad = next((k for k, row in enumerate(rows) if len(row.split()) != width), 0)
        raise DataError(
            f"{place}: atom {bad} has {len(rows[bad].split())} columns and Properties "
            f"names {width}: {properties}. Correct one of the two."
        )
    found, kept = {}, []
    for column in reversed(columns):
        begin, end = column.begin, column.begin + column.width
        if column.kind == "S":
            found[column.name] = np.array(words[begin::width])
        if column.kind in "SL":
            for k in range(end - 1, begin - 1, -1):
                del words[k::width]
                width -= 1
        else:
            kept.append(column)
    try:
        table = np.array(list(map(float, words))).reshape(len(rows), width)
    except ValueError as error:
        raise DataError(
            f"{place}: {_bad(words, width, kept[::-1])} Properties may name the "
            f"columns in another order than they stand: {properties}"
        ) from error
    begin = 0
    for column in reversed(kept):
        own = table[:, begin : begin + column.width]
        found[column.name] = own[:, 0] if column.width == 1 else own
        begin += column.width
    return found


def _bad(words: list[str], width: int, columns: list[_Column]) -> str:
    """Say which column holds a word that is no number."""
    begin = 0
    for column in columns:
        for k in range(begin, begin + column.width):
            for word in words[k::width]:
                try:
                    float(word)
                except ValueError as error:
                    return f"column {column.name} does not hold numbers: {error}."
        begin += column.width
    return "columns do not hold numbers."


# --- Writing --------------------------------------------------------------------------


def text_of(frame: Frame) -> str:
    """A frame as extended XYZ, to the last digit."""
    columns = {"pos": frame.coord}
    columns |= {
        name: frame.arrays[key] for key, name in COLUMNS.items() if key in frame.arrays
    }
    info = {k: v for k, v in frame.arrays.items() if k not in COLUMNS}
    pbc = np.full(3, frame.cell is not None)
    return text(frame.symbols, columns, info, frame.cell, pbc)


def text(
    symbols: Sequence[str],
    columns: Mapping[str, np.ndarray],
    info: Mapping[str, Any],
    box: np.ndarray | None,
    pbc: np.ndarray,
    fixed: np.ndarray | None = None,
) -> str:
    """Write a frame, to the last digit.

    Parameters
    ----------
    symbols : sequence of str, length nloc
        Names of the atoms' types.
    columns : mapping of str to np.ndarray
        Columns: ``pos`` first, each (nloc,) or (nloc, n).
    info : mapping of str to array
        What else is known: numbers, rows of numbers, matrices. Of a ``virial`` there is
        the stress, too, in a cell that is periodic.
    box : np.ndarray, shape (3, 3), or None
        Lattice vectors in rows.
    pbc : np.ndarray of bool, shape (3,)
        Periodic directions.
    fixed : np.ndarray of bool, shape (nloc,), optional
        Atoms that shall stay where they are.
    """
    line = [] if box is None else [f'Lattice="{_words(box)}"']
    for name, values in info.items():
        values = np.asarray(values)
        if values.shape == (3, 3):
            line.append(f'{name}="{_words(values.T)}"')  # column by column
        elif values.size == 1:
            line.append(f"{name}={_words(values)}")
        else:
            line.append(f'{name}="{_words(values)}"')
    if "virial" in info and box is not None and pbc.all():
        stress = -(info["virial"] + np.transpose(info["virial"])) / 2
        line.append(f'stress="{_words(stress / abs(np.linalg.det(box)))}"')
    line.append(f'pbc="{_words(pbc)}"')
    kinds = [f"{name}:R:{np.size(v[0])}" for name, v in columns.items()]
    numbers = np.hstack([np.reshape(v, (len(symbols), -1)) for v in columns.values()])
    rows = [
        f"{symbol} {' '.join(map(repr, row))}"
        for symbol, row in zip(symbols, numbers.astype(float).tolist(), strict=True)
    ]
    if fixed is not None and fixed.any():  # ASE's name for atoms that move
        kinds.append("move_mask:L:1")
        rows = [f"{row} {'TF'[int(f)]}" for row, f in zip(rows, fixed, strict=True)]
    head = f"Properties=species:S:1:{':'.join(kinds)} {' '.join(line)}"
    return "\n".join([str(len(symbols)), head, *rows, ""])


def _words(values: np.ndarray) -> str:
    words = np.ravel(values).tolist()
    return " ".join("FT"[w] if isinstance(w, bool) else repr(w) for w in words)
