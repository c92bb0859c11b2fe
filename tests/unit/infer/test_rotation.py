# SPDX-License-Identifier: Apache-2.0
"""Spins turned all together."""

import numpy as np
import pytest
from places import ROOT

from deepspin.data.augmentation import random_rotations
from deepspin.infer.deep_spin import DeepSpin
from deepspin.infer.rotation import energy_changes, tell
from deepspin.infer.systems import load_for

SYSTEM = ROOT / "examples" / "NiO" / "data" / "valid" / "virtual-atom-16"


@pytest.fixture(scope="module")
def potential(make_model):
    return DeepSpin(make_model(neuron=(2, 4), fit_neuron=(4,), axis_neuron=2))


def test_rotations():
    """Proper, and none preferred."""
    turns = random_rotations(4000, np.random.default_rng(0))
    unit = np.einsum("nij,nkj->nik", turns, turns)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, rtol=1e-14)
    assert np.abs(turns.mean(axis=0)).max() < 4 / np.sqrt(3 * 4000)
    # the angle of a random rotation has the density (1 - cos a) / pi
    cosines = (np.trace(turns, axis1=1, axis2=2) - 1) / 2
    assert abs(cosines.mean() + 0.5) < 4 * cosines.std() / np.sqrt(4000)


def test_everything_turned(potential):
    """Spins, positions and cell turned together: nothing happens."""
    (data,) = load_for([potential], [str(SYSTEM)])
    coord, box, spin = data.coord[0], data.box[0], data.spin[0]
    turns = [np.eye(3), *random_rotations(5, np.random.default_rng(1)), -np.eye(3)]
    energy = [
        potential.eval(coord @ q.T, box @ q.T, data.atype[0], spin @ q.T)["energy"][0]
        for q in turns
    ]
    np.testing.assert_allclose(energy, energy[0], rtol=0, atol=1e-10)


def test_energy_changes(potential):
    """Those of evaluations one by one, in meV per atom."""
    (data,) = load_for([potential], [str(SYSTEM)])
    found = energy_changes(potential, data, [2, 0], 3, np.random.default_rng(5))
    assert found["rotation"].shape == (2, 3) and found["flip"].shape == (2, 1)
    random = np.random.default_rng(5)
    for k, frame in enumerate((2, 0)):
        turns = [np.eye(3), *random_rotations(3, random), -np.eye(3)]
        energy = [
            potential.eval(
                data.coord[frame],
                data.box[frame],
                data.atype[frame],
                data.spin[frame] @ turn.T,
            )["energy"][0]
            for turn in turns
        ]
        want = 1e3 * (np.array(energy[1:]) - energy[0]) / 16
        np.testing.assert_allclose(found["rotation"][k], want[:3], atol=1e-9)
        np.testing.assert_allclose(found["flip"][k], want[3:], atol=1e-9)
        assert np.abs(want).min() > 1e-6


def test_what_is_told():
    """Of absolute changes of all systems, each counting as often as it was turned."""
    one = {"rotation": np.array([[1.0, -2.0]]), "flip": np.array([[-4.0]])}
    two = {"rotation": np.array([[0.0, 3.0], [2.0, 0.0]]), "flip": np.zeros((2, 1))}
    told = tell([one, two])
    assert told["mean_rotation"] == pytest.approx(8 / 6)
    assert told["rms_rotation"] == pytest.approx(np.sqrt(18 / 6))
    assert told["max_rotation"] == 3.0
    assert told["mean_flip"] == pytest.approx(4 / 3)
    assert told["max_flip"] == 4.0
