# SPDX-License-Identifier: Apache-2.0
"""Read models that DeePMD-kit's TensorFlow backend froze, without DeePMD-kit.

A frozen spin model is a GraphDef whose weights are constants with fixed names; the
options that weights do not tell stand in the training input it carries.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepspin.model.ener import SpinEnergyModel, build_model
from deepspin.utils.inputs import normalize
from deepspin.utils.refused import InputError


class FrozenGraph:
    """Constants and options of a frozen DeePMD-kit model.

    Parameters
    ----------
    path : str
        A ``.pb`` file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not a frozen, uncompressed spin model.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        if not Path(path).is_file():
            raise FileNotFoundError(f"No frozen model: '{path}' is not a file.")
        graph = tf.compat.v1.GraphDef()
        try:
            graph.ParseFromString(Path(path).read_bytes())
        except Exception as error:  # protobuf's DecodeError has no public name
            raise ValueError(
                f"'{path}' is not a frozen TensorFlow graph. Expected a .pb file made "
                "by `dp freeze` with DeePMD-kit's TensorFlow backend."
            ) from error
        self._nodes = {node.name: node for node in graph.node}
        if "spin_attr/ntypes_spin" not in self:
            raise ValueError(
                f"'{path}' holds no spin model: it has no 'spin_attr/ntypes_spin'. "
                "Expected a model trained with `model/spin` and frozen by DeePMD-kit's "
                "TensorFlow backend."
            )
        if "model_type" in self and self.text("model_type") == "compressed_model":
            raise ValueError(
                f"'{path}' is compressed: its embedding nets are tables now. "
                "Convert the model it was compressed from."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._nodes and self._nodes[name].op == "Const"

    def array(self, name: str) -> np.ndarray:
        """Value of a constant."""
        if name not in self:
            raise ValueError(
                f"'{self.path}' has no constant '{name}'. It may use an option that "
                "deepspin does not know, or come from another version of DeePMD-kit "
                "(known: 2.x and 3.x)."
            )
        return tf.make_ndarray(self._nodes[name].attr["value"].tensor)

    def text(self, name: str) -> str:
        """Value of a constant string."""
        return self.array(name).item().decode()

    def has_scope(self, prefix: str) -> bool:
        """Whether some constant's name begins so."""
        return any(name.startswith(prefix) for name in self._nodes)

    @property
    def environment(self) -> tf.compat.v1.NodeDef:
        """The node that computes the environment matrix."""
        for node in self._nodes.values():
            if node.op in ("ProdEnvMatA", "DescrptSeA"):
                return node
        raise ValueError(
            f"'{self.path}' has no `se_e2_a` descriptor (no node ProdEnvMatA). "
            "Other descriptors cannot be converted."
        )

    def model_options(self) -> dict:
        """Section ``model`` of the training input it carries, normalised."""
        script = json.loads(self.text("train_attr/training_script"))
        sel = [int(n) for n in self.environment.attr["sel_a"].list.i]
        model = dict(script["model"])
        model["descriptor"] = {
            **model["descriptor"],
            "sel": sel[: len(model["type_map"])],
        }
        try:
            # nothing below `model` matters here, but an input has to be whole
            return normalize({**_REST, "model": model})["model"]
        except InputError as error:
            raise ValueError(f"'{self.path}' cannot be converted: {error}") from error


_REST = {
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8},
    "loss": {"type": "ener_spin"},
    "training": {"training_data": {"systems": ["unused"]}, "numb_steps": 1},
}


def load_frozen(path: str | Path) -> tuple[SpinEnergyModel, dict]:
    """Read a frozen spin model of DeePMD-kit's TensorFlow backend.

    Parameters
    ----------
    path : str
        A ``.pb`` file, not compressed.

    Returns
    -------
    model : SpinEnergyModel
        The same model, with the same numbers.
    options : dict
        Section ``model`` of its training input, normalised.

    Raises
    ------
    FileNotFoundError, ValueError
        See `FrozenGraph`.
    """
    graph = FrozenGraph(path)
    options = graph.model_options()
    model = build_model(options)
    _copy_descriptor(graph, model)
    _copy_fitting(graph, model)
    return model, options


def _copy_descriptor(graph: FrozenGraph, model: SpinEnergyModel) -> None:
    descriptor = model.descriptor
    node = graph.environment
    for name, attribute in (("rcut", "rcut_r"), ("rcut_smth", "rcut_r_smth")):
        written = np.float32(node.attr[attribute].f)
        if written != np.float32(getattr(descriptor, name)):
            raise ValueError(
                f"'{graph.path}' contradicts itself: its graph has {name} {written}, "
                f"its training input {getattr(descriptor, name)}."
            )
    for name, target in (("t_avg", descriptor.davg), ("t_std", descriptor.dstd)):
        rows = graph.array(f"descrpt_attr/{name}")
        rows = rows.reshape(len(rows), -1, 4)[: descriptor.ntypes]
        if np.ptp(rows, axis=1).any():
            raise ValueError(
                f"'{graph.path}' has another {name} in every neighbour slot; deepspin "
                "has one for each type."
            )
        target.assign(rows[:, 0])
    one_side = descriptor.type_one_side
    for i in range(1 if one_side else descriptor.ntypes):
        scope = "filter_type_all" if one_side else f"filter_type_{i}"
        for j in range(len(descriptor.sel)):
            if not graph.has_scope(f"{scope}/matrix_1_{j}") and (
                descriptor.sel[j] == 0 or descriptor.excludes(i, j)
            ):
                continue  # never used, so not there
            for k, layer in enumerate(descriptor.net(i, j), start=1):
                _copy_layer(graph, layer, f"{scope}/{{}}_{k}_{j}")


def _copy_fitting(graph: FrozenGraph, model: SpinEnergyModel) -> None:
    bias = graph.array("fitting_attr/t_bias_atom_e").ravel()
    model.fitting.bias_atom_e.assign(bias[: model.fitting.ntypes])
    for t in range(model.fitting.ntypes):
        *hidden, last = model.fitting.net(t)
        for k, layer in enumerate(hidden):
            _copy_layer(graph, layer, f"layer_{k}_type_{t}/{{}}")
        _copy_layer(graph, last, f"final_layer_type_{t}/{{}}")


def _copy_layer(graph: FrozenGraph, layer, pattern: str) -> None:
    for kind in ("matrix", "bias", "idt"):
        weight = getattr(layer, kind)
        if weight is None:
            continue
        value = graph.array(pattern.format(kind))
        if value.dtype != np.dtype(weight.dtype):
            raise ValueError(
                f"'{graph.path}': '{pattern.format(kind)}' is {value.dtype}, but its "
                f"training input asks for {weight.dtype}."
            )
        weight.assign(value.reshape(weight.shape))
