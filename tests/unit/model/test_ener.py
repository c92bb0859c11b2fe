# SPDX-License-Identifier: Apache-2.0
"""The model: its physics, its derivatives in the weights, files, training steps."""

import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import by_hand
import invariants
import keras
import numpy as np
import pytest
import tensorflow as tf

import deepspin
from deepspin.loss.learning_rate import build_optimizer
from deepspin.op.library import plain_tensorflow

keras_save_warning = pytest.mark.filterwarnings("ignore:__array__ implementation")

OUTPUTS = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")

# -- physics ---------------------------------------------------------------------------

VARIANTS = {
    "spin first": ("NiO", {}),
    "one side, spin second": ("ONi", {"type_one_side": True, "resnet_dt": True}),
    "two spin types": (
        "NiOFe",
        {"type_one_side": True, "activation_function": "silut:3.0"},
    ),
    "excluded, protected": (
        "NiO",
        {"exclude_types": [[0, 1]], "env_protection": 0.1, "type_one_side": True},
    ),
    "time reversal": ("ONi", {"time_reversal": True}),
    "no time step, vacuum": (
        "ONi",
        {"set_davg_zero": True, "vacuum_types": [0, 1], "fit_dt": False},
    ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, make_model):
    system, options = VARIANTS[request.param]
    return make_model(system, **options)


@pytest.fixture(scope="module")
def evaluate(model):
    return deepspin.DeepSpin(model).eval


@pytest.fixture(scope="module")
def frame(model, make_nio):
    return make_nio(model)


class TestInvariants:
    def test_derivatives(self, evaluate, frame):
        invariants.check_derivatives(evaluate, frame)

    def test_derivatives_of_open_cluster(self, evaluate, model, make_cluster):
        invariants.check_derivatives(evaluate, make_cluster(model))

    @pytest.mark.parametrize("reflect", [False, True])
    def test_rotation(self, evaluate, frame, reflect):
        invariants.check_rotation(evaluate, frame, reflect=reflect)

    def test_translation(self, evaluate, frame):
        invariants.check_translation(evaluate, frame)

    def test_lattice_shift(self, evaluate, frame):
        invariants.check_lattice_shift(evaluate, frame)

    def test_permutation(self, evaluate, frame):
        invariants.check_permutation(evaluate, frame)

    def test_sums(self, evaluate, frame, model):
        invariants.check_sums(evaluate, frame, model.spin.scheme.symmetries)

    def test_supercell(self, evaluate, frame):
        invariants.check_supercell(evaluate, frame)

    def test_fragments(self, evaluate, model, make_cluster):
        second = make_cluster(model, seed=1, natoms=4)
        invariants.check_fragments(evaluate, make_cluster(model), second)

    def test_batch(self, evaluate, model, make_nio):
        invariants.check_batch(evaluate, *(make_nio(model, k) for k in range(3)))

    def test_frames_independent(self, evaluate, frame):
        invariants.check_frames_independent(evaluate, frame)

    def test_non_spin(self, evaluate, frame):
        invariants.check_non_spin(evaluate, frame)

    def test_spin_symmetries(self, evaluate, frame, model):
        invariants.check_spin_symmetries(evaluate, frame, model.spin.scheme.symmetries)


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("radius", ["rcut", "rcut_smth"])
@pytest.mark.parametrize("system", ["NiO", "ONi"])
def test_smooth(system, radius, virtual, make_model, make_cluster):
    """Atom 1 and its virtual atom cross the radii around atom 0, of either type."""
    model = make_model(system, type_one_side=True)
    frame = make_cluster(model, natoms=3)
    magnetic = model.spin.scheme.types.spin_types[0]
    atype = np.array([frame.atype[0], magnetic, 0])
    frame = replace(frame, atype=atype, scale=model.spin.scheme.codec.scale_of(atype))
    exact = float(np.float32(getattr(model.descriptor, radius)))
    evaluate = deepspin.DeepSpin(model).eval
    invariants.check_smooth(evaluate, frame, exact, virtual=virtual)


def test_spin_types_in_any_place(make_model, make_nio):
    """Types in another order with the weights in that order: the same numbers."""
    first, second = make_model("NiO"), make_model("ONi", seed=5)
    types, blocks = [1, 0], [1, 0, 2]  # of the second in terms of the first
    for name in ("davg", "dstd"):
        getattr(second.descriptor, name).assign(
            np.asarray(getattr(first.descriptor, name))[types]
        )
    bias = np.asarray(first.fitting.bias_atom_e)[types]
    second.fitting.bias_atom_e.assign(bias)
    for t, u in enumerate(types):
        pairs = [(second.fitting.net(t), first.fitting.net(u))]
        for e, f in enumerate(blocks):
            pairs.append((second.descriptor.net(t, e), first.descriptor.net(u, f)))
        for ours, theirs in pairs:
            for layer, other in zip(ours, theirs, strict=True):
                layer.set_weights(other.get_weights())
    want = invariants.run(deepspin.DeepSpin(first).eval, make_nio(first))
    found = invariants.run(deepspin.DeepSpin(second).eval, make_nio(second))
    invariants.assert_close(found, want, 1e-12)


def test_excluded_types_do_not_interact(make_model, make_nio):
    """No interaction at all: the energy is that of atoms far apart."""
    every = [[a, b] for a in range(2) for b in range(3)]
    model = make_model(exclude_types=[p for p in every if p != [0, 2]])
    frame = make_nio(model)
    evaluate = deepspin.DeepSpin(model).eval
    moved = replace(frame, coord=frame.coord.copy())
    oxygen = frame.atype == 1
    moved.coord[oxygen] += 0.3 * np.random.default_rng(0).normal(size=(4, 3))
    old, new = invariants.run(evaluate, frame), invariants.run(evaluate, moved)
    np.testing.assert_array_equal(old["energy"], new["energy"])
    np.testing.assert_array_equal(new["force"][:, oxygen], 0.0)
    assert np.abs(old["force_mag"]).max() > 0  # Ni still sees the spins


def test_env_protection_allows_zero_spin(make_model, make_nio):
    model = make_model(env_protection=0.2, rcut_smth=2.0)
    frame = make_nio(model)
    evaluate = deepspin.DeepSpin(model).eval
    frame.spin[0] = 0.0
    still = invariants.run(evaluate, frame)
    assert all(np.isfinite(array).all() for array in still.values())
    frame.spin[0] = [0.0, 0.0, 1e-9]
    # its own virtual atom's pull has no direction at 0: only force_mag jumps there
    names = ("energy", "atom_ener", "force", "virial")
    assert_all_close(
        invariants.run(evaluate, frame), still, names, rtol=1e-6, atol=1e-8
    )


def test_vacuum_types(make_model):
    """A descriptor of zeros gives the bias: an atom that sees nothing, with davg 0."""
    model = make_model("ONi", vacuum_types=[0], set_davg_zero=True)
    bias = np.asarray(model.fitting.bias_atom_e)
    zeros = tf.zeros([1, 3, model.descriptor.dim_out], tf.float64)
    energy = np.asarray(model.fitting(zeros, natoms=[2, 1]))[0]
    np.testing.assert_array_equal(energy[:2], bias[0])
    assert energy[2] != bias[1]
    alone = deepspin.DeepSpin(model).eval(np.zeros((1, 3)), None, [0], np.zeros((1, 3)))
    np.testing.assert_allclose(alone["energy"], bias[0], rtol=1e-14)


def assert_all_close(found, want, names=OUTPUTS, **tolerance):
    for name in names:
        np.testing.assert_allclose(found[name], want[name], err_msg=name, **tolerance)


SMALL = {"type_one_side": True, "neuron": (2, 4), "fit_neuron": (4, 4)}

# -- engines and precisions ------------------------------------------------------------


def compiled(model, steps=100, jit_compile=False):
    """Compile a model with loss and schedule."""
    loss = deepspin.EnerSpinLoss(
        start_pref_v=0.1, limit_pref_v=0.1, start_pref_ae=0.1, limit_pref_ae=1.0
    )
    schedule = deepspin.ExpDecay(1e-3, steps, stop_lr=1e-5, decay_steps=1)
    model.compile(
        optimizer=build_optimizer(schedule), loss=loss, jit_compile=jit_compile
    )
    return model


def batch_of(model, make_nio, make_inputs, make_labels, nframes=2):
    inputs, _ = make_inputs(model, [make_nio(model, k) for k in range(nframes)])
    return inputs, make_labels(inputs)


def fit(model, batch, steps):
    data = tf.data.Dataset.from_tensors(batch).repeat()
    model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False)


