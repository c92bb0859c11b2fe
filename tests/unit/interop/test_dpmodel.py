# SPDX-License-Identifier: Apache-2.0
"""DeePMD-kit's own form of models, read and written; see `reference/README.md`.

With DEEPSPIN_PEER set (see `peer.py`) also beside DeePMD-kit itself.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from invariants import FIELDS, assert_close
from peer import needs_peer, run_peer
from places import REFERENCE
from stored_dpmodels import (
    CASES,
    FPARAM,
    STORED,
    evaluate,
    evaluate_case,
    frame_of,
    load_case,
    tolerance_of,
)
from tiny import DATA

import deepspin
from deepspin.data.collate import neighbors_of_frame
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.dpmodel import write_dpmodel
from deepspin.interop.read_dpmodel import load_dpmodel
from deepspin.interop.tree import read_tree
from deepspin.model.compress import Options, compress

# arguments of make_model
MODELS = {
    "spin type first": ("NiO", {"type_one_side": True}),
    "spin type second": ("ONi", {"type_one_side": True}),
    "spin types first and last, two sides": (
        "NiOFe",
        {"type_one_side": False, "resnet_dt": True, "neuron": (2, 4, 4)},
    ),
    "excluded": ("NiOFe", {"exclude_types": [[0, 1], [1, 4], [2, 2]]}),
    "cutoffs that float32 rounds": ("ONi", {"rcut": 3.37, "rcut_smth": 0.53}),
    "protected": ("NiOFe", {"type_one_side": True, "env_protection": 0.01}),
    "atoms in vacuum": ("ONi", {"type_one_side": True, "vacuum_types": (1,)}),
    "frame parameters": ("ONi", {"type_one_side": True, "numb_fparam": 2}),
    "frame parameters, vacuum": (
        "NiOFe",
        {"type_one_side": True, "numb_fparam": 2, "vacuum_types": (0, 1)},
    ),
    "fitting net as wide as before": ("NiO", {"fit_neuron": (64, 64, 128)}),
    "single precision": ("ONi", {"type_one_side": True, "precision": "float32"}),
}


# what metadata tell of a training's data
ENDS = {"coordination": [3.2, 3.9], "nearest": [1.7, 2.1]}
TOLD = {
    "min_nbor_dist": 0.4,
    "nearest": {"Ni": {"O": 1.75, "Ni(spin)": 0.4}},
    "spin_range": {"Ni": [1.1, 1.3]},
    "environments": {"Ni": {"O": ENDS}},
}


# --- Writing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [*((name, ".dp") for name in MODELS), ("frame parameters, vacuum", ".yaml")],
)
@pytest.mark.usefixtures("eagerly")
def test_round_trip(tmp_path, make_model, make_nio, name, suffix):
    system, options = MODELS[name]
    model = make_model(system, **options)
    write_dpmodel(model, tmp_path / f"model{suffix}", {})
    again, _ = load_dpmodel(tmp_path / f"model{suffix}")
    assert again.descriptor.float32_cutoff
    assert not again.spin.scheme.placeholders
    assert again.descriptor.sel == model.descriptor.sel
    assert_same(model, again, make_nio(model), name)


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_what_is_told_of_a_training(tmp_path, make_model, suffix):
    """It is kept, and so told of in evaluations; in a wrong form it is refused."""
    path = tmp_path / f"model{suffix}"
    write_dpmodel(make_model("NiO"), path, TOLD | {"step": 3})
    metadata = deepspin.DeepSpin(path).metadata
    assert {k: v for k, v in metadata.items() if k != "input"} == TOLD
    write_dpmodel(make_model("NiO"), path, {"spin_range": {"Ni": "long"}})
    with pytest.raises(ValueError, match=f"model{suffix}' is damaged: `spin_range`"):
        deepspin.load_model(path)


def assert_same(model, again, frame, name="") -> None:
    found, wanted = evaluate(again, frame), evaluate(model, frame)
    wanted = {k: wanted[k] for k in FIELDS if wanted[k].any()}
    loose = 1e-5 if tolerance_of(name) > 1e-10 else 1e-12
    assert_close(found, wanted, loose)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("eagerly")
def test_files_of_deepmd_are_written_as_they_were(tmp_path, name):
    model, case = load_case(name)
    write_dpmodel(model, tmp_path / "model.dp", {})
    again, _ = load_dpmodel(tmp_path / "model.dp")
    wanted = {key: case[key] for key in ("energy", "atom_ener")}
    assert_close(evaluate_case(again, case), wanted, tolerance_of(name))
    there = read_tree(STORED / str(case["model"]))["model"]["backbone_model"]
    here = read_tree(tmp_path / "model.dp")["model"]["backbone_model"]
    for key in ("sel", "env_protection", "type_one_side", "type_map", "env_mat"):
        assert here["descriptor"][key] == there["descriptor"][key], key
    if model.spin.scheme.placeholders:  # not even rounded
        for part in ("descriptor", "fitting"):
            names = ("embeddings", "davg") if part == "descriptor" else ("nets", None)
            first, second = (
                tree[part][names[0]]["networks"][0] for tree in (here, there)
            )
            for a, b in zip(first["layers"], second["layers"], strict=True):
                np.testing.assert_array_equal(
                    a["@variables"]["w"], b["@variables"]["w"]
                )


@pytest.mark.parametrize("name", ["base", "two_side", "exclude_virtual", "atom_ener"])
@pytest.mark.usefixtures("eagerly")
def test_frozen_graphs_keep_their_numbers(tmp_path, name):
    """From DeePMD-kit's TensorFlow backend to its own form and back."""
    model, _ = load_frozen(REFERENCE / f"{name}.pb")
    write_dpmodel(model, tmp_path / "model.dp", {})
    again, _ = load_dpmodel(tmp_path / "model.dp")
    with np.load(REFERENCE / f"{name}.npz") as case:
        arrays = [case[key] for key in ("coord", "box", "atype", "spin")]
        wanted = {key: case[key] for key in ("energy", "force", "force_mag", "virial")}
    assert_close(deepspin.DeepSpin(again).eval(*arrays), wanted, 1e-10)


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_bytes_depend_on_the_model_alone(tmp_path, make_model, suffix):
    paths = [tmp_path / f"{k}{suffix}" for k in "ab"]
    for path in paths:
        write_dpmodel(make_model("ONi"), path, {"min_nbor_dist": 0.4})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert load_dpmodel(paths[0])[1]["min_nbor_dist"] == 0.4
    content = read_tree(paths[0])
    assert set(content) == {
        *("software", "version", "model", "model_def_script", "@variables")
    }
    assert float(content["@variables"]["min_nbor_dist"]) == 0.4
    script = content["model_def_script"]
    assert script["descriptor"]["sel"] == [26, 26]
    assert script["spin"]["use_spin"] == [False, True]


