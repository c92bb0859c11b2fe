# SPDX-License-Identifier: Apache-2.0
"""``dp-spin check-data``: what to know about data before a fit."""

from __future__ import annotations

import json as json_module
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError, find_systems
from deepspin.data.systems import load_system
from deepspin.survey.findings import look
from deepspin.survey.quality import describe, fingerprints, twins
from deepspin.survey.scheme import Survey, survey
from deepspin.survey.tables import table
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.outputs import claim, replacing

log = logging.getLogger(__name__)


def check_data(*, systems: Sequence[str], json: str | None = None, **spin) -> dict:
    """Print tables of what systems hold, and what in them to look at.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    json : str, optional
        File to write all numbers to.
    **spin
        How to read them, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    dict
        What the file would hold: ``type_map``, ``spin``, ``systems``, ``twins`` (frames
        that occur twice), ``findings`` and ``unreadable``.

    Raises
    ------
    DataError
        A system cannot be read; the others are reported all the same.
    """
    if json is not None:
        claim(json)
    data = survey(systems, **spin)
    data.report()
    roles = {} if spin.get("input") is None else _roles(spin["input"])
    facts, same, failed = _measure(data, roles)
    notes = data.doubts + look(facts, same, data.type_map)
    sys.stdout.write("\n" + _tables(facts, data) + _listed(notes))
    result = {
        "type_map": data.type_map,
        "spin": data.section,
        "systems": facts,
        "twins": same,
        "findings": notes,
        "unreadable": failed,
    }
    if json is not None:
        with replacing(json) as partial:
            partial.write_text(json_module.dumps(result, indent=2) + "\n", "utf-8")
    for text in failed[:-1]:
        log.error("%s", text)
    if failed:
        count = f"{len(failed)} of {len(data.paths)} systems cannot be read"
        raise DataError(f"{failed[-1]} ({count})")
    return result


# --- Numbers --------------------------------------------------------------------------


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
    file, _, group = path.rpartition("#")
    return f"{Path(file).resolve()}#{group}"


def _measure(
    data: Survey, roles: dict[str, str]
) -> tuple[list[dict], list[dict], list[str]]:
    """Facts of each system, frames that occur twice, and what cannot be read.

    Systems that only the input names are compared with the others, no more.
    """
    given = {_resolved(path): path for path in data.paths}
    facts, prints, frames, failed = [], [], [], []
    for name in [*given, *sorted(set(roles) - set(given))]:
        path, role = given.get(name, name), roles.get(name)
        try:
            system = load_system(path, data.type_map, data.spin, allow_zero_spin=True)
        except DataError as error:
            failed.append(str(error))
            continue
        if name in given:
            facts.append(describe(system, data.type_map, data.spin) | {"role": role})
        prints.append(fingerprints(system))
        energy = system.labels.get("energy", [None] * system.nframes)
        frames += [(system, f, role, e) for f, e in enumerate(energy)]
    same = twins(np.concatenate(prints)) if prints else []
    return facts, [_twin(frames[one], frames[other]) for one, other in same], failed


def _twin(one: tuple, other: tuple) -> dict:
    energies = [None if e is None else float(e) for *_, e in (one, other)]
    return {
        "frames": [system.where(f) for system, f, *_ in (one, other)],
        "roles": [one[2], other[2]],
        "energies": energies,
    }


# --- Words ----------------------------------------------------------------------------


def _tables(facts: list[dict], data: Survey) -> str:
    if not facts:
        return ""
    parts = [
        _systems(facts, data.type_map),
        _cells(facts),
        _energies(facts),
        _forces(facts),
        _spins(facts),
        _torques(facts),
        _works(facts),
        _distances(facts),
    ]
    return "".join(parts)


