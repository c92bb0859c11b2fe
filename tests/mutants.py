# SPDX-License-Identifier: Apache-2.0
"""Put one mistake at a time into the C++ sources: the tests must notice each.

    python tests/mutants.py                # all, about half an hour
    python tests/mutants.py cutoff fill    # those whose names contain a word

Works on copies: the tree is read only. Without a mistake the tests must pass; with one
they must fail, crash, or never end. Exits with status 1 if a mutant survives. One that
no test can notice, because it gives the same numbers, does not belong into the table.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "deepspin" / "op" / "src"
FLAGS = ["-std=c++17", "-O0", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-Wno-psabi", "-ffp-contract=off", "-DDEEPSPIN_ISA=base"]
LIBRARIES = {
    "libdeepspin.so": (
        "ops.cc",
        "invariant_ops.cc",
        "kernel.cc",
        "invariant.cc",
        "pool.cc",
    ),
    "libneighbors.so": ("neighbors.cc", "pool.cc"),
}
SECONDS = 900  # after which tests never end

SEARCH = (
    "unit/data/test_search.py",
    "-k",
    "all_points or any_frame or both or cutoff",
)
TWINS = (
    "unit/op/test_potential.py",
    "-k",
    "test_twin and (odd or wide or time or slots) or bits and some"
    " or float32_nets and odd and 1",
)
INVARIANT = (
    "unit/op/test_invariant.py",
    "-k",
    "test_twin and (walls or ghosts or trainable or odd)"
    " or test_rows_are and (second or slots or two)",
)
BORDER = (
    "unit/op/test_inputs.py",
    "-k",
    "neighbors or numbers or kept or huge or columns",
)


class MutantError(RuntimeError):
    """The table does not fit the sources, or the tests fail without a mistake."""


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Parameters
    ----------
    name : str
        What is wrong then.
    file : str
        Source.
    old, new : str
        What stands there, once, and what the mistake makes of it.
    tests : tuple of str
        Arguments of pytest, paths being relative to ``tests``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Put the mistake into the source.

        Raises
        ------
        MutantError
            What it replaces does not stand there exactly once.
        """
        number = text.count(self.old)
        if number != 1 or self.old == self.new:
            raise MutantError(
                f"{self.name}: {self.file} has `{self.old}` {number} times, not once, "
                "or nothing changes. Correct the table."
            )
        return text.replace(self.old, self.new)


