# SPDX-License-Identifier: Apache-2.0
"""A few frames that stand for many: those farthest from each other, or least known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.cells import wrapped
from deepspin.data.frames import System
from deepspin.infer.deviation import FORCE, FORCE_MAG, Measure, deviations
from deepspin.infer.systems import alike, atoms_of

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

CHUNK = 64  # frames whose descriptors are held at once
# spreads of an atom's position (Å) and spin (μ_B) below which frames are alike
STILL, SAME = 0.02, 0.05
# distances of frames of other atoms, which cannot be compared
APART = np.inf


@dataclass(frozen=True)
class Chosen:
    """Frames that were chosen.

    Parameters
    ----------
    order : np.ndarray of int, shape (n,)
        Among all frames, the first chosen first.
    radius : float
        Largest distance of a frame to the nearest that was chosen.
    """

    order: np.ndarray
    radius: float


def farthest(points: np.ndarray, group: np.ndarray, number: int) -> Chosen:
    """Choose points one by one, each the farthest from those chosen before.

    The first is nearest to the mean of the largest group; points of a group from which
    none is chosen yet come before all others, in the same way.

    Parameters
    ----------
    points : np.ndarray, shape (n, k)
        Where they are.
    group : np.ndarray of int, shape (n,)
        Those of different groups cannot be compared.
    number : int
        How many, at most n.
    """
    central = np.empty(len(points))
    sizes = np.bincount(group)
    for k in range(len(sizes)):
        own = group == k
        if own.any():
            mean = points[own].mean(axis=0)
            central[own] = np.linalg.norm(points[own] - mean, axis=1)
    away = np.full(len(points), APART)
    order = []
    for _ in range(number):
        first = np.lexsort((central, -sizes[group], -away))
        best = int(first[0]) if np.isinf(away.max()) else int(away.argmax())
        order.append(best)
        own = group == group[best]
        distance = np.linalg.norm(points[own] - points[best], axis=1)
        away[own] = np.minimum(away[own], distance)
    return Chosen(np.array(order), float(away.max()))


def by_distance(systems: Sequence[System], number: int) -> Chosen:
    """Frames whose positions and spins differ most.

    Displacements and cells (Å) and spins (μ_B) are divided by their spread, the root
    mean square of an atom's, so that both count alike, unless there is next to none:
    not by less than `STILL` and `SAME`. Frames of the same atoms in the same order can
    be compared.
    """
    keys = [_key(data, k) for data in systems for k in range(data.nframes)]
    kinds = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    group = np.array([kinds[key] for key in keys])
    parts: list[np.ndarray] = []
    begins = np.cumsum([0, *(data.nframes for data in systems)])
    for n in range(len(kinds)):
        members = np.flatnonzero(group == n)
        which = np.searchsorted(begins, members, side="right") - 1
        frames = [
            (systems[w], m - begins[w]) for w, m in zip(which, members, strict=True)
        ]
        parts.append(_features(frames))
    points = np.zeros((len(group), max(part.shape[1] for part in parts)))
    for n, part in enumerate(parts):
        points[np.flatnonzero(group == n), : part.shape[1]] = part
    return farthest(points, group, number)


def _key(data: System, frame: int) -> tuple:
    return data.pbc, tuple(data.atype[frame, atoms_of(data, frame)].tolist())


def _features(frames: Sequence[tuple[System, int]]) -> np.ndarray:
    """Positions and spins of frames of the same atoms as rows, (n, k)."""
    first, begin = frames[0]
    here = atoms_of(first, begin)
    coord = np.stack([data.coord[k, atoms_of(data, k)] for data, k in frames])
    spin = np.stack([data.spin[k, atoms_of(data, k)] for data, k in frames])
    box = np.stack([data.box[k] for data, k in frames])
    move = coord - first.coord[begin, here]
    if first.pbc:
        move = wrapped(move, box)
    move = move - move.mean(axis=1, keepdims=True)
    rows = (len(frames), -1)
    cell = (box - box.mean(axis=0)).reshape(rows)
    positions = np.concatenate([move.reshape(rows), cell], axis=1)
    size = np.sqrt(len(here))
    parts = (positions, STILL * size), (spin.reshape(rows), SAME * size)
    return np.concatenate([_scaled(*part) for part in parts], axis=1)


def _scaled(rows: np.ndarray, least: float) -> np.ndarray:
    """Rows less their mean over their spread, or over `least` if that is more."""
    rows = rows - rows.mean(axis=0)
    return rows / max(np.sqrt((rows**2).sum(axis=1).mean()), least)


def by_fingerprint(
    systems: Sequence[System], potential: DeepSpin, number: int
) -> Chosen:
    """Frames whose environments differ most to a model.

    The fingerprint of a frame is the mean of the descriptors of its atoms of each type;
    distances are in units of the spread.
    """
    ntypes = len(potential.type_map)
    rows = []
    for data in systems:
        found: dict[int, np.ndarray] = {}
        for frames in alike(data, np.arange(data.nframes), CHUNK):
            here = atoms_of(data, frames[0])
            types = data.atype[frames[0], here]
            seen = potential.descriptor(
                data.coord[frames][:, here],
                data.box[frames] if data.pbc else None,
                types,
                data.spin[frames][:, here],
                fparam=data.fparam[frames] if data.fparam.size else None,
            )
            mean = np.zeros((len(frames), ntypes, seen.shape[-1]))
            for t in np.unique(types):
                mean[:, t] = seen[:, types == t].mean(axis=1)
            found |= dict(zip(frames.tolist(), mean, strict=True))
        rows += [found[k] for k in range(data.nframes)]
    points = _scaled(np.stack(rows).reshape(len(rows), -1), 1e-12)
    return farthest(points, np.zeros(len(points), dtype=int), number)


def by_deviation(
    systems: Sequence[System], potentials: Sequence[DeepSpin], number: int
) -> Chosen:
    """Frames about which models disagree most.

    Counts the largest deviation of a force or of a magnetic force, each over its mean
    over all frames.
    """
    found = [deviations(data, potentials, Measure(), 1).table for data in systems]
    largest = np.concatenate(found)[:, [FORCE, FORCE_MAG]]
    score = np.nan_to_num(largest / np.nanmean(largest, axis=0)).max(axis=1)
    order = np.argsort(-score, kind="stable")[:number]
    rest = np.delete(score, order)
    return Chosen(order, float(rest.max(initial=0.0)))


def frames_of(systems: Sequence[System], chosen: Chosen) -> dict[str, np.ndarray]:
    """Frames of each system that has some, ascending."""
    begins = np.cumsum([0, *(data.nframes for data in systems)])
    result = {}
    for n, data in enumerate(systems):
        own = chosen.order[(begins[n] <= chosen.order) & (chosen.order < begins[n + 1])]
        if own.size:
            result[data.path] = np.sort(own) - begins[n]
    return result
