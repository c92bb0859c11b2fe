# SPDX-License-Identifier: Apache-2.0
"""Exchange of models: against differences of their fields in supercells."""

from __future__ import annotations

from dataclasses import replace

import invariant_models
import numpy as np
import pytest
from conftest import LATTICE, RCUT, build

import deepspin
from deepspin.analysis.beyond import across_spins, beyond
from deepspin.analysis.cells import primitive
from deepspin.analysis.exchange import exchange, mean
from deepspin.analysis.files import Saved, load_exchange, save_exchange
from deepspin.analysis.hamiltonian import across
from deepspin.analysis.magnons import magnons
from deepspin.atoms.structures import Structure
from deepspin.atoms.waves import repeated
from deepspin.data.files import DataError
from deepspin.utils.refused import InputError


def nickel_oxide(seed=0, disorder=0.0, axis=(1, 1, -2)) -> Structure:
    """The magnetic cell of type II, atoms and spins displaced if asked."""
    rng = np.random.default_rng(seed)
    half = LATTICE / 2
    coord = half * np.array([[0, 0, 0], [2, 2, 2], [1, 1, 1], [3, 3, 3.0]])
    e = np.array(axis) / np.linalg.norm(axis)
    spin = 1.25 * np.outer([1, -1, 0, 0], e)
    spin[:2] += disorder * 5 * rng.normal(size=(2, 3))
    return Structure(
        names=("Ni", "O"),
        atype=np.array([0, 0, 1, 1]),
        coord=coord + disorder * rng.normal(size=(4, 3)),
        box=half * np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2.0]]),
        pbc=np.ones(3, dtype=bool),
        spin=spin,
        mass=np.ones(4),
        fixed=np.zeros(4, dtype=bool),
    )


@pytest.fixture(scope="module")
def potentials():
    return {
        "ener_spin": deepspin.DeepSpin(build("NiO", neuron=(4, 8), fit_neuron=(8, 8))),
        "invariant": deepspin.DeepSpin(invariant_models.build("NiO")),
        "stable": deepspin.DeepSpin(invariant_models.build("NiO", seed=3)),
    }


@pytest.mark.parametrize("scheme", ["ener_spin", "invariant"])
def test_couplings_are_slopes_of_fields(potentials, scheme):
    """In a supercell that holds each pair once, by central differences."""
    potential, cell = potentials[scheme], nickel_oxide(disorder=0.03)
    found = exchange(potential, cell, orientations=1)
    h, curvature = found.hamiltonian, found.curvature
    times = (6, 6, 6)
    width = 1 / np.linalg.norm(np.linalg.inv(cell.box), axis=0)
    reach = 0.4 * 1.4 / 1.2737  # of virtual atoms
    assert (width * times > 4 * (RCUT + reach)).all()
    large = repeated(cell, times)[0]
    step, site = 2e-5, 1
    moved = np.tile(large.spin, (6, 1, 1))
    for axis in range(3):
        moved[2 * axis, site, axis] += step
        moved[2 * axis + 1, site, axis] -= step
    field = potential.eval(
        np.tile(large.coord, (6, 1, 1)),
        np.tile(large.box, (6, 1, 1)),
        large.atype,
        moved,
    )["force_mag"]
    slope = np.stack([field[2 * a] - field[2 * a + 1] for a in range(3)]) / (2 * step)
    moment = h.sites.moment
    cells = np.array(list(np.ndindex(*times)))
    place = {tuple(c): k for k, c in enumerate(cells.tolist())}
    scale = np.abs(curvature.block).max()
    assert scale > 1e-5
    seen = np.zeros(large.nloc, dtype=bool)
    for k in np.flatnonzero(curvature.pairs.first == site):
        j = curvature.pairs.second[k]
        atom = 4 * place[tuple((curvature.pairs.shift[k] % 6).tolist())] + j
        seen[atom] = True
        expected = -slope[:, atom] * moment[site] * moment[j]
        np.testing.assert_allclose(
            curvature.block[k], expected, rtol=0, atol=2e-6 * scale
        )
    # beyond these pairs, nothing turns
    rest = np.abs(slope[:, ~seen]).max(axis=(0, 2))
    rest = np.delete(rest, np.flatnonzero(np.flatnonzero(~seen) == site))
    assert rest.max() < 2e-6 * scale


