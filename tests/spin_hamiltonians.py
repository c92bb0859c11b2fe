# SPDX-License-Identifier: Apache-2.0
"""Spin Hamiltonians by hand, with every part that there can be."""

from __future__ import annotations

import numpy as np

from deepspin.analysis.hamiltonian import Pairs, Sites, SpinHamiltonian

SKEW = np.array([[3.1, 0.2, 0.1], [0.4, 3.6, -0.2], [-0.3, 0.5, 4.2]])
LINKS = [
    (0, 1, (0, 0, 0)),
    (0, 1, (1, 0, 0)),
    (0, 1, (-2, 1, 0)),
    (0, 0, (1, 0, 0)),
    (0, 0, (0, 1, -1)),
    (1, 1, (0, 0, 1)),
    (1, 1, (2, 0, 1)),
]


def units(rng, *shape):
    """Random unit vectors (*shape, 3)."""
    e = rng.normal(size=(*shape, 3))
    return e / np.linalg.norm(e, axis=-1, keepdims=True)


def hamiltonian(
    *, seed=1, dmi=True, symmetric=True, onsite="biaxial", links=LINKS, **sites
):
    """Two sublattices, not within the cell, with random couplings in eV."""
    rng = np.random.default_rng(seed)
    keys, tensors = [], []
    for i, j, cell in links:
        t = rng.normal(size=(3, 3)) * 1e-2
        odd, even = (t - t.T) / 2, (t + t.T) / 2
        tensor = rng.normal() * 1e-2 * np.eye(3) + odd * dmi + even * symmetric
        keys += [(i, j, *cell), (j, i, *np.negative(cell))]
        tensors += [tensor, tensor.T]
    keys = np.array(keys)
    anisotropy = np.zeros((2, 3, 3))
    if onsite == "biaxial":
        a = rng.normal(size=(2, 3, 3)) * 1e-3
        anisotropy = (a + a.transpose(0, 2, 1)) / 2
    elif onsite == "uniaxial":
        u = units(rng, 2)
        anisotropy = np.array([-1e-3, 2e-3])[:, None, None] * u[:, :, None] * u[:, None]
    anisotropy -= np.trace(anisotropy, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    known = {
        "box": SKEW,
        "pbc": np.array([True, True, True]),
        "coord": np.array([[-0.2, 0.1, 0.3], [4.9, 1.2, -1.7]]),
        "names": ("Ni", "Mn"),
        "moment": np.array([1.7, 3.9]),
        "direction": units(rng, 2),
    }
    return SpinHamiltonian(
        sites=Sites(**{**known, **sites}),
        pairs=Pairs(first=keys[:, 0], second=keys[:, 1], shift=keys[:, 2:]),
        tensor=np.array(tensors),
        anisotropy=anisotropy,
    )
