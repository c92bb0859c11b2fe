# SPDX-License-Identifier: Apache-2.0
"""Averages over samples at several temperatures, their errors, and where order ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepspin.atoms import units

# blocks that samples are divided into; errors are from how these differ
BLOCKS = 20
# a sum of autocorrelations ends at this many times its value
WINDOW = 5.0
# halves of samples differ if they are this many standard errors apart
DRIFT = 5.0
# draws of blocks for the error of a temperature of order, and part of them that must
# have such a temperature
DRAWS, FOUND = 400, 0.8
# a parabola describes points if the square of its misfit, in errors, is at most so many
# times the degrees of freedom
MISFIT = 2.0
# places of two moments
_ENERGY, _ORDER = 0, 3
# unit of each quantity in a table
QUANTITIES = {
    "energy": "eV/atom",
    "heat_capacity": "k_B/atom",
    "magnetisation": "mu_B",
    "modulus": "mu_B",
    "order": "",
    "susceptibility": "1/eV",
    "binder": "",
}


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of a system of one size.

    Parameters
    ----------
    temperature : np.ndarray, shape (nrep,)
        In K.
    natoms, nspins : int
        Atoms, and those of them with spin.
    dof : int
        Degrees of freedom of atoms that move; each has k_B/2 of kinetic heat capacity.
    energy : np.ndarray, shape (nsamples, nrep)
        Potential energy in eV.
    magnetisation : np.ndarray, shape (nsamples, nrep, 3)
        Mean spin of the atoms with spin, in μ_B.
    order : np.ndarray, shape (nsamples, nrep, nvectors, 3)
        Mean direction, with the signs of each wave.
    acceptance, exchange : np.ndarray, shape (nsamples, nrep) and (nsamples, nrep - 1)
        See `sampling.Outcome`.
    modulus : np.ndarray, shape (nsamples, nrep), optional
        Mean modulus of the atoms with spin, in μ_B.
    """

    temperature: np.ndarray
    natoms: int
    nspins: int
    dof: int
    energy: np.ndarray
    magnetisation: np.ndarray
    order: np.ndarray
    acceptance: np.ndarray
    exchange: np.ndarray
    modulus: np.ndarray | None = None

    @property
    def nsamples(self) -> int:
        """Number of samples."""
        return len(self.energy)

    @property
    def order_square(self) -> np.ndarray:
        """Square of the order parameter: the sum over all waves, (nsamples, nrep)."""
        return (self.order**2).sum(axis=(2, 3))

    def blocks(self) -> np.ndarray:
        """Means of moments over blocks of samples, (blocks, nrep, moments).

        Samples that no whole block remains for are left out, the first ones.
        """
        square = self.order_square
        centred = self.energy - self.energy.mean(axis=0)
        modulus = np.linalg.norm(self.magnetisation, axis=2)
        orders = np.sqrt(square), square, square**2
        length = np.full_like(square, np.nan) if self.modulus is None else self.modulus
        rows = [centred, centred**2, modulus, *orders, length]
        moments = np.stack(rows, axis=-1)
        number = min(BLOCKS, self.nsamples)
        size = self.nsamples // number
        moments = moments[self.nsamples - number * size :]
        return moments.reshape(number, size, *moments.shape[1:]).mean(axis=1)

    def quantities(self, moments: np.ndarray) -> dict[str, np.ndarray]:
        """Give each of `QUANTITIES`, (..., nrep), from moments (..., nrep, moments)."""
        energy, square, moment, *orders, length = np.moveaxis(moments, -1, 0)
        order, order2, order4 = orders
        thermal = units.K_B * self.temperature
        kinetic = self.dof / 2 / self.natoms
        known = np.where(order2 > 0, order2, 1.0)
        return {
            "energy": (energy + self.energy.mean(axis=0)) / self.natoms,
            "heat_capacity": (square - energy**2) / thermal**2 / self.natoms + kinetic,
            "magnetisation": moment,
            "modulus": length,
            "order": order,
            "susceptibility": self.nspins * (order2 - order**2) / thermal,
            "binder": 1 - order4 / (3 * known**2),
        }


@dataclass(frozen=True)
class Curve:
    """Averages over the samples of one size.

    Parameters
    ----------
    samples : Samples
        The samples.
    value, error : dict of str to np.ndarray, shape (nrep,)
        Quantities of `QUANTITIES` and their standard errors (jackknife over blocks).
    time : np.ndarray, shape (nrep,)
        Autocorrelation time in samples, 1 if they are independent: the longer one of
        energy and squared order.
    """

    samples: Samples
    value: dict[str, np.ndarray]
    error: dict[str, np.ndarray]
    time: np.ndarray

    @classmethod
    def of(cls, samples: Samples) -> Curve:
        """Average samples, at least two."""
        blocks = samples.blocks()
        number = len(blocks)
        without = (blocks.sum(axis=0) - blocks) / (number - 1)
        apart = samples.quantities(without)
        error = {
            name: np.sqrt((number - 1) * values.var(axis=0))
            for name, values in apart.items()
        }
        series = np.stack([samples.energy, samples.order_square], axis=-1)
        time = np.apply_along_axis(autocorrelation_time, 0, series).max(axis=-1)
        value = samples.quantities(blocks.mean(axis=0))
        return cls(samples, value, error, time)

    @property
    def short(self) -> np.ndarray:
        """Whether blocks are too short for the errors to be trusted, (nrep,)."""
        return self.samples.nsamples < 3 * BLOCKS * self.time

    @property
    def drifting(self) -> np.ndarray:
        """Whether energy or order differ between halves of the samples, (nrep,)."""
        blocks = self.samples.blocks()
        halves = np.array_split(blocks, 2)
        if min(map(len, halves)) < 2:
            return np.zeros(len(self.time), dtype=bool)
        apart = np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0))
        error = np.sqrt(sum(half.var(axis=0, ddof=1) / len(half) for half in halves))
        return (apart > DRIFT * error)[:, [_ENERGY, _ORDER]].any(axis=1)


