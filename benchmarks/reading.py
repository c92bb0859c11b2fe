# SPDX-License-Identifier: Apache-2.0
"""Time reading: atoms of frames in a minute, and the memory that it takes.

    python benchmarks/reading.py [--frames N]
    python benchmarks/reading.py --data PATH [--format FORMAT]

Frames of 32 atoms with spins, forces and magnetic forces are written in each format and
read in a process of their own, from the path to the arrays of the system. ``peak`` is
the most memory beyond that of the started process, ``arrays`` what the arrays take.
Minutes are those of the processor, which other programs disturb less. With ``--data``
it is a file of your own that is read. Files are in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from deepspin.data.files import read_system
from deepspin.data.find import find_systems
from deepspin.data.formats import atoms, extxyz
from deepspin.data.formats.frame import Frame
from deepspin.data.formats.table import FORMATS, Reading
from deepspin.data.layouts import Content

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import abacus_text

NATOMS = 32
HEAD = "\n                              ABACUS v3.7.1\n\n"
ARRAYS = ("coord", "spin", "force", "force_mag")
DUMP = "x y z sp spx spy spz fx fy fz"


def frames(number: int) -> list[Frame]:
    """Random frames of NiO."""
    random = np.random.default_rng(0)
    symbols = ("Ni",) * (NATOMS // 2) + ("O",) * (NATOMS // 2)
    found = []
    for k in range(number):
        rows = {name: random.normal(size=(NATOMS, 3)) for name in ARRAYS}
        coord, box = rows.pop("coord"), 10 * np.eye(3)
        energy = {"energy": np.array(random.normal())}
        found.append(Frame(f"frame {k}", symbols, coord, box, rows | energy))
    return found


def write(form: str, path: Path, given: list[Frame]) -> None:
    """Write frames in a format."""
    if form == "extxyz":
        path.write_text("".join(map(extxyz.text_of, given)))
    elif form == "traj":
        atoms.write_trajectory(path, given)
    elif form == "db":
        from ase.db import connect

        with connect(path) as file:
            for frame in given:
                data = {"force_mag": frame.arrays["force_mag"]}
                file.write(atoms.atoms_of(frame), data=data)
    elif form == "lammps-dump":
        path.write_text("".join(map(dumped, given)))
    elif form == "abacus":
        write_abacus(path, given)
    elif form == "md":
        with h5py.File(path, "w") as file:
            half = NATOMS // 2
            file["type_map"], file["atype"] = [b"Ni", b"O"], [0] * half + [1] * half
            file["box"], file["pbc"] = given[0].cell, [True] * 3
            file["step"] = file["time"] = np.arange(len(given))
            for name, values in stacked(given).items():
                file[name] = values[:, None]
    else:
        write_ours(form, path, given)


def write_ours(form: str, path: Path, given: list[Frame]) -> None:
    """Write npy files or HDF5."""
    rows = {name: v.reshape(len(v), -1) for name, v in stacked(given).items()}
    rows["box"] = np.array([frame.cell.ravel() for frame in given])
    types = np.repeat([0, 1], NATOMS // 2)
    content = Content(types, {"type_map.raw": ["Ni", "O"]}, {"set.000": rows}, False)
    if form == "npy":
        content.write_folder(path)
    else:
        with h5py.File(path, "w") as file:
            content.write_group(file)


def write_abacus(path: Path, given: list[Frame]) -> None:
    """Write a molecular dynamics of ABACUS: log and positions."""
    labels, box = given[0].symbols, 2 * given[0].cell
    log = [HEAD, abacus_text.head(labels, given[0].coord / 10)]
    dump = []
    for k, frame in enumerate(given):
        arrays = (frame.arrays[name] for name in ("spin", "force_mag", "force"))
        energy = float(frame.arrays["energy"])
        log.append(f" STEP OF MOLECULAR DYNAMICS : {k}\n")
        log.append(abacus_text.step(k + 1, energy, *arrays, labels=labels))
        dump.append(f"MDSTEP:  {k}\nLATTICE_CONSTANT: 0.500000000000 Angstrom\n")
        dump.append("LATTICE_VECTORS\n")
        dump += ["  " + " ".join(f"{x:.12f}" for x in row) + "\n" for row in box]
        dump.append("INDEX    LABEL    POSITION (Angstrom)    FORCE (eV/Angstrom)\n")
        rows = np.hstack([frame.coord, frame.arrays["force"]])
        for n, (label, row) in enumerate(zip(labels, rows, strict=True)):
            dump.append(f"{n} {label} " + " ".join(f"{x:.12f}" for x in row) + "\n")
        dump.append("\n\n")
    out = path / "OUT.NiO"
    out.mkdir(parents=True)
    (path / "INPUT").write_text(abacus_text.INPUT.format(calculation="md", nspin=4))
    (out / "running_md.log").write_text("".join([*log, abacus_text.END]))
    (out / "MD_dump").write_text("".join(dump))


def stacked(given: list[Frame]) -> dict[str, np.ndarray]:
    """Arrays of all frames."""
    found = {n: np.array([f.arrays[n] for f in given]) for n in given[0].arrays}
    return {"coord": np.array([frame.coord for frame in given]), **found}


def dumped(frame: Frame) -> str:
    """A frame as LAMMPS dumps it."""
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{NATOMS}\n"
    head += "ITEM: BOX BOUNDS pp pp pp\n" + "0 10\n" * 3
    head += f"ITEM: ATOMS id type {DUMP}\n"
    spin = frame.arrays["spin"]
    modulus = np.linalg.norm(spin, axis=1, keepdims=True)
    rows = [frame.coord, modulus, spin / modulus, frame.arrays["force"]]
    table = np.hstack(rows).tolist()
    return head + "".join(
        f"{k + 1} {1 + (k >= NATOMS // 2)} {' '.join(f'{x:.10g}' for x in row)}\n"
        for k, row in enumerate(table)
    )


def megabytes() -> float:
    """Most memory that this process had so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def read(path: str, form: str | None) -> dict[str, float]:
    """Read systems; how long it took, and what memory."""
    before, begin = megabytes(), time.process_time()
    total, size = 0, 0
    for system in find_systems(path, reading=Reading(format=form)):
        _, sets = read_system(system)
        for part in sets:
            total += np.asarray(part.arrays["coord"]).size // 3
            size += sum(np.asarray(a).nbytes for a in part.arrays.values())
    seconds = time.process_time() - begin
    peak = megabytes() - before
    return {"atoms": total, "seconds": seconds, "peak": peak, "arrays": size / 2**20}


