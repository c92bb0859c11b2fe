# SPDX-License-Identifier: Apache-2.0
"""Systems, checked and brought into one internal form however spins were stored.

Frames and atoms are counted from 0 in every message.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from deepspin.data.files import (
    LABELS,
    LARGEST,
    DataError,
    Set,
    concatenate,
    numbers,
    read_fparam,
    read_system,
)
from deepspin.spins.virtual import LENGTH_TOLERANCE, MAX_STRETCH, VirtualAtoms

log = logging.getLogger(__name__)

# real atoms closer than this (Å) are on top of each other
MIN_DISTANCE = 0.1
# virtual atoms closer than this (Å) to any atom but their owner coincide with it
MIN_VIRTUAL_DISTANCE = 1e-3
# spins shorter than this (μ_B) are zero
ZERO_SPIN = 1e-8
# opposite faces of a cell closer than this (Å) make it tiny; above 2 MIN_DISTANCE
MIN_HEIGHT = 0.5
# and closer than this times the longest lattice vector, singular
FLAT = 1e-8

_Places = tuple[tuple[str, int], ...]  # path and number of frames of each set
_Table = dict[str, np.ndarray]
_Notes = dict[str, str]  # what is odd about a system, by kind
_UNKNOWN = -2  # a type of the file that the model does not have


@dataclass(frozen=True)
class System:
    """Frames of one system, float64 in the shapes and units of `deepspin.keys`.

    Parameters
    ----------
    path : str
        Folder, or ``file.hdf5#/group``.
    atype : np.ndarray of int32, shape (nf, nloc)
        Types of the real atoms in file order, -1 (at the end of a frame) for no atom.
    coord, spin : np.ndarray, shape (nf, nloc, 3)
        Positions and spins; spins are exactly 0 on types without spin.
    box : np.ndarray, shape (nf, 3, 3)
        Cells, zeros if not periodic.
    pbc : bool
        Whether the system is periodic.
    fparam : np.ndarray, shape (nf, numb_fparam)
        Frame parameters; numb_fparam is 0 where none are read.
    labels : dict of str to np.ndarray
        Those of energy, force, force_mag, virial, atom_ener and atom_ener_coeff that
        the data has; force_mag is exactly 0 on types without spin.
    layout : {"virtual-atom", "spin-files"}
        How the spins were stored.
    natoms_loss : np.ndarray, shape (nf,)
        Atoms that the loss divides by: those of the file, virtual ones included.
    index : np.ndarray of int, shape (nf, nloc)
        Place of each atom among those of the file, -1 for no atom.
    sets : tuple of (str, int)
        Path and number of frames of each set.
    named : bool
        Whether the data name their types (``type_map.raw``). Otherwise their numbers
        are taken as those of the model.
    """

    path: str
    atype: np.ndarray
    coord: np.ndarray
    spin: np.ndarray
    box: np.ndarray
    pbc: bool
    fparam: np.ndarray
    labels: dict[str, np.ndarray]
    layout: str
    natoms_loss: np.ndarray
    index: np.ndarray
    sets: tuple[tuple[str, int], ...]
    named: bool

    @property
    def nframes(self) -> int:
        """Number of frames."""
        return self.atype.shape[0]

    @property
    def nloc(self) -> int:
        """Number of real atoms of the largest frame."""
        return self.atype.shape[1]

    def where(self, frame: int, atom: int | None = None) -> str:
        """Name a frame, or an atom of it, by its place on disk."""
        inside = _frame_of(self.sets, frame)
        return inside if atom is None else f"atom {self.index[frame, atom]}, {inside}"


def load_systems(
    paths: Sequence[str],
    type_map: Sequence[str],
    spin: VirtualAtoms,
    allow_zero_spin: bool = False,
    numb_fparam: int | None = None,
) -> list[System]:
    """Read and check systems; what is odd in several of them is told once.

    Parameters
    ----------
    paths : sequence of str
        Folders with ``type.raw``, or ``file.hdf5#/group``.
    type_map : sequence of str, length ntypes
        Names of the model's types.
    spin : VirtualAtoms
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
    systems: list[System] = []
    notes: dict[str, list[str]] = {}
    for path in paths:
        found: _Notes = {}
        system = _convert(path, type_map, spin, numb_fparam, found)
        _check_spins(system, type_map, spin, allow_zero_spin, found)
        _check_overlaps(system, spin)
        systems.append(system)
        for kind, text in found.items():
            notes.setdefault(kind, []).append(text)
    for first, *others in notes.values():
        more = f" The same in {len(others)} more of {len(paths)} systems."
        log.warning("%s%s", first, more if others else "")
    return systems


