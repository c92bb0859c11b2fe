# SPDX-License-Identifier: Apache-2.0
"""Compressed models: what tables change, what they must not, and how it is said."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from invariants import check_derivatives
from places import REFERENCE
from tiny import DATA

import deepspin
from deepspin.data.environments import environments
from deepspin.descriptor.table import EmbeddingTable, tabulate
from deepspin.main import main
from deepspin.model.compress import Options, compress, differences
from deepspin.modelfiles.find import read_metadata
from deepspin.modelfiles.saved_model import FrozenModel, describe
from deepspin.op import library
from deepspin.training.runs import nearest_pairs
from deepspin.utils.network import embedding_layers, run

NAMES = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")
SYSTEM = str(DATA / "valid" / "spin-files-16")
# nearest distances in the example's data (Å): of Ni and O; atoms, then spins of Ni
NIO = np.array([[2.61, 1.75, 0.328], [1.75, 2.59, 1.41]])
HALF_OF_L2 = 512 * 1024


def distances(model, frames):
    """Nearest distances between atoms of frames, as `nearest_pairs` gives them."""
    scheme, rcut = model.spin.scheme, model.descriptor.rcut
    nearest = np.full((scheme.ntypes, scheme.nblocks), np.inf)
    for frame in frames:
        box = np.zeros((3, 3)) if frame.box is None else frame.box
        images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
        points, lists = scheme.points(frame.coord, frame.spin, frame.atype)
        types = np.where(lists < 0, -1, np.array(scheme.list_blocks)[lists])
        apart = points[:, None] + images @ box - frame.coord[:, None, None]
        r = np.linalg.norm(apart, axis=-1)  # i j image
        r[r < 1e-9] = np.inf
        for i, t in enumerate(frame.atype):
            for j in np.flatnonzero(types >= 0):
                nearest[t, types[j]] = min(nearest[t, types[j]], r[i, j].min())
    return np.where(nearest < rcut, nearest, np.inf)


VARIANTS = {
    "one-sided": ("NiO", {"type_one_side": True}),
    "two-sided": ("NiO", {}),
    "spins second": ("ONi", {"resnet_dt": True}),
    "two spin types": ("NiOFe", {"type_one_side": True}),
    "excluded pairs": ("NiO", {"exclude_types": [[0, 1], [1, 2]]}),
    "no neighbours of a type": ("NiO", {"sel": [26, 0], "type_one_side": True}),
    "gelu": ("NiO", {"activation_function": "gelu"}),
    "softplus": ("NiO", {"activation_function": "softplus", "type_one_side": True}),
    "protected": ("NiO", {"env_protection": 0.1}),
    "float32": ("NiO", {"precision": "float32", "type_one_side": True}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def case(request, make_model, make_nio, make_inputs):
    """A model, compressed, frames, and what was said of the difference."""
    system, options = VARIANTS[request.param]
    model = make_model(system, **options)
    frames = [make_nio(model, seed=k) for k in range(3)]
    inputs = [make_inputs(model, [frame])[0] for frame in frames]
    tol = 1e-4 if request.param == "float32" else 1e-9
    how = Options(tol)
    compressed, report = compress(model, distances(model, frames), how, inputs)
    return model, compressed, frames, inputs, report, tol


# --- Numbers --------------------------------------------------------------------------


def test_within_the_bound(case):
    """What was measured is what comes out again, and holds on frames not measured."""
    model, compressed, _, inputs, report, tol = case
    error = report["error"]
    assert 0 < max(error["force"]["max"], error["force_mag"]["max"]) <= tol
    for name in ("force", "force_mag"):
        assert error[name]["rms"] <= error[name]["max"]
    again = differences(model, compressed, inputs)
    assert again.pop("frames") == error["frames"] == 3
    for name, values in again.items():
        assert values == pytest.approx(
            {k: error[name][k] for k in values},
            rel=1e-3,
            abs=1e-14 if tol < 1e-5 else 1e-5,
        )
    for given in inputs:
        ours, theirs = model(given), compressed(given)
        assert theirs["extrapolated"] == 0
        for name in NAMES:
            scale = np.abs(ours[name]).max()
            np.testing.assert_allclose(
                theirs[name], ours[name], rtol=0, atol=30 * tol * scale
            )


def test_kernels_are_plain_tensorflow(case):
    _, compressed, _, inputs, _, tol = case
    if library.operations() is None:
        pytest.skip("no kernels")
    assert compressed.native == (compressed.descriptor.env_protection == 0)
    ours = compressed(inputs[0])
    with library.plain_tensorflow():
        plain = compressed(inputs[0])
    close = 1e-12 if tol < 1e-5 else 1e-5
    for name in NAMES:
        scale = np.abs(plain[name]).max()
        np.testing.assert_allclose(
            ours[name], plain[name], rtol=close, atol=close * scale
        )


def test_xla(make_model, make_nio, make_inputs):
    """The twin can be compiled."""
    model = make_model("NiO", neuron=(2, 4))
    inputs, _ = make_inputs(model, [make_nio(model)])
    compressed, _ = compress(model, NIO, Options(1e-6))
    with library.plain_tensorflow():
        plain = compressed(inputs)
        fast = tf.function(compressed, jit_compile=True)(inputs)
    for name in (*NAMES, "extrapolated"):
        np.testing.assert_allclose(fast[name], plain[name], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("plain", "options"), [(False, {}), (True, {"activation_function": "silu"})]
)
@pytest.mark.usefixtures("eagerly")
def test_derivatives(make_model, make_nio, plain, options):
    """Forces and virials are those of the compressed energy, not of the nets."""
    model = make_model("NiO", neuron=(2, 4), **options)
    frame = make_nio(model)
    near = distances(model, [frame])
    compressed, _ = compress(model, near, Options(1e-8))
    potential = deepspin.DeepSpin(compressed)
    with library.plain_tensorflow() if plain else nullcontext():
        check_derivatives(potential.eval, frame)
        # beyond the tables, too: straight lines are differentiated as such
        short, _ = compress(model, 1.2 * near, Options(1e-8, extrapolate=1.0))
        short.descriptor.check_frequency = -1
        check_derivatives(deepspin.DeepSpin(short).eval, frame)


def test_second_derivatives(make_model, make_nio, make_inputs):
    """Forces can be differentiated with respect to positions."""
    model = make_model("NiO")
    frame = make_nio(model)
    inputs, _ = make_inputs(model, [frame])
    compressed, _ = compress(model, distances(model, [frame]), Options(1e-10))
    rows = []
    for m in (model, compressed):
        with tf.GradientTape() as tape:
            tape.watch(inputs["coord"])
            total = tf.reduce_sum(m(inputs)["force"] ** 2)
        rows.append(tape.gradient(total, inputs["coord"]).numpy())
    np.testing.assert_allclose(*rows, rtol=1e-6, atol=1e-6 * np.abs(rows[0]).max())


def test_padding_and_batches(make_model, make_nio, make_inputs):
    """Slots without atoms and without neighbours change nothing, and do not count."""
    model = make_model("NiO", type_one_side=True)
    frames = [make_nio(model, seed=k) for k in range(2)]
    compressed, _ = compress(model, distances(model, frames), Options(1e-9))
    for plain in (False, True):
        with library.plain_tensorflow() if plain else nullcontext():
            tight, slots = make_inputs(model, frames)
            loose, wide = make_inputs(model, frames, wider=3, more_atoms=2)
            a, b = compressed(tight), compressed(loose)
        assert b["extrapolated"] == 0
        np.testing.assert_allclose(a["energy"], b["energy"], rtol=1e-13)
        f = np.arange(2)[:, None]
        np.testing.assert_allclose(
            a["force"].numpy()[f, slots], b["force"].numpy()[f, wide], atol=1e-12
        )


# --- Tables ---------------------------------------------------------------------------


def make_table(layers, *args, **kwargs):
    made = tabulate(layers, *args, **kwargs)
    table = EmbeddingTable(len(made.edges), layers[-1].n_out)
    table.edges.assign(made.edges)
    table.coefficients.assign(made.coefficients)
    return made, table


@pytest.mark.parametrize(
    "activation", ["tanh", "gelu", "gelu_tf", "silu", "sigmoid", "softplus", "linear"]
)
def test_table_is_the_net(activation):
    """Values and slopes to the tolerance, everywhere, pieces without gaps."""
    layers = embedding_layers([10, 20, 40], activation, True, (1,))
    made, table = make_table(layers, -1.5, 10.0, 30.0, 1e-8)
    begin, width = made.edges.T
    np.testing.assert_allclose(begin[1:], begin[:-1] + width[:-1], rtol=1e-15)
    assert begin[0] == -1.5
    assert begin[-1] + width[-1] >= 30.0
    u = tf.constant(np.linspace(-1.5, 30.0, 3001)[:, None])
    rows = []
    for function in (lambda x: run(layers, x), table):
        with tf.autodiff.ForwardAccumulator(u, tf.ones_like(u)) as forward:
            value = function(u)
        rows.append((value.numpy(), forward.jvp(value).numpy()))
    seen = u[:, 0] <= 10.0
    for ours, theirs in zip(*rows, strict=True):
        largest = np.abs(ours[seen]).max()
        assert np.abs(theirs - ours).max() < 1e-8 * largest
        assert np.abs(theirs - ours).max() < 1.1 * made.error * largest + 1e-12


@pytest.mark.parametrize("activation", ["relu", "relu6", "silut"])
def test_nets_that_are_not_smooth(activation):
    layers = embedding_layers([10, 20], activation, False, (1,))
    with pytest.raises(ValueError, match=f"activation function '{activation}'"):
        tabulate(layers, -1.5, 10.0, 30.0, 1e-8)


def test_straight_lines_beyond_the_ends():
    """Value and slope go on at both ends, and the slope stays."""
    layers = embedding_layers([4, 8], "tanh", False, (2,))
    made, table = make_table(layers, -1.0, 1.0, 4.0, 1e-10)
    last = made.edges[-1].sum()
    for end, sign in ((-1.0, -1.0), (last, 1.0)):
        u = tf.constant([end, end + sign * 1e-7, end + sign * 1.0, end + sign * 2.0])
        with tf.autodiff.ForwardAccumulator(u, tf.ones_like(u)) as forward:
            value = table(u[:, None])
        slope = forward.jvp(value).numpy()
        value = value.numpy()
        np.testing.assert_allclose(slope, np.stack([slope[0]] * 4), atol=1e-6)
        np.testing.assert_allclose(slope[1:], np.stack([slope[1]] * 3), rtol=1e-12)
        np.testing.assert_allclose(value[1], value[0], atol=1e-6)
        np.testing.assert_allclose(
            value[3] - value[2], sign * slope[2], rtol=1e-9, atol=1e-12
        )
        assert table.outside(u).numpy().tolist() == [False, True, True, True]


def test_widest_piece():
    layers = embedding_layers([4, 8], "tanh", False, (2,))
    free, _ = make_table(layers, -1.0, 1.0, 4.0, 1e-10)
    tied, _ = make_table(layers, -1.0, 1.0, 4.0, 1e-10, widest=0.25)
    assert free.edges[:, 1].max() > 0.25 >= tied.edges[:, 1].max()
    assert len(tied.edges) == 20


@pytest.mark.parametrize("one_side", [True, False])
def test_size(make_model, one_side):
    """At the default tolerance all tables of NiO stay in half of a core's cache."""
    model = make_model(
        "NiO", neuron=(25, 50, 100), axis_neuron=16, type_one_side=one_side, rcut=5.6
    )
    compressed, report = compress(model, NIO, Options(1e-9))
    assert compressed.descriptor.table_bytes <= HALF_OF_L2
    assert report["table_error"] < 1e-10
    assert len(compressed.descriptor.leaves) == (3 if one_side else 6)


