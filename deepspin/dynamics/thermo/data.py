# SPDX-License-Identifier: Apache-2.0
"""Samples of ``dp-spin thermo``, in memory and in HDF5 files.

Each save replaces the whole file, which holds everything that a restart needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from deepspin.atoms.waves import order_parameter
from deepspin.data.files import DataError
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State
from deepspin.dynamics.thermo.averages import Samples
from deepspin.dynamics.thermo.sampling import Outcome
from deepspin.utils import hdf5
from deepspin.utils.limits import check_readable
from deepspin.utils.outputs import replacing

# version of the file format
FORMAT = 1
# quantities of each sample with their units
RECORDS = {
    "energy": "eV",
    "magnetisation": "μ_B",
    "order": "",
    "acceptance": "",
    "exchange": "",
    "modulus": "μ_B",
}


@dataclass(kw_only=True)
class SizeRun:
    """State and samples of one size.

    Parameters
    ----------
    temperature : np.ndarray, shape (nrep,)
        In K.
    signs : np.ndarray, shape (nvectors, nloc)
        Of each wave of the order, see `waves.order_parameter`.
    lattice : bool
        Whether the atoms move.
    state : State
        Where the replicas are.
    sampler : dict of str to np.ndarray
        `Sampler.arrays` of that moment.
    done : int
        Moves made, equilibration included.
    records : dict of str to list of np.ndarray
        Of `RECORDS`: an array for each sample.
    """

    temperature: np.ndarray
    signs: np.ndarray
    lattice: bool
    state: State
    sampler: dict[str, np.ndarray] = field(default_factory=dict)
    done: int = 0
    records: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {name: [] for name in RECORDS}
    )

    @property
    def nsamples(self) -> int:
        """Number of samples so far."""
        return len(self.records["energy"])

    def record(self, response: Response, outcome: Outcome) -> None:
        """Keep the present state as a sample."""
        spin = self.state.spin
        nspins = np.count_nonzero(self.signs[0])
        order = [order_parameter(spin, signs) for signs in self.signs]
        found = {
            "energy": response.energy,
            "magnetisation": spin.sum(axis=1) / nspins,
            "order": np.stack(order, axis=1),
            "acceptance": outcome.acceptance,
            "exchange": outcome.exchange,
            "modulus": np.linalg.norm(spin, axis=2).sum(axis=1) / nspins,
        }
        for name, values in found.items():
            self.records[name].append(values)

    def samples(self) -> Samples:
        """Return all samples; there must be some."""
        return Samples(
            temperature=self.temperature,
            natoms=self.state.nloc,
            nspins=int(np.count_nonzero(self.signs[0])),
            dof=self.state.dof if self.lattice else 0,
            **{name: np.stack(rows) for name, rows in self.records.items()},
        )


def save(path: str | Path, made_by: dict, runs: list[SizeRun]) -> None:
    """Write states and samples of all sizes: the whole file, or nothing."""
    about = {"format": FORMAT, "made_by": made_by}
    with replacing(path) as partial, hdf5.writing(partial, "w") as file:
        file["about"] = json.dumps(about)
        for number, run in enumerate(runs):
            group = file.create_group(f"size-{number}")
            group.attrs.update(done=run.done, lattice=run.lattice)
            group["temperature"], group["signs"] = run.temperature, run.signs
            group["temperature"].attrs["unit"] = "K"
            for part, arrays in (
                ("state", run.state.arrays()),
                ("sampler", run.sampler),
            ):
                inner = group.create_group(part)
                for name, array in arrays.items():
                    inner[name] = array
            if run.nsamples:
                for name, unit in RECORDS.items():
                    group[name] = np.stack(run.records[name])
                    group[name].attrs["unit"] = unit


def load(path: str | Path) -> tuple[dict, list[SizeRun]]:
    """Read what `save` has written.

    Raises
    ------
    FileNotFoundError, DataError
        There is no such file, it is of a newer version, or none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No samples: '{path}' does not exist.")
    check_readable(path)
    try:
        with hdf5.reading(path) as file:
            about = json.loads(file["about"][()])
            version = about["format"]
            groups = sorted(name for name in file if name.startswith("size-"))
            groups.sort(key=lambda name: int(name.removeprefix("size-")))
            runs = [_read(file[name]) for name in groups if version <= FORMAT]
    except Exception as error:  # h5py raises what it likes on damaged files
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"'{path}' is damaged, or no file of dp-spin thermo ({text})."
        ) from error
    if version > FORMAT:
        raise DataError(
            f"'{path}' has format {version}; this deepspin reads up to {FORMAT}. "
            "Install a newer one."
        )
    return about["made_by"], runs


def _read(group: h5py.Group) -> SizeRun:
    state, sampler = (
        {name: np.asarray(data[()]) for name, data in group[part].items()}
        for part in ("state", "sampler")
    )
    records = {n: list(group[n][()]) if n in group else [] for n in RECORDS}
    if not records["modulus"]:  # files of earlier versions
        records["modulus"] = [np.full_like(row, np.nan) for row in records["energy"]]
    return SizeRun(
        temperature=group["temperature"][()],
        signs=group["signs"][()],
        lattice=bool(group.attrs["lattice"]),
        state=State.from_arrays(state),
        sampler=sampler,
        done=int(group.attrs["done"]),
        records=records,
    )
