# SPDX-License-Identifier: Apache-2.0
"""Data that nobody described: which types there are, which carry spins, how long.

For the verbs that look at data before there is an input. What the data cannot tell is
either taken from options, or assumed and said, see `Survey.reasons`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepspin.data.cells import shortest
from deepspin.data.files import (
    SCHEME,
    DataError,
    Set,
    concatenate,
    names_of,
    numbers,
    read_system,
)
from deepspin.data.find import find_systems
from deepspin.data.formats.table import Reading
from deepspin.data.systems import load_system
from deepspin.data.words import read_scheme, read_words, scheme_of, type_names
from deepspin.spins.codec import LENGTH_TOLERANCE
from deepspin.spins.schemes import Scheme, build_scheme
from deepspin.spins.types import SMALL_MOMENT, ZERO_SPIN, split_names
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

_OF_SPIN_TYPES = ("virtual_len", "spin_norm", "virtual_scale")
# virtual_len (Å) where nothing says otherwise: what DeePMD-kit's examples have
DEFAULT_LEN = 0.4
# spin_norm (μ_B) of data that only holds positions of virtual atoms: Ni in NiO
DEFAULT_NORM = 1.2737
# a virtual atom farther than this (Å) from an atom does not belong to it
MAX_OFFSET = 1.5
# magnetic types with spins shorter than this share of the longest may be polarised only
SMALL_SHARE = 0.2


@dataclass(frozen=True)
class Lengths:
    """How long vectors that are not 0 are, in μ_B (spins) or Å (ways to virtual atoms).

    Parameters
    ----------
    count : int
        Number of vectors.
    mean, low, high : float
        Mean, smallest and largest length.
    """

    count: int = 0
    mean: float = 0.0
    low: float = np.inf
    high: float = 0.0

    @classmethod
    def of(cls, vectors: np.ndarray) -> Lengths:
        """Measure vectors (n, 3)."""
        length = np.linalg.norm(vectors, axis=-1)
        length = length[length >= ZERO_SPIN]
        if not len(length):
            return cls()
        ends = float(length.min()), float(length.max())
        return cls(len(length), float(length.mean()), *ends)

    def __add__(self, other: Lengths) -> Lengths:
        """Pool two; either may be empty."""
        count = self.count + other.count
        total = self.count * self.mean + other.count * other.mean
        ends = min(self.low, other.low), max(self.high, other.high)
        return Lengths(count, total / max(count, 1), *ends)


@dataclass(frozen=True)
class Survey:
    """What was found out about data, enough to read it.

    Parameters
    ----------
    paths : list of str
        The systems.
    type_map : list of str
        Names of the types.
    spin : Scheme
        The spin scheme.
    section : dict
        The same as the options of ``model/spin``.
    reasons : dict of str to str
        Where ``type_map``, ``use_spin``, ``virtual_len`` and ``spin_norm`` come from.
    doubts : list of str
        What was assumed and matters, or looks odd.
    """

    paths: list[str]
    type_map: list[str]
    spin: Scheme
    section: dict[str, Any]
    reasons: dict[str, str]
    doubts: list[str]

    def report(self) -> None:
        """Tell the reasons, and warn of the doubts."""
        log.info("type_map %s: %s", " ".join(self.type_map), self.reasons["type_map"])
        for key, value in self.section.items():
            flags = self.section["use_spin"]
            names = [n for n, on in zip(self.type_map, flags, strict=True) if on]
            told = names if key == "use_spin" else np.ravel(value).tolist()
            text = " ".join(map(str, told))
            log.info("%s %s: %s", key, text, self.reasons[key])
        for doubt in self.doubts:
            log.warning("%s", doubt)


def survey(
    systems: str | Sequence[str],
    *,
    type_map: Sequence[str] | None = None,
    use_spin: Sequence[str] | None = None,
    virtual_len: Sequence[float] | None = None,
    spin_norm: Sequence[float] | None = None,
    ignore_below: float | None = None,
    input: str | None = None,
    format: str | None = None,
    spin_key: str | None = None,
    force_mag_key: str | None = None,
) -> Survey:
    """Find out how to read systems.

    Parameters
    ----------
    systems : str or sequence of str
        Systems, folders to search, or HDF5 files.
    type_map : sequence of str, optional
        Names of the types; otherwise those of ``type_map.raw``.
    use_spin : sequence of str, optional
        Names of the types with spin; otherwise those whose spins are not 0.
    virtual_len, spin_norm : sequence of float, optional
        One number for each type with spin (Å, μ_B), or one for all of them; otherwise
        see `Survey.reasons`.
    ignore_below : float, optional
        Types whose moments are all below this, in μ_B, have no spin, and these moments
        are left out; otherwise `deepspin.spins.types.SMALL_MOMENT`.
    input : str, optional
        Input file of a training that says all of this, instead of the others.
    format, spin_key, force_mag_key : str, optional
        How to read what other programs wrote, see
        `deepspin.data.formats.table.Reading`.

    Raises
    ------
    DataError
        The data does not tell enough, or contradicts itself.
    InputError
        The options do not fit the data.
    """
    reading = Reading(format, spin_key, force_mag_key)
    paths = find_systems(systems, reading=reading)
    if input is not None:
        options = (type_map, use_spin, virtual_len, spin_norm, ignore_below)
        if any(option is not None for option in options):
            raise InputError(
                "-i already says types and spins. Leave out -t, --use-spin, "
                "--virtual-len, --spin-norm and --ignore-below, or -i."
            )
        return _from_input(paths, input)
    if ignore_below is not None and not 0 <= ignore_below < np.inf:
        raise InputError(
            f"--ignore-below must be 0 or more μ_B. Received: {ignore_below:g}"
        )
    below = SMALL_MOMENT if ignore_below is None else ignore_below
    known = _written(paths)
    if known is not None and type_map is None:
        names, reasons = known["type_map"], {"type_map": f"says {SCHEME}"}
    else:
        names, reasons = _names(paths, type_map)
    _check_names(known, names)
    known = known and _in_order(known, names)
    looks = [look for path in paths for look in [_look(path, names)] if look.layout]
    if known is not None and use_spin is None:
        magnetic = [n for n, on in zip(names, known["use_spin"], strict=True) if on]
        reasons["use_spin"] = f"says {SCHEME}"
    else:
        magnetic, reasons["use_spin"] = _magnetic(looks, names, use_spin, below)
    flags, doubts = [name in magnetic for name in names], _small_spins(looks, magnetic)
    lengths: dict[str, tuple[list[float], str]] = {}
    more: list[str] = []
    told = {key: known[key] for key in _OF_SPIN_TYPES if known and key in known}
    pairs = {"virtual_len": virtual_len, "spin_norm": spin_norm}
    given = {key: value for key, value in pairs.items() if value is not None}
    if told and not given:
        lengths = {key: (value, f"says {SCHEME}") for key, value in told.items()}
    else:
        both = {key: (told | given).get(key) for key in ("virtual_len", "spin_norm")}
        lengths, more = _lengths(looks, names, magnetic, **both)
        for key in set(told) & set(lengths) - set(given):
            lengths[key] = (lengths[key][0], f"says {SCHEME}")
    reasons |= {key: reason for key, (_, reason) in lengths.items()}
    section: dict[str, Any] = {"use_spin": flags}
    section |= {key: value for key, (value, _) in lengths.items()}
    if ignore_below is not None:
        section["ignore_below"] = ignore_below
        reasons["ignore_below"] = "given with --ignore-below"
    scheme = build_scheme(section)
    return Survey(paths, names, scheme, section, reasons, doubts + more)


def _from_input(paths: list[str], file: str) -> Survey:
    model = normalize(load_input(file))["model"]
    known = ("use_spin", *_OF_SPIN_TYPES, "ignore_below")
    section = {key: model["spin"][key] for key in known if key in model["spin"]}
    reasons = dict.fromkeys(["type_map", *section], f"says '{file}'")
    scheme = build_scheme(model["spin"])
    _check_names(_written(paths), model["type_map"])
    return Survey(paths, model["type_map"], scheme, section, reasons, [])


# --- Types ----------------------------------------------------------------------------


def _names(
    paths: list[str], given: Sequence[str] | None
) -> tuple[list[str], dict[str, str]]:
    """Names of the types of all systems, and where they come from."""
    if given is not None:
        if len(set(given)) < len(given):
            raise InputError(f"-t names a type twice. Received: {' '.join(given)}")
        return list(given), {"type_map": "given with -t"}
    names: list[str] = []
    unnamed, orders = [], set()
    for path in paths:
        own = " ".join(read_words(path, "type_map.raw") or []).split()
        names += [n for n in split_names(own)[0] if n not in names]
        unnamed += [] if own else [path]
        orders |= {tuple(split_names(own)[0])} if own else set()
    if not names:
        raise DataError(
            f"'{paths[0]}' has no type_map.raw, so its types have no names. Give the "
            "names of types 0, 1, ... with -t, without virtual atoms, such as -t Ni O."
        )
    if unnamed and len(orders) > 1:
        first, second = (" ".join(order) for order in sorted(orders)[:2])
        raise DataError(
            f"'{unnamed[0]}' has no type_map.raw, and those of other systems differ "
            f"({first}; {second}), so its types could be any. Add type_map.raw to it."
        )
    reason = "as in type_map.raw"
    if unnamed:
        reason += f"; {len(unnamed)} of {len(paths)} systems have none and are taken "
        reason += f"to number their types that way, '{unnamed[0]}' for one"
    return names, {"type_map": reason}


def _written(paths: list[str]) -> dict[str, Any] | None:
    """How `convert-data` placed the virtual atoms of these systems, if it did."""
    schemes = {path: read_scheme(path) for path in paths}
    found = {path: scheme for path, scheme in schemes.items() if scheme is not None}
    if not found:
        return None
    first = next(iter(found))
    for path, scheme in found.items():
        if scheme != found[first]:
            raise DataError(
                f"{SCHEME} of '{path}' and '{first}' differ: their virtual atoms do "
                "not mean the same. Convert each to spin files by itself."
            )
    return found[first]


def _in_order(known: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The same for types in the order of `names`, which may be more."""
    own = known["type_map"]
    magnetic = [n for n, on in zip(own, known["use_spin"], strict=True) if on]
    order = [magnetic.index(name) for name in names if name in magnetic]
    flags = [name in magnetic for name in names]
    values = {
        key: [known[key][k] for k in order] for key in _OF_SPIN_TYPES if key in known
    }
    return {**known, "type_map": names, "use_spin": flags, **values}


