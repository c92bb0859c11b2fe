# SPDX-License-Identifier: Apache-2.0
"""Looking at batches of data for statistics: many at once, and each only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import tensorflow as tf

from deepspin.model.checks import INPUTS

# so many slots of neighbours are looked at at once, unless a batch has more
MOST_SLOTS = 2**18


@dataclass(frozen=True)
class Statistics:
    """What data tell of a model with virtual atoms before the first step.

    Kinds of atoms are the types, then the virtual atoms of the types with spin.

    Parameters
    ----------
    environment : np.ndarray, shape (nkinds or ntypes, 5)
        Sums over the environment matrices of the atoms of each kind, see
        `DescrptSeA.moments`. Without the kinds of virtual atoms where nobody asked.
    bias : np.ndarray, shape (nkinds,), optional
        Energy in eV of an atom of each kind; None without energies.
    spread : float
        Standard deviation in eV of what these leave of the energies of frames.
    types : tuple of int
        Types that there were atoms of.
    fparam : np.ndarray, shape (numb_fparam, 3), optional
        Number of frames, and sums of each frame parameter and of its square.
    """

    environment: np.ndarray
    bias: np.ndarray | None = None
    spread: float = 0.0
    types: tuple[int, ...] = ()
    fparam: np.ndarray | None = None


def watched(
    batches: Iterable[tuple[dict, dict]],
    check: Callable[[dict], None],
    rows: list[np.ndarray],
) -> Iterator[tuple[dict, dict]]:
    """The same batches, checked; their frame parameters are appended to `rows`."""
    for inputs, labels in batches:
        check(inputs)
        if "fparam" in inputs:
            masks = list(map(np.asarray, inputs["mask"]))
            there = np.concatenate(masks, axis=1).any(axis=1)
            rows.append(np.asarray(inputs["fparam"])[there])
        yield inputs, labels


class EachOnce:
    """What a function finds of batches; those of equal shape are joined for it.

    A batch that comes again as the same object is not looked at again as long as it is
    at hand; those of a system with few frames come one after another. Arrays are looked
    at later than they are taken, and have to stay as they are.

    Parameters
    ----------
    measure : callable
        Takes inputs, tensors, of several batches, and where each of these begins and
        ends among the frames; returns an array for each.
    """

    def __init__(self, measure: Callable[[dict, Sequence[slice]], list[np.ndarray]]):
        self._measure = measure
        self._waiting: dict[tuple, list[tuple[int, dict]]] = {}  # by shape
        self._slots: dict[tuple, int] = {}
        self._found: dict[int, np.ndarray] = {}
        self._count, self._order = 0, list[int]()
        self._numbers: dict[int, int] = {}  # of the batches that wait

    def add(self, inputs: dict) -> None:
        """Take the inputs of a batch, see `SpinEnergyModel`."""
        number = self._numbers.get(id(inputs))
        if number is None:
            number = self._begin(inputs)
        self._order.append(number)

    def _begin(self, inputs: dict) -> int:
        number, self._count = self._count, self._count + 1
        needed = {name: inputs[name] for name in INPUTS}
        shape = tuple(tuple(a.shape[1:]) for a in tf.nest.flatten(needed))
        slots = sum(int(np.prod(a.shape)) for a in needed["nlist"])
        if self._slots.get(shape, 0) + slots > MOST_SLOTS:
            self._look(shape)
        self._waiting.setdefault(shape, []).append((number, inputs))
        self._slots[shape] = self._slots.get(shape, 0) + slots
        self._numbers[id(inputs)] = number
        return number

    def _look(self, shape: tuple) -> None:
        waiting, self._slots[shape] = self._waiting.pop(shape, []), 0
        if not waiting:
            return
        parts = [{name: inputs[name] for name in INPUTS} for _, inputs in waiting]
        joined = tf.nest.map_structure(
            lambda *arrays: tf.convert_to_tensor(np.concatenate(arrays)), *parts
        )
        ends = np.cumsum([0, *(len(part["coord"]) for part in parts)])
        found = self._measure(joined, [slice(*ends) for ends in pairwise(ends)])
        for (number, inputs), one in zip(waiting, found, strict=True):
            self._found[number] = one
            del self._numbers[id(inputs)]

    def results(self) -> list[np.ndarray]:
        """What was found of each batch, in the order they came, repeats included."""
        for shape in list(self._waiting):
            self._look(shape)
        return [self._found[number] for number in self._order]
