# SPDX-License-Identifier: Apache-2.0
"""Our .pb files as files; `test_clients.py` has DeePMD-kit run them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from invariants import FIELDS, assert_close, run
from places import REFERENCE

import deepspin
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.graph import write_graph
from deepspin.main import main

OPERATIONS = {"ProdEnvMatA", "ProdForceSeA", "ProdVirialSeA"}
TABLES = {"TabulateFusionSeA", "TabulateFusionSeAGrad"}
# of virtual atoms as centres, which nothing depends on
UNUSED = ("descrpt_attr/t_avg", "descrpt_attr/t_std")
OUTPUTS = ("o_energy", "o_force", "o_virial", "o_atom_energy", "o_atom_virial")


def nodes_of(path):
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    assert not graph.library.function
    assert not any(node.device for node in graph.node)
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    return nodes


def value(node):
    return tf.make_ndarray(node.attr["value"].tensor)


def write(model, path, metadata=None, **options):
    write_graph(model, path, metadata or {}, **options)
    return nodes_of(path)


# --- The form -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base", "two_side", "resnet_dt", "two_spin_types"])
def test_nodes_are_those_of_deepmd(name, tmp_path):
    """Names, types and values of all that DeePMD-kit's own file has a name for."""
    model = load_frozen(REFERENCE / f"{name}.pb")[0]
    theirs = nodes_of(REFERENCE / f"{name}.pb")
    distance = value(theirs["train_attr/min_nbor_dist"])
    ours = write(model, tmp_path / "ours.pb", {"min_nbor_dist": float(distance)})
    named = ("t_", "descrpt_attr/", "fitting_attr/", "model_", "spin_attr/", "train_")
    weights = ("filter_type_", "layer_", "final_layer_")
    ends = ("matrix", "bias", "idt")
    count = 0
    for key, node in theirs.items():
        parts = key.split("/")
        is_weight = key.startswith(weights) and parts[-1].startswith(ends)
        if key in OUTPUTS or node.op in OPERATIONS:
            assert key in ours
        if node.op not in ("Const", "Placeholder"):
            continue
        if not (is_weight and len(parts) == 2) and not key.startswith(named):
            continue
        assert ours[key].op == node.op
        assert ours[key].attr["dtype"] == node.attr["dtype"], key
        count += 1
        if node.op == "Placeholder":
            assert ours[key].attr["shape"] == node.attr["shape"], key
        elif key == "train_attr/training_script":
            found, wanted = (json.loads(value(x[key]).item()) for x in (ours, theirs))
            for part in ("descriptor", "fitting_net", "spin", "type_map"):
                section = found["model"][part]
                assert section == subset(wanted["model"][part], section), part
        elif key in UNUSED:
            rows = model.spin.scheme.ntypes
            np.testing.assert_array_equal(value(ours[key])[:rows], value(node)[:rows])
            assert value(ours[key]).shape == value(node).shape
        elif not is_virtual_centre(key, model):
            np.testing.assert_array_equal(value(ours[key]), value(node), key)
            assert value(ours[key]).shape == value(node).shape, key
    assert count > 40
    for key in OPERATIONS:
        found, wanted = dict(ours[key].attr), dict(theirs[key].attr)
        for attribute in wanted:
            assert found[attribute] == wanted[attribute], (key, attribute)


def subset(wanted, found):
    """Of a section those options that ours has, with lists for what may be one."""
    if not isinstance(wanted, dict):
        return wanted
    result = {key: wanted.get(key, found[key]) for key in found}
    if isinstance(result.get("trainable"), bool) and "neuron" in result:
        if isinstance(found["trainable"], list):
            result["trainable"] = [result["trainable"]] * len(found["trainable"])
    return result


def is_virtual_centre(key, model):
    scope = key.split("/")[0]
    return (
        scope.startswith("filter_type_")
        and scope != "filter_type_all"
        and int(scope.rsplit("_", 1)[1]) >= model.spin.scheme.ntypes
    )