def _check_names(known: dict[str, Any] | None, type_map: list[str]) -> None:
    """Refuse names that lack some of those that virtual atoms were placed for."""
    missing = [n for n in (known or {"type_map": []})["type_map"] if n not in type_map]
    if missing:
        raise DataError(
            f"{SCHEME} names the types {' '.join((known or {})['type_map'])}, but "
            f"`type_map` has no {' '.join(missing)}. Received: {' '.join(type_map)}."
        )


@dataclass(frozen=True)
class _Look:
    """What one system tells: its layout, spins by type, owners of virtual atoms."""

    path: str
    layout: str  # empty if it has no spins
    spins: dict[str, Lengths]
    owners: list[str]


def _look(path: str, type_map: list[str]) -> _Look:
    head, sets = read_system(path)
    scheme = scheme_of(head.get(SCHEME), path)
    own = type_names(head.get("type_map.raw"), scheme, path) or type_map
    names, virtual = split_names(own)
    unknown = sorted(set(names) - set(type_map))
    if unknown:
        raise InputError(
            f"type_map.raw of '{path}' also has {' '.join(unknown)}. Give all types "
            f"with -t. Received: {' '.join(type_map)}"
        )
    natoms = np.size(head["type.raw"])
    arrays = [_only(part, "coord", "spin", "box", "real_atom_types") for part in sets]
    frames = concatenate(arrays, natoms, natoms, names_of(arrays))
    types = frames.get("real_atom_types")
    if types is None:
        types = np.ravel(numbers(head["type.raw"], f"'{path}/type.raw'"))[None]
    if "spin" in frames and types.max(initial=0) >= len(names):
        raise DataError(
            f"'{path}' has spin.npy, so its types are all real, but type "
            f"{types.max():g} is not among {' '.join(names)}, which are 0, 1, ... "
            "Name all types with -t or in type_map.raw."
        )
    if "spin" in frames:
        shape = (len(frames["spin"]), natoms)
        types = np.broadcast_to(types, shape)
        spin = frames["spin"].reshape(*shape, 3)
        lengths = {n: Lengths.of(spin[types == t]) for t, n in enumerate(names)}
        return _Look(path, "spin-files", lengths, [])
    if virtual:
        present = {own[int(t)] for t in np.unique(types) if 0 <= t < len(own)}
        owners = [owner for name, owner in virtual.items() if name in present]
    else:
        owners = list(_owners(path, types[0], frames, names))
    return _Look(path, "virtual-atom" if owners else "", {}, owners)


