# SPDX-License-Identifier: Apache-2.0
"""``dp-spin model-devi``: how much models disagree, and frames worth labelling."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError, find_systems
from deepspin.data.frames import System
from deepspin.data.selection import extract as extract_frames
from deepspin.data.systems import load_systems
from deepspin.data.writing import claim_systems, names_below, write_system
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.utils.outputs import claim, replacing
from deepspin.utils.refused import InputError

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


def model_devi(
    *,
    models: Sequence[str],
    system: str = ".",
    output: str = "model_devi.out",
    frequency: int = 1,
    real_error: bool = False,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    relative_fm: float | None = None,
    select: Sequence[float] | None = None,
    select_fm: Sequence[float] | None = None,
    extract: str | None = None,
    force: bool = False,
    set_prefix: str | None = None,
) -> list[np.ndarray]:
    """Write how much models disagree about the frames of systems.

    Parameters
    ----------
    models : sequence of str
        Model files of any kind.
    system : str
        A system, or a folder that is searched for systems.
    output : str
        File to write; one that is there is replaced.
    frequency : int
        Steps between frames, for the first column.
    real_error : bool
        Errors against labels instead; one model will do.
    atomic : bool
        Also the deviation of each atom's force and magnetic force.
    relative, relative_v, relative_fm : float, optional
        See `Measure`.
    select, select_fm : (float, float), optional
        Frames are candidates if ``max_devi_f`` or ``max_devi_fm`` reaches the lower
        bound given for it, and neither reaches its upper one. They are listed in a file
        beside `output`, with the suffix ``.candidates``.
    extract : str, optional
        Where to write the candidates, see `output` of
        `deepspin.entrypoints.convert_data.convert_data`.
    force : bool
        Replace what is at `extract`.
    set_prefix : str, optional
        Has no effect; DeePMD-kit has it.

    Returns
    -------
    list of np.ndarray, shape (nf, columns)
        What is written of each system.

    Raises
    ------
    InputError, DataError, OutputError, ValueError
        Options that make no sense, models that do not fit together, data that cannot be
        read or lack what is asked for, or an output that cannot be written.
    """
    measure = Measure(real_error, relative, relative_v, relative_fm)
    bounds = {FORCE: select, FORCE_MAG: select_fm}
    bounds = {column: pair for column, pair in bounds.items() if pair is not None}
    _check_options(models, frequency, measure, bounds, extract)
    if set_prefix is not None:
        log.warning("-S has no effect: sets are the folders set.*")
    files = [resolve_checkpoint(model) for model in models]
    paths = find_systems(system)
    if extract is not None:
        names = names_below(paths, Path(extract))
        claim_systems(paths, Path(extract), force)
    claim(output)
    claim(_listing(output))
    start_tensorflow()
    from deepspin.infer.deep_spin import DeepSpin

    potentials = [DeepSpin(file) for file in files]
    systems = _load(paths, potentials, models)
    if real_error:
        _check_labels(systems, bounds)
    tables, blocks = [], []
    for data in systems:
        table, atoms = _deviations(data, potentials, measure, frequency)
        log.info("%s", _told(data.path, table))
        tables.append(table)
        parts = [table[:, :FORCE_MAG], atoms[0], table[:, FORCE_MAG:], atoms[1]]
        blocks.append(np.hstack(parts) if atomic else table)
    _write(output, paths, blocks, atomic)
    _listing(output).unlink(missing_ok=True)  # of an earlier run
    if bounds:
        chosen = _select(_listing(output), systems, tables, bounds)
        if extract is not None and chosen:
            _extract(Path(extract), names, systems, chosen)
    return blocks


def _check_options(
    models: Sequence[str],
    frequency: int,
    measure: Measure,
    bounds: dict[int, Sequence[float]],
    extract: str | None,
) -> None:
    if len(models) < 2 and not measure.real_error:
        raise InputError(
            "Models disagree with each other: -m takes 2 or more of them, unless "
            f"--real_error compares with labels. Received: {len(models)}"
        )
    if frequency < 1:
        raise InputError(f"-f must be 1 or more steps. Received: {frequency}")
    for name in ("relative", "relative_v", "relative_fm"):
        level = getattr(measure, name)
        if level is not None and not 0 < level < np.inf:
            raise InputError(f"--{name} must be above 0. Received: {level}")
    for low, high in bounds.values():
        if not 0 <= low < high:
            raise InputError(
                "--select and --select-fm take a lower and a higher bound. Received: "
                f"{low:g} {high:g}"
            )
    if extract is not None and not bounds:
        raise InputError(
            "--extract writes what --select or --select-fm chooses. Give one of them."
        )


def _load(paths: Sequence[str], potentials: list, models: Sequence[str]) -> list:
    """Systems as the models read them, who must agree about that."""
    specs = [potential.model.data_spec for potential in potentials]
    kinds = [
        (spec["type_map"], list(spec["spin"].use_spin), spec["numb_fparam"])
        for spec in specs
    ]
    for model, kind in zip(models, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"'{models[0]}' and '{model}' do not fit together: types, which of "
                f"them have spin, and frame parameters are {kinds[0]} and {kind}."
            )
    spec = specs[0]
    systems = load_systems(
        paths,
        spec["type_map"],
        spec["spin"],
        all(spec["allow_zero_spin"] for spec in specs),
        spec["numb_fparam"],
    )
    scales = {spec["spin"].scale for spec in specs}
    for data in systems:
        if data.layout == "virtual-atom" and len(scales) > 1:
            raise ValueError(
                f"'{data.path}' holds virtual atoms, which mean other spins to each "
                "of these models. Write it as spin files first: dp-spin convert-data "
                "--layout spin-files."
            )
    return systems


def _check_labels(systems: Sequence[System], bounds: dict) -> None:
    """Refuse systems without the labels that errors are asked of."""
    names = {FORCE: "force", FORCE_MAG: "force_mag"}
    needed = {name for column, name in names.items() if column in bounds}
    for data in systems:
        if not {"energy", "force", "force_mag", "virial"} & data.labels.keys():
            raise DataError(
                f"'{data.path}' has no labels to compare with, as --real_error asks: "
                "no energy, force, force_mag or virial."
            )
        for name in needed - data.labels.keys():
            raise DataError(f"'{data.path}' has no {name} to select frames by.")


def _deviations(
    data: System, potentials: list, measure: Measure, frequency: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Columns of all frames, and the deviations of each atom's two forces."""
    table = np.full((data.nframes, 1 + len(COLUMNS) + len(MAGNETIC)), np.nan)
    table[:, 0] = np.arange(data.nframes) * frequency
    atoms = [np.full((data.nframes, data.nloc), np.nan) for _ in range(2)]
    for frames in _alike(data.atype):
        atype = data.atype[frames[0]]
        here = np.flatnonzero(atype >= 0)
        magnetic = potentials[0].is_magnetic(atype[here])
        said = _evaluate(data, frames, here, potentials)
        real = {name: label[frames] for name, label in data.labels.items()}
        real |= {n: real[n][:, here] for n in ("force", "force_mag") if n in real}
        for values in (said, real):
            for name in {"energy", "virial"} & values.keys():
                values[name] = values[name] / here.size
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
    return table, atoms


