# SPDX-License-Identifier: Apache-2.0
"""Constant pressure: what cells sample, and that they repeat."""

import copy

import numpy as np
import pytest

from deepspin.atoms import units
from deepspin.dynamics.core import observables
from deepspin.dynamics.core.barostat import COUPLINGS, CellRescaling
from deepspin.dynamics.core.baths import Gilbert, Langevin
from deepspin.dynamics.core.fields import Response
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.state import DynamicsError, State, thermal_velocity
from deepspin.dynamics.core.tspin import InertialIntegrator

pytestmark = pytest.mark.any_version

KELVIN = 300.0
KT = units.K_B * KELVIN


class Crowd(State):
    """Many replicas, whose random numbers are drawn at once: they take most time."""

    def normals(self, purpose, shape=None):
        if not hasattr(self, "rng"):
            self.rng = np.random.default_rng(self.seed)
        return self.rng.standard_normal((self.nrep, *(shape or (self.nloc, 3))))


class Gas:
    """Nothing acts on anything, in any cell."""

    def in_box(self, box):
        return self

    def __call__(self, coord, spin, time=0.0):
        nrep = len(coord)
        nothing = np.zeros_like(coord)
        return Response(np.zeros(nrep), nothing, nothing, np.zeros((nrep, 3, 3)))


class Elastic:
    """E = c/2 sum (h/a - 1)^2 of the cell's vectors h alone, c in eV."""

    def __init__(self, stiffness, edge, box=None):
        self.stiffness, self.edge, self.box = stiffness, edge, box

    def in_box(self, box):
        return Elastic(self.stiffness, self.edge, box)

    def __call__(self, coord, spin, time=0.0):
        ratio = self.box / self.edge
        excess = ratio - np.eye(3)
        energy = self.stiffness / 2 * (excess**2).sum(axis=(1, 2))
        # h -> h (1 + e): dE/de_ab = c sum_i h_ia (h - 1)_ib; the virial is -dE/de_ba
        virial = -self.stiffness * np.swapaxes(excess, 1, 2) @ ratio
        nothing = np.zeros_like(coord)
        return Response(energy, nothing, nothing, virial)


class Crystal:
    """Springs between neighbours of a simple cubic crystal, exactly quadratic.

    E = sum_bonds k/2 |R_j - R_i - d|^2 - J (1 - 3 x) S_i.S_j, x = d.(R_j - R_i)/d^2
    - 1: exchange with neighbours across the cell's faces, which pulls on the cell.
    """

    def __init__(self, cells=2, edge=3.0, spring=1.0, coupling=0.0):
        grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1)
        sites = grid.reshape(-1, 3)
        self.sites, self.edge = edge * sites, edge
        self.spring, self.coupling = spring, coupling
        self.box = edge * cells * np.eye(3)
        partner = (sites[:, None] + np.eye(3, dtype=int)) % cells
        self.partner = (partner * [cells**2, cells, 1]).sum(axis=2)  # (nloc, 3)
        self.back = np.argsort(self.partner, axis=0)  # whose neighbours atoms are
        self.shift = (sites[:, None] + np.eye(3, dtype=int)) // cells

    def in_box(self, box):
        moved = copy.copy(self)
        moved.box = box
        return moved

    def __call__(self, coord, spin, time=0.0):
        box = np.broadcast_to(self.box, (len(coord), 3, 3))
        ideal = self.edge * np.eye(3)
        apart = coord[:, self.partner] - coord[:, :, None]
        apart = apart + np.einsum("ibx,rxy->riby", self.shift, box)
        excess = apart - ideal
        x = (excess * ideal).sum(axis=3) / self.edge**2
        product = (spin[:, self.partner] * spin[:, :, None]).sum(axis=3)
        bonds = self.spring / 2 * (excess**2).sum(axis=3)
        bonds = bonds - self.coupling * (1 - 3 * x) * product
        slope = self.spring * excess
        slope = slope + 3 * self.coupling * product[..., None] * ideal / self.edge**2
        force = slope.sum(axis=2)
        strength = self.coupling * (1 - 3 * x)[..., None]
        push = (strength * spin[:, self.partner]).sum(axis=2)
        for b in range(3):
            back = self.back[:, b]
            force = force - slope[:, back, b]
            push = push + strength[:, back, b] * spin[:, back]
        virial = -np.einsum("ribx,riby->rxy", slope, apart)
        return Response(bonds.sum(axis=(1, 2)), force, push, virial)


