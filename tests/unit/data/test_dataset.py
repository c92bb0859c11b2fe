# SPDX-License-Identifier: Apache-2.0
"""Batches: which frames and when, in which shapes, and that padding changes nothing."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from places import ROOT

from deepspin import (
    DataSystem,
    DescrptSeA,
    EnerFitting,
    EnerSpinLoss,
    Spin,
    SpinEnergyModel,
)
from deepspin.data.collate import Shape, collate, merge_shapes, scatter, sort_by_type
from deepspin.data.dataset import CHUNK
from deepspin.data.files import DataError
from deepspin.spins.virtual import VirtualAtoms

EXAMPLE = ROOT / "examples" / "NiO" / "data"
SPIN = {"use_spin": [False, True], "virtual_len": [0.4], "spin_norm": [1.2737]}
SCHEME = VirtualAtoms.from_options(**SPIN)
TYPE_MAP = ["O", "Ni"]  # the spin type is not the first
RCUT = 3.6
LABELS = ("energy", "force", "force_mag", "virial")
PREFACTORS = {"e": 0.7, "fr": 3.0, "fm": 5.0, "v": 0.2}


def make(atype, nframes, length=5.0, seed=0):
    """Arrays of frames of atoms of types `atype`, (nframes, natoms) or (natoms,)."""
    rng = np.random.default_rng([seed, nframes])
    atype = np.broadcast_to(atype, (nframes, np.shape(atype)[-1]))
    shape = (*atype.shape, 3)
    there = (atype >= 0)[..., None]
    magnetic = (atype == 1)[..., None]
    grid = np.argwhere(np.ones((2, 2, 2)))[: shape[1]] / 2
    spin = rng.normal(size=shape)
    spin *= rng.uniform(1.1, 1.4) / np.linalg.norm(spin, axis=-1, keepdims=True)
    box = length * (np.eye(3) + rng.uniform(-0.05, 0.05, size=(nframes, 3, 3)))
    return {
        "real_atom_types": atype,
        "coord": grid @ box + rng.uniform(-0.3, 0.3, size=shape),
        "box": box,
        "spin": spin * magnetic,
        "energy": rng.normal(size=nframes),
        "force": rng.normal(size=shape) * there,
        "force_mag": rng.normal(size=shape) * magnetic,
        "virial": rng.normal(size=(nframes, 3, 3)),
    }


def write(path, data, mixed=False, without=()):
    """Write a system in the layout of spin files."""
    folder = path / "set.000"
    folder.mkdir(parents=True)
    atype = data["real_atom_types"]
    if not mixed:
        without = (*without, "real_atom_types")
    for name in data.keys() - set(without):
        np.save(folder / f"{name}.npy", data[name].reshape(len(atype), -1))
    types = np.zeros_like(atype[0]) if mixed else atype[0]
    (path / "type.raw").write_text("\n".join(map(str, types)))
    (path / "type_map.raw").write_text("\n".join(TYPE_MAP))
    return str(path)


def write_virtual(path, data):
    """Write the same system in the layout of virtual atoms."""
    folder = path / "set.000"
    folder.mkdir(parents=True)
    types = data["real_atom_types"][0]
    magnetic = types == 1
    moved = data["coord"] + 0.4 / 1.2737 * data["spin"]
    both = {
        "coord": (data["coord"], moved),
        "force": (data["force"], data["force_mag"]),
    }
    arrays = {name: data[name] for name in ("box", "energy", "virial")}
    for name, (real, virtual) in both.items():
        arrays[name] = np.concatenate([real, virtual[:, magnetic]], axis=1)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.reshape(len(array), -1))
    types = [*types, *np.full(magnetic.sum(), 2)]
    (path / "type.raw").write_text("\n".join(map(str, types)))
    return str(path)


def load(systems, **options):
    return DataSystem(systems, TYPE_MAP, SCHEME, RCUT, **options)


SYSTEMS = {  # types of the atoms, frames, cell
    "a": ([1, 0, 1, 0], 6, 4.4),
    "b": ([0, 1, 1, 0, 1, 0, 1], 4, 5.5),
    "c": ([1, 1], 8, 3.4),
    "d": ([0, 0, 0, 1, 0, 1, 0, 0], 2, 6.0),
}
MIXED = np.array(
    [
        [1, 0, 1, 0, -1, -1],
        [1, 1, 1, 1, 0, -1],
        [0, 0, 1, 0, 0, 0],
        [0, 1, -1, -1, -1, -1],
    ]
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four systems of different sizes, and one of mixed types."""
    root = tmp_path_factory.mktemp("systems")
    paths = {
        name: write(root / name, make(np.array(types), nframes, length, seed=k))
        for k, (name, (types, nframes, length)) in enumerate(SYSTEMS.items())
    }
    paths["mixed"] = write(root / "mixed", make(MIXED, 4, 4.6, seed=9), mixed=True)
    return paths


@pytest.fixture(scope="module")
def four(folders):
    return [folders[name] for name in SYSTEMS]


@pytest.fixture(scope="module")
def example():
    """The shipped validation data."""
    scheme = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    return DataSystem(str(EXAMPLE / "valid"), ["Ni", "O"], scheme, 5.6)


