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

from deepspin.data.files import DataError, Foreign, split_group
from deepspin.spins.codec import VirtualAtomCodec
from deepspin.utils import hdf5

SCHEME = "spin_scheme.json"


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
    words = read_words(path, SCHEME)
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