def autocorrelation_time(series: np.ndarray) -> float:
    """Integrated autocorrelation time of a series, 1 + 2 sum of autocorrelations.

    The variance of the mean is so many times that of independent values. The sum ends
    where it is a fifth of its length (Sokal).
    """
    apart = series - series.mean()
    number = len(apart)
    spectrum = np.abs(np.fft.rfft(apart, 2 * number)) ** 2
    products = np.fft.irfft(spectrum)[:number]
    if not products[0] > 1e-20 * number * (series**2).mean():  # a constant
        return 1.0
    sums = 2 * np.cumsum(products / products[0]) - 1
    enough = np.arange(number) >= WINDOW * sums
    end = np.argmax(enough) if enough.any() else number - 1
    return float(max(sums[end], 1.0))


# --- Temperatures of order ------------------------------------------------------------


@dataclass(frozen=True)
class Transition:
    """Where order ends.

    Parameters
    ----------
    temperature, error : float
        In K; NaN where the samples do not tell.
    source : str
        What it is from, in words.
    """

    temperature: float
    error: float
    source: str


def transition(curves: list[Curve]) -> Transition:
    """Find the temperature of order.

    Of several sizes: where the Binder cumulants of the two largest cross; of one: where
    its susceptibility is largest, which is above the former by an amount that falls
    with the size. Errors are those of averages over blocks drawn again and again
    (bootstrap); all temperatures of a size are drawn together, as exchange ties them.
    """
    curves = sorted(curves, key=lambda curve: curve.samples.natoms)[-2:]
    rng = np.random.default_rng(1)
    found = [_drawn(curve, rng) for curve in curves]
    kelvin = curves[0].samples.temperature
    if len(curves) == 1:
        values = found[0]["susceptibility"]
        places = np.array([_peak(kelvin, row) for row in values])
        source = f"the peak of the susceptibility of {curves[0].samples.natoms} atoms"
    else:
        difference = found[1]["binder"] - found[0]["binder"]
        places = _crossings(kelvin, difference)
        natoms = " and ".join(str(curve.samples.natoms) for curve in curves)
        source = f"the crossing of the Binder cumulants of {natoms} atoms"
    good = np.isfinite(places[1:])
    if not np.isfinite(places[0]) or good.mean() < FOUND:
        return Transition(np.nan, np.nan, source)
    return Transition(float(places[0]), float(places[1:][good].std()), source)


def _drawn(curve: Curve, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Quantities (1 + DRAWS, nrep) of all blocks, then of blocks that are drawn."""
    blocks = curve.samples.blocks()
    drawn = rng.integers(len(blocks), size=(DRAWS, len(blocks)))
    means = [blocks.mean(axis=0), *(blocks[rows].mean(axis=0) for rows in drawn)]
    return curve.samples.quantities(np.stack(means))


def _crossings(kelvin: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where differences (1 + DRAWS, nrep) fall through 0, NaN where they do not.

    Of parabolas, fitted to as many temperatures around the place where the first row
    falls deepest as one describes.
    """
    error = np.maximum(rows[1:].std(axis=0), 1e-12)
    first = rows[0]
    falls = [
        (first[max(k - 1, 0) : k + 1].sum() - first[k + 1 : k + 3].sum(), k)
        for k in np.flatnonzero((first[:-1] > 0) & (first[1:] <= 0))
    ]
    if not falls:
        return np.full(len(rows), np.nan)
    k = max(falls)[1]
    for half in range(len(kelvin), 1, -1):
        part = slice(max(k + 1 - half, 0), k + 1 + half)
        near, weight = kelvin[part] - kelvin[k], 1 / error[part]
        degree = min(2, max(len(near) - 2, 1))
        fits = np.polyfit(near, rows[:, part].T, degree, w=weight).T
        misfit = weight * (np.polyval(fits[0], near) - first[part])
        if (misfit**2).sum() <= MISFIT * (len(near) - degree - 1):
            break
    return np.array([kelvin[k] + _falling_root(fit, near) for fit in fits])


def _falling_root(fit: np.ndarray, near: np.ndarray) -> float:
    """Where a polynomial falls through 0 among some places; NaN if nowhere."""
    roots = np.roots(fit)
    roots = roots[np.isreal(roots)].real
    inside = (roots >= near[0]) & (roots <= near[-1])
    falling = np.polyval(np.polyder(fit), roots) < 0
    found = roots[inside & falling]
    return float(found[0]) if len(found) else np.nan


def _peak(kelvin: np.ndarray, values: np.ndarray) -> float:
    """Top of the parabola through the largest value and its neighbours; NaN at ends."""
    k = int(np.argmax(values))
    if not 0 < k < len(values) - 1:
        return np.nan
    near = kelvin[k - 1 : k + 2] - kelvin[k]
    second, first, _ = np.polyfit(near, values[k - 1 : k + 2], 2)
    return kelvin[k] - first / (2 * second)
