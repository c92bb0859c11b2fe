# SPDX-License-Identifier: Apache-2.0
"""Small systems on disk with known energies, for tests of the verbs that read data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LATTICE = 4.17  # of NiO in Å
SCALE = 0.4 / 1.2737  # Å/μ_B
SPRING, EXCHANGE = 4.0, 0.02  # eV/Å², eV/μ_B²


def rock_salt(names=("Ni", "O")):
    """Positions (8, 3), box (3, 3) and types of a cubic cell."""
    grid = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    odd = grid.sum(axis=1) % 2
    order = np.argsort(odd, kind="stable")
    types = odd[order] if names[0] != "O" else 1 - odd[order]
    return grid[order] * (LATTICE / 2), np.eye(3) * LATTICE, types


def frames(nframes=8, seed=0, names=("Ni", "O"), step=0.02):
    """Frames near each other of atoms on springs and spins that all couple.

    Returns arrays by name, per-atom ones of shape (nf, natoms, 3), and the types.
    """
    rng = np.random.default_rng(seed)
    sites, box, types = rock_salt(names)
    magnetic = np.array([names[t] == "Ni" for t in types])
    move = rng.normal(scale=step, size=(nframes, len(sites), 3))
    move -= move.mean(axis=1, keepdims=True)
    spin = rng.normal(size=(1, len(sites), 3)) + rng.normal(
        scale=5 * step, size=(nframes, len(sites), 3)
    )
    spin *= 1.27 / np.linalg.norm(spin, axis=-1, keepdims=True)
    spin[:, ~magnetic] = 0.0
    total = spin.sum(axis=1, keepdims=True)
    energy = SPRING / 2 * (move**2).sum(axis=(1, 2))
    energy += EXCHANGE / 2 * (total**2).sum(axis=(1, 2)) - 40.0
    force_mag = np.where(magnetic[:, None], -EXCHANGE * total, 0.0)
    arrays = {
        "coord": sites + move,
        "box": np.broadcast_to(box.reshape(9), (nframes, 9)),
        "energy": energy,
        "force": -SPRING * move,
        "spin": spin,
        "force_mag": force_mag,
    }
    return arrays, types


def write(folder, arrays, types, names=("Ni", "O"), part="set.000"):
    """Write a system as npy files; returns its folder."""
    folder = Path(folder)
    (folder / part).mkdir(parents=True)
    np.savetxt(folder / "type.raw", types, fmt="%d")
    if names is not None:
        (folder / "type_map.raw").write_text("".join(f"{n}\n" for n in names))
    for name, array in arrays.items():
        np.save(folder / part / f"{name}.npy", array.reshape(len(array), -1))
    return folder


def with_virtual_atoms(arrays, types, magnetic=0, scale=SCALE):
    """Turn arrays and types of spin files into those with virtual atoms."""
    arrays, here = dict(arrays), types == magnetic
    spin, force_mag = arrays.pop("spin"), arrays.pop("force_mag")
    points = arrays["coord"][:, here] + scale * spin[:, here]
    arrays["coord"] = np.concatenate([arrays["coord"], points], axis=1)
    arrays["force"] = np.concatenate([arrays["force"], force_mag[:, here]], axis=1)
    return arrays, np.concatenate([types, np.full(here.sum(), types.max() + 1)])


def contents(folder):
    """Every npy file below a folder: its type of number, shape and bytes."""
    return {
        str(file.relative_to(folder)): (a.dtype, a.shape, a.tobytes())
        for file in sorted(Path(folder).rglob("*.npy"))
        for a in [np.load(file)]
    }
