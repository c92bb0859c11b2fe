# SPDX-License-Identifier: Apache-2.0
r"""Exchange of a model about a magnetic state, from exact second derivatives.

About a state :math:`\{S_i\}` the model's energy turns with the spins as that of the
bilinear Hamiltonian of `deepspin.analysis.hamiltonian` with

.. math::

    \Pi_i J_{ij} \Pi_j = - |S_i| |S_j|\, \Pi_i
        \frac{\partial^2 E}{\partial S_i \partial S_j} \Pi_j,
    \qquad \Pi = 1 - e e^T

where J is what infinitesimal rotations see, as in the method of Liechtenstein et al.
[1]_: biquadratic and higher terms are in it, as they act in this state. A collinear
state along z knows the components x and y of J; three states whose spins are turned
together, so that the axis lies along each of three directions, know all of them; what
is not known is taken for 0. A model that does not change as all spins turn has J times
the unit matrix.

With the moduli relaxed, what a rotation does to them is followed:
:math:`K_{tt} - K_{tl} K_{ll}^{-1} K_{lt}` for rotations t and moduli l; in collinear
states of a model that is even in the spins it is the same.

References
----------
.. [1] A. I. Liechtenstein, M. I. Katsnelson, V. P. Antropov and V. A. Gubanov, Journal
   of Magnetism and Magnetic Materials 67, 65 (1987),
   https://doi.org/10.1016/0304-8853(87)90721-9
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.analysis.clusters import Derivatives
from deepspin.analysis.hamiltonian import (
    Curvature,
    Exchange,
    Pairs,
    Sites,
    SpinHamiltonian,
    across,
    fourier_of,
)
from deepspin.atoms.structures import Structure
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# couplings that are all smaller than this (eV) are left out: a model's are exactly 0
SMALLEST = 1e-12
# of the singular values of a least-squares problem, below which it knows nothing
UNKNOWN = 1e-6
# cells in each direction to which moduli that follow carry couplings, at least
LEAST_REACH = 3


def exchange(
    potential: DeepSpin,
    structure: Structure,
    *,
    orientations: int | None = None,
    relax_moduli: bool = False,
    fparam: Sequence[float] | None = None,
) -> Exchange:
    """Take the exchange of a model about a state.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    structure : Structure
        Atoms with spins, a magnetic cell: no supercell is needed, whatever the cutoff.
    orientations : int, optional
        1 or 3 states, of which the second and third have all spins turned by 90°; one
        for models that do not change as all spins turn, else three.
    relax_moduli : bool
        Whether moduli follow the rotations; they are fixed otherwise.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.

    Returns
    -------
    Exchange
        Couplings of all pairs within twice the cutoff.

    Raises
    ------
    InputError
        There are no magnetic atoms, or moduli are not stable.
    ValueError
        As `DeepSpin.eval` does.
    """
    structure = structure.with_spins(potential.is_magnetic(structure.atype))
    spin = structure.spin
    magnetic = np.flatnonzero(potential.is_magnetic(structure.atype))
    if not len(magnetic) or spin is None:
        raise InputError(
            "The structure has no atoms with spin, so there is no exchange. The model "
            f"has spins on {', '.join(_magnetic_names(potential))}."
        )
    isotropic = turns_freely(potential)
    states = []
    for turn in turns_of(potential, spin[magnetic], orientations):
        state = potential, structure, spin @ turn.T, magnetic
        states.append(_state(*state, fparam, relax_moduli))
    pairs = states[0].curvature.pairs
    tensor = tensors([state.curvature for state in states], isotropic)
    anisotropy = (
        np.zeros((len(magnetic), 3, 3)) if isotropic else _anisotropy(states, tensor)
    )
    first = states[0]
    return replace(
        first,
        hamiltonian=SpinHamiltonian(
            sites=first.curvature.sites,
            pairs=pairs,
            tensor=tensor,
            anisotropy=anisotropy,
        ),
    )


def turns_freely(potential: DeepSpin) -> bool:
    """Whether the model's energy is the same when all spins turn together."""
    return "spin_rotation" in potential.model.spin.scheme.symmetries


def _magnetic_names(potential: DeepSpin) -> list[str]:
    types = np.arange(len(potential.type_map))
    which = potential.is_magnetic(types)
    return [potential.type_map[t] for t in types[which]]


def turns_of(
    potential: DeepSpin, spin: np.ndarray, orientations: int | None
) -> list[np.ndarray]:
    """Rotations of all spins in which a model is asked, the first none.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    spin : np.ndarray, shape (n, 3)
        Spins other than 0.
    orientations : int, optional
        See `exchange`.

    Raises
    ------
    InputError
        `orientations` is neither 1 nor 3.
    """
    default = 1 if turns_freely(potential) else 3
    number = default if orientations is None else orientations
    if number not in (1, 3):
        raise InputError(f"`orientations` must be 1 or 3. Received: {number}")
    return _turns(spin)[:number]


