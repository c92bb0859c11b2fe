#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Change energy biases of the models in ``dpmodel`` by data, with DeePMD-kit.

Run it with a Python that has deepmd-kit 3.2.0::

    python make_change_bias.py change_bias.json

Data are the stored frames of each model, whole and cut off after some atoms, so that
compositions differ, with random energies. The code is that of DeePMD-kit's backends
other than TensorFlow; with models with spins, `dp --tf change-bias` fails.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["DP_INTERFACE_PREC"] = "high"

import numpy as np
from deepmd import __version__
from deepmd.dpmodel.model.base_model import BaseModel
from deepmd.dpmodel.utils.serialization import load_dp_model

MODELS = Path(__file__).parent / "dpmodel"
CASES = {  # models, and numbers of atoms of the systems
    "one_side": ("one_side", [12, 9, 5]),
    "two_alike": ("protected", [12, 10, 7]),
}


def change(stem, sizes):
    """Return labels, energies after the change, and the bias set by statistics."""
    tree = load_dp_model(str(MODELS / f"{stem}.dp"))["model"]
    with np.load(MODELS / f"{stem}.npz") as file:
        frames = {key: file[key] for key in ("coord", "box", "atype", "spin")}
    model, rng = BaseModel.deserialize(tree), np.random.default_rng(len(stem))
    ntypes = len(set(frames["atype"].tolist()))
    samples = []
    for size in sizes:
        atype = frames["atype"][:size]
        counts = [size, size, *np.bincount(atype, minlength=ntypes)]
        samples.append(
            {
                "coord": frames["coord"][:, :size],
                "box": frames["box"].reshape(2, 9),
                "atype": np.tile(atype, (2, 1)),
                "spin": frames["spin"][:, :size],
                "natoms": np.array([counts, counts]),
                "energy": -30.0 * size + rng.normal(size=(2, 1)),
                "find_energy": 1.0,
            }
        )
    model.change_out_bias(samples, "change-by-statistic")
    energies = [
        model.call(
            sample["coord"].reshape(2, -1),
            sample["atype"],
            sample["spin"].reshape(2, -1),
            box=sample["box"],
        )["energy"].ravel()
        for sample in samples
    ]
    model.change_out_bias(samples, "set-by-statistic")
    found = np.asarray(model.get_out_bias()).ravel()
    return {
        "model": f"{stem}.dp",
        "natoms": sizes,
        "label": [sample["energy"].ravel().tolist() for sample in samples],
        "changed": [energy.tolist() for energy in energies],
        "set": found.reshape(2, ntypes).sum(axis=0).tolist(),  # virtual ones added
    }


def main():
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    content = {"versions": {"deepmd-kit": __version__, "numpy": np.__version__}}
    content |= {name: change(*case) for name, case in CASES.items()}
    text = json.dumps(content, indent=1)
    parser.parse_args().output.write_text(text + "\n")


if __name__ == "__main__":
    main()
