# SPDX-License-Identifier: Apache-2.0
"""``dp-spin freeze``: write a model as a SavedModel that runs without deepspin."""

from __future__ import annotations

import logging
from pathlib import Path

from deepspin import __version__
from deepspin.entrypoints.convert_to import GRAPH, check_options, convert_to
from deepspin.env import start_tensorflow
from deepspin.interop.files import is_deepmd
from deepspin.modelfiles.find import (
    FILE_SUFFIXES,
    is_frozen,
    read_config,
    read_metadata,
    resolve_checkpoint,
)
from deepspin.utils.outputs import OutputError, claim

log = logging.getLogger(__name__)


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
    check_options(output, **options)
    source = resolve_checkpoint(checkpoint)
    read_metadata(source)  # damaged or too new, before TensorFlow starts
    if not is_deepmd(source):
        read_config(source)
    claim_frozen(output, force)
    start_tensorflow()
    import tensorflow as tf

    from deepspin.modelfiles.archive import load_with_metadata
    from deepspin.modelfiles.saved_model import freeze as write

    model, metadata = load_with_metadata(source)
    engine = {"deepspin": __version__, "tensorflow": tf.__version__}
    write(model, output, {**metadata, **engine, "source": str(source)})
    log.info("%s: %s frozen into %s", source, " ".join(model.type_map), output)


def claim_frozen(output: str, force: bool) -> None:
    """Make sure that a frozen model can be written, see `deepspin.utils.outputs.claim`.

    Parameters
    ----------
    output : str
        Folder to write.
    force : bool
        Whether it may replace a frozen model.
    """
    suffix = Path(output).suffix
    if suffix.lower() in FILE_SUFFIXES:
        raise OutputError(
            f"'{output}' would be a folder, a SavedModel, but '{suffix}' is the ending "
            "of a file. Choose another name; `dp-spin convert-to deepmd -c MODEL` "
            "writes .pb, .dp and .yaml, of compressed models .pb."
        )
    claim(output, force=force, folder=True)
    if Path(output).exists() and not is_frozen(output):
        raise OutputError(
            f"'{output}' is no frozen model, so it is not replaced. Choose another "
            "output."
        )
