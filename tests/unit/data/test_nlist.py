# SPDX-License-Identifier: Apache-2.0
"""The list equals brute force and ASE; truncation is DeePMD-kit's; hand counts."""

import re
from itertools import product

import numpy as np
import pytest
from ase.geometry import complete_cell
from ase.neighborlist import primitive_neighbor_list

from deepspin.data.nlist import build, pad

SKEWED = np.array([[5.0, 0, 0], [4.6, 3.1, 0], [-4.4, 2.8, 3.9]])
OPEN = np.zeros((3, 3))
# name: box, periodic directions, points, cutoff
CASES = {
    "orthorhombic": (np.diag([7.0, 9.5, 12.0]), (1, 1, 1), 14, 4.3),
    "very skewed": (SKEWED, (1, 1, 1), 6, 4.0),
    "left-handed": (SKEWED[[1, 0, 2]] + np.diag([0.3, 0, 0]), (1, 1, 1), 6, 4.0),
    "smaller than the cutoff": (2.1 * np.eye(3), (1, 1, 1), 1, 5.6),
    "small and skewed": (SKEWED / 2, (1, 1, 1), 3, 5.6),
    "slab": (np.diag([3.0, 4.0, 2.0]), (1, 1, 0), 12, 4.3),
    "skewed slab": (SKEWED, (1, 0, 1), 12, 4.3),
    "slab without a third vector": (np.diag([3.0, 4.0, 0.0]), (1, 1, 0), 8, 4.3),
    "wire": (np.diag([2.0, 2.5, 2.0]), (0, 1, 0), 9, 4.3),
    "skewed wire": (SKEWED, (0, 0, 1), 9, 4.3),
    "open": (OPEN, (0, 0, 0), 20, 2.5),
    "open with a box": (np.diag([2.0, 2.0, 2.0]), (0, 0, 0), 20, 2.5),
    "single atom": (OPEN, (0, 0, 0), 1, 4.0),
    "single atom in a large cell": (9.0 * np.eye(3), (1, 1, 1), 1, 4.0),
}


def make(name, seed=0):
    """Points of a case of CASES; some unwrapped by several cells."""
    box, pbc, npoints, rcut = CASES[name]
    pbc = np.array(pbc, dtype=bool)
    rng = np.random.default_rng(seed)
    frame = np.where(pbc[:, None], box, 6.0 * np.eye(3))
    points = rng.random((npoints, 3)) @ frame
    turns = rng.integers(-4, 5, size=(npoints, 3)) * pbc
    return points, points + turns @ box, box, pbc, rcut


def pairs_of(neighbors):
    """Pairs (centre, neighbour, shift), a list sorted."""
    centre, _, _ = neighbors.slot
    rows = np.column_stack([centre, neighbors.index, neighbors.shift])
    return sorted(map(tuple, rows.tolist()))


def brute_force(points, box, pbc, rcut):
    """Pairs (i, j, shift) with all images in reach, and their distances."""
    cell = np.where(pbc[:, None], box, 0.0)
    inverse = np.linalg.pinv(cell)
    fraction = points @ inverse
    reach = np.ceil(rcut * np.linalg.norm(inverse, axis=0) + np.ptp(fraction, axis=0))
    ranges = [range(-n, n + 1) for n in (reach * pbc).astype(int)]
    shifts = np.array(list(product(*ranges)))
    found = {}
    for i, here in enumerate(points):
        for j, there in enumerate(points):
            r = np.linalg.norm(there + shifts @ cell - here, axis=1)
            for k in np.flatnonzero(r < rcut):
                if i != j or shifts[k].any():
                    found[(i, j, *shifts[k].tolist())] = r[k]
    return found


