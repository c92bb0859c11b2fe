# SPDX-License-Identifier: Apache-2.0
r"""How far a bilinear Hamiltonian holds: spins turned by any angle, and what is left.

Random states of a supercell, of a few or all spins turned at fixed moduli, are
evaluated by the model. Their energies and transverse fields are compared with those of
the Hamiltonian H of `deepspin.analysis.exchange`, and what it leaves is fitted, shell
by shell, with

.. math::

    E - H = - \sum_{i<j} \Delta J\, e_i \cdot e_j - \sum_{i<j} B\, (e_i \cdot e_j)^2
        - \sum_i \sum_{j<k} Y\, (e_i \cdot e_j)(e_i \cdot e_k)

with the biquadratic B and, of neighbours j and k in one shell of i, the four-spin
interaction on three sites Y. Half of the states is fitted, the other half is what the
errors are those of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.analysis.hamiltonian import Shell, SpinHamiltonian
from deepspin.atoms.structures import Structure
from deepspin.atoms.waves import repeated

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# terms of the fits, each with those before it
TERMS = ("bilinear", "biquadratic", "three-site")
# shells that are fitted: the strongest
MOST_SHELLS = 6
# a shell is fitted if its J times its number is at least this part of the largest
WEAK = 1e-3
# the narrowest width of the supercell in Å
WIDTH = 8.0
# spins that are turned together in a state, 0 for all
TURNED = (1, 2, 4, 0)


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """What a Hamiltonian leaves of energies and fields.

    Parameters
    ----------
    states : int
        Number of states the errors are those of.
    turned : np.ndarray, shape (nstates,)
        Spins that are turned in each.
    energy, field : dict of str to float
        Root mean squares of what is left, of energies in eV per turned spin and of
        components of the transverse field in eV: ``labels`` (of the states themselves),
        ``derivatives`` (of `exchange`), and of the fits with the `TERMS`.
    shells : list of Shell
        The shells that were fitted.
    terms : dict of str to np.ndarray, shape (nshells,)
        J, B and Y of the last fit, in eV.
    """

    states: int
    turned: np.ndarray
    energy: dict[str, float]
    field: dict[str, float]
    shells: list[Shell]
    terms: dict[str, np.ndarray]


def beyond(
    potential: DeepSpin,
    structure: Structure,
    hamiltonian: SpinHamiltonian,
    states: int = 80,
    seed: int = 0,
    fparam: Sequence[float] | None = None,
) -> Beyond:
    """Compare a Hamiltonian with its model, and fit what is beyond it.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    structure : Structure
        The cell of the Hamiltonian, with all its atoms.
    hamiltonian : SpinHamiltonian
        See `deepspin.analysis.exchange.exchange`.
    states : int
        Number of states, half of which is fitted.
    seed : int
        Of the random numbers.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.
    """
    large, whole = _supercell(structure, hamiltonian)
    magnetic = np.flatnonzero(potential.is_magnetic(large.atype))
    e, turned = _random_states(whole.sites.direction, states, seed)
    spin = np.zeros((len(e), large.nloc, 3))
    moment = whole.sites.moment[:, None]
    spin[:, magnetic] = e * moment
    found = potential.eval(
        np.broadcast_to(large.coord, spin.shape),
        None if large.box is None else np.broadcast_to(large.box, (len(e), 3, 3)),
        large.atype,
        spin,
        pbc=large.pbc,
        fparam=fparam,
    )
    energy = found["energy"] - found["energy"][0]
    field = across_spins(found["force_mag"][:, magnetic] * moment, e)
    shells = _strongest(hamiltonian.shells())
    features = [
        _features(whole, hamiltonian, shell, e) for shell in shells
    ]  # of each: (energies, fields) of the three terms
    return _compared(energy, field, turned, whole, e, shells, features)


def _supercell(
    structure: Structure, hamiltonian: SpinHamiltonian
) -> tuple[Structure, SpinHamiltonian]:
    """Repeat the cell until it is wide enough; sites in the order of the atoms."""
    if structure.box is None:
        return structure, hamiltonian
    width = 1 / np.linalg.norm(np.linalg.inv(structure.box), axis=0)
    times = np.where(structure.pbc, np.ceil(WIDTH / width), 1).astype(int).tolist()
    return repeated(structure, times)[0], hamiltonian.repeated(times)


def _random_states(
    direction: np.ndarray, states: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The state itself, then others: (states + 1, n, 3), and how many are turned."""
    rng = np.random.default_rng(seed)
    e = np.tile(direction, (states + 1, 1, 1))
    turned = np.ones(states + 1)
    for k in range(1, states + 1):
        number = TURNED[k % len(TURNED)] or len(direction)
        which = rng.permutation(len(direction))[:number]
        angle = rng.uniform(0, np.pi, len(which))
        e[k, which] = _turn(direction[which], rng.normal(size=(len(which), 3)), angle)
        turned[k] = len(which)
    return e, turned


