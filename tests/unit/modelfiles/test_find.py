# SPDX-License-Identifier: Apache-2.0
"""Which file a name means, and what is read of it before anything is built."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from deepspin.modelfiles.find import (
    FORMAT_VERSION,
    FROZEN_METADATA,
    POINTER_LINE,
    find_checkpoints,
    is_frozen,
    read_config,
    read_metadata,
    resolve_checkpoint,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def archive(path, **files):
    """Write an archive of JSON files."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            suffix = "" if "." in name else ".json"
            file.writestr(f"{name}{suffix}", json.dumps(content))
    return path


def test_checkpoints_by_step(folder):
    """Numbers are compared, not letters; other files are none."""
    names = ["m-10.keras", "m-9.keras", "m-x.keras", "mm-3.keras", "m-3.keras.old"]
    for name in names:
        (folder / name).write_text("")
    found = [(step, path.name) for step, path in find_checkpoints("m").items()]
    assert found == [(9, "m-9.keras"), (10, "m-10.keras")]
    assert resolve_checkpoint("m").name == "m-10.keras"


def test_names_of_one_file(folder):
    (folder / "m.keras").write_text("")
    (folder / "m-5.keras").write_text("")
    for name in ("m", "m.keras"):
        assert resolve_checkpoint(name).name == "m.keras", "before checkpoints"


def test_folder_of_checkpoints(folder):
    """Its file ``checkpoint`` tells the prefix; without one it is model.ckpt."""
    run = folder / "run"
    run.mkdir()
    for name in ("nio-3.keras", "nio-7.keras", "model.ckpt-1.keras"):
        (run / name).write_text("")
    assert resolve_checkpoint(run).name == "model.ckpt-1.keras"
    (run / "checkpoint").write_text(POINTER_LINE.format("nio-3.keras"))
    assert resolve_checkpoint(run).name == "nio-7.keras"


def test_frozen_models_are_folders(folder):
    assert not is_frozen("model")
    (folder / "model" / "assets.extra").mkdir(parents=True)
    (folder / "model" / FROZEN_METADATA).write_text("{}")
    assert is_frozen("model")
    assert resolve_checkpoint("model").name == "model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m", "neither a file 'm' or 'm.keras' nor any 'm-STEP.keras'"),
        ("m.keras", "there is no file 'm.keras'"),
        ("m.pb", "there is no file 'm.pb'"),
        (".", "has no file 'checkpoint' that names a checkpoint"),
    ],
)
def test_what_is_not_there(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        resolve_checkpoint(name)


def test_metadata():
    archive("ours.keras", deepspin={"format": FORMAT_VERSION, "step": 3})
    assert read_metadata("ours.keras")["step"] == 3
    archive("keras.keras", config={})
    assert read_metadata("keras.keras") == {}
    archive("new.keras", deepspin={"format": FORMAT_VERSION + 1})
    with pytest.raises(ValueError, match=r"reads up to .*Install a newer"):
        read_metadata("new.keras")


OURS = {"module": "deepspin.fit", "class_name": "A", "registered_name": "deepspin>A"}


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (OURS, None),
        ({"module": "keras", "class_name": "DTypePolicy"}, None),
        ({"module": "keras.optimizers", "class_name": "Adam"}, None),
        ({"module": "keras.layers", "class_name": "Lambda"}, "keras.layers.Lambda"),
        ({"module": "os", "class_name": "system"}, "os.system"),
        (OURS | {"class_name": "B"}, "deepspin.fit.B"),
        (OURS | {"registered_name": "other>A"}, "deepspin.fit.A"),
    ],
)
def test_what_a_configuration_may_name(item, named):
    """Wherever it stands."""
    archive("m.keras", config={**OURS, "config": {"parts": [{"inner": item}]}})
    if named is None:
        assert read_config("m.keras")["class_name"] == "A"
    else:
        with pytest.raises(ValueError, match=f"names '{named}', which no model"):
            read_config("m.keras")


def test_how_it_was_compiled_is_left_out():
    theirs = {"module": "lab", "class_name": "S", "registered_name": "lab>S"}
    archive("m.keras", config={**OURS, "compile_config": theirs})
    assert "compile_config" not in read_config("m.keras")
    assert "compile_config" in read_config("m.keras", lambda name: True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"nearest": {"Ni": 1.7}}, "a number by names of types"),
        ({"nearest": {"Ni": {"O": "1.7"}}}, "a number by names of types"),
        ({"nearest": [1.7]}, "a number by names of types"),
        ({"min_nbor_dist": True}, "a number. Received: true"),
        (
            {"spin_range": {"Ni": 1.2}},
            r"a pair of numbers \[least, greatest\] by names",
        ),
        ({"spin_range": {"Ni": [1.2, 1.1]}}, "a pair of numbers"),
        ({"spin_range": {"Ni": [1.1, 1.2, 1.3]}}, "a pair of numbers"),
        ({"environments": {"Ni": {"O": [1, 2]}}}, "a pair of numbers"),
        ({"environments": {"Ni": {"O": {"nearest": [1, "2"]}}}}, "a pair of numbers"),
    ],
)
def test_metadata_of_other_forms(folder, content, expected):
    """What is told of a training is looked at when it is read, not when it is used."""
    name = next(iter(content))
    path = archive(folder / "odd.keras", deepspin=content)
    said = rf"'.*odd\.keras' is damaged: `{name}` of its metadata must be {expected}"
    with pytest.raises(ValueError, match=said):
        read_metadata(path)


def test_metadata_of_the_right_form(folder):
    content = {
        "min_nbor_dist": float("inf"),
        "nearest": {"Ni": {}, "O": {"Ni": 2}},
        "spin_range": None,
        "environments": {"Ni": {"O": {"nearest": [1, 2.5]}}},
    }
    path = archive(folder / "m.keras", deepspin=content)
    assert read_metadata(path) == content


def test_files_that_may_not_be_read(folder, monkeypatch):
    """They need not be damaged."""
    path = archive(folder / "m.keras", deepspin={})
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match=r"m\.keras' may not be read"):
        read_metadata(path)


def test_frozen_metadata_of_another_kind(folder):
    file = folder / "frozen" / FROZEN_METADATA
    file.parent.mkdir(parents=True)
    file.write_text("[" * 900 + "]" * 900)
    with pytest.raises(ValueError, match=r"frozen' is no model file: .* is no object"):
        read_metadata("frozen")
    file.write_text(" " * 17 * 2**20)
    with pytest.raises(ValueError, match=r"a text of this kind at most 16\.8 MB"):
        read_metadata("frozen")
