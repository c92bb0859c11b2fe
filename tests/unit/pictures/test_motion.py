# SPDX-License-Identifier: Apache-2.0
"""Relaxations as they are drawn."""

from __future__ import annotations

import numpy as np
from drawings import (
    MAGNETIC,
    drawn,
    legend,
    panels,
    relaxation,
)


def test_relaxation_is_the_file(figure):
    (rows,) = relaxation()
    axes = panels(figure("relaxed.log"))
    assert {title: axis.get_ylabel() for title, axis in axes.items()} == {
        "energy above the lowest": "eV",
        "longest force": "eV/Å",
        "longest magnetic force": MAGNETIC,
        "largest stress": "GPa",
    }
    expected = [rows[:, 2] - rows[-1, 2], *rows[:, 4:].T]
    for axis, values in zip(axes.values(), expected, strict=True):
        (points,) = drawn(axis)
        np.testing.assert_array_equal(points[:, 0], rows[:, 0])
        np.testing.assert_allclose(points[:, 1], values, rtol=1e-12)
        assert (axis.get_xlabel(), axis.get_yscale()) == ("step", "log")


def test_many_starts(figure):
    """Each has its line; their ends are sorted, in a panel of their own."""
    rows = relaxation(nrep=3, pressure=0.5, cell=False)
    rows[0][:, 2:4] += 5.0  # the first ends highest
    np.savetxt(
        "relaxed.log",
        np.concatenate(rows),
        header="step replica energy enthalpy fmax tmax smax",
    )
    picture = figure("relaxed.log")
    axes = panels(picture)
    assert legend(picture) == ["start 0", "start 1", "start 2"]
    assert list(axes) == [
        "enthalpy above the lowest",
        "longest force",
        "longest magnetic force",
        "enthalpy of the ends above the lowest",
    ]
    assert len(axes["longest force"].lines) == 3
    ends = sorted(part[-1, 3] for part in rows)
    (points,) = drawn(axes["enthalpy of the ends above the lowest"])
    np.testing.assert_allclose(
        points[:, 1], 1e3 * (np.array(ends) - ends[0]), rtol=1e-12
    )
