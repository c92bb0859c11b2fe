# SPDX-License-Identifier: Apache-2.0
"""Which frames come when, in batches of which size."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
from batches import (
    load,
    make,
    plans,
    same,
    write,
    write_virtual,
)

from deepspin.data.files import DataError
from deepspin.data.sampling import CHUNK


def test_plan_is_a_function_of_seed_and_step(four):
    steps = [*range(40), CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
    sequential = plans(load(four, batch_size=2, seed=5), steps)
    data = load(four, batch_size=2, seed=5)
    assert plans(data, steps[::-1])[::-1] == sequential  # the last step first
    assert plans(data, steps) == sequential  # and again
    assert plans(load(four, batch_size=2, seed=6), steps) != sequential
    systems = [system for system, _ in sequential]
    assert len(set(systems)) == 4


@pytest.mark.parametrize("batch_size", [1, 2])
def test_each_pass_sees_every_frame_once(four, batch_size):
    data = load(four, batch_size=batch_size, seed=3)
    seen = [[] for _ in four]
    for system, frames in map(data.plan, range(200)):
        assert len(frames) == batch_size
        seen[system] += frames.tolist()
    for frames, system in zip(seen, data.systems, strict=True):
        nf = system.nframes
        passes = [frames[k : k + nf] for k in range(0, len(frames) - nf + 1, nf)]
        assert len(passes) >= 4
        assert all(sorted(own) == list(range(nf)) for own in passes)
        if nf > 2:
            assert len(set(map(tuple, passes))) > 1  # in another order each time


def test_pass_over_chunks_of_steps(folders):
    """The last pass of one chunk of steps goes on in the next."""
    data = load(folders["a"], batch_size=1, seed=3)
    first = CHUNK - CHUNK % 6
    frames = [int(data.plan(step)[1][0]) for step in range(first, first + 6)]
    assert first < CHUNK < first + 6
    assert sorted(frames) == list(range(6))


def test_batch_size_that_does_not_divide(folders):
    """Within a pass no frame comes twice; those left over come in other passes."""
    data = load(folders["a"], batch_size=4, seed=0)
    assert data.nbatches == [1]
    batches = [data.plan(step)[1].tolist() for step in range(20)]
    assert all(len(set(frames)) == 4 for frames in batches)
    assert set().union(*batches) == set(range(6))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auto_prob": "prob_uniform"}, [1, 1, 1, 1]),
        ({"auto_prob": "prob_sys_size"}, [6, 4, 8, 2]),
        ({"auto_prob": "prob_sys_size", "batch_size": 2}, [3, 2, 4, 1]),
        ({}, [6, 4, 8, 2]),
        ({"auto_prob": "prob_sys_size;0:1:0.3;1:4:0.7"}, [0.3, 0.2, 0.4, 0.1]),
        ({"auto_prob": "prob_sys_size;0:2:3;2:3:7"}, [1.8, 1.2, 7, 0]),
        ({"sys_probs": [0.1, 0.2, 0.3, 0.4]}, [1, 2, 3, 4]),
        ({"sys_probs": [0, 0.5, 0, 0.5], "auto_prob": "no use"}, [0, 1, 0, 1]),
    ],
)
def test_probabilities(four, options, expected):
    data = load(four, **({"batch_size": 1} | options))
    expected = np.array(expected) / np.sum(expected)
    np.testing.assert_allclose(data.probabilities, expected)
    steps = 6000
    drawn = Counter(data.plan(step)[0] for step in range(steps))
    counts = np.array([drawn[k] for k in range(4)])
    error = np.sqrt(steps * expected * (1 - expected))
    assert (np.abs(counts - steps * expected) <= 4 * error).all()


def test_probabilities_of_two_systems(folders):
    systems = [folders["a"], folders["b"]]
    data = load(systems, auto_prob="prob_sys_size;0:1:0.3;1:2:0.7")
    np.testing.assert_allclose(data.probabilities, [0.3, 0.7])


def test_negative_probabilities_share_the_rest(four):
    """As documented, and as in DeePMD-kit: by their numbers of batches."""
    data = load(four, batch_size=1, sys_probs=[0.4, -1, 0, -1])
    np.testing.assert_allclose(data.probabilities, [0.4, 0.4, 0, 0.2])
    data = load(four, batch_size=1, sys_probs=[-1, -1, -1, -1])
    np.testing.assert_allclose(data.probabilities, [0.3, 0.2, 0.4, 0.1])


def test_auto_batch_sizes(four, folders):
    # 4, 7, 2, 8 atoms; 6, 4, 8, 2 frames
    assert load(four, batch_size="auto").batch_sizes == [6, 4, 8, 2]
    assert load(four, batch_size="auto:8").batch_sizes == [2, 2, 4, 1]
    assert load(four, batch_size="auto:9").batch_sizes == [3, 2, 5, 2]
    assert load(four, batch_size="auto:1").batch_sizes == [1, 1, 1, 1]
    assert load(four).batch_sizes == load(four, batch_size="auto").batch_sizes
    # the largest frame counts
    assert load(folders["mixed"], batch_size="auto:12").batch_sizes == [2]


def test_auto_counts_virtual_atoms_of_the_file(tmp_path):
    """As in DeePMD-kit: 4 atoms and 2 virtual atoms."""
    data = make(np.array([1, 0, 1, 0]), 40)
    paths = [write(tmp_path / "a", data), write_virtual(tmp_path / "b", data)]
    assert load(paths, batch_size="auto").batch_sizes == [8, 6]


def test_given_batch_sizes(four):
    assert load(four, batch_size=2).batch_sizes == [2, 2, 2, 2]
    assert load(four, batch_size=[3, 4, 1, 2]).batch_sizes == [3, 4, 1, 2]
    assert load(four, batch_size=(3, 4, 1, 2)).nbatches == [2, 1, 8, 1]


def test_batch_larger_than_the_frames(four, caplog):
    with caplog.at_level(logging.WARNING):
        data = load(four, batch_size=[2, 9, 2, 2])
    assert data.batch_sizes == [2, 4, 2, 2]
    assert data.nbatches == [3, 1, 4, 1]
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 1
    assert "has 4 frames, fewer than the batch size 9" in messages[0]
    assert four[1] in messages[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load(four, batch_size="auto")
    assert not caplog.records


def test_sample(four):
    data = load(four, batch_size=2, seed=4)
    batches = list(data.sample(2))
    assert len(batches) == 8
    for system, own in enumerate(data.systems):
        mine = batches[2 * system : 2 * system + 2]
        energies = np.concatenate([labels["energy"] for _, labels in mine])
        assert np.isin(energies, own.labels["energy"]).all()
        # the first pass of the plan; a system of one batch comes twice
        drawn = (data.plan(step) for step in range(500))
        first = [frames for k, frames in drawn if k == system][:2]
        np.testing.assert_array_equal(
            energies, own.labels["energy"][np.concatenate(first)]
        )
        if data.nbatches[system] >= 2:
            assert len(set(energies)) == 4
    for one, two in zip(
        batches, load(four, batch_size=2, seed=4).sample(2), strict=True
    ):
        same(one, two)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        ("4", "`batch_size` must be an integer, a list, 'auto' or 'auto:N'.*'4'"),
        ("auto:many", "`batch_size` must be.*'auto:many'"),
        ("auto:-1", "`batch_size` must be.*'auto:-1'"),
        ("mixed:3", "`batch_size` must be.*'mixed:3'"),
        ([2, 2], r"2 entries, but `systems` has 4: .*/a', .*/c', \.\.\.\."),
        (0, "batch_size"),
        (-1, "batch_size"),
        ("auto:0", "batch_size"),
        ([1, 0, 1, 1], "batch_size"),
    ],
)
def test_bad_batch_size(four, batch_size, message):
    with pytest.raises(DataError, match=message):
        load(four, batch_size=batch_size)


@pytest.mark.parametrize(
    ("auto_prob", "message"),
    [
        ("uniform", "`auto_prob` must be 'prob_uniform', 'prob_sys_size'.*'uniform'"),
        ("prob_uniform;0:1:1", "`auto_prob` must be"),
        ("prob_sys_size;0:1", "blocks are BEGIN:END:WEIGHT.*'0:1' of"),
        ("prob_sys_size;0:1:x", "blocks are BEGIN:END:WEIGHT.*'0:1:x' of"),
        ("prob_sys_size;a:1:1", "blocks are BEGIN:END:WEIGHT"),
        ("prob_sys_size;", "blocks are BEGIN:END:WEIGHT"),
        ("prob_sys_size;0:2:-1;2:4:2", "not negative"),
        ("prob_sys_size;0:4:0", "not all 0"),
        ("prob_sys_size;0:4:nan", "must be finite"),
        ("prob_sys_size;0:2:0.3;5:9:0.7", "last one is 3.*5:9:0.7"),  # no such systems
        ("prob_sys_size;0:3:.5;2:4:.5", "'0:3:.5' and '2:4:.5' both hold system 2"),
        ("prob_sys_size;0:1:.5;0:4:.5", "both hold system 0"),
    ],
)
def test_bad_auto_prob(four, auto_prob, message):
    with pytest.raises(DataError, match=message):
        load(four, auto_prob=auto_prob)


@pytest.mark.parametrize(
    ("sys_probs", "message"),
    [
        ([0.5, 0.5], "`sys_probs` has 2 entries, but .systems. has 4"),
        ([0, 0, 0, 0], "not all 0"),
        ([1, 1, np.nan, 1], "must be finite"),
        ([1, 1, np.inf, 1], "must be finite"),
    ],
)
def test_bad_sys_probs(four, sys_probs, message):
    with pytest.raises(DataError, match=message):
        load(four, sys_probs=sys_probs)
