# SPDX-License-Identifier: Apache-2.0
"""The example data of NiO: their Hamiltonian, its derivatives, the committed files."""

import importlib.util
import json

import numpy as np
import pytest
from places import ROOT

pytestmark = pytest.mark.any_version

FOLDER = ROOT / "examples" / "NiO"
SPEC = importlib.util.spec_from_file_location("nio_generate", FOLDER / "generate.py")
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)

FIELDS = ("energy", "force", "force_mag", "virial")
SYSTEMS = list(enumerate(generate.SYSTEMS))
NAMES = [name for name, *_ in generate.SYSTEMS]


def crystal(natoms=32):
    """Return coord, box, type of the ideal crystal and its AFM-II spins."""
    coord, box, atype = generate.rock_salt(natoms)
    signs = generate.order_signs(coord, atype, generate.DOMAINS[0])
    return coord, box, atype, signs[:, None] * np.array([0, 0, generate.SPIN_NORM])


def frame(index=4, natoms=32):
    """Return coord, box, type and spin of a random frame (index 4: partly ordered)."""
    made = generate.random_frame(7, 0, index, natoms)
    return made["coord"], made["box"], made["type"], made["spin"]


def energy(*args):
    """Return the energy in eV as a float."""
    return float(generate.evaluate(*args)["energy"])


def assert_same(one, other, names=FIELDS, tolerance=1e-10):
    """Compare labels and name every field's largest error."""
    errors = {name: np.abs(one[name] - other[name]).max() for name in names}
    assert max(errors.values()) < tolerance, errors


def assert_derivative(exact, numeric):
    """Demand a relative error below 1e-6, of the largest and of each value."""
    exact, numeric = np.asarray(exact), np.asarray(numeric)
    scale = np.abs(exact).max()
    assert scale > 1e-3
    assert np.abs(exact - numeric).max() < 1e-6 * scale
    large = np.abs(exact) > 0.1 * scale
    np.testing.assert_allclose(numeric[large], exact[large], rtol=1e-6)


def central(function, step):
    """Return the central difference of fourth order of a function of one number."""
    near, far = (
        function(step) - function(-step),
        function(2 * step) - function(-2 * step),
    )
    return (8.0 * near - far) / (12.0 * step)


