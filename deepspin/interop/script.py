# SPDX-License-Identifier: Apache-2.0
"""Training inputs that stand in DeePMD-kit's models, and the order of types there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.fit.ener import EnerFitting
from deepspin.model.ener import SpinEnergyModel
from deepspin.utils.argcheck import without_own

# of a model whose training nobody knows; DeePMD-kit wants an input to be whole
_REST: dict[str, dict[str, Any]] = {
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8},
    "loss": {"type": "ener_spin"},
    "training": {"training_data": {"systems": ["unknown"]}, "numb_steps": 1},
}


class SpinTypesFirst:
    """Types in another order: those with spin first, otherwise as they were.

    DeePMD-kit's TensorFlow backend knows spin types by their number alone.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.

    Attributes
    ----------
    types : list of int
        Types of the model, in the new order.
    extended : list of int
        The same of all types of neighbours; those of virtual atoms come last.
    type_map : list of str
        Names of the types.
    changed : bool
        Whether any type has a new number.
    """

    def __init__(self, model: SpinEnergyModel):
        scheme = model.spin.scheme
        spin_types = scheme.types.spin_types
        others = [t for t in range(scheme.ntypes) if t not in spin_types]
        self.types = [*spin_types, *others]
        virtual = scheme.codec.virtual_type(np.array(spin_types))
        self.extended = [*self.types, *virtual.tolist()]
        self.type_map = [model.type_map[t] for t in self.types]
        self.changed = self.types != sorted(self.types)

    def pairs(self, pairs: Sequence[Sequence[int]]) -> list[list[int]]:
        """Pairs of types, as `exclude_types`, by their new numbers."""
        return sorted([self.extended.index(t) for t in pair] for pair in pairs)


def training_script(
    model: SpinEnergyModel, metadata: dict, order: SpinTypesFirst
) -> dict:
    """Training input of a model, as DeePMD-kit reads it.

    The section ``model`` is what the model is; the others come from its training, if
    its metadata tells of one.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    metadata : dict
        Metadata of its file, see `read_metadata`.
    order : SpinTypesFirst
        Order of types to write.
    """
    given = metadata.get("input", {})
    script = {name: given.get(name) or _REST[name] for name in _REST}
    descriptor, fitting = model.descriptor, model.fitting
    return {
        "model": {
            "type_map": order.type_map,
            "descriptor": _descriptor(descriptor, order),
            "fitting_net": _fitting(fitting, order),
            "spin": _spin(model, order),
        },
        **copy.deepcopy(without_own(script)),
    }


def _descriptor(descriptor: DescrptSeA, order: SpinTypesFirst) -> dict:
    return {
        "type": "se_e2_a",
        "sel": [descriptor.sel[t] for t in order.types],
        "rcut": descriptor.rcut,
        "rcut_smth": descriptor.rcut_smth,
        "neuron": list(descriptor.neuron),
        "axis_neuron": descriptor.axis_neuron,
        "activation_function": descriptor.activation_function,
        "resnet_dt": descriptor.resnet_dt,
        "type_one_side": descriptor.type_one_side,
        "exclude_types": order.pairs(descriptor.exclude_types),
        "env_protection": descriptor.env_protection,
        "set_davg_zero": descriptor.set_davg_zero,
        "precision": descriptor.compute_dtype,
        "trainable": descriptor.trainable,
        "seed": descriptor.seed,
    }


def _fitting(fitting: EnerFitting, order: SpinTypesFirst) -> dict:
    bias = np.asarray(fitting.bias_atom_e).tolist()
    vacuum = [bias[t] if t in fitting.vacuum_types else None for t in order.types]
    return {
        "type": "ener",
        "neuron": list(fitting.neuron),
        "activation_function": fitting.activation_function,
        "resnet_dt": fitting.resnet_dt,
        "numb_fparam": fitting.numb_fparam,
        "precision": fitting.compute_dtype,
        "trainable": list(fitting.trainable_layers),
        "atom_ener": vacuum if fitting.vacuum_types else [],
        "seed": fitting.seed,
    }


def _spin(model: SpinEnergyModel, order: SpinTypesFirst) -> dict:
    """Section ``spin``; where only a scale is known, it is the length at 1 μ_B."""
    scheme, options = model.spin.scheme, model.spin.options
    lengths = options.get("virtual_len") or options["virtual_scale"]
    return {
        "use_spin": [scheme.types.use_spin[t] for t in order.types],
        "virtual_len": list(lengths),
        "spin_norm": list(options.get("spin_norm") or [1.0] * len(lengths)),
    }
