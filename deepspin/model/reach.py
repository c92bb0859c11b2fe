# SPDX-License-Identifier: Apache-2.0
"""How far beyond the cutoff a model may have to look, for spins as long as expected."""

from __future__ import annotations

import numpy as np

from deepspin.model.ener import SpinEnergyModel

# spins may be so much longer than in training before neighbours could be missed
SPIN_MARGIN = 1.25


def longest_spins(model: SpinEnergyModel, metadata: dict) -> dict[str, float]:
    """Longest spins in μ_B that lists of neighbours are made for, by type.

    A quarter more than in training; where that is not known, than the options say.
    """
    ranges, result = metadata.get("spin_range") or {}, {}
    for t in model.spin.scheme.types.spin_types:
        name = model.type_map[t]
        longest = ranges.get(name, (0.0, 0.0))[1]
        result[name] = SPIN_MARGIN * (longest or model.spin.nominal_spin(t))
    return result


def reach(model: SpinEnergyModel, metadata: dict) -> float:
    """How far (Å) beyond `rcut` lists of atoms must go, for `longest_spins`."""
    longest, types = longest_spins(model, metadata), np.arange(len(model.type_map))
    modulus = np.array([longest.get(name, 0.0) for name in model.type_map])
    return float(model.spin.scheme.reach(types, modulus).max(initial=0.0))