@pytest.mark.parametrize("natoms", [16, 32])
def test_force_and_force_mag_are_derivatives(natoms):
    """Compare force and force_mag with differences of the energy."""
    coord, box, atype, spin = frame(natoms=natoms)
    labels = generate.evaluate(coord, box, atype, spin)
    atoms = [0, 3, natoms // 2 - 1, natoms // 2, natoms - 1]  # three Ni, two O
    force, force_mag = np.zeros((5, 3)), np.zeros((5, 3))
    for row, atom in enumerate(atoms):
        for axis in range(3):
            unit = np.zeros_like(coord)
            unit[atom, axis] = 1.0
            force[row, axis] = -central(
                lambda h, u=unit: energy(coord + h * u, box, atype, spin), 1e-3
            )
            force_mag[row, axis] = -central(
                lambda h, u=unit: energy(coord, box, atype, spin + h * u), 1e-3
            )
    assert_derivative(labels["force"][atoms], force)
    assert_derivative(labels["force_mag"][atoms], force_mag)
    assert not labels["force_mag"][natoms // 2 :].any()


@pytest.mark.parametrize("natoms", [16, 32])
def test_virial_is_the_strain_derivative(natoms):
    """Compare the virial with differences of the energy under strain."""
    coord, box, atype, spin = frame(natoms=natoms)
    virial = generate.evaluate(coord, box, atype, spin)["virial"]
    numeric = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):

            def strained(h, a=a, b=b):
                deform = np.eye(3)
                deform[b, a] += h  # rows: x_a -> x_a + h x_b
                return energy(coord @ deform, box @ deform, atype, spin)

            numeric[a, b] = -central(strained, 1e-4)
    assert_derivative(virial, numeric)
    assert np.abs(virial - virial.T).max() < 1e-10


def test_invariances():
    """Joint and separate rotations, time reversal, translation, permutation."""
    coord, box, atype, spin = frame()
    rng = np.random.default_rng(3)
    labels = generate.evaluate(coord, box, atype, spin)
    turn = generate.random_rotation(rng)
    mirror = np.diag([1.0, 1.0, -1.0])
    for matrix in (turn, turn @ mirror):
        assert abs(matrix @ matrix.T - np.eye(3)).max() < 1e-14
        turned = generate.evaluate(coord @ matrix.T, box @ matrix.T, atype, spin)
        assert_same(turned, labels, ("energy", "force_mag"))
        assert_same(
            generate.evaluate(coord @ matrix.T, box @ matrix.T, atype, spin @ matrix.T),
            {
                "energy": labels["energy"],
                "force": labels["force"] @ matrix.T,
                "force_mag": labels["force_mag"] @ matrix.T,
                "virial": matrix @ labels["virial"] @ matrix.T,
            },
        )
    # The exchange is isotropic: the spins may be turned or flipped alone.
    alone = generate.evaluate(coord, box, atype, spin @ turn.T)
    assert_same(alone, {**labels, "force_mag": labels["force_mag"] @ turn.T})
    flipped = generate.evaluate(coord, box, atype, -spin)
    assert_same(flipped, {**labels, "force_mag": -labels["force_mag"]})
    torque = np.cross(spin, labels["force_mag"]).sum(axis=0)
    assert np.abs(torque).max() < 1e-10
    # Translation, lattice vectors, order of the atoms.
    moved = coord + rng.normal(size=3) + rng.integers(-2, 3, coord.shape) @ box
    assert_same(generate.evaluate(moved, box, atype, spin), labels)
    assert np.abs(labels["force"].sum(axis=0)).max() < 1e-10
    order = rng.permutation(len(coord))
    assert_same(
        generate.evaluate(coord[order], box, atype[order], spin[order]),
        {k: v[order] if k.startswith("force") else v for k, v in labels.items()},
    )


def test_supercell_and_another_choice_of_cell():
    """The energy is extensive and does not depend on the choice of the cell."""
    coord, box, atype, spin = frame(natoms=16)
    labels = generate.evaluate(coord, box, atype, spin)
    double = generate.evaluate(
        np.concatenate([coord, coord + box[1]]),
        box * np.array([[1.0], [2.0], [1.0]]),
        np.tile(atype, 2),
        np.tile(spin, (2, 1)),
    )
    assert abs(double["energy"] - 2 * labels["energy"]) < 1e-10
    assert np.abs(double["force"] - np.tile(labels["force"], (2, 1))).max() < 1e-10
    assert np.abs(double["virial"] - 2 * labels["virial"]).max() < 1e-10
    skewed = np.array([[1, 0, 0], [1, 1, 0], [-1, 1, 1]]) @ box
    assert_same(generate.evaluate(coord, skewed, atype, spin), labels)


def test_afm_ii_is_the_magnetic_ground_state():
    """AFM-II lies below FM and disorder, and |S| = S_0 is at rest in it."""
    coord, box, atype, spin = crystal()
    ground = generate.evaluate(coord, box, atype, spin)
    magnetic = atype == generate.NICKEL
    for domain in generate.DOMAINS:
        signs = generate.order_signs(coord, atype, domain)
        assert signs.sum() == 0 and np.array_equal(np.abs(signs), magnetic)
        other = energy(coord, box, atype, signs[:, None] * [generate.SPIN_NORM, 0, 0])
        assert abs(other - ground["energy"]) < 1e-10
    # Per Ni: AFM-II 3 J2, FM -6 J1 - 3 J2 with J1 = 1.37, J2 = -19.01 meV.
    ferro = energy(coord, box, atype, np.abs(spin))
    expected = 16 * (-6 * 1.37e-3 + 6 * 19.01e-3)
    assert abs(ferro - ground["energy"] - expected) < 1e-10
    rng = np.random.default_rng(5)
    for order in generate.DISORDER:
        for _ in range(5):
            drawn = generate.random_spins(rng, coord, atype, order)
            assert energy(coord, box, atype, drawn) > ground["energy"]
    # Nothing pulls at an atom or a spin, and |S| = S_0 is the minimum.
    assert np.abs(ground["force"]).max() < 1e-10
    assert np.abs(ground["force_mag"]).max() < 1e-10
    for factor in (0.95, 1.05):
        assert energy(coord, box, atype, factor * spin) > ground["energy"] + 0.1


def test_crystal_is_stable_and_free_of_pressure():
    """Displacements and strains raise the energy of the ideal crystal."""
    coord, box, atype, spin = crystal()
    ground = generate.evaluate(coord, box, atype, spin)
    pressure = np.trace(ground["virial"]) / (3 * np.linalg.det(box))
    assert abs(pressure) < 1e-5  # eV/Å^3, or 1.6 MPa
    rng = np.random.default_rng(6)
    for width in (0.01, 0.05):
        for _ in range(5):
            moved = coord + width * rng.standard_normal(coord.shape)
            assert energy(moved, box, atype, spin) > ground["energy"]
            strain = 0.2 * width * rng.uniform(-1.0, 1.0, (3, 3))
            deform = np.eye(3) + strain + strain.T
            strained = energy(coord @ deform, box @ deform, atype, spin)
            assert strained > ground["energy"]


def largest_steps(function, points):
    """Return the largest change of value, slope and curvature between grid points."""
    r = np.linspace(1.6, 5.4, points)
    value, slope = function(r)
    curvature = np.gradient(slope, r)[1:-1]
    return np.array([np.abs(np.diff(x)).max() for x in (value, slope, curvature)])


@pytest.mark.parametrize("pair", ["exchange", (0, 0), (0, 1), (1, 1)])
def test_pair_functions_are_smooth(pair):
    """Two continuous derivatives everywhere, and nothing beyond 5.2 Å."""

    def function(r):
        if pair == "exchange":
            return generate.exchange_and_slope(r)
        return generate.lattice_pair(r, *(np.full(r.shape, t) for t in pair))

    r = np.linspace(1.6, 5.4, 777)
    value, slope = function(r)
    assert_derivative(slope, central(lambda h: function(r + h)[0], 1e-4))
    assert not value[r >= 5.2].any() and not slope[r >= 5.2].any()
    # A grid four times finer divides the steps by four; a jump would stay.
    ratio = largest_steps(function, 7601) / largest_steps(function, 1901)
    assert np.all(ratio < 0.35), ratio


def test_labels_are_continuous_where_pieces_join():
    """Every label is continuous at every joint of the pair functions."""
    box, atype = 40.0 * np.eye(3), np.array([0, 0])
    spin = np.array([[0.0, 0.3, 1.2], [0.5, 0.1, -1.1]])

    def dimer(r):
        return generate.evaluate(np.array([[0, 0, 0], [0, 0, r]]), box, atype, spin)

    for joint in (3.2, 3.9, 4.4, 5.0, 5.2):
        assert_same(dimer(joint - 1e-10), dimer(joint + 1e-10), tolerance=1e-8)
    # Beyond its end only the on-site term is left.
    onsite = generate.LANDAU * ((spin**2).sum(axis=1) - generate.MOMENT2) ** 2
    assert abs(dimer(5.3)["energy"] - onsite.sum()) < 1e-14


def test_exchange_has_the_published_values():
    """J and its slope at the two shells are those of the literature."""
    coupling = generate.exchange(4.17 * np.sqrt([0.5, 1.0, 1.5]))
    np.testing.assert_allclose(coupling, [1.37e-3, -19.01e-3, 0.0], atol=1e-12)
    # Bloch: J falls with the tenth power of the distance, at each shell.
    for shell, value in zip(generate.SHELLS, generate.EXCHANGE, strict=True):
        slope = generate.exchange_and_slope(shell)[1]
        assert abs(slope * shell / value + 10.0) < 1e-9


def test_exchange_is_the_mixed_derivative_of_the_energy():
    """J = -S_0^2 d2E/dS_i dS_j, the way it is read from a trained model."""
    box, atype, r = 40.0 * np.eye(3), np.array([0, 0]), 4.0
    coord = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]])
    spin = np.array([[0.0, 0.3, 1.2], [0.5, 0.1, -1.1]])
    step = np.zeros_like(spin)
    step[1, 0] = 1.0
    mixed = -central(
        lambda h: generate.evaluate(coord, box, atype, spin + h * step)["force_mag"][0],
        1e-3,
    )
    coupling = -(generate.SPIN_NORM**2) * mixed
    np.testing.assert_allclose(coupling, [generate.exchange(r), 0, 0], atol=1e-12)


