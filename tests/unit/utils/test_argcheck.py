# SPDX-License-Identifier: Apache-2.0
"""Inputs are read, checked and completed; every mistake is named."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from dargs import Argument

from deepspin.entrypoints.doc import doc_train_input
from deepspin.utils import argcheck
from deepspin.utils.argcheck import gen_doc
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import ANY, CHOICES, REFUSED, SECTIONS, InputError

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


# What DeePMD-kit 3.2.0 adds to an input when it writes it out in full.
PEER_DEFAULTS = {
    "model/spin/scheme": "deepspin",
    "model/spin/allow_missing_label": False,
    "model/data_bias_nsample": 10,
    "model/pair_exclude_types": [],
    "model/atom_exclude_types": [],
    "model/preset_out_bias": None,
    "model/srtab_add_bias": True,
    "model/model_branch_alias": [],
    "model/info": {},
    "model/bridging_method": "None",
    "model/bridging_r_inner": 0.5,
    "model/bridging_r_outer": 0.8,
    "model/fitting_net/numb_fparam": 0,
    "model/fitting_net/numb_aparam": 0,
    "model/fitting_net/default_fparam": None,
    "model/fitting_net/dim_case_embd": 0,
    "model/fitting_net/use_aparam_as_mask": False,
    "learning_rate/scale_by_worker": "linear",
    "loss/start_pref_pf": 0.0,
    "loss/limit_pref_pf": 0.0,
    "training/training_data/min_pair_dist": 0.0,
    "training/stat_file_mode": "update",
    "training/save_dir": None,
    "training/ckpt_keep_ratio": None,
    "training/enable_ema": False,
    "training/ema_decay": 0.999,
    "training/ema_ckpt_keep": None,
    "training/change_bias_after_training": False,
    "training/disp_avg": False,
    "training/profiling": False,
    "training/profiling_file": "timeline.json",
    "training/enable_profiler": False,
    "training/tensorboard": False,
    "training/tensorboard_log_dir": "log",
    "training/tensorboard_freq": 1,
    "training/acc_freq": 1,
    "training/zero_stage": 0,
    "training/neighbor_graph_method": "auto",
    "training/enable_compile": False,
    "training/enable_tf32": False,
    "optimizer/type": "Adam",
    "optimizer/adam_beta1": 0.9,
    "optimizer/adam_beta2": 0.999,
    "optimizer/weight_decay": 0.0,
    "validating/full_validation": False,
    "validating/save_best": True,
    "validating/validation_freq": 5000,
    "nvnmd/enable": False,
    "nvnmd/max_nnei": 128,
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


INPUTS = [virtual_atom_input, spin_files_input, minimal_input]


@pytest.mark.parametrize("make", INPUTS)
def test_inputs_are_accepted_completed_and_can_be_fed_again(make):
    """The result is a fixed point, plain JSON and free of comments."""
    data = make()
    before = copy.deepcopy(data)
    full = normalize(data)
    assert data == before, "the argument must not be changed"
    assert normalize(full) == full
    assert json.loads(json.dumps(full)) == full
    assert "_comment" not in json.dumps(full)


def test_given_values_survive():
    """What the user wrote is in the result."""
    data, full = virtual_atom_input(), normalize(virtual_atom_input())

    def compare(given, result):
        for key, value in given.items():
            if isinstance(value, dict):
                compare(value, result[key])
            elif not key.startswith("_"):
                assert result[key] == value

    compare(data, full)


def test_a_complete_input_of_deepmd_means_the_same():
    """Neutral options of DeePMD-kit are dropped."""
    full = normalize(changed(PEER_DEFAULTS))
    assert full == normalize(virtual_atom_input())


def test_aliases():
    """Other names become the names."""
    data = minimal_input()
    data["model"]["descriptor"] = {"type": "se_a", "n_axis_neuron": 3}
    data["model"]["fitting_net"] = {"n_neuron": [7]}
    data["training"] = {
        "training_data": {
            "systems": ["a", "b"],
            "auto_prob_style": "prob_uniform",
            "sys_weights": [0.25, 0.75],
        },
        "validation_data": {"systems": "c", "numb_batch": 4},
        "stop_batch": 50,
    }
    full = normalize(data)
    assert full["model"]["descriptor"]["type"] == "se_e2_a"
    assert full["model"]["descriptor"]["axis_neuron"] == 3
    assert full["model"]["fitting_net"]["neuron"] == [7]
    assert full["training"]["training_data"]["auto_prob"] == "prob_uniform"
    assert full["training"]["training_data"]["sys_probs"] == [0.25, 0.75]
    assert full["training"]["validation_data"]["numb_btch"] == 4
    assert full["training"]["numb_steps"] == 50


@pytest.mark.parametrize("name", ["num_step", "num_steps", "numb_step", "stop_batch"])
def test_names_of_numb_steps(name):
    """All of DeePMD-kit's names work."""
    data = changed({"training/numb_steps": MISSING, f"training/{name}": 7})
    data["learning_rate"]["decay_steps"] = 2
    assert normalize(data)["training"]["numb_steps"] == 7


