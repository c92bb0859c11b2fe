# SPDX-License-Identifier: Apache-2.0
"""Inputs as the examples of DeePMD-kit write them, and changes of them."""

from __future__ import annotations

from deepspin.utils import argcheck

MISSING = object()


def virtual_atom_input():
    """All keys of DeePMD-kit's TensorFlow input of a spin model."""
    return {
        "_comment1": "model",
        "model": {
            "type_map": ["Fe", "O"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [20, 30],
                "rcut_smth": 3.5,
                "rcut": 4.5,
                "neuron": [8, 16, 32],
                "resnet_dt": False,
                "axis_neuron": 4,
                "type_one_side": True,
                "precision": "float64",
                "seed": 3,
                "_comment2": "descriptor",
            },
            "fitting_net": {
                "neuron": [32, 32],
                "resnet_dt": True,
                "precision": "float64",
                "seed": 3,
                "_comment3": "fitting net",
            },
            "spin": {
                "use_spin": [True, False],
                "virtual_len": [0.3],
                "spin_norm": [2.2],
                "_comment4": "spin",
            },
            "_comment5": "model",
        },
        "learning_rate": {
            "type": "exp",
            "decay_steps": 100,
            "start_lr": 1e-3,
            "stop_lr": 1e-6,
            "_comment6": "learning rate",
        },
        "loss": {
            "type": "ener_spin",
            "start_pref_e": 0.02,
            "limit_pref_e": 1,
            "start_pref_fr": 1000,
            "limit_pref_fr": 1.0,
            "start_pref_fm": 10000,
            "limit_pref_fm": 10.0,
            "start_pref_v": 0,
            "limit_pref_v": 0,
            "_comment7": "loss",
        },
        "training": {
            "training_data": {
                "systems": ["data/a"],
                "batch_size": 1,
                "_comment8": "data",
            },
            "validation_data": {
                "systems": ["data/b"],
                "batch_size": 1,
                "numb_btch": 10,
                "_comment9": "data",
            },
            "numb_steps": 1000,
            "seed": 3,
            "disp_file": "lcurve.out",
            "disp_freq": 100,
            "save_freq": 200,
            "_comment10": "training",
        },
        "_comment11": "the end",
    }


def spin_files_input():
    """All keys of DeePMD-kit's PyTorch input of a spin model."""
    data = virtual_atom_input()
    for key in ("type_one_side", "precision"):
        del data["model"]["descriptor"][key]
    del data["model"]["fitting_net"]["precision"]
    data["model"]["data_stat_nbatch"] = 10
    data["model"]["spin"] = {
        "use_spin": [True, False],
        "virtual_scale": [0.14],
        "_comment": "spin",
    }
    for key in ("start_pref_v", "limit_pref_v"):
        del data["loss"][key]
    return data


def minimal_input():
    """Only what has no default."""
    return {
        "model": {
            "type_map": ["Fe", "O"],
            "descriptor": {"type": "se_e2_a"},
            "fitting_net": {},
            "spin": {"use_spin": [True, False], "virtual_scale": 0.14},
        },
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": "data"}, "numb_steps": 1000},
    }


def put(data, path, value):
    """Set or remove the value at `path`."""
    *parents, key = path.split("/")
    for name in parents:
        data = data.setdefault(name, {})
    if value is MISSING:
        del data[key]
    else:
        data[key] = value


def get(data, path):
    """Return the value at `path`."""
    for name in path.split("/"):
        data = data[name]
    return data


def changed(changes, data=None):
    """Return an input with the values at some paths replaced."""
    data = virtual_atom_input() if data is None else data
    for path, value in changes.items():
        put(data, path, value)
    return data


def walk(arguments, path=()):
    """All arguments of the trees, each with the path it has in an input."""
    for argument in arguments:
        here = (*path, argument.name)
        yield "/".join(here), argument
        subs = list(argument.sub_fields.values())
        for variant in argument.sub_variants.values():
            for choice in variant.choice_dict.values():
                subs += choice.sub_fields.values()
        yield from walk(subs, here)


TREE = dict(walk(argcheck.train_args()))
