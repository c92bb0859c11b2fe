# SPDX-License-Identifier: Apache-2.0
"""A run of ``dp-spin thermo``, from a complete input to its files."""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path

from deepspin.dynamics.thermo.averages import Curve
from deepspin.dynamics.thermo.data import load
from deepspin.dynamics.thermo.ladder import Ladder
from deepspin.dynamics.thermo.results import analyse, outputs
from deepspin.dynamics.thermo.settings import ThermoSettings
from deepspin.infer.deep_spin import DeepSpin
from deepspin.utils.inputs import changed
from deepspin.utils.outputs import claim, locked, replacing, set_aside
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# options that a restart may change
_FREE = ("output", "samples", "model")


def run(
    given: dict,
    potential: DeepSpin | None = None,
    *,
    restart: str | None = None,
    output: str = "out.json",
) -> list[Curve]:
    """Sample as an input says.

    Parameters
    ----------
    given : dict
        The complete input, see `options.normalize_thermo`.
    potential : DeepSpin, optional
        The model, if it is not to be loaded from its file.
    restart : str, optional
        File of samples to go on from.
    output : str
        Where to write the input with all defaults.

    Returns
    -------
    list of Curve
        Averages for each size.

    Raises
    ------
    InputError, DataError, OSError
        The input, or a file that it names, is of no use.
    DynamicsError
        Atoms or spins cannot be followed any more.
    Stopped
        A signal stopped it.
    """
    potential = DeepSpin(given["model"]) if potential is None else potential
    before, runs = ({}, []) if restart is None else load(restart)
    given = _with_seed(given, before)
    made_by = {**potential.describe(), "options": given}
    if restart is not None:
        _check_restart(before, made_by, restart)
    ladder = Ladder(ThermoSettings.of(given), potential, made_by, runs)
    path = ladder.path
    files = [path, *outputs(path), Path(output)]
    with locked(*map(claim, files)):
        if restart is None or Path(restart).resolve() != path.resolve():
            set_aside(files)
            ladder.save()
        with replacing(claim(output)) as partial:
            partial.write_text(json.dumps(given, indent=2) + "\n", encoding="utf-8")
        ladder.run()
        return analyse(path)[0]


def _with_seed(given: dict, before: dict) -> dict:
    """Give the input a seed if it has none: that of the samples, or a new one."""
    if given["seed"] is not None:
        return given
    seed = before["options"]["seed"] if before else secrets.randbelow(2**31)
    return {**given, "seed": seed}


def _check_restart(before: dict, now: dict, restart: str) -> None:
    """Refuse samples of another input; warn of another model or version.

    Parameters
    ----------
    before, now : dict
        What made the samples so far, and what makes those to come.
    restart : str
        Their file.
    """
    differ = changed(before["options"], now["options"], _FREE)
    if differ:
        raise InputError(
            f"'{restart}' was sampled with other values of "
            f"{', '.join(f'`{name}`' for name in differ)}. Go on with those that it "
            "has, or begin anew."
        )
    parts = changed(before, now, ("options",))
    if parts:
        log.warning(
            "this run will not equal an uninterrupted one; since the samples "
            "so far were made, these have changed: %s",
            ", ".join(parts),
        )
