# SPDX-License-Identifier: Apache-2.0
"""``dp-spin neighbor-stat``: numbers of neighbours, and what `sel` they ask for."""

from __future__ import annotations

import logging
import math
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import Verbs, add_spin, add_verb
from deepspin.utils.terminal import say

if TYPE_CHECKING:
    from deepspin.survey.statistics import NeighborStat

log = logging.getLogger(__name__)

DEFAULT_RCUT = 6.0


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "neighbor-stat",
        neighbor_stat,
        "Count neighbours, virtual atoms included, and suggest sel.",
    )
    parser.add_argument(
        "-s",
        "--system",
        nargs="+",
        default=["."],
        metavar="DATA",
        help="systems, or folders to search (default: .)",
    )
    parser.add_argument(
        "-r",
        "--rcut",
        type=float,
        help="cutoff in Å (default: that of -i, otherwise 6.0)",
    )
    add_spin(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="also draw the distributions to this file (.png, .pdf or .svg)",
    )


def neighbor_stat(
    *,
    system: Sequence[str],
    rcut: float | None = None,
    output: str | None = None,
    **spin: Any,
) -> NeighborStat:
    """Print how many neighbours atoms have within a cutoff, and a `sel` for them.

    Around real atoms only, as the model does; DeePMD-kit counts around virtual atoms,
    too, and may find a few more.

    Parameters
    ----------
    system : sequence of str
        Systems, or folders to search.
    rcut : float, optional
        Cutoff in Å; otherwise that of the input, or 6.
    output : str, optional
        Picture to draw.
    **spin
        How to read the systems, see `deepspin.survey.scheme.survey`; with ``input``,
        its `sel` is compared, too.

    Raises
    ------
    DataError, InputError, OutputError
        See `survey`; the picture cannot be written.
    """
    from deepspin.data.notes import Notes
    from deepspin.data.systems import load_system
    from deepspin.pictures.neighbors import draw_neighbors
    from deepspin.pictures.plots import claim_picture, save
    from deepspin.survey.neighbors import report
    from deepspin.survey.scheme import survey
    from deepspin.survey.statistics import NeighborStat
    from deepspin.utils.inputs import load_input, normalize
    from deepspin.utils.refused import InputError

    if output is not None:
        claim_picture(output)
    descriptor = {}
    if spin.get("input") is not None:
        descriptor = normalize(load_input(spin["input"]))["model"]["descriptor"]
    rcut = descriptor.get("rcut", DEFAULT_RCUT) if rcut is None else rcut
    if not 0 < rcut < math.inf:
        raise InputError(f"-r must be a cutoff in Å above 0. Received: {rcut:g}")
    data = survey(system, **spin)
    data.report()
    stat = NeighborStat(data.type_map, data.spin, rcut)
    with Notes() as notes:
        for path in data.paths:
            stat.add(load_system(path, data.type_map, data.spin, True, notes=notes))
    sel = descriptor.get("sel")
    say(report(stat, sel if isinstance(sel, list) else None))
    if output is not None:
        save(draw_neighbors(stat), output)
        log.info("wrote '%s'", output)
    return stat