def large_model(make_model):
    """Four types, two sides: more text than an attribute of HDF5 can usually hold."""
    names = ["A", "B", "C", "D"]
    small = make_model("NiO", type_one_side=False, sel=[12, 12])
    spin = deepspin.Spin([False, True, False, True], virtual_scale=[0.3, 0.2])
    config = small.descriptor.get_config()
    sel = spin.scheme.extend_sel([9, 8, 7, 6])
    config |= {"ntypes": 4, "sel": sel, "neuron": [2, 4, 8, 8, 16], "name": "large"}
    descriptor = deepspin.DescrptSeA.from_config(config)
    fitting = deepspin.EnerFitting(4, descriptor.dim_out, neuron=[8, 8], seed=3)
    return deepspin.SpinEnergyModel(names, descriptor, fitting, spin)


def test_many_nets(tmp_path, make_model):
    model = large_model(make_model)
    write_dpmodel(model, tmp_path / "model.dp", {})
    with h5py.File(tmp_path / "model.dp") as file:
        assert len(file.attrs["json"]) > 65536
    again, metadata = load_dpmodel(tmp_path / "model.dp")
    assert "min_nbor_dist" not in metadata
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-15)


def test_compressed_models_are_not_written(tmp_path, make_model):
    model = make_model("NiO", type_one_side=True, neuron=(3, 6), fit_neuron=(4, 4))
    nearest = np.full((2, 3), 1.0)
    compressed, _ = compress(model, nearest, Options(1e-6, 5.0, None, 1), [])
    with pytest.raises(ValueError, match="compressed model has no embedding nets"):
        write_dpmodel(compressed, tmp_path / "model.dp", {})
    assert not list(tmp_path.iterdir())


# --- Verbs ----------------------------------------------------------------------------


