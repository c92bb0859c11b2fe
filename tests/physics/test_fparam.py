# SPDX-License-Identifier: Apache-2.0
"""Frame parameters, from files to frozen models."""

from __future__ import annotations

import json
import shutil
from functools import cache, partial
from pathlib import Path

import conftest
import h5py
import invariants
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from conftest import cluster, inputs_of, nio
from small_data import contents, with_virtual_atoms
from small_data import frames as small_frames
from small_data import write as write_system

import deepspin
from deepspin.data.files import DataError
from deepspin.data.systems import load_system
from deepspin.entrypoints.check_data import check_data
from deepspin.main import main
from deepspin.model.compress import Options, compress
from deepspin.modelfiles.archive import save_model
from deepspin.modelfiles.find import read_config, read_metadata
from deepspin.modelfiles.saved_model import FrozenModel, all_pairs, describe, freeze
from deepspin.op import library

# smaller than elsewhere: plain TensorFlow evaluates it, whose graphs take long to build
build = partial(conftest.build, neuron=(4, 8), fit_neuron=(6, 6))

PARAMETERS = np.array([0.3, -1.2])
SCHEME = build("NiO").spin.scheme
VALID = tiny.DATA / "valid" / "virtual-atom-16"


@pytest.fixture(scope="module", params=["float64", "float32", "vacuum"])
def model(request):
    options = {
        "float32": {"precision": "float32"},
        "vacuum": {"vacuum_types": [0], "set_davg_zero": True},
    }
    return build(numb_fparam=2, **options.get(request.param, {}))


@pytest.fixture(scope="module")
def plain():
    return build(numb_fparam=2)


@cache
def potential_of(model):
    """What evaluates a model; tracing it takes a while."""
    return deepspin.DeepSpin(model)


def at(model, fparam=PARAMETERS):
    """Evaluate a model at given frame parameters."""
    return partial(potential_of(model).eval, fparam=fparam)


def frames_of(model, n=2):
    return [nio(model, seed=k) for k in range(n)]


def arrays_of(frames):
    return (
        np.stack([f.coord for f in frames]),
        np.stack([f.box for f in frames]),
        frames[0].atype,
        np.stack([f.spin for f in frames]),
    )


# --- Physics --------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["derivatives", "permutation", "sums", "supercell"])
def test_physics(plain, check):
    getattr(invariants, f"check_{check}")(at(plain), nio(plain))


@pytest.mark.usefixtures("eagerly")
def test_derivatives_with_vacuum():
    model = build(numb_fparam=3, vacuum_types=[0, 1], type_one_side=True)
    invariants.check_derivatives(at(model, [0.1, 0.2, -0.3]), nio(model))


def test_energies_are_those_of_the_formula(model):
    """Net of descriptor and scaled parameters; vacuum at the same parameters."""
    frames = frames_of(model)
    inputs, _ = inputs_of(model, frames)
    fparam = np.random.default_rng(3).normal(size=(2, 2))
    fitting, natoms = model.fitting, [4, 4]
    descriptor = model.descriptors(inputs).numpy()
    scaled = (fparam - fitting.fparam_avg.numpy()) * fitting.fparam_inv_std.numpy()
    bias = fitting.bias_atom_e.numpy()

    def energy(t, d):
        given = np.concatenate([d, np.repeat(scaled[:, None], d.shape[1], 1)], axis=2)
        x = tf.constant(given.astype(fitting.compute_dtype))
        for layer in fitting.net(t):
            x = layer(x)
        return x.numpy()[..., 0].astype(float)

    want, begin = [], 0
    for t, n in enumerate(natoms):
        own = descriptor[:, begin : begin + n]
        part = energy(t, own) + bias[t]
        if t in fitting.vacuum_types:
            part -= energy(t, np.zeros_like(own))
        want.append(part)
        begin += n
    want = np.concatenate(want, axis=1)
    found = model({**inputs, "fparam": fparam})["atom_ener"].numpy()
    close = 1e-6 if fitting.compute_dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, want, rtol=close, atol=close)


