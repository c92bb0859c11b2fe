# SPDX-License-Identifier: Apache-2.0
"""Systems, checked and brought into one internal form however spins were stored.

Frames and atoms are counted from 0 in every message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepspin import env
from deepspin.data import scratch
from deepspin.data.cells import heights, shortest
from deepspin.data.checks import (
    check_overlaps,
    check_spins,
    without_small_moments,
)
from deepspin.data.files import (
    LABELS,
    LARGEST,
    SCHEME,
    DataError,
    Foreign,
    InMemory,
    Set,
    concatenate,
    names_of,
    numbers,
    read_fparam,
    read_system,
)
from deepspin.data.frames import Places, System, frame_of, order_hint
from deepspin.data.moments import NAMES
from deepspin.data.notes import Notes
from deepspin.data.words import scheme_of, type_names
from deepspin.keys import ATOM_ENER_COEFF
from deepspin.spins.codec import MAX_STRETCH, VirtualAtomCodec
from deepspin.spins.schemes import Scheme
from deepspin.spins.types import split_names

# opposite faces of a cell closer than this (Å) make it tiny; above 2 MIN_DISTANCE
MIN_HEIGHT = 0.5
# and closer than this times the longest lattice vector, singular
FLAT = 1e-8
# ways to virtual atoms that differ by less than this share mean the same
SAME_SCALE = 0.01

_Table = dict[str, np.ndarray]
_UNKNOWN = -2  # a type of the file that the model does not have


def load_systems(
    paths: Sequence[str | InMemory],
    type_map: Sequence[str],
    spin: Scheme,
    allow_zero_spin: bool = False,
    numb_fparam: int | None = None,
) -> list[System]:
    """Read and check systems; what is odd in several of them is told once.

    Parameters
    ----------
    paths : sequence of str or InMemory
        Folders with ``type.raw``, ``file.hdf5#/group``, or systems in memory.
    type_map : sequence of str, length ntypes
        Names of the model's types.
    spin : Scheme
        The model's spin scheme.
    allow_zero_spin : bool, optional
        Accept zero spins on spin types (models with `env_protection` only).
    numb_fparam : int, optional
        Number of frame parameters to read, which every set then has to have. Without
        it, those that there are.

    Returns
    -------
    list of System
        The frames of all sets of each.

    Raises
    ------
    DataError
        If anything in the data cannot be right.
    """
    if len(type_map) != spin.ntypes:
        raise ValueError(
            f"`type_map` must name the {spin.ntypes} types of the spin scheme. "
            f"Received: {list(type_map)}"
        )
    systems: list[System | Callable] = []
    left = env.data_memory()
    with Notes() as notes, scratch.Scratch() as file:
        for path in paths:
            notes.nsystems += 1
            head, sets = read_system(path, min(left, scratch.PIECE))
            given = (path, head, sets, numb_fparam, (type_map, spin, allow_zero_spin))
            size = scratch.nbytes(sets)
            if size <= left:
                systems.append(_checked(*given, notes))
                left -= size
            else:
                systems.append(_put_away(*given, notes, file))
            if isinstance(path, Foreign):
                path.release()
        mapped = file.map()
    return [s if isinstance(s, System) else s(mapped) for s in systems]


def load_system(
    path: str | InMemory,
    type_map: Sequence[str],
    spin: Scheme,
    allow_zero_spin: bool = False,
    numb_fparam: int | None = None,
    notes: Notes | None = None,
) -> System:
    """Read and check one system, see `load_systems`; `notes` keeps what is odd."""
    if notes is None:
        return load_systems([path], type_map, spin, allow_zero_spin, numb_fparam)[0]
    notes.nsystems += 1
    head, sets = read_system(path)
    model = (type_map, spin, allow_zero_spin)
    system = _checked(path, head, sets, numb_fparam, model, notes)
    if isinstance(path, Foreign):
        path.release()
    return system


def _checked(
    path: str | InMemory,
    head: dict[str, Any],
    sets: list[Set],
    fparam: np.ndarray | int | None,
    model: tuple,
    notes: Notes,
    piece: _Piece | None = None,
) -> System:
    """Frames of a system that is read, converted and checked."""
    type_map, spin, allow_zero_spin = model
    head = {**head, SCHEME: scheme_of(head.get(SCHEME), str(path))}
    names: Sequence[str] = names_of(sets) if piece is None else piece.names
    layout = None if piece is None else piece.layout
    if piece is None:
        places = Places((part.place, part.nframes) for part in sets)
    else:
        places = piece.places
    frames = _read_frames(path, head, sets, (type_map, spin.codec), places, names)
    if not isinstance(fparam, np.ndarray):
        fparam = _frame_parameters(sets, fparam)
    given, source = (*frames, fparam), (places, head)
    system = _convert(path, type_map, spin, given, source, notes, layout, piece is None)
    system = without_small_moments(system, type_map, spin.types, notes)
    check_spins(system, type_map, spin, allow_zero_spin, notes)
    check_overlaps(system, spin)
    return system


@dataclass(frozen=True)
class _Piece:
    """What some frames of a system have to know of all of them.

    Parameters
    ----------
    places : Places
        Where they are.
    layout : str, optional
        How spins are stored, where types of single frames do not tell.
    names : sequence of str
        Arrays that there shall be.
    """

    places: Places
    layout: str | None
    names: Sequence[str]


def _put_away(
    path: str | InMemory,
    head: dict[str, Any],
    sets: list[Set],
    numb_fparam: int | None,
    model: tuple,
    notes: Notes,
    file: scratch.Scratch,
) -> Callable:
    """The same of a system that goes into a scratch file, piece by piece."""
    type_map, spin, _ = model
    rows = [(part.place, part.nframes) for part in sets]
    fparam, names = _frame_parameters(sets, numb_fparam), names_of(sets)
    layout = None
    if "real_atom_types" in names:
        codec, places = (type_map, spin.codec), Places(rows)
        read = {**head, SCHEME: scheme_of(head.get(SCHEME), str(path))}
        virtual = any(
            (types >= spin.ntypes).any()
            for _, part in scratch.pieces(sets)
            for types in _read_frames(path, read, [part], codec, places, names)[:1]
        )
        layout = "virtual-atom" if virtual else "spin-files"

    def parts() -> Iterator[System]:
        own = Notes()  # of all pieces, the worst of a kind
        for first, part in scratch.pieces(sets):
            piece = _Piece(Places.of(rows, first), layout, names)
            given = fparam[first : first + part.nframes]
            yield _checked(path, head, [part], given, model, own, piece)
        notes.take(own)

    width = np.size(head["type.raw"])
    return file.put(parts(), sum(part.nframes for part in sets), width)


# To the internal form -----------------------------------------------------------------


def _map_types(
    values: Any, names: list[str] | None, file: str, model: tuple, lowest: int
) -> np.ndarray:
    """Model's types, virtual ones included, from those of the file."""
    type_map, codec = model
    try:
        given = numbers(values, file)
    except DataError as error:
        raise DataError(f"{error} Names of types go into type_map.raw.") from error
    wrong = ~((given == np.round(given)) & (given >= lowest) & (given < 2**31))
    if wrong.any():
        raise DataError(
            f"{file}: types must be integers from {lowest} on. "
            f"Received: {given[wrong].flat[0]:g}"
        )
    given = given.astype(np.int64)
    table = codec.file_types(names, type_map, _UNKNOWN)
    if given.max(initial=-1) >= len(table):
        source = "no type_map.raw" if names is None else f"type_map.raw {names}"
        raise DataError(
            f"{file}: type {given.max()}, but with {source} and the model's `type_map` "
            f"{list(type_map)} only 0 to {len(table) - 1} mean anything (virtual types "
            "come last). Correct the types or type_map.raw."
        )
    types = np.array([*table, -1])[given]
    if (types == _UNKNOWN).any():
        unknown = sorted({(names or [])[t] for t in given[types == _UNKNOWN]})
        owners = split_names([*type_map, *unknown])[1]
        for name in (name for name in unknown if name in owners):
            raise DataError(
                f"{file}: virtual atoms {name}, which hold the spins of "
                f"{owners[name]}, but the model's `use_spin` gives it none. Correct "
                f"that, or leave this system out."
            )
        raise DataError(
            f"{file}: atoms of {unknown}, which are not in the model's `type_map` "
            f"{list(type_map)}. Add them there or leave this system out."
        )
    return types


