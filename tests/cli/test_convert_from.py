# SPDX-License-Identifier: Apache-2.0
"""`dp-spin convert-from`: frozen graphs and checkpoints of DeePMD-kit.

With DEEPSPIN_PEER set (see `peer.py`) also those that it writes now.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from peer import needs_peer, run_peer
from places import REFERENCE

import deepspin
from deepspin.interop.deepmd import load_frozen
from deepspin.modelfiles.archive import load_deepmd

VARIABLES = ("matrix", "bias", "idt", "t_avg", "t_std", "t_bias", "t_fparam")


def read_graph(name: str) -> tf.compat.v1.GraphDef:
    content = (REFERENCE / f"{name}.pb").read_bytes()
    return tf.compat.v1.GraphDef.FromString(content)


def value(node) -> np.ndarray:
    return tf.make_ndarray(node.attr["value"].tensor)


def write_checkpoint(name: str, prefix: Path) -> None:
    """Files as `dp train` leaves them, from a frozen graph.

    Weights and statistics are variables; the rest of the graph is beside them.
    """
    graph, variables = read_graph(name), {}
    for node in graph.node:
        last = node.name.rpartition("/")[2]
        if node.op == "Const" and last.startswith(VARIABLES) and "/" in node.name:
            variables[node.name] = value(node)
            node.op = "VariableV2"
            del node.attr["value"]
    assert len(variables) > 10
    variables |= {"global_step": np.array(20), "beta1_power": np.float32(0.1)}
    meta = tf.compat.v1.MetaGraphDef(graph_def=graph)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.meta").write_bytes(meta.SerializeToString())
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(v) for v in variables.values()],
    )
    parts = Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")
    assert all(part.is_file() for part in parts)


def assert_same_model(a, b) -> None:
    for part in ("descriptor", "fitting", "spin"):
        configs = (getattr(m, part).get_config() | {"name": ""} for m in (a, b))
        assert next(configs) == next(configs)
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


# --- Checkpoints ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base", "two_side", "resnet_dt", "float32"])
def test_checkpoint_is_the_frozen_model(tmp_path, name):
    write_checkpoint(name, tmp_path / "model.ckpt-20")
    ours, metadata = load_deepmd(tmp_path / "model.ckpt-20")
    frozen, same_metadata = load_frozen(REFERENCE / f"{name}.pb")
    assert_same_model(ours, frozen)
    assert metadata == same_metadata
    assert set(metadata) == {"input", "min_nbor_dist"}
    assert metadata["input"]["training"]["numb_steps"] == 20


def test_convert_checkpoint(run):
    write_checkpoint("base", Path("model.ckpt-20"))
    Path("checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-20"\n'
        'all_model_checkpoint_paths: "model.ckpt-20"\n'
    )
    for k, source in enumerate(
        (".", "model.ckpt", "model.ckpt-20", "model.ckpt-20.meta")
    ):
        run("convert-from", source, "-o", f"{k}.keras")
        ours = deepspin.load_model(f"{k}.keras")
        assert_same_model(ours, load_frozen(REFERENCE / "base.pb")[0])


@pytest.mark.parametrize("suffix", [".meta", ".index", ".data-00000-of-00001"])
def test_checkpoint_that_is_not_whole(run, capsys, suffix):
    write_checkpoint("base", Path("model.ckpt-20"))
    Path(f"model.ckpt-20{suffix}").unlink()
    run("convert-from", "model.ckpt-20", status=1)
    message = capsys.readouterr().err
    assert "'model.ckpt-20' is not whole" in message
    assert f"there is no 'model.ckpt-20{suffix[:6]}" in message
    assert not Path("model.keras").exists()


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".meta", "'model.ckpt-20.meta' is not the graph of a checkpoint"),
        (".index", "are damaged, or not of one checkpoint"),
        (".data-00000-of-00001", "are damaged, or not of one checkpoint"),
    ],
)
def test_damaged_checkpoint(run, capsys, suffix, message):
    write_checkpoint("base", Path("model.ckpt-20"))
    Path(f"model.ckpt-20{suffix}").write_bytes(b"junk")
    run("convert-from", "model.ckpt-20", status=1)
    assert message in capsys.readouterr().err


def test_no_checkpoint(run, capsys):
    run("convert-from", "model.ckpt", status=1)
    assert "there is no 'model.ckpt.index'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["test", "-m", "model.ckpt", "-s", "nowhere"],
        ["freeze", "-c", "."],
        ["freeze", "-c", "model.ckpt-20"],
        ["show", "model.ckpt"],
    ],
)
def test_other_verbs_name_convert_from(run, capsys, command):
    write_checkpoint("base", Path("model.ckpt-20"))
    Path("checkpoint").write_text('model_checkpoint_path: "model.ckpt-20"\n')
    run(*command, status=1)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "checkpoint of DeePMD-kit. `dp-spin convert-from " in message


def test_train_names_convert_from(run, data, capsys):
    write_checkpoint("base", Path("model.ckpt-20"))
    Path("input.json").write_text(json.dumps(data))
    run("train", "input.json", "-i", "model.ckpt-20", status=1)
    assert "`dp-spin convert-from model.ckpt-20" in capsys.readouterr().err


def test_own_checkpoints_come_first(run, make_model):
    write_checkpoint("base", Path("model.ckpt-20"))
    deepspin.save_model(make_model(), "model.ckpt-6.keras")
    run("show", "model.ckpt")


TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import make_reference as make
inputs, systems = make.MODELS[sys.argv[2]]()
paths = make.write_data(Path(), systems, inputs["model"]["spin"])
inputs["training"]["training_data"]["systems"] = paths
make.train(inputs, Path("frozen.pb").resolve())
"""