@pytest.mark.any_version
@pytest.mark.parametrize("scheme", ["ener_spin", "invariant"])
def test_rotations_of_the_whole_cell_cost_what_the_energy_says(potentials, scheme):
    """K at q = 0 against differences of the energy of the periodic cell."""
    potential, cell = potentials[scheme], nickel_oxide(disorder=0.03)
    curvature = exchange(potential, cell, orientations=1).curvature
    frame, moment = across(curvature.sites.direction), curvature.sites.moment
    step = 2e-3
    moves = []
    for i in range(4):
        for j in range(4):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moves.append(a * np.eye(4)[i] + b * np.eye(4)[j])
    spin = np.zeros((len(moves), 4, 3))
    e = curvature.sites.direction + step * np.einsum(
        "fix,ixa->fia", np.reshape(moves, (-1, 2, 2)), frame
    )
    e /= np.linalg.norm(e, axis=2, keepdims=True)
    spin[:, :2] = e * moment[:, None]
    count = len(moves)
    energy = potential.eval(
        np.tile(cell.coord, (count, 1, 1)),
        np.tile(cell.box, (count, 1, 1)),
        cell.atype,
        spin,
    )["energy"].reshape(4, 4, 4)
    slope = (energy @ [1, -1, -1, 1]) / (4 * step**2)
    found = curvature.fourier(np.zeros((1, 3)))[0].real.reshape(4, 4)
    np.testing.assert_allclose(found, slope, atol=2e-4 * np.abs(found).max())


@pytest.mark.any_version
def test_a_model_that_turns_freely_has_goldstone_modes(potentials):
    found = exchange(potentials["invariant"], nickel_oxide())
    assert found.largest_torque < 1e-12
    energy = magnons(found.curvature, np.zeros((1, 3))).energy
    width = np.abs(magnons(found.curvature, np.full((1, 3), 0.3)).energy).max()
    assert np.abs(energy).max() < 1e-4 * width
    assert np.abs(found.hamiltonian.dmi).max() == 0
    assert np.abs(found.hamiltonian.anisotropy).max() == 0
    # the fitted couplings have the same waves as the model
    q = np.array([[0.1, 0.2, 0.3], [0.5, 0, 0]])
    one, two = (magnons(c, q) for c in (found.curvature, found.hamiltonian.curvature()))
    np.testing.assert_allclose(one.energy, two.energy, rtol=1e-6)


@pytest.mark.any_version
def test_cells_do_not_matter(potentials):
    cell = nickel_oxide()
    large = repeated(cell, (2, 1, 1))[0]
    one, two = (exchange(potentials["invariant"], c) for c in (cell, large))
    for small, big in zip(
        one.hamiltonian.shells(), two.hamiltonian.shells(), strict=True
    ):
        assert big.number == small.number
        assert big.exchange == pytest.approx(small.exchange, rel=1e-9, abs=1e-14)
    assert primitive(large).nloc == 4
    shifted = replace(
        large, spin=np.where(np.arange(8)[:, None] == 4, -1, 1) * large.spin
    )
    assert primitive(shifted).nloc == 8


@pytest.mark.any_version
def test_three_orientations_tell_all_components(potentials):
    """The tensor's parts that one state sees are those of the other states' fit."""
    potential, cell = potentials["ener_spin"], nickel_oxide()
    one = exchange(potential, cell, orientations=1)
    three = exchange(potential, cell)
    h = three.hamiltonian
    assert np.abs(h.dmi).max() > 0
    assert h.anisotropy.shape == (2, 3, 3)
    np.testing.assert_allclose(np.trace(h.anisotropy, axis1=1, axis2=2), 0, atol=1e-15)
    # one state knows D along its axis only
    e = one.hamiltonian.sites.direction[0]
    aside = across_spins(one.hamiltonian.dmi, e)
    assert np.abs(aside).max() < 1e-9 * np.abs(one.hamiltonian.dmi).max() + 1e-15
    np.testing.assert_array_equal(one.curvature.block, three.curvature.block)


@pytest.mark.any_version
def test_moduli_follow(potentials):
    """In a canted state, against the energy with moduli at their minimum."""
    cell = nickel_oxide(disorder=0.03)
    with pytest.raises(InputError, match="no minimum"):
        exchange(potentials["invariant"], cell, relax_moduli=True)
    potential = potentials["stable"]
    fixed = exchange(potential, cell)
    follow = exchange(potential, cell, relax_moduli=True)
    q = np.zeros((1, 3))
    stiff, soft = (
        x.curvature.fourier(q)[0].real.reshape(4, 4) for x in (fixed, follow)
    )
    # they can only soften it
    assert np.linalg.eigvalsh(stiff - soft).min() > -1e-9
    assert np.abs(stiff - soft).max() > 1e-9


