# SPDX-License-Identifier: Apache-2.0
"""Train the spin schemes for equal wall-clock time on given data, and compare errors.

    python benchmarks/accuracy.py --data DATA --hold-out 12 --out DIR [--peer BIN]
    python benchmarks/accuracy.py --train DATA --valid DATA --out DIR [--peer BIN]

Data are systems with spin files, of which ``--hold-out`` keeps the last frames of each
for validation and ``--frames`` takes only so many of the others, evenly. Rows: the
baseline of the scheme `invariant` alone; that scheme; `ener_spin` with the prefactors
of its own defaults; with ``--peer``, the folder of `dp`, DeePMD-kit on the same data
with virtual atoms. Each training is timed over its first steps, then made as long as
``--seconds`` allow from start to end; every seed in turn, one training at a time.
Errors are those of ``dp-spin test`` on the validation data: root mean squares, energies
per atom, magnetic forces along and across the spins too. A number with a spread is the
mean over seeds (smallest-largest). Then time of a step, peak memory of a training, and
time of an evaluation of one frame. Runs that are in DIR are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SOME = 100  # steps that tell how long one takes
COLUMNS = {
    "energy eV/atom": "rmse_ea",
    "force eV/Å": "rmse_fr",
    "force_mag eV/μ_B": "rmse_fm",
    "along": "rmse_fm_along",
    "across": "rmse_fm_across",
}

COSTS = ("ms/step", "GiB", "ms/frame")


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
        theirs = copy.deepcopy({**common, "model": virtual})
        systems = sorted(
            str(path.parent)
            for path in Path(with_virtual_atoms(args)).rglob("type.raw")
        )
        theirs["training"]["training_data"]["systems"] = systems
        rows["DeePMD-kit"] = theirs
    return rows


def seeded(given: dict, seed: int, steps: int) -> dict:
    """The input with seeds everywhere, and its number of steps."""
    made = copy.deepcopy(given)
    for part in (made["model"]["descriptor"], made["model"]["fitting_net"]):
        part["seed"] = seed
    made["training"] |= {"seed": seed, "numb_steps": steps}
    made["training"]["disp_freq"] = max(1, min(1000, steps))
    return made


def split(args: argparse.Namespace) -> None:
    """Make systems of training and validation of `args.data`, and point to them."""
    out = Path(args.out).resolve()
    for system in sorted(path.parent for path in Path(args.data).rglob("type.raw")):
        sets = sorted(system.glob("set.*"))
        names = [path.name for path in sets[0].glob("*.npy")]
        for part in ("train", "valid"):
            place = out / part / system.name / "set.000"
            if not place.is_dir():
                place.mkdir(parents=True)
                for file in system.glob("*.raw"):
                    shutil.copy(file, place.parent)
                for name in names:
                    rows = np.concatenate([np.load(path / name) for path in sets])
                    kept = np.arange(len(rows) - args.hold_out)
                    if args.frames:
                        spread = np.linspace(0, len(kept) - 1, args.frames)
                        kept = kept[np.unique(spread.astype(int))]
                    held = np.arange(len(rows) - args.hold_out, len(rows))
                    np.save(place / name, rows[kept if part == "train" else held])
    args.train, args.valid = str(out / "train"), str(out / "valid")


def with_virtual_atoms(args: argparse.Namespace) -> str:
    """The training data as DeePMD-kit's TensorFlow backend reads them."""
    target = Path(args.out).resolve() / "train-virtual-atom"
    if not target.is_dir():
        types = ["-t", *args.type_map, "--use-spin", *args.use_spin]
        number = len(args.use_spin)
        types += ["--virtual-len", *["0.4"] * number]
        types += ["--spin-norm", *[str(args.spin_norm)] * number]
        command = [sys.executable, "-m", "deepspin", "convert-data", *types]
        command += ["--layout", "virtual-atom"]
        command += ["-o", str(target), args.train]
        subprocess.run(command, check=True, capture_output=True)
        for file in target.rglob("type_map.raw"):
            file.unlink()  # names of virtual types are not those of a `type_map`
    return str(target)


