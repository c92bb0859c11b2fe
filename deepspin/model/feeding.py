# SPDX-License-Identifier: Apache-2.0
"""What `fit`, `evaluate` and `predict` are given, as data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.data.sampling import check_batch_size
from deepspin.op.adam import steps_made

# as Keras has it
BATCH_SIZE = 32


class Position(keras.callbacks.Callback):
    """The step of the optimizer as training begins, when others have restored it.

    A step that runs may count itself before it draws its batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Look."""
        self.step = steps_made(self.model.optimizer)

    def __call__(self) -> int:
        """The step."""
        return self.step


def listed(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Callbacks as Keras takes them: one, a list, a `CallbackList`, or none."""
    return tf.nest.flatten(getattr(callbacks, "callbacks", callbacks) or [])


def serve(
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    steps: int | None = None,
    position: Callable[[], int] | None = None,
) -> tuple[Any, int | None]:
    """Data as Keras takes it without a change of precision, and steps of an epoch.

    Parameters
    ----------
    x : DataSystem, tf.data.Dataset, dict of arrays, or what else Keras takes
        Of a `DataSystem` an epoch is as many batches as its frames fill, and without
        `position` these are all frames, once each.
    y : dict of arrays, optional
        Labels of the arrays `x`.
    batch_size : int, optional
        Frames in a batch of arrays.
    shuffle : bool
        Draw the frames of arrays in another order in each epoch.
    steps : int, optional
        Batches of an epoch; of a `DataSystem` drawn at random.
    position : callable, optional
        The step that endless data begins at, asked when its first batch is drawn; 0
        without.

    Raises
    ------
    ValueError
        Data without an end and without `steps`; arrays of different length.
    """
    check_batch_size(batch_size)
    if isinstance(x, DataSystem):
        if position is not None:
            return x.dataset(position), steps or sum(x.nbatches)
        return x.once() if steps is None else x.dataset(0, steps), None
    if isinstance(x, dict):
        return _of_arrays(x, y, batch_size or BATCH_SIZE, shuffle), steps
    if isinstance(x, tf.data.Dataset):
        if steps is None and int(x.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "The data set never ends, and nor would an epoch: give "
                "`steps_per_epoch` (`steps` of evaluate and predict, `validation_steps`"
                " of validation data), or `DataSystem.dataset(steps=...)`, or the "
                "DataSystem itself."
            )
        if position is not None:
            for source in _sources(x):
                source.begin.ask = position
    return x, steps


def split(x: dict, y: dict, part: float) -> tuple[tuple, tuple]:
    """Arrays without the last `part` of their frames, and these, as Keras splits."""
    nframes = _length(x, y)
    first = int(nframes * (1.0 - part))
    if not 0 < first < nframes:
        raise ValueError(
            f"`validation_split` of {part} leaves no frames to one side of "
            f"{nframes}. Give another, or `validation_data`."
        )
    pieces = [
        tf.nest.map_structure(lambda array, own=own: array[own], (x, y))
        for own in (slice(first), slice(first, None))
    ]
    return pieces[0], pieces[1]


def padded(values: Any) -> np.ndarray:
    """Rows of different length as one array, zeros behind the short ones."""
    return values.to_tensor().numpy() if isinstance(values, tf.RaggedTensor) else values


def words_of_step(x: Any, step: int) -> str:
    """A step in words, with its frames where the data tell."""
    if not isinstance(x, DataSystem):
        return f"step {step}"
    system, frames = x.plan(step)
    return f"step {step}, on frames {frames.tolist()} of '{x.systems[system].path}'"


def _of_arrays(x: dict, y: Any, batch_size: int, shuffle: bool) -> tf.data.Dataset:
    nframes = _length(x, y)
    data = tf.data.Dataset.from_tensor_slices(x if y is None else (x, y))
    if shuffle:
        data = data.shuffle(nframes)
    return data.batch(batch_size)


def _length(x: dict, y: Any) -> int:
    """Number of frames of all arrays."""
    found = {len(array) for array in tf.nest.flatten((x, {} if y is None else y))}
    if len(found) != 1:
        raise ValueError(
            "Arrays of inputs and labels must have the same number of frames. "
            f"Received: {sorted(found)}"
        )
    return found.pop()


def _sources(data: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Endless data sets of `DataSystem` that this one is made of."""
    if hasattr(data, "begin"):
        yield data
        return
    for before in getattr(data, "_inputs", list)():  # through map, prefetch, ...
        yield from _sources(before)
