# SPDX-License-Identifier: Apache-2.0
"""Systems in memory: what is read of them is what files of the same hold."""

from __future__ import annotations

import logging
from dataclasses import fields

import ase.io
import numpy as np
import pytest
import small_data
import tensorflow as tf
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from deepspin import DataSystem
from deepspin.data.files import DataError
from deepspin.spins.virtual import VirtualAtoms

SPEC = {
    "type_map": ["Ni", "O"],
    "spin": VirtualAtoms.from_options([True, False], [0.4], [1.2737]),
    "rcut": 3.3,
    "seed": 1,
}
NF = 4
RNG = np.random.default_rng(5)
VIRIAL = RNG.normal(size=(NF, 3, 3))
VIRIAL += VIRIAL.transpose(0, 2, 1)


@pytest.fixture(scope="module")
def frames():
    """Arrays of `NF` frames with a virial, and their types."""
    arrays, types = small_data.frames(NF)
    return {**arrays, "virial": VIRIAL}, types


@pytest.fixture(scope="module")
def from_files(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "s"
    return DataSystem(str(small_data.write(folder, *frames)), **SPEC)


def assert_same(found, want, but=("path", "sets")):
    """All numbers of systems, bit for bit, and the batches."""
    assert len(found.systems) == len(want.systems)
    for one, two in zip(found.systems, want.systems, strict=True):
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(two, field.name)
            if field.name == "labels":
                assert sorted(a) == sorted(b)
                for name in a:
                    np.testing.assert_array_equal(a[name], b[name], err_msg=name)
            elif isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b, err_msg=field.name)
            elif field.name not in but:
                assert a == b, field.name
    one, two = found.batch(7), want.batch(7)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_array_equal(a, b)


# -- arrays ----------------------------------------------------------------------------


def test_arrays_are_files(frames, from_files):
    """By numbers and by names, flat or not, also as tensors and lists."""
    arrays, types = frames
    given = {**arrays, "atype": types, "type_map": ["Ni", "O"]}
    assert_same(DataSystem.from_arrays(given, **SPEC), from_files)
    flat = {k: v.reshape(NF, -1) for k, v in arrays.items()}
    flat["coord"], flat["energy"] = tf.constant(flat["coord"]), list(arrays["energy"])
    given = {**flat, "atype": np.array(["Ni", "O"])[types]}
    assert_same(DataSystem.from_arrays([given], **SPEC), from_files)


def test_arrays_are_copied(frames):
    arrays, types = frames
    given = {k: np.array(v) for k, v in arrays.items()}
    data = DataSystem.from_arrays({**given, "atype": types}, **SPEC)
    for values in given.values():
        values += 1.0
    np.testing.assert_array_equal(data.systems[0].coord, arrays["coord"])
    np.testing.assert_array_equal(data.systems[0].labels["energy"], arrays["energy"])


def test_virtual_atoms_no_box_and_parameters(frames, tmp_path):
    """The other layout, frame parameters, and no periodicity."""
    arrays, types = small_data.with_virtual_atoms(*frames)
    del arrays["box"]
    arrays["fparam"] = np.arange(2.0 * NF).reshape(NF, 2)
    folder = small_data.write(tmp_path / "s", arrays, types, names=None)
    (folder / "nopbc").touch()
    want = DataSystem(str(folder), **SPEC, numb_fparam=2)
    for box in (None, np.zeros((NF, 3, 3))):
        given = {**arrays, "atype": types, "box": box}
        assert_same(DataSystem.from_arrays(given, **SPEC, numb_fparam=2), want)
    assert not want.systems[0].pbc and want.systems[0].fparam.shape == (NF, 2)


