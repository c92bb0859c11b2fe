# SPDX-License-Identifier: Apache-2.0
"""Means of errors, and what Keras' callbacks make of them."""

import keras
import numpy as np
import pytest
import small_data

import deepspin
from deepspin.modelfiles.archive import load_model


@pytest.fixture
def data(tmp_path, make_model):
    """Two systems, one without magnetic forces, in padded batches."""
    arrays, types = small_data.frames(4)
    first = small_data.write(tmp_path / "a", arrays, types)
    del arrays["force_mag"]
    second = small_data.write(tmp_path / "b", arrays, types)
    spec = make_model("NiO").data_spec
    return deepspin.DataSystem([str(first), str(second)], **spec, batch_size=3)


def compiled(model, **options):
    loss = deepspin.EnerSpinLoss(
        start_pref_e=1, limit_pref_e=2, start_pref_fm=5, limit_pref_fm=0.5
    )
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False, **options)
    return model


def test_score_is_the_loss_at_the_limit(make_model, data):
    """Whatever the learning rate is."""
    model = compiled(make_model("NiO", neuron=(2, 4)))
    inputs, labels = data.batch(0)
    outputs = model(inputs)
    score = float(model.loss_function(labels | {"learning_rate": 0.0}, outputs))
    for rate in np.float32([1e-3, 1e-5]):
        model.optimizer.learning_rate.assign(rate)
        loss = float(model.loss_function(labels | {"learning_rate": rate}, outputs))
        model.reset_metrics()  # which an older Keras leaves to us
        found = model.test_on_batch(inputs, labels, return_dict=True)
        assert found["loss"] == pytest.approx(loss, rel=1e-12)
        assert found["score"] == pytest.approx(score, rel=1e-12)
        assert score != pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("monitor", ["val_rmse_fm", "val_score", "rmse_e"])
def test_callbacks_know_which_way_is_better(monitor, make_model, data, tmp_path):
    model = compiled(make_model("NiO", neuron=(2, 4)))
    stop = keras.callbacks.EarlyStopping(monitor, patience=0, min_delta=1e9)
    best = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.keras"), monitor=monitor, save_best_only=True
    )
    plateau = keras.callbacks.ReduceLROnPlateau(monitor, patience=1)
    history = model.fit(
        data,
        epochs=4,
        validation_data=data,
        verbose=0,
        callbacks=[stop, best, plateau],
    ).history
    assert len(history["loss"]) == 2  # no epoch is better by so much
    for callback in (stop, best):
        assert callback.monitor_op in (keras.ops.less, np.less)
    assert load_model(tmp_path / "best.keras").type_map == ["Ni", "O"]


def test_own_metrics(make_model, data, tmp_path):
    """Means over the components of the atoms that count."""
    metrics = {"force_mag": ["mae", keras.metrics.RootMeanSquaredError()]}
    metrics |= {"energy": "mse", "virial": "mae", "atom_ener": "mae"}
    model = compiled(make_model("NiO", neuron=(2, 4)), metrics=metrics)
    found = model.evaluate(data.dataset(steps=6), verbose=0, return_dict=True)
    differences, energies = [], []
    for step in range(6):
        inputs, labels = data.batch(step)
        outputs = {k: np.array(v) for k, v in model(inputs).items()}
        there = outputs["mask"].any(axis=1)
        energies.append((outputs["energy"] - labels["energy"])[there])
        known = (outputs["mask_mag"] > 0) & (labels["find_force_mag"] > 0)[:, None]
        differences.append((outputs["force_mag"] - labels["force_mag"])[known])
    assert {len(d) for d in differences} == {0, 12}  # both systems, no padding
    rows = np.concatenate(differences)
    want = {
        "force_mag_mae": np.abs(rows).mean(),
        "force_mag_root_mean_squared_error": np.sqrt((rows**2).mean()),
        "energy_mse": (np.concatenate(energies) ** 2).mean(),
    }
    assert {k: found[k] for k in want} == pytest.approx(want, rel=1e-5)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert again.evaluate(data, verbose=0, return_dict=True).keys() == found.keys()


def test_refused(make_model):
    model = make_model("NiO", neuron=(2, 4))
    for metrics in (["mae"], {"mask": "mae"}, "mae"):
        with pytest.raises(ValueError, match=r'such as {"force_mag": "mae"}'):
            compiled(model, metrics=metrics)
    for name in ("loss_weights", "weighted_metrics"):
        with pytest.raises(ValueError, match=rf"\['{name}'\] have no use here"):
            compiled(model, **{name: {"force": 1.0}})
    with pytest.raises(TypeError, match=r"deepspin.EnerSpinLoss.*Received: 'mse'"):
        model.compile("adam", "mse")


def test_a_loss_of_ones_own(make_model, data):
    """Dicts go in, whatever comes out is made small."""

    class Energies(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.square(y_true["energy"] - y_pred["energy"])

    model = make_model("NiO", neuron=(2, 4))
    model.compile(keras.optimizers.Adam(1e-2), Energies(dtype="float64"))
    history = model.fit(data, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_frames_without_a_label(make_model, tmp_path):
    """Errors are those of the frames that have it, by hand; NaN does not spread."""
    arrays, types = small_data.frames(4)
    has = np.array([True, False, True, True])
    arrays["force_mag"][~has] = np.nan
    path = small_data.write(tmp_path / "s", arrays, types)
    model = make_model("NiO", neuron=(2, 4))
    data = deepspin.DataSystem(str(path), **model.data_spec, batch_size=4)
    compiled(model, metrics={"force_mag": "mae"})
    inputs, labels = data.frames(0, np.arange(4))
    outputs = model(inputs)
    magnetic = np.asarray(outputs["mask_mag"]) > 0
    wrong = np.asarray(outputs["force_mag"])[has][magnetic[has]]
    wrong = wrong - labels["force_mag"][has][magnetic[has]]
    energy = (np.asarray(outputs["energy"]) - labels["energy"]) / 8
    for given in (labels, {**labels, "force_mag": with_nan(labels["force_mag"], has)}):
        model.reset_metrics()
        found = model.test_on_batch(inputs, given, return_dict=True)
        assert found["rmse_fm"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-12)
        assert found["rmse_e"] == pytest.approx(np.sqrt((energy**2).mean()), rel=1e-12)
        mae = np.abs(wrong).mean()  # which Keras has in float32
        assert found["force_mag_mae"] == pytest.approx(mae, rel=1e-6)
        forces = np.asarray(outputs["force"]) - labels["force"]  # prefactor 1000
        loss = 8 * (energy**2).mean() + 5 * (wrong**2).mean()
        loss += 1000 * (forces**2).mean()
        assert found["loss"] == pytest.approx(loss, rel=1e-12)


def with_nan(values, has):
    return np.where(has[:, None, None], values, np.nan)
