# SPDX-License-Identifier: Apache-2.0
"""Train the same input with deepspin and DeePMD-kit, several seeds each, and compare.

    python benchmarks/learning_curves.py --peer PATH/dp --out DIR input.json

Runs that are in DIR already are not repeated. For each line of the learning curves it
prints the mean over seeds of the validation errors of both, and their difference in
units of the pooled standard deviation; more than 2 is marked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

COLUMNS = {"e": "rmse_e_val", "fr": "rmse_fr_val", "fm": "rmse_fm_val"}
LIMIT = 2.0


def absolute(section: dict | None, base: Path) -> None:
    """Make the paths of a section of the data absolute."""
    if section:
        systems = section["systems"]
        systems = [systems] if isinstance(systems, str) else systems
        section["systems"] = [str((base / path).resolve()) for path in systems]


def train(command: list[str], source: Path, folder: Path, seed: int, steps: int):
    """Train in a folder unless that is done; rows of the learning curve."""
    curve = folder / "lcurve.out"
    last = np.loadtxt(curve)[-1, 0] if curve.is_file() else -1
    if last < steps:
        options = json.loads(source.read_text(encoding="utf-8"))
        for part in (options["model"]["descriptor"], options["model"]["fitting_net"]):
            part["seed"] = seed
        training = options["training"]
        training |= {"numb_steps": steps, "disp_freq": steps // 10, "seed": seed}
        training |= {"save_freq": steps, "disp_file": "lcurve.out"}
        for name in ("training_data", "validation_data"):
            absolute(training.get(name), source.parent)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "input.json").write_text(json.dumps(options, indent=2))
        with open(folder / "log", "w", encoding="utf-8") as log:
            subprocess.run(
                [*command, "train", "input.json"],
                cwd=folder,
                stdout=log,
                stderr=log,
                check=True,
            )
    names = curve.read_text(encoding="utf-8").splitlines()[0].split()[1:]
    return {
        name: column for name, column in zip(names, np.loadtxt(curve).T, strict=True)
    }


def compare(theirs: list[dict], ours: list[dict], steps: np.ndarray) -> None:
    """Print the table."""
    for name, column in COLUMNS.items():
        a, b = (np.array([run[column] for run in runs]) for runs in (theirs, ours))
        spread = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
        apart = np.abs(a.mean(axis=0) - b.mean(axis=0)) / spread
        sys.stdout.write(f"\n{column}\n   step  DeePMD-kit    deepspin  apart\n")
        for k, step in enumerate(steps):
            mark = "  <- more" if apart[k] > LIMIT else ""
            means = f"{a[:, k].mean():12.3e}{b[:, k].mean():12.3e}"
            sys.stdout.write(f"{step:7.0f}{means}{apart[k]:7.2f}{mark}\n")
        inside = np.count_nonzero(apart <= LIMIT)
        sys.stdout.write(f"{name}: {inside} of {len(steps)} within {LIMIT:g}\n")


def main() -> None:
    """Run all trainings and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="input.json")
    parser.add_argument("--peer", required=True, help="dp of DeePMD-kit")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    programs = {"theirs": [args.peer], "ours": [sys.executable, "-m", "deepspin"]}
    runs = {
        name: [
            train(command, args.input, args.out / f"{name}-{s}", s, args.steps)
            for s in args.seeds
        ]
        for name, command in programs.items()
    }
    for result in runs.values():  # the first line is before any training
        for k, run in enumerate(result):
            result[k] = {name: column[1:] for name, column in run.items()}
    compare(runs["theirs"], runs["ours"], runs["ours"][0]["step"])


if __name__ == "__main__":
    main()
