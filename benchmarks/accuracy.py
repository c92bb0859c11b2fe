# SPDX-License-Identifier: Apache-2.0
"""Train the spin schemes for equal wall-clock time on given data, and compare errors.

    python benchmarks/accuracy.py --train DATA --valid DATA --out DIR [--peer BIN]

Rows: the baseline of the scheme `invariant` alone; that scheme; `ener_spin` with the
prefactors of its own defaults; with ``--peer``, the folder of `dp`, DeePMD-kit on the
same data in its layout. Each training is timed over its first steps, then made as long
as ``--seconds`` allow from start to end; every seed in turn, one training at a time.
Errors are those of ``dp-spin test`` on the validation data: root mean squares, energies
per atom, magnetic forces along and across the spins too. Every number with spread is
the mean over seeds (smallest-largest). Runs that are in DIR are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SOME = 100  # steps that tell how long one takes
COLUMNS = {
    "energy eV/atom": "rmse_ea",
    "force eV/Å": "rmse_fr",
    "force_mag eV/μ_B": "rmse_fm",
    "along": "rmse_fm_along",
    "across": "rmse_fm_across",
}


def inputs(args: argparse.Namespace) -> dict[str, dict]:
    """Input of each row."""
    common = {
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": [args.train], "batch_size": args.batch},
            "numb_steps": 0,
            "disp_freq": SOME,
            "save_freq": 10**9,
        },
    }
    model = {
        "type_map": args.type_map,
        "fitting_net": {"neuron": [64, 64]},
        "spin": {"type": "invariant", "use_spin": args.use_spin},
        "descriptor": {
            "type": "se_e2_a",
            "sel": args.sel,
            "rcut": args.rcut,
            "rcut_smth": 2.0,
            "neuron": [8],
            "axis_neuron": 4,
        },
    }
    invariant = {**common, "model": model}
    if args.fit_factor:
        invariant = copy.deepcopy(invariant)
        invariant["training"]["training_data"]["force_mag_factor"] = "fit"
    flags = [name in args.use_spin for name in args.type_map]
    virtual = {
        "type_map": args.type_map,
        "fitting_net": {"neuron": [240, 240, 240]},
        "spin": {
            "use_spin": flags,
            "virtual_len": [0.4] * sum(flags),
            "spin_norm": [args.spin_norm] * sum(flags),
        },
        "descriptor": {
            "type": "se_e2_a",
            "sel": args.sel,
            "rcut": args.rcut,
            "rcut_smth": args.rcut - 0.2,
            "neuron": [25, 50, 100],
            "axis_neuron": 16,
            "type_one_side": True,
        },
    }
    rows = {"baseline": invariant, "invariant": invariant}
    rows["ener_spin"] = {**common, "model": virtual}
    if args.peer:
        rows["DeePMD-kit"] = {**common, "model": virtual}
    return rows


def seeded(given: dict, seed: int, steps: int) -> dict:
    """The input with seeds everywhere, and its number of steps."""
    made = copy.deepcopy(given)
    for part in (made["model"]["descriptor"], made["model"]["fitting_net"]):
        part["seed"] = seed
    made["training"] |= {"seed": seed, "numb_steps": steps}
    made["training"]["disp_freq"] = max(1, min(1000, steps))
    return made


def run(command: Sequence[str], given: dict, folder: Path) -> float:
    """Train in a folder; seconds from start to end."""
    folder.mkdir(parents=True)
    (folder / "input.json").write_text(json.dumps(given, indent=2))
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "train", "input.json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    (folder / "log").write_text(done.stdout)
    if done.returncode:
        sys.exit(f"{folder}: {done.stdout[-2000:]}")
    return seconds


def errors(name: str, given: dict, seed: int, args: argparse.Namespace) -> dict:
    """Train one row with one seed, and test it."""
    folder = Path(args.out) / f"{name}-{seed}"
    stored = folder / "errors.json"
    if stored.is_file():
        return json.loads(stored.read_text())
    command = ["dp-spin"]
    if name == "DeePMD-kit":
        command = [str(Path(args.peer) / "dp"), "--tf"]
    steps = 0
    if name != "baseline":
        times = []
        for some in (SOME, 3 * SOME):  # their difference knows no start-up
            trial = Path(args.out) / f"{name}-{seed}-{some}-steps"
            times.append(run(command, seeded(given, seed, some), trial))
        each = max((times[1] - times[0]) / (2 * SOME), 1e-4)
        steps = max(SOME, int((args.seconds - times[0]) / each) + SOME)
    seconds = run(command, seeded(given, seed, steps), folder)
    model = "model.ckpt"
    if name == "DeePMD-kit":
        freeze = [*command, "freeze", "-o", "frozen.pb"]
        subprocess.run(freeze, cwd=folder, check=True, capture_output=True)
        model = "frozen.pb"
    from deepspin.entrypoints.test import test

    found = test(model=str(folder / model), system=args.valid)
    found = {key: found[key] for key in COLUMNS.values() if key in found}
    result = {"errors": found, "seconds": seconds, "steps": steps}
    stored.write_text(json.dumps(result))
    return result


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    text = f"{sum(values) / len(values):.2e}"
    if len(values) > 1:
        text += f" ({min(values):.1e}-{max(values):.1e})"
    return text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, type=lambda p: str(Path(p).resolve()))
    parser.add_argument("--valid", required=True, type=lambda p: str(Path(p).resolve()))
    parser.add_argument("--out", required=True, help="folder of the trainings")
    parser.add_argument("--peer", help="folder of DeePMD-kit's dp")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--type-map", nargs="+", default=["Ni", "O"])
    parser.add_argument("--use-spin", nargs="+", default=["Ni"])
    parser.add_argument("--rcut", type=float, default=5.6)
    parser.add_argument("--sel", type=int, nargs="+", default=[60, 60])
    parser.add_argument("--spin-norm", type=float, default=1.2737)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--fit-factor", action="store_true")
    parser.add_argument("--rows", nargs="+", help="only these")
    args = parser.parse_args()
    rows = inputs(args)
    width = 26
    head = "".join(f"{title:>{width}}" for title in COLUMNS)
    sys.stdout.write(f"{'':<12}{head}{'steps':>8}{'seconds':>9}\n")
    for name in args.rows or rows:
        seeds = args.seeds[:1] if name == "baseline" else args.seeds
        found = [errors(name, rows[name], seed, args) for seed in seeds]
        line = f"{name:<12}"
        for key in COLUMNS.values():
            values = [one["errors"][key] for one in found if key in one["errors"]]
            line += f"{spread(values) if values else '':>{width}}"
        steps = sum(one["steps"] for one in found) // len(found)
        seconds = sum(one["seconds"] for one in found) / len(found)
        sys.stdout.write(f"{line}{steps:>8}{seconds:>9.0f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
