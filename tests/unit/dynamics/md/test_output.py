# SPDX-License-Identifier: Apache-2.0
"""What a run measures, and its log."""

import numpy as np
import pytest
from hamiltonians import in_field

from deepspin.atoms import units
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.output import Frame, Log, Observer

FIELDS = in_field([0, 0, 50.0])


def frame(step=0):
    spin = np.array([[[0, 0, 1.0], [0, 0, -2.0], [0, 0, 0]], [[1.0, 0, 0]] * 3])
    state = State(
        coord=np.zeros((2, 3, 3)),
        spin=spin,
        spin_velocity=np.full((2, 3, 3), 0.01),
        mass=[50.0] * 3,
        atype=[0] * 3,
        step=step,
        time=500.0,
    )
    state.velocity[0] = 0.01
    return Frame(state, FIELDS(state.coord, spin), 4)


def test_measured():
    """In the units of the columns; moments and order are those of all spins."""
    signs = np.array([[1.0, -1.0, 0.0]])
    found = Observer(signs, None, FIELDS).measure(frame(7))
    assert found["step"].tolist() == [7, 7] and found["time"].tolist() == [0.5, 0.5]
    assert found["evaluations"].tolist() == [4, 4]
    kinetic = 3 * 50 * units.AMU / 2 * 3e-4
    np.testing.assert_allclose(found["e_kin"], [kinetic, 0])
    np.testing.assert_allclose(found["e_total"], found["e_pot"] + found["e_kin"])
    np.testing.assert_allclose(found["m"], [1 / 2, 3 / 2])
    np.testing.assert_allclose(found["order"], [1, 0], atol=1e-15)
    assert "modulus" not in found
    assert np.isnan(Observer(None, None, FIELDS).measure(frame())["order"]).all()


def test_order_of_several_waves():
    """The root of the sum of squares over all waves of a star."""
    one, other = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]])
    found = Observer(np.stack([one, other]), None, FIELDS).measure(frame())["order"]
    np.testing.assert_allclose(found, [1, 1], atol=1e-15)
    found = Observer(other[None], None, FIELDS).measure(frame())["order"]
    np.testing.assert_allclose(found, [0, 1], atol=1e-15)


def test_measured_with_inertia():
    mass = np.array([100.0, 100.0, 0.0])
    found = Observer(None, mass, FIELDS).measure(frame())
    energy = 200 * 3e-4 / 2
    np.testing.assert_allclose(found["e_spin"], [energy, energy])
    total = found["e_pot"] + found["e_kin"] + energy
    np.testing.assert_allclose(found["e_total"], total)
    np.testing.assert_allclose(found["t_spin"], 2 * energy / (6 * units.K_B))
    np.testing.assert_allclose(found["modulus"], [3 / 2, 3 / 2])


@pytest.mark.parametrize("torn", [0, 5])
def test_log_goes_on(tmp_path, torn):
    """It keeps the lines up to a step; a torn last line goes."""
    path = tmp_path / "md.log"
    log = Log(str(path), Observer(None, None, FIELDS))
    log.begin(None)
    for step in (0, 1, 2):
        log.write(frame(step))
    text = path.read_text()
    assert text.split()[:3] == ["#", "step", "replica"]
    assert len(text.splitlines()) == 2 + 3 * 2
    path.write_text(text[: len(text) - torn])
    log.begin(1)
    assert np.loadtxt(path)[:, 0].tolist() == [0, 0, 1, 1]
    log.begin(2)
    assert np.loadtxt(path)[:, 0].tolist() == [0, 0, 1, 1]
    path.write_text("# other columns\n0 1\n")
    log.begin(1)
    assert path.read_text() == "".join(text.splitlines(keepends=True)[:2])
