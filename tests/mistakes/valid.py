# SPDX-License-Identifier: Apache-2.0
"""A valid training in the current folder, for mistakes to be made in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

INPUT = {
    "model": {
        "type_map": ["Ni", "O"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [20, 20],
            "rcut": 3.0,
            "rcut_smth": 2.0,
            "neuron": [2, 4],
            "axis_neuron": 2,
            "seed": 1,
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1},
        "spin": {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2]},
    },
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8},
    "loss": {"type": "ener_spin"},
    "training": {
        "training_data": {"systems": ["data"], "batch_size": 1},
        "numb_steps": 3,
        "seed": 1,
        "jit_compile": False,
    },
}
BOX = 4.2 * np.eye(3)
COORD = 2.1 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]])
SPIN = 1.2 * np.array([[0, 0, 1], [0, 0, -1], [0, 0, 0], [0, 0, 0]])
TYPES = [0, 0, 1, 1]
RUN = {  # what an earlier training left
    "lcurve.out": "#  step      rmse_val\n      5      1.00e-02\n",
    "out.json": "{}\n",
    "model.ckpt-5.keras": "a model",
    "checkpoint": 'model_checkpoint_path: "model.ckpt-5.keras"\n',
}


def make_valid() -> None:
    """Write a valid input, its data, and what an earlier training left."""
    write_json("input.json", INPUT)
    frames = {
        "coord": np.stack([COORD, COORD + 0.05 * SPIN]),
        "box": np.stack([BOX, BOX]),
        "spin": np.stack([SPIN, SPIN]),
        "energy": np.array([-1.0, -1.1]),
        "force": np.zeros((2, 4, 3)),
        "force_mag": np.zeros((2, 4, 3)),
    }
    write_system("data", TYPES, frames)
    for name, text in RUN.items():
        Path(name).write_text(text, encoding="utf-8")


def write_json(name: str, content: object) -> None:
    """Write JSON."""
    Path(name).write_text(json.dumps(content), encoding="utf-8")


def write_system(path: str, types: Sequence[int], arrays: dict) -> None:
    """Write a system of one set."""
    folder = Path(path) / "set.000"
    folder.mkdir(parents=True)
    (folder.parent / "type.raw").write_text(" ".join(map(str, types)))
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value.reshape(len(value), -1))
