# SPDX-License-Identifier: Apache-2.0
"""``dp-spin check-symmetry``: what a model breaks, and what data have."""

from __future__ import annotations

import json as json_module
import logging
import math
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from deepspin.entrypoints.common import Verbs, add_data, add_spin, add_verb
from deepspin.utils.terminal import say

log = logging.getLogger(__name__)

# Å; reaches the exchange of next-nearest neighbours in most magnets
DEFAULT_RCUT = 6.0


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "check-symmetry",
        check_symmetry,
        "Tell which symmetries a model breaks, and whether data have them.",
    )
    add_data(parser)
    add_spin(parser)
    parser.add_argument(
        "-m",
        "--model",
        help="model to try on the frames; without one the data are looked at alone",
    )
    parser.add_argument(
        "-r",
        "--rcut",
        type=float,
        default=DEFAULT_RCUT,
        help="cutoff in Å of the linear model that compares energies with magnetic "
        f"forces (default: {DEFAULT_RCUT:g})",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write the numbers to this file"
    )


def check_symmetry(
    *,
    systems: Sequence[str],
    model: str | None = None,
    rcut: float = DEFAULT_RCUT,
    json: str | None = None,
    **spin: Any,
) -> dict:
    """Print what a model breaks on the frames of data, and what the data themselves do.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    model : str, optional
        Model file of any kind.
    rcut : float
        Cutoff in Å, see `deepspin.infer.symmetry.agreement`.
    json : str, optional
        File to write the numbers to.
    **spin
        How to read the data, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    dict
        ``model`` (see `deepspin.infer.symmetry.violations`), ``torque`` and
        ``factors`` of the data; None where there is nothing to tell.

    Raises
    ------
    DataError, InputError
        The data cannot be read, or do not fit the model.
    """
    from deepspin.survey.scheme import survey
    from deepspin.utils.outputs import claim, replacing
    from deepspin.utils.refused import InputError

    if json is not None:
        claim(json)
    if not 0 < rcut < math.inf:
        raise InputError(f"-r must be a cutoff in Å above 0. Received: {rcut:g}")
    data = survey(systems, **spin)
    from deepspin.env import start_tensorflow

    start_tensorflow()
    from deepspin.data.systems import load_systems
    from deepspin.infer.deep_spin import DeepSpin
    from deepspin.infer.symmetry import agreement, violations
    from deepspin.infer.systems import load_for
    from deepspin.survey.quality import torque_share

    result: dict[str, Any] = {"model": None, "torque": None, "factors": None}
    if model is not None:
        potential = DeepSpin(model)
        broken = violations(potential, load_for([potential], data.paths))
        result["model"] = broken
        say("Energies of the model change, in meV/atom\n")
        say(f"  {'by':<32}{'rms':>10}{'largest':>10}\n")
        for name, row in broken.items():
            line = f"  {name:<32}{row['rms']:10.2e}{row['largest']:10.2e}\n"
            say(line)
    loaded = load_systems(data.paths, data.type_map, data.spin, allow_zero_spin=True)
    share = torque_share(loaded)
    if not math.isnan(share):
        result["torque"] = share
        say(
            f"Total torque of the data: {share:.2%} of what independent spins would "
            "have; 0 without spin-orbit coupling\n"
        )
        found = agreement(data.paths, data.type_map, data.spin, rcut)
        if found is not None:
            result["factors"] = {
                k: None if math.isnan(v) else v for k, v in vars(found).items()
            }
            say(
                "Energies change with the spins as their magnetic forces say, times\n"
                f"  {found.across:.3f} for spins that turn at fixed modulus\n"
                f"  {_told(found.along)} for moduli\n"
                f"  energies of a linear model of both: {found.error_as_given:.2e} "
                f"eV/atom left of {found.spread:.2e}; with the first factor "
                f"{found.error_across:.2e}\n"
            )
    if json is not None:
        with replacing(json) as partial:
            text = json_module.dumps(result, indent=2)
            partial.write_text(text + "\n", encoding="utf-8")
        log.info("wrote '%s'", json)
    return result


def _told(factor: float) -> str:
    return "not determined" if math.isnan(factor) else f"{factor:.3f}"
