# SPDX-License-Identifier: Apache-2.0
"""Fitting net: the energy of an atom from its descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.utils.network import fitting_layers, run


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
        self.built = True

    def _constant(self, name: str, size: int, initializer: str) -> keras.Variable:
        """A weight that is found from data, not trained."""
        return self.add_weight(
            name=name,
            shape=(size,),
            dtype="float64",
            initializer=initializer,
            trainable=False,
        )

    def net(self, t: int) -> list:
        """Layers of the net of type `t`."""
        depth = len(self.neuron) + 1
        return self.nets[t * depth : (t + 1) * depth]

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
        descriptor = self._with_parameters(descriptor, fparam)
        begin, parts = 0, []
        for t, n in enumerate(natoms):
            energy = run(self.net(t), descriptor[:, begin : begin + n])[..., 0]
            parts.append(tf.cast(energy, tf.float64))
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
        vacuum = tf.zeros([nrows, 1, self.dim_descrpt], self.compute_dtype)
        vacuum = self._with_parameters(vacuum, fparam)
        parts = []
        for t, n in enumerate(natoms):
            constant = bias[t]
            if t in self.vacuum_types:
                energy = run(self.net(t), vacuum)[..., 0]
                constant = constant - tf.cast(energy, tf.float64)
            parts.append(tf.broadcast_to(constant, [nrows, n]))
        return tf.concat(parts, axis=1)

    def _with_parameters(
        self, descriptor: tf.Tensor, fparam: tf.Tensor | None
    ) -> tf.Tensor:
        """Input of the nets: descriptors (nf, n, dim_descrpt), frame parameters."""
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
        return self.activation_function.lower() == "tanh" and self.numb_fparam == 0

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
