# SPDX-License-Identifier: Apache-2.0
"""Tables of DeePMD-kit's form."""

from __future__ import annotations

import numpy as np
import pytest

from deepspin.interop.graph import STEP
from deepspin.interop.spline import quintic_table


def look_up(rows, info, u):
    """Values and slopes, as DeePMD-kit's operation finds them."""
    begin, middle, _end, fine, coarse, _ = info
    first = int((middle - begin) / fine)
    near = u < middle
    row = np.where(near, (u - begin) / fine, (u - middle) / coarse).astype(int)
    start = np.where(near, begin + row * fine, middle + row * coarse)
    terms = rows.reshape(len(rows), -1, 6)[row + np.where(near, 0, first)]
    h = (u - start)[:, None]
    value = sum(terms[:, :, k] * h**k for k in range(6))
    slope = sum(k * terms[:, :, k] * h ** (k - 1) for k in range(1, 6))
    return value, slope


@pytest.mark.parametrize("extrapolate", [1.0, 3.0])
def test_quintic_table(compressed, extrapolate):
    """Values and slopes are the table's, everywhere and at the ends."""
    for table in compressed("ONi").descriptor.tables:
        rows, info = quintic_table(table, extrapolate, STEP)
        begin, middle, end = info[:3]
        edges = np.asarray(table.edges)
        assert begin == edges[0, 0]
        np.testing.assert_allclose(end, edges[-1].sum(), atol=1e-8)
        u = np.sort(np.random.default_rng(0).uniform(begin, edges[-1].sum(), 5000))
        u = np.concatenate([[begin], u, [middle, np.nextafter(middle, 0)]])
        wanted = np.asarray(table(u[:, None]))
        found, _ = look_up(rows, info, u)
        scale = np.abs(wanted).max()
        close = u < middle
        error = np.abs(found - wanted).max(axis=1) / scale
        assert error[close].max() < 1e-12
        assert error.max() < 1e-7
        step = 1e-5
        inner = u[(u > begin + step) & (u < edges[-1].sum() - step)]
        difference = table((inner + step)[:, None]) - table((inner - step)[:, None])
        difference = np.asarray(difference) / (2.0 * step)
        _, slope = look_up(rows, info, inner)
        np.testing.assert_allclose(slope, difference, atol=1e-6 * np.abs(slope).max())
