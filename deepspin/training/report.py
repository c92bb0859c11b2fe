# SPDX-License-Identifier: Apache-2.0
"""What a training tells before it begins."""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.model.ener import SpinEnergyModel

log = logging.getLogger(__name__)

_COLUMNS = ("system", "atoms", "frames", "batch", "prob", "labels")


def report_neighbors(data: DataSystem) -> None:
    """Tell how many neighbours there are, and the shortest distance."""
    found = zip(data.names_extended, data.found, strict=True)
    log.info(
        "neighbours within %g Å, at most: %s; nearest atoms: %.4f Å, virtual ones "
        "included: %.4f Å",
        data.rcut,
        ", ".join(f"{name} {count}" for name, count in found),
        data.nearest_real,
        data.nearest,
    )


def report(
    model: SpinEnergyModel,
    train_data: DataSystem,
    valid_data: DataSystem | None,
    seconds: float,
) -> None:
    """Tell what is trained on what, before the first step."""
    for title, data in (("training", train_data), ("validation", valid_data)):
        if data is not None:
            _report_data(title, data)
    fitting = model.fitting
    if fitting.numb_fparam:
        log.info(
            "%d frame parameters: less %s, divided by %s",
            fitting.numb_fparam,
            ", ".join(f"{x:.6g}" for x in fitting.fparam_avg.numpy()),
            ", ".join(f"{1 / x:.6g}" for x in fitting.fparam_inv_std.numpy()),
        )
    if model.jit_compile:
        shapes = len(set(train_data.shapes))
        log.info("shapes to compile: %d of at most %d", shapes, train_data.max_shapes)
    number = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    log.info(
        "%d weights to train, %s, %s, threads: %s, set up in %.1f s",
        number,
        model.descriptor.compute_dtype,
        "kernels" if model.native else "XLA" if model.jit_compile else "no XLA",
        threads,
        seconds,
    )


def _report_data(title: str, data: DataSystem) -> None:
    log.info("%s data: %d systems", title, len(data.systems))
    paths = [_shortened(system.path) for system in data.systems]
    width = max(map(len, (*paths, "system")))
    row = f"  %-{width}s %6s %6s %5s %6s  %s"
    log.info(row, *_COLUMNS)
    for k, system in enumerate(data.systems):
        log.info(
            row,
            paths[k],
            system.nloc,
            system.nframes,
            data.batch_sizes[k],
            f"{data.probabilities[k]:.3f}",
            " ".join(sorted(system.labels)),
        )
    if data.overflow():
        log.warning(
            "more neighbours than `sel` (%s): %d are left out, and energies jump "
            "as atoms cross; sel %s would hold all",
            ", ".join(
                f"{data.names_extended[t]}: up to {found} for {sel}"
                for t, found, sel in data.overflow()
            ),
            data.dropped,
            data.suggest_sel(),
        )


def _shortened(path: str, width: int = 44) -> str:
    """End of a path."""
    return path if len(path) <= width else f"…{path[1 - width :]}"
