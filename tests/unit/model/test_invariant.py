# SPDX-License-Identifier: Apache-2.0
"""The scheme `invariant`: its symmetries and derivatives, exactly."""

from dataclasses import replace

import invariants
import numpy as np
import pytest
from invariant_models import build

import deepspin

VARIANTS = {
    "spin first": ("NiO", {}),
    "spin-orbit coupling": ("ONi", {"soc": True}),
    "two spin types": ("NiOFe", {"soc": True, "baseline": {"ncross": 2}}),
    "no second tier": ("NiO", {"baseline": {"ncross": 0, "nradial": 6}}),
    "no baseline": ("ONi", {"baseline": False}),
    "walls": ("NiO", {"walls": True}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    system, options = VARIANTS[request.param]
    return build(system, **options)


@pytest.fixture(scope="module")
def evaluate(model):
    return deepspin.DeepSpin(model).eval


@pytest.fixture(scope="module")
def frame(model, make_nio):
    return make_nio(model)


class TestInvariants:
    def test_derivatives(self, evaluate, frame):
        invariants.check_derivatives(evaluate, frame)

    def test_derivatives_of_open_cluster(self, evaluate, model, make_cluster):
        invariants.check_derivatives(evaluate, make_cluster(model))

    @pytest.mark.parametrize("reflect", [False, True])
    def test_rotation(self, evaluate, frame, reflect):
        invariants.check_rotation(evaluate, frame, reflect=reflect)

    def test_translation_and_lattice_shift(self, evaluate, frame):
        invariants.check_translation(evaluate, frame)
        invariants.check_lattice_shift(evaluate, frame)

    def test_permutation(self, evaluate, frame):
        invariants.check_permutation(evaluate, frame)

    def test_sums(self, evaluate, frame, model):
        invariants.check_sums(evaluate, frame, model.spin.scheme.symmetries)

    def test_supercell(self, evaluate, frame):
        invariants.check_supercell(evaluate, frame)

    def test_fragments(self, evaluate, model, make_cluster):
        second = make_cluster(model, seed=1, natoms=4)
        invariants.check_fragments(evaluate, make_cluster(model), second)

    def test_batch(self, evaluate, model, make_nio):
        invariants.check_batch(evaluate, *(make_nio(model, k) for k in range(3)))

    def test_non_spin(self, evaluate, frame):
        invariants.check_non_spin(evaluate, frame)

    def test_spin_symmetries(self, evaluate, frame, model):
        invariants.check_spin_symmetries(evaluate, frame, model.spin.scheme.symmetries)

    def test_zero_spins(self, evaluate, frame):
        """Smooth where a spin, or all, vanish: no magnetic force, and differences."""
        spin = frame.spin.copy()
        first = np.flatnonzero(frame.magnetic)[0]
        spin[first] = 0.0
        one = replace(frame, spin=spin)
        invariants.check_derivatives(evaluate, one)
        none = invariants.run(evaluate, replace(frame, spin=np.zeros_like(spin)))
        assert (none["force_mag"] == 0).all()
        assert np.abs(none["force"]).max() > 0


@pytest.mark.parametrize("radius", ["rcut", "rcut_smth"])
@pytest.mark.parametrize("soc", [False, True])
def test_smooth_where_the_switch_begins_and_ends(radius, soc, make_cluster):
    model = build("NiO", soc=soc)
    frame = make_cluster(model, natoms=3)
    frame = replace(frame, atype=np.zeros(3, dtype=int), scale=np.ones(3))
    evaluate = deepspin.DeepSpin(model).eval
    exact = getattr(model.descriptor, radius)
    invariants.check_smooth(evaluate, frame, exact, virtual=False)


def test_walls_repel():
    """Below the nearest distance of the data the force pushes, ever stronger."""
    model = build("NiO", walls=True)
    evaluate = deepspin.DeepSpin(model).eval
    distances = np.linspace(0.4, 2.05, 30)
    coord = np.zeros((30, 2, 3))
    coord[:, 1, 0] = distances
    spin = np.tile([0.3, 0.2, 0.1], (30, 2, 1))
    push = evaluate(coord, None, [0, 0], spin)["force"][:, 1, 0]
    assert (push > 0).all()
    assert (np.diff(push) < 0).all()


def test_long_spins_are_held_back():
    """Whatever the sign of the sixth power, the energy rises in the end."""
    model = build("Ni", walls=True)
    evaluate = deepspin.DeepSpin(model).eval
    baseline = model.spin.baseline
    theta = baseline.theta.numpy()
    sixth = baseline.labels.index(("site", 0, 6))
    theta[sixth] = -0.5
    baseline.theta.assign(theta)
    baseline.stiffness.assign([2 * 0.5 * 1.15**6])
    moduli = np.linspace(2.0, 6.0, 20)
    spin = np.zeros((20, 1, 3))
    spin[:, 0, 2] = moduli
    energy = evaluate(np.zeros((20, 1, 3)), None, [0], spin)["energy"]
    assert (np.diff(energy)[-10:] > 0).all()


def test_more_axes_than_mixtures():
    with pytest.raises(ValueError, match=r"axis_neuron=4, neuron=.3.$"):
        deepspin.SpinChannels(5.0, 2.0, [9], 1, [True], neuron=[3], axis_neuron=4)


def test_trainable_baseline():
    """Its numbers are trained on if the input says so."""
    fixed, free = (build("NiO", baseline={"trainable": flag}) for flag in (False, True))
    theta = free.spin.baseline.theta
    assert any(v is theta for v in free.trainable_variables)
    assert len(free.trainable_variables) == len(fixed.trainable_variables) + 1
