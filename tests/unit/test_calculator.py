# SPDX-License-Identifier: Apache-2.0
"""The calculator for ASE: numbers, changes, optimizers, dynamics, files, mistakes."""

import pickle
import subprocess
import sys
from copy import deepcopy

import ase.db
import ase.io
import invariants
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import LinearCombinationCalculator, SumCalculator
from ase.constraints import FixAtoms, FixedPlane
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.io.trajectory import Trajectory
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE
from ase.stress import voigt_6_to_full_3x3_stress

import deepspin
from deepspin.calculator import (
    DeepSpinCalculator,
    read_row,
    store,
    write_row,
)
from deepspin.dynamics.atoms import SpinLatticeDynamics
from deepspin.dynamics.core.baths import Gilbert
from deepspin.dynamics.core.baths import Langevin as Bath
from deepspin.dynamics.core.fields import ModelFields, Zeeman
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import State
from deepspin.keys import MU_B


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("NiO", type_one_side=True)


@pytest.fixture(scope="module")
def potential(model):
    return deepspin.DeepSpin(model)


@pytest.fixture(scope="module")
def frame(model, make_nio):
    return make_nio(model)


@pytest.fixture
def atoms(potential, frame):
    """Sheared, perturbed NiO with its spins; O has none."""
    return atoms_of(potential, frame)


def atoms_of(potential, frame, calculator=None):
    found = Atoms(
        [potential.type_map[t] for t in frame.atype],
        positions=frame.coord,
        cell=frame.box,
        pbc=frame.box is not None,
        magmoms=frame.spin * frame.magnetic[:, None],
    )
    found.calc = calculator or DeepSpinCalculator(potential)
    return found


def turned(spin, angle=0.1):
    """Spins a bit away from where they were."""
    return spin + angle * np.random.default_rng(5).normal(size=spin.shape)


# --- Numbers --------------------------------------------------------------------------


def test_results(potential, frame, atoms):
    want = potential.eval(frame.coord, frame.box, frame.atype, frame.spin)
    spin = frame.spin * frame.magnetic[:, None]
    energy = atoms.get_potential_energy()
    assert isinstance(energy, float)
    found = {
        "energy": energy,
        "free energy": atoms.get_potential_energy(force_consistent=True),
        "energies": atoms.get_potential_energies(),
        "forces": atoms.get_forces(),
        "magnetic forces": atoms.calc.get_magnetic_forces(atoms),
        "field": MU_B * atoms.calc.get_effective_field(atoms),
        "torques": atoms.calc.get_torques(),
        "moments": atoms.get_magnetic_moments(),
        "virial": atoms.calc.results["virial"],
        "stress": atoms.get_stress(voigt=False) * atoms.get_volume(),
        "stresses": atoms.get_stresses(voigt=False) * atoms.get_volume(),
        "moment": atoms.get_magnetic_moment(),
    }
    virial, force_mag = want["virial"][0], want["force_mag"][0]
    of_atoms = want["atom_virial"][0]
    invariants.assert_close(
        found,
        {
            "energy": want["energy"][0],
            "free energy": want["energy"][0],
            "energies": want["atom_ener"][0],
            "forces": want["force"][0],
            "magnetic forces": force_mag,
            "field": force_mag,
            "torques": np.cross(spin, force_mag),
            "moments": spin,
            "virial": virial,
            "stress": -(virial + virial.T) / 2,
            "stresses": -(of_atoms + of_atoms.swapaxes(1, 2)) / 2,
            "moment": spin.sum(axis=0),
        },
        1e-13,
    )
    np.testing.assert_allclose(
        atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=0, atol=1e-13
    )
    assert np.abs(virial - virial.T).max() > 1e-6
    assert set(atoms.calc.results) == set(DeepSpinCalculator.implemented_properties)
    assert atoms.get_properties(["energy", "forces"])["energy"] == energy


