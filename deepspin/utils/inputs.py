# SPDX-License-Identifier: Apache-2.0
"""Reading an input, checking it against the trees of `argcheck`, completing it.

Nothing here imports TensorFlow: a mistake in `input.json` is answered at once.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dargs import Argument
from dargs.dargs import ArgumentError

from deepspin.spins.schemes import DEFAULT, Scheme, build_scheme
from deepspin.spins.types import full_names, split_names
from deepspin.utils.argcheck import (
    PREFACTORS,
    baseline_args,
    spin_args,
    train_args,
)
from deepspin.utils.argcheck_training import check_training, check_validating
from deepspin.utils.limits import check_tree, read_text
from deepspin.utils.refused import InputError, bad, explain, refuse, show

if TYPE_CHECKING:
    import yaml

__all__ = ["load_input", "normalize"]

# --- Reading --------------------------------------------------------------------------


def load_input(path: str | Path) -> dict:
    """Read `input.json`, or the same in YAML.

    Parameters
    ----------
    path : str or Path
        File that ends in `.json`, `.yaml` or `.yml`.

    Returns
    -------
    dict
        The input as it is written, unchecked.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file is not JSON or YAML, or not an object.
    """
    path = Path(path)
    readers = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml}
    if path.suffix not in readers:
        raise InputError(
            f"'{path}' must end in .json, .yaml or .yml. Write it in JSON or YAML."
        )
    if path.is_dir():
        raise FileNotFoundError(
            f"'{path}' is a folder, not an input file. Name a file, such as one in it."
        )
    if not path.is_file():
        files = (p for p in path.parent.glob("*") if p.is_file())
        names = [p.name for p in files if p.suffix in readers]
        close = difflib.get_close_matches(path.name, names, n=1)
        hint = "`dp-spin init DATA` writes one to begin with."
        hint = f"Did you mean '{path.with_name(close[0])}'?" if close else hint
        raise FileNotFoundError(f"There is no input file '{path}'. {hint}")
    try:
        text = read_text(path, encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise InputError(
            f"'{path}' is not text in UTF-8: {err.reason} at byte {err.start}. Save it"
            " in UTF-8."
        ) from err
    data = readers[path.suffix](text, path)
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise InputError(
            f"'{path}' must hold an object at its top level, with `model`, `loss` and"
            f" so on. Received: {kind}"
        )
    return data


def _parse_json(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict:
        _refuse_twice([key for key, _ in pairs], path)
        return dict(pairs)

    try:
        data = json.loads(text, object_pairs_hook=unique)
        check_tree(data)
    except json.JSONDecodeError as err:
        raise InputError(
            f"'{path}' is not valid JSON: {err.msg} at line {err.lineno},"
            f" column {err.colno}. Correct it there, or just before."
        ) from err
    except InputError:
        raise
    except RecursionError as err:
        raise InputError(f"'{path}' is nested too deeply to be an input.") from err
    except ValueError as err:  # a number of thousands of digits, too many levels
        text = _line(err).partition(";")[0]
        raise InputError(f"'{path}' holds what no input can: {text}.") from err
    return data


def _refuse_twice(keys: list[str], path: Path) -> None:
    """Refuse keys of one object that are given twice, but for comments."""
    for key, given in Counter(keys).items():
        if given > 1 and not key.startswith("_"):
            raise InputError(
                f"'{path}' gives `{key}` {given} times in one object. Keep one."
            )


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2 where it matters: 1e-3 is a number, No is not a boolean."""

        yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own way)
            first: [r for r in rows if r[0] != "tag:yaml.org,2002:bool"]
            for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Look at the keys as they are written; they may be merged later."""
            keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
            _refuse_twice([key for key in keys if key != "<<"], path)
            super().flatten_mapping(node)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool",
        re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
        list("tTfF"),
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
    try:
        data = yaml.load(text, Loader=Loader)
        check_tree(data)
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as err:
        raise InputError(
            f"'{path}' holds what no input can: {_line(err)}. Write plain numbers,"
            " words, lists and objects."
        ) from err
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(err, "problem", None) or "cannot be parsed"
        raise InputError(
            f"'{path}' is not valid YAML: {problem}{place}. Correct it there, or just"
            " before."
        ) from err
    return data


def _line(err: Exception) -> str:
    return " ".join(str(err).split())


# --- Normalisation --------------------------------------------------------------------


def normalize(data: dict) -> dict:
    """Check an input and complete it.

    Keys that start with an underscore are dropped, so are options of DeePMD-kit that
    deepspin lacks and that are set to no effect. Aliases become names, defaults are
    filled in, `use_spin` becomes a boolean per type, what belongs to spins a list per
    spin type, `atom_ener` a list of all types including virtual ones. The result can
    be normalized again and stays the same.

    Parameters
    ----------
    data : dict
        The input, as `load_input` returns it. Not changed.

    Returns
    -------
    dict
        The complete input.

    Raises
    ------
    InputError
        At the first mistake.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"The input is {show(data)}; expected an object with `model`, `loss` and"
            " so on."
        )
    base = Argument("input", dict, train_args())
    data = refuse(_without_comments(data))
    for name in ("optimizer", "validating"):  # dargs fills in what is there
        data.setdefault(name, {})
    weighed = _weighs(data)
    _refuse_other_scheme(data)
    try:
        base.normalize_value(data, inplace=True)
        base.check_value(data, strict=True)
    except ArgumentError as err:
        explain(err, base, data)
    base.traverse_value(data, value_hook=_check_numbers)
    _check_model(data["model"])
    check_training(data["training"], data["learning_rate"])
    stat_file = data["training"]["stat_file"]
    if stat_file and data["model"]["spin"]["type"] == "invariant":
        why = "whose statistics no such file has a place for"
        expected = f"none for an invariant model, {why}"
        raise bad("training/stat_file", stat_file, expected, "Remove it")
    _check_loss(data["loss"], data["model"]["spin"]["type"], weighed)
    _check_augmentation(data["training"]["augmentation"], data["model"]["spin"])
    check_validating(data["validating"], data["training"], data["loss"])
    factor = data["training"]["training_data"]["force_mag_factor"]
    if factor == "fit" and not data["model"]["spin"].get("baseline"):
        raise bad(
            "training/training_data/force_mag_factor",
            factor,
            'a number: only the baseline of `"spin": {"type": "invariant"}` finds it',
        )
    return data


