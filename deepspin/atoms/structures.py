# SPDX-License-Identifier: Apache-2.0
"""Read and write atoms with spins.

Systems of training data are read, and extended XYZ is written, without ASE, which reads
all other files. What we write has names that ASE understands: spins are
``initial_magmoms``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms import units
from deepspin.data.files import DataError
from deepspin.data.find import file_of, find_systems, format_of
from deepspin.data.formats import extxyz
from deepspin.data.formats.table import Reading
from deepspin.data.moments import INITIAL, find_moments
from deepspin.data.systems import load_system
from deepspin.utils.outputs import OutputError, replacing

if TYPE_CHECKING:
    from ase import Atoms

    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# files that hold spins
SUFFIXES = (".extxyz", ".xyz", ".traj")
HDF5 = (".h5", ".hdf5")
# formats of which ASE reads more than `deepspin.data.formats` has a use for
OF_ASE = ("extxyz", "traj")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Atoms as a model knows them.

    Parameters
    ----------
    names : tuple of str
        The model's types.
    atype : np.ndarray of int, shape (nloc,)
        Type of each atom.
    coord : np.ndarray, shape (nloc, 3)
        Positions in Å.
    box : np.ndarray, shape (3, 3); or None
        Lattice vectors in rows, in Å; None for open boundaries.
    pbc : np.ndarray of bool, shape (3,)
        Periodic directions.
    spin : np.ndarray, shape (nloc, 3); or None
        Spins in μ_B, 0 on types without spin; None if the file has none.
    mass : np.ndarray, shape (nloc,)
        Masses in amu: the file's, or those of the elements; NaN for types that are not
        named like elements.
    fixed : np.ndarray of bool, shape (nloc,)
        Atoms that shall stay where they are.
    """

    names: tuple[str, ...]
    atype: np.ndarray
    coord: np.ndarray
    box: np.ndarray | None
    pbc: np.ndarray
    spin: np.ndarray | None
    mass: np.ndarray
    fixed: np.ndarray

    @property
    def nloc(self) -> int:
        """Number of atoms."""
        return len(self.atype)

    @property
    def symbols(self) -> list[str]:
        """Name of each atom's type."""
        return [self.names[t] for t in self.atype]

    def with_spins(self, magnetic: np.ndarray, or_else: str = "") -> Structure:
        """Return the structure, with zero spins if no atom needs any.

        Parameters
        ----------
        magnetic : np.ndarray of bool, shape (nloc,)
            Atoms of types with spin.
        or_else : str
            Another way to give spins, for the message.

        Raises
        ------
        DataError
            There are none.
        """
        if self.spin is not None:
            return self
        if not magnetic.any():
            return replace(self, spin=np.zeros_like(self.coord))
        kinds = ", ".join(sorted({self.names[t] for t in self.atype[magnetic]}))
        raise DataError(
            f"The structure has no spins, but atoms of {kinds} need them. Add a column "
            "initial_magmoms:R:3 in μ_B to an extended XYZ file, or say "
            "atoms.set_initial_magnetic_moments(...) in ASE before writing it"
            f"{or_else}."
        )


def load_structure(
    path: str | Path,
    potential: DeepSpin,
    frame: int = -1,
    reading: Reading | None = None,
) -> Structure:
    """Read atoms with their spins.

    Parameters
    ----------
    path : str
        Whatever ASE reads, with spins as initial magnetic moments (N x 3, or N along z)
        or in an array ``spin``; or a system of training data, as a folder or
        ``file.hdf5#/group``.
    potential : DeepSpin
        The model: names the types, and which have spin.
    frame : int
        Frame to take, from 0, or from the end if negative.
    reading : Reading, optional
        How to read it, if another program wrote it.

    Raises
    ------
    FileNotFoundError, ImportError, DataError
        There is no such file, it needs ASE, or what it holds is of no use to the model.
    """
    path, reading = str(path), reading or Reading()
    name = format_of(path, reading)
    file = file_of(path)
    if not file.exists():
        raise FileNotFoundError(f"No structure: '{file}' does not exist.")
    # with masses and what is fixed, unless the user says how to read it
    whole = name in OF_ASE and Path(path).exists() and reading == Reading()
    if file.is_dir() or file.suffix in HDF5 or (name is not None and not whole):
        return _of_system(path, potential, frame, reading)
    found = _of_atoms(_read(path, frame), potential.type_map, path)
    if found.spin is None:
        return found
    magnetic = potential.is_magnetic(found.atype)
    return replace(found, spin=np.where(magnetic[:, None], found.spin, 0.0))


def _of_system(
    path: str, potential: DeepSpin, frame: int, reading: Reading
) -> Structure:
    paths = find_systems(path, reading=reading)
    if len(paths) > 1:
        raise DataError(
            f"'{path}' has {len(paths)} systems, and one structure is to be read. Name "
            f"one of them, such as {paths[0]}"
        )
    spec = potential.model.data_spec
    data = load_system(
        paths[0], spec["type_map"], spec["spin"], spec["allow_zero_spin"]
    )
    if not -data.nframes <= frame < data.nframes:
        raise DataError(f"'{path}' has {data.nframes} frames. Received: {frame}")
    here = data.atype[frame] >= 0
    atype = data.atype[frame, here].astype(int)
    names = tuple(spec["type_map"])
    return Structure(
        names=names,
        atype=atype,
        coord=data.coord[frame, here],
        box=data.box[frame] if data.pbc else None,
        pbc=np.full(3, data.pbc),
        spin=data.spin[frame, here],
        mass=_masses([names[t] for t in atype]),
        fixed=np.zeros(len(atype), dtype=bool),
    )