# --- Beyond the tables ----------------------------------------------------------------


def warnings_of(caplog):
    """What deepspin said; TensorFlow has something to say on its own."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("deepspin")]


@pytest.mark.parametrize(
    ("one_side", "plain", "reversal"),
    [(True, False, False), (False, True, False), (True, False, True)],
)
@pytest.mark.usefixtures("eagerly")
def test_pairs_beyond_are_refused(
    make_model, make_nio, make_inputs, caplog, one_side, plain, reversal
):
    """As many as there are are named; `check_frequency` says how often to look."""
    model = make_model("NiO", type_one_side=one_side, time_reversal=reversal)
    frame = make_nio(model)
    frame = replace(frame, spin=np.where(frame.magnetic[:, None], frame.spin, 0.0))
    near = distances(model, [frame])
    inputs, _ = make_inputs(model, [frame])
    compressed, _ = compress(model, near, Options(1e-8, 1.0, 0.2))
    # own spins of all but the longest are nearer than a table for that one reaches
    longest = (
        model.spin.scheme.codec.scale[0] * np.linalg.norm(frame.spin, axis=1).max()
    )
    near[0, 2] = longest
    davg, dstd = (
        np.asarray(w)[:, 0] for w in (model.descriptor.davg, model.descriptor.dstd)
    )
    short, _ = compress(model, near, Options(1e-8, 1.0, 0.2))
    table = short.descriptor.tables[2]
    end = np.asarray(table.edges)[-1].sum()
    apart = model.spin.scheme.codec.scale[0] * np.linalg.norm(frame.spin, axis=1)
    own = ((1 / apart[frame.magnetic] - davg[0]) / dstd[0] > end + 1e-9).sum()
    as_they_are, own = own, own * (2 if reversal else 1)
    with library.plain_tensorflow() if plain else nullcontext():
        assert compressed(inputs)["extrapolated"] == 0
        assert short(inputs)["extrapolated"] == own > 0
        potential = deepspin.DeepSpin(short)
        given = frame.coord, frame.box, frame.atype, frame.spin
        said = "{} pairs are nearer than the .*Compress again with a larger -e "
        direction = np.ones((2, *frame.coord.shape))
        calls = [
            (potential.eval, (), own),
            (potential.descriptor, (), as_they_are),
            (potential.hvp, direction, own),
        ]
        for call, more, number in calls[: 1 if plain else None]:  # which is slow
            with pytest.raises(RuntimeError, match=f"^{said.format(number)}"):
                call(*given, *more)
        deepspin.DeepSpin(compressed).descriptor(*given)
        with caplog.at_level(logging.WARNING):
            short.descriptor.check_frequency = -1
            deepspin.DeepSpin(short).eval(*given)
            short.descriptor.check_frequency = 2
            potential = deepspin.DeepSpin(short)
            potential._evaluations = 1
            potential.eval(*given)
        assert not warnings_of(caplog)
        with pytest.raises(RuntimeError, match=said.format(own)):
            potential.eval(*given)
    tf.config.run_functions_eagerly(False)  # a frozen model is a graph
    answer = FrozenModel(short, describe(short, {})).eval_small(
        *(np.asarray(x)[None] for x in given[:2]),
        np.asarray(frame.atype, np.int32)[None],
        frame.spin[None],
    )
    assert answer["extrapolated"] == own


# --- Refusals -------------------------------------------------------------------------


def test_training_is_refused(make_model):
    compressed, _ = compress(make_model("NiO"), NIO, Options(1e-6))
    with pytest.raises(ValueError, match="Train before compressing"):
        compressed.compile("adam", deepspin.EnerSpinLoss())
    with pytest.raises(ValueError, match="compressed already"):
        compress(compressed, NIO, Options(1e-6))


def test_out_of_reach(make_model, make_nio, make_inputs):
    model = make_model("NiO")
    frame = make_nio(model)
    inputs, _ = make_inputs(model, [frame])
    with pytest.raises(
        ValueError, match=r"out of reach.* Give a larger --tol, such as"
    ):
        compress(model, distances(model, [frame]), Options(1e-17), [inputs])


def test_tightening_goes_on(make_model, make_nio, make_inputs, monkeypatch):
    """One round that does not help is no reason to give up."""
    model, module = make_model("NiO"), sys.modules[compress.__module__]
    frame = make_nio(model)
    inputs, _ = make_inputs(model, [frame])
    first = []

    def just_missed(wanted, theirs, batches):
        first.append(sum(theirs.descriptor.leaves))
        error = 1.01e-9 if len(first) < 3 else 0.5e-9
        return {name: {"max": error} for name in module.COMPARED}

    monkeypatch.setattr(module, "_differences", just_missed)
    result, _ = compress(model, distances(model, [frame]), Options(1e-9), [inputs])
    assert sum(result.descriptor.leaves) == first[2] > first[0]


def test_number_of_tables(make_model):
    config = make_model("NiO").descriptor.get_config()
    with pytest.raises(ValueError, match="`leaves` must have 6 entries"):
        deepspin.DescrptSeA(**{**config, "leaves": [1, 2]})
    with pytest.raises(ValueError, match="at least one piece"):
        EmbeddingTable(0, 4)


# --- Files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_training):
    """A training's checkpoint, frozen, and compressed with and without data."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copytree(tiny_training, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["freeze", "-o", "frozen_model"]) == 0
        assert main(["compress"]) == 0
        args = ["compress", "-i", "model.ckpt", "-t", "input.json", "-o", "measured"]
        assert main([*args, "-e", "2", "-s", "0.5", "-f", "10"]) == 0
    return folder


