# SPDX-License-Identifier: Apache-2.0
"""Loss of energies, forces, magnetic forces and virials: `ener_spin`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

log = logging.getLogger(__name__)

# what of a magnetic force can count, and in how many components
COMPONENTS = {"full": 3, "transverse": 3, "longitudinal": 1}
# the label that each term compares with
LABELS = {
    "e": "energy",
    "fr": "force",
    "fm": "force_mag",
    "v": "virial",
    "ae": "atom_ener",
}
# how a model gives the loss what it looks at
RECIPE = (
    "define compute_loss(self, x, y, y_pred, *args, **kwargs) as `return self.loss("
    '{**y, "spin": x["spin"], "learning_rate": self.optimizer.learning_rate}, y_pred)`.'
)


class Sums(NamedTuple):
    """What a term is made of, which adds up over parts of a batch."""

    loss: tf.Tensor  # sum of what the term is the mean of
    error: tf.Tensor  # the same, of what is reported
    count: tf.Tensor  # of how many that is the sum


@keras.saving.register_keras_serializable(package="deepspin")
class EnerSpinLoss(keras.losses.Loss):
    r"""Weighted sum of squared errors, whose weights follow the learning rate.

    .. math:: L = p_e L_e + p_{fr} L_{fr} + p_{fm} L_{fm} + p_v L_v + p_{ae} L_{ae},
              \quad p(t) = p^\mathrm{limit} +
              (p^\mathrm{start} - p^\mathrm{limit}) \frac{lr(t)}{lr(0)}

    :math:`L_e` is the mean over frames of :math:`\Delta E^2/N`; :math:`L_{fr}` the mean
    over the components of the forces on atoms, :math:`L_{fm}` over those of the
    magnetic forces on spins; :math:`L_v` the mean over frames and nine components of
    :math:`\Delta V^2/N`; :math:`L_{ae}` the mean over atoms. N is the label ``natoms``:
    the number of atoms, virtual ones included where the data holds them as DeePMD-kit's
    TensorFlow backend wants them; so the same input means the same loss.

    A label that is missing gives no term: its ``find_NAME`` is 0 for the frame, or the
    key is not there at all. What it holds then does not matter, be it NaN. The learning
    rate is the entry ``learning_rate`` of the labels, and the spins the entry ``spin``,
    which `SpinEnergyModel` adds at each step. A rate above `start_lr` counts as
    `start_lr`.

    With a `fm_component` of the magnetic forces only what is across or along the spins
    counts: :math:`L_{fm}` is the mean over the three components of the one, or of the
    other, one number, as ``dp-spin test`` tells them apart. Spins fixed in direction
    alone, as some codes fix them, have no more to say than ``transverse``. A spin of 0
    has no direction, and does not count then.

    Parameters
    ----------
    start_pref_e, limit_pref_e : float
        Weight of the energy at the begin of training, and as the learning rate goes
        to 0.
    start_pref_fr, limit_pref_fr : float
        Weight of the forces on atoms.
    start_pref_fm, limit_pref_fm : float
        Weight of the magnetic forces.
    start_pref_v, limit_pref_v : float
        Weight of the virial.
    start_pref_ae, limit_pref_ae : float
        Weight of the atom energies.
    enable_atom_ener_coeff : bool
        The energy compared is sum_i c_i E_i with the label ``atom_ener_coeff``.
    loss_func : {"mse", "mae"}
        Mean of squares, or of absolute values.
    intensive_ener_virial : bool
        Energy and virial terms times :math:`1/N^2` instead of :math:`1/N` (``mse``;
        ``mae`` has 1/N always).
    fm_component : {"full", "transverse", "longitudinal"}
        What of the magnetic forces counts.
    fm_longitudinal : float
        With ``full``, what the part along the spins is taken times, squares of it or
        absolute values; errors are reported without.
    start_lr : float
        The learning rate lr(0) that the prefactors refer to.

    References
    ----------
    .. [1] DeePMD-kit, "Fit spin energy", doc/model/train-energy-spin.md.
    """

    def __init__(
        self,
        start_pref_e: float = 0.02,
        limit_pref_e: float = 1.0,
        start_pref_fr: float = 1000.0,
        limit_pref_fr: float = 1.0,
        start_pref_fm: float = 10000.0,
        limit_pref_fm: float = 10.0,
        start_pref_v: float = 0.0,
        limit_pref_v: float = 0.0,
        start_pref_ae: float = 0.0,
        limit_pref_ae: float = 0.0,
        *,
        enable_atom_ener_coeff: bool = False,
        loss_func: str = "mse",
        intensive_ener_virial: bool = False,
        fm_component: str = "full",
        fm_longitudinal: float = 1.0,
        start_lr: float = 1e-3,
        name: str = "ener_spin",
        dtype: str = "float64",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if loss_func not in ("mse", "mae"):
            raise ValueError(
                f"`loss_func` must be 'mse' or 'mae'. Received: {loss_func!r}"
            )
        if fm_component not in COMPONENTS:
            raise ValueError(
                f"`fm_component` must be one of {list(COMPONENTS)}. Received: "
                f"{fm_component!r}"
            )
        self.prefactors = {
            "e": (start_pref_e, limit_pref_e),
            "fr": (start_pref_fr, limit_pref_fr),
            "fm": (start_pref_fm, limit_pref_fm),
            "v": (start_pref_v, limit_pref_v),
            "ae": (start_pref_ae, limit_pref_ae),
        }
        self.enable_atom_ener_coeff = enable_atom_ener_coeff
        self.loss_func = loss_func
        self.intensive_ener_virial = intensive_ener_virial
        self.fm_component = fm_component
        self.fm_longitudinal = float(fm_longitudinal)
        self.start_lr = float(start_lr)
        self._told = False  # that there is no learning rate

    @property
    def active(self) -> list[str]:
        """Terms with a prefactor, in the order of ``lcurve.out``."""
        order = ("e", "ae", "fr", "fm", "v")
        return [term for term in order if any(self.prefactors[term])]

    @property
    def names(self) -> list[str]:
        """Names of the errors reported: ``rmse``, ``rmse_e``, ... or ``mae_e``, ..."""
        kind = "rmse" if self.loss_func == "mse" else "mae"
        return ["rmse", *(f"{kind}_{term}" for term in self.active)]

    @property
    def reported(self) -> list[str]:
        """Names of what `report` gives."""
        return ["score", *self.names]

    def prefactor(self, term: str, learning_rate: tf.Tensor) -> tf.Tensor:
        """Weight of a term at a learning rate; above `start_lr` that at `start_lr`."""
        start, limit = self.prefactors[term]
        learning_rate = tf.cast(learning_rate, self.dtype)
        learning_rate = tf.clip_by_value(learning_rate, 0.0, self.start_lr)
        return limit + (start - limit) * learning_rate / self.start_lr

    def sums(self, y_true: dict, y_pred: dict) -> dict[str, Sums]:
        """Each active term as sums over the frames given.

        Those of the parts of a batch add up to those of the batch.

        Parameters
        ----------
        y_true : dict
            Labels, see the class; also ``natoms`` (nf,).
        y_pred : dict
            Outputs of `SpinEnergyModel`.
        """
        rows: dict[str, Callable] = {
            "e": lambda: self._energy(y_true, y_pred),
            "fr": lambda: self._atomic("force", "mask", y_true, y_pred),
            "fm": lambda: self._magnetic(y_true, y_pred),
            "v": lambda: self._frame("virial", y_pred["virial"], y_true, y_pred),
            "ae": lambda: self._atomic("atom_ener", "mask", y_true, y_pred),
        }
        return {term: rows[term]() for term in self.active}

    def means(self, sums: dict[str, Sums]) -> dict[str, tuple]:
        """Each term without its prefactor: (loss, error as reported, found).

        A term of nothing, as of magnetic forces where no atom is magnetic, is not
        found.
        """
        found = {}
        for term, (loss, error, number) in sums.items():
            count = tf.maximum(number, 1.0)
            error = error / count
            error = tf.sqrt(error) if self.loss_func == "mse" else error
            found[term] = (loss / count, error, tf.cast(number > 0, loss.dtype))
        return found

    def terms(self, y_true: dict, y_pred: dict) -> dict[str, tuple]:
        """The same of a batch; arguments as of `sums`."""
        return self.means(self.sums(y_true, y_pred))

    def call(self, y_true: dict, y_pred: dict) -> tf.Tensor:
        """Loss of one batch, a scalar.

        Raises
        ------
        TypeError
            Labels and outputs that are no dicts, as Keras' own `compute_loss` hands
            them over one by one.
        """
        if not (isinstance(y_true, Mapping) and isinstance(y_pred, Mapping)):
            raise TypeError(
                "EnerSpinLoss looks at all labels and outputs at once, in dicts. "
                f"Received: {type(y_true).__name__} and {type(y_pred).__name__}. In a "
                f"keras.Model of your own {RECIPE}"
            )
        changes = any(start != limit for start, limit in self.prefactors.values())
        if changes and "learning_rate" not in y_true and not self._told:
            self._told = True
            log.warning(
                "no `learning_rate` among the labels: the loss keeps the prefactors of "
                "the start. In a keras.Model of your own %s",
                RECIPE,
            )
        return self.total(y_true, self.terms(y_true, y_pred))

    def total(self, y_true: dict, terms: dict[str, tuple]) -> tf.Tensor:
        """Loss of what `means` gave, at the learning rate among the labels."""
        learning_rate = y_true.get("learning_rate", self.start_lr)
        total = tf.zeros([], dtype=self.dtype)
        for term, (loss, _, found) in terms.items():
            total += found * self.prefactor(term, learning_rate) * loss
        return total

    def rmse(self, y_true: dict, y_pred: dict) -> dict[str, tf.Tensor]:
        """Errors as ``lcurve.out`` reports them, NaN where the label is missing.

        ``rmse`` is the square root of the loss; ``rmse_e`` and ``rmse_v`` are per atom.
        """
        return self._errors(y_true, self.terms(y_true, y_pred))

    def report(self, y_true: dict, y_pred: dict) -> dict[str, tuple]:
        """The same and ``score``, each with its weight beside other batches.

        The loss falls with the learning rate, however good the model; the score, the
        loss with each prefactor at its limit, tells which of two models is better. The
        weight of a term is the number of frames, or of components of atoms, that it is
        the mean of, so that means over batches are those over all of them.
        """
        return self.report_sums(y_true, self.sums(y_true, y_pred))

    def report_sums(self, y_true: dict, sums: dict[str, Sums]) -> dict[str, tuple]:
        """The same of what `sums` gave."""
        terms = self.means(sums)
        end = {"learning_rate": tf.zeros([], dtype=self.dtype)}
        errors = {"score": self.total(end, terms), **self._errors(y_true, terms)}
        one = tf.ones([], dtype=self.dtype)
        weights = [one, one, *(own.count for own in sums.values())]
        rows = zip(errors.items(), weights, strict=True)
        return {name: (value, weight) for (name, value), weight in rows}

    def _errors(self, y_true: dict, terms: dict[str, tuple]) -> dict[str, tf.Tensor]:
        values = [tf.sqrt(self.total(y_true, terms))]
        for _, error, found in terms.values():
            nan = tf.constant(float("nan"), dtype=error.dtype)
            values.append(tf.where(found > 0, error, nan))
        return dict(zip(self.names, values, strict=True))

    def _energy(self, y_true: dict, y_pred: dict) -> Sums:
        energy = y_pred["energy"]
        if self.enable_atom_ener_coeff and "atom_ener_coeff" in y_true:
            coefficients = tf.cast(y_true["atom_ener_coeff"], energy.dtype)
            energy = tf.reduce_sum(coefficients * y_pred["atom_ener"], axis=1)
        return self._frame("energy", energy, y_true, y_pred)

    def _frame(self, key: str, pred: tf.Tensor, y_true: dict, y_pred: dict) -> Sums:
        """Term of a quantity of whole frames, and its error per atom."""
        label, find = self._label(key, pred, y_true)
        natoms = y_true.get("natoms")
        if natoms is None:
            natoms = tf.reduce_sum(y_pred["mask"], axis=1)
        natoms = tf.maximum(tf.cast(natoms, pred.dtype), 1.0)
        square = self._power(pred - label)
        square = tf.reduce_mean(tf.reshape(square, [tf.shape(pred)[0], -1]), axis=1)
        intensive = 2 if self.intensive_ener_virial and self.loss_func == "mse" else 1
        error = 2 if self.loss_func == "mse" else 1
        return Sums(
            tf.reduce_sum(find * square / natoms**intensive),
            tf.reduce_sum(find * square / natoms**error),
            tf.reduce_sum(find),
        )

    def _atomic(self, key: str, mask: str, y_true: dict, y_pred: dict) -> Sums:
        """Term of a quantity of atoms: of the components of the atoms that count."""
        pred = y_pred[key]
        label, find = self._label(key, pred, y_true)
        weight = tf.cast(y_pred[mask], pred.dtype) * find[:, None]
        if pred.shape.rank == 3:
            weight = weight[..., None]
        total = tf.reduce_sum(self._power(pred - label) * weight)
        return Sums(total, total, tf.reduce_sum(weight * tf.ones_like(pred)))

    def _weighted(self, square: tf.Tensor, weight: tf.Tensor, number: int) -> Sums:
        """The same of `number` components of the atoms that count."""
        total = tf.reduce_sum(square * weight[..., None])
        return Sums(total, total, float(number) * tf.reduce_sum(weight))

    def _magnetic(self, y_true: dict, y_pred: dict) -> Sums:
        """Term of the magnetic forces, or of what is across or along the spins."""
        whole = self.fm_component == "full"
        plain = self._atomic("force_mag", "mask_mag", y_true, y_pred)
        if whole and self.fm_longitudinal == 1.0:
            return plain
        pred = y_pred["force_mag"]
        label, find = self._label("force_mag", pred, y_true)
        if "spin" not in y_true:
            raise ValueError(
                "`fm_component` and `fm_longitudinal` need the spins among the labels, "
                "as `spin` (nf, nloc, 3), which `SpinEnergyModel` adds."
            )
        spin = tf.cast(y_true["spin"], pred.dtype)
        direction = tf.math.divide_no_nan(
            spin, tf.linalg.norm(spin, axis=-1, keepdims=True)
        )
        known = tf.reduce_sum(tf.square(direction), axis=-1)  # 0 where the spin is 0
        difference = pred - label
        along = tf.reduce_sum(difference * direction, axis=-1, keepdims=True)
        across = difference - along * direction
        weight = tf.cast(y_pred["mask_mag"], pred.dtype) * find[:, None]
        if whole:  # a spin of 0 has nothing along it
            square = self._power(across) + self.fm_longitudinal * self._power(
                along * direction
            )
            return plain._replace(loss=self._weighted(square, weight, 3).loss)
        wrong = along if self.fm_component == "longitudinal" else across
        number = COMPONENTS[self.fm_component]
        return self._weighted(self._power(wrong), weight * known, number)

    def _power(self, difference: tf.Tensor) -> tf.Tensor:
        return tf.square(difference) if self.loss_func == "mse" else tf.abs(difference)

    @staticmethod
    def _label(key: str, pred: tf.Tensor, y_true: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Label of a quantity and, for each frame, whether it is there."""
        ones = tf.ones(tf.shape(pred)[:1], dtype=pred.dtype)
        if key not in y_true:
            return tf.zeros_like(pred), 0.0 * ones
        find = tf.cast(y_true.get(f"find_{key}", ones), pred.dtype)
        label = tf.cast(y_true[key], pred.dtype)
        # what does not count may be NaN, which times 0 is NaN
        rows = tf.reshape(find > 0, [-1] + [1] * (pred.shape.rank - 1))
        return tf.where(rows, label, tf.zeros_like(label)), find

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        config = super().get_config()
        for term, (start, limit) in self.prefactors.items():
            config[f"start_pref_{term}"] = start
            config[f"limit_pref_{term}"] = limit
        config |= {
            "enable_atom_ener_coeff": self.enable_atom_ener_coeff,
            "loss_func": self.loss_func,
            "intensive_ener_virial": self.intensive_ener_virial,
            "fm_component": self.fm_component,
            "fm_longitudinal": self.fm_longitudinal,
            "start_lr": self.start_lr,
        }
        return config


LOSSES = {"ener_spin": EnerSpinLoss}  # `loss/type`
