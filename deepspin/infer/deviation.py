# SPDX-License-Identifier: Apache-2.0
"""How much models disagree about frames, or how far they are from labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepspin.data.frames import System
from deepspin.infer.systems import alike, atoms_of, evaluate, load_for
from deepspin.utils.outputs import replacing
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# frames whose results are held at once
CHUNK = 64
# DeePMD-kit's columns, those of every atom, and ours
COLUMNS = [f"{kind}_devi_{x}" for x in "vf" for kind in ("max", "min", "avg")]
COLUMNS += ["devi_e"]
MAGNETIC = [f"{kind}_devi_fm" for kind in ("max", "min", "avg")]
ATOMIC, ATOMIC_MAGNETIC = "atm_devi_f(N)", "atm_devi_fm(N)"
FORCE, FORCE_MAG = 4, 8  # columns, the step's included, of max_devi_f and max_devi_fm


@dataclass(frozen=True)
class Measure:
    """How to measure deviations.

    Parameters
    ----------
    real_error : bool
        The root-mean-square error of the models against labels, rather than the
        standard deviation of the models.
    relative, relative_v, relative_fm : float, optional
        Divide those of forces, virials and magnetic forces by their magnitude plus this
        (eV/Å, eV per atom, eV/μ_B).
    """

    real_error: bool = False
    relative: float | None = None
    relative_v: float | None = None
    relative_fm: float | None = None

    def __post_init__(self) -> None:
        for name in ("relative", "relative_v", "relative_fm"):
            level = getattr(self, name)
            if level is not None and not 0 < level < np.inf:
                raise InputError(f"--{name} must be above 0. Received: {level}")

    def of(self, values: np.ndarray, real: np.ndarray | None) -> np.ndarray:
        """Deviation of each component of what models say, (models, ...) to (...).

        Errors without a label are NaN.
        """
        if not self.real_error:
            return np.std(values, axis=0)
        if real is None:
            return np.full(values.shape[1:], np.nan)
        return np.sqrt(np.mean((values - real) ** 2, axis=0))

    def vectors(
        self, values: np.ndarray, real: np.ndarray | None, level: float | None
    ) -> np.ndarray:
        """Deviation of vectors, (models, nf, n, 3) to (nf, n)."""
        deviation = np.linalg.norm(self.of(values, real), axis=-1)
        return deviation / self._scale(values, real, level)

    def virials(self, values: np.ndarray, real: np.ndarray | None) -> np.ndarray:
        """Deviation of virials, (models, nf, 9) to (nf, 9)."""
        scale = self._scale(values, real, self.relative_v)
        return self.of(values, real) / np.expand_dims(scale, -1)

    def _scale(
        self, values: np.ndarray, real: np.ndarray | None, level: float | None
    ) -> np.ndarray:
        if level is None:
            return np.ones(values.shape[1:-1])
        mean = np.mean(values, axis=0) if real is None or not self.real_error else real
        return np.linalg.norm(mean, axis=-1) + level


@dataclass(frozen=True)
class Deviations:
    """What models disagree about in the frames of a system.

    Parameters
    ----------
    path : str
        The system.
    table : np.ndarray, shape (nf, 11)
        The step, `COLUMNS` and `MAGNETIC` of each frame.
    force, force_mag : np.ndarray, shape (nf, nloc)
        Deviations of each atom's force and magnetic force.
    """

    path: str
    table: np.ndarray
    force: np.ndarray
    force_mag: np.ndarray

    def columns(self, atomic: bool) -> np.ndarray:
        """What is written: the table, with those of each atom if asked for."""
        if not atomic:
            return self.table
        ours = len(COLUMNS) + 1
        parts = [self.table[:, :ours], self.force, self.table[:, ours:], self.force_mag]
        return np.hstack(parts)

    def tell(self) -> None:
        """Tell the largest."""
        log.info(
            "%s: %d frames, largest deviation of forces %.4g, of magnetic forces %.4g",
            self.path,
            len(self.table),
            *(_largest(self.table[:, column]) for column in (FORCE, FORCE_MAG)),
        )


def _largest(values: np.ndarray) -> float:
    """Largest of those that are not NaN, if there are some."""
    return float(np.nanmax(values)) if not np.isnan(values).all() else np.nan


def load_alike(
    paths: Sequence[str], potentials: Sequence[DeepSpin], models: Sequence[str]
) -> list[System]:
    """Read systems as models do, who must agree about that.

    Parameters
    ----------
    paths : sequence of str
        The systems.
    potentials : sequence of DeepSpin
        The models.
    models : sequence of str
        What they are called.

    Raises
    ------
    ValueError
        The models do not fit together.
    """
    specs = [potential.model.data_spec for potential in potentials]
    kinds = [
        (spec["type_map"], list(spec["spin"].types.use_spin), spec["numb_fparam"])
        for spec in specs
    ]
    for model, kind in zip(models, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"'{models[0]}' and '{model}' do not fit together: types, which of "
                f"them have spin, and frame parameters are {kinds[0]} and {kind}."
            )
    systems = load_for(potentials, paths)
    scales = {spec["spin"].codec.scale for spec in specs}
    for data in systems:
        if data.layout == "virtual-atom" and len(scales) > 1:
            raise ValueError(
                f"'{data.path}' holds virtual atoms, which mean other spins to each "
                "of these models. Write it as spin files first: dp-spin convert-data "
                "--layout spin-files."
            )
    return systems


def deviations(
    data: System, potentials: Sequence[DeepSpin], measure: Measure, frequency: int
) -> Deviations:
    """Measure how much models disagree about a system.

    Parameters
    ----------
    data : System
        The system.
    potentials : sequence of DeepSpin
        The models.
    measure : Measure
        How.
    frequency : int
        Steps between frames.
    """
    table = np.full((data.nframes, 1 + len(COLUMNS) + len(MAGNETIC)), np.nan)
    table[:, 0] = np.arange(data.nframes) * frequency
    atoms = np.full((2, data.nframes, data.nloc), np.nan)
    for frames in alike(data, np.arange(data.nframes), CHUNK):
        here = atoms_of(data, frames[0])
        magnetic = potentials[0].is_magnetic(data.atype[frames[0], here])
        said, real = _said(data, frames, potentials), _real(data, frames)
        size = (len(frames), 9)
        virial = measure.virials(
            said["virial"].reshape(len(potentials), *size),
            real["virial"].reshape(size) if "virial" in real else None,
        )
        force = measure.vectors(said["force"], real.get("force"), measure.relative)
        force_mag = measure.vectors(
            said["force_mag"], real.get("force_mag"), measure.relative_fm
        )
        table[frames, 1:3] = np.stack([virial.max(axis=1), virial.min(axis=1)], axis=1)
        table[frames, 3] = np.linalg.norm(virial, axis=1) / 3
        table[frames, 4:7] = _extremes(force)
        table[frames, 7] = measure.of(said["energy"], real.get("energy"))
        table[frames, 8:] = _extremes(force_mag[:, magnetic])
        atoms[0][np.ix_(frames, here)] = force
        atoms[1][np.ix_(frames, here[magnetic])] = force_mag[:, magnetic]
    found = Deviations(data.path, table, *atoms)
    found.tell()
    return found


def _said(
    data: System, frames: np.ndarray, potentials: Sequence[DeepSpin]
) -> dict[str, np.ndarray]:
    """What all models say of frames, (models, nf, ...), per atom where that is so."""
    results = [evaluate(potential, data, frames) for potential in potentials]
    names = ("energy", "force", "force_mag", "virial")
    said = {name: np.stack([result[name] for result in results]) for name in names}
    return _per_atom(said, atoms_of(data, frames[0]).size)


def _real(data: System, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of frames, (nf, ...), per atom where that is so."""
    here = atoms_of(data, frames[0])
    real = {name: label[frames] for name, label in data.labels.items()}
    real |= {n: real[n][:, here] for n in ("force", "force_mag") if n in real}
    return _per_atom(real, here.size)


