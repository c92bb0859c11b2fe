# SPDX-License-Identifier: Apache-2.0
"""Tables of what systems hold, as `dp-spin check-data` prints them."""

from __future__ import annotations

from pathlib import Path

from deepspin.survey.tables import table


def report(facts: list[dict], type_map: list[str], notes: list[str]) -> str:
    """Lay out what systems hold, and what in them to look at.

    Parameters
    ----------
    facts : list of dict
        Facts of each system, see `deepspin.survey.comparison.measure`.
    type_map : list of str
        Names of the types.
    notes : list of str
        What to look at.
    """
    return "\n" + _tables(facts, type_map) + _listed(notes)


def _tables(facts: list[dict], type_map: list[str]) -> str:
    if not facts:
        return ""
    parts = [
        _systems(facts, type_map),
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
        labels = " ".join(_counted(own)) or None
        rows.append([k, own["frames"], atoms, own["layout"], labels, own["path"]])
    total = sum(own["frames"] for own in facts)
    rows.append(["all", total, None, None, None, f"{len(facts)} systems"])
    header = ["#", "frames", "atoms", "layout", "labels", "path"]
    return table("Systems", header, rows)


def _counted(own: dict) -> list[str]:
    """Labels, with the number of frames of those that some frames lack."""
    missing, frames = own["missing"], own["frames"]
    return [
        f"{name}({frames - missing[name]})" if name in missing else name
        for name in own["labels"]
    ]


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
        [
            k,
            name,
            _span(low, high, 5),
            f"{length['mean']:.5g}",
            length["std"],
        ]
        for k, own in enumerate(facts)
        for name, length in own["spin"].items()
        for low, high in [length["range"]]
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
    names = ("force", "across", "along")
    labelled = [
        (k, own["work"])
        for k, own in enumerate(facts)
        if {"energy", "force_mag"} <= set(own["labels"])
    ]
    rows: list[list] = [
        [k, work["pairs"], *slopes, f"{work['explained']:.1%}"]
        for k, work in labelled
        if work is not None
        for slopes in [[_factor(work[name]) for name in names]]
    ]
    silent = [k for k, work in labelled if work is None]
    rows += [[k, None, *["cannot tell"] * 3, None] for k in silent]
    title = "Energy differences of frames near each other over the work of (1 is right)"
    header = ["#", "pairs", "forces", "force_mag across", "along spins", "explained"]
    return table(title, header, rows) if rows else ""


def _factor(factor: list[float] | None) -> str:
    return "cannot tell" if factor is None else "{:.3f} ± {:.3f}".format(*factor)


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
