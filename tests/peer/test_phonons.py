# SPDX-License-Identifier: Apache-2.0
"""Phonons by ASE and phonopy, as in doc/phonons.md, are those of the exact Hessian."""

from __future__ import annotations

import invariant_models
import numpy as np
import pytest
from ase import Atoms, units
from ase.phonons import Phonons

import deepspin
from deepspin.calculator import DeepSpinCalculator

# of a supercell that is not as symmetric as the cell
pytestmark = pytest.mark.filterwarnings("ignore:.*Point group symmetries:UserWarning")
OPTIONAL = "an optional package that is not installed"
REPEAT = (2, 1, 1)
# wave vectors that fit, each once
COMMENSURATE = [[0, 0, 0], [0.5, 0, 0]]
# of a square root of eV/(Å² amu)
EV = units._hbar * np.sqrt(units._e / units._amu) * 1e10 / units._e


@pytest.fixture(scope="module")
def calculator():
    return DeepSpinCalculator(deepspin.DeepSpin(invariant_models.build("NiO", seed=3)))


def nickel_oxide(signs=(1, -1)) -> Atoms:
    """The magnetic cell of type II."""
    spin = np.zeros((4, 3))
    spin[:2] = 1.25 * np.outer(signs, np.array([1, 1, -2]) / 6**0.5)
    return Atoms(
        "NiNiOO",
        2.085 * np.array([[0, 0, 0], [2, 2, 2], [1, 1, 1], [3, 3, 3.0]]),
        cell=2.085 * np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2.0]]),
        pbc=True,
        magmoms=spin,
    )


def second(calculator, atoms: Atoms) -> np.ndarray:
    n = len(atoms)
    return calculator.potential.hessian(
        atoms.positions,
        atoms.cell.array,
        atoms.get_chemical_symbols(),
        atoms.get_initial_magnetic_moments(),
    ).reshape(2, n, 3, 2, n, 3)


def squares(atoms: Atoms, constants: np.ndarray) -> np.ndarray:
    """All ω² of a cell in eV/(Å² amu), from constants (n, 3, n, 3)."""
    root = np.sqrt(atoms.get_masses())
    scaled = constants / root[:, None, None, None] / root[:, None]
    return np.linalg.eigvalsh(scaled.reshape(3 * len(root), -1))


@pytest.fixture(scope="module")
def exact(calculator):
    """ω² of the supercell: those of all wave vectors that fit into it."""
    large = nickel_oxide() * REPEAT
    constants = second(calculator, large)[0, :, :, 0]
    np.testing.assert_allclose(constants.sum(axis=2), 0, atol=1e-11)
    values = squares(large, constants)
    # three that move all atoms, and others do not vanish
    still = np.sort(np.abs(values))
    assert still[2] < 1e-9 * still[-1] < 1e-3 * still[3]
    return values


def terahertz() -> float:
    """The same in THz, with phonopy's constants, which differ by 1e-7."""
    from phonopy.physical_units import get_physical_units

    return get_physical_units().DefaultToTHz


def compare(exact, frequency, unit, rtol=1e-5):
    """Frequencies, below 0 where imaginary, are those of the exact ω²."""
    frequency = np.ravel(frequency) / unit
    found = np.sort(np.sign(frequency) * frequency**2)
    np.testing.assert_allclose(found, exact, rtol=0, atol=rtol * np.abs(exact).max())


def with_phonopy(cell: Atoms, **options):
    phonopy = pytest.importorskip("phonopy", reason=OPTIONAL)
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(
        symbols=cell.get_chemical_symbols(),
        cell=cell.cell.array,
        scaled_positions=cell.get_scaled_positions(),
        magnetic_moments=cell.get_initial_magnetic_moments(),
        masses=cell.get_masses(),
    )
    return phonopy.Phonopy(unit, np.diag(REPEAT), primitive_matrix=np.eye(3), **options)


def to_ase(atoms) -> Atoms:
    return Atoms(
        atoms.symbols,
        atoms.positions,
        cell=atoms.cell,
        pbc=True,
        magmoms=atoms.magnetic_moments,
    )


