# SPDX-License-Identifier: Apache-2.0
"""Calculations of frames that belong together: written with a list, and read back.

``manifest.json`` says which folder is whose: where each frame came from, in which order
its atoms are written, and where they were, so that another frame's output is noticed.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.cells import wrapped
from deepspin.data.files import DataError
from deepspin.data.formats import deltaspin
from deepspin.data.formats.frame import Dropped, Frame
from deepspin.data.labelling.abacus_input import Abacus
from deepspin.data.labelling.text import counted
from deepspin.data.labelling.vasp_input import Vasp
from deepspin.data.layouts import Content
from deepspin.data.writing import write_system
from deepspin.utils.outputs import replacing

log = logging.getLogger(__name__)

CODES: dict[str, type[Vasp] | type[Abacus]] = {"vasp": Vasp, "abacus": Abacus}
MANIFEST, VERSION = "manifest.json", 1
# an output is of a frame if no atom is farther than this from where it was (Å)
SAME_PLACE = 1e-3
_LABELS = ("energy", "force", "spin", "force_mag", "virial")


def export(frames: Sequence[Frame], code: str, template: Path, target: Path) -> None:
    """Write a calculation of each frame, all or none.

    Parameters
    ----------
    frames : sequence of Frame
        Periodic frames with spins.
    code : str
        One of `CODES`.
    template : Path
        Folder with what all calculations share.
    target : Path
        Folder to write: ``manifest.json`` and a folder for each frame.

    Raises
    ------
    DataError
        The template lacks something, or a frame has no spins or no cell.
    """
    writer = CODES[code](template)
    for frame in frames:
        _check(frame)
        writer.order(frame)
    rows = []
    with replacing(target) as partial:
        partial.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            name = f"frame.{number:04d}"
            (partial / name).mkdir()
            writer.write(frame, partial / name)
            rows.append(
                {
                    "folder": name,
                    "from": frame.place,
                    "order": writer.order(frame).tolist(),
                    "symbols": list(frame.symbols),
                    "cell": np.asarray(frame.cell).tolist(),
                    "coord": frame.coord.tolist(),
                    "spin": frame.arrays["spin"].tolist(),
                }
            )
        record = {"version": VERSION, "code": code, "frames": rows}
        text = json.dumps(record, indent=1) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")
    log.info("wrote %d calculations of %s to %s", len(rows), code, target)


def _check(frame: Frame) -> None:
    if frame.cell is None:
        raise DataError(
            f"{frame.place} is not periodic, and a calculation needs a cell. Give it "
            "one, with empty space around the atoms."
        )
    if np.linalg.det(frame.cell) < 0:
        raise DataError(
            f"{frame.place} has a left-handed cell, which codes refuse. Exchange two "
            "of its lattice vectors."
        )
    if "spin" not in frame.arrays or not np.any(frame.arrays["spin"]):
        raise DataError(
            f"{frame.place} has no spins, so there is nothing to constrain. Add them "
            "(initial_magmoms in an extended XYZ file, spin.npy in a system)."
        )


def collect(folder: Path, target: Path) -> dict[str, list[int]]:
    """Read calculations back, and write them as systems.

    Parameters
    ----------
    folder : Path
        What `export` wrote, with outputs in the folders of the frames.
    target : Path
        Folder or HDF5 file to write: a system for each composition, atoms in the
        order of the frames.

    Returns
    -------
    dict
        Numbers of the frames that are ``read``, ``missing`` or ``left out``.

    Raises
    ------
    DataError
        There is no manifest, an output is not of its frame, or none can be read.
    """
    record = read_manifest(folder)
    code = CODES[record["code"]]
    rows = record["frames"]
    told: dict[str, list[int]] = {"read": [], "missing": [], "left out": []}
    reasons: Counter[str] = Counter()
    found = []
    if record["code"] == "vasp":
        deltaspin.check_alike([folder / row["folder"] for row in rows])
    for number, row in enumerate(rows):
        place = folder / row["folder"]
        if not code.matches(place):
            told["missing"].append(number)
            continue
        frame = _of(row, list(code.read(place)), place)
        if isinstance(frame, Dropped):
            told["left out"].append(number)
            reasons[frame.reason] += 1
        else:
            told["read"].append(number)
            found.append(frame)
    _tell(rows, told, reasons)
    if not found:
        raise DataError(
            f"none of the {len(rows)} calculations in '{folder}' can be read: "
            f"{len(told['missing'])} have no output yet, {len(told['left out'])} are "
            "left out. Calculate them in their folders."
        )
    _write(found, target)
    return told


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the list of calculations of a folder.

    Raises
    ------
    DataError
        There is none, or it is of another version.
    """
    file = folder / MANIFEST
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        known = record["version"] == VERSION and record["code"] in CODES
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError(
            f"'{file}' is no list of calculations of this version. Give the folder "
            "that dp-spin export-dft wrote."
        )
    return record


