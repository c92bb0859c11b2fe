# SPDX-License-Identifier: Apache-2.0
"""Verbs that use trained models."""

from __future__ import annotations

import argparse
import sys

from deepspin.verbs.common import add_force, add_verb


def add_model_devi(verbs, common) -> None:
    """``dp-spin model-devi``."""
    parser = add_verb(
        verbs,
        common,
        "model-devi",
        "deepspin.entrypoints.model_devi:model_devi",
        "Tell how much models disagree about frames, and choose those worth labels.",
    )
    parser.add_argument(
        "-m",
        "--models",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="models of the same types, of any kind that test takes",
    )
    parser.add_argument(
        "-s",
        "--system",
        default=".",
        help="a system, or a folder searched for systems (default: .)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="model_devi.out",
        help="file to write (default: model_devi.out)",
    )
    parser.add_argument(
        "-f",
        "--frequency",
        type=int,
        default=1,
        help="steps between frames, for the first column (default: 1)",
    )
    parser.add_argument(
        "--real_error",
        action="store_true",
        help="errors against labels (rms over the models) instead of deviations",
    )
    parser.add_argument(
        "--atomic",
        action="store_true",
        help="also the deviation of each atom's force and magnetic force",
    )
    for option, what in (
        ("relative", "forces by their size plus LEVEL (eV/Å)"),
        ("relative_v", "virials by their size plus LEVEL (eV per atom)"),
        ("relative_fm", "magnetic forces by their size plus LEVEL (eV/μ_B)"),
    ):
        parser.add_argument(
            f"--{option}",
            type=float,
            metavar="LEVEL",
            help=f"divide deviations of {what}",
        )
    for option, column in (("select", "max_devi_f"), ("select-fm", "max_devi_fm")):
        parser.add_argument(
            f"--{option}",
            nargs=2,
            type=float,
            metavar=("LO", "HI"),
            help=f"list frames whose {column} is LO or more as candidates, unless one "
            "of the two deviations reaches its HI",
        )
    parser.add_argument(
        "--extract",
        metavar="DATA",
        help="write the candidates as systems to this folder, or HDF5 file",
    )
    add_force(parser)
    parser.add_argument(
        "-S", "--set-prefix", metavar="PREFIX", help="has no effect; DeePMD-kit has it"
    )


def add_relax(verbs, common) -> None:
    """``dp-spin relax``."""
    parser = add_verb(
        verbs,
        common,
        "relax",
        "deepspin.entrypoints.relax:relax",
        "Relax positions, spins and cell, or look for the magnetic ground state.",
    )
    parser.add_argument(
        "structure",
        metavar="STRUCTURE",
        help="what ASE reads, with spins as initial magnetic moments or in an array "
        "`spin`; or a system of training data",
    )
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
    parser.add_argument(
        "--fparam",
        nargs="+",
        type=float,
        metavar="P",
        help="frame parameters, of a model that takes some",
    )
    add_force(parser)


def _add_freedom(parser) -> None:
    """Options that say what may change."""
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


def add_md(verbs, common) -> None:
    """``dp-spin md``."""
    parser = add_verb(
        verbs,
        common,
        "md",
        "deepspin.entrypoints.md:md",
        "Run dynamics of atoms and spins as an input file says.",
    )
    parser.add_argument("input", metavar="INPUT", help="input file, JSON or YAML")
    parser.add_argument(
        "-r",
        "--restart",
        metavar="RESTART",
        help="go on from this restart file, as if nothing had happened",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        help="where to write the input with all defaults filled in (default: out.json)",
    )
    parser.add_argument(
        "--engine",
        choices=("tensorflow", "lammps"),
        default="tensorflow",
        help="what evaluates the model: this process, or LAMMPS, in as many as mpirun "
        "starts (default: tensorflow)",
    )
    _add_doc(parser, "md")


def add_thermo(verbs, common) -> None:
    """``dp-spin thermo``."""
    parser = add_verb(
        verbs,
        common,
        "thermo",
        "deepspin.entrypoints.thermo:thermo",
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
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        help="where to write the input with all defaults filled in (default: out.json)",
    )
    _add_doc(parser, "thermo")


def _add_doc(parser, name: str) -> None:
    """Declare the option that prints the documentation of an input."""
    parser.add_argument(
        "--doc",
        action=_PrintInput,
        nargs=0,
        const=name,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="print the documentation of the input file, as rst, and exit",
    )


class _PrintInput(argparse.Action):
    """Print what the input of ``dp-spin md`` or ``dp-spin thermo`` may hold."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if self.const == "md":
            from deepspin.dynamics.md.options import gen_doc
        else:
            from deepspin.dynamics.thermo.options import gen_doc

        sys.stdout.write(gen_doc() + "\n")
        parser.exit()