def test_types_of_each_frame(frames, tmp_path):
    """As files of mixed types, with and without names; -1 and "" are no atom."""
    arrays, types = frames
    mixed = np.repeat(types[None], NF, axis=0)
    mixed[1, -1] = -1
    folder = small_data.write(tmp_path / "s", arrays, types * 0)
    np.save(folder / "set.000" / "real_atom_types.npy", mixed)
    want = DataSystem(str(folder), **SPEC)
    given = {**arrays, "atype": mixed, "type_map": ["Ni", "O"]}
    assert_same(DataSystem.from_arrays(given, **SPEC), want)
    given = {**arrays, "atype": np.array(["Ni", "O", ""])[mixed]}
    assert_same(DataSystem.from_arrays(given, **SPEC), want)
    assert (want.systems[0].atype[1] == -1).sum() == 1


BAD = {
    "name": (
        lambda a: {**a, "forces": a["force"]},
        r"unknown names: forces.*force_mag",
    ),
    "no box": (lambda a: a.pop("box"), r"arrays has no box.*None if not periodic"),
    "shape": (
        lambda a: a.update(force=a["force"][:2]),
        r"'arrays/force' must have 4 r",
    ),
    "nan": (
        lambda a: a.update(force=np.where(a["force"] > 0, np.nan, 0.0)),
        r"force': nan in frame 0, atom \d but not in all of it\. Remove the frame, or",
    ),
    "masked": (
        lambda a: a.update(coord=np.ma.masked_less(a["coord"], 0.1)),
        r"coord': nan in frame 0",
    ),
    "masked types": (
        lambda a: a.update(atype=np.ma.masked_equal([0, 0, 0, 0, 1, 1, 1, 1], 1)),
        "atype' is no array: some of it is masked",
    ),
    "truth": (
        lambda a: a.update(energy=a["energy"] > 0),
        "energy' does not hold numbers: true and false. Write",
    ),
    "words": (
        lambda a: a.update(energy=["low"] * NF),
        r"'arrays/energy' does not hold",
    ),
    "element": (
        lambda a: a.update(atype=["Fe"] * 8),
        r"atoms of \['Fe'\], which are no",
    ),
    "spins": (lambda a: a.pop("spin") * a.pop("force_mag"), r"'arrays' has no spins"),
    "twice": (lambda a: a.update(type_map=["Ni"]), r"`type_map` has no use"),
    "no atoms": (lambda a: a.update(atype=[]), r"'arrays/atype' has no atoms"),
    "ragged": (lambda a: a.update(atype=[[0], [0, 1]]), r"'arrays/atype' is no array"),
}


@pytest.mark.parametrize("kind", BAD)
def test_refused_arrays(kind, frames):
    arrays, types = frames
    given = {**arrays, "atype": np.array(["Ni", "O"])[types]}
    change, message = BAD[kind]
    changed = change(given)
    given = changed if isinstance(changed, dict) else given
    with pytest.raises(DataError, match=message):
        DataSystem.from_arrays(given, **SPEC)


def test_nothing_and_no_dicts():
    with pytest.raises(DataError, match="There is no frame"):
        DataSystem.from_arrays([], **SPEC)
    with pytest.raises(DataError, match=r"arrays\[0\] must be a dict.*str"):
        DataSystem.from_arrays(["folder"], **SPEC)


# -- ASE -------------------------------------------------------------------------------


def as_atoms(frames, **more):
    """The frames as ASE's atoms with results."""
    arrays, types = frames
    found = []
    for k in range(NF):
        atoms = Atoms(
            np.array(["Ni", "O"])[types],
            arrays["coord"][k],
            cell=arrays["box"][k].reshape(3, 3),
            pbc=True,
        )
        atoms.set_initial_magnetic_moments(arrays["spin"][k])
        atoms.arrays["mforce"] = arrays["force_mag"][k]
        atoms.info["virial"] = VIRIAL[k]
        results = {"energy": arrays["energy"][k], "forces": arrays["force"][k], **more}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def test_atoms_are_files(frames, from_files):
    assert_same(DataSystem.from_ase(as_atoms(frames), **SPEC), from_files)


