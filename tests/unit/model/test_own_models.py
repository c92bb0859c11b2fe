# SPDX-License-Identifier: Apache-2.0
"""Layers and loss in Keras models of a user's own, also of the functional API."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
import small_data
import tensorflow as tf

import deepspin

TYPES = 3  # of neighbours: Ni, O, virtual atoms of Ni
PARTS = ("energy", "force", "force_mag")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "s"
    system = small_data.write(folder, *small_data.frames(4))
    return deepspin.DataSystem(str(system), **model.data_spec, batch_size=2, seed=3)


class Own(keras.Model):
    """Layers of deepspin, a loss of deepspin, the rest by Keras."""

    def __init__(self, inner, dtype="float64"):
        super().__init__(dtype=dtype)
        self.inner = inner

    def call(self, inputs):
        outputs = self.inner(inputs)
        return {k: outputs[k] for k in (*PARTS, "mask", "mask_mag")}


class Whole(Own):
    """As the documentation says."""

    def compute_loss(self, x, y, y_pred, *args, **kwargs):
        rate = self.optimizer.learning_rate
        labels = {**y, "spin": x["spin"], "learning_rate": rate}
        return self.loss(labels, y_pred)


def separations():
    """Symbols: separations, and which slots are filled, by type of neighbour."""
    diff = [keras.Input((None, None, 3), dtype="float64") for _ in range(TYPES)]
    filled = [keras.Input((None, None), dtype="bool") for _ in range(TYPES)]
    return diff, filled


def test_layers_in_the_functional_api(model, data, tmp_path):
    """Descriptor and fitting net, beside a layer of Keras; fitted, saved, loaded."""
    inputs, _ = data.batch(0)
    natoms = [mask.shape[1] for mask in inputs["mask"]]
    given = separations()
    descriptor = model.descriptor(*given, natoms=natoms)
    energy = model.fitting(descriptor, natoms=natoms)
    gap = keras.layers.Dense(1, dtype="float64", kernel_initializer="ones")(descriptor)
    symbols = [*given[0], *given[1]]
    own = keras.Model(symbols, [descriptor, energy, gap])
    diff, filled = model.spin.seen(inputs, model.descriptor)
    arrays = [*diff, *filled]
    found = own(arrays)
    np.testing.assert_array_equal(found[0], model.descriptors(inputs))
    want = model(inputs)["atom_ener"]
    np.testing.assert_allclose(found[1], want, rtol=1e-12, atol=1e-14)
    own.save(tmp_path / "own.keras")
    again = keras.saving.load_model(tmp_path / "own.keras")
    for a, b in zip(again(arrays), found, strict=True):
        np.testing.assert_array_equal(a, b)
    alone = keras.Model(symbols, gap)
    alone.compile(keras.optimizers.Adam(0.2), "mse", run_eagerly=True)
    batch = tuple(arrays), tf.ones_like(found[2])
    batches = tf.data.Dataset.from_tensors(batch)
    fitted = alone.fit(batches, epochs=4, shuffle=False, verbose=0)
    assert fitted.history["loss"][3] < 0.9 * fitted.history["loss"][0]


def test_the_model_in_the_functional_api(model, data):
    inputs, _ = data.batch(0)

    def symbol(values, name=None):
        if isinstance(values, tuple):
            return tuple(map(symbol, values))
        shape = [None if n != 3 else 3 for n in values.shape[1:]]
        return keras.Input(shape, dtype=str(values.dtype), name=name)

    given = {name: symbol(values, name) for name, values in inputs.items()}
    own = keras.Model(tf.nest.flatten(given), model(given)["energy"])
    arrays = tf.nest.map_structure(tf.constant, tf.nest.flatten(inputs))
    np.testing.assert_array_equal(own(arrays), model(inputs)["energy"])


def test_loss_in_a_model_of_ones_own(make_model, data):
    """Trains as `SpinEnergyModel` does, at the rate of its schedule."""
    trained = []
    for kind in (lambda inner: inner, Whole):
        inner = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
        own = kind(inner)
        schedule = deepspin.ExpDecay(1e-6, 4, stop_lr=1e-8, decay_steps=1)
        own.compile(
            keras.optimizers.SGD(schedule),
            deepspin.EnerSpinLoss(start_lr=1e-6),
            jit_compile=False,
        )
        before = inner.get_weights()
        own.fit(data.dataset(0, 4), shuffle=False, verbose=0)
        trained.append(inner.get_weights())
    assert any((a != b).any() for a, b in zip(before, trained[0], strict=True))
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_what_a_model_of_ones_own_forgets(model, data, caplog):
    """A precision, `compute_loss`, the learning rate in it."""
    inputs, labels = tf.nest.map_structure(tf.constant, data.batch(0))
    with pytest.raises(TypeError, match=r"`coord` must be float64. Received: float32"):
        Own(model, "float32")(inputs)
    with pytest.raises(TypeError, match=r"`diff` must be float64. Received: float32"):
        model.descriptor(
            [keras.Input((None, None, 3)) for _ in range(TYPES)],
            separations()[1],
            natoms=[4, 4],
        )
    floats = tuple(tf.cast(n, tf.float64) for n in inputs["nlist"])
    with pytest.raises(TypeError, match=r"`nlist` must hold integers. Received: float"):
        model({**inputs, "nlist": floats})
    own = Own(model)
    own.compile("sgd", deepspin.EnerSpinLoss(), jit_compile=False)
    same = {k: inputs["coord"][..., 0] if "m" in k else labels[k] for k in own(inputs)}
    with pytest.raises(TypeError, match=r"at once, in dicts.*define compute_loss"):
        own.fit(tf.data.Dataset.from_tensors((inputs, same)), shuffle=False, verbose=0)
    loss = deepspin.EnerSpinLoss()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            loss(labels, model(inputs))
    assert caplog.text.count("no `learning_rate` among the labels") == 1
