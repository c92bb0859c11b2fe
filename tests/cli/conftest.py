# SPDX-License-Identifier: Apache-2.0
"""Model files that several verbs read."""

from __future__ import annotations

import shutil

import pytest
from places import REFERENCE
from sharing import shared

import deepspin
from deepspin.main import main


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A model of the example's kind as archive and frozen."""

    def write(folder):
        model = deepspin.load_model(REFERENCE / "base.pb")
        ranges = {"spin_range": {"Ni": [1.1, 1.4]}, "min_nbor_dist": 0.33, "step": 7}
        deepspin.save_model(model, folder / "model.keras", ranges)
        assert main(["freeze", "-c", f"{folder}/model", "-o", f"{folder}/frozen"]) == 0

    folder = tmp_path_factory.mktemp("files")  # a copy: some tests write there
    stored = shared(tmp_path_factory, "models", write)
    return shutil.copytree(stored, folder, dirs_exist_ok=True)
