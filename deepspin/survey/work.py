# SPDX-License-Identifier: Apache-2.0
r"""Whether energies follow from forces and magnetic forces: their signs and factors.

Two frames that are near each other differ by what forces do from one to the other,
with the mean of both ends (the trapezoidal rule):

.. math:: E' - E = a\,w + b_\perp w_\perp + b_\parallel w_\parallel, \quad
    w = -\tfrac12 \sum_i (F_i + F'_i) \cdot (R'_i - R_i)

Spins go along an arc, where the part of the magnetic force across the spin does
:math:`w_\perp`, and change their length, where the part along it does
:math:`w_\parallel`: so each factor is that of one part of the labels. All factors are 1
for derivatives of the energy. Errors are those of the fit with as many independent
differences as there are frames, less one: pairs that share frames are not independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepspin.data.cells import wrapped
from deepspin.data.frames import System

# fewer pairs than this tell nothing
MIN_PAIRS = 6
# two frames are near each other if atoms moved less than this (Å) and spins changed
# by less than this share of their length, both as root mean squares
NEAR_MOVE, NEAR_TURN = 0.1, 0.4
# a frame is compared with so many that come next, with more if frames are few
NEXT, COMPARED = 8, 20_000
# a factor with a larger error is not told
TOLD = 0.2
# atoms that move less than this (Å) stay where they are, and need no forces
STAYS = 1e-7

Factor = list[float] | None
_COLUMNS = ("force", "across", "along")


def work(system: System) -> dict[str, Any] | None:
    """Factors of forces and magnetic forces, from frames that are near each other.

    Parameters
    ----------
    system : System
        Frames of the same atoms.

    Returns
    -------
    dict or None
        ``pairs``; for ``force``, ``force_mag`` as a whole, ``across`` and ``along`` the
        spins a factor and its error, or None where the data cannot tell; and which
        share of the energy differences they ``explained``. None without pairs.
    """
    if not {"energy", "force_mag"} <= set(system.labels):
        return None
    if len(np.unique(system.atype, axis=0)) > 1:
        return None
    reach = max(NEXT, COMPARED // system.nframes)
    lags = range(1, min(reach + 1, system.nframes))
    found = [_pairs(system, lag) for lag in lags]
    if sum(len(rows) for _, rows in found) < MIN_PAIRS:
        return None
    frames = np.concatenate([pairs for pairs, _ in found])
    table = np.concatenate([rows for _, rows in found])
    rise, parts = table[:, 0], table[:, 1:]
    if not rise.any():
        return None
    each = dict(zip(_COLUMNS, _factors(rise, parts, frames), strict=True))
    whole = np.stack([parts[:, 0], parts[:, 1] + parts[:, 2]], axis=1)
    mag = _factors(rise, whole, frames)[1]
    slopes = [1.0 if f is None else f[0] for f in each.values()]
    rest = ((rise - parts @ slopes) ** 2).sum()
    explained = float(1.0 - rest / (rise**2).sum())
    if mag is None and each["force"] is None:
        return None
    return {"pairs": len(rise), "force_mag": mag, **each, "explained": explained}


def _pairs(system: System, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames `lag` apart that are near each other, and E' - E and the works (eV)."""
    one, other = slice(None, -lag), slice(lag, None)
    move, spin = system.coord[other] - system.coord[one], system.spin
    if system.pbc:
        move = wrapped(move, system.box[one])
    far = np.sqrt((move**2).sum(axis=-1).mean(axis=-1))
    length = np.sqrt((spin[one] ** 2).sum(axis=(1, 2)))
    turned = np.sqrt(((spin[other] - spin[one]) ** 2).sum(axis=(1, 2)))
    fixed = (system.box[one] == system.box[other]).all(axis=(1, 2))
    near = fixed & (far < NEAR_MOVE) & (turned < NEAR_TURN * length)
    if "force" not in system.labels:
        near &= far < STAYS
    for name in {"energy", "force", "force_mag"} & set(system.labels):
        near &= system.has(name)[one] & system.has(name)[other]
    first = np.flatnonzero(near)
    last = first + lag
    energy, labels = system.labels["energy"], system.labels
    forces = labels.get("force", np.zeros_like(spin))
    mean = (forces[first] + forces[last]) / 2
    across, along = _spin_work(spin, labels["force_mag"], first, last)
    atoms = -(mean * move[near]).sum(axis=(1, 2))
    rise = energy[last] - energy[first]
    pairs = np.stack([first, last], axis=1)
    return pairs, np.stack([rise, atoms, across, along], axis=1)


def _spin_work(
    spin: np.ndarray, force_mag: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Work (eV) of turning spins along arcs, and of changing their lengths."""
    ends = [(spin[k], force_mag[k]) for k in (first, last)]
    length = [np.linalg.norm(s, axis=-1, keepdims=True) for s, _ in ends]
    units = [
        s / np.where(n > 0, n, 1.0) for (s, _), n in zip(ends, length, strict=True)
    ]
    cosine = np.clip((units[0] * units[1]).sum(axis=-1, keepdims=True), -1.0, 1.0)
    there = (length[0] > 0) & (length[1] > 0)
    sine = np.sqrt(1.0 - cosine**2)
    # 2 tan(θ/2) in place of the angle θ: exact for a spin that turns in a fixed field
    angle = np.where(there, 2.0 * sine / (1.0 + cosine), 0.0)
    sine = np.where(sine > 0, sine, 1.0)
    tangents = (
        (units[1] - cosine * units[0]) / sine,
        (cosine * units[1] - units[0]) / sine,
    )
    torque, pull = 0.0, 0.0
    for (_, force), n, unit, tangent in zip(ends, length, units, tangents, strict=True):
        torque = torque + n * (force * tangent).sum(axis=-1, keepdims=True) / 2
        pull = pull + (force * unit).sum(axis=-1, keepdims=True) / 2
    across = -(torque * angle).sum(axis=(1, 2))
    return across, -(pull * (length[1] - length[0])).sum(axis=(1, 2))


def _factors(rise: np.ndarray, parts: np.ndarray, frames: np.ndarray) -> list[Factor]:
    """Least-squares factors of columns with their errors, None where they say nothing.

    A column that cannot tell its factor counts with 1.
    """
    told = list(np.flatnonzero(parts.any(axis=0)))
    result: list[Factor] = [None] * parts.shape[1]
    while told:
        fixed = [k for k in range(parts.shape[1]) if k not in told]
        rest = rise - parts[:, fixed].sum(axis=1)
        slopes, errors = _fit(rest, parts[:, told], frames)
        worst = int(np.argmax(errors))
        if errors[worst] <= TOLD:
            for k, slope, error in zip(told, slopes, errors, strict=True):
                result[k] = [float(slope), float(error)]
            break
        told.pop(worst)
    return result


def _fit(
    rise: np.ndarray, parts: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factors (k,) and their errors."""
    matrix = parts.T @ parts
    # columns that say nothing beside the others have huge errors
    inverse = np.linalg.inv(matrix + 1e-14 * np.trace(matrix) * np.eye(len(matrix)))
    slopes = inverse @ (parts.T @ rise)
    rest = ((rise - parts @ slopes) ** 2).sum()
    free = max(len(np.unique(frames)) - 1 - len(slopes), 1)
    return slopes, np.sqrt(np.diag(inverse) * rest / free)