def crowd(nrep, nloc, edge, still=False, kind=Crowd, seed=1):
    """Thermal atoms in cubes, without spins."""
    state = kind(
        coord=np.zeros((nrep, nloc, 3)),
        spin=np.zeros((nrep, nloc, 3)),
        mass=np.full(nloc, 50.0),
        atype=np.zeros(nloc, int),
        box=np.broadcast_to(edge * np.eye(3), (nrep, 3, 3)),
        still=still,
        seed=seed,
    )
    state.velocity = thermal_velocity(state, KELVIN)
    return state


def barostat(coupling="isotropic", pressure=1.0, compressibility=1.0, **changes):
    given = {"temperature": KELVIN, "relaxation_time": 50.0, **changes}
    return CellRescaling(
        pressure=pressure,
        compressibility=compressibility,
        coupling=coupling,
        **given,
    )


def cells(fields, state, coupling, steps, warm, dt=1.0, **changes):
    """Cells (steps, nrep, 3, 3) and pressures (steps, nrep) after each step."""
    integrator = Integrator(
        fields,
        dt,
        spins=False,
        lattice_bath=Langevin(KELVIN, 0.1),
        barostat=barostat(coupling, **changes),
    )
    found, pressures = [], []
    for step in range(warm + steps):
        integrator.step(state)
        if step >= warm:
            fields = integrator.fields.in_box(state.box)
            virial = fields(state.coord, state.spin).virial
            found.append(state.box)
            pressures.append(observables.pressure(state, virial))
    return np.array(found), np.array(pressures)


def assert_replicas_mean(values, want, at_most, bias=0.0):
    """The mean over time and replicas (steps, nrep) is `want`, within 4 errors."""
    means = values.mean(axis=0)
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert error <= at_most * abs(want)
    assert abs(means.mean() - want) < 4 * error + bias + 1e-12, (
        means.mean(),
        want,
        error,
    )


# --- Closed forms ---------------------------------------------------------------------


@pytest.mark.parametrize("still", [False, True])
def test_ideal_gas(still):
    """V^N exp(-pV/kT) dV: <V> = (N + 1) kT/p, its variance (N + 1) (kT/p)^2.

    The pressure's mean is p. The first volumes are drawn from it: what is sampled would
    go elsewhere in the time of four relaxations.
    """
    nloc, asked = 15, np.repeat([1.0, 2.0], 125)  # GPa
    unit = KT * units.GPA / asked  # kT/p in Å³
    mean, variance = (nloc + 1) * unit, (nloc + 1) * unit**2
    state = crowd(250, nloc, 1.0, still)
    first = unit * np.random.default_rng(2).gamma(nloc + 1, size=250)
    state.box = np.cbrt(first)[:, None, None] * np.eye(3)
    found, pressure = cells(
        Gas(), state, "isotropic", 500, 0, pressure=asked, relaxation_time=200.0
    )
    volume = np.linalg.det(found)
    assert_replicas_mean(volume / mean, 1.0, 0.015)
    assert_replicas_mean((volume - mean) ** 2 / variance, 1.0, 0.08)
    assert_replicas_mean(pressure / asked, 1.0, 0.03)
    shape = found / np.cbrt(volume)[..., None, None]
    np.testing.assert_allclose(shape, np.broadcast_to(np.eye(3), shape.shape))


