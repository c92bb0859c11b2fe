# SPDX-License-Identifier: Apache-2.0
"""How exchange changes as atoms move: forces of pairs, sums over atoms and cells."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import invariant_models
import numpy as np
import pytest
from conftest import build

import deepspin
from deepspin.analysis.derivatives import exchange_derivatives
from deepspin.analysis.exchange import exchange
from deepspin.analysis.hamiltonian import across
from deepspin.atoms.structures import Structure
from deepspin.utils.refused import InputError


def structure(atype, coord, spin, box=None, names=("Ni",)) -> Structure:
    n = len(coord)
    return Structure(
        names=names,
        atype=np.array(atype),
        coord=np.array(coord, dtype=float),
        box=box,
        pbc=np.array([box is not None, False, False]),
        spin=np.array(spin, dtype=float),
        mass=np.ones(n),
        fixed=np.zeros(n, dtype=bool),
    )


def two_nickels() -> Structure:
    """The cell of a chain of magnetic atoms, out of place and out of line."""
    rng = np.random.default_rng(5)
    spin = 1.2 * np.array([[0, 0, 1], [0, 0, -1.0]]) + 0.1 * rng.normal(size=(2, 3))
    coord = [[0, 0, 0], [1.7, 1.5, 0]] + 0.05 * rng.normal(size=(2, 3))
    return structure([0, 0], coord, spin, np.diag([3.1, 20, 20]))


@pytest.fixture(scope="module")
def whole():
    """A model, the cell, and all derivatives that there are."""
    potential = deepspin.DeepSpin(invariant_models.build("Ni"))
    cell = two_nickels()
    far = 2 * potential.rcut
    every = [exchange_derivatives(potential, cell, k, within=far) for k in (0, 1)]
    return potential, cell, every


@pytest.fixture
def pairs_alone(whole):
    """The same model, for once with no more than exchange that knows a distance."""
    model = whole[0].model
    theta, last = model.spin.baseline.theta, model.fitting.net(0)[-1].matrix
    before = theta.numpy(), last.numpy()
    kinds = np.array([label[0] for label in model.spin.baseline.labels])
    theta.assign(np.where(kinds == "exchange", before[0], 0.0))
    last.assign(np.zeros(last.shape))
    yield whole[0]
    theta.assign(before[0])
    last.assign(before[1])


def test_of_pairs_alone_they_are_forces(pairs_alone):
    """J'(r) along the bond: half of what forces of a dimer differ by."""
    potential, cell = pairs_alone, two_nickels()
    found = exchange_derivatives(potential, cell, 1)
    own = (found.first == 1) & ~found.first_shift.any(axis=1)
    assert own.all() and len(found) == 4
    e, m = np.eye(3)[2], np.linalg.norm(cell.spin, axis=1)
    for j, vector, slope in zip(
        found.second, found.vector, found.exchange, strict=True
    ):
        assert np.linalg.norm(slope) > 1e-5
        force = [
            potential.eval(
                np.stack([vector, np.zeros(3)]),
                None,
                [0, 0],
                np.stack([sign * m[j] * e, m[1] * e]),
            )["force"][0, 1]
            for sign in (1, -1)
        ]
        expected = (force[0] - force[1]) / 2
        np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-7)
    assert (np.diff(np.linalg.norm(found.exchange, axis=1)) <= 0).all()


def test_nothing_changes_as_all_atoms_move(whole):
    """Of each pair, the sum over all atoms of the crystal."""
    _, _, every = whole
    total, largest = defaultdict(lambda: np.zeros(3)), 0.0
    for found in every:
        largest = max(largest, np.abs(found.exchange).max())
        for i, j, one, two, slope in zip(
            found.first,
            found.second,
            found.first_shift,
            found.second_shift,
            found.exchange,
            strict=True,
        ):
            key = min((i, j, *(two - one)), (j, i, *(one - two)))
            total[key] += slope
    assert len(total) > 6 and largest > 1e-4
    rest = max(np.abs(t).max() for t in total.values())
    assert rest < max(found.error.max() for found in every)
    assert rest < 1e-6 * largest


def test_summed_over_cells_they_are_those_of_the_sublattice(whole):
    """The atom and all its images move: differences of the exchange of such cells."""
    potential, cell, every = whole
    (found, step), axis, atom = (every[1], 2e-3), 0, 1
    total = defaultdict(float)
    for i, j, one, two, slope in zip(
        found.first,
        found.second,
        found.first_shift,
        found.second_shift,
        found.exchange[:, axis],
        strict=True,
    ):
        total[(i, j, *(two - one))] += slope
        total[(j, i, *(one - two))] += slope
    ends = []
    for sign in (-2, -1, 1, 2):
        coord = cell.coord.copy()
        coord[atom, axis] += sign * step
        h = exchange(potential, replace(cell, coord=coord)).hamiltonian
        keys = np.column_stack([h.pairs.first, h.pairs.second, h.pairs.shift]).tolist()
        ends.append(dict(zip(map(tuple, keys), h.exchange.tolist(), strict=True)))
    assert set(total) <= set(ends[0]) | set(ends[1]) | set(ends[3])
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    for key in set(ends[1]) | set(total):
        slope = sum(w * end.get(key, 0.0) for w, end in zip(weights, ends, strict=True))
        assert total[key] == pytest.approx(slope, abs=2e-9 + 1e-5 * abs(slope))


