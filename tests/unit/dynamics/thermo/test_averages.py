# SPDX-License-Identifier: Apache-2.0
"""Averages over samples, their errors, and temperatures of order.

Seeds are fixed. Bounds are five standard errors, from exact variances.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from averages import LADDER, as_samples

from deepspin.atoms import units
from deepspin.dynamics.thermo.averages import (
    BLOCKS,
    Curve,
    autocorrelation_time,
    transition,
)


def autoregressive(memory, shape, seed=0):
    """x' = memory x + noise, of variance 1; its autocorrelation time is known."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    for k in range(1, len(x)):
        x[k] = memory * x[k - 1] + np.sqrt(1 - memory**2) * x[k]
    return x


@pytest.mark.parametrize("memory", [0.0, 0.6, 0.9])
def test_autocorrelation_time(memory):
    series = autoregressive(memory, (20000, 8))
    times = [autocorrelation_time(column) for column in series.T]
    exact = (1 + memory) / (1 - memory)
    # the variance of the estimate: Madras and Sokal
    error = exact * np.sqrt(2 * (2 * 5 + 1) * exact / len(series))
    np.testing.assert_allclose(times, exact, atol=5 * max(error, 0.02))


def test_autocorrelation_time_of_a_constant():
    assert autocorrelation_time(np.full(50, 7.3)) == 1.0


def test_error_of_a_series_that_remembers():
    """The jackknife's error of a mean is that of the exact autocorrelation time."""
    memory, number = 0.8, 8000
    series = autoregressive(memory, (number, 40), seed=3)
    curve = Curve.of(as_samples(series))
    exact = np.sqrt((1 + memory) / (1 - memory) / number) / 10
    # each has BLOCKS - 1 degrees of freedom
    spread = 1 / np.sqrt(2 * (BLOCKS - 1) * 40)
    found = np.sqrt((curve.error["energy"] ** 2).mean())
    assert abs(found / exact - 1) < 5 * spread
    assert not curve.short.any()
    assert Curve.of(as_samples(series[:120])).short.mean() > 0.8


def test_drifts_are_seen():
    """Of energy and of order, and only where there are some."""
    series = autoregressive(0.8, (4000, 60), seed=5)
    assert not Curve.of(as_samples(series)).drifting.any()
    order = autoregressive(0.5, (4000, 3, 1, 3), seed=6)
    slope = np.linspace(-0.5, 0.5, 4000)
    energy = autoregressive(0.8, (4000, 3), seed=7)
    energy[:, 0] += 2 * slope
    order[:, 1] *= (1 + slope)[:, None, None]
    assert Curve.of(as_samples(energy, order)).drifting.tolist() == [True, True, False]
    assert not Curve.of(as_samples(energy[:3], order[:3])).drifting.any()


@pytest.mark.parametrize("vectors", [1, 4])
def test_binder_cumulant_of_gaussians(vectors):
    """Without order, 1 - (n + 2)/3n of n components: 4/9 of three."""
    rng = np.random.default_rng(0)
    order = rng.normal(size=(40000, 3, vectors, 3)) * [[[0.1]], [[0.2]], [[0.3]]]
    curve = Curve.of(as_samples(np.zeros((40000, 3)), order))
    components = 3 * vectors
    exact = 1 - (components + 2) / (3 * components)
    error = curve.error["binder"]
    assert (np.abs(curve.value["binder"] - exact) < 5 * error).all()
    assert (error < 0.003).all()


def test_full_order():
    order = np.zeros((100, 3, 2, 3))
    order[:, :, 0] = np.random.default_rng(0).normal(size=(100, 3, 3))
    order /= np.linalg.norm(order[:, :, :1], axis=3, keepdims=True)
    curve = Curve.of(as_samples(np.zeros((100, 3)), order))
    np.testing.assert_allclose(curve.value["binder"], 2 / 3, rtol=1e-12)
    np.testing.assert_allclose(curve.value["order"], 1, rtol=1e-12)
    np.testing.assert_allclose(curve.value["susceptibility"], 0, atol=1e-9)


def test_susceptibility_in_a_field():
    """The variance of the order times N/kT is its derivative in the field."""
    number, nspins = 20000, 10
    rng = np.random.default_rng(1)
    order = np.zeros((number, 3, 1, 3))
    order[..., 0, 2] = 0.5 + 0.01 * rng.normal(size=(number, 3))
    curve = Curve.of(as_samples(np.zeros((number, 3)), order))
    exact = nspins * 1e-4 / (units.K_B * LADDER)
    error = curve.error["susceptibility"]
    assert (np.abs(curve.value["susceptibility"] - exact) < 5 * error).all()
    np.testing.assert_allclose(error / exact, np.sqrt(2 / number), rtol=0.6)


def ordered(natoms, sharpness, seed, kelvin=None, nsamples=4000):
    """Samples whose order ends at 300 K, the sharper the larger."""
    rng = np.random.default_rng(seed)
    kelvin = np.arange(260.0, 345.0, 10.0) if kelvin is None else kelvin
    mean = 0.5 - np.tanh(sharpness * (kelvin - 300) / 300) / 2
    order = rng.normal(size=(nsamples, len(kelvin), 1, 3)) * 0.2
    order[..., 0, 2] += mean
    samples = as_samples(np.zeros((nsamples, len(kelvin))), order, natoms=natoms)
    return Curve.of(replace(samples, temperature=kelvin))


def test_crossing():
    found = transition([ordered(64, 8.0, 2), ordered(16, 3.0, 1)])
    assert "16 and 64 atoms" in found.source
    assert abs(found.temperature - 300) < 5 * found.error
    assert 0.05 < found.error < 2


def test_error_of_the_crossing():
    """What is told as the error is how crossings scatter."""
    found = [
        transition([ordered(16, 3.0, 2 * k), ordered(64, 8.0, 2 * k + 1)])
        for k in range(20)
    ]
    scatter = np.std([t.temperature for t in found])
    told = np.sqrt(np.mean([t.error**2 for t in found]))
    assert 0.5 < scatter / told < 1.7
    assert abs(np.mean([t.temperature for t in found]) - 300) < 5 * told / np.sqrt(20)


def test_no_crossing():
    below = np.arange(200.0, 250.0, 10.0)
    found = transition([ordered(16, 3.0, 1, below), ordered(64, 8.0, 2, below)])
    assert np.isnan(found.temperature)


def test_peak():
    """Of one size, the top of the susceptibility."""
    number, kelvin = 4000, np.arange(260.0, 345.0, 10.0)
    rng = np.random.default_rng(0)
    width = 0.05 * np.exp(-(((kelvin - 297) / 40) ** 2) / 2)
    order = np.zeros((number, len(kelvin), 1, 3))
    order[..., 0, 2] = 0.5 + width * rng.normal(size=(number, len(kelvin)))
    samples = as_samples(np.zeros((number, len(kelvin))), order)
    found = transition([Curve.of(replace(samples, temperature=kelvin))])
    assert "peak of the susceptibility of 10 atoms" in found.source
    assert abs(found.temperature - 297) < 5 * found.error + 3  # 1/kT shifts it
    assert 0 < found.error < 5
