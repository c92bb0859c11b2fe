# SPDX-License-Identifier: Apache-2.0
"""Beginning with a model of another input: its options, its types, its energy bias."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

from deepspin.data.dataset import DataSystem
from deepspin.interop.files import is_deepmd
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.renumber import renumbered, reorder_spin
from deepspin.modelfiles.archive import load_deepmd
from deepspin.modelfiles.find import read_metadata, resolve_checkpoint
from deepspin.spins.schemes import build_scheme
from deepspin.training.bias import change_bias
from deepspin.training.setup import Origin
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# of the section `model` these are the input's: what is trained, and statistics
_OWN = ("data_stat_nbatch", "data_stat_protect")
_OF_SPIN_TYPES = ("virtual_len", "spin_norm", "virtual_scale")


def with_script(content: dict, begun: str | None) -> dict:
    """Input with the section ``model`` of a model in place of its own.

    `trainable`, what is about statistics, and the order of the types stay as they are.

    Parameters
    ----------
    content : dict
        The input, normalised or not; its section ``model`` may be missing or hold as
        little as a `type_map`.
    begun : str, optional
        The model that the training begins with.

    Raises
    ------
    InputError
        There is none, it does not tell what it was made of, or it lacks a type.
    """
    if begun is None:
        raise InputError(
            "--use-pretrain-script takes the section `model` of a model that is begun "
            "with. Give one with -t, -i or -f."
        )
    path = resolve_checkpoint(begun)
    metadata = load_deepmd(path)[1] if is_deepmd(path) else read_metadata(path)
    script = metadata.get("input", {}).get("model")
    if script is None:
        raise InputError(
            f"'{path}' does not tell the section `model` that it was trained with: "
            "Keras wrote it. Leave out --use-pretrain-script, and give that section."
        )
    own = content.get("model")
    own = own if isinstance(own, dict) else {}
    names = own.get("type_map") or script["type_map"]
    _demand_types(names, script["type_map"], str(path))
    rest = [name for name in script["type_map"] if name not in names]
    script = _reordered(script, [*names, *rest])
    section = {**script, **{name: own[name] for name in _OWN if name in own}}
    for part in ("descriptor", "fitting_net"):
        given = own.get(part)
        if isinstance(given, dict) and "trainable" in given:
            section[part] = {**section[part], "trainable": given["trainable"]}
    other = list(_differences(own, section, "model"))
    told = f"; of the input this does not count: {', '.join(other)}" if other else ""
    log.info("`model` is that of '%s'%s", path, told)
    return {**content, "model": section}


def _reordered(section: dict, type_map: list[str]) -> dict:
    """Section ``model``, normalised, with its types in another order."""
    types = [section["type_map"].index(name) for name in type_map]
    blocks = build_scheme(section["spin"]).reordered(types)
    section = copy.deepcopy(section)
    reorder_spin(section["spin"], types)
    descriptor, fitting = section["descriptor"], section["fitting_net"]
    if isinstance(descriptor["sel"], list):
        descriptor["sel"] = [descriptor["sel"][t] for t in types]
    pairs = descriptor.get("exclude_types") or []
    descriptor["exclude_types"] = [[blocks.index(t) for t in pair] for pair in pairs]
    if fitting["atom_ener"]:
        fitting["atom_ener"] = [fitting["atom_ener"][b] for b in blocks]
    return {**section, "type_map": type_map}


def _differences(own: Any, other: Any, name: str) -> Iterator[str]:
    """What an input gives that is otherwise there, by name and value."""
    if isinstance(own, dict) and isinstance(other, dict):
        for key in own:
            if key in other:
                yield from _differences(own[key], other[key], f"{name}/{key}")
    elif own != other:
        yield f"{name}: {own}"


def _demand_types(type_map: list[str], known: list[str], name: str) -> None:
    missing = [t for t in type_map if t not in known]
    if missing:
        raise InputError(
            f"'{name}' knows no {' and no '.join(missing)}: its types are "
            f"{' '.join(known)}. Slots of further types would count in all "
            "sums over neighbours, and change what its weights mean. Train from "
            "scratch, on data of all types."
        )


def matched(options: dict, origin: Origin | None) -> tuple[dict, Origin | None]:
    """Input and model with the same types in the same order, matched by name.

    The order is the input's. Types of the model that the input does not name come last,
    and stay in the model as they are: to leave them out would change all energies,
    since their empty slots count.

    Parameters
    ----------
    options : dict
        A normalised input.
    origin : Origin, optional
        The model to begin with and its file.

    Raises
    ------
    InputError
        The model lacks a type of the input, or is of another scheme.
    """
    if origin is None:
        return options, None
    path, source = origin
    names = options["model"]["type_map"]
    if names == source.type_map:
        return options, origin
    _demand_types(names, source.type_map, str(path))
    wanted, there = options["model"]["spin"]["type"], source.spin.scheme.name
    if wanted != there:
        raise InputError(
            f"'{path}' is a model of the scheme `{there}`, and `model/spin/type` is "
            f'"{wanted}". Change that, or train from scratch.'
        )
    rest = [name for name in source.type_map if name not in names]
    model = renumbered(source, [*names, *rest])
    log.info(
        "'%s' has the types %s: matched by name%s",
        path,
        " ".join(source.type_map),
        f", and {' '.join(rest)} stays in the model" if rest else "",
    )
    section = _extended(options["model"], model) if rest else options["model"]
    return {**options, "model": section}, (path, model)


def _extended(section: dict, model: SpinEnergyModel) -> dict:
    """Section ``model`` of the first types of a model, completed by what that has."""
    first, scheme = len(section["type_map"]), model.spin.scheme
    rest = range(first, scheme.ntypes)
    spin, descriptor = dict(section["spin"]), dict(section["descriptor"])
    fitting = dict(section["fitting_net"])
    spin["use_spin"] = [*spin["use_spin"], *scheme.types.use_spin[first:]]
    before = sum(section["spin"]["use_spin"])
    for name in _OF_SPIN_TYPES:
        if name in spin:
            values = _per_spin_type(name, model.spin.options)
            spin[name] = [*spin[name], *values[before:]]
    if isinstance(descriptor["sel"], list):
        descriptor["sel"] = [
            *descriptor["sel"],
            *(model.descriptor.sel[t] for t in rest),
        ]
    pairs = [
        [t if t < first else t + len(rest) for t in pair]
        for pair in descriptor["exclude_types"]
    ]
    virtual = {first + len(rest) + k for k in range(before)}  # of the input's types
    own = {*range(first), *virtual}
    pairs += [list(p) for p in _excluded(model) if not set(p) <= own]
    descriptor["exclude_types"] = pairs
    if fitting["atom_ener"] or model.fitting.vacuum_types:
        fitting["atom_ener"] = _atom_ener(fitting["atom_ener"], first, model)
    return {
        **section,
        "type_map": list(model.type_map),
        "spin": spin,
        "descriptor": descriptor,
        "fitting_net": fitting,
    }


def _per_spin_type(name: str, options: dict) -> list[float]:
    """Option of a model's spin types, where need be in the words of an input."""
    if name in options:
        return options[name]
    pairs = zip(
        options.get("virtual_len", ()), options.get("spin_norm", ()), strict=True
    )
    scale = options.get("virtual_scale") or [length / norm for length, norm in pairs]
    return [1.0] * len(scale) if name == "spin_norm" else scale