@pytest.fixture
def make_batch(make_nio, make_inputs, make_labels):
    return partial(
        batch_of, make_nio=make_nio, make_inputs=make_inputs, make_labels=make_labels
    )


def loss_gradient(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(*batch, model(batch[0]))
    return loss, tape.gradient(loss, model.trainable_variables)


def test_xla_is_plain(make_model, make_batch):
    """Outputs, loss and its gradient in the weights, with XLA and without."""
    model = compiled(make_model("NiO", neuron=(2, 4), resnet_dt=True))
    batch = make_batch(model)

    def everything(batch):
        return model(batch[0]), loss_gradient(model, batch)

    with plain_tensorflow():
        plain = tf.function(everything)(batch)
        fast = tf.function(everything, jit_compile=True)(batch)
        eager = model(batch[0])
    assert_all_close(fast[0], plain[0], rtol=1e-12, atol=1e-12)
    for a, b in zip(tf.nest.flatten(fast[1]), tf.nest.flatten(plain[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())
    np.testing.assert_allclose(eager["energy"], plain[0]["energy"], rtol=1e-13)


def test_training_with_xla_is_training_without(make_model, make_batch):
    """Plain gradient descent: Adam makes steps of the noise in vanishing gradients."""
    weights = []
    for jit_compile in (True, False):
        model = make_model("ONi", **SMALL)
        start = model.get_weights()
        schedule = deepspin.ExpDecay(1e-6, 10, stop_lr=1e-8, decay_steps=1)
        loss = deepspin.EnerSpinLoss(start_lr=1e-6)
        optimizer = keras.optimizers.SGD(schedule)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile)
        fit(model, make_batch(model), 3)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    changed = [np.abs(a - old).max() for a, old in zip(weights[0], start, strict=True)]
    assert max(changed) > 1e-5


@pytest.mark.parametrize("type_one_side", [False, True])
def test_float32_nets(type_one_side, make_model, make_nio):
    outputs = []
    for precision in ("float64", "float32"):
        model = make_model(precision=precision, type_one_side=type_one_side)
        frame = make_nio(model)
        outputs.append(invariants.run(deepspin.DeepSpin(model).eval, frame))
        assert model.descriptor.nets[0].matrix.dtype == precision
        assert model.fitting.nets[0].matrix.dtype == precision
        assert model.descriptor.davg.dtype == "float64"
    for name in OUTPUTS:
        high, low = (output[name] for output in outputs)
        assert low.dtype == np.float64
        assert np.abs(low - high).max() < 1e-5 * np.abs(high).max(), name
        assert name == "atom_virial" or (low != high).any(), name


def all_tensors(graph, seen):
    """Tensors of a graph and of the functions that it calls."""
    if id(graph) in seen:
        return
    seen.add(id(graph))
    for operation in graph.get_operations():
        yield from operation.outputs
    for function in getattr(graph, "_functions", {}).values():
        yield from all_tensors(function.graph, seen)


def test_no_low_precision_in_float64(make_model, make_batch):
    """A training step in float64 holds no float32, but in Keras' Adam.

    Keras takes the betas of the bias correction through float32, in two constants a
    weight inside the optimizer's scope; nothing else may.
    """
    model = compiled(make_model("NiOFe", type_one_side=True, neuron=(2, 4)))
    batch = make_batch(model)
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda data: model.train_step(data))
    graph = step.get_concrete_function(batch).graph
    low = (tf.float32, tf.float16, tf.bfloat16)
    tensors = list(all_tensors(graph, set()))
    assert len(tensors) > 1000
    found = {t.op.name for t in tensors if t.dtype.base_dtype in low}
    betas = {name for name in found if re.match(r"adam(_\d+)?/", name)}
    assert found == betas, sorted(found - betas)[:20]
    values = {
        float(tf.make_ndarray(t.op.get_attr("value")))
        for t in tensors
        if t.op.name in betas
    }
    assert values <= {float(np.float32(0.9)), float(np.float32(0.999))}
    for variable in (*model.variables, *model.optimizer.variables):
        assert variable.dtype in ("float64", "int64", "int32"), variable.path
    for metric in model.metrics[0].metrics:
        assert metric.dtype == "float64"


# -- derivative of the loss ------------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_in_the_weights(jit_compile, make_model, make_batch):
    """Central differences in weights of every kind, in both kinds of nets.

    XLA knows TensorFlow's operations alone; the kernels are used without it.
    """
    model = compiled(
        make_model("ONi", type_one_side=True, resnet_dt=True, neuron=(2, 4))
    )
    batch = make_batch(model, nframes=1)
    call = tf.function(partial(loss_gradient, model), jit_compile=jit_compile)
    with plain_tensorflow() if jit_compile else nullcontext():
        _, gradient = call(batch)
    by_path = {
        id(v): g for v, g in zip(model.trainable_variables, gradient, strict=True)
    }
    descriptor, fitting = model.descriptor, model.fitting
    layers = [
        descriptor.net(0, 0)[1], descriptor.net(1, 2)[1], descriptor.net(0, 1)[0],
        fitting.net(0)[0], fitting.net(1)[1], fitting.net(0)[2],
    ]  # fmt: skip
    checked = set()
    for layer in layers:
        for kind in ("matrix", "bias", "idt"):
            weight = getattr(layer, kind)
            if weight is None:
                continue
            value = np.asarray(weight).copy()
            slope = np.asarray(by_path[id(weight)])
            index = np.unravel_index(np.abs(slope).argmax(), slope.shape)
            losses = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * 1e-5
                weight.assign(moved)
                losses.append(float(call(batch)[0]))
            weight.assign(value)
            difference = (losses[0] - losses[1]) / 2e-5
            noise = 50 * np.finfo(float).eps * abs(losses[0]) / 1e-5  # of the loss
            close = pytest.approx(slope[index], rel=1e-5, abs=noise)
            assert difference == close, weight.path
            checked.add((layer in fitting.nets, kind))
    assert len(checked) == 6


def test_last_bias_gradient(make_model, make_batch):
    """The fitting net's last bias is a weight too; forces do not depend on it."""
    model = compiled(make_model(type_one_side=True, neuron=(2, 4)))
    batch = make_batch(model, nframes=1)
    _, gradient = loss_gradient(model, batch)
    bias = model.fitting.net(0)[-1].bias
    slopes = {
        v.path: g for v, g in zip(model.trainable_variables, gradient, strict=True)
    }
    assert np.abs(slopes[bias.path]).max() > 0


# -- statistics ------------------------------------------------------------------------


def numpy_statistics(model, frames):
    """Section "statistics" of the definition: davg and dstd from brute-force lists."""
    d = model.descriptor
    rows = [[] for _ in model.type_map]
    for frame in frames:
        blocks = by_hand.separations(model, frame)
        for t, centre in zip(frame.atype, blocks, strict=True):
            slots = np.zeros((sum(d.sel), 4))
            k = 0
            for e, diffs in enumerate(centre):
                for diff in diffs:
                    if (t, e) not in d._excluded:
                        slots[k] = by_hand.row(
                            diff, d.rcut, d.rcut_smth, d.env_protection
                        )
                        k += 1
            rows[t].append(slots)
    davg, dstd = np.zeros((len(rows), 4)), np.full((len(rows), 4), 1 / d.rcut)
    for t, some in enumerate(rows):
        if not some:
            continue
        s, a = np.split(np.concatenate(some), [1], axis=1)
        if not d.set_davg_zero:
            davg[t, 0] = s.mean()
        radial = np.sqrt((s**2).mean() - s.mean() ** 2)
        angular = np.sqrt((a**2).mean() - a.mean() ** 2)
        dstd[t] = np.maximum([radial, angular, angular, angular], 0.01)
    return davg, dstd


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("NiO", {}),
        ("ONi", {"set_davg_zero": True}),
        ("NiO", {"exclude_types": [[0, 1], [1, 2]]}),
        ("NiO", {"sel": [4000, 26]}),  # deviations below 0.01
    ],
)
def test_statistics(system, options, make_model, make_nio, make_inputs, make_labels):
    model = make_model(system, **options)
    frames = [make_nio(model, k) for k in range(3)]
    davg, dstd = numpy_statistics(model, [*frames, frames[2]])
    if model.descriptor.set_davg_zero:
        assert not davg.any()
    batches = [make_inputs(model, f)[0] for f in (frames[:2], frames[2:], frames[2:])]
    energy = np.array([-3.0, -5.0, 2.0, 2.0])
    parts = [energy[:2], energy[2:3], energy[3:]]
    labelled = [
        (x, {**make_labels(x), "energy": tf.constant(e)})
        for x, e in zip(batches, parts, strict=True)
    ]
    model.compute_stats(labelled)
    np.testing.assert_allclose(model.descriptor.davg, davg, rtol=1e-11)
    np.testing.assert_allclose(model.descriptor.dstd, dstd, rtol=1e-11)
    # 4 Ni, 4 O, 4 virtual atoms: each third of the mean energy, Ni has two
    mean = energy.mean() / 12
    names = {"Ni": 2 * mean, "O": mean}
    want = [names[name] for name in model.type_map]
    np.testing.assert_allclose(model.fitting.bias_atom_e, want, rtol=1e-12)


