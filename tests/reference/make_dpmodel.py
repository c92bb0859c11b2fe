#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make models in DeePMD-kit's own form, and their energies, with DeePMD-kit.

Run it with a Python that has deepmd-kit 3.2.0::

    python make_dpmodel.py --out dpmodel [--only one_side ...] [--seed 0]
    python make_dpmodel.py --evaluate jobs.json

DeePMD-kit's factory builds each model, as for its backends other than TensorFlow;
statistics, energies of the types and scales of frame parameters are random here. There
are no forces: what runs these files is plain numpy. A job is a list of a model, an npz
file of frames and an npz file to write.
"""

import argparse
import copy
import json
import os
from pathlib import Path

os.environ["DP_INTERFACE_PREC"] = "high"

import numpy as np
from deepmd import __version__
from deepmd.dpmodel.model.model import get_model
from deepmd.dpmodel.utils.serialization import save_dp_model
from deepmd.infer import DeepPot

NI_O = {"type_map": ["Ni", "O"], "spin": ([True, False], [0.314, 0.0])}
O_NI = {"type_map": ["O", "Ni"], "spin": ([False, True], [0.0, 0.314])}
THREE = {
    "type_map": ["O", "Ni", "Fe"],
    "spin": ([False, True, True], [0.0, 0.314, 0.2]),
}

# Sections of the input, and whether the environment matrix has a mean; the suffix of
# the file is .dp but for the last one.
MODELS = {
    # env_protection as the factory sets it, 1e-6
    "one_side": (NI_O, {}, {}, {}, True),
    # as the PyTorch backend sets it, and cutoffs that float32 cannot hold
    "protected": (THREE, {"env_protection": 0.01, "rcut": 4.3}, {}, {}, True),
    "two_side": (
        O_NI,
        {"type_one_side": False, "neuron": [2, 4, 8], "resnet_dt": True},
        {},
        {},
        True,
    ),
    "all_spins": (
        {**THREE, "spin": ([True] * 3, [0.1, 0.314, 0.2])},
        {"sel": [14, 16, 18]},
        {},
        {},
        True,
    ),
    "excluded": (O_NI, {}, {}, {"pair_exclude_types": [[0, 0], [0, 1], [0, 3]]}, False),
    "atom_ener": (NI_O, {}, {"atom_ener": [1.0, None]}, {}, True),
    "float32": (NI_O, {"precision": "float32"}, {"precision": "float32"}, {}, True),
    "silut": (
        NI_O,
        {"activation_function": "silut:2.0"},
        {"activation_function": "gelu_tf"},
        {},
        True,
    ),
    "fparam": (
        NI_O,
        {"type_one_side": False, "neuron": [2, 4], "axis_neuron": 2},
        {"numb_fparam": 2, "neuron": [5, 5]},
        {},
        True,
    ),
}
YAML = ("fparam",)


def make_input(types, descriptor, fitting, model):
    """Return the section ``model`` of an input."""
    use_spin, scale = types["spin"]
    return {
        "type_map": types["type_map"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [22] * len(use_spin),
            "rcut": 4.5,
            "rcut_smth": 4.0,
            "neuron": [3, 6],
            "axis_neuron": 3,
            "type_one_side": True,
            "precision": "float64",
            "seed": 1,
            **descriptor,
        },
        "fitting_net": {
            "neuron": [6, 6],
            "resnet_dt": True,
            "precision": "float64",
            "seed": 2,
            **fitting,
        },
        "spin": {"use_spin": use_spin, "virtual_scale": scale},
        **model,
    }


def randomize(tree, mean, rng):
    """Give a serialized model statistics and energies that are not trivial."""
    backbone = tree["backbone_model"]
    statistics = backbone["descriptor"]["@variables"]
    davg, dstd = statistics["davg"], statistics["dstd"]
    ntypes = len(davg)
    if mean:
        davg[..., 0] = rng.uniform(0.05, 0.2, (ntypes, 1))
    dstd[..., 0] = rng.uniform(0.1, 0.3, (ntypes, 1))
    dstd[..., 1:] = rng.uniform(0.1, 0.3, (ntypes, 1, 1))
    fitting = backbone["fitting"]["@variables"]
    fitting["bias_atom_e"] = rng.normal(size=(ntypes, 1))
    out_bias = backbone["@variables"]["out_bias"]
    backbone["@variables"]["out_bias"] = rng.normal(size=out_bias.shape)
    if fitting["fparam_avg"] is not None:
        fitting["fparam_avg"] = rng.normal(size=fitting["fparam_avg"].shape)
        fitting["fparam_inv_std"] = rng.uniform(0.5, 2.0, fitting["fparam_avg"].shape)


def make_frames(ntypes, numb_fparam, rng):
    """Make two frames of a perturbed, sheared lattice, atoms in mixed order."""
    sites = np.stack(np.meshgrid(*map(np.arange, (3, 2, 2)), indexing="ij"), -1)
    coord = sites.reshape(-1, 3) * np.array([2.3, 3.4, 3.4])
    shape = 2, len(coord), 3
    frames = {
        "coord": coord + 0.15 * rng.normal(size=shape),
        "box": 7.0 * np.eye(3) + 0.3 * rng.normal(size=(2, 3, 3)),
        "atype": np.arange(len(coord)) % ntypes,
        "spin": rng.normal(size=shape),
    }
    if numb_fparam:
        frames["fparam"] = rng.normal(size=(2, numb_fparam))
    return frames


def evaluate(model, frames):
    """Return energies; spins of types without are ignored."""
    nf = len(frames["coord"])
    more = {"fparam": frames["fparam"]} if "fparam" in frames else {}
    energy, _, _, atom_ener, *_ = DeepPot(str(model)).eval(
        frames["coord"].reshape(nf, -1),
        frames["box"].reshape(nf, 9) if "box" in frames else None,
        frames["atype"],
        spin=frames["spin"].reshape(nf, -1),
        atomic=True,
        **more,
    )
    return {"energy": energy.reshape(nf), "atom_ener": atom_ener.reshape(nf, -1)}


def make(name, out, seed):
    """Write a model, frames and energies."""
    types, descriptor, fitting, model, mean = MODELS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    inputs = make_input(types, descriptor, fitting, model)
    if seed:
        inputs["descriptor"]["seed"], inputs["fitting_net"]["seed"] = seed, seed + 1
    tree = get_model(copy.deepcopy(inputs)).serialize()
    randomize(tree, mean, rng)
    path = out / f"{name}.{'yaml' if name in YAML else 'dp'}"
    save_dp_model(str(path), {"model": tree, "model_def_script": inputs})
    frames = make_frames(
        len(types["type_map"]), inputs["fitting_net"].get("numb_fparam", 0), rng
    )
    np.savez_compressed(
        out / f"{name}.npz",
        **frames,
        **evaluate(path, frames),
        model=path.name,
        versions=json.dumps({"deepmd-kit": __version__, "numpy": np.__version__}),
    )


def main():
    """Read the command line and do what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0, help="0 for the stored ones")
    parser.add_argument("--evaluate", type=Path, help="jobs instead")
    args = parser.parse_args()
    if args.evaluate:
        for model, given, output in json.loads(args.evaluate.read_text()):
            with np.load(given) as frames:
                np.savez(output, **evaluate(model, dict(frames)))
        return
    for name in args.only:
        make(name, args.out, args.seed)


if __name__ == "__main__":
    main()
