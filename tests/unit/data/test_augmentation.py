# SPDX-License-Identifier: Apache-2.0
"""Frames turned and reversed at random: what changes, what does not, and when."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from batches import load

from deepspin.data.augmentation import random_turns

BOTH = ("spin_rotation", "time_reversal")


def test_turns():
    """Rotations, reversals, or both; as many numbers are drawn for each."""
    turns = {
        kinds: random_turns(kinds, 500, np.random.default_rng(3))
        for kinds in (BOTH, BOTH[:1], BOTH[1:], ())
    }
    for matrices in turns.values():
        unit = matrices @ np.transpose(matrices, (0, 2, 1))
        np.testing.assert_allclose(
            unit, np.broadcast_to(np.eye(3), unit.shape), 0, 1e-13
        )
    signs = np.linalg.det(turns[BOTH])
    assert 200 < np.count_nonzero(signs < 0) < 300
    np.testing.assert_allclose(np.linalg.det(turns[BOTH[:1]]), 1.0, rtol=1e-13)
    one, other = turns[BOTH[:1]], turns[BOTH[1:]]
    np.testing.assert_allclose(one @ other, turns[BOTH], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(turns[()], np.broadcast_to(np.eye(3), (500, 3, 3)))


@pytest.mark.parametrize("kinds", [BOTH, BOTH[:1], BOTH[1:]])
def test_batches(four, kinds):
    """Spins and magnetic forces turn together, frame by frame, and nothing else."""
    plain = load(four, batch_size=2, seed=5)
    data = load(four, batch_size=2, seed=5, augmentation=kinds)
    for step in range(6):
        (inputs, labels), (turned, new) = plain.batch(step), data.batch(step)
        for name in ("coord", "box"):
            np.testing.assert_array_equal(turned[name], inputs[name])
        for name in ("energy", "force", "virial"):
            np.testing.assert_array_equal(new[name], labels[name])
        for f in range(2):
            spin = np.concatenate([inputs["spin"][f], labels["force_mag"][f]])
            after = np.concatenate([turned["spin"][f], new["force_mag"][f]])
            matrix = np.linalg.lstsq(spin, after, rcond=None)[0]
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), 0, 1e-10)
            np.testing.assert_allclose(spin @ matrix, after, 0, 1e-12)
            assert not np.allclose(matrix, np.eye(3)) or kinds == BOTH[1:]


def test_lists_follow_the_virtual_atoms(four, model):
    """A batch has what lists of its own frames would have: the same energies."""
    data = load(four, batch_size=2, seed=5, augmentation=BOTH)
    for step in range(4):
        inputs, _ = data.batch(step)
        system, frames = data.plan(step)
        own = data.systems[system]
        points = {}
        for f, frame in enumerate(frames):
            atoms = own.atype[frame] >= 0
            there = np.concatenate([np.asarray(m)[f] for m in inputs["mask"]])
            points[f] = inputs["coord"][f][there], inputs["spin"][f][there]
            types = np.repeat(
                np.arange(len(inputs["mask"])), [m.shape[1] for m in inputs["mask"]]
            )[there]
            assert np.array_equal(np.sort(types), np.sort(own.atype[frame][atoms]))
            energy = evaluated(model, own, frame, *points[f], types)
            found = model(inputs)["energy"].numpy()[f]
            np.testing.assert_allclose(found, energy, rtol=1e-12)


def evaluated(model, system, frame, coord, spin, types):
    """Energy of a frame whose spins are given, by lists made for it."""
    import deepspin

    box = system.box[frame] if system.pbc else None
    return deepspin.DeepSpin(model).eval(coord, box, types, spin)["energy"][0]


def test_batches_are_a_function_of_seed_and_step(four):
    """Any start, and the data set, give the same; another seed gives others."""
    one, two = (load(four, batch_size=2, seed=5, augmentation=BOTH) for _ in range(2))
    later = list(one.dataset(3, 2).as_numpy_iterator())
    for k in range(2):
        tf.nest.map_structure(np.testing.assert_array_equal, later[k], two.batch(3 + k))
    other = load(four, batch_size=2, seed=6, augmentation=BOTH)
    assert not np.array_equal(other.batch(0)[0]["spin"], one.batch(0)[0]["spin"])


def test_frames_are_as_they_are(four):
    """What statistics and validation see is not turned."""
    plain = load(four, batch_size=2, seed=5)
    data = load(four, batch_size=2, seed=5, augmentation=BOTH)
    one, two = plain.frames(0, np.arange(2)), data.frames(0, np.arange(2))
    np.testing.assert_array_equal(one[0]["spin"], two[0]["spin"])
    np.testing.assert_array_equal(one[1]["force_mag"], two[1]["force_mag"])


def test_neighbours_beyond_sel_are_told_of(four, caplog):
    """Turned spins may have more neighbours than the frames of the data."""
    data = load(four, batch_size=2, seed=5, sel=(3, 3, 3), augmentation=BOTH)
    data.batch(0)
    data.batch(1)
    assert caplog.text.count("turned spins have more neighbours than `sel` holds") == 1


def test_what_there_is_not(four):
    with pytest.raises(ValueError, match="`augmentation` can be of"):
        load(four, augmentation=["rotation"])
