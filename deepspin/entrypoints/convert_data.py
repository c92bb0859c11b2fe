# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-data``: systems in another layout, or in another kind of file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import h5py

from deepspin.survey import layout as layouts
from deepspin.survey.scheme import Survey, survey
from deepspin.utils.files import HDF5_SUFFIXES, find_systems
from deepspin.utils.outputs import OutputError, claim, replacing
from deepspin.utils.refused import InputError
from deepspin.utils.system import System, load_system

log = logging.getLogger(__name__)


def convert_data(
    *,
    systems: Sequence[str],
    output: str,
    layout: str = "same",
    force: bool = False,
    **spin,
) -> list[str]:
    """Write systems with their spins stored the other way, as npy files or HDF5.

    Positions, cells and labels are copied bit for bit. Spins cannot be held exactly by
    positions of virtual atoms; what is lost is told, and kept in a file beside them
    that brings them back bit for bit, see `deepspin.survey.layout`. What is written is
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
    paths, target = find_systems(systems), Path(output)
    names = _names(paths, target)
    _check_output(paths, target, force)
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
            place = _write(content, partial, name)
            if not layouts.is_same(content, place):
                raise RuntimeError(
                    f"'{path}' was not written right; nothing is kept. Try again."
                )
            if system is not None:
                more = layouts.difference(system, place, data.type_map, data.spin)
                worst = max(worst, more)
    written = [_place(target, name) for name in names.values()]
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


# --- Where ----------------------------------------------------------------------------


def _names(paths: list[str], target: Path) -> dict[str, str]:
    """Path of each system below the output."""
    places = {path: _spread(path) for path in paths}
    common = Path(os.path.commonpath(places.values()))
    if len(paths) == 1:
        alone = common.name if target.suffix in HDF5_SUFFIXES else "."
        return {paths[0]: alone}
    names = {path: str(place.relative_to(common)) for path, place in places.items()}
    for path, name in names.items():
        twin = next(p for p, n in names.items() if n == name)
        if twin != path:
            raise OutputError(
                f"'{twin}' and '{path}' would both be written as '{name}'. Convert "
                "them one by one."
            )
    return names


def _spread(path: str) -> Path:
    """Absolute path of a system, a group of an HDF5 file as if that were a folder."""
    if Path(path).is_dir():
        return Path(path).resolve()
    file, _, group = path.rpartition("#")
    return Path(file).resolve().with_suffix("") / group.strip("/")


def _check_output(paths: list[str], target: Path, force: bool) -> None:
    goal = target.resolve()
    for path in paths:
        file = Path(path if Path(path).is_dir() else path.rpartition("#")[0]).resolve()
        if file == goal or goal in file.parents or file in goal.parents:
            raise OutputError(
                f"'{target}' is, holds or lies in the data '{path}'. Choose another "
                "output."
            )
    claim(target, force=force, folder=target.suffix not in HDF5_SUFFIXES)
    strange = target.is_dir() and any(target.iterdir())
    if strange and next(target.rglob("type.raw"), None) is None:
        raise OutputError(
            f"'{target}' is a folder without systems, so it is not replaced. Choose "
            "another output, or remove it."
        )


def _place(target: Path, name: str) -> str:
    if target.suffix in HDF5_SUFFIXES:
        return f"{target}#{PurePosixPath('/') / name}"
    return str(target / name)


# --- What -----------------------------------------------------------------------------


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


def _write(content: layouts.Content, target: Path, name: str) -> str:
    """Write a system below `target`; returns how to read it."""
    if target.suffix in HDF5_SUFFIXES:
        with h5py.File(target, "a") as file:
            content.write_group(file.require_group(name))
    else:
        content.write_folder(target / name)
    return _place(target, name)
