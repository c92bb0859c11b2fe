# SPDX-License-Identifier: Apache-2.0
"""Compare deepspin with other programs on the same frames, side by side.

    python benchmarks/peers.py --data DATA [--tf BIN] [--torch BIN] [--jax BIN]
                               [--mace BIN] [--seconds 60 180]

DATA are systems of Ni and O with spin files, of which ``--hold-out`` keeps the last
frames of each for the errors. BIN is the folder of programs of an environment with
DeePMD-kit and its TensorFlow (`--tf`), PyTorch (`--torch`) or JAX backend (`--jax`), or
with MACE (`--mace`). Rows: deepspin's schemes `ener_spin` and `invariant`, and each
program given; DeePMD-kit has the nets, cutoff, precision and schedule of `ener_spin`,
its TensorFlow backend reads the frames with virtual atoms. MACE knows no spins: its
model (two layers, 32 scalars and vectors, the rest as it likes) sees atoms alone.
What a program cannot do is told with its own last words.

The first table: time of a training step of one frame, without start-up; time of an
energy with its derivatives, neighbour list included, of supercells of a frame, by
Python, in turns. The second: errors, root mean squares on frames that no program has
trained on, after trainings that each took as long from start to end, one at a time. A
number with a spread is the median (smallest-largest). The steps are those that fit by
a short training before; the learning rate has fallen at their end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import compare
import machine
import numpy as np
import problem
import sides
from programs import NUMBERS, Program, frames_of, programs
from sides import Failed

TRIAL = 30  # steps of a first training
LONG = 5.0  # seconds of the steps that are timed
UNITS = {"energy": "meV/atom", "force": "meV/Å", "force_mag": "meV/μ_B"}


@dataclasses.dataclass
class Standing:
    """A program, what was found of it, and why it is left out if it is."""

    name: str
    program: Program | None
    reason: str = ""
    start: list[float] = dataclasses.field(default_factory=list)  # all but steps
    each: list[float] = dataclasses.field(default_factory=list)  # seconds of a step
    per_atom: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    errors: list[tuple[float, int, dict]] = dataclasses.field(default_factory=list)
    models: list[Path] = dataclasses.field(default_factory=list)


# -- measurements ------------------------------------------------------------------


def last_words(error: Failed) -> str:
    """The last line that a program has said."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def can(one: Standing, work: Callable[..., None], *arguments: object) -> bool:
    """Whether a program does some work; if not, why is kept."""
    try:
        work(one, *arguments)
    except Failed as error:
        one.reason = last_words(error)
        return False
    return True


def time_training(one: Standing, folder: Path, about: float) -> None:
    """Train some steps; seconds of a step, and of all else."""
    steps = one.program.steps(about)
    done = one.program.train(folder, steps)
    each = one.program.step_time(done)
    one.each.append(each)
    one.start.append(done.seconds - steps * each)


def time_steps(able: Sequence[Standing], out: Path, repeats: int) -> None:
    """Time steps of all in turns, after the trial."""
    for turn in range(repeats):
        for number, one in enumerate(able):
            about = max(TRIAL, LONG / one.each[0])
            time_training(one, out / f"steps-{turn}-{number}", about)
    for one in able:
        one.each, one.start = one.each[1:], one.start[1:]


def train_for(one: Standing, seconds: float, folder: Path, valid: Path) -> None:
    """Train for so many seconds, and find the errors."""
    each, start = np.median(one.each), np.median(one.start)
    steps = one.program.steps(float((seconds - start) / each))
    done = one.program.train(folder, steps)
    model = one.program.model(folder)
    one.models.append(model)
    squares: dict[str, list[np.ndarray]] = {}
    for system in sorted(path.parent for path in valid.rglob("type.raw")):
        wanted = frames_of(system)
        there = folder / f"{system.name}.npz"
        np.savez(there, **wanted)
        with evaluate(one, model, there) as evaluator:
            evaluator.ask(do="predict", frames=str(there), out=str(folder / "out.npz"))
        found = compare.load(folder / "out.npz")
        for name in UNITS:
            if name not in found:
                continue
            gap = found[name] - wanted[name]
            if name == "energy":
                gap = gap / len(wanted["atype"])
            if name == "force_mag":
                gap = gap[:, wanted["owner"]]
            squares.setdefault(name, []).append(gap.ravel() ** 2)
    errors = {
        name: 1e3 * float(np.sqrt(np.concatenate(parts).mean()))
        for name, parts in squares.items()
    }
    one.errors.append((done.seconds, steps, errors))


