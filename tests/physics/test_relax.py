# SPDX-License-Identifier: Apache-2.0
"""Relaxation: known minima, constraints, many replicas, models."""

import numpy as np
import pytest
import scipy.optimize
from hamiltonians import Cluster, exchange, free, wells

import deepspin
from deepspin.atoms import units
from deepspin.dynamics.core.fields import ModelFields, Response, Zeeman
from deepspin.dynamics.relax.manifold import Freedom, Point, Space
from deepspin.dynamics.relax.relaxation import Limits, along, relax, under

METHODS = ("lbfgs", "cg")
SPINS = Freedom(positions=False)


def directions(*shape, seed=0):
    """Random unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def ring(nloc, coupling):
    """Couplings between neighbours on a ring, one way."""
    return coupling * np.roll(np.eye(nloc), 1, axis=1)


def at_origin(spin):
    return np.zeros_like(spin)


# --- Spins ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1], ids=["ferromagnet", "antiferromagnet"])
def test_exchange(method, sign):
    """From any directions, all replicas together; moduli stay."""
    coupling = ring(12, 0.01 * sign)
    spin = 1.2 * directions(5, 12)
    end = relax(
        exchange(coupling + coupling.T),
        at_origin(spin),
        spin,
        free=SPINS,
        limits=Limits(force_mag=1e-9),
        method=method,
    )
    assert end.converged.all() and not end.stalled.any()
    np.testing.assert_allclose(end.energy, -0.01 * 12 * 1.2**2, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(end.spin, axis=2), 1.2, rtol=1e-15)
    next_ = np.roll(end.spin, 1, axis=1)
    np.testing.assert_allclose((end.spin * next_).sum(axis=2), sign * 1.44, rtol=1e-12)
    assert end.steps.max() < 60
    assert end.evaluations < (60 if method == "lbfgs" else 120)
    assert (end.tmax < 1e-9).all() and not (end.fmax.any() or end.smax.any())


def spiral(nloc, angle):
    """Exchange and Dzyaloshinskii-Moriya: neighbours on a ring have this angle.

    E = -sum J S_i.S_(i+1) + D_z.(S_i x S_(i+1)), with tan(angle) = D/J.
    """
    j, d = 0.01 * np.cos(angle), 0.01 * np.sin(angle)
    turn = np.array([[j, d, 0], [-d, j, 0], [0, 0, j]])

    def fields(coord, spin, time=0.0):
        after = np.roll(spin, -1, axis=1) @ turn.T
        before = np.roll(spin, 1, axis=1) @ turn
        energy = -(spin * after).sum(axis=(1, 2))
        return Response(energy, np.zeros_like(coord), after + before)

    return fields


@pytest.mark.parametrize("method", METHODS)
def test_spiral(method):
    angle, nloc = 2 * np.pi / 9, 9
    k = np.arange(nloc) * angle
    exact = np.stack([np.cos(k), np.sin(k), 0 * k], axis=-1)
    spin = exact[None] + 0.3 * directions(4, nloc)
    spin *= 1.7 / np.linalg.norm(spin, axis=2, keepdims=True)
    end = relax(
        spiral(nloc, angle),
        at_origin(spin),
        spin,
        free=SPINS,
        limits=Limits(force_mag=1e-11),
        method=method,
    )
    assert end.converged.all()
    np.testing.assert_allclose(end.energy, -0.01 * nloc * 1.7**2, rtol=1e-13)
    x, y = end.spin[..., 0], end.spin[..., 1]
    phase = np.unwrap(np.arctan2(y, x), axis=1)
    np.testing.assert_allclose(np.diff(phase, axis=1), angle, rtol=1e-8)
    np.testing.assert_allclose(end.spin[..., 2], 0, atol=1e-8)


def single_ion(k, axis):
    """E = -k (S.axis)^2, k in eV/μ_B^2."""

    def fields(coord, spin, time=0.0):
        side = spin @ axis
        push = 2 * k * side[..., None] * axis
        return Response(-k * (side**2).sum(axis=1), np.zeros_like(coord), push)

    return fields


@pytest.mark.parametrize("method", METHODS)
def test_stoner_wohlfarth(method):
    """A field against the easy axis: angles to 1e-8, in a few steps."""
    k, modulus, tesla, psi = 1e-4, 1.5, np.array([0.5, 2.0, 4.0]), np.deg2rad(60)
    angles = []
    for field in tesla:
        b = units.MU_B * field * modulus
        angles.append(
            scipy.optimize.brentq(
                lambda t, b=b: k * modulus**2 * np.sin(2 * t) - b * np.sin(psi - t),
                0,
                psi,
                xtol=1e-14,
            )
        )
    field = np.array([np.sin(psi), 0, np.cos(psi)])
    start = modulus * np.array([[0.1, 0.2, 0.97]]) / np.linalg.norm([0.1, 0.2, 0.97])
    for strength, wanted in zip(tesla, angles, strict=True):
        system = Zeeman(single_ion(k, np.array([0, 0, 1.0])), strength * field)
        end = relax(
            system,
            np.zeros((1, 3)),
            start,
            free=SPINS,
            limits=Limits(force_mag=1e-13),
            method=method,
        )
        assert end.converged.all()
        assert end.steps[0] <= 12
        x, y, z = end.spin[0, 0]
        assert abs(np.arctan2(x, z) - wanted) < 1e-8 and abs(y) < 1e-8


# --- Moduli and constraints -----------------------------------------------------------


def landau(a, b, field):
    """E = sum -a/2 S^2 + b/4 S^4 - h.S of independent spins (h in eV/μ_B)."""
    field = np.asarray(field, dtype=float)

    def fields(coord, spin, time=0.0):
        square = (spin**2).sum(axis=2)
        energy = (-a / 2 * square + b / 4 * square**2 - spin @ field).sum(axis=1)
        push = (a - b * square)[..., None] * spin + field
        return Response(energy, np.zeros_like(coord), push)

    return fields


@pytest.mark.parametrize("method", METHODS)
def test_moduli(method):
    """Directions and moduli go to the field's side and the minimum of a m^2 - b m^4."""
    a, b, field = 0.5, 0.2, np.array([0.01, 0.02, -0.02])
    spin = directions(3, 4) * np.linspace(0.8, 2.0, 4)[:, None]
    free_ = Freedom(positions=False, moduli=True)
    limits = Limits(force_mag=1e-11)
    end = relax(
        landau(a, b, field),
        at_origin(spin),
        spin,
        free=free_,
        limits=limits,
        method=method,
    )
    h = np.linalg.norm(field)
    modulus = max(np.roots([-b, 0, a, h]).real)
    assert end.converged.all()
    wanted = np.broadcast_to(modulus * field / h, spin.shape)
    np.testing.assert_allclose(end.spin, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_collinear(method):
    """Along given axes, even through 0; a modulus that is fixed as well stays."""
    axes = directions(4, seed=3)
    spin = along(np.array([[1.0, 0.5, 0], [0, 1, 0.4], [0.3, 0, 2], [1, 1, 1]]), axes)
    np.testing.assert_allclose(np.cross(spin, axes), 0, atol=1e-15)
    moduli = np.array([True, True, True, False])
    free_ = Freedom(positions=False, directions=False, moduli=moduli)
    limits, h = Limits(force_mag=1e-11), -1.0 * np.sign(spin @ axes.T).diagonal()[0]
    end = relax(
        landau(0.5, 0.2, h * axes[0]),
        at_origin(spin),
        spin,
        free=free_,
        limits=limits,
        method=method,
    )
    assert end.converged.all()
    np.testing.assert_array_equal(end.spin[0, 3], spin[3])
    sides = (end.spin[0] * axes).sum(axis=1)
    np.testing.assert_allclose(end.spin[0], sides[:, None] * axes, atol=1e-15)
    for atom in range(3):
        pull = h * axes[0] @ axes[atom]
        push = 0.5 * sides[atom] - 0.2 * sides[atom] ** 3 + pull
        assert abs(push) < 1e-11
    assert sides[0] * (spin[0] @ axes[0]) < 0, "the first spin went through 0"


def test_what_is_fixed_stays():
    """To the last bit, whatever else moves."""
    system = Cluster(anisotropy=0.002)
    state = system.state(nrep=2)
    atoms = np.arange(8)
    free_ = Freedom(positions=atoms > 2, directions=atoms % 3 > 0, moduli=atoms == 7)
    limits = Limits(1e-7, 1e-8)
    spin = state.spin.copy()
    spin[:, 4] = 0.0
    # a modulus must have a minimum
    quartic = landau(0.5, 0.3, np.zeros(3))

    def fields(coord, spin, time=0.0):
        one, two = system(coord, spin), quartic(coord, spin)
        return Response(
            one.energy + two.energy, one.force, one.force_mag + two.force_mag
        )

    end = relax(fields, state.coord, spin, free=free_, limits=limits)
    assert end.converged.all()
    np.testing.assert_array_equal(end.coord[:, :3], state.coord[:, :3])
    assert (end.coord[:, 3:] != state.coord[:, 3:]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(end.spin[:, ::3], spin[:, ::3])
    assert not end.spin[:, 4].any()
    before, after = (np.linalg.norm(s[:, :7], axis=2) for s in (spin, end.spin))
    np.testing.assert_allclose(after, before, rtol=1e-15)
    assert np.abs(np.linalg.norm(end.spin[:, 7], axis=1) - 1.3).min() > 1e-3
    assert (end.force[:, :3] ** 2).sum() > 1e-6, "what is fixed may feel forces"


# --- Positions, cells, all together ---------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_springs(method):
    """Different springs in one system; steps are few and short."""
    k = np.geomspace(1, 60, 8)[:, None]

    def fields(coord, spin, time=0.0):
        energy = (k / 2 * coord**2).sum(axis=(1, 2))
        return Response(energy, -k * coord, np.zeros_like(spin))

    coord, seen = np.random.default_rng(0).normal(size=(1, 8, 3)), []
    end = relax(
        fields,
        coord,
        np.zeros_like(coord),
        limits=Limits(force=1e-10),
        method=method,
        observe=lambda now: seen.append(now.coord),
    )
    assert end.converged.all()
    assert end.steps[0] < {"lbfgs": 45, "cg": 100}[method]
    step = np.linalg.norm(np.diff(np.concatenate(seen), axis=0), axis=2)
    assert step.max() < 0.2 * (1 + 1e-12)
    np.testing.assert_allclose(end.coord, 0, atol=1e-10)


class Crystal:
    """Four atoms, face-centred cubic: springs, and couplings of spins with bonds.

    E = sum_bonds k/2 (r - r0)^2 - J (1 - a (r - r0)) S_i.S_j - K sum_bonds (S_i.d)^2,
    so that with K the virial is not symmetric.
    """

    k, r0, j, a, anisotropy = 3.0, 2.5, 0.01, 2.0, 0.003
    sites = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2

    def __init__(self, box=None, **changes):
        self.box, self.changes = box, changes
        vars(self).update(changes)
        cells = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
        found = []
        for i in range(4):
            for j in range(4):
                for cell in cells:
                    d = self.sites[j] + cell - self.sites[i]
                    key = (*d.round(6),)
                    if abs(d @ d - 0.5) < 1e-6 and key > (0, 0, 0):
                        found.append((i, j, *cell))
        self.first, self.second, *cells = np.array(found).T
        self.cells = np.stack(cells, axis=-1)
        assert len(found) == 24

    def in_box(self, box):
        return Crystal(box, **self.changes)

    def __call__(self, coord, spin, time=0.0):
        i, j = self.first, self.second
        d = coord[:, j] + self.cells @ self.box - coord[:, i]
        r = np.linalg.norm(d, axis=2)
        longer, product = r - self.r0, (spin[:, i] * spin[:, j]).sum(axis=2)
        side = (spin[:, i] * d).sum(axis=2)
        energy = self.k / 2 * longer**2 - self.j * (1 - self.a * longer) * product
        energy = (energy - self.anisotropy * side**2).sum(axis=1)
        slope = self.k * longer + self.j * self.a * product
        pull = (slope / r)[..., None] * d
        pull -= 2 * self.anisotropy * side[..., None] * spin[:, i]
        force, force_mag = np.zeros_like(coord), np.zeros_like(spin)
        shorter = (self.j * (1 - self.a * longer))[..., None]
        for bond, (a, b) in enumerate(zip(i, j, strict=True)):
            force[:, a] += pull[:, bond]
            force[:, b] -= pull[:, bond]
            force_mag[:, a] += shorter[:, bond] * spin[:, b]
            force_mag[:, b] += shorter[:, bond] * spin[:, a]
            force_mag[:, a] += 2 * self.anisotropy * side[:, bond, None] * d[:, bond]
        virial = -(pull[..., :, None] * d[..., None, :]).sum(axis=1)
        return Response(energy, force, force_mag, virial)


def strained(seed=0, nrep=1):
    """Sheared, compressed cells with displaced atoms and random spins."""
    rng = np.random.default_rng(seed)
    box = 3.4 * np.eye(3) + 0.15 * rng.normal(size=(nrep, 3, 3))
    coord = Crystal.sites @ box + 0.05 * rng.normal(size=(nrep, 4, 3))
    return coord, 1.5 * directions(nrep, 4, seed=seed), box


def test_crystal_is_right():
    """Its forces, magnetic forces and virial are derivatives."""
    (coord, spin, box), step = strained(), 1e-5
    rng = np.random.default_rng(1)
    u, s = rng.normal(size=(2, 1, 4, 3))
    strain = rng.normal(size=(3, 3))

    def energy(x):
        factor = np.eye(3) + x * strain.T
        moved = (coord + x * u) @ factor
        return Crystal(box @ factor)(moved, spin + x * s).energy[0]

    found = Crystal(box)(coord, spin)
    work = (found.force * u).sum() + (found.force_mag * s).sum()
    work += (found.virial[0] * strain).sum()
    np.testing.assert_allclose(
        work, -(energy(step) - energy(-step)) / (2 * step), rtol=1e-8
    )
    skew = found.virial - found.virial.transpose(0, 2, 1)
    assert np.abs(skew).max() > 1e-4


def test_gradient_and_steps():
    """Gradients are derivatives along steps; a step is carried to itself."""
    (coord, spin, box), step = strained(), 1e-5
    spin[:, 2] = 0.0
    space = Space(Freedom(moduli=True, cell=True), spin)
    modulus = np.linalg.norm(spin, axis=2, keepdims=True)
    axis = spin / np.where(modulus > 0, modulus, 1)
    point = Point(coord, spin, axis, modulus, box)
    gradient = space.gradient(point, Crystal(box)(coord, spin))
    rng = np.random.default_rng(2)
    u, turn = rng.normal(size=(2, 1, 4, 3))
    strain = rng.normal(size=(1, 3, 3))
    turn -= (turn * axis).sum(axis=2, keepdims=True) * axis
    vector = space._join(
        u, turn, rng.normal(size=(1, 4, 1)), strain + np.swapaxes(strain, 1, 2)
    )
    vector = 0.3 * vector * space._scale

    def at(x):
        there, carry = space.move(point, x * vector)
        found = Crystal(there.box)(there.coord, there.spin)
        return found.energy[0], carry(vector[None])[0], space.gradient(there, found)

    assert abs((at(step)[0] - at(-step)[0]) / (2 * step) - gradient @ vector.T) < 1e-7
    # further on, too: the slope of a line search
    _, carried, there = at(0.4)
    slope = (at(0.4 + step)[0] - at(0.4 - step)[0]) / (2 * step)
    assert abs(slope - (there * carried).sum()) < 1e-7


def test_vectors_are_carried_along():
    """Rotations stay perpendicular to the spins, and keep angles and lengths."""
    spin = 1.5 * directions(2, 5)
    space = Space(Freedom(moduli=True), spin)
    modulus = np.full((2, 5, 1), 1.5)
    point = Point(0 * spin, spin, spin / 1.5, modulus)
    rng = np.random.default_rng(7)
    turn = np.cross(point.axis, rng.normal(size=(4, 2, 5, 3)))
    longer, strain = rng.normal(size=(4, 2, 5, 1)), np.zeros((4, 2, 3, 3))
    vectors = space._join(turn, turn, longer, strain)
    there, carry = space.move(point, vectors[0])
    carried = carry(vectors)
    np.testing.assert_allclose(carried[0], vectors[0], atol=1e-14)
    np.testing.assert_allclose(
        np.einsum("knd,lnd->kln", carried, carried),
        np.einsum("knd,lnd->kln", vectors, vectors),
        atol=1e-13,
    )
    turned = space._split(carried)[1]
    np.testing.assert_allclose((turned * there.axis).sum(axis=-1), 0, atol=1e-14)
    assert np.abs((turned * point.axis).sum(axis=-1)[1:]).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_harmonic_crystal(method):
    """Without spins the pressure goes to 0, and each bond to its length."""
    coord, spin, box = strained(nrep=3)
    end = relax(
        Crystal(),
        coord,
        0 * spin,
        box,
        free=Freedom(cell=True),
        limits=Limits(force=1e-9, stress=1e-8),
        method=method,
    )
    assert end.converged.all() and end.steps.max() < 60
    np.testing.assert_allclose(end.energy, 0, atol=1e-14)
    lattice = 2.5 * np.sqrt(2)
    metric = end.box @ end.box.transpose(0, 2, 1)
    np.testing.assert_allclose(metric, 3 * [lattice**2 * np.eye(3)], atol=1e-9)
    place = end.coord @ np.linalg.inv(end.box)
    place -= place[:, :1]
    np.testing.assert_allclose(place, 3 * [Crystal.sites], atol=1e-9)
    symmetric = (end.virial + end.virial.transpose(0, 2, 1)) / 2
    stress = np.abs(symmetric).max(axis=(1, 2)) / np.linalg.det(end.box) * units.GPA
    np.testing.assert_allclose(end.smax, stress, rtol=1e-12)


def test_gradient_of_the_enthalpy():
    """It is the derivative of E + pV by strains, positions, spins and moduli."""
    (coord, spin, box), step, load = strained(seed=3), 1e-5, 0.4
    space = Space(Freedom(moduli=True, cell=True), spin)
    point = Point(coord, spin, spin / 1.5, np.full((1, 4, 1), 1.5), box)
    gradient = space.gradient(point, under(load, Crystal(box)(coord, spin), box))

    def enthalpy(vector):
        there, _ = space.move(point, vector)
        energy = Crystal(there.box)(there.coord, there.spin).energy[0]
        return energy + load * np.abs(np.linalg.det(there.box[0]))

    rng = np.random.default_rng(4)
    u, turn = rng.normal(size=(2, 1, 4, 3))
    turn = np.cross(point.axis, turn)
    none, longer = np.zeros((1, 4, 3)), rng.normal(size=(1, 4, 1))
    whole, zero = rng.normal(size=(1, 3, 3)), np.zeros((1, 3, 3))
    strains = [np.eye(3)[None], whole + np.swapaxes(whole, 1, 2)]
    parts = [(none, none, 0 * longer, strain) for strain in strains]
    parts += [
        (u, turn, longer, zero),
        (u, turn, longer, whole + np.swapaxes(whole, 1, 2)),
    ]
    for part in parts:
        vector = space._join(*part) * space._scale
        slope = (enthalpy(step * vector) - enthalpy(-step * vector)) / (2 * step)
        np.testing.assert_allclose((gradient * vector).sum(), slope, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pressure", [50.0, -5.0])
def test_crystal_under_pressure(method, pressure):
    """Bonds as long as dE/dV = -p says, whatever the shape was; E + pV goes down."""
    coord, spin, box = strained(nrep=2)
    enthalpy = []
    end = relax(
        Crystal(),
        coord,
        0 * spin,
        box,
        free=Freedom(cell=True),
        pressure=pressure,
        limits=Limits(force=1e-9, stress=1e-8),
        method=method,
        observe=lambda now: enthalpy.append(now.enthalpy),
    )
    assert end.converged.all()

    def left(bond):  # 24 bonds in (bond sqrt(2))**3
        return 24 * 3.0 * (bond - 2.5) + 3 * 2**1.5 * bond**2 * pressure / units.GPA

    bond = scipy.optimize.brentq(left, 2.0, 3.0, xtol=1e-13)
    metric = end.box @ end.box.transpose(0, 2, 1)
    np.testing.assert_allclose(metric, 2 * [2 * bond**2 * np.eye(3)], atol=1e-8)
    np.testing.assert_allclose(end.energy, 36 * (bond - 2.5) ** 2, rtol=1e-8)
    volume = np.linalg.det(end.box)
    np.testing.assert_allclose(
        end.enthalpy, end.energy + pressure / units.GPA * volume, rtol=1e-12
    )
    stress = -end.virial / volume[:, None, None] * units.GPA
    np.testing.assert_allclose(stress, 2 * [-pressure * np.eye(3)], atol=1e-7)
    assert (np.diff(enthalpy, axis=0) < 1e-12).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kinds", ["all", "spins fixed", "cell and spins", "atoms fixed"]
)
def test_coupled(method, kinds):
    """Positions, cell, spins with moduli; and parts of that, with a skew virial."""
    coord, spin, box = strained(nrep=3, seed=4)
    atoms = np.arange(4)
    free_ = {
        "all": Freedom(cell=True),
        "spins fixed": Freedom(directions=False, cell=True),
        "cell and spins": Freedom(positions=False, cell=True),
        "atoms fixed": Freedom(positions=atoms > 1, cell=True),
    }[kinds]
    limits = Limits(1e-8, 1e-9, 1e-6)
    energies = []
    end = relax(
        Crystal(),
        coord,
        spin,
        box,
        free=free_,
        limits=limits,
        method=method,
        observe=lambda now: energies.append(now.energy),
    )
    assert end.converged.all() and end.steps.max() < 100
    assert (np.diff(energies, axis=0) <= 1e-13).all()
    found = Crystal(end.box)(end.coord, end.spin)
    moving = np.broadcast_to(free_.positions, 4)
    assert np.abs(found.force[:, moving]).max(initial=0) < 1e-8
    if kinds != "spins fixed":
        assert np.abs(np.cross(end.spin, found.force_mag)).max() < 1e-8
    place = coord @ np.linalg.inv(box), end.coord @ np.linalg.inv(end.box)
    np.testing.assert_allclose(place[0][:, ~moving], place[1][:, ~moving], atol=1e-13)
    # orientation: the cell was strained, not turned
    turn = np.linalg.inv(box) @ end.box
    np.testing.assert_allclose(np.linalg.det(turn) > 0, True)


@pytest.mark.parametrize("method", METHODS)
def test_spins_and_lattice(method):
    """The minimum that scipy finds, from the same start, in angles and positions."""
    system = Cluster(anisotropy=0.002)
    state = system.state(nrep=3, seed=1)
    limits = Limits(1e-8, 1e-9)
    end = relax(system, state.coord, state.spin, limits=limits, method=method)
    assert end.converged.all() and end.steps.max() < 80

    def cartesian(x):
        z, phi = x[24:32], x[32:]
        flat = np.sqrt(1 - z**2)
        spin = 1.3 * np.stack([flat * np.cos(phi), flat * np.sin(phi), z], axis=1)
        return x[:24].reshape(8, 3), spin

    def energy(x):
        coord, spin = cartesian(x)
        return system(coord[None], spin[None]).energy[0]

    start = np.concatenate(
        [
            end.coord[0].ravel() + 0.01,
            np.clip(end.spin[0, :, 2] / 1.3, -0.999, 0.999),
            np.arctan2(end.spin[0, :, 1], end.spin[0, :, 0]),
        ]
    )
    bounds = [(None, None)] * 24 + [(-1 + 1e-12, 1 - 1e-12)] * 8 + [(None, None)] * 8
    found = scipy.optimize.minimize(energy, start, bounds=bounds, method="L-BFGS-B")
    assert end.energy.min() <= found.fun + 1e-12
    np.testing.assert_allclose(end.energy, found.fun, atol=1e-6)


# --- Replicas, failures, mistakes -----------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_replicas_do_not_see_each_other(method):
    """A replica alone takes the same steps, to the last bit."""
    system = Cluster(anisotropy=0.002)
    state = system.state(nrep=4, seed=2)
    options = {"limits": Limits(1e-6, 1e-7), "method": method}
    together = relax(system, state.coord, state.spin, **options)
    assert len(set(together.steps)) > 1
    for k in range(4):
        one = relax(system, state.coord[k], state.spin[k], **options)
        assert one.steps[0] == together.steps[k]
        for name in ("coord", "spin", "energy", "fmax", "tmax"):
            np.testing.assert_array_equal(
                getattr(one, name)[0], getattr(together, name)[k], err_msg=name
            )


def test_refused_points_are_avoided():
    """What the Hamiltonian refuses makes steps shorter, of that replica only."""
    refused = []

    def fields(coord, spin, time=0.0):
        if (coord < -0.05).any():
            refused.append(coord)
            raise ValueError("too near")
        return steep(coord, spin)

    steep = wells(25.0)
    coord = np.array([[[0.1, 0, 0]], [[3.0, 0, 0]]])
    spin, limits = np.zeros_like(coord), Limits(force=1e-9)
    alone = relax(steep, coord[1:], spin[1:], limits=limits)
    end = relax(fields, coord, spin, limits=limits)
    assert end.converged.all() and refused
    np.testing.assert_array_equal(end.coord[1], alone.coord[0])
    np.testing.assert_allclose(end.coord, 0, atol=1e-8)

    def wall(coord, spin, time=0.0):
        if (coord[..., 0] < 0.05).any():
            raise RuntimeError("too near")
        return wells(0.2)(coord, spin)

    end = relax(wall, coord, spin, limits=limits)
    assert end.stalled.all() and not end.converged.any()
    np.testing.assert_allclose(end.coord[:, 0, 0], 0.05, atol=1e-3)
    with pytest.raises(RuntimeError, match="too near"):  # at the start
        relax(wall, coord - 0.1, spin, limits=limits)


def test_no_number_is_no_minimum():
    """NaN at the start, and in forces of finite energies on the way."""

    def fields(coord, spin, time=0.0):
        found = wells(30.0)(coord, spin)
        return Response(
            found.energy, np.where(coord < -0.05, np.nan, found.force), spin
        )

    coord = np.array([[[0.12, 0, 0]], [[0.1, 0, 0]], [[-1, 0, 0]]])
    end = relax(fields, coord, 0 * coord)
    assert end.converged.tolist() == [True, True, False]
    assert end.stalled.tolist() == [False, False, True]
    np.testing.assert_allclose(end.coord[:2], 0, atol=1e-3)
    np.testing.assert_array_equal(end.coord[2], coord[2])


def test_noisy_energy_stalls():
    rng = np.random.default_rng(0)

    def fields(coord, spin, time=0.0):
        found = wells(1.0)(coord, spin)
        noise = 1e-6 * rng.normal(size=coord.shape)
        return Response(found.energy, found.force + noise, found.force_mag)

    coord = np.ones((2, 3, 3))
    end = relax(fields, coord, 0 * coord, limits=Limits(force=1e-12))
    assert end.stalled.all() and not end.converged.any()
    assert end.fmax.max() < 1e-4
    end = relax(fields, coord, 0 * coord, limits=Limits(force=1e-3))
    assert end.converged.all() and not end.stalled.any()


def test_steps_end():
    coord, seen = np.ones((2, 3, 3)), []
    end = relax(wells(1.0), coord, 0 * coord, steps=3, observe=seen.append)
    assert end.steps.tolist() == [3, 3]
    assert not (end.converged.any() or end.stalled.any())
    assert [now.steps[0] for now in seen] == [0, 1, 2, 3]
    end = relax(wells(1.0), coord, 0 * coord, steps=0)
    np.testing.assert_array_equal(end.coord, coord)
    assert relax(free, coord, 0 * coord).converged.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spin": np.zeros((2, 3))}, r"shape \(nrep, nloc, 3\). Received: \(1, 4, 3\)"),
        ({"method": "bfgs"}, r"one of lbfgs, cg, .*Received: 'bfgs' and 1000"),
        ({"steps": -1}, "Received: 'lbfgs' and -1"),
        ({"free": Freedom(cell=True)}, "A cell that changes needs `box`"),
        ({"pressure": 1.0}, "cell that may change. Received: 1.0, cell=False"),
        ({"pressure": np.nan}, "must be a finite number of GPa"),
        ({"free": Freedom(False, False)}, "Nothing may change"),
        ({"free": Freedom(False)}, "Nothing may change"),
        (
            {"free": Freedom(np.ones(3, bool))},
            "each of 4 atoms. Received: bool of shape",
        ),
        ({"free": Freedom(np.ones(4))}, "Received: float64 of shape"),
    ],
)
def test_mistakes(changes, message):
    arguments = {"coord": np.zeros((4, 3)), "spin": np.zeros((4, 3)), **changes}
    with pytest.raises(ValueError, match=message):
        relax(free, **arguments)


