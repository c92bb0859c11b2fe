# SPDX-License-Identifier: Apache-2.0
"""Numbers that a physicist looks at before a fit, of one system at a time.

Every function takes a `System` and returns what can be written as JSON. Frames are
named by their place on disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepspin.data.collate import neighbors_of_frame
from deepspin.data.frames import System
from deepspin.spins.schemes import Scheme
from deepspin.spins.types import ZERO_SPIN
from deepspin.survey.work import work

# robust z-scores above this are outliers
OUTLIER = 6.0
# fewer frames than this tell nothing about outliers
MIN_FRAMES = 6
# nearest neighbours are searched up to here (Å)
REACH = 4.0
# two frames are the same if their fingerprints (in about Å and μ_B) agree to this
SAME_FRAME = 2e-6

Facts = dict[str, Any]


def describe(system: System, type_map: Sequence[str], spin: Scheme) -> Facts:
    """Measure all of one system.

    Parameters
    ----------
    system : System
        The frames.
    type_map : sequence of str
        Names of the types.
    spin : Scheme
        The spin scheme.

    Returns
    -------
    dict
        ``path``, ``frames``, ``layout``, ``atoms`` by type, ``labels``, how many frames
        lack one that others have (``missing``), ``cell``,
        ``energy``, ``force``, ``force_mag``, ``spin`` by type, ``torque``, ``virial``,
        ``work`` and ``nearest`` by pair of types; None where the data lacks it.
    """
    counts = [(system.atype == t).sum(axis=1) for t in range(len(type_map))]
    magnetic = spin.types.is_magnetic(system.atype)
    return {
        "path": system.path,
        "frames": system.nframes,
        "sets": len(system.sets),
        "layout": system.layout,
        "periodic": system.pbc,
        "atoms": {
            name: [int(n.min()), int(n.max())]
            for name, n in zip(type_map, counts, strict=True)
            if n.any()
        },
        "labels": sorted(system.labels),
        "missing": {
            name: int(number)
            for name in sorted(system.labels)
            if (number := np.count_nonzero(~system.has(name)))
        },
        "cell": _cell(system) if system.pbc else None,
        "energy": _energy(system),
        "force": _force(system),
        "spin": _spin(system, type_map, spin),
        "force_mag": _force_mag(system, magnetic),
        "torque": _torque(system),
        "virial": _virial(system),
        "work": work(system),
        "nearest": nearest(system, type_map, spin),
    }


def _range(values: np.ndarray) -> list[float]:
    return [float(values.min()), float(values.max())]


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _natoms(system: System) -> np.ndarray:
    return (system.atype >= 0).sum(axis=1)


def _cell(system: System) -> Facts:
    volume = np.abs(np.linalg.det(system.box))
    lengths = np.linalg.norm(system.box, axis=-1)
    return {
        "volume": _range(volume),
        "volume_per_atom": _range(volume / _natoms(system)),
        "lengths": [_range(lengths[:, k]) for k in range(3)],
        "left_handed": int((np.linalg.det(system.box) < 0).sum()),
    }


def outliers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which values are far from the others, and how far.

    Parameters
    ----------
    values : np.ndarray, shape (n,)
        One number for each frame.

    Returns
    -------
    index : np.ndarray of int, shape (m,)
        Those whose robust z-score is above `OUTLIER`, the worst first.
    score : np.ndarray, shape (n,)
        Distance from the median over 1.4826 times the median distance, which is the
        standard deviation of normal values.
    """
    distance = np.abs(values - np.median(values))
    scale = max(1.4826 * np.median(distance), 1e-12 * np.abs(values).max(initial=0))
    score = distance / (scale or 1.0)
    found = np.flatnonzero((score > OUTLIER) & (len(values) >= MIN_FRAMES))
    return found[np.argsort(-score[found], kind="stable")], score


def _energy(system: System) -> Facts | None:
    if "energy" not in system.labels:
        return None
    own = np.flatnonzero(system.has("energy"))
    each = system.labels["energy"][own] / _natoms(system)[own]
    index, score = outliers(each)
    return {
        "mean": float(each.mean()),
        "std": float(each.std()),
        "range": _range(each),
        "outliers": [
            {"at": system.where(own[f]), "energy": float(each[f]), "score": float(s)}
            for f, s in zip(index, score[index], strict=True)
        ],
    }


