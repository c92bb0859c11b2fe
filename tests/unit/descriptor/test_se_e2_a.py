# SPDX-License-Identifier: Apache-2.0
"""Environment matrix and descriptor against plain numpy loops over every slot."""

from __future__ import annotations

import numpy as np
import pytest
from by_hand import descriptors

import deepspin

# -- descriptor ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("NiO", {}),
        ("ONi", {"type_one_side": True, "resnet_dt": True}),
        ("NiOFe", {"sel": [26, 20, 24], "env_protection": 0.1, "neuron": (4, 4, 6)}),
        ("NiO", {"exclude_types": [[0, 2], [1, 0]], "set_davg_zero": True}),
        ("ONi", {"exclude_types": [[0, 2]], "type_one_side": True}),
    ],
)
@pytest.mark.parametrize("periodic", [True, False])
def test_against_numpy(
    system, options, periodic, make_model, make_nio, make_cluster, make_inputs
):
    model = make_model(system, **options)
    frame = (make_nio if periodic else make_cluster)(model)
    inputs, slots = make_inputs(model, [frame])
    found = np.asarray(model.descriptors(inputs))[0, slots[0]]
    want = descriptors(model, frame)
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-14)
    assert np.ptp(want, axis=0).min() > 1e-6


def test_empty_slots_count(make_model, make_nio, make_inputs):
    """More `sel` for the same neighbours is another descriptor."""
    few, many = make_model(sel=[26, 26]), make_model(sel=[40, 26])
    inputs, _ = make_inputs(few, [make_nio(few)])
    a, b = few.descriptors(inputs), many.descriptors(inputs)
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()


@pytest.mark.parametrize("type_one_side", [False, True])
def test_padding_changes_nothing(type_one_side, make_model, make_nio, make_inputs):
    """Wider lists, and slots for atoms that are not there."""
    model = make_model("NiOFe", type_one_side=type_one_side)
    frame = make_nio(model)
    inputs, slots = make_inputs(model, [frame])
    wide, wide_slots = make_inputs(model, [frame], wider=3, more_atoms=2)
    found, want = model(wide), model(inputs)
    for name in ("energy", "virial"):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-12, err_msg=name)
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        have = found[name].numpy()
        np.testing.assert_allclose(
            have[0, wide_slots[0]],
            want[name].numpy()[0, slots[0]],
            rtol=1e-11,
            atol=1e-14,
            err_msg=name,
        )
        absent = np.setdiff1d(np.arange(have.shape[1]), wide_slots[0])
        assert len(absent) == 6
        np.testing.assert_array_equal(have[0, absent], 0.0, err_msg=name)


def test_type_that_sees_nothing(make_model, make_nio, make_inputs):
    """Excluded from all blocks: a descriptor of zeros, not an error."""
    for options in ({}, {"type_one_side": True}):
        model = make_model(exclude_types=[[1, 0], [1, 1], [1, 2]], **options)
        frame = make_nio(model)
        inputs, slots = make_inputs(model, [frame])
        found = np.asarray(model.descriptors(inputs))[0, slots[0]]
        np.testing.assert_array_equal(found[frame.atype == 1], 0.0)
        assert (found[frame.atype == 0] != 0).any()
        assert np.isfinite(model(inputs)["force"]).all()


@pytest.mark.parametrize("type_one_side", [False, True])
@pytest.mark.parametrize(
    "options", [{"exclude_types": [[0, 2], [1, 2]]}, {"sel": [26, 0]}]
)
def test_neighbors_that_nobody_sees(
    type_one_side, options, make_model, make_nio, make_inputs
):
    """A whole block excluded or without slots: zero derivatives, not an error."""
    model = make_model(type_one_side=type_one_side, **options)
    inputs, _ = make_inputs(model, [make_nio(model)])
    output = model(inputs)
    assert np.abs(output["force"]).max() > 0
    blind = "exclude_types" in options  # nobody sees virtual atoms
    assert (np.abs(output["force_mag"]).max() > 0) != blind


def test_config_round_trip(make_model):
    layer = make_model(exclude_types=[[0, 1]], env_protection=0.1).descriptor
    copy = deepspin.DescrptSeA.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rcut_smth": 4.0}, "`rcut_smth` must be at least 0 and below `rcut`"),
        ({"axis_neuron": 17}, "`axis_neuron` must not exceed the last width"),
    ],
)
def test_mistakes(options, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(**options)