def _excluded(model: SpinEnergyModel) -> list:
    return list(getattr(model.descriptor, "exclude_types", ()))


def _atom_ener(given: list, first: int, model: SpinEnergyModel) -> list[float | None]:
    """Option `atom_ener` of all types, virtual ones last, as it is normalised."""
    scheme, ntypes = model.spin.scheme, model.fitting.ntypes
    bias, energies = model.fitting.bias_atom_e.numpy(), []
    real, virtual = iter(given[:first]), iter(given[first:])
    for kind, t in enumerate(scheme.energy_types):
        if t < first:
            energies.append(next(real if kind < ntypes else virtual, None))
        elif t in model.fitting.vacuum_types:
            energies.append(float(bias[t]) if kind < ntypes else 0.0)
        else:
            energies.append(None)
    return energies


def adjust(model: SpinEnergyModel, options: dict, data: DataSystem) -> None:
    """Change the energy bias of a model by the data of its training, and tell.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    options : dict
        The normalised input; energies that its `atom_ener` gives stand.
    data : DataSystem
        The training data.
    """
    kinds = model.spin.scheme.energy_types
    energies = options["model"]["fitting_net"]["atom_ener"] or [None] * len(kinds)
    given = {}
    for t in model.fitting.vacuum_types:
        parts = [e for kind, e in zip(kinds, energies, strict=True) if kind == t]
        if None not in parts:
            given[t] = sum(parts)
    change_bias(model, data, given=given).tell()
