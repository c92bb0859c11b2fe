# SPDX-License-Identifier: Apache-2.0
"""Words on numbers of neighbours."""

import numpy as np
import pytest

from deepspin.spins.virtual import VirtualAtoms
from deepspin.survey.neighbors import report
from deepspin.survey.statistics import NeighborStat


@pytest.fixture
def stat():
    """Four atoms: one with 10 Ni, the others with 2; all with 3 O and a spin."""
    spin = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    stat = NeighborStat(["Ni", "O"], spin, 4.0)
    stat.around = np.zeros((2, 3, 11), dtype=int)
    stat.around[0, 0, [2, 10]] = 3, 1
    stat.around[0, 1, 3] = stat.around[0, 2, 1] = 4
    stat.nearest[:] = 2.5, 2.0, np.inf
    return stat


def rows_of(text, title):
    lines = text[text.index(title) :].split("\n\n")[0].splitlines()[2:]
    return [line.split() for line in lines]


def test_table(stat):
    text = report(stat, None)
    assert rows_of(text, "Neighbours within 4 Å of 4 atoms") == [
        ["Ni", "10", "4.0", "10", "2.500", "12"],
        ["O", "3", "3.0", "3", "2.000", "4"],
        ["Ni(spin)", "1", "1.0", "1", "-", "12"],
    ]
    assert text.splitlines()[-3:] == [
        "min_nbor_dist: 2.000000",
        "max_nbor_size: [10, 3, 1]",
        "suggested sel: [12, 4]",
    ]


def test_price_of_a_smaller_sel(stat):
    """Nine tenths and three quarters of the largest number."""
    rows = rows_of(report(stat, None), "What a smaller sel leaves out")
    assert rows[0] == ["Ni", "9", "6.25%", "25.0%"]
    assert rows[3] == ["Ni", "7", "18.75%", "25.0%"]
    assert rows[1] == ["O", "2", "33.33%", "100.0%"]


@pytest.mark.parametrize(
    ("sel", "said"),
    [
        ([10, 3], "sel holds all neighbours.\n"),
        ([8, 3], "sel is too small for Ni, Ni(spin): energies jump where a neighbour"),
        ([10, 9], "much more than there are of O: [12, 4] will do."),
    ],
)
def test_sel_of_an_input(stat, sel, said):
    """Virtual atoms share the number of their type."""
    stat.around[0, 2] = stat.around[0, 0]
    text = report(stat, sel)
    assert "The sel of the input" in text and said in text
