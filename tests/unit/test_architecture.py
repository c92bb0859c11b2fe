# SPDX-License-Identifier: Apache-2.0
"""How the package is put together: who may import, read and name what."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from places import TESTS

import deepspin

pytestmark = pytest.mark.any_version

PACKAGE = Path(deepspin.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each room imports itself and what comes before, never what stands beside it. A model
# file may be one of DeePMD-kit's, so what reads any of them comes after interop.
ORDER = (
    ("keys", "env", "registration"),
    ("op",),
    ("spins",),
    ("utils",),
    ("data",),
    ("survey", "descriptor"),
    ("pictures", "fit"),
    ("model", "loss"),
    ("interop",),
    ("modelfiles",),
    ("training",),
    ("infer",),
    ("atoms",),
    ("dynamics", "analysis", "calculator"),
    ("entrypoints",),
    ("main",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}


def module_of(path):
    """`deepspin/a/b.py` is deepspin.a.b, `deepspin/a/__init__.py` is deepspin.a."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in MODULES.items()}


def imports(tree):
    """Modules of the package that some code imports, be it inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if node.module == "deepspin" and alias.name in deepspin._HOMES:
                    name = deepspin._HOMES[alias.name]
                elif name not in MODULES:
                    name = node.module
                if name != "deepspin" or alias.name != "__version__":
                    found.add(name)
    return {name for name in found if name.split(".")[0] == "deepspin"}


def identifiers(tree):
    """All names in code; neither strings nor comments."""
    fields = ("id", "attr", "name", "arg", "asname", "module")
    for node in ast.walk(tree):
        for field in fields:
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield from value.split(".")


def defined_by(statement):
    """Names that a statement of a module defines, other than by import."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
        return {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return set()


# --- Imports --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import numpy, deepspin.keys", {"deepspin.keys"}),
        ("from deepspin import __version__, keys", {"deepspin.keys"}),
        ("from deepspin.data import nlist", {"deepspin.data.nlist"}),
        ("from deepspin.data.nlist import build", {"deepspin.data.nlist"}),
        ("def f():\n from deepspin import DeepSpin", {"deepspin.infer.deep_spin"}),
        ("import deepspin", {"deepspin"}),
    ],
)
def test_imports_are_seen(code, expected):
    assert imports(ast.parse(code)) == expected


def test_every_file_belongs_to_a_part():
    assert {module.split(".")[1] for module in MODULES if "." in module} <= set(LEVEL)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"deepspin"}))
def test_imports_point_one_way(module):
    """Imports inside functions count; the lazy names of `deepspin` itself do not."""
    part = module.split(".")[1]
    for name in imports(TREES[module]):
        assert name != "deepspin", f"{module}: import from the module that has the name"
        other = name.split(".")[1]
        assert other == part or LEVEL[other] < LEVEL[part], f"{module} imports {name}"


def test_no_import_in_circles():
    graph = {module: imports(TREES[module]) for module in set(MODULES) - {"deepspin"}}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_names_come_from_where_they_live(module):
    """What one module imports, no other takes from there."""
    for node in ast.walk(TREES[module]):
        if not isinstance(node, ast.ImportFrom) or node.module not in MODULES:
            continue
        home = TREES[node.module].body
        defined = {n for statement in home for n in defined_by(statement)}
        if node.module == "deepspin":
            defined |= set(deepspin._HOMES)
        for alias in node.names:
            if f"{node.module}.{alias.name}" not in MODULES:
                assert alias.name in defined | set(deepspin._HOMES), alias.name


def test_imports_are_written_as_imports():
    """Only lazy names are imported by name."""
    users = {m for m, tree in TREES.items() if "import_module" in identifiers(tree)}
    assert users == {"deepspin"}


# --- TensorFlow -----------------------------------------------------------------------

LOADED = "sorted({'tensorflow', 'keras'} & set(sys.modules))"
QUICK_ROOMS = {"data", "entrypoints", "infer", "pictures", "spins", "survey", "utils"}
NEEDS_TENSORFLOW = {
    "network",
    "pipeline",
    "batching",
    "deep_spin",
    "domain",
    "symmetry",
}  # of utils, data and infer
QUICK_MODULES = ["deepspin.keys", "deepspin.env", "deepspin.main"] + [
    module
    for module in MODULES
    if module.split(".")[1:2]
    and module.split(".")[1] in QUICK_ROOMS
    and module.split(".")[-1] not in NEEDS_TENSORFLOW
]