def _per_atom(values: dict[str, np.ndarray], natoms: int) -> dict[str, np.ndarray]:
    return values | {n: values[n] / natoms for n in ("energy", "virial") if n in values}


def _extremes(values: np.ndarray) -> np.ndarray:
    """Largest, least and mean in each row; NaN if there are none."""
    if values.shape[1] == 0:
        return np.full((len(values), 3), np.nan)
    return np.stack([f(values, axis=1) for f in (np.max, np.min, np.mean)], axis=1)


def write(
    output: str, paths: Sequence[str], blocks: Sequence[np.ndarray], atomic: bool
) -> None:
    """Write in DeePMD-kit's form: a header for each system, columns of its widths.

    Parameters
    ----------
    output : str
        File to write.
    paths : sequence of str
        The systems.
    blocks : sequence of np.ndarray
        What to write of each.
    atomic : bool
        Whether deviations of each atom are among it.
    """
    names = [*COLUMNS, *[ATOMIC] * atomic, *MAGNETIC, *[ATOMIC_MAGNETIC] * atomic]
    head = f"{'step':10s}" + "".join(f"{name:19s}" for name in names)
    with replacing(output) as partial, open(partial, "wb") as file:
        for path, block in zip(paths, blocks, strict=True):
            form = ["%12d"] + ["%19.6e"] * (block.shape[1] - 1)
            header = f"{path}\n{head}"
            np.savetxt(file, block, form, delimiter="", header=header, encoding="utf-8")
    log.info("wrote %s", output)
