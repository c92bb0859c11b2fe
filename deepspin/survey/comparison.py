# SPDX-License-Identifier: Apache-2.0
"""Systems measured one by one, and their frames compared with each other."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError, split_group
from deepspin.data.find import find_systems
from deepspin.data.notes import Notes
from deepspin.data.systems import load_system
from deepspin.survey.quality import describe, fingerprints, twins
from deepspin.survey.scheme import Survey
from deepspin.utils.inputs import load_input, normalize

log = logging.getLogger(__name__)


def measure(data: Survey, file: str | None) -> tuple[list[dict], list[dict], list[str]]:
    """Measure systems, and find frames that occur twice.

    Systems that only the input names are compared with the others, no more.

    Parameters
    ----------
    data : Survey
        The systems, and how to read them.
    file : str, optional
        Input of a training, whose systems are compared, too.

    Returns
    -------
    facts : list of dict
        Facts of each system, see `deepspin.survey.quality.describe`, and its ``role``.
    same : list of dict
        Pairs of frames that are the same: ``frames``, ``roles`` and ``energies``.
    failed : list of str
        Why systems cannot be read.
    """
    roles = {} if file is None else _roles(file)
    given = {_resolved(path): path for path in data.paths}
    facts, prints, frames, failed = [], [], [], []
    notes = Notes()
    for name in [*given, *sorted(set(roles) - set(given))]:
        path, role = given.get(name, name), roles.get(name)
        try:
            system = load_system(
                path, data.type_map, data.spin, allow_zero_spin=True, notes=notes
            )
        except DataError as error:
            failed.append(str(error))
            continue
        if name in given:
            facts.append(describe(system, data.type_map, data.spin) | {"role": role})
        prints.append(fingerprints(system))
        known = system.has("energy")
        energy = system.labels.get("energy", known)
        frames += [
            (system, f, role, energy[f] if known[f] else None)
            for f in range(system.nframes)
        ]
    notes.tell()
    same = twins(np.concatenate(prints)) if prints else []
    return facts, [_twin(frames[one], frames[other]) for one, other in same], failed


def _roles(file: str) -> dict[str, str]:
    """Systems of an input file, and whether they train or validate."""
    training = normalize(load_input(file))["training"]
    roles: dict[str, str] = {}
    for role in ("training", "validation"):
        section = training[f"{role}_data"]
        try:
            found = section and find_systems(
                section["systems"], section["rglob_patterns"]
            )
        except DataError as error:
            log.warning("%s data of '%s' is not compared: %s", role, file, error)
            continue
        for path in map(_resolved, found or []):
            both = roles.get(path, role) != role
            roles[path] = "training and validation" if both else role
    return roles


def _resolved(path: str) -> str:
    if Path(path).exists():
        return str(Path(path).resolve())
    file, group = split_group(path)
    return f"{file.resolve()}#{group}"


def _twin(one: tuple, other: tuple) -> dict:
    energies = [None if e is None else float(e) for *_, e in (one, other)]
    return {
        "frames": [system.where(f) for system, f, *_ in (one, other)],
        "roles": [one[2], other[2]],
        "energies": energies,
    }