def quadrature(weight, value):
    """Mean of `value` on a grid with a weight that is 0 at its ends."""
    return (weight * value).sum() / weight.sum()


@pytest.mark.parametrize("coupling", ["anisotropic", "flexible"])
def test_elastic_cell(coupling):
    r"""Two atoms at p = 0: the density is a product of one for each h_ij.

    ``flexible``: V^-2 l_11^2 l_22 dh, the measure of all h less rotations, times V^N
    exp(-E/kT); ``anisotropic``: V^N exp(-E/kT) times dV and dln of ratios of lengths.
    """
    nloc, nrep, edge, stiffness = 2, 300, 5.0, 60 * KT
    grid = np.linspace(0.01, 3, 4000)
    boltzmann = np.exp(-stiffness / 2 * (grid - 1) ** 2 / KT)
    powers = {"anisotropic": [nloc] * 3, "flexible": [nloc, nloc - 1, nloc - 2]}
    weights = [boltzmann * grid**power for power in powers[coupling]]
    rng, state = np.random.default_rng(4), crowd(nrep, nloc, edge)
    drawn = [rng.choice(grid, nrep, p=weight / weight.sum()) for weight in weights]
    ratio = np.stack(drawn, axis=1)[..., None] * np.eye(3)
    if coupling == "flexible":
        below = np.tril(rng.normal(size=(nrep, 3, 3)), -1)
        ratio = ratio + np.sqrt(KT / stiffness) * below
    state.box = edge * ratio
    given = {"pressure": 0.0, "compressibility": 0.5}
    found, _ = cells(Elastic(stiffness, edge), state, coupling, 500, 0, **given)
    ratio = found / edge
    for axis, weight in enumerate(weights):
        want = quadrature(weight, grid)
        assert_replicas_mean(ratio[..., axis, axis], want, 0.007)
    square = KT / stiffness if coupling == "flexible" else 0.0
    for below in ((1, 0), (2, 0), (2, 1)):
        assert_replicas_mean(ratio[(..., *below)] ** 2, square, 0.07)
    assert not found[..., [0, 0, 1], [1, 2, 2]].any()


def test_harmonic_crystal():
    """<V>, and its fluctuation: kT V times the compressibility.

    E = vibrations + 3/2 N k d^2 (L/L_0 - 1)^2: bonds in a row add up to L. The centre
    of mass, which rests, counts with the volume that it has: V exp(-(E + pV)/kT) dV.
    """
    fields = Crystal(spring=0.4)
    state = crowd(100, 8, 6.0, still=True)
    state.coord = np.broadcast_to(fields.sites, state.coord.shape).copy()
    given = {"dt": 4.0, "compressibility": 0.2, "pressure": 0.1}
    found, pressure = cells(fields, state, "isotropic", 500, 100, **given)
    grid = np.linspace(0.5, 1.5, 4001)  # L/L_0
    volume = 216 * grid**3
    energy = 1.5 * 8 * 0.4 * 9 * (grid - 1) ** 2 + 0.1 * volume / units.GPA
    weight = grid**2 * volume * np.exp(-energy / KT)
    mean = quadrature(weight, volume)
    variance = quadrature(weight, (volume - mean) ** 2)
    # d²F/dV² at the minimum, the compressibility's textbook form
    bulk = 3 * 8 * 0.4 * 9 / (9 * 216)
    assert variance == pytest.approx(KT * 216 / bulk, rel=0.1)
    got = np.linalg.det(found)
    assert_replicas_mean(got, mean, 0.002)
    assert_replicas_mean((got - mean) ** 2, variance, 0.03, bias=0.02 * variance)
    assert_replicas_mean(pressure, 0.1, 0.3)


# --- One step -------------------------------------------------------------------------


