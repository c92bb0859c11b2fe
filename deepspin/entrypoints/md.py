# SPDX-License-Identifier: Apache-2.0
"""``dp-spin md``: spin-lattice dynamics as an input file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepspin.dynamics.md.options import normalize_md
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.utils.inputs import load_input

if TYPE_CHECKING:
    from deepspin.dynamics.md.crew import Crew


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
    options = normalize_md(load_input(input))  # a typo answers before TensorFlow loads
    resolve_checkpoint(options["model"])  # so does a wrong file
    name = restart or options["structure"]["file"].partition("#")[0]
    if not Path(name).exists():
        kind = "restart file" if restart else "structure"
        raise FileNotFoundError(f"No {kind}: '{name}' does not exist.")
    start_tensorflow()
    from deepspin.dynamics.md.run import run

    run(options, restart=restart, output=output, crew=crew)
