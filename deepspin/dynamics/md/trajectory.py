# SPDX-License-Identifier: Apache-2.0
"""Trajectories: extended XYZ, ASE's own format, HDF5."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import h5py
import numpy as np

from deepspin.atoms import units
from deepspin.atoms.structures import HDF5, Structure, check_suffix, extended_xyz
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.state import State
from deepspin.dynamics.md.output import Frame, Parts, cut
from deepspin.utils import hdf5
from deepspin.utils.limits import check_readable
from deepspin.utils.outputs import append, replacing, set_aside, telling

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)

_STEP = re.compile(rb"\bstep=(\d+)")
# velocities in Å/fs times this are those of ASE
ASE_VELOCITY = np.sqrt(units.AMU)


class TextTrajectory:
    """Extended XYZ, a file for each replica.

    Parameters
    ----------
    path : str
        File to write; of several replicas, ``NAME-K.extxyz``.
    structure : Structure
        What does not change.
    nrep : int
        Number of replicas.
    """

    def __init__(self, path: str, structure: Structure, nrep: int):
        check_suffix(path)
        self.files = numbered(Path(path), nrep)
        self.structure = structure

    def begin(self, kept: int | None) -> int | None:
        """Make new files, or cut off what they hold after the step `kept`."""
        last: list[int | None] = []
        for path in self.files:
            if kept is None or not path.is_file():
                with replacing(path) as partial:
                    partial.write_bytes(b"")
                last.append(None)
            else:
                last.append(cut(path, _frames, _STEP, kept))
        return least(last)

    def write(self, frame: Frame) -> None:
        """Append a frame to each file."""
        for replica, path in enumerate(self.files):
            append(path, text_of(frame.state, self.structure, replica, frame.response))

    def end(self) -> None:
        """Finish; there is nothing to do."""


def numbered(path: Path, nrep: int) -> list[Path]:
    """File of each replica."""
    if nrep == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{k}{path.suffix}") for k in range(nrep)]


def text_of(
    state: State, structure: Structure, replica: int, response: Response | None = None
) -> str:
    """Write a replica as extended XYZ, in ASE's names and units."""
    here = replace(
        structure,
        coord=state.coord[replica],
        spin=state.spin[replica],
        box=None if state.box is None else state.box[replica],
    )
    results = {
        "step": state.step,
        "time": state.time,
        "masses": state.mass,
        "momenta": ASE_VELOCITY * state.mass[:, None] * state.velocity[replica],
    }
    if response is not None:
        results |= {
            "energy": response.energy[replica],
            "force": response.force[replica],
            "force_mag": response.force_mag[replica],
        }
    return extended_xyz(here, results)


def _frames(file: BinaryIO) -> Parts:
    """Step and end of each frame of extended XYZ, until one is not whole."""
    while (count := file.readline()).strip().isdigit():
        found = _STEP.search(file.readline())
        rows = [file.readline() for _ in range(int(count))]
        # a line that was cut has fewer columns, or no end
        whole = len({len(row.split()) for row in rows}) == 1 and rows[-1][-1:] == b"\n"
        if not (found and whole):
            break
        yield int(found[1]), file.tell()


def least(steps: Sequence[int | None]) -> int | None:
    """Step that all files have reached, None if one has none."""
    known = [step for step in steps if step is not None]
    return min(known) if len(known) == len(steps) else None


class AseTrajectory:
    """ASE's own format, a file for each replica.

    Magnetic forces are in ``info["force_mag"]`` of the atoms. Parameters are those of
    `TextTrajectory`.
    """

    def __init__(self, path: str, structure: Structure, nrep: int):
        check_suffix(path)
        self.files = numbered(Path(path), nrep)
        self.structure = structure

    def begin(self, kept: int | None) -> int | None:
        """Make new files, or leave out what they hold after the step `kept`."""
        from ase.io.trajectory import Trajectory

        last: list[int | None] = []
        for path in self.files:
            known = kept is not None and path.is_file() and path.stat().st_size > 0
            last.append(None)
            with replacing(path) as partial, Trajectory(partial, "w") as new:
                for atoms in _whole(path) if known else ():
                    if atoms.info["step"] > kept:
                        break
                    new.write(atoms)
                    last[-1] = atoms.info["step"]
        return least(last)

    def write(self, frame: Frame) -> None:
        """Append a frame to each file."""
        from io import StringIO

        import ase.io
        from ase.io.trajectory import Trajectory

        for replica, path in enumerate(self.files):
            text = text_of(frame.state, self.structure, replica, frame.response)
            atoms = ase.io.read(StringIO(text), format="extxyz")
            atoms.info["force_mag"] = atoms.arrays.pop("force_mag")
            with telling(path), Trajectory(path, "a") as file:
                file.write(atoms)

    def end(self) -> None:
        """Finish; there is nothing to do."""


def _whole(path: Path) -> Iterator[Atoms]:
    """Frames of a file of ASE's, until one is not whole."""
    from ase.io.trajectory import Trajectory

    try:
        with Trajectory(path) as file:
            yield from file
    except Exception as error:  # ASE raises what it likes on damaged files
        log.debug("%s: %s", path, error)


