# SPDX-License-Identifier: Apache-2.0
"""Systems of different sizes on disk, and a small model for their batches."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from places import ROOT

from deepspin import (
    DataSystem,
    DescrptSeA,
    EnerFitting,
    Spin,
    SpinEnergyModel,
)
from deepspin.spins.virtual import VirtualAtoms

EXAMPLE = ROOT / "examples" / "NiO" / "data"
SPIN = {"use_spin": [False, True], "virtual_len": [0.4], "spin_norm": [1.2737]}
SCHEME = VirtualAtoms.from_options(**SPIN)
TYPE_MAP = ["O", "Ni"]  # the spin type is not the first
RCUT = 3.6
LABELS = ("energy", "force", "force_mag", "virial")
PREFACTORS = {"e": 0.7, "fr": 3.0, "fm": 5.0, "v": 0.2}


def make(atype, nframes, length=5.0, seed=0):
    """Arrays of frames of atoms of types `atype`, (nframes, natoms) or (natoms,)."""
    rng = np.random.default_rng([seed, nframes])
    atype = np.broadcast_to(atype, (nframes, np.shape(atype)[-1]))
    shape = (*atype.shape, 3)
    there = (atype >= 0)[..., None]
    magnetic = (atype == 1)[..., None]
    grid = np.argwhere(np.ones((2, 2, 2)))[: shape[1]] / 2
    spin = rng.normal(size=shape)
    spin *= rng.uniform(1.1, 1.4) / np.linalg.norm(spin, axis=-1, keepdims=True)
    box = length * (np.eye(3) + rng.uniform(-0.05, 0.05, size=(nframes, 3, 3)))
    return {
        "real_atom_types": atype,
        "coord": grid @ box + rng.uniform(-0.3, 0.3, size=shape),
        "box": box,
        "spin": spin * magnetic,
        "energy": rng.normal(size=nframes),
        "force": rng.normal(size=shape) * there,
        "force_mag": rng.normal(size=shape) * magnetic,
        "virial": rng.normal(size=(nframes, 3, 3)),
    }


def write(path, data, mixed=False, without=()):
    """Write a system in the layout of spin files."""
    folder = path / "set.000"
    folder.mkdir(parents=True)
    atype = data["real_atom_types"]
    if not mixed:
        without = (*without, "real_atom_types")
    for name in data.keys() - set(without):
        np.save(folder / f"{name}.npy", data[name].reshape(len(atype), -1))
    types = np.zeros_like(atype[0]) if mixed else atype[0]
    (path / "type.raw").write_text("\n".join(map(str, types)))
    (path / "type_map.raw").write_text("\n".join(TYPE_MAP))
    return str(path)


def write_virtual(path, data):
    """Write the same system in the layout of virtual atoms."""
    folder = path / "set.000"
    folder.mkdir(parents=True)
    types = data["real_atom_types"][0]
    magnetic = types == 1
    moved = data["coord"] + 0.4 / 1.2737 * data["spin"]
    both = {
        "coord": (data["coord"], moved),
        "force": (data["force"], data["force_mag"]),
    }
    arrays = {name: data[name] for name in ("box", "energy", "virial")}
    for name, (real, virtual) in both.items():
        arrays[name] = np.concatenate([real, virtual[:, magnetic]], axis=1)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.reshape(len(array), -1))
    types = [*types, *np.full(magnetic.sum(), 2)]
    (path / "type.raw").write_text("\n".join(map(str, types)))
    return str(path)


def load(systems, **options):
    return DataSystem(systems, TYPE_MAP, SCHEME, RCUT, **options)


SYSTEMS = {  # types of the atoms, frames, cell
    "a": ([1, 0, 1, 0], 6, 4.4),
    "b": ([0, 1, 1, 0, 1, 0, 1], 4, 5.5),
    "c": ([1, 1], 8, 3.4),
    "d": ([0, 0, 0, 1, 0, 1, 0, 0], 2, 6.0),
}
MIXED = np.array(
    [
        [1, 0, 1, 0, -1, -1],
        [1, 1, 1, 1, 0, -1],
        [0, 0, 1, 0, 0, 0],
        [0, 1, -1, -1, -1, -1],
    ]
)


def make_model(sel, type_one_side=True):
    descriptor = DescrptSeA(
        RCUT,
        1.2,
        sel,
        2,
        neuron=(3, 6),
        axis_neuron=2,
        type_one_side=type_one_side,
        seed=1,
        dtype="float64",
    )
    descriptor.davg.assign([[0.11, 0, 0, 0], [0.07, 0, 0, 0]])
    descriptor.dstd.assign([[0.2, 0.1, 0.1, 0.1], [0.3, 0.2, 0.2, 0.2]])
    fitting = EnerFitting(2, descriptor.dim_out, neuron=(5, 5), seed=2, dtype="float64")
    fitting.bias_atom_e.assign([-1.5, -2.5])
    return SpinEnergyModel(TYPE_MAP, descriptor, fitting, Spin(**SPIN))


def same(one, two, **tolerance):
    """Assert that two nested structures of arrays are equal."""
    tf.nest.assert_same_structure(one, two)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 0, "atol": 0} | tolerance))


def plans(data, steps):
    return [(system, frames.tolist()) for system, frames in map(data.plan, steps)]