def evaluate(one: Standing, model: Path, frame: Path):
    """Process that evaluates a model of a program."""
    side = one.program.side
    return sides.evaluator(
        one.name, side.python, side.env, one.program.kind, model, frame
    )


def time_evaluations(
    able: Sequence[Standing], frame: dict[str, np.ndarray], place: Path, repeats: int
) -> None:
    """Time evaluations of all in turns, of models of the first trainings."""
    natoms = len(frame["atype"])
    np.savez(place, **frame, numbers=NUMBERS)
    with contextlib.ExitStack() as stack:
        evaluators = {
            one.name: stack.enter_context(evaluate(one, one.models[0], place))
            for one in able
        }

        def measure(one: Standing, turn: int) -> None:
            evaluator, warm_up = evaluators[one.name], turn == 0
            seconds, least = compare.TURN, compare.CALLS
            if warm_up:
                seconds, least = 0.0, compare.WARM_UP
            answer = evaluator.ask(
                do="measure", seed=1000 * turn, seconds=seconds, least=least
            )
            if not warm_up:
                times = one.per_atom.setdefault(natoms, [])
                times.append(answer["seconds"] / natoms)

        for turn in range(repeats + 1):
            able = [one for one in able if can(one, measure, turn)]


# -- tables ------------------------------------------------------------------------


def show(title: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for cells in (title, ["---"] * len(title), *rows):
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.write("\n")
    sys.stdout.flush()


def speed_rows(able: Sequence[Standing], sizes: Sequence[int]) -> list[list[str]]:
    """Rows of the first table."""
    times = [[one.each, *(one.per_atom.get(n, []) for n in sizes)] for one in able]
    return [
        [one.name, *(compare.spread([1e3 * x for x in values]) for values in row)]
        for one, row in zip(able, times, strict=True)
    ]


def error_rows(able: Sequence[Standing]) -> list[list[str]]:
    """Rows of the second table."""
    return [
        [one.name, f"{seconds:.0f}", f"{steps:,}"]
        + [f"{errors[name]:.3g}" if name in errors else "-" for name in UNITS]
        for one in able
        for seconds, steps, errors in one.errors
    ]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hold-out", type=int, default=12)
    for name in ("tf", "torch", "jax", "mace"):
        parser.add_argument(f"--{name}", type=Path, metavar="BIN")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 180.0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if not any(args.data.rglob("spin.npy")):
        parser.error(f"no spin.npy in {args.data}")
    args.data = str(args.data.resolve())
    return args


def main() -> None:
    """Measure and print."""
    args = parse()
    begin, foreign = time.perf_counter(), machine.foreign_seconds()
    sys.stdout.write(f"{shlex.join(sys.argv)}\n")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        standings = [
            Standing(name, None, found)
            if isinstance(found, str)
            else Standing(name, found)
            for name, found in programs(args, out).items()
        ]
        able = [
            one
            for k, one in enumerate(standings)
            if one.program and can(one, time_training, out / f"trial-{k}", TRIAL)
        ]
        time_steps(able, out, args.repeats)
        for seconds in args.seconds:
            able = [
                one
                for k, one in enumerate(able)
                if can(one, train_for, seconds, out / f"{seconds:g}-{k}", out / "valid")
            ]
        sizes: list[int] = []
        virtual = min(p.parent for p in (out / "train-virtual-atom").rglob("type.raw"))
        for cells in args.cells:
            frame = problem.supercell(virtual, cells)
            time_evaluations(able, frame, out / f"frame-{cells}.npz", args.repeats)
            sizes.append(len(frame["atype"]))
    others = machine.foreign_seconds() - foreign
    others /= time.perf_counter() - begin
    given = [one.program.side for one in standings if one.program]
    abouts = {side.name: side.about for side in given}
    sys.stdout.write(
        f"{os.cpu_count()} cores, {args.threads} threads; other programs used "
        f"{others:.1f} cores\n"
        + "".join(f"{name}: {about}\n" for name, about in abouts.items())
        + "\n"
    )
    titles = [f"{n} atoms, ms/atom" for n in sizes]
    show(["", "training step, ms", *titles], speed_rows(able, sizes))
    labels = [f"{name.replace('_', ' ')}, {unit}" for name, unit in UNITS.items()]
    show(["", "seconds", "steps", *labels], error_rows(able))
    for one in standings:
        if one.reason:
            sys.stdout.write(f"left out: {one.name}: {one.reason}\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
