# SPDX-License-Identifier: Apache-2.0
"""Model files: finding them, and what can be read of them without TensorFlow.

A model file is a ``.keras`` archive: configuration as JSON, weights as HDF5, and
``deepspin.json`` with the version of the format, the training input, the step and what
the data looked like. A frozen model is a TensorFlow SavedModel, a folder, with the same
file in ``assets.extra``. Neither holds code. Models of DeePMD-kit are files of other
suffixes, without metadata, and checkpoints of several files.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deepspin.interop.files import (
    DEEPMD_SUFFIXES,
    POINTER,
    IncompleteError,
    find_deepmd_checkpoint,
    is_deepmd,
)
from deepspin.utils.limits import (
    check_archive,
    check_nets,
    check_readable,
    read_text,
)

# of ``.keras`` archives and of frozen models; a newer deepspin reads older ones
FORMAT_VERSION = 1
METADATA = "deepspin.json"
FROZEN_METADATA = f"assets.extra/{METADATA}"
# what that file says
POINTER_LINE = 'model_checkpoint_path: "{}"\n'
# endings of models that are files; the last ones are of DeePMD-kit's other backends
FILE_SUFFIXES = (".keras", *DEEPMD_SUFFIXES, ".pth", ".pt", ".pt2")
# what metadata tell of a training's data: levels of names, and whether ranges are below
_RANGES = {
    "min_nbor_dist": (0, False),
    "nearest": (2, False),
    "spin_range": (1, True),
    "environments": (3, True),
}
# what a configuration may name beside the classes of deepspin
_HARMLESS = {
    ("keras", "DTypePolicy"),
    ("keras.metrics", None),
    ("keras.optimizers", None),
    ("keras.optimizers.schedules", None),
}


# --- Finding --------------------------------------------------------------------------


def find_checkpoints(prefix: str | Path) -> dict[int, Path]:
    """Checkpoints of a prefix by step, ascending."""
    prefix = Path(prefix)
    pattern = re.compile(re.escape(prefix.name) + r"-(\d+)\.keras")
    found = {}
    for path in prefix.parent.glob("*.keras"):
        match = pattern.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def is_frozen(path: str | Path) -> bool:
    """Whether a path is a frozen model of deepspin."""
    return (Path(path) / FROZEN_METADATA).is_file()


def resolve_checkpoint(name: str | Path) -> Path:
    """Find a model by its file or folder, its name without ``.keras``, or its prefix.

    Of a prefix it is the checkpoint of the highest step, and so it is of a folder whose
    file ``checkpoint`` names one of them.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = Path(name)
    for candidate in (path, Path(f"{name}.keras")):
        if candidate.is_file() or is_frozen(candidate):
            return candidate
    saved = find_checkpoints(_prefix_in(path) if path.is_dir() else path)
    if saved:
        return max(saved.items())[1]
    _refuse_deepmd_checkpoint(name)
    if path.is_dir():
        raise FileNotFoundError(
            f"No model: the folder '{name}' is no frozen model, and has no file "
            f"'{POINTER}' that names a checkpoint in it. Name the checkpoint itself."
        )
    if path.suffix in (".keras", *DEEPMD_SUFFIXES):
        raise FileNotFoundError(f"No model: there is no file '{name}'.")
    raise FileNotFoundError(
        f"No checkpoint: there is neither a file '{name}' or '{name}.keras' nor any "
        f"'{name}-STEP.keras'."
    )


def _refuse_deepmd_checkpoint(name: str | Path) -> None:
    """Say what to do with a checkpoint of DeePMD-kit, if that is what is there."""
    try:
        find_deepmd_checkpoint(name)
    except IncompleteError:
        raise
    except FileNotFoundError:
        return
    raise FileNotFoundError(
        f"'{name}' is a checkpoint of DeePMD-kit. `dp-spin convert-from {name} -o "
        "model.keras` makes a model of deepspin of it; use that."
    )


def _prefix_in(folder: Path) -> Path:
    """Prefix of the checkpoints that the file ``checkpoint`` of a folder speaks of."""
    pointer = folder / POINTER
    text = pointer.read_text("utf-8", "replace") if pointer.is_file() else ""
    before, after = POINTER_LINE.split("{}")
    name = text.removeprefix(before).removesuffix(after)
    return folder / (re.sub(r"-\d+\.keras$", "", Path(name).name) or "model.ckpt")


# --- Reading --------------------------------------------------------------------------


