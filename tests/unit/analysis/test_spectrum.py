# SPDX-License-Identifier: Apache-2.0
"""Spectra of trajectories, and paths of wave vectors."""

from __future__ import annotations

import h5py
import hamiltonians
import numpy as np
import pytest

from deepspin.analysis.paths import path_of
from deepspin.analysis.spectrum import (
    SpinMotion,
    read_spins,
    spectrum,
    waves_along_axes,
)
from deepspin.atoms.units import HBAR
from deepspin.data.files import DataError
from deepspin.dynamics.core.integrators import Integrator
from deepspin.utils.refused import InputError

pytestmark = pytest.mark.any_version

N, A, M, J = 12, 2.5, 1.5, 0.02  # atoms, Å, μ_B, eV
WAVES = 2 * np.pi / (N * A) * np.array([[k, 0, 0] for k in (3, 4, 6)])


@pytest.fixture(scope="module")
def motion():
    """A ferromagnetic ring whose spins have been turned a little."""
    matrix = np.zeros((N, N))
    for k in range(N):
        matrix[k, (k + 1) % N] = matrix[(k + 1) % N, k] = J / M**2
    rng = np.random.default_rng(0)
    spin = np.array([0, 0, 1.0]) + 0.01 * rng.normal(size=(2, N, 3))
    spin *= M / np.linalg.norm(spin, axis=2, keepdims=True)
    state = hamiltonians.spins(spin)
    run = Integrator(hamiltonians.exchange(matrix), 1.0)
    frames = []
    for _ in range(600):
        run.step(state)
        frames.append(state.spin.copy())
    coord = np.zeros((2, N, 3))
    coord[..., 0] = A * np.arange(N)
    return SpinMotion(
        step=1.0, box=np.diag([N * A, 9.0, 9.0]), coord=coord, spin=np.array(frames)
    )


@pytest.mark.parametrize("segments", [1, 3])
def test_peaks_are_spin_waves(motion, segments):
    found = spectrum(motion, WAVES, segments)
    expected = 4 * J / M * (1 - np.cos(WAVES[:, 0] * A))
    step = found.energy[1]
    assert step == pytest.approx(
        2 * np.pi * HBAR / (2 * 600 // (segments + 1)), rel=1e-12
    )
    np.testing.assert_allclose(found.peak, expected, atol=0.3 * step)


def test_strength_is_the_fluctuation(motion):
    """Integrated over energies it is the mean square of the wave."""
    found = spectrum(motion, WAVES)
    phase = np.exp(-1j * np.einsum("qa,ria->qri", WAVES, motion.coord))
    wave = np.einsum("qri,trix->tqrx", phase, motion.spin) / N**0.5
    square = (np.abs(wave - wave.mean(axis=0)) ** 2).sum(axis=3).mean(axis=(0, 2))
    total = found.strength.sum(axis=1) * found.energy[1]
    np.testing.assert_allclose(total, square, rtol=0.25)  # the window sees the middle


def test_waves_that_do_not_fit_and_segments_too_short(motion):
    with pytest.raises(InputError, match=r"does not fit.*nearest"):
        spectrum(motion, 1.5 * WAVES)
    with pytest.raises(InputError, match="Take fewer"):
        spectrum(motion, WAVES, 200)


def trajectory(path, times, spin=None, box=None):
    box = 3 * np.eye(3) if box is None else box
    n = len(times)
    with h5py.File(path, "w") as file:
        file["type_map"] = np.array(["Ni", "O"], dtype="S")
        file["atype"] = [0, 1]
        file["step"], file["time"] = np.arange(n), times
        file["coord"] = np.zeros((n, 1, 2, 3))
        spins = np.zeros((n, 1, 2, 3))
        spins[:, :, 0, 2] = 1.0 if spin is None else spin
        file["spin"] = spins
        file["box"] = box
    return path


def test_trajectories_are_read(tmp_path):
    path = trajectory(tmp_path / "a.h5", 2.0 * np.arange(40))
    found = read_spins(path)
    assert (found.step, found.spin.shape) == (pytest.approx(2.0), (40, 1, 1, 3))
    assert len(read_spins(path, skip=0.02).spin) == 30
    for times, options, message in (
        (np.arange(5.0), {}, "5 frames"),
        (np.arange(40.0) ** 1.1, {}, "even steps"),
        (np.arange(40.0), {"spin": 0.0}, "no spins"),
    ):
        with pytest.raises(DataError, match=message):
            read_spins(trajectory(tmp_path / "b.h5", times, **options))
    with pytest.raises(FileNotFoundError, match="no file"):
        read_spins(tmp_path / "c.h5")


def test_waves_along_axes():
    found = waves_along_axes((4, 2, 1))
    expected = [[0.25, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]
    np.testing.assert_allclose(found, expected)


# --- Paths ----------------------------------------------------------------------------


def test_path_of_corners():
    cell = np.diag([2.0, 4.0, 5.0])
    path = path_of(cell, ["0,0,0", "0.5,0,0", "0.5,0.5,0"], 30)
    corner = np.pi / 2, np.pi / 4
    np.testing.assert_allclose(path.q[0], 0)
    np.testing.assert_allclose(path.q[-1], [*corner, 0], atol=1e-12)
    assert [name for _, name in path.ticks] == ["0,0,0", "0.5,0,0", "0.5,0.5,0"]
    np.testing.assert_allclose(
        [where for where, _ in path.ticks], np.cumsum([0, *corner]), rtol=1e-12
    )
    steps = np.linalg.norm(np.diff(path.q, axis=0), axis=1)
    np.testing.assert_allclose(steps, np.diff(path.place), atol=1e-12)
    inside = path.within(cell)
    np.testing.assert_allclose(inside[-1], [0.5, 0.5, 0], atol=1e-12)


def test_path_of_a_lattice():
    pytest.importorskip("ase", reason="special points are ASE's")
    fcc = 2.085 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]])
    path = path_of(fcc, None, 100)
    names = "".join(name for _, name in path.ticks)
    assert names.startswith("ΓXWKΓL")
    short = path_of(fcc, ["GL"], 10)
    np.testing.assert_allclose(short.within(fcc)[-1], [0.5] * 3, atol=1e-12)
    with pytest.raises(InputError, match="special points are"):
        path_of(fcc, ["GQ"], 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["0,0", "1,1,1"], "three numbers"),
        (["0,0,0"], "two corners"),
        (["0,0,0", "0,0,0"], "nowhere"),
    ],
)
def test_paths_that_are_none(given, message):
    with pytest.raises(InputError, match=message):
        path_of(np.eye(3), given, 10)


def test_a_molecule_has_no_path():
    with pytest.raises(InputError, match="not periodic"):
        path_of(None, None, 10)
