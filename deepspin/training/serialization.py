# SPDX-License-Identifier: Apache-2.0
"""Model files: Keras archives with the package's metadata beside the weights.

A model file is a ``.keras`` archive (configuration as JSON, weights as HDF5, no code)
that also holds ``deepspin.json``: the version of the format, the training input, the
step and what the data looked like.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import keras

import deepspin.loss.ener_spin
import deepspin.training.learning_rate  # noqa: F401  registers what archives name
from deepspin.model.ener import SpinEnergyModel

FORMAT_VERSION = 1
METADATA = "deepspin.json"


def save_model(
    model: SpinEnergyModel, path: str | Path, metadata: dict | None = None
) -> None:
    """Write a model, its optimizer and metadata, in one step or not at all.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; its optimizer's state is written if it is compiled.
    path : str
        File to write, ending in ``.keras``.
    metadata : dict, optional
        JSON-able; kept beside the weights.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"A model file must end in '.keras'. Received: '{path}'")
    partial = path.with_name(f".{path.stem}.partial.keras")
    try:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            content = {"format": FORMAT_VERSION, **(metadata or {})}
            archive.writestr(METADATA, json.dumps(content, indent=2))
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_metadata(path: str | Path) -> dict:
    """Metadata of a model file; empty if it was written by `model.save`.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is none of ours, or from a newer version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No model: '{path}' is not a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            if METADATA not in archive.namelist():
                return {}
            metadata = json.loads(archive.read(METADATA))
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(
            f"'{path}' is not a model file: neither .keras nor .pb ({error})."
        ) from error
    if metadata.get("format", 0) > FORMAT_VERSION:
        raise ValueError(
            f"'{path}' has format {metadata['format']}; this deepspin reads up to "
            f"{FORMAT_VERSION}. Install a newer one."
        )
    return metadata


def load_model(path: str | Path, *, compile: bool = True) -> SpinEnergyModel:
    """Load a model file; runs no code from the file.

    Parameters
    ----------
    path : str
        A ``.keras`` file of deepspin, or a spin model frozen by DeePMD-kit's TensorFlow
        backend (``.pb``).
    compile : bool
        Restore loss and optimizer, if there are any.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is not such a model.
    """
    if str(path).endswith(".pb"):
        from deepspin.interop.deepmd import load_frozen

        return load_frozen(path)[0]
    read_metadata(path)
    model = keras.saving.load_model(path, compile=compile, safe_mode=True)
    if not isinstance(model, SpinEnergyModel):
        raise ValueError(
            f"'{path}' holds a {type(model).__name__}, not a SpinEnergyModel."
        )
    return model
