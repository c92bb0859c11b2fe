# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model on frames as they come: any order of atoms, any cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepspin import __version__, env, keys
from deepspin.infer.batching import Batching
from deepspin.infer.frames import Frames, as_floats
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.pairs import lengths
from deepspin.modelfiles.archive import load_with_metadata
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.op.library import errors_in_one_line


class DeepSpin:
    """A model, ready to be asked.

    It can be pickled and copied, the model's weights with it.

    Parameters
    ----------
    model : str or SpinEnergyModel
        A model file (see `deepspin.load_model`) or a model.
    jit_compile : bool
        Compile with XLA where the compiled kernels are not used: faster from the second
        call with the same numbers of atoms and neighbours on; without, a first call
        takes less.

    Attributes
    ----------
    model : SpinEnergyModel
        The model.
    metadata : dict
        What the model file tells beside the model, such as the nearest distances and
        the moduli of spins in its training; empty where it tells nothing.
    dropped : int
        Neighbours beyond `sel` that the last call left out, of all its frames; where it
        is not 0, energies jump as atoms cross.

    Examples
    --------
    >>> potential = DeepSpin("model.ckpt-2000.keras")  # doctest: +SKIP
    >>> result = potential.eval(coord, box, atype, spin)  # doctest: +SKIP
    >>> result["force_mag"].shape  # doctest: +SKIP
    (1, 32, 3)
    """

    def __init__(
        self, model: str | Path | SpinEnergyModel, *, jit_compile: bool = False
    ):
        metadata: dict = {}
        if not isinstance(model, SpinEnergyModel):
            model, metadata = load_with_metadata(resolve_checkpoint(model))
        self._set_up(model, metadata, jit_compile)

    def _set_up(
        self, model: SpinEnergyModel, metadata: dict, jit_compile: bool
    ) -> None:
        self.model = model
        self._batching = Batching(model, metadata)
        self._jit_compile = jit_compile and not model.native
        self._evaluations = 0
        sizes, pair = any_size(model), [tf.TensorSpec([None, None, 3], tf.float64)] * 2
        self._call = self._function(self._answered, [sizes])
        self._descriptors = self._function(self._described, [sizes])
        self._products = self._function(self._along, [sizes, *pair])

    def _function(self, body: Callable, signature: list) -> Callable:
        # XLA compiles for each size anew; else one graph serves all
        return Compiled(body) if self._jit_compile else Graph(body, signature)

    def __getstate__(self) -> dict:
        return {
            "config": json.dumps(self.model.get_config()),
            "weights": self.model.get_weights(),
            "metadata": self.metadata,
            "jit_compile": self._jit_compile,
        }

    def __setstate__(self, state: dict) -> None:
        env.claim_process()
        model = SpinEnergyModel.from_config(json.loads(state["config"]))
        model.set_weights(state["weights"])
        self._set_up(model, state["metadata"], state["jit_compile"])

    @property
    def type_map(self) -> list[str]:
        """Names of the types."""
        return self.model.type_map

    @property
    def metadata(self) -> dict:
        """What the model file tells beside the model, see the class."""
        return self._batching.metadata

    @metadata.setter
    def metadata(self, metadata: dict) -> None:
        self._batching.metadata = metadata

    @property
    def dropped(self) -> int:
        """Neighbours beyond `sel` that the last call left out, see the class."""
        return self._batching.dropped

    @property
    def rcut(self) -> float:
        """Cutoff in Å."""
        return self.model.descriptor.rcut

    def is_magnetic(self, atype: np.ndarray | Sequence[int]) -> np.ndarray:
        """Whether each atom's type carries a spin, of the shape of `atype`."""
        return self.model.spin.scheme.types.is_magnetic(np.asarray(atype))

    @property
    def precision(self) -> str:
        """Of the nets: float32 if any of the two is of that, else float64."""
        parts = (self.model.descriptor, self.model.fitting)
        return min(part.compute_dtype for part in parts)

    def describe(self) -> dict:
        """What decides about numbers: versions, kernels or not, digest of weights."""
        digest = hashlib.blake2b(digest_size=16)
        for weight in self.model.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        return {
            "deepspin": __version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "kernels": self.model.native,
            "weights": digest.hexdigest(),
        }

    def eval(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Energies, forces, magnetic forces and virials of frames of the same atoms.

        Parameters
        ----------
        coords, spins : np.ndarray, shape (nf, nloc, 3) or (nloc, 3), or flat
            Positions (Å) and spins (μ_B; on types without spin they are ignored, with
            a warning the first time).
        cells : np.ndarray, shape (nf, 3, 3) or (3, 3), or flat; or None
            Lattice vectors in Å; None for open boundaries.
        atom_types : sequence of int or of str, shape (nloc,)
            Type of each atom, or its name.
        pbc : bool or sequence of 3 bool, optional
            Periodic directions; all if there is a cell.
        fparam : np.ndarray, shape (nf, numb_fparam) or (numb_fparam,), or flat
            Frame parameters, of each frame or of all; for a model that takes some, and
            only then.
        batch_size : int, optional
            Most frames to evaluate at once; otherwise as many as memory (0.5 GB of it)
            allows. The numbers stay the same to rounding.

        Returns
        -------
        dict of np.ndarray
            ``energy`` (nf,), ``atom_ener`` (nf, nloc), ``force`` and ``force_mag`` (nf,
            nloc, 3), ``virial`` (nf, 3, 3) and ``atom_virial`` (nf, nloc, 3, 3); units
            and signs as in `deepspin.keys`.

        Raises
        ------
        ValueError
            Shapes that do not fit, types that the model does not know, a spin of
            modulus 0 on a spin type, atoms on top of each other, a singular cell,
            frame parameters that are missing or of no use, or values that are not
            finite.
        MemoryError
            A frame has more atoms than the machine's memory holds.
        RuntimeError
            The model is too steep, or atoms are too near each other, for the kernels or
            for the tables of a compressed model; or the process is a fork of one that
            has evaluated, without TensorFlow's threads.
        """
        frames = Frames.of(self.model, coords, cells, atom_types, spins, pbc, fparam)
        parts = []
        for inputs, order in self._batching.batches(
            frames, range(frames.nf), batch_size
        ):
            with errors_in_one_line():
                outputs = self._call(inputs)
            self._check_tables(outputs)
            parts.append(
                {
                    key.name: order.restored(outputs[key.name].numpy())
                    if "nloc" in key.shape
                    else outputs[key.name].numpy()
                    for key in keys.OUTPUTS
                }
            )
        return {name: _join([part[name] for part in parts]) for name in parts[0]}

    def check(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        """Look at frames as `eval` does before it evaluates them, and no more.

        Takes what `eval` does, raises and warns as that does for frames of no use, and
        sets `dropped`.
        """
        frames = Frames.of(self.model, coords, cells, atom_types, spins, pbc, fparam)
        spin = self._batching.begin(frames)
        for frame in range(frames.nf):
            self._batching.neighbors(frames, spin, frame)

    def descriptor(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Descriptors of the atoms; takes and raises what `eval` does.

        Returns
        -------
        np.ndarray, shape (nf, nloc, neuron[-1] * axis_neuron)
            What the fitting net is given of each atom.
        """
        frames = Frames.of(self.model, coords, cells, atom_types, spins, pbc, fparam)
        parts = []
        for inputs, order in self._batching.batches(
            frames, range(frames.nf), batch_size, plain=True
        ):
            outputs = self._descriptors(inputs)
            self._check_tables(outputs)
            parts.append(order.restored(outputs["descriptor"].numpy()))
        return _join(parts)

    def hvp(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        dcoords: np.ndarray,
        dspins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""Hessian of the energy times directions, without the Hessian.

        .. math:: (H v)_R = -\partial_v F, \quad (H v)_S = -\partial_v F^{mag}

        along the direction v = (dcoords, dspins): exact, at the cost of some
        evaluations of the frame for each direction.

        Parameters
        ----------
        coords, cells, atom_types, spins, pbc, fparam, batch_size
            As in `eval`; one frame serves all directions.
        dcoords, dspins : np.ndarray, shape (n, nloc, 3) or (nloc, 3), or flat
            Directions, one for each frame, or any number for a single one. `dspins` is
            ignored on types without spin.

        Returns
        -------
        of_coord, of_spin : np.ndarray, shape (n, nloc, 3)
            Products. They are in eV/Å and eV/μ_B if `dcoords` is in Å and `dspins` in
            μ_B. 0 on spins of types without spin.

        Raises
        ------
        ValueError
            As `eval`; or the number of directions does not fit.
        """
        frames = Frames.of(self.model, coords, cells, atom_types, spins, pbc, fparam)
        dcoord = as_floats("dcoords", dcoords, (frames.nloc, 3))
        dspin = as_floats("dspins", dspins, (frames.nloc, 3))
        n = len(dcoord)
        if len(dspin) != n or frames.nf not in (1, n):
            raise ValueError(
                f"Numbers of directions differ. Received: {n} of `dcoords`, "
                f"{len(dspin)} of `dspins` for {frames.nf} frames. Give one of each "
                "for every frame, or any number for one frame."
            )
        which = range(n) if frames.nf == n else [0] * n
        return self._multiply(frames, which, dcoord, dspin, batch_size)

    def hessian(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int] | Sequence[str] | np.ndarray,
        spins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | np.ndarray | None = None,
        fparam: Sequence[float] | np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Second derivatives of the energy in positions and spins, exact.

        Takes and raises what `eval` does; costs as much as some 6 nloc evaluations.

        Returns
        -------
        np.ndarray, shape (nf, 6 nloc, 6 nloc)
            Rows and columns are the 3 nloc positions, then the 3 nloc spins; of types
            without spin those are 0. As (nf, 2, nloc, 3, 2, nloc, 3) it has the blocks
            in positions (eV/Å²), in positions and spins (eV/(Å μ_B)) and in spins
            (eV/μ_B²).
        """
        frames = Frames.of(self.model, coords, cells, atom_types, spins, pbc, fparam)
        nloc = frames.nloc
        free = np.repeat(self.is_magnetic(frames.atype), 3)
        columns = np.flatnonzero(np.concatenate([np.ones(3 * nloc, bool), free]))
        unit = np.eye(6 * nloc)[columns].reshape(-1, 2, nloc, 3)
        result = np.zeros((frames.nf, 6 * nloc, 6 * nloc))
        for frame in range(frames.nf):
            which = [frame] * len(columns)
            product = self._multiply(frames, which, unit[:, 0], unit[:, 1], batch_size)
            result[frame, columns] = np.stack(product, axis=1).reshape(-1, 6 * nloc)
        return result

    def _multiply(
        self,
        frames: Frames,
        which: Sequence[int],
        dcoord: np.ndarray,
        dspin: np.ndarray,
        batch_size: int | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hessians of some of the frames times directions (n, nloc, 3)."""
        magnetic = self.is_magnetic(frames.atype)
        dspin = np.where(magnetic[:, None], dspin, 0.0)
        parts, done = [], 0
        for inputs, order in self._batching.batches(
            frames, which, batch_size, second=True
        ):
            here = slice(done, done + len(inputs["coord"]))
            along = [order.sorted(d[here]) for d in (dcoord, dspin)]
            with errors_in_one_line():
                outputs = self._products(inputs, *along)
            self._check_tables(outputs)
            done = here.stop
            parts.append(
                [order.restored(outputs[name].numpy()) for name in ("coord", "spin")]
            )
        of_coord, of_spin = map(_join, zip(*parts, strict=True))
        return of_coord, np.where(magnetic[:, None], of_spin, 0.0)

    def _answered(self, inputs: dict) -> dict:
        """What `eval` is asked for."""
        outputs, names = self.model(inputs), [key.name for key in keys.OUTPUTS]
        return {k: v for k, v in outputs.items() if k in (*names, "extrapolated")}

    def _described(self, inputs: dict) -> dict:
        """Descriptors, and of a compressed model how many pairs are beyond tables."""
        outputs, descriptor = self.model.descriptors(inputs), self.model.descriptor
        if not descriptor.tables:
            return {"descriptor": outputs}
        diff, filled = self.model.spin.seen(inputs, descriptor)
        outside = descriptor.extrapolated(diff, filled, lengths(inputs["mask"]))
        return {"descriptor": outputs, "extrapolated": outside}

    def _along(self, inputs: dict, dcoord: tf.Tensor, dspin: tf.Tensor) -> dict:
        """Minus the derivatives of forces and magnetic forces along a direction.

        The Hessian is symmetric, so they are the gradient of minus the forces' work.
        """
        coord, spin = inputs["coord"], inputs["spin"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([coord, spin])
            # `training`: keep what the gradient needs rather than compute it again
            outputs = self.model(inputs, training=True)
            loss = -tf.reduce_sum(outputs["force"] * dcoord)
            loss -= tf.reduce_sum(outputs["force_mag"] * dspin)
        of_coord, of_spin = tape.gradient(
            loss, [coord, spin], unconnected_gradients="zero"
        )
        extrapolated = {k: v for k, v in outputs.items() if k == "extrapolated"}
        return {"coord": of_coord, "spin": of_spin, **extrapolated}

    def _check_tables(self, outputs: dict) -> None:
        """Refuse pairs that a compressed model does not know."""
        every = self.model.descriptor.check_frequency
        due = every > 0 and self._evaluations % every == 0
        self._evaluations += 1
        if "extrapolated" not in outputs or not due:
            return
        outside = int(outputs["extrapolated"])
        if outside:
            raise RuntimeError(
                f"{outside} pairs are nearer than the tables of the compressed model "
                "reach, and beyond them it is another model. Compress again with a "
                "larger -e or with these frames among the data (-t), or use the model "
                "that it was made of."
            )


class Graph:
    """A function of arrays of any size, as one graph, traced at the first call.

    `tf.function` looks at all arguments of each call, which takes longer than a small
    frame does; here they go to the graph as they are, and must fit.

    Parameters
    ----------
    body : callable
        From tensors to a dict of tensors.
    signature : list
        Specs of its arguments.
    """

    def __init__(self, body: Callable, signature: list):
        # a partial: TensorFlow counts tracings by code, and warns of many models
        self.function = tf.function(
            partial(_call, body), input_signature=signature, autograph=False
        )
        self._call: Callable[[tuple], dict] | None = None

    def __call__(self, *args: Any) -> dict:
        """Evaluate the function of numpy arrays."""
        call = self._call  # of several threads all make the same
        if call is None:
            call = self._call = self._traced()
        return call(args)

    def _traced(self) -> Callable[[tuple], dict]:
        graph = self.function.get_concrete_function()
        weights, evaluate = graph.captured_inputs, graph.inference_fn.call_flat
        names = sorted(graph.structured_outputs)  # the order of its outputs

        # an operation that is told of the graph would hold it for ever
        def call(args: tuple) -> dict:
            found = evaluate(*map(tf.constant, tf.nest.flatten(args)), *weights)
            return dict(zip(names, found, strict=True))

        return call


class Compiled:
    """The same, compiled with XLA for each size; see `Graph`."""

    def __init__(self, body: Callable):
        self.function = tf.function(
            partial(_call, body),
            autograph=False,
            jit_compile=True,
            reduce_retracing=True,
        )

    def __call__(self, *args: Any) -> dict:
        """Evaluate the function of numpy arrays."""
        return self.function(*tf.nest.map_structure(tf.constant, args))


def _call(body: Callable, *args: Any) -> Any:
    return body(*args)


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def any_size(model: SpinEnergyModel) -> dict:
    """Specs of the model's inputs, whatever the numbers of atoms and neighbours."""

    def spec(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([None, *shape], dtype)

    scheme, number = model.spin.scheme, model.fitting.numb_fparam
    lists = scheme.list_blocks
    return {
        "coord": spec(tf.float64, None, 3),
        "spin": spec(tf.float64, None, 3),
        "box": spec(tf.float64, 3, 3),
        "mask": tuple(spec(tf.bool, None) for _ in range(scheme.ntypes)),
        "nlist": tuple(spec(tf.int32, None, None) for _ in lists),
        "shift": tuple(spec(tf.int32, None, None, 3) for _ in lists),
        **({"fparam": spec(tf.float64, number)} if number else {}),
    }
