# SPDX-License-Identifier: Apache-2.0
"""Some frames of a system, as its files hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepspin.data.files import FIELDS
from deepspin.data.layouts import Content, copy


def extract(
    path: str, frames: Sequence[int] | np.ndarray, places: Sequence[tuple]
) -> Content:
    """Take frames of a system bit for bit, in its own layout.

    Parameters
    ----------
    path : str
        Folder, or ``file.hdf5#/group``.
    frames : sequence of int
        Frames to take, counted through all sets, ascending.
    places : sequence of (str, int)
        Path and number of frames of each set, see `deepspin.data.systems.System`.

    Returns
    -------
    Content
        What to write; sets without any of the frames are left out, and so are arrays
        that have no row for each frame.
    """
    whole, chosen, sets, begin = copy(path), np.asarray(frames), {}, 0
    for (name, arrays), (_, count) in zip(whole.sets.items(), places, strict=True):
        rows = chosen[(begin <= chosen) & (chosen < begin + count)] - begin
        begin += count
        if rows.size:
            sets[name] = {
                key: np.reshape(array, (count, -1))[rows]
                for key, array in arrays.items()
                if key in FIELDS or len(array) == count
            }
    return Content(whole.types, whole.words, sets, whole.nopbc)
