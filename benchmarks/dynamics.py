# SPDX-License-Identifier: Apache-2.0
"""Time dynamics of NiO beside LAMMPS with DeePMD-kit's `pair_style deepspin`.

    python benchmarks/dynamics.py MODEL --peer BIN

MODEL is a model of the NiO example, compressed for rows of compressed models; BIN the
folder of `lmp` (and `mpirun`). Both programs begin with the same atoms and take turns
(A B A B ...); LAMMPS runs our export of the model, alone with all threads and in two
processes. LAMMPS moves the lattice only, in which one step takes one evaluation; what
deepspin takes for atoms and spins together is told beside it, with the evaluations
of a step. Before anything is timed the energies of both are compared. Every number
with spread is the median (smallest-largest), ratios are made turn by turn.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deepspin.env import start_tensorflow

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "NiO" / "lmp"
SIZES = {64: (2, 2, 2), 256: (2, 4, 4), 512: (4, 4, 4), 2048: (4, 8, 8)}
TEMPERATURE = 300.0
WARM_UP = 30  # steps that are not timed, in which TensorFlow traces and spins learn
AGREE = 1e-10  # of energies, relative
LOOP = re.compile(r"Loop time of (\S+) on")
SCRIPT = """
units           metal
atom_style      spin
boundary        p p p
read_data       nio.data
pair_style      deepspin model.pb
pair_coeff      * * Ni O
neighbor        1.0 bin
neigh_modify    every 1 delay 0 check no
timestep        0.0002
velocity        all create {kelvin} 1972
fix             lattice all nve
thermo          {steps}
thermo_style    custom step pe
thermo_modify   format float %.15g
run             0
run             {warm}
run             {steps}
"""


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--peer", help="folder of lmp; without, only deepspin is timed")
    parser.add_argument("--atoms", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn, about")
    args = parser.parse_args()
    if set(args.atoms) - set(SIZES):
        parser.error(f"--atoms must be among {', '.join(map(str, SIZES))}.")
    start_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        for atoms in args.atoms:
            compare(args, atoms, Path(folder))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def compare(args: argparse.Namespace, atoms: int, folder: Path) -> None:
    """Print the rows of one size."""
    sides: dict[str, Callable[[], float]] = {}
    runs = {
        "lattice": Run(args.model, atoms, folder, spins=False),
        "spins and lattice, 0.2 fs": Run(args.model, atoms, folder),
        "the same in baths, 0.5 fs": Run(args.model, atoms, folder, 0.5, baths=True),
    }
    for run in runs.values():
        run.advance(WARM_UP)
        run.integrator.evaluations = run.steps = 0
    once = runs["lattice"].advance(10) / 10
    steps = max(round(args.seconds / once), 5)
    for name, run in runs.items():
        sides[f"deepspin: {name}"] = lambda run=run: run.advance(steps) / steps
    if args.peer:
        export(args.model, folder)
        for ranks in (1, 2):
            name = f"LAMMPS: lattice, {ranks} process{'es' * (ranks > 1)}"
            sides[name] = lambda ranks=ranks: lammps(args.peer, folder, steps, ranks)
        check(args.peer, folder, runs["lattice"])
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.turns):
        for name, advance in sides.items():
            times[name].append(advance())
    say(f"{atoms} atoms, {args.turns} turns of {steps} steps")
    first = times["deepspin: lattice"]
    for name, seconds in times.items():
        line = f"  {name:40s} {spread([1 / t for t in seconds])} steps/s"
        key = name.removeprefix("deepspin: ")
        if key in runs:
            run = runs[key]
            line += f", {run.integrator.evaluations / run.steps:.2f} evaluations a step"
        else:
            ratio = [t / ours for t, ours in zip(seconds, first, strict=True)]
            line += f", time by that of deepspin's lattice: {spread(ratio)}"
        say(line)


class Run:
    """Dynamics in this process.

    Parameters
    ----------
    model : str
        The model.
    atoms : int
        How many, one of `SIZES`.
    folder : Path
        Where the atoms are written, for LAMMPS.
    timestep : float
        In fs.
    spins, baths : bool
        Whether spins move, and whether there are heat baths.
    """

    def __init__(
        self,
        model: str,
        atoms: int,
        folder: Path,
        timestep: float = 0.2,
        *,
        spins: bool = True,
        baths: bool = False,
    ):
        from deepspin.dynamics.core.baths import Gilbert, Langevin
        from deepspin.dynamics.core.fields import ModelFields
        from deepspin.dynamics.core.integrators import Integrator
        from deepspin.dynamics.core.state import State, thermal_velocity
        from deepspin.infer.deep_spin import DeepSpin

        coord, spin, atype, box, mass = write_atoms(folder / "nio.data", atoms)
        self.state = State(
            coord=coord[None],
            spin=spin[None],
            mass=mass,
            atype=atype,
            box=box[None],
            still=True,
        )
        self.start = (coord[None], spin[None])
        self.state.velocity = thermal_velocity(self.state, TEMPERATURE)
        # each its own model, so that none uses the neighbours another has found
        self.fields = ModelFields(DeepSpin(model), atype, self.state.box)
        self.integrator = Integrator(
            self.fields,
            timestep,
            spins=spins,
            lattice_bath=Langevin(TEMPERATURE, 0.02) if baths else None,
            spin_bath=Gilbert(TEMPERATURE, 0.1) if baths else None,
        )
        self.steps = 0

    def advance(self, steps: int) -> float:
        """Make steps; return the seconds they took."""
        begin = time.perf_counter()
        for _ in range(steps):
            self.integrator.step(self.state)
        self.steps += steps
        return time.perf_counter() - begin


def write_atoms(path: Path, atoms: int) -> tuple[np.ndarray, ...]:
    """Write the example's crystal for LAMMPS and read what stands there."""
    sys.path.insert(0, str(EXAMPLE))
    import make_data

    repeat = SIZES[atoms]
    make_data.write_data(path, repeat)
    lines = path.read_text(encoding="utf-8").partition("Atoms # spin")[2].split("\n")
    rows = [line.split() for line in lines if line]
    numbers = np.array([row[2:] for row in rows], dtype=float)
    names = [name for name, _ in make_data.MASSES]
    atype = np.array([names.index(row[1]) for row in rows])
    mass = np.array([mass for _, mass in make_data.MASSES])[atype]
    direction = numbers[:, 3:6] / np.linalg.norm(numbers[:, 3:6], axis=1)[:, None]
    spin = numbers[:, 6:] * direction
    return numbers[:, :3], spin, atype, np.diag(repeat) * make_data.LATTICE, mass


