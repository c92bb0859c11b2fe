# SPDX-License-Identifier: Apache-2.0
r"""Constant pressure: a cell that is rescaled at random.

Stochastic cell rescaling [1]_, [2]_ moves the cell without inertia. Lattice vectors h
and positions R, both in rows, are multiplied by the same matrix, momenta by the inverse
of its transpose, and spins stay as they are, direction and modulus:

.. math::

    h \to h e^\epsilon, \quad R \to R e^\epsilon, \quad P \to P e^{-\epsilon^T}, \quad
    S \to S, \quad
    \epsilon = \frac{\beta\, \Delta t}{3 V \tau} (\Pi - p V) +
    \sqrt{\frac{2 k_B T \beta\, \Delta t}{3 V \tau}}\, \xi

with :math:`\Pi_{ab} = \sum P_a P_b/m + W_{ba}` and the virial at fixed spins,
:math:`W_{ba} = -\partial E/\partial \epsilon_{ab}`, in which what exchange costs in a
smaller cell is contained. :math:`e^\epsilon` leaves :math:`d^{3N}R\, d^{3N}P\, d^{3N}S`
alone, so that positions, momenta, spins and cell follow

.. math:: \exp(-(\sum P^2/2m + E(R, S, h) + pV)/k_B T)

with the measure dV of the volume at constant shape. That of the shapes is the one of
constant stress, :math:`V^{-2}\, d^9 h`, less rotations.

References
----------
.. [1] M. Bernetti, G. Bussi, J. Chem. Phys. 153, 114107 (2020),
   doi:10.1063/5.0020514.
.. [2] V. del Tatto, P. Raiteri, M. Bernetti, G. Bussi, Appl. Sci. 12, 1139 (2022),
   doi:10.3390/app12031139.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.baths import check_temperature
from deepspin.dynamics.core.fields import Fields, Response
from deepspin.dynamics.core.ramps import Ramp, all_of, held
from deepspin.dynamics.core.state import DynamicsError, State, thermal_energy

# what may change of a cell
COUPLINGS = ("isotropic", "anisotropic", "flexible")
# largest strain of a cell in a step
MAX_STRAIN = 0.1
# terms of the exponential of a strain of at most that, to rounding
TERMS = 14


@dataclass(frozen=True, kw_only=True)
class CellRescaling:
    r"""Barostat: stochastic cell rescaling.

    Use it with a bath of the positions. A step is of first order in timestep /
    `relaxation_time`: the variance of the volume comes out larger by half of this.

    Parameters
    ----------
    pressure : float, Ramp or np.ndarray, shape (nrep,)
        p in GPa.
    temperature : float, Ramp or np.ndarray, shape (nrep,)
        T in K, that of the positions' bath; at 0 the cell relaxes without noise.
    relaxation_time : float
        τ in fs: that of the volume, if `compressibility` is the system's.
    compressibility : float
        β in 1/GPa. Averages do not depend on it, only how fast the cell moves.
    coupling : str
        ``isotropic``: the volume changes, the shape stays; ``anisotropic``: lengths
        along x, y and z change, each on its own; ``flexible``: angles, too. What is
        along x stays along x, and what is in the plane xy stays there.

    Raises
    ------
    ValueError
        Values of no use.
    """

    pressure: float | np.ndarray | Ramp
    temperature: float | np.ndarray | Ramp
    relaxation_time: float
    compressibility: float
    coupling: str = "isotropic"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not np.isfinite(all_of(self.pressure)).all():
            raise ValueError(
                f"`pressure` must be finite, in GPa. Received: {self.pressure}"
            )
        for name in ("relaxation_time", "compressibility"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(
                    f"`{name}` must be a positive number. Received: "
                    f"{getattr(self, name)}"
                )
        if self.coupling not in COUPLINGS:
            raise ValueError(
                f"`coupling` must be one of {', '.join(COUPLINGS)}. Received: "
                f"{self.coupling!r}"
            )

    def strain(
        self, state: State, velocity: np.ndarray, virial: np.ndarray, time: float
    ) -> np.ndarray:
        """Strain ε of the cells in `time` (fs), shape (nrep, 3, 3).

        Parameters
        ----------
        state : State
            Cells, masses, random numbers.
        velocity : np.ndarray, shape (nrep, nloc, 3)
            Velocities at this instant, in Å/fs.
        virial : np.ndarray, shape (nrep, 3, 3)
            Of the positions at this instant, in eV, as `deepspin.keys.VIRIAL`.
        time : float
            In fs.
        """
        energy = thermal_energy(held(self.temperature), state.nrep)
        volume = np.abs(np.linalg.det(state.box))[:, None, None]
        flux = momentum_flux(state, velocity) + np.swapaxes(virial, 1, 2)
        if state.still:  # its mean, in the place of the centre of mass at rest
            flux = flux + energy * np.eye(3)
        load = np.reshape(held(self.pressure), (-1, 1, 1)) / units.GPA * volume
        rate = self.compressibility * units.GPA / (3 * volume * self.relaxation_time)
        drift = rate * (flux - load * np.eye(3))
        if self.coupling == "flexible":
            drift = drift + rate * energy * np.diag([2.0, 0.0, -2.0])
        noise = np.sqrt(2 * rate * energy * time) * state.normals("cell", (3, 3))
        return _allowed(self.coupling, time * drift, noise)

    def rescale(
        self,
        state: State,
        coord: np.ndarray,
        velocity: np.ndarray,
        virial: np.ndarray,
        time: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells, positions and velocities after `time` (fs) of the barostat alone.

        Parameters are those of `strain`, and `coord` (nrep, nloc, 3), the positions
        that `virial` belongs to.

        Raises
        ------
        DynamicsError
            A cell changes too much.
        """
        strain = self.strain(state, velocity, virial, time)
        largest = np.abs(strain).max(axis=(1, 2))
        worst = int(np.argmax(np.where(np.isfinite(largest), largest, np.inf)))
        if not largest[worst] <= MAX_STRAIN:
            raise DynamicsError(
                f"Step {state.step}: the cell of replica {worst} changes by "
                f"{100 * largest[worst]:.2g} % in a step. Received: a timestep of "
                f"{time:g} fs and a barostat's relaxation time of "
                f"{self.relaxation_time:g} fs. Make that longer, or begin nearer to "
                "the pressure (dp-spin relax --cell --pressure)."
            )
        change = _exponential(strain)
        back = np.swapaxes(np.linalg.inv(change), 1, 2)
        return state.box @ change, coord @ change, velocity @ back


