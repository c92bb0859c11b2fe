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


def random_inputs(
    model, seed=0, nf=2, natoms=None, widths=None, *, lonely=(), gone=(), ghosts=None
):
    """Inputs with any neighbours at all: what the operations see need not be physical.

    Parameters
    ----------
    natoms, widths : sequence of int, optional
        Slots of each type of atom, and of neighbours of each type.
    lonely : sequence of int
        Atoms without any neighbour.
    gone : sequence of int
        Slots that hold no atom; their neighbours, if any, must not matter.
    ghosts : sequence of int, optional
        Atoms of each type that are only seen.
    """
    rng = np.random.default_rng(seed)
    ntypes, nblocks = len(model.type_map), len(model.descriptor.sel)
    natoms = [3] * ntypes if natoms is None else list(natoms)
    widths = [5, 3, 7, 4, 6][:nblocks] if widths is None else list(widths)
    nloc, nall = sum(natoms), sum(natoms) + sum(ghosts or [])
    corners = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)
    draw = {"ener_spin": _any_points, "invariant": _of_own_type}[model.spin.scheme.name]
    lists, shifts = [], []
    for block, width in enumerate(widths):
        shape = (nf, nloc, width)
        nlist, shift = draw(rng, model, block, shape, natoms, ghosts)
        nlist[:, list(lonely)] = -1
        lists.append(nlist.astype(np.int32))
        shifts.append(shift.astype(np.int32))
    there = np.ones((nf, nloc), dtype=bool)
    there[:, list(gone)] = False
    coord = 1.4 * corners[:nall] + rng.uniform(-0.2, 0.2, (nf, nall, 3))
    spin = rng.uniform(0.6, 1.2, (nf, nall, 3)) * rng.choice([-1, 1], (nf, nall, 1))
    inputs = {
        "coord": coord[:, :nloc],
        "spin": spin[:, :nloc],
        "box": 2.3 * np.eye(3) + rng.uniform(-0.3, 0.3, (nf, 3, 3)),
        "mask": tuple(np.split(there, np.cumsum(natoms)[:-1], axis=1)),
        "nlist": tuple(lists),
        "shift": tuple(shifts),
    }
    if ghosts is not None:
        mask = tuple(np.ones((nf, n), dtype=bool) for n in ghosts)
        inputs["ghosts"] = {
            "coord": coord[:, nloc:],
            "spin": spin[:, nloc:],
            "mask": mask,
        }
    return tf.nest.map_structure(tf.constant, inputs)


def _any_points(rng, model, block, shape, natoms, ghosts):
    """A list of a scheme with virtual atoms, whose block does not matter."""
    del block, ghosts
    nloc = sum(natoms)
    scale = np.array(model.spin.scheme.codec.scale)[: len(natoms)]
    exists = np.append(np.ones(nloc, dtype=bool), np.repeat(scale > 0, natoms))
    nlist = rng.integers(-1, 2 * nloc, shape)
    itself = nlist == np.arange(nloc)[:, None]
    nlist = np.where(itself, nlist + nloc, nlist)  # its own virtual atom
    nlist = np.where(exists[nlist], nlist, -1)
    shift = rng.integers(-1, 2, (*shape, 3))
    # no atom is its own image: a virtual atom of the same cell is near
    return nlist, shift * (nlist < nloc)[..., None]


def _of_own_type(rng, model, block, shape, natoms, ghosts):
    """A list of atoms of the block's type, ghosts and images of itself among them."""
    del model
    nloc, begin = sum(natoms), sum(natoms[:block])
    own = [-1, *range(begin, begin + natoms[block])]
    if ghosts is not None:
        begin = nloc + sum(ghosts[:block])
        own += range(begin, begin + ghosts[block])
    nlist = rng.choice(own, shape)
    shift = rng.integers(-1, 2, (*shape, 3))
    itself = nlist == np.arange(nloc)[:, None]
    nlist[itself & (shift == 0).all(axis=-1)] = -1
    return nlist, shift


