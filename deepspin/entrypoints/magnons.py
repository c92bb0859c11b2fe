# SPDX-License-Identifier: Apache-2.0
"""``dp-spin magnons``: spin waves of the couplings that ``dp-spin exchange`` wrote."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepspin.entrypoints.common import Verbs, add_force, add_verb
from deepspin.utils.terminal import say

if TYPE_CHECKING:
    import numpy as np

    from deepspin.analysis.magnons import Magnons

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "magnons",
        magnons,
        "Spin waves along a path and their density of states, by linear theory.",
    )
    parser.add_argument(
        "exchange",
        metavar="EXCHANGE",
        help="file that `dp-spin exchange` wrote, about a stationary state",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="magnons.csv",
        help="table to write; a picture goes beside it (default: magnons.csv)",
    )
    parser.add_argument(
        "--path",
        nargs="+",
        metavar="POINT",
        help="wave vectors to go along, such as 0,0,0 0.5,0.5,0.5 in the reciprocal "
        "vectors of the crystal's smallest cell, or the names of special points in one "
        "word, such as GXWKGL (default: ASE's path for the lattice)",
    )
    parser.add_argument(
        "--points",
        type=int,
        default=200,
        help="wave vectors along the path (default: 200)",
    )
    parser.add_argument(
        "--mesh",
        type=int,
        default=32,
        help="wave vectors in each direction for the density of states (default: 32)",
    )
    parser.add_argument(
        "--moment",
        nargs="+",
        metavar="TYPE=MOMENT",
        help="moments in μ_B that precess, such as Ni=2 for S = 1 (default: those of "
        "the structure)",
    )
    parser.add_argument(
        "--tmax",
        type=float,
        default=1e-3,
        help="longest magnetic force across a spin that is taken for 0, in eV/μ_B "
        "(default: 1e-3)",
    )
    add_force(parser)


def magnons(
    *,
    exchange: str,
    output: str = "magnons.csv",
    path: Sequence[str] | None = None,
    points: int = 200,
    mesh: int = 32,
    moment: Sequence[str] | None = None,
    tmax: float = 1e-3,
    force: bool = False,
) -> Magnons:
    """Write the energies of spin waves along a path, and draw them.

    Parameters
    ----------
    exchange : str
        File of `dp-spin exchange`.
    output : str
        Table to write; the picture has its name with ``.png``.
    path : sequence of str, optional
        Corners, see `deepspin.analysis.paths.path_of`.
    points, mesh : int
        Wave vectors along the path, and in each direction for the density of states.
    moment : sequence of str, optional
        Moments in μ_B by type, ``TYPE=MOMENT``.
    tmax : float
        See `deepspin.analysis.magnons.check_stationary`.
    force : bool
        Replace what is at `output`.

    Returns
    -------
    Magnons
        Along the path.

    Raises
    ------
    InputError, DataError, OutputError, OSError
        Options that make no sense, a file of no use, or a state that is not
        stationary.
    """
    from deepspin.analysis.files import load_exchange
    from deepspin.analysis.magnons import check_stationary, density
    from deepspin.analysis.magnons import magnons as magnons_of
    from deepspin.analysis.magnons import mesh as mesh_of
    from deepspin.analysis.paths import path_of
    from deepspin.pictures.plots import save
    from deepspin.pictures.spin_waves import draw_magnons
    from deepspin.utils.outputs import claim, locked
    from deepspin.utils.refused import InputError

    for name, value, least in (("--points", points, 2), ("--mesh", mesh, 1)):
        if value < least:
            raise InputError(f"{name} must be at least {least}. Received: {value}")
    saved = load_exchange(exchange)
    curvature = saved.exchange.curvature
    sites = curvature.sites
    own = _moments(moment, sites.names, sites.moment)
    check_stationary(sites, curvature.torque, tmax)
    picture = Path(output).with_suffix(".png")
    with locked(*[claim(file, force=force) for file in (output, picture)]):
        way = path_of(saved.cell, path, points)
        found = magnons_of(curvature, way.within(sites.box), own)
        everywhere = magnons_of(curvature, mesh_of([mesh] * 3, sites.pbc), own)
        _tell(found, everywhere, own)
        _write(output, way.q, way.place, found)
        states = density(everywhere.energy)
        save(draw_magnons(way.place, found.energy, way.ticks, states), picture)
    log.info("wrote '%s' and '%s'", output, picture)
    return found


def _moments(
    given: Sequence[str] | None, names: Sequence[str], moment: np.ndarray
) -> np.ndarray:
    """Moments of the sites in μ_B."""
    import math

    from deepspin.utils.refused import InputError

    result = moment.copy()
    for word in given or ():
        name, _, text = word.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if name not in names or not 0 < value < math.inf:
            raise InputError(
                "--moment takes TYPE=MOMENT with a moment above 0 in μ_B and one of "
                f"the types {', '.join(sorted(set(names)))}. Received: {word}"
            )
        for k, own in enumerate(names):
            result[k] = value if own == name else result[k]
    return result


def _tell(found: Magnons, everywhere: Magnons, moment: np.ndarray) -> None:
    """Print what the waves are like."""
    say(
        f"Magnons in meV: {found.energy.shape[1]} modes, moments "
        f"{', '.join(sorted({f'{m:.4f}' for m in moment}))} μ_B (S = m/2)\n"
        f"  along the path {1e3 * found.energy.min():.4f} to "
        f"{1e3 * found.energy.max():.4f}, in the whole zone up to "
        f"{1e3 * everywhere.energy.max():.4f}\n"
    )
    unstable = int((~found.stable).sum() + (~everywhere.stable).sum())
    if unstable:
        where = found if not found.stable.all() else everywhere
        worst = where.q[~where.stable][0]
        log.warning(
            "the state is no minimum: waves at %d of %d wave vectors lower the energy, "
            "such as at (%s) in the reciprocal vectors of the magnetic cell. Look for "
            "a lower state with `dp-spin relax --starts`",
            unstable,
            len(found.q) + len(everywhere.q),
            ", ".join(f"{x:.3f}" for x in worst),
        )


def _write(output: str, q: np.ndarray, place: np.ndarray, found: Magnons) -> None:
    """Write a row for each wave vector."""
    from deepspin.utils.outputs import replacing

    names = ["path (1/A)", "q_x (1/A)", "q_y (1/A)", "q_z (1/A)", "stable"]
    names += [f"E_{k + 1} (meV)" for k in range(found.energy.shape[1])]
    rows = [",".join(names)]
    for k in range(len(q)):
        numbers = [place[k], *q[k]]
        words = [f"{x:.8g}" for x in numbers] + [str(int(found.stable[k]))]
        rows.append(",".join([*words, *(f"{1e3 * e:.8g}" for e in found.energy[k])]))
    with replacing(output) as partial:
        partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
