# SPDX-License-Identifier: Apache-2.0
"""Outliers and frames that occur twice."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import LATTICE, frames, with_virtual_atoms, write

from deepspin.data.systems import load_system
from deepspin.spins.virtual import VirtualAtoms
from deepspin.survey.quality import OUTLIER, fingerprints, outliers, twins

NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])


def test_outliers():
    values = np.random.default_rng(0).normal(size=1000)
    values[[10, 20]] = [20.0, -40.0]
    index, score = outliers(values)
    assert index.tolist() == [20, 10]
    assert score[20] == pytest.approx(40, rel=0.1)
    assert np.delete(score, index).max() < OUTLIER
    assert outliers(np.ones(50))[0].size == 0
    assert outliers(np.array([0.0, 0.0, 9.0]))[0].size == 0  # too few to tell


def test_twins_are_found_whatever_the_cell_and_layout(tmp_path):
    arrays, types = frames(6)
    shift = np.random.default_rng(1).integers(-2, 3, (6, 8, 3)) * LATTICE
    moved = arrays | {"coord": arrays["coord"] + shift + 1e-8}
    one = write(tmp_path / "one", arrays, types)
    two = write(tmp_path / "two", *with_virtual_atoms(moved, types), names=None)
    prints = np.concatenate(
        [fingerprints(load_system(str(p), ["Ni", "O"], NIO)) for p in (one, two)]
    )
    assert twins(prints) == [(n, n + 6) for n in range(6)]
    assert twins(prints[:6]) == []


@pytest.mark.parametrize("what", ["coord", "spin"])
def test_a_small_change_makes_no_twin(tmp_path, what):
    """One atom moved by 1e-3 Å, or one spin changed by 1e-3 μ_B."""
    arrays, types = frames(4)
    changed = {name: a.copy() for name, a in arrays.items()}
    changed[what][:, 2, 1] += 1e-3
    paths = [write(tmp_path / n, a, types) for n, a in (("a", arrays), ("b", changed))]
    prints = [fingerprints(load_system(str(p), ["Ni", "O"], NIO)) for p in paths]
    assert twins(np.concatenate(prints)) == []


def test_twins_of_twins():
    prints = np.array([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])
    assert twins(prints) == [(0, 2), (0, 4)]
