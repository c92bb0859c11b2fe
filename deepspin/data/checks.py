# SPDX-License-Identifier: Apache-2.0
"""What of systems, or of how they are to be served, cannot be right, or is odd.

Frames and atoms are counted from 0 in every message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from deepspin.data.cells import heights
from deepspin.data.files import DataError
from deepspin.data.frames import System, order_hint
from deepspin.data.notes import Notes
from deepspin.spins.codec import LENGTH_TOLERANCE, MAX_STRETCH, VirtualAtomCodec
from deepspin.spins.schemes import SCHEMES, Scheme
from deepspin.spins.types import ZERO_SPIN, SpinTypes
from deepspin.utils.arguments import AUGMENTATIONS

# real atoms closer than this (Å) are on top of each other
MIN_DISTANCE = 0.1
# other points closer than this (Å) to any of another atom coincide with it
MIN_POINT_DISTANCE = 1e-3


def without_small_moments(
    system: System, type_map: Sequence[str], types: SpinTypes, notes: Notes
) -> System:
    """Drop the small moments that programs list of atoms without spin.

    Parameters
    ----------
    system : System
        The system.
    type_map : sequence of str
        Names of the types.
    types : SpinTypes
        Which types carry a spin, and what is small.
    notes : Notes
        The largest one that is dropped goes here.

    Returns
    -------
    System
        The same with spins of 0 on types without spin.

    Raises
    ------
    DataError
        One of them is not small.
    """
    magnetic = types.is_magnetic(system.atype)
    length = np.linalg.norm(system.spin, axis=-1)
    other = np.where(magnetic, 0.0, length)
    if not other.any():
        return system
    frame, atom = divmod(int(other.argmax()), system.nloc)
    largest, name = other[frame, atom], type_map[system.atype[frame, atom]]
    if largest >= types.ignore_below:
        swapped = not system.named and not (length * magnetic > 0).any()
        above = float(f"{1.1 * largest:.2g}")
        raise DataError(
            f"{system.where(frame, atom)}: |spin| = {largest:.3g} but type '{name}' is "
            f"no spin type, and {types.ignore_below:g} μ_B (`model/spin/ignore_below`) "
            f"is not above that. Set `use_spin` to true for '{name}', the spins of its "
            f"atoms to 0, or `ignore_below` to {above:g} to leave out what its "
            f"neighbours polarise.{order_hint(type_map) if swapped else ''}"
        )
    names = [type_map[t] for t in np.unique(system.atype[other > 0])]
    notes.add(
        "small moments",
        f"moments of {', '.join(names)}, no spin types, are left out: up to "
        f"{largest:.3g} μ_B of {name}, {system.where(frame, atom)}, all below "
        f"`model/spin/ignore_below` {types.ignore_below:g}.",
        float(largest),
    )
    return replace(system, spin=np.where(magnetic[..., None], system.spin, 0.0))


def check_spins(
    system: System,
    type_map: Sequence[str],
    spin: Scheme,
    allow_zero_spin: bool,
    notes: Notes,
) -> None:
    """Refuse spins of 0 where one must be; warn of odd moduli.

    Parameters
    ----------
    system : System
        The system.
    type_map : sequence of str
        Names of the types.
    spin : Scheme
        The model's spin scheme.
    allow_zero_spin : bool
        Accept spins of 0 on spin types where the scheme has no use for them.
    notes : Notes
        What is odd goes here.

    Raises
    ------
    DataError
        With file, frame, atom and the fix.
    """
    magnetic = spin.types.is_magnetic(system.atype)
    length = np.linalg.norm(system.spin, axis=-1)
    zero = magnetic & (length < ZERO_SPIN)
    zero &= bool(spin.zero_spin) and not allow_zero_spin
    for frame, atom in np.argwhere(zero)[:1]:
        name = type_map[system.atype[frame, atom]]
        raise DataError(
            f"{system.where(frame, atom)}: |spin| = {length[frame, atom]:.3g} but type "
            f"'{name}' is a spin type; {spin.zero_spin}. Remove the frame, set "
            f"`use_spin` to false for '{name}', or set a non-zero `env_protection`."
        )
    distance = length * spin.codec.scale_of(system.atype)
    if system.layout == "virtual-atom":
        _check_distances(system, distance, type_map, spin.codec, notes)
        return
    nominal = spin.codec.nominal_of(system.atype)
    far = magnetic & (nominal > 0) & (distance > MAX_STRETCH * nominal)
    for frame, atom in np.argwhere(far)[:1]:
        notes.add(
            "spin",
            f"{system.where(frame, atom)}: |spin| = {length[frame, atom]:.3g} μ_B is "
            f"more than {MAX_STRETCH:g} times `spin_norm`; are the spins in μ_B?",
        )


def _check_distances(
    system: System,
    distance: np.ndarray,
    type_map: Sequence[str],
    codec: VirtualAtomCodec,
    notes: Notes,
) -> None:
    """Compare how far (Å) virtual atoms are from their owners with `virtual_len`."""
    nominal = codec.nominal_of(system.atype)
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
            f"{order_hint(type_map) if swapped else ''}"
        )
    other = known & (np.abs(distance - nominal) > LENGTH_TOLERANCE)
    found = []
    for t in np.unique(system.atype[other]):
        length = distance[system.atype == t] / codec.scale[t]
        found.append(
            f"of {type_map[t]} is {length.min():.6g} to {length.max():.6g} μ_B instead "
            f"of {codec.virtual_len[t] / codec.scale[t]:.6g}"
        )
    if found:
        notes.add(
            "virtual_len",
            f"'{system.path}': virtual atoms are not at `virtual_len`: |spin| "
            f"{', '.join(found)}.",
        )


def check_overlaps(system: System, spin: Scheme) -> None:
    """Refuse points that the scheme sees on top of each other, in any image.

    Raises
    ------
    DataError
        With file, frame, atoms and the fix.
    """
    nloc = system.nloc
    points, blocks = spin.points(system.coord, system.spin, system.atype)
    frame, i, j, distance = _close_pairs(points, blocks >= 0, system.box, system.pbc)
    atoms = np.maximum(i, j) < nloc
    near = distance < np.where(atoms, MIN_DISTANCE, MIN_POINT_DISTANCE)
    bad = near & ~((i % nloc == j % nloc) & (i != j))  # points of the same atom
    for n in np.flatnonzero(bad)[:1]:
        one, two = (
            f"{spin.point_names[a // nloc]} {system.index[frame[n], a % nloc]}"
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
    bins = (heights(cell) / (2 * MIN_DISTANCE))[frame]
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


def check_arguments(
    spin: Scheme,
    rcut: float,
    sel: Sequence[int] | None,
    seed: int | None,
    augmentation: Sequence[str],
) -> None:
    """Check what the constructor of `DataSystem` was given for the model's sake."""
    if not isinstance(spin, tuple(SCHEMES.values())):
        raise TypeError(
            "`spin` must be a spin scheme, such as `model.spin.scheme`. Received: "
            f"{type(spin).__name__}"
        )
    if not 0 < rcut < math.inf:
        raise ValueError(f"`rcut` must be a length in Å above 0. Received: {rcut}")
    if sel is not None and (len(sel) != spin.nblocks or min(sel) < 0):
        raise ValueError(
            f"`sel` must have {spin.nblocks} numbers from 0 on: one for each "
            "type, and one for each spin type's virtual atoms, which "
            f"`spin.extend_sel(sel)` appends. Received: {list(sel)}"
        )
    if seed is not None and seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Received: {seed}")
    if not set(augmentation) <= set(AUGMENTATIONS):
        raise ValueError(
            f"`augmentation` can be of {AUGMENTATIONS}. Received: {augmentation!r}"
        )