# --- Defaults, as in DeePMD-kit 3.2.0 -------------------------------------------------

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
        "loss_func": "mse",
        "intensive_ener_virial": False,
    },
    "training/training_data": {
        "systems": "data",
        "rglob_patterns": None,
        "batch_size": "auto",
        "auto_prob": "prob_sys_size",
        "sys_probs": None,
    },
    "training": {
        "validation_data": None,
        "numb_steps": 1000,
        "seed": None,
        "disp_file": "lcurve.out",
        "disp_freq": 1000,
        "save_freq": 1000,
        "save_ckpt": "model.ckpt",
        "max_ckpt_keep": 5,
        "disp_training": True,
        "time_training": True,
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
    assert normalize(data)["training"]["validation_data"] == expected


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
    "training/numb_steps",
}


def test_documented_defaults_are_those_filled_in():
    """Documentation and result agree."""
    data = changed({"training/validation_data": {"systems": "data"}}, minimal_input())
    full = normalize(data)
    for path, argument in TREE.items():
        if path in ("learning_rate/stop_lr", "training/validation_data"):
            continue  # 5e-8 unless stop_lr_ratio is given; given here
        if path not in NO_DEFAULT:
            assert argument.optional
            assert get(full, path) == argument.default, path
    assert f"{argcheck.DEFAULT_STOP_LR:.0e}".replace("e-0", "e-") in (
        TREE["learning_rate/stop_lr"].doc
    )


def test_every_argument_has_a_short_doc():
    """Every argument has one, and it is a few sentences."""
    for path, argument in TREE.items():
        assert argument.doc.endswith("."), path
        assert len(argument.doc) < 420, path


# --- Documentation --------------------------------------------------------------------

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
        "loss",
        "training",
    ]
    schema = json.loads(gen_doc("json_schema"))
    assert schema["title"] == "deepspin"
    assert set(schema["properties"]) == {s["name"] for s in sections}


def test_doc_of_an_unknown_kind():
    """The kinds are named."""
    with pytest.raises(
        ValueError, match=r"must be 'rst', 'json' or 'json_schema'.*'md'"
    ):
        gen_doc("md")


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


# --- Spins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([True, False, True], [True, False, True]),
        ([0, 2], [True, False, True]),
        ([2, 0], [True, False, True]),
        (["Ni", "Fe"], [True, False, True]),
        (["Ni"], [False, False, True]),
        ([1], [False, True, False]),
    ],
)
def test_use_spin(given, expected):
    """Booleans, indices and names mean the same, in any order."""
    data = minimal_input()
    data["model"]["type_map"] = ["Fe", "O", "Ni"]
    data["model"]["spin"] = {"use_spin": given, "virtual_scale": 0.1}
    spin = normalize(data)["model"]["spin"]
    assert spin["use_spin"] == expected
    assert spin["virtual_scale"] == [0.1] * sum(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [([0.3, 0.4], [0.3, 0.4]), ([0.3, 0.0, 0.4], [0.3, 0.4]), (0.5, [0.5, 0.5])],
)
@pytest.mark.parametrize("key", ["virtual_len", "spin_norm", "virtual_scale"])
def test_numbers_per_spin_type(key, given, expected):
    """All forms end as a list per spin type."""
    spin = {"use_spin": ["Fe", "Ni"], key: given}
    other = {"virtual_len": "spin_norm", "spin_norm": "virtual_len"}.get(key)
    if other:
        spin[other] = 1.5
    data = minimal_input()
    data["model"]["type_map"] = ["Fe", "O", "Ni"]
    data["model"]["spin"] = spin
    full = normalize(data)
    assert full["model"]["spin"][key] == expected
    assert set(full["model"]["spin"]) == {"type", *spin}
    assert normalize(full) == full


