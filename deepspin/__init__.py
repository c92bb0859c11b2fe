# SPDX-License-Identifier: Apache-2.0
"""Deep potentials with atomic spins (DeepSPIN) on TensorFlow and Keras.

Public names are resolved on first use: importing the package imports no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from deepspin.registration import register

__version__ = "0.1.0"

_HOMES = {
    "train": "deepspin.training.trainer",
    "load_model": "deepspin.modelfiles.archive",
    "save_model": "deepspin.modelfiles.archive",
    "build_model": "deepspin.model.ener",
    "SpinEnergyModel": "deepspin.model.ener",
    "Spin": "deepspin.model.virtual",
    "InvariantSpin": "deepspin.model.invariant",
    "SpinChannels": "deepspin.descriptor.spin_channels",
    "Baseline": "deepspin.fit.baseline",
    "DescrptSeA": "deepspin.descriptor.se_e2_a",
    "EnerFitting": "deepspin.fit.ener",
    "EnerSpinLoss": "deepspin.loss.ener_spin",
    "ExpDecay": "deepspin.loss.learning_rate",
    "CosineAnnealing": "deepspin.loss.learning_rate",
    "WarmupStableDecay": "deepspin.loss.learning_rate",
    "DataSystem": "deepspin.data.dataset",
    "DeepSpin": "deepspin.infer.deep_spin",
    "DeepSpinCalculator": "deepspin.calculator",
}

# those that Keras' files name
_SAVED = (
    *("SpinEnergyModel", "Spin", "InvariantSpin", "SpinChannels", "Baseline"),
    *("DescrptSeA", "EnerFitting", "EnerSpinLoss"),
    *("ExpDecay", "CosineAnnealing", "WarmupStableDecay"),
)

# `import *` must not ask for ASE
__all__ = ["__version__", *(name for name in _HOMES if name != "DeepSpinCalculator")]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deepspin' has no attribute {name!r}")
    from deepspin.env import set_defaults

    set_defaults()
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *_HOMES])


register("deepspin", _SAVED, __getattr__)
