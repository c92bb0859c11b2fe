# SPDX-License-Identifier: Apache-2.0
"""Kill trainings at random moments, restart them, and compare with one never killed.

    python tests/kills.py --kills 200 --jobs 2

A chain is a training that is killed by SIGKILL and restarted until it ends. Half of the
kills fall anywhere in the life of a process (imports, reading, compiling, saving), half
into its training, which saves every third step. After every kill, each checkpoint and
each line of the learning curve there is must be that of the run never killed, and none
that was there before may be missing; at the end all files must be equal. Exits with
status 1 if anything differs or is lost.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

DATA = Path(__file__).resolve().parent.parent / "examples" / "NiO" / "data"
STEPS, KEEP = 41, 3
INPUT = {
    "model": {
        "type_map": ["Ni", "O"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [30, 30],
            "rcut": 4.0,
            "rcut_smth": 3.0,
            "neuron": [4, 8],
            "axis_neuron": 2,
            "type_one_side": True,
            "seed": 1,
        },
        "fitting_net": {"neuron": [8, 8], "seed": 1},
        "spin": {
            "use_spin": [True, False],
            "virtual_len": [0.4],
            "spin_norm": [1.2737],
        },
    },
    "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 7},
    "loss": {"type": "ener_spin"},
    "training": {
        "training_data": {"systems": [str(DATA / "train")], "batch_size": 1},
        "validation_data": {
            "systems": [str(DATA / "valid" / "spin-files-16")],
            "batch_size": 1,
        },
        "numb_steps": STEPS,
        "seed": 5,
        "disp_freq": 2,
        "save_freq": 3,
        "max_ckpt_keep": KEEP,
    },
}


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """All numbers in a checkpoint: weights, optimizer, step."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
        step = json.loads(archive.read("deepspin.json"))["step"]
    with h5py.File(content) as file:

        def take(name, node):
            if isinstance(node, h5py.Dataset):
                found[name] = node[()]

        file.visititems(take)
    return {**found, "step": np.array(step)}


def equal(one: Path, two: Path) -> bool:
    """Whether two checkpoints hold the same numbers, bit for bit."""
    a, b = arrays_of(one), arrays_of(two)
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a
    )


