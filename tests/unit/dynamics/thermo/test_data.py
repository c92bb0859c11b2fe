# SPDX-License-Identifier: Apache-2.0
"""Samples in memory and in HDF5 files."""

import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import damaged, fuzz, outcome
from hypothesis import given
from hypothesis import strategies as st

from deepspin.data.files import DataError
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State
from deepspin.dynamics.thermo.data import FORMAT, SizeRun, load, save
from deepspin.dynamics.thermo.sampling import Outcome


def size_run(nsamples):
    spin = np.array([[[0, 0, 1.0], [0, 0, -2.0], [0, 0, 0]], [[1.0, 0, 0]] * 3])
    spin[:, 2] = 0.0
    state = State(coord=0 * spin, spin=spin, mass=[1.0] * 3, atype=[0, 0, 1])
    run = SizeRun(
        temperature=np.array([100.0, 200.0]),
        signs=np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]),
        lattice=True,
        state=state,
        sampler={"timestep": np.array([1.0, 2.0])},
        done=nsamples + 1,
    )
    for k in range(nsamples):
        response = Response(np.array([k, -k]) + 0.5, state.coord, state.coord)
        run.record(response, Outcome(np.array([0.5, 1.0]), np.array([np.nan])))
    return run


def test_what_is_recorded():
    """Of atoms with spin: their mean moment, and their order in each wave."""
    samples = size_run(2).samples()
    assert (samples.natoms, samples.nspins, samples.dof) == (3, 2, 9)
    np.testing.assert_array_equal(samples.energy, [[0.5, 0.5], [1.5, -0.5]])
    np.testing.assert_allclose(samples.magnetisation[0], [[0, 0, -0.5], [1, 0, 0]])
    np.testing.assert_allclose(samples.order[0, 0], [[0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(samples.order[0, 1], [[1, 0, 0], [0, 0, 0]])


def test_round_trip(tmp_path):
    """Sizes with samples, and without."""
    made_by, runs = {"options": {"seed": 1}}, [size_run(3), size_run(0)]
    save(tmp_path / "a.h5", made_by, runs)
    about, found = load(tmp_path / "a.h5")
    assert about == made_by
    for ours, theirs in zip(found, runs, strict=True):
        assert (ours.done, ours.lattice, ours.nsamples) == (
            theirs.done,
            theirs.lattice,
            theirs.nsamples,
        )
        np.testing.assert_array_equal(ours.sampler["timestep"], [1, 2])
        for name, array in theirs.state.arrays().items():
            np.testing.assert_array_equal(getattr(ours.state, name), array)
        for name, rows in theirs.records.items():
            np.testing.assert_array_equal(ours.records[name], rows)


def test_files_of_no_use(tmp_path):
    with pytest.raises(FileNotFoundError, match="No samples"):
        load(tmp_path / "a.h5")
    save(tmp_path / "a.h5", {}, [size_run(1)])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["about"]
        file["about"] = json.dumps({"format": FORMAT + 1, "made_by": {}})
    with pytest.raises(DataError, match=f"has format {FORMAT + 1}"):
        load(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no samples")
    with pytest.raises(DataError, match="is damaged, or no file of dp-spin thermo"):
        load(tmp_path / "b.h5")


@fuzz(40)
@given(data=st.data())
def test_damaged(data):
    """Runs whose arrays fit together, or one error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        save(path, {"options": {"seed": 1}}, [size_run(2)])
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        found = outcome(lambda: load(path), path)
        for run in found[1] if found else ():
            nrep = run.state.nrep
            assert run.temperature.shape == (nrep,)
            assert run.signs.shape[1:] == (run.state.nloc,)
            assert run.done >= run.nsamples
            for rows in run.records.values():
                assert len(rows) == run.nsamples
            if run.nsamples:
                assert run.samples().energy.shape == (run.nsamples, nrep)
