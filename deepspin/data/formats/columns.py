# SPDX-License-Identifier: Apache-2.0
"""Columns and numbers by their usual names, as the arrays of a frame.

What a file or ASE's atoms hold has names. Those of one quantity must agree; a column
that is named counts alone. Numbers are taken as they are: `deepspin.keys` has the units
and signs that they must have.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepspin.data import moments
from deepspin.data.files import DataError

log = logging.getLogger(__name__)

# usual names of each quantity, of atoms and of frames
NAMES = {
    "energy": ("energy",),
    "force": ("forces", "force"),
    "force_mag": (
        *("force_mag", "forces_mag", "magnetic_forces", "magnetic_force"),
        *("mag_forces", "mag_force", "mforce", "mforces", "magforce", "magforces"),
    ),
    "virial": ("virial",),
    "stress": ("stress",),
    "spin": moments.NAMES,
    "atom_ener": ("energies", "atom_ener"),
    "atom_ener_coeff": ("atom_ener_coeff",),
    "fparam": ("fparam",),
}
# labels as some data sets call them, which need not be those to learn
_USUAL = "|".join(name for names in NAMES.values() for name in names)
_PREFIXED = re.compile(rf"(?i:ref|dft|qm|vasp|abacus|true|target|label)_?({_USUAL})")
# numbers of a frame that are false if its electrons have not converged; `converged`
# alone may speak of a relaxation, as ours does
CONVERGED = ("scf_converged", "converged_electronic", "electronic_converged")
UNCONVERGED = "its electrons have not converged"
# how users say which column counts
WHICH = {
    "spin": "--spin-key, or `names={'spin': NAME}` in Python",
    "force_mag": "--force-mag-key, or `names={'force_mag': NAME}` in Python",
}
# of a virial and a stress that are the same, of the larger one, and in eV
AGREE = {"rtol": 1e-3, "atol": 1e-3}
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # xx, yy, zz, yz, xz, xy


def arrays_of(
    place: str,
    held: Iterable[Mapping[str, Any]],
    natoms: int,
    cell: np.ndarray | None,
    named: Mapping[str, str],
    notes: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Arrays of a frame, see `deepspin.data.formats.frame.Frame`.

    Parameters
    ----------
    place : str
        What messages call the frame.
    held : iterable of mapping
        What there is, by name; several of them for different kinds of things.
    natoms : int
        Number of atoms.
    cell : np.ndarray, shape (3, 3), or None
        Lattice vectors in Å, for the virial of a stress; None if not periodic.
    named : mapping of str to str
        Names that count alone, by what they hold, see `NAMES`.
    notes : dict
        For `tell`: ``"along z"``, the name of moments that are N numbers; ``"unread"``,
        what may be labels of other names.

    Raises
    ------
    DataError
        A column that is named is not there, two of one quantity differ, or one is of
        another shape.
    """
    held = list(held)
    if "unread" not in notes:  # of the first frame
        others = {str(name) for each in held for name in each} - {*named.values()}
        notes["unread"] = sorted(filter(_PREFIXED.fullmatch, others))
    found: dict[str, tuple[str, Any]] = {}
    for key, usual in NAMES.items():
        names = (named[key],) if key in named else usual
        if key == "spin":
            spins = _spins(place, held, natoms, names, notes)
            there = [] if spins is None else [(spins.name, spins.vectors)]
        else:
            there = list(_held(held, names))
        if there:
            found[key] = _one(place, key, there)
        elif key in named:
            known = sorted({str(name) for each in held for name in each})
            raise DataError(
                f"{place} has no '{named[key]}' to take as {key}. There are: "
                f"{', '.join(known) or 'none'}."
            )
    values = {key: value for key, (_, value) in found.items()}
    stress, virial = values.pop("stress", None), values.pop("virial", None)
    if stress is not None and cell is not None:
        volume = abs(np.linalg.det(cell))
        symmetric = -volume * _matrix(place, "stress", stress)
        virial = _virial(place, virial, symmetric)
    if virial is not None:
        values["virial"] = _matrix(place, "virial", virial)
    return {
        key: _shaped(place, key, found.get(key, (key,))[0], value, natoms)
        for key, value in values.items()
    }