@pytest.fixture(scope="module")
def model():
    """A small model, its statistics not those of a new one."""
    return make_model((30, 30, 30))


def make_model(sel, type_one_side=True):
    descriptor = DescrptSeA(
        RCUT,
        1.2,
        sel,
        2,
        neuron=(3, 6),
        axis_neuron=2,
        type_one_side=type_one_side,
        seed=1,
        dtype="float64",
    )
    descriptor.davg.assign([[0.11, 0, 0, 0], [0.07, 0, 0, 0]])
    descriptor.dstd.assign([[0.2, 0.1, 0.1, 0.1], [0.3, 0.2, 0.2, 0.2]])
    fitting = EnerFitting(2, descriptor.dim_out, neuron=(5, 5), seed=2, dtype="float64")
    fitting.bias_atom_e.assign([-1.5, -2.5])
    return SpinEnergyModel(TYPE_MAP, descriptor, fitting, Spin(**SPIN))


def same(one, two, **tolerance):
    """Assert that two nested structures of arrays are equal."""
    tf.nest.assert_same_structure(one, two)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 0, "atol": 0} | tolerance))


def plans(data, steps):
    return [(system, frames.tolist()) for system, frames in map(data.plan, steps)]


# The example --------------------------------------------------------------------------


def test_example(example):
    names = [Path(s.path).name for s in example.systems]
    assert names == [
        "spin-files-16", "spin-files-32", "virtual-atom-16", "virtual-atom-32"
    ]  # fmt: skip
    assert [s.nframes for s in example.systems] == [10, 20, 10, 20]
    assert example.batch_sizes == [2, 1, 2, 1]
    assert example.nbatches == [5, 20, 5, 20]
    np.testing.assert_allclose(example.probabilities, [0.1, 0.4, 0.1, 0.4])
    assert example.labels == ["energy", "virial", "force", "force_mag"]
    # neighbours of the ideal crystal within 5.6 Å, see its README: 12 + 6 + 24 of the
    # same kind, 6 + 8 + 24 of the other; virtual atoms add the centre's own
    assert (example.found[:2] >= 42).all() and example.found[2] >= 43
    assert 0.3 < example.nearest < 0.45  # virtual atoms are the nearest, near 0.4 Å


def test_example_batch(example):
    for system, data in enumerate(example.systems):
        frames = np.arange(example.batch_sizes[system])
        inputs, labels = example.frames(system, frames)
        shape = example.shapes[system]
        nslots = sum(shape.natoms)
        # types come sorted in the example, so slots are the atoms themselves
        assert nslots == data.nloc and shape.nframes == len(frames)
        for name in ("coord", "spin"):
            np.testing.assert_array_equal(inputs[name], getattr(data, name)[frames])
        np.testing.assert_array_equal(inputs["box"], data.box[frames])
        for name in LABELS:
            np.testing.assert_array_equal(labels[name], data.labels[name][frames])
            np.testing.assert_array_equal(labels[f"find_{name}"], 1.0)
        np.testing.assert_array_equal(labels["natoms"], data.natoms_loss[frames])
        assert all(mask.all() and mask.dtype == bool for mask in inputs["mask"])
        for width, lists, shift in zip(
            shape.widths, inputs["nlist"], inputs["shift"], strict=True
        ):
            assert lists.shape == (len(frames), nslots, width)
            assert shift.shape == (len(frames), nslots, width, 3)
            assert lists.max() < 2 * nslots


def test_example_loss_counts_virtual_atoms(example):
    """N of the loss: 24 and 48 where the files hold virtual atoms, else 16 and 32."""
    counts = [set(s.natoms_loss.tolist()) for s in example.systems]
    assert counts == [{16.0}, {32.0}, {24.0}, {48.0}]


# Which frames -------------------------------------------------------------------------


