# SPDX-License-Identifier: Apache-2.0
"""How cost grows: with atoms, neighbours, channels, frames of a data set, and threads.

    python benchmarks/scaling.py                         # some minutes
    python benchmarks/scaling.py --quick                 # less than one
    python benchmarks/scaling.py --atoms 1000000 lists evaluation
    python benchmarks/scaling.py --schemes invariant step

Every line is a curve: seconds at each size, and the slope of their logarithms by least
squares with its standard error. 1 is linear, for threads -1. Times: medians of turns.
Frames are rock salt, shaken; the models are those of DeePMD-kit's spin example, also
compressed, and of examples/NiO/invariant, untrained.

lists       neighbour lists of one frame, sought anew, by atoms
evaluation  energy, forces and virial from Python, lists included: by atoms, by
            neighbours (cutoffs of 4 to 7 Å of 864 atoms) and by channels
step        a training step: by atoms, neighbours, channels
frames      of data sets of 16 atoms: reading with statistics; drawing 100 batches
threads     evaluation of 2,048 atoms

Peaks of memory are those of the process up to that size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import invariant
import numpy as np
import problem

from deepspin.env import start_tensorflow

SCHEMES = ("ener_spin", "compressed", "invariant")
CURVES = ("lists", "evaluation", "step", "frames", "threads")
MANY = 500  # of `sel`, more than there are neighbours
ATOMS, STEP_ATOMS, FRAMES = 864, 64, 16
Arrays = dict[str, np.ndarray]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def peak() -> float:
    """Most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def sides(atoms: float) -> tuple[int, int, int]:
    """Cells of 8 atoms along each side, of about so many atoms."""
    side = max(1, round(np.cbrt(atoms / 8)))
    return side, side, max(1, round(atoms / 8 / side**2))


def frames(atoms: float, number: int = 1, seed: int = 0) -> Arrays:
    """Frames of about so many atoms."""
    repeats = sides(atoms)
    natoms = 8 * int(np.prod(repeats))
    invariant.CELLS[natoms] = repeats
    return invariant.rock_salt(natoms, number, seed)