def test_training_records_distances(files):
    stored = read_metadata(files / "frozen_model")["nearest"]
    assert stored == read_metadata(files / "model.ckpt-6.keras")["nearest"]
    model = deepspin.load_model(files / "frozen_model")
    data = deepspin.DataSystem(tiny.SYSTEM, **model.data_spec)
    for name in ("model.ckpt-6.keras", "frozen_model", "compressed_model", "measured"):
        assert read_metadata(files / name)["environments"] == environments(data)
    names = [*model.type_map, "Ni(spin)"]
    assert list(stored["Ni"]) == list(stored["O"]) == names
    found = nearest_pairs(data)
    np.testing.assert_allclose(
        [list(stored[t].values()) for t in model.type_map], found
    )
    assert found.min() == pytest.approx(data.nearest, rel=1e-12)
    assert found[:, :2].min() == pytest.approx(data.nearest_real, rel=1e-12)


def test_metadata(files):
    """It says what was measured, and that is so."""
    told = read_metadata(files / "measured")["compressed"]
    model = deepspin.load_model(files / "model.ckpt-6.keras", compile=False)
    compressed = deepspin.load_model(files / "measured")
    assert told["tol"] == 1e-9
    assert (told["extrapolate"], told["step"]) == (2.0, 0.5)
    assert compressed.descriptor.check_frequency == 10
    assert told["pieces"] == list(compressed.descriptor.leaves)
    assert told["bytes"] == sum(
        np.asarray(w).nbytes for t in compressed.descriptor.tables for w in t.weights
    )
    batches = []
    for system in (tiny.SYSTEM, str(DATA / "valid" / "virtual-atom-16")):
        data = deepspin.DataSystem(system, **model.data_spec, batch_size=1)
        count = data.systems[0].nframes
        chosen = np.linspace(0, count - 1, min(32, count)).astype(int)
        batches += [data.frames(0, np.array([f]))[0] for f in chosen]
    again = differences(model, compressed, batches)
    assert again.pop("frames") == told["error"]["frames"] == len(batches)
    for name, values in again.items():
        for kind, value in values.items():
            assert value == pytest.approx(
                told["error"][name][kind], rel=1e-3, abs=1e-14
            )
    for name in ("force", "force_mag"):
        assert told["error"][name]["max"] <= 1e-9
    widths = np.concatenate([t.edges[:, 1] for t in compressed.descriptor.tables])
    std = np.asarray(model.descriptor.dstd)[:, 0].max()
    assert widths.max() * std <= 0.5 * (1 + 1e-12)