def test_an_atom_on_its_own_has_its_energy_at_any_parameters():
    model = build(numb_fparam=2, vacuum_types=[0, 1], set_davg_zero=True)
    descriptor = tf.zeros([3, 5, model.fitting.dim_descrpt], tf.float64)
    fparam = tf.constant(np.random.default_rng(1).normal(size=(3, 2)))
    energy = model.fitting(descriptor, natoms=[2, 3], fparam=fparam).numpy()
    bias = model.fitting.bias_atom_e.numpy()
    want = np.broadcast_to(np.repeat(bias, [2, 3]), (3, 5))
    np.testing.assert_allclose(energy, want, rtol=0, atol=1e-14)


@pytest.mark.usefixtures("eagerly")
def test_parameters_matter_and_frames_have_their_own(model):
    frames = frames_of(model)
    given = arrays_of(frames)
    fparam = np.array([[0.3, -1.2], [0.7, 0.4]])
    both = at(model, fparam)(*given)
    close = 1e-5 if model.descriptor.compute_dtype == "float32" else 1e-13
    for k in range(2):
        alone = at(model, fparam[k])(*(a if a.ndim == 1 else a[k] for a in given))
        found = {name: both[name][k : k + 1] for name in invariants.FIELDS}
        invariants.assert_close(found, alone, close)
    other = at(model, fparam + np.array([0.0, 1e-3]))(*given)
    for name in ("energy", "force", "force_mag", "virial"):
        assert np.abs(other[name] - both[name]).max() > 1e-6 * np.abs(both[name]).max()


def test_open_clusters_and_xla(plain):
    frame = cluster(plain)
    given = frame.coord, None, frame.atype, frame.spin
    potential = deepspin.DeepSpin(plain, jit_compile=True)
    want = at(plain)(*given)
    invariants.assert_close(potential.eval(*given, fparam=PARAMETERS), want, 1e-12)


def test_kernels_are_not_asked(plain):
    assert not plain.native
    inputs, _ = inputs_of(plain, frames_of(plain))
    inputs["fparam"] = tf.constant(np.tile(PARAMETERS, (2, 1)))
    with_kernels = plain(inputs)
    with library.plain_tensorflow():
        without = plain(inputs)
    for name, array in without.items():
        np.testing.assert_array_equal(with_kernels[name], array, err_msg=name)


def test_no_parameters_is_as_before():
    """The same weights, the same numbers; no weights for what is not there."""
    model = build()
    config = model.fitting.get_config()
    del config["numb_fparam"]  # as archives of earlier versions have it
    old = deepspin.EnerFitting.from_config(config)
    for a, b in zip(model.fitting.weights, old.weights, strict=True):
        assert (a.path.split("/")[-1], a.shape) == (b.path.split("/")[-1], b.shape)
    assert not [w for w in model.weights if "fparam" in w.path]
    assert "numb_fparam" not in describe(model, {})
    assert "fparam" not in describe(model, {})["units"]


# --- How they are given ---------------------------------------------------------------


def test_shapes(plain):
    """One row for each frame, one for all, or flat, as in DeePMD-kit's `DeepPot`."""
    given = arrays_of(frames_of(plain, 3))
    each = np.random.default_rng(5).normal(size=(3, 2))
    want = at(plain, each)(*given)
    for form in (each.ravel(), each.tolist(), np.asfortranarray(each)):
        result = at(plain, form)(*given)
        np.testing.assert_array_equal(result["force"], want["force"])
    want = at(plain, np.tile(PARAMETERS, (3, 1)))(*given)
    for form in (PARAMETERS, PARAMETERS.tolist(), PARAMETERS[None]):
        result = at(plain, form)(*given)
        np.testing.assert_array_equal(result["force"], want["force"])


@pytest.mark.usefixtures("eagerly")
def test_one_parameter():
    model = build(numb_fparam=1)
    given = arrays_of(frames_of(model))
    want = at(model, [[0.5], [0.5]])(*given)
    for form in (0.5, [0.5], [[0.5]], [0.5, 0.5]):
        np.testing.assert_array_equal(at(model, form)(*given)["force"], want["force"])


@pytest.mark.parametrize(
    ("fparam", "says"),
    [
        (None, r"takes 2 frame parameters: .* shape \(3, 2\), or \(2,\).*: none"),
        ([1.0, 2.0, 3.0], r"Received: \(3,\)"),
        (np.zeros((2, 3)), r"Received: \(2, 3\)"),
        (np.zeros((2, 2)), r"Received: \(2, 2\)"),
        (0.5, r"Received: \(\)"),
        ([0.1, np.nan], "`fparam` of frame 0 has values that are NaN"),
        ([[0.1, 0], [0, 1e16], [0, 0]], "`fparam` of frame 1 has values"),
        (["hot", "cold"], "`fparam` must hold real numbers"),
    ],
)
def test_refused_parameters(plain, fparam, says):
    with pytest.raises(ValueError, match=says):
        at(plain, fparam)(*arrays_of(frames_of(plain, 3)))


