# SPDX-License-Identifier: Apache-2.0
"""Paths of wave vectors through the Brillouin zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepspin.utils.refused import InputError


@dataclass(frozen=True, kw_only=True)
class Path:
    """Wave vectors one after the other.

    Parameters
    ----------
    q : np.ndarray, shape (nq, 3)
        In 1/Å, 2π included.
    place : np.ndarray, shape (nq,)
        Length of the way in 1/Å.
    ticks : list of (float, str)
        Names of corners and where they are.
    """

    q: np.ndarray
    place: np.ndarray
    ticks: list[tuple[float, str]]

    def within(self, box: np.ndarray | None) -> np.ndarray:
        """The wave vectors in the reciprocal vectors of a cell, (nq, 3)."""
        return np.zeros_like(self.q) if box is None else self.q @ box.T / (2 * np.pi)


def path_of(cell: np.ndarray | None, given: Sequence[str] | None, points: int) -> Path:
    """Make a path.

    Parameters
    ----------
    cell : np.ndarray, shape (3, 3); or None
        Lattice vectors in Å.
    given : sequence of str, optional
        Corners as ``x,y,z`` in the reciprocal vectors of the cell; or one word of names
        of special points as ASE has them, where a comma is a jump; by default ASE's own
        path for the lattice.
    points : int
        Number of wave vectors.

    Raises
    ------
    InputError
        There is no lattice, or a corner is none.
    ImportError
        Names of special points need ASE.
    """
    if cell is None:
        raise InputError(
            "The structure is not periodic, so its spin waves have no wave vector and "
            "no path. `dp-spin exchange` of a periodic one is needed."
        )
    reciprocal = np.linalg.inv(cell).T * 2 * np.pi
    if given is not None and (len(given) > 1 or any(c.isdigit() for c in given[0])):
        corners = np.array([corner(word, "--path") for word in given])
        if len(corners) < 2:
            raise InputError(f"--path needs two corners or more. Received: {given[0]}")
        legs = [(corners, list(given))]
    else:
        legs = _special(cell, given[0] if given else None)
    return _along(legs, reciprocal, points)


def corner(word: str, option: str) -> list[float]:
    """Take a wave vector as it is typed, ``x,y,z``; `option` is for the message."""
    try:
        x, y, z = (float(part) for part in word.split(","))
    except ValueError:
        x = y = z = np.nan
    if not np.isfinite([x, y, z]).all():
        raise InputError(
            f"{option} takes wave vectors as three numbers each, such as 0.5,0.5,0.5"
            f"{', or one word of names such as GXWKGL' if option == '--path' else ''}. "
            f"Received: {word}"
        )
    return [x, y, z]


def _special(cell: np.ndarray, word: str | None) -> list[tuple[np.ndarray, list[str]]]:
    """Parts of a path between jumps, by the names of special points."""
    try:
        from ase.cell import Cell
        from ase.dft.kpoints import parse_path_string
    except ImportError as error:
        raise ImportError(
            "Special points of a lattice need ASE, which is not installed: pip install "
            "ase. Or give the corners as numbers: --path 0,0,0 0.5,0.5,0.5"
        ) from error
    try:
        found = Cell(cell).bandpath(word, npoints=2)
        return [
            (np.array([found.special_points[name] for name in part]), list(part))
            for part in parse_path_string(found.path)
        ]
    except (KeyError, ValueError, RuntimeError) as error:
        names = ", ".join(Cell(cell).bandpath(npoints=2).special_points)
        raise InputError(
            f"--path {word} is no path of this lattice, whose special points are "
            f"{names}."
        ) from error


def _along(
    legs: Sequence[tuple[np.ndarray, list[str]]], reciprocal: np.ndarray, points: int
) -> Path:
    """Points as evenly as corners allow; a jump takes no length."""
    total = sum(
        np.linalg.norm(np.diff(corners @ reciprocal, axis=0), axis=1).sum()
        for corners, _ in legs
    )
    if total <= 0:
        raise InputError("--path leads nowhere: all its corners are the same.")
    q, place, begin = [], [], 0.0
    ticks: list[tuple[float, str]] = []
    for corners, names in legs:
        places = corners @ reciprocal
        length = np.linalg.norm(np.diff(places, axis=0), axis=1)
        if ticks:  # a jump: both names at one place
            ticks[-1] = (begin, f"{ticks[-1][1]}|{_shown(names[0])}")
        else:
            ticks.append((begin, _shown(names[0])))
        for k, part in enumerate(length):
            number = max(round(points * part / total), 1)
            share = np.arange(number + (k == len(length) - 1)) / number
            q.append(places[k] + share[:, None] * (places[k + 1] - places[k]))
            place.append(begin + share * part)
            begin += part
            ticks.append((begin, _shown(names[k + 1])))
    return Path(q=np.concatenate(q), place=np.concatenate(place), ticks=ticks)


def _shown(name: str) -> str:
    return "Γ" if name == "G" else name
