# SPDX-License-Identifier: Apache-2.0
"""Tables of embedding nets in the form that DeePMD-kit's operations read.

Each row holds, for each channel g, the six coefficients of a polynomial in the distance
to its node; nodes are a step apart, and beyond a point in between ten steps.
"""

from __future__ import annotations

import numpy as np

from deepspin.descriptor.table import EmbeddingTable

# of a step, by which the ends lie behind the last nodes: counting is done by division
MARGIN = 1e-9


def quintic_table(
    table: EmbeddingTable, extrapolate: float, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Quintic polynomials with a table's values, slopes and curvatures at the nodes.

    Parameters
    ----------
    table : EmbeddingTable
        The table.
    extrapolate : float
        How many times as far as data it reaches; nodes are closer where data is.
    step : float
        Distance of nodes there, in u; ten times that beyond.

    Returns
    -------
    rows : np.ndarray, shape (nodes, 6 * channels)
        Coefficients, those of one channel side by side.
    info : np.ndarray, shape (6,)
        Begin, end of the close nodes, end, both steps, and -1: what lies beyond is not
        looked for.
    """
    edges = np.asarray(table.edges)
    begin, end = edges[0, 0], edges[-1].sum()
    fine, coarse = _nodes(begin, end, extrapolate, step)
    steps = fine[1] - fine[0], coarse[1] - coarse[0]
    rows = np.concatenate([_rows(table, fine), _rows(table, coarse)])
    # beyond the end, where a division might lead, it stays as it is there
    rows = np.concatenate([rows, rows[-1:]])
    ends = fine[-1] + MARGIN * steps[0], coarse[-1] + MARGIN * steps[1]
    return rows, np.array([begin, *ends, *steps, -1.0])


def _nodes(
    begin: float, end: float, extrapolate: float, step: float
) -> tuple[np.ndarray, np.ndarray]:
    seen = begin + (end - begin) / extrapolate
    if extrapolate <= 1.0:  # a coarse part there must be
        seen = end - step
    fine = np.linspace(begin, seen, int(np.ceil((seen - begin) / step)) + 1)
    coarse = np.linspace(seen, end, int(np.ceil((end - seen) / (10.0 * step))) + 1)
    return fine, coarse


def _rows(table: EmbeddingTable, nodes: np.ndarray) -> np.ndarray:
    """Polynomials between neighbouring nodes, (nodes - 1, 6 * channels)."""
    (v, w), (dv, dw), (ddv, ddw) = ((x[:-1], x[1:]) for x in _derivatives(table, nodes))
    h = np.diff(nodes)[:, None]
    rise = w - v - h * (dv + 0.5 * h * ddv)
    slope = h * (dw - dv - h * ddv)
    bend = h * h * (ddw - ddv)
    coefficients = [
        v,
        dv,
        0.5 * ddv,
        (10.0 * rise - 4.0 * slope + 0.5 * bend) / h**3,
        (-15.0 * rise + 7.0 * slope - bend) / h**4,
        (6.0 * rise - 3.0 * slope + 0.5 * bend) / h**5,
    ]
    return np.stack(coefficients, axis=-1).reshape(len(v), -1)


def _derivatives(table: EmbeddingTable, u: np.ndarray) -> list[np.ndarray]:
    """Values, slopes and curvatures of a table within its range, each (u, channels)."""
    edges = np.asarray(table.edges)
    series = np.asarray(table.coefficients, np.float64)
    leaf = np.searchsorted(edges[1:, 0], u, side="right")
    result = [np.empty((len(u), table.channels)) for _ in range(3)]
    for k, (begin, width) in enumerate(edges):
        here = leaf == k
        tau = 2.0 * (u[here] - begin) / width - 1.0
        terms = series[k]
        for values in result:
            values[here] = np.polynomial.chebyshev.chebval(tau, terms).T
            terms = np.polynomial.chebyshev.chebder(terms) * 2.0 / width
    return result