def load_system(
    path: str,
    type_map: Sequence[str],
    spin: VirtualAtoms,
    allow_zero_spin: bool = False,
    numb_fparam: int | None = None,
) -> System:
    """Read and check one system, see `load_systems`."""
    return load_systems([path], type_map, spin, allow_zero_spin, numb_fparam)[0]


# To the internal form -----------------------------------------------------------------


def _frame_of(places: _Places, frame: int) -> str:
    """Name a frame by its set and its number there."""
    ends = np.cumsum([nframes for _, nframes in places])
    number = int(np.searchsorted(ends, frame, side="right"))
    return f"frame {frame - ends[number] + places[number][1]} of '{places[number][0]}'"


def _map_types(
    values: Any, names: list[str] | None, file: str, model: tuple, lowest: int
) -> np.ndarray:
    """Model's types, virtual ones included, from those of the file."""
    type_map, spin = model
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
    table = list(range(spin.ntypes + len(spin.spin_types)))
    if names is not None:
        virtual = spin.virtual_type(np.arange(spin.ntypes))
        known = {f"{type_map[t]}_spin": virtual[t] for t in spin.spin_types}
        known |= {name: t for t, name in enumerate(type_map)}
        table = [known.get(name, _UNKNOWN) for name in names]
        if max(table, default=-1) < spin.ntypes:  # virtual types follow, unnamed
            table += [virtual[t] for t in table if t in spin.spin_types]
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
    path: str, model: tuple, numb_fparam: int | None
) -> tuple[np.ndarray, _Table, _Places, _Table]:
    """Model's types (nf, natoms), arrays (nf, columns), sets, and `type_map.raw`..."""
    head, sets = read_system(path)
    names, listed = head.get("type_map.raw"), head["type.raw"]
    natoms = nreal = np.size(listed)
    mixed = any("real_atom_types" in part.arrays for part in sets)
    if not mixed:
        file = f"'{path}/type.raw'"
        types = _map_types(np.ravel(listed), names, file, model, 0)[None]
        nreal = np.count_nonzero(types < model[1].ntypes)
    frames = concatenate(sets, natoms, nreal)
    frames["fparam"] = _frame_parameters(sets, numb_fparam)
    places = tuple((part.place, part.nframes) for part in sets)
    if mixed:
        given, file = frames.pop("real_atom_types"), f"real_atom_types of '{path}'"
        types = _map_types(given, names, file, model, -1)
    types = np.broadcast_to(types, (len(frames["coord"]), natoms))
    for frame in np.flatnonzero((types < 0).all(axis=1))[:1]:
        raise DataError(f"{_frame_of(places, frame)} has no atoms. Remove it.")
    return types, frames, places, head


