# SPDX-License-Identifier: Apache-2.0
"""One of several workers: `dp-spin train`, and `fit` with the errors of all steps.

    python tests/worker.py input.json

`TF_CONFIG` tells which one it is. `start` starts several on this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from deepspin.env import start_tensorflow
from deepspin.main import main
from deepspin.training.cluster import find_cluster


def ports(number: int) -> list[int]:
    """Ports that are free now."""
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


def config(taken: list[int], index: int) -> str:
    """`TF_CONFIG` of one worker."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in taken]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def start(folder: Path, number: int, *command: str) -> list[subprocess.Popen]:
    """Start workers that all run ``python COMMAND`` in a folder, each with a log."""
    taken = ports(number)
    own = {f"DP_{k}_OP_PARALLELISM_THREADS": "1" for k in ("INTRA", "INTER")}
    started = []
    for index in range(number):
        with open(folder / f"log-{index}", "wb") as log:
            environment = {**os.environ, **own, "TF_CONFIG": config(taken, index)}
            started.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=folder,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            )
    return started


def ends(started: list[subprocess.Popen], seconds: float = 240.0) -> list[int]:
    """Exit status of each; none is left running."""
    try:
        return [process.wait(seconds) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def fitted(path: str) -> dict:
    """History of a `fit` over the workers, of the model and data of an input."""
    import deepspin
    from deepspin.training.setup import compile_model
    from deepspin.training.workers import join
    from deepspin.utils.inputs import load_input, normalize

    workers = join()
    options = normalize(load_input(path))
    model = deepspin.build_model(options["model"])
    section = options["training"]["training_data"]
    data = deepspin.DataSystem(
        section["systems"],
        **model.data_spec,
        batch_size=section["batch_size"],
        seed=options["training"]["seed"],
        augmentation=("spin_rotation",),
    )
    model.compute_stats(data.sample(1))
    compile_model(model, options)
    workers.share(model)
    history = model.fit(
        workers.dataset(data), epochs=4, steps_per_epoch=1, verbose=0
    ).history
    return {name: [float(value) for value in row] for name, row in history.items()}


if __name__ == "__main__":
    start_tensorflow(alone=find_cluster() is None)
    status = main(["train", *sys.argv[1:]])
    if status:
        sys.exit(status)
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    Path(f"history-{index}.json").write_text(json.dumps(fitted(sys.argv[1])))
