# SPDX-License-Identifier: Apache-2.0
"""Measure the memory that training data take, held there and in a scratch file.

    python benchmarks/memory.py --frames 30000

A data set of so many frames of 16 atoms with spins is written and read by
`deepspin.DataSystem`, which then draws 200 batches; once with the memory that data may
take as it is by default, once with ``DEEPSPIN_DATA_MEMORY`` at --limit. ``own`` is the
peak of the memory that only this process holds (RssAnon); ``mapped`` files are the
operating system's to take back. ``numpy`` is the same with no data: what the libraries
take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

TYPES = [0] * 8 + [1] * 8


def write(folder: Path, nframes: int) -> Path:
    """Write one system of spin files."""
    (folder / "set.000").mkdir(parents=True)
    np.savetxt(folder / "type.raw", TYPES, fmt="%d")
    (folder / "type_map.raw").write_text("Ni\nO\n")
    random = np.random.default_rng(0)
    sites = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(4)])
    natoms, magnetic = len(TYPES), np.array(TYPES) == 0
    coord = 2.1 * sites + random.normal(scale=0.03, size=(nframes, natoms, 3))
    spin = random.normal(size=(nframes, natoms, 3)) * magnetic[:, None]
    arrays = {
        "coord": coord,
        "spin": spin,
        "force": random.normal(size=coord.shape),
        "force_mag": random.normal(size=coord.shape) * magnetic[:, None],
        "box": np.broadcast_to(np.diag([4.2, 4.2, 8.4]).ravel(), (nframes, 9)),
        "energy": random.normal(size=nframes),
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(nframes, -1))
    return folder


def status() -> dict[str, float]:
    """Memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    rows = (line.split() for line in lines if line.startswith("Rss"))
    return {name.rstrip(":"): int(value) / 1024 for name, value, *_ in rows}


def measure(folder: str) -> None:
    """Read the data and draw batches; print peaks and seconds."""
    from deepspin.data.dataset import DataSystem
    from deepspin.spins.schemes import build_scheme

    peaks: dict[str, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for name, value in status().items():
                peaks[name] = max(peaks.get(name, 0.0), value)

    libraries = status()["RssAnon"]
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    spin = build_scheme({"use_spin": [True, False], "virtual_scale": [0.3]})
    data = DataSystem(folder, ["Ni", "O"], spin, 4.0, batch_size=4)
    for step in range(200):
        data.batch(step)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    sys.stdout.write(
        f"{peaks['RssAnon']:8.0f} {peaks['RssFile']:8.0f} {libraries:8.0f} "
        f"{seconds:8.1f}\n"
    )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=30000, help="of the data set")
    parser.add_argument("--limit", default="0.01", help="GiB of the second row")
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "data", args.frames)
        size = sum(file.stat().st_size for file in path.rglob("*.npy")) / 2**20
        sys.stdout.write(f"{args.frames} frames, {size:.0f} MiB of files; MiB, s\n")
        head = ("own", "mapped", "numpy", "s")
        sys.stdout.write(" " * 12 + " ".join(f"{x:>8s}" for x in head) + "\n")
        for name, limit in (("in memory", ""), ("in a file", args.limit)):
            sys.stdout.write(f"{name:12s}")
            sys.stdout.flush()
            command = [sys.executable, __file__, "--measure", str(path)]
            environment = {**os.environ, "DEEPSPIN_DATA_MEMORY": limit}
            subprocess.run(command, env=environment, check=True)
    return None


if __name__ == "__main__":
    main()
