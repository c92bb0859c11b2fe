# SPDX-License-Identifier: Apache-2.0
"""The closed form before a training: what is gathered from data, and what is found.

Of an invariant model; its layer makes the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.fit.least_squares import Rows, Solution
from deepspin.model.pairs import all_slots
from deepspin.spins.types import ZERO_SPIN

# one frame in so many chooses the ridge
HELD_OUT = 5
# rows of the fit: of force_mag those along the spin and across it apart
# and the options that weigh them
ROWS = {
    "energy": "weight_e",
    "force": "weight_fr",
    "along": "weight_fm_along",
    "across": "weight_fm_across",
    "virial": "weight_v",
}
# how errors of them are named, and their units
WORDS = {
    "energy": ("energy per atom", "eV"),
    "force": ("force", "eV/Å"),
    "along": ("force_mag along", "eV/μ_B"),
    "across": ("force_mag across", "eV/μ_B"),
    "virial": ("virial per atom", "eV"),
}
# a length in Å, by which the forces left say what energies the net has to give
STRIDE = 0.2


@dataclass(frozen=True)
class BaselineOptions:
    """What an input says of the baseline, see `deepspin.utils.argcheck`."""

    nradial: int = 14
    ncross: int = 6
    nframes: int = 500
    ridge: float | None = None
    weight_e: float = 0.1
    weight_fr: float = 1.0
    weight_fm_along: float = 0.3
    weight_fm_across: float = 3.0
    weight_v: float = 0.3
    trainable: bool = False


@dataclass
class BaselineReport:
    """What the closed form found.

    Parameters
    ----------
    solution : Solution
        The numbers, constants of the types first.
    spreads, errors : dict
        Root mean square of each label (energies per atom and less the constants of the
        types), and what the baseline leaves of it; in eV, Å and μ_B.
    counts : dict
        Number of rows of each label.
    nframes : int
        Number of frames.
    alike : list of (int, float)
        Types whose spins are all of one length, and that length in μ_B: how energies
        change with it is not determined.
    unseen : list of int
        Types of which there is no atom.
    """

    solution: Solution
    spreads: dict[str, float]
    errors: dict[str, float]
    counts: dict[str, int]
    nframes: int
    alike: list[tuple[int, float]]
    unseen: list[int]


class Sample:
    """What a closed form needs of data, frame by frame; the frames are not kept.

    Parameters
    ----------
    ntypes : int
        Number of types.
    penalty : np.ndarray
        Of each number of the baseline, see `Rows`.
    dim : int
        Number of scalars of a centre.
    """

    def __init__(self, ntypes: int, penalty: np.ndarray, dim: int):
        self.ntypes, self.nframes, self.natoms = ntypes, 0, 0
        self.rows = Rows(ntypes + len(penalty), ntypes, penalty)
        self.nearest = np.full((ntypes, ntypes), np.inf)  # Å
        self.shortest = np.full(ntypes, np.inf)  # |spin| in μ_B
        self.longest = np.zeros(ntypes)
        self._count = np.zeros(ntypes)
        self._mean, self._square = np.zeros((ntypes, dim)), np.zeros((ntypes, dim))
        self._there, self._spin = np.zeros((0, 0), dtype=bool), np.zeros((0, 0, 3))

    def see(
        self,
        natoms: Sequence[int],
        there: np.ndarray,
        spin: tf.Tensor,
        scalars: tf.Tensor,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
    ) -> None:
        """Look at a batch: its distances, moduli, and scalars.

        Parameters
        ----------
        natoms : sequence of int, length ntypes
            Number of slots of each type.
        there : np.ndarray of bool, shape (nf, nloc)
            Which hold an atom.
        spin : np.ndarray, shape (nf, nloc, 3)
            Spins in μ_B, 0 on types without.
        scalars : np.ndarray, shape (nf, nloc, dim)
            Descriptors.
        diff, filled : sequence
            Separations in Å by type of neighbour, and which slots are filled.
        """
        types = np.repeat(np.arange(self.ntypes), natoms)
        spin, scalars = np.asarray(spin), np.asarray(scalars)
        self._there, self._spin = there, spin
        for b, (d, m) in enumerate(zip(diff, filled, strict=True)):
            r = np.where(m, np.linalg.norm(d, axis=-1), np.inf)
            np.minimum.at(self.nearest[:, b], types, r.min(axis=(0, 2), initial=np.inf))
        self.nearest = np.minimum(self.nearest, self.nearest.T)
        modulus = np.linalg.norm(spin, axis=-1)
        for t in range(self.ntypes):
            own = modulus[:, types == t][there[:, types == t]]
            self.longest[t] = max(self.longest[t], own.max(initial=0.0))
            self.shortest[t] = min(self.shortest[t], own.min(initial=np.inf))
            rows = scalars[:, types == t][there[:, types == t]]
            self._take(t, rows)

    def _take(self, t: int, rows: np.ndarray) -> None:
        """Join scalars (n, dim) of a type to their mean and spread."""
        if not len(rows):
            return
        total, mean = self._count[t] + len(rows), rows.mean(axis=0)
        apart = mean - self._mean[t]
        self._square[t] += ((rows - mean) ** 2).sum(axis=0)
        self._square[t] += apart**2 * self._count[t] * len(rows) / total
        self._mean[t] += apart * len(rows) / total
        self._count[t] = total

    def add(
        self,
        counts: np.ndarray,
        rows: Mapping[str, tf.Tensor],
        labels: Mapping[str, Any],
    ) -> None:
        """Take the rows of the batch that was seen, and its labels.

        Parameters
        ----------
        counts : np.ndarray, shape (nf, ntypes)
            Number of atoms of each type: what their constants count.
        rows : mapping
            See `Baseline.rows`; empty without a baseline.
        labels : mapping
            The batch's.
        """
        nf, nloc = self._there.shape
        leading = {"energy": (nf,), "virial": (nf, 9)}
        made = {}
        for name in ("energy", "force", "force_mag", "virial"):
            shape = (*leading.get(name, (nf, nloc, 3)), self.ntypes)
            constant = counts if name == "energy" else np.zeros(shape)
            parts = [constant, *([rows[name]] if rows else [])]
            made[name] = np.concatenate(parts, axis=-1)
        for f in np.flatnonzero(self._there.any(axis=1)):
            held_out = self.nframes % HELD_OUT == HELD_OUT - 1
            for row in labelled(made, labels, f, self._there[f], self._spin[f]):
                self.rows.add(*row, held_out=held_out)
            self.nframes += 1
            self.natoms += int(self._there[f].sum())

    @property
    def mean(self) -> np.ndarray:
        """Mean of each scalar, (ntypes, dim)."""
        return self._mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each scalar, (ntypes, dim)."""
        return np.sqrt(self._square / np.maximum(self._count, 1)[:, None])

    def energy_scale(self, report: BaselineReport) -> np.ndarray:
        """Energies in eV that nets have to give to an atom of each type."""
        left = report.errors
        energy = left.get("energy", 0.0) * (self.natoms / max(self.nframes, 1)) ** 0.5
        scale = max(STRIDE * left.get("force", 0.0), energy) or 1.0
        return np.full(self.ntypes, scale)

    def fit(
        self,
        options: BaselineOptions,
        given: Mapping[int, float],
        factor: float | None,
    ) -> BaselineReport:
        """Find the numbers.

        Parameters
        ----------
        options : BaselineOptions
            Ridge and weights.
        given : mapping
            Energies in eV of types that are given.
        factor : float or None
            What the labels of ``force_mag`` are taken times; None finds it.
        """
        whole = self.rows.all
        spreads = _spreads(whole, self.ntypes, given)
        weights = {
            name: getattr(options, ROWS[name]) / unit
            for name in whole
            if (unit := _unit(name, spreads)) > 0
        }
        scaled = ("along", "across")
        found = self.rows.fit(weights, scaled, factor, given, options.ridge)
        errors = {
            name: one.rmse(found.numbers, found.factor if name in scaled else 1.0)
            for name, one in whole.items()
        }
        alike = [
            (t, float(self.longest[t]))
            for t in range(self.ntypes)
            if ZERO_SPIN < self.longest[t] <= self.shortest[t] + ZERO_SPIN
        ]
        counts = {name: one.count for name, one in whole.items()}
        unseen = np.flatnonzero(self._count == 0).tolist()
        return BaselineReport(
            found, spreads, errors, counts, self.nframes, alike, unseen
        )


