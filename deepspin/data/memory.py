# SPDX-License-Identifier: Apache-2.0
"""Systems in memory: arrays, ASE's atoms, or a `tf.data.Dataset`, read as files are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.data.files import FIELDS, DataError, InMemory, Set
from deepspin.data.formats.atoms import frame_of_atoms
from deepspin.data.formats.columns import NAMES, tell

if TYPE_CHECKING:
    import tensorflow as tf
    from ase import Atoms

log = logging.getLogger(__name__)

# what a system in memory may hold beside the fields of files
ARRAYS = tuple(name for name in FIELDS if name != "real_atom_types")
KNOWN = ("atype", "type_map", *ARRAYS, "fparam")


def from_arrays(systems: Mapping[str, Any] | Iterable[Mapping]) -> list[InMemory]:
    """Systems from dicts of arrays, as the files of a system hold them.

    Parameters
    ----------
    systems : mapping of str to array, or several
        For each system ``coord`` (nf, nloc, 3) and ``box`` (nf, 3, 3), None or zeros
        without periodicity; ``atype`` (nloc,), types by name, or by number, which
        ``type_map`` names; and what there is of ``spin``, ``energy``, ``force``,
        ``force_mag``, ``virial``, ``atom_ener``, ``atom_ener_coeff`` and ``fparam``.
        Units and signs are those of `deepspin.keys`; rows may be flat as in files. With
        ``atype`` (nf, nloc) each frame has types of its own, -1 or an empty name for no
        atom. Virtual atoms may stand for spins, as in files.

    Raises
    ------
    DataError
        Names that are not known, and all that `deepspin.DataSystem` refuses.
    """
    if isinstance(systems, Mapping):
        return [_system("arrays", systems)]
    found = [_system(f"arrays[{k}]", given) for k, given in enumerate(systems)]
    return _some(found)


def from_ase(
    frames: Atoms | Iterable[Atoms],
    names: Mapping[str, str] | None = None,
) -> list[InMemory]:
    """Systems from ASE's atoms with spins, and their results as labels.

    Frames of the same elements in the same order are one system. Whatever is not there
    is no label; nothing is calculated, and forces are as they were before constraints.

    Results of the calculator come first, then `arrays` and `info` of the atoms:

    - ``energy`` in eV, and ``energies`` or ``atom_ener`` of each atom;
    - ``forces`` or ``force`` in eV/Å;
    - magnetic forces, -dE/dspin in eV/μ_B: ``force_mag``, ``magnetic_forces``,
      ``mag_forces``, ``mforce`` or ``magforce``, also with the last s, or none;
    - ``virial`` in eV, or -V ``stress``, which is symmetric, with ASE's sign, 1/V
      dE/dstrain in eV/Å³; if both are there they must agree;
    - spins in μ_B, N x 3 or N along z: ``spin``, ``spins``, ``magnetic_moments`` and
      ``initial_magmoms``, which must agree, as must ``magmoms`` of the calculator but
      for ``initial_magmoms``, before which they count;
    - ``fparam``, frame parameters.

    Parameters
    ----------
    frames : ase.Atoms, or several
        Periodic in all directions or in none.
    names : mapping of str to str, optional
        Where else the atoms hold something, such as ``{"force": "REF_forces"}``.

    Raises
    ------
    DataError
        With the frame: two arrays of one quantity that differ, results of a calculator
        that are those of other positions, periodicity in some directions, and all that
        `deepspin.DataSystem` refuses.
    ValueError
        `names` that are not known.
    """
    if names and not set(names) <= set(NAMES):
        raise ValueError(
            f"`names` can be of {list(NAMES)}. Received: {sorted(set(names))}"
        )
    if hasattr(frames, "get_positions"):
        frames = [frames]
    notes: dict[str, Any] = {}
    found = [
        _system(f"frames[{k}]", _of_atoms(f"frames[{k}]", a, names or {}, notes))
        for k, a in enumerate(frames)
    ]
    tell("frames", notes)
    return _grouped(found)


def from_dataset(data: tf.data.Dataset) -> list[InMemory]:
    """Systems from a `tf.data.Dataset` that ends.

    Parameters
    ----------
    data : tf.data.Dataset
        Of dicts, or of tuples of dicts, as `from_arrays` takes them: of one frame,
        without the dimension `nf`, or of several. Elements of the same atoms are one
        system.

    Raises
    ------
    DataError
        A data set without an end, of other elements, and all that
        `deepspin.DataSystem` refuses.
    """
    import tensorflow as tf

    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "The data set never ends, and all its frames are read. Give `data.take(n)`."
        )
    found = [
        _system(f"elements[{k}]", _of_element(f"elements[{k}]", element))
        for k, element in enumerate(data.as_numpy_iterator())
    ]
    return _grouped(found)


# -- one system ------------------------------------------------------------------------


def _system(place: str, given: Mapping[str, Any]) -> InMemory:
    """A system of one set, from arrays with the names of `KNOWN`."""
    if not isinstance(given, Mapping):
        raise DataError(
            f"{place} must be a dict of arrays. Received: {type(given).__name__}"
        )
    unknown = sorted(map(str, set(given) - set(KNOWN)))
    missing = [name for name in ("coord", "box", "atype") if name not in given]
    if unknown or missing:
        raise DataError(
            f"{place} has {'' if missing else 'arrays of unknown names: '}"
            f"{'no ' if missing else ''}{', '.join(missing or unknown)}. A system has "
            f"`coord`, `box` (None if not periodic), `atype`, and of {list(KNOWN)} "
            "what there is."
        )
    arrays = {
        name: given[name] if np.ndim(given[name]) else np.ravel(given[name])
        for name in ARRAYS
        if given.get(name) is not None
    }
    names = given.get("type_map")
    types, names = _types(place, given["atype"], names)
    head: dict[str, Any] = {"type.raw": types if types.ndim < 2 else types[0] * 0}
    if types.ndim >= 2:
        arrays["real_atom_types"] = types
    if names is not None:
        head["type_map.raw"] = names
    if "box" not in arrays or not np.any(arrays["box"]):
        arrays.pop("box", None)
        head["nopbc"] = []
    return InMemory(place, head, (Set(place, "", arrays, given.get("fparam")),))


def _types(
    place: str, given: Any, names: Sequence | None
) -> tuple[np.ndarray, list[str] | None]:
    """Numbers of types and what they mean, from numbers or names."""
    try:
        types = np.asarray(given)
        if np.ma.is_masked(given):
            raise ValueError("some of it is masked")
    except ValueError as error:
        raise DataError(f"'{place}/atype' is no array: {error}.") from error
    if types.ndim == 0 or types.size == 0:
        raise DataError(f"'{place}/atype' has no atoms. Leave this system out.")
    if types.dtype.kind not in "USO":
        return types, None if names is None else _words(np.ravel(names))
    if names is not None:
        raise DataError(
            f"{place} names its types in `atype`, so `type_map` has no use: it says "
            "what numbers mean. Leave it out."
        )
    words = np.array(_words(types.ravel()))
    there = words != ""
    found, number = np.unique(words[there], return_inverse=True)
    numbers = np.full(words.shape, -1)
    numbers[there] = number.ravel()
    return numbers.reshape(types.shape), found.tolist()


def _words(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _some(found: list[InMemory]) -> list[InMemory]:
    if not found:
        raise DataError("There is no frame. Give at least one.")
    return found


def _grouped(parts: Iterable[InMemory]) -> list[InMemory]:
    """Systems of the same atoms as one, each with a set of its own."""
    groups: dict[tuple, list[InMemory]] = {}
    for part in parts:
        names = part.head.get("type_map.raw")
        key = (
            tuple(np.ravel(part.head["type.raw"]).tolist()),
            None if names is None else tuple(names),
            "nopbc" in part.head,
            "real_atom_types" in part.sets[0].arrays,
        )
        groups.setdefault(key, []).append(part)
    return _some([_joined(group) for group in groups.values()])


def _joined(group: list[InMemory]) -> InMemory:
    first = group[0]
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    sets = tuple(own for part in group for own in part.sets)
    return InMemory(f"{first.name}{more}", first.head, sets)


# -- elements of a data set ------------------------------------------------------------


def _of_element(place: str, element: Any) -> dict[str, Any]:
    """Arrays of an element, with a dimension of frames."""
    parts = element if isinstance(element, tuple) else (element,)
    if not all(isinstance(part, Mapping) for part in parts):
        raise DataError(
            f"{place} must be a dict of arrays, or a tuple of dicts. Received: "
            f"{', '.join(type(part).__name__ for part in parts)}"
        )
    given = {name: values for part in parts for name, values in part.items()}
    if "coord" not in given or np.shape(given["coord"])[1:] != (3,):
        return given
    head = ("atype", "type_map")
    return {k: v if k in head else np.asarray(v)[None] for k, v in given.items()}


# -- ASE -------------------------------------------------------------------------------


def _of_atoms(
    place: str,
    atoms: Atoms,
    names: Mapping[str, str],
    notes: dict[str, Any],
) -> dict[str, Any]:
    """Arrays of one frame."""
    frame = frame_of_atoms(place, atoms, names, notes)
    rows = {key: value[None] for key, value in frame.arrays.items()}
    return {
        "atype": list(frame.symbols),
        "coord": frame.coord[None],
        "box": None if frame.cell is None else frame.cell[None],
        **rows,
    }