def list_all(points, box, pbc, rcut, **options):
    types = np.zeros(len(points), dtype=int)
    return build(points, types, len(points), box, pbc, rcut, 1, **options)


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "unwrapped"])
@pytest.mark.parametrize("name", CASES)
def test_brute_force(name, wrapped):
    inside, outside, box, pbc, rcut = make(name)
    points = inside if wrapped else outside
    neighbors = list_all(points, box, pbc, rcut)
    expected = brute_force(points, box, pbc, rcut)
    assert pairs_of(neighbors) == sorted(expected)
    if "single atom" in name:
        assert not expected and neighbors.nearest == np.inf
    else:
        assert len(expected) > 8
        np.testing.assert_allclose(neighbors.nearest, min(expected.values()))


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "unwrapped"])
@pytest.mark.parametrize("name", CASES)
def test_ase(name, wrapped):
    inside, outside, box, pbc, rcut = make(name, seed=1)
    points = inside if wrapped else outside
    cell = complete_cell(np.where(pbc[:, None], box, 0.0))
    i, j, shift = primitive_neighbor_list("ijS", pbc, cell, points, rcut)
    expected = sorted(map(tuple, np.column_stack([i, j, shift]).tolist()))
    assert pairs_of(list_all(points, box, pbc, rcut)) == expected


def test_many_images():
    """One atom whose neighbours are all images of itself, up to three cells away."""
    neighbors = list_all(np.zeros((1, 3)), 2.1 * np.eye(3), True, 5.6)
    shifts = np.array(list(product(range(-3, 4), repeat=3)))
    inside = np.linalg.norm(2.1 * shifts, axis=1) < 5.6
    assert neighbors.count.item() == inside.sum() - 1
    assert neighbors.nearest == pytest.approx(2.1)


def test_all_or_none_periodic_as_bool():
    points, _, box, _, rcut = make("orthorhombic")
    for pbc in (True, False):
        one, three = (list_all(points, box, p, rcut) for p in (pbc, [pbc] * 3))
        assert pairs_of(one) == pairs_of(three)


@pytest.mark.parametrize("axis", range(3))
def test_open_direction_ignores_its_lattice_vector(axis):
    points, _, _, _, rcut = make("orthorhombic")
    pbc = np.arange(3) != axis
    box = np.diag([7.0, 9.5, 12.0])
    other = box.copy()
    other[axis] = [3.0, -2.0, 1.0]
    first, second = (list_all(points, b, pbc, rcut) for b in (box, other))
    assert pairs_of(first) == pairs_of(second)
    assert not first.shift[:, axis].any()


# one atom far from the rest, along an open direction
@pytest.mark.parametrize("distance", [3e3, 1e5, 5e6])
@pytest.mark.parametrize(
    ("box", "pbc"),
    [(OPEN, (0, 0, 0)), (np.diag([2.5, 2.5, 0]), (1, 1, 0)), (SKEWED / 2, (1, 1, 0))],
    ids=["cluster", "slab", "skewed slab"],
)
def test_very_sparse(box, pbc, distance):
    rng = np.random.default_rng(0)
    near = 2.0 * rng.random((6, 3))
    # within the cutoff of each other, 0.5 and 1 Å apart
    far = np.array([[0, 0, distance], [0, 0.5, distance], [1.0, 0, distance]])
    points = np.concatenate([near[:3], far, near[3:]])
    # from one place to the other no pair, within each the pairs of its own
    here, there = [0, 1, 2, 6, 7, 8], [3, 4, 5]
    expected = [
        (names[i], names[j], *shift)
        for names in (here, there)
        for i, j, *shift in brute_force(points[names], box, np.array(pbc, bool), 4.0)
    ]
    neighbors = list_all(points, box, pbc, 4.0)
    assert pairs_of(neighbors) == sorted(expected)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("wide", [900.0, 5e4, 5e6, 1e12])
@pytest.mark.parametrize("thin", [(20, 800), (5, 5), (5, 1e5), (1e6, 1e6)])
def test_wide_cells(axis, wide, thin):
    """Either right, or refused; vesin itself ends the program on some of them."""
    points = np.array([[0, 0, 0], [1.0, 1, 1], [2.5, 2, 2]])
    box = np.diag(np.roll([wide, *thin], axis))
    try:
        neighbors = list_all(points, box, True, 2.0)
    except ValueError as error:
        assert re.fullmatch(r"the frame is .* Å wide, too much .* 2 Å\. .*", str(error))
        assert np.sort(np.diag(box))[1] > 500 or np.max(box) > 1e5
    else:
        assert pairs_of(neighbors) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


def test_points_too_far_outside():
    """Lattice shifts that no integer of 32 bits holds."""
    points = np.array([[0, 0, 0], [1e9, 0, 0]])
    assert list_all(points * 0.1, np.eye(3) * 4, True, 3.0).shift.max() > 2e7
    with pytest.raises(ValueError, match=r"2\.5e\+08 lattice vectors away"):
        list_all(points, np.eye(3) * 4, True, 3.0)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 0)])
