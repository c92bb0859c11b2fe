# SPDX-License-Identifier: Apache-2.0
r"""Tables in place of embedding nets: pieces of Chebyshev series.

An embedding net is a function of one number. On a piece [begin, begin + width) it is

.. math:: G_g(u) = \sum_k C_{kg} T_k(\tau), \quad \tau = 2 (u - begin) / width - 1

and beyond the first and the last piece it goes on as a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.op.potential import ORDER
from deepspin.utils.network import ResidualDense, activation

# a pair counts as outside if it is so far beyond, in tau; the kernels' number too
OUTSIDE = 1e-9
# more pieces than this, and the net is not smooth
MAX_PIECES = 64
# narrower pieces than this, in u, and it is not smooth either
MIN_WIDTH = 1e-2
# of the width of a piece that is too wide
SHRINK = 0.85
# points where the largest value and slope of a net are looked for
SAMPLES = 512
# coefficients below this part of the largest are nothing but rounding
ROUNDING = 2e-15


@keras.saving.register_keras_serializable(package="deepspin")
class EmbeddingTable(keras.layers.Layer):
    """A tabulated embedding net; nothing in it can be trained.

    Its weights are `edges`, shape (leaves, 2), begin and width of each piece, without
    gaps and ascending, and `coefficients`, shape (leaves, order, channels).

    Parameters
    ----------
    leaves : int
        Number of pieces.
    channels : int
        Width of the net's last layer.
    """

    def __init__(self, leaves: int, channels: int, **kwargs: Any):
        given = {"dtype": "float64", "autocast": False, "trainable": False, **kwargs}
        super().__init__(**given)
        if leaves < 1:
            raise ValueError(f"A table has at least one piece. Received: {leaves}")
        self.leaves, self.channels = leaves, channels
        self.order = ORDER[self.compute_dtype]
        units = np.stack([np.arange(leaves), np.ones(leaves)], axis=1)
        self.edges = self.add_weight(
            name="edges",
            shape=(leaves, 2),
            dtype="float64",
            initializer=lambda shape, dtype: tf.constant(units, dtype=dtype),
            trainable=False,
        )
        self.coefficients = self.add_weight(
            name="coefficients",
            shape=(leaves, self.order, channels),
            dtype=self.variable_dtype,
            initializer="zeros",
            trainable=False,
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Map x of shape (..., 1), as the net does, to (..., channels)."""
        return tf.tensordot(self.terms(x[..., 0]), self.matrix, axes=1)

    @property
    def matrix(self) -> tf.Tensor:
        """Coefficients of all pieces, shape (leaves * order, channels)."""
        coefficients = tf.convert_to_tensor(self.coefficients)
        return tf.reshape(coefficients, [self.leaves * self.order, self.channels])

    def terms(self, u: tf.Tensor) -> tf.Tensor:
        """Terms of the series of all pieces, 0 in those where `u` is not.

        Parameters
        ----------
        u : tf.Tensor, shape (...)
            Arguments of the net.

        Returns
        -------
        tf.Tensor
            Shape (..., leaves * order); times `matrix` they are the net's values.
        """
        leaf, tau, over = self._locate(u)
        terms = [tf.ones_like(tau), tau]
        while len(terms) < self.order:
            terms.append(2.0 * tau * terms[-1] - terms[-2])
        k = np.arange(self.order)
        right = tf.constant(k**2, dtype=tf.float64)  # T_k'(1), and T_k'(-1)
        left = tf.constant(k**2 * (-1.0) ** (k + 1), dtype=tf.float64)
        over = over[..., None]
        terms = tf.stack(terms, axis=-1) + over * tf.where(over > 0.0, right, left)
        here = tf.one_hot(leaf, self.leaves, dtype=tf.float64)
        each = tf.cast(here[..., None] * terms[..., None, :], self.compute_dtype)
        shape = tf.concat([tf.shape(u), [self.leaves * self.order]], axis=0)
        return tf.reshape(each, shape)

    def outside(self, u: tf.Tensor) -> tf.Tensor:
        """Whether each of `u` is beyond the first or the last piece."""
        return tf.abs(self._locate(u)[2]) > OUTSIDE

    def _locate(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Piece of each `u`, place within it in [-1, 1], and how far beyond that."""
        u = tf.cast(u, tf.float64)
        edges = tf.convert_to_tensor(self.edges)
        passed = tf.cast(u[..., None] >= edges[1:, 0], tf.int32)
        leaf = tf.reduce_sum(passed, axis=-1)
        factor = 2.0 / tf.gather(edges[:, 1], leaf)
        tau = (u - tf.gather(edges[:, 0], leaf)) * factor - 1.0
        inside = tf.clip_by_value(tau, -1.0, 1.0)
        return leaf, inside, tau - inside

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "leaves": self.leaves,
            "channels": self.channels,
        }


@dataclass(frozen=True)
class Table:
    """What `tabulate` makes of a net.

    Parameters
    ----------
    edges, coefficients : np.ndarray
        Weights of an `EmbeddingTable`.
    error : float
        Largest error of the values and of the slopes, relative to the largest ones.
    """

    edges: np.ndarray
    coefficients: np.ndarray
    error: float


def tabulate(
    layers: Sequence[ResidualDense],
    begin: float,
    seen: float,
    end: float,
    tolerance: float,
    widest: float = np.inf,
) -> Table:
    """Tabulate a net, in pieces as wide as the tolerance allows.

    Parameters
    ----------
    layers : sequence of ResidualDense
        The net.
    begin, end : float
        Range of the table, in u.
    seen : float
        End of what the data holds; its largest values are what errors are relative to.
    tolerance : float
        Largest error of values and of slopes, relative to the largest ones.
    widest : float
        Widest piece allowed, in u.

    Raises
    ------
    ValueError
        No number of pieces will do: the net is not smooth, or the tolerance is below
        what the type of its numbers resolves.
    """
    scales = _largest(layers, begin, seen)
    edges: list[tuple[float, float]] = []
    coefficients, error = [], 0.0
    while begin < end:
        # the last piece may reach beyond the end: narrow ones have rough slopes
        width = min(max(end - begin, edges[-1][1] if edges else 0.0), widest)
        series, tail = _expand(layers, begin, width, scales)
        while not tail <= tolerance and width > MIN_WIDTH:
            width *= SHRINK
            series, tail = _expand(layers, begin, width, scales)
        if not tail <= tolerance or len(edges) == MAX_PIECES:
            _refuse(layers, tolerance)
        edges.append((begin, width))
        coefficients.append(series)
        error = max(error, tail)
        begin += width
    return Table(np.array(edges), np.array(coefficients), float(error))


def _refuse(layers: Sequence[ResidualDense], tolerance: float) -> None:
    layer = layers[0]
    raise ValueError(
        f"{MAX_PIECES} pieces of a table do not hold an embedding net to "
        f"{tolerance:.1g} of its largest value and slope, with the activation function "
        f"'{layer.activation_function}' in {layer.compute_dtype}. "
        "Only smooth nets can be tabulated (tanh, gelu, silu, sigmoid, softplus; relu, "
        "relu6 and silut are not smooth): use the model as it is, or a larger --tol."
    )


def _values(layers: Sequence[ResidualDense], u: np.ndarray) -> np.ndarray:
    """Values of a net in float64, shape (channels, len(u))."""
    x = u[:, None]
    for layer in layers:
        matrix, bias = (np.asarray(w, np.float64) for w in (layer.matrix, layer.bias))
        phi = activation(layer.activation_function)
        y = np.asarray(phi(tf.constant(x @ matrix + bias)))
        if layer.idt is not None:
            y = y * np.asarray(layer.idt, np.float64)
        if layer.residual:
            y = y + np.tile(x, layer.n_out // layer.n_in)
        x = y
    return x.T


def _largest(
    layers: Sequence[ResidualDense], begin: float, end: float
) -> tuple[float, float]:
    """Largest value and slope of a net between two points."""
    u = np.linspace(begin, end, SAMPLES)
    values = _values(layers, u)
    slopes = np.diff(values) / (u[1] - u[0])
    return np.abs(values).max(), max(np.abs(slopes).max(), np.finfo(float).tiny)


@cache
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [-1, 1], and what makes coefficients (node, k) of values at them."""
    odd = 2 * np.arange(count) + 1
    turns = np.outer(odd, np.arange(count)) % (4 * count)  # exact, for large k too
    transform = np.cos(np.pi * turns / (2 * count)) * 2.0 / count
    transform[:, 0] /= 2.0
    return np.cos(np.pi * odd / (2 * count)), transform


def _expand(
    layers: Sequence[ResidualDense],
    begin: float,
    width: float,
    scales: tuple[float, float],
) -> tuple[np.ndarray, float]:
    """Series of one piece (order, channels), and what it leaves out.

    Twice as many terms as are kept tell that: their sum bounds the error.
    """
    order = ORDER[layers[0].compute_dtype]
    nodes, transform = _nodes(2 * order)
    values = _values(layers, begin + 0.5 * width * (1.0 + nodes))
    all_terms = (values @ transform).T  # k g
    rest = np.abs(all_terms[order:])
    rest[rest < ROUNDING * np.abs(all_terms).max()] = 0.0
    k = np.arange(order, 2 * order)[:, None]
    value, slope = rest.sum(axis=0).max(), (k**2 * rest).sum(axis=0).max() * 2.0 / width
    return all_terms[:order], max(value / scales[0], slope / scales[1])
