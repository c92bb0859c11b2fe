# SPDX-License-Identifier: Apache-2.0
"""Inputs of ABACUS with constrained moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats import abacus
from deepspin.data.formats.frame import Frame
from deepspin.data.formats.words import BOHR
from deepspin.data.labelling.text import (
    constrained,
    copy_rest,
    counted,
    order_by,
    read_template,
    reordered,
    row,
)

# parameters of INPUT that are set, whatever the template says
SET = {"calculation": "scf", "cal_force": "1", "sc_mag_switch": "1"}
# sections of STRU with a line for each element
_HEADS = ("ATOMIC_SPECIES", "NUMERICAL_ORBITAL")
# a component of a spin (μ_B) above this is across z
ACROSS = 1e-6


class Abacus:
    """Writes STRU and INPUT beside the other files of a template.

    Parameters
    ----------
    template : Path
        Folder with ``INPUT`` (nspin 4, or 2 for spins along z), ``STRU``, of which
        ATOMIC_SPECIES and NUMERICAL_ORBITAL are taken, and ``KPT``, pseudopotentials,
        orbitals and whatever else each calculation needs.

    Raises
    ------
    DataError
        A file is missing, or has no spins or elements.
    """

    matches = staticmethod(abacus.matches)
    read = staticmethod(abacus.read)

    def __init__(self, template: Path):
        self.template = template
        texts = read_template(template, ["INPUT", "STRU"])
        self.input = texts["INPUT"]
        self.heads = _sections(texts["STRU"])
        self.elements = [line.split()[0] for line in self.heads.get(_HEADS[0], [])]
        if not self.elements:
            raise DataError(
                f"'{template}/STRU' has no ATOMIC_SPECIES. List there the elements "
                "with their pseudopotentials."
            )
        words = [line.split("#")[0].split() for line in self.input.splitlines()]
        self.nspin = next((w[1] for w in words if w[:1] == ["nspin"] and w[1:]), None)
        if self.nspin not in ("2", "4"):
            raise DataError(
                f"'{template}/INPUT' must say nspin 4, or nspin 2 for spins along z. "
                f"Received: {self.nspin}"
            )

    def order(self, frame: Frame) -> np.ndarray:
        """Atoms in the order of STRU.

        Raises
        ------
        DataError
            STRU of the template lacks elements, or spins are not along z.
        """
        unknown = sorted(set(frame.symbols) - set(self.elements))
        if unknown:
            raise DataError(
                f"{frame.place} has atoms of {' '.join(unknown)}, which "
                f"'{self.template}/STRU' does not list: {' '.join(self.elements)}. Add "
                "them."
            )
        if self.nspin == "2" and np.abs(frame.arrays["spin"][:, :2]).max() > ACROSS:
            raise DataError(
                f"{frame.place} has spins that are not along z, and "
                f"'{self.template}/INPUT' says nspin 2. Say nspin 4."
            )
        return order_by(frame.symbols, self.elements)

    def write(self, frame: Frame, folder: Path) -> None:
        """Write a calculation.

        Parameters
        ----------
        frame : Frame
            Atoms with spins.
        folder : Path
            Where, an empty folder.
        """
        frame = reordered(frame, self.order(frame))
        (folder / "STRU").write_text(self._stru(frame), encoding="utf-8")
        (folder / "INPUT").write_text(self._input(), encoding="utf-8")
        copy_rest(self.template, folder)

    def _input(self) -> str:
        extra = {"noncolin": "1"} if self.nspin == "4" else {}
        values = {**SET, **extra}
        kept = [
            line
            for line in self.input.splitlines()
            if not line.split() or line.split()[0].lower() not in values
        ]
        if not any(line.startswith("INPUT_PARAMETERS") for line in kept):
            kept.insert(0, "INPUT_PARAMETERS")
        own = [f"{name} {value}" for name, value in values.items()]
        return "\n".join([*kept, "# of every calculation of dp-spin", *own, ""])

    def _stru(self, frame: Frame) -> str:
        here = counted(frame.symbols)
        lines = []
        for head, rows in self.heads.items():
            own = rows
            if len(rows) == len(self.elements):  # a line for each element
                pairs = zip(self.elements, rows, strict=True)
                own = [line for name, line in pairs if name in here]
            lines += [head, *own, ""]
        assert frame.cell is not None  # noqa: S101
        lines += ["LATTICE_CONSTANT", repr(1.0 / BOHR), "", "LATTICE_VECTORS"]
        lines += [*map(row, frame.cell), "", "ATOMIC_POSITIONS", "Cartesian"]
        flags, spins = constrained(frame), frame.arrays["spin"]
        begin = 0
        for name, count in here.items():
            lines += ["", name, "0.0", str(count)]
            for atom in range(begin, begin + count):
                lines.append(
                    f"{row(frame.coord[atom])} {self._moment(spins[atom], flags[atom])}"
                )
            begin += count
        return "\n".join([*lines, ""])

    def _moment(self, spin: np.ndarray, flag: bool) -> str:
        kept, ones = (spin[2:], " sc 1") if self.nspin == "2" else (spin, " sc 1 1 1")
        return f"mag {row(kept)}{ones if flag else ''}"


def _sections(text: str) -> dict[str, list[str]]:
    """Sections of STRU before its lattice, with their lines."""
    found: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        words = line.split("#")[0].split("//")[0].split()
        if not words:
            continue
        if words[0].startswith(("LATTICE_", "ATOMIC_POSITIONS")):
            name = None
        elif words[0].isupper() and "_" in words[0] and len(words) == 1:
            name = words[0]
            found[name] = []
        elif name is not None:
            found[name].append(line.strip())
    return found