def magnet(nrep=1, kind=State, **options):
    """A crystal whose exchange pulls on the cell, displaced, sheared, spins anyhow."""
    fields = Crystal(coupling=0.02)
    rng = np.random.default_rng(5)
    state = crowd(nrep, 8, 6.0, kind=kind, **options)
    state.box = state.box + 0.2 * np.tril(rng.normal(size=(nrep, 3, 3)))
    state.coord = fields.sites + 0.1 * rng.normal(size=state.coord.shape)
    spin = rng.normal(size=state.coord.shape)
    state.spin = 1.3 * spin / np.linalg.norm(spin, axis=2, keepdims=True)
    return fields, state


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_strain_is_a_derivative(coupling):
    """Without noise: minus the slope of K + E + pV, momenta scaled, spins fixed."""
    fields, state = magnet()
    one = barostat(coupling, temperature=0.0, compressibility=0.01)
    found = fields.in_box(state.box)(state.coord, state.spin)
    strain = one.strain(state, state.velocity, found.virial, 1.0)[0]
    volume = np.linalg.det(state.box)[0]

    def enthalpy(change):
        box, coord = state.box @ change, state.coord @ change
        velocity = state.velocity @ np.linalg.inv(change).T
        moved = copy.copy(state)
        moved.velocity = velocity
        energy = fields.in_box(box)(coord, state.spin).energy
        energy = energy + observables.kinetic_energy(moved)
        return (energy + np.linalg.det(box) / units.GPA)[0]

    kinds = {
        "isotropic": [np.eye(3) / np.sqrt(3)],
        "anisotropic": [np.diag(row) for row in np.eye(3)],
        "flexible": [
            np.outer(np.eye(3)[a], np.eye(3)[b]) for a in range(3) for b in range(a + 1)
        ],
    }
    rate = 0.01 * units.GPA / (3 * volume * 50.0)
    want, step = np.zeros((3, 3)), 1e-5
    for way in kinds[coupling]:
        ends = [enthalpy(np.eye(3) + sign * step * way) for sign in (1, -1)]
        want -= rate * (ends[0] - ends[1]) / (2 * step) * way
    np.testing.assert_allclose(strain, want, rtol=1e-6, atol=1e-9 * abs(want).max())


def test_phase_space_is_kept():
    """Positions times e^ε, momenta times the inverse of its transpose, exactly."""
    fields, state = magnet()
    one = barostat("flexible", compressibility=0.02)
    virial = fields.in_box(state.box)(state.coord, state.spin).virial
    given = (state, state.coord, state.velocity, virial, 1.0)
    box, coord, velocity = one.rescale(*given)
    change = np.linalg.solve(state.box, box)
    np.testing.assert_allclose(coord, state.coord @ change, rtol=1e-13)
    back = velocity @ np.swapaxes(change, 1, 2)
    np.testing.assert_allclose(back, state.velocity, atol=1e-15)
    strain = one.strain(state, state.velocity, virial, 1.0)
    logarithm = np.log(np.linalg.det(change))
    np.testing.assert_allclose(logarithm, np.trace(strain[0]), rtol=1e-10)
    assert abs(strain).max() > 1e-3


def test_cold_cells_relax():
    """At 0 K the enthalpy falls, and ends where the exchange's pull is balanced."""
    fields = Crystal(coupling=0.02)
    state = crowd(1, 8, 6.0, kind=State)
    state.velocity = np.zeros_like(state.velocity)
    state.coord = fields.sites[None]
    state.spin = np.broadcast_to([0, 0, 1.3], state.coord.shape)
    integrator = Integrator(
        fields,
        1.0,
        spins=False,
        lattice_bath=Langevin(0.0, 0.1),
        barostat=barostat(temperature=0.0, pressure=0.5, compressibility=0.2),
    )
    enthalpies = []
    for _ in range(600):
        integrator.step(state)
        energy = fields.in_box(state.box)(state.coord, state.spin).energy
        enthalpies.append((energy + 0.5 / units.GPA * np.linalg.det(state.box))[0])
    assert (np.diff(enthalpies) < 1e-9).all()
    # dE/dx + p dV/dx = 24 (k d^2 x + 3 J S^2) + 3 p V_0 (1 + x)^2 = 0
    grid = np.roots(
        [
            3 * 0.5 / units.GPA * 216,
            6 * 0.5 / units.GPA * 216 + 24 * 9.0,
            3 * 0.5 / units.GPA * 216 + 24 * 3 * 0.02 * 1.69,
        ]
    )
    x = grid[np.argmin(abs(grid))]
    assert state.box[0, 0, 0] == pytest.approx(6 * (1 + x), rel=1e-6)


