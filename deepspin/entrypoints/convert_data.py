# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-data``: systems in another layout, or in another kind of file."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepspin.entrypoints.common import (
    Verbs,
    add_data,
    add_force,
    add_spin,
    add_verb,
    take,
)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "convert-data",
        convert_data,
        "Write systems in another layout or kind of file: spin files or virtual atoms; "
        "npy, raw, HDF5, mixed types, extended XYZ, ASE's trajectory.",
    )
    add_data(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder to write, or file: HDF5 (.hdf5, .h5), extended XYZ (.extxyz, "
        ".xyz) or ASE's trajectory (.traj)",
    )
    parser.add_argument(
        "--to",
        choices=("npy", "raw", "mixed", "hdf5", "extxyz", "traj"),
        help="what to write (default: as the ending of the output says, otherwise npy)",
    )
    parser.add_argument(
        "--layout",
        choices=("spin-files", "virtual-atom", "same"),
        default="same",
        help="how to store the spins (default: same)",
    )
    add_spin(parser)
    add_force(parser)


def convert_data(
    *,
    systems: Sequence[str],
    output: str,
    layout: str = "same",
    to: str | None = None,
    force: bool = False,
    **spin: Any,
) -> list[str]:
    """Write systems with their spins stored the other way, as npy files or HDF5.

    Positions, cells and labels are copied bit for bit. Spins cannot be held exactly by
    positions of virtual atoms; what is lost is told, and kept in a file beside them
    that brings them back bit for bit, see `deepspin.data.layouts`. What is written is
    read again and compared before it takes its place.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    output : str
        Folder to write, HDF5 file (``.hdf5``, ``.h5``) with a group for each system, or
        file of frames (``.extxyz``, ``.xyz``, ``.traj``).
        Several systems keep their paths below the folder that they have in common.
    layout : {"same", "spin-files", "virtual-atom"}
        How to store spins.
    to : {"npy", "raw", "mixed", "hdf5", "extxyz", "traj"}, optional
        What to write; otherwise as the ending of `output` says. Extended XYZ and ASE's
        trajectory are one file with the frames of all systems, raw is text, mixed are
        folders with types of each frame, for each number of atoms.
    force : bool
        Replace the output if it is there.
    **spin
        How to read the spins, see `deepspin.survey.scheme.survey`; not needed for
        ``"same"``.

    Returns
    -------
    list of str
        The new systems.

    Raises
    ------
    DataError, InputError, OutputError
        The data cannot be read or stored that way; the output exists or holds the data.
    """
    from deepspin.data.find import find_systems
    from deepspin.data.formats.table import Reading
    from deepspin.data.writing import OF_FRAMES, claim_systems, kind_of, names_below
    from deepspin.survey.conversion import convert_systems
    from deepspin.survey.scheme import survey
    from deepspin.utils.refused import InputError

    paths = find_systems(systems, reading=take(Reading, spin))
    target = Path(output)
    kind = kind_of(target, to)
    of_frames = kind in OF_FRAMES
    together = of_frames or kind == "mixed"  # names of systems do not go there
    if together and layout == "virtual-atom":
        raise InputError(
            f"--to {kind} is written with spins as they are. Leave out --layout "
            "virtual-atom."
        )
    names = dict.fromkeys(paths, ".") if together else names_below(paths, target)
    claim_systems(paths, target, force, kind)
    given = [f"--{k.replace('_', '-')}" for k, v in spin.items() if v is not None]
    if of_frames:
        layout = "spin-files"
    elif layout == "same" and given:
        raise InputError(
            "Spins are only copied here, so how to read them has no effect: give "
            f"--layout too, or leave out {', '.join(given)}."
        )
    data = None if layout == "same" else survey(paths, **spin)
    if data is not None:
        data.report()
    return convert_systems(names, target, layout, data, kind)