def _refuse_other_scheme(data: dict) -> None:
    """Refuse options that another spin scheme than the chosen one has."""
    model = data.get("model")
    spin = model.get("spin") if isinstance(model, dict) else None
    if not isinstance(spin, dict):
        return
    choices = spin_args().sub_variants["type"].choice_dict
    chosen = spin.get("type", DEFAULT)
    if chosen not in choices:
        return
    for name, choice in choices.items():
        for key in spin:
            known = key in choice.sub_fields and key not in choices[chosen].sub_fields
            if known:
                raise InputError(
                    f"`model/spin/{key}` is an option of the scheme `{name}`, and "
                    f"`model/spin/type` is {show(chosen)}. Remove the option, or "
                    "change `type`."
                )


def _weighs(data: dict) -> bool:
    """Whether an input gives prefactors of its loss."""
    loss = data.get("loss")
    return isinstance(loss, dict) and any("_pref_" in str(name) for name in loss)


def _without_comments(data: Any, path: tuple[str, ...] = ()) -> Any:
    """Copy without keys that start with an underscore, as in DeePMD-kit."""
    if isinstance(data, list):
        return [_without_comments(item, path) for item in data]
    if not isinstance(data, dict):
        return data
    for key in data:
        if not isinstance(key, str):
            place = "/".join(path) or "the top level"
            raise InputError(f"The key {key!r} at `{place}` is not text; quote it.")
    return {
        key: _without_comments(value, (*path, key))
        for key, value in data.items()
        if not key.startswith("_") and key != "$schema"
    }