def test_plan_is_a_function_of_seed_and_step(four):
    steps = [*range(40), CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
    sequential = plans(load(four, batch_size=2, seed=5), steps)
    data = load(four, batch_size=2, seed=5)
    assert plans(data, steps[::-1])[::-1] == sequential  # the last step first
    assert plans(data, steps) == sequential  # and again
    assert plans(load(four, batch_size=2, seed=6), steps) != sequential
    systems = [system for system, _ in sequential]
    assert len(set(systems)) == 4


@pytest.mark.parametrize("batch_size", [1, 2])
def test_each_pass_sees_every_frame_once(four, batch_size):
    data = load(four, batch_size=batch_size, seed=3)
    seen = [[] for _ in four]
    for system, frames in map(data.plan, range(200)):
        assert len(frames) == batch_size
        seen[system] += frames.tolist()
    for frames, system in zip(seen, data.systems, strict=True):
        nf = system.nframes
        passes = [frames[k : k + nf] for k in range(0, len(frames) - nf + 1, nf)]
        assert len(passes) >= 4
        assert all(sorted(own) == list(range(nf)) for own in passes)
        if nf > 2:
            assert len(set(map(tuple, passes))) > 1  # in another order each time


def test_pass_over_chunks_of_steps(folders):
    """The last pass of one chunk of steps goes on in the next."""
    data = load(folders["a"], batch_size=1, seed=3)
    first = CHUNK - CHUNK % 6
    frames = [int(data.plan(step)[1][0]) for step in range(first, first + 6)]
    assert first < CHUNK < first + 6
    assert sorted(frames) == list(range(6))


def test_batch_size_that_does_not_divide(folders):
    """Within a pass no frame comes twice; those left over come in other passes."""
    data = load(folders["a"], batch_size=4, seed=0)
    assert data.nbatches == [1]
    batches = [data.plan(step)[1].tolist() for step in range(20)]
    assert all(len(set(frames)) == 4 for frames in batches)
    assert set().union(*batches) == set(range(6))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auto_prob": "prob_uniform"}, [1, 1, 1, 1]),
        ({"auto_prob": "prob_sys_size"}, [6, 4, 8, 2]),
        ({"auto_prob": "prob_sys_size", "batch_size": 2}, [3, 2, 4, 1]),
        ({}, [6, 4, 8, 2]),
        ({"auto_prob": "prob_sys_size;0:1:0.3;1:4:0.7"}, [0.3, 0.2, 0.4, 0.1]),
        ({"auto_prob": "prob_sys_size;0:2:3;2:3:7"}, [1.8, 1.2, 7, 0]),
        ({"sys_probs": [0.1, 0.2, 0.3, 0.4]}, [1, 2, 3, 4]),
        ({"sys_probs": [0, 0.5, 0, 0.5], "auto_prob": "no use"}, [0, 1, 0, 1]),
    ],
)
def test_probabilities(four, options, expected):
    data = load(four, **({"batch_size": 1} | options))
    expected = np.array(expected) / np.sum(expected)
    np.testing.assert_allclose(data.probabilities, expected)
    steps = 6000
    drawn = Counter(data.plan(step)[0] for step in range(steps))
    counts = np.array([drawn[k] for k in range(4)])
    error = np.sqrt(steps * expected * (1 - expected))
    assert (np.abs(counts - steps * expected) <= 4 * error).all()


def test_probabilities_of_two_systems(folders):
    systems = [folders["a"], folders["b"]]
    data = load(systems, auto_prob="prob_sys_size;0:1:0.3;1:2:0.7")
    np.testing.assert_allclose(data.probabilities, [0.3, 0.7])


def test_negative_probabilities_share_the_rest(four):
    """As documented, and as in DeePMD-kit: by their numbers of batches."""
    data = load(four, batch_size=1, sys_probs=[0.4, -1, 0, -1])
    np.testing.assert_allclose(data.probabilities, [0.4, 0.4, 0, 0.2])
    data = load(four, batch_size=1, sys_probs=[-1, -1, -1, -1])
    np.testing.assert_allclose(data.probabilities, [0.3, 0.2, 0.4, 0.1])


# Batch sizes --------------------------------------------------------------------------


def test_auto_batch_sizes(four, folders):
    # 4, 7, 2, 8 atoms; 6, 4, 8, 2 frames
    assert load(four, batch_size="auto").batch_sizes == [6, 4, 8, 2]
    assert load(four, batch_size="auto:8").batch_sizes == [2, 2, 4, 1]
    assert load(four, batch_size="auto:9").batch_sizes == [3, 2, 5, 2]
    assert load(four, batch_size="auto:1").batch_sizes == [1, 1, 1, 1]
    assert load(four).batch_sizes == load(four, batch_size="auto").batch_sizes
    # the largest frame counts
    assert load(folders["mixed"], batch_size="auto:12").batch_sizes == [2]


def test_auto_counts_virtual_atoms_of_the_file(tmp_path):
    """As in DeePMD-kit: 4 atoms and 2 virtual atoms."""
    data = make(np.array([1, 0, 1, 0]), 40)
    paths = [write(tmp_path / "a", data), write_virtual(tmp_path / "b", data)]
    assert load(paths, batch_size="auto").batch_sizes == [8, 6]


def test_given_batch_sizes(four):
    assert load(four, batch_size=2).batch_sizes == [2, 2, 2, 2]
    assert load(four, batch_size=[3, 4, 1, 2]).batch_sizes == [3, 4, 1, 2]
    assert load(four, batch_size=(3, 4, 1, 2)).nbatches == [2, 1, 8, 1]


def test_batch_larger_than_the_frames(four, caplog):
    with caplog.at_level(logging.WARNING):
        data = load(four, batch_size=[2, 9, 2, 2])
    assert data.batch_sizes == [2, 4, 2, 2]
    assert data.nbatches == [3, 1, 4, 1]
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 1
    assert "has 4 frames, fewer than the batch size 9" in messages[0]
    assert four[1] in messages[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load(four, batch_size="auto")
    assert not caplog.records


# Shapes and padding -------------------------------------------------------------------


def test_shape():
    one, two = Shape(2, (3, 1), (5, 6, 7)), Shape(1, (2, 4), (9, 1, 8))
    both = one.union(two)
    assert both == two.union(one) == Shape(2, (3, 4), (9, 6, 8))
    assert both.cost > max(one.cost, two.cost)


def test_sort_by_type_and_scatter():
    atype = np.array([[1, 0, 1, 0], [0, -1, 1, -1]])
    slots = sort_by_type(atype, (2, 3))
    np.testing.assert_array_equal(slots, [[2, 0, 3, 1], [0, -1, 2, -1]])
    values = scatter(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), slots, 5)
    np.testing.assert_array_equal(values, [[2, 4, 1, 3, 0], [5, 0, 7, 0, 0]])


