# SPDX-License-Identifier: Apache-2.0
"""What the inputs of all codes share: templates, atoms by element, numbers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Frame


def read_template(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Texts of files that a template must have.

    Parameters
    ----------
    folder : Path
        The template.
    names : sequence of str
        Files that it must have.

    Raises
    ------
    DataError
        One is missing.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"the template '{folder}' has no {' and no '.join(missing)}. Put there "
            "what all calculations share."
        )
    return {n: (folder / n).read_text(encoding="utf-8") for n in names}


def copy_rest(template: Path, folder: Path) -> None:
    """Copy files of a template that are not written anew: pseudopotentials, jobs."""
    for file in template.iterdir():
        if file.is_file() and not (folder / file.name).exists():
            shutil.copy(file, folder / file.name)


def order_by(symbols: Sequence[str], elements: Sequence[str]) -> np.ndarray:
    """Atoms in the order of elements, (nloc,)."""
    rank = np.array([elements.index(symbol) for symbol in symbols])
    return np.argsort(rank, kind="stable")


def reordered(frame: Frame, order: np.ndarray) -> Frame:
    """A frame with its atoms in another order; only spins are kept of the rest."""
    return Frame(
        frame.place,
        tuple(frame.symbols[k] for k in order),
        frame.coord[order],
        frame.cell,
        {"spin": frame.arrays["spin"][order]},
    )


def constrained(frame: Frame) -> np.ndarray:
    """Atoms of elements that have a spin in this frame, (nloc,)."""
    lengths = np.linalg.norm(frame.arrays["spin"], axis=1)
    magnetic = {s for s, length in zip(frame.symbols, lengths, strict=True) if length}
    return np.array([symbol in magnetic for symbol in frame.symbols])


def row(values: Sequence[float] | np.ndarray) -> str:
    """Numbers to the last digit."""
    return " ".join(repr(float(value)) for value in values)


def counted(symbols: Sequence[str]) -> dict[str, int]:
    """How many atoms there are of each element, in order."""
    return {name: list(symbols).count(name) for name in dict.fromkeys(symbols)}
