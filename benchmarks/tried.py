# SPDX-License-Identifier: Apache-2.0
"""What was tried to have an invariant model learn faster: each for the same seconds.

    python tests/many_body.py DATA
    python benchmarks/tried.py --data DATA --out DIR [--seconds 60] [--rows NAME ...]

DATA has ``train`` and ``valid``. Rows are changes of one input (`VARIANTS`) and other
ways to train it (`WAYS`). The table has validation errors at the end, means over seeds
(smallest-largest), and DIR/tried.png the curves. Runs that are in DIR are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepspin.data.dataset import DataSystem
from deepspin.loss.learning_rate import build_optimizer
from deepspin.model.closed_form import label_errors
from deepspin.model.ener import SpinEnergyModel
from deepspin.training.setup import (
    compile_model,
    initial_model,
    load_data,
    with_prefactors,
    with_sel,
)
from deepspin.utils.inputs import normalize

TERMS = {"energy": "eV/atom", "force": "eV/Å", "across": "eV/μ_B"}
LOOKS = 12  # at the errors, in a training
BATCH = 4

BASE = {
    "model": {
        "spin": {"type": "invariant", "use_spin": [True]},
        "descriptor": {
            **{"type": "se_e2_a", "sel": "auto", "rcut": 5.0, "rcut_smth": 2.0},
            **{"neuron": [8], "axis_neuron": 4},
        },
        "fitting_net": {"neuron": [64, 64]},
    },
    "learning_rate": {"type": "exp", "start_lr": 2e-3, "stop_lr": 1e-5},
    "loss": {"type": "ener_spin"},
    "training": {"numb_steps": 10**6},
}
# what is changed, by path
VARIANTS: dict[str, dict] = {
    "as it is": {},
    "4 mixtures": {"model/descriptor": {"neuron": [4], "axis_neuron": 2}},
    "16 mixtures": {"model/descriptor": {"neuron": [16], "axis_neuron": 4}},
    "8 of 8 mixtures": {"model/descriptor": {"axis_neuron": 8}},
    "10 radial functions": {"model/spin": {"baseline": {"nradial": 10}}},
    "20 radial functions": {"model/spin": {"baseline": {"nradial": 20}}},
    "nets of 32": {"model/fitting_net": {"neuron": [32, 32]}},
    "nets of 128": {"model/fitting_net": {"neuron": [128, 128]}},
    "three layers": {"model/fitting_net": {"neuron": [64, 64, 64]}},
    "rate 5e-4": {"learning_rate": {"start_lr": 5e-4}},
    "rate 8e-3": {"learning_rate": {"start_lr": 8e-3}},
    "constant rate": {"learning_rate": {"stop_lr": 2e-3}},
    "prefactors of ener_spin": {"loss": {"prefactors": "given"}},
    "no second tier": {"model/spin": {"baseline": {"ncross": 0}}},
    "no baseline": {"model/spin": {"baseline": False}},
    "baseline trained on": {"model/spin": {"baseline": {"trainable": True}}},
}


def options_of(name: str, args: argparse.Namespace, seed: int) -> dict:
    """The normalised input of a row."""
    made = copy.deepcopy(BASE)
    made["model"]["type_map"] = args.type_map
    for part in ("descriptor", "fitting_net"):
        made["model"][part]["seed"] = seed
    made["training"] |= {
        "training_data": {"systems": [f"{args.data}/train"], "batch_size": BATCH},
        "validation_data": {"systems": [f"{args.data}/valid"]},
        "seed": seed,
    }
    for path, changes in VARIANTS.get(name, {}).items():
        section = made
        for key in path.split("/"):
            section = section[key]
        section |= changes
    return normalize(made)


class Curve:
    """Seconds and validation errors of one training."""

    def __init__(self, model: SpinEnergyModel, valid: DataSystem, seconds: float):
        self.model, self.valid, self.seconds = model, valid, seconds
        self.rows: list[list[float]] = []
        self.spent = 0.0  # of the training, without looks and compiling
        self.look()

    def look(self) -> None:
        """Note the errors."""
        found = label_errors(self.model, self.valid.spread(60))
        self.rows.append([self.spent, *(found[name] for name in TERMS)])

    @property
    def left(self) -> float:
        """Share of the time that is left."""
        return max(0.0, 1.0 - self.spent / self.seconds)

    def run(self, step: Callable[[], object]) -> None:
        """Repeat a step until the time is over."""
        step()  # compiles
        due = self.seconds / LOOKS
        while self.spent < self.seconds:
            start = time.perf_counter()
            step()
            self.spent += time.perf_counter() - start
            if self.spent >= due:
                due += self.seconds / LOOKS
                self.look()


def batches(data: DataSystem) -> Iterator[tuple[dict, dict]]:
    """Batches without end."""
    yield from data.dataset()


# --- Ways to train --------------------------------------------------------------------


def by_adam(
    model: SpinEnergyModel, data: DataSystem, curve: Curve, options: dict
) -> None:
    """Adam, its rate falling exponentially with the time that is left."""
    rate = options["learning_rate"]
    model.compile(optimizer=build_optimizer(rate["start_lr"]), loss=model.loss_function)
    step = tf.function(
        lambda x, y: model.train_step((x, y)), jit_compile=True, autograph=False
    )
    ratio, stream = rate["stop_lr"] / rate["start_lr"], batches(data)

    def advance() -> None:
        model.optimizer.learning_rate.assign(
            rate["start_lr"] * ratio ** (1.0 - curve.left)
        )
        step(*next(stream))["loss"].numpy()

    curve.run(advance)


def by_average(
    model: SpinEnergyModel, data: DataSystem, curve: Curve, options: dict
) -> None:
    """The same, looked at with weights averaged over the last steps."""
    weights = model.trainable_variables
    mean = [tf.Variable(w.value) for w in weights]
    look = curve.look

    def averaged() -> None:
        own = [w.numpy() for w in weights]
        for w, m in zip(weights, mean, strict=True):
            w.assign(m)
        look()
        for w, value in zip(weights, own, strict=True):
            w.assign(value)

    curve.look = averaged
    train_step = model.train_step

    def step(given: tuple) -> dict:
        told = train_step(given)
        for w, m in zip(weights, mean, strict=True):
            m.assign(0.999 * m + 0.001 * w.value)
        return told

    model.train_step = step
    by_adam(model, data, curve, options)
    averaged()


def residuals(model: SpinEnergyModel, inputs: dict, labels: dict) -> tf.Tensor:
    """What the loss is the sum of squares of."""
    made, loss = model(inputs, training=True), model.loss_function
    natoms = tf.cast(labels["natoms"], tf.float64)
    parts = {
        "e": (made["energy"] - labels["energy"]) / tf.sqrt(natoms),
        "fr": made["force"] - labels["force"],
        "fm": made["force_mag"] - labels["force_mag"],
        "v": (made["virial"] - labels["virial"]) / tf.sqrt(natoms)[:, None, None],
    }
    return tf.concat(
        [
            tf.reshape(x, [-1])
            * np.sqrt(loss.prefactors[term][0] / max(x.shape.num_elements(), 1))
            for term, x in parts.items()
        ],
        axis=0,
    )


def flat(values: list) -> tf.Tensor:
    """Many arrays as one vector."""
    return tf.concat([tf.reshape(x, [-1]) for x in values], axis=0)


def by_gauss_newton(
    model: SpinEnergyModel, data: DataSystem, curve: Curve, options: dict
) -> None:
    """Damped Gauss-Newton on 16 frames at a time, by 15 conjugate gradients each."""
    del options
    weights = model.trainable_variables
    shapes = [w.shape for w in weights]
    sizes = [int(np.prod(s)) for s in shapes]

    def parted(vector: tf.Tensor) -> list[tf.Tensor]:
        parts = tf.split(vector, sizes)
        return [tf.reshape(x, s) for x, s in zip(parts, shapes, strict=True)]

    @tf.function(jit_compile=True, autograph=False)
    def gradient(inputs: dict, labels: dict) -> tuple:
        with tf.GradientTape() as tape:
            left = residuals(model, inputs, labels)
        return flat(tape.gradient(left, weights, left)), tf.reduce_sum(left * left)

    @tf.function(autograph=False)  # XLA cannot differentiate what it makes of this
    def product(inputs: dict, labels: dict, vector: tf.Tensor) -> tf.Tensor:
        values = [w.value for w in weights]
        with tf.autodiff.ForwardAccumulator(values, parted(vector)) as forward:
            with tf.GradientTape() as tape:
                left = residuals(model, inputs, labels)
            along = forward.jvp(left)
        return flat(tape.gradient(left, weights, along))

    stream, damping = batches(data), [1e-2]

    def advance() -> None:
        inputs, labels = next(stream)
        b, before = gradient(inputs, labels)
        b = -b.numpy()
        x, r, p = np.zeros_like(b), b.copy(), b.copy()
        for _ in range(15):
            q = product(inputs, labels, p).numpy() + damping[0] * p
            size = (r @ r) / (p @ q)
            x, new = x + size * p, r - size * q
            p, r = new + (new @ new) / (r @ r) * p, new
        for w, part in zip(weights, parted(x), strict=True):
            w.assign_add(part)
        after = gradient(inputs, labels)[1]
        if after > before:
            for w, part in zip(weights, parted(x), strict=True):
                w.assign_sub(part)
        damping[0] = np.clip(damping[0] * (2.0 if after > before else 0.7), 1e-6, 1e4)

    curve.run(advance)


def by_refit(
    model: SpinEnergyModel, data: DataSystem, curve: Curve, options: dict
) -> None:
    """Adam, and at the end the last layer by least squares on the training data."""
    by_adam(model, data, curve, options)
    last = [model.fitting.net(t)[-1] for t in range(len(model.type_map))]
    weights = [w for layer in last for w in (layer.matrix, layer.bias)]
    sizes = [int(np.prod(w.shape)) for w in weights]

    @tf.function(autograph=False)
    def along(inputs: dict, labels: dict, vector: tf.Tensor) -> tf.Tensor:
        parts = zip(tf.split(vector, sizes), weights, strict=True)
        tangents = [tf.reshape(x, w.shape) for x, w in parts]
        with tf.autodiff.ForwardAccumulator([w.value for w in weights], tangents) as f:
            left = residuals(model, inputs, labels)
        return f.jvp(left)

    start = time.perf_counter()
    rows, rest = [], []
    for inputs, labels in data.spread(10**6):
        inputs, labels = tf.nest.map_structure(tf.constant, (inputs, labels))
        unit = np.eye(sum(sizes))
        rows.append(np.stack([along(inputs, labels, u).numpy() for u in unit], axis=1))
        rest.append(-residuals(model, inputs, labels).numpy())
    a, b = np.concatenate(rows), np.concatenate(rest)
    square = a.T @ a
    ridge = 1e-10 * np.trace(square) / len(square) * np.eye(len(square))
    change = np.linalg.solve(square + ridge, a.T @ b)
    for w, part in zip(weights, np.split(change, np.cumsum(sizes)[:-1]), strict=True):
        w.assign_add(tf.reshape(part, w.shape))
    curve.spent += time.perf_counter() - start
    curve.look()


WAYS = {
    "averaged weights": by_average,
    "last layer refitted": by_refit,
    "Gauss-Newton": by_gauss_newton,
}


# --- All together ---------------------------------------------------------------------


def curve_of(name: str, seed: int, args: argparse.Namespace) -> np.ndarray:
    """Train one row with one seed: (looks, 1 + errors)."""
    stored = Path(args.out) / f"{name.replace(' ', '-')}-{seed}.json"
    if stored.is_file():
        return np.array(json.loads(stored.read_text()))
    options = options_of(name, args, seed)
    if name == "Gauss-Newton":
        options["training"]["training_data"]["batch_size"] = 16
    train, valid = load_data(options)
    options = with_sel(options, train)
    model, options = initial_model(options, None, train, valid)
    options = with_prefactors(options, model, train, None)
    compile_model(model, options)
    curve = Curve(model, valid, args.seconds)
    WAYS.get(name, by_adam)(model, train, curve, options)
    stored.write_text(json.dumps(curve.rows))
    return np.array(curve.rows)


def draw(curves: dict[str, list[np.ndarray]], path: Path) -> None:
    """Errors against seconds, the mean over seeds of each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    axes = figure.subplots(1, len(TERMS))
    for n, (name, found) in enumerate(curves.items()):
        length = min(len(rows) for rows in found)
        mean = np.exp(np.mean([np.log(rows[:length, 1:]) for rows in found], axis=0))
        when = np.mean([rows[:length, 0] for rows in found], axis=0)
        style = ("-", "--", ":", "-.")[n // 10]
        for k, axis in enumerate(axes):
            axis.semilogy(when, mean[:, k], style, label=name, lw=2.5 if n == 0 else 1)
    for axis, (name, unit) in zip(axes, TERMS.items(), strict=True):
        axis.set(title=f"{name}, {unit}", xlabel="seconds of training steps")
        axis.set_xlim(0, 1.03 * curves["as it is"][0][-1, 0])
    axes[-1].legend(fontsize=7, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--type-map", nargs="+", default=["Fe"])
    parser.add_argument("--rows", nargs="+", default=[*VARIANTS, *WAYS])
    args = parser.parse_args()
    Path(args.out).mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[np.ndarray]] = {}
    heads = "".join(f"{f'{n}, {u}':>28}" for n, u in TERMS.items())
    sys.stdout.write(f"{'':<26}{heads}\n")
    for name in args.rows:
        found = curves[name] = [curve_of(name, seed, args) for seed in args.seeds]
        line = f"{name:<26}"
        for k in range(len(TERMS)):
            ends = [rows[-1, 1 + k] for rows in found]
            text = f"{np.mean(ends):.2e}"
            if len(ends) > 1:
                text += f" ({min(ends):.1e}-{max(ends):.1e})"
            line += f"{text:>28}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        draw(curves, Path(args.out) / "tried.png")


if __name__ == "__main__":
    main()
