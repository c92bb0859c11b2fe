# SPDX-License-Identifier: Apache-2.0
"""Evaluate models with DeePMD-kit's DeepPot; run by the Python of its environment.

    python deep_pot.py jobs.json

A job is a list: model, npz file of frames, npz file to write. Frames hold `coord` and
`spin` (nf, nloc, 3), `name` (nloc,), `scale` (nloc,), which is virtual_len / spin_norm
or 0, `box` (nf, 3, 3) if periodic, and `fparam` (nf, n) if the model wants it. Written
are energy, atom_ener, force, force_mag, virial and atom_virial, the latter also for
atoms and virtual atoms apart: `real_virial` and `virtual_virial`, (nf, nloc, 3, 3).
"""

import json
import sys
from pathlib import Path

import numpy as np
from deepmd.infer import DeepPot


def evaluate(pot, frames):
    names = list(pot.get_type_map())
    atype = np.array([names.index(name) for name in frames["name"]])
    owner = np.flatnonzero(frames["scale"])
    coord, spin = frames["coord"], frames["spin"]
    nf, nloc = coord.shape[:2]
    virtual = coord[:, owner] + frames["scale"][owner, None] * spin[:, owner]
    energy, force, virial, atom_ener, atom_virial = pot.eval(
        np.concatenate([coord, virtual], axis=1).reshape(nf, -1),
        frames["box"].reshape(nf, 9) if "box" in frames else None,
        np.concatenate([atype, atype[owner] + len(names)]),
        atomic=True,
        fparam=frames.get("fparam"),
    )

    def of_virtual(values):
        result = np.zeros((nf, nloc, *values.shape[2:]))
        result[:, owner] = values[:, nloc:]
        return result

    atom_virial = atom_virial.reshape(nf, -1, 3, 3)
    real, virtual = atom_virial[:, :nloc], of_virtual(atom_virial)
    return {
        "energy": energy.reshape(nf),
        "atom_ener": atom_ener.reshape(nf, nloc),
        "force": force[:, :nloc],
        "force_mag": of_virtual(force),
        "virial": virial.reshape(nf, 3, 3),
        "atom_virial": real + virtual,
        "real_virial": real,
        "virtual_virial": virtual,
    }


for model, given, output in json.loads(Path(sys.argv[1]).read_text()):
    with np.load(given) as file:
        np.savez(output, **evaluate(DeepPot(model), dict(file)))