def test_without_data(files, capsys):
    """From the distances that the training recorded, with a bound on the tables."""
    told = read_metadata(files / "compressed_model")["compressed"]
    assert "error" not in told
    assert told["table_error"] <= 1e-10
    model = deepspin.load_model(files / "frozen_model")
    compressed = deepspin.load_model(files / "compressed_model")
    data = deepspin.DataSystem(SYSTEM, **model.data_spec, batch_size=1)
    batches = [data.frames(0, np.array([f]))[0] for f in range(3)]
    error = differences(model, compressed, batches)
    assert max(error[name]["max"] for name in ("force", "force_mag")) < 1e-9
    assert main(["show", str(files / "compressed_model")]) == 0
    assert "within" in capsys.readouterr().out


def test_show(files, capsys):
    assert main(["show", str(files / "measured")]) == 0
    out = capsys.readouterr().out
    assert "forces within" in out
    model = deepspin.load_model(files / "measured")
    count = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert f"{count:,} to train" in out


def test_same_test_results(files, capsys):
    printed = []
    for name in ("frozen_model", "measured", "compressed_model"):
        assert main(["test", "-m", f"{files}/{name}", "-s", SYSTEM, "-n", "2"]) == 0
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1] == printed[2]


WITHOUT_DEEPSPIN = """
import sys
sys.modules["deepspin"] = None  # importing it fails
import numpy as np
import tensorflow as tf
model = tf.saved_model.load("measured")
given = np.load("given.npz")
result = model.eval_small(*(given[k] for k in ("coord", "box", "atype", "spin")))
np.savez("result.npz", **{k: v.numpy() for k, v in result.items()})
"""


