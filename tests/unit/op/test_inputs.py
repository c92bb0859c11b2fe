# SPDX-License-Identifier: Apache-2.0
"""Whatever the compiled operations are given: an error or NaN, never a crash."""

from __future__ import annotations

import invariant_models
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
ENERGIES = (FORWARD, "deepspin_invariant")
INVARIANT = (
    ENERGIES[1],
    *(f"{ENERGIES[1]}_{x}" for x in ("positions", "weights", "rows")),
)
SMALL = {"neuron": (3, 6), "fit_neuron": (5, 5)}
# where `options` has what
AXIS, DEPTH = 3, 10


pytestmark = pytest.mark.skipif(
    library.operations() is None, reason="deepspin was installed without kernels"
)


class Recorder:
    """The operations, which notes what they are given."""

    def __init__(self, operations):
        self.operations, self.calls = operations, {}

    def __getattr__(self, name):
        operation = getattr(self.operations, name)

        def call(**given):
            self.calls[name] = given
            return operation(**given)

        return call


def arrays(given) -> dict:
    """What an operation is given, flags apart."""
    return {k: v for k, v in given.items() if not isinstance(v, bool)}


def record(model, inputs) -> dict[str, dict]:
    """What each operation is given in a valid gradient, and in a fit."""
    recorder = Recorder(library.operations())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "operations", lambda: recorder)
        with tf.GradientTape() as tape:
            tape.watch(inputs["coord"])
            total = sum(map(tf.reduce_sum, model(inputs, training=True).values()))
        tape.gradient(total, [inputs["coord"], *(w.value for w in model.weights)])
        if model.spin.scheme.name == "invariant":
            model.spin._measured(inputs, model.descriptor)
    return recorder.calls


def of_potential():
    return build("NiO", type_one_side=False, resnet_dt=True, **SMALL)


def of_invariant():
    few = {"nradial": 3, "ncross": 2}
    return invariant_models.build("NiO", soc=True, walls=True, baseline=few)


MODELS = {"ener_spin": of_potential, "invariant": of_invariant}


@pytest.fixture(scope="module")
def calls():
    models = [make() for make in MODELS.values()]
    recorded = [record(model, random_inputs(model)) for model in models]
    return recorded[0] | recorded[1]


@pytest.fixture(scope="module", params=[FORWARD, POSITIONS, WEIGHTS, *INVARIANT])
def operation(request, calls):
    """One operation, what it was given, and how to give it something else."""

    def call(**changed):
        given = {**calls[request.param], **changed}
        answer = getattr(library.operations(), request.param)(**given)
        return [x.numpy() for x in tf.nest.flatten(answer)]

    call.name = request.param
    call.given = calls[request.param]
    call.points = "points" if "points" in call.given else "coord"
    # where `options` has them
    call.threads = 7 if call.name in INVARIANT else 4
    call.channels = DEPTH + int(call.given["options"][DEPTH])
    if call.name in INVARIANT:
        call.channels = 2
    # arrays that must be finite
    call.numbers = [
        name
        for name, value in arrays(call.given).items()
        if not isinstance(value, list) and value.dtype == tf.float64
        if not name.endswith("_grad") and value.shape.num_elements()
    ]
    return call


def test_valid(operation):
    assert all(np.isfinite(x).all() for x in operation() if x.dtype != np.uint8)


# -- shapes and types ------------------------------------------------------------------

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


def accepted(operation, changed, errors=REFUSED) -> bool:
    try:
        operation(**changed)
    except errors:
        return False
    return True


@pytest.mark.parametrize("change", CHANGES)
def test_shapes(change, operation):
    """Each array in turn in another shape, each list with its first array so."""
    wrong = {}
    for name, old in arrays(operation.given).items():
        lists = isinstance(old, list)
        first = old[0] if lists else old
        if not first.shape.num_elements():
            continue
        try:
            new = CHANGES[change](first)
        except (tf.errors.OpError, ValueError):
            continue
        if new.shape != first.shape:
            wrong[name] = [new, *old[1:]] if lists else new
    assert wrong
    assert [k for k, v in wrong.items() if accepted(operation, {k: v})] == []


