# SPDX-License-Identifier: Apache-2.0
"""Trajectories as they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawings import (
    boxes,
    drawn,
    legend,
    panels,
    trajectory,
)


@pytest.mark.parametrize("path", ["md.h5", "md.extxyz", "md.traj"])
@pytest.mark.parametrize("moduli", [False, True])
def test_motion(figure, path, moduli):
    """Displacements and autocorrelation from the first frame on, by types."""
    nrep = 2 if path == "md.h5" else 1
    time, coord, spin = trajectory(path, nrep=nrep, moduli=moduli)
    picture = figure(path)
    assert Path(f"{path}.png").is_file()
    assert legend(picture) == ["Ni", "O"]
    axes = panels(picture)
    titles = ["mean square displacement", "autocorrelation of the spins"]
    assert list(axes) == titles + ["moduli of the spins"] * moduli
    nickel, oxygen = (line.get_xydata() for line in axes[titles[0]].lines)
    np.testing.assert_allclose(nickel[:, 0], 1e-3 * time, rtol=1e-12)
    for points, own in ((nickel, [0, 1]), (oxygen, [2])):
        shift = [((c - coord[0])[:, own] ** 2).sum(-1).mean() for c in coord]
        np.testing.assert_allclose(points[:, 1], shift, rtol=1e-6)
    (points,) = drawn(axes[titles[1]])
    first = (spin[0] ** 2).sum()
    kept = [(s * spin[0]).sum() / first for s in spin]
    np.testing.assert_allclose(points[:, 1], kept, rtol=1e-6, atol=1e-9)
    if moduli:
        axis = axes["moduli of the spins"]
        (bars,) = axis.patches
        low, high = bars.get_xy()[:, 0].min(), bars.get_xy()[:, 0].max()
        sizes = np.linalg.norm(spin[:, :, :2], axis=-1)
        np.testing.assert_allclose([low, high], [sizes.min(), sizes.max()], rtol=1e-6)
        assert axis.get_xlabel() == r"|S| ($\mu_\mathrm{B}$)"


def test_motions_side_by_side(figure):
    for name in "ab":
        trajectory(f"{name}.h5", moduli=True)
    picture = figure("a.h5", "b.h5", "-o", "both.png", "--labels", "cold", "hot")
    assert legend(picture) == ["cold, Ni", "cold, O", "hot, Ni", "hot, O"]
    for group in boxes(picture):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])
