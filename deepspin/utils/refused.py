# SPDX-License-Identifier: Apache-2.0
"""What `deepspin.utils.inputs` refuses, and the words for it.

`REFUSED` and `CHOICES` list what DeePMD-kit 3.2.0 has and deepspin has not. An option
at a neutral value (one that changes nothing here) is accepted and dropped, so a
complete `out.json` or `input_v2_compat.json` of DeePMD-kit passes; any other value is
refused by name. A null is always neutral.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from dargs import Argument
from dargs.dargs import ArgumentError, ArgumentKeyError, ArgumentTypeError

__all__ = ["CHOICES", "REFUSED", "InputError", "bad", "explain", "refuse", "show"]

#: Neutral whatever its value, because the option has no effect here.
ANY = (object(),)
#: Neutral at no value but null.
NEVER = ()

_REMOVE = "remove it"
_MULTI_TASK = "train one model per input file; deepspin has no multi-task training"
_TABLE = "remove it; deepspin adds no tabulated pair interaction"
_PARAMETER = "remove it; deepspin takes no atomic parameters"
_DATA = "move it to `training/training_data`, where DeePMD-kit 2 and later have it"
_WARMUP = "move it to `learning_rate`"
_OPTIMIZER = "move it to `optimizer`"
_ADAM = "remove it; deepspin trains with Adam or AdamW"
_OLD = "this is an input of DeePMD-kit 0.x; convert it to the present form first"
_FORCE = "the loss `ener_spin` calls it `start_pref_fr` and `start_pref_fm`"
_FORCE_LIMIT = "the loss `ener_spin` calls it `limit_pref_fr` and `limit_pref_fm`"
_IGNORED = "remove it; DeePMD-kit's `ener_spin` loss ignores it as well"
_BATCH = 'use "auto:N", so many frames that a batch has at least N atoms, or a number'
_PRECISION = 'use "float32" or "float64"'

#: Path, the last part possibly with its aliases: (neutral values, what to do).
REFUSED: dict[str, tuple[tuple, str]] = {
    # before there was a `model` section
    "use_smooth|sel_a|sel_r|filter_neuron|fitting_neuron|stop_batch": (NEVER, _OLD),
    # several models at once
    "model/model_dict|shared_dict": (({},), _MULTI_TASK),
    "loss_dict": (({},), _MULTI_TASK),
    "training/data_dict|model_prob|num_epoch_dict": (({},), _MULTI_TASK),
    "model/finetune_head": (NEVER, _MULTI_TASK),
    "model/model_branch_alias": (([],), _MULTI_TASK),
    # model
    "model/data_bias_nsample": (ANY, _REMOVE),
    "model/use_srtab": (NEVER, _TABLE),
    "model/smin_alpha|sw_rmin|sw_rmax|srtab_add_bias": (ANY, _TABLE),
    "model/pair_exclude_types": (([],), "use `model/descriptor/exclude_types`"),
    "model/atom_exclude_types": (([],), _REMOVE),
    "model/preset_out_bias": (({},), "use `model/fitting_net/atom_ener`"),
    "model/type_embedding": (
        NEVER,
        "remove it; se_e2_a has one embedding net per type instead",
    ),
    "model/modifier": (NEVER, "remove it; deepspin has no long-range correction"),
    "model/compress": (
        NEVER,
        "remove it; compress the trained model with `dp-spin compress`",
    ),
    "model/info": (({},), "keep notes in a key that starts with `_comment`"),
    "model/bridging_method": (
        ("None", "none", "NONE"),
        "remove it; deepspin has no short-range bridging",
    ),
    "model/bridging_r_inner|bridging_r_outer": (ANY, _REMOVE),
    "model/spin/scheme": (
        ("deepspin",),
        'remove it or use "deepspin", the scheme with virtual atoms',
    ),
    "model/spin/allow_missing_label": (
        (False,),
        "give every system its spins: zeros in spin.npy where there are none, for which"
        ' `"type": "invariant"`, or `env_protection` above 0, has a place',
    ),
    "model/fitting_net/numb_aparam": ((0,), _PARAMETER),
    "model/fitting_net/default_fparam": (
        ([],),
        "remove it; give every system its frame parameters in fparam.npy",
    ),
    "model/fitting_net/use_aparam_as_mask": ((False,), _PARAMETER),
    "model/fitting_net/dim_case_embd": ((0,), _MULTI_TASK),
    "model/fitting_net/layer_name": (
        ([],),
        "remove it; deepspin shares no layers between fitting nets",
    ),
    "model/fitting_net/spin": (NEVER, "move it to `model/spin`"),
    # learning_rate
    "learning_rate/scale_by_worker": (
        ("linear", "sqrt", "none"),
        'remove it, or use one of "linear", "sqrt", "none"; workers divide each batch, '
        "so that no rate is scaled",
    ),
    # optimizer
    "optimizer/kf_blocksize|kf_start_pref_e|kf_limit_pref_e": (NEVER, _ADAM),
    "optimizer/kf_start_pref_f|kf_limit_pref_f": (NEVER, _ADAM),
    "optimizer/momentum|muon_momentum|lr_adjust|lr_adjust_coeff": (NEVER, _ADAM),
    "optimizer/muon_mode|enable_gram|flash_muon|magma_muon": (NEVER, _ADAM),
    # loss
    "loss/start_pref_f": (NEVER, _FORCE),
    "loss/limit_pref_f": (NEVER, _FORCE_LIMIT),
    "loss/start_pref_pf|limit_pref_pf": ((0,), _IGNORED),
    "loss/relative_f": (NEVER, _IGNORED),
    # data
    "training/training_data/set_prefix": (("set",), "name the folders `set.*`"),
    "training/validation_data/set_prefix": (("set",), "name the folders `set.*`"),
    "training/training_data/min_pair_dist": (
        (0,),
        "remove it; take frames with too close atoms out of the data",
    ),
    # training
    "training/systems|batch_size|set_prefix|sys_probs|sys_weights": (NEVER, _DATA),
    "training/auto_prob|auto_prob_style|sys_prob": (NEVER, _DATA),
    "training/numb_test": (ANY, _REMOVE),
    "training/warmup_steps|warmup_ratio|warmup_start_factor": (NEVER, _WARMUP),
    "training/opt_type": (("Adam",), "move it to `optimizer`, as `type`"),
    "training/adam_beta1": ((0.9,), _OPTIMIZER),
    "training/adam_beta2": ((0.999,), _OPTIMIZER),
    "training/weight_decay": ((0,), _OPTIMIZER),
    "training/kf_blocksize|kf_start_pref_e|kf_limit_pref_e": (ANY, _ADAM),
    "training/kf_start_pref_f|kf_limit_pref_f": (ANY, _ADAM),
    "training/momentum|muon_momentum|lr_adjust|lr_adjust_coeff": (ANY, _ADAM),
    "training/muon_2d_only|min_2d_dim": (ANY, _ADAM),
    "training/mixed_precision": (
        NEVER,
        "remove it; set `precision` of the descriptor and the fitting net",
    ),
    "training/zero_stage": ((0,), "remove it; deepspin trains in one process"),
    "training/neighbor_graph_method": (ANY, _REMOVE),
    "training/enable_compile": (ANY, "use `training/jit_compile`"),
    "training/enable_tf32": ((False,), "remove it; training does not use TF32"),
    # sections of their own
    "validating/compiled_infer|tf32_infer|amp_infer": (
        (False,),
        "remove it; evaluations are compiled, in the model's own precision",
    ),
    "nvnmd/enable": ((False,), "remove it; deepspin does not train for NVNMD hardware"),
    "nvnmd/version|max_nnei|net_size|map_file|config_file|weight_file": (ANY, _REMOVE),
    "nvnmd/restore_descriptor|restore_fitting_net": (ANY, _REMOVE),
    "nvnmd/quantize_descriptor|quantize_fitting_net": (ANY, _REMOVE),
}

#: Sections that deepspin lacks as a whole: dropped when only neutral options are left.
SECTIONS = ("nvnmd",)

#: Path of a choice: (DeePMD-kit's choices that deepspin lacks, what to do). What
#: follows a colon, as in "max:256", does not matter.
CHOICES: dict[str, tuple[list[str], str]] = {
    "model/type": (
        "dpa4 DPA4 SeZM sezm frozen pairtab pairwise_dprc linear_ener"
        " inner_potential".split(),
        'remove it or use "standard"',
    ),
    "model/descriptor/type": (
        "loc_frame dpa4c DPA4C dpa4 DPA4 SeZM sezm se_e3 se_at se_a_3be se_t se_a_tpe"
        " se_a_ebd se_e2_r se_r hybrid se_atten dpa1 se_e3_tebd se_atten_v2 dpa2 dpa3"
        " se_a_ebd_v2 se_a_tpe_v2 se_a_mask".split(),
        'use "se_e2_a"',
    ),
    "model/descriptor/precision": (["float16", "bfloat16"], _PRECISION),
    "model/fitting_net/precision": (["float16", "bfloat16"], _PRECISION),
    "model/fitting_net/type": (
        "dpa4_ener sezm_ener dos population property polar dipole".split(),
        'use "ener"',
    ),
    "loss/type": (
        "ener ener_hess dens dos population property tensor".split(),
        'use "ener_spin", with `start_pref_fr` and `start_pref_fm` for the forces',
    ),
    "optimizer/type": (["LKF", "AdaMuon", "HybridMuon"], 'use "Adam" or "AdamW"'),
    "training/training_data/batch_size": (["max", "filter", "mixed"], _BATCH),
    "training/validation_data/batch_size": (["max", "filter", "mixed"], _BATCH),
}

_SPIN_EXAMPLE = (
    '"spin": {"use_spin": [true, false], "virtual_len": [0.4], "spin_norm": [1.2737]}'
)


class InputError(ValueError):
    """A mistake in `input.json`, told in one line that names its place."""

    def __init__(self, message: str):
        super().__init__(r"\n".join(message.splitlines()))


def show(value: object) -> str:
    """Write a value as in JSON, shortened.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    str
        At most 80 characters.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def bad(path: str, received: object, expected: str, fix: str = "") -> InputError:
    """Make the error for a value that is not as it must be.

    Parameters
    ----------
    path : str
        Where, such as `model/descriptor/sel`.
    received : object
        The value there.
    expected : str
        What would be right.
    fix : str
        What to do, when that is not said yet.

    Returns
    -------
    InputError
        To be raised.
    """
    end = f" {fix}." if fix else ""
    return InputError(f"`{path}` is {show(received)}; expected {expected}.{end}")


