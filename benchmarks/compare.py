# SPDX-License-Identifier: Apache-2.0
"""Time deepspin beside DeePMD-kit, or beside an earlier revision of itself.

    python benchmarks/compare.py --peer BIN --train SYSTEM --valid SYSTEM
    python benchmarks/compare.py --revision REV --train SYSTEM --valid SYSTEM

BIN is the folder of `dp` and its `python`, SYSTEM a system in the layout with virtual
atoms. Both programs have the same net (DeePMD-kit's spin example), weights, data,
precision and threads, take turns (A B A B ...), and only one works at a time. Rows:

step        a training step, without start-up and compiling
eval        energy, forces, magnetic forces and virial from Python, neighbour list
            included, of supercells of the first training frame; atoms and spins are
            shaken before every call
compressed  the same with compressed models
start       from the command to the first step done; again with the cache it left, if
            it left one; and the help
whole       a whole training

Before a row is timed it is checked that both compute the same numbers; if not, the row
fails and so does the command. ``ratio`` is the first program's time by the second's,
turn by turn; ``floor`` the least time on this machine, see machine.py. Every number
with spread is the median (smallest-largest). A row during which other programs computed
says so, and should be run again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import machine
import numpy as np
import problem
import sides
from sides import Failed, Side

REPORT = re.compile(r"[Bb]atch\s+(\d+): total wall time")
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # of the largest value
TABLE_TOLERANCE = 1e-4  # of compressed models, relative to them as they were
THREE_DIGITS = 1.1e-2  # learning curves are printed with three
VARIABLES = ("DEEPSPIN_", "DP_", "TF_ENABLE_", "TF_XLA_", "XLA_")  # to be shown
MOST_OTHERS = 0.2  # cores that other programs may use
WARM_UP = 4  # calls, after the one that is checked: TensorFlow traces some shapes anew
TURN, CALLS = 0.3, 3  # seconds and calls of a turn, at least; its time is the median


@dataclasses.dataclass
class Row:
    """A row of the table: values of each side, in turns."""

    name: str
    unit: str
    values: dict[str, list[float]]
    floor: float | None = None
    note: str = ""
    memory: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def memory_row(self) -> Row:
        """Row of the peak memory of this row's processes."""
        return Row(f"memory: {self.name}", "MB", self.memory)


def spread(values: Sequence[float]) -> str:
    """Median, least and largest."""
    if not values:
        return "-"
    middle = statistics.median(values)
    digits = max(0, 2 - int(np.floor(np.log10(max(middle, 1e-9)))))
    low, high = min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


class Comparison:
    """What the rows need: both sides, their models, the frames.

    Parameters
    ----------
    args : argparse.Namespace
        The command line.
    pair : sequence of Side
        The two sides, in the order of their turns.
    folder : Path
        For all files.
    rates : dict
        Of the machine.
    """

    def __init__(
        self, args: argparse.Namespace, pair: Sequence[Side], folder: Path, rates: dict
    ):
        self.args, self.pair, self.folder, self.rates = args, pair, folder, rates
        # the same single frame at every validation
        self.valid = problem.copy_one_frame(args.valid, folder / "valid")
        frame = problem.supercell(args.train, 1)
        self.natoms, self.pairs = len(frame["coord"]), problem.count_pairs(frame)
        self._starts: dict[str, Path] = {}
        self._models: dict[tuple[str, str], Path] = {}
        self._made = 0

    def new_folder(self, steps: int = 1, **options) -> Path:
        """Fresh folder with an input."""
        self._made += 1
        here = self.folder / f"{self._made:04d}"
        here.mkdir()
        options = {"precision": "float64", "batch": 1, "disp": 100} | options
        content = problem.make_input(
            self.args.train, self.valid, steps=steps, **options
        )
        (here / "input.json").write_text(json.dumps(content, indent=2))
        return here

    def start(self, precision: str) -> Path:
        """Model that both begin to train with."""
        if precision == "float64" and self.args.model:
            return self.args.model
        if precision not in self._starts:
            folder = self.new_folder(precision=precision)
            self._starts[precision] = self.pair[0].make_model(folder)
        return self._starts[precision]

    def model(self, side: Side, precision: str) -> Path:
        """Model of a side to evaluate."""
        key = side.name, precision
        if key not in self._models:
            start = self.start(precision)
            self._models[key] = side.take_over(start, self.new_folder())
        return self._models[key]

    def frame(self, cells: int) -> Path:
        """File of a supercell."""
        path = self.folder / f"frame-{cells}.npz"
        if not path.is_file():
            np.savez(path, **problem.supercell(self.args.train, cells))
        return path

    def floor(self, precision: str, *, frames: int = 1, **kind: bool) -> float:
        """Least seconds of a step or of an evaluation of the first frame."""
        flops = machine.operations(frames * self.natoms, frames * self.pairs, **kind)
        training = kind["training"]
        return machine.floor(self.rates, flops, precision, update=training)

    def alternate(self, measure: Callable[[Side], float]) -> dict[str, list[float]]:
        """Measure both sides in turn."""
        turns = [
            [measure(side) for side in self.pair] for _ in range(self.args.repeats)
        ]
        names = [side.name for side in self.pair]
        return dict(zip(names, map(list, zip(*turns, strict=True)), strict=True))