def test_extended_xyz(frames, from_files, tmp_path):
    """Written and read by ASE, in its digits."""
    ase.io.write(tmp_path / "f.xyz", as_atoms(frames), format="extxyz")
    data = DataSystem.from_ase(ase.io.read(tmp_path / "f.xyz", ":"), **SPEC)
    (found,), (want,) = data.systems, from_files.systems
    assert sorted(found.labels) == sorted(want.labels)
    np.testing.assert_allclose(found.spin, want.spin, atol=1e-7)
    for name, values in want.labels.items():
        np.testing.assert_allclose(found.labels[name], values, atol=1e-7)


def test_stress_is_minus_the_derivative_of_the_energy_by_strain():
    """Of a sheared crystal in EMT, by difference quotients."""
    atoms = bulk("Ni", cubic=True)
    del atoms.arrays["initial_magmoms"]
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * RNG.normal(size=(3, 3))), True)
    atoms.rattle(0.05, seed=1)
    atoms.arrays["spin"] = np.ones((len(atoms), 3))
    atoms.calc = EMT()
    atoms.get_stress()
    (system,) = DataSystem.from_ase(atoms, **SPEC).systems
    virial, step = np.zeros((3, 3)), 1e-4
    for a, b in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[b, a] += sign * step  # rows: x_a gains strain times x_b
            moved = atoms.copy()
            moved.set_cell(atoms.cell @ strain, scale_atoms=True)
            moved.calc = EMT()
            energies.append(moved.get_potential_energy())
        virial[a, b] = -(energies[0] - energies[1]) / (2 * step)
    assert np.abs(virial).max() > 1.0
    np.testing.assert_allclose(system.labels["virial"][0], virial, atol=1e-5)


def test_a_virial_beside_a_stress(frames):
    volume = small_data.LATTICE**3
    skew = np.array([[0, 1.0, 0], [-1.0, 0, 0], [0, 0, 0]])
    for k, atoms in enumerate(as_atoms(frames)):
        atoms.info["virial"] = VIRIAL[k] + skew  # that of a model with spins
        atoms.calc.results["stress"] = -VIRIAL[k] / volume
        (system,) = DataSystem.from_ase(atoms, **SPEC).systems
        np.testing.assert_array_equal(system.labels["virial"][0], VIRIAL[k] + skew)
        atoms.calc.results["stress"] = VIRIAL[k] / volume
        with pytest.raises(DataError, match=r"frames\[0\]: its virial is not minus"):
            DataSystem.from_ase([atoms], **SPEC)


def test_other_compositions_are_other_systems(frames):
    """Also without periodicity; frames keep their numbers in messages."""
    one, two, three, four = as_atoms(frames)
    del two[-1]
    two.arrays["mforce"], two.calc = two.arrays["mforce"][:7], None
    four.pbc, four.calc = False, None
    del four.info["virial"]
    data = DataSystem.from_ase([one, two, three, four], **SPEC)
    assert [(s.nframes, s.nloc, s.pbc) for s in data.systems] == [
        (2, 8, True), (1, 7, True), (1, 8, False)
    ]  # fmt: skip
    assert data.systems[0].path == "frames[0] and 1 more"
    np.testing.assert_array_equal(data.systems[0].coord[1], three.positions)
    del three.info["virial"]
    data = DataSystem.from_ase([one, two, three], **SPEC)
    np.testing.assert_array_equal(data.systems[0].has("virial"), [True, False])


def test_moments(frames, caplog):
    """Those of the calculator before the initial ones; small ones of O are left out."""
    magmoms = np.where(frames[1] == 0, np.linspace(0.5, 1.2, 8), 0.03)
    (atoms, *_) = as_atoms(frames, magmoms=magmoms)
    with caplog.at_level(logging.WARNING):
        (system,) = DataSystem.from_ase(atoms, **SPEC).systems
    is_ni = atoms.numbers == 28
    np.testing.assert_array_equal(system.spin[0, is_ni, 2], magmoms[is_ni])
    assert not system.spin[0, ~is_ni].any() and not system.spin[..., :2].any()
    assert "along z" in caplog.text
    assert "left out: up to 0.03 μ_B of O, atom 4, frame 0 of" in caplog.text
    (atoms, *_) = as_atoms(frames, magmoms=2 * magmoms)
    with pytest.raises(DataError, match=r"0\.06 but type .* `ignore_below` to 0\.066"):
        DataSystem.from_ase(atoms, **SPEC)


