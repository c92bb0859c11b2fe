# SPDX-License-Identifier: Apache-2.0
"""Tell what an evaluation of few atoms takes beside its kernel.

    python benchmarks/overhead.py MODEL --train SYSTEM

The frame is the first of SYSTEM, in the layout with virtual atoms, shaken before every
call. Columns are numbers of frames in a call, which are replicas of a dynamics. Rows:

checks      of what a user gives
lists       neighbours, from candidates that are kept, and in the arrays of a model
dispatch    TensorFlow's way to the kernel and back, from a call without frames
kernel      the call, less that
rest        of `eval`
eval        all of it
calculator  of ASE: what it takes beside `eval`, for one frame
step        of dynamics of atoms and spins in baths: what it takes for each evaluation
            beside `eval`

in ms, each the median of calls; of these the median (smallest-largest) of the turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import problem
from compare import spread
from evaluator import shake

from deepspin.env import start_tensorflow

CALLS, WARM_UP = 100, 20
TEMPERATURE, TIMESTEP = 100.0, 0.5  # K, fs
MASS = {"Ni": 58.69, "O": 16.0}


class Parts:
    """Seconds that functions take while others call them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: object, name: str, part: str) -> None:
        """Measure a function from here on."""
        whole: Callable = getattr(owner, name)

        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return whole(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - begin

        setattr(owner, name, timed)


def evaluations(model: str, frame: dict, nf: int, turns: int) -> dict[str, list]:
    """Milliseconds of the parts of `eval`, one for each turn."""
    from deepspin.infer import batching, deep_spin

    potential, parts = deep_spin.DeepSpin(model), Parts()
    whole, given = potential._call, []

    def call(inputs):
        given[:] = [inputs]
        return whole(inputs)

    potential._call = call
    parts.watch(potential, "_call", "call")
    parts.watch(potential._batching, "begin", "checks")
    parts.watch(potential._batching, "neighbors", "lists")
    frames_of, lists = deep_spin.Frames.of, batching._lists
    parts.watch(deep_spin.Frames, "of", "checks")
    parts.watch(batching, "_lists", "lists")
    found: dict[str, list] = defaultdict(list)
    for turn in range(-1, turns):
        rows: dict[str, list] = defaultdict(list)
        for k in range(CALLS if turn >= 0 else WARM_UP):
            shaken = [shake(frame, CALLS * turn + k + i + 1000) for i in range(nf)]
            coord, spin = (np.stack([s[n] for s in shaken]) for n in ("coord", "spin"))
            box = np.stack([frame["box"]] * nf)
            parts.seconds.clear()
            begin = time.perf_counter()
            potential.eval(coord, box, frame["atype"], spin)
            total = time.perf_counter() - begin
            empty = {
                name: tuple(v[:0] for v in value)
                if isinstance(value, tuple)
                else value[:0]
                for name, value in given[0].items()
            }
            begin = time.perf_counter()
            whole(empty)
            dispatch = time.perf_counter() - begin
            part = dict(parts.seconds)
            part |= {"dispatch": dispatch, "kernel": part["call"] - dispatch}
            known = (part[name] for name in ("checks", "lists", "call"))
            part |= {"rest": total - sum(known), "eval": total}
            for name, seconds in part.items():
                rows[name].append(1e3 * seconds)
        for name, values in rows.items() if turn >= 0 else ():
            found[name].append(statistics.median(values))
    deep_spin.Frames.of, batching._lists = frames_of, lists
    return found


def calculator(model: str, frame: dict, turns: int) -> list[float]:
    """Milliseconds of ASE's calculator beside `eval`, one for each turn."""
    from ase import Atoms

    from deepspin.calculator import DeepSpinCalculator

    symbols = [list(MASS)[t] for t in frame["atype"]]
    atoms = Atoms(symbols, frame["coord"], cell=frame["box"], pbc=True)
    atoms.calc, parts = DeepSpinCalculator(model), Parts()
    parts.watch(atoms.calc.potential, "eval", "eval")
    found = []
    for turn in range(-1, turns):
        values = []
        for k in range(CALLS if turn >= 0 else WARM_UP):
            shaken = shake(frame, CALLS * turn + k + 1000)
            atoms.positions = shaken["coord"]
            atoms.set_initial_magnetic_moments(shaken["spin"])
            parts.seconds.clear()
            begin = time.perf_counter()
            atoms.get_forces()
            values.append(1e3 * (time.perf_counter() - begin - parts.seconds["eval"]))
        found += [statistics.median(values)] if turn >= 0 else []
    return found


def steps(model: str, frame: dict, nrep: int, turns: int) -> list[float]:
    """Milliseconds of steps beside `eval`, for each evaluation, one for each turn."""
    from deepspin.dynamics import (
        Gilbert,
        Integrator,
        Langevin,
        ModelFields,
        State,
        thermal_velocity,
    )
    from deepspin.infer.deep_spin import DeepSpin

    copies = {name: np.stack([frame[name]] * nrep) for name in ("coord", "spin", "box")}
    mass = np.array(list(MASS.values()))[frame["atype"]]
    state = State(**copies, mass=mass, atype=frame["atype"], still=True)
    state.velocity = thermal_velocity(state, TEMPERATURE)
    potential, parts = DeepSpin(model), Parts()
    parts.watch(potential, "eval", "eval")
    integrator = Integrator(
        ModelFields(potential, frame["atype"], state.box),
        TIMESTEP,
        lattice_bath=Langevin(TEMPERATURE, 0.02),
        spin_bath=Gilbert(TEMPERATURE, 0.1),
    )
    found = []
    for turn in range(-1, turns):
        values = []
        for _ in range(CALLS if turn >= 0 else WARM_UP):
            parts.seconds.clear()
            before, begin = integrator.evaluations, time.perf_counter()
            integrator.step(state)
            seconds = time.perf_counter() - begin - parts.seconds["eval"]
            values.append(1e3 * seconds / (integrator.evaluations - before))
        found += [statistics.median(values)] if turn >= 0 else []
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--train", type=Path, required=True, metavar="SYSTEM")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    start_tensorflow()
    frame = problem.supercell(args.train, 1)
    columns = {nf: evaluations(args.model, frame, nf, args.turns) for nf in args.frames}
    for nf, column in columns.items():
        if nf == 1:
            column["calculator"] = calculator(args.model, frame, args.turns)
        column["step"] = steps(args.model, frame, nf, args.turns)
    head = "".join(f"{f'{nf} frame' + 's' * (nf > 1):>24s}" for nf in columns)
    say(f"{len(frame['atype'])} atoms, ms{head}")
    names = ("checks", "lists", "dispatch", "kernel", "rest", "eval")
    for name in (*names, "calculator", "step"):
        row = [spread(column.get(name, [])) for column in columns.values()]
        say(f"{name:12s}" + "".join(f"{text:>24s}" for text in row))


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
