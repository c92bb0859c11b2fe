# SPDX-License-Identifier: Apache-2.0
"""Search for the magnetic ground state: many starts, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepspin.dynamics.core.sphere import cross, modulus_of, rotate_by
from deepspin.dynamics.relax.relaxation import Relaxation

KINDS = ("random", "collinear", "spiral")
# collinear and spiral starts are stationary for exchange: they are tilted by so much
TILT = 0.1
# wave vectors have up to so many waves along each lattice vector
WAVES = 2
# shortest wave without lattice vectors, in Å
SHORTEST = 4.0
# states are the same within this energy (eV an atom) and this part of the mean modulus
SAME_ENERGY, SAME_ORDER = 1e-5, 0.03


def starting_spins(
    coord: np.ndarray,
    spin: np.ndarray,
    box: np.ndarray | None,
    number: int,
    seed: int,
    axis: np.ndarray | None = None,
) -> np.ndarray:
    """Spins to start from: those given, then random, collinear and spiral ones in turn.

    All keep the moduli.

    Parameters
    ----------
    coord, spin : np.ndarray, shape (nloc, 3)
        Positions in Å and spins in μ_B.
    box : np.ndarray, shape (3, 3); or None
        Lattice vectors in Å, with which spirals are commensurate.
    number : int
        Number of starts.
    seed : int
        Seed of the random numbers; a start does not depend on how many there are.
    axis : np.ndarray, shape (nloc, 3), optional
        All spins along these axes, with random signs, or signs of a wave.

    Returns
    -------
    np.ndarray, shape (number, nloc, 3)
        Spins in μ_B.
    """
    modulus = np.linalg.norm(spin, axis=1, keepdims=True)
    found = [spin]
    for k in range(1, number):
        random = np.random.default_rng([seed, k])
        kind = KINDS[(k - 1) % len(KINDS)]
        if axis is not None:
            signs = random.choice([-1.0, 1.0], size=modulus.shape)
            if kind == "spiral":
                phase = _phases(coord, box, random)[:, None]
                signs = np.where(np.cos(phase) < 0, -1.0, 1.0)
            found.append(modulus * signs * axis)
        else:
            found.append(modulus * _directions(kind, coord, box, random))
    return np.stack(found)


def _directions(
    kind: str, coord: np.ndarray, box: np.ndarray | None, random: np.random.Generator
) -> np.ndarray:
    """Unit vectors (nloc, 3)."""
    free = random.normal(size=coord.shape)
    if kind == "random":
        return free / modulus_of(free)
    first, second = _units(random.normal(size=3), random.normal(size=3))
    if kind == "collinear":
        result = random.choice([-1.0, 1.0], size=(len(coord), 1)) * first
    else:
        phase = _phases(coord, box, random)[:, None]
        result = np.cos(phase) * first + np.sin(phase) * second
    return rotate_by(result, TILT * free)


def _units(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles."""
    first = one / modulus_of(one)
    second = cross(first, two)
    return first, second / modulus_of(second)


def _phases(
    coord: np.ndarray, box: np.ndarray | None, random: np.random.Generator
) -> np.ndarray:
    """Phases (nloc,) of a plane wave."""
    if box is None:
        wave = random.normal(size=3)
        wave *= random.uniform(0, 1) / SHORTEST / np.linalg.norm(wave)
    else:  # rows without a lattice vector have no wave
        waves = random.integers(-WAVES, WAVES + 1, size=3)
        wave = np.linalg.pinv(box) @ waves
    return 2 * np.pi * (coord @ wave + random.uniform())


def distinct(end: Relaxation, atype: np.ndarray) -> list[list[int]]:
    """Sort relaxed replicas into states.

    Two are the same state if their enthalpies agree, and so do magnetisation and order
    of each type, whatever their directions in space. Equal states at other atoms, as
    after a translation, count as the same.

    Parameters
    ----------
    end : Relaxation
        Relaxed replicas; those that did not converge are left out.
    atype : np.ndarray of int, shape (nloc,)
        Types.

    Returns
    -------
    list of list of int
        Replicas in each state, states and replicas by their enthalpies.
    """
    order = orders(end.spin, atype)
    scale = np.linalg.norm(end.spin, axis=2).max() or 1.0
    states: list[list[int]] = []
    for k in np.argsort(end.enthalpy, kind="stable"):
        if not end.converged[k]:
            continue
        for state in states:
            apart = (end.enthalpy[k] - end.enthalpy[state[0]]) / len(atype)
            differs = np.abs(order[k] - order[state[0]]).max(initial=0.0) / scale
            if apart < SAME_ENERGY and differs < SAME_ORDER:
                state.append(int(k))
                break
        else:
            states.append([int(k)])
    return states


def orders(spin: np.ndarray, atype: Sequence[int] | np.ndarray) -> np.ndarray:
    """Numbers that rotations of all spins do not change, (nrep, n), in μ_B.

    Of each type with spins the modulus of the mean spin, and roots of the eigenvalues
    of the mean of S Sᵀ: one of them is not 0 for collinear, two for coplanar spins.
    """
    found = [np.zeros((len(spin), 0))]
    for kind in np.unique(np.asarray(atype)[spin.any(axis=(0, 2))]):
        own = spin[:, np.asarray(atype) == kind]
        found.append(np.linalg.norm(own.mean(axis=1), axis=1)[:, None])
        tensor = np.einsum("nia,nib->nab", own, own) / own.shape[1]
        found.append(np.sqrt(np.maximum(np.linalg.eigvalsh(tensor), 0.0)))
    return np.hstack(found)
