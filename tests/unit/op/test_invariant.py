# SPDX-License-Identifier: Apache-2.0
"""The scheme `invariant`: compiled operations give what their twin gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import invariants
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from invariant_models import build
from twins import (
    assert_twins,
    check_gradients,
    check_unknown_shapes,
    compare,
    everything,
    random_inputs,
)

import deepspin
from deepspin.op import library

pytestmark = pytest.mark.skipif(
    library.operations() is None, reason="deepspin was installed without kernels"
)

FEW = {"nradial": 3, "ncross": 1}

# -- one case after another ------------------------------------------------------------

# options of the model, and of the inputs
CASES = {
    "as it comes": ("NiO", {}, {}),
    "spin-orbit coupling": ("ONi", {"soc": True}, {}),
    "one type": ("Ni", {"soc": True, "baseline": FEW}, {"natoms": [4]}),
    "two spin types": ("NiOFe", {"soc": True, "baseline": FEW}, {"nf": 3}),
    "no baseline": ("NiO", {"baseline": False}, {}),
    "no baseline, spin-orbit coupling": ("ONi", {"baseline": False, "soc": True}, {}),
    "walls": ("NiO", {"walls": True, "baseline": FEW}, {}),
    "rest without walls": ("NiO", {"walls": True, "baseline": False, "soc": True}, {}),
    "one tier": ("NiO", {"baseline": {"ncross": 0, "nradial": 5}}, {}),
    "one tier, no net": (
        "ONi",
        {"baseline": {"ncross": 0, "trainable": True}, "hidden": []},
        {},
    ),
    "second tier of all": ("NiO", {"baseline": {"ncross": 2, "nradial": 2}}, {}),
    "a constant alone": ("NiO", {"baseline": {"nradial": 1, "ncross": 1}}, {}),
    "two radial functions": ("NiO", {"baseline": {"nradial": 2, "ncross": 0}}, {}),
    "radial functions, most": ("Ni", {"baseline": {"nradial": 64, "ncross": 1}}, {}),
    "all mixtures in products": (
        "NiO",
        {"baseline": FEW, "descriptor": {"neuron": [5], "axis_neuron": 5}},
        {},
    ),
    "one mixture": (
        "NiO",
        {
            "baseline": FEW,
            "soc": True,
            "descriptor": {"neuron": [1], "axis_neuron": 1},
        },
        {},
    ),
    "more mixtures than functions": (
        "Ni",
        {
            "baseline": {"nradial": 2, "ncross": 0},
            "descriptor": {"neuron": [7], "axis_neuron": 2},
        },
        {},
    ),
    "trainable baseline": (
        "NiO",
        {"baseline": {**FEW, "trainable": True}, "soc": True, "walls": True},
        {},
    ),
    "odd widths": ("NiO", {"baseline": FEW, "hidden": [11, 11, 13]}, {}),
    "no time steps": (
        "NiO",
        {"baseline": FEW, "hidden": [7, 7], "fitting": {"resnet_dt": False}},
        {},
    ),
    "one neuron": ("NiO", {"baseline": FEW, "hidden": [1, 1]}, {}),
    "wide": ("Ni", {"baseline": FEW, "hidden": [130, 130]}, {}),
    "no hidden layer": ("NiO", {"baseline": FEW, "hidden": []}, {}),
    "vacuum": ("NiO", {"baseline": FEW, "fitting": {"atom_ener": [0.3, -1.0]}}, {}),
    "one frame of one atom": ("NiO", {"baseline": FEW}, {"nf": 1, "natoms": [1, 0]}),
    "an empty type first": (
        "NiOFe",
        {"baseline": FEW, "soc": True},
        {"natoms": [0, 4, 1]},
    ),
    "an empty type last": ("NiOFe", {"baseline": FEW}, {"natoms": [4, 1, 0]}),
    "no atom with a spin": ("NiO", {"baseline": FEW, "soc": True}, {"natoms": [0, 4]}),
    "more atoms than a chunk": ("NiO", {"baseline": FEW}, {"natoms": [41, 3]}),
    "many frames": ("NiO", {"baseline": FEW}, {"nf": 17, "natoms": [2, 1]}),
    "slots without atoms": (
        "NiO",
        {"baseline": FEW, "walls": True},
        {"natoms": [5, 4], "gone": [2, 8]},
    ),
    "a whole type without atoms": (
        "NiO",
        {"baseline": FEW},
        {"natoms": [2, 2], "gone": [2, 3]},
    ),
    "lonely atoms": ("NiO", {"baseline": FEW}, {"natoms": [3, 3], "lonely": [0, 5]}),
    "nobody has neighbours": (
        "NiO",
        {"baseline": FEW, "walls": True},
        {"natoms": [1, 1], "lonely": [0, 1]},
    ),
    "an empty list": ("NiO", {"baseline": FEW}, {"widths": [4, 0]}),
    "no lists": ("NiO", {"baseline": FEW}, {"widths": [0, 0]}),
    "more neighbours than octets": ("NiO", {"baseline": FEW}, {"widths": [17, 8]}),
    "ghosts": (
        "NiOFe",
        {"baseline": FEW, "soc": True, "walls": True},
        {"ghosts": [2, 1, 3]},
    ),
    "ghosts alone are seen": (
        "ONi",
        {"baseline": FEW},
        {"natoms": [1, 0], "ghosts": [0, 4], "nf": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_twin(case):
    """Values, and gradients of a random functional in weights and positions."""
    system, options, inputs = CASES[case]
    model = build(system, **options)
    compare(model, random_inputs(model, **inputs), 1e-11, 1e-10)


@settings(
    max_examples=6,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_twin_of_random_models(data):
    draw = data.draw
    system = draw(st.sampled_from(["Ni", "NiO", "ONi", "NiOFe"]))
    ntypes = {"Ni": 1, "NiOFe": 3}.get(system, 2)
    nradial, mixtures = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    baseline = {
        "nradial": nradial,
        "ncross": draw(st.integers(0, min(nradial, 3))),
        "trainable": draw(st.booleans()),
    }
    model = build(
        system,
        seed=draw(st.integers(0, 99)),
        walls=draw(st.booleans()),
        soc=draw(st.booleans()),
        baseline=draw(st.sampled_from([baseline, baseline, False])),
        descriptor={
            "neuron": [mixtures],
            "axis_neuron": draw(st.integers(1, mixtures)),
        },
        hidden=draw(st.lists(st.integers(1, 19), max_size=3)),
        fitting={"resnet_dt": draw(st.booleans())},
    )
    natoms = draw(st.lists(st.integers(0, 9), min_size=ntypes, max_size=ntypes))
    natoms[0] += 1
    counts = st.lists(st.integers(0, 3), min_size=ntypes, max_size=ntypes)
    inputs = random_inputs(
        model,
        seed=draw(st.integers(0, 99)),
        nf=draw(st.integers(1, 5)),
        natoms=natoms,
        gone=draw(st.lists(st.integers(0, sum(natoms) - 1), max_size=2)),
        ghosts=draw(st.none() | counts),
    )
    compare(model, inputs, 1e-11, 1e-10)


@pytest.mark.parametrize("system", ["NiO", "NiOFe"])
def test_twin_on_frames(system, make_nio, make_inputs):
    """Neighbours that are neighbours; arrays with room to spare."""
    model = build(system, soc=True, walls=True, baseline=FEW)
    frames = [make_nio(model, k) for k in range(2)]
    compare(model, make_inputs(model, frames)[0])
    compare(model, make_inputs(model, frames, wider=3, more_atoms=2)[0])


def test_twin_of_an_open_cluster(make_cluster, make_inputs):
    model = build("ONi", baseline=FEW)
    compare(model, make_inputs(model, [make_cluster(model)])[0])


@pytest.mark.parametrize("which", [slice(0, 1), slice(None)])
def test_twin_where_spins_are_zero(which):
    """Of one atom, and of all."""
    model = build("NiO", soc=True, walls=True, baseline=FEW)
    inputs = random_inputs(model)
    spin = inputs["spin"].numpy()
    spin[:, which] = 0.0
    found = compare(model, {**inputs, "spin": tf.constant(spin)})
    assert (found["force_mag"] == 0.0).all() == (spin == 0.0).all()


def test_twin_in_a_graph_of_unknown_shapes():
    check_unknown_shapes(build("NiO", baseline=FEW))


# -- apart from the twin ---------------------------------------------------------------


@pytest.mark.parametrize("soc", [False, True])
def test_gradient_is_that_of_the_values(soc):
    options = {**FEW, "trainable": True}
    model = build("NiO", soc=soc, walls=True, baseline=options)
    check_gradients(model, random_inputs(model, nf=1, natoms=[3, 2]))


def test_derivatives_of_the_energy(make_nio):
    model = build("NiO", soc=True, walls=True, baseline=FEW)
    assert model.native
    invariants.check_derivatives(deepspin.DeepSpin(model).eval, make_nio(model))


def test_coinciding_atoms():
    """No direction: no energy rather than a wrong one."""
    model = build("NiO", baseline=FEW)
    inputs = random_inputs(model, nf=1)
    inputs["coord"] = tf.zeros_like(inputs["coord"])
    inputs["shift"] = tuple(tf.zeros_like(s) for s in inputs["shift"])
    found = model(inputs)
    with library.plain_tensorflow():
        want = model(inputs)
    seen = (tf.concat(inputs["nlist"], axis=2).numpy() >= 0).any(axis=2)
    assert seen.any()
    for answer in (found, want):
        assert np.isnan(answer["atom_ener"].numpy()[seen]).all()


# -- which models ----------------------------------------------------------------------

UNKNOWN = {
    "more radial functions": {"baseline": {"nradial": 65}},
    "another activation function": {"fitting": {"activation_function": "gelu"}},
    "frame parameters": {"fitting": {"numb_fparam": 1}},
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_models_that_kernels_do_not_know(case):
    """Plain TensorFlow does the work."""
    model = build("Ni", **UNKNOWN[case])
    assert not model.native
    inputs = random_inputs(model, nf=1)
    if model.fitting.numb_fparam:
        inputs["fparam"] = tf.zeros([1, 1], tf.float64)
    assert np.isfinite(model(inputs)["force"]).all()


# -- threads, instructions, precision --------------------------------------------------

BITS = {
    "few atoms": {"nf": 1, "natoms": [5, 4]},
    "some": {"nf": 4, "natoms": [7, 5]},
    "one frame": {"nf": 1, "natoms": [81, 40], "gone": [3, 88], "ghosts": [9, 4]},
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", BITS)
def test_bits_do_not_depend_on_threads(case, precision, monkeypatch):
    model = build("NiO", baseline=FEW, soc=True, fitting={"precision": precision})
    inputs = random_inputs(model, **BITS[case])

    def answer(threads):
        monkeypatch.setattr(library, "threads", lambda: threads)
        found = everything(model, inputs)
        if "ghosts" not in inputs:
            seen, rows = model.spin._measured(inputs, model.descriptor)
            found |= {f"rows/{k}": v.numpy() for k, v in rows.items()}
            found["scalars"] = seen["scalars"].numpy()
        return found

    want = answer(1)
    for number in (2, 3, 8):
        found = answer(number)
        differ = [k for k in want if not np.array_equal(found[k], want[k])]
        assert not differ, number


def test_calls_at_once():
    """Of several threads of Python: one has the pool, the others do without."""
    model = build("NiO", baseline=FEW)
    inputs = [random_inputs(model, seed=k, nf=4, natoms=[20, 9]) for k in range(8)]
    want = [model(x)["force"].numpy() for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = pool.map(lambda x: model(x)["force"].numpy(), inputs)
            for a, b in zip(found, want, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", ["walls", "odd widths", "no hidden layer"])
def test_instruction_sets(case, monkeypatch):
    """1, 3 and 4 where the processor has them; otherwise the best that it has."""
    system, options, more = CASES[case]
    model = build(system, **options)
    inputs = random_inputs(model, **more)
    want = everything(model, inputs)
    _, rows = model.spin._measured(inputs, model.descriptor)
    for number in "134":
        monkeypatch.setenv("DEEPSPIN_INSTRUCTIONS", number)
        assert_twins(everything(model, inputs), want, 1e-12)
        _, found = model.spin._measured(inputs, model.descriptor)
        for name, value in rows.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("instructions", ["1", "3", "4"])
@pytest.mark.parametrize("case", ["walls", "odd widths", "no time steps", "wide"])
def test_float32_nets(case, instructions, monkeypatch):
    """In single precision the numbers of the same weights in double, but for it."""
    monkeypatch.setenv("DEEPSPIN_INSTRUCTIONS", instructions)
    system, options, more = CASES[case]
    fitting = {**options.get("fitting", {}), "precision": "float32"}
    low, high = (
        build(system, **{**options, "fitting": fitting}),
        build(system, **options),
    )
    for a, b in zip(high.variables, low.variables, strict=True):
        a.assign(tf.cast(b.value, a.dtype))
    inputs = random_inputs(low, **more)
    found, want = everything(low, inputs), everything(high, inputs)
    want = dict(zip(found, want.values(), strict=True))  # paths number layers
    assert_twins(found, want, 1e-5, 1e-4)


# -- rows of the fit -------------------------------------------------------------------

# as few as show all, since those of plain TensorFlow take their time
ROWS = (
    "trainable baseline", "no baseline", "a constant alone", "slots without atoms",
    "an empty type last",
)  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_rows(case):
    """Rows and scalars by the kernels are those of plain TensorFlow."""
    system, options, more = CASES[case]
    model = build(system, **options)
    inputs = random_inputs(model, **{**more, "nf": 1})
    seen, rows = model.spin._measured(inputs, model.descriptor)
    with library.plain_tensorflow():
        other, want = model.spin._measured(inputs, model.descriptor)
    mask = tf.cast(tf.concat(inputs["mask"], axis=1), tf.float64)[..., None]
    scalars = mask * other["scalars"]
    np.testing.assert_allclose(mask * seen["scalars"], scalars, rtol=1e-12, atol=1e-12)
    if model.spin.baseline is None:
        assert want == {}
    for name, value in want.items():
        assert rows[name].shape == value.shape
        scale = np.abs(value).max(initial=1e-3)
        np.testing.assert_allclose(rows[name], value, rtol=0, atol=1e-12 * scale)


LINEAR = (
    *ROWS[2:], "as it comes", "spin-orbit coupling", "one type", "two spin types",
    "walls", "one tier", "second tier of all", "radial functions, most",
    "no atom with a spin", "more atoms than a chunk", "nobody has neighbours",
    "no lists", "more neighbours than octets",
)  # fmt: skip


@pytest.mark.parametrize("case", LINEAR)
def test_rows_are_derivatives_in_the_numbers(case):
    """All is linear in these: differences of the kernels' own outputs are exact."""
    system, options, more = CASES[case]
    model = build(system, **options)
    inputs = random_inputs(model, **more)
    _, rows = model.spin._measured(inputs, model.descriptor)
    theta = model.spin.baseline.theta
    value = theta.numpy()
    rng = np.random.default_rng(0)
    for along in (rng.normal(size=value.shape), rng.integers(0, 2, value.shape)):
        ends = []
        for sign in (1, -1):
            theta.assign(value + sign * along)
            ends.append(model(inputs))
        for name in ("energy", "force", "force_mag", "virial"):
            found = rows[name].numpy() @ along
            want = np.reshape((ends[0][name] - ends[1][name]) / 2, found.shape)
            scale = np.abs(ends[0][name]).max(initial=1.0)
            np.testing.assert_allclose(found, want, rtol=0, atol=1e-12 * scale)


