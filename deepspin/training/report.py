# SPDX-License-Identifier: Apache-2.0
"""What a training tells before it begins."""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.data.frames import System
from deepspin.model.closed_form import WORDS, label_errors
from deepspin.model.ener import SpinEnergyModel
from deepspin.survey.findings import NET_TORQUE
from deepspin.survey.quality import torque_share
from deepspin.training.setup import VALIDATED_FRAMES

log = logging.getLogger(__name__)

# so many systems are listed
MOST_ROWS = 50
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


def report_augmentation(data: DataSystem) -> None:
    """Tell what is done to frames, and warn of data that contradict it."""
    if not data.augmentation:
        return
    log.info("frames of each batch: %s at random", ", ".join(data.augmentation))
    share = torque_share(data.systems) if "spin_rotation" in data.augmentation else 0.0
    if share > NET_TORQUE:
        log.warning(
            "the torques of the training data add up to %.0f %% of what independent "
            "sites would give: with spin-orbit coupling `training/augmentation` "
            "spin_rotation teaches what is not so",
            100 * share,
        )


def report_baseline(
    model: SpinEnergyModel, train_data: DataSystem, valid_data: DataSystem | None
) -> None:
    """Tell what a closed form found before the training, if there was one."""
    fit = getattr(model.spin, "report", None)
    if fit is None:
        return
    if len(model.descriptor.neuron) > 1:
        log.info(
            "of `neuron` the last number counts, mixtures of radial functions: there "
            "are no embedding nets, nor what belongs to them"
        )
    found = fit.solution
    log.info(
        "baseline: %d numbers of %d frames, %.0f of them determined (ridge %.0e, "
        "condition %.0e)",
        len(found.numbers),
        fit.nframes,
        found.effective,
        found.ridge,
        found.condition,
    )
    rows = [("training", train_data), ("validation", valid_data)]
    left = {
        title: label_errors(model, data.spread(VALIDATED_FRAMES))
        for title, data in rows
        if data is not None
    }
    log.info("  %-28s%12s%s", "rmse", "spread", "".join(f"{t:>12s}" for t in left))
    for name, (title, unit) in WORDS.items():
        if name in fit.spreads:
            values = "".join(f"{left[t].get(name, np.nan):12.3e}" for t in left)
            log.info("  %-28s%12.3e%s", f"{title}, {unit}", fit.spreads[name], values)
    for t, modulus in fit.alike:
        log.warning(
            "baseline: all spins of %s are %.6g μ_B long: what depends on their length "
            "is not determined, and as small as the ridge makes it",
            model.type_map[t],
            modulus,
        )
    rows = sum(fit.counts.values())
    if rows < len(found.numbers):
        log.warning(
            "baseline: %d rows of labels for %d numbers: what they do not determine is "
            "as small as the ridge makes it. Add frames, or lower "
            "`model/spin/baseline/ncross`",
            rows,
            len(found.numbers),
        )
    unseen = [name for t, name in enumerate(model.type_map) if t in fit.unseen]
    if unseen:
        log.warning(
            "baseline: no frame has an atom of %s: the model knows nothing of it",
            ", ".join(unseen),
        )
    if "along" not in fit.spreads:
        log.warning(
            "no training system has 'force_mag': the baseline knows of the spins what "
            "energies and forces tell"
        )


def _report_data(title: str, data: DataSystem) -> None:
    log.info("%s data: %d systems", title, len(data.systems))
    told = data.systems[:MOST_ROWS]
    paths = [_shortened(system.path) for system in told]
    width = max(map(len, (*paths, "system")))
    row = f"  %-{width}s %6s %6s %5s %6s  %s"
    log.info(row, *_COLUMNS)
    for k, system in enumerate(told):
        log.info(
            row,
            paths[k],
            system.nloc,
            system.nframes,
            data.batch_sizes[k],
            f"{data.probabilities[k]:.3f}",
            " ".join(_counted(system)),
        )
    if more := len(data.systems) - len(told):
        total = sum(system.nframes for system in data.systems)
        log.info("  … and %d more systems; %d frames in all", more, total)
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


def _counted(system: System) -> list[str]:
    """Labels, with the number of frames of those that some frames lack."""
    numbers = {name: system.has(name).sum() for name in sorted(system.labels)}
    return [
        name if number == system.nframes else f"{name}({number})"
        for name, number in numbers.items()
    ]


def _shortened(path: str, width: int = 44) -> str:
    """End of a path."""
    return path if len(path) <= width else f"…{path[1 - width :]}"
