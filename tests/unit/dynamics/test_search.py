# SPDX-License-Identifier: Apache-2.0
"""What may change in a relaxation, and where it starts, as users say it."""

from dataclasses import replace

import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.dynamics.relax.search import Changes, Plan, _starts
from deepspin.utils.refused import InputError


@pytest.fixture
def atoms():
    rng = np.random.default_rng(0)
    spin = rng.normal(size=(5, 3))
    spin[3:] = 0.0
    return Structure(
        names=("Ni", "O"),
        atype=np.array([0, 0, 0, 1, 1]),
        coord=rng.uniform(0, 4, (5, 3)),
        box=4.0 * np.eye(3),
        pbc=np.ones(3, bool),
        spin=spin,
        mass=np.ones(5),
        fixed=np.arange(5) == 4,
    )


@pytest.mark.parametrize(
    ("words", "stay"),
    [
        ((), []),
        (("0",), [0]),
        (("1-3",), [1, 2, 3]),
        (("2-2", "0"), [0, 2]),
        (("Ni",), [0, 1, 2]),
        (("O", "1"), [1, 3, 4]),
        (("all",), [0, 1, 2, 3, 4]),
    ],
)
def test_atoms_by_words(atoms, words, stay):
    """What the structure holds fast stays so."""
    free = Changes(fix_atoms=words, fix_spins=words).freedom(atoms)
    assert np.flatnonzero(~free.positions).tolist() == sorted({*stay, 4})
    assert np.flatnonzero(~free.directions).tolist() == stay


@pytest.mark.parametrize("word", ["5", "3-5", "-1", "Fe", "1-", "x"])
def test_unknown_atoms(atoms, word):
    with pytest.raises(InputError, match=r"--fix-spins takes numbers from 0 to 4.*O\)"):
        Changes(fix_spins=[word]).freedom(atoms)


@pytest.mark.parametrize(
    ("spins", "directions", "moduli"),
    [
        ("directions", True, False),
        ("moduli", True, True),
        ("collinear", False, True),
        ("fixed", False, False),
    ],
)
def test_what_of_the_spins(atoms, spins, directions, moduli):
    free = Changes(spins=spins, fix_spins=["0"]).freedom(atoms)
    rest = np.arange(5) > 0
    np.testing.assert_array_equal(free.directions, rest & directions)
    np.testing.assert_array_equal(free.moduli, rest & moduli)
    assert not free.cell


def test_cells_that_may_not_change(atoms):
    slab = replace(atoms, pbc=np.array([True, True, False]))
    with pytest.raises(InputError, match=r"three directions\. Received: T T F"):
        Changes(cell=True).freedom(slab)
    assert Changes(cell=True).freedom(atoms).cell


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": (0, 0, 1)}, "goes with --spins collinear. Received: 0 0 1 with"),
        ({"axis": (0, 0, 0), "spins": "collinear"}, "not all 0"),
        ({"pressure": 2.0}, "goes with --cell. Received: 2 without --cell"),
        ({"pressure": np.inf, "cell": True}, "Received: inf with --cell"),
    ],
)
def test_changes_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        Changes(**options)


@pytest.mark.parametrize("option", ["fmax", "tmax", "smax"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_limits(option, value):
    with pytest.raises(InputError, match="--fmax, --tmax and --smax must be above 0"):
        Plan(**{option: value})
    limits = Plan(fmax=1.0, tmax=2.0, smax=3.0).limits
    assert (limits.force, limits.force_mag, limits.stress) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "options", [{"starts": 0}, {"steps": -1}, {"seed": -1}], ids=lambda o: next(iter(o))
)
def test_plans_that_make_no_sense(options):
    with pytest.raises(InputError, match="--starts must be 1 or more, --steps and"):
        Plan(**options)


def test_starts(atoms):
    """The first is the structure's; fixed spins are those of all."""
    free = Changes(fix_spins=["1"]).freedom(atoms)
    found = _starts(atoms, Plan(starts=4, seed=1), False, free)
    np.testing.assert_array_equal(found[0], atoms.spin)
    np.testing.assert_array_equal(found[:, 1], np.tile(atoms.spin[1], (4, 1)))
    assert (found[1:, [0, 2]] != atoms.spin[[0, 2]]).any(axis=2).all()


def test_collinear_starts(atoms):
    """Each spin stays on its line."""
    changes = Changes(spins="collinear")
    found = _starts(atoms, Plan(starts=6), True, changes.freedom(atoms))
    np.testing.assert_allclose(np.cross(found, atoms.spin), 0.0, atol=1e-14)
    assert ((found * atoms.spin).sum(axis=2) < 0).any()


def test_nothing_to_start_from(atoms):
    free = Changes(fix_spins=["Ni"]).freedom(atoms)
    with pytest.raises(InputError, match="--starts needs spins that may change"):
        _starts(atoms, Plan(starts=2), False, free)
