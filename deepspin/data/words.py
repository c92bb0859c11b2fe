# SPDX-License-Identifier: Apache-2.0
"""Words that lie beside the frames of a system: names, and what spins were placed with.

``spin_scheme.json`` holds ``type_map`` and the options of ``model/spin`` that virtual
atoms were placed with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.files import SCHEME, DataError, Foreign, split_group
from deepspin.spins.codec import VirtualAtomCodec
from deepspin.spins.types import full_names, split_names
from deepspin.utils import hdf5


def read_words(path: str, file: str) -> list[str] | None:
    """Lines of a text file of a system, None if there is none.

    Parameters
    ----------
    path : str
        Folder, ``file.hdf5#/group``, or `Foreign`.
    file : str
        Name of the file, such as ``type_map.raw``.
    """
    if isinstance(path, Foreign):
        return path.content().head.get(file)
    if Path(path).is_dir():
        words = Path(path) / file
        return words.read_text("utf-8").splitlines() if words.is_file() else None
    name, group = split_group(path)
    with hdf5.reading(name) as opened:
        found = opened[group].get(file)
        if found is None:
            return None
        lines = np.atleast_1d(found[()])
    return [w.decode() if isinstance(w, bytes) else str(w) for w in lines]


def read_scheme(path: str) -> dict[str, Any] | None:
    """How the virtual atoms of a system were placed, if `convert` did it.

    Parameters
    ----------
    path : str
        Folder, or ``file.hdf5#/group``.

    Returns
    -------
    dict or None
        ``type_map`` and the options of ``model/spin``.
    """
    return scheme_of(read_words(path, SCHEME), path)


def scheme_of(words: list[str] | None, path: str) -> dict[str, Any] | None:
    """The same from the lines of the file of a system; None without."""
    try:
        scheme = None if words is None else json.loads("".join(words))
        if scheme is not None:
            options = {k: v for k, v in scheme.items() if k != "type_map"}
            VirtualAtomCodec.from_options(**options)
            list(scheme["type_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{SCHEME} of '{path}' is damaged: {error}. Remove it; it only says what "
            "the virtual atoms were placed with."
        ) from error
    return scheme


def type_names(
    named: list[str] | None, scheme: dict[str, Any] | None, path: str
) -> list[str] | None:
    """What the numbers in ``type.raw`` mean, virtual atoms included where known.

    Parameters
    ----------
    named : list of str or None
        Content of ``type_map.raw``.
    scheme : dict or None
        Content of ``spin_scheme.json``.
    path : str
        The system.

    Returns
    -------
    list of str or None
        Names, those of virtual atoms as ``Ni_spin``; None if nothing tells.

    Raises
    ------
    DataError
        The two files contradict each other.
    """
    if scheme is None:
        return named
    real = scheme["type_map"]
    virtual = full_names(real, scheme["use_spin"])[len(real) :]
    if named is None:
        return [*real, *virtual]
    own, placed = split_names(named)
    both = slice(min(len(own), len(real)))
    if own[both] != real[both] or (placed and [*placed] != virtual):
        raise DataError(
            f"type_map.raw of '{path}' names its types {' '.join(named)}, but its "
            f"{SCHEME} numbers {' '.join([*real, *virtual])}. Correct one of the two."
        )
    return [*named, *([] if placed else virtual)]