def test_atom_ener_covers_virtual_types():
    """A fixed energy leaves nothing to the virtual type."""
    data = minimal_input()
    data["model"]["type_map"] = ["Fe", "O", "Ni"]
    data["model"]["spin"]["use_spin"] = ["Fe", "Ni"]
    data["model"]["fitting_net"]["atom_ener"] = [-1.5, None, None]
    full = normalize(data)
    expected = [-1.5, None, None, 0.0, None]
    assert full["model"]["fitting_net"]["atom_ener"] == expected
    assert normalize(full) == full


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model/descriptor/sel", "auto:1.5"),
        ("model/descriptor/sel", [20, 0]),
        ("model/descriptor/activation_function", "silut:4.0"),
        ("model/descriptor/exclude_types", [[0, 2], [1, 1]]),
        ("model/descriptor/rcut_smth", 0),
        ("model/descriptor/precision", "float32"),
        ("model/fitting_net/trainable", [True, False, True]),
        ("model/fitting_net/rcond", 1e-6),
        ("model/fitting_net/numb_fparam", 2),
        ("learning_rate/decay_rate", 0.95),
        ("learning_rate/warmup_steps", 10),
        ("learning_rate/warmup_ratio", 0.1),
        ("learning_rate/stop_lr", 0),
        ("loss/loss_func", "mae"),
        ("training/training_data/batch_size", "auto:64"),
        ("training/training_data/batch_size", [4]),
        ("training/training_data/auto_prob", "prob_sys_size;0:3:0.25;3:5:1e-1"),
        ("training/training_data/sys_probs", [0.5, -1, -1]),
        ("training/training_data/rglob_patterns", ["*/bulk"]),
        ("training/validation_data", None),
        ("training/jit_compile", False),
    ],
)
def test_values_that_are_kept(path, value):
    """Good values pass unchanged."""
    full = normalize(changed({path: value}))
    assert get(full, path) == value
    assert normalize(full) == full


@pytest.mark.parametrize("name", [*argcheck.ACTIVATIONS, "None", "Tanh"])
def test_activation_functions(name):
    """All of DeePMD-kit's, in any case."""
    full = normalize(changed({"model/fitting_net/activation_function": name}))
    assert full["model"]["fitting_net"]["activation_function"] == name.lower()


def test_stop_lr_ratio_replaces_stop_lr():
    """No default of `stop_lr` comes in between."""
    ratio = {"learning_rate/stop_lr": MISSING, "learning_rate/stop_lr_ratio": 0.01}
    full = normalize(changed(ratio))
    assert full["learning_rate"]["stop_lr"] is None
    assert normalize(full) == full


# --- What DeePMD-kit has and deepspin has not -----------------------------------------


def refused_rows():
    """Return one row per option of the table."""
    for paths, (neutral, advice) in REFUSED.items():
        section, _, names = paths.rpartition("/")
        for name in names.split("|"):
            yield f"{section}/{name}".strip("/"), neutral, advice


ROWS = list(refused_rows())


@pytest.mark.parametrize(("path", "neutral", "advice"), ROWS, ids=[r[0] for r in ROWS])
def test_refused_options(path, neutral, advice):
    """Neutral values are dropped, others are refused with advice."""
    plain = normalize(virtual_atom_input())
    ignored = ["whatever"] if neutral is ANY else list(neutral)
    for value in [None, *ignored]:
        data = changed({path: value})
        before = copy.deepcopy(data)
        assert normalize(data) == plain
        assert data == before
    if neutral is not ANY:
        with pytest.raises(InputError) as caught:
            normalize(changed({path: 17}))
        message = str(caught.value)
        assert f"`{path}` is 17, which DeePMD-kit has but deepspin has not" in message
        assert advice in message
        assert "\n" not in message


def test_true_is_not_one_and_zero_is_not_false():
    """Neutral values are compared with their type."""
    with pytest.raises(InputError, match=r"`training/acc_freq` is true"):
        normalize(changed({"training/acc_freq": True}))
    with pytest.raises(InputError, match="`training/tensorboard` is 0"):
        normalize(changed({"training/tensorboard": 0}))


