#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make reference numbers of full-size nets on DFT data of NiO with DeePMD-kit.

The data is the public spin example of DeePMD-kit (deepmodeling/deepmd-kit,
``examples/spin``, LGPL-3.0): ``input_tf.json`` of ``se_e2_a`` and the systems in the
virtual-atom layout. It is not part of this repository and neither are the results,
some 10 MB. Run it with a Python that has deepmd-kit 3.2.0 and tensorflow::

    python make_dft_reference.py --data DIR --out DIR [--only full ...]

``--data`` holds ``input_tf.json`` and ``virtual-atom/data_0`` and ``data_1``. The
arrays are those of README.md beside this script.
"""

import argparse
import copy
import json
import logging
from pathlib import Path

import make_reference as reference
import numpy as np

log = logging.getLogger("make_reference")

# Changes of the descriptor and the number of training steps.
MODELS = {
    "full": ({}, 300),
    "full_two_side": ({"type_one_side": False}, 100),
    "full_davg_zero": ({"set_davg_zero": True}, 100),
    "full_truncated": ({"sel": [30, 30]}, 100),
}


def read_input(data):
    """Read ``input_tf.json`` without its comments."""
    drop = {"object_pairs_hook": lambda pairs: {k: v for k, v in pairs if k[0] != "_"}}
    return json.loads((data / "input_tf.json").read_text(), **drop)


def read_system(folder, spin):
    """Read a system in the virtual-atom layout into real-atom form.

    Returns
    -------
    dict[str, np.ndarray]
        ``atype``, ``coord``, ``box``, ``spin``, ``energy``, ``force``, ``force_mag``.
    """
    load = {path.stem: np.load(path) for path in (folder / "set.000").glob("*.npy")}
    extended = np.loadtxt(folder / "type.raw", dtype=int)
    nframes, ntypes = len(load["coord"]), len(spin["use_spin"])
    nloc = int((extended < ntypes).sum())
    coord = load["coord"].reshape(nframes, -1, 3)
    force = load["force"].reshape(nframes, -1, 3)
    atype = extended[:nloc]
    owner = np.flatnonzero(np.array(spin["use_spin"])[atype])
    if (extended[nloc:] != atype[owner] + ntypes).any():
        raise ValueError(f"The virtual atoms of {folder} are not in order")
    kind = extended[nloc:] - ntypes
    scale = np.array(spin["spin_norm"])[kind] / np.array(spin["virtual_len"])[kind]
    full, magnetic = np.zeros((2, nframes, nloc, 3))
    full[:, owner] = (coord[:, nloc:] - coord[:, owner]) * scale[:, None]
    magnetic[:, owner] = force[:, nloc:]
    return {
        "atype": atype,
        "coord": coord[:, :nloc],
        "box": load["box"].reshape(nframes, 3, 3),
        "spin": full,
        "energy": load["energy"].reshape(nframes),
        "force": force[:, :nloc],
        "force_mag": magnetic,
    }


def join(systems):
    """Join the frames of systems with the same atoms."""
    return {
        key: array
        if key == "atype"
        else np.concatenate([system[key] for system in systems])
        for key, array in systems[0].items()
    }


def supercell(frames):
    """Double the first frame along its first lattice vector."""
    coord, box, spin = (frames[key][:1] for key in ("coord", "box", "spin"))
    order = np.argsort(np.tile(frames["atype"], 2), kind="stable")
    double = np.concatenate([coord, coord + box[:, :1]], axis=1)
    return {
        "atype": np.tile(frames["atype"], 2)[order],
        "coord": double[:, order],
        "box": box * np.array([2.0, 1.0, 1.0])[:, None],
        "spin": np.tile(spin, (1, 2, 1))[:, order],
    }


def small_cell(_frames):
    """Make cells of four atoms, much smaller than the cutoff."""
    return reference.small_cell()


def open_cluster(frames):
    """Take the atoms of two frames without their cell."""
    return {
        key: frames[key] if key == "atype" else frames[key][:2]
        for key in ("atype", "coord", "spin")
    }


# Further frames for the weights of `full`.
EVALUATE = {
    "full_supercell": supercell,
    "full_small": small_cell,
    "full_open": open_cluster,
}


def make_model(name, data, out):
    """Train and freeze one model and evaluate it on the frames of both systems."""
    changes, numb_steps = MODELS[name]
    inputs = read_input(data)
    inputs["model"]["descriptor"] |= changes
    inputs["training"] |= {
        "numb_steps": numb_steps,
        "disp_freq": 100,
        "save_freq": numb_steps,
    }
    spin = inputs["model"]["spin"]
    paths = [data / "virtual-atom" / system for system in ("data_0", "data_1")]
    run = copy.deepcopy(inputs)
    run["training"]["training_data"]["systems"] = [str(paths[0])]
    run["training"]["validation_data"]["systems"] = [str(paths[1])]
    pb = out / f"{name}.pb"
    with reference.fresh_folder():
        reference.train(run, pb)
    systems = [read_system(path, spin) for path in paths]
    arrays = reference.evaluate(pb, join(systems), spin)
    # Ten batches of one of ten frames: the statistics saw each frame once.
    arrays |= reference.training_arrays(systems[:1])
    arrays |= reference.read_statistics(pb) | {"model": name}
    reference.save(out / f"{name}.npz", inputs, arrays)


def make_evaluation(name, data, out):
    """Evaluate the weights of `full` on further frames."""
    if not (out / "full.pb").exists():
        make_model("full", data, out)
    inputs = read_input(data)
    spin = inputs["model"]["spin"]
    frames = read_system(data / "virtual-atom" / "data_0", spin)
    arrays = reference.evaluate(out / "full.pb", EVALUATE[name](frames), spin)
    reference.save(out / f"{name}.npz", inputs, arrays | {"model": "full"})


CASES = dict.fromkeys(MODELS, make_model) | dict.fromkeys(EVALUATE, make_evaluation)


def main():
    """Read the command line and make the cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        CASES[name](name, args.data.resolve(), out)


if __name__ == "__main__":
    main()
