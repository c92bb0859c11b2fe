# SPDX-License-Identifier: Apache-2.0
"""Averages along dynamics, and whether they are what they should be."""

import numpy as np


def sample(integrator, state, measure, warm, steps, every):
    """Measurements, shape (samples, ...), after `warm` steps."""
    found = []
    for step in range(warm + steps):
        integrator.step(state)
        if step >= warm and step % every == 0:
            found.append(measure(state))
    return np.array(found)


def assert_mean(samples, want, blocks=10, sigmas=4.0, at_most=0.05):
    """The mean is `want`; its error is from means over blocks of time.

    `at_most` limits the error itself, relative to `want`: too large, it shows nothing.
    """
    means = [block.mean() for block in np.array_split(samples, blocks)]
    error = np.std(means, ddof=1) / np.sqrt(blocks)
    assert error < at_most * abs(want)
    assert abs(np.mean(means) - want) < sigmas * error, (np.mean(means), error)