def _of(
    row: dict[str, Any], items: Sequence[Frame | Dropped], place: Path
) -> Frame | Dropped:
    """The step of an output that is of the frame, its atoms in the frame's order."""
    order = np.array(row["order"])
    coord, cell = np.array(row["coord"])[order], np.array(row["cell"])
    symbols = [row["symbols"][k] for k in order]
    apart = None
    for item in items:
        if isinstance(item, Dropped):
            continue
        apart = item
        if list(item.symbols) != symbols or item.cell is None:
            continue
        move = wrapped((item.coord - coord)[None], cell[None])
        if max(np.abs(move).max(), np.abs(item.cell - cell).max()) < SAME_PLACE:
            back = np.argsort(order)
            arrays = {
                name: values[back] if np.shape(values)[:1] == order.shape else values
                for name, values in item.arrays.items()
                if name != "virial"
            }
            arrays |= {n: v for n, v in item.arrays.items() if n == "virial"}
            names = tuple(row["symbols"])
            return Frame(item.place, names, item.coord[back], item.cell, arrays)
    if apart is not None:
        raise DataError(
            f"{apart.place} is not of {row['from']}, whose calculation '{place}' is: "
            "atoms, positions or cell differ. Put outputs into the folders of their "
            "frames."
        )
    dropped = [item for item in items if isinstance(item, Dropped)]
    return dropped[-1] if dropped else Dropped(str(place), "it has no ionic step")


def _tell(
    rows: Sequence[dict], told: dict[str, list[int]], reasons: Counter[str]
) -> None:
    if told["missing"]:
        names = ", ".join(rows[k]["folder"] for k in told["missing"])
        log.warning("no output yet of %d frames: %s", len(told["missing"]), names)
    for reason, count in reasons.items():
        log.warning("%d frames are left out: %s", count, reason)


def _write(frames: Sequence[Frame], target: Path) -> None:
    """Write frames as systems of the same atoms and labels."""
    groups: dict[tuple, list[Frame]] = {}
    for frame in frames:
        labels = tuple(name for name in _LABELS if name in frame.arrays)
        groups.setdefault((frame.symbols, labels), []).append(frame)
    names = list(dict.fromkeys(s for symbols, _ in groups for s in symbols))
    used: Counter[str] = Counter()
    with replacing(target) as partial:
        for (symbols, labels), group in groups.items():
            formula = "".join(f"{s}{n}" for s, n in counted(symbols).items())
            used[formula] += 1
            name = formula if used[formula] == 1 else f"{formula}.{used[formula]}"
            arrays = {
                "coord": _flat([frame.coord for frame in group]),
                "box": _flat([np.asarray(frame.cell) for frame in group]),
                **{n: _flat([f.arrays[n] for f in group]) for n in labels},
            }
            arrays["energy"] = arrays["energy"].ravel()
            types = np.array([names.index(symbol) for symbol in symbols])
            words = {"type_map.raw": names}
            content = Content(types, words, {"set.000": arrays}, nopbc=False)
            write_system(content, partial, name)
    log.info("wrote %d frames to %s", len(frames), target)


def _flat(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(values).reshape(len(values), -1)