def test_superfluous_parameters():
    model = build()
    given = arrays_of(frames_of(model))
    with pytest.raises(ValueError, match=r"takes no frame parameters.*\(2,\)"):
        at(model)(*given)
    inputs, _ = inputs_of(model, frames_of(model))
    with pytest.raises(ValueError, match=r"takes no frame parameters.*\(2, 2\)"):
        model({**inputs, "fparam": np.zeros((2, 2))})


@pytest.mark.parametrize(
    ("fparam", "found"),
    [
        (None, "none"),
        (np.zeros((2, 3)), r"shape \(2, 3\), float64"),
        (np.zeros((1, 2)), r"shape \(1, 2\), float64"),
        (np.zeros(2), r"shape \(2,\), float64"),
        (np.zeros((2, 2), np.float32), r"shape \(2, 2\), float32"),
    ],
)
def test_refused_inputs(plain, fparam, found):
    inputs, _ = inputs_of(plain, frames_of(plain))
    inputs |= {} if fparam is None else {"fparam": fparam}
    for call in (plain, tf.function(lambda given: plain(given))):
        with pytest.raises(ValueError, match=rf"of shape \(2, 2\).*: {found}"):
            call(inputs)


# --- Files ----------------------------------------------------------------------------


def small(nframes=3, seed=0):
    """Arrays of a small system, with parameters, and types."""
    arrays, types = small_frames(nframes, seed=seed)
    rng = np.random.default_rng(seed + 70)
    return {**arrays, "fparam": rng.normal(size=(nframes, 2))}, types


def read(path, **options):
    return load_system(str(path), ["Ni", "O"], SCHEME, **options)


@pytest.mark.parametrize("layout", ["spin-files", "virtual-atom"])
def test_layouts(tmp_path, layout):
    arrays, types = small()
    if layout == "virtual-atom":
        arrays, types = with_virtual_atoms(arrays, types)
    names = ("Ni", "O") if layout == "spin-files" else None
    folder = write_system(tmp_path / "npy", arrays, types, names)
    (tmp_path / "raw").mkdir()
    for file in folder.glob("*.raw"):
        shutil.copy(file, tmp_path / "raw")
    for name, array in arrays.items():
        rows = array.reshape(len(array), -1)
        np.savetxt(tmp_path / "raw" / f"{name}.raw", rows, fmt="%.17g")
    with h5py.File(tmp_path / "all.hdf5", "w") as file:
        file["a/type.raw"] = types
        for name, array in arrays.items():
            file[f"a/set.000/{name}.npy"] = array.reshape(len(array), -1)
    for path in (folder, tmp_path / "raw", f"{tmp_path}/all.hdf5#/a"):
        for number in (2, None):
            system = read(path, numb_fparam=number)
            np.testing.assert_array_equal(system.fparam, arrays["fparam"])
        assert read(path, numb_fparam=0).fparam.shape == (3, 0)


def test_forms_of_one_frame_and_of_one_parameter(tmp_path):
    arrays, types = small(1)
    folder = write_system(tmp_path / "one", arrays, types)
    np.save(folder / "set.000/fparam.npy", arrays["fparam"].ravel())
    np.testing.assert_array_equal(read(folder).fparam, arrays["fparam"])
    arrays, types = small(3)
    folder = write_system(tmp_path / "three", arrays, types)
    np.save(folder / "set.000/fparam.npy", arrays["fparam"][:, 0])
    np.testing.assert_array_equal(read(folder).fparam, arrays["fparam"][:, :1])


def test_sets_in_order(tmp_path):
    parts = [small(n, seed=n) for n in (2, 1)]
    for k, (arrays, types) in enumerate(parts):
        write_system(tmp_path / f"{k}", arrays, types, part=f"set.00{k}")
    shutil.copytree(tmp_path / "1/set.001", tmp_path / "0/set.001")
    want = np.concatenate([arrays["fparam"] for arrays, _ in parts])
    np.testing.assert_array_equal(read(tmp_path / "0", numb_fparam=2).fparam, want)
    (tmp_path / "0/set.001/fparam.npy").unlink()
    for number in (2, None):
        with pytest.raises(DataError, match=r"set.001/fparam.npy' is missing: other"):
            read(tmp_path / "0", numb_fparam=number)