@pytest.mark.parametrize("symbols", ["NiO", "O2"])
def test_moments_of_types_without_spin(model, symbols, caplog):
    """They are ignored, which is told the first time; with and without other spins."""
    atoms = Atoms(symbols, positions=[[0, 0, 0], [0, 0, 2.1]])
    magnetic = [s == "Ni" for s in atoms.symbols]
    moments = np.array([[0.9, 0.3, 0.8], [0.1, 0.0, 0.2]])
    atoms.calc = DeepSpinCalculator(model)
    atoms.set_initial_magnetic_moments(np.where(np.c_[magnetic], moments, 0.0))
    energy = atoms.get_potential_energy()
    assert "ignored" not in caplog.text
    atoms.set_initial_magnetic_moments(moments)
    assert atoms.get_potential_energy() == energy
    np.testing.assert_array_equal(
        atoms.get_magnetic_moments(), np.where(np.c_[magnetic], moments, 0.0)
    )
    atoms.rattle(0.01)
    atoms.get_forces()
    assert caplog.text.count("spins on atoms of O are ignored: no spin types") == 1


@pytest.mark.parametrize("open_axes", [(), (2,), (0, 1, 2)])
def test_derivatives(potential, frame, atoms, open_axes):
    """Forces and magnetic forces are differences of the energy, via the calculator."""
    atoms.pbc = [axis not in open_axes for axis in range(3)]
    rng, step = np.random.default_rng(1), 1e-4
    moves, turns = rng.normal(size=(2, 8, 3))
    forces, force_mag = atoms.get_forces(), atoms.calc.get_magnetic_forces()
    assert np.abs(forces).max() > 1e-3 and np.abs(force_mag).max() > 1e-3
    coord, spin = atoms.positions.copy(), atoms.get_initial_magnetic_moments()
    turns *= frame.magnetic[:, None]

    def slope(change):
        weights = {-2: 1, -1: -8, 1: 8, 2: -1}
        return sum(w * change(k * step) for k, w in weights.items()) / (12 * step)

    def moved(x):
        atoms.positions = coord + x * moves
        return atoms.get_potential_energy()

    def rotated(x):
        atoms.positions = coord
        atoms.set_initial_magnetic_moments(spin + x * turns)
        return atoms.get_potential_energy()

    np.testing.assert_allclose(-slope(moved), np.sum(forces * moves), rtol=1e-8)
    np.testing.assert_allclose(-slope(rotated), np.sum(force_mag * turns), rtol=1e-8)


def test_stress_is_that_of_differences(atoms):
    """At fixed spins; of strains that are symmetric, which is all that ASE has."""
    stress = atoms.get_stress(voigt=False)
    volume, cell, step = atoms.get_volume(), atoms.cell.array.copy(), 1e-5
    wanted = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * step / 2
                strain[b, a] += sign * step / 2
                strained = atoms.copy()
                strained.calc = atoms.calc
                strained.set_cell(cell @ strain, scale_atoms=True)
                energies.append(strained.get_potential_energy())
            wanted[a, b] = (energies[0] - energies[1]) / (2 * step * volume)
    np.testing.assert_allclose(stress, wanted, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(
        voigt_6_to_full_3x3_stress(atoms.get_stress()), stress
    )


def test_supercell(atoms):
    large = atoms.repeat((2, 1, 3))
    large.calc = atoms.calc
    energy, forces = large.get_potential_energy(), large.get_forces()
    force_mag, stress = large.calc.get_magnetic_forces(), large.get_stress()
    assert np.isclose(energy, 6 * atoms.get_potential_energy(), rtol=1e-12)
    invariants.assert_close(
        {"forces": forces, "force_mag": force_mag, "stress": stress},
        {
            "forces": np.tile(atoms.get_forces(), (6, 1)),
            "force_mag": np.tile(atoms.calc.get_magnetic_forces(atoms), (6, 1)),
            "stress": atoms.get_stress(),
        },
        1e-11,
    )


def test_order_of_atoms(atoms):
    order = [3, 0, 7, 5, 1, 2, 6, 4]
    mixed = atoms[order]
    mixed.calc = DeepSpinCalculator(atoms.calc.potential)
    np.testing.assert_allclose(
        mixed.get_forces(), atoms.get_forces()[order], atol=1e-12
    )
    np.testing.assert_allclose(
        mixed.calc.get_torques(), atoms.calc.get_torques(atoms)[order], atol=1e-12
    )


def test_moments_along_z(potential, atoms, caplog):
    """N numbers are N vectors along z, which is said once."""
    numbers = np.where(atoms.symbols == "Ni", [1.2, -1.2] * 4, 0.0)
    vectors = atoms.copy()
    vectors.set_initial_magnetic_moments(numbers[:, None] * np.array([0, 0, 1]))
    vectors.calc = DeepSpinCalculator(potential)
    want = vectors.get_forces()
    assert not caplog.records
    del atoms.arrays["initial_magmoms"]  # ASE takes no other shape before
    atoms.set_initial_magnetic_moments(numbers)
    for _ in range(2):
        np.testing.assert_array_equal(atoms.get_forces(), want)
        atoms.rattle(1e-3)
        vectors.positions = atoms.positions
        want = vectors.get_forces()
    (record,) = caplog.records
    assert record.getMessage() == ("magnetic moments are N numbers, not N x 3: along z")
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), numbers)
    assert atoms.get_magnetic_moment() == numbers.sum()
    copy = store(atoms)
    np.testing.assert_array_equal(copy.get_magnetic_moments(), numbers)