@pytest.mark.parametrize("max_shapes", [1, 2, 3, 4, 8])
def test_max_shapes(four, max_shapes):
    own = load(four, batch_size=2).shapes
    assert len(set(own)) == 4
    assert own[0].natoms == (2, 2) and own[1].natoms == (3, 4)
    shapes = load(four, batch_size=2, max_shapes=max_shapes).shapes
    assert len(set(shapes)) == min(max_shapes, 4)
    for shape, least in zip(shapes, own, strict=True):
        assert shape.union(least) == shape
    if max_shapes >= 4:
        assert shapes == own


def test_merge_shapes():
    """Those that cost little to merge, and the cheapest ones if there are too many."""
    small, alike, large = (
        Shape(1, (n, n), (w, w, w)) for n, w in ((4, 20), (4, 21), (16, 40))
    )
    merged = merge_shapes([small, large, alike], [1, 1, 1], 8)
    assert merged == [alike, large, alike]
    assert merge_shapes([small, large, alike], [1, 1, 1], 1) == [large] * 3
    assert merge_shapes([small], [1], 1) == [small]


def test_merge_many_shapes():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 60, size=(300, 6)).tolist()
    shapes = [Shape(row[0], tuple(row[1:3]), tuple(row[3:])) for row in rows]
    merged = merge_shapes(shapes, rng.random(300), 8)
    assert len(merged) == 300 and len(set(merged)) <= 8
    assert all(m.union(s) == m for m, s in zip(merged, shapes, strict=True))


def test_shapes_of_batches(folders):
    """Every batch has the shape that was promised."""
    data = load(list(folders.values()), batch_size=[3, 2, 2, 1, 2], max_shapes=2)
    for step in range(12):
        inputs, labels = data.batch(step)
        shape = data.shapes[data.plan(step)[0]]
        nslots = sum(shape.natoms)
        expected = {"coord": (nslots, 3), "spin": (nslots, 3), "box": (3, 3)}
        expected["mask"] = tuple((n,) for n in shape.natoms)
        expected["nlist"] = tuple((nslots, w) for w in shape.widths)
        expected["shift"] = tuple((nslots, w, 3) for w in shape.widths)
        assert inputs.keys() == expected.keys()
        for name, tail in expected.items():
            value = inputs[name]
            found = tuple(v.shape for v in value) if isinstance(value, tuple) else None
            if found is None:
                assert value.shape == (shape.nframes, *tail)
            else:
                assert found == tuple((shape.nframes, *t) for t in tail)
        assert all(len(value) == shape.nframes for value in labels.values())
        assert labels["force"].shape == (shape.nframes, nslots, 3)


def single(model, data, system, frame):
    """Predictions for one frame in the order of its atoms, with no padding at all."""
    own = data.systems[system]
    there = own.atype[frame] >= 0
    atype = own.atype[None, frame, there]
    neighbors = data._neighbors[system][frame]
    count = neighbors.count[there]
    shape = Shape(
        1,
        tuple(int((atype == t).sum()) for t in range(2)),
        tuple(int(max(1, w)) for w in count.max(axis=0)),
    )
    if not there.all():
        assert there[: there.sum()].all()  # the last atoms are missing
        n, nloc = there.sum(), len(there)
        index = neighbors.index
        index = np.where(index >= nloc, index - nloc + n, index).astype(np.int32)
        neighbors = replace(neighbors, count=count, index=index)
    inputs, slots = collate(
        own.coord[None, frame, there],
        own.spin[None, frame, there],
        own.box[None, frame],
        atype,
        [neighbors],
        shape,
    )
    assert (slots >= 0).all() and all(mask.all() for mask in inputs["mask"])
    pred = {name: np.asarray(value)[0] for name, value in model(inputs).items()}
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        pred[name] = pred[name][slots[0]]
    return pred, atype[0]


def loss_of_singles(model, data, system, frames, missing=()):
    """Loss of a batch, term by term from its frames."""
    own = data.systems[system]
    e, v, fr, fm = [], [], [], []
    for frame in frames:
        pred, atype = single(model, data, system, frame)
        n, label = len(atype), own.labels
        e.append(
            (pred["energy"] - label["energy"][frame]) ** 2 / own.natoms_loss[frame]
        )
        fr.append((pred["force"] - label["force"][frame, :n]) ** 2)
        if "v" not in missing:
            diff = pred["virial"] - label["virial"][frame]
            v.append(np.mean(diff**2) / own.natoms_loss[frame])
        if "fm" not in missing:
            diff = pred["force_mag"] - label["force_mag"][frame, :n]
            fm.append(diff[atype == 1] ** 2)
    terms = {"e": np.mean(e), "fr": np.mean(np.concatenate(fr))}
    if v:
        terms["v"] = np.mean(v)
    if fm:
        terms["fm"] = np.mean(np.concatenate(fm))
    return sum(PREFACTORS[name] * term for name, term in terms.items())


