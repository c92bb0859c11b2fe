# SPDX-License-Identifier: Apache-2.0
"""Environment matrix and descriptor of `se_e2_a`: plain numpy loops over every slot."""

import itertools

import numpy as np


def weight(r, rcut, rcut_smth):
    """Switch with the cutoffs held and subtracted in float32."""
    end, begin = np.float32(rcut), np.float32(rcut_smth)
    u = (r - float(begin)) / float(end - begin)
    if r < float(begin):
        return 1.0
    return u**3 * (-6 * u**2 + 15 * u - 10) + 1 if r < float(end) else 0.0


def row(diff, rcut, rcut_smth, protection=0.0):
    """One row of the environment matrix."""
    r = np.sqrt(diff @ diff)
    w = weight(r, rcut, rcut_smth)
    return np.array([w / (r + protection), *(w * diff / (r + protection) ** 2)])


def net(layers, x):
    for layer in layers:
        y = np.tanh(x @ np.asarray(layer.matrix) + np.asarray(layer.bias))
        if layer.idt is not None:
            y = y * np.asarray(layer.idt)
        if y.shape[1] == x.shape[1]:
            y = y + x
        elif y.shape[1] == 2 * x.shape[1]:
            y = y + np.concatenate([x, x], axis=1)
        x = y
    return x


def separations(model, frame):
    """For each atom and block, all separations within the cutoff, by brute force."""
    ntypes, rcut = len(model.type_map), model.descriptor.rcut
    spin_types = [t for t in range(ntypes) if model.spin.scheme.types.use_spin[t]]
    points = [
        (t, frame.coord[i], (0, 0, 0) if frame.box is None else None)
        for i, t in enumerate(frame.atype)
    ]
    points += [
        (ntypes + spin_types.index(t), frame.coord[i] + frame.scale[i] * frame.spin[i])
        for i, t in enumerate(frame.atype)
        if t in spin_types
    ]
    images = [np.zeros(3)]
    if frame.box is not None:
        images = [
            np.array(n) @ frame.box for n in itertools.product(range(-2, 3), repeat=3)
        ]
    result = []
    for centre in frame.coord:
        blocks = [[] for _ in model.descriptor.sel]
        for block, point, *_ in points:
            for image in images:
                diff = point + image - centre
                if 1e-10 < np.linalg.norm(diff) < rcut:
                    blocks[block].append(diff)
        result.append(blocks)
    return result


def descriptors(model, frame):
    """The whole descriptor with every slot, the empty ones too, as a row."""
    d = model.descriptor
    davg, dstd = np.asarray(d.davg), np.asarray(d.dstd)
    result = []
    for t, blocks in zip(frame.atype, separations(model, frame), strict=True):
        total = np.zeros((4, d.neuron[-1]))
        for e, diffs in enumerate(blocks):
            if (t, e) in d._excluded:
                continue
            rows = np.zeros((d.sel[e], 4))
            for slot, diff in enumerate(diffs):
                rows[slot] = row(diff, d.rcut, d.rcut_smth, d.env_protection)
            rows = (rows - davg[t]) / dstd[t]
            total += rows.T @ net(d.net(t, e), rows[:, :1])
        total /= sum(d.sel)
        result.append((total.T @ total[:, : d.axis_neuron]).ravel())
    return np.array(result)
