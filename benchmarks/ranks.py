# SPDX-License-Identifier: Apache-2.0
"""Time evaluations of NiO by several processes, as `dp-spin md --engine lammps` makes.

    python benchmarks/ranks.py MODEL --peer BIN

MODEL is a model of the NiO example; BIN the folder of `python` and `mpirun` of an
environment with LAMMPS and mpi4py. Each process has one thread. Told of each size and
number of processes: seconds of an evaluation, median (smallest-largest); processor
seconds of the process that takes most, of LAMMPS and lists, and of the model; atoms and
ghosts of that process; and processor seconds, with the centres, if each process were to
evaluate all that act on its atoms (ghosts to twice the cutoff) instead of the energies
of its own atoms (ghosts to once the cutoff, forces on them summed).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3
AGREE = 1e-10  # of energies with one process and more, relative


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--peer", help="folder of python and mpirun")
    parser.add_argument("--atoms", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--calls", type=int, default=10, help="evaluations to time")
    args = parser.parse_args()
    if args.peer is None:
        measure(args)
        return
    for atoms in args.atoms:
        for ranks in args.ranks:
            words = [f"{args.peer}/mpirun", "-n", ranks, f"{args.peer}/python"]
            words += [__file__, args.model, "--atoms", atoms, "--calls", args.calls]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            for kind in (
                "OMP_NUM",
                *(f"DP_{k}_OP_PARALLELISM" for k in ("INTRA", "INTER")),
            ):
                env[f"{kind}_THREADS"] = "1"
            subprocess.run([str(w) for w in words], check=True, env=env)


def measure(args: argparse.Namespace) -> None:
    """Time evaluations; run in each process."""
    from deepspin.dynamics.md.crew import Crew
    from deepspin.dynamics.md.decomposition import Decomposition

    spent: dict[str, list[float]] = {"place": [], "evaluate": [], "twice": []}
    counts: list[int] = []
    place, evaluate = Decomposition._place, Decomposition._evaluate

    def watched(self: Decomposition, *given: np.ndarray) -> None:
        clocked(spent["evaluate"], evaluate, self, *given)
        if not counts and len(spent["evaluate"]) == WARM_UP + args.calls:
            counts.extend(twice(self, *given[:3], spent["twice"]))

    Decomposition._place = lambda *given: clocked(spent["place"], place, *given)
    Decomposition._evaluate = watched
    with Crew() as crew:
        comm = crew.comm
        if crew.first:
            walls, energy, one = timed(args, crew)
        else:
            crew.serve()
    mine = [statistics.median(v) for v in spent.values() if v], counts
    rows = comm.gather(mine)
    if comm.rank:
        return
    if abs(energy - one) > AGREE * abs(one):
        raise SystemExit(f"Energies differ: {energy!r} eV, {one!r} eV without LAMMPS.")
    (placing, model, doubled), (own, ghosts, centres) = max(
        rows, key=lambda r: sum(r[0])
    )
    sys.stdout.write(
        f"{args.atoms[0]} atoms, {comm.size} processes: "
        f"{statistics.median(walls):.3g} ({min(walls):.3g}-{max(walls):.3g}) s; lists "
        f"{placing:.3g} s, model {model:.3g} s, of {own} atoms and {ghosts} ghosts; "
        f"twice the cutoff: {centres} centres, {doubled:.3g} s\n"
    )


def clocked(times: list[float], work: Callable, *given: object) -> None:
    """Do work, and keep the processor seconds it takes."""
    begin = time.process_time()
    work(*given)
    times.append(time.process_time() - begin)


def timed(args: argparse.Namespace, crew: object) -> tuple[list[float], float, float]:
    """Seconds of each evaluation, the last energy, and that without LAMMPS."""
    from deepspin.env import start_tensorflow

    start_tensorflow()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from dynamics import write_atoms

    from deepspin.dynamics.core.fields import ModelFields
    from deepspin.dynamics.md.lammps import LammpsFields
    from deepspin.infer.deep_spin import DeepSpin

    with tempfile.TemporaryDirectory() as folder:
        atoms = write_atoms(Path(folder) / "nio.data", args.atoms[0])
    coord, spin, atype, box, _ = atoms
    model = ModelFields(DeepSpin(args.model), atype, box[None])
    random, fields = np.random.default_rng(1), LammpsFields(crew, model)
    walls = []
    for _ in range(WARM_UP + args.calls):
        moved = coord + 0.02 * random.normal(size=coord.shape)
        begin = time.perf_counter()
        energy = fields(moved[None], spin[None]).energy[0]
        walls.append(time.perf_counter() - begin)
    return walls[WARM_UP:], energy, model(moved[None], spin[None]).energy[0]


def twice(
    part: object, turn: np.ndarray, reach: float, spin: np.ndarray, times: list[float]
) -> list[int]:
    """Time the other way; numbers of own atoms, ghosts and centres of this process."""
    from deepspin.data.nlist import Search
    from deepspin.infer.domain import Listed

    lmp, rcut = part._lammps, part.potential.rcut
    nlocal, nghost = (lmp.extract_global(n) for n in ("nlocal", "nghost"))
    x = lmp.numpy.extract_atom("x")[: nlocal + nghost] @ turn.T
    atom = lmp.numpy.extract_atom("id")[: nlocal + nghost] - 1
    # ghosts end at the cutoff: centres are too cheap near there, if anything
    found = Search(0.0).within(
        rcut + reach, x, np.ones(len(x), bool), np.zeros((3, 3)), np.zeros(3, bool)
    )
    seen = np.unique(found.table[: found.start[nlocal], 0])
    order = np.concatenate([np.arange(nlocal), seen[seen >= nlocal]])
    rest = np.setdiff1d(np.arange(len(x)), order)
    order = np.concatenate([order, rest])
    number = np.argsort(order)
    centres = len(x) - len(rest)
    begin, end = found.start[:-1], found.start[1:]
    rows = [number[found.table[begin[k] : end[k], 0]] for k in order[:centres]]
    start = np.cumsum([0, *map(len, rows)])
    near = Listed(start, np.concatenate(rows), len(x), rcut + reach)
    own = atom[order]
    given = (x[order], spin[own], part.atype[own], near)
    part.potential.eval_domain(*given)
    for _ in range(3):
        clocked(times, part.potential.eval_domain, *given)
    return [nlocal, nghost, centres]


if __name__ == "__main__":
    main()
