# SPDX-License-Identifier: Apache-2.0
r"""Spectra of spins from trajectories: the dynamical structure factor.

.. math::

    M_q(t) = \frac{1}{\sqrt{N}} \sum_i S_i(t)\, e^{-i q \cdot \bar R_i}, \qquad
    S(q, \omega) = \frac{1}{2\pi\hbar T} \sum_\alpha
        \left| \int_0^T M^\alpha_q(t)\, e^{i\omega t}\, w(t)\, dt \right|^2

in μ_B²/eV, with mean positions (no phonons in the phases), the mean of M taken away
(no Bragg peaks), Hann's window w of mean square 1, and positive and negative energies
together (P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967),
https://doi.org/10.1109/TAU.1967.1161901).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from deepspin.atoms.units import HBAR
from deepspin.data.files import DataError
from deepspin.data.formats.motion import moments
from deepspin.utils.refused import InputError

# frames that a segment needs at least
FEWEST = 16
# a wave vector fits into the cell if its phases are so near to whole turns
FITS = 1e-3


@dataclass(frozen=True, kw_only=True)
class SpinMotion:
    """Spins over time.

    Parameters
    ----------
    step : float
        Time between frames in fs.
    box : np.ndarray, shape (3, 3)
        Lattice vectors in Å.
    coord : np.ndarray, shape (nrep, n, 3)
        Mean positions of atoms with spin in Å.
    spin : np.ndarray, shape (nframes, nrep, n, 3)
        Their spins in μ_B.
    """

    step: float
    box: np.ndarray
    coord: np.ndarray
    spin: np.ndarray


def read_spins(path: str | Path, skip: float = 0.0) -> SpinMotion:
    """Read the spins of a trajectory of ``dp-spin md``.

    Parameters
    ----------
    path : str
        The trajectory.
    skip : float
        Time in ps at its beginning to leave out.

    Raises
    ------
    DataError
        It is none, its cell changes or is none, or its frames are not evenly spaced.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    frames = list(moments(path))
    frames = [f for f in frames if f.time >= frames[0].time + skip - 1e-9]
    if len(frames) < FEWEST:
        raise DataError(
            f"'{path}' has {len(frames)} frames after {skip:g} ps; a spectrum needs "
            f"{FEWEST} or more."
        )
    box = frames[0].box
    boxes = [f.box for f in frames if f.box is not None]
    if box is None or len(boxes) < len(frames) or np.ptp(boxes, axis=0).max() > 1e-9:
        raise DataError(
            f"'{path}' has no periodic cell that stays as it is, which wave vectors "
            "need."
        )
    steps = 1e3 * np.diff([f.time for f in frames])
    if np.ptp(steps) > 1e-3 * steps.mean() or steps.min() <= 0:
        raise DataError(
            f"Frames of '{path}' are {steps.min():g} to {steps.max():g} fs apart, and "
            "a spectrum needs even steps. Write it in one run, or leave out its "
            "beginning with --skip."
        )
    spin = np.stack([f.spin for f in frames])
    magnetic = (np.abs(spin).max(axis=(0, 1, 3)) > 0).nonzero()[0]
    if not len(magnetic):
        raise DataError(f"'{path}' has no spins.")
    coord = np.mean([f.coord[:, magnetic] for f in frames], axis=0)
    return SpinMotion(
        step=steps.mean(), box=box, coord=coord, spin=spin[:, :, magnetic]
    )


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Spectra at some wave vectors.

    Parameters
    ----------
    q : np.ndarray, shape (nq, 3)
        Wave vectors in 1/Å.
    energy : np.ndarray, shape (n,)
        ħω in eV, from 0 on.
    strength : np.ndarray, shape (nq, n)
        S(q, ω) in μ_B²/eV.
    peak : np.ndarray, shape (nq,)
        Energy in eV at which it is largest; NaN where that is at 0.
    """

    q: np.ndarray
    energy: np.ndarray
    strength: np.ndarray
    peak: np.ndarray

    @property
    def resolution(self) -> float:
        """Full width in eV that the window gives to a line."""
        return 2.0 * float(self.energy[1] - self.energy[0])


def spectrum(motion: SpinMotion, q: np.ndarray, segments: int = 1) -> Spectrum:
    """Take spectra.

    Parameters
    ----------
    motion : SpinMotion
        See `read_spins`.
    q : np.ndarray, shape (nq, 3)
        Wave vectors in 1/Å, which fit into the cell.
    segments : int
        Parts of the trajectory, which overlap by half, to average over: less noise,
        broader lines.

    Raises
    ------
    InputError
        A wave vector does not fit, or segments are too short.
    """
    turns = q @ motion.box.T / (2 * np.pi)
    away = np.abs(turns - np.rint(turns)).max(axis=1)
    if away.max() > FITS:
        k = int(away.argmax())
        nearest = np.rint(turns[k]) @ np.linalg.inv(motion.box).T * 2 * np.pi
        raise InputError(
            f"The wave vector {_told(q[k])} 1/Å does not fit into the cell of the "
            f"trajectory; the nearest that does is {_told(nearest)} 1/Å."
        )
    nframes = len(motion.spin)
    length = 2 * nframes // (segments + 1)
    if length < FEWEST:
        raise InputError(
            f"{segments} segments of {nframes} frames have {length} frames each, and "
            f"{FEWEST} are needed. Take fewer."
        )
    phase = np.exp(-1j * np.einsum("qa,ria->qri", q, motion.coord))
    wave = np.einsum("qri,trix->tqrx", phase, motion.spin)
    wave /= np.sqrt(motion.spin.shape[2])
    window = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    window /= np.sqrt((window**2).mean())
    starts = np.linspace(0, nframes - length, segments).astype(int)
    power = np.mean([_power(wave[s : s + length], window) for s in starts], axis=0)
    energy = 2 * np.pi * HBAR * np.arange(length // 2) / (length * motion.step)
    # both signs of the energy together
    both = power[:, : length // 2].copy()
    both[:, 1:] += power[:, : -(length // 2) : -1]
    strength = both * motion.step / (2 * np.pi * HBAR * length)
    return Spectrum(
        q=q,
        energy=energy,
        strength=strength,
        peak=np.array([_peak(energy, row) for row in strength]),
    )


def _power(wave: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Sum over components, mean over replicas, of squared transforms: (nq, n)."""
    rest = (wave - wave.mean(axis=0)) * window[:, None, None, None]
    values = np.abs(np.fft.fft(rest, axis=0)) ** 2
    return values.sum(axis=3).mean(axis=2).T


def _peak(energy: np.ndarray, row: np.ndarray) -> float:
    """Where a spectrum is largest, by a parabola through logarithms."""
    k = int(row.argmax())
    if k == 0 or k == len(row) - 1 or row.max() <= 0:
        return np.nan
    left, middle, right = np.log(np.maximum(row[k - 1 : k + 2], 1e-300))
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(energy[k] + shift * (energy[1] - energy[0]))


def _told(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:.4f}" for x in vector) + ")"


def waves_along_axes(repeat: Sequence[int]) -> np.ndarray:
    """Wave vectors along the axes that fit into a repeated cell, up to the border.

    In the reciprocal vectors of the cell that is repeated, shape (nq, 3).
    """
    found = [
        np.eye(3)[axis] * k / repeat[axis]
        for axis, k in product(range(3), range(1, max(repeat) + 1))
        if 2 * k <= repeat[axis] or k == 1 == repeat[axis]
    ]
    return np.array(found)
