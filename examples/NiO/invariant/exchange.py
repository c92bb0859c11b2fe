#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exchange of a model on the perfect lattice, beside the formula of the example data.

``python exchange.py MODEL`` takes second derivatives of the energy as spins turn in an
antiferromagnetic cell of 512 atoms at the lattice constant of `../data/exchange.json`.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np

import deepspin

FORMULA = Path(__file__).resolve().parents[1] / "data" / "exchange.json"
CELLS, STEP = 4, 1e-3  # conventional cells in each direction; μ_B


def lattice(constant: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and types (Ni 0, O 1), and cell, of rock salt."""
    basis = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    cells = np.array(list(itertools.product(range(CELLS), repeat=3)))
    nickel = (cells[:, None] + np.array(basis) / 2).reshape(-1, 3)
    oxygen = nickel + np.array([0.5, 0, 0])
    atype = np.repeat([0, 1], len(nickel))
    return (
        np.concatenate([nickel, oxygen]) * constant,
        atype,
        CELLS * constant * np.eye(3),
    )


def main(model: str) -> None:
    """Print J of each shell in meV, of the model and of the formula."""
    known = json.loads(FORMULA.read_text(encoding="utf-8"))
    modulus, constant = known["parameters"]["S0"], known["lattice_constant"]
    coord, atype, box = lattice(constant)
    planes = np.rint(coord[atype == 0].sum(axis=1) / (constant / 2)).astype(int)
    spin = np.zeros_like(coord)
    spin[atype == 0] = np.outer(1 - planes % 4, np.array([1, 1, -2]) / 6**0.5) * modulus
    moved = []
    for axis, sign in itertools.product(range(3), (1, -1)):
        one = spin.copy()
        one[0, axis] += sign * STEP
        moved.append(one)
    count = len(moved)
    field = deepspin.DeepSpin(model).eval(
        np.tile(coord, (count, 1, 1)),
        np.tile(box, (count, 1, 1)),
        atype,
        np.stack(moved),
    )["force_mag"]
    slope = np.stack([field[2 * a] - field[2 * a + 1] for a in range(3)]) / (2 * STEP)
    across = np.eye(3) - np.outer(spin[0], spin[0]) / modulus**2  # to the spins' axis
    exchange = np.einsum("ajb,ab->j", slope, across) / 2 * modulus**2 * 1000
    apart = coord - coord[0]
    apart -= np.rint(apart / np.diag(box)) * np.diag(box)
    distance = np.linalg.norm(apart, axis=1)
    for shell in known["shells"]:
        here = (atype == 0) & (np.abs(distance - shell["r"]) < 0.01)
        place, found = (
            f"J_{shell['shell']} at {shell['r']:.3f} Å",
            exchange[here].mean(),
        )
        sys.stdout.write(
            f"{place}: {found:9.4f} meV, formula {1000 * shell['J']:9.4f} meV\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
