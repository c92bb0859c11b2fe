# SPDX-License-Identifier: Apache-2.0
"""The compiled operations give what their twin in plain TensorFlow gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import invariants
import numpy as np
import pytest
import tensorflow as tf
import tiny
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from twins import (
    assert_twins,
    check_gradients,
    check_unknown_shapes,
    compare,
    everything,
    random_inputs,
    steepen,
)

import deepspin
from deepspin.op import library

pytestmark = pytest.mark.skipif(
    library.operations() is None, reason="deepspin was installed without kernels"
)

SMALL = {"neuron": (3, 6), "fit_neuron": (5, 5)}

# -- one case after another ------------------------------------------------------------

# options of the model, and of the inputs
CASES = {
    "two sides": ("NiO", {}, {}),
    "one side": ("ONi", {"type_one_side": True}, {}),
    "time steps": ("NiO", {"resnet_dt": True}, {}),
    "no time step in the fitting net": ("NiO", {"fit_dt": False, **SMALL}, {}),
    "one type": ("Ni", {"resnet_dt": True}, {"natoms": [4]}),
    "two spin types": ("NiOFe", {"type_one_side": True, **SMALL}, {}),
    "three types, two sides": ("NiOFe", SMALL, {"nf": 3}),
    "some pairs excluded": ("NiO", {"exclude_types": [[0, 1], [1, 2]], **SMALL}, {}),
    "one side, some excluded": (
        "NiO",
        {"exclude_types": [[0, 0]], "type_one_side": True, **SMALL},
        {},
    ),
    "a block that nobody sees": (
        "NiO",
        {"exclude_types": [[0, 2], [1, 2]], "type_one_side": True, **SMALL},
        {},
    ),
    "a type that sees nothing": (
        "NiO",
        {"exclude_types": [[1, 0], [1, 1], [1, 2]], **SMALL},
        {},
    ),
    "nobody sees anything": (
        "NiO",
        {"exclude_types": [[a, b] for a in range(2) for b in range(3)], **SMALL},
        {},
    ),
    "a block without slots": ("NiO", {"sel": [0, 26], **SMALL}, {}),
    "vacuum": ("NiO", {"vacuum_types": [0, 1], **SMALL}, {}),
    "no mean": ("NiO", {"set_davg_zero": True, **SMALL}, {}),
    "axis 1": ("NiO", {"axis_neuron": 1, **SMALL}, {}),
    "axis 3": ("NiO", {"axis_neuron": 3, **SMALL}, {}),
    "axis of all columns": ("NiO", {"axis_neuron": 16}, {}),
    "odd widths": ("NiO", {"neuron": (7, 14, 28), "fit_neuron": (11, 11, 13)}, {}),
    "one layer": ("NiO", {"neuron": (5,), "resnet_dt": True, "fit_neuron": (7,)}, {}),
    "one neuron": (
        "NiO",
        {"neuron": (1,), "axis_neuron": 1, "resnet_dt": True, "fit_neuron": (1, 1)},
        {},
    ),
    "narrowing": ("NiO", {"neuron": (20, 10, 9), "fit_neuron": (17, 5, 33)}, {}),
    "deep": ("NiO", {"neuron": (4,) * 5, "fit_neuron": (6,) * 6}, {}),
    "no hidden layer": ("NiO", {"fit_neuron": (), "resnet_dt": True}, {}),
    "wide": (
        "Ni",
        {"neuron": (25, 50, 100), "fit_neuron": (130, 130)},
        {"natoms": [2]},
    ),
    "one frame of one atom": ("NiO", SMALL, {"nf": 1, "natoms": [1, 0]}),
    "an empty type first": ("NiOFe", SMALL, {"natoms": [0, 4, 1]}),
    "an empty type last": ("NiOFe", SMALL, {"natoms": [4, 1, 0]}),
    "more atoms than a chunk": ("NiO", SMALL, {"natoms": [41, 3]}),
    "many frames": ("NiO", SMALL, {"nf": 17, "natoms": [2, 1]}),
    "slots without atoms": ("NiO", SMALL, {"natoms": [5, 4], "gone": [2, 8]}),
    "a whole type without atoms": ("NiO", SMALL, {"natoms": [2, 2], "gone": [2, 3]}),
    "lonely atoms": ("NiO", SMALL, {"natoms": [3, 3], "lonely": [0, 5]}),
    "nobody has neighbours": ("NiO", SMALL, {"natoms": [1, 1], "lonely": [0, 1]}),
    "an empty list": ("NiO", SMALL, {"widths": [4, 0, 5]}),
    "no lists": ("NiO", SMALL, {"widths": [0, 0, 0]}),
    "wider than sel": ("NiO", {"sel": [2, 2], **SMALL}, {"widths": [5, 6, 7]}),
}


@pytest.mark.parametrize("case", CASES)
def test_twin(case, make_model):
    """Values, and gradients of a random functional in weights and positions."""
    system, options, inputs = CASES[case]
    model = make_model(system, **options)
    compare(model, random_inputs(model, **inputs))


@settings(
    max_examples=12,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_twin_of_random_models(data, make_model):
    draw = data.draw
    system = draw(st.sampled_from(["Ni", "NiO", "ONi", "NiOFe"]))
    ntypes = {"Ni": 1, "NiOFe": 3}.get(system, 2)
    widths = st.integers(1, 19)
    neuron = draw(st.lists(widths, min_size=1, max_size=3))
    model = make_model(
        system,
        seed=draw(st.integers(0, 99)),
        neuron=neuron,
        fit_neuron=draw(st.lists(widths, max_size=3)),
        axis_neuron=draw(st.integers(1, neuron[-1])),
        fit_dt=draw(st.booleans()),
        resnet_dt=draw(st.booleans()),
        type_one_side=draw(st.booleans()),
        exclude_types=draw(
            st.lists(st.tuples(st.just(0), st.integers(0, 1)), max_size=2)
        ),
    )
    natoms = draw(st.lists(st.integers(0, 9), min_size=ntypes, max_size=ntypes))
    natoms[0] += 1
    inputs = random_inputs(
        model,
        seed=draw(st.integers(0, 99)),
        nf=draw(st.integers(1, 5)),
        natoms=natoms,
        gone=draw(st.lists(st.integers(0, sum(natoms) - 1), max_size=2)),
    )
    compare(model, inputs)


@pytest.mark.parametrize("system", ["NiO", "NiOFe"])
def test_twin_on_frames(system, make_model, make_nio, make_inputs):
    """Neighbours that are neighbours; arrays with room to spare."""
    model = make_model(system, resnet_dt=True)
    frames = [make_nio(model, k) for k in range(2)]
    compare(model, make_inputs(model, frames)[0])
    compare(model, make_inputs(model, frames, wider=3, more_atoms=2)[0])


def test_twin_of_an_open_cluster(make_model, make_cluster, make_inputs):
    model = make_model("ONi")
    compare(model, make_inputs(model, [make_cluster(model)])[0])


def test_twin_in_a_graph_of_unknown_shapes(make_model):
    check_unknown_shapes(make_model("NiO", **SMALL))


def test_gradient_of_a_call_that_kept_nothing(make_model):
    """Without `training`, what the gradient needs is computed once more."""
    model = make_model("NiO", **SMALL)
    inputs = random_inputs(model)
    kept = everything(model, inputs)
    for name, value in everything(model, inputs, training=False).items():
        np.testing.assert_array_equal(value, kept[name], err_msg=name)


# -- apart from the twin ---------------------------------------------------------------


@pytest.mark.parametrize("one_side", [False, True])
def test_gradient_is_that_of_the_values(one_side, make_model):
    """Central differences of the kernels' own values, in positions and in weights."""
    model = make_model("NiO", type_one_side=one_side, resnet_dt=True, **SMALL)
    check_gradients(model, random_inputs(model, nf=1, natoms=[3, 2]))