def _largest(system: System, vectors: np.ndarray) -> Facts:
    """Longest of vectors (nf, nloc, 3), and where it is; none where they are NaN."""
    length = np.nan_to_num(np.linalg.norm(vectors, axis=-1))
    frame, atom = np.unravel_index(length.argmax(), length.shape)
    return {"value": float(length.max()), "at": system.where(frame, atom)}


def _force(system: System) -> Facts | None:
    if "force" not in system.labels:
        return None
    own = np.flatnonzero(system.has("force"))
    force, real = system.labels["force"][own], system.atype[own] >= 0
    net = np.linalg.norm(force.sum(axis=1), axis=-1)
    # what random errors of the atoms would add up to
    scale = np.sqrt((force**2).sum(axis=(1, 2)))
    share = net / np.where(scale > 0, scale, 1.0)
    worst = int(share.argmax())
    return {
        "rms": _rms(force[real]),
        "largest": _largest(system, system.labels["force"]),
        "net": {
            "value": float(net[worst]),
            "share": float(share[worst]),
            "at": system.where(own[worst]),
        },
    }


def _spin(system: System, type_map: Sequence[str], spin: Scheme) -> dict[str, Facts]:
    length = np.linalg.norm(system.spin, axis=-1)
    facts = {}
    for t in spin.types.spin_types:
        own = length[system.atype == t]
        if own.size:
            facts[type_map[t]] = {
                "range": _range(own),
                "mean": float(own.mean()),
                "std": float(own.std()),
                "zeros": int((own < ZERO_SPIN).sum()),
            }
    return facts


def _force_mag(system: System, magnetic: np.ndarray) -> Facts | None:
    magnetic = magnetic & system.has("force_mag")[:, None]
    if not magnetic.any():
        return None
    force_mag, spins = system.labels["force_mag"], system.spin[magnetic]
    own, length = force_mag[magnetic], np.linalg.norm(spins, axis=-1, keepdims=True)
    unit = spins / np.where(length > 0, length, 1.0)
    along = (own * unit).sum(axis=-1)
    return {
        "rms_along": _rms(along),
        "mean_along": float(along.mean()),
        "rms_across": _rms(np.linalg.norm(own - along[:, None] * unit, axis=-1)),
        "largest": _largest(system, force_mag),
    }


def torque_share(systems: Sequence[System]) -> float:
    """Total torque of the spins of a frame over what independent spins would have.

    Root mean square over all frames; 0 without spin-orbit coupling, NaN without labels.
    """
    whole = apart = 0.0
    for data in systems:
        own = data.has("force_mag")
        if own.any():
            each = np.cross(data.spin[own], data.labels["force_mag"][own])
            whole += float((each.sum(axis=1) ** 2).sum())
            apart += float((each**2).sum())
    return math.sqrt(whole / apart) if apart else math.nan


def _torque(system: System) -> Facts | None:
    """|sum_i S_i x F_i| over sqrt(sum_i |S_i x F_i|^2), of all frames and the worst."""
    own = np.flatnonzero(system.has("force_mag"))
    if not own.size:
        return None
    each = np.cross(system.spin[own], system.labels["force_mag"][own])
    whole = (each.sum(axis=1) ** 2).sum(axis=-1)
    apart = (each**2).sum(axis=(1, 2))
    if not apart.any():
        return None
    share = np.sqrt(whole / apart.mean())  # of a frame like the others
    return {
        "all": float(np.sqrt(whole.sum() / apart.sum())),
        "largest": {
            "value": float(share.max()),
            "at": system.where(own[share.argmax()]),
        },
    }


def _virial(system: System) -> Facts | None:
    if "virial" not in system.labels:
        return None
    own = np.flatnonzero(system.has("virial"))
    virial = system.labels["virial"][own] / _natoms(system)[own, None, None]
    frame = np.abs(virial).max(axis=(1, 2)).argmax()
    return {
        "rms": _rms(virial),
        "largest": {
            "value": float(np.abs(virial).max()),
            "at": system.where(own[frame]),
        },
    }


