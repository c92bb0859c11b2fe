# SPDX-License-Identifier: Apache-2.0
"""Systems written anew."""

import numpy as np
import pytest
from small_data import contents, frames, write

from deepspin.data import layouts
from deepspin.survey.conversion import convert_systems
from deepspin.survey.scheme import survey


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "s", *frames(3)))


def test_copy(source, tmp_path):
    (place,) = convert_systems({source: "."}, tmp_path / "t", "same", None)
    assert contents(place) == contents(source)


def test_other_layout(source, tmp_path, caplog):
    data = survey([source])
    convert_systems({source: "a"}, tmp_path / "t", "virtual-atom", data)
    coord = np.load(tmp_path / "t/a/set.000/coord.npy")
    assert coord.shape == (3, 3 * (8 + 4))


def test_what_is_not_written_right_is_not_kept(source, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "is_same", lambda content, place, values: False)
    with pytest.raises(RuntimeError, match="was not written right; nothing is kept"):
        convert_systems({source: "."}, tmp_path / "t", "same", None)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