@needs_peer
@pytest.mark.parametrize("name", ["two_side", "resnet_dt"])
def test_checkpoint_written_now(tmp_path, name):
    """Bit by bit what DeePMD-kit freezes from it."""
    run_peer("python", "-c", TRAIN, REFERENCE, name, folder=tmp_path)
    ours, metadata = load_deepmd(tmp_path)
    frozen, same = load_frozen(tmp_path / "frozen.pb")
    assert_same_model(ours, frozen)
    assert metadata == same


# --- What is refused ------------------------------------------------------------------


def write_edited(path: Path, script=None, **constants) -> None:
    """Write `base.pb` with another training input, or other constants."""
    graph = read_graph("base")
    for node in graph.node:
        if node.name == "train_attr/training_script" and script is not None:
            content = json.loads(value(node).item().decode())
            script(content)
            tensor = tf.make_tensor_proto(json.dumps(content))
            node.attr["value"].tensor.CopyFrom(tensor)
        if node.name.replace("/", "__") in constants:
            array = constants[node.name.replace("/", "__")]
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
            node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
    path.write_bytes(graph.SerializeToString())


REFUSED = {
    "aparam": (
        lambda s: s["model"]["fitting_net"].update(numb_aparam=1),
        "atomic parameters",
    ),
    "type embedding": (
        lambda s: s["model"].update(type_embedding={"neuron": [2, 4]}),
        "type embedding",
    ),
    "nvnmd": (lambda s: s.update(nvnmd={"enable": True}), "NVNMD"),
    "srtab": (lambda s: s["model"].update(use_srtab="zbl.txt"), "tabulated pair"),
    "descriptor": (
        lambda s: s["model"]["descriptor"].update(type="se_atten"),
        "has the descriptor 'se_atten'. Only `se_e2_a`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_options(tmp_path, name):
    edit, message = REFUSED[name]
    write_edited(tmp_path / "model.pb", edit)
    with pytest.raises(ValueError, match=message):
        load_frozen(tmp_path / "model.pb")


def test_refused_interface_in_float32(tmp_path):
    write_edited(tmp_path / "model.pb", descrpt_attr__rcut=np.float32(5.6))
    with pytest.raises(ValueError, match=r"interface in float32.*DP_INTERFACE_PREC"):
        load_frozen(tmp_path / "model.pb")


def test_edited_file_without_edits(tmp_path):
    """What the refusals are about is not the editing."""
    write_edited(tmp_path / "model.pb", lambda script: script.update(nvnmd={}))
    same = load_frozen(tmp_path / "model.pb")[0]
    assert_same_model(same, load_frozen(REFERENCE / "base.pb")[0])


def test_train_from_frozen_without_a_seed(run, data):
    """Metadata is not looked for in a `.pb`."""
    shutil.copy(REFERENCE / "base.pb", "base.pb")
    case = json.loads(str(np.load(REFERENCE / "base.npz")["input"]))
    data["model"] = case["model"]
    del data["training"]["seed"]
    data["training"] |= {"numb_steps": 1, "save_freq": 1}
    Path("input.json").write_text(json.dumps(data))
    run("train", "input.json", "-i", "base.pb")
