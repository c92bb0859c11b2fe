# SPDX-License-Identifier: Apache-2.0
"""Write a file of the present version of each saved format, with its numbers.

    python tests/files/make.py

Run it once for each new version, with the oldest TensorFlow and Keras that are claimed,
and keep the files of all versions: the tests read them. Those of version 1 were written
by deepspin 0.1.0 with TensorFlow 2.16.2 and Keras 3.3.3.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from conftest import build, nio  # noqa: E402

import deepspin  # noqa: E402
from deepspin.modelfiles.find import FORMAT_VERSION  # noqa: E402
from deepspin.modelfiles.saved_model import freeze  # noqa: E402


def main() -> None:
    """Write archive, frozen model and numbers."""
    name = FOLDER / f"format-{FORMAT_VERSION}"
    model = build(type_one_side=True, neuron=(3, 6), fit_neuron=(4, 4))
    metadata = {"spin_range": {"Ni": [1.1, 1.3]}, "min_nbor_dist": 0.3}
    deepspin.save_model(model, f"{name}.keras", metadata)
    freeze(model, f"{name}-frozen", metadata)
    frame = nio(model)
    given = {k: getattr(frame, k) for k in ("coord", "box", "atype", "spin")}
    result = deepspin.DeepSpin(model).eval(*given.values())
    np.savez_compressed(f"{name}.npz", **given, **result)


if __name__ == "__main__":
    main()
