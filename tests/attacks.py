# SPDX-License-Identifier: Apache-2.0
"""Kill every verb that writes, and run two at once: what is there is whole.

    python tests/attacks.py --kills 20 --pairs 20

Each verb has two inputs, of different results. Its output is that of the first when it
is asked, with ``--force``, for that of the second.

Killed at a random moment, half of the time while it writes, the output must be one of
the two, whole; and a run afterwards leaves the second, and nothing else.

Of two at once, one for each input, each either says that it has written the output or
that another program does; the output is that of one that has said so, and nothing else
is left. Without ``--force``, from nothing, one wins; the other one is told, before its
work or after it, and what it has made is then kept under another name.

Exits with status 1 if anything is otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from kills import INPUT

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "NiO"
DATA = {"1": EXAMPLE / "data" / "valid" / "spin-files-16", "2": EXAMPLE / "data"}
STRUCTURE = EXAMPLE / "md" / "nio.extxyz"
SPIN = ["--use-spin", "Ni", "--virtual-len", "0.4", "--spin-norm", "1.2737"]
# arguments, output; `@` is the number of the input
VERBS = {
    "convert-data": (["data@", "-o", "out"], "out"),
    "convert-data-hdf5": (["data@", "-o", "out.h5"], "out.h5"),
    "init": (["data@", "-t", "Ni", "O", *SPIN, "-o", "out.json"], "out.json"),
    "freeze": (["-c", "model@.keras", "-o", "out"], "out"),
    "freeze-pb": (["-c", "model@.keras", "-o", "out.pb"], "out.pb"),
    "compress": (["-i", "model@.keras", "-o", "out", "--tol", "1e-3"], "out"),
    "convert-to": (["deepmd", "-c", "model@.keras", "-o", "out.dp"], "out.dp"),
    "convert-from": (["model@.dp", "-o", "out.keras"], "out.keras"),
    "change-bias": (["model@.keras", "-b", "-1", "-2", "-o", "out.keras"], "out.keras"),
    "relax": (
        [str(STRUCTURE), "-m", "model@.keras", "--steps", "@", "-o", "out.extxyz"],
        "out.extxyz",
    ),
}
TOLD = ("Another program is writing", "was made by another program", "exists. Choose")
QUIET = {f"DP_{k}_OP_PARALLELISM_THREADS": "1" for k in ("INTRA", "INTER")}


# --- One verb -------------------------------------------------------------------------


@dataclass
class Verb:
    """A verb, what it writes, and how that went.

    Parameters
    ----------
    name : str
        Its name in `VERBS`.
    root : Path
        Folder of the inputs.
    """

    name: str
    root: Path
    seconds: float = 0.0
    results: dict[str, dict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    pairs: int = 0

    @property
    def output(self) -> str:
        """Name of the output."""
        return VERBS[self.name][1]

    def start(self, folder: Path, which: str, force: bool = True) -> subprocess.Popen:
        """Start it with one of the inputs."""
        verb = self.name.removesuffix("-hdf5").removesuffix("-pb")
        given = [a.replace("@", which) for a in VERBS[self.name][0]]
        given = [
            str(self.root / a) if a.startswith(("model", "data")) else a for a in given
        ]
        with open(folder.with_name(f"{folder.name}.{which}.log"), "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "deepspin", verb, *given, *["--force"] * force],
                cwd=folder,
                env={**os.environ, **QUIET},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, folder: Path, which: str) -> str:
        """What it has said with an input."""
        text = folder.with_name(f"{folder.name}.{which}.log").read_text(
            "utf-8", "replace"
        )
        return " ".join(text.split())

    def prepare(self) -> None:
        """Find out what it writes for each input, alone."""
        for which in "12":
            folder = self.fresh()
            begin = time.time()
            status = self.start(folder, which).wait()
            self.seconds = time.time() - begin
            if status:
                raise SystemExit(f"{self.name}: {self.said(folder, which)}")
            self.results[which] = dict(content(folder / self.output))
        if self.results["1"] == self.results["2"]:
            raise SystemExit(f"{self.name}: both inputs give the same")

    def fresh(self, which: str | None = None) -> Path:
        """Make a folder, with the result of an input in it or nothing."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.root))
        if which is not None:
            saved = self.root / f"{self.name}.{which}"
            if not saved.exists():
                made = self.fresh()
                if self.start(made, which).wait():
                    raise SystemExit(f"{self.name}: {self.said(made, which)}")
                (made / self.output).rename(saved)
            copy = shutil.copytree if saved.is_dir() else shutil.copy
            copy(saved, folder / self.output)
        return folder

    def found(self, folder: Path) -> str | None:
        """Of which input the output is; None if of neither."""
        if not (folder / self.output).exists():
            return None
        here = dict(content(folder / self.output))
        return next((k for k, right in self.results.items() if right == here), None)

    def fail(self, folder: Path, text: str) -> None:
        """Note a problem."""
        logs = "; ".join(
            self.said(folder, k)[-300:]
            for k in "12"
            if folder.with_name(f"{folder.name}.{k}.log").exists()
        )
        names = sorted(p.name for p in folder.iterdir())
        self.problems.append(f"{self.name}: {text}; {names} in {folder}; said: {logs}")

    def kill(self, rng: random.Random) -> None:
        """Kill it once, look, and run it to its end."""
        folder = self.fresh("1")
        process, begin = self.start(folder, "2"), time.time()
        if rng.random() < 0.5:
            while process.poll() is None and not list(folder.glob(".*partial*")):
                time.sleep(0.0005)
            time.sleep(rng.uniform(0.0, 0.1) ** 2 * 10)
        else:
            time.sleep(rng.uniform(0.0, self.seconds))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            self.kills += 1
        process.wait()
        if self.found(folder) is None:
            self.fail(folder, f"half after {time.time() - begin:.2f} s")
        elif self.start(folder, "2").wait():
            self.fail(folder, "no run afterwards")
        elif self.found(folder) != "2" or len(list(folder.iterdir())) != 1:
            self.fail(folder, "left behind")
        else:
            shutil.rmtree(folder)

    def race(self, rng: random.Random, force: bool) -> None:
        """Two at once."""
        folder = self.fresh(rng.choice("12") if force else None)
        both = {}
        for which in rng.sample("12", 2):
            both[which] = self.start(folder, which, force)
            time.sleep(rng.choice((0.0, 0.0, rng.uniform(0, 0.3))))
        self.pairs += 1
        status = {which: process.wait() for which, process in both.items()}
        done = {which for which, code in status.items() if code == 0}
        told = [
            which for which in "12" if any(t in self.said(folder, which) for t in TOLD)
        ]
        kept = [p for p in folder.iterdir() if p.name != self.output]
        # without --force, the loser may have found out at its end
        spare = [] if force else [p for p in kept if not p.name.startswith(".")]
        if not done or done & set(told) or len(done) + len(told) != 2:
            self.fail(folder, f"ended with {status}, told {told}")
        elif self.found(folder) not in done:
            self.fail(folder, f"the output is none of {done}")
        elif not force and (len(done) != 1 or len(spare) > 1):
            self.fail(folder, "one was replaced")
        elif spare and dict(content(spare[0])) != self.results[told[0]]:
            self.fail(folder, "what was kept is not whole")
        elif len(kept) != len(spare):
            self.fail(folder, "left behind")
        else:
            shutil.rmtree(folder)


