# SPDX-License-Identifier: Apache-2.0
"""ABACUS: the log of a calculation, beside its INPUT and STRU.

Numbers are read as they are written, and brought into our units. What is printed as
magnetic force has the sign and the factor that this version of ABACUS gives it, which
``dp-spin check-data`` tells; energies are those of the last electronic step
(``E_KohnSham``), without the constraint. The stress that ABACUS prints is positive
under pressure, so the virial is the volume times it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.data.formats.stru import (
    Structure,
    read_settings,
    read_structure,
    read_targets,
)
from deepspin.data.formats.words import (
    CUT,
    UNCONVERGED,
    UNMET,
    Lines,
    defect,
    numbers,
    virial_of,
)

log = logging.getLogger(__name__)

NAME = "abacus"
DESCRIPTION = "ABACUS: INPUT, STRU and OUT.*/running_*.log of scf, relax and md"

LOG = re.compile(r"running_(scf|relax|cell-relax|md)\.log")
RYDBERG = 13.605698  # eV, as ABACUS has it
# moments are at their targets to so many times `sc_thr`, to which the inner loop works
# before a last electronic step; μ_B, and its default
MET, THRESHOLD = 10.0, 1e-4
# STRU and log are of one calculation if they agree to this: log has 6 digits
SAME = 2e-5
_STEP = re.compile(r"\bION(?: MOVE#)?\s*=?\s*(\d+)\s*#?\s*ELEC(?: ITER#)?\s*=?\s*(\d+)")
_NO_POSITIONS = "its positions are not written"


def matches(path: Path) -> bool:
    """Whether this is a folder of ABACUS with a log, or such a log."""
    if path.is_dir():
        return bool(_logs(path))
    return LOG.fullmatch(path.name) is not None and path.is_file()


def read(path: Path) -> Iterator[Frame | Dropped]:
    """Read the ionic steps of a calculation.

    Parameters
    ----------
    path : Path
        Folder with ``INPUT``, ``STRU`` and ``OUT.*``, or a ``running_*.log`` of its
        ``OUT.*``.

    Yields
    ------
    Frame or Dropped
        One for each ionic step, in order, as the file is read.

    Raises
    ------
    DataError
        Files are missing, or they are not those of one calculation.
    """
    file, settings, structure = _calculation(path)
    yield from _Log(file, settings, structure)


# --- The files of a calculation -------------------------------------------------------


def _logs(folder: Path) -> list[Path]:
    found = [*folder.glob("running_*.log"), *folder.glob("OUT.*/running_*.log")]
    return sorted(file for file in found if LOG.fullmatch(file.name))


def _calculation(path: Path) -> tuple[Path, dict[str, str], Structure | None]:
    """Log, INPUT and STRU that belong together."""
    top = path if path.is_dir() else path.parent
    top = top.parent if top.name.startswith("OUT.") else top
    settings = read_settings(top / "INPUT")
    file = path if path.is_file() else _chosen(path, settings)
    stru = top / settings.get("stru_file", "STRU")
    return file, settings, read_structure(stru) if stru.is_file() else None


def _chosen(folder: Path, settings: dict[str, str]) -> Path:
    found = _logs(folder)
    if settings:
        name = f"running_{settings.get('calculation', 'scf')}.log"
        own = folder / f"OUT.{settings.get('suffix', 'ABACUS')}" / name
        found = [own] if own in found else found
    if len(found) != 1:
        names = ", ".join(str(f.relative_to(folder)) for f in found)
        raise DataError(
            f"'{folder}' has several logs of ABACUS and no INPUT that says which is "
            f"meant: {names}. Name one of them."
        )
    return found[0]


# --- The log --------------------------------------------------------------------------


@dataclass
class _Step:
    """What the log says of one ionic step."""

    number: int
    coord: np.ndarray | None = None
    cell: np.ndarray | None = None
    energy: float | None = None
    converged: bool | None = None
    tables: dict[str, np.ndarray] = field(default_factory=dict)


class _Log:
    """The steps of a log, told apart by the counter of its ionic steps."""

    def __init__(
        self, file: Path, settings: dict[str, str], structure: Structure | None
    ):
        self.file, self.settings, self.structure = file, settings, structure
        self.kind = str(LOG.fullmatch(file.name)[1])  # type: ignore[index]
        self.labels: list[str] = []
        self.counts: list[int] = []
        self.starts: dict[tuple[int, int], list[float]] = {}
        self.scale = 1.0
        self.natoms = 0
        self.step: _Step | None = None
        self.md_step: int | None = None
        self.coord: tuple[str, np.ndarray] | None = None  # of the next step
        self.cell: np.ndarray | None = None
        self.first_cell: np.ndarray | None = None
        self.ended = self.warned = False
        self.expected: set[str] = set()
        self.judged: np.ndarray | None = None
        self.dump: Iterator[_Dumped] = iter(())
        self.dumped: _Dumped | None = None
        self.read = {
            "Total": self._magnetism,
            "Magnetic": self._magnetic_force,
            "TOTAL-FORCE": self._force,
            "TOTAL-STRESS": self._stress,
            "E_KohnSham": self._energy,
            "FINAL_ETOT_IS": self._final,
            "final": self._final,
            "charge": self._convergence,
            "convergence": self._convergence,
            "SCF": self._convergence,
            "PW": self._iteration,
            "LCAO": self._iteration,
            "ION": self._iteration,
            "STEP": self._md_step,
            "DIRECT": self._coordinates,
            "CARTESIAN": self._coordinates,
            "Lattice": self._lattice,
            "lattice": self._constant,
            "atom": self._label,
            "Atom": self._label,
            "number": self._count,
            "Number": self._count,
            "magnetization": self._start,
            "Magnetization": self._start,
        }

    def __iter__(self) -> Iterator[Frame | Dropped]:
        with open(self.file, encoding="utf-8", errors="replace") as stream:
            self.lines = Lines(stream)
            for line in self.lines:
                word = line.split(None, 2)[:2]
                if not word:
                    continue
                key = word[0].strip("#!->") or word[-1].strip("#!")
                handler = self.read.get(key)
                done = handler(line) if handler is not None else None
                if done is not None:
                    yield self._finished(done, last=False)
        if self.step is not None:
            yield self._finished(self.step, last=not self.ended)

    # what stands before the first step

    def _label(self, line: str) -> None:
        name, _, value = line.partition("=")
        if name.strip().lower() in ("atom label", "atom label for species"):
            self.labels.append(value.strip())

    def _count(self, line: str) -> None:
        name, _, value = line.partition("=")
        if re.fullmatch(r"number of atoms? for this type", name.strip().lower()):
            self.counts.append(int(value))

    def _start(self, line: str) -> None:
        """Initial moment of the first atom of a type, or of one that differs."""
        name, _, value = line.partition("=")
        atom = re.search(r"\(atom(\d+)\)", name)
        found = numbers(value.replace(",", " ").strip(" []\n").split())
        vector = found if len(found) == 3 else [0.0, 0.0, *found]
        which = int(atom[1]) - 1 if atom else 0
        self.starts[len(self.labels) - 1, which] = vector

    def _constant(self, line: str) -> None:
        name, _, value = line.lower().partition("=")
        if "angstrom" in name:
            self.scale = float(value)

    def _lattice(self, line: str) -> None:
        if "in unit of a_0" in line:
            rows = self.lines.rows(3, label=0)
            if len(rows) == 3:
                self.cell = self.scale * np.array(rows)

    def _coordinates(self, line: str) -> None:
        if "COORDINATES" not in line:
            return
        rows = self.lines.rows(self._number_of_atoms(), label=1, width=3)
        if rows:
            self.coord = (line.split()[0].lower(), np.array(rows))

    def _number_of_atoms(self) -> int:
        return sum(self.counts) or len(self.structure.symbols if self.structure else ())

    # what stands in a step

    def _md_step(self, line: str) -> None:
        found = re.search(r"MOLECULAR DYNAMICS\s*#?\s*:?\s*(\d+)", line)
        if found:
            self.md_step = int(found[1])

    def _iteration(self, line: str) -> _Step | None:
        found = _STEP.search(line)
        if found is None:
            return None
        ion, electronic = map(int, found.groups())
        if self.step is not None and self.step.number == ion and electronic > 1:
            return None
        done, first = self.step, self.step is None
        if first:
            self._begin()
        self.step = _Step(ion)
        if self.kind == "md":
            number = ion - 1 if self.md_step is None else self.md_step
            self.step.number, self.md_step = ion, None
            self._take_dump(number)
        else:
            self._take_positions(first)
        return done

    def _energy(self, line: str) -> None:
        words = line.split()
        if self.step is not None and len(words) > 2:
            self.step.energy = numbers(words[2:3])[0]

    def _final(self, line: str) -> None:
        found = re.search(r"(?:etot is|ETOT_IS)\s+(\S+)\s+eV", line)
        if found and self.step is not None and self.step.energy is None:
            self.step.energy = numbers([found[1]])[0]

    def _convergence(self, line: str) -> None:
        if self.step is None or ("onverge" not in line and "CONVERGED" not in line):
            return
        if re.search(r"\bnot\b", line, re.IGNORECASE):
            self.step.converged = False
        elif "achieved" in line or "IS CONVERGED" in line:
            self.step.converged = True

    def _magnetism(self, line: str) -> None:
        if "Magnetism (uB" in line:
            self._table("spin", 1.0)
        elif re.match(r"\s*Total\s+Time\s*:", line):
            self.ended = True

    def _magnetic_force(self, line: str) -> None:
        if "force (eV/uB)" in line or "force (Ry/uB)" in line:
            self._table("force_mag", RYDBERG if "(Ry" in line else 1.0)

    def _force(self, line: str) -> None:
        if "eV/Angstrom" not in line:
            raise DataError(
                f"'{self.file}' has forces in another unit than eV/Angstrom: "
                f"{line.strip()}. Calculate without changing it."
            )
        self._table("force", 1.0)

    def _stress(self, line: str) -> None:
        if "(kbar)" not in line.lower():
            raise DataError(
                f"'{self.file}' has stresses in another unit than kbar: "
                f"{line.strip()}. Calculate without changing it."
            )
        rows = self.lines.rows(3, label=0)
        if self.step is not None:
            self.step.tables["stress"] = np.array(rows)

    def _table(self, name: str, unit: float) -> None:
        rows = self.lines.rows(self.natoms or self._number_of_atoms(), label=1)
        if self.step is not None:
            widths = {len(row) for row in rows}
            if widths == {1}:  # along z
                rows = [[0.0, 0.0, *row] for row in rows]
            whole = widths in ({1}, {3})
            self.step.tables[name] = unit * np.array(rows if whole else [])

    # from these to frames

    def _begin(self) -> None:
        """Settle what all steps share."""
        if self.labels and len(self.labels) == len(self.counts):
            pairs = zip(self.labels, self.counts, strict=True)
            self.symbols = tuple(label for label, n in pairs for _ in range(n))
        elif self.structure is not None:
            self.symbols = self.structure.symbols
        else:
            raise DataError(
                f"'{self.file}' does not name its atoms, and there is no STRU beside "
                "it. Keep the log in the folder OUT.* of its calculation."
            )
        self.natoms = len(self.symbols)
        if self.kind == "md":
            self.dump = _read_dump(self.file.parent / "MD_dump")
        self.judged = self._targets()

    def _targets(self) -> np.ndarray | None:
        """Moments that constraints ask for (nloc, 3), if they are known."""
        if "sc_file" in self.settings:
            top = self.file.parent.parent
            return read_targets(top / self.settings["sc_file"], self.natoms)
        if not self.starts or not self.labels:
            return None
        return np.array(
            [
                self.starts.get((t, k), self.starts.get((t, 0), [np.nan] * 3))
                for t, n in enumerate(self.counts)
                for k in range(n)
            ]
        )

    def _take_positions(self, first: bool) -> None:
        step, own = self.step, self.structure
        assert step is not None  # noqa: S101
        if first:
            self._compare()
            self.first_cell = self.cell
        if own is not None and self.cell is self.first_cell:
            step.cell = own.cell
        else:
            step.cell = self.cell
            self._warn_digits()
        if self.coord is not None and step.cell is not None:
            kind, values = self.coord
            scale = self.scale if own is None else own.scale
            step.coord = values @ step.cell if kind == "direct" else values * scale
        elif first and own is not None:
            step.coord = own.coord
        self.coord = None

    def _warn_digits(self) -> None:
        if not self.warned:
            self.warned = True
            why = "cells change" if self.structure else "there is no STRU beside it"
            log.warning(
                "'%s': %s, so cells have the six digits that the log has",
                self.file,
                why,
            )

    def _compare(self) -> None:
        """Make sure that STRU and log are of one calculation."""
        own = self.structure
        if own is None:
            return
        apart = self.cell is not None and not _close(self.cell, own.cell)
        if self.coord is not None and not apart and own.symbols == self.symbols:
            kind, values = self.coord
            inverse = np.linalg.inv(own.cell)
            here = values if kind == "direct" else values * own.scale @ inverse
            step = here - own.coord @ inverse
            apart = bool((np.abs(step - np.round(step)) > SAME).any())
        if apart or own.symbols != self.symbols:
            raise DataError(
                f"'{own.path}' is not the structure that '{self.file}' began with: "
                "names, cells or positions differ. Put back the STRU of this "
                "calculation, or take it away: cells are then read from the log, with "
                "six digits."
            )

    def _take_dump(self, number: int) -> None:
        step = self.step
        assert step is not None  # noqa: S101
        while self.dumped is None or self.dumped.number < number:
            self.dumped = next(self.dump, None)
            if self.dumped is None:
                return
        if self.dumped.number == number:
            found = self.dumped.symbols
            if found == self.symbols[: len(found)] and len(found) < self.natoms:
                return  # cut off
            if found != self.symbols:
                raise DataError(
                    f"step {number} of MD_dump has other atoms than '{self.file}'. "
                    "Keep the files of one calculation together."
                )
            step.cell, step.coord = self.dumped.cell, self.dumped.coord

    def _finished(self, step: _Step, last: bool) -> Frame | Dropped:
        number = step.number - (self.kind == "md")
        place = f"step {number} of '{self.file}'"
        reason = self._reason(step, last)
        if reason is not None:
            return Dropped(place, reason)
        self.expected |= set(step.tables)
        arrays = dict(step.tables)
        cell, coord = step.cell, step.coord
        assert cell is not None and coord is not None  # noqa: S101
        if "stress" in arrays:
            arrays["virial"] = virial_of(arrays.pop("stress"), cell)
        arrays["energy"] = np.array(step.energy)
        reason = defect({**arrays, "coord": coord, "cell": cell})
        if reason is None and self._is_unmet(arrays):
            reason = UNMET
        if reason is not None:
            return Dropped(place, reason)
        return Frame(place, self.symbols, coord, cell, arrays)

    def _reason(self, step: _Step, last: bool) -> str | None:
        """Why a step cannot be learnt from, if so."""
        sizes = {"stress": 3, **dict.fromkeys(("spin", "force", "force_mag"), 0)}
        whole = all(len(t) == (sizes[n] or self.natoms) for n, t in step.tables.items())
        if step.converged is False:
            return UNCONVERGED
        missing = (self.expected or {"force"}) - set(step.tables)
        if not whole or (last and (missing or step.converged is None)):
            return CUT
        if step.converged is None:
            return UNCONVERGED
        if step.coord is None or len(step.coord) != self.natoms:
            return _NO_POSITIONS
        return "it has no energy" if step.energy is None else None

    def _is_unmet(self, tables: dict[str, np.ndarray]) -> bool:
        """Whether a component that a constraint acts on is not where it is to be."""
        if self.judged is None or not {"spin", "force_mag"} <= set(tables):
            return False
        threshold = float(self.settings.get("sc_thr", THRESHOLD))
        target, spin = self.judged, tables["spin"]
        if self.settings.get("sc_direction_only", "0").lower() in ("1", "true"):
            length = np.linalg.norm(spin, axis=1, keepdims=True)
            norm = np.linalg.norm(target, axis=1, keepdims=True)
            target = target * length / np.where(norm > 0, norm, 1.0)
        allowed = MET * threshold + 1e-5 * np.abs(target)  # printed with six digits
        off = np.abs(spin - target) > allowed
        return bool((off & (tables["force_mag"] != 0)).any())


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() < SAME * max(1.0, np.abs(other).max()))


# --- MD_dump --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dumped:
    """A step of MD_dump, in Å."""

    number: int
    cell: np.ndarray
    symbols: tuple[str, ...]
    coord: np.ndarray


def _read_dump(path: Path) -> Iterator[_Dumped]:
    """Steps of MD_dump, of which the last may be cut off."""
    if not path.is_file():
        raise DataError(
            f"'{path}' is missing: it has the positions of a molecular dynamics. Keep "
            "it beside the log, and calculate with dump_force 1 and md_dumpfreq 1."
        )
    with open(path, encoding="utf-8", errors="replace") as stream:
        number, scale = 0, 0.0
        cell: np.ndarray = np.zeros((3, 3))
        lines = Lines(stream)
        for line in lines:
            if line.startswith("MDSTEP:"):
                number = int(line.split()[1])
            elif line.startswith("LATTICE_CONSTANT:"):
                scale = _angstrom(path, line)
            elif line.startswith("LATTICE_VECTORS"):
                rows = lines.rows(3, label=0)
                if len(rows) < 3:
                    return
                cell = scale * np.array(rows)
            elif line.startswith("INDEX"):
                _angstrom(path, line.partition("POSITION")[2][:12])
                yield _dumped(number, cell, lines)


def _angstrom(path: Path, line: str) -> float:
    if "Angstrom" not in line:
        raise DataError(
            f"'{path}' does not say that its positions are in Angstrom: it is from a "
            "version of ABACUS before 3.2, which is not read. Calculate again with a "
            "newer one."
        )
    found = re.search(r":\s*(\S+)", line)
    return float(found[1]) if found else 1.0


def _dumped(number: int, cell: np.ndarray, lines: Iterable[str]) -> _Dumped:
    symbols: list[str] = []
    coord: list[Sequence[float]] = []
    for line in lines:
        words = line.split()
        if len(words) < 5:
            break
        symbols.append(words[1])
        coord.append(numbers(words[2:5]))
    return _Dumped(number, cell, tuple(symbols), np.array(coord).reshape(-1, 3))
