# SPDX-License-Identifier: Apache-2.0
"""Batches as TensorFlow is fed with them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from batches import (
    load,
    same,
)


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "as they come"])
@pytest.mark.parametrize("batch_size", [2, "auto:20"])
@pytest.mark.parametrize("max_shapes", [1, 8])
def test_dataset(folders, max_shapes, batch_size, tables, monkeypatch):
    if not tables:
        monkeypatch.setattr("deepspin.data.dataset.MAX_TABLES", 0)
    systems = list(folders.values())
    data = load(systems, batch_size=batch_size, max_shapes=max_shapes)
    dataset = data.dataset(start=5, steps=8)
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 8
    assert len({data.plan(step)[0] for step in range(5, 13)}) > 2
    for k, batch in enumerate(batches):
        expected = data.batch(5 + k)
        same(batch, expected)
        tf.nest.assert_same_structure(dataset.element_spec, expected)
        for spec, array in zip(
            tf.nest.flatten(dataset.element_spec),
            tf.nest.flatten(expected),
            strict=True,
        ):
            assert spec.shape.is_compatible_with(array.shape)
            assert spec.dtype == array.dtype
    static = [s.shape.is_fully_defined() for s in tf.nest.flatten(dataset.element_spec)]
    assert all(static) == (max_shapes == 1)


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "as they come"])
def test_dataset_goes_on(folders, tables, monkeypatch):
    monkeypatch.setattr("deepspin.data.dataset.PLAN_AHEAD", 4)
    if not tables:
        monkeypatch.setattr("deepspin.data.dataset.MAX_TABLES", 0)
    data = load(folders["a"], batch_size=3)
    batches = data.dataset(start=3).take(7).as_numpy_iterator()
    for step, batch in enumerate(batches):
        same(batch, data.batch(3 + step))
    assert step == 6


def test_lists_that_are_not_kept(four, monkeypatch, caplog):
    """They are made for each batch, and everything is as with those that are kept."""
    kept = load(four, batch_size=2)
    monkeypatch.setattr("deepspin.data.dataset.MAX_TABLES", 0)
    monkeypatch.setattr("deepspin.data.lists.MAX_LISTS", 1000)
    with caplog.at_level("INFO"):
        data = load(four, batch_size=2)
    assert caplog.text.count("each batch has its own made as it is drawn") == 1
    assert data._lists._kept is None
    for name in ("nearest", "nearest_real", "dropped", "shapes", "nbatches"):
        assert getattr(data, name) == getattr(kept, name)
    np.testing.assert_array_equal(data.found, kept.found)
    for step, batch in enumerate(data.dataset(steps=12).as_numpy_iterator()):
        same(batch, kept.batch(step))
    for k in range(len(data.systems)):
        pairs = zip(data.neighbors(k), kept.neighbors(k), strict=True)
        assert all(np.array_equal(a.index, b.index) for a, b in pairs)
    sel = [int(n) - 2 for n in kept.found]
    data.truncate(sel)
    kept.truncate(sel)
    assert data.dropped == kept.dropped > 0
    same(data.batch(3), kept.batch(3))


def test_size_of_tables(four):
    """What is reckoned with is what they take, or a little more."""
    data = load(four, batch_size=2)
    shapes = dict.fromkeys(data.shapes)
    arrays = tf.nest.flatten([data._table(shape) for shape in shapes])
    size = sum(array.nbytes for array in arrays)
    assert size < data._table_bytes() < 1.5 * size


def test_dataset_of_the_example(example):
    for step, batch in enumerate(example.dataset(start=2, steps=3).as_numpy_iterator()):
        same(batch, example.batch(2 + step))


def test_dataset_feeds_the_model(folders, model):
    data = load([folders["a"], folders["mixed"]], batch_size=2)
    for step, (inputs, labels) in enumerate(data.dataset(steps=3)):
        expected = model(data.batch(step)[0])["energy"]
        np.testing.assert_array_equal(model(inputs)["energy"], expected)
        assert labels["energy"].dtype == tf.float64