def test_operations(make_model, compressed, tmp_path):
    """No operation but these is unknown to TensorFlow; no control flow."""
    known = set(dir(tf.raw_ops))
    for model, own in (
        (make_model("ONi", env_protection=0.01), OPERATIONS),
        (compressed("ONi"), OPERATIONS | TABLES),
    ):
        used = {node.op for node in write(model, tmp_path / "a.pb").values()}
        assert used - known == own
        assert not used & {"If", "While", "Switch", "PartitionedCall", "IdentityN"}


def test_bytes_are_the_same_each_time(make_model, tmp_path):
    model = make_model("ONi", type_one_side=True)
    for name in ("a.pb", "b.pb"):
        write(model, tmp_path / name, {"min_nbor_dist": 0.4})
    first, second = ((tmp_path / n).read_bytes() for n in ("a.pb", "b.pb"))
    assert first == second


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_interface_is_in_double_precision(make_model, tmp_path, precision):
    """DeePMD-kit's LAMMPS plugin crashes with any other; nets are as they are."""
    nodes = write(make_model(precision=precision), tmp_path / "a.pb")
    for key in ("t_coord", "t_box", "descrpt_attr/rcut", "descrpt_attr/t_avg"):
        assert nodes[key].attr["dtype"].type == tf.float64.as_datatype_enum
    weight = nodes["layer_0_type_0/matrix"].attr["dtype"].type
    assert weight == tf.as_dtype(precision).as_datatype_enum


# --- And back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("NiO", {"type_one_side": True}),
        ("ONi", {}),
        ("NiOFe", {"exclude_types": [[0, 1], [2, 4]], "resnet_dt": True}),
        ("ONi", {"vacuum_types": [1], "activation_function": "silut:2.0"}),
        ("NiO", {"env_protection": 0.01, "set_davg_zero": True}),
        ("NiO", {"precision": "float32", "type_one_side": True}),
    ],
)
@pytest.mark.usefixtures("eagerly")
def test_back_again(make_model, make_nio, tmp_path, system, options):
    """What is written gives, read again, the same numbers; types may be reordered."""
    model = make_model(system, **options)
    order = write_graph(model, tmp_path / "a.pb", {})
    again, _ = load_frozen(tmp_path / "a.pb")
    assert again.type_map == order.type_map == [model.type_map[t] for t in order.types]
    frame = make_nio(model)
    renumbered = np.argsort(order.types)[frame.atype]
    ours = run(deepspin.DeepSpin(model).eval, frame)
    theirs = deepspin.DeepSpin(again).eval(
        frame.coord, frame.box, renumbered, frame.spin
    )
    tolerance = 1e-5 if options.get("precision") == "float32" else 1e-11
    assert_close(theirs, {name: ours[name] for name in FIELDS}, tolerance)


def test_spin_types_come_first(make_model, tmp_path):
    model = make_model("NiOFe")
    nodes = write(model, tmp_path / "a.pb")
    assert value(nodes["model_attr/tmap"]).item() == b"Ni Fe O"
    assert value(nodes["deepspin/types"]).tolist() == [0, 2, 1]
    script = json.loads(value(nodes["train_attr/training_script"]).item())
    assert script["model"]["type_map"] == ["Ni", "Fe", "O"]
    assert script["model"]["spin"] == {
        "use_spin": [True, True, False],
        "virtual_len": [0.4, 0.3],
        "spin_norm": [1.2737, 2.0],
    }
    bias = np.asarray(model.fitting.bias_atom_e)
    stored = value(nodes["fitting_attr/t_bias_atom_e"])
    np.testing.assert_array_equal(stored, bias[[0, 2, 1]])
    matrix = np.asarray(model.descriptor.net(2, 4)[1].matrix)  # of O, Fe's virtual
    stored = value(nodes["filter_type_1/matrix_2_4"])
    np.testing.assert_array_equal(stored, matrix)


def test_script_keeps_the_training(make_model, data, tmp_path):
    """Sections of the training stay, but for what DeePMD-kit has not."""
    data["loss"]["start_pref_e"] = 0.123
    data["training"].pop("jit_compile", None)
    plain = copy.deepcopy(data)
    data["training"]["jit_compile"] = False
    data["training"]["training_data"]["force_mag_factor"] = 1.2
    data["loss"]["prefactors"] = "given"
    nodes = write(make_model(), tmp_path / "a.pb", {"input": data})
    script = json.loads(value(nodes["train_attr/training_script"]).item())
    for section in ("loss", "learning_rate", "training"):
        assert script[section] == plain[section]
    assert script["model"]["descriptor"]["rcut"] == 3.3  # the model's own