def _check_numbers(argument: Argument, value: object, path: list[str]) -> None:
    """Refuse what Python takes for numbers, and TensorFlow does not."""
    place = "/".join([*path, argument.name])
    allows_bool = any("bool" in str(dtype) for dtype in argument.dtype)
    for leaf in _leaves(value):
        if isinstance(leaf, bool) and not allows_bool:
            raise bad(place, value, "a number" if leaf is value else "numbers")
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise bad(place, value, "finite numbers")
        if isinstance(leaf, int) and abs(leaf) >= 2**63:
            raise bad(place, value, "integers of 64 bits")


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _check_model(model: dict) -> None:
    type_map = model["type_map"]
    if len(type_map) == 0 or len(set(type_map)) < len(type_map) or not all(type_map):
        raise bad("model/type_map", type_map, "at least one name, none twice or empty")
    spin = model["spin"]
    model["type_map"] = type_map = _real_types(type_map, spin["use_spin"])
    spin["use_spin"] = _use_spin(spin["use_spin"], type_map)
    SPIN_CHECKS[spin["type"]](spin, type_map)
    scheme = build_scheme(spin)
    if spin["type"] == "invariant":
        _check_nothing_is_lost(model["descriptor"])
    _check_descriptor(model["descriptor"], scheme)
    _check_fitting_net(model["fitting_net"], scheme)


def _real_types(type_map: list[str], use_spin: list) -> list[str]:
    """Names without those of virtual atoms, such as ``Ni_spin``, that may follow.

    DeePMD-kit's TensorFlow backend wants them where data with virtual atoms have a
    ``type_map.raw``, which then has them, too.
    """
    real, virtual = split_names(type_map)
    if all(isinstance(flag, bool) for flag in use_spin):
        named = len(use_spin) == len(type_map)
    else:
        known = dict(enumerate(type_map))
        named = any(known.get(item, item) in virtual for item in use_spin)
    if not virtual or named:  # types of atoms, whatever they are called
        return type_map
    wanted = full_names(real, _use_spin(use_spin, real))
    if type_map != wanted:
        raise bad(
            "model/type_map",
            type_map,
            f"{show(wanted)}: the names of atoms, then, if at all, those "
            "of the virtual atoms of all that have a spin, in that order",
        )
    return real


def _check_ener_spin(spin: dict, type_map: list[str]) -> None:
    """Make lists with one number per spin type of what goes with `use_spin`."""
    path, use_spin = "model/spin", spin["use_spin"]
    has_len = "virtual_len" in spin
    has_norm = "spin_norm" in spin
    if "virtual_scale" in spin:
        if has_len or has_norm:
            raise InputError(
                f"`{path}` has `virtual_scale` and also"
                f" `{'virtual_len' if has_len else 'spin_norm'}`; give `virtual_len`"
                " with `spin_norm`, or `virtual_scale` alone."
            )
    elif not (has_len and has_norm):
        missing = [k for k in ("virtual_len", "spin_norm") if k not in spin]
        raise InputError(
            f"`{path}` lacks {' and '.join(f'`{key}`' for key in missing)}; give"
            " `virtual_len` (Å) with `spin_norm` (μ_B), or `virtual_scale` (Å/μ_B)."
        )
    for key in ("virtual_len", "spin_norm", "virtual_scale"):
        if key in spin:
            path_of_key = f"{path}/{key}"
            spin[key] = _per_spin_type(path_of_key, spin[key], use_spin, type_map)


