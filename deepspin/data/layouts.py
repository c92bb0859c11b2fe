# SPDX-License-Identifier: Apache-2.0
"""The two layouts of spins on disk: systems turned from one into the other, written.

What both layouts hold is copied bit for bit. What one cannot hold exactly goes to files
that every reader passes over, and that are used on the way back if they still fit:

==========================  ==========================================================
``spin_exact.npy``          spins, which positions of virtual atoms hold to about
                            1e-14 μ_B only
``force_mag_exact.npy``     if it is not 0 on atoms without virtual atom, or of another
                            type of number than ``force.npy``
``coord_virtual.npy``       positions of virtual atoms, if placing them anew does not
                            give the same bits
``spin_scheme.json``        ``type_map`` and ``model/spin`` that data with virtual
                            atoms was written with. Also beside spin files that came
                            from virtual atoms, for the way back
==========================  ==========================================================

``type_map.raw`` names the types in both layouts, virtual atoms of Ni as ``Ni_spin``.
DeePMD-kit trains with it if these names come last in ``model/type_map``, too, which
deepspin also takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepspin.data.cells import wrapped
from deepspin.data.files import (
    FIELDS,
    SCHEME,
    DataError,
    Set,
    numbers,
    read_fparam,
    read_system,
    split_group,
)
from deepspin.data.frames import System
from deepspin.data.notes import Notes
from deepspin.data.systems import load_system
from deepspin.data.words import scheme_of, type_names
from deepspin.spins.codec import VirtualAtomCodec
from deepspin.spins.types import full_names
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils import hdf5

# positions closer than this (Å) differ by rounding only
SAME_PLACE = 1e-9
KEPT = ("spin_exact", "force_mag_exact", "coord_virtual")

_Arrays = dict[str, np.ndarray]


@dataclass
class Content:
    """What is to be written of one system.

    Parameters
    ----------
    types : np.ndarray of int, shape (natoms,)
        For ``type.raw``.
    words : dict of str to list of str
        Files of words by name, such as ``type_map.raw``.
    sets : dict of str to dict
        Arrays of each set by name.
    nopbc : bool
        Whether the system is open.
    """

    types: np.ndarray
    words: dict[str, list[str]]
    sets: dict[str, _Arrays]
    nopbc: bool

    def write_folder(self, folder: Path) -> None:
        """Write to a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "type.raw", self.types, fmt="%d")
        for name, words in self.words.items():
            (folder / name).write_text("".join(f"{w}\n" for w in words), "utf-8")
        if self.nopbc:
            (folder / "nopbc").touch()
        for part, arrays in self.sets.items():
            (folder / part).mkdir()
            for name, array in arrays.items():
                np.save(folder / part / f"{name}.npy", array)

    def write_text(self, folder: Path) -> None:
        """Write to a folder as text, all sets as one.

        Numbers have as many digits as bring them back bit for bit.
        """
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "type.raw", self.types, fmt="%d")
        for name, words in self.words.items():
            (folder / name).write_text("".join(f"{w}\n" for w in words), "utf-8")
        if self.nopbc:
            (folder / "nopbc").touch()
        for name in next(iter(self.sets.values())):
            rows = [_flat(np.atleast_1d(own[name])) for own in self.sets.values()]
            np.savetxt(folder / f"{name}.raw", np.concatenate(rows), fmt="%.17g")

    def write_group(self, group: h5py.Group) -> None:
        """Write to a group of an HDF5 file."""
        group["type.raw"] = self.types
        for name, words in self.words.items():
            group[name] = np.array([w.encode() for w in words])
        if self.nopbc:
            group["nopbc"] = True
        for part, arrays in self.sets.items():
            for name, array in arrays.items():
                group[f"{part}/{name}.npy"] = array


# --- Conversion -----------------------------------------------------------------------


def copy(path: str) -> Content:
    """Take a system as it is.

    Parameters
    ----------
    path : str
        Folder, or ``file.hdf5#/group``.

    Raises
    ------
    DataError
        It cannot be read.
    """
    head, sets = read_system(path)
    words = {file: head[file] for file in ("type_map.raw", SCHEME) if file in head}
    types = numbers(np.ravel(head["type.raw"]), f"'{path}/type.raw'")
    parts = {_name(part): part.arrays | _others(part) for part in sets}
    return Content(types.astype(np.int64), words, parts, "nopbc" in head)


