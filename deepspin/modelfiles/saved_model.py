# SPDX-License-Identifier: Apache-2.0
"""Frozen models: TensorFlow SavedModels that run without deepspin, and back.

Their functions take atoms in any order and make of them, within the graph, what
`SpinEnergyModel` takes: atoms sorted by type, with the nearest `sel` neighbours of each
type. Letters of shapes: f frame, i atom, s slot of a sorted atom, j neighbour.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepspin import keys
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.reach import reach
from deepspin.modelfiles.find import (
    FORMAT_VERSION,
    FROZEN_METADATA,
    read_config,
)
from deepspin.op.library import plain_tensorflow
from deepspin.spins.types import ZERO_SPIN
from deepspin.utils.outputs import replacing

SPECS = {
    "coord": tf.TensorSpec([None, None, 3], tf.float64),
    "box": tf.TensorSpec([None, 3, 3], tf.float64),
    "atype": tf.TensorSpec([None, None], tf.int32),
    "spin": tf.TensorSpec([None, None, 3], tf.float64),
    "nlist": tf.TensorSpec([None, None, None], tf.int32),
    "shift": tf.TensorSpec([None, None, None, 3], tf.int32),
}
FRAME = ("coord", "box", "atype", "spin")


class FrozenModel(tf.Module):
    """The functions of a frozen model.

    ``eval(coord, box, atype, spin, nlist, shift)`` takes a neighbour list;
    ``eval_small(coord, box, atype, spin)`` looks at all pairs itself, at a cost that
    grows with the square of the number of atoms. ``metadata()`` is a JSON string.

    Shapes and units are those of `deepspin.keys`. Rows of ``box`` are 0 in directions
    that are not periodic, ``atype`` is -1 where there is no atom. ``nlist`` (nf, nloc,
    nnei) holds, in any order, all atoms within ``nlist_cutoff`` of each atom (but not
    itself at shift 0) and -1 in empty slots; ``shift`` (nf, nloc, nnei, 3) their
    lattice shifts: the separation is ``coord[nlist] + shift @ box - coord``. Both
    return a dict of ``energy``, ``atom_ener``, ``force``, ``force_mag``, ``virial``,
    ``atom_virial``, and ``dropped`` (nf,), the number of neighbours beyond ``sel``
    that were left out. Those of a compressed model also return ``extrapolated`` (), the
    number of pairs, of all frames, that are nearer than its tables reach. Both take
    ``fparam`` (nf, numb_fparam) as a last argument if the model takes frame parameters;
    ``numb_fparam`` of the metadata is their number then.

    Parameters
    ----------
    model : SpinEnergyModel
        The model; its weights are shared.
    metadata : dict
        Answer of ``metadata()``; its ``nlist_cutoff`` (Å) is kept to.
    """

    def __init__(self, model: SpinEnergyModel, metadata: dict):
        super().__init__(name="deepspin")
        self._model_call, self._spin = model.call, model.spin
        self._descriptor, self._allows_zero_spin = (
            model.descriptor,
            model.allows_zero_spin,
        )
        self._reach = metadata["nlist_cutoff"] - model.descriptor.rcut
        self.weights = [weight.value for weight in model.weights]
        text = json.dumps(metadata, indent=2)
        number = model.fitting.numb_fparam
        more = [tf.TensorSpec([None, number], tf.float64)] if number else []
        self.metadata = _function(lambda: tf.constant(text), [])
        whole = [*SPECS.values(), *more]
        # one graph, called by both; behind a lambda it is no function of the model
        evaluate = _function(self._evaluate, whole)
        self._evaluation = lambda *given: evaluate(*given[: len(whole)])
        self.eval = _function(self._eval, whole)
        frame = [SPECS[name] for name in FRAME]
        self.eval_small = _function(self._eval_small, [*frame, *more])

    def _eval(
        self,
        coord: tf.Tensor,
        box: tf.Tensor,
        atype: tf.Tensor,
        spin: tf.Tensor,
        nlist: tf.Tensor,
        shift: tf.Tensor,
        fparam: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        checks = self._checks(coord, box, atype, spin, fparam)
        listed = tf.reduce_all(nlist < tf.shape(atype)[1])
        near = tf.reduce_all(self._spin.offset(atype, spin) <= self._reach)
        checks += [
            _demand(listed, "`nlist` names atoms that are not there"),
            _demand(
                near,
                "a spin is so long that neighbours within `nlist_cutoff` (metadata) "
                "are not enough; `eval_small` looks as far as it needs",
            ),
        ]
        with tf.control_dependencies(checks):
            return self._evaluation(coord, box, atype, spin, nlist, shift, fparam)

    def _eval_small(
        self,
        coord: tf.Tensor,
        box: tf.Tensor,
        atype: tf.Tensor,
        spin: tf.Tensor,
        fparam: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(self._checks(coord, box, atype, spin, fparam)):
            longest = tf.reduce_max(self._spin.offset(atype, spin))
            cutoff = self._descriptor.rcut + longest
            nlist, shift = all_pairs(coord, box, atype, cutoff)
            return self._evaluation(coord, box, atype, spin, nlist, shift, fparam)

    def _checks(
        self,
        coord: tf.Tensor,
        box: tf.Tensor,
        atype: tf.Tensor,
        spin: tf.Tensor,
        fparam: tf.Tensor | None,
    ) -> list[tf.Operation]:
        """Refuse what would give wrong numbers or NaN."""
        ntypes = self._spin.scheme.ntypes
        message = f"`atype` must be below {ntypes}, and -1 for no atom"
        checks = [_demand(tf.reduce_all((atype < ntypes) & (atype >= -1)), message)]
        given = {"coord": coord, "box": box, "spin": spin}
        if fparam is not None:
            given["fparam"] = fparam
            same = tf.equal(tf.shape(fparam)[0], tf.shape(coord)[0])
            checks.append(_demand(same, "`fparam` needs one row for each frame"))
        for name, array in given.items():
            finite = tf.reduce_all(tf.math.is_finite(array))
            checks.append(_demand(finite, f"`{name}` is NaN or infinite somewhere"))
        if not self._allows_zero_spin:
            bare = self._magnetic(atype) & (tf.linalg.norm(spin, axis=-1) < ZERO_SPIN)
            message = "|spin| = 0 on an atom of a spin type; give it a spin"
            checks.append(_demand(~tf.reduce_any(bare), message))
        return checks

    def _magnetic(self, atype: tf.Tensor) -> tf.Tensor:
        table = tf.constant([*self._spin.scheme.types.use_spin, False])
        return tf.gather(table, _row(atype, self._spin.scheme.ntypes))

    def _evaluate(
        self,
        coord: tf.Tensor,
        box: tf.Tensor,
        atype: tf.Tensor,
        spin: tf.Tensor,
        nlist: tf.Tensor,
        shift: tf.Tensor,
        fparam: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        slots, owner, masks = sort_by_type(atype, self._spin.scheme.ntypes)
        spin = tf.where(self._magnetic(atype)[..., None], spin, 0.0)
        inputs = {
            "coord": _take(coord, owner, 0.0),
            "spin": _take(spin, owner, 0.0),
            "box": box,
            "mask": tuple(masks),
            **({} if fparam is None else {"fparam": fparam}),
        }
        nlist = tf.where(nlist >= 0, _take(slots, nlist, -1), -1)
        inputs["nlist"], inputs["shift"], dropped = self._neighbors(
            inputs,
            _take(atype, owner, -1),
            _take(nlist, owner, -1),
            _take(shift, owner, 0),
        )
        with plain_tensorflow():  # others do not have the kernels
            outputs = self._model_call(inputs)
        result = {
            key.name: _take(outputs[key.name], slots, 0.0)
            if "nloc" in key.shape
            else outputs[key.name]
            for key in keys.OUTPUTS
        }
        result["dropped"] = dropped
        if "extrapolated" in outputs:
            result["extrapolated"] = outputs["extrapolated"]
        return result

    def _neighbors(
        self, inputs: dict, atype: tf.Tensor, nlist: tf.Tensor, shift: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...], tf.Tensor]:
        """Nearest `sel` points of each type and their shifts, from all atoms near.

        Also how many of each frame are left out.
        """
        index, kind, image = self._spin.neighbors(nlist, shift, atype)
        natoms = [tf.shape(mask)[1] for mask in inputs["mask"]]
        points = self._spin.points(inputs["coord"], inputs["spin"], natoms)
        apart = tf.gather(points, tf.maximum(index, 0), batch_dims=1)
        apart += tf.einsum("fsjk,fkx->fsjx", tf.cast(image, tf.float64), inputs["box"])
        distance = tf.linalg.norm(apart - inputs["coord"][:, :, None], axis=-1)
        inside = (kind >= 0) & (distance < self._descriptor.rcut)
        if not self._descriptor.env_protection:
            together = tf.reduce_any(inside & (distance == 0.0))
            message = "two atoms, or an atom and the end of a spin, coincide"
            with tf.control_dependencies([_demand(~together, message)]):
                distance = tf.identity(distance)
        lists, shifts, dropped = [], [], 0
        for number, block in enumerate(self._spin.scheme.list_blocks):
            mine = tf.where(inside & (kind == number), distance, np.inf)
            order, left = _nearest(mine, self._descriptor.sel[block])
            at = tf.maximum(order, 0)
            point = tf.gather(index, at, batch_dims=2)
            lists.append(tf.where(order >= 0, point, -1))
            shifts.append(tf.gather(image, at, batch_dims=2))
            dropped += left
        return tuple(lists), tuple(shifts), dropped


def _function(function: Callable, signature: list[tf.TensorSpec]) -> Callable:
    return tf.function(function, input_signature=signature, autograph=False)


def _demand(condition: tf.Tensor, message: str) -> tf.Operation:
    return tf.debugging.Assert(condition, [message])


def _row(atype: tf.Tensor, ntypes: int) -> tf.Tensor:
    """Row of each type in a table with a last one for no atom."""
    return tf.where(atype >= 0, atype, ntypes)


def _take(values: tf.Tensor, index: tf.Tensor, fill: float) -> tf.Tensor:
    """Values (f i ...) at `index` (f ...), `fill` where that is negative."""
    taken = tf.gather(values, tf.maximum(index, 0), batch_dims=1)
    there = tf.reshape(
        index >= 0, tf.concat([tf.shape(index), [1] * (taken.ndim - index.ndim)], 0)
    )
    return tf.where(there, taken, tf.cast(fill, taken.dtype))


def _nearest(distance: tf.Tensor, sel: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Places of the `sel` smallest of finite distances, -1 in empty slots.

    Also how many of each frame are left out.
    """
    count = tf.reduce_sum(tf.cast(tf.math.is_finite(distance), tf.int32), axis=2)
    width = tf.minimum(tf.reduce_max(count), sel)
    order = tf.argsort(distance, axis=2, stable=True)[:, :, :width]
    kept = tf.range(width) < tf.minimum(count, sel)[..., None]
    left = tf.reduce_sum(tf.maximum(count - sel, 0), axis=1)
    return tf.where(kept, order, -1), left


