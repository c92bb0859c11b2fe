# SPDX-License-Identifier: Apache-2.0
"""``dp-spin thermo``: temperature curves as an input file says."""

from __future__ import annotations

from pathlib import Path

from deepspin.dynamics.thermo.options import normalize_thermo
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.utils.inputs import load_input
from deepspin.utils.refused import InputError


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
    if (input is None) == (analyse is None) or (analyse and restart):
        raise InputError("Give either an input file, or samples with --analyse FILE.")
    if analyse is not None:
        from deepspin.dynamics.thermo import results as thermo_results

        thermo_results.analyse(analyse)
        return
    options = normalize_thermo(load_input(input))
    resolve_checkpoint(options["model"])
    _exists(options["structure"]["file"].partition("#")[0], "structure")
    if restart is not None:
        _exists(restart, "restart file")
    start_tensorflow()
    from deepspin.dynamics.thermo.run import run

    run(options, restart=restart, output=output)


def _exists(name: str, kind: str) -> None:
    if not Path(name).exists():
        raise FileNotFoundError(f"No {kind}: '{name}' does not exist.")