def make_loss(**changes):
    options = {}
    for term, value in (PREFACTORS | changes).items():
        options |= {f"start_pref_{term}": value, f"limit_pref_{term}": 0.0}
    return EnerSpinLoss(**options)


@pytest.mark.parametrize(("max_shapes", "type_one_side"), [(1, True), (2, False)])
def test_padding_changes_nothing(folders, max_shapes, type_one_side):
    """Atoms, neighbours and frames are padded; mixed types, too."""
    model = make_model((30, 30, 30), type_one_side)
    sizes = [3, 2, 4, 1, 4]
    data = load(list(folders.values()), batch_size=sizes, max_shapes=max_shapes)
    assert len(set(data.shapes)) == max_shapes
    loss, padded = make_loss(), Counter()
    for system, own in enumerate(data.systems):
        frames = np.arange(own.nframes)[-sizes[system] :]
        inputs, labels = data.frames(system, frames)
        shape = data.shapes[system]
        out = {name: np.asarray(value) for name, value in model(inputs).items()}
        slots = sort_by_type(own.atype[frames], shape.natoms)
        for k, frame in enumerate(frames):
            expected, atype = single(model, data, system, frame)
            there = slots[k, : len(atype)]
            for name in ("energy", "virial", "atom_ener", "force", "force_mag"):
                value = out[name][k]
                if value.ndim and name != "virial":
                    assert not np.delete(value, there, axis=0).any()  # empty slots
                    value = value[there]
                np.testing.assert_allclose(
                    value, expected[name], rtol=1e-12, atol=1e-12, err_msg=name
                )
            np.testing.assert_allclose(
                out["atom_virial"][k].sum(axis=0), expected["virial"], atol=1e-12
            )
            assert out["mask"][k].sum() == len(atype)
            assert out["mask_mag"][k].sum() == np.sum(atype == 1)
            padded["atoms"] += sum(shape.natoms) - len(atype)
        for name in ("energy", "force", "force_mag", "virial", "mask"):
            assert not out[name][len(frames) :].any()  # frames without atoms
        padded["frames"] += shape.nframes - len(frames)
        expected = loss_of_singles(model, data, system, frames)
        np.testing.assert_allclose(loss(labels, out), expected, rtol=1e-12)
    assert padded["atoms"] > 0 and padded["frames"] > 0


def test_padding_and_truncation(folders, model):
    """Neighbours beyond `sel` are left out, the same ones however it is padded."""
    small = make_model((4, 4, 4))
    systems = [folders["a"], folders["b"]]
    data = load(systems, sel=(4, 4, 4), batch_size=[1, 2], max_shapes=1)
    assert data.overflow() and data.shapes[0].widths == (4, 4, 4)
    out = small(data.frames(0, np.array([4]))[0])
    expected, _ = single(small, data, 0, 4)
    np.testing.assert_allclose(out["energy"][0], expected["energy"], rtol=1e-12)
    full, _ = single(model, load(systems), 0, 4)
    assert abs(full["energy"] - expected["energy"]) > 1e-6


def test_gradients_do_not_see_padding(four, model):
    loss = make_loss()
    gradients = []
    for max_shapes in (1, 8):
        data = load(four, batch_size=2, max_shapes=max_shapes)
        inputs, labels = data.frames(2, np.arange(2))
        with tf.GradientTape() as tape:
            value = loss(labels, model(tf.nest.map_structure(tf.constant, inputs)))
        gradients.append(tape.gradient(value, model.trainable_variables))
    assert data.shapes[2].natoms == (0, 2)
    for one, two in zip(*gradients, strict=True):
        scale = max(1.0, np.abs(np.asarray(one)).max())
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12 * scale)


def test_frame_without_neighbours(tmp_path, model):
    """No width is 0, and an atom on its own is no error."""
    data = make(np.array([1, 0]), 2)
    data["coord"] = data["coord"][:, :1] + [[[0, 0, 0], [20.0, 0, 0]]]
    data["box"] = np.tile(40 * np.eye(3), (2, 1, 1))
    loaded = load(write(tmp_path / "far", data))
    assert loaded.shapes[0].widths == (1, 1, 1)
    assert loaded.found.tolist() == [0, 0, 1]  # its own virtual atom
    out = model(loaded.batch(0)[0])
    assert all(np.isfinite(np.asarray(value)).all() for value in out.values())
    assert not np.asarray(out["force"]).any()


# Labels -------------------------------------------------------------------------------


@pytest.fixture
def partial(tmp_path):
    """One system has no virial and no magnetic forces; no system has atom energies."""
    data = make(np.array([1, 0, 1, 0]), 4)
    return [
        write(tmp_path / "full", data),
        write(tmp_path / "part", data, without=("virial", "force_mag")),
    ]


