# SPDX-License-Identifier: Apache-2.0
"""Systems and a model, once for all tests of batches."""

from __future__ import annotations

import numpy as np
import pytest
from batches import (
    EXAMPLE,
    MIXED,
    SYSTEMS,
    make,
    make_model,
    write,
)

from deepspin import (
    DataSystem,
)
from deepspin.spins.virtual import VirtualAtoms


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four systems of different sizes, and one of mixed types."""
    root = tmp_path_factory.mktemp("systems")
    paths = {
        name: write(root / name, make(np.array(types), nframes, length, seed=k))
        for k, (name, (types, nframes, length)) in enumerate(SYSTEMS.items())
    }
    paths["mixed"] = write(root / "mixed", make(MIXED, 4, 4.6, seed=9), mixed=True)
    return paths


@pytest.fixture(scope="module")
def four(folders):
    return [folders[name] for name in SYSTEMS]


@pytest.fixture(scope="module")
def example():
    """The shipped validation data."""
    scheme = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
    return DataSystem(str(EXAMPLE / "valid"), ["Ni", "O"], scheme, 5.6)


@pytest.fixture(scope="module")
def model():
    """A small model, its statistics not those of a new one."""
    return make_model((30, 30, 30))
