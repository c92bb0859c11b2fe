# SPDX-License-Identifier: Apache-2.0
"""Hamiltonians: a model, and an external field."""

from types import SimpleNamespace

import numpy as np
import pytest
from hamiltonians import free

from deepspin.atoms import units
from deepspin.dynamics.core.fields import ModelFields, Zeeman

COORD, SPIN = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
SPIN[:, 2] = 0.0


def test_zeeman():
    """-M·B of the spins; atoms without spin feel nothing; the field alternates."""
    field = np.array([[0, 0, 30.0], [10.0, 0, 0]])
    found = Zeeman(free, field)(COORD, SPIN)
    want = -units.MU_B * (SPIN.sum(axis=1) * field).sum(axis=1)
    np.testing.assert_allclose(found.energy, want)
    push = units.MU_B * np.repeat(field[:, None], 3, axis=1)
    push[:, 2] = 0.0
    np.testing.assert_allclose(found.force_mag, push)
    later = Zeeman(free, field, 5.0)(COORD, SPIN, time=100.0)  # half a period
    np.testing.assert_allclose(later.energy, -want)


@pytest.mark.parametrize(
    ("field", "frequency", "message"),
    [
        ([1.0, 2.0], 0.0, "must be a vector in T"),
        ([1.0, 2.0, np.inf], 0.0, "must be finite"),
        ([1.0, 2.0, 0.0], np.nan, "must be finite"),
    ],
)
def test_bad_field(field, frequency, message):
    with pytest.raises(ValueError, match=message):
        Zeeman(free, field, frequency)


class Recorder:
    """Keeps what a model is asked."""

    def eval(self, *frames, **options):
        self.asked = frames, options
        numbers = {"energy": np.zeros(2), "force": COORD, "force_mag": SPIN}
        return SimpleNamespace(**numbers).__dict__ | {"virial": None}

    def check(self, *frames, **options):
        self.checked = frames, options


@pytest.mark.parametrize("box", [None, np.eye(3), np.stack([np.eye(3)] * 2)])
def test_model(box):
    """All replicas in one call, each in its cell; checked as they are evaluated."""
    potential = Recorder()
    fields = ModelFields(potential, [0, 0, 1], box, pbc=[1, 0, 1], fparam=[0.5])
    found = fields(COORD, SPIN)
    fields.check(COORD, SPIN)
    (coord, cells, atype, spin), options = potential.asked
    assert coord is COORD and spin is SPIN and atype.tolist() == [0, 0, 1]
    assert options == {"pbc": [1, 0, 1], "fparam": [0.5]}
    assert (cells is None) if box is None else (cells.shape == (2, 3, 3))
    assert potential.checked[1] == options
    assert found.force is COORD and found.force_mag is SPIN
    other = Zeeman(fields, [0, 0, 1.0]).in_box(2 * np.eye(3)).fields
    assert (other.box == 2 * np.eye(3)).all() and other.fparam == [0.5]
