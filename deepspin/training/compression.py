# SPDX-License-Identifier: Apache-2.0
"""Models compressed for the data that they were trained on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.dataset import DataSystem
from deepspin.model.compress import Options, compress
from deepspin.model.ener import DataSpec, SpinEnergyModel
from deepspin.training.runs import name_pairs, nearest_pairs, unname_pairs

log = logging.getLogger(__name__)

# largest error without one that is asked for, by the type of the model's numbers
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
# most frames to measure on
FRAMES = 64


def compress_for_data(
    model: SpinEnergyModel,
    metadata: dict,
    script: dict | None,
    *,
    tol: float | None,
    **options: Any,
) -> tuple[SpinEnergyModel, dict]:
    """Replace the embedding nets of a model by tables that hold all of its data.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    metadata : dict
        Metadata of its file; tells how near atoms came where no `script` does.
    script : dict, optional
        Input of a training, for its data.
    tol : float, optional
        Largest error of forces and magnetic forces, relative to their rms.
    **options
        See `deepspin.model.compress.Options`.

    Returns
    -------
    compressed : SpinEnergyModel
        The same with tables.
    report : dict
        What metadata tell of it, as ``compressed``.
    """
    names = model.type_map, model.spin.scheme
    if script:
        systems = _load_data(script["training"], model.data_spec)
        nearest = np.min([nearest_pairs(data) for data in systems], axis=0)
        batches = _sample(systems)
    else:
        nearest, batches = unname_pairs(metadata["nearest"], *names), []
    how = Options(tol or TOLERANCES[model.descriptor.compute_dtype], **options)
    compressed, report = compress(model, nearest, how, batches)
    return compressed, report | {
        "tol": how.tol,
        "step": how.step,
        "extrapolate": how.extrapolate,
        "nearest": name_pairs(nearest, *names),
        "pieces": list(compressed.descriptor.leaves or ()),
        "bytes": compressed.descriptor.table_bytes,
    }


def _load_data(training: dict, spec: DataSpec) -> list[DataSystem]:
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


def tell(source: Path, output: str, report: dict) -> None:
    """Tell how large the tables are, and how exact.

    Parameters
    ----------
    source : Path
        File of the model.
    output : str
        What was written.
    report : dict
        See `compress_for_data`.
    """
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
