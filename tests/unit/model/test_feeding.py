# SPDX-License-Identifier: Apache-2.0
"""What a model is fed with, in Keras' ways: the same batches, nothing lost."""

import copy
import pickle

import keras
import numpy as np
import pytest
import small_data
import tensorflow as tf
from keras.callbacks import CallbackList

import deepspin
from deepspin.modelfiles.archive import load_model
from deepspin.op.library import KernelError

STEPS = 3


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Folder of a system of 8 frames."""
    folder = tmp_path_factory.mktemp("fed") / "s"
    return str(small_data.write(folder, *small_data.frames(8)))


@pytest.fixture
def data(system, build):
    return deepspin.DataSystem(system, **build().data_spec, batch_size=2, seed=3)


@pytest.fixture(scope="module")
def build(make_model):
    """A compiled model, always the same."""

    def call(**options):
        model = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
        schedule = deepspin.ExpDecay(1e-3, 100, stop_lr=1e-4)
        model.compile(
            keras.optimizers.Adam(schedule),
            deepspin.EnerSpinLoss(),
            jit_compile=False,
            **options,
        )
        return model

    return call


@pytest.fixture(scope="module")
def whole(system, build):
    """Weights after twice `STEPS` steps in one call."""
    model = build()
    data = deepspin.DataSystem(system, **model.data_spec, batch_size=2, seed=3)
    model.fit(data.dataset(0), steps_per_epoch=2 * STEPS, verbose=0)
    return model.get_weights()


def assert_same(model, weights):
    for found, want in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, want)


def arrays(data):
    """All frames of the first system, as one dict of inputs and one of labels."""
    return data.frames(0, np.arange(8)[: data.shapes[0].nframes])


# -- batches go on ---------------------------------------------------------------------

WAYS = {
    "DataSystem": lambda data: data,
    "dataset": lambda data: data.dataset(),
    "mapped": lambda data: data.dataset().map(lambda x, y: (x, y)).prefetch(1),
}


@pytest.mark.parametrize("way", WAYS)
def test_two_calls_are_one(way, data, build, whole):
    """Also with the same data set object again."""
    model, given = build(), WAYS[way](data)
    for _ in range(2):
        model.fit(given, steps_per_epoch=STEPS, verbose=0)
    assert_same(model, whole)


def test_arrays_in_memory_are_files(build, whole):
    """Training on them is training on files."""
    model, (arrays, types) = build(), small_data.frames(8)
    given = {**arrays, "atype": np.array(["Ni", "O"])[types]}
    data = deepspin.DataSystem.from_arrays(
        given, **model.data_spec, batch_size=2, seed=3
    )
    model.fit(data, steps_per_epoch=2 * STEPS, verbose=0)
    assert_same(model, whole)


def test_a_loaded_model_goes_on(data, build, whole, tmp_path):
    model = build()
    model.fit(data, steps_per_epoch=STEPS, verbose=0)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    again.fit(data.dataset(), steps_per_epoch=STEPS, verbose=0)
    assert_same(again, whole)


def test_backup_and_restore(data, build, whole, tmp_path):
    """An interrupted training goes on where its backup is."""

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(model, *more):
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        model.fit(
            data, steps_per_epoch=STEPS, epochs=2, verbose=0, callbacks=[backup, *more]
        )

    with pytest.raises(KeyboardInterrupt):
        fit(build(), Interrupted())
    model = build()
    fit(model)
    assert int(model.optimizer.iterations.numpy()) == 2 * STEPS
    assert_same(model, whole)


def test_an_epoch_of_a_system(data, build):
    """As many batches as frames fill; validation looks at each frame once."""
    model = build()
    history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
    assert int(model.optimizer.iterations.numpy()) == 2 * 4
    again = model.evaluate(data, verbose=0, return_dict=True)
    assert again["rmse_fm"] == pytest.approx(history["val_rmse_fm"][-1], rel=1e-12)
    batches = list(data.spread(8))
    assert sum(int(inputs["mask"][0].any(axis=1).sum()) for inputs, _ in batches) == 8
    errors = [float(model.errors(*batch)["rmse_fm"]) for batch in batches]
    assert again["rmse_fm"] == pytest.approx(
        np.sqrt(np.mean(np.square(errors))), rel=1e-12
    )
    few = model.evaluate(data, steps=3, verbose=0, return_dict=True)
    same = model.evaluate(data.dataset(steps=3), verbose=0, return_dict=True)
    assert few == same != again


def test_callbacks_in_any_form(data, build):
    """One, a list, or Keras' own list of them."""

    class Count(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    for form in (lambda c: c, lambda c: [c], lambda c: CallbackList([c])):
        callback = Count()
        build().fit(data, steps_per_epoch=1, verbose=0, callbacks=form(callback))
        assert callback.epochs == 1


# -- arrays ----------------------------------------------------------------------------


def test_arrays_keep_their_precision(data, build):
    """A step on a dict of arrays is that on the batch."""
    inputs, labels = arrays(data)
    one, two, three = build(), build(), build()
    one.fit(inputs, labels, batch_size=2, shuffle=False, verbose=0)
    two.train_on_batch(inputs, labels)
    batches = tf.data.Dataset.from_tensors((inputs, labels))
    three.fit(batches, verbose=0)
    assert_same(two, one.get_weights())
    assert_same(three, one.get_weights())


@pytest.mark.parametrize("size", [1.5, float("nan"), True, 0, "2"])
def test_batch_size_is_a_number_of_frames(data, build, size):
    inputs, labels = arrays(data)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least"):
        build().fit(inputs, labels, batch_size=size, verbose=0)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least"):
        build().predict(inputs, batch_size=size, verbose=0)


def test_evaluate_and_predict_arrays(data, build):
    model, (inputs, labels) = build(), arrays(data)
    want = {k: float(v) for k, v in model.errors(inputs, labels).items()}
    for found in (
        model.evaluate(inputs, labels, verbose=0, return_dict=True),
        model.test_on_batch(inputs, labels, return_dict=True),
    ):
        assert {k: found[k] for k in want} == pytest.approx(want, rel=1e-12)
    found, want = model.predict(inputs, verbose=0), model(inputs)
    for key in ("energy", "force", "force_mag", "virial"):
        assert found[key].dtype == np.float64
        np.testing.assert_allclose(found[key], want[key], rtol=1e-12, atol=1e-14)


def test_validation_of_arrays(system, build):
    """By a pair, or split from the end."""
    model = build()
    data = deepspin.DataSystem(system, **model.data_spec, batch_size=8)
    inputs, labels = data.frames(0, np.arange(8))
    last = data.frames(0, np.arange(6, 8))
    last = tf.nest.map_structure(lambda array: array[:2], last)
    split = model.fit(inputs, labels, validation_split=0.25, verbose=0).history
    want = model.evaluate(*last, verbose=0, return_dict=True)
    assert split["val_rmse_e"][0] == pytest.approx(want["rmse_e"], rel=1e-12)
    pair = build().fit(inputs, labels, validation_data=last, verbose=0).history
    assert np.isfinite(pair["val_rmse_e"]).all()


def test_predictions_of_several_shapes(system, build, tmp_path):
    """Padded with zeros, as `mask` tells."""
    arrays, types = small_data.frames(2)
    boxes = {"box": arrays["box"] * np.repeat([2, 1, 1], 3)}
    twice = {
        k: np.concatenate([v, v + (np.eye(3)[0] * small_data.LATTICE)], axis=1)
        if k == "coord"
        else np.concatenate([v, v], axis=1)
        for k, v in arrays.items()
        if v.ndim == 3
    }
    folder = small_data.write(
        tmp_path / "two", {**twice, **boxes}, np.concatenate([types, types])
    )
    model = build()
    data = deepspin.DataSystem(
        [system, str(folder)], **model.data_spec, batch_size=1, max_shapes=2
    )
    assert len(set(data.shapes)) == 2
    batches = [data.batch(step)[0] for step in range(12)]
    found = model.predict(data.dataset(steps=12), verbose=0)
    assert {b["coord"].shape[1] for b in batches} == {8, 16}
    for frame, inputs in enumerate(batches):
        n = inputs["coord"].shape[1]
        want = model(inputs)["force"][0]
        np.testing.assert_allclose(
            found["force"][frame, :n], want, rtol=1e-12, atol=1e-14
        )
        assert not found["force"][frame, n:].any()
        assert not found["mask"][frame, n:].any()


# -- what is refused -------------------------------------------------------------------


def test_refused(data, build):
    model, (inputs, labels) = build(), arrays(data)
    with pytest.raises(ValueError, match=r"never ends.*steps_per_epoch"):
        model.fit(data.dataset(), verbose=0)
    with pytest.raises(ValueError, match=r"never ends.*validation_steps"):
        model.fit(data, validation_data=data.dataset(), verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight.*sys_probs"):
        model.fit(inputs, labels, sample_weight=np.ones(2), verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight.*sys_probs"):
        model.train_on_batch(inputs, labels, sample_weight=np.ones(2))
    with pytest.raises(ValueError, match=r"same number of frames.*[1, 2]"):
        model.fit(inputs, {k: v[:1] for k, v in labels.items()}, verbose=0)
    with pytest.raises(ValueError, match=r"validation_split.*dicts of arrays"):
        model.fit(data, validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match=r"leaves no frames to one side of 2"):
        model.fit(inputs, labels, validation_split=0.6, verbose=0)
    with pytest.raises(TypeError, match=r"Labels must be a dict.*NoneType"):
        model.fit(tf.data.Dataset.from_tensors(inputs), verbose=0)
    few = {k: v for k, v in inputs.items() if k not in ("mask", "nlist")}
    with pytest.raises(ValueError, match=r"no \['mask', 'nlist'\]. For frames as they"):
        model(few)
    with pytest.raises(ValueError, match=r"inputs are a dict.*Received: ndarray"):
        model(inputs["coord"])


def test_divergence_is_one_line(data, build):
    """With kernels, weights that grow for ever end in an error that says where."""
    model = build()
    model.compile(keras.optimizers.SGD(1e6), deepspin.EnerSpinLoss())
    if not model.native:
        pytest.skip("deepspin was installed without kernels")
    with pytest.raises(KernelError, match=r"That was step \d+, on frames \[.*lower"):
        model.fit(data, epochs=9, verbose=0)


# -- files, optimizers -----------------------------------------------------------------

REFUSED = {
    "LossScaleOptimizer": r"Losses are not scaled here.*Received: LossScaleOptimizer",
    "MultiOptimizer": r"MultiOptimizer has no learning rate of its own",
}
# all that this version of Keras has
OPTIMIZERS = [
    name
    for name, kind in sorted(vars(keras.optimizers).items())
    if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    if name not in ("Optimizer", *REFUSED)
]


@pytest.mark.parametrize("name", [n for n in REFUSED if hasattr(keras.optimizers, n)])
def test_refused_optimizers(name, build):
    inner = keras.optimizers.Adam(1e-3)
    if name == "MultiOptimizer":
        inner = keras.optimizers.OptimizerMap(inner)
    optimizer = getattr(keras.optimizers, name)(inner)
    with pytest.raises(ValueError, match=REFUSED[name]):
        build().compile(optimizer, deepspin.EnerSpinLoss(), jit_compile=False)


def test_optimizers_are_found():
    assert len(OPTIMIZERS) >= 11 and {"Adam", "Lion", "Ftrl"} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, data, build):
    """Each of Keras' makes its steps."""
    model = build()
    optimizer = getattr(keras.optimizers, name)(1e-3)
    model.compile(optimizer, deepspin.EnerSpinLoss(), run_eagerly=True)
    before = model.get_weights()
    history = model.fit(data, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = model.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_gradients_know_their_shapes(data, build):
    """With the kernels, too: half of the optimizers ask, as their graph is made."""
    model, batch = build(), data.batch(0)
    shapes = []

    @tf.function
    def look(inputs, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, labels, model(inputs, training=True))
        shapes.extend(g.shape for g in tape.gradient(loss, model.trainable_variables))
        return loss

    look.get_concrete_function(*batch)
    assert shapes == [tuple(w.shape) for w in model.trainable_variables]


@pytest.mark.parametrize(
    "again", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy]
)
def test_a_copy_is_the_model(again, data, build, whole):
    """Training goes on after it, and the first is left as it was."""
    model = build()
    model.fit(data, steps_per_epoch=STEPS, verbose=0)
    before = model.get_weights()
    second = again(model)
    second.fit(data, steps_per_epoch=STEPS, verbose=0)
    assert_same(second, whole)
    assert_same(model, before)


def test_a_clone_begins_anew(data, build):
    """As compiled, with the weights of the start and without statistics."""
    model, first = build(), build()
    model.compute_stats(data.sample(1))
    model.fit(data, steps_per_epoch=1, verbose=0)
    clone = keras.models.clone_model(model)
    assert int(clone.optimizer.iterations.numpy()) == 0
    assert clone.loss_function.get_config() == model.loss_function.get_config()
    assert not np.asarray(clone.descriptor.davg).any()
    for layer, other in ((clone.fitting, first.fitting), (clone.spin, first.spin)):
        assert [w.shape for w in layer.weights] == [w.shape for w in other.weights]
    clone.set_weights(model.get_weights())
    assert_same(clone, model.get_weights())


def test_files_that_nothing_reads(build, tmp_path):
    for name in ("m.h5", "m.hdf5"):
        with pytest.raises(ValueError, match=r"saved as '.keras'.*save_weights"):
            build().save(tmp_path / name)
    with pytest.raises(ValueError, match="dp-spin freeze"):
        build().export(str(tmp_path / "served"))
    assert not list(tmp_path.iterdir())
