#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Example data from an effective Hamiltonian of NiO, with exact derivatives.

The data are synthetic: no electronic-structure calculation is behind them. Their
energy is a closed formula, so that every label is exact and the exchange constants
that a trained model should have learnt are known.

.. math::

    E = \sum_{i<j} \phi_{t_i t_j}(r_{ij})
        - \sum_{i<j \in \mathrm{Ni}} J(r_{ij})\,
          \frac{\mathbf S_i \cdot \mathbf S_j}{S_0^2}
        + \sum_{i \in \mathrm{Ni}} a \left(|\mathbf S_i|^2 - m^2\right)^2

where each pair, periodic images included, counts once. Its parts are

.. math::

    \phi_{tu}(r) &= \left[A_{tu}\, e^{-r/b}
        + k q_t q_u\, e^{-r/\lambda} / r\right] f(r; 1.0, 5.2) \\
    J(r) &= J_1\, h(r/r_1)\, f(r; 3.2, 3.9)
        + J_2\, h(r/r_2)\, [1 - f(r; 3.2, 3.9)]\, f(r; 4.4, 5.0) \\
    h(x) &= \exp\left[-10 (x - 1) - 50 (x - 1)^2\right] \\
    f(r; c, d) &= 1 - u^3 (10 - 15 u + 6 u^2), \quad
        u = \min\left(\max\left(\tfrac{r - c}{d - c}, 0\right), 1\right)

`f` falls from 1 to 0 with two continuous derivatives; nothing interacts beyond 5.2 Å.
J > 0 is ferromagnetic, and J belongs to a pair of unit vectors, `e_i = S_i / S_0`.

============== ======================= ============================================
symbol         value                   origin
============== ======================= ============================================
S_0            1.2737 μ_B              `spin_norm` of the example model
J_1, J_2       +1.37, -19.01 meV       neutron scattering [1]_, written there as
                                       H = J S·S with S = 1: -1.37 and 19.01 meV
r_1, r_2       a_0/√2, a_0             the shells they were measured for
slope of h     d ln J/d ln r = -10     Bloch's law J ∝ V^(-10/3) [2]_
curvature of h 50                      chosen: J stays bounded at short distance
a_0            4.17 Å                  near the measured lattice constant
q              +2 (Ni), -2 (O)         formal charges
k              14.399645 eV Å          e^2 / (4π ε_0)
λ, b, A_OO     1.5 Å, 0.30 Å, 800 eV   chosen: elastic constants of NiO's size
A_NiO          see `REPULSION`         no pressure in antiferromagnetic NiO at a_0
A_NiNi         0
a              0.5 eV/μ_B^4            chosen: |S| spreads by 0.06 μ_B at 300 K
m^2            S_0^2 + 6 J_2/(4a S_0^2)  |S| = S_0 in the magnetic ground state
============== ======================= ============================================

Labels: force = -dE/dR at fixed spins (eV/Å), force_mag = -dE/dS (eV/μ_B), virial
V_ab = -dE/d eps_ab for x_a -> x_a + eps_ab x_b of atoms and cell with the spins fixed
(eV, order XX XY XZ YX ...). Unlike that of a general spin model this virial is
symmetric, because the energy knows the spins through their scalar products only.

References
----------
.. [1] M. T. Hutchings and E. J. Samuelsen, Phys. Rev. B 6, 3447 (1972),
   https://doi.org/10.1103/PhysRevB.6.3447
.. [2] D. Bloch, J. Phys. Chem. Solids 27, 881 (1966).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent / "data"
NICKEL, OXYGEN = 0, 1