def test_too_many_neighbours(pbc):
    """More pairs than any memory holds; in a cluster there never are."""
    points = np.random.default_rng(0).random((20, 3))
    assert len(list_all(points, np.eye(3), False, 1e9).index) == 20 * 19
    with pytest.raises(
        ValueError, match=r"1e\+09 Å makes about .* pairs of neighbours"
    ):
        list_all(points, np.eye(3), pbc, 1e9)


def test_nearest():
    """Of all pairs, and of pairs of centres."""
    points = np.array([[0, 0, 0], [2.0, 0, 0], [0.3, 0, 0]])
    one = build(points, np.array([0, 0, 1]), 2, np.zeros((3, 3)), False, 4.0, 2)
    assert (one.nearest, one.nearest_centres) == pytest.approx((0.3, 2.0))
    one = build(points, np.array([0, 0, 1]), 1, np.zeros((3, 3)), False, 4.0, 2)
    assert (one.nearest, one.nearest_centres) == (pytest.approx(0.3), np.inf)


def test_far_from_the_origin():
    """A cluster anywhere has the same neighbours."""
    points, _, box, pbc, rcut = make("open")
    first, second = (
        list_all(points + move, box, pbc, rcut) for move in (0.0, [0, 0, 1e6])
    )
    assert pairs_of(first) == pairs_of(second)


@pytest.mark.parametrize(
    "cell", [np.eye(3), np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])]
)
def test_fcc_shells_by_type(cell):
    """Rocksalt: of its own kind 12 and 6 and 24 farther out, 6 and 8 of the other."""
    a = 4.0
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    own = fcc if cell[0, 0] == 1 else fcc[:1]
    points = a * np.concatenate([own, own + np.array([0.5, 0, 0])])
    types = np.repeat([0, 1], len(own))
    shells = a * np.sqrt([1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2])
    mine, others = [0, 12, 12, 18, 18, 42], [6, 6, 14, 14, 38, 38]
    for r, same, other in zip(shells, mine, others, strict=True):
        neighbors = build(points, types, len(points), a * cell, True, r + 0.1, 2)
        expected = np.where(types[:, None] == [0, 1], same, other)
        np.testing.assert_array_equal(neighbors.count, expected)
        np.testing.assert_array_equal(neighbors.found, [max(same, other)] * 2)


# Centres, types, padding --------------------------------------------------------------


def typed(seed=0, npoints=16, ncentres=9):
    """A skewed frame of 3 types where some points do not exist."""
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 3, size=npoints)
    types[[5, 11, 15]] = -1
    points = rng.random((npoints, 3)) @ (1.3 * SKEWED)
    return points, types, ncentres, 1.3 * SKEWED


def test_centres_and_types():
    points, types, ncentres, box = typed()
    neighbors = build(points, types, ncentres, box, True, 5.0, 3)
    expected = [
        pair
        for pair in brute_force(points, box, np.ones(3, dtype=bool), 5.0)
        if pair[0] < ncentres and types[pair[0]] >= 0 and types[pair[1]] >= 0
    ]
    assert pairs_of(neighbors) == sorted(expected)
    count = np.zeros((ncentres, 3), dtype=int)
    for i, j, *_ in expected:
        count[i, types[j]] += 1
    np.testing.assert_array_equal(neighbors.count, count)
    np.testing.assert_array_equal(neighbors.found, count.max(axis=0))
    assert not neighbors.count[5].any()  # a centre that is not there
    for name in ("count", "index", "found"):
        assert getattr(neighbors, name).dtype == np.int32
    assert neighbors.shift.dtype == np.int8
    assert neighbors.dropped == 0


def test_far_shifts():
    """Shifts that int8 cannot hold."""
    points = np.array([[0.0, 0, 0], [300 * 4.0 + 1, 0, 0]])
    neighbors = build(points, np.zeros(2, int), 2, 4.0 * np.eye(3), True, 1.5, 1)
    assert neighbors.shift.dtype == np.int32
    assert sorted(neighbors.shift[:, 0].tolist()) == [-300, 300]


