# SPDX-License-Identifier: Apache-2.0
"""Models that several tests write."""

from __future__ import annotations

import numpy as np
import pytest

from deepspin.model.compress import Options, compress


@pytest.fixture(scope="session")
def compressed(make_model):
    """Factory of compressed models: ``compressed("ONi")``."""

    def make(*args, **kwargs):
        model = make_model(*args, **kwargs)
        near = np.full((model.spin.scheme.ntypes, len(model.descriptor.sel)), 1.5)
        return compress(model, near, Options(1e-9, extrapolate=3.0))[0]

    return make
