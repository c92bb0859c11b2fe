# SPDX-License-Identifier: Apache-2.0
"""Evaluation of frames as they come."""

import ast
import os
import pickle
import re
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import invariants
import numpy as np
import pytest
from places import ROOT

import deepspin
from deepspin.infer.frames import Frames
from deepspin.modelfiles.saved_model import freeze
from deepspin.op import library


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("ONi", type_one_side=True)


@pytest.fixture(scope="module")
def potential(model):
    return deepspin.DeepSpin(model)


@pytest.fixture(scope="module")
def frame(model, make_nio):
    return make_nio(model)


def arguments(frame, **changes):
    return {
        "coords": frame.coord,
        "cells": frame.box,
        "atom_types": frame.atype,
        "spins": frame.spin,
        **changes,
    }


def assert_same(found, want, tolerance=1e-12):
    invariants.assert_close(found, want, tolerance)


def test_shapes_and_names(potential, frame):
    result = potential.eval(**arguments(frame))
    assert {name: array.shape for name, array in result.items()} == {
        "energy": (1,),
        "atom_ener": (1, 8),
        "force": (1, 8, 3),
        "force_mag": (1, 8, 3),
        "virial": (1, 3, 3),
        "atom_virial": (1, 8, 3, 3),
    }
    assert all(array.dtype == np.float64 for array in result.values())
    assert potential.type_map == ["O", "Ni"]
    assert potential.rcut == 3.3


def test_any_order_of_atoms(potential, frame):
    for order in (np.arange(8)[::-1], [3, 0, 7, 5, 1, 2, 6, 4]):
        mixed = potential.eval(
            frame.coord[order], frame.box, frame.atype[order], frame.spin[order]
        )
        want = potential.eval(**arguments(frame))
        for name in ("atom_ener", "force", "force_mag", "atom_virial"):
            want[name] = want[name][:, order]
        assert_same(mixed, want)


def test_flat_arrays_and_lists(potential, frame):
    want = potential.eval(**arguments(frame))
    flat = potential.eval(
        frame.coord.ravel().tolist(),
        frame.box.ravel().tolist(),
        frame.atype.tolist(),
        frame.spin.ravel().tolist(),
    )
    deep = potential.eval(
        frame.coord[None], frame.box[None], frame.atype, frame.spin[None]
    )
    for result in (flat, deep):
        for name, array in want.items():
            np.testing.assert_array_equal(result[name], array, err_msg=name)


def test_batches(potential, model, make_nio):
    frames = [make_nio(model, seed) for seed in range(4)]
    invariants.check_batch(potential.eval, *frames)
    flat = potential.eval(
        np.stack([f.coord.ravel() for f in frames]),
        np.stack([f.box.ravel() for f in frames]),
        frames[0].atype,
        np.stack([f.spin.ravel() for f in frames]),
    )
    assert_same(flat, invariants.run(potential.eval, *frames))


@pytest.mark.parametrize("open_axis", [0, 1, 2])
def test_partly_periodic(potential, frame, open_axis):
    """The same as a cell so long in the open direction that images are far away."""
    pbc = [axis != open_axis for axis in range(3)]
    long = frame.box.copy()
    long[open_axis] *= 10
    wrong = frame.box.copy()
    wrong[open_axis] = [0.3, 0.2, 0.1]  # not looked at
    want = potential.eval(**arguments(frame, cells=long))
    for cells in (long, frame.box, wrong):
        assert_same(potential.eval(**arguments(frame, cells=cells), pbc=pbc), want)
    periodic = potential.eval(**arguments(frame))
    assert np.abs(periodic["energy"] - want["energy"]).max() > 1e-6


def test_open(potential, frame):
    want = potential.eval(**arguments(frame, cells=None))
    assert_same(potential.eval(**arguments(frame), pbc=False), want)
    assert_same(potential.eval(**arguments(frame, cells=30 * np.eye(3))), want)


def test_single_atoms(potential):
    for t in range(2):
        result = potential.eval(np.zeros(3), None, [t], [0.3, 0.4, 1.1])
        assert np.isfinite(result["energy"]).all()
        np.testing.assert_allclose(result["force"], 0.0, atol=1e-14)
    # the energy depends on the modulus of the only spin: |S| sets the distance
    assert np.abs(result["force_mag"]).max() > 0


