# SPDX-License-Identifier: Apache-2.0
"""The loss against its formulas in numpy, alone and inside `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import deepspin
from deepspin.loss.learning_rate import build_optimizer

NF, NLOC = 3, 5
NATOMS = np.array([7.0, 6.0, 4.0])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 0, 1, 1, 0]], dtype=float)
MASK_MAG = MASK * np.array([1, 1, 0, 0, 0])
SHAPES = {
    "energy": (NF,),
    "force": (NF, NLOC, 3),
    "force_mag": (NF, NLOC, 3),
    "virial": (NF, 3, 3),
    "atom_ener": (NF, NLOC),
}
TERMS = {
    "e": "energy",
    "ae": "atom_ener",
    "fr": "force",
    "fm": "force_mag",
    "v": "virial",
}
PREFACTORS = {
    "start_pref_e": 0.02, "limit_pref_e": 1.0,
    "start_pref_fr": 100.0, "limit_pref_fr": 1.0,
    "start_pref_fm": 300.0, "limit_pref_fm": 10.0,
    "start_pref_v": 0.5, "limit_pref_v": 2.0,
    "start_pref_ae": 3.0, "limit_pref_ae": 0.0,
}  # fmt: skip


def tensors(arrays):
    return {name: tf.constant(array, tf.float64) for name, array in arrays.items()}


@pytest.fixture
def pred():
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    return {**arrays, "mask": MASK, "mask_mag": MASK_MAG}


@pytest.fixture
def label():
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    arrays |= {f"find_{name}": np.ones(NF) for name in SHAPES}
    return {**arrays, "natoms": NATOMS}


def formulas(label, pred, *, mae=False, intensive=False, energy=None):
    """Loss and reported error of each term, frames without the label left out."""
    power = np.abs if mae else np.square
    result = {}
    for term, name in TERMS.items():
        value = energy if term == "e" and energy is not None else pred[name]
        square = power(value - label[name])
        frames = label[f"find_{name}"] > 0
        if name in ("energy", "virial"):
            square = square.reshape(NF, -1).mean(axis=1)[frames]
            n = NATOMS[frames]
            loss = (square / n ** (2 if intensive and not mae else 1)).mean()
            error = (square / n).mean() if mae else np.sqrt((square / n**2).mean())
        else:
            mask = MASK_MAG if name == "force_mag" else MASK
            loss = square[(mask > 0) & frames[:, None]].mean()
            error = loss if mae else np.sqrt(loss)
        result[term] = (loss, error)
    return result


@pytest.mark.parametrize("intensive", [False, True])
@pytest.mark.parametrize("loss_func", ["mse", "mae"])
@pytest.mark.parametrize("rate", [None, 1e-3, 2.5e-4, 0.0])
def test_formulas(pred, label, loss_func, intensive, rate):
    loss = deepspin.EnerSpinLoss(
        **PREFACTORS, loss_func=loss_func, intensive_ener_virial=intensive
    )
    want = formulas(label, pred, mae=loss_func == "mae", intensive=intensive)
    y_true = tensors(label)
    if rate is not None:
        y_true["learning_rate"] = tf.constant(rate, tf.float64)
    fraction = 1.0 if rate is None else rate / 1e-3
    total = 0.0
    for term, (value, _) in want.items():
        start = PREFACTORS[f"start_pref_{term}"]
        limit = PREFACTORS[f"limit_pref_{term}"]
        total += (limit + (start - limit) * fraction) * value
    result = loss(y_true, tensors(pred))
    assert result.dtype == tf.float64
    assert result.shape == ()
    np.testing.assert_allclose(result, total, rtol=1e-13)
    errors = loss.rmse(y_true, tensors(pred))
    kind = "rmse" if loss_func == "mse" else "mae"
    assert list(errors) == ["rmse", *(f"{kind}_{term}" for term in TERMS)]
    np.testing.assert_allclose(errors["rmse"], np.sqrt(total), rtol=1e-13)
    for term, (_, error) in want.items():
        np.testing.assert_allclose(errors[f"{kind}_{term}"], error, rtol=1e-13)


@pytest.mark.parametrize("name", TERMS.values())
@pytest.mark.parametrize("how", ["find 0", "no key", "one frame"])
def test_missing_labels(pred, label, name, how):
    loss = deepspin.EnerSpinLoss(**PREFACTORS)
    label[f"find_{name}"] = np.array([0.0, 1.0, 0.0] if how == "one frame" else [0] * 3)
    y_true = tensors(label)
    if how == "no key":
        del y_true[name], y_true[f"find_{name}"]
    if how == "one frame":
        want = formulas(label, pred)
    else:
        want = formulas({**label, f"find_{name}": np.ones(NF)}, pred)
        want = {term: row for term, row in want.items() if TERMS[term] != name}
    total = sum(PREFACTORS[f"start_pref_{term}"] * row[0] for term, row in want.items())
    np.testing.assert_allclose(loss(y_true, tensors(pred)), total, rtol=1e-13)
    errors = loss.rmse(y_true, tensors(pred))
    for term in TERMS:
        if term in want:
            np.testing.assert_allclose(errors[f"rmse_{term}"], want[term][1])
        else:
            assert np.isnan(errors[f"rmse_{term}"])


def test_missing_label_has_no_gradient(pred, label):
    """Garbage under `find` 0 reaches neither loss nor gradient."""
    loss = deepspin.EnerSpinLoss(**PREFACTORS)
    label["find_force"] = np.zeros(NF)
    label["force"] = np.full(SHAPES["force"], 1e8)
    y_pred = tensors(pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred["force"])
        value = loss(tensors(label), y_pred)
    assert float(value) < 1e5
    gradient = tape.gradient(value, y_pred["force"])
    assert gradient is None or not np.any(gradient)


def test_natoms_default_to_the_mask(pred, label):
    loss = deepspin.EnerSpinLoss(**PREFACTORS)
    y_true = tensors(label)
    del y_true["natoms"]
    same = {**tensors(label), "natoms": tf.constant(MASK.sum(axis=1))}
    np.testing.assert_array_equal(
        loss(y_true, tensors(pred)), loss(same, tensors(pred))
    )


def test_atom_ener_coeff(pred, label):
    loss = deepspin.EnerSpinLoss(**PREFACTORS, enable_atom_ener_coeff=True)
    coefficients = np.random.default_rng(2).normal(size=(NF, NLOC))
    y_true = tensors({**label, "atom_ener_coeff": coefficients})
    energy = (coefficients * pred["atom_ener"]).sum(axis=1)
    want = formulas(label, pred, energy=energy)
    total = sum(PREFACTORS[f"start_pref_{term}"] * row[0] for term, row in want.items())
    np.testing.assert_allclose(loss(y_true, tensors(pred)), total, rtol=1e-13)
    plain = deepspin.EnerSpinLoss(**PREFACTORS)
    assert float(plain(y_true, tensors(pred))) != pytest.approx(total, rel=1e-6)


def test_masked_atoms_do_not_count(pred, label):
    loss = deepspin.EnerSpinLoss(**PREFACTORS)
    want = float(loss(tensors(label), tensors(pred)))
    for name in ("force", "atom_ener"):
        label[name][MASK == 0] = 1e6
    label["force_mag"][MASK_MAG == 0] = 1e6
    assert float(loss(tensors(label), tensors(pred))) == want


def test_terms_without_prefactor():
    loss = deepspin.EnerSpinLoss(
        start_pref_e=0, limit_pref_e=0, start_pref_v=0, limit_pref_v=1e-3
    )
    assert loss.active == ["fr", "fm", "v"]
    assert loss.names == ["rmse", "rmse_fr", "rmse_fm", "rmse_v"]
    none = deepspin.EnerSpinLoss(0, 0, 0, 0, 0, 0)
    assert none.names == ["rmse"]
    assert float(none({"natoms": tf.ones(1)}, {"energy": tf.ones(1)})) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            **PREFACTORS,
            "loss_func": "mae",
            "intensive_ener_virial": True,
            "enable_atom_ener_coeff": True,
            "start_lr": 5e-4,
        },
    ],
)
def test_config_round_trip(options, pred, label):
    loss = deepspin.EnerSpinLoss(**options)
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == loss.get_config()
    assert copy.dtype == "float64"
    for name, value in options.items():
        assert copy.get_config()[name] == value
    y_true = {**tensors(label), "atom_ener_coeff": tf.ones((NF, NLOC), tf.float64)}
    np.testing.assert_array_equal(
        copy(y_true, tensors(pred)), loss(y_true, tensors(pred))
    )


def test_unknown_loss_func():
    with pytest.raises(ValueError, match=r"'mse' or 'mae'.*'huber'"):
        deepspin.EnerSpinLoss(loss_func="huber")


# -- in training ---------------------------------------------------------------------


def weight(term, rate):
    start, limit = PREFACTORS[f"start_pref_{term}"], PREFACTORS[f"limit_pref_{term}"]
    return limit + (start - limit) * float(rate) / 1e-3


class Record(keras.callbacks.Callback):
    """Keep the logs of every step."""

    def on_train_begin(self, logs=None):
        self.rows = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # values of this step, not means

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append(dict(logs))


def test_fit_and_evaluate(make_model, make_nio, make_inputs, make_labels):
    """Prefactors follow the rate of each step; `evaluate` reports the same errors."""
    model = make_model("ONi", type_one_side=True, neuron=(2, 4))
    inputs, _ = make_inputs(model, [make_nio(model, k) for k in range(2)])
    labels = make_labels(inputs)
    schedule = deepspin.ExpDecay(1e-3, 6, stop_lr=1e-5, decay_steps=2)
    loss = deepspin.EnerSpinLoss(**PREFACTORS, start_lr=1e-3)
    model.compile(optimizer=build_optimizer(schedule), loss=loss, jit_compile=False)
    data = tf.data.Dataset.from_tensors((inputs, labels))
    want, wanted_errors = [], []

    class Predict(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rate = schedule(batch)
            y_true = {**labels, "learning_rate": rate}
            output = model(inputs)
            terms = loss.terms(y_true, output)
            want.append(sum(weight(t, rate) * float(terms[t][0]) for t in terms))
            wanted_errors.append(loss.rmse(y_true, output))

    record = Record()
    model.fit(
        data.repeat(5),
        steps_per_epoch=5,
        verbose=0,
        shuffle=False,
        callbacks=[record, Predict()],
    )
    found = [row["loss"] for row in record.rows]
    np.testing.assert_allclose(found, want, rtol=1e-7)
    assert len(set(found)) == 5
    for row, errors in zip(record.rows, wanted_errors, strict=True):
        assert set(row) == {"loss", "score", *loss.names}
        for name, value in errors.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-7, err_msg=name)
    evaluated = model.evaluate(data, verbose=0, return_dict=True)
    errors = model.errors(inputs, labels)
    assert evaluated["loss"] == pytest.approx(float(errors["rmse"]) ** 2, rel=1e-6)
    for name, value in errors.items():
        assert evaluated[name] == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("loss_func", ["mse", "mae"])
@pytest.mark.parametrize("component", ["transverse", "longitudinal"])
def test_part_of_the_magnetic_forces(component, loss_func, label, pred):
    """Along the spins one number counts, across them three; a spin of 0 does not."""
    spin = np.random.default_rng(2).normal(size=(NF, NLOC, 3)) * MASK_MAG[..., None]
    spin[1, 1] = 0.0
    label["find_force_mag"] = np.array([1.0, 1.0, 0.0])
    parts = []
    for f, i in ((0, 0), (0, 1), (1, 0)):
        wrong = (pred["force_mag"] - label["force_mag"])[f, i]
        direction = spin[f, i] / np.linalg.norm(spin[f, i])
        along = wrong @ direction
        across = np.cross(direction, np.cross(wrong, direction))
        parts.append(along if component == "longitudinal" else across)
    expected = np.mean((np.square if loss_func == "mse" else np.abs)(parts))
    off = {f"{end}_pref_{t}": 0.0 for t in TERMS for end in ("start", "limit")}
    loss = deepspin.EnerSpinLoss(
        **{**off, "start_pref_fm": 2.0, "limit_pref_fm": 2.0},
        loss_func=loss_func,
        fm_component=component,
    )
    found = loss(tensors({**label, "spin": spin}), tensors(pred))
    np.testing.assert_allclose(found, 2.0 * expected, rtol=1e-13)
    with pytest.raises(ValueError, match="need the spins among the labels"):
        loss(tensors(label), tensors(pred))
    assert loss.get_config()["fm_component"] == component


def test_part_that_there_is_not():
    with pytest.raises(ValueError, match="`fm_component` must be one of"):
        deepspin.EnerSpinLoss(fm_component="across")


def test_rate_above_the_start(label, pred):
    """Prefactors stay those of the start: no loss is negative."""
    loss = deepspin.EnerSpinLoss(**PREFACTORS, start_lr=1e-3)
    at_start, above = (
        loss(tensors({**label, "learning_rate": rate}), tensors(pred))
        for rate in (1e-3, 5e-2)
    )
    np.testing.assert_array_equal(above, at_start)


def test_batch_without_magnetic_atoms(label, pred):
    """It has no error of magnetic forces, rather than one of 0."""
    pred["mask_mag"] = np.zeros_like(MASK_MAG)
    for component in ("full", "transverse"):
        loss = deepspin.EnerSpinLoss(fm_component=component)
        spin = np.ones((NF, NLOC, 3))
        given = tensors({**label, "spin": spin})
        assert np.isnan(loss.rmse(given, tensors(pred))["rmse_fm"])
        assert np.isfinite(loss(given, tensors(pred)))


@pytest.mark.parametrize("loss_func", ["mse", "mae"])
def test_weight_of_what_is_along(loss_func, label, pred):
    """It changes the loss, not the error; a spin of 0 has nothing along it."""
    spin = np.random.default_rng(2).normal(size=(NF, NLOC, 3)) * MASK_MAG[..., None]
    spin[1, 1] = 0.0
    total, count = 0.0, 0
    for f, i in np.argwhere(MASK_MAG > 0):
        wrong = (pred["force_mag"] - label["force_mag"])[f, i]
        length = np.linalg.norm(spin[f, i])
        direction = spin[f, i] / length if length else np.zeros(3)
        along = (wrong @ direction) * direction
        power = np.square if loss_func == "mse" else np.abs
        total += power(wrong - along).sum() + 0.25 * power(along).sum()
        count += 3
    given = tensors({**label, "spin": spin})
    losses = [
        deepspin.EnerSpinLoss(loss_func=loss_func, fm_longitudinal=weight)
        for weight in (1.0, 0.25)
    ]
    (plain, error, _), (weighted, same, _) = (
        loss.terms(given, tensors(pred))["fm"] for loss in losses
    )
    np.testing.assert_allclose(weighted, total / count, rtol=1e-13)
    assert abs(weighted - plain) > 1e-3 and error == same


@pytest.mark.parametrize("loss_func", ["mse", "mae"])
@pytest.mark.parametrize("component", ["full", "transverse"])
def test_nan_that_does_not_count(component, loss_func, label, pred):
    """A frame without a label may hold NaN there: value and gradient are the same."""
    loss = deepspin.EnerSpinLoss(
        **PREFACTORS, loss_func=loss_func, fm_component=component, fm_longitudinal=0.5
    )
    spin = np.random.default_rng(2).normal(size=(NF, NLOC, 3))
    y_true = {**label, "spin": spin}
    for name in SHAPES:
        y_true[f"find_{name}"] = np.array([1.0, 0.0, 1.0])
    nan = {name: np.array(y_true[name]) for name in SHAPES}
    for values in nan.values():
        values[1] = np.nan
    found = []
    for given in (y_true, {**y_true, **nan}):
        y_pred = tensors(pred)
        with tf.GradientTape() as tape:
            watched = {name: y_pred[name] for name in SHAPES}
            tape.watch(watched)
            value = loss(tensors(given), {**y_pred, **watched})
        slopes = tape.gradient(value, watched)
        found.append([float(value), *(slopes[name].numpy() for name in SHAPES)])
    assert np.isfinite(found[0][0])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