def unconverged(info: Mapping[str, Any]) -> bool:
    """Whether a frame says that its electrons have not converged."""
    return any(info.get(name) in (False, 0) for name in CONVERGED if name in info)


def tell(path: object, notes: Mapping[str, Any]) -> None:
    """Say what `arrays_of` noticed about the frames of a file."""
    if "along z" in notes:
        log.warning(
            "'%s': %s are N numbers, not N x 3: along z", path, notes["along z"]
        )
    if unread := notes.get("unread"):
        log.warning(
            "'%s': %s are not read: labels have the names without what is before them",
            *(path, ", ".join(unread)),
        )


def _held(
    held: Iterable[Mapping[str, Any]], names: Iterable[str]
) -> Iterator[tuple[str, Any]]:
    """Values of these names, in this order."""
    for name in names:
        for each in held:
            if each.get(name) is not None:
                yield name, each[name]


def _spins(
    place: str,
    held: list[Mapping[str, Any]],
    natoms: int,
    names: Sequence[str],
    notes: dict[str, Any],
) -> moments.Moments | None:
    """Spins of a frame, if it has any."""
    advice = f"Remove one, or say which: {WHICH['spin']}"
    try:
        found = moments.find_moments(held, natoms, names, advice)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    if found is not None and found.along_z:
        notes["along z"] = found.name
    return found


def _one(place: str, key: str, found: list[tuple[str, Any]]) -> tuple[str, Any]:
    """The name and value that count; all must agree."""
    first, value = found[0]
    for name, other in found[1:]:
        if not np.array_equal(_squeezed(other), _squeezed(value)):
            which = WHICH.get(key, f"`names={{{key!r}: NAME}}` in Python")
            raise DataError(
                f"{place} has two kinds of {key}, which differ: {first} and {name}. "
                f"Remove one, or say which: {which}."
            )
    return first, value


def _squeezed(values: Any) -> np.ndarray:
    return np.ravel(np.asarray(values))


def _matrix(place: str, name: str, values: Any) -> np.ndarray:
    """A stress or virial (3, 3) from 3 x 3, 9, or Voigt's 6 numbers."""
    values = np.asarray(values, dtype=np.float64)
    if values.size not in (6, 9):
        raise DataError(
            f"{place}: {name} must be 3 x 3 or Voigt's 6 numbers. Received: shape "
            f"{values.shape}"
        )
    return values.ravel()[VOIGT] if values.size == 6 else values.reshape(3, 3)


def _virial(place: str, virial: Any, of_stress: np.ndarray) -> np.ndarray:
    """The virial, or what the stress says of it."""
    if virial is None:
        return of_stress
    own = _matrix(place, "virial", virial)
    atol = max(AGREE["atol"], AGREE["rtol"] * np.abs(own).max())
    if not np.allclose((own + own.T) / 2, of_stress, rtol=0.0, atol=atol):
        raise DataError(
            f"{place}: its virial is not minus its stress times the volume, "
            f"{own.ravel().tolist()} and {of_stress.ravel().tolist()} eV. Remove the "
            "one that is wrong."
        )
    return own


SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("force", "force_mag"), (-1, 3)),
    **dict.fromkeys(("atom_ener", "atom_ener_coeff"), (-1,)),
    "energy": (),
}


def _shaped(place: str, key: str, name: str, values: Any, natoms: int) -> np.ndarray:
    """Numbers of a quantity in its shape."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{place}: {name} does not hold numbers: {error}.") from error
    if key not in SHAPES:
        return array
    shape = tuple(natoms if n < 0 else n for n in SHAPES[key])
    if array.size != math.prod(shape):
        raise DataError(
            f"{place}: {name}, taken as {key}, must be of shape {shape}. Received: "
            f"shape {array.shape}"
        )
    return array.reshape(shape)


def periodic(place: str, pbc: Iterable[bool]) -> bool:
    """Whether a frame is periodic.

    Raises
    ------
    DataError
        It is so in some directions only.
    """
    directions = [bool(each) for each in pbc]
    if any(directions) and not all(directions):
        raise DataError(
            f"{place} is periodic in some directions only, pbc {directions}; "
            "a system is in all or in none. Set pbc to True, with a cell that leaves "
            "more than the cutoff empty where it is not."
        )
    return all(directions)
