# SPDX-License-Identifier: Apache-2.0
"""Small models of the scheme `invariant` with numbers in all that holds some."""

from __future__ import annotations

import numpy as np

RCUT, RCUT_SMTH, SEL = 3.3, 2.0, 40
SYSTEMS = {
    "NiO": (["Ni", "O"], ["Ni"]),
    "ONi": (["O", "Ni"], ["Ni"]),
    "Ni": (["Ni"], ["Ni"]),
    "NiOFe": (["Ni", "O", "Fe"], ["Ni", "Fe"]),
}


def section(system: str = "NiO", *, descriptor=None, fitting=None, **spin) -> dict:
    """A normalised section ``model``; `descriptor` and `fitting` change small ones."""
    from deepspin.utils.inputs import normalize

    type_map, magnetic = SYSTEMS[system]
    rest = {
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": "data"}, "numb_steps": 1},
    }
    model = {
        "type_map": type_map,
        "spin": {"type": "invariant", "use_spin": magnetic, **spin},
        "descriptor": {
            "type": "se_e2_a",
            "rcut": RCUT,
            "rcut_smth": RCUT_SMTH,
            "sel": [SEL] * len(type_map),
            "neuron": [3],
            "axis_neuron": 2,
            "seed": 1,
            **(descriptor or {}),
        },
        "fitting_net": {"neuron": [6, 6], "seed": 1, **(fitting or {})},
    }
    return normalize({"model": model, **rest})["model"]


def build(
    system: str = "NiO", *, seed: int = 1, walls: bool = False, hidden=None, **options
):
    """Model with random numbers in baseline, standardisation and nets.

    With `walls`, these are felt in the frames of the tests. `hidden` gives widths of
    hidden layers, which may be none; `options` are those of `section`.
    """
    from deepspin.model.ener import build_model

    model = section(system, **options)
    if hidden is not None:
        model["fitting_net"]["neuron"] = list(hidden)
    model = build_model(model)
    random = np.random.default_rng(seed)
    fitting, baseline, ntypes = model.fitting, model.spin.baseline, len(model.type_map)
    shape = fitting.descrpt_avg.shape
    fitting.set_standard(
        random.normal(size=shape), random.uniform(2, 20, shape), np.full(ntypes, 0.3)
    )
    for t in range(ntypes):
        last = fitting.net(t)[-1]
        last.matrix.assign(random.normal(size=last.matrix.shape))
    fitting.bias_atom_e.assign(random.normal(size=ntypes))
    if baseline is not None:
        size = {"pair": 0.3, "site": 0.1}
        scale = [size.get(label[0], 0.02) for label in baseline.labels]
        baseline.theta.assign(random.normal(size=len(scale)) * scale)
    if walls:
        model.descriptor.nearest.assign(np.full((ntypes, ntypes), 2.3))
    if walls and baseline is not None:
        baseline.longest.assign(np.full(ntypes, 1.15))
        baseline.stiffness.assign(np.full(ntypes, 2.0))
    return model
