# SPDX-License-Identifier: Apache-2.0
"""``dp-spin init``: an input to start from, with the reasons for what is in it."""

from __future__ import annotations

import logging
import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepspin.entrypoints.common import Verbs, add_data, add_force, add_spin, add_verb

log = logging.getLogger(__name__)

FORMATS = (".json", ".yaml", ".yml")
SCHEMES = ("ener_spin", "invariant")


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "init",
        init,
        "Write an input to start from for given data, with the reasons.",
    )
    add_data(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="input.json",
        help="file to write, .json or .yaml (default: input.json)",
    )
    parser.add_argument(
        "-r", "--rcut", type=float, default=6.0, help="cutoff in Å (default: 6.0)"
    )
    parser.add_argument(
        "--scheme",
        choices=SCHEMES,
        default="ener_spin",
        help="how spins enter the model (default: ener_spin, which DeePMD-kit and "
        "LAMMPS know; what suits the data better is told)",
    )
    add_spin(parser)
    add_force(parser)


def init(
    *,
    systems: Sequence[str],
    output: str = "input.json",
    rcut: float = 6.0,
    scheme: str = "ener_spin",
    force: bool = False,
    **spin: Any,
) -> dict:
    """Write an input for given data.

    Reasons stand in it as comments: ``_comment...`` in JSON, ``#`` in YAML.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    output : str
        File to write, ``.json`` or ``.yaml``.
    rcut : float
        Cutoff in Å.
    scheme : {"ener_spin", "invariant"}
        How spins enter the model.
    force : bool
        Replace the file if it is there.
    **spin
        What the data does not tell, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    DataError, InputError, OutputError
        See `survey`; the output is of another kind or exists.
    """
    from deepspin.survey.proposal import FADE, comments, propose, written
    from deepspin.survey.scheme import survey
    from deepspin.utils.inputs import normalize
    from deepspin.utils.outputs import OutputError, claim, replacing
    from deepspin.utils.refused import InputError

    if Path(output).suffix not in FORMATS:
        raise OutputError(f"'{output}' must end in {', '.join(FORMATS)}.")
    if not FADE < rcut < math.inf:
        raise InputError(f"-r must be a cutoff above {FADE} Å. Received: {rcut:g}")
    keys = [spin[key] for key in ("spin_key", "force_mag_key") if spin.get(key)]
    if keys:
        raise InputError(
            "An input does not name columns of other programs' files, such as "
            f"{keys[0]}. Write the data with `dp-spin convert-data` and these options "
            "first."
        )
    claim(output, force=force)
    data = survey(systems, **spin)
    options = propose(data, rcut, scheme)
    normalize(options)
    with replacing(output) as partial:
        partial.write_text(written(options, partial.suffix), encoding="utf-8")
    for line in comments(options):
        log.info("%s", line)
    log.info("wrote '%s'; next: dp-spin train %s", output, output)
    return options