def _span(low: float, high: float, digits: int = 4) -> str:
    """Write a range, or one number if both ends read the same."""
    ends = [f"{value:.{digits}g}" for value in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def _short(facts: dict, at: str) -> str:
    """Name a frame without its folder, but for the set where there are several."""
    number, _, place = at.partition(" of '")
    return number if facts["sets"] == 1 else f"{number}, {Path(place[:-1]).name}"


def _longest(facts: dict, own: dict) -> tuple[float, str]:
    return own["largest"]["value"], _short(facts, own["largest"]["at"])


def _rows(facts: list[dict], key: str) -> list[tuple[int, dict, dict]]:
    return [(k, own, own[key]) for k, own in enumerate(facts) if own[key] is not None]


def _systems(facts: list[dict], type_map: list[str]) -> str:
    rows = []
    for k, own in enumerate(facts):
        atoms = " ".join(f"{n}:{_span(*c)}" for n, c in own["atoms"].items())
        labels = " ".join(own["labels"]) or None
        rows.append([k, own["frames"], atoms, own["layout"], labels, own["path"]])
    total = sum(own["frames"] for own in facts)
    rows.append(["all", total, None, None, None, f"{len(facts)} systems"])
    header = ["#", "frames", "atoms", "layout", "labels", "path"]
    return table("Systems", header, rows)


def _cells(facts: list[dict]) -> str:
    rows = [
        [k, _span(*cell["volume_per_atom"]), *(_span(*own) for own in cell["lengths"])]
        for k, _, cell in _rows(facts, "cell")
    ]
    open_ones = [k for k, own in enumerate(facts) if own["cell"] is None]
    rows += [[k, "open", None, None, None] for k in open_ones]
    header = ["#", "Å³ per atom", "a", "b", "c"]
    return table("Cells: volume and lengths in Å", header, rows)


def _energies(facts: list[dict]) -> str:
    rows = [
        [k, f"{e['mean']:.5f}", e["std"], f"{low:.5f}", f"{high:.5f}", count]
        for k, _, e in _rows(facts, "energy")
        for low, high in [e["range"]]
        for count in [len(e["outliers"])]
    ]
    header = ["#", "mean", "std", "lowest", "highest", "outliers"]
    return table("Energies in eV per atom", header, rows) if rows else ""


def _forces(facts: list[dict]) -> str:
    rows = []
    for k, own, force in _rows(facts, "force"):
        longest, where = _longest(own, force)
        net, virial = f"{force['net']['value']:.1e}", own["virial"]
        virial = None if virial is None else virial["rms"]
        rows.append([k, force["rms"], longest, where, net, virial])
    header = ["#", "rms component", "longest", "where", "longest sum", "rms virial"]
    title = "Forces in eV/Å, virials in eV per atom"
    return table(title, header, rows) if rows else ""


def _spins(facts: list[dict]) -> str:
    rows = [
        [k, name, _span(*length["range"], 5), f"{length['mean']:.5g}", length["std"]]
        for k, own in enumerate(facts)
        for name, length in own["spin"].items()
    ]
    text = table("Spins: |S| in μ_B", ["#", "type", "range", "mean", "std"], rows)
    rows = [
        [k, f["rms_along"], f["mean_along"], f["rms_across"], *_longest(own, f)]
        for k, own, f in _rows(facts, "force_mag")
    ]
    header = ["#", "rms along spin", "mean along", "rms across", "longest", "where"]
    return text + (table("Magnetic forces in eV/μ_B", header, rows) if rows else "")


def _torques(facts: list[dict]) -> str:
    rows = [
        [k, f"{torque['all']:.2%}", f"{worst:.2%}", where]
        for k, own, torque in _rows(facts, "torque")
        for worst, where in [_longest(own, torque)]
    ]
    title = "Torque balance: |Σ S×F| of what independent sites would give"
    return table(title, ["#", "all frames", "worst", "where"], rows) if rows else ""


def _works(facts: list[dict]) -> str:
    names = ("force", "force_mag")
    rows = [
        [k, work["pairs"], *slopes, f"{work['explained']:.1%}"]
        for k, _, work in _rows(facts, "work")
        for slopes in [["{:.3f} ± {:.3f}".format(*work[n]) for n in names]]
    ]
    title = "Energy differences of frames near each other over the work of (1 is right)"
    header = ["#", "pairs", "forces", "magnetic forces", "explained"]
    return table(title, header, rows) if rows else ""


def _distance(item: tuple[str, tuple[int, dict]]) -> float:
    return item[1][1]["distance"]


def _distances(facts: list[dict]) -> str:
    best: dict[str, tuple] = {}
    for k, own in enumerate(facts):
        for pair, found in own["nearest"].items():
            if pair not in best or found["distance"] < best[pair][1]["distance"]:
                best[pair] = (k, found)
    rows = [
        [pair, f"{own['distance']:.3f}", k, _short(facts[k], own["frame"]), atoms]
        for pair, (k, own) in sorted(best.items(), key=_distance)
        for atoms in [" ".join(map(str, own["atoms"]))]
    ]
    header = ["pair", "Å", "#", "where", "atoms"]
    return table("Nearest distances, images included", header, rows) if rows else ""


def _listed(notes: list[str]) -> str:
    if not notes:
        return "Nothing to look at.\n"
    lines = [f"  {k}. {note}" for k, note in enumerate(notes, start=1)]
    return "\n".join(["To look at", *lines, ""])
