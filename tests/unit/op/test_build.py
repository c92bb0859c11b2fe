# SPDX-License-Identifier: Apache-2.0
"""Building the kernels, and going on without them: what is built, what is said."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest
from places import ROOT

SETUPTOOLS = int(importlib.metadata.version("setuptools").split(".")[0])
LIBRARIES = {"deepspin/op/libdeepspin.so", "deepspin/op/libneighbors.so"}
SLOWER = "training and evaluation are several times slower"
REMEDY = "`pip install .` builds them; it needs a C++ compiler"
EVALUATE = "from deepspin.op import library; print(library.operations() is not None)"

QUICK = {"DEEPSPIN_BUILD": "base", "CXXFLAGS": "-O0"}

builds = pytest.mark.skipif(SETUPTOOLS < 77, reason="needs setuptools 77")
compiles = pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler")


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of what is needed to build, nothing compiled."""
    folder = tmp_path_factory.mktemp("tree") / "deepspin"
    shutil.copytree(
        ROOT / "deepspin",
        folder / "deepspin",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    for pattern in ("*.py", "*.cfg", "*.toml", "*.md", "*.in", "LICENSE"):
        for file in ROOT.glob(pattern):
            shutil.copy(file, folder)
    shutil.copytree(ROOT / "tests" / "kernels", folder / "tests" / "kernels")
    return folder


def setup(folder, *args, **env):
    """Run setup.py, return what it said."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *args],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [x for x in done.stderr.splitlines() if x.startswith("deepspin")]


@pytest.fixture(scope="session")
def wheel(tree, tmp_path_factory):
    """The wheel, quickly built."""
    out = tmp_path_factory.mktemp("wheel")
    assert setup(tree, "bdist_wheel", "-d", str(out), **QUICK) == []
    (file,) = out.iterdir()
    return file


@builds
@compiles
def test_wheel(wheel, tmp_path):
    """One for a platform and all Pythons; in it the libraries and nothing else new."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if "dist-info" not in n}
    assert LIBRARIES <= names
    rest = {n for n in names - LIBRARIES if not n.endswith(".py")}
    assert rest == {"deepspin/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = python(EVALUATE, tmp_path)
    assert done.stdout == "True\n", done.stderr


def python(code, folder):
    """Run code with the package in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@builds
def test_source_distribution_without_a_compiler(tree, tmp_path):
    """It holds the sources; where nothing compiles them, one line says so for each."""
    setup(tree, "sdist", "-d", str(tmp_path))
    (file,) = tmp_path.iterdir()
    with tarfile.open(file) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safe)
    for source in (ROOT / "deepspin" / "op" / "src").iterdir():
        assert f"deepspin/op/src/{source.name}" in names
    kernels = {p.name for p in (ROOT / "tests" / "kernels").iterdir()}
    assert {"setup.py", *(f"tests/kernels/{name}" for name in kernels)} <= names
    assert not [n for n in names if n.endswith((".so", ".o", ".pyc"))]
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    empty = tmp_path / "bin"
    empty.mkdir()
    for env in ({"PATH": str(empty)}, {"CXX": "no-such-compiler"}, {"CXX": "false"}):
        out = tmp_path / "wheels"
        said = setup(folder, "bdist_wheel", "-d", str(out), **env)
        assert [line.split(":")[1] for line in said] == [
            " no libdeepspin.so",
            " no libneighbors.so",
        ]
        (file,) = out.iterdir()
        assert not LIBRARIES & set(zipfile.ZipFile(file).namelist())
        file.unlink()
    done = python(EVALUATE, folder)
    assert done.stdout == "False\n"
    (line,) = (x for x in done.stderr.splitlines() if "slower" in x)
    assert line == f"the kernels are not built: {SLOWER} ({REMEDY})"


@builds
@compiles
def test_complaint_of_a_compiler(tree, tmp_path):
    """One line, however many there are."""
    shutil.copytree(tree, tmp_path / "tree")
    source = tmp_path / "tree" / "deepspin" / "op" / "src" / "pool.cc"
    source.write_text(source.read_text() + "\nint x = 'many mistakes' +;\n" * 20)
    said = setup(tmp_path / "tree", "build_ext", **QUICK)
    assert len(said) == 2
    assert all("error: expected" in line for line in said)