@pytest.mark.parametrize("change", ["less", "more", "none", "turned"])
def test_lists(change, operation):
    given = {k: v for k, v in operation.given.items() if isinstance(v, list)}
    wrong = {
        "less": {k: v[:-1] for k, v in given.items()},
        "more": {k: [*v, v[-1]] for k, v in given.items()},
        "none": {k: [] for k in given},
        "turned": {k: v[::-1] for k, v in given.items()},
    }[change]
    assert [k for k, v in wrong.items() if accepted(operation, {k: v})] == []


def test_all_lists_of_other_lengths(operation):
    """One type of atom less, or one more, of all that is told by types."""
    if operation.name not in INVARIANT:
        return
    for cut in (lambda x: x[:1], lambda x: [*x, x[0]]):
        lists = ("nlist", "shift", "theta")
        given = {k: operation.given[k] for k in lists if k in operation.given}
        with pytest.raises(REFUSED):
            operation(**{k: cut(v) for k, v in given.items()})


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_types(dtype, operation):
    wrong = {}
    for name, old in arrays(operation.given).items():
        first = old[0] if isinstance(old, list) else old
        if first.dtype != dtype and (name, dtype) != ("weights", "float32"):
            wrong[name] = tf.nest.map_structure(lambda x: tf.cast(x, dtype), old)
    errors = (*REFUSED, tf.errors.NotFoundError)
    assert [k for k, v in wrong.items() if accepted(operation, {k: v}, errors)] == []


def test_weights_in_another_precision(operation):
    """Single precision where `kept` is in double: other sizes."""
    if "weights" not in operation.given:
        return
    weights = [tf.cast(w, tf.float32) for w in operation.given["weights"]]
    if "kept" in operation.given:
        with pytest.raises(tf.errors.OpError, match="`kept` is not of the same"):
            operation(weights=weights)
    else:
        operation(weights=weights)


# -- options ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, -(2**63), 0, 1, 2, 3, 7, 100, 2**31, 2**63 - 1])
def test_every_option(value, operation):
    """Each in turn: an error, or an answer of the right shapes."""
    options = operation.given["options"].numpy()
    for k in range(len(options)):
        changed = options.copy()
        changed[k] = value
        if k == operation.threads and 16 < value < 2**20:
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
    options[operation.channels] = 2**16
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many components"):
        operation(options=tf.constant(options))


def test_more_axes_than_mixtures(operation):
    options = operation.given["options"].numpy()
    options[AXIS] = options[operation.channels] + 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="axis_neuron exceeds"):
        operation(options=tf.constant(options))


def test_more_threads_than_there_can_be(operation):
    want = operation()
    options = operation.given["options"].numpy()
    options[operation.threads] = 100
    for a, b in zip(operation(options=tf.constant(options)), want, strict=True):
        if a.dtype == np.uint8:  # `kept`: between its arrays is what was there before
            assert a.shape == b.shape
        else:
            np.testing.assert_array_equal(a, b)