def python(code, cwd):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "code",
    [
        "import deepspin; dir(deepspin)",
        "import deepspin.dynamics as d; [getattr(d, name) for name in d.__all__]",
        f"import {', '.join(QUICK_MODULES)}",
    ],
    ids=["package", "dynamics", "modules"],
)
def test_import_without_tensorflow(tmp_path, code):
    done = python(f"import sys; {code}; print({LOADED})", tmp_path)
    assert done.stdout == "[]\n", done.stderr


def test_options_are_declared_at_once(tmp_path):
    """What a call needs it imports itself, so that help and typos do not wait."""
    code = "import sys, deepspin.main as m; m.build_parser(); "
    code += "print({'numpy', 'dargs', 'h5py', 'matplotlib'} & set(sys.modules))"
    done = python(code, tmp_path)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["-h"], 0),
        (["train", "-h"], 0),
        (["train", "typo.json"], 1),
        (["train", "absent.json"], 1),
        (["test", "-s", "absent"], 1),
        (["magnons", "absent.json"], 1),
        (["spectrum", "absent.h5"], 1),
        (["convert-from", "a.pb", "-o", "b.pb"], 1),
        (["doc-train-input"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_without_tensorflow(tmp_path, args, status):
    """Help, and every mistake that can be seen without a model, at once."""
    (tmp_path / "typo.json").write_text('{"modle": {}}')
    code = (
        "import runpy, sys\n"
        f"sys.argv[1:] = {args}\n"
        "try:\n"
        "    runpy.run_module('deepspin', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        f"    print(stop.code or 0, {LOADED})\n"
    )
    done = python(code, tmp_path)
    assert done.stdout.splitlines()[-1] == f"{status} []", done.stderr


# --- Names and files ------------------------------------------------------------------


def test_one_reader_of_the_environment():
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    users = {m for m, tree in TREES.items() if names & set(identifiers(tree))}
    assert users == {"deepspin.env"}


# What of a spin scheme belongs to virtual atoms alone.
VIRTUAL = {
    "VirtualAtoms",
    "VirtualAtomCodec",
    "codec",
    "placeholders",
    "scale_of",
    "virtual_type",
}
# The scheme and its layer; data that hold virtual atoms: their reader, their checks,
# their writer, and what finds out about them; DeePMD-kit's models, which have them.
HOMES = {
    "spins.codec",
    "spins.virtual",
    "spins.invariant",
    "data.words",
    "spins.schemes",
    "model.virtual",
    "model.virtual_centres",
    "data.systems",
    "data.checks",
    "data.layouts",
    "survey.scheme",
    "survey.conversion",
    "infer.deviation",
    "interop.graph",
    "interop.script",
    "interop.dpmodel",
    "interop.read_dpmodel",
}


def test_who_knows_virtual_atoms():
    """All others ask the scheme, see `deepspin.spins.schemes.Scheme`.

    The model names the layer of each scheme, in a table. Options of the input are
    strings, so `argcheck`, `inputs` and `refused` need no exception.
    """
    for module in set(MODULES) - {f"deepspin.{home}" for home in HOMES}:
        names = set(identifiers(TREES[module]))
        found = {n for n in names if n in VIRTUAL or n.startswith("virtual_")}
        found.discard("virtual_sources")  # of h5py
        assert not found, f"{module}: {found}"


def test_schemes_are_the_same_everywhere():
    """A new one goes into the table of each room; `SCHEMES` names them."""
    from deepspin.model.ener import SPIN_LAYERS
    from deepspin.spins.schemes import SCHEMES
    from deepspin.utils.argcheck import spin_args
    from deepspin.utils.inputs import SPIN_CHECKS

    choices = list(spin_args().sub_variants["type"].choice_dict)
    assert list(SCHEMES) == choices == list(SPIN_CHECKS) == list(SPIN_LAYERS)
    for name, scheme in SCHEMES.items():
        assert scheme.name == name
        layer = keras.saving.get_registered_object(scheme.layer)
        assert layer is SPIN_LAYERS[name]


def test_licence():
    for path in [*FILES, *TESTS.rglob("*.py")]:
        first, second = (path.read_text("utf-8") + "\n\n").split("\n")[:2]
        line = second if first.startswith("#!") else first
        assert line == "# SPDX-License-Identifier: Apache-2.0", path


def test_sizes():
    """Longer than this is more than one thing."""
    long = {p.name: n for p in FILES if (n := p.read_text("utf-8").count("\n")) > 600}
    assert not long


@pytest.mark.parametrize("name", deepspin.__all__)
def test_public_names(name):
    value = getattr(deepspin, name)
    assert value.__doc__, "no docstring of its own"
    assert name in dir(deepspin)


def test_unknown_name():
    with pytest.raises(AttributeError, match="'deepspin' has no attribute 'DeepSpn'"):
        _ = deepspin.DeepSpn
