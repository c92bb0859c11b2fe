# SPDX-License-Identifier: Apache-2.0
"""Means of the errors of a model over batches, as Keras looks for metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.compile_utils import CompileMetrics

# what a frame, or an atom, must have for an output to count in a metric of one's own
ATOMIC = {
    "force": "mask",
    "force_mag": "mask_mag",
    "atom_ener": "mask",
}
FRAMES = ("energy", "virial")


class RootMeanSquare(keras.metrics.Mean):
    """Square root of the mean of squares."""

    def result(self) -> tf.Tensor:
        """The root of the mean so far."""
        return tf.sqrt(super().result())


class Errors(CompileMetrics):
    """Means over batches of what a loss reports, and metrics of one's own.

    Over all that counts, as `dp-spin test` has them: of ``rmse`` the square root of the
    mean of squares.

    Keras' callbacks look in a class of its own for metrics that know which way is
    better (`_direction`), so that ``monitor="val_rmse_fm"`` needs no ``mode``.

    Parameters
    ----------
    names : sequence of str
        Errors that the loss reports: the smaller, the better.
    own : mapping of str to metrics, optional
        For an output that has a label, a metric or several, each by name or as an
        object. Padding, missing labels and, of magnetic forces, atoms without a spin
        have weight 0.

    Raises
    ------
    ValueError
        Metrics that are not of such a mapping.
    """

    def __init__(self, names: Sequence[str], own: Any = None):
        super().__init__(None, None)
        kinds = {True: RootMeanSquare, False: keras.metrics.Mean}
        self._means = [
            _down(kinds[name.startswith("rmse")](name, dtype="float64"))
            for name in names
        ]
        self._own = list(_own_metrics(own))
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All, each under the name that callbacks know it by."""
        return [*self._means, *(metric for _, metric in self._own)]

    @property
    def variables(self) -> list:
        """Those of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def update_state(
        self, values: Mapping[str, tuple], labels: dict, outputs: dict
    ) -> None:
        """Add a batch: values with their weights, labels and outputs."""
        for mean in self._means:
            # a batch without the label does not count; a loss of NaN does
            value, weight = values[mean.name]
            there = (mean.name == "loss") | ~tf.math.is_nan(value)
            value = tf.square(value) if isinstance(mean, RootMeanSquare) else value
            part = tf.where(there, value * weight, tf.zeros_like(value))
            mean.total.assign_add(part)
            mean.count.assign_add(tf.where(there, weight, tf.zeros_like(weight)))
        for key, metric in self._own:
            if key in labels:
                weight = _weight(key, labels, outputs)
                rows = _rows(key, labels[key]), _rows(key, outputs[key])
                label = tf.where(weight[..., None] > 0, rows[0], 0.0)  # may be NaN
                metric.update_state(label, rows[1], sample_weight=weight)

    def result(self) -> dict[str, tf.Tensor]:
        """Means so far, NaN where no batch counted."""
        nan = tf.constant(np.nan, dtype=tf.float64)
        found = {m.name: tf.where(m.count > 0, m.result(), nan) for m in self._means}
        return {**found, **{metric.name: metric.result() for _, metric in self._own}}

    def reset_state(self) -> None:
        """Begin anew."""
        for metric in self.metrics:
            metric.reset_state()


def _down(metric: keras.metrics.Metric) -> keras.metrics.Metric:
    metric._direction = "down"
    return metric


def _own_metrics(given: Any) -> list[tuple[str, keras.metrics.Metric]]:
    """Output and metric of each that was given to `compile`, named OUTPUT_NAME."""
    known = (*FRAMES, *ATOMIC)
    if given and not (isinstance(given, Mapping) and set(given) <= set(known)):
        raise ValueError(
            "`metrics` must be a dict from outputs to metrics, such as "
            '{"force_mag": "mae"}, '
            f"the outputs of {known}. Received: {given!r}"
        )
    found = []
    for key, metrics in (given or {}).items():
        for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
            chosen = keras.metrics.get(metric)
            if not isinstance(chosen, keras.metrics.Metric):
                chosen = keras.metrics.MeanMetricWrapper(chosen, dtype="float64")
            name = metric if isinstance(metric, str) else chosen.name
            config = {**chosen.get_config(), "name": f"{key}_{name}"}
            chosen = type(chosen).from_config(config)  # the given one stays as it is
            found.append((key, chosen))
    return found


def _rows(key: str, values: tf.Tensor) -> tf.Tensor:
    """Values with the components of a frame, or of an atom, last: metrics' means."""
    values = tf.cast(values, tf.float64)
    rank = 2 if key in FRAMES else 3
    if values.shape.rank < rank:
        return values[..., None]
    return tf.reshape(values, [*tf.unstack(tf.shape(values)[: rank - 1]), -1])


def _weight(key: str, labels: dict, outputs: dict) -> tf.Tensor:
    """What counts of an output: frames (nf,) or atoms (nf, nloc)."""
    number = tf.shape(outputs["energy"])[:1]
    there = tf.cast(labels.get(f"find_{key}", tf.ones(number)), tf.float64)
    if key in ATOMIC:
        return outputs[ATOMIC[key]] * there[:, None]
    return there * tf.reduce_max(outputs["mask"], axis=1)