def _check_invariant(spin: dict, type_map: list[str]) -> None:
    """Fill in the options of the baseline."""
    del type_map
    path, baseline = "model/spin/baseline", spin["baseline"]
    if baseline is True:
        spin["baseline"] = baseline = {
            name: argument.default
            for name, argument in baseline_args().sub_fields.items()
        }
    if baseline and baseline["ncross"] > baseline["nradial"]:
        expected = f"at most `nradial` = {baseline['nradial']}"
        raise bad(f"{path}/ncross", baseline["ncross"], expected)
    weights = [name for name in baseline or () if name.startswith("weight_")]
    if baseline and not any(baseline[name] for name in weights):
        raise InputError(
            f"`{path}` has all weights at 0, so there is nothing to fit; expected at "
            f"least one of {', '.join(f'`{name}`' for name in weights)} > 0, or "
            "`baseline`: false."
        )


# what else each of `SCHEMES` asks of its options
SPIN_CHECKS = {"ener_spin": _check_ener_spin, "invariant": _check_invariant}


def _use_spin(given: list, type_map: list[str]) -> list[bool]:
    """One boolean per type, from booleans, type indices or names."""
    path, ntypes = "model/spin/use_spin", len(type_map)
    kinds = {type(item) for item in given}
    if kinds == {bool}:
        if len(given) != ntypes:
            names = show(type_map)
            raise bad(path, given, f"{ntypes} booleans, one per type of {names}")
        flags = given
    elif kinds <= {int} or kinds <= {str}:
        choices: Sequence = type_map if kinds == {str} else range(ntypes)
        if not set(given) <= set(choices) or len(set(given)) < len(given):
            names = show(list(choices))
            raise bad(path, given, f"some of {names}, none twice")
        flags = [choice in given for choice in choices]
    else:
        raise bad(path, given, "all booleans, all type indices or all names of types")
    if not any(flags):
        raise bad(path, given, "at least one spin type", "Name the magnetic types")
    return flags


def _per_spin_type(
    path: str, given: Any, use_spin: list[bool], type_map: list[str]
) -> list[float]:
    """One number per spin type, from one per spin type, one per type, or one."""
    nspin, ntypes = sum(use_spin), len(use_spin)
    if not isinstance(given, list):
        values = [given] * nspin
    elif len(given) == nspin:
        values = given
    elif len(given) == ntypes:
        values = [x for x, flag in zip(given, use_spin, strict=True) if flag]
    else:
        names = [n for n, flag in zip(type_map, use_spin, strict=True) if flag]
        counts = f"{nspin} (one per spin type, {', '.join(names)})"
        if nspin < ntypes:
            counts += f" or {ntypes} (one per type of `model/type_map`)"
        raise bad(path, given, f"one number for all, or a list of {counts}")
    if min(values) <= 0:
        raise bad(path, given, "numbers > 0")
    return values


def _check_descriptor(descriptor: dict, scheme: Scheme) -> None:
    path, ntypes = "model/descriptor", scheme.ntypes
    sel = descriptor["sel"]
    if isinstance(sel, list):
        if len(sel) != ntypes:
            raise bad(
                f"{path}/sel",
                sel,
                f"{ntypes} numbers, one per type of `model/type_map`",
                "Those for spins are added by deepspin",
            )
        if any(sel[t] == 0 for t in scheme.types.spin_types):
            raise bad(f"{path}/sel", sel, "a number >= 1 for each spin type")
    if descriptor["rcut_smth"] >= descriptor["rcut"]:
        raise bad(
            f"{path}/rcut_smth",
            descriptor["rcut_smth"],
            f"less than `rcut` = {show(descriptor['rcut'])} (Å)",
        )
    if descriptor["axis_neuron"] > descriptor["neuron"][-1]:
        raise bad(
            f"{path}/axis_neuron",
            descriptor["axis_neuron"],
            f"at most the last of `neuron` = {show(descriptor['neuron'])}",
        )
    nall = scheme.nblocks
    for pair in descriptor["exclude_types"]:
        if len(pair) != 2 or min(pair) < 0 or max(pair) >= nall:
            expected = f"pairs of type indices from 0 to {nall - 1}"
            raise bad(f"{path}/exclude_types", descriptor["exclude_types"], expected)
    _lower_activation(descriptor)


