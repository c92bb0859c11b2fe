# SPDX-License-Identifier: Apache-2.0
"""What a relaxation tells while it runs, and the files that it leaves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms import units
from deepspin.atoms.structures import Structure, save_structure
from deepspin.dynamics.relax.relaxation import Relaxation
from deepspin.dynamics.relax.search import Changes
from deepspin.dynamics.relax.starts import distinct, orders
from deepspin.utils.outputs import replacing
from deepspin.utils.stopping import StopOnSignal

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# a relative change of the volume that few solids make
LARGE = 0.05
# columns of the log after the step and the replica: units
COLUMNS = {
    "energy": "eV",
    "enthalpy": "eV",
    "fmax": "eV/A",
    "tmax": "eV/mu_B",
    "smax": "GPa",
}
FORMATS = ("7d", "7d", "18.8f", "18.8f", "11.3e", "11.3e", "11.3e")


def log_of(output: str) -> Path:
    """Where the log goes that belongs to an output."""
    return Path(output).with_suffix(".log")


class Report:
    """Tells where a relaxation is, a line for each step, and writes what came of it.

    Is what observes the relaxation. Stops it when a signal has come.

    Parameters
    ----------
    output : str
        File of structures to write; the log goes beside it, with the suffix ``.log``.
    atoms : Structure
        What is relaxed.
    changes : Changes
        What may change.
    stop : StopOnSignal
        Notes signals.

    Attributes
    ----------
    first, last : Relaxation or None
        The start, and where the relaxation is now.
    """

    def __init__(
        self, output: str, atoms: Structure, changes: Changes, stop: StopOnSignal
    ):
        self.output, self.atoms, self.stop = output, atoms, stop
        self.what = "enthalpy" if changes.pressure else "energy"
        self.cell = changes.cell
        self.first: Relaxation | None = None
        self.last: Relaxation | None = None
        self.lines: list[str] = []

    def __call__(self, now: Relaxation) -> None:
        """Tell it."""
        many = now.nrep > 1
        if self.first is None:
            self.first = now
            log.info(
                "# %s %s (eV), and the largest force (eV/Å), magnetic force (eV/μ_B)"
                "%s that are left",
                "converged, lowest" if many else "step,",
                self.what,
                " and stress (GPa)" if self.cell else "",
            )
        self._note(now)
        self.last = now
        done = np.count_nonzero(now.converged)
        log.info(
            "%s %18.8f %11.3e %11.3e%s",
            f"{done:5d} of {now.nrep}" if many else f"{now.steps[0]:6d}",
            now.enthalpy.min(),
            now.fmax.max(),
            now.tmax.max(),
            f" {now.smax.max():11.3e}" if self.cell else "",
        )
        if self.stop.received is not None:
            raise KeyboardInterrupt

    def _note(self, now: Relaxation) -> None:
        """Have lines for the log of replicas that have moved."""
        moved: np.ndarray = np.ones(now.nrep, dtype=bool)
        if self.last is not None:
            moved = now.steps > self.last.steps
        for k in np.flatnonzero(moved):
            row = [now.steps[k], k, *(getattr(now, name)[k] for name in COLUMNS)]
            self.lines.append(" ".join(map(format, row, FORMATS)) + "\n")

    def save(self, end: Relaxation) -> None:
        """Write the log and the structure; of many starts all states, lowest last."""
        _write_log(log_of(self.output), self.lines)
        _write_states(self.output, self.atoms, end)
        log.info("wrote '%s' and '%s'", self.output, log_of(self.output))

    def finish(self, end: Relaxation, potential: DeepSpin) -> None:
        """Tell how it ended and how far all has come, and save it."""
        _tell_end(end, potential)
        _tell_changes(self.atoms, self.first, end)
        self.save(end)


def _tell_end(end: Relaxation, potential: DeepSpin) -> None:
    """Tell how it ended, and warn of what did not converge."""
    log.info(
        "%d of %d converged in up to %d steps and %d evaluations",
        np.count_nonzero(end.converged),
        end.nrep,
        end.steps.max(),
        end.evaluations,
    )
    stalled = np.count_nonzero(end.stalled)
    left = np.count_nonzero(~end.converged) - stalled
    if left:
        log.warning(
            "%d of %d did not converge in %d steps; go on from the output, or with "
            "more --steps",
            left,
            end.nrep,
            end.steps.max(),
        )
    if stalled:
        log.warning(
            "%d of %d find no way further down but are above the limits: the energy of "
            "this model (%s) is not exact, or not smooth enough; choose larger --fmax, "
            "--tmax or --smax",
            stalled,
            end.nrep,
            potential.precision,
        )
    if potential.dropped:
        log.warning(
            "the model leaves out neighbours of these atoms (`sel`): its energy jumps "
            "as they come and go, and where it is lowest may be such a jump"
        )


def _tell_changes(atoms: Structure, first: Relaxation, end: Relaxation) -> None:
    """Tell how far atoms, spins and cell have come, where the enthalpy is lowest."""
    k = int(np.argmin(end.enthalpy))
    for what in ("energy", "enthalpy"):
        now, before = getattr(end, what)[k], getattr(first, what)[k]
        if what == "energy" or now != end.energy[k]:
            log.info("%s: %.8f eV, %+.8f eV from its start", what, now, now - before)
    place, spin, old = end.coord[k], end.spin[k], first.spin[k]
    if end.smax.any():  # in the cell as it was
        place = place @ np.linalg.inv(end.box[k]) @ atoms.box
    moved = np.linalg.norm(place - atoms.coord, axis=1)
    log.info("atoms: moved up to %.4f Å (atom %d)", moved.max(), moved.argmax())
    sine = np.linalg.norm(np.cross(spin, old), axis=1)
    turned = np.degrees(np.arctan2(sine, (spin * old).sum(axis=1)))
    log.info("spins: turned up to %.2f° (atom %d)", turned.max(), turned.argmax())
    modulus = np.linalg.norm(spin, axis=1)
    for t in np.unique(atoms.atype[modulus > 0]):
        own = atoms.atype == t
        log.info(
            "spins of %s: |S| %.4f to %.4f μ_B, |mean S| %.4f μ_B",
            atoms.names[t],
            modulus[own].min(),
            modulus[own].max(),
            np.linalg.norm(spin[own].mean(axis=0)),
        )
    if end.smax.any():
        volume, before = np.abs(np.linalg.det([end.box[k], atoms.box]))
        log.info(
            "cell: volume %+.3f %%, lattice vectors of %s Å, pressure %.4f GPa",
            100 * (volume / before - 1),
            ", ".join(f"{x:.4f}" for x in np.linalg.norm(end.box[k], axis=1)),
            units.GPA * np.trace(end.virial[k]) / 3 / volume,
        )
        if abs(volume / before - 1) > LARGE:
            log.warning(
                "so large a change of the volume may be the model's error: it knows "
                "stresses only if virials were in its training"
            )


def _write_log(path: Path, lines: Sequence[str]) -> None:
    heads = (["step", "replica", *COLUMNS], ["-", "-", *COLUMNS.values()])
    widths = [form.partition(".")[0].rstrip("d") for form in FORMATS]
    head = [
        "#" + " ".join(map(format, line, (f">{w}s" for w in widths)))[1:] + "\n"
        for line in heads
    ]
    with replacing(path) as partial:
        partial.write_text("".join([*head, *lines]), encoding="utf-8")


def _write_states(output: str, atoms: Structure, end: Relaxation) -> None:
    """Write the structure; of many starts all states that were found, lowest last."""
    states = distinct(end, atoms.atype) or [[int(np.argmin(end.enthalpy))]]
    if end.nrep > 1:
        _tell_states(atoms, end, states)
    frames, results = [], []
    for state in reversed(states):
        k = state[0]
        box = None if end.box is None else end.box[k]
        frames.append(replace(atoms, coord=end.coord[k], spin=end.spin[k], box=box))
        values = {
            name: getattr(end, name)[k]
            for name in (
                *("energy", "enthalpy", "force", "force_mag", "virial"),
                *("converged", "steps"),
            )
        }
        results.append({**values, "found": len(state)})
    save_structure(output, frames, results)


def _tell_states(
    atoms: Structure, end: Relaxation, states: Sequence[Sequence[int]]
) -> None:
    """Tell which states were found, the lowest first."""
    lowest = end.enthalpy[states[0][0]]
    log.info(
        "# state, %s (eV), above the lowest (meV), times found, first start; of "
        "each type |mean S| and the root mean square of S along its main axes (μ_B)",
        "energy" if lowest == end.energy[states[0][0]] else "enthalpy",
    )
    for number, state in enumerate(states):
        order = orders(end.spin[state[:1]], atoms.atype)[0]
        log.info(
            "%3d %18.8f %12.4f %4d %4d  %s",
            number,
            end.enthalpy[state[0]],
            1e3 * (end.enthalpy[state[0]] - lowest),
            len(state),
            min(state),
            " ".join(f"{x:.3f}" for x in order),
        )
