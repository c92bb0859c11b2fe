# SPDX-License-Identifier: Apache-2.0
"""Frames without some label count as frames of a system that has none."""

from types import SimpleNamespace

import invariant_models
import keras
import numpy as np
import pytest
import small_data
import tensorflow as tf

import deepspin
from deepspin.model.closed_form import label_errors
from deepspin.spins.schemes import scheme_of_layer
from deepspin.spins.types import SMALL_MOMENT
from deepspin.training.bias import change_bias
from deepspin.training.validation import LABEL, FullValidation

NF = 6
HAS = np.array([True, False, True, True, False, True])
LACK = ("energy", "force_mag")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """One system with rows of NaN; the same frames as two systems, one without."""
    top = tmp_path_factory.mktemp("data")
    arrays, types = small_data.frames(NF)
    arrays["virial"] = np.random.default_rng(3).normal(size=(NF, 9))
    nan = {name: np.array(values) for name, values in arrays.items()}
    for name in LACK:
        nan[name][~HAS] = np.nan
    gaps = small_data.write(top / "gaps", nan, types)
    one = small_data.write(top / "a", {k: v[HAS] for k, v in arrays.items()}, types)
    rest = {k: v[~HAS] for k, v in arrays.items() if k not in LACK}
    return str(gaps), [str(one), str(small_data.write(top / "b", rest, types))]


def served(model, systems, batch_size=3):
    return deepspin.DataSystem(systems, **model.data_spec, batch_size=batch_size)


def test_energy_bias_and_baseline(paths, make_model):
    """Of the start of a training, of both schemes, and as it is changed later."""
    found = []
    for systems in paths:
        model = make_model("NiO", neuron=(2, 4))
        model.compute_stats(list(served(model, systems).spread(NF)))
        first = np.array(model.fitting.bias_atom_e)
        change = change_bias(model, served(model, systems))
        assert change.nframes == HAS.sum()
        other = invariant_models.build("NiO", baseline={"ridge": 1e-8})
        other.compute_stats(list(served(other, systems).spread(NF)))
        report = other.spin.report
        spreads = [report.spreads[name] for name in sorted(report.spreads)]
        found.append([first, change.new, other.spin.baseline.theta.numpy(), spreads])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-8)


def test_energy_bias_of_few_frames(paths, make_model):
    """They are chosen among those that have energies."""
    model = make_model("NiO", neuron=(2, 4))
    data = served(model, paths[0])
    assert change_bias(model, data, frames=2).nframes == 2
    assert change_bias(model, data, frames=NF).nframes == HAS.sum()


@pytest.mark.parametrize("below", [None, 0.2])
@pytest.mark.parametrize("kind", ["ener_spin", "invariant"])
def test_threshold_of_moments_is_kept(kind, below, tmp_path, make_model):
    """By a model's file, if it is another than usual."""
    if kind == "invariant":
        given = {} if below is None else {"ignore_below": below}
        model = invariant_models.build("NiO", **given)
    else:
        model = make_model("NiO", neuron=(2, 4))
        options = {**model.spin.options, "ignore_below": below or SMALL_MOMENT}
        spin = deepspin.Spin(**options)
        model = deepspin.SpinEnergyModel(
            model.type_map, model.descriptor, model.fitting, spin
        )
    config = model.spin.get_config()
    assert config.get("ignore_below") == below == model.spin.options.get("ignore_below")
    deepspin.save_model(model, tmp_path / "m.keras", {})
    again = deepspin.load_model(tmp_path / "m.keras")
    types = again.data_spec["spin"].types
    assert types.ignore_below == (SMALL_MOMENT if below is None else below)
    layer = keras.saving.serialize_keras_object(model.spin)
    assert scheme_of_layer(layer).types == types


def test_errors_of_all_kinds(paths, make_model):
    """In `evaluate`, before a training, and on all validation data."""
    found = []
    model = make_model("NiO", neuron=(2, 4))
    loss = deepspin.EnerSpinLoss(start_pref_v=1, limit_pref_v=1)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    for systems in paths:
        data = served(model, systems)
        errors = model.evaluate(data, return_dict=True, verbose=0)
        kept = {k: errors[k] for k in ("rmse_e", "rmse_fr", "rmse_fm", "rmse_v")}
        validation = SimpleNamespace(data=data, names=list(LABEL), _evaluate=None)
        whole = FullValidation.errors(validation, model)
        found.append({**kept, **label_errors(model, data.spread(NF)), **whole})
        assert np.isfinite(list(found[-1].values())).all()
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert value == pytest.approx(found[1][name], rel=1e-10), name


@pytest.mark.parametrize("number", [2, 3])
def test_parts_of_a_batch_add_up(paths, make_model, number):
    """As workers add them: sums and counts of each term, whoever has the labels."""
    model = make_model("NiO", neuron=(2, 4))
    loss = deepspin.EnerSpinLoss()
    data = served(model, paths[0], batch_size=NF)

    def sums(part):
        inputs, labels = tf.nest.map_structure(
            tf.convert_to_tensor, data.batch(0, part)
        )
        return loss.sums(labels, model(inputs))

    whole, parts = sums((0, 1)), [sums((k, number)) for k in range(number)]
    counts = {term: float(own.count) for term, own in whole.items()}
    assert counts == {"e": HAS.sum(), "fr": NF * 24, "fm": HAS.sum() * 12}
    for term, own in whole.items():
        for field, value in own._asdict().items():
            total = sum(getattr(part[term], field) for part in parts)
            np.testing.assert_allclose(total, value, rtol=1e-12, err_msg=term)
