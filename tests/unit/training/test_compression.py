# SPDX-License-Identifier: Apache-2.0
"""Models compressed for their data: which distances, frames and tolerance."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepspin.training import compression
from deepspin.training.compression import compress_for_data, tell

NEAREST = {"Ni": {"Ni": 2.9, "O": 2.0}, "O": {"O": 2.8}}
OPTIONS = {"step": None, "extrapolate": 5.0, "check_frequency": 1}


@pytest.fixture
def asked(monkeypatch):
    """What `deepspin.model.compress.compress` is asked for."""
    calls = []

    def compress(model, nearest, how, batches):
        calls.append((nearest, how, batches))
        tables = SimpleNamespace(leaves=(3, 4), table_bytes=100)
        return SimpleNamespace(descriptor=tables), {"table_error": 1e-11}

    monkeypatch.setattr(compression, "compress", compress)
    return calls


@pytest.mark.parametrize(
    ("precision", "given", "tol"),
    [("float64", None, 1e-9), ("float32", None, 1e-4), ("float32", 0.5, 0.5)],
)
def test_from_metadata(make_model, asked, precision, given, tol):
    """Distances that the training recorded; a tolerance that the type allows."""
    model = make_model("NiO", precision=precision)
    metadata = {"nearest": NEAREST}
    _, report = compress_for_data(model, metadata, None, tol=given, **OPTIONS)
    ((nearest, how, batches),) = asked
    infinite = np.inf
    want = [[2.9, 2.0, infinite], [infinite, 2.8, infinite]]
    np.testing.assert_array_equal(nearest, want)
    assert how.tol == report["tol"] == tol and batches == []
    assert report["nearest"] == NEAREST
    assert (report["pieces"], report["bytes"]) == ([3, 4], 100)


def test_frames_to_measure_on():
    """Evenly over each system, and of each at least one."""
    taken = []

    def frames(k, which):
        taken.append((k, int(which[0])))
        return [taken[-1]]

    systems = [SimpleNamespace(nframes=n) for n in (100, 1)]
    data = SimpleNamespace(systems=systems, frames=frames)
    batches = compression._sample([data])
    assert batches == taken
    own = [frame for k, frame in taken if k == 0]
    assert (own[0], own[-1], len(own)) == (0, 99, 32) and min(np.diff(own)) >= 3
    assert [frame for k, frame in taken if k == 1] == [0]


def test_what_is_told(caplog):
    caplog.set_level(logging.INFO)
    report = {"pieces": [3, 4], "bytes": 2000, "table_error": 1e-11}
    tell(Path("m"), "out", report)
    assert "m: compressed into out, 7 pieces in 2 tables, 2 kB" in caplog.text
    assert "not measured on data, for lack of -t" in caplog.text
    caplog.clear()
    errors = {"max": 2e-10, "rms": 1e-11}
    names = ("energy", "force", "force_mag")
    tell(
        Path("m"),
        "out",
        {**report, "error": dict.fromkeys(names, errors) | {"frames": 5}},
    )
    assert "magnetic forces differ by at most 2.0e-10 of their rms" in caplog.text
    assert "eV per atom, measured on 5 frames" in caplog.text
