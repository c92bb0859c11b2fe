# SPDX-License-Identifier: Apache-2.0
"""``dp-spin export-dft``: frames written as calculations with constrained moments."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepspin.entrypoints.common import Verbs, add_force, add_spin, add_verb


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "export-dft",
        export_dft,
        "Write frames as calculations of VASP or ABACUS with constrained moments.",
    )
    parser.add_argument(
        "frames",
        nargs="+",
        metavar="FRAMES",
        help="files that ASE reads, with spins; systems, or folders to search",
    )
    parser.add_argument(
        "--code", choices=("vasp", "abacus"), required=True, help="who calculates"
    )
    parser.add_argument(
        "--template",
        required=True,
        metavar="FOLDER",
        help="folder with what all calculations share: INCAR, KPOINTS, POTCAR; or "
        "INPUT, KPT, a STRU with species, pseudopotentials and orbitals",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder to write, with a folder for each frame and manifest.json",
    )
    add_spin(parser)
    add_force(parser)


def export_dft(
    *,
    frames: Sequence[str],
    code: str,
    template: str,
    output: str,
    force: bool = False,
    **spin: Any,
) -> None:
    """Write a calculation of each frame, its moments held at the frame's spins.

    Parameters
    ----------
    frames : sequence of str
        See `deepspin.survey.frames.read_frames`.
    code : {"vasp", "abacus"}
        Who calculates, see `deepspin.data.labelling.vasp_input.Vasp` and
        `deepspin.data.labelling.abacus_input.Abacus`.
    template : str
        Folder with what all calculations share.
    output : str
        Folder to write.
    force : bool
        Replace the output if it is there.
    **spin
        How to read spins of systems, see `deepspin.survey.scheme.survey`.

    Raises
    ------
    DataError, OutputError
        The frames or the template do not have what is needed; the output exists.
    """
    from deepspin.data.labelling.manifest import MANIFEST, export
    from deepspin.survey.frames import read_frames
    from deepspin.utils.outputs import OutputError, claim

    target = claim(output, force=force, folder=True)
    if target.exists() and not (target / MANIFEST).is_file():
        raise OutputError(
            f"'{target}' is a folder without calculations, so it is not replaced. "
            "Choose another output."
        )
    export(read_frames(frames, **spin), code, Path(template), target)