def build(scheme: str, rcut: float = problem.RCUT, channels: int = 100) -> object:
    """Build a model."""
    from deepspin.model.compress import Options, compress
    from deepspin.model.ener import build_model
    from deepspin.utils.inputs import normalize

    if scheme == "invariant":
        given = json.loads((invariant.EXAMPLE / "input.json").read_text("utf-8"))
        given["model"]["descriptor"]["neuron"] = [max(1, channels * 8 // 100)]
    else:
        place, neuron = Path("data"), [channels // 4, channels // 2, channels]
        given = problem.make_input(
            place, place, precision="float64", batch=1, steps=1, disp=1
        )
        given["model"]["descriptor"]["neuron"] = neuron
    given["model"]["descriptor"] |= {"sel": [MANY, MANY], "rcut": rcut}
    given["model"]["descriptor"]["rcut_smth"] = min(2.0, rcut - 1)
    model = build_model(normalize(given)["model"])
    if scheme == "compressed":
        model, _ = compress(model, np.full((2, 3), 0.25), Options(tol=0.1))
    return model


# --- What is timed --------------------------------------------------------------------


def listing(atoms: float) -> Callable[[], object]:
    """Neighbour lists as `ener_spin` needs them, of a frame."""
    from deepspin.data.collate import neighbors_of_frame

    frame, scheme = frames(atoms), build("ener_spin").spin.scheme
    given = [frame[name][0] for name in ("coord", "spin")]
    atype = np.repeat([0, 1], len(given[0]) // 2)
    return lambda: neighbors_of_frame(
        *given, atype, frame["box"][0], True, scheme, problem.RCUT, None
    )


def evaluating(scheme: str, atoms: float, **options: float) -> Callable[[], object]:
    """Evaluate a frame whose atoms have moved too far for lists to be kept."""
    import deepspin

    potential = deepspin.DeepSpin(build(scheme, **options))
    frame = frames(atoms)
    coord, spin, box = (frame[name][0] for name in ("coord", "spin", "box"))
    atype = np.repeat([0, 1], len(coord) // 2)
    moves = itertools.cycle([0.0, 1.0])
    return lambda: potential.eval(coord + next(moves), box, atype, spin)


def stepping(scheme: str, atoms: float, **options: float) -> Callable[[], object]:
    """Make a training step of one frame."""
    import keras
    import tensorflow as tf

    import deepspin

    model = build(scheme, **options)
    loss = deepspin.EnerSpinLoss(start_lr=1e-3)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    data = dataset(model, frames(atoms))
    batch = next(iter(data.dataset()))
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"].numpy()


def dataset(model: object, arrays: Arrays) -> object:
    """Read frames, by way of files."""
    import deepspin

    nframes, natoms = arrays["coord"].shape[:2]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "set.000"
        folder.mkdir()
        np.savetxt(folder.parent / "type.raw", np.repeat([0, 1], natoms // 2), fmt="%d")
        (folder.parent / "type_map.raw").write_text("Ni\nO\n")
        for name, values in arrays.items():
            flat = values if name == "energy" else values.reshape(nframes, -1)
            np.save(folder / f"{name}.npy", flat)
        return deepspin.DataSystem(folder.parent, **model.data_spec, batch_size=1)


def starting(scheme: str, number: float) -> Callable[[], object]:
    """Read so many frames, and take their statistics."""
    arrays, model = frames(FRAMES, int(number)), build(scheme)
    return lambda: model.compute_stats(dataset(model, arrays).spread(int(number)))


def drawing(scheme: str, number: float) -> Callable[[], object]:
    """Draw a hundred batches of so many frames."""
    data = dataset(build(scheme), frames(FRAMES, int(number)))
    batches = iter(data.dataset())
    return lambda: [next(batches) for _ in range(100)]


# --- Curves ---------------------------------------------------------------------------


def slope(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float]:
    """Slope of the logarithms by least squares, and its standard error."""
    x, y = np.log(sizes), np.log(times)
    x, y = x - x.mean(), y - y.mean()
    best = (x @ y) / (x @ x)
    left = y - best * x
    return best, np.sqrt(left @ left / max(1, len(x) - 2) / (x @ x))


def show(name: str, sizes: Sequence[float], times: Sequence[float], more: str) -> None:
    """Print a curve."""
    best, error = slope(sizes, times)
    points = "  ".join(f"{n:.0f}: {t:.3g}" for n, t in zip(sizes, times, strict=True))
    say(f"{name:<34} {best:5.2f} ± {error:.2f}  {points}{more}")


def curve(
    name: str,
    sizes: Sequence[float],
    make: Callable[[float], Callable[[], object]],
    turns: int,
    *,
    together: bool = True,
    counts: Sequence[float] | None = None,
) -> None:
    """Time calls of all sizes and print the curve.

    In turns, where all may be in memory together; `counts` are the sizes to print.
    """
    groups = [sizes] if together else [[size] for size in sizes]
    times, memory = [], []
    for group in groups:
        calls = [make(size) for size in group]
        for call in calls:
            call()
        for values in _turns(calls, turns):
            times.append(statistics.median(values))
            memory.append(peak())
    more = "" if together else f"  s; GB: {', '.join(f'{m:.1f}' for m in memory)}"
    show(name, counts or sizes, times, more or "  s")


def _turns(calls: Sequence[Callable[[], object]], turns: int) -> list[list[float]]:
    """Times of each call."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, own in zip(calls, times, strict=True):
            own.append(invariant.seconds(call))
    return times


def decades(first: float, last: float, each: int) -> list[float]:
    """Sizes from `first` to `last`, so many in a decade."""
    number = max(3, 1 + round(each * np.log10(last / first)))
    return np.geomspace(first, last, number).round().tolist()


def of_atoms(first: float, last: float, each: int) -> list[float]:
    """Numbers of atoms that frames can have, likewise."""
    return [8.0 * np.prod(sides(n)) for n in decades(first, last, each)]


def shells(rcuts: Sequence[float]) -> list[float]:
    """Atoms within each cutoff of one, on average."""
    volume = invariant.CONSTANT**3 / 8
    return [4 / 3 * np.pi * rcut**3 / volume for rcut in rcuts]


def by_work(work: str, scheme: str, options: argparse.Namespace) -> None:
    """Print curves of evaluations, or of steps."""
    make = {"evaluation": evaluating, "step": stepping}[work]
    atoms = ATOMS if work == "evaluation" else STEP_ATOMS
    most, each = options.atoms, 1 if options.quick else 2
    if work == "step":
        most = min(most, 1000 if options.quick else 4000)
    curve(
        f"{work}, {scheme}, atoms",
        of_atoms(1000 if work == "evaluation" else 64, most, each),
        lambda size: make(scheme, size),
        options.turns,
        together=False,
    )
    if options.quick:
        return
    rcuts = [4.0, 5.0, 6.0, 7.0]
    curve(
        f"{work}, {scheme}, neighbours",
        rcuts,
        lambda rcut: make(scheme, atoms, rcut=rcut),
        options.turns,
        counts=shells(rcuts),
    )
    curve(
        f"{work}, {scheme}, channels",
        [50, 100, 200, 400],
        lambda channels: make(scheme, atoms, channels=int(channels)),
        options.turns,
    )


def by_threads(scheme: str, options: argparse.Namespace) -> None:
    """Print the curve over threads, each number in a process of its own."""
    number = len(os.sched_getaffinity(0))
    threads = sorted({1, *(2**k for k in range(number.bit_length())), number})
    threads = [n for n in threads if n <= number]
    times = []
    for n in threads:
        command = [sys.executable, __file__, "--turns", str(options.turns), "--of"]
        environment = {**os.environ, "DP_INTRA_OP_PARALLELISM_THREADS": str(n)}
        done = subprocess.run(
            [*command, scheme], env=environment, check=True, stdout=subprocess.PIPE
        )
        times.append(float(done.stdout))
    if len(threads) > 1:
        show(f"threads, {scheme}", threads, times, "  s")


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("curves", nargs="*", default=CURVES, metavar="|".join(CURVES))
    parser.add_argument("--schemes", nargs="+", default=SCHEMES, choices=SCHEMES)
    parser.add_argument("--atoms", type=float, default=32000, help="most of a frame")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few sizes and turns")
    parser.add_argument("--of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.curves) - set(CURVES):
        parser.error(f"no such curves: {', '.join(sorted(unknown))}")
    if options.quick:
        options.turns, options.atoms = 2, min(options.atoms, 4000)
    start_tensorflow()
    if options.of:
        call = evaluating(options.of, 2048)
        call()
        return say(str(statistics.median(*_turns([call], options.turns))))
    say(f"{'':<34} {'slope':>12}  size: seconds")
    if "lists" in options.curves:
        sizes = of_atoms(1000, options.atoms, 2)
        curve("lists, atoms", sizes, listing, options.turns, together=False)
    for scheme in options.schemes:
        if "evaluation" in options.curves:
            by_work("evaluation", scheme, options)
        if scheme == "compressed":  # cannot be trained
            continue
        if "step" in options.curves:
            by_work("step", scheme, options)
        if "frames" in options.curves:
            sizes = decades(100, 400 if options.quick else 10000, 1)
            for name, make in (("start", starting), ("draw", drawing)):
                curve(
                    f"{name}, {scheme}, frames",
                    sizes,
                    lambda size, make=make, scheme=scheme: make(scheme, size),
                    options.turns,
                )
        if "threads" in options.curves and not options.quick:
            by_threads(scheme, options)
    return None


if __name__ == "__main__":
    main()
