# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model when told to, in a process of its own.

    python evaluator.py {deepspin,deepmd,deepmd-spin,mace} MODEL THREADS FRAME

`compare.py` and `peers.py` start one for each program, each with the program's own
Python, and ask them in turn. Requests and answers are lines of JSON; FRAME is a file of
`problem.supercell`. Every timed evaluation is of positions and spins shaken anew,
neighbour lists included; to shake, and to place virtual atoms, is not timed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
Potential = Callable[[Arrays], tuple[Callable[[], object], Callable[[object], Arrays]]]
AMPLITUDE = 0.01  # Å and μ_B


def set_threads(threads: int) -> None:
    """Limit TensorFlow's threads, as the command lines do by the environment."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def load_deepspin(model: str, threads: int) -> Potential:
    """Load a model of deepspin; from a frame to a call and a reader of its result."""
    import deepspin

    set_threads(threads)
    potential = deepspin.DeepSpin(model)

    def prepare(frame: Arrays):
        arguments = [frame[key] for key in ("coord", "box", "atype", "spin")]
        names = ("energy", "force", "force_mag", "virial")
        return (
            lambda: potential.eval(*arguments),
            lambda result: {name: result[name][0] for name in names},
        )

    return prepare


def load_deepmd(model: str, threads: int) -> Potential:
    """Load a model of DeePMD-kit, which takes its threads from the environment."""
    del threads
    from deepmd.infer import DeepPot

    potential = DeepPot(model)

    def prepare(frame: Arrays):
        owner, natoms = frame["owner"], len(frame["coord"])
        virtual = frame["coord"][owner] + frame["scale"] * frame["spin"][owner]
        coord = np.concatenate([frame["coord"], virtual]).reshape(1, -1)
        atype = frame["atype"]
        types = np.concatenate([atype, atype[owner] + atype.max() + 1])
        box = frame["box"].reshape(1, 9)

        def read(result) -> Arrays:
            energy, force, virial = result
            magnetic = np.zeros((natoms, 3))
            magnetic[owner] = force[0, natoms:]
            return {
                "energy": energy[0, 0],
                "force": force[0, :natoms],
                "force_mag": magnetic,
                "virial": virial.reshape(3, 3),
            }

        return lambda: potential.eval(coord, box, types), read

    return prepare


def load_deepmd_spin(model: str, threads: int) -> Potential:
    """Load a model of DeePMD-kit's backends that take spins as they are."""
    del threads
    from deepmd.infer import DeepPot

    potential = DeepPot(model)

    def prepare(frame: Arrays):
        coord, spin = (frame[key].reshape(1, -1, 3) for key in ("coord", "spin"))
        box, atype = frame["box"].reshape(1, 9), frame["atype"]

        def read(result) -> Arrays:
            energy, force, virial, magnetic, _ = result
            return {
                "energy": energy[0, 0],
                "force": force[0],
                "force_mag": magnetic[0],
                "virial": virial.reshape(3, 3),
            }

        return lambda: potential.eval(coord, box, atype, spin=spin), read

    return prepare


def load_mace(model: str, threads: int) -> Potential:
    """Load a model of MACE, which knows no spins."""
    del threads
    from ase import Atoms
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=model, device="cpu")

    def prepare(frame: Arrays):
        numbers = frame["numbers"][frame["atype"]]
        atoms = Atoms(numbers, frame["coord"], cell=frame["box"], pbc=True)

        def call() -> Arrays:
            calculator.calculate(atoms, ["energy", "forces", "stress"])
            return {name: calculator.results[name] for name in ("energy", "forces")}

        return call, lambda found: {"energy": found["energy"], "force": found["forces"]}

    return prepare


LOADERS = {
    "deepspin": load_deepspin,
    "deepmd": load_deepmd,
    "deepmd-spin": load_deepmd_spin,
    "mace": load_mace,
}


def shake(frame: Arrays, seed: int) -> Arrays:
    """Move atoms and spins a little."""
    rng = np.random.default_rng(seed)
    coord, spin = frame["coord"], frame["spin"].copy()
    spin[frame["owner"]] += rng.normal(0, AMPLITUDE, (len(frame["owner"]), 3))
    return frame | {
        "coord": coord + rng.normal(0, AMPLITUDE, coord.shape),
        "spin": spin,
    }


def main() -> None:
    """Load a model and answer until there are no more requests."""
    program, model, threads, path = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    prepare = LOADERS[program](model, int(threads))
    with np.load(path) as stored:
        frame = dict(stored)

    def save(seed: int, out: str) -> dict:
        """Write the results for a shaken frame to a file."""
        call, read = prepare(shake(frame, seed))
        np.savez(out, **read(call()))
        return {}

    def predict(frames: str, out: str) -> dict:
        """Write the results for the frames of a file to another."""
        with np.load(frames) as stored:
            many = dict(stored)
        results = []
        for k in range(len(many["coord"])):
            one = {key: many[key][k] for key in ("coord", "spin", "box")}
            call, read = prepare(many | one)
            results.append(read(call()))
        names = results[0]
        np.savez(out, **{name: np.stack([x[name] for x in results]) for name in names})
        return {}

    def measure(seed: int, seconds: float, least: int) -> dict:
        """Median time of calls, of at least so many and so many seconds."""
        times: list[float] = []
        while len(times) < least or sum(times) < seconds:
            call, _ = prepare(shake(frame, seed + len(times)))
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return {"seconds": statistics.median(times), "calls": len(times)}

    used = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - used
        request = json.loads(line)
        tasks = {"save": save, "predict": predict, "measure": measure}
        answer = tasks[request.pop("do")](**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        used = time.process_time()
        answers.write(json.dumps(answer | {"idle": idle, "memory": peak}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