def upstream(outputs, seed=0):
    """Random weights of all outputs in a functional of them."""
    rng = np.random.default_rng((seed, 1))
    return {k: tf.constant(rng.normal(size=outputs[k].shape)) for k in OUTPUTS}


def movable(inputs) -> dict:
    """Arrays of numbers that derivatives may be taken in, ghosts' too."""
    result = {name: inputs[name] for name in INPUTS}
    ghosts = inputs.get("ghosts", {})
    return result | {f"ghosts/{k}": ghosts[k] for k in INPUTS if k in ghosts}


def everything(model, inputs, *, plain=False, training=True, seed=0) -> dict:
    """Outputs, and gradients of a random functional of all of them, by name."""
    weights = model.trainable_variables
    inputs = dict(inputs)
    with plain_tensorflow() if plain else nullcontext():
        assert model.native != plain
        moving = movable(inputs)
        with tf.GradientTape() as tape:
            tape.watch(moving)
            outputs = model(inputs, training=training)
            factors = upstream(outputs, seed)
            total = sum(tf.reduce_sum(factors[k] * outputs[k]) for k in OUTPUTS)
        sources = [*moving.values(), *(w.value for w in weights)]
        slopes = tape.gradient(total, sources, unconnected_gradients="zero")
    names = [*(f"d/d {k}" for k in moving), *(f"d/d {w.path}" for w in weights)]
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
    positions = {f"d/d {k}" for k in (*INPUTS, "ghosts/coord", "ghosts/spin")}
    limits = {k: second if k in positions else tolerance for k in gaps}
    wrong = {k: v for k, v in gaps.items() if not v <= limits[k]}
    assert not wrong, wrong


def check_gradients(model, inputs) -> None:
    """Central differences of the kernels' own values, in positions and in weights."""
    found = everything(model, inputs)
    factors, step = upstream(found), 1e-5
    rng = np.random.default_rng((0, 2))

    def functional(given):
        outputs = model(given)
        return float(sum(tf.reduce_sum(factors[k] * outputs[k]) for k in OUTPUTS))

    def check(name, along, ends):
        slope = (found[f"d/d {name}"] * along).sum()
        noise = 1e-11 * max(abs(ends[0]), 1.0) / step
        difference = (ends[0] - ends[1]) / (2 * step)
        assert np.isclose(difference, slope, rtol=1e-5, atol=noise), name

    for name in INPUTS:
        along = rng.normal(size=inputs[name].shape)
        steps = (step * along, -step * along)
        check(
            name, along, [functional({**inputs, name: inputs[name] + h}) for h in steps]
        )
    for weight in model.trainable_variables:
        value = weight.numpy()
        along = rng.normal(size=value.shape)
        ends = []
        for h in (step, -step):
            weight.assign(value + h * along)
            ends.append(functional(inputs))
        weight.assign(value)
        check(weight.path, along, ends)


def compare(model, inputs, tolerance=1e-10, second=1e-8, **options) -> dict:
    """Check the kernels against plain TensorFlow; returns the kernels' answer."""
    want = everything(model, inputs, plain=True, **options)
    found = everything(model, inputs, **options)
    assert all(np.isfinite(a).all() for a in want.values())
    assert_twins(found, want, tolerance, second)
    return found


def check_unknown_shapes(model) -> None:
    """One graph for all sizes gives what a call gives, to the bit."""
    inputs = random_inputs(model)

    def spec(x):
        return tf.TensorSpec([None] * x.shape.rank, x.dtype)

    signature = tf.nest.map_structure(spec, inputs)
    for name, last in (("coord", [3]), ("spin", [3]), ("box", [3, 3])):
        rest = [None] * (3 - len(last))
        signature[name] = tf.TensorSpec([*rest, *last], tf.float64)
    call = tf.function(lambda x: model(x), input_signature=[signature])
    found, want = call(inputs), model(inputs)
    for name in want:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)
