# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-from``: take over a model of DeePMD-kit."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from pathlib import Path

from deepspin import __version__
from deepspin.entrypoints.common import Verbs, add_force, add_verb

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "convert-from",
        convert_from,
        "Take over a spin model of DeePMD-kit.",
    )
    parser.add_argument(
        "source",
        metavar="MODEL",
        help="frozen model (.pb), checkpoint of the TensorFlow backend (model.ckpt, or "
        "its folder), or model in DeePMD-kit's own form (.dp, .yaml)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="model.keras",
        help="model file to write (default: model.keras)",
    )
    add_force(parser)


def convert_from(*, source: str, output: str, force: bool = False) -> None:
    """Read a spin model of DeePMD-kit and write it as a deepspin model.

    Parameters
    ----------
    source : str
        Frozen by its TensorFlow backend (``.pb``); a checkpoint of that backend, its
        prefix or folder; or a model in DeePMD-kit's own form (``.dp``, ``.yaml``).
    output : str
        File to write; ``.keras`` is appended where it is missing.
    force : bool
        Whether it may replace what is there.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, or it cannot be taken over, see
        `deepspin.modelfiles.archive.load_deepmd`; the output exists or cannot be
        written.
    """
    from deepspin.env import start_tensorflow
    from deepspin.interop.files import find_deepmd_checkpoint, is_deepmd
    from deepspin.modelfiles.find import FILE_SUFFIXES, is_frozen
    from deepspin.utils.outputs import OutputError, claim

    if Path(output).suffix.lower() in set(FILE_SUFFIXES) - {".keras"}:
        raise OutputError(
            f"convert-from writes .keras files. Received: '{output}'. `dp-spin "
            "convert-to deepmd` writes those of DeePMD-kit."
        )
    if not output.endswith(".keras"):
        output += ".keras"
    if Path(source).suffix == ".keras" or is_frozen(source):
        raise ValueError(f"'{source}' is a model of deepspin already.")
    if Path(source).suffix in (".pth", ".pt2"):
        raise ValueError(
            f"'{source}' is a model of DeePMD-kit's PyTorch backend. `dp "
            "convert-backend` makes a .dp file of it; convert that."
        )
    if not is_deepmd(source):
        source = str(find_deepmd_checkpoint(source))
    elif not Path(source).is_file():
        raise FileNotFoundError(f"No frozen model: '{source}' is not a file.")
    claim(output, force=force)
    start_tensorflow()
    from deepspin.modelfiles.archive import load_deepmd, save_model

    model, metadata = load_deepmd(source)
    origin = {"deepspin": __version__, "source": source}
    save_model(model, output, {**origin, **metadata})
    log.info("%s: %s model %s", source, " ".join(model.type_map), output)
