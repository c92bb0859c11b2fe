# SPDX-License-Identifier: Apache-2.0
"""Errors of a model on labelled data, as DeePMD-kit lists them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.frames import System
from deepspin.infer import rotation
from deepspin.infer.systems import alike, atoms_of, evaluate, load_for
from deepspin.pictures.plots import Parity
from deepspin.spins.types import ZERO_SPIN
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# by the suffix of their detail files: label and output of the model, whether divided by
# the number of real atoms, how errors are printed, and named in `Accuracy.errors`
LINES = {
    "e": ("energy", False, "Energy {}", "eV", "e"),
    "e_peratom": ("energy", True, "Energy {}/Natoms", "eV", "ea"),
    "fr": ("force", False, "Force atom {}", "eV/Å", "fr"),
    "fm": ("force_mag", False, "Force spin {}", "eV/uB", "fm"),
    "v": ("virial", False, "Virial {}", "eV", "v"),
    "v_peratom": ("virial", True, "Virial {}/Natoms", "eV", "va"),
    "ae": ("atom_ener", False, "Atomic ener {}", "eV", "ae"),
}
# what is made of another line's arrays, and printed after it, without a detail file:
# magnetic forces along the spin, one number, and across it, three components
PARTS = {
    "fm_along": ("F-spin along {}", "eV/uB", "fm_along"),
    "fm_across": ("F-spin across {}", "eV/uB", "fm_across"),
}
DRAWN = ("e_peratom", "fr", "fm", "v_peratom", "ae")
# frames evaluated in one call
BATCH = 8
# components in a row, where they are not three
WIDTHS = {"energy": 1, "atom_ener": 1, "virial": 9}

# labels and predictions by suffix, rows of components
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Parameters
    ----------
    numb_test : int
        Frames of each system, 0 for all.
    shuffle_test : bool
        Choose and order the frames at random.
    rand_seed : int, optional
        Seed of that.
    atomic : bool
        Compare atom energies too.
    spin_rotation : int
        Turn all spins of each frame by so many random rotations, and reverse them.
    """

    numb_test: int = 0
    shuffle_test: bool = False
    rand_seed: int | None = None
    atomic: bool = False
    spin_rotation: int = 0

    def __post_init__(self) -> None:
        if self.numb_test < 0:
            raise InputError(
                f"-n must be 0 (all) or more frames. Received: {self.numb_test}"
            )
        if self.rand_seed is not None and self.rand_seed < 0:
            raise InputError(f"-r must be 0 or more. Received: {self.rand_seed}")
        if self.spin_rotation < 0:
            raise InputError(
                "--spin-rotation must be 0 (none) or more rotations. Received: "
                f"{self.spin_rotation}"
            )


@dataclass(frozen=True)
class Accuracy:
    """What came of a comparison.

    Parameters
    ----------
    paths : list of str
        The systems.
    of_each : list of dict
        Labels and predictions of each.
    pairs : dict
        Those of all together.
    turned : dict of str to float
        What turning the spins does, see `deepspin.infer.rotation.tell`; empty if they
        are not turned.
    """

    paths: list[str]
    of_each: list[Pairs]
    pairs: Pairs
    turned: dict[str, float]

    @property
    def errors(self) -> dict[str, float]:
        """Errors of all systems together, by name, and what is in `turned`."""
        return {
            f"{kind}_{(LINES.get(suffix) or PARTS[suffix])[-1]}": value
            for suffix, kinds in _errors(self.pairs).items()
            for kind, value in kinds.items()
        } | self.turned

    @property
    def panels(self) -> list[Parity]:
        """What a picture shows of them."""
        return [Parity(s, *self.pairs[s]) for s in DRAWN if s in self.pairs]


def load_labelled(
    potential: DeepSpin, paths: Sequence[str], atomic: bool
) -> list[System]:
    """Read systems as a model does; refuse those with nothing to compare.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    paths : sequence of str
        The systems.
    atomic : bool
        Whether atom energies count.

    Raises
    ------
    DataError
        A system has no label, or none has atom energies that are asked for.
    """
    systems = load_for([potential], paths)
    for data in systems:
        if not any(name in data.labels for name in _arrays(atomic)):
            raise DataError(
                f"'{data.path}' has no label to test: no energy, force, force_mag or "
                "virial."
            )
    if atomic:
        without = [data.path for data in systems if "atom_ener" not in data.labels]
        if len(without) == len(systems):
            raise DataError(
                "-a compares atom energies, but no system has atom_ener.npy. Leave -a "
                "out."
            )
        for path in without:
            log.warning("'%s' has no atom_ener.npy: -a leaves it out", path)
    return systems


# --- Comparing ------------------------------------------------------------------------


