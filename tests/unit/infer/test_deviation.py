# SPDX-License-Identifier: Apache-2.0
"""Deviations of numbers that models could say."""

import numpy as np
import pytest

from deepspin.infer.deviation import COLUMNS, MAGNETIC, Deviations, Measure
from deepspin.utils.refused import InputError

# two models, one frame, two atoms
SAID = np.array([[[[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], [[[1.0, 0.0, 0.0], [0.0] * 3]]])
REAL = np.array([[[0.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])


def test_standard_deviation():
    np.testing.assert_allclose(Measure().vectors(SAID, None, None), [[1.0, 0.5]])


def test_root_mean_square_error():
    """Of the models against labels, by component."""
    found = Measure(real_error=True).vectors(SAID, REAL, None)
    np.testing.assert_allclose(found, [[np.sqrt(5.0), np.sqrt(12.5)]])
    assert np.isnan(Measure(real_error=True).vectors(SAID, None, None)).all()


@pytest.mark.parametrize(
    ("real_error", "size"), [(False, [2.0, 0.5]), (True, [0.0, 4.0])]
)
def test_relative(real_error, size):
    """Over the magnitude of the mean, or of the label, and the level."""
    measure = Measure(real_error, relative_v=0.5)
    absolute = Measure(real_error).vectors(SAID, REAL, None)
    found = measure.vectors(SAID, REAL, 0.5)
    np.testing.assert_allclose(found, absolute / (np.array([size]) + 0.5))


def test_virials():
    said = np.zeros((2, 1, 9))
    said[0, 0, 4] = 6.0
    np.testing.assert_allclose(Measure().virials(said, None)[0, 4], 3.0)
    found = Measure(relative_v=1.0).virials(said, None)
    np.testing.assert_allclose(found[0, 4], 3.0 / (3.0 + 1.0))


@pytest.mark.parametrize("name", ["relative", "relative_v", "relative_fm"])
@pytest.mark.parametrize("level", [0.0, -1.0, np.nan, np.inf])
def test_levels(name, level):
    with pytest.raises(InputError, match=f"--{name} must be above 0. Received: "):
        Measure(**{name: level})


def test_columns():
    """Those of each atom after DeePMD-kit's, and after ours."""
    table = np.arange(11.0)[None]
    assert table.shape[1] == 1 + len(COLUMNS) + len(MAGNETIC)
    found = Deviations("s", table, np.array([[20.0, 21.0]]), np.array([[30.0, 31.0]]))
    assert found.columns(False) is table
    want = [*range(8), 20, 21, 8, 9, 10, 30, 31]
    np.testing.assert_array_equal(found.columns(True), [want])
