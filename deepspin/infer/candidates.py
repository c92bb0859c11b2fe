# SPDX-License-Identifier: Apache-2.0
"""Frames worth labelling: those that models disagree about, but not wildly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data import selection
from deepspin.data.files import DataError
from deepspin.data.frames import System
from deepspin.data.writing import write_system
from deepspin.infer.deviation import FORCE, FORCE_MAG, Deviations
from deepspin.utils.outputs import replacing
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What makes a frame a candidate.

    One of the deviations reaches its lower bound, and none reaches its upper one.

    Parameters
    ----------
    select, select_fm : (float, float), optional
        Lower and upper bound of ``max_devi_f`` and ``max_devi_fm``.
    """

    select: Sequence[float] | None = None
    select_fm: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for low, high in self.of_columns.values():
            if not 0 <= low < high:
                raise InputError(
                    "--select and --select-fm take a lower and a higher bound. "
                    f"Received: {low:g} {high:g}"
                )

    @property
    def of_columns(self) -> dict[int, Sequence[float]]:
        """Bounds that there are, by the column that they are for."""
        pairs = {FORCE: self.select, FORCE_MAG: self.select_fm}
        return {column: pair for column, pair in pairs.items() if pair is not None}

    def __bool__(self) -> bool:
        return bool(self.of_columns)


def check_labels(systems: Sequence[System], bounds: Bounds) -> None:
    """Refuse systems without the labels that errors are asked of."""
    names = {FORCE: "force", FORCE_MAG: "force_mag"}
    needed = {name for column, name in names.items() if column in bounds.of_columns}
    for data in systems:
        if not {"energy", "force", "force_mag", "virial"} & data.labels.keys():
            raise DataError(
                f"'{data.path}' has no labels to compare with, as --real_error asks: "
                "no energy, force, force_mag or virial."
            )
        for name in needed - data.labels.keys():
            raise DataError(f"'{data.path}' has no {name} to select frames by.")


def listing_of(output: str) -> Path:
    """Where candidates are listed: beside the file of deviations."""
    return Path(output).with_suffix(".candidates")


def select(
    listing: Path,
    found: Sequence[Deviations],
    bounds: Bounds,
) -> dict[str, np.ndarray]:
    """List the candidates; returns those of each system that has some.

    Parameters
    ----------
    listing : Path
        File to write.
    found : sequence of Deviations
        Of each system.
    bounds : Bounds
        What makes a candidate.
    """
    low, high = np.transpose(list(bounds.of_columns.values()))
    counts, chosen = np.zeros(4, dtype=int), {}
    with replacing(listing) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("# system frame max_devi_f max_devi_fm\n")
        for each in found:
            table, values = each.table, each.table[:, list(bounds.of_columns)]
            failed = (values >= high).any(axis=1)
            candidate = (values >= low).any(axis=1) & ~failed
            unknown = np.isnan(values).all(axis=1)  # no label, or no magnetic atom
            accurate = ~failed & ~candidate & ~unknown
            groups = (accurate, candidate, failed, unknown)
            counts += [np.count_nonzero(group) for group in groups]
            for frame in np.flatnonzero(candidate):
                force, force_mag = table[frame, [FORCE, FORCE_MAG]]
                file.write(f"{each.path} {frame} {force:.6e} {force_mag:.6e}\n")
            if candidate.any():
                chosen[each.path] = np.flatnonzero(candidate)
    log.info(
        "%d frames are accurate, %d candidates (listed in %s), %d beyond the bounds",
        *counts[:2],
        listing,
        counts[2],
    )
    if counts[3]:
        log.info("%d frames have nothing to judge them by", counts[3])
    return chosen


def extract(
    target: Path,
    names: dict[str, str],
    systems: Sequence[System],
    chosen: dict[str, np.ndarray],
) -> None:
    """Write the candidates as systems.

    Parameters
    ----------
    target : Path
        Folder or HDF5 file to write.
    names : dict of str to str
        Names of the systems in it, see `deepspin.data.writing.names_below`.
    systems : sequence of System
        The systems.
    chosen : dict of str to np.ndarray
        Frames of each, see `select`.
    """
    with replacing(target) as partial:
        for data in systems:
            if data.path in chosen:
                content = selection.extract(data.path, chosen[data.path], data.sets)
                write_system(content, partial, names[data.path])
    log.info("wrote the candidates to %s", target)
