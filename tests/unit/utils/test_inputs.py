# SPDX-License-Identifier: Apache-2.0
"""Inputs are read, checked and completed; mistakes are named."""

from __future__ import annotations

import copy
import json

import pytest
from inputs import (
    MISSING,
    changed,
    get,
    minimal_input,
    spin_files_input,
    virtual_atom_input,
)

from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

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
    assert set(full["model"]["spin"]) == {
        "type",
        "time_reversal",
        "ignore_below",
        *spin,
    }
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


def test_stop_lr_ratio_replaces_stop_lr():
    """No default of `stop_lr` comes in between."""
    ratio = {"learning_rate/stop_lr": MISSING, "learning_rate/stop_lr_ratio": 0.01}
    full = normalize(changed(ratio))
    assert full["learning_rate"]["stop_lr"] is None
    assert normalize(full) == full


# beside those of the table in tests/mistakes
MISTAKES = [
    # changes, what the message must match
    ({"model": MISSING}, "`model` is missing"),
    ({"model": 3}, "`model` is 3; expected type object"),
    ({"model/type_map": MISSING}, "`model/type_map` is missing"),
    ({"model/type_map": []}, "`model/type_map` is .*at least one name"),
    ({"model/type_map": [1, 8]}, "`model/type_map` is .*expected type list.str."),
    ({"model/data_stat_nbatch": 0}, "`model/data_stat_nbatch` is 0; .*>= 1"),
    ({"model/data_stat_protect": 0}, "`model/data_stat_protect` is 0; .*> 0"),
    ({"model/type": "standart"}, '`model/type` is "standart"; .*"standard"'),
    ({"model/spin": None}, "`model/spin` is missing"),
    ({"model/spin": []}, "`model/spin` is .*expected type object"),
    ({"model/spin/type": "native"}, '`model/spin/type` is "native"; .*"ener_spin"'),
    # descriptor
    ({"model/descriptor": MISSING}, "`model/descriptor` is missing"),
    ({"model/descriptor/type": MISSING}, "`model/descriptor/type` is missing"),
    ({"model/descriptor/type": 2}, "`model/descriptor/type` is 2; .*type str"),
    ({"model/descriptor/sel": [20]}, "`model/descriptor/sel` is .*2 numbers, one per"),
    ({"model/descriptor/sel": [0, 0]}, "`model/descriptor/sel` is .*not all 0"),
    ({"model/descriptor/sel": [-1, 30]}, "`model/descriptor/sel` is"),
    ({"model/descriptor/sel": [2.5, 3]}, "`model/descriptor/sel` is .*list.int."),
    ({"model/descriptor/sel": [True, 3]}, "`model/descriptor/sel` is .*numbers"),
    ({"model/descriptor/sel": "all"}, '`model/descriptor/sel` is "all".*auto:F'),
    ({"model/descriptor/sel": "auto:0.9"}, "`model/descriptor/sel` is .*F >= 1"),
    ({"model/descriptor/sel": "auto:x"}, "`model/descriptor/sel` is .*F >= 1"),
    ({"model/descriptor/rcut": 0}, "`model/descriptor/rcut` is 0; expected a number >"),
    ({"model/descriptor/rcut": "6"}, "`model/descriptor/rcut` is .*type float"),
    ({"model/descriptor/rcut": float("nan")}, "`model/descriptor/rcut` is NaN"),
    ({"model/descriptor/rcut_smth": -1}, "`model/descriptor/rcut_smth` is -1"),
    ({"model/descriptor/neuron": []}, "`model/descriptor/neuron` is "),
    ({"model/descriptor/neuron": [0]}, "`model/descriptor/neuron` is "),
    ({"model/descriptor/axis_neuron": 0}, "`model/descriptor/axis_neuron` is 0"),
    ({"model/descriptor/activation_function": "tan"}, '"tan"; expected one of tanh'),
    ({"model/descriptor/activation_function": "relu:2"}, '"relu:2"; expected one of'),
    ({"model/descriptor/precision": "float16"}, '"float16", which.*use "float32"'),
    ({"model/fitting_net/precision": "bfloat16"}, 'precision` is "bfloat16"'),
    ({"model/descriptor/seed": -1}, "`model/descriptor/seed` is -1; .*integer from 0"),
    ({"model/descriptor/seed": 1.5}, "`model/descriptor/seed` is 1.5; .*int or null"),
    ({"model/descriptor/seed": True}, "`model/descriptor/seed` is true"),
    ({"model/descriptor/exclude_types": [[0]]}, "exclude_types` is .*pairs"),
    ({"model/descriptor/exclude_types": [[-1, 0]]}, "exclude_types` is .*pairs"),
    ({"model/descriptor/env_protection": -0.1}, "env_protection` is -0.1"),
    ({"model/descriptor/resnet_dt": 1}, "`model/descriptor/resnet_dt` is 1; .*bool"),
    # fitting net
    ({"model/fitting_net/type": "energy"}, "`model/fitting_net/type` is .*ener"),
    ({"model/fitting_net/neuron": []}, "`model/fitting_net/neuron` is"),
    ({"model/fitting_net/rcond": -1}, "`model/fitting_net/rcond` is -1"),
    ({"model/fitting_net/numb_fparam": -1}, "numb_fparam` is -1; .*integer >= 0"),
    ({"model/fitting_net/numb_fparam": 1.0}, "numb_fparam` is 1.0; .*Write 1"),
    ({"model/fitting_net/numb_fparam": True}, "numb_fparam` is true; .*a number"),
    # spin
    ({"model/spin/use_spin": MISSING}, "`model/spin/use_spin` is missing"),
    ({"model/spin/use_spin": []}, "use_spin` is .*at least one spin type"),
    ({"model/spin/use_spin": ["Fe", "Fe"]}, "use_spin` is .*none twice"),
    ({"model/spin/use_spin": [2]}, "use_spin` is .2.; expected some of .0, 1."),
    ({"model/spin/use_spin": [-1]}, "use_spin` is .-1.; expected some of"),
    ({"model/spin/use_spin": [0, 0]}, "use_spin` is .*none twice"),
    ({"model/spin/use_spin": "Fe"}, "`model/spin/use_spin` is .*type list"),
    ({"model/spin/virtual_len": MISSING}, "`model/spin` lacks `virtual_len`"),
    (
        {"model/spin/virtual_len": MISSING, "model/spin/spin_norm": MISSING},
        "lacks `virtual_len` and `spin_norm`.*`virtual_scale`",
    ),
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
    (
        {"learning_rate/stop_lr": MISSING, "learning_rate/stop_lr_ratio": 2.0},
        r"stop_lr_ratio` is 2.0; expected a number in \(0, 1\]",
    ),
    ({"learning_rate/decay_steps": 0}, "`learning_rate/decay_steps` is 0"),
    ({"learning_rate/decay_rate": 1.5}, "`learning_rate/decay_rate` is 1.5"),
    ({"learning_rate/warmup_steps": -1}, "`learning_rate/warmup_steps` is -1"),
    ({"learning_rate/warmup_ratio": 1}, "`learning_rate/warmup_ratio` is 1"),
    ({"learning_rate/warmup_start_factor": -1}, "warmup_start_factor` is -1"),
    ({"learning_rate/type": "expo"}, '"expo"; expected one of "exp"'),
    # loss
    ({"loss": MISSING}, '`loss/type` is missing.*"ener" in DeePMD-kit.*ener_spin'),
    ({"loss": None}, "`loss/type` is missing"),
    ({"loss/type": "ener_spins"}, '"ener_spins"; expected one of "ener_spin"'),
    ({"loss/start_pref_e": -1}, "`loss/start_pref_e` is -1"),
    ({"loss/limit_pref_fm": -0.5}, "`loss/limit_pref_fm` is -0.5"),
    ({"loss/loss_func": "huber"}, '`loss/loss_func` is "huber"; .*"mse" or "mae"'),
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
    ({"training/numb_steps": -1}, "`training/numb_steps` is -1"),
    ({"training/numb_steps": 2**63}, "`training/numb_steps` is .*integers of 64 bits"),
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
    ({"training/training_data/numb_btch": 1}, "belongs to `training/validation_data`"),
    ({"loss/seed": 1}, "belongs to .*descriptor` or .*fitting_net` or `training`"),
    ({"training/type_map": []}, "`training/type_map` .*belongs to `model`"),
    ({"loss/xyz": 1}, "`loss/xyz` is not .*the keys there are `type`, `start_pref_e`"),
    ({"optimizer/beta3": 1}, "`optimizer/beta3` is not a key.*`adam_beta"),
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
    assert len(message) < 380
    assert repr(data) == repr(before)


def test_not_an_object():
    """The input itself may be wrong."""
    with pytest.raises(InputError, match=r"The input is .1.; expected an object"):
        normalize([1])


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
        ("input.json", "", "not valid JSON: .*line 1, column 1"),
        ("input.yaml", "a: \x07", "not valid YAML"),
        ("input.yaml", "", "must hold an object at its top level.*NoneType"),
        ("input.json", "[" * 100000, "nested too deeply"),
        ("input.yaml", "a: {b: 1, c: 2, b: 3}", "gives `b` 2 times in one object"),
        ("input.yaml", "a: &x [*x]", "holds what no input can: it contains itself"),
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


def test_folder(tmp_path):
    """A folder is no file, nor what a wrong name may have meant."""
    (tmp_path / "in.json").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder, not an input file"):
        load_input(tmp_path / "in.json")
    with pytest.raises(FileNotFoundError, match="`dp-spin init DATA`"):
        load_input(tmp_path / "im.json")


def test_missing_file(tmp_path):
    """A missing file has the usual type of error, and one of like name is named."""
    with pytest.raises(
        FileNotFoundError, match=r"no input file '.*absent\.json'\. `dp-spin init DATA`"
    ):
        load_input(tmp_path / "absent.json")
    write(tmp_path, "input.json", "{}")
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*/input\.json'\?"):
        load_input(tmp_path / "imput.json")
