# SPDX-License-Identifier: Apache-2.0
"""What an atom sees of atoms and spins around it: sums over neighbours, and invariants.

Letters of the einsums: f frame, i centre, j neighbour slot, k radial function, l local
component (see `components`), g mixture of radial functions, a axis channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import check_sizes, divided, smooth_weight
from deepspin.op.invariant import MOST_RADIAL

# below the nearest distance of the data, radial functions come to rest within (Å)
REST = 0.2
# pairs of axes of a symmetric matrix, as they are stored, and what picks them
AXES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_ONE, _OTHER = (np.eye(3)[:, list(axes)] for axes in zip(*AXES, strict=True))


def components(magnetic: bool, soc: bool) -> dict[str, slice]:
    """Where the local components of a type of neighbours stand.

    With u the direction to the neighbour and S its spin: ``1``, ``u`` (3); of magnetic
    neighbours ``S`` (3), ``uS`` (3 x 3), ``SS`` (6, see `AXES`); with spin-orbit
    coupling ``uu`` (6) less a third of the unit matrix and ``uuS`` (3), u (u.S).
    """
    sizes = {"1": 1, "u": 3}
    if magnetic:
        sizes |= {"S": 3, "uS": 9, "SS": 6}
    if soc:
        sizes |= {"uu": 6}
        if magnetic:
            sizes |= {"uuS": 3}
    ends = np.cumsum([0, *sizes.values()]).tolist()
    return {name: slice(*ends[n : n + 2]) for n, name in enumerate(sizes)}


def symmetric(x: tf.Tensor) -> tf.Tensor:
    """Elements `AXES` of the products of a vector with itself: (..., 3) to (..., 6)."""
    return tf.matmul(x, tf.constant(_ONE)) * tf.matmul(x, tf.constant(_OTHER))


def parted(x: tf.Tensor, where: Mapping[str, slice]) -> dict[str, tf.Tensor]:
    """Components (see `components`) of sums, (..., width) each."""
    sizes = [cut.stop - cut.start for cut in where.values()]
    return dict(zip(where, tf.split(x, sizes, axis=-1), strict=True))


def _width(x: tf.Tensor) -> tf.Tensor | int:
    return tf.shape(x)[2] if x.shape[2] is None else x.shape[2]


@keras.saving.register_keras_serializable(package="deepspin")
class SpinChannels(keras.layers.Layer):
    r"""Sums over the neighbours of each centre, and scalars made of them.

    .. math:: P^b_{kl} = \sum_{j \in b} B_k(r_{ij}) L_l(\hat u_{ij}, S_j), \quad
              B_k(r) = T_k(2 r/r_\mathrm{cut} - 1)\, w(r)

    for each type b of neighbours, with Chebyshev polynomials :math:`T_k`, the switch w
    of `se_e2_a`, and the local components L of `components`. They hold no weights; what
    makes them scalars are products in which all spins are contracted with spins and all
    directions with directions (with spin-orbit coupling also with each other), so that
    every symmetry is exact.

    As a descriptor (`call`), for nets: mixtures of all :math:`P^b_k`, one set for each
    type of centre, and products of the first `axis_neuron` with all; of a lone atom
    without a spin they are 0.

    Parameters
    ----------
    rcut, rcut_smth : float
        Cutoff and begin of smoothing in Å.
    sel : sequence of int
        Slots for each type of neighbour; only a limit, arrays are as wide as the data.
    ntypes : int
        Number of types.
    use_spin : sequence of bool, length ntypes
        Which types carry a spin.
    soc : bool
        Whether directions and spins are contracted with each other, too.
    nradial : int
        Number of radial functions.
    neuron : sequence of int
        The last one is the number of mixtures; the others are those of `se_e2_a`'s
        embedding nets, of which there are none here.
    axis_neuron : int
        How many of the mixtures enter products with all.
    seed : int, optional
        Seed of the mixtures.
    """

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        ntypes: int,
        use_spin: Sequence[bool],
        *,
        soc: bool = False,
        nradial: int = 14,
        neuron: Sequence[int] = (8,),
        axis_neuron: int = 4,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        check_sizes(rcut, rcut_smth, neuron, axis_neuron)
        self.rcut, self.rcut_smth = float(rcut), float(rcut_smth)
        self.sel = tuple(int(n) for n in sel)
        self.ntypes, self.use_spin = ntypes, tuple(map(bool, use_spin))
        self.soc, self.nradial = bool(soc), int(nradial)
        self.neuron = tuple(int(n) for n in neuron)
        self.axis_neuron, self.seed = int(axis_neuron), seed
        self.components = [components(flag, self.soc) for flag in self.use_spin]
        self.mixing = self._constant("mixing", self._mixtures())
        self.nearest = self._constant("nearest", np.zeros((ntypes, ntypes)))
        self.built = True

    def _constant(self, name: str, value: np.ndarray) -> keras.Variable:
        weight = self.add_weight(
            name=name, shape=value.shape, dtype="float64", trainable=False
        )
        weight.assign(value)
        return weight

    def _mixtures(self) -> np.ndarray:
        """Random orthogonal mixtures of all types' radial functions, for each type."""
        random = np.random.default_rng(None if self.seed is None else [self.seed, 5])
        size, count = self.ntypes * self.nradial, self.neuron[-1]
        square = random.normal(size=(self.ntypes, max(size, count), max(size, count)))
        return np.linalg.qr(square)[0][:, :size, :count]

    # -- sums over neighbours ----------------------------------------------------------

    def width(self, block: int) -> int:
        """Number of local components of a type of neighbours."""
        return max(part.stop for part in self.components[block].values())

    def radial(self, r: tf.Tensor, nearest: tf.Tensor) -> tf.Tensor:
        """Radial functions (..., nradial); they rest below the nearest distance."""
        x = tf.clip_by_value((nearest - r) / REST, 0.0, 1.0)
        r = tf.where(r < nearest, nearest - REST * x * (1.0 - x * x + x**3 / 2), r)
        x = (2.0 * r / self.rcut - 1.0)[..., None]
        terms = tf.concat([tf.ones_like(x), x], axis=-1)[..., : self.nradial]
        while (known := terms.shape[-1]) < self.nradial:  # T_m+n = 2 T_m T_n - T_m-n
            more = min(known - 1, self.nradial - known)
            last, before = terms[..., -1:], terms[..., known - 1 - more : known - 1]
            product = 2.0 * last * terms[..., 1 : more + 1]
            new = product - tf.reverse(before, axis=[-1])
            terms = tf.concat([terms, new], axis=-1)
        weight = smooth_weight(r, self.rcut, self.rcut_smth, float32=False)
        return terms * weight[..., None]

    def _polar(
        self, diff: tf.Tensor, filled: tf.Tensor, nearest: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Radial functions, 0 in empty slots, and directions of neighbours."""
        square = tf.reduce_sum(diff * diff, axis=-1)
        usable = filled & (square > 0.0)
        r = tf.sqrt(tf.where(usable, square, tf.ones_like(square)))
        # atoms that coincide have no energy, rather than a wrong one
        r = tf.where(usable | ~filled, r, np.nan * tf.ones_like(r))
        radial = self.radial(r, nearest)
        radial = tf.where(filled[..., None], radial, tf.zeros_like(radial))
        return radial, diff / r[..., None]

    def _local(self, block: int, u: tf.Tensor, spin: tf.Tensor | None) -> tf.Tensor:
        """Local components of neighbours of a type, from directions and spins."""
        parts = {"1": tf.ones_like(u[..., :1]), "u": u}
        if self.soc:
            trace = tf.constant([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], tf.float64) / 3.0
            parts["uu"] = symmetric(u) - trace
        if spin is not None:
            parts["S"], parts["SS"] = spin, symmetric(spin)
            product = u[..., :, None] * spin[..., None, :]
            shape = tf.shape(u)
            parts["uS"] = tf.reshape(product, [shape[0], shape[1], shape[2], 9])
            if self.soc:
                along = tf.reduce_sum(u * spin, axis=-1, keepdims=True)
                parts["uuS"] = u * along
        return tf.concat([parts[name] for name in self.components[block]], axis=-1)

    def pairs(
        self,
        block: int,
        diff: tf.Tensor,
        filled: tf.Tensor,
        spin: tf.Tensor | None,
        nearest: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Radial functions and local components of each neighbour of a type.

        Parameters
        ----------
        block : int
            Type of the neighbours.
        diff : tf.Tensor, shape (f, i, j, 3)
            Neighbour minus centre in Å.
        filled : tf.Tensor of bool, shape (f, i, j)
            Which slots hold a neighbour.
        spin : tf.Tensor, shape (f, i, j, 3), or None
            Spins (μ_B) of neighbours of a type that has some.
        nearest : tf.Tensor, shape (i,)
            Nearest distance in Å in the data, for each centre.
        """
        radial, u = self._polar(diff, filled, nearest[:, None])
        return radial, self._local(block, u, spin)

    def sums(
        self,
        diff: Sequence[tf.Tensor],
        filled: Sequence[tf.Tensor],
        spins: Sequence[tf.Tensor | None],
        natoms: Sequence[tf.Tensor | int],
    ) -> list[tf.Tensor]:
        """P of each type of neighbours, (f, i, k, l).

        Parameters
        ----------
        diff, filled, spins
            By type of neighbour, see `pairs`.
        natoms : sequence of int, length ntypes
            Number of centres of each type; centres are sorted by type.
        """
        widths = [_width(m) for m in filled]
        radial, u = self._polar(
            tf.concat(list(diff), axis=2),
            tf.concat(list(filled), axis=2),
            self.nearest_of_slots(natoms, filled),
        )
        parts = zip(
            divided(radial, widths, axis=2),
            divided(u, widths, axis=2),
            spins,
            strict=True,
        )
        return [
            tf.matmul(own, self._local(b, way, spin), transpose_a=True)
            for b, (own, way, spin) in enumerate(parts)
        ]

    def nearest_of_slots(
        self, natoms: Sequence[tf.Tensor | int], filled: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """Nearest distances in Å of each centre and slot, of all types of neighbours.

        Shape (i, sum of widths).
        """
        blocks = [tf.fill([_width(m)], b) for b, m in enumerate(filled)]
        return tf.gather(self.nearest_of(natoms), tf.concat(blocks, axis=0), axis=1)

    def nearest_of(self, natoms: Sequence[tf.Tensor | int]) -> tf.Tensor:
        """Nearest distances in Å of each centre, (i, ntypes)."""
        rows = [tf.fill([n], t) for t, n in enumerate(natoms)]
        return tf.gather(tf.convert_to_tensor(self.nearest), tf.concat(rows, axis=0))

    # -- descriptor --------------------------------------------------------------------

    @property
    def products(self) -> list[str]:
        """Names of the kinds of products, `axis_neuron` times all mixtures each."""
        names = ["u.u", "S.S", "uS:uS", "(s.uS).u"]
        if self.soc:
            names += ["uS:Su", "tr tr", "(s.Su).u", "tr (s.u)", "(s.u)(s.u)"]
        return names

    @property
    def dim_out(self) -> int:
        """Number of components of the descriptor."""
        linear = 3 + 2 * self.soc  # 1, SS, s.S; s.uuS, s.uu.s
        count = linear + len(self.products) * self.axis_neuron
        return 1 + count * self.neuron[-1]

    def call(
        self,
        sums: Sequence[tf.Tensor],
        spin: tf.Tensor,
        natoms: Sequence[tf.Tensor | int],
    ) -> tf.Tensor:
        """Scalars for nets, (f, i, dim_out).

        Parameters
        ----------
        sums : sequence of tf.Tensor
            See `sums`.
        spin : tf.Tensor, shape (f, i, 3)
            Spins of the centres in μ_B, 0 on types without.
        natoms : sequence of int, length ntypes
            Number of centres of each type.
        """
        own = zip(*(divided(p, natoms, axis=1) for p in sums), strict=True)
        spins = divided(spin, natoms, axis=1)
        parts = [
            self._scalars(t, here, s)
            for t, (here, s) in enumerate(zip(own, spins, strict=True))
        ]
        return tf.concat(parts, axis=1)

    def _mixed(self, t: int, sums: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Mixtures of all types' sums, by component: (f, i, g, width)."""
        shape = [self.ntypes, self.ntypes, self.nradial, self.neuron[-1]]
        mixing = tf.unstack(tf.reshape(self.mixing, shape)[t])  # k g
        total: dict[str, tf.Tensor] = {}
        for p, matrix, where in zip(sums, mixing, self.components, strict=True):
            mixed = tf.matmul(matrix, p, transpose_a=True)
            for name, part in parted(mixed, where).items():
                total[name] = total[name] + part if name in total else part
        return total

    def _scalars(self, t: int, sums: Sequence[tf.Tensor], spin: tf.Tensor) -> tf.Tensor:
        mixed = self._mixed(t, sums)
        first = self.axis_neuron
        density, u = mixed["1"][..., 0], mixed["u"]
        s, us = mixed["S"], mixed["uS"]
        squares = tf.reduce_sum(mixed["SS"][..., :3], axis=-1)
        own = spin[:, :, None]  # f i 1 s
        shape = tf.shape(us)
        matrix = tf.reshape(us, [shape[0], shape[1], self.neuron[-1], 3, 3])
        turned = tf.reduce_sum(matrix * own[..., None, :], axis=-1)  # f i g u
        parts = [
            tf.reduce_sum(spin * spin, axis=-1, keepdims=True),
            density,
            squares,
            tf.reduce_sum(s * own, axis=-1),
        ]
        pairs = [(u, u), (s, s), (us, us), (turned, u)]
        if self.soc:
            q = symmetric(spin) * tf.constant([1, 1, 1, 2, 2, 2], tf.float64)
            parts.append(tf.reduce_sum(mixed["uuS"] * own, axis=-1))
            parts.append(tf.reduce_sum(mixed["uu"] * q[:, :, None], axis=-1))
            swapped = tf.linalg.matrix_transpose(matrix)
            trace = tf.linalg.trace(matrix)[..., None]
            along = tf.reduce_sum(u * own, axis=-1, keepdims=True)
            crossed = tf.reduce_sum(swapped * own[..., None, :], axis=-1)
            pairs += [
                (us, tf.reshape(swapped, shape)),
                (trace, trace),
                (crossed, u),
                (trace, along),
                (along, along),
            ]
        for a, b in pairs:
            product = tf.matmul(a, b[:, :, :first], transpose_b=True)
            flat = self.neuron[-1] * first
            parts.append(tf.reshape(product, [shape[0], shape[1], flat]))
        return tf.concat(parts, axis=-1)

    # -- what the rest of the package asks of a descriptor -----------------------------

    tables: Sequence = ()
    leaves = None
    check_frequency = -1
    env_protection = 0.0
    table_bytes = 0

    @property
    def native(self) -> bool:
        """Whether the compiled kernels know such sums."""
        return self.nradial <= MOST_RADIAL and any(self.use_spin)

    @property
    def native_options(self) -> dict:
        """Fields of `deepspin.op.invariant.InvariantPotential`."""
        return {
            "use_spin": self.use_spin,
            "soc": self.soc,
            "cutoff": (self.rcut, self.rcut_smth),
            "nradial": self.nradial,
            "channels": self.neuron[-1],
            "axis_neuron": self.axis_neuron,
        }

    @property
    def hidden(self) -> Mapping[str, Any]:
        """Options that a model may have and no input can say: none."""
        return {}

    def set_nearest(self, distances: Iterable[tuple[int, int, np.ndarray]]) -> None:
        """Set `nearest` from (type of centre, of neighbour, distances in Å)."""
        nearest = np.full((self.ntypes, self.ntypes), np.inf)
        for a, b, r in distances:
            nearest[a, b] = min(nearest[a, b], np.min(r, initial=np.inf))
        nearest = np.minimum(nearest, nearest.T)
        self.nearest.assign(np.where(np.isfinite(nearest), nearest, 0.0))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self.sel),
            "ntypes": self.ntypes,
            "use_spin": list(self.use_spin),
            "soc": self.soc,
            "nradial": self.nradial,
            "neuron": list(self.neuron),
            "axis_neuron": self.axis_neuron,
            "seed": self.seed,
        }