def test_mixed_calculators(potential, atoms):
    """What all of them have is added up; what one lacks is refused by name."""
    alone = atoms.copy()
    alone.calc = DeepSpinCalculator(potential)
    lj, own = LennardJones(rc=4.0), [DeepSpinCalculator(potential) for _ in range(2)]
    plain = atoms.copy()
    plain.calc = lj
    atoms.calc = LinearCombinationCalculator([own[0], lj], [1.0, 0.5])
    for _ in range(2):
        for name in ("get_potential_energy", "get_forces", "get_stress"):
            found, a, b = (getattr(x, name)() for x in (atoms, alone, plain))
            np.testing.assert_allclose(found, a + 0.5 * b, rtol=1e-12, atol=1e-12)
        for each in (atoms, alone, plain):  # spins alone are a change, too
            spin = each.get_initial_magnetic_moments()
            each.set_initial_magnetic_moments(1.05 * spin)
    for name in ("magnetic_forces", "magmoms"):
        with pytest.raises(PropertyNotImplementedError, match=f"^{name} "):
            atoms.calc.get_property(name, atoms)
    atoms.calc = SumCalculator(own)
    for name in ("magnetic_forces", "virial", "torques", "stresses"):
        found, want = (x.calc.get_property(name, x) for x in (atoms, alone))
        np.testing.assert_allclose(found, 2.0 * want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        store(atoms).arrays["force_mag"], 2.0 * alone.calc.get_magnetic_forces()
    )


def test_types_by_other_names(make_model, frame, atoms):
    """Types named unlike elements, which a mapping tells."""
    model = make_model("NiO", type_one_side=True)
    model.type_map = ["metal", "ligand"]
    calculator = DeepSpinCalculator(model, type_map={"Ni": "metal", "O": "ligand"})
    other = atoms.copy()
    other.calc = calculator
    np.testing.assert_allclose(other.get_forces(), atoms.get_forces(), atol=1e-12)


def test_frame_parameters(model, frame):
    fitting = deepspin.EnerFitting(
        2, model.descriptor.dim_out, neuron=(8, 8), numb_fparam=1, seed=5
    )
    hot = deepspin.SpinEnergyModel(["Ni", "O"], model.descriptor, fitting, model.spin)
    potential = deepspin.DeepSpin(hot)
    atoms = atoms_of(potential, frame, DeepSpinCalculator(potential, fparam=[0.3]))
    energies = []
    for fparam in (0.3, 0.7):
        atoms.calc.set(fparam=[fparam])
        want = potential.eval(
            frame.coord, frame.box, frame.atype, frame.spin, fparam=[fparam]
        )
        energies.append(atoms.get_potential_energy())
        assert energies[-1] == pytest.approx(want["energy"][0], rel=1e-12)
    assert abs(energies[1] - energies[0]) > 1e-6
    atoms.calc = DeepSpinCalculator(potential)
    with pytest.raises(ValueError, match="takes 1 frame parameters"):
        atoms.get_potential_energy()
    with pytest.raises(TypeError, match=r"one parameter, `fparam`. Received: 'xc'"):
        atoms.calc.set(xc="PBE")


# --- Changes --------------------------------------------------------------------------


