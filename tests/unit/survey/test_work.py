# SPDX-License-Identifier: Apache-2.0
"""Signs and factors between energies and forces, and when they cannot be told."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from places import ROOT

from deepspin.data.frames import System
from deepspin.data.memory import from_arrays
from deepspin.data.systems import load_system
from deepspin.spins.schemes import build_scheme
from deepspin.survey.work import _pairs, work

EXAMPLE = runpy.run_path(str(ROOT / "examples/NiO/generate.py"))


def system_of(arrays) -> System:
    """A system of Ni and O, in memory."""
    spin = build_scheme({"type": "invariant", "use_spin": [True, False]})
    (held,) = from_arrays({"type_map": ["Ni", "O"], **arrays})
    return load_system(held, ["Ni", "O"], spin, allow_zero_spin=True)


def frames(nframes=20, turn=0.05, stretch=0.02, move=0.01, seed=0):
    """Frames of the example's exact Hamiltonian, near each other."""
    rng = np.random.default_rng(seed)
    ideal, box, atype = EXAMPLE["rock_salt"](16)
    base = EXAMPLE["random_spins"](rng, ideal, atype, EXAMPLE["ORDERS"][0])
    rows = []
    for _ in range(nframes):
        spin = base + turn * rng.normal(size=base.shape) * (base != 0)
        length = np.linalg.norm(base, axis=1) * (1 + stretch * rng.normal(size=16))
        norm = np.linalg.norm(spin, axis=1)
        spin *= np.where(norm > 0, length / np.where(norm > 0, norm, 1.0), 0)[:, None]
        coord = ideal + move * rng.normal(size=ideal.shape)
        labels = EXAMPLE["evaluate"](coord, box, atype, spin)
        rows.append({"coord": coord, "box": box, "spin": spin, **labels})
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {"atype": atype, **arrays}


def parts_of(spin, force_mag):
    """Magnetic forces along and across the spins."""
    norm = np.linalg.norm(spin, axis=-1, keepdims=True)
    unit = spin / np.where(norm > 0, norm, 1.0)
    along = (force_mag * unit).sum(axis=-1, keepdims=True) * unit
    return along, force_mag - along


def test_the_exact_hamiltonian_has_factors_of_1():
    found = work(system_of(frames()))
    assert found["pairs"] == 20 * 19 / 2
    assert found["explained"] > 0.999
    for name in ("force", "force_mag", "across", "along"):
        factor, error = found[name]
        assert abs(factor - 1.0) < 3 * error, name
        assert error < 0.1


@pytest.mark.parametrize(
    ("force", "across", "along"), [(1.0, 2.0, -0.5), (-1.0, 1.25, 1.0), (2.0, -1.0, 4)]
)
def test_factors_and_signs_are_told_apart(force, across, along):
    arrays = frames()
    parts = parts_of(arrays["spin"], arrays["force_mag"])
    arrays["force_mag"] = parts[0] / along + parts[1] / across
    arrays["force"] = arrays["force"] / force
    found = work(system_of(arrays))
    for name, expected in (("force", force), ("across", across), ("along", along)):
        factor, error = found[name]
        assert abs(factor - expected) < 3 * error, name
        assert error < 0.1 * abs(expected)


def test_a_factor_of_the_whole():
    arrays = frames()
    arrays["force_mag"] = arrays["force_mag"] / 2.02
    factor, error = work(system_of(arrays))["force_mag"]
    assert factor == pytest.approx(2.02, abs=3 * error)


def test_what_cannot_be_told():
    """Spins of one length say nothing about forces along them, and so on."""
    found = work(system_of(frames(stretch=0.0)))
    assert found["along"] is None
    assert found["across"][0] == pytest.approx(1.0, abs=0.02)
    found = work(system_of(frames(turn=0.0, move=0.0)))
    assert found["across"] is None and found["force"] is None
    assert found["along"][0] == pytest.approx(1.0, abs=0.02)


def test_frames_that_are_far_from_each_other():
    assert work(system_of(frames(turn=1.0))) is None
    assert work(system_of(frames(move=0.2))) is None
    assert work(system_of(frames(nframes=3))) is None  # three pairs


def test_without_forces_atoms_have_to_stay():
    arrays = frames(move=0.0)
    with_forces = work(system_of(arrays))
    del arrays["force"]
    found = work(system_of(arrays))
    assert found["force"] is None
    assert found["across"] == pytest.approx(with_forces["across"], rel=1e-6)
    arrays = frames()
    del arrays["force"]
    assert work(system_of(arrays)) is None


def test_cells_that_change_are_not_compared():
    arrays = frames()
    arrays["box"] = arrays["box"] * np.linspace(1, 1.01, 20)[:, None, None]
    assert work(system_of(arrays)) is None


def test_images_of_atoms():
    arrays = frames()
    before = work(system_of(arrays))
    arrays["coord"][3, 5] += arrays["box"][0, 0]
    after = work(system_of(arrays))
    assert after["force"] == pytest.approx(before["force"], rel=1e-9)


def test_spins_of_zero():
    """One that is 0 in some frames goes straight, along itself."""
    arrays = frames()
    arrays["spin"][::2, 0] *= 1e-9
    arrays["spin"][::4, 0] = 0.0
    pairs, table = _pairs(system_of(arrays), 1)
    assert len(pairs) == 19
    assert np.isfinite(table).all()
