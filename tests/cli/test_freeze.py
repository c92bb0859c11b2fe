# SPDX-License-Identifier: Apache-2.0
"""Frozen models and model files: same numbers, no code, readable later."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.neighborlist import neighbor_list
from places import FILES, REFERENCE
from tiny import DATA, tree

import deepspin
from deepspin.main import main
from deepspin.modelfiles.find import FROZEN_METADATA, read_config, read_metadata
from deepspin.modelfiles.saved_model import FrozenModel, describe

NAMES = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")
SYSTEM = str(DATA / "valid" / "spin-files-16")


def functions(model, metadata=None):
    """The functions of a frozen model, without writing it."""
    return FrozenModel(model, describe(model, metadata or {}))


def arguments(frames):
    """coord, box, atype, spin of frames of equally many atoms."""
    return (
        np.stack([f.coord for f in frames]),
        np.stack([np.zeros((3, 3)) if f.box is None else f.box for f in frames]),
        np.stack([f.atype for f in frames]).astype(np.int32),
        np.stack([f.spin for f in frames]),
    )


def expected(model, frames):
    """What `DeepSpin` says, frame by frame."""
    potential = deepspin.DeepSpin(model)
    rows = [potential.eval(f.coord, f.box, f.atype, f.spin) for f in frames]
    return {k: np.concatenate([row[k] for row in rows]) for k in NAMES}


def same(result, reference, tolerance=1e-12):
    for name in NAMES:
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(
            result[name].numpy(),
            reference[name],
            rtol=tolerance,
            atol=tolerance * scale,
            err_msg=name,
        )


def listed(frame, cutoff):
    """Neighbour list of a frame as ASE makes it."""
    atoms = Atoms("H" * len(frame.coord), frame.coord, cell=frame.box, pbc=True)
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    width = np.bincount(i).max()
    nlist = np.full((1, len(atoms), width + 2), -1, dtype=np.int32)
    shifts = np.zeros((*nlist.shape, 3), dtype=np.int32)
    for atom in range(len(atoms)):
        own = np.random.default_rng(atom).permutation(np.flatnonzero(i == atom))
        nlist[0, atom, : len(own)] = j[own]
        shifts[0, atom, : len(own)] = shift[own]
    return nlist, shifts


# --- Numbers --------------------------------------------------------------------------


VARIANTS = {
    "one-sided": ("NiO", {"type_one_side": True}),
    "two-sided": ("NiO", {}),
    "spins second": ("ONi", {}),
    "two spin types": ("NiOFe", {"type_one_side": True}),
    "excluded pairs": ("NiO", {"exclude_types": [[0, 1]]}),
    "truncated": ("NiO", {"sel": [9, 7]}),
    "float32": ("NiO", {"precision": "float32"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers(variant, make_model, make_nio, make_cluster):
    """Batches in periodic cells smaller than the cutoff; open clusters."""
    system, options = VARIANTS[variant]
    model = make_model(system, **options)
    frozen = functions(model)
    tolerance = 1e-5 if variant == "float32" else 1e-12
    for frames in (
        [make_nio(model, seed=k) for k in range(3)],
        [make_cluster(model, seed=4)],
    ):
        result = frozen.eval_small(*arguments(frames))
        same(result, expected(model, frames), tolerance)
        assert (result["dropped"].numpy() > 0).any() == (
            variant == "truncated" and frames[0].box is not None
        )


def test_with_a_neighbour_list(make_model, make_nio):
    model = make_model()
    frozen, frame = functions(model), make_nio(model)
    cutoff = describe(model, {})["nlist_cutoff"]
    result = frozen.eval(*arguments([frame]), *listed(frame, cutoff))
    same(result, expected(model, [frame]))


def test_partly_periodic(make_model, make_nio):
    """Zero rows of the box are open directions; others in the batch are not."""
    model = make_model()
    frozen, potential = functions(model), deepspin.DeepSpin(model)
    frames = [make_nio(model, seed=k) for k in range(4)]
    coord, box, atype, spin = arguments(frames)
    for k, axis in enumerate([None, 0, 1, 2]):
        if axis is not None:
            box[k, axis] = 0.0
    result = frozen.eval_small(coord, box, atype, spin)
    for k, axis in enumerate([None, 0, 1, 2]):
        cell, pbc = frames[k].box, [axis is None or d != axis for d in range(3)]
        answer = potential.eval(coord[k], cell, atype[k], spin[k], pbc=pbc)
        same({n: result[n][k : k + 1] for n in NAMES}, answer)


def test_frames_of_different_atoms(make_model, make_nio, make_cluster):
    """In any order of types, with fewer atoms, with none."""
    model = make_model(type_one_side=True)
    potential, frozen = deepspin.DeepSpin(model), functions(model)
    frame, small = make_nio(model), make_cluster(model, natoms=5)
    coord, box, atype, spin = arguments([frame] * 3)
    order = np.random.default_rng(0).permutation(8)
    coord[0], atype[0], spin[0] = coord[0][order], atype[0][order], spin[0][order]
    where = [1, 2, 4, 5, 7]
    coord[1], box[1], atype[1], spin[1] = np.nan_to_num(np.inf), 0.0, -1, 0.0
    coord[1, where], atype[1, where] = small.coord, small.atype
    spin[1, where] = small.spin
    atype[2] = -1
    coord[1, [0, 3, 6]] = 0.0  # of no atom: means nothing
    result = {
        k: v.numpy() for k, v in frozen.eval_small(coord, box, atype, spin).items()
    }
    answer = expected(model, [frame])
    np.testing.assert_allclose(
        result["force"][0], answer["force"][0][order], atol=1e-12
    )
    answer = potential.eval(small.coord, None, small.atype, small.spin)
    for name in ("force", "force_mag"):
        np.testing.assert_allclose(result[name][1, where], answer[name][0], atol=1e-12)
        assert not result[name][1, [0, 3, 6]].any()
    np.testing.assert_allclose(result["energy"][1], answer["energy"][0], rtol=1e-12)
    assert all(not result[name][2].any() for name in NAMES)


# --- Refusals -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case(make_model, make_nio):
    model = make_model(type_one_side=True)
    return functions(model), make_nio(model)


def zero_spin(coord, box, atype, spin):
    spin[0, np.flatnonzero(atype[0] == 0)[0]] = 0.0


def unknown_type(coord, box, atype, spin):
    atype[0, 0] = 2


def nan(coord, box, atype, spin):
    coord[0, 3, 1] = np.nan


def together(coord, box, atype, spin):
    coord[0, 1] = coord[0, 0] + box[0, 2]


MISTAKES = {
    zero_spin: r"spin\| = 0 on an atom of a spin type",
    unknown_type: "`atype` must be below 2",
    nan: "`coord` is NaN or infinite",
    together: "coincide",
}


@pytest.mark.parametrize("spoil", MISTAKES, ids=lambda f: f.__name__)
def test_wrong_input_is_refused(case, spoil):
    frozen, frame = case
    given = arguments([frame])
    spoil(*given)
    with pytest.raises(tf.errors.InvalidArgumentError, match=MISTAKES[spoil]):
        frozen.eval_small(*given)


def test_lists_that_cannot_be_right_are_refused(case, make_model):
    frozen, frame = case
    given = arguments([frame])
    nlist, shift = listed(frame, 4.5)
    given[3][:] *= 9.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="a spin is so long"):
        frozen.eval(*given, nlist, shift)
    given[3][:] /= 9.0
    nlist[0, 0, 0] = 8
    with pytest.raises(tf.errors.InvalidArgumentError, match="atoms that are not th"):
        frozen.eval(*given, nlist, shift)


# --- Files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model of the example's kind as archive and frozen."""
    folder = tmp_path_factory.mktemp("files")
    model = deepspin.load_model(REFERENCE / "base.pb")
    ranges = {"spin_range": {"Ni": [1.1, 1.4]}, "min_nbor_dist": 0.33, "step": 7}
    deepspin.save_model(model, folder / "model.keras", ranges)
    assert main(["freeze", "-c", f"{folder}/model", "-o", f"{folder}/frozen"]) == 0
    return folder