def test_changes_are_seen(atoms, monkeypatch):
    """Each change of atoms, cell or spins costs one evaluation; asking again none."""
    calls = []
    whole = deepspin.DeepSpin.eval

    def count(self, *args, **options):
        calls.append(args)
        return whole(self, *args, **options)

    monkeypatch.setattr(deepspin.DeepSpin, "eval", count)

    def ask():
        before = len(calls)
        answers = atoms.get_potential_energy(), atoms.get_forces()
        answers += atoms.get_stress(), atoms.calc.get_magnetic_forces(atoms)
        return len(calls) - before, answers

    number, old = ask()
    assert number == 1
    assert ask()[0] == 0
    spin = atoms.get_initial_magnetic_moments()
    changes = [
        lambda: atoms.rattle(1e-3),
        lambda: atoms.set_cell(1.001 * atoms.cell, scale_atoms=True),
        lambda: atoms.set_initial_magnetic_moments(turned(spin)),
        lambda: atoms.arrays["initial_magmoms"].__setitem__((0, 1), 0.7),
        lambda: atoms.set_pbc([True, True, False]),
    ]
    for change in changes:
        change()
        number, new = ask()
        assert number == 1
        for a, b in zip(old, new, strict=True):
            assert np.abs(np.asarray(a) - b).max() > 1e-9
        old = new
    atoms.info["note"], atoms.arrays["force_mag"] = "nothing new", old[3]
    assert ask()[0] == 0


def test_results_are_copies(atoms):
    before = atoms.calc.get_magnetic_forces(atoms)
    before[:] = 7.0
    assert not (atoms.calc.get_magnetic_forces(atoms) == 7.0).any()


@pytest.mark.parametrize("copy", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(atoms, copy):
    """The copy has the results, and makes new ones of its own."""
    forces = atoms.get_forces()
    found = copy(atoms)
    assert found.calc is not atoms.calc
    assert not found.calc.check_state(atoms)
    np.testing.assert_array_equal(found.get_forces(), forces)
    for changed in (found, atoms):
        changed.rattle(0.02, seed=3)
    np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), atol=1e-12)
    assert np.abs(atoms.get_forces() - forces).max() > 1e-6


# --- Optimizers and dynamics ----------------------------------------------------------


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_optimizers(atoms, optimizer):
    """Downhill at fixed spins."""
    before, spin = atoms.get_potential_energy(), atoms.get_initial_magnetic_moments()
    optimizer(atoms, logfile=None).run(fmax=1e-9, steps=10)
    assert atoms.get_potential_energy() < before
    np.testing.assert_array_equal(atoms.get_initial_magnetic_moments(), spin)


@pytest.mark.parametrize("filter", [UnitCellFilter, FrechetCellFilter])
def test_filters(atoms, filter):
    """Cell and atoms together; the cell's forces are differences of the energy."""
    whole = filter(atoms)
    before, place = atoms.get_potential_energy(), whole.get_positions()
    direction = np.zeros_like(place)
    direction[-3:] = np.random.default_rng(2).normal(size=(3, 3))
    direction[-3:] += direction[-3:].T  # turning the cell costs energy ASE omits
    forces, step = whole.get_forces(), 1e-4
    energies = []
    for k in (-2, -1, 1, 2):
        whole.set_positions(place + k * step * direction)
        energies.append(atoms.get_potential_energy())
    slope = np.dot([1, -8, 8, -1], energies) / (12 * step)
    np.testing.assert_allclose(-slope, np.sum(forces * direction), rtol=1e-6)
    whole.set_positions(place)
    FIRE(whole, logfile=None).run(fmax=1e-9, steps=10)
    assert atoms.get_potential_energy() < before


def test_dynamics_conserve_energy(atoms):
    """The error of velocity Verlet is of second order in the step."""
    width = np.sqrt(300 * units.kB * atoms.get_masses())[:, None]
    atoms.set_momenta(width * np.random.default_rng(0).normal(size=(8, 3)))
    start = atoms.copy()
    errors = []
    for step, number in ((1.0, 40), (0.5, 80)):
        moving = start.copy()
        moving.calc = atoms.calc
        dynamics = VelocityVerlet(moving, step * units.fs)
        totals = [moving.get_total_energy() for _ in dynamics.irun(number)]
        errors.append(np.ptp(totals))
        assert np.abs(moving.positions - start.positions).max() > 0.05
    assert errors[0] < 1e-3 * start.get_kinetic_energy()
    assert 3.5 < errors[0] / errors[1] < 4.5


