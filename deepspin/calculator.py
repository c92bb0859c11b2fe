# SPDX-License-Identifier: Apache-2.0
"""DeepSPIN models as calculators of ASE, the Atomic Simulation Environment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepspin.data.moments import ARRAYS, INITIAL, read_moments
from deepspin.infer.deep_spin import DeepSpin
from deepspin.keys import MU_B
from deepspin.model.ener import SpinEnergyModel

try:
    from ase import Atoms
    from ase.calculators.calculator import (
        Calculator,
        PropertyNotImplementedError,
        all_changes,
        all_properties,
    )
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import atomic_numbers
    from ase.outputs import Properties
    from ase.stress import full_3x3_to_voigt_6_stress
except ImportError as error:
    raise ImportError(
        "deepspin.calculator needs ASE, which is not installed (or too old): "
        "pip install -U ase"
    ) from error

if TYPE_CHECKING:
    from ase.db.core import Database
    from ase.db.row import AtomsRow

log = logging.getLogger(__name__)

MAGNETIC = ("magnetic_forces", "effective_field", "torques")


class DeepSpinCalculator(Calculator):
    r"""ASE calculator of a model that knows spins.

    The spins are the initial magnetic moments of the atoms, in μ_B: N x 3, or N along
    z. They stay as they are; whatever moves atoms or cell does so at fixed spins.

    Results are ASE's ``energy``, ``free_energy`` (the same), ``energies``, ``forces``,
    ``stress`` and ``stresses`` (N x 6, parts of it that add up; both of cells with
    three lattice vectors that are periodic in some direction) and ``magmoms`` (the
    spins that the model was given, N x 3, or N if they were), and

    - ``magnetic_forces`` (N, 3): -dE/dS at fixed positions in eV/μ_B;
    - ``effective_field`` (N, 3): the same in T;
    - ``torques`` (N, 3): S x magnetic force in eV;
    - ``virial`` (3, 3) in eV, in the order of `deepspin.keys`.

    Moments of atoms whose types have no spin are ignored, with a warning the first
    time.

    ASE's stress is symmetric, the virial of a spin model is not: the stress is minus
    its symmetric part over the volume, the derivative of the energy by a strain at
    fixed spins. What is missing, the antisymmetric part, turns the cell against the
    spins.

    Parameters
    ----------
    model : str, SpinEnergyModel or DeepSpin
        A model file (see `deepspin.load_model`), a model, or one ready to be asked,
        which several calculators may share.
    type_map : dict of str to str, optional
        Type of the model for chemical symbols. Otherwise types have the names of
        elements.
    fparam : np.ndarray, shape (numb_fparam,), optional
        Frame parameters, for a model that takes some; ``set(fparam=...)`` changes them.

    Raises
    ------
    ImportError
        ASE is not installed.
    ValueError
        `type_map` names what is no element or no type of the model.

    Examples
    --------
    >>> atoms.calc = DeepSpinCalculator("frozen_model")  # doctest: +SKIP
    >>> atoms.set_initial_magnetic_moments(spin)  # doctest: +SKIP
    >>> atoms.get_potential_energy()  # doctest: +SKIP
    >>> atoms.calc.get_magnetic_forces(atoms)  # doctest: +SKIP
    """

    name = "deepspin"
    implemented_properties = (
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
        "magmoms",
        *MAGNETIC,
        "virial",
    )
    discard_results_on_any_change = True

    def __init__(
        self,
        model: str | Path | SpinEnergyModel | DeepSpin,
        type_map: Mapping[str, str] | None = None,
        fparam: Sequence[float] | None = None,
    ):
        potential = model if isinstance(model, DeepSpin) else DeepSpin(model)
        self.potential = potential
        self._types = _types_of_elements(potential.type_map, type_map)
        self._told = False  # that N moments are along z
        super().__init__(**({} if fparam is None else {"fparam": fparam}))

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate all properties at once; for ASE, which calls it when needed.

        Raises
        ------
        ValueError
            Elements that the model does not know, no magnetic moments, or what
            `DeepSpin.eval` refuses, such as a moment of 0 on a type with spin.
        """
        super().calculate(atoms, properties, system_changes)
        atype = self._types_of(self.atoms)
        spin, along_z = self._spins_of(self.atoms, atype)
        periodic = bool(self.atoms.pbc.any())
        result = self.potential.eval(
            self.atoms.positions,
            self.atoms.cell.array if periodic else None,
            atype,
            spin,
            pbc=self.atoms.pbc,
            fparam=self.parameters.get("fparam"),
        )
        spin = self._only_magnetic(atype, spin)
        energy, force_mag = float(result["energy"][0]), result["force_mag"][0]
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": result["atom_ener"][0],
            "forces": result["force"][0],
            "magmoms": spin[:, 2] if along_z else spin,
            "magnetic_forces": force_mag,
            "effective_field": force_mag / MU_B,
            "torques": np.cross(spin, force_mag),
            "virial": result["virial"][0],
        }
        if periodic and self.atoms.cell.rank == 3:
            volume = self.atoms.get_volume()
            for name, virial in (("stress", "virial"), ("stresses", "atom_virial")):
                stress = full_3x3_to_voigt_6_stress(-result[virial][0] / volume)
                self.results[name] = stress

    def types_and_spins(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's types (N,) of some atoms, and their spins (N, 3) in μ_B.

        Atoms of types without spin have none.
        """
        atype = self._types_of(atoms)
        return atype, self._only_magnetic(atype, self._spins_of(atoms, atype)[0])

    def _only_magnetic(self, atype: np.ndarray, spin: np.ndarray) -> np.ndarray:
        magnetic = self.potential.is_magnetic(atype)
        return np.where(magnetic[:, None], spin, 0.0)

    def set(self, **kwargs: np.ndarray | None) -> dict:
        """Change parameters; the only one is `fparam`."""
        for name in set(kwargs) - {"fparam"}:
            raise TypeError(
                f"DeepSpinCalculator has one parameter, `fparam`. Received: '{name}'"
            )
        return super().set(**kwargs)

    def export_properties(self) -> Properties:
        """Return what ASE's container takes: numbers, not vectors, as moments."""
        ours = {"magmoms", "virial", *MAGNETIC}
        return Properties({k: v for k, v in self.results.items() if k not in ours})

    def get_magnetic_moment(self, atoms: Atoms | None = None) -> float | np.ndarray:
        """Return the sum of the moments in μ_B: a vector, a number of N along z."""
        return self.get_magnetic_moments(atoms).sum(axis=0)

    def get_magnetic_forces(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return -dE/dS of each atom in eV/μ_B, 0 on types without spin."""
        return self.get_property("magnetic_forces", atoms)

    def get_effective_field(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the field in T that acts on each atom's moment like the others do."""
        return self.get_property("effective_field", atoms)

    def get_torques(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the torque S x magnetic force on each moment in eV."""
        return self.get_property("torques", atoms)

    def _types_of(self, atoms: Atoms) -> np.ndarray:
        """Type of each atom."""
        atype = self._types[atoms.numbers]
        if (atype < 0).any():
            names = sorted({atoms.symbols[i] for i in np.flatnonzero(atype < 0)})
            raise ValueError(
                f"The model knows {', '.join(self.potential.type_map)}, but not "
                f"{', '.join(names)}. If types are not named like elements, tell what "
                "they are: DeepSpinCalculator(model, type_map={'"
                f"{names[0]}': '{self.potential.type_map[0]}'}})."
            )
        return atype

    def _spins_of(self, atoms: Atoms, atype: np.ndarray) -> tuple[np.ndarray, bool]:
        """Spins (N, 3), as the atoms have them, and whether as N along z."""
        magnetic = self.potential.is_magnetic(atype)
        moments = read_moments(atoms, (INITIAL,))
        if moments is None and not magnetic.any():
            return np.zeros((len(atoms), 3)), False
        if moments is None:
            known = [n for n in ("magmoms", *ARRAYS) if n in atoms.arrays]
            source = f"atoms.arrays['{known[0]}']" if known else "moments"
            raise ValueError(
                "The atoms have no magnetic moments, but types "
                f"{', '.join(self._names(atype[magnetic]))} have spin. Say "
                f"atoms.set_initial_magnetic_moments({source}): N x 3 numbers in μ_B, "
                "or N along z."
            )
        if moments.along_z and not self._told:
            self._told = True
            log.warning("magnetic moments are N numbers, not N x 3: along z")
        return moments.vectors, moments.along_z

    def _names(self, atype: np.ndarray) -> list[str]:
        return [self.potential.type_map[t] for t in np.unique(atype)]


def _types_of_elements(
    type_map: Sequence[str], given: Mapping[str, str] | None
) -> np.ndarray:
    """Type of the model of each atomic number, -1 for none."""
    names = {n: n for n in type_map if n in atomic_numbers} if given is None else given
    types = np.full(max(atomic_numbers.values()) + 1, -1)
    for symbol, name in names.items():
        if symbol not in atomic_numbers or name not in type_map:
            raise ValueError(
                "`type_map` must give chemical symbols a type of the model, which are "
                f"{', '.join(type_map)}. Received: {dict(names)}"
            )
        types[atomic_numbers[symbol]] = type_map.index(name)
    if not names:
        raise ValueError(
            f"No type of the model has the name of an element: {', '.join(type_map)}. "
            "Tell what they are, such as DeepSpinCalculator(model, type_map={'Ni': "
            f"'{type_map[0]}'}})."
        )
    return types


# --- Files that know no magnetic forces -----------------------------------------------


def store(atoms: Atoms, where: str = "arrays") -> Atoms:
    """Copy atoms with their results for a file, magnetic forces included.

    ASE's formats write its own results only. Magnetic forces survive as ``force_mag``
    in the atoms' ``arrays``, which extended XYZ keeps, or in their ``info``, which
    .traj keeps.

    Parameters
    ----------
    atoms : Atoms
        Atoms with a `DeepSpinCalculator`.
    where : {"arrays", "info"}
        Where the copy holds ``force_mag``, in eV/μ_B.

    Returns
    -------
    Atoms
        The copy; its calculator only repeats the results.
    """
    if where not in ("arrays", "info"):
        raise ValueError(f"`where` must be 'arrays' or 'info'. Received: {where!r}")
    if "magnetic_forces" not in getattr(atoms.calc, "implemented_properties", ()):
        raise PropertyNotImplementedError(
            "The calculator of the atoms has no magnetic forces to store: "
            f"{type(atoms.calc).__name__}. Give them a DeepSpinCalculator."
        )
    force_mag = atoms.calc.get_property("magnetic_forces", atoms)
    copy = atoms.copy()
    getattr(copy, where)["force_mag"] = force_mag
    known = {k: v for k, v in atoms.calc.results.items() if k in all_properties}
    copy.calc = SinglePointCalculator(copy, **known)
    copy.calc.name = atoms.calc.name
    return copy


def write_row(database: Database, atoms: Atoms, **options: Any) -> int:
    """Write atoms into an `ase.db` database, which gives no vectors of moments back.

    Spins and magnetic forces become ``spin`` and ``force_mag`` of the row's data.

    Parameters
    ----------
    database : ase.db.core.Database
        Answer of `ase.db.connect`.
    atoms : Atoms
        Atoms with a `DeepSpinCalculator`.
    **options
        Of the database's `write`, such as keys and values, or more ``data``.

    Returns
    -------
    int
        The row's number.
    """
    copy = store(atoms)
    data = {
        "spin": copy.calc.results.pop("magmoms"),
        "force_mag": copy.arrays.pop("force_mag"),
        **options.pop("data", {}),
    }
    copy.arrays.pop(INITIAL, None)
    copy.calc.atoms.arrays.pop(INITIAL, None)
    return database.write(copy, data=data, **options)


def read_row(row: AtomsRow) -> Atoms:
    """Atoms of a row that `write_row` wrote, as `store` would give them."""
    atoms = row.toatoms()
    atoms.set_initial_magnetic_moments(np.array(row.data["spin"]))
    atoms.arrays["force_mag"] = np.array(row.data["force_mag"])
    results = {**getattr(atoms.calc, "results", {}), "magmoms": row.data["spin"]}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.name = row.get("calculator", "unknown")
    return atoms
