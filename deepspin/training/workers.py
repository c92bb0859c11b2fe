# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one model, each on its part of every batch."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin import env
from deepspin.data.dataset import DataSystem
from deepspin.loss.ener_spin import EnerSpinLoss, Sums
from deepspin.model.checks import unpacked
from deepspin.model.ener import SpinEnergyModel
from deepspin.training.callbacks import Checkpoint, StopTraining, step_of
from deepspin.training.cluster import Cluster, find_cluster
from deepspin.utils.stopping import StopOnSignal

log = logging.getLogger(__name__)

# what TensorFlow raises once another process of the cluster does not answer
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
# bits of a digest that a float64 holds
DIGEST_BITS = 48
# numbers that are added up at once, before the first step
AT_ONCE = 2**14


class WorkerError(RuntimeError):
    """Workers cannot begin together, or one of them was lost."""


def join() -> Workers:
    """The workers that ``TF_CONFIG`` or SLURM tell of; none, and this one is alone.

    Others are joined once in a program, before the first operation of TensorFlow.

    Raises
    ------
    ValueError, OSError
        What the environment tells cannot be, see `find_cluster`.
    WorkerError
        The others cannot be joined.
    """
    return _join(find_cluster())


@cache
def _join(cluster: Cluster | None) -> Workers:
    return Workers(cluster)