def warm(atoms, kelvin=300):
    width = np.sqrt(kelvin * units.kB * atoms.get_masses())[:, None]
    noise = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(width * noise)


def test_spins_move(atoms):
    """Energy is conserved to second order, moduli, momentum; time runs back."""
    warm(atoms)
    start = atoms.copy()
    moduli = np.linalg.norm(start.get_initial_magnetic_moments(), axis=1)
    errors = []
    for step, number in ((0.5, 40), (0.25, 80)):
        moving = start.copy()
        moving.calc = atoms.calc
        dynamics = SpinLatticeDynamics(moving, step * units.fs)
        totals = [moving.get_total_energy() for _ in dynamics.irun(number)]
        errors.append(np.ptp(totals))
        spin = moving.get_initial_magnetic_moments()
        assert np.abs(spin - start.get_initial_magnetic_moments()).max() > 0.01
        assert np.abs(moving.positions - start.positions).max() > 0.05
        np.testing.assert_allclose(np.linalg.norm(spin, axis=1), moduli, rtol=1e-12)
        momentum = moving.get_momenta() - start.get_momenta()
        np.testing.assert_allclose(momentum.sum(axis=0), 0, atol=1e-10)
        assert dynamics.evaluations <= 6 * number
    assert errors[0] < 1e-3 * start.get_kinetic_energy()
    assert 3.5 < errors[0] / errors[1] < 4.5
    SpinLatticeDynamics(moving, -step * units.fs).run(number)
    assert np.abs(moving.positions - start.positions).max() < 1e-6


def test_spins_move_as_in_dynamics(atoms):
    """Steps are those of the integrator; changes by hand are seen."""
    warm(atoms)
    calc = atoms.calc
    atype, spin = calc.types_and_spins(atoms)
    state = State(
        coord=atoms.positions[None],
        velocity=atoms.get_velocities()[None] * units.fs,
        spin=spin[None],
        mass=atoms.get_masses(),
        atype=atype,
        box=atoms.cell.array[None],
        seed=3,
    )
    fields = ModelFields(calc.potential, atype, state.box)
    integrator = Integrator(
        Zeeman(fields, np.array([0.0, 0.0, 50.0])),
        0.5,
        lattice_bath=Bath(200, 0.03),
        spin_bath=Gilbert(200, 0.2),
    )
    dynamics = SpinLatticeDynamics(
        atoms,
        0.5 * units.fs,
        temperature_K=200,
        friction=0.03 / units.fs,
        damping=0.2,
        field=[0.0, 0.0, 50.0],
        seed=3,
    )
    for _ in range(10):
        integrator.step(state)
    dynamics.run(10)
    np.testing.assert_allclose(atoms.positions, state.coord[0], atol=1e-10)
    np.testing.assert_allclose(
        atoms.get_initial_magnetic_moments(), state.spin[0], atol=1e-9
    )
    moved = atoms.positions + 0.1
    atoms.positions = moved
    dynamics.run(1)
    assert np.abs(atoms.positions - moved).max() < 0.05


def test_fixed_atoms(atoms, tmp_path):
    """They stay, and their moments turn; files are written as by ASE's dynamics."""
    warm(atoms)
    atoms.set_constraint(FixAtoms([0]))
    start = atoms.copy()
    log, trajectory = tmp_path / "md.log", tmp_path / "md.traj"
    dynamics = SpinLatticeDynamics(
        atoms, 0.5 * units.fs, logfile=str(log), trajectory=str(trajectory)
    )
    dynamics.run(3)
    turned = atoms.get_initial_magnetic_moments() - start.get_initial_magnetic_moments()
    assert np.abs(turned[0]).max() > 1e-5
    moved = np.abs(atoms.positions - start.positions).max(axis=1)
    assert moved[0] == 0
    assert (moved[1:] > 0).all()
    assert len(log.read_text().splitlines()) == 5
    frames = ase.io.read(trajectory, ":")
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[-1].positions, atoms.positions)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: None, {"damping": 0.1}, "which need `temperature_K`"),
        (
            lambda a: setattr(a, "calc", LennardJones()),
            {},
            "needs atoms with a DeepSpinCalculator. Received: LennardJones",
        ),
        (
            lambda a: a.set_constraint(FixedPlane(0, [0, 0, 1])),
            {},
            "FixAtoms only. Received: FixedPlane",
        ),
        (
            lambda a: a.arrays.pop("initial_magmoms"),
            {},
            "The atoms have no magnetic moments",
        ),
    ],
)
def test_dynamics_refuse(atoms, change, options, message):
    change(atoms)
    with pytest.raises(ValueError, match=message):
        SpinLatticeDynamics(atoms, 0.5 * units.fs, **options)


