# SPDX-License-Identifier: Apache-2.0
"""``dp-spin compress``: write a frozen model with tables for embedding nets."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from deepspin import __version__
from deepspin.data.dataset import DataSystem
from deepspin.entrypoints.freeze import claim_frozen
from deepspin.env import start_tensorflow
from deepspin.interop.files import is_deepmd
from deepspin.modelfiles.find import read_config, read_metadata, resolve_checkpoint
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# --tol without the option, by the type of the model's numbers
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
# most frames to measure on
FRAMES = 64


def compress(
    *,
    input: str,
    output: str,
    training_script: str | None = None,
    tol: float | None = None,
    step: float | None = None,
    extrapolate: float = 5.0,
    frequency: int = 1,
    force: bool = False,
) -> dict:
    """Write a compressed model.

    Parameters
    ----------
    input : str
        Model file of any kind.
    output : str
        Folder to write.
    training_script : str, optional
        Input file of a training, for its data.
    tol : float, optional
        Largest error of forces and magnetic forces, relative to their rms.
    step : float, optional
        Widest piece of a table in s (1/Å).
    extrapolate : float
        Tables reach to so many times the largest 1/r of the data.
    frequency : int
        See `DescrptSeA`: `check_frequency`.
    force : bool
        Whether it may replace what is at the output.

    Returns
    -------
    dict
        What the metadata says of it, ``compressed``.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, it is compressed already or cannot be compressed, no
        data tells its range, or the output exists or cannot be written.
    """
    _check(tol, step, extrapolate, frequency)
    source = resolve_checkpoint(input)
    metadata = _metadata(source)
    script = training_script and normalize(load_input(training_script))
    claim_frozen(output, force)
    if not script and "nearest" not in metadata:
        if is_deepmd(source):
            _refuse_compressed(source)
        raise InputError(
            f"'{source}' does not tell how near the atoms of each pair of types came "
            "in its training, so that the range of the tables is not known. Give the "
            "input file of its training by -t."
        )
    start_tensorflow()
    import tensorflow as tf

    from deepspin.model import compress as tables
    from deepspin.modelfiles.archive import load_with_metadata
    from deepspin.modelfiles.saved_model import freeze as write
    from deepspin.training.runs import name_pairs, nearest_pairs, unname_pairs

    model, metadata = load_with_metadata(source)
    names = model.type_map, model.spin.scheme
    if script:
        systems = _load_data(script["training"], model.data_spec)
        nearest = np.min([nearest_pairs(data) for data in systems], axis=0)
        batches = _sample(systems)
    else:
        nearest, batches = unname_pairs(metadata["nearest"], *names), []
    tol = tol or TOLERANCES[model.descriptor.compute_dtype]
    options = tables.Options(tol, extrapolate, step, frequency)
    compressed, report = tables.compress(model, nearest, options, batches)
    report |= {
        "tol": tol,
        "step": step,
        "extrapolate": extrapolate,
        "nearest": name_pairs(nearest, *names),
        "pieces": list(compressed.descriptor.leaves),
        "bytes": compressed.descriptor.table_bytes,
    }
    engine = {"deepspin": __version__, "tensorflow": tf.__version__}
    content = {**metadata, **engine, "source": str(source), "compressed": report}
    write(compressed, output, content)
    _tell(source, output, report)
    return report


def _check(
    tol: float | None, step: float | None, extrapolate: float, frequency: int
) -> None:
    for name, value, least in (("--tol", tol, 0.0), ("-s", step, 0.0)):
        if value is not None and not least < value < math.inf:
            raise InputError(f"{name} must be above 0. Received: {value}")
    if not 1.0 <= extrapolate < math.inf:
        raise InputError(
            "-e must be 1 or more: tables hold what the data holds, and beyond. "
            f"Received: {extrapolate}"
        )
    if frequency < 1 and frequency != -1:
        raise InputError(
            f"-f must be 1 or more evaluations, or -1 for never. Received: {frequency}"
        )


def _metadata(source: Path) -> dict:
    """Metadata of a model that can be compressed."""
    if is_deepmd(source):
        return {}
    if read_config(source)["config"]["descriptor"]["config"].get("leaves"):
        raise ValueError(
            f"'{source}' is compressed already. Compress the model that it was made of."
        )
    return read_metadata(source)


def _refuse_compressed(source: Path) -> None:
    """Read a model of DeePMD-kit, which cannot be done if it is compressed."""
    start_tensorflow()
    from deepspin.modelfiles.archive import load_deepmd

    load_deepmd(source)


def _load_data(training: dict, spec: dict) -> list[DataSystem]:
    sections = [training["training_data"], training.get("validation_data")]
    return [
        DataSystem(
            section["systems"],
            rglob_patterns=section.get("rglob_patterns"),
            batch_size=1,
            **spec,
        )
        for section in sections
        if section
    ]


def _sample(systems: list[DataSystem]) -> list[dict]:
    """Frames to measure on, evenly taken: of each system at least one."""
    places = [(d, k) for d in systems for k in range(len(d.systems))]
    share = max(1, FRAMES // len(places))
    batches = []
    for data, k in places:
        count = data.systems[k].nframes
        chosen = np.linspace(0, count - 1, min(share, count)).astype(int)
        batches += [data.frames(k, np.array([f]))[0] for f in chosen]
    return batches


def _tell(source: Path, output: str, report: dict) -> None:
    log.info(
        "%s: compressed into %s, %d pieces in %d tables, %.0f kB",
        source,
        output,
        sum(report["pieces"]),
        len(report["pieces"]),
        report["bytes"] / 1000,
    )
    if "error" not in report:
        log.info(
            "not measured on data, for lack of -t: the tables are within %.1e of the "
            "largest values and slopes of the embedding nets",
            report["table_error"],
        )
        return
    error = report["error"]
    for name, text in (("force", "forces"), ("force_mag", "magnetic forces")):
        log.info(
            "%s differ by at most %.1e of their rms, %.1e in the mean square",
            text,
            error[name]["max"],
            error[name]["rms"],
        )
    log.info(
        "energies differ by at most %.1e eV per atom, measured on %d frames",
        error["energy"]["max"],
        error["frames"],
    )