def compare(
    potential: DeepSpin, systems: Sequence[System], what: Comparison
) -> Accuracy:
    """Evaluate systems, and print what DeePMD-kit prints of each and of all.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    systems : sequence of System
        Systems of `load_labelled`.
    what : Comparison
        What to compare.

    Raises
    ------
    DataError
        There is nothing to compare.
    """
    random = np.random.default_rng(what.rand_seed)
    turns = np.random.default_rng(what.rand_seed or 0)
    of_each, changes = [], []
    for data in systems:
        chosen: np.ndarray = np.arange(data.nframes)
        if what.shuffle_test:
            chosen = random.permutation(chosen)
        chosen = chosen[: what.numb_test or None]
        of_each.append(_compare_system(potential, data, chosen, what.atomic))
        if what.spin_rotation:
            given = potential, data, chosen, what.spin_rotation
            changes.append(rotation.energy_changes(*given, turns))
            rotation.tell(changes[-1:])
    pairs = _merge(of_each)
    if not pairs:
        raise DataError(
            "Nothing to compare: no label of an atom with spin, nor any other, in "
            "these frames."
        )
    _print_total(_errors(pairs), len(systems))
    turned = rotation.tell(changes) if changes else {}
    return Accuracy([data.path for data in systems], of_each, pairs, turned)


def _compare_system(
    potential: DeepSpin, data: System, chosen: np.ndarray, atomic: bool
) -> Pairs:
    log.info("# ---------------output of dp-spin test--------------- ")
    log.info("# testing system : %s", data.path)
    pairs = _evaluate(potential, data, chosen, atomic)
    log.info("# number of test data : %d ", len(chosen))
    for name in _arrays(atomic):
        number = np.count_nonzero(data.has(name)[chosen])
        if 0 < number < len(chosen):
            log.info("# of which have %s : %d ", name, number)
    _print(_errors(pairs))
    log.info("# ----------------------------------------------- ")
    return pairs


def _arrays(atomic: bool) -> list[str]:
    names = dict.fromkeys(array for array, *_ in LINES.values())
    return [name for name in names if atomic or name != "atom_ener"]


def _evaluate(
    potential: DeepSpin, data: System, chosen: np.ndarray, atomic: bool
) -> Pairs:
    """Labels and predictions of some frames of a system, as far as these have any."""
    names = [n for n in _arrays(atomic) if n in data.labels]
    found: dict[str, list] = {n: [None] * len(chosen) for n in names}
    spins: list = [None] * len(chosen)
    for places in alike(data, chosen, BATCH):
        frames = chosen[places]
        here = atoms_of(data, frames[0])
        magnetic = potential.is_magnetic(data.atype[frames[0], here])
        said = evaluate(potential, data, frames)
        for name, rows in found.items():
            label, pred = data.labels[name][frames], said[name]
            if name in ("force", "force_mag", "atom_ener"):
                label = label[:, here]
            if name == "force_mag":
                label, pred = label[:, magnetic], pred[:, magnetic]
                for place, spin in zip(places, data.spin[frames][:, here], strict=True):
                    spins[place] = spin[magnetic]
            shape = -1, WIDTHS.get(name, 3)
            for place, *pair in zip(places, label, pred, strict=True):
                rows[place] = [values.reshape(shape) for values in pair]
    natoms = (data.atype[chosen] >= 0).sum(axis=1)[:, None]
    pairs = {}
    for suffix, (array, per_atom, *_) in LINES.items():
        there = np.flatnonzero(data.has(array)[chosen])
        if array in found and there.size:
            rows = [found[array][k] for k in there]
            label, pred = map(np.concatenate, zip(*rows, strict=True))
            if per_atom:
                label, pred = label / natoms[there], pred / natoms[there]
            if label.size:
                pairs[suffix] = label, pred
            if suffix == "fm" and label.size:
                own = np.concatenate([spins[k] for k in there])
                pairs |= _parts(own, label, pred)
    return pairs


def _parts(spin: np.ndarray, label: np.ndarray, pred: np.ndarray) -> Pairs:
    """Magnetic forces (n, 3) along the spin and across it; spins of 0 have neither."""
    modulus = np.linalg.norm(spin, axis=1)
    own = modulus > ZERO_SPIN
    unit = spin[own] / modulus[own, None]
    along = [(x[own] * unit).sum(axis=1, keepdims=True) for x in (label, pred)]
    rows = zip((label, pred), along, strict=True)
    across = [x[own] - part * unit for x, part in rows]
    return {
        name: (parts[0], parts[1])
        for name, parts in (("fm_along", along), ("fm_across", across))
        if len(unit)
    }


def _merge(total: Sequence[Pairs]) -> Pairs:
    """All systems together, each component counting once."""
    found = {suffix for pairs in total for suffix in pairs}
    return {
        suffix: tuple(
            np.concatenate([pairs[suffix][k] for pairs in total if suffix in pairs])
            for k in (0, 1)
        )
        for suffix in (*LINES, *PARTS)
        if suffix in found
    }


def _errors(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Mean absolute and root-mean-square errors."""
    return {
        suffix: {
            "mae": float(np.mean(np.abs(pred - label))),
            "rmse": float(np.sqrt(np.mean((pred - label) ** 2))),
        }
        for suffix, (label, pred) in pairs.items()
    }


def _print(errors: dict[str, dict[str, float]]) -> None:
    for suffix in LINES:
        for own in (suffix, *(part for part in PARTS if part.startswith(f"{suffix}_"))):
            text, unit, _ = PARTS[own] if own in PARTS else LINES[own][2:]
            for kind, value in errors.get(own, {}).items():
                log.info("%-20s: %e %s", text.format(kind.upper()), value, unit)


def _print_total(errors: dict[str, dict[str, float]], nsystems: int) -> None:
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", nsystems)
    log.info("# per atom means per real atom")
    _print(errors)
    log.info("# ----------------------------------------------- ")
