# SPDX-License-Identifier: Apache-2.0
"""Whatever the compiled operations are given: an error or NaN, never a crash."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import build
from twins import random_inputs

from deepspin.op import library

REFUSED = (tf.errors.InvalidArgumentError, TypeError, ValueError, IndexError)
FORWARD, POSITIONS, WEIGHTS = (
    "deepspin_potential",
    "deepspin_potential_positions",
    "deepspin_potential_weights",
)
SMALL = {"neuron": (3, 6), "fit_neuron": (5, 5)}
# where `options` has what
NTYPES, NBLOCKS, NNEI, AXIS, THREADS, SET, ONE_SIDE, TABLES, DEPTH = *range(8), 10


pytestmark = pytest.mark.skipif(
    library.operations() is None, reason="deepspin was installed without kernels"
)


class Recorder:
    """The operations, which notes what they are given."""

    def __init__(self):
        self.calls = {}

    def __getattr__(self, name):
        operation = getattr(library.operations(), name)

        def call(**given):
            self.calls[name] = given
            return operation(**given)

        return call


def record(model, inputs) -> dict[str, dict]:
    """What each operation is given in a valid gradient."""
    recorder = Recorder()
    model.spin.operations = lambda descriptor, fitting: recorder
    with tf.GradientTape() as tape:
        tape.watch(inputs["coord"])
        total = sum(map(tf.reduce_sum, model(inputs, training=True).values()))
    tape.gradient(total, [inputs["coord"], *(w.value for w in model.weights)])
    return recorder.calls


@pytest.fixture(scope="module")
def calls():
    model = build("NiO", type_one_side=False, resnet_dt=True, **SMALL)
    return record(model, random_inputs(model))


@pytest.fixture(scope="module", params=[FORWARD, POSITIONS, WEIGHTS])
def operation(request, calls):
    """One operation, what it was given, and how to give it something else."""

    def call(**changed):
        given = {**calls[request.param], **changed}
        answer = getattr(library.operations(), request.param)(**given)
        return [x.numpy() for x in tf.nest.flatten(answer)]

    call.name = request.param
    call.given = calls[request.param]
    return call


def test_valid(operation):
    assert all(np.isfinite(x).all() for x in operation() if x.dtype != np.uint8)


# -- shapes and types ------------------------------------------------------------------

ARRAYS = (
    "options", "numbers", "points", "offset", "box", "mask", "natoms", "nlist",
    "shift", "davg", "dstd", "edges", "weights",
)  # fmt: skip
UPSTREAM = ("kept", "atom_ener_grad", "force_grad", "atom_virial_grad")
CHANGES = {
    "one more row": lambda x: tf.concat([x, x[:1]], axis=0),
    "one row less": lambda x: x[:-1],
    "no rows": lambda x: x[:0],
    "a dimension more": lambda x: x[None],
    "a number": lambda x: tf.reshape(x, [-1])[0],
    "flat": lambda x: tf.reshape(x, [-1, 1, 1, 1, 1]),
    "wider": lambda x: tf.concat([x, x], axis=-1),
    "narrower": lambda x: x[..., :-1],
    "transposed": lambda x: tf.transpose(x),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [*ARRAYS, *UPSTREAM])
def test_shapes(name, change, operation):
    """Each array in turn in another shape, each list with its first array so."""
    if name not in operation.given:
        return
    old = operation.given[name]
    lists = isinstance(old, list)
    first = old[0] if lists else old
    if not first.shape.num_elements():
        return
    try:
        new = CHANGES[change](first)
    except (tf.errors.OpError, ValueError):
        return
    if new.shape == first.shape:
        return
    with pytest.raises(REFUSED):
        operation(**{name: [new, *old[1:]] if lists else new})


@pytest.mark.parametrize("name", ["nlist", "shift", "weights"])
@pytest.mark.parametrize("change", ["less", "more", "none", "turned"])
def test_lists(name, change, operation):
    old = operation.given[name]
    new = {
        "less": old[:-1],
        "more": [*old, old[-1]],
        "none": [],
        "turned": old[::-1],
    }[change]
    with pytest.raises(REFUSED):
        operation(**{name: new})


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", [*ARRAYS, *UPSTREAM])
def test_types(name, dtype, operation):
    if name not in operation.given:
        return
    old = operation.given[name]
    first = old[0] if isinstance(old, list) else old
    if first.dtype == dtype or (name, dtype) == ("weights", "float32"):
        return
    new = tf.nest.map_structure(lambda x: tf.cast(x, dtype), old)
    with pytest.raises((*REFUSED, tf.errors.NotFoundError)):
        operation(**{name: new})


def test_weights_in_another_precision(operation):
    """Single precision where `kept` is in double: other sizes."""
    weights = [tf.cast(w, tf.float32) for w in operation.given["weights"]]
    if operation.name == FORWARD:
        operation(weights=weights)
    else:
        with pytest.raises(tf.errors.OpError, match="`kept` is not of the same"):
            operation(weights=weights)


# -- options ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, -(2**63), 0, 1, 2, 3, 7, 100, 2**31, 2**63 - 1])
def test_every_option(value, operation):
    """Each in turn: an error, or an answer of the right shapes."""
    options = operation.given["options"].numpy()
    for k in range(len(options)):
        changed = options.copy()
        changed[k] = value
        if k == THREADS and 16 < value < 2**20:
            continue
        try:
            operation(options=tf.constant(changed))
        except tf.errors.OpError as error:
            assert "deepspin: " in error.message


@pytest.mark.parametrize("length", [0, 1, 9, 11, -1])
def test_too_few_options(length, operation):
    with pytest.raises(tf.errors.InvalidArgumentError, match="`options` is too short"):
        operation(options=operation.given["options"][:length])


def test_too_many_options(operation):
    options = tf.concat([operation.given["options"], [0]], axis=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`options` is too long"):
        operation(options=options)


def test_random_options(operation):
    rng = np.random.default_rng(0)
    for _ in range(200):
        options = rng.integers(-2, 9, rng.integers(0, 60))
        with pytest.raises(tf.errors.InvalidArgumentError):
            operation(options=tf.constant(options))


def test_huge_nets(operation):
    """Products of widths beyond 32 bits."""
    options = operation.given["options"].numpy()
    options[AXIS] = 2**16
    options[DEPTH + options[DEPTH]] = 2**16
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many components"):
        operation(options=tf.constant(options))


def test_more_threads_than_there_can_be(operation):
    want = operation()
    options = operation.given["options"].numpy()
    options[THREADS] = 100
    for a, b in zip(operation(options=tf.constant(options)), want, strict=True):
        if a.dtype == np.uint8:  # `kept`: between its arrays is what was there before
            assert a.shape == b.shape
        else:
            np.testing.assert_array_equal(a, b)


# -- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-2, -(2**31), 12, 2**31 - 1])
def test_neighbors_that_do_not_exist(value, operation):
    old = operation.given["nlist"]
    for at in ((0, 0, 0), (-1, -1, -1)):
        new = old[1].numpy()
        new[at] = value
        with pytest.raises(tf.errors.InvalidArgumentError, match="`nlist` names point"):
            operation(nlist=[old[0], tf.constant(new), *old[2:]])


@pytest.mark.parametrize("value", [-(2**31), 2**31 - 1])
def test_far_shifts(value, operation):
    shift = [tf.fill(x.shape, value) for x in operation.given["shift"]]
    operation(shift=shift)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["numbers", "points", "offset", "box", "mask", "davg", "dstd"]
)
def test_not_finite(name, value, operation):
    new = operation.given[name].numpy()
    new.flat[-1] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN or infinite"):
        operation(**{name: tf.constant(new)})


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-300, 1e300, 1e308])
@pytest.mark.parametrize(
    "name", ["numbers", "points", "offset", "box", "mask", "davg", "dstd"]
)
def test_absurd_values(name, value, operation):
    shape = operation.given[name].shape
    try:
        operation(**{name: tf.fill(shape, tf.constant(value, tf.float64))})
    except tf.errors.OpError as error:
        assert "deepspin: " in error.message


@pytest.mark.parametrize("natoms", [[-1, 7], [7, -1], [6, 1], [2**31 - 1] * 2, [0, 0]])
def test_numbers_of_atoms(natoms, operation):
    with pytest.raises(tf.errors.InvalidArgumentError, match="`natoms` must"):
        operation(natoms=tf.constant(natoms))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("where", [0, -1])
def test_weights_that_are_not_finite(value, where, operation):
    """NaN stays NaN; tanh of infinity is 1."""
    weights = list(operation.given["weights"])
    new = weights[where].numpy()
    new.flat[0] = value
    weights[where] = tf.constant(new)
    try:
        outputs = operation(weights=weights)
    except tf.errors.InvalidArgumentError as error:
        assert not np.isnan(value)
        assert "too steep" in error.message
        return
    if np.isnan(value) and operation.name == FORWARD:
        assert np.isnan(outputs[0]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", UPSTREAM[1:])
def test_gradients_that_are_not_finite(name, value, operation):
    if name in operation.given:
        shape = operation.given[name].shape
        outputs = operation(**{name: tf.fill(shape, tf.constant(value, tf.float64))})
        if not np.isfinite(value):
            assert not all(np.isfinite(x).all() for x in outputs)


def test_coinciding_points(operation):
    """No direction: NaN as in plain TensorFlow, and no error."""
    points = operation.given["points"].numpy()
    points[:] = points[0, 0]
    shift = [tf.zeros_like(s) for s in operation.given["shift"]]
    outputs = operation(points=tf.constant(points), shift=shift)
    assert np.isnan(outputs[0]).any()


@pytest.mark.parametrize("distance", [1e-3, 1e-8, 1e-13, 1e-16, 1e-150, 1e-320])
def test_points_near_each_other(distance, operation):
    """An answer, or an error: never an extrapolation."""
    points = np.zeros_like(operation.given["points"])
    points[..., 0] = distance * np.arange(points.shape[1])
    shift = [tf.zeros_like(s) for s in operation.given["shift"]]
    try:
        operation(points=tf.constant(points), shift=shift)
    except tf.errors.InvalidArgumentError as error:
        assert "points are too near each other" in error.message


# -- what is kept between calls --------------------------------------------------------


def altered(kept, random):
    """What was kept, damaged in several ways."""
    yield kept[:0]
    yield kept[:1]
    yield kept[:7]
    yield kept[: len(kept) // 2]
    yield kept[:-64]
    yield np.append(kept, np.zeros(64, np.uint8))
    yield np.zeros_like(kept)
    yield np.full_like(kept, 255)
    yield random.integers(0, 256, kept.size).astype(np.uint8)
    numbers = [-1.0, 0.0, 1.0, 1.5, 2.0, 3.0, 1e6, 2.0**53, 1e300, np.inf, np.nan]
    for where in range(0, 20 * 8, 8):
        for number in numbers:
            new = kept.copy()
            new[where : where + 8] = np.float64(number).reshape(1).view(np.uint8)
            yield new


def test_kept_of_something_else(operation, calls):
    """An error, or numbers without meaning; no crash."""
    if operation.name == FORWARD:
        return
    kept = operation.given["kept"].numpy()
    refused = 0
    for new in altered(kept, np.random.default_rng(0)):
        try:
            operation(kept=tf.constant(new))
        except tf.errors.OpError as error:
            assert "`kept` is" in error.message
            refused += 1
    assert refused > 30


def test_kept_of_other_atoms(operation):
    if operation.name == FORWARD:
        return
    model = build("NiO", resnet_dt=True, **SMALL)
    other = record(model, random_inputs(model, natoms=[9, 30]))
    with pytest.raises(tf.errors.OpError, match="`kept` is not of the same"):
        operation(kept=other[operation.name]["kept"])


# -- nothing there ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        {"nf": 0},
        {"natoms": [0, 0], "widths": [0, 0, 0]},
        {"natoms": [0, 0], "widths": [4, 0, 3]},
        {"nf": 0, "natoms": [0, 0], "widths": [0, 0, 0]},
        {"widths": [0, 0, 0]},
        {"gone": range(6)},
    ],
    ids=str,
)
def test_nothing(inputs):
    model = build("NiO", resnet_dt=True, **SMALL)
    values = random_inputs(model, **inputs)
    for name, given in record(model, values).items():
        answer = tf.nest.flatten(getattr(library.operations(), name)(**given))
        for x in answer:
            if x.dtype != tf.uint8:
                assert np.isfinite(x.numpy()).all(), name


def test_empty_frames_have_gradients_of_zero():
    model = build("NiO", resnet_dt=True, **SMALL)
    given = record(model, random_inputs(model, nf=0))[WEIGHTS]
    for x in library.operations().deepspin_potential_weights(**given):
        np.testing.assert_array_equal(x, np.zeros(x.shape))