def refuse(data: dict) -> dict:
    """Refuse what deepspin lacks; drop what it lacks but does not matter.

    Parameters
    ----------
    data : dict
        The input without comments. Changed in place.

    Returns
    -------
    dict
        The same input.

    Raises
    ------
    InputError
        For an option or a choice of the tables, or a section that is missing.
    """
    if "model_dict" not in _section(data, "model/")[0]:
        _require_spin(data)
    for path, (choices, advice) in CHOICES.items():
        section, key = _section(data, path)
        value = section.get(key)
        if isinstance(value, str) and value.partition(":")[0] in choices:
            raise _lacks(path, value, advice)
    for paths, (neutral, advice) in REFUSED.items():
        section, names = _section(data, paths)
        for key in names.split("|"):
            if key in section and not _is_neutral(value := section.pop(key), neutral):
                path = f"{paths.rpartition('/')[0]}/{key}".strip("/")
                raise _lacks(path, value, advice)
    for name in SECTIONS:
        _drop_section(data, name)
    return data


def _lacks(path: str, value: object, advice: str) -> InputError:
    return InputError(
        f"`{path}` is {show(value)}, which DeePMD-kit has but deepspin has not:"
        f" {advice}."
    )


def _section(data: Any, path: str) -> tuple[dict, str]:
    """Find the object that holds the last part of `path`; empty if there is none."""
    *parents, key = path.split("/")
    for name in parents:
        data = data.get(name)
        if not isinstance(data, dict):
            return {}, key
    return data, key