def test_slot():
    points, types, ncentres, box = typed()
    neighbors = build(points, types, ncentres, box, True, 5.0, 3)
    centre, block, position = neighbors.slot
    np.testing.assert_array_equal(block, types[neighbors.index])
    seen = np.zeros_like(neighbors.count)
    for i, t, k in zip(centre, block, position, strict=True):
        assert k == seen[i, t]  # 0, 1, 2... in each block
        seen[i, t] += 1
    np.testing.assert_array_equal(seen, neighbors.count)
    assert (np.diff(centre * 3 + block) >= 0).all()


def test_pad_and_back():
    frames, slots, renamed, expected = [], [], [], []
    rng = np.random.default_rng(3)
    nslots = 12
    for seed in range(3):
        points, types, ncentres, box = typed(seed)
        neighbors = build(points, types, ncentres, box, True, 4.0 + seed, 3)
        row = rng.permutation(nslots)[:ncentres]
        name = rng.permutation(40)[: len(points)]
        frames.append(neighbors)
        slots.append(row)
        renamed.append(name)
        expected.append(
            sorted(
                (row[i], types[j], name[j], *shift)
                for i, j, *shift in pairs_of(neighbors)
            )
        )
    widths = np.max([n.count.max(axis=0) for n in frames], axis=0)
    widths += np.array([0, 2, 5])
    nlist, shift = pad(frames, np.array(slots), np.array(renamed), nslots, widths)
    assert len(nlist) == len(shift) == 3
    for f, neighbors in enumerate(frames):
        found = []
        for t in range(3):
            assert nlist[t].shape == (3, nslots, widths[t])
            assert shift[t].shape == (3, nslots, widths[t], 3)
            assert nlist[t].dtype == shift[t].dtype == np.int32
            filled = nlist[t][f] >= 0
            assert (nlist[t][f][~filled] == -1).all()
            assert not shift[t][f][~filled].any()
            # filled slots come first
            np.testing.assert_array_equal(
                filled, np.arange(widths[t]) < filled.sum(axis=1)[:, None]
            )
            np.testing.assert_array_equal(
                filled.sum(axis=1)[slots[f]], neighbors.count[:, t]
            )
            for i, k in np.argwhere(filled):
                found.append((i, t, nlist[t][f, i, k], *shift[t][f, i, k]))
        assert sorted(found) == expected[f]


def test_pad_without_missing_centres():
    """A centre of slot -1 does not exist, so it has no pairs."""
    points, types, ncentres, box = typed()
    neighbors = build(points, types, ncentres, box, True, 4.0, 3)
    there = types[:ncentres] >= 0
    slots = np.where(there, np.cumsum(there) - 1, -1)[None]
    nslots = there.sum()
    widths = neighbors.count.max(axis=0)
    nlist, _ = pad([neighbors], slots, np.arange(len(points))[None], nslots, widths)
    for t in range(3):
        np.testing.assert_array_equal(
            (nlist[t][0] >= 0).sum(axis=1), neighbors.count[there, t]
        )


def test_no_pairs():
    neighbors = build(np.zeros((2, 3)), np.array([-1, 0]), 2, OPEN, False, 4.0, 2)
    assert neighbors.index.size == 0 and neighbors.nearest == np.inf
    assert not neighbors.count.any() and not neighbors.found.any()
    nlist, _ = pad([neighbors], np.array([[-1, 0]]), np.array([[-1, 0]]), 1, [1, 1])
    assert all((block == -1).all() for block in nlist)


# Symmetries ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_lattice_shift(name):
    """Atoms moved by lattice vectors: the same separations."""
    inside, outside, box, pbc, rcut = make(name)

    def separations(points):
        neighbors = list_all(points, box, pbc, rcut)
        i, j = neighbors.slot[0], neighbors.index
        away = points[j] - points[i] + neighbors.shift @ box
        rows = np.column_stack([i, j, np.round(away, 6) + 0.0])
        return np.array(sorted(map(tuple, rows)))

    np.testing.assert_allclose(separations(inside), separations(outside), atol=2e-6)


def test_opposite_pairs():
    """If j is a neighbour of i, then i is one of j with the opposite shift."""
    points, _, box, pbc, rcut = make("small and skewed")
    pairs = pairs_of(list_all(points, box, pbc, rcut))
    assert sorted((j, i, -a, -b, -c) for i, j, a, b, c in pairs) == pairs


