# SPDX-License-Identifier: Apache-2.0
"""What drives atoms and spins: energy, forces and magnetic forces of all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deepspin.atoms import units
from deepspin.dynamics.core.ramps import Ramp, all_of, at

if TYPE_CHECKING:  # the dynamics of other Hamiltonians need no TensorFlow
    from deepspin.infer.deep_spin import DeepSpin


@dataclass(frozen=True)
class Response:
    """Energies and their derivatives.

    Parameters
    ----------
    energy : np.ndarray, shape (nrep,)
        In eV.
    force, force_mag : np.ndarray, shape (nrep, nloc, 3)
        -dE/dcoord in eV/Å and -dE/dspin in eV/μ_B.
    virial : np.ndarray, shape (nrep, 3, 3), optional
        In eV, as `deepspin.keys.VIRIAL`; None where it is not known.
    """

    energy: np.ndarray
    force: np.ndarray
    force_mag: np.ndarray
    virial: np.ndarray | None = None


class Fields(Protocol):
    """A Hamiltonian: any callable of this form."""

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Respond to positions (Å) and spins (μ_B), both (nrep, nloc, 3).

        `time` (fs) matters to fields that change with it.
        """


class ModelFields:
    """A model as a Hamiltonian.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    atype : sequence of int, shape (nloc,)
        Types.
    box : np.ndarray, shape (nrep, 3, 3) or (3, 3), or None
        Lattice vectors in Å; None for open boundaries.
    pbc : bool or sequence of 3 bool, optional
        Periodic directions; all if there is a cell.
    fparam : np.ndarray, shape (nrep, numb_fparam) or (numb_fparam,), optional
        Frame parameters, for a model that takes some.
    """

    def __init__(
        self,
        potential: DeepSpin,
        atype: Sequence[int] | np.ndarray,
        box: np.ndarray | None,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
    ):
        self.potential = potential
        self.atype = np.asarray(atype)
        self.box = box
        self.pbc = pbc
        self.fparam = fparam

    def in_box(self, box: np.ndarray) -> ModelFields:
        """The same atoms in other lattice vectors, (nrep, 3, 3) or (3, 3)."""
        return ModelFields(
            self.potential, self.atype, box, pbc=self.pbc, fparam=self.fparam
        )

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Ask the model about all replicas in one call."""
        result = self.potential.eval(*self._frames(coord, spin), **self._options)
        return Response(
            result["energy"], result["force"], result["force_mag"], result["virial"]
        )

    def check(self, coord: np.ndarray, spin: np.ndarray) -> None:
        """Refuse what the model does not take, and count neighbours beyond `sel`."""
        self.potential.check(*self._frames(coord, spin), **self._options)

    def boxes(self, nrep: int) -> np.ndarray | None:
        """Lattice vectors of so many replicas, (nrep, 3, 3); None without a cell."""
        if self.box is None:
            return None
        return np.broadcast_to(self.box, (nrep, 3, 3))

    def _frames(self, coord: np.ndarray, spin: np.ndarray) -> tuple:
        return coord, self.boxes(len(coord)), self.atype, spin

    @property
    def _options(self) -> dict:
        return {"pbc": self.pbc, "fparam": self.fparam}


class Zeeman:
    r"""A Hamiltonian in an external magnetic field.

    .. math:: E = E_0 - \mu_B \sum_i S_i \cdot B \cos(2 \pi f t)

    Parameters
    ----------
    fields : Fields
        The other Hamiltonian.
    field : np.ndarray, shape (3,) or (nrep, 3), or Ramp of such
        B in T, of all replicas or of each.
    frequency : float
        f in THz; 0 for a constant field.
    """

    def __init__(
        self,
        fields: Fields,
        field: Sequence[float] | np.ndarray | Ramp,
        frequency: float = 0.0,
    ):
        if not isinstance(field, Ramp):
            field = np.asarray(field, dtype=float)
        shape = np.shape(at(field, 0.0))
        if len(shape) not in (1, 2) or shape[-1] != 3:
            raise ValueError(
                "`field` must be a vector in T, or one for each replica. Received: "
                f"shape {shape}"
            )
        if not np.isfinite(all_of(field)).all() or not np.isfinite(frequency):
            raise ValueError(
                f"`field` (T) and `frequency` (THz) must be finite. Received: "
                f"{all_of(field).tolist()} and {frequency}"
            )
        self.fields = fields
        self.field = field
        self.frequency = frequency

    def in_box(self, box: np.ndarray) -> Zeeman:
        """The same in other lattice vectors."""
        inner = self.fields.in_box(box)  # type: ignore[attr-defined]  # relax asks for it
        return Zeeman(inner, self.field, self.frequency)

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Add energy and magnetic force of the field; only spins feel it."""
        phase = 2 * np.pi * 1e-3 * self.frequency * time
        field = np.reshape(at(self.field, time), (-1, 1, 3))
        push = units.MU_B * np.cos(phase) * field
        push = np.where(spin.any(axis=2, keepdims=True), push, 0.0)
        inner = self.fields(coord, spin, time)
        return replace(
            inner,
            energy=inner.energy - (push * spin).sum(axis=(1, 2)),
            force_mag=inner.force_mag + push,
        )