def _check_nothing_is_lost(descriptor: dict) -> None:
    """Refuse options of `se_e2_a` that an invariant model would not follow."""
    for key, neutral, fix in (
        ("exclude_types", [], "Every type sees every other there"),
        ("env_protection", 0.0, "Spins of 0 have their place there without it"),
        ("set_davg_zero", False, "There is no `davg`"),
    ):
        if descriptor[key] != neutral:
            raise bad(
                f"model/descriptor/{key}",
                descriptor[key],
                f"{show(neutral)} with the scheme `invariant`",
                fix,
            )


def _check_fitting_net(fitting_net: dict, scheme: Scheme) -> None:
    path = "model/fitting_net"
    trainable, nlayers = fitting_net["trainable"], len(fitting_net["neuron"]) + 1
    if isinstance(trainable, list) and len(trainable) != nlayers:
        expected = f"{nlayers} booleans: one per hidden layer and one for the output"
        raise bad(f"{path}/trainable", trainable, expected)
    atom_ener, ntypes = fitting_net["atom_ener"], scheme.ntypes
    nall, further = len(scheme.energy_types), scheme.energy_types[ntypes:]
    if atom_ener and len(atom_ener) == ntypes:
        # nothing is left for what else counts as an atom of a type with fixed energy
        fitting_net["atom_ener"] = atom_ener + [
            None if atom_ener[t] is None else 0.0 for t in further
        ]
    elif atom_ener and len(atom_ener) != nall:
        more = f", or {nall}, one more per spin type" if further else ""
        expected = f"{ntypes} numbers or nulls, one per type{more}"
        raise bad(f"{path}/atom_ener", atom_ener, expected)
    _lower_activation(fitting_net)


def _lower_activation(net: dict) -> None:
    net["activation_function"] = net["activation_function"].lower()


def _check_augmentation(kinds: list[str], spin: dict) -> None:
    """Refuse to teach a model what it has, or is told that there is not."""
    path, scheme = "training/augmentation", build_scheme(spin)
    for kind in kinds:
        if kind in scheme.symmetries:
            raise InputError(
                f"`{path}` has {show(kind)}, which is exact in this model"
                " (`model/spin`) and need not be learnt. Remove it."
            )
        if kind == "spin_rotation" and spin.get("soc"):
            raise InputError(
                f"`{path}` has {show(kind)}, for data without spin-orbit coupling, and"
                " `model/spin/soc` is true. Remove it, or set `soc` to false."
            )


def _check_loss(loss: dict, scheme: str, weighed: bool) -> None:
    if loss["prefactors"] is None:
        automatic = scheme == "invariant" and not weighed
        loss["prefactors"] = "auto" if automatic else "given"
    if loss["prefactors"] == "given" and loss["fm_longitudinal"] is None:
        loss["fm_longitudinal"] = 1.0
    if loss["prefactors"] == "given" and not any(
        loss[f"{end}_pref_{term}"] for end in ("start", "limit") for term in PREFACTORS
    ):
        raise InputError(
            "`loss` has all weights at 0, so there is nothing to learn; expected at"
            " least one of `start_pref_*` and `limit_pref_*` > 0."
        )


# --- Restarts -------------------------------------------------------------------------


def changed(before: Mapping, now: Mapping, free: Collection[str] = ()) -> list[str]:
    """Name the options, or sections, in which a run differs from its restart file.

    Parameters
    ----------
    before, now : Mapping
        What the file records, and what holds now.
    free : collection of str
        Names that may differ.

    Returns
    -------
    list of str
        Names in the order of `now`, then those that only `before` has.
    """
    names = dict.fromkeys([*now, *before])
    return [n for n in names if n not in free and before.get(n) != now.get(n)]