@pytest.mark.parametrize("sel", [None, [5, 3, 4]])
def test_deterministic(sel):
    points, types, ncentres, box = typed()
    first, second = (
        build(points, types, ncentres, box, True, 5.0, 3, sel) for _ in range(2)
    )
    for name in ("count", "index", "shift", "found", "nearest"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# Truncation ---------------------------------------------------------------------------


def kept_by_deepmd(points, types, ncentres, box, rcut, sel):
    """Pairs (i, j, shift) kept by DeePMD-kit's rule, ghost atoms written out.

    Ghosts come by sub-cells of the cutoff's size, the a-axis outermost.
    """
    home = np.zeros((len(points), 3), dtype=int)
    ghosts, wrapped = [], points
    if box.any():
        height = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
        ncell = np.maximum(1, np.floor(height / rcut).astype(int))
        fraction = np.linalg.solve(box.T, points.T).T
        home = np.floor(fraction).astype(int)
        wrapped = points - home @ box
        subcell = np.floor((fraction - home) * ncell).astype(int)
        reach = np.ceil(rcut / height).astype(int)
        ranges = [range(-m * n, (m + 1) * n) for m, n in zip(reach, ncell, strict=True)]
        for cell in product(*ranges):
            image, inside = np.divmod(cell, ncell)
            if image.any():
                atoms = np.flatnonzero((subcell == inside).all(axis=1))
                ghosts += [(j, image) for j in atoms]
    everyone = [(j, np.zeros(3, dtype=int)) for j in range(len(points))] + ghosts
    owner = np.array([j for j, _ in everyone])
    image = np.array([s for _, s in everyone])
    position = wrapped[owner] + image @ box
    rounded = position.astype(np.float32)
    kept = []
    for i in range(ncentres):
        if types[i] < 0:
            continue
        away = rounded - rounded[i]
        assert away.dtype == np.float32
        square = (
            away[:, 0] * away[:, 0] + away[:, 1] * away[:, 1] + away[:, 2] * away[:, 2]
        )
        near = np.linalg.norm(position - position[i], axis=1) < rcut
        near[i] = False
        for t, limit in enumerate(sel):
            found = np.flatnonzero(near & (types[owner] == t))
            order = sorted(found, key=lambda k: (square[k], k))
            for k in order[:limit]:
                shift = image[k] - home[owner[k]] + home[i]
                kept.append((i, int(owner[k]), *shift.tolist()))
    return sorted(kept)


def truncation_case(name):
    """Points, types, number of centres, box, cutoff, sel; random or full of ties."""
    if name.startswith("random"):
        points, types, ncentres, box = typed(7, npoints=20)
        box = np.zeros((3, 3)) if "open" in name else box
        return points, types, ncentres, box, 5.0, [4, 2, 3]
    fcc = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]], dtype=float)
    rocksalt = np.concatenate([fcc, fcc + np.array([2, 0, 0])])
    n, rcut, sel = {
        "ties, one sub-cell": (1, 5.75, [20, 17]),
        "ties, two sub-cells": (2, 4.0, [7, 5]),
        "ties, three sub-cells": (3, 4.0, [7, 5]),
        "ties, skewed": (2, 3.0, [5, 4]),
        "ties, left-handed": (2, 3.0, [5, 4]),
        "ties, open": (2, 4.5, [5, 4]),
    }[name]
    turns = np.array(list(product(range(n), repeat=3)))
    points = (4.0 * turns[:, None] + rocksalt).reshape(-1, 3)
    types = np.tile(np.repeat([0, 1], 4), len(turns))
    order = np.random.default_rng(0).permutation(len(points))
    # sixteenths: exact in float32, and no atom on the border of a (sub-)cell
    points, types = points[order] + [0.25, 0.375, 0.4375], types[order]
    box = 4.0 * n * np.eye(3)
    if name == "ties, skewed":
        box = box @ np.array([[1.0, 0, 0], [1.0, 1.0, 0], [0, -1.0, 1.0]])
    if name == "ties, left-handed":
        box = box[[1, 0, 2]]
    if name == "ties, open":
        box = np.zeros((3, 3))
    return points, types, len(points) - 3, box, rcut, sel