# -- training ----------------------------------------------------------------------


def step_time(finished: sides.Finished) -> float:
    """Milliseconds a step, from the first report to the last, by our clock."""
    found = [(at, REPORT.search(line)) for at, line in finished.lines]
    reports = [(at, int(match[1])) for at, match in found if match]
    if len(reports) < 2:
        raise Failed(
            "No reports of progress:\n" + "".join(x for _, x in finished.lines)
        )
    (begin, first), (end, last) = reports[0], reports[-1]
    return 1e3 * (end - begin) / (last - first)


def step_rows(c: Comparison) -> Iterator[Callable[[], Row]]:
    """Training steps."""
    for precision in c.args.precision:
        for batch in c.args.batch:
            yield lambda p=precision, b=batch: step_row(c, p, b)


def step_row(c: Comparison, precision: str, batch: int) -> Row:
    """Time of a step; the validation errors at step 0 are to be equal."""
    memory: dict[str, list[float]] = {side.name: [] for side in c.pair}
    errors: dict[str, np.ndarray] = {}
    start, steps = c.start(precision), c.args.steps
    options = {"precision": precision, "batch": batch, "disp": max(steps // 3, 1)}

    def measure(side: Side) -> float:
        here = c.new_folder(steps, **options)
        begin = side.begin_with(start)
        done = side.run(here, "train", "input.json", *begin, "--skip-neighbor-stat")
        memory[side.name].append(done.memory)
        errors[side.name] = np.loadtxt(here / "lcurve.out")[0, 1:-1:2]
        first, *others = errors.values()
        if not all(np.allclose(first, e, rtol=THREE_DIGITS, atol=0) for e in others):
            raise Failed(f"The errors at step 0 differ: {errors}")
        return step_time(done)

    values = c.alternate(measure)
    floor = 1e3 * c.floor(precision, frames=batch, training=True)
    note = "equal errors at step 0"
    return Row(f"step, batch {batch}, {precision}", "ms", values, floor, note, memory)


def start_rows(c: Comparison) -> Iterator[Callable[[], Row]]:
    """Start-up."""
    caches = {side.name: c.folder / f"cache-{k}" for k, side in enumerate(c.pair)}

    def seconds(side: Side, cache: Path | None) -> float:
        return side.run(c.new_folder(), "train", "input.json", cache=cache).seconds

    def cold() -> Row:
        for side in c.pair:  # files are read once, and the kept cache filled
            seconds(side, caches[side.name])
        return Row("first step, no cache", "s", c.alternate(lambda s: seconds(s, None)))

    def warm() -> Row:
        left = [name for name, cache in caches.items() if any(cache.glob("deepspin*"))]
        if not left:
            return Row("first step, cache", "s", {}, note="no side leaves a cache")
        values = c.alternate(lambda side: seconds(side, caches[side.name]))
        return Row("first step, cache", "s", values, note=f"of {', '.join(left)}")

    def usage() -> Row:
        return Row("-h", "s", c.alternate(lambda s: s.run(c.folder, "-h").seconds))

    yield from (cold, warm, usage)


def whole_rows(c: Comparison) -> Iterator[Callable[[], Row]]:
    """Whole trainings."""

    def whole() -> Row:
        memory: dict[str, list[float]] = {side.name: [] for side in c.pair}

        def seconds(side: Side) -> float:
            done = side.run(c.new_folder(c.args.whole), "train", "input.json")
            memory[side.name].append(done.memory)
            return done.seconds

        values = c.alternate(seconds)
        floor = c.args.whole * c.floor("float64", training=True)
        name = f"train {c.args.whole} steps"
        return Row(name, "s", values, floor, memory=memory)

    yield whole


# -- evaluation --------------------------------------------------------------------


def load(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file."""
    with np.load(path) as stored:
        return dict(stored)


def results(
    c: Comparison, evaluators: dict[str, sides.Evaluator]
) -> dict[str, dict[str, np.ndarray]]:
    """What each side says of the same shaken frame."""
    found = {}
    for name, evaluator in evaluators.items():
        path = c.new_folder() / "result.npz"
        evaluator.ask(do="save", seed=0, out=str(path))
        found[name] = load(path)
    return found


def check_equal(found: dict[str, dict[str, np.ndarray]], tolerance: float) -> str:
    """Raise `Failed` unless all sides say the same; the largest difference."""
    first, *others = found.values()
    worst = {
        key: max(
            (np.abs(first[key] - r[key]).max() / np.abs(first[key]).max())
            for r in others
        )
        for key in first
        if others
    }
    if not all(value <= tolerance for value in worst.values()):
        raise Failed(f"Results differ by more than {tolerance:g}: {worst}")
    return f"equal to {max(worst.values()):.0e}" if worst else ""


def eval_rows(c: Comparison) -> Iterator[Callable[[], Row]]:
    """Evaluations of models as they are."""
    for precision in c.args.eval_precision:
        for cells in c.args.cells:
            yield lambda p=precision, n=cells: eval_row(
                c, {side.name: c.model(side, p) for side in c.pair}, n, p
            )


def eval_row(
    c: Comparison, models: dict[str, Path], cells: int, precision: str, errors: str = ""
) -> Row:
    """Time of an evaluation; `errors`: those of the tables, of compressed models."""
    natoms = c.natoms * cells**3
    taking_part = [side for side in c.pair if side.name in models]
    with contextlib.ExitStack() as stack:
        evaluators = {
            side.name: stack.enter_context(
                side.evaluator(models[side.name], c.frame(cells))
            )
            for side in taking_part
        }
        tolerance = TABLE_TOLERANCE if errors else TOLERANCE[precision]
        notes = [check_equal(results(c, evaluators), tolerance), errors]
        for evaluator in evaluators.values():
            evaluator.ask(do="measure", seed=1, seconds=0, least=WARM_UP)
        values: dict[str, list[float]] = {name: [] for name in evaluators}
        for turn in range(c.args.repeats):
            for name, evaluator in evaluators.items():
                seed = 1000 * (turn + 1)
                answer = evaluator.ask(
                    do="measure", seed=seed, seconds=TURN, least=CALLS
                )
                values[name].append(1e3 * answer["seconds"] / natoms)
        memory = {name: [e.memory] for name, e in evaluators.items()}
    floor = c.floor(precision, training=False, compressed=bool(errors)) / c.natoms
    name = f"eval {'compressed, ' if errors else ''}{natoms} atoms, {precision}"
    return Row(
        name, "ms/atom", values, 1e3 * floor, "; ".join(filter(None, notes)), memory
    )


def compressed_rows(c: Comparison) -> Iterator[Callable[[], Row]]:
    """Evaluations of compressed models, of the sides that have them."""
    models: dict[str, Path] = {}
    notes = []
    for side in c.pair:
        if not side.can("compress"):
            notes.append(f"{side.name} does not compress")
            continue
        plain = c.model(side, "float64")
        compressed = side.compress(plain, c.new_folder())
        error = table_error(c, side, plain, compressed)
        models[side.name] = compressed
        notes.append(f"table error of {side.name}: {error}")
    note = "; ".join(notes)
    if not models:
        yield lambda: Row("eval compressed", "ms/atom", {}, note=note)
        return
    for cells in c.args.cells:
        yield lambda n=cells: eval_row(c, models, n, "float64", note)


def table_error(c: Comparison, side: Side, plain: Path, compressed: Path) -> str:
    """Rms of what compressing changes, by the rms of forces and magnetic forces.

    Raises
    ------
    Failed
        It is more than any table would.
    """
    found = []
    for model in (plain, compressed):
        with side.evaluator(model, c.frame(min(c.args.cells))) as evaluator:
            found += results(c, {side.name: evaluator}).values()
    before, after = found
    errors = {
        key: np.linalg.norm(after[key] - before[key]) / np.linalg.norm(before[key])
        for key in ("force", "force_mag")
    }
    text = ", ".join(f"{key} {value:.1e}" for key, value in errors.items())
    if not all(value <= TABLE_TOLERANCE for value in errors.values()):
        raise Failed(f"{side.name} changes a model by compressing it: {text}")
    return text


# -- table -------------------------------------------------------------------------

ROWS = {
    "step": step_rows,
    "eval": eval_rows,
    "compressed": compressed_rows,
    "start": start_rows,
    "whole": whole_rows,
}


def print_row(row: Row, names: Sequence[str]) -> None:
    """Print a row of the table."""
    columns = [row.values.get(name, []) for name in names]
    ratios = [a / b for a, b in zip(*columns, strict=False)]
    floor = "-" if row.floor is None else f"{row.floor:.3g}"
    cells = [
        f"{row.name + ', ' + row.unit:48s}",
        *(f"{spread(x):>26s}" for x in columns),
    ]
    cells += [f"{spread(ratios):>20s}", f"{floor:>8s}", row.note]
    sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.flush()


def print_rows(
    pair: Sequence[Side], groups: dict[str, Callable[[], Iterator[Callable[[], Row]]]]
) -> tuple[list[Row], list[str]]:
    """Run and print the rows of some groups; the rows, and the failures."""
    names = [side.name for side in pair]
    head = [f"{'row, unit':48s}", *(f"{name:>26s}" for name in names)]
    sys.stdout.write("  ".join([*head, f"{'ratio':>20s}", f"{'floor':>8s}"]) + "\n")
    rows: list[Row] = []
    failures: list[str] = []

    def attempt(run: Callable[[], Row]) -> None:
        start, foreign = time.perf_counter(), machine.foreign_seconds()
        try:
            row = run()
        except Failed as error:
            failures.append(str(error))
            sys.stdout.write(f"FAILED: {error}\n")
            return
        others = machine.foreign_seconds() - foreign
        others /= time.perf_counter() - start
        if others > MOST_OTHERS:
            row.note = f"BUSY MACHINE: others used {others:.1f} cores; {row.note}"
        rows.append(row)
        print_row(row, names)

    for group, rows_of in groups.items():
        try:
            for run in rows_of():
                attempt(run)
        except Failed as error:  # what all rows of a group need
            failures.append(str(error))
            sys.stdout.write(f"FAILED: {group}: {error}\n")
    for row in [row for row in rows if row.memory]:
        rows.append(row.memory_row())
        print_row(rows[-1], names)
    return rows, failures


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--peer", type=Path, help="folder of DeePMD-kit's dp and python")
    other.add_argument("--revision", help="of this repository, to compare with")
    for name in ("train", "valid"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="SYSTEM")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--skip-compressed", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    parser.add_argument(
        "--model",
        type=Path,
        help="float64 model of the example's net to begin with and to evaluate, frozen "
        "by DeePMD-kit (.pb), or a .keras file with --revision; by default one of a "
        "training of 1 step",
    )
    precisions = list(TOLERANCE)
    parser.add_argument(
        "--precision", nargs="+", choices=precisions, default=precisions, help="of step"
    )
    parser.add_argument(
        "--eval-precision", nargs="+", choices=precisions, default=precisions[:1]
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4], help="of step")
    parser.add_argument("--steps", type=int, default=300, help="of step, at least 3")
    parser.add_argument("--whole", type=int, default=1000, help="steps of whole")
    parser.add_argument(
        "--cells",
        nargs="+",
        type=int,
        default=[1, 2, 3, 4, 7],
        help="in each direction",
    )
    args = parser.parse_args(argv)
    if args.peer and not (args.peer / "dp").is_file():
        parser.error(f"no dp in {args.peer}")
    for name in ("train", "valid", "model"):
        if path := getattr(args, name):
            if not path.exists():
                parser.error(f"no {path}")
            setattr(args, name, path.resolve())
    return args


@contextlib.contextmanager
def pair_of(args: argparse.Namespace) -> Iterator[list[Side]]:
    """Both sides."""
    if args.peer:
        yield [
            sides.peer_side(args.peer, args.threads),
            sides.our_side(args.threads),
        ]
        return
    with sides.checkout(args.revision) as tree:
        yield [
            sides.our_side(args.threads, tree, args.revision),
            sides.our_side(args.threads, sides.HERE.parent, "working tree"),
        ]


def main() -> None:
    """Run the comparison and print it."""
    args = parse()
    groups = [x for x in args.rows if not (x == "compressed" and args.skip_compressed)]
    with pair_of(args) as pair, tempfile.TemporaryDirectory() as name:
        folder, env = Path(name), sides.environment(args.threads)
        measured = sides.run([sys.executable, machine.__file__], folder, env)
        given = {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)}
        settings = " ".join(f"{k}={v}" for k, v in sorted(given.items()))
        rates = json.loads(measured.lines[-1][1])
        sys.stdout.write(
            f"{shlex.join(sys.argv)}\n{os.cpu_count()} cores, {args.threads} threads; "
            + ", ".join(f"{k} {v:.3g}" for k, v in rates.items())
            + " (products in GFLOP/s, copies in GB/s)\n"
            + "".join(f"{side.name}: {side.about}\n" for side in pair)
            + f"environment: {settings or 'nothing set'}\n"
            + "\n"
        )
        comparison = Comparison(args, pair, folder, rates)
        groups = {group: partial(ROWS[group], comparison) for group in groups}
        rows, failures = print_rows(pair, groups)
    if args.json:
        content = {
            "command": sys.argv,
            "environment": given,
            "rates": rates,
            "sides": {side.name: side.about for side in pair},
            "rows": [dataclasses.asdict(row) for row in rows],
            "failures": failures,
        }
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if failures:
        sys.exit(f"{len(failures)} failed")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:  # before any row
        sys.exit(str(error))
