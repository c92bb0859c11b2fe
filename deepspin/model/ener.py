# SPDX-License-Identifier: Apache-2.0
"""The spin energy model: energy and all its derivatives from one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.fit.ener import EnerFitting, energy_per_type
from deepspin.model.virtual import Spin
from deepspin.op import library
from deepspin.op.adam import fuse
from deepspin.op.potential import Potential
from deepspin.utils.network import layer_weights

DESCRIPTORS = {"se_e2_a": DescrptSeA, "se_a": DescrptSeA}
FITTINGS = {"ener": EnerFitting}


@keras.saving.register_keras_serializable(package="deepspin")
class SpinEnergyModel(keras.Model):
    """Deep potential of atoms with spins (DeepSPIN).

    Inputs and outputs are dicts of arrays of one or several frames whose atoms are
    sorted by type; `deepspin.DataSystem` and `deepspin.DeepSpin` make them.

    Inputs: ``coord``, ``spin`` (nf, nloc, 3) and ``box`` (nf, 3, 3); ``mask``, for each
    type whether its atoms are there (nf, natoms of the type); ``nlist`` and ``shift``,
    for each type of neighbour the neighbours (nf, nloc, width) and their lattice shifts
    (nf, nloc, width, 3). Where `fitting` takes frame parameters also ``fparam`` (nf,
    numb_fparam), float64.

    Outputs: ``energy`` (nf,), ``atom_ener`` (nf, nloc), ``force``, ``force_mag`` (nf,
    nloc, 3), ``virial`` (nf, 3, 3), ``atom_virial`` (nf, nloc, 3, 3), units and signs
    as in `deepspin.keys`; ``mask``, ``mask_mag`` (nf, nloc): 1 where there is an atom,
    and where it carries a spin. Of a compressed model also ``extrapolated`` (), the
    number of pairs beyond its tables.

    Parameters
    ----------
    type_map : sequence of str
        Names of the types.
    descriptor : DescrptSeA
        Descriptor over the types and their virtual atoms.
    fitting : EnerFitting
        Fitting net.
    spin : Spin
        Spin preprocessing layer.
    """

    def __init__(
        self,
        type_map: Sequence[str],
        descriptor: DescrptSeA,
        fitting: EnerFitting,
        spin: Spin,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        if len(descriptor.sel) != spin.scheme.ntypes_extended:
            raise ValueError(
                f"`descriptor.sel` needs {spin.scheme.ntypes_extended} entries, for "
                "each type and each spin type's virtual atoms: "
                f"`spin.scheme.extend_sel(sel)`. Received: {descriptor.sel}"
            )
        self.type_map = list(type_map)
        self.descriptor = descriptor
        self.fitting = fitting
        self.spin = spin
        self.loss_function: keras.losses.Loss = None  # until `compile`
        self._means: dict[str, keras.metrics.Mean] = {}
        self.built = True

    # -- what the model needs of data ------------------------------------------------

    @property
    def data_spec(self) -> dict:
        """Arguments of `deepspin.DataSystem` that the model fixes."""
        return {
            "type_map": self.type_map,
            "spin": self.spin.scheme,
            "rcut": self.descriptor.rcut,
            "sel": self.descriptor.sel,
            "allow_zero_spin": self.descriptor.env_protection > 0,
            "numb_fparam": self.fitting.numb_fparam,
        }

    # -- physics -----------------------------------------------------------------------

    def __call__(self, inputs: dict, *args: Any, **kwargs: Any) -> dict:
        """Evaluate the model on tensors or numpy arrays; see the class for them."""
        # Keras 3.3 would make floats of the integers in numpy arrays
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        self._check_parameters(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _check_parameters(self, inputs: dict) -> None:
        """Refuse frame parameters that are missing, too many, or of no use."""
        number, given = self.fitting.numb_fparam, inputs.get("fparam")
        if number == 0:
            if given is not None:
                raise ValueError(
                    "The model takes no frame parameters. Received: `fparam` of shape "
                    f"{tuple(given.shape)}. Leave it out."
                )
            return
        nf, found = inputs["coord"].shape[0], "none"
        if given is not None:
            if given.shape.is_compatible_with([nf, number]) and (
                given.dtype == tf.float64
            ):
                return
            found = f"shape {tuple(given.shape)}, {given.dtype.name}"
        raise ValueError(
            f"The model takes {number} frame parameters: `fparam` must be float64 of "
            f"shape ({nf}, {number}). Received: {found}"
        )

    def call(self, inputs: dict, training: bool | None = None) -> dict:
        """Evaluate the model on tensors."""
        natoms = _lengths(inputs["mask"])
        mask = tf.concat([tf.cast(m, tf.float64) for m in inputs["mask"]], axis=1)
        points, offset = self.spin(inputs["coord"], inputs["spin"], natoms=natoms)
        operations = self._operations()
        if operations is None:
            outputs = self._plain(points, offset, mask, natoms, inputs)
        else:
            outputs = self._native(
                operations, points, offset, mask, natoms, inputs, bool(training)
            )
        magnetic = tf.cast(self.spin.scale(natoms) > 0, tf.float64)
        return {**outputs, "mask": mask, "mask_mag": mask * magnetic}

    @property
    def compressed(self) -> bool:
        """Whether tables stand for the embedding nets."""
        return bool(self.descriptor.tables)

    @property
    def native(self) -> bool:
        """Whether the compiled kernels do the work."""
        return self._operations() is not None

    def _operations(self) -> ModuleType | None:
        """Compiled operations, where they can do what this model asks for."""
        able = self.descriptor.native and self.fitting.native
        same = self.descriptor.compute_dtype == self.fitting.compute_dtype
        return library.operations() if able and same else None

    def _native(
        self,
        operations: ModuleType,
        points: tf.Tensor,
        offset: tf.Tensor,
        mask: tf.Tensor,
        natoms: list,
        inputs: dict,
        training: bool,
    ) -> dict:
        """Energy and its derivatives by compiled operations."""
        descriptor, fitting = self.descriptor, self.fitting
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
            mask,
            natoms,
            inputs["nlist"],
            inputs["shift"],
            (descriptor.davg, descriptor.dstd),
            [*descriptor.native_weights, *layer_weights(fitting.nets)],
            edges=descriptor.native_edges,
            training=training,
        )
        atom_ener = energy + mask * fitting.constants(natoms)
        force, force_mag = self.spin.fold(force_points, natoms)
        shape = tf.shape(mask)
        return {
            "energy": tf.reduce_sum(atom_ener, axis=1),
            "atom_ener": atom_ener,
            "force": force,
            "force_mag": force_mag,
            "virial": tf.reshape(tf.reduce_sum(atom_virial, axis=1), [-1, 3, 3]),
            "atom_virial": tf.reshape(atom_virial, [shape[0], shape[1], 3, 3]),
            **({"extrapolated": outside} if self.compressed else {}),
        }

    def _plain(
        self,
        points: tf.Tensor,
        offset: tf.Tensor,
        mask: tf.Tensor,
        natoms: list,
        inputs: dict,
    ) -> dict:
        """The same by TensorFlow's operations."""
        diff, filled = self._separations(points, inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(diff)
            descriptor = self.descriptor(diff, filled, natoms=natoms)
            fparam = inputs.get("fparam")
            atom_ener = self.fitting(descriptor, natoms=natoms, fparam=fparam) * mask
            energy = tf.reduce_sum(atom_ener, axis=1)
        # dE/d(separation), zero where nothing is seen
        pull = tape.gradient(energy, diff, unconnected_gradients="zero")
        force, force_mag = self._forces(pull, inputs, natoms, 2 * _length(mask))
        atom_virial, virial = self._virials(pull, diff, offset, inputs, _length(mask))
        return {
            "energy": energy,
            "atom_ener": atom_ener,
            "force": force,
            "force_mag": force_mag,
            "virial": virial,
            "atom_virial": atom_virial,
        } | self._extrapolated(diff, filled, natoms)

    def _extrapolated(self, diff: list, filled: list, natoms: list) -> dict:
        if not self.compressed:
            return {}
        return {"extrapolated": self.descriptor.extrapolated(diff, filled, natoms)}

    def descriptors(self, inputs: dict) -> tf.Tensor:
        """Descriptor of each atom, shape (nf, nloc, dim_out)."""
        natoms = _lengths(inputs["mask"])
        points, _ = self.spin(inputs["coord"], inputs["spin"], natoms=natoms)
        return self.descriptor(*self._separations(points, inputs), natoms=natoms)

    def _separations(
        self, points: tf.Tensor, inputs: dict
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Neighbour minus centre (nf, nloc, width, 3) by type, and which are filled."""
        centre = inputs["coord"][:, :, None]
        box = inputs["box"][:, None, None]  # f 1 1 c x
        diff, filled = [], []
        for nlist, shift in zip(inputs["nlist"], inputs["shift"], strict=True):
            there = tf.gather(points, tf.maximum(nlist, 0), batch_dims=1)
            image = tf.cast(shift, tf.float64)
            translation = sum(image[..., k : k + 1] * box[..., k, :] for k in range(3))
            diff.append(there + translation - centre)
            filled.append(nlist >= 0)
        return diff, filled

    def _forces(
        self, pull: list, inputs: dict, natoms: list, npoints: tf.Tensor | int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Force and magnetic force from the pull along each separation."""
        on_centre = sum(tf.reduce_sum(g, axis=2) for g in pull)  # f i x
        on_points = -_collect(pull, inputs["nlist"], npoints)
        on_points += tf.concat([on_centre, tf.zeros_like(on_centre)], axis=1)
        return self.spin.fold(on_points, natoms)

    def _virials(
        self,
        pull: list,
        diff: list,
        offset: tf.Tensor,
        inputs: dict,
        nloc: tf.Tensor | int,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Virial of each neighbour's owner, V_ab = -sum g_a r_b, and their sum.

        Spins stay fixed while atoms and cell are strained: r joins real positions.
        """
        outer, owner = [], []
        for g, r, nlist in zip(pull, diff, inputs["nlist"], strict=True):
            apart = r - tf.gather(offset, tf.maximum(nlist, 0), batch_dims=1)
            product = g[..., :, None] * apart[..., None, :]
            shape = tf.shape(product)
            outer.append(tf.reshape(product, [shape[0], shape[1], shape[2], 9]))
            owner.append(tf.where(nlist >= 0, nlist % nloc, nlist))
        total = sum(tf.reduce_sum(v, axis=[1, 2]) for v in outer)
        each = _collect(outer, owner, nloc)
        nf = tf.shape(total)[0]
        return (
            tf.reshape(-each, [nf, nloc, 3, 3]),
            tf.reshape(-total, [nf, 3, 3]),
        )

    # -- statistics --------------------------------------------------------------------

    def compute_stats(
        self,
        batches: Iterable[tuple[dict, dict]],
        atom_ener: Sequence[float | None] | None = None,
        rcond: float | None = None,
        protection: float = 1e-2,
    ) -> None:
        """Set `davg`, `dstd`, `bias_atom_e`, `fparam_avg` and `fparam_inv_std`.

        Energies are those of extended types, virtual ones folded onto their owners.

        Parameters
        ----------
        batches : iterable of (inputs, labels)
            The sample; a frame drawn twice counts twice.
        atom_ener : sequence of float or None, optional
            Given energies in eV of the types, or of the types and the spin types'
            virtual atoms; None where they are to be found.
        rcond : float, optional
            Cutoff of small singular values in the least squares for the bias.
        protection : float
            Smallest standard deviation that a frame parameter is divided by.
        """
        energies, counts, fparam = [], [], []
        scheme = self.spin.scheme

        def environments() -> Iterator:
            for inputs, labels in batches:
                inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
                natoms = _lengths(inputs["mask"])
                points, _ = self.spin(inputs["coord"], inputs["spin"], natoms=natoms)
                masks = [np.asarray(m) for m in inputs["mask"]]
                self._check_parameters(inputs)
                if "fparam" in inputs:
                    there = np.concatenate(masks, axis=1).any(axis=1)
                    fparam.append(np.asarray(inputs["fparam"])[there])
                if "energy" in labels:
                    real = np.stack([m.sum(axis=1) for m in masks], axis=1)
                    found = np.asarray(labels["find_energy"]) > 0
                    extended = [real, real[:, scheme.spin_types]]
                    counts.append(np.concatenate(extended, axis=1)[found])
                    energies.append(np.asarray(labels["energy"])[found])
                yield (*self._separations(points, inputs), masks)

        self.descriptor.compute_stats(environments())
        if self.fitting.numb_fparam:
            rows = np.concatenate(fparam)
            self.fitting.fparam_avg.assign(rows.mean(axis=0))
            std = np.maximum(rows.std(axis=0), protection)
            self.fitting.fparam_inv_std.assign(1.0 / std)
        if not energies or not sum(map(len, energies)):
            return
        given = list(atom_ener) if atom_ener is not None else None
        if given is not None and len(given) == scheme.ntypes:
            given += [None if given[t] is None else 0.0 for t in scheme.spin_types]
        bias = energy_per_type(
            np.concatenate(energies), np.concatenate(counts).astype(float), given, rcond
        )
        folded = bias[: scheme.ntypes].copy()
        folded[list(scheme.spin_types)] += bias[scheme.ntypes :]
        self.fitting.bias_atom_e.assign(folded)

    # -- Keras -------------------------------------------------------------------------

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: keras.losses.Loss | None = None,
        *,
        jit_compile: bool = True,
        **kwargs: Any,
    ) -> None:
        """Configure training.

        Parameters
        ----------
        optimizer : keras.optimizers.Optimizer or str
            Its learning rate drives the loss's prefactors.
        loss : deepspin.EnerSpinLoss
            Called once on the whole dicts of labels and predictions.
        jit_compile : bool
            Compile each step with XLA where the compiled kernels are not used. The
            numbers are the same to rounding without.
        **kwargs
            More arguments of `keras.Model.compile`; `loss_weights` and `metrics` have
            no use here and are refused.
        """
        if self.compressed:
            raise ValueError(
                "A compressed model cannot be trained: its embedding nets are tables. "
                "Train before compressing, the model that it was made of."
            )
        unused = {"loss_weights", "metrics", "weighted_metrics"} & {
            k for k, v in kwargs.items() if v is not None
        }
        if unused:
            raise ValueError(
                f"{sorted(unused)} have no use here: the loss sees the whole dict of "
                "outputs, has prefactors of its own and reports each term's rmse."
            )
        jit_compile = jit_compile and not self.native
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.optimizer.build(self.trainable_variables)
        fuse(self.optimizer)
        self.loss_function = loss
        # first step whose loss was not finite, -1 as long as there is none
        self.failed_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
        names = ["loss", *(loss.names if loss is not None else [])]
        self._means = {n: keras.metrics.Mean(n, dtype="float64") for n in names}

    @property
    def metrics(self) -> list:
        """Means over batches of the loss and of each term's rmse."""
        return list(self._means.values())

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Loss of a batch at the optimizer's present learning rate."""
        del x, training
        if self.loss_function is None:
            raise ValueError(
                "No loss: pass `loss=deepspin.EnerSpinLoss(...)` to compile."
            )
        if sample_weight is not None:
            raise ValueError("`sample_weight` is not supported by SpinEnergyModel.")
        return self.loss_function(self._with_rate(y), y_pred)

    def errors(self, inputs: dict, labels: dict) -> dict[str, tf.Tensor]:
        """Errors of one batch at the present learning rate, see `EnerSpinLoss.rmse`."""
        return self.loss_function.rmse(self._with_rate(labels), self(inputs))

    def _with_rate(self, labels: dict) -> dict:
        if not self.compiled or "learning_rate" in labels:
            return labels
        rate = tf.cast(self.optimizer.learning_rate, tf.float64)
        return {**labels, "learning_rate": rate}

    def _report(self, labels: dict, pred: dict, loss: tf.Tensor) -> dict:
        rmse = self.loss_function.rmse(self._with_rate(labels), pred)
        values = {"loss": loss, **rmse}
        for name, mean in self._means.items():
            # a batch without the label does not count; a loss of NaN does
            value = values[name]
            counts = tf.cast((name == "loss") | ~tf.math.is_nan(value), tf.float64)
            mean.total.assign_add(tf.where(counts > 0, value, tf.zeros_like(value)))
            mean.count.assign_add(counts)
        nan = tf.constant(np.nan, dtype=tf.float64)
        return {
            name: tf.where(mean.count > 0, mean.result(), nan)
            for name, mean in self._means.items()
        }

    def train_step(self, data: tuple[dict, dict]) -> dict:
        """Update the weights on one batch."""
        inputs, labels = data
        labels = self._with_rate(labels)  # of this step, before it counts as done
        with tf.GradientTape() as tape:
            pred = self(inputs, training=True)
            loss = self.compute_loss(inputs, labels, pred)
        fails = (self.failed_step < 0) & ~tf.math.is_finite(loss)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        self.failed_step.assign(tf.where(fails, step, self.failed_step))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )
        return self._report(labels, pred, loss)

    def test_step(self, data: tuple[dict, dict]) -> dict:
        """Evaluate one batch."""
        inputs, labels = data
        pred = self(inputs, training=False)
        return self._report(labels, pred, self.compute_loss(inputs, labels, pred))

    def predict_step(self, data: dict | tuple) -> dict:
        """Predict one batch; labels, if any, are ignored."""
        outputs = self(data[0] if isinstance(data, tuple) else data, training=False)
        outputs.pop("extrapolated", None)  # a number of no frame
        return outputs

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "type_map": self.type_map,
            **{
                part: keras.saving.serialize_keras_object(getattr(self, part))
                for part in ("descriptor", "fitting", "spin")
            },
        }

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> SpinEnergyModel:
        """Build the model from `get_config`'s answer."""
        config = dict(config)
        for part in ("descriptor", "fitting", "spin"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)

    def get_compile_config(self) -> dict | None:
        """Return what `compile` was told, the loss included."""
        config = super().get_compile_config()
        if config is not None and self.loss_function is not None:
            config["loss"] = keras.saving.serialize_keras_object(self.loss_function)
        return config

    def compile_from_config(self, config: dict) -> None:
        """Compile as a saved model was compiled, the loss included."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)


def _length(mask: tf.Tensor) -> tf.Tensor | int:
    """Second dimension, static where it is known."""
    static = mask.shape[1]
    return tf.shape(mask)[1] if static is None else static


def _lengths(masks: Sequence[tf.Tensor]) -> list:
    """Second dimensions: all static or all tensors, Keras takes no mixture."""
    static = [mask.shape[1] for mask in masks]
    return [tf.shape(m)[1] for m in masks] if None in static else static


def _collect(values: list, nlist: Sequence, npoints: tf.Tensor | int) -> tf.Tensor:
    """Sum what each pair gives its neighbour, (nf, npoints, k)."""
    index = tf.concat(list(nlist), axis=2)
    value = tf.concat(values, axis=2)
    nf, k = tf.shape(index)[0], value.shape[-1]
    frame = tf.range(nf)[:, None, None]
    flat = tf.where(index >= 0, frame * npoints + index, -1)  # -1 is dropped
    total = tf.math.unsorted_segment_sum(
        tf.reshape(value, [-1, k]), tf.reshape(flat, [-1]), nf * npoints
    )
    return tf.reshape(total, [nf, npoints, k])


def build_model(model: dict) -> SpinEnergyModel:
    """Build the model that the section ``model`` of a normalised input describes.

    Parameters
    ----------
    model : dict
        ``deepspin.utils.inputs.normalize(...)["model"]``, with `sel` as a list.
    """
    spin = Spin(**{k: v for k, v in model["spin"].items() if k != "type"})
    scheme = spin.scheme
    options = dict(model["descriptor"])
    descriptor = DESCRIPTORS[options.pop("type")](
        sel=scheme.extend_sel(options.pop("sel")),
        ntypes=scheme.ntypes,
        dtype=_dtype(options.pop("precision")),
        **options,
    )
    options = dict(model["fitting_net"])
    trainable = options.pop("trainable")
    if isinstance(trainable, bool):
        trainable = [trainable] * (len(options["neuron"]) + 1)
    given = options.pop("atom_ener", None) or []
    vacuum = [t for t, e in enumerate(given[: scheme.ntypes]) if e is not None]
    options.pop("rcond", None)
    fitting = FITTINGS[options.pop("type")](
        scheme.ntypes,
        descriptor.dim_out,
        dtype=_dtype(options.pop("precision")),
        trainable_layers=trainable,
        vacuum_types=vacuum,
        **options,
    )
    return SpinEnergyModel(model["type_map"], descriptor, fitting, spin)


def _dtype(precision: str) -> str:
    return "float64" if precision == "default" else precision