# --- Together with spins --------------------------------------------------------------


def integrators(fields, **options):
    """Both integrators, in all baths."""
    bath = {"lattice_bath": Langevin(KELVIN, 0.02), **options}
    yield Integrator(fields, 1.0, spin_bath=Gilbert(KELVIN, 0.2), **bath)
    yield InertialIntegrator(
        fields, 1.0, np.full(8, 80.0), spin_bath=Langevin(KELVIN, 0.02), **bath
    )


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_restart_and_replicas(coupling):
    """In two parts as in one, and alone as with others, to the last bit."""
    fields, start = magnet(nrep=2)
    one = barostat(coupling, compressibility=0.02)
    for integrator in integrators(fields, barostat=one):
        whole, parts = copy.deepcopy(start), copy.deepcopy(start)
        for _ in range(12):
            integrator.step(whole)
        for _ in range(5):
            integrator.step(parts)
        again = State.from_arrays(parts.arrays())
        for _ in range(7):
            integrator.step(again)
        for name, array in whole.arrays().items():
            np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
        rows = {
            name: getattr(start, name)[1:]
            for name in ("coord", "spin", "velocity", "box", "stream")
        }
        alone = State(mass=start.mass, atype=start.atype, seed=start.seed, **rows)
        for _ in range(12):
            integrator.step(alone)
        for name in ("coord", "spin", "velocity", "box"):
            got = getattr(alone, name)[0]
            np.testing.assert_array_equal(got, getattr(whole, name)[1], err_msg=name)
        assert abs(whole.box - start.box).max() > 1e-3
        if isinstance(integrator, Integrator):
            moduli = np.linalg.norm(whole.spin, axis=2)
            np.testing.assert_allclose(moduli, 1.3, rtol=1e-12)


def test_cells_that_change_too_much():
    """Refused; the state stays as it was."""
    fields, state = magnet()
    before = copy.deepcopy(state)
    one = barostat(pressure=1e4, compressibility=0.1)
    for integrator in integrators(fields, barostat=one):
        with pytest.raises(DynamicsError, match=r"replica 0 changes by .* % in a step"):
            integrator.step(state)
        for name, array in before.arrays().items():
            np.testing.assert_array_equal(array, getattr(state, name), err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pressure": np.inf}, "`pressure` must be finite"),
        ({"temperature": -1.0}, "`temperature` must be at least 0"),
        ({"relaxation_time": 0.0}, "`relaxation_time` must be a positive"),
        ({"compressibility": -1.0}, "`compressibility` must be a positive"),
        ({"coupling": "cubic"}, "`coupling` must be one of isotropic"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ValueError, match=message):
        barostat(**changes)


def test_nothing_to_rescale():
    fields, state = magnet()
    for change, given in (({"box": None}, {}), ({}, {"lattice": False})):
        other = copy.copy(state)
        for name, value in change.items():
            setattr(other, name, value)
        integrator = Integrator(fields, 1.0, barostat=barostat(), **given)
        with pytest.raises(ValueError, match="needs a periodic cell"):
            integrator.step(other)

    def silent(coord, spin, time=0.0):
        return Response(np.zeros(1), np.zeros_like(coord), np.zeros_like(spin))

    silent.in_box = lambda box: silent
    with pytest.raises(ValueError, match="tells virials"):
        Integrator(silent, 1.0, barostat=barostat()).step(state)