def read_metadata(path: str | Path) -> dict:
    """Metadata of a model file; empty if Keras' `save` or DeePMD-kit wrote it.

    Raises
    ------
    ValueError
        It is none of ours, or from a newer version.
    """
    path = Path(path)
    if is_deepmd(path):
        return {}
    metadata = _read_json(path, METADATA, missing={})
    version = metadata.get("format", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"'{path}' has format {version}; this deepspin reads up to "
            f"{FORMAT_VERSION}. Install a newer one."
        )
    check_ranges(path, metadata)
    return metadata


def check_ranges(path: str | Path, metadata: dict) -> None:
    """Refuse metadata in which what tells of a training's data is something else.

    Raises
    ------
    ValueError
        It is.
    """
    for name, (levels, is_range) in _RANGES.items():
        value = metadata.get(name)
        if value is not None and not _fits(value, levels, is_range):
            number = "a pair of numbers [least, greatest]" if is_range else "a number"
            raise ValueError(
                f"'{path}' is damaged: `{name}` of its metadata must be {number}"
                f"{' by names of types' * (levels > 0)}. Received: "
                f"{json.dumps(value)[:80]}. Use another checkpoint."
            )


def _fits(value: object, levels: int, is_range: bool) -> bool:
    """Whether a value is numbers, or ranges, below so many levels of names."""
    if levels:
        return isinstance(value, dict) and all(
            _fits(own, levels - 1, is_range) for own in value.values()
        )
    if is_range:
        if not (isinstance(value, list) and len(value) == 2):
            return False
        return all(_fits(end, 0, False) for end in value) and value[0] <= value[1]
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_config(
    path: str | Path, is_registered: Callable[[str], bool] | None = None
) -> dict:
    """Keras' configuration of the model in a file, harmless to build.

    Parameters
    ----------
    path : str
        A ``.keras`` archive or a frozen model.
    is_registered : callable, optional
        Whether Keras knows a name such as ``lab>Schedule`` by registration, and how
        the model was compiled is to be read, too. Without it, all of that is left out.

    Raises
    ------
    ValueError
        As `read_metadata`; or it names something that a model has no use for, such as
        a layer with code.
    """
    path = Path(path)
    if is_frozen(path):
        config = read_metadata(path).get("model")
    else:
        config = _read_json(path, "config.json", missing=None)
    if not isinstance(config, dict):
        raise ValueError(f"'{path}' holds no model: it has no configuration.")
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    try:
        check_nets(f"'{path}'", size, config)
    except OSError as error:
        raise ValueError(f"{error}.") from error
    if is_registered is None:
        config = {k: v for k, v in config.items() if k != "compile_config"}
        is_registered = _is_ours
    for name in _foreign(config, is_registered):
        raise ValueError(
            f"'{path}' names '{name}', which no model of deepspin holds. Building "
            "it might run code, so it is refused: load files that deepspin wrote."
        )
    return config


def _read_json(path: Path, name: str, missing: dict | None) -> Any:
    """A JSON file of a model."""
    check_readable(path / FROZEN_METADATA if is_frozen(path) else path)
    try:
        if is_frozen(path):
            content = json.loads(read_text(path / FROZEN_METADATA))
        else:
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive)
                damaged = archive.testzip()
                if damaged:
                    raise zipfile.BadZipFile(f"'{damaged}' in it is damaged")
                if name not in archive.namelist():
                    return missing
                content = json.loads(archive.read(name))
    except Exception as error:  # zipfile raises what it likes on damaged files
        raise ValueError(
            f"'{path}' is damaged, or no model file: neither .keras, .pb nor a frozen "
            f"model ({_one_line(error)}). Use another checkpoint."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' is no model file: '{name}' in it is no object.")
    return content


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _is_ours(name: str) -> bool:
    return name.startswith("deepspin>")


def _foreign(config: object, is_registered: Callable[[str], bool]) -> Iterator[str]:
    """Classes and functions that a configuration names and that are not trusted."""
    if isinstance(config, list):
        for item in config:
            yield from _foreign(item, is_registered)
    elif isinstance(config, dict):
        if "class_name" in config:
            module, name = config.get("module"), config["class_name"]
            registered = str(config.get("registered_name"))
            ours = registered.endswith(f">{name}") and is_registered(registered)
            if not ours and not {(module, name), (module, None)} & _HARMLESS:
                yield f"{module}.{name}"
        for item in config.values():
            yield from _foreign(item, is_registered)