def test_exchange_record_is_current():
    """The committed exchange.json says what the code does."""
    record = json.loads((FOLDER / "data" / "exchange.json").read_text("utf-8"))
    assert record == generate.exchange_record()
    for row in record["shells"]:
        assert abs(generate.exchange(row["r"]) - row["J"]) < 1e-9


def load(name):
    """Return types and arrays of a committed system."""
    folder = FOLDER / "data" / name
    arrays = {path.stem: np.load(path) for path in folder.glob("set.000/*.npy")}
    return np.loadtxt(folder / "type.raw", dtype=int), arrays


@pytest.mark.parametrize(("number", "system"), SYSTEMS, ids=NAMES)
def test_committed_frames_are_regenerated(number, system):
    """The committed arrays are those of a fresh run."""
    name, layout, natoms, share = system
    atype, arrays = load(name)
    nframes = round(generate.FRAMES * share)
    assert all(len(array) == nframes for array in arrays.values())
    frames = [
        generate.random_frame(generate.SEED, number, index, natoms)
        for index in range(min(4, nframes))
    ]
    fresh_type, fresh = generate.stack_frames(layout, frames)
    assert np.array_equal(atype, fresh_type)
    assert arrays.keys() == fresh.keys()
    committed = {key: array[: len(frames)] for key, array in arrays.items()}
    assert_same(committed, fresh, fresh.keys())