def nearest(system: System, type_map: Sequence[str], spin: Scheme) -> dict[str, Facts]:
    """Smallest distance in Å of each pair of types up to `REACH`, and where it is.

    Virtual atoms, as ``Ni(spin)``, from atoms other than their owners.
    """
    names = spin.neighbor_names(type_map)
    ntypes = spin.nblocks
    best, where = np.full(ntypes * ntypes, np.inf), {}
    for f in range(system.nframes):
        coord, spins, atype = system.coord[f], system.spin[f], system.atype[f]
        box = system.box[f]
        found = neighbors_of_frame(
            coord, spins, atype, box, system.pbc, spin, REACH, None
        )
        centre, lists, _ = found.slot
        block = np.array(spin.list_blocks)[lists]
        points = spin.points(coord, spins, atype)[0]
        way = points[found.index] + found.shift @ box - points[centre]
        own = (found.index % len(coord) == centre) & ~found.shift.any(axis=1)
        distance = np.where(own, np.inf, np.linalg.norm(way, axis=-1))
        pair = np.minimum(atype[centre], block) * ntypes
        pair += np.maximum(atype[centre], block)
        before = best.copy()
        np.minimum.at(best, pair, distance)
        for changed in np.flatnonzero(best < before).tolist():
            n = int(np.flatnonzero((pair == changed) & (distance == best[changed]))[0])
            atoms = [int(centre[n]), int(found.index[n] % len(coord))]
            where[changed] = (f, atoms)
    return {
        f"{names[pair // ntypes]}-{names[pair % ntypes]}": {
            "distance": float(best[pair]),
            "frame": system.where(f),
            "atoms": [int(system.index[f, a]) for a in atoms],
        }
        for pair, (f, atoms) in sorted(where.items())
    }


# --- Frames that occur twice ----------------------------------------------------------


def fingerprints(system: System, seed: int = 0) -> np.ndarray:
    """Numbers of each frame that agree only for frames that are the same.

    Random sums over spins, over frame parameters and over waves of the cell at atoms,
    so that lattice vectors do not matter; the order of atoms does.

    Returns
    -------
    np.ndarray, shape (nf, 15)
        They change by about as much as atoms move (Å) and spins change (μ_B).
    """
    random = np.random.default_rng(seed)
    weight = random.normal(size=(system.nloc, 3, 8))
    there = system.atype >= 0
    size = np.sqrt(there.sum(axis=1))[:, None]
    coord, cell = system.coord, system.box
    if not system.pbc:  # no wave needs to fit, and the cluster may be anywhere
        centre = (coord * there[..., None]).sum(axis=1) / size**2
        coord = np.where(there[..., None], coord - centre[:, None], 0.0)
        cell = np.broadcast_to(np.eye(3) * 100.0, cell.shape)
    fraction = np.einsum("fia,fab->fib", coord, np.linalg.inv(cell))
    length = np.linalg.norm(cell, axis=-1)[:, None] / (2 * np.pi)
    wave = np.exp(2j * np.pi * fraction) - 1.0
    sites = np.einsum("fia,iak->fk", wave * length, weight[..., :4]) / size
    spins = np.einsum("fia,iak->fk", system.spin, weight[..., 4:]) / size
    types = (system.atype * weight[:, 0, 0]).sum(axis=1, keepdims=True)
    edges = system.box.reshape(-1, 9) @ random.normal(size=(9, 1))
    fparam = system.fparam @ random.normal(size=(system.fparam.shape[1], 1))
    return np.concatenate([sites.real, sites.imag, spins, types, edges, fparam], axis=1)


def twins(prints: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that agree to `SAME_FRAME`, each later row with an earlier one.

    Parameters
    ----------
    prints : np.ndarray, shape (n, k)
        Fingerprints.
    """
    order = np.argsort(prints[:, 0], kind="stable")
    first = prints[order, 0]
    found: dict[int, int] = {}
    step = 1
    while step < len(order):
        close = np.flatnonzero(first[step:] - first[:-step] < SAME_FRAME)
        if not len(close):
            break
        one, other = order[close], order[close + step]
        same = (np.abs(prints[one] - prints[other]) < SAME_FRAME).all(axis=1)
        for a, b in zip(one[same].tolist(), other[same].tolist(), strict=True):
            low, high = min(a, b), max(a, b)
            found[high] = min(low, found.get(high, low))
        step += 1
    return [(early, late) for late, early in sorted(found.items())]
