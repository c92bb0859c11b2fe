# SPDX-License-Identifier: Apache-2.0
"""Several batches that make one update."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import small_data

import deepspin
from deepspin.loss.learning_rate import ExpDecay, build_optimizer
from deepspin.op.adam import steps_made

EVERY, BATCH, UPDATES = 3, 2, 3
NEEDED = pytest.mark.skipif(
    not hasattr(keras.optimizers.SGD(0.1), "_iterations"),
    reason="Keras before 3.5 accumulates otherwise, and is refused",
)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accumulated") / "s"
    return str(small_data.write(folder, *small_data.frames(EVERY * BATCH * 2)))


def data_of(model, system, batch_size):
    return deepspin.DataSystem(system, **model.data_spec, batch_size=batch_size, seed=3)


def build(make_model):
    return make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))


def trained(make_model, system, acc_freq, options):
    """A model after as many updates, of as many frames each."""
    model = build(make_model)
    rate = {"numb_steps": UPDATES * acc_freq, "decay_steps": acc_freq}
    schedule = ExpDecay(1e-2, stop_lr=1e-3, acc_freq=acc_freq, **rate)
    if options:
        optimizer = build_optimizer(schedule, acc_freq=acc_freq, **options)
    else:
        several = {"gradient_accumulation_steps": acc_freq} if acc_freq > 1 else {}
        optimizer = keras.optimizers.SGD(schedule, **several)
    model.compile(optimizer, deepspin.EnerSpinLoss(start_lr=1e-2))
    data = data_of(model, system, BATCH * EVERY // acc_freq)
    for steps in (1, UPDATES * acc_freq - 1):  # in two calls
        model.fit(data, steps_per_epoch=steps, verbose=0)
    assert steps_made(model.optimizer) == UPDATES * acc_freq
    return model


@NEEDED
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-12),  # what Keras' SGD takes off is the gradient itself
        ({"gradient_max_norm": 0.1}, 1e-9),  # Adam divides by what may be small
        ({"type": "AdamW", "weight_decay": 0.1}, 1e-9),
    ],
)
def test_as_one_batch_of_all_frames(make_model, system, options, tolerance):
    """Rate and prefactors are those of the first; clipping and decay see the mean."""
    small, large = (trained(make_model, system, n, options) for n in (EVERY, 1))
    one, other = (data_of(large, system, BATCH * n) for n in (1, EVERY))
    for k in range(UPDATES):
        parts = [one.plan(EVERY * k + part)[1] for part in range(EVERY)]
        assert sorted(np.concatenate(parts)) == sorted(other.plan(k)[1])
    models = (build(make_model), small, large)
    rows = (model.trainable_variables for model in models)
    for start, a, b in zip(*rows, strict=True):
        assert (start.numpy() != a.numpy()).any()
        scale = np.abs(b.numpy()).max()
        assert np.abs(a.numpy() - b.numpy()).max() <= tolerance * scale


@NEEDED
def test_weights_stay_between_updates(make_model, system):
    """And what is accumulated is saved with the model."""
    model = build(make_model)
    optimizer = keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2)
    model.compile(optimizer, deepspin.EnerSpinLoss())
    data = data_of(model, system, 2)
    before = [w.numpy() for w in model.trainable_variables]
    model.fit(data, steps_per_epoch=1, verbose=0)
    for a, b in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    assert any(g.numpy().any() for g in optimizer._accumulated_gradients)
    model.fit(data, steps_per_epoch=1, verbose=0)
    changed = [
        (a != b.numpy()).any()
        for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    assert all(changed)


def test_rate_of_the_first():
    rate = ExpDecay(1e-2, 8, stop_lr=1e-4, smooth=True, acc_freq=4)
    plain = ExpDecay(1e-2, 8, stop_lr=1e-4, smooth=True)
    found = [float(rate(step)) for step in range(8)]
    assert found == [float(plain(0))] * 4 + [float(plain(4))] * 4
    assert rate.get_config()["acc_freq"] == 4
    with pytest.raises(ValueError, match="`acc_freq` must be 1 or more"):
        ExpDecay(1e-2, 8, stop_lr=1e-4, acc_freq=0)


def test_older_keras(make_model, monkeypatch):
    model = build(make_model)

    class Older:
        """An optimizer of Keras 3.3."""

        gradient_accumulation_steps = 2
        learning_rate = 1e-3

    monkeypatch.setattr(keras.optimizers, "get", lambda optimizer: optimizer)
    with pytest.raises(ValueError, match=r"Use Keras 3\.5 or later, or larger"):
        model.compile(Older(), deepspin.EnerSpinLoss())