def convert(
    system: System, layout: str, type_map: Sequence[str], section: dict[str, Any]
) -> Content:
    """Take a system and store its spins the other way.

    Parameters
    ----------
    system : System
        The system, as it was read with what follows.
    layout : {"spin-files", "virtual-atom"}
        What to make of it; not what it is.
    type_map : sequence of str
        Names of the types.
    section : dict
        Options of ``model/spin``.

    Raises
    ------
    DataError
        It has only one of forces and magnetic forces, which virtual atoms need both.
    """
    content, codec = copy(system.path), VirtualAtomCodec.from_options(**section)
    mixed = any("real_atom_types" in arrays for arrays in content.sets.values())
    given = _model_types(content, system, type_map, codec)
    pairs = _Pairs.of(given, system, codec)
    begin, placed = 0, layout == "virtual-atom" and pairs.order.size > 0
    for name, (place, nframes) in zip(content.sets, system.sets, strict=True):
        frames = slice(begin, begin + nframes)
        own, arrays = pairs.of_frames(frames), content.sets[name]
        if layout == "virtual-atom":
            arrays = _to_virtual(arrays, own, codec, place)
            types = np.concatenate([given[frames], own.virtual_types], axis=1)
        else:
            exact = arrays.get("spin_exact")
            arrays = _to_files(arrays, own, codec, system.spin[frames])
            types = system.atype[frames]
            placed |= arrays["spin"] is not exact  # these were spin files before
        types = _file_types(codec, layout)[types].astype(np.int32)
        content.sets[name] = arrays | ({"real_atom_types": types} if mixed else {})
        begin += nframes
    content.types = np.zeros_like(types[0]) if mixed else types[0]
    content.words = _words(type_map, section, layout, mixed, placed)
    return content


def difference(
    system: System, path: str, type_map: Sequence[str], codec: VirtualAtomCodec
) -> float:
    """Compare a system with what was written of it, as it is read.

    Parameters
    ----------
    system : System
        The system.
    path : str
        Where it was written.
    type_map : sequence of str
        Names of the types.
    codec : VirtualAtomCodec
        What its virtual atoms are, or were, placed with.

    Returns
    -------
    float
        Largest difference of a component of a spin in μ_B.

    Raises
    ------
    RuntimeError
        Anything else is not equal, bit for bit.
    """
    quiet = replace(codec, virtual_len=(0.0,) * codec.ntypes)  # about distances
    spin = VirtualAtoms(quiet)
    written = load_system(path, type_map, spin, True, notes=Notes())  # told before
    here = system.atype >= 0
    same = np.array_equal(written.atype, system.atype)
    same &= np.array_equal(written.coord[here], system.coord[here])
    same &= np.array_equal(written.fparam, system.fparam)
    same &= written.labels.keys() == system.labels.keys()
    for name, label in written.labels.items():
        same = same and np.array_equal(label, system.labels[name], equal_nan=True)
    if not same:
        raise RuntimeError(
            f"'{system.path}' was not written right; nothing is kept. This is a "
            "mistake of deepspin."
        )
    return float(np.abs((written.spin - system.spin)[here]).max(initial=0.0))


def is_same(content: Content, path: str, *, values: bool = False) -> bool:
    """Whether what was written at `path` is `content`, bit for bit.

    With `values`, sets may have become one and numbers another type.
    """
    written = copy(path)
    if values:
        content, written = (_as_text(each) for each in (content, written))
    heads = [(c.types.tolist(), c.words, c.nopbc) for c in (content, written)]
    if heads[0] != heads[1] or content.sets.keys() != written.sets.keys():
        return False
    return all(
        arrays.keys() == written.sets[part].keys()
        and all(_identical(a, written.sets[part][n]) for n, a in arrays.items())
        for part, arrays in content.sets.items()
    )


