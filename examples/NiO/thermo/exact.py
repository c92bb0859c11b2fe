#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Temperature curves of the exact Hamiltonian behind the example data.

``python exact.py exact.json`` does what ``dp-spin thermo exact.json`` would, with the
formula of `../generate.py` in place of the model; ``-r exact.h5`` goes on. ``python
exact.py --compare`` prints the Néel temperatures of both, and how far apart they are in
temperature where their order is the same, which needs fewer samples.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
from vesin import NeighborList

from deepspin.dynamics.thermo.averages import Curve
from deepspin.dynamics.thermo.options import normalize_thermo
from deepspin.dynamics.thermo.results import analyse
from deepspin.dynamics.thermo.run import run
from deepspin.utils.inputs import load_input

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import generate

# pairs are listed so much (Å) beyond their reach; atoms may move half of that
SKIN = 1.0


class ExactPotential:
    """The Hamiltonian of the example data, called like `deepspin.DeepSpin`."""

    type_map = ("Ni", "O")
    precision = "float64"
    dropped = 0

    def __init__(self):
        self._listed: list[np.ndarray] = []

    def is_magnetic(self, atype):
        """Tell which types have spin."""
        return atype == generate.NICKEL

    def describe(self):
        """What decides about numbers."""
        return {"numpy": np.__version__}

    def eval(self, coord, box, atype, spin, *, pbc=None, fparam=None):
        """Evaluate replicas in one box: coord and spin (nrep, nloc, 3).

        Returns
        -------
        dict of str to np.ndarray
            ``energy`` (nrep,) in eV, ``force`` in eV/Å and ``force_mag`` in eV/μ_B
            (nrep, nloc, 3); ``virial`` is None.
        """
        found = [
            self._evaluate(*replica, box[0], atype)
            for replica in zip(coord, spin, strict=True)
        ]
        energy, force, force_mag = map(np.stack, zip(*found, strict=True))
        return {
            "energy": energy,
            "force": force,
            "force_mag": force_mag,
            "virial": None,
        }

    def _evaluate(self, coord, spin, box, atype):
        """Energy, force and magnetic force of a replica."""
        i, j, shift = self._pairs(coord, box, atype)
        diff = coord[j] - coord[i] + shift
        r = np.sqrt((diff**2).sum(axis=1))
        near = np.flatnonzero(r < generate.LATTICE_END[1])
        i, j, diff, r = i[near], j[near], diff[near], r[near]
        phi, slope = generate.lattice_pair(r, atype[i], atype[j])
        both = np.flatnonzero((atype[i] == generate.NICKEL) & (atype[j] == atype[i]))
        a, b = i[both], j[both]
        norm = generate.SPIN_NORM**2
        coupling, steepness = (x / norm for x in generate.exchange_and_slope(r[both]))
        product = (spin[a] * spin[b]).sum(axis=1)
        slope[both] -= steepness * product
        pull = (slope / r)[:, None] * diff
        magnetic = (atype == generate.NICKEL)[:, None]
        excess = ((spin**2).sum(axis=1, keepdims=True) - generate.MOMENT2) * magnetic
        energy = phi.sum() - (coupling * product).sum()
        force_mag = -4 * generate.LANDAU * excess * spin
        force_mag += sums(a, coupling[:, None] * spin[b], len(coord))
        force_mag += sums(b, coupling[:, None] * spin[a], len(coord))
        force = sums(i, pull, len(coord)) - sums(j, pull, len(coord))
        return energy + generate.LANDAU * (excess**2).sum(), force, force_mag

    def _pairs(self, coord, box, atype):
        """Pairs within reach, and some more, each once: i, j and the shift of j."""
        if self._listed:
            *pairs, places, before = self._listed
            same = before.shape == box.shape and places.shape == coord.shape
            if same and np.array_equal(before, box):
                move = ((coord - places) ** 2).sum(axis=1).max()
                if move < (SKIN / 2) ** 2:
                    return pairs
        reach = generate.LATTICE_END[1] + SKIN
        search = NeighborList(cutoff=reach, full_list=False)
        i, j, image = search.compute(coord, box, True, "ijS")
        i, j = i.astype(int), j.astype(int)
        self._listed = [i, j, image @ box, coord.copy(), box.copy()]
        return self._listed[:3]


def sums(index, vectors, size):
    """Sum of the vectors, (npairs, 3), of each atom: (size, 3)."""
    return np.stack(
        [np.bincount(index, component, size) for component in vectors.T], axis=1
    )


def shift(one: list[Curve], other: list[Curve]) -> tuple[float, float]:
    """Kelvin by which the other is warmer where its order is that of one, and error.

    Mean over sizes and temperatures that both have, weighted by errors. NaN without
    any, or where the two are farther apart than the other's temperatures are, which is
    too far for its slope to tell.
    """
    rows = []
    for a in one:
        for b in other:
            if a.samples.natoms != b.samples.natoms:
                continue
            if len(b.samples.temperature) == 1:
                continue
            slope = np.gradient(b.value["order"], b.samples.temperature)
            reach = np.diff(b.samples.temperature).max()
            for k, temperature in enumerate(a.samples.temperature):
                for m in np.flatnonzero(b.samples.temperature == temperature):
                    apart = a.value["order"][k] - b.value["order"][m]
                    error = np.hypot(a.error["order"][k], b.error["order"][m])
                    if abs(apart / slope[m]) > reach:
                        return np.nan, np.nan
                    rows.append((apart / slope[m], error / abs(slope[m])))
    if not rows:
        return np.nan, np.nan
    kelvin, error = np.transpose(rows)
    weight = error**-2.0
    return float((weight * kelvin).sum() / weight.sum()), float(weight.sum() ** -0.5)


def main(argv: list[str]) -> int:
    """Sample as an input says, or print Néel temperatures of files of samples."""
    if argv[:1] == ["--compare"]:
        paths = argv[1:] or ["model.h5", "exact.h5"]
        found = [analyse(path) for path in paths]
        for path, (_, order) in zip(paths, found, strict=True):
            sys.stdout.write(
                f"{path}: {order.temperature:.1f} +- {order.error:.1f} K, "
                f"{order.source}\n"
            )
        if len(paths) == 2:
            kelvin, error = shift(found[0][0], found[1][0])
            sys.stdout.write(
                f"{paths[0]} has the order that {paths[1]} has {kelvin:+.1f} +- "
                f"{error:.1f} K from there\n"
                if np.isfinite(kelvin)
                else "they are too far apart, or share no temperature and size, to "
                "tell at which temperatures their order is the same\n"
            )
        return 0
    restart = argv[2] if argv[1:2] == ["-r"] else None
    options = normalize_thermo(load_input(argv[0]))
    run(options, ExactPotential(), restart=restart, output="exact.out.json")
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
