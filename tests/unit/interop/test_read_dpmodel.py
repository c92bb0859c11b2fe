# SPDX-License-Identifier: Apache-2.0
"""Models of DeePMD-kit's other backends are read as they are."""

from __future__ import annotations

import invariants
import numpy as np
import pytest
import tensorflow as tf
from invariants import FIELDS, assert_close
from peer import needs_peer, run_peer
from places import REFERENCE
from stored_dpmodels import (
    BACKBONE,
    CASES,
    DESCRIPTOR,
    STORED,
    evaluate,
    evaluate_case,
    frame_of,
    load_case,
    tolerance_of,
)
from tiny import DATA

import deepspin
from deepspin.data.dataset import DataSystem
from deepspin.interop.read_dpmodel import load_dpmodel
from deepspin.interop.tree import read_tree, write_tree
from deepspin.modelfiles.saved_model import FrozenModel, describe
from deepspin.op.library import plain_tensorflow
from deepspin.spins.virtual import VirtualAtoms


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("eagerly")
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
@pytest.mark.any_version
@pytest.mark.usefixtures("eagerly")
def test_sections_without_atoms_count(name):
    """Otherwise these files would show nothing."""
    model, case = load_case(name)
    for layer in model.descriptor.net(0, model.spin.scheme.nblocks - 1):
        for weight in layer.weights:
            weight.assign(tf.zeros_like(weight))
    found = evaluate_case(model, case)["energy"]
    assert np.abs(found - case["energy"]).max() > 1e-4


@pytest.mark.parametrize("name", ["protected", "two_side"])
@pytest.mark.any_version
@pytest.mark.usefixtures("eagerly")
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


def test_scheme_with_placeholders():
    options = {"use_spin": [False, True, False], "virtual_scale": [0.3]}
    plain = VirtualAtoms.from_options(**options)
    scheme = VirtualAtoms.from_options(**options, placeholders=True)
    assert plain.extend_sel([1, 2, 3]) == (1, 2, 3, 2)
    assert scheme.extend_sel([1, 2, 3]) == (1, 2, 3, 2, 1, 3)
    assert scheme.nblocks == 6
    types = np.arange(3)
    np.testing.assert_array_equal(
        scheme.codec.virtual_type(types), plain.codec.virtual_type(types)
    )
    assert len(scheme.neighbor_names(["A", "B", "C"])) == 6
    assert plain.neighbor_names(["A", "B", "C"]) == ["A", "B", "C", "B(spin)"]


@pytest.fixture(scope="module")
def placeholders():
    """A model with placeholders, and one of its frames."""
    model, case = load_case("two_side")
    return model, frame_of(model, case)


@pytest.mark.usefixtures("eagerly")
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
@pytest.mark.any_version
@pytest.mark.usefixtures("eagerly")
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
@pytest.mark.any_version
@pytest.mark.usefixtures("eagerly")
def test_data_of_both_layouts(layout):
    """Placeholders are no types in data."""
    model, _ = load_case("one_side")  # Ni, O
    path = str(DATA / "valid" / layout)
    data = DataSystem(path, **model.data_spec)
    system = data.systems[0]
    inputs, _ = next(iter(data.sample(1)))
    potential, energies = deepspin.DeepSpin(model), []
    for f in range(system.nframes):
        arrays = (x[f] for x in (system.coord, system.box, system.atype, system.spin))
        energies.append(potential.eval(*arrays)["energy"][0])
    found = model(inputs)["energy"].numpy()
    assert all(np.isclose(energies, e, rtol=1e-12).any() for e in found)
    assert data.names_extended == ["Ni", "O", "Ni(spin)", "O(spin)"]
    assert data.found[3] == 0


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


@needs_peer
@pytest.mark.usefixtures("eagerly")
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
