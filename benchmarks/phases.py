# SPDX-License-Identifier: Apache-2.0
"""Tell where the time goes from a command to the first step, and to first answers.

    python benchmarks/phases.py --train SYSTEM

A training of one step, of the net of DeePMD-kit's spin example, on SYSTEM in the layout
with virtual atoms, with one batch to validate on. Each phase ends where it says; ``on
cores`` is what all threads computed in it. Below are whole commands: the help, a typo
in the input, and a test of the model that was trained. Each number is the median
(smallest-largest) of the turns, in s.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

# phase, and where it ends: when a function is called, or when it is back
PHASES = (
    ("Python, options", "deepspin.entrypoints.train:train", "called"),
    ("input checked", "deepspin.env:start_tensorflow", "called"),
    ("TensorFlow, Keras imported", "deepspin.env:start_tensorflow", "back"),
    ("own modules imported", "deepspin.training.trainer:train", "called"),
    ("data read, neighbours listed", "deepspin.training.trainer:load_data", "back"),
    ("statistics, model made", "deepspin.training.trainer:initial_model", "back"),
    ("optimizer made", "deepspin.training.trainer:compile_model", "back"),
    ("batches prepared", "deepspin.model.ener:SpinEnergyModel.fit", "called"),
    (
        "errors before the step",
        "deepspin.training.callbacks:LearningCurve.on_train_begin",
        "back",
    ),
    ("step traced", "deepspin.model.ener:SpinEnergyModel.train_step", "back"),
    ("step made", "deepspin.training.callbacks:LossGuard.on_train_batch_end", "called"),
    ("errors after it", "deepspin.model.ener:SpinEnergyModel.fit", "back"),
    ("checkpoint", "deepspin.training.trainer:_fit", "back"),
)
LAST = "end of the program"


def child(begin: float, arguments: list[str]) -> None:
    """Run a verb and print when each phase ended: by the clock, and on cores."""
    ends: dict[str, tuple[float, float]] = {}

    def mark(phase: str) -> None:
        ends.setdefault(phase, (time.time() - begin, time.process_time()))

    def watch(place: str, phases: dict[str, str]) -> None:
        module, _, path = place.partition(":")
        *owners, name = path.split(".")
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        whole: Callable = getattr(owner, name)

        def marked(*args, **kwargs):
            if "called" in phases:
                mark(phases["called"])
            try:
                return whole(*args, **kwargs)
            finally:
                if "back" in phases:
                    mark(phases["back"])
                if place == "deepspin.env:start_tensorflow":
                    watch_all(later)

        setattr(owner, name, marked)

    places: dict[str, dict[str, str]] = defaultdict(dict)
    for phase, place, when in PHASES:
        places[place][when] = phase
    first = ("deepspin.entrypoints.train:train", "deepspin.env:start_tensorflow")
    later = [place for place in places if place not in first]

    def watch_all(which) -> None:
        for place in which:
            watch(place, places[place])

    from deepspin.main import main

    watch_all(first)
    if main(arguments):
        sys.exit(1)
    sys.stdout.write(json.dumps(ends) + "\n")


def run(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds of a command by the clock and on cores, and what it printed."""
    begin = time.time()
    with subprocess.Popen(
        [sys.executable, *command, *([str(begin)] * ("--child" in command))],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and "typo.json" not in command:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.time() - begin, usage.ru_utime + usage.ru_stime, printed


def main() -> None:
    """Print the table."""
    if "--child" in sys.argv:
        child(float(sys.argv[-1]), ["train", "input.json"])
        return
    import problem
    from compare import spread  # not for the child, which would import numpy

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True, metavar="SYSTEM")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    clock: dict[str, list[float]] = defaultdict(list)
    cores: dict[str, list[float]] = defaultdict(list)

    def note(name: str, wall: float, computed: float) -> None:
        clock[name].append(wall)
        cores[name].append(computed)

    with tempfile.TemporaryDirectory() as name:
        folder, train = Path(name), args.train.resolve()
        content = problem.make_input(
            train, train, precision="float64", batch=1, steps=1, disp=1
        )
        (folder / "input.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "typo.json").write_text('{"modle": {}}', encoding="utf-8")
        script, verb = str(Path(__file__).resolve()), ["-m", "deepspin"]
        for _ in range(args.turns):
            wall, computed, printed = run([script, "--child"], folder)
            before = (0.0, 0.0)
            for phase, end in json.loads(printed.splitlines()[-1]).items():
                note(phase, end[0] - before[0], end[1] - before[1])
                before = end
            note(LAST, wall - before[0], computed - before[1])
            note("all of it", wall, computed)
            model = str(next(folder.glob("model.ckpt-1.keras")))
            answers = {
                "-h": ["-h"],
                "train, with a typo": ["train", "typo.json"],
                "test of one frame": ["test", "-m", model, "-s", str(train), "-n", "1"],
            }
            for title, rest in answers.items():
                note(title, *run([*verb, *rest], folder)[:2])
    sys.stdout.write(f"{'s':32s}{'by the clock':>24s}{'on cores':>24s}\n")
    for title, values in clock.items():
        row = f"{title:32s}{spread(values):>24s}{spread(cores[title]):>24s}\n"
        sys.stdout.write(row)


if __name__ == "__main__":
    main()
