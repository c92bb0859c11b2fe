# SPDX-License-Identifier: Apache-2.0
"""Mistakes in files of models."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from .row import Mistake, Step
from .steps import TABLES, model, model_bytes, option, remove, text

TITLE = "Model files"
ABOUT = "Mistakes in the files after `-m`, `-r`, `-i` and `-f`."
REFERENCE = Path(__file__).parents[1] / "reference"


def file(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """A model file that is none."""
    return Mistake(TITLE, did, how, says, steps)


def in_model(name: str, file: str, edit: Callable[[bytes], bytes]) -> Step:
    """Write a model file in whose archive one file is changed."""

    def step() -> None:
        import io

        with zipfile.ZipFile(io.BytesIO(model_bytes())) as archive:
            files = {n: archive.read(n) for n in archive.namelist()}
        files[file] = edit(files[file])
        with zipfile.ZipFile(name, "w") as archive:
            for n, content in files.items():
                archive.writestr(n, content)

    return step


def keras_model(name: str, *, code: bool = False) -> Step:
    """Write a Keras model that is none of ours, with code in it or not."""

    def step() -> None:
        import keras

        layer = keras.layers.Lambda(lambda x: x) if code else keras.layers.Dense(1)
        keras.Sequential([keras.Input((2,)), layer]).save(name)

    return step


def other_graph(name: str) -> Step:
    """Write a TensorFlow graph without a model."""

    def step() -> None:
        import tensorflow as tf

        graph = tf.Graph()
        with graph.as_default():
            tf.constant(1.0, name="one")
        Path(name).write_bytes(graph.as_graph_def().SerializeToString())

    return step


def graph(name: str, edit: Callable) -> Step:
    """Write a model that DeePMD-kit froze, with its nodes changed."""

    def step() -> None:
        import tensorflow as tf

        frozen = tf.compat.v1.GraphDef()
        frozen.ParseFromString((REFERENCE / name).read_bytes())
        for node in frozen.node:
            edit(node)
        Path(name).write_bytes(frozen.SerializeToString())

    return step


def compress(node) -> None:
    """Say that the model is compressed."""
    if node.name == "model_type":
        node.attr["value"].tensor.string_val[:] = [b"compressed_model"]


def other_descriptor(node) -> None:
    """Take the operation of se_e2_a away."""
    node.op = node.op.replace("ProdEnvMatA", "ProdEnvMatR")


def no_statistics(node) -> None:
    """Take a constant away."""
    node.name = node.name.replace("descrpt_attr/t_avg", "descrpt_attr/average")


def part_of_config(config: bytes) -> bytes:
    """Keep the descriptor of a model only."""
    return json.dumps(json.loads(config)["config"]["descriptor"]).encode()


ROWS = {
    "no zip": file(
        "Test a file that is no model.",
        "test -m notes.keras -s data",
        "'notes.keras' is damaged, or no model file: neither .keras, .pb "
        "nor a frozen model (File is not a zip file). Use another "
        "checkpoint.",
        text("notes.keras", "to do"),
    ),
    "format of the future": file(
        "Use a model of a newer deepspin.",
        "test -m new.keras -s data",
        "'new.keras' has format 99; this deepspin reads up to 1. Install a newer one.",
        in_model("new.keras", "deepspin.json", lambda old: b'{"format": 99}'),
    ),
    "metadata of another form": file(
        "Replace what a model tells of its training.",
        "test -m odd.keras -s data",
        "'odd.keras' is damaged: `spin_range` of its metadata must be a pair of "
        "numbers [least, greatest] by names of types. Received: [1, 2]. Use another "
        "checkpoint.",
        in_model("odd.keras", "deepspin.json", lambda old: b'{"spin_range": [1, 2]}'),
    ),
    "metadata a list": file(
        "Replace a model's metadata.",
        "test -m odd.keras -s data",
        "'odd.keras' is no model file: 'deepspin.json' in it is no object.",
        in_model("odd.keras", "deepspin.json", lambda old: b"[]"),
    ),
    "weights broken": file(
        "Swap a model's weights for something else.",
        "test -m odd.keras -s data",
        "'odd.keras' cannot be loaded: {...}. Use another checkpoint, or "
        "the version of deepspin that wrote it.",
        in_model("odd.keras", "model.weights.h5", lambda old: old[:1000]),
    ),
    "lambda layer": file(
        "Load a model file with code in it.",
        "test -m lambda.keras -s data",
        "'lambda.keras' names 'keras.Sequential', which no model of "
        "deepspin holds. Building it might run code, so it is refused: "
        "load files that deepspin wrote.",
        keras_model("lambda.keras", code=True),
    ),
    "part of a model": file(
        "Test a file that holds a part of a model.",
        "test -m part.keras -s data",
        "'part.keras' holds a DescrptSeA, not a SpinEnergyModel.",
        in_model("part.keras", "config.json", part_of_config),
    ),
    "trained otherwise": file(
        "Restart with other weights held fixed.",
        "train input.json -r old.keras",
        "'old.keras' was trained with other weights held fixed "
        "(`trainable`), or with another `enable_ema` or `acc_freq`. Use the input it "
        "was trained with, or begin anew from it with -i.",
        model("old.keras", compiled=True),
        option("model/descriptor/trainable", False),
    ),
    "compressed twice": file(
        "Compress a compressed model.",
        "compress -i compressed.keras",
        "'compressed.keras' is compressed already. Compress the model that it was made "
        "of.",
        model("compressed.keras", leaves=TABLES),
    ),
    "train a compressed model": file(
        "Train from a compressed model.",
        "train input.json -i compressed.keras",
        "'compressed.keras' is compressed, and tables cannot be trained. Train before "
        "compressing: begin with the model that it was made of.",
        model("compressed.keras", leaves=TABLES),
    ),
    "tables of relu": file(
        "Compress a model whose embedding nets have kinks.",
        "compress -i relu.keras -t input.json",
        "64 pieces of a table do not hold an embedding net to {...} of its largest "
        "value and slope, with the activation function 'relu' in float64. Only smooth "
        "nets can be tabulated (tanh, gelu, silu, sigmoid, softplus; relu, relu6 and "
        "silut are not smooth): use the model as it is, or a larger --tol.",
        model("relu.keras", activation_function="relu"),
    ),
    "compressed graph": file(
        "Begin from a compressed model.",
        "train input.json -f base.pb",
        "'base.pb' is compressed: its embedding nets are tables now. "
        "Use the model it was compressed from.",
        graph("base.pb", compress),
    ),
    "graph without descriptor": file(
        "Begin from a frozen model with another descriptor.",
        "train input.json -f base.pb",
        "'base.pb' has no `se_e2_a` descriptor (no node ProdEnvMatA). "
        "Other descriptors cannot be converted.",
        graph("base.pb", other_descriptor),
    ),
    "graph without a constant": file(
        "Begin from a frozen model that lacks a constant.",
        "train input.json -f base.pb",
        "'base.pb' has no constant 'descrpt_attr/t_avg'. It may use an "
        "option that deepspin does not know, or come from another "
        "version of DeePMD-kit (known: 2.x and 3.x).",
        graph("base.pb", no_statistics),
    ),
    "frozen graph is no graph": file(
        "Begin from a file that is no graph.",
        "train input.json -f notes.pb",
        "'notes.pb' is not a frozen TensorFlow graph. Expected a .pb "
        "file made by `dp freeze` with DeePMD-kit's TensorFlow backend.",
        text("notes.pb", "to do"),
    ),
    "no spin in the graph": file(
        "Begin from a frozen model without spins.",
        "train input.json -f other.pb",
        "'other.pb' holds no spin model: it has no "
        "'spin_attr/ntypes_spin'. Expected a model trained with "
        "`model/spin` and frozen by DeePMD-kit's TensorFlow backend.",
        other_graph("other.pb"),
    ),
    "another model": file(
        "Begin from a model of another shape.",
        "train input.json -i other.keras",
        "'other.keras' is another model than `model` of the input: "
        "descriptor differs (rcut: 4.0 there, 3.0 here). Use the input "
        "it was trained with, or its `model` by --use-pretrain-script, or train from "
        "scratch.",
        model("other.keras", rcut=4.0),
    ),
    "model without a type": file(
        "Finetune a model on an element that it does not know.",
        "train input.json -t other.keras",
        "'other.keras' knows no S: its types are Ni O. Slots of further types would "
        "count in all sums over neighbours, and change what its weights mean. Train "
        "from scratch, on data of all types.",
        model("other.keras"),
        option("model/type_map", ["Ni", "S"]),
    ),
    "model of another scheme": file(
        "Begin a training from a model of another spin scheme.",
        "train input.json -i other.keras",
        "'other.keras' is a model of the scheme `ener_spin`, and `model/spin/type` is "
        '"invariant". Change that, or train from scratch.',
        model("other.keras"),
        option("model/type_map", ["O", "Ni"]),
        option("model/spin", {"type": "invariant", "use_spin": ["Ni"]}),
    ),
    "model without its options": file(
        "Take the options of a model that Keras' `save` wrote.",
        "train input.json -i other.keras --use-pretrain-script",
        "'other.keras' does not tell the section `model` that it was trained with: "
        "Keras wrote it. Leave out --use-pretrain-script, and give that section.",
        model("other.keras"),
    ),
    "bias without energies": file(
        "Finetune a model on data without energies.",
        "train input.json -t other.keras",
        "-t (finetune) changes the energy bias, and no system has energies: 'data'. "
        "Add energy.npy.",
        model("other.keras"),
        remove("data/set.000/energy.npy"),
    ),
    "no optimizer": file(
        "Restart from a model that was never trained.",
        "train input.json -r new.keras",
        "'new.keras' holds no training to go on with: no optimizer's "
        "state. Begin with it by -i.",
        model("new.keras"),
    ),
    "folder is no model": file(
        "Freeze a folder without a model.",
        "freeze -c data",
        "No model: the folder 'data' is no frozen model, and has no file "
        "'checkpoint' that names a checkpoint in it. Name the checkpoint "
        "itself.",
    ),
}