WITHOUT_DEEPSPIN = """
import sys
sys.modules["deepspin"] = None  # importing it fails
import numpy as np
import tensorflow as tf
model = tf.saved_model.load("frozen")
given = np.load("given.npz")
result = model.eval_small(*(given[k] for k in ("coord", "box", "atype", "spin")))
named = model.signatures["eval_small"](**{k: tf.constant(given[k]) for k in given})
for name in result:
    assert np.array_equal(result[name], named[name])
np.savez("result.npz", **{k: v.numpy() for k, v in result.items()})
"""


def test_without_deepspin(files):
    potential = deepspin.DeepSpin(files / "model.keras")
    data = deepspin.DataSystem(SYSTEM, **potential.model.data_spec).systems[0]
    given = {
        "coord": data.coord[:2],
        "box": data.box[:2],
        "atype": data.atype[:2],
        "spin": data.spin[:2],
    }
    np.savez(files / "given.npz", **given)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEEPSPIN],
        cwd=files,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = potential.eval(data.coord[:2], data.box[:2], data.atype[0], data.spin[:2])
    with np.load(files / "result.npz") as result:
        for name in NAMES:
            scale = np.abs(answer[name]).max()
            np.testing.assert_allclose(
                result[name], answer[name], rtol=1e-12, atol=1e-12 * scale
            )