def frame_by_frame(
    batches: Iterable[tuple[dict, dict]],
) -> Iterator[tuple[dict, dict]]:
    """Frames of batches one by one, those that hold no atoms left out."""
    for inputs, labels in batches:
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        for f in np.flatnonzero(all_slots(inputs).numpy().any(axis=1)):
            yield tf.nest.map_structure(lambda x, f=f: x[f : f + 1], (inputs, labels))


def _evaluation(model: keras.Model) -> Any:
    """The model as one function of the graph, made once."""
    if getattr(model, "_evaluation", None) is None:
        model._evaluation = tf.function(
            lambda x: model(x), autograph=False, reduce_retracing=True
        )
    return model._evaluation


def label_errors(
    model: keras.Model, batches: Iterable[tuple[dict, dict]]
) -> dict[str, float]:
    """Root mean square errors of a model by the names of `ROWS`.

    Those of ``across`` over the three components of what is across the spin.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    batches : iterable of (inputs, labels)
        What it is compared with.
    """
    sums: dict[str, np.ndarray] = {}
    evaluate = _evaluation(model)
    for inputs, labels in batches:
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        made = evaluate(inputs)
        values = {
            name: np.asarray(made[name])[..., None]
            for name in ("energy", "force", "force_mag")
        }
        values["virial"] = np.reshape(made["virial"], [-1, 9, 1])
        there = all_slots(inputs).numpy() > 0
        spin = np.asarray(made["mask_mag"][..., None] * inputs["spin"])
        for f in np.flatnonzero(there.any(axis=1)):
            for name, row, label in labelled(values, labels, f, there[f], spin[f]):
                rest = row[..., 0] - label
                part = np.array([np.sum(rest * rest), rest.size])
                sums[name] = sums.get(name, 0.0) + part
    return {name: float(np.sqrt(s / n)) for name, (s, n) in sums.items() if n}