CHOICE_ROWS = [(path, name) for path, (names, _) in CHOICES.items() for name in names]


@pytest.mark.parametrize(("path", "name"), CHOICE_ROWS)
def test_refused_choices(path, name):
    """Each is refused with what to use instead."""
    with pytest.raises(InputError) as caught:
        normalize(changed({path: name}))
    assert f'`{path}` is "{name}", which DeePMD-kit has' in str(caught.value)
    assert CHOICES[path][1] in str(caught.value)


def test_tables_do_not_refuse_what_the_trees_have():
    """An option is either here or there."""
    aliases = {
        f"{path.rpartition('/')[0]}/{alias}"
        for path, argument in TREE.items()
        for alias in argument.alias
    }
    assert not {path for path, *_ in ROWS} & (set(TREE) | aliases)
    assert not set(SECTIONS) & set(TREE)


# --- Mistakes -------------------------------------------------------------------------

MISTAKES = [
    # changes, what the message must match
    ({"model": MISSING}, "`model` is missing"),
    ({"model": 3}, "`model` is 3; expected type object"),
    ({"model/type_map": MISSING}, "`model/type_map` is missing"),
    ({"model/type_map": []}, "`model/type_map` is .*at least one name"),
    ({"model/type_map": ["O", "O"]}, "`model/type_map` is .*none twice"),
    ({"model/type_map": [1, 8]}, "`model/type_map` is .*expected type list.str."),
    ({"model/data_stat_nbatch": 0}, "`model/data_stat_nbatch` is 0; .*>= 1"),
    ({"model/data_stat_protect": 0}, "`model/data_stat_protect` is 0; .*> 0"),
    ({"model/type": "standart"}, '`model/type` is "standart"; .*"standard"'),
    ({"model/spin": MISSING}, "`model/spin` is missing.*spins.*Add.*use_spin"),
    ({"model/spin": None}, "`model/spin` is missing"),
    ({"model/spin": []}, "`model/spin` is .*expected type object"),
    ({"model/spin/type": "native"}, '`model/spin/type` is "native"; .*"ener_spin"'),
    # descriptor
    ({"model/descriptor": MISSING}, "`model/descriptor` is missing"),
    ({"model/descriptor/type": MISSING}, "`model/descriptor/type` is missing"),
    ({"model/descriptor/type": "se_e2_b"}, '"se_e2_b"; expected one of "se_e2_a"'),
    ({"model/descriptor/type": 2}, "`model/descriptor/type` is 2; .*type str"),
    ({"model/descriptor/sel": [20]}, "`model/descriptor/sel` is .*2 numbers, one per"),
    ({"model/descriptor/sel": [20, 30, 20]}, "Those for spins are added by deepspin"),
    ({"model/descriptor/sel": [0, 0]}, "`model/descriptor/sel` is .*not all 0"),
    ({"model/descriptor/sel": [0, 30]}, "`model/descriptor/sel` is .*each spin type"),
    ({"model/descriptor/sel": [-1, 30]}, "`model/descriptor/sel` is"),
    ({"model/descriptor/sel": [2.5, 3]}, "`model/descriptor/sel` is .*list.int."),
    ({"model/descriptor/sel": [True, 3]}, "`model/descriptor/sel` is .*numbers"),
    ({"model/descriptor/sel": "all"}, '`model/descriptor/sel` is "all".*auto:F'),
    ({"model/descriptor/sel": "auto:0.9"}, "`model/descriptor/sel` is .*F >= 1"),
    ({"model/descriptor/sel": "auto:x"}, "`model/descriptor/sel` is .*F >= 1"),
    ({"model/descriptor/rcut": 0}, "`model/descriptor/rcut` is 0; expected a number >"),
    ({"model/descriptor/rcut": "6"}, "`model/descriptor/rcut` is .*type float"),
    ({"model/descriptor/rcut": True}, "`model/descriptor/rcut` is true; .*a number"),
    ({"model/descriptor/rcut": float("nan")}, "`model/descriptor/rcut` is NaN"),
    ({"model/descriptor/rcut": float("inf")}, "rcut` is Infinity; expected finite"),
    ({"model/descriptor/rcut_smth": -1}, "`model/descriptor/rcut_smth` is -1"),
    ({"model/descriptor/rcut_smth": 4.5}, "rcut_smth` is 4.5; .*less than `rcut` = 4"),
    ({"model/descriptor/neuron": []}, "`model/descriptor/neuron` is "),
    ({"model/descriptor/neuron": [0]}, "`model/descriptor/neuron` is "),
    ({"model/descriptor/axis_neuron": 0}, "`model/descriptor/axis_neuron` is 0"),
    ({"model/descriptor/axis_neuron": 33}, "axis_neuron` is 33; .*`neuron` = .8, 16"),
    ({"model/descriptor/activation_function": "tan"}, '"tan"; expected one of tanh'),
    ({"model/descriptor/activation_function": "relu:2"}, '"relu:2"; expected one of'),
    ({"model/descriptor/precision": "float16"}, '"float16", which.*use "float32"'),
    ({"model/fitting_net/precision": "bfloat16"}, 'precision` is "bfloat16"'),
    ({"model/descriptor/seed": -1}, "`model/descriptor/seed` is -1; .*integer from 0"),
    ({"model/descriptor/seed": 1.5}, "`model/descriptor/seed` is 1.5; .*int or null"),
    ({"model/descriptor/seed": True}, "`model/descriptor/seed` is true"),
    ({"model/descriptor/exclude_types": [[0, 3]]}, "exclude_types` is .*from 0 to 2"),
    ({"model/descriptor/exclude_types": [[0]]}, "exclude_types` is .*pairs"),
    ({"model/descriptor/exclude_types": [[-1, 0]]}, "exclude_types` is .*pairs"),
    ({"model/descriptor/env_protection": -0.1}, "env_protection` is -0.1"),
    ({"model/descriptor/resnet_dt": 1}, "`model/descriptor/resnet_dt` is 1; .*bool"),
    # fitting net
    ({"model/fitting_net/type": "energy"}, "`model/fitting_net/type` is .*ener"),
    ({"model/fitting_net/neuron": []}, "`model/fitting_net/neuron` is"),
    ({"model/fitting_net/trainable": [True]}, "trainable` is .*3 booleans"),
    ({"model/fitting_net/rcond": -1}, "`model/fitting_net/rcond` is -1"),
    ({"model/fitting_net/numb_fparam": -1}, "numb_fparam` is -1; .*integer >= 0"),
    ({"model/fitting_net/numb_fparam": 1.0}, "numb_fparam` is 1.0; .*Write 1"),
    ({"model/fitting_net/numb_fparam": True}, "numb_fparam` is true; .*a number"),
    ({"model/fitting_net/atom_ener": [1.0]}, "atom_ener` is .*2 numbers or nulls.*3"),
    # spin
    ({"model/spin/use_spin": MISSING}, "`model/spin/use_spin` is missing"),
    ({"model/spin/use_spin": [False, False]}, "use_spin` is .*at least one spin type"),
    ({"model/spin/use_spin": []}, "use_spin` is .*at least one spin type"),
    ({"model/spin/use_spin": [True]}, "use_spin` is .*2 booleans, one per type"),
    ({"model/spin/use_spin": ["Ni"]}, "use_spin` is .*some of .*Fe.*none twice"),
    ({"model/spin/use_spin": ["Fe", "Fe"]}, "use_spin` is .*none twice"),
    ({"model/spin/use_spin": [2]}, "use_spin` is .2.; expected some of .0, 1."),
    ({"model/spin/use_spin": [-1]}, "use_spin` is .-1.; expected some of"),
    ({"model/spin/use_spin": [0, 0]}, "use_spin` is .*none twice"),
    ({"model/spin/use_spin": [True, 1]}, "use_spin` is .*all booleans, all type"),
    ({"model/spin/use_spin": "Fe"}, "`model/spin/use_spin` is .*type list"),
    ({"model/spin/virtual_len": MISSING}, "`model/spin` lacks `virtual_len`"),
    ({"model/spin/spin_norm": MISSING}, "`model/spin` lacks `spin_norm`"),
    (
        {"model/spin/virtual_len": MISSING, "model/spin/spin_norm": MISSING},
        "lacks `virtual_len` and `spin_norm`.*`virtual_scale`",
    ),
    ({"model/spin/virtual_scale": 0.1}, "has `virtual_scale` and also `virtual_len`"),
    (
        {"model/spin/virtual_len": [0.1] * 3},
        "1 .one per spin type, Fe. or 2",
    ),
    ({"model/spin/virtual_len": []}, "`model/spin/virtual_len` is"),
    ({"model/spin/virtual_len": 0}, "`model/spin/virtual_len` is 0; .*> 0"),
    ({"model/spin/spin_norm": [-1.0]}, "`model/spin/spin_norm` is .*> 0"),
    ({"model/spin/spin_norm": [True]}, "`model/spin/spin_norm` is .*numbers"),
    ({"model/spin/spin_norm": ["x"]}, "`model/spin/spin_norm` is .*float or list"),
    # learning rate
    ({"learning_rate": MISSING}, "`learning_rate` is missing"),
    ({"learning_rate/start_lr": MISSING}, "`learning_rate/start_lr` is missing"),
    ({"learning_rate/start_lr": 0}, "`learning_rate/start_lr` is 0"),
    ({"learning_rate/start_lr": "1e-3"}, "`learning_rate/start_lr` is .*type float"),
    ({"learning_rate/stop_lr": -1e-8}, "`learning_rate/stop_lr` is -1e-08"),
    ({"learning_rate/stop_lr": 1.0}, "stop_lr` is 1.0; .*at most `start_lr` = 0.001"),
    ({"learning_rate/stop_lr_ratio": 0.1}, "has `stop_lr` and also `stop_lr_ratio`"),
    (
        {"learning_rate/stop_lr": MISSING, "learning_rate/stop_lr_ratio": 2.0},
        r"stop_lr_ratio` is 2.0; expected a number in \(0, 1\]",
    ),
    ({"learning_rate/decay_steps": 0}, "`learning_rate/decay_steps` is 0"),
    ({"learning_rate/decay_rate": 1.5}, "`learning_rate/decay_rate` is 1.5"),
    ({"learning_rate/warmup_steps": -1}, "`learning_rate/warmup_steps` is -1"),
    ({"learning_rate/warmup_steps": 1000}, "warmup_steps` is 1000; .*less than .*1000"),
    ({"learning_rate/warmup_ratio": 1}, "`learning_rate/warmup_ratio` is 1"),
    (
        {"learning_rate/warmup_steps": 5, "learning_rate/warmup_ratio": 0.1},
        "has `warmup_steps` and also `warmup_ratio`",
    ),
    ({"learning_rate/warmup_start_factor": -1}, "warmup_start_factor` is -1"),
    ({"learning_rate/type": "expo"}, '"expo"; expected one of "exp"'),
    # loss
    ({"loss": MISSING}, '`loss/type` is missing.*"ener" in DeePMD-kit.*ener_spin'),
    ({"loss": None}, "`loss/type` is missing"),
    ({"loss/type": MISSING}, '`loss/type` is missing.*use "ener_spin"'),
    ({"loss/type": "ener_spins"}, '"ener_spins"; expected one of "ener_spin"'),
    ({"loss/start_pref_e": -1}, "`loss/start_pref_e` is -1"),
    ({"loss/limit_pref_fm": -0.5}, "`loss/limit_pref_fm` is -0.5"),
    ({"loss/loss_func": "huber"}, '`loss/loss_func` is "huber"; .*"mse" or "mae"'),
    (
        {
            f"loss/{k}_pref_{t}": 0
            for k in ("start", "limit")
            for t in ("e", "fr", "fm")
        },
        "`loss` has all weights at 0",
    ),
    # training
    ({"training": None}, "`training` is null; expected type object"),
    ({"training/training_data": MISSING}, "`training/training_data` is missing"),
    ({"training/training_data/systems": MISSING}, "systems` is missing"),
    ({"training/training_data/systems": []}, "systems` is .*at least one path"),
    ({"training/training_data/systems": ""}, "systems` is .*at least one path"),
    ({"training/training_data/batch_size": 0}, "batch_size` is 0"),
    ({"training/training_data/batch_size": []}, "batch_size` is"),
    ({"training/training_data/batch_size": [1, 0]}, "batch_size` is"),
    ({"training/training_data/batch_size": True}, "batch_size` is true"),
    ({"training/training_data/batch_size": "auto:0"}, "batch_size` is .*N >= 1"),
    ({"training/training_data/batch_size": "mixed:8"}, "mixed:8.*use .auto:N"),
    ({"training/training_data/auto_prob": "prob_size"}, "auto_prob` is .*prob_uniform"),
    ({"training/training_data/auto_prob": "prob_sys_size;0:1"}, "auto_prob` is"),
    ({"training/training_data/sys_probs": [0.5, 0.6]}, "sys_probs` is .*sum to 1"),
    ({"training/training_data/sys_probs": [0.5, 0.4]}, "sys_probs` is .*sum to 1"),
    ({"training/training_data/sys_probs": []}, "sys_probs` is"),
    ({"training/validation_data/numb_btch": 0}, "numb_btch` is 0"),
    ({"training/numb_steps": MISSING}, "`training/numb_steps` is missing"),
    ({"training/numb_steps": 0}, "`training/numb_steps` is 0"),
    ({"training/numb_steps": 2**63}, "`training/numb_steps` is .*integers of 64 bits"),
    (
        {"training/numb_steps": 1e6},
        "`training/numb_steps` is 1000000.0; .*Write 1000000",
    ),
    ({"training/disp_freq": 0}, "`training/disp_freq` is 0"),
    ({"training/save_freq": 0}, "`training/save_freq` is 0"),
    ({"training/max_ckpt_keep": 0}, "`training/max_ckpt_keep` is 0"),
    ({"training/seed": 2**32}, "`training/seed` is 4294967296"),
    ({"training/disp_file": 3}, "`training/disp_file` is 3; expected type str"),
    ({"training/disp_file": ""}, "`training/disp_file` is .*the path of a file"),
    ({"training/disp_file": "runs/"}, "`training/disp_file` is .*the path of a file"),
    ({"training/save_ckpt": "."}, "`training/save_ckpt` is .*the path of a file"),
    # keys
    ({"model/descriptor/rcut_smooth": 1}, "rcut_smooth` is not a .*`rcut_smth`"),
    ({"model/descriptor/n_axis_neurn": 1}, "did you mean `n_axis_neuron`"),
    ({"traning": {}}, "`traning` is not a key of the input: did you mean `training`"),
    ({"training/stop_bach": 5}, "did you mean `stop_batch`"),
    ({"training/stop_batch": 5}, "another name of `numb_steps`, which is also given"),
    ({"training/training_data/numb_btch": 1}, "belongs to `training/validation_data`"),
    ({"model/rcut": 6.0}, "`model/rcut` is not.*belongs to `model/descriptor`"),
    ({"loss/seed": 1}, "belongs to .*descriptor` or .*fitting_net` or `training`"),
    ({"training/type_map": []}, "`training/type_map` .*belongs to `model`"),
    ({"loss/xyz": 1}, "`loss/xyz` is not .*the keys there are `type`, `start_pref_e`"),
    ({"optimizer/beta3": 1}, "`optimizer/beta3` is not a key.*`adam_beta"),
    ({"validating": True}, "`validating` is true; expected an object"),
    ({"model": {1: 2}}, "key 1 at `model` is not text"),
]


