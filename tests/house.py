# SPDX-License-Identifier: Apache-2.0
"""Count what the layout of the package promises.

    python tests/house.py                 # of this tree
    python tests/house.py ../other/deepspin --virtual utils/spin.py

Prints files and lines of each room, and as lists: files over 400 lines, functions whose
body has over 40 lines (docstring and signature left out), files that import from the
module of virtual atoms, names that several modules define, functions with a parameter
or a result that is not annotated, and modules without a test file of their name in
``tests`` beside the package. ``--brief`` prints the numbers alone.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LINES, BODY = 400, 40
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    here = Path(__file__).resolve().parents[1] / "deepspin"
    parser.add_argument("package", type=Path, nargs="?", default=here)
    parser.add_argument("--virtual", default="spins/virtual.py", help="its module")
    parser.add_argument("--brief", action="store_true", help="numbers alone")
    options = parser.parse_args()
    package = options.package.resolve()
    sources = {
        str(path.relative_to(package)): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }
    lines = {name: len(source.splitlines()) for name, source in sources.items()}
    for room, (files, total) in rooms(lines).items():
        print(f"{room:14}{files:4} files {total:6} lines")  # noqa: T201
    trees = {name: ast.parse(source) for name, source in sources.items()}
    tests = {path.name for path in (package.parent / "tests").rglob("test_*.py")}
    virtual = f"{package.name}/{options.virtual}".removesuffix(".py").replace("/", ".")
    found = {
        f"files over {LINES} lines": [
            f"{name}: {size}" for name, size in lines.items() if size > LINES
        ],
        f"files import from {options.virtual}": [
            name for name, tree in trees.items() if virtual in imports(tree)
        ],
        "names are defined by several modules": repeated(trees),
        **of_functions(trees),
        **of_tests(trees, tests),
    }
    for what, where in found.items():
        print("", f"{len(where)} {what}", sep="\n")  # noqa: T201
        for line in [] if options.brief else where:
            print(f"    {line}")  # noqa: T201


def rooms(lines: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Files and lines of each folder of the package, `.` for the package itself."""
    sizes = defaultdict(list)
    for name, size in lines.items():
        sizes[name.partition("/")[0] if "/" in name else "."].append(size)
    sizes["together"] = [*lines.values()]
    return {room: (len(size), sum(size)) for room, size in sizes.items()}


def of_functions(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Functions that are long, and those that are not annotated in full."""
    functions = [(name, *item) for name, tree in trees.items() for item in walk(tree)]
    return {
        f"of {len(functions)} functions have a body over {BODY} lines": [
            f"{name}: {function} {body_lines(node)}"
            for name, function, node in functions
            if body_lines(node) > BODY
        ],
        f"of {len(functions)} functions are not annotated in full": [
            f"{name}: {function}"
            for name, function, node in functions
            if not is_annotated(node)
        ],
    }


def of_tests(trees: dict[str, ast.Module], tests: set[str]) -> dict[str, list[str]]:
    """Modules without a test file of their name."""
    modules = [name for name in trees if not Path(name).name.startswith("__")]
    return {
        f"of {len(modules)} modules have no test file of their name": [
            name for name in modules if f"test_{Path(name).name}" not in tests
        ]
    }


def walk(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, Function]]:
    """All functions and methods, those within functions too, by name."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, (Function, ast.ClassDef))
        name = f"{outer}{node.name}" if named else outer
        if isinstance(node, Function):
            yield name, node
        yield from walk(node, f"{name}." if named else outer)


def body_lines(node: Function) -> int:
    """Lines of a function below its docstring."""
    body = node.body[ast.get_docstring(node) is not None :]
    return node.end_lineno - body[0].lineno + 1 if body else 0


def is_annotated(node: Function) -> bool:
    """Whether all parameters and the result are, the result of ``__init__`` apart."""
    given = node.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    parameters += [p for p in (given.vararg, given.kwarg) if p]
    parameters = [p for p in parameters if p.arg not in ("self", "cls")]
    result = node.returns is not None or node.name == "__init__"
    return result and all(p.annotation for p in parameters)


def imports(tree: ast.Module) -> set[str]:
    """Modules that are imported, by their full names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def repeated(trees: dict[str, ast.Module]) -> list[str]:
    """Public functions and classes that more than one module defines."""
    where = defaultdict(list)
    for name, tree in trees.items():
        for node in tree.body:
            defines = isinstance(node, (Function, ast.ClassDef))
            if defines and not node.name.startswith("_"):
                where[node.name].append(name)
    return [f"{n}: {', '.join(files)}" for n, files in where.items() if len(files) > 1]


if __name__ == "__main__":
    main()
