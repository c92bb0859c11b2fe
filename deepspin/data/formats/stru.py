# SPDX-License-Identifier: Apache-2.0
"""What stands beside the log of ABACUS: INPUT, STRU and files of target moments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.words import BOHR

_SECTIONS = (
    *("ATOMIC_SPECIES", "NUMERICAL_ORBITAL", "NUMERICAL_DESCRIPTOR", "PAW_FILES"),
    *("LATTICE_CONSTANT", "LATTICE_VECTORS", "LATTICE_PARAMETERS", "ATOMIC_POSITIONS"),
)


def read_settings(path: Path) -> dict[str, str]:
    """Parameters of INPUT by name, none without the file."""
    if not path.is_file():
        return {}
    rows = (row.split("#")[0].split("//")[0].split() for row in _text(path))
    return {words[0].lower(): words[1] for words in rows if len(words) > 1}


def _text(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


@dataclass(frozen=True)
class Structure:
    """What STRU says.

    Parameters
    ----------
    path : Path
        The file.
    symbols : tuple of str
        Label of each atom.
    scale : float
        Lattice constant in Å.
    cell : np.ndarray, shape (3, 3)
        Lattice vectors in Å.
    coord : np.ndarray, shape (nloc, 3)
        Positions in Å.
    """

    path: Path
    symbols: tuple[str, ...]
    scale: float
    cell: np.ndarray
    coord: np.ndarray


def read_structure(path: Path) -> Structure:
    """Read STRU.

    Raises
    ------
    DataError
        It has other sections or units than those that are read.
    """
    sections: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in _text(path):
        words = line.split("#")[0].split("//")[0].split()
        if words and words[0] in _SECTIONS:
            rows = sections.setdefault(words[0], [])
        elif words:
            rows.append(words)
    try:
        scale = float(sections["LATTICE_CONSTANT"][0][0]) * BOHR
        cell = scale * np.array(sections["LATTICE_VECTORS"][:3], dtype=float)[:, :3]
        (kind, *_), *atoms = sections["ATOMIC_POSITIONS"]
        symbols, values = _positions(atoms)
        unit = {"direct": 1.0, "cartesian": scale, "cartesian_angstrom": 1.0}
        unit["cartesian_au"] = BOHR
        values = values * unit[kind.lower()]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"'{path}' cannot be read as a STRU of ABACUS ({error!r}). It must have "
            "LATTICE_CONSTANT, LATTICE_VECTORS and ATOMIC_POSITIONS, Direct or "
            "Cartesian."
        ) from error
    coord = values @ cell if kind.lower() == "direct" else values
    return Structure(path, symbols, scale, cell, coord)


def _positions(rows: list[list[str]]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and numbers of the blocks of ATOMIC_POSITIONS."""
    symbols: list[str] = []
    values: list[list[float]] = []
    while rows:
        (name, *_), _, (count, *_), *rest = rows
        own, rows = rest[: int(count)], rest[int(count) :]
        if len(own) < int(count):
            raise ValueError(f"{count} atoms of {name} are {len(own)}")
        symbols += [name] * int(count)
        values += [[float(word) for word in row[:3]] for row in own]
    return tuple(symbols), np.array(values).reshape(-1, 3)


def read_targets(path: Path, natoms: int) -> np.ndarray | None:
    """Target moments of the JSON file that older versions take, if it tells them."""
    try:
        types = json.loads(path.read_text(encoding="utf-8"))
        types = sorted(
            (t for t in types if "ScAtomData" in t), key=lambda t: t["itype"]
        )
        rows = [
            atom["target_mag"]
            for kind in sorted(types, key=lambda t: t["itype"])
            for atom in sorted(kind["ScAtomData"], key=lambda a: a["index"])
        ]
        targets = np.array([[0, 0, r] if np.ndim(r) == 0 else r for r in rows], float)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return targets if targets.shape == (natoms, 3) else None