LATTICE = 4.17  # a_0, Å
SPIN_NORM = 1.2737  # S_0, μ_B
VIRTUAL_LEN = 0.4  # distance of a virtual atom at |S| = S_0, Å
SCHEME = {  # what files with virtual atoms mean
    "type_map": ["Ni", "O"],
    "use_spin": [True, False],
    "virtual_len": [VIRTUAL_LEN],
    "spin_norm": [SPIN_NORM],
}
SHELLS = np.array([LATTICE / np.sqrt(2.0), LATTICE])  # r_1 and r_2, Å
EXCHANGE = np.array([1.37e-3, -19.01e-3])  # J_1 and J_2, eV
EXCHANGE_SLOPE, EXCHANGE_CURVATURE = 10.0, 50.0
BETWEEN_SHELLS = (3.2, 3.9)  # where J_2 takes over from J_1, Å
EXCHANGE_END = (4.4, 5.0)  # where J_2 ends, Å
LATTICE_END = (1.0, 5.2)  # where repulsion and Coulomb interaction end, Å

COULOMB = 14.399645  # k, eV Å
CHARGE = np.array([2.0, -2.0])  # q by type
SCREENING, HARDNESS = 1.5, 0.30  # λ and b, Å
REPULSION = np.array([[0.0, 962.915], [962.915, 800.0]])  # A by pair of types, eV
LANDAU = 0.5  # a, eV/μ_B^4
MOMENT2 = SPIN_NORM**2 + 6 * EXCHANGE[1] / (4 * LANDAU * SPIN_NORM**2)  # m^2, μ_B^2

# 32 atoms: a (1 1 0), a (1 -1 0), a (0 0 2); 16 atoms: doubled primitive fcc cell.
CELLS = {
    32: LATTICE * np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]]),
    16: LATTICE * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
}
# The four kinds of {111} planes along which the ferromagnetic planes may lie.
DOMAINS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
ORDERS = ("AFM-II",) * 4 + ("partly",) * 3 + ("disordered",) * 2 + ("FM",)
# Mixing of a random unit vector into the order: smallest and largest share.
DISORDER = {
    "AFM-II": (0.0, 0.3),
    "partly": (0.3, 0.9),
    "disordered": (1.0, 1.0),
    "FM": (0.0, 0.3),
}
# Folder, layout, atoms, and frames relative to `--frames`. The number of a system
# enters its random stream: append, do not reorder.
SYSTEMS = (
    ("train/spin-files-32", "spin-files", 32, 1.0),
    ("train/spin-files-16", "spin-files", 16, 0.5),
    ("train/virtual-atom-32", "virtual-atom", 32, 1.0),
    ("train/virtual-atom-16", "virtual-atom", 16, 0.5),
    ("valid/spin-files-32", "spin-files", 32, 0.25),
    ("valid/spin-files-16", "spin-files", 16, 0.125),
    ("valid/virtual-atom-32", "virtual-atom", 32, 0.25),
    ("valid/virtual-atom-16", "virtual-atom", 16, 0.125),
)
GPA = 160.2176634  # 1 eV/Å^3 in GPa
SEED, FRAMES = 1972, 80
SHORTEST = 1.6  # no two atoms of a frame are closer, Å


# --- the Hamiltonian ------------------------------------------------------------------


