# SPDX-License-Identifier: Apache-2.0
"""A few frames of many, from the command line."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import frames, write

import deepspin
from deepspin.main import main
from deepspin.modelfiles.archive import save_model


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """Two model files that differ in their weights."""
    folder = tmp_path_factory.mktemp("models")
    files = [str(folder / f"{seed}.keras") for seed in (1, 5)]
    for seed, file in zip((1, 5), files, strict=True):
        save_model(make_model(seed=seed, neuron=(2, 4), axis_neuron=2), file)
    return files


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Ten frames, of which two are not like the others."""
    monkeypatch.chdir(tmp_path)
    arrays, types = frames(10, step=0.001)
    arrays["spin"][[3, 6]] *= [[[-1]], [[1.1]]]
    write("data", arrays, types)
    return arrays


def test_by_distance(data, capsys):
    assert main(["select", "data", "-n", "3", "-o", "few"]) == 0
    said = capsys.readouterr().err
    assert "chose 3 of 10 frames; all others are within 0." in said
    for name, whole in data.items():
        kept = np.load(f"few/set.000/{name}.npy")
        assert len(kept) == 3
        rows = whole.reshape(10, -1)
        kept = kept.reshape(3, -1)
        where = [int(np.abs(rows - row).sum(axis=1).argmin()) for row in kept]
        assert name in ("box", "energy") or {3, 6} <= set(where)
        assert np.array_equal(kept, rows[where])
    assert main(["select", "few", "-n", "2", "--by", "distance", "-o", "f.hdf5"]) == 0


def test_with_models(data, models, capsys, monkeypatch):
    potentials = {file: deepspin.DeepSpin(file) for file in models}
    monkeypatch.setattr(
        "deepspin.infer.deep_spin.DeepSpin", lambda file: potentials[str(file)]
    )
    given = ["select", "data", "-n", "2"]
    one = [*given, "--by", "fingerprint", "-m", models[0], "-o", "one"]
    assert main(one) == 0
    assert {len(np.load(f"one/set.000/{n}.npy")) for n in ("coord", "spin")} == {2}
    assert main([*given, "--by", "deviation", "-m", *models, "-o", "two"]) == 0
    assert "all others deviate by at most" in capsys.readouterr().err
    types = np.loadtxt("data/type.raw", dtype=int)
    box = data["box"].reshape(-1, 3, 3)
    said = [
        p.eval(data["coord"], box, types, data["spin"]) for p in potentials.values()
    ]
    largest = []
    for name in ("force", "force_mag"):
        spread = np.std([s[name] for s in said], axis=0)
        most = np.linalg.norm(spread, axis=-1).max(axis=1)
        largest.append(most / most.mean())
    expected = np.sort(np.argsort(-np.max(largest, axis=0))[:2])
    assert np.array_equal(
        np.load("two/set.000/coord.npy"), data["coord"].reshape(10, -1)[expected]
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-n", "0"], "--number must be 1 or more. Received: 0"),
        (["-n", "11"], "11 frames are to be chosen, and there are 10"),
        (["-n", "2", "-m", "a"], "--by distance takes no models (-m). Received: 1"),
        (["-n", "2", "--by", "fingerprint"], "--by fingerprint takes one models"),
        (
            ["-n", "2", "--by", "fingerprint", "-m", "a", "--use-spin", "Ni"],
            "Models say how to read the data. Leave out --use-spin.",
        ),
    ],
)
def test_what_is_refused(data, capsys, options, says):
    assert main(["select", "data", "-o", "few", *options]) == 1
    assert says in capsys.readouterr().err
