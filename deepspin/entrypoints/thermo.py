# SPDX-License-Identifier: Apache-2.0
"""``dp-spin thermo``: temperature curves as an input file says."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from pathlib import Path

from deepspin.entrypoints.common import Verbs, add_completed_input, add_doc, add_verb

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "thermo",
        thermo,
        "Sample a ladder of temperatures: order, heat capacity, critical temperature.",
    )
    parser.add_argument(
        "input", nargs="?", metavar="INPUT", help="input file, JSON or YAML"
    )
    parser.add_argument(
        "-r",
        "--restart",
        metavar="SAMPLES",
        help="go on from this file of samples, as if nothing had happened",
    )
    parser.add_argument(
        "--analyse",
        metavar="SAMPLES",
        help="only average the samples of this file, and draw them",
    )
    add_completed_input(parser)
    add_doc(parser, _doc)


def _doc() -> str:
    from deepspin.dynamics.thermo.options import gen_doc

    return gen_doc()


def thermo(
    *,
    input: str | None = None,
    restart: str | None = None,
    analyse: str | None = None,
    output: str = "out.json",
) -> None:
    """Check the input, then import TensorFlow and run `deepspin.dynamics.thermo.run`.

    With `analyse`, average the samples of that file only.
    """
    from deepspin.data.find import file_of
    from deepspin.dynamics.thermo.options import AUTO, normalize_thermo
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.inputs import load_input
    from deepspin.utils.refused import InputError

    if analyse is not None and input is None and not restart:
        from deepspin.dynamics.thermo import results

        results.analyse(analyse)
        return
    if input is None or analyse is not None:
        raise InputError("Give either an input file, or samples with --analyse FILE.")
    options = normalize_thermo(load_input(input))
    resolve_checkpoint(options["model"])
    _check_exists(str(file_of(options["structure"]["file"])), "structure")
    if restart is not None:
        _check_exists(restart, "restart file")
    start_tensorflow()
    from deepspin.dynamics.thermo.run import run

    if options["temperature"] == AUTO:
        options["temperature"] = _ladder(options, restart)
    run(options, restart=restart, output=output)


def _ladder(options: dict, restart: str | None) -> list[float]:
    """Temperatures around the order's end: those of a restart, or as exchange tells."""
    import math

    from deepspin.dynamics.thermo.data import load

    if restart is not None:
        return load(restart)[0]["options"]["temperature"]
    from deepspin.analysis.temperatures import ladder
    from deepspin.dynamics.md.build import build_state
    from deepspin.dynamics.thermo.settings import ThermoSettings
    from deepspin.infer.deep_spin import DeepSpin

    settings = ThermoSettings.of({**options, "temperature": [1.0], "seed": 0})
    potential = DeepSpin(settings.model)
    _, structure = build_state(settings.setup(0), potential)
    copies = math.prod(max(settings.sizes, key=math.prod)) / math.prod(
        settings.sizes[0]
    )
    moving = (~structure.fixed).sum() if settings.method.lattice else 0
    spins = potential.is_magnetic(structure.atype).sum()
    found = ladder(
        potential,
        structure,
        round(moving * copies),
        round(spins * copies),
        settings.fparam,
    )
    log.info("temperatures (K): %s", " ".join(f"{t:g}" for t in found))
    return found


def _check_exists(name: str, kind: str) -> None:
    if not Path(name).exists():
        raise FileNotFoundError(f"No {kind}: '{name}' does not exist.")
