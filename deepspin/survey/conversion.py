# SPDX-License-Identifier: Apache-2.0
"""Systems written anew, with their spins stored as they are or the other way."""

from __future__ import annotations

import logging
from pathlib import Path

from deepspin.data import layouts
from deepspin.data.frames import System
from deepspin.data.systems import load_system
from deepspin.data.writing import place_of, write_system
from deepspin.survey.scheme import Survey
from deepspin.utils.outputs import replacing

log = logging.getLogger(__name__)

# how spins fared: layout, and whether spins that are read differ at all
SPINS = {
    ("virtual-atom", False): "so are spins",
    ("virtual-atom", True): "spins, as the positions of virtual atoms hold them, "
    "differ by at most {:.1e} μ_B; spin_exact.npy keeps them, and convert-data brings "
    "them back bit for bit",
    ("spin-files", False): "so are spins",
    ("spin-files", True): "spins are those of spin_exact.npy bit for bit, from which "
    "the positions of virtual atoms differ by at most {:.1e} μ_B",
}


def convert_systems(
    names: dict[str, str], target: Path, layout: str, data: Survey | None
) -> list[str]:
    """Write systems, all or none; each is read again and compared.

    Parameters
    ----------
    names : dict of str to str
        Paths of the systems, and what they are called below `target`.
    target : Path
        Folder, or HDF5 file.
    layout : {"same", "spin-files", "virtual-atom"}
        How to store spins.
    data : Survey, optional
        How to read them; not needed for ``"same"``.

    Returns
    -------
    list of str
        The new systems.

    Raises
    ------
    RuntimeError
        What was written is not what was to be written.
    """
    worst = 0.0
    with replacing(target) as partial:
        for path, name in names.items():
            content, system = _content(path, layout, data)
            place = write_system(content, partial, name)
            if not layouts.is_same(content, place):
                raise RuntimeError(
                    f"'{path}' was not written right; nothing is kept. Try again."
                )
            if system is not None and data is not None:
                codec = data.spin.codec
                more = layouts.difference(system, place, data.type_map, codec)
                worst = max(worst, more)
    written = [place_of(target, name) for name in names.values()]
    for path, place in zip(names, written, strict=True):
        log.info("%s -> %s", path, place)
    log.info("positions, cells and labels are the same bit for bit")
    if layout != "same":
        log.info("%s", SPINS[layout, worst > 0].format(worst))
    return written


def _content(
    path: str, layout: str, data: Survey | None
) -> tuple[layouts.Content, System | None]:
    """What to write of a system, and the system if its spins are stored anew."""
    if data is None:
        return layouts.copy(path), None
    system = load_system(path, data.type_map, data.spin, allow_zero_spin=True)
    if system.layout == layout:
        log.info("'%s' has this layout already and is copied", path)
        return layouts.copy(path), None
    return layouts.convert(system, layout, data.type_map, data.section), system
