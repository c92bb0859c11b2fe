# SPDX-License-Identifier: Apache-2.0
"""What DeePMD-kit has and deepspin has not: refused with advice, or dropped."""

from __future__ import annotations

import copy
import re

import pytest
from inputs import (
    MISSING,
    TREE,
    changed,
    virtual_atom_input,
)

from deepspin.main import main
from deepspin.utils.inputs import normalize
from deepspin.utils.refused import ANY, CHOICES, REFUSED, SECTIONS, InputError

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


def test_a_complete_input_of_deepmd_means_the_same():
    """Neutral options of DeePMD-kit are dropped."""
    full = normalize(changed(PEER_DEFAULTS))
    assert full == normalize(virtual_atom_input())


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
    with pytest.raises(InputError, match=r"`training/zero_stage` is false"):
        normalize(changed({"training/zero_stage": False}))
    with pytest.raises(InputError, match="`training/enable_tf32` is 0"):
        normalize(changed({"training/enable_tf32": 0}))


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


def test_long_values_are_shortened():
    """A long list does not fill the screen."""
    with pytest.raises(
        InputError, match=r"`model/descriptor/sel` is \[1, 1, .*\.\.\.;"
    ):
        normalize(changed({"model/descriptor/sel": [1] * 1000}))


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


def test_advice_names_what_there_is():
    """Options and verbs that an advice recommends exist."""
    advice = [row[2] for row in ROWS] + [row[1] for row in CHOICES.values()]
    quoted = {word for text in advice for word in re.findall("`(.+?)`", text)}
    paths = {word for word in quoted if "/" in word}
    assert "training/jit_compile" in paths and paths <= set(TREE)
    verbs = {word for word in quoted if word.startswith("dp-spin ")}
    assert "dp-spin compress" in verbs
    for verb in verbs:
        with pytest.raises(SystemExit) as end:
            main([*verb.split()[1:], "--help"])
        assert end.value.code == 0, verb