def test_tensors_of_a_molecule_are_curvatures_of_its_forces():
    """-d2F/dS dS by differences, of a model that has more than J."""
    potential = deepspin.DeepSpin(build("NiO", neuron=(4, 8), fit_neuron=(8, 8)))
    rng = np.random.default_rng(2)
    coord = 1.9 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.2], [1, 1, 0], [0.1, 0, 1]])
    spin = 1.2 * rng.normal(size=(5, 3)) / 3**0.5
    atype = np.array([0, 1, 0, 1, 1])
    spin[atype == 1] = 0
    molecule = structure(atype, coord, spin, names=("Ni", "O"))
    atom, step = 1, 2e-3
    found = exchange_derivatives(potential, molecule, atom, orientations=1)
    assert len(found) == 1
    frame = across(spin[[0, 2]] / np.linalg.norm(spin[[0, 2]], axis=1)[:, None])
    moved = []
    for x in range(2):
        for y in range(2):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                new = spin.copy()
                new[0] += a * step * frame[0, x]
                new[2] += b * step * frame[1, y]
                moved.append(new)
    n = len(moved)
    force = potential.eval(np.tile(coord, (n, 1, 1)), None, atype, np.array(moved))
    force = force["force"][:, atom].reshape(2, 2, 4, 3)
    # J = -d2E/de de, F = -dE/du
    moduli = np.linalg.norm(spin[0]) * np.linalg.norm(spin[2])
    signs = np.array([1, -1, -1, 1]) / (4 * step**2)
    expected = moduli * np.einsum("xyks,k->sxy", force, signs)
    order = [0, 1] if found.first[0] == 0 else [1, 0]
    tensor = found.tensor[0] if order[0] == 0 else found.tensor[0].transpose(0, 2, 1)
    inside = np.einsum("xa,sab,yb->sxy", frame[0], tensor, frame[1])
    scale = np.abs(expected).max()
    assert scale > 1e-5
    np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-4 * scale)


def test_errors_are_told(whole):
    """Coarse steps are wrong by no more than they say."""
    potential, cell, every = whole
    fine = every[0]
    coarse = exchange_derivatives(
        potential, cell, 0, within=2 * potential.rcut, step=0.05
    )

    def by_pair(found):
        rows = np.column_stack(
            [found.first, found.second, found.first_shift, found.second_shift]
        )
        return {tuple(r): k for k, r in enumerate(rows.tolist())}

    one, two = by_pair(fine), by_pair(coarse)
    common = sorted(set(one) & set(two))
    assert len(common) > 12
    ours, theirs = [one[k] for k in common], [two[k] for k in common]
    wrong = np.abs(fine.exchange[ours] - coarse.exchange[theirs]).max()
    assert 0 < wrong < coarse.error.max()
    assert 10 * fine.error.max() < coarse.error.max()


def test_within_leaves_out_what_is_further_away(whole):
    potential, cell, every = whole
    near = exchange_derivatives(potential, cell, 0, within=3.0)
    assert 0 < len(near) < len(every[0])
    place = cell.coord[near.first] + near.first_shift @ cell.box - cell.coord[0]
    assert np.linalg.norm(place, axis=1).max() < 3.001
    assert np.abs(near.exchange).max() == pytest.approx(np.abs(every[0].exchange).max())


def test_of_no_use(whole):
    potential, cell, _ = whole
    with pytest.raises(InputError, match=r"from 0 to 1\. Received: 2"):
        exchange_derivatives(potential, cell, 2)
    with pytest.raises(InputError, match="`step` must be"):
        exchange_derivatives(potential, cell, 0, step=0.0)
    with pytest.raises(InputError, match="1 or 3"):
        exchange_derivatives(potential, cell, 0, orientations=2)
    with pytest.raises(InputError, match="no atoms with spin within 1 Å"):
        names = deepspin.DeepSpin(invariant_models.build("NiO"))
        oxide = structure(
            [1, 0], [[0, 0, 0], [2, 0, 0]], [[0, 0, 0], [0, 0, 1]], names=("Ni", "O")
        )
        exchange_derivatives(names, oxide, 0, within=1.0)