def _turns(spin: np.ndarray) -> list[np.ndarray]:
    """Rotations that turn the spins' main axis into those across it."""
    unit = spin / np.linalg.norm(spin, axis=1, keepdims=True)
    main = np.linalg.eigh(unit.T @ unit)[1][:, -1]
    one, two = across(main[None])[0]
    cross = [np.cross(np.eye(3), -axis) for axis in (two, one)]
    # by 90° about each: R v = axis (axis.v) + axis x v
    quarter = [
        np.outer(axis, axis) + matrix
        for axis, matrix in zip((two, one), cross, strict=True)
    ]
    return [np.eye(3), *quarter]


# --- One state ------------------------------------------------------------------------


def _state(
    potential: DeepSpin,
    structure: Structure,
    spin: np.ndarray,
    magnetic: np.ndarray,
    fparam: Sequence[float] | None,
    relax_moduli: bool,
) -> Exchange:
    """Second derivatives about one state; its Hamiltonian is not there yet."""
    moment = np.linalg.norm(spin[magnetic], axis=1)
    force_mag = potential.eval(
        structure.coord,
        structure.box,
        structure.atype,
        spin,
        pbc=structure.pbc,
        fparam=fparam,
    )["force_mag"][0, magnetic]
    direction = spin[magnetic] / moment[:, None]
    sites = Sites(
        box=structure.box,
        pbc=structure.pbc,
        coord=structure.coord[magnetic],
        names=tuple(structure.names[t] for t in structure.atype[magnetic]),
        moment=moment,
        direction=direction,
    )
    pairs, block, own = _second(
        Derivatives(potential, structure, fparam), magnetic, spin
    )
    along = (force_mag * direction).sum(axis=1)
    field = force_mag * moment[:, None]
    scale = moment[pairs.first] * moment[pairs.second]
    curvature = Curvature(
        sites=sites,
        pairs=pairs,
        block=block * scale[:, None, None],
        onsite=own * moment[:, None, None] ** 2
        + (along * moment)[:, None, None] * np.eye(3),
        torque=field - (field * direction).sum(axis=1)[:, None] * direction,
    )
    if relax_moduli:
        curvature = _followed(curvature, along * moment)
    empty = SpinHamiltonian(
        sites=sites,
        pairs=pairs,
        tensor=-curvature.block,
        anisotropy=np.zeros((sites.n, 3, 3)),
    )
    return Exchange(hamiltonian=empty, curvature=curvature, modulus_force=along)


def _second(
    derivatives: Derivatives, magnetic: np.ndarray, spin: np.ndarray
) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Pairs, their second derivatives (npairs, 3, 3), and those of each site."""
    number = {atom: k for k, atom in enumerate(magnetic.tolist())}
    first, second, shift, block, own = [], [], [], [], []
    for k, atom in enumerate(magnetic):
        near, values = derivatives.of(atom, spin)
        own.append((values[0] + values[0].T) / 2)
        used = np.abs(values).max(axis=(1, 2)) > 0
        used[0] = False
        first.append(np.full(used.sum(), k))
        second.append([number[a] for a in near.atom[used].tolist()])
        shift.append(near.shift[used])
        block.append(values[used])
    pairs = Pairs(
        first=np.concatenate(first),
        second=np.concatenate(second).astype(int),
        shift=np.concatenate(shift),
    )
    return *_both_ways(pairs, np.concatenate(block)), np.array(own)


def _both_ways(pairs: Pairs, block: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Leave out what is 0 to rounding, and make both directions of pairs the same."""
    keys = np.column_stack([pairs.first, pairs.second, pairs.shift]).tolist()
    where = {tuple(key): k for k, key in enumerate(keys)}
    partner = np.array(
        [where.get((j, i, -x, -y, -z), -1) for i, j, x, y, z in keys], dtype=int
    )
    # a pair at the very end of the range may have been seen from one side only
    other = np.where((partner >= 0)[:, None, None], block[partner], 0.0)
    block = (block + other.transpose(0, 2, 1)) / 2
    used = (partner >= 0) & (np.abs(block).max(axis=(1, 2)) > SMALLEST)
    return pairs.take(used), block[used]


# --- Moduli that follow ---------------------------------------------------------------


