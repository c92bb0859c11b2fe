# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model on a domain: a part of the atoms, among ghosts that they see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepspin.data import nlist
from deepspin.infer.batching import MEMORY, bytes_per_slot, widths_of
from deepspin.infer.deep_spin import DeepSpin, any_size
from deepspin.model.ener import SpinEnergyModel
from deepspin.op.library import errors_in_one_line


@dataclass(frozen=True)
class Share:
    """What the energies of a domain's atoms give.

    Parameters
    ----------
    energy : float
        Their sum in eV.
    force, force_mag : np.ndarray, shape (nall, 3)
        -d(energy)/dcoord in eV/Å and -d(energy)/dspin in eV/μ_B, of ghosts too: as if
        each moved alone. An atom's force is the sum over itself and all ghosts of it,
        in all domains.
    virial : np.ndarray, shape (3, 3)
        In eV, as `deepspin.keys.VIRIAL`; that of the system is the sum over domains.
    """

    energy: float
    force: np.ndarray
    force_mag: np.ndarray
    virial: np.ndarray


class Listed(nlist.Search):
    """Candidates that somebody else has sought.

    Parameters
    ----------
    start : np.ndarray of int64, shape (ncentres + 1,)
        Where the candidates of each centre begin in `partners`.
    partners : np.ndarray of int, shape (npairs,)
        Atoms that may be within the cutoff of a centre, itself among them.
    nall : int
        Number of atoms.
    cutoff : float
        Up to this distance (Å) all are there.
    """

    def __init__(
        self, start: np.ndarray, partners: np.ndarray, nall: int, cutoff: float
    ):
        super().__init__(skin=0.0)
        self.start, self.nall, self.cutoff = start, nall, cutoff
        self.table = np.zeros((len(partners), 4), dtype=np.int32)
        self.table[:, 0] = partners

    def within(
        self,
        cutoff: float,
        sites: np.ndarray,
        exists: np.ndarray,
        box: np.ndarray,
        periodic: np.ndarray,
    ) -> nlist.Candidates:
        """Candidates for pairs of sites within `cutoff`; sought if not listed."""
        if len(sites) != self.nall or cutoff > self.cutoff:
            return super().within(cutoff, sites, exists, box, periodic)
        return nlist.Candidates(
            sites, exists, box, periodic, cutoff, self.start, self.table, np.dtype("i1")
        )


