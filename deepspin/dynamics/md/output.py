# SPDX-License-Identifier: Apache-2.0
"""What a run of dynamics measures, and its log.

A run can be killed at any moment and go on with its files: logs and trajectories only
grow, and a restart cuts off what they hold beyond the restart file.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from deepspin.atoms.waves import order_parameter
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.barostat import CellRescaling, fields_of
from deepspin.dynamics.core.fields import Fields, Response
from deepspin.dynamics.core.ramps import Ramp
from deepspin.dynamics.core.state import State
from deepspin.utils.outputs import append, replacing, set_aside

log = logging.getLogger(__name__)

Parts = Iterator[tuple[int, int]]  # step and end of each part of a file

# columns of the log with unit and format
COLUMNS = {
    "step": ("", "9d"),
    "replica": ("", "7d"),
    "time": ("ps", "12.6f"),
    "e_total": ("eV", "18.8f"),
    "e_pot": ("eV", "18.8f"),
    "e_kin": ("eV", "14.8f"),
    "e_spin": ("eV", "14.8f"),
    "e_conserved": ("eV", "18.8f"),
    "t_lattice": ("K", "11.3f"),
    "t_spin": ("K", "11.3f"),
    "m": ("mu_B", "10.6f"),
    "order": ("", "10.6f"),
    "modulus": ("mu_B", "10.6f"),
    "t_bath": ("K", "11.3f"),
    "t_spin_bath": ("K", "11.3f"),
    **{f"b_{axis}": ("T", "12.4f") for axis in "xyz"},
    **{f"m_{axis}": ("mu_B", "10.6f") for axis in "xyz"},
    "volume": ("A^3", "14.6f"),
    "pressure": ("GPa", "12.6f"),
    "evaluations": ("", "11d"),
}
# a line of the log, which begins with the step
_LINE = re.compile(rb"(?m)^ *(\d+) ")
# columns for spins whose moduli move
MODULI = ("e_spin", "modulus")
# columns for cells that change
CELL = ("volume", "pressure")
# columns for ramps: what is ramped, and what tells it
RAMPED = {
    "temperature": ("t_bath",),
    "spin_temperature": ("t_spin_bath",),
    "field": ("b_x", "b_y", "b_z", "m_x", "m_y", "m_z"),
}


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
    signs : np.ndarray, shape (nwaves, nloc); or None
        Sublattices of the staggered orders of equivalent waves; None for none.
    spin_mass : np.ndarray, shape (nloc,); or None
        Inertia of spins whose moduli move.
    fields : Fields
        The Hamiltonian, which the temperature of spins of fixed moduli is asked of.
    barostat : CellRescaling, optional
        What changes the cell.
    ramps : dict of str to Ramp, optional
        What changes with time, by the keys of `RAMPED`.
    reservoir : function, optional
        Tells the energy in eV, (nrep,), that a state's chains hold.
    """

    signs: np.ndarray | None
    spin_mass: np.ndarray | None
    fields: Fields
    barostat: CellRescaling | None = None
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    reservoir: Callable[[State], np.ndarray] | None = None

    @property
    def columns(self) -> list[str]:
        """Names of what `measure` gives."""
        left = [*MODULI] if self.spin_mass is None else []
        left += [] if self.barostat is not None else CELL
        left += [] if self.reservoir is not None else ["e_conserved"]
        for name, columns in RAMPED.items():
            left += [] if name in self.ramps else columns
        return [name for name in COLUMNS if name not in left]

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
            waves = [order_parameter(state.spin, signs) for signs in self.signs]
            found["order"] = np.sqrt(np.square(waves).sum(axis=(0, 2)))
        if self.spin_mass is not None:
            mass = self.spin_mass
            found["e_spin"] = observables.spin_kinetic_energy(state, mass)
            found["e_total"] = found["e_total"] + found["e_spin"]
            found["modulus"] = np.linalg.norm(state.spin, axis=2).sum(axis=1) / spins
        if self.barostat is not None:
            found["volume"] = observables.volume(state)
            found["pressure"] = observables.pressure(state, response.virial)
        if self.reservoir is not None:
            found["e_conserved"] = found["e_total"] + self.reservoir(state)
        found |= self._ramped(state, spins)
        return {name: found[name] for name in self.columns}

    def _ramped(self, state: State, spins: int) -> dict[str, np.ndarray]:
        """Measure what changes with time, and the mean spin in a field that does."""
        found: dict[str, np.ndarray] = {}
        for name, ramp in self.ramps.items():
            values = np.moveaxis(np.atleast_1d(ramp.at(state.time)), -1, 0)
            rows = [np.broadcast_to(value, state.nrep) for value in values]
            if name == "field":
                rows += [*(state.spin.sum(axis=1) / spins).T]
            found |= dict(zip(RAMPED[name], rows, strict=True))
        return found

    def _spin_temperature(self, frame: Frame) -> np.ndarray:
        state, force_mag = frame.state, frame.response.force_mag
        if self.spin_mass is not None:
            return observables.spin_kinetic_temperature(state, self.spin_mass)
        if not state.spin.any():
            return np.full(state.nrep, np.nan)
        fields = fields_of(self.fields, self.barostat, state)
        curvature = observables.spin_curvature(fields, state, force_mag)
        return observables.spin_temperature(state.spin, force_mag, curvature)