class HDF5Trajectory:
    """One HDF5 file: arrays over frames and replicas, in the units of the dynamics.

    All frames have their places from the beginning: later writes change numbers only,
    so that a kill leaves the file whole. A frame counts when its ``step`` is not -1.

    Parameters
    ----------
    path : str
        File to write.
    structure : Structure
        What does not change.
    steps : sequence of int
        Steps that shall have a frame.
    moving : bool
        Each frame has cells of its own, ``box`` (frames, replicas, 3, 3).
    """

    def __init__(
        self,
        path: str,
        structure: Structure,
        steps: Sequence[int],
        moving: bool = False,
    ):
        self.files = [Path(path)]
        self.structure = structure
        self.steps = steps
        self.moving = moving
        self._done, self._made = 0, False

    def begin(self, kept: int | None) -> int | None:
        """Drop all frames, or those after `kept`; a damaged file is set aside."""
        path = self.files[0]
        known = kept is not None and path.is_file()
        steps = _steps(path) if known else None
        if steps is not None and self._moves(path) != self.moving:
            set_aside([path])
            steps = None
        self._made, self._done = steps is not None, 0
        if kept is None or steps is None:
            return None  # made with the first frame
        good = (steps >= 0) & (steps <= kept)
        self._done = int(np.count_nonzero(good))
        with telling(path), hdf5.writing(path, "r+") as file:
            file["step"][:] = np.where(good, steps, -1)
        size = self._done + sum(step > kept for step in self.steps)
        if size > len(steps):
            self._resize(size)
        return int(steps[good].max()) if good.any() else None

    def _moves(self, path: Path) -> bool:
        """Whether the frames of a file have cells of their own."""
        with telling(path), hdf5.reading(path) as file:
            return "box" in file and file["box"].ndim == 4

    def write(self, frame: Frame) -> None:
        """Write a frame to its place."""
        state, response = frame.state, frame.response
        rows = {
            "time": (state.time, "fs"),
            "coord": (state.coord, "Å"),
            "velocity": (state.velocity, "Å/fs"),
            "spin": (state.spin, "μ_B"),
            "energy": (response.energy, "eV"),
            "force": (response.force, "eV/Å"),
            "force_mag": (response.force_mag, "eV/μ_B"),
        }
        if state.spin_velocity is not None:
            rows["spin_velocity"] = (state.spin_velocity, "μ_B/fs")
        if self.moving:
            rows["box"] = (state.box, "Å")
        rows["step"] = (state.step, "")
        if not self._made:
            self._create(rows)
        with telling(self.files[0]), hdf5.writing(self.files[0], "r+") as file:
            for name, (values, _) in rows.items():
                if name == "step":
                    file.flush()  # write the whole frame before it counts
                file[name][self._done] = values
        self._done += 1

    def _create(self, rows: dict[str, tuple[object, str]]) -> None:
        structure = self.structure
        with replacing(self.files[0]) as partial, hdf5.writing(partial, "w") as file:
            file["type_map"] = [name.encode() for name in structure.names]
            file["atype"], file["mass"] = structure.atype, structure.mass
            file["pbc"] = structure.pbc
            if structure.box is not None and not self.moving:
                file["box"] = structure.box
            for name, (values, unit) in rows.items():
                array = np.asarray(values)
                _reserve(file, name, (len(self.steps), *array.shape), array.dtype)
                file[name].attrs["unit"] = unit
            file["step"][:] = -1
        self._made = True

    def end(self) -> None:
        """Finish: give up the places of frames that never came."""
        if not self._made:
            return
        with hdf5.reading(self.files[0]) as file:
            size = len(file["step"])
        if size > self._done:
            self._resize(self._done)

    def _resize(self, size: int) -> None:
        """Change the number of places for frames."""
        path = self.files[0]
        with (
            replacing(path) as partial,
            hdf5.reading(path) as old,
            hdf5.writing(partial, "w") as new,
        ):
            for name, array in old.items():
                if "unit" not in array.attrs:
                    old.copy(name, new)
                    continue
                _reserve(new, name, (size, *array.shape[1:]), array.dtype)
                new[name].attrs.update(array.attrs)
                for row in range(self._done):
                    new[name][row] = array[row]
            new["step"][self._done :] = -1


def _steps(path: Path) -> np.ndarray | None:
    """Step of each place for a frame; None if the file is damaged, and set aside."""
    check_readable(path)
    try:
        with hdf5.reading(path) as file:
            steps = file["step"][:]
            sizes = {len(a) for a in file.values() if "unit" in a.attrs}
            if sizes == {len(steps)}:
                return steps
            why = f"it has {sorted(sizes)} frames"
    except Exception as error:  # h5py raises what it likes on damaged files
        why = " ".join(str(error).split())
    log.warning("'%s' is damaged and cannot be read: %s", path, why)
    set_aside([path])
    return None


def _reserve(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype | type
) -> None:
    """Reserve an array's place in the file."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    create.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(file.id, name.encode(), kind, space, create)


def trajectory_of(
    path: str,
    structure: Structure,
    nrep: int,
    steps: Sequence[int],
    moving: bool = False,
) -> TextTrajectory | AseTrajectory | HDF5Trajectory:
    """Make the writer for the format of a file's suffix."""
    suffix = Path(path).suffix
    if suffix in HDF5:
        return HDF5Trajectory(path, structure, steps, moving)
    kind = AseTrajectory if suffix == ".traj" else TextTrajectory
    return kind(path, structure, nrep)