def test_metadata_of_a_frozen_model(files):
    stored = json.loads((files / "frozen" / FROZEN_METADATA).read_text())
    told = json.loads(tf.saved_model.load(str(files / "frozen")).metadata().numpy())
    model = deepspin.load_model(files / "model.keras")
    assert {k: v for k, v in stored.items() if k != "model"} == told
    assert told["type_map"] == model.type_map
    assert told["rcut"] == model.descriptor.rcut
    assert told["nlist_cutoff"] == pytest.approx(
        told["rcut"] + 1.25 * 1.4 * model.spin.scheme.codec.scale[0], rel=1e-12
    )
    assert told["sel"] == list(model.descriptor.sel)
    assert told["spin"]["use_spin"] == [True, False]
    assert told["spin_range"] == {"Ni": [1.1, 1.4]}
    assert told["min_nbor_dist"] == 0.33
    assert told["units"]["force_mag"] == "eV/μ_B"
    assert told["format"] == 1
    assert {"deepspin", "tensorflow", "source"} <= told.keys()


def test_a_frozen_model_is_a_model(files, capsys):
    """It can be loaded, tested, and frozen again."""
    original = deepspin.load_model(files / "model.keras")
    model = deepspin.load_model(files / "frozen")
    for a, b in zip(original.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert original.get_config() == model.get_config()
    printed = []
    for name in ("frozen", "model.keras"):
        assert main(["test", "-m", f"{files}/{name}", "-s", SYSTEM, "-n", "2"]) == 0
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1]
    assert main(["freeze", "-c", f"{files}/frozen", "-o", f"{files}/again"]) == 0
    again = read_metadata(files / "again")
    assert again["spin_range"] == {"Ni": [1.1, 1.4]}


def test_an_output_that_exists(files, capsys):
    before = tree(files / "frozen")
    args = ["freeze", "-c", f"{files}/model.keras", "-o", f"{files}/frozen"]
    assert main(args) == 1
    assert "exists. Choose another output, or replace" in capsys.readouterr().err
    assert tree(files / "frozen") == before
    assert main([*args, "--force"]) == 0
    assert not {p.name for p in files.iterdir() if p.name.startswith(".")}
    assert set(tree(files / "frozen")) == set(before)


