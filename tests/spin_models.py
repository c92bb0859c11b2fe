# SPDX-License-Identifier: Apache-2.0
"""Spin Hamiltonians with known answers."""

from __future__ import annotations

from itertools import product

import numpy as np

from deepspin.analysis.hamiltonian import Pairs, Sites, SpinHamiltonian

CUBE = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
CHAIN = CUBE[:2]
SQUARE = CUBE[:4]
FCC = 2.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]])
FCC_NEAREST = [
    s
    for s in product((-1, 0, 1), repeat=3)
    if abs(np.linalg.norm(np.array(s) @ FCC) - 8**0.5) < 1e-9
]


def lattice(
    shift, tensor, *, box=3.0, moment=2.0, direction=(0, 0, 1), anisotropy=0.0
) -> SpinHamiltonian:
    """One site, its neighbours' cells and couplings: numbers, or (n, 3, 3), in eV."""
    shift = np.array(shift)
    tensor = np.asarray(tensor, dtype=float)
    if tensor.ndim < 3:
        tensor = np.broadcast_to(tensor, len(shift))[:, None, None] * np.eye(3)
    sites = Sites(
        box=np.array(box) * np.eye(3) if np.ndim(box) == 0 else np.array(box),
        pbc=np.ones(3, dtype=bool),
        coord=np.zeros((1, 3)),
        names=("Fe",),
        moment=np.array([moment]),
        direction=np.array([direction], dtype=float) / np.linalg.norm(direction),
    )
    none = np.zeros(len(shift), dtype=int)
    return SpinHamiltonian(
        sites=sites,
        pairs=Pairs(first=none, second=none, shift=shift),
        tensor=tensor.copy(),
        anisotropy=np.broadcast_to(anisotropy, (1, 3, 3)).copy(),
    )


def dmi(vector) -> np.ndarray:
    """Tensor of D·(e_i x e_j)."""
    x, y, z = vector
    return np.array([[0, z, -y], [-z, 0, x], [y, -x, 0.0]])


def random_crystal(seed=0, n=3) -> SpinHamiltonian:
    """Sites of two types in a skew cell, tensors and anisotropies without symmetry."""
    rng = np.random.default_rng(seed)
    keys = [
        (i, j, *s)
        for i, j in product(range(n), repeat=2)
        for s in product((-1, 0, 1), repeat=3)
        if (i, (0, 0, 0)) != (j, s) and rng.random() < 0.3
    ]
    keys = sorted({*keys, *((j, i, -x, -y, -z) for i, j, x, y, z in keys)})
    place = {key: k for k, key in enumerate(keys)}
    tensor = rng.normal(size=(len(keys), 3, 3)) * 0.01
    for (i, j, x, y, z), k in place.items():
        tensor[place[j, i, -x, -y, -z]] = tensor[k].T
    own = rng.normal(size=(n, 3, 3)) * 0.01
    direction = rng.normal(size=(n, 3))
    keys = np.array(keys)
    return SpinHamiltonian(
        sites=Sites(
            box=np.array([[3.0, 0, 0], [0.5, 3.2, 0], [-0.3, 0.4, 2.9]]),
            pbc=np.ones(3, dtype=bool),
            coord=rng.uniform(0, 3, (n, 3)),
            names=("Fe", *["Ni"] * (n - 1)),
            moment=rng.uniform(1, 3, n),
            direction=direction / np.linalg.norm(direction, axis=1, keepdims=True),
        ),
        pairs=Pairs(first=keys[:, 0], second=keys[:, 1], shift=keys[:, 2:]),
        tensor=tensor,
        anisotropy=own + own.transpose(0, 2, 1),
    )


def random_units(shape, seed=0) -> np.ndarray:
    """Random unit vectors."""
    e = np.random.default_rng(seed).normal(size=(*shape, 3))
    return e / np.linalg.norm(e, axis=-1, keepdims=True)