def test_missing_labels(partial, model):
    data = load(partial, batch_size=2)
    assert data.labels == ["energy", "virial", "force", "force_mag"]
    frames = np.arange(2)
    (_, full), (inputs, part) = (data.frames(k, frames) for k in range(2))
    assert full.keys() == part.keys()
    for name in LABELS:
        missing = name in ("virial", "force_mag")
        np.testing.assert_array_equal(full[f"find_{name}"], 1.0)
        np.testing.assert_array_equal(part[f"find_{name}"], 1.0 - missing)
        if missing:
            assert part[name].shape == full[name].shape and not part[name].any()
        else:
            np.testing.assert_array_equal(part[name], full[name])
    pred = model(inputs)
    rmse = {k: float(v) for k, v in make_loss().rmse(part, pred).items()}
    assert np.isnan(rmse["rmse_v"]) and np.isnan(rmse["rmse_fm"])
    assert np.isfinite([rmse["rmse"], rmse["rmse_e"], rmse["rmse_fr"]]).all()
    rmse = make_loss().rmse(full, pred)
    assert all(np.isfinite(float(value)) for value in rmse.values())


def test_missing_labels_give_no_loss(partial, model):
    data = load(partial, batch_size=2)
    inputs, labels = data.frames(1, np.arange(2))
    pred = model(inputs)
    loss = float(make_loss()(labels, pred))
    assert loss == pytest.approx(
        float(make_loss(v=0.0, fm=0.0)(labels, pred)), rel=1e-15
    )
    expected = loss_of_singles(model, data, 1, range(2), missing=("v", "fm"))
    assert loss == pytest.approx(expected, rel=1e-12)
    assert float(make_loss()(data.frames(0, np.arange(2))[1], pred)) > 1.01 * loss


def test_label_that_no_system_has(partial):
    data = load(partial[1:])
    assert data.labels == ["energy", "force"]
    assert not {"virial", "find_virial", "force_mag"} & data.batch(0)[1].keys()


def test_labels_of_atoms(tmp_path):
    """Energies and weights of atoms are scattered like forces; weights default to 1."""
    first = make(np.array([1, 0, 1]), 2)
    rng = np.random.default_rng(0)
    first["atom_ener"] = rng.normal(size=(2, 3))
    first["atom_ener_coeff"] = rng.uniform(1, 2, size=(2, 3))
    second = make(np.array([1, 0, 1]), 2, seed=1)
    paths = [write(tmp_path / "a", first), write(tmp_path / "b", second)]
    data = load(paths, batch_size=2)
    order = [1, 0, 2]  # the O first
    _, labels = data.frames(0, np.arange(2))
    for name in ("atom_ener", "atom_ener_coeff"):
        np.testing.assert_array_equal(labels[name], first[name][:, order])
        np.testing.assert_array_equal(labels[f"find_{name}"], 1.0)
    np.testing.assert_array_equal(labels["force"], first["force"][:, order])
    np.testing.assert_array_equal(labels["force_mag"], first["force_mag"][:, order])
    _, labels = data.frames(1, np.arange(2))
    np.testing.assert_array_equal(labels["atom_ener"], 0.0)
    np.testing.assert_array_equal(labels["find_atom_ener"], 0.0)
    np.testing.assert_array_equal(labels["atom_ener_coeff"], 1.0)


# Numbers of neighbours ----------------------------------------------------------------


def test_found_and_nearest(four):
    data = load(four)
    counts, distances = [], []
    for system, lists in zip(data.systems, data._neighbors, strict=True):
        for f, own in enumerate(lists):
            counts.append(own.count.max(axis=0))
            points = np.concatenate(
                [
                    system.coord[f],
                    SCHEME.codec.place(
                        system.coord[f], system.spin[f], system.atype[f]
                    ),
                ]
            )
            away = points[own.index] + own.shift @ system.box[f]
            away -= points[own.slot[0]]
            distances.append(np.linalg.norm(away, axis=1).min())
    np.testing.assert_array_equal(data.found, np.max(counts, axis=0))
    assert data.nearest == pytest.approx(min(distances))
    assert data.nearest == min(load(path).nearest for path in four)


def test_nearest_real(four, tmp_path, caplog):
    """Between atoms only; units other than Å are suspected."""
    data = load(four[:1])
    (system,) = data.systems
    expected = np.inf
    for coord, box in zip(system.coord, system.box, strict=True):
        for n in np.ndindex(3, 3, 3):
            shift = (np.array(n) - 1) @ box
            way = coord[:, None] - coord + shift
            distance = np.linalg.norm(way, axis=-1)
            expected = min(expected, distance[distance > 0].min())
    assert data.nearest_real == pytest.approx(expected, rel=1e-12)
    assert data.nearest_real > data.nearest
    assert not caplog.records
    folder = Path(write(tmp_path / "nm", make([1, 0, 1, 0], 2, 5.0)))
    for name in ("coord", "box"):
        file = folder / "set.000" / f"{name}.npy"
        np.save(file, 0.15 * np.load(file))
    load(str(folder))
    assert "are all lengths in Å?" in caplog.text


def test_too_wide(tmp_path):
    folder = Path(write(tmp_path / "wide", make([1, 0], 2, 5.0)))
    file = folder / "set.000" / "box.npy"
    box = np.load(file)
    box[1, :3] *= 1e7
    np.save(file, box)
    with pytest.raises(DataError, match=r"frame 1 of '.*/wide/set.000': the frame is"):
        load(str(folder))


