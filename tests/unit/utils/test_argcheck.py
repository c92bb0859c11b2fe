# SPDX-License-Identifier: Apache-2.0
"""The trees of arguments: defaults, documentation, anchors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from dargs import Argument
from inputs import (
    TREE,
    changed,
    get,
    minimal_input,
)

from deepspin.entrypoints.doc import doc_train_input
from deepspin.spins.types import SMALL_MOMENT
from deepspin.utils import argcheck, argcheck_training, arguments
from deepspin.utils.argcheck import gen_doc
from deepspin.utils.inputs import normalize

DEFAULTS = {
    "model": {"data_stat_nbatch": 10, "data_stat_protect": 0.01, "type": "standard"},
    "model/descriptor": {
        "type": "se_e2_a",
        "sel": "auto",
        "rcut": 6.0,
        "rcut_smth": 0.5,
        "neuron": [10, 20, 40],
        "axis_neuron": 4,
        "activation_function": "tanh",
        "resnet_dt": False,
        "type_one_side": False,
        "precision": "default",
        "trainable": True,
        "seed": None,
        "exclude_types": [],
        "env_protection": 0.0,
        "set_davg_zero": False,
    },
    "model/fitting_net": {
        "type": "ener",
        "numb_fparam": 0,
        "neuron": [120, 120, 120],
        "activation_function": "tanh",
        "precision": "default",
        "resnet_dt": True,
        "trainable": True,
        "rcond": None,
        "seed": None,
        "atom_ener": [],
    },
    "model/spin": {
        "type": "ener_spin",
        "use_spin": [True, False],
        "virtual_scale": [0.14],
        "time_reversal": False,
        "ignore_below": SMALL_MOMENT,
    },
    "learning_rate": {
        "type": "exp",
        "start_lr": 1e-3,
        "stop_lr": 5e-8,
        "stop_lr_ratio": None,
        "warmup_steps": 0,
        "warmup_ratio": None,
        "warmup_start_factor": 0.0,
        "decay_steps": 5000,
        "decay_rate": None,
        "smooth": False,
    },
    "loss": {
        "type": "ener_spin",
        "start_pref_e": 0.02,
        "limit_pref_e": 1.0,
        "start_pref_fr": 1000,
        "limit_pref_fr": 1.0,
        "start_pref_fm": 10000,
        "limit_pref_fm": 10.0,
        "start_pref_v": 0.0,
        "limit_pref_v": 0.0,
        "start_pref_ae": 0.0,
        "limit_pref_ae": 0.0,
        "enable_atom_ener_coeff": False,
        "prefactors": "given",
        "fm_component": "full",
        "fm_longitudinal": 1.0,
        "loss_func": "mse",
        "intensive_ener_virial": False,
    },
    "training/training_data": {
        "systems": "data",
        "rglob_patterns": None,
        "batch_size": "auto",
        "auto_prob": "prob_sys_size",
        "sys_probs": None,
        "force_mag_factor": 1.0,
    },
    "optimizer": {
        "type": "Adam",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "weight_decay": 0.0,
    },
    "validating": {
        "full_validation": False,
        "ema_full_validation": False,
        "validation_freq": 5000,
        "full_val_start": 0.5,
        "validation_metric": "E:MAE",
        "save_best": True,
        "save_best_dir": None,
        "max_best_ckpt": 1,
        "full_val_file": "val.log",
    },
    "training": {
        "validation_data": None,
        "stat_file": None,
        "stat_file_mode": "update",
        "numb_steps": 1000,
        "numb_epoch": None,
        "seed": None,
        "augmentation": [],
        "disp_file": "lcurve.out",
        "disp_freq": 1000,
        "save_freq": 1000,
        "save_dir": None,
        "save_ckpt": "model.ckpt",
        "max_ckpt_keep": 5,
        "ckpt_keep_ratio": None,
        "gradient_max_norm": None,
        "acc_freq": 1,
        "enable_ema": False,
        "ema_decay": 0.999,
        "ema_ckpt_keep": None,
        "change_bias_after_training": False,
        "disp_training": True,
        "time_training": True,
        "disp_avg": False,
        "tensorboard": False,
        "tensorboard_log_dir": "log",
        "profiling": False,
        "profiling_file": "timeline.json",
        "enable_profiler": False,
        "tensorboard_freq": 1,
        "jit_compile": True,
    },
}


@pytest.mark.parametrize("path", DEFAULTS)
def test_defaults(path):
    """The defaults are those of DeePMD-kit 3.2.0."""
    section = get(normalize(minimal_input()), path)
    nested = {"descriptor", "fitting_net", "spin", "type_map", "training_data"}
    assert {k: v for k, v in section.items() if k not in nested} == DEFAULTS[path]


def test_validation_defaults():
    """Validation data have `numb_btch` on top."""
    data = changed({"training/validation_data": {"systems": "data"}}, minimal_input())
    expected = {**DEFAULTS["training/training_data"], "numb_btch": 1}
    del expected["force_mag_factor"]  # one for both
    assert normalize(data)["training"]["validation_data"] == expected


NO_DEFAULT = {
    "model",
    "model/descriptor",
    "model/fitting_net",
    "model/spin",
    "model/spin/use_spin",
    "model/spin/virtual_len",
    "model/spin/spin_norm",
    "model/spin/virtual_scale",
    "model/type_map",
    "learning_rate",
    "learning_rate/start_lr",
    "loss",
    "training",
    "training/training_data",
    "training/training_data/systems",
    "training/validation_data/systems",
}


OF_INVARIANT = {
    f"model/spin/{path}"
    for path in (
        *("soc", "baseline"),
        *(f"baseline/{name}" for name in argcheck.baseline_args().sub_fields),
    )
}


OF_OTHERS = {
    *(f"learning_rate/{name}" for name in ("decay_phase_ratio", "decay_type")),
    "optimizer/weight_decay",
}


def test_documented_defaults_are_those_filled_in():
    """Documentation and result agree."""
    data = changed({"training/validation_data": {"systems": "data"}}, minimal_input())
    full = normalize(data)
    for path, argument in TREE.items():
        if path in ("learning_rate/stop_lr", "training/validation_data"):
            continue  # 5e-8 unless stop_lr_ratio is given; given here
        if path in ("optimizer", "validating", "training/numb_steps"):
            continue  # filled in; given here
        if path in OF_INVARIANT | OF_OTHERS | {
            "loss/prefactors",
            "loss/fm_longitudinal",
        }:
            continue  # of another choice; follow from the scheme
        if path not in NO_DEFAULT:
            assert argument.optional
            assert get(full, path) == argument.default, path
    assert f"{argcheck_training.DEFAULT_STOP_LR:.0e}".replace("e-0", "e-") in (
        TREE["learning_rate/stop_lr"].doc
    )


def test_every_argument_has_a_short_doc():
    """Every argument has one, and it is a few sentences."""
    for path, argument in TREE.items():
        assert argument.doc.endswith("."), path
        assert len(argument.doc) < 420, path


ANCHORS = [
    "model/type_map",
    "model/spin",
    "model/spin[ener_spin]/use_spin",
    "model/spin[ener_spin]/virtual_len",
    "model/spin[ener_spin]/spin_norm",
    "loss",
    *(
        f"loss[ener_spin]/{end}_pref_{term}"
        for end in ("start", "limit")
        for term in ("e", "fr", "fm", "v")
    ),
    # not promised, but DeePMD-kit's documentation has the same
    "model[standard]/descriptor[se_e2_a]/sel",
    "learning_rate/start_lr",
    "learning_rate[exp]/decay_steps",
    "learning_rate[wsd]/decay_phase_ratio",
    "optimizer[AdamW]/weight_decay",
    "training/validation_data/numb_btch",
]


@pytest.mark.parametrize("anchor", ANCHORS)
def test_anchors(anchor):
    """The documentation can be linked to."""
    lines = [line.strip() for line in gen_doc("rst").splitlines()]
    assert lines.count(f".. _`{anchor}`:") == 1


def test_doc_names_the_units():
    """Units are written out."""
    doc = gen_doc()
    for unit in ("Å", "eV", "μ_B", "Å/μ_B", "1/eV²"):
        assert unit in doc


def test_doc_in_json():
    """Both kinds of JSON can be parsed and have all sections."""
    sections = json.loads(gen_doc("json"))
    assert [s["name"] for s in sections] == [
        "model",
        "learning_rate",
        "optimizer",
        "loss",
        "training",
        "validating",
    ]
    schema = json.loads(gen_doc("json_schema"))
    assert schema["title"] == "deepspin"
    assert set(schema["properties"]) == {s["name"] for s in sections}


@pytest.mark.parametrize("out_type", ["rst", "json", "json_schema"])
def test_doc_is_printed(out_type, capsys):
    """The entry point prints what `gen_doc` returns."""
    doc_train_input(out_type)
    printed = capsys.readouterr().out
    # dargs keeps types in sets: their order may differ
    assert sorted(printed.strip()) == sorted(gen_doc(out_type).strip())


def test_nothing_imports_tensorflow():
    """A mistake must be answered at once."""
    code = (
        "import sys, deepspin.main as m, deepspin.utils.argcheck as a;"
        " m.build_parser(); a.gen_doc();"
        " print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [*arguments.ACTIVATIONS, "None", "Tanh"])
def test_activation_functions(name):
    """All of DeePMD-kit's, in any case."""
    full = normalize(changed({"model/fitting_net/activation_function": name}))
    assert full["model"]["fitting_net"]["activation_function"] == name.lower()


def test_components_are_argument_trees():
    """One function per component, one variant per argument."""
    lists = (
        argcheck.train_args,
        argcheck.descriptor_se_e2_a_args,
        argcheck.fitting_ener_args,
        argcheck.spin_ener_spin_args,
        argcheck_training.learning_rate_exp_args,
        argcheck_training.learning_rate_wsd_args,
        argcheck.loss_ener_spin_args,
        argcheck_training.optimizer_adam_args,
        argcheck_training.optimizer_adamw_args,
    )
    for make in lists:
        assert all(isinstance(argument, Argument) for argument in make())
    for _, argument in TREE.items():
        assert len(argument.sub_variants) <= 1, "more would change the anchors"