def test_more_mistakes():
    with pytest.raises(ValueError, match=r"`force` must be above 0. Received: 0"):
        Limits(force=0)
    spin = np.array([[0, 0, 0], [1.0, 0, 0]])
    with pytest.raises(ValueError, match="spin of atom 1 is perpendicular to its axis"):
        along(spin, np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="`axis` must be a vector other than 0"):
        along(spin, np.zeros(3))


# --- Models ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def potential(make_model):
    return deepspin.DeepSpin(make_model("NiO", type_one_side=True))


@pytest.fixture
def held(potential, make_nio):
    """A frame, its spins, and the model with springs at the atoms' places.

    Weights are random: without springs atoms would walk far.
    """
    frame = make_nio(potential.model)
    model = ModelFields(potential, frame.atype, frame.box)

    def fields(coord, spin, time=0.0):
        found, spring = model(coord, spin), wells(8.0)(coord - frame.coord, spin)
        return Response(
            found.energy + spring.energy, found.force + spring.force, found.force_mag
        )

    return frame, frame.spin * frame.magnetic[:, None], fields


@pytest.mark.parametrize("method", METHODS)
def test_model(held, method):
    """The energy goes down in each step, to where nothing pulls any more."""
    frame, spin, fields = held
    energies = []
    end = relax(
        fields,
        frame.coord,
        spin,
        limits=Limits(1e-6, 1e-7),
        method=method,
        observe=lambda now: energies.append(now.energy[0]),
    )
    assert end.converged.all() and end.steps[0] < 60
    assert (np.diff(energies) < 1e-12).all() and len(energies) == end.steps[0] + 1
    found = fields(end.coord, end.spin)
    assert np.linalg.norm(found.force, axis=2).max() < 1e-6
    across = np.cross(end.spin, found.force_mag)[:, frame.magnetic]
    modulus = np.linalg.norm(end.spin, axis=2)[0, frame.magnetic]
    assert (np.linalg.norm(across[0], axis=1) / modulus).max() < 1e-7
    wanted = np.linalg.norm(spin[frame.magnetic], axis=1)
    np.testing.assert_allclose(modulus, wanted, rtol=1e-15)


