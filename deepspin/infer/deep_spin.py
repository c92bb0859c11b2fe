# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model on frames as they come: any order of atoms, any cell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from deepspin import keys
from deepspin.model.ener import SpinEnergyModel
from deepspin.op.library import errors_in_one_line
from deepspin.training.serialization import load_model
from deepspin.utils.data import Shape, collate, neighbors_of_frame
from deepspin.utils.files import LARGEST
from deepspin.utils.nlist import Neighbors, Search
from deepspin.utils.system import ZERO_SPIN

log = logging.getLogger(__name__)

# how far beyond the cutoff neighbours are sought (Å); not again while no atom has moved
# half of it
SKIN = 0.5


class DeepSpin:
    """A model, ready to be asked.

    Parameters
    ----------
    model : str or SpinEnergyModel
        A model file (see `deepspin.load_model`) or a model.
    jit_compile : bool
        Compile with XLA where the compiled kernels are not used: faster from the second
        call with the same numbers of atoms and neighbours on; without, a first call
        takes less.

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
        if not isinstance(model, SpinEnergyModel):
            model = load_model(model, compile=False)
        self.model = model
        self._warned = False  # of neighbours beyond `sel`
        self._warned_of_spins = False  # on types without spin
        self._warned_of_tables = False  # of pairs beyond a compressed model's
        self._evaluations = 0
        self._search = Search(SKIN)
        jit_compile = jit_compile and not model.native
        self._call = tf.function(
            lambda inputs: model(inputs),
            # XLA compiles for each size anew; else one graph serves all
            input_signature=None if jit_compile else [_any_size(model)],
            autograph=False,
            jit_compile=jit_compile,
            reduce_retracing=True,
        )

    @property
    def type_map(self) -> list[str]:
        """Names of the types."""
        return self.model.type_map

    @property
    def rcut(self) -> float:
        """Cutoff in Å."""
        return self.model.descriptor.rcut

    def eval(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: Sequence[int],
        spins: np.ndarray,
        *,
        pbc: bool | Sequence[bool] | None = None,
        fparam: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Energies, forces, magnetic forces and virials of frames of the same atoms.

        Parameters
        ----------
        coords, spins : np.ndarray, shape (nf, nloc, 3) or (nloc, 3), or flat
            Positions (Å) and spins (μ_B; on types without spin they are ignored, with
            a warning the first time).
        cells : np.ndarray, shape (nf, 3, 3) or (3, 3), or flat; or None
            Lattice vectors in Å; None for open boundaries.
        atom_types : sequence of int, shape (nloc,)
            Type of each atom.
        pbc : bool or sequence of 3 bool, optional
            Periodic directions; all if there is a cell.
        fparam : np.ndarray, shape (nf, numb_fparam) or (numb_fparam,), or flat
            Frame parameters, of each frame or of all; for a model that takes some, and
            only then.

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
        RuntimeError
            The model is too steep, or atoms are too near each other, for the kernels.
        """
        atype = self._types(atom_types)
        coord = _array("coords", coords, (atype.size, 3))
        spin = _array("spins", spins, (atype.size, 3))
        nf = len(coord)
        fparam = self._parameters(fparam, nf)
        if pbc is None:
            pbc = cells is not None
        if np.shape(pbc) not in ((), (3,)) or not np.isin(pbc, (0, 1)).all():
            raise ValueError(f"`pbc` must be a bool or 3 of them. Received: {pbc}")
        if cells is None:
            if np.any(pbc):
                raise ValueError(
                    "Periodic boundaries need `cells`. Received: None. Give lattice "
                    "vectors, or pbc=False."
                )
            cells = np.zeros((nf, 3, 3))
        box = _array("cells", cells, (3, 3))
        self._check(coord, spin, box, atype, np.broadcast_to(pbc, (3,)) != 0)
        scheme = self.model.spin.scheme
        spin = np.where(scheme.is_magnetic(atype)[:, None], spin, 0.0)
        sel = self.model.descriptor.sel
        neighbors = [
            neighbors_of_frame(
                coord[f],
                spin[f],
                atype,
                box[f],
                pbc,
                scheme,
                self.rcut,
                sel,
                self._search,
            )
            for f in range(nf)
        ]
        self._check_neighbors(neighbors)
        widths = np.max([n.count.max(axis=0, initial=1) for n in neighbors], axis=0)
        natoms = np.bincount(atype, minlength=scheme.ntypes)
        shape = Shape(nf, tuple(map(int, natoms)), tuple(map(int, widths)))
        types = np.broadcast_to(atype, (nf, atype.size))
        inputs, slots = collate(coord, spin, box, types, neighbors, shape, fparam)
        with errors_in_one_line():
            outputs = self._call(tf.nest.map_structure(tf.constant, inputs))
        self._check_tables(outputs)
        rows = np.arange(nf)[:, None]
        return {
            key.name: outputs[key.name].numpy()[rows, slots]
            if "nloc" in key.shape
            else outputs[key.name].numpy()
            for key in keys.OUTPUTS
        }

    def _types(self, atom_types: Sequence[int]) -> np.ndarray:
        """Types, checked."""
        atype = np.asarray(atom_types)
        ntypes = len(self.type_map)
        known = atype.ndim == 1 and atype.size > 0 and atype.dtype.kind in "iu"
        if not known or atype.min() < 0 or atype.max() >= ntypes:
            names = ", ".join(f"{t} for {name}" for t, name in enumerate(self.type_map))
            raise ValueError(
                f"`atom_types` must be indices, one for each atom: {names}. Received: "
                f"{np.array2string(atype, threshold=8, edgeitems=3, separator=', ')}"
            )
        return atype.astype(int)

    def _parameters(self, fparam: np.ndarray | None, nf: int) -> np.ndarray | None:
        """Frame parameters (nf, numb_fparam), checked; None for a model without."""
        number = self.model.fitting.numb_fparam
        if number == 0:
            if fparam is not None:
                raise ValueError(
                    "The model takes no frame parameters. Received: `fparam` of shape "
                    f"{np.shape(fparam)}. Leave it out."
                )
            return None
        array = _numbers("fparam", [] if fparam is None else fparam)
        fits = array.ndim < 2 or array.shape[1:] == (number,)
        if not fits or array.size not in (number, nf * number):
            raise ValueError(
                f"The model takes {number} frame parameters: `fparam` must have the "
                f"shape ({nf}, {number}), or ({number},) for all frames, or be flat. "
                f"Received: {'none' if fparam is None else array.shape}"
            )
        rows = array.reshape(-1, number)
        _refuse_huge("fparam", rows)
        return np.broadcast_to(rows, (nf, number))

    def _check(
        self,
        coord: np.ndarray,
        spin: np.ndarray,
        box: np.ndarray,
        atype: np.ndarray,
        pbc: np.ndarray,
    ) -> None:
        if not len(coord) == len(spin) == len(box):
            raise ValueError(
                f"Numbers of frames differ. Received: {len(coord)} of `coords`, "
                f"{len(spin)} of `spins`, {len(box)} of `cells`. Give one of each for "
                "every frame."
            )
        nperiodic = np.count_nonzero(pbc)
        rank = np.linalg.matrix_rank(box[:, pbc]) if nperiodic else np.zeros(len(box))
        for frame in np.flatnonzero(rank < nperiodic)[:1]:
            raise ValueError(
                f"`cells` of frame {frame} is singular: {box[frame].tolist()}. Rows "
                "must be lattice vectors in Å; without periodicity pass None."
            )
        scheme = self.model.spin.scheme
        idle = spin.any(axis=(0, 2)) & ~scheme.is_magnetic(atype)
        if idle.any() and not self._warned_of_spins:
            self._warned_of_spins = True
            names = sorted({self.type_map[t] for t in atype[idle]})
            log.warning(
                "spins on atoms of %s are ignored: no spin types", ", ".join(names)
            )
        modulus = np.linalg.norm(spin, axis=2)
        bare = (modulus < ZERO_SPIN) & scheme.is_magnetic(atype)
        if bare.any() and not self.model.descriptor.env_protection:
            frame, atom = np.argwhere(bare)[0]
            raise ValueError(
                f"Atom {atom} of frame {frame} has |spin| = "
                f"{modulus[frame, atom]:.3g}, but type "
                f"'{self.type_map[atype[atom]]}' is a spin type; its virtual atom "
                "would coincide with it. Give it a spin (1e-6 μ_B will do) or use "
                "a model with `env_protection`."
            )

    def _check_neighbors(self, neighbors: Sequence[Neighbors]) -> None:
        for frame, found in enumerate(neighbors):
            if found.nearest == 0 and not self.model.descriptor.env_protection:
                raise ValueError(
                    f"Two atoms of frame {frame}, or an atom and a virtual atom, are "
                    "at the same place. Separate them."
                )
            if found.dropped and not self._warned:
                self._warned = True
                log.warning(
                    "%d neighbours of frame %d exceed `sel` %s (found: %s) and are "
                    "left out, as in training; energies jump as atoms cross",
                    found.dropped,
                    frame,
                    list(self.model.descriptor.sel),
                    found.found.tolist(),
                )

    def _check_tables(self, outputs: dict) -> None:
        """Warn, once, of pairs that a compressed model does not know."""
        every = self.model.descriptor.check_frequency
        due = every > 0 and self._evaluations % every == 0
        self._evaluations += 1
        if "extrapolated" not in outputs or not due or self._warned_of_tables:
            return
        outside = int(outputs["extrapolated"])
        if outside:
            self._warned_of_tables = True
            log.warning(
                "%d pairs are nearer than the tables of the compressed model reach; "
                "there they go on as straight lines. Compress again with these frames "
                "among the data (-t) or with a larger -e, or use the model as it was",
                outside,
            )


