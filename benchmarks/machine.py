# SPDX-License-Identifier: Apache-2.0
"""What the machine can do, and the least time that a row can take on it.

    OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 python benchmarks/machine.py

prints the rates as JSON: GFLOP/s of matrix products, GB/s of copies.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import problem

SHAPES = {"square": (1024, 1024, 1024), "skinny": (16, 1600, 240)}


def _best(call: Callable[[], object], seconds: float = 0.4) -> float:
    """Shortest time of a call, of those that fit into some seconds, after a first."""
    call()
    best, end = np.inf, time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best


def measure(threads: int) -> dict[str, float]:
    """Rates of this process: ``PRECISION SHAPE`` in GFLOP/s and ``copy`` in GB/s.

    The square product is of 1024 rows; the skinny one is that of a fitting net's first
    layer on the 16 atoms of one type. Their threads are numpy's. The threads share one
    copy of 128 MB; a byte that is copied counts twice: it is read and written.
    """
    rng = np.random.default_rng(0)
    result = {}
    for precision in ("float64", "float32"):
        for name, (n, k, m) in SHAPES.items():
            a, b = (rng.normal(size=s).astype(precision) for s in ((n, k), (k, m)))
            c = np.empty((n, m), precision)
            seconds = _best(lambda a=a, b=b, c=c: np.matmul(a, b, out=c))
            result[f"{precision} {name}"] = 2e-9 * n * k * m / seconds
    source, target = np.ones((2, threads, 2**24 // threads))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(np.copyto, target, source)))
    return result | {"copy": 2e-9 * source.nbytes / seconds}


def _products(widths: Sequence[int]) -> int:
    """Multiplications of a net for one row, which is the number of its weights."""
    return sum(a * b for a, b in itertools.pairwise(widths))


def _fitting() -> int:
    return _products([problem.EMBEDDING[-1] * problem.AXIS, *problem.FITTING, 1])


def operations(
    natoms: int, pairs: int, *, training: bool, compressed: bool = False
) -> float:
    """Floating-point operations of energies and forces, or of a step on them.

    Multiplications, each with its addition, so 2 operations: for each atom the fitting
    net (its number of weights); for each pair the embedding net (its number of weights;
    9 a channel in all if it is a table of polynomials of degree 5: value and
    derivative); the product of environment matrix and embedding (4 a channel and pair),
    and of the result with its first `AXIS` channels (4 `AXIS` a channel and atom). How
    often each:

    ==================  ==========================  =================================
    part                energy and forces           training step
    ==================  ==========================  =================================
    nets                2: value, derivative        6: these, tangent, adjoint, and
                                                    the weights' gradient through
                                                    value and derivative
    products            3: value, derivatives with  9: these, and the adjoint of each,
                        respect to both factors     2 for 1
    ==================  ==========================  =================================

    Neighbour lists, activation functions and the environment matrix are left out.
    """
    nets, products = (6, 9) if training else (2, 3)
    channels = problem.EMBEDDING[-1]
    embedding = nets * _products([1, *problem.EMBEDDING])
    if compressed:
        embedding = 9 * channels
    per_pair = embedding + products * 4 * channels
    per_atom = nets * _fitting() + products * 4 * problem.AXIS * channels
    return 2.0 * (pairs * per_pair + natoms * per_atom)


def floor(
    rates: dict[str, float], flops: float, precision: str, *, update: bool = False
) -> float:
    """Least seconds: operations at the best product rate, and bytes at that of copies.

    Memory counts in the update of the weights: Adam reads the gradient, and reads and
    writes the weights and two moments, 7 arrays of the size of the weights (a fitting
    net for each type, an embedding net for each type and virtual type). All else can
    stay in the cache.
    """
    rate = max(rates[f"{precision} {shape}"] for shape in SHAPES)
    seconds = flops / (1e9 * rate)
    if update:
        types = len(problem.USE_SPIN)
        weights = types * _fitting()
        weights += (types + sum(problem.USE_SPIN)) * _products([1, *problem.EMBEDDING])
        seconds += 7 * weights * np.dtype(precision).itemsize / (1e9 * rates["copy"])
    return seconds


def foreign_seconds() -> float:
    """CPU seconds that all but this process and its former children have used.

    Of Linux' ``/proc/stat``; elsewhere 0.
    """
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system = map(int, stat.readline().split()[1:4])
    except OSError:
        return 0.0
    everything = (user + nice + system) / os.sysconf("SC_CLK_TCK")
    return everything - sum(os.times()[:4])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(os.environ["OMP_NUM_THREADS"]))) + "\n")
