# SPDX-License-Identifier: Apache-2.0
"""What atoms have around them: what a training records, and what is unlike it."""

import numpy as np
import pytest
from batches import EXAMPLE

from deepspin import DataSystem
from deepspin.data import environments
from deepspin.data.collate import neighbors_of_frame
from deepspin.data.environments import Environments
from deepspin.spins.virtual import VirtualAtoms

SCHEME = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
RCUT = 5.6
LATTICE = 4.17


@pytest.fixture(scope="module")
def stored():
    data = DataSystem(str(EXAMPLE / "train"), ["Ni", "O"], SCHEME, RCUT)
    return environments.environments(data)


@pytest.fixture(scope="module")
def known(stored):
    return Environments(stored, ["Ni", "O"], RCUT)


def odd(known, coord, box, atype):
    """What is told of a frame; without `box` it is open."""
    spin = np.where(atype == 0, 1.27, 0.0)[:, None] * [0.0, 0.6, 0.8]
    cell = np.zeros((3, 3)) if box is None else box
    found = neighbors_of_frame(
        coord, spin, atype, cell, box is not None, SCHEME, RCUT, None
    )
    return list(known.odd(found, atype))


def crystal(scale=1.0):
    """Perfect NiO of 64 atoms."""
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 3)
    length = LATTICE * scale
    return grid * (length / 2), 2 * length * np.eye(3), grid.sum(axis=1) % 2


def test_by_hand():
    """A dimer and an atom on its own, in the numbers of the definition."""
    atype = np.array([0, 1, 1])
    coord = np.array([[0.0, 0, 0], [2.0, 0, 0], [0, 0, 4.0]])
    known = Environments({}, ["Ni", "O"], RCUT)
    assert odd(known, coord, None, atype) == []  # nothing is known
    weight = [(1 - r**2 / RCUT**2) ** 4 for r in (2.0, 4.0)]
    ends = {"coordination": [0.0, 0.1], "nearest": [1.0, RCUT]}
    known = Environments({"Ni": {"O": ends}}, ["Ni", "O"], RCUT)
    (found,) = odd(known, coord, None, atype)
    assert (found.atom, found.neighbour, found.more, found.number) == (0, 1, True, 1)
    assert found.coordination == pytest.approx((sum(weight), 0.0, 0.1), rel=1e-13)
    assert found.nearest == pytest.approx((2.0, 1.0, RCUT), rel=1e-13)
    ends = {"coordination": [1.0, 2.0], "nearest": [1.0, 1.5]}
    (found,) = odd(
        Environments({"O": {"Ni": ends}}, ["Ni", "O"], RCUT), coord, None, atype
    )
    assert (found.atom, found.more, found.number) == (2, False, 2)  # the worst of two


@pytest.mark.parametrize(
    ("value", "is_odd"), [(0.74, True), (0.76, False), (2.24, False), (2.26, True)]
)
def test_margin(value, is_odd):
    """A quarter of the width on either side."""
    r = RCUT * np.sqrt(1 - (value / 4) ** 0.25)  # of four neighbours
    coord = np.array([[0, 0, 0], [r, 0, 0], [-r, 0, 0], [0, r, 0], [0, -r, 0]])
    ends = {"Ni": {"O": {"coordination": [1.0, 2.0], "nearest": [0.0, RCUT]}}}
    known = Environments(ends, ["Ni", "O"], RCUT)
    assert bool(odd(known, coord, None, np.array([0, 1, 1, 1, 1]))) == is_odd


def test_what_a_training_holds(stored):
    """Of rock salt: as many Ni around Ni as O around O, nearest at half the cell."""
    assert stored["Ni"]["O"]["nearest"][0] == pytest.approx(1.7462, abs=1e-4)
    for a, b in (("Ni", "Ni"), ("Ni", "O"), ("O", "Ni"), ("O", "O")):
        low, high = stored[a][b]["coordination"]
        length = LATTICE * (0.5 if a != b else np.sqrt(0.5))
        near, far = stored[a][b]["nearest"]
        assert 0.0 < low < high < 1.5 * low and near < length and 0.97 * length < far


def test_nothing_is_told_of_validation_data(known, stored):
    for part in ("valid", "train"):
        data = DataSystem(str(EXAMPLE / part), ["Ni", "O"], SCHEME, RCUT)
        frames = 0
        for k, system in enumerate(data.systems):
            for atype, found in zip(system.atype, data.neighbors(k), strict=True):
                assert list(known.odd(found, atype)) == []
                frames += 1
        assert frames >= 60
    assert odd(known, *crystal()) == []


def without(kind):
    coord, box, atype = crystal()
    gone = np.flatnonzero(atype == kind)[0]
    return np.delete(coord, gone, 0), box, np.delete(atype, gone)


def slab():
    coord, box, atype = crystal()
    return coord, box + np.diag([0, 0, 15.0]), atype


def single(kind):
    return np.zeros((1, 3)), None, np.array([kind])


def dense(change):
    return crystal((1.0 + change) ** (-1 / 3))


@pytest.mark.parametrize(
    ("frame", "more", "number"),
    [
        (without(0), False, 6),
        (without(1), False, 6),
        (slab(), False, 32),
        ((crystal()[0], None, crystal()[2]), False, 56),
        (crystal(1 / 0.529177), False, 64),
        (crystal(1.5), False, 64),
        (crystal(10.0), False, 64),
        (crystal(0.529177), True, 64),
        (single(0), False, 1),
        (single(1), False, 1),
        (dense(0.1), True, 32),
        (dense(-0.1), False, 64),
    ],
    ids="vacancy_Ni vacancy_O slab cluster bohr x1.5 x10 angstrom Ni O +10 -10".split(),
)
def test_unlike_the_training(known, frame, more, number):
    (found,) = odd(known, *frame)
    assert found.more == more
    assert found.number == number  # 6 beside a vacancy, two layers, all but the core
    value, low, high = found.coordination
    assert (value > high) if more else (value < low)


def test_types_that_never_met(stored):
    """A pair that no training held is told of, once it is near."""
    data = {"Ni": stored["Ni"] | {"Fe": {"coordination": [0, 0], "nearest": [5.6] * 2}}}
    scheme = VirtualAtoms.from_options([True, False, False], [0.4], [1.2737])
    known = Environments(data, ["Ni", "O", "Fe"], RCUT)
    coord, box, atype = crystal()
    atype = np.where(np.arange(64) == 1, 2, atype)
    spin = np.where(atype == 0, 1.27, 0.0)[:, None] * [0.0, 0.6, 0.8]
    found = neighbors_of_frame(coord, spin, atype, box, True, scheme, RCUT, None)
    assert known.unseen(atype) == [1, 2]
    assert Environments({}, ["Ni", "O", "Fe"], RCUT).unseen(atype) == []
    (more,) = [x for x in known.odd(found, atype) if x.more]
    assert (more.neighbour, more.nearest) == (2, pytest.approx((LATTICE / 2, 5.6, 5.6)))
