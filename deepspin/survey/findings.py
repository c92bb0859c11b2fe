# SPDX-License-Identifier: Apache-2.0
"""What in the numbers of `deepspin.survey.quality` a user should look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Facts = dict

# nearest real atoms (Å) outside of this are odd for Å, as is the share of a net force
# and of a net torque above these
NEAREST = (0.7, 3.0)
NET_FORCE, NET_TORQUE = 0.01, 0.1
# a virtual atom nearer than this (Å) to another atom is hard to learn
NEAR_SITE = 0.5
# |S| - 1 below this everywhere means unit vectors; |S| outside of this is odd for μ_B
UNIT, LONGEST_SPIN = 1e-4, 12.0
# the longest force over the root mean square of the components
LONG_FORCE = 30.0
# factors of energies over work farther than this from 1, where so much is explained
SLOPE, EXPLAINED = 0.05, 0.8
# same composition, yet this much apart in energy (eV per atom) and in widths
ENERGY_GAP, GAP_WIDTHS = 0.2, 20.0
# so many examples are named
EXAMPLES = 3


def look(
    facts: Sequence[Facts], twins: Sequence[Facts], type_map: Sequence[str]
) -> list[str]:
    """List what to look at, each with what to do.

    Parameters
    ----------
    facts : sequence of dict
        What `quality.describe` found, of each system.
    twins : sequence of dict
        Frames that occur twice: ``frames``, ``roles`` and ``energies``.
    type_map : sequence of str
        Names of the types.
    """
    rules: tuple[Callable[..., Iterator[str]], ...] = (
        _spins,
        _energies,
        _forces,
        _magnetic_forces,
        _works,
    )
    notes = list(_labels(facts)) + list(_distances(facts, type_map))
    notes += [note for rule in rules for note in rule(facts)]
    return notes + list(_twins(twins)) + list(_types(facts, type_map))


def _some(places: Sequence[str]) -> str:
    """Name a few places."""
    named = ", ".join(places[:EXAMPLES])
    rest = len(places) - EXAMPLES
    return named + (f" and {rest} more" if rest > 0 else "")


def _paths(facts: Sequence[Facts]) -> str:
    return _some([f"'{own['path']}'" for own in facts])


def _labels(facts: Sequence[Facts]) -> Iterator[str]:
    advice = {
        "energy": "set start_pref_e and limit_pref_e to 0, or add it",
        "force": "set start_pref_fr and limit_pref_fr to 0, or add it",
        "force_mag": "set start_pref_fm and limit_pref_fm to 0, or add it; without it "
        "spins are learnt from energies alone",
    }
    for name in (*advice, "virial"):
        without = [own for own in facts if name not in own["labels"]]
        if without and len(without) < len(facts):
            yield (
                f"no {name} in {_paths(without)}, but in others: these systems do not "
                "count in its loss. If it was calculated, add it to them."
            )
        elif without and name in advice:
            yield f"no {name} in {_paths(without)}: {advice[name]}."
        for own in facts:
            if number := own["missing"].get(name):
                yield (
                    f"{name} is missing in {number} of {own['frames']} frames of "
                    f"'{own['path']}': these do not count in its loss. If it was "
                    "calculated, add it to them."
                )


def _distances(facts: Sequence[Facts], type_map: Sequence[str]) -> Iterator[str]:
    of_atoms = {f"{one}-{other}" for one in type_map for other in type_map}
    for own in facts:
        nearest = own["nearest"]
        real = [pair for pair in nearest if pair in of_atoms]
        first = min(real, key=lambda p: nearest[p]["distance"], default=None)
        atoms = sum(high for _, high in own["atoms"].values())
        if first is None and (own["periodic"] or atoms > 1):
            yield (
                f"no two atoms of '{own['path']}' are nearer than 4 Å: are coord and "
                "box in bohr? They must be in Å."
            )
        if first is not None:
            yield from _nearest(own, first, nearest[first])
        for pair, found in nearest.items():
            if pair not in of_atoms and found["distance"] < NEAR_SITE:
                yield (
                    f"a virtual atom is {found['distance']:.2f} Å from another atom "
                    f"({pair}) in {found['frame']}: a smaller `virtual_len` keeps them "
                    "apart, or the frame is wrong."
                )


def _nearest(own: Facts, pair: str, found: Facts) -> Iterator[str]:
    low, high = NEAREST
    distance = found["distance"]
    where = f"the nearest atoms of '{own['path']}', {pair} in {found['frame']}, are "
    if distance > high:
        yield (
            f"{where}{distance:.2f} Å apart, which is far: are coord and box in bohr? "
            f"In bohr that would be {distance * 0.529177:.2f} Å."
        )
    if distance < low:
        yield (
            f"{where}{distance:.2f} Å apart, which is near: is coord in nm, or given "
            "in fractions of the box? It must be in Å. Otherwise remove the frame."
        )


def _spins(facts: Sequence[Facts]) -> Iterator[str]:
    ends = [(n, s["range"]) for own in facts for n, s in own["spin"].items()]
    spread = max((abs(end - 1.0) for _, span in ends for end in span), default=np.inf)
    if spread < UNIT:
        yield (
            "all |S| are 1: are these unit vectors? Magnetic forces must then be per "
            "unit vector too, not per μ_B, and the model's spins are unit vectors."
        )
    long = sorted({name for name, (_, high) in ends if high > LONGEST_SPIN})
    if long:
        yield (
            f"|S| of {' '.join(long)} exceeds {LONGEST_SPIN:g}: are the spins in μ_B?"
        )
    zeros = [own for own in facts if any(s["zeros"] for s in own["spin"].values())]
    if zeros:
        count = sum(s["zeros"] for own in zeros for s in own["spin"].values())
        yield (
            f"{count} spins of types with spin are 0, in {_paths(zeros)}: training "
            "refuses them. Remove these frames, or set a non-zero `env_protection`."
        )


def _energies(facts: Sequence[Facts]) -> Iterator[str]:
    for own in facts:
        found = own["energy"] and own["energy"]["outliers"]
        if found:
            places = [
                f"{o['at']} ({o['energy']:.4f} eV/atom, {o['score']:.0f} widths off)"
                for o in found
            ]
            yield (
                f"energies far from the median: {_some(places)}. Did the calculations "
                "converge? Remove the frames that did not."
            )
    groups: dict[tuple, list[Facts]] = {}
    for own in facts:
        atoms = own["atoms"]
        total = sum(low for low, _ in atoms.values()) or 1
        key = tuple((name, round(low / total, 6)) for name, (low, _) in atoms.items())
        if own["energy"] and all(low == high for low, high in atoms.values()):
            groups.setdefault(key, []).append(own)
    for group in groups.values():
        means = [own["energy"]["mean"] for own in group]
        width = max(own["energy"]["std"] for own in group)
        gap = max(means) - min(means)
        if gap > max(ENERGY_GAP, GAP_WIDTHS * width):
            one, other = (group[int(f(means))] for f in (np.argmin, np.argmax))
            yield (
                f"'{one['path']}' and '{other['path']}' have the same composition but "
                f"{gap:.3g} eV per atom between their energies: are they from the same "
                "pseudopotentials, U and code?"
            )


def _forces(facts: Sequence[Facts]) -> Iterator[str]:
    for _, own in ((o, o["force"]) for o in facts if o["force"]):
        net, largest = own["net"], own["largest"]
        if net["share"] > NET_FORCE:
            yield (
                f"forces do not add up to 0: {net['value']:.2g} eV/Å are left in "
                f"{net['at']}, {net['share']:.1%} of what random errors as large as "
                "the forces would give. Are atoms missing, or forces not converged?"
            )
        if largest["value"] > LONG_FORCE * own["rms"] > 0:
            yield (
                f"the longest force, {largest['value']:.3g} eV/Å on {largest['at']}, "
                f"is {largest['value'] / own['rms']:.0f} times the root mean square. "
                "Did this calculation converge?"
            )


def _magnetic_forces(facts: Sequence[Facts]) -> Iterator[str]:
    known = [own for own in facts if own["force_mag"]]
    silent = [own for own in known if own["force_mag"]["largest"]["value"] == 0]
    if silent:
        yield (
            f"force_mag is 0 everywhere in {_paths(silent)}. If it was not calculated, "
            "remove force_mag.npy, or 0 will be learnt."
        )
    for own in known:
        along, across = (own["force_mag"][f"rms_{n}"] for n in ("along", "across"))
        if across > 0 and along < 1e-6 * across:
            yield (
                f"force_mag of '{own['path']}' has no part along the spin: it seems "
                "projected. A model that fits it has energies that do not depend on "
                "|S|; that is right only if |S| is the same everywhere."
            )
        torque = own["torque"]
        if torque and torque["all"] > NET_TORQUE:
            yield (
                f"torques of '{own['path']}' do not add up to 0: {torque['all']:.0%} "
                "of what independent sites would give, worst in "
                f"{torque['largest']['at']}. Without spin-orbit coupling the energy "
                "does not change when all spins turn, so a few percent are expected: "
                "is force_mag -dE/dS, in the order of the atoms and in the same axes?"
            )


_MEANING = {"force": "-dE/dR in eV/Å", "force_mag": "-dE/dS in eV per unit of spin"}
_PARTS = {"across": " across the spins", "along": " along the spins"}


def _works(facts: Sequence[Facts]) -> Iterator[str]:
    for own in facts:
        work = own["work"]
        if not work or work["explained"] < EXPLAINED:
            continue
        for name in ("force", *_PARTS):
            if work[name] is None:
                continue
            slope, error = work[name]
            if abs(slope - 1.0) <= max(SLOPE, 3 * error):
                continue
            label = "force" if name == "force" else "force_mag"
            advice = "is its sign turned?" if slope < 0 else "is its unit right?"
            if label == "force_mag" and own["layout"] == "virtual-atom":
                advice += " A wrong `spin_norm` does that, too."
            yield (
                f"energies of '{own['path']}' change {slope:.2f} ± {error:.2f} "
                f"times as much as {label} says{_PARTS.get(name, '')}, where frames "
                f"are near each other: it must be {_MEANING[label]}; {advice} The page "
                "'Looking at data' says what else it can mean"
            )


def _twins(twins: Sequence[Facts]) -> Iterator[str]:
    if not twins:
        return
    pairs = [" is ".join(twin["frames"]) for twin in twins]
    known = [t["energies"] for t in twins if None not in t["energies"]]
    gap = max((abs(one - other) for one, other in known), default=0.0)
    differ = f" Their energies differ by up to {gap:.3g} eV." if gap > 1e-6 else ""
    yield (
        f"{len(twins)} frames occur twice (atoms within 1e-6 Å, up to lattice vectors, "
        f"and spins): {_some(pairs)}.{differ} Remove one of each, or it counts double."
    )
    leaks = [
        t
        for t in twins
        if any(r and "validation" in r for r in t["roles"])
        and any(r and "training" in r for r in t["roles"])
    ]
    if leaks:
        yield (
            f"{len(leaks)} frames are in both training and validation data: "
            f"{_some([' is '.join(t['frames']) for t in leaks])}. Errors on them say "
            "nothing about new frames. Take them out of one."
        )


def _types(facts: Sequence[Facts], type_map: Sequence[str]) -> Iterator[str]:
    there = {name for own in facts for name in own["atoms"]}
    absent = [name for name in type_map if name not in there]
    if facts and absent:
        yield f"no atoms of {' '.join(absent)} anywhere: leave them out of `type_map`."
    both = [o for o in facts if o["role"] == "training and validation"]
    if both:
        yield f"{_paths(both)} is named as training and as validation data."
