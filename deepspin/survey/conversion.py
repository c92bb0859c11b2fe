# SPDX-License-Identifier: Apache-2.0
"""Systems written anew, with their spins stored as they are or the other way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from deepspin.data import exchange, layouts
from deepspin.data.formats.frame import Frame
from deepspin.data.frames import System
from deepspin.data.notes import Notes
from deepspin.data.systems import load_system
from deepspin.data.writing import OF_FRAMES, place_of, write_system
from deepspin.spins.types import spin_name
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
    names: dict[str, str],
    target: Path,
    layout: str,
    data: Survey | None,
    kind: str = "npy",
) -> list[str]:
    """Write systems, all or none; each is read again and compared.

    Parameters
    ----------
    names : dict of str to str
        Paths of the systems, and what they are called below `target`.
    target : Path
        Folder, or file.
    layout : {"same", "spin-files", "virtual-atom"}
        How to store spins.
    data : Survey, optional
        How to read them; not needed for ``"same"``.
    kind : str
        What to write, see `deepspin.data.writing.KINDS`.

    Returns
    -------
    list of str
        The new systems.

    Raises
    ------
    DataError
        A file of this kind cannot hold them.
    RuntimeError
        What was written is not what was to be written.
    """
    if kind in OF_FRAMES:
        return _convert_frames(list(names), target, layout, data, kind)
    worst, written, converted = 0.0, [], False
    with replacing(target) as partial, Notes() as notes:
        for path, name, content, system in _contents(names, layout, data, kind, notes):
            place = write_system(content, partial, name, kind)
            if not layouts.is_same(content, place, values=kind == "raw"):
                raise _wrong(path)
            if system is not None and data is not None and kind != "mixed":
                codec = data.spin.codec
                more = layouts.difference(system, place, data.type_map, codec)
                worst, converted = max(worst, more), True
            written.append(place_of(target, name))
    if kind == "mixed":
        number = f"{len(names)} systems"
        log.info("%s, as mixed types -> %s", number, ", ".join(written))
    else:
        for path, place in zip(names, written, strict=True):
            log.info("%s -> %s", path, place)
    log.info("positions, cells and labels are the same bit for bit")
    if data is not None and layout == "virtual-atom" and converted:
        owners = [data.type_map[t] for t in data.spin.types.spin_types]
        others = [name for name in data.type_map if name not in owners]
        log.info(
            "type_map.raw names virtual atoms, too: DeePMD-kit trains with it if "
            "`model/type_map` is %s, with the types that have a spin first in "
            "`use_spin` and `sel`; deepspin takes that as well",
            json.dumps([*owners, *others, *map(spin_name, owners)]),
        )
    if layout != "same":
        log.info("%s", SPINS[layout, worst > 0].format(worst))
    return written


def _contents(
    names: dict[str, str], layout: str, data: Survey | None, kind: str, notes: Notes
) -> Iterator[tuple[str, str, layouts.Content, System | None]]:
    """What to write: of which system, called what, and how it is read if known."""
    if kind == "mixed":
        found = {
            path: _held(path, _content(path, layout, data, notes)[0], kind)
            for path in names
        }
        for name, content in exchange.mix(found).items():
            yield name, name, content, None
        return
    for path, name in names.items():
        content, system = _content(path, layout, data, notes)
        yield path, name, _held(path, content, kind), system


def _held(path: str, content: layouts.Content, kind: str) -> layouts.Content:
    """What a kind of file can hold of a system; the rest is told."""
    lost = exchange.lost(content, kind)
    if lost:
        log.warning(
            "'%s': %s has no place for %s, which is left out",
            *(path, kind, ", ".join(lost)),
        )
    return exchange.without(content, lost)


def _wrong(path: str) -> RuntimeError:
    return RuntimeError(f"'{path}' was not written right; nothing is kept. Try again.")


def _convert_frames(
    paths: list[str], target: Path, layout: str, data: Survey | None, kind: str
) -> list[str]:
    """Write the frames of all systems to one file."""
    prints: list[tuple[str, str]] = []

    def frames() -> Iterator[Frame]:
        for path in paths:
            content, _ = _content(path, layout, data, notes, quiet=True)
            type_map = [] if data is None else data.type_map
            held = _held(path, content, kind)
            for frame in exchange.frames_of(path, held, type_map):
                prints.append((path, exchange.fingerprint(frame)))
                yield frame

    with replacing(target) as partial, Notes() as notes:
        exchange.write_frames(partial, kind, frames())
        written = map(exchange.fingerprint, exchange.read_frames(partial, kind))
        for (path, wanted), found in zip_longest(prints, written, fillvalue=("", "")):
            if wanted != found:
                raise _wrong(path or paths[-1])
    number = len(prints)
    log.info("%d frames of %d systems -> %s", number, len(paths), target)
    log.info("positions, cells, spins and labels are the same bit for bit")
    return [str(target)]


def _content(
    path: str, layout: str, data: Survey | None, notes: Notes, *, quiet: bool = False
) -> tuple[layouts.Content, System | None]:
    """What to write of a system, and the system if its spins are stored anew."""
    if data is None:
        return layouts.copy(path), None
    system = load_system(path, data.type_map, data.spin, True, notes=notes)
    if system.layout == layout:
        if not quiet:
            log.info("'%s' has this layout already and is copied", path)
        return layouts.copy(path), None
    return layouts.convert(system, layout, data.type_map, data.section), system
