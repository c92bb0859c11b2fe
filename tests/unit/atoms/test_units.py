# SPDX-License-Identifier: Apache-2.0
"""Units against ASE's, which has them from CODATA 2014, and elements."""

from __future__ import annotations

import ase.data
import ase.units
import pytest

from deepspin.atoms import units

BOHR = ase.units._hbar * ase.units._e / (2 * ase.units._me)  # J/T


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (units.K_B, ase.units.kB),
        (units.HBAR, ase.units._hbar * ase.units.J * 1e15),
        (
            units.MU_B,
            ase.units._hbar * ase.units._e / (2 * ase.units._me) * ase.units.J,
        ),
        # with lengths in Å and times in fs
        (units.AMU, 1 / ase.units.fs**2),
        # the electron's, with g = 2
        (units.PRECESSION * units.MU_B, ase.units._e / ase.units._me * 1e-15),
    ],
    ids=["k_B", "hbar", "mu_B", "amu", "precession"],
)
def test_constants(ours, theirs):
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_masses():
    """Of all elements up to uranium that have a standard weight."""
    for number, symbol in enumerate(ase.data.chemical_symbols[1:93], start=1):
        if symbol in {"Tc", "Pm", "Po", "At", "Rn", "Fr", "Ra", "Ac"}:
            assert symbol not in units.MASSES
        else:
            mass = ase.data.atomic_masses[number]
            assert units.MASSES[symbol] == pytest.approx(mass, rel=1e-3)
