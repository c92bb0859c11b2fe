# SPDX-License-Identifier: Apache-2.0
"""Temperatures and fields that change with time: annealing, hysteresis loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

import numpy as np

Driven = TypeVar("Driven")


class Ramp:
    """A quantity that changes with time along straight lines.

    It has its first value before the first of the times, its last one after the last.

    Parameters
    ----------
    times : sequence of float, shape (n,)
        In fs, each later than the one before.
    values : array_like, shape (n, ...)
        What it is then: temperatures, fields, or those of each replica.

    Raises
    ------
    ValueError
        Times that do not increase, numbers that are not finite, or shapes that do not
        fit.
    """

    def __init__(self, times: Sequence[float] | np.ndarray, values: object):
        self.times = np.asarray(times, dtype=float)
        self.values = np.asarray(values, dtype=float)
        if self.times.ndim != 1 or self.values.shape[:1] != self.times.shape:
            raise ValueError(
                "A ramp needs a value for each time. Received: shapes "
                f"{self.times.shape} and {self.values.shape}"
            )
        finite = np.isfinite(self.times).all() and np.isfinite(self.values).all()
        if not len(self.times) or not finite or (np.diff(self.times) <= 0).any():
            raise ValueError(
                "The times of a ramp (fs) must increase, and all numbers be finite. "
                f"Received: times {self.times.tolist()}"
            )

    def at(self, time: float) -> np.ndarray:
        """Take the value at a time (fs)."""
        after = int(np.searchsorted(self.times, time, side="right"))
        if after in (0, len(self.times)):
            return self.values[min(after, len(self.times) - 1)]
        (start, end), (first, last) = (
            array[after - 1 : after + 1] for array in (self.times, self.values)
        )
        return first + (time - start) / (end - start) * (last - first)


def at(quantity: float | np.ndarray | Ramp, time: float) -> float | np.ndarray:
    """Take a quantity, ramp or not, at a time (fs)."""
    return quantity.at(time) if isinstance(quantity, Ramp) else quantity


def held(quantity: float | np.ndarray | Ramp) -> float | np.ndarray:
    """Take a quantity of a bath that is as it is at one instant, see `now`."""
    if isinstance(quantity, Ramp):
        raise TypeError("Take what a bath is at a time first: `now(bath, time)`.")
    return quantity


def all_of(quantity: float | Sequence | np.ndarray | Ramp) -> np.ndarray:
    """Take all values that a quantity has, ramp or not."""
    values = quantity.values if isinstance(quantity, Ramp) else quantity
    return np.asarray(values, dtype=float)


def now(driven: Driven, time: float) -> Driven:
    """Take a bath or barostat, or none, with what its ramps are at a time (fs).

    What is no dataclass has no ramps.
    """
    if not is_dataclass(driven) or isinstance(driven, type):
        return driven
    ramps = {f.name: getattr(driven, f.name) for f in fields(driven)}
    changes = {k: v.at(time) for k, v in ramps.items() if isinstance(v, Ramp)}
    return replace(driven, **changes) if changes else driven
