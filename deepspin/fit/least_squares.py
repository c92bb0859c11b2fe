# SPDX-License-Identifier: Apache-2.0
"""Least squares over a stream of rows of several labels, weighted afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# of the largest singular value squared, of columns of unit length
RIDGES = tuple(10.0**-n for n in range(19))
MIDDLE = 1e-12
# factors of labels are looked for up to this one
FARTHEST = 5.0
# a larger ridge is taken if the held-out error grows by no more than this
TOLERANCE = 0.02


class Factor:
    """Triangular factor of all rows [A | b] that came, and how many.

    Numbers to be found are few and rows many, so that the rows themselves need not be
    kept; a factor does not square the condition number, as normal equations do.

    Parameters
    ----------
    width : int
        Length of a row of A.
    """

    def __init__(self, width: int):
        self.width, self.count = width, 0
        self._rows: list[np.ndarray] = []
        self._waiting = 0

    def add(self, matrix: np.ndarray, label: np.ndarray) -> None:
        """Take rows: (..., width) and (...)."""
        rows = np.concatenate(
            [matrix.reshape(-1, self.width), label.reshape(-1, 1)], axis=1
        )
        if not len(rows):
            return
        self.count += len(rows)
        self._rows.append(rows)
        self._waiting += len(rows)
        if self._waiting > 4 * (self.width + 1):
            self._reduce()

    def _reduce(self) -> None:
        whole = np.concatenate(self._rows)
        self._rows = [np.asarray(np.linalg.qr(whole, mode="r"))]
        self._waiting = len(self._rows[0])

    @property
    def matrix(self) -> np.ndarray:
        """Rows [A | b] that stand for all, at most ``width + 1``."""
        if self._waiting > self.width + 1:
            self._reduce()
        if not self._rows:
            return np.zeros((0, self.width + 1))
        return np.concatenate(self._rows)

    def merged(self, other: Factor) -> Factor:
        """Factor of the rows of both."""
        result = Factor(self.width)
        result._rows = [self.matrix, other.matrix]
        result._waiting = sum(map(len, result._rows))
        result.count = self.count + other.count
        return result

    def rmse(self, numbers: np.ndarray, factor: float = 1.0) -> float:
        """Root mean square of A x - factor b."""
        rest = self.matrix @ np.append(numbers, -factor)
        return math.sqrt(rest @ rest / self.count) if self.count else math.nan


@dataclass(frozen=True)
class Solution:
    """What a fit found.

    Parameters
    ----------
    numbers : np.ndarray
        The unknowns, constants first.
    effective : float
        How many of them the data determines.
    condition : float
        Largest by smallest singular value of the scaled columns.
    ridge : float
        Of the largest singular value squared.
    factor : float
        What the labels of `scaled` were taken times.
    """

    numbers: np.ndarray
    effective: float
    condition: float
    ridge: float
    factor: float = 1.0


@dataclass
class Rows:
    """Rows of several labels, some of them held out.

    Parameters
    ----------
    width : int
        Number of unknowns.
    nconst : int
        The first so many are constants: no ridge holds them down.
    penalty : np.ndarray, shape (width - nconst,), optional
        How much dearer than 1 each of the others is: its ridge is so many times larger,
        squared.
    """

    width: int
    nconst: int
    penalty: np.ndarray | None = None
    used: dict[str, Factor] = field(default_factory=dict)
    held: dict[str, Factor] = field(default_factory=dict)

    def add(
        self, name: str, matrix: np.ndarray, label: np.ndarray, held_out: bool
    ) -> None:
        """Take rows of a label."""
        where = self.held if held_out else self.used
        where.setdefault(name, Factor(self.width)).add(matrix, label)

    @property
    def all(self) -> dict[str, Factor]:
        """Factors of the rows used and held out together."""
        return {
            name: self.used[name].merged(self.held[name])
            if name in self.used and name in self.held
            else self.used.get(name) or self.held[name]
            for name in {**self.used, **self.held}
        }

    def fit(
        self,
        weights: Mapping[str, float],
        scaled: Sequence[str] = (),
        factor: float | None = 1.0,
        fixed: Mapping[int, float] | None = None,
        ridge: float | None = None,
    ) -> Solution:
        """Find the unknowns; the ridge by what the held-out rows say.

        Parameters
        ----------
        weights : mapping
            Of each label, in reciprocals of its unit; rows count by their mean square.
        scaled : sequence of str
            Labels that are taken times a factor.
        factor : float or None
            The factor; None finds the one with which all labels agree best, each
            measured as the data has it: between 1/`FARTHEST` and `FARTHEST`.
        fixed : mapping, optional
            Constants that are given.
        ridge : float, optional
            Instead of the one that the held-out rows choose.
        """
        if factor is None:
            factor = self._best_factor(weights, scaled, fixed)
        if ridge is None and self.held and self.used:
            trials = self._solve(self.used, weights, scaled, factor, fixed, RIDGES)
            scores = [self._score(self.held, weights, scaled, x) for x in trials]
            good = min(scores) * (1.0 + TOLERANCE)
            ridge = next(
                x.ridge for x, s in zip(trials, scores, strict=True) if s <= good
            )
        chosen = [MIDDLE if ridge is None else ridge]
        return self._solve(self.all, weights, scaled, factor, fixed, chosen)[0]

    def _best_factor(
        self,
        weights: Mapping[str, float],
        scaled: Sequence[str],
        fixed: Mapping[int, float] | None,
    ) -> float:
        """Factor of least error, by golden section in its logarithm."""
        rows, golden = self.all, (math.sqrt(5.0) - 1.0) / 2.0

        def error(x: float) -> float:
            factor = math.exp(x)
            own = {n: w / (factor if n in scaled else 1.0) for n, w in weights.items()}
            found = self._solve(rows, own, scaled, factor, fixed, [MIDDLE])[0]
            return self._score(rows, own, scaled, found)

        low, high = -math.log(FARTHEST), math.log(FARTHEST)
        inner = [high - golden * (high - low), low + golden * (high - low)]
        values = [error(x) for x in inner]
        while high - low > 1e-4:
            if values[0] < values[1]:
                high, inner = inner[1], [inner[1] - golden * (inner[1] - low), inner[0]]
                values = [error(inner[0]), values[0]]
            else:
                low, inner = inner[0], [inner[1], inner[0] + golden * (high - inner[0])]
                values = [values[1], error(inner[1])]
        return math.exp((low + high) / 2)

    @staticmethod
    def _score(
        rows: Mapping[str, Factor],
        weights: Mapping[str, float],
        scaled: Sequence[str],
        found: Solution,
    ) -> float:
        total = 0.0
        for name, factor in rows.items():
            c = found.factor if name in scaled else 1.0
            total += (weights.get(name, 0.0) * factor.rmse(found.numbers, c)) ** 2
        return math.sqrt(total)

    def _solve(
        self,
        rows: Mapping[str, Factor],
        weights: Mapping[str, float],
        scaled: Sequence[str],
        factor: float,
        fixed: Mapping[int, float] | None,
        ridges: Sequence[float],
    ) -> list[Solution]:
        """Solve for several ridges at once."""
        parts, fixed = [], dict(fixed or {})
        free = [k for k in range(self.nconst) if k not in fixed]
        for name, one in rows.items():
            if not one.count or not weights.get(name):
                continue
            part = one.matrix * (weights[name] / math.sqrt(one.count))
            right = part[:, -1:]
            for k, value in fixed.items():
                right = right - value * part[:, k : k + 1]
            if name in scaled:
                right = right * factor
            columns = part[:, self.nconst : -1]
            parts.append(np.hstack([part[:, free], columns, right]))
        matrix = np.asarray(np.linalg.qr(np.concatenate(parts), mode="r"))
        # constants first: they are eliminated, nothing holds them down
        nfree = len(free)
        bound, inner, right = matrix[:, :nfree], matrix[:, nfree:-1], matrix[:, -1]
        q, s, _ = np.linalg.svd(bound, full_matrices=False)
        q = q[:, s > 1e-12 * s.max(initial=1e-300)]
        rest, target = inner - q @ (q.T @ inner), right - q @ (q.T @ right)
        size = np.linalg.norm(rest, axis=0)
        used = size > 1e-10 * np.linalg.norm(inner, axis=0)
        scale = np.where(used, size, 1.0)
        if self.penalty is not None:
            scale = scale * self.penalty
        u, s, vt = np.linalg.svd(rest * (used / scale), full_matrices=False)
        along, result = u.T @ target, []
        largest = s.max(initial=0.0) or 1.0
        for ridge in ridges:
            damped = s / (s**2 + ridge * largest**2)
            numbers = np.zeros(self.width)
            numbers[self.nconst :] = (vt.T @ (damped * along)) * used / scale
            left = right - inner @ numbers[self.nconst :]
            constants = np.linalg.lstsq(bound, left, rcond=1e-12)[0]
            numbers[free] = constants
            for k, value in fixed.items():
                numbers[k] = value
            result.append(
                Solution(
                    numbers=numbers,
                    effective=float(np.sum(s * damped)) + np.linalg.matrix_rank(bound),
                    condition=float(largest / max(s.min(initial=largest), 1e-300)),
                    ridge=ridge,
                    factor=factor,
                )
            )
        return result
