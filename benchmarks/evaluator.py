# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model when told to, in a process of its own.

    python evaluator.py {deepspin,deepmd} MODEL THREADS FRAME

`compare.py` starts one for each program, each with the program's own Python, and asks
them in turn. Requests and answers are lines of JSON; FRAME is a file of
`problem.supercell`. Every evaluation is of positions and spins shaken anew, neighbour
lists included; to shake, and to place virtual atoms, is not timed.
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
    load = {"deepspin": load_deepspin, "deepmd": load_deepmd}[program]
    prepare = load(model, int(threads))
    with np.load(path) as stored:
        frame = dict(stored)

    def save(seed: int, out: str) -> dict:
        """Write the results for a shaken frame to a file."""
        call, read = prepare(shake(frame, seed))
        np.savez(out, **read(call()))
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
        answer = {"save": save, "measure": measure}[request.pop("do")](**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        used = time.process_time()
        answers.write(json.dumps(answer | {"idle": idle, "memory": peak}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
