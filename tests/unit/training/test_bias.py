# SPDX-License-Identifier: Apache-2.0
"""The energy bias of a model, changed by data: formulas, and what they leave."""

from __future__ import annotations

import json

import batches
import invariant_models
import numpy as np
import pytest
import small_data
import tensorflow as tf
from places import REFERENCE

import deepspin
from deepspin.data.files import DataError
from deepspin.training.bias import change_bias, set_bias


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Systems of several compositions, and one without energies."""
    folder = tmp_path_factory.mktemp("systems")
    found = {}
    for k, (name, (atype, nframes, length)) in enumerate(batches.SYSTEMS.items()):
        data = batches.make(atype, nframes, length, seed=k)
        data["energy"] = data["energy"] - 37.0 * len(atype)
        found[name] = batches.write(folder / name, data)
    silent = batches.make([1, 0], 2, seed=9)
    found["silent"] = batches.write(folder / "silent", silent, without=["energy"])
    return found


@pytest.fixture
def model():
    return batches.make_model(batches.SCHEME.extend_sel([30, 30]))


def load(model, places, names):
    paths = [places[name] for name in names]
    return deepspin.DataSystem(paths, **model.data_spec, batch_size=3, max_shapes=1)


def errors(model, data):
    """Label less answer of every frame that has an energy, and its composition."""
    rest, counts = [], []
    for k, system in enumerate(data.systems):
        if "energy" not in system.labels:
            continue
        for f in range(system.nframes):
            inputs, labels = data.frames(k, np.array([f]))
            rest.append(labels["energy"][0] - model(inputs)["energy"].numpy()[0])
            counts.append(np.bincount(system.atype[f], minlength=2))
    return np.array(rest), np.array(counts, dtype=float)


def test_change_by_statistic(model, places):
    """The normal equations of least squares, solved by hand."""
    data = load(model, places, "abcd")
    rest, counts = errors(model, data)
    old = model.fitting.bias_atom_e.numpy()
    wanted = np.linalg.solve(counts.T @ counts, counts.T @ rest)
    found = change_bias(model, data)
    np.testing.assert_allclose(found.new - found.old, wanted, rtol=1e-10)
    np.testing.assert_array_equal(found.old, old)
    np.testing.assert_array_equal(model.fitting.bias_atom_e, found.new)
    assert (found.nframes, found.alike, found.kept) == (20, [], [])
    now, _ = errors(model, data)
    natoms = counts.sum(axis=1)
    np.testing.assert_allclose(counts.T @ now, 0.0, atol=1e-9)
    np.testing.assert_allclose(found.before, np.sqrt(np.mean((rest / natoms) ** 2)))
    np.testing.assert_allclose(found.after, np.sqrt(np.mean((now / natoms) ** 2)))
    assert found.after < 0.1 * found.before


def test_equal_compositions(model, places, caplog):
    """The change of minimum norm; the mean of the errors is 0."""
    data = load(model, places, "a")
    rest, _ = errors(model, data)
    with caplog.at_level("INFO", logger="deepspin"):
        found = change_bias(model, data)
        found.tell()
    np.testing.assert_allclose(found.new - found.old, rest.mean() / 4, rtol=1e-12)
    np.testing.assert_allclose(errors(model, data)[0].mean(), 0.0, atol=1e-10)
    assert found.alike == ["O", "Ni"]
    assert "do not tell O and Ni apart" in caplog.text
    assert "of 6 frames" in caplog.text


def test_set_by_statistic(model, places):
    """As before a training, where that is determined: answers do not count."""
    data = load(model, places, "abcd")
    fresh = batches.make_model(model.descriptor.sel)
    fresh.compute_stats(data.spread(20))
    change_bias(model, data, "set-by-statistic")
    np.testing.assert_allclose(
        model.fitting.bias_atom_e, fresh.fitting.bias_atom_e, rtol=1e-12
    )
    assert abs(model.fitting.bias_atom_e.numpy()[0] + 37) < 2


@pytest.mark.parametrize("mode", ["change-by-statistic", "set-by-statistic"])
def test_energies_that_are_given(model, places, mode):
    data = load(model, places, "bad")
    rest, counts = errors(model, data)
    rest += counts @ model.fitting.bias_atom_e.numpy()  # without the bias
    if mode == "set-by-statistic":
        energies = [s.labels["energy"] for s in data.systems]
        rest = np.concatenate(energies).ravel()
    found = change_bias(model, data, mode, given={1: -40.0})
    left = rest + 40.0 * counts[:, 1]
    wanted = [counts[:, 0] @ left / (counts[:, 0] @ counts[:, 0]), -40.0]
    np.testing.assert_allclose(found.new, wanted, rtol=1e-10)
    assert found.alike == []


@pytest.mark.parametrize("mode", ["change-by-statistic", "set-by-statistic"])
def test_types_without_atoms(model, places, mode, caplog):
    """Nothing is known of them, so they keep theirs."""
    found = change_bias(model, load(model, places, "c"), mode)
    found.tell()
    assert found.kept == ["O"]
    assert found.new[0] == found.old[0]
    assert found.new[1] != found.old[1]
    assert "no frame with an energy has an atom of O" in caplog.text


def test_some_frames(model, places):
    assert change_bias(model, load(model, places, "abcd"), frames=3).nframes == 11


def test_systems_without_energies(model, places):
    data = load(model, places, ["a", "silent"])
    assert change_bias(model, data).nframes == 6
    with pytest.raises(DataError, match=r"no system has energies.*Add energy\.npy"):
        change_bias(model, load(model, places, ["silent"]))


def test_types_of_given_energy_stay(make_model, places):
    """Those that `atom_ener` fixed when the model was made."""
    model = make_model("ONi", neuron=(4, 8), fit_neuron=(6, 6), vacuum_types=(0,))
    found = change_bias(model, load(model, places, "bad"))
    assert found.new[0] == found.old[0]
    assert found.new[1] != found.old[1]


def test_invariant(places):
    """Its constants take the change; with a baseline they cannot be set alone."""
    model = invariant_models.build("ONi", baseline={"nradial": 3, "ncross": 0})
    data = load(model, places, "a")
    assert change_bias(model, data).alike
    np.testing.assert_allclose(errors(model, data)[0].mean(), 0.0, atol=1e-10)
    with pytest.raises(ValueError, match="cannot be set apart"):
        change_bias(model, data, "set-by-statistic")


def test_given_numbers(model):
    found = set_bias(model, [-1.0, -2.0])
    np.testing.assert_array_equal(model.fitting.bias_atom_e, [-1.0, -2.0])
    np.testing.assert_array_equal(found.old, [-1.5, -2.5])
    with pytest.raises(ValueError, match=r"2 finite numbers, .* O Ni. Received: \[1\]"):
        set_bias(model, [1])
    with pytest.raises(ValueError, match="finite"):
        set_bias(model, [1, np.nan])
    with pytest.raises(ValueError, match="`mode` is one of"):
        change_bias(model, None, "change")


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("one_side", []),
        ("two_alike", ["Ni", "Fe"]),
    ],
)
def test_deepmd_kit(name, alike, tmp_path):
    """Energies after the change, and the bias set by statistics, are DeePMD-kit's."""
    wanted = json.loads((REFERENCE / "change_bias.json").read_text())[name]
    file = REFERENCE / "dpmodel" / wanted["model"]
    model = deepspin.load_model(file)
    with np.load(file.with_suffix(".npz")) as stored:
        frames = dict(stored)
    atype, nf = frames["atype"], len(frames["box"])
    magnetic = model.spin.scheme.types.is_magnetic(atype)[:, None]
    frames["spin"] = np.where(magnetic, frames["spin"], 0.0)
    systems = []
    for size, label in zip(wanted["natoms"], wanted["label"], strict=True):
        arrays = {k: frames[k][:, :size] for k in ("coord", "spin")}
        arrays |= {"box": frames["box"], "energy": np.array(label)}
        folder = tmp_path / str(size)
        systems.append(
            small_data.write(folder, arrays, atype[:size], names=model.type_map)
        )
    data = deepspin.DataSystem(
        list(map(str, systems)), **model.data_spec, batch_size=nf, max_shapes=1
    )
    assert change_bias(model, data).alike == alike
    evaluate = tf.function(lambda inputs: model(inputs)["energy"], autograph=False)
    for k, energy in enumerate(wanted["changed"]):
        found = evaluate(tf.nest.map_structure(tf.constant, data.frames(k, [0, 1])[0]))
        np.testing.assert_allclose(found, energy, rtol=1e-11)
    change_bias(model, data, "set-by-statistic")
    np.testing.assert_allclose(model.fitting.bias_atom_e, wanted["set"], rtol=1e-9)
