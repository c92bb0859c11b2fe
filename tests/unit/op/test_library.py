# SPDX-License-Identifier: Apache-2.0
"""Libraries that cannot be used: one line, and plain TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from deepspin.op import library, neighbors, sources

SLOWER = "training and evaluation are several times slower"
REMEDY = "`pip install .` builds them; it needs a C++ compiler"


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """Put another file in place of the library."""

    def put(content):
        path = tmp_path / "libdeepspin.so"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(library, "PATH", path)
        monkeypatch.delenv("DEEPSPIN_KERNELS", raising=False)
        library._load.cache_clear()

    yield put
    library._load.cache_clear()


def compiled():
    """The library in use."""
    path = Path(library.__file__).with_name("libdeepspin.so")
    if not path.is_file():
        pytest.skip("deepspin was installed without kernels")
    return path.read_bytes()


DAMAGES = {
    "empty": lambda: b"",
    "no library": lambda: b"not a library\n" * 100,
    "a few bytes": lambda: compiled()[:50],
    "a tenth": lambda: compiled()[: len(compiled()) // 10],
    "half": lambda: compiled()[: len(compiled()) // 2],
    "all but a byte": lambda: compiled()[:-1],
    "older": lambda: compiled().replace(
        sources.fingerprint().encode(), b"0123456789abcdef"
    ),
    "another": lambda: neighbors.PATH.read_bytes() if compiled() else b"",
    "missing": lambda: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_library(damage, damaged, caplog):
    """One line in a process, and plain TensorFlow."""
    damaged(DAMAGES[damage]())
    assert library.operations() is None
    assert library.operations() is None
    (line,) = (r.getMessage() for r in caplog.records if r.name == library.__name__)
    assert SLOWER in line
    assert "\n" not in line
    if damage == "older":
        assert "built from other sources than these" in line
    if damage == "missing":
        assert line.endswith(f"({REMEDY})")
    if damage in ("a few bytes", "a tenth", "half", "all but a byte"):
        assert line.endswith("(the file is damaged)")


@pytest.mark.parametrize("damage", ["half", "older"])
def test_damaged_library_of_neighbors(damage, tmp_path, monkeypatch):
    """Lists are then made by numpy."""
    compiled()
    content = neighbors.PATH.read_bytes()
    mark = sources.fingerprint().encode()
    new = (
        content[: len(content) // 2] if damage == "half" else content.replace(mark, b"")
    )
    path = tmp_path / "libneighbors.so"
    path.write_bytes(new)
    monkeypatch.setattr(neighbors, "PATH", path)
    neighbors.library.cache_clear()
    assert neighbors.library() is None
    neighbors.library.cache_clear()


def test_training_with_a_damaged_library(data, run, damaged, capsys):
    """The same one line, and a model at the end."""
    damaged(b"no library")
    data["training"] |= {"numb_steps": 1, "disp_freq": 1, "save_freq": 1}
    del data["training"]["validation_data"]
    run("train", tiny.write(data))
    said = capsys.readouterr().err.splitlines()
    (line,) = (x for x in said if "kernels" in x)
    assert line.startswith(f"dp-spin: warning: the kernels do not load: {SLOWER} (")
    assert Path("model.ckpt-1.keras").is_file()


def test_kernels_not_wanted(monkeypatch, caplog):
    monkeypatch.setenv("DEEPSPIN_KERNELS", "0")
    library._load.cache_clear()
    assert library.operations() is None
    assert not caplog.records
    library._load.cache_clear()
