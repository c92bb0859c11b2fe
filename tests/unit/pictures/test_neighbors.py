# SPDX-License-Identifier: Apache-2.0
"""Distributions of neighbours, as they are drawn."""

import numpy as np
from small_data import frames, write

from deepspin.data.systems import load_system
from deepspin.pictures.neighbors import draw_neighbors
from deepspin.spins.virtual import VirtualAtoms
from deepspin.survey.statistics import BIN, NeighborStat


def test_lines_are_the_counts(tmp_path):
    """Shares of atoms add up to 1, densities to mean numbers of neighbours."""
    spin = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    stat = NeighborStat(["Ni", "O"], spin, 3.2)
    stat.add(load_system(str(write(tmp_path / "s", *frames(3))), ["Ni", "O"], spin))
    figure = draw_neighbors(stat)
    numbers, distances = figure.axes[::2], figure.axes[1::2]
    assert len(numbers) == len(distances) == 2
    for centre, (left, right) in enumerate(zip(numbers, distances, strict=True)):
        assert [line.get_label() for line in left.lines] == ["Ni", "O", "Ni(spin)"]
        for k, (share, density) in enumerate(zip(left.lines, right.lines, strict=True)):
            count = stat.around[centre, k]
            np.testing.assert_allclose(share.get_ydata(), count / count.sum())
            found = density.get_ydata().sum() * BIN
            want = stat.distances[centre, k].sum() / count.sum()
            np.testing.assert_allclose(found, want)
            assert want > 0
