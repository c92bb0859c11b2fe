# SPDX-License-Identifier: Apache-2.0
"""Which files are models of DeePMD-kit; needs no TensorFlow."""

from __future__ import annotations

import glob
import re
from pathlib import Path

# of DeePMD-kit's models: frozen by its TensorFlow backend, and its own formats
GRAPH = ".pb"
DEEPMD_SUFFIXES = (GRAPH, ".dp", ".yaml", ".yml")
# names the newest checkpoint, as DeePMD-kit's file of this name does
POINTER = "checkpoint"


class IncompleteError(FileNotFoundError):
    """Some of the files of a checkpoint are missing."""


def is_deepmd(path: str | Path) -> bool:
    """Whether a path is a model file of DeePMD-kit, by its suffix."""
    path = Path(path)
    return path.suffix in DEEPMD_SUFFIXES and not path.is_dir()


def find_deepmd_checkpoint(name: str | Path) -> Path:
    """Find a checkpoint of DeePMD-kit's TensorFlow backend.

    Parameters
    ----------
    name : str
        The beginning of the names of its files, ``model.ckpt-1000``; or without a
        step, for the highest one; or a folder whose file ``checkpoint`` names it.

    Returns
    -------
    Path
        The beginning of the names of its files.

    Raises
    ------
    FileNotFoundError
        There is none, or one of its files is missing.
    """
    path = Path(name)
    if path.suffix in (".index", ".meta"):
        path = path.with_suffix("")
    if path.is_dir():
        pointer = path / POINTER
        text = pointer.read_text("utf-8", "replace") if pointer.is_file() else ""
        named = re.match(r'model_checkpoint_path: "([^"]+)"', text)
        path = path / (named[1] if named else "model.ckpt")
    if not _parts(path):
        steps = {}
        for file in path.parent.glob(f"{glob.escape(path.name)}-*.index"):
            if file.stem.removeprefix(f"{path.name}-").isdecimal():
                steps[int(file.stem.rpartition("-")[2])] = file.with_suffix("")
        path = max(steps.items())[1] if steps else path
    missing = sorted({".index", ".data-*", ".meta"} - _parts(path))
    if len(missing) == 3:
        raise FileNotFoundError(
            f"No checkpoint of DeePMD-kit: there is no '{path}.index', nor any "
            f"'{path}-STEP.index'."
        )
    if missing:
        raise IncompleteError(
            f"The checkpoint '{path}' is not whole: there is no '{path}{missing[0]}'. "
            "Copy all of its files (.index, .data-*, .meta) together."
        )
    return path


def _parts(prefix: Path) -> set[str]:
    """Which files of a checkpoint of DeePMD-kit there are."""
    suffixes = (".index", ".data-*", ".meta")
    name = glob.escape(prefix.name)
    return {s for s in suffixes if next(prefix.parent.glob(f"{name}{s}"), None)}