def test_statistics_of_an_absent_type(
    make_model, make_cluster, make_inputs, make_labels
):
    """No centre of the type: davg 0, dstd 1/rcut, energy 0; energies least squares."""
    model = make_model("NiOFe", type_one_side=True)
    full = make_cluster(model)
    batches, energy, counts = [], [-7.0, -9.5, -4.0], []
    frames = []
    for value, atype in zip(energy, ([0, 1], [0, 1, 1], [1, 0, 0]), strict=True):
        n, atype = len(atype), np.array(atype)
        frame = replace(
            full,
            coord=full.coord[:n],
            spin=full.spin[:n],
            atype=atype,
            scale=model.spin.scheme.codec.scale_of(atype),
        )
        frames.append(frame)
        inputs, _ = make_inputs(model, [frame])
        labels = {**make_labels(inputs), "energy": tf.constant([value], tf.float64)}
        batches.append((inputs, labels))
        real = np.bincount(atype, minlength=3)
        counts.append([*real, real[0], real[2]])
    model.compute_stats(batches)
    davg, dstd = numpy_statistics(model, frames)
    np.testing.assert_allclose(model.descriptor.davg, davg, rtol=1e-11)
    np.testing.assert_allclose(model.descriptor.dstd, dstd, rtol=1e-11)
    np.testing.assert_array_equal(dstd[2], 1 / 3.3)
    b = np.linalg.lstsq(np.array(counts, dtype=float), np.array(energy), rcond=None)[0]
    want = [b[0] + b[3], b[1], b[2] + b[4]]
    np.testing.assert_allclose(model.fitting.bias_atom_e, want, rtol=1e-10, atol=1e-12)
    assert want[2] == pytest.approx(0, abs=1e-12)


