# SPDX-License-Identifier: Apache-2.0
"""Programs that read a spin Hamiltonian themselves find the energies that it has.

Each is optional. ``pip install spirit magnopy`` gives two of them; TB2J needs more.
"""

from __future__ import annotations

import numpy as np
import pytest
from spin_hamiltonians import hamiltonian, units

from deepspin.analysis.exports.bonds import axes
from deepspin.analysis.exports.programs import write_exports

OPTIONAL = "an optional package that is not installed"


@pytest.mark.parametrize("onsite", [None, "uniaxial", "biaxial"])
def test_spirit(tmp_path, monkeypatch, onsite):
    """Spirit's own energies of each spin, which it writes with 12 digits in meV."""
    state = pytest.importorskip("spirit.state", reason=OPTIONAL)
    from spirit import geometry, io, system

    h = hamiltonian(symmetric=False, onsite=onsite)
    write_exports(["spirit"], tmp_path, h)
    monkeypatch.chdir(tmp_path / "spirit")
    with state.State("input.cfg", quiet=True) as spirit:
        repeat = geometry.get_n_cells(spirit)
        place = np.array(geometry.get_positions(spirit))
        directions = system.get_spin_directions(spirit)
        directions[:] = e = units(np.random.default_rng(5), len(place))
        system.update_data(spirit)
        io.image_write_energy_per_spin(spirit, "energy.ovf")
    found = np.loadtxt("energy.ovf", comments="#")[:, 0].sum() * 1e-3
    big = h.repeated(repeat)
    apart = (big.sites.coord[:, None] - place) @ np.linalg.inv(big.sites.box)
    site = np.abs(apart - apart.round()).max(axis=2).argmin(axis=1)
    assert sorted(site) == list(range(big.sites.n))
    constant = axes(h.anisotropy)[2].sum() * np.prod(repeat)
    assert found + constant == pytest.approx(big.energy(e[site]), rel=1e-10)


# it does not close the file
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_magnopy(tmp_path):
    """Magnopy reads TB2J's ``exchange.out``, all but on-site anisotropy."""
    magnopy = pytest.importorskip("magnopy", reason=OPTIONAL)
    h = hamiltonian(onsite=None)
    write_exports(["tb2j"], tmp_path, h)
    read = magnopy.io.load_tb2j(str(tmp_path / "tb2j" / "exchange.out"))
    energy = magnopy.Energy(read)
    for e in units(np.random.default_rng(5), 3, 2):
        assert energy(e) * 1e-3 == pytest.approx(h.energy(e), rel=1e-10)


def test_tb2j(tmp_path):
    """TB2J's own terms: those of pairs as -e H e, of sites as e H e / 2."""
    tb2j = pytest.importorskip("TB2J.spinham.hamiltonian", reason=OPTIONAL)
    h = hamiltonian()
    write_exports(["tb2j"], tmp_path, h)
    read = tb2j.read_spin_ham_from_file(str(tmp_path / "tb2j" / "exchange.xml"))
    terms = read.hamiltonians
    assert set(terms) == {"exchange", "DMI", "Bilinear", "SIATensor"}
    joule = pytest.importorskip("ase.units").J
    for e in units(np.random.default_rng(5), 3, 2):
        x = e.ravel()
        energies = {name: x @ (term.hessian() @ x) for name, term in terms.items()}
        sites = energies.pop("SIATensor") / 2
        found = (sites - sum(energies.values())) * joule
        assert found == pytest.approx(h.energy(e), rel=1e-10)