def _as_text(content: Content) -> Content:
    """A system as text holds it: one set of float64."""
    rows: dict[str, list[np.ndarray]] = {}
    for arrays in content.sets.values():
        for name, array in arrays.items():
            own = np.asarray(array, dtype=np.float64)
            rows.setdefault(name, []).append(_flat(np.atleast_1d(own)))
    joined = {name: np.concatenate(own) for name, own in rows.items()}
    return replace(content, sets={"set.000": joined})


def _name(part: Set) -> str:
    name = re.split("[/#]", part.place)[-1]
    return name if name.startswith("set.") else "set.000"


def _others(part: Set) -> _Arrays:
    """Arrays of a set that are copied as they are; of text only frame parameters."""
    if part.suffix != ".npy":
        fparam = read_fparam(part)
        return {} if fparam is None else {"fparam": np.asarray(fparam)}

    def wanted(file: str) -> bool:
        stem = file.removesuffix(".npy").replace("atomic_", "atom_")
        return file.endswith(".npy") and stem not in FIELDS

    if Path(part.place).is_dir():
        members = sorted(Path(part.place).iterdir())
        files = [f for f in members if wanted(f.name) and f.is_file()]
        return {f.stem: np.load(f) for f in files}
    file, group = split_group(part.place)
    with hdf5.reading(file) as opened:
        members = opened[group].items()
        return {n.removesuffix(".npy"): v[()] for n, v in members if wanted(n)}


def _model_types(
    content: Content,
    system: System,
    type_map: Sequence[str],
    codec: VirtualAtomCodec,
) -> np.ndarray:
    """Model's types (nf, natoms), virtual ones included, as the reader sees them."""
    scheme = scheme_of(content.words.get(SCHEME), system.path)
    names = type_names(content.words.get("type_map.raw"), scheme, system.path)
    table = codec.file_types(names, type_map, unknown=-1)
    natoms = len(content.types)
    types: list[np.ndarray] = [
        np.asarray(arrays["real_atom_types"]).astype(int).reshape(-1, natoms)
        for arrays in content.sets.values()
        if "real_atom_types" in arrays
    ] or [np.broadcast_to(content.types, (system.nframes, natoms))]
    return np.array([*table, -1])[np.concatenate(types)]


def _file_types(codec: VirtualAtomCodec, layout: str) -> np.ndarray:
    """Number in the file of each of the model's types, virtual ones included; -1 last.

    With virtual atoms, types with spin come first, as DeePMD-kit wants them.
    """
    order = _type_order(codec, layout)
    virtual = np.arange(codec.ntypes, codec.ntypes_file)
    return np.array([*np.argsort(order), *virtual, -1])


def _type_order(codec: VirtualAtomCodec, layout: str) -> list[int]:
    types = range(codec.ntypes)
    if layout == "spin-files":
        return list(types)
    return sorted(types, key=lambda t: not codec.types.use_spin[t])


def _words(
    type_map: Sequence[str],
    section: dict[str, Any],
    layout: str,
    mixed: bool,
    placed: bool,
) -> dict[str, list[str]]:
    """Files of names, and of the scheme if virtual atoms are here or were before."""
    codec = VirtualAtomCodec.from_options(**section)
    order = _type_order(codec, layout)
    names = [type_map[t] for t in order]
    flags = [codec.types.use_spin[t] for t in order]
    scheme = {"type_map": names, **section, "use_spin": flags}
    words = {SCHEME: [json.dumps(scheme)]} if placed else {}
    if layout == "virtual-atom" and (mixed or placed):
        names = full_names(names, flags)
    return words | {"type_map.raw": names}


