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
from deepspin.training.serialization import load_model
from deepspin.utils.data import Shape, collate, neighbors_of_frame
from deepspin.utils.nlist import Neighbors
from deepspin.utils.system import ZERO_SPIN

log = logging.getLogger(__name__)


class DeepSpin:
    """A model, ready to be asked.

    Parameters
    ----------
    model : str or SpinEnergyModel
        A model file (see `deepspin.load_model`) or a model.
    jit_compile : bool
        Compile with XLA: faster from the second call with the same numbers of atoms and
        neighbours on; without, a first call takes less.

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
        self._call = tf.function(
            lambda inputs: model(inputs), jit_compile=jit_compile, reduce_retracing=True
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
    ) -> dict[str, np.ndarray]:
        """Energies, forces, magnetic forces and virials of frames of the same atoms.

        Parameters
        ----------
        coords, spins : np.ndarray, shape (nf, nloc, 3) or (nloc, 3), or flat
            Positions (Å) and spins (μ_B, ignored on types without spin).
        cells : np.ndarray, shape (nf, 3, 3) or (3, 3), or flat; or None
            Lattice vectors in Å; None for open boundaries.
        atom_types : sequence of int, shape (nloc,)
            Type of each atom.
        pbc : bool or sequence of 3 bool, optional
            Periodic directions; all if there is a cell.

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
            modulus 0 on a spin type, or values that are not finite.
        """
        atype = np.asarray(atom_types, dtype=int)
        nloc = atype.size
        if nloc == 0:
            raise ValueError(
                f"`atom_types` must be indices of {self.type_map}. Received: []"
            )
        coord = np.asarray(coords, dtype=np.float64).reshape(-1, nloc, 3)
        spin = np.asarray(spins, dtype=np.float64).reshape(-1, nloc, 3)
        nf = len(coord)
        if pbc is None:
            pbc = cells is not None
        if cells is None:
            if np.any(pbc):
                raise ValueError("Periodic boundaries need `cells`. Received: None")
            cells = np.zeros((nf, 3, 3))
        box = np.asarray(cells, dtype=np.float64).reshape(-1, 3, 3)
        self._check(coord, spin, box, atype)
        scheme = self.model.spin.scheme
        spin = np.where(scheme.is_magnetic(atype)[:, None], spin, 0.0)
        sel = self.model.descriptor.sel
        neighbors = [
            neighbors_of_frame(
                coord[f], spin[f], atype, box[f], pbc, scheme, self.rcut, sel
            )
            for f in range(nf)
        ]
        self._check_neighbors(neighbors)
        widths = np.max([n.count.max(axis=0, initial=1) for n in neighbors], axis=0)
        natoms = np.bincount(atype, minlength=scheme.ntypes)
        shape = Shape(nf, tuple(map(int, natoms)), tuple(map(int, widths)))
        types = np.broadcast_to(atype, (nf, nloc))
        inputs, slots = collate(coord, spin, box, types, neighbors, shape)
        outputs = self._call(tf.nest.map_structure(tf.constant, inputs))
        rows = np.arange(nf)[:, None]
        return {
            key.name: outputs[key.name].numpy()[rows, slots]
            if "nloc" in key.shape
            else outputs[key.name].numpy()
            for key in keys.OUTPUTS
        }

    def _check(
        self, coord: np.ndarray, spin: np.ndarray, box: np.ndarray, atype: np.ndarray
    ) -> None:
        if not len(coord) == len(spin) == len(box) > 0:
            raise ValueError(
                f"Numbers of frames differ or are 0. Received: {len(coord)} of "
                "`coords`, "
                f"{len(spin)} of `spins`, {len(box)} of `cells`"
            )
        scheme = self.model.spin.scheme
        if atype.min() < 0 or atype.max() >= scheme.ntypes:
            raise ValueError(
                f"`atom_types` must be indices of {self.type_map}. "
                f"Received: {sorted(set(atype.tolist()))}"
            )
        for name, array in (("coords", coord), ("spins", spin), ("cells", box)):
            if not np.isfinite(array).all():
                raise ValueError(f"`{name}` has values that are NaN or infinite.")
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