def _frame_parameters(sets: Sequence[Set], number: int | None) -> np.ndarray:
    """Frame parameters (nf, number) of all sets; None for as many as there are."""
    given = [read_fparam(part) if number != 0 else None for part in sets]
    if not number and all(values is None for values in given):
        return np.zeros((sum(part.nframes for part in sets), 0))
    rows = []
    for part, values in zip(sets, given, strict=True):
        file, nframes = part.file("fparam"), part.nframes
        if values is None:
            why = f"the model takes {number} frame parameters (`numb_fparam`)"
            why = "other sets have it" if any(v is not None for v in given) else why
            raise DataError(f"{file} is missing: {why}. Add it or remove this set.")
        own = numbers(values, file)
        number = number or max(own.size // nframes, 1)
        fits = own.ndim <= 1 or len(own) == nframes
        if not fits or own.size != nframes * number:
            raise DataError(
                f"{file} must have {nframes} rows (frames of coord) of {number} "
                f"numbers (`numb_fparam`). Received: shape {own.shape}. Correct this "
                "file, or `numb_fparam`."
            )
        own = own.reshape(nframes, number)
        for frame, column in np.argwhere(~(np.abs(own) < LARGEST))[:1]:
            raise DataError(
                f"{file}: {own[frame, column]} in frame {frame}. Remove the frame."
            )
        rows.append(own)
    return np.concatenate(rows)


def _read_frames(
    path: str | InMemory,
    head: dict[str, Any],
    sets: list[Set],
    model: tuple,
    places: Places,
    wanted: Sequence[str],
) -> tuple[np.ndarray, _Table]:
    """Model's types (nf, natoms), virtual ones included, and arrays (nf, columns)."""
    names = type_names(head.get("type_map.raw"), head[SCHEME], str(path))
    listed = head["type.raw"]
    natoms = nreal = np.size(listed)
    mixed = any("real_atom_types" in part.arrays for part in sets)
    if not mixed:
        file = f"'{path}/type.raw'"
        types = _map_types(np.ravel(listed), names, file, model, 0)[None]
        nreal = np.count_nonzero(types < model[1].ntypes)
    frames = concatenate(sets, natoms, nreal, wanted)
    if mixed:
        given, file = frames.pop("real_atom_types"), f"real_atom_types of '{path}'"
        types = _map_types(given, names, file, model, -1)
    types = np.broadcast_to(types, (len(frames["coord"]), natoms))
    for frame in np.flatnonzero((types < 0).all(axis=1))[:1]:
        raise DataError(f"{frame_of(places, frame)} has no atoms. Remove it.")
    return types, frames


def _convert(
    path: str | InMemory,
    type_map: Sequence[str],
    spin: Scheme,
    given: tuple[np.ndarray, _Table, np.ndarray],
    source: tuple[Places, dict[str, Any]],
    notes: Notes,
    layout: str | None,
    whole: bool,
) -> System:
    """Bring frames into the internal form."""
    (types, frames, fparam), (places, head) = given, source
    codec, natoms = spin.codec, types.shape[1]
    layout = layout or _detect_layout(path, frames, types, codec)
    if layout == "virtual-atom":
        codec = _codec(path, head[SCHEME], types, type_map, spin)
    named = "type_map.raw" in head or head[SCHEME] is not None
    hint = "" if named else order_hint(type_map)
    real, virtual = _pair(types, layout == "virtual-atom", codec, places, hint)
    atype = np.where(real < 0, -1, np.take_along_axis(types, np.maximum(real, 0), 1))
    box = None if "nopbc" in head else _cells(path, frames, places, notes)
    coord = _gather(frames["coord"], real, natoms)
    if layout == "virtual-atom":
        shift = _gather(frames["coord"], virtual, natoms) - coord
        spins, magnetic = _spins(shift, atype, box, codec), virtual
        if "force" in frames:
            frames["force_mag"] = frames["force"]
    else:
        spins = frames.get("spin", np.zeros_like(frames["coord"]))
        spins = _gather(spins, real, natoms)
        magnetic = np.where(spin.types.is_magnetic(atype), real, -1)
    labels = _labels(str(path), frames, (real, magnetic), natoms, notes, whole)
    return System(
        path=path if isinstance(path, str) else str(path),
        atype=atype.astype(np.int32),
        coord=coord,
        spin=spins,
        box=np.zeros((len(types), 3, 3)) if box is None else box,
        pbc=box is not None,
        fparam=fparam,
        labels=labels,
        layout=layout,
        natoms_loss=np.count_nonzero(types >= 0, axis=1).astype(np.float64),
        index=real,
        sets=places,
        named=named,
    )


def _labels(
    path: str,
    frames: _Table,
    places: tuple[np.ndarray, np.ndarray],
    natoms: int,
    notes: Notes,
    whole: bool,
) -> _Table:
    """Labels of atoms and of spins at their places; NaN where missing.

    Of a `whole` system those that all frames lack are left out.
    """
    labels, (real, magnetic) = {}, places
    for key in (key for key in LABELS if key.name in frames):
        name, rows = key.name, frames[key.name]
        full = rows.shape[1] == natoms
        if "force" in name:
            index = magnetic if name == "force_mag" else real
            label = _gather(rows, index, natoms)
        elif name.startswith("atom_"):  # `full`: has a column for virtual atoms, too
            label = _gather(rows, real, natoms)[..., 0] if full else rows
        else:
            label = rows.reshape(len(rows), *key.shape[1:])
        missing = np.isnan(rows).all(axis=1)
        number = np.count_nonzero(missing)
        if number:
            label[missing] = np.nan  # on atoms without spin, too
            end = "these do not count in its loss"
            if key is ATOM_ENER_COEFF:
                end = "each is 1 there"
            notes.add(
                f"no {name}",
                f"'{name}' is missing in {number} of {len(rows)} frames of '{path}': "
                f"{end}.",
            )
        if number < len(rows) or not whole:
            labels[name] = label
    return labels


def _codec(
    path: str | InMemory,
    scheme: dict[str, Any] | None,
    types: np.ndarray,
    type_map: Sequence[str],
    spin: Scheme,
) -> VirtualAtomCodec:
    """How virtual atoms stand for spins: as their own file says, or as the model."""
    if scheme is None and spin.reads_virtual_atoms:
        return spin.codec
    if scheme is None:
        raise DataError(
            f"'{path}' holds spins as virtual atoms, and the scheme `{spin.name}` has "
            "no `virtual_len` to tell how far they stand for how long a spin. Put "
            f'{{"type_map": {json.dumps(list(type_map))}, "use_spin": [...], '
            f'"virtual_len": [...], "spin_norm": [...]}} into its {SCHEME}, or write '
            "it with spins by `dp-spin convert-data --layout spin-files`."
        )
    options = {key: value for key, value in scheme.items() if key != "type_map"}
    theirs = VirtualAtomCodec.from_options(**options)
    rows = zip(theirs.scale, theirs.virtual_len, strict=True)
    known = dict(zip(scheme["type_map"], rows, strict=True))
    scale, length = list(spin.codec.scale), list(spin.codec.virtual_len)
    for t in spin.types.spin_types:
        name, ours = type_map[t], scale[t]
        if not (types == t).any():
            continue
        if not known.get(name, (0.0, 0.0))[0]:
            raise DataError(
                f"{SCHEME} of '{path}' has no spins of {name}, which `use_spin` gives "
                "some. Correct one of the two."
            )
        scale[t], length[t] = known[name]
        if spin.reads_virtual_atoms and abs(scale[t] - ours) > SAME_SCALE * ours:
            raise DataError(
                f"{SCHEME} of '{path}' places virtual atoms of {name} at "
                f"{scale[t]:.6g} Å/μ_B, but `virtual_len` / `spin_norm` or "
                f"`virtual_scale` of the model is {ours:.6g} Å/μ_B. Correct the wrong "
                "one, or write the data with spins by `dp-spin convert-data --layout "
                "spin-files`, which every model reads."
            )
    return VirtualAtomCodec(spin.types, tuple(scale), tuple(length))


def _detect_layout(
    path: str | InMemory, frames: _Table, types: np.ndarray, codec: VirtualAtomCodec
) -> str:
    virtual = (types >= codec.ntypes).any()
    files = [name for name in ("spin", "force_mag") if name in frames]
    if virtual and files:
        raise DataError(
            f"'{path}' has virtual atoms in its types and also {' and '.join(files)}. "
            "Only one of the two can hold the spins: remove the other."
        )
    lacking = not virtual and "spin" not in frames
    if lacking and codec.types.is_magnetic(types).any():
        if isinstance(path, Foreign):
            raise DataError(
                f"'{path}', read as {path.kind}, has no spins: no column of a usual "
                f"name, such as {', '.join(NAMES)}. Add one, or name it with "
                "--spin-key."
            )
        raise DataError(
            f"'{path}' has no spins: no spin.npy, and no virtual atoms of type "
            f"{codec.ntypes} or higher in type.raw. Add one of the two, or leave this "
            "system out."
        )
    return "virtual-atom" if virtual else "spin-files"


def _pair(
    types: np.ndarray, virtual: bool, codec: VirtualAtomCodec, places: Places, hint: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places in the file of real atoms and of their virtual atoms, -1 for none.

    Both (nf, nloc), for types (nf, natoms) of the file. Frames of equal types (all,
    unless the types are mixed) are done at once.
    """
    if (types == types[0]).all():
        rows, inverse = types[:1], np.zeros(len(types), dtype=int)
    else:
        rows, inverse = np.unique(types, axis=0, return_inverse=True)
    inverse, pairs = inverse.ravel(), []
    for k, row in enumerate(rows):
        real = np.flatnonzero(row >= 0)
        try:
            pair = codec.pair(row) if virtual else (real, np.full(len(real), -1))
        except ValueError as error:
            counts = np.bincount(row[real])
            other = {*counts[: codec.ntypes]} & {*counts[codec.ntypes :]} - {0}
            raise DataError(
                f"{frame_of(places, int(np.argmax(inverse == k)))}: {error} (types of "
                "the model). Each atom of a spin type needs one virtual atom."
                f"{hint if other else ''}"
            ) from error
        pairs.append(pair)
    padded = np.full((2, len(rows), max(len(real) for real, _ in pairs)), -1)
    for k, pair in enumerate(pairs):
        padded[:, k, : len(pair[0])] = pair
    return padded[0, inverse], padded[1, inverse]


def _gather(rows: np.ndarray, index: np.ndarray, natoms: int) -> np.ndarray:
    """Values (nf, nloc, components) at the places `index`, 0 where that is -1."""
    atoms = rows.reshape(len(rows), natoms, -1)
    taken = np.take_along_axis(atoms, np.maximum(index, 0)[..., None], axis=1)
    return np.where(index[..., None] < 0, 0.0, taken)


def _cells(
    path: str | InMemory, frames: _Table, places: Places, notes: Notes
) -> np.ndarray | None:
    """Boxes (nf, 3, 3), None if there are none."""
    if "box" not in frames:
        notes.add(
            "box",
            f"'{path}' has no box, so it is taken as not periodic. An empty file "
            "`nopbc` there says so and ends this warning.",
        )
        return None
    box = frames["box"].reshape(-1, 3, 3)
    height = heights(box).min(axis=1)
    length = np.linalg.norm(box, axis=2).max(axis=1)
    for frame in np.flatnonzero(height < np.maximum(MIN_HEIGHT, FLAT * length))[:1]:
        small = height[frame] > FLAT * length[frame]
        raise DataError(
            f"{frame_of(places, frame)}: "
            f"{'tiny' if small else 'singular'} box {box[frame].ravel().tolist()}, "
            f"opposite faces are {height[frame]:.3g} Å apart. Rows must be lattice "
            "vectors in Å; without periodicity add an empty file `nopbc`."
        )
    return box


def _spins(
    shift: np.ndarray,
    atype: np.ndarray,
    box: np.ndarray | None,
    codec: VirtualAtomCodec,
) -> np.ndarray:
    """Spins from the way (nf, nloc, 3) to each virtual atom from its owner.

    One that was wrapped into the cell apart from its owner is brought back.
    """
    frame, atom = np.nonzero(codec.types.is_magnetic(atype))
    types, shift = atype[frame, atom], shift[frame, atom]  # (n,), (n, 3)
    if box is not None:
        reach = MAX_STRETCH * codec.nominal_of(types)
        reach = np.where(reach > 0, reach, heights(box).min(axis=1)[frame] / 2)
        far = np.flatnonzero(np.linalg.norm(shift, axis=1) > reach)
        shift[far] = shortest(shift[far][:, None], box[frame[far]])[:, 0]
    spins = np.zeros((*atype.shape, 3))
    spins[frame, atom] = codec.spins_from(np.zeros_like(shift), shift, types)
    return spins
