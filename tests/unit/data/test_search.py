# SPDX-License-Identifier: Apache-2.0
"""Lists by way of candidates: equal to a search among all points, kept or not."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
import vesin
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspin.data import nlist
from deepspin.data.collate import Shape, collate, neighbors_of_frame
from deepspin.data.nlist import Search, build, pad
from deepspin.infer.deep_spin import DeepSpin
from deepspin.op import neighbors as native
from deepspin.spins.virtual import VirtualAtoms

FIELDS = ("count", "index", "shift", "found", "dropped")
MEASURES = ("nearest", "nearest_centres", "coordination", "closest")
SKEWED = np.array([[5.0, 0, 0], [4.6, 3.1, 0], [-4.4, 2.8, 3.9]])
SCHEME = VirtualAtoms.from_options([True, False], virtual_scale=[0.3])
compiled = pytest.mark.skipif(native.library() is None, reason="no compiled library")


def search_all(points, types, ncentres, box, pbc, rcut, nblocks, sel=None):
    """The list from a search among all points, sorted at once."""
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    exists = np.flatnonzero(types >= 0)
    search = vesin.NeighborList(cutoff=rcut, full_list=True)
    i, j, shift, distance = search.compute(
        points[exists], np.where(periodic[:, None], box, 0.0), periodic, "ijSd"
    )
    i, j = exists[i], exists[j]
    keep = i < ncentres
    i, j, shift, distance = i[keep], j[keep], shift[keep], distance[keep]
    block = i * nblocks + types[j]
    order = np.lexsort((*shift.T[::-1], j, block))
    total, near_centre = len(i), j < ncentres
    coordination = np.bincount(
        block, (1 - distance**2 / rcut**2) ** 4, minlength=ncentres * nblocks
    )
    closest = np.full(ncentres * nblocks, np.inf)
    np.minimum.at(closest, block, distance)
    i, j, shift, block = i[order], j[order], shift[order], block[order]
    count = np.bincount(block, minlength=ncentres * nblocks)
    found = count.reshape(ncentres, nblocks).max(axis=0, initial=0)
    if sel is not None and (found > np.asarray(sel)).any():
        kept = nlist._nearest(points, box, periodic, i, j, shift, block, rcut, sel)
        j, shift, block = j[kept], shift[kept], block[kept]
        count = np.bincount(block, minlength=ncentres * nblocks)
    return {
        "count": count.reshape(ncentres, nblocks),
        "index": j,
        "shift": shift,
        "found": found,
        "dropped": total - len(j),
        "nearest": distance.min(initial=np.inf),
        "nearest_centres": distance[near_centre].min(initial=np.inf),
        "coordination": coordination.reshape(ncentres, nblocks),
        "closest": closest.reshape(ncentres, nblocks),
    }


def assert_is(found, want):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), want[name], err_msg=name)
    for name in MEASURES:
        np.testing.assert_allclose(
            getattr(found, name), want[name], rtol=1e-9, atol=1e-12
        )


def assert_equal(found, want):
    for name in (*FIELDS, *MEASURES):
        np.testing.assert_array_equal(
            getattr(found, name), getattr(want, name), err_msg=name
        )


class Frame:
    """Atoms, each with a point beside it or without, some of them missing."""

    def __init__(self, seed, natoms, box, pbc, apart=0.4, missing=True):
        rng = np.random.default_rng(seed)
        self.rng, self.box, self.pbc = rng, np.asarray(box), np.array(pbc, dtype=bool)
        frame = np.where(self.pbc[:, None], box, 6.0 * np.eye(3))
        turns = rng.integers(-2, 3, size=(natoms, 3)) * self.pbc
        self.coord = rng.random((natoms, 3)) @ frame + turns @ self.box
        self.offset = apart * (rng.random((natoms, 3)) - 0.5)
        types = rng.integers(0, 2, size=natoms)
        if missing:
            types[rng.random(natoms) < 0.1] = -1
        self.types = np.concatenate([types, np.where(types == 0, 2, -1)])
        self.owners = np.tile(np.arange(natoms), 2)

    def move(self, length):
        for array in (self.coord, self.offset):
            array += length * (self.rng.random(array.shape) - 0.5)

    @property
    def arguments(self):
        points = np.concatenate([self.coord, self.coord + self.offset])
        return points, self.types, len(self.coord), self.box, self.pbc


CELLS = {
    "orthorhombic": (np.diag([7.0, 9.5, 12.0]), (1, 1, 1), 30),
    "skewed": (SKEWED, (1, 1, 1), 12),
    "left-handed": (SKEWED[[1, 0, 2]] + np.diag([0.3, 0, 0]), (1, 1, 1), 12),
    "smaller than the cutoff": (2.1 * np.eye(3), (1, 1, 1), 1),
    "small and skewed": (SKEWED / 2, (1, 1, 1), 3),
    "slab": (np.diag([3.0, 4.0, 2.0]), (1, 1, 0), 12),
    "skewed wire": (SKEWED, (0, 0, 1), 9),
    "open": (np.zeros((3, 3)), (0, 0, 0), 25),
    "nothing": (np.zeros((3, 3)), (0, 0, 0), 1),
}


@pytest.mark.parametrize("kernels", [pytest.param(True, marks=compiled), False])
@pytest.mark.parametrize("sel", [None, [6, 5, 3]])
@pytest.mark.parametrize("name", CELLS)
def test_all_points(name, sel, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    box, pbc, natoms = CELLS[name]
    for seed in range(4):
        frame = Frame(seed, natoms, box, pbc)
        want = search_all(*frame.arguments, 4.3, 3, sel)
        assert_is(build(*frame.arguments, 4.3, 3, sel), want)
        assert_is(build(*frame.arguments, 4.3, 3, sel, owners=frame.owners), want)
        search = Search(skin=0.7)
        for _ in range(2):
            found = build(
                *frame.arguments, 4.3, 3, sel, owners=frame.owners, search=search
            )
            assert_is(found, want)


@pytest.mark.parametrize("kernels", [pytest.param(True, marks=compiled), False])
def test_points_at_the_cutoff(kernels, monkeypatch):
    """One right at it is no neighbour, one just within it is."""
    if not kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    points = np.array([[0.0, 0, 0], [3.0, 0, 0], [0, np.nextafter(3.0, 0), 0]])
    found = build(points, np.zeros(3, dtype=int), 3, np.zeros((3, 3)), False, 3.0, 1)
    np.testing.assert_array_equal(found.count.ravel(), [1, 0, 1])
    np.testing.assert_array_equal(found.index, [2, 0])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    natoms=st.integers(1, 20),
    lengths=st.tuples(*[st.floats(2.0, 9.0)] * 3),
    skew=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    pbc=st.tuples(*[st.booleans()] * 3),
    rcut=st.floats(1.0, 5.0),
    apart=st.sampled_from([0.0, 0.4, 1.5, 6.0]),
    sel=st.none() | st.tuples(*[st.integers(0, 12)] * 3),
)
def test_any_frame(seed, natoms, lengths, skew, pbc, rcut, apart, sel):
    rcut += 1.234567e-5  # no distance is exactly the cutoff
    box = np.diag(lengths)
    box[[1, 2, 2], [0, 0, 1]] = skew
    frame = Frame(seed, natoms, box, pbc, apart)
    want = search_all(*frame.arguments, rcut, 3, sel)
    options = {"owners": frame.owners, "search": Search(skin=0.5)}
    fast = build(*frame.arguments, rcut, 3, sel, **options)
    assert_is(fast, want)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        assert_equal(build(*frame.arguments, rcut, 3, sel, **options), fast)
        options["search"] = None
        assert_equal(build(*frame.arguments, rcut, 3, sel, **options), fast)


@compiled
def test_many_parts():
    """More centres than a thread takes at once."""
    frame = Frame(0, 900, np.diag([20.0, 21, 22]), (1, 1, 1))
    found = build(*frame.arguments, 4.0, 3, owners=frame.owners)
    assert_is(found, search_all(*frame.arguments, 4.0, 3))


# Search through space -----------------------------------------------------------------


@compiled
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    natoms=st.integers(0, 120),
    lengths=st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 6.0, 19.0, 90.0])] * 3),
    skew=st.tuples(*[st.sampled_from([0.0, 0.5, -2.0])] * 3),
    pbc=st.tuples(*[st.booleans()] * 3),
    rcut=st.sampled_from([0.5, 1.5, 2.5]),
    spread=st.sampled_from([0.01, 1.0, 5.0]),
)
def test_both_searches_on_a_grid(seed, natoms, lengths, skew, pbc, rcut, spread):
    """Points on each other, at the cutoff, at faces of the cell; flat, huge cells."""
    box = np.diag(lengths)
    box[[1, 2, 2], [0, 0, 1]] = skew
    rng = np.random.default_rng(seed)
    natoms = min(natoms, 1 + int(np.prod(lengths)))
    # halves are exact, and so are their distances along an axis
    points = np.round(2 * spread * rng.standard_normal((natoms, 3))) / 2
    points += (rng.integers(-9, 10, size=points.shape) * pbc) @ box
    types = rng.integers(-1, 2, size=natoms)
    given = points, types, natoms, box, pbc, rcut, 2
    fast = build(*given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        assert_equal(build(*given), fast)


@compiled
@pytest.mark.parametrize("sites", [900, 0, 1])
def test_any_number_of_threads(sites, monkeypatch):
    frame = Frame(8, sites, np.diag([30.0, 21, 22]), (1, 1, 0))
    given = frame.arguments[0], frame.types >= 0, np.eye(3) * 20, np.ones(3), 4.0
    want = native.seek(*given)
    assert len(want[1]) >= 2 * sites
    for threads in (1, 2, 5):
        monkeypatch.setattr(native, "_threads", lambda n=threads: n)
        for array, other in zip(native.seek(*given), want, strict=True):
            np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("kernels", [pytest.param(True, marks=compiled), False])
@pytest.mark.parametrize(
    ("box", "pbc"),
    [
        (np.ones((3, 3)), True),
        (np.diag([3.0, 3, 0]), True),
        (np.array([[1.0, 0, 0], [2, 0, 0], [0, 0, 3]]), (1, 1, 0)),
        (np.array([[3.0, 0, 0], [0, 3, 0], [3, 3, 1e-10]]), True),
        (np.zeros((3, 3)), (0, 0, 1)),
    ],
)
def test_cells_without_a_volume(box, pbc, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    points = np.random.default_rng(0).random((3, 3))
    with pytest.raises(ValueError, match=r"span no volume\. Give independent ones"):
        build(points, np.zeros(3, dtype=int), 3, box, pbc, 2.0, 1)


def test_too_many_images():
    """Of a single atom, in a cell much smaller than atoms are."""
    with pytest.raises(ValueError, match=r"about 1e\+10 pairs of neighbours, too many"):
        build(np.zeros((1, 3)), np.zeros(1, int), 1, 0.01 * np.eye(3), True, 3.0, 1)


@compiled
def test_no_memory_for_partners():
    given = np.zeros((1, 3)), np.ones(1), 0.001 * np.eye(3), np.ones(3), 3.0
    with pytest.raises(MemoryError, match="the neighbours do not fit into memory"):
        native.seek(*given)


# Candidates ---------------------------------------------------------------------------


@pytest.mark.parametrize("sel", [None, [6, 5, 3]])
@pytest.mark.parametrize("name", CELLS)
def test_walk(name, sel):
    """Candidates kept from step to step give the lists of a search at each step."""
    box, pbc, natoms = CELLS[name]
    frame, search, used = Frame(1, natoms, box, pbc), Search(skin=0.6), []
    for _ in range(40):
        frame.move(0.1)
        given = {"sel": sel, "owners": frame.owners}
        kept = build(*frame.arguments, 4.3, 3, **given, search=search)
        assert_equal(kept, build(*frame.arguments, 4.3, 3, **given))
        used.append(search._last)
    assert 1 <= len(set(map(id, used))) < 20


@pytest.mark.parametrize("name", ["skewed", "small and skewed", "orthorhombic"])
def test_strained_cell(name, monkeypatch):
    """A cell that changes a little takes its atoms, and their candidates, along."""
    box, pbc, natoms = CELLS[name]
    frame, search = Frame(2, natoms, box, pbc), Search(skin=0.5)
    used = []
    for _ in range(40):
        strain = np.eye(3) + 0.01 * (frame.rng.random((3, 3)) - 0.5)
        frame.coord, frame.box = frame.coord @ strain, frame.box @ strain
        frame.move(0.05)
        kept = build(*frame.arguments, 4.3, 3, owners=frame.owners, search=search)
        used.append(search._last)
        assert_equal(kept, build(*frame.arguments, 4.3, 3, owners=frame.owners))
    assert 1 < len(set(map(id, used))) < 25


@pytest.mark.parametrize("change", ["box", "atoms", "types", "pbc", "spins", "rcut"])
def test_changes(change):
    """Candidates for something else are not used."""
    frame = Frame(3, 12, np.diag([5.0, 6, 7]), (1, 1, 1), missing=False)
    search, rcut = Search(skin=0.5), 4.0
    build(*frame.arguments, rcut, 3, owners=frame.owners, search=search)
    first = search._last
    build(*frame.arguments, rcut, 3, owners=frame.owners, search=search)
    assert search._last is first
    if change == "box":
        frame.box = np.diag([5.0, 6, 4])
    elif change == "atoms":
        frame = Frame(4, 11, frame.box, frame.pbc)
    elif change == "types":
        frame.types[[0, 12]] = -1
    elif change == "pbc":
        frame.pbc = np.array([True, False, True])
    elif change == "spins":
        frame.offset *= 4
    else:
        rcut = 4.6
    found = build(*frame.arguments, rcut, 3, owners=frame.owners, search=search)
    assert search._last is not first
    assert_equal(found, build(*frame.arguments, rcut, 3, owners=frame.owners))


def test_far_from_their_owners():
    """Points that are anywhere are searched for themselves."""
    frame = Frame(5, 12, np.diag([30.0, 6, 7]), (1, 1, 1))
    frame.offset *= 100
    found = build(*frame.arguments, 4.0, 3, owners=frame.owners)
    assert_is(found, search_all(*frame.arguments, 4.0, 3))


def test_arguments_are_copied():
    """What a caller does with its arrays afterwards does not change candidates."""
    frame, search = Frame(6, 12, np.diag([5.0, 6, 7]), (1, 1, 1)), Search(skin=0.5)
    for _ in range(3):
        build(*frame.arguments, 4.0, 3, owners=frame.owners, search=search)
        frame.box[0, 0] += 3.0
        frame.coord += 2.0 * frame.rng.random(frame.coord.shape)
        found = build(*frame.arguments, 4.0, 3, owners=frame.owners, search=search)
        assert_equal(found, build(*frame.arguments, 4.0, 3, owners=frame.owners))


# Padding ------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_both_fill_the_same(dtype, monkeypatch):
    frame = Frame(7, 300, np.diag([12.0, 13, 14]), (1, 1, 1))
    frames = [build(*frame.arguments, rcut, 3) for rcut in (4.0, 3.0)]
    for one in frames:
        object.__setattr__(one, "shift", one.shift.astype(dtype))
    slots = frame.rng.permutation(320)[:300]
    slots[frame.types[:300] < 0] = -1
    names = frame.rng.permutation(640)[:600]
    widths = frames[0].count.max(axis=0) + np.array([0, 3, 1])
    given = frames, np.tile(slots, (2, 1)), np.tile(names, (2, 1)), 320, widths
    fast = pad(*given)
    monkeypatch.setattr(native, "library", lambda: None)
    for blocks, others in zip(fast, pad(*given), strict=True):
        for block, other in zip(blocks, others, strict=True):
            assert block.dtype == other.dtype == np.int32
            np.testing.assert_array_equal(block, other)


# Size ---------------------------------------------------------------------------------


def test_memory_is_linear():
    """Of lists and arrays made from them; what native code takes is not seen."""

    def peak(n):
        grid = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 3)
        coord = 2.1 * grid
        spin, box = np.ones_like(coord), 2.1 * n * np.eye(3)
        atype = grid.sum(axis=1) % 2
        given = coord, spin, atype, box, True, SCHEME, 5.6, None
        tracemalloc.start()
        found = neighbors_of_frame(*given, Search(skin=0.5))
        shape = Shape(1, tuple(np.bincount(atype)), tuple(found.count.max(axis=0)))
        collate(coord[None], spin[None], box[None], atype[None], [found], shape)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size / n**3

    few, many = peak(10), peak(20)
    assert many < 1.2 * few
    # per pair 16 bytes as a candidate and 16 in the arrays, with room for the rest
    assert many < (30_000 if native.library() is None else 10_000)


@compiled
def test_supercell(make_model, make_nio):
    """27 cells side by side: 27 times the energy, the same forces."""
    model = make_model("ONi", type_one_side=True)
    potential, frame = DeepSpin(model), make_nio(model)
    cells = [np.array(c) @ frame.box for c in product(range(3), repeat=3)]
    want = potential.eval(frame.coord, frame.box, frame.atype, frame.spin)
    found = potential.eval(
        np.concatenate([frame.coord + cell for cell in cells]),
        3 * frame.box,
        np.tile(frame.atype, 27),
        np.tile(frame.spin, (27, 1)),
    )
    for name in ("energy", "virial"):
        np.testing.assert_allclose(found[name] / 27, want[name], rtol=1e-12, atol=1e-12)
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        each = np.concatenate([want[name]] * 27, axis=1)
        np.testing.assert_allclose(found[name], each, rtol=1e-12, atol=1e-12)


def test_one_trace(make_model, make_nio, make_cluster):
    """Other numbers of atoms and of neighbours need no other graph."""
    model = make_model("ONi", type_one_side=True)
    potential = DeepSpin(model)
    for frame in (make_nio(model), make_nio(model, 1), make_cluster(model)):
        potential.eval(frame.coord, frame.box, frame.atype, frame.spin)
    assert potential._call.function.experimental_get_tracing_count() == 1


def test_dynamics_keep_candidates(make_model, make_nio):
    """Steps of a simulation: results as of a fresh potential, one search."""
    model = make_model("ONi", type_one_side=True)
    potential, frame, used = DeepSpin(model), make_nio(model), []
    rng = np.random.default_rng(0)
    for _ in range(10):
        frame.coord[:] += 0.02 * (rng.random(frame.coord.shape) - 0.5)
        frame.spin[:] += 0.05 * (rng.random(frame.spin.shape) - 0.5)
        given = frame.coord, frame.box, frame.atype, frame.spin
        found = potential.eval(*given)
        for name, array in DeepSpin(model).eval(*given).items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        (search,) = potential._batching.searches
        used.append(search._last)
    assert len(set(map(id, used))) == 1


def test_replicas_keep_candidates(make_model, make_nio):
    """Frames of a batch that are far from each other: one search for each."""
    model = make_model("ONi", type_one_side=True)
    potential, frame, used = DeepSpin(model), make_nio(model), []
    rng = np.random.default_rng(0)
    coord = np.stack([frame.coord, frame.coord[::-1], frame.coord + 0.4])
    spin, box = (np.stack([x] * 3) for x in (frame.spin, frame.box))
    for _ in range(4):
        coord += 0.02 * (rng.random(coord.shape) - 0.5)
        found = potential.eval(coord, box, frame.atype, spin)
        for k in range(3):
            alone = DeepSpin(model).eval(coord[k], box[k], frame.atype, spin[k])
            np.testing.assert_allclose(
                found["force"][k], alone["force"][0], rtol=0, atol=1e-12
            )
        used.append([search._last for search in potential._batching.searches])
    assert [len(set(map(id, own))) for own in zip(*used, strict=True)] == [1, 1, 1]


def test_few_candidates_of_large_frames_are_kept(make_model, make_nio, monkeypatch):
    monkeypatch.setattr("deepspin.infer.batching.KEPT_ATOMS", 17)
    model = make_model("ONi", type_one_side=True)
    potential, frame = DeepSpin(model), make_nio(model)
    coord, box, spin = (np.stack([x] * 5) for x in (frame.coord, frame.box, frame.spin))
    potential.eval(coord, box, frame.atype, spin)
    assert len(potential._batching.searches) == 2
