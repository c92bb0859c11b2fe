# SPDX-License-Identifier: Apache-2.0
"""Averages along dynamics, and whether they are what they should be."""

import numpy as np

from deepspin.dynamics.thermo.averages import Samples

LADDER = np.array([200.0, 300.0, 450.0])
"""Temperatures (K) of three replicas."""


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


def as_samples(energy, order=None, **options):
    """Samples of 10 atoms with spin, a temperature for each column of energies."""
    number, nrep = energy.shape
    order = np.zeros((number, nrep, 1, 3)) if order is None else order
    given = {"natoms": 10, "nspins": 10, "dof": 0} | options
    return Samples(
        temperature=np.linspace(*LADDER[[0, -1]], nrep) if nrep != 3 else LADDER,
        energy=energy,
        order=order,
        magnetisation=order[:, :, 0],
        acceptance=np.ones((number, nrep)),
        exchange=np.full((number, nrep - 1), np.nan),
        **given,
    )