@pytest.mark.parametrize("name", [name for name in NAMES if "spin-files" in name])
def test_labels_of_spin_files(name):
    """The spin-files layout holds the labels of its own frames."""
    atype, arrays = load(name)
    shape = (len(arrays["energy"]), len(atype), 3)
    coord, spin = arrays["coord"].reshape(shape), arrays["spin"].reshape(shape)
    box = arrays["box"].reshape(-1, 3, 3)
    last = generate.evaluate(coord[-1], box[-1], atype, spin[-1])
    for field in FIELDS:
        assert np.abs(arrays[field][-1] - last[field].ravel()).max() < 1e-10, field
    assert (FOLDER / "data" / name / "type_map.raw").read_text().split() == ["Ni", "O"]
    assert not spin[:, atype == 1].any()
    assert_distances(coord, box)


@pytest.mark.parametrize("name", [name for name in NAMES if "virtual-atom" in name])
def test_labels_of_virtual_atoms(name):
    """The virtual-atom layout holds spins, forces and magnetic forces."""
    atype, arrays = load(name)
    assert not (FOLDER / "data" / name / "type_map.raw").exists()
    shape = (len(arrays["energy"]), len(atype), 3)
    coord, force = arrays["coord"].reshape(shape), arrays["force"].reshape(shape)
    box = arrays["box"].reshape(-1, 3, 3)
    real, virtual, nickel = atype < 2, atype == 2, atype == 0
    assert np.array_equal(np.sort(atype), atype)
    assert virtual.sum() == nickel.sum()
    arrow = coord[:, virtual] - coord[:, nickel]  # (nf, Ni, 3)
    spin = np.zeros((shape[0], real.sum(), 3))
    spin[:, nickel[real]] = arrow * 1.2737 / 0.4
    length = np.linalg.norm(spin[:, nickel[real]], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(arrow, axis=-1), length * 0.4 / 1.2737, rtol=1e-12
    )
    assert np.all((length > 0.9) & (length < 1.6))
    last = generate.evaluate(coord[-1, real], box[-1], atype[real], spin[-1])
    assert abs(arrays["energy"][-1] - last["energy"]) < 1e-10
    assert np.abs(force[-1, real] - last["force"]).max() < 1e-10
    assert np.abs(force[-1, virtual] - last["force_mag"][nickel[real]]).max() < 1e-10
    assert np.abs(arrays["virial"][-1] - last["virial"].ravel()).max() < 1e-10
    assert_distances(coord[:, real], box)


def assert_distances(coord, box):
    """No two real atoms of a frame are closer than 1.5 Å."""
    for positions, cell in zip(coord, box, strict=True):
        diff = generate.build_pairs(positions, cell)[2]
        assert np.linalg.norm(diff, axis=1).min() > 1.5


def test_frames_are_all_different():
    """No frame occurs in two systems."""
    energies = np.concatenate([load(name)[1]["energy"] for name in NAMES])
    assert len(np.unique(energies)) == len(energies)


def test_readme_holds_the_summary():
    """Every line of the summary stands in the README."""
    readme = (FOLDER / "data" / "README.md").read_text("utf-8")
    lines = generate.data_summary(FOLDER / "data") + generate.exchange_summary()
    for line in lines + generate.crystal_summary():
        assert line in readme


def test_command_line(tmp_path, capsys):
    """Writing, checking, and a damaged and a missing file."""
    arguments = ["--out", str(tmp_path), "--frames", "4", "--seed", "3"]
    assert generate.main(arguments) == 0
    assert generate.main([*arguments, "--check"]) == 0
    assert "largest difference 0.0e+00" in capsys.readouterr().out
    path = tmp_path / "valid" / "virtual-atom-32" / "set.000" / "force.npy"
    np.save(path, np.load(path) + 1e-6)
    assert generate.main([*arguments, "--check"]) == 1
    assert "virtual-atom-32" in capsys.readouterr().out
    path.unlink()
    assert generate.main([*arguments, "--check"]) == 1


def test_unknown_layout_is_refused():
    """A wrong layout is named."""
    with pytest.raises(ValueError, match="must be 'spin-files' or 'virtual-atom'"):
        generate.stack_frames("mixed", [generate.random_frame(1, 0, 0, 16)])