def test_without_deepspin(files):
    potential = deepspin.DeepSpin(files / "measured")
    data = deepspin.DataSystem(SYSTEM, **potential.model.data_spec).systems[0]
    names = ("coord", "box", "atype", "spin")
    given = {name: getattr(data, name)[:2] for name in names}
    np.savez(files / "given.npz", **given)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEEPSPIN],
        cwd=files,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = potential.eval(data.coord[:2], data.box[:2], data.atype[0], data.spin[:2])
    with np.load(files / "result.npz") as result:
        assert result["extrapolated"] == 0
        for name in NAMES:
            scale = np.abs(answer[name]).max()
            np.testing.assert_allclose(
                result[name], answer[name], rtol=1e-12, atol=1e-12 * scale
            )


def test_save_and_load(files, tmp_path):
    """As a Keras archive, and frozen again."""
    model = deepspin.load_model(files / "measured")
    deepspin.save_model(model, tmp_path / "model.keras")
    assert (
        main(["freeze", "-c", str(files / "measured"), "-o", f"{tmp_path}/again"]) == 0
    )
    assert read_metadata(tmp_path / "again")["compressed"]["tol"] == 1e-9
    for name in ("model.keras", "again"):
        loaded = deepspin.load_model(tmp_path / name)
        assert loaded.get_config() == model.get_config()
        for a, b in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", ["base", "two_side"])
def test_what_deepmd_kit_froze(tmp_path, name):
    """Its data has to be named; then it is a model like any other."""
    content = json.loads(json.dumps(tiny.INPUT))
    source = str(REFERENCE / f"{name}.pb")
    script = tmp_path / "input.json"
    script.write_text(json.dumps(content))
    args = ["compress", "-i", source, "-o", f"{tmp_path}/out"]
    assert main(args) == 1
    assert main([*args, "-t", str(script)]) == 0
    error = read_metadata(tmp_path / "out")["compressed"]["error"]
    assert max(error[k]["max"] for k in ("force", "force_mag")) <= 1e-9


def test_predict(files):
    """Keras' own `predict` gives arrays of frames."""
    model = deepspin.load_model(files / "measured")
    data = deepspin.DataSystem(SYSTEM, **model.data_spec, batch_size=1)
    batch = tf.nest.map_structure(tf.constant, data.frames(0, np.array([0]))[0])
    outputs = keras.Model.predict(model, tf.data.Dataset.from_tensors(batch), verbose=0)
    assert outputs["energy"].shape == (1,)
