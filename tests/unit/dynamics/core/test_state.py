# SPDX-License-Identifier: Apache-2.0
"""Atoms and spins at one instant."""

import numpy as np
import pytest

from deepspin.atoms import units
from deepspin.dynamics.core.state import (
    State,
    thermal_energy,
    thermal_width,
    without_drift,
)


def given(nrep=1, nloc=2):
    vectors = np.ones((nrep, nloc, 3))
    mass, atype = np.arange(1.0, nloc + 1), np.zeros(nloc, int)
    return {"coord": vectors, "spin": vectors, "mass": mass, "atype": atype}


def test_what_is_not_given():
    state = State(**given(3))
    assert (state.nrep, state.nloc, state.dof) == (3, 2, 6)
    assert not state.velocity.any() and not state.fixed.any()
    assert state.stream.tolist() == [0, 1, 2]
    assert State(**given(), still=True).dof == 3
    assert State(**given(), fixed=[True, False]).dof == 3


def test_arrays_are_copied():
    coord = np.ones((1, 2, 3))
    state = State(**given() | {"coord": coord})
    coord[:] = 7
    assert (state.coord == 1).all()


def test_arrays_and_back():
    """Types as they were, arrays equal; what was not given is as it would be."""
    state = State(**given(2), still=True, seed=4, step=7, time=1.5)
    state.velocity[:] = 0.25
    again = State.from_arrays(state.arrays())
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array, err_msg=name)
    for name in ("still", "seed", "step", "time"):
        assert type(getattr(again, name)) is type(getattr(state, name))
    assert again.spin_velocity is None and again.box is None


def test_forget():
    state = State(
        **given(), history=np.ones((3, 1, 2, 3)), middles=np.ones((3, 1, 2, 3))
    )
    state.forget()
    assert state.history.shape == state.middles.shape == (0, 1, 2, 3)


def test_streams():
    """Other seeds, replicas, steps and purposes: other numbers."""
    state = State(**given(2))
    draws = [state.normals("lattice"), state.normals("spin")]
    state.step = 1
    draws.append(state.normals("lattice"))
    state.seed = 1
    draws.append(state.normals("lattice"))
    values = np.stack(draws).reshape(8, -1)
    assert len(np.unique(values)) == values.size
    state.step, state.seed = 0, 0
    np.testing.assert_array_equal(state.normals("lattice"), draws[0])


def test_thermal_width():
    """The square is k_B T/m; one temperature, or one for each replica."""
    inertia = np.array([1.0, 4.0])
    found = thermal_width([100.0, 300.0], 2, inertia)
    want = units.K_B * np.array([[100], [300]]) / inertia
    np.testing.assert_allclose(found[..., 0] ** 2, want)
    assert thermal_energy(5.0, 3).shape == (1, 1, 1)
    with pytest.raises(ValueError, match="one for each of 3 replicas"):
        thermal_energy([1.0, 2.0], 3)


def test_without_drift():
    rng = np.random.default_rng(0)
    velocity, mass = rng.normal(size=(2, 4, 3)), np.arange(1.0, 5)
    found = without_drift(velocity, mass)
    np.testing.assert_allclose((mass[:, None] * found).sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(
        found - velocity, (found - velocity)[:, :1] * np.ones(3)[0] + 0 * found
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coord": np.zeros((2, 3))}, r"`coord` must have the shape \(replicas"),
        ({"spin": np.zeros((1, 3, 3))}, r"`spin` must have the shape \(1, 2, 3\)"),
        ({"spin": np.full((1, 2, 3), np.nan)}, "`spin` has values that are NaN"),
        ({"mass": [1.0, -2.0]}, r"Received: -2\.0 for atom 1"),
        ({"mass": 1.0}, "`mass` must have the shape"),
        ({"still": True, "fixed": [True, False]}, "1 fixed atoms"),
        (
            {"velocity": np.ones((1, 2, 3)), "fixed": [True, False]},
            "must have the velocity 0",
        ),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_bad_state(changes, message):
    with pytest.raises(ValueError, match=message):
        State(**given() | changes)
