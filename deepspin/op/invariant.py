# SPDX-License-Identifier: Apache-2.0
"""The energies of the scheme `invariant` as one operation, with their derivatives.

Its twin in plain TensorFlow is in `deepspin.model.invariant`; both give the same
numbers to rounding, gradients of all weights, positions and spins included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import tensorflow as tf

from deepspin import env
from deepspin.op import library

# radial functions that the kernels know
MOST_RADIAL = 64


class Frames(NamedTuple):
    """Frames as the operation takes them.

    Parameters
    ----------
    coord, spin : tf.Tensor, shape (nf, nall, 3)
        Positions (Å) and spins (μ_B) of centres, sorted by type, then of ghosts.
    box : tf.Tensor, shape (nf, 3, 3)
        Lattice vectors in rows, in Å.
    mask : tf.Tensor, shape (nf, nloc)
        1 where there is an atom, 0 elsewhere.
    natoms : sequence of int, length ntypes
        Number of centres of each type.
    nlist, shift : sequence of tf.Tensor of int32
        Neighbours (nf, nloc, width), -1 for none, and their lattice shifts (..., 3),
        by type of neighbour.
    """

    coord: tf.Tensor
    spin: tf.Tensor
    box: tf.Tensor
    mask: tf.Tensor
    natoms: Sequence[tf.Tensor | int]
    nlist: Sequence[tf.Tensor]
    shift: Sequence[tf.Tensor]


class Constants(NamedTuple):
    """Numbers of a model that are not trained, all in float64.

    Parameters
    ----------
    mixing : tf.Tensor, shape (ntypes, ntypes * nradial, channels)
        Mixtures of radial functions.
    nearest : tf.Tensor, shape (ntypes, ntypes)
        Nearest distances of the data in Å.
    longest, stiffness : tf.Tensor, shape (ntypes,)
        Longest spins of the data in μ_B, and of the walls behind them in eV.
    average, inverse : tf.Tensor, shape (ntypes, components)
        Mean and reciprocal spread of the descriptor.
    scale : tf.Tensor, shape (ntypes,)
        What the nets' answers are multiplied by, in eV.
    """

    mixing: tf.Tensor
    nearest: tf.Tensor
    longest: tf.Tensor
    stiffness: tf.Tensor
    average: tf.Tensor
    inverse: tf.Tensor
    scale: tf.Tensor


@dataclass(frozen=True)
class InvariantPotential:
    """What the operation has to know of a model beside its numbers.

    Parameters
    ----------
    use_spin : sequence of bool, length ntypes
        Which types carry a spin.
    soc : bool
        Whether spins and directions are contracted with each other.
    cutoff : tuple of float
        End and begin of the smooth switch in Å.
    nradial, channels, axis_neuron : int
        Number of radial functions, of their mixtures, of those in products with all.
    baseline : bool
        Whether there is the linear part.
    ncross : int
        Radial functions in its second tier.
    fitting : sequence of int
        Widths of the hidden layers of the fitting nets.
    fitting_dt : bool
        Whether their residual layers have time steps.
    """

    use_spin: Sequence[bool]
    soc: bool
    cutoff: tuple[float, float]
    nradial: int
    channels: int
    axis_neuron: int
    baseline: bool
    ncross: int
    fitting: Sequence[int]
    fitting_dt: bool

    def _options(self) -> tf.Tensor:
        return tf.constant(
            [
                len(self.use_spin),
                self.nradial,
                self.channels,
                self.axis_neuron,
                self.ncross,
                self.soc,
                self.baseline,
                library.threads(),
                env.instruction_set(),
                self.fitting_dt,
                len(self.fitting),
                *self.fitting,
                *self.use_spin,
            ],
            dtype=tf.int64,
        )

    def _fixed(self, frames: Frames) -> dict:
        """Inputs of all operations that have no gradient."""
        return {
            "options": self._options(),
            "numbers": tf.constant(self.cutoff, dtype=tf.float64),
            "mask": frames.mask,
            "natoms": tf.stack([tf.cast(n, tf.int32) for n in frames.natoms]),
            "nlist": list(frames.nlist),
            "shift": list(frames.shift),
        }

    def __call__(
        self,
        operations: ModuleType,
        frames: Frames,
        constants: Constants,
        theta: Sequence[tf.Tensor],
        weights: Sequence[tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Evaluate.

        Parameters
        ----------
        operations : module
            Answer of `library.operations`.
        frames : Frames
            Atoms and their neighbours.
        constants : Constants
            Numbers that are not trained.
        theta : sequence of tf.Tensor, length ntypes
            Numbers of the baseline for each type of centre, in its order.
        weights : sequence of tf.Tensor
            Matrix, bias and, where there is one, time step of each layer of the nets.

        Returns
        -------
        atom_ener : tf.Tensor, shape (nf, nloc)
            Energies in eV without the types' constants, 0 where there is no atom.
        force : tf.Tensor, shape (nf, nall, 3)
            -dE/dcoord in eV/Å.
        spin_pull : tf.Tensor, shape (nf, nall, 3)
            dE/dspin in eV/μ_B.
        atom_virial : tf.Tensor, shape (nf, nall, 9)
            Virial of each neighbour in eV.

        Raises
        ------
        tf.errors.InvalidArgumentError
            Shapes that do not fit, neighbours that do not exist, positions or spins
            that are not finite.
        """
        fixed = {**self._fixed(frames), **constants._asdict()}
        evaluate = self._differentiable(operations, fixed, len(theta))
        moving = (frames.coord, frames.spin, frames.box)
        atom_ener, force, spin_pull, atom_virial = evaluate(*moving, *theta, *weights)
        return (
            tf.ensure_shape(atom_ener, frames.mask.shape),
            tf.ensure_shape(force, frames.coord.shape),
            tf.ensure_shape(spin_pull, frames.coord.shape),
            tf.ensure_shape(atom_virial, [*frames.coord.shape[:2], 9]),
        )

    def rows(
        self,
        operations: ModuleType,
        frames: Frames,
        mixing: tf.Tensor,
        nearest: tf.Tensor,
        columns: Sequence[Sequence[int]],
    ) -> dict[str, tf.Tensor]:
        """What one unit of each number of the baseline gives to each label.

        Parameters
        ----------
        operations : module
            Answer of `library.operations`.
        frames : Frames
            Atoms and their neighbours, without ghosts.
        mixing, nearest : tf.Tensor
            See `Constants`.
        columns : sequence of sequences of int
            `Baseline.numbers`; empty sequences without a baseline.

        Returns
        -------
        dict
            ``energy`` (nf, n), ``force`` and ``force_mag`` (nf, nloc, 3, n),
            ``virial`` (nf, 9, n), see `deepspin.Baseline.rows`, and ``scalars`` (nf,
            nloc, components), the descriptor.
        """
        numbers = [n for own in columns for n in own]
        found = operations.deepspin_invariant_rows(
            coord=frames.coord,
            spin=frames.spin,
            box=frames.box,
            mixing=mixing,
            nearest=nearest,
            columns=tf.constant(numbers, tf.int32),
            **self._fixed(frames),
        )
        return found._asdict()

    @staticmethod
    def _differentiable(operations: ModuleType, fixed: dict, ntypes: int) -> Callable:
        """The operation as a function of coord, spin, box, baseline and weights."""

        @tf.custom_gradient
        def evaluate(
            coord: tf.Tensor, spin: tf.Tensor, box: tf.Tensor, *numbers: tf.Tensor
        ) -> tuple[tuple[tf.Tensor, ...], Callable]:
            given = {
                **fixed,
                "coord": coord,
                "spin": spin,
                "box": box,
                "theta": list(numbers[:ntypes]),
                "weights": list(numbers[ntypes:]),
            }
            out = operations.deepspin_invariant(**given)

            def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                names = (f"{name}_grad" for name in out._fields)
                given.update(zip(names, upstream, strict=True))
                positions = operations.deepspin_invariant_positions(**given)
                found = operations.deepspin_invariant_weights(**given)
                # the operation does not tell shapes, which optimizers ask for
                slopes = [*found.theta_grad, *found.gradients]
                pairs = zip(slopes, numbers, strict=True)
                return *positions, *[tf.ensure_shape(g, w.shape) for g, w in pairs]

            return tuple(out), gradient

        return evaluate