@pytest.mark.parametrize("type_one_side", [False, True])
def test_one_after_another(type_one_side, make_model, make_cluster, make_inputs):
    """Compositions that change from call to call, any one of the types or both."""
    model = make_model("ONi", type_one_side=type_one_side, neuron=(2, 4))
    changing = deepspin.DeepSpin(model)
    cluster = make_cluster(model)
    for atype in ([0, 1, 1], [0, 1], [0, 0, 1], [0], [1, 1]):
        frame = replace(
            cluster,
            coord=cluster.coord[: len(atype)],
            spin=cluster.spin[: len(atype)],
            atype=np.array(atype),
            scale=model.spin.scheme.codec.scale_of(np.array(atype)),
        )
        found = changing.eval(**arguments(frame))
        want = model(make_inputs(model, [frame])[0])
        np.testing.assert_allclose(found["energy"], want["energy"], rtol=1e-12)
        np.testing.assert_allclose(found["force"], want["force"], atol=1e-12)


def test_jit(model, potential, frame):
    compiled = deepspin.DeepSpin(model, jit_compile=True)
    assert_same(
        compiled.eval(**arguments(frame)), potential.eval(**arguments(frame)), 1e-12
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own
def test_from_file(model, potential, frame, tmp_path):
    deepspin.save_model(model, tmp_path / "model.keras", {})
    for path in (tmp_path / "model.keras", str(tmp_path / "model.keras")):
        loaded = deepspin.DeepSpin(path)
        for ours, theirs in zip(model.weights, loaded.model.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        # traces of other shapes may add in another order
        wanted = potential.eval(**arguments(frame))
        assert_same(loaded.eval(**arguments(frame)), wanted, 1e-12)


def test_arguments_are_left_alone(potential, frame):
    copies = {k: np.array(v) for k, v in arguments(frame).items()}
    potential.eval(**copies)
    for name, array in arguments(frame).items():
        np.testing.assert_array_equal(copies[name], array, err_msg=name)


def test_types_by_name(potential, frame):
    names = [potential.type_map[t] for t in frame.atype]
    want = potential.eval(**arguments(frame))
    for given in (names, tuple(names), np.array(names)):
        found = potential.eval(**arguments(frame, atom_types=given))
        for name, array in want.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_order_of_atoms(potential, frame):
    """Sorted atoms, which go to the model as they are, and others: the same numbers."""
    order = np.random.default_rng(1).permutation(len(frame.atype))
    assert (np.diff(frame.atype[order]) < 0).any()
    assert (np.diff(frame.atype[np.argsort(frame.atype)]) >= 0).all()
    for atoms in (np.argsort(frame.atype, kind="stable"), order):
        given = [x[atoms] for x in (frame.coord, frame.atype, frame.spin)]
        outputs = potential.eval(given[0], frame.box, *given[1:])
        names = ("atom_ener", "force", "force_mag", "atom_virial")
        found = {name: outputs[name][:, np.argsort(atoms)] for name in names}
        want = potential.eval(**arguments(frame))
        assert_same(found, {name: want[name] for name in names})


def test_graph_is_the_function(potential, frame):
    """Called past TensorFlow's own way from Python, a graph says the same bits."""
    given = Frames.of(potential.model, *arguments(frame).values(), None, None)
    inputs, _ = next(potential._batching.batches(given, [0], None))
    graph = potential._call
    found, want = graph(inputs), graph.function(inputs)
    assert found.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_weights_may_change(make_model, make_nio):
    """A graph reads the weights anew at each call."""
    model, other = (make_model("ONi", type_one_side=True, seed=k) for k in (1, 2))
    frame, potential = make_nio(model), deepspin.DeepSpin(model)
    before = potential.eval(**arguments(frame))["energy"]
    model.set_weights(other.get_weights())
    after = potential.eval(**arguments(frame))
    assert_same(after, deepspin.DeepSpin(other).eval(**arguments(frame)), 1e-14)
    assert abs(after["energy"] - before) > 1e-3


def test_threads(model, make_nio, make_cluster):
    """Several threads of Python ask for different atoms at once."""
    potential = deepspin.DeepSpin(model)
    frames = [
        make(model, seed) for seed in range(4) for make in (make_nio, make_cluster)
    ]
    frames = [arguments(frame) for frame in frames]
    want = [deepspin.DeepSpin(model).eval(**frame) for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            every = pool.map(lambda frame: potential.eval(**frame), frames)
            for found, wanted in zip(every, want, strict=True):
                for name, values in wanted.items():
                    np.testing.assert_array_equal(found[name], values, err_msg=name)


# --- Batches --------------------------------------------------------------------------


def calls(potential, monkeypatch):
    """Numbers of frames in each call of the model from here on."""
    sizes = []
    for name in ("_call", "_descriptors", "_products"):
        whole = getattr(potential, name)

        def count(inputs, *args, whole=whole):
            sizes.append(int(inputs["coord"].shape[0]))
            return whole(inputs, *args)

        monkeypatch.setattr(potential, name, count)
    return sizes


@pytest.fixture
def several(model, make_nio):
    frames = [make_nio(model, seed) for seed in range(5)]
    return {
        "coords": np.stack([f.coord for f in frames]),
        "cells": np.stack([f.box for f in frames]),
        "atom_types": frames[0].atype,
        "spins": np.stack([f.spin for f in frames]),
    }


@pytest.mark.parametrize(
    ("size", "wanted"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])]
)
def test_batch_size(model, several, monkeypatch, size, wanted):
    potential = deepspin.DeepSpin(model)
    want = potential.eval(**several)
    sizes = calls(potential, monkeypatch)
    assert_same(potential.eval(**several, batch_size=size), want, 1e-13)
    assert sizes == wanted


def test_memory_decides(model, several, monkeypatch):
    """All at once, as many as there is room for, or one by one at least."""
    potential = deepspin.DeepSpin(model)
    want = potential.eval(**several)
    most = []
    for memory in (1, *(2**k for k in range(16, 25)), 2**29):
        monkeypatch.setattr("deepspin.infer.batching.MEMORY", memory)
        with monkeypatch.context() as patch:
            sizes = calls(potential, patch)
            assert_same(potential.eval(**several), want, 1e-13)
        assert sum(sizes) == 5
        most.append(max(sizes))
    assert most[0] == 1
    assert most[-1] == 5
    assert most == sorted(most)
    assert any(1 < size < 5 for size in most)


def test_frames_of_parameters(make_model, make_cluster):
    """Each batch has its own frames' parameters."""
    plain = make_model("Ni")
    fitting = deepspin.EnerFitting(
        1, plain.descriptor.dim_out, neuron=(8, 8), numb_fparam=2, seed=5
    )
    model = deepspin.SpinEnergyModel(["Ni"], plain.descriptor, fitting, plain.spin)
    potential, frame = deepspin.DeepSpin(model), make_cluster(model)
    given = arguments(
        frame, coords=np.stack([frame.coord] * 3), spins=np.stack([frame.spin] * 3)
    )
    fparam = np.arange(6.0).reshape(3, 2)
    want = potential.eval(**given, fparam=fparam)
    assert len(np.unique(want["energy"])) == 3
    assert_same(potential.eval(**given, fparam=fparam, batch_size=2), want, 1e-13)
    directions = np.random.default_rng(0).normal(size=(2, 3, 5, 3))
    products = potential.hvp(
        given["coords"],
        given["cells"],
        frame.atype,
        given["spins"],
        *directions,
        fparam=fparam,
    )
    for k in range(3):
        alone = potential.hvp(
            frame.coord,
            frame.box,
            frame.atype,
            frame.spin,
            *directions[:, k],
            fparam=fparam[k],
        )
        for found, want in zip(products, alone, strict=True):
            np.testing.assert_allclose(found[k], want[0], rtol=0, atol=1e-12)


# --- Descriptors ----------------------------------------------------------------------


def test_descriptor(model, several, make_inputs, make_nio):
    potential = deepspin.DeepSpin(model)
    found = potential.descriptor(**several)
    assert found.shape == (5, 8, 16 * 4)
    inputs, slots = make_inputs(model, [make_nio(model, 3)])
    want = model.descriptors(inputs).numpy()[0][slots[0]]
    np.testing.assert_allclose(found[3], want, rtol=1e-12, atol=1e-14)
    order = [3, 0, 7, 5, 1, 2, 6, 4]
    mixed = potential.descriptor(
        several["coords"][:, order],
        several["cells"],
        several["atom_types"][order],
        several["spins"][:, order],
        batch_size=2,
    )
    np.testing.assert_allclose(mixed, found[:, order], rtol=1e-12, atol=1e-14)


# --- Second derivatives ---------------------------------------------------------------

FIELDS_OF_ATOMS = ("coord", "spin", "atype", "scale")


def differences(potential, frame, dcoord, dspin, step=1e-4, **options):
    """Minus the change of forces and magnetic forces along a direction."""
    steps = step * np.array([-2, -1, 1, 2])
    moved = [
        arguments(frame, coords=frame.coord + x * dcoord, spins=frame.spin + x * dspin)
        for x in steps
    ]
    weights = np.array([-1, 8, -8, 1]) / (12 * step)
    results = [potential.eval(**given, **options) for given in moved]
    return [
        sum(w * r[name][0] for w, r in zip(weights, results, strict=True))
        for name in ("force", "force_mag")
    ]


def assert_second_derivatives(potential, frame, symmetric=1e-10):
    """Products are differences of forces; the Hessian is symmetric and gives them."""
    nloc = len(frame.atype)
    dcoord, dspin = np.random.default_rng(3).normal(size=(2, nloc, 3))
    given = tuple(arguments(frame).values())
    products = potential.hvp(*given, dcoord, dspin)
    assert [p.shape for p in products] == [(1, nloc, 3)] * 2
    wanted = differences(potential, frame, dcoord, dspin * frame.magnetic[:, None])
    names = ("of coord", "of spin")
    wanted = dict(zip(names, wanted, strict=True))
    found = {n: p[0] for n, p in zip(names, products, strict=True)}
    assert_same(found, wanted, 1e-7)
    (hessian,) = potential.hessian(*given)
    assert hessian.shape == (6 * nloc, 6 * nloc)
    scale = np.abs(hessian).max()
    assert np.abs(hessian - hessian.T).max() < symmetric * scale
    product = hessian @ np.concatenate([dcoord.ravel(), dspin.ravel()])
    stacked = np.concatenate([p.ravel() for p in products])
    assert np.abs(product - stacked).max() < symmetric * np.abs(stacked).max()
    blocks = hessian.reshape(2, nloc, 3, 2, nloc, 3)
    assert (blocks[:, :, :, 1, ~frame.magnetic] == 0).all()
    assert (np.abs(blocks[1, frame.magnetic][:, :, 0]).max() > 1e-3 * scale).all()
    # nothing changes when all atoms move together
    assert np.abs(blocks[:, :, :, 0].sum(axis=3)).max() < symmetric * scale


@pytest.mark.parametrize(
    ("kernels", "options"),
    [
        (True, {"type_one_side": True}),
        (True, {"exclude_types": [[0, 1]]}),
        (False, {"type_one_side": True}),
        (False, {"env_protection": 0.01}),
    ],
    ids=["kernels", "kernels, two sides", "plain", "plain, two sides, protection"],
)
@pytest.mark.usefixtures("eagerly")
def test_second_derivatives(make_model, make_nio, kernels, options):
    model = make_model("ONi", neuron=(2, 4), fit_neuron=(6, 6), **options)
    potential, frame = deepspin.DeepSpin(model), make_nio(model)
    with nullcontext() if kernels else library.plain_tensorflow():
        assert_second_derivatives(potential, frame)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"])
@pytest.mark.usefixtures("eagerly")
def test_second_derivatives_of_tables(make_model, make_nio, kernels):
    """Of a compressed model: those of the model to the tables' tolerance."""
    from deepspin.model import compress

    model = make_model("Ni")
    options = compress.Options(1e-9, 5.0, None, 1)
    tables, _ = compress.compress(model, np.full((1, 2), 0.3), options)
    frame = make_nio(make_model("ONi"))
    given = replace(frame, **{n: getattr(frame, n)[:4] for n in FIELDS_OF_ATOMS})
    given = replace(given, atype=np.zeros(4, int))
    potential = deepspin.DeepSpin(model)
    want = potential.hessian(*arguments(given).values())
    with nullcontext() if kernels else library.plain_tensorflow():
        potential = deepspin.DeepSpin(tables)
        assert_second_derivatives(potential, given)
        found = potential.hessian(*arguments(given).values())
    assert_same({"hessian": found}, {"hessian": want}, 1e-6)


def test_second_derivatives_in_the_open(model, potential, make_cluster):
    assert_second_derivatives(potential, make_cluster(model))


def test_second_derivatives_of_deepmd_kits_models():
    reference = ROOT / "tests" / "reference" / "two_spin_types"
    potential = deepspin.DeepSpin(f"{reference}.pb")
    with np.load(f"{reference}.npz") as case:
        frame = invariants.Frame(
            *(case[name][0] for name in ("coord", "box")),
            case["atype"],
            case["spin"][0],
            potential.model.spin.scheme.codec.scale_of(case["atype"]),
        )
    assert_second_derivatives(potential, frame)


def test_second_derivatives_of_frozen_models(model, potential, frame, tmp_path):
    freeze(model, tmp_path / "frozen", {"spin_range": {"Ni": [0.1, 2.0]}})
    frozen = deepspin.DeepSpin(tmp_path / "frozen")
    assert frozen.metadata["spin_range"] == {"Ni": [0.1, 2.0]}
    given = tuple(arguments(frame).values())
    want = {"hessian": potential.hessian(*given)}
    assert_same({"hessian": frozen.hessian(*given)}, want)


def test_products_in_batches(potential, several, monkeypatch):
    """One direction for each frame, several for one, and in pieces."""
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(2, 5, 8, 3))
    given = tuple(several.values())
    each = potential.hvp(*given, *directions)
    sizes = calls(potential, monkeypatch)
    pieces = potential.hvp(*given, *directions, batch_size=3)
    assert sizes == [3, 2]
    for k in range(5):
        one = [several[n][k] for n in ("coords", "cells")]
        one += [several["atom_types"], several["spins"][k]]
        alone = potential.hvp(*one, *directions[:, k])
        every = potential.hvp(*one, *directions)
        for a, b, c, d in zip(each, pieces, alone, every, strict=True):
            for found in (b[k], c[0], d[k]):
                np.testing.assert_allclose(found, a[k], rtol=0, atol=1e-12)
    hessians = potential.hessian(*given)
    np.testing.assert_allclose(potential.hessian(*one)[0], hessians[4], atol=1e-12)