def test_suggest_sel(four):
    data = load(four)
    o, ni, virtual = data.found
    assert virtual > ni  # the own virtual atom is a neighbour, the atom itself not
    for ratio in (1.0, 1.1, 2.0):
        sel = data.suggest_sel(ratio)
        for n, need in zip(sel, (o, max(ni, virtual)), strict=True):
            assert n % 4 == 0 and need * ratio <= n < need * ratio + 4
    enough = load(four, sel=SCHEME.extend_sel(data.suggest_sel()))
    assert enough.overflow() == []


def test_suggest_sel_has_a_least_number(tmp_path):
    data = make(np.array([1, 0]), 1)
    data["coord"] = data["coord"][:, :1] + [[[0, 0, 0], [20.0, 0, 0]]]
    data["box"] = 40 * np.eye(3)[None]
    assert load(write(tmp_path / "far", data)).suggest_sel() == [4, 4]


def test_suggest_sel_after_truncation(four):
    """What was left out counts."""
    assert load(four, sel=(4, 4, 4)).suggest_sel() == load(four).suggest_sel()


def test_overflow(four):
    data = load(four)
    assert data.overflow() == []
    found = data.found.tolist()
    exact = load(four, sel=found)
    assert exact.overflow() == [] and exact.shapes == data.shapes
    less = load(four, sel=[found[0], found[1] - 1, found[2] - 5])
    assert less.overflow() == [
        (1, found[1], found[1] - 1),
        (2, found[2], found[2] - 5),
    ]
    np.testing.assert_array_equal(less.found, data.found)
    assert all(s.widths[1] <= found[1] - 1 for s in less.shapes)


def test_truncate(four):
    data, sel = load(four, batch_size=2), (5, 6, 7)
    data.truncate(sel)
    at_once = load(four, batch_size=2, sel=sel)
    assert data.sel == at_once.sel == sel
    assert data.shapes == at_once.shapes
    assert data.overflow() == at_once.overflow() != []
    for step in range(4):
        same(data.batch(step), at_once.batch(step))


def test_truncate_with_room(four):
    data, free = load(four, batch_size=2), load(four, batch_size=2)
    data.truncate((99, 99, 99))
    assert data.sel == (99, 99, 99) and data.overflow() == []
    same(data.batch(0), free.batch(0))


def test_truncate_and_take_back(four):
    """A larger `sel` brings the neighbours back that a smaller one left out."""
    data, free = load(four, batch_size=2, sel=(5, 6, 7)), load(four, batch_size=2)
    data.truncate((99, 99, 99))
    assert data.shapes == free.shapes
    same(data.batch(0), free.batch(0))


# Data sets and samples ----------------------------------------------------------------


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "as they come"])
@pytest.mark.parametrize("batch_size", [2, "auto:20"])
@pytest.mark.parametrize("max_shapes", [1, 8])
def test_dataset(folders, max_shapes, batch_size, tables, monkeypatch):
    if not tables:
        monkeypatch.setattr("deepspin.data.dataset.MAX_TABLES", 0)
    systems = list(folders.values())
    data = load(systems, batch_size=batch_size, max_shapes=max_shapes)
    dataset = data.dataset(start=5, steps=8)
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 8
    assert len({data.plan(step)[0] for step in range(5, 13)}) > 2
    for k, batch in enumerate(batches):
        expected = data.batch(5 + k)
        same(batch, expected)
        tf.nest.assert_same_structure(dataset.element_spec, expected)
        for spec, array in zip(
            tf.nest.flatten(dataset.element_spec),
            tf.nest.flatten(expected),
            strict=True,
        ):
            assert spec.shape.is_compatible_with(array.shape)
            assert spec.dtype == array.dtype
    static = [s.shape.is_fully_defined() for s in tf.nest.flatten(dataset.element_spec)]
    assert all(static) == (max_shapes == 1)


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "as they come"])
def test_dataset_goes_on(folders, tables, monkeypatch):
    monkeypatch.setattr("deepspin.data.dataset.PLAN_AHEAD", 4)
    if not tables:
        monkeypatch.setattr("deepspin.data.dataset.MAX_TABLES", 0)
    data = load(folders["a"], batch_size=3)
    batches = data.dataset(start=3).take(7).as_numpy_iterator()
    for step, batch in enumerate(batches):
        same(batch, data.batch(3 + step))
    assert step == 6


def test_size_of_tables(four):
    """What is reckoned with is what they take, or a little more."""
    data = load(four, batch_size=2)
    shapes = dict.fromkeys(data.shapes)
    arrays = tf.nest.flatten([data._table(shape) for shape in shapes])
    size = sum(array.nbytes for array in arrays)
    assert size < data._table_bytes() < 1.5 * size


def test_dataset_of_the_example(example):
    for step, batch in enumerate(example.dataset(start=2, steps=3).as_numpy_iterator()):
        same(batch, example.batch(2 + step))


def test_dataset_feeds_the_model(folders, model):
    data = load([folders["a"], folders["mixed"]], batch_size=2)
    for step, (inputs, labels) in enumerate(data.dataset(steps=3)):
        expected = model(data.batch(step)[0])["energy"]
        np.testing.assert_array_equal(model(inputs)["energy"], expected)
        assert labels["energy"].dtype == tf.float64


