# SPDX-License-Identifier: Apache-2.0
"""A model as a Hamiltonian that LAMMPS evaluates."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

import numpy as np

from deepspin.dynamics.core.fields import ModelFields, Response
from deepspin.dynamics.md.crew import Crew

log = logging.getLogger(__name__)

# in LAMMPS' metal units, eV ps
HBAR = 6.5821191e-4
# count neighbours beyond `sel` every so many evaluations
COUNTED = 100
# empty space (Å) around atoms where the cell is open
MARGIN = 1.0
_SETTINGS = """
units metal
atom_style spin
atom_modify map array sort 0 0
boundary {boundary}
box tilt large
region cell prism -1 1 -1 1 -1 1 0 0 0
create_box {ntypes} cell
mass * 1.0
pair_style deepspin "{model}" {parameters}
pair_coeff * * {names}
neigh_modify every 1 delay 0 check no
thermo_style custom step pe
fix given all property/atom d2_spin 4
variable s0 atom d2_spin[1]
variable sx atom d2_spin[2]
variable sy atom d2_spin[3]
variable sz atom d2_spin[4]
compute forces all property/atom fx fy fz fmx fmy fmz
"""


class LammpsFields:
    """A model as a Hamiltonian, evaluated by LAMMPS.

    Parameters
    ----------
    crew : Crew
        The processes; this is the first one.
    model : ModelFields
        The model and its atoms; `fparam` are the same for all replicas.

    Raises
    ------
    EngineError
        Something is not installed, or LAMMPS does not take the model.
    """

    def __init__(self, crew: Crew, model: ModelFields):
        self.crew, self.model = crew, model
        pbc = (model.box is not None) if model.pbc is None else model.pbc
        self.pbc = np.broadcast_to(pbc, 3).astype(bool)
        self.magnetic = model.potential.is_magnetic(model.atype)
        self._calls = 0
        self._open()

    def _open(self) -> None:
        """Write the model to a file and have LAMMPS read it."""
        from deepspin.interop.graph import write_graph

        potential, names = self.model.potential, self.model.potential.type_map
        with tempfile.TemporaryDirectory(prefix="deepspin-") as folder:
            path = Path(folder) / "model.pb"
            types = write_graph(potential.model, path, potential.metadata).types
            magnetic = potential.is_magnetic(types)
            order = [
                [t for t, m in zip(types, magnetic, strict=True) if m == wanted]
                for wanted in (True, False)
            ]
            fparam = () if self.model.fparam is None else self.model.fparam
            given = [f"{x:.17g}" for x in fparam]
            settings = _SETTINGS.format(
                boundary=" ".join("p" * sum(self.pbc) + "f" * sum(~self.pbc)),
                ntypes=len(names),
                model=path,
                parameters=" ".join(["fparam", *given]) if given else "",
                names=" ".join(names),
            )
            self.crew.ask("open", settings, self.model.atype, list(names), tuple(order))
        log.info(
            "LAMMPS evaluates the model, with %d process%s",
            self.crew.size,
            "es" * (self.crew.size > 1),
        )

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Have LAMMPS evaluate one replica after the other."""
        box = self.model.boxes(len(coord))
        if self._calls % COUNTED == 0:
            self.model.check(coord, spin)
        self._calls += 1
        boxes = np.zeros((len(coord), 3, 3)) if box is None else box
        answers = [self._respond(*one) for one in zip(coord, spin, boxes, strict=True)]
        return Response(*map(np.array, zip(*answers, strict=True)))

    def _respond(
        self, coord: np.ndarray, spin: np.ndarray, box: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy, forces and magnetic forces of one replica."""
        lattice, turn = turned(box[self.pbc])
        coord, spin = coord @ turn, spin @ turn
        rows = directed(spin, self.magnetic)
        modulus = rows[:, :1]
        # LAMMPS lists neighbours by their distance, but what the model sees of them
        # may be nearer; in steps, so that rounding does not matter
        scheme = self.model.potential.model.spin.scheme
        reach = scheme.reach(self.model.atype, modulus[:, 0])
        skin = math.ceil(12.3 * reach.max()) / 10
        energy, found = self.crew.ask(
            "respond", _cell(lattice, coord), skin, coord, rows
        )
        force, torque = found[:, :3], found[:, 3:]
        force_mag = np.where(self.magnetic[:, None], torque, 0.0) * HBAR / modulus
        return energy, force @ turn.T, force_mag @ turn.T


def directed(spin: np.ndarray, magnetic: np.ndarray) -> np.ndarray:
    """Moduli and directions of spins (nloc, 3), shape (nloc, 4); modulus 1 for no spin.

    Raises
    ------
    ValueError
        A spin has no direction.
    """
    modulus = np.linalg.norm(spin, axis=1)
    bare = magnetic & (modulus == 0)
    if bare.any():
        raise ValueError(
            f"The spin of atom {np.argmax(bare)} is 0, which LAMMPS cannot have on a "
            "type with spin. Give it 1e-6 μ_B, or use the engine tensorflow."
        )
    modulus = np.where(magnetic, modulus, 1.0)[:, None]
    return np.hstack([modulus, spin / modulus])


def turned(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn lattice vectors so that the first is along x, the second in the plane xy.

    Parameters
    ----------
    lattice : np.ndarray, shape (n, 3)
        Up to three vectors, in rows.

    Returns
    -------
    lattice : np.ndarray, shape (n, 3)
        The same, turned: a lower triangle.
    turn : np.ndarray, shape (3, 3)
        Vectors times this are turned, and mirrored perhaps.
    """
    n = len(lattice)
    turn, upper = np.linalg.qr(lattice.T, mode="complete")
    turn[:, :n] *= np.where(np.diag(upper) < 0, -1.0, 1.0)
    return np.tril(lattice @ turn), turn


def _cell(lattice: np.ndarray, coord: np.ndarray) -> tuple:
    """Corners and tilts: lattice vectors, and room for all atoms where it is open."""
    low, high, box = np.zeros(3), np.zeros(3), np.zeros((3, 3))
    n = len(lattice)
    box[:n] = lattice
    high[:n] = np.diag(box)[:n]
    low[n:] = coord[:, n:].min(axis=0) - MARGIN
    high[n:] = coord[:, n:].max(axis=0) + MARGIN
    return low.tolist(), high.tolist(), box[1, 0], box[2, 1], box[2, 0]