def _masses(symbols: Sequence[str]) -> np.ndarray:
    return np.array([units.MASSES.get(name, np.nan) for name in symbols])


# --- ASE ------------------------------------------------------------------------------


def _ase(path: str | Path) -> None:
    try:
        import ase.io  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"'{path}' needs ASE, which is not installed: pip install ase. "
            "Systems of training data are read without."
        ) from error


def _read(path: str, frame: int) -> Atoms:
    _ase(path)
    import ase.io

    try:
        return ase.io.read(path, index=frame)
    except Exception as error:  # each format has its own
        text = " ".join(str(error).split()) or "no such frame"
        raise DataError(
            f"ASE cannot read frame {frame} of '{path}': {type(error).__name__}: {text}"
        ) from error


def _of_atoms(atoms: Atoms, type_map: Sequence[str], path: str) -> Structure:
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(type_map))
    if unknown or not symbols:
        raise DataError(
            f"'{path}' has atoms of {', '.join(unknown) or 'no element'}; the model "
            f"knows {', '.join(type_map)}. Take a model that knows all of them."
        )
    periodic = bool(atoms.pbc.any())
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if type(constraint).__name__ != "FixAtoms":
            log.warning(
                "'%s': the constraint %s is ignored", path, type(constraint).__name__
            )
            continue
        fixed[constraint.index] = True
    return Structure(
        names=tuple(type_map),
        atype=np.array([type_map.index(name) for name in symbols]),
        coord=atoms.positions.copy(),
        box=atoms.cell.array.copy() if periodic else None,
        pbc=atoms.pbc.copy(),
        spin=_spins_of(atoms, path),
        mass=atoms.get_masses() if atoms.has("masses") else _masses(symbols),
        fixed=fixed,
    )


def _spins_of(atoms: Atoms, path: str) -> np.ndarray | None:
    """Spins (nloc, 3), if there are any."""
    try:
        results = getattr(atoms.calc, "results", None) or {}
        found = find_moments((results, atoms.arrays), len(atoms))
    except ValueError as error:
        raise DataError(f"'{path}': {error}") from error
    if found is None:
        return None
    if found.along_z:
        log.warning("'%s': %s are N numbers, not N x 3: along z", path, found.name)
    return found.vectors


# --- Writing --------------------------------------------------------------------------


def save_structure(
    path: str | Path,
    frames: Sequence[Structure],
    results: Sequence[Mapping[str, np.ndarray]] = (),
) -> None:
    """Write atoms with their spins: the whole file, or nothing.

    Parameters
    ----------
    path : str
        File that ends in .extxyz, .xyz (the same) or .traj (ASE's, which holds arrays
        such as ``force_mag`` in the atoms' ``info``).
    frames : sequence of Structure
        The frames.
    results : sequence of mapping of str to np.ndarray, optional
        What else is known of each, see `extended_xyz`.

    Raises
    ------
    OutputError, ImportError
        It cannot be written, or the format holds no spins.
    """
    check_suffix(path)
    pairs = zip(frames, results or [{}] * len(frames), strict=True)
    text = "".join(extended_xyz(*pair) for pair in pairs)
    with replacing(path) as partial:
        if Path(path).suffix != ".traj":
            partial.write_text(text, encoding="utf-8")
            return
        from io import StringIO

        import ase.io

        known = ("numbers", "positions", INITIAL)
        images = ase.io.read(StringIO(text), index=":", format="extxyz")
        for atoms in images:  # .traj keeps other arrays in `info` only
            for name in set(atoms.arrays) - set(known):
                atoms.info[name] = atoms.arrays.pop(name)
        ase.io.write(partial, images, format="traj")


def check_suffix(path: str | Path) -> None:
    """Refuse a file that cannot hold spins, or needs ASE where there is none."""
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise OutputError(
            f"'{path}' must end in {', '.join(SUFFIXES)}: these formats hold spins."
        )
    if suffix == ".traj":
        _ase(path)


def extended_xyz(structure: Structure, results: Mapping[str, np.ndarray]) -> str:
    """Write a frame as extended XYZ, to the last digit.

    Parameters
    ----------
    structure : Structure
        Atoms with spins.
    results : mapping of str to np.ndarray
        Numbers for its second line (``energy``, ``time``, ...), for its columns
        (``force``, ``force_mag``, ``velocity``, ...: (nloc,) or (nloc, 3)), and
        ``virial`` (3, 3), which is written as ASE's stress, too.
    """
    columns = {"pos": structure.coord}
    if structure.spin is not None:
        columns[INITIAL] = structure.spin
    info = {}
    for name, values in results.items():
        values = np.asarray(values)
        if values.shape[:1] == (structure.nloc,) and name != "virial":
            columns["forces" if name == "force" else name] = values
        else:
            info[name] = values
    return extxyz.text(
        structure.symbols, columns, info, structure.box, structure.pbc, structure.fixed
    )
