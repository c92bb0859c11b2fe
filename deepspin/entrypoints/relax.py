# SPDX-License-Identifier: Apache-2.0
"""``dp-spin relax``: go to the nearest minimum, or look for the lowest one."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import (
    Verbs,
    add_force,
    add_reading,
    add_verb,
    take,
)

if TYPE_CHECKING:
    from deepspin.dynamics.relax.relaxation import Relaxation


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "relax",
        relax,
        "Relax positions, spins and cell, or look for the magnetic ground state.",
    )
    parser.add_argument(
        "structure",
        metavar="STRUCTURE",
        help="what ASE reads, with spins as initial magnetic moments or in an array "
        "`spin`; or a system of training data",
    )
    add_reading(parser)
    parser.add_argument(
        "-m", "--model", required=True, help="model of any kind that test takes"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="relaxed.extxyz",
        help="file to write, .extxyz, .xyz or .traj (default: relaxed.extxyz)",
    )
    parser.add_argument(
        "--frame",
        type=int,
        default=-1,
        help="frame of STRUCTURE, from 0, or from the end if negative (default: -1)",
    )
    _add_freedom(parser)
    _add_plan(parser)
    parser.add_argument(
        "--fparam",
        nargs="+",
        type=float,
        metavar="P",
        help="frame parameters, of a model that takes some",
    )
    add_force(parser)


def _add_plan(parser: ArgumentParser) -> None:
    """Declare how to go down, from where, and how far."""
    for option, default, what in (
        ("fmax", 1e-3, "longest force on atoms that may move, in eV/Å"),
        (
            "tmax",
            1e-4,
            "longest magnetic force that may still turn spins, or change their moduli, "
            "in eV/μ_B",
        ),
        (
            "smax",
            0.01,
            "largest component of the stress if the cell may change, in GPa",
        ),
    ):
        parser.add_argument(
            f"--{option}",
            type=float,
            default=default,
            help=f"{what} (default: {default:g})",
        )
    parser.add_argument(
        "--steps", type=int, default=1000, help="most steps (default: 1000)"
    )
    parser.add_argument(
        "--method",
        choices=("lbfgs", "cg"),
        default="lbfgs",
        help="L-BFGS, or conjugate gradients (default: lbfgs)",
    )
    parser.add_argument(
        "--starts",
        type=int,
        default=1,
        metavar="N",
        help="relax N starts at once: the spins as they are, then random, collinear "
        "and spiral ones; writes all different states, the lowest last (default: 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of these starts (default: 0)"
    )


def _add_freedom(parser: ArgumentParser) -> None:
    """Declare what may change."""
    parser.add_argument("--cell", action="store_true", help="relax the cell, too")
    parser.add_argument(
        "--pressure",
        type=float,
        default=0.0,
        metavar="P",
        help="outer pressure on that cell, in GPa (default: 0)",
    )
    parser.add_argument(
        "--spins",
        choices=("directions", "moduli", "collinear", "fixed"),
        default="directions",
        help="what of the spins may change: directions; and moduli, too; moduli and "
        "signs only; nothing (default: directions)",
    )
    parser.add_argument(
        "--axis",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="lay collinear spins along this axis first (default: on their own)",
    )
    for what, text in (("atoms", "positions"), ("spins", "spins")):
        parser.add_argument(
            f"--fix-{what}",
            nargs="+",
            default=(),
            metavar="ATOM",
            help=f"atoms whose {text} stay: numbers from 0, ranges such as 4-7, types "
            "or all",
        )


def relax(
    *,
    structure: str,
    model: str,
    output: str = "relaxed.extxyz",
    frame: int = -1,
    fparam: Sequence[float] | None = None,
    force: bool = False,
    **options: Any,
) -> Relaxation:
    """Relax a structure with spins, and write what comes of it.

    Parameters
    ----------
    structure, frame
        See `deepspin.atoms.structures.load_structure`.
    model : str
        Model file of any kind.
    output : str
        File to write; of several minima the lowest is its last frame. What is left of
        energies and forces in each step goes beside it, with the suffix ``.log``.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.
    force : bool
        Replace what is at `output`.
    **options
        See `deepspin.dynamics.relax.search`: `Changes` and `Plan`; for structures that
        other programs wrote `deepspin.data.formats.table.Reading`.

    Returns
    -------
    Relaxation
        The ends of all starts.

    Raises
    ------
    InputError, DataError, OutputError, ValueError, OSError
        Options that make no sense, a structure of no use, or an output that cannot be
        written.
    Stopped
        A signal stopped it, after a step; what there was is written.
    """
    from deepspin.atoms.structures import check_suffix, load_structure
    from deepspin.data.formats.table import Reading
    from deepspin.dynamics.relax.report import Report, log_of
    from deepspin.dynamics.relax.search import Changes, Plan, search
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.outputs import claim, locked
    from deepspin.utils.stopping import StopOnSignal, Stopped

    reading = take(Reading, options)
    changes, plan = take(Changes, options), Plan(**options)
    check_suffix(output)
    file = resolve_checkpoint(model)
    with locked(*[claim(path, force=force) for path in (output, log_of(output))]):
        start_tensorflow()
        from deepspin.infer.deep_spin import DeepSpin

        potential = DeepSpin(file)
        atoms = load_structure(structure, potential, frame, reading)
        atoms = atoms.with_spins(potential.is_magnetic(atoms.atype))
        report = Report(output, atoms, changes, StopOnSignal())
        try:
            with report.stop:
                end = search(
                    potential, atoms, changes, plan, fparam=fparam, observe=report
                )
        except KeyboardInterrupt as stop:
            if report.last is None:
                raise
            report.save(report.last)
            raise Stopped(
                f"stopped; wrote '{output}', which is not relaxed", report.stop.received
            ) from stop
        report.finish(end, potential)
    return end
