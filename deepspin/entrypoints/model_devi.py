# SPDX-License-Identifier: Apache-2.0
"""``dp-spin model-devi``: how much models disagree, and frames worth labelling."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import (
    Verbs,
    add_force,
    add_reading,
    add_verb,
    take,
)

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "model-devi",
        model_devi,
        "Tell how much models disagree about frames, and choose those worth labels.",
    )
    parser.add_argument(
        "-m",
        "--models",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="models of the same types, of any kind that test takes",
    )
    parser.add_argument(
        "-s",
        "--system",
        default=".",
        help="a system, or a folder searched for systems (default: .)",
    )
    add_reading(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="model_devi.out",
        help="file to write (default: model_devi.out)",
    )
    parser.add_argument(
        "-f",
        "--frequency",
        type=int,
        default=1,
        help="steps between frames, for the first column (default: 1)",
    )
    _add_measure(parser)
    _add_selection(parser)
    parser.add_argument(
        "-S", "--set-prefix", metavar="PREFIX", help="has no effect; DeePMD-kit has it"
    )


def _add_measure(parser: ArgumentParser) -> None:
    """Declare what is measured, and what it is divided by."""
    parser.add_argument(
        "--real_error",
        action="store_true",
        help="errors against labels (rms over the models) instead of deviations",
    )
    parser.add_argument(
        "--atomic",
        action="store_true",
        help="also the deviation of each atom's force and magnetic force",
    )
    for option, what in (
        ("relative", "forces by their size plus LEVEL (eV/Å)"),
        ("relative_v", "virials by their size plus LEVEL (eV per atom)"),
        ("relative_fm", "magnetic forces by their size plus LEVEL (eV/μ_B)"),
    ):
        parser.add_argument(
            f"--{option}",
            type=float,
            metavar="LEVEL",
            help=f"divide deviations of {what}",
        )


def _add_selection(parser: ArgumentParser) -> None:
    """Declare which frames are candidates, and where these go."""
    for option, column in (("select", "max_devi_f"), ("select-fm", "max_devi_fm")):
        parser.add_argument(
            f"--{option}",
            nargs=2,
            type=float,
            metavar=("LO", "HI"),
            help=f"list frames whose {column} is LO or more as candidates, unless one "
            "of the two deviations reaches its HI",
        )
    parser.add_argument(
        "--extract",
        metavar="DATA",
        help="write the candidates as systems to this folder, or HDF5 file",
    )
    add_force(parser)


def model_devi(
    *,
    models: Sequence[str],
    system: str = ".",
    output: str = "model_devi.out",
    frequency: int = 1,
    atomic: bool = False,
    extract: str | None = None,
    force: bool = False,
    set_prefix: str | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Write how much models disagree about the frames of systems.

    Parameters
    ----------
    models : sequence of str
        Model files of any kind.
    system : str
        A system, or a folder that is searched for systems.
    output : str
        File to write; one that is there is replaced.
    frequency : int
        Steps between frames, for the first column.
    atomic : bool
        Also the deviation of each atom's force and magnetic force.
    extract : str, optional
        Where to write the candidates, see `output` of
        `deepspin.entrypoints.convert_data.convert_data`.
    force : bool
        Replace what is at `extract`.
    set_prefix : str, optional
        Has no effect; DeePMD-kit has it.
    **options
        See `deepspin.data.formats.table.Reading` for files of other programs,
        `deepspin.infer.deviation.Measure` and `deepspin.infer.candidates.Bounds`;
        with errors against labels one model will do. Candidates are listed in a file
        beside `output`, with the suffix ``.candidates``.

    Returns
    -------
    list of np.ndarray, shape (nf, columns)
        What is written of each system.

    Raises
    ------
    InputError, DataError, OutputError, ValueError
        Options that make no sense, models that do not fit together, data that cannot be
        read or lack what is asked for, or an output that cannot be written.
    """
    from deepspin.data.find import find_systems
    from deepspin.data.formats.table import Reading
    from deepspin.data.writing import claim_systems, names_below
    from deepspin.env import start_tensorflow
    from deepspin.infer import candidates, deviation
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.outputs import claim, locked

    reading, measure = take(Reading, options), take(deviation.Measure, options)
    bounds = candidates.Bounds(**options)
    _check(models, frequency, measure.real_error, bool(bounds), extract)
    if set_prefix is not None:
        log.warning("-S has no effect: sets are the folders set.*")
    files = [resolve_checkpoint(model) for model in models]
    paths = find_systems(system, reading=reading)
    if extract is not None:
        names = names_below(paths, Path(extract))
        claim_systems(paths, Path(extract), force)
    listing = candidates.listing_of(output)
    ours = [claim(output), claim(listing), *[Path(p) for p in [extract] if p]]
    with locked(*ours):
        start_tensorflow()
        from deepspin.infer.deep_spin import DeepSpin

        potentials = [DeepSpin(file) for file in files]
        systems = deviation.load_alike(paths, potentials, models)
        if measure.real_error:
            candidates.check_labels(systems, bounds)
        found = [
            deviation.deviations(data, potentials, measure, frequency)
            for data in systems
        ]
        blocks = [each.columns(atomic) for each in found]
        deviation.write(output, paths, blocks, atomic)
        if not bounds:
            listing.unlink(missing_ok=True)  # of an earlier run
        else:
            chosen = candidates.select(listing, found, bounds)
            if extract is not None and chosen:
                candidates.extract(Path(extract), names, systems, chosen)
    return blocks


def _check(
    models: Sequence[str],
    frequency: int,
    real_error: bool,
    selecting: bool,
    extract: str | None,
) -> None:
    from deepspin.utils.refused import InputError

    if len(models) < 2 and not real_error:
        raise InputError(
            "Models disagree with each other: -m takes 2 or more of them, unless "
            f"--real_error compares with labels. Received: {len(models)}"
        )
    if frequency < 1:
        raise InputError(f"-f must be 1 or more steps. Received: {frequency}")
    if extract is not None and not selecting:
        raise InputError(
            "--extract writes what --select or --select-fm chooses. Give one of them."
        )
