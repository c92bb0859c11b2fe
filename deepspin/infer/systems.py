# SPDX-License-Identifier: Apache-2.0
"""Systems of labelled data: which, how models read them, and what models say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.find import find_systems
from deepspin.data.formats.table import Reading
from deepspin.data.frames import System
from deepspin.data.systems import load_systems
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin


# --- Which ----------------------------------------------------------------------------


def systems_of_input(file: str, section: str) -> list[str]:
    """Systems that the input of a training names.

    Parameters
    ----------
    file : str
        The input.
    section : {"training_data", "validation_data"}
        Where in it.
    """
    data = normalize(load_input(file))["training"][section]
    if not data:
        raise DataError(f"'{file}' has no `training/{section}`.")
    return find_systems(data["systems"], data["rglob_patterns"])


def listed_systems(path: Path, reading: Reading | None = None) -> list[str]:
    """Systems that a file lists, one on each line; # begins a comment line."""
    if not path.is_file():
        raise FileNotFoundError(f"No data file: '{path}' is not a file.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not text. -f takes a file with one path on each line; -s "
            "takes a system."
        ) from error
    stripped = [line.strip() for line in lines]
    names = [line for line in stripped if line and not line.startswith("#")]
    if not names:
        raise DataError(f"'{path}' names no system; one path on each line.")
    if names[0].startswith("{") or path.suffix in (".json", ".yaml", ".yml"):
        raise InputError(
            f"'{path}' is an input of a training. For its data say --valid-data "
            f"{path} or --train-data {path}; -f takes a list, one path on each line."
        )
    return [found for name in names for found in find_systems(name, reading=reading)]


# --- What models make of them ---------------------------------------------------------


def load_for(potentials: Sequence[DeepSpin], paths: Sequence[str]) -> list[System]:
    """Read systems as models do that agree about types and spins."""
    specs = [potential.model.data_spec for potential in potentials]
    return load_systems(
        paths,
        specs[0]["type_map"],
        specs[0]["spin"],
        all(spec["allow_zero_spin"] for spec in specs),
        specs[0]["numb_fparam"],
    )


def alike(data: System, frames: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Group frames that have the same atoms.

    Parameters
    ----------
    data : System
        A system.
    frames : np.ndarray of int
        Some of its frames.
    most : int
        Size of the largest group.

    Yields
    ------
    np.ndarray of int
        Places in `frames`, in order.
    """
    rows, inverse = np.unique(data.atype[frames], axis=0, return_inverse=True)
    for k in range(len(rows)):
        places = np.flatnonzero(inverse.ravel() == k)
        yield from np.split(places, range(most, len(places), most))


def atoms_of(data: System, frame: int) -> np.ndarray:
    """Places of the atoms of a frame; a system of mixed types has empty ones, too."""
    return np.flatnonzero(data.atype[frame] >= 0)


def evaluate(
    potential: DeepSpin,
    data: System,
    frames: Sequence[int] | np.ndarray,
    spin: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Ask a model about frames of a system that have the same atoms.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    data : System
        The system.
    frames : sequence of int
        Its frames; one may come several times.
    spin : np.ndarray, shape (nf, number of atoms, 3), optional
        Spins in μ_B instead of those of the frames, of `atoms_of` them.

    Returns
    -------
    dict of np.ndarray
        As of `DeepSpin.eval`, of `atoms_of` the frames.
    """
    here = atoms_of(data, frames[0])
    return potential.eval(
        data.coord[frames][:, here],
        data.box[frames] if data.pbc else None,
        data.atype[frames[0], here],
        data.spin[frames][:, here] if spin is None else spin,
        fparam=data.fparam[frames] if data.fparam.size else None,
    )
