# SPDX-License-Identifier: Apache-2.0
"""DeePMD-kit's own form of models, read and written; see `reference/README.md`.

With DEEPSPIN_PEER set (see `peer.py`) also beside DeePMD-kit itself.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import h5py
import invariants
import numpy as np
import pytest
import tensorflow as tf
from invariants import FIELDS, Frame, assert_close
from peer import needs_peer, run_peer
from places import REFERENCE
from tiny import DATA

import deepspin
from deepspin.data.collate import neighbors_of_frame
from deepspin.data.dataset import DataSystem
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.dpmodel import write_dpmodel
from deepspin.interop.read_dpmodel import load_dpmodel
from deepspin.interop.tree import read_tree, write_tree
from deepspin.model.compress import Options, compress
from deepspin.modelfiles.saved_model import FrozenModel, describe
from deepspin.op.library import plain_tensorflow
from deepspin.spins.virtual import VirtualAtoms

STORED = REFERENCE / "dpmodel"
CASES = sorted(path.stem for path in STORED.glob("*.npz"))
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
FPARAM = np.array([[0.3, -0.7]])


def load_case(name: str):
    with np.load(STORED / f"{name}.npz") as file:
        case = dict(file)
    return load_dpmodel(STORED / str(case["model"]))[0], case


def evaluate_case(model, case) -> dict:
    magnetic = model.spin.scheme.types.is_magnetic(case["atype"])[:, None]
    more = {"fparam": case["fparam"]} if "fparam" in case else {}
    spin = np.where(magnetic, case["spin"], 0.0)
    potential = deepspin.DeepSpin(model)
    return potential.eval(case["coord"], case["box"], case["atype"], spin, **more)


def frame_of(model, case, number=0) -> Frame:
    scale = model.spin.scheme.codec.scale_of(case["atype"])
    arrays = (case[name][number] for name in ("coord", "box"))
    spin = case["spin"][number] * (scale > 0)[:, None]
    return Frame(*arrays, case["atype"], spin, scale)


def evaluate(model, frame: Frame) -> dict:
    more = {"fparam": FPARAM} if model.fitting.numb_fparam else {}
    potential = deepspin.DeepSpin(model)
    return potential.eval(frame.coord, frame.box, frame.atype, frame.spin, **more)


def tolerance_of(name: str) -> float:
    return 1e-5 if name in ("float32", "single precision") else 1e-10


# --- Reading --------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_same_file_same_energies(name):
    model, case = load_case(name)
    wanted = {key: case[key] for key in ("energy", "atom_ener")}
    assert np.ptp(case["atom_ener"]) > 1e-2
    assert_close(evaluate_case(model, case), wanted, tolerance_of(name))


@pytest.mark.parametrize(
    ("name", "placeholders", "float32_cutoff"),
    [
        ("one_side", True, True),
        ("protected", True, False),
        ("two_side", True, True),
        ("all_spins", False, True),
        ("excluded", False, True),
    ],
)
def test_only_what_needs_it_is_special(name, placeholders, float32_cutoff):
    """Models that an input can describe are such models."""
    model, _ = load_case(name)
    assert model.spin.scheme.placeholders == placeholders
    assert model.descriptor.float32_cutoff == float32_cutoff


@pytest.mark.parametrize("name", ["one_side", "protected"])
def test_sections_without_atoms_count(name):
    """Otherwise these files would show nothing."""
    model, case = load_case(name)
    for layer in model.descriptor.net(0, model.spin.scheme.nblocks - 1):
        for weight in layer.weights:
            weight.assign(tf.zeros_like(weight))
    found = evaluate_case(model, case)["energy"]
    assert np.abs(found - case["energy"]).max() > 1e-4


@pytest.mark.parametrize("name", ["protected", "two_side"])
def test_physics(name):
    """Empty sections and cutoffs in float64 leave forces and virials right."""
    model, case = load_case(name)
    frame, evaluate = frame_of(model, case), deepspin.DeepSpin(model).eval
    invariants.check_derivatives(evaluate, frame, step=1e-5)
    invariants.check_rotation(evaluate, frame, reflect=True)
    invariants.check_permutation(evaluate, frame)
    invariants.check_sums(evaluate, frame)
    invariants.check_supercell(evaluate, frame)
    invariants.check_non_spin(evaluate, frame)


# --- Types that hold a place ----------------------------------------------------------


def test_scheme_with_placeholders():
    options = {"use_spin": [False, True, False], "virtual_scale": [0.3]}
    plain = VirtualAtoms.from_options(**options)
    scheme = VirtualAtoms.from_options(**options, placeholders=True)
    assert plain.extend_sel([1, 2, 3]) == (1, 2, 3, 2)
    assert scheme.extend_sel([1, 2, 3]) == (1, 2, 3, 2, 1, 3)
    assert scheme.nblocks == 6
    assert scheme.codec == plain.codec
    assert len(scheme.neighbor_names(["A", "B", "C"])) == 6
    assert plain.neighbor_names(["A", "B", "C"]) == ["A", "B", "C", "B(spin)"]


@pytest.fixture(scope="module")
def placeholders():
    """A model with placeholders, and one of its frames."""
    model, case = load_case("two_side")
    return model, frame_of(model, case)


def test_kept_by_model_files(tmp_path, placeholders):
    model, frame = placeholders
    deepspin.save_model(model, tmp_path / "model.keras")
    again = deepspin.load_model(tmp_path / "model.keras")
    found, wanted = evaluate(again, frame), evaluate(model, frame)
    for name in FIELDS:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_kept_by_frozen_models(placeholders):
    model, frame = placeholders
    frozen = FrozenModel(model, describe(model, {}))
    given = (frame.coord, frame.box, frame.atype.astype(np.int32), frame.spin)
    found = frozen.eval_small(*(tf.constant(array[None]) for array in given))
    assert_close(found, {k: evaluate(model, frame)[k] for k in FIELDS}, 1e-10)


@pytest.mark.parametrize("float32_cutoff", [True, False])
def test_kernels_agree(placeholders, float32_cutoff):
    """Without env_protection the kernels do such models, too."""
    source, frame = placeholders
    config = source.get_config()
    config["descriptor"]["config"] |= {
        "env_protection": 0.0,
        "float32_cutoff": float32_cutoff,
        "rcut": 4.3,
    }
    model = deepspin.SpinEnergyModel.from_config(config)
    for a, b in zip(model.weights, source.weights, strict=True):
        a.assign(b)
    found = evaluate(model, frame)
    with plain_tensorflow():
        wanted = evaluate(model, frame)
    assert_close(found, {k: wanted[k] for k in FIELDS}, 1e-11)


@pytest.mark.parametrize("layout", ["virtual-atom-16", "spin-files-16"])
def test_data_of_both_layouts(layout):
    """Placeholders are no types in data."""
    model, _ = load_case("one_side")  # Ni, O
    path = str(DATA / "valid" / layout)
    data = DataSystem(path, **model.data_spec)
    system = data.systems[0]
    inputs, _ = next(iter(data.sample(1)))
    energies = []
    for f in range(system.nframes):
        arrays = (x[f] for x in (system.coord, system.box, system.atype, system.spin))
        energies.append(deepspin.DeepSpin(model).eval(*arrays)["energy"][0])
    found = model(inputs)["energy"].numpy()
    assert all(np.isclose(energies, e, rtol=1e-12).any() for e in found)
    assert data.names_extended == ["Ni", "O", "Ni(spin)", "O(spin)"]
    assert data.found[3] == 0


# --- Writing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [*((name, ".dp") for name in MODELS), ("frame parameters, vacuum", ".yaml")],
)
def test_round_trip(tmp_path, make_model, make_nio, name, suffix):
    system, options = MODELS[name]
    model = make_model(system, **options)
    write_dpmodel(model, tmp_path / f"model{suffix}", {})
    again, _ = load_dpmodel(tmp_path / f"model{suffix}")
    assert again.descriptor.float32_cutoff
    assert not again.spin.scheme.placeholders
    assert again.descriptor.sel == model.descriptor.sel
    assert_same(model, again, make_nio(model), name)


def assert_same(model, again, frame, name="") -> None:
    found, wanted = evaluate(again, frame), evaluate(model, frame)
    wanted = {k: wanted[k] for k in FIELDS if wanted[k].any()}
    loose = 1e-5 if tolerance_of(name) > 1e-10 else 1e-12
    assert_close(found, wanted, loose)


@pytest.mark.parametrize("name", CASES)
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


# --- What is refused ------------------------------------------------------------------


def edit(*path, to):
    """Set something of a model's tree."""

    def change(tree):
        *parents, last = path
        for key in parents:
            tree = tree[key]
        tree[last] = to

    return change


