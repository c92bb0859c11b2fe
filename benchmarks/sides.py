# SPDX-License-Identifier: Apache-2.0
"""The two programs that are compared, and their processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAUSE = 0.1  # seconds before a turn, for the threads of the other side to fall asleep
MOST_IDLE = 0.3  # seconds a side may compute between its turns


class Failed(RuntimeError):
    """A program failed, or two programs do not agree."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A process that is over.

    Parameters
    ----------
    lines : list of (float, str)
        What it printed, each line with the time it came.
    seconds : float
        From start to end.
    memory : float
        Peak resident memory in MB.
    computed : float
        Seconds of all its threads on cores.
    """

    lines: list[tuple[float, str]]
    seconds: float
    memory: float
    computed: float


def environment(threads: int) -> dict[str, str]:
    """The environment of all programs, with a number of threads."""
    names = ("OMP", "OPENBLAS", "DP_INTRA_OP_PARALLELISM", "DP_INTER_OP_PARALLELISM")
    counts = {f"{name}_THREADS": str(threads) for name in names[2:]}
    counts |= {f"{name}_NUM_THREADS": str(threads) for name in names[:2]}
    return {**os.environ, **counts, "DP_INTERFACE_PREC": "high"}


def run(command: list[str], folder: Path, env: dict[str, str]) -> Finished:
    """Run a program in a folder."""
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        lines = [(time.perf_counter(), line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        output = "".join(line for _, line in lines[-30:])
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    computed = usage.ru_utime + usage.ru_stime
    return Finished(lines, seconds, usage.ru_maxrss / 1024, computed)


class Evaluator:
    """A process that evaluates a model when asked; see evaluator.py."""

    def __init__(self, process: subprocess.Popen, name: str, errors):
        self.process, self.name, self.errors = process, name, errors
        self.memory = 0.0

    def ask(self, **request) -> dict:
        """Ask for something and wait for the answer.

        Raises
        ------
        Failed
            The process ended, or it was computing while it was not asked.
        """
        time.sleep(PAUSE)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            tail = "".join(self.errors.readlines()[-5:])
            reason = (
                "killed: out of memory?" if status == -9 else f"ended with {status}"
            )
            raise Failed(f"evaluator of {self.name} {reason}\n{tail}")
        answer = json.loads(line)
        self.memory = answer["memory"]
        if answer["idle"] > MOST_IDLE:
            raise Failed(f"{self.name} computed {answer['idle']:.2f} s out of turn")
        return answer


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two programs.

    Parameters
    ----------
    name : str
        What to call it.
    command : list of str
        Beginning of its commands.
    python : str
        Its Python.
    env : dict of str
        Its environment.
    is_peer : bool
        Whether it is DeePMD-kit.
    about : str
        Version, and native code of ours.
    """

    name: str
    command: list[str]
    python: str
    env: dict[str, str]
    is_peer: bool
    about: str

    def run(self, folder: Path, *arguments: str | Path, cache: Path | None = None):
        """Run a verb; what it caches goes to `cache`, by default a fresh folder."""
        env = self.env | {"XDG_CACHE_HOME": str(cache or folder / "cache")}
        return run([*self.command, *map(str, arguments)], folder, env)

    def can(self, verb: str) -> bool:
        """Whether there is a verb."""
        command = [*self.command, verb, "-h"]
        return not subprocess.run(
            command, env=self.env, capture_output=True, check=False
        ).returncode

    def begin_with(self, model: Path) -> list[str]:
        """Arguments of train to begin with a model."""
        return ["-f" if model.suffix == ".pb" else "-i", str(model)]

    def make_model(self, folder: Path) -> Path:
        """Train as `folder`/input.json says; a model that both sides can begin with."""
        self.run(folder, "train", "input.json")
        if not self.is_peer:
            return max(folder.glob("model.ckpt-*.keras"))
        self.run(folder, "freeze", "-o", "frozen.pb")
        return folder / "frozen.pb"

    def take_over(self, model: Path, folder: Path) -> Path:
        """Model to evaluate, from one to begin with."""
        if self.is_peer or model.suffix != ".pb":
            return model
        self.run(folder, "convert-from", model, "-o", "model.keras")
        return folder / "model.keras"

    def compress(self, model: Path, folder: Path) -> Path:
        """Compress a model with default steps, for the data of `folder`/input.json."""
        out = folder / ("compressed.pb" if self.is_peer else "compressed")
        self.run(folder, "compress", "-i", model, "-o", out, "-t", "input.json")
        return out

    def evaluator(self, model: Path, frame: Path):
        """Process that evaluates a model."""
        kind = "deepmd" if self.is_peer else "deepspin"
        return evaluator(self.name, self.python, self.env, kind, model, frame)


@contextmanager
def evaluator(
    name: str, python: str, env: dict[str, str], kind: str, model: Path, frame: Path
) -> Iterator[Evaluator]:
    """Process of a program that evaluates a model; `kind` as evaluator.py has them."""
    command = [python, str(HERE / "evaluator.py"), kind, str(model)]
    command += [env["OMP_NUM_THREADS"], str(frame)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            cwd=frame.parent,
            env=env | {"XDG_CACHE_HOME": str(frame.parent / "cache")},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield Evaluator(process, name, errors)
        finally:
            process.kill()


def version(python: str, package: str, env: dict[str, str]) -> str:
    """Version of a package in the environment of a Python."""
    ask = f"import importlib.metadata as m; print(m.version('{package}'))"
    return run([python, "-c", ask], Path(python).parent, env).lines[-1][1].strip()


def peer_side(folder: Path, threads: int) -> Side:
    """DeePMD-kit of an environment, given the folder of its programs."""
    folder, env = folder.resolve(), environment(threads)
    python = str(folder / "python")
    about = version(python, "deepmd-kit", env)
    return Side("DeePMD-kit", [str(folder / "dp"), "--tf"], python, env, True, about)


def our_side(threads: int, tree: Path | None = None, name: str = "deepspin") -> Side:
    """Deepspin: of a source tree, or the installed one.

    The native code of a tree that has some is built in place.
    """
    env, python = environment(threads), sys.executable
    if tree is not None:
        env["PYTHONPATH"] = str(tree)
        sources = {path.suffix for path in (tree / "deepspin").rglob("*")}
        if (tree / "setup.py").is_file() and sources & {".c", ".cc", ".cpp"}:
            built = run([python, "setup.py", "build_ext", "--inplace"], tree, env)
            if not any((tree / "deepspin").rglob("*.so")):  # not an error of setup.py
                output = "".join(line for _, line in built.lines[-30:])
                raise Failed(f"The native code of {name} was not built:\n{output}")
    with tempfile.TemporaryDirectory() as elsewhere:
        ask = "import deepspin; print(deepspin.__file__)"
        found = run([python, "-c", ask], Path(elsewhere), env).lines[-1][1].strip()
    package = Path(found).parent
    if tree is not None and package != tree / "deepspin":
        raise Failed(f"{name} should be that of {tree}, but is {found}")
    native = [path.name for path in package.rglob("*.so")]
    about = f"native code: {', '.join(native) or 'none'}"
    return Side(name, [python, "-m", "deepspin"], python, env, False, about)


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Source tree of a revision, while it is needed."""
    git = ["git", "-C", str(HERE.parent), "worktree"]
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name).resolve() / "tree"
        command = [*git, "add", "--detach", str(tree), revision]
        run(command, HERE.parent, dict(os.environ))
        try:
            yield tree
        finally:
            run([*git, "remove", "--force", str(tree)], HERE.parent, dict(os.environ))
