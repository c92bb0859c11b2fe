# SPDX-License-Identifier: Apache-2.0
"""The baseline: its rows are what the model does, and data of its kind are found."""

import numpy as np
import pytest
from invariant_models import build


def quiet(model):
    """Without the nets."""
    for t in range(len(model.type_map)):
        last = model.fitting.net(t)[-1]
        last.matrix.assign(np.zeros(last.matrix.shape))
        last.bias.assign(np.zeros(last.bias.shape))
    return model


def labelled(model, frames, make_inputs):
    """A batch of frames, and what the model says as labels."""
    inputs, _ = make_inputs(model, frames)
    found, names = model(inputs), ("energy", "force", "force_mag", "virial")
    labels = {name: found[name].numpy() for name in names}
    return inputs, labels | {f"find_{name}": np.ones(len(frames)) for name in names}


@pytest.mark.parametrize(
    ("system", "spin"),
    [("ONi", {}), ("NiOFe", {"soc": True, "baseline": {"ncross": 1, "nradial": 3}})],
)
def test_rows_are_the_model(system, spin, make_nio, make_inputs):
    """One unit of each number, times the numbers: energies and all derivatives."""
    model = quiet(build(system, **spin))
    model.fitting.bias_atom_e.assign(np.zeros(len(model.type_map)))
    inputs, _ = make_inputs(model, [make_nio(model, k) for k in range(2)])
    want = model(inputs)
    _, rows = model.spin._measured(inputs, model.descriptor)
    theta = model.spin.baseline.theta.numpy()
    for name in ("energy", "force", "force_mag", "virial"):
        found = rows[name].numpy() @ theta
        expected = np.reshape(want[name], found.shape)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-11 * scale, err_msg=name)


@pytest.mark.parametrize("soc", [False, True])
@pytest.mark.any_version
def test_a_model_of_its_kind_is_found(soc, make_nio, make_inputs):
    """Energies and forces of frames that the fit did not see."""
    spin = {"soc": soc, "baseline": {"ncross": 1, "nradial": 4, "weight_v": 1.0}}
    truth = quiet(build("NiO", **spin))
    frames = [make_nio(truth, k) for k in range(25)]
    model = quiet(build("NiO", seed=2, **spin))
    model.compute_stats([labelled(truth, frames, make_inputs)])
    new = make_nio(truth, 99)
    inputs, _ = make_inputs(truth, [new])
    want, found = truth(inputs), model(inputs)
    for name in ("energy", "force", "force_mag", "virial"):
        scale = np.abs(want[name]).max()
        assert scale > 0
        np.testing.assert_allclose(
            found[name], want[name], atol=2e-5 * scale, err_msg=name
        )
    report = model.spin.report
    assert report.nframes == 25
    assert report.errors["across"] < 1e-5 * report.spreads["across"]


@pytest.mark.any_version
def test_labels_of_another_size(make_nio, make_inputs):
    """Magnetic forces that are too small by a factor: it is found."""
    spin = {"baseline": {"ncross": 0, "nradial": 5}}
    truth = quiet(build("NiO", **spin))
    frames = [make_nio(truth, k) for k in range(30)]
    inputs, labels = labelled(truth, frames, make_inputs)
    labels["force_mag"] /= 1.25
    model = build("NiO", seed=2, **spin)
    model.compute_stats([(inputs, labels)], factor=None)
    np.testing.assert_allclose(model.spin.report.solution.factor, 1.25, rtol=2e-3)


def test_missing_labels(make_nio, make_inputs):
    """Frames without a label give no rows of it; energies alone are enough."""
    truth = quiet(build("NiO", baseline={"ncross": 0, "nradial": 3}))
    frames = [make_nio(truth, k) for k in range(12)]
    inputs, labels = labelled(truth, frames, make_inputs)
    labels["find_force_mag"] *= 0.0
    labels["find_force"] = np.arange(12.0) % 2
    model = build("NiO", seed=2, baseline={"ncross": 0, "nradial": 3})
    model.compute_stats([(inputs, labels)])
    counts = model.spin.report.counts
    assert counts["energy"] == 12
    assert counts["force"] == 6 * 24
    assert "across" not in counts


def test_labels_name_every_number():
    baseline = build("NiOFe", soc=True).spin.baseline
    assert len(set(baseline.labels)) == len(baseline.labels) == baseline.theta.shape[0]
    kinds = {label[0] for label in baseline.labels}
    assert {"pair", "exchange", "dipole", "anisotropy", "(s.uS).u", "tr (s.u)"} <= kinds
