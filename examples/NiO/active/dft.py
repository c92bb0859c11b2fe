# SPDX-License-Identifier: Apache-2.0
"""The exact Hamiltonian of this example in the place of ABACUS.

    python dft.py FOLDER

calculates what ``dp-spin export-dft --code abacus -o FOLDER`` wrote, and leaves logs as
ABACUS does. `rattled` makes the first data, `label` gives exact labels to a system.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np

from deepspin.data.formats.stru import read_structure
from deepspin.data.formats.words import KBAR

EXACT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "generate.py"))
NAMES = ("Ni", "O")
RULE = "-" * 90


def calculate(folder: str | Path) -> int:
    """Calculate every frame below a folder; returns how many."""
    places = sorted(Path(folder).glob("frame.*"))
    for place in places:
        found = read_structure(place / "STRU")
        rows = (line.split() for line in (place / "STRU").read_text().splitlines())
        spins = [row[row.index("mag") + 1 :][:3] for row in rows if "mag" in row]
        out = place / "OUT.ABACUS"
        out.mkdir(exist_ok=True)
        log = log_of(found.symbols, found.coord, found.cell, np.array(spins, float))
        (out / "running_scf.log").write_text(log, encoding="utf-8")
    return len(places)


def log_of(
    symbols: tuple[str, ...], coord: np.ndarray, cell: np.ndarray, spin: np.ndarray
) -> str:
    """What ABACUS would write; energies in eV, stresses in kbar."""
    atype = np.array([NAMES.index(symbol) for symbol in symbols])
    exact = EXACT["evaluate"](coord, cell, atype, spin)
    text = " lattice constant (Angstrom) = 1\n"
    for t, name in enumerate(NAMES):
        own = spin[atype == t]
        text += f" READING ATOM TYPE {t + 1}\n atom label = {name}\n"
        text += f" number of atom for this type = {len(own)}\n"
        for k, (x, y, z) in enumerate(own):
            atom = f" (atom{k + 1})" if k else ""
            text += f" magnetization of element {t + 1}{atom} = [ {x}, {y}, {z} ]\n"
    text += (
        f"\n TOTAL ATOM NUMBER = {len(atype)}\nDIRECT COORDINATES\n atom x y z mag\n"
    )
    for symbol, row in zip(symbols, coord @ np.linalg.inv(cell), strict=True):
        text += f"taud_{symbol} {_row(row)} 0\n"
    text += f"\n PW ALGORITHM --------------- ION=   1  ELEC=   1{RULE}\n"
    text += f" E_KohnSham     {exact['energy'] / 13.605698:.10f}"
    text += f"     {exact['energy']:.10f}\n"
    text += _table("Total Magnetism (uB)", symbols, spin)
    text += _table("Magnetic force (eV/uB)", symbols, exact["force_mag"])
    text += f" charge density convergence is achieved\n final etot is {exact['energy']}"
    text += " eV\n" + _table("TOTAL-FORCE (eV/Angstrom)", symbols, exact["force"])
    stress = exact["virial"] / abs(np.linalg.det(cell)) / KBAR
    text += _table("TOTAL-STRESS (KBAR)", ("", "", ""), (stress + stress.T) / 2)
    return f"{text} Total  Time  : 0 h 0 mins 0 secs \n"


def _row(values: np.ndarray) -> str:
    return "".join(f"{value:20.10f}" for value in values)


def _table(title: str, names: tuple[str, ...], rows: np.ndarray) -> str:
    lines = "".join(f"{n:>26}{_row(r)}\n" for n, r in zip(names, rows, strict=True))
    return f"{RULE}\n {title}\n{RULE}\n{lines}{RULE}\n\n"


def rattled(folder: str | Path, number: int, width: float, seed: int) -> None:
    """Write frames near the antiferromagnetic ground state, with exact labels."""
    rng = np.random.default_rng(seed)
    ideal, cell, atype = EXACT["rock_salt"](16)
    signs = EXACT["order_signs"](ideal, atype, EXACT["DOMAINS"][0])[:, None]
    size = (number, *ideal.shape)
    spin = signs * [0.0, 0.0, EXACT["SPIN_NORM"]]
    spin = spin + 3 * width * rng.normal(size=size) * np.abs(signs)
    strain = np.eye(3) + width / 10 * rng.normal(size=(number, 3, 3))
    write(
        Path(folder),
        atype,
        ideal @ strain + width * rng.normal(size=size),
        cell @ strain,
        spin,
    )


def label(source: str | Path, target: str | Path) -> None:
    """Write a system anew, with exact labels."""
    atype = np.loadtxt(Path(source) / "type.raw", dtype=int)
    names = (Path(source) / "type_map.raw").read_text(encoding="utf-8").split()
    atype = np.array([NAMES.index(names[t]) for t in atype])
    place = Path(source) / "set.000"
    coord, cell, spin = (np.load(place / f"{n}.npy") for n in ("coord", "box", "spin"))
    shape = (len(coord), -1, 3)
    write(Path(target), atype, *(a.reshape(shape) for a in (coord, cell, spin)))


def write(
    folder: Path,
    atype: np.ndarray,
    coord: np.ndarray,
    cell: np.ndarray,
    spin: np.ndarray,
) -> None:
    """Write a system of Ni and O."""
    labels = [
        EXACT["evaluate"](c, b, atype, s)
        for c, b, s in zip(coord, cell, spin, strict=True)
    ]
    arrays = {name: np.stack([own[name] for own in labels]) for name in labels[0]}
    arrays |= {"coord": coord, "box": cell, "spin": spin}
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "type.raw", atype, fmt="%d")
    (folder / "type_map.raw").write_text("Ni\nO\n", encoding="utf-8")
    for name, values in arrays.items():
        rows = values if name == "energy" else values.reshape(len(coord), -1)
        np.save(folder / "set.000" / f"{name}.npy", rows)


def write_frames(folder: str | Path, types: list[int], frames: list) -> None:
    """Write ASE's atoms with spins as a system without labels."""
    place = Path(folder) / "set.000"
    place.mkdir(parents=True, exist_ok=True)
    np.savetxt(Path(folder) / "type.raw", types, fmt="%d")
    (Path(folder) / "type_map.raw").write_text("Ni\nO\n", encoding="utf-8")
    spins = [atoms.get_initial_magnetic_moments() for atoms in frames]
    for name, values in (
        ("coord", [atoms.positions for atoms in frames]),
        ("box", [atoms.cell.array for atoms in frames]),
        ("spin", spins),
    ):
        np.save(place / f"{name}.npy", np.reshape(values, (len(frames), -1)))


if __name__ == "__main__":
    sys.stdout.write(f"calculated {calculate(sys.argv[1])} frames\n")
