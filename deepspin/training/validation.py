# SPDX-License-Identifier: Apache-2.0
"""Errors on all validation data during a training, and the best models by them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.model.ener import SpinEnergyModel
from deepspin.modelfiles.archive import save_model
from deepspin.modelfiles.find import find_checkpoints, read_metadata
from deepspin.training.callbacks import AveragedModel, rows_until, step_of
from deepspin.utils.outputs import append, replacing
from deepspin.utils.refused import bad

log = logging.getLogger(__name__)

BEST = "best.ckpt"
# quantity of a metric: its label, what its errors are divided by
LABEL = {"E": "energy", "FR": "force", "FM": "force_mag", "V": "virial", "S": "virial"}


def best_prefix(options: dict, suffix: str = "") -> Path:
    """Where a normalised input has its best models written."""
    folder = options["validating"]["save_best_dir"]
    parent = Path(options["training"]["save_ckpt"]).parent if folder is None else folder
    return Path(parent) / f"best{suffix}.ckpt"


def first_step(options: dict) -> int | None:
    """Step of the first full validation of a normalised input; None for none."""
    start = options["validating"]["full_val_start"]
    if start == 1:
        return None
    steps = options["training"]["numb_steps"]
    return math.ceil(start * steps) if start < 1 else int(start)


def check_metric(options: dict, data: DataSystem | None) -> None:
    """Refuse a metric that validation data have no label for.

    Raises
    ------
    InputError
        No system has the label.
    """
    metric = options["validating"]["validation_metric"]
    quantity, found = metric.partition(":")[0], _quantities(data) if data else []
    if data is not None and quantity not in found:
        raise bad(
            "validating/validation_metric",
            metric,
            f"one of {', '.join(found)} with :MAE or :RMSE, as no system of "
            f"`training/validation_data` has '{LABEL[quantity]}'",
        )


def _quantities(data: DataSystem) -> list[str]:
    """What validation data have labels of."""
    labels = {name for system in data.systems for name in system.labels}
    return [quantity for quantity, label in LABEL.items() if label in labels]


class FullValidation(keras.callbacks.Callback):
    """Evaluate all validation data every so many steps, and save the best models.

    Parameters
    ----------
    data : DataSystem
        The validation data.
    options : dict
        The normalised input.
    metadata : dict
        Stored in every file, with the step and the errors.
    averaged : AveragedModel, optional
        Makes the model to judge; by default it is the one that is trained.
    suffix : str
        Added to the names of the files, before their extensions.
    restart : bool
        Go on with the files up to the present step.
    """

    def __init__(
        self,
        data: DataSystem,
        options: dict,
        metadata: dict,
        *,
        averaged: AveragedModel | None = None,
        suffix: str = "",
        restart: bool = False,
    ):
        super().__init__()
        given = options["validating"]
        self.data, self.metadata, self.restart = data, metadata, restart
        self.metric, self.freq = given["validation_metric"], given["validation_freq"]
        self.start = first_step(options)
        self.path = log_path(options, suffix)
        self.prefix = best_prefix(options, suffix)
        self.kept = given["max_best_ckpt"] if given["save_best"] else 0
        self.averaged = averaged
        self.best: list[tuple[float, int, Path]] = []  # the best first
        self.names = _quantities(data)
        self._evaluate: tuple[SpinEnergyModel, Callable] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin the files, or go on with them."""
        step = step_of(self.model)
        header = self._header()
        kept = rows_until(self.path, header, step) if self.restart else []
        with replacing(self.path) as partial:
            partial.write_text("".join(kept) or header, encoding="utf-8")
        if self.restart and self.kept:
            for number, path in find_checkpoints(self.prefix).items():
                value = read_metadata(path).get("validation", {}).get(self.metric)
                if value is not None and number <= step:
                    self.best.append((value, number, path))
            self.best.sort()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Evaluate at the steps to do so."""
        step = step_of(self.model)
        if self.start is None or step < self.start or (step - self.start) % self.freq:
            return
        model = self.model if self.averaged is None else self.averaged(self.model)
        errors = self.errors(model)
        values = "".join(f"  {errors[name]:12.6e}" for name in self._columns())
        append(self.path, f"{step:8d}{values}\n")
        whose = ", averaged model" if self.averaged else ""
        value = errors[self.metric]
        log.info(
            "step %d: all validation data%s: %s %.4e", step, whose, self.metric, value
        )
        if self.kept:
            self._keep(model, step, errors)

    def errors(self, model: SpinEnergyModel) -> dict[str, float]:
        """Errors of a model on all frames by name, such as ``E:MAE``.

        Energies and virials per atom in eV, forces in eV/Å, magnetic forces in eV/μ_B,
        stresses in eV/Å³; NaN where no frame has a label.
        """
        if self._evaluate is None or self._evaluate[0] is not model:
            # without XLA: an evaluation now and then does not repay compiling
            traced = tf.function(model, autograph=False, reduce_retracing=True)
            self._evaluate = (model, traced)
        sums = {name: np.zeros(3) for name in self.names}
        for inputs, labels in self.data.once():
            outputs = self._evaluate[1](inputs)
            for name in self.names:
                if LABEL[name] in labels:
                    rest = np.abs(_rest(name, inputs, labels, outputs))
                    sums[name] += [rest.sum(), (rest**2).sum(), rest.size]
        found = {}
        for name, (absolute, square, number) in sums.items():
            found[f"{name}:MAE"] = absolute / number if number else math.nan
            found[f"{name}:RMSE"] = math.sqrt(square / number) if number else math.nan
        return found

    def _columns(self) -> list[str]:
        return [f"{name}:{kind}" for name in self.names for kind in ("MAE", "RMSE")]

    def _header(self) -> str:
        names = "".join(f"  {name:>12s}" for name in self._columns())
        return f"# {'step':>6s}{names}\n"

    def _keep(
        self, model: SpinEnergyModel, step: int, errors: dict[str, float]
    ) -> None:
        """Save a model that is one of the best, and remove what is not any more."""
        value = errors[self.metric]
        worst = self.best[-1][0] if len(self.best) >= self.kept else math.inf
        if not value < worst:
            return
        path = self.prefix.with_name(f"{self.prefix.name}-{step}.keras")
        found = {**self.metadata, "step": step, "validation": errors}
        save_model(model, path, found)
        self.best = sorted([*self.best, (value, step, path)])
        rank = [number for _, number, _ in self.best].index(step)
        words = "the best so far" if rank == 0 else f"number {rank + 1} so far"
        log.info("saved %s, %s", path, words)
        for _, _, old in self.best[self.kept :]:
            old.unlink(missing_ok=True)
        self.best = self.best[: self.kept]


def log_path(options: dict, suffix: str = "") -> Path:
    """File of the errors on all validation data."""
    path = Path(options["validating"]["full_val_file"])
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _rest(name: str, inputs: dict, labels: dict, outputs: dict) -> np.ndarray:
    """Errors of all components that count, as the metric has them."""
    label = LABEL[name]
    rest = np.asarray(outputs[label]) - np.asarray(labels[label]).reshape(
        outputs[label].shape
    )
    natoms = np.asarray(outputs["mask"]).sum(axis=1)
    there = (np.asarray(labels[f"find_{label}"]) > 0) & (natoms > 0)
    if name in ("FR", "FM"):
        mask = np.asarray(outputs["mask" if name == "FR" else "mask_mag"]) > 0
        return rest[mask & there[:, None]]
    divisor = natoms
    if name == "S":
        divisor = np.abs(np.linalg.det(np.asarray(inputs["box"])))
        there = there & (divisor > 0)  # without a cell there is no stress
    rest = rest.reshape(len(rest), -1)[there]
    return rest / divisor[there, None]
