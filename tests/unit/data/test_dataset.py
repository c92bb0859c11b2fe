# SPDX-License-Identifier: Apache-2.0
"""Batches: which frames and when, in which shapes, and that padding changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from batches import (
    LABELS,
    PREFACTORS,
    SCHEME,
    load,
    make,
    make_model,
    same,
    write,
    write_virtual,
)

from deepspin import (
    EnerSpinLoss,
)
from deepspin.data.collate import Shape, collate, sort_by_type
from deepspin.data.files import DataError

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


# Shapes and padding -------------------------------------------------------------------


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
    neighbors = list(data.neighbors(system))[frame]
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
    for k, system in enumerate(data.systems):
        for f, own in enumerate(data.neighbors(k)):
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


def test_systems_without_atoms_of_their_own(four):
    with pytest.raises(DataError, match="`systems` is empty"):
        load([])
    with pytest.raises(DataError, match="does not exist"):
        load([*four, four[0] + "-typo"])


def test_patterns_and_order(four):
    root = str(Path(four[0]).parent)
    assert [s.path for s in load(root, rglob_patterns=["[a-d]"]).systems] == four
    assert [s.path for s in load(four[::-1]).systems] == four[::-1]