def _table() -> tuple[Mutant, ...]:
    """Mistakes by source: (name, what stands there, what stands there then)."""
    groups = {
        ("neighbors.cc", SEARCH): [
            ("lattice vector", "shift[1] * box[3 + c]", "shift[1] * box[6 + c]"),
            ("own images", "&& !shift[1] && !shift[2]", "&& !shift[1]"),
            (
                "the cutoff itself",
                "square < rcut * rcut &&",
                "square <= rcut * rcut &&",
            ),
            ("power of crowd", "+= weight * weight;", "+= weight;"),
            ("least of centres", "if (j < s.ncentres)", "if (j <= s.ncentres)"),
            ("fill of a row", "list + width[e], -1)", "list + width[e], 0)"),
            (
                "width of a row",
                "count[block], width[e])",
                "count[block], width[e] - 1)",
            ),
        ],
        ("bins.h", SEARCH): [
            ("order of partners", "std::sort(s.found.begin(), s.found.end());", ""),
            ("partner's lattice vectors", "- home_[3 * j + d]", "+ home_[3 * j + d]"),
            ("bins behind the last", "+ reach_[d] + 1;", "+ reach_[d];"),
            (
                "back into the cell",
                "s_.sites[3 * i + c] - back",
                "s_.sites[3 * i + c] + back",
            ),
            (
                "images of a small cell",
                "std::ceil(number_[d] / fit)",
                "number_[d] / fit",
            ),
            (
                "open directions",
                "std::ceil(number_[d] / fit))) : 1;",
                "std::ceil(number_[d] / fit))) : 0;",
            ),
            ("beside a bin", "? p - high[x] :", "? p - low[x] :"),
            (
                "bins below 0",
                "-((number_[d] - 1 - to) / number_[d])",
                "to / number_[d]",
            ),
            (
                "partners too near the cutoff",
                "!(square[k] >= end)",
                "!(4 * square[k] >= end)",
            ),
            (
                "bins side by side",
                "s.images.push_back({turns, away});\n          c += many;",
                "s.images.push_back({turns, away});\n          c += many + 1;",
            ),
        ],
        ("pairs.h", TWINS): [
            ("sign of a shift", "+ c] + image - points", "+ c] - image - points"),
            ("slope of the switch", "(r < begin) | (r >= end)", "(r < begin)"),
            ("point 0", "if (list[j] >= 0) a.slot", "if (list[j] > 0) a.slot"),
        ],
        ("net.h", TWINS): [
            (
                "slope of tanh",
                "idt * (T(1) - value * value) * get",
                "idt * (value * value + T(1)) * get",
            ),
        ],
        ("series.h", TWINS): [
            ("cells below 0", "std::floor(u / CELL)", "std::trunc(u / CELL)"),
        ],
        ("gemm.h", TWINS): [
            ("deep products", "= accumulate || k0 > 0;", "= accumulate;"),
        ],
        ("simd.h", TWINS): [
            ("a term of tanh", "p = p * r + 1.0f / 24.0f;\n", ""),
        ],
        ("chunk.h", TWINS): [
            ("empty slots", "p.sel[e] - count;", "p.sel[e] - count - 1;"),
            (
                "tangent of D",
                "load(m + at) + left[d] * load(dot",
                "load(m + at) - left[d] * load(dot",
            ),
            ("order of the virial", "owner + 3 * a + b]", "owner + 3 * b + a]"),
            ("virtual atoms' virial", "(x[b] - offset", "(x[b] + offset"),
        ],
        ("backward.h", TWINS): [
            ("second derivative", "slope * bar - T(2)", "slope * bar + T(2)"),
            (
                "force on a neighbour",
                "along[d] = force[3 * i + d] - ",
                "along[d] = force[3 * i + d] + ",
            ),
            ("order of the box", "box[3 * d + b] += shift", "box[3 * b + d] += shift"),
            ("time steps", "idt_sum += bar * t + bent;", "idt_sum += bar * t;"),
        ],
        ("backward.h", BORDER): [
            ("size of `kept`", "!= in.kept_bytes)", "> in.kept_bytes)"),
        ],
        ("inputs.h", BORDER): [
            ("last point", "high >= npoints", "high > npoints"),
            ("sum of atoms", "if (total != p.nloc)", "if (total > p.nloc)"),
        ],
        ("channels.h", INVARIANT): [
            ("spins of neighbours", "= u[x] * s[y];", "= u[y] * s[x];"),
            ("motion at rest", "1.0 - 3.0 * x2 + 2.0", "1.0 - 3.0 * x2 - 2.0"),
            ("slope of radial functions", "(-30.0 / length)", "(-15.0 / length)"),
            ("walls of pairs", "? 0.5 * WALL * total", "? WALL * total"),
        ],
        ("scalars.h", INVARIANT): [
            ("other than diagonal", "? 1.0 : 2.0) * (pull", "? 1.0 : 1.0) * (pull"),
        ],
        ("linear.h", INVARIANT): [
            ("sixth power", "3.0 * (take(fourth *", "2.0 * (take(fourth *"),
            ("gradient of a number", "derivative(seed * column)", "derivative(column)"),
            ("wall of spins", "(seed * excess * excess)", "(seed * excess)"),
        ],
        ("dual.h", INVARIANT): [
            ("product rule", "a.x * b.d + a.d * b.x", "a.x * b.d - a.d * b.x"),
            ("slope of a root", "Element<V>(0.5) * a.d / r", "a.d / r"),
        ],
        ("invariant_chunk.h", INVARIANT): [
            ("order of a virial's pull", "virial[3 * d + b]", "virial[3 * b + d]"),
            ("mean of slopes", "k < c.ld ? average[i] : 0.0", "average[i]"),
        ],
        ("invariant.cc", INVARIANT): [
            (
                "order of the pulls",
                "3 * a + b] -= g[a] * x[b]",
                "3 * a + b] -= g[b] * x[a]",
            ),
            ("order of the box's pull", "box[3 * c + x] +=", "box[3 * x + c] +="),
            ("values meet slopes", "left[k].a[l] + half);", "left[k].a[l]);"),
        ],
        ("invariant_rows.h", INVARIANT): [
            (
                "sign of a neighbour's row",
                "to[place[n]] -= slopes",
                "to[place[n]] += slopes",
            ),
            ("rows of slots", "|| p.mask[own] == 0.0) continue", ") continue"),
        ],
        ("invariant_ops.cc", BORDER): [
            ("columns below 0", "if (place[n] < 0 || place", "if (place"),
        ],
        ("pool.cc", TWINS): [
            ("work of threads", "job.next.fetch_add(1)", "job.next.fetch_add(2)"),
        ],
    }
    return tuple(
        Mutant(name, file, old, new, tests)
        for (file, tests), mutants in groups.items()
        for name, old, new in mutants
    )