def test_statistics_with_given_energies(make_model, make_batch):
    model = make_model("ONi", type_one_side=True)
    inputs, labels = make_batch(model)
    labels["energy"] = tf.constant([10.0, 14.0], tf.float64)
    model.compute_stats([(inputs, labels)], atom_ener=[1.0, None])
    np.testing.assert_allclose(model.fitting.bias_atom_e, [1.0, 2.0], rtol=1e-12)
    # energies of extended types: given, then folded
    model.compute_stats([(inputs, labels)], atom_ener=[None, 0.5, 0.25])
    np.testing.assert_allclose(model.fitting.bias_atom_e, [2.25, 0.75], rtol=1e-12)


def test_statistics_without_energies(make_model, make_batch):
    model = make_model(type_one_side=True)
    before = np.asarray(model.fitting.bias_atom_e).copy()
    inputs, labels = make_batch(model)
    labels["find_energy"] = tf.zeros_like(labels["find_energy"])
    model.compute_stats([(inputs, labels)])
    np.testing.assert_array_equal(model.fitting.bias_atom_e, before)


# -- files -----------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["NiO", "NiOFe"])
def test_config_round_trip(system, make_model, make_batch):
    model = make_model(
        system, vacuum_types=[1], exclude_types=[[0, 1]], resnet_dt=True, neuron=(2, 4)
    )
    copy = deepspin.SpinEnergyModel.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    copy.set_weights(model.get_weights())
    inputs, _ = make_batch(model)
    want, found = model(inputs), copy(inputs)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)


