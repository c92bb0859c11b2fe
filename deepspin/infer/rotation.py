# SPDX-License-Identifier: Apache-2.0
"""How much a model's energy changes as all spins turn together.

Without spin-orbit coupling it should not, and all spins reversed it never should. In
this form of the model nothing but the training sees to that, and what is left is a
spurious anisotropy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.augmentation import random_rotations
from deepspin.data.frames import System
from deepspin.infer.systems import atoms_of, evaluate

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# how they are printed
LINES = {"rotation": "Spin rotation", "flip": "Spin flip"}


def energy_changes(
    potential: DeepSpin,
    data: System,
    chosen: Sequence[int] | np.ndarray,
    number: int,
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Turn all spins of frames, each time by another rotation, and reverse them.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    data : System
        A system.
    chosen : sequence of int
        Its frames.
    number : int
        Rotations of each frame.
    random : np.random.Generator
        Draws them.

    Returns
    -------
    dict of str to np.ndarray
        Changes of the energy in meV per atom: ``rotation`` (frames, number) and
        ``flip`` (frames, 1).
    """
    changes = []
    for frame in chosen:
        turns = [np.eye(3), *random_rotations(number, random), -np.eye(3)]
        here = atoms_of(data, frame)
        spin = data.spin[frame, here] @ np.transpose(turns, (0, 2, 1))
        energy = evaluate(potential, data, [frame] * len(turns), spin)["energy"]
        changes.append(1e3 * (energy[1:] - energy[0]) / here.size)
    rotation, flip = np.split(np.array(changes), [number], axis=1)
    return {"rotation": rotation, "flip": flip}


def tell(changes: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
    """Print the absolute changes of systems together: mean, rms and largest.

    Parameters
    ----------
    changes : sequence of dict
        Answers of `energy_changes`.

    Returns
    -------
    dict of str to float
        What is printed, in meV per atom: ``mean_rotation``, ``rms_rotation``,
        ``max_rotation``, and the same of ``flip``.
    """
    nframes = sum(len(each["flip"]) for each in changes)
    number = changes[0]["rotation"].shape[1]
    log.info(
        "# |dE| when all spins turn (%d frames, %d rotations of each) or are reversed",
        nframes,
        number,
    )
    result = {}
    for name, text in LINES.items():
        every = np.abs(np.concatenate([each[name].ravel() for each in changes]))
        kinds = {
            "mean": np.mean(every),
            "rms": np.sqrt(np.mean(every**2)),
            "max": np.max(every),
        }
        for kind, value in kinds.items():
            log.info("%-20s: %e meV/atom", f"{text} {kind}", value)
            result[f"{kind}_{name}"] = float(value)
    log.info("# ----------------------------------------------- ")
    return result
