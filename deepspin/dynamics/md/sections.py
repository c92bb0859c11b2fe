# SPDX-License-Identifier: Apache-2.0
"""Checks of values, and the sections `structure` and `spins`, of inputs of dynamics.

Nothing here imports TensorFlow: a mistake in the input is answered at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from dargs import Argument
from dargs.dargs import ArgumentError

from deepspin.utils.arguments import FILE, optional, required
from deepspin.utils.refused import InputError, bad, explain

# largest distance of a wave vector times the supercell from an integer
COMMENSURATE = 1e-6


# --- Checks of single values: a test, and what the message expects --------------------


def finite_numbers(
    test: Callable[[float], bool], length: int | None = None
) -> Callable[[object], bool]:
    """Check a number, or each of a list of so many."""

    def check(value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        return len(values) == (length or len(values)) > 0 and all(
            type(x) in (int, float) and math.isfinite(x) and test(x) for x in values
        )

    return check


def is_ramp(value: object) -> bool:
    """Whether a value of an input is a list of lists: a quantity that changes."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def ramp_of(test: Callable[[float], bool], length: int) -> Callable[[object], bool]:
    """Check rows of a time and so many numbers each, the times increasing."""
    row = finite_numbers(lambda x: True, length + 1)

    def check(rows: Any) -> bool:
        if not is_ramp(rows) or not all(row(each) for each in rows):
            return False
        times = [each[0] for each in rows]
        grows = all(a < b for a, b in pairwise(times))
        return times[0] >= 0 and grows and all(test(x) for _, *y in rows for x in y)

    return check


def _is_direction(value: Any) -> bool:
    if isinstance(value, str):
        return value == "random"
    return finite_numbers(lambda x: True, 3)(value) and any(value)


POSITIVE = (finite_numbers(lambda x: x > 0), "a finite number > 0")
NOT_NEGATIVE = (finite_numbers(lambda x: x >= 0), "a finite number >= 0")
AT_LEAST_ONE = (finite_numbers(lambda x: x >= 1), "an integer >= 1")
INTEGER = (finite_numbers(lambda x: True), "an integer")
REPEAT = (finite_numbers(lambda x: x >= 1, 3), "3 integers >= 1")
ATOMS = (lambda x: not x or finite_numbers(lambda k: k >= 0)(x), "integers >= 0")
VECTOR = (finite_numbers(lambda x: True, 3), "3 finite numbers")
DIRECTION = (_is_direction, '3 finite numbers, not all 0, or "random"')
AXIS = (
    lambda x: not isinstance(x, str) and _is_direction(x),
    "3 finite numbers, not all 0",
)


# --- Sections -------------------------------------------------------------------------


def structure_args() -> Argument:
    """Make the section `structure`."""
    fields = [
        required("file", str, FILE)(
            "Atoms to begin with: a file that ASE reads, with spins as initial magnetic"
            " moments or in an array ``spin``; or a system of training data: a folder,"
            " or ``file.hdf5#/group``."
        ),
        optional("frame", int, -1, INTEGER)(
            "Frame of that file, counted from 0, or from the end if negative."
        ),
        optional("repeat", list[int], [1, 1, 1], REPEAT)(
            "Copies of the cell along its three vectors."
        ),
    ]
    return Argument("structure", dict, fields, doc="Atoms, cell and spins.")


def spins_args() -> Argument:
    """Make the list `spins`."""
    fields = [
        optional("type", [str, None], None)(
            "Type of the atoms that the rule is for; null for all types with spin."
        ),
        optional("atoms", [list[int], None], None, ATOMS)(
            "Atoms of that type that the rule is for, copies included, by their numbers"
            " in the file from 0; null for all."
        ),
        optional("modulus", [float, None], None, POSITIVE)(
            "Modulus of the spins in μ_B; null keeps that of the file."
        ),
        optional("direction", [list[float], str, None], None, DIRECTION)(
            "Direction of the spins, a vector of any length; ``random`` draws one for"
            " each spin and replica; null keeps those of the file."
        ),
        optional("wave_vector", [list[float], None], None, VECTOR)(
            "Wave vector q in the reciprocal vectors of the file's cell. Spins at R are"
            " reversed where cos(q·R) < 0: an antiferromagnet; with ``axis`` they are"
            " turned by q·R: a spiral. It must fit into the repeated cell."
        ),
        optional("axis", [list[float], None], None, AXIS)("Axis of a spiral."),
    ]
    return Argument(
        "spins",
        list,
        fields,
        repeat=True,
        optional=True,
        default=[],
        doc="Rules that change the spins of the file, one after the other.",
    )


# --- Checks of whole inputs -----------------------------------------------------------


def with_rules(arguments: Iterable[Argument], data: dict) -> dict:
    """Check an input that has rules `spins`, and fill in the defaults."""
    given = dict(data)
    rules = given.pop("spins", [])
    if not isinstance(rules, list) or not all(isinstance(r, dict) for r in rules):
        raise bad("spins", rules, "a list of objects, rules for the spins")
    data = complete(arguments, given)
    data["spins"] = []
    for number, rule in enumerate(rules):
        try:
            data["spins"].append(complete(spins_args().sub_fields.values(), rule))
        except InputError as error:
            raise InputError(f"`spins`, rule {number}: {error}") from error
    for number, rule in enumerate(data["spins"]):
        if rule["axis"] is not None and rule["wave_vector"] is None:
            raise InputError(
                f"`spins`, rule {number} has an `axis` without a `wave_vector`; give "
                "both, for a spiral."
            )
    return data


def complete(arguments: Iterable[Argument], data: dict) -> dict:
    """Check an object, fill in the defaults and leave comments out."""
    base = Argument("input", dict, list(arguments))
    try:
        data = base.normalize_value(data, trim_pattern="_*")
        base.check_value(data, strict=True)
    except ArgumentError as error:
        explain(error, base, data)
    return data


def waves_of_rules(data: dict) -> dict[str, list[float] | None]:
    """Wave vectors in `spins`, by their places."""
    return {
        f"spins/{number}/wave_vector": rule["wave_vector"]
        for number, rule in enumerate(data["spins"])
    }


def check_waves(
    waves: dict[str, list[float] | None], repeat: list[int], where: str
) -> None:
    """Refuse waves that do not fit into a cell repeated as the key `where` says."""
    for place, vector in waves.items():
        turns = [q * n for q, n in zip(vector or [0] * 3, repeat, strict=True)]
        if any(abs(x - round(x)) > COMMENSURATE for x in turns):
            raise bad(
                place,
                vector,
                f"a wave that fits into {' x '.join(map(str, repeat))} cells",
                f"Change it, or `{where}`",
            )
