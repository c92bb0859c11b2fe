# SPDX-License-Identifier: Apache-2.0
"""What readers of the texts of electronic structure codes share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from deepspin.data.files import LARGEST

BOHR = 0.529177210903
"""Bohr radius in Å (CODATA 2018)."""

KBAR = 1.0 / 1602.176634
"""1 kbar in eV/Å³."""

PLACEHOLDER = 99.0
"""What stands where a code has nothing to write."""

UNCONVERGED = "its electrons have not converged"
UNMET = "its moments are not where the constraints want them"
CUT = "the file ends before it does"
_PLACEHOLDERS = "it has placeholders (99.0) instead of numbers"
_NO_NUMBERS = "it has values that are no numbers"


def number(word: str) -> float:
    """A number as Fortran or C writes it, NaN for one that did not fit (``*****``)."""
    if word.strip("*") == "" or word.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return np.nan
    try:
        return float(word)
    except ValueError:
        return float(word.replace("D", "E").replace("d", "e"))


def numbers(words: Sequence[str]) -> list[float]:
    """Numbers of words; ValueError for those that are none."""
    try:
        return list(map(float, words))
    except ValueError:
        return [number(word) for word in words]


def virial_of(stress: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Virial in eV of a stress in kbar that is positive under pressure.

    Parameters
    ----------
    stress : np.ndarray, shape (3, 3)
        Minus the derivative of the energy by strain over the volume, as VASP (``in
        kB``) and ABACUS (``TOTAL-STRESS``) print it: its trace is 3 times the pressure.
    cell : np.ndarray, shape (3, 3)
        Lattice vectors in Å.
    """
    return stress * KBAR * abs(np.linalg.det(cell))


def defect(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Why numbers of a frame are none, if so."""
    for values in arrays.values():
        if not (np.abs(values) < LARGEST).all():
            return _NO_NUMBERS
    for name in ("spin", "force", "force_mag"):
        if name in arrays and (arrays[name] == PLACEHOLDER).any():
            return _PLACEHOLDERS
    return None


class Lines:
    """Lines of a file, but for a last one without an end, which may lack digits.

    Parameters
    ----------
    stream : iterable of str
        The lines.
    """

    def __init__(self, stream: Iterable[str]):
        self._stream = iter(stream)
        self._back: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._back:
            return self._back.pop()
        line = next(self._stream)
        if not line.endswith("\n"):
            raise StopIteration
        return line

    def back(self, line: str) -> None:
        """Take a line back: it is the next one."""
        self._back.append(line)

    def rows(
        self, count: int, label: int, width: int | None = None
    ) -> list[list[float]]:
        """Numbers of the rows of a table, after rules and headings.

        Parameters
        ----------
        count : int
            Number of rows; fewer if the table ends before.
        label : int
            Words before the numbers; ``ATOM 1`` counts as one.
        width : int, optional
            Numbers to take of each row.
        """
        found: list[list[float]] = []
        skipped = 0
        while len(found) < count:
            line = next(self, None)
            if line is None:
                break
            words = line.split()
            first = label + 1 if words[:1] == ["ATOM"] else label
            row = self._row(words[first:][:width])
            if row:
                found.append(row)
            elif found or skipped == 5:
                self.back(line)
                break
            else:
                skipped += 1
        return found

    @staticmethod
    def _row(words: Sequence[str]) -> list[float]:
        """Numbers, none for a rule or a heading."""
        try:
            return numbers(words)
        except ValueError:
            return []