def change_array(*path, at, to):
    def change(tree):
        for key in path:
            tree = tree[key]
        tree[at] = to

    return change


BACKBONE, DESCRIPTOR = ("backbone_model",), ("backbone_model", "descriptor")
FITTING = ("backbone_model", "fitting")
REFUSED = {
    "model": (edit("type", to="sezm_native_spin"), "of type 'sezm_native_spin'"),
    "several": (edit("model_dict", to={}), "several models"),
    "descriptor": (edit(*DESCRIPTOR, "type", to="dpa3"), "the descriptor 'dpa3'"),
    "fitting": (edit(*FITTING, "type", to="dos"), "the fitting net 'dos'"),
    "newer": (edit(*FITTING, "@version", to=9), "fitting is of version 9"),
    "compressed": (edit(*DESCRIPTOR, "compress", to={}), "it is compressed"),
    "aparam": (edit(*FITTING, "numb_aparam", to=1), "it has `numb_aparam`"),
    "mask": (edit(*FITTING, "use_aparam_as_mask", to=True), "`use_aparam_as_mask`"),
    "case": (edit(*FITTING, "dim_case_embd", to=2), "`dim_case_embd`"),
    "mixed": (edit(*FITTING, "mixed_types", to=True), "`mixed_types`"),
    "no atoms": (
        edit(*BACKBONE, "atom_exclude_types", to=[0, 2, 3]),
        "`atom_exclude_types` of atoms",
    ),
    "virtual energies": (edit(*BACKBONE, "atom_exclude_types", to=[3]), "of atoms"),
    "switch": (edit(*DESCRIPTOR, "env_mat", "use_exp_switch", to=True), "exp_switch"),
    "bias": (
        edit(*BACKBONE, "@variables", "out_bias", to=np.zeros((2, 4, 1))),
        "another `out_bias`",
    ),
    "scale": (edit("spin", "virtual_scale", to=None), "no `virtual_scale`"),
    "precision": (edit(*DESCRIPTOR, "precision", to="bfloat16"), "in bfloat16"),
    "contradiction": (edit(*DESCRIPTOR, "rcut", to=5.0), "contradicts its descriptor"),
    "sel": (edit(*DESCRIPTOR, "sel", to=[22, 22, 21, 23]), "`sel` .* is not the same"),
    "seen placeholders": (
        edit(*BACKBONE, "pair_exclude_types", to=[]),
        "see virtual atoms of type 1, which has no spin",
    ),
    "slots": (
        change_array(*DESCRIPTOR, "@variables", "davg", at=(0, 3, 0), to=0.5),
        "not the same in every slot",
    ),
    "directions": (
        change_array(*DESCRIPTOR, "@variables", "davg", at=(0, slice(None), 2), to=0.5),
        "`davg` of a direction",
    ),
    "excluded": (
        lambda tree: tree["backbone_model"]["pair_exclude_types"].append([0, 1]),
        "types 0 and 1 do not see each other",
    ),
    "residual": (
        edit(*DESCRIPTOR, "embeddings", "networks", 0, "layers", 1, "resnet", to=False),
        "layer 1 of embedding net 0, 0 does not add its input",
    ),
    "time steps": (
        change_array(
            *(*FITTING, "nets", "networks", 0, "layers", 1, "@variables"),
            at="idt",
            to=None,
        ),
        "another `idt`",
    ),
    "mixture": (
        change_array(
            *(*FITTING, "nets", "networks", 0, "layers", 1, "@variables"),
            at="w",
            to=np.zeros((6, 6), np.float32),
        ),
        "is in float32, not in float64",
    ),
    "lacking": (lambda tree: tree.pop("spin"), r"no model of DeePMD-kit 3.*KeyError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    change, message = REFUSED[name]
    content = read_tree(STORED / "one_side.dp")
    change(content["model"])
    path = tmp_path / "model.dp"
    write_tree(path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_dpmodel(path)
    assert f"'{path}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.dp", "model.yaml"])
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"{ junk")
    with pytest.raises(ValueError, match="damaged, or no model of DeePMD-kit"):
        load_dpmodel(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_dpmodel(tmp_path / f"no-{name}")


def test_an_input_is_no_model(tmp_path):
    (tmp_path / "input.yaml").write_text("model: {type_map: [Ni]}\n")
    with pytest.raises(ValueError, match="no model of DeePMD-kit 3"):
        load_dpmodel(tmp_path / "input.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    with pytest.raises(ValueError, match="holds no object"):
        load_dpmodel(tmp_path / "list.yaml")


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


@needs_peer
def test_models_made_now(tmp_path):
    """Other weights than the stored ones, and the stored ones again."""
    script = REFERENCE / "make_dpmodel.py"
    for seed in (0, 7):
        folder = tmp_path / str(seed)
        folder.mkdir()
        given = ("--out", folder, "--seed", str(seed))
        run_peer("python", script, *given, folder=tmp_path)
        for name in CASES:
            with np.load(folder / f"{name}.npz") as file:
                case = dict(file)
            wanted = {key: case[key] for key in ("energy", "atom_ener")}
            model = load_dpmodel(folder / str(case["model"]))[0]
            assert_close(evaluate_case(model, case), wanted, tolerance_of(name))
            if seed == 0:
                stored = load_case(name)[1]
                np.testing.assert_allclose(case["energy"], stored["energy"], 1e-6)


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
            write_dpmodel(model, path, {"min_nbor_dist": 0.4})
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
