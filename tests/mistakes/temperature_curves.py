# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the input of temperature curves, or in their samples."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .row import Mistake, Step
from .steps import model, structure, text
from .valid import write_json

TITLE = "Temperature curves"
ABOUT = (
    "Mistakes in the input of `dp-spin thermo`, here `thermo.json`, or in its "
    "samples. `temperature` is [300.0, 400.0]."
)
THERMO = {
    "model": "model.keras",
    "structure": {"file": "nio.xyz"},
    "temperature": [300.0, 400.0],
    "method": {"type": "hmc", "leaps": 1},
    "equilibration": 1,
    "samples": 2,
    "seed": 1,
}


def heated(
    did: str, says: str, given: dict, how: str = "thermo thermo.json", **more
) -> Mistake:
    """A mistake in the input of temperature curves or what it names; see `ladder`."""
    shows = "\n".join(f"{p}: {json.dumps(v)}" for p, v in given.items())
    steps = ladder(given, **more)
    return Mistake(TITLE, did, how, says, steps, shows=shows)


def ladder(
    given: dict, sampled: bool = False, symbols: str = "Ni Ni O O", then: str = ""
) -> Sequence[Step]:
    """Write an input of ``dp-spin thermo`` and what it names.

    Parameters
    ----------
    given : dict
        Keys of the input that are changed.
    sampled : bool
        Whether there are samples of the unchanged input.
    symbols, then : str
        Atoms, and those that are in their place after these samples.
    """

    def step() -> None:
        from deepspin.main import main

        structure(symbols)()
        model("model.keras")()
        if sampled:
            write_json("before.json", THERMO)
            assert main(["thermo", "before.json", "-o", "before.out.json"]) == 0
        if then:
            structure(then)()
        write_json("thermo.json", THERMO | given)

    return (step,)


def no_samples(version: int) -> Step:
    """Write a file for samples of ``dp-spin thermo``, before there are any."""

    def step() -> None:
        import h5py

        with h5py.File("thermo.h5", "w") as file:
            file["about"] = json.dumps({"format": version, "made_by": {}})

    return step


ROWS = {
    "same sizes": heated(
        "Give the same size twice.",
        "`sizes` is [[1, 1, 1], [1, 1, 1]]; expected different sizes.",
        {"sizes": [[1, 1, 1], [1, 1, 1]]},
    ),
    "order of nothing": heated(
        "Sample a structure without spins.",
        "The structure has no atoms with spin, which the order is of.",
        {},
        symbols="O O O O",
    ),
    "samples of other temperatures": heated(
        "Go on at other temperatures.",
        "'thermo.h5' was sampled with other values of `temperature`. Go on with those "
        "that it has, or begin anew.",
        {"temperature": [350.0, 450.0]},
        "thermo thermo.json -r thermo.h5",
        sampled=True,
    ),
    "samples of another structure": heated(
        "Go on with samples of another structure, whose file has the same name.",
        "The restart file is of another structure. Use that.",
        {},
        "thermo thermo.json -r thermo.h5",
        sampled=True,
        then="Ni O Ni O",
    ),
    "neither input nor samples": Mistake(
        TITLE,
        "Give neither an input nor samples.",
        "thermo",
        "Give either an input file, or samples with --analyse FILE.",
    ),
    "no file of samples": Mistake(
        TITLE,
        "Average samples that are not there.",
        "thermo --analyse thermo.h5",
        "No samples: 'thermo.h5' does not exist.",
    ),
    "damaged samples": Mistake(
        TITLE,
        "Average a file that holds no samples.",
        "thermo --analyse bad.h5",
        "'bad.h5' is damaged, or no file of dp-spin thermo ({...}).",
        [text("bad.h5", "no")],
    ),
    "samples of the future": Mistake(
        TITLE,
        "Average samples that a newer deepspin has written.",
        "thermo --analyse thermo.h5",
        "'thermo.h5' has format 99; this deepspin reads up to 1. Install a newer one.",
        [no_samples(99)],
    ),
    "no samples yet": Mistake(
        TITLE,
        "Average before there are samples.",
        "thermo --analyse thermo.h5",
        "'thermo.h5' has no samples yet. Go on with -r thermo.h5.",
        [no_samples(1)],
    ),
    "no samples to go on from": heated(
        "Go on from samples that are not there.",
        "No restart file: 'thermo.h5' does not exist.",
        {},
        "thermo thermo.json -r thermo.h5",
    ),
}