@pytest.mark.parametrize(("changes", "match"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_mistakes(changes, match):
    """One line says where, what was received and what to do."""
    data = changed(changes)
    before = copy.deepcopy(data)
    with pytest.raises(InputError, match=match) as caught:
        normalize(data)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    assert repr(data) == repr(before)


def test_long_values_are_shortened():
    """A long list does not fill the screen."""
    with pytest.raises(
        InputError, match=r"`model/descriptor/sel` is \[1, 1, .*\.\.\.;"
    ):
        normalize(changed({"model/descriptor/sel": [1] * 1000}))


def test_not_an_object():
    """The input itself may be wrong."""
    with pytest.raises(InputError, match=r"The input is .1.; expected an object"):
        normalize([1])


def test_input_of_deepmd_0():
    """The oldest form is recognized."""
    data = {"use_smooth": True, "sel_a": [46, 92], "rcut": 6.0, "stop_batch": 1000}
    with pytest.raises(InputError, match=r"`use_smooth` is true.*DeePMD-kit 0.x"):
        normalize(data)


def test_input_of_deepmd_1():
    """Data in `training` are recognized."""
    data = changed({"training/training_data": MISSING, "training/systems": ["a"]})
    with pytest.raises(InputError, match=r"`training/systems`.*training_data"):
        normalize(data)


def test_multi_task_input():
    """Several models are recognized."""
    data = {"model": {"model_dict": {"a": {}}}, "loss_dict": {"a": {}}}
    with pytest.raises(InputError, match=r"`model/model_dict`.*one model per input"):
        normalize({**data, "loss": {"type": "ener_spin"}})


def test_error_is_a_value_error():
    """Callers may catch `ValueError`."""
    assert issubclass(InputError, ValueError)


# --- Reading --------------------------------------------------------------------------


def write(folder, name, text):
    """Make a file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_load_json(tmp_path):
    """Paths may be strings."""
    path = write(tmp_path, "input.json", json.dumps(virtual_atom_input()))
    assert load_input(path) == virtual_atom_input()
    assert load_input(str(path)) == virtual_atom_input()


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_load_yaml(tmp_path, suffix):
    """1e-3 is a number, No is an element and on is a word."""
    text = """
    model: {type_map: [No, Y, O], on: true}
    learning_rate: {start_lr: 1e-3, stop_lr: 3.51e-8, decay_steps: 5000}
    """
    data = load_input(write(tmp_path, f"input.{suffix}", text))
    assert data["model"] == {"type_map": ["No", "Y", "O"], "on": True}
    expected = {"start_lr": 1e-3, "stop_lr": 3.51e-8, "decay_steps": 5000}
    assert data["learning_rate"] == expected


def test_yaml_merges(tmp_path):
    """A key beside a merged one is not given twice."""
    text = "base: &b {x: 1, y: 2}\nmodel: {<<: *b, x: 3}\n_c: 1\n_c: 2\n"
    data = load_input(write(tmp_path, "input.yaml", text))
    assert data["model"] == {"x": 3, "y": 2}


def test_comments_may_repeat(tmp_path):
    """Inputs often have several `_comment` in one object."""
    path = write(tmp_path, "input.json", '{"_comment": 1, "_comment": 2, "a": 3}')
    assert load_input(path)["a"] == 3


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("input.json", '{"a": 1,\n "b": }', "not valid JSON: .*line 2, column 7"),
        ("input.json", "", "not valid JSON: .*line 1, column 1"),
        ("input.json", "[1, 2]", "must hold an object at its top level.*list"),
        ("input.json", '{"a": {"b": 1, "b": 2}}', "gives `b` 2 times in one object"),
        ("input.yaml", "a: [1\nb: 2", "not valid YAML: .*line 2, column"),
        ("input.yaml", "a: \x07", "not valid YAML"),
        ("input.yaml", "", "must hold an object at its top level.*NoneType"),
        ("input.txt", "{}", "must end in .json, .yaml or .yml"),
        ("input.json", "[" * 100000, "nested too deeply"),
        ("input.yaml", "a: {b: 1, c: 2, b: 3}", "gives `b` 2 times in one object"),
        ("input.yaml", "a: &x [*x]", "holds what no input can: Circular reference"),
        ("input.yaml", "a: 2001-99-99", "holds what no input can: month must be"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, match):
    """The message names the file and the place."""
    path = write(tmp_path, name, text)
    with pytest.raises(InputError, match=match) as caught:
        load_input(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_utf8(tmp_path):
    """Bytes that are not text are reported."""
    path = tmp_path / "input.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="not text in UTF-8"):
        load_input(path)


def test_missing_file(tmp_path):
    """A missing file has the usual type of error, and one of like name is named."""
    with pytest.raises(
        FileNotFoundError, match=r"no input file '.*absent\.json'\. `dp-spin init DATA`"
    ):
        load_input(tmp_path / "absent.json")
    write(tmp_path, "input.json", "{}")
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*/input\.json'\?"):
        load_input(tmp_path / "imput.json")


def test_components_are_argument_trees():
    """One function per component, one variant per argument."""
    lists = (
        argcheck.train_args,
        argcheck.descriptor_se_e2_a_args,
        argcheck.fitting_ener_args,
        argcheck.spin_ener_spin_args,
        argcheck.learning_rate_exp_args,
        argcheck.loss_ener_spin_args,
    )
    for make in lists:
        assert all(isinstance(argument, Argument) for argument in make())
    for _, argument in TREE.items():
        assert len(argument.sub_variants) <= 1, "more would change the anchors"
