# SPDX-License-Identifier: Apache-2.0
"""Random models and inputs for the compiled operations, and their twin's answer."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import tensorflow as tf

from deepspin.op.library import plain_tensorflow

OUTPUTS = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")
INPUTS = ("coord", "spin", "box")


def steepen(model, factor):
    """Multiply the matrices and biases of all embedding nets."""
    for layer in model.descriptor.nets:
        layer.matrix.assign(factor * layer.matrix)
        layer.bias.assign(factor * layer.bias)
    return model


def random_inputs(model, seed=0, nf=2, natoms=None, widths=None, *, lonely=(), gone=()):
    """Inputs with any neighbours at all: what the operations see need not be physical.

    Parameters
    ----------
    natoms, widths : sequence of int, optional
        Slots of each type of atom, and of neighbours of each type.
    lonely : sequence of int
        Atoms without any neighbour.
    gone : sequence of int
        Slots that hold no atom; their neighbours, if any, must not matter.
    """
    rng = np.random.default_rng(seed)
    ntypes, nblocks = len(model.type_map), len(model.descriptor.sel)
    natoms = [3] * ntypes if natoms is None else list(natoms)
    widths = [5, 3, 7, 4, 6][:nblocks] if widths is None else list(widths)
    nloc = sum(natoms)
    magnetic = np.repeat(np.array(model.spin.scheme.codec.scale)[:ntypes] > 0, natoms)
    corners = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)
    corners = corners[:nloc]
    lists, shifts = [], []
    for width in widths:
        nlist = rng.integers(-1, 2 * nloc, (nf, nloc, width))
        itself = nlist == np.arange(nloc)[:, None]
        nlist = np.where(itself, nlist + nloc, nlist)  # its own virtual atom
        nlist = np.where(
            np.append(np.ones(nloc, dtype=bool), magnetic)[nlist], nlist, -1
        )
        nlist[:, list(lonely)] = -1
        lists.append(nlist.astype(np.int32))
        shifts.append(rng.integers(-1, 2, (nf, nloc, width, 3)).astype(np.int32))
        # no atom is its own image: a virtual atom of the same cell is near
        shifts[-1] *= (nlist < nloc)[..., None]
    there = np.ones((nf, nloc), dtype=bool)
    there[:, list(gone)] = False
    inputs = {
        "coord": 1.4 * corners + rng.uniform(-0.2, 0.2, (nf, nloc, 3)),
        "spin": rng.uniform(0.6, 1.2, (nf, nloc, 3))
        * rng.choice([-1, 1], (nf, nloc, 1)),
        "box": 2.3 * np.eye(3) + rng.uniform(-0.3, 0.3, (nf, 3, 3)),
        "mask": tuple(np.split(there, np.cumsum(natoms)[:-1], axis=1)),
        "nlist": tuple(lists),
        "shift": tuple(shifts),
    }
    return tf.nest.map_structure(tf.constant, inputs)


def upstream(outputs, seed=0):
    """Random weights of all outputs in a functional of them."""
    rng = np.random.default_rng((seed, 1))
    return {k: tf.constant(rng.normal(size=outputs[k].shape)) for k in OUTPUTS}


def everything(model, inputs, *, plain=False, training=True, seed=0) -> dict:
    """Outputs, and gradients of a random functional of all of them, by name."""
    weights = model.trainable_variables
    inputs = dict(inputs)
    with plain_tensorflow() if plain else nullcontext():
        assert model.native != plain
        with tf.GradientTape() as tape:
            tape.watch([inputs[k] for k in INPUTS])
            outputs = model(inputs, training=training)
            factors = upstream(outputs, seed)
            total = sum(tf.reduce_sum(factors[k] * outputs[k]) for k in OUTPUTS)
        sources = [*(inputs[k] for k in INPUTS), *(w.value for w in weights)]
        slopes = tape.gradient(total, sources, unconnected_gradients="zero")
    names = [*(f"d/d {k}" for k in INPUTS), *(f"d/d {w.path}" for w in weights)]
    slopes = [tf.convert_to_tensor(s) for s in slopes]
    result = {k: outputs[k].numpy() for k in OUTPUTS}
    return result | {k: s.numpy() for k, s in zip(names, slopes, strict=True)}


def distances(found, want) -> dict[str, float]:
    """Largest difference of each array, relative.

    Of outputs, to the largest of all of them: forces may cancel each other; of
    gradients to their own largest, or to 1e-3.
    """
    largest = max(np.abs(want[k]).max(initial=1e-3) for k in OUTPUTS)
    result = {}
    for name in want:
        assert found[name].shape == want[name].shape, name
        own = max(np.abs(want[name]).max(initial=0.0), 1e-3)
        gap = np.abs(found[name].astype(float) - want[name]).max(initial=0.0)
        result[name] = float(gap / (largest if name in OUTPUTS else own))
    return result


def assert_twins(found, want, tolerance=1e-10, second=1e-8) -> None:
    """All arrays agree, relative to the largest value of each.

    Gradients in the positions are second derivatives of the series, `second`, and lose
    more digits.
    """
    gaps = distances(found, want)
    positions = {f"d/d {k}" for k in INPUTS}
    limits = {k: second if k in positions else tolerance for k in gaps}
    wrong = {k: v for k, v in gaps.items() if not v <= limits[k]}
    assert not wrong, wrong


def compare(model, inputs, tolerance=1e-10, second=1e-8, **options) -> dict:
    """Check the kernels against plain TensorFlow; returns the kernels' answer."""
    want = everything(model, inputs, plain=True, **options)
    found = everything(model, inputs, **options)
    assert all(np.isfinite(a).all() for a in want.values())
    assert_twins(found, want, tolerance, second)
    return found