def _only(part: Set, *names: str) -> Set:
    return replace(part, arrays={n: a for n, a in part.arrays.items() if n in names})


def _owners(
    path: str, types: np.ndarray, frames: dict[str, np.ndarray], names: list[str]
) -> Iterator[str]:
    """Names of the types beside whose atoms the virtual atoms of a frame lie."""
    coord = frames["coord"][0].reshape(-1, 3)
    for virtual in np.unique(types[types >= len(names)]):
        points = coord[types == virtual]
        away = {}
        for t, name in enumerate(names):
            atoms = coord[types == t]
            if len(atoms) == len(points):
                way = points - atoms
                if "box" in frames:
                    way = shortest(way, frames["box"][0].reshape(3, 3))
                away[name] = np.linalg.norm(way, axis=1).max()
        nearest = min(away, key=lambda name: away[name], default="")
        if away.get(nearest, np.inf) > MAX_OFFSET:
            raise DataError(
                f"'{path}': type {virtual:g} is not among the types "
                f"{' '.join(names)}, and its {len(points)} atoms are no virtual atoms "
                f"either: no type has as many, each within {MAX_OFFSET} Å of its own "
                "in this order. Correct -t, type_map.raw or the order of atoms."
            )
        yield nearest


# --- Spins ----------------------------------------------------------------------------