def test_names_of_ones_own(frames, from_files):
    found = as_atoms(frames)
    for atoms in found:
        atoms.info["dft"] = atoms.calc.results["energy"]
        atoms.calc.results["energy"] = 0.0
    data = DataSystem.from_ase(found, **SPEC, names={"energy": "dft"})
    assert_same(data, from_files)
    with pytest.raises(ValueError, match=r"`names` can be of.*'box'"):
        DataSystem.from_ase(found, **SPEC, names={"box": "cell"})


def moved(atoms):
    atoms.positions += 0.1


BAD_ATOMS = {
    "stale": (
        moved,
        r"frames\[0\]: the results .* other atoms: \['positions'\] differ",
    ),
    "slab": (lambda a: a.set_pbc([1, 1, 0]), r"periodic in some directions only"),
    "two": (
        lambda a: a.arrays.update(force_mag=a.arrays["mforce"] + 1),
        r"two kinds of force_mag, which differ: force_mag and mforce.*names=",
    ),
    "shape": (lambda a: a.info.update(virial=np.ones(4)), r"virial must be 3 x 3 or"),
    "moments": (
        lambda a: a.arrays.update(spin=np.ones((8, 2))),
        r"spin must be N o",
    ),
    "none": (lambda a: a.arrays.pop("initial_magmoms"), r"frames\[0\].*has no spins"),
}


@pytest.mark.parametrize("kind", BAD_ATOMS)
def test_refused_atoms(kind, frames):
    atoms = as_atoms(frames)[0]
    change, message = BAD_ATOMS[kind]
    change(atoms)
    with pytest.raises(DataError, match=message):
        DataSystem.from_ase([atoms], **SPEC)


# -- tf.data ---------------------------------------------------------------------------


def test_data_sets_are_files(frames, from_files):
    """Of single frames, of several, and with labels apart."""
    arrays, types = frames
    box = arrays["box"].reshape(NF, 3, 3)
    symbols = np.repeat(np.array(["Ni", "O"])[types][None], NF, axis=0)
    single = tf.data.Dataset.from_tensor_slices(
        {**arrays, "box": box, "atype": symbols}
    )
    assert_same(DataSystem.from_dataset(single, **SPEC), from_files)
    inputs = {k: v for k, v in arrays.items() if k in ("coord", "box", "spin")}
    labels = {k: v for k, v in arrays.items() if k not in inputs}
    pairs = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(3)
    pairs = pairs.map(lambda x, y: ({**x, "atype": np.array(["Ni", "O"])[types]}, y))
    data = DataSystem.from_dataset(pairs, **SPEC)
    assert_same(data, from_files)
    assert [n for _, n in data.systems[0].sets] == [3, 1]


def test_refused_data_sets(frames):
    arrays, types = frames
    data = tf.data.Dataset.from_tensors({**arrays, "atype": types})
    with pytest.raises(DataError, match=r"never ends.*take"):
        DataSystem.from_dataset(data.repeat(), **SPEC)
    with pytest.raises(DataError, match=r"elements\[0\] must be a dict.*ndarray"):
        DataSystem.from_dataset(data.map(lambda x: x["coord"]), **SPEC)
    with pytest.raises(DataError, match="There is no frame"):
        DataSystem.from_dataset(data.take(0), **SPEC)
    with pytest.raises(DataError, match=r"unknown names: mask"):
        DataSystem.from_dataset(data.map(lambda x: {**x, "mask": x["coord"]}), **SPEC)
