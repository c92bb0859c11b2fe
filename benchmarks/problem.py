# SPDX-License-Identifier: Apache-2.0
"""What is compared: DeePMD-kit's spin example, its frames and supercells of them."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np

RCUT = 5.6
EMBEDDING = [25, 50, 100]
AXIS = 16
FITTING = [240, 240, 240]
USE_SPIN = [True, False]  # of Ni and O
VIRTUAL_LEN, SPIN_NORM = 0.4, 1.2737


def make_input(
    train: Path, valid: Path, *, precision: str, batch: int, steps: int, disp: int
) -> dict:
    """Input of DeePMD-kit's spin example, for both programs."""
    return {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [60, 60],
                "rcut_smth": 5.4,
                "rcut": RCUT,
                "neuron": EMBEDDING,
                "axis_neuron": AXIS,
                "type_one_side": True,
                "precision": precision,
                "seed": 1,
            },
            "fitting_net": {
                "neuron": FITTING,
                "resnet_dt": True,
                "precision": precision,
                "seed": 1,
            },
            "spin": {
                "use_spin": USE_SPIN,
                "virtual_len": [VIRTUAL_LEN],
                "spin_norm": [SPIN_NORM],
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 5.92e-6},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": [str(train)], "batch_size": batch},
            "validation_data": {
                "systems": [str(valid)],
                "batch_size": 1,
                "numb_btch": 1,
            },
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": disp,
            "save_freq": 10 * steps,
        },
    }


def copy_one_frame(source: Path, target: Path) -> Path:
    """Copy the first frame of a system, so that two programs validate on the same."""
    first = min(source.glob("set.*"))
    (target / first.name).mkdir(parents=True)
    shutil.copy(source / "type.raw", target)
    for path in first.glob("*.npy"):
        np.save(target / first.name / path.name, np.load(path)[:1])
    return target


def supercell(system: Path, cells: int) -> dict[str, np.ndarray]:
    """First frame of a virtual-atom system, repeated in each direction.

    Returns
    -------
    dict of np.ndarray
        ``coord`` and ``spin`` (nloc, 3), ``box`` (3, 3), ``atype`` (nloc,), sorted by
        type; ``owner``, which atoms have a virtual atom; ``scale``, its distance for
        each unit of spin.
    """
    folder = min(system.glob("set.*"))
    points = np.load(folder / "coord.npy")[0].reshape(-1, 3)
    box = np.load(folder / "box.npy")[0].reshape(3, 3)
    types = np.loadtxt(system / "type.raw", dtype=int)
    real = np.flatnonzero(types < len(USE_SPIN))
    coord, atype = points[real], types[real]
    owner = np.flatnonzero(np.array(USE_SPIN)[atype])
    spin = np.zeros_like(coord)
    scale = VIRTUAL_LEN / SPIN_NORM
    spin[owner] = (points[types >= len(USE_SPIN)] - coord[owner]) / scale
    images = np.array(list(itertools.product(range(cells), repeat=3)))
    many = (coord + (images @ box)[:, None]).reshape(-1, 3)
    order = np.argsort(np.tile(atype, len(images)), kind="stable")
    atype = np.tile(atype, len(images))[order]
    return {
        "coord": many[order],
        "spin": np.tile(spin, (len(images), 1))[order],
        "box": cells * box,
        "atype": atype,
        "owner": np.flatnonzero(np.array(USE_SPIN)[atype]),
        "scale": np.array(scale),
    }


def count_pairs(frame: dict[str, np.ndarray]) -> int:
    """Pairs of an atom and what it sees: atoms within the cutoff, and virtual atoms.

    A virtual atom is seen with its owner; one's own is seen too. All pairs of points
    are looked at: for small cells.
    """
    coord, box = frame["coord"], frame["box"]
    heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    reach = [range(-n, n + 1) for n in np.ceil(RCUT / heights).astype(int) + 1]
    weight = 1 + np.array(USE_SPIN)[frame["atype"]]
    fractions = coord @ np.linalg.inv(box)
    coord = (fractions - np.floor(fractions)) @ box
    total = -len(coord)  # an atom does not see itself
    for image in itertools.product(*reach):
        there = coord + np.array(image) @ box
        near = np.linalg.norm(there[None] - coord[:, None], axis=2) < RCUT
        total += int((near * weight).sum())
    return total