@pytest.mark.parametrize("unwrapped", [False, True], ids=["wrapped", "unwrapped"])
@pytest.mark.parametrize(
    "name",
    [
        "random",
        "random, open",
        "ties, one sub-cell",
        "ties, two sub-cells",
        "ties, three sub-cells",
        "ties, skewed",
        "ties, left-handed",
        "ties, open",
    ],
)
def test_truncation(name, unwrapped):
    points, types, ncentres, box, rcut, sel = truncation_case(name)
    pbc = bool(box.any())
    turns = np.random.default_rng(1).integers(-3, 4, size=points.shape)
    moved = points + turns @ box if unwrapped else points
    everyone = build(moved, types, ncentres, box, pbc, rcut, len(sel))
    neighbors = build(moved, types, ncentres, box, pbc, rcut, len(sel), sel)
    expected = kept_by_deepmd(moved, types, ncentres, box, rcut, sel)
    assert pairs_of(neighbors) == expected
    assert set(expected) < set(pairs_of(everyone))  # something was left out
    np.testing.assert_array_equal(neighbors.count, np.minimum(everyone.count, sel))
    np.testing.assert_array_equal(neighbors.found, everyone.found)
    assert (neighbors.found > sel).all()
    assert neighbors.nearest == everyone.nearest
    np.testing.assert_array_equal(neighbors.slot[1], types[neighbors.index])


@pytest.mark.parametrize("name", ["random", "ties, two sub-cells", "ties, skewed"])
def test_truncation_does_not_see_wrapping(name):
    """Atoms moved by lattice vectors keep the same neighbours."""
    points, types, ncentres, box, rcut, sel = truncation_case(name)
    turns = np.random.default_rng(2).integers(-3, 4, size=points.shape)

    def kept(points, turns):
        neighbors = build(points, types, ncentres, box, True, rcut, len(sel), sel)
        return sorted(
            (i, j, *(np.array(shift) + turns[j] - turns[i]))
            for i, j, *shift in pairs_of(neighbors)
        )

    assert kept(points, 0 * turns) == kept(points + turns @ box, turns)


@pytest.mark.parametrize(("farther", "nearest"), [(1e-9, 1), (1e-5, 2)])
def test_truncation_compares_in_float32(farther, nearest):
    """Of two atoms that float32 cannot tell apart the first one stays."""
    points = np.array([[0, 0, 0], [2.0 + farther, 0, 0], [0, 2.0, 0], [0, 0, 2.1]])
    types = np.zeros(4, dtype=int)
    neighbors = build(points, types, 1, OPEN, False, 4.0, 1, [1])
    assert neighbors.index.tolist() == [nearest]


@pytest.mark.parametrize("turns", [0, -2])
def test_truncation_prefers_the_home_cell(turns):
    """Two images of one atom at the same distance: the one in the cell stays."""
    box = 4.0 * np.eye(3)
    points = np.array([[1.0, 1.0, 1.0], [3.0 + 4.0 * turns, 1.0, 1.0]])
    neighbors = build(points, np.array([0, 1]), 1, box, True, 2.5, 2, [0, 1])
    assert neighbors.index.tolist() == [1]
    assert neighbors.shift.tolist() == [[-turns, 0, 0]]
    assert neighbors.found.tolist() == [0, 2]


@pytest.mark.parametrize("sel", [[0, 0, 0], [100, 0, 3], [100, 100, 100]])
def test_truncation_limits(sel):
    points, types, ncentres, box = typed()
    everyone = build(points, types, ncentres, box, True, 5.0, 3)
    neighbors = build(points, types, ncentres, box, True, 5.0, 3, sel)
    np.testing.assert_array_equal(neighbors.count, np.minimum(everyone.count, sel))
    np.testing.assert_array_equal(neighbors.found, everyone.found)
    assert set(pairs_of(neighbors)) <= set(pairs_of(everyone))


def test_truncation_of_a_slab():
    """No farther neighbour is kept where a nearer one was left out."""
    points, _, box, pbc, rcut = make("skewed slab")
    everyone = brute_force(points, box, pbc, rcut)
    kept = pairs_of(list_all(points, box, pbc, rcut, sel=[7]))
    assert len(set(kept)) == len(kept) < len(everyone)
    for i in range(len(points)):
        distances = sorted(r for pair, r in everyone.items() if pair[0] == i)
        own = sorted(everyone[pair] for pair in kept if pair[0] == i)
        np.testing.assert_allclose(own, distances[:7], rtol=1e-6)