# --- Options --------------------------------------------------------------------------


def test_padded_cutoff(make_model, tmp_path):
    """Only what is announced changes, by the longest spin there was and a quarter."""
    model = make_model()
    metadata = {"spin_range": {"Ni": [1.0, 1.5]}}
    plain = write(model, tmp_path / "a.pb", metadata)
    padded = write(model, tmp_path / "b.pb", metadata, pad_lammps_cutoff=True)
    changed = [key for key in plain if plain[key] != padded[key]]
    assert changed == ["descrpt_attr/rcut"]
    assert value(plain["descrpt_attr/rcut"]) == 3.3
    cutoff = 3.3 + 1.25 * 1.5 * 0.4 / 1.2737
    np.testing.assert_allclose(value(padded["descrpt_attr/rcut"]), cutoff, rtol=1e-14)


# --- The command line -----------------------------------------------------------------


@pytest.fixture
def archive(make_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deepspin.save_model(make_model("ONi"), "model.keras", {"min_nbor_dist": 0.4})
    return tmp_path / "model.keras"


def test_freeze_writes_a_graph(archive, capsys):
    assert main(["freeze", "-c", "model.keras", "-o", "model.pb"]) == 0
    said = capsys.readouterr().err
    assert "model.keras: Ni O frozen into model.pb for DeePMD-kit and LAMMPS" in said
    assert "numbers of types: Ni 1 -> 0, O 0 -> 1" in said
    assert "with a skin of 0.50 Å or more for spins up to Ni 1.59 μ_B (assumed)" in said
    assert "dp compress" not in said
    assert value(nodes_of("model.pb")["train_attr/min_nbor_dist"]) == 0.4
    first = Path("model.pb").read_bytes()
    assert main(["convert-to", "deepmd", "-c", "model.keras"]) == 1
    assert "'model.pb' exists" in capsys.readouterr().err
    command = ["convert-to", "deepmd", "-c", "model.keras", "--force"]
    assert main([*command, "--pad-lammps-cutoff"]) == 0
    said = capsys.readouterr().err
    assert "cutoff announced to LAMMPS: 3.80 Å instead of 3.30, for spins" in said
    assert "`dp compress` would undo the options" in said
    assert "skin" not in said
    assert Path("model.pb").read_bytes() != first


def test_graph_of_a_graph(make_model, tmp_path, monkeypatch, capsys):
    """DeePMD-kit's file becomes ours, which becomes one again."""
    monkeypatch.chdir(tmp_path)
    source = str(REFERENCE / "base.pb")
    assert main(["convert-to", "deepmd", "-c", source, "-o", "again.pb"]) == 0
    (ours, metadata), (theirs, wanted) = map(load_frozen, ("again.pb", source))
    for mine, yours in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(mine, yours)
    assert metadata["min_nbor_dist"] == wanted["min_nbor_dist"]
    for section in ("training", "loss", "learning_rate"):
        assert metadata["input"][section] == wanted["input"][section]


def test_not_onto_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = (REFERENCE / "base.pb").read_bytes()
    Path("base.pb").write_bytes(content)
    assert main(["freeze", "-c", "base.pb", "-o", "base.pb", "--force"]) == 1
    assert "'base.pb' is the model itself" in capsys.readouterr().err
    assert Path("base.pb").read_bytes() == content


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["freeze", "-o", "frozen", "--fold-atom-virial"], "changes .pb files only"),
        (
            ["convert-to", "deepmd", "-o", "a.dp", "--pad-lammps-cutoff"],
            "--pad-lammps-cutoff changes .pb files only",
        ),
        (["convert-to", "deepmd", "-o", "model.pth"], "by the ending what a file is"),
        (["freeze", "-o", "model.dp"], "'model.dp' would be a folder, a SavedModel"),
        (["freeze", "-o", "model.PB"], "'.PB' is the ending of a file"),
    ],
)
def test_mistakes(archive, capsys, args, message):
    before = sorted(Path().iterdir())
    assert main([*args, "-c", "model.keras"]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(Path().iterdir()) == before
