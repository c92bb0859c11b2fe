# SPDX-License-Identifier: Apache-2.0
"""``dp-spin freeze``: write a model as a SavedModel that runs without deepspin."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from pathlib import Path

from deepspin import __version__
from deepspin.entrypoints.common import (
    Verbs,
    add_checkpoint,
    add_deepmd,
    add_force,
    add_verb,
    check_model,
    claim_frozen,
)
from deepspin.entrypoints.convert_to import check_options, convert_to
from deepspin.interop.files import GRAPH

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "freeze",
        freeze,
        "Write a model as a TensorFlow SavedModel that runs without deepspin, or as "
        "DeePMD-kit's .pb.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="frozen_model",
        help="folder to write, or for DeePMD-kit and LAMMPS a file that ends in .pb "
        "(default: frozen_model)",
    )
    add_deepmd(parser)
    add_force(parser)


def freeze(
    *, checkpoint: str, output: str, force: bool = False, **options: bool
) -> None:
    """Write a frozen model, see `deepspin.modelfiles.saved_model.FrozenModel`.

    Parameters
    ----------
    checkpoint : str
        Model file, prefix of checkpoints, or a folder with the file ``checkpoint``.
    output : str
        Folder to write; or a file ending in ``.pb``, for DeePMD-kit and LAMMPS.
    force : bool
        Whether it may replace what is there.
    **options
        Of a ``.pb``, see `deepspin.entrypoints.convert_to.convert_to`.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, or the output exists or cannot be written.
    """
    if Path(output).suffix == GRAPH:
        convert_to(
            target="deepmd",
            checkpoint=checkpoint,
            output=output,
            force=force,
            **options,
        )
        return
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint

    check_options(output, **options)
    source = resolve_checkpoint(checkpoint)
    check_model(source)
    claim_frozen(output, force)
    start_tensorflow()
    import tensorflow as tf

    from deepspin.modelfiles.archive import load_with_metadata
    from deepspin.modelfiles.saved_model import freeze as write

    model, metadata = load_with_metadata(source)
    engine = {"deepspin": __version__, "tensorflow": tf.__version__}
    write(model, output, {**metadata, **engine, "source": str(source)})
    log.info("%s: %s frozen into %s", source, " ".join(model.type_map), output)