MUTANTS = _table()


# --- One mutant -----------------------------------------------------------------------


class Copies:
    """The package and its tests in a folder of their own, with libraries in turn.

    Parameters
    ----------
    folder : Path
        Where; there is nothing yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.objects = folder, {}
        ignore = shutil.ignore_patterns("*.so", "__pycache__", "src", ".*")
        shutil.copytree(ROOT / "deepspin", folder / "deepspin", ignore=ignore)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
        for name in ("pyproject.toml", "setup.cfg"):
            shutil.copy(ROOT / name, folder)
        if (ROOT / "examples").is_dir():
            (folder / "examples").symlink_to(ROOT / "examples")

    def build(self, sources: dict[str, str]) -> None:
        """Compile what is not compiled yet, and link the libraries.

        Raises
        ------
        subprocess.CalledProcessError
            It does not compile.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder))
        for name, text in sources.items():
            (place / name).write_text(text)
        compiler = os.environ.get("CXX", "c++").split()
        for library, names in LIBRARIES.items():
            parts = []
            for name in names:
                key = name, *(sources[x] for x in needed(name, sources))
                if key not in self.objects:
                    self.objects[key] = str(place / f"{name}.o")
                    command = [*compiler, *FLAGS, "-c", str(place / name)]
                    subprocess.run([*command, "-o", self.objects[key]], check=True)
                parts.append(self.objects[key])
            target = self.folder / "deepspin" / "op" / library
            link = [*compiler, "-shared", "-pthread", *parts, "-o", str(target)]
            subprocess.run(link, check=True)

    def test(self, tests: tuple[str, ...]) -> bool:
        """Whether tests pass.

        Raises
        ------
        MutantError
            pytest finds no tests, or none that are not skipped.
        """
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0"]
        command += ["-p", "no:cacheprovider", f"tests/{tests[0]}", *tests[1:]]
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return False
        last = (done.stdout.strip().splitlines() or [done.stderr])[-1]
        if done.returncode > 1 or (done.returncode == 0 and "passed" not in last):
            raise MutantError(f"pytest {' '.join(tests)} ran no test: {last}")
        return done.returncode == 0


def needed(name: str, sources: dict[str, str]) -> list[str]:
    """A source and all that it includes, and what these include."""
    names = [name]
    for one in names:  # grows
        found = re.findall(r'^#include "(.*)"', sources[one], re.MULTILINE)
        names += [x for x in found if x not in names]
    return names


def sources() -> dict[str, str]:
    """Read the sources as they are."""
    files = sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h")])
    return {path.name: path.read_text("utf-8") for path in files}


def survivors(mutants: tuple[Mutant, ...], copies: Copies) -> list[Mutant]:
    """Try mutants, after the sources as they are.

    Raises
    ------
    MutantError
        A mutant does not apply, or tests fail without one.
    """
    right = sources()
    changed = {m: {**right, m.file: m.applied(right[m.file])} for m in mutants}
    copies.build(right)
    for tests in dict.fromkeys(m.tests for m in mutants):
        if not copies.test(tests):
            raise MutantError(f"{' '.join(tests)} fails without a mistake. Mend that.")
    alive = []
    for mutant, text in changed.items():
        begin = time.time()
        copies.build(text)
        survives = copies.test(mutant.tests)
        sys.stdout.write(
            f"{'SURVIVES' if survives else 'caught':8s} {time.time() - begin:5.0f} s "
            f"{mutant.file}: {mutant.name}\n"
        )
        sys.stdout.flush()
        alive += [mutant] * survives
    return alive


def main(args: list[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="of names of mutants")
    words = parser.parse_args(args).words
    chosen = tuple(
        m
        for m in MUTANTS
        if not words or any(w in m.name or w in m.file for w in words)
    )
    if not chosen:
        parser.error("no mutant has such a name")
    with tempfile.TemporaryDirectory(prefix="deepspin-mutants-") as folder:
        alive = survivors(chosen, Copies(Path(folder) / "tree"))
    sys.stdout.write(f"{len(chosen)} mutants, {len(chosen) - len(alive)} caught\n")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