def _followed(curvature: Curvature, along: np.ndarray) -> Curvature:
    """Let moduli follow the rotations, wave by wave.

    `along` is the field along each spin in eV, which the second derivative in its
    modulus does not have.
    """
    sites, pairs = curvature.sites, curvature.pairs
    reach = np.abs(pairs.shift).max(axis=0, initial=0)
    # odd, so that each pair has its other direction
    mesh = np.where(sites.pbc, 2 * np.maximum(reach, LEAST_REACH) + 1, 1)
    grid = np.stack(np.meshgrid(*map(np.arange, mesh), indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 3) / mesh
    frame = np.concatenate(
        [across(sites.direction), sites.direction[:, None]], axis=1
    )  # (n, 3, 3)
    own = np.einsum("ixa,iab,iyb->ixy", frame, curvature.onsite, frame)
    own[:, 2, 2] -= along
    whole = fourier_of(curvature, frame, own, grid)
    stiff, mixed = whole[:, :, 2, :, 2], whole[:, :, 2, :, :2]
    lowest = np.linalg.eigvalsh(stiff).min()
    if lowest <= 0:
        raise InputError(
            "Moduli of the spins have no minimum in this state, so they cannot follow "
            f"(second derivative {lowest:.3g} eV). Take them as fixed."
        )
    mixed = mixed.reshape(len(grid), sites.n, -1)
    change = -mixed.conj().transpose(0, 2, 1) @ np.linalg.solve(stiff, mixed)
    change = change.reshape(len(grid), sites.n, 2, sites.n, 2)
    return _back(curvature, change, grid, mesh, frame[:, :2])


def _back(
    curvature: Curvature,
    change: np.ndarray,
    grid: np.ndarray,
    mesh: np.ndarray,
    frame: np.ndarray,
) -> Curvature:
    """Add a change of K(q) on a mesh to the blocks of all pairs of the mesh."""
    sites, pairs = curvature.sites, curvature.pairs
    ranges = [np.arange(m) - m // 2 for m in mesh]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    phase = np.exp(-2j * np.pi * shifts @ grid.T) / len(grid)
    real = np.einsum("sq,qixjy->sixjy", phase, change).real
    cartesian = np.einsum("ixa,sixjy,jyb->sijab", frame, real, frame)
    blocks = {
        (i, j, *s): b
        for i, j, s, b in zip(
            pairs.first.tolist(),
            pairs.second.tolist(),
            pairs.shift.tolist(),
            curvature.block,
            strict=True,
        )
    }
    onsite = curvature.onsite.copy()
    for s, shift in enumerate(shifts.tolist()):
        for i in range(sites.n):
            for j in range(sites.n):
                if i == j and not any(shift):
                    onsite[i] += cartesian[s, i, i]
                elif np.abs(cartesian[s, i, j]).max() > SMALLEST:
                    key = (i, j, *shift)
                    blocks[key] = blocks.get(key, 0.0) + cartesian[s, i, j]
    keys = np.array(list(blocks), dtype=int).reshape(-1, 5)
    added = Pairs(first=keys[:, 0], second=keys[:, 1], shift=keys[:, 2:])
    pairs, block = _both_ways(added, np.array(list(blocks.values())).reshape(-1, 3, 3))
    return replace(curvature, pairs=pairs, block=block, onsite=onsite)


# --- Tensors of several states --------------------------------------------------------


def tensors(states: Sequence[Curvature], isotropic: bool) -> np.ndarray:
    """J_ij (npairs, 3, 3) of the first state's pairs: the least that agrees with all.

    Parameters
    ----------
    states : sequence of Curvature
        Second derivatives, spins turned as by `turns_of`.
    isotropic : bool
        Whether J is all there is.
    """
    pairs = states[0].pairs
    keys = [tuple(key) for key in _keys(pairs).tolist()]
    rows, values = [], []
    for state in states:
        here = _keys(state.pairs).tolist()
        place = {tuple(key): n for n, key in enumerate(here)}
        missing = len(state.block)
        order = [place.get(key, missing) for key in keys]
        block = np.concatenate([state.block, np.zeros((1, 3, 3))])[order]
        frame = across(state.sites.direction)
        one, two = frame[pairs.first], frame[pairs.second]
        rows.append(np.einsum("pxa,pyb->pxyab", one, two).reshape(-1, 4, 9))
        values.append(-np.einsum("pxa,pab,pyb->pxy", one, block, two).reshape(-1, 4))
    design, seen = np.concatenate(rows, axis=1), np.concatenate(values, axis=1)
    trace = design @ np.eye(3).ravel()
    j = (trace * seen).sum(axis=1) / (trace**2).sum(axis=1)
    tensor = j[:, None, None] * np.eye(3)
    if isotropic:
        return tensor
    basis = np.concatenate([_antisymmetric(), _traceless()])  # (8, 3, 3)
    rest = seen - j[:, None] * trace
    solution = _least(design @ basis.reshape(8, 9).T, rest)
    return tensor + np.einsum("pk,kab->pab", solution, basis)


def _keys(pairs: Pairs) -> np.ndarray:
    return np.column_stack([pairs.first, pairs.second, pairs.shift])


def _least(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares solutions of least norm, (n, nunknown)."""
    inverse = np.linalg.pinv(design, rcond=UNKNOWN)
    return np.einsum("nkr,nr->nk", inverse, values)


def _anisotropy(states: Sequence[Exchange], tensor: np.ndarray) -> np.ndarray:
    """Traceless A_i (n, 3, 3) that agrees with rotations and torques of all states."""
    pairs = states[0].curvature.pairs
    basis = _traceless()
    rows, values = [], []
    for state in states:
        curvature = state.curvature
        e = curvature.sites.direction
        frame = across(e)
        known = SpinHamiltonian(
            sites=curvature.sites,
            pairs=pairs,
            tensor=tensor,
            anisotropy=np.zeros((len(e), 3, 3)),
        ).curvature()
        own = curvature.onsite - known.onsite
        torque = curvature.torque - known.torque
        along = np.einsum("ia,kab,ib->ik", e, basis, e)
        plane = np.einsum("ixa,kab,iyb->ixyk", frame, basis, frame)
        plane -= np.eye(2)[:, :, None] * along[:, None, None]
        rows.append(2 * plane.reshape(len(e), 4, 5))
        values.append(np.einsum("ixa,iab,iyb->ixy", frame, own, frame).reshape(-1, 4))
        rows.append(-2 * np.einsum("ixa,kab,ib->ixk", frame, basis, e))
        values.append(np.einsum("ixa,ia->ix", frame, torque))
    solution = _least(np.concatenate(rows, axis=1), np.concatenate(values, axis=1))
    return np.einsum("ik,kab->iab", solution, basis)


def _antisymmetric() -> np.ndarray:
    """Matrices of e_i x e_j along x, y and z, (3, 3, 3)."""
    return np.cross(np.eye(3)[:, None], -np.eye(3))


def _traceless() -> np.ndarray:
    """Five symmetric traceless matrices, (5, 3, 3), of norm 1."""
    x, y, z = np.eye(3)
    pairs = [(x, y), (y, z), (z, x)]
    off = [(np.outer(a, b) + np.outer(b, a)) / 2**0.5 for a, b in pairs]
    one = (np.outer(x, x) - np.outer(y, y)) / 2**0.5
    two = (2 * np.outer(z, z) - np.outer(x, x) - np.outer(y, y)) / 6**0.5
    return np.stack([*off, one, two])


# --- Several models or structures -----------------------------------------------------


def mean(samples: Sequence[Exchange]) -> Exchange:
    """Average couplings of several models, or of several structures of the same atoms.

    Sites are the mean ones; a pair that a sample lacks counts as 0 there.
    """
    if len(samples) == 1:
        return samples[0]
    sites = _mean_sites([s.hamiltonian.sites for s in samples])
    pairs, tensor = _mean_blocks(
        [(s.hamiltonian.pairs, s.hamiltonian.tensor) for s in samples]
    )
    curved, block = _mean_blocks(
        [(s.curvature.pairs, s.curvature.block) for s in samples]
    )
    return Exchange(
        hamiltonian=SpinHamiltonian(
            sites=sites,
            pairs=pairs,
            tensor=tensor,
            anisotropy=np.mean([s.hamiltonian.anisotropy for s in samples], axis=0),
        ),
        curvature=Curvature(
            sites=sites,
            pairs=curved,
            block=block,
            onsite=np.mean([s.curvature.onsite for s in samples], axis=0),
            torque=np.mean([s.curvature.torque for s in samples], axis=0),
        ),
        modulus_force=np.mean([s.modulus_force for s in samples], axis=0),
    )


def _mean_sites(sites: Sequence[Sites]) -> Sites:
    direction = np.mean([s.direction for s in sites], axis=0)
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    boxes = [s.box for s in sites if s.box is not None]
    return replace(
        sites[0],
        box=np.mean(boxes, axis=0) if boxes else None,
        coord=np.mean([s.coord for s in sites], axis=0),
        moment=np.mean([s.moment for s in sites], axis=0),
        direction=np.where(
            length > 0, direction / np.maximum(length, 1e-300), sites[0].direction
        ),
    )


def _mean_blocks(
    samples: Sequence[tuple[Pairs, np.ndarray]],
) -> tuple[Pairs, np.ndarray]:
    keys = np.concatenate([_keys(pairs) for pairs, _ in samples])
    unique, place = np.unique(keys, axis=0, return_inverse=True)
    block = np.zeros((len(unique), 3, 3))
    np.add.at(block, place.ravel(), np.concatenate([block for _, block in samples]))
    pairs = Pairs(first=unique[:, 0], second=unique[:, 1], shift=unique[:, 2:])
    return pairs, block / len(samples)
