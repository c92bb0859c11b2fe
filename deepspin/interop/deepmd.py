# SPDX-License-Identifier: Apache-2.0
"""Read models of DeePMD-kit's TensorFlow backend, without DeePMD-kit.

Weights have fixed names: they are constants of a frozen graph, and variables of a
checkpoint. Options that weights do not tell stand in the training input, which is a
constant of both graphs.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from deepspin.interop.files import find_deepmd_checkpoint
from deepspin.model.ener import SpinEnergyModel, build_model
from deepspin.utils.inputs import normalize
from deepspin.utils.limits import check_nets, check_size
from deepspin.utils.network import ResidualDense
from deepspin.utils.refused import InputError

_DISTANCE = "train_attr/min_nbor_dist"
# sections of an input beside `model`
_TRAINING = ("learning_rate", "loss", "training")


class Constants:
    """What a graph of DeePMD-kit holds, by name.

    Parameters
    ----------
    path : str
        Where it comes from, for messages.
    nodes : iterable of NodeDef
        Nodes of the graph.
    variables : mapping of str to np.ndarray
        Values of its variables.

    Raises
    ------
    ValueError
        It is no uncompressed spin model with a `se_e2_a` descriptor, or it has options
        that deepspin lacks.
    """

    def __init__(
        self,
        path: str | Path,
        nodes: Iterable[tf.compat.v1.NodeDef],
        variables: Mapping[str, np.ndarray],
    ):
        self.path = str(path)
        self._nodes = {node.name: node for node in nodes}
        self._variables = variables
        self._check()

    def __contains__(self, name: str) -> bool:
        if name in self._variables:
            return True
        return name in self._nodes and self._nodes[name].op == "Const"

    def array(self, name: str) -> np.ndarray:
        """Value of a constant or variable."""
        if name not in self:
            raise ValueError(
                f"'{self.path}' has no constant '{name}'. It may use an option that "
                "deepspin does not know, or come from another version of DeePMD-kit "
                "(known: 2.x and 3.x)."
            )
        if name in self._variables:
            return self._variables[name]
        tensor = self._nodes[name].attr["value"].tensor
        declared = 8 * math.prod(dim.size for dim in tensor.tensor_shape.dim)
        try:
            advice = "Use the file as it was written"
            check_size(f"'{self.path}': '{name}'", self.size, declared, advice)
        except OSError as error:
            raise ValueError(f"{error}.") from error
        return tf.make_ndarray(tensor)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        path = Path(self.path)
        files = path.parent.glob(f"{glob.escape(path.name)}*")
        return sum(file.stat().st_size for file in files)

    def text(self, name: str) -> str:
        """Value of a constant string."""
        return self.array(name).item().decode()

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

    @property
    def script(self) -> dict:
        """The training input that it carries."""
        return json.loads(self.text("train_attr/training_script"))

    def metadata(self) -> dict:
        """What tells of its training, as metadata of our files: see `read_metadata`.

        ``input`` is normalised; it has the sections of the training if deepspin knows
        all of their options.
        """
        script = self.script
        sel = [int(n) for n in self.environment.attr["sel_a"].list.i]
        descriptor = script["model"]["descriptor"]
        sel = sel[: len(sel) - int(self.array("spin_attr/ntypes_spin"))]
        model = {**script["model"], "descriptor": {**descriptor, "sel": sel}}
        try:
            content = {"model": normalize_model(model)}
        except InputError as error:
            raise ValueError(f"'{self.path}' cannot be converted: {error}") from error
        rest = {name: script[name] for name in _TRAINING if name in script}
        with contextlib.suppress(InputError):
            whole = normalize({**rest, "model": model})
            content |= {name: whole[name] for name in _TRAINING}
        if _DISTANCE not in self:
            return {"input": content}
        return {"input": content, "min_nbor_dist": float(self.array(_DISTANCE))}

    def _check(self) -> None:
        """Refuse what cannot be converted."""
        if "spin_attr/ntypes_spin" not in self:
            raise ValueError(
                f"'{self.path}' holds no spin model: it has no "
                "'spin_attr/ntypes_spin'. Expected a model trained with `model/spin` "
                "and frozen by DeePMD-kit's TensorFlow backend."
            )
        if "model_type" in self and self.text("model_type") == "compressed_model":
            raise ValueError(
                f"'{self.path}' is compressed: its embedding nets are tables now. "
                "Use the model it was compressed from."
            )
        if self.array("descrpt_attr/rcut").dtype != np.float64:
            raise ValueError(
                f"'{self.path}' has an interface in float32 ('descrpt_attr/rcut'): it "
                "was made with DP_INTERFACE_PREC=low. Train it again without that; "
                "nets in float32 (`precision`) are fine."
            )
        script = self.script
        kind = script["model"].get("descriptor", {}).get("type")
        if kind not in ("se_e2_a", "se_a"):
            raise ValueError(
                f"'{self.path}' has the descriptor '{kind}'. Only `se_e2_a` can be "
                "converted; train such a model."
            )
        for name, found in _lacking(script).items():
            if found:
                raise ValueError(
                    f"'{self.path}' was trained with {name}, which deepspin has not. "
                    "Train it again without, then convert it."
                )


def _lacking(script: dict) -> dict[str, bool]:
    """Options that change what weights mean, and whether a training input has them."""
    model = script["model"]
    fitting = model.get("fitting_net", {})
    return {
        "NVNMD (`nvnmd/enable`)": script.get("nvnmd", {}).get("enable", False),
        "a tabulated pair potential (`model/use_srtab`)": "use_srtab" in model,
        "a type embedding (`model/type_embedding`)": bool(model.get("type_embedding")),
        "atomic parameters (`model/fitting_net/numb_aparam`)": bool(
            fitting.get("numb_aparam", 0)
        ),
    }


def normalize_model(model: dict) -> dict:
    """Complete the section ``model`` of an input that is about nothing else."""
    rest = {
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8},
        "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": ["unused"]}, "numb_steps": 1},
    }
    return normalize({**rest, "model": model})["model"]


# --- Files ----------------------------------------------------------------------------


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
    metadata : dict
        What tells of its training, see `Constants.metadata`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no frozen graph; else see `Constants`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No frozen model: '{path}' is not a file.")
    graph = tf.compat.v1.GraphDef()
    _parse(graph, Path(path), "a frozen TensorFlow graph", "made by `dp freeze`")
    return _load(Constants(path, graph.node, {}))


def load_checkpoint(path: str | Path) -> tuple[SpinEnergyModel, dict]:
    """Read a checkpoint of DeePMD-kit's TensorFlow backend.

    Parameters
    ----------
    path : str
        ``model.ckpt-1000``, the beginning of the names of its files, or
        ``model.ckpt`` or a folder for the newest one, see `find_deepmd_checkpoint`.

    Returns
    -------
    model, metadata
        See `load_frozen`.

    Raises
    ------
    FileNotFoundError
        There is none, or one of its files is missing.
    ValueError
        Its files are damaged; else see `Constants`.
    """
    prefix = find_deepmd_checkpoint(path)
    graph = tf.compat.v1.MetaGraphDef()
    meta = prefix.with_name(f"{prefix.name}.meta")
    _parse(graph, meta, "the graph of a checkpoint", "written by `dp train`")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        variables = {name: reader.get_tensor(name) for name in names}
    except Exception as error:  # TensorFlow raises errors of its own, DataLossError
        reason = " ".join(str(error).split())
        raise ValueError(
            f"'{prefix}.index' and '{prefix}.data-*' are damaged, or not of one "
            f"checkpoint ({reason}). Use another checkpoint."
        ) from error
    return _load(Constants(prefix, graph.graph_def.node, variables))


def _parse(message: Message, path: Path, what: str, origin: str) -> None:
    """Read a file into a message of protobuf."""
    if not path.stat().st_size:
        raise ValueError(f"'{path}' is empty. Copy or write it again.")
    try:
        message.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError has no public name
        raise ValueError(
            f"'{path}' is not {what}. Expected a {path.suffix} file {origin} with "
            "DeePMD-kit's TensorFlow backend."
        ) from error


# --- Weights --------------------------------------------------------------------------


def _load(constants: Constants) -> tuple[SpinEnergyModel, dict]:
    metadata = constants.metadata()
    try:
        check_nets(f"'{constants.path}'", constants.size, metadata["input"]["model"])
    except OSError as error:
        raise ValueError(f"{error}.") from error
    model = build_model(metadata["input"]["model"])
    _copy_descriptor(constants, model)
    _copy_fitting(constants, model)
    return model, metadata


def _copy_descriptor(constants: Constants, model: SpinEnergyModel) -> None:
    descriptor = model.descriptor
    node = constants.environment
    for name, attribute in (("rcut", "rcut_r"), ("rcut_smth", "rcut_r_smth")):
        written = np.float32(node.attr[attribute].f)
        if written != np.float32(getattr(descriptor, name)):
            raise ValueError(
                f"'{constants.path}' contradicts itself: its graph has {name} "
                f"{written}, its training input {getattr(descriptor, name)}."
            )
    for name, target in (("t_avg", descriptor.davg), ("t_std", descriptor.dstd)):
        rows = constants.array(f"descrpt_attr/{name}")
        rows = rows.reshape(len(rows), -1, 4)[: descriptor.ntypes]
        if np.ptp(rows, axis=1).any():
            raise ValueError(
                f"'{constants.path}' has another {name} in every neighbour slot; "
                "deepspin has one for each type."
            )
        target.assign(rows[:, 0])
    one_side = descriptor.type_one_side
    for i in range(1 if one_side else descriptor.ntypes):
        scope = "filter_type_all" if one_side else f"filter_type_{i}"
        for j in range(len(descriptor.sel)):
            if f"{scope}/matrix_1_{j}" not in constants and (
                descriptor.sel[j] == 0 or descriptor.excludes(i, j)
            ):
                continue  # never used, so not there
            for k, layer in enumerate(descriptor.net(i, j), start=1):
                _copy_layer(constants, layer, f"{scope}/{{}}_{k}_{j}")


def _copy_fitting(constants: Constants, model: SpinEnergyModel) -> None:
    fitting = model.fitting
    bias = constants.array("fitting_attr/t_bias_atom_e").ravel()
    fitting.bias_atom_e.assign(bias[: fitting.ntypes])
    if fitting.numb_fparam:
        for name, target in (
            ("t_fparam_avg", fitting.fparam_avg),
            ("t_fparam_istd", fitting.fparam_inv_std),
        ):
            target.assign(constants.array(f"fitting_attr/{name}").ravel())
    for t in range(fitting.ntypes):
        *hidden, last = fitting.net(t)
        for k, layer in enumerate(hidden):
            _copy_layer(constants, layer, f"layer_{k}_type_{t}/{{}}")
        _copy_layer(constants, last, f"final_layer_type_{t}/{{}}")


def _copy_layer(constants: Constants, layer: ResidualDense, pattern: str) -> None:
    for kind in ("matrix", "bias", "idt"):
        weight = getattr(layer, kind)
        if weight is None:
            continue
        value = constants.array(pattern.format(kind))
        if value.dtype != np.dtype(weight.dtype):
            raise ValueError(
                f"'{constants.path}': '{pattern.format(kind)}' is {value.dtype}, but "
                f"its training input asks for {weight.dtype}."
            )
        weight.assign(value.reshape(weight.shape))
