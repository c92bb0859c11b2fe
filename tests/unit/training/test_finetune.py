# SPDX-License-Identifier: Apache-2.0
"""An input of fewer types than a model, completed: it is about the same model then."""

from __future__ import annotations

from pathlib import Path

import invariant_models
import numpy as np
import pytest

from deepspin.model.ener import build_model
from deepspin.model.renumber import renumbered
from deepspin.training.finetune import matched
from deepspin.training.setup import _copy_weights
from deepspin.utils.inputs import normalize

REST = {
    "learning_rate": {"start_lr": 1e-3},
    "loss": {"type": "ener_spin"},
    "training": {"training_data": {"systems": "data"}, "numb_steps": 1},
}
NEW = ["O", "Ni", "Fe"]


def complete(model, section):
    """Section `model` and the model with the same types, one made of the other."""
    options, origin = matched(normalize({**REST, "model": section}), (Path("m"), model))
    section = options["model"]
    assert normalize({**REST, "model": section})["model"] == section
    path, source = origin
    assert (path, source.type_map) == (Path("m"), section["type_map"])
    made = build_model(section)
    _copy_weights(source, made, "m")  # which compares all that matters
    for a, b in zip(made.weights, renumbered(model, NEW).weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    return section


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"virtual_scale": [0.4 / 1.2737]}, {"virtual_scale": [0.4 / 1.2737, 0.15]}),
        (
            {"virtual_len": [0.4], "spin_norm": [1.2737]},
            {"virtual_len": [0.4, 0.3], "spin_norm": [1.2737, 2.0]},
        ),
    ],
    ids=["scale", "length"],
)
def test_ener_spin(make_model, given, wanted):
    """Excluded pairs are of new numbers, given energies are there, spins have names."""
    net = {"neuron": (4, 8), "fit_neuron": (6, 6)}
    model = make_model(
        "NiOFe",  # of neighbours: Ni O Fe, virtual Ni, virtual Fe
        **net,
        type_one_side=True,
        sel=[20, 22, 24],
        exclude_types=[(2, 0), (3, 1)],
        vacuum_types=(0, 2),
    )
    section = complete(
        model,
        {
            "type_map": ["O", "Ni"],
            "spin": {"use_spin": ["Ni"], **given},
            "descriptor": {
                "type": "se_e2_a",
                "rcut": 3.3,
                "rcut_smth": 2.0,
                "sel": [22, 20],
                "neuron": [4, 8],
                "axis_neuron": 4,
                "type_one_side": True,
                "exclude_types": [[0, 2]],
            },
            "fitting_net": {"neuron": [6, 6], "atom_ener": [None, -1.0]},
        },
    )
    assert section["type_map"] == NEW
    assert section["descriptor"]["sel"] == [22, 20, 24]
    assert section["descriptor"]["exclude_types"] == [[0, 3], [2, 1]]
    assert section["fitting_net"]["atom_ener"] == [
        *(None, -1.0, model.fitting.bias_atom_e.numpy()[2], 0.0, 0.0)
    ]
    spin = {"use_spin": [False, True, True], **wanted}
    assert {name: section["spin"][name] for name in spin} == spin


def test_invariant():
    baseline = {"nradial": 3, "ncross": 2}
    model = invariant_models.build("NiOFe", baseline=baseline)
    section = invariant_models.section("ONi", baseline=baseline)
    assert complete(model, section)["type_map"] == NEW


def test_the_same_types():
    """Nothing is told, and nothing changed."""
    options = normalize({**REST, "model": invariant_models.section("NiO")})
    origin = Path("m"), invariant_models.build("NiO")
    assert matched(options, origin) == (options, origin)
    assert matched(options, None) == (options, None)
