# SPDX-License-Identifier: Apache-2.0
"""``dp-spin import-dft``: calculations of exported frames, read back as systems."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from deepspin.entrypoints.common import Verbs, add_force, add_verb


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "import-dft",
        import_dft,
        "Read calculations of export-dft back, each as the frame it belongs to.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="what export-dft wrote, with outputs in it"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DATA",
        help="folder to write, or HDF5 file (.hdf5 or .h5)",
    )
    add_force(parser)


def import_dft(
    *, folder: str, output: str, force: bool = False
) -> dict[str, list[int]]:
    """Read calculations back and write them as systems, and tell what is missing.

    Parameters
    ----------
    folder : str
        What `deepspin.entrypoints.export_dft.export_dft` wrote.
    output : str
        Folder or HDF5 file to write.
    force : bool
        Replace the output if it is there.

    Returns
    -------
    dict of str to list of int
        Which frames are ``read``, ``missing`` and ``left out``.

    Raises
    ------
    DataError, OutputError
        There is nothing to read, an output is not of its frame; the output exists.
    """
    from deepspin.data.labelling.manifest import collect, read_manifest
    from deepspin.data.writing import claim_systems

    read_manifest(Path(folder))
    claim_systems([folder], Path(output), force)
    return collect(Path(folder), Path(output))
