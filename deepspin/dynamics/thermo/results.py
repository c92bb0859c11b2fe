# SPDX-License-Identifier: Apache-2.0
"""What samples tell: averages in a table and a picture, the temperature of order."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from deepspin.atoms.waves import order_parameter, strongest_wave
from deepspin.dynamics.thermo.averages import QUANTITIES, Curve, Transition, transition
from deepspin.dynamics.thermo.data import SizeRun, load
from deepspin.pictures.plots import save
from deepspin.pictures.tables import read_table
from deepspin.pictures.temperatures import draw_temperatures
from deepspin.utils.outputs import replacing
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# warn of another wave if its weight exceeds those of the known ones and OTHER, or
# OTHER_SPINS / N of N spins if that is more: disorder does not reach it by chance
OTHER = 0.1
OTHER_SPINS = 12
# columns of a table beside quantities and their errors
_FIRST = ("natoms", "temperature (K)")
_LAST = (
    "autocorrelation time (samples)",
    "acceptance",
    "exchange",
    "nsamples",
    "trusted",
)


def analyse(path: str | Path) -> tuple[list[Curve], Transition]:
    """Average the samples of a file; write table and picture beside it.

    Raises
    ------
    InputError, DataError, OSError
        There are no samples, or files cannot be read or written.
    """
    made_by, runs = load(path)
    curves = [Curve.of(run.samples()) for run in runs if run.nsamples > 1]
    if not curves:
        raise InputError(f"'{path}' has no samples yet. Go on with -r {path}.")
    order = transition(curves)
    table, picture = outputs(Path(path))
    write_table(table, curves)
    ends = (order.temperature - order.error, order.temperature + order.error)
    band = ends if np.isfinite(ends).all() else None
    save(draw_temperatures([read_table(table)], [""], band), picture)
    for curve in curves:
        _warn(curve)
    for run, repeat in zip(runs, made_by["options"]["sizes"], strict=True):
        if run.nsamples > 1:
            _warn_of_other_order(run, repeat)
    if np.isfinite(order.temperature):
        log.info(
            "order ends at %.1f ± %.1f K: %s",
            order.temperature,
            order.error,
            order.source,
        )
    else:
        log.info("no temperature of order: the samples do not show %s", order.source)
    log.info("averages are in %s and %s", table, picture)
    return curves, order


def _warn(curve: Curve) -> None:
    """Warn of averages that are not to be trusted."""
    samples = curve.samples
    for chosen, text in (
        (
            curve.short,
            f"{samples.nsamples} samples are few, errors are larger than told",
        ),
        (curve.drifting, "not in equilibrium: energy or order drift; sample longer"),
    ):
        kelvin = ", ".join(f"{k:g}" for k in samples.temperature[chosen])
        if kelvin:
            log.warning("%d atoms at %s K: %s", samples.natoms, kelvin, text)


def _warn_of_other_order(run: SizeRun, repeat: list[int]) -> None:
    """Warn of spins that ended up ordered in a wave that the input does not name."""
    state = run.state
    if state.box is None:
        return
    waves, weight = strongest_wave(
        state.coord, state.spin, state.box, repeat, run.signs
    )
    order = np.stack([order_parameter(state.spin, signs) for signs in run.signs])
    known = (order**2).sum(axis=(0, 2))
    chance = max(OTHER, OTHER_SPINS / np.count_nonzero(run.signs[0]))
    chosen = np.flatnonzero(weight > np.maximum(known, chance))
    if not len(chosen):
        return
    first = chosen[run.temperature[chosen].argmin()]
    log.warning(
        "%d atoms at %s K: spins have ordered in another wave than `order_vectors`; at "
        "%g K (%s) has the weight %.2f, those have %.2f. If that is right, add it to "
        "`order_vectors`; if not, the model has a wrong ground state: train it on "
        "frames with such spins",
        state.nloc,
        ", ".join(f"{k:g}" for k in run.temperature[chosen]),
        run.temperature[first],
        " ".join(f"{x:.3g}" for x in waves[first]),
        weight[first],
        known[first],
    )


def outputs(path: Path) -> tuple[Path, Path]:
    """Table and picture that belong to a file of samples."""
    return path.with_suffix(".csv"), path.with_suffix(".png")


def columns() -> list[str]:
    """Names of the columns of a table, with units."""
    names = []
    for name, unit in QUANTITIES.items():
        text = name.replace("_", " ")
        mark = f" ({unit})" if unit else ""
        names += [f"{text}{mark}", f"{text} error{mark}"]
    return [*_FIRST, *names, *_LAST]


def write_table(path: str | Path, curves: list[Curve]) -> None:
    """Write averages and errors as comma-separated values, a line for each replica."""
    lines = [",".join(columns())]
    for curve in curves:
        samples = curve.samples
        kelvin = samples.temperature
        exchange = np.full(len(kelvin), np.nan)
        tried = np.isfinite(samples.exchange)
        sums = np.where(tried, samples.exchange, 0.0).sum(axis=0)
        exchange[:-1] = np.where(
            tried.any(axis=0), sums / np.maximum(tried.sum(axis=0), 1), np.nan
        )
        parts = [np.full(len(kelvin), samples.natoms), kelvin]
        for name in QUANTITIES:
            parts += [curve.value[name], curve.error[name]]
        parts += [curve.time, samples.acceptance.mean(axis=0), exchange]
        parts += [np.full(len(kelvin), samples.nsamples)]
        parts += [~(curve.short | curve.drifting)]
        for row in zip(*parts, strict=True):
            lines.append(",".join(f"{value:.10g}" for value in row))
    with replacing(path) as partial:
        partial.write_text("\n".join([*lines, ""]), encoding="utf-8")