@keras_save_warning
def test_saved_in_training(make_model, make_batch, tmp_path):
    """3 steps, save, load, 2 steps are 5 steps straight, bit for bit."""
    model = compiled(make_model("ONi", resnet_dt=True, **SMALL))
    batch = make_batch(model)
    fit(model, batch, 3)
    deepspin.save_model(model, tmp_path / "model.keras", {"step": 3})
    loaded = deepspin.load_model(tmp_path / "model.keras")
    want, found = model(batch[0]), loaded(batch[0])
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)
    assert int(loaded.optimizer.iterations.numpy()) == 3
    fit(model, batch, 2)  # straight on
    fit(loaded, batch, 2)
    for a, b in (
        (loaded.variables, model.variables),
        (loaded.optimizer.variables, model.optimizer.variables),
    ):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy(), err_msg=x.path)


@keras_save_warning
def test_keras_save_and_load(make_model, make_batch, tmp_path):
    """`model.save` keeps weights, loss, schedule and how the model was compiled."""
    model = compiled(make_model("NiOFe", resnet_dt=True, **SMALL))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs, _ = make_batch(model)
    want, found = model(inputs), loaded(inputs)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)
    assert loaded.loss_function.get_config() == model.loss_function.get_config()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.epsilon == 1e-8
    assert not loaded.jit_compile