def test_freeze_what_deepmd_kit_froze(tmp_path):
    output = f"{tmp_path}/frozen"
    assert main(["freeze", "-c", str(REFERENCE / "base.pb"), "-o", output]) == 0
    theirs = deepspin.load_model(REFERENCE / "base.pb")
    for a, b in zip(theirs.weights, deepspin.load_model(output).weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_old_formats():
    """One file of each version that was ever written, with its numbers."""
    with np.load(FILES / "format-1.npz") as case:
        frame = [case[k] for k in ("coord", "box", "atype", "spin")]
        for name in ("format-1.keras", "format-1-frozen"):
            assert read_metadata(FILES / name)["format"] == 1
            result = deepspin.DeepSpin(FILES / name).eval(*frame)
            for key in NAMES:
                scale = np.abs(case[key]).max()
                np.testing.assert_allclose(
                    result[key], case[key], rtol=1e-12, atol=1e-12 * scale
                )
        frozen = tf.saved_model.load(str(FILES / "format-1-frozen"))
        batch = [case[k][None] for k in ("coord", "box", "atype", "spin")]
        same(frozen.eval_small(*batch), case)


# --- Show -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.keras", "frozen", "model"])
def test_show(files, capsys, name):
    assert main(["show", f"{files}/{name}"]) == 0
    lines = dict(
        line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if line
    )
    lines = {k: v.strip() for k, v in lines.items()}
    assert lines["types"] == "Ni O"
    assert "1.1000 to 1.4000 μ_B" in lines["spin of Ni"]
    assert lines["nearest in training"] == "0.3300 Å"
    model = deepspin.load_model(files / "model.keras")
    count = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert lines["weights"] == f"{count:,} to train"
    assert main(["show", f"{files}/{name}", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["step"] == 7
    assert content["model"]["config"]["type_map"] == ["Ni", "O"]


# --- Files that are not to be trusted -------------------------------------------------


def rewritten(source: Path, target: Path, change) -> str:
    """Copy an archive with its configuration changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return str(target)


def layer(module, name, registered=None, config=None):
    return {
        "module": module,
        "class_name": name,
        "registered_name": registered,
        "config": config or {},
    }


STRANGERS = {
    "keras.layers.Lambda": layer("keras.layers", "Lambda"),
    "builtins.function": layer("builtins", "function", "deepspin>Spin", "eval"),
    "os.system": layer("os", "system"),
    "subprocess.Popen": layer("subprocess", "Popen", "deepspin>Spin"),
    "None.__lambda__": {"class_name": "__lambda__", "config": {"value": "x"}},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_code_in_a_file_is_refused(files, tmp_path, name):
    """Wherever it stands, before anything is built of the file."""
    path = tmp_path / "evil.keras"

    def change(config):
        config["config"]["fitting"]["config"]["dtype"] = STRANGERS[name]

    rewritten(files / "model.keras", path, change)
    with pytest.raises(ValueError, match=f"names '{name}', which no model of deepspin"):
        deepspin.load_model(path)
    with pytest.raises(ValueError, match="refused"):
        read_config(path)


def test_how_it_was_compiled_may_be_unknown(files, tmp_path):
    """What is registered is built; without compiling, it does not matter."""

    @keras.saving.register_keras_serializable(package="lab")
    class Constant(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1e-3

        def get_config(self):
            return {}

    model = deepspin.load_model(files / "model.keras")
    model.compile(keras.optimizers.SGD(Constant()), deepspin.EnerSpinLoss())
    path = tmp_path / "sgd.keras"
    deepspin.save_model(model, path)
    assert isinstance(deepspin.load_model(path).optimizer.learning_rate, object)
    keras.saving.get_custom_objects().pop("lab>Constant")
    with pytest.raises(ValueError, match=r"names '.*\.Constant'"):
        deepspin.load_model(path)
    assert not deepspin.load_model(path, compile=False).compiled


def test_damaged_files(files, tmp_path):
    whole = (files / "model.keras").read_bytes()
    path = tmp_path / "model.keras"
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is damaged, or no model file"):
            deepspin.load_model(path)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="is damaged, or no model file"):
        deepspin.load_model(path)


def test_damaged_frozen_models(files, tmp_path):
    path = tmp_path / "frozen"
    shutil.copytree(files / "frozen", path)
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(ValueError, match="its weights cannot be read"):
        deepspin.load_model(path)
    (path / FROZEN_METADATA).write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has format 99; this deepspin reads up to 1"):
        deepspin.load_model(path)
    (path / FROZEN_METADATA).write_text('{"format": 1}')
    with pytest.raises(ValueError, match="it has no configuration"):
        deepspin.load_model(path)


def test_other_models(tmp_path):
    dense = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    dense.save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match="which no model of deepspin holds"):
        deepspin.load_model(tmp_path / "dense.keras")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "b")
    (tmp_path / "other.keras").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="it has no configuration"):
        deepspin.load_model(tmp_path / "other.keras")
