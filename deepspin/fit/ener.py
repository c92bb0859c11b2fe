# SPDX-License-Identifier: Apache-2.0
"""Fitting net: the energy of an atom from its descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.utils.network import fitting_layers, run

# of a component's size; what varies by less does not vary (double precision)
MIN_SPREAD = 1e-10


@keras.saving.register_keras_serializable(package="deepspin")
class EnerFitting(keras.layers.Layer):
    r"""Energy of each atom, by one net for each type, plus a constant.

    .. math:: E_i = \mathcal{N}_{t_i}(D_i, p) + b_{t_i}

    with :math:`p` the frame parameters, each minus its mean and divided by its standard
    deviation.

    Parameters
    ----------
    ntypes : int
        Number of types.
    dim_descrpt : int
        Number of components of the descriptor.
    neuron : sequence of int
        Widths of the hidden layers.
    activation_function : str
        Of the hidden layers.
    resnet_dt : bool
        Time steps in the residual layers.
    trainable_layers : sequence of bool, optional
        For each hidden layer and the last one, whether it is trained; all by default.
    vacuum_types : sequence of int
        Types whose net is shifted to give exactly `bias_atom_e` for a descriptor of
        zeros, an atom on its own (option `atom_ener`), whatever the frame parameters.
    standardize : bool
        Give each type's net the descriptor less its mean over the data and divided by
        its spread, begin with a last layer of zeros, and multiply what comes out by an
        energy found from the data: the weights `descrpt_avg`, `descrpt_inv_std` (both
        of shape (ntypes, dim_descrpt)) and `energy_scale` (ntypes), not trained. For
        descriptors that do not change while training.
    numb_fparam : int
        Number of frame parameters. If there are some, the layer has the weights
        `fparam_avg` and `fparam_inv_std`, of that length and not trained.
    seed : int, optional
        Seed of the initial weights.

    References
    ----------
    .. [1] L. Zhang et al., Phys. Rev. Lett. 120, 143001 (2018),
       doi:10.1103/PhysRevLett.120.143001.
    """

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        neuron: Sequence[int] = (120, 120, 120),
        activation_function: str = "tanh",
        resnet_dt: bool = True,
        trainable_layers: Sequence[bool] | None = None,
        vacuum_types: Sequence[int] = (),
        numb_fparam: int = 0,
        standardize: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        self.ntypes, self.dim_descrpt = ntypes, dim_descrpt
        self.neuron = tuple(int(n) for n in neuron)
        self.activation_function = activation_function
        self.resnet_dt = resnet_dt
        if trainable_layers is None:
            trainable_layers = [True] * (len(self.neuron) + 1)
        if len(trainable_layers) != len(self.neuron) + 1:
            raise ValueError(
                "`trainable_layers` needs one entry for each hidden layer and one for "
                f"the last. Received: {list(trainable_layers)} for {list(neuron)}"
            )
        self.trainable_layers = tuple(bool(x) for x in trainable_layers)
        self.vacuum_types = tuple(int(t) for t in vacuum_types)
        if numb_fparam < 0:
            raise ValueError(
                f"`numb_fparam` must be 0 or more. Received: numb_fparam={numb_fparam}"
            )
        self.numb_fparam = int(numb_fparam)
        self.seed = seed
        self.bias_atom_e = self._constant("bias_atom_e", ntypes, "zeros")
        if numb_fparam:
            self.fparam_avg = self._constant("fparam_avg", numb_fparam, "zeros")
            self.fparam_inv_std = self._constant("fparam_inv_std", numb_fparam, "ones")
        self.standardize = bool(standardize)
        if standardize:
            shape = (ntypes, dim_descrpt)
            self.descrpt_avg = self._constant("descrpt_avg", shape, "zeros")
            self.descrpt_inv_std = self._constant("descrpt_inv_std", shape, "ones")
            self.energy_scale = self._constant("energy_scale", ntypes, "ones")
        self.nets = []  # flat, see `net`
        for t in range(ntypes):
            self.nets += fitting_layers(
                dim_descrpt + self.numb_fparam,
                self.neuron,
                activation_function,
                resnet_dt,
                [x and self.trainable for x in self.trainable_layers],
                None if seed is None else (seed, 1, t),
                dtype=self.dtype_policy,
            )
            if standardize:
                last = self.nets[-1]
                last.matrix.assign(tf.zeros_like(last.matrix))
                last.bias.assign(tf.zeros_like(last.bias))
        self.built = True

    def _constant(
        self, name: str, size: int | tuple[int, ...], initializer: str
    ) -> keras.Variable:
        """A weight that is found from data, not trained."""
        return self.add_weight(
            name=name,
            shape=(size,) if isinstance(size, int) else size,
            dtype="float64",
            initializer=initializer,
            trainable=False,
        )

    def net(self, t: int) -> list:
        """Layers of the net of type `t`."""
        depth = len(self.neuron) + 1
        return self.nets[t * depth : (t + 1) * depth]

    def set_standard(
        self, mean: np.ndarray, std: np.ndarray, energy: np.ndarray
    ) -> None:
        """Set what `standardize` is about, from data.

        Parameters
        ----------
        mean, std : np.ndarray, shape (ntypes, dim_descrpt)
            Of the descriptor. A component that does not vary is not looked at.
        energy : np.ndarray, shape (ntypes,)
            Energies in eV of what the nets have to give.
        """
        varies = std > MIN_SPREAD * np.maximum(np.abs(mean), 1e-300)
        self.descrpt_avg.assign(mean)
        self.descrpt_inv_std.assign(np.where(varies, 1.0 / np.where(varies, std, 1), 0))
        self.energy_scale.assign(energy)

    def _net_energy(self, t: int, descriptor: tf.Tensor) -> tf.Tensor:
        """Energies in eV, float64, of what the net of a type takes."""
        energy = tf.cast(run(self.net(t), descriptor)[..., 0], tf.float64)
        if self.standardize:
            energy *= tf.convert_to_tensor(self.energy_scale)[t]
        return energy

    def call(
        self,
        descriptor: tf.Tensor,
        natoms: Sequence[tf.Tensor | int],
        fparam: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Energies in eV, float64, shape (nf, nloc).

        Parameters
        ----------
        descriptor : tf.Tensor, shape (nf, nloc, dim_descrpt)
            Descriptors of atoms sorted by type.
        natoms : sequence of int, length ntypes
            Number of atoms of each type.
        fparam : tf.Tensor of float64, shape (nf, numb_fparam), optional
            Frame parameters, for a layer that takes some.
        """
        begin, parts = 0, []
        for t, n in enumerate(natoms):
            own = self._taken(t, descriptor[:, begin : begin + n], fparam)
            parts.append(self._net_energy(t, own))
            begin = begin + n
        return tf.concat(parts, axis=1) + self.constants(natoms, fparam)

    def constants(
        self, natoms: Sequence[tf.Tensor | int], fparam: tf.Tensor | None = None
    ) -> tf.Tensor:
        """What is added to the nets' answers: energies in eV, float64.

        Parameters
        ----------
        natoms : sequence of int, length ntypes
            Number of atoms of each type; they are sorted.
        fparam : tf.Tensor of float64, shape (nf, numb_fparam), optional
            Frame parameters, for a layer that takes some.

        Returns
        -------
        tf.Tensor, shape (1, nloc), or (nf, nloc) with frame parameters
        """
        bias = tf.convert_to_tensor(self.bias_atom_e)
        nrows = 1 if fparam is None else tf.shape(fparam)[0]
        vacuum = tf.zeros([nrows, 1, self.dim_descrpt], tf.float64)
        parts = []
        for t, n in enumerate(natoms):
            constant = bias[t]
            if t in self.vacuum_types:
                lone = self._taken(t, vacuum, fparam)
                constant = constant - self._net_energy(t, lone)
            parts.append(tf.broadcast_to(constant, [nrows, n]))
        return tf.concat(parts, axis=1)

    def _taken(
        self, t: int, descriptor: tf.Tensor, fparam: tf.Tensor | None
    ) -> tf.Tensor:
        """Input of a type's net: descriptors (nf, n, dim_descrpt), frame parameters."""
        if self.standardize:
            mean = tf.convert_to_tensor(self.descrpt_avg)[t]
            inverse = tf.convert_to_tensor(self.descrpt_inv_std)[t]
            descriptor = (descriptor - mean) * inverse
        descriptor = tf.cast(descriptor, self.compute_dtype)
        if self.numb_fparam == 0:
            return descriptor
        scaled = (fparam - self.fparam_avg) * self.fparam_inv_std
        scaled = tf.cast(scaled, self.compute_dtype)[:, None]
        scaled = tf.repeat(scaled, tf.shape(descriptor)[1], axis=1)
        return tf.concat([descriptor, scaled], axis=2)

    @property
    def native(self) -> bool:
        """Whether the compiled kernels know such a net."""
        known = self.activation_function.lower() == "tanh"
        return known and self.numb_fparam == 0

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "ntypes": self.ntypes,
            "dim_descrpt": self.dim_descrpt,
            "neuron": list(self.neuron),
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "trainable_layers": list(self.trainable_layers),
            "vacuum_types": list(self.vacuum_types),
            "numb_fparam": self.numb_fparam,
            "standardize": self.standardize,
            "seed": self.seed,
        }


def energy_per_type(
    energy: np.ndarray,
    counts: np.ndarray,
    assigned: Sequence[float | None] | None = None,
    rcond: float | None = None,
) -> np.ndarray:
    """Least-squares energy of an atom of each type, of minimum norm.

    Parameters
    ----------
    energy : np.ndarray, shape (nframes,)
        Total energies in eV.
    counts : np.ndarray, shape (nframes, ntypes)
        Number of atoms of each type.
    assigned : sequence of float or None, length ntypes, optional
        Energies that are given, None where they are to be found.
    rcond : float, optional
        Cutoff of small singular values, as of `numpy.linalg.lstsq`.
    """
    fixed = np.array([np.nan if x is None else x for x in assigned or []], dtype=float)
    if fixed.size == 0:
        fixed = np.full(counts.shape[1], np.nan)
    known = ~np.isnan(fixed)
    rest = energy - counts[:, known] @ fixed[known]
    if not known.all():
        fixed[~known] = np.linalg.lstsq(counts[:, ~known], rest, rcond=rcond)[0]
    return fixed
