# SPDX-License-Identifier: Apache-2.0
"""Writing and loading model files; `deepspin.modelfiles.find` says what they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras

import deepspin.loss.ener_spin
import deepspin.loss.learning_rate  # noqa: F401  registers what archives name
from deepspin import env
from deepspin.interop.deepmd import load_checkpoint, load_frozen
from deepspin.interop.files import is_deepmd
from deepspin.interop.read_dpmodel import load_dpmodel
from deepspin.model.ener import SpinEnergyModel
from deepspin.modelfiles.find import (
    FORMAT_VERSION,
    METADATA,
    check_ranges,
    is_frozen,
    read_config,
    read_metadata,
    resolve_checkpoint,
)
from deepspin.modelfiles.saved_model import load_frozen_model
from deepspin.utils.hdf5 import check_content
from deepspin.utils.outputs import replacing


def save_model(
    model: SpinEnergyModel, path: str | Path, metadata: dict | None = None
) -> None:
    """Write a model, its optimizer and metadata, whole or not at all.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; its optimizer's state is written if it is compiled.
    path : str
        File to write, ending in ``.keras``.
    metadata : dict, optional
        JSON-able; kept beside the weights.

    Raises
    ------
    OutputError
        The disk is full, or the like; a file of that name stays as it was.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"A model file must end in '.keras'. Received: '{path}'")
    with replacing(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            content = {"format": FORMAT_VERSION, **(metadata or {})}
            archive.writestr(METADATA, json.dumps(content, indent=2))


def load_model(path: str | Path, *, compile: bool = True) -> SpinEnergyModel:
    """Load a model file; runs no code from the file.

    Parameters
    ----------
    path : str
        A ``.keras`` file of deepspin or the prefix of such checkpoints, a frozen model
        of deepspin (a folder), or a spin model of DeePMD-kit, see `load_deepmd`.
    compile : bool
        Restore loss and optimizer, if there are any.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is not such a model, or it is damaged.
    """
    path = resolve_checkpoint(path)
    env.claim_process()
    if is_deepmd(path):
        return load_deepmd(path)[0]
    read_metadata(path)
    if is_frozen(path):
        return load_frozen_model(path)
    config = read_config(path, _is_registered if compile else None)
    if config.get("registered_name") != "deepspin>SpinEnergyModel":
        raise ValueError(
            f"'{path}' holds a {config.get('class_name')}, not a SpinEnergyModel."
        )
    try:
        with zipfile.ZipFile(path) as file:
            check_content(file.read("model.weights.h5"), "its file of weights")
        return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # Keras and HDF5 raise what they like on damaged files
        raise ValueError(
            f"'{path}' cannot be loaded: {str(error).splitlines()[0].rstrip('.')}. "
            "Use another checkpoint, or the version of deepspin that wrote it."
        ) from error


def load_with_metadata(path: str | Path) -> tuple[SpinEnergyModel, dict]:
    """Load a model, not compiled, and what is told of it and its training.

    Parameters
    ----------
    path : str
        A file that `resolve_checkpoint` found, of any kind.

    Returns
    -------
    model, metadata
        See `load_model`, and `read_metadata` or `load_deepmd`.

    Raises
    ------
    FileNotFoundError, ValueError
        See `load_model`.
    """
    if is_deepmd(path):
        return load_deepmd(path)
    return load_model(path, compile=False), read_metadata(path)


def load_deepmd(path: str | Path) -> tuple[SpinEnergyModel, dict]:
    """Read a spin model of DeePMD-kit.

    Parameters
    ----------
    path : str
        A model frozen by its TensorFlow backend (``.pb``), a checkpoint of that backend
        (its prefix or folder), or a model in DeePMD-kit's own form (``.dp``, ``.yaml``,
        ``.yml``), which its other backends' models can be converted to.

    Returns
    -------
    model : SpinEnergyModel
        The same model, with the same numbers.
    metadata : dict
        What tells of it and its training, see `read_metadata`: ``input``, normalised,
        of which the section ``model`` is always there; ``min_nbor_dist`` if known.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, it is not such a model, or deepspin lacks what it needs.
    """
    env.claim_process()
    frozen = load_frozen if Path(path).suffix == ".pb" else load_dpmodel
    read = frozen if is_deepmd(path) else load_checkpoint
    try:
        model, metadata = read(path)
        if is_deepmd(path):
            check_ranges(path, metadata)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes TensorFlow and Keras do
        if isinstance(error, ValueError | OSError) and Path(path).name in str(error):
            raise
        text = " ".join(str(error).split()).rstrip(".") or "no reason given"
        raise ValueError(
            f"'{path}' is damaged, or no model of DeePMD-kit that is known "
            f"({type(error).__name__}: {text}). Write it again."
        ) from error
    return model, metadata


def _is_registered(name: str) -> bool:
    return keras.saving.get_registered_object(name) is not None
