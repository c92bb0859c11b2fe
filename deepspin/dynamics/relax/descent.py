# SPDX-License-Identifier: Apache-2.0
"""Minimise many functions at once: directions and line searches.

Each row of the arrays is a function of its own, at a point of a manifold, with its
gradient and direction (ndof,) in the tangent space there. As a point moves, what is
remembered is carried along. Rows never look at each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Carry = Callable[[np.ndarray], np.ndarray]

# pairs that L-BFGS remembers
MEMORY = 16
# a pair is of use if s.y is more than this times |s| |y|
CURVED = 1e-8
# decrease of the energy asked for, relative to that of a straight line
DECREASE = 1e-4
# where energies are equal within rounding, slopes may be so much larger at the end
STEEPER = 0.8
# trial points of a line search, at most
TRIES = 20
# how much longer a step becomes if it was too short
STRETCH = 3.0
# a new length is so far inside the bracket, relative to its width
INSIDE = 0.1


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products (..., n) of vectors (..., n, ndof)."""
    return (a * b).sum(axis=-1)


class LimitedMemory:
    """Directions of L-BFGS [1]_ on a manifold: its pairs are carried along.

    Parameters
    ----------
    nrows, ndof : int
        Functions, and their variables.

    References
    ----------
    .. [1] J. Nocedal, Math. Comput. 35, 773 (1980).
    """

    curvature = 0.9  # how much of the slope a line search may leave
    strong = False  # whether that holds for slopes upwards, too

    def __init__(self, nrows: int, ndof: int):
        self.steps = np.zeros((MEMORY, nrows, ndof))
        self.changes = np.zeros((MEMORY, nrows, ndof))
        self.weight = np.zeros((MEMORY, nrows))  # 1/(s.y), 0 without a pair

    def knows(self, rows: np.ndarray) -> np.ndarray:
        """Rows that remember something: their directions have a length, too."""
        return self.weight[0, rows] > 0

    def forget(self, rows: np.ndarray) -> None:
        """Begin anew."""
        self.weight[:, rows] = 0.0

    def direction(self, rows: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Where to go, (n, ndof)."""
        steps, changes = self.steps[:, rows], self.changes[:, rows]
        weight, result = self.weight[:, rows], -gradient
        known = [k for k in range(MEMORY) if weight[k].any()]
        shares = {}
        for k in known:
            shares[k] = weight[k] * inner(steps[k], result)
            result = result - shares[k][:, None] * changes[k]
        if known:
            square = weight[0] * inner(changes[0], changes[0])
            result /= np.where(square > 0, square, 1.0)[:, None]
        for k in reversed(known):
            share = shares[k] - weight[k] * inner(changes[k], result)
            result = result + share[:, None] * steps[k]
        return result

    def learn(
        self,
        rows: np.ndarray,
        step: np.ndarray,
        gradient: np.ndarray,
        old: np.ndarray,
        carry: Carry,
    ) -> None:
        """Take in a step; see `ConjugateGradient.learn`."""
        change = gradient - old
        curve = inner(step, change)
        size = np.sqrt(inner(step, step) * inner(change, change))
        good = curve > CURVED * size
        for memory, new in ((self.steps, step), (self.changes, change)):
            carried = carry(memory[:, rows])
            memory[:, rows] = carried
            memory[1:, rows[good]] = carried[:-1, good]
            memory[0, rows[good]] = new[good]
        self.weight[1:, rows[good]] = self.weight[:-1, rows[good]]
        self.weight[0, rows[good]] = 1 / curve[good]


class ConjugateGradient:
    """Directions of Polak's and Ribière's conjugate gradients on a manifold.

    Parameters
    ----------
    nrows, ndof : int
        Functions, and their variables.
    """

    curvature = 0.2
    strong = True

    def __init__(self, nrows: int, ndof: int):
        self.previous = np.zeros((nrows, ndof))

    def knows(self, rows: np.ndarray) -> np.ndarray:
        """None: lengths of directions mean nothing."""
        return np.zeros(len(rows), dtype=bool)

    def forget(self, rows: np.ndarray) -> None:
        """Begin anew."""
        self.previous[rows] = 0.0

    def direction(self, rows: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Where to go, (n, ndof)."""
        return self.previous[rows] - gradient

    def learn(
        self,
        rows: np.ndarray,
        step: np.ndarray,
        gradient: np.ndarray,
        old: np.ndarray,
        carry: Carry,
    ) -> None:
        """Take in a step.

        Parameters
        ----------
        rows : np.ndarray of int, shape (n,)
            Rows that moved.
        step, gradient, old : np.ndarray, shape (n, ndof)
            The step, the gradient after it and that before it, all carried to the new
            points.
        carry : callable
            Carries vectors (k, n, ndof) to the new points.
        """
        square = inner(old, old)
        factor = inner(gradient, gradient - old) / np.where(square > 0, square, 1.0)
        along = carry(self.previous[None, rows])[0] - old
        self.previous[rows] = np.maximum(factor, 0.0)[:, None] * along


METHODS = {"lbfgs": LimitedMemory, "cg": ConjugateGradient}


class LineSearch:
    """How far to go along directions: Wolfe's conditions, each row for itself.

    Energies that differ by no more than rounding are compared by their slopes [1]_.

    Parameters
    ----------
    nrows : int
        Functions.
    method : LimitedMemory or ConjugateGradient
        What asks: how exact the search must be.
    noise : float
        Rounding errors of energies, relative to them.

    Attributes
    ----------
    length : np.ndarray, shape (nrows,)
        Lengths to try next, in units of the directions.

    References
    ----------
    .. [1] W. W. Hager, H. Zhang, SIAM J. Optim. 16, 170 (2005).
    """

    def __init__(
        self, nrows: int, method: LimitedMemory | ConjugateGradient, noise: float
    ):
        self.curvature, self.strong = method.curvature, method.strong
        self.relative = noise
        self.length = np.ones(nrows)
        self.slope = np.full(nrows, np.nan)
        self.energy, self.longest, self.noise = np.zeros((3, nrows))
        # the bracket, and slopes at its ends
        self.low, self.low_slope, self.high, self.high_slope = np.zeros((4, nrows))
        self.tries = np.zeros(nrows, dtype=int)

    def begin(
        self,
        rows: np.ndarray,
        energy: np.ndarray,
        slope: np.ndarray,
        longest: np.ndarray,
        scaled: np.ndarray,
    ) -> None:
        """Start from new points.

        Parameters
        ----------
        rows : np.ndarray of int, shape (n,)
            Rows.
        energy, slope, longest : np.ndarray, shape (n,)
            Energy and slope at the point, and the longest step allowed.
        scaled : np.ndarray of bool, shape (n,)
            Directions that have the right length already; others begin with the
            decrease of the last step.
        """
        last = self.length[rows] * self.slope[rows] / slope
        first = np.where(scaled | ~np.isfinite(last), 1.0, last)
        self.length[rows] = np.minimum(first, longest)
        self.energy[rows], self.slope[rows] = energy, slope
        self.longest[rows], self.noise[rows] = longest, self.relative * np.abs(energy)
        self.low[rows], self.low_slope[rows] = 0.0, slope
        self.high[rows], self.high_slope[rows] = np.inf, np.nan
        self.tries[rows] = 0

    def judge(
        self, rows: np.ndarray, energy: np.ndarray, slope: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Say which trial points will do.

        Parameters
        ----------
        rows : np.ndarray of int, shape (n,)
            Rows.
        energy, slope : np.ndarray, shape (n,)
            Energy and slope at their trial points; NaN where there is none.

        Returns
        -------
        accepted, failed : np.ndarray of bool, shape (n,)
            Rows whose search is over, well or not. The others have new lengths.
        """
        length, begun = self.length[rows], self.slope[rows]
        rise = energy - self.energy[rows]
        lower = rise <= DECREASE * length * begun
        lower |= (rise <= self.noise[rows]) & (slope <= -STEEPER * begun)
        lower &= np.isfinite(slope)
        self.tries[rows] += 1
        last = self.tries[rows] >= TRIES
        above = lower & self.strong & (slope > -self.curvature * begun)
        below = lower & (slope < self.curvature * begun)
        below &= length < self.longest[rows]
        accepted = lower & (last | ~(above | below))
        self._narrow(rows, below, slope)
        failed = ~accepted & last
        self.length[rows[accepted]] = length[accepted]
        return accepted, failed

    def _narrow(self, rows: np.ndarray, below: np.ndarray, slope: np.ndarray) -> None:
        """Put the trial points at an end of the bracket, and choose new ones."""
        length = self.length[rows]
        self.low[rows] = np.where(below, length, self.low[rows])
        self.low_slope[rows] = np.where(below, slope, self.low_slope[rows])
        self.high[rows] = np.where(below, self.high[rows], length)
        self.high_slope[rows] = np.where(below, self.high_slope[rows], slope)
        low, high = self.low[rows], self.high[rows]
        steep, rising = self.low_slope[rows], self.high_slope[rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            # zero of the slope, or the middle; near the beginning after a failure
            part = np.where(rising > 0, steep / (steep - rising), 0.5)
            part = np.where(np.isnan(rising), INSIDE, part)
            between = low + np.clip(part, INSIDE, 1 - INSIDE) * (high - low)
        longer = np.minimum(STRETCH * length, self.longest[rows])
        self.length[rows] = np.where(np.isfinite(high), between, longer)