@dataclass(frozen=True)
class _Pairs:
    """Which atoms of the file belong together.

    Parameters
    ----------
    real, partner : np.ndarray of int, shape (nf, nloc)
        Places of the real atoms and of their virtual atoms, -1 for none.
    types : np.ndarray of int, shape (nf, nloc)
        Types of the real atoms, -1 for none.
    order : np.ndarray of int, shape (nf, nvirtual)
        Which real atom, counted as above, owns each virtual atom; -1 for none.
    virtual_types : np.ndarray of int, shape (nf, nvirtual)
        Types of these virtual atoms, -1 for none.
    """

    real: np.ndarray
    partner: np.ndarray
    types: np.ndarray
    order: np.ndarray
    virtual_types: np.ndarray

    @classmethod
    def of(cls, given: np.ndarray, system: System, codec: VirtualAtomCodec) -> _Pairs:
        """Pair the atoms of a system whose file has the types `given` (nf, natoms)."""
        partner = np.full_like(system.index, -1)
        if system.layout == "virtual-atom":
            rows, inverse = np.unique(given, axis=0, return_inverse=True)
            for k, row in enumerate(rows):
                own = codec.pair(row)[1]
                partner[inverse.ravel() == k, : len(own)] = own
        owned = codec.virtual_type(system.atype)  # (nf, nloc)
        last = np.where(owned < 0, codec.ntypes_file, owned)
        order = np.argsort(last, axis=1, kind="stable")
        order = order[:, : (owned >= 0).sum(axis=1).max(initial=0)]
        virtual_types = np.take_along_axis(owned, order, axis=1)
        order = np.where(virtual_types < 0, -1, order)
        return cls(system.index, partner, system.atype, order, virtual_types)

    def of_frames(self, frames: slice) -> _Pairs:
        """Those of some frames."""
        return _Pairs(*(getattr(self, own.name)[frames] for own in fields(self)))

    @property
    def owners(self) -> np.ndarray:
        """Places of the virtual atoms' owners, shape (nf, nvirtual), -1 for none."""
        return self._ordered(self.real)

    @property
    def owner_types(self) -> np.ndarray:
        """Their types."""
        return self._ordered(self.types)

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        taken = np.take_along_axis(values, np.maximum(self.order, 0), axis=1)
        return np.where(self.order < 0, -1, taken)


def _take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows (nf, n, ...) of atoms (nf, natoms, ...) at `index` (nf, n), 0 where -1."""
    taken = np.take_along_axis(values, np.maximum(index, 0)[..., None], axis=1)
    return np.where(index[..., None] < 0, values.dtype.type(0), taken)


def _atoms(values: np.ndarray, nframes: int, size: int = 3) -> np.ndarray:
    return np.asarray(values).reshape(nframes, -1, size)


def _flat(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.reshape(len(values), -1))


def _identical(one: np.ndarray, other: np.ndarray) -> bool:
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and one.tobytes() == other.tobytes()


def _narrow(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers in another type, if none of them changes."""
    cast = values.astype(dtype)
    return cast if np.array_equal(cast, values) else values


def _to_virtual(
    arrays: _Arrays, pairs: _Pairs, codec: VirtualAtomCodec, place: str
) -> _Arrays:
    """Arrays of a set with spin files, with virtual atoms instead."""
    result, nf = dict(arrays), len(pairs.real)
    old = [result.pop(name, None) for name in KEPT][-1]
    owners, types = pairs.owners, pairs.owner_types
    coord = _atoms(result["coord"], nf)
    given = result.pop("spin", np.zeros((nf, coord.shape[1] * 3)))
    homes = _take(coord.astype(np.float64), owners)
    spins = _take(_atoms(given, nf).astype(np.float64), owners)
    points = codec.place(homes, spins, types)
    if old is not None and old.size == points.size:
        old = old.reshape(points.shape)
        points = old if _same_places(old, points, result.get("box")) else points
    result["coord"] = _flat(np.concatenate([coord, points], axis=1))
    back = np.zeros(coord.shape)
    _put(back, owners, _spins_at(homes, points, types, codec))
    if not _identical(_flat(back), given):
        result["spin_exact"] = given
    if owners.size and {"force", "force_mag"} & result.keys():
        result |= _join_forces(result, owners, place)
        del result["force_mag"]
    for name in ("atom_ener", "atom_ener_coeff"):
        if name in result:
            values = _atoms(result[name], nf, 1)[..., 0]
            none = np.zeros(owners.shape, values.dtype)
            result[name] = np.concatenate([values, none], axis=1)
    return result