# -- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-2, -(2**31), "first", 2**31 - 1])
def test_neighbors_that_do_not_exist(value, operation):
    old = operation.given["nlist"]
    if value == "first":
        value = operation.given[operation.points].shape[1]
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
def test_not_finite(value, operation):
    for name in operation.numbers:
        new = operation.given[name].numpy()
        new.flat[-1] = value
        with pytest.raises(tf.errors.InvalidArgumentError, match="NaN or infinite"):
            operation(**{name: tf.constant(new)})


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-300, 1e300, 1e308])
def test_absurd_values(value, operation):
    for name in operation.numbers:
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
@pytest.mark.parametrize("name", ["theta", "weights"])
@pytest.mark.parametrize("where", [0, -1])
def test_weights_that_are_not_finite(name, value, where, operation):
    """NaN stays NaN; tanh of infinity is 1."""
    if name not in operation.given:
        return
    weights = list(operation.given[name])
    new = weights[where].numpy()
    new.flat[0] = value
    weights[where] = tf.constant(new)
    try:
        outputs = operation(**{name: weights})
    except tf.errors.InvalidArgumentError as error:
        assert not np.isnan(value)
        assert "too steep" in error.message
        return
    if np.isnan(value) and operation.name in ENERGIES:
        assert np.isnan(outputs[0]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_gradients_that_are_not_finite(value, operation):
    for name, old in arrays(operation.given).items():
        if not name.endswith("_grad"):
            continue
        outputs = operation(
            **{name: tf.fill(old.shape, tf.constant(value, tf.float64))}
        )
        if not np.isfinite(value):
            assert not all(np.isfinite(x).all() for x in outputs), name


def test_coinciding_points(operation):
    """No direction: NaN as in plain TensorFlow, and no error."""
    points = operation.given[operation.points].numpy()
    points[:] = points[0, 0]
    shift = [tf.zeros_like(s) for s in operation.given["shift"]]
    outputs = operation(**{operation.points: tf.constant(points)}, shift=shift)
    assert np.isnan(outputs[0]).any()


@pytest.mark.parametrize("distance", [1e-3, 1e-8, 1e-13, 1e-16, 1e-150, 1e-320])
def test_points_near_each_other(distance, operation):
    """An answer, or an error: never an extrapolation."""
    points = np.zeros_like(operation.given[operation.points])
    points[..., 0] = distance * np.arange(points.shape[1])
    shift = [tf.zeros_like(s) for s in operation.given["shift"]]
    try:
        operation(**{operation.points: tf.constant(points)}, shift=shift)
    except tf.errors.InvalidArgumentError as error:
        assert operation.name not in INVARIANT
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
    if "kept" not in operation.given:
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
    if "kept" not in operation.given:
        return
    model = build("NiO", resnet_dt=True, **SMALL)
    other = record(model, random_inputs(model, natoms=[9, 30]))
    with pytest.raises(tf.errors.OpError, match="`kept` is not of the same"):
        operation(kept=other[operation.name]["kept"])


# -- rows ------------------------------------------------------------------------------


@pytest.fixture
def rows(calls):
    given = calls[INVARIANT[-1]]
    return given, library.operations().deepspin_invariant_rows


@pytest.mark.parametrize("value", [-1, -(2**31), 2**20, 2**31 - 1])
def test_columns_that_do_not_exist(value, rows):
    given, operation = rows
    columns = given["columns"].numpy()
    columns[3] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="names number"):
        operation(**{**given, "columns": tf.constant(columns)})


def test_rows_see_no_ghosts(rows):
    given, operation = rows
    more = {k: tf.concat([given[k]] * 2, axis=1) for k in ("coord", "spin")}
    with pytest.raises(tf.errors.InvalidArgumentError, match="without ghosts"):
        operation(**{**given, **more})


def test_mask_of_more_atoms_than_there_are(calls):
    """Centres are the first of all atoms."""
    given = calls["deepspin_invariant"]
    less = {k: given[k][:, :-1] for k in ("coord", "spin")}
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 5 centres"):
        library.operations().deepspin_invariant(**{**given, **less})


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
@pytest.mark.parametrize("scheme", MODELS)
def test_nothing(scheme, inputs):
    model = MODELS[scheme]()
    if "widths" in inputs:
        blocks = len(model.descriptor.sel)
        inputs = {**inputs, "widths": inputs["widths"][:blocks]}
    values = random_inputs(model, **inputs)
    for name, given in record(model, values).items():
        answer = tf.nest.flatten(getattr(library.operations(), name)(**given))
        for x in answer:
            if x.dtype != tf.uint8:
                assert np.isfinite(x.numpy()).all(), name


@pytest.mark.parametrize("scheme", MODELS)
def test_empty_frames_have_gradients_of_zero(scheme):
    model = MODELS[scheme]()
    calls = record(model, random_inputs(model, nf=0))
    (name,) = (name for name in calls if name.endswith("_weights"))
    answer = getattr(library.operations(), name)(**calls[name])
    for x in tf.nest.flatten(answer):
        np.testing.assert_array_equal(x, np.zeros(x.shape))
