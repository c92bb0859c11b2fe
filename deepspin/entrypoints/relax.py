# SPDX-License-Identifier: Apache-2.0
"""``dp-spin relax``: go to the nearest minimum, or look for the lowest one."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import (
    Structure,
    check_suffix,
    load_structure,
    save_structure,
)
from deepspin.dynamics.core.fields import ModelFields
from deepspin.dynamics.relax.manifold import Freedom
from deepspin.dynamics.relax.relaxation import GPA, NOISE, Limits, Relaxation, along
from deepspin.dynamics.relax.relaxation import relax as go_down
from deepspin.dynamics.relax.starts import distinct, orders, starting_spins
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.utils.outputs import claim, replacing
from deepspin.utils.refused import InputError
from deepspin.utils.stopping import StopOnSignal, Stopped

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# what `spins` lets change: directions and moduli
SPINS = {
    "directions": (True, False),
    "moduli": (True, True),
    "collinear": (False, True),
    "fixed": (False, False),
}
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


def relax(
    *,
    structure: str,
    model: str,
    output: str = "relaxed.extxyz",
    frame: int = -1,
    cell: bool = False,
    pressure: float = 0.0,
    spins: str = "directions",
    axis: Sequence[float] | None = None,
    fix_atoms: Sequence[str] = (),
    fix_spins: Sequence[str] = (),
    fmax: float = 1e-3,
    tmax: float = 1e-4,
    smax: float = 0.01,
    steps: int = 1000,
    method: str = "lbfgs",
    starts: int = 1,
    seed: int = 0,
    fparam: Sequence[float] | None = None,
    force: bool = False,
) -> Relaxation:
    """Relax a structure with spins, and write what comes of it.

    Parameters
    ----------
    structure, frame
        See `deepspin.atoms.structures.load_structure`.
    model : str
        Model file of any kind.
    output : str
        File to write; of several minima the lowest is its last frame. What is left of
        energies and forces in each step goes beside it, with the suffix ``.log``.
    cell : bool
        Relax the cell, too.
    pressure : float
        Outer pressure on it, in GPa.
    spins : {"directions", "moduli", "collinear", "fixed"}
        What of the spins may change: directions; and moduli, too; moduli and signs
        only; nothing.
    axis : sequence of 3 float, optional
        Lay collinear spins along this axis first; otherwise they stay on their own.
    fix_atoms, fix_spins : sequence of str
        Atoms whose positions, or spins, stay: numbers from 0, ranges such as 4-7, types
        or all.
    fmax, tmax, smax : float
        See `deepspin.dynamics.relax.relaxation.Limits`.
    steps, method
        See `deepspin.dynamics.relax.relaxation.relax`.
    starts, seed : int
        Number of starts, and the seed of all but the first.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.
    force : bool
        Replace what is at `output`.

    Returns
    -------
    Relaxation
        The ends of all starts.

    Raises
    ------
    InputError, DataError, OutputError, ValueError, OSError
        Options that make no sense, a structure of no use, or an output that cannot be
        written.
    Stopped
        A signal stopped it, after a step; what there was is written.
    """
    limits = _check(spins, axis, steps, starts, seed, (fmax, tmax, smax))
    if not np.isfinite(pressure) or (pressure and not cell):
        raise InputError(
            "--pressure takes a finite number of GPa, and goes with --cell. Received: "
            f"{pressure:g} {'with' if cell else 'without'} --cell"
        )
    check_suffix(output)
    file = resolve_checkpoint(model)
    for path in (output, _log_of(output)):
        claim(path, force=force)
    start_tensorflow()
    from deepspin.infer.deep_spin import DeepSpin

    potential = DeepSpin(file)
    atoms = load_structure(structure, potential, frame)
    magnetic = potential.is_magnetic(atoms.atype)
    atoms = atoms.with_spins(magnetic)
    free = _freedom(atoms, spins, cell, fix_atoms, fix_spins)
    if axis is not None:
        atoms = replace(atoms, spin=along(atoms.spin, np.array(axis)))
    spin = _starts(atoms, starts, seed, spins, free)
    told = _Told("enthalpy" if pressure else "energy", cell)
    try:
        with StopOnSignal() as told.stop:
            end = go_down(
                ModelFields(
                    potential, atoms.atype, atoms.box, pbc=atoms.pbc, fparam=fparam
                ),
                np.broadcast_to(atoms.coord, spin.shape),
                spin,
                atoms.box,
                free=free,
                pressure=pressure,
                limits=limits,
                steps=steps,
                method=method,
                noise=NOISE[potential.precision],
                observe=told,
            )
    except KeyboardInterrupt as stop:
        if told.last is None:
            raise
        _save(output, atoms, told, told.last)
        raise Stopped(
            f"stopped; wrote '{output}', which is not relaxed", told.stop.received
        ) from stop
    _report(end, potential)
    _tell_changes(atoms, told.first, end)
    _save(output, atoms, told, end)
    return end


# --- What is asked for ----------------------------------------------------------------


def _check(
    spins: str,
    axis: Sequence[float] | None,
    steps: int,
    starts: int,
    seed: int,
    limits: Sequence[float],
) -> Limits:
    if axis is not None and (spins != "collinear" or not np.any(axis)):
        raise InputError(
            "--axis takes 3 numbers, not all 0, and goes with --spins collinear. "
            f"Received: {' '.join(f'{x:g}' for x in axis)} with --spins {spins}"
        )
    if starts < 1 or steps < 0 or seed < 0:
        raise InputError(
            "--starts must be 1 or more, --steps and --seed not negative. Received: "
            f"{starts}, {steps}, {seed}"
        )
    try:
        return Limits(*limits)
    except ValueError as error:
        raise InputError(
            "--fmax, --tmax and --smax must be above 0. Received: "
            f"{' '.join(f'{x:g}' for x in limits)}"
        ) from error


def _freedom(
    atoms: Structure,
    spins: str,
    cell: bool,
    fix_atoms: Sequence[str],
    fix_spins: Sequence[str],
) -> Freedom:
    if cell and not atoms.pbc.all():
        raise InputError(
            "--cell takes structures that are periodic in three directions. Received: "
            f"{' '.join('FT'[int(p)] for p in atoms.pbc)}"
        )
    fixed = atoms.fixed | _chosen("--fix-atoms", fix_atoms, atoms)
    turning = ~_chosen("--fix-spins", fix_spins, atoms)
    directions, moduli = (turning & kind for kind in SPINS[spins])
    return Freedom(~fixed, directions, moduli, cell)


def _chosen(option: str, words: Sequence[str], atoms: Structure) -> np.ndarray:
    """Atoms that words name, (nloc,)."""
    chosen = np.zeros(atoms.nloc, dtype=bool)
    for word in words:
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if word == "all":
            chosen[:] = True
        elif word in atoms.names:
            chosen |= atoms.atype == atoms.names.index(word)
        elif span and int(span[2] or span[1]) < atoms.nloc:
            chosen[int(span[1]) : int(span[2] or span[1]) + 1] = True
        else:
            raise InputError(
                f"{option} takes numbers from 0 to {atoms.nloc - 1}, ranges such as "
                f"0-3, types ({', '.join(atoms.names)}) or all. Received: {word}"
            )
    return chosen


def _starts(
    atoms: Structure, number: int, seed: int, spins: str, free: Freedom
) -> np.ndarray:
    """Spins to start from, (number, nloc, 3); those that are fixed are the same."""
    changes = free.directions | free.moduli
    if number > 1 and not (changes & atoms.spin.any(axis=1)).any():
        raise InputError("--starts needs spins that may change. Received: none")
    axis = None
    if spins == "collinear":
        size = np.linalg.norm(atoms.spin, axis=1, keepdims=True)
        axis = atoms.spin / np.where(size > 0, size, 1.0)
    found = starting_spins(atoms.coord, atoms.spin, atoms.box, number, seed, axis)
    return np.where(changes[:, None], found, atoms.spin)


# --- The relaxation, and what is told and written -------------------------------------


class _Told:
    """Tells where a relaxation is, a line for each step, and keeps the last.

    Stops it when a signal has come.

    Parameters
    ----------
    what : str
        What goes down.
    cell : bool
        Whether the cell changes, so that stresses are told.
    """

    def __init__(self, what: str, cell: bool):
        self.what, self.cell = what, cell
        self.first: Relaxation | None = None
        self.last: Relaxation | None = None
        self.stop: StopOnSignal | None = None
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
        moved = np.ones(now.nrep, dtype=bool)
        if self.last is not None:
            moved = now.steps > self.last.steps
        for k in np.flatnonzero(moved):
            row = [now.steps[k], k, *(getattr(now, name)[k] for name in COLUMNS)]
            self.lines.append(" ".join(map(format, row, FORMATS)) + "\n")


def _report(end: Relaxation, potential: DeepSpin) -> None:
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
            GPA * np.trace(end.virial[k]) / 3 / volume,
        )
        if abs(volume / before - 1) > LARGE:
            log.warning(
                "so large a change of the volume may be the model's error: it knows "
                "stresses only if virials were in its training"
            )


def _log_of(output: str) -> Path:
    return Path(output).with_suffix(".log")


def _save(output: str, atoms: Structure, told: _Told, end: Relaxation) -> None:
    """Write the structure; of many starts all states that were found, lowest last."""
    heads = (["step", "replica", *COLUMNS], ["-", "-", *COLUMNS.values()])
    widths = [form.partition(".")[0].rstrip("d") for form in FORMATS]
    head = [
        "#" + " ".join(map(format, line, (f">{w}s" for w in widths)))[1:] + "\n"
        for line in heads
    ]
    with replacing(_log_of(output)) as partial:
        partial.write_text("".join(head + told.lines), encoding="utf-8")
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
    log.info("wrote '%s' and '%s'", output, _log_of(output))


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
