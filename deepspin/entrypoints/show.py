# SPDX-License-Identifier: Apache-2.0
"""``dp-spin show``: tell what is in a model file; TensorFlow is not needed for ours."""

from __future__ import annotations

import json as json_module
from argparse import ArgumentParser
from pathlib import Path

from deepspin.entrypoints.common import Verbs, add_verb
from deepspin.utils.terminal import say


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "show",
        show,
        "Tell what is in a model file.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model file, frozen model, prefix of checkpoints, or DeePMD-kit's .pb, "
        ".dp or .yaml",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def show(*, model: str, json: bool = False) -> None:
    """Print a summary of a model file to stdout.

    Parameters
    ----------
    model : str
        Model file, frozen model, prefix of checkpoints, folder with the file
        ``checkpoint``, or DeePMD-kit's ``.pb``, ``.dp`` or ``.yaml``.
    json : bool
        Print metadata and configuration as JSON instead.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is no model.
    """
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.modelfiles.summary import summary

    path = resolve_checkpoint(model)
    config, metadata = _read(path)
    if json:
        text = json_module.dumps({**metadata, "model": config}, indent=2)
    else:
        rows = list(summary(path, config["config"], metadata))
        width = max(len(name) for name, _ in rows)
        text = "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
    say(text + "\n")


def _read(path: Path) -> tuple[dict, dict]:
    """Configuration and metadata of a model file."""
    from deepspin.env import start_tensorflow
    from deepspin.interop.files import is_deepmd
    from deepspin.modelfiles.find import read_config, read_metadata

    if not is_deepmd(path):
        return read_config(path), read_metadata(path)
    start_tensorflow()
    from deepspin.modelfiles.archive import load_deepmd

    loaded, metadata = load_deepmd(path)
    return {"config": loaded.get_config()}, metadata
