# SPDX-License-Identifier: Apache-2.0
"""``dp-spin spectrum``: spin waves as a trajectory has them."""

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

    from deepspin.analysis.spectrum import Spectrum

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "spectrum",
        spectrum,
        "Dynamical structure factor S(q, ω) of the spins of a trajectory.",
    )
    parser.add_argument(
        "trajectory", metavar="TRAJECTORY", help="trajectory of `dp-spin md`"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="spectrum.csv",
        help="table to write; a picture goes beside it (default: spectrum.csv)",
    )
    parser.add_argument(
        "--repeat",
        nargs=3,
        type=int,
        default=(1, 1, 1),
        metavar="N",
        help="how often the unit cell of the wave vectors is repeated in the "
        "trajectory's, as in the input of md (default: 1 1 1)",
    )
    parser.add_argument(
        "--q",
        nargs="+",
        metavar="Q",
        help="wave vectors, such as 0.25,0,0 in the reciprocal vectors of that unit "
        "cell (default: all along its axes that fit)",
    )
    parser.add_argument(
        "--skip",
        type=float,
        default=0.0,
        metavar="TIME",
        help="time in ps at the beginning to leave out (default: 0)",
    )
    parser.add_argument(
        "--segments",
        type=int,
        default=1,
        help="parts to average over, for less noise and broader lines (default: 1)",
    )
    parser.add_argument(
        "--compare",
        metavar="EXCHANGE",
        help="file of `dp-spin exchange`, whose linear spin waves are put beside",
    )
    add_force(parser)


def spectrum(
    *,
    trajectory: str,
    output: str = "spectrum.csv",
    repeat: Sequence[int] = (1, 1, 1),
    q: Sequence[str] | None = None,
    skip: float = 0.0,
    segments: int = 1,
    compare: str | None = None,
    force: bool = False,
) -> Spectrum:
    """Write spectra of the spins of a trajectory, and draw them.

    Parameters
    ----------
    trajectory : str
        Of ``dp-spin md``.
    output : str
        Table to write; the picture has its name with ``.png``.
    repeat : sequence of 3 int
        How often the unit cell of the wave vectors is repeated.
    q : sequence of str, optional
        Wave vectors in its reciprocal vectors, as ``x,y,z``.
    skip, segments
        See `deepspin.analysis.spectrum`.
    compare : str, optional
        File of ``dp-spin exchange``.
    force : bool
        Replace what is at `output`.

    Returns
    -------
    Spectrum
        At all wave vectors.

    Raises
    ------
    InputError, DataError, OutputError, OSError
        Options that make no sense, or a file of no use.
    """
    import numpy as np

    from deepspin.analysis.files import load_exchange
    from deepspin.analysis.paths import corner
    from deepspin.analysis.spectrum import read_spins, waves_along_axes
    from deepspin.analysis.spectrum import spectrum as spectrum_of
    from deepspin.pictures.plots import save
    from deepspin.pictures.spin_waves import draw_spectrum
    from deepspin.utils.outputs import claim, locked
    from deepspin.utils.refused import InputError

    for name, value in (("--segments", segments), ("--repeat", min(repeat))):
        if value < 1:
            raise InputError(f"{name} must be at least 1. Received: {value}")
    if not 0 <= skip < np.inf:
        raise InputError(f"--skip must be a time of 0 ps or more. Received: {skip:g}")
    waves = (
        np.array([corner(word, "--q") for word in q]) if q else waves_along_axes(repeat)
    )
    known = None if compare is None else load_exchange(compare)
    picture = Path(output).with_suffix(".png")
    with locked(*[claim(file, force=force) for file in (output, picture)]):
        motion = read_spins(trajectory, skip)
        unit = motion.box / np.array(repeat)[:, None]
        found = spectrum_of(motion, waves @ np.linalg.inv(unit).T * 2 * np.pi, segments)
        linear = None
        if known is not None:
            from deepspin.analysis.magnons import magnons

            box = known.exchange.curvature.sites.box
            if box is None:
                raise InputError(
                    f"'{compare}' is of a molecule, which has no spin waves."
                )
            inside = found.q @ box.T / (2 * np.pi)
            linear = magnons(known.exchange.curvature, inside).energy
        names = [" ".join(f"{x:g}" for x in wave) for wave in waves]
        _tell(found, names, linear)
        _write(output, found, names)
        save(draw_spectrum(names, found.energy, found.strength, found.peak), picture)
    log.info("wrote '%s' and '%s'", output, picture)
    return found


def _tell(found: Spectrum, names: Sequence[str], linear: np.ndarray | None) -> None:
    """Print where the spectra are largest."""
    import numpy as np

    say(
        f"Spectra of the spins, in meV; a line is {1e3 * found.resolution:.2f} wide\n"
        f"  {'q':<24}{'peak':>10}{'' if linear is None else '  linear spin waves'}\n"
    )
    for k, name in enumerate(names):
        peak = found.peak[k]
        text = f"{1e3 * peak:10.2f}" if np.isfinite(peak) else f"{'-':>10}"
        if linear is not None:
            text += "  " + " ".join(f"{1e3 * e:8.2f}" for e in linear[k])
        say(f"  {name:<24}{text}\n")


def _write(output: str, found: Spectrum, names: Sequence[str]) -> None:
    """Write a row for each energy."""
    from deepspin.utils.outputs import replacing

    rows = [",".join(["energy (meV)", *(f"S({name}) (mu_B^2/eV)" for name in names)])]
    for energy, values in zip(found.energy, found.strength.T, strict=True):
        rows.append(",".join(f"{x:.8g}" for x in (1e3 * energy, *values)))
    with replacing(output) as partial:
        partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