def switch(r: np.ndarray, begin: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Fall from 1 at `begin` to 0 at `end` with two continuous derivatives.

    Parameters
    ----------
    r : np.ndarray
        Distances in Å, any shape.
    begin, end : float
        Where the fall begins and ends, in Å.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Value and derivative (1/Å), of the shape of `r`.
    """
    u = np.clip((r - begin) / (end - begin), 0.0, 1.0)
    value = 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    return value, -30.0 * (u * (1.0 - u)) ** 2 / (end - begin)


def exchange_and_slope(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the exchange J(r) between two Ni and its derivative.

    Parameters
    ----------
    r : np.ndarray
        Distances in Å, any shape.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        J in eV and dJ/dr in eV/Å, of the shape of `r`.
    """
    x = np.asarray(r, dtype=np.float64)[..., None] / SHELLS - 1.0  # (..., shell)
    shell = EXCHANGE * np.exp(-EXCHANGE_SLOPE * x - EXCHANGE_CURVATURE * x**2)
    slope = shell * (-EXCHANGE_SLOPE - 2.0 * EXCHANGE_CURVATURE * x) / SHELLS
    near, dnear = switch(r, *BETWEEN_SHELLS)
    end, dend = switch(r, *EXCHANGE_END)
    far, dfar = (1.0 - near) * end, -dnear * end + (1.0 - near) * dend
    value = shell[..., 0] * near + shell[..., 1] * far
    return value, (
        slope[..., 0] * near
        + shell[..., 0] * dnear
        + slope[..., 1] * far
        + shell[..., 1] * dfar
    )


def exchange(r: np.ndarray | float) -> np.ndarray:
    """Evaluate the exact exchange J(r) of the example data.

    The energy of a pair of Ni atoms is ``-J(r) S_i.S_j / SPIN_NORM**2``, each pair
    counted once; positive J is ferromagnetic.

    Parameters
    ----------
    r : np.ndarray or float
        Distances in Å, any shape.

    Returns
    -------
    np.ndarray
        J in eV, of the shape of `r`.

    Examples
    --------
    >>> print(f"{exchange(4.17):.5f} eV")
    -0.01901 eV
    """
    return exchange_and_slope(np.asarray(r, dtype=np.float64))[0]


def lattice_pair(
    r: np.ndarray, type_i: np.ndarray, type_j: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate repulsion and screened Coulomb interaction of atom pairs.

    Parameters
    ----------
    r : np.ndarray
        Distances in Å, any shape.
    type_i, type_j : np.ndarray
        Types of the two atoms, of the shape of `r`.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Pair energy in eV and its derivative in eV/Å, of the shape of `r`.
    """
    repulsion = REPULSION[type_i, type_j] * np.exp(-r / HARDNESS)
    coulomb = COULOMB * CHARGE[type_i] * CHARGE[type_j] * np.exp(-r / SCREENING) / r
    slope = -repulsion / HARDNESS - coulomb * (1.0 / SCREENING + 1.0 / r)
    value = repulsion + coulomb
    weight, dweight = switch(r, *LATTICE_END)
    return value * weight, slope * weight + value * dweight


def build_pairs(
    coord: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List every ordered pair of atoms, images included, within reach.

    Parameters
    ----------
    coord : np.ndarray
        Coordinates in Å, shape (nloc, 3).
    box : np.ndarray
        Lattice vectors as rows, in Å, shape (3, 3).

    Returns
    -------
    tuple[np.ndarray, np.ndarray, np.ndarray]
        Centres and neighbours, shape (npairs,), and vectors from centre to
        neighbour in Å, shape (npairs, 3). Each pair appears in both directions.
    """
    reach = LATTICE_END[1]
    inverse = np.linalg.inv(box)
    height = 1.0 / np.linalg.norm(inverse, axis=0)
    images = [range(-n, n + 1) for n in np.floor(reach / height + 0.5).astype(int)]
    shift = np.stack(np.meshgrid(*images, indexing="ij"), axis=-1).reshape(-1, 3)
    fraction = (coord[None, :] - coord[:, None]) @ inverse  # (i, j, 3)
    fraction -= np.rint(fraction)
    diff = (fraction[:, :, None] + shift) @ box  # (i, j, image, 3)
    r = np.linalg.norm(diff, axis=-1)
    self_pair = np.eye(len(coord), dtype=bool)[:, :, None] & ~shift.any(axis=1)
    i, j, image = np.nonzero((r < reach) & ~self_pair)
    return i, j, diff[i, j, image]


def evaluate(
    coord: np.ndarray, box: np.ndarray, atype: np.ndarray, spin: np.ndarray
) -> dict[str, np.ndarray]:
    """Evaluate energy, force, magnetic force and virial of one frame.

    Parameters
    ----------
    coord : np.ndarray
        Coordinates in Å, shape (nloc, 3).
    box : np.ndarray
        Lattice vectors as rows, in Å, shape (3, 3).
    atype : np.ndarray
        Types, 0 for Ni and 1 for O, shape (nloc,).
    spin : np.ndarray
        Spins in μ_B, shape (nloc, 3); those of O are ignored.

    Returns
    -------
    dict[str, np.ndarray]
        ``energy`` in eV, shape (); ``force`` in eV/Å and ``force_mag`` in eV/μ_B,
        shape (nloc, 3); ``virial`` in eV, shape (3, 3).
    """
    magnetic = (atype == NICKEL)[:, None]
    spin = np.where(magnetic, spin, 0.0)
    i, j, diff = build_pairs(coord, box)
    r = np.linalg.norm(diff, axis=1)
    phi, dphi = lattice_pair(r, atype[i], atype[j])
    coupling, dcoupling = exchange_and_slope(r)
    cosine = (spin[i] * spin[j]).sum(axis=1) / SPIN_NORM**2  # 0 unless both are Ni
    excess = ((spin**2).sum(axis=1, keepdims=True) - MOMENT2) * magnetic  # (nloc, 1)

    energy = 0.5 * (phi - coupling * cosine).sum() + LANDAU * (excess**2).sum()
    pull = ((dphi - dcoupling * cosine) / r)[:, None] * diff  # dE_pair/dr along diff
    force = np.zeros_like(coord)
    np.add.at(force, i, pull)
    force_mag = -4.0 * LANDAU * excess * spin
    np.add.at(force_mag, i, coupling[:, None] * spin[j] * magnetic[i] / SPIN_NORM**2)
    virial = -0.5 * (diff[:, :, None] * pull[:, None, :]).sum(axis=0)
    return {
        "energy": np.asarray(energy),
        "force": force,
        "force_mag": force_mag,
        "virial": virial,
    }


# --- frames ---------------------------------------------------------------------------


def rock_salt(natoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Build the ideal crystal in a cell that holds every AFM-II domain.

    Parameters
    ----------
    natoms : int
        16 or 32.

    Returns
    -------
    tuple[np.ndarray, np.ndarray, np.ndarray]
        Coordinates (Å, shape (natoms, 3)), box (Å, shape (3, 3)) and types (shape
        (natoms,)), Ni first.
    """
    box = CELLS[natoms]
    steps = np.arange(-4, 5)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 3)
    fraction = (grid * LATTICE / 2.0) @ np.linalg.inv(box)
    inside = ((fraction > -1e-6) & (fraction < 1.0 - 1e-6)).all(axis=1)
    grid = grid[inside]
    atype = grid.sum(axis=1) % 2  # an even sum of half lattice constants is Ni
    order = np.argsort(atype, kind="stable")
    return grid[order] * LATTICE / 2.0, box.copy(), atype[order]


def order_signs(coord: np.ndarray, atype: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Give each Ni of the ideal crystal its sign in the AFM-II order, O zero.

    Parameters
    ----------
    coord : np.ndarray
        Coordinates of the ideal crystal in Å, shape (nloc, 3).
    atype : np.ndarray
        Types, shape (nloc,).
    domain : np.ndarray
        Normal of the ferromagnetic planes, one row of `DOMAINS`, shape (3,).

    Returns
    -------
    np.ndarray
        +1, -1 or 0, shape (nloc,).
    """
    plane = np.rint(coord @ domain / LATTICE).astype(int)
    return np.where(atype == NICKEL, 1.0 - 2.0 * (plane % 2), 0.0)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation matrix, shape (3, 3), all rotations being equally likely."""
    w, x, y, z = unit(rng.standard_normal(4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def unit(vector: np.ndarray) -> np.ndarray:
    """Divide vectors, shape (..., n), by their length."""
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def random_spins(
    rng: np.random.Generator, coord: np.ndarray, atype: np.ndarray, order: str
) -> np.ndarray:
    """Draw the spins of one frame, turned together at random.

    Parameters
    ----------
    rng : np.random.Generator
        Random numbers.
    coord : np.ndarray
        Coordinates of the ideal crystal in Å, shape (nloc, 3).
    atype : np.ndarray
        Types, shape (nloc,).
    order : str
        A key of `DISORDER`.

    Returns
    -------
    np.ndarray
        Spins in μ_B, zero on O, shape (nloc, 3).
    """
    signs = order_signs(coord, atype, DOMAINS[rng.integers(len(DOMAINS))])
    if order == "FM":
        signs = np.abs(signs)
    share = rng.uniform(*DISORDER[order])
    noise = unit(rng.standard_normal(coord.shape))
    direction = unit((1.0 - share) * signs[:, None] * [0.0, 0.0, 1.0] + share * noise)
    width = rng.uniform(0.0, 0.08)
    length = SPIN_NORM + width * rng.standard_normal((len(coord), 1))
    spin = length * direction @ random_rotation(rng).T
    return np.where(atype[:, None] == NICKEL, spin, 0.0)


def random_frame(
    seed: int, system: int, frame: int, natoms: int
) -> dict[str, np.ndarray]:
    """Draw one frame and evaluate its labels.

    Each component of the displacements is normal with a width between 0.015 and
    0.07 Å; each component of the symmetric strain is uniform within a bound of up to
    3 %. Both bounds, the spin order and the spread of |S| differ from frame to frame.

    Parameters
    ----------
    seed, system, frame : int
        The three numbers that fix the random stream of the frame.
    natoms : int
        16 or 32.

    Returns
    -------
    dict[str, np.ndarray]
        What `evaluate` returns, and ``coord``, ``box``, ``spin``, ``type``.
    """
    rng = np.random.default_rng([seed, system, frame])
    ideal, box, atype = rock_salt(natoms)
    spin = random_spins(rng, ideal, atype, ORDERS[frame % len(ORDERS)])
    strain = rng.uniform(0.0, 0.03) * rng.uniform(-1.0, 1.0, (3, 3))
    deform = np.eye(3) + np.tril(strain) + np.tril(strain, -1).T
    width = rng.uniform(0.015, 0.07)
    shortest = 0.0
    while shortest < SHORTEST:
        coord = ideal @ deform + width * rng.standard_normal(ideal.shape)
        diff = build_pairs(coord, box @ deform)[2]
        shortest = np.linalg.norm(diff, axis=1).min()
    frame_box = box @ deform
    labels = evaluate(coord, frame_box, atype, spin)
    return {"coord": coord, "box": frame_box, "spin": spin, "type": atype, **labels}


# --- files ----------------------------------------------------------------------------


def stack_frames(
    layout: str, frames: list[dict[str, np.ndarray]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Arrange the arrays of frames as a layout wants them on disk.

    Parameters
    ----------
    layout : str
        ``spin-files`` or ``virtual-atom``.
    frames : list[dict[str, np.ndarray]]
        Frames of one system, from `random_frame`.

    Returns
    -------
    tuple[np.ndarray, dict[str, np.ndarray]]
        Types, shape (natoms,), and the array of each npy file, one row per frame.

    Raises
    ------
    ValueError
        If the layout is unknown.
    """
    arrays = {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
    atype = arrays.pop("type")[0]
    if layout == "virtual-atom":
        ni = atype == NICKEL
        spin, force_mag = arrays.pop("spin")[:, ni], arrays.pop("force_mag")[:, ni]
        virtual = arrays["coord"][:, ni] + VIRTUAL_LEN / SPIN_NORM * spin
        arrays["coord"] = np.concatenate([arrays["coord"], virtual], axis=1)
        arrays["force"] = np.concatenate([arrays["force"], force_mag], axis=1)
        atype = np.concatenate([atype, np.full(ni.sum(), OXYGEN + 1)])
    elif layout != "spin-files":
        raise ValueError(
            f"`layout` must be 'spin-files' or 'virtual-atom'. Received: {layout!r}"
        )
    nframes = len(frames)
    shapes = {"energy": (nframes,)}
    return atype, {
        key: array.reshape(shapes.get(key, (nframes, -1)))
        for key, array in arrays.items()
    }


def exchange_record() -> dict:
    """Describe the exact exchange for programs that compare a trained model with it.

    Returns
    -------
    dict
        Convention, formula, parameters, and J of the first shells of Ni.
    """
    distances = LATTICE * np.sqrt([0.5, 1.0, 1.5, 2.0])
    return {
        "version": 1,
        "convention": "E = -sum_{i<j} J(r_ij) S_i.S_j / S0^2, each pair of Ni atoms "
        "counted once (images included); J > 0 is ferromagnetic; S in mu_B",
        "formula": "J(r) = J1 h(r/r1) f(r, between) + J2 h(r/r2) (1 - f(r, between)) "
        "f(r, end); h(x) = exp(-slope (x-1) - curvature (x-1)^2); f(r, [c, d]) = "
        "1 - u^3 (10 - 15 u + 6 u^2) with u = (r-c)/(d-c) clipped to [0, 1]",
        "source": "J1, J2: Hutchings and Samuelsen, Phys. Rev. B 6, 3447 (1972), "
        "there H = J S.S with S = 1, J1 = -1.37 meV, J2 = 19.01 meV; slope: Bloch, "
        "J. Phys. Chem. Solids 27, 881 (1966)",
        "units": {"J": "eV", "r": "angstrom", "S": "mu_B"},
        "parameters": {
            "S0": SPIN_NORM,
            "J1": EXCHANGE[0],
            "J2": EXCHANGE[1],
            "r1": round(SHELLS[0], 10),
            "r2": round(SHELLS[1], 10),
            "slope": EXCHANGE_SLOPE,
            "curvature": EXCHANGE_CURVATURE,
            "between": list(BETWEEN_SHELLS),
            "end": list(EXCHANGE_END),
        },
        "lattice_constant": LATTICE,
        "shells": [
            # Rounded, so that the text does not depend on the last bit of exp.
            {
                "shell": n,
                "neighbours": count,
                "r": round(float(r), 10),
                "J": round(float(j), 10),
                "dJ_dr": round(float(slope), 10),
            }
            for n, count, r, j, slope in zip(
                (1, 2, 3, 4),
                (12, 6, 24, 12),
                distances,
                *exchange_and_slope(distances),
                strict=True,
            )
        ],
    }


def write_data(out: Path, seed: int = SEED, frames: int = FRAMES) -> None:
    """Write every system and the record of the exchange.

    Parameters
    ----------
    out : Path
        Folder to write into; existing files of the same names are replaced.
    seed : int
        Seed of the random numbers.
    frames : int
        Training frames of a 32-atom system; the others have a share of that.
    """
    for number, (name, layout, natoms, share) in enumerate(SYSTEMS):
        nframes = max(1, round(frames * share))
        folder = out / name / "set.000"
        folder.mkdir(parents=True, exist_ok=True)
        atype, arrays = stack_frames(
            layout, [random_frame(seed, number, n, natoms) for n in range(nframes)]
        )
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", np.ascontiguousarray(array))
        text = "".join(f"{t}\n" for t in atype)
        (out / name / "type.raw").write_text(text, encoding="utf-8")
        if layout == "spin-files":
            (out / name / "type_map.raw").write_text("Ni\nO\n", encoding="utf-8")
        else:
            scheme = json.dumps(SCHEME)
            (out / name / "spin_scheme.json").write_text(scheme, encoding="utf-8")
    record = json.dumps(exchange_record(), indent=2) + "\n"
    (out / "exchange.json").write_text(record, encoding="utf-8")


def largest_difference(
    out: Path, seed: int = SEED, frames: int = FRAMES
) -> tuple[float, str]:
    """Compare the files of a folder with a fresh generation.

    Parameters
    ----------
    out : Path
        Folder that `write_data` has written.
    seed, frames : int
        As for `write_data`.

    Returns
    -------
    tuple[float, str]
        Largest absolute difference of any array, and the file it is in; infinite
        for a missing file, another shape or another text.
    """
    worst = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        write_data(fresh, seed, frames)
        for path in sorted(p for p in fresh.rglob("*") if p.is_file()):
            name = str(path.relative_to(fresh))
            worst = max(worst, (file_difference(path, out / name), name))
    return worst


def file_difference(one: Path, other: Path) -> float:
    """Compare two files: largest difference, infinite if not comparable."""
    if not other.is_file():
        return np.inf
    if one.suffix != ".npy":
        same = one.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")
        return 0.0 if same else np.inf
    a, b = np.load(one), np.load(other)
    return float(np.abs(a - b).max()) if a.shape == b.shape else np.inf


# --- summary --------------------------------------------------------------------------


def crystal_summary() -> list[str]:
    """Describe the ideal crystal: magnetic states, stress, elasticity, stability."""
    coord, box, atype = rock_salt(32)
    axis = np.array([0.0, 0.0, SPIN_NORM])
    states = {
        "AFM-II": order_signs(coord, atype, DOMAINS[0]),
        "AFM-I": (atype == NICKEL) * np.cos(2 * np.pi * coord[:, 2] / LATTICE),
        "FM": (atype == NICKEL) * 1.0,
    }
    spins = {name: signs[:, None] * axis for name, signs in states.items()}
    labels = {name: evaluate(coord, box, atype, s) for name, s in spins.items()}
    ground, spin = labels["AFM-II"], spins["AFM-II"]
    above = {n: 1e3 * (x["energy"] - ground["energy"]) / 16 for n, x in labels.items()}
    volume = np.linalg.det(box)

    def stress(strain: np.ndarray) -> np.ndarray:  # -virial/volume, eV/Å^3
        deform = np.eye(3) + strain
        virial = evaluate(coord @ deform, box @ deform, atype, spin)["virial"]
        return -virial / (volume * np.linalg.det(deform))

    def stiffness(strain: np.ndarray) -> np.ndarray:  # d stress/d strain, GPa
        return (stress(1e-4 * strain) - stress(-1e-4 * strain)) / 2e-4 * GPA

    along, shear = np.zeros((3, 3)), np.zeros((3, 3))
    along[0, 0] = 1.0
    shear[0, 1] = shear[1, 0] = 0.5
    bulk = np.trace(stiffness(np.eye(3))) / 9.0
    hessian = np.empty((coord.size, coord.size))
    for k, step in enumerate(1e-4 * np.eye(coord.size).reshape(-1, *coord.shape)):
        plus = evaluate(coord + step, box, atype, spin)["force"]
        minus = evaluate(coord - step, box, atype, spin)["force"]
        hessian[k] = (minus - plus).ravel() / 2e-4
    modes = np.linalg.eigvalsh(0.5 * (hessian + hessian.T))
    residual = stress(np.zeros((3, 3)))
    mean = 1e3 * GPA * np.trace(residual) / 3.0
    lines = [
        f"ideal crystal, a = {LATTICE} A, AFM-II: "
        f"{ground['energy'] / len(coord):.4f} eV/atom",
        f"  above it: AFM-I {above['AFM-I']:.2f}, FM {above['FM']:.2f} meV per Ni",
        f"  mean stress within {abs(mean):.1f} MPa of zero, shear stress "
        f"{1e3 * GPA * residual[0, 1]:.1f} MPa",
        f"  largest force {abs(ground['force']).max():.6f} eV/A, force_mag "
        f"{abs(ground['force_mag']).max():.6f} eV/mu_B",
        f"  bulk modulus {bulk:.0f} GPa, C11 {stiffness(along)[0, 0]:.0f} GPa, "
        f"C44 {stiffness(shear)[0, 1]:.0f} GPa",
        f"  force constants: 3 zero modes, the rest {modes[3]:.2f} to "
        f"{modes[-1]:.2f} eV/A^2",
    ]
    return lines


def data_summary(out: Path) -> list[str]:
    """Tabulate the systems of a folder that `write_data` has written."""
    row = "{:<21} {:>6} {:>8} {:>6} {:>8} {:>8} {:>8} {:>12} {:>9}"
    lines = [
        row.format(
            *"folder frames energy force along across virial |S| distance".split()
        ),
        row.format("", "", "std", "rms", "rms", "rms", "rms", "range", "smallest"),
        row.format("", "", *"eV/atom eV/A eV/mu_B eV/mu_B eV/atom mu_B A".split()),
    ]
    for name, layout, natoms, _ in SYSTEMS:
        folder = out / name / "set.000"
        arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
        coord = arrays["coord"].reshape(len(arrays["energy"]), -1, 3)
        force = arrays["force"].reshape(coord.shape)
        half = natoms // 2  # Ni atoms come first
        if layout == "virtual-atom":
            spin = (coord[:, natoms:] - coord[:, :half]) * SPIN_NORM / VIRTUAL_LEN
            force_mag = force[:, natoms:]
        else:
            spin = arrays["spin"].reshape(coord.shape)[:, :half]
            force_mag = arrays["force_mag"].reshape(coord.shape)[:, :half]
        length = np.linalg.norm(spin, axis=-1)
        along = (force_mag * unit(spin)).sum(axis=-1)
        across = np.linalg.norm(force_mag - along[..., None] * unit(spin), axis=-1)
        boxes = arrays["box"].reshape(-1, 3, 3)
        shortest = min(
            np.linalg.norm(build_pairs(x, box)[2], axis=1).min()
            for x, box in zip(coord[:, :natoms], boxes, strict=True)
        )
        lines.append(
            row.format(
                name,
                len(coord),
                f"{arrays['energy'].std() / natoms:.4f}",
                f"{rms(force[:, :natoms]):.3f}",
                f"{rms(along):.3f}",
                f"{rms(across):.3f}",
                f"{rms(arrays['virial']) / natoms:.3f}",
                f"{length.min():.3f}-{length.max():.3f}",
                f"{shortest:.2f}",
            )
        )
    return lines


def rms(array: np.ndarray) -> float:
    """Take the root mean square over all components."""
    return float(np.sqrt(np.mean(array**2)))


def exchange_summary() -> list[str]:
    """Tabulate the exact exchange of the ideal crystal, one line per shell."""
    return ["exact exchange (meV, J > 0 ferromagnetic):"] + [
        f"  shell {row['shell']}: {row['neighbours']:>2} neighbours at "
        f"{row['r']:.4f} A, J = {1e3 * row['J']:+.2f}, "
        f"dJ/dr = {1e3 * row['dJ_dr']:+.2f} meV/A"
        for row in exchange_record()["shells"]
    ]


def main(argv: list[str] | None = None) -> int:
    """Write the data, check them, or describe them.

    Parameters
    ----------
    argv : list[str] or None
        Command line without the program's name; None for that of the process.

    Returns
    -------
    int
        0, or 1 if `--check` finds a difference.
    """
    parser = argparse.ArgumentParser(
        description="Write the example data of NiO, or check or describe them."
    )
    parser.add_argument("--out", type=Path, default=DATA, help="folder of the data")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument(
        "--frames",
        type=int,
        default=FRAMES,
        help=f"training frames of a 32-atom system (default: {FRAMES}); the 16-atom "
        "systems have half of it, validation systems a quarter of their training",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--check", action="store_true", help="compare the folder with a fresh run"
    )
    action.add_argument(
        "--summary", action="store_true", help="describe Hamiltonian and folder"
    )
    args = parser.parse_args(argv)
    if args.check:
        difference, name = largest_difference(args.out, args.seed, args.frames)
        where = f" in {name}" if difference else ""
        sys.stdout.write(f"largest difference {difference:.1e}{where}\n")
        return int(difference > 1e-10)
    if args.summary:
        lines = crystal_summary() + exchange_summary() + data_summary(args.out)
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    write_data(args.out, args.seed, args.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