def _alike(atype: np.ndarray) -> Iterator[np.ndarray]:
    """Frames of the same atoms, not too many at once."""
    rows, inverse = np.unique(atype, axis=0, return_inverse=True)
    for k in range(len(rows)):
        frames = np.flatnonzero(inverse.ravel() == k)
        yield from np.split(frames, range(CHUNK, len(frames), CHUNK))


def _evaluate(
    data: System, frames: np.ndarray, here: np.ndarray, potentials: list
) -> dict[str, np.ndarray]:
    """What all models say of frames, (models, nf, ...)."""
    results = [
        potential.eval(
            data.coord[frames][:, here],
            data.box[frames] if data.pbc else None,
            data.atype[frames[0], here],
            data.spin[frames][:, here],
            fparam=data.fparam[frames] if data.fparam.size else None,
        )
        for potential in potentials
    ]
    names = ("energy", "force", "force_mag", "virial")
    return {name: np.stack([result[name] for result in results]) for name in names}


def _extremes(values: np.ndarray) -> np.ndarray:
    """Largest, least and mean in each row; NaN if there are none."""
    if values.shape[1] == 0:
        return np.full((len(values), 3), np.nan)
    return np.stack([f(values, axis=1) for f in (np.max, np.min, np.mean)], axis=1)


def _told(path: str, table: np.ndarray) -> str:
    largest = [f"{table[:, column].max():.4g}" for column in (FORCE, FORCE_MAG)]
    return (
        f"{path}: {len(table)} frames, largest deviation of forces {largest[0]}, of "
        f"magnetic forces {largest[1]}"
    )


# --- Files ----------------------------------------------------------------------------


def _write(
    output: str, paths: Sequence[str], blocks: Sequence[np.ndarray], atomic: bool
) -> None:
    """Write in DeePMD-kit's form: each line begins with its columns."""
    names = [*COLUMNS, *[ATOMIC] * atomic, *MAGNETIC, *[ATOMIC_MAGNETIC] * atomic]
    head = f"{'step':10s}" + "".join(f"{name:19s}" for name in names)
    with replacing(output) as partial, open(partial, "wb") as file:
        for path, block in zip(paths, blocks, strict=True):
            form = ["%12d"] + ["%19.6e"] * (block.shape[1] - 1)
            header = f"{path}\n{head}"
            np.savetxt(file, block, form, delimiter="", header=header, encoding="utf-8")
    log.info("wrote %s", output)


def _listing(output: str) -> Path:
    return Path(output).with_suffix(".candidates")


def _select(
    listing: Path,
    systems: Sequence[System],
    tables: Sequence[np.ndarray],
    bounds: dict[int, Sequence[float]],
) -> dict[str, np.ndarray]:
    """List the candidates; returns those of each system that has some."""
    low, high = np.transpose(list(bounds.values()))
    counts, chosen = np.zeros(3, dtype=int), {}
    with replacing(listing) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("# system frame max_devi_f max_devi_fm\n")
        for data, table in zip(systems, tables, strict=True):
            values = table[:, list(bounds)]
            failed = (values >= high).any(axis=1)
            candidate = (values >= low).any(axis=1) & ~failed
            counts += [(~failed & ~candidate).sum(), candidate.sum(), failed.sum()]
            for frame in np.flatnonzero(candidate):
                force, force_mag = table[frame, [FORCE, FORCE_MAG]]
                file.write(f"{data.path} {frame} {force:.6e} {force_mag:.6e}\n")
            if candidate.any():
                chosen[data.path] = np.flatnonzero(candidate)
    log.info(
        "%d frames are accurate, %d candidates (listed in %s), %d beyond the bounds",
        *counts[:2],
        listing,
        counts[2],
    )
    return chosen


def _extract(
    target: Path,
    names: dict[str, str],
    systems: Sequence[System],
    chosen: dict[str, np.ndarray],
) -> None:
    """Write the candidates as systems."""
    with replacing(target) as partial:
        for data in systems:
            if data.path in chosen:
                content = extract_frames(data.path, chosen[data.path], data.sets)
                write_system(content, partial, names[data.path])
    log.info("wrote the candidates to %s", target)
