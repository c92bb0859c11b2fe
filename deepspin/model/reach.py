# SPDX-License-Identifier: Apache-2.0
"""How far beyond the cutoff a model may have to look, for spins as long as expected."""

from __future__ import annotations

from deepspin.model.ener import SpinEnergyModel

# spins may be so much longer than in training before neighbours could be missed
SPIN_MARGIN = 1.25


def longest_spins(model: SpinEnergyModel, metadata: dict) -> dict[str, float]:
    """Longest spins in μ_B that lists of neighbours are made for, by type.

    A quarter more than in training; where that is not known, than the options say.
    """
    ranges, result = metadata.get("spin_range") or {}, {}
    for t in model.spin.scheme.spin_types:
        name = model.type_map[t]
        longest = ranges.get(name, (0.0, 0.0))[1]
        nominal = model.spin.nominal_offset(t) / model.spin.scheme.scale[t]
        result[name] = SPIN_MARGIN * (longest or nominal)
    return result


def reach(model: SpinEnergyModel, metadata: dict) -> float:
    """How far (Å) beyond `rcut` lists of atoms must go, for `longest_spins`."""
    longest = longest_spins(model, metadata)
    scales = zip(model.type_map, model.spin.scheme.scale, strict=True)
    return max((longest.get(name, 0.0) * scale for name, scale in scales), default=0.0)