def labelled(
    made: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    f: int,
    here: np.ndarray,
    spin: np.ndarray,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Rows of a frame and their labels: (name, rows, labels)."""
    width = made["energy"].shape[-1]

    def has(name: str) -> bool:
        return name in labels and bool(np.asarray(labels[f"find_{name}"])[f] > 0)

    natoms = here.sum()
    if has("energy"):
        label = np.asarray(labels["energy"])[f : f + 1]
        yield "energy", made["energy"][f : f + 1] / natoms, label / natoms
    if has("force"):
        yield "force", made["force"][f][here], np.asarray(labels["force"])[f][here]
    if has("force_mag"):
        rows, label = made["force_mag"][f], np.asarray(labels["force_mag"])[f]
        modulus = np.linalg.norm(spin, axis=-1)
        own = here & (modulus > ZERO_SPIN)
        along = spin[own] / modulus[own][:, None]
        rows, label = rows[own], label[own]
        on_rows = np.einsum("ix,ixn->in", along, rows)
        on_label = np.einsum("ix,ix->i", along, label)
        yield "along", on_rows, on_label
        # what is left, in three components, so that no axes need be chosen
        across = rows - along[:, :, None] * on_rows[:, None]
        rest = label - along * on_label[:, None]
        yield "across", across.reshape(-1, width), rest.ravel()
    if has("virial"):
        rows = made["virial"][f] / natoms
        yield "virial", rows, np.asarray(labels["virial"])[f].ravel() / natoms


def _unit(name: str, spreads: Mapping[str, float]) -> float:
    """What rows of a label are divided by: magnetic forces alike, along and across.

    Along the spin they are large and nearly constant; what turns spins is across.
    """
    return (name == "along" and spreads.get("across")) or spreads[name]


def _spreads(
    rows: Mapping[str, Any], ntypes: int, given: Mapping[int, float]
) -> dict[str, float]:
    """Root mean square of each label, of energies what constants of types leave."""
    result = {}
    for name, one in rows.items():
        numbers = np.zeros(one.width)
        if name == "energy":
            matrix = one.matrix
            free = [t for t in range(ntypes) if t not in given]
            right = matrix[:, -1].copy()
            for t, value in given.items():
                numbers[t] = value
                right -= value * matrix[:, t]
            numbers[free] = np.linalg.lstsq(matrix[:, free], right, rcond=1e-12)[0]
        result[name] = one.rmse(numbers)
    return result
