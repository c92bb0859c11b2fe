# SPDX-License-Identifier: Apache-2.0
"""Write models in DeePMD-kit's own form, ``.dp`` (HDF5) or ``.yaml``.

Such a file holds a tree of options and arrays from which DeePMD-kit builds a model for
any of its backends but TensorFlow's old one. A spin model (``spin_ener``) has N types
and N more: type N + t stands for the virtual atoms of type t, and holds a place without
atoms where t has no spin. Every type of neighbours has its section of slots.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deepspin import __version__
from deepspin.descriptor.env_mat import cutoff_range
from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.fit.ener import EnerFitting
from deepspin.interop.tree import write_tree
from deepspin.model.ener import SpinEnergyModel
from deepspin.spins.schemes import demand
from deepspin.utils.network import ResidualDense

# options that stand in inputs under the same names
DESCRIPTOR = (
    *("type", "rcut", "rcut_smth", "neuron", "axis_neuron", "activation_function"),
    *("resnet_dt", "type_one_side", "env_protection", "set_davg_zero", "precision"),
    "trainable",
)
FITTING = (
    *("type", "neuron", "activation_function", "resnet_dt", "numb_fparam"),
    *("precision", "trainable"),
)
# where such a file holds what DeePMD-kit knows nothing of, and what that is
OURS, RANGES = "deepspin", ("nearest", "spin_range", "environments")


def write_dpmodel(model: SpinEnergyModel, path: str | Path, metadata: dict) -> None:
    """Write a model in DeePMD-kit's own form, whole or not at all.

    Sections that only hold a place get the `sel` of their types, as DeePMD-kit gives
    them, so that it never leaves out neighbours for them. Their slots add nothing, but
    count in the norm of the descriptor; the first layer of the fitting nets makes up
    for that.

    Parameters
    ----------
    model : SpinEnergyModel
        The model, not compressed.
    path : str
        File to write: HDF5 if it ends in ``.dp``, else YAML.
    metadata : dict
        Metadata of the model's file, see `read_metadata`; what it tells of the
        training's data is written too, the shortest distance where DeePMD-kit looks
        for it and the rest where only deepspin does.

    Raises
    ------
    ValueError
        The model is compressed.
    NotImplementedError
        Its spin scheme has no such form.
    OutputError
        The disk is full, or the like.
    """
    demand(model.spin.scheme, "deepmd")
    if model.compressed:
        raise ValueError(
            "A compressed model has no embedding nets to write. Write the model that "
            "it was made of."
        )
    writer, nearest = _Writer(model), metadata.get("min_nbor_dist")
    content = {
        "software": "deepspin",
        "version": __version__,
        "model": writer.model(),
        "model_def_script": writer.script(),
        "@variables": {} if nearest is None else {"min_nbor_dist": np.array(nearest)},
    }
    told = {name: metadata[name] for name in RANGES if name in metadata}
    if told:
        content[OURS] = told
    write_tree(path, content)


class _Writer:
    """Parts of the tree that describes a model.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    """

    def __init__(self, model: SpinEnergyModel):
        self.source, self.descriptor = model, model.descriptor
        scheme: Any = model.spin.scheme  # `demand` has seen to it that it is known
        self.ntypes = scheme.ntypes
        # number there of each type of neighbours, and the reverse
        self.numbers = [*range(self.ntypes), *(self.ntypes + t for t in scheme.owners)]
        self.sections = {number: e for e, number in enumerate(self.numbers)}
        self.unpaired = [
            self.ntypes + t
            for t, magnetic in enumerate(scheme.types.use_spin)
            if not magnetic
        ]
        sel = self.descriptor.sel
        self.sel = [
            sel[self.sections.get(j, j - self.ntypes)] for j in range(2 * self.ntypes)
        ]
        self.type_map = [*model.type_map, *(f"{x}_spin" for x in model.type_map)]
        self.excluded = [
            [self.numbers[e] for e in pair] for pair in self.descriptor.exclude_types
        ]
        self.spin = {
            "use_spin": list(scheme.types.use_spin),
            "virtual_scale": list(scheme.codec.scale),
        }

    def model(self) -> dict:
        """What stands for the model."""
        doubled = range(2 * self.ntypes)
        pairs = [[p, j] for p in self.unpaired for j in doubled] + self.excluded
        silent = list(doubled[self.ntypes :])
        return {
            "type": "spin_ener",
            "backbone_model": {
                "@class": "Model",
                "@version": 2,
                "type": "standard",
                "type_map": self.type_map,
                "atom_exclude_types": silent,
                "pair_exclude_types": pairs,
                "rcond": None,
                "preset_out_bias": None,
                "@variables": {
                    "out_bias": np.zeros([1, 2 * self.ntypes, 1]),
                    "out_std": np.ones([1, 2 * self.ntypes, 1]),
                },
                "descriptor": self._descriptor(pairs),
                "fitting": self._fitting(silent),
            },
            "spin": self.spin,
        }

    def script(self) -> dict:
        """Section ``model`` of an input for which DeePMD-kit builds such a model."""
        descriptor, fitting = self._descriptor([]), self._fitting([])
        return {
            "type_map": self.type_map[: self.ntypes],
            "descriptor": {
                **{name: descriptor[name] for name in DESCRIPTOR},
                "sel": self.sel[: self.ntypes],
            },
            "fitting_net": {name: fitting[name] for name in FITTING},
            "spin": self.spin,
            "pair_exclude_types": self.excluded,
        }

    def _descriptor(self, pairs: list[list[int]]) -> dict:
        descriptor = self.descriptor
        range_ = descriptor.rcut, descriptor.rcut_smth, descriptor.float32_cutoff
        _, begin, length = cutoff_range(*range_)
        # the difference is what matters; the cutoff moves by less than 1e-6 Å, where
        # the switch is 1e-17
        cutoffs = {"rcut": begin + length, "rcut_smth": begin}
        one_side = descriptor.type_one_side
        return {
            "@class": "Descriptor",
            "@version": 2,
            "type": "se_e2_a",
            **cutoffs,
            "sel": self.sel,
            "neuron": list(descriptor.neuron),
            "axis_neuron": descriptor.axis_neuron,
            "resnet_dt": descriptor.resnet_dt,
            "trainable": bool(descriptor.trainable),
            "type_one_side": one_side,
            "exclude_types": pairs,
            "env_protection": descriptor.env_protection,
            "set_davg_zero": descriptor.set_davg_zero,
            "activation_function": descriptor.activation_function,
            "precision": descriptor.compute_dtype,
            "spin": None,
            "env_mat": {
                **cutoffs,
                "protection": descriptor.env_protection,
                "use_exp_switch": False,
            },
            "embeddings": _collection(
                "embedding_network", self._embeddings(), 1 if one_side else 2
            ),
            "@variables": self._statistics(),
            "type_map": self.type_map,
        }

    def _statistics(self) -> dict:
        """Mean and width in every slot; 0 and 1 where a section adds nothing."""
        shape = 2 * self.ntypes, sum(self.sel), 4
        dtype = self.descriptor.compute_dtype
        davg, dstd = np.zeros(shape, dtype), np.ones(shape, dtype)
        ends = np.cumsum(self.sel)
        for j, e in self.sections.items():
            slots = slice(ends[j] - self.sel[j], ends[j])
            for i in range(self.ntypes):
                if not self.descriptor.excludes(i, e):
                    davg[i, slots] = self.descriptor.davg[i]
                    dstd[i, slots] = self.descriptor.dstd[i]
        return {"davg": davg, "dstd": dstd}

    def _embeddings(self) -> list[dict]:
        """Nets, the type of centres running fastest; of 0 where none is asked for."""
        descriptor = self.descriptor
        centres = 1 if descriptor.type_one_side else 2 * self.ntypes
        nets = []
        for j, i in itertools.product(range(2 * self.ntypes), range(centres)):
            used = j in self.sections and i < self.ntypes
            net = descriptor.net(i, self.sections[j]) if used else descriptor.net(0, 0)
            layers = [_layer(layer, 1.0 if used else 0.0) for layer in net]
            nets.append(self._net("EmbeddingNetwork", descriptor, layers, 1))
        return nets

    def _net(
        self,
        kind: str,
        owner: DescrptSeA | EnerFitting,
        layers: list[dict],
        width: int,
    ) -> dict:
        """A net of the descriptor or the fitting, which is its `owner`."""
        fitting = kind == "FittingNetwork"
        return {
            "@class": kind,
            "@version": 1 if fitting else 2,
            "in_dim": width,
            **({"out_dim": 1, "bias_out": True} if fitting else {"bias": True}),
            "neuron": list(owner.neuron),
            "activation_function": owner.activation_function,
            "resnet_dt": owner.resnet_dt,
            "precision": owner.compute_dtype,
            "layers": layers,
        }

    def _fitting(self, silent: list[int]) -> dict:
        fitting = self.source.fitting
        width = fitting.dim_descrpt + fitting.numb_fparam
        factor = np.ones((width, 1))  # the norm counts all sections
        norm = sum(self.sel) / sum(self.descriptor.sel)
        factor[: fitting.dim_descrpt] = norm**2
        nets = []
        for t in range(2 * self.ntypes):
            first, *others = fitting.net(t % self.ntypes)
            scale = 1.0 if t < self.ntypes else 0.0
            layers = [_layer(first, scale, factor), *(_layer(x, scale) for x in others)]
            nets.append(self._net("FittingNetwork", fitting, layers, width))
        return {
            "@class": "Fitting",
            "@version": 4,
            "type": "ener",
            "var_name": "energy",
            "ntypes": 2 * self.ntypes,
            "dim_descrpt": fitting.dim_descrpt,
            "dim_out": 1,
            "neuron": list(fitting.neuron),
            "resnet_dt": fitting.resnet_dt,
            "numb_fparam": fitting.numb_fparam,
            "numb_aparam": 0,
            "dim_case_embd": 0,
            "default_fparam": None,
            "rcond": None,
            "activation_function": fitting.activation_function,
            "precision": fitting.compute_dtype,
            "mixed_types": False,
            "exclude_types": silent,
            "nets": _collection("fitting_network", nets, 1),
            **self._constants(),
            "type_map": self.type_map,
            "tot_ener_zero": False,
            "trainable": list(fitting.trainable_layers),
            "layer_name": None,
            "use_aparam_as_mask": False,
            "spin": None,
        }

    def _constants(self) -> dict:
        """Energies of the types, and the scale of frame parameters."""
        fitting, bias = self.source.fitting, np.zeros((2 * self.ntypes, 1))
        variables, given = dict.fromkeys(_CONSTANTS), None
        bias[: self.ntypes, 0] = np.asarray(fitting.bias_atom_e)
        if fitting.numb_fparam:
            for name in ("fparam_avg", "fparam_inv_std"):
                value = np.asarray(getattr(fitting, name))
                variables[name] = value.astype(fitting.compute_dtype)
            if fitting.vacuum_types:  # what they are shifted by depends on the frame
                vacuum = range(2 * self.ntypes)
                given = [
                    float(bias[t, 0]) if t in fitting.vacuum_types else None
                    for t in vacuum
                ]
        else:
            ones = [1] * self.ntypes
            bias[: self.ntypes, 0] = np.ravel(fitting.constants(ones))
        return {"atom_ener": given, "@variables": {**variables, "bias_atom_e": bias}}


_CONSTANTS = (
    *("case_embd", "fparam_avg", "fparam_inv_std"),
    *("aparam_avg", "aparam_inv_std"),
)


def _collection(kind: str, nets: list[dict], ndim: int) -> dict:
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": ndim,
        "ntypes": round(len(nets) ** (1 / ndim)),
        "network_type": kind,
        "networks": nets,
    }


def _layer(
    layer: ResidualDense, scale: float, factor: np.ndarray | float = 1.0
) -> dict:
    """A layer, all of its weights times `scale`, its matrix also times `factor`."""

    def scaled(
        weight: keras.Variable | None, by: np.ndarray | float
    ) -> np.ndarray | None:
        return None if weight is None else (by * np.asarray(weight)).astype(dtype)

    dtype = layer.compute_dtype
    activation = layer.activation_function
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": True,
        "use_timestep": layer.idt is not None,
        "activation_function": "none" if activation == "linear" else activation,
        "resnet": layer.residual,
        "precision": dtype,
        "trainable": bool(layer.trainable),
        "@variables": {
            "w": scaled(layer.matrix, scale * factor),
            "b": scaled(layer.bias, scale),
            "idt": scaled(layer.idt, scale),
        },
    }
