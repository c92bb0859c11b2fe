# SPDX-License-Identifier: Apache-2.0
"""Formats that dpdata reads, with the spins that it knows.

dpdata's names are ``dpdata/FORMAT`` here, such as ``dpdata/vasp/outcar``. Its energies
are in eV, its virials in eV and of our sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.data.files import DataError
from deepspin.data.formats.frame import Dropped, Frame

PREFIX = "dpdata/"
# its names of arrays, and ours
NAMES = {
    "spins": "spin",
    "energies": "energy",
    "forces": "force",
    "force_mags": "force_mag",
    "virials": "virial",
}

_UNNAMED = re.compile(r"^type_(\d+)$", flags=re.I)


def read(path: Path, form: str) -> Iterator[Frame | Dropped]:
    """Read all frames.

    Parameters
    ----------
    path : Path
        File or folder.
    form : str
        dpdata's name of the format.

    Raises
    ------
    DataError, ImportError
        dpdata does not know the format or cannot read the file; there is no dpdata.
    """
    try:
        import dpdata
        from dpdata.format import Format
    except ImportError as error:
        raise ImportError(
            f"'{path}' is to be read by dpdata, which is not installed: pip install "
            "dpdata."
        ) from error
    known = sorted(Format.get_formats())
    if form not in known:
        raise DataError(
            f"dpdata has no format '{form}'. It has {', '.join(known)}: write one of "
            f"them behind {PREFIX}."
        )
    data = _load(dpdata, path, form).data
    names = [_UNNAMED.sub(_number, name) for name in data["atom_names"]]
    symbols = tuple(names[t] for t in data["atom_types"])
    for k, coord in enumerate(data["coords"]):
        yield Frame(
            f"frame {k} of '{path}'",
            symbols,
            np.asarray(coord, dtype=np.float64),
            None if data.get("nopbc") else np.asarray(data["cells"][k]),
            {ours: np.asarray(data[n][k]) for n, ours in NAMES.items() if n in data},
        )


def _number(found: re.Match) -> str:
    """What dpdata calls types without names, as LAMMPS numbers them."""
    return str(int(found[1]) + 1)


def _load(dpdata: Any, path: Path, form: str) -> Any:
    """What dpdata reads, with labels if the format has any."""
    errors: list[Exception] = []
    for kind in (dpdata.LabeledSystem, dpdata.System):
        try:
            return kind(str(path), fmt=form)
        except NotImplementedError as error:
            errors.append(error)
        except Exception as error:  # each format has its own
            errors = [error]
            break
    text = " ".join(str(errors[-1]).split()).rstrip(".") or "no reason given"
    raise DataError(
        f"dpdata cannot read '{path}' as {form}: {type(errors[-1]).__name__}: {text}. "
        "Correct the format, or write the file again."
    ) from errors[-1]
