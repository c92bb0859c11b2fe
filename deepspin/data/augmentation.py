# SPDX-License-Identifier: Apache-2.0
"""Frames made of others: all spins turned together, or reversed.

Without a field reversed spins have the same energy, forces and virial, and opposite
magnetic forces; without spin-orbit coupling the same holds of spins that all turn and
their magnetic forces, which turn with them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from deepspin import keys
from deepspin.data.frames import System


def random_rotations(number: int, random: np.random.Generator) -> np.ndarray:
    """Rotations (number, 3, 3) of determinant 1, uniformly distributed."""
    q = random.normal(size=(number, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def random_turns(
    kinds: Collection[str], number: int, random: np.random.Generator
) -> np.ndarray:
    """What is done to the spins of frames, (number, 3, 3).

    Parameters
    ----------
    kinds : collection of str
        Of `deepspin.utils.arguments.AUGMENTATIONS`.
    number : int
        Number of frames.
    random : np.random.Generator
        Draws them; the same number whatever `kinds` are.
    """
    rotations, signs = random_rotations(number, random), random.choice([-1, 1], number)
    if "spin_rotation" not in kinds:
        rotations = np.broadcast_to(np.eye(3), (number, 3, 3))
    if "time_reversal" not in kinds:
        signs = np.ones(number)
    return rotations * signs[:, None, None]


def turned(
    system: System, frames: Sequence[int] | np.ndarray, turns: np.ndarray
) -> System:
    """Frames of a system with all spins of each turned, and what turns with them.

    Parameters
    ----------
    system : System
        The system.
    frames : sequence of int
        Its frames, in this order.
    turns : np.ndarray, shape (number of frames, 3, 3)
        Orthogonal matrices.
    """
    picked = np.asarray(frames)
    labels = {name: values[picked] for name, values in system.labels.items()}
    if keys.FORCE_MAG.name in labels:
        labels[keys.FORCE_MAG.name] = _turn(labels[keys.FORCE_MAG.name], turns)
    return replace(
        system,
        atype=system.atype[picked],
        coord=system.coord[picked],
        spin=_turn(system.spin[picked], turns),
        box=system.box[picked],
        fparam=system.fparam[picked],
        labels=labels,
        natoms_loss=system.natoms_loss[picked],
        index=system.index[picked],
    )


def _turn(vectors: np.ndarray, turns: np.ndarray) -> np.ndarray:
    return np.einsum("fxy,fay->fax", turns, vectors)
