# SPDX-License-Identifier: Apache-2.0
"""Time the scheme `invariant`: compiled kernels beside the same in plain TensorFlow.

    python benchmarks/invariant.py
    python benchmarks/invariant.py --fit 120x32 10000x96 --turns 0

The model is that of examples/NiO/invariant, its frames are rock salt, shaken. Both take
turns (A B A B ...) in one process, plain TensorFlow compiled by XLA, and are first
compared. Rows:

step      a training step of so many frames of 32 atoms
eval      energy, forces, magnetic forces and virial in a graph, lists given
DeepSpin  the same from Python, neighbour lists included; atoms are shaken before
fit       the baseline's fit, FRAMESxATOMS of random labels, with the peak of memory
          beyond what there was before; the frames' lists are not made within

Every number with spread is the median (smallest-largest); ``ratio`` is plain
TensorFlow's time by the kernels', turn by turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deepspin.env import start_tensorflow

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "NiO" / "invariant"
CONSTANT, AMPLITUDE = 4.17, 0.05  # Å
CELLS = {32: (2, 2, 1), 96: (2, 2, 3), 864: (6, 6, 3), 2048: (4, 8, 8)}
AGREE = 1e-9  # relative
SEL = 60
TURN = 0.2  # seconds of a turn, at least


def rock_salt(natoms: int, nframes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Shaken NiO with random spins and labels, sorted by type."""
    rng, repeats = np.random.default_rng(seed), CELLS[natoms]
    half = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    sites = np.concatenate([half, np.add(half, [1, 0, 0])]) / 2
    cells = np.array(list(itertools.product(*map(range, repeats))))
    coord = (cells[None] + sites[:, None]).reshape(-1, 3) * CONSTANT
    shape = (nframes, natoms, 3)
    spin = rng.normal(size=shape)
    spin /= np.linalg.norm(spin, axis=-1, keepdims=True)
    spin[:, natoms // 2 :] = 0.0
    box = np.tile(np.diag(repeats) * CONSTANT, (nframes, 1, 1))
    return {
        "coord": coord + rng.normal(0, AMPLITUDE, shape),
        "spin": spin,
        "box": box,
        "energy": rng.normal(size=nframes),
        "force": rng.normal(size=shape),
        "force_mag": rng.normal(size=shape) * (spin != 0),
    }


def system(folder: Path, natoms: int, nframes: int) -> Path:
    """Write such frames as a system of NumPy files."""
    (folder / "set.000").mkdir(parents=True)
    np.savetxt(folder / "type.raw", np.repeat([0, 1], natoms // 2), fmt="%d")
    (folder / "type_map.raw").write_text("Ni\nO\n")
    for name, values in rock_salt(natoms, nframes).items():
        flat = values if name == "energy" else values.reshape(nframes, -1)
        np.save(folder / "set.000" / f"{name}.npy", flat)
    return folder


def build(precision: str) -> object:
    """The example's model, with numbers in all that holds some."""
    from deepspin.model.ener import build_model
    from deepspin.utils.inputs import normalize

    given = json.loads((EXAMPLE / "input.json").read_text("utf-8"))
    given["model"]["descriptor"]["sel"] = [SEL, SEL]
    given["model"]["fitting_net"]["precision"] = precision
    model, rng = build_model(normalize(given)["model"]), np.random.default_rng(1)
    baseline, fitting = model.spin.baseline, model.fitting
    baseline.theta.assign(0.01 * rng.normal(size=len(baseline.labels)))
    shape = fitting.descrpt_avg.shape
    fitting.set_standard(np.zeros(shape), np.full(shape, 3.0), np.ones(2))
    for t in range(2):
        last = fitting.net(t)[-1]
        last.matrix.assign(0.1 * rng.normal(size=last.matrix.shape))
    return model


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call: Callable[[], object]) -> float:
    """Median time of a call, of those of one turn."""
    times: list[float] = []
    while sum(times) < TURN:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def spread(values: list[float], digits: int = 2) -> str:
    """Median, least and largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def compare(name: str, kernels: Callable, plain: Callable, turns: int) -> None:
    """Print a row, after both have given the same numbers."""
    one, other = kernels(), plain()
    for key in one:
        want = np.asarray(other[key])
        gap = np.abs(np.asarray(one[key]) - want).max()
        if not gap <= AGREE * max(np.abs(want).max(), 1e-3):
            raise SystemExit(f"{name}: `{key}` differs by {gap:.1e}")
    times = [(seconds(kernels), seconds(plain)) for _ in range(turns)]
    ours, theirs = ([1e3 * t[k] for t in times] for k in range(2))
    ratio = [b / a for a, b in zip(ours, theirs, strict=True)]
    say(f"{name:<24} {spread(ours):>20} {spread(theirs):>20} {spread(ratio, 1):>18}")


def twins(make: Callable[[], Callable]) -> tuple[Callable, Callable]:
    """The same function of a graph, by the kernels and by XLA."""
    import tensorflow as tf

    from deepspin.op.library import plain_tensorflow

    kernels = tf.function(make())
    compiled = tf.function(make(), jit_compile=True)

    def plain(*given: object) -> object:
        with plain_tensorflow():
            return compiled(*given)

    return kernels, plain


def rows(turns: int, precision: str, folder: Path) -> None:
    """Steps and evaluations."""
    import keras

    import deepspin

    say(f"{'':<24} {'kernels, ms':>20} {'XLA, ms':>20} {'ratio':>18}")
    for frames in (1, 4):
        where = folder / str(frames)
        data_of = system(where, 32, 8)
        steps = []
        for _ in range(2):
            model = build(precision)
            loss = deepspin.EnerSpinLoss(start_lr=1e-3)
            model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
            steps.append(model)
        data = deepspin.DataSystem(data_of, **model.data_spec, batch_size=frames)
        batch = next(iter(data.dataset()))
        kernels, _ = twins(lambda own=steps[0]: own.train_step)
        _, plain = twins(lambda own=steps[1]: own.train_step)
        compare(
            f"step, {frames} x 32 atoms",
            lambda call=kernels, batch=batch: {"loss": call(batch)["loss"]},
            lambda call=plain, batch=batch: {"loss": call(batch)["loss"]},
            turns,
        )
    model = build(precision)
    for natoms in (32, 864, 2048):
        where = system(folder / f"eval-{natoms}", natoms, 1)
        data = deepspin.DataSystem(where, **model.data_spec, batch_size=1)
        inputs, _ = next(iter(data.dataset()))
        names = ("energy", "force", "force_mag", "virial")

        def evaluate(own: object = model, names: tuple = names) -> Callable:
            return lambda given: {k: v for k, v in own(given).items() if k in names}

        kernels, plain = twins(evaluate)
        compare(
            f"eval, {natoms} atoms",
            lambda call=kernels, inputs=inputs: call(inputs),
            lambda call=plain, inputs=inputs: call(inputs),
            turns,
        )
    python_rows(build(precision), turns)


def python_rows(model: object, turns: int) -> None:
    """Evaluations from Python."""
    import deepspin

    potential = deepspin.DeepSpin(model)
    for natoms in (32, 864, 2048):
        frames = iter(range(10**9))

        def call(natoms: int = natoms, frames: Iterator = frames) -> object:
            frame = rock_salt(natoms, 1, seed=next(frames))
            return lambda: potential.eval(
                frame["coord"],
                frame["box"],
                np.repeat([0, 1], natoms // 2),
                frame["spin"],
            )

        call()()
        times = [seconds(call()) * 1e3 for _ in range(turns)]
        each = [t / natoms for t in times]
        name = f"DeepSpin, {natoms} atoms"
        say(f"{name:<24} {spread(times):>20}  {spread(each, 4)} ms/atom")


def fit(what: str, folder: Path, precision: str) -> None:
    """Time the fit of the baseline."""
    import deepspin

    nframes, natoms = map(int, what.split("x"))
    model = build(precision)
    where = system(folder / what, natoms, nframes)
    data = deepspin.DataSystem(where, **model.data_spec, batch_size=1)
    batches = iter(data.dataset())
    waiting = [0.0]

    def stream() -> Iterator:
        for _ in range(nframes):
            start = time.perf_counter()
            batch = next(batches)
            waiting[0] += time.perf_counter() - start
            yield batch

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    model.compute_stats(stream())
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    own, count = total - waiting[0], len(model.spin.baseline.labels)
    say(
        f"fit of {count} numbers, {nframes} frames of {natoms} atoms: {own:.2f} s, "
        f"lists {waiting[0]:.2f} s, {peak:.0f} MiB more"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7, help="0: only the fit")
    parser.add_argument("--fit", nargs="*", default=["120x32"], metavar="FRAMESxATOMS")
    parser.add_argument("--precision", default="float64")
    options = parser.parse_args()
    start_tensorflow()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.turns:
            rows(options.turns, options.precision, folder)
        for what in options.fit:
            fit(what, folder, options.precision)


if __name__ == "__main__":
    main()