def _join_forces(arrays: _Arrays, owners: np.ndarray, place: str) -> _Arrays:
    """Forces on atoms and virtual atoms, and what of force_mag does not fit there."""
    if not {"force", "force_mag"} <= arrays.keys():
        lacking = "force" if "force_mag" in arrays else "force_mag"
        raise DataError(
            f"'{place}' has no {lacking}: with virtual atoms one file holds forces and "
            "magnetic forces. Add it, or keep the layout."
        )
    given = arrays["force_mag"]
    force, force_mag = (_atoms(a, len(owners)) for a in (arrays["force"], given))
    lack = [np.isnan(a).all(axis=(1, 2)) for a in (force, force_mag)]
    differ = (lack[0] != lack[1]) & (owners >= 0).any(axis=1)
    for frame in np.flatnonzero(differ)[:1]:
        lacking = "force" if lack[0][frame] else "force_mag"
        raise DataError(
            f"frame {frame} of '{place}' has no {lacking}: with virtual atoms one file "
            "holds forces and magnetic forces. Add it, or keep the layout."
        )
    own = _take(force_mag, owners)
    both = np.concatenate([force, own], axis=1)
    back = np.zeros(force.shape, both.dtype)
    _put(back, owners, own)
    result = {"force": _flat(both)}
    return (
        result
        if _identical(_flat(back), given)
        else result | {"force_mag_exact": given}
    )


def _put(values: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """Set rows (nf, n, 3) of atoms at `index` (nf, n), none where -1."""
    frame, atom = np.nonzero(index >= 0)
    values[frame, index[frame, atom]] = rows[frame, atom]


def _spins_at(
    homes: np.ndarray, points: np.ndarray, types: np.ndarray, codec: VirtualAtomCodec
) -> np.ndarray:
    """Spins of virtual atoms at `points`, 0 where type -1."""
    here, spins = types >= 0, np.zeros(homes.shape)
    spins[here] = codec.spins_from(homes[here], points[here], types[here])
    return spins


def _same_places(one: np.ndarray, other: np.ndarray, box: np.ndarray | None) -> bool:
    """Whether points (nf, n, 3) agree to `SAME_PLACE`, up to lattice vectors."""
    way = one.astype(np.float64) - other
    if box is not None:
        way = wrapped(way, np.asarray(box, dtype=np.float64).reshape(-1, 3, 3))
    return bool((np.abs(way) < SAME_PLACE).all())


def _to_files(
    arrays: _Arrays, pairs: _Pairs, codec: VirtualAtomCodec, spins: np.ndarray
) -> _Arrays:
    """Arrays of a set with virtual atoms, with spin files instead."""
    result, nf = dict(arrays), len(pairs.real)
    kept = {name: result.pop(name, None) for name in KEPT}
    all_points = _atoms(result["coord"], nf)
    coord, points = _take(all_points, pairs.real), _take(all_points, pairs.partner)
    there, homes = pairs.partner >= 0, coord.astype(np.float64)

    def fits(old: np.ndarray | None) -> bool:
        if old is None or old.size != spins.size:
            return False
        placed = codec.place(homes, _atoms(old, nf).astype(np.float64), pairs.types)
        return np.array_equal(placed[there], points[there])

    exact = kept["spin_exact"] if fits(kept["spin_exact"]) else None
    result["spin"] = _flat(spins) if exact is None else exact
    result["coord"] = _flat(coord)
    if exact is not None:  # what float64 was needed for is gone
        result["coord"] = _narrow(result["coord"], exact.dtype)
    placed = codec.place(homes, _atoms(result["spin"], nf), pairs.types)
    if not _identical(placed[there], points[there]):
        result["coord_virtual"] = _flat(_take(points, pairs.order))
    if "force" in result:
        every = _atoms(result["force"], nf)
        result["force"] = _flat(_take(every, pairs.real))
        force_mag, old = _take(every, pairs.partner), kept["force_mag_exact"]
        if old is not None and old.size == force_mag.size:
            old_atoms = _atoms(old, nf)
            if np.array_equal(old_atoms[there], force_mag[there], equal_nan=True):
                force_mag = old_atoms
        force_mag[np.isnan(every).all(axis=(1, 2))] = np.nan  # missing as a whole
        result["force_mag"] = _flat(force_mag)
    for name in ("atom_ener", "atom_ener_coeff"):
        if name in result and result[name].size == nf * all_points.shape[1]:
            values = _atoms(result[name], nf, 1)
            result[name] = _take(values, pairs.real)[..., 0]
    return result
