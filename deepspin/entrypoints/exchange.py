# SPDX-License-Identifier: Apache-2.0
"""``dp-spin exchange``: couplings between the spins of a model."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import Verbs, add_force, add_reading, add_verb, take
from deepspin.utils.terminal import say

if TYPE_CHECKING:
    from deepspin.analysis.derivatives import ExchangeDerivatives
    from deepspin.analysis.files import Saved
    from deepspin.analysis.hamiltonian import Exchange
    from deepspin.atoms.structures import Structure
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# Å; pairs of one shell in perfect and in displaced lattices
TOLERANCE, DISPLACED = 0.01, 0.1


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "exchange",
        exchange,
        "Exchange, Dzyaloshinskii-Moriya vectors and anisotropy about a magnetic "
        "state, from second derivatives; ordering temperatures.",
    )
    parser.add_argument(
        "structure",
        metavar="STRUCTURE",
        help="magnetic cell, of any size: what ASE reads, with spins as initial "
        "magnetic moments or in an array `spin`; or a system of training data",
    )
    add_reading(parser)
    parser.add_argument(
        "-m",
        "--model",
        nargs="+",
        required=True,
        help="model of any kind that test takes; of several, such as of other seeds, "
        "mean and standard deviation",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="exchange.json",
        help="file to write, from which `dp-spin magnons` goes on; a picture goes "
        "beside it (default: exchange.json)",
    )
    parser.add_argument(
        "--frames",
        nargs="+",
        type=int,
        metavar="N",
        help="frames of STRUCTURE, from 0, or from the end if negative; of several, "
        "mean and standard deviation (default: the last)",
    )
    _add_ways(parser)
    add_force(parser)


def _add_ways(parser: ArgumentParser) -> None:
    """Declare what is taken, and how it is told."""
    parser.add_argument(
        "--orientations",
        type=int,
        choices=(1, 3),
        help="states with all spins turned by 90°: three tell all components of D and "
        "anisotropy (default: 3; 1 for models that do not change as all spins turn)",
    )
    parser.add_argument(
        "--relax-moduli",
        action="store_true",
        help="let moduli of the spins follow the rotations, in place of fixed ones",
    )
    parser.add_argument(
        "--keep-cell",
        action="store_true",
        help="take the cell as it is, not the smallest that repeats atoms and spins",
    )
    parser.add_argument(
        "--shells", type=int, default=8, help="shells to print (default: 8)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        help="distances in Å that follow one another nearer than this are one shell "
        f"(default: {TOLERANCE:g}, {DISPLACED:g} for several frames)",
    )
    parser.add_argument(
        "--beyond",
        type=int,
        metavar="STATES",
        help="turn spins by any angle in so many states, and tell how far these "
        "couplings hold, with biquadratic and three-site terms beyond them",
    )
    parser.add_argument(
        "--derivatives",
        nargs="+",
        type=int,
        default=(),
        metavar="ATOM",
        help="also tell how J changes as an atom moves (dJ/du, spin-phonon coupling): "
        "numbers of atoms of STRUCTURE from 0, with or without spins; its cell is kept",
    )
    parser.add_argument(
        "--derivatives-within",
        type=float,
        metavar="DISTANCE",
        help="distance in Å from such an atom, within which one site of a pair has to "
        "be (default: the model's cutoff)",
    )
    parser.add_argument(
        "--export",
        nargs="+",
        default=(),
        metavar="PROGRAM",
        help="also write files for tb2j, uppasd, vampire, spirit, spinw, sunny, each "
        "into a folder of its name beside the output",
    )
    parser.add_argument(
        "--fparam",
        nargs="+",
        type=float,
        metavar="P",
        help="frame parameters, of a model that takes some",
    )


def exchange(
    *,
    structure: str,
    model: Sequence[str],
    output: str = "exchange.json",
    frames: Sequence[int] | None = None,
    keep_cell: bool = False,
    shells: int = 8,
    tolerance: float | None = None,
    beyond: int | None = None,
    derivatives: Sequence[int] = (),
    derivatives_within: float | None = None,
    export: Sequence[str] = (),
    force: bool = False,
    **options: Any,
) -> Saved:
    """Print and write the couplings between the spins of a model.

    Parameters
    ----------
    structure, frames
        See `deepspin.atoms.structures.load_structure`.
    model : sequence of str
        Model files of any kind.
    output : str
        File to write; the picture has its name with ``.png``.
    keep_cell : bool
        Whether to leave the cell as it is.
    shells : int
        Shells to print.
    tolerance : float, optional
        See `deepspin.analysis.hamiltonian.SpinHamiltonian.shells`.
    beyond : int, optional
        Number of states, see `deepspin.analysis.beyond.beyond`.
    derivatives, derivatives_within
        Atoms that move, and a distance in Å, see
        `deepspin.analysis.derivatives.exchange_derivatives`.
    export : sequence of str
        Programs to write files for, see `deepspin.analysis.exports.programs`.
    force : bool
        Replace what is at `output`.
    **options
        See `deepspin.analysis.exchange.exchange`; for structures that other programs
        wrote `deepspin.data.formats.table.Reading`.

    Returns
    -------
    Saved
        What is in the file.

    Raises
    ------
    InputError, DataError, OutputError, ValueError, OSError
        Options that make no sense, a structure of no use, or an output that cannot be
        written.
    """
    from deepspin.analysis.exports.programs import claim_exports, write_exports
    from deepspin.data.formats.table import Reading
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.outputs import claim, locked
    from deepspin.utils.refused import InputError

    for name, value in (("--shells", shells), ("--beyond", beyond)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1. Received: {value}")
    if beyond is not None and beyond < 8:
        raise InputError(f"--beyond needs 8 states or more. Received: {beyond}")
    if tolerance is not None and not 0 < tolerance < 10:
        raise InputError(
            f"--tolerance must be a distance above 0 in Å. Received: {tolerance:g}"
        )
    if derivatives_within is not None and not 0 < derivatives_within < 1000:
        raise InputError(
            "--derivatives-within must be a distance above 0 in Å. Received: "
            f"{derivatives_within:g}"
        )
    if derivatives:
        _only_one(model, frames, options.get("relax_moduli", False))
    reading = take(Reading, options)
    files = [resolve_checkpoint(name) for name in model]
    picture = Path(output).with_suffix(".png")
    outputs = [claim(path, force=force) for path in (output, picture)]
    outputs += claim_exports(export, picture.parent, force=force)
    with locked(*outputs):
        start_tensorflow()
        from deepspin.analysis.exchange import exchange as exchange_of
        from deepspin.analysis.exchange import mean
        from deepspin.analysis.files import Saved, save_exchange
        from deepspin.infer.deep_spin import DeepSpin

        potentials = [DeepSpin(file) for file in files]
        kept = keep_cell or bool(derivatives)
        cells = _cells(structure, potentials[0], frames, reading, kept)
        _check_atoms(derivatives, cells[0].nloc)
        samples = []
        for potential in potentials:
            for cell in cells:
                samples.append(exchange_of(potential, cell, **options))
                if len(cells) * len(potentials) > 1:
                    log.info("%d of %d", len(samples), len(cells) * len(potentials))
        found = mean(samples)
        saved = Saved(
            exchange=found,
            cell=_crystal(cells[0]),
            models=tuple(map(str, files)),
            derivatives=_derivatives(
                potentials[0], cells[0], derivatives, derivatives_within, options
            ),
        )
        _tell(
            found, samples, shells, tolerance or (TOLERANCE, DISPLACED)[len(cells) > 1]
        )
        _tell_derivatives(saved)
        if beyond is not None:
            _tell_beyond(potentials[0], cells[-1], found, beyond, options.get("fparam"))
        save_exchange(output, saved)
        _draw(
            picture, samples, found, tolerance or (TOLERANCE, DISPLACED)[len(cells) > 1]
        )
        log.info("wrote '%s' and '%s'", output, picture)
        if export:
            write_exports(export, picture.parent, found.hamiltonian, force=force)
            log.info("wrote files for %s", ", ".join(export))
        return saved


def _cells(
    structure: str,
    potential: DeepSpin,
    frames: Sequence[int] | None,
    reading: Any,
    keep: bool,
) -> list[Structure]:
    """The cells, all with the same atoms."""
    from deepspin.analysis.cells import primitive
    from deepspin.atoms.structures import load_structure
    from deepspin.utils.refused import InputError

    cells = []
    for frame in frames or (-1,):
        cell = load_structure(structure, potential, frame, reading)
        cells.append(cell.with_spins(potential.is_magnetic(cell.atype)))
    if any(cell.symbols != cells[0].symbols for cell in cells):
        raise InputError(
            "--frames needs frames of the same atoms in the same order. Received: "
            f"{' '.join(str(cell.nloc) for cell in cells)} atoms"
        )
    if keep or len(cells) > 1:
        return cells
    small = primitive(cells[0])
    if small.nloc < cells[0].nloc:
        log.info(
            "the cell of %d atoms repeats one of %d, which is taken; --keep-cell takes "
            "the whole",
            cells[0].nloc,
            small.nloc,
        )
    return [small]


def _crystal(cell: Structure) -> Any:
    """Smallest cell without spins, for paths of wave vectors."""
    from dataclasses import replace

    import numpy as np

    from deepspin.analysis.cells import primitive

    return primitive(replace(cell, spin=np.zeros_like(cell.coord))).box


def _tell(
    found: Exchange, samples: Sequence[Exchange], shells: int, tolerance: float
) -> None:
    from deepspin.analysis import report
    from deepspin.analysis.ordering import ordering

    say(report.couplings(found, samples, number=shells, tolerance=tolerance))
    say(report.order(ordering(found.hamiltonian)))


def _only_one(
    model: Sequence[str], frames: Sequence[int] | None, relax_moduli: bool
) -> None:
    """Refuse what derivatives cannot be taken of."""
    from deepspin.utils.refused import InputError

    if len(model) > 1 or len(frames or (-1,)) > 1:
        raise InputError(
            "--derivatives takes one model and one frame. Received: "
            f"{len(model)} models, {len(frames or (-1,))} frames. Call it for each."
        )
    if relax_moduli:
        raise InputError(
            "--derivatives are at fixed spins, and --relax-moduli lets moduli follow. "
            "Leave out one of them."
        )


def _check_atoms(atoms: Sequence[int], nloc: int) -> None:
    from deepspin.utils.refused import InputError

    wrong = [atom for atom in atoms if not 0 <= atom < nloc]
    if wrong:
        raise InputError(
            f"--derivatives needs numbers of atoms from 0 to {nloc - 1}. Received: "
            f"{' '.join(map(str, wrong))}"
        )


def _derivatives(
    potential: DeepSpin,
    cell: Structure,
    atoms: Sequence[int],
    within: float | None,
    options: Mapping[str, Any],
) -> tuple[ExchangeDerivatives, ...]:
    from deepspin.analysis.derivatives import exchange_derivatives

    same = {k: options[k] for k in ("orientations", "fparam") if k in options}
    found = []
    for atom in atoms:
        log.info("derivatives with the position of atom %d", atom)
        found.append(exchange_derivatives(potential, cell, atom, within=within, **same))
    return tuple(found)


def _tell_derivatives(saved: Saved) -> None:
    from deepspin.analysis import report

    for found in saved.derivatives:
        say(report.derivatives(found, saved.exchange.hamiltonian))


def _tell_beyond(
    potential: DeepSpin, cell: Structure, found: Exchange, states: int, fparam: Any
) -> None:
    from deepspin.analysis import report
    from deepspin.analysis.beyond import beyond

    say(
        report.residuals(
            beyond(potential, cell, found.hamiltonian, states, fparam=fparam)
        )
    )


def _draw(
    picture: Path, samples: Sequence[Exchange], found: Exchange, tolerance: float
) -> None:
    import numpy as np

    from deepspin.analysis.report import errors_of
    from deepspin.pictures.plots import save
    from deepspin.pictures.spin_waves import draw_couplings

    distance, values, kinds = [], [], []
    for sample in (s.hamiltonian for s in samples):
        distance.append(np.linalg.norm(sample.pairs.vectors(sample.sites), axis=1))
        values.append(sample.exchange)
        names = sample.sites.names
        both = zip(sample.pairs.first, sample.pairs.second, strict=True)
        kinds += ["-".join(sorted((names[i], names[j]))) for i, j in both]
    shells = found.hamiltonian.shells(tolerance)
    errors = errors_of(found.hamiltonian, shells, [s.hamiltonian for s in samples])
    means = [
        ("-".join(s.names), s.distance, s.exchange, max(error, s.spread))
        for s, error in zip(shells, errors, strict=True)
    ]
    save(
        draw_couplings(np.concatenate(distance), np.concatenate(values), kinds, means),
        picture,
    )
