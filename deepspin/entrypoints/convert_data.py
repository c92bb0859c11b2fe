# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-data``: systems in another layout, or in another kind of file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import add_data, add_force, add_spin, add_verb

if TYPE_CHECKING:
    from deepspin.data.layouts import Content
    from deepspin.data.systems import System
    from deepspin.survey.scheme import Survey

log = logging.getLogger(__name__)


def add_parser(verbs, common) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "convert-data",
        convert_data,
        "Write systems in another layout: spin files or virtual atoms, npy or HDF5.",
    )
    add_data(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder to write, or HDF5 file (.hdf5 or .h5)",
    )
    parser.add_argument(
        "--layout",
        choices=("spin-files", "virtual-atom", "same"),
        default="same",
        help="how to store the spins (default: same)",
    )
    add_spin(parser)
    add_force(parser)


def convert_data(
    *,
    systems: Sequence[str],
    output: str,
    layout: str = "same",
    force: bool = False,
    **spin: Any,
) -> list[str]:
    """Write systems with their spins stored the other way, as npy files or HDF5.

    Positions, cells and labels are copied bit for bit. Spins cannot be held exactly by
    positions of virtual atoms; what is lost is told, and kept in a file beside them
    that brings them back bit for bit, see `deepspin.data.layouts`. What is written is
    read again and compared before it takes its place.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    output : str
        Folder to write, or HDF5 file (``.hdf5``, ``.h5``) with a group for each system.
        Several systems keep their paths below the folder that they have in common.
    layout : {"same", "spin-files", "virtual-atom"}
        How to store spins.
    force : bool
        Replace the output if it is there.
    **spin
        How to read the spins, see `deepspin.survey.scheme.survey`; not needed for
        ``"same"``.

    Returns
    -------
    list of str
        The new systems.

    Raises
    ------
    DataError, InputError, OutputError
        The data cannot be read or stored that way; the output exists or holds the data.
    """
    from deepspin.data import layouts
    from deepspin.data.files import find_systems
    from deepspin.data.writing import (
        claim_systems,
        names_below,
        place_of,
        write_system,
    )
    from deepspin.survey.scheme import survey
    from deepspin.utils.outputs import replacing
    from deepspin.utils.refused import InputError

    paths, target = find_systems(systems), Path(output)
    names = names_below(paths, target)
    claim_systems(paths, target, force)
    given = [f"--{k.replace('_', '-')}" for k, v in spin.items() if v is not None]
    if layout == "same" and given:
        raise InputError(
            "Spins are only copied here, so how to read them has no effect: give "
            f"--layout too, or leave out {', '.join(given)}."
        )
    data = None if layout == "same" else survey(systems, **spin)
    if data is not None:
        data.report()
    worst = 0.0
    with replacing(target) as partial:
        for path, name in names.items():
            content, system = _content(path, layout, data)
            place = write_system(content, partial, name)
            if not layouts.is_same(content, place):
                raise RuntimeError(
                    f"'{path}' was not written right; nothing is kept. Try again."
                )
            if system is not None:
                more = layouts.difference(system, place, data.type_map, data.spin)
                worst = max(worst, more)
    written = [place_of(target, name) for name in names.values()]
    for path, place in zip(names, written, strict=True):
        log.info("%s -> %s", path, place)
    log.info("positions, cells and labels are the same bit for bit")
    if layout != "same":
        log.info("%s", _SPINS[layout, worst > 0].format(worst))
    return written


# how spins fared: layout, and whether spins that are read differ at all
_SPINS = {
    ("virtual-atom", False): "so are spins",
    (
        "virtual-atom",
        True,
    ): "spins, as the positions of virtual atoms hold them, differ "
    "by at most {:.1e} μ_B; spin_exact.npy keeps them, and convert-data brings them "
    "back bit for bit",
    ("spin-files", False): "so are spins",
    ("spin-files", True): "spins are those of spin_exact.npy bit for bit, from which "
    "the positions of virtual atoms differ by at most {:.1e} μ_B",
}


def _content(
    path: str, layout: str, data: Survey | None
) -> tuple[Content, System | None]:
    """What to write of a system, and the system if its spins are stored anew."""
    from deepspin.data import layouts
    from deepspin.data.systems import load_system

    if data is None:
        return layouts.copy(path), None
    system = load_system(path, data.type_map, data.spin, allow_zero_spin=True)
    if system.layout == layout:
        log.info("'%s' has this layout already and is copied", path)
        return layouts.copy(path), None
    return layouts.convert(system, layout, data.type_map, data.section), system
