# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-to``: write a model for other programs."""

from __future__ import annotations

import logging
from pathlib import Path

from deepspin.env import start_tensorflow
from deepspin.interop.files import DEEPMD_SUFFIXES, is_deepmd
from deepspin.modelfiles.find import read_config, read_metadata, resolve_checkpoint
from deepspin.utils.outputs import OutputError, claim
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# ending of what DeePMD-kit's TensorFlow backend freezes
GRAPH = ".pb"


def convert_to(
    *,
    target: str,
    checkpoint: str,
    output: str,
    fold_atom_virial: bool = False,
    pad_lammps_cutoff: bool = False,
    force: bool = False,
) -> None:
    """Write a model in a form that DeePMD-kit reads, and with it LAMMPS.

    Parameters
    ----------
    target : str
        ``"deepmd"``.
    checkpoint : str
        Model file, prefix of checkpoints, or a folder with the file ``checkpoint``.
    output : str
        File to write; its ending, ``.pb``, ``.dp``, ``.yaml`` or ``.yml``, says what.
    fold_atom_virial, pad_lammps_cutoff : bool
        See `deepspin.interop.graph.write_graph`.
    force : bool
        Whether it may replace what is there.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        There is no such model, it cannot be said in that form, or the output exists or
        cannot be written.
    """
    if target != "deepmd":
        raise InputError(f"Models are written for 'deepmd'. Received: '{target}'")
    if Path(output).suffix not in DEEPMD_SUFFIXES:
        raise OutputError(
            "DeePMD-kit tells by the ending what a file is: "
            f"{', '.join(DEEPMD_SUFFIXES)}. Received: '{output}'"
        )
    options = {
        "fold_atom_virial": fold_atom_virial,
        "pad_lammps_cutoff": pad_lammps_cutoff,
    }
    check_options(output, **options)
    source = resolve_checkpoint(checkpoint)
    read_metadata(source)  # damaged or too new, before TensorFlow starts
    if not is_deepmd(source):
        read_config(source)
    if Path(output).resolve() == source.resolve():
        raise OutputError(f"'{output}' is the model itself. Choose another output.")
    claim(output, force=force)
    start_tensorflow()
    from deepspin.interop.dpmodel import write_dpmodel
    from deepspin.interop.graph import write_graph
    from deepspin.modelfiles.archive import load_with_metadata

    model, metadata = load_with_metadata(source)
    if Path(output).suffix != GRAPH:
        write_dpmodel(model, output, metadata)
        log.info("%s: %s written into %s", source, " ".join(model.type_map), output)
        return
    order = write_graph(model, output, metadata, **options)
    names = " ".join(order.type_map)
    log.info("%s: %s frozen into %s for DeePMD-kit and LAMMPS", source, names, output)
    if order.changed:
        pairs = enumerate(zip(order.type_map, order.types, strict=True))
        log.info(
            "types with spin must be the first ones there; numbers of types: %s",
            ", ".join(f"{name} {old} -> {new}" for new, (name, old) in pairs),
        )
    _tell_cutoff(model, metadata, pad_lammps_cutoff)
    if model.compressed:
        return
    if any(options.values()):
        log.info(
            "`dp compress` would undo the options: `dp-spin compress` first, then write"
        )
    if "min_nbor_dist" not in metadata:
        log.info("`dp compress` will need -t: how near atoms come is not known")


def _tell_cutoff(model, metadata: dict, padded: bool) -> None:
    """Tell what LAMMPS' lists have to hold."""
    from deepspin.model.reach import longest_spins, reach

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


def check_options(output: str, **options: bool) -> None:
    """Refuse options that would have no effect on an output."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given and Path(output).suffix != GRAPH:
        raise InputError(
            f"{', '.join(given)} changes {GRAPH} files only. Give -o such a name, or "
            "leave it out."
        )
