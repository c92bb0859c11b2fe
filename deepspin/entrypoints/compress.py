# SPDX-License-Identifier: Apache-2.0
"""``dp-spin compress``: write a frozen model with tables for embedding nets."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from pathlib import Path

from deepspin import __version__
from deepspin.entrypoints.common import Verbs, add_force, add_verb, claim_frozen


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "compress",
        compress,
        "Replace the embedding nets of a model by tables, as exact as asked for.",
    )
    parser.add_argument(
        "-i",
        "--input",
        default="frozen_model",
        metavar="MODEL",
        help="frozen model, model file, prefix of checkpoints, or DeePMD-kit's .pb or "
        ".dp (default: frozen_model)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="compressed_model",
        help="folder to write, like that of freeze (default: compressed_model)",
    )
    parser.add_argument(
        "-t",
        "--training-script",
        metavar="INPUT",
        help="input file whose data tells how near atoms come, and on which the error "
        "is measured (default: distances that the model's training recorded)",
    )
    _add_tables(parser)
    add_force(parser)


def _add_tables(parser: ArgumentParser) -> None:
    """Declare how exact and how wide the tables are."""
    parser.add_argument(
        "--tol",
        type=float,
        help="largest error of forces and magnetic forces, relative to their rms "
        "(default: 1e-9; 1e-4 for models in float32)",
    )
    parser.add_argument(
        "-s",
        "--step",
        type=float,
        help="widest piece of a table in s, 1/Å; an upper limit, where DeePMD-kit's is "
        "the width of each piece (default: as wide as --tol allows)",
    )
    parser.add_argument(
        "-e",
        "--extrapolate",
        type=float,
        default=5.0,
        help="tables reach to so many times the largest 1/r of the data; frames with "
        "nearer pairs are refused (default: 5)",
    )
    parser.add_argument(
        "-f",
        "--frequency",
        type=int,
        default=1,
        help="look for pairs beyond the tables in one of so many evaluations, -1 for "
        "never (default: 1)",
    )


def compress(
    *,
    input: str,
    output: str,
    training_script: str | None = None,
    tol: float | None = None,
    step: float | None = None,
    extrapolate: float = 5.0,
    frequency: int = 1,
    force: bool = False,
) -> dict:
    """Write a compressed model.

    Parameters
    ----------
    input : str
        Model file of any kind.
    output : str
        Folder to write.
    training_script : str, optional
        Input file of a training, for its data.
    tol : float, optional
        Largest error of forces and magnetic forces, relative to their rms.
    step : float, optional
        Widest piece of a table in s (1/Å).
    extrapolate : float
        Tables reach to so many times the largest 1/r of the data.
    frequency : int
        See `DescrptSeA`: `check_frequency`.
    force : bool
        Whether it may replace what is at the output.

    Returns
    -------
    dict
        What the metadata says of it, ``compressed``.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, it is compressed already or cannot be compressed, no
        data tells its range, or the output exists or cannot be written.
    """
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.inputs import load_input, normalize

    _check(tol, step, extrapolate, frequency)
    source = resolve_checkpoint(input)
    metadata = _metadata(source)
    script = normalize(load_input(training_script)) if training_script else None
    claim_frozen(output, force)
    if script is None and "nearest" not in metadata:
        _refuse(source)
    start_tensorflow()
    import tensorflow as tf

    from deepspin.modelfiles.archive import load_with_metadata
    from deepspin.modelfiles.saved_model import freeze
    from deepspin.training.compression import compress_for_data, tell

    model, metadata = load_with_metadata(source)
    options = {"tol": tol, "step": step, "extrapolate": extrapolate}
    compressed, report = compress_for_data(
        model, metadata, script, **options, check_frequency=frequency
    )
    engine = {"deepspin": __version__, "tensorflow": tf.__version__}
    content = {**metadata, **engine, "source": str(source), "compressed": report}
    freeze(compressed, output, content)
    tell(source, output, report)
    return report


def _check(
    tol: float | None, step: float | None, extrapolate: float, frequency: int
) -> None:
    from deepspin.utils.refused import InputError

    for name, value in (("--tol", tol), ("-s", step)):
        if value is not None and not 0.0 < value < math.inf:
            raise InputError(f"{name} must be above 0. Received: {value}")
    if not 1.0 <= extrapolate < math.inf:
        raise InputError(
            "-e must be 1 or more: tables hold what the data holds, and beyond. "
            f"Received: {extrapolate}"
        )
    if frequency < 1 and frequency != -1:
        raise InputError(
            f"-f must be 1 or more evaluations, or -1 for never. Received: {frequency}"
        )


def _metadata(source: Path) -> dict:
    """Metadata of a model that can be compressed."""
    from deepspin.interop.files import is_deepmd
    from deepspin.modelfiles.find import read_config, read_metadata

    if is_deepmd(source):
        return {}
    if read_config(source)["config"]["descriptor"]["config"].get("leaves"):
        raise ValueError(
            f"'{source}' is compressed already. Compress the model that it was made of."
        )
    return read_metadata(source)


def _refuse(source: Path) -> None:
    """Refuse a model whose tables would have no known range."""
    from deepspin.env import start_tensorflow
    from deepspin.interop.files import is_deepmd
    from deepspin.utils.refused import InputError

    if is_deepmd(source):  # a compressed one cannot be read: that comes first
        start_tensorflow()
        from deepspin.modelfiles.archive import load_deepmd

        load_deepmd(source)
    raise InputError(
        f"'{source}' does not tell how near the atoms of each pair of types came "
        "in its training, so that the range of the tables is not known. Give the "
        "input file of its training by -t."
    )
