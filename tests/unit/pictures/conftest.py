# SPDX-License-Identifier: Apache-2.0
"""Pictures, drawn in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepspin.main import main
from deepspin.pictures import plots


@pytest.fixture
def figure(monkeypatch):
    """Call `dp-spin plot` and return the figure that it saved."""
    saved, save = [], plots.save

    def keep(picture, path):
        saved.append((picture, Path(path)))
        save(picture, path)

    monkeypatch.setattr(plots, "save", keep)

    def call(*args):
        assert main(["plot", *map(str, args)]) == 0
        picture, path = saved[-1]
        assert path.is_file()
        return picture

    return call


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
