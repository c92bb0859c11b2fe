# SPDX-License-Identifier: Apache-2.0
"""What stops a run of dynamics."""

from types import SimpleNamespace

import numpy as np
import pytest
from hamiltonians import free

from deepspin.dynamics.core.baths import Gilbert
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import DynamicsError, State, thermal_velocity
from deepspin.dynamics.md.guard import Guard
from deepspin.dynamics.md.options import normalize_md
from deepspin.dynamics.md.output import Frame
from deepspin.dynamics.md.settings import MdSettings


def guard(bath=None, dropped=0, **changes):
    given = {
        "model": "m.keras",
        "structure": {"file": "s.extxyz"},
        "ensemble": {"type": "nve"},
        "temperature": 300.0,
        "timestep": 0.5,
        "steps": 1,
        "seed": 1,
    }
    setup = MdSettings.of(normalize_md(given | changes)).setup
    integrator = Integrator(free, 0.5, spin_bath=bath)
    return Guard(setup, integrator, SimpleNamespace(dropped=dropped))


def state(nloc=50):
    coord = np.zeros((2, nloc, 3))
    mass, atype = np.full(nloc, 50.0), np.zeros(nloc, int)
    return State(coord=coord, spin=coord + 1, mass=mass, atype=atype)


def frame(energy=0.0, kelvin=0.0):
    here = state()
    here.velocity = thermal_velocity(here, kelvin)
    energy = np.array([0.0, energy])
    return Frame(here, Response(energy, here.coord, here.coord), 1)


def test_good_frames_pass():
    one = guard()
    one.look(frame(kelvin=300.0))
    one.look(frame(energy=0.5, kelvin=300.0))
    one.follow(state(), state())


def test_steps_too_large():
    after = state()
    after.coord[1, 7] = [0, 0.3, 0]
    with pytest.raises(DynamicsError, match=r"atom 7 of replica 1 moves by 0\.3 Å"):
        guard().follow(state(), after)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"energy": 1.1}, r"energy of replica 1 has changed by 0\.022 eV/atom"),
        ({"energy": np.nan}, "energies are no longer finite"),
        ({"kelvin": 5000.0}, "3000 K is the most that can be meant"),
    ],
)
def test_bad_frames(bad, message):
    one = guard()
    one.look(frame())
    with pytest.raises(DynamicsError, match=rf"Step 0: .*{message}.* such as 0\.25 fs"):
        one.look(frame(**bad))


def test_baths_and_fields_do_work():
    """Energy is conserved neither in baths nor in fields that alternate."""
    for one in (
        guard(Gilbert(300.0, 0.1)),
        guard(field=[0, 0, 1.0], field_frequency=1.0),
    ):
        one.look(frame())
        one.look(frame(energy=5.0))


def test_the_hottest_that_is_asked_for():
    assert guard().hot == 3000
    assert guard(temperature=1.0).hot == 3000
    assert guard(initial_temperature=[500.0]).hot == 5000
    warm = {"type": "langevin", "spin_temperature": 700.0}
    assert guard(ensemble=warm).hot == 7000


def test_neighbors_left_out():
    """Refused where energy should be conserved."""
    guard(Gilbert(300.0, 0.1), dropped=3).look(frame())
    with pytest.raises(DynamicsError, match="The model's `sel` leaves 3 neighbours"):
        guard(dropped=3).look(frame())
    with pytest.raises(DynamicsError, match="Step 0: the model's `sel` leaves 3"):
        guard(dropped=3).follow(state(), state())