def _is_neutral(value: object, neutral: tuple) -> bool:
    return (
        value is None
        or neutral is ANY
        or any(
            value == item and isinstance(value, bool) == isinstance(item, bool)
            for item in neutral
        )
    )


def _drop_section(data: dict, name: str) -> None:
    """Drop a section whose options were all neutral."""
    section = data.pop(name, None)
    if section is None or section == {}:
        return
    if not isinstance(section, dict):
        raise bad(name, section, "an object")
    rows = [path.split("/")[1] for path in REFUSED if path.startswith(f"{name}/")]
    known = [key for row in rows for key in row.split("|")]
    key = next(iter(section))
    _unknown(f"{name}/{key}", key, known, {})


def _require_spin(data: dict) -> None:
    """Explain what an input for a model without spins lacks."""
    model = data.get("model")
    if isinstance(model, dict) and model.get("spin") is None:
        raise InputError(
            f"`model/spin` is missing: deepspin fits models with spins. Add for example"
            f" {_SPIN_EXAMPLE}, or use DeePMD-kit for a model without spins."
        )
    loss = data.get("loss") or {}
    if model is not None and isinstance(loss, dict) and loss.get("type") is None:
        raise InputError(
            '`loss/type` is missing, which stands for "ener" in DeePMD-kit; '
            + CHOICES["loss/type"][1]
            + "."
        )


