# SPDX-License-Identifier: Apache-2.0
"""Have DeePMD-kit's TensorFlow backend write a file of statistics, `stat_file.hdf5`.

    python make_stat_file.py --dp /path/to/dp --out FOLDER

Of the frames of `tests/small_data.py` with virtual atoms and two frame parameters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import small_data

FRAMES = 3


def write_system(folder: Path) -> None:
    """The system whose statistics they are."""
    arrays, types = small_data.with_virtual_atoms(*small_data.frames(FRAMES, seed=4))
    arrays["fparam"] = np.array([[0.5, 10.0], [1.5, 10.001], [0.25, 9.0]])
    small_data.write(folder, arrays, types, names=None)


def given(system: Path, stat_file: str) -> dict:
    """The input: all frames are one batch, so that no order of theirs matters."""
    return {
        "model": {
            "type_map": ["Ni", "O"],
            "data_stat_nbatch": 1,
            "descriptor": {
                "type": "se_e2_a",
                "sel": [40, 44],
                "rcut_smth": 3.0,
                "rcut": 4.5,
                "neuron": [3, 6],
                "axis_neuron": 2,
                "type_one_side": True,
                "seed": 1,
            },
            "fitting_net": {"neuron": [5, 5], "seed": 1, "numb_fparam": 2},
            "spin": {
                "use_spin": [True, False],
                "virtual_len": [0.4],
                "spin_norm": [1.2737],
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-4},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": [str(system)], "batch_size": FRAMES},
            "numb_steps": 1,
            "seed": 1,
            "disp_freq": 1,
            "save_freq": 1,
            "stat_file": stat_file,
        },
    }


def main() -> None:
    """Write the system and the input, and train for a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dp", required=True, help="DeePMD-kit's program")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    args = parser.parse_args()
    write_system(args.out / "system")
    content = given((args.out / "system").resolve(), "stat_file.hdf5")
    (args.out / "input.json").write_text(json.dumps(content))
    command = [args.dp, "--tf", "train", "input.json"]
    subprocess.run(command, cwd=args.out, check=True)


if __name__ == "__main__":
    main()
