# SPDX-License-Identifier: Apache-2.0
"""Compressed models: tables in place of the embedding nets, as exact as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import environment_matrix
from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.descriptor.table import Table, tabulate
from deepspin.model.ener import SpinEnergyModel
from deepspin.op.potential import ORDER
from deepspin.spins.schemes import demand

# tolerance of the tables to begin with, in that of the forces
FIRST = 100.0
# and where no data tells what it does to the forces
UNMEASURED = 0.1
# so many rounds of tightening that do not lower the error so much have come to rounding
NO_BETTER, PATIENCE = 0.7, 3
# no table's tolerance means anything below
ROUNDING = 1e-17
# distance (Å) of what no data has
UNSEEN = 1.0
COMPARED = {"force": "mask", "force_mag": "mask_mag"}


@dataclass(frozen=True)
class Options:
    """How to tabulate.

    Parameters
    ----------
    tol : float
        Largest error of forces and magnetic forces, relative to their rms.
    extrapolate : float
        Tables go on to so many times the largest 1/r of the data.
    step : float, optional
        Widest piece, in s (1/Å).
    check_frequency : int
        See `DescrptSeA`.
    """

    tol: float
    extrapolate: float = 5.0
    step: float | None = None
    check_frequency: int = 1


def compress(
    model: SpinEnergyModel,
    nearest: np.ndarray,
    options: Options,
    batches: Sequence[dict] = (),
) -> tuple[SpinEnergyModel, dict]:
    """Replace the embedding nets of a model by tables.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; it stays as it is.
    nearest : np.ndarray, shape (ntypes, len(sel))
        Nearest distance in Å of each type of neighbour from each type of centre,
        infinite where there is none.
    options : Options
        How.
    batches : sequence of dict
        Inputs of the model, on which the error is measured. Without them it is
        bounded by the errors of the tables.

    Returns
    -------
    compressed : SpinEnergyModel
        The same with tables.
    report : dict
        ``table_error``, largest error of the embedding and of its slope, relative to
        their largest values; with `batches`, ``error``: see `differences`.

    Raises
    ------
    ValueError
        It is compressed already, an embedding net is not smooth, or the tolerance is
        out of reach.
    NotImplementedError
        Its spin scheme has no embedding nets to tabulate.
    """
    demand(model.spin.scheme, "compress")
    if model.compressed:
        raise ValueError(
            "The model is compressed already: its embedding nets are tables. Compress "
            "the model that it was made of."
        )
    tolerance = options.tol * (FIRST if batches else UNMEASURED)
    best, idle = np.inf, 0
    wanted = [_numbers(model(inputs)) for inputs in batches]
    tables: list[Table] = []
    while True:
        before = tables
        try:
            tables = _tables(model.descriptor, nearest, options, tolerance)
        except ValueError:
            if best < np.inf:
                raise _out_of_reach(options.tol, best) from None
            raise
        if _same(before, tables):  # pieces come in whole numbers
            if tolerance < ROUNDING:
                raise _out_of_reach(options.tol, best)
            tolerance *= 0.5
            continue
        compressed = _with_tables(model, tables, options.check_frequency)
        report = {"table_error": max(t.error for t in tables)}
        if not batches:
            return compressed, report
        error = _differences(wanted, compressed, batches)
        worst = max(error[name]["max"] for name in COMPARED)
        if worst <= options.tol:
            return compressed, {**report, "error": error}
        idle = 0 if worst < NO_BETTER * best else idle + 1
        best = min(worst, best)
        if idle == PATIENCE:
            raise _out_of_reach(options.tol, best)
        tolerance *= min(0.5, 0.5 * options.tol / worst)


def _same(one: Sequence[Table], other: Sequence[Table]) -> bool:
    """Whether two sets of tables have the same pieces."""
    return len(one) == len(other) and all(
        np.array_equal(a.edges, b.edges) for a, b in zip(one, other, strict=True)
    )


def _out_of_reach(tol: float, best: float) -> ValueError:
    return ValueError(
        f"A tolerance of {tol:.1g} is out of reach of rounding: forces of the "
        f"compressed model differ by {best:.1g} of their rms at best. Give a larger "
        f"--tol, such as {10.0 ** np.ceil(np.log10(best)):.0e}."
    )


def _tables(
    descriptor: DescrptSeA, nearest: np.ndarray, options: Options, tolerance: float
) -> list[Table]:
    """Table of each embedding net."""
    davg, dstd = (np.asarray(w)[:, 0] for w in (descriptor.davg, descriptor.dstd))
    s = _largest_s(descriptor, nearest)
    depth, nblocks = len(descriptor.neuron), len(descriptor.sel)
    tables = []
    for k in range(descriptor.nnets):
        t, e = divmod(k, nblocks)
        types = range(descriptor.ntypes) if descriptor.type_one_side else [t]
        types = [t for t in types if not descriptor.excludes(t, e)]
        if not types or descriptor.sel[e] == 0:
            tables.append(_unused(descriptor))
            continue
        mean, std = davg[types], dstd[types]
        seen, end = (
            ((x * s[types, e] - mean) / std).max() for x in (1, options.extrapolate)
        )
        widest = np.inf if options.step is None else options.step / std.max()
        layers = descriptor.nets[k * depth : (k + 1) * depth]
        begin = (-mean / std).min()
        tables.append(tabulate(layers, begin, seen, end, tolerance, widest))
    return tables


def _largest_s(descriptor: DescrptSeA, nearest: np.ndarray) -> np.ndarray:
    """Value s (1/Å) of each pair's nearest; without one, of other pairs' nearest."""
    seen = np.where(nearest < descriptor.rcut, nearest, np.inf)
    least = min(seen.min(), UNSEEN)
    of_block = np.broadcast_to(seen.min(axis=0), seen.shape)
    r = np.where(np.isfinite(of_block), of_block, least)
    r = np.where(np.isfinite(seen), seen, r)
    along_x = tf.constant(r[..., None] * [1.0, 0.0, 0.0])
    radial, _ = environment_matrix(
        along_x,
        tf.ones(r.shape, tf.bool),
        descriptor.rcut,
        descriptor.rcut_smth,
        descriptor.env_protection,
    )
    return np.asarray(radial)


def _unused(descriptor: DescrptSeA) -> Table:
    """Table of a net that nothing asks for."""
    shape = (1, ORDER[descriptor.compute_dtype], descriptor.neuron[-1])
    return Table(np.array([[0.0, 1.0]]), np.zeros(shape), 0.0)


def _with_tables(
    model: SpinEnergyModel, tables: Sequence[Table], check_frequency: int
) -> SpinEnergyModel:
    """Copy a model, tables instead of embedding nets."""
    config = model.get_config()
    config["descriptor"]["config"] |= {
        "leaves": [len(table.edges) for table in tables],
        "check_frequency": check_frequency,
    }
    result = SpinEnergyModel.from_config(config)
    result.descriptor.davg.assign(model.descriptor.davg)
    result.descriptor.dstd.assign(model.descriptor.dstd)
    for a, b in zip(model.fitting.weights, result.fitting.weights, strict=True):
        b.assign(a)
    for table, layer in zip(tables, result.descriptor.tables, strict=True):
        layer.edges.assign(table.edges)
        layer.coefficients.assign(table.coefficients)
    return result


def differences(
    model: SpinEnergyModel, other: SpinEnergyModel, batches: Sequence[dict]
) -> dict:
    """How two models differ on the same frames.

    Parameters
    ----------
    model, other : SpinEnergyModel
        The models; what is relative is so to the first.
    batches : sequence of dict
        Inputs of both.

    Returns
    -------
    dict
        Of ``force`` and ``force_mag`` the largest (``max``) and rms (``rms``)
        difference, relative to their rms over all frames; of ``energy`` the largest
        difference per atom in eV (``max``); ``frames``, their number.
    """
    wanted = [_numbers(model(inputs)) for inputs in batches]
    return _differences(wanted, other, batches)


def _numbers(outputs: dict) -> dict[str, np.ndarray]:
    """Of a model's outputs those that are compared."""
    names = {*COMPARED, *COMPARED.values(), "energy"}
    return {name: np.asarray(outputs[name]) for name in names}


def _differences(
    wanted: Sequence[dict], other: SpinEnergyModel, batches: Sequence[dict]
) -> dict:
    """How a model differs from the `_numbers` of another one, see `differences`."""
    values: dict[str, list] = {name: [] for name in COMPARED}
    energy, frames = [], 0
    for ours, inputs in zip(wanted, batches, strict=True):
        theirs = _numbers(other(inputs))
        for name, mask in COMPARED.items():
            there = ours[mask] > 0
            values[name].append([x[name][there] for x in (ours, theirs)])
        natoms = np.maximum(ours["mask"].sum(axis=1), 1)
        change = theirs["energy"] - ours["energy"]
        energy.append(np.abs(change / natoms).max())
        frames += len(natoms)
    result = {}
    for name, pairs in values.items():
        a, b = (np.concatenate(x).ravel() for x in zip(*pairs, strict=True))
        scale = np.sqrt(np.mean(a**2)) if a.any() else 1.0
        change = np.abs(b - a) / scale if a.size else np.zeros(1)
        result[name] = {
            "max": float(change.max()),
            "rms": float(np.sqrt(np.mean(change**2))),
        }
    return {**result, "energy": {"max": float(max(energy))}, "frames": frames}