# --- Files ----------------------------------------------------------------------------


class Writer(Protocol):
    """Writes frames to files."""

    files: list[Path]

    def begin(self, kept: int | None) -> int | None:
        """Make new files, or cut off what they hold after the step `kept`.

        Returns the last step that they hold then.
        """

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

    def begin(self, kept: int | None) -> int | None:
        """Make a new file, or cut off what it holds after the step `kept`."""
        path, header = self.files[0], self._header()
        text = _head(path, len(header.encode()))
        if kept is not None and text == header:
            return cut(path, self._lines, _LINE, kept)
        if text:  # other columns
            set_aside([path])
        with replacing(path) as partial:
            partial.write_text(header, encoding="utf-8")
        return None

    def _lines(self, file: BinaryIO) -> Parts:
        """Step and end of each line, until one is not whole."""
        columns = len(self.observer.columns)
        for line in file:
            words = line.split()
            whole = line.endswith(b"\n") and len(words) == columns
            if not (whole and words[0].isdigit()):
                break
            yield int(words[0]), file.tell()

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


def cut(
    path: Path, parts: Callable[[BinaryIO], Parts], step: re.Pattern, kept: int
) -> int | None:
    """Cut a file off after its last good part of a step up to `kept`.

    If parts of such steps come after one that is damaged, the file is set aside before.

    Parameters
    ----------
    path : Path
        The file.
    parts : function
        Gives step and end of each part, until one is not whole.
    step : re.Pattern
        Finds the step of a part, whole or not; the first group is its number.
    kept : int
        The last step to keep.

    Returns
    -------
    int or None
        The last step that the file then holds.
    """
    last, damaged = None, True
    with open(path, "rb") as file:
        end = _skip_comments(file)
        for number, after in parts(file):
            if number > kept:
                damaged = False
                break
            last, end = number, after
        file.seek(end)
        lost = damaged and [n for n in step.findall(file.read()) if int(n) <= kept]
    if lost:
        at = "at its beginning" if last is None else f"after step {last}"
        log.warning("'%s' is damaged %s: what follows there is cut off", path, at)
        set_aside([path], copies=[path])
    if end < path.stat().st_size:
        os.truncate(path, end)
    return last


def _skip_comments(file: BinaryIO) -> int:
    """Go to the end of the lines at the beginning that are comments."""
    end = 0
    while file.readline().startswith(b"#"):
        end = file.tell()
    file.seek(end)
    return end