def test_numbers_of_directions(potential, several):
    given = tuple(several.values())
    message = "directions differ. Received: 2 of `dcoords`, 2 of `dspins` for 5 frames"
    with pytest.raises(ValueError, match=message):
        potential.hvp(*given, *np.ones((2, 2, 8, 3)))
    with pytest.raises(ValueError, match="5 of `dcoords`, 4 of `dspins`"):
        potential.hvp(*given, np.ones((5, 8, 3)), np.ones((4, 8, 3)))
    with pytest.raises(ValueError, match="`dspins` of frame 0 has values that are NaN"):
        potential.hvp(*given, np.ones((5, 8, 3)), np.full((5, 8, 3), np.nan))


# --- Copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(model, frame, copy):
    original = deepspin.DeepSpin(model)
    original.metadata = {"min_nbor_dist": 1.5}
    found = copy(original)
    assert found.model is not model
    assert found.metadata == original.metadata
    want = original.eval(**arguments(frame))
    assert_same(found.eval(**arguments(frame)), want, 1e-13)
    found.model.fitting.bias_atom_e.assign([100.0, 200.0])
    assert_same(original.eval(**arguments(frame)), want, 1e-13)


# --- Processes ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_forks_do_not_hang(model, frame):
    """A copy of this process, without TensorFlow's threads, is refused at once."""
    potential = deepspin.DeepSpin(model)
    potential.eval(**arguments(frame))
    packed = pickle.dumps(potential)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for call in (
            lambda: potential.eval(**arguments(frame)),
            lambda: pickle.loads(packed),
            lambda: deepspin.train({}),
        ):
            try:
                call()
            except RuntimeError as error:
                said.append(str(error)[-90:])
        os.write(send, repr(said).encode())
        os._exit(0)
    try:
        assert select.select([receive], [], [], 60)[0], "it hangs"
        said = ast.literal_eval(os.read(receive, 10000).decode())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(receive), os.close(send)
    assert len(said) == 3
    assert all('multiprocessing.get_context("spawn").' in text for text in said)