def _magnetic(
    looks: list[_Look], names: list[str], given: Sequence[str] | None, below: float
) -> tuple[list[str], str]:
    """Names of the types with spin, in the order of `names`; `below` it is none."""
    if given is not None:
        if not set(given) <= set(names) or len(set(given)) < len(given):
            raise InputError(
                f"--use-spin must name some of {' '.join(names)}, none twice. "
                f"Received: {' '.join(given)}"
            )
        return [n for n in names if n in given], "given with --use-spin"
    found = {owner for look in looks for owner in look.owners}
    pools = {name: _pool(looks, name) for name in names}
    found |= {name for name, own in pools.items() if own.count and own.high >= below}
    small = {n: own.high for n, own in pools.items() if own.count and n not in found}
    least = ", ".join(f"up to {high:.3g} μ_B of {n}" for n, high in small.items())
    if not found:
        raise DataError(
            "no spins in this data: no spin.npy that is not 0, and no virtual atoms "
            "(types beyond type_map). Add them, or correct -t."
            if not small
            else f"no spins in this data but {least}, below {below:g} μ_B: what "
            "neighbours polarise. Lower --ignore-below if these are spins."
        )
    layouts = {look.layout for look in looks}
    how = ["have spins that are not 0"] * ("spin-files" in layouts)
    how += ["have virtual atoms beside them"] * ("virtual-atom" in layouts)
    reason = "atoms of these types " + " or ".join(how)
    if small:
        reason += f"; {least}, below {below:g} μ_B, are left out"
    return [n for n in names if n in found], reason


def _pool(looks: list[_Look], name: str) -> Lengths:
    return sum((look.spins.get(name, Lengths()) for look in looks), start=Lengths())


def _small_spins(looks: list[_Look], magnetic: list[str]) -> list[str]:
    """Types whose spins are much shorter than those of others."""
    pools = {name: _pool(looks, name) for name in magnetic}
    longest = max((own.mean for own in pools.values()), default=0.0)
    doubts = []
    for name, own in pools.items():
        if 0 < own.mean < SMALL_SHARE * longest:
            doubts.append(
                f"|spin| of {name} is {own.mean:.2g} μ_B on average, much less than "
                f"that of others. If {name} is only polarised by its neighbours, give "
                f"--ignore-below {1.1 * own.high:.2g}, which makes it a type without "
                "spin."
            )
    return doubts


def _lengths(
    looks: list[_Look],
    names: list[str],
    magnetic: list[str],
    virtual_len: Sequence[float] | None,
    spin_norm: Sequence[float] | None,
) -> tuple[dict[str, tuple[list[float], str]], list[str]]:
    """Options `virtual_len` and `spin_norm`, each with its reason, and doubts."""
    _check_layouts(looks, virtual_len, spin_norm)
    doubts: list[str] = []
    if virtual_len is None:
        lengths = _length(looks, names, magnetic)
    else:
        lengths = _given(virtual_len, magnetic, "--virtual-len")
    if spin_norm is None:
        values, reason, doubts = _norm(looks, magnetic)
        norms = values, reason
    else:
        norms = _given(spin_norm, magnetic, "--spin-norm")
    return {"virtual_len": lengths, "spin_norm": norms}, doubts


