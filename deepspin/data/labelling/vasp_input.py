# SPDX-License-Identifier: Apache-2.0
"""Inputs of VASP with DeltaSpin, or with its own penalty on moments."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats import deltaspin
from deepspin.data.formats.frame import Frame
from deepspin.data.labelling.text import (
    constrained,
    copy_rest,
    counted,
    order_by,
    read_template,
    reordered,
    row,
)

TRUE = (".TRUE.", "T", "TRUE", ".T.")


class Vasp:
    """Writes POSCAR and INCAR beside the other files of a template.

    Parameters
    ----------
    template : Path
        Folder with ``INCAR``, which asks for a constraint, and ``KPOINTS``, ``POTCAR``
        and whatever else each calculation needs. POTCAR names the elements, and its
        order is that of the atoms.

    Raises
    ------
    DataError
        INCAR is missing, or asks for no constraint of vectors.
    """

    matches = staticmethod(deltaspin.matches)
    read = staticmethod(deltaspin.read)

    def __init__(self, template: Path):
        self.template = template
        self.incar = read_template(template, ["INCAR"])["INCAR"]
        potcar = template / "POTCAR"
        text = potcar.read_text("utf-8", "replace") if potcar.is_file() else ""
        found = re.findall(r"^\s*VRHFIN\s*=\s*(\w+?)\s*:", text, re.MULTILINE)
        self.elements: list[str] | None = found or None
        tags = _tags(self.incar)
        self.kind = self._kind(tags)
        if tags.get("LNONCOLLINEAR", "F").upper() not in TRUE:
            raise DataError(
                f"'{template}/INCAR' must say LNONCOLLINEAR = .TRUE.: spins of frames "
                "are vectors."
            )

    def _kind(self, tags: dict[str, str]) -> str:
        """Which program constrains moments."""
        if tags.get("LDELTASPIN", "F").upper() in TRUE:
            return "VASP 6"
        if tags.get("I_CONSTRAINED_M", "0") != "0":
            return "penalty" if tags.get("SCTYPE", "0") == "0" else "VASP 5"
        raise DataError(
            f"'{self.template}/INCAR' constrains no moments: it must say LDELTASPIN = "
            ".TRUE. (VASP 6 with DeltaSpin), or I_CONSTRAINED_M and SCTYPE (VASP 5 "
            "with DeltaSpin), or I_CONSTRAINED_M and LAMBDA (VASP alone)."
        )

    def order(self, frame: Frame) -> np.ndarray:
        """Atoms in the order of POSCAR.

        Raises
        ------
        DataError
            POTCAR has other elements.
        """
        own = list(dict.fromkeys(frame.symbols))
        elements = self.elements or own
        if set(elements) != set(own):
            raise DataError(
                f"{frame.place} has atoms of {' '.join(own)}, but the POTCAR of "
                f"'{self.template}' is that of {' '.join(elements)}. Take a template "
                "for these elements."
            )
        return order_by(frame.symbols, elements)

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
        (folder / "POSCAR").write_text(_poscar(frame), encoding="utf-8")
        text = _without(self.incar, self._own(frame)).rstrip("\n")
        text += "\n\n# of this frame, for the atoms of POSCAR\n" + "".join(
            f"{tag} = {value}\n" for tag, value in self._own(frame).items()
        )
        (folder / "INCAR").write_text(text, encoding="utf-8")
        copy_rest(self.template, folder)

    def _own(self, frame: Frame) -> dict[str, str]:
        """Tags of a frame."""
        spins = " \\\n  ".join(row(spin) for spin in frame.arrays["spin"])
        spins = f"\\\n  {spins}"
        flags = constrained(frame).astype(int)
        if self.kind == "VASP 6":
            atoms = " ".join(map(str, flags))
            tags = {"MAGMOM": spins, "M_DELTASPIN": spins, "DELTASPIN_ATOMS": atoms}
            return {**tags, "DELTASPIN_COMPONENTS": "1 1 1"}
        tags = {"MAGMOM": spins, "M_CONSTR": spins}
        if self.kind == "VASP 5":
            tags["CONSTRL"] = " ".join(f"3*{flag}" for flag in flags)
            tags["LAMBDA"] = f"{3 * len(flags)}*0"
        return tags


def _poscar(frame: Frame) -> str:
    counts = counted(frame.symbols)
    assert frame.cell is not None  # noqa: S101
    lines = [frame.place.replace("\n", " "), "1.0", *map(row, frame.cell)]
    lines += [" ".join(counts), " ".join(map(str, counts.values())), "Cartesian"]
    return "\n".join([*lines, *map(row, frame.coord), ""])


def _statements(text: str) -> list[tuple[str, str]]:
    """Tag and text of each statement of INCAR, an empty tag for other lines.

    A line may have several, and may go on after a backslash.
    """
    found: list[tuple[str, str]] = []
    for line in re.sub(r"\\\s*\n", " \\\n", text).split("\n"):
        if found and found[-1][1].rstrip().endswith("\\"):
            tag, before = found.pop()
            found.append((tag, f"{before}\n{line}"))
            continue
        code = re.split(r"[#!]", line)[0]
        parts = line.split(";") if ";" in code else [line]
        for part in parts:
            tag, equals, _ = re.split(r"[#!]", part)[0].partition("=")
            found.append((tag.strip().upper() if equals else "", part))
    return found


def _tags(text: str) -> dict[str, str]:
    """First word of the value of each tag."""
    values = {}
    for tag, part in _statements(text):
        words = re.split(r"[#!]", part.partition("=")[2])[0].split()
        if tag and words:
            values[tag] = words[0]
    return values


def _without(text: str, tags: dict[str, str]) -> str:
    """Text without the statements that are written anew."""
    return "\n".join(part for tag, part in _statements(text) if tag not in tags)