@pytest.mark.any_version
def test_means_and_files(potentials, tmp_path):
    cells = [nickel_oxide(seed, 0.01) for seed in (0, 1)]
    samples = [exchange(potentials["invariant"], cell) for cell in cells]
    found = mean(samples)
    sums = [s.hamiltonian.exchange.sum() for s in samples]
    assert found.hamiltonian.exchange.sum() == pytest.approx(np.mean(sums), rel=1e-12)
    assert mean(samples[:1]) is samples[0]
    path = tmp_path / "x.json"
    save_exchange(path, Saved(exchange=found, cell=cells[0].box, models=("a",)))
    again = load_exchange(path)
    np.testing.assert_array_equal(
        again.exchange.hamiltonian.tensor, found.hamiltonian.tensor
    )
    np.testing.assert_array_equal(again.exchange.curvature.block, found.curvature.block)
    np.testing.assert_array_equal(again.cell, cells[0].box)
    text = path.read_text()
    for bad in (
        text[: len(text) // 2],
        text.replace("exchange 1", "exchange 9"),
        text.replace('"second": [', '"second": [7, '),
        "[]",
        "{}",
    ):
        path.write_text(bad)
        with pytest.raises(DataError, match="no whole file"):
            load_exchange(path)
    with pytest.raises(FileNotFoundError, match="dp-spin exchange"):
        load_exchange(tmp_path / "none.json")


@pytest.mark.any_version
def test_what_is_beyond_is_fitted(potentials):
    potential, cell = potentials["invariant"], nickel_oxide()
    found = exchange(potential, cell)
    left = beyond(potential, cell, found.hamiltonian, states=24)
    for which in (left.energy, left.field):
        assert which["derivatives"] < which["labels"]
        assert which["three-site"] < which["derivatives"]


@pytest.mark.any_version
def test_terms_beyond_are_found_where_they_are(potentials):
    """A Hamiltonian of the terms themselves, in place of a model."""
    potential, cell = potentials["invariant"], nickel_oxide()
    h = exchange(potential, cell).hamiltonian
    shells = [s for s in h.shells() if abs(s.exchange) > 1e-9][:2]

    class Exact:
        """Energy with J, B and Y of two shells; fields by differences."""

        numbers = np.array([[0.02, -0.01], [0.003, 0.001], [0.0005, -0.002]])

        def is_magnetic(self, atype):
            return potential.is_magnetic(atype)

        def energies(self, large, e):
            from deepspin.analysis.beyond import _features, _supercell

            whole = _supercell(cell, h)[1]
            parts = [_features(whole, h, s, e)[0] for s in shells]
            return np.einsum("ks,skf->f", self.numbers, np.array(parts))

        def eval(self, coord, box, atype, spin, **_):
            magnetic = self.is_magnetic(atype)
            e = spin[:, magnetic] / 1.25
            force_mag, step = np.zeros_like(spin), 1e-5
            for i, atom in enumerate(np.flatnonzero(magnetic)):
                for a in range(3):
                    up, down = e.copy(), e.copy()
                    up[:, i, a] += step
                    down[:, i, a] -= step
                    slope = self.energies(None, up) - self.energies(None, down)
                    force_mag[:, atom, a] = -slope / (2 * step) / 1.25
            return {"energy": self.energies(None, e), "force_mag": force_mag}

    exact = Exact()
    tensor = np.zeros_like(h.tensor)
    for shell in shells:  # those of parallel and antiparallel spins alike
        tensor[shell.members] = shell.exchange * np.eye(3)
    left = beyond(exact, cell, replace(h, tensor=tensor), states=16)
    assert [round(s.distance, 6) for s in left.shells] == [
        round(s.distance, 6) for s in shells
    ]
    for row, name in zip(exact.numbers, "JBY", strict=True):
        np.testing.assert_allclose(left.terms[name], row, atol=1e-8)
    assert left.field["three-site"] < 1e-8 < left.field["biquadratic"]


@pytest.mark.any_version
def test_structures_of_no_use(potentials):
    cell = nickel_oxide()
    oxygen = replace(
        cell,
        atype=np.array([1, 1]),
        coord=cell.coord[2:],
        spin=None,
        mass=cell.mass[2:],
    )
    with pytest.raises(InputError, match="no atoms with spin"):
        exchange(potentials["invariant"], oxygen)
    with pytest.raises(InputError, match="1 or 3"):
        exchange(potentials["invariant"], cell, orientations=2)
    with pytest.raises(DataError, match="no spins"):
        exchange(potentials["invariant"], replace(cell, spin=None))