def _convert(
    path: str,
    type_map: Sequence[str],
    spin: VirtualAtoms,
    numb_fparam: int | None,
    notes: _Notes,
) -> System:
    """Read a system and bring it into the internal form."""
    types, frames, places, head = _read_frames(path, (type_map, spin), numb_fparam)
    natoms, layout = types.shape[1], _detect_layout(path, frames, types, spin)
    named = "type_map.raw" in head
    hint = "" if named else _order(type_map)
    real, virtual = _pair(types, layout == "virtual-atom", spin, places, hint)
    atype = np.where(real < 0, -1, np.take_along_axis(types, np.maximum(real, 0), 1))
    box = None if "nopbc" in head else _cells(path, frames, places, notes)
    coord = _gather(frames["coord"], real, natoms)
    if layout == "virtual-atom":
        shift = _gather(frames["coord"], virtual, natoms) - coord
        spins, magnetic = _spins(shift, atype, box, spin), virtual
        if "force" in frames:
            frames["force_mag"] = frames["force"]
    else:
        spins = frames.get("spin", np.zeros_like(frames["coord"]))
        spins = _gather(spins, real, natoms)
        magnetic = np.where(spin.is_magnetic(atype), real, -1)
    labels = {}
    for key in (key for key in LABELS if key.name in frames):
        name, rows = key.name, frames[key.name]
        whole = rows.shape[1] == natoms
        if "force" in name:
            index = magnetic if name == "force_mag" else real
            labels[name] = _gather(rows, index, natoms)
        elif name.startswith("atom_"):  # `whole`: has a column for virtual atoms, too
            labels[name] = _gather(rows, real, natoms)[..., 0] if whole else rows
        else:
            labels[name] = rows.reshape(len(rows), *key.shape[1:])
    return System(
        path=str(path),
        atype=atype.astype(np.int32),
        coord=coord,
        spin=spins,
        box=np.zeros((len(types), 3, 3)) if box is None else box,
        pbc=box is not None,
        fparam=frames["fparam"],
        labels=labels,
        layout=layout,
        natoms_loss=np.count_nonzero(types >= 0, axis=1).astype(np.float64),
        index=real,
        sets=places,
        named=named,
    )


def _order(type_map: Sequence[str]) -> str:
    """Tell what the numbers in type.raw mean where nothing names them."""
    meant = ", ".join(f"{t} is {name}" for t, name in enumerate(type_map))
    return (
        f" Without type_map.raw, type {meant}, in the order of the model's `type_map`: "
        "if the data have another order, write type_map.raw."
    )


def _detect_layout(
    path: str, frames: _Table, types: np.ndarray, spin: VirtualAtoms
) -> str:
    virtual = (types >= spin.ntypes).any()
    files = [name for name in ("spin", "force_mag") if name in frames]
    if virtual and files:
        raise DataError(
            f"'{path}' has virtual atoms in its types and also {' and '.join(files)}. "
            "Only one of the two can hold the spins: remove the other."
        )
    if not virtual and "spin" not in frames and spin.is_magnetic(types).any():
        raise DataError(
            f"'{path}' has no spins: no spin.npy, and no virtual atoms of type "
            f"{spin.ntypes} or higher in type.raw. Add one of the two, or leave this "
            "system out."
        )
    return "virtual-atom" if virtual else "spin-files"


