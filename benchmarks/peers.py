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
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import accuracy
import compare
import machine
import numpy as np
import problem
import sides
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write
from sides import Failed, Side

TYPE_MAP, MAGNETIC = ["Ni", "O"], ["Ni"]
NUMBERS = np.array([atomic_numbers[name] for name in TYPE_MAP])
TRIAL, REPORTS = 30, 3  # steps of a first training, reports of progress of any
LONG = 5.0  # seconds of the steps that are timed
UNITS = {"energy": "meV/atom", "force": "meV/Å", "force_mag": "meV/μ_B"}
EPOCH = re.compile(r"Initial:|Epoch \d+:")


@dataclasses.dataclass(frozen=True)
class DeepPotential:
    """deepspin, or DeePMD-kit with one of its backends.

    Parameters
    ----------
    side : Side
        Its commands.
    kind : str
        What evaluator.py calls it.
    given : dict
        Its input.
    frozen : str
        Name of a frozen model; empty if a checkpoint can be evaluated.
    """

    side: Side
    kind: str
    given: dict
    frozen: str = ""

    def train(self, folder: Path, steps: int) -> sides.Finished:
        """Train in a folder."""
        folder.mkdir(parents=True)
        content = accuracy.seeded(self.given, 1, steps)
        content["training"]["disp_freq"] = max(1, steps // REPORTS)
        (folder / "input.json").write_text(json.dumps(content, indent=2))
        return self.side.run(folder, "train", "input.json", "--skip-neighbor-stat")

    def step_time(self, done: sides.Finished) -> float:
        """Seconds of a step of a training."""
        return 1e-3 * compare.step_time(done)

    def steps(self, about: float) -> int:
        """Number of steps next to one that can be trained, and timed."""
        return max(REPORTS + 1, round(about))

    def model(self, folder: Path) -> Path:
        """Model of a training."""
        if not self.frozen:
            return folder / "model.ckpt"
        self.side.run(folder, "freeze", "-o", self.frozen)
        return folder / self.frozen


@dataclasses.dataclass(frozen=True)
class Mace:
    """MACE, which trains in epochs and knows no spins.

    Parameters
    ----------
    side : Side
        Its commands.
    data : Path
        Folder of `train.xyz` and `valid.xyz`.
    frames : int
        Number of frames in an epoch.
    """

    side: Side
    data: Path
    frames: int
    kind: str = "mace"

    def train(self, folder: Path, steps: int) -> sides.Finished:
        """Train in a folder, whole epochs, a frame a step."""
        folder.mkdir(parents=True)
        options = {
            "name": "model",
            "train_file": self.data / "train.xyz",
            "valid_file": self.data / "valid.xyz",
            "energy_key": "label_energy",
            "forces_key": "label_forces",
            "E0s": "average",
            "hidden_irreps": "32x0e + 32x1o",
            "r_max": problem.RCUT,
            "batch_size": 1,
            "max_num_epochs": steps // self.frames,
            "default_dtype": "float64",
            "device": "cpu",
            "seed": 1,
        }
        return self.side.run(folder, *(f"--{k}={v}" for k, v in options.items()))

    def step_time(self, done: sides.Finished) -> float:
        """Seconds of a step of a training."""
        found = [at for at, line in done.lines if EPOCH.search(line)]
        if len(found) < 2:
            raise Failed("MACE reports no epochs")
        return (found[-1] - found[0]) / (len(found) - 1) / self.frames

    def steps(self, about: float) -> int:
        """Number of steps next to one that can be trained: of whole epochs."""
        return self.frames * max(1, round(about / self.frames))

    def model(self, folder: Path) -> Path:
        """Model of a training."""
        return folder / "model.model"


Program = DeepPotential | Mace


@dataclasses.dataclass
class Standing:
    """A program, what was found of it, and why it is left out if it is."""

    name: str
    program: Program | None
    reason: str = ""
    start: float = 0.0  # seconds of a training beside its steps
    each: list[float] = dataclasses.field(default_factory=list)  # seconds of a step
    per_atom: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    errors: list[tuple[float, int, dict]] = dataclasses.field(default_factory=list)
    models: list[Path] = dataclasses.field(default_factory=list)


# -- data --------------------------------------------------------------------------


def frames_of(system: Path) -> dict[str, np.ndarray]:
    """All frames of a system with spin files, with their labels, for evaluator.py."""
    names = ("coord", "spin", "box", "energy", "force", "force_mag")
    arrays = {key: np.load(system / "set.000" / f"{key}.npy") for key in names}
    atype = np.loadtxt(system / "type.raw", dtype=int)
    shapes = {"box": (3, 3), "energy": ()}
    found = {
        key: values.reshape(-1, *shapes.get(key, (len(atype), 3)))
        for key, values in arrays.items()
    }
    return {
        **found,
        "atype": atype,
        "owner": np.flatnonzero(np.array(problem.USE_SPIN)[atype]),
        "scale": np.array(problem.VIRTUAL_LEN / problem.SPIN_NORM),
        "numbers": NUMBERS,
    }


def write_xyz(path: Path, systems: Sequence[Path], most: int | None = None) -> int:
    """Write frames as MACE reads them; their number."""
    images = []
    for system in systems:
        frames = frames_of(system)
        for k in range(len(frames["coord"])):
            cell, names = frames["box"][k], NUMBERS[frames["atype"]]
            atoms = Atoms(names, frames["coord"][k], cell=cell, pbc=True)
            atoms.info["label_energy"] = frames["energy"][k]
            atoms.arrays["label_forces"] = frames["force"][k]
            images.append(atoms)
    write(path, images[:most], format="extxyz")
    return len(images[:most])


# -- programs ----------------------------------------------------------------------


def programs(args: argparse.Namespace, out: Path) -> list[Standing]:
    """All programs, those too for which no environment is given."""
    settings = argparse.Namespace(
        data=args.data,
        hold_out=args.hold_out,
        frames=None,
        out=str(out),
        type_map=TYPE_MAP,
        use_spin=MAGNETIC,
        spin_norm=problem.SPIN_NORM,
        rcut=problem.RCUT,
        sel=[60, 60],
        batch=1,
        fit_factor=False,
        peer=args.tf,
    )
    accuracy.split(settings)
    accuracy.with_virtual_atoms(settings)
    inputs = accuracy.inputs(settings)
    ours = sides.our_side(args.threads)
    found = [
        Standing(f"deepspin, {name}", DeepPotential(ours, "deepspin", inputs[name]))
        for name in ("ener_spin", "invariant")
    ]
    scale = problem.VIRTUAL_LEN / problem.SPIN_NORM
    spins = json.loads(json.dumps(inputs["ener_spin"]))
    spins["model"]["spin"] = {"use_spin": problem.USE_SPIN, "virtual_scale": [scale]}
    systems = sorted(str(p.parent) for p in Path(settings.train).rglob("type.raw"))
    spins["training"]["training_data"]["systems"] = systems
    backends = {
        "TensorFlow": ("tf", "deepmd", inputs.get("DeePMD-kit"), "frozen.pb"),
        "PyTorch": ("torch", "deepmd-spin", spins, "frozen.pth"),
        "JAX": ("jax", "deepmd-spin", spins, "frozen.hlo"),
    }
    for backend, (option, kind, given, frozen) in backends.items():
        name, folder = f"DeePMD-kit, {backend}", getattr(args, option)
        if folder is None:
            found.append(Standing(name, None, f"no --{option}"))
            continue
        side = sides.peer_side(folder, args.threads)
        flag = {"tf": "--tf", "torch": "--pt", "jax": "--jax"}[option]
        side = dataclasses.replace(side, name=name, command=[side.command[0], flag])
        found.append(Standing(name, DeepPotential(side, kind, given, frozen)))
    if args.mace is None:
        return [*found, Standing("MACE, without spins", None, "no --mace")]
    folder, env = args.mace.resolve(), sides.environment(args.threads)
    python, command = str(folder / "python"), [str(folder / "mace_run_train")]
    about = sides.version(python, "mace-torch", env)
    side = Side("MACE, without spins", command, python, env, True, about)
    trained = [Path(name) for name in systems]
    write_xyz(out / "valid.xyz", trained, 1)  # its errors are looked at by nobody
    mace = Mace(side, out, write_xyz(out / "train.xyz", trained))
    return [*found, Standing(side.name, mace)]


# -- measurements ------------------------------------------------------------------


def last_words(error: Failed) -> str:
    """The last line that a program has said."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def try_all(standings: Sequence[Standing], out: Path) -> list[Standing]:
    """Train shortly; those that can, and what they need."""
    able = []
    for number, one in enumerate(standings):
        if one.program is None:
            continue
        steps = one.program.steps(TRIAL)
        try:
            done = one.program.train(out / f"trial-{number}", steps)
            each = one.program.step_time(done)
        except Failed as error:
            one.reason = last_words(error)
            continue
        one.start, one.each = done.seconds - steps * each, [each]
        able.append(one)
    return able


def time_steps(able: Sequence[Standing], out: Path, repeats: int) -> None:
    """Time steps of all in turns."""
    times: dict[str, list[float]] = {one.name: [] for one in able}
    for turn in range(repeats):
        for number, one in enumerate(able):
            steps = one.program.steps(max(TRIAL, LONG / one.each[0]))
            done = one.program.train(out / f"steps-{turn}-{number}", steps)
            times[one.name].append(one.program.step_time(done))
    for one in able:
        one.each = times[one.name]


def train_for(one: Standing, seconds: float, folder: Path, valid: Path) -> None:
    """Train for so many seconds, and find the errors."""
    each = float(np.median(one.each))
    steps = one.program.steps((seconds - one.start) / each)
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
        for evaluator in evaluators.values():
            evaluator.ask(do="measure", seed=1, seconds=0, least=compare.WARM_UP)
        for turn in range(repeats):
            for one in able:
                request = {"seconds": compare.TURN, "least": compare.CALLS}
                answer = evaluators[one.name].ask(
                    do="measure", seed=1000 * (turn + 1), **request
                )
                one.per_atom.setdefault(natoms, []).append(answer["seconds"] / natoms)


# -- tables ------------------------------------------------------------------------


def show(title: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for cells in (title, ["---"] * len(title), *rows):
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.write("\n")
    sys.stdout.flush()


def speed_rows(able: Sequence[Standing]) -> list[list[str]]:
    """Rows of the first table."""
    return [
        [one.name, compare.spread([1e3 * x for x in one.each])]
        + [compare.spread([1e3 * x for x in v]) for v in one.per_atom.values()]
        for one in able
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
        standings = programs(args, out)
        able = try_all(standings, out)
        time_steps(able, out, args.repeats)
        for seconds in args.seconds:
            for number, one in enumerate(able):
                folder = out / f"{seconds:g}-seconds-{number}"
                train_for(one, seconds, folder, out / "valid")
        virtual = min(p.parent for p in (out / "train-virtual-atom").rglob("type.raw"))
        for cells in args.cells:
            frame = problem.supercell(virtual, cells)
            time_evaluations(able, frame, out / f"frame-{cells}.npz", args.repeats)
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
    sizes = [f"{n} atoms, ms/atom" for n in able[0].per_atom]
    show(["", "training step, ms", *sizes], speed_rows(able))
    labels = [f"{name.replace('_', ' ')}, {unit}" for name, unit in UNITS.items()]
    show(["", "seconds", "steps", *labels], error_rows(able))
    for one in standings:
        if one.reason:
            sys.stdout.write(f"{one.name}: left out: {one.reason}\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
