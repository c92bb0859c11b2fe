# SPDX-License-Identifier: Apache-2.0
"""The Keras layer of the scheme `ener_spin`: virtual atoms in, forces on them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from types import ModuleType
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.fit.ener import EnerFitting, energy_per_type
from deepspin.model.pairs import (
    all_slots,
    counts,
    forces_on_points,
    length,
    lengths,
    separations,
    virials,
    with_ghosts,
)
from deepspin.model.statistics import EachOnce, Statistics
from deepspin.model.virtual_centres import moments_of_virtual
from deepspin.op import library
from deepspin.op.potential import Potential
from deepspin.spins.types import SMALL_MOMENT, UNKNOWN_SPIN
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils.network import layer_weights


@keras.saving.register_keras_serializable(package="deepspin")
class Spin(keras.layers.Layer):
    r"""Place a virtual atom beside every atom that carries a spin.

    .. math:: R_i^p = R_i + \frac{\mathrm{virtual\_len}}{\mathrm{spin\_norm}} S_i

    Parameters
    ----------
    use_spin : sequence of bool, length ntypes
        Which types carry a spin.
    virtual_len, spin_norm : sequence of float, one per spin type, optional
        Distance in Å of the virtual atom of a spin of modulus `spin_norm` (μ_B).
    virtual_scale : sequence of float, one per spin type, optional
        Their ratio in Å/μ_B, instead of the two.
    time_reversal : bool
        Whether the energy is (E(S) + E(-S)) / 2, exactly even in the spins, from one
        evaluation of twice as many frames.
    placeholders : bool
        Whether types without spin have types of neighbours that never come, see
        `VirtualAtoms`.
    ignore_below : float
        Moments in μ_B below this are left out in data, on types without spin.

    References
    ----------
    .. [1] T. Yang et al., Phys. Rev. B 110, 064427 (2024),
       doi:10.1103/PhysRevB.110.064427.
    """

    def __init__(
        self,
        use_spin: Sequence[bool],
        virtual_len: Sequence[float] | None = None,
        spin_norm: Sequence[float] | None = None,
        virtual_scale: Sequence[float] | None = None,
        time_reversal: bool = False,
        placeholders: bool = False,
        ignore_below: float = SMALL_MOMENT,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        self._options: dict[str, Any] = {
            "use_spin": [bool(x) for x in use_spin],
            "virtual_len": virtual_len and [float(x) for x in virtual_len],
            "spin_norm": spin_norm and [float(x) for x in spin_norm],
            "virtual_scale": virtual_scale and [float(x) for x in virtual_scale],
            "time_reversal": bool(time_reversal) or None,
        }
        if ignore_below != SMALL_MOMENT:
            self._options["ignore_below"] = float(ignore_below)
        self.scheme = VirtualAtoms.from_options(
            **self.options, placeholders=placeholders
        )
        self.built = True

    fitting_options: ClassVar[Mapping[str, Any]] = {}  # nothing beyond the input's

    def build_descriptor(self, sel: Sequence[int], **options: Any) -> DescrptSeA:
        """Make the descriptor over the types and their virtual atoms."""
        extended, ntypes = self.scheme.extend_sel(sel), self.scheme.ntypes
        return DescrptSeA(sel=extended, ntypes=ntypes, **options)

    def call(
        self, coord: tf.Tensor, spin: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions of all points: the atoms, then the virtual atom of each.

        An atom without spin stands for its own virtual atom; nothing points at it.

        Parameters
        ----------
        coord, spin : tf.Tensor, shape (nf, nloc, 3)
            Positions (Å) and spins (μ_B) of atoms sorted by type.
        natoms : sequence of int, length ntypes
            Number of atoms of each type.

        Returns
        -------
        points : tf.Tensor, shape (nf, 2 nloc, 3)
            Positions in Å.
        offset : tf.Tensor, shape (nf, 2 nloc, 3)
            Position of each point relative to its owner in Å, 0 for the atoms.
        """
        apart = self.scale(natoms)[:, None] * spin
        offset = tf.concat([tf.zeros_like(apart), apart], axis=1)
        return tf.concat([coord, coord], axis=1) + offset, offset

    def points(
        self, coord: tf.Tensor, spin: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tf.Tensor:
        """Positions (Å) of all points that lists name, see `VirtualAtoms.points`."""
        points, _ = self(coord, spin, natoms=natoms)
        if not self.scheme.time_reversal:
            return points
        reversed_, _ = self(coord, -spin, natoms=natoms)
        return tf.concat([points, reversed_[:, length(coord) :]], axis=1)

    def scale(self, natoms: Sequence[tf.Tensor | int]) -> tf.Tensor:
        """``virtual_len / spin_norm`` in Å/μ_B of sorted atoms, 0 without spin.

        Where `natoms` is longer than the types, these begin anew, as for ghosts.
        """
        scales = cycle(self.scheme.codec.scale)
        return tf.concat(
            [
                tf.fill([n], tf.constant(scale, dtype=tf.float64))
                for n, scale in zip(natoms, scales, strict=False)
            ],
            axis=0,
        )

    def fold(
        self, force_points: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Forces and magnetic forces from the forces on all points.

        Parameters
        ----------
        force_points : tf.Tensor, shape (nf, 2 nloc, 3)
            -dE/dR of atoms and virtual atoms as if they moved alone, in eV/Å.
        natoms : sequence of int, length ntypes
            Number of atoms of each type.

        Returns
        -------
        force : tf.Tensor, shape (nf, nloc, 3)
            -dE/dcoord at fixed spin, in eV/Å: a virtual atom moves with its owner.
        force_mag : tf.Tensor, shape (nf, nloc, 3)
            -dE/dspin at fixed coord, in eV/μ_B.
        """
        real, virtual = tf.split(force_points, 2, axis=1)
        return real + virtual, self.scale(natoms)[:, None] * virtual

    def neighbors(
        self, nlist: tf.Tensor, shift: tf.Tensor, atype: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Neighbouring points of each atom, from its neighbouring atoms.

        Parameters
        ----------
        nlist : tf.Tensor of int32, shape (nf, nloc, nnei)
            Neighbouring atoms, -1 in empty slots.
        shift : tf.Tensor of int32, shape (nf, nloc, nnei, 3)
            Their lattice shifts.
        atype : tf.Tensor of int32, shape (nf, nloc)
            Types, -1 for no atom.

        Returns
        -------
        index, kind : tf.Tensor of int32, shape (nf, nloc, 2 nnei + 1)
            Numbers of the points, as `points` orders them, and the lists that they
            belong to: atoms, the virtual atoms of these and the centre's own, and
            with `time_reversal` as many of the spins reversed. `kind` is -1 for none.
        shift : tf.Tensor of int32, shape (nf, nloc, 2 nnei + 1, 3)
            Their lattice shifts.
        """
        nloc = tf.shape(atype)[1]
        own = tf.where(atype >= 0, tf.range(nloc), -1)[..., None]  # f i 1
        owner = tf.concat([nlist, own], axis=2)
        types = tf.gather(atype, tf.maximum(owner, 0), batch_dims=1)
        types = tf.where(owner >= 0, types, -1)
        table = [*self.scheme.codec.virtual_type(np.arange(self.scheme.ntypes)), -1]
        row = tf.where(types >= 0, types, self.scheme.ntypes)
        virtual = tf.gather(tf.constant(table, dtype=tf.int32), row)
        shift_own = tf.concat([shift, tf.zeros_like(shift[:, :, :1])], axis=2)
        index, kind = [nlist, owner + nloc], [types[:, :, :-1], virtual]
        shifts = [shift, shift_own]
        if self.scheme.time_reversal:
            index.append(owner + 2 * nloc)
            further = len(self.scheme.owners)
            kind.append(tf.where(virtual >= 0, virtual + further, -1))
            shifts.append(shift_own)
        return tf.concat(index, 2), tf.concat(kind, 2), tf.concat(shifts, 2)

    def offset(self, atype: tf.Tensor, spin: tf.Tensor) -> tf.Tensor:
        """How far (Å) each atom's points lie from it, (nf, nloc).

        Parameters
        ----------
        atype : tf.Tensor of int32, shape (nf, nloc)
            Types, -1 for no atom.
        spin : tf.Tensor, shape (nf, nloc, 3)
            Spins in μ_B.
        """
        table = tf.constant([*self.scheme.codec.scale, 0.0], dtype=tf.float64)
        row = tf.where(atype >= 0, atype, self.scheme.ntypes)
        return tf.gather(table, row) * tf.linalg.norm(spin, axis=-1)

    def nominal_spin(self, spin_type: int) -> float:
        """Length of a spin in μ_B that the options expect of a type."""
        k = self.scheme.types.spin_types.index(spin_type)
        lengths, scales = (self._options[n] for n in ("virtual_len", "virtual_scale"))
        nominal = lengths[k] if lengths else scales[k] * UNKNOWN_SPIN
        return nominal / self.scheme.codec.scale[spin_type]

    # -- evaluation --------------------------------------------------------------------

    def operations(
        self, descriptor: DescrptSeA, fitting: EnerFitting
    ) -> ModuleType | None:
        """Compiled operations, where they can do what these layers ask for, or None."""
        able = descriptor.native and fitting.native and not fitting.standardize
        same = descriptor.compute_dtype == fitting.compute_dtype
        return library.operations() if able and same else None

    def evaluate(
        self,
        inputs: dict,
        descriptor: DescrptSeA,
        fitting: EnerFitting,
        *,
        training: bool = False,
    ) -> dict:
        """Energies and their derivatives.

        Parameters
        ----------
        inputs : dict
            Of `SpinEnergyModel`.
        descriptor, fitting
            The model's other layers.
        training : bool
            Keep what the gradient of the weights needs.

        Returns
        -------
        dict
            ``energy``, ``atom_ener``, ``force``, ``force_mag``, ``virial``,
            ``atom_virial``, and of a compressed descriptor ``extrapolated``.
        """
        operations = self.operations(descriptor, fitting)
        both = self.scheme.time_reversal
        given = self._with_reversed(inputs) if both else inputs
        if operations is None:
            outputs = self._plain(given, descriptor, fitting)
        else:
            outputs = self._native(operations, given, descriptor, fitting, training)
        return _even(outputs) if both else outputs

    def _forward(self, inputs: dict) -> dict:
        """Inputs with the lists of the spins as they are."""
        number = self.scheme.nblocks
        own = {name: tuple(inputs[name][:number]) for name in ("nlist", "shift")}
        return {**inputs, **own}

    def _with_reversed(self, inputs: dict) -> dict:
        """Inputs of twice as many frames: as they are, then with spins reversed."""
        scheme, nall = self.scheme, length(with_ghosts(inputs, "coord"))
        own: dict[str, tuple] = {"nlist": (), "shift": ()}
        for name in own:
            for block in range(scheme.nblocks):
                one = two = inputs[name][block]
                if block >= scheme.ntypes:
                    two = inputs[name][block + len(scheme.owners)]
                    if name == "nlist":
                        two = tf.where(two < 0, -1, two - nall)
                own[name] += (_joined(one, two, fill=-1 if name == "nlist" else 0),)
        twice = tf.nest.map_structure(
            lambda x: tf.concat([x, x], axis=0),
            {k: v for k, v in inputs.items() if k not in ("nlist", "shift", "spin")},
        )
        both = {**twice, **own}
        both["spin"] = tf.concat([inputs["spin"], -inputs["spin"]], axis=0)
        if "ghosts" in inputs:
            spin = inputs["ghosts"]["spin"]
            spin = tf.concat([spin, -spin], axis=0)
            both["ghosts"] = {**twice["ghosts"], "spin": spin}
        return both

    def _native(
        self,
        operations: ModuleType,
        inputs: dict,
        descriptor: DescrptSeA,
        fitting: EnerFitting,
        training: bool,
    ) -> dict:
        """Energy and its derivatives by compiled operations."""
        natoms, mask = lengths(inputs["mask"]), all_slots(inputs)
        coord, number = with_ghosts(inputs, "coord"), counts(inputs)
        points, offset = self(coord, with_ghosts(inputs, "spin"), natoms=number)
        rows = _with_rows_of_ghosts(inputs) if "ghosts" in inputs else inputs
        potential = Potential(
            fitting=fitting.neuron,
            fitting_dt=fitting.resnet_dt,
            **descriptor.native_options,
        )
        energy, force_points, atom_virial, outside = potential(
            operations,
            points,
            offset,
            inputs["box"],
            all_slots(rows),
            lengths(rows["mask"]),
            rows["nlist"],
            rows["shift"],
            (descriptor.davg, descriptor.dstd),
            [*descriptor.native_weights, *layer_weights(fitting.nets)],
            edges=descriptor.native_edges,
            training=training,
        )
        atom_ener = energy[:, : length(mask)] + mask * fitting.constants(natoms)
        force, force_mag = self.fold(force_points, number)
        return {
            "energy": tf.reduce_sum(atom_ener, axis=1),
            "atom_ener": atom_ener,
            "force": force,
            "force_mag": force_mag,
            "virial": tf.reshape(tf.reduce_sum(atom_virial, axis=1), [-1, 3, 3]),
            "atom_virial": tf.reshape(atom_virial, [-1, length(coord), 3, 3]),
            **({"extrapolated": outside} if descriptor.tables else {}),
        }

    def _plain(
        self, inputs: dict, descriptor: DescrptSeA, fitting: EnerFitting
    ) -> dict:
        """The same by TensorFlow's operations."""
        natoms, mask = lengths(inputs["mask"]), all_slots(inputs)
        coord, number = with_ghosts(inputs, "coord"), counts(inputs)
        points, offset = self(coord, with_ghosts(inputs, "spin"), natoms=number)
        diff, filled = separations(points, inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(diff)
            seen = descriptor(diff, filled, natoms=natoms)
            fparam = inputs.get("fparam")
            atom_ener = fitting(seen, natoms=natoms, fparam=fparam) * mask
            energy = tf.reduce_sum(atom_ener, axis=1)
        # dE/d(separation), zero where nothing is seen
        pull = tape.gradient(energy, diff, unconnected_gradients="zero")
        nall = length(coord)
        on_points = forces_on_points(pull, inputs["nlist"], 2 * nall)
        force, force_mag = self.fold(on_points, number)
        # spins stay fixed while atoms and cell are strained: from atom to atom
        apart = [
            r - tf.gather(offset, tf.maximum(nlist, 0), batch_dims=1)
            for r, nlist in zip(diff, inputs["nlist"], strict=True)
        ]
        atom_virial, virial = virials(pull, apart, inputs["nlist"], nall)
        outputs = {
            "energy": energy,
            "atom_ener": atom_ener,
            "force": force,
            "force_mag": force_mag,
            "virial": virial,
            "atom_virial": atom_virial,
        }
        if descriptor.tables:
            outside = descriptor.extrapolated(diff, filled, natoms)
            outputs["extrapolated"] = outside
        return outputs

    def seen(
        self, inputs: dict, descriptor: DescrptSeA
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """What the descriptor takes: separations by type, and which slots are filled.

        See `deepspin.model.pairs.separations`.
        """
        del descriptor
        natoms = lengths(inputs["mask"])
        points, _ = self(inputs["coord"], inputs["spin"], natoms=natoms)
        return separations(points, self._forward(inputs))

    # -- statistics --------------------------------------------------------------------

    def compute_stats(
        self,
        batches: Iterable[tuple[dict, dict]],
        descriptor: DescrptSeA,
        fitting: EnerFitting,
        atom_ener: Sequence[float | None] | None = None,
        rcond: float | None = None,
    ) -> None:
        """Set `davg`, `dstd` and `bias_atom_e`.

        The bias is fitted for the kinds of atoms that the scheme counts, virtual ones
        too, and folded onto the types.

        Parameters
        ----------
        batches : iterable of (inputs, labels)
            The sample, see `SpinEnergyModel.compute_stats`.
        descriptor, fitting
            The model's other layers.
        atom_ener : sequence of float or None, optional
            Given energies in eV of the types, or of the types and the spin types'
            virtual atoms; None where they are to be found.
        rcond : float, optional
            Cutoff of small singular values in the least squares for the bias.
        """
        found = self.statistics(batches, descriptor, atom_ener, rcond)
        self.set_statistics(found, descriptor, fitting)

    def statistics(
        self,
        batches: Iterable[tuple[dict, dict]],
        descriptor: DescrptSeA,
        atom_ener: Sequence[float | None] | None = None,
        rcond: float | None = None,
        *,
        all_kinds: bool = False,
    ) -> Statistics:
        """Look at data, see `compute_stats`, and set nothing.

        With `all_kinds` also at what virtual atoms see, which no energy depends on.
        """
        energies, counts, scheme = [], [], self.scheme

        def moments(inputs: dict, frames: Sequence[slice]) -> list[np.ndarray]:
            masks = [np.asarray(m) for m in inputs["mask"]]
            seen = self.seen(inputs, descriptor)
            found = descriptor.moments(*seen, masks, frames)
            if not all_kinds:
                return found
            natoms = lengths(inputs["mask"])
            points, _ = self(inputs["coord"], inputs["spin"], natoms=natoms)
            more = moments_of_virtual(
                scheme, descriptor, inputs, points.numpy(), frames
            )
            pairs = zip(found, more, strict=True)
            return [np.concatenate(pair, axis=1) for pair in pairs]

        sample, there = EachOnce(moments), np.zeros(scheme.ntypes, dtype=bool)
        for inputs, labels in batches:
            sample.add(inputs)
            masks = [np.asarray(m) for m in inputs["mask"]]
            real = np.stack([m.sum(axis=1) for m in masks], axis=1)
            there |= real.any(axis=0)
            if "energy" in labels:
                found = np.asarray(labels["find_energy"]) > 0
                counts.append(real[found][:, scheme.energy_types])
                energies.append(np.asarray(labels["energy"])[found])
        environment = descriptor.total(sample.results())
        types = tuple(np.flatnonzero(there).tolist())
        if not energies or not sum(map(len, energies)):
            return Statistics(environment, types=types)
        given = list(atom_ener) if atom_ener is not None else None
        if given is not None and len(given) == scheme.ntypes:
            more = scheme.energy_types[scheme.ntypes :]
            given += [None if given[t] is None else 0.0 for t in more]
        energy, number = np.concatenate(energies), np.concatenate(counts).astype(float)
        bias = energy_per_type(energy, number, given, rcond)
        spread = float((energy - number @ bias).std())
        return Statistics(environment, bias, spread, types)

    def set_statistics(
        self, found: Statistics, descriptor: DescrptSeA, fitting: EnerFitting
    ) -> None:
        """Set `davg`, `dstd` and `bias_atom_e` by what data told."""
        scheme = self.scheme
        descriptor.set_total(found.environment[: scheme.ntypes])
        if found.bias is None:
            return
        folded = np.zeros(scheme.ntypes)
        np.add.at(folded, list(scheme.energy_types), found.bias)
        fitting.bias_atom_e.assign(folded)

    # -- what it is --------------------------------------------------------------------

    @property
    def meaning(self) -> dict:
        """What decides about the meaning of a model's weights."""
        scheme = self.scheme
        reversal = {"time_reversal": True} if scheme.time_reversal else {}
        return {"virtual_scale": scheme.codec.scale, **reversal}

    @property
    def hidden(self) -> dict:
        """Options that a model may have and no input can say."""
        return {"placeholders": self.scheme.placeholders}

    @property
    def options(self) -> dict:
        """What the layer was told of spins: ``model/spin`` of an input."""
        return {k: v for k, v in self._options.items() if v is not None}

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        config = {**super().get_config(), **self._options}
        return config | self.hidden


def _joined(one: tf.Tensor, two: tf.Tensor, fill: int) -> tf.Tensor:
    """Lists (nf, nloc, width, ...) of frames and of others, widened by `fill`."""
    wide = [
        x.shape[2] if x.shape[2] is not None else tf.shape(x)[2] for x in (one, two)
    ]
    known = all(isinstance(w, int) for w in wide)
    most = max(wide) if known else tf.maximum(*wide)

    def widened(x: tf.Tensor, width: tf.Tensor | int) -> tf.Tensor:
        more = [[0, 0], [0, 0], [0, most - width], *([[0, 0]] * (len(x.shape) - 3))]
        return tf.pad(x, more, constant_values=fill)

    return tf.concat([widened(x, w) for x, w in zip((one, two), wide, strict=True)], 0)


def _with_rows_of_ghosts(inputs: dict) -> dict:
    """Inputs as compiled operations take ghosts: of the last type, and not there."""
    more = length(inputs["ghosts"]["coord"])

    def lengthened(x: tf.Tensor, fill: int | bool) -> tf.Tensor:
        paddings = [[0, 0], [0, more], *([[0, 0]] * (len(x.shape) - 2))]
        return tf.pad(x, paddings, constant_values=fill)

    *others, last = inputs["mask"]
    return {
        "mask": (*others, lengthened(last, fill=False)),
        "nlist": tuple(lengthened(x, fill=-1) for x in inputs["nlist"]),
        "shift": tuple(lengthened(x, fill=0) for x in inputs["shift"]),
    }


def _even(outputs: dict) -> dict:
    """Mean of frames and of the same with spins reversed."""
    result = {}
    for name, value in outputs.items():
        if name == "extrapolated":  # a number of no frame
            result[name] = value
            continue
        forward, backward = tf.split(value, 2, axis=0)
        odd = name == "force_mag"
        result[name] = 0.5 * (forward - backward if odd else forward + backward)
    return result
