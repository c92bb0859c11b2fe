#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Train for a few steps with the deepspin that is installed, where nothing compiles.

`python tests/installed.py` fails where the kernels do not load,
`python tests/installed.py --without-kernels` where they do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tiny

HAS_LISTS = "from deepspin.op import neighbors; print(neighbors.library() is not None)"
INVARIANT = {
    **tiny.INPUT,
    "model": {
        **tiny.INPUT["model"],
        "spin": {
            "type": "invariant",
            "use_spin": ["Ni"],
            "baseline": {"nradial": 4, "ncross": 1, "nframes": 4},
        },
    },
    "loss": {"type": "ener_spin"},
}
WHERE = "import deepspin; print(deepspin.__file__)"


def main() -> None:
    """Train, and compare what did the work with what was asked for."""
    parser = argparse.ArgumentParser(description="Train with what is installed.")
    parser.add_argument("--without-kernels", dest="kernels", action="store_false")
    kernels = parser.parse_args().kernels
    with tempfile.TemporaryDirectory() as folder:
        where = python(folder, "-c", WHERE)
        assert (python(folder, "-c", HAS_LISTS) == "True") == kernels
    for content in (tiny.INPUT, INVARIANT):
        train(content, kernels)
    print(f"{where} trains {'with' if kernels else 'without'} kernels")  # noqa: T201


def train(content: dict, kernels: bool) -> None:
    """Train all steps, by what is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "input.json").write_text(json.dumps(content))
        said = python(folder, "-m", "deepspin", "train", "input.json")
        *_, last = Path(folder, "lcurve.out").read_text().splitlines()
    assert (", kernels, threads:" in said) == kernels, said
    assert int(last.split()[0]) == content["training"]["numb_steps"]


def python(folder: str, *args: str) -> str:
    """Run this Python where `PATH` has nothing but it; return what it says."""
    environ = {k: v for k, v in os.environ.items() if k != "CXX"}
    environ["PATH"] = str(Path(sys.executable).parent)
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, env=environ, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"python {' '.join(args)}\n{done.stderr}")
    return (done.stderr if args[0] == "-m" else done.stdout).strip()


if __name__ == "__main__":
    main()
