# SPDX-License-Identifier: Apache-2.0
"""Numbers of neighbours of a crystal where they can be counted by hand."""

import numpy as np
import pytest
from places import ROOT
from small_data import frames, write

from deepspin.data.dataset import DataSystem
from deepspin.data.systems import load_system
from deepspin.spins.virtual import VirtualAtoms
from deepspin.survey.statistics import NeighborStat

NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
EXAMPLE = ROOT / "examples/NiO/data/valid/spin-files-16"


@pytest.fixture
def crystal(tmp_path):
    """Perfect rock salt with parallel spins along z."""
    arrays, types = frames(2, step=0.0)
    spin = np.where(types[:, None] == 0, [0.0, 0.0, 1.2737], 0.0)
    folder = write(tmp_path / "s", arrays | {"spin": np.stack([spin] * 2)}, types)
    stat = NeighborStat(["Ni", "O"], NIO, 3.2)
    stat.add(load_system(str(folder), ["Ni", "O"], NIO))
    return stat


def test_agrees_with_training_data():
    data = DataSystem(str(EXAMPLE), ["Ni", "O"], NIO, 4.5)
    stat = NeighborStat(["Ni", "O"], NIO, 4.5)
    stat.add(load_system(str(EXAMPLE), ["Ni", "O"], NIO))
    assert stat.largest == data.found.tolist()
    assert stat.suggest(1.1) == data.suggest_sel(1.1)
    assert stat.ncentres == 10 * 16
    assert min(stat.nearest.min(), stat.nearest_own) == pytest.approx(
        data.nearest, rel=1e-12
    )
    own = stat.counts[2] @ np.arange(stat.counts.shape[1]) - stat.distances[:, 2].sum()
    assert own == 10 * 8  # each Ni counts its own virtual atom in `sel`


def test_lost(crystal):
    assert crystal.lost([12, 12, 9]) == [(0.0, 0.0)] * 3
    # half of the atoms have 12 Ni, half 6
    assert crystal.lost([9, 5, 9])[:2] == [
        (pytest.approx(3 / 18), 0.5),
        (pytest.approx(8 / 18), 1.0),
    ]
    assert crystal.percentile(0.5) == [6, 6, 6]
    assert crystal.percentile(0.51) == [12, 12, 9]
