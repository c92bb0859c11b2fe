# SPDX-License-Identifier: Apache-2.0
"""What a run of dynamics measures, and its log.

A run can be killed at any moment and go on with its files: logs and trajectories only
grow, and a restart cuts off what they hold beyond the restart file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from deepspin.atoms.waves import order_parameter
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.fields import Fields, Response
from deepspin.dynamics.core.state import State
from deepspin.utils.outputs import append, replacing

# columns of the log with unit and format
COLUMNS = {
    "step": ("", "9d"),
    "replica": ("", "7d"),
    "time": ("ps", "12.6f"),
    "e_total": ("eV", "18.8f"),
    "e_pot": ("eV", "18.8f"),
    "e_kin": ("eV", "14.8f"),
    "e_spin": ("eV", "14.8f"),
    "t_lattice": ("K", "11.3f"),
    "t_spin": ("K", "11.3f"),
    "m": ("mu_B", "10.6f"),
    "order": ("", "10.6f"),
    "modulus": ("mu_B", "10.6f"),
    "evaluations": ("", "11d"),
}
# columns for spins whose moduli move
MODULI = ("e_spin", "modulus")


# --- What is measured -----------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """An instant of a run.

    Parameters
    ----------
    state : State
        Atoms and spins.
    response : Response
        What acts on them.
    evaluations : int
        Evaluations of the model that the steps so far took.
    """

    state: State
    response: Response
    evaluations: int


@dataclass(frozen=True)
class Observer:
    """Measures the quantities of the log.

    Parameters
    ----------
    signs : np.ndarray, shape (nloc,); or None
        Sublattices of the staggered order; None for no such order.
    spin_mass : np.ndarray, shape (nloc,); or None
        Inertia of spins whose moduli move.
    fields : Fields
        The Hamiltonian, which the temperature of spins of fixed moduli is asked of.
    """

    signs: np.ndarray | None
    spin_mass: np.ndarray | None
    fields: Fields

    @property
    def columns(self) -> list[str]:
        """Names of what `measure` gives."""
        return [n for n in COLUMNS if n not in MODULI or self.spin_mass is not None]

    def measure(self, frame: Frame) -> dict[str, np.ndarray]:
        """Measure all replicas: numbers of shape (nrep,) by the names of columns."""
        state, response = frame.state, frame.response
        kinetic = observables.kinetic_energy(state)
        spins = max(np.count_nonzero(state.spin[0].any(axis=1)), 1)
        found = {
            "step": np.full(state.nrep, state.step),
            "replica": np.arange(state.nrep),
            "time": np.full(state.nrep, 1e-3 * state.time),
            "e_total": response.energy + kinetic,
            "e_pot": response.energy,
            "e_kin": kinetic,
            "t_lattice": observables.lattice_temperature(state),
            "t_spin": self._spin_temperature(frame),
            "m": np.linalg.norm(state.spin.sum(axis=1), axis=1) / spins,
            "order": np.full(state.nrep, np.nan),
            "evaluations": np.full(state.nrep, frame.evaluations),
        }
        if self.signs is not None:
            order = order_parameter(state.spin, self.signs)
            found["order"] = np.linalg.norm(order, axis=1)
        if self.spin_mass is not None:
            mass = self.spin_mass
            found["e_spin"] = observables.spin_kinetic_energy(state, mass)
            found["e_total"] = found["e_total"] + found["e_spin"]
            found["modulus"] = np.linalg.norm(state.spin, axis=2).sum(axis=1) / spins
        return {name: found[name] for name in self.columns}

    def _spin_temperature(self, frame: Frame) -> np.ndarray:
        state, force_mag = frame.state, frame.response.force_mag
        if self.spin_mass is not None:
            return observables.spin_kinetic_temperature(state, self.spin_mass)
        if not state.spin.any():
            return np.full(state.nrep, np.nan)
        curvature = observables.spin_curvature(self.fields, state, force_mag)
        return observables.spin_temperature(state.spin, force_mag, curvature)


# --- Files ----------------------------------------------------------------------------


class Writer(Protocol):
    """Writes frames to files."""

    files: list[Path]

    def begin(self, kept: int | None) -> None:
        """Make new files, or cut off what they hold after the step `kept`."""

    def write(self, frame: Frame) -> None:
        """Write a frame; it survives a kill."""

    def end(self) -> None:
        """Finish: no more frames will come."""


class Log:
    """A line for each frame and replica.

    Parameters
    ----------
    path : str
        File to write.
    observer : Observer
        Measures.
    """

    def __init__(self, path: str, observer: Observer):
        self.files = [Path(path)]
        self.observer = observer

    def begin(self, kept: int | None) -> None:
        """Make a new file, or cut off what it holds after the step `kept`."""
        path, header = self.files[0], self._header()
        text = _head(path, len(header.encode()))
        if kept is None or text != header:
            with replacing(path) as partial:
                partial.write_text(header, encoding="utf-8")
        else:
            cut(path, lambda file: _end_of_lines(file, kept))

    def _header(self) -> str:
        names, marks = [], []
        for name in self.observer.columns:
            unit, form = COLUMNS[name]
            width = int(re.match(r"\d+", form)[0])
            names.append(f"{name:>{width}s}")
            marks.append(f"{unit or '-':>{width}s}")
        return "".join(f"#{' '.join(line)[1:]}\n" for line in (names, marks))

    def write(self, frame: Frame) -> None:
        """Write the frame's lines."""
        found = self.observer.measure(frame)
        rows = zip(*found.values(), strict=True)
        forms = [COLUMNS[name][1] for name in found]
        lines = [" ".join(map(format, row, forms)) for row in rows]
        append(self.files[0], "\n".join([*lines, ""]))

    def end(self) -> None:
        """Finish; there is nothing to do."""


def _head(path: Path, size: int) -> str:
    """Beginning of a file, empty if there is no file."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", errors="replace")


def _end_of_lines(file: BinaryIO, kept: int) -> int:
    """Where the lines up to a step end."""
    end = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        if not line.startswith(b"#") and int(line.split()[0]) > kept:
            break
        end += len(line)
    return end


def cut(path: Path, find_end: Callable[[BinaryIO], int]) -> None:
    """Cut a file off after its last good part."""
    with open(path, "rb") as file:
        end = find_end(file)
    if end < path.stat().st_size:
        os.truncate(path, end)