def test_sample(four):
    data = load(four, batch_size=2, seed=4)
    batches = list(data.sample(2))
    assert len(batches) == 8
    for system, own in enumerate(data.systems):
        mine = batches[2 * system : 2 * system + 2]
        energies = np.concatenate([labels["energy"] for _, labels in mine])
        assert np.isin(energies, own.labels["energy"]).all()
        # the first pass of the plan; a system of one batch comes twice
        drawn = (data.plan(step) for step in range(500))
        first = [frames for k, frames in drawn if k == system][:2]
        np.testing.assert_array_equal(
            energies, own.labels["energy"][np.concatenate(first)]
        )
        if data.nbatches[system] >= 2:
            assert len(set(energies)) == 4
    for one, two in zip(
        batches, load(four, batch_size=2, seed=4).sample(2), strict=True
    ):
        same(one, two)


# Layouts ------------------------------------------------------------------------------


def test_layouts(tmp_path):
    """The same frames in both layouts."""
    data = make(np.array([1, 0, 0, 1, 1]), 4, length=4.6)
    paths = [write(tmp_path / "a", data), write_virtual(tmp_path / "b", data)]
    loaded = load(paths, batch_size=2)
    one, two = loaded.systems
    assert (one.layout, two.layout) == ("spin-files", "virtual-atom")
    np.testing.assert_array_equal(two.coord, one.coord)
    np.testing.assert_array_equal(two.atype, one.atype)
    np.testing.assert_allclose(two.spin, one.spin, rtol=0, atol=1e-13)
    assert one.labels.keys() == two.labels.keys() == set(LABELS)
    assert loaded.shapes[0] == loaded.shapes[1]
    (inputs_one, labels_one), (inputs_two, labels_two) = (
        loaded.frames(k, np.arange(2)) for k in range(2)
    )
    same(inputs_one, inputs_two, atol=1e-13)
    np.testing.assert_array_equal(labels_one.pop("natoms"), 5.0)
    np.testing.assert_array_equal(labels_two.pop("natoms"), 8.0)
    same(labels_one, labels_two)


# Mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        ("4", "`batch_size` must be an integer, a list, 'auto' or 'auto:N'.*'4'"),
        ("auto:many", "`batch_size` must be.*'auto:many'"),
        ("auto:-1", "`batch_size` must be.*'auto:-1'"),
        ("mixed:3", "`batch_size` must be.*'mixed:3'"),
        ([2, 2], r"2 entries, but `systems` has 4: .*/a', .*/c', \.\.\.\."),
        (0, "batch_size"),
        (-1, "batch_size"),
        ("auto:0", "batch_size"),
        ([1, 0, 1, 1], "batch_size"),
    ],
)
def test_bad_batch_size(four, batch_size, message):
    with pytest.raises(DataError, match=message):
        load(four, batch_size=batch_size)


@pytest.mark.parametrize(
    ("auto_prob", "message"),
    [
        ("uniform", "`auto_prob` must be 'prob_uniform', 'prob_sys_size'.*'uniform'"),
        ("prob_uniform;0:1:1", "`auto_prob` must be"),
        ("prob_sys_size;0:1", "blocks are BEGIN:END:WEIGHT.*'0:1' of"),
        ("prob_sys_size;0:1:x", "blocks are BEGIN:END:WEIGHT.*'0:1:x' of"),
        ("prob_sys_size;a:1:1", "blocks are BEGIN:END:WEIGHT"),
        ("prob_sys_size;", "blocks are BEGIN:END:WEIGHT"),
        ("prob_sys_size;0:2:-1;2:4:2", "not negative"),
        ("prob_sys_size;0:4:0", "not all 0"),
        ("prob_sys_size;0:4:nan", "must be finite"),
        ("prob_sys_size;0:2:0.3;5:9:0.7", "last one is 3.*5:9:0.7"),  # no such systems
        ("prob_sys_size;0:3:.5;2:4:.5", "'0:3:.5' and '2:4:.5' both hold system 2"),
        ("prob_sys_size;0:1:.5;0:4:.5", "both hold system 0"),
    ],
)
def test_bad_auto_prob(four, auto_prob, message):
    with pytest.raises(DataError, match=message):
        load(four, auto_prob=auto_prob)


@pytest.mark.parametrize(
    ("sys_probs", "message"),
    [
        ([0.5, 0.5], "`sys_probs` has 2 entries, but .systems. has 4"),
        ([0, 0, 0, 0], "not all 0"),
        ([1, 1, np.nan, 1], "must be finite"),
        ([1, 1, np.inf, 1], "must be finite"),
    ],
)
def test_bad_sys_probs(four, sys_probs, message):
    with pytest.raises(DataError, match=message):
        load(four, sys_probs=sys_probs)


def test_systems_without_atoms_of_their_own(four):
    with pytest.raises(DataError, match="`systems` is empty"):
        load([])
    with pytest.raises(DataError, match="does not exist"):
        load([*four, four[0] + "-typo"])


def test_patterns_and_order(four):
    root = str(Path(four[0]).parent)
    assert [s.path for s in load(root, rglob_patterns=["[a-d]"]).systems] == four
    assert [s.path for s in load(four[::-1]).systems] == four[::-1]
