# SPDX-License-Identifier: Apache-2.0
"""Many systems of one frame: each looked at once, told of once, compiled once."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
from batches import SYSTEMS, load, make, make_model, write

from deepspin import DataSystem, DescrptSeA, EnerSpinLoss
from deepspin.model import statistics
from deepspin.training.report import MOST_ROWS, report

NUMBER = MOST_ROWS + 4
FEW, DRAWS = 8, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Systems of four sizes, in turn."""
    root, kinds = tmp_path_factory.mktemp("many"), list(SYSTEMS.values())
    paths = []
    for k in range(NUMBER):
        types, _, length = kinds[k % len(kinds)]
        arrays = make(np.array(types), 1, length, seed=k)
        paths.append(write(root / f"system-{k:02d}", arrays))
    return load(paths, batch_size=1, seed=7)


@pytest.fixture(scope="module")
def few(data):
    return load([s.path for s in data.systems[:FEW]], batch_size=1, seed=7)


@pytest.fixture
def looks(monkeypatch):
    """Numbers of batches of each look at some."""
    numbers, moments = [], DescrptSeA.moments

    def counted(self, diff, filled, masks, batches):
        numbers.append(len(batches))
        return moments(self, diff, filled, masks, batches)

    monkeypatch.setattr(DescrptSeA, "moments", counted)
    return numbers


def statistics_of(batches):
    model = make_model((60, 60, 60))
    model.compute_stats(batches)
    descriptor, bias = model.descriptor, model.fitting.bias_atom_e
    return [np.asarray(w) for w in (descriptor.davg, descriptor.dstd, bias)]


def test_statistics_are_those_of_each_draw(few, looks, monkeypatch):
    """Bit for bit those of one batch after the other, each as often as it is drawn."""
    found = statistics_of(few.sample(DRAWS))
    assert sum(looks) == FEW
    assert len(looks) <= len(set(few.shapes))
    looks.clear()
    monkeypatch.setattr(statistics, "MOST_SLOTS", 1)
    copies = ((dict(inputs), labels) for inputs, labels in few.sample(DRAWS))
    drawn = statistics_of(copies)
    assert looks == [1] * FEW * DRAWS
    for one, two in zip(found, drawn, strict=True):
        np.testing.assert_array_equal(one, two)
    once = statistics_of(few.sample(1))  # all alike often
    for one, two in zip(found, once, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


def test_statistics_of_the_descriptor_alone(few):
    """By its own method, from separations: the model's."""
    model, batches = make_model((60, 60, 60)), list(few.sample(1))
    seen = [
        (*model.spin.seen(inputs, model.descriptor), inputs["mask"])
        for inputs, _ in batches
    ]
    model.descriptor.compute_stats(seen)
    want = statistics_of(batches)
    np.testing.assert_array_equal(model.descriptor.davg, want[0])
    np.testing.assert_array_equal(model.descriptor.dstd, want[1])


def test_a_batch_counts_as_often_as_it_comes(few):
    """A system drawn thrice weighs thrice, whether it is the same object or not."""
    first, *others = few.sample(1)
    same = statistics_of([first, *others, first, first])
    copies = [(dict(first[0]), first[1]) for _ in range(3)]
    drawn = statistics_of([copies[0], *others, *copies[1:]])
    once = statistics_of([first, *others])
    for one, two, other in zip(same, drawn, once, strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - other).max() > 1e-6


def test_one_warning_for_all(data, caplog):
    with caplog.at_level(logging.WARNING):
        again = load([s.path for s in data.systems], batch_size=2)
    assert again.batch_sizes == [1] * NUMBER
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert f"The same in {NUMBER - 1} more of {NUMBER} systems." in messages[0]
    assert data.systems[0].path in messages[0]


def test_listed_up_to_a_number(data, caplog):
    model = make_model((60, 60, 60))
    model.compile(keras.optimizers.Adam(1e-3), EnerSpinLoss(), jit_compile=False)
    with caplog.at_level(logging.INFO):
        report(model, data, None, 1.0)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("system-" in line for line in lines) == MOST_ROWS
    more = f"{NUMBER - MOST_ROWS} more systems; {NUMBER} frames in all"
    assert sum(more in line for line in lines) == 1


def test_few_frames_of_many_systems(data):
    energies = [s.labels["energy"][0] for s in data.systems]
    some = [labels["energy"][0] for _, labels in data.spread(3)]
    assert some == [energies[k] for k in (0, (NUMBER - 1) // 2, NUMBER - 1)]
    assert [y["energy"][0] for _, y in data.spread(NUMBER)] == energies


def test_a_step_looks_at_its_system_alone(data, monkeypatch):
    """However many there are."""

    def fail(self):
        raise AssertionError

    want = [data.plan(step) for step in range(50)]
    assert len({system for system, _ in want}) > 20
    monkeypatch.setattr(DataSystem, "nbatches", property(fail))
    assert [data.plan(step) for step in range(50)] == want


def test_no_trace_for_each_system(data, monkeypatch):
    """A step is traced once or twice, not again for each system."""
    model, traces = make_model((60, 60, 60)), []
    model.compile(keras.optimizers.Adam(1e-3), EnerSpinLoss(), jit_compile=False)
    step = type(model).train_step

    def counted(self, batch):
        traces.append(1)
        return step(self, batch)

    monkeypatch.setattr(type(model), "train_step", counted)
    systems = {data.plan(k)[0] for k in range(40)}
    model.fit(data.dataset(0), steps_per_epoch=40, verbose=0)
    assert len(systems) > 20
    assert 1 <= len(traces) <= 2
