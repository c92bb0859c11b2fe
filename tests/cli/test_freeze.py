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
from places import REFERENCE
from tiny import DATA, tree

import deepspin
from deepspin.main import main
from deepspin.modelfiles.find import FROZEN_METADATA, read_config, read_metadata

NAMES = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")
SYSTEM = str(DATA / "valid" / "spin-files-16")


# --- Files ----------------------------------------------------------------------------


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


def test_without_deepspin(models):
    potential = deepspin.DeepSpin(models / "model.keras")
    data = deepspin.DataSystem(SYSTEM, **potential.model.data_spec).systems[0]
    given = {
        "coord": data.coord[:2],
        "box": data.box[:2],
        "atype": data.atype[:2],
        "spin": data.spin[:2],
    }
    np.savez(models / "given.npz", **given)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEEPSPIN],
        cwd=models,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = potential.eval(data.coord[:2], data.box[:2], data.atype[0], data.spin[:2])
    with np.load(models / "result.npz") as result:
        for name in NAMES:
            scale = np.abs(answer[name]).max()
            np.testing.assert_allclose(
                result[name], answer[name], rtol=1e-12, atol=1e-12 * scale
            )


def test_metadata_of_a_frozen_model(models):
    stored = json.loads((models / "frozen" / FROZEN_METADATA).read_text())
    told = json.loads(tf.saved_model.load(str(models / "frozen")).metadata().numpy())
    model = deepspin.load_model(models / "model.keras")
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


def test_a_frozen_model_is_a_model(models, capsys):
    """It can be loaded, tested, and frozen again."""
    original = deepspin.load_model(models / "model.keras")
    model = deepspin.load_model(models / "frozen")
    for a, b in zip(original.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert original.get_config() == model.get_config()
    printed = []
    for name in ("frozen", "model.keras"):
        assert main(["test", "-m", f"{models}/{name}", "-s", SYSTEM, "-n", "2"]) == 0
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1]
    assert main(["freeze", "-c", f"{models}/frozen", "-o", f"{models}/again"]) == 0
    again = read_metadata(models / "again")
    assert again["spin_range"] == {"Ni": [1.1, 1.4]}


def test_an_output_that_exists(models, capsys):
    before = tree(models / "frozen")
    args = ["freeze", "-c", f"{models}/model.keras", "-o", f"{models}/frozen"]
    assert main(args) == 1
    assert "exists. Choose another output, or replace" in capsys.readouterr().err
    assert tree(models / "frozen") == before
    assert main([*args, "--force"]) == 0
    assert not {p.name for p in models.iterdir() if p.name.startswith(".")}
    assert set(tree(models / "frozen")) == set(before)


def test_freeze_what_deepmd_kit_froze(tmp_path):
    output = f"{tmp_path}/frozen"
    assert main(["freeze", "-c", str(REFERENCE / "base.pb"), "-o", output]) == 0
    theirs = deepspin.load_model(REFERENCE / "base.pb")
    for a, b in zip(theirs.weights, deepspin.load_model(output).weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


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
def test_code_in_a_file_is_refused(models, tmp_path, name):
    """Wherever it stands, before anything is built of the file."""
    path = tmp_path / "evil.keras"

    def change(config):
        config["config"]["fitting"]["config"]["dtype"] = STRANGERS[name]

    rewritten(models / "model.keras", path, change)
    with pytest.raises(ValueError, match=f"names '{name}', which no model of deepspin"):
        deepspin.load_model(path)
    with pytest.raises(ValueError, match="refused"):
        read_config(path)


def test_how_it_was_compiled_may_be_unknown(models, tmp_path):
    """What is registered is built; without compiling, it does not matter."""

    @keras.saving.register_keras_serializable(package="lab")
    class Constant(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1e-3

        def get_config(self):
            return {}

    model = deepspin.load_model(models / "model.keras")
    model.compile(keras.optimizers.SGD(Constant()), deepspin.EnerSpinLoss())
    path = tmp_path / "sgd.keras"
    deepspin.save_model(model, path)
    assert isinstance(deepspin.load_model(path).optimizer.learning_rate, object)
    keras.saving.get_custom_objects().pop("lab>Constant")
    with pytest.raises(ValueError, match=r"names '.*\.Constant'"):
        deepspin.load_model(path)
    assert not deepspin.load_model(path, compile=False).compiled


def test_damaged_files(models, tmp_path):
    whole = (models / "model.keras").read_bytes()
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


def test_damaged_frozen_models(models, tmp_path):
    path = tmp_path / "frozen"
    shutil.copytree(models / "frozen", path)
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