def _any_size(model: SpinEnergyModel) -> dict:
    """Specs of the model's inputs, whatever the numbers of atoms and neighbours."""

    def spec(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([None, *shape], dtype)

    scheme, number = model.spin.scheme, model.fitting.numb_fparam
    blocks = range(scheme.ntypes_extended)
    return {
        "coord": spec(tf.float64, None, 3),
        "spin": spec(tf.float64, None, 3),
        "box": spec(tf.float64, 3, 3),
        "mask": tuple(spec(tf.bool, None) for _ in range(scheme.ntypes)),
        "nlist": tuple(spec(tf.int32, None, None) for _ in blocks),
        "shift": tuple(spec(tf.int32, None, None, 3) for _ in blocks),
        **({"fparam": spec(tf.float64, number)} if number else {}),
    }


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Take real numbers as float64."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise TypeError("no real numbers")
    except (TypeError, ValueError) as error:  # ragged, words, complex, ...
        raise ValueError(
            f"`{name}` must hold real numbers. Received: {type(values).__name__} "
            f"({' '.join(str(error).split())})"
        ) from error
    return array.astype(np.float64)


def _refuse_huge(name: str, rows: np.ndarray) -> None:
    """Refuse rows, one for each frame, with numbers that are none of physics."""
    for frame in np.flatnonzero(~(np.abs(rows) < LARGEST).all(axis=1))[:1]:
        raise ValueError(
            f"`{name}` of frame {frame} has values that are NaN, infinite or beyond "
            f"{LARGEST:g}."
        )


def _array(name: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Finite numbers of shape (nf, *shape), from that, one frame's, or flat ones."""
    array = _numbers(name, values)
    size = shape[0] * shape[1]
    fits = {
        1: array.size % size == 0,
        2: array.shape in (shape, (len(array) if array.ndim else 0, size)),
        3: array.shape[1:] == shape,
    }
    if not fits.get(array.ndim, False) or array.size == 0:
        raise ValueError(
            f"`{name}` must have the shape (frames, {shape[0]}, {shape[1]}), or that "
            f"of one frame, or be flat. Received: {array.shape}"
        )
    _refuse_huge(name, array.reshape(-1, size))
    return array.reshape(-1, *shape)