# --- Warnings -------------------------------------------------------------------------


class TestWarnings:
    """Of what is beyond the training, once."""

    @pytest.fixture
    def told(self, model, caplog):
        library.operations()  # says once that there are no kernels, if so
        caplog.clear()
        potential = deepspin.DeepSpin(model)
        potential.metadata = {
            "spin_range": {"Ni": [1.1, 1.3]},
            "nearest": {"O": {"Ni": 1.7, "Ni(spin)": 1.4}, "Ni": {"Ni(spin)": 0.4}},
        }
        return potential

    def test_nothing_odd(self, told, frame, caplog):
        told.eval(**arguments(frame, spins=frame.spin * frame.magnetic[:, None]))
        assert not caplog.records

    def test_long_spins(self, told, frame, caplog):
        spin = frame.spin * frame.magnetic[:, None]
        for scale in (2.0, 0.5):
            told.eval(**arguments(frame, spins=scale * spin))
        (record,) = caplog.records
        modulus = 2 * np.linalg.norm(spin, axis=1).max()
        assert re.match(
            r"\|spin\| of Ni is 2\.\d+ μ_B, in training it was 1\.1000 to 1\.3000: ",
            record.getMessage(),
        )
        assert modulus > 1.3

    def test_near_atoms(self, told, frame, caplog):
        told.metadata["nearest"]["O"]["Ni"] = 2.5
        spin = frame.spin * frame.magnetic[:, None]
        for _ in range(2):
            told.eval(**arguments(frame, spins=spin))
        (record,) = caplog.records
        shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
        apart = frame.coord[:, None, None] - frame.coord[:, None] - shifts @ frame.box
        distances = np.linalg.norm(apart, axis=-1)
        nearest = distances[distances > 0].min()
        assert record.getMessage() == (
            f"two atoms of frame 0 are {nearest:.4f} Å apart, nearer than any in "
            "training (2.5000 Å): what the model says of them is a guess"
        )

    def test_environments(self, told, frame, caplog):
        """Less around an atom, and more, and types that were not there: each once."""
        spin = frame.spin * frame.magnetic[:, None]
        ends = {"coordination": [0.5, 1.5], "nearest": [1.5, 2.5]}
        told.metadata = {"environments": {"Ni": {"O": ends}, "O": {}}}
        told.eval(**arguments(frame, spins=spin))
        assert not caplog.records
        for scale in (1.4, 0.8, 1.4, 0.8):
            coord, box = scale * frame.coord, scale * frame.box
            told.check(**arguments(frame, coords=coord, cells=box, spins=spin))
        less, more = (record.getMessage() for record in caplog.records)
        assert re.fullmatch(
            r"atom \d \(Ni\) of frame 0 has less O around it than any in training: "
            r"coordination 0\.\d+ \(in training 0\.500 to 1\.500\), the nearest at "
            r"2\.\d{4} Å \(1\.5000 to 2\.5000\); this, or the like, holds for 4 of 8 "
            "atoms: what the model says of them is a guess",
            less,
        )
        assert " has more O around it than any in training: coordination " in more
        told.metadata = {"environments": {"O": {}}}
        told.check(**arguments(frame, spins=spin))
        assert caplog.messages[2:] == [
            "no atom of Ni was in the training: what the model says of such atoms is a "
            "guess"
        ]
        alone = arguments(frame, coords=np.zeros((1, 3)), cells=None, spins=spin[:1])
        alone["atom_types"] = ["Ni"]
        deepspin.DeepSpin(told.model).check(**alone)  # nothing is known
        told.metadata = {"environments": {"Ni": {"O": ends}}}
        told._batching._warned.clear()
        told.check(**alone)
        assert "the nearest beyond 3.3 Å (1.5000 to 2.5000)" in caplog.messages[3]


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"atom_types": [0, 1, 1, 1, 0, 0, 0, 2]}, r"0 for O, 1 for Ni\. .*0, 2\]"),
            ({"atom_types": [0, 1, 1, 1, 0, 0, 0, -1]}, "indices or names, .*0, -1"),
            ({"atom_types": ["O", "Fe"] * 4}, "0 for O, 1 for Ni.*'O', 'Fe'"),
            ({"atom_types": ["O", 1] * 4}, "indices or names, .*'O', '1'"),
            ({"atom_types": [0.5] * 8}, "indices or names, .*0.5, "),
            ({"atom_types": [[0] * 8]}, r"indices or names, .*\[\[0, 0"),
            ({"atom_types": [0] * 9}, r"`coords` .*\(frames, 9, 3\).*: \(8, 3\)"),
            ({"coords": np.ones((9, 8, 3))[:, :7]}, r"`coords` .*: \(9, 7, 3\)"),
            ({"coords": np.ones((8, 3, 1))}, r"`coords` .*: \(8, 3, 1\)"),
            ({"coords": np.ones(25)}, r"`coords` .*: \(25,\)"),
            ({"coords": 1.0}, r"`coords` .*: \(\)"),
            ({"coords": np.zeros((0, 8, 3))}, r"`coords` .*: \(0, 8, 3\)"),
            ({"coords": "here"}, "`coords` must hold real numbers. Received: str"),
            ({"spins": np.ones((8, 3)) * 1j}, "`spins` must hold real numbers"),
            ({"spins": [[1, 2, 3], [1, 2]]}, "`spins` must hold real numbers. .*list"),
            ({"cells": [4.0, 4.0, 4.0]}, r"`cells` .*\(frames, 3, 3\).*: \(3,\)"),
            ({"cells": np.zeros((3, 3))}, "`cells` of frame 0 is singular"),
            ({"cells": np.tile(np.eye(3), (2, 1, 1))}, "Numbers of frames differ"),
            ({"spins": np.ones((3, 8, 3))}, "Numbers of frames differ"),
            ({"coords": np.full((8, 3), np.nan)}, "`coords`.*NaN"),
            ({"spins": np.full((8, 3), np.inf)}, "`spins` of frame 0 .*infinite"),
            ({"cells": np.full((3, 3), np.nan)}, "`cells`.*NaN"),
            ({"pbc": [True, False]}, "`pbc` must be a bool or 3 of them"),
            ({"pbc": "yes"}, "`pbc` must be a bool or 3 of them. Received: yes"),
            ({"pbc": [1, 0, 2]}, "`pbc` must be a bool or 3 of them"),
            ({"spins": np.full((8, 3), 1e200)}, r"`spins` .* or beyond 1e\+15"),
            ({"batch_size": 0}, "`batch_size` must be an integer of at least 1. .*: 0"),
            ({"batch_size": 1.5}, "`batch_size` must be an integer .*: 1.5"),
            ({"batch_size": float("nan")}, "`batch_size` must be an integer .*: nan"),
            ({"batch_size": True}, "`batch_size` must be an integer .*: True"),
            ({"spins": np.ma.masked_equal(np.ones((8, 3)), 1.0)}, "some are masked"),
        ],
    )
    def test_values(self, potential, frame, change, message):
        with pytest.raises(ValueError, match=message) as caught:
            potential.eval(**arguments(frame, **change))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("height", [1e-3, 1e-9])
    def test_flat_cells(self, potential, height):
        """Far from a cube, and yet cells: whatever the look that spares their rank."""
        cell = np.array([[9.0, 0, 0], [8.0, height, 0], [0, 0, 9.0]])
        Frames.of(
            potential.model, *np.zeros((1, 1, 3)), cell, [0], [0, 0, 0], None, None
        )
        cell[1, 1] = 0.0
        with pytest.raises(ValueError, match="singular"):
            Frames.of(
                potential.model, *np.zeros((1, 1, 3)), cell, [0], [0, 0, 0], None, None
            )

    @pytest.mark.parametrize("pbc", [1, np.True_, (1, 1.0, True), np.ones(3, int)])
    def test_directions(self, potential, frame, pbc):
        given = Frames.of(potential.model, *arguments(frame).values(), pbc, None)
        assert given.pbc.dtype == bool and given.pbc.tolist() == [True] * 3

    def test_singular_along_an_open_axis(self, potential, frame):
        """What is not periodic needs no lattice vector."""
        cell = np.array(frame.box)
        cell[2] = 0
        result = potential.eval(**arguments(frame, cells=cell), pbc=[True, True, False])
        assert np.isfinite(result["energy"]).all()
        with pytest.raises(ValueError, match="singular"):
            potential.eval(**arguments(frame, cells=cell), pbc=[True, False, True])

    def test_no_atoms(self, potential):
        empty = np.zeros((0, 3))
        with pytest.raises(ValueError, match="`atom_types` must be"):
            potential.eval(empty, None, [], empty)

    def test_periodic_without_cell(self, potential, frame):
        with pytest.raises(ValueError, match="need `cells`"):
            potential.eval(**arguments(frame, cells=None), pbc=True)

    def test_zero_spin(self, potential, frame):
        atom = int(np.flatnonzero(frame.magnetic)[1])
        spin = frame.spin.copy()
        spin[atom] = 0
        message = rf"Atom {atom} of frame 0 has \|spin\| = 0.*'Ni'"
        with pytest.raises(ValueError, match=message):
            potential.eval(**arguments(frame, spins=spin))

    def test_zero_spin_without_spin_type(self, potential, frame):
        bare = replace(frame, spin=frame.spin * frame.magnetic[:, None])
        want = potential.eval(**arguments(frame))
        assert_same(potential.eval(**arguments(bare)), want)

    def test_spins_without_spin_type_warn_once(self, model, frame, caplog):
        potential = deepspin.DeepSpin(model)
        bare = replace(frame, spin=frame.spin * frame.magnetic[:, None])
        potential.eval(**arguments(bare))
        assert not caplog.records
        for _ in range(2):
            potential.eval(**arguments(frame))
        (record,) = caplog.records
        assert record.getMessage() == "spins on atoms of O are ignored: no spin types"

    def test_coinciding_atoms(self, potential, frame):
        coord = frame.coord.copy()
        coord[3] = coord[2]
        with pytest.raises(ValueError, match=r"Two atoms of frame 0, .*same place"):
            potential.eval(**arguments(frame, coords=coord))

    def test_too_wide(self, potential, frame):
        cell = frame.box * np.array([[1e6], [1], [1]])
        with pytest.raises(ValueError, match=r"the frame is 4.*e\+06 x .* Å wide"):
            potential.eval(**arguments(frame, cells=cell))

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.keras"):
            deepspin.DeepSpin(tmp_path / "none.keras")

    def test_other_file(self, tmp_path):
        (tmp_path / "text.keras").write_text("no model")
        with pytest.raises(ValueError, match=r"no model file"):
            deepspin.DeepSpin(tmp_path / "text.keras")


def test_many_models(make_model, make_nio, caplog):
    """TensorFlow does not take the graph of each for a new tracing of one."""
    frame = make_nio(make_model())
    spin = frame.spin * frame.magnetic[:, None]
    for seed in range(7):
        potential = deepspin.DeepSpin(make_model(seed=seed))
        potential.eval(**arguments(frame, spins=spin))
    assert not caplog.records


def test_more_atoms_than_memory_holds(potential, frame, monkeypatch):
    """An error of one line, not the end of the program."""
    given = frame.coord, frame.box, frame.atype, frame.spin
    monkeypatch.setattr("deepspin.env.machine_memory", lambda: 2.0**12)
    with pytest.raises(
        MemoryError,
        match=r"A frame of \d+ atoms takes .* GiB at least.* Evaluate fewer",
    ):
        potential.eval(*given)
    monkeypatch.setattr("deepspin.env.machine_memory", lambda: 2.0**30)
    potential.eval(*given)
