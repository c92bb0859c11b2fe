# SPDX-License-Identifier: Apache-2.0
"""Frames that stand for many: where they are known, and of any kind of system."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import LATTICE, frames, write

from deepspin.data.systems import load_system
from deepspin.infer import diversity
from deepspin.infer.deviation import FORCE, FORCE_MAG, Deviations
from deepspin.infer.diversity import Chosen, farthest
from deepspin.spins.schemes import build_scheme

SCHEME = build_scheme({"type": "invariant", "use_spin": [True, False]})


def load(path):
    return load_system(str(path), ["Ni", "O"], SCHEME, allow_zero_spin=True)


def clusters(path, step=0.001, kind="spin"):
    """Twelve frames of three kinds, that are all alike but for a small step."""
    arrays, types = frames(12, step=step)
    for k in range(12):
        if kind == "spin":
            turn = np.roll(np.eye(3), k % 3, axis=1)
            arrays["spin"][k] = arrays["spin"][k] @ turn
        else:
            arrays["coord"][k, 0, k % 3] += 0.3
    return load(write(path, arrays, types))


def test_the_farthest_comes_next():
    points = np.array([[0.0], [1.0], [10.0], [4.0], [5.0]])
    found = farthest(points, np.zeros(5, dtype=int), 4)
    # 4 is the mean; then 10; of 0, which is 4 away, and 1 the former
    assert found.order.tolist() == [3, 2, 0, 1]
    assert found.radius == 1.0
    assert farthest(points, np.zeros(5, dtype=int), 5).radius == 0.0
    assert farthest(points, np.zeros(5, dtype=int), 1).order.tolist() == [3]


def test_every_group_has_one_first():
    points = np.array([[0.0], [100.0], [1.0], [0.0], [0.1], [0.2]])
    found = farthest(points, np.array([0, 0, 0, 1, 1, 2]), 4)
    assert set(found.order[:3].tolist()) & {3, 4} and 5 in found.order[:3]
    assert 1 in found.order[:4]
    assert np.isinf(farthest(points, np.array([0, 0, 0, 1, 1, 2]), 2).radius)


@pytest.mark.parametrize("kind", ["spin", "coord"])
def test_a_frame_of_each_kind(tmp_path, kind):
    data = clusters(tmp_path / "s", kind=kind)
    found = diversity.by_distance([data], 3)
    assert sorted(found.order % 3) == [0, 1, 2]
    more = diversity.by_distance([data], 4)
    assert more.radius <= found.radius < 0.5


def test_lattice_vectors_and_drift_do_not_matter(tmp_path):
    arrays, types = frames(6, step=0.01)
    before = diversity.by_distance([load(write(tmp_path / "a", arrays, types))], 3)
    shift = np.random.default_rng(0).integers(-2, 3, (6, 8, 3)) * LATTICE
    moved = arrays | {"coord": arrays["coord"] + shift + 0.2}
    after = diversity.by_distance([load(write(tmp_path / "b", moved, types))], 3)
    assert before.order.tolist() == after.order.tolist()
    assert before.radius == pytest.approx(after.radius, rel=1e-9)


def test_systems_of_other_atoms(tmp_path):
    one = clusters(tmp_path / "one")
    arrays, types = frames(4, step=0.001)
    keep = [0, 1, 4, 5]
    small = {n: a[:, keep] if a.ndim == 3 else a for n, a in arrays.items()}
    two = load(write(tmp_path / "two", small, types[keep]))
    found = diversity.by_distance([one, two], 4)
    chosen = diversity.frames_of([one, two], found)
    assert len(chosen[two.path]) == 1
    assert sorted(chosen[one.path] % 3) == [0, 1, 2]


class Sees:
    """A model whose descriptors are the spins, told from the positions by far."""

    type_map = ("Ni", "O")

    def descriptor(self, coords, cells, atom_types, spins, fparam=None):
        return np.concatenate([1e3 + 0 * coords, spins], axis=-1)


def test_fingerprints(tmp_path):
    data = clusters(tmp_path / "s")
    found = diversity.by_fingerprint([data], Sees(), 3)
    assert sorted(found.order % 3) == [0, 1, 2]
    assert found.radius < 0.5


def test_deviations(tmp_path, monkeypatch):
    data = clusters(tmp_path / "s")
    table = np.zeros((12, 11))
    table[:, FORCE] = 1.0
    table[[2, 7], FORCE] = 3.0, 4.0
    table[:, FORCE_MAG] = 0.01
    table[5, FORCE_MAG] = 0.05
    found = Deviations("s", table, table, table)
    monkeypatch.setattr(diversity, "deviations", lambda *_: found)
    chosen = diversity.by_deviation([data], [], 3)
    assert chosen.order.tolist() == [5, 7, 2]
    mean = table[:, FORCE_MAG].mean()
    assert chosen.radius == pytest.approx(0.01 / mean)


def test_frames_of_systems():
    class Data:
        def __init__(self, path, nframes):
            self.path, self.nframes = path, nframes

    systems = [Data("a", 3), Data("b", 2), Data("c", 4)]
    chosen = diversity.frames_of(systems, Chosen(np.array([8, 0, 2, 5]), 0.0))
    assert {path: own.tolist() for path, own in chosen.items()} == {
        "a": [0, 2],
        "c": [0, 3],
    }