@pytest.mark.parametrize(
    ("content", "number", "says"),
    [
        (None, 2, r"fparam.npy' is missing: the model takes 2 frame.*Add it"),
        (np.zeros((3, 2)), 3, r"3 rows .* of 3 numbers .*: shape \(3, 2\)"),
        (np.zeros((2, 3)), 2, r"3 rows .* of 2 numbers .*: shape \(2, 3\)"),
        (np.zeros((2, 2)), None, r"3 rows .* of 1 numbers .*: shape \(2, 2\)"),
        (np.zeros((3, 0)), None, r"3 rows .* of 1 numbers .*: shape \(3, 0\)"),
        (np.array([[0, 1], [0, np.nan], [0, 0]]), 2, "nan in frame 1. Remove"),
        (np.array([[0, 1], [0, 0], [-1e16, 0]]), 2, "-1e.16 in frame 2. Remove"),
        (np.array(["a", "b", "c"]), 1, "fparam.npy' does not hold numbers"),
    ],
)
def test_mistakes_in_files(tmp_path, content, number, says):
    arrays, types = small()
    file = write_system(tmp_path / "s", arrays, types) / "set.000/fparam.npy"
    if content is None:
        file.unlink()
    else:
        np.save(file, content)
    with pytest.raises(DataError, match=says) as caught:
        read(tmp_path / "s", numb_fparam=number)
    assert "\n" not in str(caught.value)


def test_damaged_file_of_no_use_is_left_alone(tmp_path):
    """A model without frame parameters does not look."""
    arrays, types = small()
    file = write_system(tmp_path / "s", arrays, types) / "set.000/fparam.npy"
    file.write_bytes(b"damaged")
    assert read(tmp_path / "s", numb_fparam=0).fparam.shape == (3, 0)
    deepspin.DataSystem(str(tmp_path / "s"), ["Ni", "O"], SCHEME, 3.0)
    with pytest.raises(DataError, match=r"fparam.npy' cannot be read"):
        read(tmp_path / "s", numb_fparam=2)


@pytest.mark.parametrize("form", ["npy", "hdf5", "raw"])
def test_convert_data_copies_them(tmp_path, form):
    arrays, types = small()
    source = write_system(tmp_path / "source", arrays, types)
    if form == "raw":
        source = tmp_path / "raw"
        source.mkdir()
        for file in (tmp_path / "source").glob("*.raw"):
            shutil.copy(file, source)
        for name, array in arrays.items():
            rows = array.reshape(len(array), -1)
            np.savetxt(source / f"{name}.raw", rows, fmt="%.17g")
    target = tmp_path / ("there.hdf5" if form == "hdf5" else "there")
    lengths = ["--use-spin", "Ni", "--virtual-len", "0.4", "--spin-norm", "1.27"]
    args = ["--layout", "virtual-atom", *lengths]
    assert main(["convert-data", str(source), "-o", str(target), *args]) == 0
    back = ["-o", str(tmp_path / "back"), "--layout", "spin-files"]
    assert main(["convert-data", str(target), *back]) == 0
    found = np.load(tmp_path / "back/set.000/fparam.npy")
    np.testing.assert_array_equal(found, arrays["fparam"])
    if form == "npy":
        assert contents(tmp_path / "back") == contents(source)


def test_frames_that_differ_in_parameters_are_not_twins(tmp_path, capsys):
    arrays, types = small(2)
    for name in ("coord", "spin", "box"):
        arrays[name] = np.repeat(arrays[name][:1], 2, axis=0)
    write_system(tmp_path / "s", arrays, types)
    assert check_data(systems=[str(tmp_path / "s")])["twins"] == []
    np.save(tmp_path / "s/set.000/fparam.npy", np.zeros((2, 2)))
    assert len(check_data(systems=[str(tmp_path / "s")])["twins"]) == 1


# --- Batches and statistics -----------------------------------------------------------


@pytest.fixture(scope="module")
def two_systems(tmp_path_factory):
    """Systems of 4 and 1 frames, whose batches share one shape."""
    folder = tmp_path_factory.mktemp("two")
    for name, nframes in (("a", 4), ("b", 1)):
        write_system(folder / name, *small(nframes, seed=nframes))
    return folder


