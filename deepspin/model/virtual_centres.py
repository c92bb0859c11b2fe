# SPDX-License-Identifier: Apache-2.0
"""What virtual atoms see, for DeePMD-kit's statistics; no energy depends on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from deepspin.data import nlist
from deepspin.descriptor.env_mat import environment_matrix
from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.spins.virtual import VirtualAtoms


def moments_of_virtual(
    scheme: VirtualAtoms,
    descriptor: DescrptSeA,
    inputs: dict,
    points: np.ndarray,
    batches: Sequence[slice],
) -> list[np.ndarray]:
    """What `DescrptSeA.moments` is of atoms, of virtual atoms as centres.

    No energy depends on what these see; DeePMD-kit has their statistics, too.

    Parameters
    ----------
    scheme : VirtualAtoms
        The model's scheme.
    descriptor : DescrptSeA
        The model's descriptor.
    inputs : dict
        Of `SpinEnergyModel`.
    points : np.ndarray, shape (nf, 2 nloc, 3)
        Atoms, then their virtual atoms, in Å.
    batches : sequence of slice
        The frames of each batch.

    Returns
    -------
    list of np.ndarray, each (nblocks, number of types with spin, 5)
    """
    counts = [mask.shape[1] for mask in inputs["mask"]]
    atype = np.repeat(np.arange(scheme.ntypes), counts)
    there = np.concatenate([np.asarray(m) for m in inputs["mask"]], axis=1) > 0
    magnetic = np.flatnonzero(scheme.types.is_magnetic(atype))
    owned = scheme.codec.virtual_type(atype)
    each = np.zeros((len(points), scheme.nblocks, len(scheme.types.spin_types), 5))
    for f, (frame, box) in enumerate(zip(points, inputs["box"], strict=True)):
        centres = magnetic[there[f, magnetic]]
        atoms = np.flatnonzero(there[f])
        sites = np.concatenate([frame[len(atype) + centres], frame[atoms]])
        kinds = np.concatenate([owned[centres], atype[atoms]])
        box = np.asarray(box)
        found = nlist.build(
            sites,
            kinds,
            len(centres),
            box,
            bool(box.any()),
            descriptor.rcut,
            scheme.nblocks,
            descriptor.sel,
        )
        centre, block, _ = found.slot
        diff = sites[found.index] + found.shift @ box - sites[centre]
        s, a = environment_matrix(
            tf.constant(diff),
            tf.ones(len(diff), tf.bool),
            descriptor.rcut,
            descriptor.rcut_smth,
            descriptor.env_protection,
            descriptor.float32_cutoff,
        )
        s, a = s.numpy(), a.numpy()
        for k, kind in enumerate(range(scheme.ntypes, scheme.nblocks)):
            own = kinds[: len(centres)] == kind
            each[f, 0, k, 0] = own.sum() * sum(descriptor.sel)
            for e in range(scheme.nblocks):
                if descriptor.excludes(kind, e):
                    continue
                here = own[centre] & (block == e)
                radial, angular = s[here], a[here]
                each[f, e, k, 1:] = (
                    radial.sum(),
                    (radial**2).sum(),
                    (angular**2).sum(),
                    angular.sum(),
                )
    return [each[frames].sum(axis=0) for frames in batches]
