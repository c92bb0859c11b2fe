# SPDX-License-Identifier: Apache-2.0
"""Batches of training data as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf


def drawn(
    batches: Callable[[], Iterable], examples: Sequence[tuple[dict, dict]]
) -> tf.data.Dataset:
    """Batches as Python makes them.

    Parameters
    ----------
    batches : callable
        Begins a sequence of batches: inputs and labels, as arrays.
    examples : sequence of (dict, dict)
        A batch of each shape.
    """
    signature = tf.nest.map_structure(_common_spec, *examples)
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def looked_up(
    plan: Callable[[], Iterable],
    tables: Sequence[tuple[dict, dict]],
    sizes: Sequence[int],
) -> tf.data.Dataset:
    """Batches as rows of tables, with hardly any Python.

    Parameters
    ----------
    plan : callable
        Begins a sequence of (table, rows): arrays of int32, of the shapes (n,) and (n,
        largest size), for n batches.
    tables : sequence of (dict, dict)
        Inputs and labels of all frames of one shape.
    sizes : sequence of int
        Frames in a batch from each table; a batch's first so many rows count.
    """
    examples = [
        tf.nest.map_structure(partial(np.take, indices=[0] * size, axis=0), table)
        for table, size in zip(tables, sizes, strict=True)
    ]
    spec = tf.nest.map_structure(_common_spec, *examples)
    flat = [list(map(tf.constant, tf.nest.flatten(table))) for table in tables]

    @tf.autograph.experimental.do_not_convert
    def look_up(which: tf.Tensor, rows: tf.Tensor) -> tuple[dict, dict]:
        def rows_of(table: list[tf.Tensor], size: int) -> list[tf.Tensor]:
            return [tf.gather(array, rows[:size]) for array in table]

        branches = [
            partial(rows_of, table, size)
            for table, size in zip(flat, sizes, strict=True)
        ]
        arrays = branches[0]() if len(flat) == 1 else tf.switch_case(which, branches)
        shapes = [s.shape for s in tf.nest.flatten(spec)]
        return tf.nest.pack_sequence_as(
            spec, list(map(tf.ensure_shape, arrays, shapes))
        )

    width = max(sizes)
    signature = (
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, width], tf.int32),
    )
    steps = tf.data.Dataset.from_generator(plan, output_signature=signature)
    return steps.unbatch().map(look_up)


def finished(data: tf.data.Dataset, number: int) -> tf.data.Dataset:
    """A data set of so many batches, the next of which are made ahead."""
    data = data.apply(tf.data.experimental.assert_cardinality(number))
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread may take a minute to end
    return data.prefetch(4).with_options(options)


def _common_spec(*arrays: np.ndarray) -> tf.TensorSpec:
    """Spec of arrays that differ in some dimensions."""
    shape = [
        n[0] if len(set(n)) == 1 else None
        for n in zip(*(a.shape for a in arrays), strict=True)
    ]
    return tf.TensorSpec(shape, arrays[0].dtype)