def explain(err: ArgumentError, base: Argument, data: dict) -> NoReturn:
    """Put an error of dargs into our words: place, received, expected, fix.

    Parameters
    ----------
    err : dargs.dargs.ArgumentError
        What dargs raised.
    base : dargs.Argument
        The tree that was checked.
    data : dict
        The input that was checked, with aliases already replaced.

    Raises
    ------
    InputError
        Always.
    """
    named = re.search(r"key `(.*?)`", err.message, re.DOTALL)
    key = named.group(1) if named else ""
    path = f"{err.path}/{key}".strip("/")
    section = _section(data, f"{err.path}/")[0] if err.path else data
    value = section.get(key)
    if "undefined key" in err.message:
        allowed = _arguments_at(base, data, err.path)
        aliases = {alias: a.name for a in allowed.values() for alias in a.alias}
        _unknown(path, key, [*allowed, *aliases], aliases, _places(base, key))
    if isinstance(err, ArgumentKeyError):
        raise InputError(
            f"`{path}` is missing, and has no default. {_needed(base, data, err, key)}"
        ) from err
    if isinstance(err, ArgumentTypeError):
        found = re.search(r"requires <?([^>]*)>? but", err.message)
        names = found.group(1) if found else "another"
        kinds = sorted(_KINDS.get(k, k) for k in names.split("|"))
        fix = ""
        if isinstance(value, float) and value.is_integer() and "int" in kinds:
            fix = f"Write {int(value)}"
        raise bad(path, value, f"type {' or '.join(kinds)}", fix) from err
    choice = r"invalid choice .* for flag key `(.*?)`"
    if flag := re.search(choice, err.message, re.DOTALL):
        key = flag.group(1)
        argument = _argument_at(base, data, err.path)
        choices = [*argument.sub_variants[key].choice_dict]
        expected = "one of " + ", ".join(map(show, choices))
        raise bad(f"{err.path}/{key}", section.get(key), expected) from err
    expected = err.message.partition("extra checking. ")[2]
    raise bad(path, value, expected) from err


def _needed(base: Argument, data: dict, err: ArgumentError, key: str) -> str:
    """Tell what belongs to a key that is missing."""
    argument = _argument_at(base, data, err.path)
    if key in argument.sub_variants:
        choices = argument.sub_variants[key].choice_dict
        return f"Add it: {' or '.join(map(show, choices))}."
    doc = argument.flatten_sub(_section(data, f"{err.path}/")[0])[key].doc
    return f"Add it: {doc.partition('. ')[0].rstrip('.').replace('``', '`')}."


_KINDS = {
    **{"NoneType": "null", "dict": "object"},
    "list[list[float]]": "list of lists of numbers",
}


def _unknown(
    path: str,
    key: str,
    names: Collection[str],
    aliases: Mapping[str, str],
    places: Sequence[str] = (),
) -> NoReturn:
    """Name the key that was meant, the place where it belongs, or all keys."""
    wrong = f"`{path}` is not a key of the input"
    if key in aliases:
        name = aliases[key]
        raise InputError(
            f"{wrong}: it is another name of `{name}`, which is also given; keep one."
        )
    if places:
        belongs = " or ".join(f"`{place}`" for place in places)
        raise InputError(f"{wrong}: it belongs to {belongs}.")
    if close := difflib.get_close_matches(key, names, n=1):
        raise InputError(f"{wrong}: did you mean `{close[0]}`?")
    known = ", ".join(f"`{name}`" for name in names if name not in aliases)
    raise InputError(f"{wrong}: the keys there are {known}.")


def _argument_at(base: Argument, data: dict, path: str) -> Argument:
    """Follow `path` down the tree, choosing variants as the data do."""
    argument = base
    for name in filter(None, path.split("/")):
        argument = argument.flatten_sub(data)[name]
        data = data[name]
    return argument


def _arguments_at(base: Argument, data: dict, path: str) -> dict[str, Argument]:
    section = _section(data, f"{path}/")[0] if path else data
    return _argument_at(base, data, path).flatten_sub(section)


def _places(argument: Argument, key: str, path: str = "") -> list[str]:
    """All sections of the tree that have `key`."""
    subs = list(argument.sub_fields.values())
    for variant in argument.sub_variants.values():
        for choice in variant.choice_dict.values():
            subs += choice.sub_fields.values()
    found = (
        [path or "the top level"]
        if any(key in (s.name, *s.alias) for s in subs)
        else []
    )
    for sub in subs:
        found += _places(sub, key, f"{path}/{sub.name}".strip("/"))
    return found
