# SPDX-License-Identifier: Apache-2.0
"""Builds the kernels, where a C++ compiler is there; all else is in setup.cfg.

Neither a missing compiler nor a failing one is an error: deepspin then does the same
work with TensorFlow's operations, more slowly, and says so in one line.

``CXX`` and ``CXXFLAGS`` are respected. ``DEEPSPIN_BUILD=base`` leaves out instruction
sets that not every processor has, and takes a third of the time.
"""

import os
import platform
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70, for `setup.py build_ext --inplace`
    bdist_wheel = object

SOURCES = Path("deepspin/op/src")
FINGERPRINT = runpy.run_path("deepspin/op/sources.py")["fingerprint"](SOURCES)
FRAMEWORK = "libtensorflow_framework.so.2"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-Wno-psabi"]  # of vectors within one file
WIDE = ["-mprefer-vector-width=512"]
# the kernels, once for each instruction set; the processor's is chosen when they run
INSTRUCTION_SETS = {"base": []}
EVERY_SET = os.environ.get("DEEPSPIN_BUILD") != "base"
if EVERY_SET and platform.machine() in ("x86_64", "AMD64"):
    INSTRUCTION_SETS["v3"] = ["-mavx2", "-mfma", "-mbmi2"]
    INSTRUCTION_SETS["v4"] = [
        *INSTRUCTION_SETS["v3"],
        *("-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"),
        *WIDE,
    ]

Job = tuple[str, str, list[str]]  # source, name of the object, flags
POOL = ("pool.cc", "pool", [*FLAGS, f'-DDEEPSPIN_SOURCES="{FINGERPRINT}"'])


def kernel_jobs() -> list[Job]:
    """What to compile for the operations."""
    define = ["-DDEEPSPIN_X86"] if "v3" in INSTRUCTION_SETS else []
    jobs = [POOL]
    for source in ("ops", "invariant_ops"):
        jobs.append((f"{source}.cc", source, [*FLAGS, *define]))
    for name, flags in INSTRUCTION_SETS.items():
        own = [*FLAGS, *flags, f"-DDEEPSPIN_ISA={name}"]
        for source in ("kernel", "invariant"):
            jobs.append((f"{source}.cc", f"{source}_{name}", own))
    return jobs


def neighbor_jobs() -> list[Job]:
    """What to compile for neighbour lists; the same rounding as numpy's."""
    exact = [*FLAGS, "-ffp-contract=off"]
    return [("neighbors.cc", "neighbors", exact), POOL]


JOBS = {"libdeepspin": kernel_jobs(), "libneighbors": neighbor_jobs()}


class BuildKernels(build_ext):
    """Compile ``deepspin/op/src`` into two libraries in ``deepspin/op``.

    ``libdeepspin.so`` holds TensorFlow operations, ``libneighbors.so`` plain functions.
    """

    def get_ext_filename(self, fullname: str) -> str:
        """Name of the library: TensorFlow loads it, not Python."""
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link; on failure say why and leave no library."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.unlink(missing_ok=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._build(target, Path(folder), JOBS[target.stem])
        except Exception as error:
            print(f"deepspin: no {target.name}: {error}", file=sys.stderr)  # noqa: T201
            target.unlink(missing_ok=True)

    def _build(self, target: Path, folder: Path, jobs: list[Job]) -> None:
        extra = os.environ.get("CXXFLAGS", "").split()
        compiler = os.environ.get("CXX", "c++").split()

        def compile(job: Job) -> str:
            source, name, flags = job
            out = str(folder / f"{name}.o")
            command = [*compiler, *flags, *extra, "-c", str(SOURCES / source)]
            run([*command, "-o", out])
            return out

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile, jobs))
        target.parent.mkdir(parents=True, exist_ok=True)
        link = ["-shared", "-pthread"]
        if sys.platform == "darwin":
            link.append("-Wl,-undefined,dynamic_lookup")
        elif target.stem == "libdeepspin":
            # TensorFlow's names are sought in what has this name by then; TensorFlow
            # itself need not be there to compile, an empty library stands in for it
            stub = str(folder / FRAMEWORK)
            name = f"-Wl,-soname,{FRAMEWORK}"
            run([*compiler, "-shared", name, "-x", "c++", os.devnull, "-o", stub])
            link += ["-Wl,--no-as-needed", stub, "-Wl,--as-needed"]
        run([*compiler, *extra, *link, *objects, "-o", str(target)])


def run(command: list[str]) -> None:
    """Run a compiler; of its complaints show one line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        line = next((x for x in lines if "error" in x.lower()), lines[-1])
        raise RuntimeError(f"{line} (from {' '.join(command)})")


class Wheel(bdist_wheel):
    """A wheel for one platform and any Python: the libraries know nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Tags in the name of the wheel."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            f"deepspin.op.{library}",
            sources=[str(SOURCES / source) for source, _, _ in jobs],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            optional=True,
        )
        for library, jobs in JOBS.items()
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
