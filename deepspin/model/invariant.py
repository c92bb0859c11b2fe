# SPDX-License-Identifier: Apache-2.0
"""The Keras layer of the scheme `invariant`: energies even in the spins and isotropic.

Rows of the baseline's fit are made here too, since they need the model's lists; what
becomes of them is in `deepspin.model.closed_form`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from types import ModuleType
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.spin_channels import SpinChannels
from deepspin.fit.baseline import Baseline
from deepspin.fit.ener import EnerFitting
from deepspin.model.closed_form import (
    BaselineOptions,
    BaselineReport,
    Sample,
    frame_by_frame,
)
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
from deepspin.op import library
from deepspin.op.invariant import Constants, Frames, InvariantPotential
from deepspin.spins.invariant import Invariant
from deepspin.spins.types import SMALL_MOMENT, UNKNOWN_SPIN
from deepspin.utils.network import layer_weights


@keras.saving.register_keras_serializable(package="deepspin")
class InvariantSpin(keras.layers.Layer):
    r"""Energies of atoms as functions of scalar products of spins.

    .. math:: E = \sum_i b_{t_i} + E^\mathrm{base}_i + \mathcal N_{t_i}(D_i)

    with the linear `deepspin.Baseline` and a net of the scalars of
    `deepspin.SpinChannels`. Even in the spins, and, but with spin-orbit coupling, the
    same when all spins turn; smooth where a spin vanishes.

    Parameters
    ----------
    use_spin : sequence of bool, length ntypes
        Which types carry a spin.
    soc : bool
        Whether spins and directions are contracted with each other, too.
    baseline : bool or dict
        Whether there is the linear part; fields of `BaselineOptions` instead of true.
    ignore_below : float
        Moments in μ_B below this are left out in data, on types without spin.
    """

    def __init__(
        self,
        use_spin: Sequence[bool],
        soc: bool = False,
        baseline: bool | Mapping[str, Any] = True,
        ignore_below: float = SMALL_MOMENT,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        self.scheme = Invariant.from_options(use_spin, soc, ignore_below)
        self.baseline: Baseline | None = None
        self.baseline_options: BaselineOptions | None = None
        if baseline is not False:
            given = {} if baseline is True else dict(baseline)
            self.baseline_options = options = BaselineOptions(**given)
            self.baseline = Baseline(
                self.scheme.ntypes,
                self.scheme.types.use_spin,
                soc=self.scheme.soc,
                nradial=options.nradial,
                ncross=options.ncross,
                trainable=options.trainable,
                dtype="float64",
            )
        self.report: BaselineReport | None = None  # of the fit, if one was made here
        self.built = True

    def build_descriptor(self, sel: Sequence[int], **given: Any) -> SpinChannels:
        """Make the layer that sums over neighbours, of the options of `se_e2_a`."""
        names = ("rcut", "rcut_smth", "neuron", "axis_neuron", "seed", "dtype")
        options = {name: given[name] for name in names if name in given}
        if self.baseline_options is not None:
            options["nradial"] = self.baseline_options.nradial
        types = self.scheme.types
        return SpinChannels(
            sel=sel,
            ntypes=types.ntypes,
            use_spin=types.use_spin,
            soc=self.scheme.soc,
            **options,
        )

    # what the fitting net is told: the baseline comes first, the net from zero
    fitting_options: ClassVar[Mapping[str, Any]] = {"standardize": True}

    # -- evaluation --------------------------------------------------------------------

    def operations(
        self, descriptor: SpinChannels, fitting: EnerFitting
    ) -> ModuleType | None:
        """Compiled operations, where they can do what these layers ask for, or None."""
        able = descriptor.native and fitting.native and fitting.standardize
        return library.operations() if able else None

    def call(
        self, coord: tf.Tensor, spin: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What atoms may see: the atoms, and their spins.

        Parameters
        ----------
        coord, spin : tf.Tensor, shape (nf, nloc, 3)
            Positions (Å) and spins (μ_B) of atoms sorted by type.
        natoms : sequence of int, length ntypes or a multiple of it
            Number of atoms of each type; the types begin anew where they are through.

        Returns
        -------
        coord, spin : tf.Tensor, shape (nf, nloc, 3)
            The same, spins 0 on types without.
        """
        flags = [
            tf.fill([n], tf.constant(flag))
            for n, flag in zip(natoms, cycle(self.scheme.types.use_spin), strict=False)
        ]
        magnetic = tf.concat(flags, axis=0)[:, None]
        return coord, tf.where(magnetic, spin, tf.zeros_like(spin))

    def seen(
        self, inputs: dict, descriptor: SpinChannels
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What the descriptor takes: sums over neighbours, and the spins."""
        natoms = lengths(inputs["mask"])
        _, spin = self(inputs["coord"], inputs["spin"], natoms=natoms)
        diff, filled = separations(inputs["coord"], inputs)
        return descriptor.sums(diff, filled, self._spins(spin, inputs), natoms), spin

    def _spins(self, spin: tf.Tensor, inputs: dict) -> list[tf.Tensor | None]:
        """Spins of the neighbours by type, None for types without."""
        return [
            tf.gather(spin, tf.maximum(nlist, 0), batch_dims=1) if magnetic else None
            for nlist, magnetic in zip(
                inputs["nlist"], self.scheme.types.use_spin, strict=True
            )
        ]

    def evaluate(
        self,
        inputs: dict,
        descriptor: SpinChannels,
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
            Of no use here.

        Returns
        -------
        dict
            ``energy``, ``atom_ener``, ``force``, ``force_mag``, ``virial``,
            ``atom_virial``.
        """
        del training
        operations = self.operations(descriptor, fitting)
        if operations is None:
            return self._plain(inputs, descriptor, fitting)
        return self._native(operations, inputs, descriptor, fitting)

    def _native(
        self,
        operations: ModuleType,
        inputs: dict,
        descriptor: SpinChannels,
        fitting: EnerFitting,
    ) -> dict:
        """Energies and their derivatives by compiled operations."""
        natoms, mask = lengths(inputs["mask"]), all_slots(inputs)
        coord, baseline = with_ghosts(inputs, "coord"), self.baseline
        given = with_ghosts(inputs, "spin")
        _, spin = self(coord, given, natoms=counts(inputs))
        none = tf.zeros([self.scheme.ntypes], tf.float64)
        lists = inputs["nlist"], inputs["shift"]
        potential = self._potential(descriptor, fitting.neuron, fitting.resnet_dt)
        energy, force, on_spin, atom_virial = potential(
            operations,
            Frames(coord, spin, inputs["box"], mask, natoms, *lists),
            Constants(
                mixing=tf.convert_to_tensor(descriptor.mixing),
                nearest=tf.convert_to_tensor(descriptor.nearest),
                longest=none if baseline is None else baseline.longest,
                stiffness=none if baseline is None else baseline.stiffness,
                average=tf.convert_to_tensor(fitting.descrpt_avg),
                inverse=tf.convert_to_tensor(fitting.descrpt_inv_std),
                scale=tf.convert_to_tensor(fitting.energy_scale),
            ),
            self._theta(),
            layer_weights(fitting.nets),
        )
        atom_ener = energy + mask * fitting.constants(natoms)
        return {
            "energy": tf.reduce_sum(atom_ener, axis=1),
            "atom_ener": atom_ener,
            "force": force,
            "force_mag": -on_spin,
            "virial": tf.reshape(tf.reduce_sum(atom_virial, axis=1), [-1, 3, 3]),
            "atom_virial": tf.reshape(atom_virial, [-1, length(coord), 3, 3]),
        }

    def _potential(
        self, descriptor: SpinChannels, neuron: Sequence[int] = (), dt: bool = False
    ) -> InvariantPotential:
        """The operations' view of the model, with fitting nets of these widths."""
        return InvariantPotential(
            baseline=self.baseline is not None,
            ncross=0 if self.baseline is None else self.baseline.ncross,
            fitting=neuron,
            fitting_dt=dt,
            **descriptor.native_options,
        )

    def _theta(self) -> list[tf.Tensor]:
        """Numbers of the baseline for each type of centre; empty without one."""
        if self.baseline is None:
            return [tf.zeros([0], tf.float64)] * self.scheme.ntypes
        theta = tf.convert_to_tensor(self.baseline.theta)
        return [tf.gather(theta, own) for own in self.baseline.numbers]

    def _plain(
        self, inputs: dict, descriptor: SpinChannels, fitting: EnerFitting
    ) -> dict:
        """The same by TensorFlow's operations."""
        mask, points = all_slots(inputs), with_ghosts(inputs, "coord")
        given = with_ghosts(inputs, "spin")
        diff, filled = separations(points, inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(diff)
            tape.watch(given)
            _, spin = self(points, given, natoms=counts(inputs))
            atom_ener = mask * self._energies(
                inputs, descriptor, fitting, diff, filled, spin
            )
            energy = tf.reduce_sum(atom_ener, axis=1)
        pull, on_spin = tape.gradient(
            energy, [diff, given], unconnected_gradients="zero"
        )
        nall = length(given)
        atom_virial, virial = virials(pull, diff, inputs["nlist"], nall)
        return {
            "energy": energy,
            "atom_ener": atom_ener,
            "force": forces_on_points(pull, inputs["nlist"], nall),
            "force_mag": -on_spin,
            "virial": virial,
            "atom_virial": atom_virial,
        }

    def _energies(
        self,
        inputs: dict,
        descriptor: SpinChannels,
        fitting: EnerFitting,
        diff: list[tf.Tensor],
        filled: list[tf.Tensor],
        spin: tf.Tensor,
    ) -> tf.Tensor:
        natoms = lengths(inputs["mask"])
        sums = descriptor.sums(diff, filled, self._spins(spin, inputs), natoms)
        spin = spin[:, : length(inputs["coord"])]  # of centres
        scalars = descriptor(sums, spin, natoms=natoms)
        total = fitting(scalars, natoms=natoms, fparam=inputs.get("fparam"))
        if self.baseline is not None:
            total += self.baseline(sums, spin, natoms=natoms)
            total += self.baseline.walls(descriptor, diff, filled, spin, natoms)
        return total

    # -- lists of neighbours -----------------------------------------------------------

    def points(
        self, coord: tf.Tensor, spin: tf.Tensor, natoms: Sequence[tf.Tensor | int]
    ) -> tf.Tensor:
        """Positions (Å) of all points that lists name: the atoms."""
        del spin, natoms
        return coord

    def neighbors(
        self, nlist: tf.Tensor, shift: tf.Tensor, atype: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Neighbours of each atom and their types: atoms, as they are.

        Parameters
        ----------
        nlist : tf.Tensor of int32, shape (nf, nloc, nnei)
            Neighbouring atoms, -1 in empty slots.
        shift : tf.Tensor of int32, shape (nf, nloc, nnei, 3)
            Their lattice shifts.
        atype : tf.Tensor of int32, shape (nf, nloc)
            Types, -1 for no atom.
        """
        types = tf.gather(atype, tf.maximum(nlist, 0), batch_dims=1)
        return nlist, tf.where(nlist >= 0, types, -1), shift

    def offset(self, atype: tf.Tensor, spin: tf.Tensor) -> tf.Tensor:
        """How far (Å) each atom's points lie from it: 0, (nf, nloc)."""
        return tf.zeros_like(spin[..., 0]) * tf.cast(atype, spin.dtype)

    def nominal_spin(self, spin_type: int) -> float:
        """Length of a spin in μ_B that is reckoned with."""
        del spin_type
        return UNKNOWN_SPIN

    # -- statistics --------------------------------------------------------------------

    def compute_stats(
        self,
        batches: Iterable[tuple[dict, dict]],
        descriptor: SpinChannels,
        fitting: EnerFitting,
        atom_ener: Sequence[float | None] | None = None,
        rcond: float | None = None,
        factor: float | None = 1.0,
    ) -> None:
        """Fit baseline and constants, and take mean and spread of the scalars.

        Parameters
        ----------
        batches : iterable of (inputs, labels)
            The sample.
        descriptor, fitting
            The model's other layers.
        atom_ener : sequence of float or None, optional
            Given energies in eV of the types; None where they are to be found.
        rcond : float, optional
            Of no use: constants and baseline are found together.
        factor : float or None
            What the labels of ``force_mag`` are taken times; None finds it.
        """
        del rcond
        ntypes, sample = self.scheme.ntypes, self.gather(batches, descriptor)
        options = self.baseline_options or BaselineOptions()
        given = {t: e for t, e in enumerate(atom_ener or []) if e is not None}
        self.report = report = sample.fit(options, given, factor)
        fitting.bias_atom_e.assign(report.solution.numbers[:ntypes])
        fitting.set_standard(sample.mean, sample.std, sample.energy_scale(report))
        descriptor.nearest.assign(np.where(sample.nearest < np.inf, sample.nearest, 0))
        if self.baseline is not None:
            theta = report.solution.numbers[ntypes:]
            self.baseline.set_numbers(theta, sample.longest)

    def gather(
        self, batches: Iterable[tuple[dict, dict]], descriptor: SpinChannels
    ) -> Sample:
        """Look at data, and take their rows for a fit.

        Parameters
        ----------
        batches : iterable of (inputs, labels)
            The data.
        descriptor : SpinChannels
            The model's descriptor.
        """
        ntypes = self.scheme.ntypes
        penalty = np.zeros(0) if self.baseline is None else self.baseline.penalty
        sample = Sample(ntypes, penalty, descriptor.dim_out)
        measure: Callable = self._measured
        if not descriptor.native or library.operations() is None:
            measure = tf.function(measure, autograph=False)
        for inputs, labels in frame_by_frame(batches):
            needed = ("coord", "box", "spin", "mask", "nlist", "shift")
            chosen = {key: inputs[key] for key in needed}
            seen, rows = measure(chosen, descriptor)
            counts = [np.count_nonzero(mask, axis=1) for mask in inputs["mask"]]
            sample.see(lengths(inputs["mask"]), all_slots(inputs).numpy() > 0, **seen)
            sample.add(np.stack(counts, axis=1), rows, labels)
        return sample

    def _measured(
        self, inputs: dict, descriptor: SpinChannels
    ) -> tuple[dict[str, Any], dict[str, tf.Tensor]]:
        """What `Sample.see` takes of a batch, and the rows of the baseline."""
        natoms = [int(n) for n in lengths(inputs["mask"])]
        coord, lists, mask = inputs["coord"], inputs["nlist"], all_slots(inputs)
        _, spin = self(coord, inputs["spin"], natoms=natoms)
        diff, filled = separations(coord, inputs)
        seen = {"spin": spin, "diff": diff, "filled": filled}
        operations = library.operations() if descriptor.native else None
        if operations is not None:
            columns = self.baseline.numbers if self.baseline else [[]]
            shift = inputs["shift"]
            frames = Frames(coord, spin, inputs["box"], mask, natoms, lists, shift)
            rows = self._potential(descriptor).rows(
                operations,
                frames,
                tf.convert_to_tensor(descriptor.mixing),
                tf.convert_to_tensor(descriptor.nearest),
                columns,
            )
            return {**seen, "scalars": rows.pop("scalars")}, rows
        scalars = descriptor(*self.seen(inputs, descriptor), natoms=natoms)
        seen["scalars"] = scalars
        if self.baseline is None:
            return seen, {}
        rows = self.baseline.rows(descriptor, diff, filled, lists, spin, mask, natoms)
        return seen, rows

    # -- what it is --------------------------------------------------------------------

    @property
    def meaning(self) -> dict:
        """What decides about the meaning of a model's weights."""
        options = self.baseline_options
        return {
            "soc": self.scheme.soc,
            "baseline": options and (options.nradial, options.ncross),
        }

    @property
    def hidden(self) -> dict:
        """Options that a model may have and no input can say: none."""
        return {}

    @property
    def options(self) -> dict:
        """What the layer was told of spins: ``model/spin`` of an input."""
        options, below = self.baseline_options, self.scheme.types.ignore_below
        return {
            "type": self.scheme.name,
            "use_spin": list(self.scheme.types.use_spin),
            "soc": self.scheme.soc,
            "baseline": False if options is None else asdict(options),
            **({} if below == SMALL_MOMENT else {"ignore_below": below}),
        }

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        config = {**super().get_config(), **self.options}
        del config["type"]
        return config
