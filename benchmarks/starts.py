# SPDX-License-Identifier: Apache-2.0
"""Time the start of a training on many systems beside DeePMD-kit.

    python benchmarks/starts.py --peer BIN --train SYSTEM
    python benchmarks/starts.py --revision REV --train SYSTEM

Each of the N systems that are trained on has one frame, one of SYSTEM in turn with its
atoms shaken a little; SYSTEM is one in the layout with virtual atoms. A row is the time
from the command to the end of a training of one step, with the net of DeePMD-kit's spin
example, and the peak memory of that process; ``on cores`` is what the two computed, all
threads together, which other programs disturb less. The two programs read the same
files and take turns (A B A B ...); ``ratio`` is the first one's time by the second's,
turn by turn. Every number with spread is the median (smallest-largest).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import compare
import numpy as np
import problem
from sides import Failed, Side

SHAKE = 0.02  # Å, so that no two systems are alike


def make_systems(source: Path, folder: Path, number: int) -> Path:
    """Write systems of one frame each; a virtual atom moves with its owner."""
    types = np.loadtxt(source / "type.raw", dtype=int)
    real = len(problem.USE_SPIN)
    owner = np.arange(len(types))
    owner[types >= real] = np.flatnonzero(np.array([*problem.USE_SPIN, 0, 0])[types])
    first = min(source.glob("set.*"))
    arrays = {path.name: np.load(path) for path in first.glob("*.npy")}
    random = np.random.default_rng(0)
    for k in range(number):
        system = folder / f"system-{k + 1:04d}"
        (system / first.name).mkdir(parents=True)
        shutil.copy(source / "type.raw", system)
        move = random.normal(scale=SHAKE, size=(len(types), 3))[owner].ravel()
        for name, values in arrays.items():
            frame = k % len(values)
            rows = values[frame : frame + 1] + (move if name == "coord.npy" else 0.0)
            np.save(system / first.name / name, rows)
    return folder


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--peer", type=Path, help="folder of DeePMD-kit's dp and python")
    other.add_argument("--revision", help="of this repository, to compare with")
    parser.add_argument("--train", type=Path, required=True, metavar="SYSTEM")
    parser.add_argument("--systems", nargs="+", type=int, default=[1, 200, 1500])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    args = parser.parse_args()
    if args.peer and not (args.peer / "dp").is_file():
        parser.error(f"no dp in {args.peer}")
    args.train = args.train.resolve()
    return args


def rows_of(
    pair: Sequence[Side], args: argparse.Namespace, folder: Path
) -> Iterator[Callable[[], compare.Row]]:
    """Rows of each number of systems."""

    def measure(number: int) -> compare.Row:
        here = folder / str(number)
        systems = make_systems(args.train, here / "systems", number)
        options = {"precision": "float64", "batch": 1, "steps": 1, "disp": 1}
        content = problem.make_input(systems, systems / "system-0001", **options)
        values: dict[str, list[float]] = {side.name: [] for side in pair}
        memory: dict[str, list[float]] = {side.name: [] for side in pair}
        computed: dict[str, list[float]] = {side.name: [] for side in pair}
        for turn in range(args.repeats):
            for k, side in enumerate(pair):
                run = here / f"{turn}-{k}"
                run.mkdir()
                (run / "input.json").write_text(json.dumps(content), encoding="utf-8")
                done = side.run(run, "train", "input.json")
                values[side.name].append(done.seconds)
                memory[side.name].append(done.memory)
                computed[side.name].append(done.computed)
        plural = "s" if number > 1 else ""
        note = "on cores: " + ", ".join(map(compare.spread, computed.values()))
        name = f"{number} system{plural}"
        return compare.Row(name, "s", values, note=note, memory=memory)

    for number in args.systems:
        yield partial(measure, number)


def main() -> None:
    """Time all rows and print them."""
    args = parse()
    with compare.pair_of(args) as pair, tempfile.TemporaryDirectory() as name:
        sys.stdout.write(f"{shlex.join(sys.argv)}\n")
        sys.stdout.write("".join(f"{side.name}: {side.about}\n" for side in pair))
        groups = {"starts": partial(rows_of, pair, args, Path(name))}
        rows, failures = compare.print_rows(pair, groups)
    if args.json:
        content = {
            "command": sys.argv,
            "sides": {side.name: side.about for side in pair},
            "rows": [vars(row) for row in rows],
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
