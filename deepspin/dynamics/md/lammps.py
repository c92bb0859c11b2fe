# SPDX-License-Identifier: Apache-2.0
"""A model as a Hamiltonian that many processes evaluate, in LAMMPS' decomposition."""

from __future__ import annotations

import logging
import pickle

import numpy as np

from deepspin.dynamics.core.fields import ModelFields, Response
from deepspin.dynamics.md.crew import Crew

log = logging.getLogger(__name__)

# count neighbours beyond `sel` every so many evaluations
COUNTED = 100
# empty space (Å) around atoms where the cell is open
MARGIN = 1.0
# how much farther (Å) than the model sees neighbours are listed, for rounding
ROUNDING = 1e-6


class LammpsFields:
    """A model as a Hamiltonian, evaluated by all processes of a crew.

    Parameters
    ----------
    crew : Crew
        The processes; this is the first one.
    model : ModelFields
        The model and its atoms; `fparam` are the same for all replicas.

    Raises
    ------
    EngineError
        Something is not installed, or of no use.
    """

    def __init__(self, crew: Crew, model: ModelFields):
        self.crew, self.model = crew, model
        pbc = (model.box is not None) if model.pbc is None else model.pbc
        self.pbc = np.broadcast_to(pbc, 3).astype(bool)
        self._calls = 0
        boundary = " ".join("p" * sum(self.pbc) + "f" * sum(~self.pbc))
        potential = pickle.dumps(model.potential)
        crew.ask("open", potential, model.atype, boundary, model.fparam)
        log.info(
            "LAMMPS divides the cell among %d process%s",
            crew.size,
            "es" * (crew.size > 1),
        )

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Evaluate one replica after the other."""
        box = self.model.boxes(len(coord))
        if self._calls % COUNTED == 0:
            self.model.check(coord, spin)
        self._calls += 1
        boxes = np.zeros((len(coord), 3, 3)) if box is None else box
        answers = [self._respond(*one) for one in zip(coord, spin, boxes, strict=True)]
        total = np.array(answers)
        forces = total[:, :-10].reshape(*coord.shape[:2], 2, 3)
        return Response(
            total[:, -10],
            forces[:, :, 0],
            forces[:, :, 1],
            total[:, -9:].reshape(-1, 3, 3),
        )

    def _respond(
        self, coord: np.ndarray, spin: np.ndarray, box: np.ndarray
    ) -> np.ndarray:
        """Forces, magnetic forces, energy and virial of one replica."""
        lattice, turn = turned(box[self.pbc])
        atype, scheme = self.model.atype, self.model.potential.model.spin.scheme
        # what the model sees of atoms may be nearer than these
        reach = scheme.reach(atype, np.linalg.norm(spin, axis=1)).max() + ROUNDING
        cell = _cell(lattice, coord @ turn)
        return self.crew.ask("respond", cell, turn, reach, coord, spin)


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
