# SPDX-License-Identifier: Apache-2.0
"""Time of a training step beside DeePMD-kit's, in one run.

    python benchmarks/train_step.py --peer /path/to/dp --train SYSTEM --valid SYSTEM

Both programs train the same net from the same weights on the same virtual-atom data, in
turn, several times; a step's time is that of the last report interval, start-up and
compilation excluded. First it is checked that both see the same errors at step 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

INTERVAL = re.compile(r"[Bb]atch\s+(\d+): total wall time = ([0-9.]+) s")


def make_input(args: argparse.Namespace, steps: int) -> dict:
    """Input of DeePMD-kit's spin example, for both programs."""
    sel = [60, 60]
    return {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": sel,
                "rcut_smth": 5.4,
                "rcut": 5.6,
                "neuron": [25, 50, 100],
                "axis_neuron": 16,
                "type_one_side": True,
                "precision": args.precision,
                "seed": 1,
            },
            "fitting_net": {
                "neuron": [240, 240, 240],
                "resnet_dt": True,
                "precision": args.precision,
                "seed": 1,
            },
            "spin": {
                "use_spin": [True, False],
                "virtual_len": [0.4],
                "spin_norm": [1.2737],
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 5.92e-6},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": [args.train], "batch_size": args.batch},
            "validation_data": {
                "systems": [args.valid],
                "batch_size": 1,
                "numb_btch": 1,
            },
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": max(steps // 3, 1),
            "save_freq": 10 * steps,
        },
    }


def run(command: list[str], folder: Path, threads: int) -> str:
    """Run a program in a folder and return all it printed."""
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTERFACE_PREC": "high",
    }
    done = subprocess.run(
        command, cwd=folder, env=env, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def step_time(output: str) -> float:
    """Milliseconds a step in the last interval reported."""
    rows = [(int(k), float(t)) for k, t in INTERVAL.findall(output)]
    (before, _), (last, seconds) = rows[-2:]
    return 1e3 * seconds / (last - before)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="DeePMD-kit's dp")
    parser.add_argument("--train", required=True, help="virtual-atom training system")
    parser.add_argument("--valid", required=True, help="virtual-atom validation system")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.train, args.valid = (str(Path(p).resolve()) for p in (args.train, args.valid))
    ours = [sys.executable, "-m", "deepspin"]
    peer = [str(Path(args.peer).resolve()), "--tf"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "start"
        start.mkdir()
        (start / "input.json").write_text(json.dumps(make_input(args, 1)))
        run([*peer, "train", "input.json", "--skip-neighbor-stat"], start, args.threads)
        run([*peer, "freeze", "-o", "frozen.pb"], start, args.threads)
        content = json.dumps(make_input(args, args.steps))
        times: dict[str, list[float]] = {"deepspin": [], "DeePMD-kit": []}
        first = {}
        for _ in range(args.repeats):
            for label in times:
                here = folder / label
                shutil.rmtree(here, ignore_errors=True)
                here.mkdir()
                (here / "input.json").write_text(content)
                shutil.copy(start / "frozen.pb", here)
                command = (
                    [*ours, "train", "input.json", "-f", "frozen.pb"]
                    if label == "deepspin"
                    else [*peer, "train", "input.json", "-f", "frozen.pb"]
                )
                output = run([*command, "--skip-neighbor-stat"], here, args.threads)
                times[label].append(step_time(output))
                curve = np.loadtxt(here / "lcurve.out")
                first[label] = curve[0, 1:-1]
        # a system of one frame: both must see the very same errors
        one = len(np.load(next(Path(args.valid).glob("set.*/coord.npy")))) == 1
        if one and not np.allclose(
            first["deepspin"][::2], first["DeePMD-kit"][::2], rtol=2e-2
        ):
            sys.exit(f"The two differ at step 0: {first}")
    print_table(times, args, one)


def print_table(times: dict[str, list[float]], args, checked: bool) -> None:
    """Print medians, spreads and the ratio run by run."""
    out = sys.stdout.write
    out(
        f"batch {args.batch}, {args.precision}, {args.threads} threads, "
        f"{args.repeats} runs in turn"
        f"{', equal errors at step 0' if checked else ''}\n"
    )
    for label, values in times.items():
        out(
            f"{label:12s} {statistics.median(values):8.1f} ms/step "
            f"({min(values):.1f} to {max(values):.1f})\n"
        )
    ratios = [
        b / a for a, b in zip(times["deepspin"], times["DeePMD-kit"], strict=True)
    ]
    out(
        f"DeePMD-kit / deepspin: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})\n"
    )


if __name__ == "__main__":
    main()
