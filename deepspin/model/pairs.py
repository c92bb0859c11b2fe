# SPDX-License-Identifier: Apache-2.0
"""What evaluation in plain TensorFlow is made of, whatever the spin scheme.

Points are numbered atoms first, then as many more kinds as a scheme has, `nall` each:
atoms whose energies are asked for (centres), then ghosts, atoms that are only seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def separations(
    points: tf.Tensor, inputs: dict
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Neighbour minus centre (nf, nloc, width, 3) by type, and which are filled.

    Of a domain, centres are the atoms before its ghosts.

    Parameters
    ----------
    points : tf.Tensor, shape (nf, npoints, 3)
        Positions in Å of all that atoms may see.
    inputs : dict
        Of `SpinEnergyModel`.
    """
    centre = inputs["coord"][:, :, None]
    vectors = tf.unstack(inputs["box"][:, None, None], num=3, axis=3)  # f 1 1 x each
    diff, filled = [], []
    for nlist, shift in zip(inputs["nlist"], inputs["shift"], strict=True):
        there = tf.gather(points, tf.maximum(nlist, 0), batch_dims=1)
        along = tf.split(tf.cast(shift, tf.float64), 3, axis=-1)
        translation = sum(n * a for n, a in zip(along, vectors, strict=True))
        diff.append(there + translation - centre)
        filled.append(tf.convert_to_tensor(nlist) >= 0)
    return diff, filled


def forces_on_points(
    pull: list, nlist: Sequence, npoints: tf.Tensor | int
) -> tf.Tensor:
    """Forces (nf, npoints, 3) from dE/d(separation) of each neighbour, in eV/Å.

    As if each point moved alone.
    """
    on_centre = sum(tf.reduce_sum(g, axis=2) for g in pull)  # f i x
    on_points = -collect(pull, nlist, npoints)
    none = tf.zeros_like(on_points[:, length(on_centre) :])
    return on_points + tf.concat([on_centre, none], axis=1)


def virials(
    pull: list, apart: list, nlist: Sequence, nall: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Virial of each neighbour's owner, V_ab = -sum g_a r_b in eV, and their sum.

    Parameters
    ----------
    pull : list of tf.Tensor, each of shape (nf, nloc, width, 3)
        dE/d(separation).
    apart : list of tf.Tensor, likewise
        Position of each neighbour's owner relative to the centre, in Å.
    nlist : sequence of tf.Tensor of int32, each of shape (nf, nloc, width)
        Neighbouring points, -1 in empty slots.
    nall : int
        Number of atoms, ghosts too.
    """
    g, r = tf.concat(pull, axis=2), tf.concat(apart, axis=2)
    points = tf.concat(list(nlist), axis=2)
    product = g[..., :, None] * r[..., None, :]
    outer = tf.reshape(product, tf.concat([tf.shape(points), [9]], axis=0))
    total = tf.reduce_sum(outer, axis=[1, 2])
    each = collect([outer], [tf.where(points >= 0, points % nall, points)], nall)
    nf = tf.shape(total)[0]
    return tf.reshape(-each, [nf, nall, 3, 3]), tf.reshape(-total, [nf, 3, 3])


def length(mask: tf.Tensor) -> tf.Tensor | int:
    """Second dimension, static where it is known."""
    static = mask.shape[1]
    return tf.shape(mask)[1] if static is None else static


def lengths(masks: Sequence[tf.Tensor]) -> list:
    """Second dimensions: all static or all tensors, Keras takes no mixture."""
    static = [mask.shape[1] for mask in masks]
    return [tf.shape(m)[1] for m in masks] if None in static else static


def all_slots(inputs: dict) -> tf.Tensor:
    """1 where there is an atom, whatever its type, (nf, nloc) in float64."""
    return tf.concat([tf.cast(m, tf.float64) for m in inputs["mask"]], axis=1)


def with_ghosts(inputs: dict, name: str) -> tf.Tensor:
    """``coord`` or ``spin`` of centres and ghosts, (nf, nall, 3)."""
    if "ghosts" not in inputs:
        return inputs[name]
    return tf.concat([inputs[name], inputs["ghosts"][name]], axis=1)


def counts(inputs: dict) -> list:
    """Number of centres of each type, and of ghosts of each type if there are any."""
    ghosts = inputs["ghosts"]["mask"] if "ghosts" in inputs else ()
    return lengths([*inputs["mask"], *ghosts])


def collect(values: list, nlist: Sequence, npoints: tf.Tensor | int) -> tf.Tensor:
    """Sum what each pair gives its neighbour, (nf, npoints, k)."""
    index = tf.concat(list(nlist), axis=2)
    value = tf.concat(values, axis=2)
    nf, k = tf.shape(index)[0], value.shape[-1]
    frame = tf.range(nf)[:, None, None]
    flat = tf.where(index >= 0, frame * npoints + index, -1)  # -1 is dropped
    total = tf.math.unsorted_segment_sum(
        tf.reshape(value, [-1, k]), tf.reshape(flat, [-1]), nf * npoints
    )
    return tf.reshape(total, [nf, npoints, k])