def momentum_flux(state: State, velocity: np.ndarray) -> np.ndarray:
    """Flux of the momenta times the volume, sum m v v, in eV, shape (nrep, 3, 3)."""
    momentum = units.AMU * state.mass[:, None] * velocity
    return np.swapaxes(momentum, 1, 2) @ velocity


def check_barostat(barostat: CellRescaling | None, lattice: bool, state: State) -> None:
    """Refuse states that have no cell that could change with all of their atoms."""
    if barostat is None:
        return
    if not lattice or state.box is None or state.fixed.any():
        raise ValueError(
            "A barostat needs a periodic cell and atoms that all move. Received: "
            f"lattice={lattice}, box={state.box is not None}, "
            f"{np.count_nonzero(state.fixed)} fixed atoms"
        )


def fields_of(fields: Fields, barostat: CellRescaling | None, state: State) -> Fields:
    """Take a Hamiltonian in the cells of a state, if a barostat moves these."""
    if barostat is None:
        return fields
    return fields.in_box(state.box)  # type: ignore[attr-defined]  # a barostat asks it


def virial_of(found: Response, barostat: CellRescaling | None) -> np.ndarray:
    """Virials (nrep, 3, 3) in eV that a barostat needs; without one they are 0.

    Raises
    ------
    ValueError
        The Hamiltonian does not tell them.
    """
    if barostat is None:
        return np.zeros((len(found.energy), 3, 3))
    if found.virial is None:
        raise ValueError("A barostat needs a Hamiltonian that tells virials.")
    return found.virial


def _allowed(coupling: str, drift: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Strain of a kind, from drift and noise of all components, (nrep, 3, 3) each."""
    if coupling == "isotropic":
        drift = np.trace(drift, axis1=1, axis2=2) / 3
        size = drift + noise[:, 0, 0] / np.sqrt(3)
        return size[:, None, None] * np.eye(3)
    if coupling == "anisotropic":
        return (drift + noise) * np.eye(3)
    return np.tril(drift + noise)


def _exponential(strain: np.ndarray) -> np.ndarray:
    """Exponential of small matrices, (nrep, 3, 3)."""
    if not (strain * (1 - np.eye(3))).any():
        return np.exp(strain) * np.eye(3)
    power = total = np.broadcast_to(np.eye(3), strain.shape)
    for number in range(1, TERMS):
        power = power @ strain / number
        total = total + power
    return total
