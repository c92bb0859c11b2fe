# SPDX-License-Identifier: Apache-2.0
"""Kill every verb that writes, and run two at once: what is there is whole.

    python tests/attacks.py --kills 20 --pairs 20

Each verb has two inputs, of different results. Its outputs are those of the first when
it is asked, with ``--force`` where it has that, for those of the second.

Killed at a random moment, half of the time while it writes, each output must be one of
the two, whole; and a run afterwards leaves the second, and nothing else. ``md`` and
``thermo`` begin with nothing instead, and are killed and restarted until they end:
their files must be those of a run never killed, as in ``tests/kills.py``.

Of two at once, one for each input, each either says that it has written the output or
that another program does; the output is that of one that has said so, and nothing else
is left. Without ``--force``, from nothing, one wins; the other one is told, before its
work or after it, and what it has made is then kept under another name.

A verb runs in a fork of this process, which has imported TensorFlow and not used it.

Exits with status 1 if anything is otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
from kills import INPUT

from deepspin.env import set_defaults
from deepspin.main import main as dp_spin

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "NiO"
DATA = {"1": EXAMPLE / "data" / "valid" / "spin-files-16", "2": EXAMPLE / "data"}
STRUCTURE = EXAMPLE / "md" / "nio.extxyz"
TEMPLATE = EXAMPLE / "active" / "template"
CELL = EXAMPLE / "exchange" / "nio.extxyz"
SPIN = "--use-spin Ni --virtual-len 0.4 --spin-norm 1.2737"
# arguments by the name of the case; @ is the number of the input, : its folder
FORCED = {
    "convert-data": "convert-data :data@ -o out",
    "convert-data hdf5": "convert-data :data@ -o out.h5",
    "convert-data raw": "convert-data :data@ -o out --to raw",
    "convert-data mixed": f"convert-data :data@ -o out --to mixed -t Ni O {SPIN} "
    "--layout spin-files",
    "convert-data extxyz": "convert-data :data@ -o out.extxyz",
    "convert-data traj": "convert-data :data@ -o out.traj",
    "convert-data virtual": "convert-data :data@ -o out --layout virtual-atom " + SPIN,
    "init": f"init :data@ -t Ni O {SPIN} -o out.json",
    "select": "select :data1 -n @ -o out",
    "select hdf5": "select :data1 -n @ -o out.h5",
    "export-dft": f"export-dft :few@ --code abacus --template {TEMPLATE} -o out",
    "import-dft": "import-dft :dft@ -o out",
    "import-dft hdf5": "import-dft :dft@ -o out.h5",
    "model-devi": "model-devi -m :model@.keras :model3.keras -s :data@ -o devi.out "
    "--select 1e-9 1e9 --extract out",
    "freeze": "freeze -c :model@.keras -o out",
    "freeze pb": "freeze -c :model@.keras -o out.pb",
    "compress": "compress -i :model@.keras -o out --tol 1e-3",
    "convert-to": "convert-to deepmd -c :model@.keras -o out.dp",
    "convert-from": "convert-from :model@.dp -o out.keras",
    "change-bias": "change-bias :model@.keras -b -1 -2 -o out.keras",
    "exchange": f"exchange {CELL} -m :model@.keras -o out.json",
    "relax": "relax :few1 -m :model@.keras --steps @ -o out.extxyz",
}
# these have no --force and replace what they have made before
PLAIN = {
    "check-data": "check-data :data@ --json out.json",
    "check-symmetry": "check-symmetry :data1 -m :model@.keras --json out.json",
    "neighbor-stat": "neighbor-stat -s :data@ -o out.png",
    "test": "test -m :model@.keras -s :data1 -d out",
    "plot": "plot :curve@.out -o out.png",
}
# these go on with what is behind `-r`
RUNS = {
    "md": "md :md@.json -r md.npz",
    "md hdf5": "md :md-h5@.json -r md.npz",
    "thermo": "thermo :thermo@.json -r out.h5",
}
VERBS = {**FORCED, **PLAIN, **RUNS}
TOLD = ("Another program is writing", "was made by another program", "exists. Choose")
QUIET = {f"DP_{k}_OP_PARALLELISM_THREADS": "1" for k in ("INTRA", "INTER")}


# --- One process ----------------------------------------------------------------------


class Process:
    """``dp-spin`` in a fork of this process, in a group of its own.

    Parameters
    ----------
    args : list of str
        Its arguments.
    folder : Path
        Where it runs.
    log : Path
        What it says.
    """

    def __init__(self, args: list[str], folder: Path, log: Path):
        self._status: int | None = None
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                os.setsid()
                os.chdir(folder)
                number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                os.dup2(number, 1)
                os.dup2(number, 2)
                status = dp_spin(args)
                sys.stdout.flush()
            except SystemExit as end:
                status = 2 if end.code else 0
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)

    def poll(self) -> int | None:
        """Status, None while it runs; negative for a signal."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self) -> int:
        """Wait for its end."""
        while self.poll() is None:
            time.sleep(0.002)
        return self.poll()

    def kill(self) -> bool:
        """Kill it and all that it started; whether it was still running."""
        if self.poll() is not None:
            return False
        os.killpg(self._pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL


def import_all() -> None:
    """Import what verbs need, without a thread that a fork would lack."""
    os.environ.update(QUIET, MPLBACKEND="agg")
    before = len(os.listdir("/proc/self/task"))  # numpy's, which forks stop
    set_defaults()
    for name in ("infer.deep_spin", "training.trainer", "pictures.plots"):
        import_module(f"deepspin.{name}")
    if len(os.listdir("/proc/self/task")) != before:
        raise SystemExit("imports have started threads, which forks would lack")


# --- One verb -------------------------------------------------------------------------

Found = dict[str, dict[str, str]]  # outputs by name, and what is in each


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
    results: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    pairs: int = 0

    def start(
        self, folder: Path, which: str, *, force: bool = True, go_on: bool = True
    ) -> Process:
        """Start it with one of the inputs, or go on with what it has made."""
        text = VERBS[self.name].replace(":", f"{self.root}/").replace("@", which)
        args = text.split() + ["--force"] * (force and self.name in FORCED)
        if self.name in RUNS and not (go_on and (folder / args[-1]).exists()):
            args = args[:-2]
        return Process(args, folder, self.log(folder, which))

    def log(self, folder: Path, which: str) -> Path:
        """Where it says what happens."""
        return folder.with_name(f"{folder.name}.{which}.log")

    def said(self, folder: Path, which: str) -> str:
        """What it has said with an input."""
        return " ".join(self.log(folder, which).read_text("utf-8", "replace").split())

    def finish(self, folder: Path, which: str) -> None:
        """Run it to its end, alone."""
        if self.start(folder, which).wait():
            raise RuntimeError(f"{self.name}: {self.said(folder, which)}")

    def prepare(self) -> None:
        """Find out what it writes for each input, alone."""
        for which in "12":
            folder, begin = self.fresh(), time.time()
            self.finish(folder, which)
            self.seconds = time.time() - begin
            self.results[which] = outputs(folder)
            folder.rename(self.saved(which))
        one, two = self.results.values()
        if not one or any(one[name] == two.get(name) for name in one):
            raise RuntimeError(f"{self.name}: both inputs give the same")

    def saved(self, which: str) -> Path:
        """Where the result of an input is kept."""
        return self.root / f"{self.name}.{which}"

    def fresh(self, which: str | None = None) -> Path:
        """Make a folder, with the result of an input in it or nothing."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.root))
        if which is not None:
            shutil.copytree(self.saved(which), folder, dirs_exist_ok=True)
        return folder

    def found(self, folder: Path) -> set[str] | None:
        """Of which inputs the outputs are; None if one is of neither, or missing."""
        here, owners = outputs(folder), set()
        names = {name for result in self.results.values() for name in result}
        for name in names | here.keys():
            own = [k for k, r in self.results.items() if r.get(name) == here.get(name)]
            if not own:
                return None
            owners |= set(own)
        return owners

    def fail(self, folder: Path, text: str) -> None:
        """Note a problem."""
        logs = "; ".join(
            self.said(folder, k)[-300:] for k in "12" if self.log(folder, k).exists()
        )
        names = sorted(p.name for p in folder.iterdir())
        self.problems.append(f"{self.name}: {text}; {names} in {folder}; said: {logs}")

    def kill(self, rng: random.Random) -> None:
        """Kill it once, look, and run it to its end; or kill it until it ends."""
        running = self.name in RUNS
        folder = self.fresh(None if running else "1")
        self.kill_once(folder, rng)
        while running and self.kill_once(folder, rng):
            pass
        if not running and self.found(folder) is None:
            self.fail(folder, "half or lost")
        elif self.start(folder, "2").wait():
            self.fail(folder, "no run afterwards")
        elif self.found(folder) != {"2"}:
            self.fail(folder, "another end")
        elif hidden(folder):
            self.fail(folder, "left behind")
        else:
            shutil.rmtree(folder)

    def kill_once(self, folder: Path, rng: random.Random) -> bool:
        """Kill it at a random moment; whether it had not ended."""
        process = self.start(folder, "2")
        if rng.random() < 0.5:
            while process.poll() is None and not list(folder.glob(".*partial*")):
                time.sleep(0.0005)
            time.sleep(rng.uniform(0.0, 0.1) ** 2 * 10)
        else:
            time.sleep(rng.uniform(0.0, self.seconds))
        killed = process.kill()
        self.kills += killed
        return killed

    def race(self, rng: random.Random, force: bool) -> None:
        """Two at once."""
        begun = force and self.name not in RUNS
        folder = self.fresh(rng.choice("12") if begun else None)
        both = {}
        for which in rng.sample("12", 2):
            both[which] = self.start(folder, which, force=force, go_on=False)
            time.sleep(rng.choice((0.0, 0.0, rng.uniform(0, self.seconds / 2))))
        self.pairs += 1
        status = {which: process.wait() for which, process in both.items()}
        done = {which for which, code in status.items() if code == 0}
        told = [k for k in "12" if any(t in self.said(folder, k) for t in TOLD)]
        names = self.results["1"].keys() | self.results["2"].keys()
        # without --force, the loser may have found out at its end
        spare = [] if force else [p for p in visible(folder) if p.name not in names]
        aside = folder.with_name(f"{folder.name}.aside")
        aside.mkdir()
        for path in spare:
            path.rename(aside / path.name)
        if not done or done & set(told) or len(done) + len(told) != 2:
            self.fail(folder, f"ended with {status}, told {told}")
        elif not (found := self.found(folder)) or not found <= done:
            self.fail(folder, f"the outputs are of {found}, not of {done}")
        elif not force and (len(done) != 1 or len(spare) > 1):
            self.fail(folder, "one was replaced")
        elif any(
            f not in self.results[told[0]].values() for f in outputs(aside).values()
        ):
            self.fail(folder, "what was kept is not whole")
        elif hidden(folder):
            self.fail(folder, "left behind")
        else:
            shutil.rmtree(folder)


def visible(folder: Path) -> list[Path]:
    """All outputs in a folder, but for what a run has found there and set aside."""
    names = [p for p in sorted(folder.iterdir()) if p.name[0] != "."]
    return [p for p in names if not p.name.startswith("previous-")]


def hidden(folder: Path) -> list[Path]:
    """What nobody is to find in a folder."""
    return [p for p in folder.iterdir() if p.name[0] == "."]


def outputs(folder: Path) -> Found:
    """What is in each output in a folder."""
    return {path.name: dict(content(path)) for path in visible(folder)}


def content(path: Path) -> Iterator[tuple[str, str]]:
    """Files of an output by name, and what tells whether they are whole.

    A checksum of the file or of its arrays, or the size alone of what is never the same
    twice: times and names of the system in archives, numbers drawn for a graph.
    """
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            yield str(file.relative_to(path)), _loose(file) or _sum(file)


def _loose(file: Path) -> str | None:
    if file.name == "fingerprint.pb":
        return "there"
    if file.suffix in (".keras", ".pb", ".dp"):
        return f"{file.stat().st_size} bytes, ends {file.read_bytes()[-8:]!r}"
    return None


def _sum(file: Path) -> str:
    found = hashlib.sha256()
    if file.suffix == ".h5":
        with h5py.File(file) as data:
            names: list[str] = []
            data.visit(names.append)
            for name in sorted(names):
                array = np.array(
                    data[name] if isinstance(data[name], h5py.Dataset) else 0
                )
                words = array.tolist() if array.dtype.kind == "O" else array.shape
                found.update(f"{name} {words}".encode())
                found.update(b"" if array.dtype.kind == "O" else array.tobytes())
    elif file.suffix == ".npz":
        with ZipFile(file) as data:
            for name in sorted(data.namelist()):
                found.update(name.encode() + data.read(name))
    else:
        found.update(file.read_bytes())
    return found.hexdigest()


# --- All ------------------------------------------------------------------------------


def make_inputs(root: Path) -> None:
    """Models, systems, frames, calculations, and inputs of runs, two of each."""

    def run(text: str) -> None:
        if Process(text.split(), root, root / "log").wait():
            raise SystemExit((root / "log").read_text())

    for which, neuron in (("1", [4, 8]), ("2", [6, 12]), ("3", [4, 4])):
        folder = root / f"train{which}"
        folder.mkdir()
        train(folder, neuron)
        run(f"train {folder}/input.json -o {folder}/out.json")
        shutil.copy(folder / "model.ckpt-2.keras", root / f"model{which}.keras")
        shutil.copy(folder / "lcurve.out", root / f"curve{which}.out")
    calculate = runpy.run_path(str(TEMPLATE.with_name("dft.py")))["calculate"]
    for which in "12":
        (root / f"data{which}").symlink_to(DATA[which])
        run(f"convert-to deepmd -c model{which}.keras -o model{which}.dp")
        run(f"select data1 -n {which} -o few{which}")
        run(f"export-dft few{which} --code abacus --template {TEMPLATE} -o dft{which}")
        calculate(root / f"dft{which}")
        for name, options in runs(root, int(which)).items():
            (root / f"{name}{which}.json").write_text(json.dumps(options))


def train(folder: Path, neuron: list[int]) -> None:
    """Write the input of a training of two steps."""
    model = {**INPUT["model"], "descriptor": {**INPUT["model"]["descriptor"]}}
    model["descriptor"]["neuron"] = neuron
    training = {**INPUT["training"], "numb_steps": 2, "save_freq": 2}
    training |= {
        "save_ckpt": str(folder / "model.ckpt"),
        "disp_file": str(folder / "lcurve.out"),
    }
    (folder / "input.json").write_text(
        json.dumps({**INPUT, "model": model, "training": training})
    )


def runs(root: Path, seed: int) -> dict[str, dict]:
    """Inputs of dynamics and of a temperature curve."""
    spins = [{"type": "Ni", "modulus": 1.2737, "direction": [1, 1, -2]}]
    both = {"model": str(root / "model1.keras"), "spins": spins, "seed": seed}
    md = {
        **both,
        "structure": {"file": str(STRUCTURE), "repeat": [1, 1, 2]},
        "ensemble": {"type": "langevin", "relaxation_time": 50.0, "damping": 0.1},
        "temperature": 100.0,
        "timestep": 0.2,
        "steps": 300,
    }
    files = {"log": "md.log", "log_freq": 5, "trajectory_freq": 10, "restart": "md.npz"}
    files["restart_freq"] = 30
    thermo = {
        **both,
        "structure": {"file": str(STRUCTURE)},
        "sizes": [[1, 1, 1]],
        "temperature": [100, 200],
        "method": {"type": "hmc", "leaps": 3},
        "equilibration": 10,
        "samples": 40,
        "output": {"data": "out.h5", "save_freq": 5},
    }
    return {
        "md": {**md, "output": {**files, "trajectory": "md.extxyz"}},
        "md-h5": {**md, "output": {**files, "trajectory": "md.h5"}},
        "thermo": thermo,
    }


def work(name: str, *, root: Path, kills: int, pairs: int, seed: int) -> Verb:
    """All attacks on a verb."""
    verb, rng = Verb(name, root), random.Random(f"{name}{seed}")
    begin = time.time()
    verb.prepare()
    while verb.kills < kills and not verb.problems:
        verb.kill(rng)
    for k in range(pairs):
        verb.race(rng, force=k % 2 == 0 or name not in FORCED)
    sys.stdout.write(
        f"{name:22s} {verb.kills:4d} kills {verb.pairs:4d} pairs "
        f"{len(verb.problems):4d} wrong {time.time() - begin:6.0f} s\n"
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
    import_all()
    make_inputs(root)
    attack = partial(
        work, root=root, kills=options.kills, pairs=options.pairs, seed=options.seed
    )
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        verbs = list(pool.imap_unordered(attack, options.verbs))
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
