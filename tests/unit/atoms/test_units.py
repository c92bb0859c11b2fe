# SPDX-License-Identifier: Apache-2.0
"""Units and masses against other tables."""

import numpy as np
import pytest

from deepspin.atoms import units


def test_units():
    """From the constants in SI units."""
    charge = 1.602176634e-19
    found = [units.K_B, units.HBAR, units.MU_B, units.AMU, units.PRECESSION]
    hbar = 1.054571817e-34 / charge * 1e15
    want = [
        1.380649e-23 / charge,
        hbar,
        9.2740100783e-24 / charge,
        1.66053906660e-27 * (1e-10 / 1e-15) ** 2 / charge,
        2 / hbar,
    ]
    np.testing.assert_allclose(found, want, rtol=1e-9)


def test_masses():
    from ase.data import atomic_masses, atomic_numbers

    for name, mass in units.MASSES.items():
        known = atomic_masses[atomic_numbers[name]]
        assert mass == pytest.approx(known, rel=1e-3), name
