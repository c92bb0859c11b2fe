# SPDX-License-Identifier: Apache-2.0
"""How often a system is drawn, how many of its frames at once, and in what order."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.frames import System

log = logging.getLogger(__name__)

# `auto` batches hold at least so many atoms
AUTO_BATCH_ATOMS = 32
# systems are drawn in chunks of so many steps
CHUNK = 4096


def is_count(number: object) -> bool:
    """Whether something is an integer of at least 1, and not true."""
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    return whole and int(number) >= 1  # type: ignore[call-overload]


def check_batch_size(number: object) -> None:
    """Refuse what is no number of frames; None is for others to choose."""
    if number is not None and not is_count(number):
        raise ValueError(
            f"`batch_size` must be an integer of at least 1. Received: {number!r}"
        )


def batch_sizes(
    batch_size: int | str | Sequence[int], systems: Sequence[System]
) -> list[int]:
    """Frames in a batch of each system.

    Parameters
    ----------
    batch_size : int, sequence of int, or str
        For all systems, for each, or ``"auto"`` or ``"auto:N"``.
    systems : sequence of System
        The systems.

    Raises
    ------
    DataError
        If it is none of these, or their number is not that of the systems.
    """
    if isinstance(batch_size, str):
        name, _, number = batch_size.partition(":")
        if name != "auto" or (number and not number.isdecimal()):
            raise DataError(
                "`batch_size` must be an integer, a list, 'auto' or 'auto:N'. "
                f"Received: {batch_size!r}"
            )
        atoms = int(number) if number else AUTO_BATCH_ATOMS
        sizes = [math.ceil(atoms / s.natoms_loss.max()) for s in systems]
    elif isinstance(batch_size, Sequence):
        sizes = list(batch_size)
        _check_number("batch_size", sizes, systems)
    else:
        sizes = [batch_size] * len(systems)
    if not all(map(is_count, sizes)):
        raise DataError(
            f"`batch_size` must hold integers of at least 1. Received: {batch_size}"
        )
    short = [k for k, system in enumerate(systems) if sizes[k] > system.nframes]
    if short and not isinstance(batch_size, str):
        first, others = short[0], len(short) - 1
        more = f". The same in {others} more of {len(systems)} systems."
        log.warning(
            "%s has %d frames, fewer than the batch size %d: its batches hold all of "
            "them%s",
            systems[first].path,
            systems[first].nframes,
            sizes[first],
            more if others else "",
        )
    return [min(n, system.nframes) for n, system in zip(sizes, systems, strict=True)]


def _check_number(option: str, given: Sequence, systems: Sequence[System]) -> None:
    """Compare the number of entries with that of the systems, and list these."""
    if len(given) != len(systems):
        names = ", ".join(f"'{system.path}'" for system in systems[:3])
        raise DataError(
            f"`{option}` has {len(given)} entries, but `systems` has {len(systems)}: "
            f"{names}{', ...' if len(systems) > 3 else ''}. Give one for each."
        )


def probabilities(
    auto_prob: str,
    sys_probs: Sequence[float] | None,
    systems: Sequence[System],
    nbatches: Sequence[int],
) -> np.ndarray:
    """Probability of each system.

    Parameters
    ----------
    auto_prob : str
        ``"prob_uniform"``, ``"prob_sys_size"`` or ``"prob_sys_size;A:B:W;..."``.
    sys_probs : sequence of float or None
        Weights to take instead; those below 0 share what is left of 1.
    systems : sequence of System
        The systems.
    nbatches : sequence of int
        Their numbers of batches, which stand for their sizes.

    Returns
    -------
    np.ndarray, shape (nsystems,)
        Their sum is 1.

    Raises
    ------
    DataError
        If they cannot be understood, or are no probabilities.
    """
    size = np.array(nbatches, dtype=float)
    if sys_probs is not None:
        _check_number("sys_probs", sys_probs, systems)
        weights = np.array(sys_probs, dtype=float)
        free = weights < 0
        if free.any():  # they share what is left
            rest = 1.0 - weights[~free].sum()
            share = np.where(free, size, 0.0)
            weights = np.where(free, rest * share / share.sum(), weights)
    elif auto_prob == "prob_uniform":
        weights = np.ones(len(size))
    else:
        name, *blocks = auto_prob.split(";")
        if name != "prob_sys_size":
            raise DataError(
                "`auto_prob` must be 'prob_uniform', 'prob_sys_size' or "
                f"'prob_sys_size;BEGIN:END:WEIGHT;...'. Received: {auto_prob!r}"
            )
        weights = _block_weights(blocks, size, auto_prob) if blocks else size
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise DataError(
            "Probabilities of systems (`auto_prob`, `sys_probs`) must be finite, not "
            f"negative and not all 0. Received: {weights.tolist()}"
        )
    return weights / weights.sum()


def _block_weights(
    blocks: Sequence[str], size: np.ndarray, auto_prob: str
) -> np.ndarray:
    """Weights of systems from those of blocks ``BEGIN:END:WEIGHT``; 0 in none."""
    weights, owner = np.zeros(len(size)), np.full(len(size), -1)
    for k, block in enumerate(blocks):
        try:
            begin, end, weight = block.split(":")
            part = np.arange(len(size))[int(begin) : int(end)]
            if part.size == 0:
                raise ValueError("no such systems")
            weights[part] = float(weight) * size[part] / size[part].sum()
        except (ValueError, ZeroDivisionError) as error:
            raise DataError(
                "`auto_prob` blocks are BEGIN:END:WEIGHT for the systems from BEGIN to "
                f"END - 1, and the last one is {len(size) - 1}. Received: {block!r} of "
                f"{auto_prob!r}"
            ) from error
        for system in part[owner[part] >= 0][:1]:
            raise DataError(
                f"`auto_prob` blocks {blocks[owner[system]]!r} and {block!r} both hold "
                f"system {system}. Let blocks not overlap; END is not included."
            )
        owner[part] = k
    return weights


class Order:
    """Which frames each step sees: a function of seed and step alone.

    Systems are drawn by their probabilities; the frames of a system come in a new
    random order each time all have been seen. Several threads may ask.

    Parameters
    ----------
    seed : int
        Seed of all of it.
    probabilities : array
        Probability of each system.
    nframes, sizes : sequence of int
        Frames of each system, and in a batch of it.
    """

    def __init__(
        self,
        seed: int,
        probabilities: np.ndarray,
        nframes: Sequence[int],
        sizes: Sequence[int],
    ):
        self.seed, self.probabilities = seed, probabilities
        self.nframes, self.sizes = nframes, sizes
        self._lock = threading.Lock()
        self._draws: list[np.ndarray] = []  # systems of each chunk of steps
        self._drawn = [np.array([0] * len(nframes))]  # before each chunk
        self._permuted = lru_cache(maxsize=256)(self._permutation)

    def plan(self, step: int) -> tuple[int, np.ndarray]:
        """System and frames of the batch of a step."""
        chunk, rest = divmod(step, CHUNK)
        nsys = len(self.nframes)
        with self._lock:
            while len(self._draws) <= chunk:
                random = np.random.default_rng([self.seed, 1, len(self._draws)])
                draw = random.choice(nsys, size=CHUNK, p=self.probabilities)
                self._draws.append(draw.astype(np.int32))
                self._drawn.append(self._drawn[-1] + np.bincount(draw, minlength=nsys))
        draws = self._draws[chunk]
        system = int(draws[rest])
        before = self._drawn[chunk][system] + np.count_nonzero(draws[:rest] == system)
        return system, self.frames(system, int(before))

    def frames(self, system: int, draw: int) -> np.ndarray:
        """Frames of a system when it is drawn for the time `draw`, from 0 on."""
        size = self.sizes[system]
        epoch, k = divmod(draw, self.nframes[system] // size)
        return self._permuted(system, epoch)[k * size : (k + 1) * size]

    def _permutation(self, system: int, epoch: int) -> np.ndarray:
        if self.nframes[system] == 1:
            return np.zeros(1, dtype=int)
        random = np.random.default_rng([self.seed, 2, system, epoch])
        return random.permutation(self.nframes[system])
