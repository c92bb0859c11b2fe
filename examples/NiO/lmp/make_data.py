# SPDX-License-Identifier: Apache-2.0
"""Write `nio.data`: antiferromagnetic NiO with disturbed spins and positions.

python make_data.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LATTICE, SPIN = 4.17, 1.2737  # lattice constant in Å, moduli of the spins in μ_B
MASSES = (("Ni", 58.6934), ("O", 15.999))
DISPLACEMENT, DISORDER = 0.03, 0.3  # of positions in Å, of directions of unit length
SEED = 1972


def rock_salt(repeat: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Build the crystal in the antiferromagnetic order of type II.

    Parameters
    ----------
    repeat : sequence of 3 int
        Cubic cells along x, y and z; only even numbers hold the order.

    Returns
    -------
    tuple[np.ndarray, np.ndarray, np.ndarray]
        Coordinates in Å, shape (nloc, 3); types from 1 on, Ni first, shape (nloc,);
        signs of the spins, 0 on O, shape (nloc,).
    """
    steps = [np.arange(2 * n) for n in repeat]
    site = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    plane = site.sum(axis=1)  # {111} planes: Ni, O, Ni with the opposite spin, O
    oxygen = plane % 2
    order = np.argsort(oxygen, kind="stable")
    sign = np.where(oxygen, 0, 1 - plane % 4)
    return site[order] * LATTICE / 2, 1 + oxygen[order], sign[order]


def write_data(output: Path, repeat: Sequence[int]) -> None:
    """Write a data file of `atom_style spin` with type labels.

    Parameters
    ----------
    output : Path
        File to write.
    repeat : sequence of 3 int
        Cubic cells along x, y and z, even numbers.
    """
    rng = np.random.default_rng(SEED)
    coord, atype, sign = rock_salt(repeat)
    coord = coord + DISPLACEMENT * rng.normal(size=coord.shape)
    spin = sign[:, None] * [0.0, 0.0, 1.0] + DISORDER * rng.normal(size=coord.shape)
    # LAMMPS normalises directions, also of atoms without a spin: 0 0 0 would be NaN
    spin = np.where(sign[:, None] != 0, spin, [0.0, 0.0, 1.0])
    spin /= np.linalg.norm(spin, axis=1, keepdims=True)
    lines = [
        "NiO, antiferromagnet of type II with disturbed spins and positions",
        "",
        f"{len(coord)} atoms",
        "2 atom types",
        *(
            f"0 {n * LATTICE:.10g} {axis}lo {axis}hi"
            for n, axis in zip(repeat, "xyz", strict=True)
        ),
        "",
        "Atom Type Labels",
        "",
        *(f"{t} {name}" for t, (name, _) in enumerate(MASSES, start=1)),
        "",
        "Masses",
        "",
        *(f"{name} {mass}" for name, mass in MASSES),
        "",
        "Atoms # spin",  # number, type, position, direction and modulus of the spin
        "",
    ]
    moduli = SPIN * np.abs(sign)
    for k, row in enumerate(zip(coord, spin, moduli, strict=True)):
        numbers = " ".join(f"{x:.6f}" for x in np.hstack(row))
        lines.append(f"{k + 1} {MASSES[atype[k] - 1][0]} {numbers}")
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("nio.data"))
    parser.add_argument(
        "--repeat",
        type=int,
        nargs="+",
        default=[2],
        help="cubic cells a side, or along x, y and z (default: 2)",
    )
    args = parser.parse_args()
    repeat = args.repeat * 3 if len(args.repeat) == 1 else args.repeat
    if len(repeat) != 3 or any(n < 2 or n % 2 for n in repeat):
        parser.error(
            "--repeat must be one even number or three, for the order. Received: "
            f"{args.repeat}"
        )
    write_data(args.output, repeat)


if __name__ == "__main__":
    main()