def _check_layouts(
    looks: list[_Look],
    virtual_len: Sequence[float] | None,
    spin_norm: Sequence[float] | None,
) -> None:
    """Refuse both layouts at once without what virtual atoms were placed with."""
    first = {look.layout: look.path for look in reversed(looks)}
    options = {"--virtual-len": virtual_len, "--spin-norm": spin_norm}
    missing = [option for option, value in options.items() if value is None]
    if len(first) == 2 and missing:
        raise DataError(
            f"'{first['spin-files']}' has spin.npy but '{first['virtual-atom']}' has "
            "virtual atoms, which say where they are, not how long the spins were. "
            f"Give {' and '.join(missing)} that they were placed with, such as "
            f"--virtual-len {DEFAULT_LEN} --spin-norm {DEFAULT_NORM}, or -i with the "
            "input, or one layout at a time."
        )


def _length(
    looks: list[_Look], names: list[str], magnetic: list[str]
) -> tuple[list[float], str]:
    """Option `virtual_len`, and where it comes from."""
    placed = [look.path for look in looks if look.layout == "virtual-atom"]
    if placed:
        return _offsets(placed, names, magnetic)
    reason = "DeePMD-kit's usual choice; virtual atoms stay near their own"
    return [DEFAULT_LEN] * len(magnetic), reason


def _norm(looks: list[_Look], magnetic: list[str]) -> tuple[list[float], str, list]:
    """Option `spin_norm`, where it comes from, and doubts."""
    if any(look.layout == "virtual-atom" for look in looks):
        doubt = (
            "spins are only known up to a factor: virtual atoms tell their direction, "
            f"and `spin_norm` {DEFAULT_NORM} μ_B (Ni in NiO) is assumed. It must be "
            "what the virtual atoms were placed with, and force_mag is per that unit: "
            "give it with --spin-norm."
        )
        norms = [DEFAULT_NORM] * len(magnetic)
        return norms, "assumed, the data does not tell", [doubt]
    pools = {name: _pool(looks, name) for name in magnetic}
    spread = ", ".join(
        f"{own.low:.4g} to {own.high:.4g} μ_B on {name}" for name, own in pools.items()
    )
    norms = [float(f"{own.mean:.5g}") or 1.0 for own in pools.values()]
    return norms, f"mean |spin| of the data, {spread}", []


def _given(
    values: Sequence[float], magnetic: list[str], option: str
) -> tuple[list[float], str]:
    """Numbers of an option, one for each type with spin."""
    values = list(values) * (len(magnetic) if len(values) == 1 else 1)
    if len(values) != len(magnetic) or not all(0 < v < np.inf for v in values):
        raise InputError(
            f"{option} must be one positive number for each type with spin "
            f"({' '.join(magnetic)}), or one for all. "
            f"Received: {' '.join(f'{v:g}' for v in values)}"
        )
    return values, f"given with {option}"


def _offsets(
    paths: list[str], names: list[str], magnetic: list[str]
) -> tuple[list[float], str]:
    """Distances in Å of virtual atoms from their owners, by type, and how found."""
    flags = [name in magnetic for name in names]
    unit = VirtualAtoms.from_options(flags, virtual_scale=[1.0] * len(magnetic))
    found = {name: Lengths() for name in magnetic}
    for path in paths:
        system = load_system(path, names, unit, allow_zero_spin=True)
        for name in magnetic:
            here = system.atype == names.index(name)
            found[name] += Lengths.of(system.spin[here])
    lengths = []
    for name, own in found.items():
        same = own.high - own.low <= 2 * LENGTH_TOLERANCE
        near = abs(own.mean - DEFAULT_LEN) < 0.1 * DEFAULT_LEN
        if own.count and not same and not near:
            raise DataError(
                f"virtual atoms of {name} are {own.low:.4g} to {own.high:.4g} Å away "
                "from their owners, so what they were placed with cannot be seen. "
                "Give --virtual-len and --spin-norm, or -i with the input."
            )
        lengths.append(round(own.mean, 5) if own.count and same else DEFAULT_LEN)
    spread = ", ".join(
        f"{own.low:.5g} to {own.high:.5g} Å on {name}" for name, own in found.items()
    )
    return lengths, f"distance of virtual atoms from their owners, {spread}"
