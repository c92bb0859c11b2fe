# SPDX-License-Identifier: Apache-2.0
"""``dp-spin select``: a few frames that stand for many."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import Verbs, add_data, add_force, add_spin, add_verb

if TYPE_CHECKING:
    from deepspin.data.frames import System
    from deepspin.infer.diversity import Chosen

log = logging.getLogger(__name__)

WAYS = ("distance", "fingerprint", "deviation")


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "select",
        select,
        "Choose a few frames that stand for many, and write them as systems.",
    )
    add_data(parser)
    parser.add_argument(
        "-n", "--number", type=int, required=True, help="how many frames to choose"
    )
    parser.add_argument(
        "--by",
        choices=WAYS,
        default="distance",
        help="what makes frames differ: positions and spins, descriptors of a model "
        "(-m), or how much models (-m) disagree (default: distance)",
    )
    parser.add_argument(
        "-m",
        "--models",
        nargs="+",
        metavar="MODEL",
        help="one model for fingerprints, two or more for deviations",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DATA",
        help="folder to write, or HDF5 file (.hdf5 or .h5)",
    )
    add_spin(parser)
    add_force(parser)


def select(
    *,
    systems: Sequence[str],
    number: int,
    output: str,
    by: str = "distance",
    models: Sequence[str] | None = None,
    force: bool = False,
    format: str | None = None,
    spin_key: str | None = None,
    force_mag_key: str | None = None,
    **spin: Any,
) -> dict[str, list[int]]:
    """Choose frames far from each other, or least known to models.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    number : int
        How many frames to choose of all systems together.
    output : str
        Folder or HDF5 file to write, bit for bit as the frames were.
    by : {"distance", "fingerprint", "deviation"}
        See `deepspin.infer.diversity`: `by_distance`, `by_fingerprint`, `by_deviation`.
    models : sequence of str, optional
        One model for fingerprints, two or more for deviations.
    force : bool
        Replace the output if it is there.
    format, spin_key, force_mag_key : str, optional
        How to read what other programs wrote, see
        `deepspin.data.formats.table.Reading`.
    **spin
        How to read systems without a model, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    dict of str to list of int
        Frames chosen of each system.

    Raises
    ------
    InputError, DataError, OutputError
        Options that do not fit together, or more frames than there are; data that
        cannot be read; the output exists or holds the data.
    """
    from deepspin.data.files import DataError
    from deepspin.data.find import find_systems
    from deepspin.data.formats.table import Reading
    from deepspin.data.writing import claim_systems, names_below

    files = _models(by, models or [], number, spin)
    paths = find_systems(systems, reading=Reading(format, spin_key, force_mag_key))
    names = names_below(paths, Path(output))
    claim_systems(paths, Path(output), force)
    data, potentials = _load(paths, files, spin)
    total = sum(system.nframes for system in data)
    if number > total:
        raise DataError(
            f"{number} frames are to be chosen, and there are {total}. Give a smaller "
            "--number."
        )
    from deepspin.infer.candidates import extract
    from deepspin.infer.diversity import frames_of

    found = _choose(by, data, potentials, number)
    chosen = frames_of(data, found)
    extract(Path(output), names, data, chosen)
    _tell(by, found, number, total)
    return {path: frames.tolist() for path, frames in chosen.items()}


def _models(
    by: str, models: Sequence[str], number: int, spin: dict[str, Any]
) -> list[Path]:
    """Model files, after what can be checked at once."""
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.refused import InputError

    if number < 1:
        raise InputError(f"--number must be 1 or more. Received: {number}")
    fits = {
        "distance": not models,
        "fingerprint": len(models) == 1,
        "deviation": len(models) > 1,
    }
    if not fits[by]:
        needs = {"distance": "no", "fingerprint": "one", "deviation": "two or more"}
        raise InputError(
            f"--by {by} takes {needs[by]} models (-m). Received: {len(models)}"
        )
    given = [f"--{k.replace('_', '-')}" for k, v in spin.items() if v is not None]
    if models and given:
        raise InputError(
            f"Models say how to read the data. Leave out {', '.join(given)}."
        )
    return [resolve_checkpoint(model) for model in models]


def _load(
    paths: Sequence[str], files: Sequence[Path], spin: dict[str, Any]
) -> tuple[list[System], list]:
    if not files:
        from deepspin.data.systems import load_system
        from deepspin.survey.scheme import survey

        data = survey(paths, **spin)
        return [
            load_system(path, data.type_map, data.spin, allow_zero_spin=True)
            for path in data.paths
        ], []
    from deepspin.env import start_tensorflow

    start_tensorflow()
    from deepspin.infer.deep_spin import DeepSpin
    from deepspin.infer.deviation import load_alike

    potentials = [DeepSpin(file) for file in files]
    return load_alike(paths, potentials, [str(file) for file in files]), potentials


def _choose(by: str, data: list[System], potentials: list, number: int) -> Chosen:
    from deepspin.infer import diversity

    if by == "distance":
        return diversity.by_distance(data, number)
    if by == "fingerprint":
        return diversity.by_fingerprint(data, potentials[0], number)
    return diversity.by_deviation(data, potentials, number)


def _tell(by: str, found: Chosen, number: int, total: int) -> None:
    left = {
        "distance": "all others are within %.3g of one of them, in units of the spread",
        "fingerprint": "all others are within %.3g of one of them, in units of the "
        "spread",
        "deviation": "all others deviate by at most %.3g times the mean",
    }[by]
    log.info(f"chose %d of %d frames; {left}", number, total, found.radius)