class Workers:
    r"""Processes that train one model together, or one on its own.

    Each has all weights and all data. Of the batch of a step, which depends on seed and
    step alone, worker k of n takes every n-th frame from the k-th on. What the loss
    averages over is counted first and added up over the workers (tf.distribute's
    all-reduce), so that the loss of the batch and its gradients are sums over them:

    .. math:: L = \sum_k \sum_t p_t \frac{S_{t,k}}{\sum_j C_{t,j}}

    with the sum :math:`S_{t,k}` and the count :math:`C_{t,k}` of worker k for each term
    t of the loss. Gradients are added up in a second all-reduce, and each worker makes
    the same update.

    Parameters
    ----------
    cluster : Cluster or None
        All processes; None for one on its own.

    Attributes
    ----------
    count, index : int
        How many there are, and which of them this is; 0 is the chief, which alone
        writes files.
    """

    def __init__(self, cluster: Cluster | None):
        self.cluster = cluster
        self.count = 1 if cluster is None else len(cluster.addresses)
        self.index = 0 if cluster is None else cluster.index
        if cluster is None:
            return
        cluster.check()
        env.tell_workers(cluster.config)
        log.info("waiting for %d workers: %s", self.count, ", ".join(cluster.addresses))
        try:
            with env.held_back(2):
                self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (RuntimeError, tf.errors.OpError) as error:
            raise WorkerError(
                f"Worker {self.index} cannot join the others: {_line(error)} Join them "
                "before TensorFlow's first operation, and see that all are started and "
                "can reach each other."
            ) from error
        devices = len(self.strategy.extended.worker_devices)
        if devices != 1:
            raise WorkerError(
                f"A worker uses one device, and worker {self.index} sees {devices}. "
                "Start a worker for each, with its own CUDA_VISIBLE_DEVICES (srun "
                "--gpus-per-task=1)."
            )
        if self.chief:
            log.info(
                "%d workers divide each batch; the learning rate is not scaled",
                self.count,
            )
        self._adds = tf.function(self._total, autograph=False)
        self._stop = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._stops = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    @property
    def chief(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    @property
    def part(self) -> tuple[int, int]:
        """Part of each batch, see `DataSystem.dataset`."""
        return self.index, self.count

    # -- before the first step ---------------------------------------------------------

    def agree(self, **things: Any) -> None:
        """Make sure that all workers have the same things, each told by its name.

        Raises
        ------
        WorkerError
            They have not.
        """
        if self.count == 1:
            return
        table = np.zeros([self.count, len(things)])
        for k, thing in enumerate(things.values()):
            text = json.dumps(thing, sort_keys=True, default=str)
            digest = hashlib.sha256(text.encode()).digest()
            table[self.index, k] = int.from_bytes(digest[: DIGEST_BITS // 8], "big")
        table = self._added(table)
        for k, name in enumerate(things):
            others = np.flatnonzero(table[:, k] != table[0, k])
            if others.size:
                raise WorkerError(
                    f"Workers {others.tolist()} have another {name.replace('_', ' ')} "
                    "than worker 0. Give all the same command, input and data."
                )

    def settled(self, options: dict) -> dict:
        """The chief's options, with the seeds that it has drawn."""
        if self.count == 1:
            return options
        text = json.dumps(options).encode()
        length = int(self._of_chief(np.array([float(len(text))]))[0])
        mine = np.zeros(length)
        if self.chief:
            mine[:] = np.frombuffer(text, dtype=np.uint8)
        text = self._of_chief(mine).astype(np.uint8).tobytes()
        return json.loads(text)

    def share(self, model: SpinEnergyModel) -> None:
        """Have a compiled model train with the others, from the chief's weights.

        Its `fit` then expects this worker's part of each batch: `dataset`. Any other
        data counts as such a part.

        Raises
        ------
        ValueError
            The model's loss or metrics are not deepspin's.
        """
        if self.count == 1:
            return
        if not isinstance(model.loss_function, EnerSpinLoss) or model._own_metrics:
            raise ValueError(
                "Several workers train with deepspin.EnerSpinLoss, and without metrics "
                f"of one's own. Received: {type(model.loss_function).__name__}, "
                f"metrics {model._own_metrics}"
            )
        variables = [*model.variables, *model.optimizer.variables]
        flat = [v.numpy().astype(np.float64).ravel() for v in variables]
        values = self._of_chief(np.concatenate(flat))
        ends = np.cumsum([len(part) for part in flat])[:-1]
        for variable, own in zip(variables, np.split(values, ends), strict=True):
            kind = variable.numpy().dtype
            variable.assign(own.reshape(variable.shape).astype(kind))
        model.train_function = self._train_function(model)

    def dataset(
        self,
        data: DataSystem,
        start: int | Callable[[], int] | None = None,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Batches, of each the part of this worker; see `DataSystem.dataset`."""
        return data.dataset(start, steps, self.part)

    def _of_chief(self, values: np.ndarray) -> np.ndarray:
        return self._added(values if self.chief else np.zeros_like(values))

    def _added(self, values: np.ndarray) -> np.ndarray:
        """Sum over all workers of float64 numbers."""
        rows = np.zeros([math.ceil(values.size / AT_ONCE), AT_ONCE])
        rows.reshape(-1)[: values.size] = values.reshape(-1)
        sums = np.concatenate([self._adds(tf.constant(row)).numpy() for row in rows])
        return sums[: values.size].reshape(values.shape)

    # -- steps -------------------------------------------------------------------------

    def _total(self, values: tf.Tensor) -> tf.Tensor:
        """Sum over all workers."""

        def total(own: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

        return self.strategy.run(total, args=(values,))

    def _train_function(self, model: SpinEnergyModel) -> Callable:
        """What Keras calls for each step: draws a batch and returns the errors."""
        own = tf.function(
            lambda *arrays: _own_sums(model, *arrays),
            autograph=False,
            reduce_retracing=True,
            jit_compile=model.jit_compile,
        )

        @tf.function(autograph=False, reduce_retracing=True)
        def step(iterator: tf.data.Iterator) -> dict:
            return self._step(model, own, iterator.get_next())

        return step

    def _step(self, model: SpinEnergyModel, own: Callable, batch: tuple) -> dict:
        """Make one update; returns the means of errors so far."""
        inputs, labels = unpacked(batch)
        labels = model.completed(inputs, labels)  # with the rate of this step
        loss = model.loss_function
        nothing = _no_outputs(model, inputs)
        counts = [s.count for s in loss.sums(labels, nothing).values()]
        counts = self._total(tf.stack(counts))
        gradients, sums = own(inputs, labels, counts)
        weights = model.trainable_variables
        flat = [
            tf.reshape(tf.cast(gradient, tf.float64), [-1])
            for gradient in gradients
            if gradient is not None
        ]
        # all at once: either everything of a step is known, or nothing
        flat = [*flat, sums, self._stop[None]]
        sizes = [tf.size(part) for part in flat]
        everything = self._total(tf.concat(flat, axis=0))
        with tf.control_dependencies([everything]):
            *flat, sums, stops = tf.split(everything, sizes, num=len(flat))
            self._stops.assign(stops[0])
            rest = iter(flat)
            gradients = [
                None if g is None else _like(next(rest), w)
                for g, w in zip(gradients, weights, strict=True)
            ]
            whole = _unpacked_sums(loss, sums, counts)
            total = loss.total(labels, loss.means(whole))
            model.note_failure(total)
            model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            (errors,) = model.metrics
            values = {"loss": (total, tf.ones_like(total))}
            values |= loss.report_sums(labels, whole)
            errors.update_state(values, {}, {})
            return errors.result()

    # -- the end -----------------------------------------------------------------------

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, the chief alone tells what it does; others warn of things."""
        ours = logging.getLogger("deepspin")
        level = ours.level
        if not self.chief:
            ours.setLevel(logging.WARNING)
        try:
            yield
        except LOST as error:
            raise self.lost(error) from error
        finally:
            ours.setLevel(level)

    def lost(self, error: Exception, checkpoint: Checkpoint | None = None) -> Exception:
        """What to raise on an error of TensorFlow's: of a worker that was lost.

        The chief saves the model as it is after the last step, with `checkpoint`.
        """
        if self.count == 1:
            raise error
        tasks = re.findall(r"/task:(\d+)", str(error))
        which = f"Worker {tasks[0]}" if tasks else "A worker"
        way = "Nothing was written yet."
        if checkpoint is not None and self.chief:
            step, path = step_of(checkpoint.model), checkpoint.save()
            way = f"The model is saved after step {step}: go on with -r {path}."
        elif checkpoint is not None:
            way = f"Go on with -r {checkpoint.prefix}; worker 0 saves it if it can."
        return WorkerError(
            f"{which} of {self.count} does not answer any more: see what it said. "
            f"{way} The number of workers may be another one."
        )

    def finish(self) -> None:
        """Wait for the others, so that none misses one that has ended."""
        if self.count > 1:
            self._added(np.zeros(1))

    def stop_by(self, stop: StopOnSignal) -> keras.callbacks.Callback:
        """Callback that stops a training of all workers when a signal came to one."""
        return StopTraining(stop) if self.count == 1 else StopTogether(self, stop)

    def stopped_by(self, stop: StopOnSignal) -> signal.Signals | None:
        """Signal that has stopped this worker, or another one."""
        if stop.received is None and self.count > 1 and self._stops.numpy() > 0:
            return signal.SIGTERM
        return stop.received


class StopTogether(keras.callbacks.Callback):
    """Have all workers stop after the same step once a signal came to one.

    Parameters
    ----------
    workers : Workers
        The workers.
    stop : StopOnSignal
        Notes signals of this one.
    """

    def __init__(self, workers: Workers, stop: StopOnSignal):
        super().__init__()
        self.workers, self.stop = workers, stop

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Tell the others in the next step; stop as soon as all know."""
        if self.stop.received is not None:
            self.workers._stop.assign(1.0)
        if self.workers._stops.numpy() > 0:
            self.model.stop_training = True


def _own_sums(
    model: SpinEnergyModel, inputs: dict, labels: dict, counts: tf.Tensor
) -> tuple[list, tf.Tensor]:
    """Gradients of this worker's part of the loss, and the sums that it is made of."""
    loss, weights = model.loss_function, model.trainable_variables
    with tf.GradientTape() as tape:
        own = loss.sums(labels, model(inputs, training=True))
        shared = zip(own.items(), tf.unstack(counts, num=len(own)), strict=True)
        terms = {t: sums._replace(count=count) for (t, sums), count in shared}
        part = loss.total(labels, loss.means(terms))
    sums = tf.stack([[s.loss, s.error] for s in own.values()])
    return tape.gradient(part, weights), tf.reshape(sums, [-1])


def _unpacked_sums(
    loss: EnerSpinLoss, sums: tf.Tensor, counts: tf.Tensor
) -> dict[str, Sums]:
    number = len(loss.active)
    pairs = tf.unstack(tf.reshape(sums, [number, 2]))
    rows = zip(pairs, tf.unstack(counts, num=number), strict=True)
    return {
        term: Sums(pair[0], pair[1], count)
        for term, (pair, count) in zip(loss.active, rows, strict=True)
    }


def _like(flat: tf.Tensor, weight: Any) -> tf.Tensor:
    return tf.cast(tf.reshape(flat, weight.shape), weight.dtype)


def _no_outputs(model: SpinEnergyModel, inputs: dict) -> dict:
    """Outputs of 0, with the model's masks: what counts does not depend on more."""
    coord, masks = inputs["coord"], model.masks(inputs)
    return {
        **masks,
        "energy": tf.zeros(tf.shape(coord)[:1], tf.float64),
        "atom_ener": tf.zeros_like(masks["mask"]),
        "force": tf.zeros_like(coord),
        "force_mag": tf.zeros_like(coord),
        "virial": tf.zeros_like(inputs["box"]),
    }


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith(".") else f"{text}."