# -- fit and training ------------------------------------------------------------------


def fitted(batch):
    """A model fitted to what another one says, and what it says then."""
    model = build("NiO", seed=2, baseline={"nradial": 2, "ncross": 1})
    model.compute_stats([batch])
    return model.spin.report, model.spin.baseline.theta.numpy(), model(batch[0])


def test_fit(make_nio, make_inputs):
    """The closed form finds the same numbers from rows by the kernels."""
    truth = build("NiO", baseline=FEW)
    inputs, _ = make_inputs(truth, [make_nio(truth, k) for k in range(9)])
    labels = {k: truth(inputs)[k] for k in ("energy", "force", "force_mag", "virial")}
    labels |= {f"find_{k}": np.ones(9) for k in labels}
    report, theta, found = fitted((inputs, labels))
    with library.plain_tensorflow():
        other, numbers, want = fitted((inputs, labels))
    assert report.solution.ridge == other.solution.ridge
    np.testing.assert_allclose(
        theta, numbers, rtol=0, atol=1e-8 * np.abs(numbers).max()
    )
    for name, value in other.errors.items():
        assert report.errors[name] == pytest.approx(value, rel=1e-7)
    for name in labels.keys() & want.keys():
        scale = np.abs(want[name]).max()
        np.testing.assert_allclose(found[name], want[name], rtol=0, atol=1e-8 * scale)


def trained(frames, make_inputs, make_labels):
    """Weights after some steps, with the numbers of the baseline among them."""
    model = build("NiO", walls=True, baseline={**FEW, "trainable": True})
    inputs, _ = make_inputs(model, frames(model))
    model.compile(
        keras.optimizers.Adam(1e-3), deepspin.EnerSpinLoss(), jit_compile=False
    )
    for _ in range(5):
        model.train_step((inputs, make_labels(inputs, scale=0.1)))
    return [w.numpy() for w in model.trainable_variables]


def test_steps_of_training(make_nio, make_inputs, make_labels):
    """Adam makes the same weights of gradients by the kernels."""

    def frames(model):
        return [make_nio(model, k) for k in range(2)]

    found = trained(frames, make_inputs, make_labels)
    with library.plain_tensorflow():
        want = trained(frames, make_inputs, make_labels)
    start = build("NiO", walls=True, baseline={**FEW, "trainable": True})
    for a, b, begin in zip(found, want, start.trainable_variables, strict=True):
        assert np.abs(b - begin.numpy()).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
