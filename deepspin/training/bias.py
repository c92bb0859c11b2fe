# SPDX-License-Identifier: Apache-2.0
"""The energy bias of a model that has other weights already, changed by data."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.fit.ener import energy_per_type
from deepspin.model.ener import SpinEnergyModel

log = logging.getLogger(__name__)

MODES = ("change-by-statistic", "set-by-statistic")


@dataclass(frozen=True)
class BiasChange:
    """How an energy bias was changed.

    Parameters
    ----------
    type_map : list of str
        Names of the types.
    old, new : np.ndarray, shape (ntypes,)
        Energies in eV of an atom of each type, before and after.
    before, after : float
        Root mean square error of the energies per atom, in eV, on what they were found
        from; NaN if they were given.
    nframes : int
        Number of frames that they were found from.
    alike : list of str
        Types that the compositions of these do not tell apart: of all energies that fit
        equally well these are the smallest, or the least changed.
    kept : list of str
        Types of which there is no atom, as they were.
    """

    type_map: list[str]
    old: np.ndarray
    new: np.ndarray
    before: float = math.nan
    after: float = math.nan
    nframes: int = 0
    alike: Sequence[str] = ()
    kept: Sequence[str] = ()

    def tell(self) -> None:
        """Log it, and warn of what the data does not determine."""
        log.info(
            "energy bias in eV: %s",
            ", ".join(
                f"{name} {a:.6g} -> {b:.6g}"
                for name, a, b in zip(self.type_map, self.old, self.new, strict=True)
            ),
        )
        if self.nframes:
            log.info(
                "rmse of the energy per atom of %d frames: %.3e -> %.3e eV",
                self.nframes,
                self.before,
                self.after,
            )
        if self.alike:
            log.warning(
                "the compositions of the data do not tell %s apart: of all changes of "
                "the energy bias that fit as well this is the smallest",
                " and ".join(self.alike),
            )
        if self.kept:
            log.warning(
                "no frame with an energy has an atom of %s: the energy bias stays",
                " or ".join(self.kept),
            )


def demand_energies(data: DataSystem, why: str) -> None:
    """Refuse data that no energy bias can be found from.

    Parameters
    ----------
    data : DataSystem
        The data.
    why : str
        What needs it, for the message.

    Raises
    ------
    DataError
        No system has energies.
    """
    if "energy" not in data.labels:
        paths = ", ".join(f"'{system.path}'" for system in data.systems[:3])
        raise DataError(
            f"{why} changes the energy bias, and no system has energies: {paths}"
            f"{', ...' if len(data.systems) > 3 else ''}. Add energy.npy."
        )


def check_mode(model: SpinEnergyModel, mode: str) -> None:
    """Refuse a way of changing the energy bias that there is not.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    mode : str
        One of `MODES`.

    Raises
    ------
    ValueError
        There is no such mode, or the model finds its bias otherwise.
    """
    if mode not in MODES:
        raise ValueError(f"`mode` is one of {MODES}. Received: {mode!r}")
    if mode == "set-by-statistic" and getattr(model.spin, "baseline", None) is not None:
        raise ValueError(
            "The energy bias of a model with a baseline is found together with that, "
            "so it cannot be set apart from it: change it (change-by-statistic), or "
            "train anew."
        )


def change_bias(
    model: SpinEnergyModel,
    data: DataSystem,
    mode: str = "change-by-statistic",
    *,
    given: Mapping[int, float] | None = None,
    frames: int = 0,
) -> BiasChange:
    r"""Change the energy bias of a model so that it fits data best.

    With :math:`n_{ft}` atoms of type t in frame f, what is added to the bias is

    .. math:: \arg\min_d \sum_f \bigl(E_f - E^\mathrm{model}_f
              - \sum_t n_{ft} d_t\bigr)^2,

    or, set by statistics, the bias is the same of the energies themselves, whatever the
    model says. Where many fit equally well it is the smallest.
    Types of which there is no atom keep theirs.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; its `fitting.bias_atom_e` is changed.
    data : DataSystem
        Frames with energies.
    mode : {"change-by-statistic", "set-by-statistic"}
        What is fitted.
    given : mapping of int to float, optional
        Energies in eV of types that are not to be found; by default those that the
        model was given, of `fitting.vacuum_types`.
    frames : int
        Number of frames with energies of each system, evenly spread; 0 for all.

    Returns
    -------
    BiasChange
        What was changed.

    Raises
    ------
    DataError
        No frame has an energy.
    ValueError
        There is no such mode, or the model finds its bias otherwise.
    """
    check_mode(model, mode)
    demand_energies(data, "This")
    old = np.array(model.fitting.bias_atom_e)
    if given is None:
        given = {t: float(old[t]) for t in model.fitting.vacuum_types}
    label, predicted, counts = _energies(model, data, frames)
    seen = counts.any(axis=0)
    kept = [t for t in np.flatnonzero(~seen) if t not in given]
    free = [t for t in np.flatnonzero(seen) if t not in given]
    if mode == "change-by-statistic":
        fixed = {t: value - old[t] for t, value in given.items()}
        new = old + energy_per_type(label - predicted, counts, _listed(fixed, old))
    else:
        new = energy_per_type(label, counts, _listed(given, old))
    new[kept] = old[kept]
    model.fitting.bias_atom_e.assign(new)
    natoms = counts.sum(axis=1)
    rest = label - predicted
    names = np.array(model.type_map)
    return BiasChange(
        model.type_map,
        old,
        new,
        _rms(rest / natoms),
        _rms((rest - counts @ (new - old)) / natoms),
        nframes=len(label),
        alike=names[_undetermined(counts, free)].tolist(),
        kept=names[kept].tolist(),
    )


def _undetermined(counts: np.ndarray, free: list[int]) -> list[int]:
    """Types that compositions do not tell apart from others."""
    if not free:
        return []
    # of the triangle, so that no matrix has the size of frames times frames
    _, size, axes = np.linalg.svd(np.linalg.qr(counts[:, free], mode="r"))
    rank = int(np.sum(size > 1e-10 * size[0]))
    loose = np.abs(axes[rank:]).max(axis=0, initial=0.0) > 1e-8
    return [t for t, flag in zip(free, loose, strict=True) if flag]


def _listed(given: Mapping[int, float], old: np.ndarray) -> list[float | None]:
    return [given.get(t) for t in range(len(old))]


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def set_bias(model: SpinEnergyModel, values: Sequence[float]) -> BiasChange:
    """Set the energy bias of a model.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    values : sequence of float
        Energies in eV of an atom of each type.

    Raises
    ------
    ValueError
        There are more or fewer than types, or one is no number.
    """
    if len(values) != len(model.type_map) or not np.isfinite(values).all():
        raise ValueError(
            f"The energy bias needs {len(model.type_map)} finite numbers, one for each "
            f"of the types {' '.join(model.type_map)}. Received: {list(values)}"
        )
    old = np.array(model.fitting.bias_atom_e)
    model.fitting.bias_atom_e.assign(values)
    return BiasChange(model.type_map, old, np.array(values, dtype=float))


def _energies(
    model: SpinEnergyModel, data: DataSystem, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, answers of the model, and numbers of atoms of each type, of frames."""
    evaluate = tf.function(
        lambda inputs: model(inputs)["energy"], autograph=False, reduce_retracing=True
    )
    labels, answers, counts = [], [], []
    for inputs, given in _batches(data, frames):
        found = np.asarray(given["find_energy"]) > 0
        if not found.any():
            continue
        own = [np.count_nonzero(mask, axis=1) for mask in inputs["mask"]]
        counts.append(np.stack(own, axis=1)[found])
        labels.append(np.asarray(given["energy"])[found])
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        answers.append(evaluate(inputs).numpy()[found])
    return (
        np.concatenate(labels),
        np.concatenate(answers),
        np.concatenate(counts).astype(float),
    )


def _batches(data: DataSystem, frames: int) -> Iterator[tuple[dict, dict]]:
    """Frames with energies of every system, evenly spread, or all."""
    for k, system in enumerate(data.systems):
        own = np.flatnonzero(system.has("energy"))
        number = min(frames or own.size, own.size)
        chosen = own[np.linspace(0, own.size - 1, number).round().astype(int)]
        size = data.shapes[k].nframes
        for first in range(0, number, size):
            yield data.frames(k, chosen[first : first + size])
