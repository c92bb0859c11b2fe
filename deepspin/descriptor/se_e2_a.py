# SPDX-License-Identifier: Apache-2.0
"""Smooth edition, two-body embedding, all information: `se_e2_a`.

Letters of the einsums: f frame, i centre, j neighbour slot, d row of the environment
matrix (4), g channel of the embedding, a axis channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import (
    check_sizes,
    cutoff_range,
    divided,
    environment_matrix,
)
from deepspin.descriptor.table import EmbeddingTable
from deepspin.utils.network import (
    ResidualDense,
    embedding_layers,
    layer_weights,
    multiply,
    run,
)

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
    float32_cutoff : bool
        Round cutoffs to float32, as DeePMD-kit's TensorFlow backend does; its other
        backends do not.
    seed : int, optional
        Seed of the initial weights.
    leaves : sequence of int, optional
        Tables in place of the embedding nets, with so many pieces each; `compress`
        makes them.
    check_frequency : int
        Of so many evaluations `DeepSpin` looks in one for pairs beyond the tables; -1
        for none.

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
        float32_cutoff: bool = True,
        seed: int | None = None,
        leaves: Sequence[int] | None = None,
        check_frequency: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        check_sizes(rcut, rcut_smth, neuron, axis_neuron)
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
        self.float32_cutoff = bool(float32_cutoff)
        self.seed = seed
        self._excluded = {p for a, b in self.exclude_types for p in ((a, b), (b, a))}
        self.davg = self._statistic("davg", "zeros")
        self.dstd = self._statistic("dstd", "ones")
        self.leaves = None if leaves is None else tuple(int(n) for n in leaves)
        self.check_frequency = check_frequency
        self.nets: list[ResidualDense] = []  # flat, see `net`
        self.tables: list[EmbeddingTable] = []
        if self.leaves is None:
            self._add_nets()
        else:
            self._add_tables(self.leaves)
        self.built = True

    def _add_nets(self) -> None:
        for k in range(self.nnets):
            self.nets += embedding_layers(
                self.neuron,
                self.activation_function,
                self.resnet_dt,
                None if self.seed is None else (self.seed, 0, k),
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )

    def _add_tables(self, leaves: tuple[int, ...]) -> None:
        if len(leaves) != self.nnets:
            raise ValueError(
                f"`leaves` must have {self.nnets} entries, one for each embedding net. "
                f"Received: {list(leaves)}"
            )
        self.tables = [
            EmbeddingTable(n, self.neuron[-1], dtype=self.dtype_policy) for n in leaves
        ]

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

    @property
    def nnets(self) -> int:
        """Number of embedding nets, or of tables in their place."""
        return len(self.sel) * (1 if self.type_one_side else self.ntypes)

    def number(self, centre: int, neighbor: int) -> int:
        """Which net, or table, a type of centre and of neighbour have."""
        return neighbor + (0 if self.type_one_side else centre * len(self.sel))

    def net(self, centre: int, neighbor: int) -> list:
        """Layers of the embedding net for a type of centre and of neighbour."""
        return self._net(self.number(centre, neighbor))

    def _net(self, number: int) -> list:
        depth = len(self.neuron)
        return self.nets[number * depth : (number + 1) * depth]

    @property
    def table_bytes(self) -> int:
        """Memory of the tables."""
        return sum(np.asarray(w).nbytes for t in self.tables for w in t.weights)

    @property
    def hidden(self) -> dict:
        """Options that a model may have and no input can say."""
        return {"float32_cutoff": self.float32_cutoff}

    @property
    def native(self) -> bool:
        """Whether the compiled kernels know such a descriptor."""
        known = bool(self.tables) or self.activation_function.lower() == "tanh"
        return known and self.env_protection == 0.0

    @property
    def native_options(self) -> dict:
        """What `deepspin.op.potential.Potential` has to know of the descriptor."""
        return {
            "ntypes": self.ntypes,
            "sel": self.sel,
            "axis_neuron": self.axis_neuron,
            "type_one_side": self.type_one_side,
            "excluded": [p for p in self._excluded if p[0] < self.ntypes],
            "cutoff": cutoff_range(self.rcut, self.rcut_smth, self.float32_cutoff),
            "embedding": self.neuron,
            "embedding_dt": self.resnet_dt,
            "leaves": self.leaves or (),
        }

    @property
    def native_weights(self) -> list[tf.Tensor]:
        """Weights of the embedding nets, or the tables' coefficients."""
        if self.tables:
            return [tf.convert_to_tensor(t.coefficients) for t in self.tables]
        return layer_weights(self.nets)

    @property
    def native_edges(self) -> tf.Tensor | None:
        """Begin and width of the pieces of all tables, None for nets."""
        if not self.tables:
            return None
        return tf.concat([tf.convert_to_tensor(t.edges) for t in self.tables], axis=0)

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
        cutoff = self.rcut, self.rcut_smth, self.env_protection, self.float32_cutoff
        return [
            environment_matrix(d, m, *cutoff) for d, m in zip(diff, filled, strict=True)
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

        Raises
        ------
        TypeError
            Separations that are not float64.
        """
        if found := {d.dtype.name for d in diff} - {"float64"}:
            raise TypeError(
                f"`diff` must be float64. Received: {', '.join(found)}. A keras.Model "
                "rounds its inputs to its own precision: of yours say "
                '`super().__init__(dtype="float64")`, of keras.Input dtype="float64".'
            )
        radial, angular = zip(*self.rows(diff, filled), strict=True)
        parts = [
            self._moments(types, counts, *own)
            for types, counts, *own in self._sharing(natoms, radial, angular, filled)
        ]
        moments = tf.concat(parts, axis=1)
        moments = moments / float(sum(self.sel))  # f i d g
        axis = moments[..., : self.axis_neuron]  # f i d a
        product = tf.matmul(moments, axis, transpose_a=True)  # f i g a
        shape = tf.shape(product)
        return tf.reshape(product, [shape[0], shape[1], self.dim_out])

    def _sharing(
        self, natoms: Sequence[tf.Tensor | int], *given: Sequence[tf.Tensor]
    ) -> Iterator[tuple]:
        """Types of centres that share their nets, their numbers, and what is theirs.

        That is, of lists of arrays (f i ...) by type of neighbour, as many such lists.
        """
        if self.type_one_side:
            yield range(self.ntypes), natoms, *given
            return
        cut = [[divided(x, natoms, axis=1) for x in arrays] for arrays in given]
        for t, n in enumerate(natoms):
            yield [t], [n], *([parts[t] for parts in arrays] for arrays in cut)

    def extrapolated(
        self,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        natoms: Sequence[tf.Tensor | int],
    ) -> tf.Tensor:
        """Number of pairs that lie outside of the tables, int64; else see `call`."""
        radial = [s for s, _ in self.rows(diff, filled)]
        davg, dstd = tf.convert_to_tensor(self.davg), tf.convert_to_tensor(self.dstd)
        total = tf.zeros([], tf.int64)
        for types, counts, *own in self._sharing(natoms, radial, filled):
            atype = _types(types, counts)
            mean = tf.gather(davg[:, 0], atype)[:, None]
            std = tf.gather(dstd[:, 0], atype)[:, None]
            for e, (s, mask) in enumerate(zip(*own, strict=True)):
                if self.sel[e] == 0:
                    continue
                visible = [not self.excludes(t, e) for t in range(self.ntypes)]
                seen = mask & tf.gather(visible, atype)[:, None]
                table = self.tables[self.number(types[0], e)]
                outside = table.outside((s - mean) / std)
                total += tf.math.count_nonzero(seen & outside)
        return total

    def _moments(
        self,
        types: Sequence[int],
        natoms: Sequence[tf.Tensor | int],
        radial: Sequence[tf.Tensor],
        angular: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        """Sum of R~^T G over all slots of centres that share their nets, (f i d g)."""
        dtype = self.compute_dtype
        atype = _types(types, natoms)
        davg = tf.convert_to_tensor(self.davg)
        dstd = tf.convert_to_tensor(self.dstd)
        mean = tf.gather(davg[:, 0], atype)[:, None]  # i 1
        std = tf.gather(dstd, atype)  # i 4
        std_radial, std_angular = std[:, :1], std[:, None, 1:]  # i 1, i 1 d
        nothing = -davg[:, :1] / dstd[:, :1]  # t j: empty slots
        no_rows = nothing[..., None]
        shape = [tf.shape(filled[0])[0], tf.shape(atype)[0], 4, self.neuron[-1]]
        total = tf.zeros(shape, dtype=dtype)
        blocks = zip(radial, angular, filled, strict=True)
        for e, (s, a, mask) in enumerate(blocks):
            if self.sel[e] == 0 or all(self.excludes(t, e) for t in types):
                continue
            visible = [not self.excludes(t, e) for t in range(self.ntypes)]
            weight = tf.gather(tf.constant(visible, dtype=tf.float64), atype)  # i
            there = tf.cast(mask, tf.float64)
            inside = there * weight[:, None]  # f i j
            scaled = (s - mean) / std_radial  # f i j
            matrix = tf.concat(
                [
                    (inside * scaled)[..., None],
                    inside[..., None] * a / std_angular,
                ],
                axis=-1,
            )  # f i j d
            net = self.number(types[0], e)
            total += self._embedded(net, matrix, scaled)
            # empty slots, all alike for one type of centre
            empty = self._embedded(net, no_rows, nothing)  # t d g, d = 1
            slots = weight * (float(self.sel[e]) - tf.reduce_sum(there, axis=-1))  # f i
            slots = tf.cast(slots, dtype)[..., None, None]
            extra = slots * tf.gather(empty, atype)  # f i d g, d = 1
            total += tf.pad(extra, [[0, 0], [0, 0], [0, 3], [0, 0]])
        return total

    def _embedded(self, number: int, matrix: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """R~^T G with the G of a net or table: (... j d), (... j) to (... d g)."""
        dtype = self.compute_dtype
        matrix = tf.cast(matrix, dtype)
        if self.tables:
            table = self.tables[number]
            moments = tf.matmul(matrix, table.terms(u), transpose_a=True)  # ... d k
            return multiply(moments, table.matrix)
        embedding = run(self._net(number), tf.cast(u, dtype)[..., None])  # ... j g
        return tf.matmul(matrix, embedding, transpose_a=True)

    def embed(self, centre: int, neighbor: int, u: tf.Tensor) -> tf.Tensor:
        """Embedding of normalised s: (...) to (..., neuron[-1])."""
        number = self.number(centre, neighbor)
        u = u[..., None]
        if self.tables:
            return self.tables[number](u)
        return run(self._net(number), tf.cast(u, self.compute_dtype))

    def compute_stats(self, batches: Iterable[tuple]) -> None:
        """Set `davg` and `dstd` from batches, one by one; see `set_stats`.

        Parameters
        ----------
        batches : iterable of (diff, filled, masks)
            See `moments`.
        """
        every = [slice(None)]
        self.set_stats([self.moments(d, m, t, every)[0] for d, m, t in batches])

    def moments(
        self,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        masks: Sequence[np.ndarray],
        batches: Sequence[slice],
    ) -> list[np.ndarray]:
        """Sums over the environment matrices of batches, for `set_stats`.

        Parameters
        ----------
        diff, filled : sequence of tf.Tensor
            As for `call`, of all frames of all batches.
        masks : sequence of np.ndarray of bool, each (nf, n)
            For each type of centre, whether the centre's slot holds an atom.
        batches : sequence of slice
            The frames of each batch.

        Returns
        -------
        list of np.ndarray, each (nblocks, ntypes, 5)
            Number of slots, and sums of s, s^2, a_x^2 + a_y^2 + a_z^2 and a_x + a_y +
            a_z, which the blocks of neighbours add to each type of centre. The slots
            are those of all blocks, and count with the first.
        """
        rows = [tuple(map(np.asarray, row)) for row in self.rows(diff, filled)]
        ends = np.cumsum([0, *(mask.shape[1] for mask in masks)])
        result = []
        for frames in batches:
            sums = np.zeros((len(rows), self.ntypes, 5))
            for t, mask in enumerate(masks):
                cut = slice(ends[t], ends[t + 1])
                sums[0, t, 0] = np.sum(mask[frames]) * sum(self.sel)
                for e, (radial, angular) in enumerate(rows):
                    if self.excludes(t, e):
                        continue
                    s, a = radial[frames][:, cut], angular[frames][:, cut]
                    sums[e, t, 1:] = s.sum(), (s * s).sum(), (a * a).sum(), a.sum()
            result.append(sums)
        return result

    def set_stats(self, moments: Sequence[np.ndarray]) -> None:
        """Set `davg` and `dstd` from data (DeePMD-kit's definition).

        Pooled over all slots of all centres of a type, the empty ones as rows of 0.

        Parameters
        ----------
        moments : sequence of np.ndarray, each (nblocks, ntypes, 5)
            Of each batch, see `moments`.
        """
        self.set_total(self.total(moments))

    def total(self, moments: Sequence[np.ndarray]) -> np.ndarray:
        """Sum over batches and blocks, added one by one as they come: (ntypes, 5)."""
        shape = moments[0].shape[1:] if moments else (self.ntypes, 5)
        parts = np.concatenate([np.zeros((1, *shape)), *moments])
        return np.cumsum(parts, axis=0)[-1]

    def set_total(self, sums: np.ndarray) -> None:
        """Set `davg` and `dstd` from sums (ntypes, 5) over all data, see `moments`."""
        davg, dstd = np.zeros((self.ntypes, 4)), np.ones((self.ntypes, 4))
        for t, (n, s, s2, a2, axes) in enumerate(sums):
            if n == 0:
                dstd[t] = 1.0 / self.rcut
                continue
            mean = s / n
            radial = np.sqrt(max(s2 / n - mean**2, 0.0))
            angular = np.sqrt(max(a2 / (3 * n) - (axes / (3 * n)) ** 2, 0.0))
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
            "float32_cutoff": self.float32_cutoff,
            "seed": self.seed,
            "leaves": None if self.leaves is None else list(self.leaves),
            "check_frequency": self.check_frequency,
        }


def _types(types: Sequence[int], natoms: Sequence[tf.Tensor | int]) -> tf.Tensor:
    """Type of each of so many centres of given types."""
    parts = [tf.fill([n], t) for t, n in zip(types, natoms, strict=True)]
    return tf.concat(parts, axis=0)
