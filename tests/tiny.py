# SPDX-License-Identifier: Apache-2.0
"""A tiny input on the example's data, and what tests of training ask of a run."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "NiO" / "data"
SYSTEM = str(DATA / "train" / "virtual-atom-16")

INPUT = {
    "_comment": "a tiny net",
    "model": {
        "type_map": ["Ni", "O"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [60, 60],
            "rcut_smth": 3.0,
            "rcut": 4.5,
            "neuron": [3, 6],
            "axis_neuron": 2,
            "type_one_side": True,
            "seed": 1,
        },
        "fitting_net": {"neuron": [5, 5], "seed": 1},
        "spin": {"use_spin": ["Ni"], "virtual_len": [0.4], "spin_norm": [1.2737]},
        "data_stat_nbatch": 2,
    },
    "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 2},
    "loss": {"type": "ener_spin", "start_pref_v": 1.0, "limit_pref_v": 1.0},
    "training": {
        "training_data": {"systems": [SYSTEM], "batch_size": 1},
        "validation_data": {
            "systems": [str(DATA / "valid" / "virtual-atom-16")],
            "numb_btch": 2,
        },
        "numb_steps": 6,
        "seed": 3,
        "disp_freq": 2,
        "save_freq": 3,
        "jit_compile": False,
    },
}


def write(content: dict, name: str = "input.json") -> str:
    """Write an input into the current folder."""
    Path(name).write_text(json.dumps(content))
    return name


def weights(path) -> list:
    """All variables of a model file, the optimizer's left out."""
    import deepspin

    return [w.numpy() for w in deepspin.load_model(path).variables]


def optimizer_state(path) -> list:
    """Variables of the optimizer in a model file."""
    import deepspin

    return [v.numpy() for v in deepspin.load_model(path).optimizer.variables]


def tree(folder=".") -> dict[str, bytes]:
    """Content of all files in and below a folder."""
    files = (p for p in sorted(Path(folder).rglob("*")) if p.is_file())
    return {str(p): p.read_bytes() for p in files}