def export(model: str, folder: Path) -> None:
    """Write the model as DeePMD-kit's."""
    if not (folder / "model.pb").exists():
        command = ("-m", "deepspin", "convert-to", "deepmd", "-c", model, "-o")
        subprocess.run(
            [sys.executable, *command, str(folder / "model.pb")],
            check=True,
            capture_output=True,
        )


def lammps(peer: str, folder: Path, steps: int, ranks: int) -> float:
    """Run LAMMPS; return the seconds of a step, without start-up."""
    text = run_lammps(peer, folder, steps, ranks)
    return float(LOOP.findall(text)[-1]) / steps


def run_lammps(peer: str, folder: Path, steps: int, ranks: int) -> str:
    """Run LAMMPS in so many processes; return what it prints."""
    script = SCRIPT.format(kelvin=TEMPERATURE, steps=steps, warm=WARM_UP)
    (folder / "in.md").write_text(script, encoding="utf-8")
    threads = max(len(os.sched_getaffinity(0)) // ranks, 1)
    names = ("OMP_NUM", "DP_INTRA_OP_PARALLELISM", "TF_NUM_INTRAOP")
    env = {**os.environ, **{f"{name}_THREADS": str(threads) for name in names}}
    command = [str(Path(peer) / "lmp"), "-in", "in.md", "-log", "none"]
    if ranks > 1:
        mpirun = Path(peer) / "mpirun"
        found = str(mpirun) if mpirun.exists() else shutil.which("mpirun")
        command = [found, "-np", str(ranks), *command]
    done = subprocess.run(
        command, cwd=folder, env=env, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"LAMMPS failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def check(peer: str, folder: Path, run: Run) -> None:
    """Compare the energies of the first atoms."""
    printed = run_lammps(peer, folder, 1, 1)
    theirs = float(re.search(r"Step\s+PotEng\s+0\s+(\S+)", printed)[1])
    ours = run.fields(*run.start).energy[0]
    if abs(theirs - ours) > AGREE * abs(ours):
        raise SystemExit(f"Energies differ: {theirs!r} eV in LAMMPS, {ours!r} eV here.")


if __name__ == "__main__":
    main()