def sort_by_type(
    atype: tf.Tensor, ntypes: int
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Sort the atoms of frames by type, into blocks of equal sizes in all frames.

    Parameters
    ----------
    atype : tf.Tensor of int32, shape (nf, nloc)
        Types, -1 for no atom.
    ntypes : int
        Number of types.

    Returns
    -------
    slots : tf.Tensor of int32, shape (nf, nloc)
        Slot of each atom, -1 for no atom.
    owner : tf.Tensor of int32, shape (nf, nslots)
        Atom in each slot, -1 for none.
    masks : list of tf.Tensor of bool, each (nf, slots of the type)
        Which slots hold an atom, by type.
    """
    here = atype[..., None] == tf.range(ntypes)  # f i t
    ones = tf.cast(here, tf.int32)
    count = tf.reduce_sum(ones, axis=1)  # f t
    size = tf.reduce_max(count, axis=0)  # t
    place = tf.cumsum(ones, axis=1) - 1 + tf.cumsum(size, exclusive=True)
    slots = tf.reduce_sum(place * ones, axis=2)
    slots = tf.where(tf.reduce_any(here, axis=2), slots, -1)
    where = tf.where(slots >= 0)  # n 2: frame, atom
    frame, atom = tf.unstack(tf.cast(where, tf.int32), axis=1)
    to = tf.stack([frame, tf.gather_nd(slots, where)], axis=1)
    empty = tf.fill([tf.shape(atype)[0], tf.reduce_sum(size)], -1)
    owner = tf.tensor_scatter_nd_update(empty, to, atom)
    masks = [tf.range(size[t]) < count[:, t, None] for t in range(ntypes)]
    return slots, owner, masks


def all_pairs(
    coord: tf.Tensor, box: tf.Tensor, atype: tf.Tensor, cutoff: tf.Tensor | float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Neighbours of all atoms by looking at all pairs and images.

    Parameters
    ----------
    coord : tf.Tensor, shape (nf, nloc, 3)
        Positions in Å.
    box : tf.Tensor, shape (nf, 3, 3)
        Lattice vectors in rows, in Å; 0 in directions that are not periodic.
    atype : tf.Tensor of int32, shape (nf, nloc)
        Types, -1 for no atom.
    cutoff : float
        In Å.

    Returns
    -------
    nlist, shift
        See `FrozenModel`.
    """
    periodic = tf.reduce_any(box != 0.0, axis=2)  # f k
    inverse = tf.linalg.pinv(box)
    home = tf.floor(tf.einsum("fix,fxk->fik", coord, inverse))
    home = tf.where(periodic[:, None], home, 0.0)
    planes = tf.linalg.norm(inverse, axis=1)  # f k: 1 / distance of lattice planes
    reach = tf.where(periodic, tf.floor(cutoff * planes) + 1.0, 0.0)
    reach = tf.reduce_max(reach, axis=0)
    ranges = [tf.range(-reach[k], reach[k] + 1.0) for k in range(3)]
    images = tf.reshape(tf.stack(tf.meshgrid(*ranges, indexing="ij"), -1), [-1, 3])
    # f i j m k: image m of atom j, seen from atom i
    shift = images + (home[:, :, None] - home[:, None])[:, :, :, None]
    apart = coord[:, None] - coord[:, :, None]
    apart = apart[:, :, :, None] + tf.einsum("fijmk,fkx->fijmx", shift, box)
    near = tf.linalg.norm(apart, axis=-1) < cutoff
    # no images along open directions, where another frame has some
    near &= tf.reduce_all(periodic[:, None] | (images == 0.0), 2)[:, None, None]
    nloc, nimages = tf.shape(atype)[1], tf.shape(images)[0]
    itself = tf.eye(nloc, dtype=tf.bool)[..., None] & tf.reduce_all(images == 0.0, 1)
    there = (atype[:, :, None] >= 0) & (atype[:, None] >= 0)
    near &= ~itself & there[..., None]
    nlist = tf.where(near, tf.range(nloc)[:, None], -1)
    flat = [tf.shape(atype)[0], nloc, nloc * nimages]
    return (
        tf.reshape(nlist, flat),
        tf.reshape(tf.cast(shift, tf.int32), [*flat, 3]),
    )


# --- Files ----------------------------------------------------------------------------


def freeze(model: SpinEnergyModel, path: str | Path, metadata: dict) -> None:
    """Write a frozen model, whole or not at all, in place of what is at `path`.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    path : str
        Folder to write.
    metadata : dict
        Metadata of the model's file, see `read_metadata`; what a user of the frozen
        model needs to know of the model is added.
    """
    metadata = describe(model, metadata)
    module = FrozenModel(model, metadata)
    with replacing(path) as partial, _quiet():
        tf.saved_model.save(
            module,
            str(partial),
            signatures={"eval": module.eval, "eval_small": module.eval_small},
        )
        file = partial / FROZEN_METADATA
        file.parent.mkdir()
        config = {"class_name": type(model).__name__, "config": model.get_config()}
        config["registered_name"] = "deepspin>SpinEnergyModel"
        content = {**metadata, "model": config}
        file.write_text(json.dumps(content, indent=2), encoding="utf-8")


def describe(model: SpinEnergyModel, metadata: dict) -> dict:
    """Metadata of a frozen model: all that its users need to know."""
    descriptor = model.descriptor
    number = model.fitting.numb_fparam
    used = [key for key in keys.INPUTS if key is not keys.FPARAM or number]
    return {
        **metadata,
        "format": FORMAT_VERSION,
        "type_map": model.type_map,
        "rcut": descriptor.rcut,
        "nlist_cutoff": descriptor.rcut + reach(model, metadata),
        "sel": list(descriptor.sel),
        "spin": model.spin.options,
        "units": {key.name: key.unit for key in (*used, *keys.OUTPUTS)},
        **({"numb_fparam": number} if number else {}),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow from telling where it writes."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_frozen_model(path: str | Path) -> SpinEnergyModel:
    """Read the model that a frozen model was made from; runs no code from the files.

    Raises
    ------
    ValueError
        The folder is damaged, or from a newer version.
    """
    config = read_config(path)
    model = SpinEnergyModel.from_config(config["config"])
    try:
        reader = tf.train.load_checkpoint(str(Path(path) / "variables" / "variables"))
        for k, weight in enumerate(model.weights):
            weight.assign(reader.get_tensor(f"weights/{k}/.ATTRIBUTES/VARIABLE_VALUE"))
    except Exception as error:  # TensorFlow raises errors of its own, NotFoundError
        raise ValueError(
            f"'{path}' is damaged: its weights cannot be read "
            f"({str(error).splitlines()[0]}). Freeze the model again."
        ) from error
    return model
