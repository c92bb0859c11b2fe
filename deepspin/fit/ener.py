# SPDX-License-Identifier: Apache-2.0
"""Fitting net: the energy of an atom from its descriptor."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from deepspin.utils.network import fitting_layers, run


@keras.saving.register_keras_serializable(package="deepspin")
class EnerFitting(keras.layers.Layer):
    r"""Energy of each atom, by one net for each type, plus a constant.

    .. math:: E_i = \mathcal{N}_{t_i}(D_i) + b_{t_i}

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
        zeros, an atom on its own (option `atom_ener`).
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
        seed: int | None = None,
        **kwargs,
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
        self.seed = seed
        self.bias_atom_e = self.add_weight(
            name="bias_atom_e",
            shape=(ntypes,),
            dtype="float64",
            initializer="zeros",
            trainable=False,
        )
        self.nets = []  # flat, see `net`
        for t in range(ntypes):
            self.nets += fitting_layers(
                dim_descrpt,
                self.neuron,
                activation_function,
                resnet_dt,
                [x and self.trainable for x in self.trainable_layers],
                None if seed is None else (seed, 1, t),
                dtype=self.dtype_policy,
            )
        self.built = True

    def net(self, t: int) -> list:
        """Layers of the net of type `t`."""
        depth = len(self.neuron) + 1
        return self.nets[t * depth : (t + 1) * depth]

    def call(
        self, descriptor: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tf.Tensor:
        """Energies in eV, float64, shape (nf, nloc).

        Parameters
        ----------
        descriptor : tf.Tensor, shape (nf, nloc, dim_descrpt)
            Descriptors of atoms sorted by type.
        natoms : sequence of int, length ntypes
            Number of atoms of each type.
        """
        descriptor = tf.cast(descriptor, self.compute_dtype)
        begin, parts = 0, []
        for t, n in enumerate(natoms):
            energy = run(self.net(t), descriptor[:, begin : begin + n])[..., 0]
            parts.append(tf.cast(energy, tf.float64))
            begin = begin + n
        return tf.concat(parts, axis=1) + self.constants(natoms)

    def constants(self, natoms: Sequence[tf.Tensor | int]) -> tf.Tensor:
        """What is added to the nets' answers: energies in eV, float64, shape (nloc,).

        Parameters
        ----------
        natoms : sequence of int, length ntypes
            Number of atoms of each type; they are sorted.
        """
        bias = tf.convert_to_tensor(self.bias_atom_e)
        parts = []
        for t, n in enumerate(natoms):
            constant = bias[t]
            if t in self.vacuum_types:
                vacuum = tf.zeros([1, self.dim_descrpt], self.compute_dtype)
                energy = run(self.net(t), vacuum)[0, 0]
                constant = constant - tf.cast(energy, tf.float64)
            parts.append(tf.fill([n], constant))
        return tf.concat(parts, axis=0)

    @property
    def native(self) -> bool:
        """Whether the compiled kernels know such a net."""
        return self.activation_function.lower() == "tanh"

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