def content(path: Path) -> Iterator[tuple[str, str]]:
    """Files of an output by name, and what tells whether they are whole.

    Size and checksum, or the size alone of what is never the same twice: times and
    names of the system in archives, numbers drawn for a graph.
    """
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = str(file.relative_to(path)) if path.is_dir() else ""
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            yield name, _loose(file) or digest


def _loose(file: Path) -> str | None:
    if file.name == "fingerprint.pb":
        return "there"
    if file.suffix in (".keras", ".pb", ".extxyz", ".dp", ".json"):
        return f"{file.stat().st_size} bytes, ends {file.read_bytes()[-8:]!r}"
    return None


# --- All ------------------------------------------------------------------------------


def make_inputs(root: Path) -> None:
    """Two models, and two sets of systems."""
    for which, neuron in (("1", [4, 8]), ("2", [6, 12])):
        (root / f"data{which}").symlink_to(DATA[which])
        folder = root / f"train{which}"
        folder.mkdir()
        train(folder, neuron)
        shutil.copy(folder / "model.ckpt-2.keras", root / f"model{which}.keras")
        command = ["convert-to", "deepmd", "-c", f"model{which}.keras"]
        command += ["-o", f"model{which}.dp"]
        subprocess.run(
            [sys.executable, "-m", "deepspin", *command], cwd=root, check=True
        )


def train(folder: Path, neuron: list[int]) -> None:
    """Train a small model for two steps."""
    model = {**INPUT["model"], "descriptor": {**INPUT["model"]["descriptor"]}}
    model["descriptor"]["neuron"] = neuron
    training = {**INPUT["training"], "numb_steps": 2, "save_freq": 2}
    (folder / "input.json").write_text(
        json.dumps({**INPUT, "model": model, "training": training})
    )
    command = [sys.executable, "-m", "deepspin", "train", "input.json"]
    subprocess.run(command, cwd=folder, check=True)


def work(verb: Verb, kills: int, pairs: int, seed: int) -> Verb:
    """All attacks on a verb."""
    rng = random.Random(f"{verb.name}{seed}")
    verb.prepare()
    while verb.kills < kills and not verb.problems:
        verb.kill(rng)
    for k in range(pairs):
        verb.race(rng, force=k % 2 == 0)
    sys.stdout.write(
        f"{verb.name:18s} {verb.kills:4d} kills {verb.pairs:4d} pairs "
        f"{len(verb.problems):4d} wrong\n"
    )
    sys.stdout.flush()
    return verb


def main(args: list[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each verb")
    parser.add_argument("--pairs", type=int, default=20, help="of each verb")
    parser.add_argument("--jobs", type=int, default=1, help="verbs at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=VERBS)
    options = parser.parse_args(args)
    root = Path(tempfile.mkdtemp(prefix="deepspin-attacks-"))
    make_inputs(root)
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(
                work, Verb(name, root), options.kills, options.pairs, options.seed
            )
            for name in options.verbs
        ]
        verbs = [job.result() for job in jobs]
    problems = [text for verb in verbs for text in verb.problems]
    sys.stdout.write("\n".join(problems) + "\n" * bool(problems))
    kills, pairs = sum(v.kills for v in verbs), sum(v.pairs for v in verbs)
    sys.stdout.write(f"{kills} kills, {pairs} pairs: {len(problems)} wrong\n")
    if problems:
        sys.stdout.write(f"files are kept in {root}\n")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
