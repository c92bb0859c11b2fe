# SPDX-License-Identifier: Apache-2.0
"""The programs of peers.py: how each trains, and the frames as it reads them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import accuracy
import compare
import numpy as np
import problem
import sides
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write
from sides import Failed, Side

TYPE_MAP, MAGNETIC = ["Ni", "O"], ["Ni"]
NUMBERS = np.array([atomic_numbers[name] for name in TYPE_MAP])
REPORTS = 3  # of progress, in a training
EPOCH = re.compile(r"Initial:|Epoch \d+:")


@dataclasses.dataclass(frozen=True)
class DeepPotential:
    """deepspin, or DeePMD-kit with one of its backends.

    Parameters
    ----------
    side : Side
        Its commands.
    kind : str
        What evaluator.py calls it.
    given : dict
        Its input.
    frozen : str
        Name of a frozen model; empty if a checkpoint can be evaluated.
    """

    side: Side
    kind: str
    given: dict
    frozen: str = ""

    def train(self, folder: Path, steps: int) -> sides.Finished:
        """Train in a folder."""
        folder.mkdir(parents=True)
        content = accuracy.seeded(self.given, 1, steps)
        content["training"]["disp_freq"] = max(1, steps // REPORTS)
        (folder / "input.json").write_text(json.dumps(content, indent=2))
        return self.side.run(folder, "train", "input.json", "--skip-neighbor-stat")

    def step_time(self, done: sides.Finished) -> float:
        """Seconds of a step of a training."""
        return 1e-3 * compare.step_time(done)

    def steps(self, about: float) -> int:
        """Number of steps next to one that can be trained, and timed."""
        return max(REPORTS + 1, round(about))

    def model(self, folder: Path) -> Path:
        """Model of a training."""
        if not self.frozen:
            return folder / "model.ckpt"
        self.side.run(folder, "freeze", "-o", self.frozen)
        return folder / self.frozen


@dataclasses.dataclass(frozen=True)
class Mace:
    """MACE, which trains in epochs and knows no spins.

    Parameters
    ----------
    side : Side
        Its commands.
    data : Path
        Folder of `train.xyz` and `valid.xyz`.
    frames : int
        Number of frames in an epoch.
    """

    side: Side
    data: Path
    frames: int
    kind: str = "mace"

    def train(self, folder: Path, steps: int) -> sides.Finished:
        """Train in a folder, whole epochs, a frame a step."""
        folder.mkdir(parents=True)
        options = {
            "name": "model",
            "train_file": self.data / "train.xyz",
            "valid_file": self.data / "valid.xyz",
            "energy_key": "label_energy",
            "forces_key": "label_forces",
            "E0s": "average",
            "hidden_irreps": "32x0e + 32x1o",
            "r_max": problem.RCUT,
            "batch_size": 1,
            "max_num_epochs": steps // self.frames,
            "default_dtype": "float64",
            "device": "cpu",
            "seed": 1,
        }
        return self.side.run(folder, *(f"--{k}={v}" for k, v in options.items()))

    def step_time(self, done: sides.Finished) -> float:
        """Seconds of a step of a training."""
        found = [at for at, line in done.lines if EPOCH.search(line)]
        if len(found) < 2:
            raise Failed("MACE reports no epochs")
        return (found[-1] - found[0]) / (len(found) - 1) / self.frames

    def steps(self, about: float) -> int:
        """Number of steps next to one that can be trained: of whole epochs."""
        return self.frames * max(1, round(about / self.frames))

    def model(self, folder: Path) -> Path:
        """Model of a training."""
        return folder / "model.model"


Program = DeepPotential | Mace


# -- data --------------------------------------------------------------------------


def frames_of(system: Path) -> dict[str, np.ndarray]:
    """All frames of a system with spin files, with their labels, for evaluator.py."""
    names = ("coord", "spin", "box", "energy", "force", "force_mag")
    arrays = {key: np.load(system / "set.000" / f"{key}.npy") for key in names}
    atype = np.loadtxt(system / "type.raw", dtype=int)
    shapes = {"box": (3, 3), "energy": ()}
    found = {
        key: values.reshape(-1, *shapes.get(key, (len(atype), 3)))
        for key, values in arrays.items()
    }
    return {
        **found,
        "atype": atype,
        "owner": np.flatnonzero(np.array(problem.USE_SPIN)[atype]),
        "scale": np.array(problem.VIRTUAL_LEN / problem.SPIN_NORM),
        "numbers": NUMBERS,
    }


def write_xyz(path: Path, systems: Sequence[Path], most: int | None = None) -> int:
    """Write frames as MACE reads them; their number."""
    images = []
    for system in systems:
        frames = frames_of(system)
        for k in range(len(frames["coord"])):
            cell, names = frames["box"][k], NUMBERS[frames["atype"]]
            atoms = Atoms(names, frames["coord"][k], cell=cell, pbc=True)
            atoms.info["label_energy"] = frames["energy"][k]
            atoms.arrays["label_forces"] = frames["force"][k]
            images.append(atoms)
    write(path, images[:most], format="extxyz")
    return len(images[:most])


# -- programs ----------------------------------------------------------------------


def programs(args: argparse.Namespace, out: Path) -> dict[str, Program | str]:
    """All programs by name; why not, where no environment is given.

    Their data are written to a folder: what is held out to ``valid``, the rest to
    ``train``, and that with virtual atoms to ``train-virtual-atom``.
    """
    settings = argparse.Namespace(
        data=args.data,
        hold_out=args.hold_out,
        frames=None,
        out=str(out),
        type_map=TYPE_MAP,
        use_spin=MAGNETIC,
        spin_norm=problem.SPIN_NORM,
        rcut=problem.RCUT,
        sel=[60, 60],
        batch=1,
        fit_factor=False,
        peer=args.tf,
    )
    accuracy.split(settings)
    accuracy.with_virtual_atoms(settings)
    inputs = accuracy.inputs(settings)
    ours = sides.our_side(args.threads)
    found: dict[str, Program | str] = {
        f"deepspin, {name}": DeepPotential(ours, "deepspin", inputs[name])
        for name in ("ener_spin", "invariant")
    }
    scale = problem.VIRTUAL_LEN / problem.SPIN_NORM
    spins = json.loads(json.dumps(inputs["ener_spin"]))
    spins["model"]["spin"] = {"use_spin": problem.USE_SPIN, "virtual_scale": [scale]}
    systems = sorted(str(p.parent) for p in Path(settings.train).rglob("type.raw"))
    spins["training"]["training_data"]["systems"] = systems
    backends = {
        "TensorFlow": ("tf", "deepmd", inputs.get("DeePMD-kit"), "frozen.pb"),
        "PyTorch": ("torch", "deepmd-spin", spins, "frozen.pth"),
        "JAX": ("jax", "deepmd-spin", spins, "frozen.hlo"),
    }
    for backend, (option, kind, given, frozen) in backends.items():
        name, folder = f"DeePMD-kit, {backend}", getattr(args, option)
        if folder is None:
            found[name] = f"no --{option}"
            continue
        side = sides.peer_side(folder, args.threads)
        flag = {"tf": "--tf", "torch": "--pt", "jax": "--jax"}[option]
        side = dataclasses.replace(side, name=name, command=[side.command[0], flag])
        found[name] = DeepPotential(side, kind, given, frozen)
    name = "MACE, without spins"
    if args.mace is None:
        return {**found, name: "no --mace"}
    folder, env = args.mace.resolve(), sides.environment(args.threads)
    python, command = str(folder / "python"), [str(folder / "mace_run_train")]
    about = sides.version(python, "mace-torch", env)
    side = Side(name, command, python, env, True, about)
    trained = [Path(name) for name in systems]
    write_xyz(out / "valid.xyz", trained, 1)  # its errors are looked at by nobody
    return {**found, name: Mace(side, out, write_xyz(out / "train.xyz", trained))}
