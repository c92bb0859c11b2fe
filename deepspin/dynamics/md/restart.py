# SPDX-License-Identifier: Apache-2.0
"""Restart files of dynamics, and whether a run goes on from them exactly."""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.atoms.structures import Structure
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.settings import Setup
from deepspin.utils.inputs import changed
from deepspin.utils.limits import check_archive, check_readable
from deepspin.utils.outputs import replacing
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# version of the file format
FORMAT = 1
# options that the restart file settles: the input's have no effect
_KEPT = (
    *("structure", "spins", "masses", "fixed_atoms", "initial_temperature", "seed"),
    "order_vector",
)
# options that do not affect numbers: the model's weights do, not its file's name
_FREE = ("output", "steps", "model")


@dataclass(frozen=True, kw_only=True)
class RestartFile:
    """Everything that a run needs to go on.

    Parameters
    ----------
    state : State
        Atoms and spins.
    structure : Structure
        Names of types and periodic directions.
    signs : np.ndarray, shape (nwaves, nloc); or None
        Sublattices of the staggered orders.
    evaluations : int
        Evaluations of the model so far.
    made_by : dict
        What decides about the run's numbers.
    """

    state: State
    structure: Structure
    signs: np.ndarray | None
    evaluations: int
    made_by: dict

    def save(self, path: str | Path) -> None:
        """Write the whole restart file, or nothing."""
        about = {
            "format": FORMAT,
            "names": self.structure.names,
            "pbc": self.structure.pbc.tolist(),
            "evaluations": self.evaluations,
            "made_by": self.made_by,
        }
        arrays: dict[str, Any] = {
            f"state.{k}": v for k, v in self.state.arrays().items()
        }
        if self.signs is not None:
            arrays["signs"] = self.signs
        with replacing(path) as partial:
            np.savez(partial, about=json.dumps(about), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> RestartFile:
        """Read a restart file.

        Raises
        ------
        FileNotFoundError, ValueError
            There is none, it is of a newer version, or is not whole.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No restart file: '{path}' does not exist.")
        check_readable(path)
        try:
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive)
            with open(path, "rb") as raw, np.load(raw) as file:
                arrays = dict(file)
            about = json.loads(str(arrays.pop("about")))
            newer = about["format"] > FORMAT
            found = None if newer else cls._of(about, arrays)
        except Exception as error:  # zipfile raises errors of many kinds
            text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise ValueError(
                f"'{path}' is damaged, or no restart file of dp-spin md ({text}). Go "
                "on from another one, or begin anew."
            ) from error
        if found is None:
            raise ValueError(
                f"'{path}' has format {about['format']}; this deepspin reads up to "
                f"{FORMAT}. Install a newer one."
            )
        return found

    @classmethod
    def _of(cls, about: dict, arrays: dict[str, np.ndarray]) -> RestartFile:
        """Put together what a file holds, which must fit together."""
        signs = arrays.pop("signs", None)
        if signs is not None:  # earlier versions had one wave
            signs = np.atleast_2d(signs)
        state = State.from_arrays(
            {name.removeprefix("state."): array for name, array in arrays.items()}
        )
        names, pbc = tuple(about["names"]), np.array(about["pbc"], dtype=bool)
        options = about["made_by"]["options"]
        if not 0 <= state.atype.min() <= state.atype.max() < len(names):
            raise ValueError(f"types beyond the {len(names)} names")
        fit = signs is None or signs.shape[1:] == state.mass.shape
        if pbc.shape != (3,) or not fit:
            raise ValueError("`pbc` or `signs` of another shape")
        if state.step < 0 or about["evaluations"] < 0:
            raise ValueError("a negative number of steps or evaluations")
        if not {"output", "seed"} <= set(options):
            raise ValueError("the input of the run lacks `output` or `seed`")
        structure = Structure(
            names=names,
            atype=state.atype,
            coord=state.coord[0],
            box=None if state.box is None else state.box[0],
            pbc=pbc,
            spin=state.spin[0],
            mass=state.mass,
            fixed=state.fixed,
        )
        return cls(
            state=state,
            structure=structure,
            signs=signs,
            evaluations=int(about["evaluations"]),
            made_by=about["made_by"],
        )


# --- Exactness ------------------------------------------------------------------------


def check_restart(start: RestartFile, setup: Setup, potential: DeepSpin) -> None:
    """Refuse a restart file of another system or kind of dynamics.

    Raises
    ------
    InputError
        It does not fit the model, or the input.
    """
    if list(start.structure.names) != potential.type_map:
        raise InputError(
            f"The restart file is of types {', '.join(start.structure.names)}; the "
            f"model's are {', '.join(potential.type_map)}. Use that model."
        )
    if start.state.nrep != setup.nrep:
        raise InputError(
            f"The restart file has {start.state.nrep} replicas, the input "
            f"{setup.nrep}. Give as many temperatures, or seeds."
        )
    inertial = setup.ensemble.inertial
    if inertial != (start.state.spin_velocity is not None):
        kinds = ("another ensemble", '"tspin"')[:: 1 if inertial else -1]
        raise InputError(
            f"The restart file is of {kinds[0]}, the input asks for {kinds[1]}. Begin "
            "anew, with the last frame as `structure`."
        )


def warn_of_differences(before: dict, now: dict, restart: str) -> None:
    """Warn of what keeps a restarted run from equalling an uninterrupted one.

    Parameters
    ----------
    before, now : dict
        What made the restart file and what makes this run, see `RestartFile`.
    restart : str
        The file.
    """
    options = now["options"]
    differ = changed(before["options"], options, _FREE)
    parts = changed(before, now, ("options",))
    parts += [f"`{name}`" for name in differ if name not in _KEPT]
    if "ensemble" in differ:
        log.info(
            "goes on from '%s' in other ways; since it was written, these have "
            "changed: %s",
            restart,
            ", ".join(parts),
        )
    elif parts:
        log.warning(
            "this run will not equal an uninterrupted one; since '%s' was written, "
            "these have changed: %s",
            restart,
            ", ".join(parts),
        )
    kept = [f"`{name}`" for name in differ if name in _KEPT and options[name]]
    if kept:
        log.warning(
            "'%s' tells these itself; what the input says of them has no effect: %s",
            restart,
            ", ".join(kept),
        )