def test_langevin(atoms):
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=300,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=np.random.default_rng(0),
    )
    dynamics.run(5)
    assert 0 < atoms.get_kinetic_energy() < 1
    assert np.isfinite(atoms.get_forces()).all()


# --- Files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "where"), [("a.traj", "info"), ("a.extxyz", "arrays")]
)
def test_files(atoms, tmp_path, name, where):
    """Spins, results and magnetic forces come back; a new evaluation agrees."""
    path = tmp_path / name
    stored = store(atoms, where)
    assert where == "info" or "force_mag" not in stored.info
    assert "force_mag" not in {**atoms.arrays, **atoms.info}
    ase.io.write(path, stored)
    found = ase.io.read(path)
    tolerance = {"rtol": 0, "atol": 1e-15 if name != "a.extxyz" else 1e-8}
    spin = atoms.get_initial_magnetic_moments()
    force_mag = atoms.calc.get_magnetic_forces(atoms)
    np.testing.assert_allclose(found.get_initial_magnetic_moments(), spin, **tolerance)
    np.testing.assert_allclose(
        getattr(found, where)["force_mag"], force_mag, **tolerance
    )
    np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), **tolerance)
    np.testing.assert_allclose(found.get_stress(), atoms.get_stress(), **tolerance)
    np.testing.assert_allclose(found.get_magnetic_moments(), spin, **tolerance)
    assert np.abs(force_mag).max() > 1e-3
    found.calc = DeepSpinCalculator(atoms.calc.potential)
    np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), atol=1e-6)


def test_trajectory_of_a_simulation(atoms, tmp_path):
    """Each frame has its own forces and magnetic forces."""
    dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
    with Trajectory(tmp_path / "md.traj", "w") as trajectory:
        dynamics.attach(lambda: trajectory.write(store(atoms, "info")), interval=2)
        dynamics.run(4)
    frames = ase.io.read(tmp_path / "md.traj", ":")
    assert len(frames) == 3
    for found in frames:
        old = found.info["force_mag"], found.get_forces()
        found.calc = DeepSpinCalculator(atoms.calc.potential)
        new = found.calc.get_magnetic_forces(found), found.get_forces()
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-12)


def test_database(atoms, tmp_path):
    database = ase.db.connect(tmp_path / "atoms.db")
    plain = database.write(atoms)
    with pytest.raises(ValueError, match="initial_magmoms"):  # why there is more
        database.get(plain).toatoms()
    number = write_row(database, atoms, data={"note": "mine"}, phase="B1")
    row = database.get(number)
    assert row.phase == "B1" and row.data["note"] == "mine"
    found = read_row(row)
    np.testing.assert_array_equal(
        found.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()
    )
    for name in ("forces", "stress", "energy", "magmoms"):
        np.testing.assert_array_equal(
            found.calc.get_property(name, found), atoms.calc.results[name]
        )
    force_mag = atoms.calc.get_magnetic_forces(atoms)
    np.testing.assert_array_equal(found.arrays["force_mag"], force_mag)
    assert found.calc.name == "deepspin"
    assert not found.calc.check_state(found)


# --- Mistakes -------------------------------------------------------------------------


