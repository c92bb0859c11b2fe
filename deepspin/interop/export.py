# SPDX-License-Identifier: Apache-2.0
"""Models written for DeePMD-kit and LAMMPS, and what their users have to know."""

from __future__ import annotations

import logging
from pathlib import Path

from deepspin.interop.dpmodel import write_dpmodel
from deepspin.interop.files import GRAPH
from deepspin.interop.graph import write_graph
from deepspin.interop.script import SpinTypesFirst
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.reach import longest_spins, reach

log = logging.getLogger(__name__)


def export(
    model: SpinEnergyModel,
    metadata: dict,
    source: Path,
    output: str,
    *,
    fold_atom_virial: bool,
    pad_lammps_cutoff: bool,
) -> None:
    """Write a model in the form that the ending of the output asks for.

    Parameters
    ----------
    model : SpinEnergyModel
        The model.
    metadata : dict
        Metadata of its file.
    source : Path
        The file.
    output : str
        File to write.
    fold_atom_virial, pad_lammps_cutoff : bool
        See `deepspin.interop.graph.write_graph`; without effect on other forms.
    """
    if Path(output).suffix != GRAPH:
        write_dpmodel(model, output, metadata)
        log.info("%s: %s written into %s", source, " ".join(model.type_map), output)
        return
    options = {
        "fold_atom_virial": fold_atom_virial,
        "pad_lammps_cutoff": pad_lammps_cutoff,
    }
    order = write_graph(model, output, metadata, **options)
    names = " ".join(order.type_map)
    log.info("%s: %s frozen into %s for DeePMD-kit and LAMMPS", source, names, output)
    _tell_order(order)
    _tell_cutoff(model, metadata, pad_lammps_cutoff)
    if model.compressed:
        return
    if any(options.values()):
        log.info(
            "`dp compress` would undo the options: `dp-spin compress` first, then write"
        )
    if "min_nbor_dist" not in metadata:
        log.info("`dp compress` will need -t: how near atoms come is not known")


def _tell_order(order: SpinTypesFirst) -> None:
    """Tell which numbers types have there."""
    if order.changed:
        pairs = enumerate(zip(order.type_map, order.types, strict=True))
        log.info(
            "types with spin must be the first ones there; numbers of types: %s",
            ", ".join(f"{name} {old} -> {new}" for new, (name, old) in pairs),
        )


def _tell_cutoff(model: SpinEnergyModel, metadata: dict, padded: bool) -> None:
    """Tell what LAMMPS' lists have to hold."""
    known = metadata.get("spin_range") or {}
    spins = ", ".join(
        f"{name} {longest:.2f} μ_B{'' if name in known else ' (assumed)'}"
        for name, longest in longest_spins(model, metadata).items()
    )
    rcut, skin = model.descriptor.rcut, reach(model, metadata)
    if padded:
        log.info(
            "cutoff announced to LAMMPS: %.2f Å instead of %.2f, for spins up to %s",
            rcut + skin,
            rcut,
            spins,
        )
        return
    log.info(
        "for LAMMPS use --pad-lammps-cutoff; without it lists must be made in every "
        "step (neigh_modify every 1 delay 0 check no), with a skin of %.2f Å or more "
        "for spins up to %s, or virtual atoms are missed without a word",
        skin,
        spins,
    )