def by_differences(calculator, phonopy, moments=True):
    phonopy.generate_displacements(distance=1e-3, is_plusminus=True)
    forces = []
    for displaced in phonopy.supercells_with_displacements:
        atoms = to_ase(displaced)
        if not moments:  # in ASE's order, which is another
            large = nickel_oxide() * REPEAT
            atoms.set_initial_magnetic_moments(large.get_initial_magnetic_moments())
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    phonopy.forces = forces
    phonopy.produce_force_constants()
    return len(forces), phonopy.run_qpoints(COMMENSURATE).frequencies


def test_ase(calculator, exact, tmp_path):
    phonons = Phonons(
        nickel_oxide(), calculator, REPEAT, delta=1e-3, name=str(tmp_path / "phonons")
    )
    phonons.run()
    phonons.read(acoustic=True)
    compare(exact, phonons.band_structure(COMMENSURATE, verbose=False), EV)


def test_phonopy(calculator, exact):
    """With the magnetic symmetry, and with none."""
    fewer, frequency = by_differences(calculator, with_phonopy(nickel_oxide()))
    compare(exact, frequency, terahertz())
    every, frequency = by_differences(
        calculator, with_phonopy(nickel_oxide(), is_symmetry=False)
    )
    compare(exact, frequency, terahertz())
    assert fewer < every == 6 * 4


def test_phonopy_with_the_hessian(calculator, exact):
    phonopy = with_phonopy(nickel_oxide())
    constants = second(calculator, to_ase(phonopy.supercell))[0, :, :, 0]
    phonopy.force_constants = constants.transpose(0, 2, 1, 3)
    frequency = phonopy.run_qpoints(COMMENSURATE).frequencies
    compare(exact, frequency, terahertz(), rtol=1e-8)


def test_moments_matter(calculator, exact):
    """Of parallel spins, or in the wrong order, they are others."""
    large = nickel_oxide((1, 1)) * REPEAT
    other = squares(large, second(calculator, large)[0, :, :, 0])
    scale = np.abs(exact).max()
    assert np.abs(other - exact).max() > 1e-3 * scale
    phonopy = with_phonopy(nickel_oxide(), is_symmetry=False)
    wrong = by_differences(calculator, phonopy, moments=False)[1]
    with pytest.raises(AssertionError):
        compare(exact, wrong, terahertz(), rtol=1e-3)


def test_moduli_that_follow(calculator):
    """The formula of doc/phonons.md is what moduli that relax do to forces.

    They need not be at rest: a field along the spins holds them.
    """
    atoms, step = nickel_oxide(), 1e-3
    atoms.positions += 0.05 * np.random.default_rng(4).normal(size=(4, 3))
    spin, axis = atoms.get_initial_magnetic_moments(), np.zeros((4, 3))
    axis[:2] = spin[:2] / np.linalg.norm(spin[:2], axis=1)[:, None]

    def along(moved: Atoms) -> np.ndarray:
        moved.calc = calculator
        return (calculator.get_magnetic_forces(moved) * axis).sum(axis=1)[:2]

    held = along(atoms)

    def following(moved: Atoms) -> np.ndarray:
        """Forces with the same magnetic forces along the spins, by Newton's method."""
        for _ in range(8):
            push = along(moved) - held
            if np.abs(push).max() < 1e-12:
                return moved.get_forces()
            blocks = second(calculator, moved)
            stiff = np.einsum("ia,iajb,jb->ij", axis, blocks[1, :, :, 1], axis)[:2, :2]
            spin = moved.get_initial_magnetic_moments()
            spin[:2] += np.linalg.solve(stiff, push)[:, None] * axis[:2]
            moved.set_initial_magnetic_moments(spin)
        raise AssertionError("moduli do not relax")

    blocks = second(calculator, atoms)
    mixed = np.einsum("iajb,jb->iaj", blocks[0, :, :, 1], axis)[..., :2]
    stiff = np.einsum("ia,iajb,jb->ij", axis, blocks[1, :, :, 1], axis)[:2, :2]
    change = mixed @ np.linalg.solve(stiff, mixed.reshape(12, 2).T)
    relaxed = blocks[0, :, :, 0] - change.reshape(4, 3, 4, 3)
    for atom, direction in ((2, 0), (0, 1)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, direction] += sign * step
            ends.append(following(moved))
        slope = -(ends[0] - ends[1]) / (2 * step)
        scale = np.abs(relaxed).max()
        np.testing.assert_allclose(
            relaxed[:, :, atom, direction], slope, atol=1e-5 * scale
        )
    assert np.abs(change).max() > 1e-4 * np.abs(relaxed).max()
