# SPDX-License-Identifier: Apache-2.0
"""What each kind of file keeps of a system: ``python tests/round_trips.py``.

Writes the table of ``doc/formats.md`` anew; `tests/cli/test_formats.py` compares.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import small_data

PAGE = Path(__file__).parents[1] / "doc" / "formats.md"
BEGIN, END = "<!-- round trips -->\n", "<!-- end of round trips -->\n"
MODEL = ["--virtual-len", "0.4", "--spin-norm", "1.2737"]
# what the output is called, and other options
KINDS = {
    "npy": ("npy", []),
    "HDF5": ("data.h5", []),
    "raw": ("raw", ["--to", "raw"]),
    "mixed": ("mixed", ["--to", "mixed"]),
    "virtual atoms": ("virtual", ["--layout", "virtual-atom", *MODEL]),
    "extended XYZ": ("data.extxyz", []),
    "ASE `.traj`": ("data.traj", []),
}
ROWS = (
    *("coord", "box", "spin", "energy", "force", "force_mag", "virial", "atom_ener"),
    *("fparam", "names of types", "sets", "float32", "files of other names"),
)


def write_source(folder: Path) -> Path:
    """A system with all arrays, in two sets, one of them of float32."""
    rng = np.random.default_rng(0)
    for part, dtype in (("set.000", np.float64), ("set.001", np.float32)):
        arrays, types = small_data.frames(3)
        arrays["virial"] = rng.normal(size=(3, 9))
        arrays["atom_ener"] = rng.normal(size=(3, 8))
        arrays["fparam"] = rng.normal(size=(3, 2))
        arrays["aparam"] = rng.normal(size=(3, 8))
        small = {name: array.astype(dtype) for name, array in arrays.items()}
        small_data.write(folder, small, types, part=part)
    return folder


def kept(source: str, path: str) -> list[str]:
    """What of each row of the table a copy holds."""
    from deepspin.data import layouts
    from deepspin.data.find import find_systems
    from deepspin.data.systems import load_system
    from deepspin.spins.virtual import VirtualAtoms

    scheme = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    (place,) = find_systems(path)
    one, other = (load_system(p, ["Ni", "O"], scheme) for p in (source, place))
    cells = [_cell(getattr(one, n), getattr(other, n)) for n in ROWS[:3]]
    cells += [_cell(one.labels[n], other.labels.get(n)) for n in ROWS[3:8]]
    cells.append(_cell(one.fparam, other.fparam))
    copy = layouts.copy(place)
    words = "".join([*copy.words.get("type_map.raw", ()), *copy.words])
    cells.append("kept" if "Ni" in words or "spin_scheme" in words else "lost")
    cells.append("kept" if len(copy.sets) == 2 else "become one")
    dtypes = {arrays["energy"].dtype.name for arrays in copy.sets.values()}
    cells.append("kept" if "float32" in dtypes else "the same numbers, as float64")
    names = {name for arrays in copy.sets.values() for name in arrays}
    cells.append("kept" if "aparam" in names else "lost, and said")
    return cells


def _cell(one: np.ndarray, other: np.ndarray | None) -> str:
    if other is None or other.size != one.size:
        return "lost"
    worst = np.abs(one - other).max()
    if worst == 0:
        return "bit for bit"
    return f"to {10.0 ** np.ceil(np.log10(worst)):.0e}"


def table(folder: Path) -> str:
    """The table, measured."""
    from deepspin.main import main

    source, columns = str(write_source(folder / "source")), {}
    for kind, (name, options) in KINDS.items():
        output = str(folder / name)
        if main(["convert-data", source, "-o", output, *options]):
            raise SystemExit(1)
        columns[kind] = cells = kept(source, output)
        if kind == "virtual atoms":
            back = str(folder / "back")
            main(["convert-data", output, "-o", back, "--layout", "spin-files"])
            for row, again in enumerate(kept(source, back)[:9]):
                if cells[row] != "bit for bit":
                    cells[row] += f"; back, {again}"
    lines = [f"| array | {' | '.join(columns)} |", "| --- " * (len(KINDS) + 1) + "|"]
    for row, name in enumerate(ROWS):
        cells = [column[row] for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        text = PAGE.read_text("utf-8")
        head, rest = text.split(BEGIN)
        tail = rest.split(END)[1]
        PAGE.write_text(f"{head}{BEGIN}{table(Path(made))}{END}{tail}", "utf-8")
