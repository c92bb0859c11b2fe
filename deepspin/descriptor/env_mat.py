# SPDX-License-Identifier: Apache-2.0
"""The environment matrix: what an atom sees, before any net.

Letters: ``nf`` frames, ``nloc`` centres, ``width`` neighbour slots of one type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def divided(x: tf.Tensor, sizes: Sequence[tf.Tensor | int], axis: int) -> list:
    """Parts of an array along an axis, of sizes that are known or not."""
    if all(isinstance(n, int) for n in sizes):
        return tf.split(x, list(sizes), axis=axis)
    return tf.split(x, tf.stack(sizes), axis=axis, num=len(sizes))


def check_sizes(
    rcut: float, rcut_smth: float, neuron: Sequence[int], axis_neuron: int
) -> None:
    """Refuse radii, or widths, that contradict each other: `ValueError`."""
    if not 0 <= rcut_smth < rcut:
        raise ValueError(
            "`rcut_smth` must be at least 0 and below `rcut`. "
            f"Received: rcut_smth={rcut_smth}, rcut={rcut}"
        )
    if axis_neuron > neuron[-1]:
        raise ValueError(
            "`axis_neuron` must not exceed the last width of `neuron`. "
            f"Received: axis_neuron={axis_neuron}, neuron={list(neuron)}"
        )


def float32_range(rcut: float, rcut_smth: float) -> tuple[float, float, float]:
    """Cutoff, begin of smoothing and their difference as DeePMD-kit's op has them.

    It holds both in float32 and subtracts in float32; 5.6 - 5.4 is then 0.1999998, and
    models trained there mean that.
    """
    end, begin = np.float32(rcut), np.float32(rcut_smth)
    return float(end), float(begin), float(end - begin)


def cutoff_range(
    rcut: float, rcut_smth: float, float32: bool
) -> tuple[float, float, float]:
    """The same, or the numbers themselves, which DeePMD-kit's other backends use."""
    if float32:
        return float32_range(rcut, rcut_smth)
    return rcut, rcut_smth, rcut - rcut_smth


def smooth_weight(
    r: tf.Tensor, rcut: float, rcut_smth: float, float32: bool = True
) -> tf.Tensor:
    r"""Switch from 1 to 0 between `rcut_smth` and `rcut`, twice differentiable.

    .. math:: w = u^3(-6u^2 + 15u - 10) + 1, \quad
              u = \frac{r - r_\mathrm{smth}}{r_\mathrm{cut} - r_\mathrm{smth}}

    Parameters
    ----------
    r : tf.Tensor
        Distances in Å, any shape.
    rcut, rcut_smth : float
        End and begin of the switch in Å.
    float32 : bool
        See `cutoff_range`.

    References
    ----------
    .. [1] L. Zhang et al., NeurIPS 31, 4436 (2018), arXiv:1805.09003.
    """
    end, begin, length = cutoff_range(rcut, rcut_smth, float32)
    u = (r - begin) / length
    inside = u * u * u * (u * (15.0 - 6.0 * u) - 10.0) + 1.0
    one, zero = tf.ones_like(r), tf.zeros_like(r)
    return tf.where(r < begin, one, tf.where(r < end, inside, zero))


def environment_matrix(
    diff: tf.Tensor,
    filled: tf.Tensor,
    rcut: float,
    rcut_smth: float,
    protection: float = 0.0,
    float32: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Rows :math:`(s, s x/r, s y/r, s z/r)` with :math:`s = w(r)/r`.

    Parameters
    ----------
    diff : tf.Tensor, shape (..., 3)
        Neighbour minus centre in Å.
    filled : tf.Tensor of bool, shape (...)
        Whether the slot holds a neighbour.
    rcut, rcut_smth : float
        Cutoff and begin of smoothing in Å.
    protection : float
        Added to r where it divides, in Å, so that coinciding points stay finite.
    float32 : bool
        See `cutoff_range`.

    Returns
    -------
    radial : tf.Tensor, shape (...)
        s in 1/Å, 0 in empty slots.
    angular : tf.Tensor, shape (..., 3)
        s x/r and so on, 0 in empty slots.
    """
    square = tf.reduce_sum(diff * diff, axis=-1)
    usable = filled & (square > 0.0)  # sqrt has no gradient at 0
    r = tf.sqrt(tf.where(usable, square, tf.ones_like(square)))
    if protection:
        r = tf.where(usable, r, tf.zeros_like(r))
    else:  # points that coincide have no energy, rather than a wrong one
        r = tf.where(usable | ~filled, r, np.nan * tf.ones_like(r))
    weight = tf.where(
        filled, smooth_weight(r, rcut, rcut_smth, float32), tf.zeros_like(r)
    )
    inverse = 1.0 / (r + protection)
    radial = weight * inverse
    return radial, (radial * inverse)[..., None] * diff