def test_derivatives_of_the_energy(make_model, make_nio):
    model = make_model("NiO", **SMALL)
    invariants.check_derivatives(deepspin.DeepSpin(model).eval, make_nio(model))


# -- threads, instructions, precision --------------------------------------------------


def with_threads(monkeypatch, number):
    monkeypatch.setattr(library, "threads", lambda: number)


BITS = {
    "few atoms": {"nf": 1, "natoms": [5, 4]},
    "some": {"nf": 4, "natoms": [7, 5]},
    "more": {"nf": 3, "natoms": [40, 30]},
    "one frame": {"nf": 1, "natoms": [150, 61], "gone": [3, 180]},
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", BITS)
def test_bits_do_not_depend_on_threads(case, precision, make_model, monkeypatch):
    model = make_model("NiO", precision=precision, resnet_dt=True)
    inputs = random_inputs(model, **BITS[case])
    with_threads(monkeypatch, 1)
    want = everything(model, inputs)
    for number in (2, 3, 8):
        with_threads(monkeypatch, number)
        found = everything(model, inputs)
        differ = [k for k in want if not np.array_equal(found[k], want[k])]
        assert not differ, number


def test_calls_at_once(make_model):
    """Of several threads of Python: one has the pool, the others do without."""
    model = make_model("NiO", **SMALL)
    inputs = [random_inputs(model, seed=k, nf=4, natoms=[20, 9]) for k in range(8)]
    want = [model(x)["force"].numpy() for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = pool.map(lambda x: model(x)["force"].numpy(), inputs)
            for a, b in zip(found, want, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", ["two sides", "odd widths", "no hidden layer"])
def test_instruction_sets(case, make_model, monkeypatch):
    """1, 3 and 4 where the processor has them; otherwise the best that it has."""
    system, options, more = CASES[case]
    model = make_model(system, **options)
    inputs = random_inputs(model, **more)
    want = everything(model, inputs)
    for number in "134":
        monkeypatch.setenv("DEEPSPIN_INSTRUCTIONS", number)
        assert_twins(everything(model, inputs), want, 1e-12)


@pytest.mark.parametrize("instructions", ["1", "3", "4"])
@pytest.mark.parametrize("case", ["two sides", "time steps", "odd widths", "axis 1"])
def test_float32_nets(case, instructions, make_model, monkeypatch):
    """In single precision the numbers of the same weights in double, but for it."""
    monkeypatch.setenv("DEEPSPIN_INSTRUCTIONS", instructions)
    system, options, more = CASES[case]
    low = make_model(system, precision="float32", **options)
    high = make_model(system, **options)
    for a, b in zip(high.variables, low.variables, strict=True):
        a.assign(tf.cast(b.value, a.dtype))
    inputs = random_inputs(low, **more)
    found, want = everything(low, inputs), everything(high, inputs)
    want = dict(zip(found, want.values(), strict=True))  # paths number layers
    assert_twins(found, want, 1e-4, 1e-2)


# -- steep nets ------------------------------------------------------------------------


def right_or_refused(model, inputs):
    """Whether the kernels' answer is that of plain TensorFlow, not an error."""
    want = everything(model, inputs, plain=True)
    try:
        found = everything(model, inputs)
    except tf.errors.OpError as error:
        assert "too steep for the kernels. Set DEEPSPIN_KERNELS=0" in error.message
        return False
    assert_twins(found, want, 1e-6, np.inf)
    return True


@pytest.mark.parametrize("factor", [10.0, 30.0])
@pytest.mark.parametrize("system", ["NiO", "ONi"])
def test_steep_nets(factor, system, make_model):
    model = steepen(make_model(system, **SMALL), factor)
    compare(model, random_inputs(model, nf=1), 1e-8, 1e-6)


@pytest.mark.parametrize("factor", [100.0, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("seed", range(3))
def test_absurd_nets(factor, seed, make_model):
    """No series resolves a step: the numbers are right, or there is an error."""
    model = steepen(make_model("NiO", seed=seed, **SMALL), factor)
    right_or_refused(model, random_inputs(model, nf=1))


@pytest.mark.parametrize("slope", [1.0, 1e2, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("where", [0.0, 1.0, 1.25])
def test_step_where_pieces_of_series_meet(slope, where, make_model, make_cluster):
    """A neighbour right on a step that is narrower than the nodes are apart."""
    model = make_model("Ni", neuron=(3,), axis_neuron=2, fit_neuron=(5,), seed=7)
    layer = model.descriptor.nets[0]
    layer.matrix.assign(slope * np.array([[1.0, -1.0, 0.5]]))
    layer.bias.assign(-where * layer.matrix[0])
    inputs = random_inputs(model, nf=1, natoms=[2], widths=[1, 0])
    inputs["nlist"] = (tf.constant([[[1], [-1]]]), tf.zeros([1, 2, 0], tf.int32))
    inputs["shift"] = (
        tf.zeros([1, 2, 1, 3], tf.int32),
        tf.zeros([1, 2, 0, 3], tf.int32),
    )
    # put the one neighbour's argument at the step
    apart = np.linalg.norm(inputs["coord"][0, 1] - inputs["coord"][0, 0])
    v = (apart - model.descriptor.rcut_smth) / 1.3
    assert v < 0  # within the smooth switch's begin: s = 1/r
    davg, dstd = (x.numpy() for x in (model.descriptor.davg, model.descriptor.dstd))
    davg[0, 0] = 1 / apart - (where + 0.5 / slope) * dstd[0, 0]
    model.descriptor.davg.assign(davg)
    assert right_or_refused(model, inputs) == (slope < 1e3)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-9, 1e-13, 1e-15, 1e-100])
def test_points_near_each_other(distance, make_model):
    """So near that no piece of a series reaches there: right, or an error."""
    model = make_model("NiO", **SMALL)
    inputs = random_inputs(model, nf=1)
    inputs["coord"] *= distance
    inputs["spin"] *= distance
    inputs["shift"] = tuple(tf.zeros_like(s) for s in inputs["shift"])
    with library.plain_tensorflow():
        want = model(inputs)["atom_ener"]
    try:
        found = model(inputs)["atom_ener"]
    except tf.errors.InvalidArgumentError as error:
        assert distance < 1e-13
        assert "too near each other for the kernels" in error.message
        return
    np.testing.assert_allclose(found, want, rtol=1e-6)


# -- errors, as users see them ---------------------------------------------------------

STEEP = (
    "an embedding net is too steep for the kernels. Set DEEPSPIN_KERNELS=0 to go on "
    "without them."
)


def test_error_of_an_evaluation(make_model, make_nio):
    model = steepen(make_model("NiO", **SMALL), 1e9)
    frame = make_nio(model)
    with pytest.raises(library.KernelError) as caught:
        deepspin.DeepSpin(model).eval(frame.coord, frame.box, frame.atype, frame.spin)
    assert str(caught.value) == STEEP
    with library.plain_tensorflow():
        deepspin.DeepSpin(model).eval(frame.coord, frame.box, frame.atype, frame.spin)


def test_error_of_a_command(data, run, capsys):
    """One line; in training with step and frames."""
    data["training"]["numb_steps"] = 1
    run("train", tiny.write(data))
    model = deepspin.load_model("model.ckpt-1.keras")
    deepspin.save_model(steepen(model, 1e9), "steep.keras", {"step": 0})
    system = data["training"]["training_data"]["systems"][0]
    capsys.readouterr()
    run("test", "-m", "steep.keras", "-s", system, status=1)
    assert capsys.readouterr().err.splitlines()[-1] == f"dp-spin: error: {STEEP}"
    run("train", "input.json", "-i", "steep.keras", status=1)
    last = capsys.readouterr().err.splitlines()[-1]
    what = "An embedding net is too steep for the kernels at step 0, on frames ["
    assert last.startswith(f"dp-spin: error: {what}")


def test_other_errors_are_left_alone():
    with pytest.raises(tf.errors.InvalidArgumentError), library.errors_in_one_line():
        tf.debugging.assert_equal(1, 2)
