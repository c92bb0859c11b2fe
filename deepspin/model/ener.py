# SPDX-License-Identifier: Apache-2.0
"""The spin energy model: energy and all its derivatives from one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.se_e2_a import DescrptSeA
from deepspin.descriptor.spin_channels import SpinChannels
from deepspin.fit.ener import EnerFitting
from deepspin.model.checks import (
    check_callbacks,
    check_inputs,
    check_loss,
    check_numbers,
    check_optimizer,
    refuse_scope,
    refuse_weights,
    tell_of_rate,
    unpacked,
)
from deepspin.model.errors import Errors
from deepspin.model.feeding import Position, listed, padded, serve, split, words_of_step
from deepspin.model.invariant import InvariantSpin
from deepspin.model.pairs import all_slots, lengths
from deepspin.model.statistics import watched
from deepspin.model.virtual import Spin
from deepspin.op.adam import fuse, steps_made, widen
from deepspin.op.library import KernelError, errors_in_one_line
from deepspin.spins.schemes import DEFAULT, Scheme

FITTINGS = {"ener": EnerFitting}
# of `deepspin.spins.schemes.SCHEMES`
SPIN_LAYERS = {"ener_spin": Spin, "invariant": InvariantSpin}


class DataSpec(TypedDict):
    """What a model needs of its data: arguments of `deepspin.DataSystem`."""

    type_map: list[str]
    spin: Scheme
    rcut: float
    sel: Sequence[int]
    allow_zero_spin: bool
    numb_fparam: int


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
    descriptor : DescrptSeA or SpinChannels
        What atoms see, as the spin scheme wants it: `spin.build_descriptor`.
    fitting : EnerFitting
        Fitting net.
    spin : Spin or InvariantSpin
        The layer of the spin scheme, which evaluates with the other two.
    """

    def __init__(
        self,
        type_map: Sequence[str],
        descriptor: DescrptSeA | SpinChannels,
        fitting: EnerFitting,
        spin: Spin | InvariantSpin,
        **kwargs: Any,
    ):
        refuse_scope()
        super().__init__(**{"dtype": "float64", "autocast": False, **kwargs})
        if len(descriptor.sel) != spin.scheme.nblocks:
            raise ValueError(
                f"`descriptor.sel` needs {spin.scheme.nblocks} entries, for "
                "each type and each spin type's virtual atoms: "
                f"`spin.scheme.extend_sel(sel)`. Received: {descriptor.sel}"
            )
        self.type_map = list(type_map)
        self.descriptor = descriptor
        self.fitting = fitting
        self.spin = spin
        self.loss_function: keras.losses.Loss = None  # until `compile`
        self._errors = Errors([])  # until `compile`
        self._own_metrics: dict | None = None
        self.built = True

    # -- what the model needs of data ------------------------------------------------

    @property
    def data_spec(self) -> DataSpec:
        """Arguments of `deepspin.DataSystem` that the model fixes."""
        return {
            "type_map": self.type_map,
            "spin": self.spin.scheme,
            "rcut": self.descriptor.rcut,
            "sel": self.descriptor.sel,
            "allow_zero_spin": self.allows_zero_spin,
            "numb_fparam": self.fitting.numb_fparam,
        }

    @property
    def allows_zero_spin(self) -> bool:
        """Whether an atom of a spin type may have a spin of 0."""
        return not self.spin.scheme.zero_spin or self.descriptor.env_protection > 0

    # -- physics -----------------------------------------------------------------------

    def __call__(self, inputs: dict, *args: Any, **kwargs: Any) -> dict:
        """Evaluate the model on tensors or numpy arrays; see the class for them."""
        check_inputs(inputs)
        # Keras 3.3 would make floats of the integers in numpy arrays
        inputs = tf.nest.map_structure(_tensor, inputs)
        check_numbers(inputs)
        self.check_parameters(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def check_parameters(self, inputs: dict) -> None:
        """Raise `ValueError` for frame parameters that are missing or of no use."""
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
            given = tf.convert_to_tensor(given)
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
        outputs = self.spin.evaluate(
            inputs, self.descriptor, self.fitting, training=bool(training)
        )
        return {**outputs, **self.masks(inputs)}

    def masks(self, inputs: dict) -> dict[str, tf.Tensor]:
        """The outputs ``mask`` and ``mask_mag``."""
        flags = self.spin.scheme.types.use_spin
        magnetic = tf.concat(
            [
                tf.fill([n], tf.constant(float(flag), dtype=tf.float64))
                for n, flag in zip(lengths(inputs["mask"]), flags, strict=True)
            ],
            axis=0,
        )
        mask = all_slots(inputs)
        return {"mask": mask, "mask_mag": mask * magnetic}

    @property
    def compressed(self) -> bool:
        """Whether tables stand for the embedding nets."""
        return bool(self.descriptor.tables)

    @property
    def native(self) -> bool:
        """Whether the compiled kernels do the work."""
        return self.spin.operations(self.descriptor, self.fitting) is not None

    def descriptors(self, inputs: dict) -> tf.Tensor:
        """Descriptor of each atom, shape (nf, nloc, dim_out)."""
        natoms = lengths(inputs["mask"])
        seen = self.spin.seen(inputs, self.descriptor)
        return self.descriptor(*seen, natoms=natoms)

    # -- statistics --------------------------------------------------------------------

    def compute_stats(
        self,
        batches: Iterable[tuple[dict, dict]],
        atom_ener: Sequence[float | None] | None = None,
        rcond: float | None = None,
        protection: float = 1e-2,
        **options: Any,
    ) -> None:
        """Set what the spin scheme finds from data, and the frame parameters' scale.

        Parameters
        ----------
        batches : iterable of (inputs, labels)
            The sample; a frame drawn twice counts twice. Batches that are the same
            object are looked at once, and none may change until all are looked at.
        atom_ener : sequence of float or None, optional
            Given energies in eV of the types, or of the types and the spin types'
            virtual atoms; None where they are to be found.
        rcond : float, optional
            Cutoff of small singular values in the least squares for the bias.
        protection : float
            Smallest standard deviation that a frame parameter is divided by.
        **options
            More for the layer of the scheme: its `compute_stats`.
        """
        fparam: list[np.ndarray] = []
        self.spin.compute_stats(
            watched(batches, self.check_parameters, fparam),
            self.descriptor,
            self.fitting,
            atom_ener,
            rcond,
            **options,
        )
        if self.fitting.numb_fparam:
            rows = np.concatenate(fparam)
            self.fitting.fparam_avg.assign(rows.mean(axis=0))
            std = np.maximum(rows.std(axis=0), protection)
            self.fitting.fparam_inv_std.assign(1.0 / std)

    # -- Keras -------------------------------------------------------------------------

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: keras.losses.Loss | None = None,
        *,
        metrics: dict | None = None,
        jit_compile: bool = True,
        **kwargs: Any,
    ) -> None:
        """Configure training.

        Parameters
        ----------
        optimizer : keras.optimizers.Optimizer or str
            Its learning rate drives the loss's prefactors.
        loss : deepspin.EnerSpinLoss
            Called once on the whole dicts of labels and predictions. One of your own,
            a `keras.losses.Loss`, is called so, too.
        metrics : dict, optional
            Metrics of your own for outputs that have labels, such as ``{"force_mag":
            "mae"}``: means over components, of the atoms that there are. What the loss
            reports is there without.
        jit_compile : bool
            Compile each step with XLA where the compiled kernels are not used. The
            numbers are the same to rounding without.
        **kwargs
            More arguments of `keras.Model.compile`; `loss_weights` and
            `weighted_metrics` have no use here and are refused.
        """
        if self.compressed:
            raise ValueError(
                "A compressed model cannot be trained: its embedding nets are tables. "
                "Train before compressing, the model that it was made of."
            )
        check_loss(loss, kwargs)
        optimizer = keras.optimizers.get(optimizer)
        check_optimizer(optimizer)
        tell_of_rate(optimizer, loss)
        jit_compile = jit_compile and not self.native and not kwargs.get("run_eagerly")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.optimizer.build(self.trainable_variables)
        fuse(self.optimizer)
        widen(self.optimizer)
        self.loss_function = loss
        # first step whose loss was not finite, -1 as long as there is none
        self.failed_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self._errors = Errors(["loss", *getattr(loss, "reported", [])], metrics)
        self._own_metrics = metrics

    @property
    def metrics(self) -> list:
        """Means over batches: of the loss, its score and each term's rmse."""
        return [self._errors]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Loss of a batch at the optimizer's present learning rate."""
        del training
        if self.loss_function is None:
            raise ValueError(
                "No loss: pass `loss=deepspin.EnerSpinLoss(...)` to compile."
            )
        refuse_weights(sample_weight)
        return self.loss_function(self.completed(x, y), y_pred)

    def errors(self, inputs: dict, labels: dict) -> dict[str, tf.Tensor]:
        """Errors of one batch at the present learning rate, see `EnerSpinLoss.rmse`."""
        return self.loss_function.rmse(self.completed(inputs, labels), self(inputs))

    def report(self, inputs: dict, labels: dict) -> dict[str, tuple]:
        """The same with their weights beside other batches, and the score."""
        return self.loss_function.report(self.completed(inputs, labels), self(inputs))

    def completed(self, inputs: dict, labels: dict) -> dict:
        """Labels, and what else the loss looks at: spins and learning rate."""
        labels = {"spin": inputs["spin"], **labels}
        if not self.compiled or "learning_rate" in labels:
            return labels
        rate = tf.cast(self.optimizer.learning_rate, tf.float64)
        return {**labels, "learning_rate": rate}

    def _report(self, labels: dict, pred: dict, loss: tf.Tensor) -> dict:
        report = getattr(self.loss_function, "report", None)
        values = {} if report is None else report(labels, pred)
        own = {"loss": (loss, tf.ones_like(loss)), **values}
        self._errors.update_state(own, labels, pred)
        return self._errors.result()

    def note_failure(self, loss: tf.Tensor) -> None:
        """Keep the first step whose loss is not finite."""
        fails = (self.failed_step < 0) & ~tf.math.is_finite(loss)
        made = getattr(self.optimizer, "_iterations", self.optimizer.iterations)
        step = tf.cast(made, tf.int64)
        self.failed_step.assign(tf.where(fails, step, self.failed_step))

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        *,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, also on a `DataSystem`.

        Parameters
        ----------
        x : DataSystem, tf.data.Dataset or dict of arrays
            A `DataSystem`, and its endless `dataset()`, go on at the step of the
            optimizer: training in several calls, or after loading a model, sees the
            batches that one call sees.
        y : dict of arrays, optional
            Labels of `x`, if that is a dict of arrays.
        steps_per_epoch : int, optional
            Batches in an epoch; of a `DataSystem` as many as its frames fill.
        validation_data : DataSystem, tf.data.Dataset or (x, y), optional
            The same batches each time; of a `DataSystem` every frame once.
        **kwargs
            More arguments of `keras.Model.fit`, as are those not told of here.

        Raises
        ------
        TypeError, ValueError
            Data that nothing can be learnt from, or that never ends.
        KernelError
            The kernels meet weights that have grown too large, with step and frames.
        """
        for name in ("sample_weight", "class_weight"):
            refuse_weights(kwargs.pop(name, None))
        if self.compiled:
            check_callbacks(listed(callbacks), self.optimizer)
        if validation_split and validation_data is None:
            if not (isinstance(x, dict) and isinstance(y, dict)):
                raise ValueError(
                    "`validation_split` is for dicts of arrays. Give "
                    "`validation_data` to data that comes in batches."
                )
            (x, y), validation_data = split(x, y, validation_split)
        position = Position()
        batches, steps_per_epoch = serve(
            x,
            y,
            batch_size=batch_size,
            shuffle=shuffle,
            steps=steps_per_epoch,
            position=position,
        )
        if validation_data is not None:
            pair = validation_data if isinstance(validation_data, tuple) else ()
            refuse_weights(pair[2] if len(pair) > 2 else None)
            validation_data, validation_steps = serve(
                *(pair or (validation_data,)),
                batch_size=validation_batch_size or batch_size,
                steps=validation_steps,
            )
        try:
            with errors_in_one_line():
                return super().fit(
                    batches,
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=[*listed(callbacks), position],
                    validation_data=validation_data,
                    shuffle=False,  # data sets come in their order
                    steps_per_epoch=steps_per_epoch,
                    validation_steps=validation_steps,
                    **kwargs,
                )
        except KernelError as error:
            where = words_of_step(x, steps_made(self.optimizer))
            raise KernelError(
                f"{error} That was {where}: lower the learning rate if the loss has "
                "grown before."
            ) from error

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        *,
        steps: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Errors as `keras.Model.evaluate` has them, for what `fit` takes."""
        x, steps = serve(x, y, batch_size=batch_size, steps=steps)
        for name in ("sample_weight", "class_weight"):
            refuse_weights(kwargs.pop(name, None))
        return super().evaluate(x, verbose=verbose, steps=steps, **kwargs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        *,
        steps: int | None = None,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Outputs for what `fit` takes; zeros where a frame has fewer atoms."""
        x, steps = serve(x, batch_size=batch_size, steps=steps)
        outputs = super().predict(x, verbose=verbose, steps=steps, **kwargs)
        return {key: padded(values) for key, values in outputs.items()}

    def train_step(self, data: tuple[dict, dict]) -> dict:
        """Update the weights on one batch."""
        inputs, labels = unpacked(data)
        labels = self.completed(inputs, labels)  # with the rate of this step
        with tf.GradientTape() as tape:
            pred = self(inputs, training=True)
            loss = self.compute_loss(inputs, labels, pred)
        self.note_failure(loss)
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self._report(labels, pred, loss)

    def test_step(self, data: tuple[dict, dict]) -> dict:
        """Evaluate one batch."""
        inputs, labels = unpacked(data)
        labels = self.completed(inputs, labels)
        pred = self(inputs, training=False)
        return self._report(labels, pred, self.compute_loss(inputs, labels, pred))

    def predict_step(self, data: dict | tuple) -> dict:
        """Predict one batch; labels, if any, are ignored."""
        outputs = self(data[0] if isinstance(data, tuple) else data, training=False)
        outputs.pop("extrapolated", None)  # a number of no frame
        return outputs

    def save(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save as `keras.Model.save` does, in Keras' own format alone.

        Raises
        ------
        ValueError
            The name ends in ``.h5``: such files cannot be loaded again.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"Models are saved as '.keras', with all that they hold. Received: "
                f"'{filepath}'. For weights alone there is `save_weights`."
            )
        super().save(filepath, *args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: a served model takes frames as they are, so it is frozen instead."""
        raise ValueError(
            "`export` would serve sorted and padded arrays. Save the model, and "
            "`dp-spin freeze -c model.keras -o frozen_model` writes a SavedModel that "
            "takes frames as they are."
        )

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
        if config is not None:
            given = {"loss": self.loss_function, "metrics": self._own_metrics}
            for name, value in given.items():
                if value is not None:
                    config[name] = keras.saving.serialize_keras_object(value)
        return config

    def compile_from_config(self, config: dict) -> None:
        """Compile as a saved model was compiled, the loss included."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)


def build_model(model: dict) -> SpinEnergyModel:
    """Build the model that the section ``model`` of a normalised input describes.

    Parameters
    ----------
    model : dict
        ``deepspin.utils.inputs.normalize(...)["model"]``, with `sel` as a list.
    """
    options = dict(model["spin"])
    spin = SPIN_LAYERS[options.pop("type", DEFAULT)](**options)
    scheme = spin.scheme
    options = dict(model["descriptor"])
    del options["type"]  # there is one
    precision = _dtype(options.pop("precision"))
    descriptor = spin.build_descriptor(dtype=precision, **options)
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
        **spin.fitting_options,
    )
    return SpinEnergyModel(model["type_map"], descriptor, fitting, spin)


def _tensor(values: Any) -> Any:
    """Array as a tensor, unless it stands for one, as in Keras' functional API."""
    symbolic = isinstance(values, keras.KerasTensor)
    return values if symbolic else tf.convert_to_tensor(values)


def _dtype(precision: str) -> str:
    return "float64" if precision == "default" else precision