def run(command: Sequence[str], given: dict, folder: Path) -> tuple[float, float]:
    """Train in a folder; seconds from start to end, and peak memory in GiB."""
    folder.mkdir(parents=True)
    (folder / "input.json").write_text(json.dumps(given, indent=2))
    start = time.perf_counter()
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "train", "input.json"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{folder}: {(folder / 'log').read_text()[-2000:]}")
    return seconds, usage.ru_maxrss / 2**20


def trial(
    name: str, command: Sequence[str], given: dict, args: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of a training of `SOME` steps, and of each further step."""
    stored = Path(args.out) / f"{name}-trial.json"
    if not stored.is_file():
        times = []
        for some in (SOME, 3 * SOME):  # their difference knows no start-up
            folder = Path(args.out) / f"{name}-{some}-steps"
            times.append(run(command, seeded(given, args.seeds[0], some), folder)[0])
        each = max((times[1] - times[0]) / (2 * SOME), 1e-4)
        stored.write_text(json.dumps([times[0], each]))
    first, each = json.loads(stored.read_text())
    return first, each


def time_of_evaluation(model: str, systems: str) -> float:
    """Milliseconds of an evaluation of one frame, the median of many."""
    import deepspin
    from deepspin.data.find import find_systems
    from deepspin.infer.accuracy import load_labelled
    from deepspin.infer.systems import evaluate

    potential = deepspin.DeepSpin(model)
    data = load_labelled(potential, find_systems(systems)[:1], False)[0]
    times = []
    for _ in range(30):
        for frame in (0, 1):  # another one, so that nothing is kept
            start = time.perf_counter()
            evaluate(potential, data, [frame])
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[len(times) // 3 :])


def errors(name: str, given: dict, seed: int, args: argparse.Namespace) -> dict:
    """Train one row with one seed, and test it."""
    folder = Path(args.out) / f"{name}-{seed}"
    stored = folder / "errors.json"
    if stored.is_file():
        return json.loads(stored.read_text())
    command = ["dp-spin"]
    if name == "DeePMD-kit":
        command = [str(Path(args.peer) / "dp"), "--tf"]
    steps, each = 0, 0.0
    if name != "baseline":
        first, each = trial(name, command, given, args)
        steps = max(SOME, int((args.seconds - first) / each) + SOME)
    seconds, memory = run(command, seeded(given, seed, steps), folder)
    model = "model.ckpt"
    if name == "DeePMD-kit":
        freeze = [*command, "freeze", "-o", "frozen.pb"]
        subprocess.run(freeze, cwd=folder, check=True, capture_output=True)
        model = "frozen.pb"
    from deepspin.entrypoints.test import test

    found = test(model=str(folder / model), system=args.valid)
    result = {
        "errors": {key: found[key] for key in COLUMNS.values() if key in found},
        "seconds": seconds,
        "steps": steps,
        "ms/step": 1e3 * each,
        "GiB": memory,
    }
    if name != "DeePMD-kit":  # an evaluation by our own program is not its own
        result["ms/frame"] = time_of_evaluation(str(folder / model), args.valid)
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
    for name in ("--data", "--train", "--valid"):
        parser.add_argument(name, type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--hold-out", type=int, default=12)
    parser.add_argument("--frames", type=int, help="of each system, to train on")
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
    if bool(args.data) == bool(args.train and args.valid):
        parser.error("give --data, or --train and --valid")
    if args.data:
        split(args)
    rows = inputs(args)
    width = 26
    head = "".join(f"{title:>{width}}" for title in COLUMNS)
    sys.stdout.write(f"{'':<12}{head}{'steps':>8}{'seconds':>9}")
    sys.stdout.write("".join(f"{title:>10}" for title in COSTS) + "\n")
    for name in args.rows or rows:
        seeds = args.seeds[:1] if name == "baseline" else args.seeds
        found = [errors(name, rows[name], seed, args) for seed in seeds]
        line = f"{name:<12}"
        for key in COLUMNS.values():
            values = [one["errors"][key] for one in found if key in one["errors"]]
            line += f"{spread(values) if values else '':>{width}}"
        steps = sum(one["steps"] for one in found) // len(found)
        seconds = sum(one["seconds"] for one in found) / len(found)
        line += f"{steps:>8}{seconds:>9.0f}"
        for key in COSTS:
            values = [one[key] for one in found if key in one]
            line += f"{sum(values) / len(values):>10.3g}" if values else ""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