def steps_saved(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder."""
    names = folder.glob("model.ckpt-*.keras")
    return sorted(int(p.stem.rpartition("-")[2]) for p in names)


class Chain:
    """A training that is killed and restarted until it ends.

    Parameters
    ----------
    folder : Path
        Where it runs.
    reference : Path
        Folder of the run never killed, with all its checkpoints.
    """

    def __init__(self, folder: Path, reference: Path):
        self.folder, self.reference = folder, reference
        self.kills, self.problems = 0, []
        self.saved: list[int] = []
        folder.mkdir()
        shutil.copy(reference / "input.json", folder)

    def run(self, rng: random.Random, seconds: float, training: float) -> bool:
        """Start or restart, kill at a random moment; whether it ended before."""
        begin = time.time()
        process = start(self.folder, restart=bool(self.saved))
        if rng.random() < 0.5:
            moment = rng.uniform(0.0, seconds)
        else:
            wait_for_training(process, self.folder, begin)
            moment = time.time() - begin + rng.uniform(0.0, training)
        try:
            status = process.wait(max(0.0, begin + moment - time.time()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.kills += 1
            self.check()
            return False
        if status:
            self.problems.append(f"status {status}: {log_of(self.folder)}")
        return True

    def check(self) -> None:
        """What is there is right, and what was there still is."""
        now = steps_saved(self.folder)
        for step in now:
            name = f"model.ckpt-{step}.keras"
            if not equal(self.folder / name, self.reference / name):
                self.problems.append(f"{name} differs")
        if self.saved and (not now or now[-1] < self.saved[-1]):
            self.problems.append(f"checkpoint {self.saved[-1]} is lost: {now}")
        self.saved = now
        curve = self.folder / "lcurve.out"
        if not curve.is_file():
            return
        right = (self.reference / "lcurve.out").read_text().splitlines(keepends=True)
        lines = curve.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        if whole != right[: len(whole)]:
            self.problems.append("lcurve.out differs")
        shown = 3 + now[-1] // INPUT["training"]["disp_freq"] if now else 0
        if len(whole) < shown:
            self.problems.append(f"lcurve.out lost lines: {len(whole)} of {shown}")

    def finish(self) -> None:
        """Compare the end."""
        self.check()
        if self.saved[-KEEP:] != steps_saved(self.reference)[-KEEP:]:
            self.problems.append(f"checkpoints {self.saved}")
        for name in ("lcurve.out", "checkpoint", "out.json"):
            if (self.folder / name).read_bytes() != (
                self.reference / name
            ).read_bytes():
                self.problems.append(f"{name} differs at the end")
        if list(self.folder.glob(".*.partial*")):
            self.problems.append("partial files are left")


def start(folder: Path, restart: bool) -> subprocess.Popen:
    """Start a training in a group of its own."""
    command = [sys.executable, "-m", "deepspin", "train", "input.json"]
    command += ["-r", "model.ckpt"] * restart
    threads = {f"DP_{k}_OP_PARALLELISM_THREADS": "1" for k in ("INTRA", "INTER")}
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **threads},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def log_of(folder: Path) -> str:
    """Last line that the training said."""
    return (folder / "log").read_text(errors="replace").strip().rpartition("\n")[2]


def wait_for_training(process: subprocess.Popen, folder: Path, begin: float) -> None:
    """Wait until the learning curve is written anew, or the process ends."""
    curve = folder / "lcurve.out"
    while process.poll() is None:
        if curve.is_file() and curve.stat().st_mtime > begin:
            return
        time.sleep(0.01)


def reference_run(folder: Path, jit_compile: bool) -> tuple[float, float]:
    """Train without a kill; seconds of it all and of its steps."""
    folder.mkdir(parents=True)
    training = {**INPUT["training"], "jit_compile": jit_compile}
    text = json.dumps({**INPUT, "training": {**training, "max_ckpt_keep": STEPS}})
    (folder / "input.json").write_text(text)
    begin = time.time()
    process = start(folder, restart=False)
    wait_for_training(process, folder, begin)
    middle = time.time()
    if process.wait():
        raise SystemExit(f"the reference run failed: {log_of(folder)}")
    end = time.time()
    (folder / "input.json").write_text(json.dumps({**INPUT, "training": training}))
    out = json.loads((folder / "out.json").read_text())
    out["training"]["max_ckpt_keep"] = KEEP
    (folder / "out.json").write_text(json.dumps(out, indent=2))
    return end - begin, end - middle


def work(root: Path, kills: int, seed: int, jit_compile: bool) -> tuple[int, int, list]:
    """Chains until so many kills are made: kills, chains, problems."""
    rng = random.Random(seed)
    reference = root / f"reference-{seed}"
    seconds, training = reference_run(reference, jit_compile)
    total, chains, problems = 0, 0, []
    while total < kills:
        chain = Chain(root / f"chain-{seed}-{chains}", reference)
        ended = False
        while not ended and not chain.problems and total + chain.kills < kills:
            ended = chain.run(rng, seconds, training)
        if not ended and not chain.problems:
            ended = start(chain.folder, bool(chain.saved)).wait() == 0
            if not ended:
                chain.problems.append(f"last restart: {log_of(chain.folder)}")
        if ended:
            chain.finish()
        total, chains = total + chain.kills, chains + 1
        problems += [f"{chain.folder}: {text}" for text in chain.problems]
        sys.stdout.write(
            f"worker {seed}: {total} of {kills} kills, {chains} trainings, "
            f"{len(problems)} problems\n"
        )
        sys.stdout.flush()
        if not chain.problems:
            shutil.rmtree(chain.folder)
    return total, chains, problems


def main(args: list[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--xla", action="store_true", help="compile the steps with XLA")
    options = parser.parse_args(args)
    root = Path(tempfile.mkdtemp(prefix="deepspin-kills-"))
    share = [len(range(k, options.kills, options.jobs)) for k in range(options.jobs)]
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(work, root, n, options.seed + k, options.xla)
            for k, n in enumerate(share)
        ]
        results = [job.result() for job in jobs]
    kills, chains = sum(r[0] for r in results), sum(r[1] for r in results)
    problems = [text for r in results for text in r[2]]
    sys.stdout.write("\n".join(problems) + "\n" * bool(problems))
    sys.stdout.write(
        f"{kills} kills in {chains} trainings: {len(problems)} differing or lost\n"
    )
    if problems:
        sys.stdout.write(f"files are kept in {root}\n")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
