# SPDX-License-Identifier: Apache-2.0
"""One system in every layout of DeePMD-kit."""

from __future__ import annotations

from itertools import pairwise

import h5py
import numpy as np

from deepspin.data.systems import (
    load_system,
)
from deepspin.spins.virtual import VirtualAtoms

TYPE_MAP = ["O", "Ni"]  # the spin type is not the first
SCHEME = VirtualAtoms.from_options([False, True], [0.4], [1.2737])
ATYPE = np.array([1, 0, 1, 0, 1])
BOX = np.array([[6.0, 0, 0], [1.0, 5.5, 0], [0.5, -0.7, 6.2]])
LABELS = ("energy", "force", "force_mag", "virial", "atom_ener", "atom_ener_coeff")


def make(nframes=4, seed=0):
    """Arrays of `nframes` frames in the internal form."""
    rng = np.random.default_rng(seed)
    spin = rng.normal(size=(nframes, 5, 3))
    spin *= 1.2737 / np.linalg.norm(spin, axis=-1, keepdims=True)
    grid = np.array([[0.1, 0.1, 0.1], [0.6, 0, 0], [0, 0.6, 0], [0, 0, 0.6], [0.5] * 3])
    mask = (ATYPE == 1)[:, None]
    return {
        "coord": grid @ BOX + rng.normal(scale=0.05, size=(nframes, 5, 3)),
        "box": np.tile(BOX, (nframes, 1, 1)),
        "spin": spin * mask,
        "energy": rng.normal(size=nframes),
        "force": rng.normal(size=(nframes, 5, 3)),
        "force_mag": rng.normal(size=(nframes, 5, 3)) * mask,
        "virial": rng.normal(size=(nframes, 3, 3)),
        "atom_ener": rng.normal(size=(nframes, 5)),
        "atom_ener_coeff": rng.normal(size=(nframes, 5)),
    }


def with_virtual(data, order=None):
    """Types and arrays of the virtual-atom layout, atoms of the file in `order`."""
    mask = ATYPE == 1
    order = np.arange(8) if order is None else np.asarray(order)
    moved = data["coord"] + 0.4 / 1.2737 * data["spin"]
    both = {
        "coord": (data["coord"], moved),
        "force": (data["force"], data["force_mag"]),
    }
    arrays = {k: data[k] for k in ("box", "energy", "virial")}
    for name, (real, virtual) in both.items():
        arrays[name] = np.concatenate([real, virtual[:, mask]], axis=1)[:, order]
    for name in ("atom_ener", "atom_ener_coeff"):
        padded = np.concatenate(
            [data[name], np.full((len(data[name]), 3), 7.0)], axis=1
        )
        arrays[name] = padded[:, order]
    return np.array([*ATYPE, 2, 2, 2])[order], arrays


def flat(value):
    return value if value.ndim == 1 else value.reshape(len(value), -1)


def write_npy(path, atype, arrays, type_map=None, cuts=(0, None)):
    path.mkdir(parents=True, exist_ok=True)
    (path / "type.raw").write_text("\n".join(map(str, atype)) + "\n")
    if type_map is not None:
        (path / "type_map.raw").write_text("\n".join(type_map))
    for k, (start, stop) in enumerate(pairwise(cuts)):
        (path / f"set.{k:03d}").mkdir(exist_ok=True)
        for name, value in arrays.items():
            np.save(path / f"set.{k:03d}" / f"{name}.npy", flat(value)[start:stop])
    return str(path)


def write_raw(path, atype, arrays, type_map=None):
    path.mkdir()
    (path / "type.raw").write_text(" ".join(map(str, atype)))
    for name, value in arrays.items():
        np.savetxt(path / f"{name}.raw", flat(value), fmt="%.17g")
    return str(path)


def write_hdf5(path, atype, arrays, type_map=None, group="a/sys"):
    with h5py.File(path, "a") as file:
        file[f"{group}/type.raw"] = atype
        if type_map is not None:
            file[f"{group}/type_map.raw"] = np.array(type_map, dtype="S")
        for name, value in arrays.items():
            file[f"{group}/set.000/{name}.npy"] = flat(value)
    return f"{path}#/{group}"


def load(path, **options):
    return load_system(path, TYPE_MAP, SCHEME, **options)


def assert_same(system, data, labels=LABELS):
    assert set(system.labels) == set(labels)
    arrays = {**vars(system), **system.labels}
    for name, value in data.items():
        if name in arrays:
            assert arrays[name].dtype == np.float64
            assert arrays[name].flags.c_contiguous
            np.testing.assert_allclose(arrays[name], value, rtol=0, atol=1e-12)
    assert (system.spin[system.atype != 1] == 0).all()


WRITERS = {"npy": write_npy, "raw": write_raw, "hdf5": write_hdf5}
