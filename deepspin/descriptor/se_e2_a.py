# SPDX-License-Identifier: Apache-2.0
"""Smooth edition, two-body embedding, all information: `se_e2_a`.

Letters of the einsums: f frame, i centre, j neighbour slot, d row of the environment
matrix (4), g channel of the embedding, a axis channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import environment_matrix, float32_range
from deepspin.utils.network import embedding_layers, run

# smaller standard deviations are replaced by this one, as DeePMD-kit does
MIN_STD = 1e-2


@keras.saving.register_keras_serializable(package="deepspin")
class DescrptSeA(keras.layers.Layer):
    r"""Descriptor of the environment of each centre.

    .. math:: D_i = \frac{1}{n_\mathrm{nei}^2} G^T \tilde R \tilde R^T G_<

    with the normalised environment matrix :math:`\tilde R`, the embedding
    :math:`G(\tilde s)` of its first column by one net for each type of neighbour (and
    of centre, without `type_one_side`), and :math:`G_<` its first `axis_neuron`
    columns.

    Empty slots are rows :math:`((0 - \bar s)/\sigma_s, 0, 0, 0)` of :math:`\tilde R`
    and count in the sum. They are all alike, so one is computed for each (type of
    centre, type of neighbour) and multiplied by the number of empty slots: exact, and
    arrays need be no wider than the data asks for.

    Parameters
    ----------
    rcut, rcut_smth : float
        Cutoff and begin of smoothing in Å.
    sel : sequence of int
        Slots for each type of neighbour.
    ntypes : int
        Number of types of centres; at most ``len(sel)``.
    neuron : sequence of int
        Widths of the embedding net.
    axis_neuron : int
        Columns of :math:`G_<`.
    activation_function : str
        Of the embedding net.
    resnet_dt : bool
        Time steps in its residual layers.
    type_one_side : bool
        One net for each type of neighbour, whatever the centre.
    exclude_types : sequence of (int, int)
        Pairs of types that do not see each other.
    env_protection : float
        Added to the distance where it divides, in Å.
    set_davg_zero : bool
        Leave `davg` at zero when statistics are taken.
    seed : int, optional
        Seed of the initial weights.

    References
    ----------
    .. [1] L. Zhang et al., NeurIPS 31, 4436 (2018), arXiv:1805.09003.
    """

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        ntypes: int,
        *,
        neuron: Sequence[int] = (10, 20, 40),
        axis_neuron: int = 4,
        activation_function: str = "tanh",
        resnet_dt: bool = False,
        type_one_side: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: float = 0.0,
        set_davg_zero: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        if not 0 <= rcut_smth < rcut:
            raise ValueError(
                "`rcut_smth` must be at least 0 and below `rcut`. "
                f"Received: rcut_smth={rcut_smth}, rcut={rcut}"
            )
        if axis_neuron > neuron[-1]:
            raise ValueError(
                "`axis_neuron` must not exceed the last width of `neuron`. "
                f"Received: axis_neuron={axis_neuron}, neuron={list(neuron)}"
            )
        self.rcut, self.rcut_smth = float(rcut), float(rcut_smth)
        self.sel = tuple(int(n) for n in sel)
        self.ntypes = ntypes
        self.neuron = tuple(int(n) for n in neuron)
        self.axis_neuron = axis_neuron
        self.activation_function = activation_function
        self.resnet_dt = resnet_dt
        self.type_one_side = type_one_side
        self.exclude_types = tuple(tuple(int(t) for t in p) for p in exclude_types)
        self.env_protection = float(env_protection)
        self.set_davg_zero = set_davg_zero
        self.seed = seed
        self._excluded = {p for a, b in self.exclude_types for p in ((a, b), (b, a))}
        self.davg = self._statistic("davg", "zeros")
        self.dstd = self._statistic("dstd", "ones")
        self.nets = []  # flat, see `net`
        for k in range(len(self.sel) * (1 if type_one_side else ntypes)):
            self.nets += embedding_layers(
                self.neuron,
                activation_function,
                resnet_dt,
                None if seed is None else (seed, 0, k),
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )
        self.built = True

    def _statistic(self, name: str, initializer: str) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(self.ntypes, 4),
            dtype="float64",
            initializer=initializer,
            trainable=False,
        )

    @property
    def dim_out(self) -> int:
        """Number of components of the descriptor."""
        return self.neuron[-1] * self.axis_neuron

    def excludes(self, centre: int, neighbor: int) -> bool:
        """Whether centres of a type do not see neighbours of another."""
        return (centre, neighbor) in self._excluded

    def net(self, centre: int, neighbor: int) -> list:
        """Layers of the embedding net for a type of centre and of neighbour."""
        k = neighbor + (0 if self.type_one_side else centre * len(self.sel))
        depth = len(self.neuron)
        return self.nets[k * depth : (k + 1) * depth]

    @property
    def native(self) -> bool:
        """Whether the compiled kernels know such a descriptor."""
        return (
            self.activation_function.lower() == "tanh" and self.env_protection == 0.0
        )

    @property
    def native_options(self) -> dict:
        """What `deepspin.op.potential.Potential` has to know of the descriptor."""
        return {
            "ntypes": self.ntypes,
            "sel": self.sel,
            "axis_neuron": self.axis_neuron,
            "type_one_side": self.type_one_side,
            "excluded": [p for p in self._excluded if p[0] < self.ntypes],
            "cutoff": float32_range(self.rcut, self.rcut_smth),
            "embedding": self.neuron,
            "embedding_dt": self.resnet_dt,
        }

    def rows(
        self, diff: Sequence[tf.Tensor], filled: Sequence[tf.Tensor]
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Environment matrix of each block, not normalised.

        Parameters
        ----------
        diff : sequence of tf.Tensor, each (nf, nloc, width, 3)
            Neighbour minus centre in Å, by type of neighbour.
        filled : sequence of tf.Tensor of bool, each (nf, nloc, width)
            Whether the slot holds a neighbour.
        """
        return [
            environment_matrix(d, m, self.rcut, self.rcut_smth, self.env_protection)
            for d, m in zip(diff, filled, strict=True)
        ]

    def call(
        self,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        natoms: Sequence[tf.Tensor | int],
    ) -> tf.Tensor:
        """Compute the descriptor.

        Parameters
        ----------
        diff : sequence of tf.Tensor, each (nf, nloc, width, 3)
            Neighbour minus centre in Å, by type of neighbour.
        filled : sequence of tf.Tensor of bool, each (nf, nloc, width)
            Whether the slot holds a neighbour.
        natoms : sequence of int, length ntypes
            Number of centres of each type; centres are sorted by type.

        Returns
        -------
        tf.Tensor
            Descriptor, shape (nf, nloc, neuron[-1] * axis_neuron).
        """
        rows = self.rows(diff, filled)
        if self.type_one_side:
            moments = self._moments(range(self.ntypes), natoms, rows, filled)
        else:
            parts = []
            begin = 0
            for t, n in enumerate(natoms):
                cut = slice(begin, begin + n)
                part = [(s[:, cut], a[:, cut]) for s, a in rows]
                mask = [m[:, cut] for m in filled]
                parts.append(self._moments([t], [n], part, mask))
                begin = begin + n
            moments = tf.concat(parts, axis=1)
        moments = moments / float(sum(self.sel))  # f i d g
        axis = moments[..., : self.axis_neuron]  # f i d a
        product = tf.matmul(moments, axis, transpose_a=True)  # f i g a
        shape = tf.shape(product)
        return tf.reshape(product, [shape[0], shape[1], self.dim_out])

    def _moments(
        self,
        types: Sequence[int],
        natoms: Sequence[tf.Tensor | int],
        rows: Sequence[tuple[tf.Tensor, tf.Tensor]],
        filled: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        """Sum of R~^T G over all slots of centres that share their nets, (f i d g)."""
        dtype = self.compute_dtype
        atype = tf.concat(
            [tf.fill([n], t) for t, n in zip(types, natoms, strict=True)], axis=0
        )
        davg = tf.convert_to_tensor(self.davg)
        dstd = tf.convert_to_tensor(self.dstd)
        mean = tf.gather(davg[:, 0], atype)[:, None]  # i 1
        std = tf.gather(dstd, atype)  # i 4
        shape = [tf.shape(filled[0])[0], tf.shape(atype)[0], 4, self.neuron[-1]]
        total = tf.zeros(shape, dtype=dtype)
        for e, ((radial, angular), mask) in enumerate(zip(rows, filled, strict=True)):
            if self.sel[e] == 0 or all(self.excludes(t, e) for t in types):
                continue
            visible = [not self.excludes(t, e) for t in range(self.ntypes)]
            weight = tf.gather(tf.constant(visible, dtype=tf.float64), atype)  # i
            inside = tf.cast(mask, tf.float64) * weight[:, None]  # f i j
            scaled = (radial - mean) / std[:, :1]  # f i j
            matrix = tf.concat(
                [
                    (inside * scaled)[..., None],
                    inside[..., None] * angular / std[:, None, 1:],
                ],
                axis=-1,
            )  # f i j d
            net = self.net(types[0], e)
            embedding = run(net, tf.cast(scaled, dtype)[..., None])  # f i j g
            total += tf.matmul(tf.cast(matrix, dtype), embedding, transpose_a=True)
            # empty slots, all alike for one type of centre
            nothing = -davg[:, 0] / dstd[:, 0]  # t
            empty = tf.cast(nothing, dtype)[:, None] * run(
                net, tf.cast(nothing, dtype)[:, None]
            )  # t g
            slots = weight * (
                float(self.sel[e]) - tf.reduce_sum(tf.cast(mask, tf.float64), axis=-1)
            )  # f i
            extra = tf.cast(slots, dtype)[..., None] * tf.gather(empty, atype)  # f i g
            total += tf.pad(extra[..., None, :], [[0, 0], [0, 0], [0, 3], [0, 0]])
        return total

    def compute_stats(self, batches: Iterable[tuple]) -> None:
        """Set `davg` and `dstd` from data (DeePMD-kit's definition).

        Pooled over all slots of all centres of a type, the empty ones as rows of 0.

        Parameters
        ----------
        batches : iterable of (diff, filled, masks)
            The first two as for `call`; `masks` holds for each type of centre whether
            the centre's slot holds an atom, shape (nf, n).
        """
        sums = np.zeros((self.ntypes, 4))  # n, s, s^2, |a|^2
        axes = np.zeros(self.ntypes)  # a_x + a_y + a_z
        for diff, filled, masks in batches:
            begin = 0
            rows = self.rows(diff, filled)
            for t, mask in enumerate(masks):
                cut = slice(begin, begin + mask.shape[1])
                begin += mask.shape[1]
                sums[t, 0] += np.sum(mask) * sum(self.sel)
                for e, (radial, angular) in enumerate(rows):
                    if self.excludes(t, e):
                        continue
                    s, a = np.asarray(radial)[:, cut], np.asarray(angular)[:, cut]
                    sums[t, 1:] += s.sum(), (s * s).sum(), (a * a).sum()
                    axes[t] += a.sum()
        davg, dstd = np.zeros((self.ntypes, 4)), np.ones((self.ntypes, 4))
        for t, (n, s, s2, a2) in enumerate(sums):
            if n == 0:
                dstd[t] = 1.0 / self.rcut
                continue
            mean = s / n
            radial = np.sqrt(max(s2 / n - mean**2, 0.0))
            angular = np.sqrt(max(a2 / (3 * n) - (axes[t] / (3 * n)) ** 2, 0.0))
            davg[t, 0] = mean
            dstd[t] = [max(x, MIN_STD) for x in (radial, angular, angular, angular)]
        if not self.set_davg_zero:
            self.davg.assign(davg)
        self.dstd.assign(dstd)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self.sel),
            "ntypes": self.ntypes,
            "neuron": list(self.neuron),
            "axis_neuron": self.axis_neuron,
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "type_one_side": self.type_one_side,
            "exclude_types": [list(p) for p in self.exclude_types],
            "env_protection": self.env_protection,
            "set_davg_zero": self.set_davg_zero,
            "seed": self.seed,
        }