def test_verbs_take_them(run, capsys):
    model = str(STORED / "protected.dp")
    run("show", model)
    shown = capsys.readouterr().out
    assert "DeePMD-kit's own form" in shown
    assert "O 22, Ni 22, Fe 22, Ni(spin) 22, Fe(spin) 22, O(spin) 22" in shown
    run("convert-from", model, "-o", "model.keras")
    run("freeze", "-c", model, "-o", "frozen")
    capsys.readouterr()
    run("test", "-m", STORED / "one_side.dp", "-s", DATA / "valid" / "spin-files-16")
    assert "Force spin  RMSE" in capsys.readouterr().err.replace(
        "Force spin RMSE", "Force spin  RMSE"
    )
    potential = deepspin.DeepSpin("model.keras")
    case = load_case("protected")[1]
    found = evaluate_case(potential.model, case)
    assert_close(found, {"energy": case["energy"]}, 1e-10)


def test_training_goes_on_from_them(run, data, capsys):
    """Also where no input can describe the model."""
    source, metadata = load_dpmodel(STORED / "one_side.dp")
    data["model"] = copy.deepcopy(metadata["input"]["model"])
    data["training"] |= {"numb_steps": 2, "save_freq": 1, "disp_freq": 1}
    Path("input.json").write_text(json.dumps(data))
    run("train", "input.json", "-i", STORED / "one_side.dp")
    trained = deepspin.load_model("model.ckpt-2.keras")
    assert trained.spin.scheme.placeholders
    assert "placeholders" not in Path("out.json").read_text()
    first = np.array(source.fitting.bias_atom_e)
    np.testing.assert_array_equal(first, np.array(trained.fitting.bias_atom_e))
    run("train", "out.json", "-r", "model.ckpt-1.keras")


# --- Beside DeePMD-kit ----------------------------------------------------------------


def evaluate_there(jobs: list, folder: Path) -> list[dict]:
    """Energies of DeePMD-kit: jobs are (path of the model, frame, model)."""
    lines = []
    for k, (path, frame, model) in enumerate(jobs):
        arrays = {key: getattr(frame, key)[None] for key in ("coord", "box", "spin")}
        arrays["atype"] = frame.atype
        if model.fitting.numb_fparam:
            arrays["fparam"] = FPARAM
        np.savez(folder / f"given-{k}.npz", **arrays)
        names = (path, folder / f"given-{k}.npz", folder / f"answer-{k}.npz")
        lines.append([str(name) for name in names])
    (folder / "jobs.json").write_text(json.dumps(lines))
    script = REFERENCE / "make_dpmodel.py"
    run_peer("python", script, "--evaluate", "jobs.json", folder=folder)
    return [dict(np.load(line[2])) for line in lines]


@needs_peer
@pytest.mark.usefixtures("eagerly")
def test_deepmd_reads_our_files(tmp_path, make_model, make_nio):
    """Models of every kind, spins types anywhere, as many neighbours as `sel`."""
    models = {name: make_model(s, **options) for name, (s, options) in MODELS.items()}
    frames = {name: make_nio(model) for name, model in models.items()}
    for name in ("base", "two_side", "exclude_one_side", "exclude_two_side"):
        models[name] = load_frozen(REFERENCE / f"{name}.pb")[0]
        frames[name] = make_nio(models[name])
    models["tight"], frames["tight"] = tight(make_model, make_nio)
    models["many nets"] = large_model(make_model)
    frames["many nets"] = frame_of(
        models["many nets"], load_case("one_side")[1] | {"atype": np.arange(12) % 4}
    )
    jobs = []
    for k, (name, model) in enumerate(models.items()):
        for suffix in (".dp", ".yaml")[: 2 if k < 3 else 1]:
            path = tmp_path / f"model-{k}{suffix}"
            write_dpmodel(model, path, TOLD)
            jobs.append((path, frames[name], model, name))
    answers = evaluate_there([job[:3] for job in jobs], tmp_path)
    for answer, (_, frame, model, name) in zip(answers, jobs, strict=True):
        found = evaluate(model, frame)
        wanted = {key: found[key] for key in ("energy", "atom_ener")}
        assert_close(answer, wanted, 1e-5 if "precision" in name else 1e-12)


def tight(make_model, make_nio):
    """A model whose `sel` just holds the neighbours of a frame."""
    loose = make_model("NiO", type_one_side=True, sel=[60, 60])
    frame = make_nio(loose)
    scheme = loose.spin.scheme
    spin = np.where(frame.magnetic[:, None], frame.spin, 0.0)
    found = neighbors_of_frame(
        *(frame.coord, spin, frame.atype, frame.box, True, scheme),
        *(loose.descriptor.rcut, None),
    ).found
    sel = [int(max(found[0], found[2])), int(found[1])]
    return make_model("NiO", type_one_side=True, sel=sel), frame
