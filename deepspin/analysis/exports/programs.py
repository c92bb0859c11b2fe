# SPDX-License-Identifier: Apache-2.0
"""The programs for which spin Hamiltonians are written, and the writing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from deepspin import __version__
from deepspin.analysis.exports.bonds import Program, prepared
from deepspin.analysis.exports.spinw import SPINW
from deepspin.analysis.exports.spirit import SPIRIT
from deepspin.analysis.exports.sunny import SUNNY
from deepspin.analysis.exports.tb2j import TB2J
from deepspin.analysis.exports.uppasd import UPPASD
from deepspin.analysis.exports.vampire import VAMPIRE
from deepspin.analysis.hamiltonian import SpinHamiltonian
from deepspin.utils.outputs import claim, replacing
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

EXPORTS: dict[str, Program] = {
    "tb2j": TB2J,
    "uppasd": UPPASD,
    "vampire": VAMPIRE,
    "spirit": SPIRIT,
    "spinw": SPINW,
    "sunny": SUNNY,
}


def export_files(names: Sequence[str], folder: str | Path) -> dict[str, list[Path]]:
    """Files that an export will write: each program has a folder of its name.

    Parameters
    ----------
    names : sequence of str
        Programs, of `EXPORTS`.
    folder : str
        Where their folders go.

    Raises
    ------
    InputError
        A name is not known.
    """
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        raise InputError(
            f"Spin Hamiltonians are not written for {', '.join(unknown)}; they are for "
            f"{', '.join(EXPORTS)}."
        )
    return {
        name: [Path(folder) / name / file for file in EXPORTS[name].files]
        for name in names
    }


def claim_exports(
    names: Sequence[str], folder: str | Path, *, force: bool = False
) -> list[Path]:
    """Make sure, before the work, that all files can be written at its end.

    Returns what `deepspin.utils.outputs.claim` does, of each file.

    Parameters
    ----------
    names, folder
        As of `export_files`.
    force : bool
        Whether files may be replaced that are there already.

    Raises
    ------
    InputError
        A name is not known.
    OutputError
        A file is there already, or its folder takes no files.
    """
    return [
        claim(file, force=force)
        for files in export_files(names, folder).values()
        for file in files
    ]


def write_exports(
    names: Sequence[str],
    folder: str | Path,
    hamiltonian: SpinHamiltonian,
    *,
    force: bool = False,
) -> list[Path]:
    """Write a spin Hamiltonian for other programs.

    Parameters
    ----------
    names : sequence of str
        Programs, of `EXPORTS`.
    folder : str
        Where a folder of the name of each goes.
    hamiltonian : SpinHamiltonian
        Couplings and anisotropy, all determined.
    force : bool
        Whether files may be replaced that are there already.

    Returns
    -------
    list of Path
        The files. What a program cannot have of the Hamiltonian is told by a warning
        and at the head of its files.

    Raises
    ------
    InputError
        A name is not known, or a part of the Hamiltonian is NaN.
    OutputError
        A file cannot be written.
    """
    claim_exports(names, folder, force=force)
    ready = prepared(hamiltonian)
    texts: dict[Path, str] = {}
    for name, files in export_files(names, folder).items():
        program = EXPORTS[name]
        limits = program.limits(ready)
        for sentence in limits:
            log.warning("%s", sentence)
        heading = [
            f"Spin Hamiltonian for {program.title}, by deepspin {__version__}",
            *program.convention,
            *limits,
        ]
        written = program.write(ready, heading)
        texts |= {file: written[file.name] for file in files}
    for file, text in texts.items():
        with replacing(file) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(texts)
