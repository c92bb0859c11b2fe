# SPDX-License-Identifier: Apache-2.0
"""Dense layers with DeePMD-kit's residual rules, and the nets made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def silut(threshold: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """SiLU up to `threshold`, from there on a tanh that joins it with equal slope."""
    sigmoid = 1.0 / (1.0 + math.exp(-threshold))
    value = threshold * sigmoid
    slope = sigmoid + value * (1.0 - sigmoid)

    def activation(x: tf.Tensor) -> tf.Tensor:
        # each branch sees arguments of its own side only, or its gradient overflows
        low = tf.minimum(x, threshold)
        high = tf.maximum(x, threshold)
        tail = tf.tanh(slope * (high - threshold)) + value
        return tf.where(x < threshold, low * tf.sigmoid(low), tail)

    return activation


def gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU in its tanh form; TensorFlow's own holds 0.044715 in float32."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "softplus": tf.nn.softplus,
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "gelu": gelu,
    "gelu_tf": lambda x: tf.nn.gelu(x, approximate=True),
    "silu": lambda x: x * tf.sigmoid(x),
    "silut": silut(3.0),
    "linear": lambda x: x,
    "none": lambda x: x,
}


def activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Activation function by DeePMD-kit's name, ``silut:T`` included."""
    key = str(name).lower()
    if key.startswith("silut:"):
        return silut(float(key.split(":", 1)[1]))
    try:
        return ACTIVATIONS[key]
    except KeyError:
        raise ValueError(
            f"Unknown activation function. Received: {name!r}; expected one of "
            f"{sorted(ACTIVATIONS)} or 'silut:THRESHOLD'."
        ) from None


def multiply(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Product over the last dimension of `x`, as one product of two matrices.

    `tf.matmul` would copy the matrix for each of the leading dimensions.
    """
    if x.shape.rank == 2:
        return tf.matmul(x, matrix)
    return _as_before(tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix), x)


def _as_before(rows: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Rows (:, n), of what was (..., m) in `x`, as (..., n)."""
    n = rows.shape[-1]
    if x.shape.is_fully_defined():
        return tf.reshape(rows, [*x.shape[:-1], n])
    return tf.reshape(rows, tf.concat([tf.shape(x)[:-1], [n]], axis=0))


def dense(
    x: tf.Tensor,
    matrix: tf.Tensor,
    bias: tf.Tensor,
    idt: tf.Tensor | None,
    *,
    phi: Callable[[tf.Tensor], tf.Tensor],
    residual: bool,
) -> tf.Tensor:
    """What `ResidualDense` does with its weights: (..., n_in) to (..., n_out)."""
    y = phi(multiply(x, matrix) + bias)
    if idt is not None:
        y = y * idt
    n_in, n_out = matrix.shape
    if residual and n_out == n_in:
        y = y + x
    elif residual and n_out == 2 * n_in:
        y = y + tf.concat([x, x], axis=-1)
    return y


@keras.saving.register_keras_serializable(package="deepspin")
class ResidualDense(keras.layers.Layer):
    r"""Dense layer, with the identity added where the caller asks for it.

    .. math:: y = [\mathrm{idt} *]\, \phi(x W + b) \, [+ x \text{ or } (x, x)]

    Initial weights are DeePMD-kit's: W normal with variance 1/(n_in + n_out), b
    standard normal, idt normal around 0.1 with standard deviation 0.001.

    Parameters
    ----------
    n_in, n_out : int
        Widths.
    activation_function : str
        Name of :math:`\phi`.
    residual : bool
        Add x where n_out = n_in, (x, x) where n_out = 2 n_in.
    use_timestep : bool
        Whether there is an idt.
    seed : sequence of int, optional
        Seed of the initial weights; None takes fresh entropy.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        activation_function: str = "tanh",
        residual: bool = False,
        use_timestep: bool = False,
        seed: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        self.n_in, self.n_out = n_in, n_out
        self.activation_function = activation_function
        self.residual = residual
        self.use_timestep = use_timestep
        self.seed = seed
        self.phi = activation(activation_function)
        random = np.random.default_rng(seed)
        self.matrix = self._normal(
            "matrix", random.normal(0.0, 1.0 / math.sqrt(n_in + n_out), (n_in, n_out))
        )
        self.bias = self._normal("bias", random.normal(0.0, 1.0, n_out))
        self.idt = None
        if use_timestep:
            self.idt = self._normal("idt", random.normal(0.1, 0.001, n_out))
        self.built = True

    def _normal(self, name: str, value: np.ndarray) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype=self.variable_dtype,
            initializer=lambda shape, dtype: tf.constant(value, dtype=dtype),
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Map x of shape (..., n_in) to (..., n_out)."""
        weights = self.matrix, self.bias, self.idt
        return dense(x, *weights, phi=self.phi, residual=self.residual)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "n_in": self.n_in,
            "n_out": self.n_out,
            "activation_function": self.activation_function,
            "residual": self.residual,
            "use_timestep": self.use_timestep,
            "seed": self.seed,
        }


def embedding_layers(
    neuron: Sequence[int],
    activation_function: str,
    resnet_dt: bool,
    seed: Sequence[int] | None,
    **kwargs: Any,
) -> list[ResidualDense]:
    """Layers of an embedding net: one input, residual wherever widths allow it."""
    widths = [1, *neuron]
    layers = []
    for k, (n_in, n_out) in enumerate(pairwise(widths)):
        residual = n_out in (n_in, 2 * n_in)
        layers.append(
            ResidualDense(
                n_in,
                n_out,
                activation_function=activation_function,
                residual=residual,
                use_timestep=resnet_dt and residual,
                seed=None if seed is None else (*seed, k),
                **kwargs,
            )
        )
    return layers


def fitting_layers(
    n_in: int,
    neuron: Sequence[int],
    activation_function: str,
    resnet_dt: bool,
    trainable: Sequence[bool],
    seed: Sequence[int] | None,
    **kwargs: Any,
) -> list[ResidualDense]:
    """Layers of a fitting net: residual from the second on where the width stays.

    The last layer is linear, with one output.
    """
    widths = [n_in, *neuron]
    layers = []
    for k, (width, n_out) in enumerate(pairwise(widths)):
        residual = k > 0 and n_out == width
        layers.append(
            ResidualDense(
                width,
                n_out,
                activation_function=activation_function,
                residual=residual,
                use_timestep=resnet_dt and residual,
                trainable=trainable[k],
                seed=None if seed is None else (*seed, k),
                **kwargs,
            )
        )
    layers.append(
        ResidualDense(
            widths[-1],
            1,
            activation_function="linear",
            trainable=trainable[-1],
            seed=None if seed is None else (*seed, len(neuron)),
            **kwargs,
        )
    )
    return layers


def run(layers: Sequence[ResidualDense], x: tf.Tensor) -> tf.Tensor:
    """Apply layers one after another.

    To the rows of one matrix: each layer would else reshape on its own, and to build
    a graph takes a time that goes with the number of its operations.
    """
    rows = tf.reshape(x, [-1, layers[0].n_in])
    for layer in layers:
        rows = layer(rows)
    return _as_before(rows, x)


def layer_weights(layers: Sequence[ResidualDense]) -> list[tf.Tensor]:
    """Matrix, bias and, where there is one, time step of each layer."""
    weights = (w for x in layers for w in (x.matrix, x.bias, x.idt) if w is not None)
    return [tf.convert_to_tensor(w) for w in weights]
