# SPDX-License-Identifier: Apache-2.0
"""Frames of a file as one system, those that are left out told of; and back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from deepspin.data.files import FIELDS, DataError, InMemory, Set
from deepspin.data.formats.frame import Dropped, Frame

log = logging.getLogger(__name__)

# arrays of a frame; -1 is the number of atoms
FRAME_SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("spin", "force", "force_mag"), (-1, 3)),
    **dict.fromkeys(("atom_ener", "atom_ener_coeff"), (-1,)),
    "energy": (),
    "virial": (3, 3),
}


def stack(name: str, found: Iterable[Frame | Dropped]) -> InMemory:
    """One system of all frames; of mixed types if their atoms differ.

    Parameters
    ----------
    name : str
        What the system is called in messages.
    found : iterable of Frame or Dropped
        What a reader gives. Those that are left out are told once, with counts, and so
        are frames that hold a number that is not finite.

    Returns
    -------
    InMemory
        The system. A label that some frames have and others have not is NaN there.

    Raises
    ------
    DataError
        No frame is left, some have a cell or spins and others not, or frame parameters
        differ in number.
    """
    frames: list[Frame] = []
    dropped: Counter[str] = Counter()
    total = 0
    for each in found:
        total += 1
        if isinstance(each, Dropped):
            dropped[each.reason] += 1
        elif strange := _not_finite(each):
            dropped[f"{strange} not finite"] += 1
        else:
            frames.append(each)
    reasons = "; ".join(f"{n}: {reason}" for reason, n in dropped.items())
    if not frames:
        why = f" All {total} are left out: {reasons}." if total else ""
        raise DataError(f"'{name}' has no frame to read.{why} Leave it out.")
    if dropped:
        log.warning(
            "%d of %d frames of '%s' are left out (those that are read count on from "
            "0): %s",
            *(sum(dropped.values()), total, name, reasons),
        )
    _check(name, frames, "cell", [frame.cell is not None for frame in frames])
    _check(name, frames, "spins", ["spin" in frame.arrays for frame in frames])
    names = sorted({symbol for frame in frames for symbol in frame.symbols})
    number = {symbol: k for k, symbol in enumerate(names)}
    head: dict[str, object] = {"type_map.raw": names}
    if all(symbol.isdecimal() for symbol in names):  # of types without names, from 1
        number, head = {symbol: int(symbol) - 1 for symbol in names}, {}
    natoms = max(len(frame.symbols) for frame in frames)
    arrays: dict[str, np.ndarray] = {}
    if any(frame.symbols != frames[0].symbols for frame in frames):
        types = np.full((len(frames), natoms), -1, dtype=np.int32)
        for row, frame in zip(types, frames, strict=True):
            row[: len(frame.symbols)] = [number[symbol] for symbol in frame.symbols]
        head["type.raw"] = np.zeros(natoms, dtype=int)
        arrays["real_atom_types"] = types
    else:
        head["type.raw"] = np.array([number[symbol] for symbol in frames[0].symbols])
    arrays["coord"] = _rows([frame.coord for frame in frames], (natoms, 3))
    if frames[0].cell is None:
        head["nopbc"] = []
    else:
        arrays["box"] = np.array([frame.cell for frame in frames], dtype=np.float64)
    fparam = None
    for key in dict.fromkeys(key for frame in frames for key in frame.arrays):
        values = [frame.arrays.get(key) for frame in frames]
        if key == "fparam":
            fparam = _parameters(name, values)
            continue
        shape = FIELDS[key].shape[1:]
        size = tuple(natoms if n == "nloc" else int(n) for n in shape)
        arrays[key] = _rows(values, size)
    flat = {
        key: values.reshape(len(values), -1) if values.ndim > 1 else values
        for key, values in arrays.items()
    }
    return InMemory(name, head, (Set(name, "", flat, fparam),))


def unstack(
    name: str,
    types: np.ndarray,
    type_map: Sequence[str],
    sets: Iterable[Mapping[str, np.ndarray]],
    periodic: bool,
) -> Iterator[Frame]:
    """Frames of a system with spin files.

    Parameters
    ----------
    name : str
        What messages call it.
    types : np.ndarray of int, shape (natoms,)
        Type of each atom; of mixed types it is `real_atom_types` of a set that counts.
    type_map : sequence of str
        Names of the types.
    sets : iterable of mapping
        Arrays of each set by the names of `deepspin.data.files.FIELDS`, and fparam.
    periodic : bool
        Whether there are cells.

    Yields
    ------
    Frame
        Each frame, without the labels that are NaN in it.
    """
    number = 0
    for given in sets:
        nframes = len(np.reshape(given["coord"], (-1, 3 * len(types))))
        own = np.broadcast_to(types, (nframes, len(types)))
        if "real_atom_types" in given:
            own = np.reshape(given["real_atom_types"], own.shape).astype(int)
        rows = {key: np.reshape(values, (nframes, -1)) for key, values in given.items()}
        for k, row in enumerate(own):
            here = row >= 0
            arrays = {}
            for key in (key for key in (*FRAME_SHAPES, "fparam") if key in rows):
                values = rows[key][k]
                shape = FRAME_SHAPES.get(key, values.shape)
                if shape[:1] == (-1,):
                    values = values.reshape(len(types), *shape[1:])[here]
                if not np.isnan(values).all():
                    arrays[key] = values.reshape(shape)
            yield Frame(
                f"frame {number} of '{name}'",
                tuple(type_map[t] for t in row[here]),
                rows["coord"][k].reshape(-1, 3)[here],
                rows["box"][k].reshape(3, 3) if periodic else None,
                arrays,
            )
            number += 1


def _not_finite(frame: Frame) -> str:
    """What of a frame is not finite, empty if all is."""
    own = {"coord": frame.coord, "cell": frame.cell, **frame.arrays}
    return next(
        (f"{k} is" for k, v in own.items() if v is not None and not _finite(v)), ""
    )


def _finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _check(name: str, frames: list[Frame], what: str, there: list[bool]) -> None:
    """Refuse what some frames have and others have not."""
    if any(there) and not all(there):
        one, other = frames[there.index(True)].place, frames[there.index(False)].place
        raise DataError(
            f"'{name}': {one} has {what}, {other} has not. Put the two kinds into "
            "files of their own, or give all frames the same."
        )


def _rows(values: list, size: tuple[int, ...]) -> np.ndarray:
    """Arrays of all frames (nf, ...), zeros for no atom, NaN for no label."""
    if all(v is not None and np.shape(v) == size for v in values):
        return np.array(values, dtype=np.float64)
    rows = np.zeros((len(values), *size))
    for k, value in enumerate(values):
        if value is None or not size:
            rows[k] = np.nan if value is None else value
        else:
            rows[k, : len(value)] = value
    return rows


def _parameters(name: str, values: list) -> np.ndarray:
    sizes = {0 if value is None else np.size(value) for value in values}
    if len(sizes) > 1:
        raise DataError(
            f"'{name}': frames have {sorted(sizes)} frame parameters (fparam). Give "
            "all of them the same number."
        )
    return np.array([np.ravel(value) for value in values], dtype=np.float64)