class TestMistakes:
    def test_no_moments(self, atoms):
        del atoms.arrays["initial_magmoms"]
        message = r"no magnetic moments, but types Ni have spin\. Say atoms\.set_init"
        with pytest.raises(ValueError, match=message + r".*\(moments\)"):
            atoms.get_potential_energy()
        atoms.arrays["spin"] = np.ones((8, 3))
        with pytest.raises(ValueError, match=r"moments\(atoms\.arrays\['spin'\]\)"):
            atoms.get_potential_energy()

    def test_no_moments_are_needed(self, potential):
        atoms = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.5]])
        atoms.calc = DeepSpinCalculator(potential)
        assert np.isfinite(atoms.get_forces()).all()
        assert (atoms.get_magnetic_moments() == 0).all()

    def test_zero_moment(self, atoms):
        atoms.arrays["initial_magmoms"][2] = 0
        with pytest.raises(ValueError, match=r"Atom 2 .*\|spin\| = 0, .*'Ni'"):
            atoms.get_potential_energy()

    def test_moments_without_spin_type(self, model, frame, caplog):
        atoms = atoms_of(deepspin.DeepSpin(model), frame)
        want = atoms.get_forces()
        atoms.arrays["initial_magmoms"][6] = 0.05
        np.testing.assert_array_equal(atoms.get_forces(), want)
        assert (atoms.get_magnetic_moments()[6] == 0).all()
        (record,) = caplog.records
        assert record.getMessage().startswith("spins on atoms of O are ignored")

    def test_unknown_element(self, atoms):
        atoms.symbols[6] = "Fe"
        message = r"The model knows Ni, O, but not Fe\. .*type_map=\{'Fe': 'Ni'\}"
        with pytest.raises(ValueError, match=message):
            atoms.get_potential_energy()

    def test_mappings(self, make_model):
        model = make_model("NiO")
        for wrong in ({"Nickel": "Ni"}, {"Ni": "Fe"}):
            with pytest.raises(ValueError, match="`type_map` must give chemical sym"):
                DeepSpinCalculator(model, type_map=wrong)
        model.type_map = ["metal", "ligand"]
        with pytest.raises(ValueError, match=r"name of an element: metal, ligand\."):
            DeepSpinCalculator(model)

    def test_periodic_without_vector(self, atoms):
        atoms.cell[2] = 0
        with pytest.raises(ValueError, match="`cells` of frame 0 is singular"):
            atoms.get_potential_energy()
        atoms.pbc[2] = False
        assert np.isfinite(atoms.get_potential_energy())
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()

    def test_stress_in_the_open(self, atoms):
        atoms.pbc = False
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()

    def test_coinciding_atoms(self, atoms):
        atoms.positions[1] = atoms.positions[0]
        with pytest.raises(ValueError, match="at the same place"):
            atoms.get_forces()

    def test_near_atoms(self, model, frame, caplog):
        potential = deepspin.DeepSpin(model)
        potential.metadata = {"nearest": {"Ni": {"O": 2.5}}}
        atoms = atoms_of(potential, frame)
        for seed in range(2):
            atoms.rattle(1e-3, seed=seed)
            atoms.get_forces()
        (record,) = caplog.records
        assert "nearer than any in training (2.5000 Å)" in record.getMessage()

    def test_nothing_to_store(self, atoms):
        with pytest.raises(ValueError, match="must be 'arrays' or 'info'"):
            store(atoms, "calc")
        for calculator in (None, LennardJones()):
            atoms.calc = calculator
            with pytest.raises(PropertyNotImplementedError, match="no magnetic forces"):
                store(atoms)

    def test_without_ase(self, tmp_path):
        """One line that says what to install; the rest of the package works."""
        (tmp_path / "ase.py").write_text("raise ImportError('no')")
        code = (
            "import deepspin\n"
            "from deepspin import *\n"
            "try:\n"
            "    deepspin.DeepSpinCalculator\n"
            "except ImportError as error:\n"
            "    print(error)\n"
        )
        environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert done.stdout == (
            "deepspin.calculator needs ASE, which is not installed (or too old): "
            "pip install -U ase\n"
        ), done.stderr


def test_lazy(tmp_path):
    code = (
        "import sys, deepspin; dir(deepspin)\n"
        "print({'ase', 'tensorflow'} & set(sys.modules))\n"
        "print(deepspin.DeepSpinCalculator.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "set()\ndeepspin.calculator\n", done.stderr