def _pair(
    types: np.ndarray, virtual: bool, spin: VirtualAtoms, places: _Places, hint: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places in the file of real atoms and of their virtual atoms, -1 for none.

    Both (nf, nloc), for types (nf, natoms) of the file. Frames of equal types (all,
    unless the types are mixed) are done at once.
    """
    rows, inverse = np.unique(types, axis=0, return_inverse=True)
    inverse, pairs = inverse.ravel(), []
    for k, row in enumerate(rows):
        real = np.flatnonzero(row >= 0)
        try:
            pair = spin.pair(row) if virtual else (real, np.full(len(real), -1))
        except ValueError as error:
            counts = np.bincount(row[real])
            other = {*counts[: spin.ntypes]} & {*counts[spin.ntypes :]} - {0}
            raise DataError(
                f"{_frame_of(places, int(np.argmax(inverse == k)))}: {error} (types of "
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
    path: str, frames: _Table, places: _Places, notes: _Notes
) -> np.ndarray | None:
    """Boxes (nf, 3, 3), None if there are none."""
    if "box" not in frames:
        notes["box"] = (
            f"'{path}' has no box, so it is taken as not periodic. An empty file "
            "`nopbc` there says so and ends this warning."
        )
        return None
    box = frames["box"].reshape(-1, 3, 3)
    height = _heights(box).min(axis=1)
    length = np.linalg.norm(box, axis=2).max(axis=1)
    for frame in np.flatnonzero(height < np.maximum(MIN_HEIGHT, FLAT * length))[:1]:
        small = height[frame] > FLAT * length[frame]
        raise DataError(
            f"{_frame_of(places, frame)}: "
            f"{'tiny' if small else 'singular'} box {box[frame].ravel().tolist()}, "
            f"opposite faces are {height[frame]:.3g} Å apart. Rows must be lattice "
            "vectors in Å; without periodicity add an empty file `nopbc`."
        )
    return box


def _heights(box: np.ndarray) -> np.ndarray:
    """Distances in Å of opposite faces of cells, shape (nf, 3); 0 if singular."""
    normal = np.cross(np.roll(box, -1, axis=1), np.roll(box, -2, axis=1))
    area = np.linalg.norm(normal, axis=-1)
    volume = np.abs(np.einsum("fk,fk->f", box[:, 0], normal[:, 0]))
    return volume[:, None] / np.where(area > 0, area, np.inf)


def _spins(
    shift: np.ndarray, atype: np.ndarray, box: np.ndarray | None, spin: VirtualAtoms
) -> np.ndarray:
    """Spins from the way (nf, nloc, 3) to each virtual atom from its owner.

    One that was wrapped into the cell apart from its owner is brought back.
    """
    frame, atom = np.nonzero(spin.is_magnetic(atype))
    types, shift = atype[frame, atom], shift[frame, atom]  # (n,), (n, 3)
    if box is not None:
        reach = MAX_STRETCH * np.array(spin.virtual_len)[types]
        reach = np.where(reach > 0, reach, _heights(box).min(axis=1)[frame] / 2)
        far = np.flatnonzero(np.linalg.norm(shift, axis=1) > reach)
        cell = box[frame[far]]
        turns = np.round(np.einsum("na,nab->nb", shift[far], np.linalg.inv(cell)))
        turns = turns[:, None] + np.array(list(product((-1, 0, 1), repeat=3)))
        images = shift[far][:, None] - turns @ cell  # (n far, 27, 3)
        nearest = np.linalg.norm(images, axis=-1).argmin(axis=1)
        shift[far] = images[np.arange(len(far)), nearest]
    spins = np.zeros((*atype.shape, 3))
    spins[frame, atom] = spin.spins_from(np.zeros_like(shift), shift, types)
    return spins


# Checks of the internal form ----------------------------------------------------------


def _check_spins(
    system: System,
    type_map: Sequence[str],
    spin: VirtualAtoms,
    allow_zero_spin: bool,
    notes: _Notes,
) -> None:
    magnetic = spin.is_magnetic(system.atype)
    length = np.linalg.norm(system.spin, axis=-1)
    zero = magnetic & (length < ZERO_SPIN) & (not allow_zero_spin)
    swapped = not system.named and not (length * magnetic > 0).any()
    for frame, atom in np.argwhere(zero | (~magnetic & (length > 0)))[:1]:
        name = type_map[system.atype[frame, atom]]
        found = f"{system.where(frame, atom)}: |spin| = {length[frame, atom]:.3g}"
        if not zero[frame, atom]:
            raise DataError(
                f"{found} but type '{name}' is no spin type. Set `use_spin` to true "
                f"for '{name}' or the spins of its atoms to 0."
                f"{_order(type_map) if swapped else ''}"
            )
        raise DataError(
            f"{found} but type '{name}' is a spin type; its virtual atom would "
            "coincide with it. Remove the frame, set `use_spin` to false for "
            f"'{name}', or set a non-zero `env_protection`."
        )
    distance = length * spin.scale_of(system.atype)
    if system.layout == "virtual-atom":
        _check_distances(system, distance, type_map, spin, notes)
        return
    nominal = np.array([*spin.virtual_len, 0.0])[system.atype]
    far = magnetic & (nominal > 0) & (distance > MAX_STRETCH * nominal)
    for frame, atom in np.argwhere(far)[:1]:
        notes["spin"] = (
            f"{system.where(frame, atom)}: |spin| = {length[frame, atom]:.3g} μ_B is "
            f"more than {MAX_STRETCH:g} times `spin_norm`; are the spins in μ_B?"
        )


def _check_distances(
    system: System,
    distance: np.ndarray,
    type_map: Sequence[str],
    spin: VirtualAtoms,
    notes: _Notes,
) -> None:
    """Compare how far (Å) virtual atoms are from their owners with `virtual_len`."""
    nominal = np.array([*spin.virtual_len, 0.0])[system.atype]
    known = nominal > 0  # not if the model was given `virtual_scale`
    for frame, atom in np.argwhere(known & (distance > MAX_STRETCH * nominal))[:1]:
        counts = np.bincount(system.atype[frame][system.atype[frame] >= 0])
        alike = counts == counts[system.atype[frame, atom]]
        swapped = not system.named and np.count_nonzero(alike) > 1
        raise DataError(
            f"{system.where(frame, atom)}: its virtual atom is "
            f"{distance[frame, atom]:.3g} Å away, but `virtual_len` is "
            f"{nominal[frame, atom]:g}. Virtual atoms must come in the order of their "
            "owners: correct that order, box or `virtual_len`."
            f"{_order(type_map) if swapped else ''}"
        )
    other = known & (np.abs(distance - nominal) > LENGTH_TOLERANCE)
    found = []
    for t in np.unique(system.atype[other]):
        length = distance[system.atype == t] / spin.scale[t]
        found.append(
            f"of {type_map[t]} is {length.min():.6g} to {length.max():.6g} μ_B instead "
            f"of {spin.virtual_len[t] / spin.scale[t]:.6g}"
        )
    if found:
        notes["virtual_len"] = (
            f"'{system.path}': virtual atoms are not at `virtual_len`: |spin| "
            f"{', '.join(found)}."
        )


def _check_overlaps(system: System, spin: VirtualAtoms) -> None:
    """Refuse atoms, virtual ones included, on top of each other in any image."""
    nloc, magnetic = system.nloc, spin.is_magnetic(system.atype)
    points = np.concatenate(
        [system.coord, spin.place(system.coord, system.spin, system.atype)], axis=1
    )
    there = np.concatenate([system.atype >= 0, magnetic], axis=1)
    frame, i, j, distance = _close_pairs(points, there, system.box, system.pbc)
    real = np.maximum(i, j) < nloc
    bad = (distance < np.where(real, MIN_DISTANCE, MIN_VIRTUAL_DISTANCE)) & (
        np.abs(i - j) != nloc  # a virtual atom and its owner
    )
    for n in np.flatnonzero(bad)[:1]:
        one, two = (
            f"{'atom' if a < nloc else 'the virtual atom of atom'} "
            f"{system.index[frame[n], a % nloc]}"
            for a in sorted((i[n], j[n]))
        )
        raise DataError(
            f"{system.where(frame[n])}: {one} and {two} (or an image of it) are "
            f"{distance[n]:.3g} Å apart. Remove the frame or correct coord and box."
        )


def _close_pairs(
    points: np.ndarray, there: np.ndarray, box: np.ndarray, pbc: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs within `MIN_DISTANCE`, by frame, closest first, some more than once.

    Returns their frames, both indices and distances (Å).

    Two such points share a bin in at least one of eight grids of bins twice as wide,
    offset by half a bin along each axis. So sorting bin numbers finds them, for all
    frames at once. Heights above `2 * MIN_DISTANCE` make rounding the nearest image.
    """
    frame, atom = np.nonzero(there)
    cell = box if pbc else np.broadcast_to(np.eye(3), box.shape)
    fraction = (points @ np.linalg.inv(cell))[frame, atom]  # (n, 3)
    bins = (_heights(cell) / (2 * MIN_DISTANCE))[frame]
    bins = np.floor(bins) if pbc else bins
    wrap = bins if pbc else 2.0**40
    mixer = np.array([73856093, 19349663, 83492791], dtype=np.int64)
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for offset in product((0.0, 0.5), repeat=3):
        place = np.mod(np.floor(fraction * bins + offset), wrap).astype(np.int64)
        number = place @ mixer + frame * 2654435761  # few bins share their number
        order = np.argsort(number)
        number = number[order]
        for step in range(1, 16):  # more in one bin overlap for sure
            same = number[step:] == number[:-step]
            if not same.any():
                break
            pairs.append(np.stack([order[:-step][same], order[step:][same]]))
    a, b = np.concatenate(pairs, axis=1)
    way = fraction[a] - fraction[b]
    way -= np.round(way) if pbc else 0.0
    distance = np.linalg.norm(np.einsum("na,nab->nb", way, cell[frame[a]]), axis=1)
    close = np.flatnonzero((frame[a] == frame[b]) & (distance < MIN_DISTANCE))
    close = close[np.lexsort((distance[close], frame[a[close]]))]
    a, b = a[close], b[close]
    return frame[a], atom[a], atom[b], distance[close]
