# SPDX-License-Identifier: Apache-2.0
"""The linear part of an invariant model: what a closed form can find.

Letters of the einsums: f frame, i centre, j neighbour slot, k radial function, l local
component, x axis, n number (column) of a type of centre, m number of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import divided
from deepspin.descriptor.spin_channels import (
    SpinChannels,
    components,
    parted,
    symmetric,
)

# a wall in eV: of pairs nearer than in the data, and of spins longer
WALL = 100.0
# what a number of the second tier costs
DEAR = 30.0
Label = tuple  # (kind, types and radial functions it belongs to)


@dataclass(frozen=True)
class Products:
    """Columns that are products x_p . y_q of two sets, (i, p, width) and (i, q, width).

    `place` (p, q) is the number of each product in its group, -1 for none.
    """

    x: Any
    y: Any
    place: np.ndarray

    def columns(self) -> tf.Tensor:
        """The products, (i, n)."""
        product = tf.matmul(self.x, self.y, transpose_b=True)
        flat = tf.reshape(product, [-1, self.place.size])
        return tf.gather(flat, np.flatnonzero(self.place >= 0), axis=1)

    def energies(self, theta: tf.Tensor) -> tf.Tensor:
        """The products times their numbers (n,), summed: (i,)."""
        number = np.count_nonzero(self.place >= 0)
        place = np.where(self.place < 0, number, self.place)
        matrix = tf.gather(tf.pad(theta, [[0, 1]]), place)  # p q
        return tf.reduce_sum(self.x * tf.matmul(matrix, self.y), axis=[1, 2])


@keras.saving.register_keras_serializable(package="deepspin")
class Baseline(keras.layers.Layer):
    r"""Energies linear in their numbers: pairs, exchange, on-site terms and products.

    Of a centre i of type a, with the sums of `SpinChannels`, for each type b of
    neighbours and each radial function:

    ============ ==================================================================
    ``pair``     :math:`\sum_j B_k`, one for both orders of a and b
    ``exchange`` :math:`\sum_j B_k\, S_i \cdot S_j`, likewise
    ``modulus``  :math:`\sum_j B_k\, S_i \cdot S_j\, |S_i|^2`
    ``square``   :math:`\sum_j B_k (S_i \cdot S_j)^2`, one for both orders
    ``site``     :math:`|S_i|^2, |S_i|^4, |S_i|^6`
    ``crystal``  :math:`\sum_j B_k\, |S_i|^2`
    ============ ==================================================================

    and with `ncross` > 0 the second tier, products of sums c, d < `ncross` of all types
    of neighbours: ``S.S`` and ``uS:uS`` on every centre, ``(s.uS).u`` on magnetic ones.
    With spin-orbit coupling also ``dipole`` :math:`\sum_j B_k (S_i \cdot u)(u \cdot
    S_j)`, ``anisotropy`` :math:`\sum_j B_k [(S_i \cdot u)^2 - |S_i|^2/3]`, and of the
    second tier ``uS:Su``, ``tr tr``, ``(s.Su).u`` and ``tr (s.u)``, whose difference is
    :math:`(u \times u') \cdot (S_i \times S_j)`, and ``(s.u)(s.u)``.

    A wall rises between atoms nearer than in the data, where radial functions rest, and
    for spins longer than there. Neither is felt inside.

    Parameters
    ----------
    ntypes : int
        Number of types.
    use_spin : sequence of bool, length ntypes
        Which types carry a spin.
    soc : bool
        Whether there is spin-orbit coupling.
    nradial : int
        Number of radial functions of the sums.
    ncross : int
        How many of them enter the second tier, 0 for none.
    """

    def __init__(
        self,
        ntypes: int,
        use_spin: Sequence[bool],
        *,
        soc: bool = False,
        nradial: int = 14,
        ncross: int = 6,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        self.ntypes, self.use_spin = ntypes, tuple(map(bool, use_spin))
        self.soc, self.nradial, self.ncross = bool(soc), int(nradial), int(ncross)
        self.components = [components(flag, self.soc) for flag in self.use_spin]
        labels = [[label for label, _ in self._terms(t)] for t in range(ntypes)]
        flat = [[one for label in rows for one in label] for rows in labels]
        order = dict.fromkeys(one for rows in flat for one in rows)
        self.labels: list[Label] = list(order)  # of the model's numbers
        number = {one: m for m, one in enumerate(order)}
        self.numbers = [[number[one] for one in rows] for rows in flat]
        self.theta = self.add_weight(
            name="theta", shape=(len(order),), dtype="float64", initializer="zeros"
        )
        self.longest = self._constant("longest", "zeros")
        self.stiffness = self._constant("stiffness", "zeros")
        self.built = True

    def _constant(self, name: str, initializer: str) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(self.ntypes,),
            dtype="float64",
            initializer=initializer,
            trainable=False,
        )

    @property
    def penalty(self) -> np.ndarray:
        """How much dearer each number is in a fit than one of the first tier, (m,).

        Products of sums couple spins farther apart than `rcut`, which small periodic
        cells cannot tell from near ones: they come in where the first tier fails.
        """
        first = {"pair", "crystal", "exchange", "modulus", "square", "site"}
        first |= {"dipole", "anisotropy"}
        return np.array([1.0 if one[0] in first else DEAR for one in self.labels])

    def set_numbers(self, theta: np.ndarray, longest: np.ndarray) -> None:
        """Set the numbers, and where and how steeply walls of long spins begin.

        Parameters
        ----------
        theta : np.ndarray, shape (m,)
            The numbers, in the order of `labels`.
        longest : np.ndarray, shape (ntypes,)
            Longest spin in μ_B of each type in the data, 0 for no wall.
        """
        self.theta.assign(theta)
        self.longest.assign(longest)
        number = dict(zip(self.labels, theta, strict=True))
        sixth = [abs(number.get(("site", t, 6), 0.0)) for t in range(self.ntypes)]
        # steeper than the highest power could fall
        self.stiffness.assign(np.maximum(1.0, 2.0 * np.array(sixth) * longest**6))

    # -- the terms ---------------------------------------------------------------------

    def _terms(
        self, a: int, sums: Sequence | None = None, spin: tf.Tensor | None = None
    ) -> Iterator[tuple[list[Label], Any]]:
        """Labels of groups of columns of a type of centre, and these.

        Those of the first tier are arrays (i, n), of the second `Products`.

        Parameters
        ----------
        a : int
            Type of the centres.
        sums : sequence of dict, optional
            Of each type of neighbours and each component, (i, k, width); without them
            there are labels alone.
        spin : tf.Tensor, shape (i, 3)
            Spins of the centres.
        """
        yield from self._first(a, sums, spin)
        if self.ncross:
            yield from self._second(a, sums, spin)

    def _first(self, a: int, sums: Any, s: Any) -> Iterator[tuple[list[Label], Any]]:
        given, magnetic = sums is not None, self.use_spin[a]

        def group(name: str, *where: int) -> list[Label]:
            return [(name, *where, k) for k in range(self.nradial)]

        def either(b: int) -> tuple[int, int]:
            return min(a, b), max(a, b)

        square: Any = tf.reduce_sum(s * s, axis=-1, keepdims=True) if given else None
        doubled: Any = tf.constant([1, 1, 1, 2, 2, 2], tf.float64) if given else None
        for b in range(self.ntypes):
            p: Any = sums[b] if given else None
            yield group("pair", *either(b)), given and p["1"][..., 0]
            if not magnetic:
                continue
            yield group("crystal", a, b), given and square * p["1"][..., 0]
            if self.soc:
                own = given and (symmetric(s) * doubled)[:, None]
                turned = given and tf.reduce_sum(p["uu"] * own, axis=-1)
                yield group("anisotropy", a, b), turned
            if not self.use_spin[b]:
                continue
            product = given and tf.reduce_sum(p["S"] * s[:, None], axis=-1)
            yield group("exchange", *either(b)), product
            yield group("modulus", a, b), given and square * product
            own = given and (symmetric(s) * doubled)[:, None]
            yield (
                group("square", *either(b)),
                given and tf.reduce_sum(p["SS"] * own, axis=-1),
            )
            if self.soc:
                along = given and tf.reduce_sum(p["uuS"] * s[:, None], axis=-1)
                yield group("dipole", *either(b)), along
        if magnetic:
            powers = given and tf.concat([square, square**2, square**3], axis=-1)
            yield [("site", a, n) for n in (2, 4, 6)], powers

    def _second(self, a: int, sums: Any, s: Any) -> Iterator[tuple[list[Label], Any]]:
        given, size = sums is not None, self.ncross
        spins = [b for b in range(self.ntypes) if self.use_spin[b]]
        of_spins = [(b, c) for b in spins for c in range(size)]
        of_all = [(b, c) for b in range(self.ntypes) for c in range(size)]

        def stack(name: str, blocks: Sequence[int]) -> Any:
            return given and tf.concat([sums[b][name][:, :size] for b in blocks], 1)

        def group(
            name: str, left: Any, right: Any, x: Any, y: Any
        ) -> tuple[list[Label], Any]:
            """All products of two sets; of a set with itself each pair once."""
            if left is right:
                pairs = list(combinations_with_replacement(range(len(left)), 2))
            else:
                pairs = [(p, q) for p in range(len(left)) for q in range(len(right))]
            labels = [(name, a, *left[p], *right[q]) for p, q in pairs]
            place = np.full((len(left), len(right)), -1)
            place[tuple(np.transpose(pairs))] = np.arange(len(pairs))
            return labels, Products(x, y, place) if given else None

        if not spins:
            return
        u, spin, matrix = stack("u", range(self.ntypes)), stack("S", spins), None
        us = stack("uS", spins)
        yield group("S.S", of_spins, of_spins, spin, spin)
        yield group("uS:uS", of_spins, of_spins, us, us)
        if given:
            matrix = tf.reshape(us, [-1, len(of_spins), 3, 3])
            swapped = tf.linalg.matrix_transpose(matrix)
            own = s[:, None, None]
            turned = tf.reduce_sum(matrix * own, axis=-1)
            crossed = tf.reduce_sum(swapped * own, axis=-1)
            trace = tf.linalg.trace(matrix)[..., None]
            along = tf.reduce_sum(u * s[:, None], axis=-1, keepdims=True)
            swapped = tf.reshape(swapped, tf.shape(us))
        else:
            turned = crossed = trace = along = swapped = None
        if self.use_spin[a]:
            yield group("(s.uS).u", of_spins, of_all, turned, u)
        if self.soc:
            yield group("uS:Su", of_spins, of_spins, us, swapped)
            yield group("tr tr", of_spins, of_spins, trace, trace)
            if self.use_spin[a]:
                yield group("(s.Su).u", of_spins, of_all, crossed, u)
                yield group("tr (s.u)", of_spins, of_all, trace, along)
                yield group("(s.u)(s.u)", of_all, of_all, along, along)

    def columns(self, a: int, sums: Sequence, spin: tf.Tensor) -> tf.Tensor:
        """What the numbers of a type of centre multiply, (i, n).

        Parameters
        ----------
        a : int
            Type of the centres.
        sums : sequence of tf.Tensor, each (i, k, l)
            By type of neighbour.
        spin : tf.Tensor, shape (i, 3)
            Spins of the centres in μ_B.
        """
        return tf.concat(
            [
                value.columns() if isinstance(value, Products) else value
                for _, value in self._terms(a, self._parted(sums), spin)
            ],
            axis=-1,
        )

    def _parted(self, sums: Sequence) -> list[dict[str, tf.Tensor]]:
        return [parted(p, at) for p, at in zip(sums, self.components, strict=True)]

    def _energies(
        self, a: int, sums: Sequence, spin: tf.Tensor, theta: tf.Tensor
    ) -> tf.Tensor:
        """`columns` times the numbers `theta` of this type of centre, (i,)."""
        terms = list(self._terms(a, self._parted(sums), spin))
        numbers = tf.split(theta, [len(labels) for labels, _ in terms])
        first, own, total = [], [], []
        for (_, value), part in zip(terms, numbers, strict=True):
            if isinstance(value, Products):
                total.append(value.energies(part))
            else:
                first.append(value)
                own.append(part)
        total.append(tf.linalg.matvec(tf.concat(first, axis=-1), tf.concat(own, 0)))
        return tf.add_n(total)

    def call(
        self,
        sums: Sequence[tf.Tensor],
        spin: tf.Tensor,
        natoms: Sequence[tf.Tensor | int],
    ) -> tf.Tensor:
        """Energies of the centres in eV, (f, i), walls apart."""
        parts, theta = [], tf.convert_to_tensor(self.theta)
        of_types = zip(*(divided(p, natoms, axis=1) for p in sums), strict=True)
        spins = divided(spin, natoms, axis=1)
        for t, (here, own) in enumerate(zip(of_types, spins, strict=True)):
            flat = [tf.reshape(p, [-1, p.shape[2], p.shape[3]]) for p in here]
            numbers = tf.gather(theta, self.numbers[t])
            energy = self._energies(t, flat, tf.reshape(own, [-1, 3]), numbers)
            parts.append(tf.reshape(energy, tf.shape(own)[:2]))
        return tf.concat(parts, axis=1)

    def walls(
        self,
        channels: SpinChannels,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        spin: tf.Tensor,
        natoms: Sequence[tf.Tensor | int],
    ) -> tf.Tensor:
        """Energies in eV of what lies outside of the data, (f, i)."""
        types = tf.concat([tf.fill([n], t) for t, n in enumerate(natoms)], axis=0)
        longest = tf.gather(tf.convert_to_tensor(self.longest), types)
        stiffness = tf.gather(tf.convert_to_tensor(self.stiffness), types)
        nearest = channels.nearest_of_slots(natoms, filled)
        square = tf.reduce_sum(spin * spin, axis=-1)
        bounded = longest > 0
        ratio = square / tf.where(bounded, longest, tf.ones_like(longest)) ** 2
        excess = tf.where(bounded, tf.nn.relu(ratio - 1.0), tf.zeros_like(ratio))
        d, there = tf.concat(list(diff), axis=2), tf.concat(list(filled), axis=2)
        r2 = tf.reduce_sum(d * d, axis=-1)
        inside = there & (r2 > 0.0) & (r2 < nearest**2)
        r = tf.sqrt(tf.where(inside, r2, tf.ones_like(r2)))
        wall = tf.where(inside, WALL / 2 * (nearest / r - 1.0) ** 3, tf.zeros_like(r))
        return stiffness * excess**3 + tf.reduce_sum(wall, axis=-1)

    # -- the rows of a least-squares fit -----------------------------------------------

    def rows(
        self,
        channels: SpinChannels,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        nlist: Sequence[tf.Tensor],
        spin: tf.Tensor,
        mask: tf.Tensor,
        natoms: Sequence[int],
    ) -> dict[str, tf.Tensor]:
        """What one unit of each number gives to each label, walls apart.

        Parameters
        ----------
        channels : SpinChannels
            Makes the sums.
        diff, filled, nlist : sequence of tf.Tensor
            Separations in Å, filled slots and neighbours by type.
        spin : tf.Tensor, shape (f, i, 3)
            Spins in μ_B, 0 on types without.
        mask : tf.Tensor, shape (f, i)
            1 where there is an atom.
        natoms : sequence of int
            Number of centres of each type.

        Returns
        -------
        dict
            ``energy`` (f, m), ``force`` and ``force_mag`` (f, i, 3, m), ``virial``
            (f, 9, m).
        """
        seen = self._pair_derivatives(channels, diff, filled, nlist, spin, natoms)
        nf, nloc, size = spin.shape[0], spin.shape[1], len(self.labels)
        total = {
            "energy": tf.zeros([nf, size], tf.float64),
            "force": tf.zeros([nf, nloc, 3, size], tf.float64),
            "force_mag": tf.zeros([nf, nloc, 3, size], tf.float64),
            "virial": tf.zeros([nf, 9, size], tf.float64),
        }
        begin = 0
        for t, n in enumerate(natoms):
            cut = slice(begin, begin + n)
            if n:
                part = self._rows_of(
                    channels, t, cut, seen, diff, nlist, spin, mask[:, cut]
                )
                chosen = np.zeros((len(self.numbers[t]), size))
                chosen[np.arange(len(chosen)), self.numbers[t]] = 1.0
                for name, value in part.items():
                    total[name] += tf.tensordot(value, tf.constant(chosen), 1)
            begin += n
        return total

    @staticmethod
    def _pair_derivatives(
        channels: SpinChannels,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        nlist: Sequence[tf.Tensor],
        spin: tf.Tensor,
        natoms: Sequence[int],
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Of each block B_k L_l summed (f, i, kl), and by axes (f, i, j, x, kl).

        Axes are those of the separation, then of the neighbour's spin.
        """
        nearest, result = channels.nearest_of(natoms), []
        for b, (d, m, index) in enumerate(zip(diff, filled, nlist, strict=True)):
            given = [d]
            if channels.use_spin[b]:
                given.append(tf.gather(spin, tf.maximum(index, 0), batch_dims=1))
            # all directions at once: as many copies of the frames, each with its own
            ncopies, shape = 3 * len(given), d.shape
            tangents = np.eye(ncopies).reshape(ncopies, len(given), 1, 1, 1, 3)
            copies = [tf.repeat(x[None], ncopies, axis=0) for x in given]
            with tf.autodiff.ForwardAccumulator(
                copies,
                [
                    tf.constant(tangents[:, k]) + tf.zeros_like(x)
                    for k, x in enumerate(copies)
                ],
            ) as forward:
                flat = [tf.reshape(x, [-1, *shape[1:]]) for x in copies]
                there = tf.repeat(m[None], ncopies, axis=0)
                radial, local = channels.pairs(
                    b,
                    flat[0],
                    tf.reshape(there, [-1, *shape[1:3]]),
                    flat[1] if len(flat) > 1 else None,
                    nearest[:, b],
                )
                value = radial[..., :, None] * local[..., None, :]
            width = value.shape[-2] * value.shape[-1]
            value, slope = (
                tf.reshape(x, [ncopies, *shape[:3], width])
                for x in (value, forward.jvp(value))
            )
            slope = tf.transpose(slope, [1, 2, 3, 0, 4])
            result.append((tf.reduce_sum(value[0], axis=2), slope))
        return result

    def _rows_of(
        self,
        channels: SpinChannels,
        t: int,
        cut: slice,
        seen: Sequence[tuple[tf.Tensor, tf.Tensor]],
        diff: Sequence[tf.Tensor],
        nlist: Sequence[tf.Tensor],
        spin: tf.Tensor,
        mask: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The same by the numbers of one type of centre, (..., n)."""
        nf, nloc = spin.shape[:2]
        n, width = cut.stop - cut.start, len(self.numbers[t])
        own = spin[:, cut]
        flat = tf.concat([*(total[:, cut] for total, _ in seen), own], axis=-1)
        flat = tf.reshape(flat, [nf * n, flat.shape[-1]])
        sizes = [total.shape[-1] for total, _ in seen]
        with tf.GradientTape() as tape:
            tape.watch(flat)
            *sums, spins = tf.split(flat, [*sizes, 3], axis=-1)
            folded = [
                tf.reshape(p, [nf * n, self.nradial, p.shape[1] // self.nradial])
                for p in sums
            ]
            columns = self.columns(t, folded, spins)
        there = tf.reshape(mask, [nf * n, 1])
        slopes = tape.batch_jacobian(columns, flat) * there[..., None]
        slopes = tf.reshape(slopes, [nf, n, width, flat.shape[1]])
        columns = tf.reshape(columns * there, [nf, n, width])
        *by_block, by_spin = tf.split(slopes, [*sizes, 3], axis=-1)

        def at_centres(value: tf.Tensor) -> tf.Tensor:
            return tf.pad(value, [[0, 0], [cut.start, nloc - cut.stop], [0, 0], [0, 0]])

        def at_neighbors(value: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
            frame = tf.range(nf)[:, None, None]
            segment = tf.where(index >= 0, frame * nloc + index, -1)
            total = tf.math.unsorted_segment_sum(
                tf.reshape(value, [-1, 3 * width]),
                tf.reshape(segment, [-1]),
                nf * nloc,
            )
            return tf.reshape(total, [nf, nloc, 3, width])

        force_mag = at_centres(-tf.linalg.matrix_transpose(by_spin))
        force = tf.zeros_like(force_mag)
        virial = tf.zeros([nf, 9, width], tf.float64)
        for slope, (_, pair), d, index in zip(by_block, seen, diff, nlist, strict=True):
            pair, d, index = pair[:, cut], d[:, cut], index[:, cut]
            shape = pair.shape  # f i j x kl
            pair = tf.reshape(pair, [nf, n, shape[2] * shape[3], shape[4]])
            pull = tf.matmul(pair, slope, transpose_b=True)
            pull = tf.reshape(pull, [nf, n, shape[2], shape[3], width])
            apart = pull[..., :3, :]
            product = tf.einsum("fijxn,fijy->fxyn", apart, d)
            virial -= tf.reshape(product, [nf, 9, width])
            force += at_centres(tf.reduce_sum(apart, axis=2))
            force -= at_neighbors(apart, index)
            if shape[3] == 6:
                force_mag -= at_neighbors(pull[..., 3:, :], index)
        return {
            "energy": tf.reduce_sum(columns, axis=1),
            "force": force,
            "force_mag": force_mag,
            "virial": virial,
        }

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "ntypes": self.ntypes,
            "use_spin": list(self.use_spin),
            "soc": self.soc,
            "nradial": self.nradial,
            "ncross": self.ncross,
        }