def measured(path: Path, form: str | None) -> str:
    """A row of the table."""
    command = [sys.executable, __file__, "--read", str(path)]
    command += ["--format", form] if form else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    speed = found["atoms"] / found["seconds"] * 60 / 1e6
    return f"{speed:10.2f} {found['peak']:9.0f} {found['arrays']:9.0f}"


SUFFIXES = {
    **{"npy": "", "hdf5": ".hdf5", "extxyz": ".extxyz", "traj": ".traj", "db": ".db"},
    **{"md": ".h5", "lammps-dump": ".dump", "abacus": ""},
}


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5000, help="frames (5000)")
    parser.add_argument("--data", help="read this instead")
    parser.add_argument("--format", help="its format")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        say(json.dumps(read(given.read, given.format)))
        return
    say(f"{'format':<14}{'M atoms/min':>11}{'peak MB':>10}{'arrays MB':>10}")
    if given.data:
        row = measured(Path(given.data), given.format)
        say(f"{given.format or 'data':<14} {row}")
        return
    made = frames(given.frames)
    with tempfile.TemporaryDirectory() as folder:
        for form, suffix in SUFFIXES.items():
            path = Path(folder) / f"{form}{suffix}"
            write(form, path, made)
            known = form if form in FORMATS else None
            say(f"{form:<14} {measured(path, known)}")


if __name__ == "__main__":
    main()
