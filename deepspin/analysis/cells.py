# SPDX-License-Identifier: Apache-2.0
"""Smaller cells of the same crystal, found by its translations."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from deepspin.analysis.hamiltonian import Pairs, Sites, SpinHamiltonian
from deepspin.atoms.structures import Structure

# positions (Å) and spins (μ_B) that differ by no more are the same
SAME = 1e-3


def primitive(structure: Structure) -> Structure:
    """The smallest cell that repeats atoms and spins; `structure` if there is none."""
    if structure.box is None or not structure.pbc.all() or structure.spin is None:
        return structure
    found = _smaller(
        structure.box, structure.coord, structure.atype.astype(float), structure.spin
    )
    if found is None:
        return structure
    box, kept = found
    return replace(
        structure,
        box=box,
        atype=structure.atype[kept],
        coord=structure.coord[kept],
        spin=structure.spin[kept],
        mass=structure.mass[kept],
        fixed=structure.fixed[kept],
    )


def crystal(hamiltonian: SpinHamiltonian) -> SpinHamiltonian:
    """Couplings in the smallest cell of the crystal, whatever the spins do.

    Pairs that are the same without spins are averaged. Directions are those of the
    sites that are kept; anisotropies are averaged, too.
    """
    sites = hamiltonian.sites
    if sites.box is None or not sites.pbc.all():
        return hamiltonian
    kinds = sorted(set(sites.names))
    label = np.array([kinds.index(name) for name in sites.names], dtype=float)
    found = _smaller(sites.box, sites.coord, label, np.zeros_like(sites.coord))
    if found is None:
        return hamiltonian
    box, kept = found
    inverse = np.linalg.inv(box)
    # which kept site each is a copy of, and in which cell
    apart = (sites.coord[:, None] - sites.coord[kept]) @ inverse
    rest = np.abs((apart - np.rint(apart)) @ box).max(axis=2)
    rest[label[:, None] != label[kept]] = np.inf
    home = rest.argmin(axis=1)
    cell = np.rint(apart[np.arange(sites.n), home]).astype(int)
    steps = np.rint(sites.box @ inverse).astype(int)
    pairs = hamiltonian.pairs
    keys = np.column_stack(
        [
            home[pairs.first],
            home[pairs.second],
            pairs.shift @ steps + cell[pairs.second] - cell[pairs.first],
        ]
    )
    unique, inverse_of = np.unique(keys, axis=0, return_inverse=True)
    copies = sites.n // len(kept)
    tensor = np.zeros((len(unique), 3, 3))
    np.add.at(tensor, inverse_of.ravel(), hamiltonian.tensor)
    anisotropy = np.zeros((len(kept), 3, 3))
    np.add.at(anisotropy, home, hamiltonian.anisotropy)
    return SpinHamiltonian(
        sites=Sites(
            box=box,
            pbc=sites.pbc,
            coord=sites.coord[kept],
            names=tuple(sites.names[k] for k in kept),
            moment=np.array([sites.moment[home == k].mean() for k in range(len(kept))]),
            direction=sites.direction[kept],
        ),
        pairs=Pairs(first=unique[:, 0], second=unique[:, 1], shift=unique[:, 2:]),
        tensor=tensor / copies,
        anisotropy=anisotropy / copies,
    )


def _smaller(
    box: np.ndarray, coord: np.ndarray, label: np.ndarray, spin: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Lattice vectors and atoms of a smaller cell, if there is one."""
    moves = _translations(box, coord, label, spin)
    if len(moves) == 1:
        return None
    images = moves[:, None] + np.array(list(product((-1, 0, 1), repeat=3))) @ box
    images = images.reshape(-1, 3)
    length = np.linalg.norm(images, axis=1)
    # the shortest first; of equals always the same ones
    order = np.lexsort((*np.round(-images.T, 3), np.round(length, 3)))
    images = images[order][length[order] > SAME]
    volume = abs(np.linalg.det(box)) / len(moves)
    found = _basis(images, volume)
    if np.linalg.det(found) * np.linalg.det(box) < 0:
        found = -found
    inverse = np.linalg.inv(found)
    kept: list[int] = []
    for k in range(len(coord)):
        apart = (coord[k] - coord[kept]) @ inverse
        near = np.abs((apart - np.rint(apart)) @ found).max(axis=1, initial=0.0)
        same = (near < 10 * SAME) & (label[kept] == label[k])
        if not same.any():
            kept.append(k)
    return found, np.array(kept)


def _basis(images: np.ndarray, volume: float) -> np.ndarray:
    """Three of the vectors, short ones, that span the volume of one cell."""
    one = images[0]
    for k, two in enumerate(images[1:], 1):
        normal = np.cross(one, two)
        if np.linalg.norm(normal) < SAME:
            continue
        height = images[k + 1 :] @ normal
        good = np.flatnonzero(np.abs(np.abs(height) - volume) < 1e-3 * volume)
        if len(good):
            return np.stack([one, two, images[k + 1 + good[0]]])
    raise AssertionError("translations without a basis")


def _translations(
    box: np.ndarray, coord: np.ndarray, label: np.ndarray, spin: np.ndarray
) -> np.ndarray:
    """Vectors within the cell that take each atom to its like, (n, 3), 0 first."""
    inverse = np.linalg.inv(box)
    kinds, counts = np.unique(label, return_counts=True)
    start = np.flatnonzero(label == kinds[counts.argmin()])
    moves = []
    for k in start:
        move = coord[k] - coord[start[0]]
        apart = (coord[:, None] + move - coord) @ inverse
        near = np.abs((apart - np.rint(apart)) @ box).max(axis=2) < SAME
        near &= label[:, None] == label
        near &= np.abs(spin[:, None] - spin).max(axis=2) < SAME
        if near.any(axis=1).all():
            moves.append(move)
    return np.array(moves)
