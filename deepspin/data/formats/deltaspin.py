# SPDX-License-Identifier: Apache-2.0
"""VASP with DeltaSpin: moments and magnetic forces of spin-constrained calculations.

The first DeltaSpin, in VASP 5, writes both into OSZICAR; what is read as energy is that
of OUTCAR less the penalty ``E_p``. VASP 6 writes tables into OUTCAR, of the constrained
atoms only. Numbers are read as they are written: ``dp-spin check-data`` tells sign and
factor. Energies are free energies (``TOTEN``), whose derivatives the forces are; the
stress (``in kB``) is positive under pressure, so the virial is the volume times it.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.data.formats.words import (
    CUT,
    UNCONVERGED,
    UNMET,
    Lines,
    defect,
    number,
    numbers,
    virial_of,
)

NAME = "deltaspin"
DESCRIPTION = "VASP with DeltaSpin: OUTCAR, and OSZICAR of the first version"

# moments are at their targets to so many times SCDIFF of INCAR (μ_B), to which the
# inner loop works before a last electronic step; and its default
MET, SCDIFF = 10.0, 1e-6
_OLD, _NEW = b"MW_current", (b"DeltaSpin", b"DELTASPIN")
_ITERATION = re.compile(r"Iteration\s+(\d+)\(\s*(\d+)\s*\)")
_DEFINITION = re.compile(rb"DELTASPIN_MOMENT_DEF\s*=\s*(\d+)")
_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:E[-+]\d+)?")
_TOTEN = "free  energy   TOTEN"
_PARTLY = "moments of some atoms are not written, of a type of which others are"


def matches(path: Path) -> bool:
    """Whether this is a folder, or an OUTCAR, of a calculation with DeltaSpin."""
    file = path / "OUTCAR" if path.is_dir() else path
    if not file.name.startswith("OUTCAR") or not file.is_file():
        return False
    return _is_old(file) or _holds(file, *_NEW)


def read(path: Path) -> Iterator[Frame | Dropped]:
    """Read the ionic steps of a calculation.

    Parameters
    ----------
    path : Path
        OUTCAR, or the folder that has it; OSZICAR of the first DeltaSpin stands beside.

    Yields
    ------
    Frame or Dropped
        One for each ionic step, in order, as the file is read.

    Raises
    ------
    DataError
        Files do not belong together, or moments of two definitions are mixed.
    """
    file = path / "OUTCAR" if path.is_dir() else path
    old = _Oszicar(file.parent) if _is_old(file) else None
    outcar = _Outcar(file)
    for step in outcar:
        place = f"step {step.number} of '{file}'"
        last = step is outcar.last and not outcar.ended
        if old is not None:
            old.add_to(step)
        reason = outcar.reason(step, last) or defect(step.arrays)
        if reason is not None:
            yield Dropped(place, reason)
            continue
        arrays = dict(step.arrays)
        coord, cell = arrays.pop("coord"), arrays.pop("cell")
        if "stress" in arrays:
            arrays["virial"] = virial_of(arrays.pop("stress"), cell)
        yield Frame(place, outcar.symbols, coord, cell, arrays)


def check_alike(paths: Sequence[Path]) -> None:
    """Refuse calculations whose moments are defined in different ways.

    Parameters
    ----------
    paths : sequence of Path
        OUTCARs of one data set, or their folders. Others are passed over.

    Raises
    ------
    DataError
        ``DELTASPIN_MOMENT_DEF`` is not the same in all that have it.
    """
    known: dict[str, Path] = {}
    for path in paths:
        file = path / "OUTCAR" if path.is_dir() else path
        if file.is_file() and file.name.startswith("OUTCAR"):
            for found in _definitions(file):
                known.setdefault(found, path)
    if len(known) > 1:
        (one, first), (other, second) = list(known.items())[:2]
        raise DataError(
            f"'{first}' has moments of DELTASPIN_MOMENT_DEF = {one}, '{second}' of "
            f"{other}: these are different quantities and must not be in one data set. "
            "Keep those of one definition."
        )


def _definitions(file: Path) -> list[str]:
    with open(file, "rb") as stream:
        if not file.stat().st_size:
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = _DEFINITION.findall(text)
    return list(dict.fromkeys(value.decode() for value in found))


def _is_old(outcar: Path) -> bool:
    oszicar = outcar.parent / "OSZICAR"
    return oszicar.is_file() and _holds(oszicar, _OLD)


def _holds(file: Path, *words: bytes) -> bool:
    if not file.stat().st_size:
        return False
    with open(file, "rb") as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return any(text.find(word) >= 0 for word in words)


@dataclass
class _Step:
    """What is told of one ionic step."""

    number: int
    electronic: int = 0
    edge: bool | None = None  # whether EDIFF is reached
    status: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    named: frozenset[int] = frozenset()  # atoms whose moments are told
    unmet: bool = False


class _Outcar:
    """The steps of OUTCAR, told apart by its count of iterations."""

    def __init__(self, file: Path):
        self.file = file
        self.elements: list[str] = []
        self.counts: list[int] = []
        self.nelm = 60
        self.definition: str | None = None
        self.cell: np.ndarray | None = None
        self.ended, self.last = False, _Step(0)
        self.with_tables = False

    @property
    def symbols(self) -> tuple[str, ...]:
        pairs = zip(self.elements, self.counts, strict=False)
        return tuple(name for name, n in pairs for _ in range(n))

    def __iter__(self) -> Iterator[_Step]:
        step: _Step | None = None
        with open(self.file, encoding="utf-8", errors="replace") as stream:
            lines = Lines(stream)
            for line in lines:
                found = _ITERATION.search(line) if "Iteration" in line else None
                if found is not None:
                    ionic, electronic = map(int, found.groups())
                    if step is None or step.number != ionic:
                        if step is not None:
                            yield step
                        step = _Step(ionic)
                    step.electronic = electronic
                elif step is None:
                    self._head(line, lines)
                else:
                    self._body(line, lines, step)
        if step is not None:
            self.last = step
            yield step

    def _head(self, line: str, lines: Lines) -> None:
        if "VRHFIN" in line:
            self.elements.append(line.partition("=")[2].partition(":")[0].strip())
        elif "ions per type" in line:
            self.counts = [int(word) for word in line.partition("=")[2].split()]
        elif "NELM " in line and (found := re.search(r"NELM\s*=\s*(\d+)", line)):
            self.nelm = int(found[1])
        self._cell(line, lines)

    def _cell(self, line: str, lines: Lines) -> None:
        if "direct lattice vectors" in line:
            rows = [_NUMBER.findall(next(lines, ""))[:3] for _ in range(3)]
            if all(len(row) == 3 for row in rows):
                self.cell = np.array(rows, dtype=float)

    def _body(self, line: str, lines: Lines, step: _Step) -> None:
        arrays = step.arrays
        if "TOTAL-FORCE (eV/Angst)" in line:
            rows = lines.rows(len(self.symbols), label=0)
            table = np.array([row for row in rows if len(row) == 6]).reshape(-1, 6)
            arrays["coord"], arrays["force"] = table[:, :3], table[:, 3:]
            if self.cell is not None:
                arrays["cell"] = self.cell
        elif _TOTEN in line:
            arrays["energy"] = np.array(number(line.partition("=")[2].split()[0]))
        elif line.split()[:2] == ["in", "kB"]:
            found = numbers(line.split()[2:8])
            if len(found) == 6:  # xx, yy, zz, xy, yz, zx
                arrays["stress"] = np.array(found)[[[0, 3, 5], [3, 1, 4], [5, 4, 2]]]
        elif "aborting loop" in line:
            step.edge = "is reached" in line
        elif "General timing and accounting" in line:
            self.ended = True
        elif "DELTASPIN_MOMENT_DEF" in line:
            self._define(line)
        elif ":" in line and line.strip().startswith(
            ("SCF convergence", "Moment constraint", "Maximum moment", "Requested tol")
        ):
            name, _, value = line.partition(":")
            step.status[name.strip()] = value.strip()
        elif line.split()[:3] == ["ion", "elem", "cx"]:
            self._moments(line, lines, step)
        else:
            self._cell(line, lines)

    def _define(self, line: str) -> None:
        """Moments of one OUTCAR are of one definition."""
        value = line.partition("=")[2].split()[:1]
        if self.definition not in (None, *value):
            raise DataError(
                f"'{self.file}' has moments of DELTASPIN_MOMENT_DEF = "
                f"{self.definition} and {value[0]}, which are different quantities. "
                "Keep the output of one calculation."
            )
        self.definition = value[0] if value else self.definition

    def _moments(self, line: str, lines: Lines, step: _Step) -> None:
        """Table of moments, or of magnetic forces, of the constrained atoms."""
        name = "force_mag" if "MFx" in line else "spin"
        symbols = self.symbols
        table = np.zeros((len(symbols), 3))
        named = set()
        next(lines, None)  # the rule
        for row in lines:
            words = row.split()
            if len(words) < 8 or not words[0].isdigit():
                break
            atom = int(words[0]) - 1
            if not 0 <= atom < len(symbols) or words[1] != symbols[atom]:
                raise DataError(
                    f"'{self.file}' has '{row.strip()}' among its moments, but its "
                    f"atoms are {' '.join(symbols)}. Keep the output of one "
                    "calculation."
                )
            named.add(atom)
            table[atom] = numbers(words[5:8])
        else:  # nothing follows: the file ends here
            return
        step.named = step.named & named if step.named else frozenset(named)
        step.arrays[name] = table
        self.with_tables = True

    def reason(self, step: _Step, last: bool) -> str | None:
        """Why a step cannot be learnt from, if so."""
        arrays, status = step.arrays, step.status
        needed = {"energy", "coord", "force", "cell", "spin", "force_mag"}
        if step.edge is False or status.get("SCF convergence", "reached") != "reached":
            return UNCONVERGED
        if not needed <= set(arrays) or len(arrays["coord"]) != len(self.symbols):
            return CUT if last else "it has no energy, forces or moments"
        if step.edge is None and not status and step.electronic >= self.nelm:
            return UNCONVERGED
        if self.with_tables and self._is_unmet(status):
            return UNMET
        if step.unmet:
            return UNMET
        told = {self.symbols[atom] for atom in step.named}
        for atom, symbol in enumerate(self.symbols):
            if self.with_tables and symbol in told and atom not in step.named:
                return _PARTLY
        return None

    @staticmethod
    def _is_unmet(status: dict[str, str]) -> bool:
        error, tolerance = (
            number(status.get(name, "nan").split()[0])
            for name in ("Maximum moment error", "Requested tolerance")
        )
        # both are printed with five digits
        return (
            status.get("Moment constraint") != "reached" or error > 1.0001 * tolerance
        )


class _Oszicar:
    """Moments, magnetic forces and penalties of each ionic step, of OSZICAR."""

    def __init__(self, folder: Path):
        self.allowed = MET * _scdiff(folder / "INCAR")
        self.blocks = self._read(folder / "OSZICAR")

    def add_to(self, step: _Step) -> None:
        """Give a step of OUTCAR what OSZICAR says of it."""
        block = next(self.blocks, {})
        here = len(step.arrays.get("coord", ()))
        if any(len(block.get(name, ())) != here for name in ("spin", "force_mag")):
            return
        step.arrays["spin"], step.arrays["force_mag"] = (
            block["spin"],
            block["force_mag"],
        )
        if "energy" in step.arrays and "penalty" in block:
            step.arrays["energy"] = step.arrays["energy"] - block["penalty"]
        else:
            step.arrays.pop("energy", None)
        off = np.abs(block["off"]) > self.allowed
        step.unmet = bool((off & (block["force_mag"] != 0)).any())

    @staticmethod
    def _read(file: Path) -> Iterator[dict[str, np.ndarray]]:
        block: dict[str, np.ndarray] = {}
        with open(file, encoding="utf-8", errors="replace") as stream:
            lines = Lines(stream)
            for line in lines:
                if "E_p" in line:
                    penalty = line.partition("=")[2].split()[:1]
                    block["penalty"] = np.array(numbers(penalty)).sum()
                elif "MW_current" in line:
                    table = _table(lines, 6)
                    block["spin"], block["off"] = table[:, :3], table[:, 3:]
                elif "Magnetic Force" in line:
                    block["force_mag"] = _table(lines, 6)[:, 3:]
                elif re.match(r"\s*\d+ F=", line):
                    yield block
                    block = {}


def _table(lines: Lines, width: int) -> np.ndarray:
    """Rows of a number of an atom and `width` more, until another line."""
    rows = []
    for line in lines:
        words = line.split()
        if len(words) != width + 1 or not words[0].isdigit():
            lines.back(line)
            break
        rows.append(numbers(words[1:]))
    return np.array(rows).reshape(-1, width)


def _scdiff(incar: Path) -> float:
    """SCDIFF, to which moments are brought to their targets."""
    text = (
        incar.read_text(encoding="utf-8", errors="replace") if incar.is_file() else ""
    )
    found = re.search(r"^\s*SCDIFF\s*=\s*(\S+)", text, re.MULTILINE)
    return max(number(found[1]) if found else SCDIFF, SCDIFF)
