# SPDX-License-Identifier: Apache-2.0
"""A ladder of temperatures from exchange."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spin_models import CHAIN, CUBE, lattice

from deepspin.analysis import temperatures
from deepspin.analysis.hamiltonian import Exchange
from deepspin.analysis.ordering import ordering
from deepspin.analysis.temperatures import EXPECTED, HIGHEST, LOWEST, MOST, ladder
from deepspin.utils.refused import InputError

pytestmark = pytest.mark.any_version


def give(monkeypatch, hamiltonian):
    """Have exchange find this."""
    found = Exchange(
        hamiltonian=hamiltonian,
        curvature=hamiltonian.curvature(),
        modulus_force=np.zeros(1),
    )
    monkeypatch.setattr(temperatures, "exchange", lambda *_, **__: found)
    monkeypatch.setattr(temperatures, "primitive", lambda structure: structure)


def test_ladder_spans_the_transition(monkeypatch):
    h = lattice(CUBE, 0.01)
    give(monkeypatch, h)
    middle = ordering(h).rpa
    found = ladder(None, None, 0, 27)
    assert found[0] == pytest.approx(LOWEST * middle, abs=0.06)
    assert found[-1] == pytest.approx(HIGHEST * middle, abs=0.06)
    ratio = np.array(found[1:]) / found[:-1]
    assert ratio.max() - 1 < 1 / np.sqrt(2 * 27)
    assert 1.44 / 1.319 * middle < found[-1]  # the exact temperature is inside
    many = ladder(None, None, 4000, 2000)
    assert len(many) == MOST
    assert many[0] < EXPECTED * middle < many[-1]
    step = 1 / np.sqrt(1.5 * 4000 + 2 * 2000)
    assert many[1] / many[0] == pytest.approx(1 + step, rel=2e-3)


def test_a_chain_has_no_ladder(monkeypatch):
    give(monkeypatch, replace(lattice(CHAIN, 0.01)))
    with pytest.raises(InputError, match="tells none"):
        ladder(None, None, 0, 10)
