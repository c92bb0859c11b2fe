# SPDX-License-Identifier: Apache-2.0
"""What an invariant model says of magnetism, in numbers that people know."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from deepspin.data.collate import Shape, collate, neighbors_of_frame
from deepspin.data.dataset import DataSystem
from deepspin.model.ener import SpinEnergyModel

# a spin is moved by so much (μ_B) for a second derivative
STEP = 1e-3
# distances (Å) farther apart than this are of different shells
GAP = 0.25
# atoms of each type whose exchange is averaged, and distances of a curve
CENTRES, POINTS = 4, 60


def magnetism(model: SpinEnergyModel, data: DataSystem) -> dict[str, Any] | None:
    r"""Exchange of shells, on-site terms and pair energies of an invariant model.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    data : DataSystem
        Its data; exchange is that of the first frame, repeated until no atom sees
        another one twice.

    Returns
    -------
    dict or None
        ``exchange``: of each shell ``pair`` (names), ``distance`` (mean, in Å),
        ``number`` of such neighbours and, for spins that turn, ``J`` in meV, of
        :math:`-\sum_{i<j} J_{ij} e_i \cdot e_j` with unit vectors e, positive where
        ferromagnetic. ``site``: by name, the factors in eV of the powers of
        :math:`|S|` in μ_B. ``pairs``: curves of pair energies in eV over distances
        in Å. None for a model without a baseline.
    """
    baseline = getattr(model.spin, "baseline", None)
    if baseline is None:
        return None
    theta = baseline.theta.numpy()
    number = dict(zip(baseline.labels, theta, strict=True))
    names = model.type_map
    site = {
        names[t]: {str(n): float(number["site", t, n]) for n in (2, 4, 6)}
        for t in model.spin.scheme.types.spin_types
    }
    return {"exchange": _shells(model, data), "site": site, "pairs": _curves(model)}


def _curves(model: SpinEnergyModel) -> list[dict[str, Any]]:
    baseline: Any = model.spin.baseline
    channels: Any = model.descriptor
    number = dict(zip(baseline.labels, baseline.theta.numpy(), strict=True))
    result = []
    for a, b in itertools.combinations_with_replacement(range(len(model.type_map)), 2):
        nearest = float(channels.nearest.numpy()[a, b])
        if nearest == 0.0:
            continue
        r = np.linspace(nearest, channels.rcut, POINTS)
        radial = channels.radial(tf.constant(r), tf.zeros_like(r)).numpy()
        # counted by both atoms
        theta = [number["pair", a, b, k] for k in range(channels.nradial)]
        energy = 2.0 * radial @ theta
        pair = [model.type_map[a], model.type_map[b]]
        result.append({"pair": pair, "r": r.tolist(), "energy": energy.tolist()})
    return result


def _shells(model: SpinEnergyModel, data: DataSystem) -> list[dict[str, Any]]:
    system, scheme = data.systems[0], model.spin.scheme
    atoms = np.flatnonzero(system.atype[0] >= 0)
    coord, spin, atype = system.coord[0, atoms], system.spin[0, atoms], system.atype[0]
    atype, box = atype[atoms], system.box[0]
    reach = 2.0 * model.descriptor.rcut + GAP
    if system.pbc:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
        repeat = np.maximum(np.ceil(reach / heights), 1).astype(int)
        shifts = np.array(list(itertools.product(*map(range, repeat)))) @ box
        coord = (shifts[:, None] + coord).reshape(-1, 3)
        spin, atype = np.tile(spin, (len(shifts), 1)), np.tile(atype, len(shifts))
        box = box * repeat[:, None]
    moduli, rows = np.linalg.norm(spin, axis=1), []
    evaluate = _evaluation(model, coord, box, atype, system.pbc)
    for t in scheme.types.spin_types:
        for i in np.flatnonzero((atype == t) & (moduli > 0))[:CENTRES]:
            slope = np.zeros((3, len(atype), 3))  # of the field on j, by S_i
            for axis in range(3):
                for sign in (1.0, -1.0):
                    moved = spin.copy()
                    moved[i, axis] += sign * STEP
                    slope[axis] += sign * evaluate(moved) / (2 * STEP)
            apart = coord - coord[i]
            if system.pbc:
                apart -= np.round(apart @ np.linalg.inv(box)) @ box
            distance = np.linalg.norm(apart, axis=1)
            turned = np.einsum("ajb,jab->j", slope, _across(spin, i))
            exchange = turned * moduli * moduli[i] * 1000.0
            near = (distance > 0) & (distance < model.descriptor.rcut)
            for j in np.flatnonzero(near & scheme.types.is_magnetic(atype)):
                pair = tuple(sorted((int(t), int(atype[j]))))
                rows.append((pair, distance[j], exchange[j], int(i)))
    return _grouped(rows, model.type_map)


def _across(spin: np.ndarray, i: int) -> np.ndarray:
    """Directions across S_i and each S_j, as projectors of trace 1, (n, 3, 3)."""
    normal = np.cross(spin[i], spin)
    size = np.linalg.norm(normal, axis=1)
    moduli = np.linalg.norm(spin, axis=1)
    aligned = size <= 1e-6 * moduli * moduli[i]
    normal = normal / np.where(aligned, 1.0, size)[:, None]
    own = np.eye(3) - np.outer(spin[i], spin[i]) / moduli[i] ** 2
    outer = normal[:, :, None] * normal[:, None, :]
    return np.where(aligned[:, None, None], own / 2.0, outer)


def _evaluation(
    model: SpinEnergyModel,
    coord: np.ndarray,
    box: np.ndarray,
    atype: np.ndarray,
    pbc: bool,
) -> Any:
    """Magnetic forces (n, 3) of atoms that stay, as a function of their spins."""
    scheme, descriptor = model.spin.scheme, model.descriptor
    lists = neighbors_of_frame(
        coord, np.zeros_like(coord), atype, box, pbc, scheme, descriptor.rcut, None
    )
    natoms = np.bincount(atype, minlength=scheme.ntypes)
    widths = lists.count.max(axis=0, initial=1)
    shape = Shape(1, tuple(map(int, natoms)), tuple(map(int, widths)))
    compute = tf.function(lambda x: model(x)["force_mag"], autograph=False)

    def of(spin: np.ndarray) -> np.ndarray:
        inputs, slots = collate(
            coord[None], spin[None], box[None], atype[None], [lists], shape
        )
        found = compute(tf.nest.map_structure(tf.constant, inputs)).numpy()[0]
        return found[slots[0]]

    return of


def _grouped(rows: list[tuple], type_map: list[str]) -> list[dict[str, Any]]:
    """Shells of rows (types, distance, exchange, centre), nearest first."""
    shells = []
    for pair in sorted({row[0] for row in rows}):
        own = sorted(row[1:] for row in rows if row[0] == pair)
        distance = np.array([row[0] for row in own])
        for part in np.split(
            np.arange(len(own)), np.flatnonzero(np.diff(distance) > GAP) + 1
        ):
            chosen = [own[k] for k in part]
            centres = len({row[2] for row in chosen})
            shells.append(
                {
                    "pair": [type_map[t] for t in pair],
                    "distance": float(np.mean([row[0] for row in chosen])),
                    "number": round(len(chosen) / centres),
                    "J": float(np.mean([row[1] for row in chosen])),
                    "spread": float(np.std([row[1] for row in chosen])),
                }
            )
    return sorted(shells, key=lambda s: (s["pair"], s["distance"]))