def parameters_of(folder, name):
    return np.load(folder / name / "set.000/fparam.npy")


def test_batches(two_systems, plain):
    spec = plain.data_spec
    assert spec["numb_fparam"] == 2
    options = {"batch_size": [2, 1], "max_shapes": 1}
    data = deepspin.DataSystem(str(two_systems), **spec, **options)
    (shape,) = set(data.shapes)
    assert shape.nframes == 2
    steps = 12
    served = [b["fparam"] for b, _ in data.dataset(steps=steps).as_numpy_iterator()]
    for step in range(steps):
        system, frames = data.plan(step)
        want = parameters_of(two_systems, "ab"[system])[frames]
        want = np.pad(want, [(0, 2 - len(frames)), (0, 0)])
        np.testing.assert_array_equal(data.batch(step)[0]["fparam"], want)
        np.testing.assert_array_equal(served[step], want)


def test_no_parameters_in_batches_of_others(two_systems):
    data = deepspin.DataSystem(str(two_systems), **build().data_spec)
    assert "fparam" not in data.batch(0)[0]


def test_statistics(two_systems):
    """Of all frames alike, those that only fill a batch up left out."""
    model = build(numb_fparam=2)
    options = {"batch_size": [2, 1], "max_shapes": 1}
    data = deepspin.DataSystem(str(two_systems), **model.data_spec, **options)
    rows = np.concatenate([parameters_of(two_systems, name) for name in "abb"])
    model.compute_stats(data.sample(2))  # both frames pairs of a, b twice
    fitting = model.fitting
    np.testing.assert_allclose(fitting.fparam_avg, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(fitting.fparam_inv_std, 1 / rows.std(axis=0), rtol=1e-14)
    model.compute_stats(data.sample(2), protection=50.0)
    np.testing.assert_array_equal(fitting.fparam_inv_std, [0.02, 0.02])


def test_constant_parameters(tmp_path):
    """Large and always the same: divided by the least deviation, not by rounding."""
    arrays, types = small(3)
    arrays["fparam"] = np.array([[1e6 / 3, 0.1]] * 3)
    write_system(tmp_path / "s", arrays, types)
    model = build(numb_fparam=2)
    data = deepspin.DataSystem(str(tmp_path / "s"), **model.data_spec, batch_size=1)
    model.compute_stats(data.sample(3))
    np.testing.assert_array_equal(model.fitting.fparam_inv_std, [100.0, 100.0])
    np.testing.assert_allclose(model.fitting.fparam_avg, arrays["fparam"][0])


# --- Files of models ------------------------------------------------------------------


@pytest.mark.usefixtures("eagerly")
def test_save_and_load(model, tmp_path):
    save_model(model, tmp_path / "m.keras")
    again = deepspin.load_model(tmp_path / "m.keras")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    given = arrays_of(frames_of(model))
    for name, array in at(model)(*given).items():
        np.testing.assert_array_equal(at(again)(*given)[name], array)


@cache
def functions(model):
    return FrozenModel(model, describe(model, {"spin_range": {"Ni": [1.1, 1.3]}}))


@pytest.mark.parametrize("model", ["vacuum"], indirect=True)
def test_frozen(model, tmp_path):
    frames = frames_of(model)
    fparam = np.array([[0.3, -1.2], [0.7, 0.4]])
    want = at(model, fparam)(*arrays_of(frames))
    coord, box, atype, spin = arrays_of(frames)
    atype = np.tile(atype, (2, 1)).astype(np.int32)
    metadata = describe(model, {})
    assert metadata["numb_fparam"] == 2
    assert metadata["units"]["fparam"] == ""
    freeze(model, tmp_path / "f", {})
    loaded = tf.saved_model.load(str(tmp_path / "f"))
    found = loaded.eval_small(coord, box, atype, spin, fparam)
    nlist, shift = all_pairs(coord, box, atype, metadata["nlist_cutoff"])
    listed = loaded.eval(coord, box, atype, spin, nlist, shift, fparam)
    inputs = {"coord": coord, "box": box, "atype": atype, "spin": spin}
    inputs = {**inputs, "fparam": fparam}
    signature = loaded.signatures["eval_small"]
    named = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    for result in (found, listed, named):
        result = {name: result[name].numpy() for name in invariants.FIELDS}
        invariants.assert_close(result, want, 1e-12)
    again = deepspin.load_model(tmp_path / "f")
    for name, array in at(again, fparam)(*arrays_of(frames)).items():
        np.testing.assert_array_equal(array, want[name])


@pytest.mark.parametrize(
    ("fparam", "says"),
    [
        (np.array([[0.3, np.nan]]), "`fparam` is NaN or infinite"),
        (np.zeros((2, 2)), "`fparam` needs one row for each frame"),
    ],
)
def test_frozen_refuses(plain, fparam, says):
    (frame,) = frames_of(plain, 1)
    coord, box, atype, spin = arrays_of([frame])
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        functions(plain).eval_small(
            coord, box, atype[None].astype(np.int32), spin, fparam
        )


def test_compress(plain):
    """Tables for the embedding nets; the fitting net stays as it is."""
    frames = frames_of(plain, 3)
    batches = []
    for k, frame in enumerate(frames):
        inputs, _ = inputs_of(plain, [frame])
        fparam = np.random.default_rng(k).normal(size=(1, 2))
        batches.append({**inputs, "fparam": tf.constant(fparam)})
    nearest = np.full((2, 3), 1.0)
    compressed, report = compress(plain, nearest, Options(1e-9), batches)
    assert max(report["error"][n]["max"] for n in ("force", "force_mag")) <= 1e-9
    for a, b in zip(plain.fitting.weights, compressed.fitting.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    given = arrays_of(frames)
    invariants.assert_close(at(compressed)(*given), at(plain)(*given), 3e-8)


# --- Training and the rest of the program ---------------------------------------------


def with_parameters(source, target, seed, nframes=8):
    """Copy the first frames of a system and give them frame parameters."""
    shutil.copytree(source, target)
    for part in Path(target).glob("set.*"):
        for file in part.glob("*.npy"):
            np.save(file, np.load(file)[:nframes])
        shape = (len(np.load(part / "coord.npy")), 2)
        rng = np.random.default_rng(seed)
        np.save(part / "fparam.npy", rng.normal([0.5, 300.0], [0.2, 30], shape))
    return str(target)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a training with two frame parameters: 6 steps, saved at 3 and 6."""
    folder = tmp_path_factory.mktemp("trained")
    data = json.loads(json.dumps(tiny.INPUT))
    section = data["training"]
    section["training_data"]["systems"] = [
        with_parameters(tiny.SYSTEM, folder / "train", 1)
    ]
    section["validation_data"]["systems"] = [
        with_parameters(VALID, folder / "valid", 2)
    ]
    data["model"]["descriptor"]["neuron"] = [4]
    data["model"]["fitting_net"] |= {"numb_fparam": 2, "neuron": [5]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.write(data)
        assert main(["train", "input.json", "--skip-neighbor-stat"]) == 0
        assert main(["freeze", "-o", "frozen_model"]) == 0
        assert main(["compress", "-t", "input.json", "-o", "compressed"]) == 0
    return folder


def test_training_uses_them(trained):
    """Statistics of the data; trained weights of the parameters' inputs."""
    model = deepspin.load_model(trained / "model.ckpt-6.keras")
    data = deepspin.DataSystem(
        str(trained / "train"), **model.data_spec, batch_size=1, seed=3
    )
    rows = np.concatenate([inputs["fparam"] for inputs, _ in data.sample(2)])
    fitting = model.fitting
    np.testing.assert_allclose(fitting.fparam_avg, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(fitting.fparam_inv_std, 1 / rows.std(axis=0), rtol=1e-14)
    before = deepspin.load_model(trained / "model.ckpt-3.keras").fitting
    for t in range(2):
        change = fitting.net(t)[0].matrix.numpy() - before.net(t)[0].matrix.numpy()
        assert np.abs(change[-2:]).min() > 1e-7
    np.testing.assert_array_equal(before.fparam_avg, fitting.fparam_avg)


def test_restart_is_exact(trained, run):
    data = json.loads((trained / "input.json").read_text())
    data["training"]["jit_compile"] = True
    run("train", tiny.write(data))
    path = "model.ckpt-6.keras"
    whole = [*tiny.weights(path), *tiny.optimizer_state(path)]
    curve = Path("lcurve.out").read_bytes()
    Path(path).unlink()
    run("train", "input.json", "-r", "model.ckpt-3")
    again = [*tiny.weights(path), *tiny.optimizer_state(path)]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert Path("lcurve.out").read_bytes() == curve


def test_restart_notices_other_parameters(trained, run, capsys):
    """The fingerprint of the data covers them."""
    for name in ("input.json", "model.ckpt-3.keras"):
        shutil.copy(trained / name, name)
    data = json.loads(Path("input.json").read_text())
    system = with_parameters(tiny.SYSTEM, Path("other").resolve(), 9)
    data["training"]["training_data"]["systems"] = [system]
    run("train", tiny.write(data), "-r", "model.ckpt-3.keras")
    assert "the training data" in " ".join(capsys.readouterr().err.split())


def test_weights_of_another_number_are_refused(trained, run, capsys):
    data = json.loads((trained / "input.json").read_text())
    data["model"]["fitting_net"]["numb_fparam"] = 0
    run("train", tiny.write(data), "-i", trained / "model.ckpt-6.keras", status=1)
    assert "numb_fparam: 2 there, 0 here" in capsys.readouterr().err


def test_without_the_file_nothing_begins(trained, run, capsys):
    data = json.loads((trained / "input.json").read_text())
    data["training"]["validation_data"]["systems"] = [str(VALID)]
    run("train", tiny.write(data), status=1)
    err = " ".join(capsys.readouterr().err.split())
    assert "fparam.npy' is missing: the model takes 2 frame parameters" in err
    assert sorted(p.name for p in Path().iterdir()) == ["input.json"]


def test_kinds_of_models_agree(trained, capsys):
    """Checkpoint, frozen, compressed: the same errors on the same data."""
    found = []
    for name in ("model.ckpt-6.keras", "frozen_model", "compressed"):
        args = ["-m", str(trained / name), "-s", str(trained / "valid")]
        assert main(["test", *args]) == 0
        err = capsys.readouterr().err
        found.append(
            [float(line.split()[-2]) for line in err.splitlines() if "RMSE" in line]
        )
    assert len(found[0]) > 3
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-6)
    assert main(["test", "-m", str(trained / "frozen_model"), "-s", str(VALID)]) == 1
    assert "fparam.npy' is missing" in capsys.readouterr().err


def test_test_looks_at_each_frames_parameters(trained):
    """Errors as computed here, frame by frame."""
    from deepspin.entrypoints.test import test

    model = deepspin.load_model(trained / "model.ckpt-6.keras")
    system = read(trained / "valid", numb_fparam=2)
    potential = deepspin.DeepSpin(model)
    squares = []
    for f in range(system.nframes):
        result = potential.eval(
            system.coord[f],
            system.box[f],
            system.atype[f],
            system.spin[f],
            fparam=system.fparam[f],
        )
        squares.append(np.mean((result["force"][0] - system.labels["force"][f]) ** 2))
    told = test(model=str(trained / "model.ckpt"), system=str(trained / "valid"))
    assert told["rmse_fr"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-10)


def test_show(trained, capsys):
    assert main(["show", "--json", str(trained / "frozen_model")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["numb_fparam"] == 2
    assert told["model"]["config"]["fitting"]["config"]["numb_fparam"] == 2
    assert read_metadata(trained / "frozen_model")["numb_fparam"] == 2
    config = read_config(trained / "model.ckpt-6.keras")["config"]
    assert config["fitting"]["config"]["numb_fparam"] == 2


def test_fit_and_predict(trained):
    """Keras' own ways."""
    model = deepspin.load_model(trained / "model.ckpt-6.keras", compile=False)
    data = deepspin.DataSystem(str(trained / "train"), **model.data_spec, batch_size=2)
    # XLA is that of the restart
    model.compile(
        keras.optimizers.Adam(1e-3), deepspin.EnerSpinLoss(), jit_compile=False
    )
    before = [w.numpy() for w in model.trainable_variables]
    history = model.fit(
        data.dataset(), steps_per_epoch=2, epochs=2, shuffle=False, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    assert all(
        (a != b.numpy()).any()
        for a, b in zip(before, model.trainable_variables, strict=True)
    )
    inputs, _ = data.batch(0)
    want = model(inputs)
    found = model.predict(tf.data.Dataset.from_tensors(inputs), verbose=0)
    np.testing.assert_allclose(found["force"], want["force"], rtol=1e-12, atol=1e-14)
