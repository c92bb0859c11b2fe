# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-to``: write a model for other programs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from deepspin.entrypoints.common import (
    Verbs,
    add_checkpoint,
    add_deepmd,
    add_force,
    add_verb,
    check_model,
)
from deepspin.interop.files import GRAPH


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "convert-to",
        convert_to,
        "Write a model in a form of other programs.",
    )
    parser.add_argument(
        "target", choices=("deepmd",), help="whose: DeePMD-kit's, which LAMMPS reads"
    )
    add_checkpoint(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="model.pb",
        help="file to write: .pb, a frozen model of the TensorFlow backend, for LAMMPS "
        "and DeePMD-kit; .dp or .yaml, from which `dp convert-backend` makes models of "
        "its other backends (default: model.pb)",
    )
    add_deepmd(parser)
    add_force(parser)


def convert_to(
    *,
    target: str,
    checkpoint: str,
    output: str,
    fold_atom_virial: bool = False,
    pad_lammps_cutoff: bool = False,
    force: bool = False,
) -> None:
    """Write a model in a form that DeePMD-kit reads, and with it LAMMPS.

    Parameters
    ----------
    target : str
        ``"deepmd"``.
    checkpoint : str
        Model file, prefix of checkpoints, or a folder with the file ``checkpoint``.
    output : str
        File to write; its ending, ``.pb``, ``.dp``, ``.yaml`` or ``.yml``, says what.
    fold_atom_virial, pad_lammps_cutoff : bool
        See `deepspin.interop.graph.write_graph`.
    force : bool
        Whether it may replace what is there.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, it cannot be said in that form, or the output exists or
        cannot be written.
    """
    from deepspin.env import start_tensorflow
    from deepspin.interop.files import DEEPMD_SUFFIXES
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.outputs import OutputError, claim
    from deepspin.utils.refused import InputError

    if target != "deepmd":
        raise InputError(f"Models are written for 'deepmd'. Received: '{target}'")
    if Path(output).suffix not in DEEPMD_SUFFIXES:
        raise OutputError(
            "DeePMD-kit tells by the ending what a file is: "
            f"{', '.join(DEEPMD_SUFFIXES)}. Received: '{output}'"
        )
    options = {
        "fold_atom_virial": fold_atom_virial,
        "pad_lammps_cutoff": pad_lammps_cutoff,
    }
    check_options(output, **options)
    source = resolve_checkpoint(checkpoint)
    check_model(source)
    if Path(output).resolve() == source.resolve():
        raise OutputError(f"'{output}' is the model itself. Choose another output.")
    claim(output, force=force)
    start_tensorflow()
    from deepspin.interop.export import export
    from deepspin.modelfiles.archive import load_with_metadata

    model, metadata = load_with_metadata(source)
    export(model, metadata, source, output, **options)


def check_options(output: str, **options: bool) -> None:
    """Refuse options that would have no effect on an output."""
    from deepspin.utils.refused import InputError

    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given and Path(output).suffix != GRAPH:
        raise InputError(
            f"{', '.join(given)} changes {GRAPH} files only. Give -o such a name, or "
            "leave it out."
        )