def _turn(e: np.ndarray, towards: np.ndarray, angle: np.ndarray) -> np.ndarray:
    side = across_spins(towards, e)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return np.cos(angle)[:, None] * e + np.sin(angle)[:, None] * side


def across_spins(vectors: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Parts of vectors across unit vectors."""
    return vectors - (vectors * e).sum(axis=-1, keepdims=True) * e


def _strongest(shells: list[Shell]) -> list[Shell]:
    weight = np.array([abs(s.exchange) * s.number for s in shells])
    order = np.argsort(-weight)[:MOST_SHELLS]
    return [shells[k] for k in sorted(order) if weight[k] >= WEAK * weight.max()]


def _features(
    whole: SpinHamiltonian, cell: SpinHamiltonian, shell: Shell, e: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Energies (3, nf) and transverse fields (3, nf, n, 3) of unit J, B and Y."""
    copies = len(whole.pairs) // len(cell.pairs)
    member = np.zeros(len(cell.pairs), dtype=bool)
    member[shell.members] = True
    if shell.names[0] != shell.names[1]:
        member[cell.pairs.reverse()[shell.members]] = True
    pairs = whole.pairs.take(np.tile(member, copies))
    first, second = e[:, pairs.first], e[:, pairs.second]
    dot = (first * second).sum(axis=2, keepdims=True)  # (nf, np, 1)

    def gathered(values: np.ndarray) -> np.ndarray:
        result = np.zeros((e.shape[1], len(e), 3))
        np.add.at(result, pairs.first, values.transpose(1, 0, 2))
        return result.transpose(1, 0, 2)

    near = gathered(second)  # U_i
    square = gathered(2 * dot * second)
    # sum over j < k of (e.u_j)(e.u_k) = ((e.U)² - sum_j (e.u_j)²) / 2
    along = (e * near).sum(axis=2, keepdims=True)
    own = along * near - square / 2
    # and as a neighbour: j of each centre i gets (e_i.U_i - e_i.e_j) e_i
    other = gathered((along[:, pairs.second] - dot) * second)
    squares = (dot[..., 0] ** 2).sum(axis=1)
    energies = np.stack(
        [
            -dot.sum(axis=(1, 2)) / 2,
            -squares / 2,
            -((along[..., 0] ** 2).sum(axis=1) - squares) / 2,
        ]
    )
    fields = np.stack([across_spins(f, e) for f in (near, square, own + other)])
    return energies, fields


def _compared(
    energy: np.ndarray,
    field: np.ndarray,
    turned: np.ndarray,
    whole: SpinHamiltonian,
    e: np.ndarray,
    shells: list[Shell],
    features: list[tuple[np.ndarray, np.ndarray]],
) -> Beyond:
    """Fit the first half of the states, and compare the second."""
    half = 1 + (len(e) - 1) // 2
    energies = np.stack([f[0] - f[0][:, :1] for f in features], axis=1)
    fields = np.stack([f[1] for f in features], axis=1)  # (3, nshells, nf, n, 3)
    fitted, tested = slice(1, half), slice(half, None)
    own = np.array([whole.energy(x) for x in e])
    push = np.stack([across_spins(whole.field(x), x) for x in e])
    own = own - own[0]
    guesses = {
        "labels": (np.zeros_like(energy), np.zeros_like(field)),
        "derivatives": (own, push),
    }
    values = _row(energy - own, field - push, turned, fitted, energy, field)
    for k, name in enumerate(TERMS, 1):
        design = [
            _row(*pair, turned, fitted, energy, field)
            for pair in zip(
                energies[:k].reshape(-1, *energy.shape),
                fields[:k].reshape(-1, *field.shape),
                strict=True,
            )
        ]
        numbers = np.linalg.lstsq(np.stack(design, axis=1), values, rcond=1e-10)[0]
        numbers = numbers.reshape(k, -1)
        guesses[name] = (
            own + np.einsum("ks,ksf->f", numbers, energies[:k]),
            push + np.einsum("ks,ksfia->fia", numbers, fields[:k]),
        )
    numbers[0] += [shell.exchange for shell in shells]
    return Beyond(
        states=len(e) - half,
        turned=turned[tested],
        energy={
            name: _rms(((energy - guess[0]) / turned)[tested])
            for name, guess in guesses.items()
        },
        field={
            name: _rms((field - guess[1])[tested]) for name, guess in guesses.items()
        },
        shells=shells,
        terms=dict(zip(("J", "B", "Y"), numbers, strict=True)),
    )


def _row(
    energy: np.ndarray,
    field: np.ndarray,
    turned: np.ndarray,
    which: slice,
    all_energies: np.ndarray,
    all_fields: np.ndarray,
) -> np.ndarray:
    """Energies per turned spin and fields of some states, of equal weight."""
    parts = []
    for values, spread in (
        (energy / turned, (all_energies / turned)[1:].std()),
        (field, all_fields.std()),
    ):
        some = values[which].ravel()
        parts.append(some / max(spread * len(some) ** 0.5, 1e-300))
    return np.concatenate(parts)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