@keras_save_warning
def test_saved_without_compiling(make_model, make_batch, tmp_path):
    model = make_model("NiO", neuron=(2, 4))
    deepspin.save_model(model, tmp_path / "model.keras", {})
    loaded = deepspin.load_model(tmp_path / "model.keras")
    assert loaded.loss_function is None
    inputs, _ = make_batch(model)
    want, found = model(inputs), loaded(inputs)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)


# -- weights held fixed ----------------------------------------------------------------


def moved(model, batch):
    """Which layers a fit of two steps changes: of the descriptor, of fitting nets."""
    compiled(model)
    nets = (model.descriptor.nets, model.fitting.nets)
    before = [[layer.get_weights() for layer in layers] for layers in nets]
    fit(model, batch, 2)
    return [
        [
            any((a != b).any() for a, b in zip(layer.get_weights(), old, strict=True))
            for layer, old in zip(layers, olds, strict=True)
        ]
        for layers, olds in zip(nets, before, strict=True)
    ]


def test_fit_moves_every_layer(make_model, make_batch):
    model = make_model(**SMALL)
    statistics = [np.asarray(w).copy() for w in fixed_weights(model)]
    descriptor, fitting = moved(model, make_batch(model))
    assert all(descriptor)
    assert all(fitting)
    for a, b in zip(fixed_weights(model), statistics, strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


def fixed_weights(model):
    return model.descriptor.davg, model.descriptor.dstd, model.fitting.bias_atom_e


def test_descriptor_held_fixed(make_model, make_batch):
    model = make_model(**SMALL)
    model.descriptor.trainable = False
    descriptor, fitting = moved(model, make_batch(model))
    assert not any(descriptor)
    assert all(fitting)


@pytest.mark.parametrize("how", ["option", "copy"])
def test_descriptor_stays_fixed(how, make_model):
    """`trainable` as an option of the descriptor, and in a copy of the model."""
    model = make_model(**SMALL, **({"trainable": False} if how == "option" else {}))
    model.descriptor.trainable = False if how == "copy" else model.descriptor.trainable
    if how == "copy":
        model = deepspin.SpinEnergyModel.from_config(model.get_config())
    fixed = {id(v) for v in model.descriptor.variables}
    assert [v.path for v in model.trainable_variables if id(v) in fixed] == []
    assert len(model.trainable_variables) == len(model.fitting.trainable_variables)


def test_fitting_layers_held_fixed(make_model, make_batch):
    model = make_model(**SMALL, trainable_layers=[False, True, False])
    copy = deepspin.SpinEnergyModel.from_config(model.get_config())
    descriptor, fitting = moved(model, make_batch(model))
    assert all(descriptor)
    assert fitting == [False, True, False] * 2
    assert len(copy.trainable_variables) == len(model.trainable_variables)


def test_trainable_layers_must_fit(make_model):
    with pytest.raises(ValueError, match="one entry for each hidden layer and one"):
        make_model(**SMALL, trainable_layers=[True])


# -- mistakes --------------------------------------------------------------------------


def test_no_loss(make_model, make_batch):
    model = make_model(**SMALL)
    model.compile(jit_compile=False)
    inputs, labels = make_batch(model)
    with pytest.raises(ValueError, match="No loss: pass `loss="):
        model.compute_loss(inputs, labels, model(inputs))


def test_sel_must_fit_the_spins(make_model):
    good = make_model(**SMALL)
    spin = deepspin.Spin([True, True], [0.4, 0.4], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"`descriptor\.sel` needs 4 entries"):
        deepspin.SpinEnergyModel(["Ni", "O"], good.descriptor, good.fitting, spin)


def test_types_present_in_part_of_the_data(make_model, make_nio, make_inputs):
    """Shapes known for one type and not for another: still one traced function."""
    model = make_model(**SMALL)
    inputs, _ = make_inputs(model, [make_nio(model)])

    def spec(x):
        return tf.TensorSpec([None, *x.shape[1:]], x.dtype)

    signature = tf.nest.map_structure(spec, inputs)
    signature["mask"] = (
        tf.TensorSpec([None, 4], tf.bool),
        tf.TensorSpec([None, None], tf.bool),
    )
    result = tf.function(lambda x: model(x), input_signature=[signature])(inputs)
    assert_all_close(result, model(inputs), rtol=1e-12, atol=1e-13)


def test_time_reversal_is_the_mean(make_model, make_nio):
    """(E(S) + E(-S)) / 2 of the model without, by kernels and by TensorFlow."""
    plain = make_model("ONi")
    even = make_model("ONi", time_reversal=True)
    frame = make_nio(plain)
    one, two = (
        deepspin.DeepSpin(plain).eval(frame.coord, frame.box, frame.atype, spin)
        for spin in (frame.spin, -frame.spin)
    )
    mean = {name: 0.5 * (one[name] + two[name]) for name in OUTPUTS}
    mean["force_mag"] = 0.5 * (one["force_mag"] - two["force_mag"])
    for way in (nullcontext(), plain_tensorflow()):
        with way:
            found = deepspin.DeepSpin(even).eval(
                frame.coord, frame.box, frame.atype, frame.spin
            )
        for name in OUTPUTS:
            scale = np.abs(mean[name]).max()
            np.testing.assert_allclose(found[name], mean[name], 1e-12, 1e-12 * scale)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        lambda: keras.optimizers.Adam(loss_scale_factor=1024.0),
    ],
)
def test_scaled_losses_are_refused(make_model, optimizer):
    with pytest.raises(ValueError, match="Losses are not scaled here"):
        make_model().compile(optimizer=optimizer(), loss=deepspin.EnerSpinLoss())


def test_mixed_precision_is_refused(make_model):
    model = make_model()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match="'mixed_bfloat16' is not followed"):
            model.compile(loss=deepspin.EnerSpinLoss())
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("rate", "told"), [(1e-3, False), (2e-3, True)])
def test_rate_above_the_one_of_the_loss(make_model, caplog, rate, told):
    make_model().compile(optimizer=build_optimizer(rate), loss=deepspin.EnerSpinLoss())
    assert ("is above the loss's `start_lr` 0.001" in caplog.text) == told