class DomainPotential(DeepSpin):
    """A model that evaluates the atoms of a domain, see `DeepSpin`."""

    def eval_domain(
        self,
        coord: np.ndarray,
        spin: np.ndarray,
        atype: np.ndarray,
        near: Listed,
        fparam: Sequence[float] | np.ndarray | None = None,
    ) -> Share:
        """Energies of the first atoms, and what they pull at in all.

        Parameters
        ----------
        coord, spin : np.ndarray, shape (nall, 3)
            Positions (Å) and spins (μ_B; ignored on types without) of the domain's
            atoms, and then of all ghosts, images too, within the cutoff of one.
        atype : np.ndarray of int, shape (nall,)
            Types.
        near : Listed
            Who may be a neighbour of the domain's atoms.
        fparam : np.ndarray, shape (numb_fparam,), optional
            Frame parameters, for a model that takes some.

        Raises
        ------
        ValueError
            Atoms on top of each other.
        RuntimeError
            As `DeepSpin.eval`.
        """
        model, scheme = self.model, self.model.spin.scheme
        spin = np.where(self.is_magnetic(atype)[:, None], spin, 0.0)
        points, lists = scheme.points(coord, spin, atype)
        blocks = list(scheme.list_blocks)
        found = nlist.build(
            points,
            lists,
            len(near.start) - 1,
            np.zeros((3, 3)),
            False,
            self.rcut,
            len(blocks),
            [model.descriptor.sel[block] for block in blocks],
            owners=np.arange(len(points)) % len(coord),
            search=near,
        )
        if found.nearest == 0 and not model.descriptor.env_protection:
            raise ValueError(
                "Two atoms, or an atom and a virtual atom, are at the same place. "
                "Separate them."
            )
        energy, virial = 0.0, np.zeros((3, 3))
        force, force_mag = np.zeros((2, len(coord), 3))
        for begin, end in self._pieces(found):
            part = _cut(found, begin, end)
            inputs, order = _arranged(part, begin, coord, spin, atype, scheme.ntypes)
            if fparam is not None:
                inputs["fparam"] = np.reshape(np.asarray(fparam, dtype=float), (1, -1))
            with errors_in_one_line():
                outputs = self._domains(inputs)
            self._check_tables(outputs)
            energy += float(outputs["energy"][0])
            virial += outputs["virial"][0].numpy()
            force[order] += outputs["force"][0].numpy()
            force_mag[order] += outputs["force_mag"][0].numpy()
        return Share(energy, force, force_mag, virial)

    def _pieces(self, found: nlist.Neighbors) -> Iterator[tuple[int, int]]:
        """Begin and end of as many centres as memory allows at once."""
        ncentres = len(found.count)
        if ncentres == 0:
            return
        slots = sum(widths_of([found])) + 40.0  # as in `Shape.cost`
        most = max(1, int(MEMORY / bytes_per_slot(self.model) / slots))
        size = -(-ncentres // -(-ncentres // most))
        for begin in range(0, ncentres, size):
            yield begin, min(begin + size, ncentres)

    def _set_up(
        self, model: SpinEnergyModel, metadata: dict, jit_compile: bool
    ) -> None:
        super()._set_up(model, metadata, jit_compile)
        spec = any_size(self.model)
        ghosts = {name: spec[name] for name in ("coord", "spin", "mask")}
        self._domains = self._function(self.model, [{**spec, "ghosts": ghosts}])


def _cut(found: nlist.Neighbors, begin: int, end: int) -> nlist.Neighbors:
    """The lists of some of the centres."""
    first = np.concatenate([[0], np.cumsum(found.count.sum(axis=1))])
    pairs = slice(first[begin], first[end])
    return replace(
        found,
        count=np.ascontiguousarray(found.count[begin:end]),
        index=found.index[pairs],
        shift=found.shift[pairs],
    )


def _arranged(
    part: nlist.Neighbors,
    begin: int,
    coord: np.ndarray,
    spin: np.ndarray,
    atype: np.ndarray,
    ntypes: int,
) -> tuple[dict, np.ndarray]:
    """Inputs of a model for centres from `begin` on, and the atom of each of its rows.

    Centres come first, then those that they see and no others, both sorted by type.
    """
    nall, ncentres = len(coord), len(part.count)
    centres = np.arange(begin, begin + ncentres)
    seen = np.zeros(nall, dtype=bool)
    seen[part.index % nall] = True
    seen[centres] = False
    order, masks = [], []
    for atoms in (centres, np.flatnonzero(seen)):
        order.append(atoms[np.argsort(atype[atoms], kind="stable")])
        number = np.bincount(atype[atoms], minlength=ntypes)
        masks.append(tuple(np.ones((1, n), dtype=bool) for n in number))
    rows = np.concatenate(order)
    slot = np.full(nall, -1)
    slot[rows] = np.arange(len(rows))
    kinds = range(1 + int(part.index.max(initial=0)) // nall)
    lists, shifts = nlist.pad(
        [part],
        slot[None, centres],
        np.concatenate([slot + kind * len(rows) for kind in kinds])[None],
        ncentres,
        widths_of([part]),
    )
    (own, others), (mask, ghost_mask) = order, masks
    inputs = {
        "coord": coord[None, own],
        "spin": spin[None, own],
        "box": np.zeros((1, 3, 3)),
        "mask": mask,
        "nlist": lists,
        "shift": shifts,
        "ghosts": {
            "coord": coord[None, others],
            "spin": spin[None, others],
            "mask": ghost_mask,
        },
    }
    return inputs, rows
