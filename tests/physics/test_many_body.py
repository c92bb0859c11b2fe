# SPDX-License-Identifier: Apache-2.0
"""The many-body magnet: its labels are derivatives, and a baseline leaves a part."""

import many_body
import numpy as np
import tensorflow as tf

import deepspin
from deepspin.data.dataset import DataSystem


def test_labels_are_derivatives_of_the_energy():
    """Central differences of the energy in one position, spin and strain."""
    given = many_body.frame(np.random.default_rng(3))
    _, force, field, virial = many_body.labelled(*map(tf.constant, given))

    def slope(move, step=1e-4):
        ends = [many_body.energy(*map(tf.constant, move(s))) for s in (step, -step)]
        return float(ends[1] - ends[0]) / (2 * step)

    def moved(k):
        def move(step):
            changed = [x.copy() for x in given]
            changed[k][5, 1] += step
            return changed

        return move

    def strained(step):
        strain = np.eye(3)
        strain[0, 1] += step  # x_0 -> x_0 + eps_01 x_1
        return given[0] @ strain.T, given[1], given[2] @ strain.T

    np.testing.assert_allclose(slope(moved(0)), force[5, 1], rtol=1e-6)
    np.testing.assert_allclose(slope(moved(1)), field[5, 1], rtol=1e-6)
    np.testing.assert_allclose(slope(strained), virial[0, 1], rtol=1e-6)


def test_a_closed_form_leaves_a_part(tmp_path):
    """Of energies a tenth or so: what the nets are for."""
    many_body.write(tmp_path, 1, 40)
    spin = deepspin.InvariantSpin([True], baseline={"nradial": 10, "ncross": 0})
    data = DataSystem(str(tmp_path), ["Fe"], spin.scheme, 5.0)
    options = {"rcut": 5.0, "rcut_smth": 2.0, "neuron": [1], "axis_neuron": 1}
    channels = spin.build_descriptor([80], **options)
    fitting = deepspin.EnerFitting(1, channels.dim_out, neuron=(1,), standardize=True)
    model = deepspin.SpinEnergyModel(["Fe"], channels, fitting, spin)
    model.compute_stats(data.spread(40))
    report = spin.report
    for name, low, high in (("energy", 0.01, 0.3), ("force", 0.05, 0.3)):
        share = report.errors[name] / report.spreads[name]
        assert low < share < high, (name, share)
