# SPDX-License-Identifier: Apache-2.0
"""Least squares from a stream of rows: the same as from all rows at once."""

import numpy as np
import pytest

from deepspin.fit.least_squares import Factor, Rows


@pytest.fixture
def random():
    return np.random.default_rng(1)


def test_a_factor_stands_for_its_rows(random):
    matrix, label = random.normal(size=(500, 7)), random.normal(size=500)
    factor = Factor(7)
    for k in range(0, 500, 13):
        factor.add(matrix[k : k + 13], label[k : k + 13])
    assert factor.count == 500
    assert len(factor.matrix) <= 8
    numbers = random.normal(size=7)
    rest = matrix @ numbers - 1.5 * label
    found = factor.rmse(numbers, 1.5)
    np.testing.assert_allclose(found, np.sqrt(np.mean(rest**2)), rtol=1e-12)


def filled(random, width=6, nconst=2, scale=1.0, noise=0.0):
    """Rows of two labels that known numbers explain, a fifth held out."""
    rows, numbers = Rows(width, nconst), random.normal(size=width)
    for k in range(60):
        matrix = random.normal(size=(3, width))
        label = matrix @ numbers + noise * random.normal(size=3)
        rows.add("a", matrix, label, held_out=k % 5 == 4)
        matrix = random.normal(size=(4, width))
        matrix[:, :nconst] = 0.0
        label = matrix @ numbers / scale + noise * random.normal(size=4)
        rows.add("b", matrix, label, held_out=k % 5 == 4)
    return rows, numbers


def test_known_numbers_are_found(random):
    rows, numbers = filled(random)
    found = rows.fit({"a": 1.0, "b": 2.0})
    np.testing.assert_allclose(found.numbers, numbers, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.effective, 6, atol=1e-3)


def test_weights_are_those_of_ordinary_least_squares(random):
    rows, _ = filled(random, noise=0.1)
    found = rows.fit({"a": 1.0, "b": 3.0}, ridge=1e-15)
    a, b = rows.all["a"], rows.all["b"]
    whole = np.concatenate([a.matrix / a.count**0.5, 3 * b.matrix / b.count**0.5])
    want = np.linalg.lstsq(whole[:, :-1], whole[:, -1], rcond=None)[0]
    np.testing.assert_allclose(found.numbers, want, rtol=1e-9)


def test_constants_that_are_given(random):
    rows, numbers = filled(random)
    found = rows.fit({"a": 1.0, "b": 1.0}, fixed={0: numbers[0]})
    assert found.numbers[0] == numbers[0]
    np.testing.assert_allclose(found.numbers, numbers, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.8])
def test_factor_of_a_label(random, scale):
    rows, numbers = filled(random, scale=scale)
    found = rows.fit({"a": 1.0, "b": 1.0}, scaled=["b"], factor=None)
    np.testing.assert_allclose(found.factor, scale, rtol=1e-3)
    np.testing.assert_allclose(found.numbers, numbers, rtol=1e-2, atol=1e-3)


def test_more_numbers_than_rows(random):
    """What held-out rows say keeps the numbers small."""
    rows, truth = Rows(40, 1), random.normal(size=40)
    mixed = random.normal(size=(40, 40)) * np.logspace(0, -4, 40)

    def some(number):
        matrix = random.normal(size=(number, 40)) @ mixed.T
        return matrix, matrix @ truth + 0.3 * random.normal(size=number)

    for k in range(30):
        rows.add("a", *some(1), held_out=k % 5 == 4)
    found, bare = rows.fit({"a": 1.0}), rows.fit({"a": 1.0}, ridge=1e-18)
    assert found.effective < bare.effective
    new, label = some(200)
    left = [np.std(new @ x.numbers - label) for x in (found, bare)]
    assert left[0] < left[1]


def test_what_no_row_tells_is_zero(random):
    rows = Rows(3, 1)
    matrix = random.normal(size=(30, 3))
    matrix[:, 2] = 0.0
    rows.add("a", matrix, matrix @ [1.0, 2.0, 5.0], held_out=False)
    found = rows.fit({"a": 1.0})
    np.testing.assert_allclose(found.numbers, [1.0, 2.0, 0.0], atol=1e-6)
