# SPDX-License-Identifier: Apache-2.0
"""Environment matrix and descriptor against plain numpy loops over every slot."""

import numpy as np
import pytest
import tensorflow as tf
from by_hand import descriptors, row

import deepspin
from deepspin.descriptor.env_mat import (
    environment_matrix,
    float32_range,
    smooth_weight,
)

# -- environment matrix --------------------------------------------------------------


@pytest.mark.parametrize(("rcut", "rcut_smth"), [(5.6, 5.4), (3.3, 0.5), (6.0, 0.0)])
@pytest.mark.parametrize("protection", [0.0, 0.01])
def test_environment_matrix(rcut, rcut_smth, protection):
    rng = np.random.default_rng(0)
    radius = rng.uniform(0.3, 1.1 * rcut, 400)
    radius[:50] = rng.uniform(rcut_smth, rcut, 50)
    diff = rng.normal(size=(400, 3))
    diff *= (radius / np.linalg.norm(diff, axis=1))[:, None]
    filled = rng.random(400) < 0.8
    radial, angular = environment_matrix(
        tf.constant(diff), tf.constant(filled), rcut, rcut_smth, protection
    )
    want = np.array([row(d, rcut, rcut_smth, protection) for d in diff])
    want[~filled] = 0
    np.testing.assert_allclose(radial, want[:, 0], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(angular, want[:, 1:], rtol=1e-13, atol=1e-15)


def test_cutoffs_are_those_of_float32():
    end, begin, length = float32_range(5.6, 5.4)
    assert (end, begin) == (float(np.float32(5.6)), float(np.float32(5.4)))
    assert length == float(np.float32(5.6) - np.float32(5.4))
    assert abs(length - 0.2) > 1e-8  # what it would be in float64
    r = tf.constant([5.5], tf.float64)
    u = (5.5 - begin) / length
    want = u**3 * (-6 * u**2 + 15 * u - 10) + 1
    assert float(smooth_weight(r, 5.6, 5.4)[0]) == pytest.approx(want, rel=1e-14)


def test_smooth_weight_is_c2():
    """Value, slope and curvature meet at both ends of the switch."""
    end, begin, _ = float32_range(3.3, 2.0)
    for radius, value in ((begin, 1.0), (end, 0.0)):
        r = tf.constant([radius - 1e-9, radius, radius + 1e-9], tf.float64)
        with tf.GradientTape() as outer:
            outer.watch(r)
            with tf.GradientTape() as inner:
                inner.watch(r)
                w = smooth_weight(r, 3.3, 2.0)
            slope = inner.gradient(w, r)
        bend = outer.gradient(slope, r)
        np.testing.assert_allclose(w, value, atol=1e-15)
        np.testing.assert_allclose(slope, 0.0, atol=1e-13)
        np.testing.assert_allclose(bend, 0.0, atol=1e-6)


def test_gradients_are_finite_in_empty_slots():
    diff = tf.constant(np.zeros((3, 3)))
    filled = tf.constant([False, True, True])
    for protection, slots in ((0.0, ~filled), (0.1, filled)):
        with tf.GradientTape() as tape:
            tape.watch(diff)
            radial, angular = environment_matrix(
                diff, filled & (slots | (protection > 0)), 3.0, 1.0, protection
            )
            total = tf.reduce_sum(radial) + tf.reduce_sum(angular)
        assert np.isfinite(tape.gradient(total, diff)).all()
    np.testing.assert_allclose(radial, [0.0, 10.0, 10.0])  # 1/protection
    np.testing.assert_array_equal(angular, 0.0)


def test_points_that_coincide_have_no_energy():
    """NaN, not the number of some other distance."""
    diff, filled = tf.zeros((2, 3), tf.float64), tf.constant([False, True])
    radial, _ = environment_matrix(diff, filled, 3.0, 1.0)
    np.testing.assert_array_equal(radial, [0.0, np.nan])


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
