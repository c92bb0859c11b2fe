# SPDX-License-Identifier: Apache-2.0
"""``dp-spin md``: spin-lattice dynamics as an input file says."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from deepspin.entrypoints.common import Verbs, add_completed_input, add_doc, add_verb

if TYPE_CHECKING:
    from deepspin.dynamics.md.crew import Crew


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "md",
        md,
        "Run dynamics of atoms and spins as an input file says.",
    )
    parser.add_argument("input", metavar="INPUT", help="input file, JSON or YAML")
    parser.add_argument(
        "-r",
        "--restart",
        metavar="RESTART",
        help="go on from this restart file, as if nothing had happened",
    )
    add_completed_input(parser)
    parser.add_argument(
        "--engine",
        choices=("tensorflow", "lammps"),
        default="tensorflow",
        help="where the model is evaluated: in this process, or in parts of the cell, "
        "by LAMMPS, one for each process that mpirun starts (default: tensorflow)",
    )
    add_doc(parser, _doc)


def _doc() -> str:
    from deepspin.dynamics.md.options import gen_doc

    return gen_doc()


def md(
    *,
    input: str,
    restart: str | None = None,
    output: str = "out.json",
    engine: str = "tensorflow",
) -> None:
    """Run dynamics (`deepspin.dynamics.md.run`); with LAMMPS, in several processes."""
    if engine == "tensorflow":
        _run(input, restart, output)
        return
    from deepspin.dynamics.md.crew import Crew

    with Crew() as crew:
        if crew.first:
            _run(input, restart, output, crew)
        else:
            crew.serve()


def _run(
    input: str, restart: str | None, output: str, crew: Crew | None = None
) -> None:
    """Check the input, then import TensorFlow and run."""
    from deepspin.data.find import file_of
    from deepspin.dynamics.md.options import normalize_md
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.inputs import load_input

    options = normalize_md(load_input(input))  # a typo answers before TensorFlow loads
    resolve_checkpoint(options["model"])  # so does a wrong file
    name = restart or file_of(options["structure"]["file"])
    if not Path(name).exists():
        kind = "restart file" if restart else "structure"
        raise FileNotFoundError(f"No {kind}: '{name}' does not exist.")
    start_tensorflow()
    from deepspin.dynamics.md.run import run

    run(options, restart=restart, output=output, crew=crew)
