# SPDX-License-Identifier: Apache-2.0
"""Compiled parts of neighbour lists, without TensorFlow.

`deepspin.data.nlist` does the same with numpy, more slowly; both give the same lists.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from deepspin import env
from deepspin.op.sources import trouble

PATH = Path(__file__).with_name("libneighbors.so")


class _Space(ctypes.Structure):
    """`Space` in src/bins.h."""

    _fields_ = (
        ("nsites", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("sites", "exists", "cell", "inverse", "periodic")
        ),
        ("cutoff", ctypes.c_double),
    )


_ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)


class _Search(ctypes.Structure):
    """`Search` in src/neighbors.cc."""

    _fields_ = (
        ("ncentres", ctypes.c_int64),
        ("nblocks", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("start", "partners", "first", "member", "types", "points")
        ),
        ("box", ctypes.c_void_p),
        ("rcut", ctypes.c_double),
    )


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library, None where numpy is to do the work."""
    if not (env.kernels_wanted() and PATH.is_file()):
        return None
    try:
        if trouble(PATH) is not None:
            return None
        compiled = ctypes.CDLL(str(PATH))
    except OSError:  # another libc, a damaged file, ...
        return None
    for name in ("count", "list", "pad"):
        getattr(compiled, f"deepspin_{name}").restype = None
    return compiled


def _compiled() -> ctypes.CDLL:
    """Return the library, which callers know to be there."""
    found = library()
    if found is None:
        raise RuntimeError(f"'{PATH}' is not there or does not load.")
    return found


@cache
def _threads() -> ctypes.c_int:
    return ctypes.c_int(env.thread_counts()[0] or len(os.sched_getaffinity(0)))


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _as(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=dtype)


def seek(
    sites: np.ndarray,
    exists: np.ndarray,
    cell: np.ndarray,
    periodic: np.ndarray,
    cutoff: float,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Partners of each site, see `deepspin.data.nlist`.

    Raises
    ------
    MemoryError
        They do not fit.
    """
    arrays = [_as(a, np.float64) for a in (sites, cell, np.linalg.inv(cell))]
    flags = [_as(a, np.bool_) for a in (exists, periodic)]
    space = _Space(
        len(sites),
        *map(_address, (arrays[0], flags[0], *arrays[1:], flags[1])),
        cutoff,
    )
    start, table = np.empty(len(sites) + 1, dtype=np.int64), []

    def allocate(number: int) -> int | None:
        try:
            table.append(np.empty((number, 4), dtype=np.int32))
        except MemoryError:
            return None
        return table[0].ctypes.data

    largest = _compiled().deepspin_seek(
        _threads(), ctypes.byref(space), _address(start), _ALLOCATE(allocate)
    )
    if largest < 0:
        raise MemoryError("the neighbours do not fit into memory")
    return start, table[0], largest


def select(
    partners: tuple[np.ndarray, np.ndarray],
    members: tuple[np.ndarray, np.ndarray],
    types: np.ndarray,
    points: np.ndarray,
    box: np.ndarray,
    rcut: float,
    shape: tuple[int, int],
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Neighbours among candidates, see `deepspin.data.nlist`."""
    start, table = partners
    arrays = [_as(a, np.int64) for a in (*members, types)]
    arrays += [_as(a, np.float64) for a in (points, box)]
    search = _Search(*shape, *map(_address, (start, table, *arrays)), rcut)
    count, nearest = np.empty(shape, dtype=np.int32), np.empty(2)
    coordination, closest = np.empty(shape), np.empty(shape)
    given = _threads(), ctypes.byref(search), _address(count)
    _compiled().deepspin_count(*given, *map(_address, (coordination, closest, nearest)))
    total = int(count.sum(dtype=np.int64))
    index = np.empty(total, dtype=np.int32)
    shift = np.empty((total, 3), dtype=dtype)
    _compiled().deepspin_list(
        *given, ctypes.c_int(shift.itemsize), _address(index), _address(shift)
    )
    distances = np.sqrt(closest), *np.sqrt(nearest).tolist()
    return count, index, shift, coordination, *distances


def fill(
    ragged: tuple[np.ndarray, np.ndarray, np.ndarray],
    centres: np.ndarray,
    names: np.ndarray,
    nlist: Sequence[np.ndarray],
    shift: Sequence[np.ndarray],
) -> None:
    """Write a ragged list into rows, see `deepspin.data.nlist`."""
    count = ragged[0]
    start = np.cumsum(count, dtype=np.int64) - count.ravel()
    width = np.array([block.shape[1] for block in nlist])
    centres, names = _as(centres, np.int64), _as(names, np.int64)
    pointers = ctypes.c_void_p * len(nlist)
    _compiled().deepspin_pad(
        _threads(),
        ctypes.c_int64(len(centres)),
        ctypes.c_int64(len(nlist)),
        *map(_address, (centres, start, *ragged)),
        ctypes.c_int(ragged[2].itemsize),
        _address(names),
        _address(width),
        pointers(*(block.ctypes.data for block in nlist)),
        pointers(*(block.ctypes.data for block in shift)),
    )
