# SPDX-License-Identifier: Apache-2.0
"""The potential as one operation: from points to energies, forces and virials.

Its twin in plain TensorFlow is `SpinEnergyModel`'s own arithmetic; both give the same
numbers to rounding, gradients of all weights and positions included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import tensorflow as tf

from deepspin import env
from deepspin.op import library

# terms of the series that tables of embedding nets hold, by type
ORDER = {"float64": 24, "float32": 16}


@dataclass(frozen=True)
class Potential:
    """What the operation has to know of a model beside its weights.

    Parameters
    ----------
    ntypes : int
        Number of types of centres.
    sel : sequence of int
        Slots for each type of neighbour.
    axis_neuron : int
        Columns of the embedding that make the descriptor's second factor.
    type_one_side : bool
        One embedding net for each type of neighbour, whatever the centre.
    excluded : sequence of (int, int)
        (type of centre, type of neighbour) that do not see each other.
    cutoff : tuple of float
        End and begin of the smooth switch and their difference, in Å.
    embedding, fitting : sequence of int
        Widths of the embedding net's layers and of the fitting net's hidden layers.
    embedding_dt, fitting_dt : bool
        Whether residual layers have time steps.
    leaves : sequence of int
        With tables instead of embedding nets, the number of pieces of each.
    """

    ntypes: int
    sel: Sequence[int]
    axis_neuron: int
    type_one_side: bool
    excluded: Sequence[tuple[int, int]]
    cutoff: tuple[float, float, float]
    embedding: Sequence[int]
    fitting: Sequence[int]
    embedding_dt: bool
    fitting_dt: bool
    leaves: Sequence[int] = field(default=())

    def _options(self) -> tf.Tensor:
        excluded = np.zeros((self.ntypes, len(self.sel)), dtype=int)
        for pair in self.excluded:
            excluded[pair] = 1
        return tf.constant(
            [
                self.ntypes,
                len(self.sel),
                sum(self.sel),
                self.axis_neuron,
                library.threads(),
                env.instruction_set(),
                self.type_one_side,
                bool(self.leaves),
                self.embedding_dt,
                self.fitting_dt,
                len(self.embedding),
                *self.embedding,
                len(self.fitting),
                *self.fitting,
                *self.sel,
                *excluded.ravel(),
                *self.leaves,
            ],
            dtype=tf.int64,
        )

    def __call__(
        self,
        operations: ModuleType,
        points: tf.Tensor,
        offset: tf.Tensor,
        box: tf.Tensor,
        mask: tf.Tensor,
        natoms: Sequence[tf.Tensor | int],
        nlist: Sequence[tf.Tensor],
        shift: Sequence[tf.Tensor],
        statistics: tuple[tf.Tensor, tf.Tensor],
        weights: Sequence[tf.Tensor],
        *,
        edges: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Evaluate the potential.

        Parameters
        ----------
        operations : module
            Answer of `library.operations`.
        points, offset : tf.Tensor, shape (nf, 2 nloc, 3)
            Atoms and their virtual atoms in Å, and where these are from their owners.
        box : tf.Tensor, shape (nf, 3, 3)
            Lattice vectors in rows, in Å.
        mask : tf.Tensor, shape (nf, nloc)
            1 where there is an atom, 0 elsewhere.
        natoms : sequence of int, length ntypes
            Number of atoms of each type; they are sorted.
        nlist, shift : sequence of tf.Tensor of int32
            Neighbours (nf, nloc, width), -1 for none, and their lattice shifts (...,
            3), by type of neighbour.
        statistics : (tf.Tensor, tf.Tensor), each of shape (ntypes, 4)
            `davg` and `dstd`.
        weights : sequence of tf.Tensor
            Matrix, bias and, where there is one, time step of each layer: of all
            embedding nets, or the tables' coefficients instead, then of the fitting
            nets.
        edges : tf.Tensor, shape (sum of leaves, 2), optional
            Begin and width of the tables' pieces.
        training : bool
            Keep what the gradient needs; without, asking for a gradient computes
            everything once more.

        Returns
        -------
        atom_ener : tf.Tensor, shape (nf, nloc)
            Answers of the fitting nets in eV, 0 where there is no atom.
        force : tf.Tensor, shape (nf, 2 nloc, 3)
            -dE/d(point) in eV/Å, as if each point moved alone.
        atom_virial : tf.Tensor, shape (nf, nloc, 9)
            Virial of each neighbour's owner in eV.
        extrapolated : tf.Tensor of int64
            Number of pairs outside the tables.

        Raises
        ------
        tf.errors.InvalidArgumentError
            Shapes that do not fit, neighbours that do not exist, positions that are
            not finite.
        """
        if edges is None:
            edges = tf.zeros([0, 2], tf.float64)
        fixed = {
            "options": self._options(),
            "numbers": tf.constant(self.cutoff, dtype=tf.float64),
            "mask": mask,
            "natoms": tf.stack([tf.cast(n, tf.int32) for n in natoms]),
            "nlist": list(nlist),
            "shift": list(shift),
            "davg": statistics[0],
            "dstd": statistics[1],
            "edges": edges,
        }
        evaluate = self._differentiable(operations, fixed, training)
        atom_ener, force, atom_virial, outside = evaluate(points, offset, box, *weights)
        atom_ener = tf.ensure_shape(atom_ener, mask.shape)
        force = tf.ensure_shape(force, points.shape)
        atom_virial = tf.ensure_shape(atom_virial, [*mask.shape, 9])
        return atom_ener, force, atom_virial, outside

    def _differentiable(
        self, operations: ModuleType, fixed: dict, training: bool
    ) -> Callable:
        """The operation as a function of points, offsets, box and weights."""

        @tf.custom_gradient
        def evaluate(
            points: tf.Tensor, offset: tf.Tensor, box: tf.Tensor, *weights: tf.Tensor
        ) -> tuple[tuple[tf.Tensor, ...], Callable]:
            given = {
                **fixed,
                "points": points,
                "offset": offset,
                "box": box,
                "weights": list(weights),
            }
            out = operations.deepspin_potential(**given, training=training)

            def gradient(
                atom_ener: tf.Tensor,
                force: tf.Tensor,
                atom_virial: tf.Tensor,
                _: tf.Tensor,
            ) -> tuple[tf.Tensor | None, ...]:
                kept = out.kept
                if not training:
                    again = operations.deepspin_potential(**given, training=True)
                    kept = again.kept
                upstream = {
                    "kept": kept,
                    "atom_ener_grad": atom_ener,
                    "force_grad": force,
                    "atom_virial_grad": atom_virial,
                }
                positions = operations.deepspin_potential_positions(**given, **upstream)
                if self.leaves:
                    return *positions, *[None] * len(weights)
                found = operations.deepspin_potential_weights(**given, **upstream)
                # the operation does not tell shapes, which optimizers ask for
                pairs = zip(found, weights, strict=True)
                return *positions, *[tf.ensure_shape(g, w.shape) for g, w in pairs]

            return (
                out.atom_ener,
                out.force,
                out.atom_virial,
                out.extrapolated,
            ), gradient

        return evaluate
