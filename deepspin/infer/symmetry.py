# SPDX-License-Identifier: Apache-2.0
"""What symmetries a model breaks, and which of them data have.

Without a field and without spin-orbit coupling the energy is the same when all spins
are reversed, when all spins turn and the lattice stays, when both turn together, and
when the lattice is inverted and the spins (axial vectors) stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.augmentation import random_rotations
from deepspin.data.dataset import DataSystem
from deepspin.data.frames import System
from deepspin.infer.systems import atoms_of
from deepspin.model.closed_form import BaselineOptions
from deepspin.model.ener import build_model
from deepspin.spins.schemes import Scheme

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# random rotations of each frame
ROTATIONS = 5
# smoothing of the baseline that compares energies with magnetic forces begins here (Å)
SMOOTH = 2.0
# moduli of a type that differ by less, relatively, tell nothing of energies
VARIED = 0.03

_Frame = tuple[np.ndarray, np.ndarray | None, np.ndarray]  # coord, box, spin
_Turn = Callable[[np.ndarray, _Frame], _Frame]


def _turned(rotation: np.ndarray, frame: _Frame, lattice: bool, spins: bool) -> _Frame:
    coord, box, spin = frame
    if lattice:
        coord, box = coord @ rotation.T, None if box is None else box @ rotation.T
    return coord, box, spin @ rotation.T if spins else spin


# what is done to a frame, with a random rotation where it takes one
CHANGES: dict[str, tuple[int, _Turn]] = {
    "time reversal": (1, lambda _, f: (f[0], f[1], -f[2])),
    "rotation of the spins": (ROTATIONS, lambda q, f: _turned(q, f, False, True)),
    "rotation of both": (
        ROTATIONS,
        lambda q, f: _turned(q, f, True, True),
    ),
    "inversion of the lattice": (
        1,
        lambda _, f: (-f[0], None if f[1] is None else -f[1], f[2]),
    ),
}


def violations(
    potential: DeepSpin, systems: Sequence[System], seed: int = 0
) -> dict[str, dict[str, float]]:
    """How much a model's energies change by what should leave them.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    systems : sequence of System
        Frames to try.
    seed : int
        Of the rotations.

    Returns
    -------
    dict
        For each of `CHANGES` ``rms`` and ``largest`` change in meV/atom.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in CHANGES}
    for data in systems:
        for k in range(data.nframes):
            atoms = atoms_of(data, k)
            box = data.box[k] if data.pbc else None
            frame = data.coord[k, atoms], box, data.spin[k, atoms]
            variants, names = [frame], [""]
            for name, (count, change) in CHANGES.items():
                for rotation in random_rotations(count, random):
                    variants.append(change(rotation, frame))
                    names.append(name)
            energy = potential.eval(
                np.stack([v[0] for v in variants]),
                None if box is None else np.array([v[1] for v in variants]),
                data.atype[k, atoms],
                np.stack([v[2] for v in variants]),
                fparam=data.fparam[k] if data.fparam.size else None,
            )["energy"]
            change = 1000.0 * (energy - energy[0]) / len(atoms)
            for name in CHANGES:
                found[name].append(change[np.array(names) == name])
    return {
        name: {
            "rms": float(np.sqrt(np.mean(np.concatenate(values) ** 2))),
            "largest": float(np.abs(np.concatenate(values)).max()),
        }
        for name, values in found.items()
    }


@dataclass(frozen=True)
class Agreement:
    """Whether energies and magnetic forces of data agree.

    Parameters
    ----------
    across, along : float
        What magnetic forces have to be taken times, so that energies change as they
        say: when spins turn at fixed modulus, and when moduli change; NaN where these
        hardly do.
    error_as_given, error_across : float
        What is left of the energies in eV/atom with the magnetic forces across the
        spins as they are, and taken times the first factor.
    spread : float
        Of the energies in eV/atom.
    """

    across: float
    along: float
    error_as_given: float
    error_across: float
    spread: float


def agreement(
    systems: Sequence[str], type_map: Sequence[str], scheme: Scheme, rcut: float
) -> Agreement | None:
    """Compare energies with magnetic forces, by a linear invariant model of both.

    Parameters
    ----------
    systems : sequence of str
        Paths of the data.
    type_map : sequence of str
        Names of the types.
    scheme : Scheme
        Which types carry a spin, and how the data are read.
    rcut : float
        Cutoff of the linear model in Å.

    Returns
    -------
    Agreement or None
        None where there are no energies, or no magnetic forces.
    """
    model = build_model(
        {
            "type_map": list(type_map),
            "spin": {"type": "invariant", "use_spin": list(scheme.types.use_spin)},
            "descriptor": {
                "type": "se_e2_a",
                "sel": [10**6] * len(type_map),
                "rcut": rcut,
                "rcut_smth": min(SMOOTH, rcut / 2),
                "neuron": [1],
                "axis_neuron": 1,
                "precision": "default",
                "seed": 1,
            },
            "fitting_net": {
                "type": "ener",
                "neuron": [1],
                "precision": "default",
                "trainable": False,
                "seed": 1,
            },
        }
    )
    options = BaselineOptions()
    data = DataSystem(
        list(systems), type_map, scheme, rcut, batch_size=1, allow_zero_spin=True
    )
    if not {"energy", "force_mag"} <= set(data.labels):
        return None
    sample = model.spin.gather(
        _of_atoms(data.spread(options.nframes), len(type_map)), model.descriptor
    )

    def fit(factor: float | None, along: float, across: float) -> tuple[float, float]:
        own = replace(
            options, weight_e=1.0, weight_fm_along=along, weight_fm_across=across
        )
        found = sample.fit(own, {}, factor)
        return found.solution.factor, found.errors["energy"]

    given = fit(1.0, 0.0, 1.0)[1]
    factor, error = fit(None, 0.0, 1.0)
    ranges = [
        1.0 - sample.shortest[t] / sample.longest[t]
        for t in scheme.types.spin_types
        if sample.longest[t] > 0
    ]
    along = fit(None, 1.0, 0.0)[0] if max(ranges, default=0) > VARIED else math.nan
    spread = sample.fit(options, {}, 1.0).spreads["energy"]
    return Agreement(factor, along, given, error, spread)


def _of_atoms(
    batches: Iterable[tuple[dict, dict]], ntypes: int
) -> Iterator[tuple[dict, dict]]:
    """Batches with the lists of atoms alone, whatever else the scheme sees."""
    for inputs, labels in batches:
        own = {name: inputs[name][:ntypes] for name in ("nlist", "shift")}
        yield {**inputs, **own}, labels
