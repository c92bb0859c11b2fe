# SPDX-License-Identifier: Apache-2.0
"""The same model with its types in another order: the same energies of an atom."""

from __future__ import annotations

from dataclasses import replace

import invariant_models
import numpy as np
import pytest
from invariants import Frame, assert_close, run
from places import REFERENCE

import deepspin
from deepspin.model.renumber import renumbered

NEW = ["Fe", "O", "Ni"]
SMALL = {"nradial": 3, "ncross": 2}  # of the baseline
NET = {"neuron": (4, 8), "fit_neuron": (6, 6)}


def frame(make_nio, model, system="NiOFe"):
    """A frame of Ni, Fe and O, as a model of any scheme is asked."""
    found = make_nio(model)
    flags = model.spin.scheme.types.is_magnetic(found.atype)
    return replace(found, flags=flags, spin=found.spin * flags[:, None])


def check(model, type_map, given: Frame, tolerance=1e-12):
    """Energies and derivatives of a frame by the names of its types."""
    other = renumbered(model, type_map)
    assert other.type_map == list(type_map)
    names = np.array(model.type_map)[given.atype]
    atype = np.array([list(type_map).index(name) for name in names])
    evaluate = [deepspin.DeepSpin(m).eval for m in (model, other)]
    wanted = run(evaluate[0], given)
    assert_close(run(evaluate[1], replace(given, atype=atype)), wanted, tolerance)
    return other


@pytest.mark.parametrize(
    "options",
    [
        {"type_one_side": True, "sel": [20, 30, 26], "vacuum_types": (1,)},
        {"type_one_side": False, "exclude_types": [(0, 4), (1, 1)]},
        {"time_reversal": True, "resnet_dt": True},
    ],
    ids=["one side", "two sides", "time reversal"],
)
def test_ener_spin(make_model, make_nio, options):
    """Slots, nets, statistics and virtual types go with their names."""
    model = make_model("NiOFe", **NET, **options)
    other = check(model, NEW, frame(make_nio, model))
    sel = [model.descriptor.sel[model.type_map.index(name)] for name in NEW]
    assert list(other.descriptor.sel[:3]) == sel
    assert other.spin.scheme.codec.scale == tuple(
        model.spin.scheme.codec.scale[model.type_map.index(name)] for name in NEW
    )


def test_invariant(make_nio):
    """Numbers of the baseline, which has one for both orders of a pair, too."""
    model = invariant_models.build("NiOFe", walls=True, soc=True, baseline=SMALL)
    check(model, NEW, frame(make_nio, model))


def test_back_again(make_model):
    """Twice is as it was: no weight is lost or left as it was drawn."""
    for model in (
        make_model("NiOFe", **NET),
        invariant_models.build("NiOFe", baseline=SMALL),
    ):
        again = renumbered(renumbered(model, NEW), model.type_map)
        for a, b in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_slots_that_only_hold_a_place(make_nio):
    """Models of DeePMD-kit's other backends have them for types without spin."""
    model = deepspin.load_model(REFERENCE / "dpmodel" / "protected.dp")
    assert model.type_map == ["O", "Ni", "Fe"]
    check(model, NEW, frame(make_nio, model))


def test_frame_parameters(make_model):
    model = make_model("NiO", **NET, numb_fparam=2)
    other = renumbered(model, ["O", "Ni"])
    np.testing.assert_array_equal(other.fitting.fparam_avg, model.fitting.fparam_avg)
    np.testing.assert_array_equal(
        other.fitting.fparam_inv_std, model.fitting.fparam_inv_std
    )


def test_other_types(make_model):
    with pytest.raises(ValueError, match=r"`type_map` must hold.*Received: \['Ni'\]"):
        renumbered(make_model("NiO", **NET), ["Ni"])