def test_positions_as_scipy(held):
    """Positions alone: the minimum of a method from elsewhere, in fewer calls."""
    frame, spin, fields = held
    end = relax(
        fields,
        frame.coord,
        spin,
        free=Freedom(directions=False),
        limits=Limits(force=1e-6),
    )

    def energy(x):
        found = fields(x.reshape(1, -1, 3), spin[None])
        return found.energy[0], -found.force.ravel()

    found = scipy.optimize.minimize(
        energy, frame.coord.ravel(), jac=True, method="BFGS", options={"gtol": 1e-6}
    )
    assert end.converged.all()
    np.testing.assert_array_equal(end.spin[0], spin)
    np.testing.assert_allclose(end.energy[0], found.fun, rtol=1e-13)
    np.testing.assert_allclose(end.coord[0].ravel(), found.x, atol=1e-6)
    assert end.evaluations <= found.nfev


def test_cell_of_model(potential, make_nio):
    frame = make_nio(potential.model)
    spin = frame.spin * frame.magnetic[:, None]
    fields = ModelFields(potential, frame.atype, frame.box)
    free_ = Freedom(positions=False, cell=True)
    end = relax(fields, frame.coord, spin, frame.box, free=free_)
    assert end.converged.all()
    found = potential.eval(end.coord, end.box, frame.atype, end.spin)
    virial = (found["virial"] + found["virial"].transpose(0, 2, 1)) / 2
    stress = np.abs(virial).max() / np.linalg.det(end.box[0]) * units.GPA
    assert stress < 0.01
    place = end.coord @ np.linalg.inv(end.box)
    np.testing.assert_allclose(
        place[0], frame.coord @ np.linalg.inv(frame.box), atol=1e-13
    )
