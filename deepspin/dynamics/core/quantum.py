# SPDX-License-Identifier: Apache-2.0
r"""A heat bath with the spectrum of quantum oscillators.

Classical noise gives each mode :math:`k_B T`, however stiff it is. The quantum thermal
bath [1]_ colours it, so that a mode of frequency ω has the energy of a quantum
oscillator:

.. math::

    \langle R R \rangle_\omega = 2 m \gamma\, \Theta(\omega, T), \quad
    \Theta = \frac{\hbar\omega}{e^{\hbar\omega/k_B T} - 1} \;
    \left[ + \frac{\hbar\omega}{2} \right]

for a damping :math:`-m \gamma \dot R`. The noise is a filter's answer to white noise
[2]_, in blocks of time, and known from the seed and the number of the block alone.

References
----------
.. [1] H. Dammak, Y. Chalopin, M. Laroche, M. Hayoun, J.-J. Greffet, Phys. Rev. Lett.
   103, 190601 (2009), doi:10.1103/PhysRevLett.103.190601.
.. [2] J.-L. Barrat, D. Rodney, J. Stat. Phys. 144, 679 (2011),
   doi:10.1007/s10955-011-0316-x.
"""

from __future__ import annotations

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.state import State

SPECTRA = ("quantum", "zero-point")
# half of the filter's length in blocks
HALF = 256


def mean_energy(
    frequency: np.ndarray, kelvin: float | np.ndarray, spectrum: str
) -> np.ndarray:
    r"""Energy Θ in eV of a quantum oscillator.

    Parameters
    ----------
    frequency : np.ndarray
        Angular frequency ω in 1/fs.
    kelvin : float or np.ndarray
        Temperature in K, of a shape that goes with that of `frequency`.
    spectrum : str
        ``quantum``, or ``zero-point`` to count :math:`\hbar\omega/2`, too.
    """
    quantum, thermal = np.broadcast_arrays(
        units.HBAR * np.abs(frequency), units.K_B * np.asarray(kelvin, dtype=float)
    )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        energy = quantum / np.expm1(quantum / thermal)
    energy = np.where(thermal > 0, np.where(quantum > 0, energy, thermal), 0.0)
    return energy + quantum / 2 if spectrum == "zero-point" else energy


class QuantumBath:
    """Heat bath of positions with the spectrum of quantum oscillators.

    Anharmonic systems let energy flow from stiff modes to soft ones, most of all that
    of the zero point: friction holds against it. It also widens the modes, so that
    stiff ones, frozen at low temperatures, are warmed by noise of lower frequencies.

    Parameters
    ----------
    temperature : float or np.ndarray, shape (nrep,)
        In K.
    friction : float
        γ in 1/fs.
    spectrum : str
        ``quantum``, or ``zero-point`` to count the energy of the zero point, too.
    cutoff : float
        Highest frequency of the noise in THz: above all of the system.

    Raises
    ------
    ValueError
        Values of no use.
    """

    def __init__(
        self,
        temperature: float | np.ndarray,
        friction: float,
        spectrum: str = "quantum",
        cutoff: float = 50.0,
    ):
        self.temperature = np.array(temperature, dtype=float)
        kelvin = self.temperature
        if not (np.isfinite(kelvin).all() and (kelvin >= 0).all()):
            raise ValueError(
                f"`temperature` must be at least 0 K. Received: {kelvin.tolist()}"
            )
        for name, value in (("friction", friction), ("cutoff", cutoff)):
            if not 0 < value < np.inf:
                raise ValueError(
                    f"`{name}` must be a positive number. Received: {value}"
                )
        if spectrum not in SPECTRA:
            raise ValueError(
                f"`spectrum` must be one of {', '.join(SPECTRA)}. Received: "
                f"{spectrum!r}"
            )
        self.friction, self.spectrum, self.cutoff = friction, spectrum, cutoff
        self._of: tuple = ()
        self._white: dict[int, np.ndarray] = {}
        self._noise: tuple[int, np.ndarray] | None = None

    def push(self, state: State, velocity: np.ndarray, time: float) -> np.ndarray:
        """Velocities after a step of `time` (fs) in the bath alone.

        Parameters
        ----------
        state : State
            Masses, and what the noise depends on: seed, streams and step.
        velocity : np.ndarray, shape (nrep, nloc, 3)
            In Å/fs.
        time : float
            In fs, the same in all steps.
        """
        steps = self.block(time)
        number = state.step // steps
        kept = np.exp(-self.friction * time)
        width = np.sqrt(2 * self.friction / (steps * time * state.mass * units.AMU))
        kick = width[:, None] * self._coloured(state, number, steps * time)
        return kept * velocity + (1 - kept) / self.friction * kick

    def block(self, time: float) -> int:
        """Steps of `time` (fs) for which the noise is held."""
        return max(1, int(1e3 / (2 * self.cutoff) / time))

    def _coloured(self, state: State, number: int, span: float) -> np.ndarray:
        """Noise of a block of `span` fs, (nrep, nloc, 3), in the root of eV."""
        of = (state.seed, *state.stream.tolist(), state.nloc, span)
        if of != self._of:
            self._of, self._white, self._noise = of, {}, None
            self._filter = self._taps(span, state.nrep)
        if self._noise is None or self._noise[0] != number:
            blocks = range(number, number + 2 * HALF)
            known = self._white
            self._white = {
                b: known[b] if b in known else state.normals("bath", index=b)
                for b in blocks
            }
            noise = np.zeros_like(state.coord)
            for tap, b in zip(self._filter, blocks, strict=True):
                noise += tap[:, None, None] * self._white[b]
            self._noise = number, noise
        return self._noise[1]

    def _taps(self, span: float, nrep: int) -> np.ndarray:
        """Filter for blocks of `span` fs, (2 * HALF, nrep), whose square is Θ.

        Holding the noise takes a part of it at high frequencies: that is made good.
        """
        turns = np.arange(-HALF, HALF) / (2 * HALF)  # ω span/2π
        kelvin = np.broadcast_to(self.temperature, nrep)[:, None]
        energy = mean_energy(2 * np.pi * turns / span, kelvin, self.spectrum)
        root = np.sqrt(energy) / np.sinc(turns)
        # one by one: in company, the last bits of a transform may differ
        taps = [np.fft.ifft(np.fft.ifftshift(row)).real for row in root]
        return np.fft.fftshift(np.array(taps), axes=1).T
