# SPDX-License-Identifier: Apache-2.0
"""The same model with its types in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.descriptor.spin_channels import SpinChannels
from deepspin.fit.baseline import Baseline
from deepspin.fit.ener import EnerFitting
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.invariant import InvariantSpin

# options of a spin layer that hold a number for each spin type
_OF_SPIN_TYPES = ("virtual_len", "spin_norm", "virtual_scale")


def renumbered(model: SpinEnergyModel, type_map: Sequence[str]) -> SpinEnergyModel:
    """The same model, the same energies, with its types in another order.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; it is left as it is.
    type_map : sequence of str
        Names of all its types in the new order.

    Returns
    -------
    SpinEnergyModel
        With weights of its own, not compiled.

    Raises
    ------
    ValueError
        These are not the names of the types of the model, each once.
    """
    if sorted(type_map) != sorted(model.type_map):
        raise ValueError(
            f"`type_map` must hold the types {model.type_map} in another order. "
            f"Received: {list(type_map)}"
        )
    types = [model.type_map.index(name) for name in type_map]
    blocks = model.spin.scheme.reordered(types)
    config = model.get_config()
    config["type_map"] = list(type_map)
    reorder_spin(config["spin"]["config"], types)
    descriptor = config["descriptor"]["config"]
    descriptor["sel"] = [model.descriptor.sel[b] for b in blocks]
    if "use_spin" in descriptor:
        descriptor["use_spin"] = [model.descriptor.use_spin[t] for t in types]
    if "exclude_types" in descriptor:
        pairs = descriptor["exclude_types"]
        descriptor["exclude_types"] = sorted(
            [blocks.index(t) for t in p] for p in pairs
        )
    if descriptor.get("leaves") is not None:
        nets = _nets(model.descriptor, types, blocks)
        descriptor["leaves"] = [descriptor["leaves"][n] for n in nets]
    fitting = config["fitting"]["config"]
    fitting["vacuum_types"] = sorted(map(types.index, fitting["vacuum_types"]))
    result = SpinEnergyModel.from_config(config)
    if isinstance(model.descriptor, DescrptSeA):
        _copy_se_e2_a(model.descriptor, result.descriptor, types, blocks)
    else:
        _copy_channels(model.descriptor, result.descriptor, types)
    _copy_fitting(model.fitting, result.fitting, types)
    if isinstance(model.spin, InvariantSpin):
        _copy_baseline(model.spin.baseline, result.spin.baseline, types)
    return result


def reorder_spin(config: dict[str, Any], types: Sequence[int]) -> None:
    """Put the options of a spin layer, or of ``model/spin``, into another order.

    Parameters
    ----------
    config : dict
        The options, `use_spin` as a flag of each type; changed.
    types : sequence of int
        Present number of each type, in the new order.
    """
    flags = config["use_spin"]
    magnetic = [t for t, flag in enumerate(flags) if flag]
    order = [magnetic.index(t) for t in types if flags[t]]
    config["use_spin"] = [flags[t] for t in types]
    for name in _OF_SPIN_TYPES:
        if config.get(name) is not None:
            config[name] = [config[name][k] for k in order]


def _nets(descriptor: DescrptSeA, types: Sequence[int], blocks: list[int]) -> list[int]:
    """Old number of each embedding net, or table, in the new order."""
    centres = types[:1] if descriptor.type_one_side else types
    return [descriptor.number(t, b) for t in centres for b in blocks]


def _copy_se_e2_a(
    old: DescrptSeA, new: DescrptSeA, types: Sequence[int], blocks: list[int]
) -> None:
    for name in ("davg", "dstd"):
        getattr(new, name).assign(np.asarray(getattr(old, name))[types])
    depth = 1 if old.tables else len(old.neuron)
    ours, theirs = new.tables or new.nets, old.tables or old.nets
    for k, n in enumerate(_nets(old, types, blocks)):
        for step in range(depth):
            layer = theirs[n * depth + step]
            ours[k * depth + step].set_weights(layer.get_weights())


def _copy_channels(old: SpinChannels, new: SpinChannels, types: Sequence[int]) -> None:
    ntypes, mixing = old.ntypes, np.asarray(old.mixing)
    by_type = mixing.reshape(ntypes, ntypes, old.nradial, -1)
    new.mixing.assign(by_type[types][:, types].reshape(mixing.shape))
    new.nearest.assign(np.asarray(old.nearest)[types][:, types])


def _copy_fitting(old: EnerFitting, new: EnerFitting, types: Sequence[int]) -> None:
    names = ["bias_atom_e"]
    if old.standardize:
        names += ["descrpt_avg", "descrpt_inv_std", "energy_scale"]
    for name in names:
        getattr(new, name).assign(np.asarray(getattr(old, name))[types])
    if old.numb_fparam:
        new.fparam_avg.assign(old.fparam_avg)
        new.fparam_inv_std.assign(old.fparam_inv_std)
    for k, t in enumerate(types):
        for ours, theirs in zip(new.net(k), old.net(t), strict=True):
            ours.set_weights(theirs.get_weights())


def _copy_baseline(
    old: Baseline | None, new: Baseline | None, types: Sequence[int]
) -> None:
    if old is None or new is None:
        return
    place = {label: m for m, label in enumerate(new.labels)}
    theta = np.zeros(len(new.labels))
    for label, value in zip(old.labels, np.asarray(old.theta), strict=True):
        theta[place[_label(label, types, place)]] = value
    new.theta.assign(theta)
    for name in ("longest", "stiffness"):
        getattr(new, name).assign(np.asarray(getattr(old, name))[types])


def _label(label: tuple, types: Sequence[int], known: dict[tuple, int]) -> tuple:
    """Label of a number of the baseline, its types by their new numbers.

    Of what is alike in two types, or in two sums, there is one order alone.
    """
    kind, *rest = label
    if kind == "site":
        return kind, types.index(rest[0]), rest[1]
    if len(rest) == 3:  # a pair of types, and a radial function
        a, b, k = types.index(rest[0]), types.index(rest[1]), rest[2]
        return (kind, a, b, k) if (kind, a, b, k) in known else (kind, b, a, k)
    a, *sums = rest
    a, left, right = types.index(a), sums[:2], sums[2:]
    left[0], right[0] = types.index(left[0]), types.index(right[0])
    direct = (kind, a, *left, *right)
    return direct if direct in known else (kind, a, *right, *left)
